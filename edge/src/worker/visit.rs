//! A request under way, driven by `entry.js`.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use web_sys::{Request, Response};
use worker::js_sys::Promise;
use worker::{Env, console_error};

use super::{answer, runtime};

/// A request under way. It waits for one promise at a time: nobody has to be woken, as whoever awaited that promise
/// goes on here with its outcome. A visit that is never gone on with, since its viewer left, is collected.
#[wasm_bindgen]
pub struct Visit {
    answer: Pin<Box<dyn Future<Output = Response>>>,
    response: Option<Response>,
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").finish_non_exhaustive()
    }
}

#[wasm_bindgen]
impl Visit {
    /// Begins nothing yet.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new(request: Request, env: Env) -> Self {
        Self { answer: Box::pin(answer(request, env)), response: None }
    }

    /// Goes on as far as can be gone with the outcome of what was waited for, if anything was. Returns the next
    /// promise to wait for, or nothing when there is a response.
    pub fn proceed(&mut self, outcome: JsValue, failed: bool) -> Option<Promise> {
        OUTCOME.set(if failed { Err(outcome) } else { Ok(outcome) });
        match self.answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(response) => {
                self.response = Some(response);
                None
            }
            Poll::Pending => AWAITED.take(),
        }
    }

    /// The response, at the end.
    #[must_use]
    pub fn response(self) -> Response {
        self.response.unwrap_or_else(|| {
            console_error!("a request waits for something else than `outcome`");
            runtime::failed()
        })
    }
}

thread_local! {
    static AWAITED: Cell<Option<Promise>> = const { Cell::new(None) };
    static OUTCOME: Cell<Result<JsValue, JsValue>> = const { Cell::new(Ok(JsValue::UNDEFINED)) };
}

/// What a promise comes to. A request can wait for nothing else.
pub(super) async fn outcome(promise: Promise) -> Result<JsValue, JsValue> {
    let mut promise = Some(promise);
    poll_fn(|_| match promise.take() {
        Some(promise) => {
            AWAITED.set(Some(promise));
            Poll::Pending
        }
        None => Poll::Ready(OUTCOME.replace(Ok(JsValue::UNDEFINED))),
    })
    .await
}
