//! Keys that the platform publishes and changes when it likes: a JWK set ([RFC 7517 §5]).
//!
//! It is asked for when it is needed: when nothing is known, when what is known is old, and when a token names a key that
//! is not there yet. Nobody can have it asked for more often than a fixed number of times, whatever they send; and while
//! its server is away, what was known stays good for a while.
//!
//! [RFC 7517 §5]: https://www.rfc-editor.org/rfc/rfc7517#section-5

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use reqwest::Client;
use reqwest::redirect::Policy;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};
use url::Url;

use super::viewer::Key;
use crate::storage::chain;

/// How long what is known is not asked for again.
const FRESH: Duration = Duration::from_mins(10);

/// How long what is known is good for while nothing newer can be had.
const GOOD: Duration = Duration::from_hours(1);

/// How often it is asked for because of keys that are not in it.
const FOR_UNKNOWN: Duration = Duration::from_secs(30);

/// How long after a failure it is not asked for again.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How long its server may take.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// The largest set that is read, in bytes, and the most keys of it.
const LARGEST: usize = 256 << 10;
const MOST_KEYS: usize = 100;

/// Sizes of keys in bytes: RSA from 2,048 to 8,192 bits, P-256.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;
const P256_BYTES: usize = 32;

/// A set of keys at a URL.
pub(super) struct Jwks {
    url: Url,
    client: Client,
    state: Mutex<State>,
    /// Whoever asks for it has this.
    turn: Arc<Turn<()>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    known: Option<Known>,
    /// When it was last asked for because of a key that was not there.
    for_unknown: Option<Instant>,
    /// When it could last not be had, and why.
    failed: Option<(Instant, Unreachable)>,
}

#[derive(Clone, Debug)]
struct Known {
    keys: Arc<[Key]>,
    since: Instant,
}

/// Why there are no keys.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the keys of viewers' tokens cannot be had: {0}")]
pub struct Unreachable(String);

impl Jwks {
    pub(super) fn of(url: &Url) -> Result<Self, String> {
        let client = Client::builder()
            .redirect(Policy::none())
            .timeout(ANSWER_TIME)
            .build()
            .map_err(|error| format!("--viewer-jwks cannot be asked: {}", chain(&error)))?;
        Ok(Self { url: url.clone(), client, state: Mutex::default(), turn: Arc::default() })
    }

