//! Captions: found beside a video or in it, read, and cut into the segments of a rendition.
//!
//! Segments are WebVTT ([RFC 8216 §3.5]). Each names every cue that is to be seen during it, with the cue's own
//! times, so a cue across a boundary stands in both segments, word for word. Players show it once: hls.js gives a
//! cue without an identifier one made of its times and text and adds none twice (`generateCueId` in its
//! `webvtt-parser.ts`, `addCueToTrack` in `texttrack-utils.ts`); Shaka compares times and text
//! (`text_utils.js`) or all of a cue (`ui_text_displayer.js`); for Apple's players the repetition is the rule that they made.
//! ffmpeg from 8 on passes both on. A cue cut in two instead would be two cues to all of them (hls.js [#6681]).
//!
//! Because hls.js leaves out a cue whose identifier it has seen ([#4563]), identifiers that are not unique, which
//! they have to be ([WebVTT §4.1]) and often are not, are not kept.
//!
//! Styles and regions are in every segment, which is read on its own. ffmpeg before 8 reads nothing that follows one,
//! but it does not read the captions of streams either, unless told to.
//!
//! What is read comes from a stranger. All work and output is bounded, and nothing of it reaches a segment but as
//! the text, settings and style of cues.
//!
//! [RFC 8216 §3.5]: https://www.rfc-editor.org/rfc/rfc8216#section-3.5
//! [WebVTT §4.1]: https://www.w3.org/TR/webvtt1/#webvtt-cue-identifier
//! [#4563]: https://github.com/video-dev/hls.js/issues/4563
//! [#6681]: https://github.com/video-dev/hls.js/issues/6681

#![expect(clippy::doc_markdown, reason = "WebVTT and SubRip are names")]

mod beside;
mod srt;
mod text;
mod vtt;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use beside::{Beside, beside};
pub(crate) use beside::{among, is_captions};

/// Largest captions file that is read, in bytes. Those of a feature film have about 100 KB.
pub const LARGEST: u64 = 16 << 20;

/// How much all segments of one rendition may hold together, in bytes. It takes cues that span the entire video to
/// make many times more of a file than it was.
const LARGEST_RENDITION: u64 = 8 * LARGEST;

/// `CHARACTERISTICS` of captions for those who do not hear, by Apple's [authoring guide] and [RFC 8216 §4.3.4.1].
///
/// [authoring guide]: https://developer.apple.com/documentation/http-live-streaming/hls-authoring-specification-for-apple-devices
/// [RFC 8216 §4.3.4.1]: https://www.rfc-editor.org/rfc/rfc8216#section-4.3.4.1
pub const FOR_HEARING_IMPAIRED: &str =
    "public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound";

/// `AUTOSELECT` of every rendition of captions. A player may then choose it by language where its viewer wants
/// captions; and forced ones (`FORCED=YES`: what a viewer needs who reads no captions, such as a sign in another
/// language) are never shown without, because there is no menu to choose them from.
pub const AUTOSELECT: bool = true;

/// How ffmpeg gets captions out of a container, as a file that [`Cues::read`] reads and that has all that the
/// container had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Extraction {
    /// For `-c:s`.
    pub encoder: &'static str,
    /// For `-f`.
    pub format: &'static str,
    /// Of the file, without a dot.
    pub extension: &'static str,
}

impl Extraction {
    /// The options of an output that is the stream of this number, as one would type them.
    ///
    /// ffmpeg counts time from the beginning of the file for every output alike, so the cues are in time with what
    /// filters make of picture and sound that begin with `start_time=0`. It must not move an output just because
    /// some cue is from before that; those times are negative in the file, and [`Cues::parse_srt`] knows them.
    #[must_use]
    pub fn options(self, stream: u32) -> String {
        let Self { encoder, format, .. } = self;
        format!("-map 0:{stream} -c:s {encoder} -avoid_negative_ts disabled -f {format}")
    }
}

