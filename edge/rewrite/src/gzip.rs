//! A gzip stream, composed.
//!
//! A signed playlist is a short text in which one long query stands again and again. It is not written out and then
//! searched for what repeats: it is known what repeats. The query goes in once, and from then on as references back
//! to itself ([RFC 1951 §2]), so that cost and size follow the source, not what a player unpacks. References start in the text
//! around it where they can, because from one link to the next little but a number changes.
//!
//! One block with the fixed codes of §3.2.6: nothing has to be collected before it can be written.
//!
//! [RFC 1951 §2]: https://www.rfc-editor.org/rfc/rfc1951#section-2

use std::mem;
use std::sync::LazyLock;

/// How far back a reference can lead, in bytes of what is unpacked.
const WINDOW: usize = 32 * 1024;

/// The lengths that one reference can have.
const SHORTEST: usize = 3;
const LONGEST: usize = 258;

/// How many bytes have to be the same before a reference to them is made.
const PROMISING: usize = 4;

/// How much of the text is remembered before all of it is forgotten. It stands for much more of what is unpacked.
const MEMORY: usize = WINDOW;

const TABLE: usize = 4096;

/// A composer of one gzip stream ([RFC 1952]) in which an authority stands many times.
///
/// [RFC 1952]: https://www.rfc-editor.org/rfc/rfc1952
#[derive(Debug)]
pub struct Gzip {
    authority: Vec<u8>,
    /// The latest text, without the authorities in it.
    text: Vec<u8>,
    /// How much of `text` has been written.
    written: usize,
    /// The offsets in `text` at which an authority stands.
    authorities: Vec<usize>,
    /// Where four bytes stood last, by a hash of them.
    latest: Box<[Option<Spot>]>,
    /// What is being referred to, as long as it goes on.
    reference: Option<Reference>,
    /// How much has been unpacked since the last authority, if there was one, whatever has been forgotten.
    since_authority: Option<usize>,
    check: Check,
    bits: Bits,
}

/// An offset in the text, and how many authorities stand before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Spot {
    at: usize,
    authorities: usize,
}

#[derive(Clone, Copy, Debug)]
struct Reference {
    distance: usize,
    length: usize,
    /// What follows what was referred to; `None` where that has been forgotten.
    next: Option<Spot>,
}

impl Gzip {
    /// Begins a stream.
    #[must_use]
    pub fn new(authority: &[u8]) -> Self {
        let mut bits = Bits::default();
        // Deflated, no flags, no time, by an unknown system.
        bits.out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        // The final block, with the fixed codes.
        bits.put(0b011, 3);
        Self {
            authority: authority.to_vec(),
            text: Vec::with_capacity(MEMORY),
            written: 0,
            authorities: Vec::new(),
            latest: vec![None; TABLE].into(),
            reference: None,
            since_authority: None,
            check: Check::of(authority),
            bits,
        }
    }

    /// Adds text that may be anything.
    pub fn text(&mut self, mut text: &[u8]) {
        self.check.text(text);
        while !text.is_empty() {
            let room = MEMORY.saturating_sub(self.text.len()).min(text.len());
            let (now, later) = text.split_at_checked(room).unwrap_or((text, b""));
            self.text.extend_from_slice(now);
            if self.text.len() < MEMORY {
                self.write(PROMISING - 1);
            } else {
                self.forget();
            }
            text = later;
        }
    }

    /// Adds the authority.
    pub fn authority(&mut self) {
        self.check.authority();
        self.write(0);
        let end = Spot { at: self.text.len(), authorities: self.authorities.len() };
        let length = self.authority.len();
        match &mut self.reference {
            // As what is being referred to ends in an authority too, it just goes on.
            Some(Reference { next: Some(next), length: so_far, .. })
                if self.authorities.get(next.authorities) == Some(&next.at) =>
            {
                *so_far += length;
                next.authorities += 1;
            }
            _ => {
                self.end_reference();
                let distance = self.since_authority.map(|since| since + length);
                match distance.filter(|&distance| distance <= WINDOW && length >= SHORTEST) {
                    Some(distance) => {
                        let next = end.authorities.checked_sub(1).and_then(|last| {
                            let at = *self.authorities.get(last)?;
                            Some(Spot { at, authorities: end.authorities })
                        });
                        self.reference = Some(Reference { distance, length, next });
                    }
                    None => self.authority.iter().for_each(|&byte| self.bits.literal(byte)),
                }
            }
        }
        self.authorities.push(end.at);
        self.since_authority = Some(0);
    }

