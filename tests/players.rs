//! Every player plays every asset to its end, in every mode of the gate, and goes to where its viewer wants to go.

#![allow(missing_docs)]
#![allow(clippy::case_sensitive_file_extension_comparisons, reason = "they are names that we gave")]

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::thread;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{
    CLIENT_ACCEPTS, EDGE_ENCODING, Gate, Keys, OverS3, Worker, ffmpeg, film, keys, publish, requests, run,
    tool, trusting, watch,
};
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
    film(SECONDS, "640x480", &upload);
    make_ts(&upload, &media.join("assets/ts"));

    assert_eq!(publish(upload, "fmp4", &media), FMP4);
    media
});

/// The numbers of the pictures in what ffmpeg is asked to read, as they come, by the bars that [`film`] drew.
fn numbers(input: &[&str]) -> Vec<u32> {
    let read = "-map 0:v:0 -vf crop=iw:ih/10:0:0,scale=12:1:flags=area,format=gray -f rawvideo -";
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-v", "error", "-nostdin"]).args(input).args(read.split(' '));
    let output = ffmpeg.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let number = |bars: &[u8]| bars.iter().rev().fold(0, |number, bar| number * 2 + u32::from(*bar > 127));
    let mut numbers: Vec<_> = output.stdout.chunks(12).map(number).collect();
    // Where the sound begins first, ffmpeg shows the first picture until the next one is due.
    numbers.dedup();
    numbers
}

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
        together.spawn(|| vlc_plays(&signed(&gate, FMP4), 199));
        // It leaves out the last picture of any TS, of a file on the disk as well.
        together.spawn(|| vlc_plays(&signed(&gate, TS), 198));
    });
    let _ = nobody_was_refused(&gate);
}

fn gate(mode: &Mode) -> Worker {
    let mut settings = trusting();
    for (name, value) in mode.settings {
        settings[*name] = json!(value);
    }
    Worker::recording(&MEDIA, &settings)
}

