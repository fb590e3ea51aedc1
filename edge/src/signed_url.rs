//! A request's URL and cookies, taken apart into what was signed, who signed it, and what is asked for.

use std::borrow::Cow;
use std::fmt;

use http::Uri;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

use crate::crypto::is_plain;
use crate::key_group::Denied;
use crate::policy::{self, Dialect, Location, Policy, Resource};

/// The signing parameters of a query, in the order in which they are handed on. As cookies they are called
/// `CloudFront-…`.
const NAMES: [&str; 5] = ["Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"];

/// How long a name among them is at least, and so a parameter with one, however it is written.
const SHORTEST_NAME: usize = "Policy".len();

/// What their names begin with as cookies.
const COOKIE: &str = "CloudFront-";

/// A request with a policy and a signature. Nothing in it is trusted yet.
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
    /// The signing parameters that are handed on to the links of a playlist: in our order and our spelling, so that a link
    /// comes out the same at every reload, whether or not a player sorted or re-encoded them: a player that adds
    /// `_HLS_msn` has to sort, and one whose segments change their names may stop. Empty for cookies, which a browser
    /// hands on by itself.
    handed_on: Parameters<'a>,
    /// How else a canned URL may have been signed: without what players added to it.
    tolerant: Option<Tolerant>,
}

/// A canned URL without the parameters that players add, if there are any.
#[derive(Debug)]
struct Tolerant {
    signed: Vec<u8>,
    left_out: Vec<String>,
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

impl Hash {
    /// As `Hash-Algorithm` spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }
}

/// The signing parameters that were found in one place.
#[derive(Debug, Default)]
struct Parameters<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl Parameters<'_> {
    fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| *found == name).map(|(_, value)| &**value)
    }

    /// Whether there is all that a signature takes.
    fn are_whole(&self) -> bool {
        let is_there = |name| self.value(name).is_some();
        is_there("Key-Pair-Id") && is_there("Signature") && (is_there("Policy") || is_there("Expires"))
    }

    /// A repeated parameter has two readings, so it has none.
    fn repeated(&self) -> Option<&'static str> {
        NAMES.into_iter().find(|name| self.0.iter().filter(|(found, _)| found == name).count() > 1)
    }
}

impl<'a> SignedUrl<'a> {
    /// Reads the signing parameters of an absolute `uri`, or else of `cookies`, the request's `Cookie`.
    ///
    /// One of them in the query is enough for no cookie to be looked at, as with CloudFront. Of those with the suffix,
    /// which CloudFront does not know, it takes a whole set: fewer sign nothing, and what CloudFront opens by its
    /// cookies stays open. They are nobody's own in any case. Names and values are compared percent-decoded: some
    /// players write `~` as `%7E` when they add a parameter of their own, and some signers always do.
    pub fn parse(uri: &'a Uri, cookies: Option<&str>, dialect: &Dialect) -> Result<Self, Unreadable> {
        let (mut plain, mut suffixed) = (Parameters::default(), Parameters::default());
        let query = uri.query().unwrap_or_default();
        let mut own = String::with_capacity(query.len());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            // Somebody may send thousands: most are the viewer's own by their length alone.
            if pair.len() >= SHORTEST_NAME {
                let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                let name = decode(name);
                if let Some(name) = known(&name) {
                    plain.0.push((name, decode(value)));
                    continue;
                }
                if let Some(name) = name.strip_suffix(&*dialect.suffix).and_then(known) {
                    suffixed.0.push((name, decode(value)));
                    continue;
                }
            }
            append(&mut own, pair);
        }
        let (in_query, elsewhere) = if !plain.0.is_empty() {
            (plain, Parameters::default())
        } else if suffixed.are_whole() {
            (suffixed, Parameters::default())
        } else {
            match in_cookies(cookies.unwrap_or_default()) {
                // What is missing in the query is then worth saying.
                cookies if cookies.0.is_empty() => (suffixed, cookies),
                cookies => (Parameters::default(), cookies),
            }
        };
        let parameters = if elsewhere.0.is_empty() { &in_query } else { &elsewhere };
        if parameters.0.is_empty() {
            return Err(Denied::Unsigned.into());
        }
        if let Some(name) = parameters.repeated() {
            return Err(Denied::Repeated(name).into());
        }

