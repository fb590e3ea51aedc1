//! What is said to MediaConvert, and what it says.

use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_mediaconvert::Client;
use aws_sdk_mediaconvert::config::retry::RetryConfig;
use aws_sdk_mediaconvert::config::{Credentials, Region};
use aws_sdk_mediaconvert::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_mediaconvert::types::{Job, JobStatus, Order};
use serde_json::Value;

use super::{Error, Keys};
use crate::{Class, storage};

/// How often the SDK asks again by itself when it is told to wait, or not answered.
const ATTEMPTS: u32 = 4;

/// How long one request may take.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// The longest that a search may be for (the API's reference).
const LONGEST_SEARCH: usize = 300;

/// The HTTP client of one account in one region.
#[derive(Clone, Debug)]
pub(super) struct Api(Client);

/// A job as it is now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Report {
    /// MediaConvert's name for it.
    pub(super) job: String,
    /// Ours, if we asked for it.
    pub(super) ours: Option<String>,
    /// Which attempt of ours it was.
    pub(super) attempt: u32,
    /// How it is.
    pub(super) state: State,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum State {
    Waiting,
    /// Its phase, and percent of all that are done.
    Running {
        phase: String,
        percent: u32,
    },
    Complete,
    Cancelled,
    Failed {
        code: i32,
        message: String,
    },
}

impl Api {
    /// As told, and otherwise as every tool of AWS: by the environment, or the machine's role.
    pub(super) async fn open(
        region: Option<&str>,
        endpoint: Option<&str>,
        keys: Option<&Keys>,
    ) -> Result<(Self, String), Error> {
        let timeouts = TimeoutConfig::builder().operation_attempt_timeout(REQUEST_TIME).build();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .timeout_config(timeouts)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS));
        if let Some(region) = region {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if let Some(Keys { id, secret }) = keys {
            loader = loader.credentials_provider(Credentials::new(id, &secret.0, None, None, "settings"));
        }
        let config = loader.load().await;
        let region = config.region().map(ToString::to_string).filter(|region| region != "auto");
        let region = region.ok_or(Error::Region)?;
        // Whatever the environment says of an endpoint is said of the store, which may be elsewhere.
        let amazon = format!("https://mediaconvert.{region}.amazonaws.com");
        let config = aws_sdk_mediaconvert::config::Builder::from(&config)
            .endpoint_url(endpoint.unwrap_or(&amazon))
            .build();
        Ok((Self(Client::from_conf(config)), region))
    }

    /// Asks for a job, which is given as it goes over the wire. Its name.
    pub(super) async fn create(&self, job: &Value) -> Result<String, Error> {
        // The SDK has a type for each of some 600 settings, none of which can be printed as JSON; this way what a
        // rehearsal prints is what is sent.
        let text = job.to_string();
        let created = self.0.create_job().customize().mutate_request(move |request| {
            request.headers_mut().insert("content-length", text.len().to_string());
            *request.body_mut() = text.clone().into();
        });
        let created = created.send().await.map_err(|error| refusal("CreateJob", &error))?;
        let job = created.job.and_then(|job| job.id);
        job.ok_or_else(|| Error::Api {
            action: "CreateJob",
            reason: "it names no job".into(),
            class: Class::Busy,
            is_throttled: false,
        })
    }

    /// How a job is; nothing if there is none of that name.
    pub(super) async fn find(&self, job: &str) -> Result<Option<Report>, Error> {
        match self.0.get_job().id(job).send().await {
            Ok(found) => Ok(found.job.as_ref().map(report)),
            Err(error) if is(&error, 404) => Ok(None),
            Err(error) => Err(refusal("GetJob", &error)),
        }
    }

    /// The latest jobs with this source.
    pub(super) async fn search(&self, source: &str) -> Result<Vec<Report>, Error> {
        let begin = source.len().saturating_sub(LONGEST_SEARCH);
        let end = (begin..=source.len()).find_map(|at| source.get(at..)).unwrap_or_default();
        let found =
            self.0.search_jobs().input_file(end).order(Order::Descending).max_results(20).send().await;
        let found = found.map_err(|error| refusal("SearchJobs", &error))?;
        Ok(found.jobs.unwrap_or_default().iter().map(report).collect())
    }

    /// Stops a job. One that has ended, or never was, is as good as stopped.
    pub(super) async fn cancel(&self, job: &str) -> Result<(), Error> {
        match self.0.cancel_job().id(job).send().await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 404) || is(&error, 409) => Ok(()),
            Err(error) => Err(refusal("CancelJob", &error)),
        }
    }
}

fn report(job: &Job) -> Report {
    let ours = |name: &str| job.user_metadata().and_then(|ours| ours.get(name));
    let state = match job.status() {
        Some(JobStatus::Submitted) => State::Waiting,
        Some(JobStatus::Complete) => State::Complete,
        Some(JobStatus::Canceled) => State::Cancelled,
        Some(JobStatus::Error) => State::Failed {
            code: job.error_code().unwrap_or_default(),
            message: job.error_message().unwrap_or("it gave no reason").to_owned(),
        },
        // Whatever it will be called, it has not ended.
        _ => State::Running {
            phase: job.current_phase().map(|phase| phase.as_str().to_owned()).unwrap_or_default(),
            percent: job.job_percent_complete().and_then(|it| it.try_into().ok()).unwrap_or_default(),
        },
    };
    Report {
        job: job.id().unwrap_or_default().to_owned(),
        ours: ours("job").cloned(),
        attempt: ours("attempt").and_then(|text| text.parse().ok()).unwrap_or_default(),
        state,
    }
}

fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

fn is<E>(error: &SdkError<E>, wanted: u16) -> bool {
    status(error) == Some(wanted)
}

/// What it refused, and what is to be done about it (its API reference, "Errors").
fn refusal<E: ProvideErrorMetadata + std::error::Error + 'static>(
    action: &'static str,
    error: &SdkError<E>,
) -> Error {
    let status = status(error);
    let class = match status {
        Some(400..=404 | 409) => Class::Settings,
        None if matches!(error, SdkError::ConstructionFailure(_)) => Class::Settings,
        _ => Class::Busy,
    };
    let is_throttled = status == Some(429);
    // 402: too many jobs at once.
    let class = if status == Some(402) || error.code() == Some("TooManyRequestsException") {
        Class::Busy
    } else {
        class
    };
    let reason = match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => storage::chain(error),
    };
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Api { action, reason, class, is_throttled }
}
