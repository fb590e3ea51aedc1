//! Encodes with AWS Elemental MediaConvert, and takes over what it makes, so that nobody can tell.
//!
//! ```text
//! source ─▶ bucket ─▶ CreateJob ─▶ GetJob … ─▶ bucket ─▶ 360p.mp4, audio.mp4 … ─▶ as with ffmpeg
//!                     once         hints         one file   ffmpeg, copying
//!                                                a track
//! ```
//!
//! MediaConvert only takes the place of ffmpeg's encoding. What it leaves becomes the same files, of which the same
//! packager makes segments and playlists, measures, and draws the poster and the storyboard: its frame captures, which
//! cost extra, are not asked for. Captions are text, and are taken out of the source here.
//!
//! A job that was asked for is paid for, so it is asked for once: its name is written down as soon as it is known, and
//! where that was lost, jobs for the same source are searched for ours. `ClientRequestToken` closes the gap between the
//! two, which is less than the minute that it lasts. The process may end at any time; the job goes on, and is found
//! again. Events are hints to ask at once how a job is ([`MediaConvert::hint`]), and asking now and then makes up for
//! those that are lost, so that it does not matter how often, how late and in which order they come.

mod api;
mod codes;
mod remux;
pub mod settings;
mod transfer;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio::time::sleep;

use self::api::{Api, Report, State};
use self::settings::Order;
use self::transfer::Place;
use super::ffmpeg;
use crate::asset::{self, AssetId};
use crate::plan::{Options, Plan};
use crate::{Class, Progress};

/// What is known of a job beyond this process, in its folder.
pub(crate) const RECORD: &str = "mediaconvert.json";

/// How to reach MediaConvert.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Settings {
    /// ARN of the role with which MediaConvert reads and writes the bucket
    #[arg(
        id = "mediaconvert_role",
        long = "mediaconvert-role",
        env = "REELGATE_MEDIACONVERT_ROLE",
        value_name = "ARN"
    )]
    pub role: Option<String>,

    /// Its queue, by name or ARN [default: the account's own]
    #[arg(
        id = "mediaconvert_queue",
        long = "mediaconvert-queue",
        env = "REELGATE_MEDIACONVERT_QUEUE",
        value_name = "QUEUE"
    )]
    pub queue: Option<String>,

    /// Where it reads sources and leaves what it made, for as long as a job takes: `s3://BUCKET[/PREFIX]`
    #[arg(
        id = "mediaconvert_bucket",
        long = "mediaconvert-bucket",
        env = "REELGATE_MEDIACONVERT_BUCKET",
        value_name = "PLACE"
    )]
    pub bucket: Option<String>,

    /// The region of all of these [default: the queue's, or AWS's usual settings]
    #[arg(
        id = "mediaconvert_region",
        long = "mediaconvert-region",
        env = "REELGATE_MEDIACONVERT_REGION",
        value_name = "REGION"
    )]
    pub region: Option<String>,

    /// Its API, where it is not the region's own
    #[arg(
        id = "mediaconvert_endpoint",
        long = "mediaconvert-endpoint",
        env = "REELGATE_MEDIACONVERT_ENDPOINT",
        value_name = "URL"
    )]
    pub endpoint: Option<String>,

    /// The S3 API of its bucket, where it is not the region's own
    #[arg(
        id = "mediaconvert_bucket_endpoint",
        long = "mediaconvert-bucket-endpoint",
        env = "REELGATE_MEDIACONVERT_BUCKET_ENDPOINT",
        value_name = "URL"
    )]
    pub bucket_endpoint: Option<String>,

    /// After so many failures that are not the source's, ffmpeg encodes instead; never where it is 0
    #[arg(
        id = "mediaconvert_failures",
        long = "mediaconvert-failures",
        env = "REELGATE_MEDIACONVERT_FAILURES",
        value_name = "N",
        default_value_t = 0
    )]
    pub failures: u32,

    /// An access key for MediaConvert and its bucket, where AWS's usual settings are for another store
    #[arg(
        id = "mediaconvert_access_key_id",
        long = "mediaconvert-access-key-id",
        env = "REELGATE_MEDIACONVERT_ACCESS_KEY_ID",
        value_name = "ID",
        requires = "mediaconvert_secret_access_key"
    )]
    pub access_key_id: Option<String>,

    /// Its secret
    #[arg(
        id = "mediaconvert_secret_access_key",
        long = "mediaconvert-secret-access-key",
        env = "REELGATE_MEDIACONVERT_SECRET_ACCESS_KEY",
        value_name = "SECRET",
        hide_env_values = true
    )]
    pub secret_access_key: Option<Secret>,

    /// How long things are waited for.
    #[arg(skip)]
    pub times: Times,
}

