//! MediaConvert as an encoder, against one whose pictures are real: `tests/tools/mediaconvert.py`.

mod harness;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use transcoder::asset::AssetId;
use transcoder::encoder::mediaconvert::{Errand, MediaConvert, Settings, Times};
use transcoder::encoder::{Error, Machine};
use transcoder::ladder::Codec;
use transcoder::plan::{Container, Options, Plan};
use transcoder::storage::{Access, Store};
use transcoder::{CancellationToken, Class, Job, probe};

use harness::{Studio, decoded, ffprobe, printed, tool};

const ID: &str = "0123456789abcdef0123456789abcdef";

/// Long enough for two groups of pictures, short enough to be made many times.
const CLIP: &str = "-f lavfi -i testsrc2=s=160x90:r=30:d=4 SOUND -c:v libx264 -c:a aac";

struct Account {
    process: Child,
    url: String,
    s3: String,
    /// Where its events go.
    queue: String,
}

impl Account {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(arguments: &[&OsStr]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tools/mediaconvert.py");
        let mut command = tool("python");
        command.arg(script).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let text = |name: &str| said[name].as_str().unwrap().to_owned();
        Self { process, url: text("url"), s3: text("s3"), queue: text("queue") }
    }

    fn settings(&self) -> Settings {
        let times = Times {
            poll: Duration::from_millis(100),
            throttled: Duration::from_millis(150),
            stalled: Duration::from_mins(1),
            queued: Duration::from_secs(20),
            pause: Duration::from_millis(50),
        };
        Settings {
            role: Some("arn:aws:iam::111122223333:role/MediaConvertRole".into()),
            queue: Some("arn:aws:mediaconvert:us-east-1:111122223333:queues/Default".into()),
            bucket: Some("s3://work/mediaconvert".into()),
            endpoint: Some(self.url.clone()),
            bucket_endpoint: Some(self.s3.clone()),
            access_key_id: Some("test".into()),
            secret_access_key: Some("test".into()),
            times,
            ..Settings::default()
        }
    }

    async fn errand(&self) -> Arc<Errand> {
        self.errand_of(&self.settings()).await
    }

    async fn errand_of(&self, settings: &Settings) -> Arc<Errand> {
        let asset: AssetId = "a".parse().unwrap();
        MediaConvert::open(settings).await.unwrap().errand(&asset, ID, None)
    }

    /// What goes wrong next.
    fn faults(&self, faults: &[&str]) {
        let faults = serde_json::to_string(faults).unwrap();
        printed(curl().arg("-d").arg(faults).arg(format!("{}/-/faults", self.url)));
    }

    fn jobs(&self) -> Vec<Value> {
        serde_json::from_str(&printed(curl().arg(format!("{}/-/jobs", self.url)))).unwrap()
    }

    fn states(&self) -> Vec<String> {
        self.jobs().iter().map(|job| job["Status"].as_str().unwrap().to_owned()).collect()
    }

    /// Keys in the bucket that it works with.
    fn leftovers(&self) -> usize {
        self.keys("work").len()
    }

    fn keys(&self, bucket: &str) -> Vec<String> {
        let listed = printed(curl().arg(format!("{}/{bucket}?list-type=2", self.s3)));
        let keys = listed.split("<Key>").skip(1).map(|rest| rest.split_once("</Key>").unwrap().0.to_owned());
        keys.collect()
    }

