//! Hands the viewer's authority on to everything a playlist links to.
//!
//! A playlist is lines ([RFC 8216bis §4.1]): a URI, a tag, a comment or nothing. URIs stand alone on a line or
//! in certain attributes of certain tags. Those that lead back to the edge get the viewer's query; every other
//! byte leaves as it came, because a player may know a tag that we do not. So nothing is parsed and printed:
//! the text is cut into pieces that add up to it, and between two of them the query goes in.
//!
//! When in doubt whose host a link leads to, it is left alone: without a query it fails to play, with one it
//! would give the viewer's authority away.
//!
//! [RFC 8216bis §4.1]: https://datatracker.ietf.org/doc/html/draft-pantos-hls-rfc8216bis#section-4.1

use std::borrow::Cow;
use std::collections::BTreeMap;

use http::Uri;
use percent_encoding::{percent_decode, percent_decode_str};

use crate::object_key::ObjectKey;

/// The longest playlist that is signed, in bytes of what goes out: it is held whole, next to its source and the
/// runtime's copies of both, and not alone, in the 128 MB that a Worker has.
pub const LONGEST: usize = 16 * 1024 * 1024;

/// The attributes that hold a URI, by tag. All are of RFC 8216bis §4.4 but `EXT-X-IMAGE-STREAM-INF`, which
/// Roku and Shaka read.
const ATTRIBUTES: [(&str, &[&str]); 12] = [
    ("#EXT-X-KEY", &["URI"]),
    ("#EXT-X-MAP", &["URI"]),
    ("#EXT-X-PART", &["URI"]),
    ("#EXT-X-MEDIA", &["URI"]),
    ("#EXT-X-SESSION-KEY", &["URI"]),
    ("#EXT-X-SESSION-DATA", &["URI"]),
    ("#EXT-X-PRELOAD-HINT", &["URI"]),
    ("#EXT-X-RENDITION-REPORT", &["URI"]),
    ("#EXT-X-I-FRAME-STREAM-INF", &["URI"]),
    ("#EXT-X-IMAGE-STREAM-INF", &["URI"]),
    ("#EXT-X-CONTENT-STEERING", &["SERVER-URI"]),
    (DATERANGE, &["X-ASSET-URI", "X-ASSET-LIST"]),
];

/// Its `X-URI` is a link only in the class that RFC 8216bis, Appendix F, gives it to.
const DATERANGE: &str = "#EXT-X-DATERANGE";
const PRELOAD: &[u8] = b"com.apple.hls.preload";

/// Tags whose whole value is a URI: low-latency extensions of hls.js's community and of Twitch.
const VALUES: [&str; 2] = ["#EXT-X-PREFETCH", "#EXT-X-TWITCH-PREFETCH"];

/// Whether an object is a playlist, by its name: the answer is needed before the object is asked for.
#[must_use]
pub fn is_playlist(key: &ObjectKey) -> bool {
    matches!(&*key.extension(), "m3u8" | "m3u")
}

/// A playlist too long to be held in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "the playlist is longer than {LONGEST} bytes when its links are signed, or its variables substituted"
)]
pub struct TooLong;

/// A playlist's place on the web, from which its links lead somewhere.
#[derive(Debug)]
pub struct Playlist<'a> {
    scheme: Scheme,
    host: Option<Host>,
    query: &'a str,
    own_hosts: &'a [Host],
}

impl<'a> Playlist<'a> {
    /// The playlist that a viewer asks for as the absolute `uri`; `own_hosts` are as good as the one in it.
    #[must_use]
    pub fn at(uri: &'a Uri, own_hosts: &'a [Host]) -> Self {
        let scheme = if uri.scheme_str() == Some("http") { Scheme::Http } else { Scheme::Https };
        let host = uri.authority().and_then(|authority| Host::of(authority.as_str().as_bytes(), scheme));
        Self { scheme, host, query: uri.query().unwrap_or_default(), own_hosts }
    }

