//! `transcoder gc`: removes encodes that nobody will play again.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

use crate::asset::{AssetId, Generation};
use crate::storage::{Access, Error, Store, Stored};

/// Remove old encodes from where they are published
///
/// Of each asset, the encode that is played stays, and with it the newest others to go back to, as many as `--keep`
/// says together. Everything else goes, parts of encodes that were never finished too, unless something was put there
/// lately: it may just be being published. Prints what is removed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  transcoder gc --to s3://media --dry-run
  transcoder gc --asset lesson-1 --keep 1 --older-than 7d --to ./media")]
pub struct Arguments {
    /// Only of this asset
    #[arg(long, value_name = "ID")]
    asset: Option<AssetId>,

    #[command(flatten)]
    rule: Rule,

    /// Only say what would be removed
    #[arg(long)]
    dry_run: bool,

    /// Where assets are published: a folder, `s3://BUCKET` or `s3://BUCKET/PREFIX`
    #[arg(long, env = "REELGATE_TO", value_name = "PLACE")]
    to: String,

    #[command(flatten)]
    access: Access,
}

/// What may go.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Rule {
    /// How many encodes of an asset stay, that which is played among them
    #[arg(long, env = "REELGATE_KEEP", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: u32,

    /// Nothing goes that anything was put to since then: 30m, 12h, 7d
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = duration)]
    pub older_than: Duration,
}

/// What went, of which asset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Removed {
    /// Which asset.
    pub asset: AssetId,
    /// What of it.
    pub stored: Stored,
}

/// Why `gc` failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store did not do it.
    #[error(transparent)]
    Storage(#[from] Error),
    /// The process could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

impl Arguments {
    /// Does what is asked for, and has what is for stdout.
    pub fn run(self) -> Result<String, Failure> {
        let store = Store::open(&self.to, &self.access)?;
        let runtime = tokio::runtime::Runtime::new()?;
        let removed = runtime.block_on(self.collect_all(&store, Timestamp::now()))?;
        let bytes: u64 = removed.iter().map(|one| one.stored.bytes).sum();
        let word = if self.dry_run { "would be removed" } else { "removed" };
        let mut lines: Vec<String> = removed
            .iter()
            .map(|Removed { asset, stored }| {
                let Stored { generation, objects, bytes, .. } = stored;
                format!(
                    "{} {word}: {objects} objects, {bytes} bytes",
                    store.key(&generation.folder_of(asset))
                )
            })
            .collect();
        lines.push(format!("{} generations {word}, {bytes} bytes", removed.len()));
        Ok(lines.join("\n"))
    }

    async fn collect_all(&self, store: &Store, now: Timestamp) -> Result<Vec<Removed>, Error> {
        let assets = match &self.asset {
            Some(asset) => vec![asset.clone()],
            None => store.asset_names().await?,
        };
        let mut removed = Vec::new();
        for asset in assets {
            removed.extend(collect(store, &asset, &self.rule, now, self.dry_run).await?);
        }
        Ok(removed)
    }
}

/// Removes of an asset what may go; with `is_rehearsal` only says what would.
pub async fn collect(
    store: &Store,
    asset: &AssetId,
    rule: &Rule,
    now: Timestamp,
    is_rehearsal: bool,
) -> Result<Vec<Removed>, Error> {
    let generations = store.generations(asset).await?;
    let played = store.played(asset).await?;
    let mut removed = Vec::new();
    for stored in expendable(generations, played.as_ref(), rule, now) {
        if !is_rehearsal {
            // Which does nothing to one that is played by now.
            store.discard(asset, &stored.generation).await?;
        }
        removed.push(Removed { asset: asset.clone(), stored });
    }
    Ok(removed)
}

/// Which of the generations of an asset, the oldest first, may go.
fn expendable(
    generations: Vec<Stored>,
    played: Option<&Generation>,
    rule: &Rule,
    now: Timestamp,
) -> Vec<Stored> {
    let others = generations.iter().rev().filter(|one| one.is_complete && Some(&one.generation) != played);
    let others = others.map(|one| one.generation.clone());
    let keep = usize::try_from(rule.keep).unwrap_or(usize::MAX);
    let kept: BTreeSet<Generation> = played.cloned().into_iter().chain(others).take(keep).collect();
    let age = |one: &Stored| now.duration_since(one.latest.max(one.generation.begun()));
    let is_old =
        |one: &Stored| age(one) >= SignedDuration::try_from(rule.older_than).unwrap_or(SignedDuration::MAX);
    generations.into_iter().filter(|one| !kept.contains(&one.generation) && is_old(one)).collect()
}

/// A time as jiff reads it: `90s`, `30m`, `12h`, `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<Span>().ok();
    let time = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    time.and_then(|time| time.try_into().ok()).ok_or_else(|| "write it as 90s, 30m, 12h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(hour: u32, is_complete: bool) -> Stored {
        let generation: Generation = format!("20261122t{hour:02}0000z-00000001").parse().unwrap();
        Stored { latest: generation.begun(), generation, is_complete, objects: 1, bytes: 1 }
    }

    #[test]
    fn what_is_played_stays_with_the_newest_others_and_whatever_is_recent() {
        let all =
            || vec![stored(1, true), stored(2, true), stored(3, false), stored(4, true), stored(9, false)];
        let goes = |played: Option<u32>, keep, now: &str| {
            let played = played.map(|hour| stored(hour, true).generation);
            let rule = Rule { keep, older_than: Duration::from_hours(1) };
            let now = format!("2026-11-22T{now}:00Z").parse().unwrap();
            let gone = expendable(all(), played.as_ref(), &rule, now);
            gone.iter().map(|one| one.generation.to_string()[9..11].parse().unwrap()).collect::<Vec<u32>>()
        };
        assert_eq!(goes(Some(4), 2, "09:59"), [1, 3]);
        assert_eq!(goes(Some(4), 2, "10:00"), [1, 3, 9]);
        assert_eq!(goes(Some(4), 1, "09:59"), [1, 2, 3]);
        assert_eq!(goes(Some(1), 1, "09:59"), [2, 3, 4]);
        assert_eq!(goes(Some(1), 2, "09:59"), [2, 3]);
        assert_eq!(goes(None, 1, "09:59"), [1, 2, 3]);
        assert_eq!(goes(Some(4), 9, "02:30"), Vec::<u32>::new());
    }

    #[test]
    fn what_was_put_lately_is_being_published_however_old_its_name_is() {
        let late = Stored { latest: "2026-11-22T09:30:00Z".parse().unwrap(), ..stored(1, false) };
        let rule = Rule { keep: 1, older_than: Duration::from_hours(1) };
        assert_eq!(expendable(vec![late], None, &rule, "2026-11-22T10:00:00Z".parse().unwrap()), []);
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("7d"), Ok(Duration::from_hours(168)));
        for bad in ["", "7", "d", "-1d", "1y", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
