//! The bucket that MediaConvert reads from and writes to, which is never the one that viewers see.

use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::{Error, Keys};
use crate::Class;

/// Bytes of a part of an upload: S3 takes 10,000 of them, so 160 GB.
const PART: usize = 16 << 20;

/// How long one request may take: a part, over a slow line.
const REQUEST_TIME: Duration = Duration::from_mins(5);

/// How often, and for how long, one is tried again.
const RETRIES: usize = 6;
const RETRY_TIME: Duration = Duration::from_mins(2);

/// The most that a playlist of one track may have: a line or two for every 6 seconds.
const LARGEST_PLAYLIST: u64 = 16 << 20;

/// A bucket and what keys in it begin with.
#[derive(Clone, Debug)]
pub(super) struct Place {
    objects: std::sync::Arc<dyn ObjectStore>,
    bucket: String,
    prefix: String,
}

impl Place {
    /// Opens `s3://bucket[/prefix]`.
    pub(super) fn open(
        place: &str,
        endpoint: Option<&str>,
        region: &str,
        keys: Option<&Keys>,
    ) -> Result<Self, Error> {
        let refused = || Error::Place(place.to_owned());
        let rest = place.strip_prefix("s3://").ok_or_else(refused)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_part = |part: &str| part != "." && part != ".." && part.chars().all(is_name);
        let prefix = prefix.trim_matches('/');
        if bucket.is_empty() || !bucket.chars().all(is_name) || !prefix.split('/').all(is_part) {
            return Err(refused());
        }
        // Whatever the environment says of an endpoint is said of the store, which may be elsewhere.
        let amazon = format!("https://s3.{region}.amazonaws.com");
        let endpoint = endpoint.unwrap_or(&amazon);
        let options =
            ClientOptions::new().with_allow_http(endpoint.starts_with("http://")).with_timeout(REQUEST_TIME);
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(bucket)
            .with_region(region)
            .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint)
            .with_retry(retry)
            .with_client_options(options);
        if let Some(Keys { id, secret }) = keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(&secret.0);
        }
        let objects = builder.build().map_err(|error| Error::Bucket {
            place: place.to_owned(),
            reason: error.to_string(),
            class: Class::Settings,
        })?;
        Ok(Self {
            objects: std::sync::Arc::new(objects),
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        })
    }

    fn key(&self, name: &str) -> Key {
        if self.prefix.is_empty() { Key::from(name) } else { Key::from(format!("{}/{name}", self.prefix)) }
    }

    /// How MediaConvert is told of something here.
    pub(super) fn uri(&self, name: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.key(name))
    }

    /// Puts a file here, unless it is here.
    pub(super) async fn put(&self, name: &str, file: &Path) -> Result<(), Error> {
        let mut source = File::open(file).await.map_err(|error| Error::file(file, error))?;
        let bytes = source.metadata().await.map_err(|error| Error::file(file, error))?.len();
        let key = self.key(name);
        match self.objects.head(&key).await {
            Ok(there) if there.size == bytes => return Ok(()),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.refusal(&error)),
        }
        let mut target = BufWriter::with_capacity(self.objects.clone(), key, PART);
        let copied = async {
            tokio::io::copy(&mut source, &mut target).await?;
            target.shutdown().await
        };
        if let Err(error) = copied.await {
            let _ = target.abort().await;
            return Err(match error.downcast::<object_store::Error>() {
                Ok(error) => self.refusal(&error),
                Err(error) => Error::file(file, error),
            });
        }
        Ok(())
    }

    /// Fetches a track: of a playlist, all that it names, one after the other, into a file.
    pub(super) async fn fetch(&self, playlist: &str, file: &Path) -> Result<(), Error> {
        let folder = playlist.rsplit_once('/').map_or("", |(folder, _)| folder);
        let found = self.get(playlist).await?;
        if found.meta.size > LARGEST_PLAYLIST {
            return Err(Error::Playlist { playlist: playlist.to_owned() });
        }
        let text = found.bytes().await.map_err(|error| self.refusal(&error))?;
        let text = String::from_utf8_lossy(&text);
        let names = links(&text).ok_or_else(|| Error::Playlist { playlist: playlist.to_owned() })?;
        let mut target = File::create(file).await.map_err(|error| Error::file(file, error))?;
        for name in names {
            let mut bytes = self.get(&format!("{folder}/{name}")).await?.into_stream();
            while let Some(bytes) = bytes.next().await {
                let bytes = bytes.map_err(|error| self.refusal(&error))?;
                target.write_all(&bytes).await.map_err(|error| Error::file(file, error))?;
            }
        }
        target.flush().await.map_err(|error| Error::file(file, error))
    }

    /// Removes everything below a folder.
    pub(super) async fn clear(&self, folder: &str) -> Result<(), Error> {
        let keys = self.objects.list(Some(&self.key(folder))).map_ok(|object| object.location).boxed();
        let removed = self.objects.delete_stream(keys).try_for_each(async |_| Ok(()));
        match removed.await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    async fn get(&self, name: &str) -> Result<object_store::GetResult, Error> {
        match self.objects.get(&self.key(name)).await {
            Err(object_store::Error::NotFound { .. }) => Err(Error::Missing { uri: self.uri(name) }),
            found => found.map_err(|error| self.refusal(&error)),
        }
    }

    fn refusal(&self, error: &object_store::Error) -> Error {
        use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
        let class = match error {
            PermissionDenied { .. } | Unauthenticated { .. } | NotFound { .. } => Class::Settings,
            _ => Class::Busy,
        };
        let reason = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::Bucket { place: format!("s3://{}", self.bucket), reason, class }
    }
}