    /// Appends `authority`, a query, to every link in `source` that leads back to the host it came from.
    ///
    /// A file that does not begin `#EXTM3U` is no playlist and stays as it is.
    pub fn sign(&self, source: Vec<u8>, authority: &str) -> Result<Vec<u8>, TooLong> {
        let after_mark = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&source);
        if authority.is_empty() || !after_mark.trim_ascii_start().starts_with(b"#EXTM3U") {
            return Ok(source);
        }
        let mark = source.len() - after_mark.len();
        let links = after_mark.split(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"#")).count();
        let room = source.len() + (links + 16) * (authority.len() + 1);
        let mut signer = Signer {
            playlist: self,
            authority: authority.as_bytes(),
            variables: BTreeMap::new(),
            substituted: 0,
            out: Vec::with_capacity(room.min(LONGEST)),
        };
        signer.copy(source.get(..mark).unwrap_or_default());
        for line in after_mark.split_inclusive(|&byte| byte == b'\n') {
            signer.line(line);
            if signer.out.len().max(signer.substituted) > LONGEST {
                return Err(TooLong);
            }
        }
        Ok(signer.out)
    }

    /// Whether `uri` leads to the host that this playlist came from. It has no fragment, and `unknown` is where
    /// in it something stands that only the player knows.
    ///
    /// Where the two standards for URLs disagree on whose host it is (backslashes, tabs, missing slashes), it
    /// is not ours.
    fn owns(&self, uri: &[u8], unknown: Option<usize>) -> bool {
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
        let mut ours = self.host.iter().chain(self.own_hosts);
        whole && host.is_some_and(|host| ours.any(|own| *own == host))
    }
}

/// The playlist on its way out.
struct Signer<'a> {
    playlist: &'a Playlist<'a>,
    authority: &'a [u8],
    /// What `EXT-X-DEFINE` defined; `None` for a value that only the player knows.
    variables: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// The bytes of all values that stood in for a variable so far: a short link may name a long one many times.
    substituted: usize,
    out: Vec<u8>,
}