/// Of all that was asked of a gate, only a request without a signature, which is made here, was refused. Returns its log.
fn nobody_was_refused(gate: &dyn Gate) -> String {
    let bare = gate.get(&format!("/{TS}"));
    assert_eq!(bare.status(), StatusCode::FORBIDDEN);
    let log = gate.log(&bare, r#""status":403"#);
    let refusals = log.lines().filter(|line| line.contains(r#""refusal":""#));
    assert_eq!(refusals.count(), 1, "{log}");
    log
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

/// Every frame of every rendition.
fn ffmpeg_plays(url: &str) {
    let frames = frames(url);
    assert!(frames.len() > 1 && frames.iter().all(|count| count == FRAMES), "{frames:?}");
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

/// The best rendition, up to the picture with this number.
fn vlc_plays(url: &str, last: u32) {
    assert_eq!(vlc_saves(url, &[]), (0..=last).collect::<Vec<_>>());
}

/// The numbers of the pictures that VLC saves, as it finds them: what it shows depends on how busy the machine is.
fn vlc_saves(url: &str, options: &[&str]) -> Vec<u32> {
    let folder = tempfile::tempdir().unwrap();
    // Root's VLC is run as somebody else.
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let clip = folder.path().join("clip.mkv").display().to_string();
    let save = format!("--sout=#std{{access=file,mux=mkv,dst={clip}}}");
    let quiet = ["--quiet", "--intf=dummy", "--no-media-library", "--adaptive-logic=highest"];
    let _ = run(tool("vlc").args(quiet).args(options).args([&save, "--play-and-exit", url]));
    numbers(&["-i", &clip])
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
    let _ = nobody_was_refused(&gate);
}

const FILM_SECONDS: u32 = 60;
const PICTURES_A_SECOND: u32 = 25;
/// What `transcoder encode` makes, in segments of 6 seconds.
const FILM: &str = "assets/film/index.m3u8";
/// What ffmpeg makes: segments of 2 seconds that are ranges of one file.
const RANGES: &str = "assets/ranges/index.m3u8";
/// Where viewers go, in seconds, and where those who go back from there go. Both are within a segment.
const THERE: u32 = 45;
const BACK: u32 = 21;

/// A folder with what is long enough to go somewhere, made once.
static FILMS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let (upload, media) = (folder.join("film.mp4"), folder.join("media"));
    film(f64::from(FILM_SECONDS), "320x180", &upload);
    assert_eq!(publish(upload.clone(), "film", &media), FILM);

    let ranges = media.join(RANGES);
    std::fs::create_dir_all(ranges.parent().unwrap()).unwrap();
    let package = "-c:v copy -c:a aac -af atrim=start_sample=1024 \
                   -f hls -hls_time 2 -hls_playlist_type vod -hls_flags single_file";
    ffmpeg(["-i", upload.to_str().unwrap()].into_iter().chain(package.split_whitespace()), &ranges);
    media
});

#[test]
fn a_viewer_gets_where_they_want_to_go_by_way_of_r2() {
    everybody_seeks(&Worker::with(&FILMS, &talkative()));
}

#[test]
fn a_viewer_gets_where_they_want_to_go_by_way_of_s3() {
    everybody_seeks(&OverS3::with(&FILMS, &talkative()));
}

/// The settings of a gate that has each request in its log.
fn talkative() -> Value {
    json!({ "TRUSTED_KEYS": keys().trusted, "LOG_ONE_IN": "1" })
}

fn everybody_seeks(gate: &dyn Gate) {
    // Each viewer has a signature, and so a session, of their own.
    let url = |playlist: &str, viewer: u64| {
        let order = Keys::order(&format!("{}/{playlist}", gate.url()));
        keys().sign(&Order { expires: order.expires + viewer * 60, ..order })
    };
    thread::scope(|together| {
        let viewers = [("hls.js", url(FILM, 0)), ("hls.js", url(RANGES, 1))];
        let more = [("native", url(FILM, 2)), ("native", url(RANGES, 3))];
        together.spawn(move || browsers_seek(&[viewers, more].concat()));
        // Not in fMP4, wherever that is: FFmpeg's 380a518c439d, which mends it, is newer than many an ffmpeg.
        together.spawn(|| ffmpeg_seeks(&url(RANGES, 4)));
        // It begins where the segment does.
        together.spawn(|| vlc_seeks(&url(FILM, 5), THERE / 6 * 6));
        together.spawn(|| vlc_seeks(&url(RANGES, 6), THERE / 2 * 2));
    });
    what_lies_between_was_not_fetched(&nobody_was_refused(gate), 7);
}

fn browsers_seek(viewers: &[(&str, String)]) {
    // The middle of a picture's time, so that there is no doubt which one it is.
    let times = [THERE, BACK].map(|second| f64::from(second) + 0.02);
    let plays: Vec<_> =
        viewers.iter().map(|(player, url)| json!({ "player": player, "url": url, "seek": times })).collect();
    for seen in watch(&plays) {
        for (jump, second) in [THERE, BACK].into_iter().enumerate() {
            let jump = &seen["jumps"][jump];
            assert_eq!(jump["before"]["number"], second * PICTURES_A_SECOND, "{seen}");
            let [time, number] = ["time", "number"].map(|what| jump["after"][what].as_f64().unwrap());
            assert!(time >= f64::from(second) + 1.0, "{seen}");
            assert!((number / f64::from(PICTURES_A_SECOND) - time).abs() < 0.5, "{seen}");
        }
    }
}

fn ffmpeg_seeks(url: &str) {
    let shown = numbers(&["-ss", &THERE.to_string(), "-t", "1", "-i", url]);
    assert_eq!(shown, (THERE * PICTURES_A_SECOND..).take(25).collect::<Vec<_>>());
}

fn vlc_seeks(url: &str, from: u32) {
    let saved = vlc_saves(url, &[&format!("--start-time={THERE}")]);
    // It leaves out the last picture of TS.
    let last = FILM_SECONDS * PICTURES_A_SECOND - 1 - u32::from(url.contains(RANGES));
    assert_eq!(saved, (from * PICTURES_A_SECOND..=last).collect::<Vec<_>>());
}

/// Between 12 and 18 seconds, and between 36 and 42, is where nobody looked. Of one file there are only ranges, and less
/// of it than there is before where viewers went.
fn what_lies_between_was_not_fetched(log: &str, viewers: usize) {
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(&line[line.find('{')?..]).ok());
    let mut fetched = BTreeMap::<_, u64>::new();
    for entry in entries.filter(|entry| entry["kind"] == "segment") {
        let [path, session] = ["path", "session"].map(|name| entry[name].as_str().unwrap().to_owned());
        assert!(!path.ends_with("/00003.m4s") && !path.ends_with("/00007.m4s"), "{entry}");
        let is_range = path == "/assets/ranges/index.ts";
        assert!(!is_range || entry["status"] == 206, "{entry}");
        *fetched.entry((is_range, session)).or_default() += entry["bytes"].as_u64().unwrap();
    }
    assert_eq!(fetched.len(), viewers, "{log}");
    let all = FILMS.join("assets/ranges/index.ts").metadata().unwrap().len();
    let before = all * u64::from(THERE) / u64::from(FILM_SECONDS);
    let too_much = fetched.iter().filter(|((is_range, _), bytes)| *is_range && **bytes >= before);
    // Chromium's own player asks for all from here on, and gives that up when it has enough: when, no log says.
    assert!(too_much.count() <= 1, "{fetched:?}, of {all}");
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
