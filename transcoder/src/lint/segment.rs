//! Looks into a segment: how long, when, what is in it. No more of it is read than that takes: of fragmented MP4 the
//! `moof` boxes, of text its head, and of a transport stream all where it is on a disk, its beginning where it is not.

use aes::Aes128;
use cbc::Decryptor;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use mp4_atom::{Codec, Colr, Decode, Moof, Moov, Trak};
use url::Url;

use super::codecs::{self, Kind, Sps};
use super::files::{Answer, Files, LARGEST_READ, Refused};
use super::gather::OUTSIDE;
use super::rules::{self, Rule};
use super::transport::{self, Counter, PACKET};

/// How much is read at once, in bytes: most `moof` boxes and all heads of texts are shorter.
const READ: u64 = 16 * 1024;

/// The same for transport streams, in packets, and how many of them are read over a network.
const READ_PACKETS: u64 = 1_000;
const WEB_PACKETS: u64 = 400;

/// The longest tables of a transport stream, in bytes.
const TABLES: usize = 20 * PACKET;

/// The most boxes of one segment that are looked at.
const MOST_BOXES: usize = 10_000;

/// The same for samples. A run of samples that are all alike needs no list, and may claim to be of any length.
const MOST_SAMPLES: usize = 1_000_000;

/// Bit of a sample's flags: it cannot be decoded on its own (ISO/IEC 14496-12, 8.8.3.1).
const IS_NO_KEY_FRAME: u32 = 0x0001_0000;

/// How segments are packed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Container {
    Fmp4,
    Ts,
    Packed,
    WebVtt,
}

/// One stream of a segment or an initialisation section.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stream {
    pub(crate) kind: Kind,
    /// In the words of RFC 6381; only the family, where the rest is unknown.
    pub(crate) codec: String,
    pub(crate) size: Option<(u32, u32)>,
    pub(crate) channels: Option<u32>,
    /// Transfer characteristics (ITU-T H.273).
    pub(crate) transfer: Option<u16>,
    pub(crate) interlaced: bool,
    pub(crate) track: u32,
    pub(crate) timescale: u32,
    pub(crate) default_duration: u32,
    pub(crate) default_size: u32,
    pub(crate) default_flags: u32,
    /// How many ticks each sample lasts, of sound whose frames are all as long.
    pub(crate) frame: Option<u32>,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            kind: Kind::Other,
            codec: String::new(),
            size: None,
            channels: None,
            transfer: None,
            interlaced: false,
            track: 0,
            timescale: 1,
            default_duration: 0,
            default_size: 0,
            default_flags: 0,
            frame: None,
        }
    }
}

/// What a segment has of one stream. Times are in seconds, by decoding order in fMP4 and as shown in transport streams.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) kind: Kind,
    pub(crate) track: u32,
    pub(crate) start: f64,
    pub(crate) duration: Option<f64>,
    /// 0 where it is not known.
    pub(crate) samples: u64,
    pub(crate) starts_with_key: Option<bool>,
    /// The first and the last key frame.
    pub(crate) keys: Option<(f64, f64)>,
    /// The longest time between two of them.
    pub(crate) longest_gap: f64,
    pub(crate) shortest_sample: Option<f64>,
}

/// A segment, or an initialisation section, as found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Its size, if it is there.
    pub(crate) bytes: Option<u64>,
    pub(crate) container: Option<Container>,
    pub(crate) parts: Vec<Part>,
    pub(crate) has_moof_first: bool,
    /// How long its last frame of sound lasts, in ticks, if not as long as it should.
    pub(crate) odd_end: Option<u32>,
    /// Only its beginning was read.
    pub(crate) is_partial: bool,
    /// Why it was not looked into.
    pub(crate) skipped: Option<&'static str>,
    rare: Option<Box<Rare>>,
}

/// What few segments of fragmented MP4 have, of which there may be tens of thousands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rare {
    pub(crate) streams: Vec<Stream>,
    /// Of an initialisation section of a transport stream.
    pub(crate) tables: Vec<u8>,
    pub(crate) counters: Vec<Counter>,
    pub(crate) faults: Vec<(Rule, String)>,
    pub(crate) answer: Answer,
}

impl std::ops::Deref for Measured {
    type Target = Rare;

    fn deref(&self) -> &Rare {
        static NONE: std::sync::LazyLock<Rare> = std::sync::LazyLock::new(Rare::default);
        self.rare.as_deref().unwrap_or(&NONE)
    }
}

