//! The object that a URL's path names.
//!
//! A policy is matched against the path as it was written, and an object is read by what the path means. The
//! two must not differ: `/free/%2e%2e/paid/1.m4s` matches `/free/*` and would read something else. So a path
//! with more than one meaning has none.

use std::fmt;

use percent_encoding::percent_decode_str;

/// R2's and S3's own limit, in bytes of UTF-8.
const LONGEST: usize = 1024;

/// The key of an object in the bucket: a path, percent-decoded once, that means only itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// Reads the path of a URL, which begins with `/`.
    pub fn parse(path: &str) -> Result<Self, BadPath> {
        let path = path.strip_prefix('/').ok_or(BadPath)?;
        let mut key = String::with_capacity(path.len());
        for (i, segment) in path.split('/').enumerate() {
            let segment = percent_decode_str(segment).decode_utf8().map_err(|_| BadPath)?;
            if matches!(&*segment, "." | "..") || segment.contains(['/', '\\', '\0']) {
                return Err(BadPath);
            }
            if i > 0 {
                key.push('/');
            }
            key.push_str(&segment);
        }
        if key.len() > LONGEST { Err(BadPath) } else { Ok(Self(key)) }
    }

    /// The key, as the bucket knows it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last dot of the last segment, in lower case; nothing if there is no dot.
    #[must_use]
    pub fn extension(&self) -> String {
        let name = self.0.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path has dot segments, encoded slashes or backslashes, NUL, bytes that are no UTF-8, or is too long.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the path has more than one meaning, or is longer than {LONGEST} bytes")]
pub struct BadPath;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        let key = |path| ObjectKey::parse(path).unwrap().0;
        assert_eq!(key("/assets/a/1.m4s"), "assets/a/1.m4s");
        assert_eq!(key("/d%20%C3%A9/a+b.ts"), "d é/a+b.ts");
        assert_eq!(key("/100%2525"), "100%25");
        assert_eq!(key("/a//b/"), "a//b/");
        assert_eq!(key("/...."), "....");
        assert_eq!(key("/50%"), "50%");
        assert_eq!(key("/"), "");
    }

    #[test]
    fn a_path_with_two_meanings_has_none() {
        for path in [
            "",
            "a",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/%2e%2e/b",
            "/a/.%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/%ff",
            "/%c0%ae%c0%ae/b",
        ] {
            assert_eq!(ObjectKey::parse(path), Err(BadPath), "{path}");
        }
        assert!(ObjectKey::parse(&format!("/{}", "k".repeat(1024))).is_ok());
        assert!(ObjectKey::parse(&format!("/{}", "k".repeat(1025))).is_err());
    }

    #[test]
    fn an_extension_is_that_of_the_last_segment() {
        let extension = |path| ObjectKey::parse(path).unwrap().extension();
        assert_eq!(extension("/a.b/index.M3U8"), "m3u8");
        assert_eq!(extension("/a.b/index"), "");
        assert_eq!(extension("/"), "");
    }
}
