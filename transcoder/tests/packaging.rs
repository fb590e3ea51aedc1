//! What was packaged, as others see it: another packager, other parsers, openssl, an older and a newer ffmpeg.

mod harness;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Published, Studio, decoded, durations, printed, tool};
use transcoder::plan::{Container, Options};

/// Ten seconds of two rungs, at 29.97 frames a second.
const TALK: &str = "-f lavfi -i testsrc2=s=640x360:r=30000/1001:d=10 -f lavfi -i sine=440:r=44100:d=10 \
                    -c:v libx264 -c:a aac";

async fn talk(studio: &Studio, options: &Options) -> Published {
    let clip = studio.path("talk.mp4");
    let clip = if clip.exists() { clip } else { studio.clip("talk.mp4", TALK) };
    studio.publish_as(&clip, options).await.unwrap()
}

/// The initialisation section of a playlist and some bytes, as one file.
fn joined(studio: &Studio, playlist: &Path, bytes: &[u8]) -> PathBuf {
    let init = fs::read(playlist.with_file_name("init.mp4")).unwrap_or_default();
    let path = studio.path("joined.mp4");
    fs::write(&path, [&init, bytes].concat()).unwrap();
    path
}

/// All segments of a playlist, as one file.
fn whole(studio: &Studio, playlist: &Path) -> PathBuf {
    let segments = names(playlist).into_iter().map(|name| fs::read(playlist.with_file_name(name)).unwrap());
    joined(studio, playlist, &segments.collect::<Vec<_>>().concat())
}

fn names(playlist: &Path) -> Vec<String> {
    let text = fs::read_to_string(playlist).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

/// The bytes that each entry of a playlist of key frames names. In a transport stream they follow the tables, which
/// are the first two packets of the object (RFC 8216 §4.3.3.6).
fn key_frames(playlist: &Path) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(playlist).unwrap();
    let mut range = None;
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("#EXT-X-BYTERANGE:") {
            let (length, offset) = value.split_once('@').unwrap();
            range = Some((length.parse::<usize>().unwrap(), offset.parse::<usize>().unwrap()));
        } else if !line.starts_with('#') {
            let bytes = fs::read(playlist.with_file_name(line)).unwrap();
            let (length, offset) = range.take().unwrap_or((bytes.len(), 0));
            let is_stream = Path::new(line).extension() == Some("ts".as_ref());
            let tables = if is_stream && offset > 0 { &bytes[..2 * 188] } else { &[] };
            found.push([tables, &bytes[offset..offset + length]].concat());
        }
    }
    found
}

#[tokio::test]
async fn a_key_frame_is_fetched_alone_and_is_that_picture() {
    let studio = Studio::new();
    for container in [Container::Fmp4, Container::Ts] {
        let published = talk(&studio, &Options { container, ..Options::default() }).await;
        for rendition in published.pictures() {
            let playlist = published.playlist(&rendition);
            let all = decoded(&whole(&studio, &playlist));
            assert_eq!(all.len(), 300, "{rendition}");
            let frames = key_frames(&playlist.with_file_name("iframes.m3u8"));
            // Every 60 frames: 0, 2.002, 4.004, 6.006, 8.008 s.
            assert_eq!(frames.len(), 5, "{rendition}");
            for (i, bytes) in frames.iter().enumerate() {
                let alone = decoded(&joined(&studio, &playlist, bytes));
                assert_eq!(alone, [all[i * 60].clone()], "{container:?} {rendition} {i}");
            }
        }
    }
}

