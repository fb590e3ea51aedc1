//! What the API says of itself beyond what stands beside each operation: what goes for all of them, said once, and an
//! example of everything ([OpenAPI 3.1]). Examples of refusals are made by what refuses.
//!
//! [OpenAPI 3.1]: https://spec.openapis.org/oas/v3.1.1.html

mod examples;

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::openapi::schema::Type;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder};
use utoipa::openapi::security::{SecurityRequirement, SecurityScheme};
use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    ComponentsBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, RefOr, Schema,
};
use utoipa::{PartialSchema, ToSchema};

use super::jobs::ProgressView;
use super::problem::{self, Kind, Problem};
use super::uploads::{self, Name};
use super::{guard, playback};
use crate::asset::{AssetId, Generation};
use crate::jobs::JobId;
use crate::playback::{Refusal, Refused};
use crate::storage;

const ABOUT: &str = "\
Videos in, published HLS out, and URLs for who may watch.

Every answer that is an error is a problem (RFC 9457, `application/problem+json`) whose `detail` says what to do. Times are \
RFC 3339, in UTC. What is `null` is not known, or there is none. Members may be added to answers; those of requests are \
checked, and unknown ones refused.";

const TAGS: [(&str, &str); 6] = [
    ("playback", "Who may watch"),
    ("uploads", "Files that arrive"),
    ("jobs", "What is encoded"),
    ("assets", "What is published"),
    ("events", "What others say of uploads and encodes"),
    ("operation", "How the service is"),
];

/// Refusals that go without saying: what for, their status, and what they mean.
const USUAL: [(&str, &str); 4] = [
    ("400", "A parameter is not as it is described"),
    ("401", "The token is missing or wrong"),
    ("403", "A page of another site asks, or, without a token, somebody elsewhere"),
    ("503", "The database or a store does not answer: try again"),
];

impl PartialSchema for AssetId {
    fn schema() -> RefOr<Schema> {
        // Not `.`, and not `..`.
        let pattern = r"^([A-Za-z0-9_-]|\.[A-Za-z0-9_-]|\.\.[A-Za-z0-9._-])[A-Za-z0-9._-]*$";
        text("What an asset is called", pattern, 128)
    }
}

impl ToSchema for AssetId {}

impl PartialSchema for Generation {
    fn schema() -> RefOr<Schema> {
        text("One encode of an asset, by when it was begun", "^[0-9]{8}t[0-9]{6}z-[0-9a-f]{8}$", 25)
    }
}

impl ToSchema for Generation {
    fn name() -> Cow<'static, str> {
        "GenerationName".into()
    }
}

impl PartialSchema for JobId {
    fn schema() -> RefOr<Schema> {
        text("A job, by what is encoded and how", "^[0-9a-f]{32}$", 32)
    }
}

impl ToSchema for JobId {}

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        let pattern = concat!(
            r"^(\.{0,2}[^/\\\x00-\x1f\x7f-\x9f.]|\.{3})[^/\\\x00-\x1f\x7f-\x9f]*",
            r"(/(\.{0,2}[^/\\\x00-\x1f\x7f-\x9f.]|\.{3})[^/\\\x00-\x1f\x7f-\x9f]*)*$",
        );
        text(
            "Name of an upload: its key or path below the place for uploads, of at most 1024 bytes",
            pattern,
            1_024,
        )
    }
}

impl ToSchema for Name {
    fn name() -> Cow<'static, str> {
        "UploadName".into()
    }
}

fn text(about: &str, pattern: &str, longest: usize) -> RefOr<Schema> {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about));
    text.pattern(Some(pattern)).min_length(Some(1)).max_length(Some(longest)).into()
}

