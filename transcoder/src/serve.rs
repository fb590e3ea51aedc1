//! `transcoder serve`: the service at the command line.

pub mod doctor;

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use jiff::{Span, SpanRelativeTo, Timestamp};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::CancellationToken;
use crate::encode::Signals;
use crate::encoder::mediaconvert::{self, MediaConvert};
use crate::encoder::{Encoder, Machine};
use crate::jobs::{self, CRASHES, Jobs, Profile};
use crate::metrics::Metrics;
use crate::plan::Options;
use crate::playback::BoxOffice;
use crate::service::turns::Turns;
use crate::service::workers::{self, Patience};
use crate::service::{Elsewhere, Running, Service};
use crate::storage::{Access, Store};
use crate::upload::Uploads;
use crate::{asset, http, intake, playback, webhook};

/// Where a service keeps what it knows, if nobody says otherwise.
pub const DATA: &str = "reelgate-data";

/// Its database, in there.
pub const DATABASE: &str = "jobs.sqlite";

/// What is logged where `RUST_LOG` does not say.
const LOGGED: &str = "info,sqlx=warn,aws_config=warn,aws_smithy_runtime=warn,hyper=warn";

/// Encode whatever is uploaded, for as long as it runs
///
/// Watches a folder or a bucket; every video that lands there is encoded once and published as by `transcoder encode`,
/// under the name that it was uploaded by. What it knows is in --data: killed at any moment, it goes on from there when it
/// is started again. A video that cannot be encoded is left where it is, and its job says why (`transcoder retry`).
/// Messages that something was uploaded (--queue, --r2-queue, POST /v1/events) only make it faster: what they lose, the
/// sweep finds.
///
/// With an edge and a key it signs playback URLs for who may watch (POST /v1/playback). Its address opens in a browser:
/// there is the studio, where all of it can be seen and done by hand.
///
/// SIGTERM and Ctrl-C stop it: running jobs go on at the next start. A second one does not wait.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each setting is a flag or a variable, also in a file for systemd or a container; secrets are better in variables, because
others on the machine can read a command line. Credentials for s3:// as for `transcoder encode`.

Examples:
  transcoder serve --uploads ./uploads --to ./media
  transcoder serve --uploads ./uploads --to s3://media --edge https://video.example.com \\
    --key-pair-id K2JCJMDEHXQW5F --private-key keys/private.pem
  transcoder serve --uploads s3://uploads --to s3://media --queue https://sqs.eu-west-1.amazonaws.com/1234/uploads
  REELGATE_API_TOKEN=… transcoder serve --uploads /srv/uploads --to s3://media --listen 0.0.0.0:8080")]
pub struct Arguments {
    /// Where videos are uploaded: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(long, env = "REELGATE_UPLOADS", value_name = "PLACE", help_heading = UPLOADS)]
    uploads: String,

    /// The S3 API of the uploads [default: that of --endpoint]
    #[arg(long, env = "REELGATE_UPLOADS_ENDPOINT", value_name = "URL", help_heading = UPLOADS)]
    uploads_endpoint: Option<String>,

    /// The region of the uploads' bucket [default: that of --region]
    #[arg(long, env = "REELGATE_UPLOADS_REGION", value_name = "REGION", help_heading = UPLOADS)]
    uploads_region: Option<String>,

    /// An SQS queue that S3, SNS or `EventBridge` tells of uploads
    #[arg(long, env = "REELGATE_QUEUE", value_name = "URL", help_heading = UPLOADS)]
    queue: Option<Url>,

    /// The SQS API, where it is not Amazon's
    #[arg(long, env = "REELGATE_QUEUE_ENDPOINT", value_name = "URL", requires = "queue", help_heading = UPLOADS)]
    queue_endpoint: Option<Url>,

