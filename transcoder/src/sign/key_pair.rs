//! The private half of a key pair: read from whatever file it is in, and used.

use std::path::Path;

use edge::signed_url::Hash;
use p256::ecdsa::DerSignature;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use rand_core::OsRng;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs8::der::pem;
use rsa::pkcs8::der::zeroize::Zeroizing;
use rsa::pkcs8::{DecodePrivateKey, ObjectIdentifier, PrivateKeyInfo};
use rsa::traits::PublicKeyParts;
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::SignError;

/// What CloudFront takes, and the edge at least.
const CLOUDFRONT_RSA_BITS: usize = 2048;

/// What the edge takes at most.
const LONGEST_RSA_BITS: usize = 4096;

/// An ECDSA key in base64 without what could be left out is longer.
const SHORTEST_KEY: usize = 64;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A private key and the id that the edge knows its public half by.
#[derive(Debug)]
pub struct KeyPair {
    pub(super) id: String,
    pub(super) hash: Hash,
    key: PrivateKey,
}

#[derive(Debug)]
enum PrivateKey {
    Rsa(Box<RsaPrivateKey>),
    P256(Box<p256::ecdsa::SigningKey>),
}

impl KeyPair {
    /// Reads a key file.
    pub fn load(id: &str, path: &Path) -> Result<Self, SignError> {
        let unusable = |problem| SignError::KeyFile { path: path.to_owned(), problem };
        let bytes = std::fs::read(path).map(Zeroizing::new).map_err(|error| {
            if may_be_a_key(&path.to_string_lossy()) {
                SignError::KeyItself
            } else {
                unusable(error.to_string())
            }
        })?;
        let pem = std::str::from_utf8(&bytes).map_err(|_| {
            unusable("it is not in PEM; if it is DER, `openssl pkey -inform DER -in FILE -out key.pem` writes it so".into())
        })?;
        Self::parse(id, pem).map_err(unusable)
    }

    /// Reads a key in PEM: RSA in PKCS#8 or PKCS#1, ECDSA P-256 in PKCS#8 or SEC1. The error is a sentence about the
    /// key, without any of it. It signs by way of SHA-1, as CloudFront expects where nothing else is said.
    pub fn parse(id: &str, pem: &str) -> Result<Self, String> {
        let key = private_key(pem)?;
        if !edge::crypto::is_plain(id) {
            return Err(format!("its id {id:?} must be made of letters, digits, - and _, 64 at most"));
        }
        Ok(Self { id: id.to_owned(), hash: Hash::Sha1, key })
    }

    /// What the edge knows it by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same, signing by way of `hash`.
    #[must_use]
    pub fn hashing(self, hash: Hash) -> Self {
        Self { hash, ..self }
    }

    /// The bytes of a signature over `message`.
    pub(super) fn signature(&self, message: &str) -> Vec<u8> {
        let digest = match self.hash {
            Hash::Sha1 => Sha1::digest(message).to_vec(),
            Hash::Sha256 => Sha256::digest(message).to_vec(),
        };
        match &self.key {
            PrivateKey::Rsa(key) => {
                let scheme = match self.hash {
                    Hash::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
                    Hash::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
                };
                // Blinded, so that the time it takes says nothing of the key (RUSTSEC-2023-0071).
                key.sign_with_rng(&mut OsRng, scheme, &digest).expect("2,048 bits have room for a digest")
            }
            PrivateKey::P256(key) => {
                // A digest shorter than the field is filled up on the left. Nothing is random (RFC 6979), so that
                // the same order makes the same URL, as with RSA.
                let mut field = [0; 32];
                field[32 - digest.len()..].copy_from_slice(&digest);
                let signature: DerSignature = key.sign_prehash(&field).expect("a digest can be signed");
                signature.as_bytes().to_vec()
            }
        }
    }

