//! What lies where uploads land: one folder, or one bucket (with a prefix).
//!
//! Whatever says that something was uploaded, a message or a file system, is a hint to look at a name. What counts is
//! what lies there: that is how repeated, late, lost and disordered messages all come to the same.
//!
//! Names are a stranger's. One that could lead out of the place, or break a log's line, is refused before anything
//! is done by it.

use std::fmt;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::{self, Path as Key};
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, WriteMultipart};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use crate::asset::{AssetId, hexadecimal};
use crate::captions;
use crate::storage::{self, Access, chain};
use crate::{CancellationToken, Class};

/// S3's own limit for a key.
const LONGEST_NAME: usize = 1_024;

/// What file systems take between two slashes.
const LONGEST_SEGMENT: usize = 255;

/// What is being written by some program or other, which gives it another name when it is whole.
const UNFINISHED: [&str; 4] = [".part", ".tmp", ".crdownload", ".filepart"];

/// Read at once: at 1.8 Mbit/s within the five minutes that a request may take.
const PIECE: u64 = 64 << 20;

/// Attempts without a single new byte, each of which [`storage::bucket`] has repeated by itself.
const ATTEMPTS: u32 = 5;

/// S3 takes 10,000 parts of a size; with this one 50 GB are 3,000.
const PART: usize = 16 << 20;
const PARTS_AT_ONCE: usize = 4;

/// Keys at once, as many as S3 gives.
const PAGE: usize = 1_000;

/// The longest file name that is kept: most file systems take 255 bytes.
const LONGEST_FILE_NAME: usize = 200;

/// Digits of the digest in an asset's id: too many to find another name with the same ones.
const DIGITS: usize = 16;

/// A video that lies there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Upload {
    /// Its key below the place's prefix, or its path below the folder with `/`.
    pub name: String,
    /// Tells it from others of the same name: its `ETag` without quotes, or size and time of a file.
    pub version: String,
    /// Its size.
    pub bytes: u64,
    /// When it was put there; of two of one name the later one is meant.
    pub modified: Timestamp,
}

/// Where uploads land.
#[derive(Clone)]
pub struct Uploads {
    place: Arc<Place>,
}

enum Place {
    /// Without links in it, so that what is below can be told from what is elsewhere.
    Folder(PathBuf),
    Bucket(storage::Bucket),
}

/// All that lies there.
#[derive(Debug, Default)]
pub struct Survey {
    /// What can be encoded.
    pub uploads: Vec<Upload>,
    /// What cannot, because of its name, or because it cannot be read.
    pub refused: Vec<Error>,
}

impl Uploads {
    /// Opens `s3://bucket[/prefix]`, or a folder, which is made if it is not there.
    pub fn open(place: &str, access: &Access) -> Result<Self, Error> {
        let no_place = || Error::Place(place.to_owned());
        let place = match place.strip_prefix("s3://") {
            Some(rest) => Place::Bucket(storage::bucket(rest, access).map_err(|error| match error {
                storage::Error::Target(_) => no_place(),
                error => Error::Access { place: place.to_owned(), reason: error.to_string() },
            })?),
            None if place.is_empty() || place.contains("://") => return Err(no_place()),
            None => {
                let failed = |error| Error::File { path: place.into(), error };
                fs::create_dir_all(place).map_err(failed)?;
                Place::Folder(fs::canonicalize(place).map_err(failed)?)
            }
        };
        Ok(Self { place: Arc::new(place) })
    }

    /// What lies there by that name now; nothing where nothing does, or it is nothing to encode.
    pub async fn find(&self, name: &str) -> Result<Option<Upload>, Error> {
        if is_ignored(name) {
            return Ok(None);
        }
        self.stat(name).await
    }

    /// All that lies there to be encoded, and what is left out that somebody should give another name.
    pub async fn survey(&self) -> Result<Survey, Error> {
        let mut survey = match &*self.place {
            Place::Folder(root) => {
                let root = root.clone();
                blocking(move || survey_folder(&root)).await?
            }
            Place::Bucket(bucket) => bucket.survey().await?,
        };
        survey.uploads.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
        Ok(survey)
    }

