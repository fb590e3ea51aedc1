//! What an operator can see of a request: a line in the log, a data point, how long it took. Nothing in them opens
//! anything.

use http::header::CONTENT_LENGTH;
use http::{Method, Request, Response};
use serde::Serialize;

use crate::cached::Found;
use crate::media::Class;
use crate::object_key::ObjectKey;
use crate::signed_url::Signer;

/// What there is to say about an answer, in its extensions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Remark {
    /// A sentence, without anything that opens anything.
    pub text: String,
    /// Whether it is the operator's to mend, not the viewer's.
    pub ours: bool,
    /// The name of the reason why there was no object, where there was none.
    pub refusal: Option<&'static str>,
}

/// Who claims to have signed what was denied, in the answer's extensions. To read it once more would be dearer than all
/// that was decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claimant(pub Option<Signer>);

/// How an answer came about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trace {
    /// What the cache had to do with it.
    pub found: Found,
    /// How long the store was waited for, in milliseconds: until it answered, not until all of it was there. Nothing for
    /// what it was not asked.
    pub origin_ms: Option<u32>,
    /// How long the viewer waited for the answer's head, in milliseconds.
    pub total_ms: u32,
}

/// One request, as the log has it: a line of JSON.
#[derive(Clone, Debug, Serialize)]
pub struct Entry<'a> {
    /// The answer's.
    pub status: u16,
    /// `GET` …
    pub method: &'a str,
    /// What was asked for, without its query: that is somebody's authority.
    pub path: &'a str,
    /// `playlist`, `captions`, `json`, `segment`, `picture` or `other`.
    pub kind: &'static str,
    /// The asset's name, of what is below `assets/`.
    pub asset: Option<&'a str>,
    /// Why there is no object, in one word.
    pub refusal: Option<&'static str>,
    /// The same, or what else is worth a word, in a sentence.
    pub remark: Option<&'a str>,
    /// The id of the key pair that the viewer's signature names, or `ticket`.
    pub key: Option<&'a str>,
    /// A digest of the signature, which tells one session from another.
    pub session: Option<String>,
    /// The length of the body, where it was known beforehand.
    pub bytes: Option<u64>,
    /// `hit`, `miss` or `bypass`.
    pub cache: &'static str,
    /// See [`Trace::origin_ms`].
    pub origin_ms: Option<u32>,
    /// See [`Trace::total_ms`].
    pub total_ms: u32,
}

impl<'a> Entry<'a> {
    /// Of a request, its answer, and how that came about.
    #[must_use]
    pub fn of<B>(
        request: &'a Request<()>,
        response: &'a Response<B>,
        signer: Option<&'a Signer>,
        trace: &Trace,
    ) -> Self {
        let path = loggable(request.uri().path());
        let remark = response.extensions().get::<Remark>();
        // What HEAD says of it does not come.
        let length = response.headers().get(CONTENT_LENGTH).filter(|_| request.method() != Method::HEAD);
        let bytes = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Self {
            status: response.status().as_u16(),
            method: request.method().as_str(),
            path,
            kind: ObjectKey::parse(path).map_or(Class::Other, |key| Class::of(&key)).name(),
            asset: path.strip_prefix("/assets/").and_then(|rest| Some(rest.split_once('/')?.0)),
            refusal: remark.and_then(|remark| remark.refusal),
            remark: remark.map(|remark| remark.text.as_str()),
            key: signer.map(|signer| signer.name.as_str()),
            session: signer.and_then(|signer| signer.session).map(|session| session.to_string()),
            bytes,
            cache: trace.found.name(),
            origin_ms: trace.origin_ms,
            total_ms: trace.total_ms,
        }
    }

    /// As one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and numbers: nothing in here can fail to be written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As a data point of Workers Analytics Engine: its index, its texts, in this order, and its numbers. Of what is longer
    /// than any object's there is the beginning: a point with more in it than [the limits] allow would not be written.
    ///
    /// [the limits]: https://developers.cloudflare.com/analytics/analytics-engine/limits/
    #[must_use]
    pub fn to_data_point(&self) -> (&str, [&str; 8], [f64; 4]) {
        let asset = beginning(self.asset.unwrap_or_default(), LONGEST_PATH);
        let blobs = [
            asset,
            self.kind,
            self.refusal.unwrap_or_default(),
            self.key.unwrap_or_default(),
            self.session.as_deref().unwrap_or_default(),
            self.cache,
            beginning(self.method, LONGEST_INDEX),
            beginning(self.path, LONGEST_PATH),
        ];
        #[expect(clippy::cast_precision_loss, reason = "no object comes near 2^53 bytes")]
        let bytes = self.bytes.unwrap_or_default() as f64;
        let doubles = [
            f64::from(self.status),
            bytes,
            f64::from(self.origin_ms.unwrap_or_default()),
            f64::from(self.total_ms),
        ];
        (beginning(asset, LONGEST_INDEX), blobs, doubles)
    }
}

impl Trace {
    /// As the value of a [`Server-Timing`][timing] header, for an operator.
    ///
    /// [timing]: https://www.w3.org/TR/server-timing/
    #[must_use]
    pub fn to_server_timing(&self) -> String {
        let origin = self.origin_ms.map_or_else(String::new, |ms| format!("origin;dur={ms}, "));
        format!("cache;desc={}, {origin}total;dur={}", self.found.name(), self.total_ms)
    }
}

/// The longest index of a data point, in bytes.
const LONGEST_INDEX: usize = 96;

/// The longest path of an object, in bytes: that of a key of 1,024, each of them encoded.
const LONGEST_PATH: usize = 3 * 1024 + 1;

/// As much of a text as there may be, in bytes.
fn beginning(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

/// What of a path may be in the log. The query is not, which is somebody's authority; and who encodes a whole URL, or joins
/// it with `&`, has that in the path.
fn loggable(path: &str) -> &str {
    let query = path.find('&').into_iter().chain(path.find("%3F")).chain(path.find("%3f")).min();
    query.and_then(|start| path.get(..start)).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_head_says_is_no_byte_of_it() {
        let response = Response::builder().header(CONTENT_LENGTH, "10").body(()).unwrap();
        for (method, bytes) in [(Method::GET, Some(10)), (Method::HEAD, None)] {
            let request = Request::builder().method(method).uri("https://v.example/1.m4s").body(()).unwrap();
            assert_eq!(Entry::of(&request, &response, None, &Trace::default()).bytes, bytes);
        }
    }

    #[test]
    fn a_data_point_is_within_the_limits_whatever_is_asked_for() {
        let long = "%D1%8F".repeat(2_000);
        let request = |path: String| Request::get(format!("https://v.example{path}")).body(()).unwrap();
        for path in
            ["/assets/a/1.m4s".to_owned(), format!("/assets/{long}/1.m4s"), format!("/assets/a/{long}")]
        {
            let (request, response) = (request(path), Response::new(()));
            let entry = Entry::of(&request, &response, None, &Trace::default());
            let (index, blobs, _) = entry.to_data_point();
            assert!(index.len() <= 96 && blobs[0].starts_with(index));
            assert!(blobs.iter().map(|blob| blob.len()).sum::<usize>() <= 16 * 1024);
            assert!(request.uri().path().starts_with(blobs[7]));
        }
    }
}
