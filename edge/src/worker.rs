//! The Cloudflare Worker: bindings in, [`serve`], a response of the runtime's own out.
//!
//! The crate `worker` brings the log, the settings and what is done after a panic. For requests, the bucket and
//! responses its types step into JavaScript for each header and each property: `runtime` does for each of them once.

use std::cell::{OnceCell, RefCell};
use std::sync::OnceLock;

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG};
use http::{HeaderName, HeaderValue};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Request, Response};
use worker::js_sys::{Array, Date, Error as JsError, JSON, JsString, Reflect};
use worker::{Env, console_error, console_log};

use crate::config::{Config, ConfigError};
use crate::key_group::{Grant, Visitor};
use crate::origin::{ByteRange, Metadata, Miss, Object, Origin};
use crate::serve::{Content, Remark, further_headers, malformed, request_headers, serve};
use runtime::{Bucket, R2Object, Reader};
use steps::{Parts, outcome};
use web_crypto::WebCrypto;

mod runtime;
mod steps;
mod web_crypto;

/// The bucket's binding in `wrangler.toml`.
const BUCKET: &str = "MEDIA";

/// Where a request came from: Cloudflare sets it, whatever the viewer sent.
const ADDRESS: HeaderName = HeaderName::from_static("cf-connecting-ip");

/// Answers a request.
async fn answer(request: Request, env: Env) -> Response {
    let bucket = R2(env.unchecked_ref::<runtime::Bindings>().media());
    let config = config(&env);
    let Some(http) = carry_over(&request, config.as_ref().copied()) else {
        return respond(malformed(), bucket);
    };
    let visitor = Visitor { now: now(), address: address(&http) };
    let response = serve(&http, &visitor, config, &bucket, &WebCrypto).await;
    if let Some(Remark { text, ours }) = response.extensions().get() {
        let line = format!(
            "{} {} {}: {text}",
            response.status().as_u16(),
            http.method(),
            loggable(http.uri().path())
        );
        if *ours {
            console_error!("{line}");
        } else {
            console_log!("{line}");
        }
    }
    respond(response, bucket)
}

/// What of a path may be in the log. The query is not, which is somebody's authority; and who encodes a whole URL, or joins
/// it with `&`, has that in the path.
fn loggable(path: &str) -> &str {
    let query = path.find('&').into_iter().chain(path.find("%3F")).chain(path.find("%3f")).min();
    query.and_then(|start| path.get(..start)).unwrap_or(path)
}

/// The settings, read once for the life of the isolate; while they are wrong, at every request.
fn config(env: &Env) -> Result<&'static Config, ConfigError> {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let config = Config::read(|name| setting(env, name))?;
    env.bucket(BUCKET).map_err(|_| {
        ConfigError(vec![format!(
            "{BUCKET}: no R2 bucket is bound to it; see [[r2_buckets]] in wrangler.toml"
        )])
    })?;
    Ok(CONFIG.get_or_init(|| config))
}

/// A variable or a secret. One that is written as a table in `wrangler.toml` comes as an object.
fn setting(env: &Env, name: &str) -> Option<String> {
    let value = Reflect::get(env, &JsValue::from_str(name)).ok().filter(|value| !value.is_undefined())?;
    value.as_string().or_else(|| JSON::stringify(&value).ok()?.as_string())
}

/// Unix seconds. A clock that says nothing is taken to say that everything has expired.
fn now() -> u64 {
    let seconds = Date::now() / 1000.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and NaN is kept apart"
    )]
    if seconds.is_nan() { u64::MAX } else { seconds as u64 }
}

/// The request as the core reads it: method, URL, and only the headers that it asks for. `None` for what is no
/// request by HTTP's own rules.
fn carry_over(request: &Request, config: Result<&'static Config, &ConfigError>) -> Option<http::Request<()>> {
    thread_local! {
        static NAMES: OnceCell<Array> = const { OnceCell::new() };
    }
    let names = || {
        let names = request_headers(config).into_iter().chain([ADDRESS]);
        names.map(|name| JsValue::from_str(name.as_str())).collect()
    };
    let head = match config {
        Ok(_) => NAMES.with(|kept| runtime::head(request, kept.get_or_init(names))),
        Err(_) => runtime::head(request, &names()),
    };
    let mut lines = head.split('\n');
    let (method, url) = lines.next()?.split_once(' ')?;
    let mut builder = http::Request::builder().method(method).uri(url);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        // What could not be a header is none: it lets nobody in.
        if let Ok(value) = value.parse::<HeaderValue>() {
            builder = builder.header(name, value);
        }
    }
    let mut http = builder.body(()).ok()?;
    for name in further_headers(&http).collect::<Vec<_>>() {
        let value = runtime::header(request, name.as_str()).and_then(|value| value.parse().ok());
        value.map(|value| http.headers_mut().insert(name, value));
    }
    Some(http)
}

