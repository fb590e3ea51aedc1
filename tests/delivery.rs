//! What is served, and how.

#![allow(missing_docs)]

use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use http::{Method, Response, StatusCode};
use serde_json::json;
use tests::{Gate, Worker, gates, header, trusting};

const PLAYLIST: &str = "#EXTM3U\r\n\
    #EXT-X-VERSION:7\r\n\
    # a comment\r\n\
    #EXT-X-MAP:URI=\"init.mp4\"\r\n\
    #EXTINF:6.0,\r\n\
    00001.m4s\r\n\
    #EXTINF:6.0,\r\n\
    https://cdn.example/00002.m4s\r\n\
    #EXT-X-ENDLIST";

/// Of what is called a segment, unless its store says otherwise.
const IMMUTABLE: &str = "private, max-age=31536000, immutable";

static GATES: LazyLock<[Box<dyn Gate>; 2]> = LazyLock::new(|| {
    gates(&[
        ("assets/a/index.m3u8", PLAYLIST.as_bytes()),
        ("assets/a/00001.m4s", b"0123456789"),
        ("assets/a/empty.m4s", b""),
        ("assets/a/notes.xyz", b"notes"),
        ("assets/a/long.m4s", &[7; 300_000]),
    ])
});

fn ask(gate: &dyn Gate, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Vec<u8>> {
    gate.ask(method, &format!("{path}?{}", gate.open("/assets/a/*")), headers)
}

#[test]
fn a_playlists_own_links_carry_the_query_on_and_nothing_else_changes() {
    for gate in GATES.iter() {
        let query = gate.open("/assets/a/*");
        let response = gate.get(&format!("/assets/a/index.m3u8?{query}"));
        let text = std::str::from_utf8(response.body()).unwrap();
        let expected = PLAYLIST
            .replace("init.mp4", &format!("init.mp4?{query}"))
            .replace("\n00001.m4s", &format!("\n00001.m4s?{query}"));
        assert_eq!(text, expected);
        assert_eq!(header(&response, "content-type"), "application/vnd.apple.mpegurl");
        assert_eq!(header(&response, "cache-control"), "private, no-cache");
        let link = text.lines().find(|line| line.starts_with("00001")).unwrap();
        assert_eq!(gate.get(&format!("/assets/a/{link}")).body(), b"0123456789");
    }
}

#[test]
fn a_playlist_is_answered_whole_whatever_range_is_asked_for() {
    for gate in GATES.iter() {
        for range in ["bytes=0-", "bytes=0-5", "bytes=-5", "bytes=100000-"] {
            let response = ask(&**gate, Method::GET, "/assets/a/index.m3u8", &[("Range", range)]);
            assert_eq!(response.status(), StatusCode::OK, "{range}");
            assert!(response.body().ends_with(b"#EXT-X-ENDLIST"));
            assert_eq!(header(&response, "content-range"), "");
        }
    }
}

#[test]
fn a_range_is_served_as_it_was_asked_for() {
    for gate in GATES.iter() {
        for (range, status, content_range, body) in [
            ("bytes=0-3", 206, "bytes 0-3/10", "0123"),
            ("bytes=4-", 206, "bytes 4-9/10", "456789"),
            ("bytes=-3", 206, "bytes 7-9/10", "789"),
            ("bytes=-99", 206, "bytes 0-9/10", "0123456789"),
            ("bytes=8-99999999999999999999", 206, "bytes 8-9/10", "89"),
            ("bytes=0-1,4-5", 200, "", "0123456789"),
            ("bytes=5-4", 200, "", "0123456789"),
            ("items=0-1", 200, "", "0123456789"),
            ("bytes=10-", 416, "bytes */10", "Range Not Satisfiable"),
            ("bytes=99999999999999999999-", 416, "bytes */10", "Range Not Satisfiable"),
            ("bytes=-0", 416, "bytes */10", "Range Not Satisfiable"),
        ] {
            let response = ask(&**gate, Method::GET, "/assets/a/00001.m4s", &[("Range", range)]);
            assert_eq!(response.status().as_u16(), status, "{range}");
            assert_eq!(header(&response, "content-range"), content_range, "{range}");
            assert_eq!(String::from_utf8_lossy(response.body()), body, "{range}");
            assert_eq!(header(&response, "content-length"), body.len().to_string(), "{range}");
        }
        let headers = [("Range", "bytes=0-3"), ("If-Range", "\"of another version\"")];
        assert_eq!(ask(&**gate, Method::GET, "/assets/a/00001.m4s", &headers).body(), b"0123456789");
        let empty = ask(&**gate, Method::GET, "/assets/a/empty.m4s", &[("Range", "bytes=0-")]);
        assert_eq!(empty.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    }
}

#[test]
fn an_object_says_what_it_is() {
    for gate in GATES.iter() {
        for (path, media_type, length, kept) in [
            ("/assets/a/00001.m4s", "video/iso.segment", "10", IMMUTABLE),
            ("/assets/a/long.m4s", "video/iso.segment", "300000", IMMUTABLE),
            ("/assets/a/empty.m4s", "video/iso.segment", "0", IMMUTABLE),
            ("/assets/a/notes.xyz", "application/octet-stream", "5", "private"),
        ] {
            let response = ask(&**gate, Method::GET, path, &[]);
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_eq!(header(&response, "content-type"), media_type);
            assert_eq!(header(&response, "content-length"), length, "{path}");
            assert_eq!(header(&response, "accept-ranges"), "bytes");
            assert_eq!(header(&response, "cache-control"), kept);
            assert_eq!(response.body().len().to_string(), length);
        }
    }
}

#[test]
fn an_object_is_what_its_bucket_says_but_for_one_viewer() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["stated.m4s", "type.m4s", "cache.m4s", "index.m3u8"] {
        std::fs::write(folder.path().join(name), "0123456789").unwrap();
    }
    let stated = json!({
        "stated.m4s": { "contentType": "audio/mp4", "cacheControl": "public, max-age=31536000, immutable" },
        // Neither can be a header of the runtime's, and neither may leave as none at all.
        "type.m4s": { "contentType": "vidéo/mp4" },
        "cache.m4s": { "cacheControl": "max-age=60, é" },
        // Links cannot be found in what is encoded.
        "index.m3u8": { "contentEncoding": "gzip" },
    });
    std::fs::write(folder.path().join(".types.json"), stated.to_string()).unwrap();
    let gate = Worker::over(folder.path());
    let query = gate.open("/*");
    for method in [Method::GET, Method::HEAD] {
        let ask = |name| gate.ask(method.clone(), &format!("/{name}?{query}"), &[]);
        let response = ask("stated.m4s");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(header(&response, "content-type"), "audio/mp4");
        assert_eq!(header(&response, "cache-control"), "private, max-age=31536000, immutable");
        // The MD5 of its ten bytes, by md5sum.
        assert_eq!(header(&response, "etag"), "\"781e5e245d69b566979b86e28d23f2c7\"");
        assert_eq!(ask("type.m4s").status(), StatusCode::BAD_GATEWAY);
        assert_eq!(ask("cache.m4s").status(), StatusCode::BAD_GATEWAY);
        assert_eq!(ask("index.m3u8").status(), StatusCode::BAD_GATEWAY);
    }
}

#[test]
fn what_is_stored_encoded_is_not_encoded_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("captions.vtt"), "as stored").unwrap();
    let stated = json!({ "captions.vtt": { "contentEncoding": "gzip" } });
    std::fs::write(folder.path().join(".types.json"), stated.to_string()).unwrap();
    let gate = Worker::over(folder.path());
    let target = format!("/captions.vtt?{}", gate.open("/*"));
    let response = gate.ask(Method::GET, &target, &[("Accept-Encoding", "gzip")]);
    assert_eq!(
        (header(&response, "content-encoding"), header(&response, "content-type")),
        ("gzip", "text/vtt")
    );
    assert_eq!(response.body(), b"as stored");
}

