//! Checks HLS against what players rely on: ours before it is published, and anybody's, from a folder or the web.
//!
//! ```text
//! folder, URL, package ─▶ files ─▶ gather ─▶ Asset ─▶ checks, variants ─▶ Report
//!                                  scan: lines         pure, by rules
//!                                  segment, transport: boxes and packets
//!                                  summary: of each rendition
//! ```
//!
//! The rules are Apple's [authoring specification] and [RFC 8216], as data in [`rules`]. What is declared is held against
//! what was measured: sizes of segments, times of fragments, key frames, codecs. Nothing of a playlist is trusted: there
//! are limits to how much of one is looked at, and what was not looked at is said.
//!
//! [authoring specification]: https://developer.apple.com/documentation/http-live-streaming/hls-authoring-specification-for-apple-devices
//! [RFC 8216]: https://www.rfc-editor.org/rfc/rfc8216

mod checks;
mod codecs;
pub mod files;
mod gather;
pub(crate) mod reach;
pub mod rules;
mod scan;
mod segment;
mod summary;
mod transport;
mod variants;

use std::fmt;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use url::Url;

use crate::package::Package;
use files::{Files, Lent, Refused};
pub use rules::{Rule, Severity};

/// How often a log that is no terminal gets a line.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How much of a file is read to see whether it is a multivariant playlist, in bytes.
const HEAD: u64 = 1024 * 1024;

/// What is wrong somewhere.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The number of the rule: Apple's, or a document and its section ([`rules::ALL`] has them all).
    pub rule: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// Playlist, line, and the segment, if it is one. Without queries, which may be signatures.
    pub place: String,
    /// What is asked for, what is there, and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<6} {}  {}: {}", self.severity, self.rule, self.place, self.message)
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Playlists, of both kinds.
    pub playlists: usize,
    /// Segments that were looked into.
    pub segments: usize,
    /// Segments that could not be looked into.
    pub skipped: usize,
    /// Size of all segments.
    pub bytes: u64,
}

/// What came of a check.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    /// What is wrong, in the order of playlists and lines.
    pub findings: Vec<Finding>,
    /// What could not be looked into, and why.
    pub notes: Vec<String>,
    /// How much was looked at.
    pub looked_at: Counts,
}

impl Report {
    /// Findings of one weight.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity == severity)
    }

    /// Whether a player may fail.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.of(Severity::Must).next().is_some()
    }

    fn add(&mut self, other: Self) {
        self.findings.extend(other.findings);
        self.notes.extend(other.notes);
        self.looked_at.playlists += other.looked_at.playlists;
        self.looked_at.segments += other.looked_at.segments;
        self.looked_at.skipped += other.looked_at.skipped;
        self.looked_at.bytes = self.looked_at.bytes.saturating_add(other.looked_at.bytes);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for severity in [Severity::Must, Severity::Should] {
            for finding in self.of(severity) {
                writeln!(formatter, "{finding}")?;
            }
        }
        for note in &self.notes {
            writeln!(formatter, "NOTE   {note}")?;
        }
        let count = |severity| self.of(severity).count();
        write!(
            formatter,
            "{} playlists, {} segments looked into, {} not: {} MUST, {} SHOULD",
            self.looked_at.playlists,
            self.looked_at.segments,
            self.looked_at.skipped,
            count(Severity::Must),
            count(Severity::Should)
        )
    }
}

/// Checks a playlist, and all that it links to. `progress` hears of how many segments were looked into, of how many.
pub async fn check(
    files: &Files<'_>,
    entry: &Url,
    progress: &(dyn Fn(usize, usize) + Send + Sync),
) -> Result<Report, Error> {
    let asset = gather::gather(files, entry, progress).await;
    let asset = asset.map_err(|reason| Error::Unreadable { place: files.shown(entry), reason })?;
    Ok(checks::check(files, &asset))
}

/// Checks what is about to be published.
pub async fn check_package(package: &Package) -> Result<Report, Error> {
    let key = package.playlist_key();
    let media = package.media.iter().map(|file| (file.key.as_str(), Lent::File(&file.path)));
    let playlists = package.texts.iter().map(|(key, text)| (key.as_str(), Lent::Text(text)));
    let entry = (key.as_str(), Lent::Text(&package.multivariant));
    let files = Files::lent(media.chain(playlists).chain([entry]));
    let at = files.key(&key).map_err(|reason| Error::Unreadable { place: key.clone(), reason })?;
    check(&files, &at, &|_, _| {}).await
}

/// Why nothing could be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The playlist cannot be read.
    #[error("{place}: {reason}")]
    Unreadable {
        /// Which, without its query.
        place: String,
        /// Why.
        reason: Refused,
    },
    /// There is no playlist in a folder.
    #[error("{}: there is no .m3u8 in this folder; name the folder of index.m3u8, or the playlist itself", .0.display())]
    NoPlaylist(PathBuf),
    /// What is to be checked is neither a path nor a URL.
    #[error("{0}: there is no such file or folder, and it is no http:// or https:// URL")]
    NoPlace(String),
    /// The process could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

/// Check HLS: ours or anybody's, in a folder or on the web
///
/// Reads the playlists and looks into the segments, and says where they break the rules of Apple's HLS Authoring
/// Specification and of RFC 8216: rule, weight (MUST or SHOULD), place, and what to do. Of a folder the multivariant
/// playlists are checked, with all that they link to; a media playlist can be checked alone. Signed URLs are fetched as
/// players do it, and signatures are not printed. Nothing outside of the folder is read (for a media playlist with links
/// to `../`, that is the folder above its own), and nothing that is public leads into a private network. Exit status 1 if a MUST is broken or nothing can be read, else 0.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  transcoder lint ./media/assets/lesson-1
  transcoder lint 'https://v.example/assets/lesson-1/index.m3u8?Policy=…&Signature=…&Key-Pair-Id=…' --json
  transcoder lint --rules")]