    /// Ends the stream.
    pub fn finish(&mut self) {
        self.write(0);
        self.end_reference();
        // The end of the block: seven zeros.
        self.bits.put(0, 7);
        self.bits.flush();
        self.bits.out.extend_from_slice(&self.check.crc.to_le_bytes());
        self.bits.out.extend_from_slice(&self.check.length.to_le_bytes());
    }

    /// How many bytes wait to be taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bits.out.len()
    }

    /// Whether nothing waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bits.out.is_empty()
    }

    /// Takes what is ready.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        mem::take(&mut self.bits.out)
    }

    /// Writes the text but for its last bytes, `keep` of them at most, which may yet become part of a reference. So what
    /// is written does not depend on how the text came in.
    fn write(&mut self, keep: usize) {
        let before = self.written;
        loop {
            self.go_on_referring();
            let Some(rest) = self.text.get(self.written..).filter(|rest| rest.len() > keep) else { break };
            let (first, promising) = (rest.first().copied(), rest.first_chunk().copied());
            if !promising.is_some_and(|bytes| self.refer(bytes)) {
                self.bits.literal(first.unwrap_or_default());
                self.written += 1;
            }
        }
        if let Some(since) = &mut self.since_authority {
            *since += self.written - before;
        }
    }

    /// Refers to where the next bytes stood last, if that can be.
    fn refer(&mut self, bytes: [u8; PROMISING]) -> bool {
        let hash = u32::from_le_bytes(bytes).wrapping_mul(0x9e37_79b1) >> 20;
        let here = Spot { at: self.written, authorities: self.authorities.len() };
        let Some(latest) = self.latest.get_mut(hash as usize) else { return false };
        let Some(there) = latest.replace(here) else { return false };
        let between = (here.authorities - there.authorities) * self.authority.len();
        let distance = here.at - there.at + between;
        // No authority may stand among them.
        let end = self.authorities.get(there.authorities).copied().unwrap_or(here.at);
        let whole = there.at + PROMISING <= end;
        let standing = self.text.get(there.at..).and_then(<[u8]>::first_chunk);
        if distance > WINDOW || !whole || standing != Some(&bytes) {
            return false;
        }
        self.reference = Some(Reference { distance, length: 0, next: Some(there) });
        true
    }

    /// Makes the reference longer as far as the text is what follows there, and writes it if it ends before the text.
    fn go_on_referring(&mut self) {
        let Some(reference) = &mut self.reference else { return };
        let rest = self.text.get(self.written..).unwrap_or_default();
        if let Some(next) = &mut reference.next {
            let end = self.authorities.get(next.authorities).copied().unwrap_or(self.text.len());
            let there = self.text.get(next.at..end).unwrap_or_default();
            let same = same(rest, there);
            reference.length += same;
            next.at += same;
            self.written += same;
            if same == rest.len() {
                return;
            }
        } else if rest.is_empty() {
            return;
        }
        self.end_reference();
    }

    fn end_reference(&mut self) {
        if let Some(Reference { distance, length, .. }) = self.reference.take() {
            self.bits.reference(distance, length);
        }
    }

    /// Begins anew with an empty memory. What is being referred to is written, as nobody knows how it goes on.
    fn forget(&mut self) {
        self.write(0);
        self.end_reference();
        self.text.clear();
        self.written = 0;
        self.authorities.clear();
        self.latest.fill(None);
    }
}

/// Whether a client that sent this `Accept-Encoding` would rather have gzip than nothing ([RFC 9110 §12.5.3]).
///
/// [RFC 9110 §12.5.3]: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
#[must_use]
pub fn is_accepted(accept_encoding: &str) -> bool {
    let weight = |coding: &str| {
        accept_encoding.split(',').find_map(|item| {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let weight = parameters
                .trim()
                .split_once('=')
                .map_or(Some(1000), |(_, weight)| thousandths(weight.trim()));
            weight.filter(|_| name.trim().eq_ignore_ascii_case(coding))
        })
    };
    let gzip = weight("gzip").or_else(|| weight("x-gzip")).or_else(|| weight("*")).unwrap_or(0);
    gzip > 0 && weight("identity").is_none_or(|identity| gzip >= identity)
}

