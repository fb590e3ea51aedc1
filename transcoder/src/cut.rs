//! Where a track is cut, and its pieces.
//!
//! The first track of an asset decides: its key frames are where it may be cut, and every other track is cut at the
//! same times (Apple's rule 8.22), pictures exactly, sound at the packet that begins nearest to it. To know the
//! times, files are read twice: their lists of samples first, which takes next to no time, and then everything, a
//! segment at a time, so that memory does not grow with the length of a video.

use std::path::Path;
use std::time::Duration;

use crate::fragment::{Init, Malformed, Reader, Run};

/// A last segment shorter than this goes into the one before it: a request for next to nothing. Not more, or that
/// one would be longer than the target duration allows (half a second, Apple's rule 7.7).
const SHORTEST_TAIL: Duration = Duration::from_millis(400);

/// When things happen in a track.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// What the initialisation section says.
    pub init: Init,
    /// The initialisation section.
    pub init_bytes: Vec<u8>,
    /// Where it can be cut, in ticks: at its key frames, or its fragments of sound.
    pub starts: Vec<u64>,
    /// When it ends, in ticks.
    pub end: u64,
    /// When its first packet of sound begins that does not last as long as the others, in ticks. The last one may.
    pub uneven: Option<u64>,
    /// How many bytes its samples have.
    pub bytes: u64,
    /// How many samples it has.
    pub samples: u64,
    /// How long its first sample, which is the first one shown, waits after it was decoded, in ticks.
    pub delay: u64,
}

impl Timeline {
    /// Reads the list of a file's samples.
    pub fn read(path: &Path) -> Result<Self, Malformed> {
        let mut reader = Reader::open(path)?;
        let (mut starts, mut end, mut bytes, mut samples, mut delay) = (Vec::new(), 0, 0, 0, None);
        let (mut length, mut other, mut uneven) = (None, None, None);
        while let Some(run) = reader.next_list()? {
            let mut time = run.start;
            for (i, sample) in run.samples.iter().enumerate() {
                delay.get_or_insert(u64::from(sample.delay));
                // That was not the last one.
                uneven = uneven.or(other.take());
                if *length.get_or_insert(sample.duration) != sample.duration {
                    other = Some(time);
                }
                // Every packet of sound is a key frame.
                if sample.is_key && (i == 0 || reader.init.size.is_some()) {
                    starts.push(time);
                }
                time += u64::from(sample.duration);
                bytes += u64::from(sample.bytes);
            }
            samples += run.samples.len() as u64;
            end = run.end();
        }
        let (Some(delay), Some(0)) = (delay, starts.first()) else {
            return Err(Malformed::Missing("samples, the first of them a key frame"));
        };
        let Reader { init, init_bytes, .. } = reader;
        let uneven = uneven.filter(|_| init.size.is_none());
        Ok(Self { init, init_bytes, starts, end, uneven, bytes, samples, delay })
    }

    /// How long it plays, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.init.seconds(self.end)
    }

    /// Samples a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        f64::from(u32::try_from(self.samples).unwrap_or(u32::MAX)) / self.seconds()
    }

    /// When its segments begin, in seconds, if one is to begin every so often; a short last one is left out.
    #[must_use]
    pub fn cuts(&self, every: Duration) -> Vec<f64> {
        let every = every.as_secs_f64();
        let mut cuts = vec![0.0];
        let mut next = every;
        for start in &self.starts {
            let start = self.init.seconds(*start);
            // Half a frame of the fastest video: what is exact in frames need not be in microseconds.
            if start >= next - 0.008 {
                cuts.push(start);
                while next <= start + 0.008 {
                    next += every;
                }
            }
        }
        if cuts.len() > 1 && self.seconds() - cuts.last().unwrap_or(&0.0) < SHORTEST_TAIL.as_secs_f64() {
            cuts.pop();
        }
        cuts
    }

    /// The first of these times at which it cannot be cut, though it must: at key frames, to the millisecond.
    #[must_use]
    pub fn uncuttable(&self, cuts: &[f64]) -> Option<f64> {
        let mut starts = self.starts.iter().map(|start| self.init.seconds(*start)).peekable();
        cuts.iter().copied().find(|cut| {
            while starts.next_if(|start| *start < cut - 0.001).is_some() {}
            starts.peek().is_none_or(|start| *start > cut + 0.001)
        })
    }
}

