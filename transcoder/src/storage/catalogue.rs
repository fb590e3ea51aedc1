//! Which assets and which generations there are, and how they go.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use object_store::ObjectStore;
use object_store::path::Path as Key;
use sha2::{Digest, Sha256};

use super::publish::{DESCRIPTION, PLAYLIST, PUTS_AT_ONCE, Switch};
use super::{Error, Found, MUTABLE, Store};
use crate::asset::{Asset, AssetId, Generation, hexadecimal};

/// Descriptions read at once: they are small, and a page of them shall not take as long as each of them in turn.
const READS_AT_ONCE: usize = 32;

/// What is there of a generation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// Its name.
    pub generation: Generation,
    /// Whether it was put to its end, so that it can be gone back to.
    pub is_complete: bool,
    /// How many objects there are.
    pub objects: usize,
    /// What they take.
    pub bytes: u64,
    /// When the last of them was put.
    pub latest: Timestamp,
}

impl Store {
    /// The catalogue: what `asset.json` says of each asset, by name, from after this one on, so many at most.
    pub async fn assets(&self, after: Option<&AssetId>, limit: usize) -> Result<Vec<Asset>, Error> {
        let after = after.map(ToString::to_string).unwrap_or_default();
        let names = self.asset_names().await?;
        let later = names.into_iter().filter(|name| name.to_string() > after);
        stream::iter(later)
            .map(async |name| self.asset(&name).await)
            .buffered(READS_AT_ONCE)
            .try_filter_map(|asset| std::future::ready(Ok(asset)))
            .take(limit)
            .try_collect()
            .await
    }

    /// What `asset.json` says of an asset.
    pub async fn asset(&self, name: &AssetId) -> Result<Option<Asset>, Error> {
        let Some(found) = self.find(&name.description_key()).await? else { return Ok(None) };
        let asset = serde_json::from_slice(&found.bytes);
        Ok(asset.inspect_err(|error| tracing::warn!("asset.json of {name}: {error}")).ok())
    }

    /// What lies in an asset's folder by a key from there.
    pub async fn read(&self, asset: &AssetId, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = self.find(&format!("{}/{key}", asset.folder())).await?;
        Ok(found.map(|found| found.bytes))
    }

    /// What all assets are called, those that are not published yet among them, by name.
    pub async fn asset_names(&self) -> Result<Vec<AssetId>, Error> {
        let mut names: Vec<AssetId> = self.folders("assets").await?;
        names.sort_by_key(ToString::to_string);
        Ok(names)
    }

    /// The generation of an asset that is played.
    pub async fn played(&self, asset: &AssetId) -> Result<Option<Generation>, Error> {
        Ok(self.standing(asset).await?.played())
    }

    /// The generation of an asset that is played, if this job made it.
    pub async fn played_of(&self, asset: &AssetId, job: &str) -> Result<Option<Generation>, Error> {
        let standing = self.standing(asset).await?;
        let made = standing.described().filter(|summary| summary.job.as_deref() == Some(job));
        Ok(made.map(|summary| summary.generation).filter(|generation| standing.plays(generation)))
    }

    /// All generations of an asset that there is anything of, the oldest first.
    pub async fn generations(&self, asset: &AssetId) -> Result<Vec<Stored>, Error> {
        let names: BTreeSet<Generation> = self.folders(&asset.folder()).await?.into_iter().collect();
        stream::iter(names)
            .map(async |generation| {
                let contents = self.contents(&generation.folder_of(asset)).await?;
                Ok(Stored {
                    is_complete: [DESCRIPTION, PLAYLIST]
                        .iter()
                        .all(|name| contents.sizes.contains_key(*name)),
                    objects: contents.sizes.len(),
                    bytes: contents.sizes.values().sum(),
                    latest: Timestamp::from_second(contents.latest).unwrap_or_default(),
                    generation,
                })
            })
            .buffered(PUTS_AT_ONCE)
            .try_collect()
            .await
    }

    /// Removes what there is of a generation, unless it is the one that is played. If the asset is described as being
    /// of this generation, it is described as what is played again.
    pub async fn discard(&self, asset: &AssetId, generation: &Generation) -> Result<(), Error> {
        let lock = self.lock().await?;
        let standing = self.standing(asset).await?;
        if standing.plays(generation) {
            return Ok(());
        }
        if standing.described().is_some_and(|summary| summary.generation == *generation) {
            match standing.played() {
                None => self.delete(&asset.description_key()).await?,
                Some(played) => {
                    if let Some(Found { bytes, .. }) = self.find(&played.key_of(asset, DESCRIPTION)).await? {
                        let before = standing.description.as_ref();
                        // Where it is not put, somebody has published meanwhile.
                        self.put_if(&asset.description_key(), bytes, MUTABLE, before).await?;
                    }
                }
            }
        }
        drop(lock);
        self.remove_all(&generation.folder_of(asset)).await
    }

