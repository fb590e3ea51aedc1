//! Where the files come from: a folder, a web server, or what a packager is about to publish.
//!
//! All three are one to the linter: links are resolved as URLs ([RFC 3986 §5]), as players do, so that a playlist means
//! the same before and after it is published. A query is sent where a link has one and never handed on to another
//! link; and it is shown nowhere, since it may be a signature.
//!
//! A playlist may be anybody's, and what it links to is read by whoever lints it. So a folder is not left, by symbolic
//! links neither, and what was named on the public internet does not lead into the network behind it (`reach`). Links
//! from `https:` to `http:` are followed, and said; redirects are not. No proxy is used: it would look names up itself.
//!
//! [RFC 3986 §5]: https://www.rfc-editor.org/rfc/rfc3986#section-5

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName,
    RANGE,
};
use reqwest::{Client, Response, StatusCode, dns, redirect};
use url::{Host, Url};

use super::gather::path;
use super::reach::Gate;

/// The largest playlist that is read, in bytes.
const LARGEST_PLAYLIST: u64 = 16 * 1024 * 1024;

/// How much of a file is read at once, at the most, in bytes.
pub(crate) const LARGEST_READ: u64 = 8 * 1024 * 1024;

/// How much of a file is waited for where a server sends all of it instead of the part that was asked for, in bytes.
const LARGEST_SKIP: u64 = 256 * 1024 * 1024;

const CONNECT_TIME: Duration = Duration::from_secs(10);
const SILENCE: Duration = Duration::from_secs(30);
const REQUEST_TIME: Duration = Duration::from_mins(2);

/// Before a request that failed on its way is made once more.
const PAUSE: Duration = Duration::from_millis(500);

const MOST_REDIRECTS: usize = 5;

/// Files, and how to get them.
#[derive(Clone, Debug)]
pub struct Files<'a> {
    kind: Kind<'a>,
    /// What places are shown from.
    root: Option<Url>,
}

#[derive(Clone, Debug)]
enum Kind<'a> {
    /// Below a folder, by its real path.
    Disk(PathBuf),
    Web(Client, Arc<Gate>),
    Mapped(HashMap<String, Stored>),
    Lent(HashMap<&'a str, Lent<'a>>),
}

/// What a key stands for, where its owner keeps it: of a long video there are tens of thousands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lent<'a> {
    Text(&'a str),
    File(&'a Path),
}

/// What a key stands for that is not yet published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stored {
    /// A playlist.
    Text(String),
    /// A file, or a part of one.
    File {
        /// Where it is now.
        path: PathBuf,
        /// What is meant of it: first byte and length; all where there is none.
        range: Option<(u64, u64)>,
    },
}

/// Scheme and host of keys, which are no URLs.
const MAPPED: &str = "key://bucket/";

impl<'a> Files<'a> {
    /// Files of this machine: those in `folder` or below, wherever links lead. Places are shown as seen from it.
    pub fn folder(folder: &Path) -> Result<Self, Refused> {
        let folder = std::fs::canonicalize(folder).map_err(|error| Refused::Failed(error.to_string()))?;
        let root = Url::from_directory_path(&folder).map_err(|()| Refused::Elsewhere)?;
        Ok(Self { kind: Kind::Disk(folder), root: Some(root) })
    }

    /// Files of web servers, from `entry` on: of the public internet, and of the network that `entry` is in.
    pub async fn web(entry: &Url) -> Result<Self, Refused> {
        let gate = Arc::new(Gate::new(&addresses(entry).await));
        let client = Client::builder()
            .connect_timeout(CONNECT_TIME)
            .read_timeout(SILENCE)
            .timeout(REQUEST_TIME)
            .redirect(redirects(Arc::clone(&gate)))
            .dns_resolver(Arc::new(Names(Arc::clone(&gate))))
            .no_proxy()
            // It would carry the signature of what redirects to where it leads.
            .referer(false)
            .user_agent(concat!("reelgate-lint/", env!("CARGO_PKG_VERSION")))
            .build();
        let client = client.map_err(|error| Refused::Failed(error.without_url().to_string()))?;
        Ok(Self { kind: Kind::Web(client, gate), root: None })
    }

