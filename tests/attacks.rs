//! What somebody without a ticket tries. Each attack has a name and is tried at both gates; each is refused, and
//! nothing was asked of the origin for it.
//!
//! Somebody here holds a good signature for `/assets/a/*` and wants `/assets/b/1.m4s`, or is the operator's own
//! backend gone wrong, whose signatures are good and whose policies are not.

#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::LazyLock;

use edge::policy::encode;
use http::{Method, Response};
use tempfile::TempDir;
use tests::{
    Gate, Keys, ORIGIN_ASKED, Worker, keys, now, openssl_sign as sign, recording_gates, run, trusting,
};
use transcoder::keygen::Pair;

const A: &[u8] = b"one of a";
const B: &[u8] = b"one of b";

/// The native gate and the Worker.
static GATES: LazyLock<[Box<dyn Gate>; 2]> = LazyLock::new(|| {
    let mut settings = trusting();
    let mut trusted: serde_json::Value =
        serde_json::from_str(settings["TRUSTED_KEYS"].as_str().unwrap()).unwrap();
    trusted[EC.id] = EC.public.clone().into();
    settings["TRUSTED_KEYS"] = trusted.to_string().into();
    settings["PUBLIC_PATHS"] = "/public/*".into();
    let objects = [("assets/a/1.m4s", A), ("assets/b/1.m4s", B), ("public/1.jpg", b"a poster")];
    recording_gates(&objects, &settings)
});

/// A trusted key on P-256, of openssl's making.
struct EcKey {
    id: &'static str,
    public: String,
    folder: TempDir,
}

static EC: LazyLock<EcKey> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let openssl =
        |arguments: &str| run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder.path()));
    let _ = openssl("ecparam -name prime256v1 -genkey -noout -out private.pem");
    EcKey { id: "KEC", public: openssl("ec -in private.pem -pubout"), folder }
});

/// What an attack may come back with, beside the gate that it was tried at.
fn assert_shut(name: &str, gate: &dyn Gate, response: &Response<Vec<u8>>, statuses: &[u16]) {
    let gate = gate.url();
    let status = response.status().as_u16();
    assert!(statuses.contains(&status), "{name} at {gate}: {status}, not {statuses:?}");
    assert_eq!(response.headers()[ORIGIN_ASKED], "", "{name} at {gate}: the origin was asked");
    assert_eq!(response.headers()["cache-control"], "no-store", "{name} at {gate}");
    assert_eq!(response.headers()["access-control-allow-origin"], "*", "{name} at {gate}");
    if status == 403 {
        assert!(response.body().starts_with(b"<?xml version=\"1.0\""), "{name} at {gate}");
    }
}

/// The query that opens `/assets/a/*` of this gate.
fn ticket(gate: &dyn Gate) -> String {
    gate.open("/assets/a/*")
}

/// The parts of a ticket: `Policy=…`, `Signature=…`, `Key-Pair-Id=…`.
fn parts(ticket: &str) -> [&str; 3] {
    ticket.split('&').collect::<Vec<_>>().try_into().unwrap()
}

/// A policy that opens everything for ten minutes.
fn everything() -> String {
    let expires = now() + 600;
    format!(
        r#"{{"Statement":[{{"Resource":"*","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
    )
}

/// A policy in base64 that needs padding.
fn padded() -> String {
    let text = everything();
    (0..3)
        .map(|blanks| encode(format!("{text}{}", " ".repeat(blanks)).as_bytes()))
        .find(|text| text.ends_with('_'))
        .unwrap()
}

#[test]
fn what_the_attacks_alter_opens_as_it_is() {
    for gate in GATES.iter() {
        for (target, body) in [
            (format!("/assets/a/1.m4s?{}", ticket(&**gate)), A),
            (format!("/assets/b/1.m4s?{}", keys().seal(&everything())), B),
            (
                format!(
                    "/assets/b/1.m4s?{}",
                    sealed_by_ec(&sign(&EC.folder.path().join("private.pem"), "-sha1", EC_POLICY))
                ),
                B,
            ),
            ("/public/1.jpg".to_owned(), b"a poster"),
        ] {
            let response = gate.get(&target);
            assert_eq!(response.body(), body, "{}{target}", gate.url());
            assert_eq!(response.headers()[ORIGIN_ASKED].to_str().unwrap().split(',').count(), 1);
        }
    }
}

/// A path, asked for with a ticket for `/assets/a/*`. Where a browser's rules for URLs make another path of it before
/// the Worker sees it, that path is refused instead, so the statuses differ: natively, then of the Worker.
macro_rules! paths {
    ($($name:ident: $path:expr => $native:literal, $worker:literal;)*) => {$(
        #[test]
        fn $name() {
            for (gate, status) in GATES.iter().zip([$native, $worker]) {
                let response = gate.get(&format!("{}?{}", $path, ticket(&**gate)));
                assert_shut($path, &**gate, &response, &[status]);
            }
        }
    )*};
}

