//! Fetches all that a playlist links to, and measures it: what the checks look at.

use std::collections::{BTreeMap, HashMap};

use futures_util::{StreamExt, stream};
use url::Url;

use super::files::{Answer, Files, Refused};
use super::scan::{self, Body, Map, Media, Multivariant, Playlist, Segment};
use super::segment::{self, Cipher, Measured, Stream, Target};
use super::summary::Summary;

/// Files that are read at the same time.
const AT_ONCE: usize = 8;

/// The most playlists of an asset, and segments of all of them, that are looked at. Ten hours in ten renditions are
/// 60,000 segments of 6 s.
const MOST_PLAYLISTS: usize = 1_000;
const MOST_SEGMENTS: usize = 300_000;

/// Why what leads astray is not looked into.
pub(crate) const OUTSIDE: &str = "they are outside of the folder or the network that was named";

/// Everything there is to an asset.
pub(crate) struct Asset {
    pub(crate) entry: Entry,
    /// Media playlists; the only one, where there is no multivariant playlist.
    pub(crate) renditions: Vec<Rendition>,
}

/// The playlist that was asked for.
pub(crate) struct Entry {
    pub(crate) at: Url,
    pub(crate) playlist: Playlist,
    pub(crate) answer: Answer,
    /// Where the links of tags lead to, by their lines.
    pub(crate) links: BTreeMap<usize, Link>,
}

impl Entry {
    pub(crate) fn multivariant(&self) -> Option<&Multivariant> {
        match &self.playlist.body {
            Body::Multivariant(multivariant) => Some(multivariant),
            Body::Media(_) => None,
        }
    }
}

/// Where a link leads.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// To one of the renditions.
    Rendition(usize),
    /// To another multivariant playlist.
    Multivariant,
    /// To what is no playlist.
    Foreign,
    Nowhere(Refused),
    /// It was not followed.
    Unknown(&'static str),
}

/// What a rendition is used as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Role {
    /// Video or audio, or both.
    Media,
    Subtitles,
    IFrames,
    /// Small pictures for scrubbing, in tiles.
    Images,
}

/// A media playlist and its segments.
pub(crate) struct Rendition {
    pub(crate) at: Url,
    pub(crate) role: Role,
    pub(crate) playlist: Playlist,
    pub(crate) answer: Answer,
    pub(crate) maps: Vec<Measured>,
    pub(crate) segments: Vec<Measured>,
    pub(crate) summary: Summary,
}

impl Rendition {
    pub(crate) fn media(&self) -> &Media {
        static NONE: std::sync::LazyLock<Media> = std::sync::LazyLock::new(Media::default);
        match &self.playlist.body {
            Body::Media(media) => media,
            Body::Multivariant(_) => &NONE,
        }
    }

    /// Its segments as they are listed, with what was found.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Segment, &Measured)> {
        self.media().segments.iter().zip(&self.segments)
    }

    pub(crate) fn streams(&self) -> &[Stream] {
        &self.summary.streams
    }
}

/// Fetches a playlist and all that it links to.
pub(crate) async fn gather(
    files: &Files<'_>,
    at: &Url,
    progress: &(dyn Fn(usize, usize) + Send + Sync),
) -> Result<Asset, Refused> {
    let fetched = files.playlist(at).await?;
    let query = at.query().unwrap_or_default();
    let playlist = scan::scan(&fetched.bytes, &BTreeMap::new(), query, MOST_SEGMENTS);
    let mut entry = Entry { at: at.clone(), playlist, answer: fetched.answer, links: BTreeMap::new() };
    let mut renditions = Vec::new();
    if entry.playlist.is_foreign {
        return Ok(Asset { entry, renditions });
    }
    if entry.multivariant().is_some() {
        (entry.links, renditions) = linked(files, &entry).await;
    } else {
        let playlist = std::mem::take(&mut entry.playlist);
        let is_i_frames = matches!(&playlist.body, Body::Media(media) if media.i_frames_only);
        let is_text = matches!(&playlist.body, Body::Media(media)
            if media.segments.first().is_some_and(|segment| std::path::Path::new(&path(&segment.uri)).extension().is_some_and(|end| end == "vtt")));
        let is_images = matches!(&playlist.body, Body::Media(media) if media.images_only);
        let role = match (is_images, is_i_frames, is_text) {
            (true, _, _) => Role::Images,
            (_, true, _) => Role::IFrames,
            (_, _, true) => Role::Subtitles,
            _ => Role::Media,
        };
        renditions.push(Rendition {
            at: at.clone(),
            role,
            playlist,
            answer: entry.answer.clone(),
            maps: Vec::new(),
            segments: Vec::new(),
            summary: Summary::default(),
        });
    }
    let total = renditions.iter().map(|rendition| rendition.media().segments.len()).sum();
    let mut done = 0;
    let mut keys = HashMap::new();
    for rendition in &mut renditions {
        let (maps, segments) = contents(files, rendition, &mut keys, &mut |one| {
            done += one;
            progress(done, total);
        })
        .await;
        rendition.summary = Summary::of(rendition.media(), &maps, &segments);
        (rendition.maps, rendition.segments) = (maps, segments);
    }
    Ok(Asset { entry, renditions })
}

