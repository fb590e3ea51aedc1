//! Whether the service lives, is ready, and what it counts.

use std::fmt;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Mutex;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::App;
use super::problem::{Kind, Problem};
use crate::metrics;

/// How long the last answer of something counts, and how long the next one may take.
const LATELY: Duration = Duration::from_secs(30);
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// When the database and the store were last tried, and whether they did what was asked.
#[derive(Debug, Default)]
pub(super) struct Health {
    database: Tried,
    store: Tried,
}

#[derive(Debug, Default)]
struct Tried(Mutex<Option<(Instant, bool)>>);

impl Tried {
    /// However many ask, it is tried now and then.
    async fn is_well<E: fmt::Display>(
        &self,
        what: &str,
        attempt: impl Future<Output = Result<(), E>>,
    ) -> bool {
        let mut last = self.0.lock().await;
        if let Some((when, is_well)) = *last
            && when.elapsed() < LATELY
        {
            return is_well;
        }
        let is_well = match timeout(ANSWER_TIME, attempt).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the {what} does not answer");
                false
            }
            Err(_) => {
                tracing::warn!(seconds = ANSWER_TIME.as_secs(), "the {what} does not answer in time");
                false
            }
        };
        *last = Some((Instant::now(), is_well));
        is_well
    }
}

/// One thing that is needed.
#[derive(Debug, Serialize, ToSchema)]
struct Check {
    /// What is needed.
    name: &'static str,
    /// Whether it is there.
    ok: bool,
}

/// All that is needed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    /// Each of them.
    checks: Vec<Check>,
}

/// Whether the process lives
///
/// Asks nothing of the database or the store: one that does not answer this is to be started again.
#[utoipa::path(get, path = "/healthz", operation_id = "live", tag = "operation", security(()), responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain"),
))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether it can do its work
///
/// The database can be written to, the store answers, and the service is not about to end.
#[utoipa::path(get, path = "/readyz", operation_id = "ready", tag = "operation", security(()), responses(
    (status = 200, description = "It can", body = Readiness),
    (status = 503, description = "It cannot: `checks` says what is missing"),
))]
pub(super) async fn ready(State(app): State<App>) -> Result<axum::Json<Readiness>, Problem> {
    let service = &app.service;
    let written = service.jobs.check();
    let listed = async { service.store.assets(None, 1).await.map(drop) };
    let (database, store) = tokio::join!(
        app.health.database.is_well("database", written),
        app.health.store.is_well("store", listed)
    );
    let check = |name, ok| Check { name, ok };
    let checks = vec![
        check("database", database),
        check("store", store),
        check("running", !service.stop.is_cancelled()),
    ];
    let missing: Vec<_> = checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
    if missing.is_empty() {
        return Ok(axum::Json(Readiness { checks }));
    }
    let detail = format!("not well: {}; the log says why", missing.join(", "));
    let problem = Problem::of(Kind::Unready, StatusCode::SERVICE_UNAVAILABLE, detail);
    Err(problem.with("checks", json!(checks)))
}

/// What is counted, for Prometheus
///
/// For this machine without a token.
#[utoipa::path(get, path = "/metrics", operation_id = "metrics", tag = "operation",
    security((), ("token" = [])), responses(
    (status = 200, description = "`OpenMetrics` text", body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = app.settings.metrics.text(&app.service.jobs, Timestamp::now()).await?;
    Ok(([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}