    /// A queue of Cloudflare that R2 tells of uploads, with an HTTP pull consumer
    #[arg(long, env = "REELGATE_R2_QUEUE", value_name = "ACCOUNT/QUEUE_ID", help_heading = UPLOADS)]
    r2_queue: Option<R2Queue>,

    /// A token of Cloudflare that may edit queues
    #[arg(long, env = "REELGATE_R2_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = secret, help_heading = UPLOADS)]
    r2_token: Option<Secret>,

    /// Cloudflare's API
    #[arg(long, env = "REELGATE_R2_ENDPOINT", value_name = "URL", hide = true)]
    r2_endpoint: Option<Url>,

    /// How often everything that lies there is looked at
    #[arg(long, env = "REELGATE_SWEEP", value_name = "TIME", default_value = "5m", value_parser = duration,
          help_heading = UPLOADS)]
    sweep: Duration,

    /// The most that can be uploaded by PUT
    #[arg(long, env = "REELGATE_MAX_UPLOAD", value_name = "SIZE", default_value = "50GB", value_parser = size,
          help_heading = UPLOADS)]
    max_upload: u64,

    /// Where to publish: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(long, env = "REELGATE_TO", value_name = "PLACE", help_heading = ASSETS)]
    to: String,

    /// The S3 API, where it is not Amazon's (https://…, or http://… for a server on this machine)
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL", help_heading = ASSETS)]
    endpoint: Option<String>,

    /// The bucket's region
    #[arg(long, env = "AWS_REGION", value_name = "REGION", help_heading = ASSETS)]
    region: Option<String>,

    /// Remove encodes of an asset but for the newest so many, the published one among them [default: keep all]
    #[arg(long, env = "REELGATE_KEEP", value_name = "NUMBER", help_heading = ASSETS,
          value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,

    /// A folder of the service's own, on a disk with room for three times what is encoded at once
    #[arg(long, env = "REELGATE_DATA", value_name = "DIR", default_value = DATA, help_heading = SERVICE)]
    data: PathBuf,

    /// Where the API listens
    #[arg(long, env = "REELGATE_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080",
          help_heading = SERVICE)]
    listen: SocketAddr,

    /// What whoever uses the API has to know; without it, only this machine can
    #[arg(long, env = "REELGATE_API_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = secret, help_heading = SERVICE)]
    api_token: Option<Secret>,

    /// What whoever posts to /v1/events has to know
    #[arg(long, env = "REELGATE_EVENTS_TOKEN", value_name = "TOKEN", hide_env_values = true, value_parser = secret, help_heading = SERVICE)]
    events_token: Option<Secret>,

    /// Hosts beside Amazon's whose topics are subscribed to, with their port
    #[arg(
        long = "topic-host",
        env = "REELGATE_TOPIC_HOST",
        value_name = "HOST",
        value_delimiter = ',',
        hide = true
    )]
    topic_hosts: Vec<String>,

    /// Who is told of the end of each job
    #[arg(long, env = "REELGATE_WEBHOOK", hide_env_values = true, value_name = "URL", help_heading = SERVICE)]
    webhook: Option<Url>,

    /// What that is signed with (`whsec_…`, standardwebhooks.com)
    #[arg(long, env = "REELGATE_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = secret,
          help_heading = SERVICE)]
    webhook_secret: Option<Secret>,

    /// How to write the log, on standard error; `RUST_LOG` says how much of it
    #[arg(long, env = "REELGATE_LOG", value_enum, default_value_t, help_heading = SERVICE)]
    log: Log,

    /// Jobs done at once [default: half as many as there are cores]
    #[arg(long, env = "REELGATE_AT_ONCE", value_name = "NUMBER", help_heading = SERVICE)]
    at_once: Option<NonZeroUsize>,

    /// How often a job is tried where another attempt may help
    #[arg(long, env = "REELGATE_ATTEMPTS", value_name = "NUMBER", default_value_t = 5,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = SERVICE)]
    attempts: u32,

    /// How long an attempt may take, in hours
    #[arg(long, env = "REELGATE_MAX_HOURS", value_name = "HOURS", default_value_t = 12,
          value_parser = clap::value_parser!(u32).range(1..), help_heading = SERVICE)]
    max_hours: u32,

    /// The most that is waited before a second attempt
    #[arg(long, env = "REELGATE_BACKOFF", value_name = "TIME", default_value = "10s", value_parser = duration, hide = true)]
    backoff: Duration,

    /// How long running jobs may take to stop
    #[arg(long, env = "REELGATE_GRACE", value_name = "TIME", default_value = "20s", value_parser = duration, hide = true)]
    grace: Duration,

    /// How often the service may die under a job
    #[arg(long, env = "REELGATE_CRASHES", value_name = "NUMBER", default_value_t = CRASHES, hide = true)]
    crashes: u32,

    /// What encodes
    #[arg(long, env = "REELGATE_ENCODER", value_enum, default_value_t = Encoder::Ffmpeg, help_heading = MAKE)]
    encoder: Encoder,

    #[command(flatten, next_help_heading = MAKE)]
    options: Options,

    #[command(flatten, next_help_heading = "MediaConvert")]
    mediaconvert: mediaconvert::Settings,

    #[command(flatten, next_help_heading = "Who watches")]
    playback: playback::Settings,
}

