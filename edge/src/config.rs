//! What the operator set, checked once, all problems at a time.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;

use crate::caching::Lifetimes;
use crate::cors::{self, Origins};
use crate::key_group::KeyGroup;
use crate::link::Host;
use crate::object_key::ObjectKey;
use crate::policy::{Dialect, glob};
use crate::s3;
use crate::ticket::Tickets;

/// A configuration that can be served by.
#[derive(Debug)]
pub struct Config {
    /// Whose signatures open the gate.
    pub keys: KeyGroup,
    /// How signatures are read.
    pub dialect: Dialect,
    /// Which pages may read answers.
    pub origins: Origins,
    /// Hosts, besides the one that is asked, that links may carry authority to.
    pub own_hosts: Arc<[Host]>,
    /// Patterns of the paths that need no signature.
    public_paths: Vec<String>,
    /// How sessions are carried on, if they are.
    pub tickets: Option<Tickets>,
    /// Where objects are.
    pub store: Store,
    /// How long a store is waited for, in seconds.
    pub patience: u32,
    /// How long objects are kept near their viewers.
    pub lifetimes: Lifetimes,
    /// Of so many requests that were answered, one is in the log; none for 0.
    pub log_one_in: u32,
    explain_token: Option<String>,
}

/// Where objects are.
#[derive(Debug)]
pub enum Store {
    /// In the bucket that is bound as [`BUCKET`].
    R2,
    /// In a bucket of S3's, or of what speaks its language.
    S3(Box<s3::Bucket>),
}

/// The binding of an R2 bucket.
pub const BUCKET: &str = "MEDIA";

/// The binding of a dataset of Workers Analytics Engine.
pub const DATASET: &str = "ANALYTICS";

/// The parameters that players are known to add: those of CTA-5004, and the directives of RFC 8216bis.
const PLAYERS: &str = "CMCD*,_HLS_*";

/// The longest that anything lasts that is set here, in seconds: a year.
const LONGEST: u32 = 366 * 24 * 3600;

impl Config {
    /// Reads the settings, each by its name; `setting` says `None` for what is not set.
    pub fn read(setting: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut settings = Settings { setting, problems: Vec::new() };
        let keys = match settings.text("TRUSTED_KEYS") {
            Some(json) => KeyGroup::parse(&json),
            None => Err(vec!["is not set; `transcoder keygen` prints a value for it".to_owned()]),
        };
        let keys =
            keys.map_err(|wrong| wrong.iter().for_each(|problem| settings.wrong("TRUSTED_KEYS", problem)));
        let dialect = Dialect {
            strict: settings.switch("STRICT_AWS"),
            forbids_sha1: settings.switch("FORBID_SHA1"),
            suffix: settings.text("PARAM_SUFFIX").unwrap_or(Dialect::default().suffix),
            players: match settings.text("PLAYER_PARAMS").as_deref() {
                None | Some("off" | "false" | "0") => Vec::new(),
                Some("on" | "true" | "1") => list(PLAYERS),
                Some(names) => list(names),
            },
        };
        let own_hosts = settings.list("OWN_HOSTS", |host| {
            Host::parse(host.as_bytes()).ok_or("is no host, like cdn.example.com or cdn.example.com:8443")
        });
        let public_paths = settings.list("PUBLIC_PATHS", public_path);
        let origins = match settings.text("CORS_ORIGINS").as_deref() {
            None | Some("*") => Origins::All,
            Some(_) => Origins::These(settings.list("CORS_ORIGINS", cors::parse)),
        };
        let tickets = settings.tickets();
        let store = settings.store();
        let patience = settings.number("ORIGIN_SECONDS", 1..=600, 10);
        let lifetimes = Lifetimes {
            segments: settings.number("SEGMENT_CACHE_SECONDS", 0..=LONGEST, 24 * 3600).into(),
            documents: settings.number("PLAYLIST_CACHE_SECONDS", 0..=LONGEST, 2).into(),
        };
        let log_one_in = settings.number("LOG_ONE_IN", 0..=u32::MAX, 100);
        if settings.text(DATASET).is_some() && !settings.is_bound(DATASET) {
            settings.wrong(
                DATASET,
                "is a text; bind a dataset to it by [[analytics_engine_datasets]] in wrangler.toml",
            );
        }
        let explain_token = settings.text("EXPLAIN_TOKEN");
        if explain_token.as_ref().is_some_and(|token| token.len() < 16) {
            settings.wrong("EXPLAIN_TOKEN", "is too short to be a secret; it takes 16 characters");
        } else if explain_token.as_ref().is_some_and(|token| token.contains(char::is_control)) {
            settings.wrong("EXPLAIN_TOKEN", "has a line break in it, or the like, which no header can");
        }
        match (keys, store) {
            (Ok(keys), Some(store)) if settings.problems.is_empty() => Ok(Self {
                keys,
                dialect,
                origins,
                own_hosts: own_hosts.into(),
                public_paths,
                tickets,
                store,
                patience,
                lifetimes,
                log_one_in,
                explain_token,
            }),
            _ => Err(ConfigError(settings.problems)),
        }
    }

