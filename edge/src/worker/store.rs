//! Where objects are: an R2 bucket, or a bucket that is asked over HTTP.

use std::borrow::Cow;
use std::cell::Cell;

use wasm_bindgen::{JsCast, JsValue};
use worker::js_sys::{Date, Error as JsError, JsString, Math, Promise};

use super::body::Body;
use super::runtime::{self, Bucket, Source};
use super::steps::outcome;
use crate::key_group::Grant;
use crate::origin::{ByteRange, Metadata, Miss, Object, Origin, Wanted};
use crate::s3::{self, Answer, BREATH, Trouble};

/// A store, for one request.
pub(super) struct Store {
    place: Place,
    /// Unix seconds.
    now: u64,
    /// How long it is waited for, in seconds.
    patience: u32,
    /// How long it was waited for, in milliseconds.
    waited: Cell<Option<f64>>,
}

/// How long the word is waited for that says why there is no object, in seconds. Who is in no hurry goes without.
const FOR_A_WORD: f64 = 1.0;

/// Which store it is.
pub(super) enum Place {
    /// The bucket that is bound.
    R2(Bucket),
    /// A bucket by its address.
    S3(&'static s3::Bucket),
    /// None, where the configuration is not sound: nothing is asked for.
    Nowhere,
}

impl Store {
    pub(super) fn new(place: Place, now: u64, patience: u32) -> Self {
        Self { place, now, patience, waited: Cell::default() }
    }

    /// How long it was waited for until it answered, in milliseconds; nothing if it was not asked.
    pub(super) fn waited(&self) -> Option<f64> {
        self.waited.get()
    }

    /// Which store it is, among all that there are.
    pub(super) fn name(&self) -> Cow<'static, str> {
        match &self.place {
            Place::S3(bucket) => bucket.place().into(),
            Place::R2(_) | Place::Nowhere => "r2".into(),
        }
    }

    /// What comes of asking the runtime.
    async fn outcome(&self, promise: Result<Promise, JsValue>) -> Result<JsValue, Trouble> {
        let outcome = match promise {
            Ok(promise) => outcome(promise).await,
            Err(error) => Err(error),
        };
        outcome.map_err(|error| self.trouble(&error))
    }

    /// What a promise comes to, if that is soon enough.
    async fn soon(&self, promise: &Promise) -> Result<JsValue, Trouble> {
        self.outcome(Ok(runtime::within(self.patience.into(), promise))).await
    }

    /// What went wrong on the way. It may pass, but for what has taken too long already.
    fn trouble(&self, error: &JsValue) -> Trouble {
        if error.as_string().is_some_and(|error| error == "late") {
            return Trouble::Lasting(Miss::Late(self.patience));
        }
        // An error's own words. Whatever else was thrown may have none: to ask for them would stop the program.
        let words = error.dyn_ref().map(|error: &JsError| error.to_string().into());
        Trouble::Passing(Miss::Failed(words.unwrap_or_else(|| format!("{error:?}"))))
    }

    /// Asks, and where it goes wrong in a way that may pass, once more after a moment.
    async fn patiently<T>(&self, ask: impl AsyncFn() -> Result<T, Trouble>) -> Result<T, Miss> {
        let begun = Date::now();
        let mut answer = ask().await;
        if let Err(Trouble::Passing(_)) = answer {
            // At another moment than whoever was told so at the same time.
            let breath = Math::random() * BREATH.as_secs_f64() * 1000.0;
            let _ = outcome(runtime::pause(breath)).await;
            answer = ask().await;
        }
        self.waited.set(Some(self.waited.get().unwrap_or_default() + Date::now() - begun));
        answer.map_err(Miss::from)
    }