    /// The file itself, for a program to read: where it lies, or, out of a bucket, in this folder, with the captions
    /// beside it. An upload that was replaced meanwhile is [`Error::Gone`].
    ///
    /// What an earlier call left unfinished in the folder is gone on with.
    pub async fn fetch(
        &self,
        upload: &Upload,
        folder: &Path,
        cancel: &CancellationToken,
    ) -> Result<PathBuf, Error> {
        check(&upload.name)?;
        match &*self.place {
            Place::Folder(root) => {
                let found = self.stat(&upload.name).await?;
                found
                    .filter(|found| found.version == upload.version)
                    .map(|_| root.join(&upload.name))
                    .ok_or_else(|| Error::Gone(shown(&upload.name)))
            }
            Place::Bucket(bucket) => tokio::select! {
                fetched = bucket.fetch(upload, folder) => fetched,
                () = cancel.cancelled() => Err(Error::Cancelled),
            },
        }
    }

    /// Whether something can be put there by that name, before anybody sends it.
    pub async fn admit(&self, name: &str) -> Result<(), Error> {
        check(name)?;
        if is_ignored(name) && !captions::is_captions(name) {
            let reason = "what begins with a dot or ends as an unfinished file does is not taken";
            return Err(Error::Name { name: shown(name), reason });
        }
        match &*self.place {
            Place::Folder(root) => {
                let (root, name) = (root.clone(), name.to_owned());
                blocking(move || check_way(&root, &name)).await
            }
            Place::Bucket(bucket) => bucket.key(name).map(drop),
        }
    }

    /// Puts a finished file there by that name (moves it, into a folder).
    pub async fn put(&self, name: &str, file: &Path) -> Result<Upload, Error> {
        self.admit(name).await?;
        match &*self.place {
            Place::Folder(root) => {
                let (root, name, file) = (root.clone(), name.to_owned(), file.to_owned());
                blocking(move || move_into(&root, &name, &file)).await?;
            }
            Place::Bucket(bucket) => bucket.put(name, file).await?,
        }
        self.stat(name).await?.ok_or_else(|| Error::Gone(shown(name)))
    }

    async fn stat(&self, name: &str) -> Result<Option<Upload>, Error> {
        check(name)?;
        match &*self.place {
            Place::Folder(root) => {
                let (root, name) = (root.clone(), name.to_owned());
                blocking(move || stat_below(&root, &name)).await
            }
            Place::Bucket(bucket) => bucket.head(name).await,
        }
    }

    /// The name of an object of a bucket, if it lies here.
    #[must_use]
    pub fn name_of<'a>(&self, bucket: &str, key: &'a str) -> Option<&'a str> {
        match &*self.place {
            Place::Bucket(here) if here.name == bucket => here.name_of(key),
            _ => None,
        }
    }

    /// Where something lies: `s3://bucket/key`, or a path. Part of what a job's id is derived from.
    #[must_use]
    pub fn uri(&self, name: &str) -> String {
        match &*self.place {
            Place::Folder(root) => root.join(name).to_string_lossy().into_owned(),
            Place::Bucket(bucket) => format!("s3://{}/{}", bucket.name, bucket.key_of(name)),
        }
    }

    /// The folder, if it is one.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &*self.place {
            Place::Folder(root) => Some(root),
            Place::Bucket(_) => None,
        }
    }
}

// By hand: what speaks to a bucket has its credentials.
impl fmt::Debug for Uploads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Uploads({})", self.uri(""))
    }
}

/// What an upload is called in the bucket: its name without the extension, and where anything of that had to be
/// replaced, a digest of the name, so that two names never make one asset.
///
/// Only `.mp4` goes without a digest, or `talk.mov` would replace `talk.mp4`.
#[must_use]
#[expect(clippy::missing_panics_doc, reason = "it does not")]
pub fn asset_of(name: &str) -> AssetId {
    if let Some(asset) =
        name.strip_suffix(".mp4").filter(|stem| !has_digest(stem)).and_then(|stem| stem.parse().ok())
    {
        return asset;
    }
    let digest = hexadecimal(&Sha256::digest(name)[..DIGITS / 2]);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let mut id = String::new();
    for character in stem.chars() {
        let is_kept = character.is_ascii_alphanumeric() || matches!(character, '.' | '_');
        match character {
            _ if is_kept => id.push(character),
            _ if id.is_empty() || id.ends_with('-') => {}
            _ => id.push('-'),
        }
        // With the digest it stays below the 128 that an id may have.
        if id.len() > 100 {
            break;
        }
    }
    let id = format!("{}-{digest}", id.trim_end_matches('-'));
    id.trim_start_matches('-').parse().expect("it is made of what an id may have")
}