        // Anything else would be no id of ours either, and could be written to look like a line of the log.
        let key_pair_id =
            parameters.value("Key-Pair-Id").filter(|id| is_plain(id)).ok_or(Denied::NoKeyPair)?.to_owned();
        let signature = parameters
            .value("Signature")
            .and_then(policy::decode)
            .filter(|bytes| !bytes.is_empty())
            .ok_or(Denied::SignatureUnreadable)?;
        let Claims { location, policy, signed, hash, tolerant } = claims(uri, parameters, own, dialect)
            .map_err(|reason| Unreadable { reason, signer: Some(Signer::of(&key_pair_id, &signature)) })?;
        Ok(Self { location, policy, signed, signature, hash, key_pair_id, handed_on: in_query, tolerant })
    }

    /// The texts that may have been signed, each with the names of the viewer's own parameters that it leaves out:
    /// first the one that CloudFront knows, which leaves out none.
    pub(crate) fn readings(&self) -> impl Iterator<Item = (&[u8], &[String])> {
        let tolerant = self.tolerant.iter().map(|Tolerant { signed, left_out }| (&**signed, &**left_out));
        std::iter::once((&*self.signed, &[][..])).chain(tolerant)
    }

    /// What opens the links of a playlist as it opens this URL, as a query; nothing where a browser hands it on.
    #[must_use]
    pub fn authority(&self) -> String {
        let custom = self.handed_on.value("Policy").is_some();
        let names = NAMES.into_iter().filter(|&name| !(custom && name == "Expires"));
        let mut authority = String::new();
        for (name, value) in names.filter_map(|name| Some((name, self.handed_on.value(name)?))) {
            append(&mut authority, name);
            authority.push('=');
            authority.push_str(value);
        }
        authority
    }

    /// Which viewing it belongs to.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::of(&self.signature)
    }

    /// Who signed it, for the log: the key pair's id, and enough of the signature's digest to tell one session
    /// from another.
    #[must_use]
    pub fn signer(&self) -> Signer {
        Signer::of(&self.key_pair_id, &self.signature)
    }
}

/// A signed URL that cannot be read, or says what is not enforced here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// What is wrong with it.
    pub reason: Denied,
    /// Who claims to have signed it, where that much could be read.
    pub signer: Option<Signer>,
}

impl From<Denied> for Unreadable {
    fn from(reason: Denied) -> Self {
        Self { reason, signer: None }
    }
}

/// Who lets somebody in, or claims to, for the log: nothing in it opens anything.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signer {
    /// A key pair's id, or `ticket`.
    pub name: String,
    /// Which viewing it belongs to, where that can be told.
    pub session: Option<Session>,
}

impl Signer {
    fn of(key_pair_id: &str, signature: &[u8]) -> Self {
        Self { name: key_pair_id.to_owned(), session: Some(Session::of(signature)) }
    }
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        self.session.map_or(Ok(()), |session| write!(f, " {session}"))
    }
}

/// All that is asked for with one signature, by the beginning of the signature's SHA-256: enough to tell one viewing from
/// another in the log, where it opens nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Session(pub(crate) [u8; 6]);

impl Session {
    fn of(signature: &[u8]) -> Self {
        Self(Sha256::digest(signature).first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is said to be signed, whoever signed it.
struct Claims<'a> {
    location: Location<'a>,
    policy: Policy,
    signed: Vec<u8>,
    hash: Hash,
    tolerant: Option<Tolerant>,
}

/// Reads the claims. `own` is what of the query is the viewer's own.
fn claims<'a>(
    uri: &'a Uri,
    parameters: &Parameters<'_>,
    own: String,
    dialect: &Dialect,
) -> Result<Claims<'a>, Denied> {
    let hash = match parameters.value("Hash-Algorithm") {
        None | Some("SHA1") => Hash::Sha1,
        Some("SHA256") => Hash::Sha256,
        Some(_) => return Err(Denied::UnknownHash),
    };
    let location = Location::new(uri, own);
    // Some signers send both forms; CloudFront then goes by the policy.
    let (policy, signed, tolerant) = match (parameters.value("Policy"), parameters.value("Expires")) {
        (Some(text), _) => {
            let (policy, signed) = custom_policy(text, dialect)?;
            (policy, signed, None)
        }
        (None, Some(text)) => {
            let (policy, signed) = canned_policy(&location, text, dialect)?;
            (policy, signed, tolerant(uri, &location.query, text, dialect)?)
        }
        (None, None) => return Err(unreadable("there is none")),
    };
    Ok(Claims { location, policy, signed, hash, tolerant })
}

