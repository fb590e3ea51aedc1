//! `/v1/uploads`: files that arrive over HTTP, whole or in parts.
//!
//! A part says where it belongs by `Content-Range` ([RFC 9110 §14.5]); `Upload-Offset` says how much is there. What
//! arrived before a connection broke is kept for a day, so that it need not be sent again.
//!
//! [RFC 9110 §14.5]: https://www.rfc-editor.org/rfc/rfc9110#section-14.5

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path as FilePath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderName};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use utoipa::{IntoParams, ToSchema};

use super::App;
use super::jobs::location;
use super::problem::{Kind, Problem};
use super::view::JobView;
use crate::asset::hexadecimal;
use crate::service::Wishes;

const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_COMPLETE: HeaderName = HeaderName::from_static("upload-complete");
const REPR_DIGEST: &str = "repr-digest";

/// How long nothing may arrive.
const SILENCE: Duration = Duration::from_mins(1);

/// How long parts are kept that nobody goes on with.
const KEPT: Duration = Duration::from_hours(24);

/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;

/// The longest name: what S3 takes for a key.
const LONGEST_NAME: usize = 1_024;

/// Name of an upload, as it is described.
pub(super) struct Name;

type Sha256Sum = [u8; 32];

/// Uploads that are not complete: for each its file, and its length, where it is known.
pub(super) struct Incoming {
    folder: PathBuf,
    busy: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Incoming {
    pub(super) fn open(folder: &FilePath) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned(), busy: Arc::default() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.part", hexadecimal(&Sha256::digest(name))))
    }

    /// Nothing if somebody else has it.
    fn take(&self, name: &str) -> Option<Busy> {
        let path = self.path(name);
        let is_new = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        is_new.then(|| Busy { path, all: Arc::clone(&self.busy) })
    }

    /// Removes what nobody goes on with.
    pub(super) async fn sweep(&self) {
        let (folder, busy) = (self.folder.clone(), Arc::clone(&self.busy));
        let sweep = move || -> io::Result<()> {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
                let part = entry.path().with_extension("part");
                // Held while it is removed, so that nobody begins to go on with it.
                let busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
                if age > KEPT && !busy.contains(&part) {
                    fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        if let Ok(Err(error)) = spawn_blocking(sweep).await {
            tracing::warn!(%error, "unfinished uploads cannot be removed");
        }
    }
}

/// That nobody else writes to a file.
struct Busy {
    path: PathBuf,
    all: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

/// A file that is being written. Whoever writes to it has it: if the request ends meanwhile, it is busy until the write
/// ends.
struct Part {
    file: File,
    length: u64,
    busy: Busy,
}

impl Part {
    fn open(busy: Busy) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&busy.path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length, busy })
    }

    /// Goes on from here, or says that this is not what was begun.
    fn go_on(&mut self, from: u64, total: Option<u64>) -> io::Result<bool> {
        let beside = self.busy.path.with_extension("total");
        if from == 0 {
            match total {
                Some(total) => fs::write(&beside, total.to_string())?,
                None => forget(&beside)?,
            }
        }
        let begun_with = fs::read_to_string(&beside).ok().and_then(|text| text.parse().ok());
        if from > self.length || total.zip(begun_with).is_some_and(|(now, then): (u64, u64)| now != then) {
            return Ok(false);
        }
        self.file.set_len(from)?;
        self.file.seek(SeekFrom::Start(from))?;
        self.length = from;
        Ok(true)
    }

    fn write(&mut self, block: &[u8]) -> io::Result<()> {
        self.file.write_all(block)?;
        self.length += block.len() as u64;
        Ok(())
    }

    /// Makes sure that it is on the disk, and is what was sent.
    fn complete(&mut self, digest: Option<Sha256Sum>) -> io::Result<bool> {
        self.file.sync_all()?;
        let Some(digest) = digest else { return Ok(true) };
        self.file.rewind()?;
        let (mut hash, mut block) = (Sha256::new(), vec![0; BLOCK]);
        loop {
            match self.file.read(&mut block)? {
                0 => return Ok(<Sha256Sum>::from(hash.finalize()) == digest),
                length => hash.update(&block[..length]),
            }
        }
    }

