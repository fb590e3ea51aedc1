//! Reads a file's packets, though without decoding them, to see what there is: when its tracks begin and end, how
//! large they are, and where its clock jumps. Many kinds of file do not say, or say wrong.

use std::collections::BTreeMap;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use super::{Jump, Reason, command};

/// Containers whose clock may start anew, by the names of ffmpeg's demuxers: those with `AVFMT_TS_DISCONT`. ffmpeg
/// goes on from where it was, and so does this.
const RESTARTING: [&str; 5] = ["mpegts", "mpeg", "ogg", "nut", "rm"];

/// Containers in which a time is a place in the film, not the reading of a clock: nothing there for a while is a pause.
const WITHOUT_CLOCK: [&str; 4] = ["matroska", "webm", "mov", "mp4"];

/// What ffmpeg takes for a jump of such a clock (`dts_delta_threshold`, in seconds); and, of any other, what is more
/// than a pause if picture and sound stop together and go on together.
const LONGEST_PAUSE: f64 = 10.0;

/// How far such a clock may go back without having jumped, as ffmpeg has it.
const SLACK: f64 = 0.1;

/// How far apart picture and sound may stop where a clock jumps.
const TOGETHER: f64 = 1.0;

/// How far any other clock may go back: what is wrongly interleaved is put right by whoever decodes it.
const LONGEST_RELAPSE: f64 = 1.0;

/// A clock that jumps more often is broken.
const MOST_JUMPS: usize = 64;

/// What there is of a track.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Track {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// In seconds of the file's clock, jumps taken out.
    pub(super) start: f64,
    pub(super) end: f64,
    last: f64,
    next: f64,
    /// When the last packet is shown, by the file's clock.
    clock: f64,
    /// When the last packet that says so is decoded.
    decoded: Option<f64>,
}

/// What there is in a file.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    pub(super) tracks: BTreeMap<u32, Track>,
    pub(super) jumps: Vec<Jump>,
    restarts: bool,
    has_clock: bool,
    /// What is to be added to times for the jumps so far.
    offset: f64,
    /// Up to where there is picture or sound.
    covered: Option<f64>,
    /// By the file's clock, when the last picture before the last jump ends, and when the first one after it begins.
    gap: (f64, f64),
    /// Whether there is picture and sound; of one alone, a pause cannot be told from a jump.
    has_both: bool,
    /// Tracks whose clock counts.
    timed: Vec<u32>,
    pictures: Vec<u32>,
}

/// Reads all of a file. `video` and `audio` are the numbers of its tracks.
pub(super) async fn scan(path: &Path, container: &str, video: &[u32], audio: &[u32]) -> Result<Scan, Reason> {
    let questions =
        ["-show_entries", "packet=stream_index,pts_time,dts_time,duration_time,size", "-of", "csv=p=0"];
    let mut child = command(path, &questions).spawn().map_err(Reason::of_start)?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut stderr = child.stderr.take().expect("stderr is piped");
    let complaints = tokio::spawn(async move {
        let mut text = Vec::new();
        stderr.read_to_end(&mut text).await.map(|_| text)
    });
    let mut scan = Scan::new(container, video, audio);
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await.map_err(|error| Reason::Report(error.to_string()))? {
        scan.read(&line)?;
    }
    scan.settle();
    let status = child.wait().await.map_err(Reason::of_start)?;
    if !status.success() {
        return Err(Reason::of_stderr(&complaints.await.ok().and_then(Result::ok).unwrap_or_default()));
    }
    Ok(scan)
}

impl Scan {
    fn new(container: &str, video: &[u32], audio: &[u32]) -> Self {
        let is_of = |names: &[&str]| container.split(',').any(|name| names.contains(&name));
        Self {
            restarts: is_of(&RESTARTING),
            has_clock: !is_of(&WITHOUT_CLOCK),
            has_both: !video.is_empty() && !audio.is_empty(),
            timed: [video, audio].concat(),
            pictures: video.to_vec(),
            ..Self::default()
        }
    }