/// The reading of a canned URL without what players add to it, if they may add anything and did.
fn tolerant(uri: &Uri, own: &str, expires: &str, dialect: &Dialect) -> Result<Option<Tolerant>, Denied> {
    if dialect.players.is_empty() {
        return Ok(None);
    }
    let (mut kept, mut left_out) = (String::with_capacity(own.len()), Vec::new());
    for pair in own.split('&') {
        let name = pair.split('=').next().unwrap_or_default();
        if dialect.tolerates(&decode(name)) {
            left_out.push(name.to_owned());
        } else {
            append(&mut kept, pair);
        }
    }
    if left_out.is_empty() {
        return Ok(None);
    }
    let (_, signed) = canned_policy(&Location::new(uri, kept), expires, dialect)?;
    Ok(Some(Tolerant { signed, left_out }))
}

/// Adds a parameter to a query.
fn append(query: &mut String, pair: &str) {
    if !query.is_empty() {
        query.push('&');
    }
    query.push_str(pair);
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// The signing parameters of a `Cookie` header ([RFC 6265 §4.2.1]).
///
/// [RFC 6265 §4.2.1]: https://www.rfc-editor.org/rfc/rfc6265#section-4.2.1
fn in_cookies(header: &str) -> Parameters<'_> {
    let pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
    let ours = pairs.filter_map(|(name, value)| Some((known(name.strip_prefix(COOKIE)?)?, decode(value))));
    Parameters(ours.collect())
}

fn custom_policy(text: &str, dialect: &Dialect) -> Result<(Policy, Vec<u8>), Denied> {
    let signed = policy::decode(text).ok_or_else(|| unreadable("it is not CloudFront's base64"))?;
    let policy =
        Policy::parse(&signed, dialect).map_err(|error| Denied::PolicyUnreadable(error.to_string()))?;
    Ok((policy, signed))
}

fn canned_policy(
    location: &Location<'_>,
    expires: &str,
    dialect: &Dialect,
) -> Result<(Policy, Vec<u8>), Denied> {
    let expires = policy::epoch(expires, dialect).ok_or_else(|| unreadable("Expires is no Unix time"))?;
    let url = location.to_string();
    let signed =
        policy::canned(&url, expires).ok_or_else(|| unreadable("the URL cannot stand in a canned policy"))?;
    let policy = Policy { resource: Resource::Exactly(url), expires, starts: None, address: None };
    Ok((policy, signed.into_bytes()))
}

fn unreadable(reason: &str) -> Denied {
    Denied::PolicyUnreadable(reason.to_owned())
}

