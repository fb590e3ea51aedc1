//! What an asset is called, and what is said of it in the bucket.
//!
//! ```text
//! assets/<asset>/index.m3u8    the only mutable playlist
//! assets/<asset>/asset.json    an [`Asset`]: the catalogue is the bucket
//! assets/<asset>/<generation>/ never changes once it is named; in it are copies of both of those, to go back to
//! ```

use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::Path;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::plan::{Container, Decision};
use crate::probe::Source;

/// The most characters an id may have: a URL with a long signature must stay below 2,000 bytes.
const LONGEST_ID: usize = 128;

/// Name of an asset: safe as a folder, as part of a key and as part of a URL, without any escaping.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct AssetId(String);

impl AssetId {
    /// The name of a file without its extension, with `-` for everything that an id cannot have.
    pub fn from_file_name(path: &Path) -> Result<Self, InvalidAssetId> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut id = String::new();
        for character in stem.chars().take(LONGEST_ID) {
            match character {
                _ if is_allowed(character) => id.push(character),
                _ if id.ends_with('-') => {}
                _ => id.push('-'),
            }
        }
        let id = id.trim_matches('-');
        id.parse().map_err(|_| InvalidAssetId::Unnameable(stem.into_owned()))
    }

    /// Key of its multivariant playlist: the path of its URL at the edge.
    #[must_use]
    pub fn playlist_key(&self) -> String {
        format!("{}/index.m3u8", self.folder())
    }

    /// Key of what is said of it, an [`Asset`].
    #[must_use]
    pub fn description_key(&self) -> String {
        format!("{}/asset.json", self.folder())
    }

    /// Where everything of this asset lies.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("assets/{self}")
    }
}

impl FromStr for AssetId {
    type Err = InvalidAssetId;

    fn from_str(text: &str) -> Result<Self, InvalidAssetId> {
        // `.` and `..` are folders to a file system and disappear from a URL.
        let is_dots = text == "." || text == "..";
        if text.is_empty() || text.len() > LONGEST_ID || is_dots || !text.chars().all(is_allowed) {
            return Err(InvalidAssetId::Malformed(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for AssetId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl TryFrom<String> for AssetId {
    type Error = InvalidAssetId;

    fn try_from(text: String) -> Result<Self, InvalidAssetId> {
        text.parse()
    }
}

impl From<AssetId> for String {
    fn from(id: AssetId) -> Self {
        id.0
    }
}

fn is_allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-')
}

/// A name that cannot be an asset's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidAssetId {
    /// It was given.
    #[error(
        "`{0}` cannot be an asset id: use 1 to {LONGEST_ID} of the characters A-Z a-z 0-9 . _ - \
         (and not `.` or `..`)"
    )]
    Malformed(String),
    /// It would have come from a file's name.
    #[error("no asset id can be made of the file name `{0}`: name one with --asset")]
    Unnameable(String),
}

/// Name of one encode of an asset: its time and something to tell it from others of the same second, so that
/// names sort by age and no two are the same.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Generation(String);

/// How its time is written: a folder's name on any disk.
const GENERATION_TIME: &str = "%Y%m%dt%H%M%Sz";

impl Generation {
    /// The generation that is begun now.
    #[must_use]
    pub fn new(now: Timestamp, nonce: u32) -> Self {
        Self(format!("{}-{nonce:08x}", now.strftime(GENERATION_TIME)))
    }
}

impl Generation {
    /// When it was begun.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        begun(&self.0).unwrap_or_default()
    }

    /// Its folder in an asset's.
    #[must_use]
    pub fn folder_of(&self, asset: &AssetId) -> String {
        format!("{}/{self}", asset.folder())
    }

    /// The key of something in that folder.
    #[must_use]
    pub fn key_of(&self, asset: &AssetId, name: &str) -> String {
        format!("{}/{name}", self.folder_of(asset))
    }
}

fn begun(generation: &str) -> Option<Timestamp> {
    let (time, _) = generation.split_once('-')?;
    let time = civil::DateTime::strptime(GENERATION_TIME, time).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|time| time.timestamp())
}

impl FromStr for Generation {
    type Err = InvalidGeneration;

    fn from_str(text: &str) -> Result<Self, InvalidGeneration> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let is_nonce = |nonce: &str| nonce.len() == 8 && nonce.bytes().all(is_digit);
        let is_one = text.len() == 25 && text.get(17..).is_some_and(is_nonce) && begun(text).is_some();
        if is_one { Ok(Self(text.to_owned())) } else { Err(InvalidGeneration(text.to_owned())) }
    }
}

impl TryFrom<String> for Generation {
    type Error = InvalidGeneration;

    fn try_from(text: String) -> Result<Self, InvalidGeneration> {
        text.parse()
    }
}

impl From<Generation> for String {
    fn from(generation: Generation) -> Self {
        generation.0
    }
}

/// Not a generation's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no generation: they are named like 20261122t100000z-0123abcd")]
pub struct InvalidGeneration(String);

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Anything from 0 to 1, so that what failed together is not tried again together.
pub(crate) fn chance() -> f64 {
    f64::from(nonce()) / f64::from(u32::MAX)
}

