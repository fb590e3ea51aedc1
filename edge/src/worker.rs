//! The Cloudflare Worker: bindings in, [`serve`], a response of the runtime's own out.
//!
//! The crate `worker` brings the log, the settings and what is done after a panic. For requests, the bucket and
//! responses its types step into JavaScript for each header and each property: `runtime` does for each of them once.

use std::cell::{OnceCell, RefCell};
use std::sync::OnceLock;

use http::header::{AGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};
use http::{HeaderName, HeaderValue};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Request, Response};
use worker::js_sys::{Array, Date, JSON, Math, Reflect};
use worker::{Env, console_error, console_log};

use crate::cached::Cached;
use crate::caching::Lifetimes;
use crate::config::{self, Config, ConfigError};
use crate::delivery::Content;
use crate::journal::{Entry, Remark, Trace};
use crate::key_group::Visitor;
use crate::origin::Origin;
use crate::serve::{further_headers, is_operators, malformed, request_headers, serve, signer};
use body::Body;
use runtime::{Bindings, Context};
use shelf::Shelf;
use steps::Parts;
use store::{Place, Store};
use web_crypto::WebCrypto;

mod body;
mod runtime;
mod shelf;
mod steps;
mod store;
mod web_crypto;

/// Where a request came from: Cloudflare sets it, whatever the viewer sent.
const ADDRESS: HeaderName = HeaderName::from_static("cf-connecting-ip");

/// Answers a request.
async fn answer(request: Request, env: Env, context: Context) -> Response {
    let begun = Date::now();
    let config = config(&env);
    let now = unix_seconds(begun);
    let Some(http) = carry_over(&request, config.as_ref().copied()) else {
        return respond(malformed(), origin(&env, None, context, "", now));
    };
    let host = http.uri().authority().map_or("", |authority| authority.as_str());
    let origin = origin(&env, config.as_ref().ok().copied(), context, host, now);
    let visitor = Visitor { now, address: address(&http) };
    let mut response = serve(&http, &visitor, config.clone(), &origin, &WebCrypto).await;
    let trace = Trace {
        found: origin.found(),
        origin_ms: origin.origin().waited().map(whole_number),
        total_ms: whole_number(Date::now() - begun),
    };
    let config = config.ok();
    if config.is_some_and(|config| is_operators(&http, config))
        && let Ok(timing) = trace.to_server_timing().parse()
    {
        response.headers_mut().insert(SERVER_TIMING, timing);
    }
    note(&http, &response, config, &trace, env.unchecked_ref());
    respond(response, origin)
}

/// Where objects come from, for one request.
fn origin(
    env: &Env,
    config: Option<&'static Config>,
    context: Context,
    host: &str,
    now: u64,
) -> Cached<Store, Shelf> {
    let place = match config.map(|config| &config.store) {
        Some(config::Store::R2) => env.unchecked_ref::<Bindings>().media().map_or(Place::Nowhere, Place::R2),
        Some(config::Store::S3(bucket)) => Place::S3(bucket),
        None => Place::Nowhere,
    };
    let store = Store::new(place, now, config.map_or(0, |config| config.patience));
    let shelf = Shelf::new(context, host, store.name());
    let lifetimes = config.map_or(Lifetimes::default(), |config| config.lifetimes);
    Cached::new(store, shelf, lifetimes, now)
}

/// Writes what there is to say about a request: what went wrong in any case, of all else one in so many.
fn note<B>(
    http: &http::Request<()>,
    response: &http::Response<B>,
    config: Option<&Config>,
    trace: &Trace,
    bindings: &Bindings,
) {
    let remark = response.extensions().get::<Remark>();
    let one_in = config.map_or(1, |config| config.log_one_in);
    let is_logged = remark.is_some() || (one_in > 0 && Math::random() * f64::from(one_in) < 1.0);
    let dataset = bindings.analytics();
    if !is_logged && dataset.is_none() {
        return;
    }
    let signer = config.and_then(|config| signer(http, response, config));
    let entry = Entry::of(http, response, signer.as_ref(), trace);
    if let Some(dataset) = dataset {
        let (index, blobs, doubles) = entry.to_data_point();
        if let Err(error) = runtime::write_point(&dataset, index, &blobs.join("\n"), &doubles) {
            console_error!("no data point: {error:?}");
        }
    }
    match remark {
        Some(Remark { ours: true, .. }) => console_error!("{}", entry.to_json()),
        _ if is_logged => console_log!("{}", entry.to_json()),
        _ => {}
    }
}

