//! Fragmented MP4: the samples of a track, read out of an encoder's file and written into segments.
//!
//! An encoder's own fragments are not passed on. Those of sound know nothing of where pictures are cut, and every
//! group of pictures needs one of its own, or its key frame cannot be fetched alone (Apple's rule 6.10). What is
//! passed on are samples, their bytes as they came, in boxes of ours.
//!
//! Every track starts at 0 *by decoding order*, so a picture that waits for those it is predicted from is shown
//! late, and lips move after the words. An edit in the initialisation section takes this delay out: the "offset
//! edit list" of CMAF (§7.5.13), one entry to the end of the track, which browsers, Apple's players and those
//! built on ffmpeg all heed. The other ways do not work everywhere. Negative composition offsets (ffmpeg's
//! `+cmaf`) need no edit, but whatever is built on ffmpeg shows such pictures late by the very same delay. Sound
//! that starts later gains nothing in hls.js, which moves each track so that *decoding* begins at 0. And what
//! ffmpeg writes as edits by itself begins with an offset for all tracks.
//!
//! There are no `sidx` boxes: with an edit, the times in them would be wrong, and HLS has no use for them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use mp4_atom::{
    Atom, Av1c, Codec, Decode, Edts, Elst, ElstEntry, Encode, FourCC, Header, Hvcc, Mdat, Mfhd, Moof, Moov,
    Tfdt, Tfhd, Tkhd, Traf, Trak, Trun, TrunEntry, Visual,
};

/// The largest box that is read into memory: one fragment lasts two seconds.
const LARGEST_BOX: u64 = 256 << 20;

/// Flags of a sample (ISO 14496-12 §8.8.3.1): one that depends on no other, one that does, and the bit for that.
const KEY_FRAME: u32 = 0x0200_0000;
const PREDICTED: u32 = 0x0101_0000;
const IS_NO_KEY_FRAME: u32 = 0x0001_0000;

/// What an initialisation section says.
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// The codec, in the words of RFC 6381.
    pub codecs: String,
    /// Ticks a second.
    pub timescale: u32,
    /// Size of the picture, if it is one.
    pub size: Option<(u32, u32)>,
    /// What a decoder has to know.
    pub codec: Codec,
    track: u32,
    defaults: TrunEntry,
}