impl std::ops::DerefMut for Measured {
    fn deref_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl Measured {
    /// One that is not looked into.
    pub(crate) fn skipped(why: &'static str) -> Self {
        Self { skipped: Some(why), ..Self::default() }
    }

    /// The part that it is cut by: the picture, if there is one.
    pub(crate) fn main(&self) -> Option<&Part> {
        let video = self.parts.iter().find(|part| part.kind == Kind::Video);
        video.or(self.parts.iter().find(|part| part.kind == Kind::Audio))
    }

    /// Gives back what is not needed.
    pub(crate) fn shrink(&mut self) {
        self.parts.shrink_to_fit();
        let Answer { content_type, gzip, redirected } = &self.answer;
        let is_silent = content_type.is_none() && !gzip && !redirected;
        let is_empty = self.streams.is_empty() && self.tables.is_empty() && self.counters.is_empty();
        if is_silent && is_empty && self.faults.is_empty() {
            self.rare = None;
        }
    }

    fn fault(&mut self, rule: Rule, what: impl Into<String>) {
        self.faults.push((rule, what.into()));
    }
}

/// AES-128 with the key and the initialisation vector of a segment.
#[derive(Clone, Copy)]
pub(crate) struct Cipher {
    pub(crate) key: [u8; 16],
    pub(crate) iv: [u8; 16],
}

/// What is to be looked at.
pub(crate) struct Target<'a> {
    pub(crate) files: &'a Files<'a>,
    pub(crate) at: Url,
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) cipher: Option<Cipher>,
    /// It is encrypted, and nobody knows how.
    pub(crate) is_opaque: bool,
}

/// Looks into a segment whose streams, or tables, are those of its initialisation section, if it has one.
pub(crate) async fn measure(target: Target<'_>, init: Option<&Measured>) -> Measured {
    let mut measured = Measured::default();
    let is_web = target.files.is_web();
    let (is_opaque, range) = (target.is_opaque, target.range);
    let mut reader = Reader::new(target);
    let head = match reader.at(0, 1).await {
        Ok(head) => head.to_vec(),
        Err(refused) => {
            missing(&mut measured, &refused);
            return measured;
        }
    };
    measured.bytes = Some(reader.length);
    measured.answer = reader.answer.clone();
    if let Some((offset, length)) = range
        && (length == 0 || reader.length < length)
    {
        let what = format!("{length} bytes from {offset} on are not all in the file");
        measured.fault(rules::BYTERANGE, what);
        return measured;
    }
    if is_opaque {
        measured.skipped = Some("they are encrypted, and their key cannot be read");
        return measured;
    }
    measured.container = container(&head);
    let looked = match measured.container {
        Some(Container::Fmp4) => {
            fragments(&mut reader, &mut measured, init.map(|init| init.streams.as_slice())).await
        }
        Some(Container::Ts) => packets(&mut reader, &mut measured, init, is_web).await,
        Some(Container::WebVtt) => {
            text(&head, &mut measured);
            Ok(())
        }
        Some(Container::Packed) => {
            packed(&head, &mut measured);
            Ok(())
        }
        None if reader.has_cipher() => {
            measured.fault(
                rules::SEGMENT_FORMAT,
                "what its key makes of it is nothing known: is it the right key?",
            );
            Ok(())
        }
        None => {
            measured.fault(rules::SEGMENT_FORMAT, "it is nothing of the kind");
            Ok(())
        }
    };
    if let Err(refused) = looked {
        missing(&mut measured, &refused);
    }
    measured
}

/// Looks whether a picture is there, and is one.
pub(crate) async fn image(target: Target<'_>) -> Measured {
    let mut measured = Measured::default();
    let (is_opaque, range) = (target.is_opaque, target.range);
    let mut reader = Reader::new(target);
    let is_image = match reader.at(0, 12).await {
        Ok(head) => {
            matches!(head, [0xff, 0xd8, 0xff, ..] | [0x89, b'P', b'N', b'G', ..])
                || matches!(head, [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..])
        }
        Err(refused) => {
            missing(&mut measured, &refused);
            return measured;
        }
    };
    measured.bytes = Some(reader.length);
    measured.answer = reader.answer.clone();
    if range.is_some_and(|(_, length)| length == 0 || reader.length < length) {
        measured.fault(rules::BYTERANGE, "not all of it is in the file");
    } else if is_opaque {
        measured.skipped = Some("they are encrypted, and their key cannot be read");
    } else if !is_image {
        measured.fault(rules::SEGMENT_FORMAT, "it is no JPEG, PNG or WebP, as tiles of pictures are");
    }
    measured
}

