//! What is under way here, driven by `runtime.js` step by step.
//!
//! Whatever it is, it waits for one promise at a time. Nobody has to be woken, as whoever awaited that promise goes on
//! here with its outcome. What is never gone on with, since its viewer left, is collected.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};

use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsError, JsValue};
use web_sys::{Request, Response};
use worker::js_sys::Promise;
use worker::{Env, console_error};

use super::body::Body;
use super::runtime::Context;
use super::{answer, runtime};
use crate::document::{Broken, Document};
use crate::origin::Origin;

/// A request under way.
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
    pub fn new(request: Request, env: Env, context: Context) -> Self {
        Self { answer: Box::pin(answer(request, env, context)), response: None }
    }

    /// Goes on as far as can be gone with the outcome of what was waited for, if anything was. Returns the next
    /// promise to wait for, or nothing when there is a response.
    pub fn proceed(&mut self, outcome: JsValue, failed: bool) -> Option<Promise> {
        match go_on(self.answer.as_mut(), outcome, failed) {
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

/// A document that leaves in parts, made one by one as they are asked for.
#[wasm_bindgen]
pub struct Parts {
    making: Pin<Box<dyn Future<Output = ()>>>,
    made: Made,
}

/// The latest part, or why there is none.
type Made = Rc<Cell<Result<Option<Vec<u8>>, Broken>>>;

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Parts {
    pub(super) fn new(mut document: Document<Body>, origin: impl Origin<Body = Body> + 'static) -> Self {
        let made: Made = Rc::new(Cell::new(Ok(None)));
        let latest = Rc::clone(&made);
        let making = Box::pin(async move {
            loop {
                let part = document.next(&origin).await;
                let is_last = !matches!(part, Ok(Some(_)));
                latest.set(part);
                if is_last {
                    break;
                }
                pause().await;
            }
        });
        Self { making, made }
    }
}

#[wasm_bindgen]
impl Parts {
    /// Goes on as [`Visit::proceed`] does. Returns nothing when there is a part, or all of them have been.
    pub fn proceed(&mut self, outcome: JsValue, failed: bool) -> Option<Promise> {
        match go_on(self.making.as_mut(), outcome, failed) {
            Poll::Ready(()) => None,
            Poll::Pending => AWAITED.take(),
        }
    }

    /// The part; nothing at the end. By then there is an answer, so that one that goes wrong can only be broken off.
    pub fn part(&mut self) -> Result<Option<Vec<u8>>, JsError> {
        self.made.replace(Ok(None)).map_err(|broken| {
            console_error!("broken off: {broken}");
            JsError::new("broken off")
        })
    }
}

thread_local! {
    static AWAITED: Cell<Option<Promise>> = const { Cell::new(None) };
    static OUTCOME: Cell<Result<JsValue, JsValue>> = const { Cell::new(Ok(JsValue::UNDEFINED)) };
}

fn go_on<T>(what: Pin<&mut dyn Future<Output = T>>, outcome: JsValue, failed: bool) -> Poll<T> {
    OUTCOME.set(if failed { Err(outcome) } else { Ok(outcome) });
    what.poll(&mut task::Context::from_waker(Waker::noop()))
}

/// What a promise comes to. Nothing in here can wait for anything else.
pub(super) async fn outcome(promise: Promise) -> Result<JsValue, JsValue> {
    AWAITED.set(Some(promise));
    pause().await;
    OUTCOME.replace(Ok(JsValue::UNDEFINED))
}

/// Ends a step.
async fn pause() {
    let mut has_paused = false;
    poll_fn(|_| if mem::replace(&mut has_paused, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}
