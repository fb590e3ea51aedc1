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
    /// The token that is this text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
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
    Api,
}

impl Door {
    fn of(path: &str) -> Self {
        match path {
            "/healthz" | "/readyz" | "/openapi.json" => Self::Open,
            "/metrics" => Self::Metrics,
            "/v1/events" => Self::Events,
            _ if path.starts_with("/problems/") => Self::Open,
            _ => Self::Api,
        }
    }
}

impl Guard {
    pub(super) fn admit(&self, request: &Parts, peer: Peer) -> Result<(), Problem> {
        if self.api.is_none() && !is_for_this_machine(request) {
            return Err(cross_site("the service has no token and answers only as localhost"));
        }
        let is_write = !matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if is_write && is_from_another_site(request) {
            return Err(cross_site("a page of another site cannot change anything here"));
        }
        let is = |token: &Option<Token>, text| token.as_ref().is_some_and(|token| token.is(text));
        let bearer = bearer(&request.headers);
        let has_token = bearer.is_some_and(|text| is(&self.api, text));
        let is_in = match Door::of(request.uri.path()) {
            Door::Open => true,
            Door::Api => self.api.is_none() || has_token,
            Door::Metrics => self.api.is_none() || has_token || is_local(&request.headers, peer),
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
}

fn no_token() -> Problem {
    Problem::of(
        Kind::Token,
        StatusCode::UNAUTHORIZED,
        "send `Authorization: Bearer` with the token that the service was started with",
    )
    .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"reelgate\""))
}

fn cross_site(detail: &str) -> Problem {
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

/// Behind a proxy of this machine everybody comes from this machine.
fn is_local(headers: &HeaderMap, peer: Peer) -> bool {
    let is_proxied = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
    peer.0.ip().to_canonical().is_loopback() && !is_proxied
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

fn is_from_another_site(request: &Parts) -> bool {
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
}
