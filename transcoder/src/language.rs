//! What a container calls a language, and what HLS calls it.
//!
//! Containers use three letters ([ISO 639-2], in two flavours), two, a BCP 47 tag, a word, or whatever somebody
//! typed; a playlist needs a BCP 47 tag, which must be the two-letter code where there is one
//! ([RFC 5646 §2.2.1]).
//!
//! [ISO 639-2]: https://www.loc.gov/standards/iso639-2/php/code_list.php
//! [RFC 5646 §2.2.1]: https://www.rfc-editor.org/rfc/rfc5646#section-2.2.1

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Three letters (terminological, bibliographic where it differs), the BCP 47 tag, the language's own name, and its
/// English one. Those that video is most often in; any other keeps its three letters, which players pass on unharmed.
const LANGUAGES: &[(&str, &str, &str, &str)] = &[
    ("afr", "af", "Afrikaans", "Afrikaans"),
    ("ara", "ar", "العربية", "Arabic"),
    ("ben", "bn", "বাংলা", "Bengali"),
    ("bul", "bg", "Български", "Bulgarian"),
    ("cat", "ca", "Català", "Catalan"),
    ("ces cze", "cs", "Čeština", "Czech"),
    ("cym wel", "cy", "Cymraeg", "Welsh"),
    ("dan", "da", "Dansk", "Danish"),
    ("deu ger", "de", "Deutsch", "German"),
    ("ell gre", "el", "Ελληνικά", "Greek"),
    ("eng", "en", "English", "English"),
    ("est", "et", "Eesti", "Estonian"),
    ("eus baq", "eu", "Euskara", "Basque"),
    ("fas per", "fa", "فارسی", "Persian"),
    ("fil tgl", "tl", "Filipino", "Tagalog"),
    ("fin", "fi", "Suomi", "Finnish"),
    ("fra fre", "fr", "Français", "French"),
    ("gle", "ga", "Gaeilge", "Irish"),
    ("glg", "gl", "Galego", "Galician"),
    ("heb", "he", "עברית", "Hebrew"),
    ("hin", "hi", "हिन्दी", "Hindi"),
    ("hrv", "hr", "Hrvatski", "Croatian"),
    ("hun", "hu", "Magyar", "Hungarian"),
    ("ind", "id", "Bahasa Indonesia", "Indonesian"),
    ("isl ice", "is", "Íslenska", "Icelandic"),
    ("ita", "it", "Italiano", "Italian"),
    ("jpn", "ja", "日本語", "Japanese"),
    ("kor", "ko", "한국어", "Korean"),
    ("lav", "lv", "Latviešu", "Latvian"),
    ("lit", "lt", "Lietuvių", "Lithuanian"),
    ("msa may", "ms", "Bahasa Melayu", "Malay"),
    ("nld dut", "nl", "Nederlands", "Dutch"),
    ("nno", "nn", "Norsk nynorsk", "Norwegian Nynorsk"),
    ("nob", "nb", "Norsk bokmål", "Norwegian Bokmal"),
    ("nor", "no", "Norsk", "Norwegian"),
    ("pol", "pl", "Polski", "Polish"),
    ("por", "pt", "Português", "Portuguese"),
    ("ron rum", "ro", "Română", "Romanian"),
    ("rus", "ru", "Русский", "Russian"),
    ("slk slo", "sk", "Slovenčina", "Slovak"),
    ("slv", "sl", "Slovenščina", "Slovenian"),
    ("spa", "es", "Español", "Spanish"),
    ("srp", "sr", "Српски", "Serbian"),
    ("swe", "sv", "Svenska", "Swedish"),
    ("tam", "ta", "தமிழ்", "Tamil"),
    ("tel", "te", "తెలుగు", "Telugu"),
    ("tha", "th", "ไทย", "Thai"),
    ("tur", "tr", "Türkçe", "Turkish"),
    ("ukr", "uk", "Українська", "Ukrainian"),
    ("urd", "ur", "اردو", "Urdu"),
    ("vie", "vi", "Tiếng Việt", "Vietnamese"),
    ("zho chi", "zh", "中文", "Chinese"),
];

