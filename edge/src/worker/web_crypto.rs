//! The arithmetic, done by the runtime.

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Crypto as JsCrypto, CryptoKey, SubtleCrypto};
use worker::console_error;
use worker::js_sys::{Array, JsString, Object, Reflect, Uint8Array, global};

use super::steps::outcome;
use crate::crypto::{Algorithm, Crypto, TrustedKey, halves};
use crate::signed_url::Hash;

/// As WebCrypto calls it.
const RSA: &str = "RSASSA-PKCS1-v1_5";

/// The runtime's `crypto.subtle`.
pub(super) struct WebCrypto;

impl Crypto for WebCrypto {
    async fn verify(&self, key: &TrustedKey, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        match verify(key, hash, message, signature).await {
            Ok(valid) => valid,
            Err(error) => {
                console_error!("WebCrypto, key {}: {error:?}", key.id());
                false
            }
        }
    }
}

async fn verify(key: &TrustedKey, hash: Hash, message: &[u8], signature: &[u8]) -> Result<bool, JsValue> {
    let raw;
    let signature = match key.algorithm() {
        Algorithm::Rsa => signature,
        Algorithm::P256 => match halves(signature) {
            Some(halves) => {
                raw = halves;
                &raw[..]
            }
            None => return Ok(false),
        },
    };
    let imported = imported(key, hash).await?;
    let Imported { subtle, algorithm, key } = &*imported;
    // Views of our memory will do: WebCrypto has to copy what it is given before it returns.
    let checked = subtle.verify_with_object_and_u8_array_and_u8_array(algorithm, key, signature, message)?;
    Ok(outcome(checked.unchecked_into()).await?.is_truthy())
}

/// A key as the runtime holds it, with all else that a check needs: at each step into JavaScript that is saved,
/// as much is saved as the rest of a request's parsing costs.
struct Imported {
    subtle: SubtleCrypto,
    algorithm: Object,
    key: CryptoKey,
}

/// The key, imported once for the life of the isolate, even if that fails: it would fail at each request again, and
/// whoever knows the key's id could ask for that. An RSA key is imported for one hash.
async fn imported(trusted: &TrustedKey, hash: Hash) -> Result<Rc<Imported>, JsValue> {
    /// So few that to look through them is fastest.
    type Keys = Vec<(String, Hash, Result<Rc<Imported>, JsValue>)>;
    thread_local! {
        static KEYS: RefCell<Keys> = const { RefCell::new(Vec::new()) };
    }
    let known = KEYS.with_borrow(|keys| {
        keys.iter().find(|(id, for_hash, _)| id == trusted.id() && *for_hash == hash).map(|key| key.2.clone())
    });
    if let Some(imported) = known {
        return imported;
    }
    let imported = import(trusted, hash).await.map(Rc::new);
    // Two requests may have imported it at once; the first is found from now on.
    KEYS.with_borrow_mut(|keys| keys.push((trusted.id().to_owned(), hash, imported.clone())));
    imported
}

async fn import(trusted: &TrustedKey, hash: Hash) -> Result<Imported, JsValue> {
    let (subtle, parameters) = (subtle()?, parameters(trusted, hash)?);
    let usages = Array::of1(&"verify".into());
    let spki: Object = Uint8Array::from(trusted.spki()).unchecked_into();
    let import = subtle.import_key_with_object("spki", &spki, &parameters, false, &usages)?;
    let algorithm = match trusted.algorithm() {
        // By its name alone, which the runtime reads faster than an object: an RSA key knows its hash.
        Algorithm::Rsa => JsString::from(RSA).unchecked_into(),
        Algorithm::P256 => parameters,
    };
    let key = outcome(import.unchecked_into()).await?.unchecked_into();
    Ok(Imported { subtle, algorithm, key })
}

/// `RsaHashedImportParams` and `EcKeyImportParams`, `EcdsaParams`: what one of them does not know it does not read.
fn parameters(key: &TrustedKey, hash: Hash) -> Result<Object, JsValue> {
    let digest = match hash {
        Hash::Sha1 => "SHA-1",
        Hash::Sha256 => "SHA-256",
    };
    let name = match key.algorithm() {
        Algorithm::Rsa => RSA,
        Algorithm::P256 => "ECDSA",
    };
    let parameters = Object::new();
    for (name, value) in [("name", name), ("hash", digest), ("namedCurve", "P-256")] {
        Reflect::set(&parameters, &name.into(), &value.into())?;
    }
    Ok(parameters)
}

fn subtle() -> Result<SubtleCrypto, JsValue> {
    let crypto: JsCrypto = Reflect::get(&global(), &"crypto".into())?.unchecked_into();
    Ok(crypto.subtle())
}
