//! What may be kept, by whom, and for how long.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::link::Host;
use crate::media::Class;
use crate::origin::Metadata;
use crate::rewrite::Encoding;

/// `Cache-Control` of what is the same for everybody who may have it: what its store says, but for the viewer
/// alone. A cache between us and others would go on serving it to whoever has the URL, after its expiry too. A segment
/// of which its store says nothing never changes: other bytes have another name.
#[must_use]
pub fn for_one_viewer(stored: Option<&str>, class: Class) -> String {
    let stored = match stored.map(str::trim).unwrap_or_default() {
        "" if matches!(class, Class::Segment | Class::Picture) => "max-age=31536000, immutable",
        stored => stored,
    };
    let shared = ["public", "private", "s-maxage"];
    let kept = directives(stored)
        .filter(|(name, _)| !shared.iter().any(|shared| name.eq_ignore_ascii_case(shared)))
        .map(|(_, directive)| directive);
    std::iter::once("private").chain(kept).collect::<Vec<_>>().join(", ")
}

/// The directives of a `Cache-Control`, each with its name before it.
fn directives(stored: &str) -> impl Iterator<Item = (&str, &str)> {
    // What is in quotes is one value, commas and all.
    let mut quoted = false;
    let is_end = move |letter| {
        quoted ^= letter == '"';
        letter == ',' && !quoted
    };
    let directives = stored.split(is_end).map(str::trim).filter(|directive| !directive.is_empty());
    directives.map(|directive| (directive.split('=').next().unwrap_or_default().trim(), directive))
}

/// The largest object that the edge keeps, in bytes: six seconds at 10 Mbit/s. Until all of one is there to be put away, it
/// is in memory, and so is a slow viewer's share of it.
const LARGEST: u64 = 8 * 1024 * 1024;

/// How long the edge keeps objects of each class at the most, in seconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lifetimes {
    /// Segments and pictures.
    pub segments: u64,
    /// Documents, as they are stored.
    pub documents: u64,
}

impl Lifetimes {
    /// Whether there may be any object of a class in the cache. Keys never are: there is one copy of what opens a video.
    #[must_use]
    pub fn keeps(&self, class: Class) -> bool {
        self.of(class) > 0
    }

    /// How long an object may be kept, from when it comes from its store; 0 if not at all. Its store may shorten that, as
    /// [RFC 9111 §5.2.2] has it.
    ///
    /// [RFC 9111 §5.2.2]: https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2
    #[must_use]
    pub fn seconds(&self, class: Class, object: &Metadata) -> u64 {
        // The runtime's cache would have to be told not to unpack what is packed; it is seldom, and not worth a word.
        if object.size > LARGEST || object.content_encoding.is_some() {
            return 0;
        }
        let (mut seconds, mut shared) = (self.of(class), None);
        for (name, directive) in directives(object.cache_control.as_deref().unwrap_or_default()) {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            // A number that is none is taken to say that nothing may be kept.
            let stated = || directive.split_once('=').map_or(0, |(_, value)| delta_seconds(value));
            if is("no-store") || is("no-cache") || is("private") {
                return 0;
            } else if is("s-maxage") {
                shared = Some(stated());
            } else if is("max-age") {
                seconds = seconds.min(stated());
            }
        }
        shared.map_or(seconds, |shared| shared.min(self.of(class)))
    }

    fn of(&self, class: Class) -> u64 {
        match class {
            Class::Segment | Class::Picture => self.segments,
            Class::Document(_) => self.documents,
            Class::Other => 0,
        }
    }
}

/// Beyond what fits it is as good as for ever.
fn delta_seconds(value: &str) -> u64 {
    let digits = value.trim().trim_matches('"');
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.parse().unwrap_or(u64::MAX) } else { 0 }
}

/// What a document becomes on its way out, and what makes one of another's: what is written into it, and how.
///
/// Its entity tags are those of what is stored, and of what becomes of it. They need not withstand anybody: a viewer who
/// found two of the same would have made it for their own use, since both are of the one URL that is asked for.
#[derive(Debug)]
pub struct Edition {
    suffix: String,
}

impl Edition {
    /// Of a document with this authority in it.
    #[must_use]
    pub fn of(authority: &str, own_hosts: &[Host], encoding: Encoding) -> Self {
        let mut hasher = DefaultHasher::new();
        // Another version may write otherwise.
        (env!("CARGO_PKG_VERSION"), authority, own_hosts, encoding).hash(&mut hasher);
        Self { suffix: format!("-{:016x}\"", hasher.finish()) }
    }

    /// The tag of what becomes of what has the tag `stored`. There is none of what has none, or a weak one.
    #[must_use]
    pub fn tag(&self, stored: Option<&str>) -> Option<String> {
        let opaque = stored.filter(|tag| tag.starts_with('"'))?.strip_suffix('"')?;
        Some(format!("{opaque}{}", self.suffix))
    }

