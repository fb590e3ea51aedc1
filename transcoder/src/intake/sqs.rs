//! Takes messages from a queue of SQS: those of S3, whole or in an envelope of SNS, of `EventBridge`, of `MediaConvert`.
//!
//! A message stays in the queue, out of sight, until its jobs are over, so that the work of a copy of this service that
//! dies is seen again by another one. One that nobody understands is left for the queue's own redrive policy, which
//! puts it where a person finds it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use url::Url;

use super::{Desk, Door, Standing, hear_all, pause};
use crate::event;
use crate::jobs::JobId;

/// As long as SQS lets one wait for a message.
const WAIT: Duration = Duration::from_secs(20);

/// How long a message is out of sight, and how often that is prolonged.
const HIDDEN: Duration = Duration::from_mins(3);
const RENEW: Duration = Duration::from_mins(1);

/// When one that could not be acted on is seen again.
const LATER: Duration = Duration::from_secs(30);

/// SQS hides none for more than 12 hours. By then its job has long been a row of the database.
const LONGEST_HELD: Duration = Duration::from_hours(11);

/// How often jobs are asked whether they are over.
const TICK: Duration = Duration::from_secs(2);

/// Messages held at most, with those of jobs that wait for another attempt.
const MOST_HELD: usize = 1_000;

/// How long putting them back may take when the service stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// A queue, and how to reach it.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its URL, as AWS says it.
    pub url: String,
    /// URL of the API, where that is not in the queue's.
    pub endpoint: Option<String>,
    /// Region, where that is not in the queue's URL.
    pub region: Option<String>,
}

impl Queue {
    /// Speaks to it, with credentials from the usual places.
    pub async fn client(&self) -> Client {
        let (endpoint, region) = whereabouts(&self.url);
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(WAIT + Duration::from_secs(15)).build();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).timeout_config(timeouts);
        if let Some(region) = self.region.clone().or(region) {
            loader = loader.region(Region::new(region));
        }
        if let Some(endpoint) = self.endpoint.clone().or(endpoint) {
            loader = loader.endpoint_url(endpoint);
        }
        Client::new(&loader.load().await)
    }
}

/// What a queue's URL says of its API: the endpoint, unless it is the usual one of its region; and the region.
fn whereabouts(url: &str) -> (Option<String>, Option<String>) {
    let Ok(url) = Url::parse(url) else { return (None, None) };
    let host = url.host_str().unwrap_or_default();
    let amazon = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"));
    match amazon.map(|host| host.strip_prefix("sqs.")) {
        Some(region) => (None, region.map(str::to_owned)),
        None => (Some(url.origin().ascii_serialization()), None),
    }
}

/// Takes messages until the service stops, as long as fewer jobs than there is room for are not over.
pub async fn run(desk: &impl Desk, queue: &Queue, room: usize) {
    let queue = &Connection { client: queue.client().await, url: queue.url.clone(), held: Mutex::default() };
    tokio::join!(queue.receive(desk, room), queue.keep(desk));
    let all = queue.held().iter().map(|held| held.receipt.clone()).collect::<Vec<_>>();
    let put_back =
        futures_util::future::join_all(all.iter().map(|receipt| queue.hide(receipt, Duration::ZERO)));
    // Those that this misses are seen a little later.
    let _ = tokio::time::timeout(FAREWELL, put_back).await;
}

struct Connection {
    client: Client,
    url: String,
    held: Mutex<Vec<Held>>,
}

/// A message whose jobs are not over.
#[derive(Clone, Debug)]
struct Held {
    receipt: String,
    jobs: Vec<JobId>,
    since: Instant,
    renewed: Instant,
    /// Its jobs wait for another attempt: others may take their place.
    is_waiting: bool,
}

/// What is to be done with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Delete,
    Renew,
    Hold,
}

impl Held {
    fn step(&self, standings: &[Standing], now: Instant) -> Step {
        if standings.iter().all(|standing| *standing == Standing::Final)
            || now.duration_since(self.since) >= LONGEST_HELD
        {
            Step::Delete
        } else if now.duration_since(self.renewed) >= RENEW {
            Step::Renew
        } else {
            Step::Hold
        }
    }
}