    /// What lies, or will lie, in a bucket: by key.
    pub fn mapped(objects: impl IntoIterator<Item = (String, Stored)>) -> Self {
        let objects = objects.into_iter().collect();
        Self { kind: Kind::Mapped(objects), root: Url::parse(MAPPED).ok() }
    }

    /// The same, of what is not copied.
    pub(crate) fn lent(objects: impl IntoIterator<Item = (&'a str, Lent<'a>)>) -> Self {
        Self { kind: Kind::Lent(objects.into_iter().collect()), root: Url::parse(MAPPED).ok() }
    }

    /// Where a key of [`Files::mapped`] lies.
    pub fn key(&self, key: &str) -> Result<Url, Refused> {
        let path = key.split('/').map(|part| {
            percent_encoding::utf8_percent_encode(part, percent_encoding::NON_ALPHANUMERIC).to_string()
        });
        let url = Url::parse(MAPPED).and_then(|root| root.join(&path.collect::<Vec<_>>().join("/")));
        url.map_err(|_| Refused::Elsewhere)
    }

    /// Whether requests are made for it.
    pub(crate) fn is_web(&self) -> bool {
        matches!(self.kind, Kind::Web(..))
    }

    /// A place, for people: without anything that opens it.
    pub(crate) fn shown(&self, at: &Url) -> String {
        let mut at = at.clone();
        at.set_query(None);
        at.set_fragment(None);
        let _ = at.set_username("");
        let _ = at.set_password(None);
        let relative = self.root.as_ref().and_then(|root| at.as_str().strip_prefix(root.as_str()));
        let shown = path(relative.unwrap_or(at.as_str()));
        if self.is_web() {
            return shown;
        }
        percent_encoding::percent_decode_str(&shown).decode_utf8_lossy().into_owned()
    }

    /// All of a playlist.
    pub(crate) async fn playlist(&self, at: &Url) -> Result<Playlist, Refused> {
        if let Kind::Web(client, gate) = &self.kind {
            return playlist_from_web((client, gate), at).await;
        }
        let part = self.read(at, 0, LARGEST_PLAYLIST).await?;
        if part.total > LARGEST_PLAYLIST {
            return Err(Refused::TooLarge);
        }
        Ok(Playlist { bytes: part.bytes, answer: Answer::default() })
    }

    /// At most `length` bytes from `offset` on; fewer where the file ends.
    pub(crate) async fn read(&self, at: &Url, offset: u64, length: u64) -> Result<Part, Refused> {
        match &self.kind {
            Kind::Web(client, gate) => {
                part_from_web((client, gate), at, offset, length.min(LARGEST_READ)).await
            }
            Kind::Disk(root) => {
                if at.scheme() != "file" {
                    return Err(Refused::Elsewhere);
                }
                let path = at.to_file_path().map_err(|()| Refused::Elsewhere)?;
                part_of_file(Some(root.clone()), path, None, offset, length).await
            }
            Kind::Mapped(objects) => match objects.get(key_of(at)?.as_ref()).ok_or(Refused::Missing)? {
                Stored::Text(text) => Ok(part_of_text(text, offset, length)),
                Stored::File { path, range } => {
                    part_of_file(None, path.clone(), *range, offset, length).await
                }
            },
            Kind::Lent(objects) => match objects.get(key_of(at)?.as_ref()).ok_or(Refused::Missing)? {
                Lent::Text(text) => Ok(part_of_text(text, offset, length)),
                Lent::File(path) => part_of_file(None, path.to_path_buf(), None, offset, length).await,
            },
        }
    }
}

