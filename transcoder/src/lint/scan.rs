//! Reads playlists line by line ([RFC 8216 §4]), so that whatever is wrong can be said with the number of its line.
//!
//! What does not begin as a playlist is none: it may be any file that somebody's link leads to, and nothing of it is told
//! or followed. Of all others nothing is refused: what cannot be read is a finding, and what is left is looked at as well as it can be.
//!
//! [RFC 8216 §4]: https://www.rfc-editor.org/rfc/rfc8216#section-4

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{self, Rule};

/// The most tags of one kind of a playlist that are looked at. Real ones have a few dozen.
const MOST_TAGS: usize = 2_000;

/// The longest text that variables may stand for in one line, in bytes.
const LONGEST_VALUE: usize = 64 * 1024;

/// A playlist, with what is wrong about it by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Playlist {
    pub(crate) body: Body,
    pub(crate) independent: bool,
    /// What `EXT-X-DEFINE` defined, for the media playlists that import it.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) faults: Vec<Fault>,
    /// There is more than is looked at.
    pub(crate) is_cut: bool,
    /// It is something else, and nothing of it is told or followed.
    pub(crate) is_foreign: bool,
}

/// Something wrong in a line.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) rule: Rule,
    pub(crate) line: usize,
    pub(crate) what: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    Multivariant(Multivariant),
    Media(Media),
}

impl Default for Body {
    fn default() -> Self {
        Self::Media(Media::default())
    }
}

/// Tags of a multivariant playlist, in the order of their lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Multivariant {
    pub(crate) media: Vec<Tag>,
    /// With the URI that follows as `URI`.
    pub(crate) variants: Vec<Tag>,
    pub(crate) i_frames: Vec<Tag>,
    /// `EXT-X-IMAGE-STREAM-INF`, which is Roku's and not in the RFC.
    pub(crate) images: Vec<Tag>,
    pub(crate) steering: Option<Tag>,
    /// `EXT-X-SESSION-KEY`.
    pub(crate) keys: Vec<Tag>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Media {
    pub(crate) target: Option<u64>,
    pub(crate) target_line: usize,
    pub(crate) kind: Option<String>,
    pub(crate) has_end: bool,
    pub(crate) i_frames_only: bool,
    pub(crate) images_only: bool,
    pub(crate) segments: Vec<Segment>,
    pub(crate) maps: Vec<Map>,
    pub(crate) keys: Vec<Key>,
}

impl Media {
    /// How long it lasts, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.segments.iter().map(|segment| segment.seconds).sum()
    }

    /// Whether it is all there is, and not an event that goes on.
    pub(crate) fn is_complete(&self) -> bool {
        self.has_end || self.kind.as_deref() == Some("VOD")
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) line: usize,
    pub(crate) uri: String,
    pub(crate) seconds: f64,
    /// First byte and length.
    pub(crate) range: Option<(u64, u64)>,
    /// Which of the playlist's maps and keys it goes with.
    pub(crate) map: Option<usize>,
    pub(crate) key: Option<usize>,
    pub(crate) sequence: u64,
    pub(crate) discontinuity: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub(crate) line: usize,
    pub(crate) uri: String,
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) key: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) method: String,
    /// Whether its URI is where the key is, and not something for another system.
    pub(crate) is_plain: bool,
    pub(crate) uri: Option<String>,
    pub(crate) iv: Option<u128>,
}

/// A tag with attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tag {
    pub(crate) line: usize,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// The value of an attribute, without its quotes; the first, where there are several.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name).and_then(|value| value.parse().ok())
    }

    pub(crate) fn decimal(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(decimal)
    }

    pub(crate) fn resolution(&self) -> Option<(u32, u32)> {
        let (width, height) = self.get("RESOLUTION")?.split_once('x')?;
        let size = (width.parse().ok()?, height.parse().ok()?);
        (size.0 > 0 && size.1 > 0).then_some(size)
    }

    pub(crate) fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }

    pub(crate) fn codecs(&self) -> Vec<&str> {
        let codecs = self.get("CODECS").unwrap_or_default();
        codecs.split(',').map(str::trim).filter(|codec| !codec.is_empty()).collect()
    }
}

