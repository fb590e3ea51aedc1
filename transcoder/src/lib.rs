//! From an uploaded video to signed HLS.
//!
//! ```text
//! input ─▶ probe ─▶ Source ─▶ plan ─▶ Plan ─▶ encoder ─▶ fragments ─▶ package ─▶ Asset ─▶ storage
//!          ffprobe            pure            ffmpeg                  measures,           folder or
//!                                             (one process)           writes playlists    S3 bucket
//! ```
//!
//! Deciding *what* to make ([`plan`], by the [`ladder`]) is separate from making it ([`encoder`]), so that every
//! encoder makes the same thing and the decision can be tested without any. What an encoder leaves is only
//! believed as far as it was measured: the boxes are read ([`fragment`]), and every word of every playlist
//! ([`playlist`]) comes from them. [`encode()`] is all of it, in order; [`go_on`] is the same in a folder that outlives
//! the process, and begins with the first step that is not done yet.
//!
//! Whoever may watch what was made gets a URL from [`sign`], by the private half of a pair from [`keygen`].

pub mod asset;
pub mod captions;
pub mod cut;
pub mod encode;
pub mod encoder;
pub mod encryption;
pub mod event;
pub mod fragment;
pub mod gc;
pub mod http;
pub mod intake;
pub mod jobs;
pub mod keygen;
pub mod ladder;
pub mod language;
pub mod lint;
pub mod metrics;
pub mod package;
pub mod pictures;
pub mod plan;
pub mod playback;
pub mod playlist;
pub mod probe;
pub mod quality;
pub mod retry;
pub mod rollback;
pub mod serve;
pub mod service;
pub mod sign;
pub mod storage;
pub mod transport_stream;
pub mod upload;
pub mod webhook;
mod work;

use std::io::{self, ErrorKind};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
pub use tokio_util::sync::CancellationToken;

use crate::asset::{AssetId, Generation, Versions};
use crate::captions::Cues;
use crate::encoder::Machine;
use crate::package::{Edition, Encoded, Keep, Package};
use crate::plan::{CaptionSource, Options, Plan};
use crate::probe::Source;
use crate::storage::Store;

/// What is to be encoded.
#[derive(Clone, Debug)]
pub struct Job {
    /// The video, a file of this machine.
    pub input: PathBuf,
    /// What it will be called in the bucket.
    pub asset: AssetId,
    /// What encodes it.
    pub encoder: Machine,
    /// How.
    pub options: Options,
}

/// What makes it, as `asset.json` says.
const VERSION: &str = concat!("reelgate ", env!("CARGO_PKG_VERSION"));

/// What came of a job.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Published {
    /// Key of the multivariant playlist, which is also the path of its URL at the edge.
    pub playlist: String,
    /// The generation that the playlist now names.
    pub generation: Generation,
}

/// Does what is left to do of a job in a folder of its own, which outlives the process: what was encoded, and what was
/// packaged, is not done again. When this fails, the folder and what is in the store are as the next attempt goes on from;
/// whoever makes none removes the folder and calls [`Store::discard`].
///
/// `uploaded` is when its source was put where it was found: an asset that was made of something newer is not replaced
/// ([`storage::Error::Superseded`]). `by` is the job's id, for `asset.json`.
pub async fn go_on(
    job: &Job,
    work: &Work,
    store: &Store,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Published, Error> {
    let edition = &work.edition;
    let package = tokio::select! {
        // As it does where the process ended between the last put and saying so.
        played = store.played(&edition.asset) => {
            if played?.as_ref() == Some(&edition.generation) {
                return Ok(published(store, edition));
            }
            prepared(job, work, store, Keep::Everything, progress, cancel).await?
        }
        () = cancel.cancelled() => return Err(Error::Cancelled),
    };
    store.publish(&package, progress, cancel).await?;
    Ok(published(store, edition))
}

/// Where and as what a job is done.
#[derive(Clone, Debug)]
pub struct Work {
    /// Where its files are, and what is known of what is done.
    pub folder: PathBuf,
    /// What it makes.
    pub edition: Edition,
    /// When its source was uploaded.
    pub uploaded: Option<Timestamp>,
    /// Who asked: a job's id.
    pub by: Option<String>,
}

/// What is to be done about an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// The source is at fault: nothing helps but another one.
    Source,
    /// Somebody has to change something first: rights, settings, a program that is missing.
    Settings,
    /// It may go well the next time: a server is busy or away, a process was killed.
    Busy,
    /// There is no room on this machine's disk.
    Full,
    /// Somebody wanted it, or something newer is there.
    Stopped,
}