fn key_of(at: &Url) -> Result<std::borrow::Cow<'_, str>, Refused> {
    let key = at.as_str().strip_prefix(MAPPED).ok_or(Refused::Elsewhere)?;
    let key = key.split(['?', '#']).next().unwrap_or_default();
    Ok(percent_encoding::percent_decode_str(key).decode_utf8_lossy())
}

fn part_of_text(text: &str, offset: u64, length: u64) -> Part {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let rest = &text.as_bytes()[start..];
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
    let total = u64::try_from(text.len()).unwrap_or(u64::MAX);
    Part { bytes: rest[..length].to_vec(), total, answer: Answer::default() }
}

/// A playlist as it came.
#[derive(Clone, Debug)]
pub(crate) struct Playlist {
    pub(crate) bytes: Vec<u8>,
    pub(crate) answer: Answer,
}

/// A part of a file.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Vec<u8>,
    /// Of the file, in bytes.
    pub(crate) total: u64,
    pub(crate) answer: Answer,
}

/// What a server said besides. Nothing where there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) content_type: Option<String>,
    pub(crate) gzip: bool,
    pub(crate) redirected: bool,
}

/// Why there is no such file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// There is none.
    #[error("it does not exist")]
    Missing,
    /// The server does not give it.
    #[error("the server answers {0}")]
    Status(u16),
    /// It is where nothing is read from: a folder's files are not looked up on the web, nor the other way round.
    #[error("it leads elsewhere")]
    Elsewhere,
    /// It is outside of the folder, or of the network, that the lint was asked to look at.
    #[error("it leads out of the folder or the network that was named")]
    Outside,
    /// It redirects from https to http, which players do not follow.
    #[error("it redirects from https to http")]
    Downgraded,
    /// It is larger than anything of its kind.
    #[error("it is too large")]
    TooLarge,
    /// The disk or the network failed.
    #[error("{0}")]
    Failed(String),
}

/// The real path of a file, if it is below `root`.
fn within(root: &Path, path: &Path) -> Result<PathBuf, Refused> {
    let is_within = |real: &Path| real.starts_with(root);
    match std::fs::canonicalize(path) {
        Ok(real) => Some(real).filter(|real| is_within(real)).ok_or(Refused::Outside),
        // What is not there is not told of places outside either.
        Err(error) => {
            let folder = path.ancestors().skip(1).find_map(|folder| std::fs::canonicalize(folder).ok());
            if !folder.is_some_and(|folder| is_within(&folder)) {
                return Err(Refused::Outside);
            }
            Err(unread(&error))
        }
    }
}

fn unread(error: &std::io::Error) -> Refused {
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Refused::Missing,
        _ => Refused::Failed(error.to_string()),
    }
}

async fn part_of_file(
    root: Option<PathBuf>,
    path: PathBuf,
    range: Option<(u64, u64)>,
    offset: u64,
    length: u64,
) -> Result<Part, Refused> {
    let read = move || {
        let failed = |error: std::io::Error| unread(&error);
        let path = root.map_or(Ok(path.clone()), |root| within(&root, &path))?;
        let metadata = std::fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(Refused::Missing);
        }
        let (start, total) = range.unwrap_or((0, metadata.len()));
        let length = length.min(total.saturating_sub(offset));
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        file.seek(SeekFrom::Start(start.saturating_add(offset))).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Part { bytes, total, answer: Answer::default() })
    };
    tokio::task::spawn_blocking(read).await.map_err(|fault| Refused::Failed(fault.to_string()))?
}

async fn playlist_from_web(client: Web<'_>, at: &Url) -> Result<Playlist, Refused> {
    let response = get(client, at, &[(ACCEPT_ENCODING, "gzip".to_owned())]).await?;
    if response.status() != StatusCode::OK {
        return Err(status(&response));
    }
    let answer = answer(at, &response);
    let sent = body(response, 0, LARGEST_PLAYLIST + 1).await?;
    let bytes = if answer.gzip {
        let mut bytes = Vec::new();
        let decoder = flate2::read::MultiGzDecoder::new(sent.as_slice());
        let read = decoder.take(LARGEST_PLAYLIST + 1).read_to_end(&mut bytes);
        read.map_err(|error| Refused::Failed(format!("its gzip cannot be read: {error}")))?;
        bytes
    } else {
        sent
    };
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LARGEST_PLAYLIST) {
        return Err(Refused::TooLarge);
    }
    Ok(Playlist { bytes, answer })
}

