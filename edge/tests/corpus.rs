//! The fuzz targets, without libFuzzer: over the seeds, and over some thousand texts made of them by chance, the same
//! at every run. `make fuzz` looks further, and longer.

#![allow(missing_docs)]

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "there it is a library's")]
mod fuzz;

/// What is made of each seed.
const OFFSPRING: usize = 1_500;

fn holds(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    let texts: Vec<Vec<u8>> = seeds.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(texts.len() > 5, "{} has no seeds", folder.display());
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    for (path, seed) in seeds.iter().zip(&texts) {
        try_out(path, seed, body);
        for _ in 0..OFFSPRING {
            let mut text = seed.clone();
            for _ in 0..=chance.below(4) {
                mutate(&mut text, &texts, &mut chance);
            }
            try_out(path, &text, body);
        }
    }
}

/// Says what it was that did not hold.
fn try_out(seed: &Path, text: &[u8], body: fn(&[u8])) {
    let held = std::panic::catch_unwind(|| body(text)).is_ok();
    assert!(held, "made of {}: {:?}", seed.display(), String::from_utf8_lossy(text));
}

fn mutate(text: &mut Vec<u8>, others: &[Vec<u8>], chance: &mut Chance) {
    /// What means something to one of the readers.
    const TOKENS: [&[u8]; 24] = [
        b"%", b"%2e", b"%7E", b"&", b"=", b"?", b"#", b"*", b"\\?", b"\\", b"//", b"://", b"@", b":", b"\"",
        b"{$a}", b"{", b"}", b"[", b",", b"\n", b"\r", b"\0", b"\xff",
    ];
    let at = chance.below(text.len() + 1);
    let to = at + chance.below(text.len() - at + 1).min(24);
    match chance.below(6) {
        0 => drop(text.drain(at..to)),
        1 => drop(text.splice(at..at, TOKENS[chance.below(TOKENS.len())].iter().copied())),
        2 => {
            let again = text[at..to].to_vec();
            text.splice(at..at, again);
        }
        3 => {
            let other = &others[chance.below(others.len())];
            let from = chance.below(other.len() + 1);
            let part = other[from..].iter().copied().take(chance.below(64)).collect::<Vec<_>>();
            text.splice(at..to, part);
        }
        4 if at < text.len() => text[at] ^= 1 << chance.below(8),
        _ if at < text.len() => text[at] = u8::try_from(chance.below(256)).unwrap(),
        _ => {}
    }
}

/// Numbers as good as random, by Marsaglia's xorshift.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

#[test]
fn urls() {
    holds("url", fuzz::url);
}

#[test]
fn policies() {
    holds("policy", fuzz::policy);
}

#[test]
fn matches() {
    holds("matcher", fuzz::matcher);
}

#[test]
fn playlists() {
    holds("playlist", fuzz::playlist);
}

#[test]
fn companions() {
    holds("companion", fuzz::companion);
}

#[test]
fn streams() {
    holds("gzip", fuzz::gzip);
}

#[test]
fn tickets() {
    holds("ticket", fuzz::ticket);
}
