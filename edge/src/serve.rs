//! One request, from URL to response.

use std::fmt;
use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, ETAG, IF_RANGE, ORIGIN, RANGE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use serde::Serialize;

use crate::caching;
use crate::config::{Config, ConfigError};
use crate::cors::{self, Origins};
use crate::crypto::Crypto;
use crate::document::{Broken, Document, READY};
use crate::gzip;
use crate::key_group::{self, Denied, Grant, Visitor};
use crate::link::{Host, Place};
use crate::object_key::{BadPath, ObjectKey};
use crate::origin::{ByteRange, Metadata, Miss, Object, Origin};
use crate::policy::LONGEST_URL;
use crate::rewrite::{Encoding, Kind, Rewriter, TooLong};
use crate::signed_url::{SignedUrl, Unreadable};
use crate::ticket::{self, Ticket, Tickets};

/// The headers that are read here of all requests, under these settings. A platform on which each of them costs something
/// need not carry over any other, but those that [`further_headers`] names.
#[must_use]
pub fn request_headers(config: Result<&Config, &ConfigError>) -> Vec<HeaderName> {
    let mut headers = vec![COOKIE, RANGE];
    let settings = config.ok();
    headers.extend(Some(ORIGIN).filter(|_| settings.is_none_or(|config| config.origins != Origins::All)));
    headers.extend(Some(EXPLAIN).filter(|_| settings.is_some_and(Config::has_operator)));
    headers
}

/// The headers that are read besides, of a few requests. The [`ACCEPT_ENCODING`] is meant that the client sent itself.
pub fn further_headers(request: &Request<()>) -> impl Iterator<Item = HeaderName> {
    let conditions = [
        (ACCESS_CONTROL_REQUEST_HEADERS, request.method() == Method::OPTIONS),
        (IF_RANGE, request.headers().contains_key(RANGE)),
        (ACCEPT_ENCODING, Kind::of(request.uri().path()).is_some()),
    ];
    conditions.into_iter().filter_map(|(name, is_read)| is_read.then_some(name))
}

/// The longest document that is held whole, in bytes of what goes out. What is longer leaves in parts.
const WHOLE: usize = 1024 * 1024;

/// From which length on, in bytes of what is stored, a document is sure to become longer than that: with signatures in
/// its links, and packed. Then it leaves in parts from the first on, because a viewer may be slow to take it.
const LONG: u64 = 64 * 1024;
const LONG_PACKED: u64 = 1024 * 1024;

/// An operator's token, who is told why a request was refused.
const EXPLAIN: HeaderName = HeaderName::from_static("x-reelgate-explain");

/// Says whether the configuration is sound. No object is called so: an asset's path begins with `/assets/`.
const HEALTH: &str = "/-/health";

/// The longest request, as with CloudFront. Here it is the URL and the cookies: of all else a line is read at most.
const LONGEST_REQUEST: usize = 20_480;

/// Answers a request. Its URI is absolute: the URL that the viewer asked for. What should be in the log, of a
/// refusal or beside an answer, is in the response's extensions, as a [`Remark`].
pub async fn serve<O: Origin>(
    request: &Request<()>,
    visitor: &Visitor,
    config: Result<&Config, ConfigError>,
    origin: &O,
    crypto: &impl Crypto,
) -> Response<Content<O::Body>> {
    let origins = match &config {
        Ok(config) => &config.origins,
        Err(_) => &Origins::All,
    };
    let answer = match (request.method(), config) {
        // Before authority is asked for: a preflight has none.
        (&Method::OPTIONS, _) => Ok(preflight(request.headers())),
        _ if is_too_long(request) => Err(Refusal::TooLong),
        (&Method::GET | &Method::HEAD, config) if request.uri().path() == HEALTH => Ok(health(config)),
        (&Method::GET | &Method::HEAD, Ok(config)) => object(request, visitor, config, origin, crypto).await,
        (&Method::GET | &Method::HEAD, Err(error)) => Err(error.into()),
        _ => Err(Refusal::Method),
    };
    let mut response = answer.unwrap_or_else(|refusal| refusal.to_response());
    cors::answer(origins, request.headers().get(ORIGIN), response.headers_mut());
    if request.method() == Method::HEAD {
        *response.body_mut() = Content::Nothing;
    }
    response
}

/// The answer to what is no request by HTTP's own rules, and so cannot be handed to [`serve`].
#[must_use]
pub fn malformed<B>() -> Response<Content<B>> {
    let mut response = Refusal::Path(BadPath).to_response();
    cors::answer(&Origins::All, None, response.headers_mut());
    response
}

