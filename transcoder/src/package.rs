//! From what an encoder left to an asset: segments put right, measured and checked, and the playlists that say
//! so.
//!
//! Nothing that is declared is taken from the encoder's word or from the plan. What comes out is checked against
//! what a player relies on, because a fault found here costs an encode, and one found by a viewer costs a viewer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use crate::asset::{self, Asset, AssetId, Generation, State};
use crate::encoder::ffmpeg::AUDIO;
use crate::fragment::{self, Init, Malformed, Segment};
use crate::language::Language;
use crate::plan::Plan;
use crate::playlist::{self, INIT, Measured, Picture, Track};
use crate::probe::Source;

/// A last segment shorter than this goes into the one before it: a request for next to nothing. Not more, or that
/// one would be longer than the target duration allows (half a second, Apple's rule 7.7).
const SHORTEST_TAIL: Duration = Duration::from_millis(400);

/// A finished asset, not yet published.
#[derive(Clone, Debug)]
pub struct Package {
    /// What it is called.
    pub asset: AssetId,
    /// Which of its encodes this is.
    pub generation: Generation,
    /// Initialisation sections and segments, which lie in files.
    pub media: Vec<MediaFile>,
    /// Media playlists: key and text.
    pub playlists: Vec<(String, String)>,
    /// The multivariant playlist.
    pub multivariant: String,
    /// What `asset.json` says.
    pub description: Asset,
}

/// A file of a package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MediaFile {
    /// Its key.
    pub key: String,
    /// Where it is now.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

impl Package {
    /// Key of the multivariant playlist.
    #[must_use]
    pub fn playlist_key(&self) -> String {
        format!("{}/index.m3u8", self.asset.folder())
    }

    /// Key of the description.
    #[must_use]
    pub fn description_key(&self) -> String {
        format!("{}/asset.json", self.asset.folder())
    }
}

/// Makes a package of the folder that an encoder wrote to. Its files stay in that folder, in their final form.
pub fn package(
    folder: &Path,
    source: &Source,
    plan: &Plan,
    asset: &AssetId,
    generation: &Generation,
    now: Timestamp,
) -> Result<Package, Error> {
    let renditions = plan.video.iter().flat_map(|video| &video.renditions);
    let mut tracks: Vec<Encoded> =
        renditions.map(|rendition| Encoded::read(folder, &rendition.name, None)).collect::<Result<_, _>>()?;
    if let Some(audio) = &plan.audio {
        tracks.push(Encoded::read(folder, AUDIO, Some(&audio.language))?);
    }
    check_length(plan, &tracks)?;
    join_tails(&mut tracks);
    check_grid(&tracks)?;

    let base = format!("{}/{generation}", asset.folder());
    let mut media = Vec::new();
    let mut measured = Vec::new();
    for track in tracks {
        measured.push(track.finish(&base, &mut media)?);
    }
    let target = playlist::target_duration(&measured);
    let playlists = measured
        .iter()
        .map(|track| (format!("{base}/{}/index.m3u8", track.name), playlist::media(track, target)))
        .collect();
    let description = Asset {
        asset: asset.clone(),
        state: State::Ready,
        generation: generation.clone(),
        created: now,
        duration: measured.first().map_or(0.0, Track::seconds),
        source: described(source),
        renditions: measured
            .iter()
            .map(|track| {
                let prefix = format!("{base}/{}/", track.name);
                let files = media.iter().filter(|file| file.key.starts_with(&prefix));
                rendition(track, target, generation, files.map(|file| file.bytes).sum())
            })
            .collect(),
    };
    Ok(Package {
        asset: asset.clone(),
        generation: generation.clone(),
        media,
        playlists,
        multivariant: playlist::multivariant(&measured, target, &generation.to_string()),
        description,
    })
}

/// A track as the encoder left it: measured, but still in the encoder's files.
struct Encoded {
    name: String,
    folder: PathBuf,
    language: Option<Language>,
    init_bytes: Vec<u8>,
    init: Init,
    cuts: Vec<Cut>,
}

/// What will be one segment.
struct Cut {
    files: Vec<PathBuf>,
    segment: Segment,
}

