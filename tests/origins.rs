//! Stores that are asked in every way that there is, and what a viewer gets of one that fails.

#![allow(missing_docs)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use http::{Method, Response};
use serde_json::{Value, json};
use tests::{Gate, ORIGIN_ASKED, OverS3, S3, Worker, filled, header, trusting};

/// The words of whoever fails, which are for nobody: those of `tests/tools/s3.py`.
const WORDS: &str = "the origin's own words";

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The headers of an answer, all that it may have.
const HEADERS: [&str; 17] = [
    "accept-ranges",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "age",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "referrer-policy",
    "transfer-encoding",
    "vary",
    "x-content-type-options",
];

/// One that leaves before all of it was read, with few links, so that it does not get much longer on its way.
fn long_playlist() -> String {
    format!("#EXTM3U\n{}#EXT-X-ENDLIST\n", format!("#{}\n1.m4s\n", "-".repeat(10_000)).repeat(150))
}

fn assert_is_ours(what: &str, answer: &Response<Vec<u8>>) {
    for name in answer.headers().keys() {
        assert!(HEADERS.contains(&name.as_str()), "{what}: {name}");
    }
    assert!(!String::from_utf8_lossy(answer.body()).contains(WORDS), "{what}");
    assert_eq!(header(answer, "access-control-allow-origin"), "*");
    if answer.status().as_u16() >= 400 {
        assert_eq!(answer.body(), answer.status().canonical_reason().unwrap().as_bytes(), "{what}");
        assert_eq!(header(answer, "cache-control"), "no-store");
        assert_eq!(header(answer, "etag"), "");
    }
}

/// The settings of a gate that waits for two seconds, and keeps what it may.
fn patient() -> Value {
    let mut settings = trusting();
    settings["ORIGIN_SECONDS"] = "2".into();
    settings["PLAYLIST_CACHE_SECONDS"] = "60".into();
    settings
}

#[test]
fn a_bucket_is_asked_by_host_as_by_path() {
    let s3 = S3::over(&filled(&[("a/1.m4s", b"0123456789"), ("a/b c+\u{e9}.m4s", b"odd")]), &json!({}));
    let mut settings = trusting();
    settings["S3_STYLE"] = "virtual".into();
    settings["S3_ENDPOINT"] = "http://s3.example:9000".into();
    settings["OUTBOUND"] = s3.url().into();
    let gate = OverS3::before(s3, &settings);
    let query = gate.open("*");
    for (path, status, body) in [
        ("/a/1.m4s", 200, "0123456789"),
        ("/a/b%20c+%C3%A9.m4s", 200, "odd"),
        ("/other/secret.m4s", 404, "Not Found"),
        ("//other.s3.example/secret.m4s", 404, "Not Found"),
        ("/a/none.m4s", 404, "Not Found"),
    ] {
        let answer = gate.get(&format!("{path}?{query}"));
        assert_eq!(
            (answer.status().as_u16(), &*String::from_utf8_lossy(answer.body())),
            (status, body),
            "{path}"
        );
    }
    let asked = gate.s3.asked();
    assert_eq!(asked.len(), 5);
    for asked in asked {
        assert_eq!((&asked["bucket"], &asked["style"]), (&"media".into(), &"virtual".into()), "{asked}");
    }
}

