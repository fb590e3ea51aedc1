//! The least that a Worker in Rust can do, and the least that one can do with a bucket. What the gate costs beyond
//! it is the gate's own; `tests/bench/hello.mjs` is the same in JavaScript.

use worker::{Context, Env, Range, Request, Response, ResponseBuilder, Result, event};

/// Below `/part/` it is a part of an object, always the same, and nobody reads a `Range`.
const PART: Range = Range::OffsetWithLength { offset: 1000, length: 65536 };

#[event(fetch)]
async fn fetch(request: Request, env: Env, _: Context) -> Result<Response> {
    let path = request.path();
    if path == "/hello" {
        return Response::ok("Hello, world!");
    }
    let bucket = env.bucket("MEDIA")?;
    let (object, response) = match path.strip_prefix("/part/") {
        Some(key) => (bucket.get(key).range(PART), ResponseBuilder::new().with_status(206)),
        None => (bucket.get(path.trim_start_matches('/')), ResponseBuilder::new()),
    };
    let object = object.execute().await?;
    match object.as_ref().and_then(worker::Object::body) {
        Some(body) => Ok(response.body(body.response_body()?)),
        None => Response::error("Not Found", 404),
    }
}
