use std::fmt::Write;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

const LESSON: &str = "1\n00:00:02,000 --> 00:00:03,000\nHello <i>world</i>\n\n\
    2\n00:00:05,000 --> 00:00:07,500\n{\\an8}Across\n<font color=\"#ff0000\">the</font> boundary\n\n\
    3\n00:00:08,250 --> 00:00:09,750\nLast\n";

fn cue(start: u64, end: u64, text: &str) -> Cue {
    Cue { start, end, text: text.into(), ..Cue::default() }
}

/// What is shown and when, a cue a line.
fn shown(cues: &Cues) -> Vec<String> {
    cues.cues.iter().map(|cue| format!("{} {} {}", cue.start, cue.end, cue.text.replace('\n', "|"))).collect()
}

fn vtt(body: &str) -> Cues {
    Cues::parse_vtt(&format!("WEBVTT\n\n{body}")).unwrap()
}

fn srt(text: &str) -> Vec<String> {
    shown(&Cues::parse_srt(text).unwrap())
}

fn seconds(ends: &[u64]) -> Vec<Duration> {
    ends.iter().map(|&end| Duration::from_secs(end)).collect()
}

/// Runs the tool of that name in a folder, and returns what it writes.
fn run(folder: &Path, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).current_dir(folder).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn comments_and_styles_of_the_specification_are_told_from_cues() {
    // https://www.w3.org/TR/webvtt1/#introduction-comments, and #styling.
    let comments = vtt(
        "00:01.000 --> 00:04.000\nNever drink liquid nitrogen.\n\nNOTE I’m not sure the timing is right\n\n\
         00:05.000 --> 00:09.000\n— It will perforate your stomach.\n— You could die.\n\nNOTE end of file\n",
    );
    let expected = [
        "1000 4000 Never drink liquid nitrogen.",
        "5000 9000 — It will perforate your stomach.|— You could die.",
    ];
    assert_eq!(shown(&comments), expected);

    let styled = vtt(
        "STYLE\n::cue {\n  color: papayawhip;\n}\n/* no blank lines */\n\nNOTE between style blocks.\n\n\
         STYLE\n::cue(b) {\n  color: peachpuff;\n}\n\nREGION\nid:fred\nwidth:40%\n\n\
         hello\n00:00:00.000 --> 00:00:10.000\nHello <b>world</b>.\n\n\
         NOTE style blocks cannot appear after the first cue.\n\nSTYLE\n::cue { color: red }\n",
    );
    let header = [
        "STYLE\n::cue {\n  color: papayawhip;\n}\n/* no blank lines */",
        "STYLE\n::cue(b) {\n  color: peachpuff;\n}",
        "REGION\nid:fred\nwidth:40%",
    ];
    assert_eq!(styled.header, header);
    let hello = Cue { id: Some("hello".into()), ..cue(0, 10_000, "Hello <b>world</b>.") };
    assert_eq!((styled.cues, styled.dropped), (vec![hello], 0));
}

#[test]
fn times_are_those_that_browsers_read() {
    let time = |time: &str| {
        let cues = Cues::parse_vtt(&format!("WEBVTT\n\n{time} --> 9999:00:00.000\nx"));
        cues.ok().map(|cues| cues.cues[0].start)
    };
    assert_eq!(time("00:01.002"), Some(1_002));
    assert_eq!(time("01:02:03.004"), Some(3_723_004));
    assert_eq!(time("1:02:03.004"), Some(3_723_004));
    assert_eq!(time("100:00:00.000"), Some(360_000_000));
    for bad in [
        "1:02.003",
        "60:00.000",
        "00:60.000",
        "00:60:00.000",
        "00:01,000",
        "00:01.00",
        "00:01.0000",
        "01.000",
    ] {
        assert_eq!(time(bad), None, "{bad}");
    }
    assert_eq!(time("99999999999999999999:00:00.000"), None);
    assert_eq!(time("9999999999999999999:00:00.000"), None);
    assert_eq!(shown(&vtt("\t00:01.000-->00:02.000\nx")), ["1000 2000 x"]);
}

