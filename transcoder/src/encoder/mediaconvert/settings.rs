//! What MediaConvert is asked for: a job, as its API writes one, out of the same plan that ffmpeg gets.
//!
//! Written in the names of the AWS CLI (`aws mediaconvert create-job --cli-input-json`), so that what a rehearsal prints
//! can be tried as it is; on the wire the same names begin with a small letter ([`wire`]).

use serde_json::{Map, Value, json};

use crate::asset::AssetId;
use crate::ladder::{Codec, Range, Rendition};
use crate::plan::{Audio, Colours, Container, Matrix, Options, Plan, Primaries, Quality, Video};
use crate::probe::Mastering;

/// Seconds of a segment and of a fragment. Both only say how MediaConvert cuts what is cut again here.
const SEGMENT_SECONDS: u32 = 6;
const FRAGMENT_SECONDS: u32 = 2;

/// The sides that MediaConvert makes, in pixels (its API reference, `VideoDescription`).
const SIDES: std::ops::RangeInclusive<u32> = 32..=8_192;

/// Brightness of white in HDR, in cd/m² (ITU-R BT.2408), as `ffmpeg` has it.
const WHITE: u32 = 203;

/// Keys below these are ours, and stay as they are on the wire.
const MAPS: [&str; 3] = ["AudioSelectors", "Tags", "UserMetadata"];

/// Who asks, for what, and where it goes.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// ARN of the role that reads and writes the bucket.
    pub role: &'a str,
    /// Name or ARN of a queue; the account's default if there is none.
    pub queue: Option<&'a str>,
    /// URI of the source.
    pub source: &'a str,
    /// URI that names of outputs begin with.
    pub destination: &'a str,
    /// What it will be called.
    pub asset: &'a AssetId,
    /// Our id of it.
    pub id: &'a str,
    /// How often it was asked for, this time among them.
    pub attempt: u32,
    /// Whether it may be spread over many machines.
    pub is_accelerated: bool,
}

/// What comes after the destination in the name of a track's playlist.
#[must_use]
pub fn modifier(name: &str) -> String {
    format!("_{name}")
}

/// Why MediaConvert cannot make what is planned, if it cannot.
#[must_use]
pub fn unsuited(plan: &Plan) -> Option<&'static str> {
    if !plan.jumps.is_empty() {
        return Some("it does not mend jumps in a file's clock");
    }
    let video = plan.video.as_ref()?;
    if !video.still.is_zero() {
        return Some("it goes on in black where sound lasts longer than the picture");
    }
    let is_made =
        |rendition: &Rendition| SIDES.contains(&rendition.width) && SIDES.contains(&rendition.height);
    let all_are = video.renditions.iter().chain(&video.dense).all(is_made);
    (!all_are).then_some("it makes no pictures with a side below 32 pixels")
}

/// The job.
#[must_use]
pub fn job(order: &Order<'_>, plan: &Plan, options: &Options) -> Value {
    let pictures = plan.video.iter().flat_map(|video| {
        let renditions = video.renditions.iter().map(move |it| (it, video.grid.group() / it.every));
        let dense = video.dense.iter().map(|it| (it, 1));
        renditions
            .chain(dense)
            .map(move |(rendition, group)| picture_output(rendition, group, video, options))
    });
    let sound = plan.audio.iter().map(|audio| sound_output(audio, options.container));
    let outputs: Vec<Value> = pictures.chain(sound).collect();
    let mut job = json!({
        "Role": order.role,
        "ClientRequestToken": token(order),
        "UserMetadata": {
            "asset": order.asset.to_string(),
            "job": order.id,
            "attempt": order.attempt.to_string(),
        },
        "Tags": { "app": "reelgate", "asset": order.asset.to_string() },
        "BillingTagsSource": "JOB",
        "StatusUpdateInterval": "SECONDS_30",
        "AccelerationSettings": { "Mode": if order.is_accelerated { "PREFERRED" } else { "DISABLED" } },
        "Settings": {
            "TimecodeConfig": { "Source": "ZEROBASED" },
            "Inputs": [input(order.source, plan)],
            "OutputGroups": [{
                "Name": "Reelgate",
                "OutputGroupSettings": group(order.destination, options.container),
                "Outputs": outputs,
            }],
        },
    });
    if let Some(queue) = order.queue {
        job["Queue"] = queue.into();
    }
    job
}

