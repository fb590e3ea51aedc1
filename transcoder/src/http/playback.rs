//! `POST /v1/playback`: a URL for who may watch.
//!
//! The one place of the API that pages of other sites may ask, for their viewers. So every answer, refusals too, says to
//! the browser whether the page may read it.

use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, RETRY_AFTER,
    SET_COOKIE, VARY, WWW_AUTHENTICATE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use edge::policy::Cidr;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use utoipa::ToSchema;

use super::guard::{Asker, cross_site, is_from_another_site};
use super::problem::{Kind, Problem};
use super::{App, Json};
use crate::asset::AssetId;
use crate::playback::{self, BoxOffice, Caller, Origins, Refusal, Refused, Ticket};

/// How long a browser need not ask again whether it may ask: as long as Chromium remembers it.
const PREFLIGHT_SECONDS: &str = "7200";

/// What is to be watched, by whom, and for how long.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = PlaybackRequest)]
pub(super) struct Wish {
    /// Which asset.
    asset: AssetId,
    /// For how many seconds; the asset's duration and a margin if nobody says.
    #[schema(minimum = 1)]
    lifetime: Option<u64>,
    /// From when on, in RFC 3339; at once if nobody says. `lifetime` counts from then. Not for viewers.
    #[schema(format = DateTime)]
    starts: Option<String>,
    /// The only address, or range of addresses (192.0.2.0/24), that may watch.
    ip: Option<String>,
    /// Whether cookies shall open it instead of the URL.
    #[serde(default)]
    cookies: bool,
}

/// What lets them watch.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Playback)]
pub(super) struct Answer {
    /// Which asset.
    asset: AssetId,
    /// The multivariant playlist's URL, signed unless cookies were asked for.
    url: String,
    /// When it stops to work, in RFC 3339.
    #[schema(format = DateTime)]
    expires: String,
    /// Playing time in seconds.
    duration: f64,
    /// The poster's URL, signed as the playlist's.
    poster: Option<String>,
    /// The URL of the storyboard for seeking (`WebVTT`), signed as the playlist's.
    storyboard: Option<String>,
    /// For the platform, where cookies were asked for: the values of the `Set-Cookie` headers to send to the viewer. A
    /// viewer who asks gets the headers themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<Vec<String>>,
}

/// Lets somebody watch
///
/// The platform asks with the API's token, and sees to it itself who may watch. A viewer asks with a JWT of the platform's,
/// signed by HS256, RS256 or ES256, whose claims say which assets they may watch, and for how many seconds at most: from
/// a page of one of `--playback-origins`, or from an app.
#[utoipa::path(post, path = "/v1/playback", operation_id = "sellPlayback", tag = "playback",
    security(("token" = []), ("viewer" = [])), request_body = Wish, responses(
    (status = 200, description = "They may", body = Answer, headers(
        ("Set-Cookie" = Option<String>, description = "What opens it, for a viewer who asked for cookies: once for each of three"),
    )),
    (status = 400, description = "The body is not JSON"),
    (status = 401, description = "No token, or a viewer's that is not taken; `detail` says which check it failed"),
    (status = 403, description = "The viewer's token does not open this, whether it is there or not; or a viewer says when it `starts`; or a page of another site asks"),
    (status = 404, description = "There is no such asset"),
    (status = 409, description = "The service has no key to sign with"),
    (status = 413, description = "The body is larger than 1 MB"),
    (status = 415, description = "The body is not said to be JSON"),
    (status = 422, description = "Nothing is signed so; `longest` is the most that `lifetime` can be"),
    (status = 429, description = "Too often", headers(
        ("Retry-After" = u64, description = "How many seconds to wait"),
    )),
    (status = 503, description = "Viewers' tokens cannot be checked, or the store does not answer: try again"),
))]
pub(super) async fn sell(State(app): State<App>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut of = Of::default();
    let sold = match admit(&app, &parts, &mut of).await {
        Ok((office, caller)) => answer(&app, office, &caller, body, &parts, &mut of).await,
        Err(problem) => Err(problem),
    };
    let mut response = sold.unwrap_or_else(IntoResponse::into_response);
    let outcome = outcome(response.status());
    app.settings.metrics.playback(of.caller, outcome);
    let asset = of.asset.as_ref().map(ToString::to_string);
    tracing::info!(caller = of.caller, asset, outcome, "playback");
    allow(&app, &parts.headers, response.headers_mut());
    response
}

