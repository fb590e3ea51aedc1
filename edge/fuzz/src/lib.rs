//! What has to hold of the edge's readers, whatever they are given. Each function is the body of a fuzz target, and
//! panics where something does not hold; `edge/tests/corpus.rs` runs them too, without libFuzzer.

use std::collections::BTreeMap;
use std::io::Read;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};

use edge::crypto::{Crypto, TrustedKey};
use edge::gzip::Gzip;
use edge::link::{Host, Place};
use edge::policy::{self, Cidr, Dialect, Location, Policy, Resource};
use edge::rewrite::{Encoding, Kind, Rewriter, TooLong};
use edge::signed_url::{Hash, SignedUrl};
use edge::ticket::Tickets;
use edge::{KeyGroup, ObjectKey, Visitor};
use http::Uri;

mod reference;

const NAMES: [&str; 5] = ["Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"];

fn dialects() -> [Dialect; 2] {
    let players = vec!["CMCD*".to_owned(), "_HLS_*".to_owned()];
    let strict = Dialect { strict: true, forbids_sha1: true, suffix: "-X".to_owned(), players };
    [Dialect::default(), strict]
}

/// A URL after its host, and in a second line the cookies: what is read of it is read the same way again, and what
/// is handed on to links is harmless text that opens what it opened.
pub fn url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (target, cookies) = text.split_once('\n').unwrap_or((text, ""));
    let Ok(uri) = format!("https://v.example/{target}").parse::<Uri>() else { return };
    let _ = ObjectKey::parse(uri.path());
    for dialect in dialects() {
        let (with, without) = (read(&uri, Some(cookies), &dialect), read(&uri, None, &dialect));
        let suffixed = NAMES.map(|name| format!("{name}{}", dialect.suffix));
        let is_signing = |pair: &&str| {
            let name = decoded(pair.split('=').next().unwrap_or_default());
            NAMES.contains(&&*name) || suffixed.contains(&name)
        };
        let pairs = || uri.query().unwrap_or_default().split('&');
        let is_there =
            |name: &str| pairs().any(|pair| decoded(pair.split('=').next().unwrap_or_default()) == name);
        let [policy, expires, signature, key, _] = suffixed.each_ref().map(|name| is_there(name));
        if NAMES.iter().any(|name| is_there(name)) || (key && signature && (policy || expires)) {
            assert_eq!(with, without, "a cookie was looked at");
        }
        let joiner = if uri.query().is_some() { "&" } else { "?" };
        let more = format!("{uri}{joiner}Key-Pair-Id=K1").parse().expect("a URL with more query is a URL");
        assert!(
            with.is_err() || read(&more, Some(cookies), &dialect).is_err(),
            "a key pair too many is not noticed"
        );

        let Some(authority) = granted(&uri, Some(cookies), &dialect) else { continue };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~=&".contains(&byte);
        assert!(authority.bytes().all(plain), "{authority}");
        if !authority.is_empty() {
            let own: Vec<_> = pairs().filter(|pair| !is_signing(pair)).chain([&*authority]).collect();
            let link = format!("https://v.example{}?{}", uri.path(), own.join("&"));
            let link: Uri = link.parse().expect("a link of a playlist is a URL");
            assert_eq!(granted(&link, None, &dialect), Some(authority), "{uri} links to {link}");
        }
    }
}

/// All that there is to see of a signed URL, as text.
fn read(uri: &Uri, cookies: Option<&str>, dialect: &Dialect) -> Result<String, String> {
    match SignedUrl::parse(uri, cookies, dialect) {
        Ok(url) => Ok(format!("{url:?} {}", in_the_log(url.signer().to_string()))),
        Err(error) => {
            let signer = error.signer.map(|signer| signer.to_string()).unwrap_or_default();
            Err(in_the_log(format!("{} {signer}", error.reason)))
        }
    }
}

fn in_the_log(text: String) -> String {
    assert!(!text.contains(char::is_control), "{text:?}");
    text
}

