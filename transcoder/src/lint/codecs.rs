//! Codecs in the words of [RFC 6381]: what the media says of itself, and what that means.
//!
//! [RFC 6381]: https://www.rfc-editor.org/rfc/rfc6381

use std::fmt::Write as _;

use mp4_atom::{Av1c, Hvcc};

/// What kind of media a codec is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Video,
    Audio,
    Text,
    Other,
}

/// Which kind a codec string is of.
pub(crate) fn kind(codec: &str) -> Kind {
    match family(codec) {
        "avc1" | "avc3" | "hvc1" | "hev1" | "dvh1" | "dvhe" | "dva1" | "dvav" | "av01" | "dav1" | "vp08"
        | "vp09" | "mp4v" | "mjpg" | "jpeg" | "mp2v" => Kind::Video,
        "mp4a" | "ac-3" | "ec-3" | "ec+3" | "alac" | "flac" | "opus" | "apac" | "mp3" => Kind::Audio,
        "wvtt" | "stpp" | "tx3g" => Kind::Text,
        _ => Kind::Other,
    }
}

/// The four characters that a codec string begins with.
pub(crate) fn family(codec: &str) -> &str {
    match codec.split('.').next().unwrap_or_default() {
        "fLaC" => "flac",
        "Opus" => "opus",
        other => other,
    }
}

pub(crate) fn is_h264(codec: &str) -> bool {
    matches!(family(codec), "avc1" | "avc3")
}

pub(crate) fn is_hevc(codec: &str) -> bool {
    matches!(family(codec), "hvc1" | "hev1" | "dvh1" | "dvhe")
}

/// Whether it is AAC in one of the forms that all of Apple's devices play (rule 2.3).
pub(crate) fn is_aac(codec: &str) -> bool {
    matches!(codec, "mp4a.40.2" | "mp4a.40.5" | "mp4a.40.29" | "mp4a.40.02" | "mp4a.40.05")
}

/// Whether what is declared may be what the media has.
pub(crate) fn agree(declared: &str, actual: &str) -> bool {
    let same = match family(actual) {
        // SBR and PS can hide in what says AAC-LC of itself.
        "mp4a" if is_aac(actual) => is_aac(declared),
        // Everything behind the level may be left out, and has defaults.
        "av01" => declared.split('.').zip(actual.split('.')).take(4).all(|(a, b)| a.eq_ignore_ascii_case(b)),
        // Only the family was read.
        _ if !actual.contains('.') => true,
        _ => declared.eq_ignore_ascii_case(actual),
    };
    same && family(declared) == family(actual)
}

/// Profile and level of H.264, as in `avc1.64001f`: `profile_idc`, constraints, and ten times the level.
pub(crate) fn h264(codec: &str) -> Option<(u8, u8, u8)> {
    let (_, numbers) = codec.split_once('.').filter(|_| is_h264(codec))?;
    let byte = |at: usize| u8::from_str_radix(numbers.get(at..at + 2)?, 16).ok();
    (numbers.len() == 6).then_some(())?;
    Some((byte(0)?, byte(2)?, byte(4)?))
}

/// Profile, whether it is High Tier, and 30 times the level of HEVC, as in `hvc1.2.4.L120.B0`.
pub(crate) fn hevc(codec: &str) -> Option<(u8, bool, u8)> {
    let mut parts = codec.split('.').skip(1);
    let profile = parts.next()?.trim_start_matches(['A', 'B', 'C']).parse().ok()?;
    let level = parts.nth(1)?;
    let is_high = level.starts_with('H');
    Some((profile, is_high, level.get(1..)?.parse().ok()?)).filter(|_| is_hevc(codec))
}

/// `seq_level_idx` of AV1, as in `av01.0.08M.08`.
pub(crate) fn av1_level(codec: &str) -> Option<u8> {
    let level = codec.split('.').nth(2).filter(|_| family(codec) == "av01")?;
    level.get(..2)?.parse().ok()
}

/// ISO/IEC 14496-15, Annex E.
pub(crate) fn hevc_string(family: &str, config: &Hvcc) -> String {
    let space = ["", "A", "B", "C"][usize::from(config.general_profile_space & 3)];
    let compatible = u32::from_be_bytes(config.general_profile_compatibility_flags).reverse_bits();
    let tier = if config.general_tier_flag { 'H' } else { 'L' };
    let mut text = format!(
        "{family}.{space}{}.{compatible:X}.{tier}{}",
        config.general_profile_idc, config.general_level_idc
    );
    let constraints = config.general_constraint_indicator_flags;
    let length = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..length] {
        let _ = write!(text, ".{byte:X}");
    }
    text
}

/// "AV1 Codec ISO Media File Format Binding", section 5; without what may be left out.
pub(crate) fn av1_string(config: &Av1c) -> String {
    let tier = if config.seq_tier_0 { 'H' } else { 'M' };
    let depth = match (config.high_bitdepth, config.twelve_bit) {
        (true, true) => 12,
        (true, false) => 10,
        _ => 8,
    };
    format!("av01.{}.{:02}{tier}.{depth:02}", config.seq_profile, config.seq_level_idx_0)
}

/// What a sequence parameter set of H.264 says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Sps {
    pub(crate) profile: u8,
    pub(crate) constraints: u8,
    pub(crate) level: u8,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames_only: bool,
    /// Whether its pixels are square, or nothing is said of them.
    pub(crate) is_square: bool,
}

