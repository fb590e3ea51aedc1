//! The key frames of what an encoder left, and films of nothing but some of them.
//!
//! ffmpeg can be told to skip what is between key frames, and to seek; but how exactly it does so differs with
//! version and format. A film of just the frames that are wanted leaves nothing to get wrong, and of a long file
//! little is read: the list of each fragment, and those fragments that are copied from.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cut::Timeline;
use crate::fragment::{self, Malformed, Reader};

/// The key frames of a file; at least one.
#[derive(Debug)]
pub(super) struct KeyFrames {
    /// The file.
    pub(super) path: PathBuf,
    timescale: u32,
    /// When each of them is decoded, in ticks, from 0 on.
    starts: Vec<u64>,
}

impl KeyFrames {
    /// Finds them, without reading any.
    pub(super) fn read(path: &Path) -> Result<Self, Malformed> {
        let Timeline { init, starts, .. } = Timeline::read(path)?;
        Ok(Self { path: path.to_owned(), timescale: init.timescale, starts })
    }

    /// When each of them is shown: all wait for the same time after they were decoded.
    pub(super) fn times(&self) -> Vec<Duration> {
        let timescale = u128::from(self.timescale);
        let nanoseconds = |ticks: u64| (u128::from(ticks) * 1_000_000_000 + timescale / 2) / timescale;
        let times = self.starts.iter().map(|ticks| u64::try_from(nanoseconds(*ticks)).unwrap_or(u64::MAX));
        times.map(Duration::from_nanos).collect()
    }

    /// `count` of them, every `step`th.
    pub(super) fn every(mut self, step: usize, count: usize) -> Self {
        self.starts = self.starts.into_iter().step_by(step).take(count).collect();
        self
    }

    /// The one that is shown at a time, or nearest to it.
    pub(super) fn at(mut self, time: Duration) -> Self {
        let times = self.times();
        let nearest = (0..times.len()).min_by_key(|i| times[*i].abs_diff(time));
        self.starts = nearest.map(|i| self.starts.swap_remove(i)).into_iter().collect();
        self
    }

    /// Writes a film of them.
    pub(super) fn film(&self, into: &mut impl Write) -> Result<(), Malformed> {
        let mut reader = Reader::open(&self.path)?;
        into.write_all(&reader.init_bytes)?;
        let mut wanted = (1..).zip(&self.starts).peekable();
        while let Some((_, next)) = wanted.peek().copied() {
            let Some(run) = reader.next_run_if(|list| *next < list.end())? else { break };
            for group in run.groups() {
                if let Some((number, _)) = wanted.next_if(|(_, start)| **start == group.start) {
                    let mut bytes = Vec::new();
                    fragment::write(group.split(1).0, &reader.init, number, &mut bytes)?;
                    into.write_all(&bytes)?;
                }
            }
        }
        Ok(())
    }
}