/// What a tag says that says nothing: undetermined, uncoded, several, none, and what is for private use.
const NO_LANGUAGES: [&str; 4] = ["und", "mis", "mul", "zxx"];
const PRIVATE_USE: std::ops::RangeInclusive<&str> = "qaa"..="qtz";

/// The longest title that is a name for a menu, in characters.
const LONGEST_NAME: usize = 60;

/// Titles that programs give their tracks.
const MEANINGLESS: [&str; 12] = [
    "audio",
    "core media audio",
    "default",
    "none",
    "sound",
    "soundhandler",
    "stereo",
    "subtitle",
    "subtitles",
    "track",
    "undetermined",
    "unknown",
];

/// A language in a playlist.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Language {
    /// Its BCP 47 tag. `und` where it is not known: Apple's guide wants one on every rendition (rule 8.10).
    pub tag: String,
    /// What a player's menu shows.
    pub name: String,
}

impl Language {
    /// Whether it is known.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.tag != UNKNOWN
    }
}

const UNKNOWN: &str = "und";

/// The language that a container's `language` tag means.
#[must_use]
pub fn of_track(tag: Option<&str>) -> Language {
    parse(tag.unwrap_or_default())
        .unwrap_or_else(|| Language { tag: UNKNOWN.to_owned(), name: "Audio".to_owned() })
}

/// The languages of tracks by their tags and titles, with a name for each that no other has. `unknown` is the name
/// of one that says neither.
#[must_use]
pub fn of_tracks<'a>(
    tracks: impl IntoIterator<Item = (Option<&'a str>, Option<&'a str>)>,
    unknown: &str,
) -> Vec<Language> {
    let mut taken = BTreeSet::new();
    let named = tracks.into_iter().map(|(tag, title)| {
        let language = parse(tag.unwrap_or_default());
        let title = title.and_then(sensible);
        // Where nobody said it in the tag, it may be the title.
        let language = language.or_else(|| title.as_deref().and_then(parse));
        let name = match (&language, title) {
            (Some(language), Some(title)) if says(&title, language) => title,
            (Some(language), Some(title)) => format!("{} ({title})", language.name),
            (Some(language), None) => language.name.clone(),
            (None, Some(title)) => title,
            (None, None) => unknown.to_owned(),
        };
        let numbered = (2..).map(|number| format!("{name} {number}"));
        let name =
            std::iter::once(name.clone()).chain(numbered).find(|name| taken.insert(name.to_lowercase()));
        let tag = language.map_or_else(|| UNKNOWN.to_owned(), |language| language.tag);
        Language { tag, name: name.unwrap_or_default() }
    });
    named.collect()
}

