//! What is counted, for Prometheus.
//!
//! Labels have few values: a route is its template, and no job, asset or name is one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tokio::sync::broadcast::error::RecvError;

use crate::jobs::{self, Filter, Job, JobId, Jobs, State};
use crate::{CancellationToken, Class};

/// Content type of what [`Metrics::text`] says.
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Bounds in seconds: of what a person waits for, and of what a machine works on.
const ANSWER_SECONDS: [f64; 9] = [0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
const WORK_SECONDS: [f64; 10] =
    [5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 10_800.0, 43_200.0, 86_400.0];

/// Pages of the queue that are looked through for its oldest job.
const MOST_PAGES: usize = 20;
const PAGE: u32 = 500;

/// All counters. Clones count together.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    jobs: Family<Label, Gauge>,
    oldest: Gauge,
    started: Counter,
    ended: Family<Label, Counter>,
    failed: Family<Label, Counter>,
    waited: Histogram,
    worked: Histogram,
    source_bytes: Counter,
    uploaded_bytes: Counter,
    requests: Family<Labels<3>, Counter>,
    answered: Family<Labels<1>, Histogram, fn() -> Histogram>,
    webhooks: Family<Label, Counter>,
    playbacks: Family<[(&'static str, &'static str); 2], Counter>,
}

/// One label, or some, and what each is.
type Label = [(&'static str, &'static str); 1];
type Labels<const N: usize> = [(&'static str, String); N];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("reelgate");
        let work = || Histogram::new(WORK_SECONDS);
        let answer: fn() -> Histogram = || Histogram::new(ANSWER_SECONDS);
        let mut inner = Inner {
            registry: Registry::default(),
            jobs: Family::default(),
            oldest: Gauge::default(),
            started: Counter::default(),
            ended: Family::default(),
            failed: Family::default(),
            waited: work(),
            worked: work(),
            source_bytes: Counter::default(),
            uploaded_bytes: Counter::default(),
            requests: Family::default(),
            answered: Family::new_with_constructor(answer),
            webhooks: Family::default(),
            playbacks: Family::default(),
        };
        registry.register("jobs", "Jobs by state", inner.jobs.clone());
        registry.register("queue_oldest_seconds", "How long the oldest due job waits", inner.oldest.clone());
        registry.register("jobs_started", "Attempts at jobs", inner.started.clone());
        registry.register("jobs_ended", "Jobs that came to a final state", inner.ended.clone());
        registry.register("attempts_failed", "Attempts that failed, by class of error", inner.failed.clone());
        registry.register("job_wait_seconds", "From being asked for to being begun", inner.waited.clone());
        registry.register("job_seconds", "From being begun to being done", inner.worked.clone());
        registry.register("source_bytes", "Bytes of the sources of jobs done", inner.source_bytes.clone());
        registry.register("uploaded_bytes", "Bytes that arrived over HTTP", inner.uploaded_bytes.clone());
        registry.register("http_requests", "Requests answered", inner.requests.clone());
        registry.register("http_request_seconds", "Until an answer began", inner.answered.clone());
        registry.register("webhooks", "Attempts to deliver webhooks", inner.webhooks.clone());
        registry.register("playbacks", "Answers to who wants to watch", inner.playbacks.clone());
        inner.registry = registry;
        Self(Arc::new(inner))
    }

    /// An attempt at a job failed.
    pub fn failed(&self, class: Class) {
        self.0.failed.get_or_create(&[("class", class_name(class))]).inc();
    }

    pub(crate) fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let route = [("route", route.to_owned())];
        self.0.answered.get_or_create(&route).observe(took.as_secs_f64());
        let [route] = route;
        let labels = [("method", method.to_owned()), route, ("status", status.to_string())];
        self.0.requests.get_or_create(&labels).inc();
    }

    pub(crate) fn uploaded(&self, bytes: u64) {
        self.0.uploaded_bytes.inc_by(bytes);
    }

    pub(crate) fn webhook(&self, outcome: &'static str) {
        self.0.webhooks.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub(crate) fn playback(&self, caller: &'static str, outcome: &'static str) {
        self.0.playbacks.get_or_create(&[("caller", caller), ("outcome", outcome)]).inc();
    }

    /// Counts what becomes of jobs, until told to stop.
    pub async fn watch(&self, jobs: &Jobs, stop: &CancellationToken) {
        let mut changes = jobs.changes();
        let mut known = Known::default();
        loop {
            let change = tokio::select! {
                change = changes.recv() => change,
                () = stop.cancelled() => return,
            };
            match change {
                Ok(job) => self.count(&mut known, &job),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn count(&self, known: &mut Known, job: &Job) {
        let inner = &self.0;
        let begun = known.0.get(&job.id).copied();
        let since = |then: Timestamp| job.updated.duration_since(then).as_secs_f64().max(0.0);
        match job.state {
            State::Queued => {
                known.0.remove(&job.id);
            }
            State::Probing | State::Encoding | State::Publishing if begun.is_none() => {
                inner.started.inc();
                if job.attempts <= 1 {
                    inner.waited.observe(since(job.created));
                }
                known.0.insert(job.id.clone(), job.updated);
            }
            State::Probing | State::Encoding | State::Publishing => {}
            State::Done | State::Failed | State::Cancelled => {
                known.0.remove(&job.id);
                inner.ended.get_or_create(&[("state", job.state.name())]).inc();
                if job.state == State::Done {
                    inner.source_bytes.inc_by(job.upload.bytes);
                    if let Some(begun) = begun {
                        inner.worked.observe(since(begun));
                    }
                }
            }
        }
    }

    /// All of it as text, the queue as it is now.
    pub(crate) async fn text(&self, jobs: &Jobs, now: Timestamp) -> Result<String, jobs::Error> {
        let counts: HashMap<_, _> = jobs.counts().await?.into_iter().collect();
        for state in STATES {
            let count = counts.get(&state).copied().unwrap_or(0);
            self.0
                .jobs
                .get_or_create(&[("state", state.name())])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let oldest = oldest_due(jobs, now).await?.map_or(0, |due| now.duration_since(due).as_secs());
        self.0.oldest.set(oldest);
        let mut text = String::new();
        encode(&mut text, &self.0.registry).expect("a string takes everything");
        Ok(text)
    }
}

/// Since when jobs are being worked on.
#[derive(Debug, Default)]
struct Known(HashMap<JobId, Timestamp>);

const STATES: [State; 7] = [
    State::Queued,
    State::Probing,
    State::Encoding,
    State::Publishing,
    State::Done,
    State::Failed,
    State::Cancelled,
];

async fn oldest_due(jobs: &Jobs, now: Timestamp) -> Result<Option<Timestamp>, jobs::Error> {
    let mut filter = Filter { states: vec![State::Queued], limit: PAGE, ..Filter::default() };
    let mut oldest = None;
    for _ in 0..MOST_PAGES {
        let page = jobs.list(&filter).await?;
        let due = page.iter().map(|job| job.created.max(job.not_before)).filter(|due| *due <= now);
        oldest = oldest.into_iter().chain(due).min();
        let Some(last) = page.last().filter(|_| page.len() == PAGE as usize) else { break };
        filter.before = Some(last.id.clone());
    }
    Ok(oldest)
}

/// What a class of errors is called.
fn class_name(class: Class) -> &'static str {
    match class {
        Class::Source => "source",
        Class::Settings => "settings",
        Class::Busy => "busy",
        Class::Full => "full",
        Class::Stopped => "stopped",
    }
}
