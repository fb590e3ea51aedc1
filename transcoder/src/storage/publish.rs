//! Puts what is missing of a generation, and then makes it the one that is played.
//!
//! Two objects say which one that is, `asset.json` and `index.m3u8`, and no store changes two at once. So each is put
//! on the condition that it still is what was found, first the description, then the playlist, and it is looked at
//! again until both are of one generation. Whoever meets the description of something that was uploaded later gives
//! way. In a folder a lock does the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryFutureExt, stream};
use jiff::Timestamp;
use object_store::path::Path as Key;
use object_store::{MultipartUpload, ObjectStore, PutMultipartOptions, PutPayload};
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::{Error, Found, IMMUTABLE, MUTABLE, SECRET, Store};
use crate::asset::{self, AssetId, Generation};
use crate::encryption;
use crate::package::{MediaFile, Package};
use crate::{CancellationToken, Progress};

/// Puts at once: enough to hide the time that one takes to be answered, few enough to be fair to others.
pub(super) const PUTS_AT_ONCE: usize = 8;

/// Bytes in memory at once, unless one object has more: a small one is read whole before it is put.
const BYTES_AT_ONCE: u32 = 16 << 20;

/// What is larger is put in parts, all of one size but for the last (R2 wants that; S3 takes no less than 5 MiB).
const LARGE: u64 = 16 << 20;
const PART: usize = 8 << 20;

/// So often others may be first before this gives up, and up to so long it waits to let them finish.
const RACES: u32 = 40;
const LONGEST_PAUSE: u32 = 250;

/// How long puts under way are waited for, once it is asked to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is kept in a generation's folder so that it can be switched to again.
pub(super) const DESCRIPTION: &str = "asset.json";
/// Not called `.m3u8`: what it links to is relative to the folder above, so nobody is to play it here.
pub(super) const PLAYLIST: &str = "multivariant.txt";

impl Store {
    /// Publishes a package. What was put of it by an attempt before is not put again.
    ///
    /// When this returns an error, what was played before is played still; what was put is there for the next attempt,
    /// or for [`Store::discard`].
    pub async fn publish(
        &self,
        package: &Package,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        tokio::select! {
            put = self.put_all(package, progress, cancel) => put?,
            () = patience(cancel) => return Err(Error::Cancelled),
        }
        // From here on it is a matter of moments, and half of it is worth nothing.
        let edition = &package.edition;
        let there = self.contents(&edition.folder()).await?.sizes;
        let is_there = |file: &MediaFile| {
            let name = file.key.strip_prefix(&edition.folder()).map(|name| name.trim_start_matches('/'));
            name.and_then(|name| there.get(name)) == Some(&file.bytes)
        };
        // By whoever removed the asset meanwhile, or its old encodes, of which this seemed to be one.
        if !package.media.iter().all(is_there) {
            return Err(Error::Removed(edition.asset.clone()));
        }
        let switch = Switch {
            asset: &edition.asset,
            generation: &edition.generation,
            uploaded: package.description.uploaded,
            description: described(package),
            playlist: package.multivariant.clone().into_bytes(),
        };
        self.switch(&switch).await
    }

    async fn put_all(
        &self,
        package: &Package,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let there = self.put_already(package).await?;
        let is_there = |key: &str, bytes: u64| there.get(key) == Some(&bytes);
        let total = package.media.iter().map(|file| file.bytes).sum();
        let (skipped, missing): (Vec<_>, Vec<_>) =
            package.media.iter().partition(|file| is_there(&file.key, file.bytes));
        let done = AtomicU64::new(skipped.iter().map(|file| file.bytes).sum());
        progress.published(done.load(Ordering::Relaxed), total);
        let room = Semaphore::new(BYTES_AT_ONCE as usize);
        let media = missing.into_iter().map(async |file| {
            let needed = if file.bytes > LARGE { PART as u64 } else { file.bytes };
            let needed = u32::try_from(needed).unwrap_or(BYTES_AT_ONCE).min(BYTES_AT_ONCE);
            let _room = room.acquire_many(needed).await.expect("it is never closed");
            self.put_file(file).await?;
            let before = done.fetch_add(file.bytes, Ordering::Relaxed);
            progress.published(before + file.bytes, total);
            Ok(())
        });
        all(media, cancel).await?;
        let texts = package.texts.iter().filter(|(key, text)| !is_there(key, text.len() as u64));
        all(texts.map(|(key, text)| self.put(key, text.clone().into_bytes(), IMMUTABLE)), cancel).await?;
        let playlist = package.multivariant.clone().into_bytes();
        self.put(&package.edition.key(PLAYLIST), playlist, IMMUTABLE).await?;
        // The last of a generation: where it is, all of it is.
        self.put(&package.edition.key(DESCRIPTION), described(package), IMMUTABLE).await?;
        self.sweep(package, &there).await
    }

