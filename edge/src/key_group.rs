//! Who may pass.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::pkcs8::DecodePublicKey;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use rsa::{RsaPublicKey, pkcs1::DecodeRsaPublicKey};
use sha1::Sha1;
use sha2::Sha256;

use crate::object_key::ObjectKey;
use crate::signed_url::{Hash, SignedUrl};

/// The shortest RSA key that is trusted. CloudFront takes 2,048 only.
const SHORTEST_RSA_BITS: usize = 2048;

/// The public keys whose signatures open the gate, by key pair id. Several at once is how keys rotate.
#[derive(Debug)]
pub struct KeyGroup(BTreeMap<String, TrustedKey>);

#[derive(Debug)]
struct TrustedKey {
    sha1: VerifyingKey<Sha1>,
    sha256: VerifyingKey<Sha256>,
}

impl KeyGroup {
    /// Reads `TRUSTED_KEYS`: a JSON object from key pair id to PEM public key. Says all that is wrong at once.
    pub fn parse(json: &str) -> Result<Self, Vec<String>> {
        let pems: BTreeMap<String, String> = serde_json::from_str(json).map_err(|error| {
            vec![format!("is not a JSON object of key pair ids and PEM public keys: {error}")]
        })?;
        if pems.is_empty() {
            return Err(vec![
                "names no key, so nothing could be opened; `transcoder keygen` makes one".to_owned(),
            ]);
        }
        let (mut keys, mut problems) = (BTreeMap::new(), Vec::new());
        for (id, pem) in pems {
            match trusted_key(&id, &pem) {
                Ok(key) => drop(keys.insert(id, key)),
                Err(problem) => problems.push(format!("key {id:?}: {problem}")),
            }
        }
        if problems.is_empty() { Ok(Self(keys)) } else { Err(problems) }
    }

    /// Checks that a key we trust signed this URL, for this object, for this moment, for this visitor.
    ///
    /// `key` is the object that the URL's path names. What costs least is checked first; a signature before
    /// all that a viewer could make costly.
    pub fn verify(&self, key: ObjectKey, url: SignedUrl<'_>, visitor: &Visitor) -> Result<Grant, Denied> {
        let trusted = self.0.get(&url.key_pair_id).ok_or(Denied::UnknownKey)?;
        if visitor.now >= url.policy.expires {
            return Err(Denied::Expired);
        }
        if url.policy.starts.is_some_and(|starts| visitor.now <= starts) {
            return Err(Denied::NotYet);
        }
        if url.policy.address.is_some_and(|cidr| !cidr.admits(visitor.address)) {
            return Err(Denied::OtherAddress);
        }
        if !trusted.signed(&url.signed, &url.signature, url.hash) {
            return Err(Denied::BadSignature);
        }
        // After the signature: anybody could write a pattern that takes seconds to match.
        if !url.policy.resource.covers(&url.location) {
            return Err(Denied::OtherResource);
        }
        Ok(Grant { key, authority: url.authority })
    }
}

impl TrustedKey {
    fn signed(&self, message: &[u8], signature: &[u8], hash: Hash) -> bool {
        Signature::try_from(signature).is_ok_and(|signature| match hash {
            Hash::Sha1 => self.sha1.verify(message, &signature).is_ok(),
            Hash::Sha256 => self.sha256.verify(message, &signature).is_ok(),
        })
    }
}

fn trusted_key(id: &str, pem: &str) -> Result<TrustedKey, String> {
    // An id goes into links as it is.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err("an id is made of letters, digits, - and _".to_owned());
    }
    if pem.contains("PRIVATE KEY") {
        return Err("this is a private key, which must not be here: take the public one \
                    (`openssl pkey -in private.pem -pubout`), and retire this pair"
            .to_owned());
    }
    let key = RsaPublicKey::from_public_key_pem(pem.trim())
        .or_else(|_| RsaPublicKey::from_pkcs1_pem(pem.trim()))
        .map_err(|error| {
            format!("no RSA public key in PEM (-----BEGIN PUBLIC KEY-----, lines separated by \\n): {error}")
        })?;
    let bits = key.n().bits();
    if bits < SHORTEST_RSA_BITS {
        return Err(format!("{bits} bits are too few, it takes {SHORTEST_RSA_BITS}"));
    }
    Ok(TrustedKey { sha1: VerifyingKey::new(key.clone()), sha256: VerifyingKey::new(key) })
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// Unix seconds now, by the clock of whoever runs us.
    pub now: u64,
    /// Where the request came from, if that is known.
    pub address: Option<IpAddr>,
}

/// Proof that a request was allowed. Only [`KeyGroup::verify`] makes one, so code that needs a `Grant`
/// cannot run for a viewer who has none.
#[derive(Debug)]
pub struct Grant {
    key: ObjectKey,
    authority: String,
}

impl Grant {
    /// The object that was granted.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// What opened it, as a query for the links that stand in it. Letters, digits and `-_~=&` only.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

/// Why a request was not allowed. `Display` is for our logs; what the viewer learns is [`Denied::code`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denied {
    /// The signature does not match the policy.
    #[error("the signature does not match the policy")]
    BadSignature,
    /// The policy has expired.
    #[error("the policy has expired")]
    Expired,
    /// Other parameters are there, but no key pair.
    #[error("Key-Pair-Id is missing")]
    NoKeyPair,
    /// The policy is not valid yet.
    #[error("the policy is not valid yet")]
    NotYet,
    /// The policy is for another address.
    #[error("the policy is for another address")]
    OtherAddress,
    /// The policy is for another resource.
    #[error("the policy is for another resource")]
    OtherResource,
    /// There is no policy that can be read, or it asks for what is not enforced here.
    #[error("the policy: {0}")]
    PolicyUnreadable(String),
    /// A signing parameter is there twice.
    #[error("{0} is there twice")]
    Repeated(&'static str),
    /// The signature is missing or not in CloudFront's base64.
    #[error("the signature cannot be read")]
    SignatureUnreadable,
    /// `Hash-Algorithm` is neither SHA1 nor SHA256.
    #[error("Hash-Algorithm is neither SHA1 nor SHA256")]
    UnknownHash,
    /// The key pair is not one we trust.
    #[error("the key pair is not one we trust")]
    UnknownKey,
    /// The URL is not signed.
    #[error("the URL is not signed")]
    Unsigned,
}

impl Denied {
    /// `Code` and `Message` of the refusal, in [CloudFront's own words][words]. All that it keeps apart is what
    /// the viewer could see for themselves.
    ///
    /// [words]: https://repost.aws/knowledge-center/cloudfront-troubleshoot-signed-url-cookies
    #[must_use]
    pub fn code(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unsigned | Self::NoKeyPair => {
                ("MissingKey", "Missing Key-Pair-Id query parameter or cookie value")
            }
            Self::UnknownKey => ("InvalidKey", "Unknown Key"),
            Self::SignatureUnreadable => ("MalformedSignature", "Could not unencode Signature"),
            Self::PolicyUnreadable(_) | Self::Repeated(_) => ("MalformedPolicy", "Malformed Policy"),
            Self::BadSignature
            | Self::Expired
            | Self::NotYet
            | Self::OtherAddress
            | Self::OtherResource
            | Self::UnknownHash => ("AccessDenied", "Access denied"),
        }
    }
}
