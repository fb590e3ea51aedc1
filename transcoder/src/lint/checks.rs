//! Holds an asset against the rules. Pure: everything was fetched and measured before.

use std::collections::BTreeMap;

use super::codecs::{self, Kind};
use super::files::{Answer, Files};
use super::gather::{Asset, Rendition, Role, path};
use super::rules::{self, Rule};
use super::segment::{Container, Measured, TOLERANCE};
use super::summary::{float, float_of};
use super::variants::Variants;
use super::{Counts, Finding, Report};

/// Of the same fault in the same playlist, so many are listed.
const MOST_ALIKE: usize = 5;

/// A jump of timestamps, and no inexact EXTINF, in seconds.
const JUMP: f64 = 1.0;

/// Looks at everything.
pub(crate) fn check(files: &Files<'_>, asset: &Asset) -> Report {
    let mut checks = Checks { files, asset, found: BTreeMap::new(), notes: BTreeMap::new() };
    let entry = &asset.entry;
    if entry.playlist.is_foreign {
        let place = Place { playlist: 0, shown: files.shown(&entry.at) };
        for fault in &entry.playlist.faults {
            checks.add(fault.rule, &place, fault.line, &fault.what);
        }
    }
    if let Some(multivariant) = entry.multivariant() {
        let place = Place { playlist: 0, shown: files.shown(&entry.at) };
        for fault in &entry.playlist.faults {
            checks.add(fault.rule, &place, fault.line, &fault.what);
        }
        if entry.playlist.is_cut {
            checks.note("a playlist is longer than is looked at");
        }
        checks.delivery(&place, &entry.at, &entry.answer, rules::TLS_MULTIVARIANT);
        Variants::new(asset, multivariant).check(&mut checks, &place);
    }
    for (number, rendition) in (1..).zip(&asset.renditions) {
        let place = Place { playlist: number, shown: files.shown(&rendition.at) };
        for fault in &rendition.playlist.faults {
            checks.add(fault.rule, &place, fault.line, &fault.what);
        }
        checks.delivery(&place, &rendition.at, &rendition.answer, rules::TLS_PLAYLIST);
        checks.rendition(&place, rendition);
    }
    checks.report()
}

/// Findings of one rule in one playlist: how many, and those that are listed, with their lines.
#[derive(Default)]
struct Alike {
    count: usize,
    listed: Vec<(usize, Finding)>,
}

pub(super) struct Checks<'a> {
    pub(super) files: &'a Files<'a>,
    asset: &'a Asset,
    /// By playlist, and then by rule.
    found: BTreeMap<(usize, &'static str), Alike>,
    notes: BTreeMap<&'static str, usize>,
}

/// A playlist in the order of the report.
pub(super) struct Place {
    pub(super) playlist: usize,
    pub(super) shown: String,
}