/// MediaConvert makes one job of all requests with the same one, for a minute.
#[must_use]
pub fn token(order: &Order<'_>) -> String {
    format!("{}-{}", order.id, order.attempt)
}

/// The same with the names as they go over the wire.
#[must_use]
pub fn wire(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(name, value)| {
                    let value = match value {
                        Value::Object(ours) if MAPS.contains(&name.as_str()) => Value::Object(
                            ours.iter().map(|(key, value)| (key.clone(), wire(value))).collect(),
                        ),
                        value => wire(value),
                    };
                    let mut letters = name.chars();
                    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
                    (first.into_iter().chain(letters).collect(), value)
                })
                .collect(),
        ),
        Value::Array(values) => values.iter().map(wire).collect(),
        value => value.clone(),
    }
}

fn input(source: &str, plan: &Plan) -> Value {
    let mut input = json!({ "FileInput": source, "TimecodeSource": "ZEROBASED" });
    if let Some(video) = &plan.video {
        input["VideoSelector"] = video_selector(video);
        if video.deinterlace {
            input["InputScanType"] = "AUTO".into();
        }
    }
    // MediaConvert counts tracks of sound alone, from 1 on.
    let mut streams: Vec<u32> = plan.audio.iter().map(|audio| audio.stream).collect();
    streams.sort_unstable();
    streams.dedup();
    let selectors: Map<String, Value> = streams.iter().zip(1..).map(|(stream, track): (_, u32)| {
        let mut selector = json!({
            "SelectorType": "TRACK",
            "Tracks": [track],
            "DefaultSelection": if track == 1 { "DEFAULT" } else { "NOT_DEFAULT" },
        });
        if plan.mono.contains(stream) {
            // Both sides as loud as it was.
            selector["RemixSettings"] = json!({
                "ChannelsIn": 1,
                "ChannelsOut": 2,
                "ChannelMapping": { "OutputChannels": [{ "InputChannels": [0] }, { "InputChannels": [0] }] },
            });
        }
        (selector_name(*stream), selector)
    }).collect();
    if !selectors.is_empty() {
        input["AudioSelectors"] = Value::Object(selectors);
    }
    input
}

fn selector_name(stream: u32) -> String {
    format!("Stream {stream}")
}

fn video_selector(video: &Video) -> Value {
    let (space, is_certain) = match video.colours {
        Colours::Standard(Matrix::Bt709, Primaries::Bt709) => ("REC_709", false),
        Colours::Standard(_, Primaries::P3) => ("P3D65_SDR", false),
        // There is no BT.2020 of a standard range to choose; what the file says is heeded.
        Colours::Standard(Matrix::Bt2020, _) | Colours::Standard(_, Primaries::Bt2020) | Colours::Rgb => {
            ("FOLLOW", false)
        }
        Colours::Standard(Matrix::Bt601, _)
        | Colours::Standard(_, Primaries::Bt601Of525 | Primaries::Bt601Of625) => ("REC_601", false),
        Colours::Pq(_) => ("HDR10", true),
        Colours::Hlg(_) => ("HLG_2020", true),
    };
    let mut selector = json!({
        "Rotate": "AUTO",
        "ColorSpace": space,
        "ColorSpaceUsage": if is_certain { "FORCE" } else { "FALLBACK" },
        "SampleRange": if video.is_full_range { "FULL_RANGE" } else { "FOLLOW" },
    });
    if let Colours::Pq(_) = video.colours
        && let Some(metadata) = video.mastering.as_ref().and_then(mastering)
    {
        selector["Hdr10Metadata"] = metadata;
    }
    selector
}

