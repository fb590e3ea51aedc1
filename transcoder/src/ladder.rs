//! The renditions a viewer can switch between.
//!
//! Sizes and rates are those of Apple's [authoring guide]. Its rates are averages; here they are the most that may
//! be spent, because below them the encoder works to a constant quality: an easy picture costs what it needs, and
//! only a hard one what the guide would have spent on any. Nothing is larger than the source, in size or in rate:
//! that costs bytes and adds nothing.
//!
//! [authoring guide]: https://developer.apple.com/documentation/http-live-streaming/hls-authoring-specification-for-apple-devices

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a picture of one size may cost, for each codec.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Step {
    /// Length of the shorter side in pixels: the height of a landscape picture, the width of a portrait.
    pub short_side: u32,
    /// H.264.
    pub h264: Rates,
    /// HEVC, and AV1, for which the guide has no table.
    pub hevc: Rates,
    /// HEVC in high dynamic range.
    pub hdr: Rates,
}

/// Two rates for one size, in kbit/s: players on a line in between need not change the size.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rates {
    /// Where the source has this size.
    pub high: u32,
    /// There too, and alone where the source is larger.
    pub low: u32,
}

const fn rates(high: u32, low: u32) -> Rates {
    Rates { high, low }
}

/// The largest first. The guide's tables (rev. 2025-05-08), but for what is marked with `/* ours */`: it has only one
/// rate for that size, or none.
#[rustfmt::skip]
pub const LADDER: [Step; 6] = [
    Step { short_side: 1080, h264: rates(7_800, 6_000), hevc: rates(5_800, 4_500), hdr: rates(7_000, 5_400) },
    Step { short_side: 720, h264: rates(4_500, 3_000), hevc: rates(3_400, 2_400), hdr: rates(4_080, 2_900) },
    Step { short_side: 540, h264: rates(2_000, 1_500 /* ours */), hevc: rates(1_600, 900), hdr: rates(1_930, 1_090) },
    Step { short_side: 432, h264: rates(1_100, 730), hevc: rates(600 /* ours */, 300), hdr: rates(730 /* ours */, 360) },
    Step { short_side: 360, h264: rates(600 /* ours */, 365), hevc: rates(300 /* ours */, 145), hdr: rates(360 /* ours */, 160) },
    Step { short_side: 234, h264: rates(145, 145), hevc: rates(100 /* ours */, 100 /* ours */), hdr: rates(120 /* ours */, 120 /* ours */) },
];

/// Sizes nearer to the source's than this share of it, in percent, are left out.
const NEAREST: u32 = 85;

/// The next rung down costs at most this share of the one above it, in percent, or it is not worth its place.
const SMALLEST_STEP: u32 = 85;

/// What half the pixels need is not half the bits: the rates of one picture in several sizes go by this power of
/// their areas, in Apple's tables as well.
const RATE_BY_AREA: f64 = 0.75;

/// No rung is capped below this, in kbit/s: a source that shows next to nothing has moments that need more.
const LOWEST_CAP: u32 = 64;

/// Sizes below this are for H.264 alone: a player that knows another codec has no need of them.
const SMALLEST_OF_OTHERS: u32 = 360;

/// Pictures with a side below this are for H.264 alone too: SVT-AV1 takes none that are smaller, and what HEVC
/// saves there is nothing.
const SHORTEST_SIDE_OF_OTHERS: u32 = 64;

/// Up to this rate, in kbit/s, at most [`MOST_FRAMES`] are shown a second (the guide's note on its tables).
const FEW_FRAMES_UP_TO: u32 = 1_100;

/// A little above 30: a rate that was measured need not be exact.
const MOST_FRAMES: f64 = 30.5;

/// The most macroblocks of a picture, and the most along one side, in H.264 level 4.2 (table A-1), which is the
/// highest level that Apple's guide allows (rule 1.3). Only pictures much wider than 16:9 come near.
const LEVEL_4_2_MACROBLOCKS: u32 = 8_704;
const LEVEL_4_2_SIDE: u32 = 263;

