//! Poster and storyboard: what a player shows before it plays, and above its progress bar.
//!
//! Made of what was encoded anyway. Of the renditions only the key frames are read, those that are wanted, and
//! copied into a small file of their own; ffmpeg decodes that from beginning to end, so there is nothing to seek
//! and nothing to skip, and the picture *i* is the key frame that it should be. The storyboard comes from the
//! smallest rendition; what it shows, still smaller, decides which key frame of a larger one is the poster.
//!
//! A storyboard is sheets of thumbnails and says in two languages which is when: as [WebVTT] with media fragments
//! (`#xywh=`, [Media Fragments URI 1.0 §4.2.2]), which is what web players read; and as an
//! [image media playlist] (version 0.4), which is what Roku and Shaka read. All sheets have the same layout, and the
//! last one is filled up with black: Shaka (5.2) takes the size of the first for that of all.
//!
//! [WebVTT]: https://www.w3.org/TR/webvtt1/
//! [Media Fragments URI 1.0 §4.2.2]: https://www.w3.org/TR/media-frags/#naming-space
//! [image media playlist]: https://github.com/image-media-playlist/spec

mod key_frames;
mod poster;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, sink};
use tokio::process::Command;
use tokio::time::timeout;

use self::key_frames::KeyFrames;
use self::poster::{GLANCE, GLANCE_BYTES, choose};
use crate::captions::clock;
use crate::encoder::ffmpeg::{seconds, words};
use crate::encoder::track_file;
use crate::fragment::Malformed;
use crate::ladder::{Codec, Range, Rendition};
use crate::plan::Plan;
use crate::playlist::Rates;

/// Name of the poster.
pub const POSTER: &str = "poster.jpg";

/// Name of the storyboard for web players.
pub const STORYBOARD: &str = "storyboard.vtt";

/// Name of the image media playlist. Like the storyboard, it names the sheets as its neighbours.
pub const IMAGES: &str = "storyboard.m3u8";

/// Name of a sheet of thumbnails; they count from 1.
#[must_use]
pub fn sheet_name(number: usize) -> String {
    format!("storyboard-{number}.jpg")
}

/// Longer and shorter side of the box that a thumbnail fits into, on its side for a portrait: 16:9 fills it.
const THUMBNAIL: (u32, u32) = (160, 90);

/// More than that many thumbnails nobody can pick out: a progress bar is hardly wider than 1,000 pixels.
const MOST_THUMBNAILS: usize = 500;

/// No side of a sheet is longer. It is what Roku's smallest devices take (*HLS and DASH*, "DASH-standard thumbnail
/// tiles"), and small sheets make the first preview appear soon.
const SHEET_SIDE: u32 = 720;

/// No more thumbnails in a row or a column, however small they are.
const MOST_IN_LINE: u32 = 10;

/// Quality of a sheet in mjpeg's terms, 2 (best) to 31: some 2.5 KB for a thumbnail.
const SHEET_QUALITY: u32 = 5;

/// The most lines of a poster: more than a page that shows one before it plays.
const POSTER_LINES: u32 = 720;

/// Quality of the poster, which is looked at for long.
const POSTER_QUALITY: u32 = 3;

/// How long one ffmpeg may take. It decodes some hundred small pictures, which is a second's work.
const PATIENCE: Duration = Duration::from_mins(2);

/// A rendition to make pictures of: a fragmented MP4 with one track, and a key frame first in each fragment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// What was made. The pictures are in the folder; the texts are for the caller to put there.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pictures {
    /// The poster.
    pub poster: Poster,
    /// The sheets of thumbnails, in order.
    pub sheets: Vec<Sheet>,
    /// Width and height of a thumbnail, in pixels.
    pub thumbnail: (u32, u32),
    /// Columns and rows of every sheet.
    pub layout: (u32, u32),
    /// Content of [`STORYBOARD`].
    pub vtt: String,
    /// Content of [`IMAGES`].
    pub playlist: String,
    /// Peak segment bit rate of the sheets (RFC 8216 §4.1), in bits a second.
    pub bandwidth: u64,
}

/// The poster, in the size of the rendition that it is from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Poster {
    /// Its file.
    pub name: String,
    /// When the picture is shown.
    pub time: Duration,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Its size.
    pub bytes: u64,
}

/// A sheet of thumbnails.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sheet {
    /// Its file.
    pub name: String,
    /// How many thumbnails are on it.
    pub thumbnails: usize,
    /// The time that they cover.
    pub duration: Duration,
    /// Its size.
    pub bytes: u64,
}

/// The renditions to make the storyboard and the poster of: the smallest, and the largest that is not larger than a
/// poster has to be. Neither is of a high dynamic range, which a JPEG does not have.
#[must_use]
pub fn inputs(plan: &Plan, folder: &Path) -> Option<(Input, Input)> {
    let renditions = plan.video.iter().flat_map(|video| &video.renditions);
    let renditions =
        renditions.filter(|rendition| rendition.codec == Codec::H264 && rendition.range == Range::Sdr);
    let by_size = |rendition: &&Rendition| rendition.width.min(rendition.height);
    let small = renditions.clone().min_by_key(by_size)?;
    let large = renditions.filter(|rendition| by_size(rendition) <= POSTER_LINES).max_by_key(by_size);
    let input = |rendition: &Rendition| Input {
        path: folder.join(track_file(&rendition.name)),
        width: rendition.width,
        height: rendition.height,
    };
    Some((input(small), input(large.unwrap_or(small))))
}

