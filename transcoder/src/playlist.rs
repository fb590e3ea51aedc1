//! Writes the playlists, from what was measured.
//!
//! Written with `m3u8-rs`, in the terms of [RFC 8216] and by Apple's [authoring guide], whose rules are named
//! where they decide something.
//!
//! [RFC 8216]: https://www.rfc-editor.org/rfc/rfc8216
//! [authoring guide]: https://developer.apple.com/documentation/http-live-streaming/hls-authoring-specification-for-apple-devices

use m3u8_rs::{
    AlternativeMedia, AlternativeMediaType, Map, MasterPlaylist, MediaPlaylist, MediaPlaylistType,
    MediaSegment, Resolution, VariantStream,
};

use crate::language::Language;

/// `EXT-X-MAP` without `I-FRAMES-ONLY` needs 6; 7 is what fragmented MP4 is written with everywhere.
const VERSION: usize = 7;

/// Name of the group that all sound is in.
const AUDIO_GROUP: &str = "audio";

/// Playback starts with the best variant whose peak is within this many bits a second: a picture soon, and a fair
/// one. Players that begin with the first of the list have measured nothing yet.
const FIRST_VARIANT: u64 = 2_500_000;

/// Name of the initialisation section, beside the media playlist.
pub const INIT: &str = "init.mp4";

/// Name of a segment, beside the media playlist; they count from 1.
#[must_use]
pub fn segment_name(number: usize) -> String {
    format!("{number:05}.m4s")
}

/// One track, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Track {
    /// Folder of its media playlist.
    pub name: String,
    /// Its codec, in the words of RFC 6381.
    pub codecs: String,
    /// Size and rate of its picture, if it is one.
    pub picture: Option<Picture>,
    /// What is spoken, if it is sound.
    pub language: Option<Language>,
    /// Its segments, in order.
    pub segments: Vec<Measured>,
}

/// Size and rate of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Frames a second.
    pub frame_rate: f64,
}

/// A segment, measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// How long it plays, in seconds.
    pub seconds: f64,
    /// Its size.
    pub bytes: u64,
}

