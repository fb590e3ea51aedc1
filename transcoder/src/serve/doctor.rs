//! `transcoder doctor`: does what the service would do with everything that its configuration names, and says of each
//! what to do.
//!
//! Nothing is believed from a setting alone: the store is written to, read, asked for a conditional put and cleaned up; the
//! edge is shown a signature made here, because that it refuses one thing and lets another through is the only proof that
//! it has the public half of this key.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use jiff::Timestamp;
use tokio::process::Command;
use url::Url;

use super::DATABASE;
use crate::intake::{r2_queue, sqs};
use crate::jobs::Jobs;
use crate::ladder::Codec;
use crate::playback;
use crate::sign::{KeyPair, Order};
use crate::storage::examination::Conditions;
use crate::storage::{Store, chain};
use crate::upload::Uploads;
use crate::work;

/// Check everything that the service's settings name, and say what to do
///
/// Takes the settings of `transcoder serve`, from flags and variables, and tries them: ffmpeg and its codecs, the disk, the
/// database, writing to the store, reading the uploads, the queues, MediaConvert, the key that signs, and the edge. Of the
/// store and the uploads nothing that was there is touched. The exit status is 1 where something does not work.
#[derive(Debug, clap::Args)]
// It would be called as that of the service's settings.
#[group(skip)]
pub struct Arguments {
    #[command(flatten)]
    serve: super::Arguments,
}

impl Arguments {
    /// A line for each finding, and whether all is well.
    pub fn run(self) -> Result<(String, bool), std::io::Error> {
        let runtime = tokio::runtime::Runtime::new()?;
        let findings = runtime.block_on(self.findings());
        runtime.shutdown_background();
        let is_well = findings.iter().all(|finding| finding.verdict != Verdict::Ill);
        Ok((findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), is_well))
    }

    async fn findings(self) -> Vec<Finding> {
        let serve = &self.serve;
        let mut findings: Vec<Finding> =
            serve.problems().into_iter().map(|problem| Finding::ill("settings", problem)).collect();
        if findings.is_empty() {
            findings.push(Finding::well("settings", "fit together"));
        }
        findings.extend(ffmpeg(&serve.wanted()).await);
        findings.push(disk(&serve.data));
        findings.push(database(&serve.data).await);
        findings.push(store(serve).await);
        findings.push(uploads(serve).await);
        let settings = serve.intake();
        if let Some(queue) = &settings.sqs {
            findings.extend(queue_of_sqs(queue).await);
        }
        if let Some(queue) = &settings.r2 {
            findings.push(queue_of_r2(queue).await);
        }
        match serve.elsewhere().await {
            Ok(None) => {}
            Ok(Some(elsewhere)) => findings.push(match elsewhere.mediaconvert.check().await {
                Ok(words) => Finding::well("mediaconvert", words),
                Err(error) => Finding::ill("mediaconvert", error.to_string()),
            }),
            Err(error) => findings.push(Finding::ill("mediaconvert", error.to_string())),
        }
        findings.extend(serve.playback.check(Timestamp::now()).await);
        findings
    }
}

impl super::Arguments {
    /// What of ffmpeg's the settings cannot do without, beside what every job needs.
    fn wanted(&self) -> Vec<&'static str> {
        let codecs = &self.options.codecs;
        let mut wanted = Vec::new();
        if codecs.contains(&Codec::Hevc) || self.options.hdr {
            wanted.push("libx265");
        }
        if codecs.contains(&Codec::Av1) {
            wanted.push("libsvtav1");
        }
        if self.options.hdr {
            wanted.push("zscale");
        }
        wanted
    }
}

/// Room below which a disk is soon full: some minutes of a source as cameras make it.
const LITTLE_ROOM: u64 = 20_000_000_000;

fn disk(data: &Path) -> Finding {
    const PART: &str = "disk";
    let shown = data.display();
    if let Err(error) = std::fs::create_dir_all(data).and_then(|()| tempfile::tempfile_in(data).map(drop)) {
        return Finding::ill(
            PART,
            format!("--data {shown} cannot be written to ({error}): name another folder"),
        );
    }
    match work::free(data) {
        Err(error) => Finding::note(PART, format!("{shown} does not say how much room it has: {error}")),
        Ok(free) => {
            let words = format!("{} GB are free in {shown}", free / 1_000_000_000);
            if free < LITTLE_ROOM {
                Finding::note(PART, format!("{words}; a job needs three times the size of its upload"))
            } else {
                Finding::well(PART, words)
            }
        }
    }
}