/// The segments of a track, one after the other.
#[derive(Debug)]
pub struct Segments<'a> {
    reader: Reader,
    /// When those that are to come begin, in seconds.
    cuts: &'a [f64],
    /// What was read and belongs to the next one.
    rest: Run,
}

impl<'a> Segments<'a> {
    /// Cuts a file at these times.
    pub fn new(path: &Path, cuts: &'a [f64]) -> Result<Self, Malformed> {
        Ok(Self {
            reader: Reader::open(path)?,
            cuts: cuts.get(1..).unwrap_or_default(),
            rest: Run::default(),
        })
    }

    /// The next segment.
    pub fn next_segment(&mut self) -> Result<Option<Run>, Malformed> {
        let mut segment = std::mem::take(&mut self.rest);
        let cut = match self.cuts {
            [cut, later @ ..] => {
                self.cuts = later;
                Some(*cut)
            }
            [] => None,
        };
        loop {
            if let Some(count) = cut.and_then(|cut| self.count_before(&segment, cut)) {
                self.rest = segment.split_off(count);
                break;
            }
            let Some(run) = self.reader.next_run()? else { break };
            segment.append(run);
        }
        Ok((!segment.samples.is_empty()).then_some(segment))
    }

    /// How many of these samples come before a cut; nothing if all of them do.
    fn count_before(&self, run: &Run, cut: f64) -> Option<usize> {
        let mut start = run.start;
        run.samples.iter().position(|sample| {
            let middle =
                self.reader.init.seconds(start) + self.reader.init.seconds(sample.duration.into()) / 2.0;
            start += u64::from(sample.duration);
            middle > cut
        })
    }
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Avc1, Codec};

    use super::*;

    /// 25 ticks a second, with key frames at these.
    fn timeline(starts: &[u64], end: u64) -> Timeline {
        let init = Init::for_test(Codec::Avc1(Avc1::default()), 25, Some((2, 2)));
        let starts = starts.to_vec();
        Timeline { init, init_bytes: Vec::new(), starts, end, uneven: None, bytes: 0, samples: end, delay: 0 }
    }

    #[test]
    fn a_segment_begins_at_the_first_key_frame_that_is_due() {
        let cuts = |starts: &[u64], end| timeline(starts, end).cuts(Duration::from_secs(6));
        assert_eq!(cuts(&[0, 50, 100, 150, 200, 250, 300], 350), [0.0, 6.0, 12.0]);
        // Late key frames do not make those after them late.
        assert_eq!(cuts(&[0, 160, 300], 400), [0.0, 6.4, 12.0]);
        assert_eq!(cuts(&[0, 400], 500), [0.0, 16.0]);
        assert_eq!(cuts(&[0], 1), [0.0]);
    }

    #[test]
    fn a_short_end_gets_no_segment_of_its_own() {
        let cuts = |end| timeline(&[0, 50, 100, 150], end).cuts(Duration::from_secs(6));
        assert_eq!(cuts(159), [0.0]);
        assert_eq!(cuts(160), [0.0, 6.0]);
    }

    #[test]
    fn the_grid_of_29_97_frames_does_not_drift_in_ten_hours() {
        let starts: Vec<u64> = (0..18_000).map(|group| group * 60 * 1001).collect();
        let init = Init::for_test(Codec::Avc1(Avc1::default()), 30_000, Some((2, 2)));
        let end = 18_000 * 60 * 1001;
        let timeline = Timeline { init, starts, end, ..timeline(&[], 0) };
        let cuts = timeline.cuts(Duration::from_millis(6_006));
        assert_eq!(cuts.len(), 6_000);
        assert!((cuts[5_999] - 5_999.0 * 6.006).abs() < 1e-6);
    }

    #[test]
    fn a_track_that_cannot_be_cut_there_says_where() {
        let timeline = timeline(&[0, 50, 149, 200], 250);
        assert_eq!(timeline.uncuttable(&[0.0, 2.0, 8.0]), None);
        assert_eq!(timeline.uncuttable(&[0.0, 6.0, 8.0]), Some(6.0));
        assert_eq!(timeline.uncuttable(&[0.0, 8.0, 10.0]), Some(10.0));
    }
}
