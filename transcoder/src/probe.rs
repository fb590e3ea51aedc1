//! What a source is, by `ffprobe`.
//!
//! A source comes from a stranger. It is opened as one of a list of self-contained formats and from this one
//! file only, because to ffmpeg a playlist is a video too, and one that names other files and other hosts.
//!
//! What a file says of itself is only believed where it indexes every sample, as MP4 does. Of any other, all packets
//! are looked at first: that takes seconds, and an encode that turns out wrong takes hours.

mod boxes;
mod report;
mod scan;
pub(crate) mod seconds;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::process::Command;

use report::Report;

/// The formats that carry video or sound in one file, by the names of ffmpeg's demuxers. Not in it: everything
/// that reads other files (`hls`, `dash`, `concat`, `image2`, `sdp` …).
const FORMATS: &str = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,mxf,gxf,dv,rm,nut,ivf,\
    h264,hevc,m4v,obu,gif,yuv4mpegpipe,mp3,aac,ac3,eac3,flac,wav,w64,aiff,caf,au,amr";

/// How much is read to find out what the tracks are, in bytes and microseconds, where that is not in the head: in a
/// transport stream, of sound that begins later than this nobody knows what it is.
const LOOKED_AT: [&str; 4] = ["-probesize", "100M", "-analyzeduration", "60M"];

/// How many pictures are asked whether they are two fields, where their track does not say: ffprobe's `+#` counts them.
const FIRST_PICTURES: &str = "%+#8";

/// How far two statements about the length of a file may differ: tracks seldom end on the same sample.
const LOSS: Duration = Duration::from_secs(1);

/// What the clock of a transport stream counts up to, in seconds: 33 bits at 90 kHz.
const MPEG_CLOCK: f64 = 8_589_934_592.0 / 90_000.0;

/// Tracks that begin later than others by less than this are not worth a note.
pub(crate) const LATE: Duration = Duration::from_millis(100);

/// A source, and everything of it that a plan is made of.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Source {
    /// Where it is; as JSON only its file name.
    #[serde(rename = "name", serialize_with = "file_name", deserialize_with = "path")]
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its kind of file, in ffprobe's words.
    pub container: String,
    /// Its playing time, that of its picture where it has one. In JSON, as all durations here, in seconds.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// Its picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<Video>,
    /// Its sound, a track for each language or so, in the file's order.
    pub audio: Vec<Audio>,
    /// The captions in it.
    pub captions: Vec<Captions>,
    /// Where its clock jumps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jumps: Vec<Jump>,
    /// Whether ffmpeg goes on after a jump by itself.
    #[serde(skip)]
    pub restarts: bool,
    /// What was found to be wrong with it, or left out, in words. They go into the plan's.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// The picture of a source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Video {
    /// Its number in the file.
    pub stream: u32,
    /// Its codec, in ffprobe's words.
    pub codec: String,
    /// Its codec's profile, in ffprobe's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Width as it is to be shown: turned upright, in square pixels.
    pub width: u32,
    /// Height as it is to be shown.
    pub height: u32,
    /// Width as it is stored.
    pub coded_width: u32,
    /// Height as it is stored.
    pub coded_height: u32,
    /// How its pixels are stored, in ffmpeg's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pixel_format: Option<String>,
    /// Whether every picture is two, of every other line.
    pub is_interlaced: bool,
    /// What its numbers mean.
    pub colour: Colour,
    /// How bright it may become, where the file says that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mastering: Option<Mastering>,
    /// Whether there are captions within the picture's own data (CEA-608 or 708).
    pub closed_captions: bool,
    /// Which profile of Dolby Vision it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dolby_vision: Option<u32>,
    /// The frame rate that all timestamps are multiples of, as ffprobe guesses it.
    pub base_rate: Option<Rate>,
    /// How many frames there are for each second.
    pub average_rate: Option<Rate>,
    /// Bits a second, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<u64>,
    /// When it begins, from the beginning of the file.
    #[serde(with = "seconds")]
    pub start: Duration,
    /// When it ends, from the beginning of the file.
    #[serde(with = "seconds")]
    pub end: Duration,
}