impl Init {
    /// Reads an initialisation section with one track.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let parts = boxes(bytes)?;
        let moov = parts.iter().find(|part| part.kind == Moov::KIND).ok_or(Malformed::Missing("moov"))?;
        let moov = Moov::decode(&mut &*moov.bytes)?;
        let [track] = moov.trak.as_slice() else { return Err(Malformed::Missing("one track")) };
        let extends = moov.mvex.as_ref().and_then(|mvex| mvex.trex.first());
        let extends = extends.ok_or(Malformed::Missing("trex"))?;
        let [codec] = track.mdia.minf.stbl.stsd.codecs.as_slice() else {
            return Err(Malformed::Missing("one sample entry"));
        };
        let timescale = track.mdia.mdhd.timescale;
        if timescale == 0 {
            return Err(Malformed::Missing("a timescale"));
        }
        let (codecs, size) = described(codec)?;
        let defaults = TrunEntry {
            duration: Some(extends.default_sample_duration),
            size: Some(extends.default_sample_size),
            flags: Some(extends.default_sample_flags),
            cts: None,
        };
        Ok(Self { codecs, timescale, size, codec: codec.clone(), track: track.tkhd.track_id, defaults })
    }

    #[cfg(test)]
    pub(crate) fn for_test(codec: Codec, timescale: u32, size: Option<(u32, u32)>) -> Self {
        Self { codecs: String::new(), timescale, size, codec, track: 1, defaults: TrunEntry::default() }
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

/// The codec in the words of RFC 6381, and the size of a picture.
fn described(codec: &Codec) -> Result<(String, Option<(u32, u32)>), Malformed> {
    let size = |visual: &Visual| Some((visual.width.into(), visual.height.into()));
    Ok(match codec {
        Codec::Avc1(avc1) => {
            let config = &avc1.avcc;
            let codecs = format!(
                "avc1.{:02x}{:02x}{:02x}",
                config.avc_profile_indication, config.profile_compatibility, config.avc_level_indication
            );
            (codecs, size(&avc1.visual))
        }
        Codec::Hvc1(hvc1) => (hevc(&hvc1.hvcc), size(&hvc1.visual)),
        Codec::Av01(av01) => (av1(&av01.av1c), size(&av01.visual)),
        Codec::Mp4a(mp4a) => {
            let config = &mp4a.esds.es_desc.dec_config;
            let specific = config.dec_specific.as_ref().ok_or(Malformed::Missing("AAC configuration"))?;
            (format!("mp4a.{:02x}.{}", config.object_type_indication, specific.profile), None)
        }
        _ => return Err(Malformed::Missing("H.264, HEVC (as hvc1), AV1 or AAC")),
    })
}

/// ISO 14496-15 annex E.3: the profile, its compatibility flags from the last to the first, tier and level, and
/// the constraints without the zeros at their end.
fn hevc(config: &Hvcc) -> String {
    let space = ["", "A", "B", "C"][usize::from(config.general_profile_space & 3)];
    let profile = config.general_profile_idc;
    let compatible = u32::from_be_bytes(config.general_profile_compatibility_flags).reverse_bits();
    let tier = if config.general_tier_flag { 'H' } else { 'L' };
    let constraints = config.general_constraint_indicator_flags;
    let count = constraints.iter().rposition(|flags| *flags != 0).map_or(0, |last| last + 1);
    let mut parts = vec![format!("hvc1.{space}{profile}.{compatible:X}.{tier}{}", config.general_level_idc)];
    parts.extend(constraints[..count].iter().map(|flags| format!("{flags:X}")));
    parts.join(".")
}

/// "AV1 Codec ISO Media File Format Binding" §5, the short form: what it leaves out is BT.709 in 4:2:0.
fn av1(config: &Av1c) -> String {
    let tier = if config.seq_tier_0 { 'H' } else { 'M' };
    let depth = match (config.high_bitdepth, config.twelve_bit) {
        (true, true) => 12,
        (true, false) => 10,
        (false, _) => 8,
    };
    format!("av01.{}.{:02}{tier}.{depth:02}", config.seq_profile, config.seq_level_idx_0)
}

/// A picture, or a packet of sound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sample {
    /// How long it lasts, in ticks.
    pub duration: u32,
    /// How many bytes it has.
    pub bytes: u32,
    /// How long after it was decoded it is shown, in ticks.
    pub delay: u32,
    /// Whether it can be decoded on its own.
    pub is_key: bool,
}

/// Samples of one track in a row.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Run {
    /// When the first is decoded, in ticks.
    pub start: u64,
    /// What they are.
    pub samples: Vec<Sample>,
    /// Their bytes, one after the other; none where only the list was read.
    pub data: Vec<u8>,
}

impl Run {
    /// When the last of them ends, in ticks.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.view().end()
    }

    /// Adds those that come next.
    pub fn append(&mut self, mut next: Self) {
        if self.samples.is_empty() {
            *self = next;
        } else {
            self.samples.append(&mut next.samples);
            self.data.append(&mut next.data);
        }
    }

    /// Takes away all but the first so many.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> Self {
        let samples = self.samples.split_off(count);
        Self { start: self.end(), samples, data: self.data.split_off(total(&self.samples)) }
    }

    /// All of them.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        View { start: self.start, samples: &self.samples, data: &self.data }
    }

    /// Each group of pictures: a key frame, and those that are predicted from it.
    pub fn groups(&self) -> impl Iterator<Item = View<'_>> {
        let mut rest = self.view();
        std::iter::from_fn(move || {
            let next = rest.samples.iter().skip(1).position(|sample| sample.is_key);
            let (group, others) = rest.split(next.map_or(rest.samples.len(), |next| next + 1));
            rest = others;
            (!group.samples.is_empty()).then_some(group)
        })
    }
}

/// Samples in a row, somewhere in a [`Run`].
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// When the first is decoded, in ticks.
    pub start: u64,
    /// What they are.
    pub samples: &'a [Sample],
    /// Their bytes, one after the other.
    pub data: &'a [u8],
}

