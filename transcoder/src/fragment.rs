//! The boxes of fragmented MP4: what is read from them, and the one thing about them that is put right.
//!
//! Every track starts at 0 *by decoding order*, so a picture that waits for those it is predicted from is shown
//! late, and lips move after the words. An edit in the initialisation section takes this delay out: the "offset
//! edit list" of CMAF (§7.5.13), one entry to the end of the track, which browsers, Apple's players and those
//! built on ffmpeg all heed. The other ways do not work everywhere. Negative composition offsets (ffmpeg's
//! `+cmaf`) need no edit, but whatever is built on ffmpeg shows such pictures late by the very same delay. Sound
//! that starts later gains nothing in hls.js, which moves each track so that *decoding* begins at 0. And what
//! ffmpeg writes as edits by itself begins with an offset for all tracks.
//!
//! `sidx` boxes are left out: with an edit, the times in them are wrong, and HLS has no use for them.

use mp4_atom::{
    Atom, Codec, Decode, Edts, Elst, ElstEntry, Encode, FourCC, Header, Moof, Moov, Sidx, Styp, Tkhd, Trak,
};

/// What an initialisation section says.
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// The codec, in the words of RFC 6381.
    pub codecs: String,
    /// Ticks a second.
    pub timescale: u32,
    /// Size of the picture, if it is one.
    pub size: Option<(u32, u32)>,
    pub(crate) default_duration: u32,
    pub(crate) default_flags: u32,
}

/// Bit of a sample's flags: it cannot be decoded on its own.
const IS_NO_KEY_FRAME: u32 = 0x0001_0000;

impl Init {
    /// Reads an initialisation section with one track.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let moov = boxes(bytes)?
            .into_iter()
            .find(|part| part.kind == Moov::KIND)
            .ok_or(Malformed::Missing("moov"))?;
        let moov = Moov::decode(&mut &*moov.bytes)?;
        let [track] = moov.trak.as_slice() else { return Err(Malformed::Missing("one track")) };
        let extends = moov.mvex.as_ref().and_then(|mvex| mvex.trex.first());
        let extends = extends.ok_or(Malformed::Missing("trex"))?;
        let media = &track.mdia;
        let (codecs, size) = match media.minf.stbl.stsd.codecs.as_slice() {
            [Codec::Avc1(avc1)] => {
                let config = &avc1.avcc;
                let codecs = format!(
                    "avc1.{:02x}{:02x}{:02x}",
                    config.avc_profile_indication, config.profile_compatibility, config.avc_level_indication
                );
                (codecs, Some((avc1.visual.width.into(), avc1.visual.height.into())))
            }
            [Codec::Mp4a(mp4a)] => {
                let config = &mp4a.esds.es_desc.dec_config;
                let specific = config.dec_specific.as_ref().ok_or(Malformed::Missing("AAC configuration"))?;
                (format!("mp4a.{:02x}.{}", config.object_type_indication, specific.profile), None)
            }
            _ => return Err(Malformed::Missing("H.264 or AAC")),
        };
        if media.mdhd.timescale == 0 {
            return Err(Malformed::Missing("a timescale"));
        }
        Ok(Self {
            codecs,
            timescale: media.mdhd.timescale,
            size,
            default_duration: extends.default_sample_duration,
            default_flags: extends.default_sample_flags,
        })
    }

    /// So many ticks in seconds.
    #[must_use]
    pub fn seconds(&self, ticks: u64) -> f64 {
        let timescale = u64::from(self.timescale);
        // Whole seconds apart, so that nothing is lost to a float however long the video is.
        let whole = u32::try_from(ticks / timescale).unwrap_or(u32::MAX);
        let rest = u32::try_from(ticks % timescale).unwrap_or_default();
        f64::from(whole) + f64::from(rest) / f64::from(self.timescale)
    }
}

/// A media segment, measured: one or more fragments of one track.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segment {
    /// When its first sample is decoded, in ticks.
    pub start: u64,
    /// How long its samples last, in ticks.
    pub duration: u64,
    /// How many they are.
    pub samples: u64,
    /// Whether it can be decoded from its beginning.
    pub starts_with_key_frame: bool,
    /// How long its first sample, which is the first one shown, waits after it was decoded, in ticks.
    pub delay: u64,
}