/// Attributes whose values are quoted strings, and those whose are not (RFC 8216 §4.3, RFC 8216bis §4.4).
const QUOTED: [&str; 22] = [
    "URI",
    "IV-SET",
    "KEYFORMAT",
    "KEYFORMATVERSIONS",
    "GROUP-ID",
    "LANGUAGE",
    "ASSOC-LANGUAGE",
    "NAME",
    "INSTREAM-ID",
    "CHARACTERISTICS",
    "CHANNELS",
    "CODECS",
    "SUPPLEMENTAL-CODECS",
    "AUDIO",
    "VIDEO",
    "SUBTITLES",
    "DATA-ID",
    "STABLE-VARIANT-ID",
    "STABLE-RENDITION-ID",
    "PATHWAY-ID",
    "SERVER-URI",
    "BYTERANGE",
];
const UNQUOTED: [&str; 14] = [
    "METHOD",
    "IV",
    "TYPE",
    "DEFAULT",
    "AUTOSELECT",
    "FORCED",
    "BANDWIDTH",
    "AVERAGE-BANDWIDTH",
    "RESOLUTION",
    "FRAME-RATE",
    "HDCP-LEVEL",
    "VIDEO-RANGE",
    "SCORE",
    "PROGRAM-ID",
];

/// Reads a playlist. `imported` are the variables of the multivariant playlist that links to it, `query` is that of its
/// own URL, and no more than `most` segments are taken.
pub(crate) fn scan(bytes: &[u8], imported: &BTreeMap<String, String>, query: &str, most: usize) -> Playlist {
    let mut scan = Scan { most, ..Scan::new(imported, query) };
    if !bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes).starts_with(b"#EXTM3U") {
        scan.fault(rules::EXTM3U, 1, "it begins otherwise");
        scan.playlist.is_foreign = true;
        return scan.playlist;
    }
    let text = String::from_utf8_lossy(bytes);
    if matches!(text, std::borrow::Cow::Owned(_)) {
        scan.fault(rules::TEXT, 1, "it is not UTF-8");
    }
    let text = text.strip_prefix('\u{feff}').map_or(text.as_ref(), |text| {
        scan.fault(rules::TEXT, 1, "it begins with a byte order mark");
        text
    });
    let is_multivariant = text.lines().any(|line| line.starts_with("#EXT-X-STREAM-INF"));
    for (number, line) in (1..).zip(text.lines()) {
        if line.chars().any(|letter| letter.is_control() && letter != '\t') {
            scan.fault(rules::TEXT, number, "a control character is in the line");
        }
        scan.line(number, line.trim_end_matches('\r'), is_multivariant);
    }
    scan.finish(text.lines().count().max(1), is_multivariant)
}

struct Scan<'a> {
    imported: &'a BTreeMap<String, String>,
    query: &'a str,
    most: usize,
    playlist: Playlist,
    multivariant: Multivariant,
    media: Media,
    version: Option<u64>,
    /// The highest that is needed, where, and for what.
    needed: (u64, usize, &'static str),
    /// An `EXT-X-STREAM-INF` that waits for its URI.
    variant: Option<Tag>,
    /// What waits for the URI of a segment.
    extinf: Option<f64>,
    range: Option<(u64, Option<u64>)>,
    discontinuity: bool,
    /// What holds from now on.
    map: Option<usize>,
    key: Option<usize>,
    sequence: u64,
    /// The file and end of the latest byte range.
    latest: Option<(String, u64)>,
    seen: BTreeSet<&'static str>,
}

impl<'a> Scan<'a> {
    fn new(imported: &'a BTreeMap<String, String>, query: &'a str) -> Self {
        Self {
            imported,
            query,
            most: 0,
            playlist: Playlist::default(),
            multivariant: Multivariant::default(),
            media: Media::default(),
            version: None,
            needed: (1, 1, ""),
            variant: None,
            extinf: None,
            range: None,
            discontinuity: false,
            map: None,
            key: None,
            sequence: 0,
            latest: None,
            seen: BTreeSet::new(),
        }
    }

    fn fault(&mut self, rule: Rule, line: usize, what: impl Into<String>) {
        // A playlist that is all wrong is not said to be so a million times.
        if self.playlist.faults.len() < 1_000 {
            self.playlist.faults.push(Fault { rule, line, what: what.into() });
        }
    }

