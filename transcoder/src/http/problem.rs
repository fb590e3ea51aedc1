//! What a request is refused with: a problem, in the words of [RFC 9457].
//!
//! [RFC 9457]: https://www.rfc-editor.org/rfc/rfc9457

use std::fmt;
use std::io;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Request};
use axum::http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::Type;
use utoipa::openapi::{Object, ObjectBuilder};

use crate::{jobs, service, storage, upload};

/// Content type of a problem.
pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// Problems that say more than their status does: the last part of the type, its title, and what to do.
const KINDS: [(Kind, &str, &str, &str); 15] = [
    (Kind::Token, "token", "A token is needed", "Send `Authorization: Bearer` with the service's token."),
    (
        Kind::CrossSite,
        "cross-site",
        "Another site may not ask for this",
        "A page of another site sent this request, or the host it was sent to is not this machine's. Call the \
         service by its own name; without a token only as localhost.",
    ),
    (
        Kind::Source,
        "source",
        "Nothing to encode lies there",
        "Upload it first, by exactly this name; names are case-sensitive.",
    ),
    (
        Kind::Ended,
        "ended",
        "The job has ended",
        "A job that is done, failed or cancelled cannot be cancelled. One that failed or was cancelled can be \
         retried.",
    ),
    (
        Kind::NotEnded,
        "not-ended",
        "The job has not failed",
        "Only a job that failed or was cancelled can be retried.",
    ),
    (
        Kind::Busy,
        "upload-busy",
        "This upload is being sent already",
        "Wait until the other request for this name has ended, then ask with HEAD how much is there.",
    ),
    (
        Kind::Offset,
        "upload-offset",
        "This does not continue what is there",
        "Ask with HEAD how much is there (`Upload-Offset`), and send from there on; or send the whole file \
         without `Content-Range`.",
    ),
    (
        Kind::Digest,
        "digest",
        "What arrived is not what was sent",
        "The file does not have the SHA-256 that `Repr-Digest` says. It was removed: send it again.",
    ),
    (
        Kind::Message,
        "message",
        "This is no notification",
        "Messages of S3, SNS, EventBridge, R2, MinIO and MediaConvert are understood.",
    ),
    (
        Kind::Unready,
        "unready",
        "The service is not ready",
        "`checks` says what is missing. Send traffic elsewhere until this is answered with 200.",
    ),
    (
        Kind::Unsigned,
        "unsigned",
        "The service does not sign",
        "Start it with --edge, --key-pair-id and --private-key; `transcoder doctor` checks them.",
    ),
    (
        Kind::Viewer,
        "viewer-token",
        "The viewer's token is not taken",
        "`detail` says which check it failed. Get a new one from whoever signed it, and send it as \
         `Authorization: Bearer`.",
    ),
    (
        Kind::Closed,
        "not-opened",
        "The viewer's token does not open this",
        "A token lists the assets that it opens, as globs whose `*` stands for any characters; case matters. What it \
         does not list is refused, whether it is there or not.",
    ),
    (
        Kind::Lifetime,
        "lifetime",
        "Nothing is signed for so long",
        "Ask for fewer seconds, at least 1, or leave `lifetime` out. `longest` is the most that is signed for.",
    ),
    (
        Kind::Rate,
        "too-many",
        "This was asked for too often",
        "Wait for as many seconds as `Retry-After` says. A URL works until it expires: there is no need to ask again.",
    ),
];

/// What a problem is about, where its status does not say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Token,
    CrossSite,
    Source,
    Ended,
    NotEnded,
    Busy,
    Offset,
    Digest,
    Message,
    Unready,
    Unsigned,
    Viewer,
    Closed,
    Lifetime,
    Rate,
}

/// A refusal.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: Option<Kind>,
    detail: String,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// For the log only.
    cause: Option<String>,
}

/// Why something was answered with a server error, on its way to the log.
#[derive(Clone, Debug)]
pub(super) struct Cause(pub(super) String);

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, kind: None, detail: detail.into(), more: Map::new(), headers: vec![], cause: None }
    }

    pub(super) fn of(kind: Kind, status: StatusCode, detail: impl Into<String>) -> Self {
        Self { kind: Some(kind), ..Self::new(status, detail) }
    }

    /// What a status means where nobody says more.
    pub(super) fn bare(status: StatusCode) -> Self {
        let detail = match status {
            StatusCode::NOT_FOUND => "there is nothing here: /openapi.json says what there is",
            StatusCode::METHOD_NOT_ALLOWED => {
                "this does not take that method: `Allow` says which it takes, /openapi.json what for"
            }
            StatusCode::INTERNAL_SERVER_ERROR => {
                "a fault of the service: its log says more; asking again may help"
            }
            _ => "the request is not as /openapi.json says",
        };
        Self::new(status, detail)
    }

    pub(super) fn internal(cause: impl fmt::Display) -> Self {
        Self::bare(StatusCode::INTERNAL_SERVER_ERROR).because(cause)
    }

    pub(super) fn unavailable(detail: &str, cause: impl fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .because(cause)
            .with_header(RETRY_AFTER, HeaderValue::from_static("10"))
    }

    pub(super) fn no_job() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no job by this id: GET /v1/jobs lists them")
    }

    pub(super) fn no_asset() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is no asset by this id: GET /v1/assets lists them")
    }

    /// What is answered.
    pub(super) fn body(&self) -> Value {
        let known = self.kind.and_then(|kind| KINDS.iter().find(|(known, ..)| *known == kind));
        let (kind, title) = match known {
            Some((_, name, title, _)) => (format!("/problems/{name}"), *title),
            None => ("about:blank".to_owned(), self.status.canonical_reason().unwrap_or("Error")),
        };
        let mut body = Map::new();
        body.insert("type".to_owned(), json!(kind));
        body.insert("title".to_owned(), json!(title));
        body.insert("status".to_owned(), json!(self.status.as_u16()));
        body.insert("detail".to_owned(), json!(self.detail));
        body.extend(self.more.clone());
        Value::Object(body)
    }

    pub(super) fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn with(mut self, member: &str, value: Value) -> Self {
        self.more.insert(member.to_owned(), value);
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.body().to_string()).into_response();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        response.headers_mut().extend(self.headers);
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}