impl Checks<'_> {
    pub(super) fn add(&mut self, rule: Rule, place: &Place, line: usize, what: &str) {
        self.add_at(rule, place, line, format!("{}:{line}", place.shown), what);
    }

    /// Something about a segment.
    fn add_segment(&mut self, rule: Rule, place: &Place, line: usize, uri: &str, what: &str) {
        let name: String = path(uri).chars().take(200).collect();
        self.add_at(rule, place, line, format!("{}:{line} ({name})", place.shown), what);
    }

    fn add_at(&mut self, rule: Rule, place: &Place, line: usize, shown: String, what: &str) {
        let known = self.found.entry((place.playlist, rule.number)).or_default();
        known.count += 1;
        if known.count <= MOST_ALIKE {
            let message = format!("{}: {what}; {}", rule.title, rule.advice);
            let finding = Finding { rule: rule.number, severity: rule.severity, place: shown, message };
            known.listed.push((line, finding));
        }
    }

    pub(super) fn note(&mut self, why: &'static str) {
        *self.notes.entry(why).or_default() += 1;
    }

    fn report(self) -> Report {
        let mut found: Vec<(usize, usize, Finding)> = Vec::new();
        for ((playlist, _), Alike { count, listed }) in self.found {
            let more = count - listed.len();
            let last = listed.len();
            for (i, (line, mut finding)) in (1..).zip(listed) {
                if i == last && more > 0 {
                    finding.message = format!("{} (and {more} more of this playlist)", finding.message);
                }
                found.push((playlist, line, finding));
            }
        }
        found.sort_by(|a, b| (a.0, a.1, a.2.rule, &a.2.place).cmp(&(b.0, b.1, b.2.rule, &b.2.place)));
        let asset = self.asset;
        let renditions = &asset.renditions;
        let is_multivariant = asset.entry.multivariant().is_some();
        let segments = || renditions.iter().flat_map(|rendition| &rendition.segments);
        let notes = self.notes.iter().map(|(why, count)| match count {
            1 => format!("1 file or playlist was not looked into: {why}"),
            count => format!("{count} files or playlists were not looked into: {why}"),
        });
        let partial = segments().filter(|segment| segment.is_partial).count();
        let partial = (partial > 0).then(|| {
            format!(
                "{partial} transport streams were looked at by their beginnings, because they are on the web: \
                 whether they are continuous, and have enough key frames, is not known"
            )
        });
        Report {
            findings: found.into_iter().map(|(_, _, finding)| finding).collect(),
            notes: notes.chain(partial).collect(),
            looked_at: Counts {
                playlists: renditions.len() + usize::from(is_multivariant),
                segments: segments()
                    .filter(|segment| segment.skipped.is_none() && segment.bytes.is_some())
                    .count(),
                skipped: segments().filter(|segment| segment.skipped.is_some()).count(),
                bytes: segments().filter_map(|segment| segment.bytes).fold(0, u64::saturating_add),
            },
        }
    }

    /// How a playlist comes.
    fn delivery(&mut self, place: &Place, at: &url::Url, answer: &Answer, tls: Rule) {
        if !self.files.is_web() {
            return;
        }
        if !answer.gzip {
            self.add(rules::GZIP, place, 1, "it came without");
        }
        if answer.redirected {
            self.add(rules::REDIRECT, place, 1, "it was redirected");
        }
        let kind = answer.content_type.as_deref();
        if !kind.is_some_and(|kind| matches!(kind, "application/vnd.apple.mpegurl" | "audio/mpegurl")) {
            self.add(rules::MIME, place, 1, &format!("a playlist came as {}", kind.unwrap_or("nothing")));
        }
        if is_open(at) {
            self.add(tls, place, 1, "it is served by http");
        }
    }

    fn rendition(&mut self, place: &Place, rendition: &Rendition) {
        let media = rendition.media();
        if rendition.playlist.is_cut {
            self.note("a playlist is longer than is looked at");
        }
        let first = media.target_line.max(1);
        if media.kind.as_deref() == Some("VOD") && !media.has_end {
            self.add(rules::ENDLIST, place, first, "there is none");
        }
        if media.has_end && media.kind.as_deref() != Some("VOD") {
            self.add(rules::VOD, place, first, "it is not said");
        }
        if !media.is_complete() {
            self.note("a playlist is live, and only held against the rules for all");
        }
        if rendition.role == Role::IFrames && !media.i_frames_only {
            self.add(rules::I_FRAMES_ONLY, place, first, "there is none");
        }
        for (map, measured) in media.maps.iter().zip(&rendition.maps) {
            self.file(place, map.line, &map.uri, measured, rendition, true);
        }
        for (segment, measured) in rendition.pairs() {
            self.file(place, segment.line, &segment.uri, measured, rendition, false);
            if segment.map.is_none() && measured.container == Some(Container::Fmp4) {
                self.add_segment(rules::MAP, place, segment.line, &segment.uri, "there is none");
            }
            if rendition.role == Role::IFrames {
                self.i_frame(place, segment.line, &segment.uri, measured);
            }
        }
        self.durations(place, rendition);
        if rendition.role == Role::Media {
            self.media(place, rendition);
            self.streams(place, rendition);
        }
    }

    fn i_frame(&mut self, place: &Place, line: usize, uri: &str, measured: &Measured) {
        let is_fmp4 = measured.container == Some(Container::Fmp4) && measured.skipped.is_none();
        if is_fmp4 && !measured.has_moof_first && measured.faults.is_empty() {
            self.add_segment(rules::I_FRAME_MOOF, place, line, uri, "it begins with the frame");
        }
        if measured.parts.iter().any(|part| part.kind == Kind::Video && part.starts_with_key == Some(false)) {
            self.add_segment(rules::I_FRAME_SEGMENT, place, line, uri, "it is another frame");
        }
    }

    /// What is wrong about a segment or an initialisation section by itself.
    fn file(
        &mut self,
        place: &Place,
        line: usize,
        uri: &str,
        measured: &Measured,
        rendition: &Rendition,
        is_map: bool,
    ) {
        for (rule, what) in &measured.faults {
            let is_format = [rules::SEGMENT_FORMAT, rules::FMP4_INIT].contains(rule);
            let rule = match rendition.role {
                Role::IFrames if is_format && !is_map && !rendition.maps.is_empty() => rules::I_FRAME_MOOF,
                Role::Subtitles if is_format && measured.container.is_none() => rules::SUBTITLE_FORMAT,
                _ => *rule,
            };
            self.add_segment(rule, place, line, uri, what);
        }
        if let Some(why) = measured.skipped {
            self.note(why);
        }
        let text = measured.streams.iter().any(|stream| stream.codec == "wvtt");
        if rendition.role == Role::Subtitles && measured.skipped.is_none() {
            match measured.container {
                Some(Container::Fmp4) if text => {
                    self.add_segment(rules::WEBVTT_TEXT, place, line, uri, "it is in fMP4");
                }
                Some(Container::Ts | Container::Packed) => {
                    self.add_segment(rules::SUBTITLE_FORMAT, place, line, uri, "it is another format");
                }
                _ => {}
            }
        }
        if self.files.is_web() && measured.bytes.is_some() {
            if measured.answer.redirected {
                self.add_segment(rules::REDIRECT, place, line, uri, "it was redirected");
            }
            let kind = measured.answer.content_type.as_deref().unwrap_or("nothing");
            if measured.container.is_some_and(|container| !is_mime_type(container, is_map, kind)) {
                self.add_segment(rules::MIME, place, line, uri, &format!("it came as {kind}"));
            }
            if rendition.at.join(uri).is_ok_and(|at| is_open(&at)) {
                self.add_segment(rules::TLS_MEDIA, place, line, uri, "it is served by http");
            }
        }
    }

    /// What is declared of the lengths of segments.
    fn durations(&mut self, place: &Place, rendition: &Rendition) {
        let media = rendition.media();
        let Some(target) = media.target else { return };
        let seconds = float(target);
        for (segment, measured) in rendition.pairs() {
            let actual = if rendition.role == Role::IFrames {
                None
            } else {
                measured.main().and_then(|part| part.duration)
            };
            let longest = segment.seconds.max(actual.unwrap_or_default());
            if longest > seconds + 0.5 {
                let what = format!("{longest:.3} s, where the target is {target} s");
                self.add_segment(rules::SEGMENT_LENGTH, place, segment.line, &segment.uri, &what);
            }
        }
        let total = media.seconds();
        if rendition.role != Role::Media || !media.is_complete() || total <= 6.5 {
            return;
        }
        // That the others have the same is another rule.
        let is_first = self.asset.renditions.iter().find(|first| first.role == Role::Media);
        if target != 6 && is_first.is_some_and(|first| !std::ptr::eq(first, rendition)) {
            return;
        }
        if target != 6 {
            self.add(rules::TARGET_IS_SIX, place, media.target_line, &format!("it is {target}"));
        } else if let [whole @ .., _] = media.segments.as_slice() {
            let average = whole.iter().map(|segment| segment.seconds).sum::<f64>() / float_of(whole.len());
            if (average - 6.0).abs() > 0.5 {
                let what = format!("they last {average:.2} s on average");
                self.add(rules::SEGMENTS_OF_SIX, place, media.target_line, &what);
            }
        }
    }

    /// What follows from one segment to the next.
    fn media(&mut self, place: &Place, rendition: &Rendition) {
        let rate = rendition.summary.frame_rate.map(|(average, _)| 1.0 / average);
        let frame = rate.filter(|seconds| seconds.is_finite()).unwrap_or(1.0 / 24.0);
        let (mut drift, mut lowest, mut highest) = (0.0_f64, 0.0_f64, 0.0_f64);
        let mut is_exact = true;
        let mut latest_key: Option<f64> = None;
        let mut longest_gap = (0.0_f64, 0);
        let pairs: Vec<_> = rendition.pairs().collect();
        for (i, (segment, measured)) in pairs.iter().enumerate() {
            let line = segment.line;
            let before = i.checked_sub(1).and_then(|before| pairs.get(before));
            let before = before.filter(|(before, _)| !segment.discontinuity && before.map == segment.map);
            if let Some((before, earlier)) = before {
                self.follows(place, (before.seconds, earlier), (line, &segment.uri, measured));
            } else {
                latest_key = None;
            }
            let is_last = pairs.get(i + 1).is_none_or(|(next, _)| next.discontinuity);
            if let Some(odd) = measured.odd_end.filter(|_| !is_last) {
                let what = format!("its last frame of sound lasts {odd} ticks, and is not the last of all");
                self.add_segment(rules::DECODE_TIME, place, line, &segment.uri, &what);
            }
            let Some(part) = measured.main() else {
                is_exact = false;
                latest_key = None;
                continue;
            };
            if part.kind == Kind::Video {
                if part.starts_with_key == Some(false) {
                    let what = "it starts with another frame";
                    self.add_segment(rules::STARTS_WITH_IDR, place, line, &segment.uri, what);
                }
                let across = latest_key.zip(part.keys).map_or(0.0, |(latest, (first, _))| first - latest);
                let gap = part.longest_gap.max(across);
                if gap > longest_gap.0 {
                    longest_gap = (gap, line);
                }
                latest_key = part.keys.map(|(_, last)| last);
            }
            // A transport stream only says when something begins: how long it lasts the next segment tells.
            let next = pairs.get(i + 1).filter(|(next, _)| !next.discontinuity).map(|(_, next)| *next);
            let until_next = next.and_then(Measured::main).map(|next| next.start - part.start);
            let actual = part.duration.or(until_next.map(unwrapped));
            match actual {
                Some(actual) if is_exact && (actual - segment.seconds).abs() < JUMP => {
                    drift += segment.seconds - actual;
                    if drift - lowest > frame + TOLERANCE || highest - drift > frame + TOLERANCE {
                        let what = format!(
                            "by the end of this one the sum is off by {:.3} s",
                            drift.abs().max((drift - lowest).max(highest - drift))
                        );
                        self.add_segment(rules::DURATIONS_TRUE, place, line, &segment.uri, &what);
                        is_exact = false;
                    }
                    lowest = lowest.min(drift);
                    highest = highest.max(drift);
                }
                Some(actual) if is_exact && part.duration.is_some() => {
                    let what = format!("EXTINF is {:.3} s, but it lasts {actual:.3} s", segment.seconds);
                    self.add_segment(rules::DURATIONS_TRUE, place, line, &segment.uri, &what);
                    is_exact = false;
                }
                _ => {}
            }
        }
        // A frame more than two seconds.
        let (gap, line) = longest_gap;
        if gap > 2.0 + frame.max(0.05) + TOLERANCE {
            let what = format!("up to {gap:.2} s pass between two");
            self.add(rules::KEY_FRAME_INTERVAL, place, line, &what);
        }
    }

    /// That a segment begins where the one before it ends.
    fn follows(
        &mut self,
        place: &Place,
        (seconds, earlier): (f64, &Measured),
        (line, uri, measured): (usize, &str, &Measured),
    ) {
        for part in &measured.parts {
            let Some(before) = earlier.parts.iter().find(|before| before.track == part.track) else {
                continue;
            };
            if let Some(duration) = before.duration {
                let end = before.start + duration;
                if (end - part.start).abs() > TOLERANCE {
                    let what = format!(
                        "it begins at {:.3} s, where the one before it ends at {end:.3} s",
                        part.start
                    );
                    self.add_segment(rules::DECODE_TIME, place, line, uri, &what);
                }
                continue;
            }
            let passed = unwrapped(part.start - before.start);
            if (passed - seconds).abs() > JUMP {
                let what = format!("timestamps go on by {passed:.3} s in a segment of {seconds:.3} s");
                self.add_segment(rules::CONTINUITY, place, line, uri, &what);
            }
        }
        for (pid, first, _) in &measured.counters {
            let Some((_, _, last)) = earlier.counters.iter().find(|(other, _, _)| other == pid) else {
                continue;
            };
            if *first != (last + 1) % 16 && first != last {
                let what =
                    format!("stream {pid}: packet {first} follows packet {last} of the segment before");
                self.add_segment(rules::CONTINUITY, place, line, uri, &what);
            }
        }
    }

    /// What the streams of a rendition are.
    fn streams(&mut self, place: &Place, rendition: &Rendition) {
        let media = rendition.media();
        let line =
            media.maps.first().map(|map| map.line).or(media.segments.first().map(|segment| segment.line));
        let line = line.unwrap_or(1);
        let streams = rendition.streams();
        let container = rendition.summary.container;
        if streams.iter().filter(|stream| stream.kind == Kind::Audio).count() > 1 {
            self.add(rules::ONE_SOUND, place, line, "there are several");
        }
        for stream in streams.iter().filter(|stream| stream.kind == Kind::Video) {
            let codec = stream.codec.as_str();
            let in_fmp4 = container.is_none_or(|container| container == Container::Fmp4);
            if codecs::is_h264(codec) {
                if !in_fmp4 && container != Some(Container::Ts) {
                    self.add(rules::H264_CONTAINER, place, line, "it is in something else");
                }
                if let Some((profile, _, level)) = codecs::h264(codec) {
                    if !matches!(profile, 66 | 77 | 100) || level > 50 {
                        let level = f64::from(level) / 10.0;
                        self.add(
                            rules::H264_LEVEL,
                            place,
                            line,
                            &format!("it is profile {profile}, level {level}"),
                        );
                    } else if profile != 100 {
                        let name = if profile == 77 { "Main" } else { "Baseline" };
                        self.add(rules::H264_HIGH, place, line, &format!("it is {name}"));
                    }
                }
            } else if codecs::is_hevc(codec) {
                if !in_fmp4 {
                    self.add(rules::HEVC_CONTAINER, place, line, "it is in something else");
                }
                if codecs::hevc(codec).is_some_and(|(profile, _, level)| profile > 2 || level > 153) {
                    self.add(rules::HEVC_LEVEL, place, line, &format!("it is {codec}"));
                }
            } else if codecs::family(codec) == "av01" {
                if !in_fmp4 {
                    self.add(rules::AV1_CONTAINER, place, line, "it is in something else");
                }
                // The index of 6.2 is 18.
                if codecs::av1_level(codec).is_some_and(|level| level > 18) {
                    self.add(rules::AV1_LEVEL, place, line, &format!("it is {codec}"));
                }
            } else if !matches!(codecs::family(codec), "dva1" | "dvav" | "dav1" | "encv") {
                self.add(rules::VIDEO_CODEC, place, line, &format!("it is {codec}"));
            }
            if matches!(codecs::family(codec), "avc3" | "hev1" | "dvhe" | "dvav") {
                self.add(rules::PARAMETER_SETS, place, line, &format!("it is {}", codecs::family(codec)));
            }
            if stream.interlaced {
                self.add(rules::INTERLACED, place, line, "it is coded as fields");
            }
        }
        self.sound(place, line, rendition);
    }

    fn sound(&mut self, place: &Place, line: usize, rendition: &Rendition) {
        let [stream] = rendition.streams() else { return };
        let Some(average) = rendition.summary.average.filter(|_| stream.kind == Kind::Audio) else { return };
        let what = format!("it has {} kbit/s", average / 1_000);
        if matches!(stream.codec.as_str(), "mp4a.40.5" | "mp4a.40.29") && average > 70_400 {
            self.add(rules::HE_AAC, place, line, &what);
        }
        // A tenth for what is around the samples.
        let most = match stream.channels {
            Some(0..=2) => 176_000,
            Some(3..=6) => 352_000,
            _ => return,
        };
        if codecs::is_aac(&stream.codec) && average > most {
            self.add(rules::AUDIO_RATE, place, line, &what);
        }
    }
}