/// In the units of HEVC, which both have.
fn mastering(mastering: &Mastering) -> Option<Value> {
    let [gx, gy, bx, by, rx, ry, wx, wy, most, least] = mastering.display?;
    let mut metadata = json!({
        "GreenPrimaryX": gx, "GreenPrimaryY": gy, "BluePrimaryX": bx, "BluePrimaryY": by,
        "RedPrimaryX": rx, "RedPrimaryY": ry, "WhitePointX": wx, "WhitePointY": wy,
        "MaxLuminance": most, "MinLuminance": least,
    });
    if let Some((content, average)) = mastering.light {
        metadata["MaxContentLightLevel"] = content.into();
        metadata["MaxFrameAverageLightLevel"] = average.into();
    }
    Some(metadata)
}

fn group(destination: &str, container: Container) -> Value {
    // One file for a track: thousands of segments would each cost a request, here and there.
    match container {
        Container::Fmp4 => json!({
            "Type": "CMAF_GROUP_SETTINGS",
            "CmafGroupSettings": {
                "Destination": destination,
                "SegmentControl": "SINGLE_FILE",
                "SegmentLength": SEGMENT_SECONDS,
                "SegmentLengthControl": "GOP_MULTIPLE",
                "FragmentLength": FRAGMENT_SECONDS,
                "WriteHlsManifest": "ENABLED",
                "WriteDashManifest": "DISABLED",
                "CodecSpecification": "RFC_6381",
                "ManifestDurationFormat": "FLOATING_POINT",
                "ManifestCompression": "NONE",
                "StreamInfResolution": "INCLUDE",
                "TargetDurationCompatibilityMode": "SPEC_COMPLIANT",
            },
        }),
        Container::Ts => json!({
            "Type": "HLS_GROUP_SETTINGS",
            "HlsGroupSettings": {
                "Destination": destination,
                "SegmentControl": "SINGLE_FILE",
                "SegmentLength": SEGMENT_SECONDS,
                "MinSegmentLength": 0,
                "SegmentLengthControl": "GOP_MULTIPLE",
                "DirectoryStructure": "SINGLE_DIRECTORY",
                "OutputSelection": "MANIFESTS_AND_SEGMENTS",
                "CodecSpecification": "RFC_6381",
                "ManifestDurationFormat": "FLOATING_POINT",
                "ManifestCompression": "NONE",
                "StreamInfResolution": "INCLUDE",
                "ProgramDateTime": "EXCLUDE",
                "TargetDurationCompatibilityMode": "SPEC_COMPLIANT",
                "TimedMetadataId3Frame": "NONE",
            },
        }),
    }
}

fn picture_output(rendition: &Rendition, group: u32, video: &Video, options: &Options) -> Value {
    let mut description = json!({
        "Width": rendition.width,
        "Height": rendition.height,
        // The plan's sizes have the picture's proportions, but for a pixel, for which there need be no bars.
        "ScalingBehavior": "STRETCH_TO_OUTPUT",
        "AntiAlias": "ENABLED",
        "TimecodeInsertion": "DISABLED",
        "ColorMetadata": "INSERT",
        "CodecSettings": codec(rendition, group, video, options.quality),
    });
    let preprocessors = preprocessors(rendition, video);
    if preprocessors.as_object().is_some_and(|made| !made.is_empty()) {
        description["VideoPreprocessors"] = preprocessors;
    }
    let mut output = json!({
        "NameModifier": modifier(&rendition.name),
        "VideoDescription": description,
    });
    match options.container {
        Container::Fmp4 => {
            output["ContainerSettings"] =
                json!({ "Container": "CMFC", "CmfcSettings": { "IFrameOnlyManifest": "INCLUDE" } });
        }
        Container::Ts => {
            output["ContainerSettings"] = json!({ "Container": "M3U8" });
            output["OutputSettings"] = json!({ "HlsSettings": { "IFrameOnlyManifest": "INCLUDE" } });
        }
    }
    output
}

