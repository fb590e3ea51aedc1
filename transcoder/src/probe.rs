//! What a source is, by `ffprobe`.
//!
//! A source comes from a stranger. It is opened as one of a list of self-contained formats and from this one
//! file only, because to ffmpeg a playlist is a video too, and one that names other files and other hosts.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;

/// The formats that carry video or sound in one file, by the names of ffmpeg's demuxers. Not in it: everything
/// that reads other files (`hls`, `dash`, `concat`, `image2`, `sdp` …).
const FORMATS: &str = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,asf,ogg,mxf,gxf,dv,rm,nut,ivf,\
    h264,hevc,m4v,obu,gif,yuv4mpegpipe,mp3,aac,ac3,eac3,flac,wav,w64,aiff,caf,au,amr";

/// How far two statements about the length of a file may differ: tracks seldom end on the same sample.
const LOSS: Duration = Duration::from_secs(1);

/// A source, and everything of it that a plan is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its kind of file, in ffprobe's words.
    pub container: String,
    /// Its picture.
    pub video: Option<Video>,
    /// Its sound.
    pub audio: Option<Audio>,
}

/// The picture of a source.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// Its number in the file.
    pub stream: u32,
    /// Its codec, in ffprobe's words.
    pub codec: String,
    /// Width as it is to be shown: turned upright, in square pixels.
    pub width: u32,
    /// Height as it is to be shown.
    pub height: u32,
    /// The frame rate that all timestamps are multiples of, as ffprobe guesses it.
    pub base_rate: Option<Rate>,
    /// How many frames there are for each second.
    pub average_rate: Option<Rate>,
    /// When it ends, from the beginning of the file.
    pub end: Duration,
}

/// The sound of a source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audio {
    /// Its number in the file.
    pub stream: u32,
    /// Its codec, in ffprobe's words.
    pub codec: String,
    /// Its language, as the file has it.
    pub language: Option<String>,
    /// When it ends, from the beginning of the file.
    pub end: Duration,
}

/// A frame rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    /// Its playing time: that of its picture, where it has one.
    #[must_use]
    pub fn duration(&self) -> Duration {
        let video = self.video.as_ref().map(|video| video.end);
        video.or(self.audio.as_ref().map(|audio| audio.end)).unwrap_or_default()
    }

    /// Its file name.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// The options that make ffmpeg and ffprobe read this file and nothing else, whatever is in it.
#[must_use]
pub fn input_options(path: &Path) -> Vec<OsString> {
    // With the protocol named, a path is a path: `-x`, `http:…` and `concat:…` are files too.
    let mut input = OsString::from("file:");
    input.push(path);
    ["-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-i"]
        .into_iter()
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
    std::fs::File::open(path).map_err(|error| refusal(Reason::Unreadable(error)))?;
    // ffmpeg runs elsewhere.
    let path = std::path::absolute(path).map_err(|error| refusal(Reason::Unreadable(error)))?;

    let questions = ["-show_format", "-show_streams", "-of", "json"];
    let json = ffprobe(&path, &questions).await.map_err(|reason| match reason {
        // To ffprobe, whatever is called .mp4 is one.
        Reason::Truncated if !begins_like_mp4(&path) => {
            refusal(Reason::NotVideo("in spite of its name".to_owned()))
        }
        reason => refusal(reason),
    })?;
    let report: Report =
        serde_json::from_slice(&json).map_err(|error| refusal(Reason::Report(error.to_string())))?;
    let (mut source, is_measured) = read(&report, &path, metadata.len()).map_err(refusal)?;
    if !is_measured {
        let spans = measure(&path).await.map_err(refusal)?;
        let tracks = source.video.iter().map(|video| video.stream);
        let tracks = tracks.chain(source.audio.iter().map(|audio| audio.stream));
        let begin = tracks.filter_map(|stream| spans.get(&stream)).map(|(start, _)| *start);
        let begin = begin.fold(f64::INFINITY, f64::min);
        let end = |stream: u32| {
            spans.get(&stream).map(|(_, end)| duration(end - begin)).filter(|end| !end.is_zero())
        };
        source.video = source.video.and_then(|video| Some(Video { end: end(video.stream)?, ..video }));
        source.audio = source.audio.and_then(|audio| Some(Audio { end: end(audio.stream)?, ..audio }));
        if source.video.is_none() && source.audio.is_none() {
            return Err(refusal(Reason::Empty));
        }
        if let Some(promised) = report.promised() {
            let video = source.video.iter().map(|video| video.end);
            let longest = video.chain(source.audio.iter().map(|audio| audio.end)).max().unwrap_or_default();
            let loss = promised.saturating_sub(longest);
            if loss > LOSS && loss > promised / 20 {
                let (there, promised) = (longest.as_secs_f64(), promised.as_secs_f64());
                return Err(refusal(Reason::CutOff { there, promised }));
            }
        }
    }
    Ok(source)
}

