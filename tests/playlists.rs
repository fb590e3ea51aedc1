//! Playlists of every kind that is known to break rewriters, and what has to become of them.
//!
//! Each file of `playlists/` is what leaves the gate, with marks, put there by hand, where the viewer's authority goes:
//! `^?` for a question mark and the authority, `^&` for an ampersand and it, `^.` for it alone. Without the marks
//! it is what lies in the bucket. It is served as `https://video.example/lists/…?lang=de&start=%3Ft%3D5&host=…`.

#![allow(missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use http::{Method, StatusCode};
use m3u8_rs::{AlternativeMedia, ExtTag, Key, MediaSegment, Playlist, QuotedOrUnquoted, SessionDataField};
use serde_json::json;
use tempfile::TempDir;
use tests::{Gate, gates_with, node, root, run, tool, trusting};

/// The marks, and what goes before the authority in their place.
const MARKS: [(&[u8], &[u8]); 3] = [(b"^?", b"?"), (b"^&", b"&"), (b"^.", b"")];

/// A playlist with marks.
struct Marked {
    name: String,
    text: Vec<u8>,
}

impl Marked {
    fn original(&self) -> Vec<u8> {
        MARKS.iter().fold(self.text.clone(), |text, (mark, _)| replaced(&text, mark, b""))
    }

    fn signed(&self, authority: &str) -> Vec<u8> {
        MARKS.iter().fold(self.text.clone(), |text, (mark, joiner)| {
            replaced(&text, mark, &[joiner, authority.as_bytes()].concat())
        })
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    split(text, from).join(to)
}

fn split<'a>(text: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.windows(at.len()).position(|window| window == at) {
        parts.push(&rest[..start]);
        rest = &rest[start + at.len()..];
    }
    parts.push(rest);
    parts
}

static PLAYLISTS: LazyLock<Vec<Marked>> = LazyLock::new(|| {
    let files = std::fs::read_dir(root().join("tests/playlists")).unwrap().map(|entry| entry.unwrap());
    let mut playlists: Vec<_> = files
        .map(|file| Marked {
            name: file.file_name().into_string().unwrap(),
            text: std::fs::read(file.path()).unwrap(),
        })
        .collect();
    playlists.sort_by(|one, other| one.name.cmp(&other.name));
    playlists
});

static GATES: LazyLock<[Box<dyn Gate>; 2]> = LazyLock::new(|| {
    let objects: Vec<_> =
        PLAYLISTS.iter().map(|playlist| (format!("lists/{}", playlist.name), playlist.original())).collect();
    let objects: Vec<_> = objects.iter().map(|(key, bytes)| (&**key, &**bytes)).collect();
    let mut settings = trusting();
    settings["OWN_HOSTS"] = json!("cdn.example, packager.example:8443");
    gates_with(&objects, &settings)
});

/// The first gate is this host by itself, the other where it is told so.
static AUTHORITY: LazyLock<String> = LazyLock::new(|| GATES[0].open("/lists/*"));

/// What a gate makes of a playlist.
fn served(gate: &dyn Gate, playlist: &Marked) -> Vec<u8> {
    let query = "lang=de&start=%3Ft%3D5&host=elsewhere.example";
    let target = format!("/lists/{}?{query}&{}", playlist.name, *AUTHORITY);
    let headers = [("Host", "video.example"), ("X-Forwarded-Proto", "https")];
    let answer = gate.ask(Method::GET, &target, &headers);
    assert_eq!(answer.status(), StatusCode::OK, "{}", playlist.name);
    answer.into_body()
}

