//! Where the links of a playlist are.
//!
//! A playlist is lines ([RFC 8216bis §4.1]): a URI, a tag, a comment or nothing. URIs stand alone on a line or
//! in certain attributes of certain tags. A player may know a tag that we do not, so nothing is parsed and printed:
//! a line is searched for the places where the viewer's authority goes in, and every byte of it leaves as it came.
//!
//! [RFC 8216bis §4.1]: https://datatracker.ietf.org/doc/html/draft-pantos-hls-rfc8216bis#section-4.1

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::link::{Joint, LONGEST_URL, Place, Target};

use crate::{LONGEST_LINE, TooLong};

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

/// The most that is remembered of variables, and that stands in for them in all links together, in bytes. A short link
/// may name a long variable many times.
const MOST_DEFINED: usize = 256 * 1024;
const MOST_SUBSTITUTED: usize = 64 * 1024 * 1024;

/// What is known of a playlist from the lines before.
#[derive(Debug, Default)]
pub(crate) struct Playlist {
    /// What `EXT-X-DEFINE` defined.
    variables: BTreeMap<Vec<u8>, Definition>,
    defined: usize,
    substituted: usize,
}

/// What a variable stands for.
#[derive(Debug)]
struct Definition {
    /// Nothing for a value that only the player knows.
    value: Option<Vec<u8>>,
    /// Whether it stands in the playlist. Some players know no others, and take their names for text.
    stands_here: bool,
}

impl Playlist {
    /// Finds the joints of a line, which has its line end, if there is one.
    pub(crate) fn line(
        &mut self,
        line: &[u8],
        place: &Place,
        joints: &mut Vec<Joint>,
    ) -> Result<(), TooLong> {
        // Most tags have no link, and most of those are these.
        if line.starts_with(b"#EXTINF") {
            return Ok(());
        }
        let text = line.strip_suffix(b"\n").map_or(line, |text| text.strip_suffix(b"\r").unwrap_or(text));
        match text.trim_ascii_start() {
            [] => Ok(()),
            [b'#', tag @ ..] if !tag.starts_with(b"EXT") => Ok(()),
            [b'#', ..] => self.tag(text, place, joints),
            _ if breaks(text.trim_ascii()) => Ok(()),
            _ => {
                joints.extend(self.joint(text, place)?);
                Ok(())
            }
        }
    }

    /// Finds the joints of a tag.
    fn tag(&mut self, text: &[u8], place: &Place, joints: &mut Vec<Joint>) -> Result<(), TooLong> {
        let colon = text.iter().position(|&byte| byte == b':');
        let Some((start, value)) = colon.and_then(|colon| text.split_at_checked(colon + 1)) else {
            return Ok(());
        };
        let name = start.trim_ascii_start().strip_suffix(b":").unwrap_or_default();
        let is = |tag: &str| name == tag.as_bytes();

        let defines = is("#EXT-X-DEFINE");
        let is_link = VALUES.into_iter().any(is);
        let linking = ATTRIBUTES.iter().find(|(tag, _)| is(tag)).map(|(_, linking)| linking);
        if !(defines || is_link || linking.is_some()) || breaks(text.trim_ascii()) {
            return Ok(());
        }
        if defines {
            return self.define(value, place);
        }
        if is_link {
            let joint = self.joint(value, place)?;
            joints.extend(joint.map(|joint| Joint { at: start.len() + joint.at, ..joint }));
        } else if let Some(linking) = linking {
            let preload = is(DATERANGE)
                && attributes(value).any(|item| item.name == b"CLASS" && item.value == Some(PRELOAD));
            for Attribute { at, name, value } in attributes(value) {
                let links =
                    linking.iter().any(|link| link.as_bytes() == name) || (preload && name == b"X-URI");
                if let Some(value) = value.filter(|_| links) {
                    let joint = self.joint(value, place)?;
                    joints.extend(joint.map(|joint| Joint { at: start.len() + at + joint.at, ..joint }));
                }
            }
        }
        Ok(())
    }

