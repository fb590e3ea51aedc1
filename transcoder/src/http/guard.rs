//! Who may ask for what.
//!
//! Without a token the service listens to this machine only. Then whoever asks is one of its users, or a page in a
//! browser of theirs: a page of another site is told by `Origin` and `Sec-Fetch-Site`, and one whose name was made to
//! point here, by `Host`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use axum::http::header::{AUTHORIZATION, FORWARDED, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use super::problem::{Kind, Problem};

/// A secret that somebody has to know, as its SHA-256: enough to recognise it.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// The token that is this text, but for blanks around it: files end with a line, and headers cannot carry that.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.trim()).into())
    }

    /// Takes as long for every text.
    fn is(&self, text: &str) -> bool {
        self.0.ct_eq(&<[u8; 32]>::from(Sha256::digest(text))).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token")
    }
}

/// Who asks, as far as the network says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What has to be known.
#[derive(Clone, Debug, Default)]
pub(super) struct Guard {
    pub(super) api: Option<Token>,
    pub(super) events: Option<Token>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Door {
    /// Tells nobody anything.
    Open,
    Metrics,
    Events,
    /// Asks who it is itself ([`Guard::asker`]).
    Playback,
    Api,
}

impl Door {
    fn of(path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" | "/openapi.json" | "/v1/studio" | "/" | "/watch" => Self::Open,
            "/metrics" => Self::Metrics,
            "/v1/events" => Self::Events,
            "/v1/playback" => Self::Playback,
            _ if path.starts_with("/problems/") || path.starts_with("/studio/") => Self::Open,
            _ => Self::Api,
        }
    }
}

impl Guard {
    pub(super) fn admit(&self, request: &Parts, peer: Peer) -> Result<(), Problem> {
        if self.api.is_none() && !is_for_this_machine(request) {
            return Err(cross_site("the service has no token and answers only as localhost"));
        }
        if self.api.is_none() && is_proxied(&request.headers) {
            let detail =
                "the service has no token, and a proxy brings requests of others: set REELGATE_API_TOKEN";
            return Err(cross_site(detail));
        }
        let door = Door::of(request.uri.path());
        let is_write = !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if is_write && door != Door::Playback && is_from_another_site(request) {
            return Err(cross_site("a page of another site cannot change anything here"));
        }
        let is = |token: &Option<Token>, text| token.as_ref().is_some_and(|token| token.is(text));
        let bearer = bearer(&request.headers);
        let has_token = bearer.is_some_and(|text| is(&self.api, text));
        let is_in = match door {
            Door::Open | Door::Playback => true,
            Door::Api => self.opens_to(&request.headers),
            Door::Metrics => self.opens_to(&request.headers) || is_local(&request.headers, peer),
            Door::Events => {
                let from_query = request.uri.query().and_then(token_of_query);
                let from_header =
                    request.headers.get("x-reelgate-token").and_then(|value| value.to_str().ok());
                let given = [bearer, from_header, from_query.as_deref()];
                let knows = given.into_iter().flatten().any(|text| is(&self.events, text));
                knows || has_token || (self.api.is_none() && self.events.is_none())
            }
        };
        if is_in { Ok(()) } else { Err(no_token()) }
    }

    /// Whether whoever sends these headers may use the API.
    pub(super) fn opens_to(&self, headers: &HeaderMap) -> bool {
        self.api.as_ref().is_none_or(|token| bearer(headers).is_some_and(|text| token.is(text)))
    }

    /// Who wants something to be watched. Whether there are viewers who may ask is for the caller to know.
    ///
    /// A page of another site is never the platform: a token that opens everything has no place in it, and without one
    /// it is not this machine that asks.
    pub(super) fn asker<'a>(&self, request: &'a Parts, has_viewers: bool) -> Result<Asker<'a>, Problem> {
        let bearer = bearer(&request.headers);
        let is_platform = match (&self.api, bearer) {
            (Some(api), Some(text)) => api.is(text),
            (Some(_), None) => false,
            (None, Some(_)) => !has_viewers,
            (None, None) => true,
        };
        match bearer {
            _ if is_platform && is_from_another_site(request) => {
                Err(cross_site("a page of another site can ask with a viewer's own token only"))
            }
            _ if is_platform => Ok(Asker::Platform),
            Some(token) if has_viewers => Ok(Asker::Viewer(token)),
            _ => Err(no_token()),
        }
    }
}

/// Who wants something to be watched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Asker<'a> {
    /// Somebody who may do everything.
    Platform,
    /// Somebody with this token, which nobody has looked at yet.
    Viewer(&'a str),
}

pub(super) fn no_token() -> Problem {
    Problem::of(
        Kind::Token,
        StatusCode::UNAUTHORIZED,
        "send `Authorization: Bearer` with the token that the service was started with",
    )
    .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"reelgate\""))
}