/// Size and rate of the pictures for scrubbing: the guide's rule 6.2 and its table for trick play.
const DENSE_SHORT_SIDE: u32 = 360;
const DENSE_RUNG: Rung = Rung { crf: 28, maxrate_kbps: 45, bufsize_kbit: 90 };

/// What a rendition may cost.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rung {
    /// Quality that the encoder aims at, where the rates let it, on the codec's own scale.
    pub crf: u32,
    /// The most kbit/s that it may spend over the length of its buffer.
    pub maxrate_kbps: u32,
    /// Length of that buffer, in kbit.
    pub bufsize_kbit: u32,
}

/// The rendition for a mobile network, whose peak with its sound stays within 192 kbit/s (rule 9.21): this, its
/// buffer spread over a segment, 48 kbit/s of sound, and what the container takes.
pub const CELLULAR: Rung = Rung { crf: 24, maxrate_kbps: 124, bufsize_kbit: 72 };

/// The same in transport streams: every picture is filled up to a whole number of packets of 188 bytes there.
pub const CELLULAR_TS: Rung = Rung { crf: 24, maxrate_kbps: 76, bufsize_kbit: 36 };

/// How pictures are compressed.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264, which every player knows
    #[default]
    H264,
    /// HEVC
    Hevc,
    /// AV1
    Av1,
}

/// The range of brightness, in the terms of `VIDEO-RANGE`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Range {
    /// The standard one.
    #[default]
    Sdr,
    /// HDR10: up to 10,000 cd/m² by the perceptual quantiser (SMPTE ST 2084).
    Pq,
}

/// A rendition of one source.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Rendition {
    /// Folder and display name.
    pub name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// How it is compressed.
    pub codec: Codec,
    /// How bright it may be.
    pub range: Range,
    /// One frame of so many of the grid's is kept.
    pub every: u32,
    /// What it may cost.
    pub rung: Rung,
    /// Whether it is the one for mobile networks, and has the low sound.
    pub is_cellular: bool,
}

/// A rung that was considered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Decision {
    /// What it is called, or would be.
    pub name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The most kbit/s that it may spend, or might have.
    pub kbps: u32,
    /// Whether it is made.
    pub kept: bool,
    /// Why, in words.
    pub reason: String,
}

/// What a ladder is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picture {
    /// Width as shown, in pixels.
    pub width: u32,
    /// Height as shown.
    pub height: u32,
    /// What the source spends on it, in kbit/s, if that is known.
    pub kbps: Option<u32>,
    /// Frames a second that are made of it.
    pub hertz: f64,
}

