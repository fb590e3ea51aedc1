//! Signs what was made, so that somebody may watch it.
//!
//! The texts that are signed are the edge's own ([`edge::policy`]): whoever checks the ticket defines it. Which
//! of CloudFront's two forms a URL gets follows from what is asked for; what would be signed in good faith and
//! refused later is refused, or warned of, here.

use std::path::{Path, PathBuf};

use edge::ObjectKey;
use edge::policy::{self, Cidr, LAST_SECOND, Location, Policy, Resource};
use http::Uri;
use jiff::{Span, SpanRelativeTo, Timestamp};
use rand_core::OsRng;
use rsa::pkcs1::DecodeRsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use rsa::traits::PublicKeyParts;
use rsa::{RsaPrivateKey, RsaPublicKey};
use sha1::Sha1;

/// The longest URL that is signed without a warning, in bytes: players built on ffmpeg cut at 4,096, and the
/// links in a playlist are longer than the URL of the playlist.
const LONG_URL: usize = 2_000;

/// Sign a URL, offline, so that whoever holds it may play it.
///
/// The URL of a playlist opens the playlist's folder, with all that it links to. Any other URL opens just
/// itself. A pattern with `*` instead of a URL gives a query to append to any URL that matches it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  transcoder sign https://video.example.com/assets/talk/index.m3u8 --expires 2h \\
    --key-pair-id K2JCJMDEHXQW5F --private-key keys/private.pem

On stdout there is the signed URL and nothing else.")]
pub struct Arguments {
    /// The URL to open, as the player will ask for it; or a pattern of URLs
    #[arg(value_name = "URL or pattern")]
    url: String,
    /// The id that the edge's `TRUSTED_KEYS` has for the key
    #[arg(long, env = "KEY_PAIR_ID", value_name = "ID")]
    key_pair_id: String,
    /// File with the RSA private key, in PEM (PKCS#8 or PKCS#1), without a pass phrase
    // Elsewhere a variable of this name often holds the key itself, and --help would print it.
    #[arg(long, env = "PRIVATE_KEY", hide_env_values = true, value_name = "FILE")]
    private_key: PathBuf,
    /// When it stops working: from now (2h, 30m, 7d), or a time in RFC 3339 (2026-12-31T18:00:00Z)
    #[arg(long, value_name = "WHEN")]
    expires: String,
    /// When it starts working: a time in RFC 3339, or from now
    #[arg(long, value_name = "WHEN")]
    starts: Option<String>,
    /// The only address, or range of addresses (192.0.2.0/24), that may use it
    #[arg(long, value_name = "CIDR")]
    ip: Option<String>,
    /// What it opens, where that is not what the URL suggests: a pattern with * for any run of characters
    #[arg(long, value_name = "PATTERN")]
    resource: Option<String>,
}

impl Arguments {
    /// The signed URL, for stdout. What should be known about it is said on stderr.
    pub fn run(self) -> Result<String, SignError> {
        let now = Timestamp::now();
        let order = Order {
            url: self.url,
            expires: moment("--expires", &self.expires, now)?,
            starts: self.starts.map(|text| moment("--starts", &text, now)).transpose()?,
            address: self.ip.map(|text| Cidr::parse(&text).ok_or(SignError::Address(text))).transpose()?,
            resource: self.resource,
        };
        let key = KeyPair::load(&self.key_pair_id, &self.private_key)?;
        let Signed { url, remarks } = key.sign(&order, now)?;
        for remark in remarks {
            eprintln!("transcoder sign: {remark}");
        }
        Ok(url)
    }
}

/// What shall be opened, to whom, and when.
#[derive(Clone, Debug)]
pub struct Order {
    /// A URL, or a pattern of URLs.
    pub url: String,
    /// Unix seconds from which on nothing is opened any more.
    pub expires: u64,
    /// Unix seconds up to which nothing is opened yet.
    pub starts: Option<u64>,
    /// The only addresses that are let in.
    pub address: Option<Cidr>,
    /// What is opened, where `url` alone does not say it.
    pub resource: Option<String>,
}