/// Whether anybody on the way can read along. What stays on this machine nobody can.
fn is_open(at: &url::Url) -> bool {
    let is_here = match at.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    at.scheme() == "http" && !is_here
}

fn is_mime_type(container: Container, is_map: bool, kind: &str) -> bool {
    match container {
        Container::Ts => kind == "video/mp2t",
        Container::Fmp4 if is_map => matches!(kind, "video/mp4" | "audio/mp4" | "application/mp4"),
        Container::Fmp4 => {
            matches!(kind, "video/iso.segment" | "video/mp4" | "audio/mp4" | "application/mp4")
        }
        Container::Packed => matches!(kind, "audio/aac" | "audio/mpeg" | "audio/ac3" | "audio/eac3"),
        Container::WebVtt => matches!(kind, "text/vtt" | "text/plain"),
    }
}

/// A time between two timestamps of a transport stream, which begin anew after 26.5 hours.
fn unwrapped(seconds: f64) -> f64 {
    const AROUND: f64 = 8_589_934_592.0 / 90_000.0;
    if seconds < -AROUND / 2.0 { seconds + AROUND } else { seconds }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine_nobody_reads_along() {
        let open = |at: &str| is_open(&url::Url::parse(at).unwrap());
        assert!(
            open("http://v.example/index.m3u8") && open("http://10.0.0.1/") && open("http://[2001:db8::1]/")
        );
        assert!(!open("https://v.example/index.m3u8") && !open("file:///a"));
        assert!(!open("http://localhost:1/") && !open("http://127.0.0.9/") && !open("http://[::1]/"));
    }
}
