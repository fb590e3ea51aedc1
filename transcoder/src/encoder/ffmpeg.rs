//! Encodes on this machine, with the `ffmpeg` on the path.
//!
//! One process makes all renditions, because then the source is decoded once: of a 1080p source in four
//! renditions that saves a quarter to a half of the work. Its HLS muxer cuts the segments; its playlists are not
//! read.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use ffmpeg_sidecar::child::FfmpegChild;
use ffmpeg_sidecar::command::FfmpegCommand;
use ffmpeg_sidecar::event::{FfmpegEvent, LogLevel};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::Error;
use crate::Progress;
use crate::ladder::Rendition;
use crate::plan::{Audio, Plan, Video};
use crate::probe::{self, Rate};

/// Name of the sound's folder.
pub const AUDIO: &str = "audio";

/// ffmpeg reports twice a second; one that stands still for so long will not go on.
const PATIENCE: Duration = Duration::from_mins(2);

/// How often to look whether the process is still there.
const GLANCE: Duration = Duration::from_millis(500);

/// Samples that an AAC encoder puts before the first, for its decoder to settle.
const AAC_PRIMING: u32 = 1024;

/// Runs a plan to its end.
pub async fn encode(plan: &Plan, output: &Path, progress: &dyn Progress) -> Result<(), Error> {
    let renditions = plan.video.iter().flat_map(|video| &video.renditions).map(|r| r.name.as_str());
    for folder in renditions.chain(plan.audio.is_some().then_some(AUDIO)) {
        fs::create_dir(output.join(folder)).map_err(Error::NotStarted)?;
    }
    let mut ffmpeg = Running::start(plan, output)?;
    let mut events = ffmpeg.events()?;
    let mut complaints = Complaints::default();
    let mut furthest = (Duration::ZERO, 0);
    let mut advanced = Instant::now();
    loop {
        match timeout(GLANCE, events.recv()).await {
            Ok(Some(FfmpegEvent::Progress(report))) => {
                let done = probe::clock(&report.time).map(probe::duration).unwrap_or_default();
                if (done, report.frame) != furthest {
                    furthest = (done, report.frame);
                    advanced = Instant::now();
                    progress.encoded(done.min(plan.duration), plan.duration);
                }
            }
            Ok(Some(FfmpegEvent::Log(LogLevel::Error | LogLevel::Fatal, line))) => complaints.hear(&line),
            Ok(None) => break,
            // A line that the parser cannot read ends its thread without closing the channel.
            Err(_) if ffmpeg.exited()?.is_some() => break,
            // `FfmpegEvent::Error` among them: the parser's own, which says nothing of how ffmpeg does.
            Ok(Some(_)) | Err(_) => {}
        }
        if advanced.elapsed() > PATIENCE {
            return Err(Error::Stalled { after: PATIENCE, reason: complaints.in_words() });
        }
    }
    let status = ffmpeg.wait(&complaints).await?;
    if !status.success() {
        return Err(Error::Failed { status, reason: complaints.in_words() });
    }
    progress.encoded(plan.duration, plan.duration);
    Ok(())
}

/// The command line for a plan, as one would type it. Names of output files are relative to the output folder.
#[must_use]
pub fn arguments(plan: &Plan) -> Vec<OsString> {
    let mut line = words("-hide_banner -nostdin -y");
    line.extend(probe::input_options(&plan.input));
    line.push("-filter_complex".into());
    line.push(filters(plan).into());

    let mut streams = Vec::new();
    // What a phone writes into a file says where its owner lives.
    line.extend(words("-map_metadata -1 -map_chapters -1"));
    if let Some(video) = &plan.video {
        let group = video.grid.group();
        for (i, Rendition { name, rung, .. }) in video.renditions.iter().enumerate() {
            line.extend(words(&format!(
                "-map [v{i}] -crf:v:{i} {} -maxrate:v:{i} {}k -bufsize:v:{i} {}k",
                rung.crf, rung.maxrate_kbps, rung.bufsize_kbit
            )));
            let group = if plan.audio.is_some() { ",agroup:audio" } else { "" };
            streams.push(format!("v:{i}{group},name:{name}"));
        }
        // Key frames by count alone, so that they are the same in every rendition.
        line.extend(words(&format!(
            "-c:v libx264 -preset veryfast -profile:v high -pix_fmt yuv420p \
             -g {group} -keyint_min {group} -sc_threshold 0 -flags +cgop"
        )));
    }
    if plan.audio.is_some() {
        line.extend(words("-map [a] -c:a aac -b:a 128k -ac 2 -ar 48000"));
        let group = if plan.video.is_some() { ",agroup:audio" } else { "" };
        streams.push(format!("a:0{group},name:{AUDIO}"));
    }
    // No edit lists, for they would come out wrong here: see `fragment`. The queue holds what one stream writes
    // before another begins.
    line.extend(words(&format!(
        "-max_muxing_queue_size 4096 -f hls -hls_time {} -hls_playlist_type vod -hls_segment_type fmp4 \
         -hls_flags independent_segments -hls_segment_options use_editlist=0 \
         -hls_fmp4_init_filename init.mp4 -var_stream_map",
        seconds(plan.segment())
    )));
    line.push(streams.join(" ").into());
    line.extend(words("-hls_segment_filename %v/cut%05d.m4s %v/index.m3u8"));
    line
}