/// A URL that opens what was ordered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed {
    /// The URL; for a pattern the query alone.
    pub url: String,
    /// What its owner should know, a sentence each.
    pub remarks: Vec<String>,
}

/// A private key and the id that the edge knows its public half by.
#[derive(Debug)]
pub struct KeyPair {
    id: String,
    key: SigningKey<Sha1>,
}

impl KeyPair {
    /// Reads a key file.
    pub fn load(id: &str, path: &Path) -> Result<Self, SignError> {
        if path.to_string_lossy().contains("-----BEGIN") {
            return Err(SignError::KeyItself);
        }
        let unusable = |problem| SignError::KeyFile { path: path.to_owned(), problem };
        let pem = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        Self::parse(id, &pem).map_err(unusable)
    }

    /// Reads a key in PEM, PKCS#8 or PKCS#1. The error is a sentence about the key, without any of it.
    pub fn parse(id: &str, pem: &str) -> Result<Self, String> {
        let pem = pem.trim();
        if pem.contains("ENCRYPTED") {
            return Err(
                "it is protected by a pass phrase; write a copy without one, readable by you alone: \
                        `openssl pkey -in FILE -out plain.pem`"
                    .to_owned(),
            );
        }
        if pem.contains("BEGIN PUBLIC KEY") || pem.contains("BEGIN RSA PUBLIC KEY") {
            return Err("it is a public key; signing takes the private one".to_owned());
        }
        if pem.contains("BEGIN EC ") {
            return Err("it is an EC key; this version signs with RSA keys only".to_owned());
        }
        let key = RsaPrivateKey::from_pkcs8_pem(pem)
            .or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem))
            .map_err(|_| "it is no RSA private key in PEM (-----BEGIN PRIVATE KEY-----)".to_owned())?;
        if key.n().bits() < 2048 {
            return Err(format!("it has {} bits, the edge trusts 2048 and more", key.n().bits()));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if id.is_empty() || !id.bytes().all(plain) {
            return Err(format!("its id {id:?} must be made of letters, digits, - and _"));
        }
        Ok(Self { id: id.to_owned(), key: SigningKey::new(key) })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> RsaPublicKey {
        let key: &RsaPrivateKey = self.key.as_ref();
        key.to_public_key()
    }

    /// Signs an order: a canned policy where that can say it, which is shorter, else a custom one.
    pub fn sign(&self, order: &Order, now: Timestamp) -> Result<Signed, SignError> {
        let now = now.as_second().unsigned_abs();
        let Order { url, expires, starts, address, .. } = order.clone();
        if expires <= now {
            return Err(SignError::Past);
        }
        if starts.is_some_and(|starts| starts >= expires) {
            return Err(SignError::Never);
        }
        if expires > LAST_SECOND {
            return Err(SignError::TooFar);
        }
        let pattern = url.contains('*');
        if !pattern {
            well_formed(&url)?;
        }
        let mut remarks = Vec::new();
        let resource = match (&order.resource, playlists_folder(&url)) {
            (Some(resource), _) => Some(resource.clone()),
            (None, _) if pattern => Some(url.clone()),
            (None, Some(folder)) => {
                remarks.push(format!("opens {folder}, which is all that the playlist links to"));
                Some(folder)
            }
            (None, None) => (starts.is_some() || address.is_some()).then(|| url.clone()),
        };
        let Some(resource) = resource else {
            let text = policy::canned(&url, expires).ok_or_else(|| {
                SignError::Url(url.clone(), "has characters that a player will percent-encode; write them so")
            })?;
            return Ok(Signed { url: self.seal(&url, &format!("Expires={expires}"), &text), remarks });
        };
        let resource = checked(resource, (!pattern).then_some(&url))?;
        if resource == "*" {
            remarks.push("opens everything that the edge serves".to_owned());
        }
        if address.is_some_and(|cidr| cidr.to_string().contains(':')) {
            remarks.push("CloudFront itself knows no IPv6 address; the edge does".to_owned());
        }
        let policy = Policy { resource: Resource::Pattern(resource), expires, starts, address };
        let text = policy.to_json();
        let query = format!("Policy={}", policy::encode(text.as_bytes()));
        let url = self.seal(if pattern { "" } else { &url }, &query, &text);
        if url.len() > LONG_URL {
            remarks.push(format!("has {} bytes; some players cut links at 4096", url.len()));
        }
        Ok(Signed { url, remarks })
    }

    /// Appends a policy and its signature to `url`.
    fn seal(&self, url: &str, policy: &str, signed: &str) -> String {
        // Blinded, so that the time it takes says nothing of the key (RUSTSEC-2023-0071).
        let signature = policy::encode(&self.key.sign_with_rng(&mut OsRng, signed.as_bytes()).to_vec());
        let joiner = match url {
            "" => "",
            url if url.ends_with(['?', '&']) => "",
            url if url.contains('?') => "&",
            _ => "?",
        };
        format!("{url}{joiner}{policy}&Signature={signature}&Key-Pair-Id={}", self.id)
    }
}

