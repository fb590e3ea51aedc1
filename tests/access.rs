//! Who gets in and who does not.

#![allow(missing_docs)]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use edge::Visitor;
use edge::policy::{Cidr, Policy, Resource};
use http::{Method, StatusCode};
use tests::{Gate, Keys, Native, gates, keys, now};
use transcoder::keygen::Pair;
use transcoder::sign::{KeyPair, Order};

static GATES: LazyLock<[Box<dyn Gate>; 2]> = LazyLock::new(|| {
    gates(&[
        ("assets/a/index.m3u8", b"#EXTM3U\n1.m4s\n"),
        ("assets/a/1.m4s", b"one of a"),
        ("assets/a b/é+1.m4s", b"one of a b"),
        ("assets/b/1.m4s", b"one of b"),
    ])
});

/// Each refusal as AWS documents it, byte for byte.
fn assert_refused(gate: &dyn Gate, target: &str, code: &str) {
    let message = match code {
        "MissingKey" => "Missing Key-Pair-Id query parameter or cookie value",
        "InvalidKey" => "Unknown Key",
        "MalformedSignature" => "Could not unencode Signature",
        "MalformedPolicy" => "Malformed Policy",
        "AccessDenied" => "Access denied",
        _ => unreachable!(),
    };
    let response = gate.get(target);
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "{target}");
    assert_eq!(
        String::from_utf8_lossy(response.body()),
        format!(
            r#"<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"#
        ),
        "{target}"
    );
    assert_eq!(response.headers()["content-type"], "text/xml");
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}

#[test]
fn a_signature_opens_its_folder_and_no_other() {
    for gate in GATES.iter() {
        let query = gate.open("/assets/a/*");
        let response = gate.get(&format!("/assets/a/1.m4s?{query}"));
        assert_eq!((response.status(), &response.body()[..]), (StatusCode::OK, &b"one of a"[..]));
        assert_refused(&**gate, &format!("/assets/b/1.m4s?{query}"), "AccessDenied");
        assert_refused(&**gate, &format!("/assets/a?{query}"), "AccessDenied");
        assert_eq!(gate.get(&format!("/assets/a/2.m4s?{query}")).status(), StatusCode::NOT_FOUND);
    }
}