    async fn get_once(&self, grant: &Grant, wanted: &Wanted<'_>) -> Result<Object<Body>, Trouble> {
        match &self.place {
            Place::R2(bucket) => self.get_from_r2(bucket, grant, wanted).await,
            Place::S3(bucket) => {
                let (answer, source) = self.ask(bucket, "GET", grant, wanted).await?;
                let body = Body::new(source, answer.length.unwrap_or_default());
                let lacks_range = answer.status == 416;
                match (answer.read(wanted), wanted.range) {
                    (Ok((metadata, part)), _) => Ok(Object { metadata, part, body }),
                    (Err(trouble), Some(range)) if lacks_range => {
                        Err(self.without(range, grant, trouble).await)
                    }
                    (Err(trouble), _) => Err(trouble),
                }
            }
            Place::Nowhere => Err(nowhere()),
        }
    }

    async fn head_once(&self, grant: &Grant) -> Result<Metadata, Trouble> {
        match &self.place {
            Place::R2(bucket) => {
                let promise = runtime::head_from_r2(bucket, r2_key(grant)?, self.patience.into());
                found(&self.outcome(promise).await?).map(|(metadata, _)| metadata)
            }
            Place::S3(bucket) => {
                let whole = Wanted::default();
                let range = Some(ByteRange::From { first: 0, last: Some(0) });
                let first = Wanted { range, ..whole };
                let (mut answer, mut wanted) = (self.told(bucket, "HEAD", grant, &whole).await?, &whole);
                // Why, is in a body, and HEAD has none.
                if matches!(answer.status, 400..500) {
                    (answer, wanted) = (self.told(bucket, "GET", grant, &first).await?, &first);
                    // What is empty has no first byte.
                    if answer.status == 416 {
                        (answer, wanted) = (self.told(bucket, "GET", grant, &whole).await?, &whole);
                    }
                }
                answer.read(wanted).map(|(metadata, _)| metadata)
            }
            Place::Nowhere => Err(nowhere()),
        }
    }

    async fn get_from_r2(
        &self,
        bucket: &Bucket,
        grant: &Grant,
        wanted: &Wanted<'_>,
    ) -> Result<Object<Body>, Trouble> {
        let [offset, length, suffix] = wanted.range.map_or([None; 3], r2_range);
        let unless = wanted.unless.map(|tag| tag.trim_matches('"'));
        let key = r2_key(grant)?;
        let promise = runtime::get_from_r2(bucket, key, self.patience.into(), unless, offset, length, suffix);
        let object = match (self.outcome(promise).await, wanted.range) {
            (Ok(object), _) => object,
            // R2 fails on a range that is not there, and says no more.
            (Err(trouble @ Trouble::Passing(_)), Some(range)) => {
                return Err(self.without(range, grant, trouble).await);
            }
            (Err(trouble), _) => return Err(trouble),
        };
        let (metadata, source) = found(&object)?;
        if source.body().is_none() && unless.is_some() {
            return Err(Trouble::Lasting(Miss::Unchanged(metadata.into())));
        }
        let part = wanted.range.and_then(|range| range.within(metadata.size));
        let body = Body::new(source, metadata.length(part));
        Ok(Object { metadata, part, body })
    }

    /// What is wrong with a range that led to `trouble`: that the object does not have it, where that is so.
    async fn without(&self, range: ByteRange, grant: &Grant, trouble: Trouble) -> Trouble {
        match Box::pin(self.head_once(grant)).await {
            Ok(metadata) if range.within(metadata.size).is_none() => {
                Trouble::Lasting(Miss::Range(metadata.into()))
            }
            Ok(_) => trouble,
            Err(trouble) => trouble,
        }
    }

    /// What a server says of an object, whose bytes nobody wants.
    async fn told(
        &self,
        bucket: &s3::Bucket,
        method: &str,
        grant: &Grant,
        wanted: &Wanted<'_>,
    ) -> Result<Answer, Trouble> {
        let (answer, source) = self.ask(bucket, method, grant, wanted).await?;
        drop(Body::new(source, 0));
        Ok(answer)
    }