/// Looked at before anything else, so that nothing has to bear with more.
fn is_too_long(request: &Request<()>) -> bool {
    let uri = request.uri();
    let parts = [
        uri.scheme_str(),
        uri.authority().map(Authority::as_str),
        uri.path_and_query().map(PathAndQuery::as_str),
    ];
    let url: usize = "://".len() + parts.iter().flatten().map(|part| part.len()).sum::<usize>();
    let cookies: usize = request.headers().get_all(COOKIE).iter().map(HeaderValue::len).sum();
    url > LONGEST_URL || url + cookies > LONGEST_REQUEST
}

async fn object<O: Origin>(
    request: &Request<()>,
    visitor: &Visitor,
    config: &Config,
    origin: &O,
    crypto: &impl Crypto,
) -> Result<Response<Content<O::Body>>, Refusal> {
    let (grant, remark) = authorise(request, visitor, config, crypto).await?;
    let mut response = match Kind::of(grant.key().as_str()).filter(|_| !grant.authority().is_empty()) {
        Some(kind) => document(request, &grant, kind, &config.own_hosts, origin).await?,
        None if request.method() == Method::HEAD => {
            let metadata = origin.head(&grant).await?;
            whole(&grant, Object { metadata, body: Content::Nothing })?
        }
        None => stream(request.headers(), &grant, origin).await?,
    };
    if let Some(remark) = remark {
        response.extensions_mut().insert(remark);
    }
    Ok(response)
}

/// Who may have what is asked for: whoever a signature lets in, and for public paths everybody.
async fn authorise(
    request: &Request<()>,
    visitor: &Visitor,
    config: &Config,
    crypto: &impl Crypto,
) -> Result<(Grant, Option<Remark>), Refusal> {
    let key = ObjectKey::parse(request.uri().path())?;
    let token = request.headers().get(EXPLAIN).map(HeaderValue::as_bytes);
    let to_operator = token.is_some_and(|token| config.explains_to(token));
    let let_in = match credentials(request, config) {
        Ok(Credentials::Signature(url)) => {
            by_signature(key.clone(), &url, request, visitor, to_operator, config, crypto).await
        }
        Ok(Credentials::Ticket(tickets, ticket)) => {
            by_ticket(key.clone(), tickets, &ticket, request, visitor, to_operator).map(|grant| (grant, None))
        }
        Err(Unreadable { reason, signer }) => Err(Denial { reason, signer, to_operator, explanation: None }),
    };
    match let_in {
        Ok(let_in) => Ok(let_in),
        Err(_) if config.is_public(&key) => Ok((Grant::public(key), None)),
        Err(denial) => Err(denial.into()),
    }
}

async fn by_signature(
    key: ObjectKey,
    url: &SignedUrl<'_>,
    request: &Request<()>,
    visitor: &Visitor,
    to_operator: bool,
    config: &Config,
    crypto: &impl Crypto,
) -> Result<(Grant, Option<Remark>), Denial> {
    match config.keys.verify(key, url, visitor, &config.dialect, crypto).await {
        Ok(grant) => {
            let remark = (!grant.tolerated().is_empty()).then(|| {
                let (signer, tolerated) = (url.signer(), grant.tolerated().join(", "));
                let text = format!("signed by {signer}; CloudFront would refuse it for {tolerated}");
                Remark { text, ours: false }
            });
            // Nothing but documents hands anything on.
            if Kind::of(grant.key().as_str()).is_none() {
                return Ok((grant, remark));
            }
            // A ticket is for one host. Where links lead to others too, and the signature opens those, it has to go on.
            let exchanged = config.own_hosts.is_empty() || url.policy.resource.is_of_one_host();
            let tickets = config.tickets.as_ref().filter(|_| exchanged);
            let ticket = tickets.and_then(|tickets| tickets.mint(&grant, url, request.uri(), visitor));
            let authority = ticket.map_or_else(|| url.authority(), |ticket| ticket.to_query());
            Ok((grant.handing_on(authority), remark))
        }
        Err(reason) => {
            let explanation = if to_operator {
                Some(Explanation::Signature(config.keys.explain(url, visitor, crypto).await.into()))
            } else {
                None
            };
            Err(Denial { reason, signer: Some(url.signer()), to_operator, explanation })
        }
    }
}

fn by_ticket(
    key: ObjectKey,
    tickets: &Tickets,
    ticket: &Ticket,
    request: &Request<()>,
    visitor: &Visitor,
    to_operator: bool,
) -> Result<Grant, Denial> {
    let grant = tickets.open(key, ticket, request.uri(), visitor).map_err(|reason| {
        let explained = to_operator.then(|| tickets.explain(ticket, request.uri(), visitor));
        let explanation = explained.flatten().map(|explanation| Explanation::Ticket(explanation.into()));
        Denial { reason, signer: Some(ticket.signer()), to_operator, explanation }
    })?;
    Ok(grant.handing_on(ticket.to_query()))
}