#[tokio::test]
async fn another_packager_reads_it_and_cuts_it_alike() {
    let studio = Studio::new();
    let published = talk(&studio, &Options::default()).await;
    let rendition = &published.pictures()[0];
    let playlist = published.playlist(rendition);
    let whole = whole(&studio, &playlist);
    let theirs = studio.path("theirs");
    fs::create_dir(&theirs).unwrap();
    let stream = format!(
        "in={},stream=video,init_segment=init.mp4,segment_template=$Number$.m4s,playlist_name=v.m3u8,\
         iframe_playlist_name=iframes.m3u8",
        whole.display()
    );
    printed(tool("shaka-packager").current_dir(&theirs).args([
        &stream,
        "--segment_duration=6.006",
        "--fragment_duration=2.002",
        "--hls_master_playlist_output=index.m3u8",
        "--quiet",
    ]));
    let near = |ours: Vec<f64>, theirs: Vec<f64>| {
        ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(|(ours, theirs)| (ours - theirs).abs() < 0.001)
    };
    let found = durations(&theirs.join("v.m3u8"));
    assert!(near(durations(&playlist), found.clone()), "{found:?}");

    let (ours, found) = (playlist.with_file_name("iframes.m3u8"), theirs.join("iframes.m3u8"));
    let lengths = durations(&found);
    assert!(near(durations(&ours), lengths.clone()), "{lengths:?}");
    // Their fragments have other boxes before it, but the picture is the same bytes.
    for (ours, theirs) in key_frames(&ours).iter().zip(key_frames(&found)) {
        let picture = ours.windows(4).position(|window| window == b"mdat").unwrap() + 4;
        assert!(theirs.ends_with(&ours[picture..]));
    }
}

#[tokio::test]
async fn openssl_decrypts_what_players_decrypt() {
    let studio = Studio::new();
    for container in [Container::Fmp4, Container::Ts] {
        let key_every = std::num::NonZeroU32::new(1);
        let published =
            talk(&studio, &Options { container, encrypt: true, key_every, ..Options::default() }).await;
        for rendition in published.renditions() {
            let playlist = published.playlist(&rendition);
            let keys = ["../keys/00001.key", "../keys/00002.key"];
            assert_eq!(uris_of_keys(&playlist), keys, "{rendition}");
            let segments = names(&playlist).into_iter().enumerate();
            let clear = segments.map(|(number, name)| decrypt(&playlist, &name, keys[number], number));
            let clear = joined(&studio, &playlist, &clear.collect::<Vec<_>>().concat());
            let all = decoded(&clear);
            // ffmpeg decrypts by itself here.
            assert!(all == decoded(&playlist), "{container:?} {rendition}");
            if !published.pictures().contains(&rendition) {
                continue;
            }
            // Key frames count by themselves, and have the keys of the segments that they are in.
            let key_frames = playlist.with_file_name("iframes.m3u8");
            assert_eq!(uris_of_keys(&key_frames), keys);
            for (number, name) in names(&key_frames).iter().enumerate() {
                let alone = decrypt(&key_frames, name, keys[number / 3], number);
                assert_eq!(decoded(&joined(&studio, &key_frames, &alone)), [all[number * 60].clone()]);
            }
            assert_eq!(decoded(&key_frames).len(), 5);
        }
    }
}

fn uris_of_keys(playlist: &Path) -> Vec<String> {
    let text = fs::read_to_string(playlist).unwrap();
    let keys = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-KEY:METHOD=AES-128,URI=\""));
    keys.map(|rest| rest.trim_end_matches('"').to_owned()).collect()
}