    /// `0,1.400000,1.366667,0.033333,1234`: track, when shown, when decoded, how long, how large.
    fn read(&mut self, line: &str) -> Result<(), Reason> {
        let mut fields = line.split(',');
        let Some(stream) = fields.next().and_then(|field| field.parse().ok()) else { return Ok(()) };
        let mut numbers = fields.map(|field| field.parse::<f64>().ok().filter(|number| number.is_finite()));
        let mut next = || numbers.next().flatten();
        let (shown, decoded, length, size) = (next(), next(), next(), next());
        let track = self.tracks.entry(stream).or_default();
        track.packets += 1;
        track.bytes += size.map_or(0, whole);
        let said = decoded;
        let (Some(decoded), Some(shown)) = (decoded.or(shown), shown.or(decoded)) else { return Ok(()) };
        if self.timed.contains(&stream) {
            if self.restarts {
                self.follow(stream, decoded)?;
            } else {
                self.hold(stream, said)?;
                self.watch(stream, shown, length.unwrap_or(0.0))?;
            }
        }
        let said = said.map(|decoded| self.played(decoded));
        let clock = shown;
        let (decoded, shown) = (self.played(decoded), self.played(shown));
        let track = self.tracks.entry(stream).or_default();
        if track.packets == 1 {
            (track.start, track.end) = (shown, shown);
        }
        // Where packets do not say how long they are, one is as long as the one before.
        let length = length.filter(|length| *length > 0.0).unwrap_or(match track.packets {
            1 => 0.0,
            _ => (decoded - track.last).clamp(0.0, 1.0),
        });
        track.start = track.start.min(shown);
        track.end = track.end.max(shown + length);
        (track.last, track.next) = (decoded, decoded + length);
        (track.clock, track.decoded) = (clock, said.or(track.decoded));
        if self.timed.contains(&stream) {
            let end = shown + length;
            self.covered = Some(self.covered.map_or(end, |covered| covered.max(end)));
        }
        Ok(())
    }

    /// When something is played that is at this time of the file's clock.
    fn played(&self, clock: f64) -> f64 {
        if self.restarts {
            return clock + self.offset;
        }
        clock - self.jumps.iter().filter(|jump| clock > jump.clock).map(|jump| jump.by).sum::<f64>()
    }

    /// Sees whether a clock that may start anew does so with this packet, as ffmpeg does.
    fn follow(&mut self, stream: u32, decoded: f64) -> Result<(), Reason> {
        let Some(track) = self.tracks.get(&stream).filter(|track| track.packets > 1) else {
            return Ok(());
        };
        let now = self.played(decoded);
        let by = now - track.next;
        if by.abs() > LONGEST_PAUSE || now + SLACK < track.last {
            self.add(Jump { at: now - by, by, clock: decoded - by / 2.0 })?;
            self.offset -= by;
        }
        Ok(())
    }

    /// Sees whether any other clock turns back. Where the first packets do not say when they are decoded, as in
    /// Matroska, when they are shown tells nothing of it.
    fn hold(&self, stream: u32, decoded: Option<f64>) -> Result<(), Reason> {
        let last = self.tracks.get(&stream).and_then(|track| track.decoded);
        let (Some(last), Some(decoded)) = (last, decoded) else { return Ok(()) };
        let by = last - self.played(decoded);
        if by > LONGEST_RELAPSE { Err(Reason::TurnsBack { at: last, by }) } else { Ok(()) }
    }

