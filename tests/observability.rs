//! What an operator can see of a request, and what nobody can.

#![allow(missing_docs)]

use std::sync::LazyLock;

use http::{Method, Response, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tests::{Gate, Keys, Worker, filled, gates_with, keys, trusting};

const OPERATOR: &str = "an operator's token";

const OBJECTS: [(&str, &[u8]); 4] = [
    ("assets/lesson/index.m3u8", b"#EXTM3U\n1.m4s\n"),
    ("assets/lesson/1.m4s", b"0123456789"),
    ("assets/lesson/poster.jpg", b"picture"),
    ("readme.txt", b"not an asset"),
];

fn settings(log_one_in: &str) -> Value {
    let mut settings = trusting();
    settings["LOG_ONE_IN"] = json!(log_one_in);
    settings["EXPLAIN_TOKEN"] = json!(OPERATOR);
    settings
}

/// The line about a path in what was logged.
fn entry(log: &str, path: &str) -> Value {
    let said = format!(r#""path":"{path}""#);
    let line = log.lines().rfind(|line| line.contains(&said)).unwrap_or_else(|| panic!("{path}: {log}"));
    serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap()
}

#[test]
fn a_request_is_one_line_without_what_opens_anything() {
    let gate = Worker::with(&filled(&OBJECTS), &settings("1"));
    let query = gate.open("/assets/lesson/*");
    let signature = query.split('&').find_map(|pair| pair.strip_prefix("Signature=")).unwrap();
    for (path, expected) in [
        ("/assets/lesson/1.m4s", json!({ "status": 200, "kind": "segment", "asset": "lesson", "bytes": 10 })),
        ("/assets/lesson/poster.jpg", json!({ "status": 200, "kind": "picture", "cache": "miss" })),
        (
            "/assets/lesson/index.m3u8",
            json!({ "status": 200, "method": "GET", "kind": "playlist", "key": keys().id, "refusal": null }),
        ),
        (
            "/assets/lesson/none.m4s",
            json!({ "status": 404, "refusal": "not_found", "remark": "no such object" }),
        ),
        ("/assets/other/1.m4s", json!({ "status": 403, "refusal": "other_resource", "asset": "other" })),
        (
            "/readme.txt",
            json!({ "status": 403, "kind": "other", "asset": null, "cache": "bypass", "origin_ms": null }),
        ),
    ] {
        let answer = gate.get(&format!("{path}?{query}&own=of-somebody"));
        let log = gate.log(&answer, &format!(r#""path":"{path}""#));
        let entry = entry(&log, path);
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&entry[name], value, "{name} {entry}");
        }
        assert_eq!(entry["key"], *keys().id, "{entry}");
        // By sha256sum: of the signature, not of its spelling.
        assert_eq!(entry["session"].as_str().map(str::len), Some(12), "{entry}");
        assert_eq!(
            log.lines().filter(|line| line.contains(&format!(r#""path":"{path}""#))).count(),
            1,
            "{log}"
        );
        for secret in [signature, "of-somebody", "Policy=", "Signature", "eyJ", OPERATOR] {
            assert!(!log.contains(secret), "{secret}: {log}");
        }
    }
    let again = gate.get(&format!("/assets/lesson/1.m4s?{query}"));
    assert_eq!(again.status(), StatusCode::OK);
    assert!(gate.logs(r#""cache":"hit""#));
}

#[test]
fn of_what_is_answered_as_much_is_logged_as_is_wanted_and_of_what_is_not_all() {
    for (one_in, expected) in [("0", 0..=0), ("1", 100..=100), ("4", 5..=60)] {
        let gate = Worker::with(&filled(&OBJECTS), &settings(one_in));
        let query = gate.open("/assets/lesson/*");
        for _ in 0..100 {
            assert_eq!(gate.get(&format!("/assets/lesson/1.m4s?{query}")).status(), StatusCode::OK);
        }
        let last = gate.get("/last");
        let log = gate.log(&last, r#""path":"/last""#);
        assert_eq!(entry(&log, "/last")["refusal"], "unsigned");
        let lines = log.lines().filter(|line| line.contains("1.m4s")).count();
        assert!(expected.contains(&lines), "one in {one_in}: {lines}");
    }
}

#[test]
fn an_operator_is_told_how_long_it_took_and_nobody_else() {
    for gate in gates_with(&OBJECTS, &settings("0")) {
        let target = format!("/assets/lesson/1.m4s?{}", gate.open("/assets/lesson/*"));
        let timing = |headers: &[(&str, &str)]| {
            let answer = gate.ask(Method::GET, &target, headers);
            assert_eq!(answer.status(), StatusCode::OK);
            answer.headers().get("server-timing").map(|timing| timing.to_str().unwrap().to_owned())
        };
        assert_eq!((timing(&[]), timing(&[("X-Reelgate-Explain", "an operator's tokem")])), (None, None));
        // Natively there is no clock.
        if !gate.url().starts_with("https") {
            let told = timing(&[("X-Reelgate-Explain", OPERATOR)]).unwrap();
            assert!(told.starts_with("cache;desc=") && told.contains("total;dur="), "{told}");
        }
    }
}

static RECORDING: LazyLock<Worker> = LazyLock::new(|| Worker::recording(&filled(&OBJECTS), &settings("0")));

fn point(answer: &Response<Vec<u8>>) -> Value {
    let point = answer.headers()["x-data-point"].to_str().unwrap();
    serde_json::from_str(&percent_decode_str(point).decode_utf8().unwrap()).unwrap()
}

#[test]
fn every_request_is_a_data_point_where_there_is_a_dataset() {
    let gate = &*RECORDING;
    let query = gate.open("/assets/lesson/*");
    let served = point(&gate.get(&format!("/assets/lesson/1.m4s?{query}")));
    let session = served["blobs"][4].as_str().unwrap();
    assert_eq!(session.len(), 12, "{served}");
    let blobs = json!(["lesson", "segment", "", keys().id, session, "miss", "GET", "/assets/lesson/1.m4s"]);
    assert_eq!((&served["indexes"], &served["blobs"]), (&json!(["lesson"]), &blobs));
    assert_eq!((&served["doubles"][0], &served["doubles"][1]), (&json!(200), &json!(10)));
    assert_eq!(served["doubles"].as_array().unwrap().len(), 4);

    let refused = point(&gate.get("/readme.txt"));
    assert_eq!(refused["indexes"], json!([""]));
    assert_eq!(refused["blobs"], json!(["", "other", "unsigned", "", "", "bypass", "GET", "/readme.txt"]));
    // Nothing that a viewer sends makes a data point of another shape.
    let crooked = point(&gate.get(&format!("/assets/a%0Ab/1.m4s%3F{query}")));
    assert_eq!(crooked["blobs"].as_array().unwrap().len(), 8, "{crooked}");
    assert!(!crooked.to_string().contains("Signature"), "{crooked}");
}

#[test]
fn two_sessions_can_be_told_apart_and_one_is_the_same_all_along() {
    let gate = &*RECORDING;
    let session = |query: &str| {
        let answer = gate.get(&format!("/assets/lesson/1.m4s?{query}"));
        point(&answer)["blobs"][4].as_str().unwrap().to_owned()
    };
    let mut order = Keys::order(&format!("{}/assets/lesson/*", gate.url()));
    let one = keys().sign(&order);
    order.expires += 1;
    let other = keys().sign(&order);
    assert_eq!(session(&one), session(&format!("{one}&v=2")));
    assert_ne!(session(&one), session(&other));
}
