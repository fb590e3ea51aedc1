//! Encrypts segments whole, as the method AES-128 of HLS has it, whatever container they are in.
//!
//! AES-128-CBC with PKCS#7 padding ([RFC 8216 §4.3.2.4]). The initialisation vector is the segment's media sequence
//! number, as players take it where the playlist names none ([§5.2]): nothing has to be stored beside the key.
//!
//! ```text
//! #EXT-X-MAP:URI="init.mp4"                                  before the first key, so it is not encrypted
//! #EXT-X-KEY:METHOD=AES-128,URI="../keys/00001.key"
//! #EXTINF:6.00000,
//! 00001.m4s
//! ```
//!
//! What is encrypted is read as a whole: a byte range of it needs the block before it and another vector ([§6.2.3]),
//! and few players know how. An I-frame that is to be played alone is an object of its own.
//!
//! [RFC 8216 §4.3.2.4]: https://www.rfc-editor.org/rfc/rfc8216#section-4.3.2.4
//! [§5.2]: https://www.rfc-editor.org/rfc/rfc8216#section-5.2
//! [§6.2.3]: https://www.rfc-editor.org/rfc/rfc8216#section-6.2.3

use std::fmt;
use std::num::NonZeroU32;

use aes::Aes128;
use cbc::Encryptor;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use rand_core::{OsRng, RngCore};
use rsa::pkcs8::der::zeroize::Zeroizing;

/// Bytes of a block, of a key and of a vector.
const BLOCK: usize = 16;

/// What a segment is encrypted with. It is wiped from memory when it is dropped.
pub struct Key(Zeroizing<[u8; BLOCK]>);

impl Key {
    /// Makes one, from the system's randomness.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; BLOCK]);
        OsRng.try_fill_bytes(&mut *bytes).map_err(Error::Randomness)?;
        Ok(Self(bytes))
    }

    /// What the key's object holds: 16 bytes in binary ([RFC 8216 §5.1]). For the store, and nobody else.
    ///
    /// [RFC 8216 §5.1]: https://www.rfc-editor.org/rfc/rfc8216#section-5.1
    #[must_use]
    pub fn bytes(&self) -> &[u8; BLOCK] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Encrypts a segment in its place. `sequence_number` is what its playlist counts it as: that of `EXT-X-MEDIA-SEQUENCE`
/// (0 without the tag) for the first one, and one more for each after it. An I-frame playlist counts by itself.
pub fn encrypt_segment(key: &Key, sequence_number: u64, segment: &mut Vec<u8>) {
    encrypt(key, u128::from(sequence_number).to_be_bytes(), segment);
}

fn encrypt(key: &Key, vector: [u8; BLOCK], segment: &mut Vec<u8>) {
    let length = segment.len();
    // Always one byte of padding at least.
    segment.resize((length / BLOCK + 1) * BLOCK, 0);
    Encryptor::<Aes128>::new(key.bytes().into(), &vector.into())
        .encrypt_padded::<Pkcs7>(segment, length)
        .expect("room for the padding");
}

/// When the key changes. Segments of one number have the same key in all renditions, so that a player that changes
/// between them does not wait for another.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rotation {
    /// After how many segments; never, if it does not say.
    pub every: Option<NonZeroU32>,
}

impl Rotation {
    /// Which key a segment has. Both count from 0.
    #[must_use]
    pub fn key_of(self, segment: usize) -> usize {
        self.every.map_or(0, |every| segment / every.get() as usize)
    }

    /// Which key begins with this segment, if one does: its tag stands before it.
    #[must_use]
    pub fn begins_at(self, segment: usize) -> Option<usize> {
        let key = self.key_of(segment);
        let begins = segment.checked_sub(1).is_none_or(|before| self.key_of(before) != key);
        begins.then_some(key)
    }

    /// How many keys so many segments need.
    #[must_use]
    pub fn keys(self, segments: usize) -> usize {
        segments.checked_sub(1).map_or(0, |last| self.key_of(last) + 1)
    }
}

/// Folder of the keys, in that of a generation.
pub const FOLDER: &str = "keys";

/// How the name of a key ends.
pub const EXTENSION: &str = ".key";

/// Name of a key's object in its folder. Keys count from 0, names from 1, as those of segments do.
#[must_use]
pub fn key_name(key: usize) -> String {
    format!("{:05}{EXTENSION}", key + 1)
}

/// The URI of a key in a media playlist, which lies in the folder of its rendition.
fn key_uri(key: usize) -> String {
    format!("../{FOLDER}/{}", key_name(key))
}

