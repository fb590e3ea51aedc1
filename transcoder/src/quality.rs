//! How near a rendition comes to its source, by VMAF.
//!
//! The [model] compares what a viewer gets on a screen of 1080 lines, so each rendition is enlarged to the size of
//! the source's largest one first; every fifth frame is enough for a mean. Not every ffmpeg has it: distributions
//! leave `libvmaf` out, so the one that measures can be another than the one that encodes.
//!
//! [model]: https://github.com/Netflix/vmaf/blob/master/resource/doc/faq.md

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde::Deserialize;
use tokio::process::Command;

use crate::encoder;
use crate::ladder::Range;
use crate::plan::Plan;
use crate::probe;

/// Every so many frames are compared.
const EVERY: u32 = 5;

/// Where libvmaf writes what it found, in the encoder's folder.
const REPORT: &str = "vmaf.json";

/// Whether this ffmpeg can measure.
pub async fn check(ffmpeg: &Path) -> Result<(), Error> {
    let output = run(ffmpeg, ["-v", "error", "-filters"], Path::new(".")).await?;
    let has_it = String::from_utf8_lossy(&output.stdout).lines().any(|line| line.contains(" libvmaf "));
    if has_it { Ok(()) } else { Err(Error::Lacking(ffmpeg.to_owned())) }
}

/// Measures every rendition of standard range that an encoder left in a folder: their names and scores.
pub async fn measure(ffmpeg: &Path, plan: &Plan, folder: &Path) -> Result<Vec<(String, f64)>, Error> {
    let renditions = plan.video.iter().flat_map(|video| &video.renditions);
    let renditions: Vec<_> = renditions.filter(|rendition| rendition.range == Range::Sdr).collect();
    let Some(size) = renditions.iter().map(|rendition| (rendition.width, rendition.height)).max() else {
        return Ok(Vec::new());
    };
    let mut scores = Vec::new();
    for rendition in renditions {
        let Some(reference) = encoder::ffmpeg::reference(plan, rendition, size) else { continue };
        let filters = filters(&reference, size);
        let mut input = OsString::from("file:");
        input.push(encoder::track_file(&rendition.name));
        let mut line: Vec<OsString> = ["-v", "error", "-nostdin", "-i"].map(Into::into).into();
        line.push(input);
        line.extend(probe::input_options(&plan.input));
        line.extend(["-filter_complex", &filters, "-f", "null", "-"].map(Into::into));
        run(ffmpeg, line, folder).await?;
        scores.push((rendition.name.clone(), score(&folder.join(REPORT))?));
    }
    Ok(scores)
}

/// Both from 0 on and in one size; `reference` is a filter from the second input to `[reference]`.
fn filters(reference: &str, (width, height): (u32, u32)) -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "[0:v]setpts=PTS-STARTPTS,scale={width}:{height}:flags=bicubic[shown];\
         {reference};[reference]setpts=PTS-STARTPTS[original];\
         [shown][original]libvmaf=n_subsample={EVERY}:n_threads={threads}:log_fmt=json:log_path={REPORT}"
    )
}

fn score(report: &Path) -> Result<f64, Error> {
    let report = std::fs::read(report).map_err(Error::NoReport)?;
    let report: Report = serde_json::from_slice(&report).map_err(|error| Error::NoReport(error.into()))?;
    Ok((report.pooled_metrics.vmaf.mean * 100.0).round() / 100.0)
}

async fn run(
    ffmpeg: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    folder: &Path,
) -> Result<Output, Error> {
    let mut command = Command::new(ffmpeg);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let started = |error| Error::NotStarted { ffmpeg: ffmpeg.to_owned(), error };
    let output = command.output().await.map_err(started)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Failed(probe::last_words(&text).to_owned()));
    }
    Ok(output)
}

/// The part of libvmaf's report that is of use here.
#[derive(Deserialize)]
struct Report {
    pooled_metrics: Metrics,
}

#[derive(Deserialize)]
struct Metrics {
    vmaf: Metric,
}

#[derive(Deserialize)]
struct Metric {
    mean: f64,
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such program, or it cannot be run.
    #[error("{} cannot be run to measure VMAF: {error}", ffmpeg.display())]
    NotStarted {
        /// Which.
        ffmpeg: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It was built without.
    #[error("{} has no libvmaf: name an ffmpeg that has, as in --vmaf=/opt/ffmpeg/bin/ffmpeg, or leave it out", .0.display())]
    Lacking(PathBuf),
    /// It gave up.
    #[error("VMAF could not be measured: {0}")]
    Failed(String),
    /// It said nothing.
    #[error("VMAF's report cannot be read: {0}")]
    NoReport(io::Error),
}
