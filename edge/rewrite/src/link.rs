//! Where links lead, and where in one of them the viewer's authority goes.
//!
//! When in doubt whose host a link leads to, it is left alone: without a query it fails to play, with one it
//! would give the viewer's authority away.

use std::borrow::Cow;
use std::sync::Arc;

use http::Uri;
use percent_encoding::percent_decode;

/// The longest URL that is read, in bytes, as with CloudFront ([quotas]).
///
/// [quotas]: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html#limits-general
pub const LONGEST_URL: usize = 8_192;

/// A document's place on the web, from which its links lead somewhere, and the authority that they are given.
#[derive(Clone, Debug)]
pub struct Place {
    scheme: Scheme,
    host: Option<Host>,
    /// The query that the document was asked for with, empty for none.
    pub(crate) query: String,
    own_hosts: Arc<[Host]>,
    /// A query that no viewer's own can be mistaken for.
    authority: String,
}

/// Where in a link the authority goes in, behind what joins it to what is there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Joint {
    /// The offset in what holds the link.
    pub(crate) at: usize,
    /// `?`, `&` or nothing.
    pub(crate) joiner: &'static [u8],
}

impl Place {
    /// The place that a viewer asks for as the absolute `uri`; `own_hosts` are as good as the one in it. Links that
    /// lead to any of them are given `authority`, a query.
    #[must_use]
    pub fn at(uri: &Uri, own_hosts: &Arc<[Host]>, authority: &str) -> Self {
        let scheme = if uri.scheme_str() == Some("http") { Scheme::Http } else { Scheme::Https };
        let host = uri.authority().and_then(|authority| Host::of(authority.as_str().as_bytes(), scheme));
        let query = uri.query().unwrap_or_default().to_owned();
        Self { scheme, host, query, own_hosts: Arc::clone(own_hosts), authority: authority.to_owned() }
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Where in `link` the authority goes; `None` if it does not go there.
    pub(crate) fn joint(&self, link: &[u8]) -> Option<Joint> {
        self.joint_of(&Target::literal(link))
    }

    /// Where in the link that has this target the authority goes; `None` if it does not go there.
    pub(crate) fn joint_of(&self, target: &Target<'_>) -> Option<Joint> {
        let Target { text, unknown, open, end } = target;
        if (text.trim_ascii().is_empty() && unknown.is_none()) || !self.owns(text, *unknown) {
            return None;
        }
        // A second `?` is data: what follows it is still the value before it.
        let joins = |before: &[u8]| {
            let query = before.iter().position(|&byte| byte == b'?');
            query.is_some_and(|mark| mark + 1 == before.len() || before.ends_with(b"&"))
        };
        if text.strip_suffix(self.authority.as_bytes()).is_some_and(joins) {
            return None;
        }
        let joiner: &[u8] = match text.contains(&b'?') {
            false => b"?",
            true if joins(text) && !open => b"",
            true => b"&",
        };
        Some(Joint { at: *end, joiner })
    }

    /// Whether `uri` leads to the host that this document came from. It has no fragment, and `unknown` is where
    /// in it something stands that only the player knows.
    ///
    /// Where the two standards for URLs disagree on whose host it is (backslashes, tabs, missing slashes), it
    /// is not ours.
    pub(crate) fn owns(&self, uri: &[u8], unknown: Option<usize>) -> bool {
        let certain = |offset: usize| unknown.is_none_or(|at| offset < at);
        let at = |offset: usize| uri.get(offset).copied().unwrap_or_default();
        let slash = |offset: usize| matches!(at(offset), b'/' | b'\\');

        let start = uri.iter().take_while(|&&byte| byte <= b' ').count();
        let literal = uri.get(start..).unwrap_or_default();
        if literal.iter().any(|byte| matches!(byte, b'\t' | b'\n' | b'\r')) || begins_blank(literal) {
            return false;
        }
        let (scheme, rest) = match uri.get(start..).map(Scheme::split) {
            Some((scheme, length)) if length > 0 && certain(start + length - 1) => match scheme {
                Some(scheme) => (Some(scheme), start + length),
                None => return false,
            },
            _ => (None, start),
        };
        if scheme.is_none() {
            // `http{$variable}` and `/{$variable}` may yet lead anywhere; `segment-{$variable}` may not.
            let literal = unknown.and_then(|end| uri.get(start..end)).map(<[u8]>::to_ascii_lowercase);
            let open =
                literal.is_some_and(|text| b"https:".starts_with(&text) || matches!(&*text, b"/" | b"\\"));
            if open || !certain(start) {
                return false;
            }
        }
        if !(slash(rest) && slash(rest + 1)) {
            return scheme.is_none();
        }
        if (at(rest), at(rest + 1)) != (b'/', b'/') || slash(rest + 2) {
            return false;
        }
        let scheme = scheme.unwrap_or(self.scheme);
        let authority = uri.get(rest + 2..).unwrap_or_default();
        let length = authority.iter().take_while(|byte| !matches!(byte, b'/' | b'?')).count();
        // What follows a host only in part certain may go on with it: `//ours{$variable}` as `//ours.theirs`.
        let whole = unknown.is_none() || (length < authority.len() && certain(rest + 2 + length));
        let host = authority.get(..length).and_then(|authority| Host::of(authority, scheme));
        let mut ours = self.host.iter().chain(self.own_hosts.iter());
        whole && host.is_some_and(|host| ours.any(|own| *own == host))
    }
}

/// Whether `text` begins with a blank beyond ASCII. JavaScript trims those too, so what looks like a name in a
/// folder is a URL to its players.
fn begins_blank(text: &[u8]) -> bool {
    let first = text.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    first.is_some_and(|first| first.is_whitespace() || first == '\u{feff}')
}

/// Where a link leads, as far as it can be told.
pub(crate) struct Target<'a> {
    /// The URI without fragment, its variables substituted; those that only the player knows are left out.
    pub(crate) text: Cow<'a, [u8]>,
    /// The offset in `text` of the first one left out.
    pub(crate) unknown: Option<usize>,
    /// Whether one is left out at the very end.
    pub(crate) open: bool,
    /// The offset in the link, as it is written, at which its fragment, or white space, begins.
    pub(crate) end: usize,
}

