//! A request's URL, taken apart into what was signed, who signed it, and what is asked for.

use std::borrow::Cow;

use http::Uri;
use percent_encoding::percent_decode_str;

use crate::key_group::Denied;
use crate::policy::{self, Location, Policy, Resource};

/// A URL with a policy and a signature in its query. Nothing in it is trusted yet.
#[derive(Debug)]
pub struct SignedUrl<'a> {
    /// What is asked for.
    pub(crate) location: Location<'a>,
    /// What is claimed to be allowed.
    pub(crate) policy: Policy,
    /// The exact bytes that were signed.
    pub(crate) signed: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) hash: Hash,
    pub(crate) key_pair_id: String,
    /// The signing parameters, to hand on to the links of a playlist: in our order and our spelling, so
    /// that a link comes out the same at every reload, whether or not a player sorted or re-encoded them: a player
    /// that adds `_HLS_msn` has to sort, and one whose segments change their names may stop.
    pub(crate) authority: String,
}

/// The digest that is signed. `Hash-Algorithm` chooses it; it is not signed itself and need not be, because a
/// PKCS#1 signature names its digest.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Hash {
    /// What CloudFront takes where nothing is said.
    #[default]
    Sha1,
    /// Since 2026.
    Sha256,
}

/// The order in which AWS's SDKs write the signing parameters.
const ORDER: [&str; 5] = ["Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"];

impl<'a> SignedUrl<'a> {
    /// Reads the signing parameters of an absolute `uri`.
    ///
    /// Names and values are compared percent-decoded: some players write `~` as `%7E` when they add a
    /// parameter of their own, and some signers always do.
    pub fn parse(uri: &'a Uri) -> Result<Self, Denied> {
        let (mut policy, mut expires, mut signature, mut key_pair_id, mut hash) =
            (None, None, None, None, None);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, parameter) = match &*decode(name) {
                "Policy" => ("Policy", &mut policy),
                "Expires" => ("Expires", &mut expires),
                "Signature" => ("Signature", &mut signature),
                "Key-Pair-Id" => ("Key-Pair-Id", &mut key_pair_id),
                "Hash-Algorithm" => ("Hash-Algorithm", &mut hash),
                _ => {
                    theirs.push(pair);
                    continue;
                }
            };
            let value = decode(value);
            ours.push((name, value.clone()));
            // A repeated parameter has two readings, so it has none.
            if parameter.replace(value).is_some() {
                return Err(Denied::Repeated(name));
            }
        }
        if ours.is_empty() {
            return Err(Denied::Unsigned);
        }

        let location = Location::new(uri, theirs.join("&"));
        let key_pair_id =
            key_pair_id.filter(|id: &Cow<'_, str>| !id.is_empty()).ok_or(Denied::NoKeyPair)?.into_owned();
        let signature = signature
            .and_then(|text: Cow<'_, str>| policy::decode(&text))
            .filter(|bytes| !bytes.is_empty())
            .ok_or(Denied::SignatureUnreadable)?;
        let hash = match hash.as_deref() {
            None | Some("SHA1") => Hash::Sha1,
            Some("SHA256") => Hash::Sha256,
            Some(_) => return Err(Denied::UnknownHash),
        };
        // Some signers send both forms; CloudFront then goes by the policy.
        let (policy, signed, redundant) = match (policy, expires) {
            (Some(text), _) => {
                let signed = policy::decode(&text)
                    .ok_or_else(|| Denied::PolicyUnreadable("it is not CloudFront's base64".to_owned()))?;
                let policy =
                    Policy::parse(&signed).map_err(|error| Denied::PolicyUnreadable(error.to_string()))?;
                (policy, signed, "Expires")
            }
            (None, Some(text)) => canned(&location, &text)?,
            (None, None) => return Err(Denied::PolicyUnreadable("there is none".to_owned())),
        };
        ours.sort_by_key(|(name, _)| ORDER.iter().position(|known| known == name));
        let authority = ours
            .iter()
            .filter(|(name, _)| *name != redundant)
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join("&");
        Ok(Self { location, policy, signed, signature, hash, key_pair_id, authority })
    }
}

fn canned(location: &Location<'_>, expires: &str) -> Result<(Policy, Vec<u8>, &'static str), Denied> {
    let unreadable = |reason: &str| Denied::PolicyUnreadable(reason.to_owned());
    let expires = policy::epoch(expires).ok_or_else(|| unreadable("Expires is no Unix time up to 2038"))?;
    let url = location.to_string();
    let signed =
        policy::canned(&url, expires).ok_or_else(|| unreadable("the URL cannot stand in a canned policy"))?;
    let policy = Policy { resource: Resource::Exactly(url), expires, starts: None, address: None };
    Ok((policy, signed.into_bytes(), ""))
}