fn address(request: &http::Request<()>) -> Option<std::net::IpAddr> {
    request.headers().get(ADDRESS)?.to_str().ok()?.parse().ok()
}

/// Gives the runtime R2's own stream, so that a segment's bytes never pass through WebAssembly.
fn respond(response: http::Response<Content<Body>>, origin: R2) -> Response {
    let (parts, content) = response.into_parts();
    let status = parts.status.as_u16();
    let is_encoded = parts.headers.contains_key(CONTENT_ENCODING);
    let own = head(&parts.headers, |name| OWN.contains(name));
    kept(&head(&parts.headers, |name| !OWN.contains(name)))
        .and_then(|kept| match content {
            Content::Stream(Body::Untouched(object)) => {
                runtime::respond(status, kept, &own, is_encoded, Some(&object))
            }
            Content::Document(document) => {
                runtime::respond_in_parts(status, kept, &own, is_encoded, Parts::new(*document, origin))
            }
            Content::Nothing | Content::Stream(_) => runtime::respond(status, kept, &own, is_encoded, None),
            Content::Bytes(bytes) => runtime::respond_with(status, kept, &own, is_encoded, &bytes),
        })
        .unwrap_or_else(|error| {
            console_error!("the runtime takes no such response: {error:?}");
            runtime::failed()
        })
}

/// The number of headers that many answers have, under which the runtime keeps them.
fn kept(head: &str) -> Result<u32, JsValue> {
    /// More than a gate has kinds of answers. A viewer can have it answer with others, but not with ever more of them.
    const MOST: usize = 64;
    thread_local! {
        static KEPT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }
    KEPT.with_borrow_mut(|kept| {
        if let Some(number) = (0..).zip(&*kept).find_map(|(number, known)| (known == head).then_some(number))
        {
            return Ok(number);
        }
        if kept.len() >= MOST {
            kept.clear();
        }
        let number = u32::try_from(kept.len()).unwrap_or_default();
        runtime::keep(number, head)?;
        kept.push(head.to_owned());
        Ok(number)
    })
}

/// The headers that tell one object from another. The others say the same of many.
const OWN: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_RANGE, ETAG];

/// Some of the headers, as HTTP/1.1 writes them. `serve` makes none that are not ASCII; one that were would be left out.
fn head(headers: &http::HeaderMap, is_wanted: impl Fn(&HeaderName) -> bool) -> String {
    let mut head = String::with_capacity(512);
    for (name, value) in headers.iter().filter(|(name, _)| is_wanted(name)) {
        let Ok(value) = value.to_str() else { continue };
        if !head.is_empty() {
            head.push('\n');
        }
        head.push_str(name.as_str());
        head.push_str(": ");
        head.push_str(value);
    }
    head
}

/// How long an object is at most that is read as a whole, in bytes: to read it chunk by chunk costs more for each.
const AT_ONCE: f64 = 1_048_576.0;

/// The bytes of an object.
#[derive(Debug)]
enum Body {
    /// As R2 has handed them over: the runtime may have them.
    Untouched(R2Object),
    /// Being read here.
    Opened(Reader),
    /// Read here.
    Over,
}

/// An R2 bucket as an origin. There is none only where the configuration is not sound, and nothing is asked for.
struct R2(Option<Bucket>);

impl R2 {
    fn bucket(&self) -> Result<&Bucket, Miss> {
        self.0.as_ref().ok_or_else(|| Miss::Failed("there is no bucket".to_owned()))
    }
}

impl Origin for R2 {
    type Body = Body;