/// How to get captions out that are in this codec, by ffprobe's name. `None` for those that are pictures, and those
/// that stock builds of ffmpeg have no decoder for.
///
/// What is SubRip or WebVTT already is copied. All else becomes SubRip: ffmpeg's WebVTT (5.1) loses where a line
/// stands, and escapes nothing, so that what looks like a tag is not shown.
#[must_use]
pub fn extraction(codec: &str) -> Option<Extraction> {
    let sub_rip = |encoder| Some(Extraction { encoder, format: "srt", extension: "srt" });
    match codec {
        "webvtt" => Some(Extraction { encoder: "copy", format: "webvtt", extension: "vtt" }),
        "subrip" | "srt" => sub_rip("copy"),
        "mov_text" | "ass" | "ssa" | "text" | "jacosub" | "microdvd" | "mpl2" | "pjs" | "realtext"
        | "sami" | "stl" | "subviewer" | "subviewer1" | "vplayer" => sub_rip("srt"),
        _ => None,
    }
}

/// Whether captions in this codec, by ffprobe's name, are text. Those of discs and broadcasts are pictures.
#[must_use]
pub fn is_text(codec: &str) -> bool {
    extraction(codec).is_some()
}

/// All cues of a captions file, ordered by when they start; those that start together, as they stand in the file.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cues {
    /// `STYLE` and `REGION` blocks, each without an empty line in it, as they stand in the file.
    pub header: Vec<String>,
    /// The cues.
    pub cues: Vec<Cue>,
    /// How many more there were that no player would show: times that cannot be read or end before they begin, or
    /// no text.
    pub dropped: usize,
}

/// A cue. Its text and settings are WebVTT.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cue {
    /// When it appears, in milliseconds.
    pub start: u64,
    /// When it disappears, in milliseconds; later than it appears.
    pub end: u64,
    /// What a style may call it by; unique in the file.
    pub id: Option<String>,
    /// Where it stands, such as `line:0 align:start`; empty for the usual place.
    pub settings: String,
    /// Its lines, none of them empty, and no `-->` in them.
    pub text: String,
}

impl Cues {
    /// Reads a captions file in any of the encodings that those have.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = text::bytes(path)?;
        Self::parse(&text::decode(&bytes)).map_err(|reason| Error::Invalid { path: path.into(), reason })
    }

    /// Reads WebVTT, which says that it is, or else SubRip.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if vtt::has_signature(text) { Self::parse_vtt(text) } else { Self::parse_srt(text) }
    }

    /// In order, without what no player would show or some would trip over.
    fn tidy(mut self) -> Result<Self, Invalid> {
        let all = self.cues.len();
        self.cues.retain(|cue| cue.start < cue.end && !cue.text.trim().is_empty());
        self.dropped += all - self.cues.len();
        if self.cues.is_empty() {
            return Err(Invalid::Empty { dropped: self.dropped });
        }
        self.cues.sort_by_key(|cue| cue.start);

        let mut times_used = HashMap::new();
        for id in self.cues.iter().filter_map(|cue| cue.id.clone()) {
            *times_used.entry(id).or_insert(0) += 1;
        }
        for cue in &mut self.cues {
            cue.id = cue.id.take().filter(|id| times_used.get(id) == Some(&1));
        }
        Ok(self)
    }
}

/// The segments of a rendition of captions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Segmented {
    /// Each a file of WebVTT, as many as there are segments of picture.
    pub segments: Vec<String>,
    /// How many cues begin only after the content ends, and so are in none.
    pub beyond: usize,
}

