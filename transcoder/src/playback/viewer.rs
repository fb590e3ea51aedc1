//! Viewers who ask with a token of the platform's, a JWT ([RFC 7519], by the advice of [RFC 8725]).
//!
//! The algorithm is the key's, never what the token says: a token that names another is refused before any
//! cryptography. What a token points to (`jku`, `jwk`, `x5u`) is not looked at.
//!
//! [RFC 7519]: https://www.rfc-editor.org/rfc/rfc7519
//! [RFC 8725]: https://www.rfc-editor.org/rfc/rfc8725

use std::sync::Arc;
use std::time::{Duration, Instant};

use edge::crypto::{self, TrustedKey};
use jiff::Timestamp;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::jwks::{Jwks, Unreachable};
use super::rate::Rate;
use crate::asset::AssetId;

/// The longest token that is looked at, in bytes; a real one has some hundreds.
const LONGEST_TOKEN: usize = 8 << 10;

/// How far the clocks of who signs tokens and of this machine may be apart, in seconds.
const LEEWAY: f64 = 10.0;

/// The most public keys in a file.
const MOST_KEYS: usize = 16;

/// Whose tokens are taken.
#[derive(Debug)]
pub struct Viewers {
    pub(super) keys: Keys,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) assets_claim: String,
    pub(super) lifetime_claim: String,
    pub(super) rate: Rate<[u8; 32]>,
}

/// What tokens are checked by.
#[derive(Debug)]
pub(super) enum Keys {
    /// All of these, whatever a token calls its own.
    Known(Vec<Key>),
    /// One that a token names.
    Published(Arc<Jwks>),
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// What tokens call it.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) decoding: DecodingKey,
}

/// Somebody whose token was signed by who may, for us, and is in its time.
#[derive(Clone, Debug)]
pub struct Viewer {
    globs: Vec<String>,
    cap: Option<u64>,
}

/// Why a token is not taken, in words for who has it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Nobody's token is so long.
    #[error("it is longer than {LONGEST_TOKEN} bytes")]
    TooLong,
    /// It is none.
    #[error("it is no signed JWT that can be read")]
    Malformed,
    /// It wants to be understood otherwise than it is here.
    #[error("its header has `crit`, and nothing beyond the usual is understood here")]
    Critical,
    /// It wants to be checked in a way that no key is for.
    #[error("its `alg` is not that of the key it is checked by")]
    Algorithm,
    /// Nobody knows its key.
    #[error("its `kid` names no key that is known, or it has none and there are several")]
    UnknownKey,
    /// It was not signed by who may.
    #[error("its signature does not fit")]
    Signature,
    /// It lacks something.
    #[error("its claim `{0}` is missing, or is not what it has to be")]
    Claim(String),
    /// It is over.
    #[error("it has expired (`exp`)")]
    Expired,
    /// It has not begun.
    #[error("it is not valid yet (`nbf`)")]
    Early,
    /// It is somebody else's.
    #[error("it is from another issuer (`iss`)")]
    Issuer,
    /// It is for somebody else.
    #[error("it is for another audience (`aud`)")]
    Audience,
    /// It cannot be checked now.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// It was used too often.
    #[error("this viewer has asked too often: wait {} s", .0.as_secs().max(1))]
    TooOften(Duration),
}

impl Viewers {
    /// Looks at a token. Each time counts as one that its viewer asks.
    pub async fn admit(&self, token: &str, now: Timestamp) -> Result<Viewer, Refused> {
        let claims = self.verify(token, now).await?;
        self.rate.admit(name(&claims, token), Instant::now()).map_err(Refused::TooOften)?;
        self.viewer(&claims)
    }

    /// What doctors say of the keys.
    pub(crate) async fn check(&self) -> Result<String, String> {
        match &self.keys {
            Keys::Known(keys) => Ok(format!("tokens are checked by {}", algorithms(keys))),
            Keys::Published(jwks) => match jwks.check().await {
                Ok(keys) => Ok(format!("{jwks} has keys for {}", algorithms(&keys))),
                Err(error) => Err(format!("--viewer-jwks {jwks}: {error}")),
            },
        }
    }

