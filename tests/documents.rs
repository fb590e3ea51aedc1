//! Documents that link to others: how authority goes on in them, and what they travel as.

#![allow(missing_docs)]

use std::fmt::Write;
use std::io::Read;
use std::sync::LazyLock;

use http::{Method, Response, StatusCode};
use serde_json::json;
use tests::{Gate, Native, Worker, gates, header, trusting};

const PLAYLIST: &str = "#EXTM3U\n#EXTINF:6.0,\n00001.m4s\n#EXTINF:6.0,\n00002.m4s\n#EXT-X-ENDLIST\n";

const STORYBOARD: &str = "WEBVTT\n\n00:00.000 --> 00:05.000\nstoryboard-1.jpg^#xywh=0,0,160,90\n";
const CAPTIONS: &str = "WEBVTT\n\n00:00.000 --> 00:05.000\nLook at this!\n\n00:05.000 --> 00:09.000\n1.jpg\n";
const ASSETS: &str = r#"{ "ASSETS": [ { "URI": "ads/1.m3u8^", "DURATION": 15.0 },
    { "URI": "https:\/\/elsewhere.example\/2.m3u8", "DURATION": 5 } ] }"#;
const STEERING: &str = r#"{"VERSION":1,"TTL":300,"RELOAD-URI":"steering.json^","PATHWAY-PRIORITY":["A","B"],
    "PATHWAY-CLONES":[{"BASE-ID":"A","ID":"B","URI-REPLACEMENT":{"PER-VARIANT-URIS":{"v1":"b/v1.m3u8^"}}}]}"#;
const CHAPTERS: &str = r#"[{"chapter":1,"start-time":0,"images":[{"image-category":"x","url":"1.jpg^"}]}]"#;
const OTHER: &str = r#"{"state":"ready","playlist":"index.m3u8"}"#;

/// A hundred thousand segments: a week of them.
const LONG: usize = 100_000;

fn long_playlist(query: &str) -> String {
    let mut text = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n".to_owned();
    for number in 0..LONG {
        writeln!(text, "#EXTINF:6.000,\nsegment-{number:06}.m4s{query}").unwrap();
    }
    text + "#EXT-X-ENDLIST\n"
}

static GATES: LazyLock<[Box<dyn Gate>; 2]> = LazyLock::new(|| {
    let bare = |text: &str| text.replace('^', "").into_bytes();
    let objects = [
        ("index.m3u8", PLAYLIST.into()),
        ("long.m3u8", long_playlist("").into()),
        ("no.m3u8", b"<html>\n00001.m4s\n".to_vec()),
        ("empty.m3u8", Vec::new()),
        ("blank.m3u8", b" \r\n\n".to_vec()),
        ("large.m3u8", vec![b'\0'; 3 << 20]),
        ("line.m3u8", format!("#EXTM3U\n{}\n", "a".repeat(70_000)).into()),
        (
            "late-line.m3u8",
            format!("#EXTM3U\n{}{}\n", "0001.ts\n".repeat(200_000), "a".repeat(70_000)).into(),
        ),
        ("storyboard.vtt", bare(STORYBOARD)),
        ("captions.vtt", bare(CAPTIONS)),
        ("assets.json", bare(ASSETS)),
        ("steering.json", bare(STEERING)),
        ("chapters.json", bare(CHAPTERS)),
        ("asset.json", bare(OTHER)),
    ];
    let objects: Vec<_> = objects.iter().map(|(name, bytes)| (format!("a/{name}"), bytes)).collect();
    let objects: Vec<_> = objects.iter().map(|(key, bytes)| (&**key, &***bytes)).collect();
    gates(&objects)
});

fn ask(gate: &dyn Gate, name: &str, query: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
    gate.ask(Method::GET, &format!("/a/{name}?{query}"), headers)
}

const GZIP: [(&str, &str); 1] = [("Accept-Encoding", "gzip")];