/// Looks into an initialisation section.
pub(crate) async fn initialisation(target: Target<'_>) -> Measured {
    let mut measured = Measured::default();
    let is_opaque = target.is_opaque;
    let mut reader = Reader::new(target);
    if let Err(refused) = reader.at(0, 1).await {
        missing(&mut measured, &refused);
        return measured;
    }
    measured.bytes = Some(reader.length);
    measured.answer = reader.answer.clone();
    if is_opaque {
        measured.skipped = Some("they are encrypted, and their key cannot be read");
        return measured;
    }
    let head = reader.at(0, 1).await.map(<[u8]>::to_vec).unwrap_or_default();
    measured.container = container(&head);
    match measured.container {
        Some(Container::Ts) => {
            let length = head.len().min(TABLES).min(usize::try_from(reader.length).unwrap_or(TABLES));
            measured.tables = head[..length].to_vec();
            return measured;
        }
        Some(Container::Fmp4) => {}
        _ => {
            measured.fault(rules::FMP4_INIT, "it is no MP4");
            return measured;
        }
    }
    if let Err(refused) = fragments(&mut reader, &mut measured, None).await {
        missing(&mut measured, &refused);
    } else if measured.streams.is_empty() && measured.faults.is_empty() && measured.skipped.is_none() {
        measured.fault(rules::FMP4_INIT, "there is no moov with tracks");
    }
    measured
}

fn missing(measured: &mut Measured, refused: &Refused) {
    match refused {
        Refused::Elsewhere => measured.skipped = Some("they are elsewhere"),
        Refused::Outside => measured.skipped = Some(OUTSIDE),
        _ => measured.fault(rules::AVAILABLE, refused.to_string()),
    }
}

fn container(head: &[u8]) -> Option<Container> {
    let text = head.strip_prefix("\u{feff}".as_bytes()).unwrap_or(head);
    match head {
        [0x47, ..] if head.get(PACKET).is_none_or(|byte| *byte == 0x47) => Some(Container::Ts),
        [_, _, _, _, kind @ ..]
            if [b"ftyp", b"styp", b"moof", b"sidx", b"moov", b"emsg", b"prft", b"free", b"mdat", b"ssix"]
                .iter()
                .any(|name| kind.starts_with(*name)) =>
        {
            Some(Container::Fmp4)
        }
        [b'I', b'D', b'3', ..] | [0xff, 0xe0..=0xff, ..] | [0x0b, 0x77, ..] => Some(Container::Packed),
        _ if text.starts_with(b"WEBVTT") => Some(Container::WebVtt),
        _ => None,
    }
}

fn text(head: &[u8], measured: &mut Measured) {
    let head = String::from_utf8_lossy(head);
    let mut header = head.lines().skip(1).take_while(|line| !line.trim().is_empty());
    if !header.any(|line| line.starts_with("X-TIMESTAMP-MAP=")) {
        measured.fault(rules::WEBVTT_TEXT, "it has no X-TIMESTAMP-MAP");
    }
    measured.streams.push(Stream { kind: Kind::Text, codec: "wvtt".to_owned(), ..Stream::default() });
}

/// Packed audio (RFC 8216 §3.4).
fn packed(head: &[u8], measured: &mut Measured) {
    let mut rest = head;
    if let [b'I', b'D', b'3', _, _, _, a, b, c, d, tag @ ..] = head {
        let length = [a, b, c, d].iter().fold(0, |length, byte| length << 7 | usize::from(**byte & 0x7f));
        let tag_end = length.min(tag.len());
        let owner = b"com.apple.streaming.transportStreamTimestamp";
        if !tag[..tag_end].windows(owner.len()).any(|window| window == owner) {
            measured.fault(rules::PACKED_TIMESTAMP, "its ID3 tag has none");
        }
        rest = &tag[tag_end..];
    } else {
        measured.fault(rules::PACKED_TIMESTAMP, "it does not begin with an ID3 tag");
    }
    let (codec, channels) = match rest {
        [0xff, second, third, fourth, ..] if second & 0xf6 == 0xf0 => (
            format!("mp4a.40.{}", (third >> 6) + 1),
            transport::channels(u32::from((third & 1) << 2 | fourth >> 6)),
        ),
        [0xff, 0xe0..=0xff, ..] => ("mp4a.40.34".to_owned(), None),
        [0x0b, 0x77, _, _, _, version, ..] if version >> 3 > 10 => ("ec-3".to_owned(), None),
        [0x0b, 0x77, ..] => ("ac-3".to_owned(), None),
        _ => return,
    };
    measured.streams.push(Stream { kind: Kind::Audio, codec, channels, ..Stream::default() });
}

