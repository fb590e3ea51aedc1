//! Why a request got no object, and what its viewer is told: one table from refusals to statuses.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::caching;
use crate::config::ConfigError;
use crate::delivery::Content;
use crate::document::Broken;
use crate::journal::{Claimant, Remark};
use crate::key_group::{self, Denied};
use crate::object_key::BadPath;
use crate::origin::Miss;
use crate::rewrite::TooLong;
use crate::signed_url::Signer;
use crate::ticket;

/// A denial, with what the log and an operator may know of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Denial {
    /// What was found wrong.
    pub reason: Denied,
    /// Who claims to have signed it, where there is anybody.
    pub signer: Option<Signer>,
    /// Whether it is an operator who asked, and is told.
    pub to_operator: bool,
    /// How every check came out, where there was something to check.
    pub explanation: Option<Explanation>,
}

/// How every check came out.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Explanation {
    /// Of a signature.
    Signature(Box<key_group::Explanation>),
    /// Of a ticket.
    Ticket(Box<ticket::Explanation>),
}

/// Why a request got no object. Its `Display` is for our logs.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The path does not say one thing.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The viewer may not have it.
    #[error("denied: {}", .0.reason)]
    Denied(Box<Denial>),
    /// Neither GET nor HEAD.
    #[error("only GET and HEAD are served")]
    Method,
    /// The URL is too long, or its cookies are.
    #[error("the URL, or the URL and its cookies, are longer than CloudFront takes")]
    TooLong,
    /// The viewer may have it, but wants another version of it than there is.
    #[error("it is not the version that was asked for")]
    OtherVersion,
    /// The viewer may have it, but the store has not.
    #[error(transparent)]
    Origin(#[from] Miss),
    /// The store has it, but authority cannot be handed on by it.
    #[error(transparent)]
    Document(#[from] TooLong),
    /// The gate itself is not set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl From<Broken> for Refusal {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Origin(miss) => miss.into(),
            Broken::TooLong(too_long) => too_long.into(),
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(Box::new(denial))
    }
}

impl Refusal {
    /// The status this becomes, and its name in logs. The only place where either is decided.
    #[must_use]
    pub fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Path(_) => (StatusCode::BAD_REQUEST, "path"),
            Self::Denied(denial) => (StatusCode::FORBIDDEN, denial.reason.name()),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method"),
            // What CloudFront says of either.
            Self::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "too_long"),
            Self::OtherVersion => (StatusCode::PRECONDITION_FAILED, "other_version"),
            Self::Origin(Miss::NotFound) => (StatusCode::NOT_FOUND, "not_found"),
            Self::Origin(Miss::Hidden) => (StatusCode::NOT_FOUND, "hidden"),
            Self::Origin(Miss::Range(_)) => (StatusCode::RANGE_NOT_SATISFIABLE, "range"),
            Self::Origin(Miss::Late(_)) => (StatusCode::GATEWAY_TIMEOUT, "origin_late"),
            // It is not asked whether anything has changed but where that can be answered.
            Self::Origin(Miss::Failed(_) | Miss::Unchanged(_)) => (StatusCode::BAD_GATEWAY, "origin_failed"),
            Self::Document(_) => (StatusCode::BAD_GATEWAY, "document"),
            Self::Config(_) => (StatusCode::INTERNAL_SERVER_ERROR, "configuration"),
        }
    }

    /// What the viewer is told: CloudFront's words for a denial, else the status and no more. What exactly
    /// went wrong is for the log, and for an operator who asks.
    pub(crate) fn to_response<B>(&self) -> Response<Content<B>> {
        let (status, name) = self.status();
        let mut response = match self {
            Self::Denied(denial) if denial.to_operator => {
                message(status, "application/json", explained(denial))
            }
            Self::Denied(denial) => message(status, "text/xml", cloudfronts_words(&denial.reason)),
            _ => message(status, "text/plain", status.canonical_reason().unwrap_or_default().to_owned()),
        };
        match self {
            Self::Method => {
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS"));
            }
            Self::Origin(Miss::Range(object)) => {
                if let Ok(range) = HeaderValue::from_str(&format!("bytes */{}", object.size)) {
                    response.headers_mut().insert(CONTENT_RANGE, range);
                }
            }
            _ => {}
        }
        let remark = Remark { text: self.to_string(), ours: status.is_server_error(), refusal: Some(name) };
        response.extensions_mut().insert(remark);
        if let Self::Denied(denial) = self {
            response.extensions_mut().insert(Claimant(denial.signer.clone()));
        }
        response
    }
}

fn cloudfronts_words(reason: &Denied) -> String {
    let (code, message) = reason.code();
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"#
    )
}

fn explained(denial: &Denial) -> String {
    #[derive(Serialize)]
    struct Explained<'a> {
        refused: String,
        #[serde(flatten)]
        explanation: Option<&'a Explanation>,
    }
    let explained =
        Explained { refused: denial.reason.to_string(), explanation: denial.explanation.as_ref() };
    // Strings, numbers and addresses: nothing in here can fail to be written.
    serde_json::to_string_pretty(&explained).unwrap_or_default()
}

/// An answer of our own, which nobody keeps: what is so now may be otherwise in a moment.
pub(crate) fn message<B>(status: StatusCode, media_type: &'static str, text: String) -> Response<Content<B>> {
    let length = text.len();
    let mut response = Response::new(Content::Bytes(text.into_bytes()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching::REFUSED));
    response
}