/// Says to a browser what its page may ask. Who the viewer is, is not asked: a browser would not say.
pub(super) async fn preflight(State(app): State<App>, headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if !allow(&app, &headers, response.headers_mut()) {
        return other_origin().into_response();
    }
    let allowed = response.headers_mut();
    allowed.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    allowed.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("authorization, content-type"));
    allowed.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(PREFLIGHT_SECONDS));
    response
}

/// What is said of an answer in the log.
struct Of {
    caller: &'static str,
    asset: Option<AssetId>,
}

impl Default for Of {
    fn default() -> Self {
        Self { caller: "unknown", asset: None }
    }
}

/// Who asks, and whom.
async fn admit<'a>(app: &'a App, parts: &Parts, of: &mut Of) -> Result<(&'a BoxOffice, Caller), Problem> {
    let office = app.settings.playback.as_deref();
    let viewers = office.and_then(|office| office.viewers.as_ref());
    let asker = app.guard.asker(parts, viewers.is_some())?;
    let caller = if let (Asker::Viewer(token), Some(viewers)) = (asker, viewers) {
        of.caller = "viewer";
        if is_from_another_site(parts) && origin(app, &parts.headers).is_none() {
            return Err(other_origin());
        }
        Caller::Viewer(viewers.admit(token, Timestamp::now()).await.map_err(not_taken)?)
    } else {
        of.caller = "platform";
        Caller::Platform
    };
    Ok((office.ok_or_else(unsigned)?, caller))
}

async fn answer(
    app: &App,
    office: &BoxOffice,
    caller: &Caller,
    body: Body,
    parts: &Parts,
    of: &mut Of,
) -> Result<Response, Problem> {
    let mut request = Request::new(body);
    *request.headers_mut() = parts.headers.clone();
    let Json(wish) = Json::<Wish>::from_request(request, &()).await?;
    of.asset = Some(wish.asset.clone());
    let impossible = |detail: &str| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
    let address = wish.ip.as_deref().map(|ip| {
        let detail = "`ip` is no address and no range of addresses, like 192.0.2.7 or 192.0.2.0/24";
        Cidr::parse(ip).ok_or_else(|| impossible(detail))
    });
    let starts = wish.starts.as_deref().map(|starts| {
        let detail = "`starts` is no time in RFC 3339, like 2026-12-31T18:00:00Z";
        starts.parse::<Timestamp>().map_err(|_| impossible(detail))
    });
    if wish.cookies && office.origins == Origins::Any && is_from_another_site(parts) {
        return Err(impossible(
            "browsers take no cookies for a page of just any origin: name its origin in --playback-origins",
        ));
    }
    let Wish { asset, lifetime, cookies, .. } = wish;
    let (starts, address) = (starts.transpose()?, address.transpose()?);
    let wish = playback::Wish { asset, lifetime, starts, address, cookies };
    let sold = office.sell(&app.service.store, &wish, caller, Timestamp::now()).await;
    Ok(response(&wish, caller, sold.map_err(refused)?))
}

fn response(wish: &playback::Wish, caller: &Caller, ticket: Ticket) -> Response {
    let is_platform = matches!(caller, Caller::Platform);
    let Ticket { url, poster, storyboard, expires, duration, cookies } = ticket;
    let mut headers = HeaderMap::new();
    if !is_platform {
        for cookie in &cookies {
            headers.append(SET_COOKIE, cookie.parse().expect("it is a domain, a path, and base64"));
        }
    }
    let answer = Answer {
        asset: wish.asset.clone(),
        url,
        expires: expires.to_string(),
        duration,
        poster,
        storyboard,
        cookies: (is_platform && wish.cookies).then_some(cookies),
    };
    (headers, axum::Json(answer)).into_response()
}

