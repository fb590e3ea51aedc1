//! From what an encoder left to an asset: tracks cut, packed, encrypted and measured, and the playlists that say so.
//!
//! Nothing that is declared is taken from the encoder's word or from the plan. What comes out is checked against
//! what a player relies on, because a fault found here costs an encode, and one found by a viewer costs a viewer.

mod packer;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::asset::{self, Asset, AssetId, Encryption, Generation, Objects, State, Versions, hexadecimal};
use crate::captions::{self, Cues};
use crate::cut::{Segments, Timeline};
use crate::encoder;
use crate::encryption::{self, Key, Rotation};
use crate::fragment::{self, Malformed};
use crate::pictures::{self, Pictures};
use crate::plan::{CaptionSource, Captions, Container, Options, Plan};
use crate::playlist::{self, Images, KeyFrame, Kind, Measured, Picture, Track};
use crate::probe::Source;
use crate::transport_stream;
use packer::{Fault, PackedKeyFrame, Packer};

/// Segments of the picture for each one of captions: text is small, and every file is a request.
const SEGMENTS_OF_CAPTIONS: usize = 10;

/// Name of the list of all objects of a generation.
const LIST: &str = "sha256sums.txt";

/// Which encode of which asset.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Edition {
    /// What the asset is called.
    pub asset: AssetId,
    /// What this encode of it is called.
    pub generation: Generation,
    /// When it was begun.
    pub created: Timestamp,
}

impl Edition {
    /// The folder of this encode.
    #[must_use]
    pub fn folder(&self) -> String {
        self.generation.folder_of(&self.asset)
    }

    /// The key of something in the folder of this encode.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        self.generation.key_of(&self.asset, name)
    }
}

/// A finished asset, not yet published.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Package {
    /// Which it is.
    pub edition: Edition,
    /// What lies in files: initialisation sections, segments, keys, pictures.
    pub media: Vec<MediaFile>,
    /// What is text: media playlists, captions, the list of it all. Key and text.
    pub texts: Vec<(String, String)>,
    /// The multivariant playlist.
    pub multivariant: String,
    /// What `asset.json` says.
    pub description: Asset,
}

/// A file of a package.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MediaFile {
    /// Its key.
    pub key: String,
    /// Where it is now.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content.
    pub sha256: [u8; 32],
}

impl Package {
    /// Key of the multivariant playlist.
    #[must_use]
    pub fn playlist_key(&self) -> String {
        self.edition.asset.playlist_key()
    }

    /// Key of the description.
    #[must_use]
    pub fn description_key(&self) -> String {
        self.edition.asset.description_key()
    }

    /// The list of all its objects with their digests: key and text.
    #[must_use]
    pub fn list(&self) -> Option<&(String, String)> {
        let key = self.edition.key(LIST);
        self.texts.iter().find(|(name, _)| *name == key)
    }
}

/// What there is to be packaged, and how it came about.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Encoded {
    /// Where the encoder's files are.
    #[serde(skip)]
    pub folder: PathBuf,
    /// What they were made of.
    pub source: Source,
    /// What they were to be.
    pub plan: Plan,
    /// What was run to make them.
    pub commands: Vec<String>,
    /// What ran it.
    pub versions: Versions,
    /// Poster and storyboard, which lie there too.
    pub pictures: Option<Pictures>,
    /// VMAF of renditions, by name.
    pub vmaf: Vec<(String, f64)>,
}

/// What becomes of the encoder's files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keep {
    /// They go as soon as they are packaged, because they would only take room twice.
    Nothing,
    /// They stay, so that packaging can be begun anew.
    Everything,
}

