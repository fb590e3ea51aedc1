//! An asset reaches a bucket, over the S3 API of a server that is not ours.

mod harness;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use harness::{Moto, Studio, printed};
use jiff::Timestamp;
use transcoder::asset::{Asset, Generation};
use transcoder::encoder::Machine;
use transcoder::jobs::JobId;
use transcoder::package::{Edition, MediaFile, Package};
use transcoder::plan::Options;
use transcoder::storage::claims::{Claim, Claims};
use transcoder::storage::{Access, Store};
use transcoder::{CancellationToken, Class, Job, Progress, Work, go_on};

#[test]
fn a_bucket_gets_segments_first_and_the_playlist_last() {
    let studio = Studio::new();
    let moto = Moto::start(&studio);
    let clip = studio.clip("clip.mp4", "-f lavfi -i testsrc2=s=64x64:d=1 SOUND -c:v libx264 -c:a aac");

    let output = moto.command(&studio, &clip, "s3://media").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with("transcoder: bucket media at http://127.0.0.1:"), "{stderr}");
    assert!(stderr.contains("does not exist: create it") && stderr.lines().count() == 1, "{stderr}");

    assert!(moto.request("PUT", "/media").0.starts_with("http/1.1 200"));
    let output = moto.command(&studio, &clip, "s3://media/films").arg("--encrypt").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "films/assets/a/index.m3u8\n");

    let (head, body) = moto.request("GET", "/media/films/assets/a/index.m3u8");
    assert!(head.contains("content-type: application/vnd.apple.mpegurl"), "{head}");
    assert!(head.contains("cache-control: no-cache"), "{head}");
    let generation = body.lines().find_map(|line| line.split_once('/')).unwrap().0.to_owned();
    let generation = generation.rsplit('"').next().unwrap();
    for (name, content_type, cache_control) in [
        ("asset.json".to_owned(), "application/json", "no-cache"),
        (
            format!("{generation}/64p/index.m3u8"),
            "application/vnd.apple.mpegurl",
            "max-age=31536000, immutable",
        ),
        (format!("{generation}/64p/init.mp4"), "video/mp4", "max-age=31536000, immutable"),
        (format!("{generation}/audio/00001.m4s"), "video/iso.segment", "max-age=31536000, immutable"),
        (format!("{generation}/keys/00001.key"), "application/octet-stream", "no-store"),
        (format!("{generation}/poster.jpg"), "image/jpeg", "max-age=31536000, immutable"),
        (format!("{generation}/storyboard.vtt"), "text/vtt", "max-age=31536000, immutable"),
        (format!("{generation}/sha256sums.txt"), "text/plain", "max-age=31536000, immutable"),
    ] {
        let (head, _) = moto.request("GET", &format!("/media/films/assets/a/{name}"));
        assert!(head.contains(&format!("content-type: {content_type}")), "{name}: {head}");
        assert!(head.contains(&format!("cache-control: {cache_control}")), "{name}: {head}");
    }

    let puts = moto.puts();
    let ends = |key: &str, names: &[&str]| names.iter().any(|name| key.ends_with(name));
    let rank = |key: &String| match key.as_str() {
        "films/assets/a/index.m3u8" => 7,
        "films/assets/a/asset.json" => 6,
        key if ends(key, &["/.check"]) => 0,
        key if ends(key, &["/sha256sums.txt"]) => 1,
        key if ends(key, &[".m4s", "/init.mp4", ".jpg", "/00001.key"]) => 2,
        key if ends(key, &["/index.m3u8", "/iframes.m3u8", "/storyboard.m3u8", ".vtt"]) => 3,
        key if ends(key, &["/multivariant.txt"]) => 4,
        key if ends(key, &["/asset.json"]) => 5,
        key => panic!("{key} was put"),
    };
    let puts: Vec<_> = puts.into_iter().filter(|key| key.starts_with("films/")).collect();
    let ranks: Vec<_> = puts.iter().map(rank).collect();
    assert!(ranks.is_sorted() && ranks.first() == Some(&0) && ranks.last() == Some(&7), "{puts:?}");
    // What the check put is gone.
    assert!(
        moto.request("GET", &format!("/media/films/assets/a/{generation}/.check"))
            .0
            .starts_with("http/1.1 404")
    );
}