    /// An upload by this name, with bytes of its own.
    fn upload(&self, clip: &Path, name: &str) {
        let mut bytes = std::fs::read(clip).unwrap();
        bytes.extend(u32::try_from(8 + name.len()).unwrap().to_be_bytes());
        bytes.extend([b"free", name.as_bytes()].concat());
        let file = clip.with_extension("upload");
        std::fs::write(&file, bytes).unwrap();
        printed(curl().arg("-T").arg(&file).arg(format!("{}/uploads/{name}", self.s3)));
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn curl() -> Command {
    let mut command = Command::new("curl");
    // Moto goes by this to know which service is meant.
    let authorization = "authorization: AWS4-HMAC-SHA256 Credential=test/20261122/us-east-1/s3/aws4_request";
    command.args(["--silent", "--show-error", "--fail", "-H", authorization]);
    command
}

async fn plan(input: &Path, options: &Options) -> Plan {
    Plan::for_source(&probe::probe(input).await.unwrap(), &[], options).unwrap()
}

fn folder(studio: &Studio, name: &str) -> std::path::PathBuf {
    let folder = studio.path(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// A source for each of these, encoded by MediaConvert: what comes of it, and how its jobs ended.
async fn outcome(faults: &[&str], failures: u32) -> (Result<Vec<String>, Error>, Vec<String>, usize) {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    let settings = Settings { failures, ..account.settings() };
    let machine = Machine::MediaConvert(account.errand_of(&settings).await);
    account.faults(faults);
    let plan = plan(&clip, &Options::default()).await;
    let output = folder(&studio, "out");
    let outcome = machine.encode(&plan, &Options::default(), &output, &()).await;
    if outcome.is_ok() {
        assert_eq!(decoded(&output.join("90p.mp4")).len(), 120);
    }
    (outcome, account.states(), account.leftovers())
}

#[tokio::test]
async fn what_it_makes_is_published_like_any_other() {
    let (studio, account) = (Studio::new(), Account::new());
    std::fs::write(studio.path("words.srt"), "1\n00:00:01,000 --> 00:00:02,000\nBlue\n").unwrap();
    let words = studio.path("words.srt");
    let clip = studio.clip(
        "film.mp4",
        &format!(
            "-f lavfi -i testsrc2=s=640x360:r=30000/1001:d=8 -f lavfi -i sine=440:r=44100:d=8 \
             -f lavfi -i sine=880:r=48000:d=8 -i {} -map 0 -map 1 -map 2 -map 3 -metadata:s:a:0 language=eng \
             -metadata:s:a:1 language=deu -metadata:s:s:0 language=eng -c:v libx264 -c:a aac -c:s mov_text",
            words.display()
        ),
    );
    for container in [Container::Fmp4, Container::Ts] {
        let options = Options { container, ..Options::default() };
        let asset: AssetId = format!("film-{container:?}").to_lowercase().parse().unwrap();
        let id = format!("{ID}{container:?}");
        let service = MediaConvert::open(&account.settings()).await.unwrap();
        let encoder = Machine::MediaConvert(service.errand(&asset, &id, None));
        let job = Job { input: clip.clone(), asset: asset.clone(), encoder, options };
        let root = studio.path("media");
        let store = Store::open(root.to_str().unwrap(), &Access::default()).unwrap();
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        // It is linted before it is published.
        let published = transcoder::encode(&job, &store, now, &(), &CancellationToken::new()).await.unwrap();
        let playlist = root.join(&published.playlist);
        let multivariant = std::fs::read_to_string(&playlist).unwrap();
        assert!(multivariant.contains("RESOLUTION=640x360"), "{multivariant}");
        assert!(
            multivariant.contains("LANGUAGE=\"de\"") && multivariant.contains("TYPE=SUBTITLES"),
            "{multivariant}"
        );
        let seconds: f64 = ffprobe(&playlist, "format=duration").trim().parse().unwrap();
        assert!((seconds - 8.0).abs() < 0.1, "{seconds}");
        let asset = std::fs::read_to_string(root.join(format!("assets/{asset}/asset.json"))).unwrap();
        assert!(asset.contains("AWS Elemental MediaConvert"), "{asset}");
    }
    assert_eq!(account.states(), ["COMPLETE", "COMPLETE"]);
    assert_eq!(account.leftovers(), 0);
}

#[tokio::test]
async fn pictures_are_cut_and_sound_begins_as_when_ffmpeg_encodes() {
    let (studio, account) = (Studio::new(), Account::new());
    // A flash and a beep at 2 s.
    let clip = studio.clip(
        "flash.mp4",
        "-f lavfi -i color=black:s=160x90:r=30:d=4,drawbox=c=white:t=fill:enable='between(t,2,2.5)' \
         -f lavfi -i aevalsrc=if(between(t\\,2\\,2.5)\\,sin(2764*t)\\,0):s=48000:d=4 -c:v libx264 -c:a aac",
    );
    for container in [Container::Fmp4, Container::Ts] {
        let options = Options { container, ..Options::default() };
        let plan = plan(&clip, &options).await;
        let service = MediaConvert::open(&account.settings()).await.unwrap();
        let errand = service.errand(&"a".parse().unwrap(), &format!("{ID}{container:?}"), None);
        let [theirs, ours] =
            [format!("theirs-{container:?}"), format!("ours-{container:?}")].map(|it| folder(&studio, &it));
        Machine::MediaConvert(errand).encode(&plan, &options, &theirs, &()).await.unwrap();
        Machine::Ffmpeg.encode(&plan, &options, &ours, &()).await.unwrap();
        let keys = |folder: &Path, name: &str| {
            let packets = ffprobe(&folder.join(name), "packet=pts,duration,flags");
            packets.lines().filter(|line| line.contains(",K")).map(str::to_owned).collect::<Vec<_>>()
        };
        // The delay of reordered pictures aside, which is each encoder's own.
        assert_eq!(keys(&theirs, "90p.mp4").len(), keys(&ours, "90p.mp4").len());
        let beep = |folder: &Path| {
            let mut command = Command::new("ffmpeg");
            command.args(["-nostdin", "-hide_banner", "-i"]).arg(folder.join("audio.mp4"));
            command.args(["-af", "silencedetect=n=-30dB:d=0.5", "-f", "null", "-"]);
            let text = String::from_utf8(command.output().unwrap().stderr).unwrap();
            let (_, rest) = text.split_once("silence_end: ").unwrap();
            rest.split_whitespace().next().unwrap().parse::<f64>().unwrap()
        };
        let (theirs, ours) = (beep(&theirs), beep(&ours));
        assert!((theirs - ours).abs() < 0.022, "{container:?}: {theirs} {ours}");
    }
}

#[tokio::test]
async fn other_codecs_and_pictures_for_scrubbing_pass_the_linter() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    let options =
        Options { codecs: vec![Codec::Hevc, Codec::Av1], dense_key_frames: true, ..Options::default() };
    let encoder = Machine::MediaConvert(account.errand().await);
    let job = Job { input: clip, asset: "a".parse().unwrap(), encoder, options };
    let root = studio.path("media");
    let store = Store::open(root.to_str().unwrap(), &Access::default()).unwrap();
    let now = "2026-11-22T10:00:00Z".parse().unwrap();
    let published = transcoder::encode(&job, &store, now, &(), &CancellationToken::new()).await.unwrap();
    let multivariant = std::fs::read_to_string(root.join(&published.playlist)).unwrap();
    for codec in ["hvc1.", "av01.", "avc1."] {
        assert!(multivariant.contains(codec), "{multivariant}");
    }
}

#[tokio::test]
async fn a_source_within_reach_is_read_where_it_lies() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    printed(curl().arg("-T").arg(&clip).arg(format!("{}/uploads/in/clip.mp4", account.s3)));
    let service = MediaConvert::open(&account.settings()).await.unwrap();
    let source = "s3://uploads/in/clip.mp4";
    let machine = Machine::MediaConvert(service.errand(&"a".parse().unwrap(), ID, Some(source.into())));
    let plan = plan(&clip, &Options::default()).await;
    let output = folder(&studio, "out");
    machine.encode(&plan, &Options::default(), &output, &()).await.unwrap();
    assert_eq!(account.jobs()[0]["Settings"]["Inputs"][0]["FileInput"], source);
    printed(curl().args(["--output", "/dev/null"]).arg(format!("{}/uploads/in/clip.mp4", account.s3)));
}

#[tokio::test]
async fn a_failure_of_acceleration_is_asked_for_again_without() {
    let (outcome, states, leftovers) = outcome(&["1041"], 0).await;
    outcome.unwrap();
    assert_eq!((states, leftovers), (vec!["ERROR".to_owned(), "COMPLETE".to_owned()], 0));
}

#[tokio::test]
async fn a_busy_service_and_a_lost_answer_cost_one_job() {
    let (outcome, states, _) = outcome(&["429", "429", "500", "away", "429", "500"], 0).await;
    outcome.unwrap();
    assert_eq!(states, ["COMPLETE"]);
}

#[tokio::test]
async fn after_so_many_failures_ffmpeg_encodes() {
    let (outcome, states, leftovers) = outcome(&["1999", "1999"], 2).await;
    assert!(outcome.unwrap()[0].starts_with("ffmpeg "));
    assert_eq!((states, leftovers), (vec!["ERROR".to_owned(), "ERROR".to_owned()], 0));
}

#[tokio::test]
async fn who_may_not_write_is_told_so_and_a_bad_source_is_not_asked_for_twice() {
    let (refused, ..) = outcome(&["3450"], 0).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.class(), Class::Settings, "{refused}");
    let (refused, ..) = outcome(&["403"], 0).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.class(), Class::Settings, "{refused}");
    assert!(refused.to_string().contains("SearchJobs"), "{refused}");
    let (bad, states, _) = outcome(&["1040"], 3).await;
    let bad = bad.unwrap_err();
    assert_eq!((bad.class(), states.len()), (Class::Source, 1), "{bad}");
    assert!(bad.to_string().contains("error 1040): Example error message"), "{bad}");
}

