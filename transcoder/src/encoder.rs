//! The machines that turn a [`Plan`] into fragments.

pub mod ffmpeg;
pub mod mediaconvert;

use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::mediaconvert::Errand;
use crate::plan::{Options, Plan};
use crate::{Class, Progress};

/// What encodes, as one chooses it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Encoder {
    /// The ffmpeg of this machine.
    #[default]
    Ffmpeg,
    /// AWS Elemental MediaConvert; for what it cannot do, the ffmpeg of this machine.
    MediaConvert,
}

/// What encodes, ready to do one job.
#[derive(Clone, Debug, Default)]
pub enum Machine {
    /// The ffmpeg of this machine.
    #[default]
    Ffmpeg,
    /// MediaConvert, which has to know what for.
    MediaConvert(Arc<Errand>),
}

impl Machine {
    /// Leaves in `output`, for each rendition and each track of sound, one file `<name>.mp4`: fragmented MP4 of that
    /// track, a fragment for every group of pictures or about 2 s of sound, without edit lists, decoding times from 0
    /// on; and for each track of captions in the source `<name>.vtt`, in a format that `captions` reads. Says what was
    /// run.
    ///
    /// Dropped before it is done, it stops the encoding on this machine. What goes on elsewhere goes on, and is found
    /// again by the next call, unless [`Machine::abandon`] stops it.
    pub async fn encode(
        &self,
        plan: &Plan,
        options: &Options,
        output: &Path,
        progress: &dyn Progress,
    ) -> Result<Vec<String>, Error> {
        match self {
            Self::Ffmpeg => ffmpeg::encode(plan, options, output, progress).await?,
            Self::MediaConvert(errand) => errand.encode(plan, options, output, progress).await?,
        }
        Ok(self.commands(plan, options))
    }

    /// Stops what goes on outside of this process, and removes what is left there: nobody wants it any more.
    pub async fn abandon(&self) -> Result<(), Error> {
        match self {
            Self::Ffmpeg => Ok(()),
            Self::MediaConvert(errand) => Ok(errand.abandon().await?),
        }
    }

    /// What it calls itself, with its version; nothing if it does not say.
    pub async fn version(&self) -> String {
        match self {
            Self::MediaConvert(errand) if !errand.is_by_ffmpeg() => "AWS Elemental MediaConvert".to_owned(),
            Self::Ffmpeg | Self::MediaConvert(_) => ffmpeg::version().await,
        }
    }

    /// What is run for a plan: the command as one would type it in the folder that is written to, the input by its file
    /// name; or the job as the AWS CLI takes it.
    #[must_use]
    pub fn commands(&self, plan: &Plan, options: &Options) -> Vec<String> {
        match self {
            Self::MediaConvert(errand) if !errand.is_for_ffmpeg(plan) => vec![errand.job(plan, options)],
            Self::Ffmpeg | Self::MediaConvert(_) => vec![ffmpeg::typed(plan, options)],
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
    /// It ran, and got on, but not fast enough.
    #[error("ffmpeg was not done after {} minutes and was stopped: this machine is too slow for it", .after.as_secs() / 60)]
    TooSlow {
        /// How long it was waited for.
        after: Duration,
    },
    /// It ran, but got nowhere.
    #[error("ffmpeg made no progress for {} s and was stopped: {reason}", .after.as_secs())]
    Stalled {
        /// How long it was waited for.
        after: Duration,
        /// The last that it said.
        reason: String,
    },
    /// MediaConvert did not do it.
    #[error(transparent)]
    MediaConvert(#[from] mediaconvert::Error),
}

impl Error {
    /// What is to be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NotInstalled | Self::Lacking(_) => Class::Settings,
            // Killed, by whomever: it did not say itself that it cannot.
            Self::Failed { status, .. } if status.code().is_none() => Class::Busy,
            Self::Failed { reason, .. } if reason.contains("Cannot allocate memory") => Class::Busy,
            Self::Failed { .. } => Class::Source,
            Self::NotStarted(_) | Self::TooSlow { .. } | Self::Stalled { .. } => Class::Busy,
            Self::MediaConvert(error) => error.class(),
        }
    }
}
