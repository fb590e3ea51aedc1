//! What will be made of a source: everything an encoder has to know, and nothing about how it works.
//!
//! Every rendition has the same frames, or every second one of them, a key frame on every second of them that
//! [`Grid`] names, and segments that start on every third key frame. That the grid counts frames, not seconds, is
//! what keeps it the same for all renditions, for 29.97 frames a second, and for phones that record at whatever rate
//! they manage.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::FalseyValueParser;
use serde::{Deserialize, Serialize};

use crate::captions::{self, Beside};
use crate::encryption::Rotation;
pub use crate::ladder::Decision;
use crate::ladder::{self, Codec, Picture, Range, Rendition};
use crate::language::{self, Language};
use crate::probe::{self, Jump, Mastering, Rate, Source, seconds};

/// Seconds between key frames (Apple's authoring guide, rule 1.13).
const KEY_FRAME_SECONDS: u32 = 2;

/// Groups of pictures in a segment: 6 seconds, the guide's rule 7.5.
const GROUPS_IN_SEGMENT: u32 = 3;

/// The most frames a second (rule 1.19), and the fewest: below them the grid could not be kept.
const HIGHEST_RATE: u32 = 60;
const LOWEST_RATE: u32 = 5;

/// Above so many frames a second, small renditions have every second one, so that a group has an even number.
const SMALL_RATE: f64 = 30.5;

/// What a source of varying rate is brought to: the next of these that is not slower than its average.
const STANDARD_RATES: [(u32, u32); 8] =
    [(24_000, 1001), (24, 1), (25, 1), (30_000, 1001), (30, 1), (50, 1), (60_000, 1001), (60, 1)];

/// Sound that lasts longer than the picture by less than this is cut; where it goes on, the last picture stays.
const LONGEST_CUT: Duration = Duration::from_millis(500);

/// Sound that is shorter than this is none: what its encoder needs to settle is left out of it (see
/// `encoder::ffmpeg`), and nothing would remain.
const SHORTEST_SOUND: Duration = Duration::from_millis(25);

/// A source that ends this much earlier than it said, or 5 % of its length, is cut off. Never more than a segment.
const SHORTEST_LOSS: Duration = Duration::from_millis(500);

/// The most tracks of sound, and of captions, that are made.
const MOST_AUDIO: usize = 16;
const MOST_CAPTIONS: usize = 32;

/// Rates of AAC in kbit/s: for two channels within the guide's 32 to 160 (rule 2.3), for six its 320.
const STEREO_KBPS: u32 = 128;
const LOW_KBPS: u32 = 48;
const SURROUND_KBPS: u32 = 320;

/// Where nobody says what colours are, pictures with fewer lines than this are in those of SD television: what
/// players assume, and what most such pictures are.
const LINES_OF_HD: u32 = 720;

/// The brightest a picture is taken to be in cd/m² where it does not say: what most are made for, and all of HLG.
const USUAL_PEAK: u32 = 1_000;
const PEAKS: std::ops::RangeInclusive<u32> = 400..=10_000;

/// What whoever asks can choose.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, clap::Args)]
#[serde(default)]
pub struct Options {
    /// How segments are packed: fragmented MP4, or transport streams for players of before 2017
    #[arg(long, env = "REELGATE_CONTAINER", value_enum, default_value_t)]
    pub container: Container,

    /// Make these codecs too, which need fewer bytes and more time, beside the H.264 that every player knows
    #[arg(long = "codec", env = "REELGATE_CODEC", value_enum, value_delimiter = ',', value_name = "CODEC")]
    pub codecs: Vec<Codec>,

    /// Keep the high dynamic range of a source that has it, in HEVC, beside the standard range that is always made
    #[arg(long, env = "REELGATE_HDR", value_parser = FalseyValueParser::new())]
    pub hdr: bool,

    /// How much time is spent for fewer bytes
    #[arg(long, env = "REELGATE_QUALITY", value_enum, default_value_t)]
    pub quality: Quality,

    /// Encrypt segments with AES-128; the keys lie with the asset, where only who may watch it can read them
    #[arg(long, env = "REELGATE_ENCRYPT", value_parser = FalseyValueParser::new())]
    pub encrypt: bool,

    /// Take a new key for every so many segments of 6 s [default: one key for all]
    #[arg(long, env = "REELGATE_KEY_EVERY", value_name = "SEGMENTS", requires = "encrypt")]
    pub key_every: Option<NonZeroU32>,

    /// Make a rendition of one picture a second for seeking, where players otherwise have one every two seconds
    #[arg(long, env = "REELGATE_DENSE_KEY_FRAMES", value_parser = FalseyValueParser::new())]
    pub dense_key_frames: bool,

    /// Measure how near each rendition comes to the source (VMAF, in asset.json), with an ffmpeg that has libvmaf
    #[arg(long, env = "REELGATE_VMAF", value_name = "FFMPEG", num_args = 0..=1, require_equals = true,
          default_missing_value = "ffmpeg")]
    pub vmaf: Option<PathBuf>,
}