impl Picture {
    /// The renditions in one codec, largest first, and everything that was considered. In H.264 there is always one at
    /// least.
    ///
    /// With `cellular`, the smallest of several is made for mobile networks.
    #[must_use]
    pub fn renditions(
        self,
        codec: Codec,
        range: Range,
        cellular: Option<Rung>,
    ) -> (Vec<Rendition>, Vec<Decision>) {
        let candidates = self.candidates(codec, range, cellular);
        let mut kept: Vec<Rendition> = Vec::new();
        let mut decisions = Vec::new();
        for Candidate { mut rendition, table, too_near } in candidates {
            let kbps = rendition.rung.maxrate_kbps;
            let above = kept.last().map(|above| (above.name.clone(), above.rung.maxrate_kbps));
            let too_small =
                codec != Codec::H264 && rendition.width.min(rendition.height) < SHORTEST_SIDE_OF_OTHERS;
            let refusal = match above {
                _ if too_small => Some(format!(
                    "a side is shorter than {SHORTEST_SIDE_OF_OTHERS} pixels, which is only made in H.264"
                )),
                Some((name, _)) if too_near => {
                    Some(format!("its size is within {NEAREST} % to 100 % of {name}'s"))
                }
                Some((name, above)) if kbps * 100 > above * SMALLEST_STEP => {
                    Some(format!("it would cost hardly less than {name}: {kbps} kbit/s, not {above}"))
                }
                _ => None,
            };
            let is_capped = kbps < table;
            let reason = refusal.clone().unwrap_or_else(|| match self.kbps {
                Some(source) if is_capped => {
                    format!("the source has {source} kbit/s, which at this size is worth {kbps}, not {table}")
                }
                _ => format!("{kbps} kbit/s at the most, by the ladder"),
            });
            decisions.push(Decision {
                name: rendition.name.clone(),
                width: rendition.width,
                height: rendition.height,
                kbps,
                kept: refusal.is_none(),
                reason,
            });
            if refusal.is_none() {
                rendition.every = if kbps <= FEW_FRAMES_UP_TO && self.hertz > MOST_FRAMES { 2 } else { 1 };
                kept.push(rendition);
            }
        }
        let smallest = kept.len().checked_sub(1).filter(|index| *index > 0);
        if let (Some(index), Some(cellular)) = (smallest, cellular) {
            let rendition = &mut kept[index];
            if rendition.rung.maxrate_kbps <= cellular.maxrate_kbps {
                rendition.is_cellular = true;
                rendition.rung.bufsize_kbit = rendition.rung.bufsize_kbit.min(cellular.bufsize_kbit);
                if let Some(decision) = decisions.iter_mut().find(|it| it.name == rendition.name) {
                    decision.reason.push_str("; for mobile networks, 192 kbit/s with its sound");
                }
            }
        }
        (kept, decisions)
    }

    /// One picture a second, each a key frame, for scrubbing.
    #[must_use]
    pub fn dense(self, every: u32) -> Rendition {
        let short_side = self.width.min(self.height).min(DENSE_SHORT_SIDE);
        let (width, height) = fitted(self.width, self.height, short_side);
        Rendition {
            name: format!("{}p-dense", width.min(height)),
            width,
            height,
            codec: Codec::H264,
            range: Range::Sdr,
            every,
            rung: DENSE_RUNG,
            is_cellular: false,
        }
    }

    fn candidates(self, codec: Codec, range: Range, cellular: Option<Rung>) -> Vec<Candidate> {
        let [largest, .., smallest] = LADDER;
        let top = self.width.min(self.height).min(largest.short_side);
        let (width, height) = fitted(self.width, self.height, top);
        // What the level allows may be smaller.
        let top = width.min(height);
        let at_top = interpolated(top, codec, range);
        let below = LADDER.iter().filter(|step| step.short_side < top);
        let below = below.filter(|step| codec == Codec::H264 || step.short_side >= SMALLEST_OF_OTHERS);
        let mut wanted = vec![(top, at_top.high, false, false)];
        if top >= smallest.short_side {
            wanted.push((top, at_top.low, true, false));
        }
        wanted.extend(below.map(|step| {
            let too_near = step.short_side * 100 > top * NEAREST;
            (step.short_side, step.rates(codec, range).low, false, too_near)
        }));
        // For mobile networks there is one in any case, if need be in the source's own size.
        let last = wanted.iter().rposition(|(.., too_near)| !too_near).filter(|index| *index > 0);
        if let (Some(last), Some(cellular)) = (last, cellular) {
            wanted[last].1 = wanted[last].1.min(cellular.maxrate_kbps);
        }

        let shown = area((self.width, self.height));
        let candidate = |(short_side, table, is_low, too_near): (u32, u32, bool, bool)| {
            let (width, height) = fitted(self.width, self.height, short_side);
            let share = (area((width, height)) / shown).min(1.0).powf(RATE_BY_AREA);
            // The low rung is to the high one as in the table, also where both are capped.
            let share = if is_low { share * f64::from(at_top.low) / f64::from(at_top.high) } else { share };
            let cap = self.kbps.map_or(u32::MAX, |kbps| percent(kbps, share).max(LOWEST_CAP));
            let maxrate_kbps = table.min(cap);
            let is_lesser = is_low || short_side < top;
            let rung = Rung {
                crf: crf(codec, is_lesser),
                maxrate_kbps,
                // More would let what is shorter than the buffer cost more than the source does.
                bufsize_kbit: maxrate_kbps * 3 / 2,
            };
            let name = name(width.min(height), is_low, codec, range);
            let rendition =
                Rendition { name, width, height, codec, range, every: 1, rung, is_cellular: false };
            Candidate { rendition, table, too_near }
        };
        wanted.into_iter().map(candidate).collect()
    }
}

