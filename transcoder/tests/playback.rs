//! Who may watch: the platform, viewers with its tokens, and nobody with anything that only looks like one. Tokens are of
//! `PyJWT`'s making, keys and what checks signatures are openssl's.

#[allow(clippy::duplicate_mod, reason = "every test file has its own")]
mod harness;

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use harness::api::{Api, read};
use harness::{printed, tool};
use jiff::Timestamp;
use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use transcoder::http::Token;
use transcoder::playback::{Origins, PrivateKey, Settings};
use transcoder::sign::SameSite;

const TOKEN: &str = "open sesame";
const SECRET: &str = "a secret of the platform's, of 40 bytes.";
const PAGE: &str = "https://www.example.com";

/// Key pairs by name, as openssl makes them: `NAME.pem`, `NAME.public.pem`.
static KEYS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = TempDir::new().unwrap();
    for (name, algorithm) in [
        ("edge", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("rsa", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("other", "RSA -pkeyopt rsa_keygen_bits:2048"),
        ("ec", "EC -pkeyopt ec_paramgen_curve:P-256"),
    ] {
        let [private, public] = [".pem", ".public.pem"].map(|end| folder.path().join(format!("{name}{end}")));
        let mut generate = Command::new("openssl");
        generate.args(["genpkey", "-algorithm"]).args(algorithm.split(' ')).arg("-out").arg(&private);
        let _ = printed(generate.stderr(Stdio::null()));
        let mut publish = Command::new("openssl");
        let _ = printed(publish.args(["pkey", "-pubout", "-in"]).arg(private).arg("-out").arg(public));
    }
    folder
});

fn path(name: &str) -> PathBuf {
    KEYS.path().join(name)
}

fn pem(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

/// A platform that signs, and whose viewers nobody can be.
fn signing() -> Settings {
    Settings {
        edge: Some("https://video.example.com".parse().unwrap()),
        key_pair_id: Some("K2JCJMDEHXQW5F".to_owned()),
        private_key: Some(PrivateKey::File(path("edge.pem"))),
        ..Settings::default()
    }
}

/// The same, whose viewers have tokens.
fn with_viewers() -> Settings {
    Settings {
        viewer_issuer: Some("https://school.example".to_owned()),
        viewer_audience: Some("reelgate".to_owned()),
        playback_origins: PAGE.parse().unwrap(),
        ..signing()
    }
}

fn by_secret() -> Settings {
    // As it is read from a file, which ends with a line.
    Settings { viewer_secret: Some(format!("{SECRET}\n").into()), ..with_viewers() }
}

fn by_key(names: &[&str]) -> Settings {
    let file = path(&format!("{}.pems", names.join("+")));
    fs::write(&file, names.iter().map(|name| pem(&format!("{name}.public.pem"))).collect::<String>())
        .unwrap();
    Settings { viewer_key: Some(file), ..with_viewers() }
}

/// A service with an asset `talk` of 90.2 s, and `talk-2`, which has no pictures.
async fn service(settings: Settings) -> Api {
    let office = settings.open().unwrap().map(Arc::new);
    let api = Api::with(|service| {
        service.api_token = Some(Token::of(TOKEN));
        service.playback = office;
    })
    .await;
    publish(&api.studio.path("media"));
    api
}

/// What is said of those assets, as the transcoder writes it.
fn publish(media: &Path) {
    for (asset, pictures) in [("talk", true), ("talk-2", false)] {
        let generation = "20261122t100000z-0123abcd";
        let mut described = json!({
            "asset": asset, "state": "ready", "generation": generation, "created": "2026-11-22T10:00:00Z",
            "duration": 90.2, "container": "fmp4", "renditions": [], "rungs": [], "notes": [], "commands": [],
            "source": {"name": "talk.mp4", "bytes": 1, "container": "mp4", "duration": 90.2, "audio": [],
                       "captions": []},
            "versions": {"transcoder": "1", "encoder": "1"},
            "objects": {"count": 0, "bytes": 0, "list": "", "list_sha256": "", "playlist_sha256": ""},
        });
        if pictures {
            described["poster"] = json!(format!("{generation}/poster.jpg"));
            described["storyboard"] = json!(format!("{generation}/storyboard.vtt"));
        }
        let folder = media.join("assets").join(asset);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("asset.json"), described.to_string()).unwrap();
    }
}

/// Asks with a token and more headers, a line each.
async fn asked(api: &Api, token: &str, more: &str, wish: &Value) -> Response {
    let mut request = api.ask("POST", "/v1/playback").header("content-type", "application/json");
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    for (name, value) in more.lines().filter_map(|line| line.split_once(": ")) {
        request = request.header(name, value);
    }
    request.body(wish.to_string()).send().await.unwrap()
}

async fn asks(api: &Api, token: &str, wish: &Value) -> (StatusCode, Value) {
    read(asked(api, token, "", wish).await).await
}

async fn status(api: &Api, token: &str, asset: &str) -> u16 {
    asks(api, token, &json!({ "asset": asset })).await.0.as_u16()
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Tokens as `PyJWT` makes them, or an attacker does.
fn tokens(recipes: &[Value]) -> Vec<String> {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/harness/tokens.py");
    let text = printed(tool("python").arg(program).arg(json!(recipes).to_string()));
    serde_json::from_str(&text).unwrap()
}

fn token(recipe: Value) -> String {
    tokens(&[recipe]).remove(0)
}

/// What a viewer's token has to say, with changes; `null` leaves a claim out.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": "https://school.example", "aud": "reelgate", "sub": "ada", "exp": now() + 300,
        "assets": ["talk*"],
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    claims
}

