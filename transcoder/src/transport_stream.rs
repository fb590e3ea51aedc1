//! Writes MPEG-2 transport streams, the container of HLS before fragmented MP4: what television sets, set-top boxes
//! and old phones play.
//!
//! A segment is made of the samples of one track, as they are in fragmented MP4:
//!
//! ```text
//! PAT PMT  key frame ───────────────  frame  frame …  PAT PMT  key frame ─────────────── …
//!          PCR, random access, AUD SPS PPS IDR                 ▲─── its range ─────────▲
//! ```
//!
//! Packets, tables and clocks are those of ISO/IEC 13818-1 (ITU-T H.222.0, free to read); how H.264 is carried in
//! them is its §2.14; [RFC 8216 §3.2] says what HLS wants of them: one programme, and both tables first in every
//! segment. They are repeated before every key frame, as ffmpeg does, so that playing can begin at any of them.
//!
//! The bytes of an I-frame for an I-frame playlist begin *after* its tables: a range "MUST NOT include its Media
//! Initialization Section", which the player takes from `EXT-X-MAP` or from the start of the resource
//! ([RFC 8216 §4.3.3.6]; Apple's own examples begin at 376, after two packets). hls.js does the latter. Whoever wants
//! an I-frame that is playable by itself takes it [`with_tables`], or writes a segment of that one sample.
//!
//! Written by hand because the crate `mpeg2ts` writes single packets from fields: tables without numbers of their
//! own, clocks, stuffing, and cutting access units into packets, which are all that is to it, it leaves to its user.
//!
//! [RFC 8216 §3.2]: https://www.rfc-editor.org/rfc/rfc8216#section-3.2
//! [RFC 8216 §4.3.3.6]: https://www.rfc-editor.org/rfc/rfc8216#section-4.3.3.6

use std::ops::Range;

use mp4_atom::Avcc;

/// Ticks a second of every time in here.
pub const TIMESCALE: u64 = 90_000;

/// What the time 0 of the presentation is in a stream, in ticks: 10 s, as in Apple's streams, so that what is
/// decoded before anything is shown has a time too. Captions of such a presentation say
/// `X-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00:00.000`.
pub const ZERO: u64 = 10 * TIMESCALE;

/// Length in bytes of the tables a segment begins with, which are its Media Initialization Section: a range for
/// `EXT-X-MAP`, from the segment's start.
pub const TABLES: usize = 2 * PACKET;

/// By how much a sample arrives before it is decoded, in ticks, by the stream's clock: what ffmpeg allows too.
const LEAD: u64 = 7 * TIMESCALE / 10;

/// The longest time between two readings of the clock (ISO/IEC 13818-1 §2.7.2), in ticks.
const CLOCK_INTERVAL: u64 = TIMESCALE / 10;

/// No sample of a video lasts or waits as long, in ticks.
const TOO_LONG: u64 = 60 * TIMESCALE;

/// Times and clocks have 33 bits, and begin again after 26.5 hours.
const TIME_MASK: u64 = (1 << 33) - 1;

const PACKET: usize = 188;
const PACKET_HEADER: usize = 4;

const PAT_PID: u16 = 0;
const PMT_PID: u16 = 0x1000;
/// Of the one track, and of the clock.
const TRACK_PID: u16 = 0x100;

const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// Begins an access unit, of slices of any type.
const ACCESS_UNIT_DELIMITER: [u8; 2] = [9, 0xf0];
const ADTS_HEADER: usize = 7;
/// What 13 bits can say.
const LONGEST_ADTS_FRAME: usize = (1 << 13) - 1;
/// Bytes of a PES packet that its 16 bits of length do not count.
const PES_PREFIX: usize = 6;

/// A sample of a track, as it lies in MP4.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample<'a> {
    /// H.264: NAL units, each after its length. AAC: one frame.
    pub data: &'a [u8],
    /// When it is decoded, in ticks of 90 kHz.
    pub decode: u64,
    /// When it is shown or heard, in ticks of 90 kHz: not before it is decoded.
    pub present: u64,
    /// Whether it can be decoded without any other.
    pub is_key: bool,
}

/// What a track is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Codec {
    /// H.264.
    Avc {
        /// Bytes of the length before each NAL unit: 1, 2 or 4.
        length_size: u8,
        /// Sequence parameter sets.
        sps: Vec<Vec<u8>>,
        /// Picture parameter sets.
        pps: Vec<Vec<u8>>,
    },
    /// AAC.
    Aac {
        /// MPEG-4 audio object type: 1 to 4; or 5 or 29, where AAC LC lies beneath what is added to it.
        object_type: u8,
        /// Index of the sampling frequency: 0 to 12.
        sampling_index: u8,
        /// Channel configuration: 1 to 7.
        channels: u8,
    },
}

impl TryFrom<&mp4_atom::Codec> for Codec {
    type Error = Error;

    fn try_from(codec: &mp4_atom::Codec) -> Result<Self, Error> {
        let avc = |avcc: &Avcc| Self::Avc {
            length_size: avcc.length_size,
            sps: avcc.sequence_parameter_sets.clone(),
            pps: avcc.picture_parameter_sets.clone(),
        };
        match codec {
            mp4_atom::Codec::Avc1(avc1) => Ok(avc(&avc1.avcc)),
            mp4_atom::Codec::Avc3(avc3) => Ok(avc(&avc3.avcc)),
            mp4_atom::Codec::Mp4a(mp4a) => {
                let config = &mp4a.esds.es_desc.dec_config;
                let specific = config.dec_specific.as_ref();
                let specific = specific.filter(|_| config.object_type_indication == MPEG_4_AUDIO);
                let specific = specific.ok_or(Error::Codec("sound that is not MPEG-4 AAC"))?;
                Ok(Self::Aac {
                    object_type: specific.profile,
                    sampling_index: specific.freq_index,
                    channels: specific.chan_conf,
                })
            }
            _ => Err(Error::Codec("neither H.264 nor AAC")),
        }
    }
}