const UPLOADS: &str = "Uploads";
const ASSETS: &str = "What is published";
const SERVICE: &str = "The service";
const MAKE: &str = "What to make";

/// What nobody else may see: it is never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("…")
    }
}

impl Secret {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Something that has to be there if it is set.
pub(crate) fn secret(text: &str) -> Result<Secret, &'static str> {
    if text.trim().is_empty() {
        return Err("it is empty: give it a value, or do not set it");
    }
    Ok(Secret(text.to_owned()))
}

/// A queue of Cloudflare.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct R2Queue {
    /// Whose.
    pub account: String,
    /// Which.
    pub id: String,
}

impl FromStr for R2Queue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_id = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match text.split_once('/') {
            Some((account, id)) if is_id(account) && is_id(id) => {
                Ok(Self { account: account.to_owned(), id: id.to_owned() })
            }
            _ => Err("it must be the account's id, `/`, and the queue's id"),
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Log {
    /// For people
    #[default]
    Text,
    /// For programs: one object a line
    Json,
}

/// A time as people write it: `90s`, `5m`, `1h 30m`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration =
        text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let duration = duration.ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.filter(|duration| !duration.is_zero()).ok_or_else(|| "write it as 90s, 5m, 12h or 1d".to_owned())
}

/// A size as people write it: `500MB`, `50GB`, `2TiB`.
fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("KIB", 1 << 10),
        ("MIB", 1 << 20),
        ("GIB", 1 << 30),
        ("TIB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("B", 1),
    ];
    let upper = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((upper.strip_suffix(unit)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((&upper, 1));
    let size = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(bytes));
    size.filter(|size| *size > 0).ok_or_else(|| "write it as 500MB, 50GB or 2TiB".to_owned())
}

/// Why the service does not run.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Settings are wrong.
    #[error("cannot start:\n  {}", .0.join("\n  "))]
    Settings(Vec<String>),
    /// The process could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
    /// The database failed.
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    /// The API ended by itself.
    #[error("the API failed: {0}")]
    Api(String),
}

impl Arguments {
    /// Runs until it is asked to end.
    pub fn run(self) -> Result<(), Failure> {
        start_log(self.log);
        let runtime = tokio::runtime::Runtime::new()?;
        let outcome = runtime.block_on(self.serve());
        // What did not stop in time is not waited for.
        runtime.shutdown_background();
        outcome
    }