/// Makes the poster of one rendition and the storyboard of another, the smallest, in a folder that exists.
///
/// `duration` is that of the content: the last thumbnail stands until then.
pub async fn make(
    small: &Input,
    large: &Input,
    duration: Duration,
    folder: &Path,
) -> Result<Pictures, Error> {
    let key_frames = key_frames(small).await?;
    let plan = Storyboard::plan(&key_frames.times(), (small.width, small.height), duration);
    let chosen = key_frames.every(plan.step, plan.times.len());
    let grey =
        draw(chosen, folder, plan.times.len() * GLANCE_BYTES, |film| storyboard_arguments(film, &plan))
            .await?;
    if grey.len() != plan.times.len() * GLANCE_BYTES {
        return Err(Error::Incomplete { made: grey.len() / GLANCE_BYTES, expected: plan.times.len() });
    }
    let frames: Vec<_> = plan.times.iter().copied().zip(grey.chunks_exact(GLANCE_BYTES)).collect();
    let best = plan.times[choose(&frames, plan.duration)];
    let poster = poster(large, best, folder).await?;

    let sheets = plan.sheets().into_iter().map(|sheet| {
        let bytes = size_of(folder, &sheet.name)?;
        Ok(Sheet { bytes, ..sheet })
    });
    let sheets = sheets.collect::<Result<Vec<_>, Error>>()?;
    Ok(Pictures {
        poster,
        thumbnail: plan.thumbnail,
        layout: plan.layout,
        vtt: plan.vtt(),
        playlist: plan.playlist(),
        bandwidth: peak(&sheets),
        sheets,
    })
}

async fn poster(rendition: &Input, time: Duration, folder: &Path) -> Result<Poster, Error> {
    let key_frame = key_frames(rendition).await?.at(time);
    draw(key_frame, folder, 0, poster_arguments).await?;
    let bytes = size_of(folder, POSTER)?;
    Ok(Poster { name: POSTER.to_owned(), time, width: rendition.width, height: rendition.height, bytes })
}

async fn key_frames(input: &Input) -> Result<KeyFrames, Error> {
    let path = input.path.clone();
    blocking(move || KeyFrames::read(&path).map_err(|reason| Error::Input { path, reason })).await
}

/// Runs ffmpeg on a film of key frames, and returns what it prints: `most` bytes, or one more if it is more.
async fn draw(
    key_frames: KeyFrames,
    folder: &Path,
    most: usize,
    arguments: impl FnOnce(&Path) -> Vec<OsString>,
) -> Result<Vec<u8>, Error> {
    let film = film(key_frames, folder).await?;
    ffmpeg(arguments(film.path()), folder, most).await
}

/// A file of key frames, in the folder until it is dropped.
async fn film(key_frames: KeyFrames, folder: &Path) -> Result<NamedTempFile, Error> {
    let folder = folder.to_owned();
    blocking(move || {
        let of_input = |reason| Error::Input { path: key_frames.path.clone(), reason };
        let of_output = |error| Error::NotWritten { path: folder.clone(), error };
        let film = tempfile::Builder::new().prefix("key-frames-").suffix(".mp4").tempfile_in(&folder);
        let mut film = film.map_err(of_output)?;
        key_frames.film(&mut film).map_err(of_input)?;
        Ok(film)
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|fault| resume_unwind(fault.into_panic()))
}

fn size_of(folder: &Path, name: &str) -> Result<u64, Error> {
    let path = folder.join(name);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() > 0 => Ok(metadata.len()),
        Ok(_) => Err(Error::NotWritten { path, error: io::ErrorKind::WriteZero.into() }),
        Err(error) => Err(Error::NotWritten { path, error }),
    }
}

/// What is in a storyboard.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Storyboard {
    /// Every `step`th key frame has a thumbnail.
    step: usize,
    /// When each thumbnail is shown, from 0 on.
    times: Vec<Duration>,
    /// When the last one ends.
    duration: Duration,
    /// Width and height of one.
    thumbnail: (u32, u32),
    /// Columns and rows of every sheet.
    layout: (u32, u32),
}

impl Storyboard {
    /// `key_frames` are their times, the first of them 0.
    fn plan(key_frames: &[Duration], size: (u32, u32), duration: Duration) -> Self {
        // A cue that ends when it starts is none (WebVTT §3.3).
        let duration = duration.clamp(Duration::from_millis(1), Duration::from_nanos(u64::MAX));
        let shown =
            key_frames.iter().take_while(|time| milliseconds(**time) < milliseconds(duration)).count();
        let step = shown.div_ceil(MOST_THUMBNAILS).max(1);
        let times: Vec<_> = key_frames[..shown].iter().step_by(step).copied().collect();
        let thumbnail = thumbnail(size);
        let layout = layout(times.len(), thumbnail);
        Self { step, times, duration, thumbnail, layout }
    }

