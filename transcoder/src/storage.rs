//! Puts an asset where the edge reads it: a folder, or a bucket of anything that speaks S3.
//!
//! A viewer must never meet half an asset. So what a playlist names is there before the playlist, `index.m3u8` is
//! written last, and until then an earlier generation goes on playing. If anything fails, what was put is taken
//! away again and what was there before is put back.

use std::collections::BTreeSet;
use std::env;
use std::error::Error as _;
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt, PutOptions, PutPayload, RetryConfig,
};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::asset::{AssetId, Generation};
use crate::encryption;
use crate::package::Package;
use crate::{CancellationToken, Progress};

/// Puts at once: enough to hide the time that one takes to be answered, few enough to be fair to others.
const PUTS_AT_ONCE: usize = 8;

/// Bytes in memory at once, unless one object has more: a segment is read whole before it is put.
const BYTES_AT_ONCE: u32 = 8 << 20;

/// How long the first request may take. Without credentials in the environment those of the machine are asked
/// for, and on most machines nobody answers.
const CHECK_TIME: Duration = Duration::from_secs(20);

/// Where credentials are asked for that are not in the environment.
const METADATA_SERVICE: &str = "169.254.169.254";

/// A put is tried again on a 5xx and on a broken connection, this often and for so long.
const RETRIES: usize = 6;
const RETRY_TIME: Duration = Duration::from_mins(2);

/// How long one put may take: a segment over a slow line needs more than the half minute that is usual.
const PUT_TIME: Duration = Duration::from_mins(5);

/// A generation never changes; what names it may at any time; and a key stays where it is.
const IMMUTABLE: &str = "max-age=31536000, immutable";
const MUTABLE: &str = "no-cache";
const SECRET: &str = "no-store";

/// Content types by extension (Apple's authoring guide, "Delivery").
const CONTENT_TYPES: [(&str, &str); 8] = [
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mp4", "video/mp4"),
    ("m4s", "video/iso.segment"),
    ("ts", "video/mp2t"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
];

/// Where assets are kept.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: String,
    place: Place,
}

/// What a store is, for people.
#[derive(Clone, Debug)]
enum Place {
    Folder(String),
    Bucket { name: String, endpoint: Option<String> },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(formatter, "folder {path}"),
            Self::Bucket { name, endpoint: None } => write!(formatter, "bucket {name} of AWS"),
            Self::Bucket { name, endpoint: Some(endpoint) } => {
                write!(formatter, "bucket {name} at {endpoint}")
            }
        }
    }
}

/// How to reach a bucket, as far as it is not in the usual variables of AWS.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// URL of the S3 API, where it is not Amazon's.
    pub endpoint: Option<String>,
    /// Region, `us-east-1` where nothing says otherwise.
    pub region: Option<String>,
}

impl Store {
    /// Opens `s3://bucket[/prefix]`, or a folder, which is made if it is not there.
    ///
    /// Credentials come from the environment, as for every tool of AWS.
    pub fn open(target: &str, access: &Access) -> Result<Self, Error> {
        match target.strip_prefix("s3://") {
            Some(rest) => Self::bucket(rest, access),
            None if target.contains("://") => Err(Error::Target(target.to_owned())),
            None => Self::folder(target),
        }
    }