#[tokio::test]
async fn a_job_that_hangs_is_cancelled() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    let plan = plan(&clip, &Options::default()).await;
    let mut settings = account.settings();
    settings.times.stalled = Duration::from_secs(1);
    let machine = Machine::MediaConvert(account.errand_of(&settings).await);
    account.faults(&["hang"]);
    let output = folder(&studio, "out");
    let stalled = machine.encode(&plan, &Options::default(), &output, &()).await.unwrap_err();
    assert_eq!((stalled.class(), account.states()), (Class::Busy, vec!["CANCELED".to_owned()]), "{stalled}");
    // The next attempt is another job.
    account.faults(&[]);
    let machine = Machine::MediaConvert(account.errand().await);
    machine.encode(&plan, &Options::default(), &output, &()).await.unwrap();
    assert_eq!(account.states(), ["CANCELED", "COMPLETE"]);
}

#[tokio::test]
async fn whatever_becomes_of_us_a_job_is_paid_for_once() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    let plan = plan(&clip, &Options::default()).await;
    let options = Options::default();
    // Ended at some moment, and begun again; the second time without what was written down. Never so late that all of it
    // can be taken over.
    for (i, name) in ["out", "out", "elsewhere", "out"].iter().enumerate() {
        let (machine, output) = (Machine::MediaConvert(account.errand().await), folder(&studio, name));
        let time = Duration::from_millis(40 * (i as u64 + 1));
        let _ = tokio::time::timeout(time, machine.encode(&plan, &options, &output, &())).await;
    }
    let (machine, output) = (Machine::MediaConvert(account.errand().await), folder(&studio, "last"));
    machine.encode(&plan, &options, &output, &()).await.unwrap();
    // And once more, after it was taken over.
    machine.encode(&plan, &options, &output, &()).await.unwrap();
    assert_eq!(account.jobs().iter().filter(|job| job["Paid"] == true).count(), 1);
    assert_eq!(account.leftovers(), 0);
}