impl View<'_> {
    /// When the last of them ends, in ticks.
    #[must_use]
    pub fn end(self) -> u64 {
        self.start + self.samples.iter().map(|sample| u64::from(sample.duration)).sum::<u64>()
    }

    /// The first so many, and the others.
    #[must_use]
    pub fn split(self, count: usize) -> (Self, Self) {
        let (samples, other_samples) = self.samples.split_at(count);
        let (data, other_data) = self.data.split_at(total(samples));
        let first = Self { start: self.start, samples, data };
        (first, Self { start: first.end(), samples: other_samples, data: other_data })
    }
}

fn total(samples: &[Sample]) -> usize {
    samples.iter().map(|sample| sample.bytes as usize).sum()
}

/// A file of one track as an encoder leaves it, read from its beginning to its end.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    left: u64,
    /// What its initialisation section says.
    pub init: Init,
    /// The initialisation section itself.
    pub init_bytes: Vec<u8>,
    /// Where the next fragment has to begin, in ticks.
    next: u64,
}

impl Reader {
    /// Opens a file, and reads its initialisation section.
    pub fn open(path: &Path) -> Result<Self, Malformed> {
        let file = File::open(path)?;
        let mut left = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let mut init_bytes = Vec::new();
        while let Some((kind, mut bytes)) = next_box(&mut file, &mut left)? {
            init_bytes.append(&mut bytes);
            if kind == Moov::KIND {
                let init = Init::read(&init_bytes)?;
                return Ok(Self { file, left, init, init_bytes, next: 0 });
            }
        }
        Err(Malformed::Missing("moov"))
    }

    /// The samples of the next fragment.
    pub fn next_run(&mut self) -> Result<Option<Run>, Malformed> {
        self.next_run_if(|_| true)
    }

    /// The samples of the next fragment, without their bytes.
    pub fn next_list(&mut self) -> Result<Option<Run>, Malformed> {
        let Some((run, bytes)) = self.next_fragment()? else { return Ok(None) };
        self.skip(bytes)?;
        Ok(Some(run))
    }

    /// The samples of the next fragment whose list is wanted.
    pub fn next_run_if(&mut self, is_wanted: impl Fn(&Run) -> bool) -> Result<Option<Run>, Malformed> {
        while let Some((mut run, bytes)) = self.next_fragment()? {
            if !is_wanted(&run) {
                self.skip(bytes)?;
                continue;
            }
            run.data = vec![0; total(&run.samples)];
            self.file.read_exact(&mut run.data)?;
            self.skip(bytes - run.data.len() as u64)?;
            return Ok(Some(run));
        }
        Ok(None)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), Malformed> {
        Ok(self.file.seek_relative(i64::try_from(bytes).map_err(|_| Malformed::CutOff)?)?)
    }

    /// Reads up to the bytes of the next fragment's samples, and says how many bytes follow.
    fn next_fragment(&mut self) -> Result<Option<(Run, u64)>, Malformed> {
        loop {
            let Some((kind, length, header)) = next_header(&mut self.file, &mut self.left)? else {
                return Ok(None);
            };
            if kind != Moof::KIND {
                self.skip(length)?;
                continue;
            }
            let moof = whole(&mut self.file, &header, length)?;
            let run = self.listed(&Moof::decode(&mut &*moof)?)?;
            let mdat = next_header(&mut self.file, &mut self.left)?;
            let Some((Mdat::KIND, length, _)) = mdat else { return Err(Malformed::Missing("mdat")) };
            if length < total(&run.samples) as u64 {
                return Err(Malformed::CutOff);
            }
            if run.samples.is_empty() {
                self.skip(length)?;
                continue;
            }
            return Ok(Some((run, length)));
        }
    }

