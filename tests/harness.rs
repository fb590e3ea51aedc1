//! What the stories beside this file share: a key pair, a gate to stand before, and the tools of the trade.
//!
//! There are two gates, and most stories are told before both: [`Native`] is the edge's own code over a folder,
//! without Cloudflare; [`Worker`] is what is deployed, the built WebAssembly under workerd, over an R2 bucket.

#![allow(clippy::missing_panics_doc, reason = "a harness panics to fail its test")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use edge::cached::{Cache, Cached, Term};
use edge::caching::Lifetimes;
use edge::config::{BUCKET, ConfigError};
use edge::crypto::Software;
use edge::journal::{Entry, Remark, Trace};
use edge::origin::{ByteRange, Metadata, Miss, Object, Origin, Wanted};
use edge::policy::encode;
use edge::s3::{Ask, Bucket, Settings};
use edge::serve::signer;
use edge::{Config, Content, Grant, ObjectKey, Visitor};
use futures_executor::block_on;
use http::{Method, Request, Response};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;
use transcoder::encoder::Machine;
use transcoder::keygen::Pair;
use transcoder::plan::Options;
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

/// The settings of a gate that trusts the common keys. What is answered is not in the log, so that a story finds there
/// what it is about.
#[must_use]
pub fn trusting() -> Value {
    json!({ "TRUSTED_KEYS": keys().trusted, "LOG_ONE_IN": "0" })
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

/// Both gates, of which every answer says in [`ORIGIN_ASKED`] what the origin was asked for. Without a cache, unless the
/// settings have one, so that it is asked each time.
#[must_use]
pub fn recording_gates(objects: &[(&str, &[u8])], settings: &Value) -> [Box<dyn Gate>; 2] {
    let folder = filled(objects);
    let mut uncached = json!({ "SEGMENT_CACHE_SECONDS": "0", "PLAYLIST_CACHE_SECONDS": "0" });
    uncached.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    [Box::new(Native::with(&folder, &uncached)), Box::new(Worker::recording(&folder, &uncached))]
}

/// The gates over every kind of store: a folder, natively; R2; and S3.
#[must_use]
pub fn stores(objects: &[(&str, &[u8])], settings: &Value) -> [Box<dyn Gate>; 3] {
    let folder = filled(objects);
    let [native, r2] = [
        Box::new(Native::with(&folder, settings)) as Box<dyn Gate>,
        Box::new(Worker::with(&folder, settings)),
    ];
    [native, r2, Box::new(OverS3::with(&folder, settings))]
}

/// A header with the keys that the origin was asked for to make this answer, percent-encoded, separated by commas.
pub const ORIGIN_ASKED: &str = "x-origin-asked";

/// A header with the content encodings that a recording [`Worker`] was told its client accepts, as Cloudflare tells.
pub const CLIENT_ACCEPTS: &str = "x-client-accepts";

/// A header with the content encoding that a recording [`Worker`] chose, whatever was done to its answer afterwards.
pub const EDGE_ENCODING: &str = "x-edge-encoding";

/// A folder with these objects. Gates live as long as the process, and so does it.
#[must_use]
pub fn filled(objects: &[(&str, &[u8])]) -> PathBuf {
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
    shelf: Shelf,
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
        // There always is a bucket.
        let config = Config::read(|name| match name {
            BUCKET => Some("{}".to_owned()),
            name => settings[name].as_str().map(str::to_owned),
        });
        Self { config, folder: folder.to_owned(), visitor: None, shelf: Shelf::default() }
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
        let config = self.config.as_ref().map_err(Clone::clone);
        let lifetimes = config.as_ref().map_or_else(|_| Lifetimes::default(), |config| config.lifetimes);
        let origin = Cached::new(Folder::new(&self.folder), &self.shelf, lifetimes, visitor.now);
        let answer = block_on(edge::serve(&request, &visitor, config.clone(), &origin, &Software));
        let mut answer = answer.map(|content| match content {
            Content::Nothing => Vec::new(),
            Content::Stream(Body { bytes, .. }) | Content::Bytes(bytes) => bytes,
            Content::Document(mut document) => {
                let mut whole = Vec::new();
                while let Some(part) = block_on(document.next(&origin)).unwrap() {
                    whole.extend(part);
                }
                whole
            }
        });
        let signer = config.ok().and_then(|config| signer(&request, &answer, config));
        let trace = Trace { found: origin.found(), ..Trace::default() };
        let line = Entry::of(&request, &answer, signer.as_ref(), &trace).to_json();
        let is_logged = answer.extensions().get::<Remark>().is_some();
        answer.extensions_mut().insert(Line(if is_logged { line } else { String::new() }));
        let asked = origin.origin().asked.lock().unwrap().join(",").parse().unwrap();
        answer.headers_mut().insert(ORIGIN_ASKED, asked);
        answer
    }

    fn log(&self, answer: &Response<Vec<u8>>, _: &str) -> String {
        answer.extensions().get().map_or_else(String::new, |Line(line)| line.clone())
    }
}

