//! Sources as they come: what is encoded of each, as ffprobe sees it.

mod harness;

use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Studio, ffprobe, times};
use transcoder::captions;
use transcoder::encoder::Machine;
use transcoder::plan::{Group, Options, Plan};
use transcoder::probe::{self, Source};

/// What was encoded of a source.
struct Made {
    source: Source,
    plan: Plan,
    folder: PathBuf,
}

async fn make(studio: &Studio, input: &Path, options: &Options) -> Made {
    let source = probe::probe(input).await.unwrap_or_else(|error| panic!("{error}"));
    let plan = Plan::for_source(&source, &captions::beside(input), options).unwrap();
    let folder = studio.path(&format!("{}.made", source.name()));
    std::fs::create_dir(&folder).unwrap();
    let commands = Machine::Ffmpeg.encode(&plan, options, &folder, &()).await.unwrap();
    assert!(!commands.concat().contains(studio.path("").to_str().unwrap()), "{commands:?}");
    Made { source, plan, folder }
}

impl Made {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.mp4"))
    }

    fn names(&self) -> Vec<&str> {
        self.plan.video.iter().flat_map(|video| &video.renditions).map(|it| it.name.as_str()).collect()
    }

    /// When the pictures of a rendition are shown, in seconds from the first one on.
    fn times(&self, name: &str) -> Vec<f64> {
        let mut times = times(&self.file(name), false);
        let first = times[0];
        for time in &mut times {
            *time -= first;
        }
        times
    }

    /// Which pictures of a rendition are key frames, by their time.
    fn key_frames(&self, name: &str) -> Vec<f64> {
        let first = times(&self.file(name), false)[0];
        times(&self.file(name), true).iter().map(|time| ((time - first) * 1e3).round() / 1e3).collect()
    }

    fn stream(&self, name: &str, entries: &str) -> String {
        ffprobe(&self.file(name), &format!("stream={entries}")).trim().to_owned()
    }

    fn has_note(&self, text: &str) -> bool {
        self.plan.notes.iter().any(|note| note.contains(text))
    }

    /// How long a track plays, by its packets.
    fn seconds(&self, name: &str) -> f64 {
        let packets = ffprobe(&self.file(name), "packet=dts_time,duration_time");
        let (time, length) = packets.trim().lines().last().unwrap().split_once(',').unwrap();
        time.parse::<f64>().unwrap() + length.parse::<f64>().unwrap()
    }
}

/// When the frames of a source are shown, from the first one on.
fn source_times(path: &Path) -> Vec<f64> {
    let output = ffprobe(path, "packet=pts_time,stream_index");
    let video = output.lines().filter_map(|line| line.strip_prefix("0,"));
    let mut times: Vec<f64> = video.map(|time| time.trim_end_matches(',').parse().unwrap()).collect();
    times.sort_by(f64::total_cmp);
    let first = times[0];
    for time in &mut times {
        *time -= first;
    }
    times
}

fn assert_near(found: &[f64], expected: &[f64], within: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= within, "{what}: frame {i} at {found}, not {expected}");
    }
}

#[tokio::test]
async fn every_frame_of_an_even_source_is_shown_when_it_was() {
    let studio = Studio::new();
    for (name, rate, more) in [
        ("film.mp4", "24000/1001", "-c:v libx264"),
        ("film.mkv", "30000/1001", "-c:v libx264"),
        ("film.ts", "25", "-c:v libx264"),
        ("film.avi", "30", "-c:v mpeg4"),
        ("film.mov", "60000/1001", "-vf scale=640:480 -c:v libx264"),
        ("film.webm", "50", "-c:v libvpx -deadline realtime -cpu-used 8"),
    ] {
        let clip = studio.clip(name, &format!("-f lavfi -i testsrc2=s=64x64:r={rate}:d=3 {more}"));
        let made = make(&studio, &clip, &Options::default()).await;
        // Small renditions have half of 50 and 60 frames a second.
        let rendition = &made.plan.video.as_ref().unwrap().renditions[0];
        let expected: Vec<f64> = source_times(&clip).into_iter().step_by(rendition.every as usize).collect();
        assert_eq!(rendition.every, if name == "film.webm" { 2 } else { 1 }, "{name}");
        // Matroska's clock has milliseconds.
        assert_near(&made.times(&rendition.name), &expected, 0.001, name);
    }
}