async fn part_from_web(client: Web<'_>, at: &Url, offset: u64, length: u64) -> Result<Part, Refused> {
    let last = offset.saturating_add(length).saturating_sub(1);
    let headers = [(ACCEPT_ENCODING, "identity".to_owned()), (RANGE, format!("bytes={offset}-{last}"))];
    let response = get(client, at, &headers).await?;
    let answer = answer(at, &response);
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let total =
        text(CONTENT_RANGE).and_then(|range| range.rsplit('/').next()).and_then(|total| total.parse().ok());
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let total: u64 = total.ok_or(Refused::Failed("it is sent without its length".to_owned()))?;
            let bytes = body(response, 0, length).await?;
            Ok(Part { bytes, total, answer })
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            Ok(Part { bytes: Vec::new(), total: total.unwrap_or(offset), answer })
        }
        // All of it, by a server that knows no ranges.
        StatusCode::OK => {
            let declared = text(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
            if let Some(total) = declared {
                let length = length.min(total.saturating_sub(offset));
                let bytes = body(response, offset, length).await?;
                return Ok(Part { bytes, total, answer });
            }
            let all = body(response, 0, LARGEST_READ + 1).await?;
            let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
            if total > LARGEST_READ {
                return Err(Refused::Failed("it is sent without its length, and is long".to_owned()));
            }
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(all.len());
            let end = usize::try_from(offset.saturating_add(length)).unwrap_or(usize::MAX).min(all.len());
            Ok(Part { bytes: all[start..end].to_vec(), total, answer })
        }
        _ => Err(status(&response)),
    }
}

/// What asks, and what it may ask.
type Web<'a> = (&'a Client, &'a Gate);

/// The addresses of a URL's host; none, if nobody knows them.
async fn addresses(at: &Url) -> Vec<IpAddr> {
    match at.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        Some(Host::Domain(name)) => {
            let found = looked_up(name.to_owned()).await.unwrap_or_default();
            found.into_iter().map(|address| address.ip()).collect()
        }
        None => Vec::new(),
    }
}

async fn looked_up(name: String) -> std::io::Result<Vec<SocketAddr>> {
    let found =
        tokio::task::spawn_blocking(move || (name.as_str(), 0).to_socket_addrs().map(Iterator::collect));
    found.await.map_err(std::io::Error::other)?
}

/// Looks names up, and finds what the gate lets through: whoever connects has no other addresses.
struct Names(Arc<Gate>);

impl dns::Resolve for Names {
    fn resolve(&self, name: dns::Name) -> dns::Resolving {
        let gate = Arc::clone(&self.0);
        Box::pin(async move {
            let found = looked_up(name.as_str().to_owned()).await?;
            let open: Vec<_> = found.into_iter().filter(|address| gate.lets(address.ip())).collect();
            if open.is_empty() {
                return Err(Refused::Outside.into());
            }
            Ok(Box::new(open.into_iter()) as dns::Addrs)
        })
    }
}

/// Whether a URL may be asked for, as far as it says so itself: names are looked up when it is.
fn may_ask(gate: &Gate, at: &Url) -> Result<(), Refused> {
    if !matches!(at.scheme(), "http" | "https") {
        return Err(Refused::Elsewhere);
    }
    let is_open = match at.host() {
        Some(Host::Ipv4(address)) => gate.lets(address.into()),
        Some(Host::Ipv6(address)) => gate.lets(address.into()),
        Some(Host::Domain(_)) => true,
        None => false,
    };
    if is_open { Ok(()) } else { Err(Refused::Outside) }
}