impl<'a> Target<'a> {
    /// Of a link in which nothing stands for anything else.
    pub(crate) fn literal(link: &'a [u8]) -> Self {
        let end = link.iter().position(|&byte| byte == b'#').unwrap_or(link.trim_ascii_end().len());
        let text = link.get(..end).unwrap_or_default().into();
        Self { text, unknown: None, open: false, end }
    }
}

/// The two schemes that authority is carried by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scheme {
    Http,
    Https,
}

impl Scheme {
    /// The scheme that `uri` begins with, if it is one of ours, and the length of any scheme with its colon:
    /// 0 for a relative reference.
    fn split(uri: &[u8]) -> (Option<Self>, usize) {
        let letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let length = uri.iter().take_while(|byte| letter(byte)).count();
        if !uri.first().is_some_and(u8::is_ascii_alphabetic) || uri.get(length) != Some(&b':') {
            return (None, 0);
        }
        let ours = match uri.get(..length).unwrap_or_default().to_ascii_lowercase().as_slice() {
            b"http" => Some(Self::Http),
            b"https" => Some(Self::Https),
            _ => None,
        };
        (ours, length + 1)
    }

    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// A host as hosts are compared: in lower case, percent-decoded, without a final dot, the default port left
/// out, user info ignored. One that is not ASCII, or that could be read in two ways, is none.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Host {
    name: Vec<u8>,
    port: Option<u16>,
}

impl Host {
    /// Reads `host` or `host:port`. Without a port it is the host at each scheme's own.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let host = Self::of(text, Scheme::Https)?;
        (!text.contains(&b'@')).then_some(host)
    }

    fn of(authority: &[u8], scheme: Scheme) -> Option<Self> {
        let mut parts = authority.rsplit(|&byte| byte == b'@');
        let host = parts.next()?;
        if parts.count() > 1 || authority.contains(&b'\\') {
            return None;
        }
        let name_length = match host {
            [b'[', ..] => host.iter().position(|&byte| byte == b']')? + 1,
            _ => host.iter().position(|&byte| byte == b':').unwrap_or(host.len()),
        };
        let (name, port) = host.split_at_checked(name_length)?;
        let port = match port {
            [] | [b':'] => None,
            [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
                Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
            }
            _ => return None,
        };
        let name: Vec<u8> = percent_decode(name).map(|byte| byte.to_ascii_lowercase()).collect();
        let name = name.strip_suffix(b".").unwrap_or(&name);
        let plain = |byte: &u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']')
        };
        (!name.is_empty() && name.iter().all(plain))
            .then(|| Self { name: name.to_vec(), port: port.filter(|&port| port != scheme.port()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_the_host() {
        let uri = "http://127.0.0.1:8787/a/index.m3u8".parse().unwrap();
        let place = Place::at(&uri, &[].into(), "S=1");
        let sign = |link: &str| place.joint(link.as_bytes()).is_some();
        assert!(sign("http://127.0.0.1:8787/a.ts") && sign("//127.0.0.1:8787/a.ts") && sign("a.ts"));
        assert!(
            !sign("http://127.0.0.1/a.ts")
                && !sign("http://127.0.0.1:8788/a.ts")
                && !sign("//127.0.0.1/a.ts")
        );
    }

    #[test]
    fn other_hosts_may_be_ours_too() {
        let uri = "https://v.example/index.m3u8".parse().unwrap();
        let own = ["cdn.example", "CDN2.example.:8443"].map(|host| Host::parse(host.as_bytes()).unwrap());
        let place = Place::at(&uri, &own.into(), "S=1");
        let sign = |link: &str| place.joint(link.as_bytes()).is_some();
        for ours in [
            "https://cdn.example/a",
            "http://cdn.example:80/a",
            "//cdn2.example:8443/a",
            "https://v.example/a",
        ] {
            assert!(sign(ours), "{ours}");
        }
        for theirs in ["https://cdn.example:8443/a", "https://cdn2.example/a", "https://x.cdn.example/a"] {
            assert!(!sign(theirs), "{theirs}");
        }
        for bad in [
            "",
            "https://cdn.example",
            "cdn.example/",
            "a@cdn.example",
            "cdn.example:x",
            "*.example",
            "é.example",
        ] {
            assert_eq!(Host::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
