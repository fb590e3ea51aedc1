//! Writes the playlists, from what was measured.
//!
//! Written with `m3u8-rs`, in the terms of [RFC 8216] and by Apple's [authoring guide], whose rules are named
//! where they decide something.
//!
//! [RFC 8216]: https://www.rfc-editor.org/rfc/rfc8216
//! [authoring guide]: https://developer.apple.com/documentation/http-live-streaming/hls-authoring-specification-for-apple-devices

use std::collections::HashMap;

use m3u8_rs::{
    AlternativeMedia, AlternativeMediaType, ByteRange, ClosedCaptionGroupId, ExtTag, Map, MasterPlaylist,
    MediaPlaylist, MediaPlaylistType, MediaSegment, QuotedOrUnquoted, Resolution, VariantStream,
};

use crate::captions;
use crate::ladder::Range;
use crate::plan::{self, Container, Group};
use crate::transport_stream;

/// `EXT-X-MAP` without `I-FRAMES-ONLY` needs 6; 7 is what fragmented MP4 is written with everywhere.
const VERSION: usize = 7;

/// The group that all captions are in.
const CAPTIONS: &str = "captions";

/// Playback starts with the best variant whose peak is within this many bits a second: a picture soon, and a fair
/// one. Players that begin with the first of the list have measured nothing yet.
const FIRST_VARIANT: u64 = 2_500_000;

/// Name of the initialisation section, beside the media playlist.
pub const INIT: &str = "init.mp4";

/// Name of a media playlist, in the folder of its track.
pub const MEDIA: &str = "index.m3u8";

/// Name of the playlist of a track's key frames, in the folder of the track.
pub const KEY_FRAMES: &str = "iframes.m3u8";

/// One track, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Folder of its media playlist.
    pub name: String,
    /// Its codec, in the words of RFC 6381; empty where it has none.
    pub codecs: String,
    /// What it is for.
    pub kind: Kind,
    /// Its segments, in order.
    pub segments: Vec<Measured>,
    /// Its key frames, in order.
    pub key_frames: Vec<KeyFrame>,
}

/// What a track is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A picture.
    Picture(Picture),
    /// One key frame after the other, for the pictures that a viewer sees while seeking.
    KeyFrames(Picture),
    /// Sound.
    Sound(plan::Audio),
    /// Text over the picture.
    Captions(plan::Captions),
}

/// What there is to say of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: f64,
    /// What its brightest white is.
    pub range: Range,
    /// Whether it is for lines on which nothing else arrives in time.
    pub is_cellular: bool,
}

/// A segment, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Its name, beside the media playlist.
    pub name: String,
    /// How long it plays, in seconds.
    pub seconds: f64,
    /// Its size.
    pub bytes: u64,
    /// The key it needs, where it is another one than that of the segment before it: `EXT-X-KEY`'s attributes.
    pub new_key: Option<String>,
}

/// A key frame, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyFrame {
    /// The object it is in, beside the media playlist.
    pub name: String,
    /// Where in it; nothing if it is all of it.
    pub offset: Option<u64>,
    /// Its size.
    pub bytes: u64,
    /// How long it is until the next one, in seconds.
    pub seconds: f64,
    /// The key it needs, where it is another one than that of the key frame before it.
    pub new_key: Option<String>,
}

/// How much of the line something needs, in bits a second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rates {
    /// All bits over all time.
    pub average: u64,
    /// At most.
    pub peak: u64,
}

