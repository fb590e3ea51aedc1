//! The studio's pages and their files, as a browser gets them.

mod harness;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use harness::api::Api;
use reqwest::Response;
use serde_json::Value;
use transcoder::http::Token;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("studio")
}

/// Names of all files from the folder on, by another hand than that which put them into the program.
fn names() -> Vec<String> {
    let listed = std::process::Command::new("find").args([".", "-type", "f"]).current_dir(folder()).output();
    let listed = String::from_utf8(listed.expect("the tests need find").stdout).unwrap();
    let names = listed.lines().map(|line| line.strip_prefix("./").unwrap().to_owned());
    names.filter(|name| !name.starts_with('.') && !name.ends_with('~')).collect()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

async fn get(api: &Api, path: &str, headers: &[(&str, &str)]) -> Response {
    let ask = |request: reqwest::RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
    headers.iter().fold(api.ask("GET", path), ask).send().await.unwrap()
}

#[tokio::test]
async fn every_file_of_the_folder_is_there_without_a_token_and_byte_for_byte() {
    let api = Api::with(|settings| settings.api_token = Some(Token::of("sesame"))).await;
    let names = names();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let path = match name.as_str() {
            "index.html" => "/".to_owned(),
            "watch.html" => "/watch".to_owned(),
            _ => format!("/studio/{name}"),
        };
        let response = get(&api, &path, &[]).await;
        assert_eq!(response.status(), 200, "{path}");
        // What the types of the WHATWG and RFC 9239 are.
        let kind = match name.rsplit(['.', '/']).next().unwrap() {
            "html" => "text/html; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "js" | "mjs" => "text/javascript; charset=utf-8",
            "svg" => "image/svg+xml",
            "json" => "application/json",
            _ => "text/plain; charset=utf-8",
        };
        assert_eq!(header(&response, "content-type"), kind, "{path}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        assert_eq!(header(&response, "referrer-policy"), "no-referrer");
        assert_eq!(header(&response, "cross-origin-opener-policy"), "same-origin");
        assert_eq!(header(&response, "cache-control"), "no-cache");
        let policy = header(&response, "content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(response.bytes().await.unwrap(), fs::read(folder().join(&name)).unwrap(), "{path}");
    }
    api.stop().await;
}

#[tokio::test]
async fn there_is_one_address_for_each_file_and_none_for_anything_else() {
    let api = Api::start().await;
    for path in [
        "/index.html",
        "/watch.html",
        "/watch/",
        "/studio",
        "/studio/",
        "/studio/index.html",
        "/studio/watch.html",
        "/studio/vendor",
        "/studio/vendor/",
        "/studio/vendor/..%2ficon.svg",
        "/studio/..%2f..%2fCargo.toml",
        "/studio/icon.svg/",
        "/studio/ICON.SVG",
    ] {
        assert_eq!(get(&api, path, &[]).await.status(), 404, "{path}");
    }
    assert_eq!(api.ask("POST", "/watch").send().await.unwrap().status(), 405);
    let (_, document) = api.get("/openapi.json").await;
    assert!(document["paths"].as_object().unwrap().keys().all(|path| path.len() > 1 && path != "/watch"));
    api.stop().await;
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again_and_what_is_large_is_packed() {
    let api = Api::start().await;
    let path = "/studio/vendor/hls.min.mjs";
    let plain = fs::read(folder().join("vendor/hls.min.mjs")).unwrap();
    let packed = get(&api, path, &[("accept-encoding", "gzip, deflate, br, zstd")]).await;
    assert_eq!(header(&packed, "content-encoding"), "gzip");
    assert_eq!(header(&packed, "vary"), "Accept-Encoding");
    let etag = header(&packed, "etag").to_owned();
    let bytes = packed.bytes().await.unwrap();
    assert!(bytes.len() < plain.len() / 2, "{} of {}", bytes.len(), plain.len());
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes.as_ref()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);

    let other = get(&api, path, &[("accept-encoding", "gzip;q=0")]).await;
    assert_eq!(header(&other, "content-encoding"), "");
    assert_ne!(header(&other, "etag"), etag);
    let weak = format!("\"x\", W/{etag}");
    for known in [etag.as_str(), weak.as_str(), "*"] {
        let again = get(&api, path, &[("accept-encoding", "gzip"), ("if-none-match", known)]).await;
        assert_eq!(again.status(), 304, "{known}");
        assert_eq!(header(&again, "etag"), etag);
        assert!(again.bytes().await.unwrap().is_empty());
    }
    let plain_again = get(&api, path, &[("if-none-match", &etag)]).await;
    assert_eq!(plain_again.status(), 200, "it has another encoding");

    let head = api.ask("HEAD", path).send().await.unwrap();
    assert_eq!((head.status().as_u16(), header(&head, "content-length")), (200, &*plain.len().to_string()));
    api.stop().await;
}

#[tokio::test]
async fn the_pages_may_reach_the_edge_that_the_service_was_told_of() {
    let api = Api::with(|settings| settings.edge = Some("https://video.example/".parse().unwrap())).await;
    let page = get(&api, "/", &[]).await;
    let policy = header(&page, "content-security-policy");
    for part in [
        "img-src 'self' blob: https://video.example;",
        "connect-src 'self' https://video.example;",
        "media-src blob: data: https://video.example;",
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{policy}");
    }
    let (_, about) = api.get("/v1/studio").await;
    assert_eq!(about["edge"], "https://video.example/");
    assert_eq!((&about["signs"], &about["max_upload"]), (&false.into(), &(1 << 20).into()));
    api.stop().await;
}

#[tokio::test]
async fn anybody_is_told_whether_they_may_use_the_api() {
    let api = Api::with(|settings| settings.api_token = Some(Token::of("open sesame"))).await;
    let admitted = async |token: &str| {
        let sent = [("authorization", &*format!("Bearer {token}"))];
        let about: Value =
            serde_json::from_str(&get(&api, "/v1/studio", &sent).await.text().await.unwrap()).unwrap();
        about["admitted"].clone()
    };
    assert_eq!(api.get("/v1/studio").await.1["admitted"], false);
    assert_eq!(admitted("open sesam").await, false);
    assert_eq!(admitted("open sesame").await, true);
    api.stop().await;

    let api = Api::start().await;
    assert_eq!(api.get("/v1/studio").await.1["admitted"], true);
    api.stop().await;
}