#[tokio::test]
async fn what_nobody_wants_any_more_is_cancelled_and_removed() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    let plan = plan(&clip, &Options::default()).await;
    account.faults(&["hang"]);
    let (machine, output) = (Machine::MediaConvert(account.errand().await), folder(&studio, "out"));
    let options = Options::default();
    let encoding = machine.encode(&plan, &options, &output, &());
    let _ = tokio::time::timeout(Duration::from_secs(1), encoding).await;
    assert_eq!(account.states(), ["PROGRESSING"]);
    assert_ne!(account.leftovers(), 0);
    machine.abandon().await.unwrap();
    machine.abandon().await.unwrap();
    assert_eq!((account.states(), account.leftovers()), (vec!["CANCELED".to_owned()], 0));
}

#[tokio::test]
async fn a_hint_is_heard_at_once() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    let plan = plan(&clip, &Options::default()).await;
    let mut settings = account.settings();
    settings.times.poll = Duration::from_mins(10);
    settings.times.stalled = Duration::from_mins(30);
    let service = MediaConvert::open(&settings).await.unwrap();
    let machine = Machine::MediaConvert(service.errand(&"a".parse().unwrap(), ID, None));
    let output = folder(&studio, "out");
    let begun = Instant::now();
    let encoding =
        tokio::spawn(async move { machine.encode(&plan, &Options::default(), &output, &()).await });
    while account.states() != ["COMPLETE"] {
        assert!(begun.elapsed() < Duration::from_mins(1));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!encoding.is_finished());
    service.hint("1515368087458-other1");
    service.hint(account.jobs()[0]["Id"].as_str().unwrap());
    encoding.await.unwrap().unwrap();
}

