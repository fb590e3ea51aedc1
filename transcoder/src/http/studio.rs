//! The studio: the page where one sees it all, and `/watch`, where one who was given a link watches.
//!
//! Their files are in the program itself. Whoever asks gets them: they say nothing of what there is here. What they show
//! they ask for with the token.

use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    HeaderName, REFERRER_POLICY, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Router, routing};
use edge::conditional::{self, Verdict};
use edge::gzip;
use edge::origin::Metadata;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};
use url::Url;
use utoipa::ToSchema;

use super::App;
use super::problem::Problem;
use crate::asset::hexadecimal;
use crate::playback::BoxOffice;

/// All files of the folder `studio`, by name from there.
const FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/studio.rs"));

/// Those that are pages, and where they are.
const PAGES: [(&str, &str); 2] = [("/", "index.html"), ("/watch", "watch.html")];

/// Content types by extension.
const CONTENT_TYPES: [(&str, &str); 7] = [
    ("html", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("json", "application/json"),
    ("LICENSE", "text/plain; charset=utf-8"),
];

/// What is smaller is not worth compressing.
const LARGE: usize = 1 << 10;

/// What goes with each of them beside its policy.
const ALWAYS: [(HeaderName, &str); 4] = [
    // Asked again each time, so that a new version of the program is seen at once.
    (CACHE_CONTROL, "no-cache"),
    // The address of `/watch` is a ticket.
    (REFERRER_POLICY, "no-referrer"),
    (VARY, "Accept-Encoding"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// The files, as they are sent.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<File>,
    policy: HeaderValue,
}

#[derive(Debug)]
struct File {
    name: &'static str,
    bytes: &'static [u8],
    etag: String,
    packed: OnceLock<Option<Bytes>>,
}

impl Files {
    pub(super) fn new(edge: Option<&Url>) -> Self {
        let file = |&(name, bytes): &(&'static str, &'static [u8])| {
            let etag = hexadecimal(&Sha256::digest(bytes)[..12]);
            File { name, bytes, etag, packed: OnceLock::new() }
        };
        Self { files: FILES.iter().map(file).collect(), policy: policy(edge) }
    }

    fn answer(&self, name: &str, request: &HeaderMap) -> Response {
        match self.files.iter().find(|file| file.name == name) {
            Some(file) => file.answer(request, &self.policy),
            None => Problem::bare(StatusCode::NOT_FOUND).into_response(),
        }
    }
}

impl File {
    fn answer(&self, request: &HeaderMap, policy: &HeaderValue) -> Response {
        let accepted = request.get(ACCEPT_ENCODING).and_then(|accepted| accepted.to_str().ok());
        let packed = accepted.is_some_and(gzip::is_accepted).then(|| self.packed()).flatten();
        let etag = format!("\"{}{}\"", self.etag, if packed.is_some() { "-gzip" } else { "" });
        let known = Metadata { etag: Some(etag.clone()), ..Metadata::default() };
        let mut response = match conditional::verdict(request, &known) {
            Verdict::Failed => return Problem::bare(StatusCode::PRECONDITION_FAILED).into_response(),
            Verdict::NotModified => StatusCode::NOT_MODIFIED.into_response(),
            Verdict::Proceed => {
                let kind = HeaderValue::from_static(content_type(self.name));
                match packed {
                    Some(packed) => {
                        let gzip = HeaderValue::from_static("gzip");
                        ([(CONTENT_TYPE, kind), (CONTENT_ENCODING, gzip)], packed).into_response()
                    }
                    None => ([(CONTENT_TYPE, kind)], Bytes::from_static(self.bytes)).into_response(),
                }
            }
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, HeaderValue::try_from(etag).expect("it is hexadecimal"));
        headers.insert(CONTENT_SECURITY_POLICY, policy.clone());
        for (name, value) in ALWAYS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    /// Made once, when the first asks for it.
    fn packed(&self) -> Option<Bytes> {
        let pack = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(self.bytes).ok()?;
            let packed = encoder.finish().ok()?;
            (packed.len() < self.bytes.len()).then(|| Bytes::from(packed))
        };
        self.packed.get_or_init(|| if self.bytes.len() < LARGE { None } else { pack() }).clone()
    }
}

/// What the pages may load and do: their own files, and what lies at the edge.
fn policy(edge: Option<&Url>) -> HeaderValue {
    let origin = edge.map(Url::origin).filter(url::Origin::is_tuple);
    let edge = origin.map(|origin| format!(" {}", origin.ascii_serialization())).unwrap_or_default();
    let policy = [
        "default-src 'none'",
        "script-src 'self'",
        "worker-src 'self'",
        "style-src 'self'",
        &format!("img-src 'self' blob:{edge}"),
        &format!("connect-src 'self'{edge}"),
        // hls.js gives each track of captions an empty file, `data:,WEBVTT`.
        &format!("media-src blob: data:{edge}"),
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ];
    HeaderValue::try_from(policy.join("; ")).expect("an origin is ASCII")
}

fn content_type(name: &str) -> &'static str {
    let extension = name.rsplit(['/', '.']).next().unwrap_or(name);
    let known = CONTENT_TYPES.iter().find(|(known, _)| *known == extension);
    known.map_or("application/octet-stream", |(_, kind)| kind)
}

/// The pages and their files, which are no part of the API's description.
pub(super) fn routes() -> Router<App> {
    let page = |name: &'static str| {
        routing::get(move |State(app): State<App>, headers: HeaderMap| async move {
            app.files.answer(name, &headers)
        })
    };
    let router = PAGES.iter().fold(Router::new(), |router, (path, name)| router.route(path, page(name)));
    router.route("/studio/{*name}", routing::get(file))
}

