//! The rules about a multivariant playlist: what it declares, and how its renditions fit together.

use std::collections::{BTreeMap, BTreeSet};

use super::checks::{Checks, Place};
use super::codecs::{self, Kind};
use super::gather::{Asset, Link, Rendition, Role};
use super::rules::{self, Rule};
use super::scan::{Multivariant, Tag};
use super::segment::{Measured, Stream};
use super::summary::float;

/// What differs by less begins or ends at the same time: a packet of sound lasts up to 46 ms.
const SAME_TIME: f64 = 0.1;
/// The same for boundaries between segments.
const SAME_BOUNDARY: f64 = 0.06;

/// The highest bit rate for cellular networks, in bits a second (rule 9.21).
const CELLULAR: u64 = 192_000;

/// A variant, with what it plays.
struct Variant<'a> {
    tag: &'a Tag,
    rendition: Option<&'a Rendition>,
    sound: Vec<&'a Rendition>,
    has_group: bool,
    has_video: bool,
}

impl Variant<'_> {
    /// Whether nothing is known of the sound that goes with it.
    fn lacks_sound(&self) -> bool {
        self.has_group && self.sound.is_empty()
    }

    fn short_side(&self) -> u32 {
        self.tag.resolution().map_or(0, |(width, height)| width.min(height))
    }

    fn bandwidth(&self) -> u64 {
        self.tag.number("BANDWIDTH").unwrap_or_default()
    }

    /// The codec of its picture, as found, or else as declared.
    fn video_codec(&self) -> Option<&str> {
        let stream = video(self.rendition?);
        let declared = || self.tag.codecs().into_iter().find(|codec| codecs::kind(codec) == Kind::Video);
        stream.map(|stream| stream.codec.as_str()).or_else(declared)
    }

    fn range(&self) -> Option<&'static str> {
        range(self.tag, self.rendition)
    }
}

fn video(rendition: &Rendition) -> Option<&Stream> {
    rendition.streams().iter().find(|stream| stream.kind == Kind::Video)
}

/// The dynamic range as found, or else as declared.
fn range(tag: &Tag, rendition: Option<&Rendition>) -> Option<&'static str> {
    let found = rendition.and_then(video).and_then(|stream| stream.transfer).map(|transfer| match transfer {
        16 => "PQ",
        18 => "HLG",
        _ => "SDR",
    });
    found.or(match tag.get("VIDEO-RANGE") {
        Some("PQ") => Some("PQ"),
        Some("HLG") => Some("HLG"),
        Some("SDR") => Some("SDR"),
        _ => None,
    })
}

/// The rules about a multivariant playlist, and about how its renditions fit together.
pub(super) struct Variants<'a> {
    asset: &'a Asset,
    multivariant: &'a Multivariant,
    all: Vec<Variant<'a>>,
}

impl<'a> Variants<'a> {
    pub(super) fn new(asset: &'a Asset, multivariant: &'a Multivariant) -> Self {
        let this = Self { asset, multivariant, all: Vec::new() };
        let variants = multivariant.variants.iter().map(|tag| {
            let rendition = this.rendition(tag);
            let group = tag.get("AUDIO");
            let in_group = multivariant
                .media
                .iter()
                .filter(|media| media.is("TYPE", "AUDIO") && media.get("GROUP-ID") == group);
            let streams = rendition.map(Rendition::streams).unwrap_or_default();
            let declared = || {
                tag.resolution().is_some()
                    || tag.codecs().iter().any(|codec| codecs::kind(codec) == Kind::Video)
            };
            let has_video = match streams {
                [] => declared(),
                streams => streams.iter().any(|stream| stream.kind == Kind::Video),
            };
            Variant {
                tag,
                rendition,
                sound: in_group
                    .filter(|_| group.is_some())
                    .filter_map(|media| this.rendition(media))
                    .collect(),
                has_group: group.is_some(),
                has_video,
            }
        });
        let all = variants.collect();
        Self { all, ..this }
    }

