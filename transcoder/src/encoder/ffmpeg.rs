//! Encodes on this machine, with the `ffmpeg` on the path.
//!
//! One process makes everything, because then the source is decoded once: of a 1080p source in four renditions that
//! saves a quarter to a half of the work. Every track is a file of its own, in fragments of a group of pictures: what
//! of it becomes a segment is decided by who packages it.
//!
//! ```text
//!                   ┌ scale ─ x264 ─ 1080p.mp4
//! pictures ─ even ─ ┼ scale ─ x264 ─ 720p.mp4
//!                   └ …
//! sound ─ even ─ AAC ─ audio.mp4
//! captions ─ captions-de.vtt
//! ```
//!
//! A source comes from anybody, so what reads it is held on a short leash (`GUARD`): it may not open anything but
//! files, it has a limit of memory and of time, it is the first to go where memory is short, and it dies with us,
//! however we die.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ffmpeg_sidecar::child::FfmpegChild;
use ffmpeg_sidecar::command::FfmpegCommand;
use ffmpeg_sidecar::event::{FfmpegEvent, LogLevel};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::{Error, captions_file, track_file};
use crate::Progress;
use crate::captions;
use crate::ladder::{Codec, Range, Rendition, Rung};
use crate::plan::{
    Audio, CaptionSource, Captions, Colours, Matrix, Options, Plan, Primaries, Quality, Video,
};
use crate::probe::{self, Mastering, Rate};

/// ffmpeg reports twice a second; one that stands still for so long will not go on.
const PATIENCE: Duration = Duration::from_mins(2);

/// The longest that encoding may take: so many times the running time, and at least an hour.
const SLOWEST: u32 = 100;
const SHORTEST_LIMIT: Duration = Duration::from_hours(1);

/// Waits at the other end of a pipe that only we hold, and kills ffmpeg when it breaks: after `kill -9` of us nobody
/// else would. `exec` gives ffmpeg the shell's own process, so that it is a child of ours like any other. A line says
/// that it ended in good order.
///
/// The limit is for addresses, in KiB, as there is none for memory that works without rights. A machine that is short
/// of memory is to end this one, not the service.
#[cfg(unix)]
const GUARD: &str = r#"{ ulimit -v "$1"; echo 500 > /proc/self/oom_score_adj; } 2> /dev/null; shift
exec 3<&0 < /dev/null
{ read -r _ <&3 || kill -9 $$; } > /dev/null 2>&1 &
exec "$@" 3<&-"#;

/// How a shell ends that finds no such program (POSIX, "Exit Status for Commands").
const NOT_FOUND: i32 = 127;

/// The fewest addresses that ffmpeg is given, whatever the machine has: it maps much that it never touches.
#[cfg(unix)]
const FEWEST_KIB: u64 = 8 << 20;

/// How often to look whether the process is still there.
const GLANCE: Duration = Duration::from_millis(500);

/// Samples that an AAC encoder puts before the first, for its decoder to settle.
const AAC_PRIMING: u32 = 1024;

/// Length of a fragment of sound, in microseconds: that of a group of pictures.
const SOUND_FRAGMENT: u32 = 2_000_000;

/// White of a printed page in HDR, in cd/m² (ITU-R BT.2408): what white is in standard range.
const WHITE: f64 = 203.0;

/// How much louder than one channel at its loudest a mix of several may become. At 1, where nothing can ever clip,
/// voices in the middle of 5.1 come out at -10.7 dB, and films are too quiet; at this they come out at -7.7 dB.
const LOUDEST_MIX: f64 = 1.414;

/// What every output has. What a phone writes into a file says where its owner lives.
pub(super) const ANONYMOUS: &str = "-map_metadata -1 -map_chapters -1";

/// Fragments of one track. No edit lists, for they would come out wrong here: see `fragment`. At the end there would be
/// an index of the fragments that nobody reads.
const FRAGMENTED: &str = "-f mp4 -use_editlist 0 -movflags";
const BOXES: &str = "empty_moov+default_base_moof+skip_trailer";

/// Runs a plan to its end.
pub async fn encode(
    plan: &Plan,
    options: &Options,
    output: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let report = |done: Duration| progress.encoded(done.min(plan.duration), plan.duration);
    run(arguments(plan, options), plan.duration, output, &report).await?;
    progress.encoded(plan.duration, plan.duration);
    Ok(())
}