async fn packets(
    reader: &mut Reader<'_>,
    measured: &mut Measured,
    init: Option<&Measured>,
    is_web: bool,
) -> Result<(), Refused> {
    let packet = u64::try_from(PACKET).unwrap_or_default();
    let mut segment = transport::Reader::default();
    for packet in init.map(|init| init.tables.chunks_exact(PACKET)).into_iter().flatten() {
        segment.push(packet);
    }
    let mut offset = 0;
    let end = if is_web { WEB_PACKETS * packet } else { u64::MAX };
    let mut is_whole = false;
    while offset < end {
        let part = reader.at(offset, READ_PACKETS.min(end / packet) * packet).await?;
        for packet in part.chunks_exact(PACKET) {
            segment.push(packet);
        }
        let length = u64::try_from(part.len()).unwrap_or_default();
        offset += length;
        if length == 0 || length % packet != 0 {
            is_whole = true;
            if length % packet != 0 {
                measured.fault(rules::SEGMENT_FORMAT, "it is cut off within a packet");
            }
            break;
        }
    }
    is_whole |= offset >= reader.length;
    measured.is_partial = !is_whole;
    let found = segment.finish(is_whole, init.is_some());
    measured.streams = found.streams;
    measured.parts = found.parts;
    measured.counters = found.counters;
    measured.faults.extend(found.fault);
    Ok(())
}

async fn fragments(
    reader: &mut Reader<'_>,
    measured: &mut Measured,
    init: Option<&[Stream]>,
) -> Result<(), Refused> {
    let (mut offset, mut number, mut has_moof, mut has_data) = (0_u64, 0, false, false);
    let base = reader.target.range.map_or(0, |(base, _)| base);
    let (mut has_first, mut first_end) = (false, None);
    let mut own = Vec::new();
    let mut so_far = SoFar { ends: Vec::new(), samples: 0, odd: Vec::new(), is_odd: false };
    loop {
        let head = reader.at(offset, 16).await?;
        if head.is_empty() {
            break;
        }
        let Some((kind, length)) = box_head(head) else {
            measured.fault(rules::SEGMENT_FORMAT, format!("what is at byte {offset} is no box"));
            return Ok(());
        };
        let length = length.unwrap_or(reader.length.saturating_sub(offset));
        let is_read = &kind == b"moof" || &kind == b"moov";
        if is_read && length > LARGEST_READ {
            measured.skipped = Some("they have boxes larger than is looked at");
            return Ok(());
        }
        if is_read {
            let bytes = reader.at(offset, length).await?;
            let bytes = bytes.get(..usize::try_from(length).unwrap_or(usize::MAX)).unwrap_or_default();
            if bytes.is_empty() {
                measured.fault(rules::SEGMENT_FORMAT, "it is cut off within a box");
                return Ok(());
            }
            if &kind == b"moov" {
                let Ok(moov) = Moov::decode(&mut &*bytes) else {
                    measured.skipped = Some("they have an initialisation section that is not understood");
                    return Ok(());
                };
                own = streams(&moov);
            } else {
                has_moof = true;
                measured.has_moof_first |= !has_data;
                let streams = init.filter(|streams| !streams.is_empty()).unwrap_or(&own);
                match Moof::decode(&mut &*bytes) {
                    Ok(moof) => {
                        fragment(&moof, streams, measured, &mut so_far);
                        // What a player is sent of the first one has to show something.
                        if !std::mem::replace(&mut has_first, true) {
                            first_end = end_of_first(&moof, streams, offset, base);
                        }
                    }
                    Err(_) => measured.fault(rules::FMP4_INIT, "its moof cannot be read"),
                }
            }
        }
        has_data |= &kind == b"mdat";
        offset = offset.saturating_add(length);
        number += 1;
        if number > MOST_BOXES {
            measured.skipped = Some("they have more boxes than are looked at");
            return Ok(());
        }
    }
    measured.odd_end = so_far.odd.first().filter(|_| !so_far.is_odd).map(|(_, ticks)| *ticks);
    measured.streams = own;
    // The range of an I-frame ends within the `mdat`, where the next frame begins.
    if offset > reader.length && !reader.is_range() {
        measured.fault(rules::SEGMENT_FORMAT, "it is cut off");
    }
    if reader.is_range() && first_end.is_some_and(|end| end > reader.length) {
        measured.fault(rules::SEGMENT_FORMAT, "it ends before its first sample does");
    }
    // An initialisation section has none.
    if !has_moof && init.is_some() {
        measured.fault(rules::FMP4_INIT, "it has no moof");
    }
    Ok(())
}