/// A weight: `1`, or `0.` and up to three digits.
fn thousandths(weight: &str) -> Option<u32> {
    let (whole, fraction) = weight.split_once('.').unwrap_or((weight, ""));
    let digits = format!("{fraction:0<3}");
    let digits = Some(digits).filter(|digits| digits.len() == 3)?.parse::<u32>().ok()?;
    Some(1000 * whole.parse::<u32>().ok().filter(|&whole| whole <= 1)? + digits)
}

/// How many bytes two texts have in common from their beginning on.
fn same(one: &[u8], other: &[u8]) -> usize {
    let words = one.as_chunks::<8>().0.iter().zip(other.as_chunks::<8>().0);
    let whole = 8 * words.take_while(|(one, other)| one == other).count();
    let rest = one.iter().skip(whole).zip(other.iter().skip(whole));
    whole + rest.take_while(|(one, other)| one == other).count()
}

/// The fixed code of a literal or of a length (RFC 1951 §3.2.6), and how many bits it has. Codes are written from
/// their highest bit on, all else from its lowest.
const fn code(symbol: u16) -> (u16, u32) {
    let (code, length) = match symbol {
        0..=143 => (0b0011_0000 + symbol, 8),
        144..=255 => (0b1_1001_0000 + symbol - 144, 9),
        256..=279 => (symbol - 256, 7),
        _ => (0b1100_0000 + symbol - 280, 8),
    };
    (code.reverse_bits() >> (16 - length), length)
}

/// The codes of literals.
#[expect(clippy::indexing_slicing, reason = "it is done by the compiler")]
const LITERALS: [(u16, u32); 256] = {
    let mut codes = [(0, 0); 256];
    let mut byte = 0;
    while byte < 256 {
        codes[byte as usize] = code(byte);
        byte += 1;
    }
    codes
};

/// The codes of lengths, by the length less [`SHORTEST`], with the bits that follow them (§3.2.5).
#[expect(clippy::indexing_slicing, reason = "it is done by the compiler")]
const LENGTHS: [(u16, u32); LONGEST - SHORTEST + 1] = {
    let mut codes = [(0, 0); LONGEST - SHORTEST + 1];
    let (mut symbol, mut length) = (257, 0);
    while length < codes.len() {
        // From the ninth on there are four symbols to each number of further bits, but for the last, which is itself.
        let more = if symbol < 265 || symbol == 285 { 0 } else { (symbol as u32 - 261) / 4 };
        let (bits, count) = code(symbol);
        let mut value = 0;
        while value < 1 << more && length < codes.len() {
            codes[length] = (bits | value << count, count + more);
            value += 1;
            length += 1;
        }
        symbol += 1;
    }
    codes[LONGEST - SHORTEST] = code(285);
    codes
};

/// Bits on their way into bytes, the first of them lowest.
#[derive(Debug, Default)]
struct Bits {
    out: Vec<u8>,
    waiting: u64,
    count: u32,
}

impl Bits {
    /// Adds the lowest `count` bits of a value that has no others; at most 32.
    fn put(&mut self, value: u32, count: u32) {
        self.waiting |= u64::from(value) << self.count;
        self.count += count;
        if self.count >= 32 {
            let [a, b, c, d, ..] = self.waiting.to_le_bytes();
            self.out.extend_from_slice(&[a, b, c, d]);
            self.waiting >>= 32;
            self.count -= 32;
        }
    }

    fn literal(&mut self, byte: u8) {
        if let Some(&(code, length)) = LITERALS.get(usize::from(byte)) {
            self.put(code.into(), length);
        }
    }

    /// Adds a reference, in parts where it is longer than one can be. No part may be shorter than one can be.
    fn reference(&mut self, distance: usize, mut length: usize) {
        let (distance, distance_bits) = distance_code(distance);
        while length >= SHORTEST {
            let part = match length {
                ..=LONGEST => length,
                _ => LONGEST.min(length - SHORTEST),
            };
            if let Some(&(code, bits)) = LENGTHS.get(part - SHORTEST) {
                self.put(u32::from(code) | distance << bits, bits + distance_bits);
            }
            length -= part;
        }
    }

    fn flush(&mut self) {
        let bytes = self.waiting.to_le_bytes();
        self.out.extend(bytes.iter().take(self.count.div_ceil(8) as usize));
        (self.waiting, self.count) = (0, 0);
    }
}

