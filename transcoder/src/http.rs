//! The service over HTTP.
//!
//! ```text
//! connection ─▶ log, faults ─▶ guard ─▶ route ─▶ Service, Jobs, Uploads, Store
//!                                          └──▶ Problem
//! ```
//!
//! What it takes and answers is in [`openapi`], made from this code. Whatever goes wrong is a problem ([RFC 9457]).
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

mod assets;
mod connections;
mod description;
mod events;
mod guard;
mod health;
mod jobs;
mod playback;
mod problem;
mod studio;
mod uploads;
mod view;

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use futures_util::{FutureExt, StreamExt};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use tokio::net::TcpListener;
use tokio::time::timeout;
use url::Url;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use self::guard::Token;
pub(crate) use self::view::View;

use self::guard::{Guard, Peer};
use self::problem::{Cause, Problem};
use self::uploads::Incoming;
use crate::jobs::JobId;
use crate::metrics::Metrics;
use crate::playback::BoxOffice;
use crate::service::Service;
use crate::webhook;

/// Which sites' pages may show an answer as a picture, say ([Fetch](https://fetch.spec.whatwg.org/#cross-origin-resource-policy-header)).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// The largest body but for uploads.
const LARGEST_BODY: usize = 1 << 20;

/// How long such a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How old what is left of an upload becomes, and how often that is looked at.
const SWEEP_EVERY: Duration = Duration::from_hours(1);

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Opens everything. Without one only this machine is listened to.
    pub api_token: Option<Token>,
    /// Opens `/v1/events`.
    pub events_token: Option<Token>,
    /// Where unfinished uploads are kept, in a folder `incoming`.
    pub data: PathBuf,
    /// The largest file that is taken, in bytes.
    pub max_upload: u64,
    /// Who is told when a job ends.
    pub webhook: webhook::Settings,
    /// Hosts beside Amazon's whose topics are subscribed to, with their port: imitations of SNS.
    pub topic_hosts: Vec<String>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where viewers reach the edge, for the studio.
    pub edge: Option<Url>,
    /// Who signs, if anybody does.
    pub playback: Option<Arc<BoxOffice>>,
}

/// Why it cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Anybody could encode here.
    #[error("{0} can be reached from other machines: set --api-token, or listen on 127.0.0.1")]
    Exposed(std::net::SocketAddr),
    /// Jobs may name webhooks, and anybody could send those.
    #[error("--webhook needs a --webhook-secret, by which the receiver knows that it is this service")]
    Unsigned,
    /// There is no place for uploads.
    #[error("cannot write to {path} ({error}): point --data at a folder that is writable and has room")]
    Data {
        /// Which folder.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The address is not to be had.
    #[error("cannot listen: {0}")]
    Listen(io::Error),
    /// Nothing could be sent.
    #[error("webhooks cannot be sent: {0}")]
    Client(#[from] reqwest::Error),
}

/// What handlers share.
#[derive(Clone)]
struct App(Arc<Shared>);

struct Shared {
    service: Service,
    settings: Settings,
    guard: Guard,
    view: View,
    incoming: Incoming,
    files: studio::Files,
    health: health::Health,
    client: reqwest::Client,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Answers until the service is stopped, and delivers webhooks meanwhile. Requests that are being answered then have
/// some seconds; an upload that is cut off can be continued.
pub async fn serve(service: Service, settings: Settings, listener: TcpListener) -> Result<(), Error> {
    let address = listener.local_addr().map_err(Error::Listen)?;
    if settings.api_token.is_none() && !address.ip().is_loopback() {
        return Err(Error::Exposed(address));
    }
    if settings.webhook.url.is_some()
        && settings.webhook.secret.as_ref().is_none_or(webhook::Secret::is_empty)
    {
        return Err(Error::Unsigned);
    }
    let path = settings.data.join("incoming");
    let incoming = Incoming::open(&path).map_err(|error| Error::Data { path, error })?;
    let app = App(Arc::new(Shared {
        guard: Guard { api: settings.api_token.clone(), events: settings.events_token.clone() },
        view: View::new(&service, &settings.data),
        incoming,
        files: studio::Files::new(settings.edge.as_ref()),
        health: health::Health::default(),
        client: events::client()?,
        service,
        settings,
    }));
    tracing::info!(%address, "listening");

    let (service, settings) = (&app.service, &app.settings);
    let stop = &service.stop;
    let router = router(app.clone());
    let deliver = webhook::deliver(&service.jobs, &app.view, &settings.webhook, &settings.metrics, stop);
    let sweep = async {
        while timeout(SWEEP_EVERY, stop.cancelled()).await.is_err() {
            app.incoming.sweep().await;
        }
    };
    let accept = connections::accept(listener, router, stop);
    let ((), (), (), delivered) =
        tokio::join!(accept, sweep, settings.metrics.watch(&service.jobs, stop), deliver);
    Ok(delivered?)
}

/// What there is to ask for.
fn routes() -> (Router<App>, Value) {
    let (router, document) = OpenApiRouter::with_openapi(description::begun())
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::all_events))
        .routes(routes!(jobs::find, jobs::cancel))
        .routes(routes!(jobs::retry))
        .routes(routes!(jobs::events))
        .routes(routes!(uploads::put, uploads::head))
        .routes(routes!(events::hear))
        .routes(routes!(assets::list))
        .routes(routes!(assets::find, assets::delete))
        .routes(routes!(assets::roll_back))
        .routes(routes!(assets::poster))
        .routes(routes!(playback::sell))
        .routes(routes!(studio::about))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
        .split_for_parts();
    (router, description::complete(&document))
}