impl Options {
    /// Whether they fit together, whatever the source.
    pub fn check(&self) -> Result<(), Error> {
        let needs_fmp4 = self.hdr || self.codecs.iter().any(|codec| *codec != Codec::H264);
        if needs_fmp4 && self.container == Container::Ts { Err(Error::NeedsFmp4) } else { Ok(()) }
    }

    /// When keys change, if there are any.
    #[must_use]
    pub fn encryption(&self) -> Option<Rotation> {
        self.encrypt.then_some(Rotation { every: self.key_every })
    }
}

/// How segments are packed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Container {
    /// Fragmented MP4 (CMAF)
    #[default]
    Fmp4,
    /// MPEG-2 transport streams
    Ts,
}

/// How much time is spent for fewer bytes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// As much as a lesson is worth
    #[default]
    Standard,
    /// About twice as much, for what will be watched for years
    High,
}

/// What to make.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Plan {
    /// Of which file.
    pub input: PathBuf,
    /// How long all of it will be. In JSON, as all durations here, in seconds.
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// What of the file is before its first picture, and left out: less than a tenth of a second.
    #[serde(with = "seconds")]
    pub lead: Duration,
    /// Its pictures.
    pub video: Option<Video>,
    /// Its sound: every track in every group that it is in.
    pub audio: Vec<Audio>,
    /// Its captions.
    pub captions: Vec<Captions>,
    /// Numbers of the source's streams of sound that have one channel.
    pub mono: BTreeSet<u32>,
    /// Codecs of the captions in the source, in ffprobe's words, by number of the stream.
    pub caption_codecs: BTreeMap<u32, String>,
    /// What is to be taken out of the file's clock, where ffmpeg does not.
    pub jumps: Vec<Jump>,
    /// Every rung that was considered, made or not, with the reason.
    pub rungs: Vec<Decision>,
    /// What of the source is put right, converted or left out, in words.
    pub notes: Vec<String>,
}

/// The pictures to make.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Video {
    /// Number of the source's stream.
    pub stream: u32,
    /// When they are cut.
    pub grid: Grid,
    /// For how long the last picture stays, so that the sound can end.
    #[serde(with = "seconds")]
    pub still: Duration,
    /// Whether two fields are made into one picture.
    pub deinterlace: bool,
    /// What its colours are, all of which become BT.709.
    pub colours: Colours,
    /// Whether its numbers go from 0 to 255 instead of 16 to 235.
    pub is_full_range: bool,
    /// What HDR10 says of its brightness.
    pub mastering: Option<Mastering>,
    /// In which sizes and codecs: H.264 first, and largest first in each.
    pub renditions: Vec<Rendition>,
    /// One picture a second, each a key frame, if that is asked for.
    pub dense: Option<Rendition>,
}

/// What the colours of a source are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Colours {
    /// A standard range, by its matrix and its primaries.
    Standard(Matrix, Primaries),
    /// Red, green and blue, as of a screen.
    Rgb,
    /// High dynamic range by SMPTE ST 2084 (HDR10), up to so many cd/m².
    Pq(u32),
    /// High dynamic range by hybrid log-gamma, up to so many cd/m².
    Hlg(u32),
}

/// How luma and chroma come from red, green and blue.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Matrix {
    /// As in HD television.
    Bt709,
    /// As in SD television, and in JPEG.
    Bt601,
    /// As in UHD television.
    Bt2020,
}

/// Which red, green and blue.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Primaries {
    /// Those of HD television and of sRGB.
    Bt709,
    /// Those of SD television with 525 lines.
    Bt601Of525,
    /// Those of SD television with 625 lines.
    Bt601Of625,
    /// Those of UHD television.
    Bt2020,
    /// Those of cinemas and telephones, P3.
    P3,
}

impl Colours {
    /// Whether they have to be mapped to a standard range.
    #[must_use]
    pub fn is_hdr(self) -> bool {
        matches!(self, Self::Pq(_) | Self::Hlg(_))
    }
}

/// The sound to make: AAC-LC.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Audio {
    /// Folder and file name.
    pub name: String,
    /// Number of the source's stream.
    pub stream: u32,
    /// Which pictures it goes with.
    pub group: Group,
    /// What is spoken; the name is what a menu shows, and unique within a group.
    pub language: Language,
    /// How many channels are made.
    pub channels: u32,
    /// At which rate.
    pub kbps: u32,
    /// Whether it is heard if nobody chooses: one is in every group.
    pub is_default: bool,
    /// Whether somebody says what is to be seen.
    pub describes_video: bool,
}

/// Which sound goes with which pictures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// Two channels, with everything.
    Stereo,
    /// Two channels at a low rate, with the pictures for mobile networks.
    Low,
    /// Six channels, with everything.
    Surround,
}

