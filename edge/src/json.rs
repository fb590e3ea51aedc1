//! Where the links of the JSON beside playlists are.
//!
//! Asset lists ([RFC 8216bis, Appendix D]), steering manifests (§7.2) and the chapters that Apple's players read name
//! links in certain places. They are found in the text as it is written, so that nothing but them is changed.
//!
//! [RFC 8216bis, Appendix D]: https://datatracker.ietf.org/doc/html/draft-pantos-hls-rfc8216bis#appendix-D

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::link::{Joint, Place};
use crate::policy::Object;

/// An asset list or a steering manifest: each has names that the other has not. Some programs write `null` for what
/// there is none of.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default, rename = "ASSETS")]
    assets: Option<Vec<Object<Asset<'a>>>>,
    #[serde(borrow, default, rename = "RELOAD-URI")]
    reload_uri: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "PATHWAY-CLONES")]
    pathway_clones: Option<Vec<Object<PathwayClone<'a>>>>,
}

#[derive(Deserialize)]
struct Asset<'a> {
    #[serde(borrow, default, rename = "URI")]
    uri: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PathwayClone<'a> {
    #[serde(borrow, default, rename = "URI-REPLACEMENT")]
    replacement: Option<Object<Replacement<'a>>>,
}

#[derive(Deserialize)]
struct Replacement<'a> {
    #[serde(borrow, default, rename = "PER-VARIANT-URIS")]
    variants: Option<BTreeMap<Cow<'a, str>, &'a RawValue>>,
    #[serde(borrow, default, rename = "PER-RENDITION-URIS")]
    renditions: Option<BTreeMap<Cow<'a, str>, &'a RawValue>>,
}

#[derive(Deserialize)]
struct Chapter<'a> {
    #[serde(borrow, default)]
    images: Option<Vec<Object<Image<'a>>>>,
}

#[derive(Deserialize)]
struct Image<'a> {
    #[serde(borrow, default)]
    url: Option<&'a RawValue>,
}

/// Finds the joints of a document. What is not one of those above has none.
pub(crate) fn joints(text: &[u8], place: &Place) -> Vec<Joint> {
    let mut joints: Vec<_> = links(text)
        .into_iter()
        .filter_map(|link| {
            let offset = link.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
            let joint = joint(link, place)?;
            Some(Joint { at: offset + joint.at, ..joint })
        })
        .collect();
    joints.sort_unstable_by_key(|joint| joint.at);
    joints
}

/// The values that are links, as they are written. Players read past a byte order mark.
fn links(text: &[u8]) -> Vec<&str> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if text.trim_ascii_start().starts_with(b"[") {
        let chapters: Vec<Object<Chapter<'_>>> = serde_json::from_slice(text).unwrap_or_default();
        let images = chapters.into_iter().filter_map(|Object(chapter)| chapter.images).flatten();
        return images.filter_map(|Object(image)| image.url).map(RawValue::get).collect();
    }
    let Ok(document) = serde_json::from_slice::<Document<'_>>(text) else { return Vec::new() };
    let assets = document.assets.into_iter().flatten().filter_map(|Object(asset)| asset.uri);
    let clones = document.pathway_clones.into_iter().flatten().filter_map(|Object(clone)| clone.replacement);
    let clones = clones.flat_map(|Object(Replacement { variants, renditions })| {
        [variants, renditions].into_iter().flatten().flat_map(BTreeMap::into_values)
    });
    assets.chain(document.reload_uri).chain(clones).map(RawValue::get).collect()
}

/// Where in a JSON value the authority goes; `None` if it is no string, or no link of ours.
fn joint(value: &str, place: &Place) -> Option<Joint> {
    let written = value.strip_prefix('"')?.strip_suffix('"')?;
    let joint = if written.contains('\\') {
        let (link, offsets) = unescape(written)?;
        let joint = place.joint(&link)?;
        Joint { at: offsets.get(joint.at).copied().unwrap_or(written.len()), ..joint }
    } else {
        place.joint(written.as_bytes())?
    };
    Some(Joint { at: 1 + joint.at, ..joint })
}

