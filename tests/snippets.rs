//! What the README has for backends and pages is run as it stands there, against a real service and the built Worker.
//!
//! Backends are programs, and ask what they are told by the environment. Pages are opened in Chromium
//! (`tools/snippets.mjs`), with one change: the service's name in them is that of this one.

#![allow(missing_docs)]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use http::Method;
use serde_json::{Value, json};
use tests::{API_TOKEN, Gate, Service, Worker, film, node, publish, requests, run, tool, trusting};

const README: &str = include_str!("../README.md");
const BACKENDS: &str = "From your backend";

const SECRET: &str = "a secret of the tests, which viewers' tokens are signed with";
const ISSUER: &str = "https://www.example.com";
const AUDIENCE: &str = "reelgate";

/// Browsers take `localhost` for a top-level domain: this is a site, with hosts on it.
const SITE: &str = "site.localhost";

/// The only code block of a language below a heading.
fn block(heading: &str, language: &str) -> &'static str {
    let below = README.split_once(&format!("\n#### {heading}\n")).map(|(_, below)| below);
    let below = below.unwrap_or_else(|| panic!("the README has no heading {heading:?}"));
    let mut blocks = Vec::new();
    let mut rest = below;
    while let Some((text, fenced)) = rest.split_once("```") {
        if text.contains("\n#") {
            break;
        }
        let (code, after) = fenced.split_once("```").expect("a code block ends");
        blocks.extend(code.strip_prefix(language).and_then(|code| code.strip_prefix('\n')));
        rest = after;
    }
    assert_eq!(blocks.len(), 1, "the README has so many blocks in {language} below {heading:?}");
    blocks[0]
}

/// A folder with an asset called `talk`, made once.
static MEDIA: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap().keep();
    let clip = folder.join("talk.mp4");
    film(8.0, "320x180", &clip);
    assert_eq!(publish(clip, "talk", &folder.join("media")), "assets/talk/index.m3u8");
    folder.join("media")
});

/// A service before an edge, and pages: each on a host of its own, on one site.
struct Platform {
    service: Service,
    pages: u16,
    edge: Worker,
}

impl Platform {
    fn open() -> Self {
        let pages = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut settings = trusting();
        settings["CORS_ORIGINS"] = host("www", pages).into();
        let edge = Worker::with(&MEDIA, &settings);
        let service = Service::before(&host("video", port_of(edge.url())), &MEDIA, |serve| {
            serve.args(["--viewer-issuer", ISSUER, "--viewer-audience", AUDIENCE]);
            serve.args(["--playback-origins", &host("www", pages), "--cookie-domain", SITE]);
            serve.env("REELGATE_VIEWER_SECRET", SECRET);
        });
        Self { service, pages, edge }
    }

    /// What a backend says that knows this token.
    fn ask(&self, backend: &mut Command, token: &str) -> Output {
        let backend = backend.env("REELGATE_API", &self.service.url).env("REELGATE_API_TOKEN", token);
        backend.stdin(Stdio::null()).output().unwrap()
    }

    /// The status at the edge, of a URL of it.
    fn status(&self, url: &str) -> u16 {
        let edge = host("video", port_of(self.edge.url()));
        let target = url.strip_prefix(&edge).unwrap_or_else(|| panic!("that is not at {edge}"));
        let host = edge.strip_prefix("http://").unwrap();
        self.edge.ask(Method::GET, target, &[("host", host)]).status().as_u16()
    }
}

fn port_of(url: &str) -> u16 {
    url.rsplit_once(':').unwrap().1.parse().unwrap()
}

fn host(name: &str, port: u16) -> String {
    format!("http://{name}.{SITE}:{port}")
}

#[test]
fn a_backend_gets_a_url_that_opens_at_the_edge_or_says_what_is_wrong() {
    let written = tempfile::tempdir().unwrap();
    let write = |name: &str, language| {
        let file = written.path().join(name);
        fs::write(&file, block(BACKENDS, language)).unwrap();
        file
    };
    // Compiled by cargo, which has no other way to a program that depends on something.
    assert_eq!(block(BACKENDS, "rust"), include_str!("snippets/playback.rs"), "tests/snippets/playback.rs");
    let program = |name: &str, file: PathBuf| {
        let mut command = tool(name);
        command.arg(file);
        command
    };
    let platform = Platform::open();
    for mut backend in [
        program("node", write("playback.mjs", "js")),
        program("python", write("playback.py", "python")),
        Command::new(env!("CARGO_BIN_EXE_snippet")),
    ] {
        let told = platform.ask(&mut backend, API_TOKEN);
        let errors = String::from_utf8_lossy(&told.stderr);
        assert!(told.status.success() && errors.is_empty(), "{backend:?}: {errors}");
        let told = String::from_utf8(told.stdout).unwrap();
        let url = told.trim_end();
        assert_eq!(platform.status(url), 200, "{backend:?}: {url}");
        assert_eq!(platform.status(url.split_once('?').unwrap().0), 403, "{backend:?}");

        let told = platform.ask(&mut backend, "another token");
        let errors = String::from_utf8_lossy(&told.stderr);
        assert!(!told.status.success() && told.stdout.is_empty(), "{backend:?}");
        assert!(errors.contains("playback of talk: 401") && errors.contains("/problems/"), "{errors}");
        assert!(!errors.contains("another token"), "{errors}");
    }
}

