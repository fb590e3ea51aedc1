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
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use url::Url;
use utoipa::{IntoParams, ToSchema};

use super::problem::{Kind, Problem};
use super::uploads::{Name, check_name};
use super::view::{JobView, View, encoder_name};
use super::{App, Json};
use crate::asset::AssetId;
use crate::encoder::Encoder;
use crate::jobs::{Filter, Job, JobId, Profile, State as JobState};
use crate::ladder::Codec;
use crate::plan::{Container, Quality};
use crate::service::Wishes;
use crate::{CancellationToken, webhook};

/// So often something is sent to whoever waits for progress, so that nobody between takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

const USUAL_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 500;

/// What is to be encoded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Request)]
pub(super) struct Submission {
    /// Name of an upload: its key or path below the place for uploads. At most 1024 bytes.
    #[schema(value_type = Name)]
    source: String,
    /// What to call it, in place of a name made of the source's.
    asset: Option<AssetId>,
    /// Higher ones first; 0 is usual.
    #[serde(default)]
    priority: i32,
    /// Whom to tell when it ends: a public address.
    #[schema(value_type = Option<String>, format = "uri")]
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
    /// How segments are packed.
    container: Option<Container>,
    /// Those that are made beside H.264.
    codecs: Option<Vec<Codec>>,
    /// Whether the high dynamic range of a source that has it is kept too.
    hdr: Option<bool>,
    /// How much time is spent for fewer bytes.
    quality: Option<Quality>,
    /// Whether segments are encrypted with AES-128.
    encrypt: Option<bool>,
    /// A new key for every so many segments; needs `encrypt`.
    #[schema(value_type = Option<u32>, minimum = 1)]
    key_every: Option<NonZeroU32>,
    /// Whether there is a rendition of one picture a second for seeking.
    dense_key_frames: Option<bool>,
}

/// Some jobs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobPage)]
pub(super) struct Page {
    /// The newest first.
    jobs: Vec<JobView>,
    /// `before` of the next page, if there is one.
    next: Option<JobId>,
}

/// Which jobs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those in these states, separated by commas.
    #[param(
        pattern = "^(queued|probing|encoding|publishing|done|failed|cancelled)(,(queued|probing|encoding|publishing|done|failed|cancelled))*$",
        example = "queued,encoding"
    )]
    state: Option<String>,
    /// Only those of this asset.
    #[param(inline, value_type = Option<AssetId>, example = "lesson-1")]
    asset: Option<String>,
    /// Only those that were created before this one.
    #[param(inline, value_type = Option<JobId>, example = "298c3ab86b905f117385fc1c428cc3c2")]
    before: Option<String>,
    /// How many: 1 to 500, 50 if nobody says.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Which job.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ThisOne {
    /// The job's id.
    #[param(inline, value_type = JobId, example = "298c3ab86b905f117385fc1c428cc3c2")]
    id: String,
}

/// Asks for a job
///
/// Of something that lies among the uploads. Whoever asks for the same again gets the same job. What is uploaded by
/// `PUT /v1/uploads` need not be asked for: it has a job already.
#[utoipa::path(post, path = "/v1/jobs", operation_id = "submitJob", tag = "jobs", request_body = Submission, responses(
    (status = 202, description = "It will be done", body = JobView),
    (status = 200, description = "It was known", body = JobView),
    (status = 400, description = "The body is not JSON, or nothing can have this name"),
    (status = 413, description = "The body is larger than 1 MB"),
    (status = 415, description = "The body is not said to be JSON"),
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
///
/// A page at a time: `next` is the `before` of the one after it.
#[utoipa::path(get, path = "/v1/jobs", operation_id = "listJobs", tag = "jobs", params(Which), responses(
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
    let next = jobs.last().filter(|_| jobs.len() >= limit as usize).map(|job| job.id.clone());
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
///
/// Its state, how far that is, and why it failed if it did.
#[utoipa::path(get, path = "/v1/jobs/{id}", operation_id = "readJob", tag = "jobs", params(ThisOne), responses(
    (status = 200, description = "As it is now", body = JobView),
    (status = 404, description = "There is none"),
))]
pub(super) async fn find(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
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
#[utoipa::path(delete, path = "/v1/jobs/{id}", operation_id = "cancelJob", tag = "jobs", params(ThisOne), responses(
    (status = 202, description = "It is being stopped", body = JobView),
    (status = 404, description = "There is none"),
    (status = 409, description = "It has ended"),
))]
pub(super) async fn cancel(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
) -> Result<Response, Problem> {
    let id = known(&app, &id).await?.id;
    if !app.service.cancel(&id).await? {
        return Err(Problem::of(Kind::Ended, StatusCode::CONFLICT, "the job has ended already"));
    }
    let job = known(&app, &id.to_string()).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(app.view.job(&job))).into_response())
}