    fn per_sheet(&self) -> usize {
        (self.layout.0 * self.layout.1) as usize
    }

    /// When a thumbnail ends: with the next, or with the content.
    fn end(&self, thumbnail: usize) -> Duration {
        self.times.get(thumbnail + 1).copied().unwrap_or(self.duration)
    }

    /// The sheets, of a size that is not known yet.
    fn sheets(&self) -> Vec<Sheet> {
        let sheets = self.times.chunks(self.per_sheet()).enumerate().map(|(i, times)| Sheet {
            name: sheet_name(i + 1),
            thumbnails: times.len(),
            duration: self.end(i * self.per_sheet() + times.len() - 1).saturating_sub(times[0]),
            bytes: 0,
        });
        sheets.collect()
    }

    fn vtt(&self) -> String {
        let mut text = "WEBVTT\n".to_owned();
        let (width, height) = self.thumbnail;
        let columns = self.layout.0 as usize;
        for (i, start) in self.times.iter().enumerate() {
            let (sheet, place) = (i / self.per_sheet(), i % self.per_sheet());
            let (x, y) = (place % columns * width as usize, place / columns * height as usize);
            let (start, end) = (clock(milliseconds(*start)), clock(milliseconds(self.end(i))));
            let name = sheet_name(sheet + 1);
            let _ = write!(text, "\n{start} --> {end}\n{name}#xywh={x},{y},{width},{height}\n");
        }
        text
    }

    /// Written by hand: `m3u8-rs` does not know these tags.
    fn playlist(&self) -> String {
        let sheets = self.sheets();
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:1\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-IMAGES-ONLY\n",
            target(&sheets)
        );
        let ((width, height), (columns, rows)) = (self.thumbnail, self.layout);
        // Players count in steps of it from the start of each sheet.
        let interval = self.times.get(1).copied().unwrap_or(self.duration);
        for sheet in sheets {
            let (covered, interval) = (seconds(sheet.duration), seconds(interval));
            let _ = write!(
                text,
                "#EXTINF:{covered},\n\
                 #EXT-X-TILES:RESOLUTION={width}x{height},LAYOUT={columns}x{rows},DURATION={interval}\n{}\n",
                sheet.name
            );
        }
        text.push_str("#EXT-X-ENDLIST\n");
        text
    }
}

/// Into the box without changing the shape, never enlarged. Even, because chroma has half the size: an odd one
/// would be half a pixel off in the next thumbnail.
fn thumbnail((width, height): (u32, u32)) -> (u32, u32) {
    let (width, height) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let (long, short) = (u64::from(THUMBNAIL.0), u64::from(THUMBNAIL.1));
    let (most_wide, most_high) = if width >= height { (long, short) } else { (short, long) };
    // By the side that is too long in proportion.
    let (wide, high) = if width * most_high >= height * most_wide {
        let wide = most_wide.min(width);
        (wide, (height * wide + width / 2) / width)
    } else {
        let high = most_high.min(height);
        ((width * high + height / 2) / height, high)
    };
    let even = |side: u64| u32::try_from(side / 2 * 2).unwrap_or(2).max(2);
    (even(wide), even(high))
}

/// Columns and rows of the sheets: as few sheets as there can be, and those no larger than they need to be.
fn layout(thumbnails: usize, (width, height): (u32, u32)) -> (u32, u32) {
    let most = |side: u32| (SHEET_SIDE / side).clamp(1, MOST_IN_LINE);
    let thumbnails = u32::try_from(thumbnails).unwrap_or(u32::MAX).max(1);
    let columns = most(width).min(thumbnails);
    let sheets = thumbnails.div_ceil(most(width) * most(height));
    (columns, thumbnails.div_ceil(sheets).div_ceil(columns))
}

/// The target duration: that of the longest, rounded.
fn target(sheets: &[Sheet]) -> u64 {
    let longest = sheets.iter().map(|sheet| sheet.duration).max().unwrap_or_default();
    (longest + Duration::from_millis(500)).as_secs().max(1)
}

/// What the sheets need of the line at normal speed.
fn peak(sheets: &[Sheet]) -> u64 {
    let things: Vec<_> = sheets.iter().map(|sheet| (sheet.duration.as_secs_f64(), sheet.bytes)).collect();
    Rates::of(&things, target(sheets)).peak
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from((time + Duration::from_micros(500)).as_millis()).unwrap_or(u64::MAX)
}

/// Reads a film of key frames and nothing else. Without a word about its colours it is BT.709, as all that we
/// encode is; what the stream itself says goes before that.
fn input_arguments(film: &Path) -> Vec<OsString> {
    let mut line = words(
        "-hide_banner -nostdin -v error -y -threads 1 -colorspace bt709 -ignore_editlist 1 \
         -protocol_whitelist file -f mp4 -i",
    );
    // By its name alone: ffmpeg runs in its folder.
    let mut input = OsString::from("file:");
    input.push(film.file_name().unwrap_or_default());
    line.push(input);
    line
}

/// To what every reader of a JPEG takes it for (JFIF): BT.601, full range.
const JPEG_COLOURS: &str = "out_color_matrix=bt601:out_range=pc,setsar=1";