    fn folder(path: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Folder { path: path.to_owned(), reason };
        if path.is_empty() {
            return Err(Error::Target(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(|error| refused(error.to_string()))?;
        let objects = LocalFileSystem::new_with_prefix(path).map_err(|error| refused(chain(&error)))?;
        let objects = Arc::new(objects.with_automatic_cleanup(true));
        Ok(Self { objects, prefix: String::new(), place: Place::Folder(path.to_owned()) })
    }

    fn bucket(rest: &str, access: &Access) -> Result<Self, Error> {
        let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_part = |part: &str| part != "." && part != ".." && part.chars().all(is_name);
        let prefix = prefix.trim_matches('/');
        if name.is_empty() || !name.chars().all(is_name) || !prefix.split('/').all(is_part) {
            return Err(Error::Target(format!("s3://{rest}")));
        }
        let is_plain = access.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let place = Place::Bucket { name: name.to_owned(), endpoint: access.endpoint.clone() };
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(name)
            .with_retry(retry)
            .with_client_options(ClientOptions::new().with_allow_http(is_plain).with_timeout(PUT_TIME));
        if let Some(region) = &access.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &access.endpoint {
            if !is_plain && !endpoint.starts_with("https://") {
                return Err(Error::Endpoint(endpoint.clone()));
            }
            // Under the name that wins over whatever else the environment has.
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
        }
        let objects = builder
            .build()
            .map_err(|error| Error::Access { place: place.to_string(), reason: chain(&error) })?;
        Ok(Self { objects: Arc::new(objects), prefix: prefix.to_owned(), place })
    }

    /// The key of something in this store: with the prefix that the store has in its bucket.
    #[must_use]
    pub fn key(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) }
    }

    /// Whether an asset can be put here and taken away again: found out by doing it, since nothing else says so.
    pub async fn check(&self, asset: &AssetId, generation: &Generation) -> Result<(), Error> {
        let key = Key::from(self.key(&format!("{}/{generation}/.check", asset.folder())));
        let attempt = async {
            self.objects.put(&key, PutPayload::from_static(b"")).await?;
            self.objects.delete(&key).await
        };
        match timeout(CHECK_TIME, attempt).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.refusal(&error)),
            Err(_) if self.lacks_credentials() => Err(Error::NoCredentials { place: self.place.to_string() }),
            Err(_) => Err(Error::Silent { place: self.place.to_string(), seconds: CHECK_TIME.as_secs() }),
        }
    }

    /// Publishes a package. When this returns an error, the store is as it was before.
    pub async fn publish(
        &self,
        package: &Package,
        progress: &dyn Progress,
        cancel: &CancellationToken,
    ) -> Result<(), Error> {
        let mut changes = Changes::new(self);
        let outcome = tokio::select! {
            outcome = self.put_all(package, &mut changes, progress) => outcome,
            () = cancel.cancelled() => Err(Error::Cancelled),
        };
        let Err(error) = outcome else { return Ok(()) };
        match changes.undo().await {
            Ok(()) => Err(Error::TakenBack { error: Box::new(error) }),
            Err(left) => Err(Error::LeftBehind { error: Box::new(error), left }),
        }
    }

    async fn put_all(
        &self,
        package: &Package,
        changes: &mut Changes<'_>,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let total = package.media.iter().map(|file| file.bytes).sum();
        let done = AtomicU64::new(0);
        let added = changes.added();
        let room = Semaphore::new(BYTES_AT_ONCE as usize);
        stream::iter(&package.media)
            .map(|file| async {
                let needed = u32::try_from(file.bytes).unwrap_or(u32::MAX).min(BYTES_AT_ONCE);
                let _room = room.acquire_many(needed).await.expect("it is never closed");
                let bytes = tokio::task::spawn_blocking({
                    let path = file.path.clone();
                    move || fs::read(path)
                });
                let bytes = bytes.await.expect("reading a file does not panic").map_err(Error::Temporary)?;
                added(&file.key);
                let is_key = file.key.ends_with(encryption::EXTENSION);
                self.put(&file.key, bytes, if is_key { SECRET } else { IMMUTABLE }).await?;
                let before = done.fetch_add(file.bytes, Ordering::Relaxed);
                progress.published(before + file.bytes, total);
                Ok(())
            })
            .buffer_unordered(PUTS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        stream::iter(&package.texts)
            .map(|(key, text)| {
                added(key);
                self.put(key, text.clone().into_bytes(), IMMUTABLE)
            })
            .buffer_unordered(PUTS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        let mut description = serde_json::to_vec_pretty(&package.description).expect("it is plain data");
        description.push(b'\n');
        let playlist = package.multivariant.clone().into_bytes();
        for (key, bytes) in [(package.description_key(), description), (package.playlist_key(), playlist)] {
            changes.replacing(&key).await?;
            self.put(&key, bytes, MUTABLE).await?;
        }
        Ok(())
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, cache_control: &'static str) -> Result<(), Error> {
        let mut attributes = Attributes::new();
        // A folder has no place for them; whoever serves it goes by the extension.
        if let Place::Bucket { .. } = self.place {
            attributes.insert(Attribute::ContentType, content_type(key).into());
            attributes.insert(Attribute::CacheControl, cache_control.into());
        }
        let options = PutOptions { attributes, ..PutOptions::default() };
        let put = self.objects.put_opts(&Key::from(self.key(key)), bytes.into(), options).await;
        put.map(|_| ()).map_err(|error| self.refusal(&error))
    }

    /// What is there now, if anything is.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let found = match self.objects.get(&Key::from(self.key(key))).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.refusal(&error)),
        };
        let bytes = found.bytes().await.map_err(|error| self.refusal(&error))?;
        Ok(Some(bytes.to_vec()))
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.objects.delete(&Key::from(self.key(key))).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    fn lacks_credentials(&self) -> bool {
        const SOURCES: [&str; 4] = [
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ];
        let is_bucket = matches!(self.place, Place::Bucket { .. });
        is_bucket && SOURCES.iter().all(|name| env::var_os(name).is_none_or(|value| value.is_empty()))
    }

    /// What the store said, in terms of what can be done about it.
    fn refusal(&self, error: &object_store::Error) -> Error {
        let place = self.place.to_string();
        let reason = chain(error);
        match (&self.place, error) {
            (Place::Folder(path), _) => Error::Folder { path: path.clone(), reason },
            (_, object_store::Error::NotFound { .. }) => Error::NoBucket { place },
            (
                _,
                object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. },
            ) => Error::Refused { place, reason: code(&reason) },
            _ if reason.contains("NoSuchBucket") => Error::NoBucket { place },
            // The machine's own service was asked for them, in vain.
            _ if self.lacks_credentials() && reason.contains(METADATA_SERVICE) => {
                Error::NoCredentials { place }
            }
            _ => Error::Access { place, reason },
        }
    }
}

