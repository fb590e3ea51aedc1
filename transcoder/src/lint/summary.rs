//! What a rendition comes to: once, because many variants may share it.

use super::codecs::Kind;
use super::scan::Media;
use super::segment::{Container, Measured, Stream};

/// What was found of a rendition as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Nothing where nothing could be looked into.
    pub(crate) streams: Vec<Stream>,
    pub(crate) container: Option<Container>,
    /// Average segment bit rate (RFC 8216 §4.1), if all segments are there.
    pub(crate) average: Option<u64>,
    pub(crate) peak: Option<u64>,
    /// Frames a second: on average, and at the most.
    pub(crate) frame_rate: Option<(f64, f64)>,
}

impl Summary {
    pub(crate) fn of(media: &Media, maps: &[Measured], segments: &[Measured]) -> Self {
        let mut all = maps.iter().chain(segments).map(|measured| measured.streams.as_slice());
        let sizes: Option<Vec<(f64, u64)>> = media
            .segments
            .iter()
            .zip(segments)
            .map(|(segment, measured)| Some((segment.seconds, measured.bytes?)))
            .collect();
        let average = sizes.as_ref().and_then(|sizes| {
            let bytes = sizes.iter().fold(0_u64, |sum, (_, bytes)| sum.saturating_add(*bytes));
            rate(bytes, media.seconds())
        });
        let peak = average.and_then(|average| peak(&sizes?, float(media.target?), average));
        Self {
            streams: all.find(|streams| !streams.is_empty()).unwrap_or_default().to_vec(),
            container: segments.iter().find_map(|measured| measured.container),
            average,
            peak,
            frame_rate: frame_rate(media, segments),
        }
    }
}

/// Peak segment bit rate (RFC 8216 §4.1): of segments in a row that last between half and one and a half times the
/// target.
fn peak(sizes: &[(f64, u64)], target: f64, average: u64) -> Option<u64> {
    let mut peak = average;
    for first in 0..sizes.len() {
        let (mut seconds, mut bytes) = (0.0, 0_u64);
        // A player meets no more of them in such a time.
        for (length, size) in sizes[first..].iter().take(1_000) {
            seconds += length;
            bytes = bytes.saturating_add(*size);
            if seconds > 1.5 * target {
                break;
            }
            if seconds >= 0.5 * target {
                peak = peak.max(rate(bytes, seconds)?);
            }
        }
    }
    Some(peak)
}

fn frame_rate(media: &Media, segments: &[Measured]) -> Option<(f64, f64)> {
    let (mut frames, mut seconds, mut shortest) = (0_u64, 0.0, f64::MAX);
    for (segment, measured) in media.segments.iter().zip(segments) {
        let part = measured.parts.iter().find(|part| part.kind == Kind::Video)?;
        if part.samples == 0 {
            return None;
        }
        frames = frames.saturating_add(part.samples);
        seconds += part.duration.unwrap_or(segment.seconds);
        shortest = shortest.min(part.shortest_sample.unwrap_or(f64::MAX));
    }
    let average = float(frames) / seconds;
    let most = if shortest < f64::MAX { 1.0 / shortest } else { average };
    Some((average, most.max(average))).filter(|_| seconds > 0.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, and is not negative"
)]
fn rate(bytes: u64, seconds: f64) -> Option<u64> {
    (seconds > 0.0).then(|| (float(bytes) * 8.0 / seconds).ceil() as u64)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^53, and beyond that no matter")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

pub(crate) fn float_of(number: usize) -> f64 {
    float(u64::try_from(number).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8 Mbit/s in a segment, and a tail of 80 kB in 0.5 s, which is too short to count alone; two seconds at four times
    /// the rate only count with the six before them.
    #[test]
    fn the_peak_is_of_segments_in_a_row_that_last_about_the_target() {
        assert_eq!(peak(&[(6.0, 3_000_000), (6.0, 6_000_000), (0.5, 80_000)], 6.0, 1), Some(8_000_000));
        assert_eq!(peak(&[(6.0, 6_000_000), (2.0, 6_000_000)], 6.0, 1), Some(12_000_000));
        assert_eq!(peak(&[(1.0, 1_000)], 6.0, 8_000), Some(8_000));
        // Nothing of this ends late.
        assert!(peak(&vec![(0.0, u64::MAX); 100_000], f64::MAX, 1).is_some());
    }
}
