//! The machines that turn a [`Plan`] into fragments.

pub mod ffmpeg;

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use clap::ValueEnum;

use crate::Progress;
use crate::plan::{Options, Plan};

/// What encodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Encoder {
    /// The ffmpeg of this machine.
    Ffmpeg,
}

impl Encoder {
    /// Leaves in `output`, for each rendition and each track of sound, one file `<name>.mp4`: fragmented MP4 of that
    /// track, a fragment for every group of pictures or about 2 s of sound, without edit lists, decoding times from 0
    /// on; and for each track of captions in the source `<name>.vtt`, in a format that `captions` reads. Says what was
    /// run.
    ///
    /// Dropped before it is done, it stops the encoding.
    pub async fn encode(
        self,
        plan: &Plan,
        options: &Options,
        output: &Path,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, Error> {
        match self {
            Self::Ffmpeg => ffmpeg::encode(plan, options, output, progress).await?,
        }
        Ok(self.commands(plan, options))
    }

    /// What it calls itself, with its version; nothing if it does not say.
    pub async fn version(self) -> String {
        match self {
            Self::Ffmpeg => ffmpeg::version().await,
        }
    }

    /// What is run for a plan, as one would type it in the folder that is written to; the input by its file name.
    #[must_use]
    pub fn commands(self, plan: &Plan, options: &Options) -> Vec<String> {
        match self {
            Self::Ffmpeg => vec![ffmpeg::typed(plan, options)],
        }
    }
}

/// Name of the file that a rendition or a track of sound is left in.
#[must_use]
pub fn track_file(name: &str) -> String {
    format!("{name}.mp4")
}

/// Name of the file that captions of the source are left in.
#[must_use]
pub fn captions_file(name: &str) -> String {
    format!("{name}.vtt")
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
    /// It has not got a part that this source or these options need.
    #[error(
        "this ffmpeg is built without {0}, which is needed here: install one that has it, such as Debian's"
    )]
    Lacking(String),
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