/// Kind and length of a box, if it says how long it is.
fn box_head(head: &[u8]) -> Option<([u8; 4], Option<u64>)> {
    let (length, rest) = head.split_first_chunk::<4>()?;
    let (kind, rest) = rest.split_first_chunk::<4>()?;
    match u32::from_be_bytes(*length) {
        0 => Some((*kind, None)),
        1 => {
            let length = u64::from_be_bytes(*rest.first_chunk::<8>()?);
            (length >= 16).then_some((*kind, Some(length)))
        }
        length => (length >= 8).then_some((*kind, Some(u64::from(length)))),
    }
}

/// Where the first sample of a fragment ends, from where its segment begins, which is at `base` of its file. `at` is where
/// the `moof` is in the segment.
fn end_of_first(moof: &Moof, streams: &[Stream], at: u64, base: u64) -> Option<u64> {
    let track = moof.traf.first()?;
    let stream = streams.iter().find(|stream| stream.track == track.tfhd.track_id);
    let run = track.trun.iter().find(|run| !run.samples.is_empty())?;
    let default = track.tfhd.default_sample_size.or(stream.map(|stream| stream.default_size));
    let size = run.samples.iter().next()?.size.or(default)?;
    let from = track.tfhd.base_data_offset.map_or(Some(at), |offset| offset.checked_sub(base))?;
    let start = from.checked_add_signed(i64::from(run.data_offset.unwrap_or_default()))?;
    start.checked_add(u64::from(size))
}

/// What was seen of a segment in the fragments before.
struct SoFar {
    /// When each track ends, in seconds.
    ends: Vec<(u32, f64)>,
    samples: usize,
    /// How long the latest sample of each track lasts, if that is no frame, in ticks.
    odd: Vec<(u32, u32)>,
    is_odd: bool,
}

fn fragment(moof: &Moof, streams: &[Stream], measured: &mut Measured, so_far: &mut SoFar) {
    for track in &moof.traf {
        let Some(stream) = streams.iter().find(|stream| stream.track == track.tfhd.track_id) else {
            continue;
        };
        let Some(tfdt) = &track.tfdt else {
            return measured.fault(rules::FMP4_INIT, "a fragment has no tfdt");
        };
        let start = seconds(tfdt.base_media_decode_time, stream.timescale);
        let default_duration = track.tfhd.default_sample_duration.unwrap_or(stream.default_duration);
        let default_flags = track.tfhd.default_sample_flags.unwrap_or(stream.default_flags);
        let (mut ticks, mut samples, mut shortest) = (0_u64, 0_u64, u32::MAX);
        let mut starts_with_key = None;
        let mut keys: Option<(f64, f64)> = None;
        let mut gap = 0.0_f64;
        let before = so_far.odd.iter().position(|(known, _)| *known == track.tfhd.track_id);
        let mut odd = before.map(|at| so_far.odd.swap_remove(at).1);
        for run in &track.trun {
            let count = u64::try_from(run.samples.len()).unwrap_or(u64::MAX);
            let left = MOST_SAMPLES.saturating_sub(so_far.samples);
            so_far.samples = so_far.samples.saturating_add(run.samples.len());
            for sample in run.samples.iter().take(left) {
                let is_key = sample.flags.unwrap_or(default_flags) & IS_NO_KEY_FRAME == 0;
                starts_with_key.get_or_insert(is_key);
                if is_key {
                    let time = start + seconds(ticks, stream.timescale);
                    let (first, latest) = keys.unwrap_or((time, time));
                    gap = gap.max(time - latest);
                    keys = Some((first, time));
                }
                let duration = sample.duration.unwrap_or(default_duration);
                if let Some(frame) = stream.frame {
                    // The last one of a track is cut where it ends.
                    if let Some(odd) = odd.take().filter(|_| !so_far.is_odd) {
                        so_far.is_odd = true;
                        let what = format!("a frame of sound lasts {odd} ticks, but has {frame} samples");
                        measured.faults.push((rules::DECODE_TIME, what));
                    }
                    odd = Some(duration).filter(|duration| *duration != frame);
                }
                shortest = shortest.min(duration);
                ticks = ticks.saturating_add(u64::from(duration));
            }
            samples = samples.saturating_add(count);
        }
        so_far.odd.extend(odd.map(|ticks| (track.tfhd.track_id, ticks)));
        if samples == 0 {
            continue;
        }
        let end = start + seconds(ticks, stream.timescale);
        let known = so_far.ends.iter_mut().find(|(known, _)| *known == track.tfhd.track_id);
        match known {
            Some((_, before)) => {
                if (*before - start).abs() > TOLERANCE {
                    let what = format!(
                        "a fragment begins at {start:.3} s, where the one before it ends at {before:.3} s"
                    );
                    measured.faults.push((rules::DECODE_TIME, what));
                }
                *before = end;
            }
            None => so_far.ends.push((track.tfhd.track_id, end)),
        }
        let shortest = Some(seconds(u64::from(shortest), stream.timescale)).filter(|seconds| *seconds > 0.0);
        let part = measured.parts.iter_mut().find(|part| part.track == track.tfhd.track_id);
        if let Some(part) = part {
            part.duration = part.duration.map(|duration| duration + seconds(ticks, stream.timescale));
            part.samples = part.samples.saturating_add(samples);
            if let (Some((_, latest)), Some((first, _))) = (part.keys, keys) {
                gap = gap.max(first - latest);
            }
            part.longest_gap = part.longest_gap.max(gap);
            part.keys = match (part.keys, keys) {
                (Some((first, _)), Some((_, last))) => Some((first, last)),
                (before, after) => before.or(after),
            };
            part.shortest_sample = [part.shortest_sample, shortest].into_iter().flatten().reduce(f64::min);
        } else {
            measured.parts.push(Part {
                kind: stream.kind,
                track: track.tfhd.track_id,
                start,
                duration: Some(seconds(ticks, stream.timescale)),
                samples,
                starts_with_key,
                keys,
                longest_gap: gap,
                shortest_sample: shortest,
            });
        }
    }
}