    fn needs(&mut self, version: u64, line: usize, what: &'static str) {
        if version > self.needed.0 {
            self.needed = (version, line, what);
        }
    }

    fn line(&mut self, number: usize, line: &str, is_multivariant: bool) {
        if number == 1 && line.trim_end() != "#EXTM3U" {
            self.fault(rules::EXTM3U, 1, "the first line is another");
        }
        if line.trim().is_empty() || (line.starts_with('#') && !line.starts_with("#EXT")) {
            return;
        }
        if !line.starts_with('#') {
            return self.uri(number, line.trim(), is_multivariant);
        }
        if let Some(variant) = self.variant.take() {
            self.fault(rules::STREAM_INF, variant.line, "no URI follows it");
        }
        let (name, value) = line.split_once(':').unwrap_or((line.trim_end(), ""));
        self.tag(number, name, value, is_multivariant);
    }

    fn tag(&mut self, number: usize, name: &str, value: &str, is_multivariant: bool) {
        const OF_MEDIA: [&str; 9] = [
            "#EXTINF",
            "#EXT-X-TARGETDURATION",
            "#EXT-X-MEDIA-SEQUENCE",
            "#EXT-X-ENDLIST",
            "#EXT-X-PLAYLIST-TYPE",
            "#EXT-X-I-FRAMES-ONLY",
            "#EXT-X-BYTERANGE",
            "#EXT-X-MAP",
            "#EXT-X-KEY",
        ];
        if is_multivariant && OF_MEDIA.contains(&name) {
            return self.fault(rules::PLAYLIST_KIND, number, format!("{name} is a tag of media playlists"));
        }
        match name {
            "#EXT-X-VERSION" => {
                let version = value.trim().parse().ok();
                if version.is_none() {
                    self.fault(rules::VERSION, number, "the version is no number");
                } else if self.version.is_some() {
                    self.fault(rules::VERSION, number, "the version is there twice");
                }
                self.version = version.or(self.version);
            }
            "#EXT-X-INDEPENDENT-SEGMENTS" => self.playlist.independent = true,
            "#EXT-X-DEFINE" => self.define(number, value),
            "#EXT-X-MEDIA" => {
                let tag = self.attributes(number, value);
                if tag.get("INSTREAM-ID").is_some_and(|id| id.starts_with("SERVICE")) {
                    self.needs(7, number, "INSTREAM-ID=\"SERVICE…\"");
                }
                self.keep(tag, |of| &mut of.media);
            }
            "#EXT-X-STREAM-INF" => self.variant = Some(self.attributes(number, value)),
            "#EXT-X-I-FRAME-STREAM-INF" => {
                let tag = self.attributes(number, value);
                self.keep(tag, |of| &mut of.i_frames);
            }
            "#EXT-X-IMAGE-STREAM-INF" => {
                let tag = self.attributes(number, value);
                self.keep(tag, |of| &mut of.images);
            }
            "#EXT-X-IMAGES-ONLY" => self.media.images_only = true,
            "#EXT-X-CONTENT-STEERING" => self.multivariant.steering = Some(self.attributes(number, value)),
            "#EXT-X-SESSION-KEY" => {
                let tag = self.attributes(number, value);
                self.keep(tag, |of| &mut of.keys);
            }
            "#EXT-X-TARGETDURATION" => {
                let target = value.trim().parse().ok();
                if target.is_none() {
                    self.fault(rules::TARGET, number, "it is no whole number of seconds");
                } else if self.media.target.is_some() {
                    self.fault(rules::TARGET, number, "it is there twice");
                }
                self.media.target = self.media.target.or(target);
                self.media.target_line = number;
                self.seen.insert("target");
            }
            "#EXT-X-MEDIA-SEQUENCE" => self.sequence = value.trim().parse().unwrap_or_default(),
            "#EXT-X-PLAYLIST-TYPE" => self.media.kind = Some(value.trim().to_owned()),
            "#EXT-X-ENDLIST" => self.media.has_end = true,
            "#EXT-X-I-FRAMES-ONLY" => {
                self.media.i_frames_only = true;
                self.needs(4, number, "EXT-X-I-FRAMES-ONLY");
            }
            "#EXT-X-DISCONTINUITY" => self.discontinuity = true,
            "#EXTINF" => self.duration(number, value),
            "#EXT-X-BYTERANGE" => {
                self.range = byte_range(value.trim());
                if self.range.is_none() {
                    self.fault(rules::BYTERANGE, number, "it is no <length>@<offset>");
                }
                self.needs(4, number, "EXT-X-BYTERANGE");
            }
            "#EXT-X-MAP" => self.initialisation(number, value),
            "#EXT-X-KEY" => self.key(number, value),
            _ => {}
        }
    }

