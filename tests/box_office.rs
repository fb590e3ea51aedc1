//! What the box office sells opens the deployed gate, for what, whom and as long as it was sold, and nothing beside it.

#![allow(missing_docs)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread::sleep;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tests::{Gate as _, Worker, agent, film, keys, now, publish, tool};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use transcoder::encoder::Encoder;
use transcoder::http::{self as api, Token};
use transcoder::jobs::{Jobs, Profile};
use transcoder::metrics::Metrics;
use transcoder::plan::Options;
use transcoder::playback::{PrivateKey, Settings};
use transcoder::service::{Running, Service};
use transcoder::storage::{Access, Store};
use transcoder::upload::Uploads;
use transcoder::{CancellationToken, webhook};

const TOKEN: &str = "open sesame";
const SECRET: &str = "a secret of the platform's, of 40 bytes.";

/// The gate, and the service beside it, over two assets that were made of one clip.
struct House {
    worker: Worker,
    service: SocketAddr,
    agent: ureq::Agent,
    _runtime: Runtime,
}

static HOUSE: LazyLock<House> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let (clip, media) = (folder.join("clip.mp4"), folder.join("media"));
    film(4.0, "320x180", &clip);
    for asset in ["talk", "talk-2"] {
        let _ = publish(clip.clone(), asset, &media);
    }
    let worker = Worker::over(&media);
    let runtime = Runtime::new().unwrap();
    let service = runtime.block_on(service(&folder, worker.url()));
    House { worker, service, agent: agent(), _runtime: runtime }
});