    /// Sees whether any other clock jumps forth.
    fn watch(&mut self, stream: u32, shown: f64, length: f64) -> Result<(), Reason> {
        let is_picture = self.pictures.contains(&stream);
        let now = self.played(shown);
        let covered = self.covered.unwrap_or(now);
        if now - covered > LONGEST_PAUSE && self.all_stop_at(covered) {
            let by = now - covered;
            // Sound may be there a little longer, but no picture is to be moved by less than its own length.
            let last =
                self.pictures.iter().filter_map(|stream| self.tracks.get(stream)).map(|track| track.end);
            let last = last.fold(f64::NEG_INFINITY, f64::max);
            let last = if covered - last < SLACK { last } else { covered };
            self.gap = (shown - (now - last), if is_picture { shown } else { f64::INFINITY });
            return self.add(Jump { at: last, by, clock: shown - by / 2.0 });
        }
        // Pictures are stored in another order than they are shown in, so those at the gap may come later.
        let earlier: f64 = self.jumps.iter().rev().skip(1).map(|jump| jump.by).sum();
        if let Some(jump) = self.jumps.last_mut().filter(|_| is_picture) {
            let (before, after) = &mut self.gap;
            if shown > jump.clock {
                *after = after.min(shown);
            } else {
                *before = before.max(shown + length);
            }
            if after.is_finite() {
                (jump.at, jump.by) = (*before - earlier, *after - *before);
            }
        }
        Ok(())
    }

    /// Whether there is picture and sound, and all of it up to here.
    fn all_stop_at(&self, covered: f64) -> bool {
        let stops = |stream| self.tracks.get(stream).is_some_and(|track| covered - track.end < TOGETHER);
        self.has_clock && self.has_both && self.timed.iter().all(stops)
    }

    /// Takes the last jumps back if not everything goes on after them: the rest had ended, and that was a pause.
    fn settle(&mut self) {
        if self.restarts {
            return;
        }
        while let Some(jump) = self.jumps.last().copied() {
            let goes_on = |track: &Track| track.clock > jump.clock;
            if self.timed.iter().all(|stream| self.tracks.get(stream).is_some_and(goes_on)) {
                return;
            }
            for track in self.tracks.values_mut().filter(|track| goes_on(track)) {
                track.end += jump.by;
            }
            self.jumps.pop();
        }
    }

    fn add(&mut self, jump: Jump) -> Result<(), Reason> {
        if self.jumps.len() == MOST_JUMPS {
            return Err(Reason::Jumps(MOST_JUMPS));
        }
        self.jumps.push(jump);
        Ok(())
    }

    /// Whether whoever decodes the file goes on after a jump by itself.
    pub(super) fn restarts(&self) -> bool {
        self.restarts
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it saturates, which is right here"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(container: &str, packets: &[(u32, f64)]) -> Result<Scan, Reason> {
        let mut scan = Scan::new(container, &[0], &[1]);
        for (stream, time) in packets {
            scan.read(&format!("{stream},{time},{time},0.5,100"))?;
        }
        scan.settle();
        Ok(scan)
    }

    fn ends(scan: &Scan) -> Vec<(f64, f64)> {
        scan.tracks.values().map(|track| (track.start, track.end)).collect()
    }

    #[test]
    fn tracks_are_as_long_and_as_large_as_their_packets() {
        let scan = scanned("avi", &[(0, 1.0), (1, 1.0), (0, 1.5), (1, 1.5), (0, 2.0)]).unwrap();
        assert_eq!(ends(&scan), [(1.0, 2.5), (1.0, 2.0)]);
        assert_eq!((scan.tracks[&0].packets, scan.tracks[&0].bytes), (3, 300));
        let mut unsaid = Scan::new("avi", &[0], &[]);
        for line in ["0,0.0,0.0,N/A,10", "0,0.5,0.5,N/A,10", "garbage", "1,N/A,N/A,N/A,5"] {
            unsaid.read(line).unwrap();
        }
        assert_eq!((unsaid.tracks[&0].end, unsaid.tracks[&1].bytes), (1.0, 5));
    }

    #[test]
    fn a_clock_that_starts_anew_goes_on() {
        let scan =
            scanned("mpegts", &[(0, 100.0), (1, 100.0), (0, 100.5), (0, 1.0), (1, 1.0), (0, 1.5)]).unwrap();
        assert_eq!(scan.jumps, [Jump { at: 101.0, by: -100.0, clock: 51.0 }]);
        assert_eq!(ends(&scan), [(100.0, 102.0), (100.0, 101.5)]);
        let forth = scanned("mpegts", &[(0, 1.0), (1, 1.0), (0, 1_000.0), (1, 1_000.0)]).unwrap();
        assert_eq!(ends(&forth), [(1.0, 2.0), (1.0, 2.0)]);
    }

