//! One request, from URL to response.

use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_REQUEST_HEADERS, COOKIE, IF_RANGE, ORIGIN, RANGE, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::conditional::CONDITIONS;
use crate::config::{Config, ConfigError};
use crate::cors::{self, Origins};
use crate::crypto::Crypto;
use crate::delivery::{Content, deliver};
use crate::journal::{Claimant, Remark};
use crate::key_group::{Denied, Grant, Visitor};
use crate::link::LONGEST_URL;
use crate::object_key::{BadPath, ObjectKey};
use crate::origin::Origin;
use crate::refusal::{Denial, Explanation, Refusal, message};
use crate::rewrite::Kind;
use crate::signed_url::{SignedUrl, Signer, Unreadable};
use crate::ticket::{Ticket, Tickets};

/// The headers that are read here of all requests, under these settings. A platform on which each of them costs something
/// need not carry over any other, but those that [`further_headers`] names.
#[must_use]
pub fn request_headers(config: Result<&Config, &ConfigError>) -> Vec<HeaderName> {
    let mut headers = vec![COOKIE, RANGE];
    headers.extend(CONDITIONS);
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

/// An operator's token, who is told why a request was refused.
const EXPLAIN: HeaderName = HeaderName::from_static("x-reelgate-explain");

/// Whether it is an operator who asks.
#[must_use]
pub fn is_operators(request: &Request<()>, config: &Config) -> bool {
    request.headers().get(EXPLAIN).is_some_and(|token| config.explains_to(token.as_bytes()))
}

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
    protect(response.headers_mut());
    if request.method() == Method::HEAD {
        *response.body_mut() = Content::Nothing;
    }
    response
}

/// What is said with every answer: its type is what it says, and its URL, which opens things, goes to nobody.
fn protect(headers: &mut HeaderMap) {
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// Who let a request in, or claims to, for the log.
#[must_use]
pub fn signer<B>(request: &Request<()>, response: &Response<B>, config: &Config) -> Option<Signer> {
    if let Some(Claimant(signer)) = response.extensions().get() {
        return signer.clone();
    }
    if is_too_long(request) {
        return None;
    }
    match credentials(request, config) {
        Ok(Credentials::Signature(url)) => Some(url.signer()),
        Ok(Credentials::Ticket(_, ticket)) => Some(ticket.signer()),
        Err(Unreadable { signer, .. }) => signer,
    }
}

/// The answer to what is no request by HTTP's own rules, and so cannot be handed to [`serve`].
#[must_use]
pub fn malformed<B>() -> Response<Content<B>> {
    let mut response = Refusal::Path(BadPath).to_response();
    cors::answer(&Origins::All, None, response.headers_mut());
    protect(response.headers_mut());
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
    let mut response = deliver(request, &grant, &config.own_hosts, origin).await?;
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
    let to_operator = is_operators(request, config);
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
                let text = format!("CloudFront would refuse it for {}", grant.tolerated().join(", "));
                Remark { text, ours: false, refusal: None }
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
        let remark = Remark { text: error.to_string(), ours: true, refusal: None };
        response.extensions_mut().insert(remark);
    }
    response
}

fn preflight<B>(request: &HeaderMap) -> Response<Content<B>> {
    let mut response = Response::new(Content::Nothing);
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors::preflight(request, response.headers_mut());
    response
}
