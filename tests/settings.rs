//! What an operator can set, and what that does, at both gates.

#![allow(missing_docs)]

use std::sync::LazyLock;

use edge::policy::{canned, encode};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tests::{Gate, Keys, Native, gates, gates_with, keys, now, openssl_sign, remarks, trusting};

type Gates = [Box<dyn Gate>; 2];

const PLAYLIST: &str = "#EXTM3U\n1.m4s\nhttps://cdn.example/1.m4s\nhttps://cdn.example:8443/1.m4s\nhttps://other.example/1.m4s\n";
const OBJECTS: [(&str, &[u8]); 4] = [
    ("assets/a/1.m4s", b"one"),
    ("assets/a/index.m3u8", PLAYLIST.as_bytes()),
    ("assets/a/poster.jpg", b"a poster"),
    ("assets/a/public.m3u8", PLAYLIST.as_bytes()),
];
const TOKEN: &str = "an operator's secret";

/// Nothing set that need not be.
static PLAIN: LazyLock<Gates> = LazyLock::new(|| gates(&OBJECTS));

static STRICT: LazyLock<Gates> =
    LazyLock::new(|| with(&json!({ "STRICT_AWS": "on", "FORBID_SHA1": "on", "PLAYER_PARAMS": "on" })));

static LISTED: LazyLock<Gates> = LazyLock::new(|| {
    with(&json!({
        "STRICT_AWS": "off",
        "FORBID_SHA1": "false",
        "PARAM_SUFFIX": "-copy",
        "PLAYER_PARAMS": "session, _p*",
        "PUBLIC_PATHS": "/assets/*/poster.jpg, /assets/*/public.m3u8",
        "OWN_HOSTS": "cdn.example, CDN.example:8443",
        "CORS_ORIGINS": "HTTPS://School.example:443, http://localhost:3000",
        "EXPLAIN_TOKEN": TOKEN,
    }))
});

fn with(settings: &Value) -> Gates {
    let mut all = trusting();
    all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    gates_with(&OBJECTS, &all)
}

fn status(gate: &dyn Gate, target: &str) -> u16 {
    gate.get(target).status().as_u16()
}

fn header<'a>(response: &'a Response<Vec<u8>>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// A policy that opens everything until `expires`, with another condition.
fn policy(expires: u64, condition: &str) -> String {
    format!(
        r#"{{"Statement":[{{"Resource":"*","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}{condition}}}}}]}}"#
    )
}

fn by_sha256(policy: &str) -> String {
    let signature = encode(&openssl_sign(&keys().private, "-sha256", policy));
    format!(
        "Policy={}&Signature={signature}&Key-Pair-Id={}&Hash-Algorithm=SHA256",
        encode(policy.as_bytes()),
        keys().id
    )
}

/// The query of a canned policy for a path and query, and by which hash.
fn canned_query(gate: &dyn Gate, target: &str, expires: u64, (digest, hash): (&str, &str)) -> String {
    let text = canned(&format!("{}{target}", gate.url()), expires).unwrap();
    let signature = encode(&openssl_sign(&keys().private, digest, &text));
    format!("Expires={expires}&Signature={signature}&Key-Pair-Id={}{hash}", keys().id)
}

const SHA1: (&str, &str) = ("-sha1", "");
const SHA256: (&str, &str) = ("-sha256", "&Hash-Algorithm=SHA256");

