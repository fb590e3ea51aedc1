//! `transcoder retry`: dead letters are delivered once more.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::jobs::{self, Filter, JobId, Jobs, State};
use crate::serve;

/// Try failed jobs of the service again
///
/// A job that failed stays as it is, with the reason, until somebody has changed what was wrong and says so here (or with
/// `POST /v1/jobs/ID/retry`). Then it is queued as if it were new; a service that is running takes it up within a second,
/// any other one when it starts. Cancelled jobs can be retried too, one by one. Prints what it did.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  transcoder retry --all
  transcoder retry 0c1d2e3f405162738495a6b7c8d9eafb --data /var/lib/reelgate")]
pub struct Arguments {
    /// Which, by their ids; without any, those that failed are listed
    #[arg(value_name = "JOB")]
    jobs: Vec<JobId>,

    /// All that failed
    #[arg(long, conflicts_with = "jobs")]
    all: bool,

    /// The service's folder
    #[arg(long, env = "REELGATE_DATA", value_name = "DIR", default_value = serve::DATA)]
    data: PathBuf,
}

/// Why nothing was retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no database.
    #[error("{} is no folder of a service: name that of `transcoder serve` with --data", .0.display())]
    NoService(PathBuf),
    /// There is, but it failed.
    #[error(transparent)]
    Jobs(#[from] jobs::Error),
    /// There is no such job, or it has not failed.
    #[error("job {0} is not known, or did not fail")]
    NotFailed(JobId),
    /// The process could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

impl Arguments {
    /// Does what is asked for, and says so.
    pub fn run(self) -> Result<String, Error> {
        let path = self.data.join(serve::DATABASE);
        // It would be made.
        if !path.is_file() {
            return Err(Error::NoService(self.data));
        }
        tokio::runtime::Runtime::new()?.block_on(async {
            let jobs = Jobs::attach(&path).await?;
            let wanted = if self.all {
                failed(&jobs).await?.into_iter().map(|job| job.id).collect()
            } else {
                self.jobs
            };
            if wanted.is_empty() {
                return Ok(list(&failed(&jobs).await?));
            }
            for id in &wanted {
                if !jobs.retry(id, Timestamp::now()).await? && !self.all {
                    return Err(Error::NotFailed(id.clone()));
                }
            }
            Ok(match wanted.len() {
                1 => "1 job is queued again".to_owned(),
                count => format!("{count} jobs are queued again"),
            })
        })
    }
}

async fn failed(jobs: &Jobs) -> Result<Vec<jobs::Job>, jobs::Error> {
    let mut failed: Vec<jobs::Job> = Vec::new();
    loop {
        let before = failed.last().map(|job| job.id.clone());
        let filter = Filter { states: vec![State::Failed], before, limit: u32::MAX, asset: None };
        let page = jobs.list(&filter).await?;
        if page.is_empty() {
            return Ok(failed);
        }
        failed.extend(page);
    }
}

fn list(failed: &[jobs::Job]) -> String {
    if failed.is_empty() {
        return "no job failed".to_owned();
    }
    let lines = failed.iter().map(|job| {
        // A name may have anything in it that a file's name may.
        let name = job.upload.name.escape_debug();
        format!("{} {name}: {}", job.id, job.reason.as_deref().unwrap_or("no reason was left"))
    });
    lines.collect::<Vec<_>>().join("\n")
}