/// The origin of the page that asks, if it may.
fn origin<'a>(app: &App, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
    let office = app.settings.playback.as_ref()?;
    let origin = headers.get(ORIGIN)?;
    origin.to_str().is_ok_and(|text| office.origins.has(text)).then_some(origin)
}

/// Lets the page that asks read the answer, if it may. Where any may, none may send what its browser knows of us.
fn allow(app: &App, headers: &HeaderMap, answer: &mut HeaderMap) -> bool {
    answer.insert(VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin(app, headers) else { return false };
    let is_any = app.settings.playback.as_ref().is_some_and(|office| office.origins == Origins::Any);
    if is_any {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    } else {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After, WWW-Authenticate"));
    true
}

pub(super) fn unsigned() -> Problem {
    let detail = "the service was started without --edge, --key-pair-id and --private-key, by which it signs";
    Problem::of(Kind::Unsigned, StatusCode::CONFLICT, detail)
}

fn other_origin() -> Problem {
    cross_site("pages of this origin may not ask for their viewers: --playback-origins lists those that may")
}

pub(super) fn not_taken(refused: Refused) -> Problem {
    match refused {
        Refused::Unreachable(_) => Problem::unavailable(
            "viewers' tokens cannot be checked now: try again; the log says why",
            refused,
        ),
        Refused::TooOften(wait) => too_often(&refused, wait),
        refused => {
            let said = format!(
                "Bearer realm=\"reelgate\", error=\"invalid_token\", error_description=\"{refused}\""
            );
            let said = HeaderValue::try_from(said);
            let detail = format!("the viewer's token is not taken: {refused}");
            Problem::of(Kind::Viewer, StatusCode::UNAUTHORIZED, detail).with_header(
                WWW_AUTHENTICATE,
                said.unwrap_or(HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            )
        }
    }
}

pub(super) fn refused(refusal: Refusal) -> Problem {
    let words = refusal.to_string();
    match refusal {
        Refusal::Closed => Problem::of(
            Kind::Closed,
            StatusCode::FORBIDDEN,
            "the viewer's token does not list this asset, whether it is there or not",
        ),
        Refusal::Starts => Problem::new(StatusCode::FORBIDDEN, words),
        Refusal::NoAsset => Problem::new(StatusCode::NOT_FOUND, words),
        Refusal::NoTime => Problem::of(Kind::Lifetime, StatusCode::UNPROCESSABLE_ENTITY, words),
        Refusal::TooLong { longest, .. } => {
            Problem::of(Kind::Lifetime, StatusCode::UNPROCESSABLE_ENTITY, words)
                .with("longest", json!(longest))
        }
        Refusal::TooFar | Refusal::Range(..) => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, words),
        Refusal::Busy(wait) => too_often(&words, wait),
        Refusal::Store(error) => error.into(),
        Refusal::Sign(_) => Problem::internal(words),
    }
}

fn too_often(words: &impl std::fmt::Display, wait: Duration) -> Problem {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Problem::of(Kind::Rate, StatusCode::TOO_MANY_REQUESTS, words.to_string())
        .with_header(RETRY_AFTER, HeaderValue::from(seconds))
}

/// What became of it, for metrics and the log.
fn outcome(status: StatusCode) -> &'static str {
    match status {
        StatusCode::OK => "signed",
        StatusCode::UNAUTHORIZED => "token",
        StatusCode::FORBIDDEN => "refused",
        StatusCode::NOT_FOUND => "missing",
        StatusCode::TOO_MANY_REQUESTS => "limited",
        status if status.is_server_error() => "failed",
        _ => "invalid",
    }
}