    /// Everything that is wrong with the settings as such.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_bucket = self.uploads.starts_with("s3://");
        if !self.listen.ip().is_loopback() && self.api_token.is_none() {
            problems.push(format!(
                "--listen {} is open to others, so they have to be told apart: set REELGATE_API_TOKEN, or listen on 127.0.0.1",
                self.listen
            ));
        }
        let tokens = [("REELGATE_API_TOKEN", &self.api_token), ("REELGATE_EVENTS_TOKEN", &self.events_token)];
        for (name, token) in tokens {
            let is_sendable =
                |token: &Secret| token.0.trim().bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if token.as_ref().is_some_and(|token| !is_sendable(token)) {
                problems.push(format!(
                    "{name} has characters that a header cannot carry, so nobody could send it: `openssl rand -hex 32` \
                     makes a better one"
                ));
            }
        }
        // Without a token whoever sends none is the platform: viewers would only have to leave theirs out.
        if self.playback.has_viewers() && self.api_token.is_none() {
            problems.push(
                "viewers' tokens need REELGATE_API_TOKEN, which tells viewers from your platform".to_owned(),
            );
        }
        if self.webhook.is_some() && self.webhook_secret.is_none() {
            problems.push(
                "--webhook needs REELGATE_WEBHOOK_SECRET, by which the receiver knows that it is this service".to_owned(),
            );
        }
        if self.r2_queue.is_some() != self.r2_token.is_some() {
            problems
                .push("--r2-queue and REELGATE_R2_TOKEN only work together: set both, or none".to_owned());
        }
        for (name, is_set) in [("--queue", self.queue.is_some()), ("--r2-queue", self.r2_queue.is_some())] {
            if is_set && !is_bucket {
                problems.push(format!(
                    "{name} tells of a bucket, but --uploads {} is a folder, which is watched anyway: leave one out",
                    self.uploads
                ));
            }
        }
        problems.extend(self.options.check().err().map(|error| error.to_string()));
        let urls = [
            ("--queue", &self.queue),
            ("--queue-endpoint", &self.queue_endpoint),
            ("--webhook", &self.webhook),
        ];
        for (name, url) in urls {
            if let Some(url) = url
                && !matches!(url.scheme(), "https" | "http")
            {
                problems.push(format!("{name} {url} must begin with https://"));
            }
        }
        // What is published would be found as an upload, and encoded, and published …
        if overlap(&self.uploads, self.uploads_endpoint(), &self.to, self.endpoint.as_deref()) {
            problems.push(format!(
                "--uploads {} and --to {} are one within the other, so what is published would be encoded again: \
                 separate them",
                self.uploads, self.to
            ));
        }
        problems.extend(self.playback.problems());
        let data = self.data.to_string_lossy();
        for (name, place) in [("--uploads", &self.uploads), ("--to", &self.to)] {
            if is_within(&data, place) {
                problems.push(format!("--data {data} is in {name} {place}: move it out"));
            }
        }
        problems
    }

    fn access(&self) -> Access {
        Access { endpoint: self.endpoint.clone(), region: self.region.clone() }
    }

    fn access_to_uploads(&self) -> Access {
        Access {
            endpoint: self.uploads_endpoint().map(ToOwned::to_owned),
            region: self.uploads_region.clone().or_else(|| self.region.clone()),
        }
    }

    fn uploads_endpoint(&self) -> Option<&str> {
        self.uploads_endpoint.as_deref().or(self.endpoint.as_deref())
    }

    async fn serve(self) -> Result<(), Failure> {
        let mut problems = self.problems();
        let mut keep = |problem: String| problems.push(problem);
        if Machine::Ffmpeg.version().await.is_empty() {
            keep(crate::encoder::Error::NotInstalled.to_string());
        }
        let elsewhere = self.elsewhere().await.map_err(|error| keep(error.to_string())).unwrap_or_default();
        let store = Store::open(&self.to, &self.access()).map_err(|error| keep(error.to_string())).ok();
        let uploads = Uploads::open(&self.uploads, &self.access_to_uploads());
        let uploads = uploads.map_err(|error| keep(error.to_string())).ok();
        let box_office = self.playback.open();
        let box_office = box_office.map_err(|found| found.into_iter().for_each(&mut keep)).ok();
        let lock = lock(&self.data).map_err(&mut keep).ok();
        let listener = TcpListener::bind(self.listen).await;
        let listener = listener
            .map_err(|error| {
                keep(format!("cannot listen on {} ({error}): choose another --listen", self.listen));
            })
            .ok();
        let (Some(store), Some(uploads), Some(box_office), Some(_lock), Some(listener), true) =
            (store, uploads, box_office, lock, listener, problems.is_empty())
        else {
            return Err(Failure::Settings(problems));
        };

        let now = Timestamp::now();
        let jobs = Jobs::attach(&self.data.join(DATABASE)).await?;
        jobs.recover(self.crashes, now).await?;
        let profile = Profile { encoder: self.encoder, options: self.options.clone() };
        let (stop, running) = (CancellationToken::new(), Arc::new(Running::with(elsewhere)));
        let service = Service { jobs, uploads, store, profile, stop, running };
        self.playback.warn();
        self.conduct(service, box_office, listener).await
    }

    /// MediaConvert, where it is asked for or named.
    async fn elsewhere(&self) -> Result<Option<Elsewhere>, mediaconvert::Error> {
        if self.encoder != Encoder::MediaConvert && self.mediaconvert.role.is_none() {
            return Ok(None);
        }
        let reads_uploads = self.uploads.starts_with("s3://")
            && self.uploads_endpoint() == self.mediaconvert.bucket_endpoint.as_deref();
        let mediaconvert = MediaConvert::open(&self.mediaconvert).await?;
        Ok(Some(Elsewhere { mediaconvert, reads_uploads }))
    }

    /// Runs the parts of the service until it is asked to end, and then until they have.
    async fn conduct(
        self,
        service: Service,
        box_office: Option<BoxOffice>,
        listener: TcpListener,
    ) -> Result<(), Failure> {
        let mut signals = Signals::new()?;
        let stop = service.stop.clone();
        tokio::spawn(async move {
            signals.wait().await;
            tracing::info!("stopping: what runs goes on at the next start");
            stop.cancel();
            signals.wait().await;
            tracing::warn!("stopped at once");
            std::process::exit(1);
        });
        let metrics = Metrics::new();
        let workers = self.workers(&service, &metrics)?;
        let tidied = workers::tidy(&service, &workers).await?;
        if tidied > 0 {
            tracing::info!("cleared away what was left of {tidied} jobs");
        }
        let address = listener.local_addr()?;
        tracing::info!(
            uploads = self.uploads,
            to = self.to,
            at_once = workers.at_once,
            "serving http://{address}"
        );

        let intake = tokio::spawn(intake::run(service.clone(), self.intake()));
        let api = tokio::spawn(http::serve(service.clone(), self.api(metrics, box_office), listener));
        let stop = service.stop.clone().drop_guard();
        let workers = tokio::spawn(workers::run(service.clone(), workers));
        // One that ends by itself, by a fault of its own, takes the others with it: whoever watches over the process
        // starts all of it again.
        let mut api = std::pin::pin!(api);
        let early = tokio::select! {
            () = service.stop.cancelled() => None,
            ended = &mut api => Some(ended),
        };
        drop(stop);
        let _ = tokio::join!(intake, workers);
        let ended = match early {
            Some(ended) => ended,
            None => api.await,
        };
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::Api(error.to_string())),
            Err(error) => Err(Failure::Api(error.to_string())),
        }
    }

    fn at_once(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.at_once.map_or((cores / 2).max(1), NonZeroUsize::get)
    }

    fn workers(&self, service: &Service, metrics: &Metrics) -> Result<workers::Settings, Failure> {
        let turns = service
            .claims()
            .map(|claims| Ok::<_, io::Error>(Turns::new(claims, owner(&self.data)?)))
            .transpose()?;
        Ok(workers::Settings {
            data: self.data.clone(),
            at_once: self.at_once(),
            patience: Patience { attempts: self.attempts, first: self.backoff, ..Patience::default() },
            longest: Duration::from_hours(self.max_hours.into()),
            grace: self.grace,
            keep: self.keep,
            turns,
            metrics: metrics.clone(),
        })
    }

    fn intake(&self) -> intake::Settings {
        let sqs = self.queue.as_ref().map(|url| intake::sqs::Queue {
            url: url.to_string(),
            endpoint: self.queue_endpoint.as_ref().map(ToString::to_string),
            region: self.uploads_region.clone().or_else(|| self.region.clone()),
        });
        let r2 = self.r2_queue.as_ref().zip(self.r2_token.as_ref()).map(|(queue, token)| {
            intake::r2_queue::Queue {
                account: queue.account.clone(),
                queue: queue.id.clone(),
                token: token.0.clone(),
                endpoint: self.r2_endpoint.as_ref().map(ToString::to_string),
            }
        });
        intake::Settings { sqs, r2, sweep: self.sweep, at_once: self.at_once() }
    }

    fn api(&self, metrics: Metrics, box_office: Option<BoxOffice>) -> http::Settings {
        let token = |secret: &Option<Secret>| secret.as_ref().map(|secret| http::Token::of(&secret.0));
        http::Settings {
            api_token: token(&self.api_token),
            events_token: token(&self.events_token),
            data: self.data.clone(),
            max_upload: self.max_upload,
            webhook: webhook::Settings {
                url: self.webhook.clone(),
                secret: self.webhook_secret.as_ref().map(|secret| webhook::Secret::of(&secret.0)),
            },
            topic_hosts: self.topic_hosts.clone(),
            metrics,
            edge: self.playback.edge.clone(),
            playback: box_office.map(Arc::new),
        }
    }
}