/// The description of all of it: an `OpenAPI` document.
#[must_use]
pub fn openapi() -> Value {
    routes().1
}

fn router(app: App) -> Router {
    let (router, document) = routes();
    let document: Bytes = document.to_string().into();
    let openapi = move || async move { ([(CONTENT_TYPE, "application/json")], document) };
    router
        .merge(studio::routes())
        .route("/openapi.json", routing::get(openapi))
        .route("/problems/{name}", routing::get(problem::explain))
        .route("/v1/playback", routing::options(playback::preflight))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), around))
        .with_state(app)
}

/// What happens to every request.
async fn around(State(app): State<App>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = method_name(request.method());
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".to_owned());
    let job = job_of(request.uri().path());

    let answer = AssertUnwindSafe(guarded(&app, request, next)).catch_unwind().await;
    let mut response = answer.unwrap_or_else(|fault| {
        // The panic hook has said where.
        drop(fault);
        Problem::internal("it panicked").into_response()
    });
    let status = response.status();
    let is_problem =
        |headers: &HeaderMap| headers.get(CONTENT_TYPE).is_some_and(|kind| kind == problem::MEDIA_TYPE);
    if (status.is_client_error() || status.is_server_error()) && !is_problem(response.headers()) {
        let (parts, _) = response.into_parts();
        response = Problem::bare(status).into_response();
        for (name, value) in parts.headers.iter().filter(|(name, _)| !is_about_the_body(name)) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Where no token is needed, a page of another site would show a poster, and learn which there are.
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));

    let took = begun.elapsed();
    app.settings.metrics.answered(method, &route, status.as_u16(), took);
    let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let status = status.as_u16();
    if let Some(Cause(cause)) = response.extensions().get() {
        tracing::error!(method, route, job, status, milliseconds, cause, "request failed");
    } else {
        tracing::info!(method, route, job, status, milliseconds, "request");
    }
    response
}

async fn guarded(app: &App, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Some(peer) = parts.extensions.get::<Peer>().copied() else {
        return Problem::internal("a connection without a peer").into_response();
    };
    match app.guard.admit(&parts, peer) {
        Ok(()) => next.run(Request::from_parts(parts, body)).await,
        Err(problem) => problem.into_response(),
    }
}

/// The job that a path names.
fn job_of(path: &str) -> Option<String> {
    let id = path.strip_prefix("/v1/jobs/")?.split('/').next()?;
    id.parse::<JobId>().ok().map(|id| id.to_string())
}

fn is_about_the_body(name: &HeaderName) -> bool {
    *name == CONTENT_TYPE || *name == CONTENT_LENGTH
}

/// A method for logs and metrics: clients may invent as many as they like.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A body that is read whole.
struct Whole(Bytes);

impl<S: Sync> FromRequest<S> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let read = read(request.into_body());
        let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive within 30 s");
        timeout(BODY_TIME, read).await.unwrap_or_else(|_| Err(late())).map(Self)
    }
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body broke off"))?;
        if all.len() + chunk.len() > LARGEST_BODY {
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a body may have 1 MB, but for uploads"));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

/// A body of JSON.
struct Json<T>(T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "send JSON, with `Content-Type: application/json`",
            ));
        }
        let Whole(bytes) = Whole::from_request(request, state).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| match error.classify() {
            Category::Data => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("this cannot be asked for: {error}"))
            }
            _ => Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}")),
        })
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}
