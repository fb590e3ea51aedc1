//! Captions files that lie beside a video and by their name belong to it.
//!
//! `lesson.mp4` has `lesson.srt`, and `lesson.de.srt`, `lesson.en.forced.vtt`, `lesson.en.sdh.vtt`: the name of the
//! video, then tags between dots in any order, as media servers have them. A name with any other word in it may
//! be that of another video, and is left alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CAPTIONS: &[&str] = &["srt", "vtt"];

/// What takes its captions away from a video with a shorter name.
const VIDEOS: &[&str] = &[
    "3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "ogv", "ts",
    "webm", "wmv",
];

/// A captions file beside a video.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Beside {
    /// Where it is.
    pub path: PathBuf,
    /// Its language, as the name has it: two or three letters, maybe more after a hyphen.
    pub language: Option<String>,
    /// Whether it has only what all viewers need, such as signs: `FORCED=YES`, which is for subtitles alone.
    pub forced: bool,
    /// Whether it tells of sounds too: [`FOR_HEARING_IMPAIRED`](super::FOR_HEARING_IMPAIRED).
    pub hearing_impaired: bool,
}

/// The captions files beside a video, by name. None where its folder cannot be listed, or its name is not Unicode.
///
/// Links are not followed: what they lead to nobody put here.
#[must_use]
pub fn beside(input: &Path) -> Vec<Beside> {
    let folder = input.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        // Of captions only files count; of videos, which are not read here, whatever has the name.
        (!is_captions(&name) || entry.file_type().is_ok_and(|kind| kind.is_file())).then_some(name)
    });
    among(input, files)
}

/// Whether a file's name is that of captions.
pub(crate) fn is_captions(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| CAPTIONS.contains(&extension.to_lowercase().as_str()))
}

/// Those of the files with these names, in the video's folder, that are its captions.
pub(crate) fn among(input: &Path, files: impl Iterator<Item = String>) -> Vec<Beside> {
    let Some(stem) = input.file_stem().and_then(|stem| stem.to_str()).map(str::to_lowercase) else {
        return Vec::new();
    };
    let mut captions = Vec::new();
    let mut others = BTreeSet::new();
    for file in files {
        let Some((name, extension)) = file.rsplit_once('.') else { continue };
        let lower = name.to_lowercase();
        if !lower.starts_with(&stem) {
            continue;
        }
        if is_captions(&file) {
            let name = name.to_owned();
            captions.push((file, name));
        } else if VIDEOS.contains(&extension.to_lowercase().as_str()) && lower != stem {
            others.insert(lower);
        }
    }
    captions.sort();
    captions
        .into_iter()
        .filter(|(_, name)| {
            let name = name.to_lowercase();
            !others.iter().any(|other| tags(&name, other).is_some())
        })
        .filter_map(|(file, name)| named(input.with_file_name(file), tags(&name, &stem)?))
        .collect()
}

/// What a name has after that of a video, which is given in lower case: nothing, or tags with a dot before each.
fn tags<'a>(name: &'a str, video: &str) -> Option<&'a str> {
    // Compared piece by piece, because in lower case a name may have another length.
    let dots = name.match_indices('.').map(|(at, _)| at).chain([name.len()]);
    let mut splits = dots.map(|at| name.split_at(at));
    splits.find(|(before, _)| before.to_lowercase() == video).map(|(_, tags)| tags)
}

fn named(path: PathBuf, tags: &str) -> Option<Beside> {
    let mut found = Beside { path, language: None, forced: false, hearing_impaired: false };
    for tag in tags.split('.').skip(1) {
        match tag.to_ascii_lowercase().as_str() {
            "forced" => found.forced = true,
            "sdh" | "cc" => found.hearing_impaired = true,
            _ if found.language.is_none() && is_language(tag) => found.language = Some(tag.to_owned()),
            _ => return None,
        }
    }
    Some(found)
}

/// The outer form of a BCP 47 tag, or of what systems make of one (`pt_BR`).
fn is_language(tag: &str) -> bool {
    let mut parts = tag.split(['-', '_']);
    let primary = parts.next().unwrap_or_default();
    matches!(primary.len(), 2..=3)
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts
            .all(|part| matches!(part.len(), 1..=8) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a folder that are captions of `lesson.mp4`, each with what is known of it.
    fn of_lesson(files: &[&str]) -> Vec<String> {
        of("lesson.mp4", files)
    }

    fn of(video: &str, files: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        let found = beside(&folder.path().join(video)).into_iter();
        found
            .map(|file| {
                assert_eq!(file.path.parent(), Some(folder.path()));
                let mut words = vec![file.path.file_name().unwrap().to_str().unwrap().to_owned()];
                words.extend(file.language);
                words.extend(file.forced.then(|| "forced".to_owned()));
                words.extend(file.hearing_impaired.then(|| "hearing impaired".to_owned()));
                words.join(", ")
            })
            .collect()
    }

    #[test]
    fn a_name_tells_language_and_purpose() {
        let files = [
            "lesson.srt",
            "lesson.de.srt",
            "lesson.en-GB.vtt",
            "lesson.en.forced.srt",
            "lesson.SDH.en.vtt",
            "lesson.pt_BR.CC.SRT",
            "LESSON.FR.Vtt",
        ];
        let found = [
            "LESSON.FR.Vtt, FR",
            "lesson.SDH.en.vtt, en, hearing impaired",
            "lesson.de.srt, de",
            "lesson.en-GB.vtt, en-GB",
            "lesson.en.forced.srt, en, forced",
            "lesson.pt_BR.CC.SRT, pt_BR, hearing impaired",
            "lesson.srt",
        ];
        assert_eq!(of_lesson(&files), found);
    }

    #[test]
    fn captions_of_another_video_are_left_alone() {
        let files = ["lesson2.srt", "lesson-1.srt", "lesson 1.srt", "a.lesson.srt", "lesson.part.srt"];
        assert_eq!(of_lesson(&files), [""; 0]);
        assert_eq!(of_lesson(&["lesson.en.de.srt", "lesson..srt", "lesson.txt", "lesson.srt.bak"]), [""; 0]);
        // Whatever a word may mean, a video that has it in its name has the first claim.
        let files = ["lesson.mp4", "lesson.cut.MOV", "lesson.cut.srt", "lesson.cut.de.srt", "lesson.en.srt"];
        assert_eq!(of_lesson(&files), ["lesson.en.srt, en"]);
        assert_eq!(of("lesson.cut.MOV", &files), ["lesson.cut.de.srt, de", "lesson.cut.srt"]);
    }

    #[test]
    fn a_dot_in_the_name_of_a_video_is_part_of_it() {
        assert_eq!(
            of("talk.2026.en.mkv", &["talk.2026.en.de.srt", "talk.2026.srt"]),
            ["talk.2026.en.de.srt, de"]
        );
        assert_eq!(of("İZ.mp4", &["i̇z.en.srt", "İZ.srt"]), ["i̇z.en.srt, en", "İZ.srt"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_and_folders_are_no_captions() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "").unwrap();
        std::os::unix::fs::symlink("secret", folder.path().join("lesson.srt")).unwrap();
        fs::create_dir(folder.path().join("lesson.en.srt")).unwrap();
        assert_eq!(beside(&folder.path().join("lesson.mp4")), []);
        assert_eq!(beside(&folder.path().join("nowhere/lesson.mp4")), []);
    }
}