/// What a publication has changed so far.
struct Changes<'a> {
    store: &'a Store,
    added: Arc<Mutex<BTreeSet<String>>>,
    /// Key and what was there before, in the order in which they were replaced.
    replaced: Vec<(String, Option<Vec<u8>>)>,
}

impl<'a> Changes<'a> {
    fn new(store: &'a Store) -> Self {
        Self { store, added: Arc::default(), replaced: Vec::new() }
    }

    /// To be called *before* something is added: a put that fails may have been carried out.
    fn added(&self) -> impl Fn(&str) + use<> {
        let added = Arc::clone(&self.added);
        move |key| {
            added.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned());
        }
    }

    /// To be called before something is replaced.
    async fn replacing(&mut self, key: &str) -> Result<(), Error> {
        let before = self.store.get(key).await?;
        self.replaced.push((key.to_owned(), before));
        Ok(())
    }

    /// Puts back what was replaced, last things first, then removes what was added; in this order, because a
    /// playlist that cannot be put back may name what was added. Says what could not be undone.
    async fn undo(self) -> Result<(), String> {
        for (key, before) in self.replaced.into_iter().rev() {
            let undone = match before {
                Some(bytes) => self.store.put(&key, bytes, MUTABLE).await,
                None => self.store.delete(&key).await,
            };
            if let Err(error) = undone {
                return Err(format!(
                    "{key} could not be put back ({error}), so everything it may name was left"
                ));
            }
        }
        let added = std::mem::take(&mut *self.added.lock().unwrap_or_else(PoisonError::into_inner));
        let kept: Vec<String> = stream::iter(added)
            .map(async |key: String| {
                self.store.delete(&key).await.err().map(|error| format!("{key} ({error})"))
            })
            .buffer_unordered(PUTS_AT_ONCE)
            .filter_map(async |kept| kept)
            .collect()
            .await;
        match kept.as_slice() {
            [] => Ok(()),
            [first, ..] => Err(format!("{} objects are left, which nothing names: {first} …", kept.len())),
        }
    }
}

fn content_type(key: &str) -> &'static str {
    let extension = key.rsplit('.').next().unwrap_or_default();
    let known = CONTENT_TYPES.iter().find(|(known, _)| *known == extension);
    known.map_or("application/octet-stream", |(_, content_type)| content_type)
}

/// An error and everything behind it, in one line.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The code in an answer of S3, which says more in one word than the rest in a paragraph.
fn code(reason: &str) -> String {
    let code = reason.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map_or_else(|| "access denied".to_owned(), |(code, _)| code.to_owned())
}