/// Captions to take.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Captions {
    /// Folder and file name.
    pub name: String,
    /// Where they are.
    pub from: CaptionSource,
    /// What language they are in; the name is what a menu shows, and unique.
    pub language: Language,
    /// Whether they are seen if nobody chooses.
    pub is_default: bool,
    /// Whether they are only what every viewer needs, such as signs.
    pub forced: bool,
    /// Whether they tell of sounds too.
    pub hearing_impaired: bool,
}

/// Where captions are.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaptionSource {
    /// In the source: number of the stream.
    Stream(u32),
    /// Beside it.
    File(PathBuf),
}

/// Where pictures, key frames and segments begin.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Grid {
    /// Pictures a second.
    pub rate: Rate,
}

impl Grid {
    /// Frames from key frame to key frame.
    #[must_use]
    pub fn group(self) -> u32 {
        let frames = (f64::from(KEY_FRAME_SECONDS) * self.rate.hertz()).round();
        // Between 10 and 120, by the bounds of the rate.
        let group =
            (1..=HIGHEST_RATE * KEY_FRAME_SECONDS).find(|count| f64::from(*count) >= frames).unwrap_or(1);
        if self.rate.hertz() > SMALL_RATE { group.next_multiple_of(2) } else { group }
    }

    /// Frames from picture to picture of the rendition for scrubbing: about a second, and whole times a group.
    #[must_use]
    pub fn dense(self) -> u32 {
        let group = self.group();
        if group.is_multiple_of(2) { group / 2 } else { group }
    }

    /// Time from segment to segment.
    #[must_use]
    pub fn segment(self) -> Duration {
        self.time(u64::from(self.group()) * u64::from(GROUPS_IN_SEGMENT))
    }

    /// When so many frames have passed; a microsecond's remainder is dropped, so a cut is never late.
    fn time(self, frames: u64) -> Duration {
        Duration::from_micros(frames * u64::from(self.rate.seconds) * 1_000_000 / u64::from(self.rate.frames))
    }
}

impl Plan {
    /// Plans for a source, and captions that lie beside it.
    pub fn for_source(source: &Source, beside: &[Beside], options: &Options) -> Result<Self, Error> {
        options.check()?;
        let mut notes = source.notes.clone();
        // Sound often begins a little before the picture, with what its encoder needs to settle. With a picture more
        // to cover that, no frame would be where it was.
        let lead = source.video.as_ref().map(|video| video.start).filter(|start| *start <= probe::LATE);
        let lead = lead.unwrap_or_default();
        let video_end = source.video.as_ref().map(|video| video.end.saturating_sub(lead));
        let audio_end = source.audio.iter().map(|audio| audio.end.saturating_sub(lead)).max();
        let duration = match (video_end, audio_end) {
            (Some(video), Some(audio)) if audio > video + LONGEST_CUT => {
                let seconds = audio.saturating_sub(video).as_secs_f64();
                notes.push(format!(
                    "the picture ends {seconds:.1} s before the sound; until then its last one is shown"
                ));
                audio
            }
            (Some(end), _) | (None, Some(end)) => end,
            (None, None) => return Err(Error::Nothing),
        };
        let mut tracks = source.audio.as_slice();
        if !tracks.is_empty() && duration < SHORTEST_SOUND {
            if source.video.is_none() {
                return Err(Error::TooShort { there: duration });
            }
            notes.push("its sound is too short to be heard and was left out".to_owned());
            tracks = &[];
        }
        let mut rungs = Vec::new();
        let video = source.video.as_ref().map(|video| {
            let (video, considered) = pictures(video, duration + lead, options, &mut notes);
            rungs = considered;
            video
        });
        let has_cellular = video
            .as_ref()
            .is_some_and(|video| video.renditions.iter().any(|rendition| rendition.is_cellular));
        Ok(Self {
            input: source.path.clone(),
            duration,
            lead,
            video,
            audio: sound(tracks, has_cellular, &mut notes),
            captions: text(source, beside, &mut notes),
            mono: source.audio.iter().filter(|it| it.channels == 1).map(|it| it.stream).collect(),
            caption_codecs: source.captions.iter().map(|it| (it.stream, it.codec.clone())).collect(),
            jumps: if source.restarts { Vec::new() } else { source.jumps.clone() },
            rungs,
            notes,
        })
    }

    /// Time from segment to segment.
    #[must_use]
    pub fn segment(&self) -> Duration {
        let alone = Duration::from_secs(u64::from(KEY_FRAME_SECONDS * GROUPS_IN_SEGMENT));
        self.video.as_ref().map_or(alone, |video| video.grid.segment())
    }

    /// The least that must come out: anything shorter means that the source ended before its time.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        let loss = (self.duration / 20).max(SHORTEST_LOSS).min(self.segment());
        self.duration.saturating_sub(loss)
    }
}