/// What was logged of an answer.
#[derive(Clone)]
struct Line(String);

/// A cache in memory, which forgets nothing by itself.
#[derive(Default)]
struct Shelf(Mutex<HashMap<String, Kept>>);

/// An object in it.
type Kept = (Metadata, Vec<u8>, Term);

impl Cache for &Shelf {
    type Body = Body;

    async fn get(&self, grant: &Grant, range: Option<ByteRange>) -> Option<(Object<Body>, Term)> {
        let (metadata, bytes, term) = self.0.lock().unwrap().get(grant.key().as_str())?.clone();
        Some((part(metadata, bytes, range).ok()?, term))
    }

    fn keep(&self, grant: &Grant, object: &mut Object<Body>, term: Term) {
        let kept = (object.metadata.clone(), object.body.bytes.clone(), term);
        self.0.lock().unwrap().insert(grant.key().to_string(), kept);
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

    fn read(&self, grant: &Grant) -> Result<(Metadata, Vec<u8>), Miss> {
        let key = grant.key().as_str();
        self.asked.lock().unwrap().push(utf8_percent_encode(key, NON_ALPHANUMERIC).to_string());
        // To a bucket a slash is a letter of a name. A folder would take one that comes first for another folder.
        if key.split('/').any(str::is_empty) {
            return Err(Miss::NotFound);
        }
        let path = self.path.join(key);
        let bytes = std::fs::read(&path).map_err(|_| Miss::NotFound)?;
        let modified = std::fs::metadata(&path).and_then(|file| file.modified()).unwrap();
        let seconds = modified.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let metadata = Metadata {
            size: bytes.len() as u64,
            // As nginx makes them.
            etag: Some(format!("\"{seconds:x}-{:x}\"", bytes.len())),
            last_modified: Some(httpdate::fmt_http_date(modified)),
            ..Metadata::default()
        };
        Ok((metadata, bytes))
    }
}

/// An object in memory, or what is wanted of it.
fn part(metadata: Metadata, mut bytes: Vec<u8>, range: Option<ByteRange>) -> Result<Object<Body>, Miss> {
    let within =
        |range: ByteRange| range.within(metadata.size).ok_or_else(|| Miss::Range(metadata.clone().into()));
    let part = range.map(within).transpose()?;
    if let Some((first, last)) = part {
        bytes = bytes[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()].to_vec();
    }
    Ok(Object { metadata, part, body: Body { bytes, size: 1 } })
}

/// What is left of an object.
struct Body {
    bytes: Vec<u8>,
    /// How much of it comes at a time.
    size: usize,
}

impl Origin for Folder<'_> {
    type Body = Body;

    async fn get(&self, grant: &Grant, wanted: &Wanted<'_>) -> Result<Object<Body>, Miss> {
        let (metadata, bytes) = self.read(grant)?;
        if wanted.unless.is_some() && wanted.unless == metadata.etag.as_deref() {
            return Err(Miss::Unchanged(metadata.into()));
        }
        part(metadata, bytes, wanted.range)
    }