/// Whether it could be taken for an id that was made of another name.
fn has_digest(stem: &str) -> bool {
    let Some((rest, digits)) = stem.len().checked_sub(DIGITS).and_then(|at| stem.split_at_checked(at)) else {
        return false;
    };
    (rest.is_empty() || rest.ends_with('-')) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether it is nothing to encode, whatever is in it. Everything else is looked into.
fn is_ignored(name: &str) -> bool {
    name.split('/').any(|segment| segment.starts_with('.') && !matches!(segment, "." | ".."))
        // How consoles keep a folder that has nothing in it.
        || name.ends_with('/')
        || name.ends_with('~')
        || UNFINISHED.iter().any(|end| name.to_ascii_lowercase().ends_with(end))
        || captions::is_captions(name)
}

fn check(name: &str) -> Result<(), Error> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > LONGEST_NAME {
        "it is longer than 1,024 bytes"
    } else if name.chars().any(char::is_control) {
        "it has a control character in it, such as the end of a line"
    } else if name.split('/').any(str::is_empty) {
        "it begins or ends with a slash, or has two in a row"
    } else if name.split('/').any(|segment| matches!(segment, "." | "..")) {
        "it has a `.` or `..` between slashes"
    } else {
        return Ok(());
    };
    Err(Error::Name { name: shown(name), reason })
}

/// A name that anybody may have chosen, for a person to read.
fn shown(name: &str) -> String {
    let shown: String = name.chars().take(120).flat_map(char::escape_debug).collect();
    if name.chars().nth(120).is_some() { format!("{shown}…") } else { shown }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic()))
}

// --- a folder -----------------------------------------------------------------------------------------------

/// The file of that name, unless it, or a folder on the way, is a link to somewhere outside.
fn stat_below(root: &Path, name: &str) -> Result<Option<Upload>, Error> {
    let path = root.join(name);
    let found = fs::canonicalize(&path).and_then(|real| Ok((fs::metadata(&real)?, real)));
    match found {
        Ok((metadata, real)) if metadata.is_file() && real.starts_with(root) => {
            upload(name.to_owned(), &metadata).map(Some).map_err(|error| Error::File { path, error })
        }
        Ok(_) => Ok(None),
        Err(error) if is_absence(&error) => Ok(None),
        Err(error) => Err(Error::File { path, error }),
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename)
}

fn upload(name: String, metadata: &Metadata) -> io::Result<Upload> {
    let modified = Timestamp::try_from(metadata.modified()?).map_err(io::Error::other)?;
    let version = format!("{}-{}", metadata.len(), modified.as_nanosecond());
    Ok(Upload { name, version, bytes: metadata.len(), modified })
}

fn survey_folder(root: &Path) -> Result<Survey, Error> {
    let mut survey = Survey::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            // It was removed since it was found.
            Err(error) if is_absence(&error) && folder != root => continue,
            // One that others own, such as `lost+found`, hides nothing but what is in it.
            Err(error) if error.kind() == ErrorKind::PermissionDenied && folder != root => {
                survey.refused.push(Error::File { path: folder, error });
                continue;
            }
            Err(error) => return Err(Error::File { path: folder, error }),
        };
        for entry in entries {
            let entry = entry.map_err(|error| Error::File { path: folder.clone(), error })?;
            let path = entry.path();
            let below = path.strip_prefix(root).expect("it was found there");
            let Some(name) = below.to_str() else {
                let name = shown(&below.to_string_lossy());
                survey.refused.push(Error::Name { name, reason: "it is not UTF-8" });
                continue;
            };
            if is_ignored(name) {
                continue;
            }
            // Of a link this is the link, so that no circle is walked.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
                continue;
            }
            match check(name).and_then(|()| stat_below(root, name)) {
                Ok(found) => survey.uploads.extend(found),
                Err(error) => survey.refused.push(error),
            }
        }
    }
    Ok(survey)
}

