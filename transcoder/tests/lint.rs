//! The linter is silent about an asset that breaks no rule, and where one is broken it names that rule and no other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use mp4_atom::{Decode, Encode, Moof, TrunEntry};
use tempfile::TempDir;
use transcoder::lint::files::{Files, Stored};
use transcoder::lint::{self, Report, rules};
use url::Url;

type Tree = BTreeMap<String, Vec<u8>>;

/// How ffmpeg makes each track: its input, and what it does with it. `%` is where what holds for all follows.
const TRACKS: &[(&str, &str)] = &[
    ("high", "PICTURE=320x180:r=30 X264 KEYS=60 -b:v 300k -maxrate 350k -bufsize 350k"),
    ("low", "PICTURE=160x90:r=30 X264 KEYS=60 -b:v 50k -maxrate 60k -bufsize 60k"),
    ("slow", "PICTURE=160x90:r=30 X264 KEYS=180 -b:v 50k -maxrate 60k -bufsize 60k"),
    ("fields", "PICTURE=320x180:r=30 X264 KEYS=60 -flags +ildct+ilme -b:v 90k"),
    ("r60", "PICTURE=160x90:r=60 X264 KEYS=120 -b:v 90k"),
    ("r120", "PICTURE=160x90:r=120 X264 KEYS=240 -b:v 90k"),
    ("dense", "PICTURE=160x90:r=30 X264 KEYS=30 -b:v 90k"),
    (
        "early",
        "PICTURE=160x90:r=30 X264 -g 600 -force_key_frames expr:eq(mod(n,60),54)+eq(n,0) -b:v 90k -hls_time 5.8",
    ),
    ("four", "PICTURE=160x90:r=30 X264 KEYS=60 -b:v 50k -hls_time 4"),
    ("big", "PICTURE=426x240:r=30 X264 KEYS=60 -b:v 400k"),
    (
        "hevc",
        "PICTURE=160x90:r=30 -c:v libx265 -preset fast -tag:v hvc1 -x265-params log-level=error:keyint=60:min-keyint=60:scenecut=0:open-gop=0 -b:v 60k",
    ),
    ("av1", "PICTURE=160x90:r=30 -c:v libsvtav1 -preset 12 -g 60 -svtav1-params scd=0 -b:v 90k"),
    (
        "vp9",
        "PICTURE=160x90:r=30 -c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 60 -keyint_min 60 -b:v 60k -strict -2",
    ),
    ("muxed", "PICTURE=160x90:r=30 SOUND X264 KEYS=60 -b:v 50k -c:a aac -b:a 64k -ac 2"),
    ("muxed51", "PICTURE=160x90:r=30 SOUND X264 KEYS=60 -b:v 50k -c:a aac -b:a 200k -ac 6"),
    ("audio", "SOUND -c:a aac -b:a 64k -ac 2"),
    ("mono", "SOUND -c:a aac -b:a 64k -ac 1"),
    ("eac3", "SOUND -c:a eac3 -b:a 96k -ac 2"),
    ("two", "SOUND -map 0:a -map 0:a -c:a aac -b:a 32k -ac 2"),
    ("ts-high", "PICTURE=320x180:r=30 X264 KEYS=60 -b:v 300k -maxrate 350k -bufsize 350k TS"),
    ("ts-audio", "SOUND -c:a aac -b:a 64k -ac 2 TS"),
];

/// A track's files, made once.
fn track(name: &str) -> Tree {
    static MADE: Mutex<Option<HashMap<String, Tree>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap();
    let made = made.get_or_insert_default();
    made.entry(name.to_owned()).or_insert_with(|| make(name)).clone()
}

fn make(name: &str) -> Tree {
    let folder = TempDir::new().unwrap();
    let (_, arguments) = TRACKS.iter().find(|(track, _)| *track == name).unwrap();
    let arguments = arguments
        .replace("PICTURE=", "-f lavfi -i testsrc2=d=14:s=")
        .replace("SOUND", "-f lavfi -i aevalsrc=sin(880*t)|cos(660*t):s=48000:d=14")
        .replace("X264", "-c:v libx264 -preset veryfast -profile:v high -pix_fmt yuv420p -sc_threshold 0")
        .replace("TS", "-hls_segment_type mpegts -hls_segment_filename %d.ts");
    let arguments: Vec<String> = arguments
        .split(' ')
        .flat_map(|argument| match argument.strip_prefix("KEYS=") {
            Some(keys) => ["-g", keys, "-keyint_min", keys].map(str::to_owned).to_vec(),
            None => vec![argument.to_owned()],
        })
        .collect();
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(arguments.iter().take_while(|argument| *argument != "-c:v" && *argument != "-c:a"))
        .args(["-f", "hls", "-hls_time", "6", "-hls_playlist_type", "vod", "-hls_segment_type", "fmp4"])
        .args(["-hls_fmp4_init_filename", "init.mp4", "-hls_segment_filename", "%d.m4s"])
        .args(arguments.iter().skip_while(|argument| *argument != "-c:v" && *argument != "-c:a"))
        .arg("index.m3u8")
        .current_dir(folder.path())
        .output()
        .expect("the tests need ffmpeg: `apt-get install ffmpeg`");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect()
}

/// A segment of a playlist: seconds, name, and first byte and length, if it is a part of a file.
type Listed = (f64, String, Option<(usize, usize)>);

fn segments(playlist: &str) -> Vec<Listed> {
    let (mut found, mut seconds, mut range) = (Vec::new(), 0.0, None);
    for line in playlist.lines() {
        if let Some(text) = line.strip_prefix("#EXTINF:") {
            seconds = text.split(',').next().unwrap().parse().unwrap();
        } else if let Some(text) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            let (length, offset) = text.split_once('@').unwrap();
            range = Some((offset.parse().unwrap(), length.parse().unwrap()));
        } else if !line.starts_with('#') && !line.is_empty() {
            found.push((seconds, line.to_owned(), range.take()));
        }
    }
    found
}

struct Variant {
    /// Folder and playlist.
    playlist: String,
    tag: String,
    has_sound: bool,
}

/// An asset that can be broken.
struct Asset {
    files: Tree,
    media: Vec<String>,
    variants: Vec<Variant>,
    i_frames: Vec<(String, String)>,
    edits: Vec<(String, String)>,
    head: String,
}

const MEDIA: &str = r#"#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="English",LANGUAGE="en",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="audio/index.m3u8""#;
const SUBTITLES: &str = r#"#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="subtitles",NAME="English",LANGUAGE="en",DEFAULT=NO,AUTOSELECT=YES,FORCED=NO,URI="subtitles/index.m3u8""#;

impl Asset {
    fn empty() -> Self {
        Self {
            files: Tree::new(),
            media: Vec::new(),
            variants: Vec::new(),
            i_frames: Vec::new(),
            edits: Vec::new(),
            head: "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned(),
        }
    }