    fn keep(&mut self, tag: Tag, list: fn(&mut Multivariant) -> &mut Vec<Tag>) {
        let list = list(&mut self.multivariant);
        if list.len() < MOST_TAGS {
            list.push(tag);
        } else {
            self.playlist.is_cut = true;
        }
    }

    fn duration(&mut self, number: usize, value: &str) {
        let text = value.split(',').next().unwrap_or_default().trim();
        if self.extinf.is_some() {
            self.fault(rules::EXTINF, number, "the one before it has no URI");
        }
        let seconds = decimal(text);
        if seconds.is_none() {
            self.fault(rules::EXTINF, number, "its duration is no number of seconds");
        } else if !value.contains(',') {
            self.fault(rules::EXTINF, number, "there is no comma after its duration");
        }
        if text.contains('.') {
            self.needs(3, number, "a duration with decimals");
        }
        self.extinf = Some(seconds.unwrap_or_default());
    }

    fn initialisation(&mut self, number: usize, value: &str) {
        let tag = self.attributes(number, value);
        let Some(uri) = tag.get("URI") else {
            return self.fault(rules::MAP_TAG, number, "it has no URI");
        };
        let range = tag.get("BYTERANGE").map(byte_range);
        if range == Some(None) {
            self.fault(rules::BYTERANGE, number, "it is no <length>@<offset>");
        }
        let range = range.flatten().map(|(length, offset)| (offset.unwrap_or_default(), length));
        // Version 6 is for MAP in a playlist that is not I-FRAMES-ONLY; known for sure at the end.
        self.needs(5, number, "EXT-X-MAP");
        if self.media.maps.len() >= MOST_TAGS {
            self.playlist.is_cut = true;
            return;
        }
        self.map = Some(self.media.maps.len());
        self.media.maps.push(Map { line: number, uri: uri.to_owned(), range, key: self.key });
    }

    fn key(&mut self, number: usize, value: &str) {
        let tag = self.attributes(number, value);
        if tag.get("KEYFORMAT").or(tag.get("KEYFORMATVERSIONS")).is_some() {
            self.needs(5, number, "KEYFORMAT");
        }
        let method = tag.get("METHOD").unwrap_or_default().to_owned();
        let iv = tag.get("IV").map(|iv| {
            let digits = iv.strip_prefix("0x").or(iv.strip_prefix("0X"))?;
            u128::from_str_radix(digits, 16).ok()
        });
        match (method.as_str(), tag.get("URI")) {
            ("NONE", _) => {
                self.key = None;
                return;
            }
            ("", _) => self.fault(rules::KEY, number, "it has no METHOD"),
            (_, None) => self.fault(rules::KEY, number, "it has no URI"),
            _ => {}
        }
        match iv {
            Some(None) => self.fault(rules::KEY, number, "its IV is no hexadecimal number of 128 bits"),
            Some(Some(_)) => self.needs(2, number, "IV"),
            None => {}
        }
        if method == "SAMPLE-AES-CTR" {
            self.fault(rules::SAMPLE_AES_CTR, number, "METHOD=SAMPLE-AES-CTR");
        }
        if self.media.keys.len() >= self.most {
            self.playlist.is_cut = true;
            return;
        }
        self.key = Some(self.media.keys.len());
        let is_plain = tag.get("KEYFORMAT").is_none_or(|format| format == "identity");
        self.media.keys.push(Key {
            method,
            is_plain,
            uri: tag.get("URI").map(str::to_owned),
            iv: iv.flatten(),
        });
    }

