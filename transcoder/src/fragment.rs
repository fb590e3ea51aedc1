//! The boxes of fragmented MP4: what is read from them, and the two things in them that are put right.
//!
//! ffmpeg without edit lists starts every track at 0 *by decoding order*, so a picture that waits for those it
//! is predicted from is shown late, and lips move after the words. The delay is taken out of every sample's
//! composition offset (signed, as version 1 of `trun` allows), so the first picture is shown at 0. And `sidx`,
//! which then would lie, is left out: HLS has no use for it.

use mp4_atom::{Atom, Codec, Decode, Encode, FourCC, Header, Moof, Moov, Sidx, Styp};

/// What an initialisation section says.
#[derive(Clone, Debug, PartialEq)]
pub struct Init {
    /// The codec, in the words of RFC 6381.
    pub codecs: String,
    /// Ticks a second.
    pub timescale: u32,
    /// Size of the picture, if it is one.
    pub size: Option<(u32, u32)>,
    default_duration: u32,
    default_flags: u32,
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
    pub delay: i64,
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
                self.delay = sample.cts.unwrap_or(0);
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

/// The bytes of a segment as they are published: everything shown `delay` ticks earlier, fragments numbered from
/// `number` on. Where `continues` is set, they can be added to those of the segment before.
pub fn rewritten(bytes: &[u8], delay: i64, number: u32, continues: bool) -> Result<Vec<u8>, Malformed> {
    let mut written = Vec::with_capacity(bytes.len());
    let mut number = number;
    for part in boxes(bytes)? {
        match part.kind {
            Sidx::KIND => {}
            Styp::KIND if continues => {}
            Moof::KIND => {
                let mut moof = Moof::decode(&mut &*part.bytes)?;
                moof.mfhd.sequence_number = number;
                number = number.saturating_add(1);
                show_earlier(&mut moof, delay);
                move_data(&mut moof, part.bytes.len())?;
                moof.encode(&mut written)?;
            }
            _ => written.extend_from_slice(part.bytes),
        }
    }
    Ok(written)
}

fn show_earlier(moof: &mut Moof, delay: i64) {
    if delay == 0 {
        return;
    }
    for run in moof.traf.iter_mut().flat_map(|track| &mut track.trun) {
        let mut samples: Vec<_> = run.samples.iter().collect();
        for sample in &mut samples {
            sample.cts = Some(sample.cts.unwrap_or(0) - delay);
        }
        run.samples = samples.into();
    }
}

/// Samples are found by their distance from the beginning of the moof, which may have grown.
fn move_data(moof: &mut Moof, length_before: usize) -> Result<(), Malformed> {
    let mut encoded = Vec::new();
    moof.encode(&mut encoded)?;
    let too_large = |_| Malformed::Missing("a sensible size");
    let before = i64::try_from(length_before).map_err(too_large)?;
    let growth = i64::try_from(encoded.len()).map_err(too_large)? - before;
    for run in moof.traf.iter_mut().flat_map(|track| &mut track.trun) {
        let offset = run.data_offset.ok_or(Malformed::Missing("data offset"))?;
        run.data_offset = Some(i32::try_from(i64::from(offset) + growth).map_err(too_large)?);
    }
    Ok(())
}

/// A box with its header.
struct Part<'a> {
    kind: FourCC,
    bytes: &'a [u8],
}

fn boxes(mut bytes: &[u8]) -> Result<Vec<Part<'_>>, Malformed> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let mut rest = bytes;
        let header = Header::decode(&mut rest)?;
        let header_length = bytes.len() - rest.len();
        let length = header.size.map_or(bytes.len(), |size| size.saturating_add(header_length));
        let (part, rest) = bytes.split_at_checked(length).ok_or(Malformed::CutOff)?;
        parts.push(Part { kind: header.kind, bytes: part });
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
    /// A box cannot be read or written.
    #[error(transparent)]
    Box(#[from] mp4_atom::Error),
}
