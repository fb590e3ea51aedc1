//! URLs and cookies signed by others open the gate, as ours do: a platform that signs today need not change. With one
//! thing changed, none of them does.
//!
//! Everything is signed for one URL, by a key of each kind, and shown at both gates, each of which trusts two keys of
//! each kind. All that JavaScript signs comes of one process, and so does Python's.

#![allow(missing_docs)]

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use edge::config::BUCKET;
use edge::crypto::Software;
use edge::origin::{Metadata, Miss, Object, Origin, Wanted};
use edge::policy::{self, Cidr};
use edge::signed_url::Hash;
use edge::{Config, Content, Grant, Visitor};
use futures_executor::block_on;
use http::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tests::{Gate, Worker, node, now, run, tool};
use transcoder::keygen::{Algorithm, Pair};
use transcoder::sign::{KeyPair, Order};

const URL: &str = "https://video.example/assets/a/1.m4s";
const PATTERN: &str = "https://video.example/assets/a/*";
const RANGE: &str = "192.0.2.0/24";
const INSIDE: &str = "192.0.2.7";

static STARTS: LazyLock<u64> = LazyLock::new(|| now() - 60);
static EXPIRES: LazyLock<u64> = LazyLock::new(|| now() + 3600);

// --- keys ---------------------------------------------------------------------------------------------------

/// A key pair that both gates trust.
struct Key {
    kind: &'static str,
    id: &'static str,
    private: PathBuf,
}

/// By openssl, in the formats that the narrowest of signers reads (PKCS#1, and SEC1), which is ours as well.
static KEYS: LazyLock<[Key; 2]> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let make = |kind, id, command: &str, options: &str| {
        let private = folder.join(format!("{kind}.pem"));
        let _ = run(Command::new("openssl").arg(command).arg("-out").arg(&private).args(options.split(' ')));
        Key { kind, id, private }
    };
    let rsa = make("RSA", "KRSA", "genrsa", "-traditional 2048");
    let ec = make("EC", "KEC", "ecparam", "-name prime256v1 -genkey -noout");
    [rsa, ec]
});

/// The keys above, and one more of each kind, that signs nothing.
static TRUSTED: LazyLock<String> = LazyLock::new(|| {
    let mut keys = serde_json::Map::new();
    for Key { id, private, .. } in KEYS.iter() {
        let public = run(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(private));
        keys.insert((*id).to_owned(), public.into());
    }
    for (id, algorithm) in [("KRSA2", Algorithm::Rsa), ("KEC2", Algorithm::Ecdsa)] {
        let trusted: Value = serde_json::from_str(&Pair::of(algorithm).unwrap().trusted_keys()).unwrap();
        keys.insert(id.to_owned(), trusted.as_object().unwrap().values().next().unwrap().clone());
    }
    Value::Object(keys).to_string()
});

// --- gates --------------------------------------------------------------------------------------------------

/// What somebody shows at a gate.
#[derive(Clone, Debug)]
struct Ask {
    scheme: &'static str,
    host: &'static str,
    /// Path and query.
    target: String,
    cookies: Option<String>,
    address: &'static str,
}

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let settings = |name: &str| match name {
        "TRUSTED_KEYS" => Some(TRUSTED.clone()),
        BUCKET => Some("{}".to_owned()),
        _ => None,
    };
    Config::read(settings).unwrap()
});

/// "opened", or the code of the refusal.
fn answer(response: &Response<Vec<u8>>) -> String {
    let body = String::from_utf8_lossy(response.body());
    match (response.status(), body.split_once("<Code>")) {
        (StatusCode::OK, _) => OPENED.to_owned(),
        (StatusCode::FORBIDDEN, Some((_, rest))) => rest.split('<').next().unwrap().to_owned(),
        (status, _) => panic!("{status}: {body}"),
    }
}

/// The edge's own code, for any host, at any time.
fn native(ask: &Ask, now: u64) -> String {
    let mut request = Request::get(format!("{}://{}{}", ask.scheme, ask.host, ask.target));
    if let Some(cookies) = &ask.cookies {
        request = request.header("Cookie", cookies);
    }
    let visitor = Visitor { now, address: Some(ask.address.parse::<IpAddr>().unwrap()) };
    let request = request.body(()).unwrap();
    let response = block_on(edge::serve(&request, &visitor, Ok(&CONFIG), &Everything, &Software));
    answer(&response.map(|content| if let Content::Bytes(bytes) = content { bytes } else { Vec::new() }))
}