/// A link, or a place, without what may open it: neither user and password, nor query, nor parameters of a path.
pub(crate) fn path(uri: &str) -> String {
    let text = uri.split(['?', '#']).next().unwrap_or_default();
    // As RFC 3986 has it, but that players take both kinds of slash.
    let is_slash = |letter: char| letter == '/' || letter == '\\';
    let is_scheme = |letter: char| letter.is_ascii_alphanumeric() || "+-.".contains(letter);
    let name = text.trim_start_matches(is_scheme);
    let rest = name.strip_prefix(':').unwrap_or(text);
    let authority = rest.trim_start_matches(is_slash);
    let slashes = rest.len() - authority.len();
    let (head, rest) = text.split_at(text.len() - authority.len());
    let end = rest.find(is_slash).unwrap_or(rest.len());
    let has_authority = slashes >= 2 || rest.len() + slashes < text.len();
    let user = rest[..end].rfind('@').filter(|_| has_authority).map_or(0, |at| at + 1);
    let mut shown = head.to_owned();
    for part in rest[user..].split_inclusive(is_slash) {
        match part.split_once(';') {
            Some((name, parameters)) if parameters.contains('=') => {
                shown.push_str(name);
                shown.extend(parameters.chars().last().filter(|last| is_slash(*last)));
            }
            _ => shown.push_str(part),
        }
    }
    shown
}

/// The media playlists that a multivariant one links to, each once.
async fn linked(files: &Files<'_>, entry: &Entry) -> (BTreeMap<usize, Link>, Vec<Rendition>) {
    let mut links = BTreeMap::new();
    let mut wanted: Vec<(Url, Role)> = Vec::new();
    let mut of_lines: Vec<(usize, usize)> = Vec::new();
    let Some(multivariant) = entry.multivariant() else { return (links, Vec::new()) };
    let variants = multivariant.variants.iter().map(|tag| (tag, Role::Media));
    let media = multivariant
        .media
        .iter()
        .map(|tag| (tag, if tag.is("TYPE", "SUBTITLES") { Role::Subtitles } else { Role::Media }));
    let i_frames = multivariant.i_frames.iter().map(|tag| (tag, Role::IFrames));
    let images = multivariant.images.iter().map(|tag| (tag, Role::Images));
    for (tag, role) in variants.chain(media).chain(i_frames).chain(images) {
        let Some(uri) = tag.get("URI") else { continue };
        let Ok(at) = entry.at.join(uri) else {
            links.insert(tag.line, Link::Nowhere(Refused::Missing));
            continue;
        };
        let known = wanted.iter().position(|(known, _)| *known == at);
        if known.is_none() && wanted.len() >= MOST_PLAYLISTS {
            links.insert(tag.line, Link::Unknown("they are more than are looked at"));
            continue;
        }
        of_lines.push((tag.line, known.unwrap_or(wanted.len())));
        if known.is_none() {
            wanted.push((at, role));
        }
    }
    let mut fetching = stream::iter(&wanted).map(|(at, _)| files.playlist(at)).buffered(AT_ONCE);
    let mut renditions: Vec<Rendition> = Vec::new();
    let mut found = Vec::new();
    let mut left = MOST_SEGMENTS;
    for (at, role) in wanted.clone() {
        let Some(fetched) = fetching.next().await else { break };
        found.push(match fetched {
            Err(Refused::Elsewhere) => Link::Unknown("they are elsewhere"),
            Err(Refused::Outside) => Link::Unknown(OUTSIDE),
            Err(refused) => Link::Nowhere(refused),
            Ok(fetched) => {
                let query = at.query().unwrap_or_default();
                let playlist = scan::scan(&fetched.bytes, &entry.playlist.variables, query, left);
                if playlist.is_foreign {
                    Link::Foreign
                } else if let Body::Media(media) = &playlist.body {
                    left = left.saturating_sub(media.segments.len());
                    renditions.push(Rendition {
                        at,
                        role,
                        playlist,
                        answer: fetched.answer,
                        maps: Vec::new(),
                        segments: Vec::new(),
                        summary: Summary::default(),
                    });
                    Link::Rendition(renditions.len() - 1)
                } else {
                    Link::Multivariant
                }
            }
        });
    }
    for (line, wanted) in of_lines {
        if let Some(link) = found.get(wanted) {
            links.insert(line, link.clone());
        }
    }
    (links, renditions)
}