#[tokio::test]
async fn rungs_and_codecs_have_the_same_key_frames() {
    let studio = Studio::new();
    let clip = studio.clip("fast.mp4", "-f lavfi -i testsrc2=s=640x360:r=60000/1001:d=5 -c:v libx264");
    let options = Options {
        codecs: vec![transcoder::ladder::Codec::Hevc, transcoder::ladder::Codec::Av1],
        dense_key_frames: true,
        ..Options::default()
    };
    let made = make(&studio, &clip, &options).await;
    assert_eq!(
        made.names(),
        ["360p", "360p-low", "234p", "360p-hevc", "360p-low-hevc", "360p-av1", "360p-low-av1"]
    );
    for name in made.names() {
        assert_eq!(made.key_frames(name), [0.0, 2.002, 4.004], "{name}");
        // All of these have at most 1,100 kbit/s, so at most 30 frames a second.
        assert_eq!(made.stream(name, "r_frame_rate"), "30000/1001", "{name}");
        assert_eq!(made.times(name).len(), 150, "{name}");
    }
    assert_eq!(made.stream("360p-hevc", "codec_tag_string,profile"), "Main,hvc1");
    assert_eq!(made.stream("360p-av1", "codec_name"), "av1");
    let dense = made.times("360p-dense");
    assert_near(&dense, &[0.0, 1.001, 2.002, 3.003, 4.004], 0.001, "dense");
    assert_eq!(made.key_frames("360p-dense").len(), 5);
}

#[tokio::test]
async fn what_has_more_than_sixty_frames_a_second_has_every_second_one() {
    let studio = Studio::new();
    let clip = studio.clip("high.mp4", "-f lavfi -i testsrc2=s=64x64:r=120:d=2 -c:v libx264");
    let made = make(&studio, &clip, &Options::default()).await;
    let source: Vec<f64> = source_times(&clip).into_iter().step_by(4).collect();
    // 120 becomes 60, and a small rendition 30.
    assert_near(&made.times("64p"), &source, 0.0001, "120");
}

#[tokio::test]
async fn any_shape_keeps_its_proportions() {
    let studio = Studio::new();
    let upright = studio.clip("upright.mp4", "-f lavfi -i testsrc2=s=320x180:r=25:d=1 -c:v libx264");
    let turned = format!("-i {} -c copy -metadata:s:v rotate=90", upright.display());
    for (name, arguments, expected) in [
        ("odd.mp4", "-f lavfi -i testsrc2=s=101x81:r=25:d=1 -c:v libx264 -pix_fmt yuv444p", "100,80"),
        ("portrait.mp4", "-f lavfi -i testsrc2=s=90x160:r=25:d=1 -c:v libx264", "90,160"),
        ("anamorphic.mp4", "-f lavfi -i testsrc2=s=240x180:r=25:d=1 -vf setsar=4/3 -c:v libx264", "320,180"),
        ("dvd.mpg", "-f lavfi -i testsrc2=s=720x576:r=25:d=1 -vf setsar=64/45 -c:v mpeg2video", "1024,576"),
        ("cinema.mkv", "-f lavfi -i testsrc2=s=210x90:r=25:d=1 -c:v libx264", "210,90"),
        ("academy.mkv", "-f lavfi -i testsrc2=s=160x120:r=25:d=1 -c:v libx264", "160,120"),
        ("turned.mp4", turned.as_str(), "180,320"),
    ] {
        let made = make(&studio, &studio.clip(name, arguments), &Options::default()).await;
        let shown = made.stream(made.names()[0], "width,height,sample_aspect_ratio");
        assert_eq!(shown, format!("{expected},1:1"), "{name}");
        assert_eq!(made.stream(made.names()[0], "pix_fmt,profile"), "High,yuv420p", "{name}");
        assert!(!ffprobe(&made.file(made.names()[0]), "stream_side_data=rotation").contains("90"), "{name}");
    }
}

/// Of how many frames ffmpeg's own detector says that they are two fields.
fn interlaced(path: &Path) -> (u32, u32) {
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(path)
        .args(["-vf", "idet", "-f", "null", "-"])
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let line = log.lines().find(|line| line.contains("Multi frame detection")).unwrap();
    let count =
        |label: &str| line.split_once(label).unwrap().1.split_whitespace().next().unwrap().parse::<u32>();
    (count("TFF:").unwrap() + count("BFF:").unwrap(), count("Progressive:").unwrap())
}

