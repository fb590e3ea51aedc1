//! What a signature permits.
//!
//! CloudFront has two forms. A *canned* policy is only an expiry: it never travels, both sides build the same
//! text around the URL and the time. A *custom* policy travels whole in the query and may have wildcards,
//! which is what HLS needs: one signature opens a folder of segments that nobody could sign one by one.
//!
//! This module is what signer and verifier must agree on: the texts, their base64, their wildcards. Formats:
//! [canned policy], [custom policy].
//!
//! [canned policy]: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-canned-policy.html
//! [custom policy]: https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-creating-signed-url-custom-policy.html

use std::net::IpAddr;

use base64::Engine;
use base64::alphabet::Alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use http::Uri;
use http::uri::Authority;
use serde::Serialize;

use crate::json::Json;

/// The last second that CloudFront accepts, in both forms: 2038-01-19.
pub const LAST_SECOND: u64 = i32::MAX as u64;

/// The last second of the year 9999. Whoever writes milliseconds is beyond it, as with CloudFront.
const LAST_MILLENNIUM: u64 = 253_402_300_799;

/// The longest policy text that is read, in bytes. A real one has 150 to 400.
const LONGEST: usize = 4096;

/// Where this gate reads signatures otherwise than CloudFront, as far as that can be chosen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dialect {
    /// Only what CloudFront itself accepts: no IPv6, no `0.0.0.0/0` for IPv6 viewers, no time after 2038.
    pub strict: bool,
    /// Whether SHA-1 is refused, which CloudFront takes where nothing else is said.
    pub forbids_sha1: bool,
    /// What the names of the second set of parameters end in, that AWS's design for HLS sends beside the first.
    pub suffix: String,
    /// Patterns of the names of parameters that players add, and that a canned policy may be matched without.
    pub players: Vec<String>,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { strict: false, forbids_sha1: false, suffix: "-PREFIX".to_owned(), players: Vec::new() }
    }
}

impl Dialect {
    /// Whether a canned policy may be matched without the parameter `name`.
    #[must_use]
    pub fn tolerates(&self, name: &str) -> bool {
        self.players.iter().any(|pattern| glob(pattern, name))
    }

    fn last_second(&self) -> u64 {
        if self.strict { LAST_SECOND } else { LAST_MILLENNIUM }
    }
}

/// What may be fetched, by whom, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    /// The URLs that are opened.
    pub resource: Resource,
    /// Unix seconds from which on nothing is opened any more.
    pub expires: u64,
    /// Unix seconds up to and including which nothing is opened yet.
    pub starts: Option<u64>,
    /// The only addresses that are let in.
    pub address: Option<Cidr>,
}

/// Which URLs a policy opens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resource {
    /// One URL, in which `*` and `?` mean themselves: a canned policy's.
    Exactly(String),
    /// A custom policy's, with wildcards.
    Pattern(String),
    /// A custom policy that names none: everything.
    Any,
}

/// The text that a canned policy's signature is over.
///
/// Nothing is escaped, as CloudFront's own rebuilding of it does not. `None` for what JSON would have to
/// escape, so that no URL can pass for a policy that somebody signed for another purpose.
#[must_use]
pub fn canned(url: &str, expires: u64) -> Option<String> {
    let plain = !url.contains(|c: char| c.is_control() || matches!(c, '"' | '\\'));
    plain.then(|| {
        format!(
            r#"{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
        )
    })
}

/// Reads what a canned URL's `Expires` says. One time has one spelling.
#[must_use]
pub fn epoch(text: &str, dialect: &Dialect) -> Option<u64> {
    let canonical = !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&seconds| canonical && seconds <= dialect.last_second())
}

impl Policy {
    /// Reads the text of a custom policy. What it says and we do not enforce is an error.
    ///
    /// `0.0.0.0/0` is AWS's samples' way to write "any address": it restricts nothing, but where the dialect is
    /// strict, IPv6 viewers.
    pub fn parse(text: &[u8], dialect: &Dialect) -> Result<Self, BadPolicy> {
        Self::read(text, dialect).map_err(|problem| BadPolicy::new(&problem))
    }