impl Track {
    /// How long it plays, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.segments.iter().map(|segment| segment.seconds).sum()
    }

    /// Average segment bit rate: all bits over all time (RFC 8216 §4.1).
    #[must_use]
    pub fn average(&self) -> u64 {
        rate(self.segments.iter().map(|segment| segment.bytes).sum(), self.seconds())
    }

    /// Peak segment bit rate: the largest over any segments in a row that together last between half and one and
    /// a half times the target duration (RFC 8216 §4.1), so a short last segment counts with its neighbour.
    #[must_use]
    pub fn peak(&self, target: u64) -> u64 {
        let target = f64::from(u32::try_from(target).unwrap_or(u32::MAX));
        let within = 0.5 * target..=1.5 * target;
        let mut peak = 0;
        for first in 0..self.segments.len() {
            let (mut seconds, mut bytes) = (0.0, 0);
            for segment in &self.segments[first..] {
                seconds += segment.seconds;
                bytes += segment.bytes;
                if within.contains(&seconds) {
                    peak = peak.max(rate(bytes, seconds));
                }
                if seconds > *within.end() {
                    break;
                }
            }
        }
        peak.max(self.average())
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

/// The target duration that fits all of them. One for all, or players switch between them badly (rule 8.2).
#[must_use]
pub fn target_duration(tracks: &[Track]) -> u64 {
    let longest = tracks.iter().flat_map(|track| &track.segments).map(|segment| segment.seconds);
    // Rounded, not up: a segment may be longer than the target by what rounding takes off.
    let longest = longest.fold(0.0, f64::max).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded, and not negative")]
    let target = longest as u64;
    target.max(1)
}

/// A track's own playlist.
#[must_use]
pub fn media(track: &Track, target: u64) -> String {
    let map = Map { uri: INIT.to_owned(), ..Map::default() };
    let segments = track.segments.iter().enumerate().map(|(i, segment)| MediaSegment {
        uri: segment_name(i + 1),
        duration: extinf(segment.seconds),
        map: (i == 0).then(|| map.clone()),
        ..MediaSegment::default()
    });
    written(|buffer| {
        MediaPlaylist {
            version: Some(VERSION),
            target_duration: target,
            playlist_type: Some(MediaPlaylistType::Vod),
            independent_segments: true,
            segments: segments.clone().collect(),
            end_list: true,
            ..MediaPlaylist::default()
        }
        .write_to(buffer)
    })
}

/// `m3u8-rs` keeps durations in 32 bits, and prints as many digits as tell such a number from the next. Around 6
/// seconds that is within 0.24 µs, so even if every error went the same way, the sum over two hours (1,200
/// segments) would be off by 0.3 ms: less than a sample of AAC lasts, where Apple asks for less than a frame
/// (rule 8.1).
#[expect(clippy::cast_possible_truncation, reason = "see above")]
fn extinf(seconds: f64) -> f32 {
    ((seconds * 1e6).round() / 1e6) as f32
}

/// The multivariant playlist. Media playlists are at `folder` from where it lies.
#[must_use]
pub fn multivariant(tracks: &[Track], target: u64, folder: &str) -> String {
    let uri = |track: &Track| format!("{folder}/{}/index.m3u8", track.name);
    let sound: Vec<&Track> = tracks.iter().filter(|track| track.picture.is_none()).collect();
    let pictures: Vec<&Track> = tracks.iter().filter(|track| track.picture.is_some()).collect();

    // Whatever sound is chosen, the declared rates must do (rule 9.13).
    let loudest = |rate: &dyn Fn(&Track) -> u64| sound.iter().map(|track| rate(track)).max().unwrap_or(0);
    let (peak, average) = (loudest(&|track| track.peak(target)), loudest(&Track::average));
    let mut variants: Vec<VariantStream> = pictures
        .iter()
        .map(|track| VariantStream {
            uri: uri(track),
            bandwidth: track.peak(target) + peak,
            average_bandwidth: Some(track.average() + average),
            codecs: Some(codecs(track, &sound)),
            resolution: track
                .picture
                .map(|picture| Resolution { width: picture.width.into(), height: picture.height.into() }),
            // Three decimals, says RFC 8216 §4.3.4.2.
            frame_rate: track.picture.map(|picture| (picture.frame_rate * 1e3).round() / 1e3),
            audio: (!sound.is_empty()).then(|| AUDIO_GROUP.to_owned()),
            ..VariantStream::default()
        })
        .collect();
    variants.sort_by_key(|variant| std::cmp::Reverse(variant.bandwidth));
    let first = variants.iter().position(|variant| variant.bandwidth <= FIRST_VARIANT);
    if let Some(first) = first.or(variants.len().checked_sub(1)) {
        variants[..=first].rotate_right(1);
    }

    // Sound alone is a variant, not a rendition of one: a group that no variant names is never played.
    let alternatives = if pictures.is_empty() {
        variants = sound.iter().map(|track| audio_only(track, target, uri(track))).collect();
        Vec::new()
    } else {
        sound.iter().map(|track| audio_rendition(track, uri(track))).collect()
    };
    written(|buffer| {
        MasterPlaylist {
            version: Some(VERSION),
            independent_segments: true,
            alternatives: alternatives.clone(),
            variants: variants.clone(),
            ..MasterPlaylist::default()
        }
        .write_to(buffer)
    })
}

/// All that a player must be able to decode (rule 9.1).
fn codecs(picture: &Track, sound: &[&Track]) -> String {
    let mut codecs = vec![picture.codecs.as_str()];
    for track in sound {
        if !codecs.contains(&track.codecs.as_str()) {
            codecs.push(&track.codecs);
        }
    }
    codecs.join(",")
}

fn audio_only(track: &Track, target: u64, uri: String) -> VariantStream {
    VariantStream {
        uri,
        bandwidth: track.peak(target),
        average_bandwidth: Some(track.average()),
        codecs: Some(track.codecs.clone()),
        ..VariantStream::default()
    }
}

fn audio_rendition(track: &Track, uri: String) -> AlternativeMedia {
    let language = track.language.clone().unwrap_or_else(|| crate::language::of_track(None));
    AlternativeMedia {
        media_type: AlternativeMediaType::Audio,
        uri: Some(uri),
        group_id: AUDIO_GROUP.to_owned(),
        language: Some(language.tag),
        name: language.name,
        default: true,
        autoselect: true,
        channels: Some("2".to_owned()),
        ..AlternativeMedia::default()
    }
}

fn written(write: impl Fn(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut buffer = Vec::new();
    write(&mut buffer).expect("memory can be written to");
    String::from_utf8(buffer).expect("a playlist of strings is text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language;

    fn track(name: &str, picture: Option<(u32, u32)>, segments: &[(f64, u64)]) -> Track {
        Track {
            name: name.into(),
            codecs: if picture.is_some() { "avc1.64001f".into() } else { "mp4a.40.2".into() },
            picture: picture.map(|(width, height)| Picture { width, height, frame_rate: 30_000.0 / 1001.0 }),
            language: picture.is_none().then(|| language::of_track(Some("ger"))),
            segments: segments
                .iter()
                .map(|(seconds, bytes)| Measured { seconds: *seconds, bytes: *bytes })
                .collect(),
        }
    }

    #[test]
    fn a_media_playlist_is_as_apple_wants_it() {
        let track = track("720p", Some((1280, 720)), &[(6.006, 1), (5.994_666_7, 1), (2.002, 1)]);
        assert_eq!(
            media(&track, 6),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-TARGETDURATION:6\n\
             #EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-MAP:URI=\"init.mp4\"\n\
             #EXTINF:6.006,\n00001.m4s\n#EXTINF:5.994667,\n00002.m4s\n#EXTINF:2.002,\n00003.m4s\n\
             #EXT-X-ENDLIST\n"
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
        let track = track("a", None, &[(6.0, 3_000_000), (6.0, 6_000_000), (0.5, 80_000)]);
        assert_eq!(track.peak(6), 8_000_000);
        // Two seconds at 4 times the rate only count with the six before them: (6 MB + 6 MB) in 8 s.
        let tail = self::track("b", None, &[(6.0, 6_000_000), (2.0, 6_000_000)]);
        assert_eq!(tail.peak(6), 12_000_000);
        let short = self::track("c", None, &[(1.0, 1_000)]);
        assert_eq!(short.peak(6), 8_000);
        assert_eq!(short.average(), 8_000);
    }

    #[test]
    fn the_multivariant_playlist_says_what_was_measured() {
        let tracks = [
            track("720p", Some((1280, 720)), &[(6.0, 2_250_000), (2.0, 250_000)]),
            track("480p", Some((854, 480)), &[(6.0, 1_125_000), (2.0, 125_000)]),
            track("360p", Some((640, 360)), &[(6.0, 562_500), (2.0, 62_500)]),
            track("audio", None, &[(6.0, 96_000), (2.0, 32_000)]),
        ];
        assert_eq!(
            multivariant(&tracks, 6, "20261122t100000z-00000001"),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MEDIA:TYPE=AUDIO,URI=\"20261122t100000z-00000001/audio/index.m3u8\",GROUP-ID=\"audio\",\
             LANGUAGE=\"de\",NAME=\"Deutsch\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\"\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1628000,AVERAGE-BANDWIDTH=1378000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=854x480,FRAME-RATE=29.97,AUDIO=\"audio\"\n\
             20261122t100000z-00000001/480p/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=3128000,AVERAGE-BANDWIDTH=2628000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=1280x720,FRAME-RATE=29.97,AUDIO=\"audio\"\n\
             20261122t100000z-00000001/720p/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=878000,AVERAGE-BANDWIDTH=753000,CODECS=\"avc1.64001f,mp4a.40.2\",\
             RESOLUTION=640x360,FRAME-RATE=29.97,AUDIO=\"audio\"\n\
             20261122t100000z-00000001/360p/index.m3u8\n"
        );
    }

    #[test]
    fn sound_alone_is_a_variant() {
        assert_eq!(
            multivariant(&[track("audio", None, &[(6.0, 96_000)])], 6, "g"),
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH=128000,AVERAGE-BANDWIDTH=128000,CODECS=\"mp4a.40.2\"\n\
             g/audio/index.m3u8\n"
        );
    }

    #[test]
    fn pictures_alone_name_no_group() {
        let text = multivariant(&[track("80p", Some((100, 80)), &[(1.0, 1_000)])], 1, "g");
        assert!(
            !text.contains("AUDIO") && text.contains("CODECS=\"avc1.64001f\",RESOLUTION=100x80"),
            "{text}"
        );
    }

    #[test]
    fn the_target_is_the_longest_segment_rounded() {
        let target = |seconds| target_duration(&[track("a", None, &[(seconds, 1)])]);
        assert_eq!([target(6.006), target(6.4), target(2.0), target(0.2)], [6, 6, 2, 1]);
    }
}