    async fn verify(&self, token: &str, now: Timestamp) -> Result<Map<String, Value>, Refused> {
        if token.len() > LONGEST_TOKEN {
            return Err(Refused::TooLong);
        }
        let header = decode_header(token).map_err(|_| Refused::Malformed)?;
        if header.crit.is_some() {
            return Err(Refused::Critical);
        }
        let keys: Arc<[Key]> = match &self.keys {
            Keys::Known(keys) => keys.as_slice().into(),
            Keys::Published(jwks) => jwks.named(header.kid.as_deref(), Instant::now()).await?,
        };
        if keys.is_empty() {
            return Err(Refused::UnknownKey);
        }
        let mut refused = Refused::Algorithm;
        for key in keys.iter().filter(|key| key.algorithm == header.alg) {
            match self.claims(token, key) {
                Ok(claims) => return in_time(&claims, now).map(|()| claims),
                Err(Refused::Signature) => refused = Refused::Signature,
                Err(other) => return Err(other),
            }
        }
        Err(refused)
    }

    /// What a token says, if this key signed it, and who has to did so for whom they have to.
    fn claims(&self, token: &str, key: &Key) -> Result<Map<String, Value>, Refused> {
        let mut validation = Validation::new(key.algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // By the clock that everything else here goes by: `in_time`.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let decoded = decode(token, &key.decoding, &validation);
        let claims: Map<String, Value> =
            decoded.map(|token| token.claims).map_err(|error| match error.into_kind() {
                ErrorKind::InvalidSignature => Refused::Signature,
                ErrorKind::InvalidAlgorithm => Refused::Algorithm,
                ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => {
                    Refused::Claim(claim)
                }
                ErrorKind::InvalidIssuer => Refused::Issuer,
                ErrorKind::InvalidAudience => Refused::Audience,
                _ => Refused::Malformed,
            })?;
        // Nobody is two issuers (RFC 7519 §4.1.1).
        if claims.get("iss").is_some_and(Value::is_string) { Ok(claims) } else { Err(Refused::Issuer) }
    }

    fn viewer(&self, claims: &Map<String, Value>) -> Result<Viewer, Refused> {
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let globs = match claims.get(&self.assets_claim) {
            Some(Value::String(glob)) => vec![glob.clone()],
            Some(Value::Array(globs)) => globs.iter().filter_map(text).collect(),
            _ => Vec::new(),
        };
        let cap = match claims.get(&self.lifetime_claim) {
            None => None,
            Some(cap) => {
                let seconds = cap.as_u64().filter(|seconds| *seconds > 0);
                Some(seconds.ok_or_else(|| Refused::Claim(self.lifetime_claim.clone()))?)
            }
        };
        Ok(Viewer { globs, cap })
    }
}

impl Viewer {
    /// Whether the token lists this asset.
    #[must_use]
    pub fn may_watch(&self, asset: &AssetId) -> bool {
        let asset = asset.to_string();
        self.globs.iter().any(|glob| fits(glob, &asset))
    }

