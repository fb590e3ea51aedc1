//! A bucket of S3's, or of what speaks its language: how an object is asked for, and what an answer means.
//!
//! Neither sends nor waits: whoever has a network does.

use std::net::Ipv4Addr;
use std::time::Duration;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::object_key::ObjectKey;
use crate::origin::{Metadata, Miss, Wanted};
use crate::sigv4::{NO_BODY, Signer, Time};

/// What stands in a path as it is ([UriEncode]).
///
/// [UriEncode]: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// What the settings say of a bucket, none of it checked. It cannot be printed: there are secrets in it.
#[derive(Default)]
pub struct Settings {
    /// `S3_ENDPOINT`: the region's at AWS, unless it says otherwise.
    pub endpoint: Option<String>,
    /// `S3_BUCKET`
    pub bucket: Option<String>,
    /// `S3_REGION`
    pub region: Option<String>,
    /// `S3_STYLE`: `path` or `virtual`.
    pub style: Option<String>,
    /// `S3_ACCESS_KEY_ID`
    pub access_key_id: Option<String>,
    /// `S3_SECRET_ACCESS_KEY`
    pub secret_access_key: Option<String>,
    /// `S3_SESSION_TOKEN`
    pub session_token: Option<String>,
}

/// A bucket that can be asked.
#[derive(Debug)]
pub struct Bucket {
    /// Scheme, host and port.
    server: String,
    /// Host and port, as a `Host` header has them.
    host: String,
    /// What comes before a key.
    path: String,
    signer: Signer,
}

/// A request for an object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask {
    /// Where to.
    pub url: String,
    /// What has to be sent along.
    pub headers: Vec<(&'static str, String)>,
}

impl Bucket {
    /// Reads the settings. Says all that is wrong with them, of which and what.
    pub fn read(settings: Settings) -> Result<Self, Vec<(&'static str, String)>> {
        let mut problems = Vec::new();
        let mut required = |name, value: Option<String>, hint: &str| {
            let value = value.filter(|value| !value.contains(char::is_control));
            value.unwrap_or_else(|| {
                problems.push((name, format!("is not set, or has a line break in it; {hint}")));
                String::new()
            })
        };
        let name = required("S3_BUCKET", settings.bucket, "it is the bucket's name");
        let region = required("S3_REGION", settings.region, "it is eu-west-1, say, or auto for R2");
        let access_key_id = required(
            "S3_ACCESS_KEY_ID",
            settings.access_key_id,
            "use `wrangler secret put S3_ACCESS_KEY_ID`",
        );
        let secret_access_key = required(
            "S3_SECRET_ACCESS_KEY",
            settings.secret_access_key,
            "use `wrangler secret put S3_SECRET_ACCESS_KEY`",
        );
        let endpoint = settings.endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let endpoint = endpoint.parse::<Uri>().ok().and_then(|uri| Endpoint::of(&uri));
        let virtual_hosted = match settings.style.as_deref() {
            Some("path") => false,
            Some("virtual") => true,
            Some(other) => {
                problems.push(("S3_STYLE", format!("is {other:?}; it is either path or virtual")));
                false
            }
            // AWS wants to be asked so; but its certificates know no dots.
            None => endpoint.as_ref().is_some_and(Endpoint::is_aws) && is_label(&name),
        };
        let whole = utf8_percent_encode(&name, ESCAPED).to_string();
        if whole != name || name.contains('/') || name.starts_with('.') {
            problems.push(("S3_BUCKET", "is no bucket's name: letters, digits, dots and hyphens".to_owned()));
        }
        for (name, value) in [
            ("S3_REGION", Some(&region)),
            ("S3_ACCESS_KEY_ID", Some(&access_key_id)),
            ("S3_SESSION_TOKEN", settings.session_token.as_ref()),
        ] {
            // They are sent along. Of what the runtime sends otherwise than it was signed nobody would know.
            if value.is_some_and(|value| !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())) {
                problems
                    .push((name, "has a line break in it, or something else that is not ASCII".to_owned()));
            }
        }
        let is_number = endpoint.as_ref().is_some_and(|endpoint| is_address(&endpoint.host));
        // The runtime writes a host in lower case, and it is signed.
        let is_in_capitals = endpoint.is_some() && name.bytes().any(|byte| byte.is_ascii_uppercase());
        if virtual_hosted && (is_number || is_in_capitals) {
            let problem = "is virtual, and the bucket's name cannot be part of a host; it takes path";
            problems.push(("S3_STYLE", problem.to_owned()));
        }
        match endpoint {
            Some(Endpoint { scheme, host, port, path }) if problems.is_empty() => {
                let host =
                    if virtual_hosted { format!("{name}.{host}{port}") } else { format!("{host}{port}") };
                let path = if virtual_hosted { format!("{path}/") } else { format!("{path}/{name}/") };
                Ok(Self {
                    server: format!("{scheme}://{host}"),
                    host,
                    path,
                    signer: Signer::new(access_key_id, secret_access_key, settings.session_token, region),
                })
            }
            Some(_) => Err(problems),
            None => {
                problems.push(("S3_ENDPOINT", "is no URL like https://s3.example.com:9000".to_owned()));
                Err(problems)
            }
        }
    }

    /// Which bucket it is, among all that there are.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}{}", self.host, self.path)
    }

    /// Asks for an object, or for what is wanted of it, at `now` in Unix seconds.
    #[must_use]
    pub fn ask(&self, method: &str, key: &ObjectKey, wanted: &Wanted<'_>, now: u64) -> Ask {
        let path = format!("{}{}", self.path, utf8_percent_encode(key.as_str(), ESCAPED));
        let time = Time::of(now);
        let mut signed = vec![
            ("host", self.host.as_str()),
            ("x-amz-content-sha256", NO_BODY),
            ("x-amz-date", time.as_str()),
        ];
        signed.extend(self.signer.session_token().map(|token| ("x-amz-security-token", token)));
        let authorization = self.signer.authorization(method, &path, &signed, &time);
        // The runtime says by itself which host it asks.
        let mut headers: Vec<_> =
            signed.into_iter().skip(1).map(|(name, value)| (name, value.to_owned())).collect();
        headers.push(("authorization", authorization));
        // The bytes as they are stored: it is them that a range and a length are of.
        headers.push(("accept-encoding", "identity".to_owned()));
        headers.extend(wanted.range.map(|range| ("range", range.to_header())));
        headers.extend(wanted.unless.map(|tag| ("if-none-match", tag.to_owned())));
        Ask { url: format!("{}{path}", self.server), headers }
    }
}

