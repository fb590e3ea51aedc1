//! Sessions: what a signature has opened, handed on in forty characters instead of six hundred.
//!
//! A playlist that is opened by a signature can give its links a *ticket* in place of the signing parameters. It is a
//! message of this gate to itself, authenticated with a secret that nobody else knows, and says what the policy said: up
//! to when, below which path of which host, to which addresses. Host, path and address do not travel in it. They are those
//! of the request, and if they are not those that the ticket was made for, its tag does not match.
//!
//! A ticket's playlist hands on the same ticket, so a link is the same at every reload, however often that is.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http::Uri;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use sha2::Sha256;

use crate::key_group::{Denied, Grant, Visitor};
use crate::object_key::ObjectKey;
use crate::policy::Resource;
use crate::rewrite::Kind;
use crate::signed_url::{Session, SignedUrl, Signer};

/// The parameter of a query that a ticket is in. Some player re-encodes every character but letters, digits and `-._`.
const NAME: &str = "t";

/// The only form that there is.
const VERSION: u8 = 1;

/// The shortest secret, in characters: 128 bits, if they are hexadecimal.
const SHORTEST_SECRET: usize = 32;

const HEAD: usize = 14;
const TAG: usize = 16;

/// Makes tickets, and opens to them.
#[derive(Clone)]
pub struct Tickets {
    /// The first one makes them. All are believed: that is how secrets are rotated.
    secrets: Vec<Hmac<Sha256>>,
    /// How long a ticket is good for after its policy has expired, in seconds.
    outlives: u64,
    /// Whether a canned policy, which opens one playlist, gets a ticket for the folder that it is in.
    folders: bool,
}

impl fmt::Debug for Tickets {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secrets, outlives, folders } = self;
        write!(f, "Tickets {{ {} secrets, {outlives} s, folders: {folders} }}", secrets.len())
    }
}

/// A ticket that came with a request. Nothing in it is trusted yet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ticket {
    head: [u8; HEAD],
    tag: [u8; TAG],
}

/// What a ticket says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Terms {
    /// Unix seconds from which on it opens nothing any more; up to 2106.
    expires: u32,
    /// How many bytes of the path are what they were.
    scope: u16,
    addresses: Addresses,
    session: Session,
}

/// From where a ticket is good: how many bits of the address are what they were.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Addresses {
    All,
    V4(u8),
    V6(u8),
}

/// Everything about a ticket that an operator may want to see.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Explanation {
    ticket: String,
    now: u64,
    expires: u64,
    address: Option<IpAddr>,
    /// What it is bound to, if it is ours.
    below: Option<String>,
    address_bits: Option<u8>,
}

