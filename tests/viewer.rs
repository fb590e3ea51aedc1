//! Somebody at the controls of the watch page, in a real browser.

#![allow(missing_docs)]

use std::sync::LazyLock;

use serde_json::{Value, json};
use tests::{Gate, Keys, Worker, ffmpeg, keys, node, publish, root, run};
use transcoder::sign::Order;

const SECONDS: &str = "24";
const CAPTION: &str = "1\n00:00:00,000 --> 00:00:23,000\n";
/// 1 January 2020.
const LONG_AGO: u64 = 1_577_836_800;

/// What `viewer.mjs` saw, once for all the stories.
static SEEN: LazyLock<Value> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let (upload, media) = (folder.path().join("talk.mp4"), folder.path().join("media"));
    let sources = ["-f", "lavfi", "-i", "testsrc2=s=854x480:r=25", "-f", "lavfi", "-i", "sine=r=48000"];
    let clip = ["-t", SECONDS, "-pix_fmt", "yuv420p", "-preset", "ultrafast", "-shortest"];
    ffmpeg(sources.into_iter().chain(clip), &upload);
    for (language, words) in [("en", "A reel"), ("de", "Ein Film")] {
        let captions = folder.path().join(format!("talk.{language}.srt"));
        std::fs::write(captions, format!("{CAPTION}{words}\n")).unwrap();
    }
    let playlist = publish(upload, "talk", &media);
    let asset = std::fs::read_to_string(media.join("assets/talk/asset.json")).unwrap();
    let asset: Value = serde_json::from_str(&asset).unwrap();
    let beside = |name: &str| format!("{}/{name}", asset["generation"].as_str().unwrap());
    let about = json!({
        "title": "A talk",
        "storyboard": beside("storyboard.vtt"),
        "poster": beside("poster.jpg"),
    });

    let gate = Worker::over(&media);
    let (url, resource) = (format!("{}/{playlist}", gate.url()), format!("{}/assets/talk/*", gate.url()));
    let signed = keys().sign(&Order { resource: Some(resource.clone()), ..Keys::order(&url) });
    let condition = json!({ "DateLessThan": { "AWS:EpochTime": LONG_AGO } });
    let policy = json!({ "Statement": [{ "Resource": resource, "Condition": condition }] }).to_string();
    let over = format!("{url}?{}", keys().seal(&policy));
    let seen = run(node("viewer.mjs").args([signed, over, about.to_string()]));
    serde_json::from_str(&seen).unwrap()
});

#[test]
fn keys_do_all_that_the_controls_do() {
    let seen = &SEEN["keys"];
    assert_eq!(seen["mutedAtFirst"], true, "{seen}");
    assert_eq!([&seen["pausedByK"], &seen["mutedByM"], &seen["halfBy5"]], [true, false, true], "{seen}");
    assert_eq!(seen["moves"], json!({ "j": -10, "l": 10, "ArrowLeft": -5, "ArrowRight": 5 }));
    assert_eq!([&seen["captionsByC"], &seen["captionsByCAgain"]], [&json!(["en"]), &json!([])], "{seen}");
    assert_eq!(seen["home"], "0 seconds of 24 seconds");
}

#[test]
fn a_menu_is_gone_through_by_keys_and_gives_the_focus_back() {
    let seen = &SEEN["keys"];
    assert_eq!(seen["focused"], seen["qualities"][0], "{seen}");
    assert!(seen["qualities"][0].as_str().unwrap().starts_with("Automatic"), "{seen}");
    assert!(seen["focusedAfter"].as_str().unwrap().starts_with("Quality: fixed"), "{seen}");
    assert_eq!([&seen["lowest"], &seen["speed"]], [&json!(234), &json!(1.5)], "{seen}");
}

#[test]
fn controls_stay_with_whoever_uses_keys_and_leave_whoever_only_watches() {
    assert_eq!(SEEN["keys"]["hiddenFromKeys"], false, "{}", SEEN["keys"]);
    assert_eq!(SEEN["touch"]["hidden"], true, "{}", SEEN["touch"]);
}