    fn read(text: &[u8], dialect: &Dialect) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err("it is longer than 4096 bytes".to_owned());
        }
        let document = Json::parse(text).map_err(|error| error.to_string())?;
        let [statement] = document.members(["Statement"])?;
        // AWS shows a list of one today and showed a bare statement until 2023; signers write both.
        let statement = match statement.ok_or("there is no Statement")? {
            Json::List(list) => {
                <[_; 1]>::try_from(list).map(|[only]| only).map_err(|_| "not one Statement")?
            }
            bare => bare,
        };
        let [resource, condition] = statement.members(["Resource", "Condition"])?;
        let resource = match resource {
            Some(Json::Text(resource)) => Resource::Pattern(resource.into_owned()),
            Some(_) => return Err("the Resource is no text".to_owned()),
            None => Resource::Any,
        };
        let [less_than, greater_than, address] = condition.ok_or("there is no Condition")?.members([
            "DateLessThan",
            "DateGreaterThan",
            "IpAddress",
        ])?;
        let expires = less_than.ok_or("there is no DateLessThan").map(seconds)??;
        let starts = greater_than.map(seconds).transpose()?;
        if expires.max(starts.unwrap_or_default()) > dialect.last_second() {
            return Err("a time is too far ahead; is it in milliseconds?".to_owned());
        }
        let address = address.map(|address| cidr(address, dialect)).transpose()?.flatten();
        Ok(Self { resource, expires, starts, address })
    }

    /// The text of a custom policy, without white space, in the order of AWS's JavaScript signer.
    #[must_use]
    pub fn to_json(&self) -> String {
        let document = Document {
            statement: [Statement {
                resource: match &self.resource {
                    Resource::Exactly(url) | Resource::Pattern(url) => Some(url.clone()),
                    Resource::Any => None,
                },
                condition: Condition {
                    less_than: Epoch { seconds: self.expires },
                    greater_than: self.starts.map(|seconds| Epoch { seconds }),
                    ip_address: self.address.map(|cidr| SourceIp { source: cidr.to_string() }),
                },
            }],
        };
        // Strings, integers and string keys: nothing in here can fail to be written.
        serde_json::to_string(&document).unwrap_or_default()
    }
}

impl Resource {
    /// Whether `url` is one of those that are opened.
    ///
    /// A pattern is cut where CloudFront cuts it, `protocol://domain/path?query`, and a wildcard stays in its
    /// section, but for a `*` at the end of the path, which is followed by any query, and one at the end of
    /// the domain, which is followed by anything. A `?` in it may be the start of the query or one character:
    /// AWS's pages say both. `\?` is always the start of the query.
    #[must_use]
    pub fn covers(&self, url: &Location<'_>) -> bool {
        self.mismatch(url).is_none()
    }

    /// What the paths of all URLs begin with that are opened, of hosts that are; `None` if that is not all that there is
    /// to it.
    #[must_use]
    pub fn path_prefix(&self) -> Option<&str> {
        match self {
            Self::Exactly(_) => None,
            Self::Any => Some("/"),
            Self::Pattern(pattern) if pattern == "*" => Some("/"),
            Self::Pattern(pattern) => {
                let (_, _, target) = sections(pattern)?;
                target.strip_suffix('*').filter(|prefix| !prefix.contains(['*', '?', '\\']))
            }
        }
    }

    /// Whether all URLs that are opened are of one host.
    #[must_use]
    pub fn is_of_one_host(&self) -> bool {
        match self {
            Self::Exactly(_) => true,
            Self::Any => false,
            Self::Pattern(pattern) => {
                sections(pattern).is_some_and(|(_, domain, _)| !domain.contains(['*', '?']))
            }
        }
    }

    /// The first section of the resource that is not `url`'s; `None` if it is opened.
    #[must_use]
    pub fn mismatch(&self, url: &Location<'_>) -> Option<Section> {
        match self {
            Self::Exactly(exactly) => (*exactly != url.to_string()).then_some(Section::Url),
            Self::Pattern(pattern) if pattern == "*" => None,
            Self::Pattern(pattern) => pattern_mismatch(pattern, url),
            Self::Any => None,
        }
    }
}

