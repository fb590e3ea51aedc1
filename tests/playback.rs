//! An upload, all the way to a player.

#![allow(missing_docs)]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "they are names that we gave")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use http::StatusCode;
use tests::{Gate, Keys, Native, Worker, keys, node, publish_as, run};
use transcoder::plan::{Container, Options};

const SECONDS: f64 = 13.0;
const PLAYLIST: &str = "assets/talk/index.m3u8";
const OLD_PLAYLIST: &str = "assets/old/index.m3u8";

/// A folder with one upload published twice, in fragments and in transport streams; made once. Both are encrypted,
/// with a new key for each segment.
static MEDIA: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let (upload, media) = (folder.join("talk.mp4"), folder.join("media"));
    let sources = ["-f", "lavfi", "-i", "testsrc2=s=854x480:r=25", "-f", "lavfi", "-i", "sine=r=48000"];
    let clip = ["-t", &SECONDS.to_string(), "-pix_fmt", "yuv420p", "-preset", "ultrafast", "-shortest"];
    let _ =
        run(Command::new("ffmpeg").args(["-v", "error", "-nostdin"]).args(sources).args(clip).arg(&upload));

    let options = Options { encrypt: true, key_every: NonZeroU32::new(1), ..Options::default() };
    assert_eq!(publish_as(upload.clone(), "talk", &media, options.clone()), PLAYLIST);
    assert_eq!(
        publish_as(upload, "old", &media, Options { container: Container::Ts, ..options }),
        OLD_PLAYLIST
    );
    media
});

static WORKER: LazyLock<Worker> = LazyLock::new(|| Worker::over(&MEDIA));

/// What `transcoder sign` makes of the asset's URL.
fn signed(gate: &dyn Gate, playlist: &str) -> String {
    keys().sign(&Keys::order(&format!("{}/{playlist}", gate.url())))
}

/// The links of a playlist, by the two forms that they have in ours.
fn links(playlist: &str) -> Vec<&str> {
    playlist
        .lines()
        .filter_map(|line| match line.split_once("URI=\"") {
            Some((_, rest)) => rest.split('"').next(),
            None => (!line.is_empty() && !line.starts_with('#')).then_some(line),
        })
        .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Follows every link from the signed URL on, and compares every byte with what was published.
fn every_byte_arrives(gate: &dyn Gate) {
    let url = signed(gate, PLAYLIST);
    let (start, query) = url.split_once('?').unwrap();
    let mut targets = vec![format!("{}?{query}", start.strip_prefix(gate.url()).unwrap())];
    let mut arrived = BTreeSet::new();
    while let Some(target) = targets.pop() {
        let response = gate.get(&target);
        assert_eq!(response.status(), StatusCode::OK, "{target}");
        let (path, _) = target.split_once('?').unwrap_or_else(|| panic!("{target} has no signature"));
        let published = std::fs::read(MEDIA.join(&path[1..])).unwrap();
        if path.ends_with(".m3u8") {
            let text = String::from_utf8(response.into_body()).unwrap();
            assert_eq!(text.replace(&format!("?{query}"), ""), String::from_utf8(published).unwrap());
            let folder = &path[..=path.rfind('/').unwrap()];
            let above = &path[..=folder.trim_end_matches('/').rfind('/').unwrap()];
            targets.extend(links(&text).into_iter().map(|link| match link.strip_prefix("../") {
                Some(rest) => format!("{above}{rest}"),
                None => format!("{folder}{link}"),
            }));
        } else {
            assert_eq!(response.body(), &published, "{path}");
        }
        let is_shared = path.ends_with(".mp4") || path.ends_with(".key");
        assert!(arrived.insert(MEDIA.join(&path[1..])) || is_shared, "{path} is linked to twice");
        if is_shared {
            assert_eq!(gate.get(path).status(), StatusCode::FORBIDDEN, "{path}");
        }
    }
    // What a page asks for by name, and not a player by links.
    let by_name = ["asset.json", "multivariant.txt", "sha256sums.txt", "poster.jpg", "storyboard.vtt"];
    let mut published: BTreeSet<_> = files_below(&MEDIA.join("assets/talk")).into_iter().collect();
    published.retain(|path| !by_name.iter().any(|name| path.ends_with(name)));
    assert_eq!(arrived, published);
}

#[test]
fn every_byte_of_an_upload_arrives_through_one_signed_url() {
    every_byte_arrives(&Native::over(&MEDIA));
}

#[test]
fn every_byte_of_an_upload_arrives_through_the_worker() {
    every_byte_arrives(&*WORKER);
}

#[test]
fn ffmpeg_plays_the_signed_url_and_not_the_bare_one() {
    let url = signed(&*WORKER, PLAYLIST);
    let count = ["-v", "error", "-select_streams", "v", "-count_frames", "-show_streams", "-of", "json"];
    let counted: serde_json::Value =
        serde_json::from_str(&run(Command::new("ffprobe").args(count).arg(&url))).unwrap();
    let frames = counted["streams"]
        .as_array()
        .unwrap()
        .iter()
        .map(|stream| stream["nb_read_frames"].as_str().unwrap());
    // 480 lines twice, 360 and 234; each has every frame of the upload.
    assert_eq!(frames.collect::<Vec<_>>(), ["325"; 4]);

    let play = |url: &str| {
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg
            .args(["-v", "error", "-nostdin", "-xerror", "-i", url, "-f", "null", "-"])
            .stdin(Stdio::null());
        let output = ffmpeg.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(play(&url), (true, String::new()));
    let (played, complaint) = play(url.split('?').next().unwrap());
    assert!(!played && complaint.contains("403"), "{complaint}");
}

/// What `play.mjs` saw, as a viewer of the demo's page sees it.
fn watch(playlist: &str, arguments: &[&str]) -> serde_json::Value {
    let seen = run(node("play.mjs").args(arguments).arg(signed(&*WORKER, playlist)));
    let seen: serde_json::Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["problems"], serde_json::json!([]), "{seen}");
    assert_eq!(seen["ended"], true);
    assert!((seen["played"].as_f64().unwrap() - SECONDS).abs() < 0.5, "{seen}");
    // Another origin than the page's, and a signature at every one of them.
    let requests = seen["requests"].as_array().unwrap();
    assert!(requests.iter().all(|request| request["signed"] == true), "{seen}");
    seen
}

#[test]
fn hls_js_plays_to_the_end_and_the_page_shows_how_the_gate_refuses() {
    let seen = watch(PLAYLIST, &[]);
    assert!(seen["player"].as_str().unwrap().starts_with("hls.js"), "{seen}");
    assert!(seen["segments"].as_u64().unwrap() >= 6, "{seen}");
    assert_eq!(seen["attempts"]["bare"]["status"], 403);
    assert!(seen["attempts"]["bare"]["says"].as_str().unwrap().contains("MissingKey"), "{seen}");
    assert_eq!(seen["attempts"]["elsewhere"]["status"], 403);
    assert_eq!(seen["attempts"]["altered"]["status"], 403);
}

/// Of what is encrypted Chromium plays transport streams and no fragments.
#[test]
fn chromiums_own_player_plays_to_the_end() {
    let seen = watch(OLD_PLAYLIST, &["--native"]);
    assert!(!seen["player"].as_str().unwrap().starts_with("hls.js"), "{seen}");
}
