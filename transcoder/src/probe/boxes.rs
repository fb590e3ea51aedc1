//! The outermost boxes of an MP4 or `QuickTime` file: whether all of it is there, and whether its index is.
//!
//! ffprobe reads the index and is content, also where what is indexed was never uploaded.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// More boxes than this are not read: every fragment has two.
const MOST_BOXES: usize = 1_000;

/// What the outermost boxes say.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Boxes {
    /// Whether they begin like such a file.
    pub(super) is_mp4: bool,
    /// Whether there are fragments, which no one index knows all of.
    pub(super) is_fragmented: bool,
    /// How much of the last one is there, as a share, if it is not all.
    pub(super) share: Option<f64>,
}

pub(super) fn read(path: &Path) -> io::Result<Boxes> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut found = Boxes::default();
    let mut at = 0;
    for _ in 0..MOST_BOXES {
        let mut head = [0; 8];
        file.seek(SeekFrom::Start(at))?;
        if file.read_exact(&mut head).is_err() {
            break;
        }
        let word = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
        let (size, kind) = (u32::from_be_bytes(word(0)), word(4));
        if at == 0 {
            found.is_mp4 = [b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"].contains(&&kind);
            if !found.is_mp4 {
                break;
            }
        }
        let size = match size {
            // To the end of the file.
            0 => break,
            1 => {
                let mut large = [0; 8];
                if file.read_exact(&mut large).is_err() {
                    break;
                }
                u64::from_be_bytes(large)
            }
            size => u64::from(size),
        };
        found.is_fragmented |= &kind == b"moof";
        let Some(end) = at.checked_add(size).filter(|_| size >= 8) else { break };
        if end > length {
            found.share = (&kind == b"mdat").then(|| ratio(length - at, size));
            break;
        }
        at = end;
    }
    Ok(found)
}

#[expect(clippy::cast_precision_loss, reason = "a share of a file needs no 53 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxes(bytes: &[u8]) -> Boxes {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path()).unwrap()
    }

    const FTYP: &[u8] = b"\0\0\0\x10ftypisom\0\0\0\0";

    #[test]
    fn what_is_missing_at_the_end_is_seen() {
        assert_eq!(boxes(FTYP), Boxes { is_mp4: true, ..Boxes::default() });
        let half = boxes(&[FTYP, b"\0\0\0\x10mdat"].concat());
        assert_eq!(half.share, Some(0.5));
        // With its length in 64 bits, as cameras write it.
        let half = boxes(&[FTYP, b"\0\0\0\x01mdat\0\0\0\0\0\0\0\x20"].concat());
        assert_eq!(half.share, Some(0.5));
        assert_eq!(boxes(&[FTYP, b"\0\0\0\0mdatabc"].concat()).share, None);
    }

    #[test]
    fn fragments_are_seen_and_nonsense_ends_the_search() {
        assert!(boxes(&[FTYP, b"\0\0\0\x08moof", b"\0\0\0\x08mdat"].concat()).is_fragmented);
        for text in
            [&b"Dear Ines,"[..], b"", b"\0\0\0\x04ftyp", b"\0\0\0\x01ftyp\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert_eq!(boxes(text).share, None, "{text:?}");
            assert!(!boxes(text).is_fragmented, "{text:?}");
        }
    }
}
