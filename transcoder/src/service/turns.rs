//! Whose turn it is, where several copies of the service have the same uploads and the same bucket, and no database in
//! common: each knows of every job, and only one does it.

use std::time::Duration;

use jiff::Timestamp;

use crate::jobs::{Job, JobId, Jobs, State, Step};
use crate::storage;
use crate::storage::claims::{Claim, Claims};

/// How long a copy that does not say anything any more keeps its turn, and how often it says that it is still there.
const TURN: Duration = Duration::from_mins(2);
const RENEW_EVERY: Duration = Duration::from_secs(30);

/// How long to let another copy work before looking again: it may be done long before its turn would be over.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(20);

/// How often, and after how long, others are told once more what became of a job.
const ATTEMPTS: u32 = 4;
const PAUSE: Duration = Duration::from_millis(250);

/// What a copy knows of others.
#[derive(Clone, Debug)]
pub struct Turns {
    claims: Claims,
    owner: String,
}

impl Turns {
    /// For a copy of this name, which no other one has.
    #[must_use]
    pub fn new(claims: Claims, owner: String) -> Self {
        Self { claims, owner }
    }

    /// Takes the turn. If it is not to be had: what follows for the job here.
    pub(super) async fn take(&self, jobs: &Jobs, job: &Job) -> Result<Option<Step>, Fault> {
        if jobs.is_retried(&job.id).await? {
            self.claims.reopen(&job.id).await?;
        }
        let now = Timestamp::now();
        let claim = self.claims.claim(&job.id, &self.owner, now, TURN).await?;
        Ok(follows(claim, now))
    }

    /// Keeps the turn; returns only if it was lost.
    pub(super) async fn keep(&self, id: &JobId) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.claims.renew(id, &self.owner, Timestamp::now(), TURN).await {
                Ok(true) => {}
                Ok(false) => return,
                // Nobody else can take it either, while the store is away.
                Err(error) => tracing::warn!("the claim to this job cannot be renewed: {error}"),
            }
        }
    }

    /// Tells the others what became of the job, before its own row does: the other way round, a process that dies
    /// between the two would leave a job that is done to be done by another copy.
    pub(super) async fn tell(&self, id: &JobId, step: &Step) {
        let state = match step {
            Step::Done => Some(State::Done),
            Step::Failed { .. } => Some(State::Failed),
            Step::Cancelled { .. } => Some(State::Cancelled),
            Step::Again { .. } | Step::Later { .. } => None,
            Step::Progress { .. } | Step::Outside(_) | Step::Refused { .. } => return,
        };
        // A put under a condition is not repeated by itself; and the others would wait until the turn is over.
        for attempt in 1..=ATTEMPTS {
            let told = match state {
                Some(state) => self.claims.finish(id, &self.owner, state.name()).await,
                None => self.claims.release(id, &self.owner).await,
            };
            match told {
                Ok(_) => return,
                Err(error) if attempt == ATTEMPTS => tracing::warn!(
                    "other copies of the service do not hear yet what became of this job: {error}"
                ),
                Err(_) => tokio::time::sleep(PAUSE * attempt).await,
            }
        }
    }
}

fn follows(claim: Claim, now: Timestamp) -> Option<Step> {
    match claim {
        Claim::Claimed => None,
        Claim::HeldUntil(time) => {
            let after =
                Duration::try_from(time.duration_since(now)).unwrap_or_default().clamp(SHORTEST, LONGEST);
            Some(Step::Later { after, reason: "another copy of the service does it".to_owned() })
        }
        Claim::Final(state) if state == State::Done.name() => Some(Step::Done),
        Claim::Final(state) if state == State::Cancelled.name() => {
            Some(Step::Cancelled { reason: "it was cancelled at another copy of the service".to_owned() })
        }
        Claim::Final(_) => Some(Step::Failed {
            reason: "another copy of the service gave it up, and knows why; retry it here or there"
                .to_owned(),
        }),
    }
}

/// Why nobody can say whose turn it is.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Jobs(#[from] crate::jobs::Error),
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_copy_does_is_looked_at_again_and_what_it_did_is_believed() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        assert!(follows(Claim::Claimed, now).is_none());
        let held = |seconds| Claim::HeldUntil(now + Duration::from_secs(seconds));
        for (seconds, expected) in [(90, 20), (9, 9), (1, 5), (0, 5)] {
            let Some(Step::Later { after, .. }) = follows(held(seconds), now) else { panic!("{seconds}") };
            assert_eq!(after.as_secs(), expected);
        }
        let ended = |state: &str| follows(Claim::Final(state.into()), now);
        assert!(matches!(ended("done"), Some(Step::Done)));
        assert!(matches!(ended("cancelled"), Some(Step::Cancelled { .. })));
        assert!(matches!(ended("failed"), Some(Step::Failed { .. })));
    }
}