/// What a JSON string says, and where each byte of it begins to be written. `None` for one with escapes that no link
/// needs.
fn unescape(written: &str) -> Option<(Vec<u8>, Vec<usize>)> {
    let (mut said, mut offsets) = (Vec::new(), Vec::new());
    let mut rest = written;
    while let Some(first) = rest.chars().next() {
        let (character, length) = match rest.strip_prefix('\\') {
            None => (first, first.len_utf8()),
            Some(escape) => match escape.chars().next()? {
                mark @ ('/' | '\\' | '"') => (mark, 2),
                'u' => (char::from_u32(u32::from_str_radix(escape.get(1..5)?, 16).ok()?)?, 6),
                _ => return None,
            },
        };
        let offset = written.len() - rest.len();
        said.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        offsets.resize(said.len(), offset);
        rest = rest.get(length..)?;
    }
    Some((said, offsets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(text: &str) -> String {
        let uri = "https://v.example/a/assets.json".parse().unwrap();
        let place = Place::at(&uri, &[].into(), "S=1");
        let (mut out, mut copied) = (String::new(), 0);
        for Joint { at, joiner } in joints(text.as_bytes(), &place) {
            out.push_str(&text[copied..at]);
            out.push_str(std::str::from_utf8(joiner).unwrap());
            out.push_str("S=1");
            copied = at;
        }
        out + &text[copied..]
    }

    /// The documents are RFC 8216bis's own examples, and Apple's of chapters, with more of each kind of link.
    #[test]
    fn the_links_of_json_documents_are_signed() {
        for document in [
            r#"{ "ASSETS": [ { "URI": "https://v.example/ad1/index.m3u8@", "DURATION": 15.0 },
                 { "URI": "http://theirs.example/ad2.m3u8", "DURATION": 10.5, "X-URI": "a" } ],
               "SKIP-CONTROL": { "OFFSET": 5, "URI": "b" }, "URI": "c" }"#,
            r#"{"VERSION":1,"TTL":300,"RELOAD-URI":"steering?video=1&@","PATHWAY-PRIORITY":["CDN-A"],
               "PATHWAY-CLONES":[{"BASE-ID":"CDN-A","ID":"C","URI-REPLACEMENT":{"HOST":"h.example","PARAMS":{"t":"a"},
               "PER-VARIANT-URIS":{"b":"/b.m3u8@","a":"../a.m3u8@#f"},"PER-RENDITION-URIS":{"r":"r.m3u8@","x":1}}},{}]}"#,
            r#"[{"chapter":1,"images":[{"image-category":"x","url":"1.jpg@"},{}],"url":"a"},{"titles":[]}]"#,
            r#"{"ASSETS":[{"URI":"https:\/\/v.example\/a.m3u8?x=1\u0026y@"},{"URI":"\/a\u00e9.m3u8@\u0023f"}]}"#,
            r#"{"RELOAD-URI":"a@","ASSETS":null,"PATHWAY-CLONES":[{"URI-REPLACEMENT":{"PER-VARIANT-URIS":null,
               "PER-RENDITION-URIS":{"r":"r.m3u8@"}}},{"URI-REPLACEMENT":null}]}"#,
            r#"{"RELOAD-URI":"a@","PATHWAY-CLONES":null}"#,
            r#"[{"images":null},{"images":[{"url":null},{"url":"1.jpg@"}]}]"#,
            "\u{feff}{\"ASSETS\":[{\"URI\":\"a.m3u8@\"}]}",
            "\u{feff}[{\"images\":[{\"url\":\"1.jpg@\"}]}]",
            r#"{"ASSETS":[{"URI":"https:\/\/theirs.example/a"},{"URI":"a\nb"},{"URI":null},{"URI":""},{"URI":["a"]}]}"#,
        ] {
            let bare = document.replace("&@", "").replace('@', "");
            let signed =
                document.replace("1\\u0026y@", "1\\u0026y&S=1").replace("&@", "&S=1").replace('@', "?S=1");
            assert_eq!(sign(&bare), signed);
        }
    }

    #[test]
    fn other_json_stays_as_it_is() {
        for text in [
            "",
            "null",
            "{}",
            "[]",
            "[1]",
            r#"{"state":"ready","poster":"a.jpg"}"#,
            r#"{"ASSETS":{"URI":"a"}}"#,
            r#"{"ASSETS":[["a"]]}"#,
            r#"{"ASSETS":[{"URI":"a","URI":"b"}]}"#,
            r#"{"ASSETS":[{"URI":"a"}]} x"#,
            r#"{"ASSETS":[{"URI":"a"}"#,
            r#"[{"images":[{"url":"\ud83d"}]}]"#,
        ] {
            assert_eq!(sign(text), text);
        }
    }
}
