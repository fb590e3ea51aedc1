//! What the operator says of who watches.

use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::{TypedValueParser, ValueParserFactory};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, Command};
use edge::signed_url::Hash;
use url::{Host, Url};

use super::jwks::Jwks;
use super::rate::Rate;
use super::viewer::{Keys, Viewers, public_keys};
use super::{BoxOffice, turns};
use crate::serve::{Secret, duration, secret};
use crate::sign::{Cookies, KeyPair, SameSite, SignError, hashes};

/// The shortest secret that HS256 is to be used with, in bytes: [RFC 7518 §3.2].
///
/// [RFC 7518 §3.2]: https://www.rfc-editor.org/rfc/rfc7518#section-3.2
const SHORTEST_SECRET: usize = 32;

/// How often viewers may ask, how long they are counted for, and the same of all.
const EACH: Duration = Duration::from_mins(1);
const ALL: Duration = Duration::from_secs(1);

/// The key that signs, the edge that lets in by it, and who gets something signed.
#[derive(Clone, Debug, PartialEq, clap::Args)]
// It would be called as others of the name are.
#[group(skip)]
pub struct Settings {
    /// Where viewers reach the edge, such as `https://video.example.com`
    #[arg(long, env = "REELGATE_EDGE", value_name = "URL")]
    pub edge: Option<Url>,

    /// The id that the edge knows the key by, that signs for who may watch
    #[arg(long, env = "REELGATE_KEY_PAIR_ID", value_name = "ID")]
    pub key_pair_id: Option<String>,

    /// The file with that private key, in PEM; the variable may hold the key itself
    // A key begins with hyphens, and an unknown option would be printed.
    #[arg(
        long,
        env = "REELGATE_PRIVATE_KEY",
        hide_env_values = true,
        value_name = "FILE",
        allow_hyphen_values = true
    )]
    pub private_key: Option<PrivateKey>,

    /// The digest that is signed
    #[arg(long, env = "REELGATE_PLAYBACK_HASH", value_name = "HASH", default_value = "sha1", value_parser = hashes())]
    pub playback_hash: Hash,

    /// How much longer than an asset plays it can be watched, where nobody says for how long
    #[arg(long, env = "REELGATE_PLAYBACK_MARGIN", value_name = "TIME", default_value = "30m", value_parser = duration)]
    pub playback_margin: Duration,

    /// The longest that anything is signed for
    #[arg(long, env = "REELGATE_PLAYBACK_LONGEST", value_name = "TIME", default_value = "12h", value_parser = duration)]
    pub playback_longest: Duration,

    /// The most that is signed in a second for the platform, and again for all viewers
    #[arg(long, env = "REELGATE_PLAYBACK_RATE", value_name = "NUMBER", default_value = "50")]
    pub playback_rate: NonZeroU32,

    /// Where pages may come from that ask for their viewers, such as `https://www.example.com`; or `*`
    #[arg(
        long,
        env = "REELGATE_PLAYBACK_ORIGINS",
        value_name = "ORIGINS",
        default_value = "",
        hide_default_value = true
    )]
    pub playback_origins: Origins,

    /// The domain that cookies are for: the edge's, or the one above it that your site shares
    /// [default: the edge's]
    #[arg(long, env = "REELGATE_COOKIE_DOMAIN", value_name = "DOMAIN")]
    pub cookie_domain: Option<String>,

    /// From which sites' pages browsers send the cookies
    #[arg(long, env = "REELGATE_COOKIE_SAME_SITE", value_name = "SITES", value_enum, default_value = "lax")]
    pub cookie_same_site: SameSite,

    /// What viewers' tokens are signed with (HS256): 32 bytes or more that only your platform knows
    #[arg(long, env = "REELGATE_VIEWER_SECRET", value_name = "SECRET", hide_env_values = true, value_parser = secret)]
    pub viewer_secret: Option<Secret>,

    /// A file with the public keys of viewers' tokens, in PEM: RSA (RS256) and P-256 (ES256)
    #[arg(long, env = "REELGATE_VIEWER_KEY", value_name = "FILE")]
    pub viewer_key: Option<PathBuf>,

    /// Where the public keys of viewers' tokens are published, as a JWK set
    #[arg(long, env = "REELGATE_VIEWER_JWKS", hide_env_values = true, value_name = "URL")]
    pub viewer_jwks: Option<Url>,

    /// Who signs viewers' tokens: their claim `iss`
    #[arg(long, env = "REELGATE_VIEWER_ISSUER", value_name = "NAME")]
    pub viewer_issuer: Option<String>,

    /// Whom viewers' tokens are for: their claim `aud`
    #[arg(long, env = "REELGATE_VIEWER_AUDIENCE", value_name = "NAME")]
    pub viewer_audience: Option<String>,

    /// The claim that lists the assets that a viewer may watch, as globs
    #[arg(long, env = "REELGATE_VIEWER_ASSETS_CLAIM", value_name = "NAME", default_value = "assets")]
    pub viewer_assets_claim: String,

    /// The claim that says for how many seconds a viewer gets a URL at most
    #[arg(long, env = "REELGATE_VIEWER_LIFETIME_CLAIM", value_name = "NAME", default_value = "max_seconds")]
    pub viewer_lifetime_claim: String,

    /// How often each viewer may ask in a minute
    #[arg(long, env = "REELGATE_VIEWER_RATE", value_name = "NUMBER", default_value = "60")]
    pub viewer_rate: NonZeroU32,
}