    /// One that breaks no rule.
    fn clean() -> Self {
        let mut asset = Self::empty();
        asset.add("audio", "audio");
        asset.media = vec![MEDIA.to_owned(), SUBTITLES.to_owned()];
        asset.variant(
            "high",
            "high",
            r#"CODECS="avc1.64000d,mp4a.40.2",RESOLUTION=320x180,FRAME-RATE=30.000"#,
            true,
        );
        asset.variant(
            "low",
            "low",
            r#"CODECS="avc1.64000b,mp4a.40.2",RESOLUTION=160x90,FRAME-RATE=30.000"#,
            true,
        );
        asset.add_i_frames("high", r#"CODECS="avc1.64000d",RESOLUTION=320x180"#);
        asset.add_i_frames("low", r#"CODECS="avc1.64000b",RESOLUTION=160x90"#);
        let mut playlist =
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:6\n#EXT-X-PLAYLIST-TYPE:VOD\n".to_owned();
        for (number, seconds) in [(0, 6.0), (1, 6.0), (2, 2.0)] {
            let _ = write!(playlist, "#EXTINF:{seconds:.3},\n{number}.vtt\n");
            let text = format!(
                "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n00:00:{:02}.000 --> 00:00:{:02}.000\nhello\n",
                number * 6,
                number * 6 + 1
            );
            asset.files.insert(format!("subtitles/{number}.vtt"), text.into_bytes());
        }
        asset.files.insert("subtitles/index.m3u8".into(), (playlist + "#EXT-X-ENDLIST\n").into_bytes());
        asset
    }

    /// The same in transport streams, with one size.
    fn transport() -> Self {
        let mut asset = Self::empty();
        asset.add("audio", "ts-audio");
        asset.media = vec![MEDIA.to_owned()];
        asset.variant(
            "high",
            "ts-high",
            r#"CODECS="avc1.64000d,mp4a.40.2",RESOLUTION=320x180,FRAME-RATE=30.000"#,
            true,
        );
        asset.add_i_frames("high", r#"CODECS="avc1.64000d",RESOLUTION=320x180"#);
        asset
    }

    /// Adds a track's files under a folder, with a playlist of our own.
    fn add(&mut self, folder: &str, name: &str) {
        let files = track(name);
        let listed = segments(std::str::from_utf8(&files["index.m3u8"]).unwrap());
        let mut playlist =
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-TARGETDURATION:6\n\
                            #EXT-X-PLAYLIST-TYPE:VOD\n"
                .to_owned();
        if files.contains_key("init.mp4") {
            playlist += "#EXT-X-MAP:URI=\"init.mp4\"\n";
        }
        for (seconds, uri, _) in listed {
            let _ = write!(playlist, "#EXTINF:{seconds:.6},\n{uri}\n");
        }
        self.files.extend(files.into_iter().map(|(name, bytes)| (format!("{folder}/{name}"), bytes)));
        self.files.insert(format!("{folder}/index.m3u8"), (playlist + "#EXT-X-ENDLIST\n").into_bytes());
    }

    fn variant(&mut self, folder: &str, name: &str, tag: &str, has_sound: bool) {
        self.add(folder, name);
        let variant = Variant { playlist: format!("{folder}/index.m3u8"), tag: tag.to_owned(), has_sound };
        self.variants.push(variant);
    }

    /// A third variant, which is only there to be broken.
    fn extra(&mut self, name: &str, video: &str) {
        let tag = format!(r#"CODECS="{video},mp4a.40.2",RESOLUTION=160x90,FRAME-RATE=30.000"#);
        self.variant("extra", name, &tag, true);
    }

    /// A playlist of the first key frame of each segment.
    fn add_i_frames(&mut self, folder: &str, tag: &str) {
        let text = self.text(&format!("{folder}/index.m3u8"));
        let mut playlist =
            text.lines().take_while(|line| !line.starts_with("#EXTINF")).collect::<Vec<_>>().join("\n");
        playlist += "\n#EXT-X-I-FRAMES-ONLY\n";
        for (seconds, uri, _) in segments(&text) {
            let (offset, length) = key_frame(&self.files[&format!("{folder}/{uri}")]);
            let _ = write!(playlist, "#EXTINF:{seconds:.6},\n#EXT-X-BYTERANGE:{length}@{offset}\n{uri}\n");
        }
        let name = format!("{folder}/iframes.m3u8");
        self.files.insert(name.clone(), (playlist + "#EXT-X-ENDLIST\n").into_bytes());
        self.i_frames.push((name, tag.to_owned()));
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8(self.files[name].clone()).unwrap()
    }

    /// Replaces text of a playlist, everywhere in it; `index.m3u8` is that which is written last.
    fn replace(&mut self, name: &str, from: &str, to: &str) {
        if name == "index.m3u8" {
            return self.edits.push((from.to_owned(), to.to_owned()));
        }
        let text = self.text(name);
        assert!(text.contains(from), "{name} has no {from}:\n{text}");
        self.files.insert(name.to_owned(), text.replace(from, to).into_bytes());
    }

    /// Replaces a few bytes, `after` behind where `mark` is.
    fn patch(&mut self, name: &str, mark: &[u8], after: usize, bytes: &[u8]) {
        let file = self.files.get_mut(name).unwrap();
        let at = file.windows(mark.len()).position(|window| window == mark).unwrap() + after;
        file[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Makes files longer, by a box that nobody reads.
    fn pad(&mut self, name: &str, bytes: usize) {
        let file = self.files.get_mut(name).unwrap();
        file.extend(u32::try_from(bytes).unwrap().to_be_bytes());
        file.extend(b"free");
        file.resize(file.len() + bytes - 8, 0);
    }

    /// Average and peak bit rate of a playlist, as RFC 8216 §4.1 has it with a target of 6 s.
    fn rates(&self, playlist: &str) -> (u64, u64) {
        let folder = playlist.rsplit_once('/').unwrap().0;
        let sizes: Vec<(f64, f64)> = segments(&self.text(playlist))
            .into_iter()
            .map(|(seconds, uri, range)| {
                let file = self.files.get(&format!("{folder}/{uri}")).map_or(0, Vec::len);
                let bytes = u32::try_from(range.map_or(file, |(_, length)| length)).unwrap();
                (seconds, f64::from(bytes) * 8.0)
            })
            .collect();
        let rate = |sizes: &[(f64, f64)]| {
            let (seconds, bits) = sizes.iter().fold((0.0, 0.0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
            (seconds, bits / seconds)
        };
        let mut peak = rate(&sizes).1;
        for first in 0..sizes.len() {
            for last in first..sizes.len() {
                let (seconds, rate) = rate(&sizes[first..=last]);
                if (3.0..=9.0).contains(&seconds) {
                    peak = peak.max(rate);
                }
            }
        }
        let whole = |rate: f64| format!("{rate:.0}").parse().unwrap();
        (whole(rate(&sizes).1), whole(peak))
    }

    fn written(&self) -> Tree {
        let mut text = self.head.clone();
        for media in &self.media {
            let _ = writeln!(text, "{media}");
        }
        let uri = |media: &String| {
            media.split("URI=\"").nth(1).map(|uri| uri.split('"').next().unwrap().to_owned())
        };
        let heard = self.media.iter().filter(|media| media.contains("TYPE=AUDIO")).filter_map(uri);
        let heard: Vec<_> = heard.map(|playlist| self.rates(&playlist)).collect();
        let heaviest = |of: fn(&(u64, u64)) -> u64| heard.iter().map(of).max().unwrap_or(0);
        let sound = (heaviest(|rates| rates.0), heaviest(|rates| rates.1));
        for variant in &self.variants {
            let (average, peak) = self.rates(&variant.playlist);
            let (average, peak) =
                if variant.has_sound { (average + sound.0, peak + sound.1) } else { (average, peak) };
            let group = if variant.has_sound { ",AUDIO=\"audio\"" } else { "" };
            let subtitles = if self.media.len() > 1 { ",SUBTITLES=\"subtitles\"" } else { "" };
            let _ = write!(
                text,
                "#EXT-X-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},{}{group}{subtitles}\n{}\n",
                variant.tag, variant.playlist
            );
        }
        for (playlist, tag) in &self.i_frames {
            let (average, peak) = self.rates(playlist);
            let _ = writeln!(
                text,
                "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},{tag},URI=\"{playlist}\""
            );
        }
        for (from, to) in &self.edits {
            assert!(text.contains(from), "the playlist has no {from}:\n{text}");
            text = text.replacen(from, to, 1);
        }
        let mut files = self.files.clone();
        files.insert("index.m3u8".to_owned(), text.into_bytes());
        files
    }

    fn lint(&self) -> Report {
        let folder = TempDir::new().unwrap();
        write(folder.path(), &self.written());
        let at = Url::from_file_path(folder.path().join("index.m3u8")).unwrap();
        report(&Files::folder(folder.path()).unwrap(), &at)
    }
}

fn write(folder: &Path, files: &Tree) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

fn report(files: &Files<'_>, at: &Url) -> Report {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(lint::check(files, at, &|_, _| {})).unwrap()
}

/// Where the first key frame of a segment is, with all that is needed to show it.
fn key_frame(segment: &[u8]) -> (usize, usize) {
    if segment[0] == 0x47 {
        // Up to the packet where the second picture begins: ffmpeg's first stream is 0x100.
        let begins = |packet: &&[u8]| packet[1] & 0x5f == 0x41 && packet[2] == 0;
        let mut starts = segment.chunks(188).enumerate().filter(|(_, packet)| begins(packet));
        let (second, _) = starts.nth(1).unwrap();
        return (0, second * 188);
    }
    let mut at = 0;
    loop {
        let length = usize::try_from(u32::from_be_bytes(segment[at..at + 4].try_into().unwrap())).unwrap();
        if &segment[at + 4..at + 8] == b"moof" {
            let moof = Moof::decode(&mut &segment[at..at + length]).unwrap();
            let track = &moof.traf[0];
            let first = track.trun[0].samples.get(0).unwrap();
            let size = first.size.or(track.tfhd.default_sample_size).unwrap();
            return (at, length + 8 + usize::try_from(size).unwrap());
        }
        at += length;
    }
}

fn broken(report: &Report) -> BTreeSet<&'static str> {
    report.findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn an_asset_that_breaks_no_rule_has_no_findings() {
    for asset in [Asset::clean(), Asset::transport()] {
        let report = asset.lint();
        assert_eq!(report.findings, [], "{report}");
        assert_eq!(report.notes, Vec::<String>::new());
        assert_eq!(report.looked_at.skipped, 0);
        assert!(report.looked_at.segments > 8 && report.looked_at.bytes > 100_000);
    }
}

/// One fault, and the rule that names it.
type Fault = (&'static str, fn(&mut Asset));

const AVC: &str = "avc1.64000b";

const FAULTS: &[Fault] = &[
    ("1.1", |asset| asset.extra("vp9", "vp09.00.10.08")),
    ("1.2", |asset| {
        asset.extra("low", AVC);
        for number in 0..3 {
            let name = format!("extra/{number}.m4s");
            let length = asset.files[&name].len();
            let mut text = b"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\nNOTE ".to_vec();
            text.resize(length, b'x');
            asset.files.insert(name, text);
        }
    }),
    ("1.3a", |asset| {
        for (folder, codec) in [("high", "avc1.64000d"), ("low", AVC)] {
            asset.patch(&format!("{folder}/init.mp4"), b"avcC", 7, &[42]);
            asset.replace("index.m3u8", codec, "avc1.64002a");
            asset.replace("index.m3u8", codec, "avc1.64002a");
        }
    }),
    ("1.3b", |asset| {
        asset.extra("low", "avc1.640033");
        asset.patch("extra/init.mp4", b"avcC", 7, &[51]);
    }),
    ("1.4", |asset| {
        asset.extra("low", "avc1.4d000b");
        asset.patch("extra/init.mp4", b"avcC", 5, &[77]);
    }),
    ("1.5", |asset| {
        asset.extra("hevc", "hvc1.1.6.L30.90");
        null_packets(asset);
    }),
    ("1.6a", |asset| {
        asset.extra("hevc", "hvc1.1.6.L150.90");
        asset.patch("extra/init.mp4", b"hvcC", 4 + 12, &[150]);
    }),
    ("1.6b", |asset| {
        asset.extra("hevc", "hvc1.1.6.L30.90");
        let tag = r#"CODECS="hvc1.1.6.L156.90,mp4a.40.2",RESOLUTION=160x90,FRAME-RATE=30.000"#;
        asset.variant("other", "hevc", tag, true);
        asset.patch("other/init.mp4", b"hvcC", 4 + 12, &[156]);
    }),
    ("1.10", |asset| {
        asset.extra("low", "avc3.64000b");
        asset.patch("extra/init.mp4", b"avc1\0\0\0\0\0\0", 0, b"avc3");
    }),
    ("1.12", |asset| {
        asset.variants.clear();
        asset.extra("hevc", "hvc1.1.6.L30.90");
    }),
    ("1.13", |asset| asset.extra("slow", AVC)),
    ("1.14", |asset| {
        asset.extra("fields", AVC);
        true_codec(asset);
        asset.variants[2].tag = asset.variants[2].tag.replace("160x90", "320x180");
    }),
    ("1.19", |asset| {
        asset.extra("r120", AVC);
        true_codec(asset);
        asset.variants[2].tag = asset.variants[2].tag.replace("30.000", "120.000");
    }),
    ("1.20", |asset| {
        asset.extra("r60", AVC);
        true_codec(asset);
        for tag in tags(asset) {
            *tag += ",VIDEO-RANGE=SDR";
        }
        asset.variants[2].tag = asset.variants[2].tag.replace("30.000", "60.000").replace("SDR", "PQ");
    }),
    ("1.24", |asset| tags(asset).for_each(|tag| *tag += ",VIDEO-RANGE=PQ")),
    ("1.26", |asset| asset.replace("index.m3u8", "AVERAGE-BANDWIDTH=", "AVERAGE-BANDWIDTH=1")),
    ("1.27", |asset| asset.replace("index.m3u8", "INF:BANDWIDTH=", "INF:BANDWIDTH=1")),
    ("1.30", |asset| {
        asset.extra("low", AVC);
        asset.pad("extra/0.m4s", 1_000_000);
    }),
    ("1.32", |asset| {
        asset.extra("low", AVC);
        for (number, bytes) in [(0, 1_400_000), (1, 1_400_000), (2, 460_000)] {
            asset.pad(&format!("extra/{number}.m4s"), bytes);
        }
    }),
    ("1.33", |asset| {
        asset.extra("low", AVC);
        sized(asset, 120, 90);
    }),
    ("1.34", |asset| {
        asset.extra("low", AVC);
        sized(asset, 3840, 2160);
        for (number, bytes) in [(0, 12_000_000), (1, 12_000_000), (2, 4_000_000)] {
            asset.pad(&format!("extra/{number}.m4s"), bytes);
        }
        let Variant { playlist, tag, has_sound } = &asset.variants[2];
        let again = Variant { playlist: playlist.clone(), tag: tag.clone(), has_sound: *has_sound };
        asset.variants.push(again);
    }),
    ("1.37", |asset| {
        asset.extra("av1", "av01.0.20M.08");
        asset.patch("extra/init.mp4", b"av1C", 5, &[20]);
    }),
    ("1.39", |asset| {
        asset.extra("av1", "av01.0.00M.08");
        asset.patch("extra/init.mp4", b"av1C", 5, &[0]);
        null_packets(asset);
    }),
    ("2.3", |asset| {
        asset.add("audio", "mono");
        asset.replace("index.m3u8", r#"CHANNELS="2""#, r#"CHANNELS="1""#);
    }),
    ("2.4", |asset| {
        // AAC-LC of 48 kHz in stereo, and the same as SBR.
        asset.patch("audio/init.mp4", &[0x11, 0x90], 0, &[0x29, 0x90]);
        for (number, bytes) in [(0, 20_000), (1, 20_000), (2, 7_000)] {
            asset.pad(&format!("audio/{number}.m4s"), bytes);
        }
        for variant in &mut asset.variants {
            variant.tag = variant.tag.replace("mp4a.40.2", "mp4a.40.5");
        }
    }),
    ("2.6", |asset| {
        asset.add("dolby", "eac3");
        asset.media.push(
            MEDIA
                .replace("English", "Dolby")
                .replace("audio/", "dolby/")
                .replace("DEFAULT=YES", "DEFAULT=NO"),
        );
        for variant in &mut asset.variants {
            variant.tag = variant.tag.replace("mp4a.40.2", "mp4a.40.2,ec-3");
        }
    }),
    ("2.9", |asset| {
        for (number, bytes) in [(0, 100_000), (1, 100_000), (2, 34_000)] {
            asset.pad(&format!("audio/{number}.m4s"), bytes);
        }
        asset.variants.truncate(1);
        asset.i_frames.truncate(1);
    }),
    ("2.13", |asset| {
        let tag = MEDIA.replace("English", "Described").replace("DEFAULT=YES,AUTOSELECT=YES", "DEFAULT=NO");
        asset.media.push(tag + r#",CHARACTERISTICS="public.accessibility.describes-video""#);
    }),
    ("2.17", |asset| {
        let playlist = asset.text("audio/index.m3u8");
        asset.add("audio", "two");
        asset.files.insert("audio/index.m3u8".to_owned(), playlist.into_bytes());
    }),
    ("4.5", |asset| {
        asset.media[1] += r#",CHARACTERISTICS="public.accessibility.transcribes-spoken-dialog""#;
    }),
    ("4.6", |asset| {
        asset.media[1] = asset.media[1].replace("AUTOSELECT=YES,", "")
            + r#",CHARACTERISTICS="public.accessibility.transcribes-spoken-dialog,public.accessibility.describes-music-and-sound""#;
    }),
    ("5.2", |asset| {
        let srt = b"1\n00:00:00,000 --> 00:00:01,000\nhello\n".to_vec();
        asset.files.insert("subtitles/0.vtt".to_owned(), srt);
    }),
    ("5.3", |asset| asset.replace("subtitles/1.vtt", "X-TIMESTAMP-MAP", "X-NOTHING")),
    ("5.5", |asset| asset.replace("subtitles/index.m3u8", "#EXTINF:2.000,\n2.vtt\n", "")),
    ("5.11", |asset| {
        asset.media[1] = asset.media[1].replace("AUTOSELECT=YES,FORCED=NO", "FORCED=YES");
    }),
    ("6.1", |asset| asset.i_frames.clear()),
    ("6.6", |asset| asset.i_frames.truncate(1)),
    ("6.8", |asset| asset.replace("low/iframes.m3u8", "#EXT-X-I-FRAMES-ONLY\n", "")),
    ("6.9", |asset| {
        asset.replace("index.m3u8", "I-FRAME-STREAM-INF:BANDWIDTH=", "I-FRAME-STREAM-INF:BANDWIDTH=1");
    }),
    ("6.10", |asset| {
        // As if the range began with the frame.
        let text = asset.text("low/iframes.m3u8");
        let (_, uri, range) = segments(&text).swap_remove(1);
        let (offset, length) = range.unwrap();
        let segment = &asset.files[&format!("low/{uri}")];
        let mdat = segment.windows(4).position(|window| window == b"mdat").unwrap() - 4;
        let from = format!("{length}@{offset}");
        asset.replace("low/iframes.m3u8", &from, &format!("{length}@{mdat}"));
    }),
    ("6.10", |asset| short_i_frame(asset, 1)),
    ("6.10", |asset| short_i_frame(asset, 100)),
    ("6.14", |asset| {
        asset.extra("hevc", "hvc1.1.6.L30.90");
        asset.i_frames.clear();
        asset.add_i_frames("extra", r#"CODECS="hvc1.1.6.L30.90",RESOLUTION=160x90"#);
        let again = asset.i_frames[0].clone();
        asset.i_frames.push(again);
    }),
    ("6.16", |asset| {
        asset.extra("low", AVC);
        for tag in tags(asset) {
            *tag += ",VIDEO-RANGE=PQ";
        }
        for variant in &mut asset.variants[..2] {
            variant.tag = variant.tag.replace("=PQ", "=SDR");
        }
    }),
    ("7.3", |asset| {
        asset.extra("low", AVC);
        later(asset, "extra/1.m4s", 14, 2);
    }),
    ("7.3", |asset| stretch(asset, "audio/1.m4s")),
    ("7.4", |asset| {
        asset.extra("dense", AVC);
        true_codec(asset);
        without_key_frame(asset, "extra/1.m4s");
    }),
    ("7.5", |asset| {
        for folder in ["audio", "high", "low"] {
            asset.replace(&format!("{folder}/index.m3u8"), "TARGETDURATION:6", "TARGETDURATION:7");
        }
    }),
    ("7.6", |asset| {
        *asset = Asset::empty();
        asset.variant("four", "four", r#"CODECS="avc1.64000b",RESOLUTION=160x90,FRAME-RATE=30.000"#, false);
        asset.add_i_frames("four", r#"CODECS="avc1.64000b",RESOLUTION=160x90"#);
    }),
    ("7.7", |asset| {
        asset.replace("subtitles/index.m3u8", "6.000,\n0", "6.600,\n0");
        asset.replace("subtitles/index.m3u8", "2.000", "1.400");
    }),
    ("8.1", |asset| {
        asset.extra("low", AVC);
        asset.replace("extra/index.m3u8", "6.000000,\n1", "6.050000,\n1");
    }),
    ("8.2", |asset| asset.replace("low/index.m3u8", "TARGETDURATION:6", "TARGETDURATION:7")),
    ("8.3", |asset| {
        asset.extra("low", AVC);
        asset.replace("extra/index.m3u8", "#EXTINF:2.000000,\n2.m4s\n", "");
    }),
    ("8.6", |asset| asset.replace("subtitles/index.m3u8", "#EXT-X-PLAYLIST-TYPE:VOD\n", "")),
    ("8.7", |asset| {
        asset.extra("low", AVC);
        for number in 0..3 {
            // A clock of 15,360 ticks: 0x10000 of them are more than four seconds.
            later(asset, &format!("extra/{number}.m4s"), 13, 1);
        }
    }),
    ("8.10", |asset| asset.replace("index.m3u8", r#"LANGUAGE="en","#, "")),
    ("8.15", |asset| {
        asset.extra("low", AVC);
        asset.replace(
            "extra/index.m3u8",
            "#EXTINF:6.000000,\n1",
            "#EXT-X-DISCONTINUITY\n#EXTINF:6.000000,\n1",
        );
    }),
    ("8.20", |asset| {
        asset.extra("low", AVC);
        asset.replace("extra/index.m3u8", "#EXT-X-MAP:URI=\"init.mp4\"\n", "");
    }),
    ("8.22", |asset| {
        asset.extra("early", AVC);
        true_codec(asset);
    }),
    ("9.1", |asset| asset.variants[0].tag = String::from("RESOLUTION=320x180,FRAME-RATE=30.000")),
    ("9.2", |asset| asset.replace("index.m3u8", "RESOLUTION=320x180,", "")),
    ("9.3", |asset| asset.i_frames[0].1 = String::from("RESOLUTION=320x180")),
    ("9.4", |asset| asset.i_frames[0].1 = String::from(r#"CODECS="avc1.64000d""#)),
    ("9.5", |asset| {
        let tag = r#"CODECS="avc1.64000b,mp4a.40.2",RESOLUTION=160x90,FRAME-RATE=30.000"#;
        asset.variant("extra", "muxed", tag, false);
    }),
    ("9.6", |asset| {
        let tag = r#"CODECS="avc1.64000b,mp4a.40.2",RESOLUTION=160x90,FRAME-RATE=30.000"#;
        asset.variant("extra", "muxed51", tag, false);
    }),
    ("9.7", |asset| {
        let tag = MEDIA.replace("English", "Deutsch").replace("\"en\"", "\"de\"");
        asset.media.push(tag.replace(",URI=\"audio/index.m3u8\"", "").replace("DEFAULT=YES", "DEFAULT=NO"));
    }),
    ("9.9", |asset| {
        *asset = Asset::empty();
        asset.variant("big", "big", r#"CODECS="avc1.640015",RESOLUTION=426x240,FRAME-RATE=30.000"#, false);
        asset.add_i_frames("big", r#"CODECS="avc1.640015",RESOLUTION=426x240"#);
    }),
    ("9.10", |asset| {
        asset.extra("low", AVC);
        sized(asset, 1280, 720);
    }),
    ("9.11", |asset| asset.head = asset.head.replace("#EXT-X-INDEPENDENT-SEGMENTS\n", "")),
    ("9.12", |asset| {
        asset.head = asset.head.replace("#EXT-X-INDEPENDENT-SEGMENTS\n", "");
        asset.replace("low/index.m3u8", "#EXT-X-INDEPENDENT-SEGMENTS\n", "");
    }),
    ("9.13", |asset| {
        let (_, peak) = asset.rates("high/index.m3u8");
        let (_, sound) = asset.rates("audio/index.m3u8");
        asset.replace(
            "index.m3u8",
            &format!("BANDWIDTH={}", peak + sound),
            &format!("BANDWIDTH={}", peak * 9 / 10),
        );
    }),
    ("9.14", |asset| asset.replace("index.m3u8", "AVERAGE-BANDWIDTH", "X-AVERAGE")),
    ("9.15", |asset| asset.replace("index.m3u8", ",FRAME-RATE=30.000", "")),
    ("9.16", |asset| {
        asset.extra("low", AVC);
        asset.variants[2].tag += ",VIDEO-RANGE=PQ";
    }),
    ("9.18", |asset| asset.head += "#EXT-X-CONTENT-STEERING:SERVER-URI=\"/steering\"\n"),
    ("9.19", |asset| asset.variants[0].tag += ",SCORE=2.0"),
    ("9.20", |asset| {
        let tag = r#"CODECS="mp4a.40.2""#.to_owned();
        asset.variants.push(Variant { playlist: "audio/index.m3u8".to_owned(), tag, has_sound: false });
    }),
    ("9.21", |asset| {
        asset.variants.truncate(1);
        asset.i_frames.truncate(1);
        let tag = asset.variants[0].tag.clone();
        asset.variant("extra", "high", &tag, true);
    }),
    ("13.11", |asset| {
        asset.extra("low", AVC);
        asset.replace(
            "extra/index.m3u8",
            "#EXT-X-MAP",
            "#EXT-X-KEY:METHOD=SAMPLE-AES-CTR,URI=\"k\"\n#EXT-X-MAP",
        );
    }),
    ("RFC 8216 3", |asset| {
        asset.extra("low", AVC);
        let file = asset.files.get_mut("extra/1.m4s").unwrap();
        file.truncate(file.len() - 10);
    }),
    ("RFC 8216 3.3", |asset| {
        asset.extra("low", AVC);
        asset.files.insert("extra/init.mp4".to_owned(), b"\0\0\0\x10ftypiso5\0\0\0\0".to_vec());
    }),
    ("RFC 8216 3.4", |asset| {
        // ADTS frames of AAC-LC of 48 kHz in stereo.
        asset.replace("audio/index.m3u8", "#EXT-X-MAP:URI=\"init.mp4\"\n", "");
        for number in 0..3 {
            let name = format!("audio/{number}.m4s");
            let mut file = vec![0xff, 0xf1, 0x4c, 0x80, 0x01, 0x1f, 0xfc];
            file.resize(asset.files[&name].len(), 0);
            asset.files.insert(name, file);
        }
    }),
    ("RFC 8216 4", |asset| {
        let tag = asset.variants[1].tag.clone();
        asset.variants.push(Variant { playlist: "low/index.m3u8".to_owned(), tag, has_sound: true });
        asset.files.insert(
            "low/again.m3u8".into(),
            b"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nagain.m3u8\n".to_vec(),
        );
        asset.edits.push(("low/index.m3u8".to_owned(), "low/again.m3u8".to_owned()));
    }),
    ("RFC 8216 4.1", |asset| asset.replace("subtitles/index.m3u8", "#EXTM3U", "\u{feff}#EXTM3U")),
    ("RFC 8216 4.2", |asset| asset.replace("index.m3u8", "RESOLUTION=", "RESOLUTION=320x180,RESOLUTION=")),
    ("RFC 8216 4.3.1.1", |asset| asset.replace("subtitles/index.m3u8", "#EXTM3U\n", "\n")),
    ("RFC 8216 7", |asset| asset.replace("low/index.m3u8", "VERSION:7", "VERSION:5")),
    ("RFC 8216 4.3.2.1", |asset| asset.replace("subtitles/index.m3u8", "2.000,", "2.000")),
    ("RFC 8216 4.3.2.2", |asset| {
        let text = asset.text("low/iframes.m3u8");
        let (_, _, range) = segments(&text).swap_remove(1);
        let (offset, length) = range.unwrap();
        let length = format!("{length}@{offset}");
        asset.replace("low/iframes.m3u8", &length, &length.replace('@', "@9999999"));
    }),
    ("RFC 8216 4.3.2.4", |asset| {
        asset.extra("low", AVC);
        asset.replace("extra/index.m3u8", "#EXT-X-MAP", "#EXT-X-KEY:METHOD=AES-128\n#EXT-X-MAP");
    }),
    ("RFC 8216 4.3.2.5", |asset| {
        asset.replace("subtitles/index.m3u8", "#EXTINF:2", "#EXT-X-MAP:BYTERANGE=\"1@0\"\n#EXTINF:2");
    }),
    ("RFC 8216 4.3.3.1", |asset| asset.replace("subtitles/index.m3u8", "#EXT-X-TARGETDURATION:6\n", "")),
    ("RFC 8216 4.3.3.4", |asset| asset.replace("subtitles/index.m3u8", "#EXT-X-ENDLIST\n", "")),
    ("RFC 8216 4.3.3.6", |asset| {
        asset.add("dense", "dense");
        without_key_frame(asset, "dense/1.m4s");
        asset.add_i_frames("dense", r#"CODECS="avc1.64000b",RESOLUTION=160x90"#);
    }),
    ("RFC 8216 4.3.4.1", |asset| asset.replace("index.m3u8", "AUTOSELECT=YES", "AUTOSELECT=NO")),
    ("RFC 8216 4.3.4.1 CHANNELS", |asset| asset.replace("index.m3u8", "CHANNELS=\"2\"", "CHANNELS=\"6\"")),
    ("RFC 8216 4.3.4.1.1", |asset| asset.media.push(MEDIA.to_owned())),
    ("RFC 8216 4.3.4.2", |asset| asset.replace("index.m3u8", ",AUDIO=\"audio\"", ",AUDIO=\"sound\"")),
    ("RFC 8216 4.3.4.2 CODECS", |asset| asset.replace("index.m3u8", "avc1.64000d,", "avc1.64001f,")),
    ("RFC 8216 4.3.4.2 RESOLUTION", |asset| asset.replace("index.m3u8", "320x180", "640x360")),
    ("RFC 8216 4.3.4.2 FRAME-RATE", |asset| asset.replace("index.m3u8", "30.000", "25.000")),
    ("RFC 8216 4.3.4.3", |asset| {
        asset.replace("index.m3u8", "I-FRAME-STREAM-INF:BANDWIDTH", "I-FRAME-STREAM-INF:X-BANDWIDTH");
    }),
    ("RFC 8216 6.2.1", |asset| {
        asset.extra("low", AVC);
        asset.files.remove("extra/1.m4s");
    }),
    ("RFC 8216 6.2.1", |asset| asset.media.push(IMAGES.to_owned())),
    ("RFC 8216 6.2.1", |asset| {
        images(asset);
        asset.files.remove("images/1.jpg");
    }),
    ("RFC 8216 3", |asset| {
        images(asset);
        asset.files.insert("images/1.jpg".to_owned(), b"<html>".to_vec());
    }),
];

const IMAGES: &str =
    r#"#EXT-X-IMAGE-STREAM-INF:BANDWIDTH=1000,RESOLUTION=64x36,CODECS="jpeg",URI="images/index.m3u8""#;

/// Adds tiles of pictures.
fn images(asset: &mut Asset) {
    asset.media.push(IMAGES.to_owned());
    let playlist = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n#EXT-X-PLAYLIST-TYPE:VOD\n\
                    #EXT-X-IMAGES-ONLY\n#EXTINF:10,\n0.jpg\n#EXTINF:4,\n1.jpg\n#EXT-X-ENDLIST\n";
    asset.files.insert("images/index.m3u8".to_owned(), playlist.as_bytes().to_vec());
    for name in ["images/0.jpg", "images/1.jpg"] {
        asset.files.insert(name.to_owned(), b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec());
    }
}

#[test]
fn tiles_of_pictures_are_no_fault() {
    let mut asset = Asset::clean();
    images(&mut asset);
    let report = asset.lint();
    assert_eq!(report.findings, [], "{report}");
    assert_eq!(report.looked_at.segments, 20);
}

/// Lets an I-frame's range end too early.
fn short_i_frame(asset: &mut Asset, by: usize) {
    let text = asset.text("low/iframes.m3u8");
    let (_, _, range) = segments(&text).swap_remove(1);
    let (offset, length) = range.unwrap();
    asset.replace("low/iframes.m3u8", &format!("{length}@{offset}"), &format!("{}@{offset}", length - by));
}

/// Takes a tick from one frame of sound and gives it to the next, which leaves the segment as long as it was.
fn stretch(asset: &mut Asset, name: &str) {
    let file = asset.files.get_mut(name).unwrap();
    let at = file.windows(4).position(|window| window == b"moof").unwrap() - 4;
    let length = usize::try_from(u32::from_be_bytes(file[at..at + 4].try_into().unwrap())).unwrap();
    let mut moof = Moof::decode(&mut &file[at..at + length]).unwrap();
    let track = &mut moof.traf[0];
    let default = track.tfhd.default_sample_size;
    let samples = track.trun[0].samples.iter().enumerate().map(|(i, sample)| {
        let duration = match i {
            3 => 1_023,
            4 => 1_025,
            _ => 1_024,
        };
        TrunEntry { duration: Some(duration), size: sample.size.or(default), ..sample }
    });
    track.trun[0].samples = samples.collect::<Vec<_>>().into();
    let mut bytes = Vec::new();
    moof.encode(&mut bytes).unwrap();
    let longer = i32::try_from(bytes.len()).unwrap() - i32::try_from(length).unwrap();
    moof.traf[0].trun[0].data_offset = moof.traf[0].trun[0].data_offset.map(|offset| offset + longer);
    bytes.clear();
    moof.encode(&mut bytes).unwrap();
    file.splice(at..at + length, bytes);
}

/// The same for transport streams.
const TRANSPORT_FAULTS: &[Fault] = &[
    ("7.2", |asset| {
        // A packet in the middle is gone.
        let file = asset.files.get_mut("high/1.ts").unwrap();
        file.drain(188 * 100..188 * 101);
    }),
    ("RFC 8216 3.2", |asset| {
        let file = asset.files.get_mut("audio/1.ts").unwrap();
        for packet in file.chunks_mut(188).filter(|packet| (packet[1] << 3, packet[2]) == (0, 0)) {
            // No table any more, but a packet of nothing.
            packet[1] |= 0x1f;
            packet[2] = 0xff;
        }
    }),
    ("RFC 8216 4.3.4.2 RESOLUTION", |asset| {
        asset.i_frames[0].1 = asset.i_frames[0].1.replace("320x180", "640x360");
    }),
    ("RFC 8216 4.3.4.2 RESOLUTION", |asset| {
        asset.i_frames[0].1 = asset.i_frames[0].1.replace("320x180", "640x360");
        tables_apart(asset);
    }),
    // What is left of another packet.
    ("RFC 8216 3", |asset| asset.files.get_mut("audio/1.ts").unwrap().extend([0x47; 10])),
];

/// Lets I-frames begin behind the tables, which EXT-X-MAP has instead.
fn tables_apart(asset: &mut Asset) {
    let name = "high/iframes.m3u8";
    let text = asset.text(name);
    for (_, uri, range) in segments(&text) {
        let length = range.unwrap().1;
        let from = format!("{length}@0\n{uri}");
        // ffmpeg begins with its name, and then come both tables.
        asset.replace(name, &from, &format!("{}@{}\n{uri}", length - 3 * 188, 3 * 188));
    }
    asset.replace(
        name,
        "#EXT-X-I-FRAMES-ONLY\n",
        &format!("#EXT-X-I-FRAMES-ONLY\n#EXT-X-MAP:URI=\"0.ts\",BYTERANGE=\"{}@0\"\n", 3 * 188),
    );
}

#[test]
fn tables_in_an_initialisation_section_are_no_fault() {
    let mut asset = Asset::transport();
    tables_apart(&mut asset);
    let report = asset.lint();
    assert_eq!(report.findings, [], "{report}");
}

/// Those that only hold for what comes from a web server, and have tests of their own.
const WEB: [&str; 6] = ["8.18", "10.1", "10.4", "11.1", "11.2", "11.3"];

fn tags(asset: &mut Asset) -> impl Iterator<Item = &mut String> {
    let variants = asset.variants.iter_mut().map(|variant| &mut variant.tag);
    variants.chain(asset.i_frames.iter_mut().map(|(_, tag)| tag))
}

/// Puts packets of nothing in place of what is in the third variant.
fn null_packets(asset: &mut Asset) {
    for number in 0..3 {
        let name = format!("extra/{number}.m4s");
        let mut packet = [0xff; 188];
        packet[..4].copy_from_slice(&[0x47, 0x1f, 0xff, 0x10]);
        let packets = asset.files[&name].len().div_ceil(188);
        asset.files.insert(name, packet.repeat(packets));
    }
}

/// Declares the third variant as what its `avcC` says.
fn true_codec(asset: &mut Asset) {
    let codec = codec(asset, "extra");
    let tag = &mut asset.variants.last_mut().unwrap().tag;
    *tag = tag.replace(AVC, &codec);
}

fn codec(asset: &Asset, folder: &str) -> String {
    let init = &asset.files[&format!("{folder}/init.mp4")];
    let at = init.windows(4).position(|window| window == b"avcC").unwrap();
    format!("avc1.{:02x}{:02x}{:02x}", init[at + 5], init[at + 6], init[at + 7])
}

/// Makes the third variant say that it is of this size.
fn sized(asset: &mut Asset, width: u16, height: u16) {
    asset.patch(
        "extra/init.mp4",
        b"avc1\0\0\0\0\0\0",
        28,
        &[width.to_be_bytes(), height.to_be_bytes()].concat(),
    );
    let tag = &mut asset.variants[2].tag;
    *tag = tag.replace("160x90", &format!("{width}x{height}"));
}

/// Adds to one byte of the time at which a segment is decoded.
fn later(asset: &mut Asset, name: &str, byte: usize, more: u8) {
    let file = asset.files.get_mut(name).unwrap();
    let at = file.windows(4).position(|window| window == b"tfdt").unwrap();
    file[at + byte] += more;
}

/// Takes from a segment that its first sample is a key frame.
fn without_key_frame(asset: &mut Asset, name: &str) {
    let file = asset.files.get_mut(name).unwrap();
    let at = file.windows(4).position(|window| window == b"trun").unwrap() + 4;
    let flags = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
    // A flag for each field (ISO/IEC 14496-12, 8.8.8): of the run, and then of its samples.
    let has = |bit: u32| if flags & bit == 0 { 0 } else { 4 };
    let run = at + 8 + has(0x1);
    let at = if has(0x4) > 0 { run } else { run + has(0x100) + has(0x200) };
    assert!(has(0x4) + has(0x400) > 0);
    file[at..at + 4].copy_from_slice(&[1, 1, 0, 0]);
}

#[test]
fn every_rule_catches_its_fault_and_no_other_rule_does() {
    let mut wrong = Vec::new();
    let cases = FAULTS.iter().map(|fault| (Asset::clean as fn() -> Asset, fault));
    let cases = cases.chain(TRANSPORT_FAULTS.iter().map(|fault| (Asset::transport as fn() -> Asset, fault)));
    for (clean, (rule, break_it)) in cases {
        let mut asset = clean();
        break_it(&mut asset);
        let report = asset.lint();
        if broken(&report) != BTreeSet::from([*rule]) {
            wrong.push(format!("--- {rule}\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_has_a_fault() {
    let tested =
        FAULTS.iter().chain(TRANSPORT_FAULTS).map(|(rule, _)| *rule).chain(WEB).collect::<BTreeSet<_>>();
    let all = rules::ALL.iter().map(|rule| rule.number).collect::<BTreeSet<_>>();
    assert_eq!(tested, all);
    assert_eq!(all.len(), rules::ALL.len(), "each number is there once");
}

/// A web server on this machine, for as long as the tests run: a function says what it answers.
fn serve(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let (answer, mut connection) = (Arc::clone(&answer), connection.unwrap());
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && connection.read(&mut byte).is_ok_and(|read| read > 0) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let reply = answer(&Request { target, head });
                let mut text = format!(
                    "HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {}\r\n",
                    reply.status,
                    reply.body.len()
                );
                for (name, value) in &reply.headers {
                    let _ = write!(text, "{name}: {value}\r\n");
                }
                let _ = connection.write_all((text + "\r\n").as_bytes());
                let _ = connection.write_all(&reply.body);
            });
        }
    });
    at
}

struct Request {
    /// Path and query.
    target: String,
    head: String,
}

impl Request {
    fn path(&self) -> &str {
        self.target.split('?').next().unwrap().trim_start_matches('/')
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Serves files as a good server does.
fn well(files: &Tree, request: &Request) -> Answer {
    let Some(body) = files.get(request.path()) else {
        return Answer { status: 404, headers: Vec::new(), body: Vec::new() };
    };
    let kind = match request.path().rsplit('.').next().unwrap() {
        "m3u8" => "application/vnd.apple.mpegurl",
        "mp4" => "video/mp4",
        "ts" => "video/mp2t",
        "vtt" => "text/vtt",
        _ => "video/iso.segment",
    };
    let mut headers = vec![("Content-Type", kind.to_owned())];
    if kind.ends_with("mpegurl") && request.header("accept-encoding").is_some_and(|all| all.contains("gzip"))
    {
        headers.push(("Content-Encoding", "gzip".to_owned()));
        return Answer { status: 200, headers, body: gzip(body) };
    }
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((first, last)) = range else { return Answer { status: 200, headers, body: body.clone() } };
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= body.len() {
        headers.push(("Content-Range", format!("bytes */{}", body.len())));
        return Answer { status: 416, headers, body: Vec::new() };
    }
    let last = last.min(body.len() - 1);
    headers.push(("Content-Range", format!("bytes {first}-{last}/{}", body.len())));
    Answer { status: 206, headers, body: body[first..=last].to_vec() }
}

/// Whether there are transport streams of which not all is read.
fn files_are_long(asset: &Asset) -> bool {
    asset.files.iter().any(|(name, bytes)| name.contains(".ts") && bytes.len() > 400 * 188)
}

fn web(entry: &Url) -> Files<'static> {
    tokio::runtime::Runtime::new().unwrap().block_on(Files::web(entry)).unwrap()
}

fn fetched(at: &str) -> Report {
    let at = Url::parse(at).unwrap();
    report(&web(&at), &at)
}

#[test]
fn a_clean_asset_on_the_web_has_no_findings_and_is_not_downloaded() {
    for clean in [Asset::clean(), Asset::transport()] {
        let files = clean.written();
        let sent = Arc::new(Mutex::new(0));
        let count = Arc::clone(&sent);
        let at = serve(move |request| {
            let answer = well(&files, request);
            *count.lock().unwrap() += answer.body.len();
            answer
        });
        let report = fetched(&format!("{at}/index.m3u8"));
        assert_eq!(report.findings, [], "{report}");
        assert_eq!(report.looked_at.skipped, 0);
        assert_eq!(!report.notes.is_empty(), files_are_long(&clean), "{report}");
        assert!(*sent.lock().unwrap() < usize::try_from(report.looked_at.bytes).unwrap());
    }
}

/// What a server does wrong.
type Break = fn(&Request, Answer) -> Answer;

#[test]
fn a_server_is_held_against_the_rules_too() {
    let files = Asset::clean().written();
    let cases: [(&str, Break); 4] = [
        ("10.1", |request, answer| {
            let plain =
                answer.headers.iter().any(|(_, value)| value == "gzip") && request.path() == "low/index.m3u8";
            if !plain {
                return answer;
            }
            let mut body = Vec::new();
            flate2::read::GzDecoder::new(answer.body.as_slice()).read_to_end(&mut body).unwrap();
            let headers = answer.headers.into_iter().filter(|(_, value)| value != "gzip").collect();
            Answer { headers, body, ..answer }
        }),
        ("10.4", |request, mut answer| {
            if request.path() == "low/1.m4s" {
                answer.headers[0].1 = "application/octet-stream".to_owned();
            }
            answer
        }),
        ("8.18", |request, answer| {
            if request.path() != "low/1.m4s" || request.target.contains('?') {
                return answer;
            }
            Answer {
                status: 302,
                headers: vec![("Location", "/low/1.m4s?there".to_owned())],
                body: Vec::new(),
            }
        }),
        ("RFC 8216 6.2.1", |request, answer| Answer {
            status: if request.path() == "high/2.m4s" { 403 } else { answer.status },
            ..answer
        }),
    ];
    for (rule, break_it) in cases {
        let files = files.clone();
        let at = serve(move |request| break_it(request, well(&files, request)));
        let report = fetched(&format!("{at}/index.m3u8"));
        assert_eq!(broken(&report), BTreeSet::from([rule]), "{report}");
    }
}

#[test]
fn a_server_without_ranges_will_do() {
    let files = Asset::clean().written();
    let at = serve(move |request| {
        let head = request.head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("range"));
        let head = head.collect::<Vec<_>>().join("\r\n");
        well(&files, &Request { target: request.target.clone(), head })
    });
    let report = fetched(&format!("{at}/index.m3u8"));
    assert_eq!(report.findings, [], "{report}");
}

/// What ffmpeg's own muxer writes, behind signatures in the way that ours and others hand them on.
#[test]
fn somebody_elses_signed_hls_is_checked_and_no_signature_is_told() {
    const SIGNATURE: &str = "Policy=c2VjcmV0&Signature=c2lnbmVk&Key-Pair-Id=K1&t=ticket";
    let folder = TempDir::new().unwrap();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=d=14:s=160x90:r=30"])
        .args(["-f", "lavfi", "-i", "sine=d=14", "-c:v", "libx264", "-g", "60", "-c:a", "aac", "-ac", "2"])
        .args(["-f", "hls", "-hls_time", "6", "-hls_playlist_type", "vod", "-master_pl_name", "master.m3u8"])
        .args(["-hls_segment_filename", "%d.ts", "index.m3u8"])
        .current_dir(folder.path())
        .status();
    assert!(made.unwrap().success());
    let files: Tree = ["master.m3u8", "index.m3u8", "0.ts", "1.ts", "2.ts"]
        .into_iter()
        .map(|name| {
            let bytes = std::fs::read(folder.path().join(name)).unwrap();
            let signed = |text: String| text.replace(".ts\n", &format!(".ts?{SIGNATURE}\n"));
            let signed = |text| signed(text).replace("index.m3u8\n", &format!("index.m3u8?{SIGNATURE}\n"));
            match String::from_utf8(bytes) {
                Ok(text) => (name.to_owned(), signed(text).into_bytes()),
                Err(binary) => (name.to_owned(), binary.into_bytes()),
            }
        })
        .collect();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let at = serve(move |request| {
        log.lock().unwrap().push(request.head.clone());
        if !request.target.contains(SIGNATURE) {
            return Answer { status: 403, headers: Vec::new(), body: Vec::new() };
        }
        // What is moved answers elsewhere, to where no signature may follow.
        if request.path() == "2.ts" && !request.target.contains("moved") {
            let to = format!("/2.ts?moved&{SIGNATURE}");
            return Answer { status: 302, headers: vec![("Location", to)], body: Vec::new() };
        }
        well(&files, request)
    });
    let report = fetched(&format!("{at}/master.m3u8?{SIGNATURE}"));
    let text = format!("{report}\n{}", serde_json::to_string(&report).unwrap());
    for secret in ["Policy", "Signature", "c2VjcmV0", "ticket", "?"] {
        assert!(!text.replace("is it the right key?", "").contains(secret), "{secret} in {text}");
    }
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|head| head.lines().filter(|line| line.contains("Signature")).count() == 1));
    // ffmpeg 5.1 writes none of it into its multivariant playlist.
    for rule in ["6.1", "9.14", "9.15", "9.5", "8.18"] {
        assert!(broken(&report).contains(rule), "{rule}: {report}");
    }
    assert!(!broken(&report).contains("RFC 8216 6.2.1"), "{report}");

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gone = Url::parse("http://127.0.0.1:9/a/index.m3u8?Signature=c2lnbmVk").unwrap();
    let error = runtime.block_on(lint::check(&web(&gone), &gone, &|_, _| {})).unwrap_err();
    assert!(
        !error.to_string().contains("c2lnbmVk") && error.to_string().contains("127.0.0.1:9/a/index.m3u8"),
        "{error}"
    );
}

/// Encrypts as openssl does: with padding, and the number of the segment as the vector.
fn encrypted(bytes: &[u8], key: &str, number: u32) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let (clear, secret) = (folder.path().join("clear"), folder.path().join("secret"));
    std::fs::write(&clear, bytes).unwrap();
    let status = Command::new("openssl")
        .args(["enc", "-aes-128-cbc", "-K", key, "-iv", &format!("{number:032x}"), "-in"])
        .arg(&clear)
        .arg("-out")
        .arg(&secret)
        .status();
    assert!(status.unwrap().success());
    std::fs::read(secret).unwrap()
}

#[test]
fn what_is_encrypted_is_looked_into_where_its_key_can_be_read() {
    let key = "000102030405060708090a0b0c0d0e0f";
    let mut asset = Asset::transport();
    for folder in ["high", "audio"] {
        for number in 0..3 {
            let file = asset.files.get_mut(&format!("{folder}/{number}.ts")).unwrap();
            *file = encrypted(file, key, number);
        }
        let tag = "#EXT-X-KEY:METHOD=AES-128,URI=\"/key?t=1\"\n#EXTINF:6";
        let text = asset.text(&format!("{folder}/index.m3u8")).replacen("#EXTINF:6", tag, 1);
        asset.files.insert(format!("{folder}/index.m3u8"), text.into_bytes());
    }
    asset.i_frames.clear();
    let mapped = |asset: &Asset, key: Option<&[u8]>| {
        let folder = TempDir::new().unwrap();
        let mut files = asset.written();
        files.extend(key.map(|key| ("key".to_owned(), key.to_vec())));
        write(folder.path(), &files);
        let stored = |name: &String| Stored::File { path: folder.path().join(name), range: None };
        let files = Files::mapped(files.keys().map(|name| (name.clone(), stored(name))));
        let at = files.key("index.m3u8").unwrap();
        report(&files, &at)
    };
    let right: Vec<u8> = (0..16).collect();
    let report = mapped(&asset, Some(&right));
    assert_eq!(broken(&report), BTreeSet::from(["6.1"]), "{report}");
    assert_eq!(report.looked_at.skipped, 0);

    let report = mapped(&asset, None);
    assert_eq!(broken(&report), BTreeSet::from(["6.1"]), "{report}");
    assert_eq!((report.looked_at.skipped, report.looked_at.segments), (6, 0));
    assert!(report.notes.iter().any(|note| note.starts_with("6 files")), "{report}");

    let report = mapped(&asset, Some(&[7; 16]));
    assert!(broken(&report).contains("RFC 8216 3"), "{report}");

    // A frame that is no key frame is found behind the encryption too.
    let file = asset.files.get_mut("high/1.ts").unwrap();
    *file = asset_without_first_picture(&track("ts-high")["1.ts"]);
    *file = encrypted(file, key, 1);
    let report = mapped(&asset, Some(&right));
    assert!(broken(&report).contains("7.4"), "{report}");
}

/// A transport stream segment without its first picture.
fn asset_without_first_picture(segment: &[u8]) -> Vec<u8> {
    let (_, end) = key_frame(segment);
    let is_table = |packet: &&[u8]| packet[1] & 0x1f != 1;
    let tables = segment[..end].chunks(188).filter(is_table).flatten().copied();
    tables.chain(segment[end..].iter().copied()).collect()
}

#[test]
fn a_hostile_playlist_ends_in_findings() {
    let lint = |files: &[(&str, String)]| {
        let files =
            Files::mapped(files.iter().map(|(name, text)| ((*name).to_owned(), Stored::Text(text.clone()))));
        let at = files.key("index.m3u8").unwrap();
        report(&files, &at)
    };
    let many = "#EXTINF:0,\nindex.m3u8\n".repeat(20_000);
    let cases = [
        String::new(),
        "\0\u{1}\u{7f}".repeat(1_000),
        "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=18446744073709551615\nindex.m3u8\n".repeat(20_000),
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:18446744073709551615\n{many}"),
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:99999999,\n#EXT-X-BYTERANGE:18446744073709551615@18446744073709551615\nindex.m3u8\n".to_owned(),
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-KEY:METHOD=AES-128,URI=\"index.m3u8\"\n#EXT-X-MAP:URI=\"index.m3u8\",BYTERANGE=\"1@9999999999999999999\"\n#EXTINF:-1,\n::::\n".to_owned(),
        "#EXTM3U\n#EXT-X-STREAM-INF:RESOLUTION=0x0,FRAME-RATE=0,CODECS=\"avc1.é,hvc1.,av01.x.é\"\n\u{202e}\n".to_owned(),
        format!("#EXTM3U\n#EXT-X-MEDIA:{}\n#EXT-X-STREAM-INF:A=\"\n", "A=1,".repeat(100_000)),
    ];
    for text in cases {
        let report = lint(&[("index.m3u8", text.clone())]);
        assert!(report.is_broken(), "{report}");
        assert!(report.findings.len() < 1_000);
    }
    // A variant that is a multivariant playlist, which names the first.
    let nested = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nother.m3u8\n".to_owned();
    let report = lint(&[("index.m3u8", nested.clone()), ("other.m3u8", nested.replace("other", "index"))]);
    assert!(broken(&report).contains("RFC 8216 4"), "{report}");
}

#[test]
fn bytes_that_are_no_media_are_no_panic() {
    let asset = Asset::clean();
    let mut state = 7_u32;
    let mut next = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(state >> 8).unwrap()
    };
    for round in 0..40 {
        let mut broken = Asset { files: asset.files.clone(), ..Asset::clean() };
        for name in ["high/init.mp4", "high/0.m4s", "audio/init.mp4", "low/1.m4s"] {
            let file = broken.files.get_mut(name).unwrap();
            // Boxes are at the beginning.
            let end = file.len().min(1_500);
            for _ in 0..=round % 8 {
                file[next() % end] = u8::try_from(next() % 256).unwrap();
            }
        }
        broken.lint();
    }
}

fn command(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_transcoder")).arg("lint").args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_line_says_it_by_its_exit_status() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().to_str().unwrap().to_owned();
    let (is_well, _, error) = command(&[&place]);
    assert!(!is_well && error.contains("there is no .m3u8"), "{error}");

    write(folder.path(), &Asset::clean().written());
    let (is_well, text, error) = command(&[&place]);
    assert!(is_well && error.is_empty(), "{text}{error}");
    assert_eq!(text, "7 playlists, 18 segments looked into, 0 not: 0 MUST, 0 SHOULD\n");
    let (is_well, _, _) = command(&[&format!("{place}/low/index.m3u8")]);
    assert!(is_well, "a media playlist alone");

    // A SHOULD is no failure, and a MUST is.
    let mut asset = Asset::clean();
    asset.i_frames.truncate(1);
    write(folder.path(), &asset.written());
    let (is_well, text, _) = command(&[&place]);
    assert!(is_well && text.starts_with("SHOULD 6.6  index.m3u8:10: "), "{text}");
    asset.i_frames.clear();
    write(folder.path(), &asset.written());
    let (is_well, text, _) = command(&[&place, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (json["findings"][0]["rule"].as_str(), json["findings"][0]["severity"].as_str()),
        (Some("6.1"), Some("MUST"))
    );
    assert!(!is_well && json["looked_at"]["segments"] == 12);

    let (is_well, text, _) = command(&["--rules"]);
    assert!(is_well && text.lines().count() == rules::ALL.len());
    let (is_well, _, error) = command(&["/nowhere/x.m3u8?Signature=c2lnbmVk"]);
    assert!(!is_well && !error.contains("c2lnbmVk"), "{error}");
}

#[test]
fn what_is_no_playlist_is_one_finding_and_nothing_of_it_is_told() {
    let folder = TempDir::new().unwrap();
    let secret = "root:$y$j9T$secret:19000:0\n#EXT-X-STREAM-INF:hidden\nhttp://127.0.0.1:9/hidden\n";
    let multivariant = |link: &str| format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{link}\n");
    let media = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n../other/passwd\n#EXT-X-ENDLIST\n";
    let files = [
        ("a/index.m3u8", multivariant("shadow")),
        ("a/shadow", secret.to_owned()),
        ("a/alone.m3u8", secret.to_owned()),
        ("a/out.m3u8", multivariant("../other/passwd")),
        ("a/media.m3u8", media.to_owned()),
        ("a/far.m3u8", media.replace("../other", "../../other")),
        ("other/passwd", secret.to_owned()),
    ];
    write(folder.path(), &files.map(|(name, text)| (name.to_owned(), text.into_bytes())).into());
    let lint = |name: &str| {
        let (is_well, text, error) = command(&[folder.path().join(name).to_str().unwrap()]);
        for part in ["secret", "root", "hidden", "19000"] {
            assert!(!text.contains(part) && !error.contains(part), "{name}: {text}{error}");
        }
        (is_well, text)
    };
    for name in ["a", "a/alone.m3u8"] {
        let (is_well, text) = lint(name);
        assert!(!is_well && text.matches("RFC 8216 4.3.1.1").count() == 1, "{text}");
    }
    assert_eq!(lint("a/alone.m3u8").1.lines().count(), 2);
    let astray = "1 file or playlist was not looked into: they are outside of the folder";
    assert!(lint("a/out.m3u8").1.contains(astray));
    assert!(lint("a/far.m3u8").1.contains(astray));
    // It is one folder up, where a media playlist may lead, and is no segment.
    assert!(lint("a/media.m3u8").1.contains("RFC 8216 3 "));
}

#[test]
fn a_redirect_does_not_leave_the_network() {
    let at = serve(|request| match request.path() {
        "index.m3u8" => {
            let body = b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n".to_vec();
            Answer { status: 200, headers: Vec::new(), body }
        }
        _ => Answer {
            status: 302,
            headers: vec![("Location", "http://169.254.169.254/latest/meta-data".to_owned())],
            body: Vec::new(),
        },
    });
    let report = fetched(&format!("{at}/index.m3u8"));
    assert_eq!(report.looked_at.skipped, 1);
    assert!(report.notes.iter().any(|note| note.contains("outside")), "{report}");
}