/// What is in no log.
#[derive(Clone)]
pub struct Secret(String);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

/// An access key.
#[derive(Clone, Debug)]
struct Keys {
    id: String,
    secret: Secret,
}

/// How long things are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From one question how a job is to the next.
    pub poll: Duration,
    /// Where they come too often.
    pub throttled: Duration,
    /// For a job that does not get on.
    pub stalled: Duration,
    /// For one that waits in its queue.
    pub queued: Duration,
    /// After a failure, twice as long after each further one.
    pub pause: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(10),
            throttled: Duration::from_secs(15),
            stalled: Duration::from_mins(30),
            queued: Duration::from_hours(12),
            pause: Duration::from_secs(20),
        }
    }
}

/// MediaConvert, as an account has it.
#[derive(Debug)]
pub struct MediaConvert {
    api: Api,
    place: Place,
    role: String,
    queue: Option<String>,
    failures: u32,
    times: Times,
    /// Who waits for which of its jobs.
    waiting: Mutex<HashMap<String, Arc<Notify>>>,
}

impl MediaConvert {
    /// With what is set. Asks nobody for anything yet.
    pub async fn open(settings: &Settings) -> Result<Arc<Self>, Error> {
        let needed = |value: &Option<String>, name| value.clone().ok_or(Error::Unset(name));
        let role = needed(&settings.role, "--mediaconvert-role")?;
        let bucket = needed(&settings.bucket, "--mediaconvert-bucket")?;
        let keys = settings.access_key_id.clone().zip(settings.secret_access_key.clone());
        let keys = keys.map(|(id, secret)| Keys { id, secret });
        // arn:aws:mediaconvert:eu-west-1:111122223333:queues/Default
        let of_queue = settings.queue.as_deref().filter(|queue| queue.starts_with("arn:"));
        let of_queue = of_queue.and_then(|arn| arn.split(':').nth(3));
        let region = settings.region.as_deref().or(of_queue);
        let (api, region) = Api::open(region, settings.endpoint.as_deref(), keys.as_ref()).await?;
        let place = Place::open(&bucket, settings.bucket_endpoint.as_deref(), &region, keys.as_ref())?;
        Ok(Arc::new(Self {
            api,
            place,
            role,
            queue: settings.queue.clone(),
            failures: settings.failures,
            times: settings.times,
            waiting: Mutex::default(),
        }))
    }

    /// One thing to encode. `id` tells it from all others, for ever; `source` is where it lies if MediaConvert can read
    /// it there.
    #[must_use]
    pub fn errand(self: &Arc<Self>, asset: &AssetId, id: &str, source: Option<String>) -> Arc<Errand> {
        let service = Arc::clone(self);
        let (asset, id) = (asset.clone(), id.to_owned());
        Arc::new(Errand { service, asset, id, source, by_ffmpeg: AtomicBool::new(false) })
    }

    /// Whether it answers, and its bucket can be written to and cleaned up; in words. Whether the role is good for it
    /// shows only in a job, which costs.
    pub async fn check(&self) -> Result<String, Error> {
        self.api.find("0000000000000-000000").await?;
        let file = tempfile::NamedTempFile::new().map_err(|error| Error::file(Path::new("TMPDIR"), error))?;
        let name = format!("check-{:08x}", asset::nonce());
        self.place.put(&format!("{name}/empty"), file.path()).await?;
        self.place.clear(&name).await?;
        Ok(format!(
            "answers, and {} can be written to; {} is tried by the first job",
            self.place.uri(""),
            self.role
        ))
    }

