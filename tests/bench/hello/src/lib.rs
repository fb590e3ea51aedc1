//! The least that a Worker in Rust can do, and the least that one can do with a bucket. What the gate costs beyond
//! it is the gate's own; `tests/bench/hello.mjs` is the same in JavaScript.

use worker::{Context, Env, Request, Response, ResponseBuilder, Result, event};

#[event(fetch)]
async fn fetch(request: Request, env: Env, _: Context) -> Result<Response> {
    let path = request.path();
    if path == "/hello" {
        return Response::ok("Hello, world!");
    }
    let object = env.bucket("MEDIA")?.get(path.trim_start_matches('/')).execute().await?;
    match object.as_ref().and_then(worker::Object::body) {
        Some(body) => Ok(ResponseBuilder::new().body(body.response_body()?)),
        None => Response::error("Not Found", 404),
    }
}