    /// Asks a server for an object, and says what it said.
    async fn ask(
        &self,
        bucket: &s3::Bucket,
        method: &str,
        grant: &Grant,
        wanted: &Wanted<'_>,
    ) -> Result<(Answer, Source), Trouble> {
        let s3::Ask { url, headers } = bucket.ask(method, grant.key(), wanted, self.now);
        let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let promise = runtime::ask(&url, method, &lines.join("\n"), self.patience.into());
        let source: Source = self.outcome(Ok(promise)).await?.unchecked_into();
        let said = runtime::describe_answer(&source);
        let mut lines = said.split('\n');
        let mut text = || lines.next().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
        let status = text().and_then(|status| status.parse().ok()).unwrap_or_default();
        let (content_range, length) = (text(), text().and_then(|length| length.parse().ok()));
        let mut answer =
            Answer { status, length, content_range, metadata: metadata(&mut lines), ..Answer::default() };
        if status >= 300 {
            let code = self.outcome(Ok(runtime::error_code(&source, FOR_A_WORD))).await;
            answer.code = code.ok().and_then(|code| code.as_string());
        }
        Ok((answer, source))
    }
}

impl Origin for Store {
    type Body = Body;

    async fn get(&self, grant: &Grant, wanted: &Wanted<'_>) -> Result<Object<Body>, Miss> {
        self.patiently(async || self.get_once(grant, wanted).await).await
    }

    async fn head(&self, grant: &Grant) -> Result<Metadata, Miss> {
        self.patiently(async || self.head_once(grant).await).await
    }

    async fn chunk(&self, body: &mut Body) -> Result<Option<Vec<u8>>, Miss> {
        let Some(promise) = body.read().map_err(|error| self.trouble(&error))? else {
            return Ok(None);
        };
        let chunk = self.soon(&promise).await?;
        Ok(Some(runtime::bytes(&chunk)).filter(|chunk| !chunk.is_empty()))
    }
}

fn nowhere() -> Trouble {
    Trouble::Lasting(Miss::Failed("there is no bucket".to_owned()))
}

/// R2 takes all spellings of a name for the one in NFC ([Unicode interoperability]). Another spelling is another path
/// to a policy's wildcards: it names nothing here, so that what was matched is what is read.
///
/// [Unicode interoperability]: https://developers.cloudflare.com/r2/reference/unicode-interoperability/
fn r2_key(grant: &Grant) -> Result<&str, Trouble> {
    let key = grant.key().as_str();
    let normal = key.is_ascii() || JsString::from(key).normalize("NFC") == key;
    normal.then_some(key).ok_or(Trouble::Lasting(Miss::NotFound))
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

/// What R2 says of an object.
fn found(object: &JsValue) -> Result<(Metadata, Source), Trouble> {
    if object.is_null() || object.is_undefined() {
        return Err(Trouble::Lasting(Miss::NotFound));
    }
    let source: Source = object.clone().unchecked_into();
    let said = runtime::describe_r2(&source);
    let mut lines = said.split('\n');
    let size = lines.next().and_then(|size| size.parse().ok());
    let metadata = metadata(&mut lines);
    // A line too many is in a value that is no header's.
    let (Some(size), None) = (size, lines.next()) else {
        let problem = "it says of the object what nobody could".to_owned();
        return Err(Trouble::Lasting(Miss::Failed(problem)));
    };
    Ok((Metadata { size, ..metadata }, source))
}

/// What `runtime.js` says of any object, but for its size.
pub(super) fn metadata<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Metadata {
    let mut text = || lines.next().filter(|text| !text.is_empty()).map(ToOwned::to_owned);
    let [etag, last_modified, content_type, content_encoding, cache_control] =
        std::array::from_fn(|_| text());
    Metadata { etag, last_modified, content_type, content_encoding, cache_control, ..Metadata::default() }
}

/// The same lines, to be read again.
pub(super) fn lines(metadata: &Metadata) -> String {
    let Metadata { etag, last_modified, content_type, content_encoding, cache_control, .. } = metadata;
    let texts = [etag, last_modified, content_type, content_encoding, cache_control];
    texts.map(|text| text.as_deref().unwrap_or_default()).join("\n")
}
