//! The jobs that are to be done, are being done, and were: rows of one `SQLite` file.
//!
//! A job's id is derived from what is encoded and how, and is the row's key: however often and by whichever door
//! somebody asks for it, it is one job. Every change is one statement that names the states it may come from, so
//! nothing leaves a final state but by [`Jobs::retry`], whoever else is at work on the same file. What is asked for is
//! on the disk before this says so (WAL with `synchronous=FULL`, <https://www.sqlite.org/pragma.html#pragma_synchronous>).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Connection, FromRow, Row};
use tokio::sync::{Notify, broadcast};
use tokio::time::sleep;

use crate::asset::{self, AssetId, Generation, hexadecimal};
use crate::encoder::Encoder;
use crate::plan::Options;
use crate::upload::Upload;

/// A job under which the process dies so often is what it dies of.
pub const CRASHES: u32 = 3;

/// The most jobs of one page.
const PAGE: u32 = 500;

/// At most so many speak to the database at once.
const CONNECTIONS: u32 = 4;

/// How long another process may hold the file.
const BUSY_TIME: Duration = Duration::from_secs(30);
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// Changes that somebody slow may be behind.
const CHANGES_AT_ONCE: usize = 1_024;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!();

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the upload lies, as [`crate::upload::Uploads::uri`] says.
    pub uri: String,
    /// What is to be encoded.
    pub upload: Upload,
    /// What it will be called.
    pub asset: AssetId,
    /// How.
    pub profile: Profile,
    /// Higher ones first; 0 is usual.
    pub priority: i32,
    /// Who wants to hear of its end, beside whom the service tells anyway.
    pub webhook: Option<url::Url>,
}

/// How something is encoded: part of a job's id.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Profile {
    /// By what.
    pub encoder: Encoder,
    /// Into what.
    pub options: Options,
}

impl Profile {
    /// As it is part of a job's id: without what is as usual, so that an option that a later version brings changes no
    /// id of those before it.
    fn essence(&self) -> Value {
        let fields = |options: &Options| -> BTreeMap<String, Value> {
            let options = serde_json::to_value(options).and_then(serde_json::from_value);
            options.expect("options are an object of plain data")
        };
        let usual = fields(&Options::default());
        let mut options = fields(&self.options);
        options.retain(|name, value| usual.get(name) != Some(value));
        json!([self.encoder, options])
    }
}

/// 16 bytes of the SHA-256 of uri, version, second, asset and profile, in hexadecimal. The second in which it was put
/// there, because the same bytes may be put there again after others were; and no finer, because buckets are not.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct JobId(String);

impl JobId {
    /// The id of a request.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let Request { uri, upload, asset, profile, .. } = request;
        let second = upload.modified.as_second();
        let essence = json!([uri, upload.version, second, asset, profile.essence()]).to_string();
        let hash = Sha256::digest(essence);
        Self(hexadecimal(&hash[..16]))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(is_digit) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidJobId)
        }
    }
}

/// Not a job's id.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a job's id is 32 hexadecimal digits")]
pub struct InvalidJobId;

/// How far a job is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobState)]
pub enum State {
    /// It waits for its turn, or for its next attempt.
    Queued,
    /// Its source is fetched and looked at.
    Probing,
    /// It is encoded and packaged.
    Encoding,
    /// It is put into the store.
    Publishing,
    /// It can be played.
    Done,
    /// It is given up: a dead letter, until somebody retries it.
    Failed,
    /// Somebody stopped it, or something newer took its place.
    Cancelled,
}

impl State {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::Probing,
        Self::Encoding,
        Self::Publishing,
        Self::Done,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Probing => "probing",
            Self::Encoding => "encoding",
            Self::Publishing => "publishing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// A job and all that is known of it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Where its source lies.
    pub uri: String,
    /// Its source.
    pub upload: Upload,
    /// What it will be called.
    pub asset: AssetId,
    /// How it is made.
    pub profile: Profile,
    /// Higher ones first.
    pub priority: i32,
    /// How far it is.
    pub state: State,
    /// Percent of its present state that are done, while it is encoding or publishing.
    pub percent: Option<f64>,
    /// How long that will take, by how long it took so far.
    pub seconds_left: Option<f64>,
    /// How often it was begun.
    pub attempts: u32,
    /// Not to be begun before.
    pub not_before: Timestamp,
    /// What went wrong at last, in words; or why it was cancelled.
    pub reason: Option<String>,
    /// When it was asked for.
    pub created: Timestamp,
    /// When anything of it last changed.
    pub updated: Timestamp,
    /// The encode that it makes, once begun.
    pub generation: Option<Generation>,
    /// The job of an outside encoder, once there is one.
    pub outside: Option<String>,
    /// Who wants to hear of its end.
    pub webhook: Option<url::Url>,
}

