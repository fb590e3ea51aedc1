//! Conditional requests ([RFC 9110 §13]): what a viewer has already need not be sent again.
//!
//! [RFC 9110 §13]: https://www.rfc-editor.org/rfc/rfc9110#section-13

use http::header::{
    AsHeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
};
use http::{HeaderMap, HeaderName};
use httpdate::parse_http_date;

use crate::origin::{ByteRange, Metadata};

/// The headers of a request that conditions are in. `If-Range` is read where there is a range.
pub const CONDITIONS: [HeaderName; 4] = [IF_MATCH, IF_UNMODIFIED_SINCE, IF_NONE_MATCH, IF_MODIFIED_SINCE];

/// What becomes of a request by its conditions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is answered as without them.
    Proceed,
    /// The viewer has it: 304.
    NotModified,
    /// The viewer wants another version: 412.
    Failed,
}

/// Whether an object is what a request's conditions want, evaluated in the order of [RFC 9110 §13.2.2].
///
/// [RFC 9110 §13.2.2]: https://www.rfc-editor.org/rfc/rfc9110#section-13.2.2
#[must_use]
pub fn verdict(request: &HeaderMap, object: &Metadata) -> Verdict {
    let etag = object.etag.as_deref();
    let modified = object.last_modified.as_deref();
    let since = |date: &str| Some((parse_http_date(date).ok()?, parse_http_date(modified?).ok()?));
    // What is no text names no version that there is; it is there all the same.
    let listed = |name| request.get(name).map(|tags| tags.to_str().unwrap_or_default());
    if let Some(tags) = listed(IF_MATCH) {
        if !names(tags, |tag| etag.is_some_and(|etag| is_strong(etag) && tag == etag)) {
            return Verdict::Failed;
        }
    } else if let Some((date, modified)) = text(request, IF_UNMODIFIED_SINCE).and_then(since)
        && modified > date
    {
        return Verdict::Failed;
    }
    if let Some(tags) = listed(IF_NONE_MATCH) {
        if names(tags, |tag| etag.is_some_and(|etag| opaque(tag) == opaque(etag))) {
            return Verdict::NotModified;
        }
    } else if let Some((date, modified)) = text(request, IF_MODIFIED_SINCE).and_then(since)
        && modified <= date
    {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// The entity tags of `If-None-Match`, in quotes, whether they were weak or not, that a store may be asked by. None where
/// there is a condition that comes before it, which no store is asked for.
pub fn known(request: &HeaderMap) -> impl Iterator<Item = &str> {
    let comes_first = [IF_MATCH, IF_UNMODIFIED_SINCE].iter().any(|name| request.contains_key(name));
    let list = text(request, IF_NONE_MATCH).filter(|_| !comes_first);
    tags(list.unwrap_or_default()).map(opaque).filter(|tag| is_plain(tag))
}

/// Whether every store takes an entity tag for what it is. To R2 `"*"` is every tag, and an empty one an error.
fn is_plain(tag: &str) -> bool {
    let tag = tag.trim_matches('"');
    !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte))
}

/// A range that is asked for, and the version that it has to be of.
#[derive(Clone, Copy, Debug)]
pub struct RangeOf<'a> {
    /// What is asked for.
    pub range: ByteRange,
    /// The entity tag or the date of `If-Range`.
    of: Option<&'a str>,
}

impl<'a> RangeOf<'a> {
    /// What is asked for: nothing, for what has to be answered whole, whatever the object is.
    #[must_use]
    pub fn read(request: &'a HeaderMap) -> Option<Self> {
        let range = ByteRange::parse(text(request, RANGE)?)?;
        match request.get(IF_RANGE) {
            None => Some(Self { range, of: None }),
            // A weak tag does not say that bytes are the same (RFC 9110 §13.1.5), and neither does what is no text.
            Some(of) => Some(Self { range, of: Some(of.to_str().ok().filter(|of| !of.starts_with("W/"))?) }),
        }
    }

    /// Whether an object is of the version that a range is wanted of.
    #[must_use]
    pub fn is_of(&self, object: &Metadata) -> bool {
        self.of.is_none_or(|of| {
            let validator = if of.starts_with('"') { &object.etag } else { &object.last_modified };
            validator.as_deref() == Some(of)
        })
    }
}