#[tokio::test]
async fn interlaced_pictures_become_whole_ones() {
    let studio = Studio::new();
    let fields = "-f lavfi -i mandelbrot=s=320x180:r=50,scroll=h=0.02 -t 2 -vf";
    for (name, arguments) in [
        ("top.mpg", "tinterlace=interleave_top,fieldorder=tff -c:v mpeg2video -q:v 3 -flags +ildct+ilme"),
        (
            "bottom.mkv",
            "tinterlace=interleave_bottom,fieldorder=bff -c:v libx264 -x264-params bff=1 -flags +ildct",
        ),
        // Where only the pictures themselves say it.
        ("top.avi", "tinterlace=interleave_top,fieldorder=tff -c:v mpeg4 -q:v 3 -flags +ildct+ilme"),
    ] {
        let clip = studio.clip(name, &format!("{fields} {arguments}"));
        assert!(interlaced(&clip).0 > 40, "{name}: {:?}", interlaced(&clip));
        let made = make(&studio, &clip, &Options::default()).await;
        assert!(made.source.video.as_ref().unwrap().is_interlaced && made.has_note("interlaced"), "{name}");
        let (found, whole) = interlaced(&made.file("180p"));
        assert!(found == 0 && whole > 40, "{name}: {found} of {whole}");
        assert_near(&made.times("180p"), &source_times(&clip), 0.001, name);
    }
}

#[tokio::test]
async fn a_varying_rate_becomes_an_even_one() {
    let studio = Studio::new();
    // As phones record: every third frame dropped in the middle.
    let arguments = "-f lavfi -i testsrc2=s=160x90:r=30:d=4 -vf select='not(between(t,1,3))+mod(n,3)' \
                     -vsync vfr -c:v libx264";
    for name in ["phone.mp4", "phone.mkv"] {
        let made = make(&studio, &studio.clip(name, arguments), &Options::default()).await;
        let times = made.times("90p");
        let rate = made.plan.video.as_ref().unwrap().grid.rate.hertz();
        let expected: Vec<f64> =
            (0..times.len()).map(|i| f64::from(u32::try_from(i).unwrap()) / rate).collect();
        assert_near(&times, &expected, 0.001, name);
        assert!((made.seconds("90p") - 4.0).abs() < 1.0 / rate, "{name}: {}", made.seconds("90p"));
        // Matroska only says how long a frame is by rights.
        assert_eq!(made.has_note("frames a second become"), name == "phone.mp4", "{:?}", made.plan.notes);
    }
}

/// Patches of linear red, green and blue, 1 being white, and what they are on a screen (gamma 2.4, 0 to 255).
const PATCHES: [([f64; 3], [u8; 3]); 8] = [
    ([0.0, 0.0, 0.0], [0, 0, 0]),
    ([0.02, 0.02, 0.02], [50, 50, 50]),
    ([0.18, 0.18, 0.18], [125, 125, 125]),
    ([0.4, 0.4, 0.4], [174, 174, 174]),
    ([0.5, 0.05, 0.05], [191, 73, 73]),
    ([0.05, 0.4, 0.05], [73, 174, 73]),
    ([0.05, 0.05, 0.5], [73, 73, 191]),
    ([0.4, 0.25, 0.18], [174, 143, 125]),
];

/// The signal of HDR for light in cd/m², by the formulas of SMPTE ST 2084, and of ITU-R BT.2100 for a display of
/// 1,000 cd/m².
fn signal(light: [f64; 3], is_hlg: bool) -> [f64; 3] {
    if is_hlg {
        let share = light.map(|light| light / 1_000.0);
        let luminance = 0.2627 * share[0] + 0.6780 * share[1] + 0.0593 * share[2];
        let scene = share.map(|share| if luminance > 0.0 { share * luminance.powf(-0.2 / 1.2) } else { 0.0 });
        return scene.map(|scene| {
            if scene <= 1.0 / 12.0 {
                (3.0 * scene).sqrt()
            } else {
                0.178_832_77 * (12.0 * scene - 0.284_668_92).ln() + 0.559_910_73
            }
        });
    }
    light.map(|light| {
        let power = (light.max(0.0) / 10_000.0).powf(0.159_301_757_812_5);
        ((0.835_937_5 + 18.851_562_5 * power) / (1.0 + 18.687_5 * power)).powf(78.843_75)
    })
}

