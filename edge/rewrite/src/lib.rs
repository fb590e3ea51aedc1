//! Hands the viewer's authority on to everything that a document links to, while the document passes through.
//!
//! Chunks go in and chunks come out, and what is held in between is a line at most, so that a playlist of any length
//! takes the same memory. Where the links are is the documents' own matter: `playlist`, `webvtt` and `json` know.
//! Every other byte leaves as it came.
//!
//! ```text
//! chunks ─▶ Rewriter ─▶ text, authority, text … ─▶ as it is, or Gzip ─▶ parts
//!              └ Playlist, Cues or json say where a link is, Place whose it is
//! ```
//!
//! A crate of its own because all of this walks over every byte: the Worker has it compiled for speed, and the rest of
//! the edge for size. Nothing in it can panic on what a bucket holds, as in the edge.

#![cfg_attr(
    not(test),
    deny(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

use std::mem;

use memchr::memchr;

use gzip::Gzip;
use link::{Joint, Place};
use playlist::{Playlist, plain_line};
use webvtt::Cues;

pub mod gzip;
mod json;
pub mod link;
mod playlist;
mod webvtt;

/// The longest line that is read, in bytes; RFC 8216bis knows no limit, and no real playlist comes near this one.
pub const LONGEST_LINE: usize = 64 * 1024;

/// The longest JSON in which links are looked for, in bytes. What is longer is no asset list, and leaves as it came.
const LONGEST_JSON: usize = 1024 * 1024;

/// A kind of document that links to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// HLS.
    Playlist,
    /// `WebVTT`, whose cues may name the pictures of a storyboard.
    Cues,
    /// JSON beside a playlist: an asset list, a steering manifest, chapters.
    Json,
}

impl Kind {
    /// What an object is by its name: the answer is needed before the object is asked for.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let (_, extension) = name.rsplit_once('.')?;
        let is = |known: &str| extension.eq_ignore_ascii_case(known);
        if is("m3u8") || is("m3u") {
            Some(Self::Playlist)
        } else if is("vtt") {
            Some(Self::Cues)
        } else {
            is("json").then_some(Self::Json)
        }
    }
}

/// How what goes out is encoded.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// In a gzip stream, in which the authority is written out once.
    Gzip,
}

/// A document on its way out.
#[derive(Debug)]
pub struct Rewriter {
    place: Place,
    reader: Reader,
    /// What came after the last line end.
    carry: Vec<u8>,
    joints: Vec<Joint>,
    out: Output,
}

/// Who finds the links.
#[derive(Debug)]
enum Reader {
    /// Nothing but blanks so far; a byte order mark may come first of all.
    Unbegun {
        first: bool,
    },
    Playlist(Playlist),
    Cues(Cues),
    Json,
    /// What is none of them leaves as it came.
    Other,
}

impl Reader {
    /// Finds the joints of a line, or of what there is of one that is too long: that is a playlist which is not served,
    /// or is none.
    fn line(&mut self, line: &[u8], place: &Place, joints: &mut Vec<Joint>) -> Result<(), TooLong> {
        if let Some(beginning) = line.get(..LONGEST_LINE).filter(|_| line.len() > LONGEST_LINE) {
            self.begin(beginning);
            if let Self::Playlist(_) = self {
                return Err(TooLong::Line);
            }
            *self = Self::Other;
        }
        match self {
            Self::Playlist(playlist) => playlist.line(line, place, joints)?,
            Self::Cues(cues) => {
                if !cues.line(line, place, joints) {
                    *self = Self::Other;
                }
            }
            Self::Unbegun { .. } => self.begin(line),
            Self::Json | Self::Other => {}
        }
        Ok(())
    }

    /// Tells by a line whether a playlist begins with it.
    fn begin(&mut self, line: &[u8]) {
        let Self::Unbegun { first } = *self else { return };
        let text = line.strip_prefix(b"\xef\xbb\xbf").filter(|_| first).unwrap_or(line).trim_ascii_start();
        if text.starts_with(b"#EXTM3U") {
            *self = Self::Playlist(Playlist::default());
        } else if text.is_empty() {
            *self = Self::Unbegun { first: false };
        } else {
            *self = Self::Other;
        }
    }
}

impl Rewriter {
    /// Begins a document of a kind that is found at a place.
    #[must_use]
    pub fn new(kind: Kind, place: Place, encoding: Encoding) -> Self {
        let reader = match kind {
            Kind::Playlist => Reader::Unbegun { first: true },
            Kind::Cues => Reader::Cues(Cues::default()),
            Kind::Json => Reader::Json,
        };
        let out = Output::new(encoding, place.authority().as_bytes());
        Self { place, reader, carry: Vec::new(), joints: Vec::new(), out }
    }