/// The folder that the URL of a playlist stands for; `None` for any other URL.
fn playlists_folder(url: &str) -> Option<String> {
    let path = url.split('?').next().unwrap_or_default();
    let playlist = [".m3u8", ".m3u"].iter().any(|extension| path.to_ascii_lowercase().ends_with(extension));
    path.rfind('/').filter(|_| playlist).map(|slash| format!("{}*", &path[..=slash]))
}

/// Refuses a URL that no player would ask for as it is written: its signature would never fit.
fn well_formed(url: &str) -> Result<Uri, SignError> {
    let wrong = |what| SignError::Url(url.to_owned(), what);
    if !url.is_ascii() || url.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return Err(wrong("has characters that a player will percent-encode; write them so"));
    }
    if url.contains('#') {
        return Err(wrong("has a fragment, which is never sent"));
    }
    if !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(wrong("does not begin with https:// or http://"));
    }
    let uri: Uri = url.parse().map_err(|_| wrong("is not a URL"))?;
    let host = uri.authority().map_or("", http::uri::Authority::as_str);
    let default_port = if url.starts_with("https:") { ":443" } else { ":80" };
    if host.contains('@') || host.ends_with(default_port) || host.contains(|c: char| c.is_ascii_uppercase()) {
        return Err(wrong(
            "is not what is asked for: write its host in small letters, without user and usual port",
        ));
    }
    if ObjectKey::parse(uri.path()).is_err() {
        return Err(wrong(
            "has a path that the edge refuses, with dot segments, encoded slashes or the like",
        ));
    }
    if url.splitn(3, '/').nth(2).is_none_or(|rest| rest == host) {
        return Err(wrong("names a host but no object"));
    }
    let signing = ["Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"];
    let mut names = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    if names.any(|name| signing.contains(&name)) {
        return Err(wrong("is signed already, or has a parameter named as one of the signature's"));
    }
    Ok(uri)
}

/// Refuses a resource that opens nothing, or not the URL that is handed out with it.
fn checked(resource: String, url: Option<&String>) -> Result<String, SignError> {
    let meaningful = resource.starts_with('*') || resource.contains("://");
    if !meaningful || !resource.is_ascii() || resource.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return Err(SignError::Resource(
            resource,
            "is no pattern of URLs, like https://video.example.com/assets/talk/*",
        ));
    }
    let Some(url) = url else { return Ok(resource) };
    let uri = well_formed(url)?;
    let location = Location::new(&uri, uri.query().unwrap_or_default().to_owned());
    if !Resource::Pattern(resource.clone()).covers(&location) {
        return Err(SignError::Resource(resource, "does not cover the URL"));
    }
    Ok(resource)
}