/// Pictures of 320x180 in 10 bits, with the patches side by side, white being 203 cd/m² (ITU-R BT.2408).
fn patches(is_hlg: bool) -> Vec<u8> {
    let ten_bits = |value: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ten bits")]
        (value.round() as u16).to_le_bytes()
    };
    let codes = PATCHES.map(|([r, g, b], _)| {
        // BT.709 to BT.2020 (ITU-R BT.2087).
        let wide = [
            0.6274 * r + 0.3293 * g + 0.0433 * b,
            0.0691 * r + 0.9195 * g + 0.0114 * b,
            0.0164 * r + 0.0880 * g + 0.8956 * b,
        ];
        let [r, g, b] = signal(wide.map(|light| light * 203.0), is_hlg);
        let luma = 0.2627 * r + 0.6780 * g + 0.0593 * b;
        let chroma = |colour: f64, scale: f64| ten_bits(4.0 * (224.0 * (colour - luma) / scale + 128.0));
        (ten_bits(4.0 * (219.0 * luma + 16.0)), chroma(b, 1.8814), chroma(r, 1.4746))
    });
    let plane = |width: usize, height: usize, code: &dyn Fn(usize) -> [u8; 2]| {
        let line: Vec<u8> = (0..width).flat_map(|x| code(x * codes.len() / width)).collect();
        line.repeat(height)
    };
    let luma = plane(320, 180, &|i| codes[i].0);
    [luma, plane(160, 90, &|i| codes[i].1), plane(160, 90, &|i| codes[i].2)].concat().repeat(15)
}

/// The colours in the middle of each of so many patches of a file's first picture, as a screen shows them.
fn shown(path: &Path, count: usize) -> Vec<[u8; 3]> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args([
            "-vf",
            "scale=in_color_matrix=bt709:in_range=tv,format=rgb24",
            "-frames:v",
            "1",
            "-f",
            "rawvideo",
            "-",
        ])
        .output()
        .unwrap();
    let width = ffprobe(path, "stream=width").trim().parse::<usize>().unwrap();
    let line = &output.stdout[width * 3 * 50..width * 3 * 51];
    let at = |i: usize| (i * width / count + width / count / 2) * 3;
    (0..count).map(|i| [line[at(i)], line[at(i) + 1], line[at(i) + 2]]).collect()
}

fn assert_colours(found: &[[u8; 3]], expected: &[[u8; 3]], within: u8, what: &str) {
    for (found, expected) in found.iter().zip(expected) {
        let is_near = found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= within);
        assert!(is_near, "{what}: {found:?} where {expected:?} is right");
    }
}

#[tokio::test]
async fn high_dynamic_range_is_mapped_to_what_it_shows() {
    let studio = Studio::new();
    let expected = PATCHES.map(|(_, screen)| screen);
    for (name, transfer, is_hlg) in [("pq", "smpte2084", false), ("hlg", "arib-std-b67", true)] {
        let raw = studio.path("patches.yuv");
        std::fs::write(&raw, patches(is_hlg)).unwrap();
        let clip = studio.clip(
            &format!("{name}.mp4"),
            &format!(
                "-f rawvideo -pix_fmt yuv420p10le -s 320x180 -r 25 -i {} -c:v libx265 -preset ultrafast -x265-params \
                 log-level=error:crf=8:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:range=limited:\
                 master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):max-cll=1000,400",
                raw.display()
            ),
        );
        let made = make(&studio, &clip, &Options { hdr: true, ..Options::default() }).await;
        let colours = "color_range,color_space,color_transfer,color_primaries";
        assert_eq!(made.stream("180p", &format!("pix_fmt,{colours}")), "yuv420p,tv,bt709,bt709,bt709");
        let found = shown(&made.file("180p"), expected.len());
        // Of HLG, zimg turns light to signal for each colour by itself, so that full ones come out a little fuller.
        assert_colours(&found[..4], &expected[..4], 4, name);
        assert_colours(&found[4..], &expected[4..], if is_hlg { 38 } else { 6 }, name);
        let text = ffprobe(&made.file("180p"), "frame=pts_time:frame_side_data=side_data_type");
        assert!(!text.contains("Mastering") && !text.contains("light level"), "{text}");

        if is_hlg {
            assert_eq!(made.names(), ["180p"]);
            assert!(made.has_note("this one is in HLG"));
            continue;
        }
        assert_eq!(made.stream("180p-hdr", "profile,codec_tag_string,pix_fmt"), "Main 10,hvc1,yuv420p10le");
        assert_eq!(made.stream("180p-hdr", colours), "tv,bt2020nc,smpte2084,bt2020");
        assert_eq!(made.key_frames("180p-hdr"), made.key_frames("180p"));
        let text = ffprobe(&made.file("180p-hdr"), "frame=pts_time:frame_side_data");
        assert!(text.contains("34000/50000") && text.contains("10000000/10000"), "{text}");
        assert!(text.contains("Content light level metadata,1000,400"), "{text}");
    }
}