    /// Whether `key` is for everybody.
    #[must_use]
    pub fn is_public(&self, key: &ObjectKey) -> bool {
        let path = format!("/{key}");
        self.public_paths.iter().any(|pattern| glob(pattern, &path))
    }

    /// Whether there is an operator to be told anything.
    #[must_use]
    pub fn has_operator(&self) -> bool {
        self.explain_token.is_some()
    }

    /// Whether `token` is the operator's. Takes as long for a wrong one of the same length, wherever it is wrong.
    #[must_use]
    pub fn explains_to(&self, token: &[u8]) -> bool {
        self.explain_token.as_ref().is_some_and(|ours| ours.as_bytes().ct_eq(token).into())
    }
}

/// The settings while they are read.
struct Settings<F> {
    setting: F,
    problems: Vec<String>,
}

impl<F: Fn(&str) -> Option<String>> Settings<F> {
    fn wrong(&mut self, name: &str, problem: &str) {
        self.problems.push(format!("{name} {problem}"));
    }

    /// What is empty is not set.
    fn text(&self, name: &str) -> Option<String> {
        (self.setting)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Whether something is bound to a name: bindings are objects, and variables texts.
    fn is_bound(&self, name: &str) -> bool {
        self.text(name).is_some_and(|binding| binding.starts_with('{'))
    }

    fn switch(&mut self, name: &str) -> bool {
        match self.text(name).as_deref() {
            None | Some("off" | "false" | "0") => false,
            Some("on" | "true" | "1") => true,
            Some(other) => {
                self.wrong(name, &format!("is {other:?}; it is either on or off"));
                false
            }
        }
    }

    /// A whole number, which bounds what it may be.
    fn number(&mut self, name: &str, bounds: RangeInclusive<u32>, otherwise: u32) -> u32 {
        match self.text(name).map(|text| text.parse()) {
            None => otherwise,
            Some(Ok(number)) if bounds.contains(&number) => number,
            Some(_) => {
                let (least, most) = bounds.into_inner();
                self.wrong(name, &format!("is no whole number from {least} to {most}"));
                otherwise
            }
        }
    }

    fn store(&mut self) -> Option<Store> {
        match self.text("ORIGIN").as_deref() {
            None | Some("r2") => {
                if !self.is_bound(BUCKET) {
                    self.wrong(BUCKET, "has no R2 bucket bound to it; see [[r2_buckets]] in wrangler.toml");
                }
                for name in ["S3_ENDPOINT", "S3_BUCKET", "S3_REGION", "S3_STYLE", "S3_ACCESS_KEY_ID"] {
                    if self.text(name).is_some() {
                        self.wrong(name, "is of no use without ORIGIN = \"s3\"");
                    }
                }
                Some(Store::R2)
            }
            Some("s3") => {
                let settings = s3::Settings {
                    endpoint: self.text("S3_ENDPOINT"),
                    bucket: self.text("S3_BUCKET"),
                    region: self.text("S3_REGION"),
                    style: self.text("S3_STYLE"),
                    access_key_id: self.text("S3_ACCESS_KEY_ID"),
                    secret_access_key: self.text("S3_SECRET_ACCESS_KEY"),
                    session_token: self.text("S3_SESSION_TOKEN"),
                };
                let bucket = s3::Bucket::read(settings);
                let wrong = bucket
                    .map_err(|wrong| wrong.iter().for_each(|(name, problem)| self.wrong(name, problem)));
                wrong.ok().map(|bucket| Store::S3(bucket.into()))
            }
            Some(other) => {
                self.wrong("ORIGIN", &format!("is {other:?}; it is either r2 or s3"));
                None
            }
        }
    }

    fn tickets(&mut self) -> Option<Tickets> {
        let outlives = self.number("TICKET_SECONDS", 0..=LONGEST, 0);
        let folders = self.switch("TICKET_FOLDERS");
        let Some(secrets) = self.text("TICKET_SECRET") else {
            for name in ["TICKET_SECONDS", "TICKET_FOLDERS"] {
                if self.text(name).is_some() {
                    self.wrong(name, "is of no use without TICKET_SECRET");
                }
            }
            return None;
        };
        Tickets::parse(&secrets, outlives.into(), folders)
            .map_err(|problem| self.wrong("TICKET_SECRET", problem))
            .ok()
    }

    fn list<T, E: Display>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let mut items = Vec::new();
        for item in list(&self.text(name).unwrap_or_default()) {
            match parse(&item) {
                Ok(item) => items.push(item),
                Err(problem) => self.wrong(name, &format!("{item:?} {problem}")),
            }
        }
        items
    }
}