    /// The samples that a fragment lists, which must go on where the one before it ended.
    fn listed(&mut self, moof: &Moof) -> Result<Run, Malformed> {
        let [track] = moof.traf.as_slice() else { return Err(Malformed::Missing("one track")) };
        let start = track.tfdt.as_ref().ok_or(Malformed::Missing("tfdt"))?.base_media_decode_time;
        if start != self.next {
            return Err(Malformed::Gap {
                expected: self.init.seconds(self.next),
                found: self.init.seconds(start),
            });
        }
        let (of_track, of_file) = (&track.tfhd, &self.init.defaults);
        let samples = track.trun.iter().flat_map(|run| run.samples.iter()).map(|entry| {
            let duration = entry.duration.or(of_track.default_sample_duration).or(of_file.duration);
            let bytes = entry.size.or(of_track.default_sample_size).or(of_file.size);
            let flags = entry.flags.or(of_track.default_sample_flags).or(of_file.flags);
            Ok(Sample {
                duration: duration.unwrap_or_default(),
                bytes: bytes.unwrap_or_default(),
                delay: u32::try_from(entry.cts.unwrap_or(0))
                    .map_err(|_| Malformed::Missing("samples that are shown after they are decoded"))?,
                is_key: flags.unwrap_or_default() & IS_NO_KEY_FRAME == 0,
            })
        });
        let run = Run { start, samples: samples.collect::<Result<_, Malformed>>()?, data: Vec::new() };
        self.next = run.end();
        Ok(run)
    }
}

/// Kind of the next box, the length of its body, and its header; nothing at the end of the file.
fn next_header(file: &mut impl Read, left: &mut u64) -> Result<Option<(FourCC, u64, Vec<u8>)>, Malformed> {
    if *left == 0 {
        return Ok(None);
    }
    let mut header = vec![0; 8];
    file.read_exact(&mut header)?;
    if header.starts_with(&[0, 0, 0, 1]) {
        header.resize(16, 0);
        file.read_exact(&mut header[8..])?;
    }
    let known = header.len() as u64;
    let Header { kind, size } = Header::decode(&mut header.as_slice())?;
    let length = size.map_or(left.saturating_sub(known), |size| size as u64);
    *left = left.checked_sub(known).and_then(|left| left.checked_sub(length)).ok_or(Malformed::CutOff)?;
    Ok(Some((kind, length, header)))
}

/// The next box, with its header.
fn next_box(file: &mut impl Read, left: &mut u64) -> Result<Option<(FourCC, Vec<u8>)>, Malformed> {
    let Some((kind, length, header)) = next_header(file, left)? else { return Ok(None) };
    Ok(Some((kind, whole(file, &header, length)?)))
}

/// A box whose header was read.
fn whole(file: &mut impl Read, header: &[u8], length: u64) -> Result<Vec<u8>, Malformed> {
    if length > LARGEST_BOX {
        return Err(Malformed::TooLarge);
    }
    let mut bytes = header.to_vec();
    // Not with `read_exact`: only what is there takes room.
    if file.take(length).read_to_end(&mut bytes)? as u64 != length {
        return Err(Malformed::CutOff);
    }
    Ok(bytes)
}

