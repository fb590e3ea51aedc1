//! Requests to AWS and to what speaks its language, signed ([Signature Version 4]).
//!
//! Of it, what reading objects takes: no body, no query, the signature in a header, where it is in nobody's log. A library
//! for all of it (aws-sigv4, rusty-s3) is 50 to 130 KB of WebAssembly, gzipped, of the 200 that the Worker may have; this
//! is 2.
//!
//! [Signature Version 4]: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

use std::fmt::{self, Write};
use std::sync::Mutex;

use hmac::{Hmac, Mac};
use jiff::Timestamp;
use jiff::tz::Offset;
use sha2::{Digest, Sha256};

/// The SHA-256 of nothing, which is what a request to read has for a body.
pub(crate) const NO_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Who signs, and for where.
pub(crate) struct Signer {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    region: String,
    /// The key that is derived from the secret for each day.
    derived: Mutex<Option<(String, [u8; 32])>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Signer {
    pub(crate) fn new(
        access_key_id: String,
        secret_access_key: String,
        session_token: Option<String>,
        region: String,
    ) -> Self {
        Self { access_key_id, secret_access_key, session_token, region, derived: Mutex::default() }
    }

    /// What has to be sent along by whoever was lent their credentials.
    pub(crate) fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// The `Authorization` of a request to S3. `path` is percent-encoded, once; `headers` are in the order of their names,
    /// which are in lower case. They have to be sent as they are here, `x-amz-date` and `x-amz-content-sha256` among them.
    pub(crate) fn authorization(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        time: &Time,
    ) -> String {
        let mut canonical = format!("{method}\n{path}\n\n");
        let mut names = String::new();
        for (name, value) in headers {
            canonical.extend([name, ":", value.trim(), "\n"]);
            names.extend([if names.is_empty() { "" } else { ";" }, name]);
        }
        canonical.extend(["\n", &names, "\n", NO_BODY]);

        let scope = format!("{}/{}/s3/aws4_request", time.day(), self.region);
        let digest = hex(&Sha256::digest(canonical));
        let to_sign = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{digest}", time.0);
        let signature = hex(&hmac(&self.key(time.day()), to_sign.as_bytes()));
        let Self { access_key_id, .. } = self;
        format!(
            "AWS4-HMAC-SHA256 Credential={access_key_id}/{scope},SignedHeaders={names},Signature={signature}"
        )
    }

    /// The key of a day, derived once.
    fn key(&self, day: &str) -> [u8; 32] {
        let derive = || {
            let secret = format!("AWS4{}", self.secret_access_key);
            [day, &self.region, "s3", "aws4_request"]
                .iter()
                .fold(Vec::from(secret), |key, part| hmac(&key, part.as_bytes()).to_vec())
                .try_into()
                .unwrap_or_default()
        };
        // Nobody panics with it in hand; and one that is not remembered is derived again.
        let Ok(mut derived) = self.derived.lock() else { return derive() };
        match &*derived {
            Some((of, key)) if of == day => *key,
            _ => derived.insert((day.to_owned(), derive())).1,
        }
    }
}

/// A time as AWS writes it, `20130524T000000Z`.
pub(crate) struct Time(String);

impl Time {
    /// Of Unix seconds. Those beyond jiff's years, to the year 9999, are as good as none.
    pub(crate) fn of(seconds: u64) -> Self {
        let timestamp = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let at = Offset::UTC.to_datetime(timestamp.unwrap_or_default());
        let (year, month, day) = (at.year(), at.month(), at.day());
        let (hour, minute, second) = (at.hour(), at.minute(), at.second());
        Self(format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    fn day(&self) -> &str {
        self.0.get(..8).unwrap_or_default()
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // It takes keys of any length.
    Hmac::<Sha256>::new_from_slice(key)
        .map(|mut mac| {
            mac.update(message);
            mac.finalize().into_bytes().into()
        })
        .unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // A `String` takes all that is written into it.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Signer {
        Signer::new(
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            None,
            "us-east-1".to_owned(),
        )
    }

    /// The first is [AWS's own example][example] of a GET. The second is by botocore: another method, a path with all that
    /// is escaped, a token; and so is the third, of the day after.
    ///
    /// [example]: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
    #[test]
    fn requests_are_signed_as_aws_and_botocore_sign_them() {
        let signer = example();
        let signature = |method, path, seconds, headers: &[(&str, &str)]| {
            let authorization = signer.authorization(method, path, headers, &Time::of(seconds));
            let (rest, signature) = authorization.rsplit_once(",Signature=").unwrap();
            (rest.to_owned(), signature.to_owned())
        };
        assert_eq!(
            signature(
                "GET",
                "/test.txt",
                1_369_353_600,
                &[
                    ("host", "examplebucket.s3.amazonaws.com"),
                    ("range", "bytes=0-9"),
                    ("x-amz-content-sha256", NO_BODY),
                    ("x-amz-date", "20130524T000000Z"),
                ]
            ),
            (
                "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
                 SignedHeaders=host;range;x-amz-content-sha256;x-amz-date"
                    .to_owned(),
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41".to_owned()
            )
        );
        let headers = |date: &'static str| {
            [
                ("host", "127.0.0.1:9000"),
                ("x-amz-content-sha256", NO_BODY),
                ("x-amz-date", date),
                ("x-amz-security-token", "tok/en+="),
            ]
        };
        for (seconds, date, expected) in [
            (
                1_369_353_600,
                "20130524T000000Z",
                "5156a0bab272051fe02abf9666d7919ffbaf3036821c985fef24b9482969381b",
            ),
            (
                1_369_440_001,
                "20130525T000001Z",
                "50a36c3ddd8147bf35490642c10dd0e03d5676598a999bc787b1e29faca8b3f1",
            ),
        ] {
            let path = "/media/a%20b/%C3%A9%2B%25.m4s";
            assert_eq!(signature("HEAD", path, seconds, &headers(date)).1, expected);
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let token = Some("SECRET-TOKEN".to_owned());
        let signer = Signer::new("AKID".to_owned(), "SECRET".to_owned(), token, "eu-west-1".to_owned());
        signer.authorization("GET", "/", &[], &Time::of(0));
        assert_eq!(format!("{signer:?}"), "Signer { region: \"eu-west-1\", .. }");
    }

    #[test]
    fn a_time_is_written_as_aws_writes_it() {
        // By `date -u -d @… +%Y%m%dT%H%M%SZ`.
        for (seconds, written) in [
            (0, "19700101T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (1_709_251_199, "20240229T235959Z"),
            (4_102_444_801, "21000101T000001Z"),
        ] {
            assert_eq!(Time::of(seconds).as_str(), written);
        }
    }
}