/// A server that answers every request in one way.
fn answering(answer: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 16_384]);
            let head =
                format!("{}\r\nConnection: close\r\nContent-Length: ", answer.split('|').next().unwrap());
            let body = answer.split('|').nth(1).unwrap();
            let _ = stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    port
}

#[test]
fn a_bucket_that_cannot_be_used_is_said_so_before_anything_is_encoded() {
    let studio = Studio::new();
    let clip = studio.clip("clip.mp4", "-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264");
    let denied = answering(
        "HTTP/1.1 403 Forbidden|<Error><Code>InvalidAccessKeyId</Code><Message>?</Message></Error>",
    );
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (port, expected) in [
        (denied, "refuses the credentials (InvalidAccessKeyId): check AWS_ACCESS_KEY_ID"),
        (nobody, "bucket media at http://127.0.0.1:"),
    ] {
        let output = studio
            .command(&[clip.to_str().unwrap(), "--endpoint", &format!("http://127.0.0.1:{port}")])
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("REELGATE_TO", "s3://media")
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{stderr}");
        assert!(!stderr.contains("encoding"), "{stderr}");
    }
}

/// A server that takes the check's two requests, and then holds its peace.
fn falling_silent() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut unanswered = Vec::new();
        for (count, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            if count >= 2 {
                unanswered.push(stream);
                continue;
            }
            let _ = stream.read(&mut [0; 16_384]);
            let body = "<DeleteResult><Deleted><Key>x</Key></Deleted></DeleteResult>";
            let head = "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nConnection: close\r\nContent-Length: ";
            let _ = stream.write_all(format!("{head}{}\r\n\r\n{body}", body.len()).as_bytes());
        }
    });
    port
}

#[cfg(unix)]
#[test]
fn who_asks_twice_does_not_wait_for_a_bucket_that_is_silent() {
    let studio = Studio::new();
    let clip = studio.clip("clip.mp4", "-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264");
    let mut child = studio
        .command(&[clip.to_str().unwrap(), "--endpoint", &format!("http://127.0.0.1:{}", falling_silent())])
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("REELGATE_TO", "s3://media")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut text = String::new();
    // Packaged: from here on it publishes, to nobody.
    while !text.contains("packaging: ") {
        assert!(std::io::BufRead::read_line(&mut stderr, &mut text).unwrap() > 0, "{text}");
    }
    let interrupt = || {
        std::thread::sleep(Duration::from_secs(1));
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    };
    interrupt();
    interrupt();
    let begun = Instant::now();
    stderr.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1), "{text}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert!(text.contains("transcoder: stopped at once"), "{text}");
}

/// Runs this test once more in a process of its own that has credentials, which come from nowhere but the environment.
/// Whether it is that one.
fn has_credentials(test: &str) -> bool {
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_some_and(|id| id == "test") {
        return true;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]);
    printed(command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test"));
    false
}

/// Stops a job as soon as it comes to a step, and writes down which it came to.
#[derive(Default)]
struct Steps {
    stop_at: Option<&'static str>,
    cancel: CancellationToken,
    seen: Mutex<Vec<&'static str>>,
}

impl Steps {
    fn stopping(stop_at: &'static str) -> Self {
        Self { stop_at: Some(stop_at), ..Self::default() }
    }

    fn come_to(&self, step: &'static str) {
        let mut seen = self.seen.lock().unwrap();
        if seen.last() != Some(&step) {
            seen.push(step);
        }
        if self.stop_at == Some(step) {
            self.cancel.cancel();
        }
    }

    fn seen(&self) -> Vec<&'static str> {
        self.seen.lock().unwrap().clone()
    }
}

impl Progress for Steps {
    fn probing(&self) {
        self.come_to("probing");
    }

    fn encoded(&self, _: Duration, _: Duration) {
        self.come_to("encoding");
    }

    fn packaged(&self, _: u64, _: u64) {
        self.come_to("packaging");
    }

