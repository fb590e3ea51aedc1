//! `transcoder serve`, killed and stopped at any moment, and with whatever can be uploaded.

#[allow(clippy::duplicate_mod, reason = "every test file has its own")]
mod harness;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::{Studio, any_extension, files, printed};
use transcoder::jobs::{Filter, Job, Jobs, State};

/// Longer than anything takes on a slow machine.
const PATIENCE: Duration = Duration::from_mins(5);

/// The folders of a service.
struct Place {
    studio: Studio,
}

/// A running service, which is killed when it goes out of scope.
struct Running {
    process: Child,
}

impl Place {
    fn new() -> Self {
        let studio = Studio::new();
        fs::create_dir(studio.path("uploads")).unwrap();
        Self { studio }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.studio.path(name)
    }

    /// Has ffmpeg make a video, and moves it in when it is complete.
    fn upload(&self, name: &str, arguments: &str) {
        let clip = self.studio.clip(name, arguments);
        fs::rename(clip, self.path("uploads").join(name)).unwrap();
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        command.arg(name).arg("--data").arg(self.path("data"));
        command
    }

    fn serve(&self, more: &[&str]) -> Command {
        let mut command = self.command("serve");
        command.arg("--uploads").arg(self.path("uploads")).arg("--to").arg(self.path("media"));
        command.args(["--listen", "127.0.0.1:0", "--sweep", "1s", "--backoff", "100ms"]).args(more);
        let log = File::options().create(true).append(true).open(self.path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    fn start(&self, more: &[&str]) -> Running {
        Running { process: self.serve(more).spawn().unwrap() }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Of the API that was last started, or nothing while it is starting.
    fn address(&self) -> Option<String> {
        let lines: Vec<String> =
            BufReader::new(File::open(self.path("log")).ok()?).lines().map_while(Result::ok).collect();
        let line = lines.into_iter().rev().find(|line| line.contains("serving http://"))?;
        line.split("serving ").nth(1)?.split_whitespace().next().map(ToOwned::to_owned)
    }

    async fn jobs(&self) -> Vec<Job> {
        let path = self.path("data/jobs.sqlite");
        if !path.exists() {
            return Vec::new();
        }
        let jobs = Jobs::attach(&path).await.unwrap();
        jobs.list(&Filter { limit: 500, ..Filter::default() }).await.unwrap()
    }

    /// The jobs, once they are as they should be.
    async fn jobs_once(&self, are_so: impl Fn(&[Job]) -> bool) -> Vec<Job> {
        let begun = Instant::now();
        loop {
            let jobs = self.jobs().await;
            if are_so(&jobs) {
                return jobs;
            }
            assert!(begun.elapsed() < PATIENCE, "{jobs:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Folders in which jobs are being done.
    fn work(&self) -> Vec<PathBuf> {
        let found = fs::read_dir(self.path("data/work")).into_iter().flatten();
        found.map(|entry| entry.unwrap().path()).collect()
    }

    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < PATIENCE, "{what}: never\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Processes that have something of this place on their command line.
    fn processes(&self) -> Vec<String> {
        let place = self.path("").display().to_string();
        let found = fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let line = fs::read(entry.unwrap().path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(place.trim_end_matches('/')).then_some(line)
        });
        found.collect()
    }

    /// That an asset is published whole, once, and plays; and nothing else of it is there.
    fn plays(&self, asset: &str, seconds: f64) {
        let folder = self.path("media/assets").join(asset);
        let index = folder.join("index.m3u8");
        let described: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.join("asset.json")).unwrap()).unwrap();
        let generation = described["generation"].as_str().unwrap();
        let playlist = fs::read_to_string(&index).unwrap();
        let links = playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        for link in links {
            assert!(link.starts_with(generation), "{link} is not of {generation}");
        }
        let folders: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        assert_eq!(folders, [folder.join(generation)]);

        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-v", "error", "-xerror", "-nostdin"]).args(any_extension(&index)).arg("-i").arg(&index);
        ffmpeg.args(["-map", "0:v:0", "-map", "0:a:0", "-f", "null", "-progress", "-", "-"]);
        let output = ffmpeg.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        let progress = String::from_utf8(output.stdout).unwrap();
        let played =
            progress.lines().filter_map(|line| line.strip_prefix("out_time_us=")).next_back().unwrap();
        let played = played.parse::<f64>().unwrap() / 1e6;
        assert!((played - seconds).abs() < 0.2, "{played} s of {seconds} s");
        let lint = Command::new(env!("CARGO_BIN_EXE_transcoder")).arg("lint").arg(&index).output().unwrap();
        assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
    }
}

impl Running {
    fn signal(&self, name: &str) {
        printed(Command::new("kill").arg(format!("-{name}")).arg(self.process.id().to_string()));
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn ended(&mut self) -> std::process::ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

const CLIP: &str =
    "-f lavfi -i testsrc2=s=640x360:r=30:d=8 -f lavfi -i sine=440:r=48000:d=8 -c:v libx264 -c:a aac";
const LONG: &str =
    "-f lavfi -i testsrc2=s=1280x720:r=30:d=20 -f lavfi -i sine=440:r=48000:d=20 -c:v libx264 -c:a aac";

#[tokio::test]
async fn killed_at_any_moment_it_loses_nothing_and_does_nothing_twice() {
    let place = Place::new();
    place.upload("one.mp4", CLIP);
    place.upload("two.mp4", CLIP);
    let settings = ["--at-once", "2", "--crashes", "1000000"];
    // Moments all over what takes about four seconds, never the same ones: multiples of the golden ratio.
    for round in 1..=25_u32 {
        let moment = (f64::from(round) * 0.618_034).fract();
        let running = place.start(&settings);
        tokio::time::sleep(Duration::from_secs_f64(0.2 + 3.8 * moment)).await;
        running.kill();
        let jobs = place.jobs().await;
        assert!(jobs.iter().all(|job| job.state != State::Failed), "{jobs:#?}\n{}", place.log());
    }
    let running = place.start(&settings);
    let jobs =
        place.jobs_once(|jobs| jobs.len() >= 2 && jobs.iter().all(|job| job.state == State::Done)).await;
    assert_eq!(jobs.len(), 2);
    place.until("cleared away", || place.work().is_empty()).await;
    place.plays("one", 8.0);
    place.plays("two", 8.0);
    running.kill();
    place.until("no process left", || place.processes().is_empty()).await;
    let uploads: Vec<_> = files(&place.path("uploads"));
    assert_eq!(uploads.len(), 2, "{uploads:?}");
}

#[tokio::test]
async fn a_job_under_which_the_service_always_dies_is_given_up_and_the_others_are_not() {
    let place = Place::new();
    place.upload("deadly.mp4", LONG);
    for round in 1..=3 {
        let running = place.start(&["--at-once", "1"]);
        place.until("begun", || place.log().matches(": begun").count() == round).await;
        place.jobs_once(|jobs| jobs.iter().any(|job| job.state == State::Encoding)).await;
        running.kill();
    }
    let _running = place.start(&["--at-once", "1"]);
    place.upload("harmless.mp4", CLIP);
    let ended = |jobs: &[Job]| jobs.len() == 2 && jobs.iter().all(|job| job.state.is_final());
    let jobs = place.jobs_once(ended).await;
    let by = |name: &str| jobs.iter().find(|job| job.upload.name == name).unwrap();
    assert_eq!(by("deadly.mp4").state, State::Failed);
    let reason = by("deadly.mp4").reason.clone().unwrap();
    assert!(reason.contains("the service died 3 times"), "{reason}");
    assert_eq!(by("harmless.mp4").state, State::Done);
    place.until("cleared away", || place.work().is_empty()).await;
}

#[tokio::test]
async fn asked_to_end_it_stops_what_runs_and_goes_on_later() {
    let place = Place::new();
    place.upload("long.mp4", LONG);
    let mut running = place.start(&[]);
    place.jobs_once(|jobs| jobs.iter().any(|job| job.state == State::Encoding)).await;
    let begun = Instant::now();
    running.signal("TERM");
    assert!(running.ended().success(), "{}", place.log());
    assert!(begun.elapsed() < Duration::from_secs(20));
    place.until("no process left", || place.processes().is_empty()).await;
    let jobs = place.jobs().await;
    assert_eq!((jobs.len(), jobs[0].state, jobs[0].attempts), (1, State::Queued, 0), "{jobs:#?}");

    let _running = place.start(&[]);
    place.jobs_once(|jobs| jobs.iter().all(|job| job.state == State::Done)).await;
    place.plays("long", 20.0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let place = Place::new();
    place.upload("long.mp4", LONG);
    let mut running = place.start(&["--grace", "1h"]);
    place.jobs_once(|jobs| jobs.iter().any(|job| job.state == State::Encoding)).await;
    running.signal("TERM");
    tokio::time::sleep(Duration::from_millis(10)).await;
    running.signal("TERM");
    let begun = Instant::now();
    running.ended();
    assert!(begun.elapsed() < Duration::from_secs(5));
    place.until("no process left", || place.processes().is_empty()).await;
}

#[tokio::test]
async fn cancelled_it_stops_ffmpeg_and_leaves_no_files() {
    let place = Place::new();
    place.upload("long.mp4", LONG);
    let _running = place.start(&[]);
    let jobs = place.jobs_once(|jobs| jobs.iter().any(|job| job.state == State::Encoding)).await;
    let url = format!("{}/v1/jobs/{}", place.address().unwrap(), jobs[0].id);
    let client = reqwest::Client::new();
    assert_eq!(client.delete(&url).send().await.unwrap().status(), 202);
    place.jobs_once(|jobs| jobs.iter().all(|job| job.state == State::Cancelled)).await;
    place.until("cleared away", || place.work().is_empty()).await;
    place.until("ffmpeg ended", || place.processes().len() == 1).await;
    assert_eq!(files(&place.path("media")), Vec::<PathBuf>::new());
    assert_eq!(client.delete(&url).send().await.unwrap().status(), 409);
    // The sweep sees it again, and it stays cancelled.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let jobs = place.jobs().await;
    assert_eq!((jobs.len(), jobs[0].state), (1, State::Cancelled));
}

#[tokio::test]
async fn whatever_is_uploaded_the_service_says_why_it_cannot_be_encoded_and_goes_on() {
    let place = Place::new();
    let clip = fs::read(place.studio.clip("clip.mp4", CLIP)).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(place.path("uploads").join(name), bytes).unwrap();
    write("truncated.mp4", &clip[..clip.len() / 2]);
    write("nothing.mp4", b"");
    write("text.mp4", b"Dear diary, this is not a video.\n");
    write("picture.svg", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>");
    write("drawing.mp4", b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>");
    write("playlist.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n");
    write("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.ts\n#EXT-X-ENDLIST\n");
    write("a\nb.mp4", &clip);
    let huge = "-f lavfi -i color=s=10000x10000:d=0.1:r=10";
    place.upload("huge.png", &format!("{huge} -frames:v 1"));
    place.upload("huge.mkv", &format!("{huge} -frames:v 1 -c:v mjpeg"));
    place.upload(
        "many.mkv",
        &format!("PICTURE SOUND -map 0:v {} -c:v libx264 -c:a aac", "-map 1:a ".repeat(63)),
    );
    let before = files(&place.path("uploads"));

    let _running = place.start(&["--at-once", "2"]);
    let bad = |jobs: &[Job]| jobs.len() >= 11 && jobs.iter().all(|job| job.state.is_final());
    place.jobs_once(bad).await;
    place.upload("good.mp4", CLIP);
    let is_done = |job: &Job| job.upload.name == "good.mp4" && job.state == State::Done;
    let jobs = place.jobs_once(|jobs| jobs.iter().any(is_done)).await;
    assert!(
        jobs.iter().any(|job| job.reason.as_ref().is_some_and(|reason| reason.contains("control character")))
    );
    for job in &jobs {
        let reason = job.reason.clone().unwrap_or_default();
        println!("{:?} {:?}: {reason}", job.upload.name, job.state);
        // Of many streams as many are made as anybody can choose from.
        let is_good = ["good.mp4", "many.mkv"].contains(&job.upload.name.as_str());
        assert_eq!(job.state, if is_good { State::Done } else { State::Failed }, "{}", job.upload.name);
        let has_bad_name = job.upload.name == "a\\nb.mp4";
        assert_eq!(job.attempts, u32::from(!has_bad_name), "{}", job.upload.name);
        let is_readable = reason.len() > 20 && reason.len() < 400 && !reason.contains("data/work");
        assert!(is_good || is_readable, "{reason}");
    }
    place.plays("good", 8.0);
    let mut after = files(&place.path("uploads"));
    after.retain(|path| !path.ends_with("good.mp4"));
    assert_eq!(after, before);
    place.until("cleared away", || place.work().is_empty()).await;
}

#[tokio::test]
async fn a_dead_letter_is_delivered_once_more_when_somebody_says_so() {
    let place = Place::new();
    fs::write(place.path("uploads/text.mp4"), "no video").unwrap();
    let failed = |jobs: &[Job]| jobs.iter().any(|job| job.state == State::Failed);
    let running = place.start(&[]);
    let first = place.jobs_once(failed).await;
    let listed = place.command("retry").output().unwrap();
    assert!(text(&listed).contains("text.mp4"), "{}", text(&listed));
    let again = place.command("retry").arg("--all").output().unwrap();
    assert_eq!(text(&again), "1 job is queued again\n");
    let second = place.jobs_once(|jobs| failed(jobs) && jobs[0].updated > first[0].updated).await;
    assert_eq!(second.len(), 1);
    assert_ne!(second[0].generation, first[0].generation);
    running.kill();
    let again = place.command("retry").arg(second[0].id.to_string()).output().unwrap();
    assert!(again.status.success());
    assert_eq!(place.jobs().await[0].state, State::Queued);
    let wrong = place.command("retry").arg(second[0].id.to_string()).output().unwrap();
    assert!(text(&wrong).contains("is not known, or did not fail"), "{}", text(&wrong));
}

#[tokio::test]
async fn a_second_service_does_not_start_on_the_same_folder() {
    let place = Place::new();
    let _running = place.start(&[]);
    place.until("started", || place.address().is_some()).await;
    let mut second = place.serve(&["--encoder", "mediaconvert"]);
    let output = second.stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success());
    let said = text(&output);
    for expected in ["in use by another `transcoder serve`", "--mediaconvert-role"] {
        assert!(said.contains(expected), "{said}");
    }
}

#[tokio::test]
async fn an_upload_that_is_replaced_is_encoded_as_it_is_last() {
    let place = Place::new();
    place.upload("film.mp4", LONG);
    let _running = place.start(&["--at-once", "1"]);
    place.jobs_once(|jobs| jobs.iter().any(|job| job.state == State::Encoding)).await;
    place.upload("film.mp4", CLIP);
    let ended = |jobs: &[Job]| jobs.len() == 2 && jobs.iter().all(|job| job.state.is_final());
    let jobs = place.jobs_once(ended).await;
    assert_eq!(jobs[0].state, State::Done, "{jobs:#?}");
    let index = fs::read_to_string(place.path("media/assets/film/index.m3u8")).unwrap();
    assert!(index.contains(&jobs[0].generation.as_ref().unwrap().to_string()), "{index}");
    assert!(Path::new(&place.path("uploads/film.mp4")).exists());
}