    fn remove(&self) -> io::Result<()> {
        forget(&self.busy.path.with_extension("total"))?;
        forget(&self.busy.path)
    }

    /// Does something that takes time, on a thread for that.
    async fn on<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut Self) -> io::Result<T> + Send + 'static,
    ) -> Result<(Self, T), Problem> {
        let done = spawn_blocking(move || {
            let outcome = work(&mut self);
            // What is there now is in the way of everything else, too.
            let is_full = |error: &io::Error| {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            };
            if outcome.as_ref().is_err_and(is_full) {
                let _ = self.remove();
            }
            outcome.map(|value| (self, value))
        });
        Ok(done.await.map_err(Problem::internal)??)
    }
}

fn forget(path: &FilePath) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// An upload that is complete.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Upload)]
pub(super) struct UploadView {
    /// What it is called.
    name: String,
    /// Tells it from others of that name.
    version: String,
    /// Its size.
    bytes: u64,
    /// What is made of it; nothing if it is no video.
    job: Option<JobView>,
}

/// Which upload.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ThisOne {
    /// What it is called: parts with `/` between them, at most 1024 bytes.
    #[param(inline, value_type = Name, example = "course/lesson-1.mp4")]
    name: String,
}

/// What is said of an upload, or of a part of it, in headers.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it is read as headers are")]
pub(super) struct Said {
    /// Where a part belongs: `bytes FIRST-LAST/TOTAL`, where FIRST counts from 0; or `bytes */TOTAL` without a body.
    #[param(
        rename = "Content-Range",
        pattern = "^bytes ([0-9]+-[0-9]+/([0-9]+|\\*)|\\*/[0-9]+)$",
        example = "bytes 0-1048575/4912301"
    )]
    content_range: Option<String>,
    /// SHA-256 of the whole file.
    #[param(
        rename = "Repr-Digest",
        pattern = "sha-256=:[A-Za-z0-9+/]{43}=:",
        example = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    )]
    repr_digest: Option<String>,
}