/// Thumbnails of 160 × 90, one for each 2 s, four in a row.
#[test]
fn the_bar_shows_what_there_is_to_see_at_a_time() {
    let preview = |at: &str| json!({ "sheet": "storyboard-1.jpg", "signed": true, "at": at });
    assert_eq!(SEEN["keys"]["preview"], preview("-320px 0px"), "at 5 s");
    assert_eq!(SEEN["pointer"]["preview"], preview("-320px -90px"), "at 12 s");
}

#[test]
fn dragging_goes_there_when_the_bar_is_let_go() {
    let seen = &SEEN["pointer"];
    assert_eq!([&seen["timeWhileHeld"], &seen["share"]], [&json!(true), &json!(0.9)], "{seen}");
    assert_eq!([&seen["pausedByClick"], &seen["muted"]], [true, false], "{seen}");
}

#[test]
fn captions_are_above_the_controls_and_below_without_them() {
    let seen = &SEEN["pointer"];
    assert_eq!(seen["captions"], json!(["de"]));
    assert!(seen["lineUnderControls"].as_i64().unwrap() < -1, "{seen}");
    assert_eq!(seen["lineWithout"], "auto", "{seen}");
}

#[test]
fn a_finger_shows_the_controls_before_it_works_them() {
    let seen = &SEEN["touch"];
    assert_eq!(seen["afterFirst"], json!({ "hidden": false, "paused": false }), "{seen}");
    assert_eq!(seen["afterSecond"], json!({ "paused": true }), "{seen}");
    assert_eq!(seen["wide"], 360, "nothing is wider than the telephone");
}

#[test]
fn nothing_moves_by_itself_where_that_is_not_wanted_and_whoever_starts_it_hears_it() {
    let seen = &SEEN["still"];
    assert_eq!([&seen["time"], &seen["muted"]], [&json!(0), &json!(false)], "{seen}");
}

#[test]
fn an_edge_that_does_not_answer_is_tried_again() {
    let seen = &SEEN["cut"];
    assert!(seen["problem"].as_str().unwrap().contains("does not answer"), "{seen}");
    assert_eq!(seen["again"], true, "{seen}");
}

#[test]
fn a_link_that_has_expired_says_so_and_plays_nothing() {
    let seen = &SEEN["over"];
    let words = seen["problem"].as_str().unwrap();
    assert!(words.starts_with("This link has expired") && words.contains("403 AccessDenied"), "{seen}");
    assert_eq!(seen["paused"], true);
}

#[test]
fn an_address_without_a_link_says_what_is_missing() {
    assert!(SEEN["nothing"]["problem"].as_str().unwrap().contains("nothing to watch"), "{}", SEEN["nothing"]);
}

#[test]
fn a_link_whose_policy_says_what_cannot_be_is_taken_apart_as_far_as_it_goes() {
    let seen = &SEEN["odd"];
    assert!(seen["says"].as_str().unwrap().contains("cannot be read"), "{seen}");
    assert_eq!(seen["terms"], json!(["Key pair", "Signature"]), "it claims nothing of what the link opens");
}

#[test]
fn the_page_asks_its_own_server_and_the_edge_and_is_led_nowhere_else() {
    let seen = &SEEN["abroad"];
    assert_eq!(seen["pictures"], false, "{seen}");
    for seen in [seen, &SEEN["keys"]] {
        assert_eq!(seen["asked"], SEEN["origins"], "{seen}");
    }
    for story in ["keys", "pointer", "touch", "still", "abroad", "odd"] {
        assert_eq!(SEEN[story]["complaints"], json!([]), "{story}");
    }
}

#[test]
fn the_page_plays_with_the_hls_js_that_is_pinned() {
    let published = root().join("node_modules/hls.js");
    let vendored = root().join("transcoder/studio/vendor");
    for (theirs, ours) in
        [("dist/hls.min.mjs", "hls.min.mjs"), ("dist/hls.worker.js", "hls.worker.js"), ("LICENSE", "LICENSE")]
    {
        let [theirs, ours] = [published.join(theirs), vendored.join(ours)];
        let is_same = std::fs::read(&theirs).unwrap() == std::fs::read(&ours).unwrap();
        assert!(is_same, "copy {} to {}", theirs.display(), ours.display());
    }
}