/// A part of a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// All of a canned policy's.
    Url,
    /// What stands before `://`, or should.
    Protocol,
    /// Host and port.
    Domain,
    /// The rest.
    PathOrQuery,
}

/// The URL that a viewer asks for, without what signs it, in the sections that a policy is matched by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Location<'a> {
    /// `https`, or `http`.
    pub scheme: &'a str,
    /// Host, and port where it is not the scheme's own.
    pub host: &'a str,
    /// Everything from the first `/` to the query, as it was written.
    pub path: &'a str,
    /// The viewer's own query, empty for none.
    pub query: String,
}

impl<'a> Location<'a> {
    /// Takes an absolute `uri` apart. `query` is what of its query is the viewer's own.
    #[must_use]
    pub fn new(uri: &'a Uri, query: String) -> Self {
        Self {
            scheme: uri.scheme_str().unwrap_or_default(),
            host: uri.authority().map_or("", Authority::as_str),
            path: uri.path(),
            query,
        }
    }
}

impl std::fmt::Display for Location<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { scheme, host, path, query } = self;
        let separator = if query.is_empty() { "" } else { "?" };
        write!(f, "{scheme}://{host}{path}{separator}{query}")
    }
}

/// Protocol, domain, and path with query, of a pattern that has them.
fn sections(pattern: &str) -> Option<(&str, &str, &str)> {
    let (protocol, rest) = match pattern.split_once("://") {
        Some((protocol, rest)) if !protocol.contains(['/', '.']) => (protocol, rest),
        // Only a leading wildcard stands for the protocol too; `/v/*` is of the RTMP days and means nothing here.
        _ if pattern.starts_with('*') => ("*", pattern),
        _ => return None,
    };
    Some(match rest.find('/').and_then(|slash| rest.split_at_checked(slash)) {
        Some((domain, target)) => (protocol, domain, target),
        None if rest.ends_with('*') => (protocol, rest, "/*"),
        None => (protocol, rest, "/"),
    })
}