/// The command line that makes the sheets in the folder where it runs, and prints the grey pictures.
fn storyboard_arguments(film: &Path, plan: &Storyboard) -> Vec<OsString> {
    let ((width, height), (columns, rows), (wide, high)) = (plan.thumbnail, plan.layout, GLANCE);
    let mut line = input_arguments(film);
    line.extend(words(&format!(
        "-filter_complex [0:v]scale={width}:{height}:flags=area:{JPEG_COLOURS},split[a][b];\
         [a]tile={columns}x{rows}[sheets];[b]scale={wide}:{high}:flags=area,format=gray[grey] \
         -map [sheets] -fps_mode passthrough -c:v mjpeg -q:v {SHEET_QUALITY} -f image2 storyboard-%d.jpg \
         -map [grey] -fps_mode passthrough -c:v rawvideo -f rawvideo pipe:1"
    )));
    line
}

/// The command line that makes the poster in the folder where it runs.
fn poster_arguments(film: &Path) -> Vec<OsString> {
    let mut line = input_arguments(film);
    line.extend(words(&format!(
        "-map 0:v -frames:v 1 -vf scale={JPEG_COLOURS} -c:v mjpeg -q:v {POSTER_QUALITY} \
         -f image2 -update 1 {POSTER}"
    )));
    line
}

/// Runs a command line in a folder, and returns what it prints: `most` bytes, or one more if it is more.
async fn ffmpeg(arguments: Vec<OsString>, folder: &Path, most: usize) -> Result<Vec<u8>, Error> {
    let mut command = Command::new("ffmpeg");
    command.args(arguments).current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C at a terminal goes to the whole group; it is for us to pass on.
    #[cfg(unix)]
    command.process_group(0);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if folder.is_dir() => Error::NotInstalled,
        _ => Error::NotStarted(error),
    })?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let work =
        async { tokio::try_join!(beginning(stdout, most + 1), beginning(stderr, 1 << 14), child.wait()) };
    let (printed, complaints, status) = timeout(PATIENCE, work)
        .await
        .map_err(|_| Error::Stalled { after: PATIENCE })?
        .map_err(Error::NotStarted)?;
    if !status.success() {
        return Err(Error::Failed { status, reason: in_words(&complaints) });
    }
    Ok(printed)
}

/// Reads everything, for who writes must not wait, and keeps the beginning.
async fn beginning(mut pipe: impl tokio::io::AsyncRead + Unpin, most: usize) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut pipe).take(most as u64).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut pipe, &mut sink()).await?;
    Ok(kept)
}

/// `[h264 @ 0x5581] no frame!` without what stands before it; of the first few lines, which say what went wrong.
fn in_words(complaints: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaints);
    let lines = text.lines().map(|line| {
        let mut line = line.trim();
        while let Some((_, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) {
            line = rest.trim_start();
        }
        line
    });
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).take(3).collect();
    if lines.is_empty() { "it gave no reason".to_owned() } else { lines.join("; ") }
}

