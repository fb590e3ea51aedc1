//! Takes messages from a queue of Cloudflare, into which R2 puts its notifications, as a [pull consumer].
//!
//! Its leases cannot be prolonged, so a message is acknowledged as soon as its jobs are rows of the database. One that
//! nobody understands is tried again as often as the queue says, which then puts it into its dead letter queue.
//!
//! [pull consumer]: https://developers.cloudflare.com/queues/configuration/pull-consumers/

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Desk, Door, Standing, about, hear_all, pause};
use crate::event;
use crate::jobs::JobId;
use crate::storage::chain;

/// Where Cloudflare's API is.
pub const CLOUDFLARE: &str = "https://api.cloudflare.com/client/v4";

/// How long a message is out of sight: as long as it takes to look at what it tells of.
const LEASE: Duration = Duration::from_mins(1);

/// When one that could not be acted on is seen again.
const LATER: Duration = Duration::from_secs(30);

/// How long after nothing was there: it is said at once, whether there is.
const IDLE: Duration = Duration::from_secs(5);

const BATCH: usize = 10;
const TIMEOUT: Duration = Duration::from_secs(30);

/// The most that a batch can have: 128 kB a message, in Base64, and something around it.
const LONGEST: usize = 4 << 20;

/// A queue, and how to reach it.
#[derive(Clone)]
pub struct Queue {
    /// Whose it is.
    pub account: String,
    /// Its id.
    pub queue: String,
    /// A token that may edit queues.
    pub token: String,
    /// URL of the API, [`CLOUDFLARE`] unless it is another.
    pub endpoint: Option<String>,
}

// Not derived: a token is for nobody's eyes.
impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Queue({}/{})", self.account, self.queue)
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    result: Option<Pulled>,
}

#[derive(Deserialize)]
struct Pulled {
    #[serde(default)]
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    id: String,
    body: Value,
    lease_id: String,
    #[serde(default)]
    attempts: u32,
}

/// Takes messages until the service stops, as long as fewer jobs than there is room for are not over.
pub async fn run(desk: &impl Desk, queue: &Queue, room: usize) {
    let mut door = Door::new("R2's queue");
    let client = match reqwest::Client::builder().timeout(TIMEOUT).build() {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(door = door.name, "{error}");
            return;
        }
    };
    let mut hearing = Door::new("R2's queue, jobs");
    let mut jobs = Vec::new();
    loop {
        jobs = active(desk, jobs).await;
        let batch = room.saturating_sub(jobs.len()).min(BATCH);
        let turn = async {
            if batch == 0 {
                return Ok(IDLE);
            }
            match queue.pull(&client, batch).await? {
                none if none.is_empty() => Ok(IDLE),
                messages => queue.take(desk, &client, &mut hearing, messages, &mut jobs).await,
            }
        };
        let outcome: Result<Duration, String> = tokio::select! {
            outcome = turn => outcome,
            () = desk.stop().cancelled() => return,
        };
        let wait = match outcome {
            Ok(wait) => {
                door.works();
                about(wait)
            }
            Err(error) => door.failed(&error),
        };
        if pause(desk.stop(), wait).await {
            return;
        }
    }
}

/// Those that are being done.
async fn active(desk: &impl Desk, jobs: Vec<JobId>) -> Vec<JobId> {
    let mut active = Vec::new();
    for job in jobs {
        if desk.standing(&job).await.unwrap_or(Standing::Active) == Standing::Active {
            active.push(job);
        }
    }
    active
}

impl Queue {
    async fn pull(&self, client: &reqwest::Client, batch: usize) -> Result<Vec<Message>, String> {
        let lease = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let answer =
            self.post(client, "pull", &json!({"visibility_timeout_ms": lease, "batch_size": batch})).await?;
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|error| format!("the answer to a pull is not as it should be: {error}"))?;
        Ok(answer.result.map(|pulled| pulled.messages).unwrap_or_default())
    }

    /// Acts on messages. How long to wait before others are taken.
    async fn take(
        &self,
        desk: &impl Desk,
        client: &reqwest::Client,
        door: &mut Door,
        messages: Vec<Message>,
        active: &mut Vec<JobId>,
    ) -> Result<Duration, String> {
        let (mut acks, mut retries) = (Vec::new(), Vec::new());
        let mut wait = Duration::ZERO;
        for Message { id, body, lease_id, attempts } in messages {
            let text = match body {
                Value::String(text) => text.into_bytes(),
                body => body.to_string().into_bytes(),
            };
            let heard = match event::parse(&text) {
                Ok(events) => hear_all(desk, door, events).await,
                Err(error) => {
                    if attempts <= 1 {
                        tracing::warn!(door = door.name, message = id, "{error}; it is left to the queue");
                    }
                    Err(Duration::ZERO)
                }
            };
            match heard {
                Ok(jobs) => {
                    for job in jobs {
                        if !active.contains(&job) {
                            active.push(job);
                        }
                    }
                    acks.push(json!({"lease_id": lease_id}));
                }
                Err(pause) => {
                    wait = wait.max(pause);
                    retries.push(json!({"lease_id": lease_id, "delay_seconds": LATER.as_secs()}));
                }
            }
        }
        self.post(client, "ack", &json!({"acks": acks, "retries": retries})).await?;
        Ok(wait)
    }

    /// Whether the token is good for the queue. Takes no message out of it.
    pub async fn check(&self) -> Result<(), String> {
        let endpoint = self.endpoint.as_deref().unwrap_or(CLOUDFLARE).trim_end_matches('/');
        let url = format!("{endpoint}/accounts/{}/queues/{}", self.account, self.queue);
        let answer = reqwest::Client::new().get(url).bearer_auth(&self.token).timeout(TIMEOUT).send().await;
        match answer
            .map_err(|error| format!("the queue cannot be reached: {}", chain(&error)))?
            .status()
            .as_u16()
        {
            200..300 => Ok(()),
            401 | 403 => {
                Err("Cloudflare refuses the token: it has to be one with the right \"Queues Edit\""
                    .to_owned())
            }
            404 => Err("there is no such queue: `npx wrangler queues list` shows ids".to_owned()),
            other => Err(format!("Cloudflare answers {other}")),
        }
    }

    async fn post(&self, client: &reqwest::Client, what: &str, body: &Value) -> Result<Vec<u8>, String> {
        let endpoint = self.endpoint.as_deref().unwrap_or(CLOUDFLARE).trim_end_matches('/');
        let url = format!("{endpoint}/accounts/{}/queues/{}/messages/{what}", self.account, self.queue);
        let failed = |error: reqwest::Error| format!("the queue cannot be reached: {}", chain(&error));
        let request = client.post(url).bearer_auth(&self.token).header("Content-Type", "application/json");
        let mut response = request.body(body.to_string()).send().await.map_err(failed)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(failed)? {
            if answer.len() + bytes.len() > LONGEST {
                return Err("the queue's answer does not end".into());
            }
            answer.extend_from_slice(&bytes);
        }
        if status.is_success() {
            return Ok(answer);
        }
        let reason = serde_json::from_slice::<Value>(&answer).ok();
        let reason = reason.as_ref().and_then(|answer| answer.pointer("/errors/0/message")?.as_str());
        let reason: String =
            reason.unwrap_or_default().chars().take(200).flat_map(char::escape_debug).collect();
        let advice = match status.as_u16() {
            401 | 403 => "; the token needs the right to edit queues",
            404 => "; check account and queue",
            _ => "",
        };
        Err(format!("the queue answers {status} {reason}{advice}"))
    }
}
