//! What is said of uploads and of encodes by others, in whichever of their shapes.
//!
//! S3 says it directly ([message structure]), through a topic of SNS, or through `EventBridge`; `MinIO`, nearly as S3;
//! R2 in its own way ([event notifications]), and a consumer of its queue many at once. The same door takes all of
//! them, because what they have to say is one thing: look there.
//!
//! [message structure]: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
//! [event notifications]: https://developers.cloudflare.com/r2/buckets/event-notifications/

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use url::{Host, Url};

/// The most bytes a message may have. A queue of AWS takes 1 MiB, one of Cloudflare 128 kB.
pub const LONGEST: usize = 1 << 20;

/// A message in an envelope in a batch is three deep.
const DEEPEST: u8 = 3;

/// One thing that was said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Look at this object: it was put there. (Keys are decoded.)
    Object {
        /// Of which bucket.
        bucket: String,
        /// Which.
        key: String,
    },
    /// Look at this job of `MediaConvert`: it changed.
    MediaConvert {
        /// Which.
        job: String,
    },
    /// An SNS topic asks whether messages are wanted; by loading this URL they are.
    Subscription {
        /// To be loaded, if it is one of Amazon's.
        url: String,
    },
    /// Nothing to do: a test, a deletion. Said in words, for a log.
    Nothing(String),
}

/// All that a message says.
///
/// Of several things in one message those that are understood are returned, if there is any.
pub fn parse(message: &[u8]) -> Result<Vec<Event>, Error> {
    if message.len() > LONGEST {
        return refuse(format!("it has {} bytes, of {LONGEST} at most", message.len()));
    }
    said_by(&json(message)?, DEEPEST)
}

/// JSON, or JSON in Base64, as Cloudflare hands out what was put into a queue as JSON.
fn json(message: &[u8]) -> Result<Value, Error> {
    let error = match serde_json::from_slice(message) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let decoded = STANDARD.decode(message.trim_ascii()).ok();
    let value = decoded.and_then(|decoded| serde_json::from_slice(&decoded).ok());
    value.ok_or_else(|| Error(format!("it is not JSON ({error})")))
}

fn said_by(value: &Value, depth: u8) -> Result<Vec<Event>, Error> {
    let Some(depth) = depth.checked_sub(1) else { return refuse("it is nested too deep") };
    let message = match value {
        Value::Array(messages) => return all(messages, |message| said_by(body(message)?.as_ref(), depth)),
        Value::Object(message) => message,
        _ => return refuse("it is no object"),
    };
    if let Some(records) = message.get("Records") {
        let Value::Array(records) = records else { return refuse("`Records` is no list") };
        if !records.is_empty() {
            return all(records, |record| Ok(vec![record_of_s3(record)?]));
        }
    }
    if let Some(Value::Array(messages)) = message.get("messages") {
        return all(messages, |message| said_by(body(message)?.as_ref(), depth));
    }
    if let Some(kind) = text(message, "Type") {
        return envelope_of_sns(kind, message, depth);
    }
    let event = if message.contains_key("detail-type") {
        event_of_eventbridge(message)
    } else if message.contains_key("action") {
        event_of_r2(message)
    } else if let Some(name) = text(message, "EventName") {
        event_of_minio(name, message)
    } else if text(message, "Event") == Some("s3:TestEvent") {
        Ok(Event::Nothing("a test of a bucket's notifications".into()))
    } else if message.contains_key("Records") {
        Ok(Event::Nothing("a message without records".into()))
    } else {
        refuse("it has none of the fields by which they are known")
    };
    Ok(vec![event?])
}

/// What several things say. One that is not understood does not keep the others from being heard.
fn all(parts: &[Value], read: impl Fn(&Value) -> Result<Vec<Event>, Error>) -> Result<Vec<Event>, Error> {
    if parts.is_empty() {
        return Ok(vec![Event::Nothing("an empty list of messages".into())]);
    }
    let mut events = Vec::new();
    let mut refused = None;
    for part in parts {
        match read(part) {
            Ok(said) => events.extend(said),
            Err(error) => {
                events.push(Event::Nothing(format!("a part that was not understood: {}", error.0)));
                refused.get_or_insert(error);
            }
        }
    }
    match refused {
        Some(error) if events.iter().all(|event| matches!(event, Event::Nothing(_))) => Err(error),
        _ => Ok(events),
    }
}