/// Puts a file among the uploads, and asks for its encode
///
/// Whole, or in parts with `Content-Range: bytes 0-99/1000`, each from the `Upload-Offset` on that the last answer, or
/// HEAD, says. `Content-Range: bytes */1000` without a body finishes what has arrived. `Repr-Digest: sha-256=:…:` is
/// checked against the whole file.
#[utoipa::path(put, path = "/v1/uploads/{*name}", operation_id = "putUpload", tag = "uploads", params(ThisOne, Said),
    request_body(content_type = "application/octet-stream", content = Vec<u8>), responses(
    (status = 201, description = "It is there", body = UploadView),
    (status = 202, description = "More is needed, from `Upload-Offset` on",
        headers(("Upload-Offset" = u64, description = "Bytes that are there"),
            ("Upload-Complete" = String, description = "`?0`"))),
    (status = 400, description = "Nothing can have this name, or the body is not what the headers say"),
    (status = 408, description = "For a minute nothing arrived: go on from `Upload-Offset`",
        headers(("Upload-Offset" = u64, description = "Bytes that are there"))),
    (status = 409, description = "It does not continue what is there, or is being sent by somebody else"),
    (status = 413, description = "It is larger than --max-upload"),
    (status = 507, description = "The disk is full"),
))]
pub(super) async fn put(
    State(app): State<App>,
    Path(ThisOne { name }): Path<ThisOne>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    check_name(&name)?;
    let span = Span::of(&headers)?;
    let digest = digest(&headers)?;
    let largest = app.settings.max_upload;
    if span.total.max(span.end).is_some_and(|bytes| bytes > largest) {
        return Err(too_large(largest));
    }
    app.service.uploads.admit(&name).await?;
    let busy = app.incoming.take(&name).ok_or_else(|| {
        Problem::of(
            Kind::Busy,
            StatusCode::CONFLICT,
            "another request sends a file of this name at the moment",
        )
    })?;

    let opened = spawn_blocking(move || Part::open(busy)).await.map_err(Problem::internal)?;
    let part = opened?;
    let (there, from, total) = (part.length, span.start.unwrap_or(part.length), span.total);
    let (part, continues) = part.on(move |part| part.go_on(from, total)).await?;
    if !continues {
        let detail =
            format!("{there} bytes are there: send from there on, or the whole file without Content-Range");
        let problem = Problem::of(Kind::Offset, StatusCode::CONFLICT, detail);
        return Err(problem.with_header(UPLOAD_OFFSET, there.into()));
    }
    let before = part.length;
    let most = span.end.unwrap_or(if span.is_part { before } else { largest });
    let (part, outcome) = receive(part, body, most).await?;
    app.settings.metrics.uploaded(part.length - before);
    match outcome {
        Ok(()) => {}
        Err(Broken::TooLong) if span.is_part => return Err(not_as_said()),
        Err(Broken::TooLong) => {
            part.on(|part| part.remove()).await?;
            return Err(too_large(largest));
        }
        Err(Broken::Off) => return Err(broken_off(StatusCode::BAD_REQUEST, part.length)),
        Err(Broken::Silent) => return Err(broken_off(StatusCode::REQUEST_TIMEOUT, part.length)),
    }
    if span.end.is_some_and(|end| part.length < end) {
        return Err(not_as_said());
    }
    if span.is_part && span.total != Some(part.length) {
        let headers =
            [(UPLOAD_OFFSET, part.length.into()), (UPLOAD_COMPLETE, HeaderValue::from_static("?0"))];
        return Ok((StatusCode::ACCEPTED, headers).into_response());
    }
    // On its own: whoever sent it may be gone.
    tokio::spawn(finish(app, part, name, digest)).await.map_err(Problem::internal)?
}

/// Why a body is not what it was to be.
enum Broken {
    TooLong,
    Off,
    Silent,
}

/// Writes what arrives, up to this length of the file. What arrived before it broke is written as well.
async fn receive(mut part: Part, body: Body, most: u64) -> Result<(Part, Result<(), Broken>), Problem> {
    let mut chunks = body.into_data_stream();
    let mut block = Vec::with_capacity(BLOCK);
    let outcome = loop {
        let chunk = match timeout(SILENCE, chunks.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => break Ok(()),
            Ok(Some(Err(_))) => break Err(Broken::Off),
            Err(_) => break Err(Broken::Silent),
        };
        if part.length + (block.len() + chunk.len()) as u64 > most {
            break Err(Broken::TooLong);
        }
        block.extend_from_slice(&chunk);
        if block.len() >= BLOCK {
            let full = std::mem::replace(&mut block, Vec::with_capacity(BLOCK));
            (part, ()) = part.on(move |part| part.write(&full)).await?;
        }
    };
    let (part, ()) = part.on(move |part| part.write(&block)).await?;
    Ok((part, outcome))
}

async fn finish(app: App, part: Part, name: String, digest: Option<Sha256Sum>) -> Result<Response, Problem> {
    let (part, is_sound) = part.on(move |part| part.complete(digest)).await?;
    if !is_sound {
        part.on(|part| part.remove()).await?;
        let detail = "its SHA-256 is not that of Repr-Digest: it was removed, send it again";
        return Err(Problem::of(Kind::Digest, StatusCode::BAD_REQUEST, detail));
    }
    let upload = app.service.uploads.put(&name, &part.busy.path).await?;
    part.on(|part| part.remove()).await?;
    tracing::info!(name, bytes = upload.bytes, "uploaded");
    let job = app.service.look_at(&name, Wishes::default()).await?.map(|(_, job)| job);
    let place = job.as_ref().map(|job| location(&job.id));
    let view = UploadView {
        name: upload.name,
        version: upload.version,
        bytes: upload.bytes,
        job: job.map(|job| app.view.job(&job)),
    };
    let mut response = (StatusCode::CREATED, axum::Json(view)).into_response();
    response.headers_mut().insert(UPLOAD_COMPLETE, HeaderValue::from_static("?1"));
    response.headers_mut().extend(place.into_iter().flatten());
    Ok(response)
}

