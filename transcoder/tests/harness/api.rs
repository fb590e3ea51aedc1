//! A running service without workers, at a real socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use transcoder::encoder::Encoder;
use transcoder::http::{self, Settings};
use transcoder::jobs::{Jobs, Profile, Step};
use transcoder::metrics::Metrics;
use transcoder::plan::Options;
use transcoder::service::{Running, Service};
use transcoder::storage::{Access, Store};
use transcoder::upload::Uploads;
use transcoder::{CancellationToken, webhook};

use super::Studio;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running service without workers: a test says how jobs go on.
pub(crate) struct Api {
    pub(crate) studio: Studio,
    pub(crate) service: Service,
    pub(crate) address: SocketAddr,
    pub(crate) client: Client,
    pub(crate) running: JoinHandle<Result<(), http::Error>>,
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let studio = Studio::new();
        let path = |name: &str| studio.path(name).to_str().unwrap().to_owned();
        let service = Service {
            jobs: Jobs::open(&studio.path("jobs.sqlite"), Timestamp::now()).await.unwrap(),
            uploads: Uploads::open(&path("uploads"), &Access::default()).unwrap(),
            store: Store::open(&path("media"), &Access::default()).unwrap(),
            profile: Profile { encoder: Encoder::Ffmpeg, options: Options::default() },
            stop: CancellationToken::new(),
            running: Arc::<Running>::default(),
        };
        let mut settings = settings(studio.path("data"));
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let running = tokio::spawn(http::serve(service.clone(), settings, listener));
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { studio, service, address, client, running }
    }

    pub(crate) fn ask(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method: Method = method.parse().unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    pub(crate) async fn get(&self, path: &str) -> (StatusCode, Value) {
        read(self.ask("GET", path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let request =
            self.ask("POST", path).header("content-type", "application/json").body(body.to_string());
        read(request.send().await.unwrap()).await
    }

    pub(crate) fn upload(&self, name: &str, bytes: &[u8]) {
        let path = self.studio.path("uploads").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// A job for a new upload.
    pub(crate) async fn job(&self, name: &str) -> String {
        self.upload(name, name.as_bytes());
        let (status, job) = self.post("/v1/jobs", &json!({ "source": name })).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{job}");
        job["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn advance(&self, id: &str, step: Step) {
        assert!(self.service.jobs.advance(&id.parse().unwrap(), step, Timestamp::now()).await.unwrap());
    }

    pub(crate) async fn stop(self) {
        self.service.stop.cancel();
        timeout(PATIENCE, self.running).await.expect("it stops in time").unwrap().unwrap();
    }
}

pub(crate) fn settings(data: PathBuf) -> Settings {
    Settings {
        api_token: None,
        events_token: None,
        data,
        max_upload: 1 << 20,
        webhook: webhook::Settings::default(),
        topic_hosts: Vec::new(),
        metrics: Metrics::new(),
        edge: None,
        playback: None,
    }
}

/// What is read of an answer; that of a refusal has to be a problem.
pub(crate) async fn read(response: Response) -> (StatusCode, Value) {
    let (status, headers) = (response.status(), response.headers().clone());
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["cross-origin-resource-policy"], "same-origin");
    assert_eq!(headers["cache-control"], "no-store");
    let text = response.text().await.unwrap();
    let body: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    if status.is_client_error() || status.is_server_error() {
        assert_eq!(headers["content-type"], "application/problem+json", "{body}");
        assert_eq!(body["status"], status.as_u16(), "{body}");
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {body}");
        }
    }
    (status, body)
}