/// Both readings of a `?`, all sections, and what leaves some out, as AWS's page on custom policies has them.
#[test]
fn a_resource_opens_what_the_pages_on_policies_say() {
    let expires = now() + 600;
    for gate in GATES.iter() {
        let (scheme, host) = gate.url().split_once("://").unwrap();
        let policy = |resource: &str| {
            format!(
                r#"{{"Statement":[{{{resource}"Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
            )
        };
        let resource = |pattern: &str| {
            let pattern = pattern.replace("HOST", host).replace("SCHEME", scheme).replace('\\', r"\\");
            policy(&format!(r#""Resource":"{pattern}","#))
        };
        let bare = resource("http*://HOST/assets/a/*").replace("[{", "{").replace("}]", "}");
        for (policy, target, opens) in [
            (policy(""), "/assets/b/1.m4s", true),
            (bare.clone(), "/assets/a/1.m4s", true),
            (bare, "/assets/b/1.m4s", false),
            (resource("*"), "/assets/b/1.m4s?x=1", true),
            (resource("*HOST/assets/a/1.m4s"), "/assets/a/1.m4s", true),
            (resource("*HOST"), "/assets/a/1.m4s", false),
            (resource("SCHEME://HOST*"), "/assets/b/1.m4s?x=1", true),
            (resource("*://*/assets/?/1.m4s"), "/assets/b/1.m4s", true),
            (resource("*://*/assets/?/1.m4s"), "/assets/a%20b/1.m4s", false),
            (resource("http?://HOST/assets/a/*"), "/assets/a/1.m4s", scheme == "https"),
            (resource("SCHEME://HOST/assets/a/1.m4s"), "/assets/a/1.m4s?x=1", false),
            (resource("SCHEME://HOST/assets/a/1.m4s?x=*"), "/assets/a/1.m4s?x=1", true),
            (resource("SCHEME://HOST/assets/a/1.m4s?x=*"), "/assets/a/1.m4s?y=1", false),
            (resource(r"SCHEME://HOST/assets/a/1.m4s\?x=?"), "/assets/a/1.m4s?x=1", true),
            (resource(r"SCHEME://HOST/assets/a/1.m4s\?x=?"), "/assets/a/1.m4s?x=12", false),
            (resource(r"SCHEME://HOST/assets/a/*\?x=1"), "/assets/a/1.m4s", false),
            (resource("SCHEME://HOST/assets/a/*.m4s"), "/assets/a/1.m4s?x=1", false),
            (resource("SCHEME://HOST/assets/a/*4s?"), "/assets/a/1.m4s", true),
            (resource("SCHEME://HOST/assets/A/*"), "/assets/a/1.m4s", false),
            (resource("*://HOST/assets/a/*").replace(host, &host.to_uppercase()), "/assets/a/1.m4s", true),
        ] {
            let joiner = if target.contains('?') { '&' } else { '?' };
            let status = gate.get(&format!("{target}{joiner}{}", keys().seal(&policy))).status();
            let expected = if opens { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(status, expected, "{policy} for {target} at {}", gate.url());
        }
    }
}

/// The suffixed set of a canned URL is no part of what was signed, and opens it by itself.
#[test]
fn a_canned_signature_may_come_with_the_suffix_alone() {
    for gate in GATES.iter() {
        let url = keys().sign(&Keys::order(&format!("{}/assets/a/1.m4s?v=2", gate.url())));
        let (path, query) = url.strip_prefix(gate.url()).unwrap().split_once("?v=2&").unwrap();
        let suffixed = query.replace('=', "-PREFIX=");
        assert_eq!(gate.get(&format!("{path}?{suffixed}&v=2")).status(), StatusCode::OK, "{suffixed}");
        assert_eq!(gate.get(&format!("{path}?{suffixed}&v=2&{query}")).status(), StatusCode::OK);
        assert_refused(&**gate, &format!("{path}?{suffixed}"), "AccessDenied");
        assert_refused(&**gate, &format!("{path}?{suffixed}&v=3"), "AccessDenied");
    }
}

#[test]
fn a_signature_for_one_url_opens_that_url() {
    for gate in GATES.iter() {
        let url = keys().sign(&Keys::order(&format!("{}/assets/a/1.m4s", gate.url())));
        let target = url.strip_prefix(gate.url()).unwrap();
        assert!(target.contains("?Expires="));
        assert_eq!(gate.get(target).status(), StatusCode::OK);
        assert_refused(&**gate, &target.replace("/1.m4s", "/index.m3u8"), "AccessDenied");
        assert_refused(&**gate, &format!("{target}&CMCD=bs"), "AccessDenied");
        let (start, rest) = target.split_once("Expires=").unwrap();
        let (expires, rest) = rest.split_once('&').unwrap();
        let later = expires.parse::<u64>().unwrap() + 1;
        assert_refused(&**gate, &format!("{start}Expires={later}&{rest}"), "AccessDenied");
    }
}

#[test]
fn a_name_is_what_it_says() {
    for gate in GATES.iter() {
        let query = gate.open("/assets/a%20b/*");
        for spelling in ["/assets/a%20b/%C3%A9+1.m4s", "/assets/a%20b/%c3%a9%2B1.m4s"] {
            let response = gate.get(&format!("{spelling}?{query}"));
            assert_eq!(response.body(), b"one of a b", "{spelling}");
        }
    }
}

#[test]
fn nothing_is_opened_without_a_whole_signature() {
    for gate in GATES.iter() {
        let path = "/assets/a/1.m4s";
        let query = gate.open("/assets/a/*");
        let parts: Vec<&str> = query.split('&').collect();
        let [policy, signature, key] = parts[..] else { panic!("three parameters") };
        for (query, code) in [
            (String::new(), "MissingKey"),
            ("x=1".to_owned(), "MissingKey"),
            (format!("{policy}&{signature}"), "MissingKey"),
            (format!("{policy}&{signature}&Key-Pair-Id="), "MissingKey"),
            (format!("{policy}&{signature}&Key-Pair-Id=K2JCJMDEHXQW5F"), "InvalidKey"),
            // As somebody saw CloudFront answer to a whole PEM.
            (format!("{policy}&{signature}&Key-Pair-Id=-----BEGIN+PUBLIC+KEY-----"), "MissingKey"),
            (format!("{policy}&{key}"), "MalformedSignature"),
            (format!("{policy}&{key}&Signature=a+/="), "MalformedSignature"),
            (format!("{signature}&{key}"), "MalformedPolicy"),
            (format!("{signature}&{key}&Policy=bm90IGpzb24_"), "MalformedPolicy"),
            (format!("{query}&{key}"), "MalformedPolicy"),
            (format!("{query}&Policy=x"), "MalformedPolicy"),
            (format!("{policy}&{key}&Signature=bm90IGEgc2lnbmF0dXJl"), "AccessDenied"),
            (format!("{query}&Hash-Algorithm=SHA256"), "AccessDenied"),
            (format!("{query}&Hash-Algorithm=MD5"), "AccessDenied"),
            (query.to_lowercase(), "MissingKey"),
        ] {
            assert_refused(&**gate, &format!("{path}?{query}"), code);
        }
        // One bit of the policy, one of the signature.
        for part in [policy, signature] {
            let (start, last) = part.split_at(part.trim_end_matches('_').len() - 3);
            let altered = format!("{start}{}{}", if last.starts_with('A') { 'B' } else { 'A' }, &last[1..]);
            let response = gate.get(&format!("{path}?{}", query.replace(part, &altered)));
            assert_eq!(response.status(), StatusCode::FORBIDDEN);
        }
    }
}

#[test]
fn a_key_of_ones_own_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    Pair::generate().unwrap().write(folder.path()).unwrap();
    let imposter = KeyPair::load(&keys().id, &folder.path().join("private.pem")).unwrap();
    for gate in GATES.iter() {
        let order = Keys::order(&format!("{}/assets/a/*", gate.url()));
        let query = imposter.sign(&order, jiff::Timestamp::now()).unwrap().url;
        assert_refused(&**gate, &format!("/assets/a/1.m4s?{query}"), "AccessDenied");
    }
}

#[test]
fn a_policy_that_nobody_signed_costs_nothing() {
    let pattern = format!("https://video.example/{}{}b", "?*".repeat(400), "a".repeat(1500));
    let policy =
        Policy { resource: Resource::Pattern(pattern), expires: now() + 60, starts: None, address: None };
    let target = format!(
        "/{}?Policy={}&Signature=bm90IGEgc2lnbmF0dXJl&Key-Pair-Id={}&x={}",
        "a".repeat(1000),
        edge::policy::encode(policy.to_json().as_bytes()),
        keys().id,
        "a".repeat(3000)
    );
    let start = Instant::now();
    assert_refused(&*GATES[0], &target, "AccessDenied");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn a_path_with_two_meanings_reads_nothing() {
    for gate in GATES.iter() {
        let query = gate.open("/assets/a/*");
        for path in [
            "/assets/a/../b/1.m4s",
            "/assets/a/%2e%2e/b/1.m4s",
            "/assets/a/.%2E/b/1.m4s",
            "/assets/a/%2e%2e%2fb/1.m4s",
            "/assets/a/..%2fb%2f1.m4s",
            "/assets/a/..%5cb%5c1.m4s",
            "/assets/a/..\\b\\1.m4s",
            "/assets/a/%252e%252e/b/1.m4s",
            "/assets/a/%c0%ae%c0%ae/b/1.m4s",
            "/assets/a/1.m4s%00",
            "/assets/a//../../b/1.m4s",
        ] {
            let response = gate.get(&format!("{path}?{query}"));
            assert!(response.status().is_client_error(), "{path}: {}", response.status());
            assert!(!response.body().starts_with(b"one of"), "{path}");
        }
    }
}

#[test]
fn a_signature_lasts_from_its_start_to_its_end() {
    let gate = &GATES[0];
    let (starts, expires) = (now() + 1_000, now() + 2_000);
    let order = Order { starts: Some(starts), expires, ..Keys::order(&format!("{}/assets/a/*", gate.url())) };
    let query = keys().sign(&order);
    let folder = tempfile::tempdir().unwrap();
    let status = |now| {
        let native = Native::over(folder.path()).seen_by(Visitor { now, address: None });
        native.get(&format!("/assets/a/1.m4s?{query}")).status()
    };
    // "on or before the specified date and time" it does not work, says AWS of DateGreaterThan.
    assert_eq!(status(starts), StatusCode::FORBIDDEN);
    assert_eq!(status(starts + 1), StatusCode::NOT_FOUND);
    assert_eq!(status(expires - 1), StatusCode::NOT_FOUND);
    assert_eq!(status(expires), StatusCode::FORBIDDEN);
}

#[test]
fn a_signature_is_held_to_its_window_by_the_runtimes_clock() {
    for gate in GATES.iter() {
        let pattern = format!("{}/assets/a/*", gate.url());
        let later = keys().sign(&Order { starts: Some(now() + 600), ..Keys::order(&pattern) });
        assert_refused(&**gate, &format!("/assets/a/1.m4s?{later}"), "AccessDenied");
        let soon = keys().sign(&Order { expires: now() + 2, ..Keys::order(&pattern) });
        std::thread::sleep(Duration::from_secs(3));
        assert_refused(&**gate, &format!("/assets/a/1.m4s?{soon}"), "AccessDenied");
    }
}

#[test]
fn a_signature_may_be_for_some_addresses_only() {
    for gate in GATES.iter() {
        let pattern = format!("{}/assets/a/*", gate.url());
        let query = keys().sign(&Order { address: Cidr::parse("192.0.2.0/24"), ..Keys::order(&pattern) });
        let status = |address| {
            let target = format!("/assets/a/1.m4s?{query}");
            gate.ask(Method::GET, &target, &[("CF-Connecting-IP", address)]).status()
        };
        assert_eq!(status("192.0.2.7"), StatusCode::OK);
        assert_eq!(status("192.0.3.7"), StatusCode::FORBIDDEN);
        assert_eq!(status("2001:db8::1"), StatusCode::FORBIDDEN);
    }
}

#[test]
fn a_signature_survives_what_players_do_to_it() {
    for gate in GATES.iter() {
        let query = gate.open("/assets/a/*");
        let encoded = query.replace('~', "%7E").replace('_', "%5F").replace("Policy", "%50olicy");
        let sorted = {
            let mut pairs: Vec<_> = query.split('&').collect();
            pairs.sort_unstable();
            pairs.join("&")
        };
        for query in [encoded, sorted, format!("_HLS_msn=3&{query}&CMCD=bs%2Cbr%3D100")] {
            assert_eq!(gate.get(&format!("/assets/a/1.m4s?{query}")).status(), StatusCode::OK, "{query}");
        }
    }
}

#[test]
fn a_name_in_another_spelling_is_another_name() {
    for gate in GATES.iter() {
        let query = gate.open("/assets/a%20b/*");
        // é as e and an accent: to R2, which normalises names, the same as é.
        let response = gate.get(&format!("/assets/a%20b/e%CC%81+1.m4s?{query}"));
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
    }
}

#[test]
fn a_foreign_cookie_that_is_not_ascii_hides_nothing() {
    let gate = &GATES[0];
    let query = gate.open("/assets/a/*");
    let cookies = query.split('&').map(|pair| format!("CloudFront-{pair}")).collect::<Vec<_>>().join("; ");
    let cookies = format!("name=Jürgen; {cookies}");
    assert_eq!(gate.ask(Method::GET, "/assets/a/1.m4s", &[("Cookie", &cookies)]).status(), StatusCode::OK);
}
