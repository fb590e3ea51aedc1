//! What an object is by its name.

use crate::object_key::ObjectKey;
use crate::rewrite::Kind;

/// What an object is to whoever keeps it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// It links to others, and may change.
    Document(Kind),
    /// A segment: other bytes have another name.
    Segment,
    /// A picture, of which the same is true.
    Picture,
    /// Anything else, keys among it.
    Other,
}

impl Class {
    /// What an object is by its name.
    #[must_use]
    pub fn of(key: &ObjectKey) -> Self {
        known(&key.extension()).map_or(Self::Other, |(class, _)| class)
    }

    /// In one word, for logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Document(Kind::Playlist) => "playlist",
            Self::Document(Kind::Cues) => "captions",
            Self::Document(Kind::Json) => "json",
            Self::Segment => "segment",
            Self::Picture => "picture",
            Self::Other => "other",
        }
    }
}

/// The media type that an object was stored with, unless that says nothing: then what its name says.
#[must_use]
pub fn media_type<'a>(stored: Option<&'a str>, key: &ObjectKey) -> &'a str {
    match stored {
        None | Some("" | "application/octet-stream" | "binary/octet-stream") => {
            known(&key.extension()).map_or("application/octet-stream", |(_, media_type)| media_type)
        }
        Some(stored) => stored,
    }
}

/// By section 2 of Apple's "HLS Authoring Specification" and the registrations that it names. A key (RFC 8216 §4.3.2.4)
/// is octets.
fn known(extension: &str) -> Option<(Class, &'static str)> {
    Some(match extension {
        "m4s" | "cmfv" | "cmfa" => (Class::Segment, "video/iso.segment"),
        "mp4" | "m4v" => (Class::Segment, "video/mp4"),
        "m4a" => (Class::Segment, "audio/mp4"),
        "ts" => (Class::Segment, "video/mp2t"),
        "aac" => (Class::Segment, "audio/aac"),
        "jpg" | "jpeg" => (Class::Picture, "image/jpeg"),
        "png" => (Class::Picture, "image/png"),
        "webp" => (Class::Picture, "image/webp"),
        "m3u8" | "m3u" => (Class::Document(Kind::Playlist), "application/vnd.apple.mpegurl"),
        "vtt" => (Class::Document(Kind::Cues), "text/vtt"),
        "json" => (Class::Document(Kind::Json), "application/json"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_what_nobody_else_does() {
        let key = |name| ObjectKey::parse(name).unwrap();
        for (name, class, media) in [
            ("/a/index.M3U8", "playlist", "application/vnd.apple.mpegurl"),
            ("/a/1.m4s", "segment", "video/iso.segment"),
            ("/a/1.TS", "segment", "video/mp2t"),
            ("/a/captions.vtt", "captions", "text/vtt"),
            ("/a/poster.jpg", "picture", "image/jpeg"),
            ("/a/1.key", "other", "application/octet-stream"),
            ("/a/m4s", "other", "application/octet-stream"),
        ] {
            assert_eq!(
                (Class::of(&key(name)).name(), media_type(None, &key(name))),
                (class, media),
                "{name}"
            );
        }
        assert_eq!(media_type(Some("binary/octet-stream"), &key("/1.mp4")), "video/mp4");
        assert_eq!(media_type(Some("audio/mp4"), &key("/1.mp4")), "audio/mp4");
    }
}