    #[test]
    fn a_pause_of_one_track_is_no_jump() {
        let sound = (0..60).map(|i| (1, f64::from(i) / 2.0));
        let mut packets = vec![(0, 0.0)];
        packets.extend(sound);
        packets.push((0, 29.5));
        let scan = scanned("matroska,webm", &packets).unwrap();
        assert_eq!((scan.jumps.len(), scan.tracks[&0].end), (0, 30.0));
        let joint = [(0, 0.0), (1, 0.0), (0, 3_600.0), (1, 3_600.0), (0, 3_600.5), (1, 3_601.0)];
        let gap = scanned("flv", &joint).unwrap();
        assert_eq!(gap.jumps, [Jump { at: 0.5, by: 3_599.5, clock: 1_800.25 }]);
        assert_eq!(ends(&gap), [(0.0, 1.5), (0.0, 2.0)]);
        let pause = scanned("matroska,webm", &joint).unwrap();
        assert_eq!((pause.jumps.len(), ends(&pause)), (0, vec![(0.0, 3_601.0), (0.0, 3_601.5)]));
    }

    #[test]
    fn what_goes_on_alone_had_a_pause() {
        let slides = [(0, 0.0), (1, 0.0), (1, 0.5), (0, 20.0), (0, 40.0)];
        for container in ["flv", "matroska,webm"] {
            let scan = scanned(container, &slides).unwrap();
            assert_eq!((scan.jumps.len(), ends(&scan)), (0, vec![(0.0, 40.5), (0.0, 1.0)]), "{container}");
            // Its sound ends a little after the last picture before the pause.
            let longer = [(0, 0.0), (1, 0.2), (0, 20.0)];
            assert_eq!(ends(&scanned(container, &longer).unwrap()), [(0.0, 20.5), (0.2, 0.7)], "{container}");
        }
    }

    #[test]
    fn a_packet_that_does_not_say_when_it_is_decoded_is_not_taken_for_one_that_does() {
        let mut scan = Scan::new("matroska,webm", &[0], &[]);
        // Slides with pictures between pictures: ffprobe does not know when the first ones are decoded.
        for line in ["0,0.0,N/A,20.0,1", "0,60.0,N/A,20.0,1", "0,20.0,0.0,20.0,1", "0,40.0,20.0,20.0,1"] {
            scan.read(line).unwrap();
        }
        assert_eq!(ends(&scan), [(0.0, 80.0)]);
    }

    #[test]
    fn pictures_in_the_order_of_their_decoding_do_not_hide_how_long_a_gap_is() {
        let mut scan = Scan::new("flv", &[0], &[1]);
        scan.read("1,0.0,0.0,1.5,1").unwrap();
        // Shown, decoded: the second picture after the gap is stored before the last one that is before it.
        for (shown, decoded) in [(0.0, 0.0), (1.0, 0.5), (61.5, 1.0), (61.0, 1.5), (62.0, 61.0)] {
            scan.read(&format!("0,{shown},{decoded},0.5,1")).unwrap();
        }
        assert_eq!((scan.jumps[0].at, scan.jumps[0].by), (1.5, 59.5));
        assert_eq!((scan.tracks[&0].start, scan.tracks[&0].end), (0.0, 3.0));
    }

    #[test]
    fn a_clock_that_turns_back_or_never_rests_is_refused() {
        let back = scanned("matroska,webm", &[(0, 0.0), (0, 5.0), (0, 2.0)]).unwrap_err();
        assert!(matches!(back, Reason::TurnsBack { by, .. } if (by - 3.0).abs() < 1e-9));
        let late = scanned("matroska,webm", &[(0, 0.0), (0, 25.0), (0, 50.0), (0, 30.0)]).unwrap_err();
        assert!(matches!(late, Reason::TurnsBack { at, .. } if (at - 50.0).abs() < 1e-9));
        let wild: Vec<_> = (0..200).map(|i| (0, f64::from(i % 2) * 1_000.0)).collect();
        assert!(matches!(scanned("mpegts", &wild), Err(Reason::Jumps(_))));
    }
}