fn decrypt(playlist: &Path, name: &str, key: &str, sequence: usize) -> Vec<u8> {
    let key = fs::read(playlist.parent().unwrap().join(key)).unwrap();
    let key = u128::from_be_bytes(key.try_into().unwrap());
    let output = Command::new("openssl")
        .args([
            "enc",
            "-d",
            "-aes-128-cbc",
            "-K",
            &format!("{key:032x}"),
            "-iv",
            &format!("{sequence:032x}"),
            "-in",
        ])
        .arg(playlist.with_file_name(name))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

#[tokio::test]
async fn every_object_is_as_the_list_says() {
    let studio = Studio::new();
    let published = talk(&studio, &Options::default()).await;
    let check = |list: &str| {
        let mut command = Command::new("sha256sum");
        let output = command
            .current_dir(&published.generation)
            .args(["--check", "--strict", "--quiet", list])
            .output();
        output.unwrap().status.success()
    };
    assert!(check("sha256sums.txt"));
    let listed = fs::read_to_string(published.generation.join("sha256sums.txt")).unwrap().lines().count();
    // All but the list itself, and what is kept to go back to.
    assert_eq!(listed, harness::files(&published.generation).len() - 3);

    let description: serde_json::Value =
        serde_json::from_slice(&fs::read(published.asset.join("asset.json")).unwrap()).unwrap();
    let objects = &description["objects"];
    assert_eq!(objects["count"], listed);
    let sum =
        |path: &Path| printed(Command::new("sha256sum").arg(path)).split(' ').next().unwrap().to_owned();
    assert_eq!(objects["list_sha256"], sum(&published.generation.join("sha256sums.txt")));
    assert_eq!(objects["playlist_sha256"], sum(&published.asset.join("index.m3u8")));
}

#[tokio::test]
async fn a_newer_ffprobe_has_nothing_to_say() {
    let studio = Studio::new();
    for container in [Container::Fmp4, Container::Ts] {
        let published = talk(&studio, &Options { container, ..Options::default() }).await;
        for playlist in
            ["index.m3u8".to_owned()].into_iter().chain(published.renditions().iter().map(|name| {
                format!("{}/{name}/index.m3u8", published.generation.file_name().unwrap().to_string_lossy())
            }))
        {
            let path = published.asset.join(&playlist);
            let mut command = tool("ffprobe-newer");
            let output =
                command.args(["-v", "warning", "-show_packets", "-of", "csv"]).arg(&path).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{container:?} {playlist}");
            assert!(output.status.success() && !output.stdout.is_empty());
        }
    }
}

#[tokio::test]
async fn another_parser_finds_what_there_is() {
    let studio = Studio::new();
    let published = talk(&studio, &Options::default()).await;
    let script = "import m3u8, sys\np = m3u8.load(sys.argv[1])\n\
                  print(len(p.playlists), len(p.iframe_playlists), len(p.image_playlists), len(p.media))\n\
                  for x in p.playlists + p.iframe_playlists:\n    m = m3u8.load(x.absolute_uri)\n    \
                  print(len(m.segments), m.is_i_frames_only, m.playlist_type, m.target_duration)\n    \
                  assert len(m.dumps()) > 0\n";
    let text = printed(tool("python").args(["-c", script]).arg(published.asset.join("index.m3u8")));
    let pictures = published.pictures().len();
    let mut expected = vec![format!("{pictures} {pictures} 1 {}", published.renditions().len() - pictures)];
    expected.extend((0..pictures).map(|_| "2 False vod 6".to_owned()));
    expected.extend((0..pictures).map(|_| "5 True vod 2".to_owned()));
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn vmaf_says_how_near_a_rung_comes_to_its_source() {
    let studio = Studio::new();
    let measured_by =
        |name: &str| Options { vmaf: Some(tool(name).get_program().into()), ..Options::default() };
    let published = talk(&studio, &measured_by("ffmpeg-vmaf")).await;
    let asset = fs::read(published.asset.join("asset.json")).unwrap();
    let asset: transcoder::asset::Asset = serde_json::from_slice(&asset).unwrap();
    let scores: Vec<f64> = asset.renditions.iter().filter_map(|rendition| rendition.vmaf).collect();
    assert_eq!(scores.len(), published.pictures().len());
    // Best first: one of the source's own size is hardly told from it, and one of a fifth of its pixels is.
    assert!(
        scores[0] > 90.0 && scores.is_sorted_by(|one, next| one > next) && scores[2] < 85.0,
        "{scores:?}"
    );

    let clip = studio.path("talk.mp4");
    let error = studio.publish_as(&clip, &measured_by("ffmpeg-newer")).await.err().unwrap();
    assert!(error.to_string().contains("has no libvmaf: name an ffmpeg that has"), "{error}");
}