/// Cuts captions into segments, which end at `ends`, in order, and the first of which begins at 0.
///
/// `mpegts` is what a media timestamp of the same moment as 0 is, at 90 kHz: 0 for fragmented MP4 whose timeline
/// starts there, 126,000 for what ffmpeg writes as transport stream.
pub fn segments(cues: &Cues, ends: &[Duration], mpegts: u64) -> Result<Segmented, TooLong> {
    let mut header = format!("WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{mpegts},LOCAL:00:00:00.000\n\n");
    for block in &cues.header {
        header.extend([block, "\n\n"]);
    }

    // What there will be is counted before it is made.
    let mut bytes = (header.len() as u64).saturating_mul(ends.len() as u64);
    let mut shown = Vec::with_capacity(cues.cues.len());
    for cue in &cues.cues {
        let (start, end) = (Duration::from_millis(cue.start), Duration::from_millis(cue.end));
        let first = ends.partition_point(|&ends| ends <= start);
        // One that ends with a segment is not in the next one.
        let last = (ends.partition_point(|&ends| ends < end) + 1).min(ends.len());
        if first < last {
            let text = written(cue);
            bytes = bytes.saturating_add((text.len() as u64).saturating_mul((last - first) as u64));
            if bytes > LARGEST_RENDITION {
                return Err(TooLong);
            }
            shown.push((first..last, text));
        }
    }
    if bytes > LARGEST_RENDITION {
        return Err(TooLong);
    }

    let mut segments = vec![header; ends.len()];
    let beyond = cues.cues.len() - shown.len();
    for (within, text) in shown {
        for segment in &mut segments[within] {
            segment.push_str(&text);
        }
    }
    Ok(Segmented { segments, beyond })
}

/// A cue, and the empty line after it. The last one has it too, because there are players that read the segments as
/// one file (ffmpeg before 8), to whom the header of the next would be more of its text.
fn written(cue: &Cue) -> String {
    let id = cue.id.as_ref().map(|id| format!("{id}\n")).unwrap_or_default();
    let (start, end) = (clock(cue.start), clock(cue.end));
    let settings = if cue.settings.is_empty() { String::new() } else { format!(" {}", cue.settings) };
    format!("{id}{start} --> {end}{settings}\n{}\n\n", cue.text)
}

/// `00:01:02.500`
pub(crate) fn clock(milliseconds: u64) -> String {
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    format!("{:02}:{:02}:{:02}.{rest:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// Why a captions file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or not ours to read.
    #[error("cannot read the captions {path} ({source}): make the file readable, or take it away", path = path.display())]
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Larger than [`LARGEST`].
    #[error(
        "the captions {path} have {bytes} bytes, more than the {LARGEST} that captions may have: is it another \
         kind of file?", path = path.display()
    )]
    TooLarge {
        /// Where it is.
        path: PathBuf,
        /// Its size, as far as it was looked at.
        bytes: u64,
    },
    /// It was read, and does not say what a captions file says.
    #[error("the captions {path} are of no use: {reason}", path = path.display())]
    Invalid {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: Invalid,
    },
}

impl Error {
    /// Whether it is a sound captions file, only without a cue: no reason not to publish a video.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Invalid { reason: Invalid::Empty { dropped: 0 }, .. })
    }
}

/// What is wrong with the text of a captions file.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// No captions.
    #[error(
        "line {line} is \"{found}\", where WebVTT begins with \"WEBVTT\", and SubRip has times like \
         \"00:00:01,000 --> 00:00:02,500\"; save it as one of the two, or take it away"
    )]
    NotCaptions {
        /// The first line that should have been another, from 1.
        line: usize,
        /// How it begins.
        found: String,
    },
    /// Captions without a cue that could be shown.
    #[error("there is no cue in it that can be shown, and {dropped} that cannot; fill it, or take it away")]
    Empty {
        /// How many cannot.
        dropped: usize,
    },
}

impl Invalid {
    /// How a line begins that is no caption, fit for one line of a terminal.
    fn line(number: usize, line: &str) -> Self {
        let found = line.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
        Self::NotCaptions { line: number, found }
    }
}

/// Captions that would make many times more of themselves than they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "cut into segments, these captions would have more than {LARGEST_RENDITION} bytes: too many of their cues span \
     all of the video; shorten those"
)]
pub struct TooLong;

#[cfg(test)]
mod tests;
