//! The rules, as data: each has a number, a weight, what it asks for, and what to do about it.
//!
//! The numbers without a document are those of Apple's [authoring specification] (revision of 2025), and the weight is
//! the one it has there. Where a rule is amended for one platform, the strictest reading counts, but for what only
//! holds under a condition that files do not show: that is a SHOULD here, and says so. Rules that ask of people what
//! no file can answer (what is natural for a source, how loud it is) are not here; nor are 6.2 and 6.5, whose
//! alternative 6.3 allows, 9.22, which is for players older than fMP4, and those for live streams.
//!
//! [authoring specification]: https://developer.apple.com/documentation/http-live-streaming/hls-authoring-specification-for-apple-devices

use serde::Serialize;

/// How much a rule weighs.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    /// Some player may not play it.
    Must,
    /// It plays, but could be better.
    Should,
}

impl std::fmt::Display for Severity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        })
    }
}

/// A rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Rule {
    /// Where it is written down: Apple's number, or a document and its section.
    pub number: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// What it asks for.
    pub title: &'static str,
    /// What to do where it is broken.
    pub advice: &'static str,
}

macro_rules! rules {
    ($($name:ident = $severity:ident $number:literal: $title:literal; $advice:literal.)*) => {
        $(pub(crate) const $name: Rule = Rule {
            number: $number, severity: Severity::$severity, title: $title, advice: $advice,
        };)*

        /// All of them, in order.
        pub const ALL: &[Rule] = &[$($name),*];
    };
}