    async fn head(&self, grant: &Grant) -> Result<Metadata, Miss> {
        self.read(grant).map(|(metadata, _)| metadata)
    }

    /// In chunks of ever other sizes, up to what a network brings.
    async fn chunk(&self, body: &mut Body) -> Result<Option<Vec<u8>>, Miss> {
        body.size = body.size * 7 % 16_381;
        let rest = body.bytes.split_off(body.size.min(body.bytes.len()));
        let chunk = std::mem::replace(&mut body.bytes, rest);
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }
}

/// A server of `tools/` over a folder. It ends with its owner: such a program ends when its standard input does.
struct Server {
    child: Child,
    url: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a program, which prints where it is once it answers.
    fn start(mut program: Command, folder: &Path, settings: &Value, more: &[&str]) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), settings.to_string()).unwrap();
        program.arg(folder).arg(file.path()).args(more);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = program.spawn().unwrap();

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
            .unwrap_or_else(|_| panic!("{program:?} did not start: {}", log.lock().unwrap()));
        Self { child, url: ready["url"].as_str().unwrap().to_owned(), log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The built Worker under workerd, over an R2 bucket filled from a folder.
pub struct Worker {
    server: Server,
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
        Self { server: Server::start(node("worker.mjs"), folder, settings, more), agent: agent() }
    }

    /// Asks for what may be broken off: whether it was not, comes with what there was of it.
    #[must_use]
    pub fn attempt(
        &self,
        method: Method,
        target: &str,
        headers: &[(&str, &str)],
    ) -> (Response<Vec<u8>>, bool) {
        send(&self.agent, method, &format!("{}{target}", self.server.url), headers)
    }

    /// Waits for a line in the Worker's log that says `text`.
    #[must_use]
    pub fn logs(&self, text: &str) -> bool {
        let said = || self.server.log.lock().unwrap().contains(text);
        (0..50).any(|_| said() || (thread::sleep(Duration::from_millis(100)), false).1)
    }
}

impl Gate for Worker {
    fn url(&self) -> &str {
        &self.server.url
    }

    fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        let (answer, is_whole) = self.attempt(method, target, headers);
        assert!(is_whole, "{target} was broken off");
        answer
    }

    fn log(&self, _: &Response<Vec<u8>>, text: &str) -> String {
        let _ = self.logs(text);
        self.server.log.lock().unwrap().clone()
    }
}

/// What asks, and takes every answer as it is.
#[must_use]
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .max_redirects(0)
        // A connection that was kept may be closed by its server at the very moment it is used again.
        .max_idle_connections(0)
        .build()
        .into()
}

/// Sends a request, and says whether all of the answer came.
#[must_use]
pub fn send(
    agent: &ureq::Agent,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
) -> (Response<Vec<u8>>, bool) {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, body) = agent.run(request.body(()).unwrap()).unwrap().into_parts();
    let mut bytes = Vec::new();
    let is_whole = body.into_reader().read_to_end(&mut bytes).is_ok();
    (Response::from_parts(head, bytes), is_whole)
}

/// An S3 server that checks every signature, with one bucket filled from a folder.
pub struct S3(Server);

impl S3 {
    /// Serves the bucket `media`; `tests/tools/s3.py` says what settings there are, and which names do not do well.
    #[must_use]
    pub fn over(folder: &Path, settings: &Value) -> Self {
        let mut program = tool("python");
        program.arg(root().join("tests/tools/s3.py"));
        Self(Server::start(program, folder, settings, &[]))
    }

    /// Serves the folder itself: what is written there can be read at once. `tests/tools/live-bucket.mjs` says what it
    /// knows, which is less than that: it only reads, and does not tell what it was asked.
    #[must_use]
    pub fn live(folder: &Path) -> Self {
        Self(Server::start(node("live-bucket.mjs"), folder, &json!({}), &[]))
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.0.url
    }