impl From<jobs::Error> for Problem {
    fn from(error: jobs::Error) -> Self {
        Self::unavailable("the database does not answer: try again; the log says why", error)
    }
}

impl From<service::Error> for Problem {
    fn from(error: service::Error) -> Self {
        match error {
            service::Error::Jobs(error) => error.into(),
            service::Error::Upload(error) => error.into(),
            service::Error::Storage(error) => error.into(),
        }
    }
}

impl From<upload::Error> for Problem {
    fn from(error: upload::Error) -> Self {
        match error {
            upload::Error::Gone(_) => Self::new(
                StatusCode::CONFLICT,
                "it was replaced or removed meanwhile: ask again for what lies there now",
            ),
            upload::Error::Name { reason, .. } => {
                let detail = format!("nothing can be done by this name: {reason}; give it another one");
                Self::new(StatusCode::BAD_REQUEST, detail)
            }
            upload::Error::File { error, path } => {
                let cause = format!("{}: {error}", path.display());
                Self::from(error).because(cause)
            }
            upload::Error::Place(_) | upload::Error::Access { .. } | upload::Error::Cancelled => {
                Self::unavailable("the place for uploads does not answer: try again; the log says why", error)
            }
        }
    }
}

impl From<storage::Error> for Problem {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::NoAsset { .. } => Self::no_asset(),
            // These say what of an asset is how, and nothing of the store.
            storage::Error::NothingBefore(_)
            | storage::Error::Incomplete { .. }
            | storage::Error::Superseded(_)
            | storage::Error::Contended(_) => Self::new(StatusCode::CONFLICT, error.to_string()),
            _ => Self::unavailable("the store does not do this now: try again; the log says why", error),
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "there is no room on the service's disk: try again when jobs have ended, or free some",
            )
            .because(error),
            _ => Self::internal(error),
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "the path is not UTF-8, percent-encoded")
    }
}

/// What a problem looks like.
pub(super) fn schema() -> Object {
    let text =
        |description: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(description));
    ObjectBuilder::new()
        .description(Some("Why something was not done (RFC 9457)"))
        .property("type", text("What kind it is: `about:blank`, or an address that says what to do"))
        .property("title", text("The kind, in words"))
        .property(
            "status",
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(400))
                .maximum(Some(599))
                .description(Some("The status of the answer")),
        )
        .property("detail", text("What is wrong this time, and what to do"))
        .required("type")
        .required("title")
        .required("status")
        .required("detail")
        .build()
}

/// For whoever follows a problem's type.
pub(super) async fn explain(Path(name): Path<String>) -> Result<String, Problem> {
    let known = KINDS.iter().find(|(_, known, ..)| *known == name);
    let (_, _, title, meaning) = known.ok_or(Problem::bare(StatusCode::NOT_FOUND))?;
    Ok(format!("{title}.\n\n{meaning}\n"))
}

pub(super) async fn not_found() -> Problem {
    Problem::bare(StatusCode::NOT_FOUND)
}

pub(super) async fn method_not_allowed(_: Request) -> Problem {
    Problem::bare(StatusCode::METHOD_NOT_ALLOWED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_and_no_refusal_names_a_folder() {
        let error = |kind| upload::Error::File { path: "/srv/secret".into(), error: io::Error::from(kind) };
        for (kind, status) in [(io::ErrorKind::StorageFull, 507), (io::ErrorKind::PermissionDenied, 500)] {
            let problem = Problem::from(error(kind));
            assert!(!problem.detail.contains("secret"), "{problem:?}");
            assert!(problem.cause.as_ref().is_some_and(|cause| cause.contains("secret")), "{problem:?}");
            assert_eq!(problem.into_response().status().as_u16(), status);
        }
    }

    #[test]
    fn every_kind_is_explained() {
        let mut names: Vec<_> = KINDS.iter().map(|(_, name, ..)| name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), KINDS.len());
    }
}