    /// Removes an asset: first what names its parts, then those. Whether there was anything of it.
    pub async fn delete_asset(&self, asset: &AssetId) -> Result<bool, Error> {
        let lock = self.lock().await?;
        let was_there = !self.contents(&asset.folder()).await?.sizes.is_empty();
        self.delete(&asset.playlist_key()).await?;
        self.delete(&asset.description_key()).await?;
        drop(lock);
        self.remove_all(&asset.folder()).await?;
        Ok(was_there)
    }

    /// Plays a generation again: this one, or the newest complete one before the present one. Which.
    pub async fn roll_back(&self, asset: &AssetId, to: Option<&Generation>) -> Result<Generation, Error> {
        let played = self.played(asset).await?;
        let generation = match (to, played) {
            (Some(generation), _) => generation.clone(),
            (None, Some(played)) => {
                let generations = self.generations(asset).await?;
                let before = generations.into_iter().filter(|one| one.is_complete && one.generation < played);
                before
                    .map(|one| one.generation)
                    .next_back()
                    .ok_or_else(|| Error::NothingBefore(asset.clone()))?
            }
            (None, None) => {
                return Err(Error::NoAsset { asset: asset.clone(), place: self.place.to_string() });
            }
        };
        let (description, playlist) = self.copies(asset, &generation).await?;
        let switch = Switch { asset, generation: &generation, uploaded: None, description, playlist };
        self.switch(&switch).await?;
        Ok(generation)
    }

    /// What `asset.json` and `index.m3u8` were when a generation was published; all that they name is there.
    async fn copies(&self, asset: &AssetId, generation: &Generation) -> Result<(Vec<u8>, Vec<u8>), Error> {
        let incomplete = |reason: &str| Error::Incomplete {
            asset: asset.clone(),
            generation: generation.clone(),
            reason: reason.to_owned(),
        };
        let copy = async |name: &str| {
            let found = self.find(&generation.key_of(asset, name)).await?;
            found.map(|found| found.bytes).ok_or_else(|| incomplete(&format!("{name} is not there")))
        };
        let (description, playlist) = (copy(DESCRIPTION).await?, copy(PLAYLIST).await?);
        let described: Asset = serde_json::from_slice(&description)
            .map_err(|error| incomplete(&format!("{DESCRIPTION} cannot be read: {error}")))?;
        let list = copy(&described.objects.list).await?;
        let is_whole = |bytes: &[u8], digest: &str| hexadecimal(&Sha256::digest(bytes)) == digest;
        if !is_whole(&playlist, &described.objects.playlist_sha256)
            || !is_whole(&list, &described.objects.list_sha256)
        {
            return Err(incomplete("its playlist or its list of objects was changed"));
        }
        let there = self.contents(&generation.folder_of(asset)).await?.sizes;
        let list = String::from_utf8_lossy(&list);
        let mut names = list.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name);
        match names.find(|name| !there.contains_key(*name)) {
            Some(missing) => Err(incomplete(&format!("{missing} is not there"))),
            None => Ok((description, playlist)),
        }
    }

    /// Names of the folders in a folder, as far as they can be names of these.
    async fn folders<T: std::str::FromStr>(&self, folder: &str) -> Result<Vec<T>, Error> {
        let folder = Key::from(self.key(folder));
        let listed = match self.objects.list_with_delimiter(Some(&folder)).await {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) if self.is_folder() => return Ok(Vec::new()),
            Err(error) => return Err(self.refusal(&error)),
        };
        let names = listed.common_prefixes.iter().filter_map(|prefix| prefix.filename());
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) async fn remove_all(&self, folder: &str) -> Result<(), Error> {
        if let Some(path) = self.path(folder) {
            let failed = |error: io::Error| Error::Folder {
                path: path.display().to_string(),
                reason: error.to_string(),
            };
            let removed = tokio::task::spawn_blocking({
                let path = path.clone();
                move || {
                    let removed = fs::remove_dir_all(&path);
                    // The asset's folder too, if this was the last that was in it.
                    let _ = path.parent().map(fs::remove_dir);
                    removed
                }
            });
            return match removed.await.expect("removing a folder does not panic") {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                _ => Ok(()),
            };
        }
        let keys = self.objects.list(Some(&Key::from(self.key(folder)))).map_ok(|object| object.location);
        let removed = self.objects.delete_stream(keys.boxed());
        removed.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(|error| self.refusal(&error))
    }
}