impl Encoded {
    fn read(folder: &Path, name: &str, language: Option<&Language>) -> Result<Self, Error> {
        let folder = folder.join(name);
        let mut inits = Vec::new();
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed(&folder))? {
            let path = entry.map_err(failed(&folder))?.path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("mp4") => inits.push(path),
                Some("m4s") => files.push(path),
                _ => {}
            }
        }
        let ([init], false) = (inits.as_slice(), files.is_empty()) else {
            return Err(Error::NothingEncoded(name.to_owned()));
        };
        // Their numbers have at least five digits: beyond 99,999 segments, a longer name is a later one.
        files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        let init_bytes = read(init)?;
        let init = Init::read(&init_bytes).map_err(malformed(init))?;
        let cuts = files.into_iter().map(|path| {
            let segment = Segment::read(&read(&path)?, &init).map_err(malformed(&path))?;
            Ok(Cut { files: vec![path], segment })
        });
        let cuts = cuts.collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), folder, language: language.cloned(), init_bytes, init, cuts })
    }

    fn is_picture(&self) -> bool {
        self.init.size.is_some()
    }

    fn seconds(&self) -> f64 {
        self.init.seconds(self.cuts.last().map_or(0, |cut| cut.segment.end()))
    }

    /// How many segments it has to have: all but a last one that is too short.
    fn whole_segments(&self) -> usize {
        let last = self.cuts.last().map_or(0, |cut| cut.segment.duration);
        let is_short = self.init.seconds(last) < SHORTEST_TAIL.as_secs_f64();
        (self.cuts.len() - usize::from(is_short)).max(1)
    }

    /// Writes it in its final form, adds its files to `media`, and says what it is like.
    fn finish(self, base: &str, media: &mut Vec<MediaFile>) -> Result<Track, Error> {
        let mut add = |name: String, bytes: &[u8]| {
            let path = self.folder.join(&name);
            fs::write(&path, bytes).map_err(failed(&path))?;
            let bytes = u64::try_from(bytes.len()).expect("a length fits in 64 bits");
            media.push(MediaFile { key: format!("{base}/{}/{name}", self.name), path, bytes });
            Ok(bytes)
        };
        let delay = self.cuts.first().map_or(0, |cut| cut.segment.delay);
        add(
            INIT.to_owned(),
            &fragment::with_edit(&self.init_bytes, delay).map_err(malformed(Path::new(INIT)))?,
        )?;
        let mut measured = Vec::with_capacity(self.cuts.len());
        for (i, Cut { files, segment }) in self.cuts.iter().enumerate() {
            let mut bytes = Vec::new();
            for (k, path) in files.iter().enumerate() {
                bytes.append(&mut fragment::cleaned(&read(path)?, k > 0).map_err(malformed(path))?);
                // Under its old name it would only take room twice.
                fs::remove_file(path).map_err(failed(path))?;
            }
            let seconds = self.init.seconds(segment.end()) - self.init.seconds(segment.start);
            let bytes = add(playlist::segment_name(i + 1), &bytes)?;
            measured.push(Measured { seconds, bytes });
        }
        let frames: u64 = self.cuts.iter().map(|cut| cut.segment.samples).sum();
        let frames = f64::from(u32::try_from(frames).unwrap_or(u32::MAX));
        let seconds = self.seconds();
        Ok(Track {
            codecs: self.init.codecs,
            picture: self.init.size.map(|(width, height)| Picture {
                width,
                height,
                frame_rate: frames / seconds,
            }),
            name: self.name,
            language: self.language,
            segments: measured,
        })
    }
}

/// Says which file is malformed, by its folder and name.
fn malformed(path: &Path) -> impl Fn(Malformed) -> Error {
    let mut names: Vec<_> =
        path.iter().rev().take(2).map(|name| name.to_string_lossy().into_owned()).collect();
    names.reverse();
    let file = names.join("/");
    move |reason| Error::Malformed { file: file.clone(), reason }
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::Io { path: path.to_owned(), error }
}

/// An encoder that ran out of input says that all is well.
fn check_length(plan: &Plan, tracks: &[Encoded]) -> Result<(), Error> {
    for track in tracks {
        let seconds = track.seconds();
        if seconds < plan.shortest().as_secs_f64() {
            return Err(Error::TooShort {
                input: plan.input.clone(),
                seconds,
                expected: plan.duration.as_secs_f64(),
            });
        }
    }
    Ok(())
}