/// An origin that has every object.
struct Everything;

impl Origin for Everything {
    type Body = ();

    async fn get(&self, _: &Grant, _: &Wanted<'_>) -> Result<Object<()>, Miss> {
        Ok(Object { metadata: Metadata::default(), part: None, body: () })
    }

    async fn head(&self, _: &Grant) -> Result<Metadata, Miss> {
        Ok(Metadata::default())
    }

    async fn chunk(&self, (): &mut ()) -> Result<Option<Vec<u8>>, Miss> {
        Ok(None)
    }
}

static WORKER: LazyLock<Worker> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let folder = folder.path().join("assets").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("1.m4s"), "one").unwrap();
    }
    Worker::with(folder.path(), &json!({ "TRUSTED_KEYS": *TRUSTED }))
});

/// The built Worker, now.
fn worker(ask: &Ask) -> String {
    let mut headers =
        vec![("Host", ask.host), ("X-Forwarded-Proto", ask.scheme), ("CF-Connecting-IP", ask.address)];
    headers.extend(ask.cookies.as_deref().map(|cookies| ("Cookie", cookies)));
    answer(&WORKER.ask(Method::GET, &ask.target, &headers))
}

const OPENED: &str = "opened";
const DENIED: &str = "AccessDenied";

// --- tickets ------------------------------------------------------------------------------------------------

/// What a signer made.
#[derive(Clone, Debug)]
struct Ticket {
    name: String,
    /// As the query has them, decoded; cookies without `CloudFront-`.
    parameters: Vec<(String, String)>,
    carrier: Carrier,
}

/// How a ticket travels.
#[derive(Clone, Debug)]
enum Carrier {
    /// The very URL that a signer made.
    Url(String),
    Query,
    Cookies,
}

