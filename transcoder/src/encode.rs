//! `transcoder encode`: the pipeline at the command line.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use crate::asset::{AssetId, InvalidAssetId};
use crate::encoder::mediaconvert::{self, MediaConvert};
use crate::encoder::{Encoder, Machine};
use crate::plan::{Decision, Options, Plan};
use crate::storage::{self, Access, Store};
use crate::{CancellationToken, Error, Job, Progress, Published};

/// How often a log that is no terminal gets a line.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Encode one video and publish it as HLS
///
/// Makes up to seven sizes, never more than the source's own; every language and caption track that is in it, or in
/// .srt and .vtt files of the same name beside it; pictures for seeking, a poster, a storyboard. Publishes them as
/// assets/ID/ to a folder or a bucket: the segments first and the playlist last, so that an earlier encode of the
/// same asset plays on until the new one is complete. Before that, it is checked as by `transcoder lint`. Prints the
/// playlist's key, which is the path of its URL at the edge. Progress goes to standard error. Ctrl-C stops it and
/// takes back what it put; a second one does not wait for that.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Captions beside lesson.mp4: lesson.srt, lesson.de.vtt, lesson.en.forced.srt, lesson.en.sdh.srt (for the deaf)

Credentials for s3:// come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, if need be,
AWS_SESSION_TOKEN, or else from the machine's role.
For R2: --endpoint https://<account>.r2.cloudflarestorage.com --region auto

Examples:
  transcoder encode lesson.mov --dry-run
  transcoder encode lesson.mov --to ./media
  transcoder encode lesson.mov --to s3://media --asset lesson-1 --codec hevc --encrypt")]
pub struct Arguments {
    /// The video: any one file that ffmpeg reads (.mp4, .mov, .mkv, .webm …), with a picture, sound or both
    input: PathBuf,

    /// Where to publish: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(long, env = "REELGATE_TO", value_name = "PLACE", required_unless_present = "dry_run")]
    to: Option<String>,

    /// What to call it: letters, digits, `.`, `_` and `-` [default: made of the file name]
    #[arg(long, value_name = "ID")]
    asset: Option<AssetId>,

    /// Only say what would be made and why, and print the commands
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    access: Access,

    /// What encodes
    #[arg(long, env = "REELGATE_ENCODER", value_enum, default_value_t = Encoder::Ffmpeg)]
    encoder: Encoder,

    #[command(flatten, next_help_heading = "What to make")]
    options: Options,

    #[command(flatten, next_help_heading = "MediaConvert")]
    mediaconvert: mediaconvert::Settings,
}