/// The code of a distance, five bits, with the bits that follow it (§3.2.5).
#[expect(clippy::cast_possible_truncation, reason = "a distance is at most 32 K")]
fn distance_code(distance: usize) -> (u32, u32) {
    let less_one = distance as u32 - 1;
    let more = less_one.checked_ilog2().unwrap_or(0).saturating_sub(1);
    let symbol = 2 * more + (less_one >> more);
    let rest = less_one & ((1 << more) - 1);
    (symbol.reverse_bits() >> 27 | rest << 5, 5 + more)
}

/// What gzip ends with: a CRC-32 and the length of what is unpacked.
#[derive(Debug)]
struct Check {
    crc: u32,
    length: u32,
    authority: Advance,
    authority_length: u32,
}

impl Check {
    fn of(authority: &[u8]) -> Self {
        let authority_length = length_of(authority);
        Self { crc: 0, length: 0, authority: Advance::over(authority), authority_length }
    }

    fn text(&mut self, text: &[u8]) {
        self.crc = crc(self.crc, text);
        self.length = self.length.wrapping_add(length_of(text));
    }

    fn authority(&mut self) {
        self.crc = self.authority.from(self.crc);
        self.length = self.length.wrapping_add(self.authority_length);
    }
}

/// Modulo 2^32, as the format has it.
#[expect(clippy::cast_possible_truncation, reason = "it is meant to be")]
fn length_of(text: &[u8]) -> u32 {
    text.len() as u32
}

/// The CRC of a text, going on from that of what stands before it: eight bytes at a time, each by the table of what it does
/// from there. Not by a crate: those that are as fast have 16 KB of tables in the program, where these are made.
fn crc(before: u32, text: &[u8]) -> u32 {
    /// The first is for a text's last byte, which is followed by nothing.
    static TABLES: LazyLock<[Table; 8]> = LazyLock::new(|| {
        let mut factor = times_x_to_the(8, 1 << 31);
        std::array::from_fn(|_| {
            let [table, ..] = tables(factor);
            factor = times_x_to_the(8, factor);
            table
        })
    });
    let tables = &*TABLES;
    let (whole, rest) = text.as_chunks::<8>();
    let mut crc = !before;
    for &[a, b, c, d, e, f, g, h] in whole {
        let [a, b, c, d] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        let bytes = tables.iter().zip([h, g, f, e, d, c, b, a]);
        crc = bytes.fold(0, |sum, (table, byte)| sum ^ at(table, byte));
    }
    for &byte in rest {
        let [table, ..] = tables;
        let [first, ..] = crc.to_le_bytes();
        crc = crc >> 8 ^ at(table, first ^ byte);
    }
    !crc
}

/// What a text does to the CRC of all before it, whatever that is: a multiplication by x^8n, and an addition.
#[derive(Debug)]
struct Advance {
    tables: Box<[Table; 4]>,
    sum: u32,
}

impl Advance {
    fn over(text: &[u8]) -> Self {
        // Square and multiply: x^8 to the power of the length.
        let (mut factor, mut power, mut rest) = (1 << 31, 1 << 23, text.len());
        while rest > 0 {
            if rest & 1 == 1 {
                factor = multiply(factor, power);
            }
            power = multiply(power, power);
            rest >>= 1;
        }
        Self { tables: Box::new(tables(factor)), sum: crc(0, text) }
    }

    fn from(&self, crc: u32) -> u32 {
        let products = self.tables.iter().zip(crc.to_le_bytes());
        products.fold(self.sum, |sum, (table, byte)| sum ^ at(table, byte))
    }
}

/// The products of a factor with all bytes, as one of the four bytes of a polynomial.
type Table = [u32; 256];

fn at(table: &Table, byte: u8) -> u32 {
    table.get(usize::from(byte)).copied().unwrap_or_default()
}

fn tables(mut factor: u32) -> [Table; 4] {
    let mut tables = [[0; 256]; 4];
    for table in tables.iter_mut().rev() {
        // The highest bit is x^0, and each one below it times x.
        let mut products = [0; 8];
        for product in products.iter_mut().rev() {
            *product = factor;
            factor = times_x(factor);
        }
        for (bit, product) in products.into_iter().enumerate() {
            let (without, with) = table.split_at_mut(1 << bit);
            for (with, without) in with.iter_mut().zip(without) {
                *with = *without ^ product;
            }
        }
    }
    tables
}

/// Polynomials over GF(2) modulo the CRC's own, bits reversed as it has them: x^0 is the highest bit.
const fn times_x(value: u32) -> u32 {
    let overflow = value & 1;
    value >> 1 ^ (overflow * 0xedb8_8320)
}