async fn file(State(app): State<App>, Path(name): Path<String>, headers: HeaderMap) -> Response {
    // One address for each, or links that are relative to it would lead elsewhere.
    let name = if PAGES.iter().any(|(_, page)| *page == name) { "" } else { &name };
    app.files.answer(name, &headers)
}

/// What the page has to know of the service.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Studio {
    /// Whether whoever asks may use the API: they sent its token, or none is needed.
    admitted: bool,
    /// Of the program.
    version: &'static str,
    /// Where viewers reach the edge; without one nothing can be watched here.
    #[schema(value_type = Option<String>)]
    edge: Option<Url>,
    /// Whether `POST /v1/playback` signs.
    signs: bool,
    /// The largest file that is taken, in bytes.
    max_upload: u64,
    /// How long a link may work, where it can be signed.
    playback: Option<Lifetimes>,
}

/// How long links work.
#[derive(Debug, Serialize, ToSchema)]
struct Lifetimes {
    /// The most that may be asked for, in seconds.
    longest: u64,
    /// What is added to an asset's duration where nobody asks for anything, in seconds.
    margin: u64,
}

/// What the studio page has to know
///
/// Of this service and its settings: what anybody may know who can reach it.
#[utoipa::path(get, path = "/v1/studio", operation_id = "studio", tag = "operation", security((), ("token" = [])),
    responses(
    (status = 200, description = "Of this service", body = Studio),
))]
pub(super) async fn about(State(app): State<App>, headers: HeaderMap) -> axum::Json<Studio> {
    let lifetimes = |office: &Arc<BoxOffice>| Lifetimes {
        longest: office.longest.as_secs(),
        margin: office.margin.as_secs(),
    };
    axum::Json(Studio {
        admitted: app.guard.opens_to(&headers),
        version: env!("CARGO_PKG_VERSION"),
        edge: app.settings.edge.clone(),
        signs: app.settings.playback.is_some(),
        max_upload: app.settings.max_upload,
        playback: app.settings.playback.as_ref().map(lifetimes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type() {
        assert!(FILES.len() > 5);
        for (name, _) in FILES {
            assert_ne!(content_type(name), "application/octet-stream", "{name}");
        }
    }

    #[test]
    fn the_pages_may_reach_the_edge_and_nobody_else() {
        let edge: Url = "https://video.example:8443/some/path".parse().unwrap();
        let with = policy(Some(&edge)).to_str().unwrap().to_owned();
        assert_eq!(
            with,
            "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; \
             img-src 'self' blob: https://video.example:8443; connect-src 'self' https://video.example:8443; \
             media-src blob: data: https://video.example:8443; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let without = policy(None).to_str().unwrap().to_owned();
        assert_eq!(with.replace(" https://video.example:8443", ""), without);
    }
}
