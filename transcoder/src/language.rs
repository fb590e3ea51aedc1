//! What a container calls a language, and what HLS calls it.
//!
//! Containers use three letters ([ISO 639-2], in two flavours); a playlist needs a BCP 47 tag, which must be the
//! two-letter code where there is one ([RFC 5646 §2.2.1]).
//!
//! [ISO 639-2]: https://www.loc.gov/standards/iso639-2/php/code_list.php
//! [RFC 5646 §2.2.1]: https://www.rfc-editor.org/rfc/rfc5646#section-2.2.1

/// Three letters (terminological, bibliographic where it differs), the BCP 47 tag, and the language's own name.
/// Those that video is most often in; any other keeps its three letters, which players pass on unharmed.
const LANGUAGES: &[(&str, &str, &str)] = &[
    ("ara", "ar", "العربية"),
    ("ben", "bn", "বাংলা"),
    ("bul", "bg", "Български"),
    ("cat", "ca", "Català"),
    ("ces cze", "cs", "Čeština"),
    ("dan", "da", "Dansk"),
    ("deu ger", "de", "Deutsch"),
    ("ell gre", "el", "Ελληνικά"),
    ("eng", "en", "English"),
    ("est", "et", "Eesti"),
    ("eus baq", "eu", "Euskara"),
    ("fas per", "fa", "فارسی"),
    ("fin", "fi", "Suomi"),
    ("fra fre", "fr", "Français"),
    ("gle", "ga", "Gaeilge"),
    ("glg", "gl", "Galego"),
    ("heb", "he", "עברית"),
    ("hin", "hi", "हिन्दी"),
    ("hrv", "hr", "Hrvatski"),
    ("hun", "hu", "Magyar"),
    ("ind", "id", "Bahasa Indonesia"),
    ("isl ice", "is", "Íslenska"),
    ("ita", "it", "Italiano"),
    ("jpn", "ja", "日本語"),
    ("kor", "ko", "한국어"),
    ("lav", "lv", "Latviešu"),
    ("lit", "lt", "Lietuvių"),
    ("msa may", "ms", "Bahasa Melayu"),
    ("nld dut", "nl", "Nederlands"),
    ("nor", "no", "Norsk"),
    ("pol", "pl", "Polski"),
    ("por", "pt", "Português"),
    ("ron rum", "ro", "Română"),
    ("rus", "ru", "Русский"),
    ("slk slo", "sk", "Slovenčina"),
    ("slv", "sl", "Slovenščina"),
    ("spa", "es", "Español"),
    ("srp", "sr", "Српски"),
    ("swe", "sv", "Svenska"),
    ("tam", "ta", "தமிழ்"),
    ("tel", "te", "తెలుగు"),
    ("tha", "th", "ไทย"),
    ("tur", "tr", "Türkçe"),
    ("ukr", "uk", "Українська"),
    ("urd", "ur", "اردو"),
    ("vie", "vi", "Tiếng Việt"),
    ("zho chi", "zh", "中文"),
];

/// A language in a playlist.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Language {
    /// Its BCP 47 tag. `und` where it is not known: Apple's guide wants one on every rendition (rule 8.10).
    pub tag: String,
    /// What a player's menu shows.
    pub name: String,
}

/// The language that a container's `language` tag means.
#[must_use]
pub fn of_track(tag: Option<&str>) -> Language {
    let tag = tag.unwrap_or_default().trim().to_ascii_lowercase();
    let known = LANGUAGES.iter().find(|(codes, bcp_47, _)| {
        !tag.is_empty() && (*bcp_47 == tag || codes.split(' ').any(|code| code == tag))
    });
    if let Some((_, bcp_47, name)) = known {
        return Language { tag: (*bcp_47).to_owned(), name: (*name).to_owned() };
    }
    // It ends up inside quotes in a playlist, and comes from whoever made the file.
    let is_tag = (2..=3).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_lowercase());
    if is_tag && tag != "und" {
        return Language { name: tag.clone(), tag };
    }
    Language { tag: "und".to_owned(), name: "Audio".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_flavours_of_three_letters_become_two() {
        for code in ["ger", "deu", "de", "DEU"] {
            assert_eq!(of_track(Some(code)), Language { tag: "de".into(), name: "Deutsch".into() });
        }
        assert_eq!(of_track(Some("haw")).tag, "haw");
    }

    #[test]
    fn what_is_no_language_is_undetermined() {
        for tag in [None, Some(""), Some("und"), Some("x\"y"), Some("a\nb"), Some("\u{5}\u{1}\u{2}")] {
            assert_eq!(of_track(tag), Language { tag: "und".into(), name: "Audio".into() });
        }
    }
}
