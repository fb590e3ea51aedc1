//! The renditions a viewer can switch between.

/// One row of the ladder.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rung {
    /// Length of the shorter side in pixels: the height of a landscape picture, the width of a portrait.
    pub short_side: u32,
    /// Quality that the encoder aims at, where the rates let it.
    pub crf: u32,
    /// The most kbit/s that it may spend over the length of its buffer.
    pub maxrate_kbps: u32,
    /// Length of that buffer, in kbit.
    pub bufsize_kbit: u32,
}

/// H.264. The rates are those Apple's authoring guide has for 16:9 at these sizes, less its audio, as peaks;
/// below them constant quality, which easy material needs less for. The largest first.
pub const LADDER: [Rung; 4] = [
    Rung { short_side: 1080, crf: 22, maxrate_kbps: 5_350, bufsize_kbit: 7_500 },
    Rung { short_side: 720, crf: 22, maxrate_kbps: 2_996, bufsize_kbit: 4_200 },
    Rung { short_side: 480, crf: 22, maxrate_kbps: 1_498, bufsize_kbit: 2_100 },
    Rung { short_side: 360, crf: 22, maxrate_kbps: 856, bufsize_kbit: 1_200 },
];

/// The most macroblocks of a picture, and the most along one side, in H.264 level 4.2 (table A-1), which is the
/// highest level that Apple's guide allows (rule 1.3). Only pictures much wider than 16:9 come near.
const LEVEL_4_2_MACROBLOCKS: u32 = 8_704;
const LEVEL_4_2_SIDE: u32 = 263;

/// A rendition of one source.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rendition {
    /// Folder and display name.
    pub name: String,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// What it may cost.
    pub rung: Rung,
}

/// The rungs that are no larger than the source, largest first; a source below all of them gets one of its own
/// size. Nothing is ever enlarged: that costs bytes and adds nothing.
#[must_use]
pub fn renditions(width: u32, height: u32) -> Vec<Rendition> {
    let short_side = width.min(height);
    let fitting = LADDER.iter().filter(|rung| rung.short_side <= short_side);
    let mut renditions: Vec<Rendition> =
        fitting.map(|rung| Rendition::new(width, height, rung.short_side, *rung)).collect();
    if renditions.is_empty() {
        let [.., smallest] = LADDER;
        renditions.push(Rendition::new(width, height, short_side, smallest));
    }
    renditions
}

impl Rendition {
    fn new(width: u32, height: u32, short_side: u32, rung: Rung) -> Self {
        let mut target = short_side;
        let (width, height) = loop {
            let size = scaled(width, height, target);
            if is_within_level(size) {
                break size;
            }
            target -= 2;
        };
        Self { name: format!("{}p", width.min(height)), width, height, rung }
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

    fn sizes(width: u32, height: u32) -> Vec<String> {
        renditions(width, height).iter().map(|r| format!("{} {}x{}", r.name, r.width, r.height)).collect()
    }

    #[test]
    fn every_rung_up_to_the_source_is_made() {
        let all = ["1080p 1920x1080", "720p 1280x720", "480p 854x480", "360p 640x360"];
        assert_eq!(sizes(1920, 1080), all);
        assert_eq!(sizes(3840, 2160), all);
        assert_eq!(sizes(1280, 719), ["480p 854x480", "360p 640x360"]);
    }

    #[test]
    fn portrait_goes_by_its_shorter_side() {
        assert_eq!(sizes(720, 1280), ["720p 720x1280", "480p 480x854", "360p 360x640"]);
    }

    #[test]
    fn a_small_source_keeps_its_own_size_made_even() {
        assert_eq!(sizes(100, 80), ["80p 100x80"]);
        assert_eq!(sizes(101, 81), ["80p 100x80"]);
        assert_eq!(sizes(81, 101), ["80p 80x100"]);
        assert_eq!(sizes(1, 1), ["2p 2x2"]);
    }

    #[test]
    fn nothing_is_enlarged() {
        for (width, height) in [(639, 361), (853, 480), (1279, 720), (361, 361), (5, 4000)] {
            for rendition in renditions(width, height) {
                assert!(
                    rendition.width <= width.max(2) && rendition.height <= height.max(2),
                    "{rendition:?}"
                );
                assert!(rendition.width % 2 == 0 && rendition.height % 2 == 0, "{rendition:?}");
            }
        }
    }

    #[test]
    fn a_very_wide_picture_stays_within_the_level_that_players_must_decode() {
        // 2580x1080 would be level 5.0.
        assert_eq!(sizes(3440, 1440)[0], "960p 2294x960");
        assert_eq!(sizes(8000, 100), ["52p 4160x52"]);
        assert_eq!(sizes(2, u32::MAX), ["2p 2x4294967294"]);
    }

    #[test]
    fn names_tell_the_renditions_apart() {
        let mut names: Vec<_> = renditions(3440, 1440).into_iter().map(|r| r.name).collect();
        names.dedup();
        assert_eq!(names.len(), LADDER.len());
    }
}