impl Default for Settings {
    /// Nothing is signed, for nobody.
    fn default() -> Self {
        Self {
            edge: None,
            key_pair_id: None,
            private_key: None,
            playback_hash: Hash::Sha1,
            playback_margin: Duration::from_mins(30),
            playback_longest: Duration::from_hours(12),
            playback_rate: NonZeroU32::new(50).expect("it is not 0"),
            playback_origins: Origins::None,
            cookie_domain: None,
            cookie_same_site: SameSite::Lax,
            viewer_secret: None,
            viewer_key: None,
            viewer_jwks: None,
            viewer_issuer: None,
            viewer_audience: None,
            viewer_assets_claim: "assets".to_owned(),
            viewer_lifetime_claim: "max_seconds".to_owned(),
            viewer_rate: NonZeroU32::new(60).expect("it is not 0"),
        }
    }
}

impl Settings {
    /// All that does not fit together, a sentence each.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wrong = |problem: String| problems.push(problem);
        let has_key = match (&self.key_pair_id, &self.private_key) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            _ => {
                wrong("--key-pair-id and --private-key only work together: set both, or none".to_owned());
                true
            }
        };
        if has_key && self.edge.is_none() {
            wrong("--private-key signs URLs of the edge: set --edge".to_owned());
        }
        if let Some(edge) = &self.edge
            && !is_bare(edge)
        {
            wrong(
                "--edge must be https:// (or http://) and a host, and nothing more: the path is the asset's"
                    .to_owned(),
            );
        }
        if self.playback_longest.as_secs() == 0 {
            wrong(
                "--playback-longest is below a second, so nothing could be signed: 12h is usual".to_owned(),
            );
        }
        self.problems_of_cookies(&mut wrong);
        self.problems_of_viewers(has_key, &mut wrong);
        problems
    }

    fn problems_of_cookies(&self, wrong: &mut impl FnMut(String)) {
        let edge = self.edge.as_ref();
        let host = edge.and_then(Url::host_str).unwrap_or_default();
        if let Some(domain) = &self.cookie_domain
            && !covers(domain, host)
        {
            wrong(format!(
                "--cookie-domain {domain} must be the host of --edge or a domain above it, such as example.com for \
                 video.example.com"
            ));
        }
        if self.cookie_same_site == SameSite::None && edge.is_some_and(|edge| edge.scheme() != "https") {
            wrong(
                "--cookie-same-site none needs an --edge with https://: browsers take such cookies with Secure only"
                    .to_owned(),
            );
        }
    }

    fn problems_of_viewers(&self, has_key: bool, wrong: &mut impl FnMut(String)) {
        let sources = [self.viewer_secret.is_some(), self.viewer_key.is_some(), self.viewer_jwks.is_some()];
        let named = [&self.viewer_issuer, &self.viewer_audience];
        match sources.iter().filter(|is_set| **is_set).count() {
            0 if named.iter().any(|name| name.is_some()) => wrong(
                "--viewer-issuer and --viewer-audience are about viewers' tokens: set REELGATE_VIEWER_SECRET, \
                 --viewer-key or --viewer-jwks, by which they are checked"
                    .to_owned(),
            ),
            0 => {}
            count => {
                if count > 1 {
                    wrong(
                        "set one of REELGATE_VIEWER_SECRET, --viewer-key and --viewer-jwks: viewers' tokens are \
                         checked in one way"
                            .to_owned(),
                    );
                }
                if named.iter().any(|name| name.as_ref().is_none_or(String::is_empty)) {
                    wrong(
                        "viewers' tokens need --viewer-issuer and --viewer-audience, so that no token for something \
                         else opens this"
                            .to_owned(),
                    );
                }
                if !has_key {
                    wrong(
                        "viewers' tokens are for nothing without --key-pair-id and --private-key: set these"
                            .to_owned(),
                    );
                }
            }
        }
        if self.viewer_secret.as_ref().is_some_and(|secret| secret.text().trim().len() < SHORTEST_SECRET) {
            wrong(format!(
                "REELGATE_VIEWER_SECRET is shorter than {SHORTEST_SECRET} bytes, so it can be guessed from a token: \
                 `openssl rand -base64 48` makes a longer one"
            ));
        }
        if self.viewer_secret.as_ref().is_some_and(|secret| secret.text().contains("-----BEGIN ")) {
            wrong(
                "REELGATE_VIEWER_SECRET holds a key in PEM, and who knows a public key could sign with it: name its \
                 file with --viewer-key"
                    .to_owned(),
            );
        }
        if let Some(url) = &self.viewer_jwks
            && (url.scheme() != "https" && !is_http_of_this_machine(url))
        {
            wrong(
                "--viewer-jwks must begin with https://: who could change it would let anybody in".to_owned(),
            );
        }
    }

    /// The box office, if there is a key. What is wrong with files is an error; that settings fit together is looked at
    /// before.
    pub fn open(&self) -> Result<Option<BoxOffice>, Vec<String>> {
        let mut problems = Vec::new();
        let mut keep = |problem: String| problems.push(problem);
        let key = self.key().map(|key| key.map_err(&mut keep));
        let viewers = self.viewers().map(|viewers| viewers.map_err(&mut keep));
        let (Ok(key), Ok(viewers)) = (key.transpose(), viewers.transpose()) else { return Err(problems) };
        let (Some(key), Some(edge)) = (key, &self.edge) else { return Ok(None) };
        Ok(Some(BoxOffice {
            edge: edge.clone(),
            margin: self.playback_margin,
            longest: self.playback_longest,
            origins: self.playback_origins.clone(),
            viewers,
            key: Arc::new(key),
            cookies: Cookies {
                domain: self.cookie_domain.as_deref().map(without_dot).map(str::to_ascii_lowercase),
                same_site: Some(self.cookie_same_site),
            },
            rate: Rate::new(self.playback_rate, ALL),
            signing: turns(),
        }))
    }

    /// The key that signs, if one is named.
    pub(crate) fn key(&self) -> Option<Result<KeyPair, String>> {
        let (id, source) = (self.key_pair_id.as_ref()?, self.private_key.as_ref()?);
        let key = match source {
            PrivateKey::File(path) => KeyPair::load(id, path).map_err(|error| match error {
                SignError::KeyItself => {
                    "--private-key (or REELGATE_PRIVATE_KEY) names no file that can be read, and \
                                         may be a key, so it is not shown: the variable takes a key in PEM, \
                                         -----BEGIN PRIVATE KEY----- and its end included"
                        .to_owned()
                }
                error => error.to_string(),
            }),
            PrivateKey::Itself(pem) => KeyPair::parse(id, pem.text())
                .map_err(|problem| format!("the private key in REELGATE_PRIVATE_KEY: {problem}")),
        };
        Some(key.map(|key| key.hashing(self.playback_hash)))
    }

    /// Whether viewers may ask themselves.
    pub(crate) fn has_viewers(&self) -> bool {
        self.viewer_secret.is_some() || self.viewer_key.is_some() || self.viewer_jwks.is_some()
    }

    /// Those who may ask themselves, if there are any.
    pub(crate) fn viewers(&self) -> Option<Result<Viewers, String>> {
        let keys = if let Some(secret) = &self.viewer_secret {
            // Files end with a line.
            Ok(Keys::of_secret(secret.text().trim()))
        } else if let Some(path) = &self.viewer_key {
            let read = fs::read_to_string(path).map_err(|error| error.to_string());
            read.and_then(|pem| public_keys(&pem))
                .map(Keys::Known)
                .map_err(|problem| format!("--viewer-key {}: {problem}", path.display()))
        } else {
            let url = self.viewer_jwks.as_ref()?;
            Jwks::of(url).map(Arc::new).map(Keys::Published)
        };
        Some(keys.map(|keys| Viewers {
            keys,
            issuer: self.viewer_issuer.clone().unwrap_or_default(),
            audience: self.viewer_audience.clone().unwrap_or_default(),
            assets_claim: self.viewer_assets_claim.clone(),
            lifetime_claim: self.viewer_lifetime_claim.clone(),
            rate: Rate::new(self.viewer_rate, EACH),
        }))
    }

    /// A complaint, if others of this machine can read the key.
    #[cfg(unix)]
    pub(crate) fn exposed(&self) -> Option<String> {
        use std::os::unix::fs::PermissionsExt;
        let Some(PrivateKey::File(path)) = &self.private_key else { return None };
        let mode = fs::metadata(path).ok()?.permissions().mode();
        let words = format!("{} can be read by others of this machine: `chmod 600` it", path.display());
        (mode & 0o077 != 0).then_some(words)
    }

    #[cfg(not(unix))]
    pub(crate) fn exposed(&self) -> Option<String> {
        None
    }

    /// Says in the log what should be otherwise, but works.
    pub(crate) fn warn(&self) {
        if let Some(words) = self.exposed() {
            tracing::warn!("the private key {words}");
        }
        if let Some(edge) = &self.edge
            && edge.scheme() != "https"
            && !is_http_of_this_machine(edge)
        {
            tracing::warn!("--edge {edge} has no https: anybody on the way can read signed URLs and cookies");
        }
        if self.playback_origins == Origins::Any {
            tracing::warn!("--playback-origins *: any page that has a viewer's token can ask with it");
        }
    }
}

