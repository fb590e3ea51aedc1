//! Every player plays every asset to its end, in every mode of the gate.

#![allow(missing_docs)]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "they are names that we gave")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{CLIENT_ACCEPTS, EDGE_ENCODING, Gate, Keys, Worker, keys, node, publish, run, tool, trusting};
use transcoder::sign::Order;

/// A way to hand authority on. One more mode is one more row, and a test of two lines.
struct Mode {
    /// Settings of the gate, and `CLIENT_ACCEPTS` where the clients' own wish is not to count.
    settings: &'static [(&'static str, &'static str)],
    /// How playlists leave the gate for whoever accepts gzip.
    encoding: &'static str,
    /// The parameter that links are opened by.
    authority: &'static str,
}

/// The signed query, written out in every link.
const PLAIN: Mode =
    Mode { settings: &[("CLIENT_ACCEPTS", "identity")], encoding: "identity", authority: "Signature" };

/// The same, to clients that accept gzip: browsers and streamlink do. ffmpeg does not, and must not be given it.
const GZIP: Mode = Mode { settings: &[], encoding: "gzip", authority: "Signature" };

/// A ticket in place of the query.
const TICKET: Mode = Mode {
    settings: &[("TICKET_SECRET", "a secret of the tests: long enough to be one")],
    encoding: "gzip",
    authority: "t",
};

#[test]
fn every_player_plays_to_the_end() {
    everybody_plays(&PLAIN);
}

#[test]
fn every_player_plays_to_the_end_with_playlists_in_gzip() {
    everybody_plays(&GZIP);
}

#[test]
fn every_player_plays_to_the_end_with_tickets() {
    everybody_plays(&TICKET);
}

const SECONDS: f64 = 8.0;
const FRAMES: &str = "200";
/// What `transcoder encode` makes: separate tracks for sound and picture, in fMP4.
const FMP4: &str = "assets/fmp4/index.m3u8";
/// What ffmpeg makes: sound and picture in one, in TS, encrypted, so that a key is among the links.
const TS: &str = "assets/ts/index.m3u8";
/// A stream that goes on: to ask for more of it players add parameters of their own.
const LIVE: &str = "assets/ts/0/live.m3u8";

/// A folder with the assets, made once.
static MEDIA: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let (upload, media) = (folder.join("clip.mp4"), folder.join("media"));
    let sources = ["-f", "lavfi", "-i", "testsrc2=s=640x480:r=25", "-f", "lavfi", "-i", "sine=r=48000"];
    let clip = ["-t", &SECONDS.to_string(), "-pix_fmt", "yuv420p", "-preset", "ultrafast", "-shortest"];
    ffmpeg(sources.into_iter().chain(clip), &upload);
    make_ts(&upload, &media.join("assets/ts"));

    assert_eq!(publish(upload, "fmp4", &media), FMP4);
    media
});

fn make_ts(upload: &Path, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let key = folder.join("clip.key");
    std::fs::write(&key, "sixteen letters.").unwrap();
    let key_info = folder.with_file_name("key-info");
    std::fs::write(&key_info, format!("../clip.key\n{}\n", key.display())).unwrap();
    let segments = folder.join("%v/%03d.ts");
    // AAC begins a frame before the sound that it is given: without that much of it, sound and picture begin together.
    let encode = "-map 0:v -map 0:a -map 0:v -map 0:a -c:v libx264 -preset ultrafast -g 50 -keyint_min 50 \
                  -sc_threshold 0 -s:v:1 320x240 -b:v:0 500k -b:v:1 200k \
                  -c:a aac -ac 2 -af atrim=start_sample=1024";
    let package = "-f hls -hls_time 2 -hls_playlist_type vod -hls_segment_type mpegts \
                   -hls_flags independent_segments -master_pl_name index.m3u8 -hls_key_info_file";
    let arguments = ["-i", upload.to_str().unwrap()]
        .into_iter()
        .chain(encode.split_whitespace())
        .chain(package.split_whitespace())
        .chain([key_info.to_str().unwrap(), "-var_stream_map", "v:0,a:0 v:1,a:1"])
        .chain(["-hls_segment_filename", segments.to_str().unwrap()]);
    ffmpeg(arguments, &folder.join("%v/index.m3u8"));

    let ended = std::fs::read_to_string(folder.join("0/index.m3u8")).unwrap();
    let control =
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0\n#EXT-X-START:TIME-OFFSET=0\n";
    let live = ended.replace("#EXT-X-PLAYLIST-TYPE:VOD\n", control).replace("#EXT-X-ENDLIST\n", "");
    assert!(live.contains(control) && live.len() < ended.len() + control.len());
    std::fs::write(folder.join("0/live.m3u8"), live).unwrap();
}