/// Whether a name can be one part of a host's, as a certificate has them.
fn is_label(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a host is a number, as all are that end in one, or are in brackets.
fn is_address(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next();
    host.starts_with('[') || last.is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Where a bucket is, without its name.
struct Endpoint {
    scheme: String,
    host: String,
    /// Behind a colon, where it is not the scheme's own.
    port: String,
    path: String,
}

impl Endpoint {
    fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
        let host = authority.host().to_ascii_lowercase();
        let default = if scheme == "https" { 443 } else { 80 };
        // A port that is none would be taken for no port.
        if authority.port().is_none() && authority.as_str().len() > authority.host().len() {
            return None;
        }
        // The runtime writes a number in one way, whatever way it is written here.
        if is_address(&host) && !host.starts_with('[') && host.parse::<Ipv4Addr>().is_err() {
            return None;
        }
        let port = authority.port_u16().filter(|port| *port != default);
        // What the runtime would write otherwise than it was signed is no endpoint.
        let plain = |path: &str| {
            path.split('/').all(|part| !matches!(part, "." | ".."))
                && utf8_percent_encode(path, ESCAPED).to_string() == path
        };
        let path = uri.path().trim_end_matches('/');
        (uri.query().is_none() && plain(path)).then(|| Self {
            scheme: scheme.to_owned(),
            host,
            port: port.map_or_else(String::new, |port| format!(":{port}")),
            path: path.to_owned(),
        })
    }

    fn is_aws(&self) -> bool {
        self.host.ends_with(".amazonaws.com")
    }
}

/// What a bucket said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// `Content-Length`, of whatever was sent.
    pub length: Option<u64>,
    /// `Content-Range`
    pub content_range: Option<String>,
    /// All else that it says of the object; not its size.
    pub metadata: Metadata,
    /// `Code` of an error's XML, where there is one.
    pub code: Option<String>,
}

/// Why there is no object, and whether that may pass.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// It is so.
    Lasting(Miss),
    /// To ask again may help.
    Passing(Miss),
}

impl From<Trouble> for Miss {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Lasting(miss) | Trouble::Passing(miss) => miss,
        }
    }
}

/// How long to wait at the most before asking once more.
pub const BREATH: Duration = Duration::from_millis(250);

