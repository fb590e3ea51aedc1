//! Samples of one track into the bytes of segments, in the container that was asked for.

use std::ops::Range;

use crate::cut::Timeline;
use crate::fragment::{self, Init, Malformed, Run, View};
use crate::plan::Container;
use crate::transport_stream::{self, Sample, TIMESCALE, Writer};

/// Packs the segments of one track, in order.
pub(super) struct Packer<'a> {
    init: &'a Init,
    writing: Writing,
}

enum Writing {
    Fragments {
        /// How many there are so far.
        count: u32,
    },
    Stream(Box<Writer>),
}

/// A segment.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pub(super) bytes: Vec<u8>,
    /// The key frames of a picture.
    pub(super) key_frames: Vec<PackedKeyFrame>,
}

impl Packed {
    /// For samples that need an eighth more at most, so that nothing has to be moved.
    fn with_room(run: &Run) -> Self {
        let room = run.data.len() / 8 + 4096;
        Self { bytes: Vec::with_capacity(run.data.len() + room), key_frames: Vec::new() }
    }
}

/// A key frame of a segment.
#[derive(Clone, Debug)]
pub(super) struct PackedKeyFrame {
    /// What a playlist names where the segment can be read in parts.
    pub(super) range: Range<usize>,
    /// The same as something that can be played by itself.
    pub(super) alone: Range<usize>,
    /// How long it is until the next one.
    pub(super) seconds: f64,
}

impl<'a> Packer<'a> {
    pub(super) fn new(container: Container, timeline: &'a Timeline) -> Result<Self, Fault> {
        let init = &timeline.init;
        let writing = match container {
            Container::Fmp4 => Writing::Fragments { count: 0 },
            Container::Ts => {
                let codec = transport_stream::Codec::try_from(&init.codec)?;
                Writing::Stream(Box::new(Writer::new(codec, stream_time(timeline.delay, init))?))
            }
        };
        Ok(Self { init, writing })
    }

    pub(super) fn extension(&self) -> &'static str {
        match self.writing {
            Writing::Fragments { .. } => "m4s",
            Writing::Stream(_) => "ts",
        }
    }

    /// A segment of these samples.
    pub(super) fn pack(&mut self, run: &Run) -> Result<Packed, Fault> {
        match &mut self.writing {
            Writing::Fragments { count } => Ok(fragments(run, self.init, count)?),
            Writing::Stream(writer) => Ok(stream(run, self.init, writer)?),
        }
    }
}

/// A key frame gets a fragment of its own, and those that are predicted from it another: then what a playlist of key
/// frames names is whole, and not the beginning of something that a reader misses the rest of.
fn fragments(run: &Run, init: &Init, count: &mut u32) -> Result<Packed, Malformed> {
    let mut packed = Packed::with_room(run);
    let mut write = |samples: View<'_>, bytes: &mut Vec<u8>| {
        *count += 1;
        fragment::write(samples, init, *count, bytes)
    };
    if init.size.is_none() {
        write(run.view(), &mut packed.bytes)?;
        return Ok(packed);
    }
    for group in run.groups() {
        let (key_frame, others) = group.split(1);
        let start = packed.bytes.len();
        write(key_frame, &mut packed.bytes)?;
        let range = start..packed.bytes.len();
        packed.key_frames.push(PackedKeyFrame { alone: range.clone(), range, seconds: seconds(group, init) });
        if !others.samples.is_empty() {
            write(others, &mut packed.bytes)?;
        }
    }
    Ok(packed)
}

fn stream(run: &Run, init: &Init, writer: &mut Writer) -> Result<Packed, transport_stream::Error> {
    let mut samples = Vec::with_capacity(run.samples.len());
    let (mut start, mut data) = (run.start, run.data.as_slice());
    for sample in &run.samples {
        let (own, rest) = data.split_at(sample.bytes as usize);
        samples.push(Sample {
            data: own,
            decode: stream_time(start, init),
            present: stream_time(start + u64::from(sample.delay), init),
            is_key: sample.is_key,
        });
        start += u64::from(sample.duration);
        data = rest;
    }
    let mut packed = Packed::with_room(run);
    let key_frames = writer.segment(&samples, &mut packed.bytes)?;
    packed.key_frames.extend(key_frames.into_iter().zip(run.groups()).map(|(range, group)| PackedKeyFrame {
        alone: transport_stream::with_tables(range.clone()),
        range,
        seconds: seconds(group, init),
    }));
    Ok(packed)
}

fn seconds(group: View<'_>, init: &Init) -> f64 {
    init.seconds(group.end()) - init.seconds(group.start)
}

/// Ticks of a track in those of a stream.
fn stream_time(ticks: u64, init: &Init) -> u64 {
    let timescale = u64::from(init.timescale);
    (ticks * TIMESCALE + timescale / 2) / timescale
}

/// Why samples cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// They are not as they should be.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A transport stream cannot carry them.
    #[error(transparent)]
    Stream(#[from] transport_stream::Error),
}