/// Makes a package. Its files stay in the folder of the encoder, in their final form.
///
/// `go_on` is told how many bytes of how many are done, and says whether to do the others.
pub fn package(
    encoded: Encoded,
    options: &Options,
    edition: Edition,
    keep: Keep,
    go_on: &dyn Fn(u64, u64) -> bool,
) -> Result<Package, Error> {
    let Encoded { folder, source, plan, commands, versions, pictures, vmaf } = encoded;
    let timelines = timelines(&folder, &plan)?;
    check_sound(&plan, &timelines)?;
    check_length(&plan, &timelines)?;
    let cuts = common_cuts(&plan, &timelines)?;

    let mut files = Files { folder: &folder, keep, objects: Vec::new(), bytes: 0, texts: Vec::new() };
    let keys =
        options.encryption().map(|rotation| Keys::new(rotation, cuts.len(), &mut files)).transpose()?;
    let total = timelines.iter().map(|(_, timeline)| timeline.bytes).sum();
    let mut tracks = Vec::new();
    for (track, timeline) in timelines {
        let go_on = |files: &Files<'_>| go_on(files.bytes, total);
        tracks.push(cut(track, &timeline, &cuts, options.container, keys.as_ref(), &mut files, &go_on)?);
    }
    let end = tracks.first().map_or(0.0, Track::seconds);
    let mut notes = plan.notes.clone();
    for captions in &plan.captions {
        match cut_captions(captions, &cuts, end, options.container, &mut files) {
            Ok(track) => tracks.push(track),
            Err(reason) => {
                notes.push(format!("captions in {} were left out: {reason}", captions.language.name));
            }
        }
    }
    let target = playlist::target_duration(&tracks);
    for track in &tracks {
        if !matches!(track.kind, Kind::KeyFrames(_)) {
            files.text(&track.name, playlist::MEDIA, playlist::media(track, options.container, target));
        }
        if !track.key_frames.is_empty() {
            files.text(&track.name, playlist::KEY_FRAMES, playlist::key_frames(track, options.container));
        }
    }
    let folder = edition.generation.to_string();
    let images = pictures.as_ref().map(|pictures| add_pictures(pictures, &folder, &mut files)).transpose()?;
    let multivariant = playlist::multivariant(&tracks, images.as_ref(), target, &folder);

    let renditions = tracks.iter().map(|track| asset::Rendition {
        bytes: files.bytes_of(&track.name),
        vmaf: vmaf.iter().find(|(name, _)| *name == track.name).map(|(_, score)| *score),
        ..rendition(track, target, &folder)
    });
    let description = Asset {
        asset: edition.asset.clone(),
        state: State::Ready,
        generation: edition.generation.clone(),
        created: edition.created,
        uploaded: None,
        job: None,
        duration: end,
        container: options.container,
        encryption: keys.map(|keys| Encryption { method: "AES-128".to_owned(), keys: keys.keys.len() }),
        renditions: renditions.collect(),
        poster: pictures.as_ref().map(|pictures| format!("{folder}/{}", pictures.poster.name)),
        storyboard: pictures.as_ref().map(|_| format!("{folder}/{}", pictures::STORYBOARD)),
        source,
        rungs: plan.rungs,
        notes,
        commands,
        versions,
        objects: files.list(&multivariant),
    };
    let media =
        files.objects.into_iter().map(|file| MediaFile { key: edition.key(&file.key), ..file }).collect();
    let texts = files.texts.into_iter().map(|(name, text)| (edition.key(&name), text)).collect();
    Ok(Package { edition, media, texts, multivariant, description })
}

/// What is being put together. Names are those in the generation's folder.
struct Files<'a> {
    folder: &'a Path,
    keep: Keep,
    objects: Vec<MediaFile>,
    /// What all of those take.
    bytes: u64,
    texts: Vec<(String, String)>,
}

impl Files<'_> {
    /// Writes a file, and says how large it is.
    fn write(&mut self, folder: &str, name: &str, bytes: &[u8]) -> Result<u64, Error> {
        let path = self.folder.join(folder).join(name);
        let parent = path.parent().unwrap_or(self.folder);
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, bytes)).map_err(failed(&path))?;
        Ok(self.add(format!("{folder}/{name}"), path, bytes))
    }

    /// Takes in a file that is there already.
    fn adopt(&mut self, name: &str) -> Result<u64, Error> {
        let path = self.folder.join(name);
        let content = fs::read(&path).map_err(failed(&path))?;
        Ok(self.add(name.to_owned(), path, &content))
    }

    fn add(&mut self, key: String, path: PathBuf, content: &[u8]) -> u64 {
        let bytes = content.len() as u64;
        self.objects.push(MediaFile { key, path, bytes, sha256: Sha256::digest(content).into() });
        self.bytes += bytes;
        bytes
    }

    fn text(&mut self, folder: &str, name: &str, text: String) {
        self.texts.push((format!("{folder}/{name}"), text));
    }

    /// What everything in a folder takes.
    fn bytes_of(&self, folder: &str) -> u64 {
        let is_in = |name: &str| name.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let objects = self.objects.iter().filter(|file| is_in(&file.key)).map(|file| file.bytes);
        let texts = self.texts.iter().filter(|(name, _)| is_in(name)).map(|(_, text)| text.len() as u64);
        objects.chain(texts).sum()
    }

    /// Adds the list of everything.
    fn list(&mut self, multivariant: &str) -> Objects {
        let texts = self.texts.iter();
        let texts = texts.map(|(name, text)| (name.as_str(), text.len() as u64, Sha256::digest(text).into()));
        let objects = self.objects.iter().map(|file| (file.key.as_str(), file.bytes, file.sha256));
        let mut all: Vec<(&str, u64, [u8; 32])> = objects.chain(texts).collect();
        all.sort_unstable();
        let mut list = String::new();
        for (name, _, digest) in &all {
            let _ = writeln!(list, "{}  {name}", hexadecimal(digest));
        }
        let described = Objects {
            count: all.len(),
            bytes: all.iter().map(|(_, bytes, _)| bytes).sum(),
            list: LIST.to_owned(),
            list_sha256: hexadecimal(&Sha256::digest(&list)),
            playlist_sha256: hexadecimal(&Sha256::digest(multivariant)),
        };
        self.texts.push((LIST.to_owned(), list));
        described
    }
}