impl Answer {
    /// What it says of the object, and which part of it is there, if it is what was wanted.
    pub fn read(self, wanted: &Wanted<'_>) -> Result<(Metadata, Option<(u64, u64)>), Trouble> {
        let Self { status, length, content_range, mut metadata, code } = self;
        metadata.etag = metadata.etag.filter(|etag| is_entity_tag(etag));
        metadata.content_encoding = metadata.content_encoding.and_then(|encoding| codings(&encoding));
        let failed = |problem: String| Trouble::Lasting(Miss::Failed(problem));
        let said = || format!("it says {status} {}", code.as_deref().unwrap_or("and no more"));
        match (status, code.as_deref()) {
            (200, _) => {
                metadata.size =
                    length.ok_or_else(|| failed("it does not say how long the object is".to_owned()))?;
                Ok((metadata, None))
            }
            (206, _) => {
                let there = content_range.as_deref().and_then(content_range_of);
                let is_wanted = |&(part, size): &((u64, u64), u64)| {
                    wanted.range.and_then(|range| range.within(size)) == Some(part)
                        && length == Some(part.1 - part.0 + 1)
                };
                let (part, size) = there.filter(is_wanted).ok_or_else(|| {
                    failed(format!("it answers with another range than was asked for: {content_range:?}"))
                })?;
                metadata.size = size;
                Ok((metadata, Some(part)))
            }
            (304, _) if wanted.unless.is_some() => {
                metadata.etag = metadata.etag.or_else(|| wanted.unless.map(ToOwned::to_owned));
                Err(Trouble::Lasting(Miss::Unchanged(metadata.into())))
            }
            (404, None | Some("NoSuchKey")) => Err(Trouble::Lasting(Miss::NotFound)),
            (403, Some("AccessDenied")) => Err(Trouble::Lasting(Miss::Hidden)),
            (300..400, _) => Err(failed(format!("{}: check S3_REGION, S3_ENDPOINT and S3_STYLE", said()))),
            (429 | 500.., _) => Err(Trouble::Passing(Miss::Failed(said()))),
            _ => Err(failed(said())),
        }
    }
}

/// Whether a store's word is an entity tag, as all are in quotes. What is none is not handed on.
fn is_entity_tag(word: &str) -> bool {
    let quoted = word.strip_prefix("W/").unwrap_or(word);
    quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).is_some_and(|tag| !tag.contains('"'))
}

/// How an object is encoded, without what says how it once came to its store.
fn codings(stored: &str) -> Option<String> {
    let passing =
        |coding: &&str| ["", "aws-chunked", "identity"].iter().all(|no| !coding.eq_ignore_ascii_case(no));
    let codings: Vec<_> = stored.split(',').map(str::trim).filter(passing).collect();
    (!codings.is_empty()).then(|| codings.join(", "))
}

