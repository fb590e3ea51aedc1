use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions,
    PutResult, Result as StoreResult,
};

use sha2::{Digest, Sha256};

use super::*;
use crate::asset::{self, Asset, Objects};
use crate::package::{Edition, MediaFile, Package};
use crate::{CancellationToken, Progress};

/// A bucket that writes down what is put and deleted, and refuses what it is told to refuse.
#[derive(Debug, Default)]
struct Recorder {
    bucket: InMemory,
    log: Mutex<Vec<String>>,
    refused: Option<&'static str>,
    /// Whether what is refused is carried out all the same, without anybody's hearing of it.
    is_lost: bool,
}

impl fmt::Display for Recorder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("recorder")
    }
}

#[async_trait]
impl ObjectStore for Recorder {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        let attribute = |name| options.attributes.get(&name).map_or("-", |value| value.as_ref()).to_owned();
        let (kind, cache) = (attribute(Attribute::ContentType), attribute(Attribute::CacheControl));
        self.log.lock().unwrap().push(format!("put {key} {kind} {cache}"));
        pause().await;
        let is_refused = self.refused.is_some_and(|refused| key.as_ref().ends_with(refused));
        if is_refused && !self.is_lost {
            return Err(out_of_order());
        }
        let done = self.bucket.put_opts(key, payload, options).await;
        if is_refused { Err(out_of_order()) } else { done }
    }

    async fn put_multipart_opts(
        &self,
        key: &Key,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        self.bucket.put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> StoreResult<GetResult> {
        pause().await;
        self.bucket.get_opts(key, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, StoreResult<Key>>,
    ) -> BoxStream<'static, StoreResult<Key>> {
        self.bucket.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.bucket.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> StoreResult<ListResult> {
        self.bucket.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> StoreResult<()> {
        self.bucket.copy_opts(from, to, options).await
    }
}

fn out_of_order() -> object_store::Error {
    object_store::Error::Generic { store: "recorder", source: "out of order".into() }
}

/// Lets others have their turn, at another moment each time.
async fn pause() {
    for _ in 0..asset::nonce() % 4 {
        tokio::task::yield_now().await;
    }
}

fn store(recorder: &Arc<Recorder>) -> Store {
    let place = Place::Bucket { name: "media".into(), endpoint: None };
    Store { objects: Arc::clone(recorder) as Arc<dyn ObjectStore>, prefix: "films".into(), place }
}

const MINUTE: &str = "2026-11-22T10:00";

/// A package of which all but the names is the same: three files and a playlist, and the folder that they are in.
fn package(second: u32) -> (Package, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("00001.m4s");
    fs::write(&path, "media").unwrap();
    let asset: AssetId = "a".parse().unwrap();
    let now: jiff::Timestamp = format!("{MINUTE}:{second:02}Z").parse().unwrap();
    let generation = Generation::new(now, 1);
    let edition = Edition { asset: asset.clone(), generation: generation.clone(), created: now };
    let file = |name: &str| MediaFile {
        key: edition.key(&format!("360p/{name}")),
        path: path.clone(),
        bytes: 5,
        sha256: [0; 32],
    };
    let list = format!("{second:064x}  360p/init.mp4\n");
    let multivariant = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{generation}/360p/index.m3u8\n");
    let sum = |text: &str| asset::hexadecimal(&Sha256::digest(text));
    let objects = Objects {
        list: "sha256sums.txt".into(),
        list_sha256: sum(&list),
        playlist_sha256: sum(&multivariant),
        ..Objects::default()
    };
    let uploaded = Some(now);
    let package = Package {
        media: ["init.mp4", "00001.m4s", "00002.m4s"].map(file).into(),
        texts: vec![
            (edition.key("360p/index.m3u8"), "media playlist".into()),
            (edition.key("sha256sums.txt"), list),
        ],
        multivariant,
        description: Asset { generation, uploaded, objects, ..asset::described(&asset, now) },
        edition,
    };
    (package, folder)
}

async fn publish(store: &Store, second: u32) -> Result<(), Error> {
    let (package, _folder) = package(second);
    store.publish(&package, &(), &CancellationToken::new()).await
}

async fn objects(recorder: &Recorder) -> Vec<String> {
    let found: Vec<ObjectMeta> = recorder.bucket.list(None).try_collect().await.unwrap();
    let mut keys: Vec<_> = found.into_iter().map(|object| object.location.to_string()).collect();
    keys.sort();
    keys
}

fn log(recorder: &Recorder) -> Vec<String> {
    std::mem::take(&mut *recorder.log.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What is played and what is described, which must never be two things once nobody is publishing.
async fn standing(store: &Store) -> Option<Generation> {
    let standing = store.standing(&"a".parse().unwrap()).await.unwrap();
    assert_eq!(standing.described().map(|summary| summary.generation), standing.played());
    standing.played()
}

fn generation(second: u32) -> Generation {
    package(second).0.edition.generation
}

#[tokio::test]
async fn what_is_named_is_there_before_what_names_it() {
    let recorder = Arc::new(Recorder::default());
    publish(&store(&recorder), 0).await.unwrap();
    let mut log = log(&recorder);
    log[1..4].sort();
    let base = "put films/assets/a";
    let generation = format!("{base}/20261122t100000z-00000001");
    let immutable = "max-age=31536000, immutable";
    assert_eq!(
        log,
        [
            format!("{generation}/sha256sums.txt text/plain; charset=utf-8 {immutable}"),
            format!("{generation}/360p/00001.m4s video/iso.segment {immutable}"),
            format!("{generation}/360p/00002.m4s video/iso.segment {immutable}"),
            format!("{generation}/360p/init.mp4 video/mp4 {immutable}"),
            format!("{generation}/360p/index.m3u8 application/vnd.apple.mpegurl {immutable}"),
            format!("{generation}/multivariant.txt text/plain; charset=utf-8 {immutable}"),
            format!("{generation}/asset.json application/json {immutable}"),
            format!("{base}/asset.json application/json no-cache"),
            format!("{base}/index.m3u8 application/vnd.apple.mpegurl no-cache"),
        ]
    );
}

#[tokio::test]
async fn whatever_fails_what_was_played_is_played_on_and_the_rest_can_be_taken_back() {
    let mut recorder = Arc::new(Recorder::default());
    publish(&store(&recorder), 1).await.unwrap();
    let before = objects(&recorder).await;
    for is_lost in [false, true] {
        for refused in ["00002.m4s", "360p/index.m3u8", "1/asset.json", "a/asset.json", "a/index.m3u8"] {
            let broken = Arc::get_mut(&mut recorder).unwrap();
            (broken.refused, broken.is_lost) = (Some(refused), is_lost);
            let outcome = publish(&store(&recorder), 2).await;
            Arc::get_mut(&mut recorder).unwrap().refused = None;
            let store = store(&recorder);
            let asset = "a".parse().unwrap();
            if refused == "a/index.m3u8" && is_lost {
                outcome.unwrap();
                assert_eq!(standing(&store).await, Some(generation(2)));
                continue;
            }
            assert!(outcome.unwrap_err().to_string().ends_with("out of order"), "{refused}");
            assert_eq!(store.played(&asset).await.unwrap(), Some(generation(1)), "{refused}");
            store.discard(&asset, &generation(2)).await.unwrap();
            assert_eq!(objects(&recorder).await, before, "{refused}");
            assert_eq!(standing(&store).await, Some(generation(1)), "{refused}");
        }
    }
}

#[tokio::test]
async fn a_first_publication_that_is_taken_back_leaves_nothing() {
    let recorder = Arc::new(Recorder { refused: Some("a/index.m3u8"), ..Recorder::default() });
    let store = store(&recorder);
    publish(&store, 0).await.unwrap_err();
    store.discard(&"a".parse().unwrap(), &generation(0)).await.unwrap();
    assert_eq!(objects(&recorder).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_played_is_not_discarded() {
    let recorder = Arc::new(Recorder::default());
    let store = store(&recorder);
    publish(&store, 0).await.unwrap();
    let before = objects(&recorder).await;
    store.discard(&"a".parse().unwrap(), &generation(0)).await.unwrap();
    assert_eq!(objects(&recorder).await, before);
}

#[tokio::test]
async fn cancelled_it_changes_nothing_that_is_played() {
    let recorder = Arc::new(Recorder::default());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let (package, _folder) = package(0);
    let error = store(&recorder).publish(&package, &(), &cancel).await.unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert_eq!(store(&recorder).played(&package.edition.asset).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_put_is_not_put_again() {
    let mut recorder = Arc::new(Recorder { refused: Some("360p/index.m3u8"), ..Recorder::default() });
    publish(&store(&recorder), 0).await.unwrap_err();
    let mut first = log(&recorder);
    first.retain(|line| line.contains("m4s") || line.contains("mp4"));
    assert_eq!(first.len(), 3);
    // Of one file another process only left a part, and of another a name that nobody knows.
    recorder
        .bucket
        .put(&Key::from("films/assets/a/20261122t100000z-00000001/360p/00001.m4s"), "med".into())
        .await
        .unwrap();
    recorder
        .bucket
        .put(&Key::from("films/assets/a/20261122t100000z-00000001/.check"), "".into())
        .await
        .unwrap();
    Arc::get_mut(&mut recorder).unwrap().refused = None;
    publish(&store(&recorder), 0).await.unwrap();
    let names: Vec<_> = log(&recorder)
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap().trim_start_matches("films/assets/a/").to_owned())
        .collect();
    let generation = "20261122t100000z-00000001";
    let expected = ["360p/00001.m4s", "360p/index.m3u8", "multivariant.txt", "asset.json"]
        .map(|name| format!("{generation}/{name}"));
    assert_eq!(names[..4], expected);
    assert_eq!(names[4..], ["asset.json", "index.m3u8"]);
    assert!(!objects(&recorder).await.iter().any(|key| key.ends_with("/.check")));
    // And once it is published, there is nothing left to do.
    store(&recorder).switch_again(0).await;
    assert_eq!(log(&recorder), Vec::<String>::new());
}

impl Store {
    async fn switch_again(&self, second: u32) {
        let (package, _folder) = package(second);
        let switch = publish::Switch {
            asset: &package.edition.asset,
            generation: &package.edition.generation,
            uploaded: None,
            description: Vec::new(),
            playlist: Vec::new(),
        };
        self.switch(&switch).await.unwrap();
    }
}

#[tokio::test]
async fn what_another_package_left_there_is_of_no_use() {
    let mut recorder = Arc::new(Recorder { refused: Some("360p/index.m3u8"), ..Recorder::default() });
    publish(&store(&recorder), 0).await.unwrap_err();
    Arc::get_mut(&mut recorder).unwrap().refused = None;
    log(&recorder);
    // Encoded again: other bytes, but as many of them.
    let (mut package, _folder) = package(0);
    package.texts[1].1 = package.texts[1].1.replace("360p/init.mp4", "360p/xxit.mp4");
    store(&recorder).publish(&package, &(), &CancellationToken::new()).await.unwrap();
    let media = log(&recorder).into_iter().filter(|line| line.contains(".m4s")).count();
    assert_eq!(media, 2);
}

#[tokio::test]
async fn what_is_large_is_put_in_parts() {
    let recorder = Arc::new(Recorder::default());
    let (mut package, folder) = package(0);
    let path = folder.path().join("large");
    let bytes: Vec<u8> = (0..20_u32 << 20).map(|at| u8::try_from(at % 251).unwrap()).collect();
    fs::write(&path, &bytes).unwrap();
    package.media[1].path = path;
    package.media[1].bytes = bytes.len() as u64;
    store(&recorder).publish(&package, &(), &CancellationToken::new()).await.unwrap();
    assert!(!log(&recorder).iter().any(|line| line.contains("00001.m4s")));
    let found = store(&recorder).find(&package.media[1].key).await.unwrap().unwrap();
    assert!(found.bytes == bytes);
}

/// Publishes twelve generations at once, and says which of them were.
async fn all_at_once(store: &Store) {
    let outcomes = join_all((0..12).map(|second| publish(store, second))).await;
    assert!(outcomes[11].is_ok(), "{:?}", outcomes[11]);
    for outcome in outcomes {
        assert!(matches!(outcome, Ok(()) | Err(Error::Superseded(_))), "{outcome:?}");
    }
    assert_eq!(standing(store).await, Some(generation(11)));
}

#[tokio::test]
async fn whoever_publishes_at_once_the_newest_upload_is_played_and_described() {
    for _ in 0..20 {
        all_at_once(&store(&Arc::new(Recorder::default()))).await;
    }
}

#[tokio::test]
async fn the_same_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let path = folder.path().join(round.to_string());
        let store = Store::open(path.to_str().unwrap(), &Access::default()).unwrap();
        all_at_once(&store).await;
    }
}

/// Removes something as soon as all media are put.
struct Remover(Arc<Recorder>, Key);

impl Progress for Remover {
    fn published(&self, done: u64, total: u64) {
        if done == total {
            self.0.bucket.delete(&self.1).now_or_never().unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_removed_while_it_is_published_is_not_played_until_it_is_put_again() {
    let recorder = Arc::new(Recorder::default());
    let store = store(&recorder);
    let (package, _folder) = package(1);
    let remover = Remover(recorder.clone(), Key::from(store.key(&package.media[0].key)));
    let error = store.publish(&package, &remover, &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, Error::Removed(_)) && error.class() == Class::Busy, "{error}");
    assert_eq!(standing(&store).await, None);
    store.publish(&package, &(), &CancellationToken::new()).await.unwrap();
    assert_eq!(standing(&store).await, Some(generation(1)));
    assert!(objects(&recorder).await.contains(&store.key(&package.media[0].key)));
}

#[tokio::test]
async fn what_is_older_does_not_replace_what_is_newer() {
    let recorder = Arc::new(Recorder::default());
    let store = store(&recorder);
    publish(&store, 2).await.unwrap();
    let error = publish(&store, 1).await.unwrap_err();
    assert_eq!(error.to_string(), "a newer upload of a is published already");
    assert_eq!(error.class(), Class::Stopped);
    assert_eq!(standing(&store).await, Some(generation(2)));
}

#[tokio::test]
async fn what_was_played_before_can_be_played_again() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = Store::open(folder.path().to_str().unwrap(), &Access::default()).unwrap();
    for store in [store(&Arc::new(Recorder::default())), in_folder] {
        let asset = "a".parse().unwrap();
        let error = store.roll_back(&asset, None).await.unwrap_err();
        assert!(error.to_string().contains("has no asset a that can be played"), "{error}");
        publish(&store, 1).await.unwrap();
        let error = store.roll_back(&asset, None).await.unwrap_err();
        assert!(matches!(error, Error::NothingBefore(_)), "{error}");
        publish(&store, 2).await.unwrap();
        assert_eq!(store.roll_back(&asset, None).await.unwrap(), generation(1));
        assert_eq!(standing(&store).await, Some(generation(1)));
        assert_eq!(store.roll_back(&asset, Some(&generation(2))).await.unwrap(), generation(2));
        assert_eq!(standing(&store).await, Some(generation(2)));
        store.delete(&generation(1).key_of(&asset, "360p/init.mp4")).await.unwrap();
        let error = store.roll_back(&asset, None).await.unwrap_err();
        assert!(error.to_string().ends_with("complete: 360p/init.mp4 is not there"), "{error}");
        assert_eq!(standing(&store).await, Some(generation(2)));
    }
}

#[tokio::test]
async fn the_catalogue_is_what_the_bucket_says() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = Store::open(folder.path().to_str().unwrap(), &Access::default()).unwrap();
    for store in [store(&Arc::new(Recorder::default())), in_folder] {
        let names = async |after: Option<&str>, limit| {
            let after = after.map(|name| name.parse().unwrap());
            let assets = store.assets(after.as_ref(), limit).await.unwrap();
            assets.iter().map(|asset| asset.asset.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(None, 10).await, "");
        for name in ["b", "a-1", "a", "unfinished"] {
            let (mut package, _folder) = package(0);
            let asset: AssetId = name.parse().unwrap();
            package.edition.asset = asset.clone();
            package.description.asset = asset.clone();
            package.media.clear();
            if name == "unfinished" {
                store
                    .put("assets/unfinished/20261122t100000z-00000001/x.mp4", vec![1], MUTABLE)
                    .await
                    .unwrap();
            } else {
                store.publish(&package, &(), &CancellationToken::new()).await.unwrap();
            }
        }
        assert_eq!(names(None, 10).await, "a a-1 b");
        assert_eq!(names(None, 2).await, "a a-1");
        assert_eq!(names(Some("a"), 1).await, "a-1");
        assert_eq!(names(Some("b"), 5).await, "");
        assert!(store.delete_asset(&"a-1".parse().unwrap()).await.unwrap());
        assert!(!store.delete_asset(&"a-1".parse().unwrap()).await.unwrap());
        assert_eq!(names(None, 10).await, "a b");
        let stored = store.generations(&"unfinished".parse().unwrap()).await.unwrap();
        assert_eq!(
            (stored.len(), stored[0].is_complete, stored[0].objects, stored[0].bytes),
            (1, false, 1, 1)
        );
    }
}

#[tokio::test]
async fn what_a_killed_process_had_half_written_goes_with_the_next_publication() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap(), &Access::default()).unwrap();
    let asset = folder.path().join("assets/a");
    let half = [asset.join("index.m3u8#1"), asset.join(generation(0).to_string()).join("360p/00001.m4s#1")];
    for path in &half {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "half").unwrap();
    }
    publish(&store, 0).await.unwrap();
    assert!(half.iter().all(|path| !path.exists()));
}

#[test]
fn a_place_is_a_folder_or_a_bucket() {
    let open = |target: &str| Store::open(target, &Access::default());
    let bucket = open("s3://media/films/2026/").unwrap();
    assert_eq!(bucket.key("assets/a/index.m3u8"), "films/2026/assets/a/index.m3u8");
    assert_eq!(open("s3://media").unwrap().key("x"), "x");
    for bad in ["", "s3://", "s3:///x", "s3://media/../x", "s3://me dia", "gs://media", "https://a/b"] {
        assert!(matches!(open(bad), Err(Error::Target(_))), "{bad}");
    }
    let access = Access { endpoint: Some("127.0.0.1:9000".into()), region: None };
    assert!(matches!(Store::open("s3://media", &access), Err(Error::Endpoint(_))));
}