/// Why there are no pictures.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A rendition is not what it should be.
    #[error("cannot take key frames out of {}: {reason}", path.display())]
    Input {
        /// The rendition.
        path: PathBuf,
        /// What is wrong with it.
        reason: Malformed,
    },
    /// There is no place for a picture.
    #[error("cannot write {}: {error}", path.display())]
    NotWritten {
        /// The picture, or the folder for it.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// `ffmpeg` is missing.
    #[error("ffmpeg is not installed: install it (`apt-get install ffmpeg`, `brew install ffmpeg`)")]
    NotInstalled,
    /// `ffmpeg` is there but did not run.
    #[error("ffmpeg did not run: {0}")]
    NotStarted(io::Error),
    /// It ended with an error.
    #[error("ffmpeg could not make poster and storyboard ({status}): {reason}")]
    Failed {
        /// How it ended.
        status: ExitStatus,
        /// What it complained about.
        reason: String,
    },
    /// It did not end.
    #[error("ffmpeg made no poster and storyboard within {} s: is the machine overloaded?", after.as_secs())]
    Stalled {
        /// How long it was waited for.
        after: Duration,
    },
    /// It decoded something else than there is.
    #[error("ffmpeg made {made} thumbnails of {expected} key frames: the rendition is damaged")]
    Incomplete {
        /// Thumbnails that there are.
        made: usize,
        /// Thumbnails that there should be.
        expected: usize,
    },
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::poster::mean;
    use super::*;

    fn time(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn even(count: u32, interval: Duration) -> Vec<Duration> {
        (0..count).map(|i| interval * i).collect()
    }

    fn run(program: &str, line: &str, inputs: &[&Path]) -> Vec<u8> {
        let mut command = process::Command::new(program);
        let mut inputs = inputs.iter();
        for word in line.split_whitespace() {
            match word {
                "FILE" => command.arg(inputs.next().unwrap()),
                word => command.arg(word),
            };
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A rendition, as the encoder leaves it.
    fn film(folder: &Path, size: (u32, u32), source: &str, group: u32, more: &str) -> Input {
        let path = folder.join(format!("{}x{}.mp4", size.0, size.1));
        let line = format!(
            "-v error -y -f lavfi -i {source} -c:v libx264 -preset veryfast -pix_fmt yuv420p -g {group} \
             -keyint_min {group} -sc_threshold 0 -flags +cgop {more} -f mp4 \
             -movflags frag_keyframe+empty_moov+default_base_moof -use_editlist 0 FILE"
        );
        run("ffmpeg", &line, &[&path]);
        Input { path, width: size.0, height: size.1 }
    }

    /// One colour after another, two seconds each but the last one, in BT.709.
    fn colours(size: (u32, u32), colours: &[&str], last: u32, matrix: &str) -> String {
        let (width, height) = size;
        let sources = colours.iter().enumerate().map(|(i, colour)| {
            let seconds = if i + 1 == colours.len() { last } else { 2 };
            format!("color={colour}:s={width}x{height}:r=5:d={seconds},format=rgb24[c{i}];")
        });
        let pads: Vec<_> = (0..colours.len()).map(|i| format!("[c{i}]")).collect();
        format!(
            "{}{}concat=n={},scale=out_color_matrix={matrix}:out_range=tv,format=yuv420p",
            sources.collect::<String>(),
            pads.concat(),
            colours.len()
        )
    }

    /// What is seen at a place of a picture, as another decoder run has it.
    fn seen(picture: &Path, x: u32, y: u32) -> [u8; 3] {
        let line = format!("-v error -i FILE -vf format=rgb24,crop=1:1:{x}:{y} -f rawvideo -");
        run("ffmpeg", &line, &[picture]).try_into().unwrap()
    }

    fn size(picture: &Path) -> String {
        let line = "-v error -show_entries stream=width,height,codec_name,color_range -of csv=p=0 FILE";
        String::from_utf8(run("ffprobe", line, &[picture])).unwrap().trim().to_owned()
    }

    fn assert_seen(picture: &Path, (x, y): (u32, u32), colour: [u8; 3]) {
        let seen = seen(picture, x, y);
        let is_near = seen.iter().zip(colour).all(|(a, b)| a.abs_diff(b) < 9);
        assert!(is_near, "{seen:?} instead of {colour:?} at {x}, {y} of {}", picture.display());
    }

    /// Start, end, sheet and rectangle of each cue.
    fn cues(vtt: &str) -> Vec<(String, String, String, [u32; 4])> {
        let (head, cues) = vtt.split_once("\n\n").unwrap();
        assert_eq!(head, "WEBVTT");
        let cues = cues.trim_end().split("\n\n").map(|cue| {
            let (times, text) = cue.split_once('\n').unwrap();
            let (start, end) = times.split_once(" --> ").unwrap();
            let (sheet, rectangle) = text.split_once("#xywh=").unwrap();
            let numbers: Vec<u32> = rectangle.split(',').map(|number| number.parse().unwrap()).collect();
            (start.to_owned(), end.to_owned(), sheet.to_owned(), numbers.try_into().unwrap())
        });
        cues.collect()
    }

    /// Whatever is made must satisfy this.
    fn assert_sound(pictures: &Pictures, folder: &Path, duration: Duration) {
        let (columns, rows) = pictures.layout;
        let (width, height) = pictures.thumbnail;
        let cues = cues(&pictures.vtt);
        assert_eq!(cues.len(), pictures.sheets.iter().map(|sheet| sheet.thumbnails).sum::<usize>());
        assert_eq!(cues[0].0, "00:00:00.000");
        assert_eq!(cues.last().unwrap().1, clock(milliseconds(duration)));
        assert!(cues.windows(2).all(|pair| pair[0].1 == pair[1].0), "no gaps");
        assert!(cues.iter().all(|cue| cue.0 < cue.1), "no cue without duration");
        for (_, _, _, [x, y, w, h]) in &cues {
            assert!(*w == width && *h == height && x + w <= columns * width && y + h <= rows * height);
        }
        for sheet in &pictures.sheets {
            let there = folder.join(&sheet.name);
            assert_eq!(size(&there), format!("mjpeg,{},{},pc", columns * width, rows * height));
            assert_eq!(fs::metadata(there).unwrap().len(), sheet.bytes);
        }
        assert_eq!(pictures.sheets.iter().map(|sheet| sheet.duration).sum::<Duration>(), duration);
        let (poster, wide, high) = (&pictures.poster, pictures.poster.width, pictures.poster.height);
        assert_eq!(size(&folder.join(&poster.name)), format!("mjpeg,{wide},{high},pc"));

        let (_, playlist) = m3u8_rs::parse_media_playlist(pictures.playlist.as_bytes()).unwrap();
        assert!(playlist.end_list && playlist.segments.len() == pictures.sheets.len());
        for (segment, sheet) in playlist.segments.iter().zip(&pictures.sheets) {
            assert_eq!(segment.uri, sheet.name);
            assert!((f64::from(segment.duration) - sheet.duration.as_secs_f64()).abs() < 1e-3);
        }
    }

    /// What is in a folder besides the renditions.
    fn assert_only(folder: &Path, sheets: usize) {
        let names =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_rendition = |name: &String| name.starts_with(|first: char| first.is_ascii_digit());
        let mut names: Vec<_> = names.filter(|name| !is_rendition(name)).collect();
        names.sort();
        let mut expected: Vec<_> = (1..=sheets).map(sheet_name).chain([POSTER.to_owned()]).collect();
        expected.sort();
        assert_eq!(names, expected);
    }

    #[tokio::test]
    async fn each_thumbnail_is_the_key_frame_of_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let names = ["red", "0x00ff00", "blue", "white", "yellow", "0x808080"];
        let seen = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3], [255, 255, 0], [128; 3]];
        let small = film(folder, (320, 180), &colours((320, 180), &names, 1, "bt709"), 10, "");
        let large = film(folder, (640, 360), &colours((640, 360), &names, 1, "bt709"), 10, "");
        let pictures = make(&small, &large, time(11_000), folder).await.unwrap();
        assert_sound(&pictures, folder, time(11_000));
        assert_only(folder, 1);
        assert_eq!((pictures.thumbnail, pictures.layout), ((160, 90), (4, 2)));
        for (cue, colour) in cues(&pictures.vtt).iter().zip(seen) {
            let (_, _, sheet, [x, y, w, h]) = cue;
            for place in [(x + 4, y + 4), (x + w / 2, y + h / 2), (x + w - 5, y + h - 5)] {
                assert_seen(&folder.join(sheet), place, colour);
            }
        }
        assert_seen(&folder.join(sheet_name(1)), (400, 135), [0; 3]);
        let shown = (pictures.poster.time.as_secs() / 2) as usize;
        assert_seen(&folder.join(POSTER), (320, 180), seen[shown]);
    }

    #[tokio::test]
    async fn colours_are_those_that_the_stream_says_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let source = colours((64, 36), &["0x00ff00"], 2, "bt601");
        let tags = "-colorspace smpte170m -color_primaries smpte170m -color_trc smpte170m";
        let input = film(folder, (64, 36), &source, 10, tags);
        make(&input, &input, time(2000), folder).await.unwrap();
        assert_seen(&folder.join(sheet_name(1)), (30, 18), [0, 255, 0]);
        assert_seen(&folder.join(POSTER), (30, 18), [0, 255, 0]);
    }

    #[tokio::test]
    async fn the_poster_is_no_black_frame_and_none_in_a_fade() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let source = "testsrc2=s=320x180:r=10:d=24,format=rgb24,fade=in:st=5:d=4,fade=out:st=15:d=4,\
                      scale=out_color_matrix=bt709:out_range=tv,format=yuv420p";
        let input = film(folder, (320, 180), source, 20, "");
        let pictures = make(&input, &input, time(24_000), folder).await.unwrap();
        assert_sound(&pictures, folder, time(24_000));
        assert!((9..=15).contains(&pictures.poster.time.as_secs()), "{:?}", pictures.poster.time);
        // It is the very frame of the source, but for the compression.
        let frame = pictures.poster.time.as_secs() * 10;
        let line = format!(
            "-v error -f lavfi -i testsrc2=s=320x180:r=10 -vf format=rgb24,select=eq(n\\,{frame}) \
             -frames:v 1 -f rawvideo -"
        );
        let expected = run("ffmpeg", &line, &[]);
        let made = run("ffmpeg", "-v error -i FILE -pix_fmt rgb24 -f rawvideo -", &[&folder.join(POSTER)]);
        assert_eq!(made.len(), expected.len());
        let off = mean(made.iter().zip(&expected).map(|(a, b)| u32::from(a.abs_diff(*b))));
        assert!(off < 8.0, "{off}, and one frame earlier or later it would be 15");

        let black = film(folder, (64, 36), "color=black:s=64x36:r=10:d=6", 20, "");
        let pictures = make(&black, &black, time(6000), folder).await.unwrap();
        assert_sound(&pictures, folder, time(6000));
        assert_seen(&folder.join(POSTER), (30, 18), [0; 3]);
    }

    #[tokio::test]
    async fn a_portrait_stands_upright() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let input = film(folder, (234, 416), "testsrc2=s=234x416:r=10:d=6", 20, "");
        let pictures = make(&input, &input, time(6000), folder).await.unwrap();
        assert_sound(&pictures, folder, time(6000));
        assert_eq!((pictures.thumbnail, pictures.layout), ((90, 160), (3, 1)));
        assert_eq!((pictures.poster.width, pictures.poster.height), (234, 416));
    }

    #[tokio::test]
    async fn the_smallest_film_has_pictures_too() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let input = film(folder, (2, 2), "color=white:s=2x2:r=10:d=0.1", 20, "");
        let pictures = make(&input, &input, time(100), folder).await.unwrap();
        assert_sound(&pictures, folder, time(100));
        assert_eq!((pictures.thumbnail, pictures.layout), ((2, 2), (1, 1)));
        assert_seen(&folder.join(POSTER), (0, 0), [255; 3]);
        assert!(pictures.playlist.contains("\n#EXTINF:0.100000,\n#EXT-X-TILES:RESOLUTION=2x2,LAYOUT=1x1,"));
    }

    /// 200 shades, one after another, each a key frame.
    fn shades(folder: &Path, seconds: u32) -> Input {
        let source = format!("nullsrc=s=64x36:r=1:d={seconds},geq=lum='16+mod(N*37,200)':cb=128:cr=128");
        film(folder, (64, 36), &source, 1, "-bf 0")
    }

    async fn assert_shades(seconds: u32, step: u32) {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let input = shades(folder, seconds);
        let duration = time(u64::from(seconds) * 1000 - 400);
        let pictures = make(&input, &input, duration, folder).await.unwrap();
        assert_sound(&pictures, folder, duration);
        assert_only(folder, pictures.sheets.len());
        let shade = |key_frame: u32| u8::try_from(key_frame * 37 % 200 * 255 / 219).unwrap();
        let cues = cues(&pictures.vtt);
        assert_eq!(cues.len(), seconds.div_ceil(step) as usize);
        for (sheet, name) in pictures.sheets.iter().map(|sheet| sheet.name.clone()).enumerate() {
            let (width, height) =
                (pictures.layout.0 * pictures.thumbnail.0, pictures.layout.1 * pictures.thumbnail.1);
            let line = "-v error -i FILE -pix_fmt gray -f rawvideo -";
            let pixels = run("ffmpeg", line, &[&folder.join(&name)]);
            assert_eq!(pixels.len(), (width * height) as usize);
            for (i, (start, _, _, [x, y, w, h])) in cues.iter().enumerate().filter(|(_, cue)| cue.2 == name) {
                let key_frame = u32::try_from(i).unwrap() * step;
                assert_eq!(*start, clock(u64::from(key_frame) * 1000));
                let seen = pixels[((y + h / 2) * width + x + w / 2) as usize];
                assert!(seen.abs_diff(shade(key_frame)) < 6, "{seen} for {i} on sheet {sheet}");
            }
        }
        let poster = u32::try_from(pictures.poster.time.as_secs()).unwrap();
        assert_seen(&folder.join(POSTER), (32, 18), [shade(poster); 3]);
    }

    #[tokio::test]
    async fn three_hundred_key_frames_go_on_several_sheets() {
        assert_shades(300, 1).await;
    }

    #[tokio::test]
    async fn a_long_film_has_fewer_thumbnails_than_key_frames() {
        assert_shades(1201, 3).await;
    }

    #[tokio::test]
    async fn what_is_no_rendition_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let whole = film(folder, (64, 36), "testsrc2=s=64x36:r=10:d=6", 20, "");
        let refusal = async |bytes: &[u8]| {
            let input = Input { path: folder.join("bad"), ..whole.clone() };
            fs::write(&input.path, bytes).unwrap();
            make(&input, &whole, time(6000), folder).await.unwrap_err().to_string()
        };
        let bytes = fs::read(&whole.path).unwrap();
        assert!(refusal(&bytes[..bytes.len() / 2]).await.ends_with("bad: it is cut off"));
        assert!(refusal(b"").await.ends_with("it lacks moov"));
        assert!(refusal(b"hello").await.ends_with("it is cut off"));
        assert!(refusal(&[0; 64]).await.ends_with("it lacks moov"));
        let first = bytes.windows(4).position(|kind| kind == b"moof").unwrap() - 4;
        assert!(refusal(&bytes[..first]).await.ends_with("it lacks samples, the first of them a key frame"));
        assert!(refusal(&bytes[first..]).await.ends_with("it lacks moov"));

        let mut damaged = bytes.clone();
        let data = bytes.windows(4).position(|kind| kind == b"mdat").unwrap() + 4;
        damaged[data..data + 2000].fill(0xff);
        let words = refusal(&damaged).await;
        assert!(words.contains("ffmpeg"), "{words}");

        let nowhere = make(&whole, &whole, time(6000), &folder.join("nowhere")).await.unwrap_err();
        assert!(nowhere.to_string().contains("nowhere"), "{nowhere}");
        let missing = Input { path: folder.join("missing.mp4"), ..whole.clone() };
        let missing = make(&whole, &missing, time(6000), folder).await.unwrap_err();
        assert!(missing.to_string().contains("missing.mp4"), "{missing}");
    }

    #[test]
    fn thumbnails_fit_into_their_box_in_their_shape() {
        let expected = [
            ((416, 234), (160, 90)),
            ((234, 416), (90, 160)),
            ((320, 240), (120, 90)),
            ((240, 240), (90, 90)),
            ((1000, 100), (160, 16)),
            ((2000, 2), (160, 2)),
            ((2, 2000), (2, 160)),
            ((100, 60), (100, 60)),
            ((65, 37), (64, 36)),
            ((2, 2), (2, 2)),
            ((0, 0), (2, 2)),
        ];
        for (size, fitting) in expected {
            assert_eq!(thumbnail(size), fitting, "{size:?}");
        }
    }

    #[test]
    fn sheets_are_alike_and_no_larger_than_they_need_to_be() {
        assert_eq!(layout(1, (160, 90)), (1, 1));
        assert_eq!(layout(3, (160, 90)), (3, 1));
        assert_eq!(layout(30, (160, 90)), (4, 8));
        assert_eq!(layout(33, (160, 90)), (4, 5));
        assert_eq!(layout(500, (160, 90)), (4, 8));
        assert_eq!(layout(500, (90, 160)), (8, 4));
        assert_eq!(layout(500, (2, 2)), (10, 10));
        for thumbnails in 1..=MOST_THUMBNAILS {
            let (columns, rows) = layout(thumbnails, (160, 90));
            assert!(columns * 160 <= 720 && rows * 90 <= 720);
            let sheets = thumbnails.div_ceil((columns * rows) as usize);
            assert_eq!(sheets, thumbnails.div_ceil(32), "{thumbnails}");
        }
    }

    #[test]
    fn a_storyboard_says_when_and_where() {
        // 29.97 frames a second, 60 in a group.
        let plan = Storyboard::plan(&even(5, time(2002)), (416, 234), time(8_500));
        assert_eq!(
            plan.vtt(),
            "WEBVTT\n\n\
             00:00:00.000 --> 00:00:02.002\nstoryboard-1.jpg#xywh=0,0,160,90\n\n\
             00:00:02.002 --> 00:00:04.004\nstoryboard-1.jpg#xywh=160,0,160,90\n\n\
             00:00:04.004 --> 00:00:06.006\nstoryboard-1.jpg#xywh=320,0,160,90\n\n\
             00:00:06.006 --> 00:00:08.008\nstoryboard-1.jpg#xywh=480,0,160,90\n\n\
             00:00:08.008 --> 00:00:08.500\nstoryboard-1.jpg#xywh=0,90,160,90\n"
        );
        assert_eq!(
            plan.playlist(),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:9\n#EXT-X-MEDIA-SEQUENCE:1\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-IMAGES-ONLY\n\
             #EXTINF:8.500000,\n#EXT-X-TILES:RESOLUTION=160x90,LAYOUT=4x2,DURATION=2.002000\nstoryboard-1.jpg\n\
             #EXT-X-ENDLIST\n"
        );
        // What begins when the content has ended is not shown.
        assert_eq!(Storyboard::plan(&even(5, time(2000)), (416, 234), time(8_000)).times.len(), 4);
        assert_eq!(Storyboard::plan(&even(5, time(2000)), (416, 234), Duration::ZERO).times.len(), 1);
        assert_eq!(Storyboard::plan(&even(5, time(2000)), (416, 234), Duration::MAX).sheets().len(), 1);
    }

    #[test]
    fn ten_hours_are_no_more_than_some_hundred_thumbnails() {
        let plan = Storyboard::plan(&even(18_000, time(2000)), (416, 234), time(36_000_000));
        assert_eq!((plan.step, plan.times.len()), (36, 500));
        assert_eq!(plan.times[7], time(7 * 72_000));
        assert_eq!(plan.sheets().len(), 16);
        assert!(
            plan.vtt().contains("09:58:48.000 --> 10:00:00.000\nstoryboard-16.jpg#xywh=480,360,160,90\n")
        );
    }

    #[test]
    fn bandwidth_is_the_peak_of_what_counts() {
        let sheet = |seconds: u64, bytes: u64| Sheet {
            name: String::new(),
            thumbnails: 1,
            duration: time(seconds * 1000),
            bytes,
        };
        assert_eq!(peak(&[sheet(64, 64_000), sheet(64, 80_000), sheet(64, 64_000)]), 10_000);
        // By itself 8,000 bits a second, but shorter than half the target: with its neighbour it counts.
        assert_eq!(peak(&[sheet(64, 64_000), sheet(2, 2_000)]), 8_000);
        assert_eq!(peak(&[sheet(64, 64_000), sheet(2, 68_000)]), 16_000);
        assert_eq!(peak(&[sheet(2, 1_000)]), 4_000);
    }

    #[test]
    fn complaints_are_put_into_words() {
        let text = b"[h264 @ 0x5581] [error] no frame!\n\nfile:a.mp4: Invalid data\n";
        assert_eq!(in_words(text), "no frame!; file:a.mp4: Invalid data");
        assert_eq!(in_words(b""), "it gave no reason");
    }

    #[test]
    fn one_command_makes_sheets_and_glances() {
        let plan = Storyboard::plan(&even(300, time(2000)), (416, 234), time(600_000));
        let typed = storyboard_arguments(Path::new("/b/a.mp4"), &plan).join(&OsString::from(" "));
        assert_eq!(
            typed,
            "-hide_banner -nostdin -v error -y -threads 1 -colorspace bt709 -ignore_editlist 1 \
             -protocol_whitelist file -f mp4 -i file:a.mp4 -filter_complex \
             [0:v]scale=160:90:flags=area:out_color_matrix=bt601:out_range=pc,setsar=1,split[a][b];\
             [a]tile=4x8[sheets];[b]scale=32:18:flags=area,format=gray[grey] \
             -map [sheets] -fps_mode passthrough -c:v mjpeg -q:v 5 -f image2 storyboard-%d.jpg \
             -map [grey] -fps_mode passthrough -c:v rawvideo -f rawvideo pipe:1"
        );
    }
}