/// Whether there can be a file of that name in the folder, as it is now.
fn check_way(root: &Path, name: &str) -> Result<(), Error> {
    let path = root.join(name);
    let failed = |error| Error::File { path: path.clone(), error };
    let folder = path.parent().unwrap_or(root);
    // What there is of the way must not lead out before the rest of it is made.
    let there = folder.ancestors().find(|folder| folder.exists()).unwrap_or(root);
    let reason = if name.split('/').any(|segment| segment.len() > LONGEST_SEGMENT) {
        "a part of it between slashes is longer than 255 bytes"
    } else if !fs::canonicalize(there).map_err(failed)?.starts_with(root) {
        "a link on its way leads out of the folder"
    } else if !there.is_dir() {
        "what is before a slash of it is the name of a file"
    } else if fs::symlink_metadata(&path).is_ok_and(|there| there.is_dir()) {
        "a folder has it"
    } else {
        return Ok(());
    };
    Err(Error::Name { name: shown(name), reason })
}

fn move_into(root: &Path, name: &str, file: &Path) -> Result<(), Error> {
    let path = root.join(name);
    let failed = |error| Error::File { path: path.clone(), error };
    let folder = path.parent().unwrap_or(root);
    fs::create_dir_all(folder).map_err(failed)?;
    match fs::rename(file, &path) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {}
        moved => return moved.map_err(failed),
    }
    let mut copy =
        tempfile::Builder::new().prefix(".").suffix(".part").tempfile_in(folder).map_err(failed)?;
    io::copy(&mut fs::File::open(file).map_err(failed)?, &mut copy).map_err(failed)?;
    copy.as_file().sync_all().map_err(failed)?;
    copy.persist(&path).map_err(|error| failed(error.error))?;
    fs::remove_file(file).map_err(failed)
}

// --- a bucket -----------------------------------------------------------------------------------------------

