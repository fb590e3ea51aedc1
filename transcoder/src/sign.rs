//! Signs what was made, so that somebody may watch it.
//!
//! The texts that are signed are the edge's own ([`edge::policy`]): whoever checks the ticket defines it. Which
//! of CloudFront's two forms a URL gets follows from what is asked for; what would be signed in good faith and
//! refused later is refused, or warned of, here.

mod key_pair;

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use edge::ObjectKey;
use edge::link::LONGEST_URL;
use edge::policy::{self, Cidr, Dialect, LAST_SECOND, Location, Policy, Resource};
use edge::signed_url::Hash;
use http::Uri;
use jiff::{Span, SpanRelativeTo, Timestamp};

pub use self::key_pair::KeyPair;

/// The longest URL that is signed without a warning, in bytes: players built on ffmpeg cut at 4,096, and the
/// links in a playlist are longer than the URL of the playlist.
const LONG_URL: usize = 2_000;

/// The first number that is taken for a time in milliseconds: as seconds it would be the year 5138.
const MILLISECONDS: u64 = 100_000_000_000;

/// What AWS's design for HLS calls the second set of parameters, and the edge where nothing else is configured.
const SUFFIX: &str = "-PREFIX";

/// Sign a URL, offline, so that whoever holds it may play it.
///
/// The URL of a playlist opens the playlist's folder, with all that it links to. Any other URL opens just
/// itself. A pattern with `*` instead of a URL gives a query to append to any URL that matches it.
///
/// Without conditions a single file gets a canned policy, which is short: it opens this very URL, and a player that
/// adds a parameter of its own is refused. All else gets a custom policy, which the URL carries along.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  transcoder sign https://video.example.com/assets/talk/index.m3u8 --expires 2h \\
    --key-pair-id K2JCJMDEHXQW5F --private-key keys/private.pem

  transcoder sign 'https://video.example.com/assets/talk/*' --cookies --expires 7d \\
    --key-pair-id K2JCJMDEHXQW5F --private-key keys/private.pem

On stdout there is the signed URL (or the query, or the cookies, one a line) and nothing else; what should be known \
about it is on stderr.")]
pub struct Arguments {
    /// The URL to open, as the player will ask for it; or a pattern of URLs
    #[arg(value_name = "URL or pattern")]
    url: String,
    /// The id that the edge's `TRUSTED_KEYS` has for the key
    #[arg(long, env = "KEY_PAIR_ID", value_name = "ID")]
    key_pair_id: String,
    /// File with the private key, in PEM without a pass phrase: RSA (PKCS#8 or PKCS#1) or ECDSA on P-256 (PKCS#8 or
    /// SEC1)
    // Elsewhere a variable of this name often holds the key itself, and --help would print it; so would an error, of what
    // begins with hyphens and were no value.
    #[arg(
        long,
        env = "PRIVATE_KEY",
        hide_env_values = true,
        allow_hyphen_values = true,
        value_name = "FILE"
    )]
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
    /// Print cookies instead of a URL: the values of the Set-Cookie headers that a backend sends
    ///
    /// They open what the URL would have opened, and links stay as short as they are. A browser keeps them for the
    /// edge's own host, so the backend has to be on it, or on the domain that both share. A player on a page of
    /// another site needs SameSite=None beside them.
    #[arg(long)]
    cookies: bool,
    /// The digest that is signed. CloudFront knows SHA-256 since April 2026, and it needs one parameter more
    #[arg(long, value_name = "HASH", default_value = "sha1", value_parser = hashes())]
    hash: Hash,
    /// Write the parameters twice, as AWS's design for HLS with a manifest Lambda does, the second time with -PREFIX
    /// (or another SUFFIX) behind their names
    ///
    /// CloudFront checks the plain ones and takes them away; the second set reaches the origin, which writes it into
    /// the manifest. The edge needs no second set, and hands on plain ones.
    #[arg(long, value_name = "SUFFIX", num_args = 0..=1, require_equals = true, default_missing_value = SUFFIX,
        conflicts_with = "cookies")]
    prefix: Option<String>,
}

impl Arguments {
    /// What was signed, for stdout. What should be known about it is said on stderr.
    pub fn run(self) -> Result<String, SignError> {
        let Signed { url, cookies, remarks } = self.signed(Timestamp::now())?;
        for remark in remarks {
            eprintln!("transcoder sign: {remark}");
        }
        Ok(if cookies.is_empty() { url } else { cookies.join("\n") })
    }