#[test]
fn a_rehearsal_prints_a_job_that_aws_would_take() {
    let studio = Studio::new();
    let clip = studio.clip("clip.mp4", CLIP);
    for extra in [&[][..], &["--container", "ts"], &["--codec", "hevc,av1", "--dense-key-frames"]] {
        let mut command = studio.command(&[clip.to_str().unwrap(), "--dry-run", "--encoder", "mediaconvert"]);
        command.args(["--mediaconvert-role", "arn:aws:iam::111122223333:role/MediaConvertRole"]);
        command.args(["--mediaconvert-bucket", "s3://work", "--mediaconvert-region", "eu-west-1"]);
        let text = printed(command.args(extra));
        let job = &text[text.find("\n{").unwrap()..];
        std::fs::write(studio.path("job.json"), job).unwrap();
        let check = "import json, sys, botocore.session, botocore.validate\n\
                     model = botocore.session.get_session().get_service_model('mediaconvert')\n\
                     shape = model.operation_model('CreateJob').input_shape\n\
                     report = botocore.validate.ParamValidator().validate(json.load(open(sys.argv[1])), shape)\n\
                     print(report.generate_report())";
        let report = printed(tool("python").args(["-c", check]).arg(studio.path("job.json")));
        assert_eq!(report.trim(), "", "{job}");
    }
}

#[test]
fn stopped_at_the_command_line_it_costs_nothing_and_leaves_nothing() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    account.faults(&["hang"]);
    let mut command = studio.command(&[clip.to_str().unwrap(), "--encoder", "mediaconvert"]);
    command.args(["--mediaconvert-role", "arn:aws:iam::111122223333:role/MediaConvertRole"]);
    command.args(["--mediaconvert-bucket", "s3://work", "--mediaconvert-region", "us-east-1"]);
    command.args(["--mediaconvert-endpoint", &account.url, "--mediaconvert-bucket-endpoint", &account.s3]);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    // What is said of the store is not said of MediaConvert.
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").env("AWS_REGION", "auto");
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while account.states() != ["PROGRESSING"] {
        assert!(begun.elapsed() < Duration::from_mins(1));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("transcoder: stopped; nothing was published"), "{stderr}");
    assert_eq!((account.states(), account.leftovers()), (vec!["CANCELED".to_owned()], 0), "{stderr}");
    assert_eq!(studio.leftovers(), Vec::<std::path::PathBuf>::new());
}

/// `transcoder serve` that has this account encode what lands in the bucket `uploads`.
struct Serving<'a> {
    account: &'a Account,
    data: PathBuf,
    log: PathBuf,
    port: u16,
    failures: u32,
    process: Option<Child>,
}

impl<'a> Serving<'a> {
    fn new(studio: &Studio, account: &'a Account, port: u16) -> Self {
        let [data, log] = ["data", "log"].map(|name| studio.path(&format!("{name}{port}")));
        Self { account, data, log, port, failures: 0, process: None }
    }