impl Rates {
    /// Of things that follow each other, by seconds and bytes.
    ///
    /// The peak is the largest over any in a row that together last between half and one and a half times the
    /// target duration ([RFC 8216 §4.1]), so that a short last one counts with its neighbour.
    ///
    /// [RFC 8216 §4.1]: https://www.rfc-editor.org/rfc/rfc8216#section-4.1
    #[must_use]
    pub fn of(things: &[(f64, u64)], target: u64) -> Self {
        let target = f64::from(u32::try_from(target).unwrap_or(u32::MAX));
        let within = 0.5 * target..=1.5 * target;
        let sum = |(seconds, bytes): (f64, u64), thing: &(f64, u64)| (seconds + thing.0, bytes + thing.1);
        let (seconds, bytes) = things.iter().fold((0.0, 0), sum);
        let average = rate(bytes, seconds);
        let mut peak = average;
        for first in 0..things.len() {
            let mut total = (0.0, 0);
            for thing in &things[first..] {
                total = sum(total, thing);
                if total.0 > *within.end() {
                    break;
                }
                if within.contains(&total.0) {
                    peak = peak.max(rate(total.1, total.0));
                }
            }
        }
        Self { average, peak }
    }

    fn plus(self, other: Self) -> Self {
        Self { average: self.average + other.average, peak: self.peak + other.peak }
    }

    /// What is enough for either.
    fn or(self, other: Self) -> Self {
        Self { average: self.average.max(other.average), peak: self.peak.max(other.peak) }
    }
}

/// Bits a second, rounded up: a declared rate is a promise not to need more.
fn rate(bytes: u64, seconds: f64) -> u64 {
    // Bytes of one track: far below 2^53, where floats are exact.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let bits = (bytes * 8) as f64;
    if seconds <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and far below 2^53"
    )]
    let rate = (bits / seconds).ceil() as u64;
    rate
}

impl Track {
    /// How long it plays, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.segments.iter().map(|segment| segment.seconds).sum()
    }

    /// What its segments need of the line.
    #[must_use]
    pub fn rates(&self, target: u64) -> Rates {
        let segments: Vec<_> = self.segments.iter().map(|segment| (segment.seconds, segment.bytes)).collect();
        Rates::of(&segments, target)
    }

    /// What its key frames need of the line at normal speed.
    #[must_use]
    pub fn key_frame_rates(&self) -> Rates {
        let frames: Vec<_> = self.key_frames.iter().map(|frame| (frame.seconds, frame.bytes)).collect();
        Rates::of(&frames, longest(frames.iter().map(|(seconds, _)| *seconds)))
    }

    fn picture(&self) -> Option<Picture> {
        match self.kind {
            Kind::Picture(picture) => Some(picture),
            _ => None,
        }
    }

    fn sound(&self) -> Option<&plan::Audio> {
        match &self.kind {
            Kind::Sound(sound) => Some(sound),
            _ => None,
        }
    }

    fn captions(&self) -> Option<&plan::Captions> {
        match &self.kind {
            Kind::Captions(captions) => Some(captions),
            _ => None,
        }
    }
}

/// The target duration that fits all pictures and all sound. One for all, or players switch between them badly
/// (rule 8.2).
#[must_use]
pub fn target_duration(tracks: &[Track]) -> u64 {
    let timed = tracks.iter().filter(|track| track.captions().is_none());
    longest(timed.flat_map(|track| &track.segments).map(|segment| segment.seconds))
}

/// Rounded, not up: something may be longer than the target by what rounding takes off.
fn longest(seconds: impl Iterator<Item = f64>) -> u64 {
    let longest = seconds.fold(0.0, f64::max).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, and not negative")]
    let target = longest as u64;
    target.max(1)
}

/// A track's own playlist.
#[must_use]
pub fn media(track: &Track, container: Container, target: u64) -> String {
    let own = track.captions().map(|_| longest(track.segments.iter().map(|segment| segment.seconds)));
    let segments = track.segments.iter().enumerate().map(|(i, segment)| MediaSegment {
        uri: segment.name.clone(),
        duration: extinf(segment.seconds),
        map: (i == 0 && track.captions().is_none()).then(|| map(container)).flatten(),
        unknown_tags: key(segment.new_key.as_ref()),
        ..MediaSegment::default()
    });
    vod(&MediaPlaylist {
        target_duration: own.unwrap_or(target),
        independent_segments: true,
        segments: segments.collect(),
        ..MediaPlaylist::default()
    })
}

