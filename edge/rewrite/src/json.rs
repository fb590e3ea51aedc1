//! Where the links of the JSON beside playlists are.
//!
//! Asset lists ([RFC 8216bis, Appendix D]), steering manifests (§7.2) and the chapters that Apple's players read name
//! links in certain places. They are found in the text as it is written, so that nothing but them is changed.
//!
//! [RFC 8216bis, Appendix D]: https://datatracker.ietf.org/doc/html/draft-pantos-hls-rfc8216bis#appendix-D

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::link::{Joint, Place};

/// Where links are in a value of JSON.
enum Shape {
    /// It is one.
    Link,
    /// In each item of a list.
    Items(&'static Shape),
    /// In some members of an object.
    Members(&'static [(&'static str, Shape)]),
    /// In each member of an object.
    EveryMember(&'static Shape),
    /// Nowhere.
    Nothing,
}

/// An asset list, or a steering manifest: each has names that the other has not.
const OBJECT: Shape = Shape::Members(&[
    ("ASSETS", Shape::Items(&Shape::Members(&[("URI", Shape::Link)]))),
    ("RELOAD-URI", Shape::Link),
    (
        "PATHWAY-CLONES",
        Shape::Items(&Shape::Members(&[(
            "URI-REPLACEMENT",
            Shape::Members(&[
                ("PER-VARIANT-URIS", Shape::EveryMember(&Shape::Link)),
                ("PER-RENDITION-URIS", Shape::EveryMember(&Shape::Link)),
            ]),
        )])),
    ),
]);

/// Chapters.
const LIST: Shape =
    Shape::Items(&Shape::Members(&[("images", Shape::Items(&Shape::Members(&[("url", Shape::Link)])))]));

/// Finds the joints of a document, in their order. What is no JSON has none.
pub(crate) fn joints(text: &[u8], place: &Place) -> Vec<Joint> {
    let mut links = Vec::new();
    // Players read past a byte order mark.
    let json = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let shape = if json.trim_ascii_start().starts_with(b"[") { &LIST } else { &OBJECT };
    let mut document = serde_json::Deserializer::from_slice(json);
    let search = Search { shape, links: &mut links };
    if search.deserialize(&mut document).and_then(|()| document.end()).is_err() {
        return Vec::new();
    }
    let joints = links.into_iter().filter_map(|link: &str| {
        let offset = link.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        let joint = joint(link, place)?;
        Some(Joint { at: offset + joint.at, ..joint })
    });
    joints.collect()
}

/// Collects the values that are links, as they are written.
struct Search<'s, 'a> {
    shape: &'static Shape,
    links: &'s mut Vec<&'a str>,
}

impl<'a> DeserializeSeed<'a> for Search<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.shape {
            Shape::Link => self.links.push(<&RawValue>::deserialize(deserializer)?.get()),
            Shape::Nothing => drop(IgnoredAny::deserialize(deserializer)?),
            _ => deserializer.deserialize_any(self)?,
        }
        Ok(())
    }
}

impl<'a> Visitor<'a> for Search<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        let shape = if let Shape::Items(shape) = self.shape { shape } else { &Shape::Nothing };
        while items.next_element_seed(Search { shape, links: self.links })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<Cow<'a, str>>()? {
            let shape = match self.shape {
                Shape::Members(known) => {
                    known.iter().find(|(known, _)| *known == name).map(|(_, shape)| shape)
                }
                Shape::EveryMember(shape) => Some(*shape),
                _ => None,
            };
            let shape = shape.unwrap_or(&Shape::Nothing);
            members.next_value_seed(Search { shape, links: self.links })?;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
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
            r#"{"ASSETS":[{"URI":"a@","URI":"b@"},{"URI":"https:\/\/theirs.example/a"},{"URI":"a\nb"},{"URI":null},{"URI":""},{"URI":["a"]}]}"#,
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
            r#"{"ASSETS":[[{"URI":"a"}],1,-1,1.5,true,null,"a"]}"#,
            r#"{"ASSETS":[{"URI":"a"}]} x"#,
            r#"{"ASSETS":[{"URI":"a"}"#,
            r#"[{"images":[{"url":"\ud83d"}]}]"#,
        ] {
            assert_eq!(sign(text), text);
        }
    }
}