/// Which jobs somebody wants to see: the newest first, a page at a time.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only these states; all if there are none.
    pub states: Vec<State>,
    /// Only those of this asset.
    pub asset: Option<AssetId>,
    /// Only those that were created before this one.
    pub before: Option<JobId>,
    /// How many; at most 500.
    pub limit: u32,
}

/// The rows.
#[derive(Clone, Debug)]
pub struct Jobs {
    pool: SqlitePool,
    path: Arc<str>,
    changes: broadcast::Sender<Job>,
    queued: Arc<Notify>,
}

impl Jobs {
    /// Opens the file, which is made if it is not there, and brings it up to date. Jobs that were running when the
    /// last process ended are queued again; the file has to be this process's own.
    pub async fn open(path: &Path, now: Timestamp) -> Result<Self, Error> {
        let jobs = Self::attach(path).await?;
        jobs.recover(CRASHES, now).await?;
        Ok(jobs)
    }

    /// Opens the file beside a process that is at work on it.
    pub async fn attach(path: &Path) -> Result<Self, Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIME)
            .foreign_keys(true);
        let name: Arc<str> = path.display().to_string().into();
        let failed = |error| Error { path: name.to_string(), error };
        // When the disk is full SQLite itself ends a transaction, and a connection that goes on to believe that it is in
        // one never begins another.
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
        let begun = Instant::now();
        let pool = loop {
            match pool.clone().connect_with(options.clone()).await {
                // Whatever the time-out, SQLite does not wait for another process that turns WAL on in a new file.
                Err(error) if is_busy(&error) && begun.elapsed() < BUSY_TIME => sleep(BUSY_PAUSE).await,
                opened => break opened.map_err(failed)?,
            }
        };
        // In one transaction: two processes that open a new file at once would both make its tables.
        let migrated = async {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
            // What `run` calls, which takes any connection and so cannot be shown to be fit for changing threads.
            MIGRATIONS.run_direct(None, &mut *transaction, false).await?;
            transaction.commit().await
        };
        migrated.await.map_err(failed)?;
        Ok(Self { pool, path: name, changes: broadcast::channel(CHANGES_AT_ONCE).0, queued: Arc::default() })
    }

    /// Queues again what was running when the last process ended, and gives up what it ended under so often. Does
    /// nothing to jobs that this process runs only if it runs none.
    pub async fn recover(&self, crashes: u32, now: Timestamp) -> Result<(), Error> {
        let rows = sqlx::query(
            "UPDATE jobs SET crashes = crashes + 1, percent = NULL, seconds_left = NULL, updated = ?1,
                 state = CASE WHEN crashes + 1 >= ?2 THEN 'failed' ELSE 'queued' END,
                 reason = CASE WHEN crashes + 1 >= ?2
                     THEN 'the service died ' || (crashes + 1) || ' times while doing this; if it was stopped by hand, \
                           or the machine was, retry it'
                     ELSE 'the service ended while doing this; it goes on from where it was' END
             WHERE state IN ('probing', 'encoding', 'publishing') RETURNING *",
        );
        self.changed(rows.bind(nanoseconds(now)).bind(crashes).fetch_all(self.pool()).await)?;
        Ok(())
    }

    /// For what else is kept in the same file.
    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Asks for a job. Whether it is new, and the job. Queued ones of the same upload's name that are older are
    /// cancelled in its favour.
    pub async fn submit(&self, request: &Request, now: Timestamp) -> Result<(bool, Job), Error> {
        let id = JobId::of(request);
        let Request { uri, upload, asset, profile, priority, webhook } = request;
        let submitted = async {
            let mut transaction = self.pool().begin_with("BEGIN IMMEDIATE").await?;
            let new = sqlx::query(
                "INSERT INTO jobs (id, uri, name, version, bytes, modified, asset, profile, priority, state,
                     not_before, created, updated, webhook)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?10, ?10, ?10, ?11)
                 ON CONFLICT (id) DO NOTHING RETURNING *",
            );
            let new = new
                .bind(&id.0)
                .bind(uri)
                .bind(&upload.name)
                .bind(&upload.version)
                .bind(i64::try_from(upload.bytes).unwrap_or(i64::MAX))
                .bind(nanoseconds(upload.modified))
                .bind(asset.to_string())
                .bind(json!(profile).to_string())
                .bind(priority)
                .bind(nanoseconds(now))
                .bind(webhook.as_ref().map(url::Url::as_str));
            let Some(new) = new.fetch_optional(&mut *transaction).await? else {
                let known = sqlx::query("SELECT * FROM jobs WHERE id = ?").bind(&id.0);
                return Ok((false, known.fetch_one(&mut *transaction).await?, Vec::new()));
            };
            let replaced = sqlx::query(
                "UPDATE jobs SET state = 'cancelled', updated = ?2, reason = 'a newer upload took its place'
                 WHERE uri = ?1 AND state = 'queued' AND id <> ?3 AND modified < ?4 RETURNING *",
            );
            let replaced = replaced.bind(uri).bind(nanoseconds(now)).bind(&id.0);
            let replaced = replaced.bind(nanoseconds(upload.modified)).fetch_all(&mut *transaction).await?;
            transaction.commit().await?;
            Ok((true, new, replaced))
        };
        let (is_new, row, replaced) = submitted.await.map_err(|error| self.failed(error))?;
        let job = self.read(&row)?;
        if is_new {
            self.changed(Ok(replaced))?;
            self.changed(Ok(vec![row]))?;
        }
        Ok((is_new, job))
    }

    /// Whatever job there is of an upload as it is now, the newest of them; however it is encoded.
    pub async fn of_upload(&self, uri: &str, upload: &Upload) -> Result<Option<Job>, Error> {
        let second = Timestamp::from_second(upload.modified.as_second()).unwrap_or(upload.modified);
        let found = sqlx::query(
            "SELECT * FROM jobs WHERE uri = ? AND version = ? AND modified BETWEEN ?3 AND ?3 + 999999999
             ORDER BY created DESC, rowid DESC LIMIT 1",
        );
        let found = found.bind(uri).bind(&upload.version).bind(nanoseconds(second));
        let found = found.fetch_optional(self.pool()).await;
        found.map_err(|error| self.failed(error))?.map(|row| self.read(&row)).transpose()
    }

    /// Takes the next job that is due (priority, then age), of which no other of its asset is running, and marks it as
    /// probing, with one more attempt and, unless it has one, a generation.
    pub async fn next(&self, now: Timestamp) -> Result<Option<Job>, Error> {
        let taken = sqlx::query(
            "UPDATE jobs SET state = 'probing', attempts = attempts + 1, generation = coalesce(generation, ?1),
                 percent = NULL, seconds_left = NULL, updated = ?2
             WHERE state = 'queued' AND id = (
                 SELECT id FROM jobs AS due
                 WHERE state = 'queued' AND not_before <= ?2 AND NOT EXISTS (
                     SELECT 1 FROM jobs AS other
                     WHERE other.asset = due.asset AND other.state IN ('probing', 'encoding', 'publishing'))
                 ORDER BY priority DESC, created, rowid LIMIT 1)
             RETURNING *",
        );
        let generation = Generation::new(now, asset::nonce()).to_string();
        let taken = taken.bind(generation).bind(nanoseconds(now)).fetch_all(self.pool()).await;
        Ok(self.changed(taken)?.pop())
    }

    /// How a running job goes on. Does nothing to one in a final state, and says so. One that waits can be cancelled.
    pub async fn advance(&self, id: &JobId, step: Step, now: Timestamp) -> Result<bool, Error> {
        let query = match step {
            // Reports come late, so none leads back.
            Step::Progress { state, percent, seconds_left } => sqlx::query(
                "UPDATE jobs SET state = ?3, percent = ?4, seconds_left = ?5, updated = ?2
                 WHERE id = ?1 AND (
                     (?3 = 'probing' AND state = 'probing') OR
                     (?3 = 'encoding' AND state IN ('probing', 'encoding')) OR
                     (?3 = 'publishing' AND state IN ('probing', 'encoding', 'publishing')))
                 RETURNING *",
            )
            .bind(&id.0)
            .bind(nanoseconds(now))
            .bind(state.name())
            .bind(percent)
            .bind(seconds_left),
            Step::Outside(name) => sqlx::query(
                "UPDATE jobs SET outside = ?3, updated = ?2
                 WHERE id = ?1 AND state IN ('probing', 'encoding', 'publishing') RETURNING *",
            )
            .bind(&id.0)
            .bind(nanoseconds(now))
            .bind(name),
            Step::Done => sqlx::query(
                "UPDATE jobs SET state = 'done', retried = 0, percent = NULL, seconds_left = NULL, reason = NULL, updated = ?2
                 WHERE id = ?1 AND state IN ('probing', 'encoding', 'publishing') RETURNING *",
            )
            .bind(&id.0)
            .bind(nanoseconds(now)),
            Step::Again { after, reason } => waiting(id, 0, after, reason, now),
            Step::Later { after, reason } => waiting(id, 1, after, reason, now),
            Step::Failed { reason } => sqlx::query(
                "UPDATE jobs SET state = 'failed', retried = 0, percent = NULL, seconds_left = NULL, reason = ?3, updated = ?2
                 WHERE id = ?1 AND state IN ('probing', 'encoding', 'publishing') RETURNING *",
            )
            .bind(&id.0)
            .bind(nanoseconds(now))
            .bind(reason),
            Step::Refused { reason } => sqlx::query(
                "UPDATE jobs SET state = 'failed', reason = ?3, updated = ?2
                 WHERE id = ?1 AND state = 'queued' RETURNING *",
            )
            .bind(&id.0)
            .bind(nanoseconds(now))
            .bind(reason),
            Step::Cancelled { reason } => sqlx::query(
                "UPDATE jobs SET state = 'cancelled', retried = 0, percent = NULL, seconds_left = NULL, reason = ?3, updated = ?2
                 WHERE id = ?1 AND state IN ('queued', 'probing', 'encoding', 'publishing') RETURNING *",
            )
            .bind(&id.0)
            .bind(nanoseconds(now))
            .bind(reason),
        };
        Ok(!self.changed(query.fetch_all(self.pool()).await)?.is_empty())
    }

    /// One job.
    pub async fn find(&self, id: &JobId) -> Result<Option<Job>, Error> {
        let found =
            sqlx::query("SELECT * FROM jobs WHERE id = ?").bind(&id.0).fetch_optional(self.pool()).await;
        found.map_err(|error| self.failed(error))?.map(|row| self.read(&row)).transpose()
    }

    /// Some jobs.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Job>, Error> {
        let states: Vec<&str> = filter.states.iter().map(|state| state.name()).collect();
        let states = (!states.is_empty()).then(|| json!(states).to_string());
        let found = sqlx::query(
            "SELECT * FROM jobs
             WHERE (?1 IS NULL OR state IN (SELECT value FROM json_each(?1)))
               AND (?2 IS NULL OR asset = ?2)
               AND (?3 IS NULL OR (created, rowid) < (SELECT created, rowid FROM jobs WHERE id = ?3))
             ORDER BY created DESC, rowid DESC LIMIT ?4",
        );
        let found = found
            .bind(states)
            .bind(filter.asset.as_ref().map(ToString::to_string))
            .bind(filter.before.as_ref().map(|id| &id.0))
            .bind(filter.limit.min(PAGE))
            .fetch_all(self.pool())
            .await;
        found.map_err(|error| self.failed(error))?.iter().map(|row| self.read(row)).collect()
    }

    /// How many there are in each state.
    pub async fn counts(&self) -> Result<Vec<(State, u64)>, Error> {
        let rows = sqlx::query("SELECT state, count(*) AS jobs FROM jobs GROUP BY state");
        let rows = rows.fetch_all(self.pool()).await.map_err(|error| self.failed(error))?;
        let mut counts = State::ALL.map(|state| (state, 0));
        for row in rows {
            let counted = state(&row).and_then(|state| Ok((state, row.try_get::<i64, _>("jobs")?)));
            let (state, jobs) = counted.map_err(|error| self.failed(error))?;
            for (_, count) in counts.iter_mut().filter(|(known, _)| *known == state) {
                *count = u64::try_from(jobs).unwrap_or_default();
            }
        }
        Ok(counts.into())
    }

    /// Whether something can be written at the moment: found out by writing.
    pub async fn check(&self) -> Result<(), Error> {
        let written = async {
            let mut transaction = self.pool().begin_with("BEGIN IMMEDIATE").await?;
            // Nobody uses it; it is written although it stays as it is.
            sqlx::query("PRAGMA user_version = 0").execute(&mut *transaction).await?;
            transaction.commit().await
        };
        written.await.map_err(|error| self.failed(error))
    }

    /// Queues a failed or cancelled job again, as if it were new. Whether there was one.
    pub async fn retry(&self, id: &JobId, now: Timestamp) -> Result<bool, Error> {
        let retried = sqlx::query(
            "UPDATE jobs SET state = 'queued', attempts = 0, crashes = 0, retried = 1, reason = NULL, generation = NULL,
                 outside = NULL, not_before = ?2, updated = ?2
             WHERE id = ?1 AND state IN ('failed', 'cancelled') RETURNING *",
        );
        let retried = retried.bind(&id.0).bind(nanoseconds(now)).fetch_all(self.pool()).await;
        Ok(!self.changed(retried)?.is_empty())
    }

    /// Whether somebody retried it, and it did not come to an end since.
    pub(crate) async fn is_retried(&self, id: &JobId) -> Result<bool, Error> {
        let retried = sqlx::query_scalar("SELECT retried FROM jobs WHERE id = ?").bind(&id.0);
        let retried: Option<bool> =
            retried.fetch_optional(self.pool()).await.map_err(|error| self.failed(error))?;
        Ok(retried.unwrap_or_default())
    }

    /// Every change from now on that this process makes: the job as it is then.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Job> {
        self.changes.subscribe()
    }

    /// Returns once something was queued, which may be due.
    pub(crate) async fn queued(&self) {
        self.queued.notified().await;
    }

    /// Tells of rows as they are now.
    fn changed(&self, rows: Result<Vec<SqliteRow>, sqlx::Error>) -> Result<Vec<Job>, Error> {
        let rows = rows.map_err(|error| self.failed(error))?;
        let jobs: Vec<Job> = rows.iter().map(|row| self.read(row)).collect::<Result<_, _>>()?;
        for job in &jobs {
            if job.state == State::Queued {
                self.queued.notify_one();
            }
            // Nobody listening is no error.
            let _ = self.changes.send(job.clone());
        }
        Ok(jobs)
    }

    fn read(&self, row: &SqliteRow) -> Result<Job, Error> {
        Job::from_row(row).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: sqlx::Error) -> Error {
        Error { path: self.path.to_string(), error }
    }
}

