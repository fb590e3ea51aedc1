//! What the runtime can be asked for, and no more: `runtime.js` says why, and what each does.

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::Response;
use worker::js_sys::{Array, Promise};

use super::steps::Parts;

#[wasm_bindgen(module = "/src/worker/runtime.js")]
extern "C" {
    pub(super) fn head(request: &web_sys::Request, names: &Array) -> String;

    #[wasm_bindgen(catch, js_name = getPart)]
    pub(super) fn get_part(
        bucket: &Bucket,
        key: &str,
        offset: Option<f64>,
        length: Option<f64>,
        suffix: Option<f64>,
    ) -> Result<Promise, JsValue>;

    pub(super) fn describe(object: &R2Object) -> String;

    pub(super) fn header(request: &web_sys::Request, name: &str) -> Option<String>;

    #[wasm_bindgen(catch)]
    pub(super) fn reader(object: &R2Object) -> Result<Reader, JsValue>;

    pub(super) fn read(reader: &Reader) -> Promise;

    pub(super) fn bytes(buffer: &JsValue) -> Vec<u8>;

    #[wasm_bindgen(catch)]
    pub(super) fn keep(number: u32, lines: &str) -> Result<(), JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) fn respond(
        status: u16,
        kept: u32,
        own: &str,
        is_encoded: bool,
        object: Option<&R2Object>,
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
    /// A Worker's bindings, of which the gate has one.
    pub(super) type Bindings;

    #[wasm_bindgen(method, getter, js_name = MEDIA)]
    pub(super) fn media(this: &Bindings) -> Option<Bucket>;

    /// An R2 bucket.
    #[derive(Debug)]
    pub(super) type Bucket;

    #[wasm_bindgen(method, catch)]
    pub(super) fn get(this: &Bucket, key: &str) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(super) fn head(this: &Bucket, key: &str) -> Result<Promise, JsValue>;

    /// An object in it, with or without its body.
    #[derive(Debug)]
    pub(super) type R2Object;

    #[wasm_bindgen(method, getter)]
    pub(super) fn size(this: &R2Object) -> f64;

    #[wasm_bindgen(method, catch, js_name = arrayBuffer)]
    pub(super) fn array_buffer(this: &R2Object) -> Result<Promise, JsValue>;

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
