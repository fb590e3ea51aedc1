//! Does the jobs: as many at once as it is told, each in a folder of its own, which outlives the process.
//!
//! A folder goes after its job's row is final, so what a killed process left of a final job is found by it and cleared
//! away the next time ([`tidy`]); and what it left of one that is not final is what the next attempt goes on from.

use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use tracing::{Instrument, Span};

pub use super::outcome::Patience;
use super::outcome::{self, Outcome};
use super::report::{self, Reporter};
use super::turns::Turns;
use super::{Error, Service, Stop, Why};
use crate::jobs::{self, Job, JobId, State, Step};
use crate::metrics::Metrics;
use crate::package::Edition;
use crate::{Class, Work, asset, gc, work};

/// How long a job that became due may have to wait where nobody woke us: another process may have retried it.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a database that fails is left alone.
const REST: Duration = Duration::from_secs(5);

/// Room on the disk that a job needs, in sizes of its upload: all renditions once as the encoder left them and once as
/// they are published, beside the source where it was fetched.
const ROOM: u64 = 3;

/// What was put into the store more lately than this may be part of an encode that somebody is just publishing.
const UNFINISHED: Duration = Duration::from_hours(24);

/// How jobs are done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where their folders are.
    pub data: PathBuf,
    /// How many at once.
    pub at_once: usize,
    /// How failed attempts are repeated.
    pub patience: Patience,
    /// How long an attempt may take.
    pub longest: Duration,
    /// How long running ones may take to stop when the service ends.
    pub grace: Duration,
    /// How many encodes of an asset stay, if not all.
    pub keep: Option<u32>,
    /// What is known of other copies of the service, if there may be any.
    pub turns: Option<Turns>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Settings {
    fn folder(&self, id: &JobId) -> PathBuf {
        self.data.join("work").join(id.to_string())
    }
}

/// Does jobs until the service ends, and stops those that run then: they go on when it is started again.
pub async fn run(service: Service, settings: Settings) {
    let mut tasks = JoinSet::new();
    let broom = tokio::spawn(sweep_up(service.clone(), settings.clone()));
    while !service.stop.is_cancelled() {
        let taken = if tasks.len() < settings.at_once { take(&service).await } else { Ok(None) };
        match taken {
            Ok(Some((job, stop))) => {
                let span = tracing::info_span!("job", id = %job.id, asset = %job.asset);
                tasks.spawn(finish(service.clone(), settings.clone(), job, stop).instrument(span));
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!("no job can be taken: {error}");
                sleep(&service, REST).await;
            }
        }
        let is_full = tasks.len() >= settings.at_once;
        tokio::select! {
            () = service.stop.cancelled() => {}
            Some(_) = tasks.join_next() => {}
            () = service.jobs.queued(), if !is_full => {}
            () = tokio::time::sleep(LOOK_EVERY), if !is_full => {}
        }
    }
    for stop in service.running.jobs.lock().await.values() {
        stop.because(Why::Ending);
    }
    let ended = tokio::time::timeout(settings.grace, async { while tasks.join_next().await.is_some() {} });
    if ended.await.is_err() {
        tracing::warn!("{} jobs did not stop in time and were cut off", tasks.len());
        tasks.shutdown().await;
        for id in std::mem::take(&mut *service.running.jobs.lock().await).into_keys() {
            let reason = "the service was stopped; it goes on from where it was".to_owned();
            settle(&service, &id, &Step::Later { after: Duration::ZERO, reason }).await;
        }
    }
    broom.abort();
}

/// Takes the next job that is due.
async fn take(service: &Service) -> Result<Option<(Job, Stop)>, Error> {
    let mut running = service.running.jobs.lock().await;
    let Some(job) = service.jobs.next(Timestamp::now()).await? else { return Ok(None) };
    match running.entry(job.id.clone()) {
        Entry::Vacant(entry) => Ok(Some((job, entry.insert(Stop::default()).clone()))),
        // It was retried so soon that its last attempt is not cleared away yet.
        Entry::Occupied(_) => {
            let later = Step::Later { after: LOOK_EVERY, reason: job.reason.unwrap_or_default() };
            service.jobs.advance(&job.id, later, Timestamp::now()).await?;
            Ok(None)
        }
    }
}