    /// Notes what an `EXT-X-DEFINE` defines. What is defined twice has no certain value.
    fn define(&mut self, list: &[u8], place: &Place) -> Result<(), TooLong> {
        let only = |name: &[u8]| {
            let mut items = attributes(list).filter(|item| item.name == name);
            items.next().filter(|_| items.next().is_none()).and_then(|item| item.value)
        };
        let stands_here = only(b"NAME").is_some();
        let (name, value) = match (only(b"NAME"), only(b"VALUE"), only(b"IMPORT"), only(b"QUERYPARAM")) {
            // Players differ on whether a variable in a value is substituted.
            (Some(name), Some(value), None, None) => {
                (name, Some(value.to_vec()).filter(|_| split_variable(value).is_none()))
            }
            (None, None, Some(name), None) => (name, None),
            (None, None, None, Some(name)) => (name, query_value(&place.query, name)),
            _ => return Ok(()),
        };
        self.defined += name.len() + value.as_ref().map_or(0, Vec::len);
        if self.defined > MOST_DEFINED {
            return Err(TooLong::Variables);
        }
        let definition = Definition { value, stands_here };
        self.variables.entry(name.to_vec()).and_modify(|known| known.value = None).or_insert(definition);
        Ok(())
    }

    /// Where the authority goes in a link that may have variables.
    fn joint(&mut self, uri: &[u8], place: &Place) -> Result<Option<Joint>, TooLong> {
        if !uri.contains(&b'{') {
            return Ok(place.joint(uri));
        }
        let Some((target, in_part)) = self.expand(uri)? else { return Ok(None) };
        // To players that know no variables, or not all of them, it may not lead elsewhere either.
        let literal = uri.get(..target.end).unwrap_or_default();
        let certain = [literal, &in_part].iter().all(|reading| {
            **reading == *target.text || place.owns(reading, None) || host_is_variable(reading)
        });
        Ok(place.joint_of(&target).filter(|_| certain))
    }

    /// The URI as a player will read it, its fragment apart, and as one will that knows only the variables that stand in
    /// the playlist. `None` if no player could read it, if a variable hides where the fragment begins, or if nobody
    /// would serve it.
    fn expand<'u>(&mut self, uri: &'u [u8]) -> Result<Option<(Target<'u>, Vec<u8>)>, TooLong> {
        let (mut text, mut in_part, mut unknown, mut rest) = (Vec::new(), Vec::new(), None, uri);
        let mut latest = None;
        while let Some(Variable { before, name, after }) = split_variable(rest) {
            if before.contains(&b'#') {
                break;
            }
            text.extend_from_slice(before);
            in_part.extend_from_slice(before);
            let Some(Definition { value, stands_here }) = self.variables.get(name) else { return Ok(None) };
            let written = rest.get(before.len()..rest.len() - after.len()).unwrap_or_default();
            in_part.extend_from_slice(value.as_deref().filter(|_| *stands_here).unwrap_or(written));
            match value {
                Some(value) if value.starts_with(b"#") => {
                    let end = uri.len() - rest.len() + before.len();
                    let open = latest == Some(text.len());
                    in_part.truncate(in_part.iter().position(|&byte| byte == b'#').unwrap_or(in_part.len()));
                    return Ok(Some((Target { text: text.into(), unknown, open, end }, in_part)));
                }
                Some(value) if value.contains(&b'#') => return Ok(None),
                Some(value) => {
                    text.extend_from_slice(value);
                    self.substituted += value.len();
                    if self.substituted > MOST_SUBSTITUTED {
                        return Err(TooLong::Variables);
                    }
                    // No longer URL is served here.
                    if text.len() > LONGEST_URL {
                        return Ok(None);
                    }
                }
                None => {
                    latest = Some(text.len());
                    unknown = unknown.or(latest);
                }
            }
            rest = after;
        }
        let tail = Target::literal(rest);
        let end = uri.len() - rest.len() + tail.end;
        in_part.extend_from_slice(&tail.text);
        if text.is_empty() && unknown.is_none() {
            return Ok(Some((Target { end, ..tail }, in_part)));
        }
        text.extend_from_slice(&tail.text);
        let open = latest == Some(text.len());
        Ok(Some((Target { text: text.into(), unknown, open, end }, in_part)))
    }
}

