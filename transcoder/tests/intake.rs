//! Whatever lands is looked at: by a folder, by two imitations of AWS whose quirks differ, and by a queue of Cloudflare.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path as Segment, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use transcoder::CancellationToken;
use transcoder::event::Event;
use transcoder::intake::{self, Desk, Settings, Standing, r2_queue, sqs};
use transcoder::jobs::JobId;
use transcoder::service;
use transcoder::storage::Access;
use transcoder::upload::{Error, Upload, Uploads};

/// Long enough for a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_mins(1);

/// A desk that writes down what it is told, and makes one job of one version of one name.
#[derive(Clone)]
struct Book {
    uploads: Uploads,
    stop: CancellationToken,
    pages: Arc<Mutex<Pages>>,
}

#[derive(Default)]
struct Pages {
    jobs: BTreeMap<(String, String), JobId>,
    looks: usize,
    others: Vec<Event>,
    is_done: bool,
    is_broken: bool,
}

impl Book {
    fn new(uploads: &Uploads) -> Self {
        Self { uploads: uploads.clone(), stop: CancellationToken::new(), pages: Arc::default() }
    }

    fn names(&self) -> Vec<String> {
        self.pages.lock().unwrap().jobs.keys().map(|(name, _)| name.clone()).collect()
    }

    async fn job(&self, name: &str) -> Result<Option<JobId>, service::Error> {
        self.pages.lock().unwrap().looks += 1;
        if self.pages.lock().unwrap().is_broken {
            let reason = "the database is away".into();
            return Err(Error::Access { place: "test".into(), reason }.into());
        }
        let Some(upload) = self.uploads.find(name).await? else { return Ok(None) };
        let jobs = &mut self.pages.lock().unwrap().jobs;
        let id = format!("{:032x}", jobs.len()).parse().unwrap();
        Ok(Some(jobs.entry((upload.name, upload.version)).or_insert(id).clone()))
    }

    /// Runs a door until this is so, and a moment longer, in which nothing may change.
    async fn until(&self, door: impl Future<Output = ()>, mut is_so: impl AsyncFnMut() -> bool) {
        let watched = async {
            let begun = Instant::now();
            while !is_so().await {
                assert!(begun.elapsed() < PATIENCE, "{:?}", self.names());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(is_so().await);
            self.stop.cancel();
        };
        tokio::join!(door, watched);
    }
}

impl Desk for Book {
    async fn look_at(&self, name: &str) -> Result<(), service::Error> {
        self.job(name).await.map(drop)
    }

    async fn hear(&self, event: Event) -> Result<Vec<JobId>, service::Error> {
        let Event::Object { bucket, key } = &event else {
            self.pages.lock().unwrap().others.push(event);
            return Ok(Vec::new());
        };
        match self.uploads.name_of(bucket, key) {
            Some(name) => Ok(self.job(name).await?.into_iter().collect()),
            None => Ok(Vec::new()),
        }
    }

    async fn standing(&self, _: &JobId) -> Result<Standing, service::Error> {
        let is_done = self.pages.lock().unwrap().is_done;
        Ok(if is_done { Standing::Final } else { Standing::Active })
    }

    async fn refuse(&self, _: &Error) -> Result<(), service::Error> {
        Ok(())
    }

    fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

// --- a folder -----------------------------------------------------------------------------------------------

fn folder() -> (tempfile::TempDir, Uploads) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("in")).unwrap();
    let uploads = Uploads::open(folder.path().join("in").to_str().unwrap(), &Access::default()).unwrap();
    (folder, uploads)
}

fn doors(sweep: Duration) -> Settings {
    Settings { sqs: None, r2: None, sweep, at_once: 2 }
}

/// Runs the doors of a folder while something happens there, until these names, and no others, were looked at.
async fn watch(book: &Book, happens: impl Future<Output = ()>, names: &[&str]) {
    let doors = intake::run(book.clone(), doors(Duration::from_hours(1)));
    let happens = async {
        // Not before it is watched.
        tokio::time::sleep(Duration::from_millis(300)).await;
        happens.await;
    };
    let watched = book.until(doors, async || book.names() == names);
    tokio::join!(watched, happens);
}