paths! {
    path_dot_segments: "/assets/a/../b/1.m4s" => 400, 403;
    path_dot_segments_at_the_end: "/assets/a/.." => 400, 403;
    path_dot_segments_beyond_the_root: "/assets/a/../../../../assets/b/1.m4s" => 400, 403;
    path_dot_segments_after_empty_ones: "/assets/a//../../b/1.m4s" => 400, 403;
    path_one_dot: "/assets/./b/1.m4s" => 400, 403;
    path_dot_segments_encoded: "/assets/a/%2e%2e/b/1.m4s" => 400, 403;
    path_dot_segments_encoded_in_capitals: "/assets/a/%2E%2E/b/1.m4s" => 400, 403;
    path_dot_segments_encoded_in_half: "/assets/a/.%2e/b/1.m4s" => 400, 403;
    path_dot_segments_and_an_encoded_slash: "/assets/a/..%2fb/1.m4s" => 400, 400;
    path_dot_segments_and_a_backslash: r"/assets/a/..\b\1.m4s" => 400, 403;
    path_dot_segments_and_an_encoded_backslash: "/assets/a/..%5cb%5c1.m4s" => 400, 400;
    path_dot_segments_between_both_slashes: r"/assets/a\../b/1.m4s" => 400, 403;
    path_encoded_slash: "/assets/a%2f1.m4s" => 400, 400;
    path_encoded_slash_in_the_folder: "/assets/a/x%2F1.m4s" => 400, 400;
    path_backslash: r"/assets\b\1.m4s" => 400, 403;
    path_nul: "/assets/a/1.m4s%00" => 400, 400;
    path_nul_before_the_extension: "/assets/a/1%00.m4s" => 400, 400;
    path_overlong_dot: "/assets/a/%c0%ae%c0%ae/b/1.m4s" => 400, 400;
    path_overlong_slash: "/assets/a/..%c0%afb/1.m4s" => 400, 400;
    path_overlong_dot_of_three_bytes: "/assets/a/%e0%80%ae%e0%80%ae/b/1.m4s" => 400, 400;
    path_a_surrogate: "/assets/a/%ed%a0%80" => 400, 400;
    path_half_a_character: "/assets/a/%e2%82" => 400, 400;
    path_too_long: format!("/assets/a/{}", "x".repeat(1100)).as_str() => 400, 400;
    path_of_the_neighbour: "/assets/b/1.m4s" => 403, 403;
    path_with_the_folders_name_as_a_prefix: "/assets/a.bak/1.m4s" => 403, 403;
    path_of_the_folder_itself: "/assets/a" => 403, 403;
    path_in_capitals: "/ASSETS/A/1.m4s" => 403, 403;
    path_encoded_in_the_signed_part: "/assets/%61/1.m4s" => 403, 403;
    path_with_two_slashes_first: "//assets/a/1.m4s" => 403, 403;
    path_with_a_path_parameter: "/assets/b/1.m4s;/assets/a/" => 403, 403;
    path_that_ends_in_the_signed_url: "/assets/b/1.m4s/http://127.0.0.1/assets/a/" => 403, 403;
    path_out_of_the_public_folder: "/public/../assets/b/1.m4s" => 400, 403;
    path_out_of_the_public_folder_encoded: "/public/%2e%2e/assets/b/1.m4s" => 400, 403;
    path_out_of_the_public_folder_by_an_encoded_slash: "/public/..%2fassets/b/1.m4s" => 400, 400;
    path_the_public_folder_in_capitals: "/Public/1.jpg" => 403, 403;
}

/// Decoded twice this would leave the folder. Decoded once it is a strange name in it, which nobody has.
#[test]
fn path_dot_segments_encoded_twice() {
    for gate in GATES.iter() {
        for (path, key) in [
            ("/assets/a/%252e%252e/b/1.m4s", "assets/a/%2e%2e/b/1.m4s"),
            ("/assets/a/..%252fb/1.m4s", "assets/a/..%2fb/1.m4s"),
            ("/assets/a/%255c..%255cb", r"assets/a/%5c..%5cb"),
        ] {
            let response = gate.get(&format!("{path}?{}", ticket(&**gate)));
            assert_eq!(response.status(), 404, "{path} at {}", gate.url());
            assert_eq!(percent_decoded(&response.headers()[ORIGIN_ASKED]), key);
        }
        let response = gate.get(&format!("/public/%252e%252e/assets/b/1.m4s?{}", ticket(&**gate)));
        assert_eq!(percent_decoded(&response.headers()[ORIGIN_ASKED]), "public/%2e%2e/assets/b/1.m4s");
    }
}

fn percent_decoded(value: &http::HeaderValue) -> String {
    percent_encoding::percent_decode(value.as_bytes()).decode_utf8().unwrap().into_owned()
}

/// A query made of a ticket for `/assets/a/*`, for an object in there.
macro_rules! queries {
    ($($name:ident: $query:expr => $code:literal;)*) => {$(
        #[test]
        fn $name() {
            for gate in GATES.iter() {
                let ticket = ticket(&**gate);
                let query: String = $query(&ticket, parts(&ticket));
                let response = gate.get(&format!("/assets/a/1.m4s?{query}"));
                assert_shut(&query, &**gate, &response, &[403]);
                let body = String::from_utf8_lossy(response.body());
                assert!(body.contains(concat!("<Code>", $code, "</Code>")), "{query} at {}: {body}", gate.url());
            }
        }
    )*};
}

