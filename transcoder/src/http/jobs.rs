//! `/v1/jobs`.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{HeaderMap, HeaderValue, LOCATION};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use url::Url;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Kind, Problem};
use super::uploads::check_name;
use super::view::{JobView, encoder_name};
use super::{App, Json};
use crate::asset::AssetId;
use crate::encoder::Encoder;
use crate::jobs::{Filter, Job, JobId, Profile, State as JobState};
use crate::ladder::Codec;
use crate::plan::{Container, Quality};
use crate::service::Wishes;
use crate::webhook;

/// So often something is sent to whoever waits for progress, so that nobody between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const USUAL_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;

/// What is to be encoded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Request)]
pub(super) struct Submission {
    /// Name of an upload: its key or path below the place for uploads.
    source: String,
    /// What to call it, in place of a name made of the source's.
    #[schema(value_type = Option<String>)]
    asset: Option<AssetId>,
    /// Higher ones first; 0 is usual.
    #[serde(default)]
    priority: i32,
    /// Whom to tell when it ends: a public address.
    #[schema(value_type = Option<String>)]
    webhook: Option<Url>,
    /// What differs from how the service usually encodes.
    #[serde(default)]
    options: Wanted,
    /// `ffmpeg` or `mediaconvert`, in place of the usual one.
    encoder: Option<String>,
}

/// Each in place of the service's own.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Wanted)]
struct Wanted {
    container: Option<Container>,
    codecs: Option<Vec<Codec>>,
    hdr: Option<bool>,
    quality: Option<Quality>,
    encrypt: Option<bool>,
    /// A new key for every so many segments; needs `encrypt`.
    #[schema(value_type = Option<u32>, minimum = 1)]
    key_every: Option<NonZeroU32>,
    dense_key_frames: Option<bool>,
}

/// Some jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobPage)]
pub(super) struct Page {
    /// The newest first.
    jobs: Vec<JobView>,
    /// `before` of the next page, if there is one.
    next: Option<String>,
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those in these states, separated by commas.
    state: Option<String>,
    /// Only those of this asset.
    asset: Option<String>,
    /// Only those that were created before this one.
    before: Option<String>,
    /// How many: 1 to 500.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Asks for a job
///
/// Whoever asks for the same again gets the same job.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = Submission, responses(
    (status = 202, description = "It will be done", body = JobView),
    (status = 200, description = "It was known", body = JobView),
    (status = 422, description = "Nothing lies there, or it cannot be encoded so"),
))]
pub(super) async fn submit(
    State(app): State<App>,
    Json(submission): Json<Submission>,
) -> Result<Response, Problem> {
    let name = submission.source.clone();
    check_name(&name)?;
    let wishes = wishes(&app, submission)?;
    let Some((is_new, job)) = app.service.look_at(&name, wishes).await? else {
        let detail = "no video lies by this name in the place for uploads";
        return Err(Problem::of(Kind::Source, StatusCode::UNPROCESSABLE_ENTITY, detail));
    };
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, location(&job.id), axum::Json(app.view.job(&job))).into_response())
}

fn wishes(app: &App, submission: Submission) -> Result<Wishes, Problem> {
    let impossible = |detail: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let Submission { asset, priority, webhook, options, encoder, .. } = submission;
    if let Some(url) = &webhook {
        webhook::check(url).map_err(|error| impossible(error.to_string()))?;
        if app.settings.webhook.secret.is_none() {
            return Err(impossible(
                "webhooks are signed: the service needs a --webhook-secret first".to_owned(),
            ));
        }
    }
    let usual = &app.service.profile;
    let mut profile = usual.clone();
    let wanted = options;
    let made = &mut profile.options;
    made.container = wanted.container.unwrap_or(made.container);
    made.codecs = wanted.codecs.unwrap_or_else(|| made.codecs.clone());
    made.hdr = wanted.hdr.unwrap_or(made.hdr);
    made.quality = wanted.quality.unwrap_or(made.quality);
    made.encrypt = wanted.encrypt.unwrap_or(made.encrypt);
    made.dense_key_frames = wanted.dense_key_frames.unwrap_or(made.dense_key_frames);
    if wanted.key_every.is_some() && !made.encrypt {
        return Err(impossible("`key_every` needs `encrypt`".to_owned()));
    }
    made.key_every = wanted.key_every.or(made.key_every).filter(|_| made.encrypt);
    made.check().map_err(|error| impossible(error.to_string()))?;
    if let Some(name) = encoder.filter(|name| *name != encoder_name(usual)) {
        let encoder = serde_json::from_value::<Encoder>(json!(name)).ok();
        profile.encoder = encoder
            .filter(|encoder| app.service.running.has(*encoder))
            .ok_or_else(|| impossible("this service has no such encoder: leave `encoder` out".to_owned()))?;
    }
    let profile: Option<Profile> = (profile != *usual).then_some(profile);
    Ok(Wishes { asset, profile, priority, webhook })
}

pub(super) fn location(id: &JobId) -> [(axum::http::HeaderName, HeaderValue); 1] {
    [(LOCATION, HeaderValue::try_from(format!("/v1/jobs/{id}")).expect("an id is hexadecimal"))]
}