impl Tickets {
    /// Reads `TICKET_SECRET`: one secret, or several separated by commas, of which the first is the newest.
    pub fn parse(secrets: &str, outlives: u64, folders: bool) -> Result<Self, &'static str> {
        let secrets: Vec<_> = secrets.split(',').map(str::trim).filter(|secret| !secret.is_empty()).collect();
        if secrets.is_empty() || secrets.iter().any(|secret| secret.len() < SHORTEST_SECRET) {
            return Err("is too short to be a secret; `openssl rand -hex 32` prints a good one");
        }
        // HMAC takes keys of any length.
        let keyed = secrets.iter().filter_map(|secret| Hmac::new_from_slice(secret.as_bytes()).ok());
        Ok(Self { secrets: keyed.collect(), outlives, folders })
    }

    /// The ticket for what a signature opens, if that is everything that begins with something. The grant is the proof
    /// that `url` is signed.
    pub(crate) fn mint(
        &self,
        _: &Grant,
        url: &SignedUrl<'_>,
        uri: &Uri,
        visitor: &Visitor,
    ) -> Option<Ticket> {
        let policy = &url.policy;
        let scope = match &policy.resource {
            Resource::Exactly(_) => {
                // Whoever may see one storyboard may not yet see what it is of.
                let is_playlist = Kind::of(uri.path()) == Some(Kind::Playlist);
                let folder = uri.path().rfind('/').map(|slash| slash + 1);
                // The folder at the top is all that there is.
                folder.filter(|&length| self.folders && is_playlist && length > 1)?
            }
            resource => resource.path_prefix()?.len(),
        };
        let addresses = match (policy.address, visitor.address.map(|address| address.to_canonical())) {
            (None, _) => Addresses::All,
            (Some(cidr), Some(IpAddr::V4(_))) => Addresses::V4(cidr.prefix()),
            (Some(cidr), Some(IpAddr::V6(_))) => Addresses::V6(cidr.prefix()),
            (Some(_), None) => return None,
        };
        let terms = Terms {
            expires: policy.expires.saturating_add(self.outlives).try_into().unwrap_or(u32::MAX),
            scope: scope.try_into().ok()?,
            addresses,
            session: url.session(),
        };
        let head = terms.to_bytes();
        Some(Ticket { head, tag: tag(self.secrets.first()?, &head, &terms, uri, visitor)? })
    }

    /// The ticket in the query of an absolute `uri`; `None` if there is none. What is not made like one is somebody
    /// else's parameter of the same name.
    #[must_use]
    pub fn in_query(uri: &Uri) -> Option<Result<Ticket, Denied>> {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let named = pairs.filter(|(name, _)| percent_decode_str(name).eq(NAME.bytes()));
        let mut tickets = named.filter_map(|(_, value)| Ticket::parse(value));
        let ticket = tickets.next()?;
        Some(if tickets.next().is_some() { Err(Denied::Repeated(NAME)) } else { Ok(ticket) })
    }

    /// Checks that a ticket is ours, and for this request: an absolute `uri`, whose path names the object `key`.
    pub fn open(
        &self,
        key: ObjectKey,
        ticket: &Ticket,
        uri: &Uri,
        visitor: &Visitor,
    ) -> Result<Grant, Denied> {
        let terms = ticket.terms().ok_or(Denied::BadTicket)?;
        if visitor.now >= u64::from(terms.expires) {
            return Err(Denied::Expired);
        }
        if self.believes(ticket, &terms, uri, visitor) {
            Ok(Grant::by_ticket(key))
        } else {
            Err(Denied::BadTicket)
        }
    }

    fn believes(&self, ticket: &Ticket, terms: &Terms, uri: &Uri, visitor: &Visitor) -> bool {
        use subtle::ConstantTimeEq;
        let tags = self.secrets.iter().filter_map(|secret| tag(secret, &ticket.head, terms, uri, visitor));
        tags.into_iter().any(|tag| tag.ct_eq(&ticket.tag).into())
    }

    /// Says of a ticket all that can be known of it. What it is bound to is only known of one that is good here.
    pub(crate) fn explain(&self, ticket: &Ticket, uri: &Uri, visitor: &Visitor) -> Option<Explanation> {
        let terms = ticket.terms()?;
        let ours = self.believes(ticket, &terms, uri, visitor);
        Some(Explanation {
            ticket: ticket.signer().to_string(),
            now: visitor.now,
            expires: terms.expires.into(),
            address: visitor.address,
            below: uri.path().get(..usize::from(terms.scope)).filter(|_| ours).map(str::to_owned),
            address_bits: match terms.addresses {
                Addresses::All => None,
                Addresses::V4(bits) | Addresses::V6(bits) => Some(bits),
            },
        })
    }
}