    fn published(&self, done: u64, total: u64) {
        if done > 0 && done < total {
            self.come_to("publishing");
        }
    }
}

/// A job of one clip, as the service would have it.
fn job(studio: &Studio, options: Options) -> (Job, Work) {
    let sound = "-f lavfi -i testsrc2=s=64x64:d=8 -f lavfi -i sine=d=8 -c:v libx264 -c:a aac";
    let input = studio.clip("clip.mp4", sound);
    std::fs::write(studio.path("clip.srt"), "1\n00:00:01,000 --> 00:00:02,000\nHello\n").unwrap();
    let asset: transcoder::asset::AssetId = "a".parse().unwrap();
    let created: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let edition = Edition { asset: asset.clone(), generation: Generation::new(created, 1), created };
    let uploaded = Some("2026-11-22T09:00:00Z".parse().unwrap());
    let (folder, by) = (studio.path("work"), Some("00112233445566778899aabbccddeeff".to_owned()));
    (Job { input, asset, encoder: Machine::Ffmpeg, options }, Work { folder, edition, uploaded, by })
}

#[tokio::test]
async fn a_job_goes_on_where_it_was_stopped() {
    let studio = Studio::new();
    let media = studio.path("media");
    let store = Store::open(media.to_str().unwrap(), &Access::default()).unwrap();
    let (job, work) = job(&studio, Options { encrypt: true, ..Options::default() });
    // Half of what an attempt before was encoding, when it was killed.
    std::fs::create_dir_all(work.folder.join("input")).unwrap();
    std::fs::write(work.folder.join("64p.mp4"), "half").unwrap();
    std::fs::write(work.folder.join("encoded.json.new"), "{").unwrap();

    for (stop_at, expected) in [
        ("probing", &["probing"][..]),
        ("encoding", &["probing", "encoding"]),
        ("packaging", &["probing", "encoding", "packaging"]),
        // What was encoded is there: its source is not looked at any more.
        ("packaging", &["packaging"]),
        ("publishing", &["packaging", "publishing"]),
    ] {
        let steps = Steps::stopping(stop_at);
        let error = go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap_err();
        assert_eq!(error.class(), Class::Stopped, "{error}");
        assert_eq!(steps.seen(), expected, "{stop_at}");
        if stop_at == "packaging" {
            let _ = std::fs::remove_file(&job.input);
        }
    }
    // Of what was packaged nothing is there twice.
    assert!(work.folder.join("input").exists() && !work.folder.join("64p.mp4").exists());
    let steps = Steps::default();
    let published = go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap();
    assert_eq!(published.generation, work.edition.generation);
    assert_eq!(steps.seen(), ["publishing"]);
    let sums = media.join("assets/a").join(published.generation.to_string());
    printed(Command::new("sha256sum").current_dir(sums).args(["--check", "--strict", "sha256sums.txt"]));
    let lint =
        printed(Command::new(env!("CARGO_BIN_EXE_transcoder")).arg("lint").arg(media.join("assets/a")));
    assert!(lint.contains(" 0 MUST"), "{lint}");
    let description = std::fs::read(media.join("assets/a/asset.json")).unwrap();
    let description: serde_json::Value = serde_json::from_slice(&description).unwrap();
    assert_eq!(description["uploaded"], "2026-11-22T09:00:00Z");
    assert_eq!(description["job"], "00112233445566778899aabbccddeeff");
    assert!(description["renditions"].as_array().unwrap().iter().any(|one| one["kind"] == "captions"));

    // The process ended before it could say that all is done.
    std::fs::remove_dir_all(&work.folder).unwrap();
    let steps = Steps::default();
    assert_eq!(go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap(), published);
    assert_eq!(steps.seen(), Vec::<&str>::new());
}