/// A private key, or where it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PrivateKey {
    /// In a file.
    File(PathBuf),
    /// In PEM.
    Itself(Secret),
}

impl ValueParserFactory for PrivateKey {
    type Parser = PrivateKeyParser;

    fn value_parser() -> Self::Parser {
        PrivateKeyParser
    }
}

/// Knows a key from a file's name, and a variable, which is its owner's alone, from a command line, which others can read.
#[derive(Clone, Debug)]
pub struct PrivateKeyParser;

impl TypedValueParser for PrivateKeyParser {
    type Value = PrivateKey;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<PrivateKey, clap::Error> {
        self.parse_ref_(command, arg, value, ValueSource::CommandLine)
    }

    fn parse_ref_(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<PrivateKey, clap::Error> {
        let refuse = |words: &str| Err(clap::Error::raw(ErrorKind::ValueValidation, words).with_cmd(command));
        let text = value.to_string_lossy();
        if value.is_empty() {
            refuse("--private-key (or REELGATE_PRIVATE_KEY) is empty: name a file, or do not set it\n")
        } else if !text.contains("-----BEGIN") {
            Ok(PrivateKey::File(value.into()))
        } else if source == ValueSource::EnvVariable {
            // As it has to be written where a variable is one line.
            Ok(PrivateKey::Itself(text.replace("\\r", "").replace("\\n", "\n").into()))
        } else {
            refuse(
                "--private-key holds a key, which others of this machine can now read: name its file, or put it into \
                 REELGATE_PRIVATE_KEY, and make a new one\n",
            )
        }
    }
}

/// Where pages may come from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Origins {
    /// From nowhere else.
    #[default]
    None,
    /// From anywhere.
    Any,
    /// From these, in the words of the header `Origin`.
    These(Vec<String>),
}

