//! The service over HTTP, at a real socket.

mod harness;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harness::api::{Api, PATIENCE, read, settings};
use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use transcoder::http::{self, Token};
use transcoder::jobs::{State, Step};
use transcoder::plan::Options;
use transcoder::{CancellationToken, webhook};

#[tokio::test]
async fn whatever_goes_wrong_is_a_problem() {
    let api = Api::start().await;
    assert_eq!(api.get("/nothing").await.0, 404);
    assert_eq!(api.get("/v1/jobs/00").await.0, 404);
    assert_eq!(api.get(&format!("/v1/jobs/{}", "0".repeat(32))).await.0, 404);
    assert_eq!(api.get("/v1/jobs/%ff").await.0, 400);
    assert_eq!(api.get("/v1/assets/a%2fb").await.0, 404);
    for query in ["limit=0", "limit=501", "limit=x", "state=lost", "before=1", "asset=a/b", "else=1"] {
        assert_eq!(api.get(&format!("/v1/jobs?{query}")).await.0, 400, "{query}");
    }
    let response = api.ask("PATCH", "/v1/jobs").send().await.unwrap();
    assert_eq!(response.headers()["allow"], "POST,GET,HEAD");
    assert_eq!(read(response).await.0, 405);

    let sent = async |kind: &str, body: String| {
        let request = api.ask("POST", "/v1/jobs").header("content-type", kind).body(body);
        read(request.send().await.unwrap()).await
    };
    assert_eq!(sent("text/plain", "{}".into()).await.0, 415);
    assert_eq!(sent("application/json", "{".into()).await.0, 400);
    assert_eq!(sent("application/json", format!("{{\"source\":\"{}\"}}", "x".repeat(1 << 20))).await.0, 413);
    for (body, says) in [
        (json!({}), "missing field `source`"),
        (json!({"source": "none.mp4"}), "no video lies by this name"),
        (json!({"source": "a.mp4", "vmaf": "ffmpeg"}), "unknown field `vmaf`"),
        (json!({"source": "a.mp4", "options": {"vmaf": "/bin/sh"}}), "unknown field `vmaf`"),
        (json!({"source": "a.mp4", "options": {"key_every": 0}}), "nonzero"),
        (json!({"source": "a.mp4", "options": {"key_every": 2}}), "`key_every` needs `encrypt`"),
        (json!({"source": "a.mp4", "options": {"container": "ts", "codecs": ["av1"]}}), "fragmented MP4"),
        (json!({"source": "a.mp4", "encoder": "sox"}), "no such encoder"),
        (json!({"source": "a.mp4", "encoder": "mediaconvert"}), "no such encoder"),
        (json!({"source": "a.mp4", "asset": "../x"}), "asset id"),
        (json!({"source": "a.mp4", "webhook": "http://127.0.0.1/"}), "public address"),
    ] {
        let (status, problem) = api.post("/v1/jobs", &body).await;
        assert_eq!(status, 422, "{body}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }
    assert_eq!(api.post("/v1/jobs", &json!({"source": "../a.mp4"})).await.0, 400);

    let (_, problem) = api.post("/v1/jobs", &json!({"source": "none.mp4"})).await;
    let meaning = api.ask("GET", problem["type"].as_str().unwrap()).send().await.unwrap();
    assert!(meaning.text().await.unwrap().starts_with(problem["title"].as_str().unwrap()));
    api.stop().await;
}

#[tokio::test]
async fn a_job_asked_for_twice_is_one_and_is_found_again() {
    let api = Api::start().await;
    api.upload("course/lesson 1.mp4", b"1");
    let wish = json!({"source": "course/lesson 1.mp4", "asset": "one", "priority": 3,
                      "options": {"codecs": ["hevc"], "quality": "high", "encrypt": true, "key_every": 5}});
    let request =
        || api.ask("POST", "/v1/jobs").header("content-type", "application/json").body(wish.to_string());
    let response = request().send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, job) = read(response).await;
    assert_eq!(status, 202);
    assert_eq!(location, format!("/v1/jobs/{}", job["id"].as_str().unwrap()));
    let (status, again) = read(request().send().await.unwrap()).await;
    assert_eq!((status, &again["id"]), (StatusCode::OK, &job["id"]));

    let (status, found) = api.get(&location).await;
    assert_eq!(status, 200);
    assert_eq!(found["source"], "course/lesson 1.mp4");
    assert_eq!(
        (&found["state"], &found["asset"], &found["priority"]),
        (&json!("queued"), &json!("one"), &json!(3))
    );
    assert_eq!(found["encoder"], "ffmpeg");
    assert_eq!(
        found["options"],
        json!({"container": "fmp4", "codecs": ["hevc"], "hdr": false, "quality": "high", "encrypt": true,
               "key_every": 5, "dense_key_frames": false})
    );
    assert!(!found.to_string().contains(api.studio.path("").to_str().unwrap()), "{found}");

    api.service.jobs.next(Timestamp::now()).await.unwrap().unwrap();
    let reason = format!("{}/data/work/1: is broken", api.studio.path("").display()).replace("//", "/");
    api.advance(job["id"].as_str().unwrap(), Step::Failed { reason }).await;
    assert_eq!(api.get(&location).await.1["reason"], "DATA/work/1: is broken");

    for name in ["b.mp4", "c.mp4"] {
        api.job(name).await;
    }
    let (_, first) = api.get("/v1/jobs?limit=2&state=queued,failed").await;
    let sources = |page: &Value| -> Vec<String> {
        page["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["source"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(sources(&first), ["c.mp4", "b.mp4"]);
    let (_, second) = api.get(&format!("/v1/jobs?limit=2&before={}", first["next"].as_str().unwrap())).await;
    assert_eq!(
        (sources(&second).as_slice(), &second["next"]),
        (["course/lesson 1.mp4".to_owned()].as_slice(), &Value::Null)
    );
    assert_eq!(sources(&api.get("/v1/jobs?asset=b").await.1), ["b.mp4"]);
    assert_eq!(sources(&api.get("/v1/jobs?state=done").await.1), Vec::<String>::new());
    api.stop().await;
}

#[tokio::test]
async fn a_job_is_cancelled_once_and_can_be_retried() {
    let api = Api::start().await;
    let id = api.job("a.mp4").await;
    let path = format!("/v1/jobs/{id}");
    let delete = async || read(api.ask("DELETE", &path).send().await.unwrap()).await;
    assert_eq!(api.post(&format!("{path}/retry"), &Value::Null).await.0, 409);
    let (status, job) = delete().await;
    assert_eq!((status, &job["state"]), (StatusCode::ACCEPTED, &json!("cancelled")));
    let (status, problem) = delete().await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/problems/ended")));
    let (status, job) = api.post(&format!("{path}/retry"), &Value::Null).await;
    assert_eq!((status, &job["state"]), (StatusCode::ACCEPTED, &json!("queued")));
    api.stop().await;
}

#[tokio::test]
async fn progress_is_told_until_the_end() {
    let api = Api::start().await;
    let id = api.job("a.mp4").await;
    let path = format!("/v1/jobs/{id}/events");
    let mut stream = api.ask("GET", &path).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let first = stream.chunk().await.unwrap().unwrap();
    assert!(first.starts_with(b"event: progress\nid: "), "{first:?}");
    assert!(String::from_utf8_lossy(&first).contains(r#""state":"queued""#), "{first:?}");

    api.service.jobs.next(Timestamp::now()).await.unwrap().unwrap();
    let half = Step::Progress { state: State::Encoding, percent: Some(50.0), seconds_left: Some(7.5) };
    api.advance(&id, half).await;
    api.advance(&id, Step::Done).await;
    let mut rest = String::new();
    while let Some(chunk) = stream.chunk().await.unwrap() {
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
    assert!(rest.contains(r#""state":"encoding","percent":50.0,"seconds_left":7.5"#), "{rest}");
    let last = rest.trim_end().rsplit("\n\n").next().unwrap();
    assert!(
        last.contains(r#""state":"done""#) && last.contains(r#""playlist":"assets/a/index.m3u8""#),
        "{last}"
    );

    let seen = last.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    let again = api.ask("GET", &path).header("last-event-id", seen).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NO_CONTENT);
    api.stop().await;
}

#[tokio::test]
async fn all_jobs_are_told_of_in_one_stream() {
    let api = Api::start().await;
    let mut stream = api.ask("GET", "/v1/jobs/events").send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let (one, two) = (api.job("a.mp4").await, api.job("b.mp4").await);
    api.service.jobs.next(Timestamp::now()).await.unwrap().unwrap();
    api.advance(&one, Step::Done).await;
    let mut text = String::new();
    while text.matches("\n\n").count() < 4 {
        text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    let told: Vec<Value> = text
        .split_terminator("\n\n")
        .map(|event| serde_json::from_str(event.strip_prefix("event: job\ndata: ").unwrap()).unwrap())
        .collect();
    let states = told.iter().map(|job| (job["id"].as_str().unwrap(), job["state"].as_str().unwrap()));
    let expected = [(&*one, "queued"), (&two, "queued"), (&one, "probing"), (&one, "done")];
    assert_eq!(states.collect::<Vec<_>>(), expected);
    assert_eq!(told[3], api.get(&format!("/v1/jobs/{one}")).await.1);
    api.stop().await;
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_does_not_hold_up_the_end_of_the_service() {
    let api = Api::start().await;
    let id = api.job("a.mp4").await;
    let mut stream = api.ask("GET", &format!("/v1/jobs/{id}/events")).send().await.unwrap();
    stream.chunk().await.unwrap().unwrap();
    let begun = std::time::Instant::now();
    api.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(stream.chunk().await.unwrap(), None);
}

#[tokio::test]
async fn a_file_is_uploaded_and_encoded() {
    let api = Api::start().await;
    let bytes: Vec<u8> = (0..700_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
    let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(Sha256::digest(&bytes)));
    let put = |name: &str| api.ask("PUT", &format!("/v1/uploads/{name}")).body(bytes.clone());
    let response = put("a%20b/%C3%BC.mp4").header("repr-digest", &digest).send().await.unwrap();
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let (status, upload) = read(response).await;
    assert_eq!((status, &upload["name"]), (StatusCode::CREATED, &json!("a b/ü.mp4")));
    assert_eq!((&upload["bytes"], &upload["job"]["state"]), (&json!(700_000), &json!("queued")));
    assert_eq!(api.get(&location).await.1["id"], upload["job"]["id"]);
    assert_eq!(std::fs::read(api.studio.path("uploads/a b/ü.mp4")).unwrap(), bytes);
    let head = api.ask("HEAD", "/v1/uploads/a%20b/%C3%BC.mp4").send().await.unwrap();
    assert_eq!(
        (&head.headers()["upload-offset"], &head.headers()["upload-complete"]),
        (&"700000".parse().unwrap(), &"?1".parse().unwrap())
    );
    assert_eq!(api.ask("HEAD", "/v1/uploads/b.mp4").send().await.unwrap().status(), 404);

    let wrong = format!("sha-256=:{}:", BASE64_STANDARD.encode([0; 32]));
    let (status, problem) = read(put("b.mp4").header("repr-digest", wrong).send().await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (StatusCode::BAD_REQUEST, &json!("/problems/digest")));
    assert!(!api.studio.path("uploads/b.mp4").exists());
    let large =
        api.ask("PUT", "/v1/uploads/c.mp4").header("content-range", "bytes 0-9/1048577").body("0123456789");
    assert_eq!(read(large.send().await.unwrap()).await.0, 413);
    for name in ["..%2fx.mp4", "a%2f%2fb.mp4", "a%0ab.mp4", "a%00.mp4"] {
        assert_eq!(read(put(name).send().await.unwrap()).await.0, 400, "{name}");
    }
    let left = std::fs::read_dir(api.studio.path("data/incoming")).unwrap().count();
    assert_eq!(left, 0);
    api.stop().await;
}

#[tokio::test]
async fn an_upload_that_broke_off_goes_on_where_it_was() {
    let api = Api::start().await;
    let bytes: Vec<u8> = (0..1_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut stream = TcpStream::connect(api.address).unwrap();
    let head = "PUT /v1/uploads/a.mp4 HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&bytes[..300]).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let put = |range: &str, body: &[u8]| {
        api.ask("PUT", "/v1/uploads/a.mp4").header("content-range", range).body(body.to_vec()).send()
    };
    let (status, problem) = read(put("bytes 0-9/1000", &bytes[..10]).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (StatusCode::CONFLICT, &json!("/problems/upload-busy")));
    drop(stream);

    let offset = async || {
        let response = api.ask("HEAD", "/v1/uploads/a.mp4").send().await.unwrap();
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        (header("upload-offset"), header("upload-complete"))
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(offset().await, ("300".into(), "?0".into()));
    let response = put("bytes 400-499/1000", &bytes[400..500]).await.unwrap();
    assert_eq!(response.headers()["upload-offset"], "300");
    assert_eq!(read(response).await.1["type"], "/problems/upload-offset");
    assert_eq!(put("bytes 300-499/1001", &bytes[300..500]).await.unwrap().status(), 409);
    assert_eq!(put("bytes 300-499/1000", &bytes[300..400]).await.unwrap().status(), 400);
    let response = put("bytes 300-499/1000", &bytes[300..500]).await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["upload-offset"]),
        (StatusCode::ACCEPTED, &"500".parse().unwrap())
    );
    let response = put("bytes */1000", b"").await.unwrap();
    assert_eq!(
        (response.status(), &response.headers()["upload-offset"]),
        (StatusCode::ACCEPTED, &"500".parse().unwrap())
    );
    // Some of it again does no harm.
    let (status, upload) = read(put("bytes 400-999/1000", &bytes[400..]).await.unwrap()).await;
    assert_eq!((status, &upload["bytes"]), (StatusCode::CREATED, &json!(1_000)));
    assert_eq!(std::fs::read(api.studio.path("uploads/a.mp4")).unwrap(), bytes);
    assert_eq!(offset().await, ("1000".into(), "?1".into()));
    api.stop().await;
}

#[tokio::test]
async fn with_a_token_nothing_is_told_without_it() {
    let api = Api::with(|settings| {
        settings.api_token = Some(Token::of("sesame"));
        settings.events_token = Some(Token::of("hush"));
    })
    .await;
    for path in ["/v1/jobs", "/v1/assets", "/nothing", "/v1/jobs/x/events"] {
        let response = api.ask("GET", path).send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer realm=\"reelgate\"");
        assert_eq!(read(response).await.0, 401, "{path}");
    }
    assert_eq!(api.ask("GET", "/v1/jobs").bearer_auth("sesame").send().await.unwrap().status(), 200);
    assert_eq!(api.ask("GET", "/healthz").send().await.unwrap().text().await.unwrap(), "ok\n");
    let test = json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2014-10-13T15:57:02.089Z",
                      "Bucket": "amzn-s3-demo-bucket", "RequestId": "5582815E1AEA5ADF", "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE"});
    assert_eq!(api.post("/v1/events", &test).await.0, 401);
    assert_eq!(api.post("/v1/events?token=hush", &test).await, (StatusCode::OK, json!({"jobs": []})));
    api.stop().await;
}

#[tokio::test]
async fn without_a_token_only_this_machine_is_listened_to() {
    let api = Api::start().await;
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = http::serve(api.service.clone(), settings(api.studio.path("other")), listener).await;
    assert!(matches!(refused, Err(http::Error::Exposed(_))));
    let rebound = api.ask("GET", "/v1/jobs").header("host", "evil.example").send().await.unwrap();
    assert_eq!(read(rebound).await.0, 403);
    let forged = api.ask("POST", "/v1/events").header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(read(forged).await.0, 403);
    api.stop().await;
}

/// Answers one request after the other with these statuses, and keeps what it was asked.
async fn listen(statuses: &'static [u16]) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let all = Arc::clone(&heard);
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = String::new();
            let mut block = [0; 4096];
            while !is_complete(&request) {
                let length = stream.read(&mut block).await.unwrap();
                request.push_str(std::str::from_utf8(&block[..length]).unwrap());
            }
            all.lock().unwrap().push(request);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, heard)
}

fn is_complete(request: &str) -> bool {
    request.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length(request))
}

fn length(request: &str) -> usize {
    header(request, "content-length").map_or(0, |length| length.parse().unwrap())
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| {
        line.to_ascii_lowercase().starts_with(&format!("{name}: ")).then(|| &line[name.len() + 2..])
    })
}

async fn until(is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("it comes to that in time");
}

#[tokio::test]
async fn a_topic_is_subscribed_to_only_where_it_is_one_of_those_known() {
    let (topic, heard) = listen(&[200]).await;
    let api = Api::with(|settings| settings.topic_hosts = vec![topic.to_string()]).await;
    // The example of Amazon's documentation of SNS.
    let ask = |url: &str| {
        json!({"Type": "SubscriptionConfirmation", "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b",
               "Token": "2336412f37", "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
               "Message": "You have chosen to subscribe to the topic arn:aws:sns:us-west-2:123456789012:MyTopic.\nTo confirm the subscription, visit the SubscribeURL included in this message.",
               "SubscribeURL": url, "Timestamp": "2012-04-26T20:45:04.751Z", "SignatureVersion": "1",
               "Signature": "EXAMPLE", "SigningCertURL": "https://sns.us-west-2.amazonaws.com/SimpleNotificationService-f3ecfb7224c7233fe7bb5f59f96de52f.pem"})
    };
    let known = format!("http://{topic}/?Action=ConfirmSubscription&Token=2336412f37");
    assert_eq!(api.post("/v1/events", &ask(&known)).await.0, 200);
    assert!(heard.lock().unwrap()[0].starts_with("GET /?Action=ConfirmSubscription&Token=2336412f37 "));
    for other in ["http://127.0.0.1:1/", "https://sns.us-west-2.amazonaws.com.evil.example/"] {
        let (status, problem) = api.post("/v1/events", &ask(other)).await;
        assert_eq!((status, &problem["type"]), (StatusCode::BAD_REQUEST, &json!("/problems/message")));
    }
    assert_eq!(api.post("/v1/events", &json!({"hello": "world"})).await.0, 400);
    api.stop().await;
}

#[tokio::test]
async fn the_end_of_a_job_is_told_until_it_is_heard() {
    let (hook, heard) = listen(&[500, 200]).await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let api = Api::with(|settings| {
        settings.webhook.url = Some(format!("http://{hook}/hook?key=1").parse().unwrap());
        settings.webhook.secret = Some(webhook::Secret::of(secret));
    })
    .await;
    let id = api.job("a.mp4").await;
    api.service.jobs.next(Timestamp::now()).await.unwrap().unwrap();
    api.advance(&id, Step::Done).await;
    until(|| heard.lock().unwrap().len() == 2).await;

    let heard = heard.lock().unwrap().clone();
    let [first, second] = heard.as_slice() else { unreachable!("there are two") };
    let body = |request: &str| request.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert!(first.starts_with("POST /hook?key=1 "), "{first}");
    assert_eq!(header(first, "webhook-id"), header(second, "webhook-id"));
    assert_eq!(body(first), body(second));
    for request in [first, second] {
        let signed = [
            header(request, "webhook-id").unwrap(),
            header(request, "webhook-timestamp").unwrap(),
            &body(request),
        ]
        .join(".");
        assert_eq!(header(request, "webhook-signature").unwrap(), openssl(secret, &signed));
    }
    let event: Value = serde_json::from_str(&body(first)).unwrap();
    assert_eq!((&event["type"], &event["data"]["id"]), (&json!("job.done"), &json!(id)));
    assert_eq!(event["data"]["playlist"], "assets/a/index.m3u8");
    let timestamp: Timestamp = event["timestamp"].as_str().unwrap().parse().unwrap();
    assert!(timestamp <= Timestamp::now());
    api.stop().await;
}

/// The signature of a message, as another program says.
fn openssl(secret: &str, signed: &str) -> String {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let mut process = std::process::Command::new("openssl")
        .args(["dgst", "-sha256", "-mac", "HMAC", "-macopt", &format!("hexkey:{key}"), "-binary"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the tests need openssl");
    process.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    format!("v1,{}", BASE64_STANDARD.encode(output.stdout))
}

#[tokio::test]
async fn what_happened_before_the_process_ended_is_told_after_it() {
    let (hook, heard) = listen(&[200]).await;
    let api = Api::start().await;
    let id = api.job("a.mp4").await;
    api.running.abort();
    api.advance(&id, Step::Cancelled { reason: "nobody wants it".into() }).await;
    let mut settings = settings(api.studio.path("data"));
    settings.webhook.url = Some(format!("http://{hook}/").parse().unwrap());
    settings.webhook.secret = Some(webhook::Secret::of("any"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let again = tokio::spawn(http::serve(api.service.clone(), settings, listener));
    until(|| !heard.lock().unwrap().is_empty()).await;
    assert!(heard.lock().unwrap()[0].contains(r#""type":"job.cancelled""#));
    api.service.stop.cancel();
    again.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_webhook_has_to_be_signed() {
    let api = Api::start().await;
    let mut settings = settings(api.studio.path("other"));
    settings.webhook.url = Some("https://example.com/".parse().unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = http::serve(api.service.clone(), settings, listener).await;
    assert!(matches!(refused, Err(http::Error::Unsigned)));
    api.stop().await;
}

#[tokio::test]
async fn the_description_names_everything_and_all_that_it_names_is_there() {
    let api = Api::start().await;
    let (_, document) = api.get("/openapi.json").await;
    let mut all: Vec<String> = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        all.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    all.sort();
    assert_eq!(
        all,
        [
            "delete /v1/assets/{id}",
            "delete /v1/jobs/{id}",
            "get /healthz",
            "get /metrics",
            "get /readyz",
            "get /v1/assets",
            "get /v1/assets/{id}",
            "get /v1/assets/{id}/poster",
            "get /v1/jobs",
            "get /v1/jobs/events",
            "get /v1/jobs/{id}",
            "get /v1/jobs/{id}/events",
            "get /v1/studio",
            "head /v1/uploads/{name}",
            "post /v1/assets/{id}/rollback",
            "post /v1/events",
            "post /v1/jobs",
            "post /v1/jobs/{id}/retry",
            "post /v1/playback",
            "put /v1/uploads/{name}",
        ]
    );
    let text = document.to_string();
    let references: Vec<&str> =
        text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(references.len() > 20);
    for reference in references {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    api.stop().await;
}

#[tokio::test]
async fn what_is_counted_names_nobody() {
    let api = Api::start().await;
    let id = api.job("secret-lesson.mp4").await;
    api.service.jobs.next(Timestamp::now()).await.unwrap().unwrap();
    api.advance(&id, Step::Done).await;
    api.job("waiting.mp4").await;
    assert_eq!(api.get("/nothing/secret-lesson").await.0, 404);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let response = api.ask("GET", "/metrics").send().await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let text = response.text().await.unwrap();
    for line in [
        "reelgate_jobs{state=\"done\"} 1",
        "reelgate_jobs{state=\"queued\"} 1",
        "reelgate_jobs{state=\"failed\"} 0",
        "reelgate_jobs_started_total 1",
        "reelgate_jobs_ended_total{state=\"done\"} 1",
        "reelgate_source_bytes_total 17",
        "reelgate_http_requests_total{method=\"POST\",route=\"/v1/jobs\",status=\"202\"} 2",
        "reelgate_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    }
    assert!(!text.contains("lesson") && !text.contains(&id));
    let (status, ready) = api.get("/readyz").await;
    assert_eq!(status, 200, "{ready}");
    assert_eq!(ready["checks"][0], json!({"name": "database", "ok": true}));
    api.stop().await;
}

#[tokio::test]
async fn an_asset_goes_back_to_what_it_was_and_goes() {
    let api = Api::start().await;
    let clip = api.studio.clip("clip.mp4", "-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264");
    let mut generations = Vec::new();
    for hour in [10, 11] {
        let job = transcoder::Job {
            input: clip.clone(),
            asset: "a".parse().unwrap(),
            encoder: transcoder::encoder::Machine::Ffmpeg,
            options: Options::default(),
        };
        let now = format!("2026-11-22T{hour}:00:00Z").parse().unwrap();
        let published =
            transcoder::encode(&job, &api.service.store, now, &(), &CancellationToken::new()).await;
        generations.push(published.unwrap().generation.to_string());
    }
    let (_, page) = api.get("/v1/assets").await;
    let [short] = page["assets"].as_array().unwrap().as_slice() else { panic!("{page}") };
    assert_eq!((&short["asset"], &page["next"]), (&json!("a"), &Value::Null));
    assert_eq!(
        (&short["generation"], &short["created"]),
        (&json!(generations[1]), &json!("2026-11-22T11:00:00Z"))
    );
    assert_eq!(
        (&short["width"], &short["height"], &short["encrypted"]),
        (&json!(64), &json!(64), &json!(false))
    );
    assert_eq!(
        (short["duration"].as_f64(), short["renditions"][0]["kind"].as_str()),
        (Some(1.0), Some("video"))
    );
    assert!(short["bytes"].as_u64().unwrap() > 1_000 && short.get("commands").is_none(), "{short}");
    let poster = api.ask("GET", "/v1/assets/a/poster").send().await.unwrap();
    assert_eq!(
        (short["poster"].as_bool(), &poster.headers()["content-type"]),
        (Some(true), &"image/jpeg".parse().unwrap())
    );
    assert_eq!(poster.headers()["cache-control"], "private, no-cache");
    let etag = poster.headers()["etag"].clone();
    let stored = api.studio.path("media/assets/a").join(&generations[1]).join("poster.jpg");
    assert_eq!(poster.bytes().await.unwrap(), std::fs::read(stored).unwrap());
    let again = async |etag| {
        api.ask("GET", "/v1/assets/a/poster").header("if-none-match", etag).send().await.unwrap().status()
    };
    assert_eq!(again(etag.clone()).await, 304);
    let played = async || {
        let (_, asset) = api.get("/v1/assets/a").await;
        let all = asset["generations"].as_array().unwrap().clone();
        assert_eq!(all.len(), 2);
        let played: Vec<_> = all.iter().filter(|one| one["is_played"] == true).collect();
        assert_eq!((played.len(), asset["playlist"].as_str().unwrap()), (1, "assets/a/index.m3u8"));
        played[0]["generation"].as_str().unwrap().to_owned()
    };
    assert_eq!(played().await, generations[1]);
    assert_eq!(api.post("/v1/assets/a/rollback", &json!({})).await.0, 200);
    assert_eq!(played().await, generations[0]);
    assert_eq!(again(etag).await, 200, "another one is played");
    assert_eq!(api.post("/v1/assets/a/rollback", &json!({})).await.0, 409);
    let to = json!({"generation": generations[1]});
    assert_eq!(api.post("/v1/assets/a/rollback", &to).await.0, 200);
    assert_eq!(played().await, generations[1]);
    for (wrong, expected) in [
        (json!({"generation": "../../b"}), 422),
        (json!({"generations": 1}), 422),
        (json!({"generation": "20261122t120000z-00000001"}), 409),
    ] {
        assert_eq!(api.post("/v1/assets/a/rollback", &wrong).await.0, expected, "{wrong}");
    }
    assert_eq!(api.post("/v1/assets/b/rollback", &json!({})).await.0, 404);
    assert_eq!(api.ask("DELETE", "/v1/assets/a").send().await.unwrap().status(), 204);
    assert_eq!(read(api.ask("DELETE", "/v1/assets/a").send().await.unwrap()).await.0, 404);
    assert_eq!(api.get("/v1/assets/a").await.0, 404);
    assert_eq!(api.get("/v1/assets/a/poster").await.0, 404);
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_asks_for_nothing_is_closed() {
    let api = Api::start().await;
    let mut stream = TcpStream::connect(api.address).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx-slow: ").unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let mut answer = Vec::new();
    // It is closed, or answered with 408; but not waited for.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    api.stop().await;
}

#[tokio::test]
async fn a_database_that_cannot_be_written_to_makes_the_service_unready() {
    let api = Api::start().await;
    let path = api.studio.path("jobs.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let other = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
    assert_eq!(api.get("/v1/jobs").await.0, 200, "it can be read");
    let (status, problem) = api.get("/readyz").await;
    assert_eq!((status, &problem["type"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("/problems/unready")));
    assert_eq!(problem["checks"][0], json!({"name": "database", "ok": false}));
    drop(other);
    api.stop().await;
}