/// The playlist of a track's key frames (rules 6.1, 6.8, 6.10).
#[must_use]
pub fn key_frames(track: &Track, container: Container) -> String {
    // In a transport stream, ranges come after the tables that an object begins with.
    let tables = |frame: &KeyFrame| {
        let byte_range = Some(ByteRange { length: transport_stream::TABLES as u64, offset: Some(0) });
        frame.offset.map(|_| Map { uri: frame.name.clone(), byte_range, ..Map::default() })
    };
    let segments = track.key_frames.iter().enumerate().map(|(i, frame)| MediaSegment {
        uri: frame.name.clone(),
        duration: extinf(frame.seconds),
        byte_range: frame.offset.map(|offset| ByteRange { length: frame.bytes, offset: Some(offset) }),
        map: (i == 0).then(|| map(container).or_else(|| tables(frame))).flatten(),
        unknown_tags: key(frame.new_key.as_ref()),
        ..MediaSegment::default()
    });
    vod(&MediaPlaylist {
        target_duration: longest(track.key_frames.iter().map(|frame| frame.seconds)),
        i_frames_only: true,
        segments: segments.collect(),
        ..MediaPlaylist::default()
    })
}

fn vod(playlist: &MediaPlaylist) -> String {
    let playlist = MediaPlaylist {
        version: Some(VERSION),
        playlist_type: Some(MediaPlaylistType::Vod),
        end_list: true,
        ..playlist.clone()
    };
    written(|buffer| playlist.write_to(buffer))
}

fn map(container: Container) -> Option<Map> {
    (container == Container::Fmp4).then(|| Map { uri: INIT.to_owned(), ..Map::default() })
}

/// As a tag of its own, because it has to come after the map, which would otherwise be encrypted too
/// (RFC 8216 §4.3.2.5).
fn key(attributes: Option<&String>) -> Vec<ExtTag> {
    attributes
        .map(|attributes| ExtTag { tag: "X-KEY".to_owned(), rest: Some(attributes.clone()) })
        .into_iter()
        .collect()
}

/// `m3u8-rs` keeps durations in 32 bits, and prints as many digits as tell such a number from the next. Around 6
/// seconds that is within 0.24 µs, so even if every error went the same way, the sum over two hours (1,200
/// segments) would be off by 0.3 ms: less than a sample of AAC lasts, where Apple asks for less than a frame
/// (rule 8.1).
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn extinf(seconds: f64) -> f32 {
    ((seconds * 1e6).round() / 1e6) as f32
}

/// The sheets of small pictures, for the multivariant playlist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Images {
    /// Their playlist, from the multivariant one.
    pub uri: String,
    /// The most that they need of the line, in bits a second.
    pub bandwidth: u64,
    /// Size of one small picture.
    pub size: (u32, u32),
}