impl Origins {
    /// Whether a page of this origin may ask.
    #[must_use]
    pub fn has(&self, origin: &str) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::These(origins) => origins.iter().any(|one| one == origin),
        }
    }
}

impl FromStr for Origins {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let origins: Vec<_> = text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).collect();
        match origins[..] {
            [] => Ok(Self::None),
            ["*"] => Ok(Self::Any),
            _ => origins.into_iter().map(origin).collect::<Result<_, _>>().map(Self::These),
        }
    }
}

fn origin(text: &str) -> Result<String, String> {
    let url = Url::parse(text).ok().filter(is_bare);
    url.map(|url| url.origin().ascii_serialization()).ok_or_else(|| {
        format!("{text:?} is no origin: write https://www.example.com, without a path, or * alone for any")
    })
}

/// Whether it is a scheme and a host, perhaps with a port.
fn is_bare(url: &Url) -> bool {
    // A URL's host may have more characters than a name, and each of `*`, `;` and `,` means something where it goes.
    let is_host = match url.host() {
        Some(Host::Domain(name)) => is_name(name) && !name.ends_with('.'),
        Some(Host::Ipv4(_) | Host::Ipv6(_)) => true,
        None => false,
    };
    matches!(url.scheme(), "https" | "http")
        && is_host
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
}

fn is_http_of_this_machine(url: &Url) -> bool {
    url.scheme() == "http"
        && match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
}