queries! {
    pollution_policy_twice: |ticket, [policy, ..]: [&str; 3]| format!("{ticket}&{policy}") => "MalformedPolicy";
    pollution_another_policy_first: |ticket, _| format!("Policy={}&{ticket}", encode(everything().as_bytes())) => "MalformedPolicy";
    pollution_another_policy_last: |ticket, _| format!("{ticket}&Policy={}", encode(everything().as_bytes())) => "MalformedPolicy";
    pollution_another_policy_encoded: |ticket, _| format!("{ticket}&%50olicy={}", encode(everything().as_bytes())) => "MalformedPolicy";
    pollution_signature_twice: |ticket, [_, signature, _]: [&str; 3]| format!("{ticket}&{signature}") => "MalformedPolicy";
    pollution_key_pair_twice: |ticket, [.., key]: [&str; 3]| format!("{key}&{ticket}") => "MalformedPolicy";
    pollution_key_pair_empty_beside: |ticket, _| format!("Key-Pair-Id=&{ticket}") => "MalformedPolicy";
    pollution_key_pair_encoded: |ticket, _| format!("{ticket}&Key%2DPair%2dId=K1") => "MalformedPolicy";
    pollution_hash_twice: |ticket, _| format!("{ticket}&Hash-Algorithm=SHA1&Hash-Algorithm=SHA256") => "MalformedPolicy";
    pollution_without_a_value: |ticket, _| format!("{ticket}&Signature") => "MalformedPolicy";
    pollution_by_semicolons: |_, parts: [&str; 3]| parts.join(";") => "MissingKey";
    pollution_by_brackets: |_, parts: [&str; 3]| parts.join("&").replace('=', "[]=") => "MissingKey";
    pollution_by_blanks: |_, parts: [&str; 3]| parts.join("&+") => "MissingKey";
    pollution_by_nul: |_, parts: [&str; 3]| parts.join("&").replace("Key-Pair-Id", "Key-Pair-Id%00") => "MissingKey";
    pollution_encoded_twice: |ticket: &str, _| ticket.replace("Policy", "%2550olicy") => "MalformedPolicy";
    pollution_the_suffix_completes_the_plain_set: |_, [policy, signature, key]: [&str; 3]|
        format!("{policy}&{signature}&{}", key.replace('=', "-PREFIX=")) => "MissingKey";
    pollution_the_suffix_twice: |ticket: &str, [.., key]: [&str; 3]|
        format!("{}&{}", ticket.replace('=', "-PREFIX="), key.replace('=', "-PREFIX=")) => "MalformedPolicy";
    pollution_the_suffix_on_the_suffix: |ticket: &str, _| ticket.replace('=', "-PREFIX-PREFIX=") => "MissingKey";
    case_of_the_parameters: |ticket: &str, _| ticket.to_lowercase() => "MissingKey";
    case_of_one_parameter: |ticket: &str, _| ticket.replace("Key-Pair-Id", "Key-Pair-ID") => "MissingKey";
    case_of_the_key_pair: |_, [policy, signature, key]: [&str; 3]|
        format!("{policy}&{signature}&Key-Pair-Id={}", key["Key-Pair-Id=".len()..].to_lowercase()) => "InvalidKey";
    case_of_the_hash: |ticket, _| format!("{ticket}&Hash-Algorithm=sha1") => "AccessDenied";
    star_as_the_key_pair: |_, [policy, signature, _]: [&str; 3]| format!("{policy}&{signature}&Key-Pair-Id=*") => "MissingKey";
    star_as_the_signature: |_, [policy, _, key]: [&str; 3]| format!("{policy}&{key}&Signature=*") => "MalformedSignature";
    star_as_the_policy: |_, [_, signature, key]: [&str; 3]| format!("{signature}&{key}&Policy=*") => "MalformedPolicy";
    star_as_the_expiry: |_, [_, signature, key]: [&str; 3]| format!("{signature}&{key}&Expires=*") => "MalformedPolicy";
    star_as_the_hash: |ticket, _| format!("{ticket}&Hash-Algorithm=*") => "AccessDenied";
    policy_in_the_alphabet_of_rfc_4648: |_, [_, signature, key]: [&str; 3]|
        format!("{signature}&{key}&Policy={}", padded().replace('_', "=")) => "MalformedPolicy";
    policy_without_its_padding: |_, [_, signature, key]: [&str; 3]|
        format!("{signature}&{key}&Policy={}", padded().trim_end_matches('_')) => "MalformedPolicy";
    policy_of_another_and_the_signature_of_this: |_, [_, signature, key]: [&str; 3]|
        format!("Policy={}&{signature}&{key}", encode(everything().as_bytes())) => "AccessDenied";
    signature_of_nothing: |_, [policy, _, key]: [&str; 3]| format!("{policy}&Signature=&{key}") => "MalformedSignature";
    signature_in_another_spelling: |ticket: &str, _| ticket.replace("&Key", "_&Key") => "MalformedSignature";
    expiry_beside_the_signature_of_a_policy: |_, [_, signature, key]: [&str; 3]|
        format!("Expires={}&{signature}&{key}", now() + 600) => "AccessDenied";
}

/// Bytes in place of an RSA signature over a policy that would open everything.
macro_rules! rsa_signatures {
    ($($name:ident: $forge:expr;)*) => {$(
        #[test]
        fn $name() {
            let policy = everything();
            let good = sign(&keys().private, "-sha1", &policy);
            let forged: Vec<u8> = $forge(good);
            let query =
                format!("Policy={}&Signature={}&Key-Pair-Id={}", encode(policy.as_bytes()), encode(&forged), keys().id);
            assert_query_is_shut(stringify!($name), &query);
        }
    )*};
}

/// A query that is refused by both gates, wherever it is tried.
fn assert_query_is_shut(name: &str, query: &str) {
    for gate in GATES.iter() {
        for path in ["/assets/a/1.m4s", "/assets/b/1.m4s"] {
            assert_shut(name, &**gate, &gate.get(&format!("{path}?{query}")), &[403]);
        }
    }
}

rsa_signatures! {
    signature_all_zero: |good: Vec<u8>| vec![0; good.len()];
    signature_that_is_one: |good: Vec<u8>| [vec![0; good.len() - 1], vec![1]].concat();
    signature_all_ones: |good: Vec<u8>| vec![0xff; good.len()];
    signature_with_a_zero_before: |good| [vec![0], good].concat();
    signature_with_a_zero_behind: |good| [good, vec![0]].concat();
    signature_without_its_last_byte: |good: Vec<u8>| good[..good.len() - 1].to_vec();
    signature_twice: |good: Vec<u8>| good.repeat(2);
    signature_of_100_000_bytes_less_one: |_| vec![7; 4_000];
    signature_by_an_untrusted_key_under_a_trusted_id: |_| {
        let folder = tempfile::tempdir().unwrap();
        Pair::generate().unwrap().write(folder.path()).unwrap();
        sign(&folder.path().join("private.pem"), "-sha1", &everything())
    };
    signature_by_another_trusted_key: |_| sign(&EC.folder.path().join("private.pem"), "-sha1", &everything());
    signature_by_another_hash: |_| sign(&keys().private, "-sha256", &everything());
    signature_by_md5: |_| sign(&keys().private, "-md5", &everything());
}

const EC_POLICY: &str =
    r#"{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":2147483647}}}]}"#;

fn sealed_by_ec(signature: &[u8]) -> String {
    format!("Policy={}&Signature={}&Key-Pair-Id={}", encode(EC_POLICY.as_bytes()), encode(signature), EC.id)
}

/// The order of P-256, of SEC 2, section 2.4.2.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let sign = if number[0] > 0x7f { &[0][..] } else { &[] };
        [&[2, u8::try_from(number.len() + sign.len()).unwrap()], sign, number].concat()
    };
    let body = [integer(r), integer(s)].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()], &body[..]].concat()
}