impl Ticket {
    fn url(name: &str, url: &str) -> Self {
        let (_, query) = url.split_once('?').unwrap();
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap());
        let parameters = pairs.map(|(name, value)| (name.to_owned(), value.replace("%7E", "~"))).collect();
        Self { name: format!("{name}, URL"), parameters, carrier: Carrier::Url(url.to_owned()) }
    }

    fn cookies<'a>(name: &str, pairs: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let parameters = pairs.into_iter().map(|(name, value)| {
            (name.strip_prefix("CloudFront-").expect("one of CloudFront's").to_owned(), value)
        });
        Self { name: format!("{name}, cookies"), parameters: parameters.collect(), carrier: Carrier::Cookies }
    }

    fn as_url(&self) -> Option<&str> {
        if let Carrier::Url(url) = &self.carrier { Some(url) } else { None }
    }

    /// What a tool in another language said.
    fn all(json: &str) -> Vec<Self> {
        let tickets: Vec<Value> = serde_json::from_str(json).unwrap();
        let read = |ticket: &Value| {
            let name = ticket["name"].as_str().unwrap();
            if let Some(url) = ticket["url"].as_str() {
                return Self::url(name, url);
            }
            let cookies = ticket["cookies"].as_object().unwrap();
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Self::cookies(name, cookies.iter().map(|(name, value)| (&**name, text(value))))
        };
        tickets.iter().map(read).collect()
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
    }

    /// Its custom policy, if it has one.
    fn policy(&self) -> Option<String> {
        self.value("Policy").map(|text| String::from_utf8(policy::decode(text).unwrap()).unwrap())
    }

    /// With another value for one parameter, or one more.
    fn with(&self, name: &str, value: &str) -> Self {
        let mut parameters = self.parameters.clone();
        parameters.retain(|(found, _)| found != name);
        parameters.push((name.to_owned(), value.to_owned()));
        let carrier =
            if matches!(self.carrier, Carrier::Cookies) { Carrier::Cookies } else { Carrier::Query };
        Self { name: self.name.clone(), parameters, carrier }
    }

    /// As its owner shows it.
    fn ask(&self) -> Ask {
        let path = "/assets/a/1.m4s";
        let pairs = |prefix: &str, separator: &str| {
            let pairs = self.parameters.iter().map(|(name, value)| format!("{prefix}{name}={value}"));
            pairs.collect::<Vec<_>>().join(separator)
        };
        let (target, cookies) = match &self.carrier {
            Carrier::Url(url) => (url.strip_prefix("https://video.example").unwrap().to_owned(), None),
            Carrier::Query => (format!("{path}?{}", pairs("", "&")), None),
            Carrier::Cookies => (path.to_owned(), Some(pairs("CloudFront-", "; "))),
        };
        Ask { scheme: "https", host: "video.example", target, cookies, address: INSIDE }
    }

    /// The same with one thing changed, for each thing that counts.
    fn changed(&self) -> Vec<(&'static str, Ask)> {
        let ask = self.ask();
        let mut changed = vec![
            ("path", Ask { target: ask.target.replacen("/a/", "/b/", 1), ..ask.clone() }),
            ("host", Ask { host: "other.example", ..ask.clone() }),
        ];
        if !self.policy().is_some_and(|policy| policy.contains("http*")) {
            changed.push(("scheme", Ask { scheme: "http", ..ask.clone() }));
        }
        let later = (*EXPIRES + 1).to_string();
        if let Some(text) = self.policy() {
            let text = text.replacen(&EXPIRES.to_string(), &later, 1);
            changed.push(("policy", self.with("Policy", &policy::encode(text.as_bytes())).ask()));
            if text.contains("IpAddress") {
                changed.push(("address", Ask { address: "192.0.3.7", ..ask.clone() }));
                changed.push(("address", Ask { address: "2001:db8::7", ..ask }));
            }
        } else {
            changed.push(("policy", self.with("Expires", &later).ask()));
            let joiner = if ask.target.contains('?') { '&' } else { '?' };
            changed.push(("query", Ask { target: format!("{}{joiner}x=1", ask.target), ..ask }));
        }
        let signature = policy::decode(self.value("Signature").unwrap()).unwrap();
        for position in [10, signature.len() - 1] {
            let mut signature = signature.clone();
            signature[position] ^= 1;
            changed.push(("signature", self.with("Signature", &policy::encode(&signature)).ask()));
        }
        changed.push(("key pair, to none", self.with("Key-Pair-Id", "K2JCJMDEHXQW5F").ask()));
        for id in ["KRSA", "KEC", "KRSA2", "KEC2"] {
            if self.value("Key-Pair-Id") != Some(id) {
                changed.push(("key pair", self.with("Key-Pair-Id", id).ask()));
            }
        }
        let other = if self.value("Hash-Algorithm") == Some("SHA256") { "SHA1" } else { "SHA256" };
        changed.push(("hash", self.with("Hash-Algorithm", other).ask()));
        changed
    }
}

/// That tickets open both gates, and with anything changed neither.
fn assert_they_open_what_was_signed(tickets: &[Ticket], count: usize) {
    assert_eq!(tickets.len(), count, "{tickets:#?}");
    for ticket in tickets {
        let (name, ask) = (&ticket.name, ticket.ask());
        assert_eq!(native(&ask, now()), OPENED, "{name}: {ask:?}");
        assert_eq!(worker(&ask), OPENED, "{name}, Worker: {ask:?}");

        assert_eq!(native(&ask, *EXPIRES - 1), OPENED, "{name}, in its last second");
        assert_eq!(native(&ask, *EXPIRES), DENIED, "{name}, as it expires");
        if ticket.policy().is_some_and(|policy| policy.contains("DateGreaterThan")) {
            assert_eq!(native(&ask, *STARTS), DENIED, "{name}, as it starts");
            assert_eq!(native(&ask, *STARTS + 1), OPENED, "{name}, in its first second");
        }
        for (what, ask) in ticket.changed() {
            // Not because something cannot be read: nothing but what was changed keeps it out.
            let refusal = if what == "key pair, to none" { "InvalidKey" } else { DENIED };
            assert_eq!(native(&ask, now()), refusal, "{name}, other {what}: {ask:?}");
            assert_eq!(worker(&ask), refusal, "{name}, other {what}, Worker: {ask:?}");
        }
    }
}

/// What the tools in other languages are told.
fn order() -> String {
    let keys = KEYS.iter().map(|key| (key.kind.to_owned(), json!({ "id": key.id, "file": key.private })));
    json!({
        "url": URL,
        "pattern": PATTERN,
        "expires": *EXPIRES,
        "starts": *STARTS,
        "address": RANGE,
        "keys": keys.collect::<serde_json::Map<_, _>>(),
    })
    .to_string()
}

