//! The same as the edge does, slowly and plainly: what it is compared with.

use std::net::IpAddr;

use edge::policy::Location;
use serde_json::{Map, Value};

pub(crate) fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let (mut out, mut at) = (Vec::new(), 0);
    while let Some(&byte) = text.get(at) {
        if let (b'%', Some(high), Some(low)) = (byte, digit(at + 1), digit(at + 2)) {
            out.push(u8::try_from(high * 16 + low).expect("two digits"));
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    out
}

/// What a custom policy says: resource, end, start, and addresses, empty for all.
pub(crate) type Said = (Option<String>, u64, Option<u64>, String);

/// Reads a custom policy by a general reader of JSON.
pub(crate) fn policy(text: &[u8], strict: bool) -> Option<Said> {
    let document: Value = serde_json::from_slice(text).ok()?;
    // Of two members of the same name it keeps one.
    if members(text) != members(document.to_string().as_bytes()) {
        return None;
    }
    let statement = match only(&document, "Statement")? {
        Value::Array(list) if list.len() == 1 => list[0].as_object()?,
        statement => statement.as_object()?,
    };
    let condition = statement.get("Condition")?.as_object()?;
    known(statement, &["Resource", "Condition"])?;
    known(condition, &["DateLessThan", "DateGreaterThan", "IpAddress"])?;
    let resource = match statement.get("Resource") {
        Some(resource) => Some(resource.as_str()?.to_owned()),
        None => None,
    };
    let last = if strict { 2_147_483_647 } else { 253_402_300_799 };
    let time = |of: &Value| only(of, "AWS:EpochTime")?.as_u64().filter(|&seconds| seconds <= last);
    let expires = time(condition.get("DateLessThan")?)?;
    let starts = match condition.get("DateGreaterThan") {
        Some(starts) => Some(time(starts)?),
        None => None,
    };
    let address = match condition.get("IpAddress") {
        Some(address) => cidr(only(address, "AWS:SourceIp")?.as_str()?, strict)?,
        None => String::new(),
    };
    Some((resource, expires, starts, address))
}

/// The value of an object's only member.
fn only<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    value.as_object().filter(|object| object.len() == 1)?.get(name)
}

fn known(object: &Map<String, Value>, names: &[&str]) -> Option<()> {
    object.keys().all(|key| names.contains(&key.as_str())).then_some(())
}

/// How many members a JSON text's objects have: its colons outside of strings.
fn members(json: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b':' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// The range as it restricts: empty, for one of all addresses.
fn cidr(text: &str, strict: bool) -> Option<String> {
    let (network, prefix) =
        text.split_once('/').map_or((text, None), |(network, prefix)| (network, Some(prefix)));
    let network: IpAddr = network.parse().ok()?;
    let widest = if network.is_ipv4() { 32 } else { 128 };
    let prefix: u32 = match prefix {
        Some(digits) if !digits.starts_with('+') => digits.parse().ok()?,
        Some(_) => return None,
        None => widest,
    };
    if prefix > widest || (strict && network.is_ipv6()) {
        return None;
    }
    Some(if prefix > 0 || strict { format!("{network}/{prefix}") } else { String::new() })
}

/// Whether a custom policy's resource covers a URL.
pub(crate) fn covers(pattern: &str, url: &Location<'_>) -> bool {
    if pattern == "*" {
        return true;
    }
    let scheme_ends =
        pattern.find("://").filter(|&at| !pattern[..at].contains('/') && !pattern[..at].contains('.'));
    let (protocol, rest) = match scheme_ends {
        Some(at) => (&pattern[..at], &pattern[at + 3..]),
        None if pattern.starts_with('*') => ("*", pattern),
        None => return false,
    };
    let (domain, target) = match rest.split_once('/') {
        Some((domain, target)) => (domain, format!("/{target}")),
        None if rest.ends_with('*') => (rest, "/*".to_owned()),
        None => (rest, "/".to_owned()),
    };
    let lower = |text: &str| text.to_ascii_lowercase();
    glob(&lower(protocol), &lower(url.scheme))
        && glob(&lower(domain), &lower(url.host))
        && readings(&target).iter().any(|(path, query)| {
            glob(path, url.path)
                && match query {
                    Some(query) => glob(query, &url.query),
                    None => url.query.is_empty() || path.ends_with('*'),
                }
        })
}

/// All that a resource's path and query can mean.
fn readings(target: &str) -> Vec<(String, Option<String>)> {
    if let Some((path, query)) = target.split_once("\\?") {
        return vec![(path.to_owned(), Some(query.to_owned()))];
    }
    let delimited = target
        .char_indices()
        .filter(|&(_, character)| character == '?')
        .map(|(at, _)| (target[..at].to_owned(), Some(target[at + 1..].to_owned())));
    delimited.chain([(target.to_owned(), None)]).collect()
}

/// `*` is any run of characters, `?` is one: by a table of which beginnings match which.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut matches = vec![false; text.len() + 1];
    matches[0] = true;
    for wanted in pattern.chars() {
        let shorter = matches;
        matches = vec![false; text.len() + 1];
        for end in 0..=text.len() {
            matches[end] = match wanted {
                '*' => shorter[..=end].contains(&true),
                '?' => end > 0 && shorter[end - 1],
                wanted => end > 0 && shorter[end - 1] && text[end - 1] == wanted,
            };
        }
    }
    matches[text.len()]
}