fn redirects(gate: Arc<Gate>) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let was_secret = attempt.previous().last().is_some_and(|before| before.scheme() == "https");
        if attempt.previous().len() > MOST_REDIRECTS {
            return attempt.error(Refused::Failed("it is redirected too often".to_owned()));
        }
        if was_secret && attempt.url().scheme() == "http" {
            return attempt.error(Refused::Downgraded);
        }
        match may_ask(&gate, attempt.url()) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    })
}

/// Asks, and once more where the answer is lost on its way.
async fn get(
    (client, gate): Web<'_>,
    at: &Url,
    headers: &[(HeaderName, String)],
) -> Result<Response, Refused> {
    may_ask(gate, at)?;
    let mut all = HeaderMap::new();
    for (name, value) in headers {
        all.insert(name, value.parse().map_err(|_| Refused::Elsewhere)?);
    }
    let ask = || client.get(at.clone()).headers(all.clone()).send();
    let first = ask().await;
    let is_passing = match &first {
        Ok(response) => {
            response.status().is_server_error() || response.status() == StatusCode::TOO_MANY_REQUESTS
        }
        Err(error) => !error.is_redirect() && !error.is_builder() && refused(error).is_none(),
    };
    let answered = if is_passing {
        tokio::time::sleep(PAUSE).await;
        ask().await
    } else {
        first
    };
    answered.map_err(|error| failed(&error))
}

/// What we ourselves did not let through.
fn refused(error: &reqwest::Error) -> Option<Refused> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused.clone());
        }
        next = error.source();
    }
    None
}

/// Without the URL, which may be signed; what lies beneath says more, and has none.
fn failed(error: &reqwest::Error) -> Refused {
    if let Some(refused) = refused(error) {
        return refused;
    }
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let is_own = std::error::Error::source(error).is_none();
    Refused::Failed(if is_own { "the request failed".to_owned() } else { deepest.to_string() })
}

fn status(response: &Response) -> Refused {
    match response.status() {
        StatusCode::NOT_FOUND | StatusCode::GONE => Refused::Missing,
        other => Refused::Status(other.as_u16()),
    }
}

fn answer(at: &Url, response: &Response) -> Answer {
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let essence = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let without_fragment = |url: &Url| url.as_str().split('#').next().unwrap_or_default().to_owned();
    Answer {
        content_type: text(CONTENT_TYPE).map(essence),
        gzip: text(CONTENT_ENCODING).is_some_and(|value| value.trim().eq_ignore_ascii_case("gzip")),
        redirected: without_fragment(response.url()) != without_fragment(at),
    }
}