#[test]
fn head_says_what_get_would() {
    for gate in GATES.iter() {
        for path in ["/assets/a/index.m3u8", "/assets/a/00001.m4s", "/assets/a/empty.m4s", "/assets/a/2.m4s"]
        {
            let (head, get) = (ask(&**gate, Method::HEAD, path, &[]), ask(&**gate, Method::GET, path, &[]));
            assert_eq!(head.status(), get.status(), "{path}");
            for name in ["content-type", "content-length", "cache-control", "accept-ranges", "etag"] {
                assert_eq!(header(&head, name), header(&get, name), "{path} {name}");
            }
        }
        let head = ask(&**gate, Method::HEAD, "/assets/a/00001.m4s", &[("Range", "bytes=0-0")]);
        assert_eq!((head.status(), header(&head, "content-length")), (StatusCode::OK, "10"));
    }
}

#[test]
fn a_page_elsewhere_may_read_every_answer() {
    for gate in GATES.iter() {
        let preflight = gate.ask(
            Method::OPTIONS,
            "/assets/a/index.m3u8",
            &[
                ("Origin", "https://school.example"),
                ("Access-Control-Request-Method", "GET"),
                ("Access-Control-Request-Headers", "range,x-player"),
            ],
        );
        assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
        assert_eq!(header(&preflight, "access-control-allow-origin"), "*");
        assert_eq!(header(&preflight, "access-control-allow-headers"), "range,x-player");
        assert_eq!(header(&preflight, "access-control-allow-methods"), "GET, HEAD, OPTIONS");
        for path in
            ["/assets/a/index.m3u8", "/assets/a/00001.m4s", "/assets/a/none", "/assets/b/none", "/a/%2e%2f"]
        {
            let response = ask(&**gate, Method::GET, path, &[("Origin", "https://school.example")]);
            assert_eq!(header(&response, "access-control-allow-origin"), "*", "{path}");
            assert!(header(&response, "access-control-expose-headers").contains("Content-Range"), "{path}");
        }
    }
}

