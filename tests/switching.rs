//! A viewer changes everything while it plays: size, language, captions and place. Nothing is lost, and nothing
//! stops, whether segments are encrypted or not.
//!
//! All of this is what browsers' players make of fragments, through the gate. What they make of transport streams is
//! left to `playback.rs`.

#![allow(missing_docs)]

use std::fmt::Write;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};
use tests::{Gate, Keys, Worker, ffmpeg, film, keys, publish_as, requests, watch};
use transcoder::plan::Options;

/// Five segments, the last of them short.
const SECONDS: u32 = 26;
const SEGMENT_SECONDS: u32 = 6;
const PICTURES_A_SECOND: u32 = 25;
/// From one key frame to the next.
const GROUP_SECONDS: u32 = 2;

/// The same upload twice: as it is, and with a new key for each segment.
const ASSETS: [&str; 2] = ["clear", "encrypted"];

/// What is spoken in the upload, as containers say it and as menus do, and the tone in its place.
const LANGUAGES: [(&str, &str, &str, f64); 3] =
    [("deu", "de", "Deutsch", 330.0), ("eng", "en", "English", 550.0), ("fra", "fr", "Français", 880.0)];

/// Captions: what begins when and ends when, in milliseconds, and says what.
type Cues = &'static [(u32, u32, &'static str)];

/// Beside the upload. One is seen across the border of two segments, two say the same, and two are seen together.
const GERMAN: Cues = &[
    (2_000, 4_500, "Grüß Gott,\nund willkommen."),
    (5_250, 7_125, "Über die Grenze"),
    (8_000, 9_000, "Nochmals"),
    (9_500, 10_500, "Nochmals"),
    (11_500, 18_500, "Durch drei Segmente"),
    (19_040, 21_960, "Links"),
    (20_000, 22_000, "Rechts"),
    (23_000, 25_500, "Schluss"),
];

/// In the upload.
const ENGLISH: Cues = &[
    (2_200, 4_000, "Good morning,\nand welcome."),
    (8_001, 12_345, "Across the border"),
    (15_000, 17_000, "The same for all"),
    (23_000, 25_000, "The end"),
];

/// In the upload, for those who read no captions.
const FORCED: Cues = &[(10_000, 12_000, "Sortie"), (20_000, 22_000, "Entrée")];

/// A folder with the assets, made once.
static MEDIA: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let (upload, media) = (folder.join("talk.mkv"), folder.join("media"));
    make_upload(&folder, &upload);
    std::fs::write(folder.join("talk.de.srt"), srt(GERMAN)).unwrap();
    let encrypted = Options { encrypt: true, key_every: NonZeroU32::new(1), ..Options::default() };
    for (asset, options) in ASSETS.into_iter().zip([Options::default(), encrypted]) {
        assert_eq!(publish_as(upload.clone(), asset, &media, options), format!("assets/{asset}/index.m3u8"));
    }
    media
});

static WORKER: LazyLock<Worker> = LazyLock::new(|| Worker::over(&MEDIA));