    /// What of the key CloudFront itself would not take.
    pub(super) fn remark(&self) -> Option<String> {
        match &self.key {
            PrivateKey::Rsa(key) if key.n().bits() != CLOUDFRONT_RSA_BITS => Some(format!(
                "the key has {} bits; the edge takes them, CloudFront itself {CLOUDFRONT_RSA_BITS} only",
                key.n().bits()
            )),
            _ => None,
        }
    }
}

/// Whether a file's name may be a key: in PEM, as a JWK, as openssl prints it; or in base64, without a header or around
/// all of it.
fn may_be_a_key(name: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_= ".contains(&byte);
    name.contains("-----BEGIN")
        || name.contains(['\n', '{'])
        || (name.len() >= SHORTEST_KEY && name.bytes().all(is_base64))
}

fn private_key(text: &str) -> Result<PrivateKey, String> {
    if text.contains("ENCRYPTED") {
        return Err("it is protected by a pass phrase; write a copy without one, readable by you alone: \
                    `openssl pkey -in FILE -out plain.pem`"
            .to_owned());
    }
    // Settings that are copied are indented, and end in blanks.
    let text = Zeroizing::new(text.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
    let Some(block) = private_block(&text) else { return Err(no_private_key(&text)) };
    let broken = || "it is damaged: what its header announces cannot be read".to_owned();
    let (label, der) = pem::decode_vec(block.as_bytes()).map_err(|_| broken())?;
    let der = Zeroizing::new(der);
    match label {
        "PRIVATE KEY" => match PrivateKeyInfo::try_from(&der[..]).map_err(|_| broken())?.algorithm.oid {
            RSA => RsaPrivateKey::from_pkcs8_der(&der).map_err(|_| broken()).and_then(rsa),
            EC => p256::pkcs8::DecodePrivateKey::from_pkcs8_der(&der).map_err(|_| other_curve()).map(p256),
            other => Err(format!("it is a key for {}; {ASK_FOR}", name(other))),
        },
        "RSA PRIVATE KEY" => RsaPrivateKey::from_pkcs1_der(&der).map_err(|_| broken()).and_then(rsa),
        "EC PRIVATE KEY" => p256::SecretKey::from_sec1_der(&der).map_err(|_| other_curve()).map(p256),
        "OPENSSH PRIVATE KEY" => {
            Err("it is in OpenSSH's own format; `ssh-keygen -p -m PEM -f FILE` rewrites it in PEM".to_owned())
        }
        label => Err(format!("it is a {label}; {ASK_FOR}")),
    }
}

const ASK_FOR: &str = "signing takes RSA or ECDSA on P-256, as `transcoder keygen` makes them";

/// The private key of a file that may hold more: `openssl ecparam` writes the curve's parameters before it.
fn private_block(text: &str) -> Option<&str> {
    let header = text.find("PRIVATE KEY-----")?;
    let start = text[..header].rfind("-----BEGIN ")?;
    let end = text[header..].find("-----END ")? + header;
    let last = text[end..].lines().next()?;
    Some(&text[start..end + last.len()])
}

fn no_private_key(text: &str) -> String {
    if text.contains("PUBLIC KEY-----") {
        "it is a public key; signing takes the private one".to_owned()
    } else if text.contains("BEGIN CERTIFICATE") {
        "it is a certificate; signing takes the private key that belongs to it".to_owned()
    } else {
        "it holds no private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned()
    }
}

fn rsa(key: RsaPrivateKey) -> Result<PrivateKey, String> {
    match key.n().bits() {
        bits if bits < CLOUDFRONT_RSA_BITS => {
            Err(format!("it has {bits} bits, the edge trusts {CLOUDFRONT_RSA_BITS} and more"))
        }
        bits if bits > LONGEST_RSA_BITS => {
            Err(format!("it has {bits} bits, the edge trusts {LONGEST_RSA_BITS} at most"))
        }
        _ => Ok(PrivateKey::Rsa(Box::new(key))),
    }
}

fn p256(key: p256::SecretKey) -> PrivateKey {
    PrivateKey::P256(Box::new(key.into()))
}

fn other_curve() -> String {
    "it is not on the curve P-256 (also called prime256v1), and CloudFront knows no other".to_owned()
}

/// What people have keys for, by [their numbers](https://www.rfc-editor.org/rfc/rfc8410#section-3).
fn name(algorithm: ObjectIdentifier) -> String {
    match algorithm.to_string().as_str() {
        "1.3.101.112" => "Ed25519".to_owned(),
        "1.3.101.110" => "X25519".to_owned(),
        "1.3.101.113" => "Ed448".to_owned(),
        "1.2.840.113549.1.1.10" => "RSA-PSS only".to_owned(),
        "1.2.840.10040.4.1" => "DSA".to_owned(),
        number => format!("the algorithm {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_sign_says_why() {
        let problem = |pem: &str| KeyPair::parse("K1", pem).unwrap_err();
        assert!(problem("-----BEGIN ENCRYPTED PRIVATE KEY-----").contains("pass phrase"));
        assert!(problem("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED").contains("pass phrase"));
        assert!(problem("-----BEGIN PUBLIC KEY-----").contains("public key"));
        assert!(problem("-----BEGIN CERTIFICATE-----").contains("certificate"));
        assert!(problem("hello").contains("no private key"));
        assert!(problem("-----BEGIN PRIVATE KEY-----").contains("no private key"));
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY"] {
            let pem = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
            assert!(problem(&pem).contains("damaged"), "{label}");
        }
        let error = KeyPair::load("K1", Path::new("/nowhere/private.pem")).unwrap_err().to_string();
        assert!(error.starts_with("the private key /nowhere/private.pem: "), "{error}");
    }

    #[test]
    fn an_id_is_one_that_can_stand_in_a_link() {
        let pair = crate::keygen::Pair::of(crate::keygen::Algorithm::Ecdsa).unwrap();
        let folder = tempfile::tempdir().unwrap();
        pair.write(folder.path()).unwrap();
        let file = folder.path().join("private.pem");
        assert!(KeyPair::load("K-1_a", &file).is_ok());
        for id in ["", "K 1", "K1&Policy=x", "Kö"] {
            assert!(KeyPair::load(id, &file).unwrap_err().to_string().contains("its id"), "{id}");
        }
    }

    #[test]
    fn a_key_in_place_of_its_file_is_not_shown() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n";
        let error = KeyPair::load("K1", Path::new(key)).unwrap_err().to_string();
        assert!(!error.contains("MIIE") && !error.contains('\n'), "{error}");
        // As it is copied by who takes the header for decoration, or what settings are kept in for one line.
        let bare = "MEECAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEJzAlAgEBBCA5bmV2ZXIgc2F5IGEgd29yZCBvZiBpdCB0byBhbnk=";
        let encoded =
            "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0tCk1FRUNBUUF3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBEQVFjRUp6QWxB";
        let jwk = r#"{"kty":"EC","crv":"P-256","d":"OW5ldmVyIHNheSBhIHdvcmQgb2YgaXQgdG8gYW55"}"#;
        let printed = "Private-Key: (256 bit)\npriv:\n    39:6e:65:76:65:72:20:73:61:79";
        for key in [bare, encoded, jwk, printed] {
            let error = KeyPair::load("K1", Path::new(key)).unwrap_err().to_string();
            assert!(error.contains("holds a key") && !error.contains(&key[..20]), "{error}");
        }
    }

    #[test]
    fn blanks_around_its_lines_do_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        crate::keygen::Pair::of(crate::keygen::Algorithm::Ecdsa).unwrap().write(folder.path()).unwrap();
        let pem = std::fs::read_to_string(folder.path().join("private.pem")).unwrap();
        for end in ["\r\n", "  \n", "\n    "] {
            let copied = format!("    {}", pem.replace('\n', end));
            assert!(KeyPair::parse("K1", &copied).is_ok(), "{end:?}");
        }
    }
}