async fn database(data: &Path) -> Finding {
    const PART: &str = "database";
    let path = data.join(DATABASE);
    if !path.exists() {
        return Finding::well(PART, "is made when the service starts");
    }
    let counted = async { Jobs::attach(&path).await?.counts().await };
    match counted.await {
        Err(error) => Finding::ill(PART, error.to_string()),
        Ok(counts) => {
            let counts: Vec<_> =
                counts.into_iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
            let jobs = if counts.is_empty() { "no jobs yet".to_owned() } else { counts.join(", ") };
            Finding::well(PART, format!("{}: {jobs}", path.display()))
        }
    }
}

async fn store(serve: &super::Arguments) -> Finding {
    const PART: &str = "store";
    let examined = async { Store::open(&serve.to, &serve.access())?.examine().await };
    match examined.await {
        Err(error) => Finding::ill(PART, error.to_string()),
        Ok(Conditions::Kept) => {
            Finding::well(PART, format!("{} takes, gives and forgets, and keeps to conditions", serve.to))
        }
        Ok(Conditions::Locked) => Finding::well(PART, format!("{} can be written to and read", serve.to)),
        Ok(Conditions::Unknown | Conditions::Ignored) => Finding::note(
            PART,
            format!(
                "{} does not keep to conditional puts: let only one copy of the service publish there",
                serve.to
            ),
        ),
    }
}

async fn uploads(serve: &super::Arguments) -> Finding {
    const PART: &str = "uploads";
    let survey = async { Uploads::open(&serve.uploads, &serve.access_to_uploads())?.survey().await };
    match tokio::time::timeout(PATIENCE, survey).await {
        Err(_) => {
            Finding::note(PART, format!("{} is so large that it takes long to look through", serve.uploads))
        }
        Ok(Err(error)) => Finding::ill(PART, error.to_string()),
        Ok(Ok(survey)) => match survey.refused.first() {
            None => Finding::well(PART, format!("{} in {}", survey.uploads.len(), serve.uploads)),
            Some(error) => Finding::note(
                PART,
                format!("{} in {} are left out: {error}", survey.refused.len(), serve.uploads),
            ),
        },
    }
}

async fn queue_of_sqs(queue: &sqs::Queue) -> Vec<Finding> {
    const PART: &str = "queue";
    let client = queue.client().await;
    let asked = client
        .get_queue_attributes()
        .queue_url(&queue.url)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .attribute_names(QueueAttributeName::RedrivePolicy)
        .send();
    let attributes = match tokio::time::timeout(PATIENCE, asked).await {
        Err(_) => return vec![Finding::ill(PART, format!("{} does not answer: check --queue", queue.url))],
        Ok(Err(error)) => {
            let reason = chain(&error);
            let words = format!(
                "{}: {reason}; it has to allow ReceiveMessage, DeleteMessage, ChangeMessageVisibility and GetQueueAttributes",
                queue.url
            );
            return vec![Finding::ill(PART, words)];
        }
        Ok(Ok(answer)) => answer.attributes.unwrap_or_default(),
    };
    let waiting =
        attributes.get(&QueueAttributeName::ApproximateNumberOfMessages).map_or("some", String::as_str);
    let mut findings = vec![Finding::well(PART, format!("{waiting} messages wait in {}", queue.url))];
    if !attributes.contains_key(&QueueAttributeName::RedrivePolicy) {
        findings.push(Finding::note(
            PART,
            "has no dead-letter queue: messages that are none of uploads come back until they expire",
        ));
    }
    findings
}

async fn queue_of_r2(queue: &r2_queue::Queue) -> Finding {
    const PART: &str = "r2 queue";
    match tokio::time::timeout(PATIENCE, queue.check()).await {
        Err(_) => Finding::ill(PART, "Cloudflare does not answer: check the network"),
        Ok(Err(reason)) => Finding::ill(PART, reason),
        Ok(Ok(())) => Finding::well(PART, "can be asked"),
    }
}

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is not there in any bucket, so that an edge that lets it through answers 404.
const NOWHERE: &str = "/assets/.doctor/nowhere.m4s";

/// What a check found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What was looked at, in a word.
    pub part: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and what to do.
    pub words: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It works.
    Well,
    /// It is not set up, or less than it could be.
    Note,
    /// It does not work.
    Ill,
}

