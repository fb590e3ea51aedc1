//! Which of several copies of the service does a job, where they share a bucket and have no database in common.
//!
//! ```text
//! jobs/<id>.json    {"owner":"…","expires":"…"}    done by its owner until then
//!                   {"owner":"…","expires":"…","state":"done"}    done for good
//! ```
//!
//! Whoever puts that first has the job: every put is on the condition that the record still is what was read. A copy
//! that dies does not renew its claim, and another takes it over.
//!
//! Each copy goes by its own clock, so a claim is only taken over [`SKEW`] after it has expired. Clocks that differ by
//! more can lead to two copies doing the same work, which costs time and nothing else: what they publish is switched to
//! on conditions too.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Error, Found, MUTABLE, Store};
use crate::jobs::JobId;

/// How far the clocks of two copies may differ.
pub const SKEW: Duration = Duration::from_secs(30);

/// So often something may be put between this reading a record and putting it.
const RACES: u32 = 8;

/// Claims to jobs, in a store.
#[derive(Clone, Debug)]
pub struct Claims {
    store: Store,
}

/// What came of a claim.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It is the claimant's.
    Claimed,
    /// It is somebody else's; nobody can take it over before this.
    HeldUntil(Timestamp),
    /// It came to its end, and this is how.
    Final(String),
}

/// What is noted down of a job.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Record {
    owner: String,
    expires: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state: Option<String>,
}

impl Claims {
    /// Claims to jobs whose results are published to this store; none in a folder, which no other copy shares.
    #[must_use]
    pub fn new(store: &Store) -> Option<Self> {
        (!store.is_folder()).then(|| Self { store: store.clone() })
    }

    /// Claims a job for some time. Whoever has it already may claim it again, and so renews it.
    pub async fn claim(
        &self,
        id: &JobId,
        owner: &str,
        now: Timestamp,
        ttl: Duration,
    ) -> Result<Claim, Error> {
        for _ in 0..RACES {
            let (record, found) = self.read(id).await?;
            if let Some(refusal) = record.and_then(|record| record.refusal(owner, now)) {
                return Ok(refusal);
            }
            let record = Record { owner: owner.to_owned(), expires: after(now, ttl), state: None };
            if self.put(id, &record, found.as_ref()).await? {
                return Ok(Claim::Claimed);
            }
        }
        Ok(Claim::HeldUntil(after(now, SKEW)))
    }

    /// Keeps a job for some more time. Whether it still is the owner's: if not, somebody else does it.
    pub async fn renew(&self, id: &JobId, owner: &str, now: Timestamp, ttl: Duration) -> Result<bool, Error> {
        let expires = after(now, ttl);
        self.change(id, owner, |record| Record { expires, ..record }).await
    }

    /// Notes down how a job ended, so that nobody does it again. Whether it still was the owner's.
    pub async fn finish(&self, id: &JobId, owner: &str, state: &str) -> Result<bool, Error> {
        self.change(id, owner, |record| Record { state: Some(state.to_owned()), ..record }).await
    }

    /// Notes down how a job ended, whoever has it, and even if nobody has had it yet. Whether it had not ended already.
    pub async fn end(&self, id: &JobId, state: &str) -> Result<bool, Error> {
        for _ in 0..RACES {
            let (record, found) = self.read(id).await?;
            let record = record.unwrap_or_else(Record::of_nobody);
            if record.state.is_some() {
                return Ok(false);
            }
            let record = Record { state: Some(state.to_owned()), ..record };
            if self.put(id, &record, found.as_ref()).await? {
                return Ok(true);
            }
        }
        Err(Error::Record {
            key: key(id),
            place: self.store.place.to_string(),
            reason: "others change it all the time".to_owned(),
        })
    }

    /// Lets go of a job, so that anybody can have it at once. Whether it still was the owner's.
    pub async fn release(&self, id: &JobId, owner: &str) -> Result<bool, Error> {
        self.change(id, owner, |record| Record { expires: Timestamp::MIN, ..record }).await
    }