fn times_x_to_the(power: u32, factor: u32) -> u32 {
    (0..power).fold(factor, |factor, _| times_x(factor))
}

const fn multiply(one: u32, mut other: u32) -> u32 {
    let (mut product, mut bit) = (0, 1 << 31);
    while bit > 0 {
        if one & bit > 0 {
            product ^= other;
        }
        other = times_x(other);
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Text, and where the authority stands in it.
    type Tokens = Vec<Option<Vec<u8>>>;

    fn compose(authority: &[u8], tokens: &Tokens) -> (Vec<u8>, Vec<u8>) {
        let (mut gzip, mut plain) = (Gzip::new(authority), Vec::new());
        for token in tokens {
            let part = token.as_deref().unwrap_or(authority);
            plain.extend_from_slice(part);
            match token {
                Some(text) => gzip.text(text),
                None => gzip.authority(),
            }
        }
        gzip.finish();
        (gzip.take(), plain)
    }

    /// By flate2, which checks the sum and the length too.
    fn unpacked(gzipped: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut rest = gzipped;
        flate2::bufread::GzDecoder::new(&mut rest).read_to_end(&mut plain).unwrap();
        assert!(rest.is_empty(), "something follows");
        plain
    }

    fn tokens() -> impl Strategy<Value = Tokens> {
        let text = prop_oneof![
            8 => "[ab]{0,12}".prop_map(String::into_bytes),
            8 => "(#EXTINF:[0-9],\n[0-9]{1,3}\\.m4s\\?)".prop_map(String::into_bytes),
            8 => vec(any::<u8>(), 0..20),
            1 => (any::<u8>(), 0..70_000_usize).prop_map(|(byte, count)| vec![byte; count]),
        ];
        vec(prop_oneof![text.prop_map(Some), Just(None)], 0..40)
    }

    proptest! {
        #[test]
        fn what_is_unpacked_is_what_was_meant(authority in prop_oneof!["[ab]{0,6}", "[a-z]{0,600}"], tokens in tokens()) {
            let (gzipped, plain) = compose(authority.as_bytes(), &tokens);
            prop_assert!(unpacked(&gzipped) == plain);
        }

        #[test]
        fn how_the_text_comes_in_makes_no_difference(tokens in tokens(), size in 1..50_usize) {
            let authority = b"Policy=abc&Signature=def";
            let mut split = Tokens::new();
            for token in &tokens {
                match token {
                    Some(text) => split.extend(text.chunks(size).map(|part| Some(part.to_vec()))),
                    None => split.push(None),
                }
            }
            prop_assert!(compose(authority, &tokens).0 == compose(authority, &split).0);
        }
    }

    #[test]
    fn a_playlist_of_an_hour_takes_a_dozen_bytes_for_each_link() {
        let authority = "Policy=eyJTdGF0ZW1lbnQiOlt7_".repeat(26);
        let mut tokens: Tokens = vec![Some(b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n".to_vec())];
        for number in 1..=1000 {
            tokens.push(Some(format!("#EXTINF:4.000,\n{number:05}.m4s?").into_bytes()));
            tokens.push(None);
            tokens.push(Some(b"\n".to_vec()));
        }
        let (gzipped, plain) = compose(authority.as_bytes(), &tokens);
        assert!(unpacked(&gzipped) == plain);
        assert!(gzipped.len() < 13_000, "{}", gzipped.len());
    }

    #[test]
    fn gzip_is_for_those_who_ask_for_it() {
        // The headers are those of browsers, Chromium's own player, VLC, GStreamer and the RFC.
        for accepting in [
            "gzip, deflate, br, zstd",
            "gzip, identity;q=1, *;q=0",
            "deflate, gzip",
            "GZIP;q=0.5",
            "*",
            "identity;q=0.5, *;q=0.7",
            "gzip;q=1.0, identity; q=0.5, *;q=0",
        ] {
            assert!(is_accepted(accepting), "{accepting}");
        }
        for refusing in [
            "",
            "identity",
            "br",
            "gzip;q=0",
            "*;q=0",
            "gzip;q=0, *",
            "identity, gzip;q=0.5",
            "gzip;q=x",
            "gzipped",
        ] {
            assert!(!is_accepted(refusing), "{refusing}");
        }
    }

    #[test]
    fn an_empty_stream_is_one() {
        assert_eq!(unpacked(&compose(b"a", &Tokens::new()).0), b"");
    }
}