    /// For how many seconds they get a URL at most, if their token says so.
    #[must_use]
    pub fn cap(&self) -> Option<u64> {
        self.cap
    }
}

impl Keys {
    pub(super) fn of_secret(secret: &str) -> Self {
        let decoding = DecodingKey::from_secret(secret.as_bytes());
        Self::Known(vec![Key { id: None, algorithm: Algorithm::HS256, decoding }])
    }
}

/// All public keys of a file.
pub(super) fn public_keys(text: &str) -> Result<Vec<Key>, String> {
    let mut keys = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("-----BEGIN ") {
        let block = &rest[begin..];
        let end = block.find("-----END ").and_then(|end| {
            let label = end + "-----END ".len();
            block[label..].find("-----").map(|dashes| label + dashes + "-----".len())
        });
        let end = end.ok_or("a key in it has no end (-----END PUBLIC KEY-----)")?;
        let key = TrustedKey::parse("viewers", &block[..end])?;
        let (algorithm, decoding) = match key.algorithm() {
            crypto::Algorithm::Rsa => (Algorithm::RS256, DecodingKey::from_rsa_der(key.spki())),
            crypto::Algorithm::P256 => (Algorithm::ES256, DecodingKey::from_ec_der(key.spki())),
        };
        keys.push(Key { id: None, algorithm, decoding });
        rest = &block[end..];
    }
    match keys.len() {
        0 => Err("it holds no public key in PEM (-----BEGIN PUBLIC KEY-----)".to_owned()),
        1..=MOST_KEYS => Ok(keys),
        count => Err(format!("it holds {count} keys: leave those that are still used, {MOST_KEYS} at most")),
    }
}

/// What a viewer is counted by.
fn name(claims: &Map<String, Value>, token: &str) -> [u8; 32] {
    let subject = claims.get("sub").and_then(Value::as_str);
    // Without its signature: whoever has one of ES256 can make another that fits as well.
    let signed = token.rsplit_once('.').map_or(token, |(signed, _)| signed);
    let name = subject.map_or_else(|| format!("token {signed}"), |subject| format!("sub {subject}"));
    Sha256::digest(name).into()
}

fn algorithms(keys: &[Key]) -> String {
    let mut names: Vec<_> = keys.iter().map(|key| format!("{:?}", key.algorithm)).collect();
    names.sort();
    names.dedup();
    names.join(" and ")
}

/// A time may have a fraction (RFC 7519 §2, `NumericDate`).
fn in_time(claims: &Map<String, Value>, now: Timestamp) -> Result<(), Refused> {
    let time = |claim: &str| {
        claims.get(claim).map(|time| time.as_f64().ok_or_else(|| Refused::Claim(claim.to_owned())))
    };
    let now = now.as_duration().as_secs_f64();
    let expires = time("exp").unwrap_or_else(|| Err(Refused::Claim("exp".to_owned())))?;
    if now >= expires + LEEWAY {
        return Err(Refused::Expired);
    }
    match time("nbf").transpose()? {
        Some(begins) if now + LEEWAY < begins => Err(Refused::Early),
        _ => Ok(()),
    }
}

/// Whether an id is a glob, in which `*` stands for any characters, and all else for itself.
fn fits(glob: &str, id: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else { return glob == id };
    let Some(mut id) = id.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match id.find(part) {
            Some(found) => id = &id[found + part.len()..],
            None => return false,
        }
    }
    id.ends_with(end)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_glob_fits_what_it_spells_out() {
        for (glob, id, does) in [
            ("talk", "talk", true),
            ("talk", "Talk", false),
            ("talk", "talk2", false),
            ("", "talk", false),
            ("*", "talk", true),
            ("**", "talk", true),
            ("talk-*", "talk-1", true),
            ("talk-*", "talk-", true),
            ("talk-*", "a-talk-1", false),
            ("*-1", "talk-1", true),
            ("*-1", "talk-1-1", true),
            ("*-1", "talk-12", false),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("a*a", "a", false),
            ("ab*ba", "aba", false),
            ("a*b*b", "ab", false),
            ("?alk", "talk", false),
            ("[t]alk", "talk", false),
            ("TALK-*", "talk-1", false),
            ("../*", "talk", false),
            ("assets/talk", "talk", false),
            ("talk\n", "talk", false),
        ] {
            assert_eq!(fits(glob, id), does, "{glob} {id}");
        }
        assert!(!fits(&"a*".repeat(4000), &"b".repeat(128)));
    }

    #[test]
    fn who_has_no_name_is_counted_by_what_was_signed() {
        let named = |token: &str| name(&Map::new(), token);
        assert_eq!(named("head.claims.one"), named("head.claims.another"));
        assert_ne!(named("head.claims.one"), named("head.others.one"));
    }

    #[test]
    fn a_token_has_its_time_but_for_what_clocks_differ() {
        let at = |second: i64, claims: Value| {
            in_time(claims.as_object().unwrap(), Timestamp::from_second(second).unwrap())
        };
        let exp = || json!({"exp": 1_000.5});
        assert_eq!(at(1_010, exp()), Ok(()));
        assert_eq!(at(1_011, exp()), Err(Refused::Expired));
        let nbf = || json!({"exp": 2_000, "nbf": 1_000});
        assert_eq!(at(989, nbf()), Err(Refused::Early));
        assert_eq!(at(990, nbf()), Ok(()));
        assert_eq!(at(0, json!({})), Err(Refused::Claim("exp".to_owned())));
        assert_eq!(at(0, json!({"exp": "1"})), Err(Refused::Claim("exp".to_owned())));
        assert_eq!(at(0, json!({"exp": 1, "nbf": null})), Err(Refused::Claim("nbf".to_owned())));
    }
}