/// By flate2, which checks the sum and the length.
fn unpacked(gzipped: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::bufread::GzDecoder::new(gzipped).read_to_end(&mut plain).unwrap();
    plain
}

#[test]
fn a_playlist_travels_in_gzip_to_who_wants_it() {
    for gate in GATES.iter() {
        let query = gate.open("/a/*");
        let expected = PLAYLIST.replace(".m4s", &format!(".m4s?{query}"));
        let plain = ask(&**gate, "index.m3u8", &query, &[]);
        assert_eq!(String::from_utf8_lossy(plain.body()), expected);
        assert_eq!((header(&plain, "content-encoding"), header(&plain, "vary")), ("", "Accept-Encoding"));
        for accepts in ["gzip", "gzip, deflate, br, zstd", "gzip, identity;q=1, *;q=0"] {
            let packed = ask(&**gate, "index.m3u8", &query, &[("Accept-Encoding", accepts)]);
            assert_eq!(header(&packed, "content-encoding"), "gzip", "{accepts}");
            assert_eq!(header(&packed, "vary"), "Accept-Encoding");
            assert_eq!(header(&packed, "content-type"), "application/vnd.apple.mpegurl");
            assert_eq!(String::from_utf8_lossy(&unpacked(packed.body())), expected, "{accepts}");
        }
        for accepts in ["identity", "gzip;q=0"] {
            let plain = ask(&**gate, "index.m3u8", &query, &[("Accept-Encoding", accepts)]);
            assert_eq!(header(&plain, "content-encoding"), "", "{accepts}");
            assert_eq!(String::from_utf8_lossy(plain.body()), expected, "{accepts}");
        }
    }
}

#[test]
fn head_says_of_a_document_what_get_would() {
    for gate in GATES.iter() {
        let query = gate.open("/a/*");
        for name in ["index.m3u8", "long.m3u8", "storyboard.vtt", "assets.json"] {
            for accepts in [&GZIP[..], &[]] {
                let [head, get] = [Method::HEAD, Method::GET]
                    .map(|method| gate.ask(method, &format!("/a/{name}?{query}"), accepts));
                assert_eq!((head.status(), head.body().len()), (get.status(), 0), "{name}");
                for field in
                    ["content-type", "content-encoding", "content-length", "vary", "cache-control", "etag"]
                {
                    assert_eq!(header(&head, field), header(&get, field), "{name} {field}");
                }
            }
        }
    }
}

#[test]
fn a_playlist_may_be_of_any_length() {
    for gate in GATES.iter() {
        let query = gate.open("/a/*");
        let expected = long_playlist(&format!("?{query}"));
        let plain = ask(&**gate, "long.m3u8", &query, &[]);
        assert_eq!(plain.status(), StatusCode::OK);
        assert!(plain.body() == expected.as_bytes());
        let packed = ask(&**gate, "long.m3u8", &query, &GZIP);
        assert!(unpacked(packed.body()) == expected.as_bytes());
        assert!(packed.body().len() < 13 * LONG, "{}", packed.body().len());
    }
}

#[test]
fn a_line_has_a_longest() {
    for gate in GATES.iter() {
        let query = gate.open("/a/*");
        let response = ask(&**gate, "line.m3u8", &query, &[]);
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
        let log = gate.log(&response, "a line of more than");
        assert!(log.contains("the playlist has a line of more than 65536 bytes"), "{log}");
    }
}

/// By then there is an answer already, so that it can only be broken off.
#[test]
fn an_answer_with_too_long_a_line_far_in_is_broken_off() {
    let [_, worker] = &*GATES;
    let target = format!("{}/a/late-line.m3u8?{}", worker.url(), worker.open("/a/*"));
    let mut curl = std::process::Command::new("curl");
    let output =
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", &target]).output();
    let output = output.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "200");
    assert!(!output.status.success(), "it looks whole");
    let response = ask(&**worker, "index.m3u8", "", &[]);
    assert!(worker.log(&response, "broken off").contains("broken off: the playlist has a line of more than"));
}