/// Does a job again that failed or was cancelled
///
/// As if it were new.
#[utoipa::path(post, path = "/v1/jobs/{id}/retry", operation_id = "retryJob", tag = "jobs", params(ThisOne), responses(
    (status = 202, description = "It is queued", body = JobView),
    (status = 404, description = "There is none"),
    (status = 409, description = "It did not fail and was not cancelled"),
))]
pub(super) async fn retry(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
) -> Result<Response, Problem> {
    let id = known(&app, &id).await?.id;
    if !app.service.jobs.retry(&id, jiff::Timestamp::now()).await? {
        let detail = "only a job that failed or was cancelled can be retried";
        return Err(Problem::of(Kind::NotEnded, StatusCode::CONFLICT, detail));
    }
    let job = known(&app, &id.to_string()).await?;
    Ok((StatusCode::ACCEPTED, location(&id), axum::Json(app.view.job(&job))).into_response())
}

/// All jobs, as they go on
///
/// Server-sent events: `job` at every change of a job, with the job (`Job`) as it is then; `lagged` where some changes were
/// lost, because they were read too slowly: list the jobs again. Changes are those that this process makes.
#[utoipa::path(get, path = "/v1/jobs/events", operation_id = "followJobs", tag = "jobs", responses(
    (status = 200, description = "Events, one after the other", body = String, content_type = "text/event-stream"),
))]
pub(super) async fn all_events(State(app): State<App>) -> Response {
    told(app.service.jobs.changes(), app.view.clone(), app.service.stop.clone())
}

fn told(changes: Receiver<Job>, view: View, stop: CancellationToken) -> Response {
    let events = stream::unfold((changes, view, stop), async |(mut changes, view, stop)| {
        let change = tokio::select! {
            change = changes.recv() => change,
            () = stop.cancelled() => return None,
        };
        let event = match change {
            Ok(job) => {
                let data = serde_json::to_string(&view.job(&job)).expect("it is plain data");
                Event::default().event("job").data(data)
            }
            Err(RecvError::Lagged(lost)) => {
                Event::default().event("lagged").data(json!({ "lost": lost }).to_string())
            }
            Err(RecvError::Closed) => return None,
        };
        Some((Ok::<_, Infallible>(event), (changes, view, stop)))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

/// How far a job is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Progress)]
pub(super) struct ProgressView {
    /// How far it is.
    state: JobState,
    /// Percent of its present state that are done.
    percent: Option<f64>,
    /// How long the rest of that will take.
    seconds_left: Option<f64>,
    /// How often it was begun.
    attempts: u32,
    /// What went wrong at last, or why it was cancelled.
    reason: Option<String>,
    /// Key of the multivariant playlist, once it can be played.
    playlist: Option<String>,
}

/// A job's progress, as it goes on
///
/// Server-sent events named `progress` (`Progress`): at once how far it is, then every change; the last one is a final
/// state.
#[utoipa::path(get, path = "/v1/jobs/{id}/events", operation_id = "followJob", tag = "jobs", params(ThisOne), responses(
    (status = 200, description = "Events, one after the other", body = String, content_type = "text/event-stream"),
    (status = 204, description = "It has ended, and `Last-Event-ID` was the last event"),
    (status = 404, description = "There is none"),
))]
pub(super) async fn events(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use jiff::Timestamp;
    use tokio::sync::broadcast;

    use super::*;
    use crate::jobs::Jobs;
    use crate::service::Service;
    use crate::storage::{Access, Store};
    use crate::upload::Uploads;

    #[tokio::test]
    async fn who_reads_too_slowly_is_told_that_something_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let service = Service {
            jobs: Jobs::open(&folder.path().join("jobs.sqlite"), Timestamp::UNIX_EPOCH).await.unwrap(),
            uploads: Uploads::open(&at("uploads"), &Access::default()).unwrap(),
            store: Store::open(&at("media"), &Access::default()).unwrap(),
            profile: Profile { encoder: Encoder::Ffmpeg, options: crate::plan::Options::default() },
            stop: CancellationToken::new(),
            running: std::sync::Arc::default(),
        };
        std::fs::write(folder.path().join("uploads/a.mp4"), b"a").unwrap();
        let (_, job) = service.look_at("a.mp4", Wishes::default()).await.unwrap().unwrap();
        let (sender, changes) = broadcast::channel(2);
        let mut events = told(changes, View::new(&service, folder.path()), service.stop.clone())
            .into_body()
            .into_data_stream();
        for _ in 0..5 {
            sender.send(job.clone()).unwrap();
        }
        let first = events.next().await.unwrap().unwrap();
        assert_eq!(first, "event: lagged\ndata: {\"lost\":3}\n\n");
        for _ in 0..2 {
            assert!(events.next().await.unwrap().unwrap().starts_with(b"event: job\ndata: {\"id\":"));
        }
        service.stop.cancel();
        assert!(events.next().await.is_none());
    }
}