/// What a playlist of one track names, each once, in order: its initialisation section and its segments. Nothing if
/// anything of it is elsewhere.
fn links(playlist: &str) -> Option<Vec<&str>> {
    let mut names: Vec<&str> = Vec::new();
    for line in playlist.lines().map(str::trim) {
        let name = match line.strip_prefix("#EXT-X-MAP:") {
            Some(attributes) => attributes.split_once("URI=\"")?.1.split('"').next()?,
            None if line.is_empty() || line.starts_with('#') => continue,
            None => line,
        };
        if name.is_empty() || name == ".." || name.contains(['/', '\\', '?', ':']) {
            return None;
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    (!names.is_empty()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_track_is_all_that_its_playlist_names_in_order() {
        // Both as the edge's corpus has them of MediaConvert: segments, and ranges of one file.
        let segments = "#EXTM3U\n#EXT-X-MAP:URI=\"index_360pinit.cmfv\"\n#EXTINF:6,\nindex_360p_000000001.cmfv\n\
                        #EXTINF:6,\nindex_360p_000000002.cmfv\n#EXT-X-ENDLIST\n";
        assert_eq!(
            links(segments).unwrap(),
            ["index_360pinit.cmfv", "index_360p_000000001.cmfv", "index_360p_000000002.cmfv"]
        );
        let ranges = "#EXTM3U\n#EXT-X-MAP:URI=\"a.cmfv\",BYTERANGE=\"800@0\"\n#EXTINF:6,\n#EXT-X-BYTERANGE:9@800\n\
                      a.cmfv\n#EXTINF:6,\n#EXT-X-BYTERANGE:9@809\na.cmfv\n";
        assert_eq!(links(ranges).unwrap(), ["a.cmfv"]);
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        for name in ["../a.ts", "/a.ts", "https://example.com/a.ts", "..", "a\\b"] {
            assert_eq!(links(&format!("#EXTM3U\n#EXTINF:6,\n{name}\n")), None, "{name}");
        }
        assert_eq!(links("#EXTM3U\n"), None);
    }

    #[test]
    fn a_place_is_a_bucket() {
        let open = |place| Place::open(place, None, "eu-west-1", None);
        let place = open("s3://work/mediaconvert/").unwrap();
        assert_eq!(place.uri("id/source.mp4"), "s3://work/mediaconvert/id/source.mp4");
        assert_eq!(open("s3://work").unwrap().uri("id/1/index"), "s3://work/id/1/index");
        for bad in ["work", "s3://", "s3://a/../b", "s3://a b", "./work"] {
            assert!(matches!(open(bad), Err(Error::Place(_))), "{bad}");
        }
    }
}