#[tokio::test]
async fn a_file_that_is_slowly_written_is_looked_at_once_it_is_whole() {
    let (_folder, uploads) = folder();
    let root = uploads.folder().unwrap().to_owned();
    let book = Book::new(&uploads);
    let write = async {
        let mut file = fs::File::create(root.join("slow.mp4")).unwrap();
        for _ in 0..8 {
            file.write_all(&[0; 1_000]).unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(book.names().is_empty());
        }
    };
    watch(&book, write, &["slow.mp4"]).await;
    // And was not, before.
    assert_eq!(book.pages.lock().unwrap().looks, 1);
}

#[tokio::test]
async fn a_file_counts_at_once_where_it_is_renamed_in_and_a_moved_folder_with_all_that_is_in_it() {
    let (folder, uploads) = folder();
    let root = uploads.folder().unwrap().to_owned();
    let book = Book::new(&uploads);
    let outside = folder.path().join("outside");
    fs::create_dir_all(outside.join("sub/é")).unwrap();
    fs::write(outside.join("sub/1.mp4"), "1").unwrap();
    fs::write(outside.join("sub/é/2.mp4"), "2").unwrap();
    fs::write(outside.join("3.mp4"), "3").unwrap();
    let move_in = async {
        fs::write(root.join("4.mp4.part"), "4").unwrap();
        fs::rename(root.join("4.mp4.part"), root.join("4.mp4")).unwrap();
        fs::rename(outside.join("3.mp4"), root.join("3 + %.mp4")).unwrap();
        let begun = Instant::now();
        while book.names() != ["3 + %.mp4", "4.mp4"] {
            assert!(begun.elapsed() < Duration::from_millis(1_900), "{:?}", book.names());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        fs::rename(outside.join("sub"), root.join("sub")).unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        // A folder that came later is watched as well.
        fs::write(root.join("sub/é/5.mp4"), "5").unwrap();
    };
    watch(&book, move_in, &["3 + %.mp4", "4.mp4", "sub/1.mp4", "sub/é/2.mp4", "sub/é/5.mp4"]).await;
}

#[tokio::test]
async fn two_hundred_files_at_once_are_looked_at_once_each_whether_they_were_there_or_come() {
    let (_folder, uploads) = folder();
    let root = uploads.folder().unwrap().to_owned();
    let book = Book::new(&uploads);
    for hidden in [".hidden.mp4", "x.part", "x.srt", "x.mp4~"] {
        fs::write(root.join(hidden), "").unwrap();
    }
    let mut names: Vec<_> = (0..200).map(|number| format!("{}/{number:03}.mp4", number % 7)).collect();
    let write = |name: &String| {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), name).unwrap();
    };
    names[..100].iter().for_each(write);
    let come = async { names[100..].iter().for_each(write) };
    let mut expected: Vec<_> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    watch(&book, come, &expected).await;
    names.sort();
    assert_eq!(book.pages.lock().unwrap().looks, 200);
}