/// What a request asks to be let in by.
enum Credentials<'a> {
    Signature(Box<SignedUrl<'a>>),
    Ticket(&'a Tickets, Ticket),
}

/// One signing parameter in the query is enough for no ticket to be looked at, as for no cookie; and a ticket is for those.
fn credentials<'a>(request: &'a Request<()>, config: &'a Config) -> Result<Credentials<'a>, Unreadable> {
    let uri = request.uri();
    let ticket = config.tickets.as_ref().and_then(|tickets| Some((tickets, Tickets::in_query(uri)?)));
    let cookies = cookies(request.headers()).filter(|_| ticket.is_none());
    match (SignedUrl::parse(uri, cookies.as_deref(), &config.dialect), ticket) {
        (Err(Unreadable { reason: Denied::Unsigned, .. }), Some((tickets, ticket))) => {
            Ok(Credentials::Ticket(tickets, ticket?))
        }
        (read, _) => Ok(Credentials::Signature(read?.into())),
    }
}

/// All cookies, in one list as [RFC 6265] has it; a browser may send several over HTTP/2.
///
/// [RFC 6265]: https://www.rfc-editor.org/rfc/rfc6265#section-5.4
fn cookies(headers: &HeaderMap) -> Option<String> {
    // Somebody else's cookie need not be ASCII.
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let cookies: Vec<_> = headers.get_all(COOKIE).iter().map(text).collect();
    (!cookies.is_empty()).then(|| cookies.join("; "))
}

fn health<B>(config: Result<&Config, ConfigError>) -> Response<Content<B>> {
    let (status, text) = match config {
        Ok(_) => (StatusCode::OK, r#"{"configuration":"sound"}"#),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, r#"{"configuration":"not sound, see the log"}"#),
    };
    let mut response = message(status, "application/json", text.to_owned());
    if let Err(error) = config {
        response.extensions_mut().insert(Remark { text: error.to_string(), ours: true });
    }
    response
}

/// A document with the viewer's authority in it. It is always answered whole: players ask for `Range: bytes=0-` of
/// playlists, and the range would be of something else than what they get.
async fn document<O: Origin>(
    request: &Request<()>,
    grant: &Grant,
    kind: Kind,
    own_hosts: &Arc<[Host]>,
    origin: &O,
) -> Result<Response<Content<O::Body>>, Refusal> {
    let Object { mut metadata, body } = origin.get(grant, None).await?;
    match metadata.content_encoding {
        Some(encoding) if kind == Kind::Playlist => {
            let problem = format!("the playlist is stored as {encoding}; store playlists as they are");
            return Err(Miss::Failed(problem).into());
        }
        // Captions may well be stored so, and what is not found in them is not missed.
        Some(_) => return whole(grant, Object { metadata, body: Content::Stream(body) }),
        None => {}
    }
    let accepted = request.headers().get(ACCEPT_ENCODING).and_then(|accepted| accepted.to_str().ok());
    let encoding = if accepted.is_some_and(gzip::is_accepted) { Encoding::Gzip } else { Encoding::Identity };
    let place = Place::at(request.uri(), own_hosts, grant.authority());
    let mut document = Document::new(body, Rewriter::new(kind, place, encoding));
    let long = if encoding == Encoding::Gzip { LONG_PACKED } else { LONG };
    document.fill(origin, if metadata.size <= long { WHOLE } else { READY }).await?;

    let (length, is_other) = (document.is_over().then(|| document.ready()), document.is_other());
    let content = match length {
        Some(_) => Content::Bytes(document.take()),
        None => Content::Document(document.into()),
    };
    // Its bytes are no longer the object's, so neither is its tag.
    metadata.etag = None;
    metadata.content_encoding = (encoding == Encoding::Gzip).then(|| "gzip".to_owned());
    let mut response = whole(grant, Object { metadata, body: content })?;
    let headers = response.headers_mut();
    headers.remove(ACCEPT_RANGES);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching::REWRITTEN));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    match length {
        Some(length) => headers.insert(CONTENT_LENGTH, HeaderValue::from(length)),
        None => headers.remove(CONTENT_LENGTH),
    };
    if is_other && kind == Kind::Playlist {
        let text = "it does not begin #EXTM3U, and goes out as it is".to_owned();
        response.extensions_mut().insert(Remark { text, ours: true });
    }
    Ok(response)
}

