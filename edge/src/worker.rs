//! The Cloudflare Worker: bindings in, [`serve`], a response of the runtime's own out.

use std::sync::OnceLock;

use futures_util::{StreamExt, TryStream, stream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use web_sys::Request;
use worker::js_sys::{JSON, JsString, Reflect};
use worker::wasm_bindgen::JsValue;
use worker::{
    Bucket, ByteStream, Context, Date, EncodeBody, Env, Error, Object as R2Object, ObjectBody, Range,
    Response, ResponseBuilder, Result, console_error, console_log, event,
};

use crate::config::{Config, ConfigError};
use crate::document::Document;
use crate::key_group::{Grant, Visitor};
use crate::origin::{ByteRange, Metadata, Miss, Object, Origin};
use crate::serve::{Content, REQUEST_HEADERS, Remark, malformed, serve};
use web_crypto::WebCrypto;

mod web_crypto;

/// The bucket's binding in `wrangler.toml`.
const BUCKET: &str = "MEDIA";

/// Takes the runtime's own request: the crate's reads all that Cloudflare knows of it (`cf`), which costs more than
/// whatever is decided here, and calls every method GET that it does not know.
#[event(fetch)]
async fn fetch(request: Request, env: Env, _: Context) -> Result<Response> {
    let visitor = Visitor {
        now: Date::now().as_millis() / 1000,
        // Cloudflare sets it, whatever the viewer sent.
        address: header(&request, "CF-Connecting-IP").and_then(|address| address.parse().ok()),
    };
    let (config, bucket) = match (config(&env), env.bucket(BUCKET)) {
        (Ok(config), Ok(bucket)) => (Ok(config), Some(bucket)),
        (Err(error), _) => (Err(error), None),
        (Ok(_), Err(_)) => (Err(no_bucket()), None),
    };
    let origin = R2(bucket);
    let Ok(http) = carry_over(&request) else { return respond(malformed(), origin) };
    let response = serve(&http, &visitor, config, &origin, &WebCrypto).await;
    if let Some(Remark { text, ours }) = response.extensions().get() {
        // The path only: the query is somebody's authority.
        let line = format!("{} {} {}: {text}", response.status().as_u16(), http.method(), http.uri().path());
        if *ours {
            console_error!("{line}");
        } else {
            console_log!("{line}");
        }
    }
    respond(response, origin)
}

fn no_bucket() -> ConfigError {
    ConfigError(vec![format!("{BUCKET}: no R2 bucket is bound to it; see [[r2_buckets]] in wrangler.toml")])
}

/// The settings, read once for the life of the isolate; while they are wrong, at every request.
fn config(env: &Env) -> std::result::Result<&'static Config, ConfigError> {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    match CONFIG.get() {
        Some(config) => Ok(config),
        None => Config::read(|name| setting(env, name)).map(|config| CONFIG.get_or_init(|| config)),
    }
}

/// A variable or a secret. One that is written as a table in `wrangler.toml` comes as an object.
fn setting(env: &Env, name: &str) -> Option<String> {
    let value = Reflect::get(env, &JsValue::from_str(name)).ok().filter(|value| !value.is_undefined())?;
    value.as_string().or_else(|| JSON::stringify(&value).ok()?.as_string())
}

fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}

/// The request as the core reads it: method, URL, and only the headers that it asks for.
fn carry_over(request: &Request) -> std::result::Result<http::Request<()>, http::Error> {
    let mut builder = http::Request::builder().method(&*request.method()).uri(request.url());
    for name in &REQUEST_HEADERS {
        let value = match *name {
            ACCEPT_ENCODING => accepted_encoding(request),
            _ => header(request, name.as_str()),
        };
        if let Some(value) = value {
            builder = builder.header(name, value);
        }
    }
    builder.body(())
}

/// What the viewer accepts. The header that reaches a Worker is [Cloudflare's own]; what was sent is beside it.
///
/// [Cloudflare's own]: https://developers.cloudflare.com/workers/runtime-apis/request/#incomingrequestcfproperties
fn accepted_encoding(request: &Request) -> Option<String> {
    let cf = Reflect::get(request, &"cf".into()).ok().filter(|cf| cf.is_object());
    let sent = cf.and_then(|cf| Reflect::get(&cf, &"clientAcceptEncoding".into()).ok());
    sent.and_then(|sent| sent.as_string()).or_else(|| header(request, ACCEPT_ENCODING.as_str()))
}

/// Gives the runtime R2's own stream, so that a segment's bytes never pass through WebAssembly.
fn respond(response: http::Response<Content<Body>>, origin: R2) -> Result<Response> {
    let (head, content) = response.into_parts();
    let mut builder = ResponseBuilder::new().with_status(head.status.as_u16());
    if head.headers.contains_key(CONTENT_ENCODING) {
        // It is encoded already; the runtime would do it again.
        builder = builder.with_encode_body(EncodeBody::Manual);
    }
    for (name, value) in &head.headers {
        builder = builder.with_header(name.as_str(), ascii(value)?)?;
    }
    Ok(match content {
        Content::Bytes(bytes) => builder.fixed(bytes),
        Content::Stream(Body::Untouched(object)) => builder.body(bytes_of(&object)?.response_body()?),
        Content::Document(document) => builder.from_stream(parts(document, origin))?,
        Content::Nothing | Content::Stream(_) => builder.empty(),
    })
}

