//! What is kept near viewers: one of them has it fetched, the others get it too, and nobody else does.

#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use edge::Visitor;
use http::{Method, Response};
use serde_json::{Value, json};
use tests::{Gate, Keys, Native, ORIGIN_ASKED, OverS3, S3, Worker, filled, header, keys, now, trusting};

const PLAYLIST: &str = "#EXTM3U\n#EXTINF:6,\n1.m4s\n#EXT-X-ENDLIST\n";
const WORDS: &str = "WEBVTT\n\n00:00.000 --> 00:05.000\nLook at this!\n";

/// Gates of every kind that keep things. There is an asset for each story, which it finds as nobody has asked for it yet.
static GATES: LazyLock<Mutex<[Box<dyn Counting>; 3]>> = LazyLock::new(|| Mutex::new(gates(&keeping("60"))));

fn in_turn(story: impl Fn(&dyn Counting)) {
    // A story that failed has told it already.
    let gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
    gates.iter().for_each(|gate| story(&**gate));
}

/// A gate of which can be known how often its origin was asked for an answer.
trait Counting: Gate {
    fn times(&self, answer: &Response<Vec<u8>>) -> usize;
}

impl Counting for Native {
    fn times(&self, answer: &Response<Vec<u8>>) -> usize {
        header(answer, ORIGIN_ASKED).split_terminator(',').count()
    }
}

impl Counting for Worker {
    fn times(&self, answer: &Response<Vec<u8>>) -> usize {
        header(answer, ORIGIN_ASKED).split_terminator(',').count()
    }
}

impl Counting for OverS3 {
    fn times(&self, _: &Response<Vec<u8>>) -> usize {
        let times = self.s3.asked().len();
        self.s3.forget();
        times
    }
}

/// All that an answer says, but for when it was given and what it took.
fn said(answer: &Response<Vec<u8>>) -> (u16, BTreeMap<String, String>, Vec<u8>) {
    let of_its_own = ["age", "date", ORIGIN_ASKED, "x-data-point", "x-keys-imported"];
    let headers = answer.headers().iter().filter(|(name, _)| !of_its_own.contains(&name.as_str()));
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    (answer.status().as_u16(), headers.collect(), answer.body().clone())
}

fn keeping(seconds: &str) -> Value {
    let mut settings = trusting();
    settings["SEGMENT_CACHE_SECONDS"] = seconds.into();
    settings["PLAYLIST_CACHE_SECONDS"] = seconds.into();
    settings
}

fn asset(names: &[&str]) -> PathBuf {
    let files = [("1.m4s", "0123456789"), ("index.m3u8", PLAYLIST), ("words.vtt", WORDS)];
    let objects = names.iter().flat_map(|name| files.map(|(file, text)| (format!("{name}/{file}"), text)));
    let objects: Vec<_> = objects.collect();
    filled(&objects.iter().map(|(key, text)| (&**key, text.as_bytes())).collect::<Vec<_>>())
}

fn gates(settings: &Value) -> [Box<dyn Counting>; 3] {
    let folder = asset(&["a", "b", "c"]);
    thread::scope(|scope| {
        let r2 = scope.spawn(|| Worker::recording(&folder, settings));
        let s3 = OverS3::with(&folder, settings);
        [
            Box::new(Native::with(&folder, settings)) as Box<dyn Counting>,
            Box::new(r2.join().unwrap()),
            Box::new(s3),
        ]
    })
}

