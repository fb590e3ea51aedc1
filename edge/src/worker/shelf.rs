//! The runtime's cache, near the viewer.

use std::borrow::Cow;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use wasm_bindgen::JsCast;

use super::body::Body;
use super::runtime::{self, Context, Source};
use super::steps::outcome;
use super::store::{lines, metadata};
use crate::cached::{Cache, Term};
use crate::key_group::Grant;
use crate::origin::{ByteRange, Metadata, Object};

/// The runtime's cache, for one request. What it keeps has a URL without anything that opens anything: the gate's host,
/// which bucket it is of, the key.
pub(super) struct Shelf {
    context: Context,
    host: String,
    store: Cow<'static, str>,
}

impl Shelf {
    pub(super) fn new(context: Context, host: &str, store: Cow<'static, str>) -> Self {
        Self { context, host: host.to_owned(), store }
    }

    fn url(&self, grant: &Grant) -> String {
        let escaped = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let (host, store, key) = (&self.host, escaped(&self.store), escaped(grant.key().as_str()));
        format!("https://{host}/-/{store}/{key}")
    }
}

impl Cache for Shelf {
    type Body = Body;

    async fn get(&self, grant: &Grant, range: Option<ByteRange>) -> Option<(Object<Body>, Term)> {
        let asked = range.map(|range| range.to_header());
        let kept = outcome(runtime::find(&self.url(grant), asked.as_deref())).await.ok()?;
        if kept.is_undefined() {
            return None;
        }
        let source: Source = kept.unchecked_into();
        let said = runtime::describe_kept(&source);
        let mut said = said.split('\n');
        let (status, content_range) = (said.next()?, said.next()?);
        let mut number = || said.next()?.parse().ok();
        let (term, size) = (Term { since: number()?, until: number()? }, number()?);
        let metadata = Metadata { size, ..metadata(&mut said) };
        let part = range.and_then(|range| range.within(size));
        let body = Body::new(source, metadata.length(part));
        // A cache need not know of ranges; only what was asked for is any good.
        let is_right = match part {
            None => status == "200" && range.is_none(),
            Some((first, last)) => status == "206" && content_range == format!("bytes {first}-{last}/{size}"),
        };
        is_right.then_some((Object { metadata, part, body }, term))
    }

    fn keep(&self, grant: &Grant, object: &mut Object<Body>, term: Term) {
        let (Term { since, until }, size) = (term, object.metadata.size);
        let said = format!("{since}\n{until}\n{size}\n{}", lines(&object.metadata));
        #[expect(clippy::cast_precision_loss, reason = "what is kept is small, and for a year at most")]
        let (size, seconds) = (size as f64, until.saturating_sub(since) as f64);
        let url = self.url(grant);
        object.body.reroute(|source| runtime::keep(&self.context, &url, &said, size, seconds, source).ok());
    }
}