/// Bytes in place of an ECDSA signature over a policy that would open everything.
macro_rules! ec_signatures {
    ($($name:ident: $forge:expr;)*) => {$(
        #[test]
        fn $name() {
            let good = sign(&EC.folder.path().join("private.pem"), "-sha1", EC_POLICY);
            let forged: Vec<u8> = $forge(good);
            assert_query_is_shut(stringify!($name), &sealed_by_ec(&forged));
        }
    )*};
}

ec_signatures! {
    ec_signature_of_zero_and_zero: |_| der(&[0], &[0]);
    ec_signature_of_one_and_zero: |_| der(&[1], &[0]);
    ec_signature_of_zero_and_one: |_| der(&[0], &[1]);
    ec_signature_of_the_order: |_| der(&ORDER, &ORDER);
    ec_signature_beyond_the_order: |_| der(&[0xff; 32], &[0xff; 32]);
    ec_signature_of_33_bytes_a_half: |_| der(&[0x7f; 33], &[0x7f; 33]);
    ec_signature_with_more_behind: |good| [good, vec![0]].concat();
    ec_signature_without_its_last_byte: |good: Vec<u8>| good[..good.len() - 1].to_vec();
    ec_signature_not_in_der: |good: Vec<u8>| edge::crypto::halves(&good).unwrap().to_vec();
    ec_signature_with_a_length_of_two_bytes: |good: Vec<u8>| [&[0x30, 0x81], &good[1..]].concat();
    ec_signature_by_the_rsa_key: |_| sign(&keys().private, "-sha1", EC_POLICY);
    ec_signature_by_another_hash: |_| sign(&EC.folder.path().join("private.pem"), "-sha256", EC_POLICY);
}

/// A policy with the trusted key's true signature, made of one that opens everything by one replacement.
macro_rules! policies {
    ($($name:ident: $from:literal, $to:expr => $code:literal;)*) => {$(
        #[test]
        fn $name() {
            let whole = everything();
            let expires = whole.split_once("EpochTime\":").unwrap().1.split_once('}').unwrap().0;
            let to = String::from($to).replace("EXPIRES", expires);
            let policy = whole.replacen(&$from.replace("EXPIRES", expires), &to, 1);
            assert_ne!(policy, whole);
            let query = keys().seal(&policy);
            assert_query_is_shut(&policy, &query);
            for gate in GATES.iter() {
                let response = gate.get(&format!("/assets/b/1.m4s?{query}"));
                let body = String::from_utf8_lossy(response.body());
                assert!(body.contains(concat!("<Code>", $code, "</Code>")), "{policy} at {}: {body}", gate.url());
            }
        }
    )*};
}