    fn start(&mut self) {
        let log = File::options().append(true).create(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        command.args(["serve", "--uploads", "s3://uploads", "--to", "s3://media", "--region", "us-east-1"]);
        command.args(["--endpoint", &self.account.s3, "--queue", &self.account.queue]);
        command.args(["--queue-endpoint", &self.account.s3, "--sweep", "1s", "--at-once", "3"]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--encoder", "mediaconvert"]);
        command.args(["--mediaconvert-role", "arn:aws:iam::111122223333:role/MediaConvertRole"]);
        command.args(["--mediaconvert-bucket", "s3://work", "--mediaconvert-region", "us-east-1"]);
        command.args(["--mediaconvert-endpoint", &self.account.url]);
        command.args(["--mediaconvert-bucket-endpoint", &self.account.s3]);
        command.args(["--mediaconvert-failures", &self.failures.to_string()]);
        command.arg("--data").arg(&self.data).env("REELGATE_EVENTS_TOKEN", "hush");
        command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
        command.env("REELGATE_BACKOFF", "200ms").env("REELGATE_CRASHES", "50");
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.process = Some(process);
        self.until("it answers", |serving| {
            curl().arg(serving.url("/healthz")).output().unwrap().status.success()
        });
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn jobs(&self) -> Vec<Value> {
        let answer: Value = serde_json::from_str(&printed(curl().arg(self.url("/v1/jobs")))).unwrap();
        answer["jobs"].as_array().unwrap().clone()
    }

    fn states(&self) -> Vec<String> {
        self.jobs().iter().map(|job| job["state"].as_str().unwrap().to_owned()).collect()
    }

    fn are_all(&self, count: usize, state: &str) -> bool {
        let states = self.states();
        states.len() == count && states.iter().all(|it| it == state)
    }

    fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(begun.elapsed() < Duration::from_mins(2), "not until {what}: {}", log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn what_lands_is_encoded_there_once_however_events_come_and_whenever_the_service_dies() {
    const UPLOADS: usize = 6;
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    account.faults(&["429", "429", "lost", "twice", "500", "shuffled", "away", "429", "1041"]);
    let mut serving = Serving::new(&studio, &account, free_port());
    serving.start();
    for index in 0..UPLOADS {
        account.upload(&clip, &format!("lessons/lesson%20{index}%20%C3%A9.mp4"));
    }
    serving.until("MediaConvert is asked", |_| !account.jobs().is_empty());
    for pause in [0, 400, 900, 1700] {
        serving.kill();
        serving.start();
        std::thread::sleep(Duration::from_millis(pause));
    }
    serving.until("all are done", |serving| serving.are_all(UPLOADS, "done"));
    let asked = account.jobs();
    let whose = |job: &Value| job["UserMetadata"]["job"].as_str().unwrap().to_owned();
    let paid: Vec<String> = asked.iter().filter(|job| job["Paid"] == true).map(whose).collect();
    assert_eq!((paid.len(), paid.iter().collect::<BTreeSet<_>>().len()), (UPLOADS, UPLOADS));
    // One more for the one that could not be accelerated.
    assert_eq!(asked.len(), UPLOADS + 1, "{:?}", account.states());
    let media = account.keys("media");
    let generations: BTreeSet<_> = media.iter().filter_map(|key| key.strip_suffix("/asset.json")).collect();
    assert_eq!(generations.len(), 2 * UPLOADS, "{generations:?}");
    assert_eq!((account.leftovers(), harness::files(&serving.data.join("work"))), (0, Vec::new()));
    let playlists = media.iter().filter(|key| key.ends_with("/index.m3u8") && key.split('/').count() == 3);
    for playlist in playlists {
        let name = studio.path("index.m3u8");
        printed(curl().arg("-o").arg(&name).arg(format!("{}/media/{playlist}", account.s3)));
        assert!(std::fs::read_to_string(&name).unwrap().contains("RESOLUTION=160x90"));
    }
}

#[test]
fn its_events_may_be_posted_and_are_heard_at_once() {
    let studio = Studio::new();
    let port = free_port();
    let settings = serde_json::json!({"events": format!("http://127.0.0.1:{port}/v1/events?token=hush")});
    std::fs::write(studio.path("settings.json"), settings.to_string()).unwrap();
    let account = Account::with(&[studio.path("settings.json").as_os_str()]);
    let clip = studio.clip("clip.mp4", CLIP);
    account.faults(&["shuffled"]);
    let mut serving = Serving::new(&studio, &account, port);
    serving.start();
    account.upload(&clip, "lesson.mp4");
    serving.until("it is complete", |_| account.states() == ["COMPLETE"]);
    let begun = Instant::now();
    serving.until("it is fetched", |_| account.leftovers() == 0);
    // It asks by itself after 5 s at the earliest.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    serving.until("it is done", |serving| serving.are_all(1, "done"));
    assert_eq!(account.states(), ["COMPLETE"]);
    let published = account.keys("media");

    // A copy that comes to it after this one died, as it had published it and told nobody.
    serving.kill();
    for key in published.iter().filter(|key| key.starts_with("jobs/")) {
        printed(curl().args(["-X", "DELETE"]).arg(format!("{}/media/{key}", account.s3)));
    }
    let mut other = Serving::new(&studio, &account, free_port());
    other.start();
    other.until("it knows", |other| other.are_all(1, "done"));
    assert_eq!((account.states(), account.keys("media")), (vec!["COMPLETE".to_owned()], published));
}

#[test]
fn a_job_is_cancelled_by_any_copy_whoever_does_it() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    account.faults(&["hang"]);
    let mut copies = [(); 2].map(|()| Serving::new(&studio, &account, free_port()));
    copies[0].start();
    account.upload(&clip, "lesson.mp4");
    copies[0].until("it is begun", |_| account.states() == ["PROGRESSING"]);
    copies[1].start();
    let reason = |copy: &Serving| copy.jobs().first().map(|job| job["reason"].to_string());
    copies[1].until("it knows", |copy| reason(copy).is_some_and(|it| it.contains("another copy")));
    let id = copies[1].jobs()[0]["id"].as_str().unwrap().to_owned();
    printed(curl().args(["-X", "DELETE"]).arg(copies[1].url(&format!("/v1/jobs/{id}"))));
    assert!(copies[1].are_all(1, "cancelled"));
    copies[0].until("it hears of it", |copy| copy.are_all(1, "cancelled"));
    copies[0].until("nothing is left", |_| account.states() == ["CANCELED"] && account.leftovers() == 0);
    assert!(account.keys("media").iter().all(|key| key.starts_with("jobs/")));
}

#[test]
fn who_cancels_a_job_of_the_service_stops_it_there_too() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    account.faults(&["hang"]);
    let mut serving = Serving::new(&studio, &account, free_port());
    serving.start();
    account.upload(&clip, "lesson.mp4");
    serving.until("it is begun", |_| account.states() == ["PROGRESSING"]);
    // It is known after a restart, too.
    serving.kill();
    serving.start();
    let id = serving.jobs()[0]["id"].as_str().unwrap().to_owned();
    serving.until("it goes on", |serving| serving.jobs()[0]["outside"].is_string());
    printed(curl().args(["-X", "DELETE"]).arg(serving.url(&format!("/v1/jobs/{id}"))));
    serving.until("it is stopped", |_| account.states() == ["CANCELED"] && account.leftovers() == 0);
    assert!(serving.are_all(1, "cancelled"));
    let assets = |_: &Serving| account.keys("media").iter().any(|key| key.starts_with("assets/"));
    serving.until("nothing is left", |serving| !assets(serving));
    serving.until("its folder is gone", |serving| harness::files(&serving.data.join("work")).is_empty());
}

#[test]
fn where_it_fails_ffmpeg_encodes_and_who_may_not_write_is_told() {
    let (studio, account) = (Studio::new(), Account::new());
    let clip = studio.clip("clip.mp4", CLIP);
    account.faults(&["1999", "3450"]);
    let mut serving = Serving::new(&studio, &account, free_port());
    serving.failures = 1;
    serving.start();
    account.upload(&clip, "one.mp4");
    serving.until("one is done", |serving| serving.are_all(1, "done"));
    serving.kill();
    serving.failures = 0;
    serving.start();
    account.upload(&clip, "two.mp4");
    serving.until("two is given up", |serving| serving.states().contains(&"failed".to_owned()));
    let reason = serving.jobs()[0]["reason"].to_string();
    assert!(reason.contains("error 3450): S3 Write Error: Access Denied"), "{reason}");
    assert_eq!(account.states(), ["ERROR", "ERROR"]);
    serving.until("nothing is left", |_| account.leftovers() == 0);
}