pub(super) fn cross_site(detail: &str) -> Problem {
    Problem::of(Kind::CrossSite, StatusCode::FORBIDDEN, detail)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// SNS cannot send headers of somebody's choice.
fn token_of_query(query: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs.find(|(name, _)| name == "token").map(|(_, value)| value.into_owned())
}

fn is_local(headers: &HeaderMap, peer: Peer) -> bool {
    peer.0.ip().to_canonical().is_loopback() && !is_proxied(headers)
}

/// Behind a proxy of this machine everybody comes from this machine.
fn is_proxied(headers: &HeaderMap) -> bool {
    ["x-forwarded-for", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name))
        || headers.contains_key(FORWARDED)
}

fn host(request: &Parts) -> Option<&str> {
    let of_uri = request.uri.authority().map(Authority::as_str);
    of_uri.or_else(|| request.headers.get(HOST)?.to_str().ok())
}

fn is_for_this_machine(request: &Parts) -> bool {
    let Some(host) = host(request).and_then(|host| Url::parse(&format!("http://{host}/")).ok()) else {
        return false;
    };
    match host.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

pub(super) fn is_from_another_site(request: &Parts) -> bool {
    if let Some(site) = request.headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = request.headers.get(ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_none() || authority != host(request)
}

#[cfg(test)]
mod tests {
    use axum::extract::Request;
    use axum::response::IntoResponse;

    use super::*;

    const LOOPBACK: &str = "127.0.0.1:5000";
    const FAR: &str = "192.0.2.7:5000";

    fn status(guard: &Guard, peer: &str, request: &str) -> u16 {
        let mut lines = request.lines();
        let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in lines.map(|line| line.split_once(": ").unwrap()) {
            builder = builder.header(name, value);
        }
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        match guard.admit(&parts, Peer(peer.parse().unwrap())) {
            Ok(()) => 200,
            Err(problem) => problem.into_response().status().as_u16(),
        }
    }

    fn guard(api: Option<&str>, events: Option<&str>) -> Guard {
        Guard { api: api.map(Token::of), events: events.map(Token::of) }
    }

    #[test]
    fn a_token_opens_the_api_and_nothing_else_does() {
        let guard = guard(Some("open sesame"), Some("events only"));
        let asked = |request: &str| status(&guard, LOOPBACK, request);
        assert_eq!(asked("GET /v1/jobs\nhost: x\nauthorization: Bearer open sesame"), 200);
        assert_eq!(asked("GET /v1/jobs\nhost: x\nauthorization: bearer open sesame"), 200);
        for wrong in [
            "GET /v1/jobs\nhost: x",
            "GET /nothing\nhost: x",
            "GET /healthz/\nhost: x",
            "GET /v1/jobs?token=open%20sesame\nhost: x",
            "GET /v1/jobs\nhost: x\nauthorization: Bearer open sesam",
            "GET /v1/jobs\nhost: x\nauthorization: Basic open sesame",
            "GET /v1/jobs\nhost: x\nauthorization: Bearer events only",
            "GET /v1/jobs\nhost: x\nx-reelgate-token: open sesame",
        ] {
            assert_eq!(asked(wrong), 401, "{wrong}");
        }
        for open in ["/healthz", "/readyz", "/openapi.json", "/problems/token"] {
            assert_eq!(status(&guard, LOOPBACK, &format!("GET {open}\nhost: x")), 200, "{open}");
        }
    }

    #[test]
    fn a_token_that_was_read_from_a_file_is_known_without_its_last_line_end() {
        let guard = guard(Some("api\r\n"), Some("events\n"));
        assert_eq!(status(&guard, FAR, "GET /v1/jobs\nhost: x\nauthorization: Bearer api"), 200);
        assert_eq!(status(&guard, FAR, "POST /v1/events?token=events\nhost: x"), 200);
    }

    #[test]
    fn events_have_a_token_of_their_own_which_may_be_in_the_query() {
        let guarded = guard(Some("api"), Some("a+b"));
        let asked = |request: &str| status(&guarded, FAR, request);
        for right in [
            "POST /v1/events?token=a%2Bb\nhost: x",
            "POST /v1/events\nhost: x\nx-reelgate-token: a+b",
            "POST /v1/events\nhost: x\nauthorization: Bearer a+b",
            "POST /v1/events\nhost: x\nauthorization: Bearer api",
        ] {
            assert_eq!(asked(right), 200, "{right}");
        }
        assert_eq!(asked("POST /v1/events?token=api\nhost: x"), 401);
        assert_eq!(asked("POST /v1/events\nhost: x"), 401);
        let only_events = guard(None, Some("e"));
        assert_eq!(status(&only_events, LOOPBACK, "POST /v1/events\nhost: localhost"), 401);
        assert_eq!(status(&guard(Some("api"), None), FAR, "POST /v1/events\nhost: x"), 401);
        assert_eq!(status(&guard(None, None), LOOPBACK, "POST /v1/events\nhost: localhost"), 200);
    }

    #[test]
    fn metrics_are_for_this_machine_and_for_who_has_the_token() {
        let guard = guard(Some("api"), None);
        assert_eq!(status(&guard, LOOPBACK, "GET /metrics\nhost: x"), 200);
        assert_eq!(status(&guard, "[::ffff:127.0.0.1]:1", "GET /metrics\nhost: x"), 200);
        assert_eq!(status(&guard, FAR, "GET /metrics\nhost: x"), 401);
        assert_eq!(status(&guard, LOOPBACK, "GET /metrics\nhost: x\nx-forwarded-for: 192.0.2.7"), 401);
        assert_eq!(status(&guard, FAR, "GET /metrics\nhost: x\nauthorization: Bearer api"), 200);
    }

    #[test]
    fn without_a_token_only_this_machine_is_answered_by_its_own_name() {
        let guard = guard(None, None);
        for own in ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "reelgate.localhost"] {
            assert_eq!(status(&guard, LOOPBACK, &format!("GET /v1/jobs\nhost: {own}")), 200, "{own}");
        }
        for other in
            ["evil.example", "localhost.evil.example", "192.168.1.2", "127.0.0.1.evil.example", "a b"]
        {
            assert_eq!(status(&guard, LOOPBACK, &format!("GET /v1/jobs\nhost: {other}")), 403, "{other}");
        }
        assert_eq!(status(&guard, LOOPBACK, "GET /v1/jobs"), 403);
        for proxied in
            ["x-forwarded-for: 192.0.2.7", "forwarded: for=192.0.2.7", "x-real-ip: 192.0.2.7", "via: 1.1 p"]
        {
            let request = format!("POST /v1/playback\nhost: 127.0.0.1:8080\n{proxied}");
            assert_eq!(status(&guard, LOOPBACK, &request), 403, "{proxied}");
        }
    }

    #[test]
    fn a_page_of_another_site_cannot_write() {
        let guard = guard(None, None);
        let asked = |headers: &str| {
            status(&guard, LOOPBACK, &format!("POST /v1/jobs\nhost: localhost:8080\n{headers}"))
        };
        assert_eq!(asked("accept: */*"), 200);
        assert_eq!(asked("origin: http://localhost:8080"), 200);
        assert_eq!(asked("origin: http://localhost:8080\nsec-fetch-site: same-origin"), 200);
        assert_eq!(asked("origin: http://localhost:3000"), 403);
        assert_eq!(asked("origin: https://evil.example"), 403);
        assert_eq!(asked("origin: null"), 403);
        assert_eq!(asked("sec-fetch-site: cross-site"), 403);
        assert_eq!(asked("sec-fetch-site: same-site"), 403);
    }

    #[test]
    fn who_wants_to_watch_is_the_platform_or_has_a_token_of_its_own() {
        let asker = |guard: &Guard, has_viewers, headers: &str| {
            let mut builder =
                Request::builder().method("POST").uri("/v1/playback").header("host", "localhost");
            for (name, value) in headers.lines().map(|line| line.split_once(": ").unwrap()) {
                builder = builder.header(name, value);
            }
            let (parts, ()) = builder.body(()).unwrap().into_parts();
            guard.admit(&parts, Peer(LOOPBACK.parse().unwrap())).unwrap();
            match guard.asker(&parts, has_viewers) {
                Ok(Asker::Platform) => "platform".to_owned(),
                Ok(Asker::Viewer(token)) => format!("viewer {token}"),
                Err(problem) => problem.into_response().status().as_u16().to_string(),
            }
        };
        let (guarded, open) = (guard(Some("api"), Some("events")), guard(None, None));
        let other = "origin: https://evil.example";
        for (guard, has_viewers, headers, expected) in [
            (&guarded, true, "authorization: Bearer api".to_owned(), "platform"),
            (&guarded, true, "authorization: Bearer jwt".to_owned(), "viewer jwt"),
            (&guarded, false, "authorization: Bearer jwt".to_owned(), "401"),
            (&guarded, true, "authorization: Basic api".to_owned(), "401"),
            (&guarded, true, "accept: */*".to_owned(), "401"),
            (&guarded, true, format!("authorization: Bearer api\n{other}"), "403"),
            (&guarded, true, format!("authorization: Bearer jwt\n{other}"), "viewer jwt"),
            (&guarded, false, format!("authorization: Bearer jwt\n{other}"), "401"),
            (&open, true, "accept: */*".to_owned(), "platform"),
            (&open, true, "authorization: Bearer jwt".to_owned(), "viewer jwt"),
            (&open, false, "authorization: Bearer jwt".to_owned(), "platform"),
            (&open, false, other.to_owned(), "403"),
            (&open, true, other.to_owned(), "403"),
            (&open, false, "sec-fetch-site: same-site".to_owned(), "403"),
            (&open, true, "origin: http://localhost".to_owned(), "platform"),
        ] {
            assert_eq!(asker(guard, has_viewers, &headers), expected, "{headers}");
        }
    }
}