/// What is wrong with a bucket, what a viewer gets, and how often it was asked for that.
#[test]
fn a_bucket_that_fails_is_asked_once_more_if_that_may_help() {
    let gate = OverS3::with(&filled(&[]), &patient());
    let query = gate.open("*");
    let faults = [
        ("fault-500", 502, 2, "origin: it says 500 InternalError"),
        ("fault-503-always", 502, 2, "origin: it says 503 SlowDown"),
        ("fault-503-once-", 200, 2, ""),
        ("fault-reset", 502, 2, "origin: "),
        ("fault-reset-once-", 200, 2, ""),
        ("fault-html", 502, 2, "origin: it says 502 and no more"),
        ("fault-slow-3", 504, 1, "origin: no answer in 2 s"),
        ("fault-denied", 404, 1, "the store does not say whether there is such an object"),
        ("fault-nobucket", 502, 1, "origin: it says 404 NoSuchBucket"),
        ("fault-moved", 502, 1, "origin: it says 301 PermanentRedirect: check S3_REGION"),
        ("fault-redirect", 502, 1, "origin: it says 307 TemporaryRedirect: check S3_REGION"),
        ("fault-elsewhere", 502, 1, "origin: it answers with another range"),
        ("fault-chunked", 502, 1, "origin: it "),
    ];
    thread::scope(|scope| {
        for (name, status, asked, log) in faults {
            let (gate, query) = (&gate, &query);
            scope.spawn(move || {
                for (kind, range) in [("m4s", None), ("m3u8", None), ("ts", Some(("Range", "bytes=5-9")))] {
                    let key = format!("a/{name}.{kind}");
                    let (status, log) = match (name, range) {
                        ("fault-503-once-" | "fault-reset-once-", Some(_)) => (206, ""),
                        _ => (status, log),
                    };
                    let begun = Instant::now();
                    let answer = gate.ask(Method::GET, &format!("/{key}?{query}"), range.as_slice());
                    let what = format!("{key} {}", String::from_utf8_lossy(answer.body()));
                    assert_eq!(answer.status().as_u16(), status, "{}", &what[..what.len().min(200)]);
                    assert_is_ours(&key, &answer);
                    assert!(begun.elapsed() < Duration::from_secs(6), "{key}: {:?}", begun.elapsed());
                    let all = gate.s3.asked();
                    let times = all.iter().filter(|asked| asked["key"] == *key).count();
                    // The runtime itself tries again where a connection is gone that it had kept open.
                    let is_right = times == asked || name.contains("reset") && times > asked;
                    assert!(is_right, "{key}: {times} times: {all:?}");
                    if !log.is_empty() {
                        assert!(gate.log(&answer, log).contains(log), "{key}: {log}");
                    }
                }
                let key = format!("a/{name}.aac");
                let head = gate.ask(Method::HEAD, &format!("/{key}?{query}"), &[]);
                // A HEAD has no body that says why, so that it takes another request to know.
                let is_right = if matches!(name, "fault-elsewhere") { 502 } else { status };
                assert_eq!(head.status().as_u16(), is_right, "HEAD {key}");
            });
        }
    });
}

/// Half of it, as much as there is without what was promised, or nothing in time.
#[test]
fn what_breaks_off_is_never_taken_for_the_whole() {
    let short = "#EXTM3U\n#EXTINF:6,\n1.m4s\n#EXT-X-ENDLIST\n";
    let long = long_playlist();
    let keys = ["cut", "short", "stall"].map(|fault| {
        [format!("a/fault-{fault}-1.m3u8"), format!("a/fault-{fault}-2.m3u8"), format!("a/fault-{fault}.m4s")]
    });
    let objects: Vec<_> = keys
        .iter()
        .flat_map(|[one, two, _]| [(&**one, short.as_bytes()), (&**two, long.as_bytes())])
        .collect();
    let gate = OverS3::with(&filled(&objects), &patient());
    let query = gate.open("*");
    thread::scope(|scope| {
        for key in keys.as_flattened() {
            let (gate, query) = (&gate, &query);
            // It would take as long as it stalls, and nobody says how long a viewer waits.
            if key.ends_with("stall.m4s") {
                continue;
            }
            scope.spawn(move || {
                let asked = || gate.s3.asked().iter().filter(|asked| asked["key"] == **key).count();
                // Some of it may be in the cache for a moment, but is not taken for all of it there either.
                let begun = Instant::now();
                while asked() < 2 {
                    assert!(begun.elapsed() < Duration::from_secs(5), "{key} was kept");
                    let (answer, is_whole) =
                        gate.worker.attempt(Method::GET, &format!("/{key}?{query}"), &[]);
                    assert_is_ours(key, &answer);
                    match answer.status().as_u16() {
                        200 => assert!(!is_whole, "{key}: {} bytes, and no more", answer.body().len()),
                        504 => assert!(key.contains("stall"), "{key}"),
                        502 => assert!(key.ends_with("m3u8"), "{key}"),
                        status => panic!("{key} {status}"),
                    }
                    // Short ones are known whole before anything is said.
                    assert_eq!(key.ends_with("1.m3u8"), answer.status().as_u16() != 200, "{key}");
                }
                if key.ends_with("m4s") {
                    let range = [("Range", "bytes=100000-299999")];
                    let (answer, is_whole) =
                        gate.worker.attempt(Method::GET, &format!("/{key}?{query}"), &range);
                    // A range that claims to be longer than it is, is another one.
                    let expected = if key.contains("short") { (502, true) } else { (206, false) };
                    assert_eq!((answer.status().as_u16(), is_whole), expected, "{key}");
                }
            });
        }
    });
}