    /// What is there of this very package: keys and sizes.
    ///
    /// The list of its digests is put first. Where another one is found, the attempt before made other bytes, which may
    /// well have the same sizes, and nothing of it is of use.
    async fn put_already(&self, package: &Package) -> Result<BTreeMap<String, u64>, Error> {
        let edition = &package.edition;
        let there = self.contents(&edition.folder()).await?.sizes;
        let list = package.list();
        if let Some((key, text)) = list
            && !there.is_empty()
            && self.find(key).await?.is_some_and(|found| found.bytes == text.as_bytes())
        {
            return Ok(there.into_iter().map(|(name, bytes)| (edition.key(&name), bytes)).collect());
        }
        if !there.is_empty() {
            self.discard(&edition.asset, &edition.generation).await?;
        }
        if let Some((key, text)) = list {
            self.put(key, text.clone().into_bytes(), IMMUTABLE).await?;
            return Ok(BTreeMap::from([(key.clone(), text.len() as u64)]));
        }
        Ok(BTreeMap::new())
    }

    async fn put_file(&self, file: &MediaFile) -> Result<(), Error> {
        let is_key = file.key.ends_with(encryption::EXTENSION);
        let cache_control = if is_key { SECRET } else { IMMUTABLE };
        if file.bytes > LARGE {
            return self.put_in_parts(file, cache_control).await;
        }
        let path = file.path.clone();
        let bytes = tokio::task::spawn_blocking(move || fs::read(path)).await;
        let bytes = bytes.expect("reading a file does not panic").map_err(Error::Temporary)?;
        self.put(&file.key, bytes, cache_control).await
    }

    async fn put_in_parts(&self, file: &MediaFile, cache_control: &'static str) -> Result<(), Error> {
        let options = PutMultipartOptions {
            attributes: self.attributes(&file.key, cache_control),
            ..PutMultipartOptions::default()
        };
        let refused = |error: object_store::Error| self.refusal(&error);
        let mut source = File::open(&file.path).map_err(Error::Temporary)?;
        let key = Key::from(self.key(&file.key));
        let upload = self.objects.put_multipart_opts(&key, options).await.map_err(refused)?;
        let mut parts = Parts(Some(upload));
        loop {
            let read = tokio::task::spawn_blocking(move || {
                let mut part = Vec::with_capacity(PART);
                (&mut source).take(PART as u64).read_to_end(&mut part).map(|_| (source, part))
            });
            let (rest, part) =
                read.await.expect("reading a file does not panic").map_err(Error::Temporary)?;
            source = rest;
            if part.is_empty() {
                return parts.complete().await.map_err(refused);
            }
            parts.put(part.into()).await.map_err(refused)?;
        }
    }

    /// Removes what is in the folder of a package and no part of it, and on a disk what a killed process had half
    /// written.
    async fn sweep(&self, package: &Package, there: &BTreeMap<String, u64>) -> Result<(), Error> {
        let (edition, media) = (&package.edition, package.media.iter().map(|file| file.key.clone()));
        let texts = package.texts.iter().map(|(key, _)| key.clone());
        let copies = [DESCRIPTION, PLAYLIST].map(|name| edition.key(name));
        let parts: BTreeSet<String> = media.chain(texts).chain(copies).collect();
        for key in there.keys().filter(|key| !parts.contains(*key)) {
            self.delete(key).await?;
        }
        if let Some(folder) = self.path(&edition.folder()) {
            let swept = tokio::task::spawn_blocking(move || half_written(&folder, true));
            swept.await.expect("looking through a folder does not panic");
        }
        Ok(())
    }

