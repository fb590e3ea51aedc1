//! What a page from another origin may do: everything that a player does, as authority is in the URL.
//!
//! Every answer says so, a refusal too: without these headers a browser shows a page no status at all.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use http::{HeaderMap, HeaderValue};

/// The headers that players read from an answer.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Accept-Ranges, Age, Content-Length, Content-Range, Date, ETag, Retry-After");

/// The headers that players send, for a preflight that names none.
const ALLOWED: HeaderValue = HeaderValue::from_static("Range, If-Range, Content-Type, Accept-Encoding");

/// Which pages may read answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origins {
    /// All, without their visitors' cookies.
    All,
    /// These, by scheme, host and port, with their visitors' cookies.
    These(Vec<HeaderValue>),
}

/// Adds what every answer says, to a request from a page of `origin`.
pub fn answer(origins: &Origins, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    match origins {
        Origins::All => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        Origins::These(these) => {
            headers.append(VARY, HeaderValue::from_static("Origin"));
            let Some(origin) = origin.filter(|origin| these.contains(origin)) else { return };
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Adds what the answer to a preflight says beyond that. The headers that were asked for are allowed: none of
/// them can change what is served.
pub fn preflight(request: &HeaderMap, headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, OPTIONS"));
    let asked = request
        .get(ACCESS_CONTROL_REQUEST_HEADERS)
        .filter(|asked| asked.to_str().is_ok_and(|names| !names.is_empty()));
    let asked = asked.cloned().unwrap_or(ALLOWED);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
}