    fn signed(self, now: Timestamp) -> Result<Signed, SignError> {
        let order = Order {
            url: self.url,
            expires: moment("--expires", &self.expires, now)?,
            starts: self.starts.map(|text| moment("--starts", &text, now)).transpose()?,
            address: self.ip.map(|text| Cidr::parse(&text).ok_or(SignError::Address(text))).transpose()?,
            resource: self.resource,
        };
        let key = KeyPair::load(&self.key_pair_id, &self.private_key)?.hashing(self.hash);
        match self.prefix {
            Some(suffix) => key.sign_twice(&order, &suffix, now),
            None if self.cookies => key.sign_cookies(&order, now),
            None => key.sign(&order, now),
        }
    }
}

pub(crate) fn hashes() -> impl TypedValueParser<Value = Hash> {
    PossibleValuesParser::new(["sha1", "sha256"])
        .map(|name| if name == "sha256" { Hash::Sha256 } else { Hash::Sha1 })
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

/// How cookies travel, where that is not what the URL suggests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cookies {
    /// The domain whose hosts they are sent to: the edge's own, or one above it.
    pub domain: Option<String>,
    /// From which sites' pages.
    pub same_site: Option<SameSite>,
}

/// From which sites' pages cookies are sent ([RFC 6265bis §5.6.7]).
///
/// [RFC 6265bis §5.6.7]: https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis-22#section-5.6.7
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub enum SameSite {
    /// From those of the edge's own site, and by links to it
    Lax,
    /// From those of the edge's own site only
    Strict,
    /// From those of any site
    None,
}

/// What opens what was ordered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed {
    /// The URL; for a pattern the query alone. With cookies it is the URL as it was.
    pub url: String,
    /// The values of `Set-Cookie` headers, where cookies were ordered.
    pub cookies: Vec<String>,
    /// What its owner should know, a sentence each.
    pub remarks: Vec<String>,
}

impl KeyPair {
    /// Signs an order: a canned policy where that can say it, which is shorter, else a custom one.
    pub fn sign(&self, order: &Order, now: Timestamp) -> Result<Signed, SignError> {
        let statement = Statement::of(order, Carrier::Query, now)?;
        let query = self.parameters(&statement, "").join("&");
        self.in_query(order, query, statement)
    }

    /// The same with every parameter there twice, the second time with `suffix` behind its name.
    pub fn sign_twice(&self, order: &Order, suffix: &str, now: Timestamp) -> Result<Signed, SignError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if suffix.is_empty() || !suffix.bytes().all(plain) {
            return Err(SignError::Suffix(suffix.to_owned()));
        }
        let statement = Statement::of(order, Carrier::TwiceInQuery, now)?;
        let query = [self.parameters(&statement, ""), self.parameters(&statement, suffix)].concat().join("&");
        self.in_query(order, query, statement)
    }

    /// The same as cookies, for a browser to send along by itself.
    pub fn sign_cookies(&self, order: &Order, now: Timestamp) -> Result<Signed, SignError> {
        self.sign_cookies_for(order, &Cookies::default(), now)
    }

    /// The same, sent along to where and from where somebody wants.
    pub fn sign_cookies_for(
        &self,
        order: &Order,
        cookies: &Cookies,
        now: Timestamp,
    ) -> Result<Signed, SignError> {
        let statement = Statement::of(order, Carrier::Cookies, now)?;
        let scope = CookieScope::of(&order.url, &statement.resource).wanted(cookies);
        let pairs = self.parameters(&statement, "").into_iter();
        let cookies = pairs.map(|pair| format!("CloudFront-{pair}{scope}")).collect();
        let remarks = [statement.remarks, scope.remarks(), self.remark().into_iter().collect()].concat();
        Ok(Signed { url: order.url.clone(), cookies, remarks })
    }

    fn in_query(&self, order: &Order, query: String, statement: Statement) -> Result<Signed, SignError> {
        let mut remarks = statement.remarks;
        let url = match &*order.url {
            pattern if pattern.contains('*') => query,
            url if url.ends_with(['?', '&']) => format!("{url}{query}"),
            url if url.contains('?') => format!("{url}&{query}"),
            url => format!("{url}?{query}"),
        };
        if url.len() > LONGEST_URL {
            return Err(SignError::TooLong(url.len()));
        }
        if url.len() > LONG_URL {
            remarks.push(format!("has {} bytes; some players cut links at 4096", url.len()));
        }
        remarks.extend(self.remark());
        Ok(Signed { url, cookies: Vec::new(), remarks })
    }

    /// The signing parameters, in botocore's order; what says the hash comes last, as with AWS's JavaScript signer.
    fn parameters(&self, statement: &Statement, suffix: &str) -> Vec<String> {
        let signature = policy::encode(&self.signature(&statement.text));
        let (name, value) = &statement.parameter;
        let mut pairs = vec![(*name, &**value), ("Signature", &*signature), ("Key-Pair-Id", &*self.id)];
        if self.hash != Hash::default() {
            pairs.push(("Hash-Algorithm", self.hash.name()));
        }
        pairs.into_iter().map(|(name, value)| format!("{name}{suffix}={value}")).collect()
    }
}