    fn uri(&mut self, number: usize, line: &str, is_multivariant: bool) {
        let uri = self.substituted(number, line);
        if is_multivariant {
            match self.variant.take() {
                Some(mut variant) => {
                    variant.attributes.retain(|(name, _)| name != "URI");
                    variant.attributes.push(("URI".to_owned(), uri));
                    self.keep(variant, |of| &mut of.variants);
                }
                None => self.fault(rules::STREAM_INF, number, "a URI stands without its tag"),
            }
            return;
        }
        let seconds = self.extinf.take();
        if seconds.is_none() {
            self.fault(rules::EXTINF, number, "a segment has none");
        }
        let range = self.range.take().map(|(length, offset)| {
            let follows = self.latest.as_ref().filter(|(latest, _)| *latest == uri).map(|(_, end)| *end);
            if offset.is_none() && follows.is_none() {
                self.fault(
                    rules::BYTERANGE,
                    number,
                    "it has no offset, and does not follow another of the file",
                );
            }
            (offset.or(follows).unwrap_or_default(), length)
        });
        self.latest = range.map(|(offset, length)| (uri.clone(), offset.saturating_add(length)));
        let segment = Segment {
            line: number,
            uri,
            seconds: seconds.unwrap_or_default(),
            range,
            map: self.map,
            key: self.key,
            sequence: self.sequence,
            discontinuity: std::mem::take(&mut self.discontinuity),
        };
        self.sequence = self.sequence.saturating_add(1);
        if self.media.segments.len() < self.most {
            self.media.segments.push(segment);
        } else {
            self.playlist.is_cut = true;
        }
    }

    fn define(&mut self, number: usize, value: &str) {
        let tag = self.attributes(number, value);
        self.needs(8, number, "EXT-X-DEFINE");
        let (name, value) = match (tag.get("NAME"), tag.get("IMPORT"), tag.get("QUERYPARAM")) {
            (Some(name), None, None) => (name, tag.get("VALUE").map(str::to_owned)),
            (None, Some(name), None) => (name, self.imported.get(name).cloned()),
            (None, None, Some(name)) => {
                let mut pairs = url::form_urlencoded::parse(self.query.as_bytes());
                (name, pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()))
            }
            _ => {
                return self.fault(rules::ATTRIBUTES, number, "it is not one of NAME, IMPORT and QUERYPARAM");
            }
        };
        let Some(value) = value.filter(|value| value.len() <= LONGEST_VALUE) else {
            return self.fault(rules::ATTRIBUTES, number, "the variable has no value");
        };
        if self.playlist.variables.len() < 1_000 {
            self.playlist.variables.insert(name.to_owned(), value);
        }
    }

    /// A text with variables replaced by what they stand for.
    fn substituted(&mut self, number: usize, text: &str) -> String {
        if !text.contains("{$") {
            return text.to_owned();
        }
        let (mut whole, mut rest) = (String::new(), text);
        while let Some((before, (name, after))) =
            rest.split_once("{$").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        {
            whole.push_str(before);
            match self.playlist.variables.get(name) {
                Some(value) if whole.len() + value.len() <= LONGEST_VALUE => whole.push_str(value),
                _ => {
                    self.fault(rules::ATTRIBUTES, number, "a variable in it was not defined");
                    return text.to_owned();
                }
            }
            rest = after;
        }
        whole + rest
    }

    fn attributes(&mut self, number: usize, list: &str) -> Tag {
        let mut tag = Tag { line: number, attributes: Vec::new() };
        let mut rest = list;
        while !rest.trim().is_empty() {
            let Some((name, after)) = rest.split_once('=') else {
                self.fault(rules::ATTRIBUTES, number, "an attribute has no value");
                break;
            };
            let is_name =
                |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '-';
            if name.is_empty() || !name.chars().all(is_name) {
                self.fault(
                    rules::ATTRIBUTES,
                    number,
                    "the name of an attribute has other letters than A-Z, 0-9 and -",
                );
            }
            // What is no name may be a piece of a signed link.
            let name = name.trim();
            let shown = if name.chars().all(is_name) { name } else { "…" };
            let (value, is_quoted, after) = if let Some(quoted) = after.trim_start().strip_prefix('"') {
                let Some((value, after)) = quoted.split_once('"') else {
                    self.fault(rules::ATTRIBUTES, number, format!("the quotes of {shown} are not closed"));
                    break;
                };
                (value, true, after)
            } else {
                let end = after.find(',').unwrap_or(after.len());
                (after[..end].trim(), false, &after[end..])
            };
            // `CLOSED-CAPTIONS=NONE` is an enumeration, but a group is a string.
            let wrong_form =
                (QUOTED.contains(&name) && !is_quoted) || (UNQUOTED.contains(&name) && is_quoted);
            if wrong_form {
                let form = if is_quoted { "no" } else { "a string in" };
                self.fault(rules::ATTRIBUTES, number, format!("the value of {shown} takes {form} quotes"));
            }
            if tag.get(name).is_some() {
                self.fault(rules::ATTRIBUTES, number, format!("{shown} is there twice"));
            }
            let value = self.substituted(number, value);
            if tag.attributes.len() < 100 {
                tag.attributes.push((name.to_owned(), value));
            }
            rest = match after.strip_prefix(',') {
                Some(after) => after,
                None if after.trim().is_empty() => break,
                None => {
                    self.fault(rules::ATTRIBUTES, number, format!("no comma follows {shown}"));
                    after.split_once(',').map_or("", |(_, after)| after)
                }
            };
        }
        tag
    }

    fn finish(mut self, last: usize, is_multivariant: bool) -> Playlist {
        if let Some(variant) = self.variant.take() {
            self.fault(rules::STREAM_INF, variant.line, "no URI follows it");
        }
        if self.extinf.is_some() {
            self.fault(rules::EXTINF, last, "the last one has no URI");
        }
        if !self.media.i_frames_only
            && let Some(map) = self.media.maps.first()
        {
            let line = map.line;
            self.needs(6, line, "EXT-X-MAP");
        }
        let (needed, line, what) = self.needed;
        let version = self.version.unwrap_or(1);
        if version < needed {
            self.fault(
                rules::VERSION,
                line,
                format!("version {version} has no {what}, which needs {needed}"),
            );
        }
        if is_multivariant {
            self.playlist.body = Body::Multivariant(self.multivariant);
        } else {
            if !self.seen.contains("target") {
                self.fault(rules::TARGET, 1, "there is none");
            }
            if !self.multivariant.media.is_empty() || !self.multivariant.i_frames.is_empty() {
                self.fault(
                    rules::PLAYLIST_KIND,
                    1,
                    "it has tags of a multivariant playlist but no EXT-X-STREAM-INF",
                );
            }
            self.media.segments.shrink_to_fit();
            self.playlist.body = Body::Media(self.media);
        }
        self.playlist
    }
}