    /// The keys that a token of this `kid` may be checked by: those of the name; or the only one, for a token that names
    /// none.
    pub(super) async fn named(
        self: &Arc<Self>,
        kid: Option<&str>,
        now: Instant,
    ) -> Result<Arc<[Key]>, Unreachable> {
        if let Next::Answer(answer) = self.state().next(kid, now) {
            return answer;
        }
        // Somebody else may be asking already: what is known does meanwhile, or else what they get.
        let turn = match Arc::clone(&self.turn).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => match self.state().answer(kid, now) {
                Ok(keys) if !keys.is_empty() => return Ok(keys),
                _ => Arc::clone(&self.turn).lock_owned().await,
            },
        };
        let for_unknown = match self.state().next(kid, now) {
            Next::Answer(answer) => return answer,
            Next::Ask { for_unknown } => for_unknown,
        };
        // Whoever asks may hang up. Were it given up with them, they could have it begun again as often as they like.
        let _ = tokio::spawn(Arc::clone(self).renew(turn, for_unknown, now)).await;
        self.state().answer(kid, now)
    }

    async fn renew(self: Arc<Self>, _turn: OwnedMutexGuard<()>, for_unknown: bool, now: Instant) {
        let begun = Instant::now();
        let fetched = self.fetch().await;
        let now = now + begun.elapsed();
        let mut state = self.lock();
        if for_unknown {
            state.for_unknown = Some(now);
        }
        match fetched {
            Ok(keys) => {
                state.known = Some(Known { keys: keys.into(), since: now });
                state.failed = None;
            }
            Err(error) => {
                tracing::warn!(%error, "the keys of viewers' tokens stay as they are");
                state.failed = Some((now, error));
            }
        }
    }

    /// Asks for them, whatever is known.
    pub(super) async fn check(&self) -> Result<Vec<Key>, Unreachable> {
        self.fetch().await
    }

    fn state(&self) -> State {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch(&self) -> Result<Vec<Key>, Unreachable> {
        let failed = |error: reqwest::Error| {
            let is_late = error.is_timeout();
            let reason = chain(&error.without_url());
            Unreachable(if is_late { "no answer in time".to_owned() } else { reason })
        };
        let mut answer = self.client.get(self.url.clone()).send().await.map_err(failed)?;
        if !answer.status().is_success() {
            return Err(Unreachable(format!("the answer is {}", answer.status())));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > LARGEST {
                return Err(Unreachable(format!("the answer has more than {LARGEST} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        keys(&bytes)
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Jwks({self})")
    }
}

/// Without its query, in which there may be a secret.
impl fmt::Display for Jwks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.url.origin().ascii_serialization(), self.url.path())
    }
}

/// What is to be done for a token.
#[derive(Debug)]
enum Next {
    /// What is known has to do.
    Answer(Result<Arc<[Key]>, Unreachable>),
    /// Something newer would be better.
    Ask { for_unknown: bool },
}

impl State {
    fn next(&self, kid: Option<&str>, now: Instant) -> Next {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self.failed.as_ref().is_some_and(|(when, _)| since(*when) < AFTER_FAILURE) {
            return Next::Answer(self.answer(kid, now));
        }
        match &self.known {
            Some(known) if since(known.since) < FRESH => {
                let answer = self.answer(kid, now);
                let is_unknown = answer.as_ref().is_ok_and(|keys| keys.is_empty());
                let may_ask = self.for_unknown.is_none_or(|when| since(when) >= FOR_UNKNOWN);
                if is_unknown && may_ask { Next::Ask { for_unknown: true } } else { Next::Answer(answer) }
            }
            _ => Next::Ask { for_unknown: false },
        }
    }

    /// By what is known, as long as it is good.
    fn answer(&self, kid: Option<&str>, now: Instant) -> Result<Arc<[Key]>, Unreachable> {
        let good = self.known.as_ref().filter(|known| now.saturating_duration_since(known.since) < GOOD);
        match (good, &self.failed) {
            (Some(known), _) => Ok(known.named(kid)),
            (None, Some((_, why))) => Err(why.clone()),
            (None, None) => Err(Unreachable("nobody has asked for them yet".to_owned())),
        }
    }
}

impl Known {
    fn named(&self, kid: Option<&str>) -> Arc<[Key]> {
        match kid {
            Some(kid) => self.keys.iter().filter(|key| key.id.as_deref() == Some(kid)).cloned().collect(),
            None if self.keys.len() == 1 => Arc::clone(&self.keys),
            None => Arc::default(),
        }
    }
}

/// A key as it is published, as far as it is of use here.
#[derive(Debug, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// All keys of a set that signatures can be checked by here. Others, and what nobody can read, may stand beside them
/// (RFC 7517 §5); a secret in a public place is none.
fn keys(json: &[u8]) -> Result<Vec<Key>, Unreachable> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    let set: Set =
        serde_json::from_slice(json).map_err(|_| Unreachable("the answer is no JWK set".to_owned()))?;
    let jwks = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let keys: Vec<_> = jwks.filter_map(|jwk| key(&jwk)).take(MOST_KEYS).collect();
    if keys.is_empty() {
        return Err(Unreachable("the set has no public key for RS256 or ES256".to_owned()));
    }
    Ok(keys)
}

fn key(jwk: &Jwk) -> Option<Key> {
    let decoded = |text: &Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
    let (algorithm, name, decoding) = match &*jwk.kty {
        "RSA" => {
            let (n, e) = (decoded(&jwk.n)?, decoded(&jwk.e)?);
            let leading = n.iter().take_while(|byte| **byte == 0).count();
            if !RSA_BYTES.contains(&(n.len() - leading)) {
                return None;
            }
            (Algorithm::RS256, "RS256", DecodingKey::from_rsa_raw_components(&n[leading..], &e))
        }
        "EC" if jwk.crv.as_deref() == Some("P-256") => {
            let (x, y) = (decoded(&jwk.x)?, decoded(&jwk.y)?);
            if [x.len(), y.len()] != [P256_BYTES; 2] {
                return None;
            }
            (Algorithm::ES256, "ES256", DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()))
        }
        _ => return None,
    };
    let signs = jwk.purpose.as_deref().is_none_or(|purpose| purpose == "sig");
    let verifies = jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    let is_its = jwk.alg.as_deref().is_none_or(|alg| alg == name);
    (signs && verifies && is_its).then(|| Key { id: jwk.kid.clone(), algorithm, decoding })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That of RFC 7517 §A.1, with its `kid`.
    const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","use":"enc","kid":"1"}"#;

    fn set(keys: &str) -> Result<usize, Unreachable> {
        super::keys(format!("{{\"keys\":[{keys}]}}").as_bytes()).map(|keys| keys.len())
    }

    #[test]
    fn a_key_is_one_for_signatures_of_a_size_that_is_none_to_break() {
        let signs = P256.replace("\"use\":\"enc\",", "");
        assert_eq!(set(&signs), Ok(1));
        for (from, to) in [
            ("\"kid\"", "\"use\":\"enc\",\"kid\""),
            ("\"kid\"", "\"alg\":\"ES384\",\"kid\""),
            ("\"kid\"", "\"alg\":\"RS256\",\"kid\""),
            ("\"kid\"", "\"key_ops\":[\"sign\"],\"kid\""),
            ("P-256", "P-384"),
            ("MKBC", "MKBCMKBC"),
            ("MKBC", "====MKBC"),
            ("\"EC\"", "\"oct\""),
            ("\"EC\"", "7"),
        ] {
            let wrong = signs.replacen(from, to, 1);
            assert_ne!(wrong, signs);
            assert!(set(&wrong).is_err(), "{wrong}");
            assert_eq!(set(&format!("{wrong},{signs}")), Ok(1), "{wrong}");
        }
        for bits in [1_024, 16_384] {
            let n = BASE64_URL_SAFE_NO_PAD.encode(vec![0xff; bits / 8]);
            assert!(set(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#)).is_err(), "{bits}");
        }
        for document in ["", "[]", "{}", "{\"keys\":{}}", "null"] {
            assert!(super::keys(document.as_bytes()).is_err(), "{document}");
        }
    }

    fn known(kids: &[&str], since: Instant) -> State {
        let key = |kid: &&str| Key {
            id: Some((*kid).to_owned()),
            algorithm: Algorithm::HS256,
            decoding: DecodingKey::from_secret(b""),
        };
        State { known: Some(Known { keys: kids.iter().map(key).collect(), since }), ..State::default() }
    }

    /// How many keys there are for a token; `None` where they are asked for first.
    fn found(state: &State, kid: Option<&str>, now: Instant) -> Option<Result<usize, Unreachable>> {
        match state.next(kid, now) {
            Next::Ask { .. } => None,
            Next::Answer(answer) => Some(answer.map(|keys| keys.len())),
        }
    }

    #[test]
    fn what_is_known_is_asked_for_again_when_it_is_old_or_lacks_a_key() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut state = known(&["1", "2"], begun);
        assert_eq!(found(&state, Some("1"), after(599)), Some(Ok(1)));
        assert_eq!(found(&state, None, after(1)), None);
        assert_eq!(found(&state, Some("3"), after(1)), None);
        assert_eq!(found(&state, Some("1"), after(600)), None);
        assert_eq!(found(&State::default(), Some("1"), begun), None);
        state.for_unknown = Some(after(1));
        assert_eq!(found(&state, Some("3"), after(30)), Some(Ok(0)));
        assert_eq!(found(&state, Some("3"), after(31)), None);
        assert_eq!(found(&known(&["1"], begun), None, after(1)), Some(Ok(1)));
    }

    #[test]
    fn while_they_cannot_be_had_those_of_the_last_hour_are_good() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut state = known(&["1"], begun);
        let away = Unreachable("away".to_owned());
        state.failed = Some((after(700), away.clone()));
        assert_eq!(found(&state, Some("1"), after(704)), Some(Ok(1)));
        assert_eq!(found(&state, Some("1"), after(705)), None);
        state.failed = Some((after(3_600), away.clone()));
        assert_eq!(found(&state, Some("1"), after(3_600)), Some(Err(away)));
    }

    #[test]
    fn what_may_be_secret_in_its_url_is_not_shown() {
        let jwks = Jwks::of(&"https://u:hush@keys.example/set?key=hush".parse().unwrap()).unwrap();
        assert_eq!(jwks.to_string(), "https://keys.example/set");
        assert!(!format!("{jwks:?}").contains("hush"));
    }
}
