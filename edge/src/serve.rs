//! One request, from URL to response.

use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::caching;
use crate::config::Config;
use crate::cors;
use crate::key_group::{Denied, Grant, Visitor};
use crate::object_key::{BadPath, ObjectKey};
use crate::origin::{ByteRange, Metadata, Miss, Object, Origin};
use crate::playlist::{self, Playlist};
use crate::signed_url::SignedUrl;

/// The request headers that are read here. A platform need not carry over any other.
pub const REQUEST_HEADERS: [HeaderName; 3] = [http::header::ACCESS_CONTROL_REQUEST_HEADERS, IF_RANGE, RANGE];

/// Answers a request, or says why not. The request's URI is absolute: the URL that the viewer asked for.
pub async fn serve<O: Origin>(
    request: &Request<()>,
    visitor: &Visitor,
    config: &Config,
    origin: &O,
) -> Result<Response<Content<O::Body>>, Refusal> {
    // Before authority is asked for: a preflight has none.
    if request.method() == Method::OPTIONS {
        return Ok(preflight(request.headers()));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Refusal::Method);
    }
    let key = ObjectKey::parse(request.uri().path())?;
    let url = SignedUrl::parse(request.uri())?;
    let grant = config.keys.verify(key, url, visitor)?;

    let mut response = if playlist::is_playlist(grant.key()) {
        signed_playlist(request, &grant, origin).await?
    } else if request.method() == Method::HEAD {
        let metadata = origin.head(&grant).await?;
        whole(&grant, Object { metadata, body: Content::Nothing })?
    } else {
        object(request.headers(), &grant, origin).await?
    };
    cors::answer(response.headers_mut());
    if request.method() == Method::HEAD {
        *response.body_mut() = Content::Nothing;
    }
    Ok(response)
}

/// A playlist is always answered whole: players ask for `Range: bytes=0-` of it, and the range would be of
/// something else than what they get.
async fn signed_playlist<O: Origin>(
    request: &Request<()>,
    grant: &Grant,
    origin: &O,
) -> Result<Response<Content<O::Body>>, Refusal> {
    let object = origin.get(grant, None).await?;
    // Before it is read: it is read into memory.
    if object.metadata.size > playlist::LONGEST as u64 {
        return Err(playlist::TooLong.into());
    }
    let source = origin.read(object.body).await?;
    let signed = Playlist::at(request.uri()).sign(source, grant.authority())?;
    let mut metadata = object.metadata;
    // Its bytes are no longer the object's, so neither is its tag.
    (metadata.size, metadata.etag) = (signed.len() as u64, None);
    let mut response = whole(grant, Object { metadata, body: Content::Bytes(signed) })?;
    response.headers_mut().remove(ACCEPT_RANGES);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(caching::REWRITTEN));
    Ok(response)
}

async fn object<O: Origin>(
    headers: &HeaderMap,
    grant: &Grant,
    origin: &O,
) -> Result<Response<Content<O::Body>>, Refusal> {
    // A condition on the range that is not evaluated here may not hold; the whole object is right in any case.
    let range = match (headers.get(RANGE), headers.get(IF_RANGE)) {
        (Some(range), None) => range.to_str().ok().and_then(ByteRange::parse),
        _ => None,
    };
    let Object { metadata, body } = origin.get(grant, range).await?;
    let size = metadata.size;
    let mut response = whole(grant, Object { metadata, body: Content::Stream(body) })?;
    if let Some(range) = range {
        let (first, last) = range.within(size).ok_or(Miss::Range { size })?;
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let headers = response.headers_mut();
        headers.insert(CONTENT_RANGE, header(&format!("bytes {first}-{last}/{size}"))?);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(last - first + 1));
    }
    Ok(response)
}

fn whole<B>(grant: &Grant, object: Object<Content<B>>) -> Result<Response<Content<B>>, Refusal> {
    let Object { metadata: Metadata { size, content_type, cache_control, etag }, body } = object;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, header(media_type(content_type.as_deref(), &grant.key().extension()))?);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(CACHE_CONTROL, header(&caching::for_one_viewer(cache_control.as_deref()))?);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(etag) = etag {
        headers.insert(ETAG, header(&etag)?);
    }
    Ok(response)
}

/// The type that an object was stored with, unless that says nothing. Then its extension's, by section 2 of
/// Apple's "HLS Authoring Specification" and the registrations that it names.
fn media_type<'a>(stored: Option<&'a str>, extension: &str) -> &'a str {
    match stored {
        None | Some("" | "application/octet-stream" | "binary/octet-stream") => match extension {
            "m3u8" | "m3u" => "application/vnd.apple.mpegurl",
            "m4s" | "cmfv" | "cmfa" => "video/iso.segment",
            "mp4" | "m4v" => "video/mp4",
            "m4a" => "audio/mp4",
            "ts" => "video/mp2t",
            "aac" => "audio/aac",
            "vtt" => "text/vtt",
            "jpg" | "jpeg" => "image/jpeg",
            "png" => "image/png",
            "json" => "application/json",
            _ => "application/octet-stream",
        },
        Some(stored) => stored,
    }
}

fn preflight<B>(request: &HeaderMap) -> Response<Content<B>> {
    let mut response = Response::new(Content::Nothing);
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::answer(response.headers_mut());
    cors::preflight(request, response.headers_mut());
    response
}

/// A store's words as a header. One that cannot be a header is the store's fault, and so is one that is not
/// ASCII: the runtime takes no other, and `private` must not get lost with it.
fn header(value: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(value)
        .ok()
        .filter(|_| value.is_ascii())
        .ok_or_else(|| Refusal::Origin(Miss::Failed(format!("no header value: {value:?}"))))
}

/// What goes back to the viewer.
#[derive(Debug)]
pub enum Content<B> {
    /// An answer that has headers only.
    Nothing,
    /// Bytes passed through untouched, never held in memory.
    Stream(B),
    /// A playlist or a message that we wrote.
    Bytes(Vec<u8>),
}

/// Why a request got no object. Its `Display` is for our logs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The path does not say one thing.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The viewer may not have it.
    #[error("denied: {0}")]
    Denied(#[from] Denied),
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are served")]
    Method,
    /// The viewer may have it, but the store has not.
    #[error(transparent)]
    Origin(#[from] Miss),
    /// The store has it, but it cannot be signed.
    #[error(transparent)]
    Playlist(#[from] playlist::TooLong),
    /// The gate itself is not set up.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
}

impl Refusal {
    /// The status this becomes, and the only place where that is decided.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Path(_) => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Origin(Miss::NotFound) => StatusCode::NOT_FOUND,
            Self::Origin(Miss::Range { .. }) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Origin(Miss::Failed(_)) | Self::Playlist(_) => StatusCode::BAD_GATEWAY,
            Self::Config(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the viewer is told: CloudFront's words for a denial, else the status and no more. What exactly
    /// went wrong is for the log.
    #[must_use]
    pub fn to_response<B>(&self) -> Response<Content<B>> {
        let status = self.status();
        let (media_type, text) = match self {
            Self::Denied(denied) => {
                let (code, message) = denied.code();
                (
                    "text/xml",
                    format!(
                        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"#
                    ),
                )
            }
            _ => ("text/plain", status.canonical_reason().unwrap_or_default().to_owned()),
        };
        let length = text.len();
        let mut response = Response::new(Content::Bytes(text.into_bytes()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching::REFUSED));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        match self {
            Self::Method => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            }
            Self::Origin(Miss::Range { size }) => {
                if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
                    headers.insert(CONTENT_RANGE, range);
                }
            }
            _ => {}
        }
        cors::answer(headers);
        response
    }
}
