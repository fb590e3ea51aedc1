//! `transcoder serve`: everything that runs as long as the process does.
//!
//! ```text
//! folder, SQS, R2's queue, sweep, HTTP ─▶ look at a name ─▶ Jobs ─▶ workers ─▶ pipeline ─▶ Store
//! ```

mod outcome;
mod report;
pub mod turns;
pub mod workers;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use crate::asset::AssetId;
use crate::encoder::mediaconvert::MediaConvert;
use crate::encoder::{Encoder, Machine};
use crate::event::Event;
use crate::jobs::{Job, JobId, Jobs, Profile, Request, State, Step};
use crate::storage::claims::Claims;
use crate::storage::{self, Store};
use crate::upload::{self, Upload, Uploads};
use crate::{CancellationToken, Class};

/// What its parts share. Doors call [`Service::look_at`] and [`Service::hear`]; the API reads the rest.
#[derive(Clone, Debug)]
pub struct Service {
    /// All jobs.
    pub jobs: Jobs,
    /// Where uploads land.
    pub uploads: Uploads,
    /// Where assets are published.
    pub store: Store,
    /// How what lands is encoded where nobody asks for anything else.
    pub profile: Profile,
    /// Cancelled once the process is asked to end.
    pub stop: CancellationToken,
    /// The running jobs and how each is stopped.
    pub running: Arc<Running>,
}

/// What is being done at the moment, until nothing of it is left to be cleared away. Whoever takes a job, or cancels
/// one, holds the lock meanwhile, so that none is between waiting and running for the other.
#[derive(Debug, Default)]
pub struct Running {
    jobs: tokio::sync::Mutex<BTreeMap<JobId, Stop>>,
    elsewhere: Option<Elsewhere>,
}

/// MediaConvert, as it is set up.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// It.
    pub mediaconvert: Arc<MediaConvert>,
    /// Whether it can read uploads where they lie.
    pub reads_uploads: bool,
}

impl Running {
    /// Nothing yet, on these machines beside this one.
    #[must_use]
    pub fn with(elsewhere: Option<Elsewhere>) -> Self {
        Self { elsewhere, ..Self::default() }
    }

    /// Whether that encoder is set up.
    pub(crate) fn has(&self, encoder: Encoder) -> bool {
        encoder == Encoder::Ffmpeg || self.elsewhere.is_some()
    }
}

/// How a running job is stopped.
#[derive(Clone, Debug, Default)]
struct Stop {
    token: CancellationToken,
    why: Arc<std::sync::Mutex<Option<Why>>>,
}

/// Why a running job is stopped.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Why {
    /// The service ends.
    Ending,
    /// Another copy of the service does it.
    Lost,
    /// It takes too long.
    TooLong,
    /// Somebody does not want it any more.
    Unwanted,
}

impl Stop {
    /// The weightiest reason counts: what nobody wants is not taken up again after the service has ended.
    fn because(&self, why: Why) {
        let mut known = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        *known = (*known).max(Some(why));
        self.token.cancel();
    }

    fn why(&self) -> Option<Why> {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How something asked for by hand differs from what is usual.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// What to call it.
    pub asset: Option<AssetId>,
    /// How to encode it.
    pub profile: Option<Profile>,
    /// Before others.
    pub priority: i32,
    /// Who wants to hear of its end.
    pub webhook: Option<url::Url>,
}

impl Wishes {
    /// Whether what is made would be what is made anyway.
    fn are_usual(&self) -> bool {
        self.asset.is_none() && self.profile.is_none()
    }
}

impl Service {
    /// Somebody says that something lies by this name: if it does, there will be a job for it. The job, and whether it
    /// is new.
    ///
    /// Where nobody says how to encode it, any job of it will do: else a sweep would encode once more what somebody
    /// asked for in his own way, and everything that ever landed when the service's own way changes.
    pub async fn look_at(&self, name: &str, wishes: Wishes) -> Result<Option<(bool, Job)>, Error> {
        let Some(upload) = self.uploads.find(name).await? else { return Ok(None) };
        let uri = self.uploads.uri(name);
        if wishes.are_usual()
            && let Some(job) = self.jobs.of_upload(&uri, &upload).await?
        {
            return Ok(Some((false, job)));
        }
        let request = Request {
            uri,
            asset: wishes.asset.unwrap_or_else(|| upload::asset_of(name)),
            upload,
            profile: wishes.profile.unwrap_or_else(|| self.profile.clone()),
            priority: wishes.priority,
            webhook: wishes.webhook,
        };
        let (is_new, job) = self.jobs.submit(&request, Timestamp::now()).await?;
        if is_new {
            tracing::info!(job = %job.id, asset = %job.asset, upload = job.upload.name, "queued");
        }
        Ok(Some((is_new, job)))
    }

    /// What has a name that nothing is done by gets a job all the same, which says so and has failed: whoever uploaded it
    /// looks for it there.
    pub async fn refuse(&self, error: &upload::Error) -> Result<(), Error> {
        let upload::Error::Name { name, .. } = error else { return Ok(()) };
        let upload = Upload {
            name: name.clone(),
            version: "refused".to_owned(),
            bytes: 0,
            modified: Timestamp::UNIX_EPOCH,
        };
        let request = Request {
            uri: self.uploads.uri(name),
            asset: upload::asset_of(name),
            upload,
            profile: self.profile.clone(),
            priority: 0,
            webhook: None,
        };
        // Nobody takes it meanwhile.
        let _running = self.running.jobs.lock().await;
        let (is_new, job) = self.jobs.submit(&request, Timestamp::now()).await?;
        if is_new {
            let refused = Step::Refused { reason: error.to_string() };
            self.jobs.advance(&job.id, refused, Timestamp::now()).await?;
        }
        Ok(())
    }