policies! {
    policy_with_two_expiries: "EXPIRES}", r#"1},"DateLessThan":{"AWS:EpochTime":EXPIRES}"# => "MalformedPolicy";
    policy_with_two_times_in_an_expiry: ":EXPIRES", r#":1,"AWS:EpochTime":EXPIRES"# => "MalformedPolicy";
    policy_with_two_resources: r#""Resource":"*""#, r#""Resource":"https://v.example/","Resource":"*""# => "MalformedPolicy";
    policy_with_two_resources_of_which_one_is_escaped: r#""Resource":"*""#, r#""Resource":"*","\u0052esource":"*""# => "MalformedPolicy";
    policy_with_two_conditions: r#""Resource":"*""#, r#""Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}"# => "MalformedPolicy";
    policy_with_statement_twice: r#"{"Statement""#, r#"{"Statement":[],"Statement""# => "MalformedPolicy";
    policy_with_two_statements: "[{", r#"[{"Resource":"https://v.example/","Condition":{"DateLessThan":{"AWS:EpochTime":1}}},{"# => "MalformedPolicy";
    policy_with_the_same_statement_twice: "}}}]", r#"}}},{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":EXPIRES}}}]"# => "MalformedPolicy";
    policy_with_an_empty_statement_beside: "}}}]", "}}},{}]" => "MalformedPolicy";
    policy_without_a_statement: r#""Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":EXPIRES}}}]"#, r#""Statement":[]"# => "MalformedPolicy";
    policy_with_a_statement_in_a_list_in_a_list: "[{", "[[{" => "MalformedPolicy";
    policy_with_a_huge_expiry: ":EXPIRES", ":18446744073709551615" => "MalformedPolicy";
    policy_with_an_expiry_beyond_64_bits: ":EXPIRES", ":18446744073709551616" => "MalformedPolicy";
    policy_with_an_expiry_of_400_digits: ":EXPIRES", format!(":{}", "9".repeat(400)) => "MalformedPolicy";
    policy_with_an_expiry_in_milliseconds: ":EXPIRES", ":EXPIRES000" => "MalformedPolicy";
    policy_with_an_expiry_with_a_fraction: ":EXPIRES", ":EXPIRES.5" => "MalformedPolicy";
    policy_with_an_expiry_with_no_fraction: ":EXPIRES", ":EXPIRES.0" => "MalformedPolicy";
    policy_with_an_expiry_with_an_exponent: ":EXPIRES", ":2e9" => "MalformedPolicy";
    policy_with_an_expiry_beyond_floats: ":EXPIRES", ":1e999" => "MalformedPolicy";
    policy_with_a_negative_expiry: ":EXPIRES", ":-1" => "MalformedPolicy";
    policy_with_an_expiry_of_minus_zero: ":EXPIRES", ":-0" => "MalformedPolicy";
    policy_with_an_expiry_of_zero: ":EXPIRES", ":0" => "AccessDenied";
    policy_with_an_expiry_in_quotes: ":EXPIRES", r#":"EXPIRES""# => "MalformedPolicy";
    policy_with_an_expiry_that_is_true: ":EXPIRES", ":true" => "MalformedPolicy";
    policy_with_an_expiry_that_is_null: ":EXPIRES", ":null" => "MalformedPolicy";
    policy_with_an_expiry_in_a_list: ":EXPIRES", ":[EXPIRES]" => "MalformedPolicy";
    policy_with_an_expiry_with_a_zero_before: ":EXPIRES", ":0EXPIRES" => "MalformedPolicy";
    policy_with_an_expiry_in_hexadecimal: ":EXPIRES", ":0x7fffffff" => "MalformedPolicy";
    policy_without_an_expiry: "DateLessThan", "DateGreaterThan" => "MalformedPolicy";
    policy_with_an_empty_expiry: r#""AWS:EpochTime":EXPIRES"#, "" => "MalformedPolicy";
    policy_that_expired: ":EXPIRES", ":1767290400" => "AccessDenied";
    policy_that_begins_later: "EXPIRES}", r#"EXPIRES},"DateGreaterThan":{"AWS:EpochTime":EXPIRES}"# => "AccessDenied";
    policy_with_a_negative_start: "EXPIRES}", r#"EXPIRES},"DateGreaterThan":{"AWS:EpochTime":-1}"# => "MalformedPolicy";
    policy_for_another_address: "EXPIRES}", r#"EXPIRES},"IpAddress":{"AWS:SourceIp":"192.0.2.7"}"# => "AccessDenied";
    policy_with_an_address_out_of_range: "EXPIRES}", r#"EXPIRES},"IpAddress":{"AWS:SourceIp":"0.0.0.0/33"}"# => "MalformedPolicy";
    policy_with_a_negative_prefix: "EXPIRES}", r#"EXPIRES},"IpAddress":{"AWS:SourceIp":"0.0.0.0/-1"}"# => "MalformedPolicy";
    policy_with_any_address_in_its_own_words: "EXPIRES}", r#"EXPIRES},"IpAddress":{"AWS:SourceIp":"*"}"# => "MalformedPolicy";
    policy_with_two_addresses: "EXPIRES}", r#"EXPIRES},"IpAddress":{"AWS:SourceIp":["0.0.0.0/0","192.0.2.7"]}"# => "MalformedPolicy";
    policy_with_an_address_in_octal: "EXPIRES}", r#"EXPIRES},"IpAddress":{"AWS:SourceIp":"0177.0.0.1"}"# => "MalformedPolicy";
    policy_with_no_address: "EXPIRES}", r#"EXPIRES},"IpAddress":{}"# => "MalformedPolicy";
    policy_with_an_address_that_is_null: "EXPIRES}", r#"EXPIRES},"IpAddress":null"# => "MalformedPolicy";
    policy_with_a_condition_that_is_unknown: "EXPIRES}", r#"EXPIRES},"NotIpAddress":{"AWS:SourceIp":"192.0.2.7"}"# => "MalformedPolicy";
    policy_with_a_condition_of_iam: "EXPIRES}", r#"EXPIRES},"StringEquals":{"aws:UserAgent":"x"}"# => "MalformedPolicy";
    policy_with_a_condition_on_another_key: "EXPIRES}", r#"EXPIRES,"AWS:CurrentTime":1}"# => "MalformedPolicy";
    policy_that_denies: r#""Resource""#, r#""Effect":"Deny","Resource""# => "MalformedPolicy";
    policy_with_a_version: r#"{"Statement""#, r#"{"Version":"2012-10-17","Statement""# => "MalformedPolicy";
    policy_in_small_letters: r#""Resource""#, r#""resource""# => "MalformedPolicy";
    policy_with_its_condition_in_small_letters: "DateLessThan", "datelessthan" => "MalformedPolicy";
    policy_with_a_list_of_resources: r#""*""#, r#"["*"]"# => "MalformedPolicy";
    policy_with_a_resource_that_is_null: r#""*""#, "null" => "MalformedPolicy";
    policy_with_a_resource_that_is_empty: r#""*""#, r#""""# => "AccessDenied";
    policy_with_deep_nesting_in_the_statement: "[{", format!("{}{{", "[".repeat(3_000)) => "MalformedPolicy";
    policy_with_deep_nesting_in_the_resource: r#""*""#, format!("{}{}", "[".repeat(1_900), "]".repeat(1_900)) => "MalformedPolicy";
    policy_with_deep_objects: r#""*""#, format!("{}1{}", r#"{"a":"#.repeat(600), "}".repeat(600)) => "MalformedPolicy";
    policy_with_arrays_for_objects: r#"{"AWS:EpochTime":EXPIRES}"#, "[EXPIRES]" => "MalformedPolicy";
    policy_with_an_array_for_the_statement: r#"[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":EXPIRES}}}]"#, r#"["*",{"DateLessThan":{"AWS:EpochTime":EXPIRES}}]"# => "MalformedPolicy";
    policy_with_an_array_for_the_document: r#"{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":EXPIRES}}}]}"#, r#"[[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":EXPIRES}}}]]"# => "MalformedPolicy";
    policy_with_more_behind: "}}}]}", "}}}]}{}" => "MalformedPolicy";
    policy_with_nul_behind: "}}}]}", "}}}]}\0" => "MalformedPolicy";
    policy_with_a_byte_order_mark: r#"{"Statement""#, "\u{feff}{\"Statement\"" => "MalformedPolicy";
    policy_with_a_comment: r#"{"Statement""#, r#"/**/{"Statement""# => "MalformedPolicy";
    policy_with_a_comma_too_many: "}}}]", "}}},]" => "MalformedPolicy";
    policy_longer_than_4096_bytes: r#"{"Statement""#, format!("{}{{\"Statement\"", " ".repeat(4_096)) => "MalformedPolicy";
    star_in_a_path_without_a_host: r#""*""#, r#""/assets/*""# => "AccessDenied";
    star_in_another_protocol: r#""*""#, r#""ftp*://*""# => "AccessDenied";
    star_in_another_host: r#""*""#, r#""http*://*.example.org/*""# => "AccessDenied";
    star_for_a_host_that_ends_otherwise: r#""*""#, r#""*example.org/*""# => "AccessDenied";
    star_for_the_domain_alone: r#""*""#, r#""*://*/""# => "AccessDenied";
    star_in_another_folder: r#""*""#, r#""*://*/assets/c/*""# => "AccessDenied";
    star_for_another_type: r#""*""#, r#""*://*/*.jpg""# => "AccessDenied";
    star_that_would_have_to_leave_the_domain: r#""*""#, r#""*://*1.m4s""# => "AccessDenied";
    star_in_a_query_that_is_not_there: r#""*""#, r#""*://*/*\\?x=*""# => "AccessDenied";
}