#[test]
fn strict_aws_knows_only_what_cloudfront_knows() {
    let soon = now() + 600;
    let address = |cidr| format!(r#","IpAddress":{{"AWS:SourceIp":"{cidr}"}}"#);
    for (text, from, by_default, strictly) in [
        (policy(soon, ""), "192.0.2.7", 200, 200),
        (policy(2_147_483_647, ""), "192.0.2.7", 200, 200),
        (policy(2_147_483_648, ""), "192.0.2.7", 200, 403),
        (policy(soon, r#","DateGreaterThan":{"AWS:EpochTime":1}"#), "192.0.2.7", 200, 200),
        (policy(soon, &address("192.0.2.0/24")), "192.0.2.7", 200, 200),
        (policy(soon, &address("0.0.0.0/0")), "192.0.2.7", 200, 200),
        (policy(soon, &address("0.0.0.0/0")), "2001:db8::1", 200, 403),
        (policy(soon, &address("2001:db8::/32")), "2001:db8::1", 200, 403),
        (policy(soon, &address("::/0")), "2001:db8::1", 200, 403),
    ] {
        let target = format!("/assets/a/1.m4s?{}", by_sha256(&text));
        for (gates, expected) in [(&PLAIN, by_default), (&STRICT, strictly)] {
            for gate in gates.iter() {
                let response = gate.ask(Method::GET, &target, &[("CF-Connecting-IP", from)]);
                assert_eq!(response.status().as_u16(), expected, "{text} from {from} at {}", gate.url());
            }
        }
    }
    for gate in PLAIN.iter().chain(STRICT.iter()) {
        let last = canned_query(&**gate, "/assets/a/1.m4s", 2_147_483_647, SHA256);
        assert_eq!(status(&**gate, &format!("/assets/a/1.m4s?{last}")), 200);
    }
    for (gates, expected) in [(&PLAIN, 200), (&STRICT, 403)] {
        for gate in gates.iter() {
            let beyond = canned_query(&**gate, "/assets/a/1.m4s", 2_147_483_648, SHA256);
            assert_eq!(status(&**gate, &format!("/assets/a/1.m4s?{beyond}")), expected);
        }
    }
}

#[test]
fn forbid_sha1_leaves_sha256() {
    let expires = now() + 600;
    for (gates, by_sha1) in [(&PLAIN, 200), (&STRICT, 403)] {
        for gate in gates.iter() {
            let ask = |query: &str| status(&**gate, &format!("/assets/a/1.m4s?{query}"));
            assert_eq!(ask(&by_sha256(&policy(expires, ""))), 200);
            assert_eq!(ask(&canned_query(&**gate, "/assets/a/1.m4s", expires, SHA256)), 200);
            assert_eq!(ask(&keys().seal(&policy(expires, ""))), by_sha1);
            assert_eq!(ask(&format!("{}&Hash-Algorithm=SHA1", keys().seal(&policy(expires, "")))), by_sha1);
            assert_eq!(ask(&canned_query(&**gate, "/assets/a/1.m4s", expires, SHA1)), by_sha1);
        }
    }
    for gate in STRICT.iter() {
        let answer = gate.get(&format!("/assets/a/1.m4s?{}", keys().seal(&policy(expires, ""))));
        assert!(gate.log(&answer, "FORBID_SHA1").contains("FORBID_SHA1"));
    }
}

#[test]
fn the_second_set_of_parameters_ends_as_param_suffix_says() {
    for (gates, suffix, other) in [(&PLAIN, "-PREFIX", "-copy"), (&LISTED, "-copy", "-PREFIX")] {
        for gate in gates.iter() {
            let plain = gate.open("/assets/a/*");
            let suffixed = |suffix: &str| {
                plain
                    .replace("Policy=", &format!("Policy{suffix}="))
                    .replace("Signature=", &format!("Signature{suffix}="))
                    .replace("Key-Pair-Id=", &format!("Key-Pair-Id{suffix}="))
            };
            let ask = |query: &str| gate.get(&format!("/assets/a/index.m3u8?{query}"));
            assert_eq!(ask(&suffixed(other)).status(), StatusCode::FORBIDDEN);
            for query in [
                suffixed(suffix),
                format!("{plain}&{}", suffixed(suffix)),
                format!("{}&{plain}", suffixed(suffix)),
            ] {
                let text = String::from_utf8(ask(&query).into_body()).unwrap();
                assert_eq!(text.lines().nth(1), Some(&*format!("1.m4s?{plain}")), "{}", gate.url());
            }
        }
    }
}

#[test]
fn what_players_add_to_a_canned_url_is_tolerated_if_player_params_says_so() {
    let opens = |gate: &dyn Gate, added: &str, hash| {
        let query = canned_query(gate, "/assets/a/1.m4s?v=2", now() + 600, hash);
        status(gate, &format!("/assets/a/1.m4s?v=2{added}&{query}")) == 200
    };
    for (gates, hash, tolerated, refused) in [
        (&PLAIN, SHA1, &[""][..], &["&CMCD=bs", "&_HLS_msn=3", "&session=x", "&x"][..]),
        (
            &STRICT,
            SHA256,
            &["", "&CMCD=bs%2Cbr%3D100", "&_HLS_msn=3&_HLS_part=0", "&CMCD-Object=x", "&%43MCD=bs"],
            &["&session=x", "&cmcd=bs", "&xCMCD=bs", "&v=3"],
        ),
        (&LISTED, SHA1, &["", "&session=x", "&_p=1&_player=2"], &["&CMCD=bs", "&_HLS_msn=3", "&sessions=x"]),
    ] {
        for gate in gates.iter() {
            for added in tolerated {
                assert!(opens(&**gate, added, hash), "{added} at {}", gate.url());
            }
            for added in refused {
                assert!(!opens(&**gate, added, hash), "{added} at {}", gate.url());
            }
        }
    }
}

/// CloudFront's reading comes first: what was signed with a parameter that players add too, opens with it.
#[test]
fn what_was_signed_with_a_players_parameter_opens_as_it_was_signed() {
    for (gates, hash, expected) in
        [(&PLAIN, SHA1, [200, 403, 403, 403]), (&STRICT, SHA256, [200, 200, 403, 403])]
    {
        for gate in gates.iter() {
            let ask = |signed: &str, asked: &str| {
                let query = canned_query(&**gate, &format!("/assets/a/1.m4s?{signed}"), now() + 600, hash);
                gate.get(&format!("/assets/a/1.m4s?{asked}&{query}"))
            };
            let as_signed = ask("v=2&CMCD=bs", "v=2&CMCD=bs");
            let found = [
                &as_signed,
                &ask("v=2", "v=2&CMCD=bs"),
                // All that players add was signed, or nothing of it.
                &ask("v=2&CMCD=bs", "v=2&CMCD=bs&_HLS_msn=3"),
                &ask("v=2&CMCD=bs", "v=2"),
            ];
            assert_eq!(found.map(|answer| answer.status().as_u16()), expected, "{}", gate.url());
            if gate.url().starts_with("https") {
                assert_eq!(gate.log(&as_signed, ""), "");
            }
        }
    }
}

#[test]
fn what_was_tolerated_is_named_in_the_log_and_no_more() {
    for gate in LISTED.iter() {
        let query = canned_query(&**gate, "/assets/a/1.m4s?v=2", now() + 600, SHA1);
        let answer = gate.get(&format!("/assets/a/1.m4s?v=2&session=of-somebody&_p1&{query}"));
        assert_eq!(answer.status(), StatusCode::OK);
        let log = gate.log(&answer, "CloudFront would refuse it for session, _p1");
        let signer = format!(r#""key":"{}""#, keys().id);
        for part in [&*signer, "CloudFront would refuse it for session, _p1"] {
            assert!(log.contains(part), "{part}: {log}");
        }
        assert!(!log.contains("of-somebody") && !log.contains(&query), "{log}");
    }
}

#[test]
fn public_paths_need_no_signature() {
    for gate in LISTED.iter() {
        let ask = |target: &str| (status(&**gate, target), gate.get(target).into_body());
        let poster = (200, b"a poster".to_vec());
        assert_eq!(ask("/assets/a/poster.jpg"), poster);
        assert_eq!(ask("/assets/a/p%6Fster.jpg"), poster);
        // A signature that is no good makes it no worse, and so a page can hand the same query to all of its URLs.
        assert_eq!(ask("/assets/a/poster.jpg?Expires=1&Signature=x"), poster);
        assert_eq!(ask(&format!("/assets/a/poster.jpg?{}", keys().seal(&policy(1, "")))), poster);
        assert_eq!(ask(&format!("/assets/a/poster.jpg?{}", gate.open("/assets/a/*"))), poster);
        assert_eq!(ask("/assets/b/poster.jpg").0, 404);
        for path in [
            "/assets/a/1.m4s",
            "/assets/a/poster.jpg/",
            "/assets/a/poster.jpgs",
            "/assets/poster.jpg",
            "/poster.jpg",
            "/Assets/a/poster.jpg",
        ] {
            assert_eq!(ask(path).0, 403, "{path} at {}", gate.url());
        }
        let playlist = gate.get("/assets/a/public.m3u8");
        assert_eq!(playlist.body(), PLAYLIST.as_bytes());
        assert_eq!(gate.ask(Method::HEAD, "/assets/a/poster.jpg", &[]).status(), StatusCode::OK);
    }
    for gate in PLAIN.iter() {
        assert_eq!(status(&**gate, "/assets/a/poster.jpg"), 403);
    }
}

/// The keys are openssl's, altered; the runtime's WebCrypto would import none of them.
#[test]
fn what_can_never_work_is_named_at_start() {
    let vectors: Value = serde_json::from_str(include_str!("../edge/tests/vectors.json")).unwrap();
    let unsound = vectors["unsound"].as_array().unwrap();
    let keys = unsound.iter().enumerate().map(|(n, key)| format!("\"K{n}\":{}", key["pem"]));
    let sound = &vectors["keys"]["KP256"];
    let keys = keys.chain([format!("\"KTWICE\":{sound}"), format!("\"KTWICE\":{sound}")]);
    let settings = json!({
        "TRUSTED_KEYS": format!("{{{}}}", keys.collect::<Vec<_>>().join(",")),
        "CORS_ORIGINS": "https://school.example/, https://schüler.example",
        "PUBLIC_PATHS": "/a%20b/*, /a/../b",
    });
    for gate in gates_with(&OBJECTS, &settings) {
        let answer = gate.get("/-/health");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let log = remarks(&gate.log(&answer, "PUBLIC_PATHS"));
        for (n, key) in unsound.iter().enumerate() {
            let named =
                log.split("; ").find(|line| line.contains(&format!("key \"K{n}\": "))).unwrap_or_default();
            assert!(named.contains(key["problem"].as_str().unwrap()), "{key}: {log}");
        }
        for problem in [
            "key \"KTWICE\": its id is there twice",
            "\"https://school.example/\" is more than an origin; write",
            "xn--",
            "write \"/a b/*\"",
            "\"/a/../b\" matches nothing",
        ] {
            assert!(log.contains(problem), "{problem}: {log}");
        }
    }
}

#[test]
fn own_hosts_are_handed_the_viewers_authority() {
    for (gates, own) in
        [(&PLAIN, &[][..]), (&LISTED, &["https://cdn.example/", "https://cdn.example:8443/"][..])]
    {
        for gate in gates.iter() {
            let query = gate.open("/assets/a/*");
            let answer = gate.get(&format!("/assets/a/index.m3u8?{query}"));
            let text = String::from_utf8(answer.into_body()).unwrap();
            assert_eq!(text.lines().count(), PLAYLIST.lines().count());
            for line in text.lines().filter(|line| line.starts_with("https://")) {
                assert_eq!(line.ends_with(&query), own.iter().any(|own| line.starts_with(own)), "{line}");
            }
        }
    }
}

#[test]
fn without_cors_origins_every_page_may_read_but_without_cookies() {
    for gate in PLAIN.iter() {
        for target in ["/assets/a/1.m4s".to_owned(), format!("/assets/a/1.m4s?{}", gate.open("/assets/a/*"))]
        {
            let answer = gate.ask(Method::GET, &target, &[("Origin", "https://anywhere.example")]);
            assert_eq!(header(&answer, "access-control-allow-origin"), Some("*"));
            assert_eq!(header(&answer, "access-control-allow-credentials"), None);
        }
    }
}

#[test]
fn cors_origins_may_read_with_cookies_and_others_may_not() {
    for gate in LISTED.iter() {
        let opened = format!("/assets/a/1.m4s?{}", gate.open("/assets/a/*"));
        let targets =
            [opened.as_str(), "/assets/a/1.m4s", "/assets/a/%2f", "/assets/a/poster.jpg", "/-/health"];
        for (origin, allowed) in [
            (Some("https://school.example"), true),
            (Some("http://localhost:3000"), true),
            (Some("http://school.example"), false),
            (Some("https://school.example:8443"), false),
            (Some("https://school.example.evil.example"), false),
            (Some("https://evil.example"), false),
            (Some("null"), false),
            (Some("*"), false),
            (None, false),
        ] {
            for (method, target) in targets.iter().flat_map(|target| {
                [Method::GET, Method::HEAD, Method::OPTIONS, Method::POST].map(|method| (method, *target))
            }) {
                let headers: Vec<_> = origin
                    .map(|origin| ("Origin", origin))
                    .into_iter()
                    .chain([("Access-Control-Request-Headers", "range")])
                    .collect();
                let answer = gate.ask(method.clone(), target, &headers);
                let (said, what) = (
                    |name| header(&answer, name),
                    format!("{method} {target} from {origin:?} at {}", gate.url()),
                );
                assert_eq!(said("access-control-allow-origin"), origin.filter(|_| allowed), "{what}");
                assert_eq!(said("access-control-allow-credentials"), allowed.then_some("true"), "{what}");
                assert!(said("vary").is_some_and(|vary| vary.contains("Origin")), "{what}");
                if method == Method::OPTIONS {
                    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
                    assert_eq!(said("access-control-allow-methods"), Some("GET, HEAD, OPTIONS"));
                    assert_eq!(said("access-control-allow-headers"), Some("range"));
                    assert!(answer.body().is_empty());
                }
            }
        }
    }
}

fn explained(gate: &dyn Gate, target: &str, token: Option<&str>) -> Response<Vec<u8>> {
    let headers: Vec<_> = token
        .map(|token| ("X-Reelgate-Explain", token))
        .into_iter()
        .chain([("CF-Connecting-IP", "198.51.100.1")])
        .collect();
    gate.ask(Method::GET, target, &headers)
}

#[test]
fn an_operator_with_the_token_is_told_why() {
    for gate in LISTED.iter() {
        let (soon, id) = (now() + 600, &keys().id);
        let good = keys().seal(&policy(soon, ""));
        let address = policy(soon, r#","IpAddress":{"AWS:SourceIp":"192.0.2.0/24"}"#);
        for (query, refused, field, value) in [
            (
                keys().seal(&policy(1_767_290_400, "")),
                "the policy has expired",
                "expires",
                json!(1_767_290_400),
            ),
            (
                keys().seal(&policy(soon, &format!(r#","DateGreaterThan":{{"AWS:EpochTime":{soon}}}"#))),
                "the policy is not valid yet",
                "starts_after",
                json!(soon),
            ),
            (
                keys().seal(&address),
                "the policy is for another address",
                "allowed_addresses",
                json!("192.0.2.0/24"),
            ),
            (keys().seal(&address), "the policy is for another address", "address", json!("198.51.100.1")),
            (
                gate.open("/assets/b/*"),
                "the policy is for another resource",
                "mismatch",
                json!("path_or_query"),
            ),
            (
                keys().seal(&policy(soon, "").replace(r#""*""#, r#""https://elsewhere.example/*""#)),
                "the policy is for another resource",
                "resource",
                json!("https://elsewhere.example/*"),
            ),
            (
                good.replace(id, "K1"),
                "the key pair is not one we trust",
                "key",
                json!("not among TRUSTED_KEYS"),
            ),
            (
                format!("{good}&Hash-Algorithm=SHA256"),
                "the signature does not match the policy",
                "hash",
                json!("SHA256"),
            ),
            (
                format!("{good}&Hash-Algorithm=SHA256"),
                "the signature does not match the policy",
                "signature_matches",
                json!(false),
            ),
            // What cannot be read whole has only this to it.
            (
                format!("{good}&Hash-Algorithm=MD5"),
                "Hash-Algorithm is neither SHA1 nor SHA256",
                "key_pair_id",
                Value::Null,
            ),
            (good.replace(id, ""), "Key-Pair-Id is missing", "key_pair_id", Value::Null),
            (format!("{good}&Policy=x"), "Policy is there twice", "key_pair_id", Value::Null),
            (keys().seal("{}"), "the policy: ", "key_pair_id", Value::Null),
            (String::new(), "the URL is not signed", "key_pair_id", Value::Null),
        ] {
            let answer = explained(&**gate, &format!("/assets/a/1.m4s?v=2&{query}"), Some(TOKEN));
            let text = String::from_utf8_lossy(answer.body()).into_owned();
            assert_eq!(
                (answer.status(), header(&answer, "content-type")),
                (StatusCode::FORBIDDEN, Some("application/json")),
                "{text}"
            );
            assert_eq!(header(&answer, "cache-control"), Some("no-store"));
            let explanation: Value = serde_json::from_str(&text).unwrap();
            assert!(explanation["refused"].as_str().unwrap().starts_with(refused), "{text}");
            assert_eq!(explanation[field], value, "{text}");
            let signature = query.split('&').find_map(|pair| pair.strip_prefix("Signature="));
            assert!(
                signature.is_none_or(|signature| !text.contains(signature)) && !text.contains("Policy="),
                "{text}"
            );
        }
    }
}

#[test]
fn nobody_else_is_told_anything() {
    let target = format!("/assets/a/1.m4s?{}", keys().seal(&policy(1_767_290_400, "")));
    let words =
        |gate: &dyn Gate, token| String::from_utf8(explained(gate, &target, token).into_body()).unwrap();
    let denied = r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access denied</Message></Error>"#;
    let (longer, capitals) = (format!("{TOKEN}s"), TOKEN.to_uppercase());
    for gate in LISTED.iter() {
        for token in
            [None, Some(""), Some("wrong"), Some(&*capitals), Some(&TOKEN[1..]), Some(&*longer), Some("*")]
        {
            assert_eq!(words(&**gate, token), denied, "{token:?}");
        }
    }
    // Where there is no token, none is right.
    for gate in PLAIN.iter() {
        for token in [None, Some(""), Some(TOKEN)] {
            assert_eq!(words(&**gate, token), denied, "{token:?}");
        }
    }
}

#[test]
fn the_log_says_who_signed_and_never_what_opens() {
    for gate in PLAIN.iter() {
        let (soon, id) = (now() + 600, &keys().id);
        let expired = keys().seal(&policy(1_767_290_401, ""));
        for (query, reason, signed) in [
            (expired.clone(), "denied: the policy has expired", true),
            (
                format!("{}&Hash-Algorithm=SHA256", keys().seal(&policy(soon, ""))),
                "denied: the signature does not match",
                true,
            ),
            (keys().seal("{\"State\\nment\":1}"), "denied: the policy: ", true),
            (format!("{expired}&Policy=x"), "denied: Policy is there twice", false),
            (format!("{expired}&Hash-Algorithm=MD5"), "denied: Hash-Algorithm is neither", true),
            ("secret=of-somebody".to_owned(), "denied: the URL is not signed", false),
        ] {
            let query = format!("{query}&own=of-somebody");
            let answer = gate.get(&format!("/assets/a/1.m4s?{query}"));
            let log = gate.log(&answer, reason);
            let line =
                log.lines().find(|line| line.contains(reason)).unwrap_or_else(|| panic!("{reason}: {log}"));
            let entry: Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
            if signed {
                let digest = entry["session"].as_str().unwrap_or_default();
                assert!(
                    entry["key"] == **id
                        && digest.len() == 12
                        && digest.bytes().all(|byte| byte.is_ascii_hexdigit()),
                    "{line}"
                );
            }
            let signature =
                query.split('&').find_map(|pair| pair.strip_prefix("Signature=")).unwrap_or("Signature=");
            for secret in [signature, "of-somebody", "Policy=", "eyJ"] {
                assert!(!log.contains(secret), "{secret}: {log}");
            }
            assert!(log.lines().all(|line| line.contains(r#""method":"GET","path":"/"#)), "{log}");
        }
        // As who encodes a whole link asks, or joins one with an ampersand.
        for (name, mark) in [("encoded", "%3F"), ("in-small", "%3f"), ("joined", "&")] {
            let answer = gate.get(&format!("/{name}{mark}{}", keys().seal(&policy(soon, ""))));
            assert_eq!(answer.status(), StatusCode::FORBIDDEN);
            let path = format!(r#""path":"/{name}""#);
            let log = gate.log(&answer, &path);
            let line = log.lines().find(|line| line.contains(&path)).unwrap_or_else(|| panic!("{log}"));
            assert!(line.contains("denied: the URL is not signed") && !log.contains("eyJ"), "{log}");
        }
    }
}

#[test]
fn health_says_whether_the_settings_are_sound_and_not_what_they_are() {
    for gate in PLAIN.iter().chain(STRICT.iter()).chain(LISTED.iter()) {
        let answer = gate.get("/-/health");
        assert_eq!(
            (answer.status(), &answer.body()[..]),
            (StatusCode::OK, &br#"{"configuration":"sound"}"#[..])
        );
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        assert_eq!(gate.ask(Method::HEAD, "/-/health", &[]).status(), StatusCode::OK);
    }
    for settings in [
        json!({}),
        json!({ "TRUSTED_KEYS": "{}" }),
        json!({ "TRUSTED_KEYS": keys().trusted, "STRICT_AWS": "of-somebody", "EXPLAIN_TOKEN": "of-somebody" }),
    ] {
        for gate in gates_with(&OBJECTS, &settings) {
            let answer = gate.get("/-/health");
            assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(answer.body(), br#"{"configuration":"not sound, see the log"}"#);
            assert!(
                gate.log(&answer, "the configuration is not sound: ")
                    .contains("the configuration is not sound: ")
            );
            // And nothing is served meanwhile.
            let query = gate.open("/assets/a/*");
            for target in ["/assets/a/1.m4s".to_owned(), format!("/assets/a/1.m4s?{query}")] {
                let answer = gate.get(&target);
                assert_eq!(
                    (answer.status(), &answer.body()[..]),
                    (StatusCode::INTERNAL_SERVER_ERROR, &b"Internal Server Error"[..])
                );
            }
        }
    }
}

#[test]
fn a_secret_that_is_no_good_is_not_in_the_log() {
    let settings = json!({ "TRUSTED_KEYS": keys().trusted, "EXPLAIN_TOKEN": "of-somebody" });
    let gate = Native::with(std::path::Path::new("."), &settings);
    let log = gate.log(&gate.get("/-/health"), "");
    assert!(log.contains("EXPLAIN_TOKEN is too short") && !log.contains("of-somebody"), "{log}");
}

/// Several keys at once, of all kinds, and signatures that openssl made or that were altered. Natively and in the
/// Worker it is different code that checks them.
#[test]
fn trusted_keys_of_every_kind_open_and_nothing_else_does() {
    let vectors: Value = serde_json::from_str(include_str!("../edge/tests/vectors.json")).unwrap();
    let policy = vectors["policy"].as_str().unwrap();
    for gate in gates_with(&OBJECTS, &json!({ "TRUSTED_KEYS": vectors["keys"].to_string() })) {
        for vector in vectors["vectors"].as_array().unwrap() {
            let [key, hash, signature] =
                ["key", "hash", "signature"].map(|name| vector[name].as_str().unwrap());
            let signature: Vec<u8> = (0..signature.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap())
                .collect();
            let (policy, signature) = (encode(policy.as_bytes()), encode(&signature));
            let query =
                format!("Policy={policy}&Signature={signature}&Key-Pair-Id={key}&Hash-Algorithm={hash}");
            let expected = if vector["good"] == true { 200 } else { 403 };
            // Twice: once for the arithmetic, once for what is remembered of it.
            for _ in 0..2 {
                assert_eq!(
                    status(&*gate, &format!("/assets/a/1.m4s?{query}")),
                    expected,
                    "{vector} at {}",
                    gate.url()
                );
            }
        }
    }
}

/// Whatever is set, an order of ours opens what it says.
#[test]
fn settings_close_nothing_that_is_open() {
    for gate in PLAIN.iter().chain(LISTED.iter()) {
        let url = keys().sign(&Keys::order(&format!("{}/assets/a/1.m4s", gate.url())));
        assert_eq!(status(&**gate, url.strip_prefix(gate.url()).unwrap()), 200);
    }
}
