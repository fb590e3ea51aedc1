//! What a page from another origin may do: everything that a player does, as authority is in the URL.
//!
//! Every answer says so, a refusal too: without these headers a browser shows a page no status at all.

use std::net::{Ipv4Addr, Ipv6Addr};

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

/// Reads an origin as somebody wrote it, and writes it as browsers do ([ASCII serialization]), to whose `Origin` it is
/// compared byte by byte. What no browser would write is an error.
///
/// [ASCII serialization]: https://html.spec.whatwg.org/multipage/browsers.html#ascii-serialisation-of-an-origin
pub fn parse(origin: &str) -> Result<HeaderValue, &'static str> {
    const NONE: &str = "is no origin, like https://school.example or http://localhost:3000";
    let lower = origin.to_ascii_lowercase();
    let (scheme, rest) = lower.split_once("://").ok_or(NONE)?;
    let default_port = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return Err(NONE),
    };
    if rest.contains(['/', '?', '#', '@', '*']) {
        return Err("is more than an origin; write scheme, host and port only, like https://school.example");
    }
    if !rest.is_ascii() {
        return Err("has letters that browsers write in ASCII; write its host as they do, xn--…");
    }
    let (host, port) = match rest.rfind(':') {
        Some(colon) if !rest.ends_with(']') => rest.split_at(colon),
        _ => (rest, ""),
    };
    let host = host_as_browsers_write_it(host).ok_or(NONE)?;
    let port: u16 = match port.strip_prefix(':') {
        None | Some("") => default_port,
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => port.parse().map_err(|_| NONE)?,
        Some(_) => return Err(NONE),
    };
    let port = if port == default_port { String::new() } else { format!(":{port}") };
    HeaderValue::from_str(&format!("{scheme}://{host}{port}")).map_err(|_| NONE)
}

/// A host in small letters; an address in its one spelling.
fn host_as_browsers_write_it(host: &str) -> Option<String> {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr = address.parse().ok()?;
        // Browsers write IPv4 in IPv6's clothes in another way than Rust, and nobody has such a page.
        return address.to_ipv4_mapped().is_none().then(|| format!("[{address}]"));
    }
    // What ends in a number is an IPv4 address to browsers, which is written in one way.
    let last = host.strip_suffix('.').unwrap_or(host).rsplit('.').next()?;
    let digits = last.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal =
        last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if (digits || hexadecimal) && host.parse::<Ipv4Addr>().is_err() {
        return None;
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (!last.is_empty() && host.bytes().all(plain)).then(|| host.to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected values by `new URL(text).origin` in Node.
    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for (text, origin) in [
            ("https://school.example", "https://school.example"),
            ("HTTPS://School.Example", "https://school.example"),
            ("https://school.example:443", "https://school.example"),
            ("https://school.example:", "https://school.example"),
            ("https://school.example:0443", "https://school.example"),
            ("https://school.example:80", "https://school.example:80"),
            ("http://school.example:80", "http://school.example"),
            ("http://localhost:03000", "http://localhost:3000"),
            ("https://school.example.", "https://school.example."),
            ("https://my_school.example", "https://my_school.example"),
            ("https://xn--schler-5ya.example", "https://xn--schler-5ya.example"),
            ("http://3d.printer", "http://3d.printer"),
            ("http://a.1b", "http://a.1b"),
            ("http://192.0.2.7:8080", "http://192.0.2.7:8080"),
            ("http://[2001:DB8:0:0::1]:8080", "http://[2001:db8::1]:8080"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(parse(text).as_ref().map(HeaderValue::as_bytes), Ok(origin.as_bytes()), "{text}");
        }
    }

    #[test]
    fn what_no_browser_writes_is_no_origin() {
        for (text, problem) in [
            ("", "no origin"),
            ("null", "no origin"),
            ("school.example", "no origin"),
            ("ftp://school.example", "no origin"),
            ("https://", "no origin"),
            ("https://:443", "no origin"),
            ("https://.", "no origin"),
            ("https://school.example:port", "no origin"),
            ("https://school.example:+443", "no origin"),
            ("https://school.example:65536", "no origin"),
            ("https://school example", "no origin"),
            ("https://sch%6Fol.example", "no origin"),
            ("http://127.1", "no origin"),
            ("http://0x7f.0x1", "no origin"),
            ("http://192.0.2.07", "no origin"),
            ("http://192.0.2.7.", "no origin"),
            ("http://[::1", "no origin"),
            ("http://::1", "no origin"),
            ("http://[::1]3000", "no origin"),
            ("http://[::ffff:192.0.2.7]", "no origin"),
            ("https://school.example/", "write scheme, host and port only"),
            ("https://school.example?x", "write scheme, host and port only"),
            ("https://me@school.example", "write scheme, host and port only"),
            ("https://*.school.example", "write scheme, host and port only"),
            ("https://schüler.example", "xn--"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
