//! What becomes of a job after an attempt at it.

use std::time::Duration;

use super::Why;
use crate::Class;
use crate::jobs::Step;

/// Why somebody's cancelled job ended.
pub(super) const UNWANTED: &str = "somebody cancelled it";

/// How long a full disk is given to become less so.
const ROOM_TIME: Duration = Duration::from_mins(1);

/// How soon to look at what became of a job that another copy of the service took away.
const LOST_TIME: Duration = Duration::from_secs(2);

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Well.
    Done,
    /// It was refused or broke down, for this reason.
    Failed(Class, String),
    /// By a fault of our own, which said this.
    Fault(String),
    /// It was none: another copy of the service decides what becomes of the job.
    Elsewhere(Step),
}

/// How failed attempts are repeated.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How many attempts there are at all.
    pub attempts: u32,
    /// The most that is waited before the second one; twice that before the third, and so on.
    pub first: Duration,
    /// But never longer.
    pub longest: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { attempts: 5, first: Duration::from_secs(10), longest: Duration::from_mins(15) }
    }
}

impl Patience {
    /// How long to wait after so many attempts: anything up to the most, so that what failed together does not come
    /// back together ("full jitter", <https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/>).
    fn wait(&self, attempts: u32, chance: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        self.first.saturating_mul(doubled).min(self.longest).mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// What follows. `chance` is from 0 to 1.
pub(super) fn step(
    outcome: Outcome,
    why: Option<Why>,
    attempts: u32,
    patience: &Patience,
    limit: Duration,
    chance: f64,
) -> Step {
    let (class, reason) = match (outcome, why) {
        (Outcome::Elsewhere(step), _) => return step,
        // It came too late to be stopped.
        (Outcome::Done, _) => return Step::Done,
        (Outcome::Fault(said), _) => {
            let reason = format!("a fault of the transcoder, please report it with the source: {said}");
            return Step::Failed { reason };
        }
        (Outcome::Failed(..), Some(Why::Unwanted)) => return Step::Cancelled { reason: UNWANTED.to_owned() },
        (Outcome::Failed(..), Some(Why::TooLong)) => {
            let hours = limit.as_secs_f64() / 3600.0;
            let reason =
                format!("it took longer than {hours} hours: give it more (--max-hours), or a shorter source");
            return Step::Failed { reason };
        }
        (Outcome::Failed(..), Some(Why::Lost)) => {
            let reason = "another copy of the service took it over, or cancelled it".to_owned();
            return Step::Later { after: LOST_TIME, reason };
        }
        (Outcome::Failed(..), Some(Why::Ending)) => {
            let reason = "the service was stopped; it goes on from where it was".to_owned();
            return Step::Later { after: Duration::ZERO, reason };
        }
        (Outcome::Failed(class, reason), None) => (class, reason),
    };
    match class {
        Class::Source | Class::Settings => Step::Failed { reason },
        Class::Stopped => Step::Cancelled { reason },
        Class::Full => Step::Later { after: ROOM_TIME, reason },
        Class::Busy if attempts < patience.attempts => {
            Step::Again { after: patience.wait(attempts, chance), reason }
        }
        Class::Busy => Step::Failed { reason: format!("{reason} (given up after {attempts} attempts)") },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(class: Class, why: Option<Why>, attempts: u32) -> Step {
        let outcome = Outcome::Failed(class, "so".into());
        step(outcome, why, attempts, &Patience::default(), Duration::from_hours(12), 1.0)
    }

    #[test]
    fn what_another_attempt_would_not_help_is_given_up_at_once() {
        assert!(matches!(after(Class::Source, None, 1), Step::Failed { reason } if reason == "so"));
        assert!(matches!(after(Class::Settings, None, 1), Step::Failed { .. }));
        assert!(matches!(after(Class::Stopped, None, 1), Step::Cancelled { .. }));
    }

    #[test]
    fn who_is_busy_is_asked_again_ever_more_rarely_and_not_for_ever() {
        let waits = [1, 2, 3, 4].map(|attempts| match after(Class::Busy, None, attempts) {
            Step::Again { after, .. } => after.as_secs(),
            other => panic!("{other:?}"),
        });
        assert_eq!(waits, [10, 20, 40, 80]);
        assert!(matches!(after(Class::Busy, None, 5), Step::Failed { .. }));
        let patience = Patience::default();
        assert_eq!(patience.wait(500, 1.0), Duration::from_mins(15));
        assert_eq!(patience.wait(3, 0.5), Duration::from_secs(20));
    }

    #[test]
    fn a_full_disk_is_waited_for_without_counting() {
        assert!(matches!(after(Class::Full, None, 99), Step::Later { .. }));
    }

    #[test]
    fn whoever_stopped_it_says_what_becomes_of_it() {
        assert!(matches!(after(Class::Stopped, Some(Why::Ending), 9), Step::Later { .. }));
        assert!(matches!(after(Class::Busy, Some(Why::Unwanted), 1), Step::Cancelled { .. }));
        assert!(matches!(after(Class::Stopped, Some(Why::TooLong), 1), Step::Failed { .. }));
        let done = step(Outcome::Done, Some(Why::Unwanted), 1, &Patience::default(), Duration::ZERO, 0.0);
        assert!(matches!(done, Step::Done));
    }
}