/// Which pictures are made, and every rung that was considered.
fn pictures(
    source: &probe::Video,
    end: Duration,
    options: &Options,
    notes: &mut Vec<String>,
) -> (Video, Vec<Decision>) {
    let grid = Grid { rate: frame_rate(source.base_rate, source.average_rate) };
    let colours = colours(source);
    note_pictures(source, grid, colours, options, notes);
    let picture = Picture {
        width: source.width,
        height: source.height,
        kbps: source.bit_rate.map(|bits| u32::try_from(bits / 1_000).unwrap_or(u32::MAX)),
        hertz: grid.rate.hertz(),
    };
    let cellular = match options.container {
        Container::Fmp4 => ladder::CELLULAR,
        Container::Ts => ladder::CELLULAR_TS,
    };
    let mut wanted = vec![(Codec::H264, Range::Sdr, Some(cellular))];
    for codec in [Codec::Hevc, Codec::Av1] {
        if options.codecs.contains(&codec) {
            wanted.push((codec, Range::Sdr, None));
        }
    }
    if options.hdr && matches!(colours, Colours::Pq(_)) {
        wanted.push((Codec::Hevc, Range::Pq, None));
    }
    let (mut renditions, mut rungs) = (Vec::new(), Vec::new());
    for (codec, range, cellular) in wanted {
        let (kept, considered) = picture.renditions(codec, range, cellular);
        renditions.extend(kept);
        rungs.extend(considered);
    }
    let video = Video {
        stream: source.stream,
        grid,
        still: end.saturating_sub(source.end),
        deinterlace: source.is_interlaced,
        colours,
        is_full_range: source.colour.range.as_deref() == Some("pc")
            || source.pixel_format.as_deref().is_some_and(|format| format.starts_with("yuvj")),
        mastering: source.mastering.clone(),
        renditions,
        dense: options.dense_key_frames.then(|| picture.dense(grid.dense())),
    };
    (video, rungs)
}

/// Says what becomes of a picture that cannot stay as it is.
fn note_pictures(
    source: &probe::Video,
    grid: Grid,
    colours: Colours,
    options: &Options,
    notes: &mut Vec<String>,
) {
    let mut note = |text: String| notes.push(text);
    let made = grid.rate.hertz();
    match source.average_rate.map(Rate::hertz) {
        Some(average) if (average / made - 1.0).abs() > 0.01 => {
            note(format!("{average:.3} frames a second become {made:.3}"));
        }
        None => note(format!("the file does not say its frame rate; it becomes {made:.3} frames a second")),
        Some(_) => {}
    }
    if source.is_interlaced {
        note("it is interlaced; every two fields become one picture".to_owned());
    }
    if colours.is_hdr() {
        note("high dynamic range is mapped to the standard one (BT.709)".to_owned());
    }
    if options.hdr && !matches!(colours, Colours::Pq(_)) {
        note(match colours {
            Colours::Hlg(_) => "HDR10 is only made of sources in PQ; this one is in HLG".to_owned(),
            _ => "HDR10 is only made of sources in high dynamic range; this one is not".to_owned(),
        });
    }
    if let Colours::Standard(_, wide @ (Primaries::Bt2020 | Primaries::P3)) = colours {
        note(format!("its colours are wider than BT.709 ({wide:?}) and become those"));
    }
    if let Some(profile) = source.dolby_vision {
        note(format!("what Dolby Vision (profile {profile}) adds to the picture was left out"));
    }
    if source.closed_captions {
        note(
            "captions within the picture (CEA-608 or 708) were left out; put them beside it as .vtt"
                .to_owned(),
        );
    }
}

fn colours(source: &probe::Video) -> Colours {
    let colour = &source.colour;
    let peak = |said: Option<u32>| said.unwrap_or(USUAL_PEAK).clamp(*PEAKS.start(), *PEAKS.end());
    let is_rgb = colour.matrix.as_deref() == Some("gbr")
        || source.pixel_format.as_deref().is_some_and(|format| {
            ["rgb", "bgr", "gbr", "argb", "abgr", "0rgb", "0bgr", "pal8"]
                .iter()
                .any(|kind| format.starts_with(kind))
        });
    match colour.transfer.as_deref() {
        Some("smpte2084") => return Colours::Pq(peak(source.mastering.as_ref().and_then(Mastering::peak))),
        Some("arib-std-b67") => return Colours::Hlg(USUAL_PEAK),
        _ if is_rgb => return Colours::Rgb,
        _ => {}
    }
    let matrix = match colour.matrix.as_deref() {
        Some("bt2020nc" | "bt2020c") => Matrix::Bt2020,
        Some("smpte170m" | "bt470bg" | "fcc") => Matrix::Bt601,
        None if source.coded_width.min(source.coded_height) < LINES_OF_HD => Matrix::Bt601,
        _ => Matrix::Bt709,
    };
    // Not guessed by the matrix: JPEG, say, has that of SD television and the primaries of sRGB.
    let primaries = match colour.primaries.as_deref() {
        Some("bt2020") => Primaries::Bt2020,
        Some("smpte170m" | "smpte240m") => Primaries::Bt601Of525,
        Some("bt470bg") => Primaries::Bt601Of625,
        Some("smpte431" | "smpte432") => Primaries::P3,
        _ => Primaries::Bt709,
    };
    Colours::Standard(matrix, primaries)
}

