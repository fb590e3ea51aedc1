//! Who may pass.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::crypto::{Algorithm, Crypto, TrustedKey, is_plain};
use crate::object_key::ObjectKey;
use crate::policy::{Dialect, Resource, Section};
use crate::signed_url::{Hash, SignedUrl};
use crate::verified::{Claim, Verified};

/// The public keys whose signatures open the gate, by key pair id. Several at once is how keys rotate.
#[derive(Debug)]
pub struct KeyGroup {
    keys: BTreeMap<String, TrustedKey>,
    verified: Verified,
}

impl KeyGroup {
    /// Reads `TRUSTED_KEYS`: a JSON object from key pair id to PEM public key. Says all that is wrong at once.
    pub fn parse(json: &str) -> Result<Self, Vec<String>> {
        let pems: BTreeMap<String, String> = serde_json::from_str(json).map_err(|error| {
            // Where, not what: it may be a private key that was put in the wrong place.
            let (line, column) = (error.line(), error.column());
            vec![format!(
                "is not a JSON object of key pair ids and PEM public keys (line {line}, column {column})"
            )]
        })?;
        if pems.is_empty() {
            return Err(vec![
                "names no key, so nothing could be opened; `transcoder keygen` makes one".to_owned(),
            ]);
        }
        let (mut keys, mut problems) = (BTreeMap::new(), Vec::new());
        for (number, (id, pem)) in (1..).zip(pems) {
            match TrustedKey::parse(&id, &pem) {
                Ok(key) => drop(keys.insert(id, key)),
                Err(problem) if is_plain(&id) => problems.push(format!("key {id:?}: {problem}")),
                Err(problem) => problems.push(format!("key number {number}: {problem}")),
            }
        }
        if problems.is_empty() { Ok(Self { keys, verified: Verified::default() }) } else { Err(problems) }
    }

    /// Checks that a key we trust signed this URL, for this object, for this moment, for this visitor.
    ///
    /// `key` is the object that the URL's path names. What costs least is checked first. The arithmetic is done only
    /// for what was not found to be signed before, and comes before the resource: a pattern can be written so that
    /// matching it takes seconds, and anybody can write one, but only a signer whom we trust can sign it.
    pub async fn verify(
        &self,
        key: ObjectKey,
        url: &SignedUrl<'_>,
        visitor: &Visitor,
        dialect: &Dialect,
        crypto: &impl Crypto,
    ) -> Result<Grant, Denied> {
        let trusted = self.keys.get(&url.key_pair_id).ok_or(Denied::UnknownKey)?;
        if dialect.forbids_sha1 && url.hash == Hash::Sha1 {
            return Err(Denied::ForbiddenHash);
        }
        if visitor.now >= url.policy.expires {
            return Err(Denied::Expired);
        }
        if url.policy.starts.is_some_and(|starts| visitor.now <= starts) {
            return Err(Denied::NotYet);
        }
        if url.policy.address.is_some_and(|cidr| !cidr.admits(visitor.address)) {
            return Err(Denied::OtherAddress);
        }
        if !self.signed(trusted, url, crypto).await {
            return Err(Denied::BadSignature);
        }
        if !url.policy.resource.covers(&url.location) {
            return Err(Denied::OtherResource);
        }
        Ok(Grant { key, authority: url.authority.clone() })
    }

    async fn signed(&self, trusted: &TrustedKey, url: &SignedUrl<'_>, crypto: &impl Crypto) -> bool {
        let SignedUrl { signed: message, signature, hash, .. } = url;
        let claim = Claim::new(trusted.id(), *hash, message, signature);
        if self.verified.knows(&claim) {
            return true;
        }
        let signed = crypto.verify(trusted, *hash, message, signature).await;
        if signed {
            self.verified.remember(claim);
        }
        signed
    }