fn start_log(log: Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOGGED));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // Somebody who has a log already keeps it.
    let _ = match log {
        Log::Text => subscriber.with_target(false).try_init(),
        Log::Json => subscriber.json().try_init(),
    };
}

/// Makes the folder, and takes it for this process until what this returns is dropped.
fn lock(data: &Path) -> Result<File, String> {
    let unusable = |error: io::Error| format!("--data {} cannot be used: {error}", data.display());
    fs::create_dir_all(data.join("work")).map_err(unusable)?;
    let file = File::options().create(true).truncate(false).write(true).open(data.join("lock"));
    let file = file.map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "--data {} is in use by another `transcoder serve`: give each its own",
            data.display()
        )),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// What this copy of the service is called among others: always the same, so that what it claimed before it was killed
/// is its own when it is started again.
fn owner(data: &Path) -> io::Result<String> {
    let path = data.join("owner");
    match fs::read_to_string(&path) {
        Ok(owner) if !owner.is_empty() => Ok(owner),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            let owner = format!("{:08x}{:08x}{:08x}", asset::nonce(), asset::nonce(), asset::nonce());
            fs::write(&path, &owner)?;
            Ok(owner)
        }
    }
}

/// Whether one of two places lies in the other, or they are the same.
fn overlap(one: &str, endpoint: Option<&str>, other: &str, other_endpoint: Option<&str>) -> bool {
    let is_bucket = one.starts_with("s3://");
    (!is_bucket || endpoint == other_endpoint) && (is_within(one, other) || is_within(other, one))
}