/// How a signature travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Carrier {
    Query,
    TwiceInQuery,
    Cookies,
}

/// What is to be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Statement {
    /// The text that the signature is over.
    text: String,
    /// The parameter that says it to the edge.
    parameter: (&'static str, String),
    resource: String,
    remarks: Vec<String>,
}

impl Statement {
    fn of(order: &Order, carrier: Carrier, now: Timestamp) -> Result<Self, SignError> {
        let Order { url, expires, starts, address, .. } = order.clone();
        window(expires, starts, now)?;
        let pattern = url.contains('*');
        if !pattern {
            well_formed(&url)?;
        }
        let mut remarks = address.map_or(Ok(Vec::new()), address_remarks)?;
        let folder = playlists_folder(&url).filter(|_| !pattern);
        let resource = match (&order.resource, &folder) {
            (Some(resource), _) => resource.clone(),
            (None, Some(folder)) => {
                remarks.push(format!("opens {folder}, which is all that the playlist links to"));
                folder.clone()
            }
            // Cookies go with every request, which a canned policy's one URL is not made for.
            (None, None) if pattern || starts.is_some() || address.is_some() || carrier != Carrier::Query => {
                url.clone()
            }
            (None, None) => return Self::canned(url, expires),
        };
        check_pattern(&resource)?;
        if !pattern && !covers(&resource, &url)? {
            return Err(SignError::Resource(resource, "does not cover the URL"));
        }
        if carrier == Carrier::TwiceInQuery && !resource.ends_with('*') {
            return Err(SignError::Resource(
                resource,
                "does not end in *, so it cannot cover a query with a second set of parameters in it",
            ));
        }
        if let Some(folder) = folder
            && !covers(&resource, &folder.replace('*', "segment.m4s"))?
        {
            remarks.push("opens the playlist, but nothing beside it that it would link to".to_owned());
        }
        if resource == "*" {
            remarks.push("opens everything that the edge serves".to_owned());
        }
        let policy = Policy { resource: Resource::Pattern(resource.clone()), expires, starts, address };
        let text = policy.to_json();
        Policy::parse(text.as_bytes(), &Dialect::default())
            .map_err(|error| SignError::Policy(error.to_string()))?;
        let parameter = ("Policy", policy::encode(text.as_bytes()));
        Ok(Self { text, parameter, resource, remarks })
    }

    fn canned(url: String, expires: u64) -> Result<Self, SignError> {
        if as_the_edge_reads_it(&well_formed(&url)?).to_string() != url {
            return Err(SignError::Url(
                url,
                "has an empty parameter, or none after its ?; leave that away".into(),
            ));
        }
        let text = policy::canned(&url, expires).ok_or_else(|| {
            SignError::Url(url.clone(), "has a character that no canned policy can say".into())
        })?;
        Ok(Self { text, parameter: ("Expires", expires.to_string()), resource: url, remarks: Vec::new() })
    }
}

/// Refuses times at which nothing would be opened.
fn window(expires: u64, starts: Option<u64>, now: Timestamp) -> Result<(), SignError> {
    for (option, time) in [("--expires", Some(expires)), ("--starts", starts)] {
        if let Some(time) = time.filter(|time| *time >= MILLISECONDS) {
            return Err(SignError::Milliseconds(option, time.to_string(), calendar(time / 1000)));
        }
    }
    if expires <= now.as_second().unsigned_abs() {
        return Err(SignError::Past);
    }
    if starts.is_some_and(|starts| starts >= expires) {
        return Err(SignError::Never);
    }
    if expires > LAST_SECOND {
        return Err(SignError::TooFar);
    }
    Ok(())
}

/// The folder that the URL of a playlist stands for; `None` for any other URL.
fn playlists_folder(url: &str) -> Option<String> {
    let path = url.split('?').next().unwrap_or_default();
    let playlist = [".m3u8", ".m3u"].iter().any(|extension| path.to_ascii_lowercase().ends_with(extension));
    path.rfind('/').filter(|_| playlist).map(|slash| format!("{}*", &path[..=slash]))
}