#[test]
fn a_cue_that_browsers_leave_out_is_left_out_and_counted() {
    let cues = vtt("00:01.000 --> 00:02.000 region:fred line:0 align: :x junk align:start\none\n\n\
         00:03.000 -> 00:04.000\nno arrow\n\n\
         00:03,000 --> 00:04,000\nSubRip's times\n\n\
         00:05.000 --> 00:05.000\nno time\n\n\
         00:06.000 --> 00:05.000\nbackwards\n\n\
         00:07.000 --> 00:08.000\n\n\
         00:09.000 --> 00:10.000\nbefore\n00:10.000 --> 00:11.000\na --> b\nlost\n");
    assert_eq!(shown(&cues), ["1000 2000 one", "9000 10000 before"]);
    assert_eq!(cues.cues[0].settings, "region:fred line:0 align:start");
    // Without a text come two: the one that says so, and the one whose first line is taken for the next cue's times.
    assert_eq!(cues.dropped, 6);
}

#[test]
fn lines_end_in_any_way_and_nul_is_replaced() {
    for end in ["\n", "\r\n", "\r"] {
        let text =
            ["WEBVTT a title", "Kind: captions", "", "1", "00:01.000 --> 00:02.000", "a\0", "b", "", ""]
                .join(end);
        assert_eq!(shown(&Cues::parse(&text).unwrap()), ["1000 2000 a\u{fffd}|b"]);
    }
    assert_eq!(shown(&Cues::parse("\u{feff}WEBVTT\n00:01.000 --> 00:02.000\nx").unwrap()), ["1000 2000 x"]);
}

#[test]
fn identifiers_that_are_not_unique_are_not_kept() {
    let cues = vtt(
        "1\n00:03.000 --> 00:04.000\nc\n\ntitle\n00:01.000 --> 00:02.000\na\n\n1\n00:02.000 --> 00:03.000\nb\n",
    );
    let ids: Vec<_> = cues.cues.iter().map(|cue| (cue.id.as_deref(), cue.text.as_str())).collect();
    assert_eq!(ids, [(Some("title"), "a"), (None, "b"), (None, "c")]);
}

#[test]
fn subrip_is_read_however_it_was_written() {
    let well = ["1000 2000 a|b", "3000 4500 c"];
    assert_eq!(srt("1\n00:00:01,000 --> 00:00:02,000\na\nb\n\n2\n00:00:03,000 --> 00:00:04,500\nc\n"), well);
    // No numbers; points; no hours; positions; more empty lines than there should be, and fewer.
    assert_eq!(
        srt("00:01.000 --> 00:02.000 X1:40 X2:600 Y1:20 Y2:50\na\nb\n\n00:03.000-->0:00:04.500\nc"),
        well
    );
    assert_eq!(
        srt("\n\n1\n00:00:01,000 --> 00:00:02,000\n\na\n\nb\n2\n00:00:03,000 --> 00:00:04,500\nc"),
        well
    );
    assert_eq!(srt("1\r00:00:01,000 --> 00:00:02,000\ra\rb\r\r2\r00:00:03,000 --> 00:00:04,500\rc"), well);
    // A number that is text, and an order that is none.
    assert_eq!(
        srt("2\n00:00:03,000 --> 00:00:04,000\n42\n\n1\n00:00:01,000 --> 00:00:02,000\n7"),
        ["1000 2000 7", "3000 4000 42"]
    );
    let one_lost =
        Cues::parse_srt("1\n00:00:0x,000 --> 00:00:02,000\na\n\n2\n00:00:03,000 --> 00:00:04,000\nb")
            .unwrap();
    assert_eq!((shown(&one_lost), one_lost.dropped), (vec!["3000 4000 b".to_owned()], 1));
    // What ffmpeg writes for cues from before the picture begins.
    let early = "1\n00:00:-4,-500 --> 00:00:-3,000\na\n\n2\n00:00:-1,000 --> 00:00:01,000\nb\n";
    assert_eq!(srt(early), ["0 1000 b"]);
}

