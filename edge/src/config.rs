//! What the operator set, checked once, all problems at a time.

use crate::key_group::KeyGroup;

/// A configuration that can be served by.
#[derive(Debug)]
pub struct Config {
    /// Whose signatures open the gate.
    pub keys: KeyGroup,
}

/// Settings that later versions know and that would narrow what is served. To ignore one would be to open
/// what somebody believes closed.
const NOT_YET: [&str; 3] = ["CORS_ORIGINS", "STRICT_AWS", "TICKET_SECRET"];

impl Config {
    /// Reads the settings, each by its name; `setting` says `None` for what is not set.
    pub fn read(setting: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let setting = |name: &str| setting(name).filter(|value| !value.trim().is_empty());
        let mut problems = Vec::new();
        let keys = match setting("TRUSTED_KEYS") {
            Some(json) => KeyGroup::parse(&json),
            None => Err(vec!["is not set; `transcoder keygen` prints a value for it".to_owned()]),
        };
        let keys = keys.map_err(|wrong| {
            problems.extend(wrong.iter().map(|problem| format!("TRUSTED_KEYS {problem}")));
        });
        if let Some(origin) = setting("ORIGIN").filter(|origin| origin != "r2") {
            problems.push(format!("ORIGIN is {origin:?}; this version serves \"r2\" only"));
        }
        for name in NOT_YET.iter().filter(|name| setting(name).is_some()) {
            problems.push(format!("{name} is set, and this version does not enforce it; unset it"));
        }
        match keys {
            Ok(keys) if problems.is_empty() => Ok(Self { keys }),
            _ => Err(ConfigError(problems)),
        }
    }
}

/// All that is wrong with the settings, a sentence each.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the configuration is not sound: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);