/// Refuses a URL that no player would ask for as it is written, or that the edge would not answer: its signature
/// would never fit.
fn well_formed(url: &str) -> Result<Uri, SignError> {
    let wrong = |what: Cow<'static, str>| SignError::Url(url.to_owned(), what);
    if !["https://", "http://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(wrong("does not begin with https:// or http://".into()));
    }
    if url.contains('#') {
        return Err(wrong("has a fragment, which is never sent".into()));
    }
    let parsed = url::Url::parse(url).map_err(|error| wrong(format!("is not a URL: {error}").into()))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong("has a user's name in it, which is never sent in a URL".into()));
    }
    if parsed.path() == "/" {
        return Err(wrong("names a host but no object".into()));
    }
    // Browsers write URLs the WHATWG's way, and so does the runtime under the edge.
    if parsed.as_str() != url {
        return Err(wrong(
            format!("is not written as players will ask for it, which is {parsed}; sign that").into(),
        ));
    }
    let uri: Uri =
        url.parse().map_err(|error: http::uri::InvalidUri| wrong(format!("is not a URL: {error}").into()))?;
    ObjectKey::parse(uri.path())
        .map_err(|error| wrong(format!("is none that the edge answers: {error}").into()))?;
    let signing = ["Policy", "Expires", "Signature", "Key-Pair-Id", "Hash-Algorithm"];
    let mut names = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    if names.any(|name| signing.contains(&name.strip_suffix(SUFFIX).unwrap_or(name))) {
        return Err(wrong("is signed already, or has a parameter named as one of the signature's".into()));
    }
    Ok(uri)
}

/// Refuses a resource that opens nothing.
fn check_pattern(resource: &str) -> Result<(), SignError> {
    let wrong = |what| Err(SignError::Resource(resource.to_owned(), what));
    let web = match resource.split_once("://") {
        Some((protocol, _)) => matches!(protocol, "http" | "https") || protocol.contains(['*', '?']),
        None => resource.starts_with('*'),
    };
    if !web {
        return wrong("is no pattern of URLs, like https://video.example.com/assets/talk/*");
    }
    if !resource.is_ascii() || resource.contains(|c: char| c.is_ascii_control() || c == ' ') {
        return wrong("has characters that players percent-encode (é is %C3%A9, a space %20); write them so");
    }
    Ok(())
}

fn covers(resource: &str, url: &str) -> Result<bool, SignError> {
    let uri = well_formed(url)?;
    Ok(Resource::Pattern(resource.to_owned()).covers(&as_the_edge_reads_it(&uri)))
}

/// What is left of a URL when the edge has taken it apart: no empty parameters.
fn as_the_edge_reads_it(uri: &Uri) -> Location<'_> {
    let pairs: Vec<_> = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    Location::new(uri, pairs.join("&"))
}

/// What is otherwise with addresses than it looks.
fn address_remarks(cidr: Cidr) -> Result<Vec<String>, SignError> {
    let text = cidr.to_string();
    let (address, prefix) = text.split_once('/').expect("a CIDR is written with its prefix");
    let address: IpAddr = address.parse().expect("it was read from an address");
    let prefix: u32 = prefix.parse().expect("it was read from a number");
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let host_bits = bits - prefix;
    let network: IpAddr = match address {
        IpAddr::V4(address) => {
            IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into())
        }
        IpAddr::V6(address) => {
            IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into())
        }
    };
    let mut remarks = Vec::new();
    match address {
        IpAddr::V6(mapped) if mapped.to_ipv4_mapped().is_some() => {
            return Err(SignError::Range(
                text,
                "is IPv4 in IPv6's clothes, which nobody comes from; write the IPv4 address",
            ));
        }
        // botocore writes /32 behind any address. Nobody means all of a provider by an address of one machine.
        IpAddr::V6(_) if prefix == 32 && network != address => {
            return Err(SignError::Range(text, "would open 2^96 addresses; a single IPv6 address is /128"));
        }
        _ if prefix == 0 => {
            remarks.push(format!("--ip {text} keeps nobody out; leave it away to say so"));
            return Ok(remarks);
        }
        IpAddr::V6(_) => {
            remarks.push(
                "CloudFront itself knows no IPv6 address; the edge does, unless STRICT_AWS is on".to_owned(),
            );
            if prefix == 32 {
                remarks.push(format!("--ip {text} is 2^96 addresses; a single IPv6 address is /128"));
            }
        }
        IpAddr::V4(_) => {
            remarks.push("a viewer who comes by IPv6 is refused, wherever from".to_owned());
        }
    }
    if network != address {
        remarks.push(format!("--ip {text} means all of {network}/{prefix}"));
    }
    Ok(remarks)
}

/// Where a browser sends cookies to, as attributes of theirs ([RFC 6265 §5.1]).
///
/// [RFC 6265 §5.1]: https://www.rfc-editor.org/rfc/rfc6265#section-5.1
#[derive(Clone, Debug, Eq, PartialEq)]
struct CookieScope {
    /// Nothing where the browser has to go by who sets them.
    domain: Option<String>,
    path: String,
    secure: bool,
    same_site: Option<SameSite>,
}

