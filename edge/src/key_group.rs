//! Who may pass.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use crate::crypto::{Algorithm, Crypto, TrustedKey, is_plain};
use crate::json::Json;
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
        let no_object = "is not a JSON object of key pair ids and PEM public keys";
        // Where, not what: it may be a private key that was put in the wrong place.
        let json = Json::parse(json.as_bytes()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            vec![format!("{no_object} (line {line}, column {column})")]
        })?;
        let Json::Object(pems) = json else { return Err(vec![no_object.to_owned()]) };
        if pems.is_empty() {
            return Err(vec![
                "names no key, so nothing could be opened; `transcoder keygen` makes one".to_owned(),
            ]);
        }
        let (mut keys, mut problems) = (BTreeMap::new(), Vec::new());
        for (number, (id, pem)) in (1..).zip(pems) {
            let name = if is_plain(&id) { format!("key {id:?}") } else { format!("key number {number}") };
            let key = match &pem {
                Json::Text(pem) => TrustedKey::parse(&id, pem),
                _ => Err("it is no text".to_owned()),
            };
            match key {
                // Which of the two is meant nobody can tell, and somebody believes that the other one is out.
                Ok(_) if keys.contains_key(&*id) => problems.push(format!("{name}: its id is there twice")),
                Ok(key) => drop(keys.insert(id.into_owned(), key)),
                Err(problem) => problems.push(format!("{name}: {problem}")),
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
        let tolerated = self.signed(trusted, url, crypto).await.ok_or(Denied::BadSignature)?.to_vec();
        if !url.policy.resource.covers(&url.location) {
            return Err(Denied::OtherResource);
        }
        Ok(Grant { key, authority: String::new(), tolerated })
    }

    /// What the text that the key signed leaves out of the URL: nothing, or what players added; `None` if it signed
    /// neither. Memory is asked for both first, because what players add is another text at each request.
    async fn signed<'a>(
        &self,
        trusted: &TrustedKey,
        url: &'a SignedUrl<'_>,
        crypto: &impl Crypto,
    ) -> Option<&'a [String]> {
        let SignedUrl { signature, hash, .. } = url;
        let mut claims = Vec::with_capacity(2);
        for (message, left_out) in url.readings() {
            let claim = Claim::new(trusted.id(), *hash, message, signature);
            if self.verified.knows(&claim) {
                return Some(left_out);
            }
            claims.push((claim, message, left_out));
        }
        for (claim, message, left_out) in claims {
            if crypto.verify(trusted, *hash, message, signature).await {
                self.verified.remember(claim);
                return Some(left_out);
            }
        }
        None
    }

    /// Says of every check how it comes out, where [`KeyGroup::verify`] stops at the first that fails.
    pub async fn explain(&self, url: &SignedUrl<'_>, visitor: &Visitor, crypto: &impl Crypto) -> Explanation {
        let trusted = self.keys.get(&url.key_pair_id);
        let policy = &url.policy;
        let signature_matches = match trusted {
            Some(trusted) => Some(self.signed(trusted, url, crypto).await.is_some()),
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

/// Proof that a request was allowed. Only [`KeyGroup::verify`], `Tickets::open` and `Grant::public` make one, so code
/// that needs a `Grant` cannot run for a viewer who has none.
#[derive(Debug)]
pub struct Grant {
    key: ObjectKey,
    authority: String,
    tolerated: Vec<String>,
}

impl Grant {
    /// For what the operator says is for everybody.
    pub(crate) fn public(key: ObjectKey) -> Self {
        Self { key, authority: String::new(), tolerated: Vec::new() }
    }

    /// For who has a ticket that is good for it.
    pub(crate) fn by_ticket(key: ObjectKey) -> Self {
        Self::public(key)
    }

    /// The same, with what is to be handed on to the links that stand in it.
    pub(crate) fn handing_on(self, authority: String) -> Self {
        Self { authority, ..self }
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

    /// The names of the parameters that players added to what was signed: CloudFront would refuse it for them.
    #[must_use]
    pub fn tolerated(&self) -> &[String] {
        &self.tolerated
    }
}

/// Why a request was not allowed. `Display` is for our logs; what the viewer learns is [`Denied::code`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Denied {
    /// The signature does not match the policy.
    #[error("the signature does not match the policy")]
    BadSignature,
    /// The ticket is not one of ours, or was made for another host, path or address.
    #[error("the ticket is not ours, or for another host, path or address")]
    BadTicket,
    /// The policy has expired, or the ticket that carried it on.
    #[error("the policy has expired")]
    Expired,
    /// It is signed by way of SHA-1, which the operator forbids.
    #[error("it is signed by way of SHA-1, which FORBID_SHA1 forbids")]
    ForbiddenHash,
    /// Other parameters are there, but no key pair's id, or what cannot be one.
    #[error("Key-Pair-Id is missing, or no id")]
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
    /// In one word, for logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadSignature => "bad_signature",
            Self::BadTicket => "bad_ticket",
            Self::Expired => "expired",
            Self::ForbiddenHash => "forbidden_hash",
            Self::NoKeyPair => "no_key_pair",
            Self::NotYet => "not_yet",
            Self::OtherAddress => "other_address",
            Self::OtherResource => "other_resource",
            Self::PolicyUnreadable(_) => "policy_unreadable",
            Self::Repeated(_) => "repeated",
            Self::SignatureUnreadable => "signature_unreadable",
            Self::UnknownHash => "unknown_hash",
            Self::UnknownKey => "unknown_key",
            Self::Unsigned => "unsigned",
        }
    }

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
            | Self::BadTicket
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
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::policy;

    /// By openssl, on the curve P-256.
    const KEYS: &str = r#"{"K1":"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQMpv8LNaYQu6IbYrZdf4A+IYT+MT\nz508HbbXjnfVbnKSxVjfkff0co9epfcXoP1++t3AupRKsAmGy3NFxvxl9g==\n-----END PUBLIC KEY-----"}"#;

    #[test]
    fn an_id_that_is_there_twice_is_refused_by_its_name() {
        let Some((_, pem)) = KEYS.strip_suffix('}').and_then(|keys| keys.split_once(':')) else {
            panic!("one key")
        };
        for again in ["K1", r"\u004b1"] {
            for first in [pem, "\"no key\""] {
                let problems =
                    KeyGroup::parse(&format!(r#"{{"K1":{first},"K2":{pem},"{again}":{pem}}}"#)).unwrap_err();
                assert_eq!(problems.len(), 1, "{problems:?}");
                assert!(problems[0].starts_with("key \"K1\": "), "{problems:?}");
            }
        }
        let problems =
            KeyGroup::parse(&format!(r#"{{"K1":{pem},"K1":{pem},"of somebody":{pem}}}"#)).unwrap_err();
        assert_eq!(problems[0], r#"key "K1": its id is there twice"#);
        assert!(problems[1].starts_with("key number 3: "), "{problems:?}");
        assert!(KeyGroup::parse(&format!(r#"{{"K1":{pem},"K2":{pem}}}"#)).is_ok());
    }

    struct NothingIsSigned;

    impl Crypto for NothingIsSigned {
        async fn verify(&self, _: &TrustedKey, _: Hash, _: &[u8], _: &[u8]) -> bool {
            false
        }
    }

    /// Says that one text is signed, and counts how often it is asked.
    struct Counting<'a>(&'a [u8], Cell<u32>);

    impl Crypto for Counting<'_> {
        async fn verify(&self, _: &TrustedKey, _: Hash, message: &[u8], _: &[u8]) -> bool {
            self.1.set(self.1.get() + 1);
            message == self.0
        }
    }

    /// With what players add a canned URL has two readings, which is one question more, once.
    #[test]
    fn both_readings_of_a_canned_url_take_two_questions_at_most() {
        let players = vec!["CMCD*".to_owned()];
        let dialect = Dialect { players, ..Dialect::default() };
        let (strict, tolerant) = ("https://v.example/1.m4s?v=2&CMCD=1", "https://v.example/1.m4s?v=2");
        for (signed, query, expected, questions) in [
            (strict, "v=2&CMCD=1", Some(vec![]), [1, 1]),
            (tolerant, "v=2&CMCD=1", Some(vec!["CMCD"]), [2, 2]),
            (tolerant, "v=2", Some(vec![]), [1, 1]),
            // What nobody signed is not remembered, and costs the same each time.
            ("https://v.example/2.m4s", "v=2&CMCD=1", None, [2, 4]),
            ("https://v.example/2.m4s", "v=2", None, [1, 2]),
        ] {
            let signed = policy::canned(signed, 9).unwrap();
            let crypto = Counting(signed.as_bytes(), Cell::new(0));
            let keys = KeyGroup::parse(KEYS).unwrap();
            for questions in questions {
                let uri = format!("https://v.example/1.m4s?{query}&Expires=9&Signature=AA__&Key-Pair-Id=K1");
                let uri = uri.parse().unwrap();
                let url = SignedUrl::parse(&uri, None, &dialect).unwrap();
                let key = ObjectKey::parse("/1.m4s").unwrap();
                let visitor = Visitor { now: 1, address: None };
                let verdict = pin!(keys.verify(key, &url, &visitor, &dialect, &crypto))
                    .poll(&mut Context::from_waker(Waker::noop()));
                let Poll::Ready(verdict) = verdict else { panic!("nothing in here waits") };
                let tolerated = verdict.ok().map(|grant| grant.tolerated().to_vec());
                assert_eq!(
                    tolerated,
                    expected.as_ref().map(|names| names.iter().map(ToString::to_string).collect()),
                    "{signed}"
                );
                assert_eq!(crypto.1.get(), questions, "{signed} {query}");
            }
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