#[test]
fn text_of_subrip_shows_as_the_same_in_webvtt() {
    let text = |text: &str| {
        let cues = Cues::parse_srt(&format!("1\n00:00:01,000 --> 00:00:02,000\n{text}\n")).unwrap();
        let Cue { text, settings, .. } = cues.cues.into_iter().next().unwrap();
        if settings.is_empty() { text } else { format!("[{settings}] {text}") }
    };
    assert_eq!(text("<i>a</i> <B>b</B > <u>c</u>"), "<i>a</i> <b>b</b> <u>c</u>");
    assert_eq!(text("<font color=\"red\" size=3>a</font><s>b</s><br/>c"), "ab\nc");
    assert_eq!(text("I <3 you & <me>, 2 > 1 &amp;"), "I &lt;3 you &amp; &lt;me&gt;, 2 &gt; 1 &amp;amp;");
    assert_eq!(text("a --> b"), "a --&gt; b");
    assert_eq!(text("<i\na>"), "&lt;i\na&gt;");
    assert_eq!(text("<b or not>"), "&lt;b or not&gt;");
    assert_eq!(text("{\\an8}a{\\i1}b{c}"), "[line:0] ab{c}");
    assert_eq!(text("{\\b1\\an9}a{\\an1}"), "[line:0 align:right] a");
    assert_eq!(text("{\\an2}{\\an8"), "{\\an8");
    assert_eq!(text("<"), "&lt;");
}

#[test]
fn subrip_is_what_ffmpeg_takes_it_for() {
    let folder = tempfile::tempdir().unwrap();
    let odd = "\u{feff}7\n01:02:03,5 --> 01:02:04,999\none\ntwo\n\n\n00:00:01.250 --> 00:00:02.000\nthree\n\n\
               3\n00:00:70,000 --> 00:02:00,000 X1:1\n<b>four</b>\n4\n00:03:00,000 --> 00:03:01,000\nfive";
    for text in [LESSON, odd] {
        fs::write(folder.path().join("a.srt"), text).unwrap();
        let theirs = Cues::parse_vtt(&run(folder.path(), "ffmpeg -v error -i a.srt -f webvtt -")).unwrap();
        assert_eq!(srt(text), shown(&theirs));
    }
}

#[test]
fn what_is_no_captions_file_is_told_from_an_empty_one() {
    let line = |line, found: &str| Err(Invalid::NotCaptions { line, found: found.into() });
    assert_eq!(Cues::parse("\n\nDear Sir,\nI"), line(3, "Dear Sir,"));
    assert_eq!(Cues::parse("WEBVTTX\n"), line(1, "WEBVTTX"));
    assert_eq!(Cues::parse_vtt("1\n00:00:01,000 --> 00:00:02,000\na"), line(1, "1"));
    assert_eq!(Cues::parse("1\n00:00:aa --> 00:00:02\na"), line(2, "00:00:aa --> 00:00:02"));
    assert_eq!(Cues::parse("\u{7f}ELF\u{1}\u{1}"), line(1, "\u{fffd}ELF\u{fffd}\u{fffd}"));
    for empty in ["", "\n \r\n", "WEBVTT", "WEBVTT\n\nNOTE nothing\nhere\n"] {
        assert_eq!(Cues::parse(empty), Err(Invalid::Empty { dropped: 0 }), "{empty:?}");
    }
    assert_eq!(Cues::parse("1\n00:00:02,000 --> 00:00:01,000\na"), Err(Invalid::Empty { dropped: 1 }));
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = |name: &str| {
        let error = Cues::read(&folder.path().join(name)).unwrap_err();
        (error.to_string().replace(folder.path().to_str().unwrap(), ""), error.is_empty())
    };
    fs::write(folder.path().join("letter.srt"), "Dear Sir,").unwrap();
    let (letter, empty) = said("letter.srt");
    assert!(
        letter.starts_with("the captions /letter.srt are of no use: line 1 is \"Dear Sir,\""),
        "{letter}"
    );
    assert!(!empty);
    fs::write(folder.path().join("none.vtt"), "WEBVTT\n").unwrap();
    assert!(said("none.vtt").1);
    fs::write(folder.path().join("commas.vtt"), "WEBVTT\n\n00:00:01,000 --> 00:00:02,000\na\n").unwrap();
    assert!(said("commas.vtt").0.contains("no cue in it that can be shown, and 1 that cannot"));
    assert!(!said("commas.vtt").1);
    fs::File::create(folder.path().join("film.srt")).unwrap().set_len(LARGEST + 1).unwrap();
    assert!(said("film.srt").0.contains("16777217 bytes"));
    assert!(said("").0.contains("not a file"));
    assert!(said("gone.srt").0.starts_with("cannot read the captions /gone.srt"));
    fs::write(folder.path().join("a.srt"), b"1\n00:00:01,000 --> 00:00:02,000\nna\xefve").unwrap();
    assert_eq!(shown(&Cues::read(&folder.path().join("a.srt")).unwrap()), ["1000 2000 naïve"]);
}