struct Candidate {
    rendition: Rendition,
    table: u32,
    too_near: bool,
}

impl Step {
    fn rates(self, codec: Codec, range: Range) -> Rates {
        match (codec, range) {
            (_, Range::Pq) => self.hdr,
            (Codec::H264, Range::Sdr) => self.h264,
            (Codec::Hevc | Codec::Av1, Range::Sdr) => self.hevc,
        }
    }
}

/// The rates for a size that may lie between two of the ladder's.
fn interpolated(short_side: u32, codec: Codec, range: Range) -> Rates {
    let [largest, .., smallest] = LADDER;
    let above = LADDER.iter().rfind(|step| step.short_side >= short_side).copied().unwrap_or(largest);
    let below = LADDER.iter().find(|step| step.short_side <= short_side).copied().unwrap_or(smallest);
    let (part, span) =
        (short_side.saturating_sub(below.short_side), above.short_side.saturating_sub(below.short_side));
    let between =
        |low: u32, high: u32| low + (high.saturating_sub(low) * part).checked_div(span).unwrap_or_default();
    let (above, below) = (above.rates(codec, range), below.rates(codec, range));
    Rates { high: between(below.high, above.high), low: between(below.low, above.low) }
}

/// Where two codecs look alike, their scales do not: x265's numbers are about 3 higher than x264's, and those of
/// SVT-AV1 go up to 63.
fn crf(codec: Codec, is_lesser: bool) -> u32 {
    let best = match codec {
        Codec::H264 => 21,
        Codec::Hevc => 24,
        Codec::Av1 => 32,
    };
    if is_lesser { best + 2 } else { best }
}

fn name(short_side: u32, is_low: bool, codec: Codec, range: Range) -> String {
    let low = if is_low { "-low" } else { "" };
    let kind = match (codec, range) {
        (_, Range::Pq) => "-hdr",
        (Codec::H264, Range::Sdr) => "",
        (Codec::Hevc, Range::Sdr) => "-hevc",
        (Codec::Av1, Range::Sdr) => "-av1",
    };
    format!("{short_side}p{low}{kind}")
}

fn area((width, height): (u32, u32)) -> f64 {
    f64::from(width) * f64::from(height)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, which is right here"
)]
fn percent(kbps: u32, share: f64) -> u32 {
    (f64::from(kbps) * share) as u32
}

/// The source's shape with this short side, or the longest that the level allows.
fn fitted(width: u32, height: u32, short_side: u32) -> (u32, u32) {
    let mut target = short_side;
    loop {
        let size = scaled(width, height, target);
        if is_within_level(size) {
            return size;
        }
        target -= 2;
    }
}

/// The source's shape with this short side; even, because a chroma sample covers two pixels each way.
fn scaled(width: u32, height: u32, short_side: u32) -> (u32, u32) {
    let even = |length: u32| (length & !1).max(2);
    let (short, long) = (width.min(height), width.max(height));
    let long = u64::from(long) * u64::from(short_side);
    let short = u64::from(short);
    // To the nearest even number, but never past the source's own size.
    let long = u32::try_from((long + short) / (2 * short) * 2).unwrap_or(u32::MAX - 1);
    let long = long.min(even(width.max(height)));
    if width < height { (even(short_side), even(long)) } else { (even(long), even(short_side)) }
}