#[test]
fn nothing_can_be_written() {
    for gate in GATES.iter() {
        for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE"] {
            let response = ask(&**gate, method.parse().unwrap(), "/assets/a/00001.m4s", &[]);
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(header(&response, "allow"), "GET, HEAD, OPTIONS");
        }
    }
}

#[test]
fn a_misconfigured_worker_serves_nothing_and_says_why_in_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let keyless = |settings| Worker::with(folder.path(), &settings);
    for (settings, problem) in [
        (json!({}), "TRUSTED_KEYS is not set; `transcoder keygen` prints a value for it"),
        (json!({ "TRUSTED_KEYS": "K1" }), "TRUSTED_KEYS is not a JSON object"),
        (json!({ "TRUSTED_KEYS": "{}" }), "TRUSTED_KEYS names no key"),
        (
            json!({ "TRUSTED_KEYS": r#"{"K1":"-----BEGIN"}"#, "TICKET_SECRET": "1" }),
            "TICKET_SECRET is too short to be a secret",
        ),
        (json!({ "TRUSTED_KEYS": r#"{"K1":"-----BEGIN"}"# }), ": no public key in PEM"),
    ] {
        let worker = keyless(settings);
        let response = worker.get("/assets/a/index.m3u8");
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.body(), b"Internal Server Error");
        assert!(worker.logs(problem), "{problem}");
    }
}

/// A panic in WebAssembly ends the program, and with it whatever was under way.
#[test]
fn after_a_trap_the_gate_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("assets/a")).unwrap();
    std::fs::write(folder.path().join("assets/a/1.m4s"), "segment").unwrap();
    let worker = Worker::recording(folder.path(), &trusting());
    for _ in 0..3 {
        let status = |path| ask(&worker, Method::GET, path, &[]).status();
        assert_eq!(status("/assets/a/1.m4s"), StatusCode::OK);
        assert_eq!(status("/assets/a/trap"), StatusCode::INTERNAL_SERVER_ERROR);
    }
    assert_eq!(ask(&worker, Method::GET, "/assets/a/1.m4s", &[]).body(), b"segment");
}

/// A rejection need not have a reason, and none is no reason to stop.
#[test]
fn a_bucket_that_fails_without_a_word_is_a_bad_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let worker = Worker::recording(folder.path(), &trusting());
    assert_eq!(ask(&worker, Method::GET, "/assets/a/nothing", &[]).status(), StatusCode::BAD_GATEWAY);
    assert!(worker.logs("origin: "));
}

/// Not even for a moment: what goes on first after a trap is a request of the old program.
#[test]
fn after_a_trap_nothing_of_the_old_program_goes_on_in_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let worker = Worker::recording(folder.path(), &trusting());
    let late = thread::scope(|scope| {
        let late = scope.spawn(|| ask(&worker, Method::GET, "/assets/a/late", &[]));
        thread::sleep(Duration::from_millis(300));
        let trap = ask(&worker, Method::GET, "/assets/a/trap", &[]);
        assert_eq!(trap.status(), StatusCode::INTERNAL_SERVER_ERROR);
        late.join().unwrap()
    });
    assert_eq!(late.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let said = String::from_utf8_lossy(late.body());
    assert!(said.contains("from previous Wasm instance"), "{said}");
    assert_eq!(ask(&worker, Method::GET, "/assets/a/1.m4s", &[]).status(), StatusCode::NOT_FOUND);
}
