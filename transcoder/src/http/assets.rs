//! `/v1/assets`: what is published.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use edge::conditional::{self, Verdict};
use edge::origin::Metadata;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::{App, Whole};
use crate::asset::{Asset, AssetId, Generation, Kind, Rendition};

const USUAL_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

/// Some assets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AssetPage)]
pub(super) struct Page {
    /// By name.
    assets: Vec<Summary>,
    /// `after` of the next page, if there is one.
    next: Option<AssetId>,
}

/// An asset, in short.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AssetSummary)]
struct Summary {
    /// What it is called.
    asset: AssetId,
    /// The encode that is described.
    generation: Generation,
    /// When that encode began.
    #[schema(value_type = String, format = DateTime)]
    created: Timestamp,
    /// Playing time in seconds.
    duration: f64,
    /// Whether there is a poster.
    poster: bool,
    /// Its storyboard (`WebVTT`): the key from the asset's folder.
    storyboard: Option<String>,
    /// Of its largest picture, in pixels.
    width: Option<u32>,
    /// Of its largest picture, in pixels.
    height: Option<u32>,
    /// What a viewer can switch between.
    renditions: Vec<RenditionView>,
    /// What this encode takes in the store.
    bytes: u64,
    /// Whether its segments are encrypted.
    encrypted: bool,
}

/// A rendition, in short.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RenditionSummary)]
struct RenditionView {
    /// Its folder.
    name: String,
    /// What it is for.
    kind: Kind,
    /// Its codec, in the words of RFC 6381.
    #[serde(skip_serializing_if = "String::is_empty")]
    codecs: String,
    /// Its size in pixels, where it has a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    width: Option<u32>,
    /// Its size in pixels, where it has a picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u32>,
    /// Pictures a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    /// Language of its sound or its text, a BCP 47 tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    /// Channels of its sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    channels: Option<u32>,
    /// Measured peak, in bits a second.
    peak_bandwidth: u64,
}

impl From<Rendition> for RenditionView {
    fn from(rendition: Rendition) -> Self {
        let Rendition {
            name,
            kind,
            codecs,
            width,
            height,
            frame_rate,
            language,
            channels,
            peak_bandwidth,
            ..
        } = rendition;
        Self { name, kind, codecs, width, height, frame_rate, language, channels, peak_bandwidth }
    }
}

impl From<Asset> for Summary {
    fn from(asset: Asset) -> Self {
        let pictures = asset.renditions.iter().filter(|rendition| rendition.kind == Kind::Video);
        let largest = pictures.max_by_key(|rendition| rendition.height);
        Self {
            width: largest.and_then(|rendition| rendition.width),
            height: largest.and_then(|rendition| rendition.height),
            asset: asset.asset,
            generation: asset.generation,
            created: asset.created,
            duration: asset.duration,
            poster: asset.poster.is_some(),
            storyboard: asset.storyboard,
            renditions: asset.renditions.into_iter().map(RenditionView::from).collect(),
            bytes: asset.objects.bytes,
            encrypted: asset.encryption.is_some(),
        }
    }
}

/// Which assets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those whose names come after this one.
    #[param(inline, value_type = Option<AssetId>, example = "lesson-1")]
    after: Option<String>,
    /// How many: 1 to 200, 50 if nobody says.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// Which asset.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct ThisOne {
    /// What the asset is called.
    #[param(inline, value_type = AssetId, example = "lesson-1")]
    id: String,
}

/// An asset, and what can be gone back to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Asset)]
pub(super) struct AssetView {
    #[serde(flatten)]
    asset: Asset,
    /// Key of the multivariant playlist: the path of its URL at the edge.
    playlist: String,
    /// All encodes that are kept, the oldest first.
    generations: Vec<GenerationView>,
}

/// An encode of an asset.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Generation)]
struct GenerationView {
    /// What it is called, by when it was begun.
    generation: Generation,
    /// Whether it is the one that plays.
    is_played: bool,
    /// Whether it can be gone back to.
    is_complete: bool,
    /// How many there are.
    objects: usize,
    /// What they take.
    bytes: u64,
}

/// Which generation is to be played; the one before the present one if nobody says.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// One of those that `GET /v1/assets/{id}` lists.
    #[schema(value_type = Option<Generation>)]
    generation: Option<String>,
}

/// What plays now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Played {
    /// What the asset is called.
    asset: AssetId,
    /// The encode that is played.
    generation: Generation,
}