/// The settings, read once for the life of the isolate; while they are wrong, at every request.
fn config(env: &Env) -> Result<&'static Config, ConfigError> {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let config = Config::read(|name| setting(env, name))?;
    Ok(CONFIG.get_or_init(|| config))
}

/// A variable, a secret or a binding. What is written as a table in `wrangler.toml` comes as an object, as bindings do.
fn setting(env: &Env, name: &str) -> Option<String> {
    let value = Reflect::get(env, &JsValue::from_str(name)).ok().filter(|value| !value.is_undefined())?;
    value.as_string().or_else(|| JSON::stringify(&value).ok()?.as_string())
}

/// Unix seconds. A clock that says nothing is taken to say that everything has expired.
fn unix_seconds(milliseconds: f64) -> u64 {
    let seconds = milliseconds / 1000.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it saturates, and NaN is kept apart"
    )]
    if seconds.is_nan() { u64::MAX } else { seconds as u64 }
}

/// Of some duration.
fn whole_number(milliseconds: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let whole = milliseconds.round() as u32;
    whole
}

/// The request as the core reads it: method, URL, and only the headers that it asks for. `None` for what is no
/// request by HTTP's own rules.
fn carry_over(request: &Request, config: Result<&'static Config, &ConfigError>) -> Option<http::Request<()>> {
    thread_local! {
        static NAMES: OnceCell<Names> = const { OnceCell::new() };
    }
    let names = || Names::of(request_headers(config).into_iter().chain([ADDRESS]).collect());
    let mut http = match config {
        Ok(_) => NAMES.with(|kept| kept.get_or_init(names).carry_over(request)),
        Err(_) => names().carry_over(request),
    }?;
    for name in further_headers(&http).collect::<Vec<_>>() {
        let value = runtime::header(request, name.as_str()).and_then(|value| value.parse().ok());
        value.map(|value| http.headers_mut().insert(name, value));
    }
    Some(http)
}

/// Names of headers, as they are here and for the runtime. What it says of them need not be looked up by name again.
struct Names(Vec<HeaderName>, Array);

impl Names {
    fn of(names: Vec<HeaderName>) -> Self {
        let asked = names.iter().map(|name| JsValue::from_str(name.as_str())).collect();
        Self(names, asked)
    }

    fn carry_over(&self, request: &Request) -> Option<http::Request<()>> {
        let Self(names, asked) = self;
        let head = runtime::head(request, asked);
        let mut lines = head.split('\n');
        let (method, url) = lines.next()?.split_once(' ')?;
        let mut http = http::Request::builder().method(method).uri(url).body(()).ok()?;
        for (name, line) in names.iter().zip(lines) {
            // What could not be a header is none: it lets nobody in.
            if let Some(value) = line.strip_prefix(':').and_then(|value| value.parse::<HeaderValue>().ok()) {
                http.headers_mut().insert(name, value);
            }
        }
        Some(http)
    }
}

fn address(request: &http::Request<()>) -> Option<std::net::IpAddr> {
    request.headers().get(ADDRESS)?.to_str().ok()?.parse().ok()
}

/// Gives the runtime its own stream, so that a segment's bytes never pass through WebAssembly.
fn respond(response: http::Response<Content<Body>>, origin: impl Origin<Body = Body> + 'static) -> Response {
    let (parts, content) = response.into_parts();
    let status = parts.status.as_u16();
    let is_encoded = parts.headers.contains_key(CONTENT_ENCODING);
    let own = head(&parts.headers, |name| OWN.contains(name));
    kept(&head(&parts.headers, |name| !OWN.contains(name)))
        .and_then(|kept| match content {
            Content::Stream(body) => {
                runtime::respond(status, kept, &own, is_encoded, body.hand_over().as_ref())
            }
            Content::Document(document) => {
                runtime::respond_in_parts(status, kept, &own, is_encoded, Parts::new(*document, origin))
            }
            Content::Nothing => runtime::respond(status, kept, &own, is_encoded, None),
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
        runtime::keep_headers(number, head)?;
        kept.push(head.to_owned());
        Ok(number)
    })
}

/// The headers that tell one object from another. The others say the same of many.
const OWN: [HeaderName; 6] = [AGE, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED, SERVER_TIMING];

/// How long it took, for an operator.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

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