fn by(signer: &str, tickets: &[Ticket]) -> Vec<Ticket> {
    tickets.iter().filter(|ticket| ticket.name.starts_with(signer)).cloned().collect()
}

// --- JavaScript ---------------------------------------------------------------------------------------------

static JAVASCRIPT: LazyLock<Vec<Ticket>> = LazyLock::new(|| Ticket::all(&run(node("sign.mjs").arg(order()))));

#[test]
fn the_aws_sdk_for_javascript_signs_by_either_key_and_hash_in_all_forms() {
    let tickets = by("@aws-sdk/cloudfront-signer", &JAVASCRIPT);
    assert_they_open_what_was_signed(&tickets, 2 * 2 * 3 * 2);
}

#[test]
fn aws_cloudfront_sign_sends_an_expiry_beside_its_policy_and_writes_tildes_its_own_way() {
    let tickets = by("aws-cloudfront-sign", &JAVASCRIPT);
    assert!(tickets.iter().any(|ticket| ticket.as_url().is_some_and(|url| url.contains("%7E"))));
    assert_they_open_what_was_signed(&tickets, 2 * 2);
}

// --- Python -------------------------------------------------------------------------------------------------

/// botocore's signer leaves the arithmetic to its caller, and knows neither cookies nor another hash: what is around
/// it here is what people write around it.
const BOTOCORE: &str = r"
import datetime, json, sys
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding

order = json.loads(sys.argv[1])
def moment(name): return datetime.datetime.fromtimestamp(order[name], datetime.timezone.utc)