/// Makes an attempt, writes down what came of it, and clears away what is not needed any more.
async fn finish(service: Service, settings: Settings, job: Job, stop: Stop) {
    tracing::info!(attempt = job.attempts, upload = job.upload.name, "begun");
    // On a thread of its own: what a pipeline borrows while it waits cannot be shown to be fit for changing threads, and
    // there are few jobs at once. A fault in it ends the thread, and nothing else.
    let thread = tokio::task::spawn_blocking({
        let (service, settings, job, stop) = (service.clone(), settings.clone(), job.clone(), stop.clone());
        let (runtime, span) = (Handle::current(), Span::current());
        move || runtime.block_on(watched(&service, &settings, &job, &stop).instrument(span))
    });
    let outcome = match thread.await {
        Ok(outcome) => outcome,
        Err(fault) => Outcome::Fault(match fault.try_into_panic() {
            Ok(panic) => words(panic.as_ref()),
            Err(fault) => fault.to_string(),
        }),
    };
    if let Outcome::Failed(class, _) = &outcome {
        settings.metrics.failed(*class);
    }
    let is_ours = !matches!(outcome, Outcome::Elsewhere(_));
    let next = outcome::step(
        outcome,
        stop.why(),
        job.attempts,
        &settings.patience,
        settings.longest,
        asset::chance(),
    );
    match &next {
        Step::Done => tracing::info!("done"),
        Step::Again { after, reason } => {
            tracing::warn!("{reason}; again in {:.0} s", after.as_secs_f64());
        }
        Step::Later { reason, .. } => tracing::warn!("{reason}"),
        Step::Cancelled { reason } => tracing::info!("cancelled: {reason}"),
        Step::Failed { reason } => tracing::error!("given up: {reason}"),
        Step::Progress { .. } | Step::Outside(_) | Step::Refused { .. } => {}
    }
    if is_ours && let Some(turns) = &settings.turns {
        turns.tell(&job.id, &next).await;
    }
    if is_ours && matches!(next, Step::Done) {
        collect(&service, &settings, &job).await;
    }
    let is_settled = settle(&service, &job.id, &next).await;
    // Of what another copy did, there may be something here that was begun before it took over.
    let is_vain = match next {
        Step::Done => !is_ours,
        _ => matches!(next, Step::Failed { .. } | Step::Cancelled { .. }),
    };
    if is_settled && is_vain {
        discard(&service, &job).await;
    }
    if is_settled && matches!(next, Step::Done | Step::Failed { .. } | Step::Cancelled { .. }) {
        remove(&settings.folder(&job.id)).await;
    }
    service.running.jobs.lock().await.remove(&job.id);
}

/// Makes an attempt, which is stopped when it takes too long or another copy of the service has taken the job over, and
/// says how far it is.
async fn watched(service: &Service, settings: &Settings, job: &Job, stop: &Stop) -> Outcome {
    let limit = async {
        tokio::time::sleep(settings.longest).await;
        stop.because(Why::TooLong);
        std::future::pending::<()>().await;
    };
    let turn = async {
        if let Some(turns) = &settings.turns {
            turns.keep(&job.id).await;
            stop.because(Why::Lost);
        }
        std::future::pending::<()>().await;
    };
    let (reporter, heard) = Reporter::new();
    tokio::select! {
        outcome = attempt(service, settings, job, stop, &reporter) => outcome,
        () = report::write(heard, &service.jobs, &job.id) => unreachable!("the reporter is still there"),
        () = limit => unreachable!("it only stops the attempt"),
        () = turn => unreachable!("it only stops the attempt"),
    }
}

/// Writes down what becomes of a job, however long the database takes to accept that: a full disk becomes less full.
/// If the service ends before, the row says that the job runs, and the next start goes on with it.
async fn settle(service: &Service, id: &JobId, step: &Step) -> bool {
    loop {
        match service.jobs.advance(id, step.clone(), Timestamp::now()).await {
            Ok(_) => return true,
            Err(error) => tracing::error!("cannot write down what became of job {id}: {error}"),
        }
        if service.stop.is_cancelled() {
            return false;
        }
        sleep(service, REST).await;
    }
}

async fn sleep(service: &Service, time: Duration) {
    tokio::select! {
        () = service.stop.cancelled() => {}
        () = tokio::time::sleep(time) => {}
    }
}

async fn attempt(
    service: &Service,
    settings: &Settings,
    job: &Job,
    stop: &Stop,
    reporter: &Reporter,
) -> Outcome {
    if let Some(turns) = &settings.turns {
        match turns.take(&service.jobs, job).await {
            Ok(None) => {}
            Ok(Some(next)) => return Outcome::Elsewhere(next),
            Err(error) => return Outcome::Failed(Class::Busy, error.to_string()),
        }
    }
    // By a copy that died before it could say so, or before a database was lost.
    match service.store.played_of(&job.asset, &job.id.to_string()).await {
        Ok(Some(generation)) if Some(&generation) != job.generation.as_ref() => {
            tracing::info!(%generation, "published already");
            if let Some(turns) = &settings.turns {
                turns.tell(&job.id, &Step::Done).await;
            }
            return Outcome::Elsewhere(Step::Done);
        }
        Ok(_) => {}
        Err(error) => return Outcome::Failed(error.class(), error.to_string()),
    }
    let folder = settings.folder(&job.id);
    let input = folder.join("input");
    if let Err(error) = tokio::fs::create_dir_all(&input).await {
        return of_disk(&input, &error);
    }
    if let Some(outcome) = lacks_room(&settings.data, job.upload.bytes) {
        return outcome;
    }
    let input = match service.uploads.fetch(&job.upload, &input, &stop.token).await {
        Ok(input) => input,
        Err(error) => return Outcome::Failed(error.class(), error.to_string()),
    };
    let Some(generation) = job.generation.clone() else {
        return Outcome::Fault("a job was begun without a generation".to_owned());
    };
    // A reader of the reason knows what was uploaded, not where it lies here.
    let path = input.display().to_string();
    let work = Work {
        folder,
        edition: Edition { asset: job.asset.clone(), created: generation.begun(), generation },
        uploaded: Some(job.upload.modified),
        by: Some(job.id.to_string()),
    };
    let Some(encoder) = service.machine(job) else {
        let reason =
            "this service has no MediaConvert: set --mediaconvert-role and --mediaconvert-bucket".to_owned();
        return Outcome::Failed(Class::Settings, reason);
    };
    let encode =
        crate::Job { input, asset: job.asset.clone(), encoder, options: job.profile.options.clone() };
    match crate::go_on(&encode, &work, &service.store, reporter, &stop.token).await {
        Ok(published) => {
            tracing::info!(playlist = published.playlist, generation = %published.generation, "published");
            Outcome::Done
        }
        Err(error) => Outcome::Failed(error.class(), error.to_string().replace(&path, &job.upload.name)),
    }
}

