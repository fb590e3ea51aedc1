//! An object on its way to a viewer who may have it: ranges, conditions, headers, and what becomes of documents.

use std::sync::Arc;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, AGE, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};

use crate::caching::{self, Edition};
use crate::conditional::{self, RangeOf, Verdict, verdict};
use crate::document::{Document, READY};
use crate::gzip;
use crate::journal::Remark;
use crate::key_group::Grant;
use crate::link::{Host, Place};
use crate::media::{Class, media_type};
use crate::origin::{Metadata, Miss, Object, Origin, Wanted};
use crate::refusal::Refusal;
use crate::rewrite::{Encoding, Kind, Rewriter};

/// The longest document that is held whole, in bytes of what goes out. What is longer leaves in parts.
const WHOLE: usize = 1024 * 1024;

/// From which length on, in bytes of what is stored, a document is sure to become longer than that: with signatures in
/// its links, and packed. Then it leaves in parts from the first on, because a viewer may be slow to take it.
const LONG: u64 = 64 * 1024;
const LONG_PACKED: u64 = 1024 * 1024;

/// What goes back to the viewer.
#[derive(Debug)]
pub enum Content<B> {
    /// An answer that has headers only.
    Nothing,
    /// Bytes passed through untouched, never held in memory.
    Stream(B),
    /// A message, or a document as short as most are.
    Bytes(Vec<u8>),
    /// A document of any length, part by part.
    Document(Box<Document<B>>),
}

/// Answers with what was granted.
pub(crate) async fn deliver<O: Origin>(
    request: &Request<()>,
    grant: &Grant,
    own_hosts: &Arc<[Host]>,
    origin: &O,
) -> Result<Response<Content<O::Body>>, Refusal> {
    // To a store that is its bucket, and all that is in it.
    if grant.key().as_str().is_empty() {
        return Err(Miss::NotFound.into());
    }
    match Class::of(grant.key()) {
        Class::Document(kind) if !grant.authority().is_empty() => {
            document(request, grant, kind, own_hosts, origin).await
        }
        _ if request.method() == Method::HEAD => {
            let metadata = origin.head(grant).await?;
            conditionally(request.headers(), grant, Object::whole(metadata, Content::Nothing))
        }
        _ => object(request.headers(), grant, origin).await,
    }
}

/// An object as it is, or a part of it.
async fn object<O: Origin>(
    request: &HeaderMap,
    grant: &Grant,
    origin: &O,
) -> Result<Response<Content<O::Body>>, Refusal> {
    let range = RangeOf::read(request);
    let wanted = Wanted { range: range.map(|range| range.range), unless: conditional::known(request).next() };
    let whole = async || origin.get(grant, &Wanted { range: None, ..wanted }).await;
    let found = match (origin.get(grant, &wanted).await, range) {
        // A part of another version than it has to be of; or none, but it might be one of another version that there is not.
        (Ok(Object { metadata, part: Some(_), .. }), Some(range)) if !range.is_of(&metadata) => whole().await,
        (Err(Miss::Range(metadata)), Some(range)) if !range.is_of(&metadata) => whole().await,
        (found, _) => found,
    };
    let miss = match found {
        Ok(object) => return conditionally(request, grant, object.map(Content::Stream)),
        Err(miss) => miss,
    };
    // Conditions come before ranges. And a store that is mistaken must not have a viewer keep another version.
    if let Miss::Range(metadata) | Miss::Unchanged(metadata) = &miss
        && let Some(answer) = unwanted(request, grant, metadata)?
    {
        return Ok(answer);
    }
    Err(miss.into())
}

/// An object, if a request's conditions want it. A body that is not wanted is dropped.
fn conditionally<B>(
    request: &HeaderMap,
    grant: &Grant,
    object: Object<Content<B>>,
) -> Result<Response<Content<B>>, Refusal> {
    match unwanted(request, grant, &object.metadata)? {
        Some(answer) => Ok(answer),
        None => found(grant, object),
    }
}

/// The answer to a request whose conditions do not want an object; none where they do.
fn unwanted<B>(
    request: &HeaderMap,
    grant: &Grant,
    metadata: &Metadata,
) -> Result<Option<Response<Content<B>>>, Refusal> {
    match verdict(request, metadata) {
        Verdict::Proceed => Ok(None),
        Verdict::NotModified => not_modified(grant, metadata.clone()).map(Some),
        Verdict::Failed => Err(Refusal::OtherVersion),
    }
}