/// Runs a command line to its end, in a folder, on something that plays for so long. Says how far it is.
pub(super) async fn run(
    line: Vec<OsString>,
    duration: Duration,
    output: &Path,
    report: &(dyn Fn(Duration) + Sync),
) -> Result<(), Error> {
    let mut ffmpeg = Running::start(line, output)?;
    let mut events = ffmpeg.events()?;
    let mut complaints = Complaints::default();
    let mut furthest = (Duration::ZERO, 0);
    let limit = duration.saturating_mul(SLOWEST).max(SHORTEST_LIMIT);
    let begun = Instant::now();
    let mut advanced = begun;
    loop {
        match timeout(GLANCE, events.recv()).await {
            Ok(Some(FfmpegEvent::Progress(now))) => {
                let done = probe::clock(&now.time).map(probe::duration).unwrap_or_default();
                if (done, now.frame) != furthest {
                    furthest = (done, now.frame);
                    advanced = Instant::now();
                    report(done);
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
        if begun.elapsed() > limit {
            return Err(Error::TooSlow { after: limit });
        }
    }
    let status = ffmpeg.wait(&complaints).await?;
    if status.success() {
        return Ok(());
    }
    if let Some(part) = complaints.lacking() {
        return Err(Error::Lacking(part));
    }
    if cfg!(unix) && status.code() == Some(NOT_FOUND) {
        return Err(Error::NotInstalled);
    }
    Err(Error::Failed { status, reason: complaints.in_words() })
}

/// `ffmpeg version 5.1.9-0+deb12u1`
pub async fn version() -> String {
    let output = tokio::process::Command::new("ffmpeg").arg("-version").stdin(Stdio::null()).output().await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split(" Copyright").next().unwrap_or_default().trim().to_owned()
}

/// The command line for a plan, as one would type it. Names of output files are relative to the output folder.
#[must_use]
pub fn arguments(plan: &Plan, options: &Options) -> Vec<OsString> {
    let mut line = input(plan);
    let filters = filters(plan);
    if !filters.is_empty() {
        line.push("-filter_complex".into());
        line.push(filters.join(";").into());
    }
    if let Some(video) = &plan.video {
        for (i, rendition) in video.renditions.iter().enumerate() {
            line.extend(words(&format!(
                "-map [v{i}] {ANONYMOUS} {} {}",
                encoding(rendition, video, options.quality),
                pictures_file(rendition, video)
            )));
        }
        if let Some(dense) = &video.dense {
            let Rung { crf, maxrate_kbps, bufsize_kbit } = dense.rung;
            line.extend(words(&format!(
                "-map [dense] {ANONYMOUS} -c:v libx264 -preset veryfast -profile:v high -crf {crf} \
                 -maxrate {maxrate_kbps}k -bufsize {bufsize_kbit}k -g 1 -bf 0 {}",
                pictures_file(dense, video)
            )));
        }
    }
    for (i, Audio { name, kbps, .. }) in plan.audio.iter().enumerate() {
        line.extend(words(&format!(
            "-map [a{i}] {ANONYMOUS} -c:a aac -b:a {kbps}k -ar 48000 {}",
            sound_file(name, false)
        )));
    }
    line.extend(captions(plan));
    line
}

/// The command line that only takes captions out of the source; nothing where there are none.
pub(super) fn captions_alone(plan: &Plan) -> Option<Vec<OsString>> {
    let captions = captions(plan);
    (!captions.is_empty()).then(|| input(plan).into_iter().chain(captions).collect())
}

fn input(plan: &Plan) -> Vec<OsString> {
    let mut line = words("-hide_banner -nostdin -y");
    if !plan.lead.is_zero() {
        line.extend(words(&format!("-itsoffset -{}", seconds(plan.lead))));
    }
    line.extend(probe::input_options(&plan.input));
    line
}

fn captions(plan: &Plan) -> Vec<OsString> {
    let mut line = Vec::new();
    for Captions { name, from, .. } in &plan.captions {
        let CaptionSource::Stream(stream) = from else { continue };
        let codec = plan.caption_codecs.get(stream).map(String::as_str).unwrap_or_default();
        let Some(extraction) = captions::extraction(codec) else { continue };
        // Whoever reads it sees by its first line which of the two it is.
        let options = extraction.options(*stream);
        line.extend(words(&format!("{options} {ANONYMOUS} {}", captions_file(name))));
    }
    line
}

/// How a rendition is encoded. Key frames by count alone, so that they are the same in every rendition.
fn encoding(rendition: &Rendition, video: &Video, quality: Quality) -> String {
    let Rung { crf, maxrate_kbps, bufsize_kbit } = rendition.rung;
    let group = video.grid.group() / rendition.every;
    let is_high = quality == Quality::High;
    let rates = format!("-crf {crf} -maxrate {maxrate_kbps}k -bufsize {bufsize_kbit}k -g {group}");
    match rendition.codec {
        Codec::H264 => {
            let preset = if is_high { "medium" } else { "veryfast" };
            format!(
                "-c:v libx264 -preset {preset} -profile:v high {rates} \
                 -keyint_min {group} -sc_threshold 0 -flags +cgop"
            )
        }
        Codec::Hevc => {
            let preset = if is_high { "medium" } else { "veryfast" };
            // Apple's players want the parameter sets outside of the pictures, which `hvc1` promises.
            let (profile, hdr) = match rendition.range {
                Range::Sdr => ("main", String::new()),
                Range::Pq => ("main10", hdr10(video.mastering.as_ref())),
            };
            format!(
                "-c:v libx265 -preset {preset} -profile:v {profile} -tag:v hvc1 {rates} -x265-params \
                 keyint={group}:min-keyint={group}:scenecut=0:open-gop=0{hdr}:log-level=error"
            )
        }
        Codec::Av1 => {
            let preset = if is_high { 8 } else { 10 };
            format!(
                "-c:v libsvtav1 -preset {preset} -crf {crf} -maxrate {maxrate_kbps}k -g {group} \
                 -svtav1-params scd=0"
            )
        }
    }
}

/// What x265 is told of HDR10; ffmpeg 5.1 does not pass on what it knows of it.
fn hdr10(mastering: Option<&Mastering>) -> String {
    let mut text = ":hdr10=1:repeat-headers=1".to_owned();
    if let Some([gx, gy, bx, by, rx, ry, wx, wy, most, least]) = mastering.and_then(|it| it.display) {
        let _ = write!(
            text,
            ":master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})L({most},{least})"
        );
    }
    if let Some((content, average)) = mastering.and_then(|it| it.light) {
        let _ = write!(text, ":max-cll={content},{average}");
    }
    text
}

/// A file whose ticks are such that every picture is so many of them, exactly.
pub(super) fn pictures_file(rendition: &Rendition, video: &Video) -> String {
    let ticks = video.grid.rate.frames;
    format!(
        "-video_track_timescale {ticks} {FRAGMENTED} frag_keyframe+{BOXES} {}",
        track_file(&rendition.name)
    )
}

/// A file of one track of sound. Where that is only copied, what a decoder has to know may be found with the first packet,
/// which the list of boxes has to wait for.
pub(super) fn sound_file(name: &str, is_copied: bool) -> String {
    let wait = if is_copied { "+delay_moov" } else { "" };
    format!("{FRAGMENTED} {BOXES}{wait} -frag_duration {SOUND_FRAGMENT} {}", track_file(name))
}

/// What a source's pictures are to be compared with a rendition of them by: a filter from the second input to
/// `[reference]`, of this size, with the rendition's frames.
#[must_use]
pub fn reference(plan: &Plan, rendition: &Rendition, (width, height): (u32, u32)) -> Option<String> {
    let video = plan.video.as_ref()?;
    let even = even(video, plan);
    let shape = shape(rendition, width, height);
    let standard = match rendition.range {
        Range::Sdr => format!(",{}", standard(video)),
        Range::Pq => String::new(),
    };
    Some(format!("[1:{}]{even}{standard},{shape}[reference]", video.stream))
}

fn filters(plan: &Plan) -> Vec<String> {
    let video = plan.video.iter().flat_map(|video| pictures(video, plan));
    let audio = plan.audio.iter().enumerate().map(|(i, audio)| sound(i, audio, plan));
    video.chain(audio).collect()
}

/// One even stream of pictures from 0 on, and then a copy of it for each size.
fn pictures(video: &Video, plan: &Plan) -> Vec<String> {
    let (mut standard_range, mut high_range, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
    let renditions =
        video.renditions.iter().enumerate().map(|(i, rendition)| (i.to_string(), "v", rendition));
    let dense = video.dense.iter().map(|rendition| ("dense".to_owned(), "", rendition));
    for (name, prefix, rendition) in renditions.chain(dense) {
        let copies = if rendition.range == Range::Sdr { &mut standard_range } else { &mut high_range };
        copies.push(format!("[s{name}]"));
        let shape = shape(rendition, rendition.width, rendition.height);
        shapes.push(format!("[s{name}]{shape}[{prefix}{name}]"));
    }
    let even = format!("[0:{}]{}", video.stream, even(video, plan));
    let split = |copies: Vec<String>| format!("split={}{}", copies.len(), copies.concat());
    let standard = standard(video);
    let mut filters = if high_range.is_empty() {
        vec![format!("{even},{standard},{}", split(standard_range))]
    } else {
        vec![
            format!("{even},split=2[standard][high]"),
            format!("[standard]{standard},{}", split(standard_range)),
            // What was said of captions in the picture is left out here as well.
            format!("[high]sidedata=delete:type=A53_CC,{}", split(high_range)),
        ]
    };
    filters.extend(shapes);
    filters
}

/// As many pictures as the grid has, from 0 on, each whole.
fn even(video: &Video, plan: &Plan) -> String {
    let Rate { frames, seconds: per } = video.grid.rate;
    let mut filters = Vec::new();
    if !plan.jumps.is_empty() {
        filters.push(format!("setpts={}", without_jumps(plan)));
    }
    if video.deinterlace {
        // A picture for two fields; those that say that they are none are left alone.
        filters.push("bwdif=mode=send_frame:deint=interlaced".to_owned());
    }
    filters.push(format!("fps=fps={frames}/{per}:start_time=0"));
    if !video.still.is_zero() {
        filters.push(format!("tpad=stop_mode=clone:stop_duration={}", seconds(video.still)));
    }
    // What a mended clock makes of it may be more than there was, and more than there is sound.
    filters.push(format!("trim=end={}", seconds(plan.duration)));
    filters.join(",")
}

/// Any colours to those of HD television, BT.709, in limited range.
fn standard(video: &Video) -> String {
    let mut filters = Vec::new();
    let range = if video.is_full_range { "full" } else { "limited" };
    if video.is_full_range && !matches!(video.colours, Colours::Rgb) && !video.colours.is_hdr() {
        filters.push("scale=in_range=full:out_range=limited".to_owned());
    }
    match video.colours {
        Colours::Standard(Matrix::Bt709, Primaries::Bt709) => {}
        Colours::Standard(matrix, primaries) => filters.push(converted(matrix, primaries)),
        Colours::Rgb => filters.push("scale=out_color_matrix=bt709:out_range=limited".to_owned()),
        Colours::Pq(peak) => filters.push(tone_map(video, "smpte2084", range, peak)),
        Colours::Hlg(peak) => filters.push(tone_map(video, "arib-std-b67", range, peak)),
    }
    // What frames carry beside their pixels is true of the source: captions, and how bright it may become.
    filters.push("format=yuv420p,sidedata=delete".to_owned());
    filters.push("setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709".to_owned());
    filters.join(",")
}

/// Other colours of a standard range, in limited range, to BT.709.
fn converted(matrix: Matrix, primaries: Primaries) -> String {
    let matrix = match matrix {
        Matrix::Bt709 => "bt709",
        Matrix::Bt601 => "smpte170m",
        Matrix::Bt2020 => "bt2020ncl",
    };
    let primaries = match primaries {
        Primaries::Bt709 => "bt709",
        Primaries::Bt601Of525 => "smpte170m",
        Primaries::Bt601Of625 => "bt470bg",
        Primaries::Bt2020 => "bt2020",
        Primaries::P3 => "smpte432",
    };
    // The formats are those that the filter can read.
    format!(
        "format=yuv420p|yuv422p|yuv444p|yuv420p10|yuv422p10|yuv444p10,colorspace=ispace={matrix}:\
         iprimaries={primaries}:itrc=bt709:irange=tv:all=bt709:range=tv:format=yuv420p"
    )
}

/// HDR to standard range: in linear light, in which white becomes white; what is brighter is compressed, and hues stay
/// as they are. In the size of the largest rendition, because it is slow.
fn tone_map(video: &Video, transfer: &str, range: &str, peak: u32) -> String {
    let size = video.renditions.first().map_or_else(String::new, |largest| {
        format!("w={}:h={}:filter=bicubic:", largest.width, largest.height)
    });
    let peak = f64::from(peak) / WHITE;
    format!(
        "zscale={size}tin={transfer}:pin=bt2020:min=2020_ncl:rin={range}:t=linear:npl={WHITE},format=gbrpf32le,\
         zscale=p=bt709,tonemap=mobius:param=0.5:desat=0:peak={peak:.3},zscale=t=bt709:m=bt709:r=limited"
    )
}

/// The frames of a rendition, in a size.
fn shape(rendition: &Rendition, width: u32, height: u32) -> String {
    let step = match rendition.every {
        1 => String::new(),
        every => format!("framestep={every},"),
    };
    let format = match rendition.range {
        Range::Sdr => "yuv420p",
        Range::Pq => {
            "yuv420p10le,setparams=range=tv:color_primaries=bt2020:color_trc=smpte2084:colorspace=bt2020nc"
        }
    };
    format!("{step}scale={width}:{height}:flags=bicubic,setsar=1,format={format}")
}

/// The sound from 0 on, without gaps, and no longer and no shorter than the picture.
///
/// What the encoder puts before the first sample cannot be hidden without an edit list; so that many samples are
/// left out at the start, and everything after them is where it belongs.
fn sound(i: usize, audio: &Audio, plan: &Plan) -> String {
    let mut filters = Vec::new();
    if !plan.jumps.is_empty() {
        filters.push(format!("asetpts={}", without_jumps(plan)));
    }
    filters.push(format!("aresample=48000:async=1:first_pts=0:rematrix_maxval={LOUDEST_MIX}"));
    if plan.mono.contains(&audio.stream) {
        // Both sides as loud as it was: ffmpeg's own way takes 3 dB.
        filters.push("pan=stereo|c0=c0|c1=c0".to_owned());
    }
    let layout = if audio.channels > 2 { "5.1" } else { "stereo" };
    filters.push(format!("aformat=sample_fmts=fltp:channel_layouts={layout}"));
    let streams = plan.audio.iter().filter(|other| other.stream != audio.stream).count();
    if plan.video.is_none() && streams == 0 {
        filters.push(format!("atrim=start_sample={AAC_PRIMING}"));
    } else {
        let end = seconds(plan.duration);
        filters.push(format!("apad=whole_dur={end},atrim=start_sample={AAC_PRIMING}:end={end}"));
    }
    format!("[0:{}]{}[a{i}]", audio.stream, filters.join(","))
}

/// Times without the gaps in the file's clock.
fn without_jumps(plan: &Plan) -> String {
    let lead = plan.lead.as_secs_f64();
    let jumps = plan.jumps.iter().map(|jump| format!("gte(T,{:.6})*{:.6}", jump.clock - lead, jump.by));
    format!("'PTS-({})/TB'", jumps.collect::<Vec<_>>().join("+"))
}

/// A command line as one would type it into a shell, and the input by its file name alone.
#[must_use]
pub fn typed(plan: &Plan, options: &Options) -> String {
    let input = PathBuf::from(plan.input.file_name().unwrap_or_default());
    let line = arguments(&Plan { input, ..plan.clone() }, options);
    let quoted = line.iter().map(|word| {
        let word = word.to_string_lossy();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_+=:.,/%@".contains(&byte);
        if !word.is_empty() && word.bytes().all(is_plain) {
            return word.into_owned();
        }
        format!("'{}'", word.replace('\'', r"'\''"))
    });
    std::iter::once("ffmpeg".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

/// In seconds, as ffmpeg reads them.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{}.{:06}", duration.as_secs(), duration.subsec_micros())
}

/// A command line as one would type it, where nothing in it has blanks.
pub(crate) fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

/// A running ffmpeg, which does not outlive this. A dropped `FfmpegChild` is neither stopped nor reaped.
struct Running {
    child: FfmpegChild,
    leash: Option<ChildStdin>,
}

impl Running {
    fn start(line: Vec<OsString>, output: &Path) -> Result<Self, Error> {
        let mut command = command();
        command.args(line);
        // SVT-AV1 speaks past ffmpeg's log. And glibc sets addresses aside by the thread, which count.
        command.as_inner_mut().current_dir(output).env("SVT_LOG", "1").env("MALLOC_ARENA_MAX", "4");
        // Ctrl-C at a terminal goes to the whole group; it is for us to pass on.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command.as_inner_mut(), 0);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotInstalled,
            _ => Error::NotStarted(error),
        })?;
        // `ffmpeg-sidecar` insists on pipes. Nobody is at the other end of this one, so that it cannot wait there.
        drop(child.take_stdout());
        let leash = child.take_stdin();
        Ok(Self { child, leash })
    }

    /// What it says. Whether or not anybody listens, it is read to its end: ffmpeg stands still while its words
    /// are not taken.
    fn events(&mut self) -> Result<mpsc::UnboundedReceiver<FfmpegEvent>, Error> {
        let iterator = self.child.iter().map_err(|error| Error::NotStarted(io::Error::other(error)))?;
        let (sender, events) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            for event in iterator {
                let _ = sender.send(event);
            }
        });
        Ok(events)
    }

    fn exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.child.as_inner_mut().try_wait().map_err(Error::NotStarted)
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
        let _ = self.child.kill();
        let _ = self.child.as_inner_mut().wait();
        if let Some(leash) = &mut self.leash {
            let _ = leash.write_all(b"\n");
        }
    }
}