/// The tracks that were to be made, and when things happen in each; in the order of the plan.
fn timelines(folder: &Path, plan: &Plan) -> Result<Vec<(Track, Timeline)>, Error> {
    let pictures = plan.video.iter().flat_map(|video| {
        let renditions = video.renditions.iter().map(|rendition| (rendition, false));
        renditions.chain(video.dense.iter().map(|rendition| (rendition, true)))
    });
    let pictures = pictures.map(|(rendition, is_dense)| {
        let timeline = timeline(folder, &rendition.name)?;
        let (width, height) = timeline.init.size.unwrap_or_default();
        let picture = Picture {
            width,
            height,
            frame_rate: timeline.rate(),
            range: rendition.range,
            is_cellular: rendition.is_cellular,
        };
        let kind = if is_dense { Kind::KeyFrames(picture) } else { Kind::Picture(picture) };
        Ok::<_, Error>((rendition.name.clone(), kind, timeline))
    });
    let sound = plan
        .audio
        .iter()
        .map(|audio| Ok((audio.name.clone(), Kind::Sound(audio.clone()), timeline(folder, &audio.name)?)));
    pictures
        .chain(sound)
        .map(|track| {
            let (name, kind, timeline) = track?;
            let codecs = timeline.init.codecs.clone();
            Ok((Track { name, codecs, kind, segments: Vec::new(), key_frames: Vec::new() }, timeline))
        })
        .collect()
}

fn timeline(folder: &Path, name: &str) -> Result<Timeline, Error> {
    let path = encoded_file(folder, name);
    match Timeline::read(&path) {
        Ok(timeline) => Ok(timeline),
        Err(Malformed::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NothingEncoded(name.to_owned()))
        }
        Err(reason) => Err(malformed(name)(reason.into())),
    }
}

/// Where the encoder leaves a track.
fn encoded_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(encoder::track_file(name))
}

/// Where channels or rate change within a track, ffmpeg begins its filters anew, and time with them.
fn check_sound(plan: &Plan, timelines: &[(Track, Timeline)]) -> Result<(), Error> {
    let uneven = |(_, timeline): &(Track, Timeline)| Some(timeline.init.seconds(timeline.uneven?));
    match timelines.iter().find_map(uneven) {
        Some(seconds) => Err(Error::Uneven { input: plan.input.clone(), seconds }),
        None => Ok(()),
    }
}

/// An encoder that ran out of input says that all is well.
fn check_length(plan: &Plan, timelines: &[(Track, Timeline)]) -> Result<(), Error> {
    for (_, timeline) in timelines {
        let seconds = timeline.seconds();
        if seconds < plan.shortest().as_secs_f64() {
            let expected = plan.duration.as_secs_f64();
            return Err(Error::TooShort { input: plan.input.clone(), seconds, expected });
        }
    }
    Ok(())
}