/// Reads `bytes first-last/size`.
fn content_range_of(header: &str) -> Option<((u64, u64), u64)> {
    let (part, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let (first, last, size) = (first.parse().ok()?, last.parse().ok()?, size.parse().ok()?);
    (first <= last && last < size).then_some(((first, last), size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::ByteRange;

    fn settings(endpoint: &str, bucket: &str, style: &str) -> Settings {
        let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Settings {
            endpoint: set(endpoint),
            bucket: set(bucket),
            region: set("eu-west-1"),
            style: set(style),
            access_key_id: set("AKIDEXAMPLE"),
            secret_access_key: set("secret"),
            session_token: None,
        }
    }

    fn url(endpoint: &str, bucket: &str, style: &str, path: &str) -> String {
        let bucket = Bucket::read(settings(endpoint, bucket, style)).unwrap();
        let Ask { url, headers } = bucket.ask("GET", &ObjectKey::parse(path).unwrap(), &Wanted::default(), 0);
        assert!(headers.iter().all(|(name, _)| *name != "host"), "{headers:?}");
        url
    }

    #[test]
    fn an_object_has_one_url_in_its_bucket() {
        for (endpoint, bucket, style, path, expected) in [
            ("", "media", "", "/a/1.m4s", "https://media.s3.eu-west-1.amazonaws.com/a/1.m4s"),
            ("", "my.media", "", "/a", "https://s3.eu-west-1.amazonaws.com/my.media/a"),
            ("", "Media", "", "/a", "https://s3.eu-west-1.amazonaws.com/Media/a"),
            ("", "media", "path", "/a", "https://s3.eu-west-1.amazonaws.com/media/a"),
            ("https://s3.eu-west-1.AMAZONAWS.com/", "m", "", "/a", "https://m.s3.eu-west-1.amazonaws.com/a"),
            ("http://127.0.0.1:9000", "media", "", "/a", "http://127.0.0.1:9000/media/a"),
            ("http://S3.example:80/", "media", "", "/a", "http://s3.example/media/a"),
            ("https://s3.example:443", "media", "virtual", "/a", "https://media.s3.example/a"),
            ("https://s3.example/store/", "media", "", "/a", "https://s3.example/store/media/a"),
            (
                "https://s3.example",
                "m",
                "",
                "/a b/%C3%A9+%25(1)'.ts",
                "https://s3.example/m/a%20b/%C3%A9%2B%25%281%29%27.ts",
            ),
            // What looks like another host or another bucket is a key like any other.
            ("https://s3.example", "m", "", "//evil.example/a", "https://s3.example/m//evil.example/a"),
            ("https://s3.example", "m", "virtual", "///a", "https://m.s3.example///a"),
            (
                "https://s3.example",
                "m",
                "",
                "/a?b#c".replace(['?', '#'], "%3F").as_str(),
                "https://s3.example/m/a%3Fb%3Fc",
            ),
        ] {
            assert_eq!(url(endpoint, bucket, style, path), expected);
        }
    }

    #[test]
    fn no_two_buckets_are_in_one_place() {
        let mut places: Vec<_> = [
            ("", "media", ""),
            ("", "other", ""),
            ("", "media", "path"),
            ("http://127.0.0.1:9000", "media", ""),
            ("http://127.0.0.1:9001", "media", ""),
            ("http://127.0.0.1:9000/store", "media", ""),
            ("http://127.0.0.1:9000", "store", "path"),
        ]
        .map(|(endpoint, bucket, style)| Bucket::read(settings(endpoint, bucket, style)).unwrap().place())
        .into();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), 7, "{places:?}");
    }

    #[test]
    fn what_cannot_be_asked_is_said_all_at_once() {
        let problems = |settings| {
            let problems = Bucket::read(settings).unwrap_err();
            problems.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(
            problems(Settings {
                style: Some("both".to_owned()),
                endpoint: Some("s3".to_owned()),
                ..Settings::default()
            }),
            ["S3_BUCKET", "S3_REGION", "S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_STYLE", "S3_ENDPOINT"]
        );
        for endpoint in [
            "ftp://s3.example",
            "s3.example",
            "https://",
            "https://me:secret@s3.example",
            "https://s3.example?a",
            "https://s3.example/a/../b",
            "https://s3.example/a%20b",
            "https://s3.example:99999",
            "https://s3.example:",
            "http://127.1:9000",
            "http://0177.0.0.1",
        ] {
            assert_eq!(problems(settings(endpoint, "media", "")), ["S3_ENDPOINT"], "{endpoint}");
        }
        for bucket in ["a/b", "a b", "..", "a@b", "a:b", "é"] {
            assert_eq!(problems(settings("", bucket, "")), ["S3_BUCKET"], "{bucket}");
        }
        for (endpoint, bucket) in [
            ("http://127.0.0.1:9000", "media"),
            ("http://[::1]:9000", "media"),
            ("https://s3.example", "Media"),
        ] {
            assert_eq!(problems(settings(endpoint, bucket, "virtual")), ["S3_STYLE"], "{endpoint} {bucket}");
        }
        for token in ["a\nb", "\u{7f}", "é"] {
            let lent = || Some(token.to_owned());
            let (access_key_id, session_token, region) = (lent(), lent(), lent());
            let https = settings("https://s3.example", "media", "");
            let named = problems(Settings { region, access_key_id, session_token, ..https });
            for name in ["S3_REGION", "S3_ACCESS_KEY_ID", "S3_SESSION_TOKEN"] {
                assert_eq!(named.iter().filter(|named| **named == name).count(), 1, "{token:?} {named:?}");
            }
        }
    }

    #[test]
    fn what_is_wanted_is_passed_on() {
        let bucket = Bucket::read(settings("", "media", "")).unwrap();
        let wanted =
            Wanted { range: Some(ByteRange::From { first: 5, last: Some(9) }), unless: Some("\"1\"") };
        let Ask { headers, .. } = bucket.ask("GET", &ObjectKey::parse("/a").unwrap(), &wanted, 0);
        let value =
            |wanted| headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str());
        assert_eq!((value("range"), value("if-none-match")), (Some("bytes=5-9"), Some("\"1\"")));
        assert_eq!(value("accept-encoding"), Some("identity"));
    }

    #[test]
    fn of_what_a_store_says_only_what_means_something_is_handed_on() {
        let read = |etag: &str, encoding: &str| {
            let metadata = Metadata {
                etag: Some(etag.to_owned()),
                content_encoding: Some(encoding.to_owned()),
                ..Metadata::default()
            };
            let answer = Answer { status: 200, length: Some(10), metadata, ..Answer::default() };
            let (metadata, _) = answer.read(&Wanted::default()).unwrap();
            (metadata.etag, metadata.content_encoding)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(read("\"1\"", "gzip"), (some("\"1\""), some("gzip")));
        assert_eq!(read("W/\"1\"", "AWS-chunked, gzip"), (some("W/\"1\""), some("gzip")));
        for (etag, encoding) in [("1", "aws-chunked"), ("\"", "identity"), ("\"a\"b\"", ""), ("", ",")] {
            assert_eq!(read(etag, encoding), (None, None), "{etag} {encoding}");
        }
    }

    #[test]
    fn an_answer_is_what_was_asked_for_or_none() {
        let range = |header| Wanted { range: ByteRange::parse(header), unless: None };
        let answer = |status, length, content_range: &str, code: &str| Answer {
            status,
            length,
            content_range: Some(content_range.to_owned()).filter(|text| !text.is_empty()),
            code: Some(code.to_owned()).filter(|text| !text.is_empty()),
            metadata: Metadata::default(),
        };
        let part =
            |answer: Answer, wanted| answer.read(&wanted).map(|(metadata, part)| (metadata.size, part));
        assert_eq!(part(answer(200, Some(10), "", ""), range("")), Ok((10, None)));
        assert_eq!(part(answer(200, Some(10), "", ""), range("bytes=0-1")), Ok((10, None)));
        for (header, content_range, length, expected) in [
            ("bytes=0-1", "bytes 0-1/10", Some(2), (10, Some((0, 1)))),
            ("bytes=8-99", "bytes 8-9/10", Some(2), (10, Some((8, 9)))),
            ("bytes=-3", "bytes 7-9/10", Some(3), (10, Some((7, 9)))),
        ] {
            assert_eq!(part(answer(206, length, content_range, ""), range(header)), Ok(expected));
        }
        for (header, content_range, length) in [
            ("", "bytes 0-1/10", Some(2)),
            ("bytes=0-1", "", Some(2)),
            ("bytes=0-1", "bytes 1-2/10", Some(2)),
            ("bytes=0-1", "bytes 0-1/10", Some(3)),
            ("bytes=0-1", "bytes 0-1/10", None),
            ("bytes=0-1", "bytes 0-1/*", Some(2)),
            ("bytes=0-1", "bytes 1-0/10", None),
            ("bytes=0-", "bytes 0-18446744073709551615/18446744073709551615", None),
        ] {
            let trouble = part(answer(206, length, content_range, ""), range(header)).unwrap_err();
            assert!(
                matches!(trouble, Trouble::Lasting(Miss::Failed(_))),
                "{header} {content_range}: {trouble:?}"
            );
        }
        for (status, code, is_passing, is_failure) in [
            (404, "NoSuchKey", false, false),
            (404, "", false, false),
            (404, "NoSuchBucket", false, true),
            (403, "AccessDenied", false, false),
            (403, "SignatureDoesNotMatch", false, true),
            (403, "", false, true),
            (400, "InvalidToken", false, true),
            (412, "PreconditionFailed", false, true),
            (304, "", false, true),
            (301, "PermanentRedirect", false, true),
            (307, "", false, true),
            (204, "", false, true),
            (429, "", true, true),
            (500, "InternalError", true, true),
            (503, "SlowDown", true, true),
            (599, "", true, true),
        ] {
            let trouble = answer(status, Some(0), "", code).read(&Wanted::default()).unwrap_err();
            assert_eq!(matches!(trouble, Trouble::Passing(_)), is_passing, "{status} {code}");
            assert_eq!(matches!(Miss::from(trouble), Miss::Failed(_)), is_failure, "{status} {code}");
        }
        let unless = Wanted { range: None, unless: Some("\"1\"") };
        let Err(Trouble::Lasting(Miss::Unchanged(metadata))) = answer(304, None, "", "").read(&unless) else {
            panic!("it is unchanged")
        };
        assert_eq!(metadata.etag.as_deref(), Some("\"1\""));
    }
}