fn hs256(changes: &Value) -> Value {
    json!({"alg": "HS256", "key": SECRET, "claims": claims(changes)})
}

fn rs256(name: &str, changes: &Value) -> Value {
    json!({"alg": "RS256", "key": pem(&format!("{name}.pem")), "claims": claims(changes)})
}

/// Parameters of a URL.
fn query(url: &str) -> HashMap<String, String> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// CloudFront's base64, by `tr` and openssl, as AWS's pages have it.
fn plain(text: &str) -> Vec<u8> {
    let text = text.replace('-', "+").replace('_', "=").replace('~', "/");
    let decode = "printf %s \"$1\" | openssl base64 -d -A";
    Command::new("sh").args(["-c", decode, "sh", &text]).output().unwrap().stdout
}

/// The policy that a query or cookies carry, whose signature openssl finds to be that of the edge's key.
fn policy(parameters: &HashMap<String, String>, digest: &str) -> Value {
    let folder = TempDir::new().unwrap();
    let [text, signature] = ["text", "signature"].map(|name| folder.path().join(name));
    fs::write(&text, plain(&parameters["Policy"])).unwrap();
    fs::write(&signature, plain(&parameters["Signature"])).unwrap();
    assert_eq!(parameters["Key-Pair-Id"], "K2JCJMDEHXQW5F");
    let mut verify = Command::new("openssl");
    verify.args(["dgst", digest, "-verify"]).arg(path("edge.public.pem")).arg("-signature").arg(signature);
    assert_eq!(printed(verify.arg(&text)), "Verified OK\n");
    serde_json::from_slice::<Value>(&fs::read(text).unwrap()).unwrap()["Statement"][0].clone()
}

fn seconds(expires: &Value) -> i64 {
    expires.as_str().unwrap().parse::<Timestamp>().unwrap().as_second()
}

#[tokio::test]
async fn the_platform_gets_one_signature_for_all_of_an_asset() {
    let api = service(signing()).await;
    let before = now();
    let wish = json!({"asset": "talk", "lifetime": 600, "ip": "192.0.2.7"});
    let (status, sold) = asks(&api, TOKEN, &wish).await;
    assert_eq!(status, 200, "{sold}");
    let expires = seconds(&sold["expires"]);
    assert!((before + 600..=now() + 600).contains(&expires), "{sold}");
    assert_eq!((&sold["asset"], &sold["duration"]), (&json!("talk"), &json!(90.2)));
    assert!(sold.get("cookies").is_none());

    let urls = ["url", "poster", "storyboard"].map(|name| sold[name].as_str().unwrap());
    let (places, queries): (Vec<_>, Vec<_>) = urls.iter().map(|url| url.split_once('?').unwrap()).unzip();
    let folder = "https://video.example.com/assets/talk";
    assert_eq!(
        places,
        ["index.m3u8", "20261122t100000z-0123abcd/poster.jpg", "20261122t100000z-0123abcd/storyboard.vtt"]
            .map(|name| format!("{folder}/{name}"))
    );
    assert!(queries.iter().all(|query| *query == queries[0]));
    assert_eq!(
        policy(&query(urls[0]), "-sha1"),
        json!({"Resource": format!("{folder}/*"), "Condition": {
            "DateLessThan": {"AWS:EpochTime": expires},
            "IpAddress": {"AWS:SourceIp": "192.0.2.7/32"}}})
    );

    let (_, sold) = asks(&api, TOKEN, &json!({"asset": "talk-2"})).await;
    assert_eq!((&sold["poster"], &sold["storyboard"]), (&Value::Null, &Value::Null));
    api.stop().await;
}

#[tokio::test]
async fn a_lifetime_is_the_assets_and_a_margin_up_to_a_ceiling() {
    let settings = Settings {
        playback_margin: Duration::from_secs(1_000),
        playback_longest: Duration::from_secs(2_000),
        ..signing()
    };
    let api = service(settings).await;
    let left = async |wish: Value| {
        let (status, sold) = asks(&api, TOKEN, &wish).await;
        assert_eq!(status, 200, "{sold}");
        seconds(&sold["expires"]) - now()
    };
    // 90.2 s are played in the 91st.
    assert!((1_090..=1_091).contains(&left(json!({"asset": "talk"})).await));
    assert!((1_999..=2_000).contains(&left(json!({"asset": "talk", "lifetime": 2000})).await));
    for wished in [0, 2_001, u64::MAX] {
        let (status, problem) = asks(&api, TOKEN, &json!({"asset": "talk", "lifetime": wished})).await;
        assert_eq!((status.as_u16(), &problem["type"]), (422, &json!("/problems/lifetime")), "{problem}");
        assert!(wished == 0 || problem["longest"] == 2_000, "{problem}");
    }
    let starts = "2027-01-01T00:00:00Z".parse::<Timestamp>().unwrap().max(Timestamp::now());
    let starts = starts.checked_add(Duration::from_hours(24)).unwrap();
    let wish = json!({"asset": "talk", "lifetime": 60, "starts": starts.to_string()});
    let (_, sold) = asks(&api, TOKEN, &wish).await;
    assert_eq!(seconds(&sold["expires"]), starts.as_second() + 60);
    let policy = policy(&query(sold["url"].as_str().unwrap()), "-sha1");
    assert_eq!(policy["Condition"]["DateGreaterThan"]["AWS:EpochTime"], starts.as_second());
    for (more, says) in [
        (json!({"starts": "2040-01-01T00:00:00Z"}), "after 2038-01-19T03:14:07Z"),
        (json!({"starts": "tomorrow"}), "`starts` is no time"),
        (json!({"ip": "nobody"}), "`ip` is no address"),
        (json!({"ip": "::ffff:192.0.2.7"}), "`ip` ::ffff:192.0.2.7/128 is IPv4 in IPv6's clothes"),
        (json!({"lifetime": -1}), "integer `-1`"),
        (json!({"asset": "*"}), "asset id"),
        (json!({"asset": ".."}), "asset id"),
        (json!({"asset": "talk/../b"}), "asset id"),
        (json!({"glob": "talk"}), "unknown field"),
    ] {
        let mut wish = json!({"asset": "talk"});
        wish.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, problem) = asks(&api, TOKEN, &wish).await;
        assert_eq!(status, 422, "{wish}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{wish}: {problem}");
    }
    api.stop().await;
}