#[test]
fn a_cue_is_in_every_segment_that_it_is_seen_in() {
    let cues = Cues {
        header: vec!["STYLE\n::cue { color: red }".into()],
        cues: vec![
            Cue { id: Some("a".into()), settings: "line:0".into(), ..cue(0, 6_000, "one") },
            cue(5_999, 18_000, "two\nlines"),
            cue(17_000, 3_600_000, "to the end and on"),
            cue(24_000, 25_000, "never"),
        ],
        dropped: 0,
    };
    let made = segments(&cues, &seconds(&[6, 12, 18, 24]), 0).unwrap();
    assert_eq!(made.beyond, 1);
    let header = "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\nSTYLE\n::cue { color: red }\n\n";
    let two = "00:00:05.999 --> 00:00:18.000\ntwo\nlines\n\n";
    let three = "00:00:17.000 --> 01:00:00.000\nto the end and on\n\n";
    let expected = [
        format!("{header}a\n00:00:00.000 --> 00:00:06.000 line:0\none\n\n{two}"),
        format!("{header}{two}"),
        format!("{header}{two}{three}"),
        format!("{header}{three}"),
    ];
    assert_eq!(made.segments, expected);
}

#[test]
fn silence_is_a_segment_without_cues() {
    let made = segments(
        &Cues { cues: vec![cue(7_000, 8_000, "x")], ..Cues::default() },
        &seconds(&[6, 12]),
        126_000,
    );
    assert_eq!(made.unwrap().segments[0], "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:126000,LOCAL:00:00:00.000\n\n");
    let none = segments(&Cues { cues: vec![cue(0, 1, "x")], ..Cues::default() }, &[], 0).unwrap();
    assert_eq!(none, Segmented { segments: Vec::new(), beyond: 1 });
}

#[test]
fn segments_read_as_the_cues_they_were_made_of() {
    let body = "STYLE\n::cue(b) { color: red }\n\nx\n00:01.000 --> 00:13.500 line:0\n<v Bob>a &amp; <b>b</b>\n\n\
                00:02.000 --> 00:03.000\nc\nd\n\n00:12.000 --> 00:14.000\ne\n";
    let cues = vtt(body);
    let mut again = Vec::new();
    for segment in segments(&cues, &seconds(&[6, 12, 18]), 0).unwrap().segments {
        let read = Cues::parse_vtt(&segment).unwrap();
        assert_eq!(read.header, cues.header);
        again.extend(read.cues);
    }
    again.sort_by_key(|cue| cue.start);
    again.dedup();
    assert_eq!(again, cues.cues);
}