/// Assets, by name
///
/// In short: all that is known of one is said by its id.
#[utoipa::path(get, path = "/v1/assets", operation_id = "listAssets", tag = "assets", params(Which), responses(
    (status = 200, description = "A page of them", body = Page),
))]
pub(super) async fn list(
    State(app): State<App>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<axum::Json<Page>, Problem> {
    let Query(Which { after, limit }) = which?;
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let limit = limit.unwrap_or(USUAL_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(wrong(format!("`limit` is 1 to {LARGEST_PAGE}")));
    }
    let after: Option<AssetId> =
        after.map(|after| after.parse().map_err(|error| wrong(format!("`after`: {error}")))).transpose()?;
    let assets = app.service.store.assets(after.as_ref(), limit).await?;
    let next = assets.last().filter(|_| assets.len() == limit).map(|last| last.asset.clone());
    Ok(axum::Json(Page { assets: assets.into_iter().map(Summary::from).collect(), next }))
}

/// An asset
///
/// What its `asset.json` says, where its playlist is, and which encodes of it are kept.
#[utoipa::path(get, path = "/v1/assets/{id}", operation_id = "readAsset", tag = "assets", params(ThisOne), responses(
    (status = 200, description = "As it is now", body = AssetView),
    (status = 404, description = "There is none"),
))]
pub(super) async fn find(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
) -> Result<axum::Json<AssetView>, Problem> {
    let (id, store) = (parse(&id)?, &app.service.store);
    let asset = store.asset(&id).await?.ok_or_else(Problem::no_asset)?;
    let (played, generations) = tokio::try_join!(store.played(&id), store.generations(&id))?;
    let generations = generations.into_iter().map(|stored| GenerationView {
        is_played: played.as_ref() == Some(&stored.generation),
        is_complete: stored.is_complete,
        objects: stored.objects,
        bytes: stored.bytes,
        generation: stored.generation,
    });
    let playlist = store.key(&id.playlist_key());
    Ok(axum::Json(AssetView { asset, playlist, generations: generations.collect() }))
}

/// The poster of what plays
///
/// For who manages assets. Viewers get it from the edge, by the URL that `POST /v1/playback` answers.
#[utoipa::path(get, path = "/v1/assets/{id}/poster", operation_id = "readPoster", tag = "assets", params(ThisOne), responses(
    (status = 200, description = "A picture", body = Vec<u8>, content_type = "image/jpeg"),
    (status = 304, description = "It is the one that `If-None-Match` names"),
    (status = 404, description = "There is none"),
))]
pub(super) async fn poster(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (id, store) = (parse(&id)?, &app.service.store);
    let asset = store.asset(&id).await?.ok_or_else(Problem::no_asset)?;
    let none = || Problem::new(StatusCode::NOT_FOUND, "this asset has no poster");
    let key = asset.poster.ok_or_else(none)?;
    // What a generation has never changes.
    let etag = format!("\"{}\"", asset.generation);
    let known = Metadata { etag: Some(etag.clone()), ..Metadata::default() };
    let mut response = match conditional::verdict(&headers, &known) {
        Verdict::Failed => return Err(Problem::bare(StatusCode::PRECONDITION_FAILED)),
        Verdict::NotModified => StatusCode::NOT_MODIFIED.into_response(),
        Verdict::Proceed => {
            let picture = store.read(&id, &key).await?.ok_or_else(none)?;
            ([(CONTENT_TYPE, HeaderValue::from_static("image/jpeg"))], picture).into_response()
        }
    };
    response.headers_mut().insert(ETAG, HeaderValue::try_from(etag).map_err(Problem::internal)?);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// Plays an earlier encode again
///
/// The one that is named, or the newest complete one before what plays now. Who watches already goes on with what they
/// have.
#[utoipa::path(post, path = "/v1/assets/{id}/rollback", operation_id = "rollBack", tag = "assets", params(ThisOne),
    request_body = Option<Rollback>, responses(
    (status = 200, description = "It plays", body = Played),
    (status = 404, description = "There is no such asset"),
    (status = 409, description = "There is nothing to go back to, or it is not complete"),
    (status = 413, description = "The body is larger than 1 MB"),
    (status = 422, description = "The body names no encode"),
))]
pub(super) async fn roll_back(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
    Whole(body): Whole,
) -> Result<axum::Json<Played>, Problem> {
    let id = parse(&id)?;
    let to = generation(&body)?;
    let generation = app.service.store.roll_back(&id, to.as_ref()).await?;
    tracing::info!(asset = %id, %generation, "rolled back");
    Ok(axum::Json(Played { asset: id, generation }))
}

fn generation(body: &Bytes) -> Result<Option<Generation>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let impossible = |error: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error);
    let wanted: Option<Rollback> = serde_json::from_slice(body)
        .map_err(|error| impossible(format!("send `{{\"generation\": …}}`, or nothing: {error}")))?;
    let parsed = wanted
        .unwrap_or_default()
        .generation
        .map(|generation| serde_json::from_value(Value::String(generation)));
    parsed.transpose().map_err(|error| impossible(format!("`generation`: {error}")))
}

/// Removes an asset with all its encodes
///
/// What viewers have in their players or near them may play on for a while. The upload that it was made of stays.
#[utoipa::path(delete, path = "/v1/assets/{id}", operation_id = "removeAsset", tag = "assets", params(ThisOne), responses(
    (status = 204, description = "Nothing of it is left"),
    (status = 404, description = "There is none"),
))]
pub(super) async fn delete(
    State(app): State<App>,
    Path(ThisOne { id }): Path<ThisOne>,
) -> Result<StatusCode, Problem> {
    let id = parse(&id)?;
    if !app.service.store.delete_asset(&id).await? {
        return Err(Problem::no_asset());
    }
    tracing::info!(asset = %id, "removed");
    Ok(StatusCode::NO_CONTENT)
}

fn parse(id: &str) -> Result<AssetId, Problem> {
    id.parse().map_err(|_| Problem::no_asset())
}