/// What cannot be known beside the operations.
pub(super) fn begun() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Reelgate transcoder")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT));
    let bearer = |about: &str| HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about));
    let events = |name: &str| ApiKeyValue::with_description(name, "The token for events (`--events-token`)");
    let components = ComponentsBuilder::new()
        .security_scheme(
            "token",
            SecurityScheme::Http(
                bearer("The service's token (`--api-token`). Without one, only this machine is answered")
                    .build(),
            ),
        )
        .security_scheme(
            "viewer",
            SecurityScheme::Http(
                bearer("A token of the platform's for a viewer, who may ask for playback and nothing else")
                    .bearer_format("JWT")
                    .build(),
            ),
        )
        .security_scheme("events_header", SecurityScheme::ApiKey(ApiKey::Header(events("X-Reelgate-Token"))))
        .security_scheme("events_query", SecurityScheme::ApiKey(ApiKey::Query(events("token"))))
        .schema_from::<ProgressView>()
        .schema("Problem", problem::schema());
    let none: [&str; 0] = [];
    let tags = TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build());
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("token", none)]))
        .tags(Some(tags))
        .build()
}

/// What is said beside the operations, with all that goes without saying there.
pub(super) fn complete(document: &OpenApi) -> Value {
    let mut document = serde_json::to_value(document).expect("it is plain data");
    let examples = examples::all();
    let Value::Object(paths) = document["paths"].take() else { return document };
    let mut described = Map::new();
    for (path, mut item) in paths {
        for operation in item.as_object_mut().into_iter().flat_map(Map::values_mut) {
            describe(&path, operation, &examples);
        }
        // OpenAPI knows no parameter of several segments; axum's mark for one is not part of its name.
        described.insert(path.replace("{*", "{"), item);
    }
    document["paths"] = Value::Object(described);
    document
}

fn describe(path: &str, operation: &mut Value, examples: &Map<String, Value>) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let is_open = operation["security"] == json!([{}]);
    let has_parameters = operation.get("parameters").is_some() || path.contains('{');
    if let Some(body) = operation.pointer_mut("/requestBody/content") {
        exemplify(&id, body, examples);
    }
    let Some(responses) = operation["responses"].as_object_mut() else { return };
    for (status, meaning) in USUAL {
        let is_usual = match status {
            "400" => has_parameters,
            // To the studio's page everybody is answered, by what is in memory.
            "401" | "503" => !is_open && id != "studio",
            _ => !is_open,
        };
        if is_usual && !responses.contains_key(status) {
            responses.insert(status.to_owned(), json!({ "description": meaning }));
        }
    }
    responses.insert("default".to_owned(), json!({ "description": "Anything else that goes wrong" }));
    for (status, response) in responses {
        let is_problem = status == "default" || status.as_str() >= "400";
        if is_problem {
            let status = status.parse().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let schema = json!({ "$ref": "#/components/schemas/Problem" });
            let content = json!({ "schema": schema, "example": problem(&id, status).body() });
            response["content"] = json!({ problem::MEDIA_TYPE: content });
        } else if let Some(content) = response.get_mut("content") {
            exemplify(&id, content, examples);
        }
    }
}

/// An example for each kind of content, and a word for what is no text.
fn exemplify(operation: &str, content: &mut Value, examples: &Map<String, Value>) {
    for (kind, content) in content.as_object_mut().into_iter().flatten() {
        let name = content["schema"]["$ref"].as_str().and_then(|name| name.rsplit('/').next());
        let example = match kind.as_str() {
            "application/octet-stream" | "image/jpeg" => {
                content["schema"] = json!({ "type": "string", "format": "binary" });
                None
            }
            "application/json" => {
                name.and_then(|name| examples.get(name).cloned()).or_else(|| said(operation, examples))
            }
            _ => said(operation, examples),
        };
        if let Some(example) = example {
            content["example"] = example;
        }
    }
}