    /// The tag of what is stored, if `tag` may be that of what became of it.
    #[must_use]
    pub fn stored(&self, tag: &str) -> Option<String> {
        Some(format!("{}\"", tag.strip_suffix(&self.suffix)?))
    }
}

/// `Cache-Control` of a playlist with a viewer's authority in it: kept for that viewer, asked for again each time.
pub const REWRITTEN: &str = "private, no-cache";

/// `Cache-Control` of answers of our own: what is refused now may be allowed in a moment.
pub const REFUSED: &str = "no-store";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rewrite::Kind;

    const PLAYLIST: Class = Class::Document(Kind::Playlist);

    #[test]
    fn an_object_is_kept_by_its_viewer_only() {
        for (stored, said) in [
            (None, "private"),
            (Some(""), "private"),
            (Some("max-age=31536000, immutable"), "private, max-age=31536000, immutable"),
            (Some("Public,s-maxage=60,max-age=5"), "private, max-age=5"),
            (Some("no-store"), "private, no-store"),
            (Some("private=\"x, y\", max-age=5"), "private, max-age=5"),
            (Some("no-cache=\"x, public\""), "private, no-cache=\"x, public\""),
        ] {
            assert_eq!(for_one_viewer(stored, Class::Other), said);
        }
    }

    #[test]
    fn a_segment_never_changes_unless_its_store_says_so() {
        assert_eq!(for_one_viewer(None, Class::Segment), "private, max-age=31536000, immutable");
        assert_eq!(for_one_viewer(Some(" "), Class::Segment), "private, max-age=31536000, immutable");
        assert_eq!(for_one_viewer(Some("max-age=5"), Class::Segment), "private, max-age=5");
        assert_eq!(for_one_viewer(Some("public"), Class::Segment), "private");
    }

    #[test]
    fn the_edge_keeps_what_its_store_lets_it_for_as_long_as_its_operator_says() {
        let lifetimes = Lifetimes { segments: 1000, documents: 5 };
        let seconds = |class, stored: &str| {
            let cache_control = Some(stored.to_owned()).filter(|stored| !stored.is_empty());
            lifetimes.seconds(class, &Metadata { size: 10, cache_control, ..Metadata::default() })
        };
        for (stored, kept) in [
            ("", 1000),
            ("max-age=31536000, immutable", 1000),
            ("max-age=60", 60),
            ("Max-Age=\"60\"", 60),
            ("max-age=60, s-maxage=600", 600),
            ("s-maxage=9999999999999999999999, max-age=1", 1000),
            ("s-maxage=0, max-age=60", 0),
            ("max-age=0", 0),
            ("max-age", 0),
            ("max-age=-1", 0),
            ("max-age=a", 0),
            ("no-store", 0),
            ("max-age=60, no-cache", 0),
            ("Private, max-age=60", 0),
            ("no-cache=\"set-cookie\"", 0),
        ] {
            assert_eq!(seconds(Class::Segment, stored), kept, "{stored}");
        }
        assert_eq!((seconds(PLAYLIST, ""), seconds(PLAYLIST, "max-age=3")), (5, 3));
        assert_eq!(seconds(Class::Other, "max-age=60"), 0);
        let long = |size| lifetimes.seconds(Class::Segment, &Metadata { size, ..Metadata::default() });
        assert_eq!((long(LARGEST), long(LARGEST + 1)), (1000, 0));
        let packed = Metadata { content_encoding: Some("gzip".to_owned()), ..Metadata::default() };
        assert_eq!(lifetimes.seconds(PLAYLIST, &packed), 0);
    }

    #[test]
    fn a_document_has_another_tag_for_whatever_is_written_into_it() {
        let host = |name: &str| Host::parse(name.as_bytes()).unwrap();
        let editions = [
            Edition::of("Policy=1", &[], Encoding::Identity),
            Edition::of("Policy=1", &[], Encoding::Gzip),
            Edition::of("Policy=2", &[], Encoding::Identity),
            Edition::of("Policy=1", &[host("a.example")], Encoding::Identity),
            Edition::of("Policy=1", &[host("a.example:8443")], Encoding::Identity),
        ];
        let stored = "\"9d15-2\"";
        let tags: Vec<_> = editions.iter().map(|edition| edition.tag(Some(stored)).unwrap()).collect();
        for (i, (edition, tag)) in editions.iter().zip(&tags).enumerate() {
            assert!(
                tag.starts_with("\"9d15-2-") && tag.ends_with('"') && tag.matches('"').count() == 2,
                "{tag}"
            );
            assert_eq!(edition.stored(tag).as_deref(), Some(stored));
            assert_eq!(tags.iter().filter_map(|tag| edition.stored(tag)).count(), 1, "{i}");
            for none in [None, Some("W/\"1\""), Some("1"), Some("")] {
                assert_eq!(edition.tag(none), None);
            }
            for other in ["", "\"\"", stored, "*"] {
                assert_eq!(edition.stored(other), None);
            }
        }
    }
}