/// The authority that is handed on, if whoever signed is believed.
fn granted(uri: &Uri, cookies: Option<&str>, dialect: &Dialect) -> Option<String> {
    static KEYS: LazyLock<KeyGroup> = LazyLock::new(|| {
        let pem = "-----BEGIN PUBLIC KEY-----\n\
            MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaMrHIma1oRoM0AprTGMCZEYrttN3\n\
            g5v2e94q25StQsWJbzKbSiBrFE/hcZidf03158FYrYTbdZU+bizA5eBBtA==\n\
            -----END PUBLIC KEY-----\n";
        let trusted = BTreeMap::from([("K1", pem)]);
        KeyGroup::parse(&serde_json::to_string(&trusted).expect("serializable")).expect("a key")
    });
    let visitor = Visitor { now: 1_000, address: "192.0.2.7".parse().ok() };
    let key = ObjectKey::parse(uri.path()).ok()?;
    let url = SignedUrl::parse(uri, cookies, dialect).ok()?;
    let mut verified = pin!(KEYS.verify(key, &url, &visitor, dialect, &Credulous));
    match verified.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(grant) => grant.ok().map(|_| url.authority()),
        Poll::Pending => unreachable!("nothing in here waits"),
    }
}

/// Believes everybody: what is around the arithmetic has to hold without it.
struct Credulous;