    fn rendition(&self, tag: &Tag) -> Option<&'a Rendition> {
        match self.asset.entry.links.get(&tag.line) {
            Some(Link::Rendition(number)) => self.asset.renditions.get(*number),
            _ => None,
        }
    }

    fn pictures(&self) -> impl Iterator<Item = &Variant<'a>> {
        self.all.iter().filter(|variant| variant.has_video)
    }

    pub(super) fn check(&self, checks: &mut Checks<'_>, place: &Place) {
        self.links(checks, place);
        for tag in &self.multivariant.media {
            media_tag(checks, place, tag);
        }
        self.groups(checks, place);
        self.channels(checks, place);
        for variant in &self.all {
            Self::variant(checks, place, variant);
            self.references(checks, place, variant.tag);
            Self::rates(checks, place, variant, self.subtitles(variant.tag));
        }
        for tag in &self.multivariant.i_frames {
            self.i_frames(checks, place, tag);
        }
        self.ladder(checks, place);
        self.sound(checks, place);
        self.trick_play(checks, place);
        self.ranges(checks, place);
        self.whole(checks, place);
        self.grid(checks);
    }

    fn links(&self, checks: &mut Checks<'_>, place: &Place) {
        for (line, link) in &self.asset.entry.links {
            match link {
                Link::Rendition(_) => {}
                Link::Multivariant => {
                    checks.add(rules::PLAYLIST_KIND, place, *line, "it leads to a multivariant playlist");
                }
                Link::Foreign => {
                    checks.add(rules::EXTM3U, place, *line, "what it leads to begins otherwise");
                }
                Link::Nowhere(refused) => checks.add(rules::AVAILABLE, place, *line, &refused.to_string()),
                Link::Unknown(why) => checks.note(why),
            }
        }
    }

    fn groups(&self, checks: &mut Checks<'_>, place: &Place) {
        let mut names = BTreeSet::new();
        let mut defaults = BTreeSet::new();
        for tag in &self.multivariant.media {
            let group = (tag.get("TYPE"), tag.get("GROUP-ID"));
            if !names.insert((group, tag.get("NAME"))) {
                checks.add(rules::GROUP, place, tag.line, "the name is there twice");
            }
            if tag.is("DEFAULT", "YES") && !defaults.insert(group) {
                checks.add(rules::GROUP, place, tag.line, "there is another default");
            }
        }
        // One group may be used by many variants.
        let mut sizes: BTreeMap<_, (usize, Option<usize>)> = BTreeMap::new();
        for tag in self.multivariant.media.iter().filter(|tag| tag.is("TYPE", "AUDIO")) {
            let size = sizes.entry(tag.get("GROUP-ID")).or_default();
            size.0 += 1;
            if tag.get("URI").is_none() {
                size.1 = size.1.or(Some(tag.line));
            }
        }
        for (size, without) in sizes.into_values() {
            if let Some(line) = without.filter(|_| size > 1) {
                checks.add(rules::ALTERNATIVES_SEPARATE, place, line, "one of several has no URI");
            }
        }
    }

    fn channels(&self, checks: &mut Checks<'_>, place: &Place) {
        for tag in self.multivariant.media.iter().filter(|tag| tag.is("TYPE", "AUDIO")) {
            let found = self.rendition(tag).and_then(|rendition| {
                rendition.streams().iter().find(|stream| stream.kind == Kind::Audio)?.channels
            });
            let declared = tag.get("CHANNELS").map(|channels| channels.split('/').next().unwrap_or_default());
            match (declared, found) {
                (None, _) => checks.add(rules::CHANNELS, place, tag.line, "there is none"),
                (Some(declared), Some(found)) if declared.parse() != Ok(found) => {
                    checks.add(rules::CHANNELS, place, tag.line, &format!("the media has {found}"));
                }
                _ => {}
            }
        }
    }

    fn variant(checks: &mut Checks<'_>, place: &Place, variant: &Variant<'_>) {
        let tag = variant.tag;
        let line = tag.line;
        if tag.number("BANDWIDTH").is_none_or(|rate| rate == 0) {
            checks.add(rules::STREAM_INF, place, line, "it has no BANDWIDTH");
        }
        if tag.number("AVERAGE-BANDWIDTH").is_none() {
            checks.add(rules::AVERAGE_THERE, place, line, "there is none");
        }
        if tag.codecs().is_empty() {
            checks.add(rules::CODECS, place, line, "there is none");
        } else if variant.rendition.is_some() && !variant.lacks_sound() {
            let found = variant.rendition.into_iter().chain(variant.sound.iter().copied());
            codecs_true(checks, place, tag, found);
        }
        let Some(rendition) = variant.rendition.filter(|_| variant.has_video) else { return };
        picture_size(checks, place, tag, rendition, rules::RESOLUTION);
        let rate = rendition.summary.frame_rate;
        match (tag.decimal("FRAME-RATE"), rate) {
            (None, _) => checks.add(rules::FRAME_RATE, place, line, "there is none"),
            (Some(declared), Some((average, most)))
                if declared < average * 0.99 || declared > most * 1.01 =>
            {
                checks.add(rules::FRAME_RATE_TRUE, place, line, &format!("the media has {average:.3}"));
            }
            _ => {}
        }
        let rate =
            tag.decimal("FRAME-RATE").unwrap_or_default().max(rate.map_or(0.0, |(average, _)| average));
        // 60 as a clock of milliseconds counts it is a little more.
        if rate > 60.5 {
            checks.add(rules::FRAME_RATE_LIMIT, place, line, &format!("it is {rate:.2}"));
        }
        if let Some(audio) = rendition.streams().iter().find(|stream| stream.kind == Kind::Audio) {
            let rule =
                if audio.channels.unwrap_or(2) > 2 { rules::MULTICHANNEL_SEPARATE } else { rules::SEPARATE };
            checks.add(rule, place, line, "they are in one");
        }
    }

    fn references(&self, checks: &mut Checks<'_>, place: &Place, tag: &Tag) {
        for (attribute, kind) in [
            ("AUDIO", "AUDIO"),
            ("VIDEO", "VIDEO"),
            ("SUBTITLES", "SUBTITLES"),
            ("CLOSED-CAPTIONS", "CLOSED-CAPTIONS"),
        ] {
            let Some(group) = tag.get(attribute) else { continue };
            let is_there = self
                .multivariant
                .media
                .iter()
                .any(|media| media.is("TYPE", kind) && media.is("GROUP-ID", group));
            if !is_there && group != "NONE" {
                checks.add(
                    rules::STREAM_INF,
                    place,
                    tag.line,
                    &format!("there is no group that {attribute} names"),
                );
            }
        }
    }

    /// Bit rate of the heaviest subtitles that go with a variant.
    fn subtitles(&self, tag: &Tag) -> u64 {
        let Some(group) = tag.get("SUBTITLES") else { return 0 };
        let media = self.multivariant.media.iter();
        let in_group = media.filter(|media| media.is("TYPE", "SUBTITLES") && media.is("GROUP-ID", group));
        in_group.filter_map(|media| self.rendition(media)?.summary.peak).max().unwrap_or_default()
    }

    /// That the declared bit rates are those of the media. Subtitles may count, but few count them.
    fn rates(checks: &mut Checks<'_>, place: &Place, variant: &Variant<'_>, subtitles: u64) {
        let line = variant.tag.line;
        let Some(rendition) = variant.rendition.filter(|rendition| rendition.media().is_complete()) else {
            return;
        };
        if variant.lacks_sound() {
            return;
        }
        let sum = |measure: fn(&Rendition) -> Option<u64>| {
            let sound = variant.sound.iter().map(|sound| measure(sound)).collect::<Option<Vec<_>>>()?;
            let heaviest = sound.into_iter().max().unwrap_or_default();
            let own = measure(rendition)?;
            // Where there is nothing but sound, the variant's own is one of the group, and played instead of others.
            let is_of_group = variant.sound.iter().any(|sound| std::ptr::eq(*sound, rendition));
            Some(if is_of_group { heaviest } else { own + heaviest })
        };
        let (Some(peak), Some(average)) = (sum(|of| of.summary.peak), sum(|of| of.summary.average)) else {
            return;
        };
        if let Some(declared) = variant.tag.number("BANDWIDTH").filter(|rate| *rate > 0) {
            let what = format!("{declared} is declared, {peak} was measured");
            if float(peak) > float(declared) * 1.1 {
                checks.add(rules::BANDWIDTH_SUFFICES, place, line, &what);
            } else if float(peak.saturating_add(subtitles)) < float(declared) * 0.9 {
                checks.add(rules::PEAK_TRUE, place, line, &what);
            }
        }
        if let Some(declared) = variant.tag.number("AVERAGE-BANDWIDTH") {
            let most = float(average.saturating_add(subtitles));
            if float(average) > float(declared) * 1.1 || most < float(declared) * 0.9 {
                let what = format!("{declared} is declared, {average} was measured");
                checks.add(rules::AVERAGE_TRUE, place, line, &what);
            }
        }
        if peak > average.saturating_mul(2) {
            let what = format!("{peak} is the peak, {average} the average");
            checks.add(rules::PEAK_OVER_AVERAGE, place, line, &what);
        }
    }

    fn i_frames(&self, checks: &mut Checks<'_>, place: &Place, tag: &Tag) {
        let line = tag.line;
        if tag.get("URI").is_none() {
            checks.add(rules::I_FRAME_STREAM_INF, place, line, "it has no URI");
        }
        let declared = tag.number("BANDWIDTH").filter(|rate| *rate > 0);
        if declared.is_none() {
            checks.add(rules::I_FRAME_STREAM_INF, place, line, "it has no BANDWIDTH");
        }
        if tag.resolution().is_none() {
            checks.add(rules::I_FRAME_RESOLUTION, place, line, "there is none");
        }
        let rendition = self.rendition(tag);
        if tag.codecs().is_empty() {
            checks.add(rules::I_FRAME_CODECS, place, line, "there is none");
        } else {
            codecs_true(checks, place, tag, rendition.into_iter());
        }
        let Some(rendition) = rendition else { return };
        if tag.resolution().is_some() {
            picture_size(checks, place, tag, rendition, rules::I_FRAME_RESOLUTION);
        }
        if let (Some(declared), Some(peak)) = (declared, rendition.summary.peak)
            && (float(peak) > float(declared) * 1.1 || float(peak) < float(declared) * 0.9)
        {
            let what = format!("{declared} is declared, {peak} was measured");
            checks.add(rules::I_FRAME_PEAK, place, line, &what);
        }
    }

    /// Which variants there have to be.
    fn ladder(&self, checks: &mut Checks<'_>, place: &Place) {
        let pictures: Vec<_> = self.pictures().collect();
        let Some(first) = pictures.first() else { return };
        let line = first.tag.line;
        let known: Vec<_> = pictures.iter().filter_map(|variant| variant.video_codec()).collect();
        let h264: Vec<_> = known.iter().filter_map(|codec| codecs::h264(codec)).collect();
        if !h264.is_empty() && !h264.iter().any(|(_, _, level)| *level <= 41) {
            checks.add(rules::H264_COMPATIBLE, place, line, "there is none");
        }
        let hevc: Vec<_> = known.iter().filter_map(|codec| codecs::hevc(codec)).collect();
        if !hevc.is_empty()
            && !hevc.iter().any(|(profile, is_high, level)| *profile <= 2 && !is_high && *level <= 120)
        {
            checks.add(rules::HEVC_COMPATIBLE, place, line, "there is none");
        }
        if known.len() == pictures.len() && !known.iter().any(|codec| codecs::is_h264(codec)) {
            checks.add(rules::SOME_H264, place, line, "there is none");
        }
        let is_default = |variant: &Variant<'_>| {
            variant
                .tag
                .number("AVERAGE-BANDWIDTH")
                .is_some_and(|rate| (1_800_000..=2_200_000).contains(&rate))
        };
        if pictures.iter().any(|variant| is_default(variant)) && !is_default(first) {
            checks.add(rules::DEFAULT_VARIANT, place, line, "another one is first");
        }
        Self::sizes(checks, place, &pictures);
        let is_small = first.short_side() < 234 || first.bandwidth() <= CELLULAR;
        // One picture with several sounds is one.
        let is_one = pictures.iter().all(|variant| variant.tag.get("URI") == first.tag.get("URI"));
        if is_one && !is_small {
            checks.add(rules::SEVERAL_RATES, place, line, "there is one");
        }
        if !is_one && !pictures.iter().any(|variant| variant.bandwidth() <= CELLULAR) {
            let least = pictures.iter().map(|variant| variant.bandwidth()).min().unwrap_or_default();
            checks.add(rules::CELLULAR, place, line, &format!("the least is {least}"));
        }
    }

    fn sizes(checks: &mut Checks<'_>, place: &Place, pictures: &[&Variant<'_>]) {
        let Some((width, height)) = pictures.iter().find_map(|variant| variant.tag.resolution()) else {
            return;
        };
        for variant in pictures {
            let Some((other_width, other_height)) = variant.tag.resolution() else { continue };
            // Sizes are even numbers, so one side may be off by that.
            let off = |size: u32, of: u32, to: u32, expected: u32| {
                (f64::from(size) * f64::from(to) / f64::from(of) - f64::from(expected)).abs()
            };
            let by_height = off(width, height, other_height, other_width);
            let by_width = off(height, width, other_width, other_height);
            if by_height > 2.0 && by_width > 2.0 {
                let what = format!("{other_width}x{other_height} is not that of {width}x{height}");
                checks.add(rules::ASPECT_RATIO, place, variant.tag.line, &what);
            }
        }
        let area = |variant: &Variant<'_>| {
            variant.tag.resolution().map_or(0, |(width, height)| u64::from(width) * u64::from(height))
        };
        let Some(top) = pictures.iter().max_by_key(|variant| area(variant)) else { return };
        let at_top: Vec<_> = pictures.iter().filter(|variant| area(variant) == area(top)).collect();
        if top.short_side() >= 720 && at_top.len() < 2 {
            checks.add(rules::TWO_AT_THE_TOP, place, top.tag.line, "there is one");
        }
        if top.short_side() >= 2_160 && !at_top.iter().any(|variant| variant.bandwidth() <= 15_000_000) {
            checks.add(rules::UHD_COMPATIBLE, place, top.tag.line, "there is none");
        }
    }

    /// Which sound there has to be.
    fn sound(&self, checks: &mut Checks<'_>, place: &Place) {
        let mut has_sound = None;
        let (mut has_stereo, mut is_known) = (false, true);
        let mut families = BTreeSet::new();
        for variant in &self.all {
            let declared: Vec<_> =
                variant.tag.codecs().into_iter().filter(|codec| codecs::kind(codec) == Kind::Audio).collect();
            families.extend(declared.iter().map(|codec| codecs::family(codec).to_owned()));
            let own = variant.rendition.filter(|_| !variant.has_group);
            let streams: Vec<&Stream> = own
                .into_iter()
                .chain(variant.sound.iter().copied())
                .flat_map(Rendition::streams)
                .filter(|stream| stream.kind == Kind::Audio)
                .collect();
            if streams.is_empty() && declared.is_empty() {
                is_known &= !variant.has_group;
                continue;
            }
            has_sound.get_or_insert(variant.tag.line);
            has_stereo |= if streams.is_empty() {
                declared.iter().any(|codec| codecs::is_aac(codec))
            } else {
                streams.iter().any(|stream| {
                    codecs::is_aac(&stream.codec) && stream.channels.is_none_or(|channels| channels == 2)
                })
            };
        }
        if let Some(line) = has_sound.filter(|_| !has_stereo && is_known) {
            checks.add(rules::STEREO, place, line, "there is none");
        }
        if let Some(line) = has_sound.filter(|_| families.contains("ec-3") && !families.contains("ac-3")) {
            checks.add(rules::DOLBY, place, line, "there is none");
        }
    }

    fn trick_play(&self, checks: &mut Checks<'_>, place: &Place) {
        let pictures: Vec<_> = self.pictures().collect();
        let Some(first) = pictures.first() else { return };
        let tags = &self.multivariant.i_frames;
        let Some(tag) = tags.first() else {
            return checks.add(rules::I_FRAMES, place, first.tag.line, "there are none");
        };
        let sizes: BTreeSet<_> = pictures.iter().map(|variant| variant.tag.resolution()).collect();
        if sizes.len() > 1 && tags.len() < 2 {
            checks.add(rules::MANY_I_FRAMES, place, tag.line, "there is one");
        }
        let is_h264 =
            |codec: &str| codecs::is_h264(codec) || matches!(codecs::family(codec), "mjpg" | "jpeg");
        let some_h264 = pictures.iter().filter_map(|variant| variant.video_codec()).any(codecs::is_h264);
        let codecs: Vec<_> = tags.iter().flat_map(Tag::codecs).collect();
        if some_h264 && !codecs.is_empty() && !codecs.into_iter().any(is_h264) {
            checks.add(rules::H264_I_FRAMES, place, tag.line, "there is none");
        }
    }

    /// Dynamic range.
    fn ranges(&self, checks: &mut Checks<'_>, place: &Place) {
        let pictures: Vec<_> = self.pictures().collect();
        let Some(first) = pictures.first() else { return };
        let needs_hdr = |range: Option<&str>| range.is_some_and(|range| range != "SDR");
        let tags = self.multivariant.i_frames.iter();
        let all: Vec<(&Tag, Option<&Rendition>)> = pictures
            .iter()
            .map(|variant| (variant.tag, variant.rendition))
            .chain(tags.map(|tag| (tag, self.rendition(tag))))
            .collect();
        if !all
            .iter()
            .any(|(tag, rendition)| needs_hdr(range(tag, *rendition)) || needs_hdr(tag.get("VIDEO-RANGE")))
        {
            return;
        }
        for (tag, rendition) in &all {
            match (tag.get("VIDEO-RANGE"), range(tag, *rendition)) {
                (None, _) => checks.add(rules::VIDEO_RANGE, place, tag.line, "there is none"),
                (Some(declared), Some(found)) if declared != found => {
                    checks.add(rules::VIDEO_RANGE, place, tag.line, &format!("the media is {found}"));
                }
                _ => {}
            }
        }
        let line = first.tag.line;
        let plays_anywhere = |range: Option<&str>| range.is_none_or(|range| range == "SDR");
        if !pictures.iter().any(|variant| plays_anywhere(variant.range())) {
            checks.add(rules::SDR_THERE, place, line, "there are none");
        } else if let Some(tag) = self.multivariant.i_frames.first()
            && !self.multivariant.i_frames.iter().any(|tag| plays_anywhere(range(tag, self.rendition(tag))))
        {
            checks.add(rules::SDR_I_FRAMES, place, tag.line, "there are none");
        }
        let slow =
            |variant: &&&Variant<'_>| variant.tag.decimal("FRAME-RATE").is_none_or(|rate| rate <= 30.5);
        let mut hdr = pictures.iter().filter(|variant| needs_hdr(variant.range())).peekable();
        if hdr.peek().is_some() && hdr.filter(slow).count() == 0 {
            checks.add(rules::HDR_FRAME_RATE, place, line, "there is none");
        }
    }

    fn whole(&self, checks: &mut Checks<'_>, place: &Place) {
        let pictures: Vec<_> = self.pictures().collect();
        let entry = &self.asset.entry;
        if !pictures.is_empty() && !entry.playlist.independent {
            let all = pictures
                .iter()
                .all(|variant| variant.rendition.is_none_or(|rendition| rendition.playlist.independent));
            let (rule, what) = if all {
                (rules::INDEPENDENT, "it is in the media playlists only")
            } else {
                (rules::INDEPENDENT_ANYWHERE, "it is in neither")
            };
            checks.add(rule, place, 1, what);
        }
        if let Some(tag) = self.multivariant.steering.as_ref().filter(|tag| tag.get("PATHWAY-ID").is_none()) {
            checks.add(rules::PATHWAY, place, tag.line, "there is none");
        }
        let scored = |variant: &&Variant<'_>| variant.tag.get("SCORE").is_some();
        if self.all.iter().any(|variant| scored(&variant))
            && let Some(without) = self.all.iter().find(|variant| !scored(variant))
        {
            checks.add(rules::SCORE, place, without.tag.line, "there is none");
        }
        if !pictures.is_empty()
            && let Some(only) = self.all.iter().find(|variant| !variant.has_video)
        {
            checks.add(rules::AUDIO_ONLY, place, only.tag.line, "this one is");
        }
        for tag in &self.multivariant.keys {
            if tag.is("METHOD", "SAMPLE-AES-CTR") {
                checks.add(rules::SAMPLE_AES_CTR, place, tag.line, "METHOD=SAMPLE-AES-CTR");
            }
        }
    }

    /// That all renditions are cut at the same times, from the same beginning to the same end.
    fn grid(&self, checks: &mut Checks<'_>) {
        let numbered = || (1..).zip(&self.asset.renditions);
        let of_media = || {
            numbered()
                .filter(|(_, rendition)| rendition.role == Role::Media && rendition.media().is_complete())
        };
        let Some((_, first)) = of_media().next() else { return };
        let shown = checks.files.shown(&first.at);
        let reference = first.media();
        let (total, boundaries) = (reference.seconds(), boundaries(first));
        let breaks = |rendition: &Rendition| {
            let times = self::boundaries(rendition);
            let segments = rendition.media().segments.iter().skip(1);
            segments
                .zip(times)
                .filter(|(segment, _)| segment.discontinuity)
                .map(|(_, time)| time)
                .collect::<Vec<_>>()
        };
        let start = |rendition: &Rendition| {
            rendition.segments.first().and_then(Measured::main).map(|part| part.start)
        };
        for (number, rendition) in of_media().skip(1) {
            let place = Place { playlist: number, shown: checks.files.shown(&rendition.at) };
            let media = rendition.media();
            if media.target != reference.target {
                let target =
                    |target: Option<u64>| target.map_or("none".to_owned(), |target| target.to_string());
                let what =
                    format!("{}, where {shown} has {}", target(media.target), target(reference.target));
                checks.add(rules::SAME_TARGET, &place, media.target_line.max(1), &what);
            }
            let seconds = media.seconds();
            let is_as_long = (seconds - total).abs() <= SAME_TIME;
            if !is_as_long {
                let what = format!("{seconds:.3} s, where {shown} has {total:.3} s");
                checks.add(rules::SAME_DURATION, &place, media.target_line.max(1), &what);
            }
            if let (Some(own), Some(other)) = (start(rendition), start(first))
                && (own - other).abs() > 2.0 * SAME_TIME
            {
                let what = format!("it begins at {own:.3} s, {shown} at {other:.3} s");
                checks.add(rules::SAME_START, &place, media.target_line.max(1), &what);
            }
            let (own, other) = (breaks(rendition), breaks(first));
            let differs = own.len() != other.len()
                || own.iter().zip(&other).any(|(own, other)| (own - other).abs() > 2.0 * SAME_TIME);
            if differs {
                let what = format!("{} of them, where {shown} has {}", own.len(), other.len());
                checks.add(rules::SAME_DISCONTINUITIES, &place, media.target_line.max(1), &what);
            }
            let own = self::boundaries(rendition);
            let end = total.min(seconds) - SAME_BOUNDARY;
            let within = |times: &[f64]| times.iter().copied().filter(|time| *time < end).collect::<Vec<_>>();
            let (inner, other) = (within(&own), within(&boundaries));
            let off = inner.iter().zip(&other).position(|(own, other)| (own - other).abs() > SAME_BOUNDARY);
            let line = |at: usize| media.segments.get(at).map_or(1, |segment| segment.line);
            if let Some(at) = off {
                let what = format!(
                    "this one ends at {:.3} s, where that of {shown} ends at {:.3} s",
                    inner[at], other[at]
                );
                checks.add(rules::SAME_BOUNDARIES, &place, line(at), &what);
            } else if inner.len() != other.len() || (is_as_long && own.len() != boundaries.len()) {
                let what = format!("{} segments, where {shown} has {}", own.len(), boundaries.len());
                checks.add(rules::SAME_BOUNDARIES, &place, line(own.len().saturating_sub(1)), &what);
            }
        }
        for (number, rendition) in numbered().filter(|(_, rendition)| rendition.role == Role::Subtitles) {
            let seconds = rendition.media().seconds();
            if seconds < total - 0.5 {
                let place = Place { playlist: number, shown: checks.files.shown(&rendition.at) };
                let what = format!("{seconds:.3} s of {total:.3} s");
                checks.add(rules::SUBTITLES_WHOLE, &place, rendition.media().target_line.max(1), &what);
            }
        }
    }
}