/// What is no UTF-8 cannot be the name or the value of anything that we know: it stays as it was written.
fn decode(text: &str) -> Cow<'_, str> {
    // Most have nothing to decode.
    if !text.as_bytes().contains(&b'%') {
        return Cow::Borrowed(text);
    }
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]}` by openssl.
    const POLICY: &str = "eyJTdGF0ZW1lbnQiOlt7IlJlc291cmNlIjoiKiIsIkNvbmRpdGlvbiI6eyJEYXRlTGVzc1RoYW4iOnsiQVdTOkVwb2NoVGltZSI6MX19fV19";

    fn parse(query: &str) -> Result<(String, String, String), Denied> {
        let uri: Uri = format!("https://v.example/a/1.m4s{query}").parse().unwrap();
        let url = SignedUrl::parse(&uri, None, &Dialect::default()).map_err(|error| error.reason)?;
        Ok((url.location.to_string(), String::from_utf8(url.signed.clone()).unwrap(), url.authority()))
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

    /// A set with the suffix, up to its expiry.
    const WHOLE: &str = "Signature-PREFIX=AA__&Key-Pair-Id-PREFIX=K1&Expires-PREFIX=";

    fn with_cookies(query: &str, cookies: &str) -> Result<(String, String), Denied> {
        let uri: Uri = format!("https://v.example/a/1.m4s{query}").parse().unwrap();
        let url = SignedUrl::parse(&uri, Some(cookies), &Dialect::default()).map_err(|error| error.reason)?;
        Ok((url.location.to_string(), url.authority()))
    }

    #[test]
    fn cookies_count_where_the_query_says_nothing() {
        let cookies = format!(
            "a=b; CloudFront-Policy={POLICY};CloudFront-Signature=AA__; CloudFront-Key-Pair-Id=K1; c; =; d=e=f"
        );
        let read = with_cookies("?a=1&policy=2", &cookies).unwrap();
        assert_eq!(read, ("https://v.example/a/1.m4s?a=1&policy=2".to_owned(), String::new()));
        for query in
            ["?Expires=5", "?Hash-Algorithm=SHA1", "?Key-Pair-Id=K1", "?Signature=", &format!("?{WHOLE}5_")]
        {
            assert!(with_cookies(query, &cookies).is_err(), "{query}");
        }
        // A set with the suffix that is not whole can sign nothing, and is no part of the URL either.
        for query in [
            "?Expires-PREFIX=1&a=1",
            "?a=1&Policy-PREFIX=x&Key-Pair-Id-PREFIX=K1",
            "?a=1&Signature-PREFIX=AA__&Signature-PREFIX=x",
        ] {
            let read = with_cookies(query, &cookies).unwrap();
            assert_eq!(read, ("https://v.example/a/1.m4s?a=1".to_owned(), String::new()), "{query}");
        }
        let (_, authority) = with_cookies(&format!("?{WHOLE}5"), &cookies).unwrap();
        assert_eq!(authority, "Expires=5&Signature=AA__&Key-Pair-Id=K1");
        assert_eq!(with_cookies("?Policy-PREFIX=x", "a=b").unwrap_err(), Denied::NoKeyPair);
        assert_eq!(with_cookies("", &cookies.to_lowercase()).unwrap_err(), Denied::Unsigned);
        let twice = format!("{cookies}; CloudFront-Key-Pair-Id=K1");
        assert_eq!(with_cookies("", &twice).unwrap_err(), Denied::Repeated("Key-Pair-Id"));
    }

    #[test]
    fn parameters_with_the_suffix_stand_in_for_plain_ones() {
        let suffixed = format!("Policy-PREFIX={POLICY}&Signature-PREFIX=AA__&Key-Pair-Id-PREFIX=K1");
        let plain = format!("Policy={POLICY}&Signature=AA__&Key-Pair-Id=K1");
        let (location, _, authority) = parse(&format!("?a=1&{suffixed}")).unwrap();
        assert_eq!((&*location, authority), ("https://v.example/a/1.m4s?a=1", plain.clone()));
        let (location, _, authority) = parse(&format!("?{suffixed}&{plain}&{suffixed}")).unwrap();
        assert_eq!((&*location, authority), ("https://v.example/a/1.m4s", plain));
        let mixed = format!("?{suffixed}&Key-Pair-Id=K1");
        assert_eq!(parse(&mixed).unwrap_err(), Denied::SignatureUnreadable);
    }

    #[test]
    fn what_players_add_may_be_tolerated_in_a_canned_url() {
        let uri: Uri =
            "https://v.example/1.m4s?CMCD=bs&v=2&_HLS_msn=3&Expires=5&Signature=AA__&Key-Pair-Id=K"
                .parse()
                .unwrap();
        let readings = |dialect: &Dialect| {
            let url = SignedUrl::parse(&uri, None, dialect).unwrap();
            let text = |signed: &[u8]| String::from_utf8_lossy(signed).into_owned();
            url.readings().map(|(signed, left_out)| (text(signed), left_out.join(" "))).collect::<Vec<_>>()
        };
        let whole =
            (policy::canned("https://v.example/1.m4s?CMCD=bs&v=2&_HLS_msn=3", 5).unwrap(), String::new());
        let without = (policy::canned("https://v.example/1.m4s?v=2", 5).unwrap(), "CMCD _HLS_msn".to_owned());
        assert_eq!(readings(&Dialect::default()), std::slice::from_ref(&whole));
        let players = vec!["CMCD*".to_owned(), "_HLS_*".to_owned()];
        assert_eq!(readings(&Dialect { players, ..Dialect::default() }), [whole.clone(), without]);
        let players = vec!["x".to_owned()];
        assert_eq!(readings(&Dialect { players, ..Dialect::default() }), [whole]);
    }
}