impl Signer<'_> {
    fn copy(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8]) {
        let text = line.strip_suffix(b"\n").map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
        match text.trim_ascii_start() {
            [] => self.copy(text),
            _ if breaks(text.trim_ascii()) => self.copy(text),
            [b'#', ..] => self.tag(text),
            _ => self.link(text),
        }
        self.copy(line.get(text.len()..).unwrap_or_default());
    }

    /// Copies a tag, or a comment.
    fn tag(&mut self, text: &[u8]) {
        let colon = text.iter().position(|&byte| byte == b':');
        let Some((start, value)) = colon.and_then(|colon| text.split_at_checked(colon + 1)) else {
            return self.copy(text);
        };
        let name = start.trim_ascii_start().strip_suffix(b":").unwrap_or_default();
        let is = |tag: &str| name == tag.as_bytes();

        self.copy(start);
        if VALUES.into_iter().any(is) {
            self.link(value);
        } else if let Some((_, linking)) = ATTRIBUTES.iter().find(|(tag, _)| is(tag)) {
            let preload = is(DATERANGE)
                && attributes(value).any(|item| item.name == b"CLASS" && item.value == Some(PRELOAD));
            for Attribute { before, name, value, after } in attributes(value) {
                let links =
                    linking.iter().any(|link| link.as_bytes() == name) || (preload && name == b"X-URI");
                self.copy(before);
                match value {
                    Some(value) if links => self.link(value),
                    value => self.copy(value.unwrap_or_default()),
                }
                self.copy(after);
            }
        } else {
            if is("#EXT-X-DEFINE") {
                self.define(value);
            }
            self.copy(value);
        }
    }

    /// Notes what an `EXT-X-DEFINE` defines. What is defined twice has no certain value.
    fn define(&mut self, list: &[u8]) {
        let only = |name: &[u8]| {
            let mut items = attributes(list).filter(|item| item.name == name);
            items.next().filter(|_| items.next().is_none()).and_then(|item| item.value)
        };
        let (name, value) = match (only(b"NAME"), only(b"VALUE"), only(b"IMPORT"), only(b"QUERYPARAM")) {
            // Players differ on whether a variable in a value is substituted.
            (Some(name), Some(value), None, None) => {
                (name, Some(value.to_vec()).filter(|_| split_variable(value).is_none()))
            }
            (None, None, Some(name), None) => (name, None),
            (None, None, None, Some(name)) => (name, query_value(self.playlist.query, name)),
            _ => return,
        };
        self.variables.entry(name.to_vec()).and_modify(|known| *known = None).or_insert(value);
    }

    /// Copies a link, with the authority in it if it leads back to us.
    fn link(&mut self, uri: &[u8]) {
        let Some((at, joiner)) = self.joint(uri) else { return self.copy(uri) };
        let (before, after) = uri.split_at_checked(at).unwrap_or((uri, b""));
        self.copy(before);
        self.copy(joiner);
        self.copy(self.authority);
        self.copy(after);
    }

    /// Where in `uri` the authority goes, and what joins it to what is there; `None` if it does not go there.
    fn joint(&mut self, uri: &[u8]) -> Option<(usize, &'static [u8])> {
        let Target { text, unknown, open, end } = self.expand(uri)?;
        if (text.trim_ascii().is_empty() && unknown.is_none()) || !self.playlist.owns(&text, unknown) {
            return None;
        }
        let literal = uri.get(..end).unwrap_or_default();
        if *literal != *text && !self.playlist.owns(literal, None) && !host_is_variable(literal) {
            return None;
        }
        // A second `?` is data: what follows it is still the value before it.
        let joins = |before: &[u8]| {
            let query = before.iter().position(|&byte| byte == b'?');
            query.is_some_and(|mark| mark + 1 == before.len() || before.ends_with(b"&"))
        };
        if text.strip_suffix(self.authority).is_some_and(joins) {
            return None;
        }
        let joiner: &[u8] = match text.contains(&b'?') {
            false => b"?",
            true if joins(&text) && !open => b"",
            true => b"&",
        };
        Some((end, joiner))
    }

    /// The URI as a player will read it, its fragment apart. `None` if no player could read it, or if a
    /// variable hides where the fragment begins, or if all that is substituted is more than is held in memory.
    fn expand<'u>(&mut self, uri: &'u [u8]) -> Option<Target<'u>> {
        let (mut text, mut unknown, mut rest) = (Vec::new(), None, uri);
        let mut latest = None;
        while let Some(Variable { before, name, after }) = split_variable(rest) {
            if before.contains(&b'#') {
                break;
            }
            text.extend_from_slice(before);
            match self.variables.get(name)? {
                Some(value) if value.starts_with(b"#") => {
                    let end = uri.len() - rest.len() + before.len();
                    let open = latest == Some(text.len());
                    return Some(Target { text: text.into(), unknown, open, end });
                }
                Some(value) if value.contains(&b'#') => return None,
                Some(value) => {
                    self.substituted += value.len();
                    if self.substituted > LONGEST {
                        return None;
                    }
                    text.extend_from_slice(value);
                }
                None => {
                    latest = Some(text.len());
                    unknown = unknown.or(latest);
                }
            }
            rest = after;
        }
        let length = rest.iter().position(|&byte| byte == b'#').unwrap_or(rest.trim_ascii_end().len());
        let end = uri.len() - rest.len() + length;
        let rest = rest.get(..length).unwrap_or_default();
        if text.is_empty() && unknown.is_none() {
            return Some(Target { text: rest.into(), unknown, open: false, end });
        }
        text.extend_from_slice(rest);
        let open = latest == Some(text.len());
        Some(Target { text: text.into(), unknown, open, end })
    }
}

/// Whether some player ends a line within `text`, at a character that ends none by RFC 8216bis: then it reads
/// links where there are none, and what goes into ours would go into those. hls.js ends them where JavaScript's
/// `.` does, others where Python's `splitlines` does.
fn breaks(text: &[u8]) -> bool {
    const WIDE: [&[u8]; 3] = ["\u{85}".as_bytes(), "\u{2028}".as_bytes(), "\u{2029}".as_bytes()];
    text.iter().any(|byte| matches!(byte, b'\r' | 0x0b | 0x0c | 0x1c..=0x1e))
        || !text.is_ascii() && WIDE.iter().any(|end| text.windows(end.len()).any(|window| window == *end))
}

/// Whether `text` begins with a blank beyond ASCII. JavaScript trims those too, so what looks like a name in a
/// folder is a URL to its players.
fn begins_blank(text: &[u8]) -> bool {
    let first = text.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next());
    first.is_some_and(|first| first.is_whitespace() || first == '\u{feff}')
}