/// Why `encode` failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The asset cannot be called so.
    #[error(transparent)]
    AssetId(#[from] InvalidAssetId),
    /// There is no such place.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// The job was not done.
    #[error(transparent)]
    Job(#[from] Error),
    /// The encoder is not set up.
    #[error(transparent)]
    MediaConvert(#[from] mediaconvert::Error),
    /// The process could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

impl Arguments {
    /// Does what is asked for, and has the playlist's key, or the plan, which is for stdout.
    pub fn run(self) -> Result<String, Failure> {
        let asset = self.asset.map_or_else(|| AssetId::from_file_name(&self.input), Ok)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let encoder = match self.encoder {
            Encoder::Ffmpeg => Machine::Ffmpeg,
            Encoder::MediaConvert => {
                let service = runtime.block_on(MediaConvert::open(&self.mediaconvert))?;
                let id = mediaconvert::id(&self.input, &asset, &self.options)?;
                Machine::MediaConvert(service.errand(&asset, &id, None))
            }
        };
        let job = Job { input: self.input, asset, encoder, options: self.options };
        let Some(place) = self.to.filter(|_| !self.dry_run) else {
            let (plan, commands) = runtime.block_on(crate::rehearse(&job))?;
            return Ok(in_words(&plan, &commands));
        };
        let store = Store::open(&place, &self.access)?;
        Ok(runtime.block_on(run(&job, &store))?.playlist)
    }
}

/// A plan, for whoever asked for it.
fn in_words(plan: &Plan, commands: &[String]) -> String {
    let mut lines = vec![format!("{} plays {:.3} s", plan.input.display(), plan.duration.as_secs_f64())];
    lines.extend(plan.rungs.iter().map(|rung| {
        let is_made = if rung.kept { "make" } else { "leave out" };
        let Decision { name, width, height, kbps, reason, .. } = rung;
        format!("{is_made:>9} {name:<12} {width}x{height}, {kbps} kbit/s: {reason}")
    }));
    let sound = plan.audio.iter().map(|audio| {
        let (name, language) = (&audio.name, &audio.language);
        format!(
            "     make {name:<12} {} channels, {} kbit/s, {} ({})",
            audio.channels, audio.kbps, language.name, language.tag
        )
    });
    lines.extend(sound);
    let text = plan.captions.iter();
    lines.extend(
        text.map(|text| {
            format!("     make {:<12} {} ({})", text.name, text.language.name, text.language.tag)
        }),
    );
    lines.extend(plan.notes.iter().map(|note| format!("     note {note}")));
    lines.extend(commands.iter().cloned());
    lines.join("\n")
}

async fn run(job: &Job, store: &Store) -> Result<Published, Failure> {
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let mut signals = Signals::new()?;
    tokio::spawn(async move {
        signals.wait().await;
        stop.cancel();
        // Taking back what was put takes as long as the bucket takes to answer, which may be for ever.
        signals.wait().await;
        eprintln!("transcoder: stopped at once; parts of it may be left where it was to be published");
        std::process::exit(1);
    });
    let outcome = crate::encode(job, store, Timestamp::now(), &Display::new(), &cancel).await;
    if outcome.is_err()
        && let Err(error) = job.encoder.abandon().await
    {
        eprintln!("transcoder: something may go on or be left at the encoder: {error}");
    }
    Ok(outcome?)
}

/// What asks a process to end.
pub(crate) struct Signals {
    #[cfg(unix)]
    others: [tokio::signal::unix::Signal; 2],
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        #[cfg(unix)]
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            #[cfg(unix)]
            others: [signal(SignalKind::terminate())?, signal(SignalKind::hangup())?],
        })
    }

    pub(crate) async fn wait(&mut self) {
        #[cfg(unix)]
        {
            let [terminate, hangup] = &mut self.others;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// Shows progress: a bar at a terminal, now and then a line in a log.
struct Display {
    bar: ProgressBar,
    lines: Option<Mutex<Line>>,
}

/// When the last line was written, and in which phase.
struct Line {
    phase: Phase,
    begun: Instant,
    written: Option<Instant>,
    is_complete: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Encoding,
    Packaging,
    Publishing,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Packaging => "packaging",
            Self::Publishing => "publishing",
        }
    }
}

impl Display {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:>10} {wide_bar} {percent:>3} %, {eta} left");
        bar.set_style(style.expect("the template is well formed"));
        let now = Instant::now();
        let line = Line { phase: Phase::Encoding, begun: now, written: None, is_complete: false };
        let lines = bar.is_hidden().then(|| Mutex::new(line));
        Self { bar, lines }
    }

    fn show(&self, phase: Phase, done: u64, total: u64) {
        if let Some(line) = &self.lines {
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(text) = line.next(phase, done, total, Instant::now()) {
                eprintln!("{text}");
            }
            return;
        }
        // A bar of nothing is shown as full, so the first thing it learns is how long it is.
        let is_new = self.bar.message() != phase.name();
        if is_new {
            self.bar.reset();
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
        if is_new {
            self.bar.set_message(phase.name());
        }
    }
}

impl Line {
    /// A line, if it is time for one.
    fn next(&mut self, phase: Phase, done: u64, total: u64, now: Instant) -> Option<String> {
        if phase != self.phase {
            *self = Self { phase, begun: now, written: None, is_complete: false };
        }
        let is_due = self.written.is_none_or(|written| now.duration_since(written) >= LINE_EVERY);
        if self.is_complete || (!is_due && done < total) {
            return None;
        }
        self.is_complete = done >= total;
        self.written = Some(now);
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
        let left = total.saturating_sub(done);
        let elapsed = now.duration_since(self.begun);
        let eta = match (u32::try_from(left), u32::try_from(done)) {
            (Ok(left), Ok(done)) if left > 0 && done > 0 => {
                format!(", about {} s left", elapsed.mul_f64(f64::from(left) / f64::from(done)).as_secs())
            }
            _ => String::new(),
        };
        Some(format!("{}: {percent} %{eta}", phase.name()))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for Display {
    fn encoded(&self, done: Duration, total: Duration) {
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.show(Phase::Encoding, milliseconds(done), milliseconds(total));
    }

    fn packaged(&self, done: u64, total: u64) {
        self.show(Phase::Packaging, done, total);
    }

    fn published(&self, done: u64, total: u64) {
        self.show(Phase::Publishing, done, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_a_line_now_and_then() {
        let begun = Instant::now();
        let mut line = Line { phase: Phase::Encoding, begun, written: None, is_complete: false };
        let mut at = |phase, done, seconds| line.next(phase, done, 100, begun + Duration::from_secs(seconds));
        assert_eq!(at(Phase::Encoding, 1, 1).unwrap(), "encoding: 1 %, about 99 s left");
        assert_eq!(at(Phase::Encoding, 5, 5), None);
        assert_eq!(at(Phase::Encoding, 50, 20).unwrap(), "encoding: 50 %, about 20 s left");
        assert_eq!(at(Phase::Encoding, 100, 21).unwrap(), "encoding: 100 %");
        assert_eq!(at(Phase::Encoding, 100, 40), None);
        assert_eq!(at(Phase::Publishing, 10, 22).unwrap(), "publishing: 10 %, about 0 s left");
    }
}