/// It says of everything, HEAD too, that there is no such range.
#[test]
fn a_bucket_that_knows_of_no_range_is_not_asked_for_ever() {
    let gate = OverS3::with(&filled(&[]), &patient());
    let query = gate.open("*");
    for (method, sent) in
        [(Method::GET, [("Range", "bytes=0-")].as_slice()), (Method::GET, &[]), (Method::HEAD, &[])]
    {
        let before = gate.s3.asked().len();
        let answer = gate.ask(method, &format!("/a/fault-unranged.m4s?{query}"), sent);
        assert_eq!(answer.status(), 502);
        assert!(gate.s3.asked().len() - before <= 4, "{:?}", gate.s3.asked());
    }
}

/// Of why there is no object nobody wants to hear for ever.
#[test]
fn an_error_that_has_no_end_is_not_heard_out() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", server.local_addr().unwrap());
    let heard = thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        // An answer to what was not asked yet is none.
        assert_ne!(stream.read(&mut [0; 4096]).unwrap(), 0);
        stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Type: application/xml\r\n\r\n").unwrap();
        let (words, mut heard) = ([b'x'; 8 * 1024], 0);
        while stream.write_all(&words).is_ok() {
            heard += words.len();
        }
        heard
    });
    let mut settings = patient();
    for (name, value) in [
        ("ORIGIN", "s3"),
        ("ORIGIN_SECONDS", "10"),
        ("S3_ENDPOINT", &endpoint),
        ("S3_BUCKET", "media"),
        ("S3_REGION", "us-east-1"),
        ("S3_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("S3_SECRET_ACCESS_KEY", SECRET),
    ] {
        settings[name] = value.into();
    }
    let gate = Worker::with(&filled(&[]), &settings);
    assert_eq!(gate.get(&format!("/a/1.m4s?{}", gate.open("*"))).status(), 404);
    // What is in the sockets' buffers besides.
    let heard = heard.join().unwrap();
    assert!(heard < 32 * 1024 * 1024, "{heard} bytes");
}