/// The object type indication of MPEG-4 audio.
const MPEG_4_AUDIO: u8 = 0x40;

impl Codec {
    fn check(&self) -> Result<(), Error> {
        match self {
            Self::Avc { length_size, .. } if !matches!(length_size, 1 | 2 | 4) => {
                Err(Error::Codec("H.264 whose NAL units have lengths of 3 bytes, or of more than 4"))
            }
            Self::Avc { sps, pps, .. } if !(is_useful(sps) && is_useful(pps)) => {
                Err(Error::Codec("H.264 without parameter sets beside its samples"))
            }
            Self::Aac { object_type, .. } if !matches!(object_type, 1..=5 | 29) => {
                Err(Error::Codec("AAC of an object type that ADTS cannot name"))
            }
            Self::Aac { sampling_index: 13.., .. } => {
                Err(Error::Codec("AAC of a sampling frequency that ADTS cannot name"))
            }
            Self::Aac { channels: 0 | 8.., .. } => {
                Err(Error::Codec("AAC of a channel configuration that ADTS cannot name"))
            }
            _ => Ok(()),
        }
    }

    /// The stream type of the programme map, and the stream id of PES packets.
    fn types(&self) -> (u8, u8) {
        match self {
            Self::Avc { .. } => (0x1b, 0xe0),
            Self::Aac { .. } => (0x0f, 0xc0),
        }
    }
}

fn is_useful(sets: &[Vec<u8>]) -> bool {
    !sets.is_empty() && sets.iter().all(|set| !set.is_empty())
}

/// The bytes of a key frame, and the tables before it: a stream of its own.
#[must_use]
pub fn with_tables(key_frame: Range<usize>) -> Range<usize> {
    key_frame.start - TABLES..key_frame.end
}

/// Writes the segments of one track, one after the other: packets are counted through all of them.
#[derive(Clone, Debug)]
pub struct Writer {
    codec: Codec,
    delay: u64,
    counters: Counters,
    /// How long the last sample lasted, in ticks: only the next one tells.
    duration: u64,
}

/// The next continuity counter of every stream. Both tables are always written together.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    tables: u8,
    track: u8,
}

impl Writer {
    /// For a track whose first `delay` ticks of 90 kHz are not part of the presentation: those that the edit list of
    /// fragmented MP4 takes out. What is presented at `delay` is presented at [`ZERO`] in the stream.
    pub fn new(codec: Codec, delay: u64) -> Result<Self, Error> {
        codec.check()?;
        if delay > ZERO - LEAD {
            return Err(Error::Delay);
        }
        Ok(Self { codec, delay, counters: Counters::default(), duration: 0 })
    }