    /// Reads on, up to the end of `chunk` or until `enough` bytes wait to be taken. Says how many bytes it has read.
    pub fn push(&mut self, chunk: &[u8], enough: usize) -> Result<usize, TooLong> {
        let mut read = 0;
        if !self.carry.is_empty() {
            read = memchr(b'\n', chunk).map_or(chunk.len(), |end| end + 1);
            self.carry.extend_from_slice(chunk.get(..read).unwrap_or_default());
            self.look_at_carry()?;
        }
        self.out.expect(chunk.len().saturating_sub(read), enough);
        let mut copied = read;
        while self.out.len() < enough && read < chunk.len() {
            if let Reader::Other = self.reader {
                read = chunk.len();
                break;
            }
            let rest = chunk.get(read..).unwrap_or_default();
            if let (Reader::Playlist(_), Some(line)) = (&self.reader, plain_line(rest)) {
                if let Some(end) = line.link {
                    self.out.text(chunk.get(copied..read + end).unwrap_or_default());
                    self.out.authority(b"?");
                    copied = read + end;
                }
                read += line.length;
                continue;
            }
            let end = memchr(b'\n', rest).filter(|_| !matches!(self.reader, Reader::Json));
            let Some(line) = end.and_then(|end| rest.get(..=end)) else {
                self.out.text(chunk.get(copied..read).unwrap_or_default());
                self.carry.extend_from_slice(rest);
                self.look_at_carry()?;
                return Ok(chunk.len());
            };
            self.reader.line(line, &self.place, &mut self.joints)?;
            for Joint { at, joiner } in self.joints.drain(..) {
                self.out.text(chunk.get(copied..read + at).unwrap_or_default());
                self.out.authority(joiner);
                copied = read + at;
            }
            read += line.len();
        }
        self.out.text(chunk.get(copied..read).unwrap_or_default());
        Ok(read)
    }

    /// Ends the document. What waits then is all that is left.
    pub fn finish(&mut self) -> Result<(), TooLong> {
        if let Reader::Json = self.reader {
            self.joints = json::joints(&self.carry, &self.place);
        } else {
            self.reader.line(&self.carry, &self.place, &mut self.joints)?;
        }
        if let Reader::Unbegun { .. } = self.reader {
            self.reader = Reader::Other;
        }
        self.write_carry();
        self.out.finish();
        Ok(())
    }

    /// Takes what is ready.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        self.out.take()
    }

    /// How many bytes wait to be taken.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.out.len()
    }

    /// Whether it has turned out to be something else than its name says, and leaves as it came.
    #[must_use]
    pub fn is_other(&self) -> bool {
        matches!(self.reader, Reader::Other)
    }

    /// Reads and writes what has been carried along, if that is a line by now, or more than is carried.
    fn look_at_carry(&mut self) -> Result<(), TooLong> {
        if let Reader::Json = self.reader {
            if self.carry.len() > LONGEST_JSON {
                self.reader = Reader::Other;
                self.write_carry();
            }
        } else if self.carry.ends_with(b"\n") || self.carry.len() > LONGEST_LINE {
            self.reader.line(&self.carry, &self.place, &mut self.joints)?;
            self.write_carry();
        }
        Ok(())
    }

    fn write_carry(&mut self) {
        let mut copied = 0;
        for Joint { at, joiner } in self.joints.drain(..) {
            self.out.text(self.carry.get(copied..at).unwrap_or_default());
            self.out.authority(joiner);
            copied = at;
        }
        self.out.text(self.carry.get(copied..).unwrap_or_default());
        self.carry.clear();
    }
}

/// What is ready to go out.
#[derive(Debug)]
enum Output {
    /// `joined` is the authority behind a `?`, as most links take it.
    Identity {
        joined: Vec<u8>,
        out: Vec<u8>,
    },
    Gzip(Box<Gzip>),
}

impl Output {
    fn new(encoding: Encoding, authority: &[u8]) -> Self {
        match encoding {
            Encoding::Identity => Self::Identity { joined: [b"?", authority].concat(), out: Vec::new() },
            Encoding::Gzip => Self::Gzip(Box::new(Gzip::new(authority))),
        }
    }

    /// Makes room for what may come of a chunk of this length, as a whole: growing bit by bit would copy it twice.
    fn expect(&mut self, length: usize, enough: usize) {
        const SHORT_LINK: usize = 24;
        if let Self::Identity { joined, out } = self {
            let room = length.saturating_add(length / SHORT_LINK * joined.len());
            out.reserve(room.min(enough.saturating_sub(out.len()).saturating_add(LONGEST_LINE)));
        }
    }

    fn text(&mut self, text: &[u8]) {
        match self {
            Self::Identity { out, .. } => out.extend_from_slice(text),
            Self::Gzip(gzip) => gzip.text(text),
        }
    }

    fn authority(&mut self, joiner: &[u8]) {
        match self {
            Self::Identity { joined, out } if joiner == b"?" => out.extend_from_slice(joined),
            Self::Identity { joined, out } => {
                out.extend_from_slice(joiner);
                out.extend_from_slice(joined.get(1..).unwrap_or_default());
            }
            Self::Gzip(gzip) => {
                gzip.text(joiner);
                gzip.authority();
            }
        }
    }

    fn finish(&mut self) {
        if let Self::Gzip(gzip) = self {
            gzip.finish();
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Identity { out, .. } => out.len(),
            Self::Gzip(gzip) => gzip.len(),
        }
    }

    fn take(&mut self) -> Vec<u8> {
        match self {
            Self::Identity { out, .. } => mem::take(out),
            Self::Gzip(gzip) => gzip.take(),
        }
    }
}

/// A playlist that asks for more memory than there is for one viewer's.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TooLong {
    /// One of its lines is too long.
    #[error("the playlist has a line of more than {LONGEST_LINE} bytes")]
    Line,
    /// Its variables are, or what they stand for in all of its links.
    #[error("the playlist's variables are too long, or stand in too many links")]
    Variables,
}
