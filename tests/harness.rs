//! What the stories beside this file share: a key pair, a gate to stand before, and the tools of the trade.
//!
//! There are two gates, and most stories are told before both: [`Native`] is the edge's own code over a folder,
//! without Cloudflare; [`Worker`] is what is deployed, the built WebAssembly under workerd, over an R2 bucket.

#![allow(clippy::missing_panics_doc, reason = "a harness panics to fail its test")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use edge::config::ConfigError;
use edge::crypto::Software;
use edge::origin::{ByteRange, Metadata, Miss, Object, Origin};
use edge::policy::encode;
use edge::{Config, Content, Grant, Remark, Visitor};
use futures_executor::block_on;
use http::{Method, Request, Response};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use transcoder::encoder::Encoder;
use transcoder::keygen::Pair;
use transcoder::sign::{KeyPair, Order};
use transcoder::storage::{Access, Store};
use transcoder::{CancellationToken, Job};

/// Unix seconds now.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The key pair that all gates trust, made anew for each run.
pub struct Keys {
    /// Its id.
    pub id: String,
    /// The file with its private half, for signers that are not ours.
    pub private: PathBuf,
    /// The value of `TRUSTED_KEYS`.
    pub trusted: String,
    pair: KeyPair,
    _folder: TempDir,
}

/// The key pair that all gates trust.
#[must_use]
pub fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let pair = Pair::generate().unwrap();
        pair.write(folder.path()).unwrap();
        let private = folder.path().join("private.pem");
        Keys {
            id: pair.id.clone(),
            trusted: pair.trusted_keys(),
            pair: KeyPair::load(&pair.id, &private).unwrap(),
            private,
            _folder: folder,
        }
    });
    &KEYS
}

impl Keys {
    /// An order for `url` that lasts an hour.
    #[must_use]
    pub fn order(url: &str) -> Order {
        Order { url: url.to_owned(), expires: now() + 3600, starts: None, address: None, resource: None }
    }

    /// What `transcoder sign` makes of an order.
    #[must_use]
    pub fn sign(&self, order: &Order) -> String {
        self.pair.sign(order, Timestamp::now()).unwrap().url
    }
}

impl Keys {
    /// A query with a custom policy as it is, however wrong, and the true signature over it, of openssl's making.
    #[must_use]
    pub fn seal(&self, policy: &str) -> String {
        let signature = encode(&openssl_sign(&self.private, "-sha1", policy));
        format!("Policy={}&Signature={signature}&Key-Pair-Id={}", encode(policy.as_bytes()), self.id)
    }
}

/// The signature of a private key in a file, by `openssl dgst` and one of its digests.
#[must_use]
pub fn openssl_sign(private: &Path, digest: &str, message: &str) -> Vec<u8> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", digest, "-sign"])
        .arg(private)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Something that serves objects to whoever may have them.
pub trait Gate: Send + Sync {
    /// Scheme, host and port.
    fn url(&self) -> &str;

    /// Asks for a path and query.
    fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>>;

    /// GETs a path and query.
    fn get(&self, target: &str) -> Response<Vec<u8>> {
        self.ask(Method::GET, target, &[])
    }

    /// What was logged, as soon as that says `text`, or after a while: natively of this answer, of the Worker all.
    fn log(&self, answer: &Response<Vec<u8>>, text: &str) -> String;

    /// A query that opens the paths of a pattern, for an hour.
    fn open(&self, pattern: &str) -> String {
        keys().sign(&Keys::order(&format!("{}{pattern}", self.url())))
    }
}

/// The settings of a gate that trusts the common keys.
#[must_use]
pub fn trusting() -> Value {
    json!({ "TRUSTED_KEYS": keys().trusted })
}

/// Both gates, before the same objects.
#[must_use]
pub fn gates(objects: &[(&str, &[u8])]) -> [Box<dyn Gate>; 2] {
    gates_with(objects, &trusting())
}

/// Both gates, with other settings.
#[must_use]
pub fn gates_with(objects: &[(&str, &[u8])], settings: &Value) -> [Box<dyn Gate>; 2] {
    let folder = filled(objects);
    [Box::new(Native::with(&folder, settings)), Box::new(Worker::with(&folder, settings))]
}