/// The attributes of the tag `EXT-X-KEY` of a key. The format of the key is the one that needs no name.
#[must_use]
pub fn key_attributes(key: usize) -> String {
    format!("METHOD=AES-128,URI=\"{}\"", key_uri(key))
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system has no randomness to give.
    #[error(
        "the operating system gives no random bytes for a key ({0}); nothing can be encrypted on this machine"
    )]
    Randomness(rand_core::Error),
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.split_whitespace().collect::<String>().chars().collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    fn key(hex: &str) -> Key {
        Key(Zeroizing::new(bytes(hex).try_into().unwrap()))
    }

    /// What openssl makes of `encrypted`.
    fn decrypted(key: &Key, vector: &str, encrypted: &[u8]) -> Vec<u8> {
        let mut openssl = Command::new("openssl")
            .args(["enc", "-d", "-aes-128-cbc", "-K", &hex(key.bytes()), "-iv", vector])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        openssl.stdin.take().unwrap().write_all(encrypted).unwrap();
        let output = openssl.wait_with_output().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    #[test]
    fn openssl_decrypts_what_was_encrypted_by_key_and_sequence_number() {
        let key = Key::generate().unwrap();
        for length in [0, 1, 15, 16, 17, 188, 4096, 30_001] {
            let clear: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let mut segment = clear.clone();
            encrypt_segment(&key, 0x0001_0203, &mut segment);
            assert_eq!(segment.len(), (length / 16 + 1) * 16);
            assert_eq!(decrypted(&key, "00000000000000000000000000010203", &segment), clear);
        }
    }

    /// NIST SP 800-38A, F.2.1.
    #[test]
    fn it_is_the_cbc_of_nist() {
        let key = key("2b7e151628aed2a6abf7158809cf4f3c");
        let vector = bytes("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let mut text = bytes(
            "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51
             30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710",
        );
        encrypt(&key, vector, &mut text);
        let expected = "7649abac8119b246cee98e9b12e9197d 5086cb9b507219ee95db113a917678b2
                        73bed6b8e3c1743b7116e69e22229516 3ff1caa1681fac09120eca307586e1a7";
        // After those, a block of padding, which the vector does not have.
        assert_eq!(text[..64], bytes(expected));
        assert_eq!(text.len(), 80);
    }

    /// ffmpeg writes the segments, and plays them again with an initialisation section that nobody encrypted.
    #[test]
    fn ffmpeg_plays_encrypted_segments_after_a_clear_initialisation_section() {
        let folder = tempfile::tempdir().unwrap();
        let rendition = folder.path().join("v1");
        fs::create_dir(&rendition).unwrap();
        fs::create_dir(folder.path().join("keys")).unwrap();
        let ffmpeg = |arguments: &str| {
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-v", "error", "-nostdin"]).args(arguments.split_whitespace());
            let output = ffmpeg.current_dir(&rendition).output().unwrap();
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        ffmpeg(
            "-f lavfi -i testsrc2=size=64x64:rate=10:duration=4 -c:v libx264 -g 10 -f hls -hls_time 1 \
             -hls_playlist_type vod -hls_segment_type fmp4 -hls_segment_filename %d.m4s clear.m3u8",
        );
        let rotation = Rotation { every: NonZeroU32::new(2) };
        let mut playlist = vec![
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:7".to_owned(),
            "#EXT-X-MAP:URI=\"init.mp4\"".to_owned(),
        ];
        let keys: Vec<_> = (0..rotation.keys(4)).map(|_| Key::generate().unwrap()).collect();
        for (number, key) in (0..).zip(&keys) {
            fs::write(folder.path().join(FOLDER).join(key_name(number)), key.bytes()).unwrap();
        }
        for number in 0..4 {
            let mut segment = fs::read(rendition.join(format!("{number}.m4s"))).unwrap();
            encrypt_segment(&keys[rotation.key_of(number)], 7 + number as u64, &mut segment);
            fs::write(rendition.join(format!("encrypted-{number}.m4s")), segment).unwrap();
            let key = rotation.begins_at(number).map(|key| format!("#EXT-X-KEY:{}", key_attributes(key)));
            playlist.extend(key);
            playlist.push(format!("#EXTINF:1,\nencrypted-{number}.m4s"));
        }
        playlist.push("#EXT-X-ENDLIST\n".to_owned());
        fs::write(rendition.join("encrypted.m3u8"), playlist.join("\n")).unwrap();

        let pictures =
            |playlist: &str| ffmpeg(&format!("-allowed_extensions ALL -i {playlist} -f framemd5 -"));
        let clear = pictures("clear.m3u8");
        assert_eq!(clear.lines().filter(|line| !line.starts_with('#')).count(), 40);
        assert_eq!(pictures("encrypted.m3u8"), clear);
    }

    #[test]
    fn keys_change_after_so_many_segments_or_never() {
        let every = |segments| Rotation { every: NonZeroU32::new(segments) };
        let keys = |rotation: Rotation| (0..7).map(|segment| rotation.key_of(segment)).collect::<Vec<_>>();
        assert_eq!(keys(every(0)), [0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(keys(every(1)), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(keys(every(3)), [0, 0, 0, 1, 1, 1, 2]);

        let begins =
            |rotation: Rotation| (0..7).map(|segment| rotation.begins_at(segment)).collect::<Vec<_>>();
        assert_eq!(begins(every(0)), [Some(0), None, None, None, None, None, None]);
        assert_eq!(begins(every(3)), [Some(0), None, None, Some(1), None, None, Some(2)]);

        assert_eq!([0, 1, 3, 4, 7].map(|segments| every(3).keys(segments)), [0, 1, 1, 2, 3]);
        assert_eq!([0, 1, 7].map(|segments| every(0).keys(segments)), [0, 1, 1]);
        assert_eq!(every(1).key_of(usize::MAX), usize::MAX);
    }

    #[test]
    fn keys_lie_beside_the_renditions() {
        assert_eq!(key_name(0), "00001.key");
        assert_eq!(key_attributes(11), "METHOD=AES-128,URI=\"../keys/00012.key\"");
    }

    #[test]
    fn a_key_is_never_printed_and_no_two_are_alike() {
        let [one, other] = [Key::generate().unwrap(), Key::generate().unwrap()];
        assert_ne!(one.bytes(), other.bytes());
        assert_eq!(format!("{one:?} {one:#?}"), "Key(..) Key(..)");
    }
}
