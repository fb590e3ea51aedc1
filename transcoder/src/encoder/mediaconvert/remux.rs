//! Brings what MediaConvert made into the files that ffmpeg would have left, without encoding anything.
//!
//! Every track is on a clock of its own there: in transport streams it starts at some seconds, and sound begins with what
//! its encoder needs to settle. When the first picture is shown is 0 here; packets of sound from before are left out.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use super::transfer::Place;
use super::{Error, ffmpeg};
use crate::ladder::{Codec, Rendition};
use crate::plan::{Container, Options, Plan, Video};

/// A packet of sound belongs to where it is nearest to: half of one of 1,024 samples at 48 kHz, in seconds.
const HALF_A_PACKET: f64 = 0.010_667;

/// How many packets are looked at: more than are ever shown before the first of them.
const LOOKED_AT: &str = "%+#40";

/// Fetches every track by its playlist, and leaves the files of `Encoder::encode`.
pub(super) async fn take_over(
    place: &Place,
    playlist: &(dyn Fn(&str) -> String + Sync),
    plan: &Plan,
    options: &Options,
    folder: &Path,
) -> Result<(), Error> {
    let remuxed = |error| Error::Remux(Box::new(error));
    let fetched = folder.join("fetched");
    let mut origin = None;
    if let Some(video) = &plan.video {
        for rendition in video.renditions.iter().chain(&video.dense) {
            place.fetch(&playlist(&rendition.name), &fetched).await?;
            if origin.is_none() {
                origin = Some(first_shown(&fetched).await.map_err(remuxed)?);
            }
            let line = pictures(&fetched, rendition, video);
            ffmpeg::run(line, plan.duration, folder, &|_| {}).await.map_err(remuxed)?;
        }
    }
    for audio in &plan.audio {
        place.fetch(&playlist(&audio.name), &fetched).await?;
        let origin = match origin {
            Some(origin) => origin,
            None => first_shown(&fetched).await.map_err(remuxed)?.max(0.0),
        };
        let line = sound(&fetched, &audio.name, origin, options.container);
        ffmpeg::run(line, plan.duration, folder, &|_| {}).await.map_err(remuxed)?;
    }
    if let Some(line) = ffmpeg::captions_alone(plan) {
        ffmpeg::run(line, plan.duration, folder, &|_| {}).await.map_err(remuxed)?;
    }
    let _ = std::fs::remove_file(&fetched);
    Ok(())
}

fn input(file: &Path) -> Vec<OsString> {
    let mut input = OsString::from("file:");
    input.push(file);
    vec!["-protocol_whitelist".into(), "file".into(), "-i".into(), input]
}

fn pictures(file: &Path, rendition: &Rendition, video: &Video) -> Vec<OsString> {
    let mut line = ffmpeg::words("-hide_banner -nostdin -y");
    line.extend(input(file));
    let tag = if rendition.codec == Codec::Hevc { "-tag:v hvc1" } else { "" };
    let output = ffmpeg::pictures_file(rendition, video);
    line.extend(ffmpeg::words(&format!("-map 0:v:0 {} -c copy {tag} {output}", ffmpeg::ANONYMOUS)));
    line
}

fn sound(file: &Path, name: &str, origin: f64, container: Container) -> Vec<OsString> {
    let offset = HALF_A_PACKET - origin;
    let mut line = ffmpeg::words(&format!("-hide_banner -nostdin -y -copyts -itsoffset {offset:.6}"));
    line.extend(input(file));
    let framing = if container == Container::Ts { "-bsf:a aac_adtstoasc" } else { "" };
    let output = ffmpeg::sound_file(name, true);
    line.extend(ffmpeg::words(&format!("-map 0:a:0 {} -c copy {framing} -ss 0 {output}", ffmpeg::ANONYMOUS)));
    line
}

/// When the first of it is shown, by its clock.
async fn first_shown(file: &Path) -> Result<f64, crate::encoder::Error> {
    use crate::encoder::Error::{NotInstalled, NotStarted};
    let output = tokio::process::Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "packet=pts_time", "-of", "csv=p=0"])
        .args(["-read_intervals", LOOKED_AT])
        .args(input(file))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    let output = output.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => NotInstalled,
        _ => NotStarted(error),
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let times = text.lines().filter_map(|line| line.split(',').next()?.parse().ok());
    Ok(times.reduce(f64::min).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(line: &[OsString]) -> String {
        line.join(&OsString::from(" ")).into_string().unwrap()
    }

    #[test]
    fn sound_begins_with_the_first_picture() {
        let line = sound(Path::new("/work/fetched"), "audio", 1.466_667, Container::Ts);
        assert_eq!(
            typed(&line),
            "-hide_banner -nostdin -y -copyts -itsoffset -1.456000 -protocol_whitelist file -i file:/work/fetched \
             -map 0:a:0 -map_metadata -1 -map_chapters -1 -c copy -bsf:a aac_adtstoasc -ss 0 \
             -f mp4 -use_editlist 0 -movflags empty_moov+default_base_moof+skip_trailer+delay_moov -frag_duration 2000000 \
             audio.mp4"
        );
    }
}