#[tokio::test]
async fn what_cannot_be_taken_down_is_looked_at_again_and_a_folder_that_went_away_is_watched_when_it_is_back()
{
    let (folder, uploads) = folder();
    let root = uploads.folder().unwrap().to_owned();
    let book = Book::new(&uploads);
    book.pages.lock().unwrap().is_broken = true;
    fs::write(root.join("1.mp4"), "1").unwrap();
    let trouble = async {
        let begun = Instant::now();
        while book.pages.lock().unwrap().looks < 2 {
            assert!(begun.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        book.pages.lock().unwrap().is_broken = false;
        fs::rename(&root, folder.path().join("away")).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        fs::rename(folder.path().join("away"), &root).unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        fs::write(root.join("2.mp4"), "2").unwrap();
    };
    let doors = intake::run(book.clone(), doors(Duration::from_secs(1)));
    let watched = book.until(doors, async || book.names() == ["1.mp4", "2.mp4"]);
    tokio::join!(watched, trouble);
}

// --- AWS ----------------------------------------------------------------------------------------------------

/// An imitation of AWS.
struct Cloud {
    process: Child,
    endpoint: String,
}

impl Cloud {
    fn start(program: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(tool(program));
        match program {
            "moto_server" => command.args(["-H", "127.0.0.1", "-p", &port.to_string()]),
            // Its MQTT would listen on a port, and on addresses, that are none of ours.
            _ => command
                .env("BIND_HOST", "127.0.0.1")
                .env("GATEWAY_PORT", port.to_string())
                .env("IOT_MTLS_ENABLED", "0"),
        };
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|_| panic!("the tests need {program}: run `make setup`"));
        let cloud = Self { process, endpoint: format!("http://127.0.0.1:{port}") };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < PATIENCE, "{program} does not start");
            std::thread::sleep(Duration::from_millis(100));
        }
        cloud
    }

    /// Runs a test of this file that is left out otherwise, as a process that has credentials in its environment.
    fn run(&self, test: &str) {
        let status = with_credentials(&mut Command::new(std::env::current_exe().unwrap()))
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env("CLOUD", &self.endpoint)
            .status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn with_credentials(command: &mut Command) -> &mut Command {
    command
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
}

fn tool(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let installed = target.join("tools/bin").join(name);
    if installed.exists() { installed } else { name.into() }
}

/// Puts objects, has the cloud tell of them by every way there is, and puts all that it told five times into another
/// queue, in no order.
const TELL: &str = r#"
import boto3, json, random, sys, time
from boto3.s3.transfer import TransferConfig
random.seed(7)
of = lambda service: boto3.client(service, endpoint_url=sys.argv[1], region_name="us-east-1")
s3, sqs, sns, events = map(of, ["s3", "sqs", "sns", "events"])
names = ["My Film.mp4", "a+b.mp4", "100%25 %.mp4", "é.mp4", "😀/c.mp4", "deep/er/still.MOV", "(1) & 'x' #?.mp4", "no extension"]
big = "multi part.mkv"
arn = lambda url: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
told = {}
for way in ["direct", "sns", "sns-raw", "eventbridge"]:
    bucket = "uploads-" + way
    s3.create_bucket(Bucket=bucket)
    queue = sqs.create_queue(QueueName="told-" + way)["QueueUrl"]
    again = sqs.create_queue(QueueName="again-" + way)["QueueUrl"]
    if way == "direct":
        told_by = {"QueueConfigurations": [{"QueueArn": arn(queue), "Events": ["s3:ObjectCreated:*"]}]}
    elif way == "eventbridge":
        told_by = {"EventBridgeConfiguration": {}}
        pattern = {"source": ["aws.s3"], "detail-type": ["Object Created"], "detail": {"bucket": {"name": [bucket]}}}
        events.put_rule(Name="uploads", EventPattern=json.dumps(pattern))
        events.put_targets(Rule="uploads", Targets=[{"Id": "1", "Arn": arn(queue)}])
    else:
        topic = sns.create_topic(Name="topic-" + way)["TopicArn"]
        raw = {"RawMessageDelivery": "true"} if way == "sns-raw" else {}
        sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn(queue), Attributes=raw)
        told_by = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
    s3.put_bucket_notification_configuration(Bucket=bucket, NotificationConfiguration=told_by)
    for name in names:
        s3.put_object(Bucket=bucket, Key="in/" + name, Body=name.encode())
    s3.put_object(Bucket=bucket, Key="elsewhere/x.mp4", Body=b"x")
    s3.put_object(Bucket=bucket, Key="in/captions.srt", Body=b"x")
    s3.put_object(Bucket=bucket, Key="in/gone.mp4", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="in/gone.mp4")
    with open(sys.argv[2], "rb") as file:
        s3.upload_fileobj(file, bucket, "in/" + big, Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
    messages, deadline = [], time.time() + 30
    while len(messages) < len(names) + 4 or time.time() < deadline - 28:
        assert time.time() < deadline, (way, len(messages))
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            messages.append(message["Body"])
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    messages *= 5
    random.shuffle(messages)
    for message in messages:
        sqs.send_message(QueueUrl=again, MessageBody=message)
    told[way] = {"bucket": bucket, "queue": again, "names": sorted(names + [big]), "messages": len(messages)}
print(json.dumps(told))
"#;

#[derive(Deserialize)]
struct Told {
    bucket: String,
    queue: String,
    names: Vec<String>,
    messages: usize,
}

#[test]
fn whatever_moto_says_and_however_often_it_comes_to_one_job_for_each_upload() {
    Cloud::start("moto_server").run("everything_that_is_told_comes_to_one_job_each");
}

#[test]
fn whatever_ministack_says_and_however_often_it_comes_to_one_job_for_each_upload() {
    Cloud::start("ministack").run("everything_that_is_told_comes_to_one_job_each");
}

#[tokio::test]
#[ignore = "run by others, with credentials"]
async fn everything_that_is_told_comes_to_one_job_each() {
    let Ok(endpoint) = std::env::var("CLOUD") else { return };
    let folder = tempfile::tempdir().unwrap();
    let big = folder.path().join("big");
    fs::write(&big, vec![7; 11 << 20]).unwrap();
    let output = with_credentials(&mut Command::new(tool("python")))
        .args(["-c", TELL, &endpoint])
        .arg(&big)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: BTreeMap<String, Told> = serde_json::from_slice(&output.stdout).unwrap();
    for (way, told) in &told {
        let access = Access { endpoint: Some(endpoint.clone()), region: None };
        let uploads = Uploads::open(&format!("s3://{}/in", told.bucket), &access).unwrap();
        let queue = sqs::Queue { url: told.queue.clone(), endpoint: None, region: None };
        let client = queue.client().await;
        // What is in sight, and what is out of sight.
        let count = async || {
            let attributes = client.get_queue_attributes().queue_url(&told.queue);
            let attributes =
                attributes.attribute_names(aws_sdk_sqs::types::QueueAttributeName::All).send().await;
            let attributes = attributes.unwrap().attributes.unwrap();
            let [visible, hidden] = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
                .map(|name| attributes.iter().find(|(key, _)| key.as_str() == name).unwrap().1);
            (visible.parse::<usize>().unwrap(), hidden.parse::<usize>().unwrap())
        };
        assert_eq!(count().await, (told.messages, 0), "{way}");

        // With room for two jobs, no third one is taken; and what is held is put back when the doors close.
        let book = Book::new(&uploads);
        book.until(Box::pin(sqs::run(&book, &queue, 2)), async || book.names().len() == 2).await;
        let (visible, hidden) = count().await;
        assert_eq!(hidden, 0, "{way}");
        // Only what was about nothing, such as a test, is gone.
        assert!(visible > told.messages - 25, "{way}: {visible} of {}", told.messages);

        // With more, all are; but while their jobs are not over, their messages are kept.
        client.send_message().queue_url(&told.queue).message_body("hello").send().await.unwrap();
        let book = Book::new(&uploads);
        let at_least = told.names.len() * 5 + 1;
        book.until(Box::pin(sqs::run(&book, &queue, 500)), async || {
            let (visible, hidden) = count().await;
            if visible == 0 && hidden > 1 && !book.pages.lock().unwrap().is_done {
                assert!(hidden >= at_least, "{way}: {hidden}");
                book.pages.lock().unwrap().is_done = true;
            }
            // The one that nobody understands is left.
            (visible, hidden) == (0, 1)
        })
        .await;
        assert_eq!(book.names(), told.names, "{way}");
        assert!(book.pages.lock().unwrap().others.is_empty(), "{way}");
    }
}

#[test]
fn a_bucket_of_moto_is_searched_fetched_from_and_put_into() {
    Cloud::start("moto_server").run("a_bucket_is_searched_fetched_from_and_put_into");
}

#[test]
fn a_bucket_of_ministack_is_searched_fetched_from_and_put_into() {
    Cloud::start("ministack").run("a_bucket_is_searched_fetched_from_and_put_into");
}

/// Puts objects with names that none of our own ways to put something would take.
const STRANGE: &str = r#"
import boto3, botocore, json, sys
s3 = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
s3.create_bucket(Bucket="uploads")
for key in ["in/folder/", "in/lesson.en.srt", "in/lesson.cut.de.srt", "in/lesson.cut.mov", "in/.hidden.mp4", "other/x.mp4",
            "in/" + "x" * 300 + ".mp4", "in/" + "x" * 300 + ".fr.vtt"]:
    s3.put_object(Bucket="uploads", Key=key, Body=b"" if key.endswith("/") else key.encode())
for number in range(40):
    s3.put_object(Bucket="uploads", Key="in/many/%02d.mp4" % number, Body=b"x")
taken = []
for key in ["a//b.mp4", "../x.mp4", "many/./y.mp4", "line\nbreak.mp4", "many//", "many/10.mp4/../z.mp4"]:
    try:
        s3.put_object(Bucket="uploads", Key="in/" + key, Body=b"x")
        taken.append(key)
    except botocore.exceptions.ClientError:
        pass  # Not every imitation takes what S3 takes.
print(json.dumps(taken))
"#;

#[tokio::test]
#[ignore = "run by others, with credentials"]
async fn a_bucket_is_searched_fetched_from_and_put_into() {
    let Ok(endpoint) = std::env::var("CLOUD") else { return };
    let output = with_credentials(&mut Command::new(tool("python")))
        .args(["-c", STRANGE, &endpoint])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let access = Access { endpoint: Some(endpoint), region: None };
    let uploads = Uploads::open("s3://uploads/in", &access).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();

    // Put: one of several parts, one of one.
    let big: Vec<u8> = (0..40_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let file = folder.path().join("file");
    fs::write(&file, &big).unwrap();
    let put = uploads.put("lesson.mp4", &file).await.unwrap();
    assert_eq!((put.name.as_str(), put.bytes), ("lesson.mp4", 40_000_000));
    assert_eq!(uploads.find("lesson.mp4").await.unwrap().as_ref(), Some(&put));
    fs::write(&file, "small").unwrap();
    let small = uploads.put("sub/100% é + #.mp4", &file).await.unwrap();
    assert_eq!(uploads.find("sub/nothing.mp4").await.unwrap(), None);

    // Names that cannot be said do not keep the others from being found.
    let survey = uploads.survey().await.unwrap();
    let found: BTreeSet<_> = survey.uploads.iter().map(|upload| upload.name.clone()).collect();
    let mut expected: BTreeSet<_> = (0..40).map(|number| format!("many/{number:02}.mp4")).collect();
    expected.extend(["lesson.mp4", "lesson.cut.mov", "sub/100% é + #.mp4"].map(str::to_owned));
    expected.insert(format!("{}.mp4", "x".repeat(300)));
    assert_eq!(found, expected);
    let refused: Vec<_> = survey.refused.iter().map(ToString::to_string).collect();
    let refused = refused.join("\n");
    let taken: Vec<String> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(taken.len() >= 3, "{taken:?}");
    for name in taken.iter().filter(|name| name.as_str() != "many//") {
        assert!(refused.contains(&format!("`{}`", name.escape_debug())), "{refused}");
    }
    assert!(survey.uploads.contains(&put), "as it is found by its name");
    let book = Book::new(&uploads);
    book.until(intake::run(book.clone(), doors(Duration::from_secs(1))), async || {
        book.names().len() == found.len()
    })
    .await;
    assert_eq!(book.pages.lock().unwrap().looks, found.len(), "each once, however often it is swept");

    // Fetched: with its own captions, from where an earlier attempt ended.
    let work = folder.path().join("work");
    fs::create_dir_all(work.join("source")).unwrap();
    fs::write(work.join("source/.part"), &big[..1_234_567]).unwrap();
    let path = uploads.fetch(&put, &work, &cancel).await.unwrap();
    assert!(fs::read(&path).unwrap() == big);
    assert_eq!(files(path.parent().unwrap()), ["lesson.en.srt", "lesson.mp4"]);
    assert_eq!(uploads.fetch(&put, &work, &cancel).await.unwrap(), path);
    let path = uploads.fetch(&small, &folder.path().join("small"), &cancel).await.unwrap();
    assert_eq!(fs::read(path).unwrap(), b"small");
    let long = survey.uploads.iter().find(|upload| upload.name.starts_with("xxx")).unwrap();
    let path = uploads.fetch(long, &folder.path().join("long"), &cancel).await.unwrap();
    assert_eq!(files(path.parent().unwrap()), ["source.fr.vtt", "source.mp4"]);

    // However often the line breaks, it goes on from there.
    let broken =
        Access { endpoint: Some(breaking_line(access.endpoint.as_deref().unwrap()).await), region: None };
    let broken = Uploads::open("s3://uploads/in", &broken).unwrap();
    let path = broken.fetch(&put, &folder.path().join("broken"), &cancel).await.unwrap();
    assert!(fs::read(&path).unwrap() == big);

    // Replaced or removed, it is not fetched: whoever asks wants what was found.
    uploads.put("lesson.mp4", &file).await.unwrap();
    let removed = Upload { name: "removed.mp4".into(), ..put.clone() };
    for gone in [&put, &removed] {
        let error = uploads.fetch(gone, &folder.path().join("gone"), &cancel).await.unwrap_err();
        assert!(matches!(error, Error::Gone(_)), "{error}");
    }
    cancel.cancel();
    let error = uploads.fetch(&small, &folder.path().join("late"), &cancel).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
}

/// A way to a server on which every connection ends after 7 MB.
async fn breaking_line(endpoint: &str) -> String {
    let server = endpoint.strip_prefix("http://").unwrap().to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(&server).await.unwrap();
            tokio::spawn(async move {
                let (mut from_client, mut to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                let mut from_server = from_server.take(7_000_000);
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                }
            });
        }
    });
    format!("http://{address}")
}