fn ffmpeg<'a>(arguments: impl IntoIterator<Item = &'a str>, output: &Path) {
    let _ = run(Command::new("ffmpeg").args(["-v", "error", "-nostdin"]).args(arguments).arg(output));
}

/// What `transcoder sign` makes of the URL of a playlist, and of all below `assets/`. It has letters that some players
/// escape when they write a query anew.
fn signed(gate: &Worker, playlist: &str) -> String {
    let resource = Some(format!("{}/assets/*", gate.url()));
    let order = Order { resource, ..Keys::order(&format!("{}/{playlist}", gate.url())) };
    let signed = (0..).map(|second| keys().sign(&Order { expires: order.expires + second, ..order.clone() }));
    signed.into_iter().find(|url| url.contains('~')).unwrap()
}

fn everybody_plays(mode: &Mode) {
    let gate = gate(mode);
    thread::scope(|together| {
        together.spawn(|| browsers_play(&gate, mode));
        for playlist in [FMP4, TS] {
            together.spawn(|| ffmpeg_plays(&signed(&gate, playlist)));
            together.spawn(|| streamlink_plays(&signed(&gate, playlist)));
        }
    });
    nobody_was_refused(&gate);
}

fn gate(mode: &Mode) -> Worker {
    let mut settings = trusting();
    for (name, value) in mode.settings {
        settings[*name] = json!(value);
    }
    Worker::recording(&MEDIA, &settings)
}

/// Of all that was asked of a gate, only a request without a signature, which is made here, was refused.
fn nobody_was_refused(gate: &Worker) {
    let bare = gate.get(&format!("/{TS}"));
    assert_eq!(bare.status(), StatusCode::FORBIDDEN);
    let log = gate.log(&bare, "403 GET");
    let refusals = log.lines().filter(|line| line.contains(" GET ") || line.contains(" HEAD "));
    assert_eq!(refusals.count(), 1, "{log}");
}

fn browsers_play(gate: &Worker, mode: &Mode) {
    let mut plays = Vec::new();
    for player in ["hls.js-1.5", "hls.js", "shaka", "video.js", "native"] {
        for (playlist, cmcd) in [(FMP4, false), (TS, true)] {
            plays.push(json!({ "player": player, "url": signed(gate, playlist), "cmcd": cmcd }));
        }
    }
    for (play, seen) in plays.iter().zip(watch(&plays)) {
        assert_eq!(seen["ended"], true, "{seen}");
        assert!((seen["played"].as_f64().unwrap() - SECONDS).abs() < 0.5, "{seen}");
        assert!(seen["segments"].as_u64().unwrap() >= 4, "{seen}");
        let (asked_for, _) = play["url"].as_str().unwrap().split_once('?').unwrap();
        for request in requests(&seen) {
            // Something may be asked for and given up, as when Chromium knows better where a track begins.
            let answered = request["status"].is_u64();
            let authority = if request["url"] == asked_for { "Signature" } else { mode.authority };
            assert_eq!(request["authority"], authority, "{seen}");
            let is_playlist = request["url"].as_str().unwrap().ends_with(".m3u8");
            assert!(!is_playlist || !answered || request["encoding"] == mode.encoding, "{seen}");
        }
        let tells = ["hls.js-1.5", "hls.js", "shaka"].iter().any(|player| play["player"] == *player);
        if tells && play["cmcd"] == true {
            assert!(requests(&seen).iter().filter(|request| request["more"] == json!(["CMCD"])).count() >= 4);
        }
    }
}

