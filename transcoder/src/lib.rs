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

pub mod asset;
pub mod encode;
pub mod encoder;
pub mod fragment;
pub mod ladder;
pub mod language;
pub mod package;
pub mod plan;
pub mod playlist;
pub mod probe;
pub mod storage;

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
pub use tokio_util::sync::CancellationToken;

use crate::asset::{AssetId, Generation};
use crate::encoder::Encoder;
use crate::plan::Plan;
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
}

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
        let source = probe::probe(&job.input).await?;
        store.check(&job.asset, &generation).await?;
        let plan = Plan::for_source(&source)?;
        job.encoder.encode(&plan, workspace.path(), progress).await?;
        Ok::<_, Error>((source, plan))
    };
    let (source, plan) = tokio::select! {
        encoded = encoded => encoded?,
        () = cancel.cancelled() => return Err(Error::Cancelled),
    };

    let folder = workspace.path().to_owned();
    let asset = job.asset.clone();
    let package = tokio::task::spawn_blocking(move || {
        package::package(&folder, &source, &plan, &asset, &generation, now)
    });
    let package = package.await.unwrap_or_else(|fault| resume_unwind(fault.into_panic()))?;

    store.publish(&package, progress, cancel).await?;
    Ok(Published { playlist: store.key(&package.playlist_key()), generation: package.generation })
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
    /// What the encoder made is not fit to be published.
    #[error(transparent)]
    Package(#[from] package::Error),
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
