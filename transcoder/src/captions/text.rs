//! From bytes to text.
//!
//! WebVTT is UTF-8 and says so by its first word. SubRip is in whatever encoding its author's system had: a byte
//! order mark tells, else what is valid UTF-8 is UTF-8, and what remains is read as [windows-1252], which is what
//! browsers do with text of which they know nothing.
//!
//! [windows-1252]: https://encoding.spec.whatwg.org/#windows-1252

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Error, LARGEST};

/// What 0x80 to 0x9f are; all other bytes are the character of their number.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The bytes of a file, if it is one and not too large.
pub(super) fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |source| Error::Unreadable { path: path.into(), source };
    // Before it is opened: to open a pipe is to wait for who writes to it.
    let metadata = path.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("it is not a file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(Error::TooLarge { path: path.into(), bytes: metadata.len().max(bytes.len() as u64) });
    }
    Ok(bytes)
}

/// Text of bytes, without a byte order mark.
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    if let Some(text) = bytes.strip_prefix(b"\xef\xbb\xbf") {
        return String::from_utf8_lossy(text);
    }
    if let Some(text) = bytes.strip_prefix(b"\xff\xfe") {
        return utf_16(text, u16::from_le_bytes).into();
    }
    if let Some(text) = bytes.strip_prefix(b"\xfe\xff") {
        return utf_16(text, u16::from_be_bytes).into();
    }
    if bytes.starts_with(b"WEBVTT") {
        return String::from_utf8_lossy(bytes);
    }
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().map(|&byte| windows_1252(byte)).collect::<String>().into(),
    }
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let units = bytes.chunks_exact(2).map(|pair| unit([pair[0], pair[1]]));
    char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

fn windows_1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        _ => byte.into(),
    }
}

/// Text whose lines end in LF, however they did, and without the one character that no text has.
pub(super) fn normalized(text: &str) -> String {
    text.replace('\0', "\u{fffd}").replace("\r\n", "\n").replace('\r', "\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_encoding_is_told_by_mark_signature_or_validity() {
        assert_eq!(decode(b"\xef\xbb\xbfna\xc3\xafve"), "naïve");
        assert_eq!(decode("naïve €".as_bytes()), "naïve €");
        assert_eq!(decode(b"\xff\xfen\0\xef\0\x3d\xd8\x00\xde"), "nï😀");
        assert_eq!(decode(b"\xfe\xff\0n\0\xef\xd8\x3d\xde\x00"), "nï😀");
        assert_eq!(decode(b"na\xefve \x80"), "naïve €");
        assert_eq!(decode(b"WEBVTT \xef"), "WEBVTT \u{fffd}");
        assert_eq!(decode(b"\xff\xfe\x3d\xd8\0"), "\u{fffd}");
        assert_eq!(decode(b""), "");
    }

    #[test]
    fn windows_1252_is_what_ffmpeg_takes_it_for() {
        // Five bytes have no character but in the Encoding Standard.
        let mut bytes = b"1\n00:00:01,000 --> 00:00:02,000\n".to_vec();
        bytes.extend((0x80..=0xff).filter(|byte| ![0x81, 0x8d, 0x8f, 0x90, 0x9d].contains(byte)));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.srt"), &bytes).unwrap();
        let line = "-v error -sub_charenc cp1252 -i a.srt -c:s srt -f srt -";
        let ffmpeg =
            Command::new("ffmpeg").args(line.split(' ')).current_dir(folder.path()).output().unwrap();
        assert_eq!(decode(&bytes), String::from_utf8(ffmpeg.stdout).unwrap().trim_end());
    }
}