/// ffmpeg on its leash.
#[cfg(unix)]
fn command() -> FfmpegCommand {
    // `ffmpeg-sidecar` puts arguments of its own before any others.
    let mut command = FfmpegCommand::new_with_path("ffmpeg");
    let own: Vec<OsString> = command.as_inner().get_args().map(OsString::from).collect();
    let mut inner = std::process::Command::new("/bin/sh");
    inner.args(["-c", GUARD, "guard"]).arg(addresses()).arg("ffmpeg").args(own);
    inner.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    *command.as_inner_mut() = inner;
    command
}

#[cfg(not(unix))]
fn command() -> FfmpegCommand {
    FfmpegCommand::new_with_path("ffmpeg")
}

/// As many KiB as the machine has memory, real and on disk.
#[cfg(unix)]
fn addresses() -> String {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = |name: &str| -> Option<u64> {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix(" kB")?.parse().ok()
    };
    kib("MemTotal:").map_or_else(
        || "unlimited".to_owned(),
        |total| (total + kib("SwapTotal:").unwrap_or_default()).max(FEWEST_KIB).to_string(),
    )
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

    /// The filter or encoder that it does not know.
    fn lacking(&self) -> Option<String> {
        let named = self.0.iter().find_map(|line| {
            let known = ["No such filter: '", "Unknown encoder '"];
            known.iter().find_map(|label| line.split_once(label)).map(|(_, rest)| rest)
        });
        named?.split('\'').next().map(str::to_owned)
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
    use crate::plan::Container;
    use crate::probe::{Jump, Source};

    fn source() -> Source {
        let rate = Some(Rate { frames: 30, seconds: 1 });
        let video = probe::Video {
            width: 640,
            height: 360,
            coded_width: 640,
            coded_height: 360,
            colour: probe::Colour { matrix: Some("bt709".into()), ..probe::Colour::default() },
            base_rate: rate,
            average_rate: rate,
            end: Duration::from_secs(8),
            ..probe::Video::default()
        };
        let audio =
            probe::Audio { stream: 1, channels: 2, end: Duration::from_secs(8), ..probe::Audio::default() };
        let path = "/films/talk.mp4".into();
        Source { path, video: Some(video), audio: vec![audio], ..Source::default() }
    }

    fn plan(source: &Source, options: &Options) -> Plan {
        Plan::for_source(source, &[], options).unwrap()
    }

    /// As typed, without the list of formats, which `probe` tests.
    fn line(source: &Source, options: &Options) -> String {
        let line =
            arguments(&plan(source, options), options).join(&OsString::from(" ")).into_string().unwrap();
        let (before, rest) = line.split_once("-format_whitelist ").unwrap();
        format!("{before}{}", rest.split_once(' ').unwrap().1)
    }

    #[test]
    fn one_command_makes_every_track() {
        assert_eq!(
            line(&source(), &Options::default()),
            "-hide_banner -nostdin -y -protocol_whitelist file -probesize 100M -analyzeduration 60M \
             -i file:/films/talk.mp4 -filter_complex \
             [0:0]fps=fps=30/1:start_time=0,trim=end=8.000000,format=yuv420p,sidedata=delete,\
             setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709,split=3[s0][s1][s2];\
             [s0]scale=640:360:flags=bicubic,setsar=1,format=yuv420p[v0];\
             [s1]scale=640:360:flags=bicubic,setsar=1,format=yuv420p[v1];\
             [s2]scale=416:234:flags=bicubic,setsar=1,format=yuv420p[v2];\
             [0:1]aresample=48000:async=1:first_pts=0:rematrix_maxval=1.414,\
             aformat=sample_fmts=fltp:channel_layouts=stereo,\
             apad=whole_dur=8.000000,atrim=start_sample=1024:end=8.000000[a0];\
             [0:1]aresample=48000:async=1:first_pts=0:rematrix_maxval=1.414,\
             aformat=sample_fmts=fltp:channel_layouts=stereo,\
             apad=whole_dur=8.000000,atrim=start_sample=1024:end=8.000000[a1] \
             -map [v0] -map_metadata -1 -map_chapters -1 -c:v libx264 -preset veryfast -profile:v high \
             -crf 21 -maxrate 600k -bufsize 900k -g 60 -keyint_min 60 -sc_threshold 0 -flags +cgop \
             -video_track_timescale 30 -f mp4 -use_editlist 0 \
             -movflags frag_keyframe+empty_moov+default_base_moof+skip_trailer 360p.mp4 \
             -map [v1] -map_metadata -1 -map_chapters -1 -c:v libx264 -preset veryfast -profile:v high \
             -crf 23 -maxrate 365k -bufsize 547k -g 60 -keyint_min 60 -sc_threshold 0 -flags +cgop \
             -video_track_timescale 30 -f mp4 -use_editlist 0 \
             -movflags frag_keyframe+empty_moov+default_base_moof+skip_trailer 360p-low.mp4 \
             -map [v2] -map_metadata -1 -map_chapters -1 -c:v libx264 -preset veryfast -profile:v high \
             -crf 23 -maxrate 124k -bufsize 72k -g 60 -keyint_min 60 -sc_threshold 0 -flags +cgop \
             -video_track_timescale 30 -f mp4 -use_editlist 0 \
             -movflags frag_keyframe+empty_moov+default_base_moof+skip_trailer 234p.mp4 \
             -map [a0] -map_metadata -1 -map_chapters -1 -c:a aac -b:a 128k -ar 48000 -f mp4 -use_editlist 0 \
             -movflags empty_moov+default_base_moof+skip_trailer -frag_duration 2000000 audio.mp4 \
             -map [a1] -map_metadata -1 -map_chapters -1 -c:a aac -b:a 48k -ar 48000 -f mp4 -use_editlist 0 \
             -movflags empty_moov+default_base_moof+skip_trailer -frag_duration 2000000 audio-low.mp4"
        );
    }

    #[test]
    fn other_codecs_have_the_same_closed_groups() {
        let mut source = source();
        let video = source.video.as_mut().unwrap();
        video.colour.transfer = Some("smpte2084".into());
        video.mastering = Some(Mastering {
            display: Some([1, 2, 3, 4, 5, 6, 7, 8, 40_000_000, 10]),
            light: Some((2_030, 400)),
        });
        let options = Options {
            codecs: vec![Codec::Hevc, Codec::Av1],
            hdr: true,
            quality: Quality::High,
            ..Options::default()
        };
        let line = line(&source, &options);
        for part in [
            "-preset medium -profile:v main -tag:v hvc1 -crf 24 -maxrate 300k -bufsize 450k -g 60 \
             -x265-params keyint=60:min-keyint=60:scenecut=0:open-gop=0:log-level=error",
            "-c:v libsvtav1 -preset 8 -crf 32 -maxrate 300k -g 60 -svtav1-params scd=0",
            "open-gop=0:hdr10=1:repeat-headers=1:master-display=G(1,2)B(3,4)R(5,6)WP(7,8)L(40000000,10):\
             max-cll=2030,400:log-level=error",
            "start_time=0,trim=end=8.000000,split=2[standard][high];[standard]zscale=w=640:h=360:filter=bicubic:tin=smpte2084:",
            "tonemap=mobius:param=0.5:desat=0:peak=10.000,",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn small_renditions_have_half_of_many_frames() {
        let mut source = source();
        let rate = Some(Rate { frames: 60_000, seconds: 1_001 });
        let video = source.video.as_mut().unwrap();
        (video.base_rate, video.average_rate) = (rate, rate);
        let line = line(&source, &Options { dense_key_frames: true, ..Options::default() });
        assert!(line.contains("[s0]framestep=2,scale=640:360"), "{line}");
        assert!(
            line.contains("-g 60 -keyint_min 60 -sc_threshold 0 -flags +cgop -video_track_timescale 60000")
        );
        assert!(line.contains("[sdense]framestep=60,scale=640:360"), "{line}");
        assert!(line.contains("-maxrate 45k -bufsize 90k -g 1 -bf 0 -video_track_timescale 60000"), "{line}");
    }

    #[test]
    fn pictures_are_made_even_and_whole() {
        let mut source = source();
        source.audio[0].end = Duration::from_millis(9_500);
        source.jumps = vec![Jump { at: 2.0, by: 60.0, clock: 32.0 }];
        let video = source.video.as_mut().unwrap();
        (video.is_interlaced, video.start) = (true, Duration::from_millis(20));
        video.colour = probe::Colour { range: Some("pc".into()), ..probe::Colour::default() };
        let line = line(&source, &Options::default());
        assert!(
            line.starts_with("-hide_banner -nostdin -y -itsoffset -0.020000 -protocol_whitelist"),
            "{line}"
        );
        assert!(
            line.contains(
                "[0:0]setpts='PTS-(gte(T,31.980000)*60.000000)/TB',bwdif=mode=send_frame:deint=interlaced,\
                 fps=fps=30/1:start_time=0,tpad=stop_mode=clone:stop_duration=1.500000,trim=end=9.480000,\
                 scale=in_range=full:out_range=limited,"
            ),
            "{line}"
        );
        assert!(
            line.contains(",colorspace=ispace=smpte170m:iprimaries=bt709:itrc=bt709:irange=tv:all=bt709:")
        );
        assert!(line.contains("[0:1]asetpts='PTS-(gte(T,31.980000)*60.000000)/TB',aresample="), "{line}");
    }

    #[test]
    fn sound_is_mixed_for_its_group_and_captions_come_as_they_are() {
        let mut source = source();
        source.audio[0].channels = 6;
        source.audio.push(probe::Audio {
            stream: 2,
            channels: 1,
            end: Duration::from_secs(8),
            ..probe::Audio::default()
        });
        let captions = |stream, codec: &str| probe::Captions {
            stream,
            codec: codec.into(),
            ..probe::Captions::default()
        };
        source.captions = vec![captions(3, "mov_text"), captions(4, "webvtt")];
        let line = line(&source, &Options { container: Container::Ts, ..Options::default() });
        assert!(
            line.contains("rematrix_maxval=1.414,aformat=sample_fmts=fltp:channel_layouts=5.1,"),
            "{line}"
        );
        assert!(line.contains(
            "[0:2]aresample=48000:async=1:first_pts=0:rematrix_maxval=1.414,pan=stereo|c0=c0|c1=c0,"
        ));
        assert!(line.contains("-c:a aac -b:a 320k"), "{line}");
        assert!(
            line.contains(
                "-map 0:3 -c:s srt -avoid_negative_ts disabled -f srt -map_metadata -1 -map_chapters -1 captions-und.vtt"
            ),
            "{line}"
        );
        let copied = "-c:s copy -avoid_negative_ts disabled -f webvtt -map_metadata -1 -map_chapters -1 captions-und-2.vtt";
        assert!(line.ends_with(copied), "{line}");
    }

    #[test]
    fn picture_alone_and_sound_alone_have_nothing_of_the_other() {
        let silent = line(&Source { audio: Vec::new(), ..source() }, &Options::default());
        assert!(!silent.contains("[a0]") && !silent.contains("aac"), "{silent}");
        let blind = line(&Source { video: None, ..source() }, &Options::default());
        assert!(blind.contains("channel_layouts=stereo,atrim=start_sample=1024[a0] -map [a0]"), "{blind}");
        assert!(!blind.contains("apad") && !blind.contains("libx264"), "{blind}");
    }

    #[test]
    fn what_is_shown_of_a_command_can_be_typed_and_names_no_folder() {
        let named = Source { path: "/home/ines/Ines' talk.mp4".into(), ..source() };
        let options = Options::default();
        let text = typed(&plan(&named, &options), &options);
        assert!(text.starts_with("ffmpeg -hide_banner -nostdin -y -protocol_whitelist file "), "{text}");
        assert!(text.contains(r" -i 'file:Ines'\'' talk.mp4' -filter_complex '[0:0]fps="), "{text}");
        assert!(!text.contains("home"), "{text}");
    }

    #[test]
    fn a_reference_has_the_frames_of_a_rendition() {
        let options = Options::default();
        let plan = plan(&source(), &options);
        let rendition = &plan.video.as_ref().unwrap().renditions[2];
        let filter = reference(&plan, rendition, (640, 360)).unwrap();
        assert!(
            filter.starts_with("[1:0]fps=fps=30/1:start_time=0,trim=end=8.000000,format=yuv420p"),
            "{filter}"
        );
        assert!(
            filter.ends_with(",scale=640:360:flags=bicubic,setsar=1,format=yuv420p[reference]"),
            "{filter}"
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
        assert_eq!(complaints.lacking(), None);
        // ffmpeg 8.1 without libzimg.
        complaints.hear("[AVFilterGraph @ 0x55d0] [error] No such filter: 'zscale'");
        assert_eq!(complaints.lacking().as_deref(), Some("zscale"));
    }
}