impl Segment {
    /// Measures a segment.
    pub fn read(bytes: &[u8], init: &Init) -> Result<Self, Malformed> {
        let mut segment = Self::default();
        for part in boxes(bytes)?.iter().filter(|part| part.kind == Moof::KIND) {
            segment.measure(&Moof::decode(&mut &*part.bytes)?, init)?;
        }
        if segment.samples == 0 {
            return Err(Malformed::Missing("samples"));
        }
        Ok(segment)
    }

    fn measure(&mut self, moof: &Moof, init: &Init) -> Result<(), Malformed> {
        let [track] = moof.traf.as_slice() else { return Err(Malformed::Missing("one track")) };
        let default_duration = track.tfhd.default_sample_duration.unwrap_or(init.default_duration);
        let default_flags = track.tfhd.default_sample_flags.unwrap_or(init.default_flags);
        if self.samples == 0 {
            self.start = track.tfdt.as_ref().ok_or(Malformed::Missing("tfdt"))?.base_media_decode_time;
        }
        for sample in track.trun.iter().flat_map(|run| run.samples.iter()) {
            if self.samples == 0 {
                self.starts_with_key_frame = sample.flags.unwrap_or(default_flags) & IS_NO_KEY_FRAME == 0;
                let delay = u64::try_from(sample.cts.unwrap_or(0));
                self.delay =
                    delay.map_err(|_| Malformed::Missing("a first sample that waits to be shown"))?;
            }
            self.samples += 1;
            self.duration += u64::from(sample.duration.unwrap_or(default_duration));
        }
        Ok(())
    }

    /// When its last sample ends, in ticks.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start + self.duration
    }

    /// This and the one that follows it, as one.
    #[must_use]
    pub fn with(self, next: Self) -> Self {
        Self { duration: next.end() - self.start, samples: self.samples + next.samples, ..self }
    }
}

/// An initialisation section with an edit that skips the first `delay` ticks.
pub fn with_edit(init: &[u8], delay: u64) -> Result<Vec<u8>, Malformed> {
    if delay == 0 {
        return Ok(init.to_vec());
    }
    // A duration of 0 means: to the end, however many fragments follow.
    let entry = ElstEntry { segment_duration: 0, media_time: Some(delay), media_rate: 1.into() };
    let mut edit = Vec::new();
    Edts { elst: Some(Elst { entries: vec![entry] }) }.encode(&mut edit)?;
    // Inserted rather than decoded and encoded, so that everything else stays as it is.
    insert_after(init, &[Moov::KIND, Trak::KIND, Tkhd::KIND], &edit)
}

fn insert_after(bytes: &[u8], path: &[FourCC], addition: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut written = Vec::with_capacity(bytes.len() + addition.len());
    for part in boxes(bytes)? {
        match path {
            [last] if part.kind == *last => written.extend([part.bytes, addition].concat()),
            [outer, inner @ ..] if part.kind == *outer && !inner.is_empty() => {
                let body = insert_after(part.body, inner, addition)?;
                Header { kind: part.kind, size: Some(body.len()) }.encode(&mut written)?;
                written.extend(body);
            }
            _ => written.extend(part.bytes),
        }
    }
    Ok(written)
}

/// The bytes of a segment as they are published. Where it `continues` one, they can be added to the bytes of that.
pub fn cleaned(bytes: &[u8], continues: bool) -> Result<Vec<u8>, Malformed> {
    let is_kept = |part: &Part| part.kind != Sidx::KIND && !(continues && part.kind == Styp::KIND);
    let parts = boxes(bytes)?.into_iter().filter(is_kept).map(|part| part.bytes);
    Ok(parts.collect::<Vec<_>>().concat())
}

/// A box.
struct Part<'a> {
    kind: FourCC,
    /// With its header.
    bytes: &'a [u8],
    /// Without.
    body: &'a [u8],
}

fn boxes(mut bytes: &[u8]) -> Result<Vec<Part<'_>>, Malformed> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let mut rest = bytes;
        let header = Header::decode(&mut rest)?;
        let header_length = bytes.len() - rest.len();
        let length = header.size.map_or(bytes.len(), |size| size.saturating_add(header_length));
        let (part, rest) = bytes.split_at_checked(length).ok_or(Malformed::CutOff)?;
        parts.push(Part { kind: header.kind, bytes: part, body: &part[header_length..] });
        bytes = rest;
    }
    Ok(parts)
}