/// Takes what hangs over the end into the last segment. Sound that needs one more packet than the picture does
/// not get a segment for it, and a picture only gets one that is worth a request; all tracks alike.
fn join_tails(tracks: &mut [Encoded]) {
    let segments = tracks.iter().map(Encoded::whole_segments).max().unwrap_or(1);
    for track in tracks {
        while track.cuts.len() > segments {
            let Some(mut tail) = track.cuts.pop() else { break };
            let Some(last) = track.cuts.last_mut() else { break };
            last.files.append(&mut tail.files);
            last.segment = last.segment.with(tail.segment);
        }
    }
}

/// What players need to switch from one rendition to another at any segment.
fn check_grid(tracks: &[Encoded]) -> Result<(), Error> {
    let Some(first) = tracks.first() else { return Err(Error::NothingEncoded("the source".to_owned())) };
    for track in tracks {
        let fault = |fault| Error::Grid { rendition: track.name.clone(), fault };
        if track.cuts.len() != first.cuts.len() {
            return Err(fault(format!(
                "{} segments, where {} has {}",
                track.cuts.len(),
                first.name,
                first.cuts.len()
            )));
        }
        let mut next = 0;
        for (number, (cut, reference)) in (1..).zip(track.cuts.iter().zip(&first.cuts)) {
            let segment = cut.segment;
            if segment.start != next {
                return Err(fault(format!("segment {number} does not begin where the one before it ends")));
            }
            next = segment.end();
            if track.is_picture() && !segment.starts_with_key_frame {
                return Err(fault(format!("segment {number} does not begin with a key frame")));
            }
            let (start, expected) =
                (track.init.seconds(segment.start), first.init.seconds(reference.segment.start));
            // A packet of sound lasts 21 ms, and pictures are cut exactly.
            let tolerance = if track.is_picture() { 0.001 } else { 0.05 };
            if (start - expected).abs() > tolerance {
                return Err(fault(format!(
                    "segment {number} begins at {start:.3} s, where {} has {expected:.3} s",
                    first.name
                )));
            }
        }
    }
    Ok(())
}

fn described(source: &Source) -> asset::Source {
    asset::Source {
        name: source.name(),
        bytes: source.bytes,
        duration: source.duration().as_secs_f64(),
        container: source.container.clone(),
        video: source.video.as_ref().map(|video| asset::SourceVideo {
            codec: video.codec.clone(),
            width: video.width,
            height: video.height,
        }),
        audio_codec: source.audio.as_ref().map(|audio| audio.codec.clone()),
    }
}

fn rendition(track: &Track, target: u64, generation: &Generation, bytes: u64) -> asset::Rendition {
    asset::Rendition {
        name: track.name.clone(),
        playlist: format!("{generation}/{}/index.m3u8", track.name),
        codecs: track.codecs.clone(),
        width: track.picture.map(|picture| picture.width),
        height: track.picture.map(|picture| picture.height),
        frame_rate: track.picture.map(|picture| (picture.frame_rate * 1e3).round() / 1e3),
        language: track.language.as_ref().map(|language| language.tag.clone()),
        peak_bandwidth: track.peak(target),
        average_bandwidth: track.average(),
        segments: track.segments.len(),
        bytes,
    }
}