/// Both gates, of which every answer says in [`ORIGIN_ASKED`] what the origin was asked for.
#[must_use]
pub fn recording_gates(objects: &[(&str, &[u8])], settings: &Value) -> [Box<dyn Gate>; 2] {
    let folder = filled(objects);
    [Box::new(Native::with(&folder, settings)), Box::new(Worker::recording(&folder, settings))]
}

/// A header with the keys that the origin was asked for to make this answer, percent-encoded, separated by commas.
pub const ORIGIN_ASKED: &str = "x-origin-asked";

/// A header with the content encodings that a recording [`Worker`] was told its client accepts, as Cloudflare tells.
pub const CLIENT_ACCEPTS: &str = "x-client-accepts";

/// A header with the content encoding that a recording [`Worker`] chose, whatever was done to its answer afterwards.
pub const EDGE_ENCODING: &str = "x-edge-encoding";

/// A folder with these objects. Gates live as long as the process, and so does it.
fn filled(objects: &[(&str, &[u8])]) -> PathBuf {
    let folder = tempfile::tempdir().unwrap();
    for (key, bytes) in objects {
        let path = folder.path().join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    folder.keep()
}

/// The edge's own code over a folder.
pub struct Native {
    config: Result<Config, ConfigError>,
    folder: PathBuf,
    visitor: Option<Visitor>,
}

impl Native {
    /// Serves a folder as `https://video.example`.
    #[must_use]
    pub fn over(folder: &Path) -> Self {
        Self::with(folder, &trusting())
    }

    /// The same with other settings, which need not be sound.
    #[must_use]
    pub fn with(folder: &Path, settings: &Value) -> Self {
        let config = Config::read(|name| settings[name].as_str().map(str::to_owned));
        Self { config, folder: folder.to_owned(), visitor: None }
    }

    /// The same, for a visitor from another time or place.
    #[must_use]
    pub fn seen_by(self, visitor: Visitor) -> Self {
        Self { visitor: Some(visitor), ..self }
    }
}

impl Gate for Native {
    fn url(&self) -> &'static str {
        "https://video.example"
    }

    fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let address =
            headers.iter().find(|(name, _)| *name == "CF-Connecting-IP").map(|(_, ip)| ip.parse().unwrap());
        let visitor = self.visitor.unwrap_or(Visitor { now: now(), address });
        let request = request.body(()).unwrap();
        let (config, folder) = (self.config.as_ref().map_err(Clone::clone), Folder::new(&self.folder));
        let answer = block_on(edge::serve(&request, &visitor, config, &folder, &Software));
        let mut answer = answer.map(|content| match content {
            Content::Nothing => Vec::new(),
            Content::Stream(Body { bytes, .. }) | Content::Bytes(bytes) => bytes,
            Content::Document(mut document) => {
                let mut whole = Vec::new();
                while let Some(part) = block_on(document.next(&folder)).unwrap() {
                    whole.extend(part);
                }
                whole
            }
        });
        let asked = folder.asked.into_inner().unwrap().join(",").parse().unwrap();
        answer.headers_mut().insert(ORIGIN_ASKED, asked);
        answer
    }

    fn log(&self, answer: &Response<Vec<u8>>, _: &str) -> String {
        answer.extensions().get().map_or_else(String::new, |Remark { text, .. }| text.clone())
    }
}

/// A folder as an origin, for one request.
struct Folder<'a> {
    path: &'a Path,
    asked: Mutex<Vec<String>>,
}

impl<'a> Folder<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, asked: Mutex::default() }
    }

    fn bytes(&self, grant: &Grant) -> Result<Vec<u8>, Miss> {
        let key = grant.key().as_str();
        self.asked.lock().unwrap().push(utf8_percent_encode(key, NON_ALPHANUMERIC).to_string());
        std::fs::read(self.path.join(key)).map_err(|_| Miss::NotFound)
    }
}

/// What is left of an object.
struct Body {
    bytes: Vec<u8>,
    /// How much of it comes at a time.
    size: usize,
}