fn files(folder: &Path) -> Vec<String> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    files
}

// --- Cloudflare ---------------------------------------------------------------------------------------------

/// As Cloudflare's API for a queue: what it gives out, and what it was told.
#[derive(Clone, Default)]
struct Fake {
    pulls: Arc<Mutex<Vec<(StatusCode, Value)>>>,
    acks: Arc<Mutex<Vec<Value>>>,
}

async fn answer(
    State(fake): State<Fake>,
    Segment((account, queue, what)): Segment<(String, String, String)>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    assert_eq!((account.as_str(), queue.as_str()), ("acc", "q1"));
    assert_eq!(headers["authorization"], "Bearer secret token");
    if what == "ack" {
        fake.acks.lock().unwrap().push(body);
        return (StatusCode::OK, Json(json!({"success": true, "errors": [], "result": {"ackCount": 1}})));
    }
    assert_eq!(what, "pull");
    assert!(body["visibility_timeout_ms"].as_u64().unwrap() <= 12 * 3_600_000);
    assert!((1..=100).contains(&body["batch_size"].as_u64().unwrap()));
    let next = fake.pulls.lock().unwrap().pop();
    let (status, answer) =
        next.unwrap_or((StatusCode::OK, json!({"success": true, "errors": [], "result": {"messages": []}})));
    (status, Json(answer))
}

