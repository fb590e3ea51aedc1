//! Where objects come from: R2 or S3 behind a Worker, a folder in a test.

use crate::key_group::Grant;

/// A store of objects, which opens only to somebody who was let in.
#[expect(async_fn_in_trait, reason = "Workers futures are not Send, and nobody spawns these")]
pub trait Origin {
    /// The bytes of an object, still on their way. Dropped, they are not wanted any more.
    type Body;

    /// Fetches what was granted, or what is wanted of it.
    async fn get(&self, grant: &Grant, wanted: &Wanted<'_>) -> Result<Object<Self::Body>, Miss>;

    /// Says what `get` would fetch, without fetching it.
    async fn head(&self, grant: &Grant) -> Result<Metadata, Miss>;

    /// Reads on in a body; `None` at its end. Only of documents that are rewritten: all else is none of our business.
    async fn chunk(&self, body: &mut Self::Body) -> Result<Option<Vec<u8>>, Miss>;
}

/// What is wanted of an object: without anything said, all of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// A part of it.
    pub range: Option<ByteRange>,
    /// The entity tag, in quotes, that the asker has already. A store that has the same may say [`Miss::Unchanged`] and
    /// send nothing; it need not.
    pub unless: Option<&'a str>,
}

/// An object, or a part of it.
#[derive(Debug)]
pub struct Object<B> {
    /// What its store says of the whole.
    pub metadata: Metadata,
    /// The offsets of the first and the last byte, where these are a part of it. A store may ignore that one was wanted.
    pub part: Option<(u64, u64)>,
    /// The bytes.
    pub body: B,
}

impl<B> Object<B> {
    /// All of it.
    pub fn whole(metadata: Metadata, body: B) -> Self {
        Self { metadata, part: None, body }
    }

    /// The same, with its bytes as something else.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Object<C> {
        let Self { metadata, part, body } = self;
        Object { metadata, part, body: change(body) }
    }
}

/// What a store says of an object.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metadata {
    /// Bytes of the whole object, whatever part was asked for.
    pub size: u64,
    /// Its entity tag, in quotes.
    pub etag: Option<String>,
    /// When it was last modified, as an HTTP date.
    pub last_modified: Option<String>,
    /// The media type it was stored with.
    pub content_type: Option<String>,
    /// How its bytes are encoded, `gzip` say.
    pub content_encoding: Option<String>,
    /// The `Cache-Control` it was stored with.
    pub cache_control: Option<String>,
    /// How long ago its store said so, in seconds, where that was not just now.
    pub age: Option<u64>,
}

impl Metadata {
    /// How long the object is, or the part of it between two offsets, in bytes.
    #[must_use]
    pub fn length(&self, part: Option<(u64, u64)>) -> u64 {
        part.map_or(self.size, |(first, last)| last.saturating_add(1).saturating_sub(first))
    }
}

/// Why there is no object.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Miss {
    /// There is none of that name.
    #[error("no such object")]
    NotFound,
    /// Who asks for us may not know whether there is one.
    #[error(
        "the store does not say whether there is such an object: that takes s3:GetObject on it, and s3:ListBucket"
    )]
    Hidden,
    /// It is there, but does not have such a range.
    #[error("no such range in {} bytes", .0.size)]
    Range(Box<Metadata>),
    /// The asker has it already.
    #[error("unchanged")]
    Unchanged(Box<Metadata>),
    /// The store has not answered in time.
    #[error("origin: no answer in {0} s")]
    Late(u32),
    /// The store could not be asked.
    #[error("origin: {0}")]
    Failed(String),
}

/// One range of bytes, as a viewer asks for it ([RFC 9110 §14.1.2]).
///
/// [RFC 9110 §14.1.2]: https://www.rfc-editor.org/rfc/rfc9110#section-14.1.2
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ByteRange {
    /// `bytes=first-last`, both included; without `last`, to the end.
    From {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: Option<u64>,
    },
    /// `bytes=-length`.
    Last {
        /// How many bytes from the end.
        length: u64,
    },
}

impl ByteRange {
    /// Reads a `Range` header. `None` is an answer with the whole object: for several ranges, which a server
    /// may answer so, and for what is no range of bytes, which it must.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, range) = header.split_once('=')?;
        let (first, last) = range.trim().split_once('-')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        if first.is_empty() {
            return Some(Self::Last { length: offset(last)? });
        }
        let (first, last) = match last {
            "" => (offset(first)?, None),
            last => (offset(first)?, Some(offset(last)?)),
        };
        last.is_none_or(|last| first <= last).then_some(Self::From { first, last })
    }

    /// As a `Range` header says it.
    #[must_use]
    pub fn to_header(&self) -> String {
        match *self {
            Self::From { first, last: Some(last) } => format!("bytes={first}-{last}"),
            Self::From { first, last: None } => format!("bytes={first}-"),
            Self::Last { length } => format!("bytes=-{length}"),
        }
    }

    /// The offsets of the first and the last byte of this range in an object of `size` bytes; `None` if it has
    /// none of them.
    #[must_use]
    pub fn within(&self, size: u64) -> Option<(u64, u64)> {
        let end = size.checked_sub(1)?;
        match *self {
            Self::From { first, last } => (first <= end).then(|| (first, last.unwrap_or(end).min(end))),
            Self::Last { length: 0 } => None,
            Self::Last { length } => Some((size.saturating_sub(length), end)),
        }
    }
}

/// Beyond what fits, an offset is as good as the largest.
fn offset(digits: &str) -> Option<u64> {
    let digits = Some(digits).filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))?;
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9110 §14.1.2 has the examples with 10,000 bytes.
    #[test]
    fn a_range_is_read_as_the_rfc_reads_it() {
        let within = |header, size| ByteRange::parse(header).map(|range| range.within(size));
        assert_eq!(within("bytes=0-499", 10_000), Some(Some((0, 499))));
        assert_eq!(within("bytes=500-999", 10_000), Some(Some((500, 999))));
        assert_eq!(within("bytes=-500", 10_000), Some(Some((9_500, 9_999))));
        assert_eq!(within("bytes=9500-", 10_000), Some(Some((9_500, 9_999))));
        assert_eq!(within("BYTES=0-0", 10_000), Some(Some((0, 0))));
        assert_eq!(within("bytes=0-99999", 10_000), Some(Some((0, 9_999))));
        assert_eq!(within("bytes=-99999", 10_000), Some(Some((0, 9_999))));
        assert_eq!(within("bytes=0-99999999999999999999", 10), Some(Some((0, 9))));
    }

    #[test]
    fn a_range_beyond_the_end_is_unsatisfiable() {
        for (header, size) in [
            ("bytes=10000-", 10_000),
            ("bytes=-0", 10_000),
            ("bytes=0-", 0),
            ("bytes=-5", 0),
            ("bytes=99999999999999999999-", 9),
        ] {
            assert_eq!(ByteRange::parse(header).unwrap().within(size), None, "{header}");
        }
    }

    #[test]
    fn what_is_no_single_range_is_answered_whole() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-4",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1 -2",
        ] {
            assert_eq!(ByteRange::parse(header), None, "{header}");
        }
    }
}