/// Where a link leads, as far as it can be told.
struct Target<'a> {
    /// The URI without fragment, its variables substituted; those that only the player knows are left out.
    text: Cow<'a, [u8]>,
    /// The offset in `text` of the first one left out.
    unknown: Option<usize>,
    /// Whether one is left out at the very end.
    open: bool,
    /// The offset in the link, as it is written, at which its fragment, or white space, begins.
    end: usize,
}

/// The first `{$name}` in a text.
struct Variable<'a> {
    before: &'a [u8],
    name: &'a [u8],
    after: &'a [u8],
}

fn split_variable(text: &[u8]) -> Option<Variable<'_>> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.iter().position(|&byte| byte == b'{')?;
        let (before, rest) = text.split_at_checked(start)?;
        let named = rest.strip_prefix(b"{$").and_then(|rest| {
            let length =
                rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            let (name, after) = rest.split_at_checked(length.count())?;
            Some((name, after.strip_prefix(b"}")?)).filter(|(name, _)| !name.is_empty())
        });
        if let Some((name, after)) = named {
            return Some(Variable { before, name, after });
        }
        from = start + 1;
    }
}

/// Whether the host in `uri` is nothing but a variable. To a player that does not know variables, as ffmpeg, it
/// is then nobody's host; in `https://{$ours}@theirs/` it is not.
fn host_is_variable(uri: &[u8]) -> bool {
    let slashes = uri.windows(2).position(|pair| pair == b"//");
    let authority = slashes.and_then(|at| uri.get(at + 2..)).unwrap_or_default();
    let host = authority.split(|byte| matches!(byte, b'/' | b'?' | b'\\')).next().unwrap_or_default();
    split_variable(host).is_some_and(|variable| variable.before.is_empty() && variable.after.is_empty())
}

/// The value of a query parameter, decoded; `None` if it is not there or if players differ on how it is decoded.
fn query_value(query: &str, name: &[u8]) -> Option<Vec<u8>> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.into_iter().find(|(key, _)| percent_decode_str(key).eq(name.iter().copied()))?;
    (!value.contains('+')).then(|| percent_decode_str(value).collect())
}

/// One item of an attribute list ([RFC 8216bis §4.2]): its four parts, one after the other, are its text.
///
/// [RFC 8216bis §4.2]: https://datatracker.ietf.org/doc/html/draft-pantos-hls-rfc8216bis#section-4.2
struct Attribute<'a> {
    before: &'a [u8],
    /// Is part of `before`.
    name: &'a [u8],
    /// What stands in quotes. An item without has it all in `before`: a link stands in quotes.
    value: Option<&'a [u8]>,
    /// The closing quote, and what stands between it and the next item.
    after: &'a [u8],
}

/// Cuts an attribute list at the commas outside quotes. Blanks around names and values are tolerated: real
/// lists have them.
fn attributes(mut list: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let (item, rest) = next_item(list)?;
        list = rest;
        Some(item)
    })
}

