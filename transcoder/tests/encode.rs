//! Any video becomes HLS that plays; what is none is refused in one line.

mod harness;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Studio, durations, ffprobe, files, times};

#[tokio::test]
async fn picture_and_sound_start_together_and_are_cut_alike() {
    let studio = Studio::new();
    // Three rungs at 29.97 frames a second and more than one segment, in a source whose sound is the longer.
    let arguments = "-f lavfi -i testsrc2=s=854x480:r=30000/1001:d=8 -f lavfi -i sine=440:r=44100:d=8.1 \
                     -metadata:s:a:0 language=ger -c:v libx264 -c:a aac";
    let published = studio.publish(&studio.clip("talk.mp4", arguments)).await.unwrap();
    // Two rungs of the source's own size, and one of each below; 432 lines are too near.
    assert_eq!(published.sizes(), ["854x480", "854x480", "640x360", "416x234"]);
    assert!(published.multivariant.contains("FRAME-RATE=29.97,"), "{}", published.multivariant);
    assert!(published.multivariant.contains("LANGUAGE=\"de\""), "{}", published.multivariant);

    let (high, low) = (published.playlist("480p"), published.playlist("360p"));
    assert_eq!(times(&high, true), times(&low, true));
    assert_eq!(times(&high, true), [0.0, 2.002, 4.004, 6.006]);
    assert_eq!(times(&high, false).len(), 240);

    let sound = published.playlist("audio");
    assert_eq!(durations(&high), durations(&low));
    assert_eq!(durations(&high), [6.006, 2.002]);
    assert_eq!(durations(&sound).len(), 2);
    let sum = |durations: Vec<f64>| durations.iter().sum::<f64>();
    assert!((sum(durations(&high)) - sum(durations(&sound))).abs() < 1.0 / 30.0);
    assert!((times(&sound, false)[0] - times(&high, false)[0]).abs() < 0.001);
    for playlist in [high, low, sound] {
        let text = fs::read_to_string(playlist).unwrap();
        assert!(text.contains("#EXT-X-TARGETDURATION:6\n") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    }
}

/// Not only the timestamps: what is seen and what is heard.
#[tokio::test]
async fn a_flash_and_a_beep_stay_together() {
    let studio = Studio::new();
    let arguments = "-f lavfi -i color=black:s=160x90:r=30:d=4,drawbox=c=white:t=fill:enable='gte(t,2)' \
                     -f lavfi -i sine=1000:r=48000:d=4,volume=0:enable='lt(t,2)' -c:v libx264 -c:a aac";
    let published = studio.publish(&studio.clip("flash.mp4", arguments)).await.unwrap();
    let output = Command::new("ffmpeg")
        .args(["-hide_banner", "-nostdin", "-i"])
        .arg(published.asset.join("index.m3u8"))
        .args(["-vf", "blackdetect=d=0.5", "-af", "silencedetect=n=-30dB:d=0.5", "-f", "null", "-"])
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    let time = |label: &str| -> f64 {
        let (_, rest) = log.split_once(label).unwrap_or_else(|| panic!("no {label} in {log}"));
        rest.split([' ', '\n', '|']).find(|word| !word.is_empty()).unwrap().parse().unwrap()
    };
    let (flash, beep) = (time("black_end:"), time("silence_end:"));
    assert!((flash - 2.0).abs() < 0.01, "flash at {flash}");
    assert!((beep - 2.0).abs() < 0.01, "beep at {beep}");
}

#[tokio::test]
async fn any_shape_keeps_its_proportions() {
    let studio = Studio::new();
    let small = "-f lavfi -i testsrc2=s=";
    for (name, arguments, expected) in [
        ("odd.mp4", "101x81:r=30:d=1 -c:v libx264 -pix_fmt yuv444p", "100x80"),
        ("portrait.mp4", "180x320:r=30:d=1 -c:v libx264", "180x320"),
        ("tiny.mp4", "100x80:r=30:d=1 -c:v libx264", "100x80"),
        ("anamorphic.mp4", "240x180:r=30:d=1 -vf setsar=4/3 -c:v libx264", "320x180"),
        ("high.mkv", "100x80:r=120:d=1 -c:v libx264", "100x80"),
    ] {
        let published = studio.publish(&studio.clip(name, &format!("{small}{arguments}"))).await.unwrap();
        assert_eq!(published.sizes(), [expected], "{name}");
        let shown = ffprobe(&published.asset.join("index.m3u8"), "stream=width,height,sample_aspect_ratio");
        assert!(shown.contains(&format!("{},1:1", expected.replace('x', ","))), "{name}: {shown}");
        // 120 a second become 60, and rungs of less than 1,100 kbit/s have half of those.
        assert!(published.multivariant.contains("FRAME-RATE=30,"), "{name}");
    }

    let upright = studio.clip("upright.mp4", "PICTURE -c:v libx264");
    let turned =
        studio.clip("turned.mp4", &format!("-i {} -c copy -metadata:s:v rotate=90", upright.display()));
    let published = studio.publish(&turned).await.unwrap();
    assert_eq!(published.sizes(), ["180x320"]);
    let shown = ffprobe(&published.asset.join("index.m3u8"), "stream=width,height:stream_side_data=rotation");
    assert!(shown.contains("180,320") && !shown.contains("90"), "{shown}");
}

#[tokio::test]
async fn picture_without_sound_and_sound_without_picture() {
    let studio = Studio::new();
    let silent = studio.publish(&studio.clip("silent.mp4", "PICTURE -c:v libx264")).await.unwrap();
    assert_eq!(silent.renditions(), ["180p"]);
    assert!(!silent.multivariant.contains("AUDIO"), "{}", silent.multivariant);
    assert!(silent.multivariant.contains("CODECS=\"avc1."), "{}", silent.multivariant);
    assert!(!silent.multivariant.contains("mp4a"), "{}", silent.multivariant);

    // The same asset again: the new generation is named, the old one still there for who is watching it.
    for (name, arguments) in [
        (
            "song.mp3",
            "SOUND -f lavfi -i testsrc2=s=64x64:r=1:d=1 -map 0 -map 1 -frames:v 1 -c:v mjpeg \
                      -disposition:v attached_pic -c:a libmp3lame",
        ),
        (
            "song.m4a",
            "SOUND -f lavfi -i testsrc2=s=64x64:r=1:d=1 -map 0 -map 1 -frames:v 1 -c:v mjpeg \
                      -disposition:v attached_pic -c:a aac",
        ),
        ("song.wav", "SOUND -ac 1"),
    ] {
        let song = studio.publish(&studio.clip(name, arguments)).await.unwrap();
        assert!(song.multivariant.contains("CODECS=\"mp4a.40.2\"\n"), "{name}: {}", song.multivariant);
        assert!(!song.multivariant.contains("RESOLUTION"), "{name}: {}", song.multivariant);
        assert!(!song.multivariant.contains("180p"), "{name}: {}", song.multivariant);
        let total: f64 = durations(&song.playlist("audio")).iter().sum();
        assert!((total - 4.0).abs() < 0.1, "{name}: {total}");
    }
    assert!(silent.playlist("180p").exists());
}

#[tokio::test]
async fn tracks_that_start_or_end_apart_are_evened_out() {
    let studio = Studio::new();
    // Sound from 0.5 s to 4.5 s, over pictures from 0 s to 2 s.
    let arguments = "-f lavfi -i testsrc2=s=160x90:r=30:d=2 -itsoffset 0.5 SOUND -c:v libx264 -c:a aac";
    let published = studio.publish(&studio.clip("apart.mkv", arguments)).await.unwrap();
    let (picture, sound) =
        (times(&published.playlist("90p"), false), times(&published.playlist("audio"), false));
    assert!(picture[0].abs() < 0.001 && sound[0].abs() < 0.001);
    let (picture_end, sound_end) = (picture.last().unwrap(), sound.last().unwrap());
    assert!((picture_end - 4.5).abs() < 0.1 && (sound_end - 4.5).abs() < 0.1, "{picture_end} {sound_end}");
}

#[tokio::test]
async fn a_short_end_gets_no_segment_of_its_own() {
    let studio = Studio::new();
    let arguments = "-f lavfi -i testsrc2=s=64x64:r=25:d=6.2 -f lavfi -i sine=d=6.2 -c:v libx264 -c:a aac";
    let published = studio.publish(&studio.clip("end.mp4", arguments)).await.unwrap();
    for rendition in ["64p", "audio"] {
        let playlist = published.playlist(rendition);
        let [duration] = durations(&playlist)[..] else { panic!("{rendition}: not one segment") };
        assert!((duration - 6.2).abs() < 0.03, "{rendition}: {duration}");
        assert!(fs::read_to_string(&playlist).unwrap().contains("#EXT-X-TARGETDURATION:6\n"));
        let packets = times(&playlist, false);
        assert!((packets.last().unwrap() - 6.2).abs() < 0.05, "{rendition}: {packets:?}");
    }
}

#[tokio::test]
async fn a_varying_frame_rate_does_not_break_the_grid() {
    let studio = Studio::new();
    // As phones record: every third frame dropped in the middle, and a stream that does not say how long it is.
    let arguments = "-f lavfi -i testsrc2=s=160x90:r=30:d=8 -vf select='not(between(t,2,5))+mod(n,3)' \
                     -vsync vfr -c:v libx264 -f matroska -live 1";
    let published = studio.publish(&studio.clip("varying.webm.mkv", arguments)).await.unwrap();
    let playlist = published.playlist("90p");
    let key_frames = times(&playlist, true);
    let distances: Vec<f64> = key_frames.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(distances.iter().all(|distance| (distance - distances[0]).abs() < 0.001), "{key_frames:?}");
    assert!((durations(&playlist).iter().sum::<f64>() - 8.0).abs() < 0.1);
}

/// Replaces a text in a file by one of the same length.
fn retag(from: &Path, to: &Path, before: &[u8], after: &[u8]) {
    let mut bytes = fs::read(from).unwrap();
    let places: Vec<_> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(before)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at..at + after.len()].copy_from_slice(after);
    }
    fs::write(to, bytes).unwrap();
}

