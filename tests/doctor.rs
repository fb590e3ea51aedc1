//! `transcoder doctor` knows an edge that keeps others out and lets its own in from one that does not.

#![allow(missing_docs)]

use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;
use tests::{Gate as _, Worker, filled, keys, trusting};
use transcoder::keygen::Pair;
use transcoder::playback::{PrivateKey, Settings};
use transcoder::serve::doctor::Verdict;

/// What is found at a Worker with these settings, by whoever has this key.
fn findings(settings: &Value, private_key: &Path) -> Vec<(Verdict, String)> {
    let worker = Worker::with(&filled(&[("assets/a/1.m4s", b"one of a")]), settings);
    let settings = Settings {
        edge: Some(worker.url().parse().unwrap()),
        key_pair_id: Some(keys().id.clone()),
        private_key: Some(PrivateKey::File(private_key.to_owned())),
        ..Settings::default()
    };
    let findings = tokio::runtime::Runtime::new().unwrap().block_on(settings.check(Timestamp::now()));
    findings.into_iter().map(|finding| (finding.verdict, finding.to_string())).collect()
}

#[test]
fn an_edge_that_takes_the_key_and_nothing_else_is_well() {
    let found = findings(&trusting(), &keys().private);
    assert!(found.iter().all(|(verdict, _)| *verdict == Verdict::Well), "{found:#?}");
    assert!(found.iter().any(|(_, words)| words.ends_with("the edge takes its signatures")), "{found:#?}");
}

#[test]
fn a_key_that_the_edge_does_not_know_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    Pair::generate().unwrap().write(folder.path()).unwrap();
    let found = findings(&trusting(), &folder.path().join("private.pem"));
    let ill: Vec<_> = found.iter().filter(|(verdict, _)| *verdict == Verdict::Ill).collect();
    assert!(ill.len() == 1 && ill[0].1.contains("TRUSTED_KEYS has another key"), "{found:#?}");
}

#[test]
fn an_edge_that_is_open_or_not_set_up_is_found_out() {
    let mut open = trusting();
    open["PUBLIC_PATHS"] = "/assets/*".into();
    let found = findings(&open, &keys().private);
    assert!(found.iter().any(|(_, words)| words.contains("does PUBLIC_PATHS cover /assets/?")), "{found:#?}");
    let found = findings(&Value::Object(serde_json::Map::new()), &keys().private);
    assert!(found.iter().any(|(_, words)| words.contains("configuration is not sound")), "{found:#?}");
}