/// What a line of one of the two commonest kinds comes to. As there is hardly any other in a long playlist, it is found in
/// one pass, eight bytes at a time. Where that stops is decided by branches, which processors guess, and not computed:
/// the next line would have to wait for it.
pub(crate) struct PlainLine {
    /// The length of the link that it is, to which the authority goes behind a `?`.
    pub(crate) link: Option<usize>,
    /// The length of the line, with its end.
    pub(crate) length: usize,
}

/// The line that a text begins with, if it is an `EXTINF`, or a link to something in or below the playlist's own folder,
/// without a query, a fragment, or anything else that has to be thought about.
pub(crate) fn plain_line(text: &[u8]) -> Option<PlainLine> {
    if let Some(rest) = text.strip_prefix(b"#EXTINF:") {
        let length = text.len() - rest.len() + line_end(rest)? + 1;
        return (length <= LONGEST_LINE).then_some(PlainLine { link: None, length });
    }
    let link = plain_length(text);
    let length = match text.get(link..)? {
        [b'\n', ..] => link + 1,
        [b'\r', b'\n', ..] => link + 2,
        _ => return None,
    };
    // With a slash it may lead to another host, and without a letter there is no link.
    let plain = link > 0 && text.first() != Some(&b'/') && length <= LONGEST_LINE;
    plain.then_some(PlainLine { link: Some(link), length })
}

/// How many bytes, from the first on, a link can have that says nothing but a name.
#[expect(clippy::indexing_slicing, reason = "the table is made by the compiler")]
fn plain_length(text: &[u8]) -> usize {
    const PLAIN: [bool; 256] = {
        let mut plain = [false; 256];
        let mut rest: &[u8] = b"-._~!$&'()*+,;=@%/0123456789\
            ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        while let [byte, others @ ..] = rest {
            plain[*byte as usize] = true;
            rest = others;
        }
        plain
    };
    let whole = text.as_chunks().0.iter().take_while(|word| are_common(u64::from_le_bytes(**word)));
    let length = 8 * whole.count();
    let rest = text.get(length..).unwrap_or_default();
    length + rest.iter().take_while(|&&byte| PLAIN.get(usize::from(byte)) == Some(&true)).count()
}

/// Where the first line of a text ends, which is not far.
fn line_end(text: &[u8]) -> Option<usize> {
    let no_end = |word: &[u8; 8]| {
        let others = u64::from_le_bytes(*word) ^ each(b'\n');
        // Each byte's highest bit: that it is zero, or above one that is.
        others.wrapping_sub(each(1)) & !others & each(0x80) == 0
    };
    let whole = text.as_chunks().0.iter().take_while(|word| no_end(word));
    let length = 8 * whole.count();
    let rest = text.get(length..)?.iter().position(|&byte| byte == b'\n')?;
    Some(length + rest)
}

/// A byte in each of the eight of a word.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Whether all bytes of a word are letters, digits, `-`, `.`, `/` or `_`, as those of most names are.
fn are_common(word: u64) -> bool {
    // The highest bit of each byte says of it, where it is none of the word's, whether it is `first` or more.
    let at_least = |word: u64, first: u8| word + each(0x80 - first);
    let ascii = word & each(0x7f);
    let lower = ascii | each(0x20);
    let letters = at_least(lower, b'a') & !at_least(lower, b'z' + 1);
    let digits = at_least(ascii, b'-') & !at_least(ascii, b'9' + 1);
    let underscores = !at_least(ascii ^ each(b'_'), 1);
    let common = (letters | digits | underscores) & !word & each(0x80);
    common == each(0x80)
}

