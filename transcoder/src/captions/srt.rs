//! SubRip, for which nobody has written down what it is.
//!
//! What others read is read: a cue begins with a line of times, whether or not there is a number before it, and goes
//! on to the next such line, over empty lines too. Times are what ffmpeg and VLC take them for.
//!
//! The few tags that players know become those of WebVTT, or go where it has none; any other `<` or `&` is text.

use super::{Cue, Cues, Invalid, text};

const ARROW: &str = "-->";

/// A longer tag is none: a colour and a typeface take some forty characters.
const LONGEST: usize = 256;

impl Cues {
    /// Reads SubRip, and makes WebVTT of its text.
    pub fn parse_srt(text: &str) -> Result<Self, Invalid> {
        let text = text::normalized(text.strip_prefix('\u{feff}').unwrap_or(text));
        let lines: Vec<&str> = text.split('\n').map(str::trim).collect();
        let mut cues = Self::default();
        // The first line of times that cannot be read, or else the first with anything in it.
        let mut odd = None;
        let mut at = 0;
        while at < lines.len() {
            let Some((start, end)) = times(lines[at]) else {
                if looks_like_times(&lines, at) {
                    cues.dropped += 1;
                    odd = odd.or(Some(at));
                }
                at += 1;
                continue;
            };
            let text = &lines[at + 1..];
            let next = (at + 1..lines.len()).find(|&at| looks_like_times(&lines, at)).unwrap_or(lines.len());
            let text = &text[..next - at - 1];
            // The number of the next.
            let text = match text {
                [text @ .., number] if next < lines.len() && is_number(number) => text,
                text => text,
            };
            let (text, settings) = web_text(text);
            cues.cues.push(Cue { start, end, id: None, settings, text });
            at = next;
        }
        if cues.cues.is_empty() && (odd.is_some() || cues.dropped == 0) {
            let first = odd.or_else(|| lines.iter().position(|line| !line.is_empty()));
            return Err(match first {
                Some(line) => Invalid::line(line + 1, lines[line]),
                None => Invalid::Empty { dropped: 0 },
            });
        }
        cues.tidy()
    }
}

/// Whether a line is where a cue begins, though its times may be unreadable: text has arrows in it too.
fn looks_like_times(lines: &[&str], at: usize) -> bool {
    let Some((start, _)) = lines[at].split_once(ARROW) else { return false };
    times(lines[at]).is_some()
        || start.contains(':')
            && start.starts_with(|c: char| c.is_ascii_digit())
            && (at == 0 || lines[at - 1].is_empty() || is_number(lines[at - 1]))
}

fn is_number(line: &str) -> bool {
    !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit())
}

/// `00:00:01,000 --> 00:00:02,000`, and what may follow: where it stands, in the pixels of some picture.
fn times(line: &str) -> Option<(u64, u64)> {
    let (start, rest) = line.split_once(ARROW)?;
    let start = milliseconds(start.trim())?;
    let end = milliseconds(rest.split_whitespace().next()?)?;
    // Out of a container, there are cues from before the picture begins; some of them last until it has.
    Some((u64::try_from(start).unwrap_or(0), u64::try_from(end).unwrap_or(0)))
}

/// A time in milliseconds. One before the beginning has a sign at each part: `00:00:-1,-500`.
fn milliseconds(time: &str) -> Option<i64> {
    let number = |digits: &str| is_number(digits).then(|| digits.parse::<i64>().ok())?;
    let unsigned = time.replace('-', "");
    let (clock, fraction) = unsigned.split_once([',', '.']).unwrap_or((&unsigned, "0"));
    let parts = clock.split(':').map(number).collect::<Option<Vec<i64>>>()?;
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes, seconds] => (hours, minutes, seconds),
        [minutes, seconds] => (0, minutes, seconds),
        _ => return None,
    };
    let minutes = hours.checked_mul(60)?.checked_add(minutes)?;
    let seconds = minutes.checked_mul(60)?.checked_add(seconds)?;
    // No decimal fraction: to ffmpeg and VLC, `1,5` is 1,005 milliseconds. More than three digits can only be one.
    let fraction = number(fraction.get(..3).unwrap_or(fraction))?;
    let milliseconds = seconds.checked_mul(1000)?.checked_add(fraction)?;
    Some(if time.contains('-') { -milliseconds } else { milliseconds })
}

/// The text of a cue, and where it stands, by the first `{\an…}` in it.
fn web_text(lines: &[&str]) -> (String, String) {
    let mut settings = None;
    let mut text = String::new();
    let whole = lines.join("\n");
    let mut rest = whole.as_str();
    while let Some(at) = rest.find(['<', '{', '&', '>']) {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some((tag, after)) = tag(rest) {
            text.push_str(tag);
            rest = after;
        } else if let Some((overridden, after)) = override_block(rest) {
            settings = settings.or_else(|| place(overridden));
            rest = after;
        } else {
            text.push_str(match rest.as_bytes()[0] {
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'&' => "&amp;",
                _ => "{",
            });
            rest = &rest[1..];
        }
    }
    text.push_str(rest);
    let lines = text.split('\n').map(str::trim).filter(|line| !line.is_empty());
    (lines.collect::<Vec<_>>().join("\n"), settings.unwrap_or_default().to_owned())
}

/// A tag at the beginning of a text, as WebVTT has it, and what follows it.
fn tag(text: &str) -> Option<(&'static str, &str)> {
    let inside = text.strip_prefix('<')?;
    let end = inside.bytes().take(LONGEST).position(|byte| matches!(byte, b'>' | b'<' | b'\n'))?;
    let after = inside[end..].strip_prefix('>')?;
    let inside = &inside[..end];
    let (name, attributes) = inside.split_at(inside.find([' ', '\t']).unwrap_or(inside.len()));
    let known = match name.to_ascii_lowercase().as_str() {
        "i" => "<i>",
        "b" => "<b>",
        "u" => "<u>",
        "/i" => "</i>",
        "/b" => "</b>",
        "/u" => "</u>",
        "br" | "br/" => "\n",
        "s" | "/s" | "font" | "/font" => "",
        _ => return None,
    };
    // `<i >` is a tag, and `<b or not>` is not.
    let plain = matches!(attributes.trim(), "" | "/");
    (plain || name.eq_ignore_ascii_case("font")).then_some((known, after))
}

/// `{\an8}` and its like, of Advanced SubStation Alpha: what is after the backslash, and what follows.
fn override_block(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix("{\\")?;
    let end = inside.bytes().take(LONGEST).position(|byte| matches!(byte, b'}' | b'{' | b'\n'))?;
    Some((&inside[..end], inside[end..].strip_prefix('}')?))
}

/// Settings for `an` and the key of a numeric pad where text is to stand.
fn place(overridden: &str) -> Option<&'static str> {
    let mut codes = overridden.split('\\').filter_map(|code| code.strip_prefix("an"));
    Some(match codes.find(|code| code.len() == 1)? {
        "1" => "align:left",
        "2" => "",
        "3" => "align:right",
        "4" => "line:50% align:left",
        "5" => "line:50%",
        "6" => "line:50% align:right",
        "7" => "line:0 align:left",
        "8" => "line:0",
        "9" => "line:0 align:right",
        _ => return None,
    })
}
