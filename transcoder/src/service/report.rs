//! How far a job is, for its row: at most once a second, however often the pipeline says so.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use crate::Progress;
use crate::jobs::{JobId, Jobs, State, Step};

/// How often a row changes.
const EVERY: Duration = Duration::from_secs(1);

/// What of the state of encoding the encoder itself is taken to be; the rest is packaging.
const ENCODER_PERCENT: f64 = 95.0;

/// Hears how far a job is.
pub(super) struct Reporter {
    said: watch::Sender<Said>,
    begun: std::sync::Mutex<Option<Begun>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Encoding,
    Packaging,
    Publishing,
}

/// When a phase began in this process, and with how much done.
struct Begun {
    phase: Phase,
    at: Instant,
    done: f64,
}

/// What there is to write down.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    report: Option<Report>,
    /// What an encoder elsewhere calls the job.
    outside: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Report {
    state: State,
    percent: f64,
    seconds_left: Option<f64>,
}

impl Reporter {
    pub(super) fn new() -> (Self, watch::Receiver<Said>) {
        let (said, heard) = watch::channel(Said::default());
        (Self { said, begun: std::sync::Mutex::default() }, heard)
    }

    fn say(&self, phase: Phase, done: f64, total: f64, now: Instant) {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match &mut *begun {
            Some(begun) if begun.phase == phase => begun,
            other => other.insert(Begun { phase, at: now, done }),
        };
        let report = report(begun, done, total, now);
        self.said.send_modify(|said| said.report = Some(report));
    }
}

fn report(begun: &Begun, done: f64, total: f64, now: Instant) -> Report {
    let share = if total > 0.0 { (done / total).clamp(0.0, 1.0) } else { 1.0 };
    let (state, percent) = match begun.phase {
        Phase::Encoding => (State::Encoding, ENCODER_PERCENT * share),
        Phase::Packaging => (State::Encoding, ENCODER_PERCENT + (100.0 - ENCODER_PERCENT) * share),
        Phase::Publishing => (State::Publishing, 100.0 * share),
    };
    let gained = done - begun.done;
    let elapsed = now.duration_since(begun.at).as_secs_f64();
    let seconds_left = (gained > 0.0).then(|| elapsed * (total - done).max(0.0) / gained);
    Report { state, percent, seconds_left }
}

impl Progress for Reporter {
    fn encoded(&self, done: Duration, total: Duration) {
        self.say(Phase::Encoding, done.as_secs_f64(), total.as_secs_f64(), Instant::now());
    }

    fn outside(&self, job: &str) {
        self.said.send_modify(|said| said.outside = Some(job.to_owned()));
    }

    fn packaged(&self, done: u64, total: u64) {
        self.say(Phase::Packaging, bytes(done), bytes(total), Instant::now());
    }

    fn published(&self, done: u64, total: u64) {
        self.say(Phase::Publishing, bytes(done), bytes(total), Instant::now());
    }
}

/// For a percentage, near enough.
#[allow(clippy::cast_precision_loss, reason = "no file has so many bytes that it would be seen")]
fn bytes(count: u64) -> f64 {
    count as f64
}

/// Writes down what is said, until nobody says anything any more.
pub(super) async fn write(mut heard: watch::Receiver<Said>, jobs: &Jobs, id: &JobId) {
    let mut written = Said::default();
    while heard.changed().await.is_ok() {
        let said = heard.borrow_and_update().clone();
        let outside = said.outside.clone().filter(|_| said.outside != written.outside).map(Step::Outside);
        let report = said.report.filter(|_| said.report != written.report);
        let report = report.map(|Report { state, percent, seconds_left }| Step::Progress {
            state,
            percent: Some(percent),
            seconds_left,
        });
        written = said;
        for step in outside.into_iter().chain(report) {
            if let Err(error) = jobs.advance(id, step, Timestamp::now()).await {
                tracing::warn!("{error}");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_part_that_was_done_here() {
        let (reporter, heard) = Reporter::new();
        let start = Instant::now();
        let said = |phase, done, seconds| {
            reporter.say(phase, done, 100.0, start + Duration::from_secs(seconds));
            heard.borrow().report.unwrap()
        };
        let report = |state, percent, seconds_left| Report { state, percent, seconds_left };
        assert_eq!(said(Phase::Encoding, 0.0, 0), report(State::Encoding, 0.0, None));
        assert_eq!(said(Phase::Encoding, 20.0, 10), report(State::Encoding, 19.0, Some(40.0)));
        assert_eq!(said(Phase::Packaging, 100.0, 20), report(State::Encoding, 100.0, None));
        // Half of it was there already.
        assert_eq!(said(Phase::Publishing, 50.0, 30), report(State::Publishing, 50.0, None));
        assert_eq!(said(Phase::Publishing, 75.0, 35), report(State::Publishing, 75.0, Some(5.0)));
    }
}