/// The multivariant playlist. The folders of tracks are in `folder` from where it lies.
#[must_use]
pub fn multivariant(tracks: &[Track], images: Option<&Images>, target: u64, folder: &str) -> String {
    let uri = |track: &Track, name: &str| format!("{folder}/{}/{name}", track.name);
    let in_group = |group: Group| {
        tracks.iter().filter(move |track| track.sound().is_some_and(|sound| sound.group == group))
    };
    let loudest = |group: Group| in_group(group).map(|track| track.rates(target)).reduce(Rates::or);
    let captions = tracks.iter().filter(|track| track.captions().is_some());
    let captions = captions.map(|track| track.rates(target)).reduce(Rates::or);
    let subtitles = captions.map(|_| CAPTIONS.to_owned());
    let is_sdr = tracks.iter().all(|track| track.picture().is_none_or(|picture| picture.range == Range::Sdr));

    let mut variants = Vec::new();
    for (track, picture) in tracks.iter().filter_map(|track| Some((track, track.picture()?))) {
        let groups: Vec<Group> = if picture.is_cellular && loudest(Group::Low).is_some() {
            vec![Group::Low]
        } else {
            [Group::Stereo, Group::Surround].into_iter().filter(|group| loudest(*group).is_some()).collect()
        };
        let groups = if groups.is_empty() { vec![None] } else { groups.into_iter().map(Some).collect() };
        for group in groups {
            // Whatever sound and captions are chosen, the declared rates must do (rule 9.13).
            let sound = group.and_then(loudest).unwrap_or_default();
            let rates = track.rates(target).plus(sound).plus(captions.unwrap_or_default());
            let sound_codecs = group.into_iter().flat_map(in_group).map(|track| track.codecs.as_str());
            variants.push(VariantStream {
                uri: uri(track, MEDIA),
                bandwidth: rates.peak,
                average_bandwidth: Some(rates.average),
                codecs: Some(codecs(&track.codecs, sound_codecs)),
                // Three decimals, says RFC 8216 §4.3.4.2.
                frame_rate: Some((picture.frame_rate * 1e3).round() / 1e3),
                audio: group.map(|group| group_id(group).to_owned()),
                subtitles: subtitles.clone(),
                closed_captions: Some(ClosedCaptionGroupId::None),
                ..pictured(picture, is_sdr)
            });
        }
    }
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.bandwidth));
    let first = variants.iter().position(|variant| variant.bandwidth <= FIRST_VARIANT);
    if let Some(first) = first.or(variants.len().checked_sub(1)) {
        variants[..=first].rotate_right(1);
    }

    let has_picture = !variants.is_empty();
    let mut alternatives = Vec::new();
    for group in [Group::Stereo, Group::Surround, Group::Low] {
        // Without a picture, sound is a variant: a group that no variant names is never played. One track alone
        // needs no group then.
        let main = in_group(group).find(|track| track.sound().is_some_and(|sound| sound.is_default));
        if !has_picture && let (Some(main), Some(rates)) = (main, loudest(group)) {
            variants.push(VariantStream {
                uri: uri(main, MEDIA),
                bandwidth: rates.peak,
                average_bandwidth: Some(rates.average),
                codecs: Some(main.codecs.clone()),
                audio: (in_group(group).count() > 1).then(|| group_id(group).to_owned()),
                subtitles: subtitles.clone(),
                ..VariantStream::default()
            });
        }
        if has_picture || in_group(group).count() > 1 {
            alternatives
                .extend(in_group(group).filter_map(|track| Some(sound(track.sound()?, uri(track, MEDIA)))));
        }
    }
    alternatives.extend(tracks.iter().filter_map(|track| Some(text(track.captions()?, uri(track, MEDIA)))));

    for track in tracks.iter().filter(|track| !track.key_frames.is_empty()) {
        let (Kind::Picture(picture) | Kind::KeyFrames(picture)) = &track.kind else { continue };
        let rates = track.key_frame_rates();
        variants.push(VariantStream {
            is_i_frame: true,
            uri: uri(track, KEY_FRAMES),
            bandwidth: rates.peak,
            average_bandwidth: Some(rates.average),
            codecs: Some(track.codecs.clone()),
            ..pictured(*picture, is_sdr)
        });
    }
    let playlist = MasterPlaylist {
        version: Some(VERSION),
        independent_segments: true,
        alternatives,
        variants,
        unknown_tags: images.iter().map(|images| image_stream(images)).collect(),
        ..MasterPlaylist::default()
    };
    written(|buffer| playlist.write_to(buffer))
}

fn pictured(picture: Picture, is_sdr: bool) -> VariantStream {
    let range = match picture.range {
        Range::Sdr => "SDR",
        Range::Pq => "PQ",
    };
    // Where all are SDR, nothing needs to be said (rule 9.16).
    let range = [("VIDEO-RANGE".to_owned(), QuotedOrUnquoted::Unquoted(range.to_owned()))];
    VariantStream {
        resolution: Some(Resolution { width: picture.width.into(), height: picture.height.into() }),
        other_attributes: (!is_sdr).then(|| HashMap::from(range)),
        ..VariantStream::default()
    }
}

