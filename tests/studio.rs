//! The studio by clicks: videos are put in, followed, watched, shared and mended by somebody in a browser, who has
//! nothing but the address and the token.
//!
//! The service is `transcoder serve` as it is installed, and the gate is the built Worker, which reads what that publishes
//! as soon as it is there. What is clicked, and what is to be seen then, is in `tools/studio.mjs`.

#![allow(missing_docs)]

use std::path::PathBuf;
use std::sync::Mutex;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{API_TOKEN, Gate, OverS3, S3, Service, ffmpeg, film, keys, node, root, run, tool};

/// Two stories at once would be more than two cores can decode for.
static TURN: Mutex<()> = Mutex::new(());

/// A service with nothing in it, before an edge.
struct Studio {
    folder: TempDir,
    edge: OverS3,
    service: Service,
}

impl Studio {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let media = folder.path().join("media");
        std::fs::create_dir(&media).unwrap();
        let settings = json!({ "TRUSTED_KEYS": keys().trusted, "LOG_ONE_IN": "1" });
        let edge = OverS3::before(S3::live(&media), &settings);
        let service = Service::before(edge.url(), &media, |_| ());
        Self { folder, edge, service }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Has a story happen. What is wrong with it ends the test.
    fn tell(&self, story: &str, files: &Value) {
        let settings = json!({
            "studio": self.service.url,
            "edge": self.edge.url(),
            "token": API_TOKEN,
            "files": files,
        });
        print!("{}", run(node("studio.mjs").arg(story).arg(settings.to_string())));
    }
}

#[test]
fn a_person_puts_videos_in_follows_watches_shares_and_mends_them_by_clicks() {
    let _turn = TURN.lock();
    let studio = Studio::open();
    let files = studio.path("files");
    for name in ["", "second"] {
        std::fs::create_dir(files.join(name)).unwrap();
    }
    let path = |name: &str| files.join(name).to_str().unwrap().to_owned();

    // Somebody else's footage, as it comes from a camera's software.
    std::fs::copy(root().join("target/tools/bin/footage/bigbuckbunny.mp4"), files.join("bunny.mp4")).unwrap();
    film(24.0, "640x360", &files.join("picture.mp4"));
    std::fs::write(
        files.join("talk.srt"),
        "1\n00:00:00,400 --> 00:00:23,600\nNobody gets in without a ticket.\n",
    )
    .unwrap();
    let captions = "-map 0 -map 1 -c copy -c:s mov_text -metadata:s:s:0 language=eng";
    let inputs = ["-i", &path("picture.mp4"), "-i", &path("talk.srt")];
    ffmpeg(inputs.into_iter().chain(captions.split(' ')), &files.join("talk.mp4"));
    film(6.0, "640x360", &files.join("second/talk.mp4"));
    film(110.0, "320x180", &files.join("long.mp4"));
    std::fs::write(files.join("broken.mp4"), vec![7; 50_000]).unwrap();

    studio.tell(
        "story",
        &json!({
            "bunny": path("bunny.mp4"),
            "talk": path("talk.mp4"),
            "talkAgain": path("second/talk.mp4"),
            "long": path("long.mp4"),
            "broken": path("broken.mp4"),
        }),
    );
}

#[test]
fn the_library_is_good_with_no_video_with_one_and_with_five_hundred_on_every_screen() {
    let _turn = TURN.lock();
    let studio = Studio::open();
    let poster = studio.path("poster.jpg");
    ffmpeg("-f lavfi -i testsrc2=s=640x360 -frames:v 1".split(' '), &poster);
    studio.tell("library", &json!({ "poster": poster }));
}

/// What stands for S3 in these stories refuses whom S3 refuses.
#[test]
fn a_bucket_that_is_a_folder_is_read_by_who_has_its_key_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("a")).unwrap();
    std::fs::write(folder.path().join("a/1.m4s"), b"0123456789").unwrap();
    std::fs::write(folder.path().join("outside"), b"").unwrap();
    let bucket = S3::live(folder.path());
    let read = r"
import json, sys
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session
client = lambda secret: Session().create_client(
    's3', endpoint_url=sys.argv[1], region_name='us-east-1', aws_access_key_id='AKIDEXAMPLE',
    aws_secret_access_key=secret, config=Config(s3={'addressing_style': 'path'}, retries={'max_attempts': 1}))
def get(secret, **asked):
    try:
        answer = client(secret).get_object(Bucket='media', **asked)
        return [answer['ResponseMetadata']['HTTPStatusCode'], answer['Body'].read().decode(), answer['ETag']]
    except ClientError as error:
        return [error.response['ResponseMetadata']['HTTPStatusCode'], error.response['Error']['Code'], '']
right, wrong = sys.argv[2], 'wrong'
whole = get(right, Key='a/1.m4s')
print(json.dumps([whole[:2], get(wrong, Key='a/1.m4s')[:2], get(right, Key='a/2.m4s')[:2],
    get(right, Key='a/1.m4s', Range='bytes=2-4')[:2], get(right, Key='a/1.m4s', Range='bytes=-3')[:2],
    get(right, Key='a/1.m4s', Range='bytes=10-')[:2], get(right, Key='a/1.m4s', IfNoneMatch=whole[2])[:2],
    get(right, Key='a')[:2], get(right, Key='a/../outside')[:2]]))";
    let origin = bucket.origin();
    let secret = origin["S3_SECRET_ACCESS_KEY"].as_str().unwrap();
    let told: Value =
        serde_json::from_str(&run(tool("python").args(["-c", read, bucket.url(), secret]))).unwrap();
    let expected = json!([
        [200, "0123456789"],
        [403, "SignatureDoesNotMatch"],
        [404, "NoSuchKey"],
        [206, "234"],
        [206, "789"],
        [416, "InvalidRange"],
        [304, "304"],
        [404, "NoSuchKey"],
        [404, "NoSuchKey"],
    ]);
    assert_eq!(told, expected);
}