/// What has no name of its own.
fn said(operation: &str, examples: &Map<String, Value>) -> Option<Value> {
    let event =
        |name: &str, of: &str| examples.get(of).map(|data| json!(format!("event: {name}\ndata: {data}\n\n")));
    match operation {
        "followJobs" => event("job", "Job"),
        "followJob" => event("progress", "Progress"),
        "live" => Some(json!("ok\n")),
        "metrics" => Some(json!(
            "# HELP reelgate_jobs Jobs by their state.\n# TYPE reelgate_jobs gauge\n\
             reelgate_jobs{state=\"queued\"} 3\n# EOF\n"
        )),
        "rollBack" => examples.get("Rollback").cloned(),
        "hear" => Some(json!({ "Records": [{
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": { "bucket": { "name": "uploads" }, "object": { "key": "course/lesson+1.mp4", "size": 4_912_301 } },
        }] })),
        _ => None,
    }
}

/// What an operation answers with a status that is none of success.
fn problem(operation: &str, status: StatusCode) -> Problem {
    let of = |kind, detail: &str| Problem::of(kind, status, detail);
    let new = |detail: &str| Problem::new(status, detail);
    match (operation, status.as_u16()) {
        ("listJobs", 400) => new("`limit` is 1 to 500"),
        ("listAssets", 400) => new("`limit` is 1 to 200"),
        ("submitJob", 400) => new("the body is not JSON: expected `,` or `}` at line 1 column 24"),
        ("putUpload", 400) => {
            of(Kind::Digest, "its SHA-256 is not that of Repr-Digest: it was removed, send it again")
        }
        ("hear", 400) => of(Kind::Message, "it is no message of a kind that is known here"),
        (_, 400) => new("the path is not UTF-8, percent-encoded"),
        ("sellPlayback", 401) => playback::not_taken(Refused::Expired),
        ("sellPlayback", 403) => playback::refused(Refusal::Closed),
        ("sellPlayback", 409) => playback::unsigned(),
        ("sellPlayback", 422) => {
            let by = "that is signed for here";
            playback::refused(Refusal::TooLong { wished: 86_400, longest: 43_200, by })
        }
        (_, 401) => guard::no_token(),
        (_, 403) => guard::cross_site("a page of another site cannot change anything here"),
        ("askUpload", 404) => new("nothing of this name has arrived"),
        ("readPoster" | "readAsset" | "rollBack" | "removeAsset" | "sellPlayback", 404) => {
            Problem::no_asset()
        }
        (_, 404) => Problem::no_job(),
        ("putUpload", 408) => uploads::broken_off(status, 1_048_576),
        ("cancelJob", 409) => of(Kind::Ended, "the job has ended already"),
        ("retryJob", 409) => of(Kind::NotEnded, "only a job that failed or was cancelled can be retried"),
        ("rollBack", 409) => {
            let asset = "lesson-1".parse().expect("it is an id");
            storage::Error::NothingBefore(asset).into()
        }
        ("putUpload", 409) => of(
            Kind::Offset,
            "1048576 bytes are there: send from there on, or the whole file without Content-Range",
        ),
        ("putUpload", 413) => uploads::too_large(50_000_000_000),
        (_, 413) => new("a body may have 1 MB, but for uploads"),
        (_, 415) => new("send JSON, with `Content-Type: application/json`"),
        ("submitJob", 422) => of(Kind::Source, "no video lies by this name in the place for uploads"),
        ("rollBack", 422) => {
            new("`generation`: `first` is no generation: they are named like 20261122t100000z-0123abcd")
        }
        ("ready", 503) => {
            let checks = [("database", false), ("store", true), ("running", true)]
                .map(|(name, ok)| json!({ "name": name, "ok": ok }));
            of(Kind::Unready, "not well: database; the log says why").with("checks", json!(checks))
        }
        (_, 503) => {
            Problem::unavailable("the database does not answer: try again; the log says why", "an example")
        }
        (_, 429) => playback::refused(Refusal::Busy(Duration::from_secs(2))),
        (_, 507) => Problem::from(io::Error::from(io::ErrorKind::StorageFull)),
        _ => Problem::bare(status),
    }
}
