//! Where the links of a storyboard are.
//!
//! A storyboard is [WebVTT] whose cues, instead of text, name pictures: `storyboard-1.jpg#xywh=0,0,160,90`. The first cue
//! tells it from captions, in which a viewer would see what is added.
//!
//! [WebVTT]: https://www.w3.org/TR/webvtt1/#file-structure

use crate::link::{Joint, Place};

/// What pictures are called.
const PICTURES: [&str; 6] = [".jpg", ".jpeg", ".png", ".webp", ".avif", ".gif"];

/// Where in a file the lines before have led to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Cues {
    /// Nothing has been read.
    #[default]
    Unbegun,
    /// Outside of cues.
    Between,
    /// After the times of a cue.
    Within,
}

impl Cues {
    /// Finds the joint of a line. `false` if this is no storyboard.
    pub(crate) fn line(&mut self, line: &[u8], place: &Place, joints: &mut Vec<Joint>) -> bool {
        let text = line.trim_ascii();
        // A line may end so in WebVTT, and then it is more than one.
        if text.contains(&b'\r') {
            return false;
        }
        match self {
            Self::Unbegun => {
                *self = Self::Between;
                let header = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).strip_prefix(b"WEBVTT");
                return header.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace));
            }
            // Without a blank line in between, too, one begins.
            Self::Between | Self::Within if text.windows(3).any(|window| window == b"-->") => {
                *self = Self::Within;
            }
            Self::Within if text.is_empty() => *self = Self::Between,
            Self::Within if is_picture(text) => joints.extend(place.joint(line)),
            Self::Within => return false,
            Self::Between => {}
        }
        true
    }
}

fn is_picture(text: &[u8]) -> bool {
    let end = text.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(text.len());
    let path = text.get(..end).unwrap_or_default().to_ascii_lowercase();
    !text.iter().any(u8::is_ascii_whitespace)
        && PICTURES.iter().any(|ending| path.ends_with(ending.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(text: &str) -> String {
        let uri = "https://v.example/a/storyboard.vtt".parse().unwrap();
        let place = Place::at(&uri, &[].into(), "S=1");
        let (mut cues, mut out) = (Cues::default(), String::new());
        let mut storyboard = true;
        for line in text.split_inclusive('\n') {
            let mut joints = Vec::new();
            storyboard = storyboard && cues.line(line.as_bytes(), &place, &mut joints);
            match joints[..] {
                [] => out.push_str(line),
                [Joint { at, joiner }] => {
                    out.push_str(&line[..at]);
                    out.push_str(std::str::from_utf8(joiner).unwrap());
                    out.push_str("S=1");
                    out.push_str(&line[at..]);
                }
                _ => panic!("{joints:?}"),
            }
        }
        out
    }

    #[test]
    fn the_pictures_of_a_storyboard_are_links() {
        let storyboard = "\u{feff}WEBVTT - thumbnails\r\n\
            \r\n\
            NOTE cover.jpg\r\n\
            poster.jpg\r\n\
            \r\n\
            1.jpg\r\n\
            00:00.000 --> 00:05.000 align:start\r\n\
            storyboard-1.jpg@#xywh=0,0,160,90\r\n\
            \r\n\
            00:05.000 --> 00:10.000\n\
            ../b/2.JPEG?v=2&@#xywh=160,0,160,90\n\
            \n\
            00:10.000 --> 00:15.000\n\
            https://elsewhere.example/3.png\n\
            00:15.000 --> 00:20.000\n\
            https://v.example/3.png@";
        let bare = storyboard.replace("&@", "").replace('@', "");
        assert_eq!(sign(&bare), storyboard.replace("&@", "&S=1").replace('@', "?S=1"));
    }

    #[test]
    fn captions_stay_as_they_are() {
        for cue in ["He said: look at 1.jpg", "Hello", "{\"img\":\"1.jpg\"}", "- 1.jpg", "1.jpg or 2.jpg"] {
            let captions =
                format!("WEBVTT\n\n00:00.000 --> 00:05.000\n{cue}\n\n00:05.000 --> 00:10.000\n2.jpg\n");
            assert_eq!(sign(&captions), captions);
        }
        for text in
            ["", "1.jpg", "WEBVTTX\n\n0 --> 1\n1.jpg", "\n0 --> 1\n1.jpg", "WEBVTT\r\r0 --> 1\r1.jpg\r"]
        {
            assert_eq!(sign(text), text);
        }
    }
}
