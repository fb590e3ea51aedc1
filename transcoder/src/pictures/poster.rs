//! Which frame is the poster.
//!
//! It is chosen by grey pictures of a few hundred pixels, which say how light a frame is and how much there is to
//! see in it. What a fade takes away is just that, so that a frame in a fade loses to its neighbours.

use std::time::Duration;

/// Size of the grey pictures by which the poster is chosen.
pub(super) const GLANCE: (u32, u32) = (32, 18);

/// That in bytes.
pub(super) const GLANCE_BYTES: usize = 32 * 18;

/// Which of these pictures stands for the whole: one that is neither dark nor blank nor in a fade, and rather from
/// the first half, after the titles. Grey pictures of [`GLANCE`] with their times; there is at least one.
///
/// What a fade takes from a picture is what is measured here (light, and differences in it), so that its
/// neighbours win by themselves.
pub(super) fn choose(frames: &[(Duration, &[u8])], duration: Duration) -> usize {
    let scores = frames.iter().map(|(time, grey)| {
        let light = mean(grey.iter().map(|pixel| u32::from(*pixel)));
        (exposure(light) * variety(grey) * detail(grey) * place(*time, duration), light)
    });
    // Where there is nothing to see, the brightest.
    let best = scores.enumerate().reduce(|best, next| {
        let order = next.1.0.total_cmp(&best.1.0).then(next.1.1.total_cmp(&best.1.1));
        if order.is_gt() { next } else { best }
    });
    best.map_or(0, |(index, _)| index)
}

/// 1 for a picture as light as most are, down to 0 for black and for white.
fn exposure(light: f64) -> f64 {
    let (black, dark, bright, white) = (12.0, 56.0, 200.0, 245.0);
    let (from_black, from_white) = ((light - black) / (dark - black), (white - light) / (white - bright));
    from_black.min(from_white).clamp(0.0, 1.0)
}

/// 1 if all shades are there alike, 0 if there is but one: entropy of a histogram. Writing on a plain ground has
/// little of it.
fn variety(grey: &[u8]) -> f64 {
    let mut histogram = [0_u32; 16];
    for pixel in grey {
        histogram[usize::from(pixel / 16)] += 1;
    }
    let all = f64::from(histogram.iter().sum::<u32>().max(1));
    let shares = histogram.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all);
    shares.map(|share| -share * share.log2()).sum::<f64>() / 4.0
}

/// How much neighbours differ, from 0 on; more than sharp pictures have does not count for more.
fn detail(grey: &[u8]) -> f64 {
    let width = GLANCE.0 as usize;
    let differ = |a: &u8, b: &u8| u32::from(a.abs_diff(*b));
    let across = grey.chunks(width).flat_map(|row| row.iter().zip(&row[1..]));
    let down = grey.iter().zip(grey.iter().skip(width));
    let difference = mean(across.chain(down).map(|(a, b)| differ(a, b)));
    difference / (difference + 6.0)
}

/// Titles come first, credits last, and the end should not be given away.
fn place(time: Duration, duration: Duration) -> f64 {
    let (time, duration) = (time.as_secs_f64(), duration.as_secs_f64());
    match time / duration {
        _ if time < (duration * 0.15).min(5.0) => 0.3,
        share if share < 0.1 => 0.8,
        share if share <= 0.5 => 1.0,
        share if share <= 0.9 => 0.85,
        _ => 0.5,
    }
}

pub(super) fn mean(values: impl Iterator<Item = u32>) -> f64 {
    let (sum, count) = values.fold((0_u32, 0_u32), |(sum, count), value| (sum + value, count + 1));
    f64::from(sum) / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A picture with all shades and some edges, as light and as strong as asked for.
    fn scene(light: f64, strength: f64) -> Vec<u8> {
        let pixels = (0..GLANCE.0 * GLANCE.1).map(|i| {
            let shade = f64::from(i.wrapping_mul(2_654_435_761) >> 24) - 128.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
            let pixel = (light + shade * strength).clamp(0.0, 255.0) as u8;
            pixel
        });
        pixels.collect()
    }

    fn chosen(pictures: &[Vec<u8>]) -> usize {
        let frames: Vec<_> =
            pictures.iter().enumerate().map(|(i, grey)| (time(i as u64 * 2000), grey.as_slice())).collect();
        choose(&frames, time(pictures.len() as u64 * 2000))
    }

    #[test]
    fn the_poster_is_a_scene_in_full_light() {
        let (black, white, grey) = (vec![0; GLANCE_BYTES], vec![255; GLANCE_BYTES], vec![110; GLANCE_BYTES]);
        let (full, half) = (scene(120.0, 0.8), scene(60.0, 0.4));
        let (night, glare) = (scene(14.0, 0.1), scene(240.0, 0.1));
        let filled = |with: &Vec<u8>, at: usize, there: &Vec<u8>| {
            let mut pictures = vec![with.clone(); 20];
            pictures[at] = there.clone();
            pictures
        };
        for other in [&black, &white, &grey, &half, &night, &glare] {
            for at in 0..20 {
                // In the opening and among the credits only where there is nothing else.
                if !(3..18).contains(&at) && other == &half {
                    continue;
                }
                assert_eq!(chosen(&filled(other, at, &full)), at);
            }
        }
        assert_eq!(chosen(&vec![full.clone(); 20]), 3, "the first after the opening");
        assert_eq!(chosen(&vec![black.clone(); 20]), 0);
        assert_eq!(chosen(&filled(&black, 7, &vec![3; GLANCE_BYTES])), 7);
        assert_eq!(chosen(&[black]), 0);
    }

    #[test]
    fn writing_on_a_plain_ground_is_no_poster() {
        let mut title = vec![30; GLANCE_BYTES];
        for row in [7, 9, 11] {
            for column in (8..24).step_by(2) {
                title[row * GLANCE.0 as usize + column] = 250;
            }
        }
        let mut pictures = vec![title; 20];
        pictures[13] = scene(100.0, 0.5);
        assert_eq!(chosen(&pictures), 13);
    }
}
