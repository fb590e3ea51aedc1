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
//! ([`playlist`]) comes from them. [`encode()`] is all of it, in order.
//!
//! Whoever may watch what was made gets a URL from [`sign`], by the private half of a pair from [`keygen`].

pub mod asset;
pub mod captions;
pub mod cut;
pub mod encode;
pub mod encoder;
pub mod encryption;
pub mod fragment;
pub mod keygen;
pub mod ladder;
pub mod language;
pub mod lint;
pub mod package;
pub mod pictures;
pub mod plan;
pub mod playlist;
pub mod probe;
pub mod quality;
pub mod sign;
pub mod storage;
pub mod transport_stream;

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
pub use tokio_util::sync::CancellationToken;

use crate::asset::{AssetId, Generation, Versions};
use crate::captions::Cues;
use crate::encoder::Encoder;
use crate::package::{Edition, Encoded, Package};
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
    pub encoder: Encoder,
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

/// Somebody who wants to know how far a job is. `()` does not.
pub trait Progress: Send + Sync {
    /// So much of the source's running time is encoded.
    fn encoded(&self, _done: Duration, _total: Duration) {}

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

    let encoded = async {
        store.check(&job.asset, &generation).await?;
        make(job, workspace.path(), progress).await
    };
    let encoded = tokio::select! {
        encoded = encoded => encoded?,
        () = cancel.cancelled() => return Err(Error::Cancelled),
    };
    let edition = Edition { asset: job.asset.clone(), generation, created: now };
    let mut package = packaged(encoded, &job.options, edition, progress, cancel).await?;
    let report = lint::check_package(&package).await?;
    if report.is_broken() {
        return Err(Error::Broken(report));
    }
    package.description.notes.extend(report.findings.iter().map(ToString::to_string));

    store.publish(&package, progress, cancel).await?;
    Ok(Published { playlist: store.key(&package.playlist_key()), generation: package.edition.generation })
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
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Package, Error> {
    let (report, mut reports) = mpsc::unbounded_channel();
    let (options, cancel) = (options.clone(), cancel.clone());
    let package = tokio::task::spawn_blocking(move || {
        let go_on = |done, total| {
            let _ = report.send((done, total));
            !cancel.is_cancelled()
        };
        package::package(encoded, &options, edition, &go_on)
    });
    while let Some((done, total)) = reports.recv().await {
        progress.packaged(done, total);
    }
    let package = package.await.unwrap_or_else(|fault| resume_unwind(fault.into_panic()));
    package.map_err(
        |error| if matches!(error, package::Error::Stopped) { Error::Cancelled } else { error.into() },
    )
}

/// Why a job was not done. Nothing of it is left in the store then.
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
    TemporaryFolder(std::io::Error),
    /// It was asked to stop.
    #[error("stopped; nothing was published")]
    Cancelled,
}
