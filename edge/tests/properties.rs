//! What holds for all inputs, tried on some hundreds of each kind.

#![allow(missing_docs)]

use std::net::IpAddr;

use edge::crypto::{TrustedKey, halves};
use edge::policy::{Cidr, Location, Resource, canned, decode, encode};
use http::Uri;
use proptest::collection::vec;
use proptest::prelude::*;
use regex::Regex;

/// The resources of custom policies, as the pages on them describe them: what they say of wildcards, as expressions.
/// `None` for one that covers nothing.
fn expressions(resource: &str) -> Vec<Regex> {
    if resource == "*" {
        return vec![Regex::new("(?s)^.*$").unwrap()];
    }
    let Some((protocol, rest)) = resource.split_once("://") else { return Vec::new() };
    let (domain, target) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None if rest.ends_with('*') => (rest, "/*"),
        None => (rest, "/"),
    };
    let section = |text: &str, any: &str| {
        let parts = text.chars().map(|character| match character {
            '*' => format!("{any}*"),
            '?' => any.to_owned(),
            other => regex::escape(&other.to_string()),
        });
        parts.collect::<String>()
    };
    let before = format!("(?i:{}://{})", section(protocol, "[^:/?]"), section(domain, "[^/?]"));
    let delimited = |at: usize, length: usize| {
        let (path, query) = (&target[..at], &target[at + length..]);
        // An empty query is as good as none.
        let query = section(query, ".");
        format!(r"^{before}{}(\?{query}|\#{query})$", section(path, "[^?#]"))
    };
    let expressions: Vec<String> = if let Some(at) = target.find("\\?") {
        vec![delimited(at, 2)]
    } else {
        let path = section(target, "[^?#]");
        let any_query = if target.ends_with('*') { r"(\?.*|\#)" } else { r"\#" };
        let whole = format!("^{before}{path}{any_query}$");
        target.match_indices('?').map(|(at, _)| delimited(at, 1)).chain([whole]).collect()
    };
    expressions.iter().map(|text| Regex::new(&format!("(?s){text}")).unwrap()).collect()
}

/// The URL as the expressions have it: the absence of a query is a `#`, which no URL that is asked for has.
fn spelt(url: &Location<'_>) -> String {
    let Location { scheme, host, path, query } = url;
    if query.is_empty() {
        format!("{scheme}://{host}{path}#")
    } else {
        format!("{scheme}://{host}{path}?{query}")
    }
}

/// Few letters, so that something matches.
fn resources() -> impl Strategy<Value = String> {
    prop_oneof![
        "(https?|http\\*|\\*|h?ttps)://[ab*?.]{0,5}(/[ab/*?.]{0,8}(\\\\?\\?[ab=*?]{0,5})?)?",
        "(https|\\*)://a\\.b/[ab*?/]{0,10}",
        Just("*".to_owned()),
    ]
}

fn urls() -> impl Strategy<Value = String> {
    "https?://(a\\.b|[ab.]{1,4}|A\\.B)/[ab/.]{0,8}(\\?[ab=?]{1,5})?"
}

/// A URL that a resource was made of, so that half of all pairs match.
fn related() -> impl Strategy<Value = (String, String)> {
    (urls(), vec((any::<prop::sample::Index>(), 0..4_usize, any::<bool>()), 0..4)).prop_map(|(url, holes)| {
        let mut resource = url.clone();
        for (at, length, star) in holes {
            let at = at.index(resource.len());
            let end = (at + length).min(resource.len());
            let hole = if star { "*".to_owned() } else { "?".repeat(end - at) };
            resource.replace_range(at..end, &hole);
        }
        (resource, url)
    })
}