    /// The settings of a gate before it.
    #[must_use]
    pub fn origin(&self) -> Value {
        json!({
            "ORIGIN": "s3",
            "S3_ENDPOINT": self.url(),
            "S3_BUCKET": "media",
            "S3_REGION": "us-east-1",
            "S3_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "S3_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        })
    }

    /// What it was asked, since that was last forgotten.
    #[must_use]
    pub fn asked(&self) -> Vec<Value> {
        let mut answer = ureq::get(format!("{}/-/asked", self.url())).call().unwrap();
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// Forgets what it was asked.
    pub fn forget(&self) {
        ureq::delete(format!("{}/-/asked", self.url())).call().unwrap();
    }

    /// Puts an object into the bucket `media`, while it is served.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        let Ask { url, headers } = self.signed("PUT", key);
        let request = headers.iter().fold(ureq::put(url), |put, (name, value)| put.header(*name, value));
        request.send(bytes).unwrap();
    }

    /// Takes an object out of the bucket `media`.
    pub fn delete(&self, key: &str) {
        let Ask { url, headers } = self.signed("DELETE", key);
        let request =
            headers.iter().fold(ureq::delete(url), |delete, (name, value)| delete.header(*name, value));
        request.call().unwrap();
    }

    /// The edge signs, though it never writes: it signs a request without a body, and the server takes its word.
    fn signed(&self, method: &str, key: &str) -> Ask {
        let origin = self.origin();
        let setting = |name: &str| origin[name].as_str().map(ToOwned::to_owned);
        let bucket = Bucket::read(Settings {
            endpoint: setting("S3_ENDPOINT"),
            bucket: setting("S3_BUCKET"),
            region: setting("S3_REGION"),
            access_key_id: setting("S3_ACCESS_KEY_ID"),
            secret_access_key: setting("S3_SECRET_ACCESS_KEY"),
            ..Settings::default()
        });
        let key = ObjectKey::parse(&format!("/{key}")).unwrap();
        bucket.unwrap().ask(method, &key, &Wanted::default(), now())
    }
}

/// The built Worker, before an S3 server of its own.
pub struct OverS3 {
    /// The gate itself.
    pub worker: Worker,
    /// What it is before.
    pub s3: S3,
}

impl OverS3 {
    /// Serves a folder by way of S3.
    #[must_use]
    pub fn with(folder: &Path, settings: &Value) -> Self {
        Self::before(S3::over(folder, &json!({})), settings)
    }

    /// Serves what there is in an S3 server. Settings say otherwise than it where they do.
    #[must_use]
    pub fn before(s3: S3, settings: &Value) -> Self {
        let mut all = s3.origin();
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        // What is in its own bucket must not be what it answers with.
        let worker = Worker::with(tempfile::tempdir().unwrap().path(), &all);
        Self { worker, s3 }
    }
}

impl Gate for OverS3 {
    fn url(&self) -> &str {
        self.worker.url()
    }

    fn ask(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        self.worker.ask(method, target, headers)
    }

    fn log(&self, answer: &Response<Vec<u8>>, text: &str) -> String {
        self.worker.log(answer, text)
    }
}

/// What opens the API of a [`Service`].
pub const API_TOKEN: &str = "a token of the tests";

/// `transcoder serve` as it is installed, signing with the common key.
pub struct Service {
    /// Its folder `uploads`, what it keeps, and its log.
    pub folder: TempDir,
    /// Scheme, host and port.
    pub url: String,
    process: Child,
}