    /// Forgets how a job ended, so that it can be claimed again. Whether it had.
    pub async fn reopen(&self, id: &JobId) -> Result<bool, Error> {
        for _ in 0..RACES {
            let (Some(record), found) = self.read(id).await? else { return Ok(false) };
            if record.state.is_none() {
                return Ok(false);
            }
            let record = Record { state: None, expires: Timestamp::MIN, ..record };
            if self.put(id, &record, found.as_ref()).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn change(
        &self,
        id: &JobId,
        owner: &str,
        change: impl Fn(Record) -> Record,
    ) -> Result<bool, Error> {
        for _ in 0..RACES {
            let (Some(record), found) = self.read(id).await? else { return Ok(false) };
            if record.owner != owner || record.state.is_some() {
                return Ok(false);
            }
            if self.put(id, &change(record), found.as_ref()).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn read(&self, id: &JobId) -> Result<(Option<Record>, Option<Found>), Error> {
        let Some(found) = self.store.find(&key(id)).await? else { return Ok((None, None)) };
        let record = serde_json::from_slice(&found.bytes).map_err(|error| Error::Record {
            key: key(id),
            place: self.store.place.to_string(),
            reason: error.to_string(),
        })?;
        Ok((Some(record), Some(found)))
    }

    async fn put(&self, id: &JobId, record: &Record, before: Option<&Found>) -> Result<bool, Error> {
        let bytes = serde_json::to_vec(record).expect("it is plain data");
        self.store.put_if(&key(id), bytes, MUTABLE, before).await
    }
}

impl Record {
    fn of_nobody() -> Self {
        Self { owner: String::new(), expires: Timestamp::MIN, state: None }
    }

    /// Why somebody cannot have it now, if so.
    fn refusal(self, owner: &str, now: Timestamp) -> Option<Claim> {
        if let Some(state) = self.state {
            return Some(Claim::Final(state));
        }
        let free = after(self.expires, SKEW);
        (self.owner != owner && free > now).then_some(Claim::HeldUntil(free))
    }
}

fn key(id: &JobId) -> String {
    format!("jobs/{id}.json")
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::storage::Place;

    const MINUTE: Duration = Duration::from_mins(1);

    fn claims() -> Claims {
        let place = Place::Bucket { name: "media".into(), endpoint: None };
        Claims::new(&Store { objects: Arc::new(InMemory::new()), prefix: "films".into(), place }).unwrap()
    }

    fn id() -> JobId {
        "00112233445566778899aabbccddeeff".parse().unwrap()
    }

    fn at(time: &str) -> Timestamp {
        format!("2026-11-22T{time}Z").parse().unwrap()
    }

    #[tokio::test]
    async fn a_job_is_done_by_one_copy() {
        let claims = claims();
        let all = futures_util::future::join_all((0..20).map(async |copy: u32| {
            claims.claim(&id(), &copy.to_string(), at("10:00:00"), MINUTE).await.unwrap()
        }))
        .await;
        assert_eq!(all.iter().filter(|claim| **claim == Claim::Claimed).count(), 1, "{all:?}");
        let others = all.iter().filter(|claim| **claim == Claim::HeldUntil(at("10:01:30"))).count();
        assert_eq!(others, 19, "{all:?}");
    }

    #[tokio::test]
    async fn a_claim_is_taken_over_once_it_has_expired_by_anybodys_clock() {
        let claims = claims();
        let claim = async |owner, time| claims.claim(&id(), owner, at(time), MINUTE).await.unwrap();
        assert_eq!(claim("one", "10:00:00").await, Claim::Claimed);
        assert!(claims.renew(&id(), "one", at("10:00:30"), MINUTE).await.unwrap());
        assert_eq!(claim("other", "10:01:59").await, Claim::HeldUntil(at("10:02:00")));
        assert_eq!(claim("other", "10:02:00").await, Claim::Claimed);
        assert!(!claims.renew(&id(), "one", at("10:02:01"), MINUTE).await.unwrap());
        assert!(!claims.finish(&id(), "one", "done").await.unwrap());
        // A copy that was restarted goes on with its own.
        assert_eq!(claim("other", "10:02:10").await, Claim::Claimed);
    }

    #[tokio::test]
    async fn what_is_released_is_free_and_what_is_done_is_done_until_it_is_reopened() {
        let claims = claims();
        let claim = async |owner| claims.claim(&id(), owner, at("10:00:00"), MINUTE).await.unwrap();
        assert_eq!(claim("one").await, Claim::Claimed);
        assert!(claims.release(&id(), "one").await.unwrap());
        assert_eq!(claim("other").await, Claim::Claimed);
        assert!(!claims.release(&id(), "one").await.unwrap());
        assert!(claims.finish(&id(), "other", "done").await.unwrap());
        assert_eq!(claim("other").await, Claim::Final("done".into()));
        assert_eq!(claim("one").await, Claim::Final("done".into()));
        assert!(claims.reopen(&id()).await.unwrap());
        assert_eq!(claim("one").await, Claim::Claimed);
        assert!(!claims.reopen(&id()).await.unwrap());
    }

    #[tokio::test]
    async fn what_somebody_ended_is_nobodys_any_more_and_whoever_had_it_hears_of_it() {
        let claims = claims();
        assert!(claims.end(&id(), "cancelled").await.unwrap());
        assert!(!claims.end(&id(), "cancelled").await.unwrap());
        let claim = async |owner| claims.claim(&id(), owner, at("10:00:00"), MINUTE).await.unwrap();
        assert_eq!(claim("one").await, Claim::Final("cancelled".into()));
        assert!(claims.reopen(&id()).await.unwrap());
        assert_eq!(claim("one").await, Claim::Claimed);
        assert!(claims.end(&id(), "cancelled").await.unwrap());
        assert!(!claims.renew(&id(), "one", at("10:00:30"), MINUTE).await.unwrap());
        assert_eq!(claim("one").await, Claim::Final("cancelled".into()));
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_nobodys_claim() {
        let claims = claims();
        claims.store.put(&key(&id()), b"<html>".to_vec(), MUTABLE).await.unwrap();
        let error = claims.claim(&id(), "one", at("10:00:00"), MINUTE).await.unwrap_err();
        assert!(error.to_string().starts_with("jobs/00112233445566778899aabbccddeeff.json in bucket media"));
    }
}