fn filters(plan: &Plan) -> String {
    let video = plan.video.iter().flat_map(picture);
    let audio = plan.audio.iter().map(|audio| sound(audio, plan));
    video.chain(audio).collect::<Vec<_>>().join(";")
}

/// One even stream of pictures from 0 on, and then a copy of it for each size.
fn picture(video: &Video) -> Vec<String> {
    let Rate { frames, seconds: per } = video.grid.rate;
    let still = match video.still {
        Duration::ZERO => String::new(),
        still => format!(",tpad=stop_mode=clone:stop_duration={}", seconds(still)),
    };
    let copies: Vec<_> = (0..video.renditions.len()).map(|i| format!("[s{i}]")).collect();
    let source = format!(
        "[0:{}]fps=fps={frames}/{per}:start_time=0{still},split={}{}",
        video.stream,
        copies.len(),
        copies.concat()
    );
    let sizes = video.renditions.iter().enumerate().map(|(i, Rendition { width, height, .. })| {
        format!("[s{i}]scale={width}:{height}:flags=bicubic,setsar=1[v{i}]")
    });
    std::iter::once(source).chain(sizes).collect()
}

/// The sound from 0 on, without gaps, and no longer and no shorter than the picture.
///
/// What the encoder puts before the first sample cannot be hidden without an edit list; so that many samples are
/// left out at the start, and everything after them is where it belongs.
fn sound(audio: &Audio, plan: &Plan) -> String {
    let source = format!("[0:{}]aresample=48000:async=1:first_pts=0", audio.stream);
    if plan.video.is_none() {
        return format!("{source},atrim=start_sample={AAC_PRIMING}[a]");
    }
    let end = seconds(plan.duration);
    format!("{source},apad=whole_dur={end},atrim=start_sample={AAC_PRIMING}:end={end}[a]")
}

fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

/// A running ffmpeg, which does not outlive this. A dropped `FfmpegChild` is neither stopped nor reaped.
struct Running(FfmpegChild);

impl Running {
    fn start(plan: &Plan, output: &Path) -> Result<Self, Error> {
        let mut command = FfmpegCommand::new_with_path("ffmpeg");
        command.args(arguments(plan));
        command.as_inner_mut().current_dir(output);
        // Ctrl-C at a terminal goes to the whole group; it is for us to pass on.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command.as_inner_mut(), 0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotInstalled,
            _ => Error::NotStarted(error),
        })?;
        // `ffmpeg-sidecar` insists on pipes. Nobody is at the other end of these two, so that it cannot wait there.
        drop((child.take_stdin(), child.take_stdout()));
        Ok(Self(child))
    }

    /// What it says. Whether or not anybody listens, it is read to its end: ffmpeg stands still while its words
    /// are not taken.
    fn events(&mut self) -> Result<mpsc::UnboundedReceiver<FfmpegEvent>, Error> {
        let iterator = self.0.iter().map_err(|error| Error::NotStarted(io::Error::other(error)))?;
        let (sender, events) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for event in iterator {
                let _ = sender.send(event);
            }
        });
        Ok(events)
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.0.as_inner_mut().try_wait().map_err(Error::NotStarted)
    }

    /// Its status, once it has said everything.
    async fn wait(&mut self, complaints: &Complaints) -> Result<ExitStatus, Error> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if begun.elapsed() > PATIENCE {
                return Err(Error::Stalled { after: PATIENCE, reason: complaints.in_words() });
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What it has made so far is of no use, so there is nothing to wait for: asking it to quit would take
        // longer and leave something that looks finished. It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.as_inner_mut().wait();
    }
}

/// The last errors ffmpeg spoke of.
#[derive(Default)]
struct Complaints(VecDeque<String>);

impl Complaints {
    const KEPT: usize = 3;

