//! A day of a busy platform in minutes: 200 uploads by every door, on a network that fails now and then, into two copies
//! of the service that are killed again and again. None is lost, none is done twice.

mod harness;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use harness::{Moto, Studio};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};

/// How many uploads, by seven doors.
const UPLOADS: usize = 200;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_mins(12);

const TOKEN: &str = "a token for tests only";

/// What has to be there at AWS: buckets, and three ways from one to a queue.
const SET_UP: &str = r#"
import json, sys
import boto3

at = dict(endpoint_url=sys.argv[1], region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")
s3, sqs, sns, events = (boto3.client(name, **at) for name in ("s3", "sqs", "sns", "events"))
for bucket in ("uploads", "media"):
    s3.create_bucket(Bucket=bucket)
url = sqs.create_queue(QueueName="uploads", Attributes={"VisibilityTimeout": "20"})["QueueUrl"]
arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
topic = sns.create_topic(Name="uploads")["TopicArn"]
sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
rule = lambda name: {"Key": {"FilterRules": [{"Name": "prefix", "Value": name + "/"}]}}
s3.put_bucket_notification_configuration(Bucket="uploads", NotificationConfiguration={
    "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"], "Filter": rule("direct")}],
    "TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"], "Filter": rule("topic")}],
    "EventBridgeConfiguration": {},
})
events.put_rule(Name="uploads", State="ENABLED", EventPattern=json.dumps({
    "source": ["aws.s3"], "detail-type": ["Object Created"],
    "detail": {"object": {"key": [{"prefix": "bridge/"}]}},
}))
events.put_targets(Rule="uploads", Targets=[{"Id": "queue", "Arn": arn}])
print(url)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hundred_uploads_none_is_lost_and_none_is_done_twice() {
    let studio = Studio::new();
    let moto = Moto::start(&studio);
    let direct = format!("http://127.0.0.1:{}", moto.port);
    let queue = harness::printed(harness::tool("python").args(["-c", SET_UP, &direct]));
    let queue = queue.trim().rsplit_once('/').map(|(_, name)| name.to_owned()).unwrap();
    let network = Network::before(moto.port);
    let queue = format!("{}/123456789012/{queue}", network.url());

    let clips: Vec<PathBuf> = (0..4).map(|index| clip(&studio, index)).collect();
    let copies =
        [Copy::new(&studio, "a", &network.url(), &queue), Copy::new(&studio, "b", &network.url(), &queue)];
    let mut running: Vec<Process> = copies.iter().map(Copy::start).collect();
    for copy in &copies {
        copy.wait();
    }

    let uploads = bucket("uploads", &direct);
    let doors = ["direct", "topic", "bridge", "events", "put", "job", "sweep"];
    for index in 0..UPLOADS {
        let (door, copy) = (doors[index % doors.len()], &copies[index % 2]);
        let name = format!("{door}/lesson+{index} é.mp4");
        // Every one has bytes of its own, after the video: two files of one content are two uploads all the same.
        let mut bytes = std::fs::read(&clips[index % clips.len()]).unwrap();
        bytes.extend(format!("\0\0\0\x14free{index:012}").bytes());
        if door == "put" {
            copy.until_answered("PUT", &format!("/v1/uploads/{}", escaped(&name)), &bytes);
            continue;
        }
        uploads.put(&Key::parse(&name).unwrap(), bytes.into()).await.unwrap();
        match door {
            // Five times, to whichever copy.
            "events" => {
                let record = json!({"eventVersion": "2.5", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": "uploads"}, "object": {"key": escaped(&name).replace("%20", "+")}}});
                for turn in 0..5 {
                    let copy = &copies[turn % 2];
                    copy.until_answered(
                        "POST",
                        "/v1/events",
                        json!({ "Records": [record] }).to_string().as_bytes(),
                    );
                }
            }
            "job" => {
                copy.until_answered("POST", "/v1/jobs", json!({ "source": name }).to_string().as_bytes());
            }
            _ => {}
        }
    }

    let media = bucket("media", &direct);
    let begun = Instant::now();
    let mut kills = 0;
    loop {
        let found = published(&media).await;
        let done = found.values().filter(|asset| asset.is_complete).count();
        eprintln!("{:>4} s: {done} of {UPLOADS} published, {kills} kills", begun.elapsed().as_secs());
        if done == UPLOADS {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{}", copies.iter().map(Copy::last_words).collect::<String>());
        tokio::time::sleep(Duration::from_secs(5)).await;
        if begun.elapsed() > Duration::from_secs(15) * (kills + 1) && kills < 6 {
            let victim = usize::from(kills % 2 == 1);
            running[victim] = copies[victim].restart(&mut running[victim]);
            kills += 1;
        }
    }
    network.calm();
    for (copy, process) in copies.iter().zip(&mut running) {
        copy.settle(&mut process.0);
    }

    let found = published(&media).await;
    assert_eq!(found.len(), UPLOADS);
    for (asset, found) in &found {
        assert_eq!(found.generations.len(), 1, "{asset} was made {:?}", found.generations);
    }
    for copy in &copies {
        let states: BTreeSet<String> = copy.states();
        assert!(states.is_subset(&["done".to_owned()].into()), "{states:?}");
        assert_eq!(harness::files(&copy.data.join("work")), Vec::<PathBuf>::new());
        copy.stop();
    }
    for mut process in running {
        assert!(process.0.wait().unwrap().success());
    }
    assert!(network.faults.load(Ordering::Relaxed) > 20, "the network was too kind");
}

fn bucket(name: &str, endpoint: &str) -> AmazonS3 {
    let builder = AmazonS3Builder::new().with_bucket_name(name).with_endpoint(endpoint).with_allow_http(true);
    let builder = builder.with_region("us-east-1").with_access_key_id("test").with_secret_access_key("test");
    builder.build().unwrap()
}

/// A second of sound, or of a picture: what is encoded in no time.
fn clip(studio: &Studio, index: usize) -> PathBuf {
    let tone = 300 + 100 * index;
    let arguments = match index {
        0 => {
            format!("-f lavfi -i testsrc2=s=64x64:r=10:d=1 -f lavfi -i sine={tone}:d=1 -c:v libx264 -c:a aac")
        }
        _ => format!("-f lavfi -i sine={tone}:d=1 -c:a aac"),
    };
    studio.clip(&format!("clip{index}.mp4"), &arguments)
}

fn escaped(name: &str) -> String {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
        .to_string()
        .replace("%2F", "/")
}

/// What is there of an asset.
#[derive(Debug, Default)]
struct Found {
    is_complete: bool,
    generations: BTreeSet<String>,
}

async fn published(media: &dyn ObjectStore) -> BTreeMap<String, Found> {
    let mut found = BTreeMap::<String, Found>::new();
    let objects: Vec<_> = media.list(Some(&Key::from("assets"))).try_collect().await.unwrap();
    for object in objects {
        let mut parts = object.location.as_ref().split('/').skip(1);
        let asset = found.entry(parts.next().unwrap().to_owned()).or_default();
        match (parts.next().unwrap(), parts.next()) {
            ("index.m3u8", None) => asset.is_complete = true,
            (generation, Some(_)) => {
                asset.generations.insert(generation.to_owned());
            }
            _ => {}
        }
    }
    found
}

/// A running copy, which does not outlive the test.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One copy of the service.
struct Copy {
    data: PathBuf,
    log: PathBuf,
    endpoint: String,
    queue: String,
    port: u16,
    pid: AtomicU64,
}

impl Copy {
    fn new(studio: &Studio, name: &str, endpoint: &str, queue: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (data, log) = (studio.path(name), studio.path(&format!("{name}.log")));
        let (endpoint, queue) = (endpoint.to_owned(), queue.to_owned());
        Self { data, log, endpoint, queue, port, pid: AtomicU64::new(0) }
    }

    fn restart(&self, process: &mut Process) -> Process {
        process.kill();
        self.start()
    }

    fn start(&self) -> Process {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        command.args(["serve", "--uploads", "s3://uploads", "--to", "s3://media", "--region", "us-east-1"]);
        command.args(["--endpoint", &self.endpoint, "--uploads-endpoint", &self.endpoint]);
        command.args(["--queue", &self.queue, "--queue-endpoint", &self.endpoint]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--sweep", "20s", "--at-once", "2"]);
        command.arg("--data").arg(&self.data);
        command.env("REELGATE_API_TOKEN", TOKEN).env("REELGATE_EVENTS_TOKEN", TOKEN);
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        // What failed is tried again in tenths of a second, and may die with its copy as often as that is killed.
        command.env("REELGATE_BACKOFF", "200ms").env("REELGATE_CRASHES", "50").env("REELGATE_ATTEMPTS", "50");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.pid.store(process.id().into(), Ordering::Relaxed);
        Process(process)
    }

    fn wait(&self) {
        let begun = Instant::now();
        while self.request("GET", "/healthz", b"").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{}", self.last_words());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Status and body, if there is an answer.
    fn request(&self, method: &str, path: &str, body: &[u8]) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// As a client does that is told to come back.
    fn until_answered(&self, method: &str, path: &str, body: &[u8]) {
        let begun = Instant::now();
        loop {
            match self.request(method, path, body) {
                Some((status, _)) if status < 300 => return,
                Some((status, answer)) if status < 500 && status != 409 => {
                    panic!("{method} {path}: {status} {answer}")
                }
                _ => {}
            }
            assert!(begun.elapsed() < Duration::from_mins(1), "{method} {path}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn jobs(&self, query: &str) -> Vec<Value> {
        let (status, body) = self.request("GET", &format!("/v1/jobs?limit=500{query}"), b"").unwrap();
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        body["jobs"].as_array().unwrap().clone()
    }

    fn states(&self) -> BTreeSet<String> {
        self.jobs("").iter().map(|job| job["state"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until nothing is left to do.
    fn settle(&self, process: &mut Child) {
        let begun = Instant::now();
        self.wait();
        while self.states().iter().any(|state| state != "done") {
            assert!(process.try_wait().unwrap().is_none(), "{}", self.last_words());
            assert!(begun.elapsed() < Duration::from_mins(5), "{:?} {}", self.jobs(""), self.last_words());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn stop(&self) {
        let pid = self.pid.load(Ordering::Relaxed).to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// A way to moto on which every thirtieth connection breaks, at once or midway.
struct Network {
    port: u16,
    faults: Arc<AtomicU64>,
    is_calm: Arc<AtomicBool>,
}

impl Network {
    fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (faults, is_calm) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, calm) = (Arc::clone(&faults), Arc::clone(&is_calm));
        std::thread::spawn(move || {
            for (index, client) in listener.incoming().enumerate() {
                let Ok(client) = client else { continue };
                let fault = if index % 30 == 29 && !calm.load(Ordering::Relaxed) {
                    count.fetch_add(1, Ordering::Relaxed);
                    Some(index / 30 % 3)
                } else {
                    None
                };
                std::thread::spawn(move || carry(client, server, fault));
            }
        });
        Self { port, faults, is_calm }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
    }
}

/// Carries one connection, or breaks it: before anything, by the word of a busy server, or after some of the answer.
fn carry(mut client: TcpStream, server: u16, fault: Option<usize>) {
    match fault {
        Some(0) => return,
        Some(1) => {
            let mut head = [0; 4096];
            let _ = client.read(&mut head);
            let busy = "HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = client.write_all(busy.as_bytes());
            return;
        }
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let (mut requests, mut upstream) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut requests, &mut upstream);
        let _ = upstream.shutdown(Shutdown::Write);
    });
    let mut left = if fault.is_some() { 600 } else { usize::MAX };
    let mut buffer = [0; 16 << 10];
    loop {
        match server.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) if client.write_all(&buffer[..read.min(left)]).is_ok() && read < left => left -= read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
}