/// How much of an upload is there
///
/// Of one that broke off, too: what arrived is kept for a day.
#[utoipa::path(head, path = "/v1/uploads/{*name}", operation_id = "askUpload", tag = "uploads", params(ThisOne), responses(
    (status = 204, description = "So much: `Upload-Complete` is `?1` if it is all", headers(
        ("Upload-Offset" = u64, description = "Bytes that are there"),
        ("Upload-Complete" = String, description = "`?1` or `?0`"))),
    (status = 404, description = "Nothing"),
))]
pub(super) async fn head(
    State(app): State<App>,
    Path(ThisOne { name }): Path<ThisOne>,
) -> Result<Response, Problem> {
    check_name(&name)?;
    let answer = |bytes: u64, is_complete: &'static str| {
        let complete = HeaderValue::from_static(is_complete);
        (StatusCode::NO_CONTENT, [(UPLOAD_OFFSET, bytes.into()), (UPLOAD_COMPLETE, complete)]).into_response()
    };
    if let Ok(part) = tokio::fs::metadata(app.incoming.path(&name)).await {
        return Ok(answer(part.len(), "?0"));
    }
    let upload = app.service.uploads.find(&name).await?;
    let upload =
        upload.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "nothing of this name has arrived"))?;
    let mut response = answer(upload.bytes, "?1");
    if let Ok(version) = HeaderValue::try_from(format!("\"{}\"", upload.version)) {
        response.headers_mut().insert(ETAG, version);
    }
    Ok(response)
}

pub(super) fn too_large(largest: u64) -> Problem {
    let detail =
        format!("a file may have {largest} bytes here: the operator can raise that with --max-upload");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn not_as_said() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "the body is not as long as Content-Range says")
}

pub(super) fn broken_off(status: StatusCode, length: u64) -> Problem {
    let detail = format!("the body broke off: {length} bytes are there, go on from there with Content-Range");
    Problem::new(status, detail).with_header(UPLOAD_OFFSET, length.into())
}

/// Whether a name can be an upload's: of the kind that a folder and a bucket both have.
pub(super) fn check_name(name: &str) -> Result<(), Problem> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..");
    let is_plain = |c: char| !c.is_control() && c != '\\';
    if name.len() <= LONGEST_NAME && name.split('/').all(is_part) && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::BAD_REQUEST,
        "a name has 1 to 1024 bytes, parts between `/` that are not empty, `.` or `..`, no backslash and no control \
         characters",
    ))
}

/// Which part of a file is sent: from where (from what is there on, if nobody says), and up to where, as far as that
/// is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Span {
    is_part: bool,
    start: Option<u64>,
    end: Option<u64>,
    total: Option<u64>,
}

impl Span {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let Some(range) = headers.get(CONTENT_RANGE) else {
            return Ok(Self { is_part: false, start: Some(0), end: length, total: length });
        };
        let span = range.to_str().ok().and_then(Self::parse).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "Content-Range is `bytes FIRST-LAST/TOTAL`: FIRST counts from 0",
            )
        })?;
        let said = span.end.zip(span.start).map_or(Some(0), |(end, start)| end.checked_sub(start));
        if length.is_some_and(|length| Some(length) != said) {
            return Err(not_as_said());
        }
        Ok(span)
    }

    fn parse(range: &str) -> Option<Self> {
        let number =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        let (span, total) = range.strip_prefix("bytes ")?.split_once('/')?;
        let total: Option<u64> = if total == "*" { None } else { Some(number(total)?) };
        if span == "*" {
            return Some(Self { is_part: true, start: None, end: None, total: Some(total?) });
        }
        let (first, last) = span.split_once('-')?;
        let (first, last): (u64, u64) = (number(first)?, number(last)?);
        let end = last.checked_add(1)?;
        let is_well = first <= last && total.is_none_or(|total| end <= total);
        is_well.then_some(Self { is_part: true, start: Some(first), end: Some(end), total })
    }
}