/// `<length>[@<offset>]`.
fn byte_range(text: &str) -> Option<(u64, Option<u64>)> {
    match text.split_once('@') {
        None => Some((text.parse().ok()?, None)),
        Some((length, offset)) => Some((length.parse().ok()?, Some(offset.parse().ok()?))),
    }
}

/// A decimal number as the RFC has it: digits and a point, and neither `NaN` nor `1e9`.
fn decimal(text: &str) -> Option<f64> {
    let is_plain =
        !text.is_empty() && text.len() < 32 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    // Longer than a year is no duration.
    text.parse().ok().filter(|number| is_plain && *number < 1e8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &[u8]) -> Vec<(&'static str, usize)> {
        let playlist = scan(text, &BTreeMap::new(), "", 1_000);
        playlist.faults.iter().map(|fault| (fault.rule.number, fault.line)).collect()
    }

    /// A playlist, and its faults with their lines.
    type Case<'a> = (&'a [u8], &'a [(&'a str, usize)]);

    fn media(text: &str) -> Media {
        match scan(text.as_bytes(), &BTreeMap::new(), "host=v.example", 1_000).body {
            Body::Media(media) => media,
            Body::Multivariant(_) => panic!("it is a media playlist"),
        }
    }

    /// The examples of RFC 8216 §8.1, §8.3 (with a version for its decimals, as there) and §8.6.
    #[test]
    fn the_examples_of_the_rfc_are_without_fault() {
        for text in [
            "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-VERSION:3\n#EXTINF:9.009,\nhttp://media.example.com/first.ts\n\
             #EXTINF:9.009,\nhttp://media.example.com/second.ts\n#EXTINF:3.003,\nhttp://media.example.com/third.ts\n\
             #EXT-X-ENDLIST\n",
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-MEDIA-SEQUENCE:7794\n#EXT-X-TARGETDURATION:15\n\n\
             #EXT-X-KEY:METHOD=AES-128,URI=\"https://priv.example.com/key.php?r=52\"\n\n#EXTINF:2.833,\n\
             http://media.example.com/fileSequence52-A.ts\n",
            "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"aac\",NAME=\"English\",DEFAULT=YES,AUTOSELECT=YES,\
             LANGUAGE=\"en\",URI=\"main/english-audio.m3u8\"\n#EXT-X-STREAM-INF:BANDWIDTH=1280000,CODECS=\"...\",\
             AUDIO=\"aac\"\nlow/video-only.m3u8\n",
        ] {
            assert_eq!(faults(text.as_bytes()), []);
        }
    }

    #[test]
    fn a_fault_has_the_number_of_its_line() {
        let cases: [Case; 13] = [
            (b"", &[("RFC 8216 4.3.1.1", 1)]),
            (b"root:x:0:0\n#EXT-X-STREAM-INF:root\n\xff\n", &[("RFC 8216 4.3.1.1", 1)]),
            (b"\xef\xbb\xbf#EXTM3U\n#EXT-X-TARGETDURATION:6\n", &[("RFC 8216 4.1", 1)]),
            (b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n# \xff\n", &[("RFC 8216 4.1", 1)]),
            (b"#EXTM3U8\n#EXT-X-TARGETDURATION:6\n", &[("RFC 8216 4.3.1.1", 1)]),
            (b"#EXTM3U\n#EXT-X-TARGETDURATION:6.0\n", &[("RFC 8216 4.3.3.1", 2)]),
            (b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:NaN,\na.ts\n", &[("RFC 8216 4.3.2.1", 3)]),
            (b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:1e999,\na.ts\n", &[("RFC 8216 4.3.2.1", 3)]),
            (b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6.0,\na.ts\n", &[("RFC 8216 7", 3)]),
            (b"#EXTM3U\n#EXT-X-TARGETDURATION:6\na.ts\n", &[("RFC 8216 4.3.2.1", 3)]),
            (b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,BANDWIDTH=2\na\n", &[("RFC 8216 4.2", 2)]),
            (
                b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=\"1\",CODECS=a\na\n",
                &[("RFC 8216 4.2", 2), ("RFC 8216 4.2", 2)],
            ),
            (
                b"#EXTM3U\n#EXT-X-STREAM-INF:CODECS=\"a\n#EXT-X-STREAM-INF:A=1\na\n",
                &[("RFC 8216 4.2", 2), ("RFC 8216 4.3.4.2", 2)],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(faults(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn byte_ranges_follow_one_another() {
        let media = media(
            "#EXTM3U\n#EXT-X-VERSION:4\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n#EXT-X-BYTERANGE:75232@10\na.ts\n\
             #EXT-X-BYTERANGE:82112\n#EXTINF:6,\na.ts\n",
        );
        let ranges: Vec<_> = media.segments.iter().filter_map(|segment| segment.range).collect();
        assert_eq!(ranges, [(10, 75_232), (75_242, 82_112)]);
    }

    #[test]
    fn variables_are_what_they_stand_for() {
        let media = media(
            "#EXTM3U\n#EXT-X-VERSION:8\n#EXT-X-TARGETDURATION:6\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"x/\"\n\
             #EXT-X-DEFINE:QUERYPARAM=\"host\"\n#EXTINF:6,\nhttps://{$host}/{$a}1.ts\n",
        );
        assert_eq!(media.segments[0].uri, "https://v.example/x/1.ts");
    }

    #[test]
    fn a_hostile_playlist_is_cut() {
        let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:99999999999999999999\n".to_owned();
        text += &"#EXTINF:0,\na\n".repeat(1_001);
        let playlist = scan(text.as_bytes(), &BTreeMap::new(), "", 1_000);
        assert!(playlist.is_cut);
        let bomb = format!(
            "#EXTM3U\n#EXT-X-DEFINE:NAME=\"a\",VALUE=\"{}\"\n#EXTINF:6,\n{}\n",
            "x".repeat(60_000),
            "{$a}".repeat(100_000)
        );
        assert!(scan(bomb.as_bytes(), &BTreeMap::new(), "", 1_000).faults.len() > 1);
    }
}