/// A tag, or the name of a language; nothing if it means none.
fn parse(text: &str) -> Option<Language> {
    let text = text.trim();
    let by_name = LANGUAGES.iter().find(|(_, _, own, english)| {
        !text.is_empty() && (own.to_lowercase() == text.to_lowercase() || english.eq_ignore_ascii_case(text))
    });
    if let Some((_, tag, name, _)) = by_name {
        return Some(Language { tag: (*tag).to_owned(), name: (*name).to_owned() });
    }
    let mut parts = text.split(['-', '_']);
    let primary = parts.next().unwrap_or_default().to_ascii_lowercase();
    let is_code = (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_none = NO_LANGUAGES.contains(&primary.as_str())
        || (primary.len() == 3 && PRIVATE_USE.contains(&primary.as_str()));
    if !is_code || is_none {
        return None;
    }
    let known = LANGUAGES
        .iter()
        .find(|(codes, tag, ..)| *tag == primary || codes.split(' ').any(|code| code == primary));
    let (mut tag, mut name) = match known {
        Some((_, tag, name, _)) => ((*tag).to_owned(), (*name).to_owned()),
        None => (primary.clone(), primary),
    };
    let mut detail = Vec::new();
    for part in parts {
        let is_alphabetic = part.bytes().all(|byte| byte.is_ascii_alphabetic());
        let part = match part.len() {
            2 if is_alphabetic => part.to_ascii_uppercase(),
            3 if part.bytes().all(|byte| byte.is_ascii_digit()) => part.to_owned(),
            4 if is_alphabetic => part[..1].to_ascii_uppercase() + &part[1..].to_ascii_lowercase(),
            // What comes after is rare, and a wrong tag is worse than a wide one.
            _ => break,
        };
        tag.push('-');
        tag.push_str(&part);
        detail.push(part);
    }
    if !detail.is_empty() {
        name = format!("{name} ({})", detail.join(", "));
    }
    Some(Language { tag, name })
}

/// A title as it may stand in a menu and, between quotes, in a playlist.
fn sensible(title: &str) -> Option<String> {
    let is_fit = |character: &char| !character.is_control() && *character != '"' && !is_invisible(*character);
    let words: String = title.replace(['\n', '\t', '\r'], " ").chars().filter(is_fit).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let has_letters = words.chars().any(char::is_alphanumeric);
    let is_meaningless = MEANINGLESS.contains(&words.to_lowercase().as_str())
        || parse(&words).is_none() && NO_LANGUAGES.contains(&words.to_ascii_lowercase().as_str());
    (has_letters && !is_meaningless && words.chars().count() <= LONGEST_NAME).then_some(words)
}

/// Marks that turn text around or join it, which can make a name look like another.
fn is_invisible(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Whether a title names the language itself.
fn says(title: &str, language: &Language) -> bool {
    let title = title.to_lowercase();
    let primary = language.tag.split('-').next().unwrap_or_default();
    let known = LANGUAGES.iter().find(|(_, tag, ..)| *tag == primary);
    let names = known.map(|(_, _, own, english)| [own.to_lowercase(), english.to_lowercase()]);
    names.is_some_and(|names| names.iter().any(|name| title.contains(name.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_flavours_of_three_letters_become_two() {
        for code in ["ger", "deu", "de", "DEU", "Deutsch", "german"] {
            assert_eq!(of_track(Some(code)), Language { tag: "de".into(), name: "Deutsch".into() });
        }
        assert_eq!(of_track(Some("haw")).tag, "haw");
    }

    #[test]
    fn regions_and_scripts_are_kept() {
        let tag = |text| of_track(Some(text)).tag;
        assert_eq!(tag("pt-BR"), "pt-BR");
        assert_eq!(tag("por_br"), "pt-BR");
        assert_eq!(tag("zh-hant-tw"), "zh-Hant-TW");
        assert_eq!(tag("es-419"), "es-419");
        assert_eq!(tag("de-1996"), "de");
        assert_eq!(of_track(Some("pt-BR")).name, "Português (BR)");
    }

    #[test]
    fn what_is_no_language_is_undetermined() {
        for tag in [
            None,
            Some(""),
            Some("und"),
            Some("mul"),
            Some("qaa"),
            Some("x\"y"),
            Some("a\nb"),
            Some("english!"),
            Some("\u{5}\u{1}\u{2}"),
        ] {
            assert_eq!(of_track(tag), Language { tag: "und".into(), name: "Audio".into() }, "{tag:?}");
        }
    }

    fn names(tracks: &[(Option<&str>, Option<&str>)]) -> Vec<String> {
        of_tracks(tracks.iter().copied(), "Audio")
            .into_iter()
            .map(|it| format!("{} {}", it.tag, it.name))
            .collect()
    }

    #[test]
    fn titles_name_what_the_language_does_not() {
        assert_eq!(
            names(&[
                (Some("eng"), None),
                (Some("eng"), Some("Director's \"commentary\"\n")),
                (Some("eng"), Some("English for the blind")),
                (Some("ger"), Some("German")),
                (Some("und"), Some("Français")),
                (None, Some("Choir only")),
            ]),
            [
                "en English",
                "en English (Director's commentary)",
                "en English for the blind",
                "de German",
                "fr Français",
                "und Choir only"
            ]
        );
    }

    #[test]
    fn no_two_tracks_have_one_name() {
        assert_eq!(
            names(&[
                (Some("eng"), None),
                (Some("en"), Some("english")),
                (Some("eng"), None),
                (None, None),
                (None, None)
            ]),
            ["en English", "en english 2", "en English 3", "und Audio", "und Audio 2"]
        );
    }

    #[test]
    fn titles_that_say_nothing_are_no_names() {
        for title in ["SoundHandler", "Stereo", "\u{202e}\u{200b}", "...", &"x".repeat(61)] {
            assert_eq!(names(&[(Some("ita"), Some(title))]), ["it Italiano"], "{title}");
        }
    }
}