/// Whether some player ends a line within `text`, at a character that ends none by RFC 8216bis: then it reads
/// links where there are none, and what goes into ours would go into those. hls.js ends them where JavaScript's
/// `.` does, others where Python's `splitlines` does.
fn breaks(text: &[u8]) -> bool {
    const WIDE: [&[u8]; 3] = ["\u{85}".as_bytes(), "\u{2028}".as_bytes(), "\u{2029}".as_bytes()];
    text.iter().any(|byte| matches!(byte, b'\r' | 0x0b | 0x0c | 0x1c..=0x1e))
        || !text.is_ascii() && WIDE.iter().any(|end| text.windows(end.len()).any(|window| window == *end))
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

/// One item of an attribute list ([RFC 8216bis §4.2]).
///
/// [RFC 8216bis §4.2]: https://datatracker.ietf.org/doc/html/draft-pantos-hls-rfc8216bis#section-4.2
struct Attribute<'a> {
    /// Empty where the list is not well formed.
    name: &'a [u8],
    /// What stands in quotes, as links do; nothing where there are none.
    value: Option<&'a [u8]>,
    /// The value's offset in the list.
    at: usize,
}

/// Cuts an attribute list at the commas outside quotes. Blanks around names and values are tolerated: real
/// lists have them.
fn attributes(list: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let offset = list.len() - rest.len();
        let (item, after) = next_item(rest)?;
        rest = after;
        Some(Attribute { at: offset + item.at, ..item })
    })
}

fn next_item(list: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let unquoted = |name, length: usize| Some((Attribute { name, value: None, at: 0 }, list.get(length..)?));
    let first = list.iter().position(|byte| matches!(byte, b'=' | b',' | b'"'));
    let (name, rest) = match first.and_then(|at| list.split_at_checked(at)) {
        Some((name, [b'=', rest @ ..])) => (name.trim_ascii(), rest),
        // With a quote where a name should be, players disagree on which of all that follow begin a value.
        Some((_, [b'"', ..])) => return unquoted(b"", list.len()),
        Some((before, _)) => return unquoted(b"", before.len() + 1),
        None => return if list.is_empty() { None } else { unquoted(b"", list.len()) },
    };
    let [b'"', quoted @ ..] = rest.trim_ascii_start() else {
        return unquoted(name, list.len() - rest.len() + past_comma(rest));
    };
    let Some(closing) = quoted.iter().position(|&byte| byte == b'"') else {
        return unquoted(b"", list.len());
    };
    let (value, after) = quoted.split_at_checked(closing)?;
    let after = after.strip_prefix(b"\"")?;
    // With a blank before the quotes or something after them, hls.js, Shaka and Video.js end the value at a comma within it,
    // and ffmpeg at a blank.
    let is_tight = rest.starts_with(b"\"");
    let is_whole = (is_tight && (after.is_empty() || after.starts_with(b",")))
        || !value.iter().any(|byte| *byte == b',' || byte.is_ascii_whitespace());
    let item = Attribute { name, value: Some(value).filter(|_| is_whole), at: list.len() - quoted.len() };
    // And what follows them hls.js takes for the value's own up to the next quote before a comma, as ffmpeg does what follows
    // a backslash and a quote. So another's link would end in what goes into ours.
    let goes_on = if is_tight { after } else { after.trim_ascii_start() };
    let rest = goes_on.strip_prefix(b",").filter(|_| is_whole && !value.ends_with(b"\\"));
    Some((item, rest.unwrap_or_default()))
}