/// Somebody who wants to know how far a job is. `()` does not.
pub trait Progress: Send + Sync {
    /// It is being found out what the source is.
    fn probing(&self) {}

    /// So much of the source's running time is encoded.
    fn encoded(&self, _done: Duration, _total: Duration) {}

    /// An encoder elsewhere does it, and calls the job so.
    fn outside(&self, _job: &str) {}

    /// So many bytes are cut into segments.
    fn packaged(&self, _done: u64, _total: u64) {}

    /// So many bytes are in the bucket.
    fn published(&self, _done: u64, _total: u64) {}
}

impl Progress for () {}

/// Does a job from its beginning to its end: what was published is playable when this returns.
///
/// Cancelled, it stops the encoder, takes back what it put into the store, and leaves no files.
pub async fn encode(
    job: &Job,
    store: &Store,
    now: Timestamp,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Published, Error> {
    // Declared first, so dropped last: the encoder is stopped before its folder goes.
    let workspace = tempfile::Builder::new().prefix("reelgate-").tempdir().map_err(Error::TemporaryFolder)?;
    let generation = Generation::new(now, asset::nonce());
    let edition = Edition { asset: job.asset.clone(), generation, created: now };
    let work = Work { folder: workspace.path().to_owned(), edition, uploaded: None, by: None };
    let package = prepared(job, &work, store, Keep::Nothing, progress, cancel).await?;
    let edition = &work.edition;
    let Err(error) = store.publish(&package, progress, cancel).await else {
        return Ok(published(store, edition));
    };
    let error = Box::new(error);
    Err(match store.discard(&edition.asset, &edition.generation).await {
        Ok(()) => storage::Error::TakenBack { error },
        Err(left) => storage::Error::LeftBehind { error, left: left.to_string() },
    })?
}

fn published(store: &Store, edition: &Edition) -> Published {
    Published { playlist: store.key(&edition.asset.playlist_key()), generation: edition.generation.clone() }
}

/// Makes what is to be published, as far as an attempt before has not; without anything to keep for another one, nothing
/// of it is noted down.
async fn prepared(
    job: &Job,
    work: &Work,
    store: &Store,
    keep: Keep,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Package, Error> {
    let is_kept = keep == Keep::Everything;
    let with_origin = |mut package: Package| {
        package.description.uploaded = work.uploaded;
        package.description.job.clone_from(&work.by);
        package
    };
    let Work { folder, edition, .. } = work;
    if is_kept && let Some(package) = on_disk(work, |work| work::package(&work.folder, &work.edition)).await {
        return Ok(with_origin(package));
    }
    let encoded = if let Some(encoded) = work::encoded(folder, job).filter(|_| is_kept) {
        encoded
    } else {
        work::clear(folder)?;
        let encoded = async {
            store.check(&edition.asset, &edition.generation).await?;
            // In boxes, as all that is deep: what is one within the other is one type to the compiler.
            Box::pin(make(job, folder, progress)).await
        };
        let encoded = tokio::select! {
            encoded = encoded => encoded?,
            () = cancel.cancelled() => return Err(Error::Cancelled),
        };
        if is_kept {
            work::note_encoded(folder, &encoded)?;
        }
        encoded
    };
    let mut package = packaged(encoded, &job.options, edition.clone(), keep, progress, cancel).await?;
    let report = Box::pin(lint::check_package(&package)).await?;
    if report.is_broken() {
        return Err(Error::Broken(report));
    }
    package.description.notes.extend(report.findings.iter().map(ToString::to_string));
    if !is_kept {
        return Ok(package);
    }
    on_disk(work, move |work| work::note_package(&work.folder, &package).map(|()| package))
        .await
        .map(with_origin)
}

/// What takes as long as the disk does.
async fn on_disk<T: Send + 'static>(work: &Work, what: impl FnOnce(&Work) -> T + Send + 'static) -> T {
    let work = work.clone();
    let done = tokio::task::spawn_blocking(move || what(&work)).await;
    done.unwrap_or_else(|fault| resume_unwind(fault.into_panic()))
}

/// What would be made of a job's input, and the commands that would make it.
pub async fn rehearse(job: &Job) -> Result<(Plan, Vec<String>), Error> {
    let plan = plan(job).await?.1;
    let commands = job.encoder.commands(&plan, &job.options);
    Ok((plan, commands))
}

/// What is there, and what is to become of it. Everything that can be found out before hours are spent is.
async fn plan(job: &Job) -> Result<(Source, Plan), Error> {
    let source = probe::probe(&job.input).await?;
    let plan = Plan::for_source(&source, &captions::beside(&job.input), &job.options)?;
    for captions in &plan.captions {
        if let CaptionSource::File(path) = &captions.from {
            // What is empty is left out; what is broken is to be mended.
            if let Err(error) = Cues::read(path)
                && !error.is_empty()
            {
                return Err(error.into());
            }
        }
    }
    if let Some(ffmpeg) = &job.options.vmaf {
        quality::check(ffmpeg).await?;
    }
    Ok((source, plan))
}

/// Encodes, and makes and measures what is made of the encoder's files as they are.
async fn make(job: &Job, folder: &Path, progress: &dyn Progress) -> Result<Encoded, Error> {
    progress.probing();
    let (source, plan) = plan(job).await?;
    let commands = job.encoder.encode(&plan, &job.options, folder, progress).await?;
    let pictures = match pictures::inputs(&plan, folder) {
        Some((small, large)) => Some(pictures::make(&small, &large, plan.duration, folder).await?),
        None => None,
    };
    let vmaf = match &job.options.vmaf {
        Some(ffmpeg) => quality::measure(ffmpeg, &plan, folder).await?,
        None => Vec::new(),
    };
    let versions = Versions { transcoder: VERSION.to_owned(), encoder: job.encoder.version().await };
    Ok(Encoded { folder: folder.to_owned(), source, plan, commands, versions, pictures, vmaf })
}

/// Packages on a thread of its own, because it reads and writes everything once.
async fn packaged(
    encoded: Encoded,
    options: &Options,
    edition: Edition,
    keep: Keep,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Package, Error> {
    let (report, mut reports) = mpsc::unbounded_channel();
    let (options, stop) = (options.clone(), cancel.clone());
    let package = tokio::task::spawn_blocking(move || {
        let go_on = |done, total| {
            // Whoever does not wait for it any more does not want it.
            report.send((done, total)).is_ok() && !stop.is_cancelled()
        };
        package::package(encoded, &options, edition, keep, &go_on)
    });
    while let Some((done, total)) = reports.recv().await {
        progress.packaged(done, total);
    }
    let package = package.await.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    if cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    package.map_err(
        |error| if matches!(error, package::Error::Stopped) { Error::Cancelled } else { error.into() },
    )
}

/// Why a job was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its input is not something to encode.
    #[error(transparent)]
    Probe(#[from] probe::Error),
    /// Nothing can be made of it.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// The encoder failed.
    #[error(transparent)]
    Encoder(#[from] encoder::Error),
    /// Captions that lie beside it are none.
    #[error(transparent)]
    Captions(#[from] captions::Error),
    /// There is no poster, or no storyboard.
    #[error(transparent)]
    Pictures(#[from] pictures::Error),
    /// What is to be measured cannot be.
    #[error(transparent)]
    Quality(#[from] quality::Error),
    /// What the encoder made is not fit to be published.
    #[error(transparent)]
    Package(#[from] package::Error),
    /// It could not be checked.
    #[error("what was made cannot be checked: {0}")]
    Lint(#[from] lint::Error),
    /// It breaks rules that players rely on.
    #[error(
        "what was made of it would not play everywhere, so it was not published; please report this, with the source:\n{0}"
    )]
    Broken(lint::Report),
    /// The store does not take it.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// There is no place for the encoder to write to.
    #[error("cannot make a temporary folder ({0}): point TMPDIR at a folder that is writable and has room")]
    TemporaryFolder(io::Error),
    /// The folder that it is done in fails.
    #[error("cannot write to {} ({error}): make the folder writable, and see that there is room", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was asked to stop.
    #[error("stopped; nothing was published")]
    Cancelled,
}

impl Error {
    /// What is to be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        // Most of these come from programs and libraries that only say so in words.
        let words = self.to_string();
        if NO_ROOM.iter().any(|no_room| words.contains(no_room)) {
            return Class::Full;
        }
        match self {
            Self::Probe(error) => class_of_probe(&error.reason),
            Self::Plan(plan::Error::NeedsFmp4) => Class::Settings,
            Self::Captions(captions::Error::Unreadable { source, .. }) => class_of_io(source),
            Self::Plan(plan::Error::Nothing | plan::Error::TooShort { .. })
            | Self::Captions(captions::Error::TooLarge { .. } | captions::Error::Invalid { .. })
            | Self::Broken(_) => Class::Source,
            Self::Encoder(error) => error.class(),
            Self::Pictures(error) => match error {
                pictures::Error::NotInstalled => Class::Settings,
                pictures::Error::NotStarted(error) => class_of_program(error),
                pictures::Error::Input { .. }
                | pictures::Error::NotWritten { .. }
                | pictures::Error::Failed { .. }
                | pictures::Error::Stalled { .. }
                | pictures::Error::Incomplete { .. } => Class::Busy,
            },
            Self::Quality(error) => match error {
                quality::Error::NotStarted { error, .. } => class_of_program(error),
                quality::Error::Lacking(_) => Class::Settings,
                quality::Error::Failed(_) | quality::Error::NoReport(_) => Class::Busy,
            },
            Self::Package(error) => match error {
                package::Error::TooShort { .. }
                | package::Error::Uneven { .. }
                | package::Error::NothingEncoded(_) => Class::Source,
                package::Error::Stopped => Class::Stopped,
                // To a full disk ffmpeg says nothing, and leaves what is malformed.
                package::Error::Malformed { .. }
                | package::Error::Grid { .. }
                | package::Error::Encryption(_)
                | package::Error::Io { .. } => Class::Busy,
            },
            Self::Lint(_) => Class::Busy,
            Self::Storage(error) => error.class(),
            // There is none where there has to be one, or no right to it.
            Self::TemporaryFolder(error) | Self::Folder { error, .. } => class_of_program(error),
            Self::Cancelled => Class::Stopped,
        }
    }
}

/// What systems say of a full disk: Linux and macOS, quotas, Windows.
const NO_ROOM: [&str; 4] = [
    "No space left on device",
    "Disk quota exceeded",
    "quota exceeded (os error",
    "There is not enough space on the disk",
];

fn class_of_probe(reason: &probe::Reason) -> Class {
    use probe::Reason;
    match reason {
        Reason::Unreadable(error) => class_of_io(error),
        Reason::NotInstalled => Class::Settings,
        Reason::NotStarted(error) => class_of_program(error),
        // An answer that breaks off is one of an ffprobe that was killed.
        Reason::Report(_) => Class::Busy,
        Reason::Folder
        | Reason::NoRegularFile
        | Reason::NotAccepted
        | Reason::NoBytes
        | Reason::Truncated
        | Reason::CutOff { .. }
        | Reason::NotVideo(_)
        | Reason::NoTracks
        | Reason::Empty
        | Reason::NoPicture
        | Reason::UnknownCodec
        | Reason::TooManyTracks { .. }
        | Reason::TooLarge { .. }
        | Reason::DolbyVision
        | Reason::TurnsBack { .. }
        | Reason::Jumps(_) => Class::Source,
    }
}

/// Of a file that cannot be read or written.
fn class_of_io(error: &io::Error) -> Class {
    match error.kind() {
        ErrorKind::NotFound => Class::Source,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Class::Settings,
        _ => Class::Busy,
    }
}

/// Of a program that cannot be run.
fn class_of_program(error: &io::Error) -> Class {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Class::Settings,
        _ => Class::Busy,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    /// As `errno(3)` numbers them.
    const NO_SPACE: i32 = 28;
    const QUOTA: i32 = 122;
    const NO_RIGHT: i32 = 13;
    const NO_FILE: i32 = 2;
    const NOT_NOW: i32 = 11;

    fn io(number: i32) -> io::Error {
        io::Error::from_raw_os_error(number)
    }

    fn failed(status: i32, reason: &str) -> Error {
        encoder::Error::Failed { status: ExitStatus::from_raw(status), reason: reason.into() }.into()
    }

    fn in_work(number: i32) -> Error {
        package::Error::Io { path: "1.m4s".into(), error: io(number) }.into()
    }

    fn access(reason: &str) -> Error {
        storage::Error::Access { place: "bucket a".into(), reason: reason.into() }.into()
    }

    #[test]
    fn what_is_to_be_done_depends_on_what_went_wrong() {
        let probe = |reason| Error::from(probe::Error { input: "a.mp4".into(), reason });
        for (class, error) in [
            (Class::Full, in_work(NO_SPACE)),
            (Class::Full, Error::TemporaryFolder(io(QUOTA))),
            (Class::Full, failed(0x100, "av_interleaved_write_frame(): No space left on device")),
            (
                Class::Full,
                storage::Error::Folder { path: "m".into(), reason: io(NO_SPACE).to_string() }.into(),
            ),
            (Class::Source, probe(probe::Reason::Truncated)),
            (Class::Source, probe(probe::Reason::Unreadable(io(NO_FILE)))),
            (Class::Source, failed(0x100, "Invalid data found when processing input")),
            (Class::Settings, probe(probe::Reason::NotInstalled)),
            (Class::Settings, probe(probe::Reason::Unreadable(io(NO_RIGHT)))),
            (Class::Settings, Error::TemporaryFolder(io(NO_FILE))),
            (Class::Settings, plan::Error::NeedsFmp4.into()),
            (Class::Settings, encoder::Error::Lacking("libx264".into()).into()),
            (Class::Settings, storage::Error::NoBucket { place: "bucket a".into() }.into()),
            (
                Class::Settings,
                storage::Error::Folder { path: "m".into(), reason: io(NO_RIGHT).to_string() }.into(),
            ),
            (Class::Settings, access("301 Moved: <Code>PermanentRedirect</Code>")),
            (Class::Busy, access("503 Service Unavailable: <Code>SlowDown</Code>")),
            (Class::Busy, storage::Error::Silent { place: "bucket a".into(), seconds: 20 }.into()),
            (Class::Busy, failed(9, "")),
            (Class::Busy, failed(0x100, "Cannot allocate memory")),
            (Class::Busy, encoder::Error::NotStarted(io(NOT_NOW)).into()),
            (Class::Busy, in_work(5)),
            (Class::Stopped, Error::Cancelled),
            (Class::Stopped, storage::Error::TakenBack { error: storage::Error::Cancelled.into() }.into()),
            (Class::Stopped, storage::Error::Superseded("a".parse().unwrap()).into()),
        ] {
            assert_eq!(error.class(), class, "{error}");
        }
    }
}
