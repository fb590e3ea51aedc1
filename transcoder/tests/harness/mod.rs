//! What the tests beside this folder share: clips that ffmpeg makes, and what ffprobe says of what we made.

#![allow(dead_code, reason = "every test file is a program of its own and uses its part of this")]

pub(crate) mod api;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use transcoder::encoder::Machine;
use transcoder::plan::Options;
use transcoder::storage::{Access, Store};
use transcoder::{CancellationToken, Error, Job};

/// A folder with sources, and one that is published to.
pub(crate) struct Studio {
    folder: TempDir,
}

/// What was published of one source.
pub(crate) struct Published {
    /// The bucket.
    pub(crate) root: PathBuf,
    /// The asset's folder.
    pub(crate) asset: PathBuf,
    /// The folder of this encode.
    pub(crate) generation: PathBuf,
    /// The multivariant playlist.
    pub(crate) multivariant: String,
}

impl Studio {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has ffmpeg make a source, from arguments as typed. `PICTURE` and `SOUND` are four seconds of each.
    pub(crate) fn clip(&self, name: &str, arguments: &str) -> PathBuf {
        let arguments = arguments
            .replace("PICTURE", "-f lavfi -i testsrc2=s=320x180:r=30:d=4")
            .replace("SOUND", "-f lavfi -i sine=440:r=44100:d=4");
        let path = self.path(name);
        let output = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y"])
            .args(arguments.split_whitespace())
            .args(["-preset", "ultrafast"].iter().filter(|_| arguments.contains("libx264")))
            .arg(&path)
            .output()
            .expect("the tests need ffmpeg: `apt-get install ffmpeg`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        path
    }

    /// Encodes and publishes a source as asset `a`.
    pub(crate) async fn publish(&self, input: &Path) -> Result<Published, Error> {
        self.publish_as(input, &Options::default()).await
    }

    pub(crate) async fn publish_as(&self, input: &Path, options: &Options) -> Result<Published, Error> {
        let root = self.path("media");
        let store = Store::open(root.to_str().unwrap(), &Access::default())?;
        let asset = "a".parse().unwrap();
        let job = Job { input: input.to_owned(), asset, encoder: Machine::Ffmpeg, options: options.clone() };
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let published = transcoder::encode(&job, &store, now, &(), &CancellationToken::new()).await?;
        assert_eq!(published.playlist, "assets/a/index.m3u8");
        let multivariant = std::fs::read_to_string(root.join(&published.playlist)).unwrap();
        let asset = root.join("assets/a");
        let generation = asset.join(published.generation.to_string());
        Ok(Published { root, asset, generation, multivariant })
    }

    /// Runs the command line with these arguments; it publishes to a folder unless they say otherwise.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        command.arg("encode").args(arguments).env("REELGATE_TO", self.path("media"));
        // Where it leaves something behind, it is found here.
        std::fs::create_dir_all(self.path("temporary")).unwrap();
        command.env("TMPDIR", self.path("temporary"));
        command
    }

    /// Everything that lies in the bucket and in the temporary folder.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = files(&self.path("media"));
        found.extend(files(&self.path("temporary")));
        found
    }
}

impl Published {
    /// Names of the renditions, as the playlist has them, with their size in pixels.
    pub(crate) fn sizes(&self) -> Vec<String> {
        let variants = self.multivariant.lines().filter(|line| line.starts_with("#EXT-X-STREAM-INF:"));
        let sizes = variants.filter_map(|line| line.split_once("RESOLUTION="));
        let mut sizes: Vec<_> = sizes.map(|(_, rest)| rest.split(',').next().unwrap().to_owned()).collect();
        sizes.sort_by_key(|size| std::cmp::Reverse(size.split('x').next().unwrap().parse::<u32>().unwrap()));
        sizes
    }

    /// The media playlist of a rendition.
    pub(crate) fn playlist(&self, rendition: &str) -> PathBuf {
        let found = files(&self.generation);
        let end = format!("{rendition}/index.m3u8");
        found.into_iter().find(|path| path.ends_with(&end)).unwrap_or_else(|| panic!("no {rendition}"))
    }

