//! Signatures that openssl made, and that were altered: the arithmetic in Rust says of each what it should. The
//! Worker's is asked the same, by `tests/settings.rs`.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use edge::crypto::{Crypto, Software, TrustedKey};
use edge::signed_url::Hash;

#[derive(serde::Deserialize)]
struct File {
    policy: String,
    keys: BTreeMap<String, String>,
    vectors: Vec<Vector>,
    unsound: Vec<Unsound>,
}

#[derive(serde::Deserialize)]
struct Vector {
    what: String,
    key: String,
    hash: String,
    signature: String,
    good: bool,
}

#[derive(serde::Deserialize)]
struct Unsound {
    what: String,
    pem: String,
    problem: String,
}

fn file() -> File {
    serde_json::from_str(include_str!("vectors.json")).unwrap()
}

/// The Worker is asked the same, by `tests/settings.rs`; the runtime's WebCrypto imports none of these.
#[test]
fn a_key_that_could_never_verify_anything_is_none() {
    for Unsound { what, pem, problem } in file().unsound {
        let error = TrustedKey::parse("K1", &pem).unwrap_err();
        assert!(error.contains(&problem), "{what}: {error}");
    }
}

#[test]
fn software_tells_good_signatures_from_others() {
    let File { policy, keys, vectors, .. } = file();
    for Vector { what, key, hash, signature, good } in vectors {
        let trusted = TrustedKey::parse(&key, &keys[&key]).unwrap();
        let algorithm = if hash == "SHA1" { Hash::Sha1 } else { Hash::Sha256 };
        let signature: Vec<u8> = (0..signature.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap())
            .collect();
        let mut verified = pin!(Software.verify(&trusted, algorithm, policy.as_bytes(), &signature));
        let Poll::Ready(found) = verified.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
            panic!("nothing in here waits");
        };
        assert_eq!(found, good, "{what}: {key}, {hash}");
    }
}