impl Finding {
    pub(crate) fn well(part: &'static str, words: impl Into<String>) -> Self {
        Self { part, verdict: Verdict::Well, words: words.into() }
    }

    pub(crate) fn note(part: &'static str, words: impl Into<String>) -> Self {
        Self { part, verdict: Verdict::Note, words: words.into() }
    }

    pub(crate) fn ill(part: &'static str, words: impl Into<String>) -> Self {
        Self { part, verdict: Verdict::Ill, words: words.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Well => "ok",
            Verdict::Note => "note",
            Verdict::Ill => "FAIL",
        };
        write!(formatter, "{verdict:<4}  {:<12}  {}", self.part, self.words)
    }
}

/// What this machine's ffmpeg can do, beside what is asked of it. `wanted` are its names of encoders and filters that
/// the settings cannot do without.
pub(crate) async fn ffmpeg(wanted: &[&str]) -> Vec<Finding> {
    const PART: &str = "ffmpeg";
    let install = "install it: `apt-get install ffmpeg`, `brew install ffmpeg`";
    if let Err(reason) = said("ffprobe", &["-version"]).await {
        return vec![Finding::ill(PART, format!("ffprobe {reason}; {install}"))];
    }
    let version = match said("ffmpeg", &["-version"]).await {
        Ok(text) => text.split(" Copyright").next().unwrap_or_default().trim().to_owned(),
        Err(reason) => return vec![Finding::ill(PART, format!("ffmpeg {reason}; {install}"))],
    };
    let encoders = said("ffmpeg", &["-hide_banner", "-encoders"]).await.unwrap_or_default();
    let filters = said("ffmpeg", &["-hide_banner", "-filters"]).await.unwrap_or_default();
    let has = |name: &str| lists(&encoders, name) || lists(&filters, name);
    let missing: Vec<_> =
        ["libx264", "aac"].iter().chain(wanted).filter(|name| !has(name)).copied().collect();
    let mut findings = vec![if missing.is_empty() {
        Finding::well(PART, version)
    } else {
        let missing = missing.join(", ");
        Finding::ill(
            PART,
            format!("{version} is built without {missing}: install one that has it, such as Debian's"),
        )
    }];
    for (name, purpose) in [
        ("libx265", "--codec hevc and --hdr"),
        ("libsvtav1", "--codec av1"),
        ("zscale", "sources of high dynamic range"),
    ] {
        if !has(name) && !wanted.contains(&name) {
            findings
                .push(Finding::note(PART, format!("is built without {name}, which {purpose} would need")));
        }
    }
    findings
}

/// Whether a list of ffmpeg's has this name: its second column.
fn lists(list: &str, name: &str) -> bool {
    list.lines().any(|line| line.split_whitespace().nth(1) == Some(name))
}

