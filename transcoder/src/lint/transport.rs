//! Reads a transport stream segment, packet by packet: which streams there are, when they begin, where their key frames
//! are, and whether packets are missing (ISO/IEC 13818-1). Nothing is kept but the beginning of one packet of each stream.

use super::codecs::{Kind, Sps};
use super::rules::{self, Rule};
use super::segment::{Part, Stream};

/// The length of a packet.
pub(crate) const PACKET: usize = 188;

/// How much of a picture is looked at: parameter sets and messages come before its first slice.
const LONGEST_START: usize = 16 * 1024;

/// Timestamps have 33 bits, in ticks of which there are so many a second.
const WRAP: i64 = 1 << 33;
const CLOCK: f64 = 90_000.0;

/// The most streams of a program that are looked at.
const MOST_STREAMS: usize = 32;

/// A segment, as far as it was read.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    tables: Option<u16>,
    has_program: bool,
    streams: Vec<Elementary>,
    fault: Option<(Rule, String)>,
}

/// One of its streams.
#[derive(Debug)]
struct Elementary {
    pid: u16,
    stream: Stream,
    is_hevc: bool,
    counters: Option<(u8, u8)>,
    repeated: bool,
    /// The beginning of its current packet (PES).
    start: Vec<u8>,
    first: Option<i64>,
    latest: i64,
    samples: u64,
    starts_with_key: Option<bool>,
    keys: Option<(i64, i64)>,
    longest_gap: i64,
}

/// A stream's counters: its number, and the first and last count.
pub(crate) type Counter = (u16, u8, u8);

impl Reader {
    /// Takes the next packet.
    pub(crate) fn push(&mut self, packet: &[u8]) {
        let [0x47, second, third, fourth, rest @ ..] = packet else {
            self.fail(rules::SEGMENT_FORMAT, "a packet does not begin with the sync byte");
            return;
        };
        let pid = u16::from(second & 0x1f) << 8 | u16::from(*third);
        let begins = second & 0x40 != 0;
        let has_field = fourth & 0x20 != 0;
        let field = usize::from(rest.first().copied().filter(|_| has_field).unwrap_or_default());
        let skip = if has_field { field + 1 } else { 0 };
        let jumps = has_field && field > 0 && rest.get(1).is_some_and(|flags| flags & 0x80 != 0);
        let payload = if fourth & 0x10 != 0 { rest.get(skip..).unwrap_or_default() } else { &[] };
        if fourth & 0x10 != 0 {
            self.count(pid, fourth & 0x0f, jumps);
        }
        if pid == 0 && begins {
            if self.tables.is_none() {
                self.tables = first_program(payload);
            }
        } else if Some(pid) == self.tables && begins && !self.has_program {
            self.streams = elementary_streams(payload);
            self.has_program = true;
        } else if let Some(stream) = self.streams.iter_mut().find(|stream| stream.pid == pid) {
            if begins {
                stream.finish_packet();
            }
            let room = LONGEST_START.saturating_sub(stream.start.len());
            if begins || !stream.start.is_empty() {
                stream.start.extend_from_slice(&payload[..payload.len().min(room)]);
            }
        }
    }

    fn fail(&mut self, rule: Rule, what: impl Into<String>) {
        self.fault.get_or_insert((rule, what.into()));
    }

    fn count(&mut self, pid: u16, count: u8, jumps: bool) {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.pid == pid) else { return };
        let Some((first, latest)) = stream.counters else {
            stream.counters = Some((count, count));
            return;
        };
        // Once, a packet may come twice.
        let is_repeated = count == latest && !stream.repeated;
        let follows = count == (latest + 1) % 16 || is_repeated || jumps;
        stream.repeated = is_repeated;
        stream.counters = Some((first, count));
        if !follows {
            let what = format!("stream {pid}: packet {count} follows packet {latest} (they count to 15)");
            self.fail(rules::CONTINUITY, what);
        }
    }

    /// What was found. Where the segment was not read to its end, ends are unknown.
    pub(crate) fn finish(mut self, is_whole: bool, has_map: bool) -> Found {
        for stream in &mut self.streams {
            stream.finish_packet();
        }
        if self.tables.is_none() && !has_map {
            self.fail(rules::TS_TABLES, "there is no PAT");
        } else if !self.has_program && !has_map {
            self.fail(rules::TS_TABLES, "there is no PMT");
        }
        let parts = self.streams.iter().filter_map(|stream| stream.part(is_whole));
        let counters = self.streams.iter().filter(|_| is_whole).filter_map(|stream| {
            let (first, last) = stream.counters?;
            Some((stream.pid, first, last))
        });
        Found {
            parts: parts.collect(),
            counters: counters.collect(),
            streams: self.streams.iter().map(|stream| stream.stream.clone()).collect(),
            fault: self.fault,
        }
    }
}

