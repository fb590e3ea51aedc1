//! An asset reaches a bucket, over the S3 API of a server that is not ours.

mod harness;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::Studio;

/// A running moto, an imitation of AWS.
struct Moto {
    process: Child,
    port: u16,
    log: PathBuf,
}

impl Moto {
    fn start(studio: &Studio) -> Self {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
        let installed = target.join("tools/bin/moto_server");
        let program = if installed.exists() { installed } else { PathBuf::from("moto_server") };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = studio.path("moto.log");
        let process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("the tests need moto_server: run `make setup`");
        let moto = Self { process, port, log };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_mins(1), "moto_server does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        moto
    }

    /// One request; its head and its body.
    fn request(&self, method: &str, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        // Moto does not check signatures, but goes by them to know which service is meant.
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 0\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/s3/aws4_request\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_owned())
    }

    /// Keys in the order of their puts, each once.
    fn puts(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let puts = log.lines().filter_map(|line| line.split_once("\"PUT /media/"));
        puts.map(|(_, rest)| rest.split(' ').next().unwrap().to_owned()).collect()
    }

    fn command(&self, studio: &Studio, input: &Path, to: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        command.arg("encode").arg(input).args(["--to", to, "--asset", "a"]);
        command.args(["--endpoint", &format!("http://127.0.0.1:{}", self.port), "--region", "us-east-1"]);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("TMPDIR", studio.path(""));
        command
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

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
        "films/assets/a/index.m3u8" => 4,
        key if ends(key, &["/.check"]) => 0,
        key if ends(key, &[".m4s", "/init.mp4", ".jpg", "/00001.key"]) => 1,
        key if ends(
            key,
            &["/index.m3u8", "/iframes.m3u8", "/storyboard.m3u8", ".vtt", "/sha256sums.txt"],
        ) =>
        {
            2
        }
        key if ends(key, &["/asset.json"]) => 3,
        key => panic!("{key} was put"),
    };
    let puts: Vec<_> = puts.into_iter().filter(|key| key.starts_with("films/")).collect();
    let ranks: Vec<_> = puts.iter().map(rank).collect();
    assert!(ranks.is_sorted() && ranks.first() == Some(&0) && ranks.last() == Some(&4), "{puts:?}");
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
    // Encoded: from here on it publishes, to nobody.
    while !text.contains("encoding: 100 %") {
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
