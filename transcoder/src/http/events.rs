//! `/v1/events`: what others say of uploads and encodes.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use reqwest::redirect::Policy;
use serde::Serialize;
use url::Url;
use utoipa::ToSchema;

use super::problem::{Kind, Problem};
use super::{App, Whole};
use crate::event::{self, Event};
use crate::jobs::JobId;

/// How long Amazon may take to take note of a subscription.
const CONFIRM_TIME: Duration = Duration::from_secs(10);

pub(super) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder().redirect(Policy::none()).timeout(CONFIRM_TIME).build()
}

/// What came of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Heard {
    /// Jobs that it led to, new or not.
    jobs: Vec<JobId>,
}

/// Takes what is said of uploads, or of an encode of `MediaConvert`
///
/// A message of S3, SNS, `EventBridge`, R2 or `MinIO`, as JSON whatever its content type. Authorised by the token for
/// events too: as a bearer, in `X-Reelgate-Token`, or as `?token=`. A subscription of an SNS topic is confirmed.
#[utoipa::path(post, path = "/v1/events", operation_id = "hear", tag = "events",
    security(("token" = []), ("events_header" = []), ("events_query" = [])),
    request_body(content_type = "application/json", content = Object), responses(
    (status = 200, description = "It was acted on", body = Heard),
    (status = 400, description = "It is none of those messages"),
    (status = 413, description = "It is larger than 1 MB"),
    (status = 503, description = "It could not be acted on: send it again"),
))]
pub(super) async fn hear(
    State(app): State<App>,
    Whole(message): Whole,
) -> Result<axum::Json<Heard>, Problem> {
    let events = event::parse(&message)
        .map_err(|error| Problem::of(Kind::Message, StatusCode::BAD_REQUEST, error.to_string()))?;
    let mut others = Vec::new();
    for event in events {
        match event {
            Event::Subscription { url } => subscribe(&app, &url).await?,
            other => others.push(other),
        }
    }
    let jobs = if others.is_empty() { Vec::new() } else { app.service.hear(others).await? };
    Ok(axum::Json(Heard { jobs }))
}

/// Whoever may post here must not be able to have anything else loaded.
async fn subscribe(app: &App, url: &str) -> Result<(), Problem> {
    if !event::is_of_sns(url) && !is_of_host(url, &app.settings.topic_hosts) {
        let detail = "a subscription is confirmed at https://sns.REGION.amazonaws.com only";
        return Err(Problem::of(Kind::Message, StatusCode::BAD_REQUEST, detail));
    }
    let answered = app.client.get(url).send().await.and_then(reqwest::Response::error_for_status);
    answered.map_err(|error| {
        Problem::unavailable("the subscription could not be confirmed: send it again", error.without_url())
    })?;
    tracing::info!("subscribed to a topic");
    Ok(())
}

fn is_of_host(url: &str, hosts: &[String]) -> bool {
    Url::parse(url).is_ok_and(|url| hosts.iter().any(|host| host == url.authority()))
}