#[tokio::test]
async fn colours_of_any_standard_range_look_the_same_after() {
    let studio = Studio::new();
    // Red, green, blue and grey: what RGB they were is what they have to be.
    let bars = "-f lavfi -i color=0xC02010:s=80x180:r=25:d=0.4,format=gbrp -f lavfi -i \
                color=0x20B040:s=80x180:r=25:d=0.4,format=gbrp -f lavfi -i color=0x2030C8:s=80x180:r=25:d=0.4,format=gbrp \
                -f lavfi -i color=0x808080:s=80x180:r=25:d=0.4,format=gbrp -filter_complex \
                [0][1][2][3]hstack=4,scale=out_color_matrix=";
    let expected = [[0xC0, 0x20, 0x10], [0x20, 0xB0, 0x40], [0x20, 0x30, 0xC8], [0x80; 3]];
    for (name, arguments, within) in [
        ("hd.mp4", "bt709:out_range=limited,format=yuv420p -c:v libx264 -crf 5 -colorspace bt709", 4),
        ("sd.mp4", "bt601:out_range=limited,format=yuv420p -c:v libx264 -crf 5 -colorspace smpte170m", 4),
        ("untagged.mp4", "bt601:out_range=limited,format=yuv420p -c:v libx264 -crf 5", 4),
        // Tagged as having the red, green and blue of SD, which are a little other ones.
        (
            "tv.mp4",
            "bt601:out_range=limited,format=yuv420p -c:v libx264 -crf 5 -colorspace smpte170m \
             -color_primaries smpte170m -color_trc smpte170m",
            24,
        ),
        (
            "full.mp4",
            "bt709:out_range=full,format=yuv420p -c:v libx264 -crf 5 -colorspace bt709 -color_range pc",
            4,
        ),
        // The matrix of SD with the red, green and blue of HD, and of sRGB.
        (
            "web.mp4",
            "bt601:out_range=limited,format=yuv420p -c:v libx264 -crf 5 -colorspace smpte170m \
             -color_primaries bt709 -color_trc iec61966-2-1",
            4,
        ),
        ("camera.avi", "bt601:out_range=full,format=yuvj420p -c:v mjpeg -q:v 2", 6),
        ("screen.mkv", "bt709,format=bgr0 -c:v libx264rgb -crf 1", 4),
        ("deep.mp4", "bt709:out_range=limited,format=yuv422p10le -c:v libx264 -crf 5 -colorspace bt709", 4),
    ] {
        let clip = studio.clip(name, &format!("{bars}{arguments}"));
        let made = make(&studio, &clip, &Options::default()).await;
        let tags = made.stream("180p", "pix_fmt,color_range,color_space,color_transfer,color_primaries");
        assert_eq!(tags, "yuv420p,tv,bt709,bt709,bt709", "{name}");
        assert_colours(&shown(&made.file("180p"), 4), &expected, within, name);
    }
}

impl Made {
    /// Name, language and menu name of the tracks of a group.
    fn tracks(&self, group: Group) -> Vec<String> {
        let tracks = self.plan.audio.iter().filter(|audio| audio.group == group);
        tracks
            .map(|it| {
                let default = if it.is_default { "*" } else { "" };
                format!("{} {} {}{default}", it.name, it.language.tag, it.language.name)
            })
            .collect()
    }

    /// The loudest sample of each channel in dB, after decoding.
    fn loudness(&self, name: &str) -> Vec<f64> {
        let output = Command::new("ffmpeg")
            .args(["-hide_banner", "-nostdin", "-i"])
            .arg(self.file(name))
            .args(["-af", "astats=measure_perchannel=RMS_level:measure_overall=none", "-f", "null", "-"])
            .output()
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        let levels = log.lines().filter_map(|line| line.split_once("RMS level dB: "));
        levels.map(|(_, level)| level.trim().parse().unwrap_or(f64::NEG_INFINITY)).collect()
    }
}