impl FromRow<'_, SqliteRow> for Job {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let time = |column| Ok::<_, sqlx::Error>(timestamp(row.try_get(column)?));
        let profile: String = row.try_get("profile")?;
        let upload = Upload {
            name: row.try_get("name")?,
            version: row.try_get("version")?,
            bytes: u64::try_from(row.try_get::<i64, _>("bytes")?).unwrap_or_default(),
            modified: time("modified")?,
        };
        Ok(Self {
            id: JobId(row.try_get("id")?),
            uri: row.try_get("uri")?,
            upload,
            asset: word(row, "asset")?.ok_or_else(|| sqlx::Error::ColumnNotFound("asset".into()))?,
            profile: serde_json::from_str(&profile).map_err(|error| undecodable("profile", error))?,
            priority: row.try_get("priority")?,
            state: state(row)?,
            percent: row.try_get("percent")?,
            seconds_left: row.try_get("seconds_left")?,
            attempts: row.try_get("attempts")?,
            not_before: time("not_before")?,
            reason: row.try_get("reason")?,
            created: time("created")?,
            updated: time("updated")?,
            generation: word(row, "generation")?,
            outside: row.try_get("outside")?,
            webhook: word(row, "webhook")?,
        })
    }
}

/// A running job waits; so many of its attempts were none.
fn waiting(
    id: &JobId,
    returned: u32,
    after: Duration,
    reason: String,
    now: Timestamp,
) -> sqlx::query::Query<'_, sqlx::Sqlite, sqlx::sqlite::SqliteArguments> {
    let not_before = now.checked_add(after).unwrap_or(Timestamp::MAX);
    sqlx::query(
        "UPDATE jobs SET state = 'queued', percent = NULL, seconds_left = NULL, reason = ?3, not_before = ?4,
             attempts = max(attempts - ?5, 0), updated = ?2
         WHERE id = ?1 AND state IN ('probing', 'encoding', 'publishing') RETURNING *",
    )
    .bind(&id.0)
    .bind(nanoseconds(now))
    .bind(reason)
    .bind(nanoseconds(not_before))
    .bind(returned)
}

