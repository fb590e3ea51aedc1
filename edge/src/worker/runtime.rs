//! What the runtime can be asked for, and no more: `runtime.js` says why, and what each does.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Response;
use worker::js_sys::{Array, Promise};

use super::steps::Parts;

#[wasm_bindgen(module = "/src/worker/runtime.js")]
extern "C" {
    pub(super) fn head(request: &web_sys::Request, names: &Array) -> String;

    pub(super) fn header(request: &web_sys::Request, name: &str) -> Option<String>;

    #[wasm_bindgen(catch, js_name = getFromR2)]
    pub(super) fn get_from_r2(
        bucket: &Bucket,
        key: &str,
        seconds: f64,
        unless: Option<&str>,
        offset: Option<f64>,
        length: Option<f64>,
        suffix: Option<f64>,
    ) -> Result<Promise, JsValue>;

    #[wasm_bindgen(catch, js_name = headFromR2)]
    pub(super) fn head_from_r2(bucket: &Bucket, key: &str, seconds: f64) -> Result<Promise, JsValue>;

    #[wasm_bindgen(js_name = describeR2)]
    pub(super) fn describe_r2(object: &Source) -> String;

    pub(super) fn ask(url: &str, method: &str, headers: &str, seconds: f64) -> Promise;

    #[wasm_bindgen(js_name = describeAnswer)]
    pub(super) fn describe_answer(answer: &Source) -> String;

    #[wasm_bindgen(js_name = errorCode)]
    pub(super) fn error_code(answer: &Source, seconds: f64) -> Promise;

    pub(super) fn find(url: &str, range: Option<&str>) -> Promise;

    #[wasm_bindgen(js_name = describeKept)]
    pub(super) fn describe_kept(kept: &Source) -> String;

    #[wasm_bindgen(catch)]
    pub(super) fn keep(
        context: &Context,
        url: &str,
        said: &str,
        size: f64,
        seconds: f64,
        source: &Source,
    ) -> Result<Source, JsValue>;

    pub(super) fn within(seconds: f64, promise: &Promise) -> Promise;

    pub(super) fn pause(milliseconds: f64) -> Promise;

    pub(super) fn cancel(source: &Source);

    #[wasm_bindgen(js_name = cancelReading)]
    pub(super) fn cancel_reading(reader: &Reader);

    #[wasm_bindgen(catch, js_name = writePoint)]
    pub(super) fn write_point(
        dataset: &Dataset,
        index: &str,
        blobs: &str,
        doubles: &[f64],
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) fn reader(source: &Source) -> Result<Reader, JsValue>;

    pub(super) fn read(reader: &Reader) -> Promise;

    pub(super) fn bytes(buffer: &JsValue) -> Vec<u8>;

    #[wasm_bindgen(catch, js_name = keepHeaders)]
    pub(super) fn keep_headers(number: u32, lines: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) fn respond(
        status: u16,
        kept: u32,
        own: &str,
        is_encoded: bool,
        source: Option<&Source>,
    ) -> Result<Response, JsValue>;

    #[wasm_bindgen(catch, js_name = respondWith)]
    pub(super) fn respond_with(
        status: u16,
        kept: u32,
        own: &str,
        is_encoded: bool,
        bytes: &[u8],
    ) -> Result<Response, JsValue>;

    #[wasm_bindgen(catch, js_name = respondInParts)]
    pub(super) fn respond_in_parts(
        status: u16,
        kept: u32,
        own: &str,
        is_encoded: bool,
        parts: Parts,
    ) -> Result<Response, JsValue>;
}

#[wasm_bindgen]
extern "C" {
    /// A Worker's bindings.
    pub(super) type Bindings;

    #[wasm_bindgen(method, getter, js_name = MEDIA)]
    pub(super) fn media(this: &Bindings) -> Option<Bucket>;

    #[wasm_bindgen(method, getter, js_name = ANALYTICS)]
    pub(super) fn analytics(this: &Bindings) -> Option<Dataset>;

    /// A dataset of Workers Analytics Engine.
    pub(super) type Dataset;

    /// What outlives a request's answer.
    #[derive(Clone, Debug)]
    pub type Context;

    /// An R2 bucket.
    #[derive(Debug)]
    pub(super) type Bucket;

    /// Something with a body, or without: an object of R2's, or a response.
    #[derive(Debug)]
    pub(super) type Source;

    #[wasm_bindgen(method, catch, js_name = arrayBuffer)]
    pub(super) fn array_buffer(this: &Source) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, getter)]
    pub(super) fn body(this: &Source) -> Option<worker::js_sys::Object>;

    /// What an object's bytes are read by, chunk by chunk.
    #[derive(Debug)]
    pub(super) type Reader;
}

/// The answer to what should not happen.
pub(super) fn failed() -> Response {
    let kept = super::kept("cache-control: no-store");
    kept.and_then(|kept| respond_with(500, kept, "", false, b"Internal Server Error"))
        .unwrap_or_else(|_| Response::error())
}
