//! What will be made of a source: everything an encoder has to know, and nothing about how it works.
//!
//! Every rendition has the same frames, a key frame on every second of them that [`Grid`] names, and segments
//! that start on every third key frame. That the grid counts frames, not seconds, is what keeps it the same for
//! all renditions, for 29.97 frames a second, and for phones that record at whatever rate they manage.

use std::path::PathBuf;
use std::time::Duration;

use crate::ladder::{self, Rendition};
use crate::language::{self, Language};
use crate::probe::{Rate, Source};

/// Seconds between key frames (Apple's authoring guide, rule 1.13).
const KEY_FRAME_SECONDS: u32 = 2;

/// Groups of pictures in a segment: 6 seconds, the guide's rule 7.5.
const GROUPS_IN_SEGMENT: u32 = 3;

/// The most frames a second (rule 1.19), and the fewest: below them the grid could not be kept.
const HIGHEST_RATE: u32 = 60;
const LOWEST_RATE: u32 = 5;

/// What a source of varying rate is brought to: the next of these that is not slower than its average.
const STANDARD_RATES: [(u32, u32); 8] =
    [(24_000, 1001), (24, 1), (25, 1), (30_000, 1001), (30, 1), (50, 1), (60_000, 1001), (60, 1)];

/// Sound that lasts longer than the picture by less than this is cut; where it goes on, the last picture stays.
const LONGEST_CUT: Duration = Duration::from_millis(500);

/// A source that ends this much earlier than it said, or 5 % of its length, is cut off. Never more than a segment.
const SHORTEST_LOSS: Duration = Duration::from_millis(500);

/// What to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Of which file.
    pub input: PathBuf,
    /// How long all of it will be.
    pub duration: Duration,
    /// Its pictures.
    pub video: Option<Video>,
    /// Its sound.
    pub audio: Option<Audio>,
}

/// The pictures to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Video {
    /// Number of the source's stream.
    pub stream: u32,
    /// When they are cut.
    pub grid: Grid,
    /// For how long the last picture stays, so that the sound can end.
    pub still: Duration,
    /// In which sizes, largest first.
    pub renditions: Vec<Rendition>,
}

/// The sound to make: AAC-LC, stereo.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Audio {
    /// Number of the source's stream.
    pub stream: u32,
    /// What is spoken.
    pub language: Language,
    /// When it is cut.
    pub segment: Duration,
}

/// Where pictures, key frames and segments begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grid {
    /// Pictures a second.
    pub rate: Rate,
}

impl Grid {
    /// Frames from key frame to key frame.
    #[must_use]
    pub fn group(self) -> u32 {
        let frames = (f64::from(KEY_FRAME_SECONDS) * self.rate.hertz()).round();
        // Between 10 and 120, by the bounds of the rate.
        (1..=HIGHEST_RATE * KEY_FRAME_SECONDS).find(|count| f64::from(*count) >= frames).unwrap_or(1)
    }

    /// Time from segment to segment.
    #[must_use]
    pub fn segment(self) -> Duration {
        self.time(u64::from(self.group()) * u64::from(GROUPS_IN_SEGMENT))
    }

    /// When so many frames have passed; a microsecond's remainder is dropped, so a cut is never late.
    fn time(self, frames: u64) -> Duration {
        Duration::from_micros(frames * u64::from(self.rate.seconds) * 1_000_000 / u64::from(self.rate.frames))
    }
}

impl Plan {
    /// Plans for a source.
    pub fn for_source(source: &Source) -> Result<Self, Error> {
        let video_end = source.video.as_ref().map(|video| video.end);
        let audio_end = source.audio.as_ref().map(|audio| audio.end);
        let duration = match (video_end, audio_end) {
            (Some(video), Some(audio)) if audio > video + LONGEST_CUT => audio,
            (Some(end), _) | (None, Some(end)) => end,
            (None, None) => return Err(Error::Nothing),
        };
        let video = source.video.as_ref().map(|video| Video {
            stream: video.stream,
            grid: Grid { rate: frame_rate(video.base_rate, video.average_rate) },
            still: duration.saturating_sub(video.end),
            renditions: ladder::renditions(video.width, video.height),
        });
        let segment = video
            .as_ref()
            .map_or(Duration::from_secs(u64::from(KEY_FRAME_SECONDS * GROUPS_IN_SEGMENT)), |video| {
                video.grid.segment()
            });
        let audio = source.audio.as_ref().map(|audio| Audio {
            stream: audio.stream,
            language: language::of_track(audio.language.as_deref()),
            segment,
        });
        Ok(Self { input: source.path.clone(), duration, video, audio })
    }

    /// Time from segment to segment.
    #[must_use]
    pub fn segment(&self) -> Duration {
        let video = self.video.as_ref().map(|video| video.grid.segment());
        video.or(self.audio.as_ref().map(|audio| audio.segment)).unwrap_or_default()
    }

    /// The least that must come out: anything shorter means that the source ended before its time.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        let loss = (self.duration / 20).max(SHORTEST_LOSS).min(self.segment());
        self.duration.saturating_sub(loss)
    }
}

