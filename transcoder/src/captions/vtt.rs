//! WebVTT, read as browsers read it: by the [parsing algorithm] of the W3C, step by step.
//!
//! [parsing algorithm]: https://www.w3.org/TR/webvtt1/#file-parsing

use super::{Cue, Cues, Invalid, text};

const SIGNATURE: &str = "WEBVTT";
const ARROW: &str = "-->";

/// Whether a text says that it is WebVTT.
pub(super) fn has_signature(text: &str) -> bool {
    let rest = text.strip_prefix('\u{feff}').unwrap_or(text).strip_prefix(SIGNATURE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

impl Cues {
    /// Reads WebVTT. A cue that browsers leave out is left out, and counted.
    pub fn parse_vtt(text: &str) -> Result<Self, Invalid> {
        if !has_signature(text) {
            return Err(Invalid::line(1, text.lines().next().unwrap_or_default()));
        }
        let text = text::normalized(text);
        let mut lines = text.split('\n').skip(1).peekable();
        // What is left of the header is not for us; and a cue right after the first line is one without a header.
        while lines.next_if(|line| !line.is_empty() && !line.contains(ARROW)).is_some() {}

        let mut cues = Self::default();
        while let Some(line) = lines.next() {
            if line.is_empty() {
                continue;
            }
            // One line before the times is the identifier of a cue.
            let (id, timing) = match lines.next_if(|next| !line.contains(ARROW) && next.contains(ARROW)) {
                Some(timing) => (Some(line), Some(timing)),
                None => (None, line.contains(ARROW).then_some(line)),
            };
            let mut body = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.is_empty() && !line.contains(ARROW)) {
                body.push(line);
            }
            match timing.map(times) {
                Some(Some((start, end, settings))) => cues.cues.push(Cue {
                    start,
                    end,
                    id: id.map(ToOwned::to_owned),
                    settings,
                    text: body.join("\n"),
                }),
                Some(None) => cues.dropped += 1,
                // A style sheet after the first cue is none.
                None if cues.cues.is_empty()
                    && matches!(line.trim_ascii_end(), "STYLE" | "REGION")
                    && !body.is_empty() =>
                {
                    cues.header.push(format!("{}\n{}", line.trim_ascii_end(), body.join("\n")));
                }
                None => {}
            }
        }
        cues.tidy()
    }
}

/// `00:01.000 --> 00:02.000 line:0`: both times, and the settings.
fn times(line: &str) -> Option<(u64, u64, String)> {
    let mut rest = line.trim_ascii_start();
    let start = timestamp(&mut rest)?;
    rest = rest.trim_ascii_start().strip_prefix(ARROW)?.trim_ascii_start();
    let end = timestamp(&mut rest)?;
    let settings = rest.split_ascii_whitespace().filter(|setting| {
        // Those that the algorithm passes over, and what some reader might take for the times.
        !setting.starts_with(':')
            && !setting.ends_with(':')
            && setting.contains(':')
            && !setting.contains(ARROW)
    });
    Some((start, end, settings.collect::<Vec<_>>().join(" ")))
}

/// "Collect a WebVTT timestamp", in milliseconds.
fn timestamp(rest: &mut &str) -> Option<u64> {
    let first = digits(rest);
    let value: u64 = first.parse().ok()?;
    *rest = rest.strip_prefix(':')?;
    let second = two(rest)?;
    // What came first were minutes, unless they cannot be or there is a third part.
    let (hours, minutes, seconds) = if first.len() == 2 && value <= 59 && !rest.starts_with(':') {
        (0, value, second)
    } else {
        *rest = rest.strip_prefix(':')?;
        (value, second, two(rest)?)
    };
    *rest = rest.strip_prefix('.')?;
    let fraction = digits(rest);
    if fraction.len() != 3 || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = hours.checked_mul(3600)?.checked_add(minutes * 60 + seconds)?;
    seconds.checked_mul(1000)?.checked_add(fraction.parse().ok()?)
}

fn two(rest: &mut &str) -> Option<u64> {
    let digits = digits(rest);
    (digits.len() == 2).then(|| digits.parse().ok())?
}

fn digits<'a>(rest: &mut &'a str) -> &'a str {
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at(length);
    *rest = after;
    digits
}
