//! The doors by which the service learns that something was uploaded.
//!
//! ```text
//! folder ─ notify ──────────────────────┐
//! S3 ─▶ (SNS, EventBridge) ─▶ SQS ──────┤
//!                                       ├─▶ Desk: look at this name
//! R2 ─▶ Cloudflare Queues ──────────────┤
//! bucket ─ sweep: what events lost ─────┘
//! ```
//!
//! None of them is trusted to say a thing once, in order, or at all: that is what [`upload`] says, and
//! what a sweep is for. Each runs until the service stops. One that fails says so once, waits, longer each time, and
//! goes on.

pub mod folder;
pub mod r2_queue;
pub mod sqs;
pub mod sweep;

use std::time::Duration;

use jiff::Timestamp;

use crate::event::Event;
use crate::jobs::{Job, JobId, State};
use crate::service::{self, Service, Wishes};
use crate::upload::{self, Uploads};
use crate::{CancellationToken, Class, asset};

/// A door that fails waits for a second, then for twice as long each time, up to this.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Which doors there are beside the place itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A queue of SQS.
    pub sqs: Option<sqs::Queue>,
    /// A queue of Cloudflare.
    pub r2: Option<r2_queue::Queue>,
    /// How often everything is looked through for what nobody told of.
    pub sweep: Duration,
    /// How many jobs are done at once. Of a queue's messages twice as many are taken: others may be free.
    pub at_once: usize,
}

/// Who is told, which is the [`Service`].
pub trait Desk: Clone + Send + Sync + 'static {
    /// Something may lie by this name.
    fn look_at(&self, name: &str) -> impl Future<Output = Result<(), service::Error>> + Send;

    /// Acts on what a message says. The jobs that it is about, whether they are new or not.
    fn hear(&self, event: Event) -> impl Future<Output = Result<Vec<JobId>, service::Error>> + Send;

    /// How a job stands.
    fn standing(&self, job: &JobId) -> impl Future<Output = Result<Standing, service::Error>> + Send;

    /// Where uploads land.
    fn uploads(&self) -> &Uploads;

    /// Has it known that something was uploaded by a name that nothing is done by. Not for other errors.
    fn refuse(&self, error: &upload::Error) -> impl Future<Output = Result<(), service::Error>> + Send;

    /// Cancelled once the doors are to close.
    fn stop(&self) -> &CancellationToken;
}

/// How a job stands, for whoever holds the message that it came of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// It is being done, or is the next one.
    Active,
    /// It failed, and will be tried again some time later.
    Waiting,
    /// Nothing more will happen.
    Final,
}

impl Standing {
    fn of(job: &Job, now: Timestamp) -> Self {
        match job.state {
            state if state.is_final() => Self::Final,
            State::Queued if job.not_before > now => Self::Waiting,
            _ => Self::Active,
        }
    }
}

impl Desk for Service {
    async fn look_at(&self, name: &str) -> Result<(), service::Error> {
        Service::look_at(self, name, Wishes::default()).await.map(drop)
    }

    async fn hear(&self, event: Event) -> Result<Vec<JobId>, service::Error> {
        Service::hear(self, vec![event]).await
    }

    async fn standing(&self, job: &JobId) -> Result<Standing, service::Error> {
        let job = self.jobs.find(job).await?;
        // One that was deleted meanwhile is over as well.
        Ok(job.map_or(Standing::Final, |job| Standing::of(&job, Timestamp::now())))
    }

    async fn refuse(&self, error: &upload::Error) -> Result<(), service::Error> {
        Service::refuse(self, error).await
    }

    fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

/// Opens all doors, and returns once the service stops.
pub async fn run<D: Desk>(desk: D, settings: Settings) {
    let Settings { sqs, r2, sweep, at_once } = settings;
    let room = at_once.max(1).saturating_mul(2);
    let place = async {
        match desk.uploads().folder() {
            Some(folder) => folder::run(&desk, folder, sweep).await,
            None => sweep::run(&desk, sweep).await,
        }
    };
    let sqs = async {
        if let Some(queue) = &sqs {
            sqs::run(&desk, queue, room).await;
        }
    };
    let r2 = async {
        if let Some(queue) = &r2 {
            r2_queue::run(&desk, queue, room).await;
        }
    };
    tokio::join!(Box::pin(place), Box::pin(sqs), Box::pin(r2));
}

/// Acts on everything that a message says. An error is how long to wait before it, or another, is heard again.
async fn hear_all(desk: &impl Desk, door: &mut Door, events: Vec<Event>) -> Result<Vec<JobId>, Duration> {
    let mut jobs = Vec::new();
    for event in events {
        if let Event::Nothing(what) = &event {
            tracing::debug!(door = door.name, "{what}");
            continue;
        }
        match desk.hear(event).await {
            Ok(more) => jobs.extend(more),
            Err(service::Error::Upload(error)) if is_settled(&error) => {
                tracing::warn!(door = door.name, "{error}");
            }
            Err(error) => return Err(door.failed(&error.to_string())),
        }
    }
    door.works();
    Ok(jobs)
}

/// Whether it would be the same however often it were tried.
fn is_settled(error: &upload::Error) -> bool {
    matches!(error.class(), Class::Source | Class::Stopped)
}

/// Waits. Whether the doors are to close.
async fn pause(stop: &CancellationToken, time: Duration) -> bool {
    tokio::time::timeout(time, stop.cancelled()).await.is_ok()
}

/// More or less that long, so that many who began together do not go on together.
fn about(time: Duration) -> Duration {
    time.mul_f64(0.9 + 0.2 * asset::chance())
}

/// What a door has to say of itself: that it fails, once; and that it works again.
struct Door {
    name: &'static str,
    trouble: Option<String>,
    failures: u32,
}

impl Door {
    fn new(name: &'static str) -> Self {
        Self { name, trouble: None, failures: 0 }
    }

    /// How long to wait before the next attempt: anything up to a time that doubles ("full jitter").
    fn failed(&mut self, error: &str) -> Duration {
        if self.trouble.as_deref() == Some(error) {
            tracing::debug!(door = self.name, "{error}");
        } else {
            tracing::warn!(door = self.name, "{error}; it is tried again until it works");
            self.trouble = Some(error.to_owned());
        }
        let longest = Duration::from_secs(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(0.1 + 0.9 * asset::chance())
    }

    fn works(&mut self) {
        self.failures = 0;
        if self.trouble.take().is_some() {
            tracing::info!(door = self.name, "it works again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_fails_waits_longer_each_time_up_to_a_minute() {
        let mut door = Door::new("test");
        for (failures, longest) in [1, 2, 4, 8, 16, 32, 60, 60].into_iter().enumerate() {
            let pause = door.failed("no route to host");
            assert!(pause <= Duration::from_secs(longest) && !pause.is_zero(), "{failures}: {pause:?}");
        }
        door.works();
        assert!(door.failed("no route to host") <= Duration::from_secs(1));
        for _ in 0..100 {
            let time = about(Duration::from_secs(100)).as_secs();
            assert!((90..=110).contains(&time), "{time}");
        }
    }
}