async fn stream<O: Origin>(
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
    let Object { metadata: Metadata { size, content_type, content_encoding, cache_control, etag }, body } =
        object;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // All that will be in it, so that it need not grow twice on the way.
    headers.reserve(12);
    headers.insert(CONTENT_TYPE, header(media_type(content_type.as_deref(), &grant.key().extension()))?);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(CACHE_CONTROL, header(&caching::for_one_viewer(cache_control.as_deref()))?);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(encoding) = content_encoding {
        headers.insert(CONTENT_ENCODING, header(&encoding)?);
    }
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
    /// A message, or a document as short as most are.
    Bytes(Vec<u8>),
    /// A document of any length, part by part.
    Document(Box<Document<B>>),
}

/// What belongs into the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// A sentence, without anything that opens anything.
    pub text: String,
    /// Whether it is the operator's to mend, not the viewer's.
    pub ours: bool,
}

/// A denial, with what the log and an operator may know of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    /// What was found wrong.
    pub reason: Denied,
    /// The key pair's id and a digest of the signature, where there are any.
    pub signer: Option<String>,
    /// Whether it is an operator who asked, and is told.
    pub to_operator: bool,
    /// How every check came out, where there was something to check.
    pub explanation: Option<Explanation>,
}

/// How every check came out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Explanation {
    /// Of a signature.
    Signature(Box<key_group::Explanation>),
    /// Of a ticket.
    Ticket(Box<ticket::Explanation>),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "denied: {}", self.reason)?;
        self.signer.as_ref().map_or(Ok(()), |signer| write!(f, ", signed by {signer}"))
    }
}

/// Why a request got no object. Its `Display` is for our logs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The path does not say one thing.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The viewer may not have it.
    #[error("{0}")]
    Denied(Box<Denial>),
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are served")]
    Method,
    /// The URL is too long, or its cookies are.
    #[error("the URL, or the URL and its cookies, are longer than CloudFront takes")]
    TooLong,
    /// The viewer may have it, but the store has not.
    #[error(transparent)]
    Origin(#[from] Miss),
    /// The store has it, but authority cannot be handed on by it.
    #[error(transparent)]
    Document(#[from] TooLong),
    /// The gate itself is not set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Origin(miss) => miss.into(),
            Broken::TooLong(too_long) => too_long.into(),
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(Box::new(denial))
    }
}

impl Refusal {
    /// The status this becomes, and the only place where that is decided.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Path(_) => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            // What CloudFront says of either.
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Origin(Miss::NotFound) => StatusCode::NOT_FOUND,
            Self::Origin(Miss::Range { .. }) => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Origin(Miss::Failed(_)) | Self::Document(_) => StatusCode::BAD_GATEWAY,
            Self::Config(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What the viewer is told: CloudFront's words for a denial, else the status and no more. What exactly
    /// went wrong is for the log, and for an operator who asks.
    fn to_response<B>(&self) -> Response<Content<B>> {
        let status = self.status();
        let mut response = match self {
            Self::Denied(denial) if denial.to_operator => {
                message(status, "application/json", explained(denial))
            }
            Self::Denied(denial) => message(status, "text/xml", cloudfronts_words(&denial.reason)),
            _ => message(status, "text/plain", status.canonical_reason().unwrap_or_default().to_owned()),
        };
        match self {
            Self::Method => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            }
            Self::Origin(Miss::Range { size }) => {
                if let Ok(range) = HeaderValue::from_str(&format!("bytes */{size}")) {
                    response.headers_mut().insert(CONTENT_RANGE, range);
                }
            }
            _ => {}
        }
        response.extensions_mut().insert(Remark { text: self.to_string(), ours: status.is_server_error() });
        response
    }
}

fn cloudfronts_words(reason: &Denied) -> String {
    let (code, message) = reason.code();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"#
    )
}

fn explained(denial: &Denial) -> String {
    #[derive(Serialize)]
    struct Explained<'a> {
        refused: String,
        #[serde(flatten)]
        explanation: Option<&'a Explanation>,
    }
    let explained =
        Explained { refused: denial.reason.to_string(), explanation: denial.explanation.as_ref() };
    // Strings, numbers and addresses: nothing in here can fail to be written.
    serde_json::to_string_pretty(&explained).unwrap_or_default()
}

/// An answer of our own, which nobody keeps: what is so now may be otherwise in a moment.
fn message<B>(status: StatusCode, media_type: &'static str, text: String) -> Response<Content<B>> {
    let length = text.len();
    let mut response = Response::new(Content::Bytes(text.into_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching::REFUSED));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