/// Why what was encoded is not published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source ended before its time.
    #[error(
        "{}: ends after {seconds:.1} s of {expected:.1} s: it is cut off or damaged; upload it again, whole",
        input.display()
    )]
    TooShort {
        /// The source.
        input: PathBuf,
        /// What came of it.
        seconds: f64,
        /// What it promised.
        expected: f64,
    },
    /// The encoder left nothing.
    #[error("the encoder made nothing of {0}: there may be no whole picture or sound in the source")]
    NothingEncoded(String),
    /// A file of the encoder's is none that can be published.
    // To a full disk ffmpeg 5.1 says nothing, and ends as if all were well.
    #[error(
        "the encoder's {file} cannot be used: {reason} (is the temporary folder full? TMPDIR names another)"
    )]
    Malformed {
        /// Which.
        file: String,
        /// Why.
        reason: Malformed,
    },
    /// Renditions do not fit together.
    #[error("the encoder's {rendition} cannot be used: {fault}")]
    Grid {
        /// Which.
        rendition: String,
        /// Why.
        fault: String,
    },
    /// The temporary folder failed.
    #[error("{} in the temporary folder: {error} (is it full?)", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A track of 25 pictures or 50 packets a second, in segments of so many ticks.
    fn track(name: &str, durations: &[u64]) -> Encoded {
        let is_picture = name != AUDIO;
        let timescale = if is_picture { 25 } else { 50 };
        let mut start = 0;
        let cuts = durations.iter().map(|duration| {
            let segment = Segment {
                start,
                duration: *duration,
                samples: *duration,
                starts_with_key_frame: is_picture,
                delay: 0,
            };
            start += duration;
            Cut { files: vec![PathBuf::from(start.to_string())], segment }
        });
        Encoded {
            name: name.into(),
            folder: PathBuf::new(),
            language: None,
            init_bytes: Vec::new(),
            cuts: cuts.collect(),
            init: Init {
                codecs: String::new(),
                timescale,
                size: is_picture.then_some((2, 2)),
                default_duration: 1,
                default_flags: 0,
            },
        }
    }

    fn joined(picture: &[u64], sound: &[u64]) -> (Vec<u64>, Vec<u64>) {
        let mut tracks = [track("360p", picture), track(AUDIO, sound)];
        join_tails(&mut tracks);
        let lengths = |track: &Encoded| track.cuts.iter().map(|cut| cut.segment.duration).collect();
        (lengths(&tracks[0]), lengths(&tracks[1]))
    }

    #[test]
    fn a_short_end_joins_the_segment_before_it() {
        // A stub of one packet.
        assert_eq!(joined(&[150, 150], &[300, 300, 1]), (vec![150, 150], vec![300, 301]));
        // 0.2 s of both.
        assert_eq!(joined(&[150, 5], &[300, 10]), (vec![155], vec![310]));
        // One frame more than the sound.
        assert_eq!(joined(&[150, 1], &[302]), (vec![151], vec![302]));
        // Worth a segment in one track, so also in the other: 0.4 s and 0.38 s.
        assert_eq!(joined(&[150, 10], &[300, 19]), (vec![150, 10], vec![300, 19]));
        // All there is.
        assert_eq!(joined(&[1], &[2]), (vec![1], vec![2]));
    }

    #[test]
    fn what_joins_brings_its_file() {
        let mut tracks = [track("360p", &[150]), track(AUDIO, &[300, 1])];
        join_tails(&mut tracks);
        assert_eq!(tracks[1].cuts[0].files, [PathBuf::from("300"), PathBuf::from("301")]);
    }

    #[test]
    fn renditions_that_do_not_fit_together_are_not_published() {
        let fault = |tracks: &[Encoded]| check_grid(tracks).map_err(|error| error.to_string());
        let good = || track("360p", &[150, 50]);
        assert_eq!(fault(&[good(), track(AUDIO, &[301, 99])]), Ok(()));
        let found = fault(&[good(), track("240p", &[200])]).unwrap_err();
        assert_eq!(found, "the encoder's 240p cannot be used: 1 segments, where 360p has 2");
        let found = fault(&[good(), track("240p", &[149, 51])]).unwrap_err();
        assert!(found.ends_with("segment 2 begins at 5.960 s, where 360p has 6.000 s"), "{found}");
        let mut gap = good();
        gap.cuts[1].segment.start += 1;
        assert!(fault(&[gap]).unwrap_err().contains("does not begin where the one before it ends"));
        let mut open = good();
        open.cuts[1].segment.starts_with_key_frame = false;
        assert!(fault(&[open]).unwrap_err().ends_with("segment 2 does not begin with a key frame"));
    }

    #[test]
    fn a_source_that_ends_early_is_cut_off() {
        let duration = Duration::from_secs(8);
        let plan = Plan { input: "a.mp4".into(), duration, video: None, audio: None };
        assert!(check_length(&plan, &[track("360p", &[150, 50])]).is_ok());
        let error = check_length(&plan, &[track("360p", &[150]), track(AUDIO, &[300])]);
        // Without a segment length of its own, this plan tolerates nothing.
        assert_eq!(
            error.unwrap_err().to_string(),
            "a.mp4: ends after 6.0 s of 8.0 s: it is cut off or damaged; upload it again, whole"
        );
    }
}
