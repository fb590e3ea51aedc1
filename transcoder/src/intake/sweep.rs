//! Looks through the bucket for what no event told of: events are lost, queues are set up late, and Cloudflare drops
//! them above a rate.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::{Desk, Door, about, is_settled, pause};
use crate::service;
use crate::upload::Upload;

/// Names looked at, at once: each is a request or two.
const LOOKS_AT_ONCE: usize = 8;

/// Looks through everything, now and every so often.
pub async fn run(desk: &impl Desk, every: Duration) {
    let mut door = Door::new("sweep");
    let mut seen = Seen::default();
    loop {
        let time = match sweep(desk, &mut seen).await {
            Ok(()) => {
                door.works();
                about(every)
            }
            Err(error) => door.failed(&error),
        };
        if pause(desk.stop(), time).await {
            return;
        }
    }
}

async fn sweep(desk: &impl Desk, seen: &mut Seen) -> Result<(), String> {
    let survey = desk.uploads().survey().await.map_err(|error| error.to_string())?;
    for error in seen.new_ones(survey.refused.into_iter(), ToString::to_string) {
        tracing::warn!(door = "sweep", "{error}");
        if let Err(failure) = desk.refuse(&error).await {
            seen.forget(&error.to_string());
            return Err(failure.to_string());
        }
    }
    let new =
        seen.new_ones(survey.uploads.into_iter(), |upload| format!("{}\n{}", upload.name, upload.version));
    let looks = stream::iter(new).map(async |upload: Upload| match desk.look_at(&upload.name).await {
        Ok(()) => None,
        Err(service::Error::Upload(error)) if is_settled(&error) => {
            tracing::warn!(door = "sweep", "{error}");
            None
        }
        Err(error) => Some((upload, error.to_string())),
    });
    let failed: Vec<(Upload, String)> = looks
        .buffer_unordered(LOOKS_AT_ONCE)
        .take_until(desk.stop().cancelled())
        .filter_map(async |failed| failed)
        .collect()
        .await;
    for (upload, _) in &failed {
        seen.forget(&format!("{}\n{}", upload.name, upload.version));
    }
    failed.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

/// What was looked at since the process began, as hashes: a bucket may keep a million uploads, and a look is a request
/// that costs money.
#[derive(Default)]
struct Seen {
    hashes: HashSet<u64>,
    state: RandomState,
}

impl Seen {
    fn new_ones<T>(&mut self, all: impl Iterator<Item = T>, text: impl Fn(&T) -> String) -> Vec<T> {
        all.filter(|one| self.hashes.insert(self.state.hash_one(text(one)))).collect()
    }

    fn forget(&mut self, text: &str) {
        self.hashes.remove(&self.state.hash_one(text));
    }
}