impl CookieScope {
    /// As narrow as `resource` allows: the cookies of two assets have the same names, and do not meet where their
    /// paths differ.
    fn of(url: &str, resource: &str) -> Self {
        let rest = |url: &str| url.split_once("://").map(|(_, rest)| rest.to_owned());
        let host = rest(url).unwrap_or_default();
        let host = host.split(['/', '?']).next().unwrap_or_default();
        let host = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() };
        let host = host.strip_prefix("*.").unwrap_or(host).to_ascii_lowercase();
        let own = host.contains('.') && !host.contains(['*', '?']) && host.parse::<IpAddr>().is_err();

        let target = rest(resource).unwrap_or_default();
        let target = target.find('/').map_or("/", |slash| &target[slash..]);
        // What is no literal path; and what would end the attribute.
        let path = match target.find(['*', '?', '\\', ';']) {
            Some(end) => target[..end].rfind('/').map_or("/", |slash| &target[..=slash]),
            None => target,
        };
        let secure = !url.starts_with("http://");
        Self { domain: own.then_some(host), path: path.to_owned(), secure, same_site: None }
    }

    fn wanted(self, Cookies { domain, same_site }: &Cookies) -> Self {
        Self { domain: domain.clone().or(self.domain), same_site: *same_site, ..self }
    }

    fn remarks(&self) -> Vec<String> {
        let domain = match &self.domain {
            Some(domain) => format!(
                "browsers take these cookies from {domain} and hosts below it only; a backend elsewhere writes the \
                 Domain that both share"
            ),
            None => "browsers keep these cookies for the host that sets them, which has to be the edge's"
                .to_owned(),
        };
        let insecure = "over http anybody on the way can read these cookies, so they are without Secure";
        [domain].into_iter().chain((!self.secure).then(|| insecure.to_owned())).collect()
    }
}

impl std::fmt::Display for CookieScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(domain) = &self.domain {
            write!(f, "; Domain={domain}")?;
        }
        write!(f, "; Path={}; {}HttpOnly", self.path, if self.secure { "Secure; " } else { "" })?;
        match self.same_site {
            None => Ok(()),
            Some(same_site) => write!(f, "; SameSite={same_site:?}"),
        }
    }
}

/// Unix seconds of a time, or of a duration from now.
fn moment(option: &'static str, text: &str, now: Timestamp) -> Result<u64, SignError> {
    let unreadable = || SignError::Moment(option, text.to_owned());
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Not taken for a time, though it may be meant as one: 7200 would be 1970.
        let number: u64 = text.parse().map_err(|_| unreadable())?;
        return Err(match number {
            MILLISECONDS.. => SignError::Milliseconds(option, text.to_owned(), calendar(number / 1000)),
            1_000_000_000.. => SignError::Number(option, text.to_owned(), calendar(number)),
            _ => unreadable(),
        });
    }
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