/// The service over HTTP, without workers.
async fn service(folder: &Path, edge: &str) -> SocketAddr {
    let settings = Settings {
        edge: Some(edge.parse().unwrap()),
        key_pair_id: Some(keys().id.clone()),
        private_key: Some(PrivateKey::File(keys().private.clone())),
        viewer_secret: Some(SECRET.to_owned().into()),
        viewer_issuer: Some("https://school.example".to_owned()),
        viewer_audience: Some("reelgate".to_owned()),
        ..Settings::default()
    };
    let place = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let service = Service {
        jobs: Jobs::open(&folder.join("jobs.sqlite"), Timestamp::now()).await.unwrap(),
        uploads: Uploads::open(&place("uploads"), &Access::default()).unwrap(),
        store: Store::open(&place("media"), &Access::default()).unwrap(),
        profile: Profile { encoder: Encoder::Ffmpeg, options: Options::default() },
        stop: CancellationToken::new(),
        running: Arc::<Running>::default(),
    };
    let settings = api::Settings {
        api_token: Some(Token::of(TOKEN)),
        events_token: None,
        data: folder.join("data"),
        max_upload: 1 << 20,
        webhook: webhook::Settings::default(),
        topic_hosts: Vec::new(),
        metrics: Metrics::new(),
        edge: settings.edge.clone(),
        playback: settings.open().unwrap().map(Arc::new),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(api::serve(service, settings, listener));
    address
}

impl House {
    /// What is sold for a wish; for cookies that a viewer gets, their headers.
    fn sells(&self, token: &str, wish: &Value) -> (Value, Vec<String>) {
        let asked = self.agent.post(format!("http://{}/v1/playback", self.service));
        let asked = asked.header("authorization", format!("Bearer {token}"));
        let mut answer = asked.header("content-type", "application/json").send(wish.to_string()).unwrap();
        let sold: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{sold}");
        let cookies = answer.headers().get_all("set-cookie").iter();
        (sold, cookies.map(|cookie| cookie.to_str().unwrap().to_owned()).collect())
    }

    /// What the gate answers to a URL that was sold.
    fn gets(&self, url: &Value, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
        let target = url.as_str().unwrap().strip_prefix(self.worker.url()).expect("it is the gate's");
        self.worker.ask(Method::GET, target, headers)
    }

    fn opens(&self, url: &Value, headers: &[(&str, &str)]) -> bool {
        match self.gets(url, headers).status() {
            StatusCode::OK => true,
            StatusCode::FORBIDDEN => false,
            other => panic!("{url}: {other}"),
        }
    }
}

/// A sold URL for another path of the gate.
fn instead(url: &Value, of: &str, path: &str) -> Value {
    let text = url.as_str().unwrap();
    assert!(text.contains(of), "{text}");
    text.replacen(of, path, 1).into()
}

/// A viewer's token for some assets, of openssl's making.
fn viewer(assets: &str) -> String {
    let script = r#"
        encoded() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
        message="$(printf '{"alg":"HS256"}' | encoded).$(printf %s "$1" | encoded)"
        printf '%s.%s' "$message" "$(printf %s "$message" | openssl dgst -sha256 -hmac "$2" -binary | encoded)"
    "#;
    let claims = json!({
        "iss": "https://school.example", "aud": "reelgate", "sub": "ada", "exp": now() + 300, "assets": [assets],
    });
    let claims = claims.to_string();
    let made = Command::new("sh").args(["-c", script, "sh", &claims, SECRET]).stderr(Stdio::null()).output();
    String::from_utf8(made.unwrap().stdout).unwrap()
}

#[test]
fn a_url_opens_its_asset_with_its_pictures_and_nothing_beside_it() {
    for token in [TOKEN.to_owned(), viewer("talk")] {
        let (sold, _) = HOUSE.sells(&token, &json!({"asset": "talk"}));
        let url = &sold["url"];
        let playlist = HOUSE.gets(url, &[]);
        assert!(playlist.status() == 200 && playlist.body().starts_with(b"#EXTM3U"));
        assert!(HOUSE.gets(&sold["poster"], &[]).body().starts_with(b"\xff\xd8\xff"));
        assert!(HOUSE.gets(&sold["storyboard"], &[]).body().starts_with(b"WEBVTT"));
        assert!((4.0..4.2).contains(&sold["duration"].as_f64().unwrap()), "{sold}");

        assert!(!HOUSE.opens(&instead(url, "/talk/", "/talk-2/"), &[]));
        assert!(!HOUSE.opens(&instead(url, "/talk/index.m3u8", "/talk"), &[]));
        assert!(!HOUSE.opens(&instead(url, "/assets/talk/", "/assets/"), &[]));
        let bare = url.as_str().unwrap().split('?').next().unwrap().into();
        assert!(!HOUSE.opens(&bare, &[]));
        for out in [
            "/talk/../talk-2/",
            "/talk/%2e%2e/talk-2/",
            "/talk/..%2ftalk-2/",
            "/talk/..\\talk-2/",
            "/talk//../talk-2/",
            "/talk-%32/",
            "/talk./",
            "/Talk/",
            "/talk%2f",
            "/talk%00/",
        ] {
            let answer = HOUSE.gets(&instead(url, "/talk/", out), &[]);
            assert!(answer.status().is_client_error(), "{out}: {}", answer.status());
        }
    }
}

/// A player that is not ours, and that knows nothing but the URL.
#[test]
fn a_player_plays_it_to_the_end() {
    let (sold, _) = HOUSE.sells(TOKEN, &json!({"asset": "talk"}));
    let mut ffprobe = tool("ffprobe");
    ffprobe.args(["-v", "error", "-count_packets", "-select_streams", "v:0", "-of", "csv=p=0"]);
    let counted =
        ffprobe.args(["-show_entries", "stream=nb_read_packets"]).arg(sold["url"].as_str().unwrap());
    // Four seconds of 25 pictures.
    assert!(tests::run(counted).lines().any(|line| line.trim() == "100"));
}

#[test]
fn cookies_open_their_asset_and_nothing_beside_it() {
    let wish = json!({"asset": "talk", "cookies": true});
    let (sold, none) = HOUSE.sells(TOKEN, &wish);
    assert!(none.is_empty());
    let platforms = sold["cookies"].as_array().unwrap().iter();
    let platforms: Vec<_> = platforms.map(|cookie| cookie.as_str().unwrap().to_owned()).collect();
    let (sold, viewers) = HOUSE.sells(&viewer("t*k"), &wish);
    for cookies in [platforms, viewers] {
        let pairs = cookies.iter().map(|cookie| {
            let (pair, attributes) = cookie.split_once(';').unwrap();
            // Over http there is no Secure, and an address has no domain.
            assert_eq!(attributes, " Path=/assets/talk/; HttpOnly; SameSite=Lax");
            pair
        });
        let cookie = pairs.collect::<Vec<_>>().join("; ");
        let headers = [("cookie", cookie.as_str())];
        for name in ["url", "poster", "storyboard"] {
            assert!(HOUSE.opens(&sold[name], &headers), "{name}");
            assert!(!HOUSE.opens(&sold[name], &[]), "{name}");
        }
        assert!(!HOUSE.opens(&instead(&sold["url"], "/talk/", "/talk-2/"), &headers));
    }
}

#[test]
fn what_is_sold_holds_from_its_start_to_its_end_and_for_its_address() {
    let starts = Timestamp::from_second(i64::try_from(now()).unwrap() + 3_600).unwrap();
    let wish = json!({"asset": "talk", "starts": starts.to_string(), "lifetime": 60});
    let (later, _) = HOUSE.sells(TOKEN, &wish);
    assert!(!HOUSE.opens(&later["url"], &[]));

    let (bound, _) = HOUSE.sells(TOKEN, &json!({"asset": "talk", "ip": "192.0.2.0/24"}));
    for (address, opens) in [("192.0.2.7", true), ("192.0.3.7", false), ("2001:db8::1", false)] {
        assert_eq!(HOUSE.opens(&bound["url"], &[("CF-Connecting-IP", address)]), opens, "{address}");
    }

    let (short, _) = HOUSE.sells(&viewer("*"), &json!({"asset": "talk", "lifetime": 3}));
    assert!(HOUSE.opens(&short["url"], &[]));
    sleep(Duration::from_secs(4));
    assert!(!HOUSE.opens(&short["url"], &[]));
    assert!(!HOUSE.opens(&short["poster"], &[]));
}