impl storage::Bucket {
    fn key_of(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) }
    }

    fn name_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        if self.prefix.is_empty() { Some(key) } else { key.strip_prefix(&self.prefix)?.strip_prefix('/') }
    }

    /// As it is: other ways to make one encode what they find in it.
    fn key(&self, name: &str) -> Result<Key, Error> {
        let key = self.key_of(name);
        if key.len() > LONGEST_NAME {
            let reason = "with the prefix before it, it is longer than 1,024 bytes";
            return Err(Error::Name { name: shown(name), reason });
        }
        Key::parse(key)
            .map_err(|_| Error::Name { name: shown(name), reason: "it has a character that no key may have" })
    }

    fn refusal(&self, error: &object_store::Error) -> Error {
        Error::Access { place: format!("bucket {}", self.name), reason: chain(error) }
    }

    async fn head(&self, name: &str) -> Result<Option<Upload>, Error> {
        match self.objects.head(&self.key(name)?).await {
            Ok(object) => Ok(Some(described(name.to_owned(), &object))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.refusal(&error)),
        }
    }

    async fn survey(&self) -> Result<Survey, Error> {
        let mut survey = Survey::default();
        let prefix = self.key_of("");
        let mut options = PaginatedListOptions::default();
        let mut keys = PAGE;
        loop {
            let options_now = PaginatedListOptions { max_keys: Some(keys), ..options.clone() };
            match self.objects.list_paginated(Some(&prefix), options_now).await {
                Ok(page) => {
                    for object in page.result.objects {
                        let Some(name) = self.name_of(object.location.as_ref()) else { continue };
                        match check(name) {
                            _ if is_ignored(name) => {}
                            // An empty one may be how consoles keep a folder: listed, it has lost the slash at its end.
                            Ok(()) if object.size == 0 => survey.uploads.extend(self.head(name).await?),
                            Ok(()) => survey.uploads.push(described(name.to_owned(), &object)),
                            Err(error) => survey.refused.push(error),
                        }
                    }
                    let Some(next) = page.page_token else { return Ok(survey) };
                    options =
                        PaginatedListOptions { page_token: Some(next), ..PaginatedListOptions::default() };
                    keys = (keys * 2).min(PAGE);
                }
                // One key that cannot be said in the library's terms spoils its page. So pages are made smaller until
                // it is alone on one, and it is passed over: whoever puts it there must not be able to stop this.
                Err(object_store::Error::InvalidPath {
                    source: path::Error::EmptySegment { path } | path::Error::BadSegment { path, .. },
                }) => {
                    if keys > 1 {
                        keys /= 2;
                        continue;
                    }
                    let name = self.name_of(&path).unwrap_or(&path);
                    if !is_ignored(name) {
                        survey.refused.push(check(name).err().unwrap_or(Error::Gone(shown(name))));
                    }
                    options = PaginatedListOptions { offset: Some(path), ..PaginatedListOptions::default() };
                }
                Err(error) => return Err(self.refusal(&error)),
            }
        }
    }

    async fn fetch(&self, upload: &Upload, folder: &Path) -> Result<PathBuf, Error> {
        // A folder in the folder: an upload may have any name.
        let folder = folder.join("source");
        let path = folder.join(local_name(&upload.name));
        let failed = |error| Error::File { path: path.clone(), error };
        tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
        let is_there = tokio::fs::metadata(&path).await.is_ok_and(|found| found.len() == upload.bytes);
        if !is_there {
            self.fetch_captions(upload, &path).await?;
            let part = folder.join(".part");
            self.fetch_object(upload, &part).await?;
            tokio::fs::rename(&part, &path).await.map_err(failed)?;
        }
        Ok(path)
    }

    /// From where the file ends on, in pieces, so that a broken connection costs the piece that it broke in at most.
    async fn fetch_object(&self, upload: &Upload, path: &Path) -> Result<(), Error> {
        let failed = |error| Error::File { path: path.to_owned(), error };
        let mut file =
            tokio::fs::OpenOptions::new().create(true).append(true).open(path).await.map_err(failed)?;
        let mut failures = 0;
        loop {
            let mut have = file.seek(io::SeekFrom::End(0)).await.map_err(failed)?;
            if have > upload.bytes {
                file.set_len(0).await.map_err(failed)?;
                have = 0;
            }
            if have == upload.bytes {
                return file.sync_all().await.map_err(failed);
            }
            let end = upload.bytes.min(have + PIECE);
            let error = match self.fetch_piece(upload, have..end, &mut file).await {
                Ok(()) => continue,
                Err(Failure::Disk(error)) => return Err(failed(error)),
                Err(Failure::Store(
                    object_store::Error::NotFound { .. } | object_store::Error::Precondition { .. },
                )) => return Err(Error::Gone(shown(&upload.name))),
                Err(Failure::Store(error)) => self.refusal(&error),
                Err(Failure::Name(error)) => return Err(error),
            };
            let has_more = file.seek(io::SeekFrom::End(0)).await.map_err(failed)? > have;
            failures = if has_more { 1 } else { failures + 1 };
            if failures == ATTEMPTS {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(200 << failures)).await;
        }
    }

    async fn fetch_piece(
        &self,
        upload: &Upload,
        range: std::ops::Range<u64>,
        file: &mut tokio::fs::File,
    ) -> Result<(), Failure> {
        let options = GetOptions {
            if_match: Some(format!("\"{}\"", upload.version)),
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let key = self.key(&upload.name).map_err(Failure::Name)?;
        let piece = self.objects.get_opts(&key, options).await.map_err(Failure::Store)?;
        let mut bytes = piece.into_stream();
        while let Some(bytes) = bytes.next().await {
            let written = match bytes {
                Ok(bytes) => file.write_all(&bytes).await,
                Err(error) => {
                    file.flush().await.map_err(Failure::Disk)?;
                    return Err(Failure::Store(error));
                }
            };
            written.map_err(Failure::Disk)?;
        }
        file.flush().await.map_err(Failure::Disk)
    }

    /// What lies beside it and by its name is its captions, as [`captions::beside`] finds them beside the file.
    /// (In a bucket, where upper and lower case differ, their names begin exactly as the video's.)
    async fn fetch_captions(&self, upload: &Upload, path: &Path) -> Result<(), Error> {
        let (parent, file) =
            upload.name.rsplit_once('/').map_or(("", upload.name.as_str()), |(parent, file)| (parent, file));
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        let before = if parent.is_empty() { String::new() } else { format!("{parent}/") };
        let options = PaginatedListOptions {
            delimiter: Some("/".into()),
            max_keys: Some(PAGE),
            ..PaginatedListOptions::default()
        };
        let listed =
            self.objects.list_paginated(Some(&self.key_of(&format!("{before}{stem}"))), options).await;
        let objects = listed.map_err(|error| self.refusal(&error))?.result.objects;
        let files = objects.iter().filter(|object| object.size <= captions::LARGEST);
        let files = files.filter_map(|object| object.location.filename().map(str::to_owned));
        let local = path.file_stem().unwrap_or_default().to_string_lossy();
        for found in captions::among(Path::new(file), files) {
            let name = found.path.to_string_lossy();
            let Some(tags) = name.strip_prefix(stem) else { continue };
            let failed = |error| Error::File { path: path.to_owned(), error };
            let object = match self.objects.get(&self.key(&format!("{before}{name}"))?).await {
                Ok(object) => object.bytes().await,
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => Err(error),
            };
            let bytes = object.map_err(|error| self.refusal(&error))?;
            tokio::fs::write(path.with_file_name(format!("{local}{tags}")), bytes).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn put(&self, name: &str, file: &Path) -> Result<(), Error> {
        let key = self.key(name)?;
        let failed = |error| Error::File { path: file.to_owned(), error };
        let mut source = tokio::fs::File::open(file).await.map_err(failed)?;
        let size = source.metadata().await.map_err(failed)?.len();
        let mut part = Vec::new();
        if size <= PART as u64 {
            source.read_to_end(&mut part).await.map_err(failed)?;
            let put = self.objects.put(&key, part.into()).await;
            return put.map(|_| ()).map_err(|error| self.refusal(&error));
        }
        let upload = self.objects.put_multipart(&key).await.map_err(|error| self.refusal(&error))?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
        loop {
            part.clear();
            let read = (&mut source).take(PART as u64).read_to_end(&mut part).await;
            let waited = match read {
                Ok(0) => break,
                Ok(_) => upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| self.refusal(&error)),
                Err(error) => Err(failed(error)),
            };
            if let Err(error) = waited {
                // What cannot be taken back either, a rule of the bucket's removes.
                let _ = upload.abort().await;
                return Err(error);
            }
            upload.write(&part);
        }
        upload.finish().await.map(|_| ()).map_err(|error| self.refusal(&error))
    }
}

/// Why a piece did not arrive.
enum Failure {
    Disk(io::Error),
    Store(object_store::Error),
    Name(Error),
}

fn described(name: String, object: &ObjectMeta) -> Upload {
    let tag = object.e_tag.as_deref().unwrap_or_default();
    let version = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"').to_owned();
    let modified = &object.last_modified;
    let modified = Timestamp::new(modified.timestamp(), 0).unwrap_or_default();
    Upload { name, version, bytes: object.size, modified }
}

/// What a file is called that has this name in a bucket.
fn local_name(name: &str) -> String {
    let file = name.rsplit('/').next().unwrap_or(name);
    if file.len() <= LONGEST_FILE_NAME {
        return file.to_owned();
    }
    let extension = file.rsplit_once('.').map(|(_, extension)| extension);
    extension
        .filter(|extension| extension.len() <= 16)
        .map_or_else(|| "source".to_owned(), |extension| format!("source.{extension}"))
}

impl Error {
    /// What is to be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Name { .. } => Class::Source,
            Self::Gone(_) | Self::Cancelled => Class::Stopped,
            Self::Place(_) => Class::Settings,
            Self::Access { .. } => Class::Busy,
            Self::File { error, .. } => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Class::Full,
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Class::Settings,
                _ => Class::Busy,
            },
        }
    }
}