fn is_within_level((width, height): (u32, u32)) -> bool {
    let (across, down) = (width.div_ceil(16), height.div_ceil(16));
    let fits = across.max(down) <= LEVEL_4_2_SIDE
        && u64::from(across) * u64::from(down) <= u64::from(LEVEL_4_2_MACROBLOCKS);
    fits || width.min(height) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        Picture { width, height, kbps: None, hertz: 30.0 }
    }

    fn made(picture: Picture) -> Vec<String> {
        let (kept, _) = picture.renditions(Codec::H264, Range::Sdr, Some(CELLULAR));
        kept.iter().map(|r| format!("{} {}x{} {}", r.name, r.width, r.height, r.rung.maxrate_kbps)).collect()
    }

    #[test]
    fn the_ladder_is_apples_below_the_source() {
        let all = [
            "1080p 1920x1080 7800",
            "1080p-low 1920x1080 6000",
            "720p 1280x720 3000",
            "540p 960x540 1500",
            "432p 768x432 730",
            "360p 640x360 365",
            "234p 416x234 124",
        ];
        assert_eq!(made(picture(1920, 1080)), all);
        assert_eq!(made(picture(3840, 2160)), all);
        assert_eq!(
            made(picture(720, 1280))[..3],
            ["720p 720x1280 4500", "720p-low 720x1280 3000", "540p 540x960 1500"]
        );
    }

    #[test]
    fn a_size_between_two_has_a_rate_between_theirs() {
        // Half-way from 540 to 720; 540 is near enough to be of use, and 432 of 480 is not.
        let made_of = made(picture(1120, 630));
        assert_eq!(made_of[..2], ["630p 1120x630 3250", "630p-low 1120x630 2250"]);
        assert!(made_of[2].starts_with("432p"), "{made_of:?}");
        assert_eq!(
            made(picture(854, 480)),
            ["480p 854x480 1500", "480p-low 854x480 1072", "360p 640x360 365", "234p 416x234 124"]
        );
    }

    #[test]
    fn no_rung_costs_more_than_the_source_is_worth_at_its_size() {
        let source = Picture { kbps: Some(2_000), ..picture(1920, 1080) };
        let (kept, decisions) = source.renditions(Codec::H264, Range::Sdr, Some(CELLULAR));
        let rates: Vec<_> = kept.iter().map(|r| (r.name.as_str(), r.rung.maxrate_kbps)).collect();
        assert_eq!(
            rates,
            [
                ("1080p", 2_000),
                ("1080p-low", 1_538),
                ("720p", 1_088),
                ("540p", 707),
                ("432p", 505),
                ("360p", 365),
                ("234p", 124)
            ]
        );
        assert_eq!(
            decisions[2].reason,
            "the source has 2000 kbit/s, which at this size is worth 1088, not 3000"
        );
        assert!(decisions[6].reason.ends_with("; for mobile networks, 192 kbit/s with its sound"));
        for rendition in &kept {
            assert!(rendition.rung.bufsize_kbit * 2 <= rendition.rung.maxrate_kbps * 3, "{rendition:?}");
        }
        // A page that hardly changes: what would be left of it costs less than the sound.
        let page = Picture { kbps: Some(20), ..picture(1920, 1080) };
        assert_eq!(made(page), ["1080p 1920x1080 64"]);
        let (_, decisions) = page.renditions(Codec::H264, Range::Sdr, Some(CELLULAR));
        assert_eq!(decisions.len(), 7);
        assert_eq!(decisions[6].reason, "it would cost hardly less than 1080p: 64 kbit/s, not 64");
    }

    #[test]
    fn the_smallest_of_several_is_for_mobile_networks() {
        for (width, height) in [(1920, 1080), (640, 360), (426, 240), (306, 306), (240, 426)] {
            let (kept, _) = picture(width, height).renditions(Codec::H264, Range::Sdr, Some(CELLULAR));
            assert!(kept.len() > 1, "{width}x{height}");
            for (i, rendition) in kept.iter().enumerate() {
                assert_eq!(rendition.is_cellular, i == kept.len() - 1, "{rendition:?}");
            }
        }
        assert_eq!(made(picture(426, 240)), ["240p 426x240 166", "240p-low 426x240 124"]);
    }

    #[test]
    fn small_rungs_show_at_most_thirty_frames_a_second() {
        let every = |hertz| {
            let picture = Picture { hertz, ..picture(1280, 720) };
            let (kept, _) = picture.renditions(Codec::H264, Range::Sdr, Some(CELLULAR));
            kept.iter().map(|r| r.every).collect::<Vec<_>>()
        };
        assert_eq!(every(30.0), [1; 6]);
        assert_eq!(every(50.0), [1, 1, 1, 2, 2, 2]);
    }

    #[test]
    fn a_tiny_source_keeps_its_own_size_made_even() {
        assert_eq!(made(picture(100, 80)), ["80p 100x80 145"]);
        assert_eq!(made(picture(101, 81)), ["80p 100x80 145"]);
        assert_eq!(made(picture(81, 101)), ["80p 80x100 145"]);
        assert_eq!(made(picture(1, 1)), ["2p 2x2 145"]);
    }

    #[test]
    fn other_codecs_have_rates_and_names_of_their_own() {
        let (kept, _) = picture(1280, 720).renditions(Codec::Hevc, Range::Sdr, None);
        let names: Vec<_> = kept.iter().map(|r| (r.name.as_str(), r.rung.maxrate_kbps)).collect();
        assert_eq!(
            names,
            [
                ("720p-hevc", 3_400),
                ("720p-low-hevc", 2_400),
                ("540p-hevc", 900),
                ("432p-hevc", 300),
                ("360p-hevc", 145)
            ]
        );
        let (kept, _) = picture(1280, 720).renditions(Codec::Hevc, Range::Pq, None);
        assert_eq!((kept[0].name.as_str(), kept[0].rung.maxrate_kbps), ("720p-hdr", 4_080));
        let (kept, _) = picture(100, 80).renditions(Codec::Av1, Range::Sdr, None);
        assert_eq!(kept[0].name, "80p-av1");
        for codec in [Codec::Hevc, Codec::Av1] {
            let (kept, decisions) = picture(320, 48).renditions(codec, Range::Sdr, None);
            assert!(kept.is_empty() && decisions.len() == 1, "{kept:?}");
            assert!(decisions[0].reason.starts_with("a side is shorter than 64 pixels"), "{decisions:?}");
        }
    }

    #[test]
    fn nothing_is_enlarged_and_names_tell_all_apart() {
        for (width, height) in [(639, 361), (853, 480), (1279, 720), (361, 361), (5, 4000), (3440, 1440)] {
            let (kept, decisions) =
                picture(width, height).renditions(Codec::H264, Range::Sdr, Some(CELLULAR));
            for rendition in &kept {
                assert!(
                    rendition.width <= width.max(2) && rendition.height <= height.max(2),
                    "{rendition:?}"
                );
                assert!(rendition.width % 2 == 0 && rendition.height % 2 == 0, "{rendition:?}");
            }
            let mut names: Vec<_> = decisions.iter().map(|decision| &decision.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), decisions.len(), "{decisions:?}");
        }
    }

    #[test]
    fn a_very_wide_picture_stays_within_the_level_that_players_must_decode() {
        // 2580x1080 would be level 5.0.
        assert!(made(picture(3440, 1440))[0].starts_with("960p 2294x960 "));
        assert!(made(picture(8000, 100))[0].starts_with("52p 4160x52 "));
        assert!(made(picture(2, u32::MAX))[0].starts_with("2p 2x4294967294 "));
    }

    #[test]
    fn for_scrubbing_there_is_a_small_one() {
        let dense = picture(1080, 1920).dense(30);
        assert_eq!((dense.name.as_str(), dense.width, dense.height), ("360p-dense", 360, 640));
        assert_eq!((dense.every, dense.rung.maxrate_kbps), (30, 45));
    }
}