    /// Somebody says that this job of MediaConvert's changed: whoever waits for it asks at once.
    pub fn hint(&self, job: &str) {
        if let Some(waiting) = self.waiting().get(job) {
            waiting.notify_one();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An id for a file that is encoded by hand: what makes another of it is another one.
pub fn id(input: &Path, asset: &AssetId, options: &Options) -> Result<String, Error> {
    let metadata = std::fs::metadata(input).map_err(|error| Error::file(input, error))?;
    let modified = metadata.modified().map_err(|error| Error::file(input, error))?;
    let modified = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = input.file_name().map(OsStr::to_string_lossy);
    let what = serde_json::json!([name, metadata.len(), modified, asset, options]);
    let digest = Sha256::digest(what.to_string());
    let id = digest.iter().take(16).fold(0, |id, byte| id << 8 | u128::from(*byte));
    Ok(format!("{id:032x}"))
}

/// One thing to encode.
#[derive(Debug)]
pub struct Errand {
    service: Arc<MediaConvert>,
    asset: AssetId,
    id: String,
    source: Option<String>,
    by_ffmpeg: AtomicBool,
}

/// What is known of it beyond this process.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Record {
    /// How often it was asked for, the next time among them.
    attempt: u32,
    /// MediaConvert's name of the job that was asked for.
    job: Option<String>,
    /// Whether it may be spread over many machines.
    is_accelerated: bool,
    /// How often it failed.
    failures: u32,
    /// Whether all of it lies in the folder.
    is_taken: bool,
}

impl Default for Record {
    fn default() -> Self {
        Self { attempt: 1, job: None, is_accelerated: true, failures: 0, is_taken: false }
    }
}

impl Record {
    /// What cannot be read is as good as not there: the job is searched for then.
    fn read(folder: &Path) -> Self {
        let text = std::fs::read(folder.join(RECORD)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn write(&self, folder: &Path) -> Result<(), Error> {
        let path = folder.join(RECORD);
        let written = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            serde_json::to_writer(&mut file, self)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        written().map_err(|error| Error::file(&path, error))
    }

    /// The next time is another one.
    fn again(&mut self) {
        self.attempt += 1;
        self.job = None;
    }
}

/// What to do where the name of the job is not known, by the jobs there are for its source.
#[derive(Debug, Eq, PartialEq)]
enum Found {
    /// Wait for this one.
    Job { job: String, attempt: u32 },
    /// Ask for one, as this attempt.
    None { attempt: u32 },
}

fn decide(reports: &[Report], id: &str, attempt: u32) -> Found {
    let ours = || reports.iter().filter(|report| report.ours.as_deref() == Some(id));
    let is_of_use = |report: &&Report| match report.state {
        State::Waiting | State::Running { .. } => true,
        // What an earlier attempt left may not be there any more.
        State::Complete => report.attempt >= attempt,
        State::Cancelled | State::Failed { .. } => false,
    };
    if let Some(report) = ours().filter(is_of_use).max_by_key(|report| report.attempt) {
        return Found::Job { job: report.job.clone(), attempt: report.attempt };
    }
    let next = ours().map(|report| report.attempt + 1).max().unwrap_or_default();
    Found::None { attempt: attempt.max(next) }
}

impl Errand {
    /// Whether it was ffmpeg that encoded it.
    pub(super) fn is_by_ffmpeg(&self) -> bool {
        self.by_ffmpeg.load(Ordering::Relaxed)
    }

    /// Whether it was, or will be.
    pub(super) fn is_for_ffmpeg(&self, plan: &Plan) -> bool {
        self.is_by_ffmpeg() || settings::unsuited(plan).is_some()
    }

    /// The job that would be asked for, as the AWS CLI takes it.
    pub(super) fn job(&self, plan: &Plan, options: &Options) -> String {
        let source = self.source_uri(plan);
        let job =
            settings::job(&self.order(&Record::default(), &source, &self.destination(1)), plan, options);
        format!("{job:#}")
    }

    pub(super) async fn encode(
        &self,
        plan: &Plan,
        options: &Options,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(), super::Error> {
        let service = &self.service;
        let mut record = Record::read(folder);
        if record.is_taken && tracks(plan).all(|name| folder.join(super::track_file(name)).is_file()) {
            self.clear(&record).await;
            return Ok(());
        }
        record.is_taken = false;
        if let Some(reason) = settings::unsuited(plan) {
            tracing::info!(job = self.id, reason, "encoded by ffmpeg instead of MediaConvert");
            self.by_ffmpeg.store(true, Ordering::Relaxed);
            return ffmpeg::encode(plan, options, folder, progress).await;
        }
        loop {
            let may_fall_back = service.failures > 0;
            if may_fall_back && record.failures >= service.failures {
                tracing::warn!(
                    job = self.id,
                    failures = record.failures,
                    "ffmpeg takes over from MediaConvert"
                );
                return self.fall_back(plan, options, folder, progress).await;
            }
            let error = match self.attempt(&mut record, plan, options, folder, progress).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.is_of_acceleration() && record.is_accelerated {
                tracing::info!(job = self.id, %error, "asked for again without acceleration");
                record.is_accelerated = false;
                record.again();
                record.write(folder)?;
                continue;
            }
            if error.has_ended() {
                record.again();
            }
            let class = error.class();
            // Here it is for others to do something; and there another request would find the same.
            if matches!(class, Class::Source | Class::Stopped | Class::Full) {
                record.write(folder)?;
                return Err(error.into());
            }
            record.failures += 1;
            record.write(folder)?;
            if !may_fall_back {
                return Err(error.into());
            }
            tracing::warn!(job = self.id, %error, failures = record.failures, "MediaConvert failed");
            if class == Class::Settings {
                record.failures = service.failures;
            } else if record.failures < service.failures {
                sleep(jittered(service.times.pause.saturating_mul(1 << (record.failures - 1).min(6)))).await;
            }
        }
    }

    /// It is not wanted any more: stops what goes on of it, and removes what was put into the bucket. Errors are those
    /// of others' machines, whose jobs and files may then be left; a rule for the bucket that removes what is old does
    /// the rest.
    pub async fn abandon(&self) -> Result<(), Error> {
        let stopped = self.stop().await;
        let cleared = self.service.place.clear(&self.id).await;
        stopped.and(cleared)
    }

    async fn stop(&self) -> Result<(), Error> {
        for report in self.service.api.search(&self.search()).await? {
            let is_ours = report.ours.as_deref() == Some(&self.id);
            if is_ours && matches!(report.state, State::Waiting | State::Running { .. }) {
                self.service.api.cancel(&report.job).await?;
            }
        }
        Ok(())
    }

    /// One job, from its source to its tracks.
    async fn attempt(
        &self,
        record: &mut Record,
        plan: &Plan,
        options: &Options,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Error> {
        let service = &self.service;
        let job = if let Some(job) = &record.job {
            job.clone()
        } else {
            let job = self.submit(record, plan, options).await?;
            record.job = Some(job.clone());
            record.write(folder)?;
            job
        };
        tracing::info!(
            job = self.id,
            mediaconvert = job,
            attempt = record.attempt,
            "waiting for MediaConvert"
        );
        progress.outside(&job);
        self.wait(&job, plan, progress).await?;
        let cut =
            |name: &str| format!("{}/{}/index{}.m3u8", self.id, record.attempt, settings::modifier(name));
        remux::take_over(&service.place, &cut, plan, options, folder).await?;
        record.is_taken = true;
        record.write(folder)?;
        self.clear(record).await;
        progress.encoded(plan.duration, plan.duration);
        Ok(())
    }

    /// The job that there is already, or a new one.
    async fn submit(&self, record: &mut Record, plan: &Plan, options: &Options) -> Result<String, Error> {
        let service = &self.service;
        let reports = service.api.search(&self.search()).await?;
        match decide(&reports, &self.id, record.attempt) {
            Found::Job { job, attempt } => {
                record.attempt = attempt;
                return Ok(job);
            }
            Found::None { attempt } => record.attempt = attempt,
        }
        if self.source.is_none() {
            service.place.put(&self.source_name(plan), &plan.input).await?;
        }
        let (source, destination) = (self.source_uri(plan), self.destination(record.attempt));
        let job = settings::job(&self.order(record, &source, &destination), plan, options);
        service.api.create(&settings::wire(&job)).await
    }

    /// Until it is complete.
    async fn wait(&self, job: &str, plan: &Plan, progress: &dyn Progress) -> Result<(), Error> {
        let (service, times) = (&self.service, &self.service.times);
        let waiting = Waiting::new(service, job);
        let mut last = (None, Instant::now());
        let mut furthest = 0;
        loop {
            let (mut pause, mut patience) = (times.poll, times.stalled);
            match service.api.find(job).await {
                Ok(None) => return Err(Error::Gone { job: job.to_owned() }),
                Ok(Some(report)) => {
                    match &report.state {
                        State::Complete => return Ok(()),
                        State::Cancelled => return Err(Error::Cancelled { job: job.to_owned() }),
                        State::Failed { code, message } => {
                            let (code, message) = (*code, message.clone());
                            return Err(Error::Failed { job: job.to_owned(), code, message });
                        }
                        State::Waiting => patience = times.queued,
                        State::Running { percent, .. } => {
                            furthest = furthest.max((*percent).min(100));
                            progress.encoded(plan.duration * furthest / 100, plan.duration);
                        }
                    }
                    if last.0.as_ref() != Some(&report.state) {
                        last = (Some(report.state), Instant::now());
                    }
                }
                // It goes on whether or not anybody is told.
                Err(error @ Error::Api { class: Class::Settings, .. }) => return Err(error),
                Err(Error::Api { is_throttled: true, .. }) => pause = times.throttled,
                Err(error) => tracing::warn!(job = self.id, mediaconvert = job, %error, "asked in vain"),
            }
            if last.1.elapsed() > patience {
                service.api.cancel(job).await?;
                return Err(Error::Stalled { job: job.to_owned(), after: last.1.elapsed() });
            }
            tokio::select! {
                () = sleep(jittered(pause)) => {}
                () = waiting.notify.notified() => {}
            }
        }
    }

    async fn fall_back(
        &self,
        plan: &Plan,
        options: &Options,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(), super::Error> {
        self.by_ffmpeg.store(true, Ordering::Relaxed);
        if let Err(error) = self.abandon().await {
            tracing::warn!(job = self.id, %error, "what was put there for MediaConvert, or goes on there, is left");
        }
        ffmpeg::encode(plan, options, folder, progress).await
    }

    /// What is left over costs a little; what fails for it costs the whole.
    async fn clear(&self, record: &Record) {
        if let Err(error) = self.service.place.clear(&self.id).await {
            tracing::warn!(job = self.id, attempt = record.attempt, %error, "what MediaConvert made is left");
        }
    }

    fn order<'a>(&'a self, record: &Record, source: &'a str, destination: &'a str) -> Order<'a> {
        Order {
            role: &self.service.role,
            queue: self.service.queue.as_deref(),
            source,
            destination,
            asset: &self.asset,
            id: &self.id,
            attempt: record.attempt,
            is_accelerated: record.is_accelerated,
        }
    }

    fn source_name(&self, plan: &Plan) -> String {
        let extension = plan.input.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let is_plain = !extension.is_empty() && extension.bytes().all(|byte| byte.is_ascii_alphanumeric());
        format!("{}/source.{}", self.id, if is_plain { extension } else { "video" })
    }

    fn source_uri(&self, plan: &Plan) -> String {
        self.source.clone().unwrap_or_else(|| self.service.place.uri(&self.source_name(plan)))
    }

    /// What to search for: all of an address, or the part of it that is not the extension.
    fn search(&self) -> String {
        self.source.clone().unwrap_or_else(|| format!("{}/source", self.id))
    }

    fn destination(&self, attempt: u32) -> String {
        self.service.place.uri(&format!("{}/{attempt}/index", self.id))
    }
}

/// Somebody who waits for a job.
struct Waiting<'a> {
    service: &'a MediaConvert,
    job: &'a str,
    notify: Arc<Notify>,
}

impl<'a> Waiting<'a> {
    fn new(service: &'a MediaConvert, job: &'a str) -> Self {
        let notify = Arc::clone(service.waiting().entry(job.to_owned()).or_default());
        Self { service, job, notify }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.service.waiting().remove(self.job);
    }
}

/// Names of all tracks that a plan has made.
fn tracks(plan: &Plan) -> impl Iterator<Item = &str> {
    let video = plan.video.iter().flat_map(|video| video.renditions.iter().chain(&video.dense));
    video.map(|it| it.name.as_str()).chain(plan.audio.iter().map(|it| it.name.as_str()))
}

/// Between a half and the whole of it, so that many do not ask at the same moment.
fn jittered(time: Duration) -> Duration {
    time / 2 + time.mul_f64(asset::chance() / 2.0)
}

/// Why MediaConvert did not encode something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something that it needs was not said.
    #[error("MediaConvert needs {0}")]
    Unset(&'static str),
    /// Nobody said in which region.
    #[error("MediaConvert needs a region: --mediaconvert-region, or the ARN of a queue")]
    Region,
    /// Its bucket is not named as buckets are.
    #[error("`{0}` is no place for MediaConvert: name s3://bucket or s3://bucket/prefix")]
    Place(String),
    /// Its API refused something.
    #[error("MediaConvert: {action}: {reason}{}", advice(*.class))]
    Api {
        /// What was asked.
        action: &'static str,
        /// What it said.
        reason: String,
        /// What is to be done.
        class: Class,
        /// Whether it is asked too often.
        is_throttled: bool,
    },
    /// A job failed.
    #[error("MediaConvert could not encode this (job {job}, error {code}): {message}")]
    Failed {
        /// Its name for it.
        job: String,
        /// Its code.
        code: i32,
        /// What it said.
        message: String,
    },
    /// Somebody cancelled a job.
    #[error("job {job} of MediaConvert was cancelled")]
    Cancelled {
        /// Its name for it.
        job: String,
    },
    /// It does not know the job any more.
    #[error("MediaConvert does not know job {job} any more; it will be asked for again")]
    Gone {
        /// Its name for it.
        job: String,
    },
    /// A job got nowhere.
    #[error("job {job} of MediaConvert made no progress for {} s and was cancelled", .after.as_secs())]
    Stalled {
        /// Its name for it.
        job: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// Its bucket failed.
    #[error("MediaConvert's bucket {place}: {reason}")]
    Bucket {
        /// Which.
        place: String,
        /// What it said.
        reason: String,
        /// What is to be done.
        class: Class,
    },
    /// What it made is not there.
    #[error("MediaConvert said that it was done, but {uri} is not there")]
    Missing {
        /// What.
        uri: String,
    },
    /// What it wrote cannot be read.
    #[error("{playlist}, which MediaConvert wrote, is no playlist of a track")]
    Playlist {
        /// Which.
        playlist: String,
    },
    /// A file of this machine.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What it made could not be taken over.
    #[error("what MediaConvert made cannot be taken over: {0}")]
    Remux(#[source] Box<super::Error>),
}

/// What whoever set it up has to look at.
fn advice(class: Class) -> &'static str {
    if class == Class::Settings {
        " (check --mediaconvert-role, -queue and -region, and that these credentials may CreateJob, TagResource, \
         GetJob, SearchJobs, CancelJob and iam:PassRole)"
    } else {
        ""
    }
}

impl Error {
    fn file(path: &Path, error: io::Error) -> Self {
        Self::File { path: path.to_owned(), error }
    }

    /// What is to be done about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Unset(_) | Self::Region | Self::Place(_) => Class::Settings,
            Self::Api { class, .. } | Self::Bucket { class, .. } => *class,
            Self::Failed { code, message, .. } => codes::class(*code, message),
            Self::Cancelled { .. } => Class::Stopped,
            Self::File { error, .. } if error.kind() == io::ErrorKind::StorageFull => Class::Full,
            Self::Remux(error) => match error.class() {
                // It is not the source that ffmpeg read.
                Class::Source => Class::Busy,
                class => class,
            },
            Self::Gone { .. }
            | Self::Stalled { .. }
            | Self::Missing { .. }
            | Self::Playlist { .. }
            | Self::File { .. } => Class::Busy,
        }
    }

    fn is_of_acceleration(&self) -> bool {
        matches!(self, Self::Failed { code, .. } if codes::is_of_acceleration(*code))
    }

    /// Whether there is nothing to wait for any more: another job has to be asked for.
    fn has_ended(&self) -> bool {
        !matches!(self, Self::Api { .. } | Self::Bucket { .. } | Self::File { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ours: &str, attempt: u32, state: State) -> Report {
        Report { job: format!("{ours}/{attempt}"), ours: Some(ours.to_owned()), attempt, state }
    }

    #[test]
    fn a_job_that_goes_on_is_not_asked_for_again() {
        let running = State::Running { phase: "TRANSCODING".into(), percent: 40 };
        let reports = [
            report("other", 7, State::Waiting),
            report("us", 2, running),
            report("us", 1, State::Failed { code: 1041, message: String::new() }),
        ];
        assert_eq!(decide(&reports, "us", 1), Found::Job { job: "us/2".into(), attempt: 2 });
        assert_eq!(decide(&reports[2..], "us", 1), Found::None { attempt: 2 });
        assert_eq!(decide(&reports[..1], "us", 1), Found::None { attempt: 1 });
    }

    #[test]
    fn a_job_whose_files_are_gone_is_asked_for_again() {
        let reports = [report("us", 1, State::Complete)];
        assert_eq!(decide(&reports, "us", 1), Found::Job { job: "us/1".into(), attempt: 1 });
        assert_eq!(decide(&reports, "us", 2), Found::None { attempt: 2 });
    }

    #[test]
    fn secrets_are_in_no_log() {
        let settings = Settings { secret_access_key: Some("hush".into()), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