async fn said(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(PATIENCE, command.output()).await {
        Err(_) => Err(format!("does not answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            Err("is not on the path".to_owned())
        }
        Ok(Err(error)) => Err(format!("cannot be run ({error})")),
        Ok(Ok(output)) if !output.status.success() => Err(format!("ends with {}", output.status)),
        Ok(Ok(output)) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

impl playback::Settings {
    /// The key can be read and is nobody else's; the edge is sound, lets nobody in without a signature, and takes this
    /// key's; viewers' tokens can be checked.
    pub async fn check(&self, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        let key = match self.key() {
            None => {
                let words = "none named: --key-pair-id and --private-key let viewers in";
                findings.push(Finding::note("key", words));
                None
            }
            Some(Err(error)) => {
                findings.push(Finding::ill("key", error));
                None
            }
            Some(Ok(key)) => {
                findings.push(match self.exposed() {
                    Some(words) => Finding::note("key", words),
                    None => Finding::well("key", format!("{} can sign", key.id())),
                });
                Some(key)
            }
        };
        match &self.edge {
            None => findings.push(Finding::note("edge", "none named: --edge lets it be checked")),
            Some(edge) => findings.extend(ask(edge, key.as_ref(), now).await),
        }
        match self.viewers() {
            None => {}
            Some(Err(error)) => findings.push(Finding::ill("viewers", error)),
            Some(Ok(viewers)) => findings.push(match viewers.check().await {
                Ok(words) => Finding::well("viewers", words),
                Err(error) => Finding::ill("viewers", error),
            }),
        }
        findings
    }
}

async fn ask(edge: &Url, key: Option<&KeyPair>, now: Timestamp) -> Vec<Finding> {
    const PART: &str = "edge";
    let client =
        reqwest::Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
    let client = match client {
        Ok(client) => client,
        Err(error) => return vec![Finding::ill(PART, format!("cannot be asked: {error}"))],
    };
    let at = |path: &str| {
        let mut url = edge.clone();
        url.set_path(path);
        url.set_query(None);
        url
    };
    let status = async |url: Url| {
        let answer = client.get(url).send().await.map_err(|error| {
            let reason =
                if error.is_timeout() { "no answer in time".to_owned() } else { chain(&error.without_url()) };
            Finding::ill(
                PART,
                format!("{edge} cannot be reached ({reason}): is that where the Worker is deployed?"),
            )
        })?;
        Ok(answer.status().as_u16())
    };
    let outcome = async {
        let mut findings = vec![match status(at("/-/health")).await? {
            200 => Finding::well(PART, format!("{edge} answers, and its configuration is sound")),
            500 => Finding::ill(
                PART,
                "it says that its configuration is not sound: `wrangler tail` shows which setting",
            ),
            other => Finding::ill(
                PART,
                format!("/-/health answers {other}, so it is no Reelgate edge: check --edge"),
            ),
        }];
        if findings[0].verdict == Verdict::Ill {
            return Ok(findings);
        }
        findings.push(match status(at(NOWHERE)).await? {
            403 => Finding::well(PART, "it refuses what is not signed"),
            other => Finding::ill(
                PART,
                format!(
                    "it answers {other}, not 403, to what is not signed: does PUBLIC_PATHS cover /assets/?"
                ),
            ),
        });
        let Some(key) = key else { return Ok(findings) };
        let order = Order {
            url: at(NOWHERE).to_string(),
            expires: now.as_second().unsigned_abs() + 60,
            starts: None,
            address: None,
            resource: None,
        };
        let signed = match key.sign(&order, now) {
            Ok(signed) => signed.url,
            Err(error) => return Ok([findings, vec![Finding::ill("key", error.to_string())]].concat()),
        };
        let url = signed
            .parse()
            .map_err(|error| Finding::ill("key", format!("cannot sign for {edge}: {error}")))?;
        findings.push(match status(url).await? {
            404 => Finding::well("key", "the edge takes its signatures"),
            403 => Finding::ill(
                "key",
                "the edge refuses its signatures: TRUSTED_KEYS has another key by this id, or none (`transcoder keygen` \
                 prints the line), or the clocks differ",
            ),
            other => Finding::ill(
                PART,
                format!("it answers {other} to what is signed and not there: can the Worker read its bucket?"),
            ),
        });
        Ok(findings)
    };
    outcome.await.unwrap_or_else(|finding: Finding| vec![finding])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ffmpeg 5.1 prints it.
    #[test]
    fn an_encoder_is_a_name_in_the_second_column() {
        let list = " V....D libx264              libx264 H.264 / AVC (codec h264)\n A....D aac  AAC\n ... zscale V->V  x\n";
        assert!(lists(list, "libx264") && lists(list, "aac") && lists(list, "zscale"));
        assert!(!lists(list, "libx265") && !lists(list, "H.264"));
    }

    #[tokio::test]
    async fn what_is_missing_is_said_with_what_to_do() {
        let findings = ffmpeg(&["no_such_codec"]).await;
        assert_eq!(findings[0].verdict, Verdict::Ill);
        assert!(findings[0].words.contains("built without no_such_codec: install"), "{}", findings[0]);
    }

    #[tokio::test]
    async fn an_edge_that_is_away_is_said_to_be() {
        let edge = "http://127.0.0.1:9".parse().unwrap();
        let findings = ask(&edge, None, Timestamp::now()).await;
        assert!(findings[0].words.contains("cannot be reached"), "{}", findings[0]);
        assert_eq!(findings.len(), 1);
    }

    #[tokio::test]
    async fn keys_of_viewers_that_cannot_be_had_are_said_to_be() {
        let settings = playback::Settings {
            viewer_jwks: Some("http://127.0.0.1:9/jwks.json?key=hush".parse().unwrap()),
            ..playback::Settings::default()
        };
        let findings = settings.check(Timestamp::now()).await;
        let found = findings.iter().find(|finding| finding.part == "viewers").unwrap();
        assert_eq!(found.verdict, Verdict::Ill);
        assert!(found.words.starts_with("--viewer-jwks http://127.0.0.1:9/jwks.json: "), "{found}");
        assert!(!found.words.contains("hush"), "{found}");
    }
}