/// When the segments of all tracks begin, in seconds. All pictures must be there to be cut at these times, or no
/// player could switch between them.
fn common_cuts(plan: &Plan, timelines: &[(Track, Timeline)]) -> Result<Vec<f64>, Error> {
    let Some((first, reference)) = timelines.first() else {
        return Err(Error::NothingEncoded("the source".to_owned()));
    };
    let cuts = reference.cuts(plan.segment());
    for (track, timeline) in timelines {
        let fault = |fault| Error::Grid { rendition: track.name.clone(), fault };
        let last = cuts.last().copied().unwrap_or_default();
        if timeline.seconds() <= last {
            return Err(fault(format!(
                "it ends before the last segment of {} begins, at {last:.3} s",
                first.name
            )));
        }
        if timeline.init.size.is_some()
            && let Some(cut) = timeline.uncuttable(&cuts)
        {
            return Err(fault(format!("it has no key frame at {cut:.3} s, where {} has one", first.name)));
        }
    }
    Ok(cuts)
}

/// Cuts a track, packs its segments, encrypts and measures them.
fn cut(
    mut track: Track,
    timeline: &Timeline,
    cuts: &[f64],
    container: Container,
    keys: Option<&Keys>,
    files: &mut Files<'_>,
    go_on: &dyn Fn(&Files<'_>) -> bool,
) -> Result<Track, Error> {
    let name = track.name.clone();
    let malformed = malformed(&name);
    let source = encoded_file(files.folder, &name);
    if container == Container::Fmp4 {
        let init = fragment::with_edit(&timeline.init_bytes, timeline.delay);
        let init = init.map_err(|error| malformed(error.into()))?;
        files.write(&name, playlist::INIT, &init)?;
    }
    let mut packer = Packer::new(container, timeline).map_err(&malformed)?;
    let mut segments = Segments::new(&source, cuts).map_err(|error| malformed(error.into()))?;
    while let Some(run) = segments.next_segment().map_err(|error| malformed(error.into()))? {
        if !go_on(files) {
            return Err(Error::Stopped);
        }
        let number = track.segments.len();
        let object = format!("{:05}.{}", number + 1, packer.extension());
        let mut segment = packer.pack(&run).map_err(&malformed)?;
        let new_key = keys.and_then(|keys| keys.new_key(number));
        for (place, PackedKeyFrame { range, alone, seconds }) in
            (track.key_frames.len()..).zip(segment.key_frames)
        {
            let (offset, bytes) = (Some(range.start as u64), range.len() as u64);
            let mut frame = KeyFrame { name: object.clone(), offset, bytes, seconds, new_key: None };
            // Of an encrypted segment no part can be decrypted alone, so these are objects of their own.
            if let Some(keys) = keys {
                let is_first = alone.start == 0;
                let mut bytes = segment.bytes[alone].to_vec();
                keys.encrypt(number, place, &mut bytes);
                frame.name = format!("iframe-{:05}.{}", place + 1, packer.extension());
                frame.offset = None;
                frame.bytes = files.write(&name, &frame.name, &bytes)?;
                frame.new_key = new_key.clone().filter(|_| is_first);
            }
            track.key_frames.push(frame);
        }
        if let Some(keys) = keys {
            keys.encrypt(number, number, &mut segment.bytes);
        }
        let seconds = timeline.init.seconds(run.end()) - timeline.init.seconds(run.start);
        // Nothing names segments of nothing but key frames, where these are objects of their own.
        let is_named = keys.is_none() || !matches!(track.kind, Kind::KeyFrames(_));
        let bytes = if is_named { files.write(&name, &object, &segment.bytes)? } else { 0 };
        track.segments.push(Measured { name: object, seconds, bytes, new_key });
    }
    if files.keep == Keep::Nothing {
        fs::remove_file(&source).map_err(failed(&source))?;
    }
    Ok(track)
}

/// The keys of an asset, which every track has in common.
struct Keys {
    rotation: Rotation,
    keys: Vec<Key>,
}

impl Keys {
    /// Makes as many as these segments need, and writes them where only who may watch can read them.
    fn new(rotation: Rotation, segments: usize, files: &mut Files<'_>) -> Result<Self, Error> {
        let keys: Vec<Key> =
            (0..rotation.keys(segments)).map(|_| Key::generate()).collect::<Result<_, _>>()?;
        for (index, key) in keys.iter().enumerate() {
            files.write(encryption::FOLDER, &encryption::key_name(index), key.bytes())?;
        }
        Ok(Self { rotation, keys })
    }

    /// `EXT-X-KEY`'s attributes, where a segment needs another key than the one before it.
    fn new_key(&self, segment: usize) -> Option<String> {
        self.rotation.begins_at(segment).map(encryption::key_attributes)
    }

    /// Encrypts what stands at a place in its playlist, with the key of a segment.
    fn encrypt(&self, segment: usize, place: usize, bytes: &mut Vec<u8>) {
        encryption::encrypt_segment(&self.keys[self.rotation.key_of(segment)], place as u64, bytes);
    }
}

/// Cuts captions into files of text; or says why there is nothing to cut.
fn cut_captions(
    captions: &Captions,
    cuts: &[f64],
    end: f64,
    container: Container,
    files: &mut Files<'_>,
) -> Result<Track, String> {
    let path = match &captions.from {
        CaptionSource::File(path) => path.clone(),
        CaptionSource::Stream(_) => files.folder.join(encoder::captions_file(&captions.name)),
    };
    let all = Cues::read(&path).map_err(|error| error.to_string())?;
    let starts: Vec<f64> = cuts.iter().copied().step_by(SEGMENTS_OF_CAPTIONS).collect();
    let ends: Vec<f64> = starts.iter().skip(1).copied().chain([end]).collect();
    let origin = match container {
        Container::Fmp4 => 0,
        Container::Ts => transport_stream::ZERO,
    };
    let times: Vec<_> = ends.iter().copied().map(Duration::from_secs_f64).collect();
    let texts = captions::segments(&all, &times, origin).map_err(|error| error.to_string())?.segments;
    let mut segments = Vec::with_capacity(texts.len());
    for (text, (start, end)) in texts.into_iter().zip(starts.iter().zip(&ends)) {
        let name = format!("{:05}.vtt", segments.len() + 1);
        segments.push(Measured {
            name: name.clone(),
            seconds: end - start,
            bytes: text.len() as u64,
            new_key: None,
        });
        files.text(&captions.name, &name, text);
    }
    let kind = Kind::Captions(captions.clone());
    Ok(Track { name: captions.name.clone(), codecs: String::new(), kind, segments, key_frames: Vec::new() })
}

/// Takes in poster and storyboard.
fn add_pictures(pictures: &Pictures, folder: &str, files: &mut Files<'_>) -> Result<Images, Error> {
    for name in [&pictures.poster.name].into_iter().chain(pictures.sheets.iter().map(|sheet| &sheet.name)) {
        files.adopt(name)?;
    }
    files.texts.push((pictures::STORYBOARD.to_owned(), pictures.vtt.clone()));
    files.texts.push((pictures::IMAGES.to_owned(), pictures.playlist.clone()));
    let uri = format!("{folder}/{}", pictures::IMAGES);
    Ok(Images { uri, bandwidth: pictures.bandwidth, size: pictures.thumbnail })
}

fn rendition(track: &Track, target: u64, folder: &str) -> asset::Rendition {
    let at = |name: &str| format!("{folder}/{}/{name}", track.name);
    let (kind, picture) = match &track.kind {
        Kind::Picture(picture) => (asset::Kind::Video, Some(picture)),
        Kind::KeyFrames(picture) => (asset::Kind::KeyFrames, Some(picture)),
        Kind::Sound(_) => (asset::Kind::Audio, None),
        Kind::Captions(_) => (asset::Kind::Captions, None),
    };
    let (language, channels) = match &track.kind {
        Kind::Sound(sound) => (Some(&sound.language), Some(sound.channels)),
        Kind::Captions(captions) => (Some(&captions.language), None),
        _ => (None, None),
    };
    let rates = if kind == asset::Kind::KeyFrames { track.key_frame_rates() } else { track.rates(target) };
    asset::Rendition {
        name: track.name.clone(),
        kind,
        playlist: (kind != asset::Kind::KeyFrames).then(|| at(playlist::MEDIA)),
        key_frames: (!track.key_frames.is_empty()).then(|| at(playlist::KEY_FRAMES)),
        codecs: track.codecs.clone(),
        width: picture.map(|picture| picture.width),
        height: picture.map(|picture| picture.height),
        frame_rate: picture.map(|picture| (picture.frame_rate * 1e3).round() / 1e3),
        language: language.map(|language| language.tag.clone()),
        channels,
        peak_bandwidth: rates.peak,
        average_bandwidth: rates.average,
        duration: track.seconds(),
        segments: track.segments.len(),
        bytes: 0,
        vmaf: None,
    }
}

/// Says which track is malformed.
fn malformed(track: &str) -> impl Fn(Fault) -> Error + use<> {
    let track = track.to_owned();
    move |reason| Error::Malformed { track: track.clone(), reason }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> Error {
    move |error| Error::Io { path: path.to_owned(), error }
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
    /// The source's sound becomes another.
    #[error(
        "{}: its sound changes after {seconds:.1} s, to other channels or another rate: convert it to one first",
        input.display()
    )]
    Uneven {
        /// The source.
        input: PathBuf,
        /// When.
        seconds: f64,
    },
    /// The encoder left nothing.
    #[error("the encoder made nothing of {0}: there may be no whole picture or sound in the source")]
    NothingEncoded(String),
    /// A file of the encoder's is none that can be published.
    // To a full disk ffmpeg 5.1 says nothing, and ends as if all were well.
    #[error(
        "the encoder's {track} cannot be used: {reason} (is the temporary folder full? TMPDIR names another)"
    )]
    Malformed {
        /// Which.
        track: String,
        /// Why.
        reason: Fault,
    },
    /// Renditions do not fit together.
    #[error("the encoder's {rendition} cannot be used: {fault}")]
    Grid {
        /// Which.
        rendition: String,
        /// Why.
        fault: String,
    },
    /// There are no keys to be had.
    #[error(transparent)]
    Encryption(#[from] encryption::Error),
    /// It was asked to stop.
    #[error("stopped")]
    Stopped,
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
    use mp4_atom::{Avc1, Codec};

    use super::*;
    use crate::fragment::Init;
    use crate::plan::{Audio, Group};

    /// A track of 25 ticks a second: a picture with key frames at these, or sound.
    fn track(name: &str, starts: &[u64], end: u64) -> (Track, Timeline) {
        let is_picture = !starts.is_empty();
        let codec = Codec::Avc1(Avc1::default());
        let timeline = Timeline {
            init: Init::for_test(codec, 25, is_picture.then_some((2, 2))),
            init_bytes: Vec::new(),
            starts: starts.to_vec(),
            end,
            uneven: None,
            bytes: 0,
            samples: end,
            delay: 0,
        };
        let language = crate::language::of_track(None);
        let kind = Kind::Sound(Audio {
            name: name.into(),
            stream: 0,
            group: Group::Stereo,
            language,
            channels: 2,
            kbps: 128,
            is_default: true,
            describes_video: false,
        });
        let (segments, key_frames) = (Vec::new(), Vec::new());
        (Track { name: name.into(), codecs: String::new(), kind, segments, key_frames }, timeline)
    }

    fn plan(seconds: u64) -> Plan {
        Plan { input: "a.mp4".into(), duration: Duration::from_secs(seconds), ..Plan::default() }
    }

    #[test]
    fn renditions_that_do_not_fit_together_are_not_published() {
        let cuts =
            |tracks: &[(Track, Timeline)]| common_cuts(&plan(8), tracks).map_err(|error| error.to_string());
        let good = || track("360p", &[0, 50, 100, 150], 200);
        assert_eq!(cuts(&[good(), track("audio", &[], 199)]), Ok(vec![0.0, 6.0]));
        let found = cuts(&[good(), track("240p", &[0, 50, 100, 151], 200)]).unwrap_err();
        assert_eq!(
            found,
            "the encoder's 240p cannot be used: it has no key frame at 6.000 s, where 360p has one"
        );
        let found = cuts(&[good(), track("audio", &[], 150)]).unwrap_err();
        assert!(found.ends_with("it ends before the last segment of 360p begins, at 6.000 s"), "{found}");
        assert!(cuts(&[]).unwrap_err().contains("nothing of the source"));
    }

    #[test]
    fn a_source_that_ends_early_is_cut_off() {
        assert!(check_length(&plan(8), &[track("360p", &[0], 200)]).is_ok());
        assert_eq!(
            check_length(&plan(8), &[track("360p", &[0], 150)]).unwrap_err().to_string(),
            "a.mp4: ends after 6.0 s of 8.0 s: it is cut off or damaged; upload it again, whole"
        );
    }

    /// The example of RFC 6234 §8.5: SHA-256 of "abc".
    #[test]
    fn digests_are_written_as_sha256sum_reads_them() {
        let digest = hexadecimal(&Sha256::digest("abc"));
        assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