#[tokio::test]
async fn every_language_is_heard_in_every_group() {
    let studio = Studio::new();
    let picture = "-f lavfi -i testsrc2=s=640x360:r=25:d=3";
    let surround = "-f lavfi -i aevalsrc=0|0|0.25*sin(2000*t)|0|0|0:c=5.1:s=48000:d=3";
    let clip = studio.clip(
        "film.mkv",
        &format!(
            "{picture} {surround} -f lavfi -i aevalsrc=0.25*sin(2000*t):c=mono:s=44100:d=3 \
             -f lavfi -i sine=500:r=22050:d=3 -f lavfi -i sine=700:d=3 -map 0 -map 1 -map 2 -map 3 -map 4 \
             -c:v libx264 -c:a:0 ac3 -c:a:1 flac -c:a:2 libmp3lame -c:a:3 libopus -metadata:s:a:0 language=eng \
             -metadata:s:a:1 language=pt-BR -metadata:s:a:2 language=eng -metadata:s:a:2 title=Commentary \
             -disposition:a:2 comment+default -metadata:s:a:3 language=xx!x -disposition:a:3 visual_impaired"
        ),
    );
    let made = make(&studio, &clip, &Options::default()).await;
    assert_eq!(
        made.tracks(Group::Stereo),
        [
            "audio-en en English*",
            "audio-pt-br pt-BR Português (BR)",
            "audio-en-2 en English (Commentary)",
            "audio-und und Audio"
        ]
    );
    assert_eq!(made.tracks(Group::Low).len(), 4);
    assert_eq!(made.tracks(Group::Surround), ["audio-en-surround en English*"]);
    assert!(made.plan.audio.iter().all(|it| it.describes_video == it.name.starts_with("audio-und")));
    assert!(made.has_note("has `xx!x` for a language"), "{:?}", made.plan.notes);
    for audio in &made.plan.audio {
        let found = made.stream(&audio.name, "codec_name,profile,sample_rate,channels");
        assert_eq!(found, format!("aac,LC,48000,{}", audio.channels), "{}", audio.name);
        assert!(
            (made.seconds(&audio.name) - 3.0).abs() < 0.022,
            "{}: {}",
            audio.name,
            made.seconds(&audio.name)
        );
        let rate: f64 = made.stream(&audio.name, "bit_rate").parse().unwrap_or(0.0);
        assert!(rate < f64::from(audio.kbps) * 1_100.0, "{}: {rate}", audio.name);
        assert!(times(&made.file(&audio.name), false)[0].abs() < 0.001);
    }
    // A sine of 0.25 has -15.1 dB. Both sides of mono are as loud; a voice in the middle is 7.7 dB less on each.
    let is = |found: &[f64], expected: &[f64]| {
        let near =
            |(found, expected): (&f64, &f64)| (found - expected).abs() < 0.7 || found.max(*expected) < -60.0;
        assert!(found.len() == expected.len() && found.iter().zip(expected).all(near), "{found:?}");
    };
    is(&made.loudness("audio-pt-br"), &[-15.05, -15.05]);
    is(&made.loudness("audio-en"), &[-22.7, -22.7]);
    is(&made.loudness("audio-en-surround"), &[-90.0, -90.0, -15.05, -90.0, -90.0, -90.0]);
}

#[tokio::test]
async fn sound_alone_is_as_long_as_it_was() {
    let studio = Studio::new();
    let cover = "-f lavfi -i testsrc2=s=64x64:r=1:d=1 -map 0 -map 1 -frames:v 1 -c:v mjpeg -disposition:v attached_pic";
    for (name, arguments) in [
        ("song.mp3", format!("SOUND {cover} -c:a libmp3lame")),
        ("song.m4a", format!("SOUND {cover} -c:a aac")),
        ("song.wav", "SOUND -ac 1".to_owned()),
        ("song.flac", "SOUND".to_owned()),
        ("song.ogg", "SOUND -c:a libvorbis".to_owned()),
    ] {
        let made = make(&studio, &studio.clip(name, &arguments), &Options::default()).await;
        assert_eq!(made.plan.video, None, "{name}");
        assert_eq!(made.tracks(Group::Stereo), ["audio und Audio*"], "{name}");
        assert_eq!(made.plan.audio.len(), 1, "{name}");
        assert!((made.seconds("audio") - 4.0).abs() < 0.06, "{name}: {}", made.seconds("audio"));
    }
}

#[tokio::test]
async fn captions_are_taken_out_of_it_and_from_beside_it() {
    let studio = Studio::new();
    let srt =
        "1\n00:00:00,500 --> 00:00:01,500\nDear <i>Ines</i>\n\n2\n00:00:02,000 --> 00:00:03,000\nyours\n\n";
    std::fs::write(studio.path("words.txt.srt"), srt).unwrap();
    let words = studio.path("words.txt.srt");
    for (name, codec) in [("talk.mp4", "mov_text"), ("talk.mkv", "srt"), ("talk.webm.mkv", "webvtt")] {
        let arguments = format!(
            "PICTURE -i {0} -i {0} -map 0 -map 1 -map 2 -c:v libx264 -c:s {codec} -metadata:s:s:0 language=ger \
             -metadata:s:s:1 language=ger -disposition:s:1 forced",
            words.display()
        );
        let clip = studio.clip(name, &arguments);
        std::fs::write(clip.with_extension("fr.srt"), srt).unwrap();
        let made = make(&studio, &clip, &Options::default()).await;
        let found: Vec<_> = made
            .plan
            .captions
            .iter()
            .map(|it| (it.name.as_str(), it.language.name.as_str(), it.forced))
            .collect();
        assert_eq!(
            found,
            [
                ("captions-de", "Deutsch", false),
                ("captions-de-2", "Deutsch 2", true),
                ("captions-fr", "Français", false)
            ],
            "{name}"
        );
        let cues = captions::Cues::read(&made.folder.join("captions-de.vtt")).unwrap().cues;
        let cues: Vec<_> = cues.iter().map(|cue| (cue.start, cue.end, cue.text.as_str())).collect();
        assert_eq!(cues, [(500, 1_500, "Dear <i>Ines</i>"), (2_000, 3_000, "yours")], "{name}");
        std::fs::remove_file(clip.with_extension("fr.srt")).unwrap();
    }
}