/// The rate to encode at: the source's own where it is even and within the bounds.
fn frame_rate(base: Option<Rate>, average: Option<Rate>) -> Rate {
    let rate = match (base, average) {
        (Some(base), Some(average)) if (base.hertz() / average.hertz() - 1.0).abs() < 0.01 => base,
        (_, Some(average)) => standard(average),
        (Some(base), None) => standard(base),
        (None, None) => Rate { frames: 30, seconds: 1 },
    };
    // Every second, third … frame, so that motion stays even. A little above 60 is 60.
    let over = (1..=1_000_000)
        .find(|every| rate.hertz() / f64::from(*every) < f64::from(HIGHEST_RATE) + 0.5)
        .unwrap_or(1);
    let under = (1..=1_000).find(|times| rate.hertz() * f64::from(*times) >= f64::from(LOWEST_RATE));
    let rate = Rate {
        frames: rate.frames.saturating_mul(under.unwrap_or(1)),
        seconds: rate.seconds.saturating_mul(over),
    };
    let is_within = (f64::from(LOWEST_RATE)..=f64::from(HIGHEST_RATE)).contains(&rate.hertz());
    if is_within { rate } else { standard(rate) }
}

fn standard(average: Rate) -> Rate {
    let rates = STANDARD_RATES.map(|(frames, seconds)| Rate { frames, seconds });
    let [.., highest] = rates;
    rates.into_iter().find(|rate| rate.hertz() >= average.hertz() * 0.998).unwrap_or(highest)
}

/// Why there is nothing to make.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source has neither picture nor sound.
    #[error("there is neither a video nor an audio track to encode")]
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe;

    fn rate(frames: u32, seconds: u32) -> Rate {
        Rate { frames, seconds }
    }

    fn chosen(base: impl Into<Option<Rate>>, average: impl Into<Option<Rate>>) -> (u32, u32) {
        let Rate { frames, seconds } = frame_rate(base.into(), average.into());
        (frames, seconds)
    }

    #[test]
    fn an_even_rate_is_kept() {
        for (frames, seconds) in [(30_000, 1001), (24_000, 1001), (25, 1), (25, 2), (60, 1), (5, 1)] {
            assert_eq!(chosen(rate(frames, seconds), rate(frames, seconds)), (frames, seconds));
        }
        // One frame was lost at the end.
        assert_eq!(chosen(rate(30, 1), rate(2990, 100)), (30, 1));
    }

    #[test]
    fn a_varying_rate_becomes_the_next_standard_one() {
        assert_eq!(chosen(rate(90_000, 1), rate(2993, 100)), (30_000, 1001));
        assert_eq!(chosen(rate(1000, 1), None), (60, 1));
        assert_eq!(chosen(rate(120, 1), rate(41, 1)), (50, 1));
        assert_eq!(chosen(None, None), (30, 1));
    }

    #[test]
    fn a_high_rate_is_divided_and_a_low_one_multiplied() {
        assert_eq!(chosen(rate(120, 1), rate(120, 1)), (120, 2));
        assert_eq!(chosen(rate(120_000, 1001), rate(120_000, 1001)), (120_000, 2002));
        assert_eq!(chosen(rate(240, 1), rate(240, 1)), (240, 4));
        assert_eq!(chosen(rate(1, 1), rate(1, 1)), (5, 1));
        assert_eq!(chosen(rate(1, 4), rate(1, 4)), (20, 4));
        assert_eq!(chosen(rate(603, 10), rate(603, 10)), (60, 1));
    }

    #[test]
    fn the_grid_counts_frames() {
        let grid = |frames, seconds| {
            let grid = Grid { rate: Rate { frames, seconds } };
            (grid.group(), grid.segment().as_micros())
        };
        assert_eq!(grid(30, 1), (60, 6_000_000));
        assert_eq!(grid(30_000, 1001), (60, 6_006_000));
        assert_eq!(grid(24_000, 1001), (48, 6_006_000));
        assert_eq!(grid(25, 2), (25, 6_000_000));
        assert_eq!(grid(120_000, 2002), (120, 6_006_000));
    }

    fn plan(video: Option<u64>, audio: Option<u64>) -> Plan {
        let video = video.map(|end| probe::Video {
            stream: 0,
            codec: "h264".into(),
            width: 640,
            height: 360,
            base_rate: Some(rate(30, 1)),
            average_rate: Some(rate(30, 1)),
            end: Duration::from_millis(end),
        });
        let audio = audio.map(|end| probe::Audio {
            stream: 1,
            codec: "aac".into(),
            language: None,
            end: Duration::from_millis(end),
        });
        let source = Source { path: "a.mp4".into(), bytes: 1, container: "mov".into(), video, audio };
        Plan::for_source(&source).unwrap()
    }

    #[test]
    fn picture_and_sound_end_together() {
        let lengths = |video, audio| {
            let plan = plan(video, audio);
            (plan.duration.as_millis(), plan.video.map_or(0, |video| video.still.as_millis()))
        };
        assert_eq!(lengths(Some(8_000), Some(8_021)), (8_000, 0));
        assert_eq!(lengths(Some(8_000), Some(3_000)), (8_000, 0));
        assert_eq!(lengths(Some(8_000), Some(20_000)), (20_000, 12_000));
        assert_eq!(lengths(Some(8_000), None), (8_000, 0));
        assert_eq!(lengths(None, Some(20_000)), (20_000, 0));
    }

    #[test]
    fn a_loss_is_noticed_within_a_segment() {
        let shortest = |duration| plan(Some(duration), None).shortest().as_millis();
        assert_eq!(shortest(4_000), 3_500);
        assert_eq!(shortest(60_000), 57_000);
        assert_eq!(shortest(600_000), 594_000);
        assert_eq!(shortest(100), 0);
    }
}