/// What a queue's message holds, if it is one that a consumer passed on as it got it.
fn body(message: &Value) -> Result<Cow<'_, Value>, Error> {
    match message.get("body").unwrap_or(message) {
        Value::String(text) => json(text.as_bytes()).map(Cow::Owned),
        value => Ok(Cow::Borrowed(value)),
    }
}

fn record_of_s3(record: &Value) -> Result<Event, Error> {
    let source = string(record, &["eventSource"]);
    if !source.is_some_and(|source| source.ends_with(":s3")) {
        return refuse(format!("a record's `eventSource` is {}", shown(source)));
    }
    // "A difference in the major version is a change that breaks"; minor ones come and go.
    let version = string(record, &["eventVersion"]);
    if version.is_some_and(|version| version.split('.').next() != Some("2")) {
        return refuse(format!(
            "a record's `eventVersion` is {}, of which only 2.x is known",
            shown(version)
        ));
    }
    let Some(name) = string(record, &["eventName"]) else { return refuse("a record has no `eventName`") };
    let name = name.strip_prefix("s3:").unwrap_or(name);
    if !name.starts_with("ObjectCreated:") {
        return Ok(Event::Nothing(format!("`{}` of a bucket", shown(Some(name)))));
    }
    let bucket = string(record, &["s3", "bucket", "name"]);
    let key = string(record, &["s3", "object", "key"]);
    let (Some(bucket), Some(key)) = (bucket, key) else { return refuse("a record names no bucket and key") };
    Ok(Event::Object { bucket: bucket.to_owned(), key: form_decoded(key)? })
}

/// A key in a notification of S3 is encoded as a form's field is.
fn form_decoded(key: &str) -> Result<String, Error> {
    // Pluses first: what is a plus afterwards was `%2B`.
    let spaced = key.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| Error("a key is not UTF-8".into()))
}

fn envelope_of_sns(kind: &str, envelope: &Map<String, Value>, depth: u8) -> Result<Vec<Event>, Error> {
    match kind {
        "Notification" => {
            let Some(message) = text(envelope, "Message") else { return refuse("it has no `Message`") };
            let message = json(message.as_bytes())?;
            if string(&message, &["Type"]).is_some() {
                return refuse("an envelope of SNS in another");
            }
            said_by(&message, depth)
        }
        "SubscriptionConfirmation" => {
            let Some(url) = text(envelope, "SubscribeURL") else { return refuse("it has no `SubscribeURL`") };
            Ok(vec![Event::Subscription { url: url.to_owned() }])
        }
        "UnsubscribeConfirmation" => Ok(vec![Event::Nothing("a subscription that ends".into())]),
        _ => refuse(format!("its `Type` is {}", shown(Some(kind)))),
    }
}

/// Whether a URL is `https://sns.<region>.amazonaws.com/` or the same in China.
pub(crate) fn is_of_sns(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return false };
    let Some(Host::Domain(host)) = url.host() else { return false };
    let region = host.strip_prefix("sns.").and_then(|host| {
        host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))
    });
    let is_region = |region: &str| region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let is_plain = url.port().is_none() && url.username().is_empty() && url.password().is_none();
    url.scheme() == "https" && is_plain && region.is_some_and(is_region)
}

fn event_of_eventbridge(event: &Map<String, Value>) -> Result<Event, Error> {
    let detail = event.get("detail").unwrap_or(&Value::Null);
    let kind = text(event, "detail-type").unwrap_or_default();
    match (text(event, "source"), kind) {
        (Some("aws.s3"), "Object Created") => {
            // Here keys are as they are.
            let bucket = string(detail, &["bucket", "name"]);
            let key = string(detail, &["object", "key"]);
            let (Some(bucket), Some(key)) = (bucket, key) else {
                return refuse("it names no bucket and key");
            };
            Ok(Event::Object { bucket: bucket.to_owned(), key: key.to_owned() })
        }
        (Some("aws.s3"), _) => Ok(Event::Nothing(format!("`{}` of a bucket", shown(Some(kind))))),
        (Some("aws.mediaconvert"), "MediaConvert Job State Change") => {
            let is_id = |id: &&str| {
                let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
                matches!(id.len(), 1..=100) && id.bytes().all(is_allowed)
            };
            let job = string(detail, &["jobId"]).filter(is_id);
            job.map(|job| Event::MediaConvert { job: job.to_owned() })
                .ok_or_else(|| Error("it names no job of MediaConvert".into()))
        }
        (source, _) => refuse(format!("it is {} of {} by EventBridge", shown(Some(kind)), shown(source))),
    }
}