#[tokio::test]
async fn what_is_broken_is_put_right_where_it_is_clear_how() {
    let studio = Studio::new();
    let both = "-f lavfi -i testsrc2=s=64x64:r=25:d=4 SOUND -c:v libx264 -c:a aac";
    let empty = "-f lavfi -i testsrc2=s=64x64:r=25:d=4 -f lavfi -i anullsrc=d=1 -af atrim=end=0 -c:v libx264 -c:a aac";
    let gap = "PTS+gte(T,2)*60/TB";
    let gap = format!(
        "-f lavfi -i testsrc2=s=64x64:r=25:d=4,setpts='{gap}' -f lavfi -i sine=d=4,asetpts='{gap}' -vsync 0 \
         -c:v libx264 -c:a aac"
    );
    let (first, second) =
        (studio.clip("a.ts", both), studio.clip("b.ts", &format!("{both} -output_ts_offset 1000")));
    let join = |name: &str, parts: [&Path; 2]| {
        std::fs::write(studio.path(name), parts.map(|part| std::fs::read(part).unwrap()).concat()).unwrap();
        studio.path(name)
    };
    for (clip, frames, sound, note) in [
        (studio.clip("whole.mp4", both), 100, true, ""),
        (studio.clip("late.ts", &format!("{both} -output_ts_offset 100")), 100, true, ""),
        (studio.clip("fragments.mp4", &format!("{both} -movflags frag_keyframe+delay_moov")), 100, true, ""),
        (studio.clip("padded.mkv", both), 100, true, ""),
        (studio.clip("padded.flv", both), 100, true, ""),
        (studio.clip("at5.mkv", &format!("{both} -output_ts_offset 5")), 100, true, ""),
        (join("forth.ts", [&first, &second]), 200, true, "jumps by 996.0 s at 4.0 s"),
        (join("back.ts", [&second, &first]), 200, true, "jumps by -1004.0 s at 4.0 s"),
        (join("again.ts", [&first, &first]), 200, true, "jumps by -4.0 s at 4.0 s"),
        (studio.clip("gap.flv", &gap), 100, true, "jumps by 60.0 s at 2.0 s"),
        (studio.clip("empty.mkv", empty), 100, false, "audio track 1 is empty"),
        (studio.clip("empty.ts", empty), 100, false, "audio track 1 is empty"),
        (
            studio.clip("short.mp4", &both.replace("SOUND", "-f lavfi -i sine=d=2")),
            100,
            true,
            "ends 2.0 s before the picture; there is silence",
        ),
        (
            studio.clip("long.mp4", &both.replace(":d=4", ":d=2")),
            100,
            true,
            "the picture ends 2.0 s before the sound",
        ),
    ] {
        let name = clip.display();
        let made = make(&studio, &clip, &Options::default()).await;
        let times = made.times("64p");
        let expected: Vec<f64> = (0..frames).map(|i| f64::from(i) / 25.0).collect();
        assert_near(&times, &expected, 0.001, &name.to_string());
        assert!(note.is_empty() || made.has_note(note), "{name}: {:?}", made.plan.notes);
        assert_eq!(made.plan.audio.len(), usize::from(sound), "{name}");
        if sound {
            let (picture, sound) = (made.seconds("64p"), made.seconds("audio"));
            assert!((picture - sound).abs() < 0.022, "{name}: {picture} and {sound}");
        }
    }
}