pub struct Arguments {
    /// A folder, a playlist, or the URL of one
    #[arg(value_name = "PLACE", required_unless_present = "rules")]
    place: Option<String>,

    /// Print the report as JSON: `findings`, `notes`, `looked_at`
    #[arg(long)]
    json: bool,

    /// Print the rules instead
    #[arg(long, conflicts_with = "place")]
    rules: bool,
}

impl Arguments {
    /// Does what is asked for, and has what is for stdout, and whether all is well.
    pub fn run(self) -> Result<(String, bool), Error> {
        let Some(place) = self.place.filter(|_| !self.rules) else {
            return Ok((listed(self.json), true));
        };
        let report = tokio::runtime::Runtime::new()?.block_on(check_place(&place))?;
        let text = if self.json { json(&report) } else { report.to_string() };
        Ok((text, !report.is_broken()))
    }
}

fn listed(as_json: bool) -> String {
    if as_json {
        return json(&rules::ALL);
    }
    let mut text = String::new();
    for rule in rules::ALL {
        let _ = writeln!(text, "{:<6} {}: {}; {}", rule.severity, rule.number, rule.title, rule.advice);
    }
    text.trim_end().to_owned()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("serializable")
}

/// Checks what a person names.
async fn check_place(place: &str) -> Result<Report, Error> {
    let unreadable = |reason| Error::Unreadable { place: path_of(place), reason };
    if place.starts_with("http://") || place.starts_with("https://") {
        let at = Url::parse(place).map_err(|_| Error::NoPlace(path_of(place)))?;
        let files = Files::web(&at).await.map_err(unreadable)?;
        let display = Display::new();
        return check(&files, &at, &|done, total| display.show(done, total)).await;
    }
    let path = Path::new(place);
    let (root, playlists) = if path.is_dir() {
        (path.to_owned(), playlists(path)?)
    } else if path.is_file() {
        (root_of(path)?, vec![path.to_owned()])
    } else {
        return Err(Error::NoPlace(path_of(place)));
    };
    let files = Files::folder(&root).map_err(unreadable)?;
    let display = Display::new();
    let mut report = Report::default();
    for playlist in playlists {
        let at = real(&playlist).and_then(|path| Url::from_file_path(path).ok());
        let at = at.ok_or_else(|| Error::NoPlace(playlist.display().to_string()))?;
        report.add(check(&files, &at, &|done, total| display.show(done, total)).await?);
    }
    Ok(report)
}

/// A playlist in the real path of its folder, from which its links lead on.
fn real(playlist: &Path) -> Option<PathBuf> {
    Some(folder_of(playlist).canonicalize().ok()?.join(playlist.file_name()?))
}

fn folder_of(playlist: &Path) -> &Path {
    playlist.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The folder that is not left where a playlist is named: its own. Media playlists are often beside the folder of what
/// they link to, so where a media playlist has links of one folder up, it is that one; but not all of the disk.
fn root_of(playlist: &Path) -> Result<PathBuf, Error> {
    let folder = folder_of(playlist).canonicalize()?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(fs::File::open(playlist)?, HEAD), &mut text)?;
    let text = String::from_utf8_lossy(&text);
    let leads_up = |line: &str| line.starts_with("../") || line.contains("URI=\"../");
    let is_media =
        text.starts_with("#EXTM3U") && !text.lines().any(|line| line.starts_with("#EXT-X-STREAM-INF"));
    let above = folder.parent().filter(|above| above.parent().is_some());
    let above = above.filter(|_| is_media && text.lines().any(leads_up));
    Ok(above.map_or(folder.clone(), Path::to_owned))
}

fn path_of(place: &str) -> String {
    gather::path(place)
}

/// What to check of a folder: `index.m3u8`, if that is a multivariant playlist, or else all that are; and if none is, all
/// there are.
fn playlists(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let is_multivariant = |path: &Path| {
        let head = || {
            fs::File::open(path).and_then(|file| {
                let mut head = Vec::new();
                std::io::Read::read_to_end(&mut std::io::Read::take(file, HEAD), &mut head)?;
                Ok(head)
            })
        };
        let tag = b"\n#EXT-X-STREAM-INF";
        path.is_file() && head().is_ok_and(|head| head.windows(tag.len()).any(|window| window == tag))
    };
    let index = folder.join("index.m3u8");
    if is_multivariant(&index) {
        return Ok(vec![index]);
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "m3u8" || extension == "m3u")
            && path.is_file()
        {
            all.push(path);
        }
    }
    all.sort();
    let (multivariant, media): (Vec<_>, Vec<_>) = all.into_iter().partition(|path| is_multivariant(path));
    match (multivariant.is_empty(), media.is_empty()) {
        (false, _) => Ok(multivariant),
        (_, false) => Ok(media),
        _ => Err(Error::NoPlaylist(folder.to_owned())),
    }
}

/// Shows how far it is: a bar at a terminal, now and then a line in a log.
struct Display {
    bar: ProgressBar,
    written: Mutex<Instant>,
}

impl Display {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("looking into segments {wide_bar} {pos}/{len}, {eta} left");
        bar.set_style(style.expect("the template is well formed"));
        Self { bar, written: Mutex::new(Instant::now()) }
    }

    fn show(&self, done: usize, total: usize) {
        if !self.bar.is_hidden() {
            self.bar.set_length(u64::try_from(total).unwrap_or(u64::MAX));
            self.bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
            return;
        }
        let mut written = self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if written.elapsed() >= LINE_EVERY {
            *written = Instant::now();
            eprintln!("looking into segments: {done} of {total}");
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