/// Why a store does not take an asset.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not named as stores are.
    #[error("`{0}` is no place to publish to: name a folder, or s3://bucket or s3://bucket/prefix")]
    Target(String),
    /// The API's address is not one.
    #[error("`{0}` is no endpoint: it must begin with https:// (or http:// for a server on this machine)")]
    Endpoint(String),
    /// A folder cannot be written to.
    #[error("cannot write to folder {path}: {reason}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// There is no such bucket.
    #[error("{place} does not exist: create it, or correct --to, --endpoint or --region")]
    NoBucket {
        /// Which.
        place: String,
    },
    /// There are no credentials.
    #[error("no credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")]
    NoCredentials {
        /// For what.
        place: String,
    },
    /// There are, but they do not do.
    #[error(
        "{place} refuses the credentials ({reason}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
         and that they may get, put and delete objects"
    )]
    Refused {
        /// Which.
        place: String,
        /// Its word for it.
        reason: String,
    },
    /// It did not answer.
    #[error("{place} did not answer within {seconds} s: check --endpoint and the network")]
    Silent {
        /// Which.
        place: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Anything else that it said.
    #[error("{place}: {reason}")]
    Access {
        /// Which.
        place: String,
        /// What it said.
        reason: String,
    },
    /// What is to be published cannot be read.
    #[error("the temporary folder cannot be read: {0}")]
    Temporary(std::io::Error),
    /// It was asked to stop.
    #[error("stopped")]
    Cancelled,
    /// It failed, and left no trace.
    #[error("{error}; nothing was published, and what had been put was removed")]
    TakenBack {
        /// Why.
        error: Box<Error>,
    },
    /// It failed, and left something.
    #[error("{error}; nothing was published, but not all could be undone: {left}")]
    LeftBehind {
        /// Why.
        error: Box<Error>,
        /// What is left.
        left: String,
    },
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use async_trait::async_trait;
    use futures_util::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
        PutResult, Result as StoreResult,
    };

    use super::*;
    use crate::asset::{self, Asset};
    use crate::package::{Edition, MediaFile};

    /// A bucket that writes down what is put and deleted, and refuses what it is told to refuse.
    #[derive(Debug, Default)]
    struct Recorder {
        bucket: InMemory,
        log: Mutex<Vec<String>>,
        refused: Option<&'static str>,
    }

    impl fmt::Display for Recorder {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("recorder")
        }
    }

    #[async_trait]
    impl ObjectStore for Recorder {
        async fn put_opts(
            &self,
            key: &Key,
            payload: PutPayload,
            options: PutOptions,
        ) -> StoreResult<PutResult> {
            let attribute =
                |name| options.attributes.get(&name).map_or("-", |value| value.as_ref()).to_owned();
            let (kind, cache) = (attribute(Attribute::ContentType), attribute(Attribute::CacheControl));
            self.log.lock().unwrap().push(format!("put {key} {kind} {cache}"));
            // The worst kind of failure: it was carried out, but nobody hears of it.
            let done = self.bucket.put_opts(key, payload, options).await;
            match self.refused {
                Some(refused) if key.as_ref().ends_with(refused) => {
                    Err(object_store::Error::Generic { store: "recorder", source: "out of order".into() })
                }
                _ => done,
            }
        }

        async fn put_multipart_opts(
            &self,
            key: &Key,
            options: PutMultipartOptions,
        ) -> StoreResult<Box<dyn MultipartUpload>> {
            self.bucket.put_multipart_opts(key, options).await
        }

        async fn get_opts(&self, key: &Key, options: GetOptions) -> StoreResult<GetResult> {
            self.bucket.get_opts(key, options).await
        }

        fn delete_stream(
            &self,
            keys: BoxStream<'static, StoreResult<Key>>,
        ) -> BoxStream<'static, StoreResult<Key>> {
            self.bucket.delete_stream(keys)
        }

        fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
            self.bucket.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Key>) -> StoreResult<ListResult> {
            self.bucket.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> StoreResult<()> {
            self.bucket.copy_opts(from, to, options).await
        }
    }

    fn store(recorder: &Arc<Recorder>) -> Store {
        let place = Place::Bucket { name: "media".into(), endpoint: None };
        Store { objects: Arc::clone(recorder) as Arc<dyn ObjectStore>, prefix: "films".into(), place }
    }

    /// A package with one file, and the folder that the file is in.
    fn package(second: &str) -> (Package, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path: PathBuf = folder.path().join("00001.m4s");
        fs::write(&path, "media").unwrap();
        let asset: AssetId = "a".parse().unwrap();
        let now: jiff::Timestamp = format!("2026-11-22T10:00:{second}Z").parse().unwrap();
        let generation = Generation::new(now, 1);
        let base = format!("assets/a/{generation}/360p");
        let name = |name: &str| format!("{base}/{name}");
        let file = |file| MediaFile { key: name(file), path: path.clone(), bytes: 5, sha256: [0; 32] };
        let package = Package {
            media: ["init.mp4", "00001.m4s", "00002.m4s"].map(file).into(),
            texts: vec![(name("index.m3u8"), "media playlist".into())],
            multivariant: format!("playlist {second}"),
            description: Asset { generation: generation.clone(), ..asset::described(&asset, now) },
            edition: Edition { asset, generation, created: now },
        };
        (package, folder)
    }

    async fn objects(recorder: &Recorder) -> Vec<String> {
        let found: Vec<ObjectMeta> = recorder.bucket.list(None).try_collect().await.unwrap();
        let mut keys: Vec<_> = found.into_iter().map(|object| object.location.to_string()).collect();
        keys.sort();
        keys
    }

    #[tokio::test]
    async fn what_is_named_is_there_before_what_names_it() {
        let recorder = Arc::new(Recorder::default());
        let (package, _folder) = package("00");
        store(&recorder).publish(&package, &(), &CancellationToken::new()).await.unwrap();
        let mut log = std::mem::take(&mut *recorder.log.lock().unwrap());
        log[..3].sort();
        let base = "put films/assets/a";
        let generation = format!("{base}/20261122t100000z-00000001/360p");
        assert_eq!(
            log,
            [
                format!("{generation}/00001.m4s video/iso.segment max-age=31536000, immutable"),
                format!("{generation}/00002.m4s video/iso.segment max-age=31536000, immutable"),
                format!("{generation}/init.mp4 video/mp4 max-age=31536000, immutable"),
                format!("{generation}/index.m3u8 application/vnd.apple.mpegurl max-age=31536000, immutable"),
                format!("{base}/asset.json application/json no-cache"),
                format!("{base}/index.m3u8 application/vnd.apple.mpegurl no-cache"),
            ]
        );
    }

    #[tokio::test]
    async fn whatever_fails_the_store_is_as_it_was() {
        let mut recorder = Arc::new(Recorder::default());
        let (first, _folder) = package("01");
        store(&recorder).publish(&first, &(), &CancellationToken::new()).await.unwrap();
        let before = objects(&recorder).await;
        for refused in ["00002.m4s", "360p/index.m3u8", "asset.json", "a/index.m3u8"] {
            Arc::get_mut(&mut recorder).unwrap().refused = Some(refused);
            let (second, _folder) = package("02");
            let error = store(&recorder).publish(&second, &(), &CancellationToken::new()).await.unwrap_err();
            if matches!(refused, "asset.json" | "a/index.m3u8") {
                // Here putting back fails as well; then what it may name must stay.
                assert!(error.to_string().contains("everything it may name was left"), "{error}");
                assert!(objects(&recorder).await.len() > before.len());
                continue;
            }
            assert!(error.to_string().ends_with("what had been put was removed"), "{error}");
            assert_eq!(objects(&recorder).await, before, "{refused}");
            let playlist = store(&recorder).get("assets/a/index.m3u8").await.unwrap();
            assert_eq!(playlist.unwrap(), b"playlist 01");
        }
    }

    #[tokio::test]
    async fn a_first_publication_that_fails_leaves_nothing() {
        let recorder = Arc::new(Recorder { refused: Some("a/index.m3u8"), ..Recorder::default() });
        let (package, _folder) = package("00");
        let error = store(&recorder).publish(&package, &(), &CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains("out of order; nothing was published"), "{error}");
        assert_eq!(objects(&recorder).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn cancelled_it_takes_everything_back() {
        let recorder = Arc::new(Recorder::default());
        let cancel = CancellationToken::new();
        cancel.cancel();
        let (package, _folder) = package("00");
        let error = store(&recorder).publish(&package, &(), &cancel).await.unwrap_err();
        assert!(error.to_string().starts_with("stopped; nothing was published"), "{error}");
        assert_eq!(objects(&recorder).await, Vec::<String>::new());
    }

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        let open = |target: &str| Store::open(target, &Access::default());
        let bucket = open("s3://media/films/2026/").unwrap();
        assert_eq!(bucket.key("assets/a/index.m3u8"), "films/2026/assets/a/index.m3u8");
        assert_eq!(open("s3://media").unwrap().key("x"), "x");
        for bad in ["", "s3://", "s3:///x", "s3://media/../x", "s3://me dia", "gs://media", "https://a/b"] {
            assert!(matches!(open(bad), Err(Error::Target(_))), "{bad}");
        }
        let access = Access { endpoint: Some("127.0.0.1:9000".into()), region: None };
        assert!(matches!(Store::open("s3://media", &access), Err(Error::Endpoint(_))));
    }
}