#[tokio::test]
async fn tags_of_another_length_are_not_believed() {
    let studio = Studio::new();
    let clip = studio.clip(
        "tagged.mkv",
        "-f lavfi -i testsrc2=s=64x64:r=25:d=14 -f lavfi -i sine=d=14 -c:v libx264 -c:a aac",
    );
    for wrong in [&b"00:00:05."[..], b"00:09:05."] {
        retag(&clip, &studio.path("stale.mkv"), b"00:00:14.", wrong);
        let published = studio.publish(&studio.path("stale.mkv")).await.unwrap();
        for rendition in ["64p", "audio"] {
            let total: f64 = durations(&published.playlist(rendition)).iter().sum();
            assert!((total - 14.0).abs() < 0.1, "{rendition}: {total}");
        }
    }
}

#[tokio::test]
async fn what_is_declared_is_what_is_there() {
    let studio = Studio::new();
    let source =
        studio.clip("talk.mp4", "-f lavfi -i testsrc2=s=640x360:r=25:d=8 SOUND -c:v libx264 -c:a aac");
    let published = studio.publish(&source).await.unwrap();
    let peak = |rendition: &str| -> f64 {
        let playlist = published.playlist(rendition);
        let lengths = durations(&playlist);
        let sizes = (1..=lengths.len())
            .map(|number| fs::metadata(playlist.with_file_name(format!("{number:05}.m4s"))).unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        // 6 s and 2 s: the first alone, or both.
        let rate = |count: usize| {
            let bytes = u32::try_from(sizes[..count].iter().sum::<u64>()).unwrap();
            f64::from(bytes) * 8.0 / lengths[..count].iter().sum::<f64>()
        };
        rate(1).max(rate(2))
    };
    for (rendition, sound) in [("360p", "audio"), ("360p-low", "audio"), ("234p", "audio-low")] {
        let expected = peak(rendition) + peak(sound);
        let (before, _) = published.multivariant.split_once(&format!("/{rendition}/index.m3u8")).unwrap();
        let declared = before.rsplit_once(":BANDWIDTH=").unwrap().1;
        let declared: f64 = declared.split(',').next().unwrap().parse().unwrap();
        assert!((declared - expected).abs() <= 2.0, "{declared} where {expected} was measured");
    }

    let json = fs::read_to_string(published.asset.join("asset.json")).unwrap();
    let asset: transcoder::asset::Asset = serde_json::from_str(&json).unwrap();
    assert_eq!((asset.duration, asset.renditions.len()), (8.0, 5));
    assert_eq!(asset.source.bytes, fs::metadata(&source).unwrap().len());
    for rendition in &asset.renditions {
        let playlist = published.asset.join(rendition.playlist.as_ref().unwrap());
        let all = files(playlist.parent().unwrap()).into_iter();
        assert_eq!(rendition.bytes, all.map(|path| fs::metadata(path).unwrap().len()).sum::<u64>());
    }
}

#[test]
fn what_is_no_whole_video_is_refused_in_one_line() {
    let studio = Studio::new();
    let whole = studio.clip("whole.mp4", "PICTURE SOUND -c:v libx264 -c:a aac");
    let streamable =
        studio.clip("streamable.mp4", "PICTURE SOUND -c:v libx264 -c:a aac -movflags +faststart");
    let cut = |path: &Path, name: &str| {
        let bytes = fs::read(path).unwrap();
        fs::write(studio.path(name), &bytes[..bytes.len() / 2]).unwrap();
    };
    cut(&whole, "no-index.mp4");
    cut(&streamable, "half.mp4");
    let matroska = studio.clip("tagged.mkv", "PICTURE SOUND -c:v libx264 -c:a aac");
    // As most writers but ffmpeg make them: how long each track is stands at the end, where it is cut off with it.
    retag(&matroska, &studio.path("untagged.mkv"), b"DURATION", b"DURATIOX");
    cut(&studio.path("untagged.mkv"), "half.mkv");
    cut(&studio.clip("whole.flv", "PICTURE SOUND -c:v libx264 -c:a aac"), "half.flv");
    fs::write(studio.path("letter.mp4"), "Dear Ines,\n\nthe video will follow.\n").unwrap();
    fs::write(studio.path("empty.mp4"), "").unwrap();
    fs::create_dir(studio.path("folder.mp4")).unwrap();
    // A playlist is a video to ffmpeg, and names other files: here one that nobody may see.
    let playlist =
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n", whole.display());
    fs::write(studio.path("list.m3u8"), &playlist).unwrap();
    fs::write(studio.path("list.mp4"), &playlist).unwrap();
    fs::write(studio.path("list.ffconcat"), format!("ffconcat version 1.0\nfile {}\n", whole.display()))
        .unwrap();
    fs::write(studio.path("letter.srt"), "1\n00:00:00,000 --> 00:00:01,000\nDear Ines\n").unwrap();
    let letter = studio.path("letter.srt");
    studio.clip("subtitles.mkv", &format!("-i {} -c:s srt", letter.display()));

    for (name, expected) in [
        ("missing.mp4", "cannot be read"),
        ("folder.mp4", "is a folder"),
        ("no-index.mp4", "is cut off"),
        ("half.mp4", "is cut off or damaged"),
        ("half.mkv", "is cut off or damaged"),
        ("half.flv", "is cut off or damaged"),
        ("letter.mp4", "is not a video"),
        ("empty.mp4", "is empty (0 bytes)"),
        ("subtitles.mkv", "has neither a video nor an audio track"),
        ("letter.srt", "is of a kind that is not accepted"),
        ("list.m3u8", "is of a kind that is not accepted"),
        ("list.mp4", "is of a kind that is not accepted"),
        ("list.ffconcat", "is of a kind that is not accepted"),
    ] {
        let output = studio.run(&[studio.path(name).to_str().unwrap()]);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<_> = stderr.lines().filter(|line| !line.starts_with("encoding: ")).collect();
        assert_eq!(output.status.code(), Some(1), "{name}: {stderr}");
        assert_eq!(lines.len(), 1, "{name}: {stderr}");
        assert!(lines[0].starts_with("transcoder: ") && lines[0].contains(expected), "{name}: {stderr}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(studio.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_is_asked_wrongly_is_refused_before_anything_is_done() {
    let studio = Studio::new();
    let clip = studio.clip("clip.mp4", "-f lavfi -i testsrc2=s=64x64:d=1 -c:v libx264");
    let clip = clip.to_str().unwrap();
    let refused = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(studio.command(&[clip, "--asset", ".."])).contains("cannot be an asset id"));
    assert!(refused(studio.command(&[clip, "--asset", "a/b"])).contains("cannot be an asset id"));
    assert!(refused(studio.command(&[clip, "--encoder", "magic"])).contains("possible values: ffmpeg"));

    let mut without_tools = studio.command(&[clip]);
    without_tools.env("PATH", studio.path("nothing"));
    assert!(refused(without_tools).contains("ffprobe is not installed"));

    // A file where a folder should be: not even root can write there.
    fs::write(studio.path("file"), "").unwrap();
    for (place, expected) in [
        (studio.path("file").join("media").to_str().unwrap(), "cannot write to folder"),
        ("ftp://media", "is no place to publish to"),
        ("s3://", "is no place to publish to"),
        ("s3://media/../x", "is no place to publish to"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_transcoder"));
        command.args(["encode", clip, "--to", place]);
        assert!(refused(command).contains(expected), "{place}");
    }
    assert_eq!(studio.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[cfg(unix)]
#[test]
fn stopped_it_leaves_nothing_and_nobody_behind() {
    let studio = Studio::new();
    let clip = studio.clip("long.mp4", "-f lavfi -i testsrc2=s=1280x720:r=30:d=20 -c:v libx264");
    let mut child = studio
        .command(&[clip.to_str().unwrap()])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let begun = Instant::now();
    while !files(&studio.path("temporary")).iter().any(|path| path.extension() == Some("m4s".as_ref())) {
        assert!(begun.elapsed() < Duration::from_mins(1) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(50));
    }
    let stop = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(stop.success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("transcoder: stopped; nothing was published"), "{stderr}");
    assert_eq!(studio.leftovers(), Vec::<std::path::PathBuf>::new());
    // Its ffmpeg had this folder in its working directory.
    let folder = studio.path("temporary");
    let is_inside = |path: &Path| fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    assert!(processes.into_iter().all(|process| !is_inside(&process.path())));
}

#[cfg(target_os = "linux")]
#[test]
fn killed_it_takes_ffmpeg_with_it() {
    let studio = Studio::new();
    let clip = studio.clip("long.mp4", "-f lavfi -i testsrc2=s=1280x720:r=30:d=20 -c:v libx264");
    let temporary = studio.path("temporary");
    // Its ffmpeg, and whoever watches over that, work in this folder.
    let inside = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let cwds = processes.filter_map(|process| fs::read_link(process.path().join("cwd")).ok());
        cwds.filter(|cwd| cwd.starts_with(&temporary)).count()
    };
    let mut child = studio.command(&[clip.to_str().unwrap()]).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !files(&temporary).iter().any(|path| path.ends_with("360p.mp4")) {
        assert!(begun.elapsed() < Duration::from_mins(1) && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_ne!(inside(), 0);
    // On Unix, this is `kill -9`.
    child.kill().unwrap();
    child.wait().unwrap();
    let killed = Instant::now();
    while inside() != 0 {
        assert!(killed.elapsed() < Duration::from_secs(2), "ffmpeg goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn sound_alone_may_have_several_tracks() {
    let studio = Studio::new();
    let clip = studio.clip("radio.mka", "SOUND -map 0:a -map 0:a -b:a:1 32k -c:a aac");
    let published = studio.publish(&clip).await.unwrap();
    assert_eq!(published.multivariant.matches("#EXT-X-MEDIA:TYPE=AUDIO").count(), 2);
    assert_eq!(published.multivariant.matches("#EXT-X-STREAM-INF:").count(), 1);
}