/// How exact times have to be, in seconds: clocks of 1 kHz are in use.
pub(crate) const TOLERANCE: f64 = 0.002;

#[expect(clippy::cast_precision_loss, reason = "to a float's 53 bits, more than any clock has in a year")]
fn seconds(ticks: u64, timescale: u32) -> f64 {
    ticks as f64 / f64::from(timescale)
}

/// The tracks of an initialisation section.
fn streams(moov: &Moov) -> Vec<Stream> {
    let extends = |track: u32| {
        let mvex = moov.mvex.as_ref()?;
        mvex.trex.iter().find(|trex| trex.track_id == track)
    };
    let streams = moov.trak.iter().take(64).map(|track| {
        let extends = extends(track.tkhd.track_id);
        Stream {
            track: track.tkhd.track_id,
            timescale: track.mdia.mdhd.timescale.max(1),
            default_duration: extends.map_or(0, |trex| trex.default_sample_duration),
            default_size: extends.map_or(0, |trex| trex.default_sample_size),
            default_flags: extends.map_or(0, |trex| trex.default_sample_flags),
            frame: frame(track),
            ..described(track)
        }
    });
    streams.collect()
}

/// Samples of a frame of AAC-LC (ISO/IEC 14496-3, 4.5.1.1), if the clock counts samples. There is a form of 960, in
/// which nobody delivers files.
fn frame(track: &Trak) -> Option<u32> {
    const AAC_LC: u8 = 2;
    const SAMPLES: u32 = 1_024;
    let Some(Codec::Mp4a(mp4a)) = track.mdia.minf.stbl.stsd.codecs.first() else { return None };
    let config = &mp4a.esds.es_desc.dec_config;
    let profile = config.dec_specific.as_ref().map(|specific| specific.profile);
    let is_aac = config.object_type_indication == 0x40 && profile == Some(AAC_LC);
    let is_exact = u32::from(mp4a.audio.sample_rate.integer()) == track.mdia.mdhd.timescale;
    (is_aac && is_exact).then_some(SAMPLES)
}