/// Bytes as `sha256sum` writes them.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A number that is another one at every call: every `RandomState` has keys of its own, and the first of a
/// process come from the operating system. No secret depends on it.
#[must_use]
pub fn nonce() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// `asset.json`: what an asset's folder holds, what it was made of, and how. Keys of other objects are given from
/// the asset's folder.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
#[schema(as = Description)]
pub struct Asset {
    /// What it is called.
    pub asset: AssetId,
    /// Whether it can be played.
    pub state: State,
    /// The encode that `index.m3u8` names.
    pub generation: Generation,
    /// When that encode began.
    #[schema(value_type = String, format = DateTime)]
    pub created: Timestamp,
    /// When its source was uploaded, where that is known: of two encodes that of the later upload is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub uploaded: Option<Timestamp>,
    /// The job that made it, where the service did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Playing time in seconds.
    pub duration: f64,
    /// How its segments are packed.
    pub container: Container,
    /// How its segments are encrypted, if they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// What a viewer can switch between, as in the playlist.
    pub renditions: Vec<Rendition>,
    /// Its poster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub poster: Option<String>,
    /// Its storyboard: `WebVTT` whose cues are parts of pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storyboard: Option<String>,
    /// What it was made of, as it was found.
    #[schema(value_type = Object)]
    pub source: Source,
    /// Every rung that was thought of, made or not, and why.
    #[schema(value_type = Vec<Object>)]
    pub rungs: Vec<Decision>,
    /// What was put right, converted or left out, and what could be better.
    pub notes: Vec<String>,
    /// What was run.
    pub commands: Vec<String>,
    /// What ran it.
    pub versions: Versions,
    /// What is there of this generation.
    pub objects: Objects,
}

/// How far an asset is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AssetState)]
pub enum State {
    /// It can be played.
    Ready,
}

/// How segments are encrypted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Encryption {
    /// `AES-128`, as in RFC 8216 §4.3.2.4.
    pub method: String,
    /// How many keys there are.
    pub keys: usize,
}

/// One rendition of an asset.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct Rendition {
    /// Its folder.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Its media playlist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playlist: Option<String>,
    /// The playlist of its key frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_frames: Option<String>,
    /// Its codec, in the words of RFC 6381.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub codecs: String,
    /// Its size in pixels, where it has a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Its size in pixels, where it has a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Pictures a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frame_rate: Option<f64>,
    /// Language of its sound or its text, a BCP 47 tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Channels of its sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<u32>,
    /// Measured peak, in bits a second.
    pub peak_bandwidth: u64,
    /// Measured average, in bits a second.
    pub average_bandwidth: u64,
    /// Playing time in seconds.
    pub duration: f64,
    /// How many segments it has.
    pub segments: usize,
    /// What it takes in the bucket, playlists and what is for it alone included.
    pub bytes: u64,
    /// How near it comes to the source, from 0 to 100: VMAF, the mean over its frames, where it was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vmaf: Option<f64>,
}

/// What a rendition is for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[schema(as = RenditionKind)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A picture.
    Video,
    /// Single pictures, for seeking.
    KeyFrames,
    /// Sound.
    Audio,
    /// Text.
    Captions,
}

/// What ran.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Versions {
    /// This.
    pub transcoder: String,
    /// The encoder, as it calls itself.
    pub encoder: String,
}

/// What is there of a generation.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Objects {
    /// How many, that list not counted.
    pub count: usize,
    /// How large they are together.
    pub bytes: u64,
    /// The list of them all with their SHA-256, as `sha256sum --check` reads it from the generation's folder.
    pub list: String,
    /// SHA-256 of the list, in hexadecimal.
    pub list_sha256: String,
    /// SHA-256 of the multivariant playlist, which lies beside the generation.
    pub playlist_sha256: String,
}

/// Something that `asset.json` could say.
#[cfg(test)]
pub(crate) fn described(asset: &AssetId, now: Timestamp) -> Asset {
    Asset {
        asset: asset.clone(),
        state: State::Ready,
        generation: Generation::new(now, 1),
        created: now,
        uploaded: None,
        job: None,
        duration: 6.0,
        container: Container::Fmp4,
        encryption: None,
        renditions: Vec::new(),
        poster: None,
        storyboard: None,
        source: Source::default(),
        rungs: Vec::new(),
        notes: Vec::new(),
        commands: Vec::new(),
        versions: Versions::default(),
        objects: Objects::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_safe_in_a_path_and_in_a_url() {
        for good in ["talk", "a.b_c-D9", "...", "x"] {
            assert_eq!(good.parse::<AssetId>().unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "a%2fb", "é", "a\\b", "a\0", "a?b", "a#b", &"x".repeat(129)]
        {
            assert!(bad.parse::<AssetId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_name_is_made_safe() {
        let named = |path: &str| AssetId::from_file_name(Path::new(path)).map(|id| id.to_string());
        assert_eq!(named("/films/My Talk (1).final.mp4").unwrap(), "My-Talk-1-.final");
        assert_eq!(named("Größe.mov").unwrap(), "Gr-e");
        assert_eq!(named("lesson.mp4").unwrap(), "lesson");
        assert_eq!(named("видео.mp4"), Err(InvalidAssetId::Unnameable("видео".into())));
    }

    #[test]
    fn generations_sort_by_time_and_are_told_apart() {
        let at = |text: &str, nonce| Generation::new(text.parse().unwrap(), nonce);
        let first = at("2026-11-22T09:59:59Z", 0xffff_ffff);
        let second = at("2026-11-22T10:00:00Z", 1);
        assert_eq!(second.to_string(), "20261122t100000z-00000001");
        assert!(first < second);
        assert_ne!(nonce(), nonce());
    }

    #[test]
    fn a_generation_says_when_it_was_begun_and_is_nothing_else() {
        let generation: Generation = "20261122t100000z-0123abcd".parse().unwrap();
        assert_eq!(generation.begun(), "2026-11-22T10:00:00Z".parse::<Timestamp>().unwrap());
        for bad in [
            "",
            "..",
            "keys",
            "20261322t100000z-0123abcd",
            "20261122t100000z-0123ABCD",
            "20261122t100000z-0123abc",
            "20261122t100000z/0123abcd",
        ] {
            assert!(bad.parse::<Generation>().is_err(), "{bad}");
        }
    }
}