fn past_comma(list: &[u8]) -> usize {
    list.iter().position(|&byte| byte == b',').map_or(list.len(), |comma| comma + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoding, Kind, Rewriter};

    fn sign_with(uri: &str, authority: &str, playlist: &[u8]) -> Result<Vec<u8>, TooLong> {
        let place = Place::at(&uri.parse().unwrap(), &[].into(), authority);
        let mut rewriter = Rewriter::new(Kind::Playlist, place, Encoding::Identity);
        assert_eq!(rewriter.push(playlist, usize::MAX)?, playlist.len());
        rewriter.finish()?;
        Ok(rewriter.take())
    }

    fn sign(playlist: &str) -> String {
        let uri = "https://v.example/a/b/index.m3u8?q=%3Fv%3D1&host=evil.example&plus=a+b&us=v.example%2F";
        String::from_utf8(sign_with(uri, "S=1&K=2", playlist.as_bytes()).unwrap()).unwrap()
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
            r#"#EXT-X-KEY:"URI=",URI="k",URI="l""#,
            r#"#EXT-X-KEY:METHOD=AES-128,URI="k@",URI="l@""#,
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
            #EXT-X-DEFINE:QUERYPARAM=\"plus\"\n\
            #EXT-X-DEFINE:NAME=\"slashes\",VALUE=\"//\"\n\
            #EXT-X-DEFINE:QUERYPARAM=\"us\"\n";
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
            // To Video.js, which knows no QUERYPARAM, the third is somebody's else.
            "//{$us}/1.ts@",
            "{$slashes}{$us}/1.ts@",
            "{$slashes}{$us}.evil.example/1.ts",
            "{$slashes}{$us}evil.example/1.ts",
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
        let sign = |bytes: &[u8]| sign_with("https://v.example/index.m3u8", "S", bytes).unwrap();
        assert_eq!(sign(b"#EXTM3U\n\xff\0.ts\r\r\n#\xfe\n"), b"#EXTM3U\n\xff\0.ts?S\r\r\n#\xfe\n");
        assert_eq!(sign(b"#EXTM3U\na\rb.ts"), b"#EXTM3U\na\rb.ts");
    }

    #[test]
    fn a_plain_line_is_told_by_each_of_its_bytes() {
        for byte in 0..=255 {
            for at in 0..20 {
                let mut name = *b"segment_00001-a.m4s/";
                name[at] = byte;
                let text = [&name[..], b"\n#EXTINF:4,\n"].concat();
                let plain = (byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=@%/".contains(&byte))
                    && !(at == 0 && byte == b'/');
                let link = plain_line(&text).and_then(|line| line.link);
                let expected = match (at, byte) {
                    (1.., b'\n') | (19, b'\r') => Some(at),
                    _ => plain.then_some(name.len()),
                };
                assert_eq!(link, expected, "{}", text.escape_ascii());
                let title = [b"#EXTINF:", &text[..]].concat();
                let end = title.iter().position(|&byte| byte == b'\n').unwrap();
                assert_eq!(plain_line(&title).map(|line| line.length), Some(end + 1));
            }
        }
    }

    #[test]
    fn a_line_has_a_longest() {
        let playlist = |length: usize| format!("#EXTM3U\n{}\na.ts\n", "a".repeat(length));
        let sign = |playlist: &str| sign_with("https://v.example/index.m3u8", "S", playlist.as_bytes());
        assert!(sign(&playlist(64_000)).unwrap().ends_with(b"a?S\na.ts?S\n"));
        assert_eq!(sign(&playlist(66_000)), Err(TooLong::Line));
        assert_eq!(sign(&format!("#EXTM3U\n{}", "a".repeat(66_000))), Err(TooLong::Line));
        let other = "a".repeat(200_000);
        assert_eq!(sign(&other).unwrap(), other.as_bytes());
    }

    #[test]
    fn variables_have_their_limits() {
        let sign = |playlist: String| sign_with("https://v.example/index.m3u8", "S", playlist.as_bytes());
        let define = |name: usize, length: usize| {
            format!("#EXT-X-DEFINE:NAME=\"{name}\",VALUE=\"{}\"\n", "a".repeat(length))
        };
        // Nobody serves a URL this long.
        let long = format!("#EXTM3U\n{}{}\n", define(1, 1000), "{$1}".repeat(9));
        assert_eq!(sign(long.clone()).unwrap(), long.as_bytes());
        let many = (0..20).map(|name| define(name, 20_000)).collect::<String>();
        assert_eq!(sign(format!("#EXTM3U\n{many}")), Err(TooLong::Variables));
        let uses = "{$1}\n".repeat(20_000);
        assert_eq!(sign(format!("#EXTM3U\n{}{uses}", define(1, 8_000))), Err(TooLong::Variables));
    }
}
