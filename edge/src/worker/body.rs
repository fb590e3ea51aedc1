//! The bytes of an object, which stay in the runtime unless they are read here.

use std::mem;

use wasm_bindgen::JsValue;
use worker::js_sys::Promise;

use super::runtime::{self, Reader, Source};

/// How long an object is at most that is read as a whole, in bytes: to read it chunk by chunk costs more for each.
const AT_ONCE: u64 = 1024 * 1024;

/// The bytes of an object. Whoever sends them is told when they are dropped.
#[derive(Debug)]
pub(super) struct Body(State);

#[derive(Debug)]
enum State {
    /// As its store has handed it over, and how long it is: the runtime may have it.
    Untouched(Source, u64),
    /// Being read here.
    Opened(Reader),
    /// Read here, or handed over.
    Over,
}

impl Body {
    pub(super) fn new(source: Source, length: u64) -> Self {
        Self(State::Untouched(source, length))
    }

    /// For the runtime, to do with it what it will; nothing once it was read.
    pub(super) fn hand_over(mut self) -> Option<Source> {
        match mem::replace(&mut self.0, State::Over) {
            State::Untouched(source, _) => Some(source),
            State::Opened(_) | State::Over => None,
        }
    }

    /// The same bytes by another way, if there is one.
    pub(super) fn reroute(&mut self, other: impl FnOnce(&Source) -> Option<Source>) {
        if let State::Untouched(source, _) = &mut self.0
            && let Some(other) = other(source)
        {
            *source = other;
        }
    }

    /// The next bytes, to come; nothing once all of them were read at once.
    pub(super) fn read(&mut self) -> Result<Option<Promise>, JsValue> {
        if let State::Untouched(source, length) = &self.0 {
            if *length <= AT_ONCE {
                let promise = source.array_buffer()?;
                self.0 = State::Over;
                return Ok(Some(promise));
            }
            self.0 = State::Opened(runtime::reader(source)?);
        }
        Ok(match &self.0 {
            State::Opened(reader) => Some(runtime::read(reader)),
            State::Untouched(..) | State::Over => None,
        })
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        match &self.0 {
            State::Untouched(source, _) => runtime::cancel(source),
            State::Opened(reader) => runtime::cancel_reading(reader),
            State::Over => {}
        }
    }
}
