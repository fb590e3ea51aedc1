//! What `ffprobe -of json` prints, as far as it matters here, and what it means.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::{Audio, Captions, Colour, Mastering, Rate, Reason, Source, Video, clock, duration};

/// More tracks than this are no film.
const MOST_TRACKS: usize = 256;

/// The most pixels of a picture: 8K by 8K. To decode more takes more memory than a machine can be asked for.
const MOST_PIXELS: u64 = 8_192 * 8_192;

/// ffprobe names a format also where next to nothing speaks for it; a single frame of what may be MP3 is 1 of 100.
const LOWEST_SCORE: u32 = 10;

#[derive(Debug, Deserialize)]
pub(super) struct Report {
    #[serde(default)]
    pub(super) streams: Vec<Stream>,
    #[serde(default)]
    pub(super) frames: Vec<Frame>,
    #[serde(default)]
    pub(super) format: Format,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Format {
    #[serde(rename = "format_name", default)]
    pub(super) name: String,
    start_time: Option<String>,
    duration: Option<String>,
    bit_rate: Option<String>,
    probe_score: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stream {
    pub(super) index: u32,
    codec_type: Option<String>,
    codec_name: Option<String>,
    profile: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    pix_fmt: Option<String>,
    sample_aspect_ratio: Option<String>,
    field_order: Option<String>,
    color_range: Option<String>,
    color_space: Option<String>,
    color_transfer: Option<String>,
    color_primaries: Option<String>,
    closed_captions: u8,
    r_frame_rate: Option<String>,
    avg_frame_rate: Option<String>,
    sample_rate: Option<String>,
    channels: u32,
    channel_layout: Option<String>,
    start_time: Option<String>,
    duration: Option<String>,
    bit_rate: Option<String>,
    nb_frames: Option<String>,
    disposition: BTreeMap<String, u8>,
    tags: BTreeMap<String, String>,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Frame {
    interlaced_frame: u8,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SideData {
    rotation: Option<f64>,
    dv_profile: Option<u32>,
    dv_bl_signal_compatibility_id: Option<u32>,
    red_x: Option<String>,
    red_y: Option<String>,
    green_x: Option<String>,
    green_y: Option<String>,
    blue_x: Option<String>,
    blue_y: Option<String>,
    white_point_x: Option<String>,
    white_point_y: Option<String>,
    min_luminance: Option<String>,
    max_luminance: Option<String>,
    max_content: Option<u32>,
    max_average: Option<u32>,
}

impl Report {
    /// How long the head of the file says that it is. Of other kinds of file ffprobe reckons it from what is there,
    /// or from the bit rate.
    pub(super) fn promised(&self) -> Option<Duration> {
        let has_it = self.format.name.starts_with("matroska") || self.format.name == "flv";
        let seconds = number(self.format.duration.as_ref().filter(|_| has_it))?;
        Some(duration(seconds)).filter(|promised| !promised.is_zero())
    }

    /// What ffmpeg takes for 0.
    pub(super) fn begin(&self) -> Option<f64> {
        number(self.format.start_time.as_ref())
    }

    pub(super) fn of_type(&self, kind: &'static str) -> impl Iterator<Item = &Stream> {
        // The picture on the cover of a song is a video stream to ffmpeg.
        let is =
            move |stream: &&Stream| stream.codec_type.as_deref() == Some(kind) && !stream.is("attached_pic");
        self.streams.iter().filter(is)
    }

    /// The source, as far as the report says it.
    pub(super) fn read(&self, path: &Path, bytes: u64) -> Result<Source, Reason> {
        let container = self.format.name.clone();
        if let Some(score) = self.format.probe_score.filter(|score| *score < LOWEST_SCORE) {
            return Err(Reason::NotVideo(format!("{score} % speak for {container}")));
        }
        if self.streams.len() > MOST_TRACKS {
            return Err(Reason::TooManyTracks { there: self.streams.len(), most: MOST_TRACKS });
        }
        let mut notes = Vec::new();
        let begin = self.begin().unwrap_or(0.0);
        let mut pictures: Vec<&Stream> = self.of_type("video").collect();
        // As many players: the default track, else the first; but one that can be decoded, if there is any.
        pictures.sort_by_key(|stream| (stream.codec().is_err(), !stream.is("default")));
        for other in pictures.iter().skip(1) {
            notes.push(format!("track {} is another picture and was left out", other.index));
        }
        let video = pictures.first().map(|stream| stream.video(begin)).transpose()?;
        if pictures.is_empty() && self.of_type("audio").next().is_none() {
            return Err(Reason::NoTracks);
        }
        let mut audio = Vec::new();
        for stream in self.of_type("audio") {
            match stream.audio(begin) {
                Ok(track) => audio.push(track),
                // Phones add sound in formats of their own.
                Err(_) => notes.push(format!(
                    "audio track {} is empty, or in a codec that this ffmpeg does not know, and was left out",
                    stream.index
                )),
            }
        }
        if video.is_none() && audio.is_empty() {
            return Err(Reason::UnknownCodec);
        }
        let captions = self.of_type("subtitle").map(Stream::captions).collect();
        let mut source =
            Source { path: path.to_owned(), bytes, container, video, audio, captions, ..Source::default() };
        source.notes = notes;
        source.duration = source.longest();
        Ok(source)
    }

    /// Bits a second of everything.
    pub(super) fn bit_rate(&self) -> Option<u64> {
        self.format.bit_rate.as_ref().and_then(|rate| rate.parse().ok())
    }

    /// Whether a track's head says if its pictures are two fields each. Those of DV and MPEG-4 do not.
    pub(super) fn tells_fields(&self, stream: u32) -> bool {
        let order =
            self.streams.iter().find(|it| it.index == stream).and_then(|it| it.field_order.as_deref());
        order.is_some_and(|order| order != "unknown")
    }

    /// Whether any of these pictures is two fields.
    pub(super) fn has_fields(&self) -> bool {
        self.frames.iter().any(|frame| frame.interlaced_frame != 0)
    }

    /// What the first picture says of how bright it may become.
    pub(super) fn mastering(&self) -> Option<Mastering> {
        let frames = self.frames.iter().flat_map(|frame| &frame.side_data_list);
        let data: Vec<_> =
            frames.chain(self.streams.iter().flat_map(|stream| &stream.side_data_list)).collect();
        let display = data.iter().find_map(|data| data.display());
        let light = data.iter().find_map(|data| Some((data.max_content?, data.max_average?)));
        let light = light.filter(|(content, _)| *content > 0);
        (display.is_some() || light.is_some()).then_some(Mastering { display, light })
    }
}

impl Stream {
    pub(super) fn codec(&self) -> Result<String, Reason> {
        let codec = self.codec_name.as_deref().filter(|name| !matches!(*name, "unknown" | "none"));
        codec.map(str::to_owned).ok_or(Reason::UnknownCodec)
    }

    fn is(&self, disposition: &str) -> bool {
        self.disposition.get(disposition).is_some_and(|flag| *flag != 0)
    }

    fn tag(&self, name: &str) -> Option<String> {
        self.tags.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
    }

    fn video(&self, begin: f64) -> Result<Video, Reason> {
        let codec = self.codec()?;
        let (coded_width, coded_height) = (self.width.unwrap_or(0), self.height.unwrap_or(0));
        let (width, height) = self.shown().ok_or(Reason::NoPicture)?;
        if u64::from(coded_width) * u64::from(coded_height) > MOST_PIXELS {
            return Err(Reason::TooLarge { width: coded_width, height: coded_height });
        }
        let dolby = self.side_data_list.iter().find(|data| data.dv_profile.is_some());
        // Others have a picture that is shown without Dolby's additions; this one has colours of its own.
        if dolby.is_some_and(|data| {
            data.dv_profile == Some(5) && data.dv_bl_signal_compatibility_id.unwrap_or(0) == 0
        }) {
            return Err(Reason::DolbyVision);
        }
        let known =
            |text: &Option<String>| text.clone().filter(|text| text != "unknown" && text != "reserved");
        Ok(Video {
            stream: self.index,
            codec,
            profile: known(&self.profile),
            width,
            height,
            coded_width,
            coded_height,
            pixel_format: known(&self.pix_fmt),
            is_interlaced: matches!(self.field_order.as_deref(), Some("tt" | "bb" | "tb" | "bt")),
            colour: Colour {
                range: known(&self.color_range),
                matrix: known(&self.color_space),
                transfer: known(&self.color_transfer),
                primaries: known(&self.color_primaries),
            },
            mastering: None,
            closed_captions: self.closed_captions != 0,
            dolby_vision: dolby.and_then(|data| data.dv_profile),
            base_rate: self.r_frame_rate.as_deref().and_then(Rate::parse),
            average_rate: self.avg_frame_rate.as_deref().and_then(Rate::parse),
            bit_rate: self.bits(),
            start: duration(self.start() - begin),
            end: duration(self.indexed_end().unwrap_or(0.0) - begin),
        })
    }

    fn audio(&self, begin: f64) -> Result<Audio, Reason> {
        let sample_rate = self.sample_rate.as_deref().and_then(|rate| rate.parse().ok()).unwrap_or(0);
        if self.channels == 0 || sample_rate == 0 {
            return Err(Reason::UnknownCodec);
        }
        Ok(Audio {
            stream: self.index,
            codec: self.codec()?,
            profile: self.profile.clone().filter(|profile| profile != "unknown"),
            channels: self.channels,
            layout: self.channel_layout.clone(),
            sample_rate,
            bit_rate: self.bits(),
            language: self.tag("language"),
            title: self.tag("title"),
            is_default: self.is("default"),
            is_commentary: self.is("comment"),
            describes_video: self.is("visual_impaired") || self.is("descriptions"),
            packets: self.nb_frames.as_deref().and_then(|count| count.parse().ok()),
            start: duration(self.start() - begin),
            end: duration(self.indexed_end().unwrap_or(0.0) - begin),
        })
    }

    fn captions(&self) -> Captions {
        Captions {
            stream: self.index,
            codec: self.codec_name.clone().unwrap_or_default(),
            language: self.tag("language"),
            title: self.tag("title"),
            is_default: self.is("default"),
            forced: self.is("forced"),
            hearing_impaired: self.is("hearing_impaired") || self.is("captions"),
        }
    }

    /// Bits a second, as the container or its tags (those of Matroska's statistics) have it.
    fn bits(&self) -> Option<u64> {
        let tagged = || self.tags.iter().find(|(key, _)| *key == "BPS" || key.starts_with("BPS-"));
        let text = self.bit_rate.clone().or_else(|| tagged().map(|(_, value)| value.clone()))?;
        text.parse().ok().filter(|rate| *rate > 0)
    }

    fn start(&self) -> f64 {
        number(self.start_time.as_ref()).unwrap_or(0.0)
    }

    /// When it ends by an index of every sample. Elsewhere ffprobe reckons from the bit rate.
    fn indexed_end(&self) -> Option<f64> {
        Some(self.start() + number(self.duration.as_ref())?)
    }

    /// Its size on the screen. Pixels that are not square change the width, as in every player; a quarter turn
    /// swaps the sides.
    fn shown(&self) -> Option<(u32, u32)> {
        let (width, height) = (self.width.filter(|w| *w > 0)?, self.height.filter(|h| *h > 0)?);
        let pixel = self.sample_aspect_ratio.as_deref().and_then(Rate::parse);
        let width = pixel.map_or(width, |shape| {
            let wide = u64::from(width) * u64::from(shape.frames) / u64::from(shape.seconds);
            u32::try_from(wide).unwrap_or(u32::MAX).max(1)
        });
        let rotation = self.side_data_list.iter().find_map(|data| data.rotation).unwrap_or(0.0);
        let is_on_its_side = (rotation.rem_euclid(180.0) - 90.0).abs() < 45.0;
        Some(if is_on_its_side { (height, width) } else { (width, height) })
    }
}

impl SideData {
    /// As x265 wants it: chromaticities in units of 0.00002, luminance in those of 0.0001 cd/m².
    fn display(&self) -> Option<[u32; 10]> {
        let unit = |text: &Option<String>, units: f64| {
            let (part, whole) = text.as_deref()?.split_once('/')?;
            let value = part.parse::<f64>().ok()? / whole.parse::<f64>().ok()? * units;
            let is_sane = value.is_finite() && (0.0..=1e9).contains(&value);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is within bounds"
            )]
            is_sane.then_some(value.round() as u32)
        };
        Some([
            unit(&self.green_x, 5e4)?,
            unit(&self.green_y, 5e4)?,
            unit(&self.blue_x, 5e4)?,
            unit(&self.blue_y, 5e4)?,
            unit(&self.red_x, 5e4)?,
            unit(&self.red_y, 5e4)?,
            unit(&self.white_point_x, 5e4)?,
            unit(&self.white_point_y, 5e4)?,
            unit(&self.max_luminance, 1e4)?,
            unit(&self.min_luminance, 1e4)?,
        ])
    }
}

fn number(text: Option<&String>) -> Option<f64> {
    clock(text?).filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report like those of ffprobe 5.1, with what differs from case to case filled in.
    fn source(format: &str, streams: &str) -> Result<Source, Reason> {
        let report = format!(r#"{{"streams":[{streams}],"format":{{{format}}}}}"#);
        serde_json::from_str::<Report>(&report).unwrap().read(Path::new("a.mp4"), 1)
    }

    const MP4: &str = r#""format_name":"mov,mp4,m4a,3gp,3g2,mj2","start_time":"0.000000","duration":"8.0""#;

    fn video(more: &str) -> String {
        format!(
            r#"{{"index":0,"codec_type":"video","codec_name":"h264","width":1280,"height":720,
                "r_frame_rate":"30000/1001","avg_frame_rate":"30000/1001","start_time":"0.000000",
                "duration":"8.000000"{more}}}"#
        )
    }

    fn size(more: &str) -> (u32, u32) {
        source(MP4, &video(more)).unwrap().video.map(|video| (video.width, video.height)).unwrap()
    }

    #[test]
    fn a_picture_is_measured_as_it_is_shown() {
        assert_eq!(size(""), (1280, 720));
        assert_eq!(
            size(r#","side_data_list":[{"side_data_type":"Display Matrix","rotation":-90}]"#),
            (720, 1280)
        );
        assert_eq!(size(r#","side_data_list":[{"rotation":270}]"#), (720, 1280));
        assert_eq!(size(r#","side_data_list":[{"rotation":180}]"#), (1280, 720));
        assert_eq!(size(r#","sample_aspect_ratio":"3:4""#), (960, 720));
        assert_eq!(size(r#","sample_aspect_ratio":"0:1""#), (1280, 720));
        assert_eq!(size(r#","sample_aspect_ratio":"3:4","side_data_list":[{"rotation":90}]"#), (720, 960));
    }

    #[test]
    fn a_cover_is_no_video() {
        let cover = video(r#","disposition":{"default":0,"attached_pic":1}"#);
        let found = source(MP4, &format!("{cover},{}", sound(1, ""))).unwrap();
        assert_eq!(found.video, None);
        assert_eq!(found.audio[0].stream, 1);
        assert!(matches!(source(MP4, &cover), Err(Reason::NoTracks)));
    }

    fn sound(index: u32, more: &str) -> String {
        format!(
            r#"{{"index":{index},"codec_type":"audio","codec_name":"aac","channels":2,"sample_rate":"48000",
                "start_time":"0.0","duration":"8.1"{more}}}"#
        )
    }

    #[test]
    fn every_track_that_can_be_heard_is_there() {
        let english =
            r#","disposition":{"default":1,"comment":1},"tags":{"language":"eng","title":"Director"}"#;
        let foreign = sound(2, "").replace("\"aac\"", "\"unknown\"");
        let silent = sound(3, "").replace("\"channels\":2", "\"channels\":0");
        let found =
            source(MP4, &[sound(0, ""), sound(1, english), foreign.clone(), silent].join(",")).unwrap();
        let streams: Vec<_> = found.audio.iter().map(|audio| audio.stream).collect();
        assert_eq!(streams, [0, 1]);
        assert_eq!(found.notes.len(), 2);
        let director = &found.audio[1];
        assert_eq!(
            (director.language.as_deref(), director.title.as_deref()),
            (Some("eng"), Some("Director"))
        );
        assert!(director.is_default && director.is_commentary && !director.describes_video);
        assert!(matches!(source(MP4, &foreign), Err(Reason::UnknownCodec)));
    }

    #[test]
    fn fields_are_seen_and_colours_are_kept() {
        let found = source(
            MP4,
            &video(
                r#","field_order":"tb","color_range":"pc","color_space":"bt470bg","color_transfer":"unknown",
                   "closed_captions":1,"bit_rate":"2000000","profile":"High""#,
            ),
        );
        let video = found.unwrap().video.unwrap();
        assert!(video.is_interlaced && video.closed_captions);
        assert_eq!((video.colour.matrix.as_deref(), video.colour.transfer), (Some("bt470bg"), None));
        assert_eq!(video.bit_rate, Some(2_000_000));
        assert!(
            !source(MP4, &self::video(r#","field_order":"progressive""#))
                .unwrap()
                .video
                .unwrap()
                .is_interlaced
        );
    }

    #[test]
    fn what_cannot_be_shown_right_is_refused() {
        let dolby = |profile: u32, compatible: u32| {
            let more = format!(
                r#","side_data_list":[{{"side_data_type":"DOVI configuration record","dv_profile":{profile},
                    "dv_bl_signal_compatibility_id":{compatible}}}]"#
            );
            source(MP4, &video(&more)).map(|found| found.video.unwrap().dolby_vision)
        };
        assert!(matches!(dolby(5, 0), Err(Reason::DolbyVision)));
        assert_eq!(dolby(8, 1).unwrap(), Some(8));
        let large = video("").replace("1280", "10000").replace("720", "10000");
        assert!(matches!(source(MP4, &large), Err(Reason::TooLarge { width: 10_000, height: 10_000 })));
        let many: Vec<_> = (0..300).map(|i| sound(i, "")).collect();
        assert!(matches!(source(MP4, &many.join(",")), Err(Reason::TooManyTracks { there: 300, .. })));
        let doubtful = r#""format_name":"mp3","probe_score":1"#;
        assert!(matches!(source(doubtful, &sound(0, "")), Err(Reason::NotVideo(_))));
    }

    #[test]
    fn the_display_that_it_was_made_on_is_read_as_x265_writes_it() {
        // ffprobe 5.1 of a file that x265 wrote with master-display=G(13250,34500)B(7500,3000)R(34000,16000)
        // WP(15635,16450)L(10000000,50) and max-cll=1000,400.
        let report = r#"{"frames":[{"side_data_list":[
            {"side_data_type":"Mastering display metadata","red_x":"34000/50000","red_y":"16000/50000",
             "green_x":"13250/50000","green_y":"34500/50000","blue_x":"7500/50000","blue_y":"3000/50000",
             "white_point_x":"15635/50000","white_point_y":"16450/50000","min_luminance":"50/10000",
             "max_luminance":"10000000/10000"},
            {"side_data_type":"Content light level metadata","max_content":1000,"max_average":400}]}]}"#;
        let found = serde_json::from_str::<Report>(report).unwrap().mastering().unwrap();
        let display = [13_250, 34_500, 7_500, 3_000, 34_000, 16_000, 15_635, 16_450, 10_000_000, 50];
        assert_eq!((found.display, found.light), (Some(display), Some((1_000, 400))));
        let nonsense =
            report.replace("34000/50000", "1/0").replace("\"max_content\":1000", "\"max_content\":0");
        assert_eq!(serde_json::from_str::<Report>(&nonsense).unwrap().mastering(), None);
    }
}