    async fn get(&self, grant: &Grant, range: Option<ByteRange>) -> Result<Object<Body>, Miss> {
        let (bucket, key) = (self.bucket()?, r2_key(grant)?);
        let promise = match range {
            Some(range) => {
                let [offset, length, suffix] = r2_range(range);
                runtime::get_part(bucket, key, offset, length, suffix)
            }
            None => bucket.get(key),
        };
        let object = match promise {
            Ok(promise) => outcome(promise).await,
            Err(error) => Err(error),
        };
        match object {
            Ok(object) => found(object),
            // R2 fails on a range that is not there, without saying how much is.
            Err(error) => match (range, self.head(grant).await) {
                (Some(range), Ok(Metadata { size, .. })) if range.within(size).is_none() => {
                    Err(Miss::Range { size })
                }
                _ => Err(failed(&error)),
            },
        }
    }

    async fn head(&self, grant: &Grant) -> Result<Metadata, Miss> {
        let promise = self.bucket()?.head(r2_key(grant)?).map_err(|error| failed(&error))?;
        let object = outcome(promise).await.map_err(|error| failed(&error))?;
        found(object).map(|object| object.metadata)
    }

    async fn chunk(&self, body: &mut Body) -> Result<Option<Vec<u8>>, Miss> {
        if let Body::Untouched(object) = body {
            if object.size() <= AT_ONCE {
                let promise = object.array_buffer().map_err(|error| failed(&error))?;
                *body = Body::Over;
                let buffer = outcome(promise).await.map_err(|error| failed(&error))?;
                return Ok(Some(runtime::bytes(&buffer)));
            }
            *body = Body::Opened(runtime::reader(object).map_err(|error| failed(&error))?);
        }
        let Body::Opened(reader) = body else { return Ok(None) };
        let chunk = outcome(runtime::read(reader)).await.map_err(|error| failed(&error))?;
        Ok(Some(runtime::bytes(&chunk)).filter(|chunk| !chunk.is_empty()))
    }
}

/// R2 takes all spellings of a name for the one in NFC ([Unicode interoperability]). Another spelling is another path
/// to a policy's wildcards: it names nothing here, so that what was matched is what is read.
///
/// [Unicode interoperability]: https://developers.cloudflare.com/r2/reference/unicode-interoperability/
fn r2_key(grant: &Grant) -> Result<&str, Miss> {
    let key = grant.key().as_str();
    let normal = key.is_ascii() || JsString::from(key).normalize("NFC") == key;
    normal.then_some(key).ok_or(Miss::NotFound)
}

/// Offset, length and suffix of a range. They end where JavaScript's integers do, far beyond R2's largest object.
#[expect(clippy::cast_precision_loss, reason = "up to here there is none")]
fn r2_range(range: ByteRange) -> [Option<f64>; 3] {
    const FAR: u64 = 1 << 50;
    let number = |offset: u64| Some(offset.min(FAR) as f64);
    match range {
        ByteRange::From { first, last: Some(last) } if last < FAR => {
            [number(first), number((last + 1).saturating_sub(first)), None]
        }
        ByteRange::From { first, .. } => [number(first), None, None],
        ByteRange::Last { length } => [None, None, number(length)],
    }
}

/// An object, with what R2 says of it: `runtime.js` writes it in lines.
fn found(object: JsValue) -> Result<Object<Body>, Miss> {
    if object.is_null() || object.is_undefined() {
        return Err(Miss::NotFound);
    }
    let object: R2Object = object.unchecked_into();
    let said = runtime::describe(&object);
    let mut lines = said.split('\n');
    let mut text = || lines.next().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let [size, etag, content_type, content_encoding, cache_control] = std::array::from_fn(|_| text());
    let size = size.and_then(|size| size.parse().ok());
    // A line too many is in a value that is no header's.
    let (Some(size), None) = (size, lines.next()) else {
        return Err(Miss::Failed("it says of the object what nobody could".to_owned()));
    };
    let metadata = Metadata { size, content_type, content_encoding, cache_control, etag };
    Ok(Object { metadata, body: Body::Untouched(object) })
}

fn failed(error: &JsValue) -> Miss {
    // An error's own words. Whatever else was thrown may have none: to ask for them would stop the program.
    let words = error.dyn_ref().map(|error: &JsError| error.to_string().into());
    Miss::Failed(words.unwrap_or_else(|| format!("{error:?}")))
}
