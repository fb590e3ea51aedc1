//! The keys that are trusted, and the seam at which a signature is checked with one.
//!
//! Reading a key is the same everywhere and done here. Checking is the platform's: in a Worker the runtime's own
//! WebCrypto is 16 to 30 times faster than the same arithmetic compiled to WebAssembly, and not shipped with it.
//! Natively it is `Software`. The tests run both through the same signatures.

use crypto_bigint::modular::{ConstMontyForm, ConstMontyParams};
use crypto_bigint::{U256, const_monty_params};
use pkcs1::RsaPublicKey;
use pkcs1::der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, UintRef};
use pkcs1::der::{Decode, Encode, Reader, SliceReader};
use spki::SubjectPublicKeyInfoRef;

use crate::signed_url::Hash;

/// The shortest RSA key that is trusted. CloudFront takes 2,048 only.
const SHORTEST_RSA_BITS: usize = 2048;

/// The longest: what every implementation behind the seam takes.
const LONGEST_RSA_BITS: usize = 4096;

/// The public exponents that all implementations take: those of the Workers runtime, big-endian. Everybody's is 65,537.
const RSA_EXPONENTS: [&[u8]; 3] = [&[3], &[17], &[1, 0, 1]];

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");

/// A public key that an operator trusts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrustedKey {
    id: String,
    algorithm: Algorithm,
    spki: Vec<u8>,
}

/// What a key signs with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5.
    Rsa,
    /// ECDSA over P-256; a signature is ASN.1 DER.
    P256,
}

impl TrustedKey {
    /// Reads a public key in PEM, under the id that URLs name it by. The error is a sentence about it.
    pub fn parse(id: &str, pem: &str) -> Result<Self, String> {
        if !is_plain(id) {
            return Err("an id is made of letters, digits, - and _, 64 at most".to_owned());
        }
        if pem.contains("PRIVATE KEY") {
            return Err("this is a private key, which must not be here: take the public one \
                        (`openssl pkey -in private.pem -pubout`), and retire this pair"
                .to_owned());
        }
        let no_key =
            |_| "no public key in PEM (-----BEGIN PUBLIC KEY-----, lines separated by \\n)".to_owned();
        let (label, der) = pkcs1::der::pem::decode_vec(pem.trim().as_bytes()).map_err(no_key)?;
        let spki = match label {
            "PUBLIC KEY" => der,
            "RSA PUBLIC KEY" => wrapped(&der).ok_or_else(|| "no RSA public key in it".to_owned())?,
            label => return Err(format!("a {label}, where a PUBLIC KEY should be")),
        };
        let algorithm = algorithm(&spki)?;
        Ok(Self { id: id.to_owned(), algorithm, spki })
    }

    /// The id that URLs name it by.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it signs with.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key in DER, as a `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }
}

/// Whether this can be a key pair's id, which goes into links and logs as it is.
#[must_use]
pub fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=64).contains(&id.len()) && id.bytes().all(plain)
}

/// What a key signs with. One that could never verify anything is refused here, not at each request.
fn algorithm(spki: &[u8]) -> Result<Algorithm, String> {
    let unknown = || "neither an RSA key nor one on the curve P-256".to_owned();
    let info = SubjectPublicKeyInfoRef::from_der(spki).map_err(|_| unknown())?;
    let key = info.subject_public_key.as_bytes().ok_or_else(unknown)?;
    if info.algorithm.oid == RSA && info.algorithm.parameters == Some(AnyRef::NULL) {
        let key = RsaPublicKey::from_der(key).map_err(|_| unknown())?;
        return check_rsa(&key).map(|()| Algorithm::Rsa);
    }
    let on_p256 = info.algorithm.oid == EC && info.algorithm.parameters_oid() == Ok(P256);
    // 04 and both coordinates: the only form that all implementations take.
    match key.split_first() {
        Some((4, point)) if on_p256 && point.len() == 64 => {
            if is_on_curve(point) {
                Ok(Algorithm::P256)
            } else {
                Err("its point is not on the curve P-256: it was damaged on its way here".to_owned())
            }
        }
        _ => Err(unknown()),
    }
}

fn check_rsa(key: &RsaPublicKey<'_>) -> Result<(), String> {
    let modulus = key.modulus.as_bytes();
    let bits = significant_bits(modulus);
    if bits < SHORTEST_RSA_BITS {
        Err(format!("{bits} bits are too few, it takes {SHORTEST_RSA_BITS}"))
    } else if bits > LONGEST_RSA_BITS {
        Err(format!("{bits} bits are too many, at most {LONGEST_RSA_BITS} work"))
    } else if modulus.last().is_none_or(|last| last % 2 == 0) {
        Err("its modulus is even, so it is no RSA key: it was damaged on its way here".to_owned())
    } else if !RSA_EXPONENTS.contains(&key.public_exponent.as_bytes()) {
        Err("its public exponent is not 65537 (3 and 17 work too); make another pair".to_owned())
    } else {
        Ok(())
    }
}

const_monty_params!(
    Field,
    U256,
    "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
    "The numbers below the p of P-256."
);

/// Whether two coordinates are those of a point on P-256: y² = x³ - 3x + b, both below p ([SEC 2 §2.4.2]).
///
/// [SEC 2 §2.4.2]: https://www.secg.org/sec2-v2.pdf
fn is_on_curve(point: &[u8]) -> bool {
    const B: U256 = U256::from_be_hex("5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604b");
    let [x, y] = [0..32, 32..64].map(|half| U256::from_be_slice(point.get(half).unwrap_or_default()));
    if x.max(y) >= *Field::PARAMS.modulus().as_ref() {
        return false;
    }
    let [x, y, b] = [x, y, B].map(|number| ConstMontyForm::<Field, { U256::LIMBS }>::new(&number));
    y.square() == x.square() * x - (x + x + x) + b
}