fn agrees(resource: &str, url: &str) -> Result<(), TestCaseError> {
    let uri: Uri = url.parse().unwrap();
    let location = Location::new(&uri, uri.query().unwrap_or_default().to_owned());
    let expected = expressions(resource).iter().any(|expression| expression.is_match(&spelt(&location)));
    prop_assert_eq!(
        Resource::Pattern(resource.to_owned()).covers(&location),
        expected,
        "{} {}",
        resource,
        url
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_resource_covers_what_its_expression_matches(resource in resources(), url in urls()) {
        agrees(&resource, &url)?;
    }

    #[test]
    fn a_resource_covers_what_it_was_made_of((resource, url) in related()) {
        // What has its wildcard before `://` reads as having no protocol of its own; that is told elsewhere.
        prop_assume!(resource.split_once("://").is_some_and(|(protocol, _)| !protocol.contains(['/', '.'])));
        agrees(&resource, &url)?;
    }

    #[test]
    fn a_canned_url_covers_itself_and_no_other(one in urls(), other in urls()) {
        let uri: Uri = other.parse().unwrap();
        let location = Location::new(&uri, uri.query().unwrap_or_default().to_owned());
        let covered = Resource::Exactly(one.clone()).covers(&location);
        prop_assert_eq!(covered, one == other);
    }

    /// A URL cannot break out of the text that is signed around it.
    #[test]
    fn a_canned_policy_is_json_that_says_so(url in "\\PC{0,40}", expires in 1_u64..5_000_000_000) {
        let Some(text) = canned(&url, expires) else {
            prop_assert!(url.contains(['"', '\\']) || url.contains(char::is_control));
            return Ok(());
        };
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(document, serde_json::json!({
            "Statement": [{ "Resource": url, "Condition": { "DateLessThan": { "AWS:EpochTime": expires } } }]
        }));
    }

    #[test]
    fn what_is_encoded_decodes(bytes in vec(any::<u8>(), 0..200)) {
        let text = encode(&bytes);
        prop_assert_eq!(decode(&text), Some(bytes));
        prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte)));
        prop_assert_eq!(text.len() % 4, 0);
    }

    /// Two spellings of one signature would be two tokens.
    #[test]
    fn every_other_spelling_is_refused(bytes in vec(any::<u8>(), 1..60), at in any::<prop::sample::Index>(), by in any::<char>()) {
        let text = encode(&bytes);
        let mut altered: Vec<char> = text.chars().collect();
        let at = at.index(altered.len());
        altered[at] = by;
        let altered: String = altered.into_iter().collect();
        prop_assert!(altered == text || decode(&altered).as_ref() != Some(&bytes));
        for altered in [format!("{text}_"), format!("{text}____"), format!(" {text}"), format!("{text}\n"), text.replace('_', "="), text.replace('~', "/"), text.replace('-', "+"), text.trim_end_matches('_').to_owned()] {
            prop_assert!(altered == text || decode(&altered).is_none(), "{}", altered);
        }
    }

    #[test]
    fn what_decodes_is_the_one_spelling(text in "[A-D_~-]{0,9}") {
        if let Some(bytes) = decode(&text) {
            prop_assert_eq!(encode(&bytes), text);
        }
    }

    /// By the digits of the addresses, as one would on paper.
    #[test]
    fn a_range_admits_whose_first_bits_are_its_own(network in addresses(), other in addresses(), prefix in 0..=128_u32, near in any::<bool>(), flip in 0..128_u32) {
        let widest = if network.is_ipv4() { 32 } else { 128 };
        let prefix = prefix % (widest + 1);
        let address = if near { flipped(network, flip % widest) } else { other };
        let cidr = Cidr::parse(&format!("{network}/{prefix}")).unwrap();
        let (ours, theirs) = (digits(network), digits(address.to_canonical()));
        let expected = ours.len() == theirs.len() && ours[..prefix as usize] == theirs[..prefix as usize];
        prop_assert_eq!(cidr.admits(Some(address)), expected, "{} {}", cidr, address);
        prop_assert!(!cidr.admits(None));
    }

    #[test]
    fn halves_are_those_of_the_one_der(r in vec(any::<u8>(), 0..=32), s in vec(any::<u8>(), 0..=32)) {
        let found = halves(&der(&r, &s)).unwrap();
        let expected = [vec![0; 32 - r.len()], r, vec![0; 32 - s.len()], s].concat();
        prop_assert_eq!(&found[..], &expected[..]);
    }

    #[test]
    fn what_is_not_der_has_no_halves(r in vec(any::<u8>(), 1..=32), s in vec(any::<u8>(), 1..=32), at in any::<prop::sample::Index>(), by in any::<u8>(), more in vec(any::<u8>(), 0..3)) {
        let mut bytes = der(&r, &s);
        let at = at.index(bytes.len());
        bytes[at] = by;
        bytes.extend(more);
        if let Some(halves) = halves(&bytes) {
            // It can have become another signature, but then it is that one's only spelling.
            prop_assert_eq!(der(&halves[..32], &halves[32..]), bytes);
        }
    }

    #[test]
    fn any_bytes_have_halves_or_have_not(bytes in vec(any::<u8>(), 0..100)) {
        if let Some(halves) = halves(&bytes) {
            prop_assert_eq!(der(&halves[..32], &halves[32..]), bytes);
        }
    }
}

proptest! {
    // Making a point takes a millisecond without optimisation.
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_point_is_on_the_curve_if_p256_says_so(private in vec(any::<u8>(), 32), flip in 0..512_usize, flips in any::<bool>()) {
        let Ok(private) = p256::ecdsa::SigningKey::from_slice(&private) else { return Ok(()) };
        let mut point = private.verifying_key().to_sec1_point(false).as_bytes().to_vec();
        if flips {
            point[1 + flip / 8] ^= 1 << (flip % 8);
        }
        let expected = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point).is_ok();
        prop_assert_eq!(TrustedKey::parse("K1", &p256_pem(&point)).is_ok(), expected, "{:x?}", point);
    }
}

/// A `SubjectPublicKeyInfo` (RFC 5480) with a point on P-256, wherever it is.
fn p256_pem(point: &[u8]) -> String {
    use base64::Engine;
    let algorithm = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
    let spki = [&b"\x30\x59"[..], algorithm, b"\x03\x42\x00", point].concat();
    let base64 = base64::engine::general_purpose::STANDARD.encode(spki);
    let (first, second) = base64.split_at(64);
    format!("-----BEGIN PUBLIC KEY-----\n{first}\n{second}\n-----END PUBLIC KEY-----\n")
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        // An IPv4 network in IPv6's clothes is an IPv6 one, and nobody comes from there.
        any::<u128>()
            .prop_map(|bits| IpAddr::V6(bits.into()))
            .prop_filter("not mapped", |ip| ip.to_canonical().is_ipv6()),
    ]
}

fn flipped(address: IpAddr, bit: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() ^ (1 << bit)).into()),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() ^ (1 << bit)).into()),
    }
}

fn digits(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:032b}", address.to_bits()),
        IpAddr::V6(address) => format!("{:0128b}", address.to_bits()),
    }
}

/// The one strict DER of two numbers (X.690, sections 8.3 and 10.1), both shorter than 128 bytes together.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        let number = &number[zeros..];
        let sign: &[u8] = if number.first().is_none_or(|&first| first > 0x7f) { &[0] } else { &[] };
        [&[2, u8::try_from(sign.len() + number.len()).unwrap()], sign, number].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}