    fn hear(&mut self, line: &str) {
        // `[libx264 @ 0x5581] [error] height not divisible by 2`
        let mut text = line.trim();
        while let Some((_, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
            text = rest.trim_start();
        }
        if text.is_empty() || self.0.iter().any(|known| known == text) {
            return;
        }
        if self.0.len() == Self::KEPT {
            self.0.pop_front();
        }
        self.0.push_back(text.to_owned());
    }

    fn in_words(&self) -> String {
        if self.0.is_empty() {
            return "it gave no reason".to_owned();
        }
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ladder;
    use crate::language;
    use crate::plan::Grid;

    fn plan(width: u32, height: u32) -> Plan {
        let grid = Grid { rate: Rate { frames: 30_000, seconds: 1001 } };
        let still = Duration::ZERO;
        let renditions = ladder::renditions(width, height);
        Plan {
            input: "/films/talk.mp4".into(),
            duration: Duration::from_millis(8_008),
            video: Some(Video { stream: 0, grid, still, renditions }),
            audio: Some(Audio { stream: 1, language: language::of_track(None), segment: grid.segment() }),
        }
    }

    /// As typed, without the list of formats, which `probe` tests.
    fn typed(plan: &Plan) -> String {
        let line = arguments(plan).join(&OsString::from(" ")).into_string().unwrap();
        let (before, rest) = line.split_once("-format_whitelist ").unwrap();
        format!("{before}{}", rest.split_once(' ').unwrap().1)
    }

    #[test]
    fn one_command_makes_every_rendition() {
        assert_eq!(
            typed(&plan(1280, 720)),
            "-hide_banner -nostdin -y -protocol_whitelist file -i file:/films/talk.mp4 -filter_complex \
             [0:0]fps=fps=30000/1001:start_time=0,split=3[s0][s1][s2];\
             [s0]scale=1280:720:flags=bicubic,setsar=1[v0];\
             [s1]scale=854:480:flags=bicubic,setsar=1[v1];\
             [s2]scale=640:360:flags=bicubic,setsar=1[v2];\
             [0:1]aresample=48000:async=1:first_pts=0,apad=whole_dur=8.008000,\
             atrim=start_sample=1024:end=8.008000[a] \
             -map_metadata -1 -map_chapters -1 \
             -map [v0] -crf:v:0 22 -maxrate:v:0 2996k -bufsize:v:0 4200k \
             -map [v1] -crf:v:1 22 -maxrate:v:1 1498k -bufsize:v:1 2100k \
             -map [v2] -crf:v:2 22 -maxrate:v:2 856k -bufsize:v:2 1200k \
             -c:v libx264 -preset veryfast -profile:v high -pix_fmt yuv420p \
             -g 60 -keyint_min 60 -sc_threshold 0 -flags +cgop \
             -map [a] -c:a aac -b:a 128k -ac 2 -ar 48000 \
             -max_muxing_queue_size 4096 -f hls -hls_time 6.006000 -hls_playlist_type vod \
             -hls_segment_type fmp4 -hls_flags independent_segments -hls_segment_options use_editlist=0 \
             -hls_fmp4_init_filename init.mp4 -var_stream_map \
             v:0,agroup:audio,name:720p v:1,agroup:audio,name:480p v:2,agroup:audio,name:360p \
             a:0,agroup:audio,name:audio \
             -hls_segment_filename %v/cut%05d.m4s %v/index.m3u8"
        );
    }

    #[test]
    fn picture_alone_and_sound_alone_have_no_group() {
        let silent = typed(&Plan { audio: None, ..plan(100, 80) });
        assert!(silent.contains("-var_stream_map v:0,name:80p -hls_segment_filename"), "{silent}");
        assert!(!silent.contains("[a]") && !silent.contains("aac"), "{silent}");
        let blind = typed(&Plan { video: None, ..plan(100, 80) });
        assert!(blind.contains("-filter_complex [0:1]aresample=48000:async=1:first_pts=0,atrim"), "{blind}");
        assert!(blind.contains("-var_stream_map a:0,name:audio -hls_segment_filename"), "{blind}");
        assert!(!blind.contains("apad") && !blind.contains("libx264"), "{blind}");
    }

    #[test]
    fn the_last_picture_stays_until_the_sound_ends() {
        let mut plan = plan(100, 80);
        plan.video.as_mut().unwrap().still = Duration::from_millis(1_500);
        assert!(
            typed(&plan).contains("start_time=0,tpad=stop_mode=clone:stop_duration=1.500000,split=1[s0];")
        );
    }

    #[test]
    fn complaints_are_kept_in_words() {
        let mut complaints = Complaints::default();
        assert_eq!(complaints.in_words(), "it gave no reason");
        for line in [
            "[error] one",
            "[mov,mp4,m4a,3gp,3g2,mj2 @ 0x55d0] [error] stream 0, offset 0x30: partial file",
            "[error] two",
            "[error] two",
            "[fatal] Conversion failed!",
        ] {
            complaints.hear(line);
        }
        assert_eq!(complaints.in_words(), "stream 0, offset 0x30: partial file; two; Conversion failed!");
    }
}