/// Unix seconds of a time, or of a duration from now.
fn moment(option: &'static str, text: &str, now: Timestamp) -> Result<u64, SignError> {
    let unreadable = || SignError::Moment(option, text.to_owned());
    let moment = match text.parse::<Span>() {
        // A ticket has no calendar: its days have 24 hours. Months and years, which have no length, are refused.
        Ok(from_now) => from_now
            .to_duration(SpanRelativeTo::days_are_24_hours())
            .and_then(|from_now| now.checked_add(from_now))
            .map_err(|_| unreadable())?,
        Err(_) => text.parse::<Timestamp>().map_err(|_| unreadable())?,
    };
    u64::try_from(moment.as_second()).map_err(|_| unreadable())
}

/// Why nothing was signed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignError {
    /// `--ip` is no address.
    #[error("--ip {0:?} is no address and no range of addresses, like 192.0.2.7 or 192.0.2.0/24")]
    Address(String),
    /// A key was given where the name of its file belongs. It must not be shown.
    #[error("--private-key (or PRIVATE_KEY) holds a key, not the name of its file: write it to a file first")]
    KeyItself,
    /// The key cannot be used.
    #[error("the private key {}: {problem}", path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// What is wrong with it, without any of it.
        problem: String,
    },
    /// A time that cannot be read.
    #[error("{0} {1:?} is neither a time from now, like 2h, nor one in RFC 3339, like 2026-12-31T18:00:00Z")]
    Moment(&'static str, String),
    /// It would start after it ends.
    #[error("it would stop working before it starts; --starts must be before --expires")]
    Never,
    /// It would be expired at once.
    #[error("--expires is in the past")]
    Past,
    /// A resource that opens nothing, or something else.
    #[error("the resource {0:?} {1}")]
    Resource(String, &'static str),
    /// CloudFront's last second.
    #[error("--expires is after 2038-01-19T03:14:07Z, the last second that CloudFront's signatures can name")]
    TooFar,
    /// A URL that no player would ask for as it is written.
    #[error("the URL {0:?} {1}")]
    Url(String, &'static str),
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static NOW: LazyLock<Timestamp> = LazyLock::new(|| "2026-12-31T12:00:00Z".parse().unwrap());
    static KEY: LazyLock<KeyPair> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let pair = crate::keygen::Pair::generate().unwrap();
        pair.write(folder.path()).unwrap();
        KeyPair::load(&pair.id, &folder.path().join("private.pem")).unwrap()
    });

    fn order(url: &str) -> Order {
        let expires = moment("--expires", "2h", *NOW).unwrap();
        Order { url: url.to_owned(), expires, starts: None, address: None, resource: None }
    }

    /// The text that a URL's policy is, or the name of the form it has.
    fn policy_of(signed: &Signed) -> String {
        let query = signed.url.split_once('?').map_or(&*signed.url, |(_, query)| query);
        let policy = query.split('&').find_map(|pair| pair.strip_prefix("Policy="));
        policy.map_or("canned".to_owned(), |text| String::from_utf8(policy::decode(text).unwrap()).unwrap())
    }

    #[test]
    fn a_playlist_opens_its_folder_and_anything_else_itself() {
        let signed = KEY.sign(&order("https://v.example/assets/talk/index.m3u8?a=1"), *NOW).unwrap();
        assert!(signed.url.starts_with("https://v.example/assets/talk/index.m3u8?a=1&Policy="));
        assert_eq!(
            policy_of(&signed),
            r#"{"Statement":[{"Resource":"https://v.example/assets/talk/*","Condition":{"DateLessThan":{"AWS:EpochTime":1798725600}}}]}"#
        );
        let signed = KEY.sign(&order("https://v.example/poster.jpg"), *NOW).unwrap();
        assert!(signed.url.starts_with("https://v.example/poster.jpg?Expires=1798725600&Signature="));
    }

    #[test]
    fn conditions_need_a_custom_policy() {
        let address = Cidr::parse("192.0.2.7");
        let with = Order { address, starts: Some(1_798_720_000), ..order("https://v.example/poster.jpg") };
        assert_eq!(
            policy_of(&KEY.sign(&with, *NOW).unwrap()),
            r#"{"Statement":[{"Resource":"https://v.example/poster.jpg","Condition":{"DateLessThan":{"AWS:EpochTime":1798725600},"DateGreaterThan":{"AWS:EpochTime":1798720000},"IpAddress":{"AWS:SourceIp":"192.0.2.7/32"}}}]}"#
        );
    }

    #[test]
    fn a_pattern_gives_a_query() {
        let signed = KEY.sign(&order("https://v.example/assets/talk/*"), *NOW).unwrap();
        assert!(signed.url.starts_with("Policy="));
        let everything = KEY.sign(&order("*"), *NOW).unwrap();
        assert_eq!(everything.remarks, ["opens everything that the edge serves"]);
    }

    #[test]
    fn what_would_be_refused_later_is_refused_now() {
        let refused = |order: Order| KEY.sign(&order, *NOW).unwrap_err().to_string();
        for (url, reason) in [
            ("v.example/a.jpg", "does not begin"),
            ("ftp://v.example/a.jpg", "does not begin"),
            ("/assets/talk/index.m3u8", "does not begin"),
            ("https://v.example", "no object"),
            ("https://v.example/é.jpg", "percent-encode"),
            ("https://v.example/a b.jpg", "percent-encode"),
            ("https://v.example/a.jpg#t=1", "fragment"),
            ("https://V.example/a.jpg", "small letters"),
            ("https://v.example:443/a.jpg", "usual port"),
            ("http://v.example:80/a.jpg", "usual port"),
            ("https://me:pw@v.example/a.jpg", "without user"),
            ("https://v.example/a/../b.jpg", "a path that the edge refuses"),
            ("https://v.example/a%2fb.jpg", "a path that the edge refuses"),
            ("https://v.example/a.jpg?x&Key-Pair-Id=K", "signed already"),
            ("/assets/*", "no pattern"),
        ] {
            assert!(refused(order(url)).contains(reason), "{url}: {}", refused(order(url)));
        }
        let url = "https://v.example/assets/talk/index.m3u8";
        let resource = Some("https://v.example/assets/other/*".to_owned());
        assert!(refused(Order { resource, ..order(url) }).contains("does not cover"));
        assert!(refused(Order { expires: 1_798_718_400, ..order(url) }).contains("in the past"));
        assert!(refused(Order { expires: 1_798_725_600_000, ..order(url) }).contains("2038"));
        assert!(refused(Order { starts: Some(1_798_725_600), ..order(url) }).contains("before"));
    }

    #[test]
    fn a_time_is_from_now_or_by_the_calendar() {
        let moment = |text| moment("--expires", text, *NOW);
        assert_eq!(moment("2h"), Ok(1_798_725_600));
        assert_eq!(moment("1h 30m"), Ok(1_798_723_800));
        assert_eq!(moment("7d"), Ok(1_798_718_400 + 7 * 86_400));
        assert_eq!(moment("1w"), moment("7d"));
        assert_eq!(moment("2026-12-31T14:00:00Z"), Ok(1_798_725_600));
        assert_eq!(moment("2026-12-31T15:00:00+01:00"), Ok(1_798_725_600));
        for text in ["", "tomorrow", "1798725600", "2026-12-31", "-100y", "1mo"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_that_cannot_sign_says_why() {
        let problem = |pem: &str| KeyPair::parse("K1", pem).unwrap_err();
        assert!(problem("-----BEGIN ENCRYPTED PRIVATE KEY-----").contains("pass phrase"));
        assert!(problem("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED").contains("pass phrase"));
        assert!(problem("-----BEGIN PUBLIC KEY-----").contains("public key"));
        assert!(problem("-----BEGIN EC PRIVATE KEY-----").contains("EC key"));
        assert!(problem("hello").contains("no RSA private key"));
        let error = KeyPair::load("K1", Path::new("/nowhere/private.pem")).unwrap_err().to_string();
        assert!(error.starts_with("the private key /nowhere/private.pem: "), "{error}");
        let key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n";
        let error = KeyPair::load("K1", Path::new(key)).unwrap_err().to_string();
        assert!(!error.contains("MIIE") && !error.contains('\n'), "{error}");
    }
}