#[tokio::test]
async fn the_platform_is_who_has_the_token_and_hears_what_is_not_there() {
    let api = service(signing()).await;
    assert_eq!(status(&api, TOKEN, "none").await, 404);
    for wrong in ["", "open sesam", "x.y.z"] {
        let response = asked(&api, wrong, "", &json!({"asset": "talk"})).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"reelgate\"");
        assert_eq!(read(response).await.0, 401, "{wrong}");
    }
    let request = api.ask("POST", "/v1/playback?token=open%20sesame");
    let response = request.header("content-type", "application/json").body("{\"asset\":\"talk\"}").send();
    assert_eq!(response.await.unwrap().status(), 401);
    assert_eq!(api.ask("GET", "/v1/playback").send().await.unwrap().status(), 405);
    api.stop().await;

    let api = service(Settings::default()).await;
    let (status, problem) = asks(&api, TOKEN, &json!({"asset": "talk"})).await;
    assert_eq!((status.as_u16(), &problem["type"]), (409, &json!("/problems/unsigned")));
    api.stop().await;
}

#[tokio::test]
async fn cookies_are_for_the_asset_and_go_where_the_operator_says() {
    let settings = Settings {
        cookie_domain: Some("Example.com".to_owned()),
        cookie_same_site: SameSite::None,
        playback_hash: edge::signed_url::Hash::Sha256,
        ..by_secret()
    };
    let api = service(settings).await;
    let wish = json!({"asset": "talk", "cookies": true});
    let (_, sold) = asks(&api, TOKEN, &wish).await;
    assert_eq!(sold["url"], "https://video.example.com/assets/talk/index.m3u8");
    assert!(!sold["poster"].as_str().unwrap().contains('?'));
    let attributes = "; Domain=example.com; Path=/assets/talk/; Secure; HttpOnly; SameSite=None";
    let parameters = |cookies: &[&str]| -> HashMap<String, String> {
        let pairs = cookies.iter().map(|cookie| {
            let pair = cookie.strip_suffix(attributes).unwrap_or_else(|| panic!("{cookie}"));
            pair.strip_prefix("CloudFront-").unwrap().split_once('=').unwrap()
        });
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let cookies: Vec<_> =
        sold["cookies"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    let cookies = parameters(&cookies);
    assert_eq!(cookies["Hash-Algorithm"], "SHA256");
    assert_eq!(policy(&cookies, "-sha256")["Resource"], "https://video.example.com/assets/talk/*");

    let viewer = token(hs256(&json!({})));
    let response = asked(&api, &viewer, &format!("origin: {PAGE}\nsec-fetch-site: same-site"), &wish).await;
    assert_eq!(response.headers()["access-control-allow-credentials"], "true");
    let headers = response.headers().clone();
    let set: Vec<_> = headers.get_all("set-cookie").iter().map(|one| one.to_str().unwrap()).collect();
    assert_eq!(policy(&parameters(&set), "-sha256")["Resource"], "https://video.example.com/assets/talk/*");
    assert!(read(response).await.1.get("cookies").is_none());
    api.stop().await;
}

#[tokio::test]
async fn viewers_get_what_their_token_lists_and_hear_of_nothing_else() {
    let api = service(by_secret()).await;
    let made = tokens(&[
        hs256(&json!({})),
        hs256(&json!({"assets": "talk"})),
        hs256(&json!({"assets": null})),
        hs256(&json!({"assets": [], "scope": "*"})),
        hs256(&json!({"assets": {"talk": true}})),
        hs256(
            &json!({"assets": ["Talk", "TALK*", "tal", "alk", "t?lk", "../*", "talk/*", ".*", "assets/talk", 1]}),
        ),
        hs256(&json!({"assets": "*"})),
    ]);
    let [lists, text, missing, empty, object, tricks, all] = &made[..] else { panic!("{made:?}") };
    assert_eq!(status(&api, lists, "talk").await, 200);
    assert_eq!(status(&api, lists, "talk-2").await, 200);
    assert_eq!(status(&api, lists, "talk-3").await, 404);
    assert_eq!(status(&api, text, "talk").await, 200);
    assert_eq!(status(&api, text, "talk-2").await, 403);
    let (_, there) = asks(&api, text, &json!({"asset": "talk-2"})).await;
    let (_, nowhere) = asks(&api, text, &json!({"asset": "nowhere"})).await;
    assert_eq!(there, nowhere);
    assert_eq!(there["type"], "/problems/not-opened");
    for nothing in [missing, empty, object, tricks] {
        assert_eq!(status(&api, nothing, "talk").await, 403);
        assert_eq!(status(&api, nothing, "nowhere").await, 403);
    }
    assert_eq!(status(&api, all, "talk").await, 200);
    for wish in ["*", "..", "tal?", "talk*"] {
        assert_eq!(status(&api, all, wish).await, 422, "{wish}");
    }
    // Nothing else of the API is theirs.
    for path in ["/v1/assets", "/v1/jobs"] {
        let response = api.ask("GET", path).header("authorization", format!("Bearer {all}")).send().await;
        assert_eq!(response.unwrap().status(), 401, "{path}");
    }
    api.stop().await;
}

#[tokio::test]
async fn viewers_may_narrow_what_they_get_and_not_widen_it() {
    let api = service(by_secret()).await;
    let made = tokens(&[hs256(&json!({"max_seconds": 120})), hs256(&json!({"max_seconds": 1_000_000}))]);
    let left = async |token: &str, wish: Value| {
        let (status, sold) = asks(&api, token, &wish).await;
        assert_eq!(status, 200, "{sold}");
        seconds(&sold["expires"]) - now()
    };
    // What nobody asked for is cut; what somebody asked for is refused.
    assert!((119..=120).contains(&left(&made[0], json!({"asset": "talk"})).await));
    assert!((59..=60).contains(&left(&made[0], json!({"asset": "talk", "lifetime": 60})).await));
    let (status, problem) = asks(&api, &made[0], &json!({"asset": "talk", "lifetime": 121})).await;
    assert_eq!((status.as_u16(), &problem["longest"]), (422, &json!(120)), "{problem}");
    assert!((1_890..=1_891).contains(&left(&made[1], json!({"asset": "talk"})).await));
    let (status, problem) = asks(&api, &made[1], &json!({"asset": "talk", "lifetime": 43_201})).await;
    assert_eq!((status.as_u16(), &problem["longest"]), (422, &json!(43_200)), "{problem}");

    let (_, sold) = asks(&api, &made[0], &json!({"asset": "talk", "ip": "192.0.2.0/24"})).await;
    let policy = policy(&query(sold["url"].as_str().unwrap()), "-sha1");
    assert_eq!(policy["Condition"]["IpAddress"]["AWS:SourceIp"], "192.0.2.0/24");
    let starts = json!({"asset": "talk", "starts": "2027-01-01T00:00:00Z"});
    assert_eq!(asks(&api, &made[0], &starts).await.0, 403);
    let caps = [json!(0), json!(-5), json!("60"), json!(1.5), json!([]), json!(true)];
    for cap in tokens(&caps.map(|cap| hs256(&json!({ "max_seconds": cap })))) {
        let (status, problem) = asks(&api, &cap, &json!({"asset": "talk"})).await;
        assert_eq!(status, 401, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("`max_seconds`"), "{problem}");
    }
    api.stop().await;
}

#[tokio::test]
async fn claims_may_have_other_names() {
    let settings = Settings {
        viewer_assets_claim: "https://school.example/courses".to_owned(),
        viewer_lifetime_claim: "ttl".to_owned(),
        ..by_secret()
    };
    let api = service(settings).await;
    let wish = json!({"asset": "talk"});
    let named =
        json!({"assets": null, "https://school.example/courses": ["talk"], "ttl": 60, "max_seconds": 1});
    let (_, sold) = asks(&api, &token(hs256(&named)), &wish).await;
    assert!((59..=60).contains(&(seconds(&sold["expires"]) - now())), "{sold}");
    assert_eq!(asks(&api, &token(hs256(&json!({}))), &wish).await.0, 403);
    api.stop().await;
}

/// The attacks of RFC 8725 §2 and of who has read it.
#[tokio::test]
async fn a_token_that_only_looks_like_one_is_refused_and_told_why() {
    let secret = service(by_secret()).await;
    let keys = service(by_key(&["rsa", "ec"])).await;
    let es256 = json!({"alg": "ES256", "key": pem("ec.pem"), "claims": claims(&json!({}))});
    let good = tokens(&[hs256(&json!({})), rs256("rsa", &json!({})), es256]);
    assert_eq!(status(&secret, &good[0], "talk").await, 200);
    assert_eq!(status(&keys, &good[1], "talk").await, 200);
    assert_eq!(status(&keys, &good[2], "talk").await, 200);
    assert_eq!(status(&keys, &good[0], "talk").await, 401);
    assert_eq!(status(&secret, &good[1], "talk").await, 401);

    let by_hand = |alg: &str, key: Option<&str>, headers: Value| json!({"by hand": true, "alg": alg, "key": key, "headers": headers, "claims": claims(&json!({}))});
    let public = pem("rsa.public.pem");
    let with = |headers: Value| json!({"alg": "HS256", "key": SECRET, "headers": headers, "claims": claims(&json!({}))});
    let attacks = [
        (&secret, by_hand("none", None, json!({})), "no signed JWT"),
        (&secret, by_hand("None", None, json!({})), "no signed JWT"),
        (&secret, by_hand("HS256", None, json!({})), "signature"),
        (&keys, by_hand("none", None, json!({})), "no signed JWT"),
        (&keys, by_hand("HS256", Some(&public), json!({})), "`alg`"),
        (&keys, by_hand("HS256", Some(public.trim()), json!({})), "`alg`"),
        (&keys, by_hand("RS256", Some(&public), json!({})), "signature"),
        (&keys, rs256("other", &json!({})), "signature"),
        (&keys, json!({"alg": "RS512", "key": pem("rsa.pem"), "claims": claims(&json!({}))}), "`alg`"),
        (&keys, json!({"alg": "PS256", "key": pem("rsa.pem"), "claims": claims(&json!({}))}), "`alg`"),
        (&secret, json!({"alg": "HS512", "key": SECRET.repeat(2), "claims": claims(&json!({}))}), "`alg`"),
        (
            &secret,
            json!({"alg": "HS256", "key": SECRET.to_uppercase(), "claims": claims(&json!({}))}),
            "signature",
        ),
        (&secret, with(json!({"crit": ["exp"], "exp": 1})), "`crit`"),
        (&secret, with(json!({"crit": []})), "`crit`"),
        (&secret, hs256(&json!({"exp": now() - 60})), "expired (`exp`)"),
        (&secret, hs256(&json!({"exp": null})), "`exp` is missing"),
        (
            &secret,
            by_hand("HS256", Some(SECRET), json!({})).tap("claims", &json!({"exp": "9999999999"})),
            "`exp`",
        ),
        (&secret, by_hand("HS256", Some(SECRET), json!({})).tap("claims", &json!({"nbf": "soon"})), "`nbf`"),
        (&secret, hs256(&json!({"nbf": now() + 60})), "not valid yet (`nbf`)"),
        (&secret, hs256(&json!({"aud": "another"})), "another audience (`aud`)"),
        (&secret, hs256(&json!({"aud": ["another", "Reelgate"]})), "another audience (`aud`)"),
        (&secret, hs256(&json!({"aud": null})), "`aud` is missing"),
        (&secret, hs256(&json!({"iss": "https://school.example/"})), "another issuer (`iss`)"),
        (&secret, hs256(&json!({"iss": null})), "`iss` is missing"),
        (
            &secret,
            by_hand("HS256", Some(SECRET), json!({}))
                .tap("claims", &json!({"iss": ["https://school.example", "https://other.example"]})),
            "another issuer (`iss`)",
        ),
        (&secret, hs256(&json!({"assets": "x".repeat(10_000)})), "longer than"),
    ];
    let made = tokens(&attacks.each_ref().map(|(_, recipe, _)| recipe.clone()));
    for ((api, recipe, says), attack) in attacks.iter().zip(&made) {
        let response = asked(api, attack, "", &json!({"asset": "talk"})).await;
        let said = response.headers()["www-authenticate"].to_str().unwrap().to_owned();
        let (status, problem) = read(response).await;
        assert_eq!((status.as_u16(), &problem["type"]), (401, &json!("/problems/viewer-token")), "{recipe}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{recipe}: {problem}");
        assert!(
            said.starts_with("Bearer realm=\"reelgate\", error=\"invalid_token\", error_description=\""),
            "{said}"
        );
        assert!(said.contains(says), "{said}");
    }
    assert_eq!(status(&secret, &token(hs256(&json!({"aud": ["another", "reelgate"]}))), "talk").await, 200);

    let [head, body, mac] = good[0].split('.').collect::<Vec<_>>()[..] else { panic!("{good:?}") };
    let other = token(hs256(&json!({"assets": "*"})));
    let other = other.split('.').nth(1).unwrap();
    for forged in [
        format!("{head}.{other}.{mac}"),
        format!("{head}.{body}.{}", mac.chars().rev().collect::<String>()),
        format!("{head}.{body}."),
        format!("{head}.{body}"),
        format!("{head}.{body}.{mac}."),
        format!("{head}.{body}.{mac}.{mac}.{mac}"),
        format!(".{body}.{mac}"),
        format!("{head}.{body}.{mac}=="),
        "..".to_owned(),
        "eyJ".repeat(1_000),
        "\u{e9}.x.y".to_owned(),
    ] {
        assert_eq!(status(&secret, &forged, "talk").await, 401, "{forged}");
    }
    // A token is in its header, and nowhere else.
    for place in ["token", "access_token", "jwt"] {
        let request = secret.ask("POST", &format!("/v1/playback?{place}={}", good[0]));
        let response = request.header("content-type", "application/json").body("{\"asset\":\"talk\"}").send();
        assert_eq!(response.await.unwrap().status(), 401, "{place}");
    }
    secret.stop().await;
    keys.stop().await;
}

trait Tap {
    fn tap(self, member: &str, changes: &Value) -> Self;
}

impl Tap for Value {
    /// With some members of a member changed.
    fn tap(mut self, member: &str, changes: &Value) -> Self {
        self[member].as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        self
    }
}

/// A server of one document, which counts how often it was asked.
struct Published {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<Mutex<u32>>,
}

impl Published {
    async fn start(body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new((200, body))), Arc::new(Mutex::new(0)));
        let (says, counts) = (Arc::clone(&answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                *counts.lock().unwrap() += 1;
                let _ = stream.read(&mut [0; 4_096]).await;
                let (status, body) = says.lock().unwrap().clone();
                let head = format!(
                    "HTTP/1.1 {status} x\r\nLocation: http://{address}/there\r\nContent-Length: {}\r\n\
                     Connection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { address, answer, asked }
    }

    fn settings(&self) -> Settings {
        let url = format!("http://{}/jwks.json?key=hush", self.address);
        Settings { viewer_jwks: Some(url.parse().unwrap()), ..with_viewers() }
    }

    fn says(&self, status: u16, body: String) {
        *self.answer.lock().unwrap() = (status, body);
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

/// A published key, with more members.
fn jwk(name: &str, more: &Value) -> Value {
    let mut key = more.clone();
    key["pem"] = json!(pem(&format!("{name}.public.pem")));
    key
}

fn set(keys: &[Value]) -> String {
    token(json!({ "set": keys }))
}

fn named(mut recipe: Value, kid: &str) -> String {
    recipe["headers"] = json!({ "kid": kid });
    token(recipe)
}

#[tokio::test]
async fn published_keys_change_while_the_service_runs() {
    let published =
        Published::start(set(&[jwk("rsa", &json!({"kid": "1", "use": "sig", "alg": "RS256"}))])).await;
    let api = service(published.settings()).await;
    let first = named(rs256("rsa", &json!({})), "1");
    assert_eq!(published.asked(), 0);
    let (one, two, three) = tokio::join!(
        status(&api, &first, "talk"),
        status(&api, &first, "talk"),
        status(&api, &first, "talk")
    );
    assert_eq!((one, two, three, published.asked()), (200, 200, 200, 1));
    assert_eq!(status(&api, &token(rs256("rsa", &json!({}))), "talk").await, 200);
    assert_eq!(published.asked(), 1);

    let es256 = json!({"alg": "ES256", "key": pem("ec.pem"), "claims": claims(&json!({}))});
    let second = named(es256, "2");
    published.says(200, set(&[jwk("rsa", &json!({"kid": "1"})), jwk("ec", &json!({"kid": "2"}))]));
    assert_eq!(status(&api, &second, "talk").await, 200);
    assert_eq!(status(&api, &first, "talk").await, 200);
    assert_eq!(published.asked(), 2);
    // Nobody can have it asked for again and again, and one of several is not guessed.
    let unknown = [
        named(rs256("rsa", &json!({})), "3"),
        named(rs256("rsa", &json!({})), "../1"),
        token(rs256("rsa", &json!({}))),
    ];
    for token in &unknown {
        let (status, problem) = asks(&api, token, &json!({"asset": "talk"})).await;
        assert_eq!(status, 401, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains("`kid`"), "{problem}");
    }
    let swapped = named(rs256("rsa", &json!({})), "2");
    assert_eq!(status(&api, &swapped, "talk").await, 401);
    assert_eq!(published.asked(), 2);
    api.stop().await;
}

#[tokio::test]
async fn a_set_of_keys_is_taken_for_what_it_says_of_them() {
    let octets =
        json!({"kty": "oct", "kid": "1", "k": "YSBzZWNyZXQgb2YgdGhlIHBsYXRmb3JtJ3MsIG9mIDQwIGJ5dGVzLg"});
    let weak = json!({"kty": "RSA", "kid": "1", "n": "w5cGzH8", "e": "AQAB"});
    let token = named(rs256("rsa", &json!({})), "1");
    let mac = named(hs256(&json!({})), "1");
    for (keys, token, expected) in [
        (vec![jwk("rsa", &json!({"kid": "1"}))], &token, 200),
        (vec![jwk("other", &json!({"kid": "1"})), jwk("rsa", &json!({"kid": "1"}))], &token, 200),
        (vec![json!({"kty": 5}), octets.clone(), jwk("rsa", &json!({"kid": "1"}))], &token, 200),
        (vec![octets.clone(), jwk("rsa", &json!({"kid": "2"}))], &mac, 401),
        (vec![jwk("rsa", &json!({"kid": "1"}))], &mac, 401),
        (vec![octets], &mac, 503),
        (vec![jwk("other", &json!({"kid": "1"}))], &token, 401),
        (vec![jwk("rsa", &json!({"kid": "1", "use": "enc"})), jwk("ec", &json!({}))], &token, 401),
        (vec![jwk("rsa", &json!({"kid": "1", "alg": "RS512"})), jwk("ec", &json!({}))], &token, 401),
        (vec![jwk("rsa", &json!({"kid": "1", "key_ops": ["sign"]})), jwk("ec", &json!({}))], &token, 401),
        (vec![weak], &token, 503),
        (vec![], &token, 503),
    ] {
        let published = Published::start(set(&keys)).await;
        let api = service(published.settings()).await;
        assert_eq!(status(&api, token, "talk").await, expected, "{keys:?}");
        api.stop().await;
    }
}

#[tokio::test]
async fn without_keys_viewers_are_asked_to_wait_and_the_platform_is_not() {
    let good = set(&[jwk("rsa", &json!({"kid": "1"}))]);
    let token = named(rs256("rsa", &json!({})), "1");
    for (status, body) in [
        (500, String::new()),
        (302, good.clone()),
        (200, "{\"keys\":".to_owned()),
        (200, format!("{good}{}", " ".repeat(300 << 10))),
    ] {
        let published = Published::start(String::new()).await;
        published.says(status, body);
        let api = service(published.settings()).await;
        let response = asked(&api, &token, "", &json!({"asset": "talk"})).await;
        assert_eq!(response.headers()["retry-after"], "10");
        let (answered, problem) = read(response).await;
        assert_eq!(answered, 503, "{status}: {problem}");
        assert!(
            !problem.to_string().contains("hush") && !problem.to_string().contains("127.0.0.1"),
            "{problem}"
        );
        assert_eq!(asks(&api, &token, &json!({"asset": "talk"})).await.0, 503);
        assert_eq!(published.asked(), 1);
        assert_eq!(self::status(&api, TOKEN, "talk").await, 200);
        api.stop().await;
    }
}

/// Its server takes a connection, and says nothing.
#[tokio::test]
async fn who_hangs_up_cannot_have_keys_asked_for_again_and_nobody_waits_for_them_twice() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = silent.accept().await {
            kept.lock().unwrap().push(stream);
        }
    });
    let api = service(Settings { viewer_jwks: Some(url.parse().unwrap()), ..with_viewers() }).await;
    let token = named(rs256("rsa", &json!({})), "1");
    let request = || {
        let request = api.ask("POST", "/v1/playback").header("content-type", "application/json");
        request.header("authorization", format!("Bearer {token}")).body("{\"asset\":\"talk\"}")
    };
    for _ in 0..5 {
        let hung_up = request().timeout(Duration::from_millis(200)).send().await;
        assert!(hung_up.unwrap_err().is_timeout());
    }
    assert_eq!(asked.lock().unwrap().len(), 1);
    assert_eq!(request().send().await.unwrap().status(), 503);
    let begun = Instant::now();
    assert_eq!(request().send().await.unwrap().status(), 503);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(asked.lock().unwrap().len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn who_asks_too_often_is_told_to_wait() {
    let settings = Settings { viewer_rate: NonZeroU32::new(3).unwrap(), ..by_secret() };
    let api = service(settings).await;
    let made = tokens(&[
        hs256(&json!({})),
        hs256(&json!({"jti": "another token of hers"})),
        hs256(&json!({"sub": "bob"})),
        hs256(&json!({"sub": null})),
    ]);
    for token in [&made[0], &made[1], &made[0]] {
        assert_eq!(status(&api, token, "talk").await, 200);
    }
    let response = asked(&api, &made[1], &format!("origin: {PAGE}"), &json!({"asset": "talk"})).await;
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
    assert_eq!(response.headers()["access-control-allow-origin"], PAGE);
    assert_eq!(response.headers()["access-control-expose-headers"], "Retry-After, WWW-Authenticate");
    let (answered, problem) = read(response).await;
    assert_eq!((answered.as_u16(), &problem["type"]), (429, &json!("/problems/too-many")));
    assert_eq!(status(&api, &made[2], "talk").await, 200);
    assert_eq!(status(&api, &made[3], "talk").await, 200);
    assert_eq!(status(&api, TOKEN, "talk").await, 200);

    let metrics = api.ask("GET", "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "reelgate_playbacks_total{caller=\"viewer\",outcome=\"signed\"} 5",
        "reelgate_playbacks_total{caller=\"viewer\",outcome=\"limited\"} 1",
        "reelgate_playbacks_total{caller=\"platform\",outcome=\"signed\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    assert!(!metrics.contains("bob"));
    api.stop().await;

    let settings = Settings { playback_rate: NonZeroU32::MIN, ..by_secret() };
    let api = service(settings).await;
    let viewer = token(hs256(&json!({})));
    let all = async || status(&api, TOKEN, "talk").await;
    let mut answers = [all().await, all().await, all().await, all().await];
    answers.sort_unstable();
    assert_eq!((answers[0], answers[3]), (200, 429));
    // What the platform has had is not taken from viewers.
    assert_eq!(status(&api, &viewer, "talk").await, 200);
    api.stop().await;
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn pages_of_the_platform_may_ask_for_their_viewers_and_others_may_not() {
    let api = service(by_secret()).await;
    let viewer = token(hs256(&json!({})));
    let wish = json!({"asset": "talk"});
    let preflight = async |origin: &str| {
        let request = api.ask("OPTIONS", "/v1/playback").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        request.header("access-control-request-headers", "authorization,content-type").send().await.unwrap()
    };
    let response = preflight(PAGE).await;
    assert_eq!(response.status(), 204);
    let headers = response.headers();
    assert_eq!(header(headers, "access-control-allow-origin"), Some(PAGE));
    assert_eq!(header(headers, "access-control-allow-credentials"), Some("true"));
    assert_eq!(header(headers, "access-control-allow-methods"), Some("POST"));
    assert_eq!(header(headers, "access-control-allow-headers"), Some("authorization, content-type"));
    assert_eq!(header(headers, "vary"), Some("Origin"));
    for origin in ["https://evil.example", "http://www.example.com", "https://www.example.com:444", "null"] {
        let response = preflight(origin).await;
        assert_eq!(header(response.headers(), "access-control-allow-origin"), None, "{origin}");
        assert_eq!(response.status(), 403, "{origin}");
        let response = asked(&api, &viewer, &format!("origin: {origin}"), &wish).await;
        assert_eq!(header(response.headers(), "access-control-allow-origin"), None, "{origin}");
        let (status, problem) = read(response).await;
        assert_eq!((status.as_u16(), &problem["type"]), (403, &json!("/problems/cross-site")), "{problem}");
    }
    let from_page = format!("origin: {PAGE}\nsec-fetch-site: cross-site");
    for (token, expected) in [(viewer.as_str(), 200), (TOKEN, 403), ("", 401), ("x.y.z", 401)] {
        let response = asked(&api, token, &from_page, &wish).await;
        assert_eq!(header(response.headers(), "access-control-allow-origin"), Some(PAGE));
        assert_eq!(response.status(), expected, "{token}");
    }
    for wish in [json!({"asset": "other"}), json!({"asset": ".."})] {
        let response = asked(&api, &viewer, &from_page, &wish).await;
        assert_eq!(header(response.headers(), "access-control-allow-origin"), Some(PAGE));
        assert!(response.status().is_client_error());
    }
    // The service's own page is no other site.
    let own = format!("origin: http://{}\nsec-fetch-site: same-origin", api.address);
    assert_eq!(asked(&api, TOKEN, &own, &wish).await.status(), 200);
    // Nothing else opens to pages.
    let other = api.ask("OPTIONS", "/v1/jobs").header("origin", PAGE).send().await.unwrap();
    assert_eq!(header(other.headers(), "access-control-allow-origin"), None);
    api.stop().await;

    let api = service(Settings { playback_origins: Origins::Any, ..by_secret() }).await;
    let anywhere = "origin: https://any.example\nsec-fetch-site: cross-site";
    let response = asked(&api, &viewer, anywhere, &wish).await;
    assert_eq!(header(response.headers(), "access-control-allow-origin"), Some("*"));
    assert_eq!(header(response.headers(), "access-control-allow-credentials"), None);
    assert_eq!(response.status(), 200);
    assert_eq!(asked(&api, TOKEN, anywhere, &wish).await.status(), 403);
    let cookies = json!({"asset": "talk", "cookies": true});
    assert_eq!(asked(&api, &viewer, anywhere, &cookies).await.status(), 422);
    api.stop().await;
}

#[tokio::test]
async fn without_a_token_this_machine_is_the_platform_and_no_other_site_is() {
    let office = by_secret().open().unwrap().map(Arc::new);
    let api = Api::with(|service| service.playback = office).await;
    let wish = json!({"asset": "none"});
    assert_eq!(asked(&api, "", "", &wish).await.status(), 404);
    let own = format!("origin: http://{}", api.address);
    assert_eq!(asked(&api, "", &own, &wish).await.status(), 404);
    for other in
        [format!("origin: {PAGE}"), "sec-fetch-site: same-site".to_owned(), "origin: null".to_owned()]
    {
        assert_eq!(asked(&api, "", &other, &wish).await.status(), 403, "{other}");
    }
    // Who shows a token is who it says.
    assert_eq!(asked(&api, "x.y.z", "", &wish).await.status(), 401);
    assert_eq!(asked(&api, &token(hs256(&json!({}))), &format!("origin: {PAGE}"), &wish).await.status(), 403);
    assert_eq!(asked(&api, &token(hs256(&json!({}))), "", &json!({"asset": "talk"})).await.status(), 404);
    assert_eq!(asked(&api, "", "host: evil.example", &wish).await.status(), 403);
    api.stop().await;
}

/// The service as it is started, and what it logs.
#[tokio::test]
async fn no_secret_comes_to_the_command_line_or_the_log() {
    let folder = TempDir::new().unwrap();
    let place = |name: &str| folder.path().join(name);
    publish(&place("media"));
    let serve = || {
        let mut serve = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        serve.arg("serve").arg("--uploads").arg(place("uploads")).arg("--to").arg(place("media"));
        serve.arg("--data").arg(place("data")).args(["--listen", "127.0.0.1:0", "--key-pair-id", "K1"]);
        serve.args(["--edge", "https://video.example.com", "--viewer-issuer", "https://school.example"]);
        serve.args(["--viewer-audience", "reelgate"]).env("REELGATE_VIEWER_SECRET", SECRET);
        serve.env("REELGATE_API_TOKEN", TOKEN);
        serve.env("RUST_LOG", "debug").stdin(Stdio::null()).stdout(Stdio::null());
        serve
    };
    let key = pem("edge.pem");
    let secret = key.lines().nth(1).unwrap();
    let refused = serve().args(["--private-key", &key]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("--private-key holds a key"), "{said}");
    assert!(!said.contains(secret));
    let mut sign = Command::new(env!("CARGO_BIN_EXE_transcoder"));
    sign.args(["sign", "https://v.example/a/index.m3u8", "--expires", "1h", "--key-pair-id", "K1"]);
    let refused = sign.args(["--private-key", &key]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("holds a key") && !said.contains(secret), "{said}");

    let log = fs::File::create(place("log")).unwrap();
    let running = serve().env("REELGATE_PRIVATE_KEY", &key).stderr(log).spawn().unwrap();
    let running = Stopped(running);
    let said = || fs::read_to_string(place("log")).unwrap();
    let begun = Instant::now();
    let address = loop {
        assert!(begun.elapsed() < Duration::from_mins(1), "{}", said());
        let log = said();
        if let Some((_, rest)) = log.split_once("serving http://") {
            break rest.split_whitespace().next().unwrap().to_owned();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let token = token(hs256(&json!({})));
    let ask = async |asset: &str, token: &str| {
        let request = reqwest::Client::new().post(format!("http://{address}/v1/playback"));
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.header("content-type", "application/json");
        read(request.body(json!({"asset": asset, "ip": "192.0.2.7"}).to_string()).send().await.unwrap()).await
    };
    let (status, sold) = ask("talk", &token).await;
    assert_eq!(status, 200, "{sold}");
    let forged = format!("{token}x");
    assert_eq!(ask("talk", &forged).await.0, 401);
    assert_eq!(ask("other", &token).await.0, 403);
    drop(running);
    let log = said();
    assert!(log.contains("asset=\"talk\"") && log.contains("outcome=\"signed\""), "{log}");
    let signature = query(sold["url"].as_str().unwrap())["Signature"].clone();
    let parts = token.split('.').chain([signature.as_str(), SECRET, TOKEN, secret, "ada", "192.0.2.7"]);
    for hidden in parts {
        assert!(!log.contains(hidden), "{hidden}: {log}");
    }
}

/// A process that is killed when it goes out of scope.
struct Stopped(std::process::Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