    /// Says of every check how it comes out, where [`KeyGroup::verify`] stops at the first that fails.
    pub async fn explain(&self, url: &SignedUrl<'_>, visitor: &Visitor, crypto: &impl Crypto) -> Explanation {
        let trusted = self.keys.get(&url.key_pair_id);
        let policy = &url.policy;
        let signature_matches = match trusted {
            Some(trusted) => Some(self.signed(trusted, url, crypto).await),
            None => None,
        };
        Explanation {
            key_pair_id: url.key_pair_id.clone(),
            key: match trusted.map(TrustedKey::algorithm) {
                Some(Algorithm::Rsa) => "RSA",
                Some(Algorithm::P256) => "ECDSA P-256",
                None => "not among TRUSTED_KEYS",
            },
            hash: url.hash.name(),
            signature_matches,
            now: visitor.now,
            starts_after: policy.starts,
            expires: policy.expires,
            address: visitor.address,
            allowed_addresses: policy.address.map(|cidr| cidr.to_string()),
            url: url.location.to_string(),
            resource: match &policy.resource {
                Resource::Exactly(resource) | Resource::Pattern(resource) => Some(resource.clone()),
                Resource::Any => None,
            },
            // Of what nobody signed, not even that: matching it may take minutes.
            mismatch: signature_matches
                .filter(|&matches| matches)
                .and_then(|_| policy.resource.mismatch(&url.location)),
        }
    }
}

/// Everything about a signature that an operator may want to see. Nothing in it opens anything.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explanation {
    key_pair_id: String,
    key: &'static str,
    hash: &'static str,
    /// Nothing where there is no key to check it with.
    signature_matches: Option<bool>,
    now: u64,
    starts_after: Option<u64>,
    expires: u64,
    address: Option<IpAddr>,
    allowed_addresses: Option<String>,
    url: String,
    /// Nothing for a policy that opens everything.
    resource: Option<String>,
    mismatch: Option<Section>,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Visitor {
    /// Unix seconds now, by the clock of whoever runs us.
    pub now: u64,
    /// Where the request came from, if that is known.
    pub address: Option<IpAddr>,
}

/// Proof that a request was allowed. Only [`KeyGroup::verify`] and `Grant::public` make one, so code that needs
/// a `Grant` cannot run for a viewer who has none.
#[derive(Debug)]
pub struct Grant {
    key: ObjectKey,
    authority: String,
}

impl Grant {
    /// For what the operator says is for everybody.
    pub(crate) fn public(key: ObjectKey) -> Self {
        Self { key, authority: String::new() }
    }

    /// The object that was granted.
    #[must_use]
    pub fn key(&self) -> &ObjectKey {
        &self.key
    }

    /// What opened it, as a query for the links that stand in it. Letters, digits and `-_~=&` only; empty where
    /// links need none.
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
    /// It is signed by way of SHA-1, which the operator forbids.
    #[error("it is signed by way of SHA-1, which FORBID_SHA1 forbids")]
    ForbiddenHash,
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
            | Self::ForbiddenHash
            | Self::NotYet
            | Self::OtherAddress
            | Self::OtherResource
            | Self::UnknownHash => ("AccessDenied", "Access denied"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::policy;

    /// By openssl, on the curve P-256.
    const KEYS: &str = r#"{"K1":"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQMpv8LNaYQu6IbYrZdf4A+IYT+MT\nz508HbbXjnfVbnKSxVjfkff0co9epfcXoP1++t3AupRKsAmGy3NFxvxl9g==\n-----END PUBLIC KEY-----"}"#;

    struct NothingIsSigned;

    impl Crypto for NothingIsSigned {
        async fn verify(&self, _: &TrustedKey, _: Hash, _: &[u8], _: &[u8]) -> bool {
            false
        }
    }

    /// Matching this one takes minutes, without optimisation: a run of letters is tried from each of its characters
    /// on, for each of the question marks that the query could begin at.
    #[test]
    fn a_pattern_that_nobody_signed_is_not_matched() {
        let pattern = format!("https://v.example/*{}x{}", "s".repeat(400), "?".repeat(3000));
        let policy = format!(
            r#"{{"Statement":[{{"Resource":"{pattern}","Condition":{{"DateLessThan":{{"AWS:EpochTime":9}}}}}}]}}"#
        );
        let path = format!("/{}", "s".repeat(900));
        let policy = policy::encode(policy.as_bytes());
        let uri = format!("https://v.example{path}?Policy={policy}&Signature=AA__&Key-Pair-Id=K1");
        let uri = uri.parse().unwrap();
        let dialect = Dialect::default();
        let url = SignedUrl::parse(&uri, None, &dialect).unwrap();
        let keys = KeyGroup::parse(KEYS).unwrap();
        let key = ObjectKey::parse(&path).unwrap();
        let visitor = Visitor { now: 1, address: None };
        let verdict = pin!(keys.verify(key, &url, &visitor, &dialect, &NothingIsSigned))
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(verdict, Poll::Ready(Err(Denied::BadSignature))));
    }
}
