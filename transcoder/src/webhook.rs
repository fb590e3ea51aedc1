//! Tells others that a job has ended, by the [Standard Webhooks] specification.
//!
//! Messages are rows of the jobs' own database, written by a trigger in the same transaction as what they tell of. They
//! are sent until they arrive, for a day. A job can name an address to be told at; since anybody who may ask for a job
//! can do that, it has to be a public one.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::{StreamExt, stream};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde_json::json;
use sha2::Sha256;
use sqlx::FromRow;
use tokio::sync::broadcast::error::RecvError;
use url::{Host, Url};

use crate::asset;
use crate::jobs::{self, Job, JobId, Jobs, State};
use crate::lint::reach::Gate;
use crate::metrics::Metrics;
use crate::storage::chain;
use crate::{CancellationToken, http};

/// How long after an attempt the next one is made: about a day in all.
const PAUSES: [Duration; 10] = [
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_mins(2),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(1),
    Duration::from_hours(2),
    Duration::from_hours(4),
    Duration::from_hours(8),
    Duration::from_hours(8),
];

/// How long the other side may take: the specification's 15 to 30 s.
const ANSWER_TIME: Duration = Duration::from_secs(20);

/// How often messages that are due are looked for, beside when a job ends.
const LOOK_EVERY: Duration = Duration::from_secs(5);

const AT_ONCE: usize = 8;
const BATCH: u32 = 64;

/// The longest address that a job may name.
const LONGEST_URL: usize = 2_048;

/// Who is told, and how they know that it is us.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Told of every job. It may be of this machine.
    pub url: Option<Url>,
    /// Signs every message.
    pub secret: Option<Secret>,
}

/// What both sides know.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

impl Secret {
    /// The secret of `whsec_` and base64, or of any other text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let decoded = text.strip_prefix("whsec_").and_then(|text| BASE64_STANDARD.decode(text).ok());
        Self(decoded.unwrap_or_else(|| text.into()))
    }

    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The header `webhook-signature` of a message.
    fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Whether a job may name this address. Where a name leads is only known when it is used, and checked again then.
pub(crate) fn check(url: &Url) -> Result<(), Refused> {
    let is_web =
        matches!(url.scheme(), "https" | "http") && url.username().is_empty() && url.password().is_none();
    if !is_web || url.as_str().len() > LONGEST_URL {
        return Err(Refused::Malformed);
    }
    match url.host() {
        Some(Host::Domain(name)) if name == "localhost" || name.ends_with(".localhost") => {
            Err(Refused::Inside)
        }
        Some(Host::Domain(_)) => Ok(()),
        Some(Host::Ipv4(address)) => is_public(address.into()).then_some(()).ok_or(Refused::Inside),
        Some(Host::Ipv6(address)) => is_public(address.into()).then_some(()).ok_or(Refused::Inside),
        None => Err(Refused::Malformed),
    }
}

fn is_public(address: IpAddr) -> bool {
    Gate::new(&[]).lets(address)
}

/// Why a job may not name an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "a webhook is an https:// or http:// URL without user and password, of at most {LONGEST_URL} characters"
    )]
    Malformed,
    #[error("a job's webhook has to have a public address: one of this network is set with --webhook")]
    Inside,
}

