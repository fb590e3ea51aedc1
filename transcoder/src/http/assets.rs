//! `/v1/assets`: what is published.

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use super::{App, Whole};
use crate::asset::{Asset, AssetId, Generation};

const USUAL_PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

/// Some assets.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AssetPage)]
pub(super) struct Page {
    /// What `asset.json` says of each, by name.
    #[schema(value_type = Vec<Object>)]
    assets: Vec<Asset>,
    /// `after` of the next page, if there is one.
    next: Option<String>,
}

/// Which assets.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only those whose names come after this one.
    after: Option<String>,
    /// How many: 1 to 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

/// An asset, and what can be gone back to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Asset)]
pub(super) struct AssetView {
    /// What `asset.json` says.
    #[schema(value_type = Object)]
    #[serde(flatten)]
    asset: Asset,
    /// Key of the multivariant playlist: the path of its URL at the edge.
    playlist: String,
    /// All encodes that are kept, the oldest first.
    generations: Vec<GenerationView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Generation)]
struct GenerationView {
    generation: String,
    /// Whether it is the one that plays.
    is_played: bool,
    /// Whether it can be gone back to.
    is_complete: bool,
    objects: usize,
    bytes: u64,
}

/// Which generation is to be played; the one before the present one if nobody says.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    generation: Option<String>,
}

/// What plays now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Played {
    asset: String,
    generation: String,
}

/// Assets, by name
#[utoipa::path(get, path = "/v1/assets", tag = "assets", params(Which), responses(
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
    let next = assets.last().filter(|_| assets.len() == limit).map(|last| last.asset.to_string());
    Ok(axum::Json(Page { assets, next }))
}

/// An asset
#[utoipa::path(get, path = "/v1/assets/{id}", tag = "assets", params(("id" = String, Path)), responses(
    (status = 200, description = "As it is now", body = AssetView),
    (status = 404, description = "There is none"),
))]
pub(super) async fn find(
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<axum::Json<AssetView>, Problem> {
    let (id, store) = (parse(&id)?, &app.service.store);
    let asset = store.asset(&id).await?.ok_or_else(Problem::no_asset)?;
    let (played, generations) = tokio::try_join!(store.played(&id), store.generations(&id))?;
    let generations = generations.into_iter().map(|stored| GenerationView {
        is_played: played.as_ref() == Some(&stored.generation),
        is_complete: stored.is_complete,
        objects: stored.objects,
        bytes: stored.bytes,
        generation: stored.generation.to_string(),
    });
    let playlist = store.key(&id.playlist_key());
    Ok(axum::Json(AssetView { asset, playlist, generations: generations.collect() }))
}

/// Plays an earlier encode again
#[utoipa::path(post, path = "/v1/assets/{id}/rollback", tag = "assets", params(("id" = String, Path)),
    request_body = Option<Rollback>, responses(
    (status = 200, description = "It plays", body = Played),
    (status = 404, description = "There is no such asset"),
    (status = 409, description = "There is nothing to go back to, or it is not complete"),
))]
pub(super) async fn roll_back(
    State(app): State<App>,
    Path(id): Path<String>,
    Whole(body): Whole,
) -> Result<axum::Json<Played>, Problem> {
    let id = parse(&id)?;
    let to = generation(&body)?;
    let generation = app.service.store.roll_back(&id, to.as_ref()).await?;
    tracing::info!(asset = %id, %generation, "rolled back");
    Ok(axum::Json(Played { asset: id.to_string(), generation: generation.to_string() }))
}

fn generation(body: &Bytes) -> Result<Option<Generation>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let impossible = |error: String| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error);
    let Rollback { generation } = serde_json::from_slice(body)
        .map_err(|error| impossible(format!("send `{{\"generation\": …}}`, or nothing: {error}")))?;
    let parsed = generation.map(|generation| serde_json::from_value(Value::String(generation)));
    parsed.transpose().map_err(|error| impossible(format!("`generation`: {error}")))
}

/// Removes an asset with all its encodes
#[utoipa::path(delete, path = "/v1/assets/{id}", tag = "assets", params(("id" = String, Path)), responses(
    (status = 204, description = "Nothing of it is left"),
    (status = 404, description = "There is none"),
))]
pub(super) async fn delete(State(app): State<App>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
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