#[test]
fn ffmpeg_reads_the_cues_of_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    run(
        folder.path(),
        "ffmpeg -v error -f lavfi -i testsrc=s=64x64:r=25:d=12 -c:v libx264 -bf 0 -g 60 -f hls \
         -hls_time 6 -hls_playlist_type vod -hls_segment_type fmp4 picture.m3u8",
    );
    let cues = Cues::parse(LESSON).unwrap();
    for (i, segment) in segments(&cues, &seconds(&[6, 12]), 0).unwrap().segments.iter().enumerate() {
        fs::write(folder.path().join(format!("{i}.vtt")), segment).unwrap();
    }
    let playlist = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:6\n#EXT-X-PLAYLIST-TYPE:VOD\n\
                    #EXTINF:6,\n0.vtt\n#EXTINF:6,\n1.vtt\n#EXT-X-ENDLIST\n";
    fs::write(folder.path().join("captions.m3u8"), playlist).unwrap();
    let multivariant = "#EXTM3U\n#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"captions\",NAME=\"English\",LANGUAGE=\"en\",\
                        AUTOSELECT=YES,URI=\"captions.m3u8\"\n\
                        #EXT-X-STREAM-INF:BANDWIDTH=100000,SUBTITLES=\"captions\"\npicture.m3u8\n";
    fs::write(folder.path().join("index.m3u8"), multivariant).unwrap();
    // Before 8, ffmpeg calls captions of a stream experimental. From 8 on, it leaves out those from before where it
    // had to read the picture to, to know it; here, the first second.
    let read = run(
        folder.path(),
        "ffmpeg -v error -copyts -strict experimental -i index.m3u8 -map 0:s:0 -c:s copy -f webvtt -",
    );
    let mut read = Cues::parse_vtt(&read).unwrap().cues;
    // From 8 on, it passes on from both segments what stands in both.
    read.dedup();
    assert_eq!(read, cues.cues);
}

#[test]
fn captions_in_a_container_come_out_as_they_went_in() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.srt"), LESSON).unwrap();
    // A timeline that begins at 5 s, as that of a cut or a recording does.
    run(
        at,
        "ffmpeg -v error -f lavfi -i testsrc=s=64x64:r=10:d=10 -i a.srt -map 0 -map 1 -map 1 -c:v libx264 -bf 0 \
         -c:s:0 subrip -c:s:1 ass -output_ts_offset 5 a.mkv",
    );
    run(
        at,
        "ffmpeg -v error -f lavfi -i testsrc=s=64x64:r=10:d=10 -i a.srt -map 0 -map 1 -c:v libx264 -bf 0 \
         -c:s mov_text -output_ts_offset 5 a.mp4",
    );
    for (input, stream, codec) in [("a.mkv", 1, "subrip"), ("a.mkv", 2, "ass"), ("a.mp4", 1, "mov_text")] {
        let probed = format!(
            "ffprobe -v error -select_streams {stream} -show_entries stream=codec_name -of csv=p=0 {input}"
        );
        assert_eq!(run(at, &probed).trim(), codec);
        let options = extraction(codec).unwrap().options(stream);
        run(at, &format!("ffmpeg -v error -y -i {input} {options} out"));
        let out = Cues::read(&at.join("out")).unwrap();
        assert_eq!(shown(&out), srt(LESSON), "{codec}");
        // 3GPP's timed text, as ffmpeg makes it, has no place for where a line stands.
        assert_eq!(out.cues[1].settings, if codec == "mov_text" { "" } else { "line:0" });
    }
}

#[test]
fn captions_from_before_the_picture_begins_move_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("a.srt"), LESSON).unwrap();
    run(
        at,
        "ffmpeg -v error -itsoffset 6 -f lavfi -i testsrc=s=64x64:r=10:d=10 -i a.srt -map 0 -map 1 -c:v libx264 \
         -bf 0 -c:s subrip a.mkv",
    );
    run(at, &format!("ffmpeg -v error -i a.mkv {} out", extraction("subrip").unwrap().options(1)));
    let out = Cues::read(&at.join("out")).unwrap();
    assert_eq!(shown(&out), ["0 1500 Across|the boundary", "2250 3750 Last"]);
    assert_eq!(out.dropped, 1);
}