/// What is no UTF-8 cannot be the name or the value of anything that we know: it stays as it was written.
fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]}` by openssl.
    const POLICY: &str = "eyJTdGF0ZW1lbnQiOlt7IlJlc291cmNlIjoiKiIsIkNvbmRpdGlvbiI6eyJEYXRlTGVzc1RoYW4iOnsiQVdTOkVwb2NoVGltZSI6MX19fV19";

    fn parse(query: &str) -> Result<(String, String, String), Denied> {
        let uri: Uri = format!("https://v.example/a/1.m4s{query}").parse().unwrap();
        let url = SignedUrl::parse(&uri)?;
        Ok((url.location.to_string(), String::from_utf8(url.signed).unwrap(), url.authority))
    }

    #[test]
    fn a_canned_policy_is_rebuilt_around_the_viewers_own_query() {
        let (location, signed, authority) =
            parse("?b=2&Expires=5&a&Signature=AA__&&Key-Pair-Id=K1&c=").unwrap();
        assert_eq!(location, "https://v.example/a/1.m4s?b=2&a&c=");
        assert_eq!(
            signed,
            r#"{"Statement":[{"Resource":"https://v.example/a/1.m4s?b=2&a&c=","Condition":{"DateLessThan":{"AWS:EpochTime":5}}}]}"#
        );
        assert_eq!(authority, "Expires=5&Signature=AA__&Key-Pair-Id=K1");
    }

    #[test]
    fn a_custom_policy_is_taken_as_it_was_signed() {
        let (location, signed, authority) =
            parse(&format!("?Key-Pair-Id=K1&Signature=%2d%7E8%5F&Polic%79={POLICY}&Hash-Algorithm=SHA1"))
                .unwrap();
        assert_eq!(location, "https://v.example/a/1.m4s");
        assert_eq!(
            signed,
            r#"{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]}"#
        );
        assert_eq!(authority, format!("Policy={POLICY}&Signature=-~8_&Key-Pair-Id=K1&Hash-Algorithm=SHA1"));
    }

    #[test]
    fn a_policy_wins_over_an_expiry() {
        let (_, signed, authority) =
            parse(&format!("?Expires=%22&Policy={POLICY}&Signature=AA__&Key-Pair-Id=K1")).unwrap();
        assert!(signed.contains(r#""Resource":"*""#));
        assert_eq!(authority, format!("Policy={POLICY}&Signature=AA__&Key-Pair-Id=K1"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(parse("").unwrap_err(), Denied::Unsigned);
        assert_eq!(parse("?policy=x&expires=1").unwrap_err(), Denied::Unsigned);
        assert_eq!(parse("?Expires=5&Signature=AA__").unwrap_err(), Denied::NoKeyPair);
        assert_eq!(parse("?Expires=5&Signature=AA__&Key-Pair-Id=").unwrap_err(), Denied::NoKeyPair);
        for signature in
            ["", "&Signature", "&Signature=", "&Signature=AA==", "&Signature=+/8=", "&Signature=A"]
        {
            let url = parse(&format!("?Expires=5&Key-Pair-Id=K1{signature}"));
            assert_eq!(url.unwrap_err(), Denied::SignatureUnreadable, "{signature}");
        }
        for hash in ["", "sha1", "SHA-1", "MD5"] {
            let url = parse(&format!("?Expires=5&Key-Pair-Id=K1&Signature=AA__&Hash-Algorithm={hash}"));
            assert_eq!(url.unwrap_err(), Denied::UnknownHash, "{hash}");
        }
        for policy in
            ["", "Policy=", "Policy=AA", "Policy=AA__", "Expires=", "Expires=05", "Expires=9999999999999"]
        {
            let url = parse(&format!("?Key-Pair-Id=K1&Signature=AA__&{policy}"));
            assert!(matches!(url.unwrap_err(), Denied::PolicyUnreadable(_)), "{policy}");
        }
    }

    #[test]
    fn a_repeated_parameter_is_refused_however_it_is_spelt() {
        let whole = format!("?Policy={POLICY}&Signature=AA__&Key-Pair-Id=K1");
        for again in ["Key-Pair-Id=K1", "Key%2DPair%2DId=K2", "Signature=AA__", "Policy=x", "%50olicy=x"] {
            assert!(
                matches!(parse(&format!("{whole}&{again}")).unwrap_err(), Denied::Repeated(_)),
                "{again}"
            );
        }
    }
}