fn preprocessors(rendition: &Rendition, video: &Video) -> Value {
    let mut made = Map::new();
    if video.deinterlace {
        let deinterlacer = json!({ "Algorithm": "INTERPOLATE", "Control": "NORMAL", "Mode": "DEINTERLACE" });
        made.insert("Deinterlacer".into(), deinterlacer);
    }
    if rendition.range == Range::Sdr {
        let is_there = matches!(video.colours, Colours::Standard(Matrix::Bt709, Primaries::Bt709));
        let mut corrector = Map::new();
        if !is_there {
            corrector.insert("ColorSpaceConversion".into(), "FORCE_709".into());
        }
        if video.colours.is_hdr() {
            corrector.insert("HdrToSdrToneMapper".into(), "PRESERVE_DETAILS".into());
            corrector.insert("SdrReferenceWhiteLevel".into(), WHITE.into());
        } else if video.is_full_range {
            corrector.insert("SampleRangeConversion".into(), "LIMITED_RANGE_SQUEEZE".into());
        }
        if !corrector.is_empty() {
            made.insert("ColorCorrector".into(), Value::Object(corrector));
        }
    }
    Value::Object(made)
}

/// The levels at which AWS's guide puts a picture for a good screen, and for one that is small or on a poor line.
fn level(rendition: &Rendition) -> u32 {
    let best = match rendition.codec {
        Codec::H264 => 21,
        Codec::Hevc => 24,
        Codec::Av1 => 32,
    };
    match rendition.rung.crf.saturating_sub(best) {
        0 => 8,
        1..=4 => 7,
        _ => 6,
    }
}

fn codec(rendition: &Rendition, group: u32, video: &Video, quality: Quality) -> Value {
    let rung = rendition.rung;
    let mut settings = json!({
        "RateControlMode": "QVBR",
        "QvbrSettings": { "QvbrQualityLevel": level(rendition) },
        "MaxBitrate": rung.maxrate_kbps * 1_000,
        "GopSize": group,
        "SceneChangeDetect": "DISABLED",
        "FramerateControl": "SPECIFIED",
        "FramerateNumerator": video.grid.rate.frames,
        "FramerateDenominator": video.grid.rate.seconds * rendition.every,
        "FramerateConversionAlgorithm": "DUPLICATE_DROP",
    });
    if rendition.codec == Codec::Av1 {
        settings["BitDepth"] = "BIT_8".into();
        return json!({ "Codec": "AV1", "Av1Settings": settings });
    }
    let tuning = if quality == Quality::High { "MULTI_PASS_HQ" } else { "SINGLE_PASS_HQ" };
    for (name, value) in [
        ("HrdBufferSize", json!(rung.bufsize_kbit * 1_000)),
        ("QualityTuningLevel", json!(tuning)),
        ("GopSizeUnits", json!("FRAMES")),
        ("GopClosedCadence", json!(1)),
        ("MinIInterval", json!(0)),
        ("NumberBFramesBetweenReferenceFrames", json!(if group == 1 { 0 } else { 2 })),
        ("CodecLevel", json!("AUTO")),
        ("InterlaceMode", json!("PROGRESSIVE")),
        ("ParControl", json!("SPECIFIED")),
        ("ParNumerator", json!(1)),
        ("ParDenominator", json!(1)),
    ] {
        settings[name] = value;
    }
    if rendition.codec == Codec::H264 {
        settings["CodecProfile"] = "HIGH".into();
        return json!({ "Codec": "H_264", "H264Settings": settings });
    }
    settings["CodecProfile"] = if rendition.range == Range::Pq { "MAIN10_MAIN" } else { "MAIN_MAIN" }.into();
    settings["WriteMp4PackagingType"] = "HVC1".into();
    json!({ "Codec": "H_265", "H265Settings": settings })
}