fn group_id(group: Group) -> &'static str {
    match group {
        Group::Stereo => "audio",
        Group::Low => "audio-low",
        Group::Surround => "audio-surround",
    }
}

/// All that a player must be able to decode (rule 9.1).
fn codecs<'a>(picture: &'a str, sound: impl Iterator<Item = &'a str>) -> String {
    let mut codecs = vec![picture];
    for codec in sound {
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    codecs.join(",")
}

fn sound(sound: &plan::Audio, uri: String) -> AlternativeMedia {
    AlternativeMedia {
        media_type: AlternativeMediaType::Audio,
        uri: Some(uri),
        group_id: group_id(sound.group).to_owned(),
        language: Some(sound.language.tag.clone()),
        name: sound.language.name.clone(),
        default: sound.is_default,
        autoselect: true,
        channels: Some(sound.channels.to_string()),
        characteristics: sound.describes_video.then(|| "public.accessibility.describes-video".to_owned()),
        ..AlternativeMedia::default()
    }
}

fn text(captions: &plan::Captions, uri: String) -> AlternativeMedia {
    AlternativeMedia {
        media_type: AlternativeMediaType::Subtitles,
        uri: Some(uri),
        group_id: CAPTIONS.to_owned(),
        language: Some(captions.language.tag.clone()),
        name: captions.language.name.clone(),
        default: captions.is_default,
        autoselect: captions::AUTOSELECT,
        forced: captions.forced,
        characteristics: captions.hearing_impaired.then(|| captions::FOR_HEARING_IMPAIRED.to_owned()),
        ..AlternativeMedia::default()
    }
}

/// A tag of Roku's "HLS image media playlist", which `m3u8-rs` does not know.
fn image_stream(images: &Images) -> ExtTag {
    let Images { uri, bandwidth, size: (width, height) } = images;
    let attributes =
        format!("BANDWIDTH={bandwidth},RESOLUTION={width}x{height},CODECS=\"jpeg\",URI=\"{uri}\"");
    ExtTag { tag: "X-IMAGE-STREAM-INF".to_owned(), rest: Some(attributes) }
}

