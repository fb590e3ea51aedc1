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
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt, PutOptions, PutPayload, RetryConfig,
};
use tokio::time::timeout;

use crate::asset::{AssetId, Generation};
use crate::package::Package;
use crate::{CancellationToken, Progress};

/// Puts at once: enough to hide the time that one takes to be answered, few enough to be fair to others.
const PUTS_AT_ONCE: usize = 8;

/// How long the first request may take. Without credentials in the environment those of the machine are asked
/// for, and on most machines nobody answers.
const CHECK_TIME: Duration = Duration::from_secs(20);

/// A put is tried again on a 5xx and on a broken connection, this often and for so long.
const RETRIES: usize = 6;
const RETRY_TIME: Duration = Duration::from_mins(2);

/// How long one put may take: a segment over a slow line needs more than the half minute that is usual.
const PUT_TIME: Duration = Duration::from_mins(5);

/// A generation never changes; what names it may at any time.
const IMMUTABLE: &str = "max-age=31536000, immutable";
const MUTABLE: &str = "no-cache";

/// Content types by extension (Apple's authoring guide, "Delivery").
const CONTENT_TYPES: [(&str, &str); 4] = [
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("mp4", "video/mp4"),
    ("m4s", "video/iso.segment"),
    ("json", "application/json"),
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
            builder = builder.with_endpoint(endpoint);
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
        stream::iter(&package.media)
            .map(|file| async {
                let bytes = tokio::task::spawn_blocking({
                    let path = file.path.clone();
                    move || fs::read(path)
                });
                let bytes = bytes.await.expect("reading a file does not panic").map_err(Error::Temporary)?;
                added(&file.key);
                self.put(&file.key, bytes, IMMUTABLE).await?;
                let before = done.fetch_add(file.bytes, Ordering::Relaxed);
                progress.published(before + file.bytes, total);
                Ok(())
            })
            .buffer_unordered(PUTS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        stream::iter(&package.playlists)
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
            _ if self.lacks_credentials() => Error::NoCredentials { place },
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