/// What the numbers of a picture mean, in ffmpeg's words (those of ITU-T H.273); nothing where it is not said.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Colour {
    /// `tv` from 16 to 235, `pc` from 0 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<String>,
    /// From red, green and blue to luma and chroma.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<String>,
    /// From light to signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
    /// Which red, green and blue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primaries: Option<String>,
}

/// How bright a picture may become.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Mastering {
    /// The display that it was made on (SMPTE ST 2086): green, blue, red and white, x and y each in 0.00002, then the
    /// most and the least luminance in 0.0001 cd/m².
    pub display: Option<[u32; 10]>,
    /// The brightest pixel and the brightest picture on average (CTA-861.3), in cd/m².
    pub light: Option<(u32, u32)>,
}

/// A track of sound of a source.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Audio {
    /// Its number in the file.
    pub stream: u32,
    /// Its codec, in ffprobe's words.
    pub codec: String,
    /// Its codec's profile, in ffprobe's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// How many channels it has.
    pub channels: u32,
    /// Which they are, in ffmpeg's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Samples a second.
    pub sample_rate: u32,
    /// Bits a second, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<u64>,
    /// Its language, as the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Its title, as the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether it is the one to be heard if nobody chooses.
    pub is_default: bool,
    /// Whether somebody talks about the film.
    pub is_commentary: bool,
    /// Whether somebody says what is to be seen.
    pub describes_video: bool,
    /// How many packets it has, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// When it begins, from the beginning of the file.
    #[serde(with = "seconds")]
    pub start: Duration,
    /// When it ends, from the beginning of the file.
    #[serde(with = "seconds")]
    pub end: Duration,
}

/// Captions in a source.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Captions {
    /// Their number in the file.
    pub stream: u32,
    /// Their codec, in ffprobe's words.
    pub codec: String,
    /// Their language, as the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Their title, as the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether they are to be seen if nobody chooses.
    pub is_default: bool,
    /// Whether they are only what every viewer needs, such as signs.
    pub forced: bool,
    /// Whether they tell of sounds too.
    pub hearing_impaired: bool,
}

/// A place where a file's clock jumps. Times are in seconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Jump {
    /// Where it is in what is played.
    pub at: f64,
    /// By how much; back where it is negative.
    pub by: f64,
    /// A time of the file's own clock within the gap.
    pub clock: f64,
}

/// A frame rate.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rate {
    /// So many frames…
    pub frames: u32,
    /// …in so many seconds; never 0.
    pub seconds: u32,
}

impl Rate {
    /// Frames a second.
    #[must_use]
    pub fn hertz(self) -> f64 {
        f64::from(self.frames) / f64::from(self.seconds)
    }

    /// `30000/1001`; nothing where ffprobe says `0/0`, which is its "unknown".
    fn parse(text: &str) -> Option<Self> {
        let (frames, seconds) = text.split_once(['/', ':'])?;
        let (frames, seconds) = (frames.parse().ok()?, seconds.parse().ok()?);
        (frames > 0 && seconds > 0).then_some(Self { frames, seconds })
    }
}

impl Source {
    /// Its file name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// When its picture ends, or else its longest sound.
    fn longest(&self) -> Duration {
        let video = self.video.as_ref().map(|video| video.end);
        video.or(self.audio.iter().map(|audio| audio.end).max()).unwrap_or_default()
    }
}

fn file_name<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.file_name().unwrap_or_default().to_string_lossy())
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    String::deserialize(deserializer).map(PathBuf::from)
}

/// The options that make ffmpeg and ffprobe read this file and nothing else, whatever is in it.
#[must_use]
pub fn input_options(path: &Path) -> Vec<OsString> {
    // With the protocol named, a path is a path: `-x`, `http:…` and `concat:…` are files too.
    let mut input = OsString::from("file:");
    input.push(path);
    ["-protocol_whitelist", "file", "-format_whitelist", FORMATS]
        .into_iter()
        .chain(LOOKED_AT)
        .chain(["-i"])
        .map(OsString::from)
        .chain([input])
        .collect()
}