#[test]
fn authority_goes_where_a_person_marked_it_and_nowhere_else() {
    let mut wrong = Vec::new();
    for (gate, playlist) in GATES.iter().flat_map(|gate| PLAYLISTS.iter().map(move |list| (gate, list))) {
        let (served, marked) = (served(&**gate, playlist), playlist.signed(&AUTHORITY));
        if served != marked {
            let (found, expected) = first_difference(&served, &marked);
            wrong.push(format!("{} by {}: {found:?}, not {expected:?}", playlist.name, gate.url()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The first lines that two texts differ in, for a person to read.
fn first_difference(one: &[u8], other: &[u8]) -> (String, String) {
    let readable = |line: &[u8]| String::from_utf8_lossy(line).replace(&**AUTHORITY, "…");
    let lines = |text: &[u8]| text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (mut one, mut other) = (lines(one), lines(other));
    let longer = one.len().max(other.len());
    one.resize(longer, Vec::new());
    other.resize(longer, Vec::new());
    let mut pairs = one.iter().zip(&other).filter(|(one, other)| one != other);
    pairs.next().map_or_else(Default::default, |(one, other)| (readable(one), readable(other)))
}

#[test]
fn without_the_authority_every_playlist_is_as_it_was() {
    for (gate, playlist) in GATES.iter().flat_map(|gate| PLAYLISTS.iter().map(move |list| (gate, list))) {
        let (served, original) = (served(&**gate, playlist), playlist.original());
        let (mut rest, parts) = (&*original, split(&served, AUTHORITY.as_bytes()));
        let (last, signed) = parts.split_last().unwrap();
        for part in signed {
            // A question mark before it may have been there: `1.ts?` gets none.
            let joined = part.strip_suffix(b"?").or(part.strip_suffix(b"&"));
            let after = rest.strip_prefix(*part).or(joined.and_then(|joined| rest.strip_prefix(joined)));
            rest = after.unwrap_or_else(|| panic!("{}: {}", playlist.name, String::from_utf8_lossy(part)));
        }
        assert_eq!(&rest, last, "{}", playlist.name);
    }
}

/// Whoever reads playlists otherwise than we do reads the same out of both, but for the links.
#[test]
fn parsers_of_others_find_the_same_structure() {
    let (originals, signed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for playlist in PLAYLISTS.iter() {
        std::fs::write(originals.path().join(&playlist.name), playlist.original()).unwrap();
        std::fs::write(signed.path().join(&playlist.name), served(&*GATES[1], playlist)).unwrap();
    }
    let folders = [originals.path(), signed.path()];
    let mut verdicts: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for program in [&mut node("parse.mjs"), tool("python").arg(root().join("tests/tools/parse.py"))] {
        let said = run(program.args(folders).arg(&*AUTHORITY));
        verdicts.extend(serde_json::from_str::<BTreeMap<_, _>>(&said).unwrap());
    }
    verdicts.insert("m3u8-rs".to_owned(), m3u8_rs_compares(&originals, &signed));
    assert_eq!(verdicts.len(), 4);
    for (parser, verdicts) in verdicts {
        assert_eq!(verdicts.len(), PLAYLISTS.len(), "{parser}");
        let wrong: Vec<_> =
            verdicts.iter().filter(|(_, verdict)| !["same", "refused"].contains(&&***verdict)).collect();
        assert!(wrong.is_empty(), "{parser}: {wrong:#?}");
        // Who refuses everything agrees with everybody.
        let refused: Vec<_> = verdicts.iter().filter(|(_, verdict)| *verdict == "refused").collect();
        assert!(refused.len() * 4 < verdicts.len(), "{parser} refuses {refused:?}");
    }
}

fn m3u8_rs_compares(originals: &TempDir, signed: &TempDir) -> BTreeMap<String, String> {
    let parse = |folder: &TempDir, name: &str| {
        let text = std::fs::read(folder.path().join(name)).unwrap();
        m3u8_rs::parse_playlist_res(&text).ok().map(without_links)
    };
    let compare = |name: &str| match (parse(originals, name), parse(signed, name)) {
        (None, None) => "refused".to_owned(),
        (original, signed) if original == signed => "same".to_owned(),
        (original, signed) => format!("{original:?}, and signed {signed:?}"),
    };
    PLAYLISTS.iter().map(|playlist| (playlist.name.clone(), compare(&playlist.name))).collect()
}

/// The same playlist without the authority, and without what joins it to a link, of which some had one before. What
/// is forgotten here makes a difference, which fails the test.
fn without_links(mut playlist: Playlist) -> Playlist {
    match &mut playlist {
        Playlist::MasterPlaylist(list) => {
            for variant in &mut list.variants {
                strip(&mut variant.uri);
                strip_attributes(variant.other_attributes.iter_mut());
            }
            for AlternativeMedia { uri, other_attributes, .. } in &mut list.alternatives {
                uri.iter_mut().for_each(strip);
                strip_attributes(other_attributes.iter_mut());
            }
            for data in &mut list.session_data {
                if let SessionDataField::Uri(uri) = &mut data.field {
                    strip(uri);
                }
            }
            list.session_key.iter_mut().for_each(|key| strip_key(&mut key.0));
            list.unknown_tags.iter_mut().for_each(strip_tag);
        }
        Playlist::MediaPlaylist(list) => {
            for MediaSegment { uri, title, key, map, daterange, unknown_tags, .. } in &mut list.segments {
                strip(uri);
                title.iter_mut().for_each(strip);
                key.iter_mut().for_each(strip_key);
                if let Some(map) = map {
                    strip(&mut map.uri);
                }
                if let Some(daterange) = daterange {
                    strip_attributes(daterange.x_prefixed.iter_mut());
                    strip_attributes(daterange.other_attributes.iter_mut());
                }
                unknown_tags.iter_mut().for_each(strip_tag);
            }
            list.unknown_tags.iter_mut().for_each(strip_tag);
        }
    }
    playlist
}

fn strip(text: &mut String) {
    *text = text.replace(&**AUTHORITY, "").replace(['?', '&'], "");
}

fn strip_key(key: &mut Key) {
    key.uri.iter_mut().for_each(strip);
}

fn strip_tag(tag: &mut ExtTag) {
    tag.rest.iter_mut().for_each(strip);
}

fn strip_attributes<'a>(attributes: impl Iterator<Item = &'a mut HashMap<String, QuotedOrUnquoted>>) {
    for value in attributes.flat_map(HashMap::values_mut) {
        let (QuotedOrUnquoted::Quoted(text) | QuotedOrUnquoted::Unquoted(text)) = value;
        strip(text);
    }
}