fn sound_output(audio: &Audio, container: Container) -> Value {
    let mode = if audio.channels > 2 { "CODING_MODE_5_1" } else { "CODING_MODE_2_0" };
    let mut description = json!({
        "AudioSourceName": selector_name(audio.stream),
        // Letters, digits and `_` are all that it may have.
        "StreamName": audio.name.replace('-', "_"),
        "CodecSettings": {
            "Codec": "AAC",
            "AacSettings": {
                "Bitrate": audio.kbps * 1_000,
                "CodingMode": mode,
                "SampleRate": 48_000,
                "RateControlMode": "CBR",
                "CodecProfile": "LC",
            },
        },
    });
    let language = audio.language.tag.split('-').next().unwrap_or_default();
    if audio.language.is_known() {
        description["CustomLanguageCode"] = language.into();
        description["LanguageCodeControl"] = "USE_CONFIGURED".into();
    }
    let kind =
        if audio.is_default { "ALTERNATE_AUDIO_AUTO_SELECT_DEFAULT" } else { "ALTERNATE_AUDIO_AUTO_SELECT" };
    let group = format!("{:?}", audio.group).to_lowercase();
    let mut output = json!({ "NameModifier": modifier(&audio.name), "AudioDescriptions": [description] });
    match container {
        Container::Fmp4 => {
            let settings = json!({
                "AudioGroupId": group,
                "AudioTrackType": kind,
                "AudioDuration": "MATCH_VIDEO_DURATION",
            });
            output["ContainerSettings"] = json!({ "Container": "CMFC", "CmfcSettings": settings });
        }
        Container::Ts => {
            // Not the usual bare AAC, which has no clock.
            let settings = json!({
                "AudioGroupId": group,
                "AudioTrackType": kind,
                "AudioOnlyContainer": "M2TS",
            });
            output["ContainerSettings"] = json!({ "Container": "M3U8" });
            output["OutputSettings"] = json!({ "HlsSettings": settings });
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::probe::{self, Jump, Rate, Source};

    fn source() -> Source {
        let rate = Some(Rate { frames: 60_000, seconds: 1_001 });
        let video = probe::Video {
            width: 1920,
            height: 1080,
            coded_width: 1920,
            coded_height: 1080,
            base_rate: rate,
            average_rate: rate,
            end: Duration::from_secs(8),
            ..probe::Video::default()
        };
        let track = |stream, channels| probe::Audio {
            stream,
            channels,
            end: Duration::from_secs(8),
            ..probe::Audio::default()
        };
        let audio = vec![track(1, 6), track(3, 1)];
        Source { path: "/films/talk.mp4".into(), video: Some(video), audio, ..Source::default() }
    }

    fn job_of(source: &Source, options: &Options) -> Value {
        let asset = "talk".parse().unwrap();
        let order = Order {
            role: "arn:aws:iam::111122223333:role/MediaConvertRole",
            queue: None,
            source: "s3://uploads/talk.mp4",
            destination: "s3://work/id/2/index",
            asset: &asset,
            id: "0123456789abcdef0123456789abcdef",
            attempt: 2,
            is_accelerated: true,
        };
        job(&order, &Plan::for_source(source, &[], options).unwrap(), options)
    }

    fn output<'a>(job: &'a Value, modifier: &str) -> &'a Value {
        let outputs = job["Settings"]["OutputGroups"][0]["Outputs"].as_array().unwrap();
        outputs.iter().find(|output| output["NameModifier"] == modifier).unwrap()
    }

    #[test]
    fn pictures_are_cut_on_the_grid_and_small_ones_have_half_of_them() {
        let job = job_of(&source(), &Options::default());
        let large = &output(&job, "_1080p")["VideoDescription"];
        let codec = &large["CodecSettings"]["H264Settings"];
        assert_eq!((&large["Width"], &large["Height"]), (&json!(1920), &json!(1080)));
        assert_eq!(codec["RateControlMode"], "QVBR");
        assert_eq!((&codec["GopSize"], &codec["GopSizeUnits"]), (&json!(120), &json!("FRAMES")));
        assert_eq!(
            (&codec["GopClosedCadence"], &codec["SceneChangeDetect"]),
            (&json!(1), &json!("DISABLED"))
        );
        assert_eq!(
            (&codec["FramerateNumerator"], &codec["FramerateDenominator"]),
            (&json!(60_000), &json!(1_001))
        );
        assert_eq!((&codec["MaxBitrate"], &codec["HrdBufferSize"]), (&json!(7_800_000), &json!(11_700_000)));
        let small = &output(&job, "_234p")["VideoDescription"]["CodecSettings"]["H264Settings"];
        assert_eq!((&small["GopSize"], &small["FramerateDenominator"]), (&json!(60), &json!(2_002)));
    }

    #[test]
    fn tracks_of_sound_are_counted_by_themselves() {
        let job = job_of(&source(), &Options::default());
        let selectors = &job["Settings"]["Inputs"][0]["AudioSelectors"];
        assert_eq!(selectors["Stream 1"]["Tracks"], json!([1]));
        assert_eq!(selectors["Stream 3"]["Tracks"], json!([2]));
        // One channel on both sides.
        let mapping = &selectors["Stream 3"]["RemixSettings"]["ChannelMapping"]["OutputChannels"];
        assert_eq!(*mapping, json!([{ "InputChannels": [0] }, { "InputChannels": [0] }]));
        let outputs = job["Settings"]["OutputGroups"][0]["Outputs"].as_array().unwrap();
        let mode = |output: &Value| {
            let sound = &output["AudioDescriptions"][0];
            let settings = &sound["CodecSettings"]["AacSettings"];
            (sound["AudioSourceName"].clone(), settings["CodingMode"].clone(), settings["Bitrate"].clone())
        };
        let modes: Vec<_> = outputs.iter().map(mode).collect();
        assert!(modes.contains(&(json!("Stream 1"), json!("CODING_MODE_5_1"), json!(320_000))), "{modes:?}");
        assert!(modes.contains(&(json!("Stream 3"), json!("CODING_MODE_2_0"), json!(128_000))), "{modes:?}");
    }

    #[test]
    fn a_group_is_that_of_the_container() {
        for (container, group, kind) in
            [(Container::Fmp4, "CMAF_GROUP_SETTINGS", "CMFC"), (Container::Ts, "HLS_GROUP_SETTINGS", "M3U8")]
        {
            let job = job_of(&source(), &Options { container, ..Options::default() });
            assert_eq!(job["Settings"]["OutputGroups"][0]["OutputGroupSettings"]["Type"], group);
            assert_eq!(output(&job, "_1080p")["ContainerSettings"]["Container"], kind);
        }
    }

    #[test]
    fn colours_become_those_of_hd_television() {
        let mut source = source();
        let video = source.video.as_mut().unwrap();
        video.colour.transfer = Some("smpte2084".into());
        video.is_interlaced = true;
        let options = Options { hdr: true, ..Options::default() };
        let job = job_of(&source, &options);
        assert_eq!(job["Settings"]["Inputs"][0]["VideoSelector"]["ColorSpace"], "HDR10");
        let made = &output(&job, "_1080p")["VideoDescription"]["VideoPreprocessors"];
        assert_eq!(made["ColorCorrector"]["ColorSpaceConversion"], "FORCE_709");
        assert_eq!(made["ColorCorrector"]["HdrToSdrToneMapper"], "PRESERVE_DETAILS");
        assert_eq!(made["Deinterlacer"]["Mode"], "DEINTERLACE");
        let high = &output(&job, "_1080p-hdr")["VideoDescription"];
        assert_eq!(high["CodecSettings"]["H265Settings"]["CodecProfile"], "MAIN10_MAIN");
        assert_eq!(high["VideoPreprocessors"]["ColorCorrector"], Value::Null);
    }

    #[test]
    fn names_of_ours_go_over_the_wire_as_they_are() {
        let wired = wire(&job_of(&source(), &Options::default()));
        assert_eq!(
            wired["userMetadata"],
            json!({
                "asset": "talk", "attempt": "2", "job": "0123456789abcdef0123456789abcdef",
            })
        );
        assert_eq!(wired["clientRequestToken"], "0123456789abcdef0123456789abcdef-2");
        assert_eq!(wired["settings"]["inputs"][0]["audioSelectors"]["Stream 1"]["selectorType"], "TRACK");
    }

    #[test]
    fn what_it_cannot_make_is_known_before() {
        let plan = |source: &Source| Plan::for_source(source, &[], &Options::default()).unwrap();
        assert_eq!(unsuited(&plan(&source())), None);
        let jumps = vec![Jump { at: 2.0, by: 60.0, clock: 32.0 }];
        assert!(unsuited(&plan(&Source { jumps, ..source() })).unwrap().contains("jumps"));
        let mut long = source();
        long.audio[0].end = Duration::from_secs(20);
        assert!(unsuited(&plan(&long)).unwrap().contains("black"));
    }
}