def signer(key_id, file, hash):
    key = serialization.load_pem_private_key(open(file, 'rb').read(), None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return CloudFrontSigner(key_id, lambda message: key.sign(message, ec.ECDSA(hash)))
    return CloudFrontSigner(key_id, lambda message: key.sign(message, padding.PKCS1v15(), hash))

tickets = []
for kind, key in order['keys'].items():
    for hash in [hashes.SHA1(), hashes.SHA256()]:
        sign = signer(key['id'], key['file'], hash)
        said = hash.name.upper()
        policies = {
            'start': sign.build_policy(order['url'], moment('expires'), moment('starts')),
            'address': sign.build_policy(order['url'], moment('expires'), None, order['address']),
            'both': sign.build_policy(order['url'], moment('expires'), moment('starts'), order['address']),
            'pattern': sign.build_policy(order['pattern'], moment('expires')),
        }
        urls = {'canned': sign.generate_presigned_url(order['url'], date_less_than=moment('expires'))}
        for form, policy in policies.items():
            urls[form] = sign.generate_presigned_url(order['url'], policy=policy)
        for form, url in urls.items():
            url += '' if said == 'SHA1' else '&Hash-Algorithm=' + said
            tickets.append({'name': f'botocore, {form}, {kind}, {said}', 'url': url})
        encode = lambda data: sign._url_b64encode(data).decode()
        policy = policies['pattern'].encode()
        cookies = {'Policy': encode(policy), 'Signature': encode(sign.rsa_signer(policy)), 'Key-Pair-Id': key['id']}
        if said != 'SHA1': cookies['Hash-Algorithm'] = said
        cookies = {'CloudFront-' + name: value for name, value in cookies.items()}
        tickets.append({'name': f'botocore, pattern, {kind}, {said}', 'cookies': cookies})
print(json.dumps(tickets))
";

static PYTHON: LazyLock<Vec<Ticket>> =
    LazyLock::new(|| Ticket::all(&run(tool("python").args(["-c", BOTOCORE, &order()]))));

#[test]
fn botocore_signs_by_whatever_it_is_given() {
    assert_they_open_what_was_signed(&PYTHON, 2 * 2 * (5 + 1));
}

// --- Rust ---------------------------------------------------------------------------------------------------

#[test]
fn the_crate_cloudfront_sign_signs_by_rsa_and_sha_1() {
    use cloudfront_sign::{SignedOptions, get_signed_cookie, get_signed_url};
    let [rsa, _] = &*KEYS;
    let pem = std::fs::read_to_string(&rsa.private).unwrap();
    let options = || SignedOptions {
        key_pair_id: rsa.id.into(),
        private_key: Cow::from(&pem),
        date_less_than: *EXPIRES,
        ..SignedOptions::default()
    };
    let conditions =
        || SignedOptions { date_greater_than: Some(*STARTS), ip_address: Some(RANGE.into()), ..options() };
    let pattern = || SignedOptions { resource: Some(PATTERN.into()), ..conditions() };
    let url = |form: &str, options| {
        Ticket::url(&format!("cloudfront_sign, {form}"), &get_signed_url(URL, &options).unwrap())
    };
    let cookies = get_signed_cookie(PATTERN, &options()).unwrap();
    let cookies = cookies.iter().map(|(name, value)| (&**name, value.clone()));
    let tickets = [
        url("canned", options()),
        url("conditions", conditions()),
        url("pattern", pattern()),
        Ticket::cookies("cloudfront_sign, pattern", cookies),
    ];
    assert_they_open_what_was_signed(&tickets, 4);
}

// --- openssl ------------------------------------------------------------------------------------------------

/// What AWS's page for openssl says, with `-sha256` for its `-sha1` where that is asked for.
fn openssl(key: &Key, digest: &str, text: &str) -> (String, String) {
    let shell = |script: &str| {
        run(Command::new("bash")
            .args(["-o", "pipefail", "-c", script, "-", text])
            .arg(&key.private)
            .arg(digest))
    };
    (
        shell(r#"printf %s "$1" | openssl base64 -A | tr -- '+=/' '-_~'"#),
        shell(r#"printf %s "$1" | openssl dgst "$3" -sign "$2" | openssl base64 -A | tr -- '+=/' '-_~'"#),
    )
}

#[test]
fn openssl_signs_by_either_key_and_hash_in_both_forms() {
    let expires = *EXPIRES;
    let canned = format!(
        r#"{{"Statement":[{{"Resource":"{URL}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires}}}}}}}]}}"#
    );
    // As AWS's pages had it for years: no array, white space, and a newline at the end.
    let custom = format!(
        "{{\r\n  \"Statement\": {{\r\n    \"Resource\": \"http*://video.example/assets/a/*\",\r\n    \
         \"Condition\": {{\"IpAddress\": {{\"AWS:SourceIp\": \"{RANGE}\"}},\r\n      \
         \"DateGreaterThan\": {{\"AWS:EpochTime\": {}}}, \"DateLessThan\": {{\"AWS:EpochTime\": {expires}}}}}\r\n  \
         }}\r\n}}\r\n",
        *STARTS
    );
    let mut tickets = Vec::new();
    for key in KEYS.iter() {
        for (digest, said) in [("-sha1", None), ("-sha1", Some("SHA1")), ("-sha256", Some("SHA256"))] {
            for (form, text) in [("canned", &canned), ("custom", &custom)] {
                let (encoded, signature) = openssl(key, digest, text);
                let policy = match form {
                    "canned" => ("Expires", expires.to_string()),
                    _ => ("Policy", encoded),
                };
                let mut pairs = vec![policy, ("Signature", signature), ("Key-Pair-Id", key.id.to_owned())];
                pairs.extend(said.map(|said| ("Hash-Algorithm", said.to_owned())));
                let name = format!("openssl, {form}, {}, {digest} {said:?}", key.kind);
                let join = |(name, value): &(&str, String)| format!("{name}={value}");
                let query = pairs.iter().map(join).collect::<Vec<_>>().join("&");
                tickets.push(Ticket::url(&name, &format!("{URL}?{query}")));
                let pairs: Vec<_> =
                    pairs.into_iter().map(|(name, value)| (format!("CloudFront-{name}"), value)).collect();
                tickets
                    .push(Ticket::cookies(&name, pairs.iter().map(|(name, value)| (&**name, value.clone()))));
            }
        }
    }
    assert_they_open_what_was_signed(&tickets, 2 * 3 * 2 * 2);
    for ticket in tickets.iter().filter(|ticket| ticket.policy().is_some()) {
        let http = Ask { scheme: "http", ..ticket.ask() };
        assert_eq!([native(&http, now()), worker(&http)], [OPENED; 2], "{}", ticket.name);
    }
}

// --- our own ------------------------------------------------------------------------------------------------

fn ours(key: &Key, hash: Hash) -> KeyPair {
    KeyPair::load(key.id, &key.private).unwrap().hashing(hash)
}

fn sign(key: &Key, order: &Order) -> String {
    ours(key, Hash::Sha1).sign(order, Timestamp::now()).unwrap().url
}

fn ordered(url: &str) -> Order {
    Order { url: url.to_owned(), expires: *EXPIRES, starts: None, address: None, resource: None }
}

/// An order for all that a custom policy can say.
fn conditions() -> Order {
    Order { starts: Some(*STARTS), address: Cidr::parse(RANGE), ..ordered(URL) }
}

/// What a browser sends back of the cookies that it was given.
fn cookies(name: &str, cookies: &[String]) -> Ticket {
    let pairs = cookies.iter().map(|cookie| cookie.split(';').next().unwrap().split_once('=').unwrap());
    Ticket::cookies(name, pairs.map(|(name, value)| (name, value.to_owned())))
}

#[test]
fn ours_signs_by_either_key_and_hash_in_all_forms() {
    let mut tickets = Vec::new();
    for key in KEYS.iter() {
        for hash in [Hash::Sha1, Hash::Sha256] {
            let (pair, now) = (ours(key, hash), Timestamp::now());
            let name = |form: &str| format!("ours, {form}, {}, {}", key.kind, hash.name());
            tickets.push(Ticket::url(&name("canned"), &pair.sign(&ordered(URL), now).unwrap().url));
            tickets.push(Ticket::url(&name("conditions"), &pair.sign(&conditions(), now).unwrap().url));
            let query = pair.sign(&ordered(PATTERN), now).unwrap().url;
            tickets.push(Ticket::url(&name("pattern"), &format!("{URL}?{query}")));
            for order in [conditions(), ordered(PATTERN)] {
                tickets.push(cookies(&name("cookies"), &pair.sign_cookies(&order, now).unwrap().cookies));
            }
        }
    }
    assert_they_open_what_was_signed(&tickets, 2 * 2 * 5);
}

#[test]
fn either_set_of_doubled_parameters_opens_by_itself() {
    for key in KEYS.iter() {
        let order = Order { resource: Some(PATTERN.to_owned()), ..ordered(URL) };
        let url = ours(key, Hash::Sha256).sign_twice(&order, "-PREFIX", Timestamp::now()).unwrap().url;
        let (path, query) = url.split_once('?').unwrap();
        let (suffixed, plain): (Vec<_>, Vec<_>) =
            query.split('&').partition(|pair| pair.contains("-PREFIX="));
        assert_eq!((suffixed.len(), plain.len()), (4, 4));
        for (query, expected) in [
            (query.to_owned(), OPENED),
            // What reaches the origin behind CloudFront.
            (suffixed.join("&"), OPENED),
            (plain.join("&"), OPENED),
            ([&suffixed[..3], &plain[3..]].concat().join("&"), "MissingKey"),
        ] {
            let ask = Ticket::url("ours, doubled", &format!("{path}?{query}")).ask();
            assert_eq!([native(&ask, now()), worker(&ask)], [expected; 2], "{query}");
        }
    }
}

/// A ticket's parameters, in an order of their own.
fn sorted(ticket: &Ticket) -> Vec<(String, String)> {
    let mut parameters = ticket.parameters.clone();
    parameters.sort();
    parameters
}

fn named<'a>(name: &str, tickets: &'a [Ticket]) -> &'a Ticket {
    tickets.iter().find(|ticket| ticket.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn our_urls_are_botocores_to_the_byte() {
    // With both conditions botocore has them in another order, which CloudFront leaves free.
    for (form, order) in [
        ("canned", ordered(URL)),
        ("start", Order { starts: Some(*STARTS), ..ordered(URL) }),
        ("address", Order { address: Cidr::parse(RANGE), ..ordered(URL) }),
        ("pattern", Order { resource: Some(PATTERN.to_owned()), ..ordered(URL) }),
    ] {
        for (hash, said) in [(Hash::Sha1, "SHA1"), (Hash::Sha256, "SHA256")] {
            let theirs = named(&format!("botocore, {form}, RSA, {said}, URL"), &PYTHON);
            let url = ours(&KEYS[0], hash).sign(&order, Timestamp::now()).unwrap().url;
            assert_eq!(Some(&*url), theirs.as_url(), "{form}");
        }
    }
}

#[test]
fn our_policies_and_signatures_are_the_aws_sdk_for_javascripts_to_the_byte() {
    for (form, order) in [("canned", ordered(URL)), ("conditions", conditions())] {
        for (hash, said) in [(Hash::Sha1, "SHA1"), (Hash::Sha256, "SHA256")] {
            let name = format!("@aws-sdk/cloudfront-signer, {form}, RSA, {said}, URL");
            let url = ours(&KEYS[0], hash).sign(&order, Timestamp::now()).unwrap().url;
            // Their parameters come in another order.
            assert_eq!(sorted(&Ticket::url("ours", &url)), sorted(named(&name, &JAVASCRIPT)));
        }
    }
    // Of an EC signature no two are the same, but the policy is.
    let name = "@aws-sdk/cloudfront-signer, conditions, EC, SHA1, URL";
    let url = sign(&KEYS[1], &conditions());
    assert_eq!(Ticket::url("ours", &url).policy(), named(name, &JAVASCRIPT).policy());
}

#[test]
fn our_cookies_are_botocores_and_the_aws_sdk_for_javascripts_to_the_byte() {
    for (signer, all, form, order) in [
        ("botocore", &PYTHON, "pattern", ordered(PATTERN)),
        ("@aws-sdk/cloudfront-signer", &JAVASCRIPT, "conditions", conditions()),
    ] {
        for (hash, said) in [(Hash::Sha1, "SHA1"), (Hash::Sha256, "SHA256")] {
            let theirs = named(&format!("{signer}, {form}, RSA, {said}, cookies"), all);
            let signed = ours(&KEYS[0], hash).sign_cookies(&order, Timestamp::now()).unwrap();
            assert_eq!(sorted(&cookies("ours", &signed.cookies)), sorted(theirs));
        }
    }
}

#[test]
fn any_pem_that_openssl_writes_is_read_or_explained() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, arguments: &str| {
        let _ = run(Command::new("openssl")
            .args(arguments.split(' '))
            .arg("-out")
            .arg(name)
            .current_dir(folder.path()));
        KeyPair::load("K1", &folder.path().join(name)).map_err(|error| error.to_string())
    };
    for (name, arguments) in [
        ("pkcs8.pem", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
        ("pkcs1.pem", "rsa -traditional -in pkcs8.pem"),
        ("ec8.pem", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
        ("sec1.pem", "ec -in ec8.pem"),
        ("with-parameters.pem", "ecparam -name prime256v1 -genkey"),
        ("with-text.pem", "pkey -in ec8.pem -text"),
    ] {
        assert!(write(name, arguments).is_ok(), "{name}: {:?}", write(name, arguments));
    }
    for (name, arguments, problem) in [
        ("encrypted8.pem", "pkcs8 -topk8 -in pkcs8.pem -passout pass:secret", "protected by a pass phrase"),
        (
            "encrypted1.pem",
            "rsa -traditional -in pkcs8.pem -aes128 -passout pass:secret",
            "protected by a pass phrase",
        ),
        ("encrypted-ec.pem", "ec -in ec8.pem -aes128 -passout pass:secret", "protected by a pass phrase"),
        ("public.pem", "pkey -in pkcs8.pem -pubout", "is a public key"),
        ("public-ec.pem", "pkey -in ec8.pem -pubout", "is a public key"),
        ("certificate.pem", "req -x509 -key pkcs8.pem -subj /CN=a", "is a certificate"),
        ("short.pem", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024", "1024 bits"),
        ("p384.pem", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "not on the curve P-256"),
        ("p384-sec1.pem", "ecparam -name secp384r1 -genkey", "not on the curve P-256"),
        ("k256.pem", "ecparam -name secp256k1 -genkey -noout", "not on the curve P-256"),
        ("k256-8.pem", "pkey -in k256.pem", "not on the curve P-256"),
        ("ed25519.pem", "genpkey -algorithm ED25519", "a key for Ed25519"),
        ("pss.pem", "genpkey -algorithm RSA-PSS", "RSA-PSS"),
        ("key.der", "rsa -in pkcs8.pem -outform DER", "not in PEM"),
    ] {
        let error = write(name, arguments).unwrap_err();
        assert!(error.contains(problem) && !error.contains('\n'), "{name}: {error}");
    }
}