fn event_of_r2(message: &Map<String, Value>) -> Result<Event, Error> {
    let action = text(message, "action");
    match action {
        Some("PutObject" | "CopyObject" | "CompleteMultipartUpload") => {
            let key = message.get("object").and_then(|object| string(object, &["key"]));
            let (Some(bucket), Some(key)) = (text(message, "bucket"), key) else {
                return refuse("it names no bucket and key");
            };
            Ok(Event::Object { bucket: bucket.to_owned(), key: key.to_owned() })
        }
        Some("DeleteObject" | "LifecycleDeletion") => {
            Ok(Event::Nothing("a deletion in a bucket of R2".into()))
        }
        _ => refuse(format!("its `action` is {}", shown(action))),
    }
}

/// As `MinIO` says it where it gives no records: `Key` is bucket and key, not encoded.
fn event_of_minio(name: &str, message: &Map<String, Value>) -> Result<Event, Error> {
    let name = name.strip_prefix("s3:").unwrap_or(name);
    if !name.starts_with("ObjectCreated:") {
        return Ok(Event::Nothing(format!("`{}` of a bucket", shown(Some(name)))));
    }
    match text(message, "Key").and_then(|path| path.split_once('/')) {
        Some((bucket, key)) => Ok(Event::Object { bucket: bucket.to_owned(), key: key.to_owned() }),
        None => refuse("its `Key` is not bucket/key"),
    }
}

fn text<'a>(object: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    object.get(field)?.as_str()
}

fn string<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(value, |value, field| value.get(field))?.as_str()
}

