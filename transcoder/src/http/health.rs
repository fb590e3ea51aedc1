//! Whether the service lives, is ready, and what it counts.

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
use crate::storage::Store;

/// How long the store's last answer counts, and how long the next one may take.
const LATELY: Duration = Duration::from_secs(30);
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// When the store was last asked for something, and whether it answered.
#[derive(Debug, Default)]
pub(super) struct StoreHealth(Mutex<Option<(Instant, bool)>>);

impl StoreHealth {
    /// However many ask, the store is asked now and then.
    async fn is_well(&self, store: &Store) -> bool {
        let mut last = self.0.lock().await;
        if let Some((when, is_well)) = *last
            && when.elapsed() < LATELY
        {
            return is_well;
        }
        let is_well = match timeout(ANSWER_TIME, store.assets(None, 1)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the store does not answer");
                false
            }
            Err(_) => {
                tracing::warn!(seconds = ANSWER_TIME.as_secs(), "the store does not answer in time");
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
    name: &'static str,
    ok: bool,
}

/// All that is needed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Readiness {
    checks: Vec<Check>,
}

/// Whether the process lives
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()), responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain"),
))]
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Whether it can do its work
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()), responses(
    (status = 200, description = "It can", body = Readiness),
    (status = 503, description = "It cannot: `checks` says what is missing"),
))]
pub(super) async fn ready(State(app): State<App>) -> Result<axum::Json<Readiness>, Problem> {
    let service = &app.service;
    let (database, store) =
        tokio::join!(timeout(ANSWER_TIME, service.jobs.counts()), app.store_health.is_well(&service.store));
    let check = |name, ok| Check { name, ok };
    let checks = vec![
        check("database", matches!(database, Ok(Ok(_)))),
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
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "`OpenMetrics` text", body = String, content_type = "application/openmetrics-text"),
))]
pub(super) async fn metrics(State(app): State<App>) -> Result<Response, Problem> {
    let text = app.settings.metrics.text(&app.service.jobs, Timestamp::now()).await?;
    Ok(([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}