/// Whether a browser takes cookies of this domain from this host, as far as the name says ([RFC 6265 §5.1.3]).
///
/// [RFC 6265 §5.1.3]: https://www.rfc-editor.org/rfc/rfc6265#section-5.1.3
fn covers(domain: &str, host: &str) -> bool {
    let domain = without_dot(domain).to_ascii_lowercase();
    let is_domain = domain.contains('.') && is_name(&domain) && domain.parse::<IpAddr>().is_err();
    is_domain && (host == domain || host.strip_suffix(&domain).is_some_and(|rest| rest.ends_with('.')))
}

fn is_name(domain: &str) -> bool {
    domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn without_dot(domain: &str) -> &str {
    domain.strip_prefix('.').unwrap_or(domain)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::keygen::{Algorithm, Pair};

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        settings: Settings,
    }

    fn parsed(line: &str) -> Settings {
        Line::try_parse_from(std::iter::once("serve").chain(line.split_whitespace())).unwrap().settings
    }

    fn problems(line: &str) -> Vec<String> {
        parsed(line).problems()
    }

    const SIGNING: &str = "--edge https://video.example.com --key-pair-id K1 --private-key k.pem";

    #[test]
    fn nothing_set_is_sound_and_signs_nothing() {
        assert_eq!(parsed(""), Settings::default());
        assert_eq!(problems(""), Vec::<String>::new());
        assert!(Settings::default().open().unwrap().is_none());
        assert_eq!(problems("--edge https://video.example.com:8443"), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_fit_is_said_all_at_once() {
        for (line, says) in [
            ("--key-pair-id K1", vec!["--key-pair-id and --private-key", "set --edge"]),
            ("--key-pair-id K1 --private-key k.pem", vec!["set --edge"]),
            ("--edge https://video.example.com/films", vec!["and nothing more"]),
            ("--edge ftp://video.example.com", vec!["and nothing more"]),
            ("--edge https://u@video.example.com", vec!["and nothing more"]),
            ("--edge https://*.example.com", vec!["and nothing more"]),
            ("--edge https://video.example.com;Domain=com", vec!["and nothing more"]),
            ("--edge https://video.example.com.", vec!["and nothing more"]),
            ("--edge https://[2001:db8::1]:8443", vec![]),
            ("--edge https://video.example.com --cookie-domain other.com", vec!["--cookie-domain other.com"]),
            ("--edge https://video.example.com --cookie-domain com", vec!["--cookie-domain com"]),
            ("--edge https://video.example.com --cookie-domain ample.com", vec!["--cookie-domain ample.com"]),
            ("--edge https://192.0.2.7 --cookie-domain 192.0.2.7", vec!["--cookie-domain"]),
            ("--edge https://video.example.com --cookie-domain example.com", vec![]),
            ("--edge https://video.example.com --cookie-domain .example.com", vec![]),
            ("--edge http://localhost:8787 --cookie-same-site none", vec!["needs an --edge with https"]),
            ("--playback-longest 500ms", vec!["--playback-longest is below a second"]),
            ("--viewer-issuer i", vec!["about viewers' tokens"]),
            (
                "--viewer-key k --viewer-jwks http://keys.example --viewer-secret short",
                vec![
                    "set one of",
                    "need --viewer-issuer and --viewer-audience",
                    "are for nothing without",
                    "shorter than 32 bytes",
                    "must begin with https",
                ],
            ),
            ("SIGNING --viewer-jwks http://localhost:1/k --viewer-issuer i --viewer-audience a", vec![]),
            ("SIGNING --viewer-jwks http://127.0.0.1:1/k --viewer-issuer i", vec!["--viewer-audience"]),
        ] {
            let found = problems(&line.replace("SIGNING", SIGNING));
            assert_eq!(found.len(), says.len(), "{line}: {found:#?}");
            for (found, says) in found.iter().zip(says) {
                assert!(found.contains(says), "{found}");
            }
        }
    }

    /// What RFC 8725 §2.1 tells of, done by the operator.
    #[test]
    fn a_public_key_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        Pair::of(Algorithm::Ecdsa).unwrap().write(folder.path()).unwrap();
        let public = fs::read_to_string(folder.path().join("public.pem")).unwrap();
        let sound = parsed(&format!("{SIGNING} --viewer-issuer i --viewer-audience a"));
        let problems =
            |secret: String| Settings { viewer_secret: Some(secret.into()), ..sound.clone() }.problems();
        assert_eq!(problems("x".repeat(32)), Vec::<String>::new());
        assert!(problems(public)[0].contains("holds a key in PEM"));
    }

    #[test]
    fn an_origin_is_exact_or_any() {
        let origins = |text: &str| text.parse::<Origins>();
        assert_eq!(origins("*"), Ok(Origins::Any));
        assert_eq!(origins(" "), Ok(Origins::None));
        let these = origins("https://www.example.com, http://localhost:3000").unwrap();
        assert!(these.has("https://www.example.com") && these.has("http://localhost:3000"));
        for other in [
            "https://example.com",
            "http://www.example.com",
            "null",
            "",
            "https://www.example.com.evil.example",
        ] {
            assert!(!these.has(other), "{other}");
        }
        for wrong in [
            "www.example.com",
            "https://www.example.com/app",
            "https://*.example.com/x",
            "https://*.example.com",
            "null",
            "*,https://a.example",
        ] {
            assert!(origins(wrong).is_err(), "{wrong}");
        }
    }

    fn given(value: &str, source: ValueSource) -> Result<PrivateKey, String> {
        let command = Command::new("serve");
        let parsed = PrivateKeyParser.parse_ref_(&command, None, OsStr::new(value), source);
        parsed.map_err(|error| error.to_string())
    }

    #[test]
    fn a_key_may_be_in_a_variable_and_not_on_a_command_line() {
        let pair = Pair::of(Algorithm::Ecdsa).unwrap();
        let folder = tempfile::tempdir().unwrap();
        pair.write(folder.path()).unwrap();
        let pem = fs::read_to_string(folder.path().join("private.pem")).unwrap();
        let secret = pem.lines().nth(1).unwrap();

        let refused = given(&pem, ValueSource::CommandLine).unwrap_err();
        assert!(refused.contains("REELGATE_PRIVATE_KEY") && !refused.contains(secret), "{refused}");
        assert!(given("", ValueSource::EnvVariable).is_err());
        assert_eq!(given("k.pem", ValueSource::EnvVariable), Ok(PrivateKey::File("k.pem".into())));
        for text in [pem.clone(), pem.replace('\n', "\\n"), pem.replace('\n', "\\r\\n")] {
            let key = given(&text, ValueSource::EnvVariable).unwrap();
            let settings = Settings { private_key: Some(key), ..parsed(SIGNING) };
            assert!(!format!("{settings:?}").contains(secret));
            assert!(settings.open().unwrap().is_some());
        }
        let bare: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let bare = given(&bare, ValueSource::EnvVariable).unwrap();
        let found = Settings { private_key: Some(bare), ..parsed(SIGNING) }.open().unwrap_err();
        assert!(found[0].contains("takes a key in PEM") && !found[0].contains(&secret[..20]), "{found:?}");
        let broken = given("-----BEGIN PRIVATE KEY-----\nhush", ValueSource::EnvVariable).unwrap();
        let settings = Settings { private_key: Some(broken), ..parsed(SIGNING) };
        let found = settings.open().unwrap_err();
        assert!(
            found[0].starts_with("the private key in REELGATE_PRIVATE_KEY: ") && !found[0].contains("hush")
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_complained_of() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        Pair::of(Algorithm::Ecdsa).unwrap().write(folder.path()).unwrap();
        let path = folder.path().join("private.pem");
        let settings = Settings { private_key: Some(PrivateKey::File(path.clone())), ..parsed(SIGNING) };
        assert_eq!(settings.exposed(), None);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(settings.exposed().unwrap().contains("chmod 600"));
    }

    #[test]
    fn a_file_of_public_keys_says_what_is_wrong_with_it() {
        let folder = tempfile::tempdir().unwrap();
        Pair::of(Algorithm::Ecdsa).unwrap().write(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let public = read("public.pem");
        let wrong = |pem: &str| public_keys(pem).unwrap_err();
        assert_eq!(public_keys(&format!("rotated 2026\n{public}\n{public}")).unwrap().len(), 2);
        assert!(wrong("hello").contains("no public key"));
        assert!(wrong(&read("private.pem")).contains("private key"));
        assert!(wrong(&public.repeat(17)).contains("17 keys"));
        assert!(wrong("-----BEGIN PUBLIC KEY-----\nAAAA").contains("no end"));
        assert!(wrong("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----").contains("key"));
        let settings = Settings { viewer_key: Some("/nowhere/k.pem".into()), ..Settings::default() };
        assert!(settings.open().unwrap_err()[0].starts_with("--viewer-key /nowhere/k.pem: "));
    }
}
