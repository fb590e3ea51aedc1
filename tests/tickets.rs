//! Tickets: what one signature has opened, carried on without it.

#![allow(missing_docs)]

use std::sync::LazyLock;
use std::time::Duration;

use edge::policy::{Cidr, Policy, Resource, canned, encode};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{Gate, Keys, gates_with, keys, now, openssl_sign, trusting};
use transcoder::sign::Order;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NEW_SECRET: &str = "fedcba9876543210fedcba9876543210";
const OPERATOR: &str = "an operator's token";

fn with(settings: &[(&str, &str)]) -> [Box<dyn Gate>; 2] {
    let mut all = trusting();
    for (name, value) in settings {
        all[*name] = json!(value);
    }
    gates_with(
        &[
            ("assets/a/index.m3u8", b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n720p/index.m3u8\n"),
            ("assets/a/720p/index.m3u8", b"#EXTM3U\n#EXTINF:1,\n1.m4s\n#EXTINF:1,\n2.m4s?t=5\n"),
            ("assets/a/720p/1.m4s", b"one of a"),
            ("assets/a/720p/2.m4s", b"two of a"),
            ("assets/b/1.m4s", b"one of b"),
        ],
        &all,
    )
}

static GATES: LazyLock<[Box<dyn Gate>; 2]> =
    LazyLock::new(|| with(&[("TICKET_SECRET", SECRET), ("EXPLAIN_TOKEN", OPERATOR)]));

/// The links of a playlist, or what was said instead.
fn links(gate: &dyn Gate, target: &str) -> Result<Vec<String>, StatusCode> {
    let response = gate.get(target);
    if response.status() != StatusCode::OK {
        return Err(response.status());
    }
    let text = String::from_utf8(response.into_body()).unwrap();
    Ok(text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect())
}

fn status(gate: &dyn Gate, target: &str) -> u16 {
    gate.get(target).status().as_u16()
}

/// The ticket that a signed playlist's link has, `t=…`.
fn ticket(gate: &dyn Gate, query: &str) -> String {
    let links = links(gate, &format!("/assets/a/index.m3u8?{query}")).unwrap();
    let (link, ticket) = links[0].split_once('?').unwrap();
    assert_eq!((link, ticket.split_once('=').unwrap().0), ("720p/index.m3u8", "t"), "{ticket}");
    ticket.to_owned()
}

#[test]
fn a_signed_playlist_hands_on_a_ticket_and_its_playlists_the_same() {
    for gate in GATES.iter() {
        let ticket = ticket(&**gate, &gate.open("/assets/a/*"));
        assert!(ticket.len() < 60, "{ticket}");
        let links = links(&**gate, &format!("/assets/a/720p/index.m3u8?{ticket}")).unwrap();
        assert_eq!(links, [format!("1.m4s?{ticket}"), format!("2.m4s?t=5&{ticket}")]);
        for link in &links {
            assert!(gate.get(&format!("/assets/a/720p/{link}")).body().ends_with(b"of a"), "{link}");
        }
        for target in [
            format!("/assets/b/1.m4s?{ticket}"),
            format!("/assets/a?{ticket}"),
            "/assets/a/720p/1.m4s".into(),
        ] {
            assert_eq!(status(&**gate, &target), 403, "{target}");
        }
    }
}

#[test]
fn a_ticket_stays_the_same_and_bears_what_players_add() {
    for gate in GATES.iter() {
        let signed = gate.open("/assets/a/*");
        let first = ticket(&**gate, &signed);
        assert_eq!(ticket(&**gate, &signed), first);
        let renamed = first.replacen('t', "%74", 1);
        for query in [format!("_HLS_msn=1&_HLS_skip=YES&{first}"), format!("{first}&CMCD=bl%3D1"), renamed] {
            assert_eq!(status(&**gate, &format!("/assets/a/720p/1.m4s?{query}")), 200, "{query}");
        }
        let again =
            links(&**gate, &format!("/assets/a/720p/index.m3u8?_HLS_msn=1&{first}&CMCD=bl%3D1")).unwrap();
        assert_eq!(again[0], format!("1.m4s?{first}"));
    }
}

#[test]
fn an_altered_ticket_opens_nothing() {
    for gate in GATES.iter() {
        let ticket = ticket(&**gate, &gate.open("/assets/a/*"));
        for at in 2..ticket.len() {
            let mut altered = ticket.clone();
            altered.replace_range(at..=at, if &ticket[at..=at] == "A" { "B" } else { "A" });
            assert_eq!(status(&**gate, &format!("/assets/a/720p/1.m4s?{altered}")), 403, "{altered}");
        }
        for query in
            [format!("{ticket}&{ticket}"), format!("{ticket}A"), ticket.to_ascii_uppercase(), "t=".to_owned()]
        {
            assert_eq!(status(&**gate, &format!("/assets/a/720p/1.m4s?{query}")), 403, "{query}");
        }
        // As with cookies, one signing parameter is enough for it not to be looked at.
        for query in [format!("{ticket}&Key-Pair-Id={}", keys().id), format!("Signature=AA__&{ticket}")] {
            assert_eq!(status(&**gate, &format!("/assets/a/720p/1.m4s?{query}")), 403, "{query}");
        }
    }
}

#[test]
fn a_ticket_is_bound_to_its_host_scheme_and_addresses() {
    for gate in GATES.iter() {
        let order =
            Order { address: Cidr::parse("192.0.2.0/24"), ..Keys::order("https://video.example/assets/a/*") };
        let query = keys().sign(&order);
        let ask = |target: &str, host: &str, scheme: &str, address: &str| {
            let headers = [("Host", host), ("X-Forwarded-Proto", scheme), ("CF-Connecting-IP", address)];
            gate.ask(Method::GET, target, &headers)
        };
        let playlist =
            ask(&format!("/assets/a/720p/index.m3u8?{query}"), "video.example", "https", "192.0.2.7");
        let text = String::from_utf8(playlist.into_body()).unwrap();
        let link = text.lines().find(|line| line.starts_with("1.m4s?t=")).unwrap();
        let target = format!("/assets/a/720p/{link}");
        let opens = |host, scheme, address| ask(&target, host, scheme, address).status() == StatusCode::OK;
        assert!(opens("video.example", "https", "192.0.2.7"));
        assert!(opens("video.example", "https", "192.0.2.200"));
        assert!(!opens("video.example", "https", "192.0.3.7"));
        assert!(!opens("video.example", "https", "2001:db8::7"));
        // The other gate is always this host.
        if gate.url() != "https://video.example" {
            assert!(!opens("other.example", "https", "192.0.2.7"));
            assert!(!opens("video.example", "http", "192.0.2.7"));
        }
    }
}

/// A query for a policy that expires in some seconds.
fn short_lived(gate: &dyn Gate, seconds: u64) -> String {
    let resource = Resource::Pattern(format!("{}/assets/a/*", gate.url()));
    let policy = Policy { resource, expires: now() + seconds, starts: None, address: None };
    keys().seal(&policy.to_json())
}

#[test]
fn a_short_lived_signature_opens_a_long_session() {
    let lasting = with(&[("TICKET_SECRET", SECRET), ("TICKET_SECONDS", "3600")]);
    for (gates, after) in [(&*GATES, 403), (&lasting, 200)] {
        for gate in gates {
            let signed = short_lived(&**gate, 2);
            let ticket = ticket(&**gate, &signed);
            let target = format!("/assets/a/720p/1.m4s?{ticket}");
            assert_eq!(status(&**gate, &target), 200);
            std::thread::sleep(Duration::from_secs(3));
            assert_eq!(status(&**gate, &format!("/assets/a/index.m3u8?{signed}")), 403);
            assert_eq!(status(&**gate, &target), after);
        }
    }
}

#[test]
fn secrets_are_rotated_two_at_a_time() {
    let [old, both, new] = [SECRET.to_owned(), format!("{NEW_SECRET}, {SECRET}"), NEW_SECRET.to_owned()]
        .map(|secrets| with(&[("TICKET_SECRET", &secrets)]));
    for i in 0..2 {
        let [old, both, new] = [&*old[i], &*both[i], &*new[i]];
        // The host is part of a ticket, and these Workers have different ports.
        let ask = |gate: &dyn Gate, target: &str| {
            gate.ask(Method::GET, target, &[("Host", "video.example"), ("X-Forwarded-Proto", "https")])
        };
        let query = keys().sign(&Keys::order("https://video.example/assets/a/*"));
        let made = |gate: &dyn Gate| {
            let answer = ask(gate, &format!("/assets/a/720p/index.m3u8?{query}"));
            let text = String::from_utf8(answer.into_body()).unwrap();
            text.lines().find(|line| line.starts_with("1.m4s")).unwrap().to_owned()
        };
        let opens = |gate: &dyn Gate, link: &str| {
            ask(gate, &format!("/assets/a/720p/{link}")).status() == StatusCode::OK
        };
        let [before, after] = [made(old), made(both)];
        assert_eq!(made(new), after);
        assert!(opens(old, &before) && opens(both, &before) && !opens(new, &before));
        assert!(!opens(old, &after) && opens(both, &after) && opens(new, &after));
    }
}

/// A canned signature is for one URL: with it alone nothing that a playlist links to could be had.
#[test]
fn a_canned_playlist_opens_its_folder_if_ticket_folders_says_so() {
    let folders = with(&[("TICKET_SECRET", SECRET), ("TICKET_FOLDERS", "on")]);
    for (gates, after) in [(&*GATES, 403), (&folders, 200)] {
        for gate in gates {
            let (url, expires) = (format!("{}/assets/a/index.m3u8", gate.url()), now() + 600);
            let policy = canned(&url, expires).unwrap();
            let signature = encode(&openssl_sign(&keys().private, "-sha1", &policy));
            let query = format!("Expires={expires}&Signature={signature}&Key-Pair-Id={}", keys().id);
            let links = links(&**gate, &format!("/assets/a/index.m3u8?{query}")).unwrap();
            assert_eq!(status(&**gate, &format!("/assets/a/{}", links[0])), after, "{links:?}");
            let (_, query) = links[0].split_once('?').unwrap();
            assert_eq!(status(&**gate, &format!("/assets/b/1.m4s?{query}")), 403);
        }
    }
}

#[test]
fn what_opens_less_than_a_folder_hands_on_what_it_is() {
    for gate in GATES.iter() {
        let signed = gate.open("/assets/*/index.m3u8");
        let links = links(&**gate, &format!("/assets/a/index.m3u8?{signed}")).unwrap();
        assert_eq!(links, [format!("720p/index.m3u8?{signed}")]);
    }
}

#[test]
fn without_a_secret_a_ticket_is_a_parameter_like_any_other() {
    for (gate, keyless) in GATES.iter().zip(with(&[])) {
        let ticket = ticket(&**gate, &gate.open("/assets/a/*"));
        assert_eq!(status(&*keyless, &format!("/assets/a/720p/1.m4s?{ticket}")), 403);
        let signed = keyless.open("/assets/a/*");
        let links = links(&*keyless, &format!("/assets/a/index.m3u8?{ticket}&{signed}")).unwrap();
        assert_eq!(links, [format!("720p/index.m3u8?{signed}")]);
    }
}

#[test]
fn an_operator_is_told_of_a_ticket_and_the_log_knows_its_session() {
    for gate in GATES.iter() {
        let ticket = ticket(&**gate, &gate.open("/assets/a/*"));
        let target = format!("/assets/b/1.m4s?{ticket}");
        let answer = gate.ask(Method::GET, &target, &[("X-Reelgate-Explain", OPERATOR)]);
        let told: Value = serde_json::from_slice(answer.body()).unwrap();
        assert_eq!(told["refused"], "the ticket is not ours, or for another host, path or address");
        assert!(told["expires"].as_u64().unwrap() > now());
        assert_eq!(told["below"], Value::Null);
        let session = told["ticket"].as_str().unwrap().to_owned();
        assert!(session.starts_with("ticket ") && session.len() == "ticket ".len() + 12, "{session}");
        let session = session.replace("ticket ", r#""key":"ticket","session":""#);
        let log = gate.log(&answer, &session);
        assert!(log.contains(&session), "{log}");
        assert!(!log.contains(ticket.strip_prefix("t=").unwrap()), "{log}");
        let refusal = gate.get(&target);
        assert!(String::from_utf8_lossy(refusal.body()).contains("<Code>AccessDenied</Code>"));
    }
}

/// A ticket is for one host.
#[test]
fn where_links_lead_to_other_hosts_a_signature_for_those_goes_on() {
    for gate in with(&[("TICKET_SECRET", SECRET), ("OWN_HOSTS", "cdn.example")]) {
        let handed_on = |resource: String| {
            let policy = Policy {
                resource: Resource::Pattern(resource),
                expires: now() + 600,
                starts: None,
                address: None,
            };
            let query = keys().seal(&policy.to_json());
            let links = links(&*gate, &format!("/assets/a/index.m3u8?{query}")).unwrap();
            links[0].contains("?Policy=")
        };
        assert!(handed_on("http*://*/assets/a/*".to_owned()));
        assert!(!handed_on(format!("{}/assets/a/*", gate.url())));
    }
}