fn state(row: &SqliteRow) -> Result<State, sqlx::Error> {
    word(row, "state")?.ok_or_else(|| sqlx::Error::ColumnNotFound("state".into()))
}

/// Something that JSON has as a string.
fn word<T: DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<Option<T>, sqlx::Error> {
    let text: Option<String> = row.try_get(column)?;
    let word = text.map(|text| serde_json::from_value(Value::String(text))).transpose();
    word.map_err(|error| undecodable(column, error))
}

fn undecodable(column: &str, error: serde_json::Error) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: error.into() }
}

/// A file can claim to be of a year that these cannot have; the last that they can is far enough.
fn nanoseconds(time: Timestamp) -> i64 {
    let nanoseconds = time.as_nanosecond();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(nanoseconds.into()).expect("64 bits are within its range")
}

/// What happens to a running job.
#[derive(Clone, Debug)]
pub enum Step {
    /// It comes to its next state, or stays in it and this much of it is done.
    Progress {
        /// Which.
        state: State,
        /// Percent of it, and how long the rest will take.
        percent: Option<f64>,
        /// Seconds.
        seconds_left: Option<f64>,
    },
    /// An outside encoder does it, under this name.
    Outside(String),
    /// It is published.
    Done,
    /// It is tried again, not before some time.
    Again {
        /// After this.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// It waits, and was not an attempt.
    Later {
        /// For so long.
        after: Duration,
        /// For what.
        reason: String,
    },
    /// It is given up.
    Failed {
        /// Why.
        reason: String,
    },
    /// It is given up before it was begun.
    Refused {
        /// Why.
        reason: String,
    },
    /// It is not wanted any more.
    Cancelled {
        /// Why.
        reason: String,
    },
}

/// Why the database did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the database {path}: {error}")]
pub struct Error {
    /// Which.
    pub path: String,
    /// Why.
    #[source]
    pub error: sqlx::Error,
}

/// Whether somebody else has the file: `SQLITE_BUSY`, or one of the codes that say more of it in their higher bits
/// (<https://www.sqlite.org/rescode.html>).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code()?.parse::<u32>().ok());
    code.is_some_and(|code| code & 0xff == 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Desk {
        jobs: Jobs,
        folder: tempfile::TempDir,
    }

    async fn desk() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let jobs = Jobs::open(&folder.path().join("jobs.sqlite"), at(0)).await.unwrap();
        Desk { jobs, folder }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn request(name: &str, version: &str) -> Request {
        let modified = at(version.len().try_into().unwrap());
        Request {
            uri: format!("s3://uploads/{name}"),
            upload: Upload { name: name.into(), version: version.into(), bytes: 5, modified },
            asset: name.parse().unwrap(),
            profile: Profile { encoder: Encoder::Ffmpeg, options: Options::default() },
            priority: 0,
            webhook: Some("https://example.com/done".parse().unwrap()),
        }
    }

    fn failed() -> Step {
        Step::Failed { reason: "no picture".into() }
    }

    #[tokio::test]
    async fn once_a_disk_is_no_longer_full_jobs_are_taken_again() {
        let Desk { jobs, folder: _folder } = desk().await;
        for _ in 0..CONNECTIONS {
            let mut transaction = jobs.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
            // As SQLite does by itself where it cannot write (https://sqlite.org/lang_transaction.html, 3).
            sqlx::query("ROLLBACK").execute(&mut *transaction).await.unwrap();
        }
        assert!(jobs.submit(&request("a", "1"), at(0)).await.unwrap().0);
    }

    #[tokio::test]
    async fn however_often_somebody_asks_it_is_one_job() {
        let Desk { jobs, folder: _folder } = desk().await;
        let (is_new, job) = jobs.submit(&request("a", "1"), at(0)).await.unwrap();
        assert!(is_new);
        assert_eq!(job.state, State::Queued);
        assert_eq!(jobs.submit(&request("a", "1"), at(9)).await.unwrap(), (false, job.clone()));
        assert_eq!(jobs.find(&job.id).await.unwrap(), Some(job.clone()));
        let mut encrypted = request("a", "1");
        encrypted.profile.options.encrypt = true;
        assert!(jobs.submit(&encrypted, at(1)).await.unwrap().0);
        let known = jobs.of_upload(&encrypted.uri, &encrypted.upload).await.unwrap();
        assert_eq!(known.unwrap().id, JobId::of(&encrypted));
    }

    #[tokio::test]
    async fn the_same_bytes_put_there_again_are_another_job() {
        let Desk { jobs, folder: _folder } = desk().await;
        let first = request("a", "1");
        jobs.submit(&first, at(0)).await.unwrap();
        let mut second = request("a", "1");
        second.upload.modified = at(7);
        assert_eq!(jobs.of_upload(&second.uri, &second.upload).await.unwrap(), None);
        let (is_new, job) = jobs.submit(&second, at(8)).await.unwrap();
        assert!(is_new);
        assert_eq!(jobs.of_upload(&second.uri, &second.upload).await.unwrap(), Some(job));
        let replaced = jobs.find(&JobId::of(&first)).await.unwrap().unwrap();
        assert_eq!(replaced.state, State::Cancelled);
    }

    /// By `printf '["s3://uploads/a","1",1795000001,"a",["ffmpeg",{}]]' | sha256sum`: what an id is must never change.
    #[test]
    fn an_id_is_the_digest_of_what_is_asked_for() {
        assert_eq!(JobId::of(&request("a", "1")).to_string(), "e4594cc08972267304570ee50651a103");
    }

    #[tokio::test]
    async fn two_that_take_at_once_never_take_the_same() {
        let Desk { jobs, folder } = desk().await;
        for index in 0..20 {
            jobs.submit(&request(&format!("a{index}"), "1"), at(index)).await.unwrap();
        }
        let other = Jobs::attach(&folder.path().join("jobs.sqlite")).await.unwrap();
        let take = async |jobs: &Jobs| {
            let mut taken = Vec::new();
            while let Some(job) = jobs.next(at(30)).await.unwrap() {
                taken.push(job.id);
            }
            taken
        };
        let (mut taken, more) = tokio::join!(take(&jobs), take(&other));
        taken.extend(more);
        assert_eq!(taken.len(), 20);
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 20);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_that_open_a_new_file_at_once_all_have_it() {
        for _ in 0..5 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("jobs.sqlite");
            let opened = (0..8).map(|_| {
                let path = path.clone();
                tokio::spawn(async move { Jobs::attach(&path).await.map(drop) })
            });
            for opened in futures_util::future::join_all(opened.collect::<Vec<_>>()).await {
                opened.unwrap().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn the_most_urgent_is_taken_first_and_one_of_an_asset_at_a_time() {
        let Desk { jobs, folder: _folder } = desk().await;
        let (_, old) = jobs.submit(&request("a", "1"), at(0)).await.unwrap();
        let urgent = Request { priority: 5, ..request("b", "1") };
        let (_, urgent) = jobs.submit(&urgent, at(1)).await.unwrap();
        let mut same = request("other", "1");
        same.asset = urgent.asset.clone();
        let (_, same) = jobs.submit(&same, at(2)).await.unwrap();
        let first = jobs.next(at(3)).await.unwrap().unwrap();
        assert_eq!((&first.id, first.attempts, first.state), (&urgent.id, 1, State::Probing));
        assert!(first.generation.is_some());
        assert_eq!(jobs.next(at(3)).await.unwrap().unwrap().id, old.id);
        assert_eq!(jobs.next(at(3)).await.unwrap(), None);
        assert!(jobs.advance(&urgent.id, Step::Done, at(4)).await.unwrap());
        assert_eq!(jobs.next(at(4)).await.unwrap().unwrap().id, same.id);
    }

    #[tokio::test]
    async fn what_waits_is_not_taken_before_its_time_and_keeps_its_generation() {
        let Desk { jobs, folder: _folder } = desk().await;
        jobs.submit(&request("a", "1"), at(0)).await.unwrap();
        let first = jobs.next(at(0)).await.unwrap().unwrap();
        let again = Step::Again { after: Duration::from_secs(10), reason: "busy".into() };
        assert!(jobs.advance(&first.id, again, at(0)).await.unwrap());
        assert_eq!(jobs.next(at(9)).await.unwrap(), None);
        let second = jobs.next(at(10)).await.unwrap().unwrap();
        assert_eq!((second.attempts, &second.generation), (2, &first.generation));
        assert_eq!(second.reason.as_deref(), Some("busy"));
        let later = Step::Later { after: Duration::ZERO, reason: "no room".into() };
        assert!(jobs.advance(&first.id, later, at(11)).await.unwrap());
        assert_eq!(jobs.next(at(11)).await.unwrap().unwrap().attempts, 2);
    }

    #[tokio::test]
    async fn nothing_leaves_a_final_state_but_by_a_retry() {
        let Desk { jobs, folder: _folder } = desk().await;
        let (_, job) = jobs.submit(&request("a", "1"), at(0)).await.unwrap();
        let taken = jobs.next(at(0)).await.unwrap().unwrap();
        let progress = Step::Progress { state: State::Encoding, percent: Some(1.0), seconds_left: None };
        assert!(jobs.advance(&job.id, progress.clone(), at(1)).await.unwrap());
        assert!(jobs.advance(&job.id, failed(), at(1)).await.unwrap());
        let again = Step::Again { after: Duration::ZERO, reason: String::new() };
        let cancelled = Step::Cancelled { reason: String::new() };
        for step in [progress, Step::Done, failed(), again, cancelled, Step::Outside(String::new())] {
            assert!(!jobs.advance(&job.id, step, at(2)).await.unwrap());
        }
        assert_eq!(jobs.next(at(3)).await.unwrap(), None);
        assert_eq!(jobs.find(&job.id).await.unwrap().unwrap().reason.as_deref(), Some("no picture"));
        assert!(jobs.retry(&job.id, at(4)).await.unwrap());
        assert!(!jobs.retry(&job.id, at(4)).await.unwrap());
        let retaken = jobs.next(at(4)).await.unwrap().unwrap();
        assert_eq!((retaken.attempts, retaken.reason), (1, None));
        assert_ne!(retaken.generation, taken.generation);
    }

    #[tokio::test]
    async fn a_report_that_comes_late_leads_nowhere_back() {
        let Desk { jobs, folder: _folder } = desk().await;
        let (_, job) = jobs.submit(&request("a", "1"), at(0)).await.unwrap();
        let progress = |state| Step::Progress { state, percent: Some(50.0), seconds_left: Some(2.0) };
        assert!(!jobs.advance(&job.id, progress(State::Encoding), at(0)).await.unwrap());
        jobs.next(at(0)).await.unwrap();
        assert!(jobs.advance(&job.id, progress(State::Publishing), at(1)).await.unwrap());
        for state in [State::Encoding, State::Probing, State::Queued, State::Done] {
            assert!(!jobs.advance(&job.id, progress(state), at(2)).await.unwrap(), "{state:?}");
        }
        let job = jobs.find(&job.id).await.unwrap().unwrap();
        assert_eq!((job.state, job.percent, job.seconds_left), (State::Publishing, Some(50.0), Some(2.0)));
    }

    #[tokio::test]
    async fn a_newer_upload_takes_the_place_of_one_that_waits() {
        let Desk { jobs, folder: _folder } = desk().await;
        let (_, old) = jobs.submit(&request("a", "1"), at(0)).await.unwrap();
        let (_, other) = jobs.submit(&request("b", "1"), at(0)).await.unwrap();
        let mut changes = jobs.changes();
        let (_, new) = jobs.submit(&request("a", "22"), at(1)).await.unwrap();
        assert_eq!(changes.recv().await.unwrap().id, old.id);
        assert_eq!(changes.recv().await.unwrap().id, new.id);
        let old = jobs.find(&old.id).await.unwrap().unwrap();
        assert_eq!(old.state, State::Cancelled);
        assert_eq!(old.reason.as_deref(), Some("a newer upload took its place"));
        assert_eq!(jobs.find(&other.id).await.unwrap().unwrap().state, State::Queued);
    }

    #[tokio::test]
    async fn what_ran_when_the_process_died_is_queued_again_but_not_for_ever() {
        let Desk { jobs, folder } = desk().await;
        let path = folder.path().join("jobs.sqlite");
        jobs.submit(&request("a", "1"), at(0)).await.unwrap();
        jobs.submit(&request("b", "1"), at(1)).await.unwrap();
        let mut id = None;
        for _ in 0..CRASHES {
            let taken = jobs.next(at(2)).await.unwrap().unwrap();
            assert_eq!(taken.asset.to_string(), "a");
            id = Some(taken.id);
            Jobs::open(&path, at(3)).await.unwrap();
        }
        let job = jobs.find(&id.unwrap()).await.unwrap().unwrap();
        assert_eq!(job.state, State::Failed);
        assert!(job.reason.unwrap().starts_with("the service died 3 times while doing this"));
        assert_eq!(jobs.next(at(4)).await.unwrap().unwrap().asset.to_string(), "b");
    }

    #[tokio::test]
    async fn jobs_are_listed_the_newest_first_a_page_at_a_time() {
        let Desk { jobs, folder: _folder } = desk().await;
        for index in 0..5 {
            jobs.submit(&request(&format!("a{index}"), "1"), at(index / 2)).await.unwrap();
        }
        let names = async |filter: Filter| -> Vec<String> {
            let found = jobs.list(&filter).await.unwrap();
            found.into_iter().map(|job| job.upload.name).collect()
        };
        assert_eq!(names(Filter { limit: 2, ..Filter::default() }).await, ["a4", "a3"]);
        let before = Some(JobId::of(&request("a3", "1")));
        assert_eq!(names(Filter { limit: 9, before, ..Filter::default() }).await, ["a2", "a1", "a0"]);
        let asset = Some("a1".parse().unwrap());
        assert_eq!(names(Filter { limit: 9, asset, ..Filter::default() }).await, ["a1"]);
        jobs.next(at(9)).await.unwrap();
        let states = vec![State::Probing, State::Failed];
        assert_eq!(names(Filter { limit: 9, states, ..Filter::default() }).await, ["a0"]);
        let counts = jobs.counts().await.unwrap();
        assert_eq!(counts[..2], [(State::Queued, 4), (State::Probing, 1)]);
    }
}