impl Service {
    /// Publishes to `media`, which an edge of this URL reads from, with more on its command line.
    #[must_use]
    pub fn before(edge: &str, media: &Path, more: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [uploads, data] = ["uploads", "data"].map(|name| folder.path().join(name));
        std::fs::create_dir(&uploads).unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = Command::new(transcoder());
        command.args(["serve", "--listen", &address.to_string(), "--edge", edge]);
        command.arg("--uploads").arg(uploads).arg("--to").arg(media).arg("--data").arg(data);
        command.args(["--key-pair-id", &keys().id]).arg("--private-key").arg(&keys().private);
        command.env("REELGATE_API_TOKEN", API_TOKEN);
        more(&mut command);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let service = Self { folder, url: format!("http://{address}"), process };
        let begun = Instant::now();
        while ureq::get(format!("{}/healthz", service.url)).call().is_err() {
            let log = std::fs::read_to_string(service.folder.path().join("log")).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(30), "{log}");
            thread::sleep(Duration::from_millis(100));
        }
        service
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Asked, so that it stops what it started.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// The program that `cargo test` builds beside this one, for the transcoder's own tests.
fn transcoder() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.ancestors().nth(2).unwrap().join("transcoder");
    assert!(program.exists(), "{} is missing: `cargo build -p transcoder` makes it", program.display());
    program
}

/// What an answer says in a header; nothing where it has none.
#[must_use]
pub fn header<'a, B>(answer: &'a Response<B>, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// What was remarked in the lines of a log, a line each.
#[must_use]
pub fn remarks(log: &str) -> String {
    let entries =
        log.lines().filter_map(|line| serde_json::from_str::<Value>(line.get(line.find('{')?..)?).ok());
    entries.filter_map(|entry| Some(format!("{}\n", entry["remark"].as_str()?))).collect()
}

/// Has the transcoder encode an upload and publish it in a folder. Returns the key of the asset's playlist.
#[must_use]
pub fn publish(upload: PathBuf, asset: &str, folder: &Path) -> String {
    publish_as(upload, asset, folder, Options::default())
}

/// The same, with what whoever asks can choose.
#[must_use]
pub fn publish_as(upload: PathBuf, asset: &str, folder: &Path, options: Options) -> String {
    let job = Job { input: upload, asset: asset.parse().unwrap(), encoder: Machine::Ffmpeg, options };
    let store = Store::open(folder.to_str().unwrap(), &Access::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let never = CancellationToken::new();
    let encode = transcoder::encode(&job, &store, Timestamp::now(), &(), &never);
    runtime.block_on(encode).unwrap().playlist
}

/// A clip whose pictures say which they are: across the top each has its number in twelve bars, the lowest bit first.
pub fn film(seconds: f64, size: &str, clip: &Path) {
    let pictures = format!("testsrc2=s={size}:r=25");
    let numbers = "color=s=12x1:r=25,format=gray,geq=lum='255*mod(floor(N/pow(2,X)),2)'";
    let draw = "[1][0]scale2ref=iw:ih/10:flags=neighbor[bars][picture];[picture][bars]overlay";
    let sources = ["-f", "lavfi", "-i", &pictures, "-f", "lavfi", "-i", numbers];
    let sound = ["-f", "lavfi", "-i", "sine=r=48000", "-t", &seconds.to_string(), "-pix_fmt", "yuv420p"];
    let encode = ["-g", "50", "-keyint_min", "50", "-sc_threshold", "0", "-preset", "ultrafast"];
    ffmpeg(sources.into_iter().chain(sound).chain(["-filter_complex", draw]).chain(encode), clip);
}

/// Has ffmpeg make a file.
pub fn ffmpeg<'a>(arguments: impl IntoIterator<Item = &'a str>, output: &Path) {
    let _ = run(Command::new("ffmpeg").args(["-v", "error", "-nostdin"]).args(arguments).arg(output));
}

/// One of the programs in `tools/`, its output caught.
#[must_use]
pub fn node(program: &str) -> Command {
    let mut command = tool("node");
    command.arg(root().join("tests/tools").join(program)).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What the players of `players.mjs` saw of what they were asked to play. None may have met with a problem.
#[must_use]
pub fn watch(plays: &[Value]) -> Vec<Value> {
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

/// What a player asked for.
#[must_use]
pub fn requests(seen: &Value) -> &Vec<Value> {
    seen["requests"].as_array().unwrap()
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