/// Unix seconds as people write them; nothing that a calendar has becomes the end of it.
fn calendar(seconds: u64) -> String {
    let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.unwrap_or(Timestamp::MAX).to_string()
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
    /// Milliseconds, where CloudFront has seconds.
    #[error("{0} {1} is in milliseconds, which CloudFront calls a malformed policy; write {2}")]
    Milliseconds(&'static str, String, String),
    /// A time that cannot be read.
    #[error("{0} {1:?} is neither a time from now, like 2h, nor one in RFC 3339, like 2026-12-31T18:00:00Z")]
    Moment(&'static str, String),
    /// It would start after it ends.
    #[error("it would stop working before it starts; --starts must be before --expires")]
    Never,
    /// A bare number, that may be a time.
    #[error("{0} {1} is a bare number; if it is Unix time write {2}, if it is from now its unit, like 2h")]
    Number(&'static str, String, String),
    /// It would be expired at once.
    #[error("--expires is in the past")]
    Past,
    /// A policy that the edge would not take.
    #[error("the edge would not take the policy: {0}")]
    Policy(String),
    /// A range of addresses that nobody means.
    #[error("--ip {0} {1}")]
    Range(String, &'static str),
    /// A resource that opens nothing, or something else.
    #[error("the resource {0:?} {1}")]
    Resource(String, &'static str),
    /// A suffix that cannot stand in the name of a parameter.
    #[error("--prefix {0:?} must be made of letters, digits, -, _ and .")]
    Suffix(String),
    /// CloudFront's last second.
    #[error("--expires is after 2038-01-19T03:14:07Z, the last second that CloudFront's signatures can name")]
    TooFar,
    /// A URL that neither CloudFront nor the edge would take.
    #[error("signed, the URL has {0} bytes; CloudFront and the edge take {LONGEST_URL}")]
    TooLong(usize),
    /// A URL that no player would ask for as it is written.
    #[error("the URL {0:?} {1}")]
    Url(String, Cow<'static, str>),
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::LazyLock;

    use clap::Parser;

    use super::*;
    use crate::keygen::{Algorithm, Pair};

    static NOW: LazyLock<Timestamp> = LazyLock::new(|| "2026-12-31T12:00:00Z".parse().unwrap());
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        Pair::of(Algorithm::Ecdsa).unwrap().write(folder.path()).unwrap();
        folder
    });
    static KEY: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::load("K1", &private()).unwrap());

    fn private() -> PathBuf {
        FOLDER.path().join("private.pem")
    }

    fn order(url: &str) -> Order {
        let expires = moment("--expires", "2h", *NOW).unwrap();
        Order { url: url.to_owned(), expires, starts: None, address: None, resource: None }
    }

    fn refused(order: &Order) -> String {
        KEY.sign(order, *NOW).unwrap_err().to_string()
    }

    fn parameters(query: &str) -> Vec<(&str, &str)> {
        let query = query.split_once('?').map_or(query, |(_, query)| query);
        query.split('&').map(|pair| pair.split_once('=').unwrap()).collect()
    }

    fn names<'a>(parameters: &[(&'a str, &str)]) -> Vec<&'a str> {
        parameters.iter().map(|(name, _)| *name).collect()
    }

    /// The text that a URL's policy is, or the name of the form it has.
    fn policy_of(signed: &Signed) -> String {
        let policy = parameters(&signed.url).into_iter().find(|(name, _)| *name == "Policy");
        policy.map_or("canned".to_owned(), |(_, text)| {
            String::from_utf8(policy::decode(text).unwrap()).unwrap()
        })
    }

    /// What the command makes of a command line.
    fn command(line: &str) -> Result<Signed, String> {
        #[derive(Parser)]
        struct Command {
            #[command(flatten)]
            arguments: Arguments,
        }
        let key = private();
        let common = ["sign", "--key-pair-id", "K1", "--private-key", key.to_str().unwrap()];
        let command = Command::try_parse_from(common.into_iter().chain(line.split(' ')));
        let arguments = command.map_err(|error| error.to_string())?.arguments;
        arguments.signed(*NOW).map_err(|error| error.to_string())
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
        assert_eq!(names(&parameters(&signed.url)), ["Policy", "Signature", "Key-Pair-Id"]);
        let everything = KEY.sign(&order("*"), *NOW).unwrap();
        assert_eq!(everything.remarks, ["opens everything that the edge serves"]);
    }

    #[test]
    fn sha_256_is_said_last() {
        let key = KeyPair::load("K1", &private()).unwrap().hashing(Hash::Sha256);
        let order = order("https://v.example/poster.jpg");
        let signed = key.sign(&order, *NOW).unwrap();
        assert!(signed.url.ends_with("&Key-Pair-Id=K1&Hash-Algorithm=SHA256"), "{}", signed.url);
        assert_ne!(parameters(&signed.url)[1], parameters(&KEY.sign(&order, *NOW).unwrap().url)[1]);
    }

    #[test]
    fn the_same_order_makes_the_same_url() {
        let order = order("https://v.example/assets/talk/index.m3u8");
        assert_eq!(KEY.sign(&order, *NOW), KEY.sign(&order, *NOW));
    }

    #[test]
    fn parameters_may_be_there_twice_and_say_the_same() {
        let key = KeyPair::load("K1", &private()).unwrap().hashing(Hash::Sha256);
        let playlist = order("https://v.example/assets/talk/index.m3u8");
        let signed = key.sign_twice(&playlist, "-PREFIX", *NOW).unwrap();
        let parameters = parameters(&signed.url);
        let (plain, again) = parameters.split_at(4);
        assert_eq!(names(plain), ["Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"]);
        for ((name, value), (suffixed, same)) in plain.iter().zip(again) {
            assert_eq!((format!("{name}-PREFIX"), value), ((*suffixed).to_owned(), same));
        }
        let poster = order("https://v.example/poster.jpg");
        assert!(
            key.sign_twice(&poster, "-PREFIX", *NOW).unwrap_err().to_string().contains("does not end in *")
        );
        assert!(key.sign_twice(&playlist, "&x=", *NOW).unwrap_err().to_string().contains("--prefix"));
    }

    #[test]
    fn cookies_are_a_custom_policy_for_the_folder_that_it_opens() {
        let cookies = |key: &KeyPair, order: &Order| key.sign_cookies(order, *NOW).unwrap().cookies;
        let found = cookies(&KEY, &order("https://V.example/poster.jpg".to_lowercase().as_str()));
        let attributes = "; Domain=v.example; Path=/poster.jpg; Secure; HttpOnly";
        for (cookie, name) in found.iter().zip(["Policy", "Signature", "Key-Pair-Id"]) {
            assert!(cookie.starts_with(&format!("CloudFront-{name}=")), "{cookie}");
            assert!(cookie.ends_with(attributes), "{cookie}");
        }
        assert_eq!(found.len(), 3);
        let key = KeyPair::load("K1", &private()).unwrap().hashing(Hash::Sha256);
        let found = cookies(&key, &order("https://v.example/assets/talk/index.m3u8"));
        assert_eq!(
            found[3],
            "CloudFront-Hash-Algorithm=SHA256; Domain=v.example; Path=/assets/talk/; Secure; HttpOnly"
        );
    }

    #[test]
    fn cookies_go_no_further_than_what_they_open() {
        let scope = |url: &str, resource: &str| CookieScope::of(url, resource).to_string();
        let url = "https://v.example/assets/talk/index.m3u8";
        for (resource, path) in [
            ("https://v.example/assets/talk/*", "/assets/talk/"),
            ("https://v.example/assets/talk*", "/assets/"),
            ("https://v.example/assets/?/1.ts", "/assets/"),
            ("https://v.example/a;b/*", "/"),
            ("https://v.example*", "/"),
            ("http*://*/assets/talk/index.m3u8", "/assets/talk/index.m3u8"),
            ("*", "/"),
        ] {
            assert_eq!(
                scope(url, resource),
                format!("; Domain=v.example; Path={path}; Secure; HttpOnly"),
                "{resource}"
            );
        }
        for (url, domain) in [
            ("https://*.v.example/a/*", "; Domain=v.example"),
            ("https://v.example:8443/a/1", "; Domain=v.example"),
            ("https://v*.example/a/*", ""),
            ("https://localhost/a/1", ""),
            ("https://127.0.0.1:8787/a/1", ""),
            ("https://[::1]:8787/a/1", ""),
            ("*", ""),
        ] {
            assert_eq!(scope(url, "https://h/a/*"), format!("{domain}; Path=/a/; Secure; HttpOnly"), "{url}");
        }
        let plain = CookieScope::of("http://v.example/a/1", "*");
        assert_eq!(plain.to_string(), "; Domain=v.example; Path=/; HttpOnly");
        let wanted = Cookies { domain: Some("example".to_owned()), same_site: Some(SameSite::Strict) };
        let wanted = plain.clone().wanted(&wanted).to_string();
        assert_eq!(wanted, "; Domain=example; Path=/; HttpOnly; SameSite=Strict");
        assert!(plain.remarks()[1].contains("without Secure"));
    }

    #[test]
    fn what_would_be_refused_later_is_refused_now() {
        for (url, reason) in [
            ("v.example/a.jpg", "does not begin"),
            ("ftp://v.example/a.jpg", "does not begin"),
            ("/assets/talk/index.m3u8", "does not begin"),
            ("https://v.example", "no object"),
            ("https://v.example/?a", "no object"),
            ("https://v.example/é.jpg", "https://v.example/%C3%A9.jpg; sign that"),
            ("https://v.example/a b.jpg", "https://v.example/a%20b.jpg; sign that"),
            ("https://v.example/a.jpg?n='x'", "?n=%27x%27; sign that"),
            ("https://v.example/a/../b.jpg", "https://v.example/b.jpg; sign that"),
            ("https://v.example/a/%2e%2E/b.jpg", "https://v.example/b.jpg; sign that"),
            ("https://v.example\\a.jpg", "https://v.example/a.jpg; sign that"),
            ("https://V.example:443/a.jpg", "https://v.example/a.jpg; sign that"),
            ("https://v.example/a%2Fb.jpg", "none that the edge answers"),
            ("https://v.example/%FF.jpg", "none that the edge answers"),
            ("https://v.example/a.jpg#t=1", "fragment"),
            ("https://me@v.example/a.jpg", "user's name"),
            ("https://v.example/a.jpg?x&Key-Pair-Id=K", "signed already"),
            ("https://v.example/a.jpg?Policy-PREFIX=x", "signed already"),
            ("https://v.example/a.jpg?", "empty parameter"),
            ("https://v.example/a.jpg?&x=1", "empty parameter"),
            ("https://v.example/a.jpg?x=1&&y=2", "empty parameter"),
            ("https://v.example/a.jpg?x=1&", "empty parameter"),
            ("/assets/*", "no pattern"),
            ("v.example/assets/*", "no pattern"),
            ("ftp://v.example/assets/*", "no pattern"),
            ("https://v.example/é/*", "percent-encode"),
        ] {
            let error = refused(&order(url));
            assert!(error.contains(reason) && !error.contains('\n'), "{url}: {error}");
        }
        let custom = Order { starts: Some(1_798_720_000), ..order("https://v.example/a.jpg?x=1&&y=2") };
        assert!(refused(&custom).contains("does not cover"));
        let url = "https://v.example/assets/talk/index.m3u8";
        let resource = Some("https://v.example/assets/other/*".to_owned());
        assert!(refused(&Order { resource, ..order(url) }).contains("does not cover"));
        let resource = Some(format!("https://v.example/*{}", "*".repeat(4096)));
        assert!(refused(&Order { resource, ..order(url) }).contains("longer than 4096"));
        let long = format!("{url}?x={}", "x".repeat(8_000));
        assert!(refused(&order(&long)).contains("take 8192"));
        assert!(refused(&Order { expires: 1_798_718_400, ..order(url) }).contains("in the past"));
        assert!(refused(&Order { expires: 2_147_483_648, ..order(url) }).contains("2038"));
        assert!(refused(&Order { starts: Some(1_798_725_600), ..order(url) }).contains("before"));
        for order in [
            Order { expires: 1_798_725_600_000, ..order(url) },
            Order { starts: Some(1_798_725_600_000), ..order(url) },
        ] {
            assert!(refused(&order).contains("in milliseconds"));
            assert!(refused(&order).contains("write 2026-12-31T14:00:00Z"));
        }
    }

    #[test]
    fn an_address_is_warned_of_where_it_is_not_what_it_looks() {
        let playlist = "https://v.example/assets/talk/index.m3u8";
        let remarks = |text: &str| address_remarks(Cidr::parse(text).unwrap()).unwrap().join(". ");
        assert!(remarks("192.0.2.7").contains("IPv6 is refused"));
        assert!(remarks("192.0.2.7/24").contains("means all of 192.0.2.0/24"));
        assert!(!remarks("192.0.2.0/24").contains("means"));
        assert!(remarks("0.0.0.0/0").contains("keeps nobody out"));
        assert!(remarks("::/0").contains("keeps nobody out"));
        assert!(remarks("2001:db8::1").contains("CloudFront itself knows no IPv6"));
        assert!(remarks("2001:db8::/32").contains("2^96"));
        assert!(remarks("2001:db8::1/64").contains("means all of 2001:db8::/64"));
        for (address, reason) in [("2001:db8::1/32", "/128"), ("::ffff:192.0.2.7", "IPv4")] {
            let error = refused(&Order { address: Cidr::parse(address), ..order(playlist) });
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_playlist_that_would_not_play_is_warned_of() {
        let url = "https://v.example/assets/talk/index.m3u8";
        let signed = KEY.sign(&Order { resource: Some(url.to_owned()), ..order(url) }, *NOW).unwrap();
        assert_eq!(signed.remarks, ["opens the playlist, but nothing beside it that it would link to"]);
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
        for text in ["", "tomorrow", "2026-12-31", "-100y", "1mo", "7200", "99999999999999999999"] {
            assert!(moment(text).unwrap_err().to_string().contains("neither"), "{text}");
        }
        assert!(moment("1798725600").unwrap_err().to_string().contains("write 2026-12-31T14:00:00Z"));
        assert!(moment("1798725600000").unwrap_err().to_string().contains("milliseconds"));
        assert!(moment("9999999999999999999").unwrap_err().to_string().contains("milliseconds"));
    }

    #[test]
    fn the_command_line_says_all_of_it() {
        let url = "https://v.example/assets/talk/index.m3u8";
        let signed = command(&format!("{url} --expires 2h --hash sha256")).unwrap();
        assert!(signed.url.ends_with("Hash-Algorithm=SHA256") && signed.cookies.is_empty());
        assert_eq!(command(&format!("{url} --expires 2h --cookies")).unwrap().cookies.len(), 3);
        let twice = command(&format!("{url} --expires 2h --prefix")).unwrap();
        assert!(twice.url.ends_with("&Key-Pair-Id-PREFIX=K1"), "{}", twice.url);
        let twice = command(&format!("{url} --expires 2h --prefix=_2")).unwrap();
        assert!(twice.url.ends_with("&Key-Pair-Id_2=K1"), "{}", twice.url);
        let narrow =
            command(&format!("{url} --expires 2h --starts 1h --ip 192.0.2.0/24 --resource *")).unwrap();
        assert_eq!(
            policy_of(&narrow),
            r#"{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1798725600},"DateGreaterThan":{"AWS:EpochTime":1798722000},"IpAddress":{"AWS:SourceIp":"192.0.2.0/24"}}}]}"#
        );
        assert!(command(&format!("{url} --expires 2h --hash md5")).unwrap_err().contains("sha256"));
        assert!(
            command(&format!("{url} --expires 2h --cookies --prefix"))
                .unwrap_err()
                .contains("cannot be used")
        );
        assert!(command(&format!("{url} --expires 2h --ip here")).unwrap_err().contains("no address"));
        assert!(KeyPair::load("K1", Path::new("/nowhere")).is_err());
    }
}