/// Writes samples as one fragment, the `number`th of its track.
pub fn write(samples: View<'_>, init: &Init, number: u32, into: &mut Vec<u8>) -> Result<(), Malformed> {
    let [first, others @ ..] = samples.samples else { return Err(Malformed::Missing("samples")) };
    let is_even = others.iter().all(|sample| sample.duration == first.duration);
    let is_reordered = samples.samples.iter().any(|sample| sample.delay != 0);
    let entry = |sample: &Sample, flags: Option<u32>| TrunEntry {
        duration: (!is_even).then_some(sample.duration),
        size: Some(sample.bytes),
        flags,
        cts: is_reordered.then_some(sample.delay.into()),
    };
    // In one picture's flags there is room for what is different about the first.
    let flags = |sample: &Sample| if sample.is_key { KEY_FRAME } else { PREDICTED };
    let usual = others.first().map_or(flags(first), flags);
    let is_usual = others.iter().all(|sample| flags(sample) == usual);
    let entries = samples.samples.iter().enumerate().map(|(i, sample)| {
        let is_told = !is_usual || (i == 0 && flags(sample) != usual);
        entry(sample, is_told.then(|| flags(sample)))
    });
    let mut moof = Moof {
        mfhd: Mfhd { sequence_number: number },
        traf: vec![Traf {
            tfhd: Tfhd {
                track_id: init.track,
                default_sample_duration: is_even.then_some(first.duration),
                default_sample_flags: Some(usual),
                default_base_is_moof: true,
                ..Tfhd::default()
            },
            tfdt: Some(Tfdt { base_media_decode_time: samples.start }),
            trun: vec![Trun { data_offset: Some(0), samples: entries.collect::<Vec<_>>().into() }],
            ..Traf::default()
        }],
    };
    let mut boxes = Vec::new();
    moof.encode(&mut boxes)?;
    // The samples follow the header of `mdat`, which follows `moof`: only now is it known how long that is.
    let header = Header { kind: Mdat::KIND, size: Some(samples.data.len()) };
    let offset = boxes.len() + 8;
    moof.traf[0].trun[0].data_offset = Some(i32::try_from(offset).map_err(|_| Malformed::TooLarge)?);
    boxes.clear();
    moof.encode(&mut boxes)?;
    header.encode(&mut boxes)?;
    into.append(&mut boxes);
    into.extend_from_slice(samples.data);
    Ok(())
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
    /// It ends too soon.
    #[error("it is cut off")]
    CutOff,
    /// Something that must be there is not.
    #[error("it lacks {0}")]
    Missing(&'static str),
    /// A box is larger than one can be.
    #[error("a part of it is too large")]
    TooLarge,
    /// A fragment does not go on where the one before it ended.
    #[error("it jumps from {expected:.3} s to {found:.3} s")]
    Gap {
        /// Seconds from the beginning.
        expected: f64,
        /// Seconds from the beginning.
        found: f64,
    },
    /// A box cannot be read.
    #[error(transparent)]
    Box(#[from] mp4_atom::Error),
    /// The file cannot be read.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Malformed {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::CutOff } else { Self::Io(error) }
    }
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Avc1, Avcc, Mvex, Trex};

    use super::*;

    /// `ftyp` and `moov` of a track of H.264 with 30,000 ticks a second, as ffmpeg would have made them.
    fn init_bytes() -> Vec<u8> {
        let avcc = Avcc::new(&[0x67, 0x64, 0, 0x1f], &[0x68]).unwrap();
        let visual = Visual { width: 1280, height: 720, ..Visual::default() };
        let entry = Codec::Avc1(Avc1 { visual, avcc, ..Avc1::default() });
        let mut track = Trak::default();
        track.tkhd.track_id = 7;
        track.mdia.mdhd.timescale = 30_000;
        track.mdia.minf.stbl.stsd.codecs = vec![entry];
        let extends = Trex { track_id: 7, default_sample_duration: 1001, ..Trex::default() };
        let mvex = Some(Mvex { trex: vec![extends], ..Mvex::default() });
        let mut bytes = b"\0\0\0\x10ftypisom\0\0\0\0".to_vec();
        Moov { trak: vec![track], mvex, ..Moov::default() }.encode(&mut bytes).unwrap();
        bytes
    }

    fn samples(delays: &[u32], is_key: bool) -> Vec<Sample> {
        let sample = |(i, delay): (usize, &u32)| Sample {
            duration: 1001,
            bytes: u32::try_from(i).unwrap() + 2,
            delay: *delay,
            is_key: is_key && i == 0,
        };
        delays.iter().enumerate().map(sample).collect()
    }

    fn run(start: u64, delays: &[u32], is_key: bool) -> Run {
        let samples = samples(delays, is_key);
        Run { start, data: (0..=255).cycle().take(total(&samples)).collect(), samples }
    }

    fn file(parts: &[&[u8]]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), parts.concat()).unwrap();
        file
    }

    fn written(run: &Run) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(run.view(), &Init::read(&init_bytes()).unwrap(), 1, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn samples_come_out_as_they_went_in() {
        let first = run(0, &[2002, 5005, 2002, 0], true);
        let mut second = run(4004, &[0, 0, 0], false);
        second.samples[1].duration = 2002;
        let mut third = run(first.end() + second.end() - second.start, &[0], true);
        third.samples[0].duration = 5;
        // Whatever else a muxer puts there.
        let others = b"\0\0\0\x10stypmsdh\0\0\0\0\0\0\0\x0csidx\0\0\0\0";
        let file =
            file(&[&init_bytes(), others, &written(&first), &written(&second), others, &written(&third)]);

        let mut reader = Reader::open(file.path()).unwrap();
        assert_eq!(reader.init_bytes, init_bytes());
        assert_eq!((reader.init.codecs.as_str(), reader.init.size), ("avc1.64001f", Some((1280, 720))));
        assert_eq!(reader.next_run().unwrap().unwrap(), first);
        let list = reader.next_list().unwrap().unwrap();
        assert_eq!((list.start, &list.samples, list.data.len()), (second.start, &second.samples, 0));
        assert_eq!(reader.next_run().unwrap().unwrap(), third);
        assert_eq!(reader.next_run().unwrap(), None);
    }

    /// By ISO 14496-12 §8.8, not by the crate that wrote it.
    #[test]
    fn a_fragment_is_made_of_the_boxes_that_players_know() {
        let bytes = written(&run(0x1234, &[2002, 0], true));
        let expected = [
            &b"\0\0\0\x74moof\0\0\0\x10mfhd\0\0\0\0\0\0\0\x01\0\0\0\x5ctraf"[..],
            // Base is moof, default duration 1001, and flags of one that depends on others.
            b"\0\0\0\x18tfhd\0\x02\0\x28\0\0\0\x07\0\0\x03\xe9\x01\x01\0\0",
            b"\0\0\0\x14tfdt\x01\0\0\0\0\0\0\0\0\0\x12\x34",
            // Data offset, flags of the first; size and composition offset of each.
            b"\0\0\0\x28trun\x01\0\x0a\x05\0\0\0\x02\0\0\0\x7c\x02\0\0\0\0\0\0\x02\0\0\x07\xd2\0\0\0\x03\0\0\0\0",
            b"\0\0\0\x0dmdat\0\x01\x02\x03\x04",
        ];
        assert_eq!(bytes, expected.concat());
    }

    #[test]
    fn a_run_is_divided_at_key_frames_and_anywhere() {
        let mut all = run(0, &[0, 0, 0], true);
        all.append(run(3003, &[0, 0], true));
        let groups: Vec<_> =
            all.groups().map(|group| (group.start, group.samples.len(), group.data.len())).collect();
        assert_eq!(groups, [(0, 3, 9), (3003, 2, 5)]);
        let whole = all.clone();
        let rest = all.split_off(1);
        assert_eq!((all.end(), rest.start, rest.samples.len(), rest.data.len()), (1001, 1001, 4, 12));
        all.append(rest);
        assert_eq!(all, whole);
    }

    #[test]
    fn a_file_that_is_no_such_track_is_refused() {
        let good = written(&run(0, &[0, 0], true));
        let init = init_bytes();
        let fault = |parts: &[&[u8]]| {
            let file = file(parts);
            let mut reader = Reader::open(file.path()).map_err(|error| error.to_string())?;
            while reader.next_run().map_err(|error| error.to_string())?.is_some() {}
            Ok::<_, String>(())
        };
        assert_eq!(fault(&[&init, &good]), Ok(()));
        for end in 1..good.len() {
            assert!(fault(&[&init, &good[..end]]).is_err(), "{end}");
        }
        assert!(fault(&[]).is_err());
        assert!(fault(&[b"\0\0\0\x08mdat"]).unwrap_err().contains("lacks moov"));
        assert!(fault(&[&init, &good[..good.len() - 13]]).unwrap_err().contains("lacks mdat"));
        assert!(fault(&[b"\xff\xff\xff\xffmoov"]).unwrap_err().contains("cut off"));
        let gap = written(&run(5005, &[0], true));
        assert_eq!(fault(&[&init, &good, &gap]).unwrap_err(), "it jumps from 0.067 s to 0.167 s");
    }

    /// The examples of ISO 14496-15 annex E.3, and of the AV1 binding §5.
    #[test]
    fn codecs_are_named_as_the_standards_name_them() {
        let config = Hvcc {
            general_profile_idc: 1,
            general_profile_compatibility_flags: [0x60, 0, 0, 0],
            general_level_idc: 93,
            general_constraint_indicator_flags: [0xb0, 0, 0, 0, 0, 0],
            ..Hvcc::new()
        };
        assert_eq!(hevc(&config), "hvc1.1.6.L93.B0");
        let config = Hvcc { general_tier_flag: true, general_constraint_indicator_flags: [0; 6], ..config };
        assert_eq!(hevc(&config), "hvc1.1.6.H93");
        let config = Av1c { seq_level_idx_0: 4, high_bitdepth: true, ..Av1c::default() };
        assert_eq!(av1(&config), "av01.0.04M.10");
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