#[test]
fn what_is_no_playlist_is_not_touched_and_the_log_says_so() {
    for gate in GATES.iter() {
        let query = gate.open("/a/*");
        let response = ask(&**gate, "no.m3u8", &query, &[]);
        assert_eq!(response.body(), b"<html>\n00001.m4s\n");
        assert!(gate.log(&response, "EXTM3U").contains("it does not begin #EXTM3U, and goes out as it is"));
        for (name, text) in [("empty.m3u8", &b""[..]), ("blank.m3u8", b" \r\n\n")] {
            let response = ask(&**gate, name, &query, &[]);
            assert_eq!((response.status(), &response.body()[..]), (StatusCode::OK, text), "{name}");
            let said = format!(r#""path":"/a/{name}""#);
            let log = gate.log(&response, &said);
            let line = log.lines().find(|line| line.contains(&said)).unwrap_or_else(|| panic!("{log}"));
            assert!(line.contains("it does not begin #EXTM3U"), "{name}: {log}");
            let packed = ask(&**gate, name, &query, &GZIP);
            assert_eq!(unpacked(packed.body()), text, "{name}");
        }
        let response = ask(&**gate, "large.m3u8", &query, &[]);
        assert!(response.body().len() == 3 << 20 && response.body().iter().all(|&byte| byte == 0));
    }
}

#[test]
fn storyboards_and_json_beside_playlists_carry_authority_on() {
    for gate in GATES.iter() {
        let query = gate.open("/a/*");
        for (name, text, media_type) in [
            ("storyboard.vtt", STORYBOARD, "text/vtt"),
            ("captions.vtt", CAPTIONS, "text/vtt"),
            ("assets.json", ASSETS, "application/json"),
            ("steering.json", STEERING, "application/json"),
            ("chapters.json", CHAPTERS, "application/json"),
            ("asset.json", OTHER, "application/json"),
        ] {
            let expected = text.replace('^', &format!("?{query}"));
            let response = ask(&**gate, name, &query, &[("Range", "bytes=0-")]);
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(String::from_utf8_lossy(response.body()), expected, "{name}");
            assert_eq!(header(&response, "content-type"), media_type);
            assert_eq!(header(&response, "content-length"), expected.len().to_string());
            let packed = ask(&**gate, name, &query, &GZIP);
            assert_eq!(String::from_utf8_lossy(&unpacked(packed.body())), expected, "{name}");
        }
    }
}

/// In it are signed URLs with which a player asks for the rest of a live stream.
#[test]
fn what_players_ask_of_a_live_stream_breaks_no_signature_of_a_folder() {
    for gate in GATES.iter() {
        let query = gate.open("/a/*");
        for directives in
            ["_HLS_msn=3&_HLS_part=2", "_HLS_skip=YES", "_HLS_pathway=%22A%22&_HLS_throughput=5"]
        {
            for query in [format!("{query}&{directives}"), format!("{directives}&{query}")] {
                let response = ask(&**gate, "index.m3u8", &query, &[]);
                assert_eq!(response.status(), StatusCode::OK, "{directives}");
                assert!(!String::from_utf8_lossy(response.body()).contains("_HLS_"));
            }
        }
    }
}

/// With cookies, or for what is public, a document is an object like any other.
#[test]
fn a_document_that_hands_nothing_on_is_what_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.m3u8"), PLAYLIST).unwrap();
    let mut settings = trusting();
    settings["PUBLIC_PATHS"] = json!("/*");
    for gate in [
        Box::new(Native::with(folder.path(), &settings)) as Box<dyn Gate>,
        Box::new(Worker::with(folder.path(), &settings)),
    ] {
        let whole = gate.get("/index.m3u8");
        assert_eq!(whole.body(), PLAYLIST.as_bytes());
        let part = gate.ask(Method::GET, "/index.m3u8", &[("Range", "bytes=0-6")]);
        assert_eq!((part.status(), &part.body()[..]), (StatusCode::PARTIAL_CONTENT, &b"#EXTM3U"[..]));
    }
}