/// Jobs, the newest first
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(Which), responses(
    (status = 200, description = "A page of them", body = Page),
))]
pub(super) async fn list(
    State(app): State<App>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<axum::Json<Page>, Problem> {
    let Query(which) = which?;
    let limit = which.limit.unwrap_or(USUAL_PAGE);
    let filter = filter(which, limit)?;
    let jobs = app.service.jobs.list(&filter).await?;
    let next = jobs.last().filter(|_| jobs.len() >= limit as usize).map(|job| job.id.to_string());
    Ok(axum::Json(Page { jobs: jobs.iter().map(|job| app.view.job(job)).collect(), next }))
}

fn filter(which: Which, limit: u32) -> Result<Filter, Problem> {
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(wrong(format!("`limit` is 1 to {LARGEST_PAGE}")));
    }
    let states = which.state.iter().flat_map(|states| states.split(',')).map(|state| {
        serde_json::from_value::<JobState>(json!(state)).map_err(|_| {
            wrong(
                "`state` is one or some of queued, probing, encoding, publishing, done, failed, cancelled"
                    .to_owned(),
            )
        })
    });
    let asset = which.asset.map(|asset| asset.parse().map_err(|error| wrong(format!("`asset`: {error}"))));
    let before = which.before.map(|id| id.parse().map_err(|error| wrong(format!("`before`: {error}"))));
    Ok(Filter {
        states: states.collect::<Result<_, _>>()?,
        asset: asset.transpose()?,
        before: before.transpose()?,
        limit,
    })
}

/// A job
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 200, description = "As it is now", body = JobView),
    (status = 404, description = "There is none"),
))]
pub(super) async fn find(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<axum::Json<JobView>, Problem> {
    Ok(axum::Json(app.view.job(&known(&app, &id).await?)))
}

async fn known(app: &App, id: &str) -> Result<Job, Problem> {
    let id: JobId = id.parse().map_err(|_| Problem::no_job())?;
    app.service.jobs.find(&id).await?.ok_or_else(Problem::no_job)
}

/// Stops a job
///
/// What it made is taken back.
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 202, description = "It is being stopped", body = JobView),
    (status = 404, description = "There is none"),
    (status = 409, description = "It has ended"),
))]
pub(super) async fn cancel(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = known(&app, &id).await?.id;
    if !app.service.cancel(&id).await? {
        return Err(Problem::of(Kind::Ended, StatusCode::CONFLICT, "the job has ended already"));
    }
    let job = known(&app, &id.to_string()).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(app.view.job(&job))).into_response())
}

/// Does a job again that failed or was cancelled
#[utoipa::path(post, path = "/v1/jobs/{id}/retry", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 202, description = "It is queued", body = JobView),
    (status = 404, description = "There is none"),
    (status = 409, description = "It did not fail and was not cancelled"),
))]
pub(super) async fn retry(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = known(&app, &id).await?.id;
    if !app.service.jobs.retry(&id, jiff::Timestamp::now()).await? {
        let detail = "only a job that failed or was cancelled can be retried";
        return Err(Problem::of(Kind::NotEnded, StatusCode::CONFLICT, detail));
    }
    let job = known(&app, &id.to_string()).await?;
    Ok((StatusCode::ACCEPTED, location(&id), axum::Json(app.view.job(&job))).into_response())
}

/// How far a job is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Progress)]
struct ProgressView {
    state: &'static str,
    percent: Option<f64>,
    seconds_left: Option<f64>,
    attempts: u32,
    reason: Option<String>,
    playlist: Option<String>,
}

/// A job's progress, as it goes on
///
/// Server-sent events named `progress`: at once how far it is, then every change; the last one is a final state.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "jobs", params(("id" = String, Path)), responses(
    (status = 200, description = "Each event's data", body = ProgressView, content_type = "text/event-stream"),
    (status = 204, description = "It has ended, and `Last-Event-ID` was the last event"),
    (status = 404, description = "There is none"),
))]
pub(super) async fn events(
    State(app): State<App>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // Before the job is looked at, so that nothing can happen between.
    let changes = app.service.jobs.changes();
    let job = known(&app, &id).await?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    if job.state.is_final() && last == Some(event_id(&job).as_str()) {
        // The one answer after which a browser does not ask again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let next = Some((app, changes, job.id.clone(), Some(job)));
    let events = stream::unfold(next, async |next| {
        let (app, mut changes, id, first) = next?;
        let job = match first {
            Some(job) => job,
            None => loop {
                let change = tokio::select! {
                    change = changes.recv() => change,
                    () = app.service.stop.cancelled() => return None,
                };
                match change {
                    Ok(job) if job.id == id => break job,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => break app.service.jobs.find(&id).await.ok()??,
                    Err(RecvError::Closed) => return None,
                }
            },
        };
        let event = event(&app, &job);
        let next = (!job.state.is_final()).then_some((app, changes, id, None));
        Some((Ok::<_, Infallible>(event), next))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn event_id(job: &Job) -> String {
    job.updated.as_nanosecond().to_string()
}

fn event(app: &App, job: &Job) -> Event {
    let JobView { state, percent, seconds_left, attempts, reason, playlist, .. } = app.view.job(job);
    let progress = ProgressView { state, percent, seconds_left, attempts, reason, playlist };
    let data = serde_json::to_string(&progress).expect("it is plain data");
    Event::default().event("progress").id(event_id(job)).data(data)
}