/// What a segment is made of.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) streams: Vec<Stream>,
    pub(crate) parts: Vec<Part>,
    pub(crate) counters: Vec<Counter>,
    pub(crate) fault: Option<(Rule, String)>,
}

impl Elementary {
    fn finish_packet(&mut self) {
        let start = std::mem::take(&mut self.start);
        let Some((time, data)) = packet(&start) else { return };
        let time = match (time, self.first) {
            (Some(time), Some(first)) => {
                let since = (time - first).rem_euclid(WRAP);
                first + if since > WRAP / 2 { since - WRAP } else { since }
            }
            (Some(time), None) => time,
            (None, _) => self.latest,
        };
        self.first.get_or_insert(time);
        self.latest = time;
        self.samples += 1;
        if self.stream.kind == Kind::Audio {
            if let [0xff, second, third, fourth, ..] = data
                && second & 0xf0 == 0xf0
                && self.stream.codec == "mp4a"
            {
                self.stream.codec = format!("mp4a.40.{}", (third >> 6) + 1);
                self.stream.channels = channels(u32::from((third & 1) << 2 | fourth >> 6));
            }
            return;
        }
        let Some(is_key) = self.picture(data) else { return };
        self.starts_with_key.get_or_insert(is_key);
        if is_key {
            let (first, latest) = self.keys.unwrap_or((time, time));
            self.longest_gap = self.longest_gap.max(time - latest);
            self.keys = Some((first, time));
        }
    }

    /// Whether a picture is a key frame, by its first slice.
    fn picture(&mut self, data: &[u8]) -> Option<bool> {
        let mut rest = data;
        while let Some(at) = rest.windows(3).position(|window| window == [0, 0, 1]) {
            rest = rest.get(at + 3..)?;
            let header = *rest.first()?;
            let (is_slice, is_key) = if self.is_hevc {
                let kind = header >> 1 & 0x3f;
                (kind < 32, (16..=21).contains(&kind))
            } else {
                let kind = header & 0x1f;
                if kind == 7 && !self.stream.codec.contains('.') {
                    let end = rest.windows(3).position(|window| window == [0, 0, 1] || window == [0, 0, 0]);
                    if let Some(sps) = Sps::read(&rest[..end.unwrap_or(rest.len())]) {
                        self.stream.codec = sps.codec();
                        self.stream.size = Some((sps.width, sps.height)).filter(|_| sps.is_square);
                        self.stream.interlaced = !sps.frames_only;
                    }
                }
                (matches!(kind, 1..=5), kind == 5)
            };
            if is_slice {
                return Some(is_key);
            }
        }
        None
    }

    fn part(&self, is_whole: bool) -> Option<Part> {
        let seconds = |ticks: i64| {
            i32::try_from(ticks / 90_000).map_or(f64::MAX, f64::from)
                + f64::from(i32::try_from(ticks % 90_000).unwrap_or_default()) / CLOCK
        };
        let keys = self.keys.map(|(first, latest)| (seconds(first), seconds(latest)));
        Some(Part {
            kind: self.stream.kind,
            track: u32::from(self.pid),
            start: seconds(self.first?),
            duration: None,
            samples: if is_whole { self.samples } else { 0 },
            starts_with_key: self.starts_with_key,
            keys: keys.filter(|_| is_whole),
            longest_gap: seconds(self.longest_gap),
            shortest_sample: None,
        })
    }
}

/// Channels by their configuration in AAC (ISO/IEC 14496-3, table 1.19). 0 says that they are told elsewhere.
pub(crate) fn channels(configuration: u32) -> Option<u32> {
    match configuration {
        1..=6 => Some(configuration),
        7 => Some(8),
        _ => None,
    }
}