/// What somebody else wrote, for a log.
fn shown(text: Option<&str>) -> String {
    text.map_or_else(|| "missing".into(), |text| text.chars().take(60).flat_map(char::escape_debug).collect())
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Error> {
    Err(Error(reason.into()))
}

/// A message that is none of those known.
#[derive(Debug, thiserror::Error)]
#[error("not a notification of S3, SNS, EventBridge, R2, MinIO or MediaConvert: {0}")]
pub struct Error(pub String);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// AWS, "Event message structure".
    const S3: &str = r#"{"Records":[{"eventVersion":"2.5","eventSource":"aws:s3","awsRegion":"us-west-2",
        "eventTime":"1970-01-01T00:00:00.000Z","eventName":"ObjectCreated:Put","userIdentity":{"principalId":"A"},
        "requestParameters":{"sourceIPAddress":"127.0.0.1"},"s3":{"s3SchemaVersion":"1.0","configurationId":"n1",
        "bucket":{"name":"uploads","ownerIdentity":{"principalId":"A3"},"arn":"arn:aws:s3:::uploads"},
        "object":{"key":"in/My+Video+%2B+%281%29+%C3%A9%25.mp4","size":10,"eTag":"3363","sequencer":"0055AED6DC"}}}]}"#;

    /// A real one, of a multipart upload.
    const EVENTBRIDGE: &str = r#"{"version":"0","id":"c9888434","detail-type":"Object Created","source":"aws.s3",
        "account":"123456789012","time":"2023-08-09T13:09:50Z","region":"eu-west-1","resources":["arn:aws:s3:::uploads"],
        "detail":{"version":"0","bucket":{"name":"uploads"},"object":{"key":"raw/My Video+%.mp4","size":198524144,
        "etag":"4af9-12","version-id":"uhgg","sequencer":"0064D3901D00059242"},"request-id":"R","requester":"123",
        "reason":"CompleteMultipartUpload"}}"#;

    /// Cloudflare, "Event notifications".
    const R2: &str = r#"{"account":"3f4b7e3dcab231cbfdaa90a6a28bd548","action":"CopyObject","bucket":"my-bucket",
        "object":{"key":"my-new-object","size":65536,"eTag":"c846ff7a18f28c2e262116d6e8719ef0"},
        "eventTime":"2024-05-24T19:36:44.379Z","copySource":{"bucket":"my-bucket","object":"my-original-object"}}"#;

    /// AWS, "MediaConvert Job State Change".
    const MEDIACONVERT: &str = r#"{"version":"0","id":"1234abcd","detail-type":"MediaConvert Job State Change",
        "source":"aws.mediaconvert","account":"111122223333","time":"2018-09-14T21:54:31Z","region":"us-west-2",
        "resources":["arn:aws:mediaconvert:us-west-2:111122223333:jobs/1536961999428-kxngbl"],
        "detail":{"timestamp":1536964380391,"jobId":"1536964333549-opn151","status":"COMPLETE","userMetadata":{}}}"#;

    fn said(message: &str) -> Vec<Event> {
        parse(message.as_bytes()).unwrap()
    }

    fn object(bucket: &str, key: &str) -> Event {
        Event::Object { bucket: bucket.into(), key: key.into() }
    }

    fn in_sns(message: &str) -> String {
        json!({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:1:t",
               "Subject": "Amazon S3 Notification", "Message": message, "SignatureVersion": "1"})
        .to_string()
    }

    #[test]
    fn every_way_to_say_that_something_was_put_comes_to_the_same() {
        let uploaded = object("uploads", "in/My Video + (1) é%.mp4");
        assert_eq!(said(S3), std::slice::from_ref(&uploaded));
        assert_eq!(said(&in_sns(S3)), std::slice::from_ref(&uploaded));
        assert_eq!(said(&S3.replace("\"2.5\"", "\"2.99\"")), std::slice::from_ref(&uploaded));
        // As moto encodes it.
        assert_eq!(said(&S3.replace("in/", "in%2F")), std::slice::from_ref(&uploaded));
        assert_eq!(said(EVENTBRIDGE), [object("uploads", "raw/My Video+%.mp4")]);
        assert_eq!(said(&EVENTBRIDGE.replace("etag", "eTag")), [object("uploads", "raw/My Video+%.mp4")]);
        let copied = object("my-bucket", "my-new-object");
        assert_eq!(said(R2), std::slice::from_ref(&copied));
        let encoded = STANDARD.encode(R2);
        assert_eq!(said(&encoded), std::slice::from_ref(&copied));
        let batch = json!({"messages": [{"id": "1", "body": R2}, {"body": encoded}, {"body": serde_json::from_str::<Value>(R2).unwrap()}]});
        assert_eq!(said(&batch.to_string()), [copied.clone(), copied.clone(), copied.clone()]);
        assert_eq!(said(&format!("[{R2},{S3}]")), [copied, uploaded]);
    }

    #[test]
    fn minio_says_it_as_s3_and_in_short() {
        let full = S3.replace("aws:s3", "minio:s3").replace("ObjectCreated", "s3:ObjectCreated");
        let full = full.replacen('{', r#"{"EventName":"s3:ObjectCreated:Put","Key":"uploads/in/x.mp4","#, 1);
        assert_eq!(said(&full), [object("uploads", "in/My Video + (1) é%.mp4")]);
        let short = r#"{"EventName":"s3:ObjectCreated:CompleteMultipartUpload","Key":"uploads/in/a+b.mp4"}"#;
        assert_eq!(said(short), [object("uploads", "in/a+b.mp4")]);
        assert!(matches!(said(&short.replace("Created", "Removed"))[..], [Event::Nothing(_)]));
    }

    #[test]
    fn every_record_of_a_message_counts_and_a_bad_one_does_not_cost_the_others() {
        let record = &S3["{\"Records\":[".len()..S3.len() - 2];
        let other = record.replace("in%2F", "").replace("My+Video", "Other");
        let bad = record.replace("%C3%A9", "%C3");
        let events = said(&format!("{{\"Records\":[{record},{bad},{other}]}}"));
        assert_eq!(events[0], object("uploads", "in/My Video + (1) é%.mp4"));
        assert!(matches!(&events[1], Event::Nothing(why) if why.contains("a key is not UTF-8")));
        assert_eq!(events[2], object("uploads", "in/Other + (1) é%.mp4"));
        assert!(parse(format!("{{\"Records\":[{bad}]}}").as_bytes()).is_err());
    }

    #[test]
    fn tests_and_deletions_are_nothing_to_do() {
        let test = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Time":"2014-10-13T15:57:02.089Z",
            "Bucket":"uploads","RequestId":"5582815E1AEA5ADF","HostId":"8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR"}"#;
        let deletion =
            r#"{"account":"3f4b","action":"DeleteObject","bucket":"b","object":{"key":"k"},"eventTime":"t"}"#;
        for message in [
            test,
            &in_sns(test),
            deletion,
            &S3.replace("ObjectCreated:Put", "ObjectRemoved:Delete"),
            &S3.replace("ObjectCreated:Put", "LifecycleExpiration:Delete"),
            &EVENTBRIDGE.replace("Object Created", "Object Deleted"),
            r#"{"Records":[]}"#,
            "[]",
            r#"{"messages":[]}"#,
            r#"{"Type":"UnsubscribeConfirmation","Message":"x"}"#,
        ] {
            assert!(matches!(said(message)[..], [Event::Nothing(_)]), "{message}");
        }
    }

    #[test]
    fn mediaconvert_names_its_job() {
        let changed = Event::MediaConvert { job: "1536964333549-opn151".into() };
        assert_eq!(said(MEDIACONVERT), std::slice::from_ref(&changed));
        assert_eq!(said(&in_sns(MEDIACONVERT)), [changed]);
        assert!(parse(MEDIACONVERT.replace("1536964333549-opn151", "../x").as_bytes()).is_err());
    }

    #[test]
    fn a_subscription_names_an_address_of_amazon_or_of_somebody_else() {
        let confirmation =
            |url: &str| json!({"Type": "SubscriptionConfirmation", "SubscribeURL": url}).to_string();
        for good in [
            "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f37",
            "https://sns.cn-north-1.amazonaws.com.cn/?Action=ConfirmSubscription",
        ] {
            assert_eq!(said(&confirmation(good)), [Event::Subscription { url: good.into() }]);
            assert!(is_of_sns(good), "{good}");
        }
        for bad in [
            "http://sns.us-west-2.amazonaws.com/",
            "https://sns.us-west-2.amazonaws.com.evil.example/",
            "https://evil.example/sns.us-west-2.amazonaws.com",
            "https://sns.us-west-2.amazonaws.com@evil.example/",
            "https://sns.us-west-2.amazonaws.com:8443/",
            "https://s3.amazonaws.com/bucket/",
            "https://sns.evil.s3.amazonaws.com/",
            "https://169.254.169.254/",
            "file:///etc/passwd",
            "",
        ] {
            assert!(!is_of_sns(bad), "{bad}");
        }
    }

    #[test]
    fn junk_is_refused_with_a_reason() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let nested = in_sns(&in_sns(S3));
        for (junk, reason) in [
            ("", "it is not JSON"),
            ("hello", "it is not JSON"),
            ("null", "it is no object"),
            ("{}", "it has none of the fields"),
            (r#"{"Records":{}}"#, "`Records` is no list"),
            (r#"{"Records":[{"eventSource":"aws:kinesis"}]}"#, "`eventSource` is aws:kinesis"),
            (&S3.replace("\"2.5\"", "\"3.0\""), "of which only 2.x is known"),
            (&nested, "an envelope of SNS in another"),
            ("[[[[[]]]]]", "nested too deep"),
            (&deep, "it is not JSON"),
            (&EVENTBRIDGE.replace("aws.s3", "aws.ec2"), "by EventBridge"),
            (r#"{"action":"Explode"}"#, "its `action` is Explode"),
            (&" ".repeat(LONGEST + 1), "of 1048576 at most"),
        ] {
            let error = parse(junk.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn whatever_becomes_of_a_message_on_its_way_it_is_read_or_refused() {
        // Numerical Recipes' generator: the same mutations every time.
        let mut state = 2_026_u32;
        let mut random = |below: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as usize % below
        };
        let sns = in_sns(S3);
        for message in [S3, EVENTBRIDGE, R2, MEDIACONVERT, &sns, &STANDARD.encode(S3)] {
            for _ in 0..3_000 {
                let mut mutated = message.as_bytes().to_vec();
                for _ in 0..=random(4) {
                    let at = random(mutated.len());
                    match random(4) {
                        0 => mutated[at] = u8::try_from(random(256)).unwrap(),
                        1 => mutated.truncate(at.max(1)),
                        2 => drop(mutated.splice(at..at, *b"\"{[%+")),
                        _ => drop(mutated.drain(at..(at + random(40)).min(mutated.len()).max(at + 1))),
                    }
                    if mutated.is_empty() {
                        mutated.push(b'{');
                    }
                }
                let _ = parse(&mutated);
            }
        }
    }
}