/// Asks what a file is.
pub async fn probe(path: &Path) -> Result<Source, Error> {
    let refusal = |reason| Error { input: path.to_owned(), reason };
    let metadata = std::fs::metadata(path).map_err(|error| refusal(Reason::Unreadable(error)))?;
    if metadata.is_dir() {
        return Err(refusal(Reason::Folder));
    }
    if !metadata.is_file() {
        return Err(refusal(Reason::NoRegularFile));
    }
    if metadata.len() == 0 {
        return Err(refusal(Reason::NoBytes));
    }
    // ffmpeg runs elsewhere.
    let path = std::path::absolute(path).map_err(|error| refusal(Reason::Unreadable(error)))?;
    look(&path, metadata.len()).await.map_err(refusal)
}

async fn look(path: &Path, bytes: u64) -> Result<Source, Reason> {
    let boxes = boxes::read(path).map_err(Reason::Unreadable)?;
    let questions = ["-show_format", "-show_streams", "-of", "json"];
    let report = ask(path, &questions).await.map_err(|reason| match reason {
        // To ffprobe, whatever is called .mp4 is one.
        Reason::Truncated if !boxes.is_mp4 => Reason::NotVideo("in spite of its name".to_owned()),
        reason => reason,
    })?;
    let mut source = report.read(path, bytes)?;
    let promised = if source.container.starts_with("mov,") && !boxes.is_fragmented {
        let promised = source.duration;
        cut_off(boxes.share.map_or(promised, |share| promised.mul_f64(share)), promised)?;
        drop_empty(&mut source);
        None
    } else {
        let end = measure(&report, &mut source).await?;
        report.promised().map(|promised| (promised, end))
    };
    if source.video.is_none() && source.audio.is_empty() {
        return Err(Reason::Empty);
    }
    source.duration = source.longest();
    if let Some((promised, end)) = promised {
        cut_off(end, promised)?;
        let ends = source.audio.iter().map(|audio| audio.end);
        let longest = ends.chain(source.video.iter().map(|video| video.end)).max().unwrap_or_default();
        if longest > promised + LOSS {
            let (there, promised) = (longest.as_secs_f64(), promised.as_secs_f64());
            source.notes.push(format!("the file says that it lasts {promised:.1} s; there are {there:.1} s"));
        }
    }
    note_ends(&mut source);
    find_bit_rate(&report, &mut source);
    if let Some(video) = &mut source.video
        && !report.tells_fields(video.stream)
    {
        let stream = video.stream.to_string();
        let first = [
            "-select_streams",
            &stream,
            "-read_intervals",
            FIRST_PICTURES,
            "-show_entries",
            "frame=interlaced_frame",
            "-of",
            "json",
        ];
        video.is_interlaced = ask(path, &first).await?.has_fields();
    }
    if let Some(video) = &mut source.video
        && video.colour.transfer.as_deref() == Some("smpte2084")
    {
        let stream = video.stream.to_string();
        let first = [
            "-select_streams",
            &stream,
            "-read_intervals",
            "%+#1",
            "-show_frames",
            "-show_streams",
            "-of",
            "json",
        ];
        video.mastering = ask(path, &first).await?.mastering();
    }
    Ok(source)
}

/// Whether there is less than the head of a file promises.
fn cut_off(there: Duration, promised: Duration) -> Result<(), Reason> {
    let loss = promised.saturating_sub(there);
    if loss > LOSS && loss > promised / 20 {
        let (there, promised) = (there.as_secs_f64(), promised.as_secs_f64());
        return Err(Reason::CutOff { there, promised });
    }
    Ok(())
}