/// The PID of the first program's table, from a PAT.
fn first_program(payload: &[u8]) -> Option<u16> {
    let section = section(payload, 0)?;
    let programs = section.get(5..section.len().checked_sub(4)?)?;
    let mut programs = programs.chunks_exact(4).map(|entry| {
        (u16::from_be_bytes([entry[0], entry[1]]), u16::from_be_bytes([entry[2], entry[3]]) & 0x1fff)
    });
    programs.find(|(number, _)| *number != 0).map(|(_, pid)| pid)
}

/// The streams of a PMT.
fn elementary_streams(payload: &[u8]) -> Vec<Elementary> {
    let mut streams = Vec::new();
    let Some(section) = section(payload, 2) else { return streams };
    let Some([high, low]) = section.get(7..9).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok()) else {
        return streams;
    };
    let program_info = usize::from(u16::from_be_bytes([high, low]) & 0x0fff);
    let mut rest = section.get(9 + program_info..section.len().saturating_sub(4)).unwrap_or_default();
    while let [kind, pid_high, pid_low, info_high, info_low, after @ ..] = rest {
        let info = usize::from(u16::from_be_bytes([*info_high, *info_low]) & 0x0fff);
        let (kind, codec) = match kind {
            0x1b => (Kind::Video, "avc1"),
            0x24 => (Kind::Video, "hvc1"),
            0x01 | 0x02 => (Kind::Video, "mp2v"),
            0x0f | 0x11 => (Kind::Audio, "mp4a"),
            0x03 | 0x04 => (Kind::Audio, "mp4a.40.34"),
            0x81 => (Kind::Audio, "ac-3"),
            0x87 => (Kind::Audio, "ec-3"),
            _ => (Kind::Other, ""),
        };
        if kind != Kind::Other && streams.len() < MOST_STREAMS {
            streams.push(Elementary {
                pid: u16::from_be_bytes([*pid_high, *pid_low]) & 0x1fff,
                is_hevc: codec == "hvc1",
                stream: Stream { kind, codec: codec.to_owned(), ..Stream::default() },
                counters: None,
                repeated: false,
                start: Vec::new(),
                first: None,
                latest: 0,
                samples: 0,
                starts_with_key: None,
                keys: None,
                longest_gap: 0,
            });
        }
        rest = after.get(info..).unwrap_or_default();
    }
    streams
}

/// A table's section, from behind its length on.
fn section(payload: &[u8], table: u8) -> Option<&[u8]> {
    let (pointer, rest) = payload.split_first()?;
    let section = rest.get(usize::from(*pointer)..)?;
    let [id, high, low, ..] = section else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]) & 0x0fff);
    section.get(3..3 + length).filter(|_| *id == table)
}

/// The time at which a packet is shown, and its data.
fn packet(start: &[u8]) -> Option<(Option<i64>, &[u8])> {
    let [0, 0, 1, _, _, _, _, flags, length, rest @ ..] = start else { return None };
    let data = rest.get(usize::from(*length)..)?;
    // 3, 15 and 15 bits, with a marker after each.
    let time = rest.first_chunk::<5>().filter(|_| flags & 0x80 != 0).map(|bytes| {
        let bits = bytes.iter().fold(0_i64, |bits, byte| bits << 8 | i64::from(*byte));
        (bits >> 33 & 7) << 30 | (bits >> 17 & 0x7fff) << 15 | bits >> 1 & 0x7fff
    });
    Some((time, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_no_transport_stream_and_no_panic() {
        let mut state = 1_u32;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        let mut reader = Reader::default();
        for _ in 0..2_000 {
            let mut packet: Vec<u8> = (0..PACKET).map(|_| noise()).collect();
            packet[0] = 0x47;
            // Mostly tables.
            packet[1] &= 0x40;
            packet[2] &= 1;
            reader.push(&packet);
        }
        assert!(reader.finish(true, false).fault.is_some());
    }

    #[test]
    fn a_timestamp_has_33_bits() {
        // The largest: all bits set, with their markers.
        let bytes = [0, 0, 1, 0xe0, 0, 0, 0x80, 0x80, 5, 0x2f, 0xff, 0xff, 0xff, 0xff, 9];
        assert_eq!(packet(&bytes).unwrap(), (Some(WRAP - 1), [9].as_slice()));
    }
}