/// A document with the viewer's authority in it. It is always answered whole: players ask for `Range: bytes=0-` of
/// playlists, and the range would be of something else than what they get.
async fn document<O: Origin>(
    request: &Request<()>,
    grant: &Grant,
    kind: Kind,
    own_hosts: &Arc<[Host]>,
    origin: &O,
) -> Result<Response<Content<O::Body>>, Refusal> {
    let headers = request.headers();
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|accepted| accepted.to_str().ok());
    let encoding = if accepted.is_some_and(gzip::is_accepted) { Encoding::Gzip } else { Encoding::Identity };
    let edition = Edition::of(grant.authority(), own_hosts, encoding);
    // What the viewer has, it has in this edition or in none.
    let known = conditional::known(headers).find_map(|tag| edition.stored(tag));
    let wanted = Wanted { range: None, unless: known.as_deref() };
    let Object { mut metadata, body, .. } = match origin.get(grant, &wanted).await {
        Ok(object) => object,
        Err(Miss::Unchanged(mut metadata)) if metadata.etag == known => {
            rewritten(&mut metadata, &edition);
            return not_modified(grant, *metadata).map(marked_rewritten);
        }
        Err(miss) => return Err(miss.into()),
    };
    match metadata.content_encoding {
        Some(encoding) if kind == Kind::Playlist => {
            let problem = format!("the playlist is stored as {encoding}; store playlists as they are");
            return Err(Miss::Failed(problem).into());
        }
        // Captions may well be stored so, and what is not found in them is not missed.
        Some(_) => {
            return conditionally(headers, grant, Object::whole(metadata, Content::Stream(body)));
        }
        None => {}
    }
    rewritten(&mut metadata, &edition);
    metadata.content_encoding = (encoding == Encoding::Gzip).then(|| "gzip".to_owned());
    if let Some(answer) = unwanted(headers, grant, &metadata)? {
        return Ok(marked_rewritten(answer));
    }

    let place = Place::at(request.uri(), own_hosts, grant.authority());
    let mut document = Document::new(body, Rewriter::new(kind, place, encoding));
    let long = if encoding == Encoding::Gzip { LONG_PACKED } else { LONG };
    document.fill(origin, if metadata.size <= long { WHOLE } else { READY }).await?;

    let (length, is_other) = (document.is_over().then(|| document.ready()), document.is_other());
    let body = match length {
        Some(_) => Content::Bytes(document.take()),
        None => Content::Document(document.into()),
    };
    let mut response = found(grant, Object::whole(metadata, body)).map(marked_rewritten)?;
    let headers = response.headers_mut();
    headers.remove(ACCEPT_RANGES);
    match length {
        Some(length) => headers.insert(CONTENT_LENGTH, HeaderValue::from(length)),
        None => headers.remove(CONTENT_LENGTH),
    };
    if is_other && kind == Kind::Playlist {
        let text = "it does not begin #EXTM3U, and goes out as it is".to_owned();
        response.extensions_mut().insert(Remark { text, ours: true, refusal: None });
    }
    Ok(response)
}

/// A document's bytes are no longer the object's, so neither are its tag, its date and its age.
fn rewritten(metadata: &mut Metadata, edition: &Edition) {
    metadata.etag = edition.tag(metadata.etag.as_deref());
    metadata.last_modified = None;
    metadata.age = None;
}

fn marked_rewritten<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching::REWRITTEN));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// The viewer has it: what it could do without is left out ([RFC 9110 §15.4.5]).
///
/// [RFC 9110 §15.4.5]: https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
fn not_modified<B>(grant: &Grant, metadata: Metadata) -> Result<Response<Content<B>>, Refusal> {
    let mut response = found(grant, Object::whole(metadata, Content::Nothing))?;
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, ACCEPT_RANGES] {
        response.headers_mut().remove(name);
    }
    Ok(response)
}

/// An object that goes out, or a part of it, with what there is to say of it.
fn found<B>(grant: &Grant, object: Object<Content<B>>) -> Result<Response<Content<B>>, Refusal> {
    let length = object.metadata.length(object.part);
    let Object { metadata, part, body } = object;
    let Metadata { size, etag, last_modified, content_type, content_encoding, cache_control, age } = metadata;
    let key = grant.key();
    let cache_control = caching::for_one_viewer(cache_control.as_deref(), Class::of(key));
    let mut response = Response::new(body);
    // All that will be in it, so that it need not grow twice on the way.
    response.headers_mut().reserve(14);
    let mut say = |name: HeaderName, value: &str| -> Result<(), Refusal> {
        response.headers_mut().insert(name, header(value)?);
        Ok(())
    };
    say(CONTENT_TYPE, media_type(content_type.as_deref(), key))?;
    say(CACHE_CONTROL, &cache_control)?;
    for (name, value) in [(CONTENT_ENCODING, content_encoding), (ETAG, etag), (LAST_MODIFIED, last_modified)]
    {
        value.map_or(Ok(()), |value| say(name, &value))?;
    }
    age.map_or(Ok(()), |age| say(AGE, &age.to_string()))?;
    if let Some((first, last)) = part {
        say(CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"))?;
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

/// A store's words as a header. One that cannot be a header is the store's fault, and so is one that is not
/// ASCII: the runtime takes no other, and `private` must not get lost with it.
fn header(value: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(value)
        .ok()
        .filter(|_| value.is_ascii())
        .ok_or_else(|| Refusal::Origin(Miss::Failed(format!("no header value: {value:?}"))))
}