/// Leaves out what an index has no samples of.
fn drop_empty(source: &mut Source) {
    let notes = &mut source.notes;
    source.audio.retain(|audio| {
        let is_there = !audio.end.is_zero() && audio.packets != Some(0);
        if !is_there {
            notes.push(format!("audio track {} is empty and was left out", audio.stream));
        }
        is_there
    });
    if source.video.as_ref().is_some_and(|video| video.end.is_zero()) {
        source.notes.push("the video track is empty and was left out".to_owned());
        source.video = None;
    }
}

/// Finds out when tracks begin and end by looking at everything, and says when the last of all ends by the file's own
/// clock. Muxers write that as its length, wherever the clock starts, and count captions that outlast the picture.
async fn measure(report: &Report, source: &mut Source) -> Result<Duration, Reason> {
    let video: Vec<u32> = source.video.iter().map(|video| video.stream).collect();
    let audio: Vec<u32> = source.audio.iter().map(|audio| audio.stream).collect();
    let scan = scan::scan(&source.path, &source.container, &video, &audio).await?;
    let tracks = video.iter().chain(&audio).filter_map(|stream| scan.tracks.get(stream));
    let first = tracks.map(|track| track.start).fold(f64::INFINITY, f64::min);
    let begin = report.begin().filter(|begin| (begin - first).abs() < LOSS.as_secs_f64()).unwrap_or(first);
    let find = |stream: u32| {
        let track = scan.tracks.get(&stream)?;
        let (start, end) = (duration(track.start - begin), duration(track.end - begin));
        let length = end.checked_sub(start).filter(|length| !length.is_zero())?;
        Some((start, end, length, *track))
    };
    source.video = source.video.take().and_then(|video| {
        let Some((start, end, length, track)) = find(video.stream) else {
            source.notes.push("the video track is empty and was left out".to_owned());
            return None;
        };
        // Over a jump, ffprobe's average says nothing.
        let counted = if scan.jumps.is_empty() { None } else { rate(track.packets, length) };
        let average_rate = counted.or(video.average_rate);
        Some(Video { start, end, bit_rate: bits(track.bytes, length), average_rate, ..video })
    });
    for mut audio in std::mem::take(&mut source.audio) {
        let Some((start, end, length, track)) = find(audio.stream) else {
            source.notes.push(format!("audio track {} is empty and was left out", audio.stream));
            continue;
        };
        audio.packets = Some(track.packets);
        audio.bit_rate = bits(track.bytes, length);
        (audio.start, audio.end) = (start, end);
        source.audio.push(audio);
    }
    let jumps = scan.jumps.iter();
    source.jumps =
        jumps.map(|jump| Jump { at: jump.at - begin, by: jump.by, clock: jump.clock - begin }).collect();
    source.restarts = scan.restarts();
    for jump in &source.jumps {
        // ffprobe adds what the clock of a transport stream has in all where it seems to have run over.
        let by =
            if jump.by.abs() > MPEG_CLOCK / 2.0 { jump.by - MPEG_CLOCK.copysign(jump.by) } else { jump.by };
        source.notes.push(format!(
            "the file's clock jumps by {by:.1} s at {:.1} s; what comes after goes on from there",
            jump.at
        ));
    }
    let end = scan.tracks.values().map(|track| track.end).fold(0.0, f64::max);
    let jumped: f64 = scan.jumps.iter().map(|jump| jump.by).sum();
    Ok(duration(end + jumped))
}

/// Says what will be filled in because tracks do not begin or end together.
fn note_ends(source: &mut Source) {
    let Some(video) = &source.video else { return };
    if video.start > LATE {
        let seconds = video.start.as_secs_f64();
        source
            .notes
            .push(format!("the picture begins {seconds:.1} s late; until then its first one is shown"));
    }
    for audio in &source.audio {
        if audio.start > video.start + LATE {
            let seconds = audio.start.as_secs_f64();
            source.notes.push(format!(
                "audio track {} begins at {seconds:.1} s; there is silence before",
                audio.stream
            ));
        }
        let missing = video.end.saturating_sub(audio.end);
        if missing > LATE {
            let seconds = missing.as_secs_f64();
            source.notes.push(format!(
                "audio track {} ends {seconds:.1} s before the picture; there is silence after",
                audio.stream
            ));
        }
    }
}