/// Not all that a bucket says is right is what everybody else would say.
#[test]
fn an_odd_bucket_is_taken_at_its_word_as_far_as_that_goes() {
    let gate = OverS3::with(&filled(&[]), &patient());
    let query = gate.open("*");
    let ask = |name: &str, sent: &[(&str, &str)]| {
        let answer = gate.ask(Method::GET, &format!("/a/{name}?{query}"), sent);
        assert_is_ours(name, &answer);
        answer
    };
    let range = ("Range", "bytes=5-9");
    for name in ["fault-noetag", "fault-nolastmodified", "fault-weak", "fault-headers", "fault-whole"] {
        for kind in ["key", "m4s"] {
            let name = &format!("{name}.{kind}");
            let (whole, part) = (ask(name, &[]), ask(name, &[range]));
            assert_eq!((whole.status().as_u16(), whole.body().len()), (200, 300_000), "{name}");
            // What does not know of ranges is whole, unless it was kept.
            let status = if name == "fault-whole.key" { 200 } else { 206 };
            assert_eq!(part.status().as_u16(), status, "{name}");
            let expected = if status == 200 { whole.body() } else { &whole.body()[5..10] };
            assert_eq!(part.body(), expected);
            let (etag, modified) = (header(&whole, "etag"), header(&whole, "last-modified"));
            assert_eq!(etag.is_empty(), name.starts_with("fault-noetag"), "{name}");
            assert_eq!(modified.is_empty(), name.starts_with("fault-nolastmodified"), "{name}");
            assert_eq!(etag.starts_with("W/"), name.starts_with("fault-weak"), "{name}");
            // Without a tag that says that bytes are the same, none are a part of what somebody has.
            let is_strong = etag.starts_with('"') && status == 206;
            let other = ask(name, &[range, ("If-Range", if etag.is_empty() { "\"1\"" } else { etag })]);
            assert_eq!(other.status().as_u16(), if is_strong { 206 } else { 200 }, "{name}");
            if !etag.is_empty() {
                let known = ask(name, &[("If-None-Match", etag)]).status().as_u16();
                assert_eq!(known, 304, "{name}");
            }
        }
        let playlist = ask(&format!("{name}.m3u8"), &[]);
        assert_eq!(header(&playlist, "etag").is_empty(), matches!(name, "fault-noetag" | "fault-weak"));
    }
}

/// Whoever has something is told that it is still good by a bucket that has that.
#[test]
fn a_bucket_that_says_unchanged_of_something_else_is_not_believed() {
    let gate = OverS3::with(&filled(&[]), &patient());
    let query = gate.open("*");
    for name in ["fault-unchanged.m4s", "fault-unchanged.m3u8"] {
        let ask = |sent: &[(&str, &str)]| {
            gate.ask(Method::GET, &format!("/a/{name}?{query}"), sent).status().as_u16()
        };
        assert_eq!(ask(&[]), 502, "{name}");
        assert_eq!(ask(&[("If-None-Match", "\"mine\"")]), 502, "{name}");
        assert_eq!(ask(&[("If-None-Match", "\"mine\""), ("Range", "bytes=0-1")]), 502, "{name}");
    }
}

/// Serves one bucket with other settings.
fn before(s3: &S3, settings: &[(&str, &str)]) -> Worker {
    let mut all = s3.origin();
    all.as_object_mut().unwrap().extend(patient().as_object().unwrap().clone());
    for (name, value) in settings {
        all[*name] = (*value).into();
    }
    Worker::with(&filled(&[]), &all)
}

/// Before which server, with which settings, the status, and what is logged.
type Case<'a> = (&'a S3, &'a [(&'a str, &'a str)], u16, &'a str);

#[test]
fn who_may_not_ask_is_told_why_in_the_log_only() {
    let objects = filled(&[("a/1.m4s", b"0123456789")]);
    let [plain, temporary] = [json!({}), json!({ "sessionToken": "FwoGZXIvYXdzEXAMPLE//token==" })]
        .map(|settings| S3::over(&objects, &settings));
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}");
    let token = ("S3_SESSION_TOKEN", "FwoGZXIvYXdzEXAMPLE//token==");
    let cases: [Case; 7] = [
        (&plain, &[("S3_SECRET_ACCESS_KEY", "another secret")], 502, "it says 403 SignatureDoesNotMatch"),
        (&plain, &[("S3_REGION", "eu-west-1")], 502, "it says 400 AuthorizationHeaderMalformed"),
        (&plain, &[("S3_BUCKET", "none")], 502, "it says 404 NoSuchBucket"),
        (&plain, &[("S3_ENDPOINT", &closed)], 502, "origin: "),
        (&temporary, &[token], 200, ""),
        (&temporary, &[], 502, "it says 403 InvalidAccessKeyId"),
        (&temporary, &[("S3_SESSION_TOKEN", "another token")], 502, "it says 400 InvalidToken"),
    ];
    thread::scope(|scope| {
        for (s3, settings, status, why) in cases {
            scope.spawn(move || {
                let gate = before(s3, settings);
                for method in [Method::GET, Method::HEAD] {
                    let answer = gate.ask(method.clone(), &format!("/a/1.m4s?{}", gate.open("*")), &[]);
                    assert_eq!(answer.status().as_u16(), status, "{method} {settings:?}");
                    if method == Method::GET {
                        assert_is_ours(why, &answer);
                    }
                    let log = if why.is_empty() { String::new() } else { gate.log(&answer, why) };
                    assert!(log.contains(why), "{settings:?}: {log}");
                    let secrets = [SECRET, "Signature=", "another secret", "another token", "FwoGZXI", WORDS];
                    for secret in secrets {
                        assert!(!log.contains(secret), "{secret}: {log}");
                    }
                }
            });
        }
    });
}