/// Why an upload cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not named as places are.
    #[error("`{0}` is no place for uploads: name a folder, or s3://bucket or s3://bucket/prefix")]
    Place(String),
    /// It has a name that nothing is done by.
    #[error("`{name}` cannot be an upload's name: {reason}; give it another one")]
    Name {
        /// Which, with what a log does not bear escaped.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// It is no longer there in that version.
    #[error("{0} is no longer there as it was when it was found: it was replaced or removed")]
    Gone(String),
    /// The bucket does not answer as it should.
    #[error("{place}, where uploads land: {reason}")]
    Access {
        /// Which.
        place: String,
        /// What it said.
        reason: String,
    },
    /// A file or folder cannot be read, or be written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It was asked to stop.
    #[error("stopped")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Uploads) {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("in");
        let uploads = Uploads::open(place.to_str().unwrap(), &Access::default()).unwrap();
        (folder, uploads)
    }

    fn write(uploads: &Uploads, name: &str, text: &str) {
        let path = uploads.folder().unwrap().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn what_is_found_is_what_lies_there_now() {
        let (folder, uploads) = folder();
        write(&uploads, "a/b é.mp4", "12345");
        let first = uploads.find("a/b é.mp4").await.unwrap().unwrap();
        assert_eq!((first.name.as_str(), first.bytes), ("a/b é.mp4", 5));
        assert_eq!(uploads.find("a/b é.mp4").await.unwrap(), Some(first.clone()));
        let path = uploads.fetch(&first, folder.path(), &CancellationToken::new()).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"12345");
        std::thread::sleep(Duration::from_millis(20));
        write(&uploads, "a/b é.mp4", "54321");
        assert_ne!(uploads.find("a/b é.mp4").await.unwrap().unwrap().version, first.version);
        let gone = uploads.fetch(&first, folder.path(), &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(gone, Error::Gone(_)), "{gone}");
        for nothing in ["a", "b.mp4", "a/b é.mp4/c.mp4", &format!("{}.mp4", "x".repeat(400))] {
            assert_eq!(uploads.find(nothing).await.unwrap(), None, "{nothing}");
        }
        assert_eq!(uploads.name_of("bucket", "a/b é.mp4"), None);
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_or_breaks_a_line_is_refused_with_a_reason() {
        let (_folder, uploads) = folder();
        for (name, reason) in [
            ("../x.mp4", "has a `.` or `..`"),
            ("a/../../x.mp4", "has a `.` or `..`"),
            ("./x.mp4", "has a `.` or `..`"),
            ("/etc/passwd", "begins or ends with a slash"),
            ("a//x.mp4", "two in a row"),
            ("x\n.mp4", "control character"),
            ("x\0.mp4", "control character"),
            ("", "is empty"),
            (&format!("{}.mp4", "x".repeat(1_021)), "longer than 1,024 bytes"),
        ] {
            let error = uploads.find(name).await.unwrap_err();
            assert_eq!(error.class(), Class::Source);
            let error = error.to_string();
            assert!(error.contains(reason) && !error.contains(char::is_control), "{error}");
            assert!(uploads.put(name, Path::new("/nowhere")).await.is_err(), "{name}");
        }
    }

    #[tokio::test]
    async fn what_no_file_can_be_called_is_refused_before_it_is_sent() {
        let (folder, uploads) = folder();
        write(&uploads, "folder/file.mp4", "12345");
        for (name, reason) in [
            (format!("{}.mp4", "x".repeat(252)), "longer than 255 bytes"),
            (format!("{}/x.mp4", "ü".repeat(128)), "longer than 255 bytes"),
            ("folder/file.mp4/x.mp4".to_owned(), "the name of a file"),
            ("folder/file.mp4/x/y.mp4".to_owned(), "the name of a file"),
            ("folder".to_owned(), "a folder has it"),
            (".x.mp4".to_owned(), "begins with a dot"),
        ] {
            let error = uploads.admit(&name).await.unwrap_err();
            assert!(matches!(error, Error::Name { .. }) && error.to_string().contains(reason), "{error}");
            let put = uploads.put(&name, &folder.path().join("nothing")).await.unwrap_err();
            assert_eq!(put.class(), Class::Source, "{put}");
        }
        for name in [&format!("{}.mp4", "x".repeat(251)), "new/folder/x.mp4", "folder/file.mp4", "x.vtt"] {
            uploads.admit(name).await.unwrap();
        }
        assert!(!folder.path().join("in/new").exists());
    }

    #[tokio::test]
    async fn unfinished_and_hidden_files_and_captions_are_no_uploads() {
        let (_folder, uploads) = folder();
        let ignored = [
            ".x.mp4",
            ".git/x.mp4",
            "a/.b/x.mp4",
            "x.mp4.part",
            "x.tmp",
            "x.CRDOWNLOAD",
            "x.mp4.filepart",
            "x.mp4~",
            "x.srt",
            "x.en.VTT",
        ];
        let counted = ["x.mp4", "x.MOV", "x", "x.txt", "a/b/c.mp4", "part", "x.part.mp4"];
        for name in ignored.iter().chain(&counted) {
            write(&uploads, name, "");
            assert_eq!(uploads.find(name).await.unwrap().is_some(), counted.contains(name), "{name}");
        }
        let mut found: Vec<_> =
            uploads.survey().await.unwrap().uploads.into_iter().map(|upload| upload.name).collect();
        found.sort();
        let mut counted = counted.map(str::to_owned);
        counted.sort();
        assert_eq!(found, counted);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_that_lead_out_are_not_followed() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let (folder, uploads) = folder();
        let root = uploads.folder().unwrap();
        fs::create_dir(folder.path().join("out")).unwrap();
        fs::write(folder.path().join("out/secret.mp4"), "secret").unwrap();
        symlink("../out/secret.mp4", root.join("file.mp4")).unwrap();
        symlink("../out", root.join("folder")).unwrap();
        symlink(".", root.join("circle")).unwrap();
        symlink("nowhere", root.join("broken.mp4")).unwrap();
        write(&uploads, "real.mp4", "");
        symlink("real.mp4", root.join("link.mp4")).unwrap();
        fs::write(root.join(std::ffi::OsStr::from_bytes(b"\xff.mp4")), "").unwrap();
        for name in ["file.mp4", "folder/secret.mp4", "broken.mp4"] {
            assert_eq!(uploads.find(name).await.unwrap(), None, "{name}");
        }
        let survey = uploads.survey().await.unwrap();
        let mut found: Vec<_> = survey.uploads.iter().map(|upload| upload.name.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, ["link.mp4", "real.mp4"]);
        assert!(matches!(&survey.refused[..], [Error::Name { reason: "it is not UTF-8", .. }]));
        let file = folder.path().join("new");
        fs::write(&file, "").unwrap();
        for name in ["folder/new.mp4", "folder/a/b/new.mp4"] {
            assert!(uploads.put(name, &file).await.unwrap_err().to_string().contains("leads out"), "{name}");
        }
        assert!(!folder.path().join("out/a").exists());
    }

    #[tokio::test]
    async fn a_finished_file_is_moved_in() {
        let (folder, uploads) = folder();
        let file = folder.path().join("finished");
        fs::write(&file, "video").unwrap();
        let upload = uploads.put("a/b/x.mp4", &file).await.unwrap();
        assert_eq!(uploads.find("a/b/x.mp4").await.unwrap(), Some(upload));
        assert!(!file.exists());
        fs::write(&file, "captions").unwrap();
        uploads.put("a/b/x.de.srt", &file).await.unwrap();
        assert!(uploads.put("a/.x.mp4", &file).await.is_err());
    }

    #[test]
    fn no_two_names_make_one_asset() {
        let plain = ["talk.mp4", "talk_2.HD-1.mp4"].map(|name| asset_of(name).to_string());
        assert_eq!(plain, ["talk", "talk_2.HD-1"]);
        // The digits are `sha256sum`'s.
        assert_eq!(asset_of("courses/rust 01.mp4").to_string(), "courses-rust-01-45aa2dd09e764eaa");
        let long = format!("{}.mp4", "ä".repeat(500));
        let names = [
            "talk.mp4",
            "talk.mov",
            "talk.MP4",
            "talk",
            "a/talk.mp4",
            "a-talk.mp4",
            "a talk.mp4",
            "a--talk.mp4",
            "видео.mp4",
            "видео.mov",
            "...mp4",
            "..mp4",
            ".mp4",
            "-.mp4",
            &long,
            &long[2..],
        ];
        let mut ids: Vec<_> = names.iter().map(|name| asset_of(name).to_string()).collect();
        // Nor does one that is made to look like what another one makes.
        let forged: Vec<_> = ids.iter().map(|id| asset_of(&format!("{id}.mp4")).to_string()).collect();
        ids.extend(
            forged.into_iter().filter(|id| !["talk", "a-talk", "a--talk", "-"].contains(&id.as_str())),
        );
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "{ids:?}");
    }

    #[test]
    fn a_place_is_a_folder_or_a_bucket_and_keeps_its_secrets() {
        for bad in ["", "gs://x", "s3://", "https://x/y"] {
            assert!(matches!(Uploads::open(bad, &Access::default()), Err(Error::Place(_))), "{bad}");
        }
        let uploads = Uploads::open("s3://media/in/", &Access::default()).unwrap();
        assert_eq!(format!("{uploads:?}"), "Uploads(s3://media/in/)");
        assert_eq!(uploads.uri("a b.mp4"), "s3://media/in/a b.mp4");
        assert_eq!(uploads.name_of("media", "in/a b.mp4"), Some("a b.mp4"));
        for (bucket, key) in [("other", "in/x.mp4"), ("media", "x.mp4"), ("media", "inner/x.mp4")] {
            assert_eq!(uploads.name_of(bucket, key), None);
        }
    }
}