    /// Makes a generation the one that is played, unless something newer is.
    pub(super) async fn switch(&self, switch: &Switch<'_>) -> Result<(), Error> {
        let _lock = self.lock().await?;
        if let Some(folder) = self.path(&switch.asset.folder()) {
            half_written(&folder, false);
        }
        let mut was_played = false;
        for _ in 0..RACES {
            let standing = self.standing(switch.asset).await?;
            was_played |= standing.plays(switch.generation);
            let put = match switch.next(&standing, was_played) {
                Next::Nothing => return Ok(()),
                Next::GiveWay => return Err(Error::Superseded(switch.asset.clone())),
                Next::Describe => {
                    let key = switch.asset.description_key();
                    let description = switch.description.clone();
                    self.put_if(&key, description, MUTABLE, standing.description.as_ref()).await
                }
                Next::Play => {
                    let key = switch.asset.playlist_key();
                    self.put_if(&key, switch.playlist.clone(), MUTABLE, standing.playlist.as_ref()).await
                }
            };
            match put {
                Ok(true) => {}
                Ok(false) => {
                    let pause = asset::nonce() % LONGEST_PAUSE;
                    tokio::time::sleep(Duration::from_millis(pause.into())).await;
                }
                // It may have been carried out without anybody's hearing of it.
                Err(error) => match self.standing(switch.asset).await {
                    Ok(now) if matches!(switch.next(&now, was_played), Next::Nothing) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
        Err(Error::Contended(switch.asset.clone()))
    }

    /// What an asset is at the moment: first how it is described, then what is played.
    pub(super) async fn standing(&self, asset: &AssetId) -> Result<Standing, Error> {
        Ok(Standing {
            description: self.find(&asset.description_key()).await?,
            playlist: self.find(&asset.playlist_key()).await?,
        })
    }
}

/// Does some puts at once. After the first that fails, or once it is asked to stop, it begins no others, but waits for
/// those that are under way: what is given up half-way may be there later, when what is there is being removed.
async fn all<Put: Future<Output = Result<(), Error>>>(
    puts: impl Iterator<Item = Put>,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let stop = cancel.child_token();
    let outcomes: Vec<Result<(), Error>> = stream::iter(puts)
        .take_until(stop.cancelled())
        .map(|put| put.inspect_err(|_| stop.cancel()))
        .buffer_unordered(PUTS_AT_ONCE)
        .collect()
        .await;
    outcomes.into_iter().collect::<Result<(), _>>()?;
    if cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(()) }
}

/// Until nothing is waited for any more, once it is asked to stop.
async fn patience(cancel: &CancellationToken) {
    cancel.cancelled().await;
    tokio::time::sleep(PATIENCE).await;
}

/// An upload in parts, which is given up unless it is completed: until then its parts lie there unseen, and are paid
/// for.
struct Parts(Option<Box<dyn MultipartUpload>>);

impl Parts {
    async fn put(&mut self, part: PutPayload) -> object_store::Result<()> {
        match &mut self.0 {
            Some(upload) => upload.put_part(part).await,
            None => Ok(()),
        }
    }

    async fn complete(mut self) -> object_store::Result<()> {
        if let Some(upload) = &mut self.0 {
            upload.complete().await?;
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        if let (Some(mut upload), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move {
                let _ = upload.abort().await;
            });
        }
    }
}

fn described(package: &Package) -> Vec<u8> {
    let mut description = serde_json::to_vec_pretty(&package.description).expect("it is plain data");
    description.push(b'\n');
    description
}

/// Removes what `object_store` writes to before it gives it its name, which has a `#` in it, as no key has.
fn half_written(folder: &Path, with_folders: bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            if with_folders {
                half_written(&entry.path(), true);
            }
        } else if entry.file_name().to_string_lossy().contains('#') {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// What an asset is to be from now on.
pub(super) struct Switch<'a> {
    pub(super) asset: &'a AssetId,
    pub(super) generation: &'a Generation,
    /// When its source was uploaded: it gives way to what was uploaded later.
    pub(super) uploaded: Option<Timestamp>,
    pub(super) description: Vec<u8>,
    pub(super) playlist: Vec<u8>,
}

/// What is to be put next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    Describe,
    Play,
    Nothing,
    GiveWay,
}

impl Switch<'_> {
    /// `was_played` is whether this generation was, be it only for a moment: then whoever came later has a right to.
    fn next(&self, standing: &Standing, was_played: bool) -> Next {
        let described = standing.described();
        let is_described = described.as_ref().is_some_and(|summary| summary.generation == *self.generation);
        match (is_described, standing.plays(self.generation)) {
            (true, true) => Next::Nothing,
            (_, false) if was_played => Next::Nothing,
            (true, false) => Next::Play,
            (false, _) => match (described.and_then(|summary| summary.uploaded), self.uploaded) {
                (Some(theirs), Some(ours)) if theirs > ours => Next::GiveWay,
                _ => Next::Describe,
            },
        }
    }
}