impl Crypto for Credulous {
    async fn verify(&self, _: &TrustedKey, _: Hash, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn decoded(text: &str) -> String {
    let bytes = reference::percent_decoded(text.as_bytes());
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A policy's text, and every shorter text in it: what is read is what a slow reader of JSON finds there, comes back
/// the same when it is written, and has one spelling where there should be one.
pub fn policy(data: &[u8]) {
    let [by_default, strictly] = dialects().map(|dialect| {
        let (found, expected) = (Policy::parse(data, &dialect), reference::policy(data, dialect.strict));
        match &found {
            Ok(policy) => {
                let Policy { resource, expires, starts, address } = policy;
                let resource = match resource {
                    Resource::Pattern(pattern) => Some(pattern.clone()),
                    Resource::Any => None,
                    Resource::Exactly(url) => panic!("{url} is for canned policies"),
                };
                let address = address.map(|cidr| cidr.to_string()).unwrap_or_default();
                assert_eq!(Some((resource, *expires, *starts, address)), expected);
                assert_eq!(Policy::parse(policy.to_json().as_bytes(), &dialect).as_ref(), Ok(policy));
            }
            Err(error) => {
                in_the_log(error.to_string());
                // One of our limits that JSON does not have.
                assert!(expected.is_none() || data.len() > 4096, "{error}");
            }
        }
        found.is_ok()
    });
    assert!(by_default || !strictly, "strictness allows more");

    assert_eq!(policy::decode(&policy::encode(data)).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else { return };
    for text in text.split(['"', ':', ',', '\n', ' ']) {
        if let Some(bytes) = policy::decode(text) {
            assert_eq!(policy::encode(&bytes), text);
        }
        if let Some(cidr) = Cidr::parse(text) {
            assert_eq!(Cidr::parse(&cidr.to_string()), Some(cidr));
        }
        for dialect in dialects() {
            if let Some(seconds) = policy::epoch(text, &dialect) {
                assert_eq!(seconds.to_string(), text);
            }
        }
    }
}

/// A pattern, and a URL in a second line: they match if a slow matcher says so.
pub fn matcher(data: &[u8]) {
    // The slow matcher is.
    const LONGEST: usize = 400;
    let Some((pattern, url)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    let Ok(uri) = url.parse::<Uri>() else { return };
    if data.len() > LONGEST {
        return;
    }
    let location = Location::new(&uri, uri.query().unwrap_or_default().to_owned());
    let found = Resource::Pattern(pattern.to_owned()).covers(&location);
    assert_eq!(found, reference::covers(pattern, &location), "{pattern} {location}");
    let exactly = Resource::Exactly(pattern.to_owned()).covers(&location);
    assert_eq!(exactly, pattern == location.to_string(), "{pattern} {location}");
    assert!(Resource::Any.covers(&location));
}

const AUTHORITY: &str = "Policy=QQ__&Signature=QQ__&Key-Pair-Id=K1";

/// Rewrites a document that comes in chunks of these sizes, over and over, and leaves in parts of `enough` bytes.
fn rewrite(
    kind: Kind,
    encoding: Encoding,
    source: &[u8],
    sizes: &[usize],
    enough: usize,
) -> Result<Vec<u8>, TooLong> {
    static OWN: LazyLock<Arc<[Host]>> = LazyLock::new(|| Host::parse(b"cdn.example").into_iter().collect());
    let uri = Uri::from_static("https://v.example/a/b/index.m3u8?q=%3Fv%3D1&host=evil.example&plus=a+b");
    let mut rewriter = Rewriter::new(kind, Place::at(&uri, &OWN, AUTHORITY), encoding);
    let (mut out, mut rest) = (Vec::new(), source);
    for size in sizes.iter().copied().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, later) = rest.split_at(size.clamp(1, rest.len()));
        let mut read = 0;
        while read < chunk.len() {
            read += rewriter.push(&chunk[read..], enough)?;
            out.extend(rewriter.take());
        }
        rest = later;
    }
    rewriter.finish()?;
    out.extend(rewriter.take());
    Ok(out)
}

/// A document, however it is cut, comes out the same, packed or not. Returns how it comes out.
fn rewritten(kind: Kind, source: &[u8]) -> Option<Vec<u8>> {
    let whole = rewrite(kind, Encoding::Identity, source, &[usize::MAX], usize::MAX);
    let packed = rewrite(kind, Encoding::Gzip, source, &[usize::MAX], usize::MAX);
    // Sizes out of the source itself, so that they are as strange as it is.
    let sizes: Vec<usize> = source.iter().rev().take(16).map(|&byte| usize::from(byte) + 1).collect();
    for sizes in [&sizes[..], &[1], &[7, 1, 64]].into_iter().filter(|sizes| !sizes.is_empty()) {
        assert_eq!(rewrite(kind, Encoding::Identity, source, sizes, 1), whole, "cut {sizes:?}");
        assert_eq!(rewrite(kind, Encoding::Gzip, source, sizes, 100), packed, "packed and cut {sizes:?}");
    }
    let whole = whole.ok()?;
    let mut unpacked = Vec::new();
    let packed = packed.expect("what is not packed is no longer");
    flate2::bufread::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("gzip");
    assert_eq!(String::from_utf8_lossy(&unpacked), String::from_utf8_lossy(&whole));
    Some(whole)
}

/// A playlist: without the authority it is what it was, it gets it once, and only to hosts that are ours by another
/// reader of URLs.
pub fn playlist(data: &[u8]) {
    let mut source = b"#EXTM3U\n".to_vec();
    source.extend_from_slice(data);
    let Some(signed) = links(Kind::Playlist, &source) else { return };
    for line in signed.split(|&byte| byte == b'\n') {
        authority_stays_with_us(line, AUTHORITY.as_bytes());
    }
    let unmarked = rewritten(Kind::Playlist, data);
    assert!(unmarked.is_none_or(|unmarked| unmarked == data) || find(data, b"#EXTM3U").is_some());
}

/// A storyboard, and JSON: without the authority they are what they were, and they get it once.
pub fn companion(data: &[u8]) {
    let mut cues = b"WEBVTT\n\n00:00.000 --> 00:01.000\n".to_vec();
    cues.extend_from_slice(data);
    let _ = links(Kind::Cues, &cues);
    if let Some(signed) = links(Kind::Json, data) {
        let before = serde_json::from_slice::<serde_json::Value>(data);
        let after = serde_json::from_slice::<serde_json::Value>(&signed);
        assert_eq!(before.is_ok(), after.is_ok(), "JSON is JSON no more");
    }
}

/// What becomes of a document that has no authority yet.
fn links(kind: Kind, source: &[u8]) -> Option<Vec<u8>> {
    if find(source, AUTHORITY.as_bytes()).is_some() {
        return None;
    }
    let signed = rewritten(kind, source)?;
    assert_eq!(
        String::from_utf8_lossy(&without(AUTHORITY.as_bytes(), &signed, source)),
        String::from_utf8_lossy(source)
    );
    let again = rewrite(kind, Encoding::Identity, &signed, &[usize::MAX], usize::MAX);
    // A line may have become too long.
    assert!(again.is_err() || again.is_ok_and(|again| again == signed), "twice is not once");
    Some(signed)
}

/// A URL after its host, as a ticket may be in it: what is read of it is read the same way again, and opens nothing, as
/// nobody here knows the secret.
pub fn ticket(data: &[u8]) {
    static TICKETS: LazyLock<Tickets> = LazyLock::new(|| {
        let secret = "one that the fuzzer does not learn of";
        Tickets::parse(secret, 0, true).expect("a secret")
    });
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(uri) = format!("https://v.example/{text}").parse::<Uri>() else { return };
    let Some(Ok(ticket)) = Tickets::in_query(&uri) else { return };
    let query = ticket.to_query();
    assert!(
        query.len() == 42 && query.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte))
    );
    let again = format!("https://v.example{}?{query}", uri.path()).parse().expect("a URL");
    assert_eq!(Tickets::in_query(&again), Some(Ok(ticket.clone())));
    in_the_log(ticket.signer().to_string());
    let Ok(key) = ObjectKey::parse(uri.path()) else { return };
    for address in [None, "192.0.2.7".parse().ok(), "2001:db8::7".parse().ok()] {
        let visitor = Visitor { now: 0, address };
        assert!(TICKETS.open(key.clone(), &ticket, &uri, &visitor).is_err(), "{uri}");
    }
}

/// What gzip is composed of: the first byte says how long the authority is, and each `\xff` stands for it.
pub fn gzip(data: &[u8]) {
    let Some((&length, data)) = data.split_first() else { return };
    let (authority, text) = data.split_at(usize::from(length).min(data.len()));
    let (mut gzip, mut plain) = (Gzip::new(authority), Vec::new());
    let parts: Vec<_> = text.split(|&byte| byte == 0xff).collect();
    for (i, part) in parts.iter().enumerate() {
        gzip.text(part);
        plain.extend_from_slice(part);
        if i + 1 < parts.len() {
            gzip.authority();
            plain.extend_from_slice(authority);
        }
    }
    gzip.finish();
    let mut unpacked = Vec::new();
    flate2::bufread::GzDecoder::new(&gzip.take()[..]).read_to_end(&mut unpacked).expect("gzip");
    assert!(unpacked == plain);
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// What `signed` is without authority, and without the `?` or `&` before it where `source` has none there.
fn without(authority: &[u8], signed: &[u8], source: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), signed);
    while let Some(at) = find(rest, authority) {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        if !source.starts_with(&out) {
            out.pop();
        }
        rest = &after[authority.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Whether a line's links that have the authority lead to us, by the rules that browsers have for URLs.
fn authority_stays_with_us(line: &[u8], authority: &[u8]) {
    let base = url::Url::parse("https://v.example/a/b/index.m3u8").expect("a URL");
    let mut from = 0;
    while let Some(at) = find(&line[from..], authority).map(|at| from + at) {
        let before = &line[..at];
        let start = if !line.trim_ascii_start().starts_with(b"#") {
            0
        } else if find(before, b"PREFETCH:").is_some_and(|tag| !before[..tag].contains(&b':')) {
            before.iter().position(|&byte| byte == b':').map_or(0, |colon| colon + 1)
        } else {
            before.iter().rposition(|&byte| byte == b'"').expect("a link in a tag is in quotes") + 1
        };
        let uri = String::from_utf8_lossy(&before[start..]);
        from = at + authority.len();
        // What a variable stands for is the player's to know.
        if uri.contains("{$") {
            continue;
        }
        // One that is no URL leads nowhere.
        let Ok(url) = base.join(&uri) else { continue };
        // With a final dot it is the same host, of the same owner.
        let host = url.host_str().map(|host| host.strip_suffix('.').unwrap_or(host));
        let ours = matches!(host, Some("v.example" | "cdn.example")) && url.port().is_none();
        assert!(ours && matches!(url.scheme(), "http" | "https"), "{uri:?} leads to {url}");
    }
}