    /// Acts on what a message says. Jobs that it led to, new or not. When this fails, the message is to be heard again.
    pub async fn hear(&self, events: Vec<Event>) -> Result<Vec<JobId>, Error> {
        let mut jobs = Vec::new();
        for event in events {
            match event {
                Event::Object { bucket, key } => match self.uploads.name_of(&bucket, &key) {
                    Some(name) => match self.look_at(name, Wishes::default()).await {
                        Ok(found) => jobs.extend(found.map(|(_, job)| job.id)),
                        // However often it is heard again, nothing else comes of it.
                        Err(Error::Upload(error)) if error.class() == Class::Source => {
                            tracing::warn!(bucket, "not encoded: {error}");
                            self.refuse(&error).await?;
                        }
                        Err(error) => return Err(error),
                    },
                    None => {
                        tracing::warn!(bucket, key, "an event of something that is not among the uploads");
                    }
                },
                // Its calls ask again by themselves; the word of it only saves the wait.
                Event::MediaConvert { job } => {
                    if let Some(elsewhere) = &self.running.elsewhere {
                        elsewhere.mediaconvert.hint(&job);
                    }
                }
                Event::Subscription { .. } => {
                    tracing::warn!(
                        "a topic asks to be confirmed where that cannot be done: let it post to /v1/events"
                    );
                }
                Event::Nothing(what) => tracing::debug!(what, "an event with nothing to do"),
            }
        }
        Ok(jobs)
    }

    /// Stops a job, here or wherever it is done, and takes back what it made. Whether there was one that could be.
    pub async fn cancel(&self, id: &JobId) -> Result<bool, Error> {
        let runs_here = self.running.jobs.lock().await.contains_key(id);
        let waits = self.jobs.find(id).await?.is_some_and(|job| !job.state.is_final());
        // Another copy of the service may be at it, or be the next to take it.
        if !runs_here
            && waits
            && let Some(claims) = self.claims()
            && !claims.end(id, State::Cancelled.name()).await?
            && !self.jobs.is_retried(id).await?
        {
            return Ok(false);
        }
        let running = self.running.jobs.lock().await;
        if let Some(stop) = running.get(id) {
            stop.because(Why::Unwanted);
            return Ok(self.jobs.find(id).await?.is_some_and(|job| !job.state.is_final()));
        }
        let cancelled = Step::Cancelled { reason: outcome::UNWANTED.to_owned() };
        Ok(self.jobs.advance(id, cancelled, Timestamp::now()).await?)
    }

    /// Claims to jobs, where other copies of the service may have the same ones: those that have their uploads from a
    /// folder are on one machine, where the folder is locked.
    pub(crate) fn claims(&self) -> Option<Claims> {
        Claims::new(&self.store).filter(|_| self.uploads.folder().is_none())
    }

    /// What does a job; nothing, where that is not set up.
    fn machine(&self, job: &Job) -> Option<Machine> {
        match job.profile.encoder {
            Encoder::Ffmpeg => Some(Machine::Ffmpeg),
            Encoder::MediaConvert => {
                let Elsewhere { mediaconvert, reads_uploads } = self.running.elsewhere.as_ref()?;
                let source = reads_uploads.then(|| job.uri.clone());
                Some(Machine::MediaConvert(mediaconvert.errand(&job.asset, &job.id.to_string(), source)))
            }
        }
    }
}

/// Why the service did not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Jobs(#[from] crate::jobs::Error),
    /// Uploads cannot be looked at.
    #[error(transparent)]
    Upload(#[from] crate::upload::Error),
    /// Other copies of the service cannot be told.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::Filter;
    use crate::plan::Options;
    use crate::storage::Access;

    #[tokio::test]
    async fn an_event_of_a_name_that_nothing_is_done_by_is_answered_by_a_failed_job() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let service = Service {
            jobs: Jobs::open(&folder.path().join("jobs.sqlite"), Timestamp::UNIX_EPOCH).await.unwrap(),
            uploads: Uploads::open("s3://uploads/in", &Access::default()).unwrap(),
            store: Store::open(&at("media"), &Access::default()).unwrap(),
            profile: Profile { encoder: Encoder::Ffmpeg, options: Options::default() },
            stop: CancellationToken::new(),
            running: Arc::default(),
        };
        for _ in 0..2 {
            let event = Event::Object { bucket: "uploads".into(), key: "in/../a.mp4".into() };
            assert_eq!(service.hear(vec![event]).await.unwrap(), []);
        }
        let jobs = service.jobs.list(&Filter { limit: 10, ..Filter::default() }).await.unwrap();
        let [job] = jobs.as_slice() else { panic!("{jobs:?}") };
        assert_eq!((job.state, job.attempts), (State::Failed, 0));
        assert!(job.reason.as_ref().unwrap().contains("`.` or `..` between slashes"), "{job:?}");
    }
}