/// The tag of a ticket for a request; `None` if no ticket with these terms can be for it.
fn tag(
    secret: &Hmac<Sha256>,
    head: &[u8; HEAD],
    terms: &Terms,
    uri: &Uri,
    visitor: &Visitor,
) -> Option<[u8; TAG]> {
    let path = uri.path().as_bytes().get(..usize::from(terms.scope))?;
    let host = uri.authority()?.as_str().to_ascii_lowercase();
    let host_length = u16::try_from(host.len()).ok()?;
    let masked = match (terms.addresses, visitor.address.map(|address| address.to_canonical())) {
        (Addresses::All, _) => 0,
        (Addresses::V4(bits), Some(IpAddr::V4(address))) => {
            u128::from(address.to_bits().checked_shr(32_u32.checked_sub(bits.into())?).unwrap_or(0))
        }
        (Addresses::V6(bits), Some(IpAddr::V6(address))) => {
            address.to_bits().checked_shr(128_u32.checked_sub(bits.into())?).unwrap_or(0)
        }
        _ => return None,
    };
    // The head says how long what follows is, or it says so itself: nothing can be read as something else.
    let mut mac = secret.clone();
    mac.update(head);
    mac.update(&[u8::from(uri.scheme_str() == Some("https"))]);
    mac.update(&host_length.to_be_bytes());
    mac.update(host.as_bytes());
    mac.update(path);
    mac.update(&masked.to_be_bytes());
    mac.finalize().into_bytes().first_chunk().copied()
}

impl Ticket {
    /// Reads a ticket: base64url of 30 bytes.
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; HEAD + TAG];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (head, tag) = bytes.split_first_chunk()?;
        let ticket = Self { head: *head, tag: *tag.first_chunk()? };
        (length == bytes.len() && ticket.head.first() == Some(&VERSION)).then_some(ticket)
    }

    /// The ticket as a query. Letters, digits and `-_=` only.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut bytes = [0; HEAD + TAG];
        for (to, from) in bytes.iter_mut().zip(self.head.iter().chain(&self.tag)) {
            *to = *from;
        }
        let mut text = format!("{NAME}=");
        URL_SAFE_NO_PAD.encode_string(bytes, &mut text);
        text
    }

    /// Who was let in by it, for the log: whose signature it came from.
    #[must_use]
    pub fn signer(&self) -> Signer {
        Signer { name: "ticket".to_owned(), session: self.terms().map(|terms| terms.session) }
    }

    fn terms(&self) -> Option<Terms> {
        Terms::from_bytes(&self.head)
    }
}

impl Terms {
    fn to_bytes(self) -> [u8; HEAD] {
        let addresses = match self.addresses {
            Addresses::All => u8::MAX,
            Addresses::V4(bits) => bits,
            // From 64 on: an IPv4 address has 32 bits.
            Addresses::V6(bits) => 64 + bits,
        };
        let [e0, e1, e2, e3] = self.expires.to_be_bytes();
        let [s0, s1] = self.scope.to_be_bytes();
        let [d0, d1, d2, d3, d4, d5] = self.session.0;
        [VERSION, e0, e1, e2, e3, s0, s1, addresses, d0, d1, d2, d3, d4, d5]
    }