/// What an asset is at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub(super) description: Option<Found>,
    pub(super) playlist: Option<Found>,
}

/// As much of `asset.json` as there will always be.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Summary {
    pub(super) generation: Generation,
    #[serde(default)]
    pub(super) uploaded: Option<Timestamp>,
    #[serde(default)]
    pub(super) job: Option<String>,
}

impl Standing {
    pub(super) fn described(&self) -> Option<Summary> {
        serde_json::from_slice(&self.description.as_ref()?.bytes).ok()
    }

    /// The generation that the playlist names.
    pub(super) fn played(&self) -> Option<Generation> {
        let text = std::str::from_utf8(&self.playlist.as_ref()?.bytes).ok()?;
        let links = text.lines().filter(|line| !line.starts_with('#'));
        links.filter_map(|line| line.split_once('/')).find_map(|(folder, _)| folder.parse().ok())
    }

    pub(super) fn plays(&self, generation: &Generation) -> bool {
        self.played().as_ref() == Some(generation)
    }
}

#[cfg(test)]
mod tests {
    use object_store::UpdateVersion;

    use super::*;

    fn standing(described: Option<(&str, &str)>, played: Option<&str>) -> Standing {
        let found = |text: String| Found {
            bytes: text.into_bytes(),
            version: UpdateVersion { e_tag: None, version: None },
        };
        let description = |(generation, uploaded)| {
            found(format!(r#"{{"generation":"{generation}","uploaded":"{uploaded}"}}"#))
        };
        let playlist = |generation| {
            found(format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{generation}/360p/index.m3u8\n"))
        };
        Standing { description: described.map(description), playlist: played.map(playlist) }
    }

    #[test]
    fn the_description_comes_first_then_the_playlist_and_what_is_newer_stays() {
        let (old, own, new) =
            ("20261122t100000z-00000001", "20261122t100000z-00000002", "20261122t100000z-00000003");
        let (before, now, after) = ("2026-11-22T08:00:00Z", "2026-11-22T09:00:00Z", "2026-11-22T09:30:00Z");
        let asset = "a".parse().unwrap();
        let generation = own.parse().unwrap();
        let uploaded = Some(now.parse().unwrap());
        let (description, playlist) = (Vec::new(), Vec::new());
        let switch = Switch { asset: &asset, generation: &generation, uploaded, description, playlist };
        for (described, played, was_played, expected) in [
            (None, None, false, Next::Describe),
            (Some((old, before)), Some(old), false, Next::Describe),
            (Some((own, now)), Some(old), false, Next::Play),
            (Some((own, now)), None, false, Next::Play),
            (Some((own, now)), Some(own), false, Next::Nothing),
            // Another encode of the same upload, or of one before it.
            (Some((new, now)), Some(own), true, Next::Describe),
            (Some((new, after)), Some(old), false, Next::GiveWay),
            (Some((new, after)), Some(new), false, Next::GiveWay),
            (Some((new, after)), Some(new), true, Next::Nothing),
            (Some((new, before)), Some(new), true, Next::Nothing),
        ] {
            let standing = standing(described, played);
            assert_eq!(switch.next(&standing, was_played), expected, "{described:?} {played:?} {was_played}");
        }
    }
}