fn described(track: &Trak) -> Stream {
    let codec = track.mdia.minf.stbl.stsd.codecs.first();
    let size = |visual: &mp4_atom::Visual| Some((u32::from(visual.width), u32::from(visual.height)));
    let video = |codec: String, visual, colr: &Option<Colr>| Stream {
        kind: Kind::Video,
        codec,
        size: size(visual),
        transfer: transfer(colr.as_ref()),
        ..Stream::default()
    };
    let avc = |family: &str, config: &mp4_atom::Avcc| {
        let (profile, constraints) = (config.avc_profile_indication, config.profile_compatibility);
        format!("{family}.{profile:02x}{constraints:02x}{:02x}", config.avc_level_indication)
    };
    let interlaced = |config: &mp4_atom::Avcc| {
        let sps = config.sequence_parameter_sets.first().and_then(|sps| Sps::read(sps));
        sps.is_some_and(|sps| !sps.frames_only)
    };
    let audio = |codec: &str, channels: u16| Stream {
        kind: Kind::Audio,
        codec: codec.to_owned(),
        channels: Some(u32::from(channels)),
        ..Stream::default()
    };
    match codec {
        Some(Codec::Avc1(avc1)) => {
            let stream = video(avc("avc1", &avc1.avcc), &avc1.visual, &avc1.colr);
            let is_square = avc1.pasp.as_ref().is_none_or(|pasp| pasp.h_spacing == pasp.v_spacing);
            Stream { interlaced: interlaced(&avc1.avcc), size: stream.size.filter(|_| is_square), ..stream }
        }
        Some(Codec::Avc3(avc3)) => video(avc("avc3", &avc3.avcc), &avc3.visual, &avc3.colr),
        Some(Codec::Hvc1(hvc1)) => video(codecs::hevc_string("hvc1", &hvc1.hvcc), &hvc1.visual, &hvc1.colr),
        Some(Codec::Hev1(hev1)) => video(codecs::hevc_string("hev1", &hev1.hvcc), &hev1.visual, &hev1.colr),
        Some(Codec::Av01(av01)) => video(codecs::av1_string(&av01.av1c), &av01.visual, &av01.colr),
        Some(Codec::Vp09(vp09)) => video("vp09".to_owned(), &vp09.visual, &None),
        Some(Codec::Mp4a(mp4a)) => {
            let config = &mp4a.esds.es_desc.dec_config;
            let specific = config.dec_specific.as_ref();
            let codec = match (config.object_type_indication, specific) {
                (0x40, Some(specific)) => format!("mp4a.40.{}", specific.profile),
                (other, _) => format!("mp4a.{other:02x}"),
            };
            let configured = specific.and_then(|specific| transport::channels(u32::from(specific.chan_conf)));
            Stream { channels: configured, ..audio(&codec, mp4a.audio.channel_count) }
        }
        Some(Codec::Ac3(ac3)) => Stream { channels: None, ..audio("ac-3", ac3.audio.channel_count) },
        Some(Codec::Eac3(eac3)) => Stream { channels: None, ..audio("ec-3", eac3.audio.channel_count) },
        Some(Codec::Flac(flac)) => audio("fLaC", flac.audio.channel_count),
        Some(Codec::Opus(opus)) => audio("Opus", opus.audio.channel_count),
        Some(Codec::Wvtt(_)) => Stream { kind: Kind::Text, codec: "wvtt".to_owned(), ..Stream::default() },
        Some(Codec::Unknown(family, _)) => {
            let codec = family.to_string();
            Stream { kind: codecs::kind(&codec), codec, ..Stream::default() }
        }
        _ => Stream::default(),
    }
}

fn transfer(colr: Option<&Colr>) -> Option<u16> {
    match colr? {
        Colr::Nclx { transfer_characteristics, .. } | Colr::Nclc { transfer_characteristics, .. } => {
            Some(*transfer_characteristics)
        }
        _ => None,
    }
}

/// A segment that is read in parts, and deciphered if need be.
struct Reader<'a> {
    target: Target<'a>,
    /// Of the file, or of the range of it.
    length: u64,
    window: Vec<u8>,
    window_at: u64,
    /// Whether the window reaches to the end.
    is_last: bool,
    answer: Answer,
}

impl<'a> Reader<'a> {
    fn new(target: Target<'a>) -> Self {
        Self {
            target,
            length: u64::MAX,
            window: Vec::new(),
            window_at: 0,
            is_last: false,
            answer: Answer::default(),
        }
    }

    fn has_cipher(&self) -> bool {
        self.target.cipher.is_some()
    }

    fn is_range(&self) -> bool {
        self.target.range.is_some()
    }

    /// What is from `offset` on: `length` bytes or more, or all there is.
    async fn at(&mut self, offset: u64, length: u64) -> Result<&[u8], Refused> {
        let covers = |window: &[u8], at: u64, is_last: bool| {
            let end = at + u64::try_from(window.len()).unwrap_or_default();
            !window.is_empty() && offset >= at && (is_last || offset.saturating_add(length) <= end)
        };
        if offset >= self.length {
            return Ok(&[]);
        }
        if !covers(&self.window, self.window_at, self.is_last) {
            self.load(offset, length.max(READ)).await?;
        }
        let start = usize::try_from(offset - self.window_at).unwrap_or(usize::MAX);
        let rest = self.window.get(start..).unwrap_or_default();
        // Packets are taken from where they were asked for, and not twice.
        let most = usize::try_from(length.max(READ)).unwrap_or(usize::MAX);
        Ok(&rest[..rest.len().min(most)])
    }