/// Whoever knows a key's id, which is in every URL, can send a policy of their own. What it costs to match is weighed
/// only once it is known to be signed: this one would keep a core busy for minutes.
#[test]
fn star_after_question_marks_that_take_long_to_match() {
    let pattern = format!("*://*/*{}b", "?".repeat(1_500));
    let policy = everything().replace(r#""*""#, &format!("\"{pattern}\""));
    let query = format!("Policy={}&Signature=AAAA&Key-Pair-Id={}", encode(policy.as_bytes()), keys().id);
    for gate in GATES.iter() {
        let started = std::time::Instant::now();
        let path = format!("/assets/{}", "a/".repeat(500));
        let own = "a".repeat(8_100 - gate.url().len() - path.len() - query.len());
        let response = gate.get(&format!("{path}?{own}&{query}"));
        assert_shut("a pattern", &**gate, &response, &[403]);
        assert!(started.elapsed().as_secs() < 2, "{:?} at {}", started.elapsed(), gate.url());
    }
}

/// The viewer's own query cannot complete a pattern that ends in the path.
#[test]
fn star_that_would_have_to_leave_the_path() {
    let query = keys().seal(&everything().replace(r#""*""#, r#""*://*/*.jpg""#));
    for gate in GATES.iter() {
        for own in ["x=.jpg", "/.jpg", "x/1.jpg"] {
            let response = gate.get(&format!("/assets/b/1.m4s?{own}&{query}"));
            assert_shut(own, &**gate, &response, &[403]);
        }
    }
}

/// A canned URL has no wildcards: one that was signed with a `*` in it opens the object of that name.
#[test]
fn star_in_a_canned_url() {
    for gate in GATES.iter() {
        let (url, expires) = (format!("{}/assets/a/*", gate.url()), now() + 600);
        let signature =
            encode(&sign(&keys().private, "-sha1", &edge::policy::canned(&url, expires).unwrap()));
        let query = format!("Expires={expires}&Signature={signature}&Key-Pair-Id={}", keys().id);
        assert_shut("another name", &**gate, &gate.get(&format!("/assets/a/1.m4s?{query}")), &[403]);
        let response = gate.get(&format!("/assets/a/*?{query}"));
        assert_eq!(
            (response.status().as_u16(), percent_decoded(&response.headers()[ORIGIN_ASKED]).as_str()),
            (404, "assets/a/*")
        );
    }
}

/// What CloudFront would not have taken is refused before it is looked at, and a page is told so.
#[test]
fn more_than_cloudfront_takes() {
    for gate in GATES.iter() {
        let target = |path: &str, length: usize| {
            let target = format!("{path}?{}&x=", ticket(&**gate));
            let padding = length - gate.url().len() - target.len();
            format!("{target}{}", "a".repeat(padding))
        };
        assert_eq!(gate.get(&target("/assets/a/1.m4s", 8_192)).body(), A);
        for path in ["/assets/a/1.m4s", "/assets/b/1.m4s", "/public/1.jpg", "/-/health"] {
            assert_shut(path, &**gate, &gate.get(&target(path, 8_193)), &[413]);
        }
        let long = target("/assets/a/1.m4s", 8_193);
        assert_shut("HEAD", &**gate, &gate.ask(Method::HEAD, &long, &[]), &[413]);
        assert_eq!(gate.ask(Method::OPTIONS, &long, &[]).status(), 204);

        let with_cookies = |total: usize| {
            let path = "/assets/a/1.m4s";
            let cookies = format!("{}; x=", cookies(&ticket(&**gate)));
            let padding = "a".repeat(total - gate.url().len() - path.len() - cookies.len());
            gate.ask(Method::GET, path, &[("Cookie", &format!("{cookies}{padding}"))])
        };
        assert_eq!(with_cookies(20_480).body(), A);
        assert_shut("cookies", &**gate, &with_cookies(20_481), &[413]);
    }
}

/// An import takes longer than a check, and whoever knows the key's id, which is in every URL, could ask for it.
#[test]
fn a_key_is_imported_once_even_if_that_fails() {
    let imported =
        |answer: &Response<Vec<u8>>| answer.headers()["x-keys-imported"].to_str().unwrap().to_owned();
    let folder = tempfile::tempdir().unwrap();
    let mut settings = trusting();
    let sound = Worker::recording(folder.path(), &settings);
    settings["IMPORTS_FAIL"] = "on".into();
    let failing = Worker::recording(folder.path(), &settings);
    for (gate, status) in [(&sound, 404), (&failing, 403)] {
        let ask = |condition: &str| {
            let query = keys().seal(&everything().replace("}}}]", &format!("}}{condition}}}}}]")));
            let answer = gate.get(&format!("/assets/a/1.m4s?{query}&Hash-Algorithm=SHA1"));
            assert_eq!(answer.status(), status);
            imported(&answer)
        };
        assert_eq!(ask(""), "1");
        for start in 1..4 {
            assert_eq!(ask(&format!(r#","DateGreaterThan":{{"AWS:EpochTime":{start}}}"#)), "1");
        }
    }
    assert!(failing.logs("no key can be imported"));
}

/// A ticket for `https` opens nothing by `http`, nor the other way round.
#[test]
fn another_scheme() {
    for gate in GATES.iter() {
        let (scheme, rest) = gate.url().split_once("://").unwrap();
        let other = if scheme == "http" { "https" } else { "http" };
        let query = keys().sign(&Keys::order(&format!("{other}://{rest}/assets/a/*")));
        assert_shut(other, &**gate, &gate.get(&format!("/assets/a/1.m4s?{query}")), &[403]);
    }
}

fn cookies(ticket: &str) -> String {
    parts(ticket).map(|part| format!("CloudFront-{part}")).join("; ")
}

#[test]
fn cookies_by_themselves_open_their_folder_only() {
    for gate in GATES.iter() {
        let cookies = cookies(&ticket(&**gate));
        let ask = |path| gate.ask(Method::GET, path, &[("Cookie", &cookies)]);
        assert_eq!(ask("/assets/a/1.m4s").body(), A);
        assert_shut("cookies", &**gate, &ask("/assets/b/1.m4s"), &[403]);
        assert_eq!(
            ask("/assets/b/%2e%2e/a/1.m4s").body(),
            if gate.url().starts_with("https") { &b"Bad Request"[..] } else { A }
        );
    }
}

/// One signing parameter in the query, of whatever use, and no cookie is looked at.
#[test]
fn cookies_plus_a_partial_query() {
    for gate in GATES.iter() {
        let ticket = ticket(&**gate);
        let [policy, signature, key] = parts(&ticket);
        let cookies = cookies(&ticket);
        for query in [
            policy,
            signature,
            key,
            "Hash-Algorithm=SHA1",
            "Expires=2147483647",
            "Policy",
            "Signature=",
            "Key-Pair-Id=",
            "%50olicy=x",
            &ticket
                .replacen("Policy=", "Policy-PREFIX=x", 1)
                .replace("e=", "e-PREFIX=")
                .replace("d=", "d-PREFIX="),
            "Policy-PREFIX=&Signature-PREFIX=&Key-Pair-Id-PREFIX=",
            &format!("{policy}&{signature}"),
            &format!("{policy}&{key}"),
            &format!("{signature}&{key}"),
        ] {
            let response =
                gate.ask(Method::GET, &format!("/assets/a/1.m4s?{query}"), &[("Cookie", &cookies)]);
            assert_shut(query, &**gate, &response, &[403]);
        }
    }
}

/// CloudFront knows nothing of the suffix, and goes by the cookies. Here a whole set with it would go before them; a
/// part of one is as good as none: it neither closes what cookies open, nor opens more.
#[test]
fn cookies_plus_a_part_of_a_set_with_the_suffix() {
    for gate in GATES.iter() {
        let ticket = ticket(&**gate);
        let [policy, signature, key] = parts(&ticket).map(|part| part.replacen('=', "-PREFIX=", 1));
        let cookies = cookies(&ticket);
        for query in [
            "Expires-PREFIX=1".to_owned(),
            key.clone(),
            format!("{policy}&{signature}"),
            format!("{signature}&{key}"),
        ] {
            let ask = |path, headers: &[_]| gate.ask(Method::GET, &format!("{path}?{query}"), headers);
            assert_eq!(ask("/assets/a/1.m4s", &[("Cookie", &*cookies)]).body(), A, "{query}");
            assert_shut(&query, &**gate, &ask("/assets/b/1.m4s", &[("Cookie", &cookies)]), &[403]);
            assert_shut(&query, &**gate, &ask("/assets/a/1.m4s", &[]), &[403]);
        }
        let whole = format!("/assets/a/1.m4s?{policy}&{signature}&{key}");
        assert_eq!(gate.ask(Method::GET, &whole, &[("Cookie", "CloudFront-Policy=x")]).body(), A);
    }
}

#[test]
fn cookies_that_are_altered() {
    for gate in GATES.iter() {
        let ticket = ticket(&**gate);
        let whole = cookies(&ticket);
        let [policy, signature, key] = parts(&ticket);
        for cookies in [
            whole.to_lowercase(),
            ticket.replace('&', "; "),
            whole.replace("CloudFront-", "cloudfront-"),
            whole.replace("; ", ", "),
            whole.replace("; ", "&"),
            whole.replace('=', "=\""),
            format!("{whole}; CloudFront-Policy=x"),
            format!("CloudFront-Key-Pair-Id=K1; {whole}"),
            format!("CloudFront-{policy}; CloudFront-{signature}; {key}"),
            format!("CloudFront-{policy}; CloudFront-{key}"),
        ] {
            let response = gate.ask(Method::GET, "/assets/a/1.m4s", &[("Cookie", &cookies)]);
            assert_shut(&cookies, &**gate, &response, &[403]);
        }
    }
}

/// Headers by which other servers let a client say who it is or what it asks for.
#[test]
fn headers_that_would_speak_for_another() {
    for gate in GATES.iter() {
        let policy = everything().replace("}}}]", r#"},"IpAddress":{"AWS:SourceIp":"192.0.2.7"}}}]"#);
        let target = format!("/assets/b/1.m4s?{}", keys().seal(&policy));
        let from = |address| [("CF-Connecting-IP", address)];
        assert_eq!(gate.ask(Method::GET, &target, &from("192.0.2.7")).body(), B);
        for name in [
            "X-Forwarded-For",
            "X-Real-IP",
            "True-Client-IP",
            "X-Client-IP",
            "CF-Connecting-IPv6",
            "Client-IP",
        ] {
            let headers = [("CF-Connecting-IP", "198.51.100.1"), (name, "192.0.2.7")];
            assert_shut(name, &**gate, &gate.ask(Method::GET, &target, &headers), &[403]);
        }
        let forwarded =
            [("CF-Connecting-IP", "198.51.100.1"), ("Forwarded", "for=192.0.2.7;host=v.example;proto=https")];
        assert_shut("Forwarded", &**gate, &gate.ask(Method::GET, &target, &forwarded), &[403]);

        let target = format!("/assets/b/1.m4s?{}", ticket(&**gate));
        for name in
            ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Uri", "X-Forwarded-Prefix"]
        {
            let response = gate.ask(Method::GET, &target, &[(name, "/assets/a/1.m4s")]);
            assert_shut(name, &**gate, &response, &[403]);
        }
        for (name, value) in
            [("X-Forwarded-Host", "v.example"), ("Referer", gate.url()), ("Authorization", "Bearer x")]
        {
            assert_shut(name, &**gate, &gate.ask(Method::GET, &target, &[(name, value)]), &[403]);
        }
    }
}

#[test]
fn methods_that_are_not_served() {
    for gate in GATES.iter() {
        let target = format!("/assets/a/1.m4s?{}", ticket(&**gate));
        for method in ["POST", "PUT", "DELETE", "PATCH", "PROPFIND", "PURGE"] {
            let headers = [("X-HTTP-Method-Override", "GET"), ("Content-Length", "0")];
            let response = gate.ask(method.parse().unwrap(), &target, &headers);
            assert_shut(method, &**gate, &response, &[405]);
        }
        let response = gate.ask(Method::HEAD, "/assets/b/1.m4s", &[]);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[ORIGIN_ASKED]),
            (403, &"".parse().unwrap())
        );
        let response = gate.ask(Method::OPTIONS, "/assets/b/1.m4s", &[]);
        assert_eq!(
            (response.status().as_u16(), &response.headers()[ORIGIN_ASKED]),
            (204, &"".parse().unwrap())
        );
    }
}

/// A request as it is written on the wire, for the Worker alone: natively there is no wire.
/// `TICKET` opens `/assets/a/*`, at `HOST`, which is the Worker's own.
macro_rules! wires {
    ($($name:ident: $request:expr => $statuses:expr;)*) => {$(
        #[test]
        fn $name() {
            let gate = &*GATES[1];
            let host = gate.url().strip_prefix("http://").unwrap();
            let request: &[u8] = $request;
            let request = replaced(&replaced(request, b"TICKET", ticket(gate).as_bytes()), b"HOST", host.as_bytes());
            let answer = exchange(host, &request);
            let status: u16 = answer.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default();
            let asked = answer
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-origin-asked:").map(str::to_owned));
            match asked {
                Some(keys) => {
                    let statuses: &[u16] = &$statuses;
                    assert!(keys.trim().is_empty() && statuses.contains(&status), "{answer}");
                }
                // The runtime, or what is in front of it here, has no URL for it: it never reached the Worker.
                None => assert!(matches!(status, 400 | 500 | 501), "{answer}"),
            }
            assert!(!answer.contains("one of"), "{answer}");
        }
    )*};
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let Some(at) = text.windows(from.len()).position(|window| window == from) else { return text.to_vec() };
    [&text[..at], to, &replaced(&text[at + from.len()..], from, to)].concat()
}

fn exchange(host: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // Some are hung up on; what was said until then is the answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn wire_what_the_attacks_alter_opens_as_it_is() {
    let gate = &*GATES[1];
    let host = gate.url().strip_prefix("http://").unwrap();
    let request =
        format!("GET /assets/a/1.m4s?{} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n", ticket(gate));
    let answer = exchange(host, request.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("one of a"), "{answer}");
}

wires! {
    wire_another_host: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_another_port: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n" => [403];
    wire_no_port: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n" => [403];
    wire_no_host: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nConnection: close\r\n\r\n" => [403];
    wire_an_empty_host: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n" => [403];
    wire_two_hosts: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nHost: v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_a_list_of_hosts: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: HOST, v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_a_host_with_our_name_as_user: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: HOST@v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_a_host_with_our_name_before: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: HOST.v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_a_host_with_a_path: b"GET /assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST/assets/a/x?\r\nConnection: close\r\n\r\n" => [403];
    wire_a_host_with_a_fragment: b"GET /assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST#\r\nConnection: close\r\n\r\n" => [403];
    wire_a_host_with_a_star: b"GET /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: *\r\nConnection: close\r\n\r\n" => [403];
    wire_absolute_form_of_another_host: b"GET http://v.example/assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_absolute_form_of_another_object: b"GET http://HOST/assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_absolute_form_of_ours_and_another_host: b"GET http://HOST/assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_absolute_form_by_another_scheme: b"GET ftp://HOST/assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_absolute_form_of_a_file: b"GET file:///assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_authority_form: b"GET HOST/assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_asterisk_form: b"GET * HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_a_host_in_the_path: b"GET //HOST/assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_a_user_in_the_path: b"GET @HOST/assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: v.example\r\nConnection: close\r\n\r\n" => [403];
    wire_a_fragment: b"GET /assets/b/1.m4s#/assets/a/?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_a_blank_in_the_path: b"GET /assets/b/1.m4s /assets/a/?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_a_tab_in_the_path: b"GET /assets/a/.\t./b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_nul_in_the_path: b"GET /assets/a/..\0/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_overlong_utf8_in_the_path: b"GET /assets/a/\xc0\xae\xc0\xae/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_wide_dots_in_the_path: b"GET /assets/a/\xef\xbc\x8e\xef\xbc\x8e/../../b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_bytes_in_the_query: b"GET /assets/b/1.m4s?\xff\xfe&TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [403];
    wire_a_method_in_small_letters: b"get /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [405];
    wire_a_method_that_nobody_knows: b"GETS /assets/a/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n" => [405];
    wire_a_cookie_in_two_headers_with_one_policy_each:
        b"GET /assets/a/1.m4s HTTP/1.1\r\nHost: HOST\r\nCookie: CloudFront-Policy=x\r\nCookie: CloudFront-Policy=y; CloudFront-Signature=AA__; CloudFront-Key-Pair-Id=K1\r\nConnection: close\r\n\r\n" => [403];
    wire_a_cookie_with_bytes: b"GET /assets/a/1.m4s HTTP/1.1\r\nHost: HOST\r\nCookie: CloudFront-Policy=\xff\xfe\r\nConnection: close\r\n\r\n" => [403];
    wire_a_range_that_overflows: b"GET /assets/b/1.m4s?TICKET HTTP/1.1\r\nHost: HOST\r\nRange: bytes=18446744073709551615-18446744073709551616\r\nConnection: close\r\n\r\n" => [403];
    wire_a_query_too_long: &[&b"GET /assets/b/1.m4s?"[..], &b"a=b&".repeat(3_000), b"TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"].concat() => [413];
    wire_a_long_query: &[&b"GET /assets/b/1.m4s?"[..], &b"a=b&".repeat(1_900), b"TICKET HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n"].concat() => [403];
}