/// Where no track says what it takes, the picture takes what the sound leaves.
fn find_bit_rate(report: &Report, source: &mut Source) {
    let total = report.bit_rate().or_else(|| bits(source.bytes, source.duration));
    let sound: u64 = source.audio.iter().filter_map(|audio| audio.bit_rate).sum();
    if let (Some(video), Some(total)) = (&mut source.video, total)
        && video.bit_rate.is_none()
    {
        video.bit_rate = total.checked_sub(sound).filter(|rate| *rate > 0);
    }
}

fn rate(frames: u64, time: Duration) -> Option<Rate> {
    let frames = u32::try_from(frames.checked_mul(1_000)?).ok().filter(|frames| *frames > 0)?;
    let seconds = u32::try_from(time.as_millis()).ok().filter(|milliseconds| *milliseconds > 0)?;
    Some(Rate { frames, seconds })
}

fn bits(bytes: u64, time: Duration) -> Option<u64> {
    let milliseconds = u64::try_from(time.as_millis()).ok()?;
    bytes.checked_mul(8_000)?.checked_div(milliseconds).filter(|rate| *rate > 0)
}

async fn ask(path: &Path, questions: &[&str]) -> Result<Report, Reason> {
    let output = command(path, questions).output().await.map_err(Reason::of_start)?;
    if !output.status.success() {
        return Err(Reason::of_stderr(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| Reason::Report(error.to_string()))
}

fn command(path: &Path, questions: &[&str]) -> Command {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error"]).args(questions).args(input_options(path));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The last that a program said before it gave up.
pub(crate) fn last_words(text: &str) -> &str {
    text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason given")
}

/// `01:02:03.5` in seconds.
pub(crate) fn clock(text: &str) -> Option<f64> {
    text.split(':').try_fold(0.0, |sum, part| Some(sum * 60.0 + part.trim().parse::<f64>().ok()?))
}

pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// A file that cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", input.display())]
pub struct Error {
    /// The file.
    pub input: PathBuf,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with an input.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// There is none, or it may not be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    /// It is a folder.
    #[error("is a folder: name one video file")]
    Folder,
    /// It is a pipe, a socket or a device.
    #[error("is no regular file: save it to one first")]
    NoRegularFile,
    /// `ffprobe` is missing.
    #[error("ffprobe is not installed: install ffmpeg (`apt-get install ffmpeg`, `brew install ffmpeg`)")]
    NotInstalled,
    /// `ffprobe` is there but did not run.
    #[error("ffprobe did not start: {0}")]
    NotStarted(io::Error),
    /// It is a playlist, a list of images or something else that names other files.
    #[error(
        "is of a kind that is not accepted: upload one self-contained file, such as .mp4, .mov, .mkv or .webm"
    )]
    NotAccepted,
    /// It has no bytes.
    #[error("is empty (0 bytes): upload it again, whole")]
    NoBytes,
    /// It is an MP4 without the index at its end.
    #[error("is cut off (its index is missing): upload it again, whole")]
    Truncated,
    /// It is a file whose head promises more than there is.
    #[error("ends after {there:.1} s of {promised:.1} s: it is cut off or damaged; upload it again, whole")]
    CutOff {
        /// Seconds that there are.
        there: f64,
        /// Seconds that it says it has.
        promised: f64,
    },
    /// It is nothing that ffmpeg knows.
    #[error("is not a video, or is damaged ({0})")]
    NotVideo(String),
    /// There is neither picture nor sound in it.
    #[error("has neither a video nor an audio track")]
    NoTracks,
    /// There are tracks in it, but nothing in them.
    #[error("has tracks but nothing in them: it is damaged, or cut off")]
    Empty,
    /// Its picture has no size, which is how ffprobe says that it could not read one frame.
    #[error("has a video track but no readable picture in it: it is damaged, or cut off")]
    NoPicture,
    /// Its codec is none that ffmpeg knows.
    #[error("is in a codec that this ffmpeg does not know: convert it to H.264 and AAC first")]
    UnknownCodec,
    /// There are more tracks than anybody needs.
    #[error("has {there} tracks, and at most {most} are read: leave out those that are not needed")]
    TooManyTracks {
        /// How many there are.
        there: usize,
        /// How many there may be.
        most: usize,
    },
    /// Its picture is larger than can be decoded.
    #[error(
        "is {width}x{height} pixels, and at most 67 million (8192x8192) are decoded: scale it down first"
    )]
    TooLarge {
        /// In pixels, as stored.
        width: u32,
        /// In pixels, as stored.
        height: u32,
    },
    /// Its colours are Dolby's own.
    #[error(
        "is Dolby Vision of profile 5, whose colours only Dolby's decoders know: \
         export it as HDR10, HLG or standard range"
    )]
    DolbyVision,
    /// Its clock turns back, in a kind of file where it must not.
    #[error("has timestamps that turn back by {by:.1} s at {at:.1} s: it is damaged; export it again")]
    TurnsBack {
        /// When, in seconds.
        at: f64,
        /// By how many seconds.
        by: f64,
    },
    /// Its clock jumps too often to be one.
    #[error("has timestamps that jump more than {0} times: it is damaged; export it again")]
    Jumps(usize),
    /// `ffprobe` printed something else than it should.
    #[error("ffprobe's answer cannot be understood: {0}")]
    Report(String),
}