fn next_item(list: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let plain = |length: usize| {
        let (before, rest) = list.split_at_checked(length)?;
        Some((Attribute { before, name: b"", value: None, after: b"" }, rest))
    };
    let first = list.iter().position(|byte| matches!(byte, b'=' | b',' | b'"'));
    let (name, rest) = match first.and_then(|at| list.split_at_checked(at)) {
        Some((name, [b'=', rest @ ..])) => (name.trim_ascii(), rest),
        // A quoted text where a name should be is passed over together with what it hides.
        Some((_, [b'"', rest @ ..])) => match rest.iter().position(|&byte| byte == b'"') {
            Some(quote) => return plain(list.len() - rest.len() + quote + 1),
            None => return plain(list.len()),
        },
        Some((before, _)) => return plain(before.len() + 1),
        None => return if list.is_empty() { None } else { plain(list.len()) },
    };
    let [b'"', quoted @ ..] = rest.trim_ascii_start() else {
        let comma = rest.iter().position(|&byte| byte == b',').map_or(rest.len(), |comma| comma + 1);
        let (item, rest) = plain(list.len() - rest.len() + comma)?;
        return Some((Attribute { name, ..item }, rest));
    };
    let Some(closing) = quoted.iter().position(|&byte| byte == b'"') else { return plain(list.len()) };
    let (value, after) = quoted.split_at_checked(closing)?;
    let length = after.iter().position(|&byte| byte == b',').map_or(after.len(), |comma| comma + 1);
    let (after, rest) = after.split_at_checked(length)?;
    let before = list.get(..list.len() - quoted.len())?;
    Some((Attribute { before, name, value: Some(value), after }, rest))
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
#[derive(Clone, Debug, Eq, PartialEq)]
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

    fn sign(playlist: &str) -> String {
        let uri = "https://v.example/a/b/index.m3u8?q=%3Fv%3D1&host=evil.example&plus=a+b".parse().unwrap();
        String::from_utf8(Playlist::at(&uri, &[]).sign(playlist.as_bytes().to_vec(), "S=1&K=2").unwrap())
            .unwrap()
    }

    /// Signs the one link of a line.
    fn link(uri: &str) -> String {
        let signed = sign(&format!("#EXTM3U\n{uri}\n"));
        signed.strip_prefix("#EXTM3U\n").unwrap().strip_suffix('\n').unwrap().to_owned()
    }

    #[test]
    fn only_links_change() {
        let playlist = "\u{feff}#EXTM3U\r\n\
            #EXT-X-VERSION:7\r\n\
            #EXT-X-MAP:URI=\"init.mp4^\",BYTERANGE=\"720@0\"\r\n\
            # a comment, URI=\"in it\"\r\n\
            #ext-x-map:URI=\"comment too\"\r\n\
            #EXTINF:4.0,a title with URI=\"x.ts\"\r\n\
            0001.m4s^\r\n\
            \r\n\
            #EXT-X-NEW-TAG:URI=\"unknown.ts\"\r\n\
            https://ads.example/spot.m4s\n\
            \t 0002.m4s^ \t\r\n\
            #EXT-X-ENDLIST\n\
            0003.m4s^";
        let signed = playlist.replace('^', "?S=1&K=2");
        assert_eq!(sign(&playlist.replace('^', "")), signed);
        assert_eq!(sign(&signed), signed, "twice is once");
    }

    /// Every place of RFC 8216bis where a URI may stand, and what stands beside it.
    #[test]
    fn every_tag_with_a_link_is_signed() {
        for line in [
            r#"#EXT-X-KEY:METHOD=AES-128,URI="k.key@",IV=0x1"#,
            r#"#EXT-X-SESSION-KEY:METHOD=AES-128,URI="k.key@""#,
            r#"#EXT-X-KEY:METHOD=SAMPLE-AES,URI="skd://x",KEYFORMAT="com.apple.streamingkeydelivery""#,
            r#"#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI="data:text/plain;base64,AA==""#,
            r#"#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="x,URI=",URI="a/index.m3u8@""#,
            r#"#EXT-X-MEDIA:TYPE=CLOSED-CAPTIONS,GROUP-ID="c",NAME="URI=\",URI="",INSTREAM-ID="CC1""#,
            r#"#EXT-X-MEDIA:TYPE=VIDEO, NAME = "b" , URI = "v.m3u8@" ,DEFAULT=YES"#,
            r#"#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i.m3u8@""#,
            r#"#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1,URI="i.m3u8@""#,
            r#"#EXT-X-SESSION-DATA:DATA-ID="x",VALUE="a.json",LANGUAGE="en""#,
            r#"#EXT-X-SESSION-DATA:DATA-ID="x",URI="a.json@""#,
            r#"#EXT-X-CONTENT-STEERING:SERVER-URI="/steering@",URI="x",PATHWAY-ID="1""#,
            r#"#EXT-X-PART:DURATION=1,URI="p.m4s@",INDEPENDENT=YES"#,
            r#"#EXT-X-PRELOAD-HINT:TYPE=PART,URI="p.m4s@""#,
            r#"#EXT-X-RENDITION-REPORT:URI="../1/index.m3u8@",LAST-MSN=2"#,
            r#"#EXT-X-DATERANGE:ID="1",X-ASSET-URI="ad.m3u8@",X-COM-URI="x",URI="x""#,
            r#"#EXT-X-DATERANGE:ID="1",X-ASSET-LIST="ads.json@""#,
            r#"#EXT-X-DATERANGE:ID="1",X-URI="ad.m3u8""#,
            r#"#EXT-X-DATERANGE:ID="1",X-URI="ad.m3u8@",CLASS="com.apple.hls.preload""#,
            "#EXT-X-PREFETCH:next.ts@",
            "#EXT-X-TWITCH-PREFETCH:next.ts@",
            "#EXT-X-STREAM-INF:BANDWIDTH=1\nvideo.m3u8@",
            r#"#EXT-X-KEY:METHOD=NONE,FOO,URI="k@""#,
            r"#EXT-X-KEY:METHOD=AES-128,URI=unquoted",
            r#"#EXT-X-KEY:METHOD=AES-128,URI="unterminated"#,
            r#"#EXT-X-KEY:"URI=",URI="k@",URI="l@""#,
            r"#EXT-X-KEY",
            r"#EXT-X-KEY:",
            r#"  #EXT-X-MAP:URI="i@""#,
        ] {
            let playlist = format!("#EXTM3U\n{line}");
            assert_eq!(sign(&playlist.replace('@', "")), playlist.replace('@', "?S=1&K=2"));
        }
    }

    #[test]
    fn the_query_goes_where_a_query_goes() {
        for (uri, signed) in [
            ("a.ts", "a.ts?S=1&K=2"),
            ("a.ts?b", "a.ts?b&S=1&K=2"),
            ("a.ts?b=c?", "a.ts?b=c?&S=1&K=2"),
            ("a.ts??", "a.ts??&S=1&K=2"),
            ("a.ts?b=c?S=1&K=2", "a.ts?b=c?S=1&K=2&S=1&K=2"),
            ("a&S=1&K=2", "a&S=1&K=2?S=1&K=2"),
            ("a.ts?", "a.ts?S=1&K=2"),
            ("a.ts?b&", "a.ts?b&S=1&K=2"),
            ("a.ts#f", "a.ts?S=1&K=2#f"),
            ("a.ts?b#f?g", "a.ts?b&S=1&K=2#f?g"),
            ("a%3Fb.ts", "a%3Fb.ts?S=1&K=2"),
            ("a b.ts  ", "a b.ts?S=1&K=2  "),
            ("?b", "?b&S=1&K=2"),
            ("a.ts?S=1&K=2", "a.ts?S=1&K=2"),
            ("a.ts?x&S=1&K=2#f", "a.ts?x&S=1&K=2#f"),
            ("a.ts?XS=1&K=2", "a.ts?XS=1&K=2&S=1&K=2"),
        ] {
            assert_eq!(link(uri), signed);
        }
    }

    #[test]
    fn authority_stays_with_its_host() {
        for ours in [
            "a.ts",
            "/a.ts",
            "../../../a.ts",
            "2026-01-01T10:00.ts",
            "./a:b.ts",
            "a\\b.ts",
            "//v.example/a.ts",
            "https://v.example/a.ts",
            "HTTPS://V.EXAMPLE/a.ts",
            "https://v.example:443/a.ts",
            "https://v.example:/a",
            "https://v.example./a.ts",
            "https://v.e%78ample/a.ts",
            "https://user:pass@v.example/a.ts",
            "https://v.example",
            "http://v.example/a.ts",
            "http://v.example:80/a.ts",
            "é/日本.ts",
        ] {
            assert_eq!(link(ours), format!("{ours}?S=1&K=2"));
        }
        for theirs in [
            "https://evil.example/a.ts",
            "//evil.example/a.ts",
            "https://v.example@evil.example/a.ts",
            "https://v.example.evil.example/a",
            "https://evilv.example/a",
            "https://v.example:8443/a",
            "https://v.example:80/a",
            "http://v.example:443/a",
            "https://a@b@v.example/",
            "https:a.ts",
            "https:/a.ts",
            "https:///v.example/a.ts",
            "///v.example/a",
            "/\\v.example/a",
            "\\\\evil.example/a",
            "/\\evil.example",
            "https:\\\\v.example/a",
            "https://v.example\\@evil.example/a",
            "https://evil.example\\@v.example/a",
            "/\t/evil.example/a",
            "ht\ttps://evil.example/a",
            "https://v.example:0x1bb/a",
            "https://v.example:99999/",
            "https://v\u{ff0e}example/a",
            "https://",
            "//",
            "data:,x",
            "skd://v.example/a",
            "blob:https://v.example/1",
            "rtmp://v.example/a",
            "a:b.ts",
            "file:///a.ts",
            "urn:uuid:1",
            " https://evil.example/",
            "\u{1}//evil.example/",
            "https://v.example%2eevil.example/",
            "https://[::1]/a",
            "https://v.example%00/a",
        ] {
            assert_eq!(link(theirs), theirs);
        }
    }

    /// Each of these was asked of evil.example by a player: hls.js 1.7.4 trims what JavaScript trims, and ends a
    /// line where `.` does.
    #[test]
    fn a_blank_or_a_line_end_of_another_alphabet_gives_nothing_away() {
        for blank in
            ["\u{a0}", "\u{1680}", "\u{2003}", "\u{202f}", "\u{205f}", "\u{3000}", "\u{feff}", " \u{3000} "]
        {
            for theirs in ["https://evil.example/a.ts", "//evil.example/a.ts"] {
                let line = format!("{blank}{theirs}");
                assert_eq!(link(&line), line);
                let line = format!("#EXT-X-MAP:URI=\"{blank}{theirs}\"");
                assert_eq!(link(&line), line);
            }
        }
        for end in ["\r", "\u{b}", "\u{c}", "\u{1c}", "\u{1e}", "\u{85}", "\u{2028}", "\u{2029}"] {
            for line in [
                format!("a.ts{end}https://evil.example/b.ts"),
                format!("#EXT-X-MAP:URI=\"a.mp4{end}https://evil.example/b.ts\""),
                format!("#EXT-X-MAP:X=\"{end}https://evil.example/?\",URI=\"a.mp4\""),
            ] {
                assert_eq!(link(&line), line);
            }
        }
        assert_eq!(link("a\u{3000}b.ts"), "a\u{3000}b.ts?S=1&K=2");
    }

    #[test]
    fn a_port_belongs_to_the_host() {
        let uri = "http://127.0.0.1:8787/a/index.m3u8".parse().unwrap();
        let sign = |link: &str| {
            let signed =
                Playlist::at(&uri, &[]).sign(format!("#EXTM3U\n{link}").into_bytes(), "S=1").unwrap();
            signed.ends_with(b"?S=1")
        };
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
        let sign = |link: &str| {
            let signed =
                Playlist::at(&uri, &own).sign(format!("#EXTM3U\n{link}").into_bytes(), "S=1").unwrap();
            signed.ends_with(b"?S=1")
        };
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

    #[test]
    fn variables_decide_but_stay() {
        let define = "#EXTM3U\n\
            #EXT-X-DEFINE:NAME=\"dir\",VALUE=\"a/b\"\n\
            #EXT-X-DEFINE:NAME=\"evil\",VALUE=\"https://evil.example\"\n\
            #EXT-X-DEFINE:NAME=\"ours\",VALUE=\"https://v.example\"\n\
            #EXT-X-DEFINE:NAME=\"query\",VALUE=\"?x=1\"\n\
            #EXT-X-DEFINE:NAME=\"mark\",VALUE=\"#t=1\"\n\
            #EXT-X-DEFINE:NAME=\"inner\",VALUE=\"a#t=1\"\n\
            #EXT-X-DEFINE:NAME=\"nested\",VALUE=\"{$evil}\"\n\
            #EXT-X-DEFINE:NAME=\"twice\",VALUE=\"a\"\n\
            #EXT-X-DEFINE:NAME=\"twice\",VALUE=\"https://evil.example\"\n\
            #EXT-X-DEFINE:NAME=\"bare\",VALUE=https://evil.example\n\
            #EXT-X-DEFINE:NAME=\"both\",VALUE=\"a\",VALUE=\"https://evil.example\"\n\
            #EXT-X-DEFINE:NAME=\"host-of-ours\",VALUE=\"v.example\"\n\
            #EXT-X-DEFINE:NAME=\"start\",VALUE=\"v.example/\"\n\
            #EXT-X-DEFINE:IMPORT=\"imported\"\n\
            #EXT-X-DEFINE:QUERYPARAM=\"q\"\n\
            #EXT-X-DEFINE:QUERYPARAM=\"host\"\n\
            #EXT-X-DEFINE:QUERYPARAM=\"plus\"\n";
        for uri in [
            "{$dir}/1.ts@",
            "{$ours}/1.ts@",
            "{$evil}/1.ts",
            "https://{$host-of-ours}/1.ts@",
            "//{$host-of-ours}/{$dir}/1.ts@",
            "https://{$start}.evil.example/1.ts",
            "https://{$start}{$start}.evil.example/1.ts",
            "//evil.example{$start}/1.ts",
            "https://{$host}/1.ts",
            "1.ts{$query}&@",
            "1.ts{$q}&@",
            "1.ts@{$mark}",
            "1.ts{$inner}",
            "1.ts@#{$mark}",
            "{$nested}/1.ts",
            "{$twice}/1.ts",
            "{$bare}/1.ts",
            "{$both}/1.ts",
            "{$undefined}/1.ts",
            "{$imported}/1.ts",
            "/{$imported}/1.ts",
            "\\{$imported}",
            "ht{$imported}",
            "https:{$imported}//v.example/",
            "https://{$imported}/",
            "https://v.example{$imported}/",
            "/{$imported}/v.example/",
            "//v.example{$imported}",
            "segment-{$imported}.ts@",
            "/a/{$imported}@",
            "https://v.example/{$imported}@",
            "1.ts?{$imported}&@",
            "1-{$imported}.ts?{$imported}&@",
            "1-{$imported}.ts?{$imported}&@{$mark}",
            "{$plus}/1.ts",
            "1.ts?a={$dir}&@",
            "{x}/{$dir}/1.ts@",
            "{$dir/1.ts@",
            "{$}/1.ts@",
        ] {
            let signed = sign(&format!("{define}{}", uri.replace("&@", "").replace('@', "")));
            let expected = uri.replace("&@", "&S=1&K=2").replace('@', "?S=1&K=2");
            assert_eq!(signed.strip_prefix(define).unwrap(), expected);
        }
        let user = format!("{define}https://{{$start}}@evil.example/1.ts");
        assert_eq!(sign(&user), user);
    }

    #[test]
    fn what_is_no_playlist_stays_as_it_is() {
        for text in ["", "a.ts\n", "<html>\na.ts", "#EXTINF:1,\na.ts", "\0#EXTM3U\na.ts"] {
            assert_eq!(sign(text), text);
        }
        assert_eq!(sign("\n #EXTM3U\na.ts"), "\n #EXTM3U\na.ts?S=1&K=2");
    }

    #[test]
    fn bytes_need_not_be_text() {
        let uri = "https://v.example/index.m3u8".parse().unwrap();
        let sign = |bytes: &[u8]| Playlist::at(&uri, &[]).sign(bytes.to_vec(), "S").unwrap();
        assert_eq!(sign(b"#EXTM3U\n\xff\0.ts\r\r\n#\xfe\n"), b"#EXTM3U\n\xff\0.ts?S\r\r\n#\xfe\n");
        assert_eq!(sign(b"#EXTM3U\na\rb.ts"), b"#EXTM3U\na\rb.ts");
    }

    #[test]
    fn a_playlist_has_a_longest() {
        let uri = "https://v.example/index.m3u8".parse().unwrap();
        let source = format!("#EXTM3U\n{}", "a\n".repeat(40_000)).into_bytes();
        assert_eq!(Playlist::at(&uri, &[]).sign(source, &"S".repeat(1000)), Err(TooLong));
        for uses in ["{$v}".repeat(40_000), "{$v}\n".repeat(40_000)] {
            let define = format!("#EXT-X-DEFINE:NAME=\"v\",VALUE=\"{}\"", "a".repeat(1000));
            let source = format!("#EXTM3U\n{define}\n{uses}").into_bytes();
            assert_eq!(Playlist::at(&uri, &[]).sign(source, "S"), Err(TooLong));
        }
    }
}