#[test]
fn pages_play_with_hls_js_and_natively_by_url_and_by_cookies_or_say_what_is_wrong() {
    let written = tempfile::tempdir().unwrap();
    let backend = written.path().join("playback.mjs");
    fs::write(&backend, block(BACKENDS, "js")).unwrap();
    let platform = Platform::open();
    let service = host("api", port_of(&platform.service.url));
    let page = |heading| {
        let page = block(heading, "html").replace("https://api.example.com", &service);
        assert!(!page.contains("example.com"), "{heading}");
        page
    };
    let settings = json!({
        "pages": { "hls": page("On a page"), "cookies": page("On a page, with cookies") },
        "backend": backend,
        "site": host("www", platform.pages),
        "edge": host("video", port_of(platform.edge.url())),
        "viewers": { "secret": SECRET, "issuer": ISSUER, "audience": AUDIENCE },
    });
    let mut viewers = node("snippets.mjs");
    viewers
        .arg(settings.to_string())
        .env("REELGATE_API", &platform.service.url)
        .env("REELGATE_API_TOKEN", API_TOKEN);
    // The backend prints what it gets; what was seen comes last.
    let told = run(&mut viewers);
    let seen: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();

    for (story, source, is_signed) in [
        ("hls.js plays", "blob", true),
        ("native plays", "http", true),
        ("hls.js plays by cookies", "blob", false),
        ("native plays by cookies", "http", false),
    ] {
        let seen = &seen[story];
        assert!(played(seen) && seen["source"] == source, "{story}: {seen:#}");
        assert!(!requests(seen).is_empty(), "{story}");
        for request in requests(seen) {
            let is_answered = [200, 206].iter().any(|status| request["status"] == *status);
            assert!(is_answered && request["signed"] == is_signed, "{story}: {request}");
        }
    }
    let cookies = &seen["hls.js plays by cookies"]["cookies"];
    for name in ["CloudFront-Policy", "CloudFront-Signature", "CloudFront-Key-Pair-Id"] {
        let expected = json!({
            "name": name, "domain": format!(".{SITE}"), "path": "/assets/talk/",
            "httpOnly": true, "secure": false, "sameSite": "Lax",
        });
        assert!(cookies.as_array().unwrap().contains(&expected), "{cookies:#}");
    }

    let renewed = &seen["hls.js goes on with another URL"];
    assert!(played(renewed) && renewed["asked"] == json!([200, 200]), "{renewed:#}");
    assert!(requests(renewed).iter().any(|request| request["status"] == 403), "{renewed:#}");

    for (story, words, asked) in [
        ("hls.js is refused", "This cannot be played (manifestLoadError).", json!([200, 200])),
        ("hls.js has no URL", "You cannot watch this (402).", json!([402])),
        ("hls.js has lost its cookies", "This cannot be played (manifestLoadError).", json!([])),
        ("native is refused", "This cannot be played, or no longer: load the page again.", json!([200])),
        (
            "native has lost its cookies",
            "This cannot be played, or no longer: load the page again.",
            json!([]),
        ),
        ("no token", "You cannot watch this (402).", json!([])),
        ("nobody answers", "This cannot be played now: load the page again.", json!([])),
        (
            "nobody's token",
            "the viewer's token is not taken: it is no signed JWT that can be read",
            json!([]),
        ),
    ] {
        let seen = &seen[story];
        assert!(
            seen["says"] == words && seen["asked"] == asked && seen["ended"] == false,
            "{story}: {seen:#}"
        );
    }
}

/// Whether a page has played to the end, and complained of nothing.
fn played(seen: &Value) -> bool {
    seen["ended"] == true && seen["says"] == "" && seen["errors"] == json!([])
}