/// Whether the first box of a file is one that MP4 and `QuickTime` files begin with.
fn begins_like_mp4(path: &Path) -> bool {
    let mut head = [0; 8];
    let is_read = std::fs::File::open(path).is_ok_and(|mut file| file.read_exact(&mut head).is_ok());
    is_read && [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"].iter().any(|kind| head.ends_with(*kind))
}

async fn ffprobe(path: &Path, questions: &[&str]) -> Result<Vec<u8>, Reason> {
    let output = command(path, questions).output().await.map_err(Reason::of_start)?;
    if output.status.success() { Ok(output.stdout) } else { Err(Reason::of_stderr(&output.stderr)) }
}

fn command(path: &Path, questions: &[&str]) -> Command {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error"]).args(questions).args(input_options(path));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Reads the whole file, though without decoding it, to see when its streams begin and end: what many kinds of
/// file do not say, or say wrong. In seconds, by number of the stream.
async fn measure(path: &Path) -> Result<BTreeMap<u32, (f64, f64)>, Reason> {
    let questions =
        ["-show_entries", "packet=stream_index,pts_time,dts_time,duration_time", "-of", "csv=p=0"];
    let mut child = command(path, &questions).spawn().map_err(Reason::of_start)?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let complaints = tokio::spawn(async move {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).await.map(|_| text)
    });

    let mut spans: BTreeMap<u32, (f64, f64)> = BTreeMap::new();
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.map_err(|error| Reason::Report(error.to_string()))? {
        let mut fields = line.split(',');
        let Some(stream) = fields.next().and_then(|field| field.parse().ok()) else { continue };
        let mut numbers = fields.map(|field| field.parse::<f64>().ok());
        let (presented, decoded) = (numbers.next().flatten(), numbers.next().flatten());
        let Some(time) = presented.or(decoded) else { continue };
        let length = numbers.next().flatten().unwrap_or(0.0);
        let (start, end) = spans.entry(stream).or_insert((time, time));
        *start = start.min(time);
        *end = end.max(time + length);
    }
    let status = child.wait().await.map_err(Reason::of_start)?;
    if !status.success() {
        return Err(Reason::of_stderr(&complaints.await.ok().and_then(Result::ok).unwrap_or_default()));
    }
    Ok(spans)
}

/// What the report says, and whether it says how long the streams are.
fn read(report: &Report, path: &Path, bytes: u64) -> Result<(Source, bool), Reason> {
    let container = report.format.name.clone();
    let begin = report.format.start_time.as_deref().and_then(|time| time.parse().ok()).unwrap_or(0.0);
    let end = |stream: &Stream| stream.end(&container).map(|end| duration(end - begin));
    let is = |kind: &'static str| move |stream: &&Stream| stream.codec_type.as_deref() == Some(kind);

    // The picture on the cover of a song is a video stream to ffmpeg.
    let video = report.streams.iter().filter(is("video")).find(|stream| stream.disposition.attached_pic == 0);
    // As many players: the default track, else the first; but one that can be decoded, if there is any. Phones
    // add sound in formats of their own beside it.
    let mut audio: Vec<&Stream> = report.streams.iter().filter(is("audio")).collect();
    audio.sort_by_key(|stream| (stream.codec().is_err(), stream.disposition.default == 0));
    let audio = audio.first().copied();
    if video.is_none() && audio.is_none() {
        return Err(Reason::NoTracks);
    }

    let ends: Vec<Option<Duration>> = video.into_iter().chain(audio).map(end).collect();
    // The tags of a Matroska file that was edited may be those of the file it once was.
    let longest = ends.iter().flatten().max().copied().unwrap_or_default();
    let is_stale = report.promised().is_some_and(|promised| promised.abs_diff(longest) > LOSS);
    let is_measured = !is_stale && ends.iter().all(|end| end.is_some_and(|end| !end.is_zero()));
    let video = video.map(|stream| {
        let (width, height) = stream.shown().ok_or(Reason::NoPicture)?;
        Ok(Video {
            stream: stream.index,
            codec: stream.codec()?,
            width,
            height,
            base_rate: stream.r_frame_rate.as_deref().and_then(Rate::parse),
            average_rate: stream.avg_frame_rate.as_deref().and_then(Rate::parse),
            end: end(stream).unwrap_or_default(),
        })
    });
    let audio = audio.map(|stream| {
        Ok(Audio {
            stream: stream.index,
            codec: stream.codec()?,
            language: stream.tags.get("language").cloned(),
            end: end(stream).unwrap_or_default(),
        })
    });
    let (video, audio) = (video.transpose()?, audio.transpose()?);
    Ok((Source { path: path.to_owned(), bytes, container, video, audio }, is_measured))
}

/// What `ffprobe -of json` prints, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Report {
    #[serde(default)]
    streams: Vec<Stream>,
    format: Format,
}

