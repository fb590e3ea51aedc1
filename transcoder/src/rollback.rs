//! `transcoder rollback`: plays an earlier encode again.

use crate::asset::{AssetId, Generation};
use crate::storage::{Access, Error, Store};

/// Play an earlier encode of an asset again
///
/// Its objects are there until `transcoder gc` removes them, so this is a matter of a moment, and players notice it the
/// next time they load the playlist. Nothing is removed: to undo it, name the generation that was played before.
/// Prints the playlist's key and the generation.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  transcoder rollback lesson-1 --to s3://media
  transcoder rollback lesson-1 --generation 20261122t100000z-0123abcd --to ./media")]
pub struct Arguments {
    /// Which asset
    asset: AssetId,

    /// To which encode [default: the one before the present one]
    #[arg(long, value_name = "GENERATION")]
    generation: Option<Generation>,

    /// Where it is published: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(long, env = "REELGATE_TO", value_name = "PLACE")]
    to: String,

    #[command(flatten)]
    access: Access,
}

/// Why `rollback` failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store did not do it.
    #[error(transparent)]
    Storage(#[from] Error),
    /// The process could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

impl Arguments {
    /// Does what is asked for, and has what is for stdout.
    pub fn run(self) -> Result<String, Failure> {
        let store = Store::open(&self.to, &self.access)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let generation = runtime.block_on(store.roll_back(&self.asset, self.generation.as_ref()))?;
        Ok(format!("{} {generation}", store.key(&self.asset.playlist_key())))
    }
}