/// Sends what is due, until told to stop.
pub(crate) async fn deliver(
    jobs: &Jobs,
    view: &http::View,
    settings: &Settings,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<(), reqwest::Error> {
    let sender = Sender::new(jobs, view, settings, metrics)?;
    let mut changes = jobs.changes();
    while !stop.is_cancelled() {
        let sent = tokio::select! {
            sent = sender.send_due(Timestamp::now()) => sent,
            () = stop.cancelled() => break,
        };
        match sent {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "webhooks cannot be sent"),
        }
        let ended = async {
            loop {
                match changes.recv().await {
                    Ok(job) if job.state.is_final() => return,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            () = ended => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// A row.
#[derive(Debug, FromRow)]
struct Message {
    id: String,
    job: String,
    state: String,
    url: Option<String>,
    body: Option<String>,
    attempts: i64,
    created: i64,
}

struct Sender<'a> {
    jobs: &'a Jobs,
    view: &'a http::View,
    settings: &'a Settings,
    metrics: &'a Metrics,
    /// To the service's own address, and to those that jobs name.
    own: Client,
    outside: Client,
}

impl<'a> Sender<'a> {
    fn new(
        jobs: &'a Jobs,
        view: &'a http::View,
        settings: &'a Settings,
        metrics: &'a Metrics,
    ) -> Result<Self, reqwest::Error> {
        let client = || {
            Client::builder()
                .redirect(Policy::none())
                .timeout(ANSWER_TIME)
                .user_agent(concat!("reelgate/", env!("CARGO_PKG_VERSION")))
        };
        // A proxy would resolve names itself.
        let outside = client().no_proxy().dns_resolver(Arc::new(Outside)).build()?;
        Ok(Self { jobs, view, settings, metrics, own: client().build()?, outside })
    }

    /// Whether there may be more.
    async fn send_due(&self, now: Timestamp) -> Result<bool, sqlx::Error> {
        let due: Vec<Message> = sqlx::query_as(
            "SELECT id, job, state, url, body, attempts, created FROM webhooks WHERE due <= ? ORDER BY due LIMIT ?",
        )
        .bind(nanoseconds(now))
        .bind(BATCH)
        .fetch_all(self.jobs.pool())
        .await?;
        let is_full = due.len() == BATCH as usize;
        stream::iter(due)
            .for_each_concurrent(AT_ONCE, |message| async move {
                if let Err(error) = self.send(&message).await {
                    tracing::error!(%error, webhook = message.id, "the database does not answer");
                }
            })
            .await;
        Ok(is_full)
    }

    async fn send(&self, message: &Message) -> Result<(), sqlx::Error> {
        let target = match &message.url {
            Some(url) => Url::parse(url).ok().filter(|url| check(url).is_ok()),
            None => self.settings.url.clone(),
        };
        let (Some(url), Some(body)) = (target, self.body(message).await?) else {
            return self.forget(message).await;
        };
        let outcome = self.attempt(message, url, body).await;
        let (id, job) = (&message.id, &message.job);
        match outcome {
            Ok(status) if status.is_success() => {
                self.metrics.webhook("delivered");
                tracing::info!(webhook = id, job, "told");
                return self.forget(message).await;
            }
            Ok(StatusCode::GONE) => {
                self.metrics.webhook("refused");
                tracing::warn!(webhook = id, job, "nobody wants to be told there any more (410)");
                return self.forget(message).await;
            }
            Ok(status) => tracing::warn!(webhook = id, job, %status, "not told yet"),
            Err(reason) => tracing::warn!(webhook = id, job, reason, "not told yet"),
        }
        self.metrics.webhook("failed");
        let Some(pause) = pause(message.attempts, asset::nonce()) else {
            self.metrics.webhook("given_up");
            tracing::error!(webhook = id, job, "given up: in a day the webhook was never answered with 2xx");
            return self.forget(message).await;
        };
        sqlx::query("UPDATE webhooks SET attempts = attempts + 1, due = ? WHERE id = ?")
            .bind(nanoseconds(Timestamp::now() + pause))
            .bind(id)
            .execute(self.jobs.pool())
            .await?;
        Ok(())
    }

    async fn attempt(&self, message: &Message, url: Url, body: String) -> Result<StatusCode, String> {
        let seconds = Timestamp::now().as_second();
        let client = if message.url.is_some() { &self.outside } else { &self.own };
        let mut request = client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", seconds.to_string());
        if let Some(secret) = &self.settings.secret {
            request = request.header("webhook-signature", secret.sign(&message.id, seconds, &body));
        }
        let response = request.body(body).send().await;
        // Not its address, which may hold a secret of theirs.
        response.map(|response| response.status()).map_err(|error| chain(&error.without_url()))
    }

    /// What is sent, the same each time. Nothing if there is no such job.
    async fn body(&self, message: &Message) -> Result<Option<String>, sqlx::Error> {
        if message.body.is_some() {
            return Ok(message.body.clone());
        }
        let Ok(id) = message.job.parse::<JobId>() else { return Ok(None) };
        let job = match self.jobs.find(&id).await {
            Ok(Some(job)) => job,
            Ok(None) => return Ok(None),
            Err(jobs::Error { error, .. }) => return Err(error),
        };
        let body = body(self.view, job, message);
        sqlx::query("UPDATE webhooks SET body = ? WHERE id = ?")
            .bind(&body)
            .bind(&message.id)
            .execute(self.jobs.pool())
            .await?;
        Ok(Some(body))
    }

    async fn forget(&self, message: &Message) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM webhooks WHERE id = ?").bind(&message.id).execute(self.jobs.pool()).await?;
        Ok(())
    }
}

/// The job as it was when it ended: it may have been begun again since.
fn body(view: &http::View, mut job: Job, message: &Message) -> String {
    job.state = match message.state.as_str() {
        "done" => State::Done,
        "cancelled" => State::Cancelled,
        _ => State::Failed,
    };
    let timestamp = Timestamp::from_nanosecond(message.created.into()).unwrap_or(job.updated);
    json!({
        "type": format!("job.{}", job.state.name()),
        "timestamp": timestamp.to_string(),
        "data": view.job(&job),
    })
    .to_string()
}

/// How long to wait after that many attempts, some more or less so that not all come at once; nothing after the last.
fn pause(attempts: i64, nonce: u32) -> Option<Duration> {
    let pause = PAUSES.get(usize::try_from(attempts).ok()?)?;
    Some(pause.mul_f64(0.8 + 0.4 * f64::from(nonce) / f64::from(u32::MAX)))
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

/// Finds public addresses only.
struct Outside;

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, Refused::Inside).into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_signed_as_the_specification_says() {
        let secret = Secret::of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let signature = secret.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_may_be_any_text_and_is_never_shown() {
        let secret = Secret::of("correct horse");
        assert_eq!(secret.sign("msg_1", 1, "{}"), "v1,7zD7U5dj7ETyocyl0WnAvt4UUOisrVXGI8Bocoul4Bo=");
        assert_eq!(format!("{:?}", Settings { url: None, secret: Some(secret) }).matches("horse").count(), 0);
    }

    #[test]
    fn a_job_cannot_name_an_address_inside() {
        let checked = |url: &str| check(&Url::parse(url).unwrap());
        assert_eq!(checked("https://example.com/hook?x=1"), Ok(()));
        assert_eq!(checked("http://93.184.215.14/"), Ok(()));
        for inside in [
            "http://localhost/",
            "http://127.0.0.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://[::1]/",
            "http://[::ffff:10.0.0.1]/",
            "http://169.254.169.254/latest/meta-data/",
            "https://10.0.0.1/",
            "http://a.localhost/",
        ] {
            assert_eq!(checked(inside), Err(Refused::Inside), "{inside}");
        }
        for malformed in
            ["ftp://example.com/", "https://me@example.com/", "https://me:x@example.com/", "data:,x"]
        {
            assert_eq!(checked(malformed), Err(Refused::Malformed), "{malformed}");
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_found() {
        let found = Outside.resolve("localhost".parse().unwrap()).await;
        assert!(found.err().unwrap().to_string().contains("public address"));
    }

    #[test]
    fn it_is_tried_for_about_a_day() {
        let total = |nonce| (0..).map_while(|attempts| pause(attempts, nonce)).sum::<Duration>();
        assert!(total(0) > Duration::from_hours(18) && total(u32::MAX) < Duration::from_hours(30));
        assert_eq!(pause(0, 0), Some(Duration::from_secs(4)));
        assert_eq!(pause(10, 0), None);
        assert_eq!(pause(-1, 0), None);
    }
}