fn written(write: impl Fn(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut buffer = Vec::new();
    write(&mut buffer).expect("memory can be written to");
    String::from_utf8(buffer).expect("a playlist of strings is text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::{self, Language};
    use crate::plan::CaptionSource;

    fn segments(things: &[(f64, u64)]) -> Vec<Measured> {
        let measured = |(i, (seconds, bytes)): (usize, &(f64, u64))| Measured {
            name: format!("{:05}.m4s", i + 1),
            seconds: *seconds,
            bytes: *bytes,
            new_key: None,
        };
        things.iter().enumerate().map(measured).collect()
    }

    fn picture(name: &str, (width, height): (u32, u32), things: &[(f64, u64)]) -> Track {
        let (range, is_cellular) = (Range::Sdr, name == "234p");
        let picture = Picture { width, height, frame_rate: 30_000.0 / 1001.0, range, is_cellular };
        let segments = segments(things);
        Track {
            name: name.into(),
            codecs: "avc1.64001f".into(),
            kind: Kind::Picture(picture),
            segments,
            key_frames: Vec::new(),
        }
    }

    fn sound(name: &str, group: Group, code: &str, is_default: bool, bytes: u64) -> Track {
        let kind = Kind::Sound(plan::Audio {
            name: name.into(),
            stream: 1,
            group,
            language: language::of_track(Some(code)),
            channels: if group == Group::Surround { 6 } else { 2 },
            kbps: 128,
            is_default,
            describes_video: name.contains("described"),
        });
        let segments = segments(&[(6.0, bytes), (2.0, bytes / 3)]);
        Track { name: name.into(), codecs: "mp4a.40.2".into(), kind, segments, key_frames: Vec::new() }
    }

    fn captions(name: &str, forced: bool, hearing_impaired: bool) -> Track {
        let language = Language { tag: "de".into(), name: name.into() };
        let from = CaptionSource::File("a.srt".into());
        let captions =
            plan::Captions { name: name.into(), from, language, is_default: false, forced, hearing_impaired };
        let segments = segments(&[(8.0, 1_000)]);
        Track {
            name: name.into(),
            codecs: String::new(),
            kind: Kind::Captions(captions),
            segments,
            key_frames: Vec::new(),
        }
    }

    fn lines(text: &str, tag: &str) -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(tag)).map(str::to_owned).collect()
    }

    #[test]
    fn a_media_playlist_is_as_apple_wants_it() {
        let track = picture("720p", (1280, 720), &[(6.006, 1), (5.994_666_7, 1), (2.002, 1)]);
        assert_eq!(
            media(&track, Container::Fmp4, 6),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-TARGETDURATION:6\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MAP:URI=\"init.mp4\"\n\
             #EXTINF:6.006,\n00001.m4s\n#EXTINF:5.994667,\n00002.m4s\n#EXTINF:2.002,\n00003.m4s\n\
             #EXT-X-ENDLIST\n"
        );
        assert!(!media(&track, Container::Ts, 6).contains("MAP"));
    }

    #[test]
    fn the_map_comes_before_the_first_key_and_keys_where_they_change() {
        let mut track = picture("720p", (1280, 720), &[(6.0, 1), (6.0, 1), (6.0, 1)]);
        track.segments[0].new_key = Some("METHOD=AES-128,URI=\"1\"".into());
        track.segments[2].new_key = Some("METHOD=AES-128,URI=\"2\"".into());
        assert!(media(&track, Container::Fmp4, 6).contains(
            "#EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-KEY:METHOD=AES-128,URI=\"1\"\n#EXTINF:6,\n00001.m4s\n\
             #EXTINF:6,\n00002.m4s\n#EXT-X-KEY:METHOD=AES-128,URI=\"2\"\n#EXTINF:6,\n00003.m4s\n"
        ));
    }

    #[test]
    fn key_frames_are_ranges_or_objects() {
        let frame = |name: &str, offset, bytes| KeyFrame {
            name: name.into(),
            offset,
            bytes,
            seconds: 2.002,
            new_key: None,
        };
        let mut track = picture("720p", (1280, 720), &[(4.004, 1)]);
        track.key_frames = vec![frame("00001.m4s", Some(0), 100), frame("00001.m4s", Some(900), 200)];
        assert_eq!(
            key_frames(&track, Container::Fmp4),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-I-FRAMES-ONLY\n\
             #EXT-X-MAP:URI=\"init.mp4\"\n#EXT-X-BYTERANGE:100@0\n#EXTINF:2.002,\n00001.m4s\n\
             #EXT-X-BYTERANGE:200@900\n#EXTINF:2.002,\n00001.m4s\n#EXT-X-ENDLIST\n"
        );
        assert!(
            key_frames(&track, Container::Ts).contains("#EXT-X-MAP:URI=\"00001.m4s\",BYTERANGE=\"376@0\"\n")
        );
        track.key_frames = vec![frame("iframe-00001.m4s", None, 100)];
        assert!(!key_frames(&track, Container::Ts).contains("MAP"));
        assert!(key_frames(&track, Container::Fmp4).contains("\n#EXTINF:2.002,\niframe-00001.m4s\n"));

        let text = multivariant(&[track], None, 6, "g");
        assert_eq!(
            lines(&text, "#EXT-X-I-FRAME-STREAM-INF:"),
            [
                "BANDWIDTH=400,AVERAGE-BANDWIDTH=400,CODECS=\"avc1.64001f\",RESOLUTION=1280x720,URI=\"g/720p/iframes.m3u8\""
            ]
        );
    }

    #[test]
    fn durations_do_not_drift_over_two_hours() {
        for exact in [6.006, 5.994_666_666, 6.016, 5.333_333_333] {
            let printed: f64 = extinf(exact).to_string().parse().unwrap();
            // Rounding to microseconds included.
            assert!((printed - exact).abs() * 1_200.0 < 0.001, "{exact} became {printed}");
        }
    }

    #[test]
    fn the_peak_is_of_segments_in_a_row_that_last_about_the_target() {
        // 8 Mbit/s in a segment, and a tail of 80 kB in 0.5 s, which is too short to count alone.
        assert_eq!(Rates::of(&[(6.0, 3_000_000), (6.0, 6_000_000), (0.5, 80_000)], 6).peak, 8_000_000);
        // Two seconds at 4 times the rate only count with the six before them: (6 MB + 6 MB) in 8 s.
        assert_eq!(Rates::of(&[(6.0, 6_000_000), (2.0, 6_000_000)], 6).peak, 12_000_000);
        assert_eq!(Rates::of(&[(1.0, 1_000)], 6), Rates { average: 8_000, peak: 8_000 });
        assert_eq!(Rates::of(&[], 6), Rates::default());
    }

    #[test]
    fn the_multivariant_playlist_says_what_was_measured() {
        let tracks = [
            picture("720p", (1280, 720), &[(6.0, 2_250_000), (2.0, 250_000)]),
            picture("480p", (854, 480), &[(6.0, 1_125_000), (2.0, 125_000)]),
            picture("360p", (640, 360), &[(6.0, 562_500), (2.0, 62_500)]),
            sound("audio", Group::Stereo, "ger", true, 96_000),
        ];
        assert_eq!(
            multivariant(&tracks, None, 6, "20261122t100000z-00000001"),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MEDIA:TYPE=AUDIO,URI=\"20261122t100000z-00000001/audio/index.m3u8\",GROUP-ID=\"audio\",\
             LANGUAGE=\"de\",NAME=\"Deutsch\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1628000,AVERAGE-BANDWIDTH=1378000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=854x480,FRAME-RATE=29.97,AUDIO=\"audio\",CLOSED-CAPTIONS=NONE\n\
             20261122t100000z-00000001/480p/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=3128000,AVERAGE-BANDWIDTH=2628000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=1280x720,FRAME-RATE=29.97,AUDIO=\"audio\",CLOSED-CAPTIONS=NONE\n\
             20261122t100000z-00000001/720p/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=878000,AVERAGE-BANDWIDTH=753000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=640x360,FRAME-RATE=29.97,AUDIO=\"audio\",CLOSED-CAPTIONS=NONE\n\
             20261122t100000z-00000001/360p/index.m3u8\n"
        );
    }

    /// What a variant needs is what its dearest combination needs (rule 9.13).
    #[test]
    fn a_variant_needs_what_its_dearest_sound_needs() {
        let tracks = [
            picture("720p", (1280, 720), &[(6.0, 750_000), (2.0, 250_000)]),
            picture("234p", (416, 234), &[(6.0, 75_000), (2.0, 25_000)]),
            sound("audio-de", Group::Stereo, "ger", true, 96_000),
            sound("audio-en", Group::Stereo, "eng", false, 90_000),
            sound("audio-de-low", Group::Low, "ger", true, 36_000),
            sound("audio-de-surround", Group::Surround, "ger", true, 240_000),
            captions("captions-de", false, true),
            captions("captions-de-forced", true, false),
        ];
        let text = multivariant(&tracks, None, 6, "g");
        let streams = lines(&text, "#EXT-X-STREAM-INF:");
        let attribute = |line: &String, name: &str| {
            line.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        // In kbit/s: 1000 of 720p or 100 of 234p, 128 or 48 or 320 of sound, 1 of captions.
        let rates: Vec<_> = streams
            .iter()
            .map(|line| (attribute(line, "BANDWIDTH").unwrap(), attribute(line, "AUDIO").unwrap()))
            .collect();
        let expected = [("1321000", "audio-surround"), ("1129000", "audio"), ("149000", "audio-low")];
        assert_eq!(rates, expected.map(|(rate, group)| (rate.to_owned(), format!("\"{group}\""))));
        assert!(
            streams.iter().all(|line| attribute(line, "SUBTITLES").as_deref() == Some("\"captions\"")),
            "{text}"
        );
        assert_eq!(lines(&text, "#EXT-X-MEDIA:").len(), 6);
        assert!(text.contains(
            "TYPE=SUBTITLES,URI=\"g/captions-de/index.m3u8\",GROUP-ID=\"captions\",LANGUAGE=\"de\",NAME=\"captions-de\",\
             AUTOSELECT=YES,CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,\
             public.accessibility.describes-music-and-sound\"\n"
        ), "{text}");
        assert!(text.contains("NAME=\"captions-de-forced\",AUTOSELECT=YES,FORCED=YES\n"), "{text}");
        assert!(text.contains("CHANNELS=\"6\""), "{text}");
    }

    #[test]
    fn a_range_is_named_where_there_are_two() {
        let mut bright = picture("1080p-hdr", (1920, 1080), &[(6.0, 1_000)]);
        assert!(!multivariant(std::slice::from_ref(&bright), None, 6, "g").contains("VIDEO-RANGE"));
        let Kind::Picture(picture) = &mut bright.kind else { unreachable!() };
        picture.range = Range::Pq;
        let text = multivariant(&[bright, self::picture("720p", (1280, 720), &[(6.0, 500)])], None, 6, "g");
        let ranges = ["VIDEO-RANGE=PQ", "VIDEO-RANGE=SDR"];
        for (line, range) in lines(&text, "#EXT-X-STREAM-INF:").iter().zip(ranges) {
            assert!(line.contains(range), "{text}");
        }
    }

    #[test]
    fn sound_alone_is_a_variant() {
        assert_eq!(
            multivariant(&[sound("audio", Group::Stereo, "und", true, 96_000)], None, 6, "g"),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH=128000,AVERAGE-BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\n\
             g/audio/index.m3u8\n"
        );
        let tracks = [
            sound("audio-en", Group::Stereo, "eng", false, 90_000),
            sound("audio-de", Group::Stereo, "ger", true, 96_000),
        ];
        let text = multivariant(&tracks, None, 6, "g");
        let variant = "#EXT-X-STREAM-INF:BANDWIDTH=128000,AVERAGE-BANDWIDTH=128000,CODECS=\"mp4a.40.2\",AUDIO=\"audio\"\n\
                       g/audio-de/index.m3u8\n";
        assert!(text.ends_with(variant) && lines(&text, "#EXT-X-MEDIA:").len() == 2, "{text}");
    }

    #[test]
    fn pictures_alone_name_no_group() {
        let text = multivariant(&[picture("80p", (100, 80), &[(1.0, 1_000)])], None, 1, "g");
        assert!(
            !text.contains("AUDIO") && text.contains("CODECS=\"avc1.64001f\",RESOLUTION=100x80"),
            "{text}"
        );
    }

    #[test]
    fn sheets_of_small_pictures_are_named_for_players_that_know_them() {
        let images = Images { uri: "g/storyboard.m3u8".into(), bandwidth: 9_000, size: (160, 90) };
        let text = multivariant(&[picture("80p", (100, 80), &[(1.0, 1_000)])], Some(&images), 1, "g");
        let expected = "BANDWIDTH=9000,RESOLUTION=160x90,CODECS=\"jpeg\",URI=\"g/storyboard.m3u8\"";
        assert_eq!(lines(&text, "#EXT-X-IMAGE-STREAM-INF:"), [expected]);
    }

    #[test]
    fn the_target_is_the_longest_segment_rounded() {
        let target = |seconds| target_duration(&[picture("a", (2, 2), &[(seconds, 1)])]);
        assert_eq!([target(6.006), target(6.4), target(2.0), target(0.2)], [6, 6, 2, 1]);
    }
}