    /// Appends a segment to `out`, and says where in it its key frames are, without the tables before them (H.264 only; all of AAC can be decoded from
    /// anywhere). After an error nothing was appended, and the segment does not count.
    pub fn segment(&mut self, samples: &[Sample<'_>], out: &mut Vec<u8>) -> Result<Vec<Range<usize>>, Error> {
        let (before, length) = (self.clone(), out.len());
        let written = self.write(samples, out);
        if written.is_err() {
            *self = before;
            out.truncate(length);
        }
        written
    }

    fn write(&mut self, samples: &[Sample<'_>], out: &mut Vec<u8>) -> Result<Vec<Range<usize>>, Error> {
        let ends = self.ends(samples)?;
        let start = out.len();
        let mut key_frames = Vec::new();
        let mut payload = Vec::new();
        let mut clock = None;
        let mut index = 0;
        while index < samples.len() {
            let count = self.in_one_packet(&samples[index..], &ends[index..]);
            let first = &samples[index];
            payload.clear();
            for (sample, index) in samples[index..index + count].iter().zip(index..) {
                self.codec.append(sample, &mut payload).map_err(|fault| Error::Sample { index, fault })?;
            }

            let is_key_frame = first.is_key && matches!(self.codec, Codec::Avc { .. });
            if index == 0 || is_key_frame {
                self.tables(out);
            }
            let offset = out.len();
            // After half the time, or the next sample could come too late.
            let is_due = clock.is_none_or(|clock| first.decode - clock >= CLOCK_INTERVAL / 2);
            let tells_clock = is_due || first.is_key;
            if tells_clock {
                clock = Some(first.decode);
            }
            self.pes(first, tells_clock, &payload, out);
            if is_key_frame {
                key_frames.push(offset - start..out.len() - start);
            }

            index += count;
            let end = ends[index - 1];
            while let Some(next) =
                clock.and_then(|clock| clock.checked_add(CLOCK_INTERVAL)).filter(|next| *next < end)
            {
                self.clock_alone(next, out);
                clock = Some(next);
            }
        }
        Ok(key_frames)
    }

    /// When each sample ends: when the next one is decoded. The last one is taken to last as long as the one before.
    fn ends(&mut self, samples: &[Sample<'_>]) -> Result<Vec<u64>, Error> {
        let mut ends = Vec::with_capacity(samples.len());
        for (index, sample) in samples.iter().enumerate() {
            let fault = |fault| Error::Sample { index, fault };
            let wait = sample.present.checked_sub(sample.decode).ok_or(fault(Fault::Order))?;
            if let Some(next) = samples.get(index + 1) {
                let duration = next.decode.checked_sub(sample.decode).filter(|duration| *duration > 0);
                self.duration = duration.ok_or(Error::Sample { index: index + 1, fault: Fault::Order })?;
            }
            if wait > TOO_LONG || self.duration > TOO_LONG {
                return Err(fault(Fault::TooLong));
            }
            ends.push(sample.decode.checked_add(self.duration).ok_or(fault(Fault::TooLong))?);
        }
        if ends.is_empty() { Err(Error::Empty) } else { Ok(ends) }
    }

    /// How many of these samples share a PES packet: one picture, or as many frames of sound as fit between two
    /// readings of the clock.
    fn in_one_packet(&self, samples: &[Sample<'_>], ends: &[u64]) -> usize {
        if matches!(self.codec, Codec::Avc { .. }) {
            return 1;
        }
        let mut bytes = 0;
        let together = samples.iter().zip(ends).take_while(|(sample, end)| {
            bytes += ADTS_HEADER + sample.data.len();
            *end - samples[0].decode <= CLOCK_INTERVAL && bytes < usize::from(u16::MAX) - PACKET
        });
        together.count().max(1)
    }

    /// A time of the track as a time of the stream.
    fn time(&self, ticks: u64) -> u64 {
        ticks.wrapping_add(ZERO - self.delay) & TIME_MASK
    }

    fn clock(&self, decode: u64) -> u64 {
        self.time(decode).wrapping_sub(LEAD) & TIME_MASK
    }

    fn tables(&mut self, out: &mut Vec<u8>) {
        let (stream_type, _) = self.codec.types();
        let [pmt_high, pmt_low] = PMT_PID.to_be_bytes();
        let [track_high, track_low] = TRACK_PID.to_be_bytes();
        // Table, length, id of the stream, version 0 and current, section 0 of 0; programme 1 and its map.
        let association = [0, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | pmt_high, pmt_low];
        // The same of programme 1; PID of the clock, no descriptors; the track, no descriptors.
        let map = [
            [2, 0xb0, 18, 0, 1, 0xc1, 0, 0, 0xe0 | track_high, track_low, 0xf0, 0].as_slice(),
            &[stream_type, 0xe0 | track_high, track_low, 0xf0, 0],
        ]
        .concat();
        for (pid, section) in [(PAT_PID, association.as_slice()), (PMT_PID, &map)] {
            // The section begins at once.
            let mut payload = [&[0], section, &crc(section).to_be_bytes()].concat();
            payload.resize(PACKET - PACKET_HEADER, 0xff);
            packet(pid, true, self.counters.tables, &[], &payload, out);
        }
        self.counters.tables = following(self.counters.tables);
    }

    fn pes(&mut self, first: &Sample<'_>, tells_clock: bool, payload: &[u8], out: &mut Vec<u8>) {
        let (_, stream_id) = self.codec.types();
        let [present, decode] = [first.present, first.decode].map(|ticks| self.time(ticks));
        // Aligned: an access unit begins right after the header.
        let mut pes = vec![0, 0, 1, stream_id, 0, 0, 0x84];
        if present == decode {
            pes.extend([0x80, 5]);
            pes.extend(timestamp(0b0010, present));
        } else {
            pes.extend([0xc0, 10]);
            pes.extend(timestamp(0b0011, present));
            pes.extend(timestamp(0b0001, decode));
        }
        pes.extend(payload);
        // Longer pictures say 0: they end where the next one begins.
        let length = u16::try_from(pes.len() - PES_PREFIX).unwrap_or(0);
        pes[PES_PREFIX - 2..PES_PREFIX].copy_from_slice(&length.to_be_bytes());

        let mut field = adaptation(first.is_key, tells_clock.then(|| self.clock(first.decode)));
        let mut rest = pes.as_slice();
        let mut starts = true;
        while !rest.is_empty() {
            let taken = packet(TRACK_PID, starts, self.counters.track, &field, rest, out);
            self.counters.track = following(self.counters.track);
            rest = &rest[taken..];
            field.clear();
            starts = false;
        }
    }

    /// A packet with nothing but the clock, for samples that are far apart. It has the number of the one before.
    fn clock_alone(&self, decode: u64, out: &mut Vec<u8>) {
        let field = adaptation(false, Some(self.clock(decode)));
        packet(TRACK_PID, false, self.counters.track.wrapping_sub(1) & 0xf, &field, &[], out);
    }
}

impl Codec {
    /// Appends a sample as it is in a stream.
    fn append(&self, sample: &Sample<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
        match self {
            Self::Avc { length_size, sps, pps } => {
                let mut unit = |nal: &[u8]| {
                    out.extend(START_CODE);
                    out.extend(nal);
                };
                unit(&ACCESS_UNIT_DELIMITER);
                if sample.is_key {
                    sps.iter().chain(pps).for_each(|set| unit(set));
                }
                let mut rest = sample.data;
                if rest.is_empty() {
                    return Err(Fault::Empty);
                }
                while !rest.is_empty() {
                    let (length, after) =
                        rest.split_at_checked((*length_size).into()).ok_or(Fault::CutOff)?;
                    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
                    let (nal, after) = after.split_at_checked(length).ok_or(Fault::CutOff)?;
                    match nal.first() {
                        None => return Err(Fault::Empty),
                        Some(header) if header & 0x1f == ACCESS_UNIT_DELIMITER[0] => {}
                        Some(_) => unit(nal),
                    }
                    rest = after;
                }
                Ok(())
            }
            Self::Aac { object_type, sampling_index, channels } => {
                let length = ADTS_HEADER + sample.data.len();
                if sample.data.is_empty() {
                    return Err(Fault::Empty);
                }
                if length > LONGEST_ADTS_FRAME {
                    return Err(Fault::TooLarge);
                }
                // What is added to AAC LC says so itself, in its frames.
                let profile = if matches!(object_type, 5 | 29) { 1 } else { u64::from(object_type - 1) };
                // Sync word, MPEG-4, no checksum; after the length, a buffer that is not told and one frame.
                let header = 0xfff1 << 40
                    | profile << 38
                    | u64::from(*sampling_index) << 34
                    | u64::from(*channels) << 30
                    | (length as u64) << 13
                    | 0x7ff << 2;
                out.extend(&header.to_be_bytes()[1..]);
                out.extend(sample.data);
                Ok(())
            }
        }
    }
}

/// What the first packet of a sample says besides, without the length of it; nothing, if there is nothing to say.
fn adaptation(is_key: bool, clock: Option<u64>) -> Vec<u8> {
    let flags = u8::from(is_key) << 6 | u8::from(clock.is_some()) << 4;
    let mut field = if flags == 0 { Vec::new() } else { vec![flags] };
    if let Some(clock) = clock {
        // 33 bits of 90 kHz, 6 reserved, 9 of 27 MHz.
        field.extend(&(clock << 15 | 0x3f << 9).to_be_bytes()[2..]);
    }
    field
}

/// Writes a packet with as much of the payload as fits into it, and says how much that is.
fn packet(pid: u16, starts: bool, counter: u8, field: &[u8], payload: &[u8], out: &mut Vec<u8>) -> usize {
    let end = out.len() + PACKET;
    let length_byte = usize::from(!field.is_empty());
    let taken = payload.len().min(PACKET - PACKET_HEADER - length_byte - field.len());
    let around = PACKET - PACKET_HEADER - taken;
    let [high, low] = pid.to_be_bytes();
    let control = u8::from(around > 0) << 5 | u8::from(taken > 0) << 4;
    out.extend([0x47, u8::from(starts) << 6 | high, low, control | counter]);
    if let Some(length) = around.checked_sub(1) {
        out.push(u8::try_from(length).expect("less than a packet"));
        match field {
            [] if length > 0 => out.push(0),
            field => out.extend(field),
        }
        out.resize(end - taken, 0xff);
    }
    out.extend(&payload[..taken]);
    taken
}

fn following(counter: u8) -> u8 {
    (counter + 1) & 0xf
}

/// A time stamp of a PES header: 3, 15 and 15 bits, with a 1 after each.
fn timestamp(prefix: u64, time: u64) -> [u8; 5] {
    let bits = prefix << 36
        | (time >> 30) << 33
        | (time >> 15 & 0x7fff) << 17
        | (time & 0x7fff) << 1
        | 0x1_0001_0001;
    let [_, _, _, bytes @ ..] = bits.to_be_bytes();
    bytes
}

/// CRC-32/MPEG-2.
fn crc(section: &[u8]) -> u32 {
    section.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            if crc >> 31 == 0 { crc << 1 } else { crc << 1 ^ 0x04c1_1db7 }
        })
    })
}