fn is_within(inner: &str, outer: &str) -> bool {
    match (inner.strip_prefix("s3://"), outer.strip_prefix("s3://")) {
        (Some(inner), Some(outer)) => {
            let parts = |place: &'_ str| -> Vec<String> {
                place.split('/').filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
            };
            parts(inner).starts_with(&parts(outer))
        }
        (None, None) => real(inner).starts_with(real(outer)),
        _ => false,
    }
}

/// Where a folder is, or will be once it is made.
fn real(place: &str) -> PathBuf {
    fn real(path: &Path) -> PathBuf {
        let Ok(found) = fs::canonicalize(path) else {
            return match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => real(parent).join(name),
                // It ends in `..`.
                (Some(parent), None) => real(parent).parent().unwrap_or(Path::new("/")).to_owned(),
                (None, _) => path.to_owned(),
            };
        };
        found
    }
    real(&std::path::absolute(place).unwrap_or_else(|_| place.into()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn problems(line: &str) -> Vec<String> {
        let line = std::iter::once("serve").chain(line.split_whitespace());
        Line::try_parse_from(line).unwrap().arguments.problems()
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let found =
            problems("--uploads up --to up/media --listen 0.0.0.0:1 --queue https://q/1 --r2-token x");
        let expected =
            ["REELGATE_API_TOKEN", "--r2-queue and", "--queue tells of a bucket", "one within the other"];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
        assert_eq!(problems("--uploads up --to media"), Vec::<String>::new());
        let viewers = "--uploads up --to media --edge https://v.example --key-pair-id K1 --private-key k.pem \
                       --viewer-key v.pem --viewer-issuer i --viewer-audience a";
        assert!(problems(viewers)[0].contains("viewers' tokens need REELGATE_API_TOKEN"));
        assert_eq!(problems(&format!("{viewers} --api-token x")), Vec::<String>::new());
    }

    #[test]
    fn a_token_is_one_that_can_be_sent() {
        let problems = |token: &str| {
            let line = ["serve", "--uploads", "up", "--to", "media", "--api-token", token];
            Line::try_parse_from(line).unwrap().arguments.problems()
        };
        assert_eq!(problems("open sesame\n"), Vec::<String>::new());
        for token in ["p\u{e4}ssword", "open\nsesame"] {
            let found = problems(token);
            assert!(found[0].contains("REELGATE_API_TOKEN has characters"), "{found:?}");
            assert!(!found[0].contains(token), "{found:?}");
        }
    }

    #[test]
    fn a_loop_of_what_is_published_and_what_is_encoded_is_not_started() {
        for (uploads, to, is_loop) in [
            ("s3://a", "s3://a", true),
            ("s3://a/in", "s3://a", true),
            ("s3://a/in", "s3://a/in/out", true),
            ("s3://a/in", "s3://a/input", false),
            ("s3://a", "s3://b", false),
            ("in", "./other/../in/out", true),
            ("in/out", "in", true),
            ("in", "out", false),
            ("s3://a", "a", false),
        ] {
            assert_eq!(overlap(uploads, None, to, None), is_loop, "{uploads} {to}");
        }
        assert!(!overlap("s3://a", Some("https://one"), "s3://a", Some("https://two")));
    }

    #[test]
    fn secrets_are_not_printed() {
        let line =
            ["serve", "--uploads", "a", "--to", "b", "--api-token", "hush", "--webhook-secret", "hush"];
        let line = Line::try_parse_from(line).unwrap();
        assert!(!format!("{line:?}").contains("hush"));
    }

    #[test]
    fn times_and_sizes_are_as_people_write_them() {
        assert_eq!(duration("5m").unwrap(), Duration::from_mins(5));
        assert_eq!(duration("1d").unwrap(), Duration::from_hours(24));
        assert_eq!(size("50GB").unwrap(), 50_000_000_000);
        assert_eq!(size("2 TiB").unwrap(), 2 << 40);
        assert_eq!(size("17").unwrap(), 17);
        for bad in ["", "0", "-1GB", "GB", "99999999999TB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["", "0s", "-5m", "5", "1 month"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_services_do_not_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap();
        assert!(lock(folder.path()).unwrap_err().contains("in use by another"));
        drop(first);
        lock(folder.path()).unwrap();
    }
}