    fn from_bytes(bytes: &[u8; HEAD]) -> Option<Self> {
        let [version, e0, e1, e2, e3, s0, s1, addresses, session @ ..] = *bytes;
        let addresses = match addresses {
            u8::MAX => Addresses::All,
            bits @ 0..=32 => Addresses::V4(bits),
            bits @ 64..=192 => Addresses::V6(bits - 64),
            _ => return None,
        };
        (version == VERSION).then(|| Self {
            expires: u32::from_be_bytes([e0, e1, e2, e3]),
            scope: u16::from_be_bytes([s0, s1]),
            addresses,
            session: Session(session),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;
    use crate::KeyGroup;
    use crate::crypto::{Crypto, TrustedKey};
    use crate::policy::{Dialect, encode};
    use crate::signed_url::Hash;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    /// By openssl, on the curve P-256.
    const KEYS: &str = r#"{"K1":"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQMpv8LNaYQu6IbYrZdf4A+IYT+MT\nz508HbbXjnfVbnKSxVjfkff0co9epfcXoP1++t3AupRKsAmGy3NFxvxl9g==\n-----END PUBLIC KEY-----"}"#;

    /// Believes every signature: what one opens is asked here, not whose it is.
    struct Credulous;

    impl Crypto for Credulous {
        async fn verify(&self, _: &TrustedKey, _: Hash, _: &[u8], _: &[u8]) -> bool {
            true
        }
    }

    fn tickets() -> Tickets {
        Tickets::parse(SECRET, 0, false).unwrap()
    }

    fn visitor(now: u64, address: &str) -> Visitor {
        Visitor { now, address: address.parse().ok() }
    }

    fn policy(resource: &str, expires: u64, address: Option<&str>) -> String {
        let address = address.map(|cidr| format!(r#","IpAddress":{{"AWS:SourceIp":"{cidr}"}}"#));
        let condition =
            format!(r#""DateLessThan":{{"AWS:EpochTime":{expires}}}{}"#, address.unwrap_or_default());
        let policy = format!(r#"{{"Statement":[{{"Resource":"{resource}","Condition":{{{condition}}}}}]}}"#);
        format!("Policy={}&Signature=AA__&Key-Pair-Id=K1", encode(policy.as_bytes()))
    }

    /// What a signed URL hands on, where it opens anything.
    fn handed_on(tickets: &Tickets, url: &str, visitor: &Visitor) -> Result<String, Denied> {
        let uri: Uri = url.parse().unwrap();
        let dialect = Dialect::default();
        let signed = SignedUrl::parse(&uri, None, &dialect).unwrap();
        let keys = KeyGroup::parse(KEYS).unwrap();
        let key = ObjectKey::parse(uri.path()).unwrap();
        let verdict = pin!(keys.verify(key, &signed, visitor, &dialect, &Credulous))
            .poll(&mut Context::from_waker(Waker::noop()));
        let Poll::Ready(grant) = verdict else { panic!("nothing in here waits") };
        Ok(tickets
            .mint(&grant?, &signed, &uri, visitor)
            .map_or_else(|| signed.authority(), |ticket| ticket.to_query()))
    }

    /// What a URL with a ticket hands on, if it opens anything.
    fn opened(tickets: &Tickets, url: &str, visitor: &Visitor) -> Result<String, Denied> {
        let uri: Uri = url.parse().unwrap();
        let ticket = Tickets::in_query(&uri).unwrap_or(Err(Denied::Unsigned))?;
        let key = ObjectKey::parse(uri.path()).unwrap();
        tickets.open(key, &ticket, &uri, visitor).map(|_| ticket.to_query())
    }

    const INDEX: &str = "https://v.example/a/b/index.m3u8";

    #[test]
    fn a_ticket_is_short_and_stays_the_same() {
        let viewer = visitor(1, "192.0.2.7");
        let url = format!("{INDEX}?{}", policy("https://v.example/a/*", 100, Some("192.0.2.0/24")));
        let query = handed_on(&tickets(), &url, &viewer).unwrap();
        assert_eq!(query.len(), 42);
        assert!(
            query[2..].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{query}"
        );
        assert_eq!(handed_on(&tickets(), &url, &visitor(50, "192.0.2.9")).unwrap(), query);
        for path in ["a/1.m4s", "a/b/index.m3u8", "a/"] {
            let url = format!("https://v.example/{path}?_HLS_msn=3&{query}&t=12");
            assert_eq!(opened(&tickets(), &url, &viewer), Ok(query.clone()), "{path}");
        }
    }

    /// Its tag is by `openssl dgst -sha256 -mac HMAC -macopt key:0123456789abcdef0123456789abcdef`, over these bytes: version,
    /// expiry (100), length of the scope (3), bits of the address (24), session; `https`, length of the host, host, scope,
    /// masked address (192.0.2, shifted to the right). The session is the beginning of the SHA-256 of a zero byte.
    ///
    /// ```text
    /// 01 00000064 0003 18 6e340b9cffb3  01 0009 762e6578616d706c65 2f612f 000000000000000000000000 00c00002
    /// ```
    #[test]
    fn a_ticket_is_what_it_is_said_to_be() {
        let viewer = visitor(1, "192.0.2.7");
        let url = format!("{INDEX}?{}", policy("https://v.example/a/*", 100, Some("192.0.2.0/24")));
        assert_eq!(
            handed_on(&tickets(), &url, &viewer).as_deref(),
            Ok("t=AQAAAGQAAxhuNAuc_7PimGuTo7Slx74UZbPxNqwn")
        );
    }

    #[test]
    fn only_what_opens_all_that_begins_with_something_gets_one() {
        let viewer = visitor(1, "192.0.2.7");
        let exchanged = |resource: &str| {
            let url = format!("{INDEX}?{}", policy(resource, 100, None));
            handed_on(&tickets(), &url, &viewer).unwrap().starts_with("t=")
        };
        for resource in
            ["*", "https://v.example/*", "http*://*.example/a/b/*", "https://v.example*", "*v.example/a*"]
        {
            assert!(exchanged(resource), "{resource}");
        }
        for resource in [INDEX, "https://v.example/*.m3u8", "https://v.example/?/*", "https://v.example/*/*"]
        {
            assert!(!exchanged(resource), "{resource}");
        }
    }

    #[test]
    fn a_ticket_can_outlive_its_policy_and_open_a_canned_playlists_folder() {
        let viewer = visitor(1, "192.0.2.7");
        let tickets = Tickets::parse(SECRET, 50, true).unwrap();
        let query =
            handed_on(&tickets, &format!("{INDEX}?Expires=100&Signature=AA__&Key-Pair-Id=K1"), &viewer)
                .unwrap();
        assert!(query.starts_with("t="));
        let ask = |path: &str, now| {
            opened(&tickets, &format!("https://v.example{path}?{query}"), &visitor(now, ""))
        };
        assert!(ask("/a/b/720p/1.m4s", 149).is_ok());
        assert_eq!(ask("/a/b/720p/1.m4s", 150), Err(Denied::Expired));
        assert_eq!(ask("/a/c/1.m4s", 149), Err(Denied::BadTicket));
        // At the top there is no folder but all of them.
        let top = "https://v.example/index.m3u8?Expires=100&Signature=AA__&Key-Pair-Id=K1";
        assert!(!handed_on(&tickets, top, &viewer).unwrap().starts_with("t="));
        // What opens one storyboard, or one list of assets, opens no more.
        for name in ["storyboard.vtt", "assets.json"] {
            let url = format!("https://v.example/a/b/{name}?Expires=100&Signature=AA__&Key-Pair-Id=K1");
            assert!(!handed_on(&tickets, &url, &viewer).unwrap().starts_with("t="), "{name}");
        }
        let neither = Tickets::parse(SECRET, 50, false).unwrap();
        let canned = format!("{INDEX}?Expires=100&Signature=AA__&Key-Pair-Id=K1");
        assert!(!handed_on(&neither, &canned, &viewer).unwrap().starts_with("t="));
    }

    #[test]
    fn secrets_rotate() {
        let viewer = visitor(1, "192.0.2.7");
        let url = format!("{INDEX}?{}", policy("https://v.example/a/*", 100, None));
        let new = "fedcba9876543210fedcba9876543210";
        let [before, during, after] = [SECRET.to_owned(), format!("{new}, {SECRET}"), new.to_owned()]
            .map(|secrets| Tickets::parse(&secrets, 0, false).unwrap());
        let [old, made] = [&before, &during].map(|tickets| handed_on(tickets, &url, &viewer).unwrap());
        assert_ne!(old, made);
        let opens = |tickets, query: &str| opened(tickets, &format!("{INDEX}?{query}"), &viewer).is_ok();
        assert!(opens(&before, &old) && opens(&during, &old) && !opens(&after, &old));
        assert!(!opens(&before, &made) && opens(&during, &made) && opens(&after, &made));
        assert!(Tickets::parse("short", 0, false).is_err());
        assert!(Tickets::parse(",", 0, false).is_err());
        assert!(Tickets::parse(&format!("{SECRET},short"), 0, false).is_err());
    }

    #[test]
    fn what_is_no_ticket_opens_nothing() {
        let viewer = visitor(1, "192.0.2.7");
        let url = format!("{INDEX}?{}", policy("https://v.example/a/*", 100, None));
        let query = handed_on(&tickets(), &url, &viewer).unwrap();
        let ticket = query.strip_prefix("t=").unwrap();
        for i in 0..ticket.len() {
            let mut altered = ticket.to_owned();
            let other = if &altered[i..=i] == "A" { "B" } else { "A" };
            altered.replace_range(i..=i, other);
            assert!(opened(&tickets(), &format!("{INDEX}?t={altered}"), &viewer).is_err(), "{altered}");
        }
        for text in ["", "12", &ticket[1..], &ticket[..39], &format!("{ticket}A"), &format!("{ticket}=")] {
            assert_eq!(
                opened(&tickets(), &format!("{INDEX}?t={text}"), &viewer),
                Err(Denied::Unsigned),
                "{text}"
            );
        }
        let twice = format!("{INDEX}?{query}&{query}");
        assert_eq!(opened(&tickets(), &twice, &viewer), Err(Denied::Repeated("t")));
        assert!(opened(&tickets(), &format!("{INDEX}?%74={ticket}"), &viewer).is_ok());
    }

    fn urls() -> impl Strategy<Value = String> {
        "(https|https|http)://(v|v|w|V)\\.example/(a|a|ab)/(b|b|c)/(1|index)\\.m3u8"
    }

    fn resources() -> impl Strategy<Value = String> {
        "(https|http\\*|\\*)://(v\\.example|\\*\\.example|v\\*|\\*)/(a/|a/|a|a/b/|a/b|\\*/|a/\\?/)(\\*|\\*|\\*|b/1\\.m3u8|\\*\\.m3u8|)"
    }

    fn addresses() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "192.0.2.7",
            "192.0.2.7",
            "192.0.2.200",
            "192.0.3.7",
            "::ffff:192.0.2.7",
            "2001:db8::7",
            "2001:db8::8",
            "2001:db9::7",
            "0.0.0.0",
            "::",
            "unknown",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]

        /// Whatever somebody asks for with a ticket, at whatever time and from wherever: it is opened only if the policy
        /// that the ticket came from opens it.
        #[test]
        fn a_ticket_opens_nothing_that_its_policy_would_not(
            resource in resources(),
            range in prop::sample::select(vec![
                None, None, Some("192.0.2.7"), Some("192.0.2.0/25"), Some("192.0.0.0/16"), Some("2001:db8::/32"), Some("2001:db8::7"),
                Some("::/0"), Some("0.0.0.0/0"),
            ]),
            (url, other) in (urls(), urls()),
            (address, other_address) in (addresses(), addresses()),
            later in prop::sample::select(vec![10_u64, 99, 100, 101]),
        ) {
            let query = policy(&resource, 100, range);
            let viewer = visitor(10, address);
            let Ok(authority) = handed_on(&tickets(), &format!("{url}?{query}"), &viewer) else { return Ok(()) };
            if !authority.starts_with("t=") {
                return Ok(());
            }
            let same = opened(&tickets(), &format!("{url}?{authority}"), &viewer);
            prop_assert_eq!(same, Ok(authority.clone()));
            let then = visitor(later, other_address);
            let by_policy = handed_on(&tickets(), &format!("{other}?{query}"), &then);
            if opened(&tickets(), &format!("{other}?{authority}"), &then).is_ok() {
                prop_assert_eq!(by_policy, Ok(authority), "{} {} {}", resource, url, other);
            } else if url.split('/').take(3).eq(other.split('/').take(3)) {
                // On the same host, it opens all that its policy does.
                prop_assert!(by_policy.is_err() || other_address != address, "{} {} {}", resource, url, other);
            }
        }
    }
}