impl Reason {
    fn of_start(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound { Self::NotInstalled } else { Self::NotStarted(error) }
    }

    fn of_stderr(stderr: &[u8]) -> Self {
        let text = String::from_utf8_lossy(stderr);
        if text.contains("not on whitelist") {
            return Self::NotAccepted;
        }
        if text.contains("moov atom not found") {
            return Self::Truncated;
        }
        // `file:/a/b.mp4: Invalid data found when processing input`
        let last = last_words(&text);
        Self::NotVideo(last.rsplit(": ").next().unwrap_or(last).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_path_whatever_it_looks_like() {
        let options = input_options(Path::new("/films/http:x.mp4"));
        assert_eq!(options.last().unwrap(), "file:/films/http:x.mp4");
        for dangerous in
            ["hls", "concat", "dash", "image2", "sdp", "rtsp", "lavfi", "tee", "webm_dash_manifest"]
        {
            assert!(FORMATS.split(',').all(|format| format != dangerous), "{dangerous}");
        }
    }

    #[test]
    fn ffprobe_is_put_into_words() {
        let reason = |text: &str| Reason::of_stderr(text.as_bytes()).to_string();
        assert!(
            reason("[mov @ 0x55] moov atom not found\nfile:/a.mp4: Invalid data found").contains("cut off")
        );
        assert!(reason("[hls @ 0x1] Format not on whitelist 'mov'\n").contains("not accepted"));
        let words = "is not a video, or is damaged (Invalid data found when processing input)";
        assert_eq!(reason("file:/a.mp4: Invalid data found when processing input\n"), words);
    }

    #[test]
    fn as_json_a_source_has_a_name_and_seconds() {
        let source = Source {
            path: "/home/ines/talk.mp4".into(),
            duration: Duration::from_millis(8_500),
            notes: vec!["private".into()],
            ..Source::default()
        };
        let json = serde_json::to_value(&source).unwrap();
        assert_eq!((json["name"].as_str(), json["duration"].as_f64()), (Some("talk.mp4"), Some(8.5)));
        assert!(!json.to_string().contains("ines"), "{json}");
        let read: Source = serde_json::from_value(json).unwrap();
        assert_eq!((read.path, read.duration), ("talk.mp4".into(), source.duration));
    }
}
