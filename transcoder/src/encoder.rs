//! The machines that turn a [`Plan`] into fragments.

pub mod ffmpeg;

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use clap::ValueEnum;

use crate::Progress;
use crate::plan::Plan;

/// What encodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Encoder {
    /// The ffmpeg of this machine.
    Ffmpeg,
}

impl Encoder {
    /// Leaves a folder in `output` for each rendition and one called `audio` for the sound. In each lie one
    /// `init*.mp4` and segments whose names sort by time.
    ///
    /// Dropped before it is done, it stops the encoding.
    pub async fn encode(self, plan: &Plan, output: &Path, progress: &dyn Progress) -> Result<(), Error> {
        match self {
            Self::Ffmpeg => ffmpeg::encode(plan, output, progress).await,
        }
    }
}

/// Why something was not encoded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no ffmpeg.
    #[error("ffmpeg is not installed: install it (`apt-get install ffmpeg`, `brew install ffmpeg`)")]
    NotInstalled,
    /// It is there, but could not be run or watched.
    #[error("ffmpeg cannot be run: {0}")]
    NotStarted(io::Error),
    /// It gave up.
    #[error("ffmpeg could not encode this ({status}): {reason}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// The last that it said of it.
        reason: String,
    },
    /// It ran, but got nowhere.
    #[error("ffmpeg made no progress for {} s and was stopped: {reason}", .after.as_secs())]
    Stalled {
        /// How long it was waited for.
        after: Duration,
        /// The last that it said.
        reason: String,
    },
}
