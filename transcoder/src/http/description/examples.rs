//! An example of everything, by the names of schemas: what was answered for a video of six seconds, and what is asked for.

use serde_json::{Map, Value, json};

const ASSET: &str = "course-lesson-1";
const GENERATION: &str = "20261125t145042z-0496fd7c";
const JOB: &str = "298c3ab86b905f117385fc1c428cc3c2";

/// Of a key that was thrown away.
const SIGNATURE: &str = "\
Policy=eyJTdGF0ZW1lbnQiOlt7IlJlc291cmNlIjoiaHR0cHM6Ly92aWRlby5leGFtcGxlL2Fzc2V0cy9jb3Vyc2UtbGVzc29uLTEvKiIsI\
kNvbmRpdGlvbiI6eyJEYXRlTGVzc1RoYW4iOnsiQVdTOkVwb2NoVGltZSI6MTc5NTYyNjY0OX19fV19&Signature=jO75UAyOo8waMblaQV\
8NXBa6ZVhxVFh-DfaWrasD3Zvjvpiiz5jeEW04Rcxe8OZMB3gIU-SV3eCdg0NDue~7riuKE0KL5aRE~9Dc0fU1kgJvPtgqC1o-ln7~A6OdiZ\
-ylUeJ9TZpAEO7L85AMaquG7UOi0JJEipUI9EBZrGImhNzjdYAwHFfCA6cL1q38GljLy4oQTvkAn2xOtW1cx~PbH0-XxpzAVE7u0WD-GRvhS\
vfjt5LikXvZp6p67zFX6-Qkl7HJGY-4E6M~HdfBE6iU7G7T4kO0KC6C1jFtsxsXFXXJBDiOeX2O~prBKDXh6M9UQHuxOc8xZJOEPMZf54Rmg\
__&Key-Pair-Id=K2JCJMDEHXQW5F";

pub(super) fn all() -> Map<String, Value> {
    let Value::Object(all) = known() else { unreachable!("it is written below") };
    all
}

fn known() -> Value {
    json!({
        "Asset": asset(),
        "AssetPage": { "assets": [summary()], "next": null },
        "AssetSummary": summary(),
        "Heard": { "jobs": [JOB] },
        "Job": job(),
        "JobPage": { "jobs": [job()], "next": null },
        "Playback": {
            "asset": ASSET,
            "url": format!("https://video.example/assets/{ASSET}/index.m3u8?{SIGNATURE}"),
            "expires": "2026-11-25T17:10:49Z",
            "duration": 6.0,
            "poster": format!("https://video.example/assets/{ASSET}/{GENERATION}/poster.jpg?{SIGNATURE}"),
            "storyboard": format!("https://video.example/assets/{ASSET}/{GENERATION}/storyboard.vtt?{SIGNATURE}"),
        },
        "PlaybackRequest": { "asset": ASSET, "lifetime": 7_200, "ip": "192.0.2.7" },
        "Played": { "asset": ASSET, "generation": GENERATION },
        "Progress": {
            "state": "encoding",
            "percent": 33.4,
            "seconds_left": 2.96,
            "attempts": 1,
            "reason": null,
            "playlist": null,
        },
        "Readiness": {
            "checks": [
                { "name": "database", "ok": true },
                { "name": "store", "ok": true },
                { "name": "running", "ok": true },
            ],
        },
        "Request": {
            "source": "course/lesson-1.mp4",
            "asset": "lesson-1",
            "priority": 1,
            "options": { "codecs": ["hevc"], "quality": "high" },
        },
        "Rollback": { "generation": GENERATION },
        "Studio": {
            "admitted": true,
            "version": env!("CARGO_PKG_VERSION"),
            "edge": "https://video.example/",
            "signs": true,
            "max_upload": 50_000_000_000_u64,
            "playback": { "longest": 43_200, "margin": 1_800 },
        },
        "Upload": {
            "name": "course/lesson-1.mp4",
            "version": "4912301-1795618242949569882",
            "bytes": 4_912_301,
            "job": queued(),
        },
    })
}