fn significant_bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

/// A PKCS#1 key as a `SubjectPublicKeyInfo`.
fn wrapped(pkcs1: &[u8]) -> Option<Vec<u8>> {
    RsaPublicKey::from_der(pkcs1).ok()?;
    let algorithm = spki::AlgorithmIdentifier { oid: RSA, parameters: Some(AnyRef::NULL) };
    let subject_public_key = BitStringRef::from_bytes(pkcs1).ok()?;
    spki::SubjectPublicKeyInfo { algorithm, subject_public_key }.to_der().ok()
}

/// Whoever does the arithmetic.
#[expect(async_fn_in_trait, reason = "Workers futures are not Send, and nobody spawns these")]
pub trait Crypto {
    /// Whether `signature` is `key`'s, over `message`. What cannot be checked is not.
    async fn verify(&self, key: &TrustedKey, hash: Hash, message: &[u8], signature: &[u8]) -> bool;
}

/// The two halves, 32 bytes each, of an ECDSA signature in strict DER: what WebCrypto wants it to be.
#[must_use]
pub fn halves(signature: &[u8]) -> Option<[u8; 64]> {
    let mut reader = SliceReader::new(signature).ok()?;
    let (r, s) = reader.sequence(|reader| Ok((UintRef::decode(reader)?, UintRef::decode(reader)?))).ok()?;
    reader.finish(()).ok()?;
    let mut halves = [0; 64];
    for (half, number) in halves.chunks_exact_mut(32).zip([r.as_bytes(), s.as_bytes()]) {
        let start = half.len().checked_sub(number.len())?;
        half.get_mut(start..)?.copy_from_slice(number);
    }
    Some(halves)
}

/// The arithmetic in Rust, where there is no WebCrypto.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Clone, Copy, Debug)]
pub struct Software;

#[cfg(not(target_arch = "wasm32"))]
impl Crypto for Software {
    async fn verify(&self, key: &TrustedKey, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        use sha1::{Digest, Sha1};
        use sha2::Sha256;
        match (key.algorithm, hash) {
            (Algorithm::Rsa, Hash::Sha1) => rsa_verify::<Sha1>(key, message, signature),
            (Algorithm::Rsa, Hash::Sha256) => rsa_verify::<Sha256>(key, message, signature),
            (Algorithm::P256, Hash::Sha1) => p256_verify(key, &Sha1::digest(message), signature),
            (Algorithm::P256, Hash::Sha256) => p256_verify(key, &Sha256::digest(message), signature),
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn rsa_verify<D>(key: &TrustedKey, message: &[u8], signature: &[u8]) -> bool
where
    D: sha1::Digest + rsa::pkcs8::AssociatedOid,
{
    use rsa::pkcs1v15::{Signature, VerifyingKey};
    use rsa::pkcs8::DecodePublicKey;
    use rsa::signature::Verifier;
    let key = rsa::RsaPublicKey::from_public_key_der(&key.spki).map(VerifyingKey::<D>::new);
    let signature = Signature::try_from(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(message, &signature).is_ok())
}

#[cfg(not(target_arch = "wasm32"))]
fn p256_verify(key: &TrustedKey, digest: &[u8], signature: &[u8]) -> bool {
    use p256::ecdsa::signature::hazmat::PrehashVerifier;
    use p256::ecdsa::{Signature, VerifyingKey};
    use p256::pkcs8::DecodePublicKey;
    // A digest shorter than the field is filled up on the left, as SHA-1's is; p256 asks for that to be done.
    let mut field = [0; 32];
    let Some(start) = field.len().checked_sub(digest.len()) else { return false };
    if let Some(end) = field.get_mut(start..) {
        end.copy_from_slice(digest);
    }
    let key = VerifyingKey::from_public_key_der(&key.spki);
    let signature = halves(signature).and_then(|halves| Signature::from_slice(&halves).ok());
    matches!((key, signature), (Ok(key), Some(signature)) if key.verify_prehash(&field, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_in_der_has_two_halves() {
        let small = [0x30, 6, 2, 1, 1, 2, 1, 2];
        let halves_of_small = halves(&small).unwrap();
        assert_eq!((halves_of_small[31], halves_of_small[63]), (1, 2));
        assert_eq!(halves_of_small.iter().map(|&byte| u32::from(byte)).sum::<u32>(), 3);
        let mut large = vec![0x30, 70, 2, 33, 0];
        large.extend([0xff; 32]);
        large.extend([2, 33, 0]);
        large.extend([0xff; 32]);
        assert_eq!(halves(&large), Some([0xff; 64]));
        for bad in [
            &b""[..],
            &[0x30, 6, 2, 1, 1, 2, 1],
            &[0x30, 6, 2, 1, 1, 2, 1, 2, 0],
            &[0x30, 7, 2, 1, 1, 2, 2, 0, 2],
            &[0x30, 6, 2, 1, 0xff, 2, 1, 2],
            &[0x30, 3, 2, 1, 1],
            &[0x30, 9, 2, 1, 1, 2, 1, 2, 2, 1, 3],
        ] {
            assert_eq!(halves(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_public_key_says_why() {
        let problem = |pem: &str| TrustedKey::parse("K1", pem).unwrap_err();
        assert!(problem("hello").contains("no public key in PEM"));
        assert!(problem("-----BEGIN RSA PRIVATE KEY-----").contains("private key"));
        assert!(
            problem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----").contains("a CERTIFICATE")
        );
        assert!(problem("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").contains("neither"));
        assert!(TrustedKey::parse("K 1", "").unwrap_err().contains("an id"));
    }
}