#[test]
fn webvtt_in_a_container_keeps_all_that_a_cue_has() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let text = "WEBVTT\n\nx\n00:01.000 --> 00:03.000 line:0 align:start\n<v Bob>Hi &amp; <c.loud>bye</c>\n";
    fs::write(at.join("a.vtt"), text).unwrap();
    run(at, "ffmpeg -v error -i a.vtt -c copy a.mkv");
    run(at, &format!("ffmpeg -v error -i a.mkv {} out", extraction("webvtt").unwrap().options(0)));
    assert_eq!(Cues::read(&at.join("out")).unwrap(), Cues::parse(text).unwrap());
}

#[test]
fn pictures_are_no_text() {
    for codec in ["mov_text", "subrip", "webvtt", "ass", "ssa", "text"] {
        assert!(is_text(codec), "{codec}");
    }
    for codec in
        ["hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub", "eia_608", "dvb_teletext", "h264"]
    {
        assert!(!is_text(codec), "{codec}");
    }
}

#[test]
fn what_would_swell_beyond_measure_is_refused_before_it_does() {
    let begun = Instant::now();
    // About as many as fit, which all last to the end of ten hours; and then each for a moment.
    let many: String = (0..400_000).fold(String::new(), |mut text, i| {
        let at = i / 4;
        write!(text, "{:02}:{:02}.{:03} --> 10:00:00.000\nx\n\n", at / 600 % 60, at / 10 % 60, i % 1000)
            .unwrap();
        text
    });
    let all = vtt(&many);
    assert_eq!(all.cues.len(), 400_000);
    let ends: Vec<_> = (1..=6_000).map(|i| Duration::from_secs(6 * i)).collect();
    assert_eq!(segments(&all, &ends, 0), Err(TooLong));
    let mut short = all;
    for cue in &mut short.cues {
        cue.end = cue.start + 1;
    }
    assert_eq!(
        segments(&short, &ends, 0).unwrap().segments.iter().map(|s| s.matches("-->").count()).sum::<usize>(),
        400_000
    );
    // A header is in every segment too.
    let header = vec![format!("STYLE\n{}", "x".repeat(1 << 20))];
    assert_eq!(segments(&Cues { header, ..short }, &ends, 0), Err(TooLong));
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn no_text_is_too_odd_to_read() {
    let begun = Instant::now();
    let time = "00:00:01,000 --> 00:00:02,000\n";
    let odd = [
        "\0".repeat(1 << 20),
        "\r".repeat(1 << 20),
        "-->".repeat(1 << 20),
        "-->\n".repeat(1 << 18),
        "0:".repeat(1 << 20),
        format!("{time}{}", "<".repeat(1 << 20)),
        format!("{time}{}", "{\\".repeat(1 << 20)),
        format!("{time}{}", "<font ".repeat(1 << 18)),
        format!("{time}{}", "1\n".repeat(1 << 20)),
        format!("{time}é\u{2028}<é>{{\\é}}&é"),
        "00:00:01,é00 --> 00:00:02,00é\nx".to_owned(),
        format!("{0}:{0}:{0},{0} --> {0}:{0}:{0},{0}\nx", "9".repeat(100)),
        format!("{0}:00:00,000 --> {0}:00:00,000\nx", i64::MAX),
        format!("2562047788015:12:54,000 --> 2562047788015:12:55,807\nx\n{time}y"),
    ];
    for text in odd {
        let cut = |cues: Result<Cues, Invalid>| {
            if let Ok(cues) = cues {
                segments(&cues, &seconds(&[1, 2]), u64::MAX).unwrap();
            }
        };
        cut(Cues::parse_srt(&text));
        cut(Cues::parse_vtt(&format!("WEBVTT\n\n{text}")));
        cut(Cues::parse_vtt(&format!("WEBVTT\n{}", text.replace(',', "."))));
    }
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}