    /// Names of those with a picture.
    pub(crate) fn pictures(&self) -> Vec<String> {
        let is_other = |name: &str| name.starts_with("audio") || name.starts_with("captions");
        self.renditions().into_iter().filter(|name| !is_other(name)).collect()
    }

    pub(crate) fn renditions(&self) -> Vec<String> {
        let playlists = files(&self.generation).into_iter().filter(|path| path.ends_with("index.m3u8"));
        let folders = playlists.map(|path| path.parent().unwrap().file_name().unwrap().to_owned());
        folders.map(|name| name.into_string().unwrap()).collect()
    }
}

/// Presentation times in seconds of a rendition's packets, those of key frames only if so wished.
pub(crate) fn times(playlist: &Path, key_frames_only: bool) -> Vec<f64> {
    let output = ffprobe(playlist, "packet=pts_time,flags");
    let mut times: Vec<f64> = output
        .lines()
        .filter_map(|line| line.split_once(','))
        .filter(|(_, flags)| !key_frames_only || flags.starts_with('K'))
        .map(|(time, _)| time.parse().unwrap())
        .collect();
    times.sort_by(f64::total_cmp);
    times
}

pub(crate) fn ffprobe(path: &Path, entries: &str) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "csv=p=0", "-show_entries", entries])
        .args(any_extension(path))
        .arg(path)
        .output()
        .expect("the tests need ffprobe: `apt-get install ffmpeg`");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A program that set-up brings for the tests, by its name in target/tools/bin.
pub(crate) fn tool(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin").join(name))
}

/// What a command printed, which has to succeed.
pub(crate) fn printed(command: &mut Command) -> String {
    let output =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` sets it up"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The MD5 of each picture or packet of sound of a file, as it is after decoding.
pub(crate) fn decoded(path: &Path) -> Vec<String> {
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin"]).args(any_extension(path)).arg("-i").arg(path);
    let text = printed(command.args(["-map", "0", "-f", "framemd5", "-"]));
    let frames = text.lines().filter(|line| !line.starts_with('#'));
    frames.map(|line| line.rsplit(',').next().unwrap().trim().to_owned()).collect()
}

/// From a disk, though not from a server, ffmpeg only reads what is called like a video, which a key is not.
pub(crate) fn any_extension(path: &Path) -> &'static [&'static str] {
    if path.extension() == Some("m3u8".as_ref()) { &["-allowed_extensions", "ALL"] } else { &[] }
}

/// The durations in a media playlist.
pub(crate) fn durations(playlist: &Path) -> Vec<f64> {
    let text = std::fs::read_to_string(playlist).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    lines.map(|line| line.trim_end_matches(',').parse().unwrap()).collect()
}

/// All files below a folder, by name.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found.into_iter().collect()
}

/// A running moto, an imitation of AWS.
pub(crate) struct Moto {
    process: Child,
    pub(crate) port: u16,
    pub(crate) log: PathBuf,
}

impl Moto {
    pub(crate) fn start(studio: &Studio) -> Self {
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
    pub(crate) fn request(&self, method: &str, path: &str) -> (String, String) {
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
    pub(crate) fn puts(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let puts = log.lines().filter_map(|line| line.split_once("\"PUT /media/"));
        puts.map(|(_, rest)| rest.split(' ').next().unwrap().to_owned()).collect()
    }

    pub(crate) fn command(&self, studio: &Studio, input: &Path, to: &str) -> Command {
        let mut command = self.ask(to, &["encode", input.to_str().unwrap(), "--asset", "a"]);
        command.env("TMPDIR", studio.path(""));
        command
    }

    /// The command line, for a bucket here.
    pub(crate) fn ask(&self, to: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        command.args(arguments).args(["--to", to]);
        command.args(["--endpoint", &self.endpoint(), "--region", "us-east-1"]);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A bucket here, made anew.
    pub(crate) fn store(&self, bucket: &str) -> Store {
        assert!(self.request("PUT", &format!("/{bucket}")).0.starts_with("http/1.1 200"));
        let access = Access { endpoint: Some(self.endpoint()), region: Some("us-east-1".to_owned()) };
        Store::open(&format!("s3://{bucket}/films"), &access).unwrap()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