fn job() -> Value {
    json!({
        "id": JOB,
        "source": "course/lesson-1.mp4",
        "version": "4912301-1795618242949569882",
        "bytes": 4_912_301,
        "asset": ASSET,
        "state": "done",
        "percent": null,
        "seconds_left": null,
        "attempts": 1,
        "reason": null,
        "priority": 0,
        "encoder": "ffmpeg",
        "options": {
            "container": "fmp4",
            "codecs": [],
            "hdr": false,
            "quality": "standard",
            "encrypt": false,
            "key_every": null,
            "dense_key_frames": false,
        },
        "created": "2026-11-25T14:50:42.956469042Z",
        "updated": "2026-11-25T14:50:47.517757646Z",
        "not_before": "2026-11-25T14:50:42.956469042Z",
        "generation": GENERATION,
        "playlist": playlist(),
        "outside": null,
        "webhook": null,
    })
}

fn queued() -> Value {
    let mut job = job();
    job["state"] = json!("queued");
    job["attempts"] = json!(0);
    for unknown in ["generation", "playlist"] {
        job[unknown] = Value::Null;
    }
    job
}

fn playlist() -> String {
    format!("assets/{ASSET}/index.m3u8")
}

fn renditions() -> Value {
    json!([
        {
            "name": "720p",
            "kind": "video",
            "playlist": format!("{GENERATION}/720p/index.m3u8"),
            "key_frames": format!("{GENERATION}/720p/iframe.m3u8"),
            "codecs": "avc1.64001f",
            "width": 1280,
            "height": 720,
            "frame_rate": 25.0,
            "peak_bandwidth": 2_783_186,
            "average_bandwidth": 2_783_186,
            "duration": 6.0,
            "segments": 1,
            "bytes": 2_088_694,
        },
        {
            "name": "audio",
            "kind": "audio",
            "playlist": format!("{GENERATION}/audio/index.m3u8"),
            "codecs": "mp4a.40.2",
            "language": "en",
            "channels": 2,
            "peak_bandwidth": 131_163,
            "average_bandwidth": 131_163,
            "duration": 6.0,
            "segments": 1,
            "bytes": 99_265,
        },
    ])
}

fn summary() -> Value {
    let mut short = renditions();
    for rendition in short.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        rendition.retain(|name, _| {
            !["playlist", "key_frames", "average_bandwidth", "duration", "segments", "bytes"]
                .contains(&name.as_str())
        });
    }
    json!({
        "asset": ASSET,
        "generation": GENERATION,
        "created": "2026-11-25T14:50:42Z",
        "duration": 6.0,
        "poster": true,
        "storyboard": format!("{GENERATION}/storyboard.vtt"),
        "width": 1280,
        "height": 720,
        "renditions": short,
        "bytes": 5_496_707,
        "encrypted": false,
    })
}

fn asset() -> Value {
    json!({
        "asset": ASSET,
        "state": "ready",
        "generation": GENERATION,
        "created": "2026-11-25T14:50:42Z",
        "uploaded": "2026-11-25T14:50:42.949569882Z",
        "job": JOB,
        "duration": 6.0,
        "container": "fmp4",
        "renditions": renditions(),
        "poster": format!("{GENERATION}/poster.jpg"),
        "storyboard": format!("{GENERATION}/storyboard.vtt"),
        "source": { "name": "lesson-1.mp4", "bytes": 4_912_301, "container": "mov,mp4,m4a,3gp,3g2,mj2", "duration": 6.0 },
        "rungs": [{
            "name": "1080p",
            "width": 1920,
            "height": 1080,
            "kbps": 7800,
            "kept": false,
            "reason": "the source is smaller",
        }],
        "notes": [],
        "commands": ["ffmpeg -i lesson-1.mp4 …"],
        "versions": { "transcoder": env!("CARGO_PKG_VERSION"), "encoder": "ffmpeg version 5.1.7" },
        "objects": {
            "count": 31,
            "bytes": 5_496_707,
            "list": "objects.txt",
            "list_sha256": "5b1e4e2a7b3c3f0f0d1c9a4ab5d1d33a3a0a1e6bb2a3e9e9b4c4b1f1d2c3a495",
            "playlist_sha256": "0f3c1f5f7a4f35a0b2ba1d2ba8ad0bdbd7f5ad7c9cf9a3f3c4d3a7b0b6e0f1d2",
        },
        "playlist": playlist(),
        "generations": [{
            "generation": GENERATION,
            "is_played": true,
            "is_complete": true,
            "objects": 33,
            "bytes": 5_519_412,
        }],
    })
}