/// Numbered pictures, a tone for each language, and captions in two.
fn make_upload(folder: &Path, upload: &Path) {
    let picture = folder.join("picture.mp4");
    film(f64::from(SECONDS), "640x360", &picture);
    let text = |name: &str, cues| {
        let path = folder.join(name);
        std::fs::write(&path, srt(cues)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [english, forced] = [text("english.srt", ENGLISH), text("forced.srt", FORCED)];
    let mut command = format!("-i {}", picture.display());
    for (_, _, _, hertz) in LANGUAGES {
        let _ = write!(command, " -f lavfi -i sine=frequency={hertz}:r=48000:d={SECONDS}");
    }
    let _ = write!(command, " -i {english} -i {forced} -map 0:v -map 1:a -map 2:a -map 3:a -map 4 -map 5");
    for (track, (language, ..)) in LANGUAGES.into_iter().enumerate() {
        let _ = write!(command, " -metadata:s:a:{track} language={language}");
    }
    command += " -metadata:s:s:0 language=eng -metadata:s:s:1 language=fra";
    command += " -disposition:a:0 default -disposition:s:0 0 -disposition:s:1 forced";
    command += " -c:v copy -c:a flac -ac 2 -c:s srt";
    ffmpeg(command.split(' '), upload);
}

fn srt(cues: Cues) -> String {
    let mut srt = String::new();
    let clock = |time: u32| {
        let (seconds, thousandths) = (time / 1000, time % 1000);
        format!("{:02}:{:02}:{:02},{thousandths:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
    };
    for (number, (start, end, text)) in (1..).zip(cues) {
        let _ = write!(srt, "{number}\n{} --> {}\n{text}\n\n", clock(*start), clock(*end));
    }
    srt
}

/// Where segments begin, but for the first.
fn borders() -> impl Iterator<Item = u32> {
    (1..SECONDS.div_ceil(SEGMENT_SECONDS)).map(|segment| segment * SEGMENT_SECONDS)
}

/// In the middle of the time of the last picture before each border, and of the first one after it.
fn around_borders() -> Value {
    let times = borders().flat_map(|border| [-0.02, 0.02].map(|more| f64::from(border) + more));
    json!({ "times": times.collect::<Vec<_>>() })
}

#[test]
fn hls_js_plays_every_segment_in_another_size_than_the_one_before() {
    let plays = ASSETS.map(|asset| play("hls.js", asset, "alternate", &around_borders(), Some(4)));
    for seen in watch(&plays) {
        let told = &seen["told"];
        let count = told["levels"].as_array().unwrap().len();
        let fragments = told["fragments"].as_array().unwrap();
        for (index, fragment) in fragments.iter().enumerate() {
            assert_eq!(fragment["level"], index % count, "{seen}");
        }
        // Some of them twice, as players.js explains.
        let mut numbers: Vec<_> = fragments.iter().map(|fragment| fragment["sn"].as_u64().unwrap()).collect();
        numbers.dedup();
        assert_eq!(numbers, (0..=borders().count() as u64).collect::<Vec<_>>(), "{seen}");
        assert_eq!(told["counts"], json!({ "video": 1, "audio": 1 }), "{seen}");
        nothing_is_missing(&seen);
    }
}

#[test]
fn shaka_plays_every_segment_in_another_size_than_the_one_before() {
    let plays = ASSETS.map(|asset| play("shaka", asset, "vary", &around_borders(), Some(4)));
    for seen in watch(&plays) {
        let levels = seen["told"]["levels"].as_array().unwrap();
        assert!(levels.len() > 1, "{seen}");
        for segment in 1..=borders().count() + 1 {
            let name = format!("/{segment:05}.m4s");
            let asked = requests(&seen).iter().map(|request| request["url"].as_str().unwrap());
            let asked: Vec<_> = asked.filter(|url| url.ends_with(&name) && !url.contains("/audio")).collect();
            let level = levels[(segment - 1) % levels.len()].as_str().unwrap();
            let [url] = asked[..] else { panic!("{name}: {seen}") };
            let folder = level.rsplit_once('/').unwrap().0;
            assert!(url.ends_with(&format!("{folder}{name}")), "{level}: {seen}");
        }
        nothing_is_missing(&seen);
    }
}

/// There is no gap, every picture was decoded, and on both sides of each border is the one that belongs there.
fn nothing_is_missing(seen: &Value) {
    assert!(seen["told"]["levels"].as_array().unwrap().len() > 1, "{seen}");
    let buffered: Vec<(f64, f64)> = serde_json::from_value(seen["told"]["buffered"].clone()).unwrap();
    let [(start, end)] = buffered[..] else { panic!("{seen}") };
    assert!(start < 0.001 && (end - f64::from(SECONDS)).abs() < 0.05, "{seen}");

    assert_eq!(seen["ended"], true, "{seen}");
    let frames = ["shown", "dropped"].map(|what| seen["frames"][what].as_u64().unwrap());
    assert_eq!(frames.into_iter().sum::<u64>(), u64::from(SECONDS * PICTURES_A_SECOND), "{seen}");
    let first = borders().map(|border| u64::from(border * PICTURES_A_SECOND));
    let pictures: Vec<_> = first.flat_map(|first| [first - 1, first]).collect();
    assert_eq!(numbers(&seen["told"]["pictures"]), pictures, "{seen}");
}

#[test]
fn hls_js_lists_every_language_and_what_is_chosen_is_heard() {
    let plays = ASSETS.map(|asset| play("hls.js", asset, "listen", &json!({}), None));
    for seen in watch(&plays) {
        let menu = seen["told"]["menu"].as_array().unwrap();
        let wanted = LANGUAGES.iter().enumerate().map(
            |(index, (_, tag, name, _))| json!({ "name": name, "lang": tag, "default": index == 0, "channels": "2" }),
        );
        assert_eq!(*menu, wanted.collect::<Vec<_>>());
        // The default, then each, then the default again.
        let heard = seen["told"]["heard"].as_array().unwrap();
        assert_eq!(heard.iter().map(|heard| &heard["track"]).collect::<Vec<_>>(), [0, 0, 1, 2, 0], "{seen}");
        for heard in heard {
            let (.., hertz) = LANGUAGES[usize::try_from(heard["track"].as_u64().unwrap()).unwrap()];
            let tones = heard["tones"].as_array().unwrap().iter().map(|tone| tone.as_f64().unwrap());
            // To within two of the 4,096 lines of the spectrum.
            assert!(tones.into_iter().all(|tone| (tone - hertz).abs() < 12.0), "{hertz}: {seen}");
        }
    }
}

#[test]
fn hls_js_lists_all_captions_and_shows_every_cue_once_at_its_time() {
    let menu = json!([
        { "name": "Deutsch", "lang": "de", "forced": false, "default": false },
        { "name": "English", "lang": "en", "forced": false, "default": false },
        { "name": "Français", "lang": "fr", "forced": true, "default": false },
    ]);
    let (languages, tracks) = (["de", "en", "fr"], [GERMAN, ENGLISH, FORCED]);
    // They are never encrypted, so once is enough beside what is.
    let shown = [(0, 0), (0, 1), (0, 2), (1, 0)];
    let plays = shown.map(|(asset, track)| {
        play("hls.js", ASSETS[asset], "read", &json!({ "language": languages[track] }), Some(4))
    });
    for (seen, (_, track)) in watch(&plays).iter().zip(shown) {
        let cues = tracks[track];
        let told = &seen["told"];
        let mut listed = told["menu"].as_array().unwrap().clone();
        listed.sort_by_key(|track| track["lang"].as_str().unwrap().to_owned());
        assert_eq!(Value::from(listed), menu, "{seen}");
        assert_eq!(told["mode"], "showing", "{seen}");
        let seconds = |time: u32| f64::from(time) / 1000.0;
        let wanted =
            cues.iter().map(|(start, end, text)| (seconds(*start), seconds(*end), (*text).to_owned()));
        let listed: Vec<(f64, f64, String)> = serde_json::from_value(told["cues"].clone()).unwrap();
        assert_eq!(listed, wanted.collect::<Vec<_>>(), "{seen}");
        let shown: Vec<(f64, String)> = serde_json::from_value(told["seen"].clone()).unwrap();
        assert_eq!(shown.len(), cues.len(), "{seen}");
        for ((at, shown), (start, end, text)) in shown.iter().zip(cues) {
            assert_eq!(shown, text, "{seen}");
            // Half a second is two of the film.
            assert!((seconds(*start)..seconds(*end) + 2.0).contains(at), "{text}: {seen}");
        }
    }
}

/// Where somebody who looks for something glances at.
const GLANCES: [f64; 5] = [1.0, 3.0, 9.5, 21.9, 25.0];

/// The numbers of the key frames that belong there.
fn key_frames() -> Vec<u64> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small, and positive")]
    let groups = GLANCES.map(|time| time as u32 / GROUP_SECONDS);
    groups.map(|group| u64::from(group * GROUP_SECONDS * PICTURES_A_SECOND)).to_vec()
}

#[test]
fn hls_js_shows_the_key_frame_of_any_time() {
    let plays = ASSETS.map(|asset| play("hls.js", asset, "glance", &json!({ "times": GLANCES }), None));
    for seen in watch(&plays) {
        let told = &seen["told"];
        assert_eq!(numbers(&told["glances"]), key_frames(), "{seen}");
        let variants = told["variants"].as_array().unwrap();
        assert!(variants.len() > 1, "{seen}");
        for variant in variants {
            assert!(variant["path"].as_str().unwrap().ends_with("/iframes.m3u8"), "{seen}");
            assert!(variant["width"].as_u64().unwrap() > variant["height"].as_u64().unwrap(), "{seen}");
        }
    }
}

#[test]
fn shaka_shows_the_small_picture_of_any_time_and_winds_through_key_frames() {
    let plays = ASSETS.map(|asset| play("shaka", asset, "browse", &json!({ "times": GLANCES }), None));
    for seen in watch(&plays) {
        let told = &seen["told"];
        let count = SECONDS / GROUP_SECONDS;
        // It lists some of a sheet that is not full twice.
        let mut starts: Vec<u32> = serde_json::from_value(told["starts"].clone()).unwrap();
        starts.dedup();
        assert_eq!(starts, (0..count).map(|place| place * GROUP_SECONDS).collect::<Vec<_>>(), "{seen}");
        let [track] = &told["tracks"].as_array().unwrap()[..] else { panic!("{seen}") };
        assert_eq!(track["mimeType"], "image/jpeg", "{seen}");
        // Four in a row, of 16:9.
        let sheet = json!([track["width"], track["height"]]);
        assert_eq!(sheet, json!([640, count.div_ceil(4) * 90]), "{seen}");

        let thumbnails = told["thumbnails"].as_array().unwrap();
        assert_eq!(numbers(&told["thumbnails"]), key_frames(), "{seen}");
        for (thumbnail, key_frame) in thumbnails.iter().zip(key_frames()) {
            let place = key_frame / u64::from(GROUP_SECONDS * PICTURES_A_SECOND);
            assert_eq!(thumbnail["sheet"], sheet, "{seen}");
            assert_eq!([&thumbnail["width"], &thumbnail["height"]], [160, 90], "{seen}");
            assert_eq!(thumbnail["positionX"], place % 4 * 160, "{seen}");
            assert_eq!(thumbnail["positionY"], place / 4 * 90, "{seen}");
            assert_eq!(thumbnail["startTime"], place * u64::from(GROUP_SECONDS), "{seen}");
            assert_eq!(thumbnail["duration"], GROUP_SECONDS, "{seen}");
        }

        let asked =
            |end: &str| requests(&seen).iter().any(|request| request["url"].as_str().unwrap().ends_with(end));
        assert!(asked("/iframes.m3u8"), "{seen}");
        // After what was there already, key frames, each a picture long.
        let buffered: Vec<(f64, f64)> = serde_json::from_value(told["buffered"].clone()).unwrap();
        for (start, end) in &buffered[1..] {
            assert!(start % f64::from(GROUP_SECONDS) < 0.001 && end - start < 0.05, "{seen}");
        }
    }
}

fn numbers(pictures: &Value) -> Vec<u64> {
    pictures.as_array().unwrap().iter().map(|picture| picture["number"].as_u64().unwrap()).collect()
}

fn play(player: &str, asset: &str, task: &str, options: &Value, rate: Option<u32>) -> Value {
    let url = keys().sign(&Keys::order(&format!("{}/assets/{asset}/index.m3u8", WORKER.url())));
    let mut play = json!({ "player": player, "url": url, "task": task, "options": options });
    if let Some(rate) = rate {
        play["rate"] = json!(rate);
    }
    play
}