#[tokio::test]
async fn what_r2_says_is_pulled_and_acknowledged_once_it_is_taken_down() {
    let fake = Fake::default();
    let message = |id: &str, body: Value| json!({"id": id, "body": body, "lease_id": format!("lease-{id}"), "attempts": 1, "timestamp_ms": 1_689_615_013_586_u64, "metadata": {}});
    let put = json!({"account": "3f4b", "action": "PutObject", "bucket": "my-bucket",
                     "object": {"key": "in/x.mp4", "size": 3, "eTag": "c846"}, "eventTime": "2024-05-24T19:36:44.379Z"});
    let gone = json!({"account": "3f4b", "action": "DeleteObject", "bucket": "my-bucket", "object": {"key": "in/y.mp4"}});
    let pulled = json!({"success": true, "errors": [], "result": {"messages": [
        message("1", put.to_string().into()),
        message("2", STANDARD.encode(put.to_string()).into()),
        message("3", put.clone()),
        message("4", "hello".into()),
        message("5", STANDARD.encode(gone.to_string()).into()),
        message("6", STANDARD.encode(r#"{"detail-type":"MediaConvert Job State Change","source":"aws.mediaconvert","detail":{"jobId":"1-a"}}"#).into()),
    ]}});
    let refused = json!({"success": false, "errors": [{"code": 10_000, "message": "Authentication error"}], "result": null});
    // The last one is the first.
    *fake.pulls.lock().unwrap() = vec![(StatusCode::OK, pulled), (StatusCode::FORBIDDEN, refused)];
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/client/v4/", listener.local_addr().unwrap());
    let route = "/client/v4/accounts/{account}/queues/{queue}/messages/{what}";
    let router = axum::Router::new().route(route, post(answer)).with_state(fake.clone());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let (_folder, uploads) = folder();
    let book = Book::new(&uploads);
    let queue = r2_queue::Queue {
        account: "acc".into(),
        queue: "q1".into(),
        token: "secret token".into(),
        endpoint: Some(endpoint),
    };
    assert!(!format!("{queue:?}").contains("secret"));
    book.until(r2_queue::run(&book, &queue, 4), async || fake.acks.lock().unwrap().len() == 1).await;
    server.abort();
    let ack = &fake.acks.lock().unwrap()[0];
    let leases = |what: &str| {
        let leases = ack[what].as_array().unwrap().iter();
        leases.map(|lease| lease["lease_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(leases("acks"), ["lease-1", "lease-2", "lease-3", "lease-5", "lease-6"]);
    assert_eq!(leases("retries"), ["lease-4"]);
    assert_eq!(book.pages.lock().unwrap().others, [Event::MediaConvert { job: "1-a".into() }]);
}