/// Why a track cannot be written as a transport stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// It cannot be carried.
    #[error(
        "a transport stream is written of H.264 or AAC, and this is {0}; encode it anew, or use fragmented MP4"
    )]
    Codec(&'static str),
    /// It begins too late.
    #[error("the track begins more than 9.3 s before its presentation; encode it without an edit as long")]
    Delay,
    /// There is nothing to write.
    #[error("a segment needs one sample at least")]
    Empty,
    /// One of its samples is not what it should be.
    #[error("sample {index} of a segment (the first is 0) {fault}; the file it comes from is damaged")]
    Sample {
        /// Which one, counted from 0.
        index: usize,
        /// What is wrong with it.
        fault: Fault,
    },
}

/// What is wrong with a sample.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A NAL unit ends after it.
    #[error("is cut off within a NAL unit")]
    CutOff,
    /// It, or a NAL unit in it, has no bytes.
    #[error("is empty, or has an empty NAL unit")]
    Empty,
    /// ADTS has 13 bits for a frame's length.
    #[error("is longer than a frame of AAC can be")]
    TooLarge,
    /// Decoding goes back, or stands still, or comes after showing.
    #[error("is decoded before the one before it, or after it is shown")]
    Order,
    /// A minute is not a sample.
    #[error("lasts or waits for more than a minute")]
    TooLong,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use mp4_atom::{Any, Decode};
    use tempfile::TempDir;

    use super::*;

    /// A track of fragmented MP4.
    struct Track {
        folder: TempDir,
        codec: Codec,
        samples: Vec<OwnedSample>,
    }

    struct OwnedSample {
        data: Vec<u8>,
        decode: u64,
        present: u64,
        is_key: bool,
    }

    impl OwnedSample {
        fn borrow(&self) -> Sample<'_> {
            let Self { ref data, decode, present, is_key } = *self;
            Sample { data, decode, present, is_key }
        }
    }

    impl Track {
        /// What ffmpeg makes of `input`; the file is `source.mp4`.
        fn encode(arguments: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("source.mp4");
            let arguments = arguments.split_whitespace();
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-v", "error", "-f", "lavfi"]).args(arguments);
            ffmpeg.args(["-f", "mp4", "-movflags", "frag_keyframe+empty_moov+default_base_moof"]);
            ffmpeg.args(["-use_editlist", "0", "-frag_duration", "1000000"]).arg(&path);
            output(&mut ffmpeg);
            let bytes = fs::read(&path).unwrap();
            let (codec, samples) = read(&bytes);
            Self { folder, codec, samples }
        }

        /// 7 s of H.264 with B-frames and a key frame every 2 s, at so many frames a second.
        fn video(rate: u32) -> Self {
            Self::encode(&format!(
                "-i testsrc2=size=160x90:rate={rate}:duration=7 -c:v libx264 -preset veryfast -pix_fmt yuv420p \
                 -g {} -sc_threshold 0 -bf 2 -b_strategy 0 -video_track_timescale 90000",
                2 * rate
            ))
        }

        fn audio(rate: u32) -> Self {
            Self::encode(&format!("-i sine=frequency=440:sample_rate={rate}:duration=3 -c:a aac -b:a 64k"))
        }

        fn samples(&self) -> Vec<Sample<'_>> {
            self.samples.iter().map(OwnedSample::borrow).collect()
        }

        /// How long the first picture waits to be shown.
        fn delay(&self) -> u64 {
            self.samples[0].present - self.samples[0].decode
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Segments that begin at the samples with these numbers.
        fn segments(&self, starts: &[usize]) -> Vec<(Vec<u8>, Vec<Range<usize>>)> {
            let mut writer = Writer::new(self.codec.clone(), self.delay()).unwrap();
            let samples = self.samples();
            let ends = starts[1..].iter().copied().chain([samples.len()]);
            starts
                .iter()
                .zip(ends)
                .map(|(start, end)| {
                    let mut bytes = Vec::new();
                    let key_frames = writer.segment(&samples[*start..end], &mut bytes).unwrap();
                    (bytes, key_frames)
                })
                .collect()
        }

        /// All of it, as `stream.ts`.
        fn write(&self, starts: &[usize]) -> Vec<u8> {
            let bytes = self.segments(starts).into_iter().flat_map(|(bytes, _)| bytes).collect::<Vec<_>>();
            fs::write(self.path("stream.ts"), &bytes).unwrap();
            bytes
        }
    }

    fn read(bytes: &[u8]) -> (Codec, Vec<OwnedSample>) {
        let mut rest = bytes;
        let (mut codec, mut timescale, mut default_flags) = (None, 0, 0);
        let mut samples = Vec::new();
        while !rest.is_empty() {
            let start = bytes.len() - rest.len();
            match Any::decode(&mut rest).unwrap() {
                Any::Moov(moov) => {
                    codec = Some(Codec::try_from(&moov.trak[0].mdia.minf.stbl.stsd.codecs[0]).unwrap());
                    timescale = u64::from(moov.trak[0].mdia.mdhd.timescale);
                    default_flags = moov.mvex.unwrap().trex[0].default_sample_flags;
                }
                Any::Moof(moof) => {
                    let traf = &moof.traf[0];
                    let flags = traf.tfhd.default_sample_flags.unwrap_or(default_flags);
                    let mut decode = traf.tfdt.as_ref().unwrap().base_media_decode_time;
                    for run in &traf.trun {
                        let mut at = start + usize::try_from(run.data_offset.unwrap()).unwrap();
                        for entry in &run.samples {
                            let size = entry.size.or(traf.tfhd.default_sample_size).unwrap() as usize;
                            let duration = entry.duration.or(traf.tfhd.default_sample_duration).unwrap();
                            let present = decode.strict_add_signed(entry.cts.unwrap_or(0));
                            samples.push(OwnedSample {
                                data: bytes[at..at + size].to_vec(),
                                decode: decode * TIMESCALE / timescale,
                                present: present * TIMESCALE / timescale,
                                is_key: entry.flags.unwrap_or(flags) & 0x0001_0000 == 0,
                            });
                            at += size;
                            decode += u64::from(duration);
                        }
                    }
                }
                _ => {}
            }
        }
        (codec.unwrap(), samples)
    }

    /// What a tool says on stdout. It must succeed, and have nothing to warn of.
    fn output(command: &mut Command) -> String {
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Hashes of all pictures, or of all frames of sound, decoded.
    fn decoded(path: &Path) -> Vec<String> {
        hashes(Command::new("ffmpeg").args(["-v", "warning", "-i"]).arg(path))
    }

    fn hashes(ffmpeg: &mut Command) -> Vec<String> {
        let text = output(ffmpeg.args(["-fps_mode", "passthrough", "-f", "framemd5", "-"]));
        let frames = text.lines().filter(|line| !line.starts_with('#'));
        frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
    }

    /// Time of showing, time of decoding and flags of all packets, in ticks.
    fn packets(path: &Path) -> Vec<(i64, i64, String)> {
        let mut ffprobe = Command::new("ffprobe");
        ffprobe.args(["-v", "warning", "-show_entries", "packet=pts,dts,flags", "-of", "compact=p=0:nk=1"]);
        output(ffprobe.arg(path))
            .lines()
            // One line more for what a packet has beside it.
            .filter(|line| !line.is_empty())
            .map(|line| {
                let mut words = line.split('|').map(str::to_owned);
                let mut word = || words.next().unwrap();
                (word().parse().unwrap(), word().parse().unwrap(), word())
            })
            .collect()
    }

    /// Reads the packets by the book: whole, numbered without a gap, and with the clock often enough. Returns the
    /// clock's readings in ticks.
    fn clocks(stream: &[u8]) -> Vec<u64> {
        assert_eq!(stream.len() % 188, 0);
        let mut counters = HashMap::new();
        let mut clocks = Vec::new();
        for packet in stream.chunks(188) {
            assert_eq!(packet[0], 0x47);
            let pid = u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff;
            let (has_field, has_payload, counter) =
                (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0, packet[3] & 0xf);
            if let Some(last) = counters.insert(pid, counter) {
                assert_eq!(counter, (last + u8::from(has_payload)) & 0xf);
            }
            if has_field {
                let length = usize::from(packet[4]);
                assert!(if has_payload { length < 183 } else { length == 183 });
                if length > 0 && packet[5] & 0x10 != 0 {
                    let base = packet[6..11].iter().fold(0, |base, byte| base << 8 | u64::from(*byte)) >> 7;
                    clocks.push(base);
                }
            }
        }
        for pair in clocks.windows(2) {
            assert!(pair[0] < pair[1] && pair[1] - pair[0] <= 9000, "{pair:?}");
        }
        clocks
    }

    /// What all packets of the track carry.
    fn payload(stream: &[u8]) -> Vec<u8> {
        let track = stream.chunks(188).filter(|packet| packet[1] & 0x1f == 1 && packet[2] == 0);
        track
            .flat_map(|packet| {
                let field = if packet[3] & 0x20 == 0 { 0 } else { 1 + usize::from(packet[4]) };
                packet[4 + field..].to_vec()
            })
            .collect()
    }

    /// The first bytes of a PES packet.
    fn pes(stream_id: u8, length: usize) -> [u8; 6] {
        let [high, low] = u16::try_from(length).unwrap().to_be_bytes();
        [0, 0, 1, stream_id, high, low]
    }

    #[test]
    fn ffmpeg_sees_the_same_pictures_at_the_same_times_and_has_nothing_to_warn_of() {
        let track = Track::video(25);
        assert_eq!(track.delay(), 2 * 3600);
        let stream = track.write(&[0, 100, 150]);
        clocks(&stream);
        assert_eq!(decoded(&track.path("stream.ts")), decoded(&track.path("source.mp4")));

        let shift = i64::try_from(ZERO - track.delay()).unwrap();
        let shifted = |(present, decode, flags): (i64, i64, String)| (present + shift, decode + shift, flags);
        let expected: Vec<_> = packets(&track.path("source.mp4")).into_iter().map(shifted).collect();
        assert_eq!(packets(&track.path("stream.ts")), expected);
        assert_eq!(expected.iter().map(|packet| packet.0).min(), Some(900_000));
    }

    #[test]
    fn ffmpeg_hears_the_same_sound_at_the_same_times_and_has_nothing_to_warn_of() {
        for rate in [48_000, 44_100, 8_000] {
            let track = Track::audio(rate);
            let stream = track.write(&[0, 20, 21]);
            clocks(&stream);
            assert_eq!(decoded(&track.path("stream.ts")), decoded(&track.path("source.mp4")));
            let times = packets(&track.path("stream.ts"));
            assert_eq!(times.len(), track.samples.len());
            for ((present, decode, _), sample) in times.iter().zip(&track.samples) {
                // ffmpeg counts the frames that share a packet itself, and rounds.
                assert!(present.abs_diff(i64::try_from(ZERO + sample.present).unwrap()) <= 1);
                assert_eq!(present, decode);
            }

            let adts = |name: &str| {
                let path = track.path(name).with_extension("aac");
                let mut ffmpeg = Command::new("ffmpeg");
                output(
                    ffmpeg.args(["-v", "error", "-i"]).arg(track.path(name)).args(["-c", "copy"]).arg(&path),
                );
                fs::read(path).unwrap()
            };
            assert_eq!(adts("stream.ts"), adts("source.mp4"));
        }
    }

    #[test]
    fn every_segment_can_be_played_alone() {
        let track = Track::video(25);
        let all = decoded(&track.path("source.mp4"));
        let segments = track.segments(&[0, 100, 150]);
        for ((bytes, _), frames) in segments.iter().zip([0..100, 100..150, 150..175]) {
            fs::write(track.path("segment.ts"), bytes).unwrap();
            assert_eq!(decoded(&track.path("segment.ts")), all[frames]);
        }
    }

    #[test]
    fn an_i_frame_is_a_picture_with_its_tables_or_with_those_of_its_segment() {
        let track = Track::video(25);
        let all = decoded(&track.path("source.mp4"));
        let segments = track.segments(&[0, 100, 150]);
        let mut playlist = vec![
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD".to_owned(),
            "#EXT-X-I-FRAMES-ONLY\n#EXT-X-MAP:URI=\"0.ts\",BYTERANGE=\"376@0\"".to_owned(),
        ];
        let mut pictures = Vec::new();
        for (number, (bytes, key_frames)) in segments.iter().enumerate() {
            fs::write(track.path(&format!("{number}.ts")), bytes).unwrap();
            assert_eq!(key_frames[0].start, TABLES);
            for key_frame in key_frames {
                fs::write(track.path("alone.ts"), &bytes[with_tables(key_frame.clone())]).unwrap();
                let [picture] = decoded(&track.path("alone.ts")).try_into().unwrap();
                pictures.push(picture);
                let (offset, length) = (key_frame.start, key_frame.len());
                playlist.push(format!("#EXTINF:2,\n#EXT-X-BYTERANGE:{length}@{offset}\n{number}.ts"));
            }
        }
        assert_eq!(pictures, [0, 50, 100, 150].map(|frame: usize| all[frame].clone()));

        playlist.push("#EXT-X-ENDLIST\n".to_owned());
        fs::write(track.path("iframes.m3u8"), playlist.join("\n")).unwrap();
        // No more than errors: packets are missing between I-frames, which it does warn of.
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-i"]).arg(track.path("iframes.m3u8"));
        assert_eq!(hashes(&mut ffmpeg), pictures);
    }

    #[test]
    fn the_clock_goes_on_between_pictures_that_are_far_apart() {
        let track = Track::video(2);
        let clocks = clocks(&track.write(&[0, 4, 8]));
        assert_eq!(clocks[0], 900_000 - 90_000 - 63_000);
        assert!(clocks.len() >= 70);
        assert_eq!(decoded(&track.path("stream.ts")), decoded(&track.path("source.mp4")));
    }

    #[test]
    fn the_tables_are_those_of_ffmpeg() {
        let tables = |stream: &[u8]| {
            [PAT_PID, PMT_PID].map(|pid| {
                let is_it = |packet: &&[u8]| u16::from_be_bytes([packet[1], packet[2]]) & 0x1fff == pid;
                stream.chunks(188).find(is_it).unwrap().to_vec()
            })
        };
        for track in [Track::video(25), Track::audio(48_000)] {
            let path = track.path("theirs.ts");
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-v", "error", "-i"]).arg(track.path("source.mp4"));
            output(ffmpeg.args(["-c", "copy", "-metadata:s:0", "language="]).arg(&path));
            assert_eq!(tables(&track.write(&[0])), tables(&fs::read(path).unwrap()));
        }
    }
    #[test]
    fn i_frames_written_one_by_one_are_a_stream_too() {
        let track = Track::video(25);
        let starts: Vec<_> = (0..track.samples.len()).filter(|index| track.samples[*index].is_key).collect();
        assert_eq!(starts, [0, 50, 100, 150]);
        let mut writer = Writer::new(track.codec.clone(), track.delay()).unwrap();
        let mut stream = Vec::new();
        for start in &starts {
            let before = stream.len();
            let key_frames = writer.segment(&track.samples()[*start..=*start], &mut stream).unwrap();
            let end = stream.len() - before;
            assert_eq!(key_frames, vec![TABLES..end]);
        }
        fs::write(track.path("stream.ts"), stream).unwrap();
        let all = decoded(&track.path("source.mp4"));
        assert_eq!(
            decoded(&track.path("stream.ts")),
            starts.iter().map(|start| all[*start].clone()).collect::<Vec<_>>()
        );
    }

    #[test]
    fn times_begin_again_after_33_bits() {
        let mut track = Track::video(25);
        for sample in &mut track.samples {
            // The first picture is shown 3 s before.
            sample.decode += (1 << 33) - ZERO - 3 * TIMESCALE;
            sample.present += (1 << 33) - ZERO - 3 * TIMESCALE;
        }
        track.write(&[0, 100, 150]);
        assert_eq!(decoded(&track.path("stream.ts")), decoded(&track.path("source.mp4")));
        let times = packets(&track.path("stream.ts"));
        assert!(times.windows(2).all(|pair| pair[1].1 - pair[0].1 == 3600));

        // By hand, from the table of ISO/IEC 13818-1 §2.4.3.6: marker bits apart, all ones; and 10 s.
        assert_eq!(timestamp(0b0011, TIME_MASK), [0x3f, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(timestamp(0b0010, 900_000), [0x21, 0x00, 0x37, 0x77, 0x41]);
    }

    #[test]
    fn lengths_of_nal_units_may_have_one_two_or_four_bytes() {
        let nals = [[0x65, 1, 2].as_slice(), &[0x06, 0, 0, 3, 1]];
        let stream = |size: u8| {
            let data: Vec<u8> = nals
                .iter()
                .flat_map(|nal| {
                    let length = u32::try_from(nal.len()).unwrap().to_be_bytes();
                    [&length[usize::from(4 - size)..], nal].concat()
                })
                .collect();
            let codec = Codec::Avc { length_size: size, sps: vec![vec![0x67, 1]], pps: vec![vec![0x68, 2]] };
            let sample = Sample { data: &data, decode: 0, present: 0, is_key: true };
            let mut out = Vec::new();
            Writer::new(codec, 0).unwrap().segment(&[sample], &mut out).unwrap();
            out
        };
        let unit = b"\0\0\0\x01\x09\xf0\0\0\0\x01\x67\x01\0\0\0\x01\x68\x02\
                     \0\0\0\x01\x65\x01\x02\0\0\0\x01\x06\0\0\x03\x01";
        assert!(stream(4).ends_with(unit));
        assert_eq!([stream(1), stream(2)], [stream(4), stream(4)]);
    }

    #[test]
    fn a_delimiter_that_is_there_already_is_not_written_twice() {
        let codec = Codec::Avc { length_size: 1, sps: vec![vec![0x67]], pps: vec![vec![0x68]] };
        let stream = |data| {
            let sample = Sample { data, decode: 0, present: 0, is_key: false };
            let mut out = Vec::new();
            Writer::new(codec.clone(), 0).unwrap().segment(&[sample], &mut out).unwrap();
            out
        };
        assert_eq!(stream(&[2, 9, 0x10, 1, 0x41]), stream(&[1, 0x41]));
    }

    #[test]
    fn a_damaged_sample_is_refused_and_leaves_nothing_behind() {
        let codec = Codec::Avc { length_size: 2, sps: vec![vec![0x67]], pps: vec![vec![0x68]] };
        let mut writer = Writer::new(codec, 0).unwrap();
        let good = Sample { data: &[0, 1, 0x65], decode: 3600, present: 3600, is_key: true };
        let next = Sample { decode: 7200, present: 7200, ..good };
        let mut out = b"before".to_vec();
        let mut refused = |samples: &[Sample]| {
            let error = writer.segment(samples, &mut out).unwrap_err();
            assert_eq!(out, b"before");
            assert_eq!((writer.counters.tables, writer.counters.track), (0, 0));
            match error {
                Error::Sample { index, fault } => (index, fault),
                error => panic!("{error}"),
            }
        };
        for data in [&[0, 2, 0x65][..], &[0], &[0, 1, 0x65, 0], &[0xff, 0xff, 1]] {
            assert_eq!(refused(&[good, Sample { data, ..next }]), (1, Fault::CutOff));
        }
        for data in [&[][..], &[0, 0], &[0, 1, 0x65, 0, 0]] {
            assert_eq!(refused(&[good, Sample { data, ..next }]), (1, Fault::Empty));
        }
        assert_eq!(refused(&[good, good]), (1, Fault::Order));
        assert_eq!(refused(&[next, good]), (1, Fault::Order));
        assert_eq!(refused(&[Sample { present: 0, ..good }]), (0, Fault::Order));
        let never = Sample { decode: u64::MAX, present: u64::MAX, ..good };
        assert_eq!(refused(&[good, never]), (0, Fault::TooLong));
        assert_eq!(refused(&[Sample { present: u64::MAX, ..good }]), (0, Fault::TooLong));
        assert_eq!(writer.segment(&[], &mut out), Err(Error::Empty));
        writer.segment(&[never], &mut Vec::new()).unwrap();

        let aac = Codec::Aac { object_type: 2, sampling_index: 3, channels: 2 };
        let mut writer = Writer::new(aac, 0).unwrap();
        let fault = |data, fault| {
            let error = writer.clone().segment(&[Sample { data, ..good }], &mut Vec::new()).unwrap_err();
            assert_eq!(error, Error::Sample { index: 0, fault });
        };
        fault(&[], Fault::Empty);
        fault(&[0; 8185], Fault::TooLarge);
        writer.segment(&[Sample { data: &[0; 8184], ..good }], &mut Vec::new()).unwrap();
    }

    #[test]
    fn what_cannot_be_carried_is_refused() {
        let set = || vec![vec![1]];
        for length_size in 0..=9 {
            let is_allowed = Writer::new(Codec::Avc { length_size, sps: set(), pps: set() }, 0).is_ok();
            assert_eq!(is_allowed, [1, 2, 4].contains(&length_size));
        }
        for (sps, pps) in [(vec![], set()), (set(), vec![]), (set(), vec![vec![]])] {
            assert!(Writer::new(Codec::Avc { length_size: 4, sps, pps }, 0).is_err());
        }
        let aac = |object_type, sampling_index, channels| {
            Writer::new(Codec::Aac { object_type, sampling_index, channels }, 0).is_ok()
        };
        assert!(
            [aac(1, 0, 1), aac(2, 12, 7), aac(4, 3, 6), aac(5, 6, 2), aac(29, 6, 1)].iter().all(|is| *is)
        );
        assert!(
            ![
                aac(0, 3, 2),
                aac(6, 3, 2),
                aac(42, 3, 2),
                aac(2, 13, 2),
                aac(2, 15, 2),
                aac(2, 3, 0),
                aac(2, 3, 8)
            ]
            .iter()
            .any(|is| *is)
        );
        let codec = || Codec::Avc { length_size: 4, sps: set(), pps: set() };
        assert!(Writer::new(codec(), ZERO - LEAD).is_ok());
        assert_eq!(Writer::new(codec(), ZERO).unwrap_err(), Error::Delay);
    }

    /// Lengths around those where stuffing begins and ends, and where a PES packet's own length no longer fits.
    #[test]
    fn samples_of_any_length_fill_whole_packets_and_come_out_as_they_went_in() {
        let codec = Codec::Aac { object_type: 2, sampling_index: 3, channels: 2 };
        let mut writer = Writer::new(codec, 0).unwrap();
        let frames: Vec<Vec<u8>> =
            (1..600).map(|length| vec![u8::try_from(length % 256).unwrap(); length]).collect();
        for (number, frame) in (0..).zip(&frames) {
            let time = number * 1920;
            let mut stream = Vec::new();
            let sample = Sample { data: frame, decode: time, present: time, is_key: number % 2 == 0 };
            writer.segment(&[sample], &mut stream).unwrap();
            clocks(&stream);
            // Eight bytes of header after those, seven of ADTS.
            assert_eq!(payload(&stream).len(), 6 + 8 + 7 + frame.len());
            assert!(payload(&stream).starts_with(&pes(0xc0, 8 + 7 + frame.len())));
            assert!(payload(&stream).ends_with(frame));
        }
        let codec = Codec::Avc { length_size: 4, sps: vec![vec![0x67]], pps: vec![vec![0x68]] };
        let mut writer = Writer::new(codec, 0).unwrap();
        for length in (65_000..66_000).step_by(7) {
            let data = [&u32::try_from(length).unwrap().to_be_bytes()[..], &vec![0x41; length]].concat();
            let mut stream = Vec::new();
            let sample = Sample { data: &data, decode: 0, present: 0, is_key: false };
            writer.segment(&[sample], &mut stream).unwrap();
            clocks(&stream);
            // Eight bytes of header, a delimiter, a start code.
            let counted = 8 + 6 + 4 + length;
            let counted = if counted > 65_535 { 0 } else { counted };
            assert!(payload(&stream).starts_with(&pes(0xe0, counted)));
            assert!(payload(&stream).ends_with(&data[4..]));
        }
    }
}
