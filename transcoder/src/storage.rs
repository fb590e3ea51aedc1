//! Puts an asset where the edge reads it: a folder, or a bucket of anything that speaks S3.
//!
//! A viewer must never meet half an asset. So what a playlist names is there before the playlist, `index.m3u8` is
//! written last, and until then an earlier generation goes on playing. What fails goes on where it stopped, or is
//! taken back by [`Store::discard`].
//!
//! ```text
//! publish    puts what is missing of a generation, then switches to it
//! catalogue  which assets and generations there are; removes them
//! claims     which of several copies of the service does a job
//! ```

mod catalogue;
pub mod claims;
pub mod examination;
mod publish;

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    RetryConfig, UpdateVersion,
};
use tokio::time::timeout;

use crate::Class;
use crate::asset::{AssetId, Generation};

pub use catalogue::Stored;

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
    Folder(PathBuf),
    Bucket { name: String, endpoint: Option<String> },
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(formatter, "folder {}", path.display()),
            Self::Bucket { name, endpoint: None } => write!(formatter, "bucket {name} of AWS"),
            Self::Bucket { name, endpoint: Some(endpoint) } => {
                write!(formatter, "bucket {name} at {endpoint}")
            }
        }
    }
}

/// How to reach a bucket, as far as it is not in the usual variables of AWS.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// The S3 API, where it is not Amazon's (https://…, or http://… for a server on this machine)
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL")]
    pub endpoint: Option<String>,

    /// The bucket's region
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
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
        let objects = Arc::new(objects.with_automatic_cleanup(true).with_fsync(true));
        Ok(Self { objects, prefix: String::new(), place: Place::Folder(path.into()) })
    }

    fn bucket(rest: &str, access: &Access) -> Result<Self, Error> {
        let Bucket { objects, name, prefix } = bucket(rest, access)?;
        let place = Place::Bucket { name, endpoint: access.endpoint.clone() };
        Ok(Self { objects: Arc::new(objects), prefix, place })
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

    async fn put(&self, key: &str, bytes: Vec<u8>, cache_control: &'static str) -> Result<(), Error> {
        let put = self.put_opts(key, bytes, cache_control, PutMode::Overwrite).await;
        put.map_err(|error| self.refusal(&error))
    }

    /// Puts something if there still is what was found before, or still nothing. Whether there was.
    async fn put_if(
        &self,
        key: &str,
        bytes: Vec<u8>,
        cache_control: &'static str,
        before: Option<&Found>,
    ) -> Result<bool, Error> {
        let mode = match (&self.place, before) {
            // Here whoever calls this holds the lock.
            (Place::Folder(_), _) => PutMode::Overwrite,
            (_, Some(found)) => PutMode::Update(found.version.clone()),
            (_, None) => PutMode::Create,
        };
        match self.put_opts(key, bytes.clone(), cache_control, mode).await {
            Ok(()) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(false)
            }
            Err(error) if is_not_implemented(&error) => {
                tracing::warn!(
                    "{} knows no conditional puts: two who publish one asset at once may mix it up",
                    self.place
                );
                self.put(key, bytes, cache_control).await.map(|()| true)
            }
            Err(error) => Err(self.refusal(&error)),
        }
    }

    async fn put_opts(
        &self,
        key: &str,
        bytes: Vec<u8>,
        cache_control: &'static str,
        mode: PutMode,
    ) -> object_store::Result<()> {
        let options =
            PutOptions { attributes: self.attributes(key, cache_control), mode, ..PutOptions::default() };
        self.objects.put_opts(&Key::from(self.key(key)), bytes.into(), options).await.map(|_| ())
    }

    fn attributes(&self, key: &str, cache_control: &'static str) -> Attributes {
        let mut attributes = Attributes::new();
        // A folder has no place for them; whoever serves it goes by the extension.
        if let Place::Bucket { .. } = self.place {
            attributes.insert(Attribute::ContentType, content_type(key).into());
            attributes.insert(Attribute::CacheControl, cache_control.into());
        }
        attributes
    }

    /// What is there now, if anything is.
    async fn find(&self, key: &str) -> Result<Option<Found>, Error> {
        let found = match self.objects.get(&Key::from(self.key(key))).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.refusal(&error)),
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|error| self.refusal(&error))?;
        Ok(Some(Found { bytes: bytes.to_vec(), version }))
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        match self.objects.delete(&Key::from(self.key(key))).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    /// Everything below a folder: names from there, sizes, and when the last of it was put.
    async fn contents(&self, folder: &str) -> Result<Contents, Error> {
        let folder = Key::from(self.key(folder));
        let mut contents = Contents::default();
        let mut objects = self.objects.list(Some(&folder));
        loop {
            match objects.try_next().await {
                Ok(Some(object)) => {
                    let name: Vec<_> = object.location.prefix_match(&folder).into_iter().flatten().collect();
                    let name: Vec<_> = name.iter().map(AsRef::as_ref).collect();
                    contents.sizes.insert(name.join("/"), object.size);
                    contents.latest = contents.latest.max(object.last_modified.timestamp());
                }
                // Of a folder, some may be removed while it is looked through.
                Err(object_store::Error::NotFound { .. }) if self.is_folder() => {}
                Err(error) => return Err(self.refusal(&error)),
                Ok(None) => return Ok(contents),
            }
        }
    }

    fn is_folder(&self) -> bool {
        matches!(self.place, Place::Folder(_))
    }

    /// Where something of this store is on disk.
    fn path(&self, key: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Folder(root) => Some(root.join(key)),
            Place::Bucket { .. } => None,
        }
    }

    /// Keeps others from switching, in a folder, for as long as this is kept. A bucket has conditions instead.
    async fn lock(&self) -> Result<Option<File>, Error> {
        let Place::Folder(root) = &self.place else { return Ok(None) };
        let path = root.clone();
        let locked = tokio::task::spawn_blocking(move || {
            let folder = File::open(path)?;
            folder.lock().map(|()| folder)
        });
        match locked.await.expect("locking does not panic") {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                tracing::warn!("{} cannot be locked: two who publish at once may mix it up", self.place);
                Ok(None)
            }
            Err(error) => Err(Error::Folder { path: root.display().to_string(), reason: error.to_string() }),
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
            (Place::Folder(path), _) => Error::Folder { path: path.display().to_string(), reason },
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

/// A bucket, and where in it.
pub(crate) struct Bucket {
    pub(crate) objects: AmazonS3,
    pub(crate) name: String,
    pub(crate) prefix: String,
}

/// Opens `bucket` or `bucket/prefix`, with credentials from the environment.
pub(crate) fn bucket(rest: &str, access: &Access) -> Result<Bucket, Error> {
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let is_part = |part: &str| part != "." && part != ".." && part.chars().all(is_name);
    let prefix = prefix.trim_matches('/');
    if name.is_empty() || !name.chars().all(is_name) || !prefix.split('/').all(is_part) {
        return Err(Error::Target(format!("s3://{rest}")));
    }
    let is_plain = access.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
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
    // Beside TLS's own check: what lies there is what was sent, or the put is refused.
    if builder.get_config_value(&AmazonS3ConfigKey::Checksum).is_none() {
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    let place = Place::Bucket { name: name.to_owned(), endpoint: access.endpoint.clone() };
    let objects =
        builder.build().map_err(|error| Error::Access { place: place.to_string(), reason: chain(&error) })?;
    Ok(Bucket { objects, name: name.to_owned(), prefix: prefix.to_owned() })
}

/// Something that is there, and which version of it.
#[derive(Clone, Debug)]
struct Found {
    bytes: Vec<u8>,
    version: UpdateVersion,
}

/// What a folder holds.
#[derive(Clone, Debug, Default)]
struct Contents {
    sizes: BTreeMap<String, u64>,
    /// When the last was put, in seconds since 1970.
    latest: i64,
}

/// Whether a server does not know what it is asked for.
fn is_not_implemented(error: &object_store::Error) -> bool {
    let by_server =
        |reason: &str| reason.contains("<Code>NotImplemented") || reason.contains("501 Not Implemented");
    matches!(error, object_store::Error::NotImplemented { .. }) || by_server(&chain(error))
}

fn content_type(key: &str) -> &'static str {
    let extension = key.rsplit('.').next().unwrap_or_default();
    let known = CONTENT_TYPES.iter().find(|(known, _)| *known == extension);
    known.map_or("application/octet-stream", |(_, content_type)| content_type)
}

/// An error and everything behind it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
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
    /// Somebody published something newer meanwhile.
    #[error("a newer upload of {0} is published already")]
    Superseded(AssetId),
    /// Others switch it again and again.
    #[error("{0} is being published by others all the time, and there was no turn for this one: try again")]
    Contended(AssetId),
    /// Somebody removes what is being put.
    #[error("part of {0} was removed while it was published: try again")]
    Removed(AssetId),
    /// There is no such asset, or it is not played.
    #[error("{place} has no asset {asset} that can be played: check the name, and --to")]
    NoAsset {
        /// Which.
        asset: AssetId,
        /// Where.
        place: String,
    },
    /// There is no such generation that could be played.
    #[error("{asset} has no generation {generation} that is complete: {reason}")]
    Incomplete {
        /// Of which asset.
        asset: AssetId,
        /// Which.
        generation: Generation,
        /// What it lacks.
        reason: String,
    },
    /// There is none before the present one.
    #[error("{0} has no complete generation before the present one: there is nothing to go back to")]
    NothingBefore(AssetId),
    /// What a copy of the service noted down of a job cannot be read.
    #[error("{key} in {place} is not what it should be ({reason}): remove it")]
    Record {
        /// Which.
        key: String,
        /// Where.
        place: String,
        /// Why.
        reason: String,
    },
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

impl Error {
    /// What is to be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Target(_)
            | Self::Endpoint(_)
            | Self::NoBucket { .. }
            | Self::NoCredentials { .. }
            | Self::Refused { .. }
            | Self::NoAsset { .. }
            | Self::Incomplete { .. }
            | Self::NothingBefore(_)
            | Self::Record { .. } => Class::Settings,
            Self::Folder { reason, .. } if has_no_rights(reason) => Class::Settings,
            Self::Access { reason, .. } if MISCONFIGURED.iter().any(|code| reason.contains(code)) => {
                Class::Settings
            }
            Self::Folder { .. }
            | Self::Access { .. }
            | Self::Silent { .. }
            | Self::Temporary(_)
            | Self::Contended(_)
            | Self::Removed(_) => Class::Busy,
            Self::Superseded(_) | Self::Cancelled => Class::Stopped,
            Self::TakenBack { error } | Self::LeftBehind { error, .. } => error.class(),
        }
    }
}

/// What S3 says of a request that will never be a good one.
const MISCONFIGURED: [&str; 5] = [
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidBucketName",
    "EntityTooLarge",
];

fn has_no_rights(reason: &str) -> bool {
    ["Permission denied", "Read-only file system", "Operation not permitted"]
        .iter()
        .any(|words| reason.contains(words))
}

#[cfg(test)]
mod tests;