/// A file that is not the fragmented MP4 it should be.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// A box ends after the file.
    #[error("it is cut off")]
    CutOff,
    /// Something that must be there is not.
    #[error("it lacks {0}")]
    Missing(&'static str),
    /// A box cannot be read.
    #[error(transparent)]
    Box(#[from] mp4_atom::Error),
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Mfhd, Tfdt, Tfhd, Traf, Trun, TrunEntry};

    use super::*;

    fn init() -> Init {
        Init {
            codecs: "avc1.64001f".into(),
            timescale: 30_000,
            size: Some((1280, 720)),
            default_duration: 1001,
            default_flags: IS_NO_KEY_FRAME,
        }
    }

    /// A fragment as ffmpeg writes it: `styp`, `sidx`, `moof` and an empty `mdat`.
    fn fragment(start: u64, delays: &[i64], first_flags: u32) -> Vec<u8> {
        let samples = delays.iter().enumerate().map(|(i, delay)| TrunEntry {
            flags: (i == 0).then_some(first_flags),
            cts: Some(*delay),
            ..TrunEntry::default()
        });
        let run = Trun { data_offset: Some(0), samples: samples.collect::<Vec<_>>().into() };
        let track = Traf {
            tfhd: Tfhd { track_id: 1, default_base_is_moof: true, ..Tfhd::default() },
            tfdt: Some(Tfdt { base_media_decode_time: start }),
            trun: vec![run],
            ..Traf::default()
        };
        let mut bytes = b"\0\0\0\x10stypmsdh\0\0\0\0\0\0\0\x0csidx\0\0\0\0".to_vec();
        Moof { mfhd: Mfhd { sequence_number: 1 }, traf: vec![track] }.encode(&mut bytes).unwrap();
        bytes.extend(b"\0\0\0\x08mdat");
        bytes
    }

    #[test]
    fn a_segment_is_measured_by_its_samples() {
        let segment = Segment::read(&fragment(180_180, &[2002, 5005, 2002, 0], 0), &init()).unwrap();
        let expected =
            Segment { start: 180_180, duration: 4004, samples: 4, starts_with_key_frame: true, delay: 2002 };
        assert_eq!(segment, expected);
        assert!((init().seconds(segment.start) - 6.006).abs() < 1e-9);

        let late = Segment::read(&fragment(0, &[0], IS_NO_KEY_FRAME), &init()).unwrap();
        assert!(!late.starts_with_key_frame);
        assert!(Segment::read(&fragment(0, &[], 0), &init()).is_err());
        assert!(Segment::read(&fragment(0, &[-1], 0), &init()).is_err());
        let whole = fragment(0, &[0], 0);
        assert!(Segment::read(&whole[..whole.len() - 1], &init()).is_err());
    }

    #[test]
    fn fragments_add_up_to_one_segment() {
        let (first, second) = (fragment(0, &[0; 180], 0), fragment(180_180, &[0; 3], 0));
        let joined = [cleaned(&first, false).unwrap(), cleaned(&second, true).unwrap()].concat();
        let kinds: Vec<_> = boxes(&joined).unwrap().iter().map(|part| part.kind.to_string()).collect();
        assert_eq!(kinds, ["styp", "moof", "mdat", "moof", "mdat"]);
        let [first, second] = [first, second].map(|bytes| Segment::read(&bytes, &init()).unwrap());
        assert_eq!(Segment::read(&joined, &init()).unwrap(), first.with(second));
    }

    #[test]
    fn an_edit_goes_after_the_track_header_and_changes_nothing_else() {
        // `moov` with a `mvhd`, and a `trak` with a `tkhd` and an `mdia`; bodies do not matter.
        let before = b"\0\0\0\x08ftyp\0\0\0\x28moov\0\0\0\x08mvhd\0\0\0\x18trak\0\0\0\x08tkhd\0\0\0\x08mdia";
        let after = with_edit(before, 2002).unwrap();
        // To the end (0), from tick 2002 (0x7d2), at normal speed.
        let edit = b"\0\0\0\x24edts\0\0\0\x1celst\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x07\xd2\0\x01\0\0";
        let head = b"\0\0\0\x08ftyp\0\0\0\x4cmoov\0\0\0\x08mvhd\0\0\0\x3ctrak\0\0\0\x08tkhd";
        assert_eq!(after, [head.as_slice(), edit, b"\0\0\0\x08mdia"].concat());
        assert_eq!(with_edit(before, 0).unwrap(), before);
    }
}
