//! Jobs as they are shown: without what only concerns this machine.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::asset::{AssetId, Generation};
use crate::jobs::{Job, JobId, Profile, State};
use crate::ladder::Codec;
use crate::plan::{Container, Options, Quality};
use crate::service::Service;
use crate::storage::Store;

/// Shows jobs.
#[derive(Clone, Debug)]
pub(crate) struct View {
    store: Store,
    /// Folders of this machine, which reasons may name, and what to call them instead.
    folders: Vec<(String, &'static str)>,
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView {
    /// Its name.
    pub(super) id: JobId,
    /// Name of its source below the place for uploads.
    pub(super) source: String,
    /// Version of the source.
    pub(super) version: String,
    /// Size of the source.
    pub(super) bytes: u64,
    /// What it will be called.
    pub(super) asset: AssetId,
    /// How far it is.
    pub(super) state: State,
    /// Percent of its present state that are done.
    pub(super) percent: Option<f64>,
    /// How long the rest of that will take.
    pub(super) seconds_left: Option<f64>,
    /// How often it was begun.
    pub(super) attempts: u32,
    /// What went wrong at last, or why it was cancelled.
    pub(super) reason: Option<String>,
    /// Higher ones first.
    pub(super) priority: i32,
    /// What encodes it: `ffmpeg` or `mediaconvert`.
    pub(super) encoder: String,
    /// How it is encoded.
    pub(super) options: OptionsView,
    /// When it was asked for.
    #[schema(format = DateTime)]
    pub(super) created: String,
    /// When anything of it last changed.
    #[schema(format = DateTime)]
    pub(super) updated: String,
    /// When it will be begun at the earliest.
    #[schema(format = DateTime)]
    pub(super) not_before: String,
    /// The encode that it makes.
    pub(super) generation: Option<Generation>,
    /// Key of the multivariant playlist, once it can be played: the path of its URL at the edge.
    pub(super) playlist: Option<String>,
    /// The job of an outside encoder.
    pub(super) outside: Option<String>,
    /// Where its end is told, without the query.
    pub(super) webhook: Option<String>,
}

/// How it is encoded.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Options)]
pub(super) struct OptionsView {
    /// How segments are packed.
    container: Container,
    /// Those that are made beside H.264.
    codecs: Vec<Codec>,
    /// Whether a high dynamic range is kept too.
    hdr: bool,
    /// How much time is spent for fewer bytes.
    quality: Quality,
    /// Whether segments are encrypted.
    encrypt: bool,
    /// For how many segments each key is, where there are several.
    key_every: Option<u32>,
    /// Whether there is a rendition of one picture a second for seeking.
    dense_key_frames: bool,
}

impl View {
    pub(crate) fn new(service: &Service, data: &Path) -> Self {
        let folders = [(Some(data), "DATA"), (service.uploads.folder(), "UPLOADS")];
        let named =
            |(folder, name): (Option<&Path>, &'static str)| Some((folder?.to_str()?.to_owned(), name));
        let is_told = |(folder, _): &(String, &str)| folder.len() > 1;
        Self {
            store: service.store.clone(),
            folders: folders.into_iter().filter_map(named).filter(is_told).collect(),
        }
    }

    pub(crate) fn job(&self, job: &Job) -> JobView {
        let is_done = job.state == State::Done;
        let webhook = job.webhook.clone().map(|mut url| {
            url.set_query(None);
            url.set_fragment(None);
            url.to_string()
        });
        JobView {
            id: job.id.clone(),
            source: job.upload.name.clone(),
            version: job.upload.version.clone(),
            bytes: job.upload.bytes,
            asset: job.asset.clone(),
            state: job.state,
            percent: job.percent,
            seconds_left: job.seconds_left,
            attempts: job.attempts,
            reason: job.reason.as_deref().map(|reason| self.without_folders(reason)),
            priority: job.priority,
            encoder: encoder_name(&job.profile),
            options: OptionsView::from(&job.profile.options),
            created: job.created.to_string(),
            updated: job.updated.to_string(),
            not_before: job.not_before.to_string(),
            generation: job.generation.clone(),
            playlist: is_done.then(|| self.store.key(&job.asset.playlist_key())),
            outside: job.outside.clone(),
            webhook,
        }
    }

    fn without_folders(&self, reason: &str) -> String {
        let replace = |text: String, (folder, name): &(String, &str)| text.replace(folder, name);
        self.folders.iter().fold(reason.to_owned(), replace)
    }
}

impl From<&Options> for OptionsView {
    fn from(options: &Options) -> Self {
        Self {
            container: options.container,
            codecs: options.codecs.clone(),
            hdr: options.hdr,
            quality: options.quality,
            encrypt: options.encrypt,
            key_every: options.key_every.map(Into::into),
            dense_key_frames: options.dense_key_frames,
        }
    }
}

/// What its encoder is called, whatever else is known of it.
pub(super) fn encoder_name(profile: &Profile) -> String {
    match serde_json::to_value(profile.encoder) {
        Ok(Value::String(name)) => name,
        Ok(Value::Object(members)) => members.keys().next().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}