impl Mastering {
    /// The brightest that it becomes, in cd/m².
    fn peak(&self) -> Option<u32> {
        let display = self.display.map(|[.., most, _]| most / 10_000);
        self.light.map(|(content, _)| content).or(display).filter(|peak| *peak > 0)
    }
}

/// Every track in every group that it is in.
fn sound(tracks: &[probe::Audio], has_cellular: bool, notes: &mut Vec<String>) -> Vec<Audio> {
    let (kept, more) = tracks.split_at(tracks.len().min(MOST_AUDIO));
    for track in more {
        notes.push(format!("audio track {} was left out: {MOST_AUDIO} are made at the most", track.stream));
    }
    let is_of_many = kept.len() > 1;
    let languages = kept.iter().map(|track| (track.language.as_deref(), track.title.as_deref()));
    let languages = language::of_tracks(languages, "Audio");
    // Whoever does not choose hears the film itself.
    let rank = |track: &probe::Audio| (track.is_commentary || track.describes_video, !track.is_default);
    let default = kept.iter().map(rank).min();
    let default = kept.iter().position(|track| Some(rank(track)) == default);
    for (track, language) in kept.iter().zip(&languages) {
        let said = track.language.as_deref().map(str::trim).filter(|tag| !tag.is_empty() && *tag != "und");
        if let (false, Some(said)) = (language.is_known(), said) {
            let said: String = said.chars().filter(|it| !it.is_control()).take(20).collect();
            notes.push(format!("audio track {} has `{said}` for a language, which is none", track.stream));
        }
    }
    let mut made = Vec::new();
    let mut names = Names::default();
    for (i, (track, language)) in kept.iter().zip(languages).enumerate() {
        let name = if is_of_many { names.next("audio", &language) } else { "audio".to_owned() };
        let mut add = |group, suffix: &str, channels, kbps| {
            made.push(Audio {
                name: format!("{name}{suffix}"),
                stream: track.stream,
                group,
                language: language.clone(),
                channels,
                kbps,
                is_default: default == Some(i),
                describes_video: track.describes_video,
            });
        };
        add(Group::Stereo, "", 2, STEREO_KBPS);
        if has_cellular {
            add(Group::Low, "-low", 2, LOW_KBPS);
        }
        if track.channels > 2 {
            add(Group::Surround, "-surround", 6, SURROUND_KBPS);
        }
    }
    made
}

/// The captions in a source, and then those beside it.
fn text(source: &Source, beside: &[Beside], notes: &mut Vec<String>) -> Vec<Captions> {
    let mut found: Vec<(Captions, Option<&str>, Option<&str>)> = Vec::new();
    let unnamed = Language { tag: String::new(), name: String::new() };
    for track in &source.captions {
        if !source.jumps.is_empty() && !source.restarts {
            notes.push(format!("captions track {} was left out: the file's clock jumps", track.stream));
            continue;
        }
        if !captions::is_text(&track.codec) {
            let codec = &track.codec;
            notes.push(format!("captions track {} is in pictures ({codec}) and was left out", track.stream));
            continue;
        }
        let captions = Captions {
            name: String::new(),
            from: CaptionSource::Stream(track.stream),
            language: unnamed.clone(),
            // Muxers set the flag on any first track; only of forced ones it is meant.
            is_default: track.is_default && track.forced,
            forced: track.forced,
            hearing_impaired: track.hearing_impaired,
        };
        found.push((captions, track.language.as_deref(), track.title.as_deref()));
    }
    for file in beside {
        let captions = Captions {
            name: String::new(),
            from: CaptionSource::File(file.path.clone()),
            language: unnamed.clone(),
            is_default: false,
            forced: file.forced,
            hearing_impaired: file.hearing_impaired,
        };
        found.push((captions, file.language.as_deref(), None));
    }
    if let Some(more) = found.len().checked_sub(MOST_CAPTIONS).filter(|more| *more > 0) {
        notes.push(format!(
            "the last {more} of the captions were left out: {MOST_CAPTIONS} are taken at the most"
        ));
    }
    found.truncate(MOST_CAPTIONS);
    let languages = language::of_tracks(found.iter().map(|(_, tag, title)| (*tag, *title)), "Captions");
    let (mut names, mut has_default) = (Names::default(), false);
    let captions = found.into_iter().zip(languages).map(|((captions, ..), language)| {
        let is_default = captions.is_default && !has_default;
        has_default |= is_default;
        Captions { name: names.next("captions", &language), language, is_default, ..captions }
    });
    captions.collect()
}