/// The SHA-256 of `Repr-Digest` ([RFC 9530 §3](https://www.rfc-editor.org/rfc/rfc9530#section-3)). One that could not be
/// checked is refused: whoever sends it counts on it.
fn digest(headers: &HeaderMap) -> Result<Option<Sha256Sum>, Problem> {
    if !headers.contains_key(REPR_DIGEST) {
        return Ok(None);
    }
    let members = headers.get_all(REPR_DIGEST).iter().filter_map(|value| value.to_str().ok());
    let mut members = members.flat_map(|value| value.split(',')).map(str::trim);
    let value = members.find_map(|member| member.strip_prefix("sha-256="));
    let encoded = value.and_then(|value| value.strip_prefix(':')?.strip_suffix(':'));
    let digest = encoded.and_then(|encoded| BASE64_STANDARD.decode(encoded).ok()?.try_into().ok());
    let malformed = || Problem::new(StatusCode::BAD_REQUEST, "Repr-Digest is `sha-256=:BASE64 OF 32 BYTES:`");
    digest.map(Some).ok_or_else(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_says_where_it_belongs() {
        let span = |start, end, total| Some(Span { is_part: true, start, end, total });
        // RFC 9110 §14.4 has these three.
        assert_eq!(Span::parse("bytes 42-1233/1234"), span(Some(42), Some(1234), Some(1234)));
        assert_eq!(Span::parse("bytes 42-1233/*"), span(Some(42), Some(1234), None));
        assert_eq!(Span::parse("bytes */1234"), span(None, None, Some(1234)));
        for bad in [
            "",
            "bytes",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes -5/10",
            "bytes +1-2/10",
            "bytes */*",
            "items 0-1/2",
            "bytes 0-18446744073709551615/*",
            "bytes 0-99999999999999999999/*",
        ] {
            assert_eq!(Span::parse(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn what_nobody_goes_on_with_for_a_day_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let incoming = Incoming::open(folder.path()).unwrap();
        let long_ago = SystemTime::now() - KEPT - Duration::from_mins(1);
        for (name, modified) in [("old", long_ago), ("busy", long_ago), ("new", SystemTime::now())] {
            for extension in ["part", "total"] {
                let file = File::create(incoming.path(name).with_extension(extension)).unwrap();
                file.set_modified(modified).unwrap();
            }
        }
        let _busy = incoming.take("busy").unwrap();
        assert!(incoming.take("busy").is_none());
        incoming.sweep().await;
        for (name, is_there) in [("old", false), ("busy", true), ("new", true)] {
            assert_eq!(incoming.path(name).exists(), is_there, "{name}");
            assert_eq!(incoming.path(name).with_extension("total").exists(), is_there, "{name}");
        }
    }

    #[test]
    fn a_digest_is_read_from_among_others() {
        // RFC 9530, appendix B.1.
        let value = "sha-512=:AA==:, sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let mut headers = HeaderMap::new();
        assert_eq!(digest(&headers).unwrap(), None);
        headers.insert(REPR_DIGEST, HeaderValue::from_static(value));
        let sum = Sha256::digest("{\"hello\": \"world\"}\n");
        assert_eq!(digest(&headers).unwrap(), Some(sum.into()));
        for unchecked in ["sha-256=:AAAA:", "sha-512=:AA==:", ""] {
            headers.insert(REPR_DIGEST, HeaderValue::from_static(unchecked));
            assert!(digest(&headers).is_err(), "{unchecked}");
        }
    }

    #[test]
    fn a_name_is_a_path_that_leads_nowhere_else() {
        for good in ["a.mp4", "a b/ü (1).mov", "...", &"x".repeat(1024)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "../a", "a/./b", "a\nb", "a\0", "a\\b", &"x".repeat(1025)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