/// Asks until the origin is not asked any more: what is kept is put away beside the answer.
fn kept(gate: &dyn Counting, target: &str) -> Response<Vec<u8>> {
    let begun = Instant::now();
    loop {
        let answer = gate.get(target);
        assert_eq!(answer.status(), 200, "{target}");
        if gate.times(&answer) == 0 {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{target} is not kept");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn two_viewers_cost_one_read() {
    in_turn(|gate| {
        let (one, other) = (gate.open("/a/*"), gate.open("/a*"));
        for path in ["/a/1.m4s", "/a/index.m3u8", "/a/words.vtt"] {
            let first = gate.get(&format!("{path}?{one}"));
            assert_eq!(gate.times(&first), 1, "{path}");
            let second = kept(gate, &format!("{path}?{other}"));
            let (mine, theirs) = (said(&first), said(&second));
            if path == "/a/index.m3u8" {
                let text = |query: &str| PLAYLIST.replace("1.m4s", &format!("1.m4s?{query}")).into_bytes();
                assert_eq!(
                    (mine.2, theirs.2),
                    (text(&one), text(&other)),
                    "each has their own authority in it"
                );
                assert_ne!(mine.1["etag"], theirs.1["etag"]);
            } else {
                assert_eq!(mine.2, theirs.2);
            }
            // The first again, from what the second had kept.
            let again = gate.get(&format!("{path}?{one}"));
            assert_eq!(gate.times(&again), 0, "{path}");
            assert_eq!(said(&again), said(&first), "{path}");
        }
    });
}

#[test]
fn what_is_kept_is_answered_from_as_its_origin_would() {
    in_turn(|gate| {
        let target = format!("/b/1.m4s?{}", gate.open("/b/*"));
        let whole = kept(gate, &target);
        let (etag, modified) = (header(&whole, "etag"), header(&whole, "last-modified"));
        assert!(!etag.is_empty() && !modified.is_empty());
        let range = ("Range", "bytes=2-4");
        for (sent, status, body) in [
            (vec![range], 206, "234"),
            (vec![("Range", "bytes=-3")], 206, "789"),
            (vec![("Range", "bytes=7-")], 206, "789"),
            (vec![("Range", "bytes=0-1,4-5")], 200, "0123456789"),
            (vec![range, ("If-Range", etag)], 206, "234"),
            (vec![range, ("If-Range", modified)], 206, "234"),
            (vec![range, ("If-Range", "\"other\"")], 200, "0123456789"),
            (vec![("If-None-Match", etag)], 304, ""),
            (vec![("If-None-Match", etag), range], 304, ""),
            (vec![("If-Modified-Since", modified)], 304, ""),
            (vec![("If-Match", "\"other\"")], 412, "Precondition Failed"),
        ] {
            let answer = gate.ask(Method::GET, &target, &sent);
            assert_eq!(gate.times(&answer), 0, "{sent:?}");
            let said = (answer.status().as_u16(), &*String::from_utf8_lossy(answer.body()));
            assert_eq!(said, (status, body), "{sent:?}");
        }
        let head = gate.ask(Method::HEAD, &target, &[]);
        assert_eq!(gate.times(&head), 0);
        assert_eq!(said(&head).1, said(&whole).1);
        let playlist = kept(gate, &target.replace("1.m4s", "index.m3u8"));
        let known = [("If-None-Match", header(&playlist, "etag"))];
        let answer = gate.ask(Method::GET, &target.replace("1.m4s", "index.m3u8"), &known);
        assert_eq!((answer.status().as_u16(), gate.times(&answer)), (304, 0));
    });
}

#[test]
fn what_is_kept_is_for_those_who_may_have_it_only() {
    in_turn(|gate| {
        let query = gate.open("/c/*");
        for name in ["1.m4s", "index.m3u8"] {
            let _ = kept(gate, &format!("/c/{name}?{query}"));
            let expired = Keys::order(&format!("{}/c/*", gate.url()));
            let expired = format!(
                r#"{{"Statement":[{{"Resource":"{}/c/*","Condition":{{"DateLessThan":{{"AWS:EpochTime":{}}}}}}}]}}"#,
                gate.url(),
                expired.expires - 7200
            );
            let elsewhere = keys().sign(&Keys::order("https://elsewhere.example/c/*"));
            for query in [
                "",
                &gate.open("/a/*"),
                &keys().seal(&expired),
                &elsewhere,
                &query.replace("Signature=", "Signature=A"),
            ] {
                for (method, sent) in [
                    (Method::GET, None),
                    (Method::GET, Some(("Range", "bytes=0-1"))),
                    (Method::GET, Some(("If-None-Match", "*"))),
                    (Method::HEAD, None),
                ] {
                    let answer = gate.ask(method, &format!("/c/{name}?{query}"), sent.as_slice());
                    assert_eq!(answer.status(), 403, "{name} {query}");
                    assert_eq!(header(&answer, "cache-control"), "no-store");
                    assert_eq!((header(&answer, "etag"), header(&answer, "content-range")), ("", ""));
                }
            }
        }
        // What is kept has a URL, at which there is nothing, not even for whoever may have everything.
        let everything = gate.open("*");
        for (path, status) in
            [("/-/r2/c%2F1%2Em4s", 400), ("/-/r2/c%252F1%252Em4s", 404), ("/-/r2/c/1.m4s", 404), ("/-/", 404)]
        {
            assert_eq!(gate.get(path).status(), if status == 400 { 400 } else { 403 }, "{path}");
            assert_eq!(gate.get(&format!("{path}?{everything}")).status(), status, "{path}");
        }
    });
}

#[test]
fn after_its_time_what_was_kept_is_not_served_any_more() {
    let folder = asset(&["a"]);
    let gate = Native::with(&folder, &keeping("30"));
    let target = format!("/a/index.m3u8?{}", gate.open("/a/*"));
    let has =
        |gate: &Native, text: &str| String::from_utf8(gate.get(&target).into_body()).unwrap().contains(text);
    let at = |gate: Native, seconds: u64| gate.seen_by(Visitor { now: seconds, address: None });
    let begun = now();
    let gate = at(gate, begun);
    assert!(has(&gate, "ENDLIST"));
    std::fs::write(folder.join("a/index.m3u8"), "#EXTM3U\n#EXT-X-NEWER\n").unwrap();
    let gate = at(gate, begun + 29);
    assert!(has(&gate, "ENDLIST"));
    let gate = at(gate, begun + 30);
    assert!(has(&gate, "NEWER"));
    std::fs::remove_file(folder.join("a/index.m3u8")).unwrap();
    let gate = at(gate, begun + 59);
    assert!(has(&gate, "NEWER"));
    let gate = at(gate, begun + 60);
    assert_eq!(gate.get(&target).status(), 404);
}

#[test]
fn a_playlist_is_never_older_than_it_may_be() {
    let gate = OverS3::with(&asset(&["a"]), &keeping("1"));
    let target = format!("/a/index.m3u8?{}", gate.open("/a/*"));
    let absent = target.replace("index", "live");
    // That there was nothing, is not kept.
    assert_eq!(gate.get(&absent).status(), 404);
    gate.s3.put("a/live.m3u8", PLAYLIST.as_bytes());
    assert_eq!(gate.get(&absent).status(), 200);
    for version in 1..=3 {
        let _ = gate.get(&target);
        gate.s3.put("a/index.m3u8", format!("{PLAYLIST}# version {version}").as_bytes());
        let changed = Instant::now();
        thread::sleep(Duration::from_millis(1005));
        let answer = gate.get(&target);
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(text.ends_with(&format!("# version {version}")), "after {:?}: {text}", changed.elapsed());
    }
    gate.s3.delete("a/index.m3u8");
    thread::sleep(Duration::from_millis(1005));
    assert_eq!(gate.get(&target).status(), 404);
}

#[test]
fn what_its_store_will_not_have_kept_is_not() {
    let large = vec![7; (8 << 20) + 1];
    let stated = [
        ("a/no-store.m4s", "cacheControl", "no-store"),
        ("a/no-cache.m4s", "cacheControl", "public, no-cache"),
        ("a/private.m4s", "cacheControl", "Private, max-age=60"),
        ("a/old.m4s", "cacheControl", "max-age=0"),
        ("a/shared.m4s", "cacheControl", "max-age=60, s-maxage=0"),
        ("a/no-store.m3u8", "cacheControl", "no-store"),
        ("a/packed.m4s", "contentEncoding", "gzip"),
        ("a/packed.vtt", "contentEncoding", "gzip"),
        ("a/1.key", "cacheControl", "public, max-age=60"),
        ("a/other.xyz", "cacheControl", "public, max-age=60"),
        ("a/large.m4s", "cacheControl", "public, max-age=60"),
        ("a/fine.m4s", "cacheControl", "public, max-age=60"),
        ("a/fine.m3u8", "cacheControl", "public, max-age=60"),
        ("a/part.m4s", "cacheControl", "public, max-age=60"),
        ("a/head.m4s", "cacheControl", "public, max-age=60"),
        ("a/known.m4s", "cacheControl", "public, max-age=60"),
    ];
    let bytes = |key: &str| if key == "a/large.m4s" { &large[..] } else { PLAYLIST.as_bytes() };
    let objects = stated.map(|(key, ..)| (key, bytes(key)));
    let folder = filled(&objects);
    let types: Value =
        stated.iter().map(|(key, name, value)| ((*key).to_owned(), json!({ *name: value }))).collect();
    std::fs::write(folder.join(".types.json"), types.to_string()).unwrap();
    let settings = keeping("60");
    let gates: [Box<dyn Counting>; 2] =
        [Box::new(Worker::recording(&folder, &settings)), Box::new(OverS3::with(&folder, &settings))];
    for gate in &gates {
        let query = gate.open("/a/*");
        for round in 1..=2 {
            for (key, ..) in stated {
                let (method, sent, status) = match (key, round) {
                    ("a/part.m4s", 1) => (Method::GET, Some(("Range", "bytes=0-")), 206),
                    ("a/head.m4s", 1) => (Method::HEAD, None, 200),
                    // The MD5 of a playlist, by md5sum.
                    ("a/known.m4s", 1) => {
                        (Method::GET, Some(("If-None-Match", "\"aab52ed3bcd337ae44ad329e828bee36\"")), 304)
                    }
                    _ => (Method::GET, None, 200),
                };
                let answer = gate.ask(method, &format!("/{key}?{query}"), sent.as_slice());
                assert_eq!(answer.status().as_u16(), status, "{key}");
                let is_kept = round == 2 && key.starts_with("a/fine");
                assert_eq!(gate.times(&answer), usize::from(!is_kept), "{key}, the {round}. time");
            }
            // By then what is put away beside the answers is there.
            for name in ["fine.m4s", "fine.m3u8"] {
                let _ = kept(&**gate, &format!("/a/{name}?{query}"));
            }
            thread::sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn without_time_to_keep_it_nothing_is() {
    for gate in &gates(&keeping("0")) {
        let query = gate.open("/a/*");
        for path in ["/a/1.m4s", "/a/index.m3u8"] {
            for _ in 0..3 {
                let answer = gate.get(&format!("{path}?{query}"));
                assert_eq!(gate.times(&answer), 1, "{path}");
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// It gets the head, and goes.
fn leave(gate: &dyn Gate, target: &str) {
    let host = gate.url().strip_prefix("http://").unwrap();
    let mut viewer = TcpStream::connect(host).unwrap();
    write!(viewer, "GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    assert_eq!(viewer.read(&mut [0; 64]).unwrap(), 64);
}

/// The rest may be fetched for others, or all of it is fetched again.
#[test]
fn a_viewer_who_leaves_leaves_no_half_behind() {
    let segment: Vec<u8> = (0..251).cycle().take(8 << 20).collect();
    let playlist = format!("#EXTM3U\n{}", format!("#{}\n1.m4s\n", "-".repeat(10_000)).repeat(200));
    let folder = filled(&[("a/1.m4s", &segment), ("a/long.m3u8", playlist.as_bytes())]);
    let gates: [Box<dyn Counting>; 2] = [
        Box::new(Worker::recording(&folder, &keeping("60"))),
        Box::new(OverS3::with(&folder, &keeping("60"))),
    ];
    for gate in &gates {
        let query = gate.open("/a/*");
        for name in ["1.m4s", "long.m3u8"] {
            let target = format!("/a/{name}?{query}");
            leave(&**gate, &target);
            for _ in 0..3 {
                let answer = gate.get(&target);
                let expected = match name {
                    "1.m4s" => segment.clone(),
                    _ => playlist.replace("1.m4s", &format!("1.m4s?{query}")).into_bytes(),
                };
                assert!(*answer.body() == expected, "{name}: {} bytes", answer.body().len());
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

#[test]
fn of_a_store_that_stalls_nothing_is_kept() {
    let gate = OverS3::before(S3::over(&filled(&[]), &json!({})), &keeping("60"));
    let target = format!("/a/fault-stall.m4s?{}", gate.open("/a/*"));
    for times in 1..=3 {
        leave(&gate, &target);
        assert_eq!(gate.s3.asked().len(), times);
    }
}