/// When each segment ends.
fn boundaries(rendition: &Rendition) -> Vec<f64> {
    let mut end = 0.0;
    let ends = rendition.media().segments.iter().map(|segment| {
        end += segment.seconds;
        end
    });
    ends.collect()
}

/// Holds an `EXT-X-MEDIA` against what its type asks for.
fn media_tag(checks: &mut Checks<'_>, place: &Place, tag: &Tag) {
    let line = tag.line;
    let mut wrong = |what: &str| checks.add(rules::MEDIA_TAG, place, line, what);
    let kind = tag.get("TYPE").unwrap_or_default();
    if !["AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS"].contains(&kind) {
        wrong("its TYPE is none of AUDIO, VIDEO, SUBTITLES and CLOSED-CAPTIONS");
    }
    for name in ["GROUP-ID", "NAME"] {
        if tag.get(name).is_none_or(str::is_empty) {
            wrong(&format!("it has no {name}"));
        }
    }
    let has_uri = tag.get("URI").is_some();
    if kind == "SUBTITLES" && !has_uri {
        wrong("subtitles have no URI");
    }
    if kind == "CLOSED-CAPTIONS" {
        if has_uri {
            wrong("closed captions have a URI");
        }
        if tag.get("INSTREAM-ID").is_none() {
            wrong("closed captions have no INSTREAM-ID");
        }
    }
    for name in ["DEFAULT", "AUTOSELECT", "FORCED"] {
        if tag.get(name).is_some_and(|value| value != "YES" && value != "NO") {
            wrong(&format!("{name} is neither YES nor NO"));
        }
    }
    if tag.is("DEFAULT", "YES") && tag.is("AUTOSELECT", "NO") {
        wrong("it is the default, and not to be selected");
    }
    if tag.is("FORCED", "YES") && kind != "SUBTITLES" {
        wrong("FORCED is for subtitles");
    }
    if kind != "VIDEO" && tag.get("LANGUAGE").is_none_or(str::is_empty) {
        checks.add(rules::LANGUAGE, place, line, "there is none");
    }
    let characteristics: Vec<_> =
        tag.get("CHARACTERISTICS").unwrap_or_default().split(',').map(str::trim).collect();
    let has = |name: &str| characteristics.contains(&name);
    let is_selected = tag.is("AUTOSELECT", "YES");
    if kind == "AUDIO" && has("public.accessibility.describes-video") && !is_selected {
        checks.add(rules::DESCRIPTION_AUTOSELECT, place, line, "it has not");
    }
    if kind == "SUBTITLES" {
        let spoken = has("public.accessibility.transcribes-spoken-dialog");
        let sounds = has("public.accessibility.describes-music-and-sound");
        if spoken != sounds {
            checks.add(rules::CAPTIONS_MARKED, place, line, "one is missing");
        } else if spoken && !is_selected {
            checks.add(rules::CAPTIONS_AUTOSELECT, place, line, "they have not");
        }
        if tag.is("FORCED", "YES") && !is_selected {
            checks.add(rules::FORCED_AUTOSELECT, place, line, "they have not");
        }
    }
}