impl Connection {
    fn held(&self) -> MutexGuard<'_, Vec<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self, room: usize) -> usize {
        let held = self.held();
        let active = held.iter().filter(|held| !held.is_waiting).flat_map(|held| &held.jobs);
        let active = active.collect::<HashSet<_>>().len();
        room.saturating_sub(active).min(MOST_HELD.saturating_sub(held.len()))
    }

    async fn receive(&self, desk: &impl Desk, room: usize) {
        let mut door = Door::new("SQS");
        let mut hearing = Door::new("SQS, jobs");
        loop {
            let room = self.room(room).min(10);
            if room == 0 {
                if pause(desk.stop(), TICK).await {
                    return;
                }
                continue;
            }
            let request = self
                .client
                .receive_message()
                .queue_url(&self.url)
                .wait_time_seconds(seconds(WAIT))
                .visibility_timeout(seconds(HIDDEN))
                .max_number_of_messages(i32::try_from(room).unwrap_or(10))
                .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount);
            let received = tokio::select! {
                received = request.send() => received,
                () = desk.stop().cancelled() => return,
            };
            let wait = match received {
                Ok(received) => {
                    door.works();
                    let mut wait = Duration::ZERO;
                    for message in received.messages.unwrap_or_default() {
                        wait = wait.max(self.take(desk, &mut hearing, message).await);
                    }
                    wait
                }
                Err(error) => door.failed(&said(&error)),
            };
            if pause(desk.stop(), wait).await {
                return;
            }
        }
    }

    /// Acts on a message. How long to wait before another is taken.
    async fn take(&self, desk: &impl Desk, door: &mut Door, message: Message) -> Duration {
        let Some(receipt) = message.receipt_handle else { return Duration::ZERO };
        let since = Instant::now();
        let events = match event::parse(message.body.unwrap_or_default().as_bytes()) {
            Ok(events) => events,
            Err(error) => {
                let id = message.message_id.unwrap_or_default();
                let times = message.attributes.and_then(|mut attributes| {
                    attributes.remove(&MessageSystemAttributeName::ApproximateReceiveCount)
                });
                // Without a redrive policy it comes again and again.
                if times.is_none_or(|times| times == "1") {
                    tracing::warn!(door = door.name, message = id, "{error}; it is left in the queue");
                }
                return Duration::ZERO;
            }
        };
        match hear_all(desk, door, events).await {
            Err(wait) => {
                let _ = self.hide(&receipt, LATER).await;
                return wait;
            }
            Ok(jobs) if jobs.is_empty() => self.delete(&receipt).await,
            Ok(jobs) => {
                self.held().push(Held { receipt, jobs, since, renewed: since, is_waiting: false });
            }
        }
        Duration::ZERO
    }

    /// Prolongs the time that messages are out of sight, and deletes those whose jobs are over.
    async fn keep(&self, desk: &impl Desk) {
        let mut door = Door::new("SQS, messages of running jobs");
        while !pause(desk.stop(), TICK).await {
            let held = self.held().clone();
            for message in held {
                let mut standings = Vec::new();
                for job in &message.jobs {
                    // While nobody knows, it may not be over.
                    standings.push(desk.standing(job).await.unwrap_or(Standing::Active));
                }
                let is_waiting = !standings.contains(&Standing::Active);
                let now = Instant::now();
                let kept = match message.step(&standings, now) {
                    Step::Delete => {
                        self.delete(&message.receipt).await;
                        None
                    }
                    Step::Hold => Some(Held { is_waiting, ..message.clone() }),
                    Step::Renew => match self.hide(&message.receipt, HIDDEN).await {
                        Ok(()) => {
                            door.works();
                            Some(Held { is_waiting, renewed: now, ..message.clone() })
                        }
                        // By then it is in sight, under another receipt. Its job goes on; what it leads to is the same job.
                        Err(_) if now.duration_since(message.renewed) > HIDDEN => None,
                        Err(error) => {
                            door.failed(&error);
                            Some(Held { is_waiting, ..message.clone() })
                        }
                    },
                };
                let mut held = self.held();
                let Some(at) = held.iter().position(|held| held.receipt == message.receipt) else { continue };
                match kept {
                    Some(kept) => held[at] = kept,
                    None => drop(held.swap_remove(at)),
                }
            }
        }
    }

    async fn hide(&self, receipt: &str, time: Duration) -> Result<(), String> {
        let request = self.client.change_message_visibility().queue_url(&self.url).receipt_handle(receipt);
        let hidden = request.visibility_timeout(seconds(time)).send().await;
        hidden.map(|_| ()).map_err(|error| said(&error))
    }

    /// One that cannot be deleted comes again, and comes to nothing.
    async fn delete(&self, receipt: &str) {
        let deleted = self.client.delete_message().queue_url(&self.url).receipt_handle(receipt).send().await;
        if let Err(error) = deleted {
            tracing::debug!(door = "SQS", "a message was not deleted: {}", said(&error));
        }
    }
}

/// What SQS says, without what differs each time, or why it cannot be asked.
fn said<E: ProvideErrorMetadata + std::error::Error + 'static>(error: &SdkError<E>) -> String {
    if let Some(code) = error.code() {
        return format!("the queue answers {code}: {}", error.message().unwrap_or("nothing more"));
    }
    let mut text = format!("the queue cannot be reached: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn seconds(time: Duration) -> i32 {
    i32::try_from(time.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queues_url_says_where_it_is() {
        let amazon = whereabouts("https://sqs.eu-west-1.amazonaws.com/123456789012/uploads");
        assert_eq!(amazon, (None, Some("eu-west-1".into())));
        let china = whereabouts("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/uploads");
        assert_eq!(china, (None, Some("cn-north-1".into())));
        let other = whereabouts("http://127.0.0.1:5555/123456789012/uploads");
        assert_eq!(other, (Some("http://127.0.0.1:5555".into()), None));
        assert_eq!(whereabouts("uploads"), (None, None));
    }

    #[test]
    fn a_message_is_kept_out_of_sight_until_all_its_jobs_are_over() {
        let since = Instant::now();
        let held = Held { receipt: "r".into(), jobs: vec![], since, renewed: since, is_waiting: false };
        let step =
            |standings: &[Standing], seconds| held.step(standings, since + Duration::from_secs(seconds));
        assert_eq!(step(&[Standing::Final, Standing::Active], 10), Step::Hold);
        assert_eq!(step(&[Standing::Final, Standing::Waiting], 60), Step::Renew);
        assert_eq!(step(&[Standing::Final, Standing::Final], 10), Step::Delete);
        assert_eq!(step(&[Standing::Active], 11 * 3_600), Step::Delete);
    }
}