/// A header as one text. Of one that is there twice, the first: nobody who means well sends that.
fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a list of entity tags names one that `is_it`, or everything.
fn names(list: &str, is_it: impl Fn(&str) -> bool) -> bool {
    list.trim() == "*" || tags(list).any(is_it)
}

/// The entity tags in a list, as far as it is one. A tag may have a comma in it.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let open = rest.find('"').filter(|&open| matches!(rest.get(..open), Some("" | "W/")))?;
        let close = open + 1 + rest.get(open + 1..)?.find('"')?;
        let (tag, after) = rest.split_at_checked(close + 1)?;
        rest = after;
        Some(tag)
    })
}

fn is_strong(etag: &str) -> bool {
    !etag.starts_with("W/")
}

/// A tag without its weakness.
fn opaque(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn of(etag: &str) -> Metadata {
        Metadata {
            size: 10,
            etag: Some(etag.to_owned()).filter(|etag| !etag.is_empty()),
            last_modified: Some(MODIFIED.to_owned()),
            ..Metadata::default()
        }
    }

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    /// The tables of RFC 9110 §8.8.3.2 and §13.1, its examples, and its three forms of dates (§5.6.7).
    #[test]
    fn conditions_come_out_as_the_rfc_has_it() {
        use Verdict::{Failed, NotModified, Proceed};
        for (pairs, etag, verdict_is) in [
            (&[(IF_NONE_MATCH, "\"1\"")][..], "\"1\"", NotModified),
            (&[(IF_NONE_MATCH, "W/\"1\"")], "W/\"1\"", NotModified),
            (&[(IF_NONE_MATCH, "W/\"1\"")], "\"1\"", NotModified),
            (&[(IF_NONE_MATCH, "\"1\"")], "W/\"1\"", NotModified),
            (&[(IF_NONE_MATCH, "W/\"1\"")], "W/\"2\"", Proceed),
            (&[(IF_NONE_MATCH, "\"xyzzy\", \"r2d2xxxx\", \"c3piozzzz\"")], "\"c3piozzzz\"", NotModified),
            (&[(IF_NONE_MATCH, "W/\"xyzzy\" , W/\"r2,d2\",,\"\"")], "\"r2,d2\"", NotModified),
            (&[(IF_NONE_MATCH, "\"a\",\"\"")], "\"\"", NotModified),
            (&[(IF_NONE_MATCH, " * ")], "\"1\"", NotModified),
            (&[(IF_NONE_MATCH, "*")], "", NotModified),
            (&[(IF_NONE_MATCH, "1, \"1\"")], "\"1\"", Proceed),
            (&[(IF_NONE_MATCH, "\"1")], "\"1\"", Proceed),
            (&[(IF_NONE_MATCH, "w/\"1\"")], "\"1\"", Proceed),
            (&[(IF_NONE_MATCH, "\"1\"")], "", Proceed),
            // An If-None-Match is there, so the date is not looked at.
            (&[(IF_NONE_MATCH, "\"2\""), (IF_MODIFIED_SINCE, MODIFIED)], "\"1\"", Proceed),
            (&[(IF_MODIFIED_SINCE, MODIFIED)], "\"1\"", NotModified),
            (&[(IF_MODIFIED_SINCE, "Sunday, 06-Nov-94 08:49:37 GMT")], "\"1\"", NotModified),
            (&[(IF_MODIFIED_SINCE, "Sun Nov  6 08:49:37 1994")], "\"1\"", NotModified),
            (&[(IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")], "\"1\"", Proceed),
            (&[(IF_MODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:38 GMT")], "\"1\"", NotModified),
            (&[(IF_MODIFIED_SINCE, "yesterday")], "\"1\"", Proceed),
            (&[(IF_MATCH, "\"1\"")], "\"1\"", Proceed),
            (&[(IF_MATCH, "\"0\", \"1\"")], "\"1\"", Proceed),
            (&[(IF_MATCH, "*")], "", Proceed),
            (&[(IF_MATCH, "\"2\"")], "\"1\"", Failed),
            (&[(IF_MATCH, "W/\"1\"")], "W/\"1\"", Failed),
            (&[(IF_MATCH, "W/\"1\"")], "\"1\"", Failed),
            (&[(IF_MATCH, "\"1\"")], "W/\"1\"", Failed),
            (&[(IF_MATCH, "\"1\""), (IF_NONE_MATCH, "\"1\"")], "\"1\"", NotModified),
            (&[(IF_UNMODIFIED_SINCE, MODIFIED)], "\"1\"", Proceed),
            (&[(IF_UNMODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")], "\"1\"", Failed),
            (&[(IF_UNMODIFIED_SINCE, "tomorrow")], "\"1\"", Proceed),
            (
                &[(IF_MATCH, "\"1\""), (IF_UNMODIFIED_SINCE, "Sun, 06 Nov 1994 08:49:36 GMT")],
                "\"1\"",
                Proceed,
            ),
        ] {
            assert_eq!(verdict(&headers(pairs), &of(etag)), verdict_is, "{pairs:?} {etag}");
        }
    }

    #[test]
    fn a_store_is_asked_by_a_tag_that_it_cannot_mistake() {
        let known = |pairs: &[(HeaderName, &'static str)]| {
            known(&headers(pairs)).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            known(&[(IF_NONE_MATCH, r#""9d-2", W/"a", "", "*", "a,b", "a b", "c""#)]),
            ["\"9d-2\"", "\"a\"", "\"c\""]
        );
        assert!(known(&[(IF_NONE_MATCH, "*")]).is_empty());
        // Either of them is evaluated first.
        for condition in [IF_MATCH, IF_UNMODIFIED_SINCE] {
            assert!(known(&[(IF_NONE_MATCH, "\"1\""), (condition, "\"1\"")]).is_empty());
        }
    }

    #[test]
    fn a_range_is_of_one_version() {
        let is_of = |if_range: &'static str, etag| {
            let headers = headers(&[(RANGE, "bytes=0-1"), (IF_RANGE, if_range)]);
            RangeOf::read(&headers).is_some_and(|range| range.is_of(&of(etag)))
        };
        assert!(is_of("\"1\"", "\"1\""));
        assert!(is_of(MODIFIED, "\"1\""));
        for (if_range, etag) in [
            ("\"2\"", "\"1\""),
            ("\"1\"", "W/\"1\""),
            ("W/\"1\"", "W/\"1\""),
            ("\"1\"", ""),
            ("Sun, 06 Nov 1994 08:49:38 GMT", "\"1\""),
            ("1", "\"1\""),
            ("", ""),
        ] {
            assert!(!is_of(if_range, etag), "{if_range} {etag}");
        }
        assert!(RangeOf::read(&headers(&[(RANGE, "bytes=0-1")])).unwrap().is_of(&of("")));
        assert!(RangeOf::read(&headers(&[(IF_RANGE, "\"1\"")])).is_none());
    }

    #[test]
    fn a_list_that_is_no_text_is_a_list_without_what_there_is() {
        for (name, verdict_is) in [(IF_NONE_MATCH, Verdict::Proceed), (IF_MATCH, Verdict::Failed)] {
            let mut request = headers(&[(IF_MODIFIED_SINCE, MODIFIED), (IF_UNMODIFIED_SINCE, MODIFIED)]);
            request.insert(name.clone(), HeaderValue::from_bytes(b"\"\xe9\"").unwrap());
            assert_eq!(verdict(&request, &of("\"1\"")), verdict_is, "{name}");
        }
    }

    proptest! {
        /// Whatever is sent, and however lists are written: a tag is in a list that has it, and in none that has not.
        #[test]
        fn a_list_has_the_tags_that_were_put_into_it(
            tags in vec("(W/)?\"[!#-~,]{0,8}\"", 0..5),
            gap in "[ \t]{0,2},[ \t,]{0,2}",
            etag in "\"[!#-~,]{0,8}\"",
            noise in "\\PC{0,40}",
        ) {
            let list = tags.join(&gap);
            let found = |list: &str| names(list, |tag| opaque(tag) == etag);
            prop_assert_eq!(found(&list), tags.iter().any(|tag| opaque(tag) == etag));
            let with = [&*list, &*etag].join(if tags.is_empty() { "" } else { &gap });
            prop_assert!(found(&with));
            let _ = (found(&noise), found(&format!("{list}{noise}")));
        }
    }
}