/// A document's parts, made as the runtime asks for them.
fn parts(document: Document<Body>, origin: R2) -> impl TryStream<Ok = Vec<u8>, Error = Error> {
    stream::try_unfold((document, origin), async |(mut document, origin)| {
        match document.next(&origin).await {
            Ok(part) => Ok(part.map(|part| (part, (document, origin)))),
            // The answer has begun, so all that can be done is to break it off.
            Err(refusal) => {
                console_error!("broken off: {refusal}");
                Err(Error::RustError(refusal.to_string()))
            }
        }
    })
}

/// The runtime takes text. What is none must not leave as an empty header.
fn ascii(value: &http::HeaderValue) -> Result<&str> {
    value.to_str().map_err(|error| Error::RustError(error.to_string()))
}

/// An R2 bucket as an origin. There is none only where the configuration is not sound, and nothing is asked for.
struct R2(Option<Bucket>);

impl R2 {
    fn bucket(&self) -> std::result::Result<&Bucket, Miss> {
        self.0.as_ref().ok_or_else(|| Miss::Failed("there is no bucket".to_owned()))
    }
}

impl Origin for R2 {
    type Body = Body;

    async fn get(&self, grant: &Grant, range: Option<ByteRange>) -> std::result::Result<Object<Body>, Miss> {
        let get = self.bucket()?.get(r2_key(grant)?);
        let get = match range {
            Some(range) => get.range(r2_range(range)),
            None => get,
        };
        match get.execute().await {
            Ok(Some(object)) => Ok(Object { metadata: metadata(&object), body: Body::Untouched(object) }),
            Ok(None) => Err(Miss::NotFound),
            // R2 fails on a range that is not there, without saying how much is.
            Err(error) => match (range, self.head(grant).await) {
                (Some(range), Ok(Metadata { size, .. })) if range.within(size).is_none() => {
                    Err(Miss::Range { size })
                }
                _ => Err(failed(&error)),
            },
        }
    }

    async fn head(&self, grant: &Grant) -> std::result::Result<Metadata, Miss> {
        let object = self.bucket()?.head(r2_key(grant)?).await.map_err(|error| failed(&error))?;
        object.as_ref().map(metadata).ok_or(Miss::NotFound)
    }

    async fn chunk(&self, body: &mut Body) -> std::result::Result<Option<Vec<u8>>, Miss> {
        if let Body::Untouched(object) = body {
            let stored = bytes_of(object).map_err(|error| failed(&error))?;
            if object.size() <= AT_ONCE {
                let whole = stored.bytes().await.map_err(|error| failed(&error))?;
                *body = Body::Read;
                return Ok(Some(whole));
            }
            *body = Body::Stream(stored.stream().map_err(|error| failed(&error))?);
        }
        match body {
            Body::Stream(stream) => stream.next().await.transpose().map_err(|error| failed(&error)),
            Body::Untouched(_) | Body::Read => Ok(None),
        }
    }
}

/// How long an object is, in bytes, that is read as a whole: the runtime brings a stream in small pieces, each of which
/// costs more than what is in it.
const AT_ONCE: u64 = 1024 * 1024;

/// The bytes of an object.
enum Body {
    /// As R2 has handed them over: the runtime may have them.
    Untouched(R2Object),
    /// Being read here.
    Stream(ByteStream),
    /// Read here.
    Read,
}

fn bytes_of(object: &R2Object) -> Result<ObjectBody<'_>> {
    object.body().ok_or_else(|| Error::RustError("the object came without a body".to_owned()))
}

/// R2 takes all spellings of a name for the one in NFC ([Unicode interoperability]). Another spelling is another path
/// to a policy's wildcards: it names nothing here, so that what was matched is what is read.
///
/// [Unicode interoperability]: https://developers.cloudflare.com/r2/reference/unicode-interoperability/
fn r2_key(grant: &Grant) -> std::result::Result<&str, Miss> {
    let key = grant.key().as_str();
    let normal = key.is_ascii() || JsString::from(key).normalize("NFC") == key;
    normal.then_some(key).ok_or(Miss::NotFound)
}

/// Offsets end where the crate's do, by a panic, at 2^53: far beyond R2's largest object, of 5 TiB.
fn r2_range(range: ByteRange) -> Range {
    const FAR: u64 = 1 << 50;
    match range {
        ByteRange::From { first, last: Some(last) } if last < FAR => {
            Range::OffsetWithLength { offset: first.min(FAR), length: (last + 1).saturating_sub(first) }
        }
        ByteRange::From { first, .. } => Range::OffsetToEnd { offset: first.min(FAR) },
        ByteRange::Last { length } => Range::Suffix { suffix: length.min(FAR) },
    }
}

fn metadata(object: &R2Object) -> Metadata {
    let http = object.http_metadata();
    Metadata {
        size: object.size(),
        content_type: http.content_type,
        content_encoding: http.content_encoding,
        cache_control: http.cache_control,
        etag: Some(object.http_etag()),
    }
}

fn failed(error: &Error) -> Miss {
    Miss::Failed(error.to_string())
}