/// Reads a pattern of paths as they are compared: decoded. One that no object's name can match is an error, because
/// whoever wrote it believes that something is public.
fn public_path(path: &str) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err("is no path, like /assets/*/poster.jpg".to_owned());
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) || path.contains(['\\', '\0']) {
        return Err(
            "matches nothing: a path with dot segments, a backslash or NUL is always refused".to_owned()
        );
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if decoded == path {
        return Ok(path.to_owned());
    }
    // A name may really have a `%41` in it. Then it takes another way to say so.
    let hint = if decoded.matches(['*', '?', '\u{fffd}']).count() == path.matches(['*', '?']).count() {
        format!("write {decoded:?}")
    } else {
        "write the names as they are in the bucket".to_owned()
    };
    Err(format!(
        "is percent-encoded, and paths are compared decoded: {hint} (and ? for a % that is meant so)"
    ))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// All that is wrong with the settings, a sentence each.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the configuration is not sound: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_named_at_once() {
        let ConfigError(problems) = Config::read(|name| {
            let value = match name {
                "TRUSTED_KEYS" => r#"{"K1":"hello","K 2":""}"#,
                "STRICT_AWS" => "perhaps",
                "OWN_HOSTS" => "cdn.example, https://cdn.example",
                "PUBLIC_PATHS" => "/a/*,b,/a%20b/*,/a/../b",
                "CORS_ORIGINS" => "https://school.example,school.example,https://school.example/",
                "ORIGIN" => "s3",
                "S3_ENDPOINT" => "s3.example",
                "S3_BUCKET" => "media",
                "S3_STYLE" => "both",
                "ORIGIN_SECONDS" => "0",
                "SEGMENT_CACHE_SECONDS" => "1d",
                "PLAYLIST_CACHE_SECONDS" => "-1",
                "LOG_ONE_IN" => "0.5",
                "TICKET_SECRET" => "secret",
                "TICKET_SECONDS" => "1h",
                "EXPLAIN_TOKEN" => "short",
                _ => return None,
            };
            Some(value.to_owned())
        })
        .unwrap_err();
        let begin = |start: &str| problems.iter().filter(|problem| problem.starts_with(start)).count();
        assert_eq!(begin("TRUSTED_KEYS key "), 2);
        assert_eq!(begin("CORS_ORIGINS "), 2);
        assert_eq!(begin("PUBLIC_PATHS "), 3);
        for name in [
            "STRICT_AWS ",
            "OWN_HOSTS ",
            "S3_REGION ",
            "S3_ACCESS_KEY_ID ",
            "S3_SECRET_ACCESS_KEY ",
            "S3_ENDPOINT ",
            "S3_STYLE ",
            "ORIGIN_SECONDS ",
            "SEGMENT_CACHE_SECONDS ",
            "PLAYLIST_CACHE_SECONDS ",
            "LOG_ONE_IN ",
            "TICKET_SECRET ",
            "TICKET_SECONDS ",
            "EXPLAIN_TOKEN ",
        ] {
            assert_eq!(begin(name), 1, "{name} {problems:?}");
        }
        assert_eq!(problems.len(), 21, "{problems:?}");
    }

    #[test]
    fn what_is_set_in_vain_or_bound_to_nothing_is_named() {
        let problems = |settings: &[(&str, &str)]| {
            let setting = |name: &str| {
                settings.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
            };
            let ConfigError(problems) = Config::read(setting).unwrap_err();
            problems.iter().map(|problem| problem.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            problems(&[
                (BUCKET, "media"),
                ("S3_BUCKET", "media"),
                ("S3_REGION", "auto"),
                (DATASET, "reelgate")
            ]),
            ["TRUSTED_KEYS", "MEDIA", "S3_BUCKET", "S3_REGION", "ANALYTICS"]
        );
        assert_eq!(problems(&[(BUCKET, "{}"), (DATASET, "{}")]), ["TRUSTED_KEYS"]);
    }

    #[test]
    fn player_params_are_switched_as_all_else_is() {
        let players = |value: &str| {
            let keys = r#"{"K1":"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEQMpv8LNaYQu6IbYrZdf4A+IYT+MT\nz508HbbXjnfVbnKSxVjfkff0co9epfcXoP1++t3AupRKsAmGy3NFxvxl9g==\n-----END PUBLIC KEY-----"}"#;
            let config = Config::read(|name| match name {
                "TRUSTED_KEYS" => Some(keys.to_owned()),
                "PLAYER_PARAMS" => Some(value.to_owned()),
                BUCKET => Some("{}".to_owned()),
                _ => None,
            });
            config.unwrap().dialect.players
        };
        for (on, off) in [("on", "off"), ("true", "false"), ("1", "0")] {
            assert_eq!(players(on), ["CMCD*", "_HLS_*"], "{on}");
            assert!(players(off).is_empty(), "{off}");
        }
        assert_eq!(players("session, _p*"), ["session", "_p*"]);
    }

    #[test]
    fn a_secret_that_nobody_could_send_or_that_is_none_is_refused() {
        for (name, value) in
            [("EXPLAIN_TOKEN", "an operator's\nsecret"), ("TICKET_SECRET", ","), ("TICKET_SECRET", " , ")]
        {
            let ConfigError(problems) =
                Config::read(|asked| (asked == name).then(|| value.to_owned())).unwrap_err();
            assert!(problems.iter().any(|problem| problem.starts_with(name)), "{name}: {problems:?}");
        }
    }

    #[test]
    fn a_pattern_that_can_match_nothing_is_refused_with_what_to_write() {
        for (path, written) in
            [("/a b/é/*", "/a b/é/*"), ("/100%/a%2/*", "/100%/a%2/*"), ("/.../a..b/..c/*", "/.../a..b/..c/*")]
        {
            assert_eq!(public_path(path).as_deref(), Ok(written));
        }
        for (path, problem) in [
            ("", "is no path"),
            ("a/*", "is no path"),
            ("/a%20b/*", r#"write "/a b/*" "#),
            ("/%C3%A9/?.jpg", r#"write "/é/?.jpg" "#),
            ("/a%2Ab", "names as they are"),
            ("/a%ffb", "names as they are"),
            ("/%2e%2e/a", "decoded"),
            ("/a/../b", "dot segments"),
            ("/*/.", "dot segments"),
            ("/a\\b", "backslash"),
        ] {
            let error = public_path(path).unwrap_err();
            assert!(error.contains(problem), "{path}: {error}");
        }
    }

    #[test]
    fn a_private_key_in_the_wrong_place_is_not_shown() {
        for keys in [
            r#""-----BEGIN PRIVATE KEY-----SECRET""#,
            r#"{"-----BEGIN PRIVATE KEY-----SECRET":"K1"}"#,
            r#"{"K1":"-----BEGIN PRIVATE KEY-----SECRET"}"#,
            r#"["SECRET"]"#,
        ] {
            let error = Config::read(|name| (name == "TRUSTED_KEYS").then(|| keys.to_owned())).unwrap_err();
            assert!(!error.to_string().contains("SECRET"), "{error}");
        }
    }
}