impl Sps {
    /// Reads one, with its NAL unit header (ITU-T H.264, 7.3.2.1.1).
    pub(crate) fn read(nal: &[u8]) -> Option<Self> {
        let [_, profile, constraints, level, rest @ ..] = nal else { return None };
        let mut bits = Bits::new(rest);
        bits.unsigned()?;
        let mut chroma = 1;
        if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma = bits.unsigned()?;
            if chroma == 3 {
                bits.take(1)?;
            }
            bits.unsigned()?;
            bits.unsigned()?;
            bits.take(1)?;
            if bits.take(1)? == 1 {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if bits.take(1)? == 1 {
                        bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.unsigned()?;
        match bits.unsigned()? {
            0 => {
                bits.unsigned()?;
            }
            1 => {
                bits.take(1)?;
                bits.unsigned()?;
                bits.unsigned()?;
                for _ in 0..bits.unsigned()?.min(255) {
                    bits.unsigned()?;
                }
            }
            _ => {}
        }
        bits.unsigned()?;
        bits.take(1)?;
        let width = bits.unsigned()?.checked_add(1)?.checked_mul(16)?;
        let map_units = bits.unsigned()?.checked_add(1)?;
        let frames_only = bits.take(1)? == 1;
        let height = map_units.checked_mul(if frames_only { 16 } else { 32 })?;
        if !frames_only {
            bits.take(1)?;
        }
        bits.take(1)?;
        let mut crop = [0; 4];
        if bits.take(1)? == 1 {
            for side in &mut crop {
                *side = bits.unsigned()?;
            }
        }
        // Aspect ratio 1 is 1:1, and 0 is not known (table E-1).
        let says_shape = bits.take(1)? == 1 && bits.take(1)? == 1;
        let is_square = !says_shape || bits.take(8)? <= 1;
        let (x, y) = match chroma {
            1 => (2, 2),
            2 => (2, 1),
            _ => (1, 1),
        };
        let y = if frames_only { y } else { 2 * y };
        let [left, right, top, bottom] = crop;
        Some(Self {
            profile: *profile,
            constraints: *constraints,
            level: *level,
            width: width.checked_sub(left.checked_add(right)?.checked_mul(x)?)?,
            height: height.checked_sub(top.checked_add(bottom)?.checked_mul(y)?)?,
            frames_only,
            is_square,
        })
    }

    pub(crate) fn codec(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }
}

/// The bits of a NAL unit, without what keeps start codes out of it.
struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    fn new(nal: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(nal.len());
        let mut zeros = 0;
        for byte in nal {
            if *byte == 3 && zeros >= 2 {
                zeros = 0;
                continue;
            }
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
            bytes.push(*byte);
        }
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// Exp-Golomb.
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
        }
        if zeros > 31 {
            return None;
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    fn signed(&mut self) -> Option<i64> {
        let value = i64::from(self.unsigned()?);
        Some(if value % 2 == 0 { -value / 2 } else { (value + 1) / 2 })
    }

    fn skip_scaling_list(&mut self, size: usize) -> Option<()> {
        let (mut last, mut next) = (8, 8);
        for _ in 0..size {
            if next != 0 {
                next = (last + self.signed()? + 256) % 256;
            }
            if next != 0 {
                last = next;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parameter sets are x264's, of pictures of 1920x1080 (cropped by 8 lines), and 320x180; sizes are ffprobe's.
    #[test]
    fn a_parameter_set_has_the_size_without_what_is_cropped() {
        let full = [
            0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03,
            0x00, 0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60, 0xc6, 0x58,
        ];
        let sps = Sps::read(&full).unwrap();
        assert_eq!((sps.width, sps.height, sps.frames_only), (1920, 1080, true));
        assert_eq!(sps.codec(), "avc1.640028");
        for length in 0..full.len() {
            // Whatever comes of it, it is no panic.
            let _ = Sps::read(&full[..length]);
        }
        assert_eq!(Sps::read(&[0x67, 0x64, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    /// The strings are of ISO/IEC 14496-15 Annex E and of the AV1 binding.
    #[test]
    fn profiles_and_levels_are_read() {
        assert_eq!(h264("avc1.64001f"), Some((100, 0, 31)));
        assert_eq!(h264("avc1.64001"), None);
        assert_eq!(h264("avc1.ééé"), None);
        assert_eq!(hevc("hvc1.1.6.L93.B0"), Some((1, false, 93)));
        assert_eq!(hevc("hev1.A4.41.H120.B0.23"), Some((4, true, 120)));
        assert_eq!(av1_level("av01.0.04M.10.0.112.09.16.09.0"), Some(4));
        assert_eq!(av1_level("av01.0"), None);
    }

    #[test]
    fn what_may_be_left_out_is_no_difference() {
        assert!(agree("avc1.64001F", "avc1.64001f") && !agree("avc1.640020", "avc1.64001f"));
        assert!(agree("mp4a.40.5", "mp4a.40.2") && !agree("mp4a.40.34", "mp4a.40.2"));
        assert!(agree("av01.0.08M.08.0.110.01", "av01.0.08M.08") && !agree("av01.0.09M.08", "av01.0.08M.08"));
        assert!(agree("ec-3", "ec-3") && !agree("ac-3", "ec-3"));
    }
}