rules! {
    VIDEO_CODEC = Must "1.1": "video is H.264, HEVC, Dolby Vision or AV1"; "encode it as H.264".
    H264_CONTAINER = Must "1.2": "H.264 is in fMP4 or a transport stream"; "package it as fragmented MP4".
    H264_COMPATIBLE = Should "1.3a": "some H.264 variant is at most High Profile, Level 4.1"; "add a variant of at most 1920x1080 at 30 fps".
    // 5.2 in general; macOS decodes up to 5.0. (Up to 2019 it was 4.2.)
    H264_LEVEL = Must "1.3b": "H.264 is at most High Profile, Level 5.0 (macOS; tvOS 5.1, else 5.2)"; "encode with `-profile:v high` and fewer pixels or frames a second".
    H264_HIGH = Should "1.4": "H.264 is in High Profile rather than Main or Baseline"; "encode with `-profile:v high` and a preset slower than ultrafast".
    HEVC_CONTAINER = Must "1.5": "HEVC is in fMP4"; "package it as fragmented MP4".
    HEVC_COMPATIBLE = Should "1.6a": "some HEVC variant is at most Main 10, Level 4.0, Main Tier"; "add a variant of at most 1920x1080 at 30 fps".
    HEVC_LEVEL = Must "1.6b": "HEVC is at most Main 10, Level 5.1, High Tier"; "encode as Main or Main 10 with fewer pixels or frames a second".
    PARAMETER_SETS = Should "1.10": "parameter sets are in the sample description (avc1, hvc1), not in samples (avc3, hev1)"; "package with `-tag:v avc1` or `-tag:v hvc1`".
    SOME_H264 = Should "1.12": "some video is H.264"; "add H.264 variants".
    KEY_FRAME_INTERVAL = Should "1.13": "there is a key frame every two seconds"; "encode with `-force_key_frames expr:gte(t,n_forced*2)`".
    INTERLACED = Must "1.14": "interlaced content is de-interlaced"; "de-interlace it (`bwdif`) before encoding".
    FRAME_RATE_LIMIT = Must "1.19": "no frame rate is above 60"; "encode at half the rate".
    HDR_FRAME_RATE = Should "1.20": "HDR is there at 30 frames a second or less (tvOS: MUST)"; "add HDR variants of at most 30 frames a second".
    SDR_THERE = Must "1.24": "there are SDR variants"; "add tone-mapped SDR variants".
    AVERAGE_TRUE = Must "1.26": "the average bit rate is within 10 % of AVERAGE-BANDWIDTH"; "declare what was measured: all bits over all time, of the picture and its heaviest sound".
    // Less than was measured is 9.13.
    PEAK_TRUE = Must "1.27": "the peak bit rate is within 10 % of BANDWIDTH"; "declare the peak that was measured".
    PEAK_OVER_AVERAGE = Should "1.30": "the peak bit rate is at most twice the average"; "encode with a lower `-maxrate` and `-bufsize`".
    DEFAULT_VARIANT = Should "1.32": "the variant listed first is the one of 2000 kbit/s"; "list that variant first".
    ASPECT_RATIO = Should "1.33": "all video has the same aspect ratio"; "scale all variants from one size".
    UHD_COMPATIBLE = Should "1.34": "some UHD variant has at most 15 Mbit/s"; "add a UHD variant of less".
    AV1_LEVEL = Must "1.37": "AV1 is at most Level 6.2"; "encode fewer pixels or frames a second".
    AV1_CONTAINER = Must "1.39": "AV1 is in fMP4"; "package it as fragmented MP4".
    STEREO = Must "2.3": "there is stereo sound in AAC"; "add AAC with two channels, in a group of its own".
    HE_AAC = Should "2.4": "HE-AAC has at most 64 kbit/s"; "use AAC-LC at this bit rate".
    DOLBY = Should "2.6": "where there is Dolby Digital Plus there is Dolby Digital too, for devices that lack the former"; "add AC-3".
    // A lower bound is recommended too; but silence needs no bits.
    AUDIO_RATE = Should "2.9": "stereo AAC has at most 160 kbit/s, 5.1 AAC 320"; "encode with `-b:a 128k`, 5.1 with `-b:a 320k`".
    DESCRIPTION_AUTOSELECT = Must "2.13": "an audio description has AUTOSELECT=YES"; "add AUTOSELECT=YES".
    ONE_SOUND = Must "2.17": "a segment has one audio stream at most"; "package each audio stream as a rendition of its own".
    CAPTIONS_MARKED = Must "4.5": "subtitles for the deaf have both characteristics: transcribes-spoken-dialog and describes-music-and-sound"; "name both in CHARACTERISTICS".
    CAPTIONS_AUTOSELECT = Must "4.6": "subtitles for the deaf have AUTOSELECT=YES"; "add AUTOSELECT=YES".
    SUBTITLE_FORMAT = Must "5.2": "subtitles are WebVTT, or IMSC1 in fMP4"; "convert them to WebVTT".
    WEBVTT_TEXT = Must "5.3": "WebVTT is in text files with X-TIMESTAMP-MAP"; "begin each file with WEBVTT and X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000 (MPEGTS: the time at which the media begins)".
    SUBTITLES_WHOLE = Must "5.5": "a subtitle playlist covers the whole content"; "add segments without cues up to the end".
    FORCED_AUTOSELECT = Should "5.11": "forced subtitles have AUTOSELECT=YES"; "add AUTOSELECT=YES".
    I_FRAMES = Must "6.1": "there are I-frame playlists for scrubbing"; "add EXT-X-I-FRAME-STREAM-INF with a playlist of the key frames".
    MANY_I_FRAMES = Should "6.6": "there are several I-frame playlists with different bit rates"; "add I-frame playlists of the other sizes".
    I_FRAMES_ONLY = Must "6.8": "I-frame playlists have EXT-X-I-FRAMES-ONLY"; "add the tag".
    I_FRAME_PEAK = Must "6.9": "the BANDWIDTH of an I-frame playlist is its peak segment bit rate"; "declare the peak that was measured, byte ranges with their moof over EXTINF".
    I_FRAME_MOOF = Must "6.10": "an I-frame's byte range begins with its moof"; "let the range begin at the moof and end with the frame".
    H264_I_FRAMES = Should "6.14": "some I-frame playlist is H.264"; "add I-frame playlists of H.264".
    SDR_I_FRAMES = Must "6.16": "there are SDR I-frame playlists"; "add I-frame playlists of the SDR variants".
    CONTINUITY = Must "7.2": "continuity counters and timestamps of a transport stream are sequential"; "package all segments in one go, without resetting counters".
    DECODE_TIME = Must "7.3": "a fragment is decoded when the one before it ends (tfdt), and samples last as long as they say"; "package without gaps or stretched samples, or mark them with EXT-X-DISCONTINUITY".
    STARTS_WITH_IDR = Must "7.4": "video segments start with an IDR"; "cut at key frames only".
    TARGET_IS_SIX = Should "7.5": "the target duration is 6 seconds"; "cut segments of 6 seconds".
    SEGMENTS_OF_SIX = Should "7.6": "segments last about 6 seconds"; "cut segments of 6 seconds".
    SEGMENT_LENGTH = Must "7.7": "no segment is longer than the target duration by more than 0.5 s"; "raise EXT-X-TARGETDURATION, or cut shorter segments".
    DURATIONS_TRUE = Must "8.1": "EXTINF durations add up to the real ones within one frame"; "write EXTINF as measured, with at least 4 decimals".
    SAME_TARGET = Must "8.2": "audio and video playlists have the same target duration"; "write the same EXT-X-TARGETDURATION everywhere".
    SAME_DURATION = Must "8.3": "audio and video playlists have the same duration"; "pad or cut to the same end".
    VOD = Must "8.6": "EXT-X-PLAYLIST-TYPE is VOD where the content is complete"; "add #EXT-X-PLAYLIST-TYPE:VOD".
    SAME_START = Must "8.7": "all playlists cover the same time range"; "let all tracks begin at the same time".
    LANGUAGE = Must "8.10": "every EXT-X-MEDIA but VIDEO has a LANGUAGE"; "add LANGUAGE (`und` if nobody knows)".
    SAME_DISCONTINUITIES = Must "8.15": "discontinuities are at the same times everywhere"; "put EXT-X-DISCONTINUITY at the same place in all playlists".
    REDIRECT = Must "8.18": "media is served without redirects"; "link to where it is".
    MAP = Must "8.20": "fMP4 has EXT-X-MAP"; "add EXT-X-MAP with the initialisation section".
    SAME_BOUNDARIES = Should "8.22": "all renditions have segment boundaries at the same times (AirPlay: MUST)"; "cut all renditions at the same times".
    CODECS = Must "9.1": "EXT-X-STREAM-INF has CODECS"; "add CODECS with all formats of the picture and of all its sound".
    RESOLUTION = Must "9.2": "EXT-X-STREAM-INF with video has RESOLUTION"; "add RESOLUTION".
    I_FRAME_CODECS = Must "9.3": "EXT-X-I-FRAME-STREAM-INF has CODECS"; "add CODECS with that of the video".
    I_FRAME_RESOLUTION = Must "9.4": "EXT-X-I-FRAME-STREAM-INF has RESOLUTION"; "add RESOLUTION".
    SEPARATE = Should "9.5": "video and audio are separate streams"; "package the audio as a rendition (EXT-X-MEDIA)".
    MULTICHANNEL_SEPARATE = Must "9.6": "multichannel audio is a separate stream"; "package it as a rendition (EXT-X-MEDIA)".
    ALTERNATIVES_SEPARATE = Must "9.7": "alternative audio is in separate streams"; "package all audio of the group as renditions with a URI".
    // Nothing is gained by a second rate where the first is one for cellular networks.
    SEVERAL_RATES = Must "9.9": "there are several bit rates of video"; "add variants of lower bit rates".
    TWO_AT_THE_TOP = Should "9.10": "HD content has at least two variants of the highest resolution"; "add a second bit rate of that size".
    INDEPENDENT = Should "9.11": "EXT-X-INDEPENDENT-SEGMENTS is in the multivariant playlist"; "add the tag there".
    INDEPENDENT_ANYWHERE = Must "9.12": "EXT-X-INDEPENDENT-SEGMENTS is in the multivariant playlist or in all video playlists"; "add the tag to the multivariant playlist".
    BANDWIDTH_SUFFICES = Must "9.13": "BANDWIDTH is the largest sum of peak bit rates of any playable combination"; "declare the peak of the picture and of the heaviest sound together".
    AVERAGE_THERE = Must "9.14": "EXT-X-STREAM-INF has AVERAGE-BANDWIDTH"; "add AVERAGE-BANDWIDTH as measured".
    FRAME_RATE = Must "9.15": "EXT-X-STREAM-INF with video has FRAME-RATE"; "add FRAME-RATE".
    VIDEO_RANGE = Must "9.16": "VIDEO-RANGE is there unless all is SDR, and true"; "add VIDEO-RANGE (SDR, HLG or PQ) to every variant".
    PATHWAY = Should "9.18": "EXT-X-CONTENT-STEERING has a PATHWAY-ID"; "add PATHWAY-ID".
    SCORE = Must "9.19": "SCORE is on every variant or on none"; "add SCORE to all variants, or take it away".
    AUDIO_ONLY = Must "9.20": "there is no audio-only variant beside video (tvOS)"; "take the audio-only variant out".
    CELLULAR = Should "9.21": "for cellular networks there is a variant of at most 192 kbit/s (there: MUST)"; "add a small variant with a low audio group".
    GZIP = Must "10.1": "playlists are delivered with gzip"; "let the server compress .m3u8 for clients that accept gzip".
    MIME = Should "10.4": "content has its MIME type"; "configure it: m3u8 application/vnd.apple.mpegurl, mp4 video/mp4, m4s video/iso.segment, ts video/mp2t, aac audio/aac, vtt text/vtt".
    TLS_MULTIVARIANT = Should "11.1": "multivariant playlists are delivered over TLS"; "serve it by https".
    TLS_PLAYLIST = Should "11.2": "media playlists are delivered over TLS"; "serve it by https".
    TLS_MEDIA = Should "11.3": "media segments are delivered over TLS"; "serve them by https".
    SAMPLE_AES_CTR = Must "13.11": "SAMPLE-AES-CTR is not used on Apple devices"; "encrypt with AES-128 or SAMPLE-AES (cbcs)".

    SEGMENT_FORMAT = Must "RFC 8216 3": "a segment is fMP4, a transport stream, packed audio or WebVTT, and whole"; "package it anew".
    FMP4_INIT = Must "RFC 8216 3.3": "an initialisation section has a moov with tracks, a fragment a moof with samples and tfdt"; "package it as CMAF".
    TS_TABLES = Must "RFC 8216 3.2": "a transport stream segment begins with a PAT and a PMT"; "let each segment begin with the tables".
    PACKED_TIMESTAMP = Must "RFC 8216 3.4": "packed audio begins with an ID3 timestamp"; "write the PRIV frame com.apple.streaming.transportStreamTimestamp".
    PLAYLIST_KIND = Must "RFC 8216 4": "a playlist is either multivariant or a media playlist, and links lead to the latter"; "link to the media playlist".
    TEXT = Must "RFC 8216 4.1": "a playlist is UTF-8 without a byte order mark and without control characters"; "save it so".
    ATTRIBUTES = Must "RFC 8216 4.2": "attribute lists are well formed and name nothing twice"; "write NAME=VALUE, separated by commas, strings in quotes".
    EXTM3U = Must "RFC 8216 4.3.1.1": "the first line is #EXTM3U"; "begin with it".
    VERSION = Must "RFC 8216 7": "EXT-X-VERSION is there once, and high enough for the tags used"; "raise it".
    EXTINF = Must "RFC 8216 4.3.2.1": "every segment has an EXTINF with its duration"; "write #EXTINF:<seconds>, before its URI".
    BYTERANGE = Must "RFC 8216 4.3.2.2": "a byte range lies within its file"; "write <length>@<offset> as they are".
    KEY = Must "RFC 8216 4.3.2.4": "EXT-X-KEY has a METHOD, and with it a URI and an IV of 128 bits"; "write METHOD=AES-128,URI=\"…\",IV=0x… or METHOD=NONE".
    MAP_TAG = Must "RFC 8216 4.3.2.5": "EXT-X-MAP has a URI"; "add it".
    TARGET = Must "RFC 8216 4.3.3.1": "a media playlist has one EXT-X-TARGETDURATION in whole seconds"; "add it".
    ENDLIST = Must "RFC 8216 4.3.3.4": "a VOD playlist ends with EXT-X-ENDLIST"; "add it at the end".
    I_FRAME_SEGMENT = Must "RFC 8216 4.3.3.6": "a segment of an I-frame playlist is an I-frame"; "point the byte ranges at key frames".
    MEDIA_TAG = Must "RFC 8216 4.3.4.1": "EXT-X-MEDIA has TYPE, GROUP-ID and NAME, what its TYPE asks for, and is consistent"; "correct the attribute".
    CHANNELS = Should "RFC 8216 4.3.4.1 CHANNELS": "CHANNELS is there for audio, and true"; "write CHANNELS as measured".
    GROUP = Must "RFC 8216 4.3.4.1.1": "names are unique in a group, and one of it at most is the default"; "rename, or take DEFAULT=YES away".
    STREAM_INF = Must "RFC 8216 4.3.4.2": "EXT-X-STREAM-INF has a BANDWIDTH, groups that exist, and a URI on the next line"; "correct it".
    CODECS_TRUE = Must "RFC 8216 4.3.4.2 CODECS": "CODECS names what is in the media, all of it and nothing else"; "write CODECS as measured".
    RESOLUTION_TRUE = Must "RFC 8216 4.3.4.2 RESOLUTION": "RESOLUTION is that of the media"; "write RESOLUTION as measured".
    FRAME_RATE_TRUE = Must "RFC 8216 4.3.4.2 FRAME-RATE": "FRAME-RATE is that of the media"; "write FRAME-RATE as measured, with three decimals".
    I_FRAME_STREAM_INF = Must "RFC 8216 4.3.4.3": "EXT-X-I-FRAME-STREAM-INF has a BANDWIDTH and a URI"; "add it".
    AVAILABLE = Must "RFC 8216 6.2.1": "what a playlist links to is there"; "publish it, or take the link out".
}