/// That `CODECS` names what is in the media, and nothing else.
fn codecs_true<'a>(
    checks: &mut Checks<'_>,
    place: &Place,
    tag: &Tag,
    renditions: impl Iterator<Item = &'a Rendition>,
) {
    let declared = tag.codecs();
    let mut actual: Vec<&str> = Vec::new();
    for rendition in renditions {
        let mut known = rendition.streams().iter().filter(|stream| stream.kind != Kind::Other).peekable();
        if known.peek().is_none() {
            return;
        }
        actual.extend(known.map(|stream| stream.codec.as_str()));
    }
    if actual.is_empty() {
        return;
    }
    for codec in &actual {
        if !declared.iter().any(|declared| codecs::agree(declared, codec)) {
            return checks.add(rules::CODECS_TRUE, place, tag.line, &format!("the media has {codec}"));
        }
    }
    for codec in declared.iter().filter(|codec| matches!(codecs::kind(codec), Kind::Video | Kind::Audio)) {
        if !actual.iter().any(|actual| codecs::agree(codec, actual)) {
            let codec: String = codec.chars().take(40).collect();
            return checks.add(rules::CODECS_TRUE, place, tag.line, &format!("the media has no {codec}"));
        }
    }
}

fn picture_size(checks: &mut Checks<'_>, place: &Place, tag: &Tag, rendition: &Rendition, absent: Rule) {
    let found = video(rendition).and_then(|stream| stream.size);
    match (tag.resolution(), found) {
        (None, _) => checks.add(absent, place, tag.line, "there is none"),
        (Some(declared), Some((width, height))) if declared != (width, height) => {
            checks.add(rules::RESOLUTION_TRUE, place, tag.line, &format!("the media has {width}x{height}"));
        }
        _ => {}
    }
}