/// At most `length` bytes of a body, after the first `skip`.
async fn body(response: Response, skip: u64, length: u64) -> Result<Vec<u8>, Refused> {
    if skip > LARGEST_SKIP {
        return Err(Refused::Failed("the server gives no parts of files, and this one is long".to_owned()));
    }
    let mut skip = usize::try_from(skip).unwrap_or(usize::MAX);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes = Vec::new();
    let mut chunks = response.bytes_stream();
    while bytes.len() < length {
        let Some(chunk) = chunks.next().await else { break };
        let chunk = chunk.map_err(|error| failed(&error))?;
        let skipped = skip.min(chunk.len());
        skip -= skipped;
        let rest = &chunk[skipped..];
        bytes.extend_from_slice(&rest[..rest.len().min(length - bytes.len())]);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_place_is_shown_without_what_opens_it() {
        let web = Files::web(&Url::parse("http://127.0.0.1/").unwrap()).await.unwrap();
        let shown = |at: &str| web.shown(&Url::parse(at).unwrap());
        assert_eq!(
            shown("https://user:secret@v.example/a/index.m3u8;t=ghi?Policy=abc&Signature=def#x"),
            "https://v.example/a/index.m3u8"
        );
        let files = Files::mapped([]);
        assert_eq!(files.shown(&files.key("assets/a b/index.m3u8").unwrap()), "assets/a b/index.m3u8");
        let folder = tempfile::TempDir::new().unwrap();
        let files = Files::folder(folder.path()).unwrap();
        let root = Url::from_directory_path(folder.path().canonicalize().unwrap()).unwrap();
        assert_eq!(files.shown(&root.join("b/c%20d.m4s?t=1").unwrap()), "b/c d.m4s");
        assert_eq!(files.shown(&Url::parse("file:///etc/x").unwrap()), "file:///etc/x");
    }

    #[tokio::test]
    async fn a_folder_is_not_left() {
        let folder = tempfile::TempDir::new().unwrap();
        let (inside, outside) = (folder.path().join("inside"), folder.path().join("outside"));
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(inside.join("a"), "a").unwrap();
        std::fs::write(outside.join("b"), "b").unwrap();
        std::os::unix::fs::symlink(outside.join("b"), inside.join("file")).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("folder")).unwrap();
        std::os::unix::fs::symlink("a", inside.join("same")).unwrap();
        let files = Files::folder(&inside).unwrap();
        let playlist = Url::from_file_path(inside.join("sub/index.m3u8")).unwrap();
        let read =
            async |link: &str| files.read(&playlist.join(link).unwrap(), 0, 9).await.map(|part| part.bytes);
        for link in ["../a", "../same", "../sub/../a?t=1"] {
            assert_eq!(read(link).await.unwrap(), b"a", "{link}");
        }
        for link in [
            "../../outside/b",
            "../../outside/none",
            "..%2f..%2foutside%2fb",
            "../file",
            "../folder/b",
            "../folder/none",
            "/etc/passwd",
            "file:///etc/none",
        ] {
            assert_eq!(read(link).await.unwrap_err(), Refused::Outside, "{link}");
        }
        assert_eq!(read("none").await.unwrap_err(), Refused::Missing);
        assert_eq!(read("file://elsewhere/share/x").await.unwrap_err(), Refused::Elsewhere);
    }

    #[tokio::test]
    async fn what_is_public_leads_to_nothing_private() {
        let public = Files::web(&Url::parse("http://93.184.215.14/a/index.m3u8").unwrap()).await.unwrap();
        for link in [
            "http://127.0.0.1:9/x",
            "http://0x7f.1/x",
            "http://[::1]/x",
            "http://[::ffff:10.0.0.1]/x",
            "http://169.254.169.254/latest",
            "http://localhost:9/x",
            "https://192.168.0.1/",
        ] {
            let refused = public.read(&Url::parse(link).unwrap(), 0, 1).await.unwrap_err();
            assert_eq!(refused, Refused::Outside, "{link}");
        }
        let file = public.read(&Url::parse("file:///etc/passwd").unwrap(), 0, 1).await.unwrap_err();
        assert_eq!(file, Refused::Elsewhere);
    }

    #[tokio::test]
    async fn a_key_is_found_as_a_player_would_find_its_url() {
        let files = Files::mapped([("a/v/1 ü.m4s".to_owned(), Stored::Text("0123456789".to_owned()))]);
        let playlist = files.key("a/index.m3u8").unwrap();
        for link in ["v/1%20%C3%BC.m4s", "v/./x/../1 ü.m4s?t=1", "/a/v/1%20%c3%bc.m4s"] {
            let part = files.read(&playlist.join(link).unwrap(), 2, 3).await.unwrap();
            assert_eq!((part.bytes.as_slice(), part.total), (b"234".as_slice(), 10), "{link}");
        }
        let beyond = files.read(&playlist.join("v/1 ü.m4s").unwrap(), 99, 3).await.unwrap();
        assert!(beyond.bytes.is_empty());
        let other = |link: &str| playlist.join(link).unwrap();
        assert_eq!(files.read(&other("v/2.m4s"), 0, 1).await.unwrap_err(), Refused::Missing);
        assert_eq!(
            files.read(&other("https://b.example/a/v/1"), 0, 1).await.unwrap_err(),
            Refused::Elsewhere
        );
    }
}