/// Not only the timestamps: what is seen and what is heard, in a container whose tracks start apart.
#[tokio::test]
async fn a_flash_and_a_beep_stay_together() {
    let studio = Studio::new();
    let arguments = "-f lavfi -i color=black:s=160x90:r=30:d=4,drawbox=c=white:t=fill:enable='gte(t,2)' \
                     -f lavfi -i sine=1000:r=48000:d=4,volume=0:enable='lt(t,2)' -c:v libx264 -c:a aac";
    for name in ["flash.mp4", "flash.mkv", "flash.ts"] {
        let made = make(&studio, &studio.clip(name, arguments), &Options::default()).await;
        let event = |track: &str, filter: [&str; 2], label: &str| -> f64 {
            let output = Command::new("ffmpeg")
                .args(["-hide_banner", "-nostdin", "-i"])
                .arg(made.file(track))
                .args(filter)
                .args(["-f", "null", "-"])
                .output()
                .unwrap();
            let log = String::from_utf8(output.stderr).unwrap();
            let (_, rest) = log.split_once(label).unwrap_or_else(|| panic!("no {label} in {log}"));
            rest.split([' ', '\n', '|']).find(|word| !word.is_empty()).unwrap().parse().unwrap()
        };
        let flash = event("90p", ["-vf", "setpts=PTS-STARTPTS,blackdetect=d=0.5"], "black_end:");
        let beep = event("audio", ["-af", "silencedetect=n=-30dB:d=0.5"], "silence_end:");
        assert!((flash - beep).abs() < 1.0 / 30.0, "{name}: flash at {flash}, beep at {beep}");
        assert!((flash - 2.0).abs() < 0.04, "{name}: flash at {flash}");
    }
}

#[tokio::test]
async fn sound_that_begins_late_in_a_transport_stream_is_heard() {
    let studio = Studio::new();
    let clip = studio.clip(
        "late.ts",
        "-f lavfi -i testsrc2=s=64x64:r=10:d=14 -itsoffset 12 -f lavfi -i sine=d=2 -c:v libx264 -c:a aac",
    );
    let made = make(&studio, &clip, &Options::default()).await;
    assert!(
        made.has_note("audio track 1 begins at 12.0 s; there is silence before"),
        "{:?}",
        made.plan.notes
    );
    assert!((made.seconds("audio") - 14.0).abs() < 0.03, "{}", made.seconds("audio"));
}

#[tokio::test]
async fn in_matroska_a_pause_is_a_pause() {
    let studio = Studio::new();
    let pause = "PTS+gte(T,2)*20/TB";
    let clip = studio.clip(
        "pause.mkv",
        &format!(
            "-f lavfi -i testsrc2=s=64x64:r=25:d=4,setpts='{pause}' -f lavfi -i sine=d=2 -vsync 0 -c:v libx264 -c:a aac"
        ),
    );
    let found = probe::probe(&clip).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((found.jumps.len(), found.duration.as_secs_f64().round()), (0, 24.0));
}

/// Matroska's head counts them; and one that is cut off is still noticed.
#[tokio::test]
async fn captions_that_outlast_the_picture_do_not_make_it_look_cut_off() {
    let studio = Studio::new();
    std::fs::write(studio.path("end.srt"), "1\n00:00:01,000 --> 00:01:00,000\nThe end\n").unwrap();
    let srt = studio.path("end.srt");
    let clip = studio.clip(
        "credits.mkv",
        &format!("-f lavfi -i testsrc2=s=64x64:r=25:d=4 -i {} -c:v libx264 -c:s srt", srt.display()),
    );
    let found = probe::probe(&clip).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((found.duration.as_millis(), found.captions.len()), (4_000, 1));

    let whole = studio.clip("whole.mkv", "-f lavfi -i testsrc2=s=64x64:r=25:d=20 -c:v libx264 -g 25");
    let bytes = std::fs::read(whole).unwrap();
    std::fs::write(studio.path("half.mkv"), &bytes[..bytes.len() / 2]).unwrap();
    let error = probe::probe(&studio.path("half.mkv")).await.unwrap_err().to_string();
    assert!(error.contains("of 20.0 s: it is cut off or damaged"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_put_right_is_refused_before_it_is_encoded() {
    let studio = Studio::new();
    let both = "PICTURE SOUND -c:v libx264 -c:a aac";
    let streamable = studio.clip("streamable.mp4", &format!("{both} -movflags +faststart"));
    let bytes = std::fs::read(streamable).unwrap();
    std::fs::write(studio.path("half.mp4"), &bytes[..bytes.len() / 2]).unwrap();
    studio.clip("huge.mov", "-f lavfi -i color=black:s=10000x10000:r=1:d=1 -frames:v 1 -c:v mjpeg");
    for (name, expected) in [
        ("half.mp4", "of 4.0 s: it is cut off or damaged"),
        ("huge.mov", "is 10000x10000 pixels, and at most 67 million"),
    ] {
        let error = probe::probe(&studio.path(name)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}