/// Names of folders that were given.
#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// `audio-de`, and the next one `audio-de-2`; nothing but letters, digits and hyphens.
    fn next(&mut self, kind: &str, language: &Language) -> String {
        let name = format!("{kind}-{}", language.tag.to_ascii_lowercase());
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        names.find(|name| self.0.insert(name.clone())).unwrap_or(name)
    }
}

/// The rate to encode at: the source's own where it is even and within the bounds.
fn frame_rate(base: Option<Rate>, average: Option<Rate>) -> Rate {
    let rate = match (base, average) {
        (Some(base), Some(average)) if (base.hertz() / average.hertz() - 1.0).abs() < 0.01 => base,
        (_, Some(average)) => standard(average),
        (Some(base), None) => standard(base),
        (None, None) => Rate { frames: 30, seconds: 1 },
    };
    // Every second, third … frame, so that motion stays even. A little above 60 is 60.
    let over = (1..=1_000_000)
        .find(|every| rate.hertz() / f64::from(*every) < f64::from(HIGHEST_RATE) + 0.5)
        .unwrap_or(1);
    let under = (1..=1_000).find(|times| rate.hertz() * f64::from(*times) >= f64::from(LOWEST_RATE));
    let rate = Rate {
        frames: rate.frames.saturating_mul(under.unwrap_or(1)),
        seconds: rate.seconds.saturating_mul(over),
    };
    let is_within = (f64::from(LOWEST_RATE)..=f64::from(HIGHEST_RATE)).contains(&rate.hertz());
    if is_within { rate } else { standard(rate) }
}

fn standard(average: Rate) -> Rate {
    let rates = STANDARD_RATES.map(|(frames, seconds)| Rate { frames, seconds });
    let [.., highest] = rates;
    rates.into_iter().find(|rate| rate.hertz() >= average.hertz() * 0.998).unwrap_or(highest)
}