impl Report {
    /// How long the head of the file says that it is. Of other kinds of file ffprobe reckons it from what is there,
    /// or from the bit rate.
    fn promised(&self) -> Option<Duration> {
        let has_it = self.format.name.starts_with("matroska") || self.format.name == "flv";
        let seconds = self.format.duration.as_ref().filter(|_| has_it)?.parse().ok()?;
        Some(duration(seconds)).filter(|promised| !promised.is_zero())
    }
}

#[derive(Debug, Deserialize)]
struct Format {
    #[serde(rename = "format_name")]
    name: String,
    start_time: Option<String>,
    duration: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Stream {
    index: u32,
    codec_type: Option<String>,
    codec_name: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    sample_aspect_ratio: Option<String>,
    r_frame_rate: Option<String>,
    avg_frame_rate: Option<String>,
    start_time: Option<String>,
    duration: Option<String>,
    #[serde(default)]
    disposition: Disposition,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
struct Disposition {
    #[serde(default)]
    attached_pic: u8,
    #[serde(default)]
    default: u8,
}

#[derive(Debug, Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

impl Stream {
    fn codec(&self) -> Result<String, Reason> {
        let codec = self.codec_name.as_deref().filter(|name| !matches!(*name, "unknown" | "none"));
        codec.map(str::to_owned).ok_or(Reason::UnknownCodec)
    }

    /// When it ends, if that is to be believed: only MP4 and its kin index every sample, and only a Matroska
    /// writer that finished its file tags every track. Elsewhere ffprobe reckons from the bit rate.
    fn end(&self, container: &str) -> Option<f64> {
        if container.starts_with("mov,") {
            let start = self.start_time.as_deref().and_then(|time| time.parse().ok()).unwrap_or(0.0);
            return Some(start + self.duration.as_deref()?.parse::<f64>().ok()?);
        }
        if container.starts_with("matroska") {
            return clock(self.tags.get("DURATION")?);
        }
        None
    }

    /// Its size on the screen. Pixels that are not square change the width, as in every player; a quarter turn
    /// swaps the sides.
    fn shown(&self) -> Option<(u32, u32)> {
        let (width, height) = (self.width.filter(|w| *w > 0)?, self.height.filter(|h| *h > 0)?);
        let pixel = self.sample_aspect_ratio.as_deref().and_then(Rate::parse);
        let width = pixel.map_or(width, |shape| {
            let wide = u64::from(width) * u64::from(shape.frames) / u64::from(shape.seconds);
            u32::try_from(wide).unwrap_or(u32::MAX).max(1)
        });
        let rotation = self.side_data_list.iter().find_map(|data| data.rotation).unwrap_or(0.0);
        let is_on_its_side = (rotation.rem_euclid(180.0) - 90.0).abs() < 45.0;
        Some(if is_on_its_side { (height, width) } else { (width, height) })
    }
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
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no reason given");
        Self::NotVideo(last.rsplit(": ").next().unwrap_or(last).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report like those of ffprobe 5.1, with what differs from case to case filled in.
    fn source(format: &str, streams: &str) -> Result<(Source, bool), Reason> {
        let report = format!(r#"{{"streams":[{streams}],"format":{{{format}}}}}"#);
        read(&serde_json::from_str(&report).unwrap(), Path::new("a.mp4"), 1)
    }

    const MP4: &str = r#""format_name":"mov,mp4,m4a,3gp,3g2,mj2","start_time":"0.000000","duration":"8.0""#;

    fn video(more: &str) -> String {
        format!(
            r#"{{"index":0,"codec_type":"video","codec_name":"h264","width":1280,"height":720,
                "r_frame_rate":"30000/1001","avg_frame_rate":"30000/1001","start_time":"0.000000",
                "duration":"8.000000"{more}}}"#
        )
    }

    fn size(more: &str) -> (u32, u32) {
        let (source, _) = source(MP4, &video(more)).unwrap();
        source.video.map(|video| (video.width, video.height)).unwrap()
    }

    #[test]
    fn a_picture_is_measured_as_it_is_shown() {
        assert_eq!(size(""), (1280, 720));
        assert_eq!(
            size(r#","side_data_list":[{"side_data_type":"Display Matrix","rotation":-90}]"#),
            (720, 1280)
        );
        assert_eq!(size(r#","side_data_list":[{"rotation":270}]"#), (720, 1280));
        assert_eq!(size(r#","side_data_list":[{"rotation":180}]"#), (1280, 720));
        assert_eq!(size(r#","sample_aspect_ratio":"3:4""#), (960, 720));
        assert_eq!(size(r#","sample_aspect_ratio":"0:1""#), (1280, 720));
        assert_eq!(size(r#","sample_aspect_ratio":"3:4","side_data_list":[{"rotation":90}]"#), (720, 960));
    }

    #[test]
    fn a_cover_is_no_video() {
        let cover = video(r#","disposition":{"default":0,"attached_pic":1}"#);
        let sound =
            r#"{"index":1,"codec_type":"audio","codec_name":"aac","duration":"8.1","start_time":"0.0"}"#;
        let (found, _) = source(MP4, &format!("{cover},{sound}")).unwrap();
        assert_eq!(found.video, None);
        assert_eq!(found.audio.unwrap().stream, 1);
        assert!(matches!(source(MP4, &cover), Err(Reason::NoTracks)));
    }

    #[test]
    fn the_default_track_is_heard() {
        let sound = |index: u32, default: u8| {
            format!(
                r#"{{"index":{index},"codec_type":"audio","codec_name":"aac","start_time":"0.0","duration":"8.1",
                    "disposition":{{"default":{default}}},"tags":{{"language":"ger"}}}}"#
            )
        };
        let (found, _) = source(MP4, &[sound(0, 0), sound(1, 1)].join(",")).unwrap();
        let foreign = sound(0, 1).replace("\"aac\"", "\"unknown\"");
        assert_eq!(
            source(MP4, &[foreign.clone(), sound(1, 0)].join(",")).unwrap().0.audio.unwrap().stream,
            1
        );
        assert!(matches!(source(MP4, &foreign), Err(Reason::UnknownCodec)));
        assert_eq!(
            found.audio.unwrap(),
            Audio {
                stream: 1,
                codec: "aac".into(),
                language: Some("ger".into()),
                end: Duration::from_millis(8_100),
            }
        );
    }

    #[test]
    fn only_an_index_of_every_sample_is_believed() {
        assert!(source(MP4, &video("")).unwrap().1);
        assert!(!source(r#""format_name":"mpegts","start_time":"1.4""#, &video("")).unwrap().1);
        let matroska = r#""format_name":"matroska,webm","start_time":"0.500000""#;
        assert!(!source(matroska, &video("")).unwrap().1);
        let (tagged, is_measured) =
            source(matroska, &video(r#","tags":{"DURATION":"00:01:08.500000000"}"#)).unwrap();
        assert!(is_measured);
        assert_eq!(tagged.duration(), Duration::from_secs(68));
    }

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
}