#[test]
fn what_a_bucket_hides_is_not_found() {
    let s3 = S3::over(
        &filled(&[("a/1.m4s", b"0123456789"), ("a/empty.m4s", b"")]),
        &json!({ "hideMissing": true }),
    );
    let gate = OverS3::before(s3, &patient());
    let query = gate.open("*");
    for method in [Method::GET, Method::HEAD] {
        let ask = |path| gate.ask(method.clone(), &format!("{path}?{query}"), &[]);
        assert_eq!(ask("/a/1.m4s").status(), 200);
        assert_eq!(ask("/a/empty.m4s").status(), 200);
        let hidden = ask("/a/none.m4s");
        assert_eq!(hidden.status(), 404, "{method}");
        assert!(gate.log(&hidden, "s3:ListBucket").contains("\"refusal\":\"hidden\""));
        assert_eq!(ask("/a/none.m3u8").status(), 404, "{method}");
    }
}

#[test]
fn r2_that_fails_is_asked_once_more_too() {
    let keys = ["a/once", "a/never", "a/broken-long.m4s", "a/broken.m3u8", "a/broken-long.m3u8"];
    let long = long_playlist();
    let object = |key: &str| if key.contains("long") { long.clone() } else { "#EXTM3U\n1.m4s\n".repeat(100) };
    let objects = keys.map(|key| (key, object(key)));
    let objects: Vec<_> = objects.iter().map(|(key, text)| (*key, text.as_bytes())).collect();
    let gate = Worker::recording(&filled(&objects), &patient());
    let query = gate.open("*");
    for (key, status, asked, log) in [
        ("a/once", 200, 2, ""),
        ("a/nothing", 502, 2, "origin: "),
        ("a/never", 504, 1, "origin: no answer in 2 s"),
    ] {
        let begun = Instant::now();
        let answer = gate.get(&format!("/{key}?{query}"));
        assert_eq!(answer.status().as_u16(), status, "{key}");
        assert_eq!(header(&answer, ORIGIN_ASKED).split(',').count(), asked, "{key}");
        assert!(begun.elapsed() < Duration::from_secs(6), "{key}");
        assert!(log.is_empty() || gate.logs(log), "{log}");
    }
    for key in ["a/broken-long.m4s", "a/broken.m3u8", "a/broken-long.m3u8"] {
        let (begun, mut asked) = (Instant::now(), 0);
        while asked < 2 {
            assert!(begun.elapsed() < Duration::from_secs(5), "{key} was kept");
            let (answer, is_whole) = gate.attempt(Method::GET, &format!("/{key}?{query}"), &[]);
            asked += header(&answer, ORIGIN_ASKED).split_terminator(',').count();
            let status = if key == "a/broken.m3u8" { 502 } else { 200 };
            assert_eq!((answer.status().as_u16(), is_whole), (status, status == 502), "{key}");
        }
    }
}