/// Why there is nothing to make.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source has neither picture nor sound.
    #[error("there is neither a video nor an audio track to encode")]
    Nothing,
    /// There is next to nothing in the source.
    #[error(
        "there is too little in it: {} ms of sound, and at least {} are needed",
        there.as_millis(), SHORTEST_SOUND.as_millis()
    )]
    TooShort {
        /// How long it plays.
        there: Duration,
    },
    /// Transport streams are asked for, and with them what they cannot carry.
    #[error(
        "HEVC, AV1 and HDR10 need fragmented MP4 (Apple's rule 1.5): leave out `--container ts`, or them"
    )]
    NeedsFmp4,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe;

    fn rate(frames: u32, seconds: u32) -> Rate {
        Rate { frames, seconds }
    }

    fn chosen(base: impl Into<Option<Rate>>, average: impl Into<Option<Rate>>) -> (u32, u32) {
        let Rate { frames, seconds } = frame_rate(base.into(), average.into());
        (frames, seconds)
    }

    #[test]
    fn an_even_rate_is_kept() {
        for (frames, seconds) in [(30_000, 1001), (24_000, 1001), (25, 1), (25, 2), (60, 1), (5, 1)] {
            assert_eq!(chosen(rate(frames, seconds), rate(frames, seconds)), (frames, seconds));
        }
        // One frame was lost at the end.
        assert_eq!(chosen(rate(30, 1), rate(2990, 100)), (30, 1));
    }

    #[test]
    fn a_varying_rate_becomes_the_next_standard_one() {
        assert_eq!(chosen(rate(90_000, 1), rate(2993, 100)), (30_000, 1001));
        assert_eq!(chosen(rate(1000, 1), None), (60, 1));
        assert_eq!(chosen(rate(120, 1), rate(41, 1)), (50, 1));
        assert_eq!(chosen(None, None), (30, 1));
    }

    #[test]
    fn a_high_rate_is_divided_and_a_low_one_multiplied() {
        assert_eq!(chosen(rate(120, 1), rate(120, 1)), (120, 2));
        assert_eq!(chosen(rate(120_000, 1001), rate(120_000, 1001)), (120_000, 2002));
        assert_eq!(chosen(rate(240, 1), rate(240, 1)), (240, 4));
        assert_eq!(chosen(rate(1, 1), rate(1, 1)), (5, 1));
        assert_eq!(chosen(rate(1, 4), rate(1, 4)), (20, 4));
        assert_eq!(chosen(rate(603, 10), rate(603, 10)), (60, 1));
    }

    #[test]
    fn the_grid_counts_frames() {
        let grid = |frames, seconds| {
            let grid = Grid { rate: Rate { frames, seconds } };
            (grid.group(), grid.segment().as_micros())
        };
        assert_eq!(grid(30, 1), (60, 6_000_000));
        assert_eq!(grid(30_000, 1001), (60, 6_006_000));
        assert_eq!(grid(24_000, 1001), (48, 6_006_000));
        assert_eq!(grid(25, 2), (25, 6_000_000));
        assert_eq!(grid(120_000, 2002), (120, 6_006_000));
    }

    fn video(end: u64) -> probe::Video {
        probe::Video {
            width: 640,
            height: 360,
            coded_width: 640,
            coded_height: 360,
            base_rate: Some(rate(30, 1)),
            average_rate: Some(rate(30, 1)),
            end: Duration::from_millis(end),
            ..probe::Video::default()
        }
    }

    fn audio(end: u64) -> probe::Audio {
        probe::Audio { stream: 1, channels: 2, end: Duration::from_millis(end), ..probe::Audio::default() }
    }

    fn planned(source: &Source) -> Plan {
        Plan::for_source(source, &[], &Options::default()).unwrap()
    }

    fn plan(video: Option<u64>, audio: Option<u64>) -> Plan {
        let (video, audio) = (video.map(self::video), audio.map(self::audio).into_iter().collect());
        planned(&Source { video, audio, ..Source::default() })
    }

    #[test]
    fn picture_and_sound_end_together() {
        let lengths = |video, audio| {
            let plan = plan(video, audio);
            (plan.duration.as_millis(), plan.video.map_or(0, |video| video.still.as_millis()))
        };
        assert_eq!(lengths(Some(8_000), Some(8_021)), (8_000, 0));
        assert_eq!(lengths(Some(8_000), Some(3_000)), (8_000, 0));
        assert_eq!(lengths(Some(8_000), Some(20_000)), (20_000, 12_000));
        assert_eq!(lengths(Some(8_000), None), (8_000, 0));
        assert_eq!(lengths(None, Some(20_000)), (20_000, 0));
    }

    #[test]
    fn a_moment_of_sound_is_too_little_alone_and_left_out_of_a_picture() {
        let source = Source { audio: vec![audio(10)], ..Source::default() };
        let error = Plan::for_source(&source, &[], &Options::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is too little in it: 10 ms of sound, and at least 25 are needed"
        );
        assert!(plan(Some(17), Some(17)).audio.is_empty());
        assert!(!plan(Some(40), Some(17)).audio.is_empty());
    }

    #[test]
    fn a_loss_is_noticed_within_a_segment() {
        let shortest = |duration| plan(Some(duration), None).shortest().as_millis();
        assert_eq!(shortest(4_000), 3_500);
        assert_eq!(shortest(60_000), 57_000);
        assert_eq!(shortest(600_000), 594_000);
        assert_eq!(shortest(100), 0);
    }

    #[test]
    fn a_group_can_be_halved_where_small_renditions_are() {
        for (frames, seconds, group, dense) in
            [(75, 2, 76, 38), (50, 1, 100, 50), (25, 2, 25, 25), (24, 1, 48, 24)]
        {
            let grid = Grid { rate: rate(frames, seconds) };
            assert_eq!((grid.group(), grid.dense()), (group, dense), "{frames}/{seconds}");
        }
    }

    #[test]
    fn what_comes_just_before_the_picture_is_left_out() {
        let starting = |start| {
            let video = probe::Video { start: Duration::from_millis(start), ..video(8_023) };
            let plan =
                planned(&Source { video: Some(video), audio: vec![audio(8_030)], ..Source::default() });
            (plan.lead.as_millis(), plan.duration.as_millis(), plan.video.unwrap().still.as_millis())
        };
        assert_eq!(starting(23), (23, 8_000, 0));
        // Worth hearing: the first picture is shown for it.
        assert_eq!(starting(200), (0, 8_023, 0));
    }

    #[test]
    fn colours_are_known_by_their_tags_or_else_by_their_size() {
        let of = |height: u32, matrix: Option<&str>, transfer: Option<&str>, primaries: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            let colour = probe::Colour {
                matrix: own(matrix),
                transfer: own(transfer),
                primaries: own(primaries),
                range: None,
            };
            colours(&probe::Video { coded_width: 1_280, coded_height: height, colour, ..video(1) })
        };
        let standard = Colours::Standard;
        assert_eq!(of(720, None, None, None), standard(Matrix::Bt709, Primaries::Bt709));
        assert_eq!(of(576, None, None, None), standard(Matrix::Bt601, Primaries::Bt709));
        assert_eq!(of(576, Some("bt709"), None, None), standard(Matrix::Bt709, Primaries::Bt709));
        assert_eq!(
            of(720, Some("bt470bg"), None, Some("bt470bg")),
            standard(Matrix::Bt601, Primaries::Bt601Of625)
        );
        assert_eq!(of(720, Some("bt709"), None, Some("smpte432")), standard(Matrix::Bt709, Primaries::P3));
        assert_eq!(of(720, Some("gbr"), None, None), Colours::Rgb);
        assert_eq!(of(720, Some("bt2020nc"), Some("smpte2084"), Some("bt2020")), Colours::Pq(1_000));
        assert_eq!(of(720, Some("bt2020nc"), Some("arib-std-b67"), Some("bt2020")), Colours::Hlg(1_000));
    }

    #[test]
    fn tracks_that_look_alike_are_all_kept_up_to_sixteen() {
        let track = |stream| probe::Audio { stream, packets: Some(9), bit_rate: Some(9), ..audio(8_000) };
        let made = |count: u32| {
            let audio = (1..=count).map(track).collect();
            let plan = planned(&Source { video: Some(video(8_000)), audio, ..Source::default() });
            let stereo = plan.audio.into_iter().filter(|it| it.group == Group::Stereo);
            (stereo.map(|it| (it.name, it.language.name)).collect::<Vec<_>>(), plan.notes)
        };
        // As many bytes at the same rate: so are two microphones that are recorded without compression.
        let (two, notes) = made(2);
        assert_eq!(
            two.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["audio-und", "audio-und-2"]
        );
        assert_ne!(two[0].1, two[1].1);
        assert!(notes.is_empty(), "{notes:?}");
        let (many, notes) = made(20);
        assert_eq!((many.len(), notes.len()), (16, 4));
    }

    #[test]
    fn one_track_is_the_default_in_each_group_and_it_is_the_film() {
        let of = |flags: [(bool, bool, bool); 3]| {
            let tracks =
                flags.iter().zip(0..).map(|((is_default, is_commentary, describes_video), stream)| {
                    let (is_default, is_commentary, describes_video) =
                        (*is_default, *is_commentary, *describes_video);
                    probe::Audio {
                        stream,
                        is_default,
                        is_commentary,
                        describes_video,
                        channels: 6,
                        ..audio(8_000)
                    }
                });
            let source = Source { video: Some(video(8_000)), audio: tracks.collect(), ..Source::default() };
            let plan = planned(&source);
            for group in [Group::Stereo, Group::Low, Group::Surround] {
                assert_eq!(plan.audio.iter().filter(|it| it.group == group && it.is_default).count(), 1);
            }
            plan.audio.iter().find(|it| it.is_default).unwrap().stream
        };
        assert_eq!(of([(false, false, false), (true, false, false), (false, false, false)]), 1);
        assert_eq!(of([(true, true, false), (true, false, true), (false, false, false)]), 2);
        assert_eq!(of([(false, false, false), (false, false, false), (false, false, false)]), 0);
        assert_eq!(of([(false, true, false), (true, true, false), (false, true, false)]), 1);
    }

    #[test]
    fn captions_in_pictures_are_left_out_and_files_come_last() {
        let track = |stream, codec: &str, title: Option<&str>| probe::Captions {
            stream,
            codec: codec.to_owned(),
            language: Some("eng".to_owned()),
            title: title.map(str::to_owned),
            is_default: true,
            forced: stream == 3,
            hearing_impaired: false,
        };
        let captions = vec![
            track(2, "mov_text", None),
            track(3, "subrip", Some("Signs")),
            track(4, "dvd_subtitle", None),
        ];
        let source = Source { video: Some(video(8_000)), captions, ..Source::default() };
        let beside = Beside {
            path: "a.de.vtt".into(),
            language: Some("de".into()),
            forced: false,
            hearing_impaired: true,
        };
        let plan = Plan::for_source(&source, &[beside], &Options::default()).unwrap();
        let found: Vec<_> = plan
            .captions
            .iter()
            .map(|it| (it.name.as_str(), it.language.name.as_str(), it.is_default, it.hearing_impaired))
            .collect();
        assert_eq!(
            found,
            [
                ("captions-en", "English", false, false),
                ("captions-en-2", "English (Signs)", true, false),
                ("captions-de", "Deutsch", false, true)
            ]
        );
        assert_eq!(plan.notes, ["captions track 4 is in pictures (dvd_subtitle) and was left out"]);
    }

    #[test]
    fn transport_streams_carry_h264_alone() {
        let source = Source { video: Some(video(8_000)), ..Source::default() };
        let ts = Options { container: Container::Ts, ..Options::default() };
        assert!(Plan::for_source(&source, &[], &ts).is_ok());
        for options in
            [Options { codecs: vec![Codec::Hevc], ..ts.clone() }, Options { hdr: true, ..ts.clone() }]
        {
            assert!(matches!(Plan::for_source(&source, &[], &options), Err(Error::NeedsFmp4)));
        }
    }

    #[test]
    fn what_is_asked_for_and_cannot_be_is_said() {
        let source = Source { video: Some(video(8_000)), ..Source::default() };
        let options =
            Options { hdr: true, codecs: vec![Codec::Hevc, Codec::H264, Codec::Hevc], ..Options::default() };
        let plan = Plan::for_source(&source, &[], &options).unwrap();
        assert_eq!(plan.notes, ["HDR10 is only made of sources in high dynamic range; this one is not"]);
        let names: Vec<_> = plan.video.unwrap().renditions.into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["360p", "360p-low", "234p", "360p-hevc", "360p-low-hevc"]);
    }
}