impl Origin for Folder<'_> {
    type Body = Body;

    async fn get(&self, grant: &Grant, range: Option<ByteRange>) -> Result<Object<Body>, Miss> {
        let bytes = self.bytes(grant)?;
        let size = bytes.len() as u64;
        let body = match range.map(|range| range.within(size).ok_or(Miss::Range { size })).transpose()? {
            Some((first, last)) => {
                bytes[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()].to_vec()
            }
            None => bytes,
        };
        let body = Body { bytes: body, size: 1 };
        Ok(Object { metadata: Metadata { size, ..Metadata::default() }, body })
    }

    async fn head(&self, grant: &Grant) -> Result<Metadata, Miss> {
        Ok(Metadata { size: self.bytes(grant)?.len() as u64, ..Metadata::default() })
    }

    /// In chunks of ever other sizes, up to what a network brings.
    async fn chunk(&self, body: &mut Body) -> Result<Option<Vec<u8>>, Miss> {
        body.size = body.size * 7 % 16_381;
        let rest = body.bytes.split_off(body.size.min(body.bytes.len()));
        let chunk = std::mem::replace(&mut body.bytes, rest);
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

/// The built Worker under workerd, over an R2 bucket filled from a folder. It ends with its owner: its program
/// ends when its standard input does.
pub struct Worker {
    child: Child,
    url: String,
    log: Arc<Mutex<String>>,
    agent: ureq::Agent,
}

impl Worker {
    /// Serves a folder to whom the common keys trust.
    #[must_use]
    pub fn over(folder: &Path) -> Self {
        Self::with(folder, &trusting())
    }

    /// Serves a folder with other settings.
    #[must_use]
    pub fn with(folder: &Path, settings: &Value) -> Self {
        Self::start(folder, settings, &[])
    }

    /// Serves a folder, and says in [`ORIGIN_ASKED`], [`CLIENT_ACCEPTS`] and [`EDGE_ENCODING`] how it came to each
    /// answer. A setting `CLIENT_ACCEPTS` is taken for what every client accepts.
    #[must_use]
    pub fn recording(folder: &Path, settings: &Value) -> Self {
        Self::start(folder, settings, &["record"])
    }

    fn start(folder: &Path, settings: &Value, more: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), settings.to_string()).unwrap();
        let mut command = node("worker.mjs");
        command.arg(folder).arg(file.path()).args(more).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();

        let log = Arc::new(Mutex::new(String::new()));
        let (mut errors, sink) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        thread::spawn(move || {
            let mut line = String::new();
            while errors.read_line(&mut line).is_ok_and(|length| length > 0) {
                sink.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let ready: Value = serde_json::from_str(&ready)
            .unwrap_or_else(|_| panic!("the Worker did not start: {}", log.lock().unwrap()));
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .max_redirects(0)
            .build()
            .into();
        Self { child, url: ready["url"].as_str().unwrap().to_owned(), log, agent }
    }

    /// Waits for a line in the Worker's log that says `text`.
    #[must_use]
    pub fn logs(&self, text: &str) -> bool {
        let said = || self.log.lock().unwrap().contains(text);
        (0..50).any(|_| said() || (thread::sleep(Duration::from_millis(100)), false).1)
    }
}

impl Gate for Worker {
    fn url(&self) -> &str {
        &self.url
    }

    fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        let mut request = Request::builder().method(method).uri(format!("{}{target}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.agent.run(request.body(()).unwrap()).unwrap();
        // Some playlists have tens of megabytes.
        answer.map(|mut body| body.with_config().limit(u64::MAX).read_to_vec().unwrap())
    }

    fn log(&self, _: &Response<Vec<u8>>, text: &str) -> String {
        let _ = self.logs(text);
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Has the transcoder encode an upload and publish it in a folder. Returns the key of the asset's playlist.
#[must_use]
pub fn publish(upload: PathBuf, asset: &str, folder: &Path) -> String {
    let job = Job { input: upload, asset: asset.parse().unwrap(), encoder: Encoder::Ffmpeg };
    let store = Store::open(folder.to_str().unwrap(), &Access::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let never = CancellationToken::new();
    let encode = transcoder::encode(&job, &store, Timestamp::now(), &(), &never);
    runtime.block_on(encode).unwrap().playlist
}

/// One of the programs in `tools/`, its output caught.
#[must_use]
pub fn node(program: &str) -> Command {
    let mut command = tool("node");
    command.arg(root().join("tests/tools").join(program)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program that set-up brings, or the system has.
#[must_use]
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let ours = root().join("target/tools/bin");
    command
        .env("PATH", std::env::join_paths([ours].into_iter().chain(std::env::split_paths(&path))).unwrap());
    command
}

/// Runs a command to its end and returns what it printed. It has to succeed.
#[must_use]
pub fn run(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; `make setup` brings what the tests need"));
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    text.into_owned()
}

/// The project's folder.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