/// Every frame of both renditions.
fn ffmpeg_plays(url: &str) {
    assert_eq!(frames(url), [FRAMES; 2]);
}

/// The best rendition, into a file, as its users do.
fn streamlink_plays(url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip").display().to_string();
    let save =
        ["-m", "streamlink", "--loglevel", "error", "--output", &clip, &format!("hls://{url}"), "best"];
    assert_eq!(run(tool("python").args(save)), "");
    assert_eq!(frames(&clip), [FRAMES]);
}

/// How many frames of picture each rendition of what is at a URL has, counted by decoding all of them.
fn frames(url: &str) -> Vec<String> {
    let count = ["-v", "error", "-select_streams", "v", "-count_frames", "-show_streams", "-of", "json"];
    let counted: Value = serde_json::from_str(&run(Command::new("ffprobe").args(count).arg(url))).unwrap();
    let streams = counted["streams"].as_array().unwrap().iter();
    streams.map(|stream| stream["nb_read_frames"].as_str().unwrap().to_owned()).collect()
}

/// Players add parameters to ask for the rest of a stream, and some write the whole query anew to do so.
#[test]
fn a_query_that_a_player_writes_anew_is_let_in() {
    let gate = gate(&PLAIN);
    let players = ["hls.js-1.5", "hls.js", "shaka", "video.js"];
    let plays = players.map(|player| json!({ "player": player, "url": signed(&gate, LIVE), "live": true }));
    let seen = watch(&plays);
    // Versions come and go, but without one that does, this shows nothing.
    assert!(seen.iter().flat_map(requests).any(|request| request["anew"] == true), "{seen:?}");
    nobody_was_refused(&gate);
}

/// What the players of `players.mjs` saw of what they were asked to play. None may have met with a problem.
fn watch(plays: &[Value]) -> Vec<Value> {
    // One browser at a time is as much as two cores can decode for.
    static BROWSER: Mutex<()> = Mutex::new(());
    let _turn = BROWSER.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = run(node("players.mjs").arg(Value::from(plays).to_string()));
    let seen: Vec<Value> = serde_json::from_str(&seen).unwrap();
    for seen in &seen {
        assert_eq!(seen["problems"], json!([]), "{seen}");
    }
    seen
}

fn requests(seen: &Value) -> &Vec<Value> {
    seen["requests"].as_array().unwrap()
}

/// What a test of gzip relies on. On Cloudflare every request says that it accepts gzip; what its client accepts is
/// told beside it.
#[test]
fn the_worker_is_told_what_a_client_accepts_and_what_it_encodes_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("captions.vtt"), "as stored").unwrap();
    let stated = json!({ "captions.vtt": { "contentEncoding": "gzip" } });
    std::fs::write(folder.path().join(".types.json"), stated.to_string()).unwrap();
    let gate = Worker::recording(folder.path(), &trusting());
    let target = format!("/captions.vtt?{}", gate.open("/*"));
    for accepts in ["", "gzip", "br;q=0.5, gzip"] {
        let sent = [("Accept-Encoding", accepts)];
        let answer = gate.ask(Method::GET, &target, if accepts.is_empty() { &[] } else { &sent });
        assert_eq!(answer.headers()[CLIENT_ACCEPTS], accepts);
        assert_eq!(answer.headers()[EDGE_ENCODING], "gzip");
        assert_eq!(answer.body(), b"as stored");
    }
}