    async fn load(&mut self, offset: u64, length: u64) -> Result<(), Refused> {
        let base = self.target.range.map_or(0, |(base, _)| base);
        let limit = self.target.range.map_or(u64::MAX, |(_, limit)| limit);
        // A block is deciphered with the one before it.
        let (from, extra) = match self.target.cipher {
            Some(_) => {
                let block = offset / 16 * 16;
                (block.saturating_sub(16), offset - block + if block > 0 { 16 } else { 0 })
            }
            None => (offset, 0),
        };
        let length = match self.target.cipher {
            Some(_) => (length + extra).next_multiple_of(16),
            None => length,
        };
        let length = length.min(limit.saturating_sub(from));
        let part = self.target.files.read(&self.target.at, base.saturating_add(from), length).await?;
        self.length = part.total.saturating_sub(base).min(limit);
        self.answer = part.answer;
        let end = from + u64::try_from(part.bytes.len()).unwrap_or_default();
        self.is_last = end >= self.length;
        self.window_at = from;
        self.window = part.bytes;
        if let Some(cipher) = self.target.cipher {
            let mut iv = cipher.iv;
            let mut bytes = std::mem::take(&mut self.window);
            if offset >= 16 {
                let block = bytes.drain(..bytes.len().min(16)).collect::<Vec<_>>();
                iv = block.try_into().unwrap_or(iv);
                self.window_at += 16;
            }
            decipher(cipher.key, iv, &mut bytes);
            if self.is_last {
                unpad(&mut bytes);
            }
            self.window = bytes;
        }
        Ok(())
    }
}

fn decipher(key: [u8; 16], iv: [u8; 16], bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() / 16 * 16);
    let mut decryptor = Decryptor::<Aes128>::new(&key.into(), &iv.into());
    for block in bytes.chunks_exact_mut(16) {
        if let Ok(block) = block.try_into() {
            decryptor.decrypt_block(block);
        }
    }
}

/// Takes the padding of PKCS #7 off, if that is what it is.
fn unpad(bytes: &mut Vec<u8>) {
    let padding = usize::from(bytes.last().copied().unwrap_or_default());
    if (1..=16).contains(&padding)
        && bytes.iter().rev().take(padding).all(|byte| usize::from(*byte) == padding)
    {
        bytes.truncate(bytes.len().saturating_sub(padding));
    }
}

#[cfg(test)]
mod tests {
    use cbc::Encryptor;
    use cbc::cipher::BlockModeEncrypt;

    use super::*;
    use crate::lint::files::Stored;

    #[tokio::test]
    async fn what_is_encrypted_is_read_alike_wherever_one_begins() {
        let clear: Vec<u8> = (0..100_003_u32).map(|at| at.to_be_bytes()[2] ^ at.to_be_bytes()[3]).collect();
        let cipher = Cipher { key: [7; 16], iv: [9; 16] };
        let mut secret = clear.clone();
        let padding = 16 - clear.len() % 16;
        secret.resize(clear.len() + padding, u8::try_from(padding).unwrap());
        let mut encryptor = Encryptor::<Aes128>::new(&cipher.key.into(), &cipher.iv.into());
        for block in secret.chunks_exact_mut(16) {
            encryptor.encrypt_block(block.try_into().unwrap());
        }
        // As a part of a file, with something before and after it.
        let file = tempfile::NamedTempFile::new().unwrap();
        let range = (5, u64::try_from(secret.len()).unwrap());
        std::fs::write(file.path(), [b"-----", secret.as_slice(), b"---"].concat()).unwrap();
        let stored = Stored::File { path: file.path().to_owned(), range: None };
        let files = Files::mapped([("a".to_owned(), stored)]);
        for offset in [0, 1, 15, 16, 17, 16_383, 16_385, 50_000, 99_990, 100_002] {
            let at = files.key("a").unwrap();
            let target =
                Target { files: &files, at, range: Some(range), cipher: Some(cipher), is_opaque: false };
            let mut reader = Reader::new(target);
            for offset in [offset, offset / 2, offset] {
                let read = reader.at(offset, 20_000).await.unwrap();
                let from = usize::try_from(offset).unwrap();
                let expected = &clear[from..(from + 20_000).min(clear.len())];
                assert_eq!(&read[..expected.len()], expected, "from {offset}");
            }
            assert!(reader.at(200_000, 1).await.unwrap().is_empty());
        }
    }

    #[test]
    fn a_box_says_how_long_it_is() {
        assert_eq!(box_head(b"\0\0\0\x10moof"), Some((*b"moof", Some(16))));
        assert_eq!(box_head(b"\0\0\0\0mdat"), Some((*b"mdat", None)));
        assert_eq!(box_head(b"\0\0\0\x01mdat\0\0\0\x01\0\0\0\0"), Some((*b"mdat", Some(1 << 32))));
        for broken in
            [b"\0\0\0\x07moof".as_slice(), b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x0f", b"\0\0\0\x01mdat", b"\0\0"]
        {
            assert_eq!(box_head(broken), None);
        }
    }
}