fn of_disk(path: &Path, error: &io::Error) -> Outcome {
    let class = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Class::Full,
        _ => Class::Settings,
    };
    Outcome::Failed(class, format!("{} cannot be written to ({error}): check --data", path.display()))
}

/// What comes of there being too little room on the disk, if there is.
fn lacks_room(data: &Path, bytes: u64) -> Option<Outcome> {
    let free = work::free(data).ok()?;
    let needed = bytes.saturating_mul(ROOM);
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    (free < needed).then(|| {
        Outcome::Failed(
            Class::Full,
            format!(
                "waits for room: this needs about {} MB in {}, where {} MB are free",
                megabytes(needed),
                data.display(),
                megabytes(free)
            ),
        )
    })
}

/// What a panic said.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it did not say why".to_owned())
}

/// Stops what goes on elsewhere for something that will not be published, and removes what was put into the store of it.
async fn discard(service: &Service, job: &Job) {
    if let Some(machine) = service.machine(job)
        && let Err(error) = machine.abandon().await
    {
        tracing::warn!("what was made of it elsewhere is left there: {error}");
    }
    if let Some(generation) = &job.generation
        && let Err(error) = service.store.discard(&job.asset, generation).await
    {
        tracing::warn!("what was put of it is left in the store, for `transcoder gc`: {error}");
    }
}

/// Removes encodes of an asset that are too many now.
async fn collect(service: &Service, settings: &Settings, job: &Job) {
    let Some(keep) = settings.keep else { return };
    let rule = gc::Rule { keep, older_than: UNFINISHED };
    if let Err(error) = gc::collect(&service.store, &job.asset, &rule, Timestamp::now(), false).await {
        tracing::warn!("older encodes are left in the store, for `transcoder gc`: {error}");
    }
}

async fn remove(folder: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(folder).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{} is left: {error}", folder.display());
    }
}

/// Clears away what is left of jobs that became final without being run: cancelled between two attempts.
async fn sweep_up(service: Service, settings: Settings) {
    let mut changes = service.jobs.changes();
    loop {
        let cleared = match changes.recv().await {
            Ok(job) if job.state.is_final() => clear_waiting(&service, &settings, &job.id).await,
            Ok(_) => Ok(()),
            Err(RecvError::Lagged(_)) => tidy(&service, &settings).await.map(drop),
            Err(RecvError::Closed) => return,
        };
        if let Err(error) = cleared {
            tracing::warn!("{error}");
        }
    }
}

/// Clears away what is left of a final job that does not run.
async fn clear_waiting(service: &Service, settings: &Settings, id: &JobId) -> Result<(), jobs::Error> {
    let folder = settings.folder(id);
    let is_left = async || folder.exists() && !service.running.jobs.lock().await.contains_key(id);
    if !is_left().await {
        return Ok(());
    }
    match service.jobs.find(id).await? {
        Some(job) if !job.state.is_final() => return Ok(()),
        // A retry is of another generation.
        Some(job) if job.state != State::Done => discard(service, &job).await,
        _ => {}
    }
    // Nobody takes it up again while this is held.
    let running = service.running.jobs.lock().await;
    let is_wanted = service.jobs.find(id).await?.is_some_and(|job| !job.state.is_final());
    if !is_wanted && !running.contains_key(id) {
        remove(&folder).await;
    }
    Ok(())
}

/// Clears away what an earlier process left of jobs that are final, or that are not known. Says how many.
pub async fn tidy(service: &Service, settings: &Settings) -> Result<usize, jobs::Error> {
    let Ok(mut folders) = tokio::fs::read_dir(settings.data.join("work")).await else { return Ok(0) };
    let mut cleared = 0;
    while let Ok(Some(folder)) = folders.next_entry().await {
        // What is not called as a job is not ours.
        let Some(id) = folder.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        clear_waiting(service, settings, &id).await?;
        cleared += usize::from(!folder.path().exists());
    }
    Ok(cleared)
}