type Keys = HashMap<Url, Option<[u8; 16]>>;

async fn contents(
    files: &Files<'_>,
    rendition: &Rendition,
    keys: &mut Keys,
    count: &mut (dyn FnMut(usize) + Send),
) -> (Vec<Measured>, Vec<Measured>) {
    let media = rendition.media();
    let mut ciphers = Vec::new();
    for key in &media.keys {
        let uri = key.uri.as_ref().filter(|_| key.method == "AES-128" && key.is_plain);
        let at = uri.and_then(|uri| rendition.at.join(uri).ok());
        let Some(at) = at else {
            ciphers.push(None);
            continue;
        };
        if !keys.contains_key(&at) {
            let read = files.read(&at, 0, 17).await.ok();
            let value = read.and_then(|part| part.bytes.try_into().ok());
            keys.insert(at.clone(), value);
        }
        ciphers.push(keys.get(&at).copied().flatten());
    }
    let target = |uri: &str, range, key: Option<usize>, sequence: Option<u64>| {
        let at = rendition.at.join(uri).ok()?;
        let key = key.and_then(|key| Some((media.keys.get(key)?, ciphers.get(key).copied().flatten())));
        // In SAMPLE-AES it is the samples that are encrypted, not what is around them.
        let key = key.filter(|(key, _)| key.method == "AES-128");
        let iv = key.and_then(|(key, _)| key.iv.or(sequence.map(u128::from)));
        let cipher = key.and_then(|(_, value)| Some(Cipher { key: value?, iv: iv?.to_be_bytes() }));
        Some(Target { files, at, range, cipher, is_opaque: key.is_some() && cipher.is_none() })
    };
    let unreadable = || Measured::skipped("they have links that are none");

    let map = |map: &Map| target(&map.uri, map.range, map.key, None);
    let maps: Vec<Measured> = stream::iter(media.maps.iter().map(map))
        .map(|target| async {
            match target {
                Some(target) => segment::initialisation(target).await,
                None => unreadable(),
            }
        })
        .buffered(AT_ONCE)
        .collect()
        .await;

    let segment = |segment: &Segment| {
        let init = segment.map.and_then(|map| maps.get(map));
        (target(&segment.uri, segment.range, segment.key, Some(segment.sequence)), init)
    };
    let mut measuring = stream::iter(media.segments.iter().map(segment))
        .map(|(target, init)| async move {
            match target {
                Some(target) if rendition.role == Role::Images => segment::image(target).await,
                Some(target) => segment::measure(target, init).await,
                None => Measured::skipped("they have links that are none"),
            }
        })
        .buffered(AT_ONCE);
    let mut segments = Vec::with_capacity(media.segments.len());
    while let Some(mut measured) = measuring.next().await {
        // There may be many, and each has room for more.
        measured.shrink();
        segments.push(measured);
        count(1);
    }
    drop(measuring);
    (maps, segments)
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn a_link_is_shown_without_what_opens_it() {
        for (uri, shown) in [
            ("http://user:password@v.example:8080/a/1.ts?t=1#x", "http://v.example:8080/a/1.ts"),
            ("//user:password@v.example", "//v.example"),
            ("http:\\\\user:p@ssword@v.example\\1.ts", "http:\\\\v.example\\1.ts"),
            ("https:user:password@v.example/1.ts", "https:v.example/1.ts"),
            ("a/404.ts;Signature=secret", "a/404.ts"),
            ("a;Policy=secret/1.ts", "a/1.ts"),
            ("/@channel/a@2x;1.ts", "/@channel/a@2x;1.ts"),
            ("http://v.example/@channel/1.ts", "http://v.example/@channel/1.ts"),
            ("../v/1 ü.m4s", "../v/1 ü.m4s"),
            ("", ""),
        ] {
            assert_eq!(path(uri), shown, "{uri}");
        }
    }
}