#[tokio::test]
async fn what_was_noted_down_is_only_believed_if_its_files_are_there() {
    let studio = Studio::new();
    let store = Store::open(studio.path("media").to_str().unwrap(), &Access::default()).unwrap();
    let (job, work) = job(&studio, Options::default());
    for damage in ["encoded.json", "64p.mp4"] {
        let steps = Steps::stopping("packaging");
        go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap_err();
        std::fs::write(work.folder.join(damage), "{\"files\":[]").unwrap();
        let steps = Steps::stopping("packaging");
        go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap_err();
        assert_eq!(steps.seen(), ["probing", "encoding", "packaging"], "{damage}");
    }
    let steps = Steps::stopping("publishing");
    go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap_err();
    std::fs::remove_file(work.folder.join("64p/00001.m4s")).unwrap();
    let steps = Steps::default();
    go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap();
    assert_eq!(steps.seen()[..3], ["probing", "encoding", "packaging"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gets_only_what_is_missing() {
    if !has_credentials("a_bucket_gets_only_what_is_missing") {
        return;
    }
    let studio = Studio::new();
    let moto = Moto::start(&studio);
    let store = moto.store("media");
    let (job, work) = job(&studio, Options::default());
    let steps = Steps::stopping("publishing");
    go_on(&job, &work, &store, &steps, &steps.cancel).await.unwrap_err();
    let stored = store.generations(&job.asset).await.unwrap();
    let before: Vec<_> = moto.puts();
    assert!(!stored[0].is_complete && before.len() > 2, "{before:?}");
    go_on(&job, &work, &store, &(), &CancellationToken::new()).await.unwrap();
    let again: Vec<_> = moto.puts().split_off(before.len());
    let stored = store.generations(&job.asset).await.unwrap();
    assert!(stored[0].is_complete);
    // Each object once in all, but for those that a put was under way of when it was stopped; and the check.
    let total = stored[0].objects + 2;
    assert!(before.len() - 1 + again.len() <= total + 8, "{before:?} {again:?} {total}");
    assert!(again.len() < total, "{again:?}");
    assert!(
        !again.iter().any(|key| key.ends_with("/.check") || key.ends_with("/sha256sums.txt")),
        "{again:?}"
    );
    assert_eq!(again.last().unwrap(), "films/assets/a/index.m3u8");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_takes_large_files_in_parts_and_one_claim_to_a_job() {
    if !has_credentials("a_bucket_takes_large_files_in_parts_and_one_claim_to_a_job") {
        return;
    }
    let studio = Studio::new();
    let moto = Moto::start(&studio);
    let store = moto.store("media");
    let path = studio.path("large");
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|at| u8::try_from(at % 251).unwrap()).collect();
    std::fs::write(&path, &bytes).unwrap();
    let publish = async |second: u32| {
        let created: Timestamp = format!("2026-11-22T10:00:{second:02}Z").parse().unwrap();
        let generation = Generation::new(created, 1);
        let edition = Edition { asset: "a".parse().unwrap(), generation: generation.clone(), created };
        let large = MediaFile {
            key: edition.key("64p/00001.m4s"),
            path: path.clone(),
            bytes: bytes.len() as u64,
            sha256: [0; 32],
        };
        let package = Package {
            media: vec![large],
            texts: Vec::new(),
            multivariant: format!("#EXTM3U\n{generation}/64p/index.m3u8\n"),
            description: description(&generation, created),
            edition,
        };
        store.publish(&package, &(), &CancellationToken::new()).await.unwrap();
        package.media[0].key.clone()
    };
    let key = publish(0).await;
    let parts = std::fs::read_to_string(studio.path("moto.log")).unwrap();
    assert_eq!(parts.lines().filter(|line| line.contains("partNumber=")).count(), 3, "{parts}");
    let (head, body) = moto.request("GET", &format!("/media/films/{key}"));
    assert!(head.contains("content-type: video/iso.segment") && head.contains("immutable"), "{head}");
    assert!(head.contains(&format!("content-length: {}", bytes.len())), "{head}");
    assert!(body.starts_with("\0\u{1}\u{2}"));

    // Two at once: both conditions of S3, over its API.
    let (first, second) = tokio::join!(publish(1), publish(2));
    assert_ne!(first, second);
    let played = store.played(&"a".parse().unwrap()).await.unwrap().unwrap();
    let described = &store.assets(None, 1).await.unwrap()[0];
    assert_eq!(described.generation, played);

    let claims = Claims::new(&store).unwrap();
    let id: JobId = "00112233445566778899aabbccddeeff".parse().unwrap();
    let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    let claim = |owner: &'static str| claims.claim(&id, owner, now, Duration::from_mins(1));
    let (one, other) = tokio::join!(claim("one"), claim("other"));
    let outcomes = [one.unwrap(), other.unwrap()];
    assert_eq!(outcomes.iter().filter(|claim| **claim == Claim::Claimed).count(), 1, "{outcomes:?}");
    let owner = if outcomes[0] == Claim::Claimed { "one" } else { "other" };
    assert!(claims.renew(&id, owner, now, Duration::from_mins(2)).await.unwrap());
    assert!(claims.finish(&id, owner, "done").await.unwrap());
    assert_eq!(claim("one").await.unwrap(), Claim::Final("done".to_owned()));
}

/// What `asset.json` says at the least.
fn description(generation: &Generation, created: Timestamp) -> Asset {
    let nothing = serde_json::json!({
        "asset": "a", "state": "ready", "generation": generation, "created": created, "duration": 6.0,
        "container": "fmp4", "renditions": [], "rungs": [], "notes": [], "commands": [],
        "source": {"name": "a.mp4", "bytes": 1, "container": "mov", "duration": 6.0, "audio": [], "captions": []},
        "versions": {"transcoder": "", "encoder": ""},
        "objects": {"count": 0, "bytes": 0, "list": "", "list_sha256": "", "playlist_sha256": ""},
    });
    serde_json::from_value(nothing).unwrap()
}

#[test]
fn an_earlier_encode_is_played_again_and_the_oldest_removed() {
    let studio = Studio::new();
    let moto = Moto::start(&studio);
    let clip = studio.clip("clip.mp4", "-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264");
    assert!(moto.request("PUT", "/media").0.starts_with("http/1.1 200"));
    let folder = studio.path("folder");
    for to in ["s3://media/films", folder.to_str().unwrap()] {
        let played = || {
            let text = match to.strip_prefix("s3:/") {
                Some(path) => moto.request("GET", &format!("{path}/assets/a/index.m3u8")).1,
                None => std::fs::read_to_string(folder.join("assets/a/index.m3u8")).unwrap(),
            };
            let link = text.lines().find(|line| !line.starts_with('#')).unwrap();
            link.split_once('/').unwrap().0.to_owned()
        };
        let generations: Vec<String> = (0..3)
            .map(|_| {
                printed(&mut moto.command(&studio, &clip, to));
                // Generations are told apart by the second.
                std::thread::sleep(Duration::from_millis(1100));
                played()
            })
            .collect();
        let key = if to.starts_with("s3") { "films/assets/a/index.m3u8" } else { "assets/a/index.m3u8" };
        let back = printed(&mut moto.ask(to, &["rollback", "a"]));
        assert_eq!(back, format!("{key} {}\n", generations[1]));
        assert_eq!(played(), generations[1]);
        let gc = |more: &[&str]| printed(&mut moto.ask(to, &[&["gc", "--keep", "2"], more].concat()));
        assert_eq!(gc(&[]), "0 generations removed, 0 bytes\n");
        let rehearsed = gc(&["--older-than", "0s", "--dry-run"]);
        assert!(rehearsed.contains(&format!("{} would be removed: ", generations[0])), "{rehearsed}");
        assert!(gc(&["--older-than", "0s"]).contains("1 generations removed"));
        assert_eq!(gc(&["--older-than", "0s"]), "0 generations removed, 0 bytes\n");
        printed(&mut moto.ask(to, &["rollback", "a", "--generation", &generations[2]]));
        assert_eq!(played(), generations[2]);
        let gone = moto.ask(to, &["rollback", "a", "--generation", &generations[0]]).output().unwrap();
        let stderr = String::from_utf8(gone.stderr).unwrap();
        assert!(stderr.contains("that is complete: asset.json is not there"), "{stderr}");
        assert_eq!(played(), generations[2]);
    }
    let rest = harness::files(&folder.join("assets/a"));
    assert!(!rest.is_empty());
}