fn pattern_mismatch(pattern: &str, url: &Location<'_>) -> Option<Section> {
    let Some((protocol, domain, target)) = sections(pattern) else { return Some(Section::Protocol) };
    let same = |pattern: &str, text: &str| {
        pattern == text || glob(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
    };
    if !same(protocol, url.scheme) {
        Some(Section::Protocol)
    } else if !same(domain, url.host) {
        Some(Section::Domain)
    } else {
        (!target_covers(target, url.path, &url.query)).then_some(Section::PathOrQuery)
    }
}

fn target_covers(pattern: &str, path: &str, query: &str) -> bool {
    if let Some((path_pattern, query_pattern)) = pattern.split_once("\\?") {
        return glob(path_pattern, path) && glob(query_pattern, query);
    }
    let without_query = glob(pattern, path) && (query.is_empty() || pattern.ends_with('*'));
    without_query
        || pattern.match_indices('?').any(|(i, _)| {
            let (path_pattern, rest) = pattern.split_at(i);
            glob(path_pattern, path) && rest.strip_prefix('?').is_some_and(|rest| glob(rest, query))
        })
}

/// Whether `text` is `pattern`, in which `*` stands for any run of characters and `?` for one.
/// On a mismatch only the latest `*` is tried again, so the work is at most the product of the lengths.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    // Most of what is matched is the same up to the first wildcard, or is not at all.
    let literal = pattern.find(['*', '?']).unwrap_or(pattern.len());
    let (Some((before, pattern)), Some((beginning, text))) =
        (pattern.split_at_checked(literal), text.split_at_checked(literal))
    else {
        return false;
    };
    if before != beginning {
        return false;
    }
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    let mut latest = None;
    loop {
        let here = text.clone();
        match (pattern.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                if pattern.as_str().is_empty() {
                    return true;
                }
                text = here;
                latest = Some((pattern.clone(), text.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            (Some(_), None) => return false,
            (_, Some(_)) => {
                let Some((after_star, from)) = &mut latest else { return false };
                from.next();
                pattern = after_star.clone();
                text = from.clone();
            }
        }
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// Reads `192.0.2.0/24`, or a single address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (network, prefix) = match text.split_once('/') {
            Some((network, prefix)) => (network, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().ok()?;
        let widest = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
            None => widest,
        };
        (prefix <= widest).then_some(Self { network, prefix })
    }

    /// How many bits of an address have to be the network's.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it lets in who comes from `address`, if that is known. An IPv4 address in IPv6's clothes counts
    /// as what it is.
    #[must_use]
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let same = |difference: u128, bits: u32| {
            difference.checked_shr(bits - u32::from(self.prefix)).unwrap_or(0) == 0
        };
        match (self.network, address.map(|address| address.to_canonical())) {
            (IpAddr::V4(network), Some(IpAddr::V4(address))) => {
                same(u128::from(network.to_bits() ^ address.to_bits()), 32)
            }
            (IpAddr::V6(network), Some(IpAddr::V6(address))) => {
                same(network.to_bits() ^ address.to_bits(), 128)
            }
            _ => false,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Writes bytes as CloudFront puts them in a query: base64, with `+`, `=` and `/` written `-`, `_` and `~`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = base64().encode(bytes);
    while !text.len().is_multiple_of(4) {
        text.push('_');
    }
    text
}

/// Reads what [`encode`] wrote, and nothing that only resembles it: no other alphabet, no padding forgotten,
/// no stray bits. Two spellings of one signature would be two tokens.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('_');
    let padding = text.len() - digits.len();
    (text.len().is_multiple_of(4) && padding <= 2).then(|| base64().decode(digits).ok()).flatten()
}

fn base64() -> GeneralPurpose {
    const ALPHABET: Alphabet =
        match Alphabet::new("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-~") {
            Ok(alphabet) => alphabet,
            Err(_) => base64::alphabet::STANDARD,
        };
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&ALPHABET, NO_PAD);
    ENGINE
}

/// A custom policy that cannot be read, or asks for what is not enforced here.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the policy cannot be read: {0}")]
pub struct BadPolicy(String);

impl BadPolicy {
    /// Takes what is wrong, in which the policy may be quoted: nobody writes lines of our log but us.
    fn new(problem: &str) -> Self {
        let mut text = String::with_capacity(problem.len());
        for character in problem.chars() {
            if character.is_control() {
                text.extend(character.escape_debug());
            } else {
                text.push(character);
            }
        }
        Self(text)
    }
}

fn seconds(epoch: Json<'_>) -> Result<u64, String> {
    match epoch.members(["AWS:EpochTime"])? {
        [Some(Json::Whole(seconds))] => Ok(seconds),
        _ => Err("a time is no number of seconds".to_owned()),
    }
}

/// What an `IpAddress` restricts to, if anything.
fn cidr(address: Json<'_>, dialect: &Dialect) -> Result<Option<Cidr>, String> {
    let [Some(Json::Text(source))] = address.members(["AWS:SourceIp"])? else {
        return Err("the IpAddress is no text".to_owned());
    };
    let cidr = Cidr::parse(&source).ok_or_else(|| format!("{source} is no CIDR"))?;
    if dialect.strict && cidr.network.is_ipv6() {
        return Err(format!("{source} is IPv6, which CloudFront does not know"));
    }
    Ok(Some(cidr).filter(|cidr| cidr.prefix > 0 || cidr.network.is_ipv6() || dialect.strict))
}

/// A custom policy as it is written.
#[derive(Serialize)]
struct Document {
    #[serde(rename = "Statement")]
    statement: [Statement; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    condition: Condition,
}

#[derive(Serialize)]
struct Condition {
    #[serde(rename = "DateLessThan")]
    less_than: Epoch,
    #[serde(rename = "DateGreaterThan", skip_serializing_if = "Option::is_none")]
    greater_than: Option<Epoch>,
    #[serde(rename = "IpAddress", skip_serializing_if = "Option::is_none")]
    ip_address: Option<SourceIp>,
}

#[derive(Serialize)]
struct Epoch {
    #[serde(rename = "AWS:EpochTime")]
    seconds: u64,
}

#[derive(Serialize)]
struct SourceIp {
    #[serde(rename = "AWS:SourceIp")]
    source: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &[u8]) -> Result<Policy, BadPolicy> {
        Policy::parse(text, &Dialect::default())
    }

    fn covers(pattern: &str, url: &str) -> bool {
        let uri: Uri = url.parse().unwrap();
        let query = uri.query().unwrap_or_default().to_owned();
        Resource::Pattern(pattern.to_owned()).covers(&Location::new(&uri, query))
    }

    #[test]
    fn a_folder_policy_covers_what_is_below_it_and_nothing_else() {
        let folder = "https://v.example/talks/42/*";
        assert!(covers(folder, "https://v.example/talks/42/720p/0001.m4s"));
        assert!(covers(folder, "https://V.Example/talks/42/index.m3u8?_HLS_msn=3"));
        for url in [
            "https://v.example/talks/421/index.m3u8",
            "https://v.example/talks/4",
            "https://v.example/Talks/42/index.m3u8",
            "http://v.example/talks/42/index.m3u8",
            "https://w.example/talks/42/index.m3u8",
            "https://w.example/?x=https://v.example/talks/42/",
            "https://v.example:8443/talks/42/index.m3u8",
        ] {
            assert!(!covers(folder, url), "{url}");
        }
    }

    /// The table of the custom policy page, "Use wildcard characters", and its examples.
    #[test]
    fn a_wildcard_stays_in_its_section() {
        for (pattern, url, covered) in [
            ("*", "https://any.example/at/all?x=1", true),
            ("https://*", "https://any.example/at/all?x=1", true),
            ("https://*", "http://any.example/at/all", false),
            ("http*://v.example/*", "http://v.example/a", true),
            ("http*://v.example/*", "https://v.example/a?b", true),
            ("*://v.example/*", "https://v.example/a", true),
            ("*example.com", "https://www.example.com/", true),
            ("*example.com", "https://www.example.com/a", false),
            ("https://v.example", "https://v.example/", true),
            ("https://v.example", "https://v.example/a", false),
            ("https://v.example*", "https://v.example/a?b", true),
            ("https://*.example/a", "https://v.example/a", true),
            ("https://*.example/a", "https://evil/.example/a", false),
            ("https://v.example/*.ts", "https://v.example/a/b.ts", true),
            ("https://v.example/*.ts", "https://v.example/a/b.ts?x=1", false),
            ("https://v.example/*.ts", "https://v.example/secret?x=.ts", false),
            ("https://v.example/a?c", "https://v.example/abc", true),
            ("https://v.example/a?c", "https://v.example/a?c", true),
            ("https://v.example/a?c", "https://v.example/a/c", true),
            ("https://v.example/a?c", "https://v.example/ac", false),
            ("https://v.example/a\\?c", "https://v.example/a?c", true),
            ("https://v.example/a\\?c", "https://v.example/abc", false),
            ("https://v.example/a\\?*", "https://v.example/a?c=1", true),
            ("https://v.example/a\\?*", "https://v.example/a", true),
            ("https://v.example/a?x=*", "https://v.example/a?x=12", true),
            ("https://v.example/a?x=*", "https://v.example/a?y=12", false),
            ("https://v.example/???.ts?x=1", "https://v.example/abc.ts?x=1", true),
            ("/v/*", "https://v.example/v/1", false),
            ("v.example/*", "https://v.example/v/1", false),
            ("", "https://v.example/", false),
            ("https://", "https://v.example/", false),
        ] {
            assert_eq!(covers(pattern, url), covered, "{pattern} {url}");
        }
    }

    #[test]
    fn a_canned_url_has_no_wildcards() {
        let resource = Resource::Exactly("https://v.example/*".to_owned());
        assert!(resource.covers(&Location::new(&Uri::from_static("https://v.example/*"), String::new())));
        assert!(!resource.covers(&Location::new(&Uri::from_static("https://v.example/a"), String::new())));
        assert_eq!(canned("https://v.example/a\",\"b", 1), None);
        assert_eq!(canned("https://v.example/a\\", 1), None);
    }

    #[test]
    fn globs() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("*", "", true),
            ("**", "ab", true),
            ("a*b*c", "axxbyybc", true),
            ("a*b*c", "axxbyyb", false),
            ("?", "", false),
            ("?", "é", true),
            ("*a", "ba", true),
            ("*a", "bab", false),
            ("a*", "b", false),
            ("*aab", "aaab", true),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
        let long = "a".repeat(4000);
        assert!(!glob(&"a*".repeat(2000), &format!("{long}b").replace('a', "c")));
    }

    /// From the custom policy page; the order inside `Condition` is free, and so is white space.
    const FULL: &str = r#"{
        "Statement": [{
            "Resource": "https://v.example/42/*",
            "Condition": {
                "IpAddress": {"AWS:SourceIp": "192.0.2.0/24"},
                "DateGreaterThan": {"AWS:EpochTime": 1767290400},
                "DateLessThan": {"AWS:EpochTime": 1767290500}
            }
        }]
    }"#;

    #[test]
    fn a_policy_says_what_where_when_and_to_whom() {
        let policy = parse(FULL.as_bytes()).unwrap();
        assert_eq!(
            policy,
            Policy {
                resource: Resource::Pattern("https://v.example/42/*".to_owned()),
                expires: 1_767_290_500,
                starts: Some(1_767_290_400),
                address: Cidr::parse("192.0.2.0/24"),
            }
        );
        assert_eq!(parse(policy.to_json().as_bytes()), Ok(policy));
    }

    #[test]
    fn a_bare_statement_and_an_omitted_resource_are_read() {
        let text = r#"{"Statement":{"Condition":{"DateLessThan":{"AWS:EpochTime":1}}}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap().resource, Resource::Any);
    }

    #[test]
    fn a_policy_that_is_not_understood_is_refused() {
        let whole = r#"{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]}"#;
        assert!(parse(whole.as_bytes()).is_ok());
        for (from, to) in [
            (r":1}", r":1.0}"),
            (r":1}", r":1e3}"),
            (r":1}", r":-1}"),
            (r":1}", r#":"1"}"#),
            (r":1}", r":null}"),
            (r":1}", r":1767290400000}"),
            (r":1}", r#":1,"AWS:EpochTime":2}"#),
            (r"1}}", r#"1},"DateLessThan":{"AWS:EpochTime":2}}"#),
            (r"1}}", r#"1},"IpAddress":null}"#),
            (r"1}}", r#"1},"DateGreaterThan":null}"#),
            (r"1}}", r#"1},"IpAddress":{"AWS:SourceIp":"192.0.2.0/33"}}"#),
            (r"1}}", r#"1},"IpAddress":{"AWS:SourceIp":["192.0.2.0"]}}"#),
            (r"1}}", r#"1},"NotIpAddress":{"AWS:SourceIp":"192.0.2.0"}}"#),
            (r#""Resource":"*","#, r#""Resource":"*","Resource":"*","#),
            (r#""Resource":"*","#, r#""Resource":["*"],"#),
            (r#""Resource":"*","#, r#""Resource":null,"#),
            (r#""Resource":"*","#, r#""resource":"*","#),
            (r#""Resource":"*","#, r#""Effect":"Allow","#),
            (r"DateLessThan", r"DateGreaterThan"),
            (r"}}}]}", r#"}}},{"Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]}"#),
            (r"}}}]}", r#"}}}],"Version":"2012-10-17"}"#),
            (r"}}}]}", r"}}}]}{}"),
            (r"[{", r"[],[{"),
            (r#"{"AWS:EpochTime":1}"#, "[1]"),
            (r#"{"DateLessThan":{"AWS:EpochTime":1}}"#, r#"[{"AWS:EpochTime":1}]"#),
            (
                r#"[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]"#,
                r#"["*",{"DateLessThan":{"AWS:EpochTime":1}}]"#,
            ),
            (
                r#"{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]}"#,
                r#"[[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":1}}}]]"#,
            ),
        ] {
            let text = whole.replacen(from, to, 1);
            assert_ne!(text, whole);
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(format!("{}{whole}", " ".repeat(4096)).as_bytes()).is_err());
        assert!(parse(b"\xff").is_err());
        assert!(parse("[".repeat(4000).as_bytes()).is_err());
    }

    #[test]
    fn a_policy_that_is_refused_writes_no_line_of_its_own() {
        let source = r#"{"Statement":{"Condition":{"DateLessThan":{"AWS:EpochTime":1},"IpAddress":{"AWS:SourceIp":"\n\r\u001b"}}}}"#;
        for text in [r#"{"\n200 GET":1}"#, source] {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("\\n") && !error.contains(char::is_control), "{error}");
        }
    }

    #[test]
    fn cloudfronts_own_limits_can_be_insisted_on() {
        let strict = Dialect { strict: true, ..Dialect::default() };
        let policy = |condition: &str| format!(r#"{{"Statement":[{{"Condition":{{{condition}}}}}]}}"#);
        let expires = |seconds: u64| policy(&format!(r#""DateLessThan":{{"AWS:EpochTime":{seconds}}}"#));
        let address = |cidr: &str| {
            policy(&format!(
                r#""DateLessThan":{{"AWS:EpochTime":1}},"IpAddress":{{"AWS:SourceIp":"{cidr}"}}"#
            ))
        };
        for (text, by_default, strictly) in [
            (expires(LAST_SECOND), true, true),
            (expires(LAST_SECOND + 1), true, false),
            (expires(1_767_290_400_000), false, false),
            (address("192.0.2.0/24"), true, true),
            (address("0.0.0.0/0"), true, true),
            (address("2001:db8::/32"), true, false),
        ] {
            assert_eq!(Policy::parse(text.as_bytes(), &Dialect::default()).is_ok(), by_default, "{text}");
            assert_eq!(Policy::parse(text.as_bytes(), &strict).is_ok(), strictly, "{text}");
        }
        let everybody = address("0.0.0.0/0");
        assert_eq!(Policy::parse(everybody.as_bytes(), &Dialect::default()).unwrap().address, None);
        let by_ipv4 = Policy::parse(everybody.as_bytes(), &strict).unwrap().address.unwrap();
        assert!(by_ipv4.admits("192.0.2.1".parse().ok()) && !by_ipv4.admits("2001:db8::1".parse().ok()));
    }

    #[test]
    fn an_expiry_has_one_spelling() {
        let strict = Dialect { strict: true, ..Dialect::default() };
        assert_eq!(epoch("1767290400", &strict), Some(1_767_290_400));
        assert_eq!(epoch("2147483647", &strict), Some(LAST_SECOND));
        assert_eq!(epoch("2147483648", &strict), None);
        assert_eq!(epoch("2147483648", &Dialect::default()), Some(LAST_SECOND + 1));
        for text in ["", "0", "01", "+1", "-1", " 1", "1.0", "1767290400000", "18446744073709551617"] {
            assert_eq!(epoch(text, &Dialect::default()), None, "{text}");
        }
    }

    #[test]
    fn an_address_is_in_its_range() {
        let within = |cidr, address: &str| Cidr::parse(cidr).unwrap().admits(address.parse().ok());
        assert!(within("192.0.2.7", "192.0.2.7"));
        assert!(!within("192.0.2.7", "192.0.2.8"));
        assert!(within("192.0.2.128/25", "192.0.2.200"));
        assert!(!within("192.0.2.128/25", "192.0.2.127"));
        assert!(within("192.0.2.77/24", "192.0.2.1"));
        assert!(within("192.0.2.0/24", "::ffff:192.0.2.1"));
        assert!(!within("192.0.2.0/24", "2001:db8::1"));
        assert!(within("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!within("2001:db8::/32", "2001:db9::1"));
        assert!(!within("192.0.2.0/24", "not known"));
        for text in
            ["", "192.0.2", "192.0.2.0/", "192.0.2.0/+8", "192.0.2.0/33", "::/129", "192.0.2.0/8/8", "*"]
        {
            assert_eq!(Cidr::parse(text), None, "{text}");
        }
    }

    /// Expected values by `printf … | openssl base64 -A | tr -- '+=/' '-_~'`.
    #[test]
    fn base64_is_cloudfronts() {
        for (bytes, text) in
            [(&b"\xfb\xff"[..], "-~8_"), (b"\xff\xef\xbe", "~---"), (b"a", "YQ__"), (b"", "")]
        {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text).as_deref(), Some(bytes));
        }
        for text in ["+/8=", "-_8=", "YQ", "YQ_", "YR__", "Y_Q_", "____", "YQ__YQ__", " YQ_", "YQ=="] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
