use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use rstest::rstest;
use url::Url;

use super::local::{is_staged, staged_by};
use super::multipart::multipart_etag;
use super::*;
use crate::actions::MemoryJournal;

#[test]
fn the_etag_of_a_multipart_object_is_the_md5_of_its_parts_md5s() {
    let (hello, world) = ("\"5d41402abc4b2a76b9719d911017c592\"", "7d793037a0760186574b0282f2f435e7");
    let etag = |parts: &[&str]| multipart_etag(&parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
    assert_eq!(etag(&[hello]).as_deref(), Some("62109206880d38a4010a98e11243924a-1"));
    assert_eq!(etag(&[hello, world]).as_deref(), Some("065947336a2f2a95ba8899f3675c3be6-2"));
    assert_eq!(etag(&["not an md5"]), None);
}

#[rstest]
#[case(".000001.2.ab.staged", true)]
#[case(".000001.nightly.2.ab.staged", false)]
#[case(".2.ab.staged", false)]
#[case("000001.2.ab.staged", false)]
#[case(".000001.2.cd.staged", false)]
fn staged_files_are_told_apart(#[case] name: &str, #[case] ours: bool) {
    assert_eq!(is_staged(name, ".2.ab.staged"), ours);
}

#[rstest]
#[case(".000001.2.ab.staged", Some("2-ab"))]
#[case(".000001.nightly.2.ab.staged", Some("nightly.2-ab"))]
#[case(".x.2.ab.staged", None)]
#[case(".000001.ab.staged", None)]
#[case("000001.2.ab.staged", None)]
#[case(".000001.2.ab.parquet", None)]
fn staged_files_say_whose_they_are(#[case] name: &str, #[case] version: Option<&str>) {
    assert_eq!(staged_by(name).map(|(_, version)| version).as_deref(), version);
}

#[rstest]
#[case::whole(None, None, None)]
#[case::cut(Some(""), Some("it has 0 bytes, but 4 were staged"), None)]
#[case::longer(Some("rows!"), Some("it has 5 bytes, but 4 were staged"), None)]
#[case::flipped(Some("rowz"), None, Some("it has the staged size, but different content"))]
#[tokio::test]
async fn a_file_that_was_damaged_is_told_before_it_is_published(
    #[case] damage: Option<&str>,
    #[case] by_size: Option<&str>,
    #[case] by_content: Option<&str>,
) {
    let folder = tempfile::tempdir().unwrap();
    let ctx = crate::JobContext::builder("job").build().unwrap();
    let root = Location::from(folder.path());
    let files = vec![(root.join("day=1/a"), "rows".into()), (root.join("day=2/b"), "rows".into())];
    let actions = ctx.staging("out").stage_files(&root, files).await.unwrap();
    let PublishAction::RenameFile { from, .. } = &actions[1] else { panic!("{}", actions[1]) };
    if let Some(content) = damage {
        std::fs::write(from.as_str(), content).unwrap();
    }
    for (check, said) in [(Check::Size, by_size), (Check::Content, by_size.or(by_content))] {
        let verified = crate::publish::verify(ctx.stores(), ctx.publishers(), &actions, check).await;
        match said {
            None => verified.unwrap(),
            Some(said) => {
                let error = verified.unwrap_err();
                assert_eq!((error.kind(), error.get("partition")), (ErrorKind::Lost, Some("day=2")));
                assert!(error.message().ends_with(said), "{error}");
            }
        }
    }
    // The file at its target will do.
    if damage.is_none() {
        for _ in 0..2 {
            ctx.publish(&actions[1..]).await.unwrap();
            crate::publish::verify(ctx.stores(), ctx.publishers(), &actions, Check::Content).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_half_written_goes_when_it_is_old() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = crate::JobContext::builder("job").build().unwrap();
    let root = Location::from(folder.path());
    let (store, path) = ctx.stores().open(&root).unwrap();
    tokio::fs::create_dir(folder.path().join("a")).await.unwrap();
    for name in ["a/head.json#1", "x#12", "x#y", "#", "x"] {
        std::fs::write(folder.path().join(name), "").unwrap();
    }
    let sweep = async |before: DateTime<Utc>, dry_run: bool| {
        store.staging.sweep_half_written(&path, before, dry_run).await.unwrap()
    };
    let (now, soon) = (Utc::now(), Utc::now() + chrono::TimeDelta::hours(1));
    let both = [root.join("a/head.json#1"), root.join("x#12")];
    assert_eq!(sweep(now - chrono::TimeDelta::hours(1), false).await, []);
    assert_eq!((sweep(soon, true).await, sweep(soon, false).await), (both.to_vec(), both.to_vec()));
    assert_eq!(sweep(soon, false).await, []);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 4, "what others have named so stays");
    assert_eq!(store.staging.sweep_half_written(&path.clone().join("no"), soon, false).await.unwrap(), []);
}

#[rstest]
#[tokio::test]
async fn many_parts_become_one_object(
    #[values(0, 1, 999, 1000, 1001, 25_000)] size: usize,
    #[values(7, 1000, 4096)] chunk: usize,
) {
    let store = Arc::new(InMemory::new());
    let url = Url::parse("memory:///").unwrap();
    let staging = MultipartStaging::new(url, store.clone(), store.clone()).with_part_bytes(1000).with_concurrency(1);
    let (journal, path) = (MemoryJournal::default(), Path::from("out/x"));
    let run = crate::JobContext::builder("job").build().unwrap().run().clone();
    let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();

    let mut file = staging.create(&journal, &run, &Path::from("out"), &path).await.unwrap();
    for part in content.chunks(chunk) {
        file.write(Bytes::copy_from_slice(part)).await.unwrap();
    }
    let action = file.finish().await.unwrap();
    assert!(store.head(&path).await.is_err(), "visible before it was published");
    let PublishAction::CompleteUpload { parts, bytes, .. } = &action else { panic!("{action}") };
    assert_eq!((parts.len(), *bytes), (size.div_ceil(1000).max(1), size as u64));
    for _ in 0..2 {
        staging.publish(&action).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), content);
    }
    for action in journal.noted() {
        staging.discard(&action).await.unwrap();
    }
    assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), content);
    store.put(&path, PutPayload::from_static(b"other")).await.unwrap();
    assert_eq!(staging.publish(&action).await.unwrap_err().kind(), ErrorKind::Lost);
}

#[rstest]
#[case::on_disk(true)]
#[case::in_memory(false)]
#[tokio::test]
async fn only_the_folder_of_a_run_is_removed_as_a_whole(#[case] on_disk: bool) {
    let folder = tempfile::tempdir().unwrap();
    let root = if on_disk { Location::from(folder.path()) } else { Location::from("memory:/lake") };
    let ctx = crate::JobContext::builder("job").build().unwrap();
    let (store, _) = ctx.stores().open(&root).unwrap();
    let put = async |key: &str| {
        store.staging.put_unseen(vec![(root.join(key).resolve().unwrap().path, "x".into())]).await.unwrap();
    };
    for key in ["_versions/run-1/k=1/a", "_versions/run-1/b", "_versions/run-12/c", "k=1/d"] {
        put(key).await;
    }
    let discard = async |key: &str| {
        let action = DiscardAction::Folder { location: root.join(key) };
        crate::publish::discard(ctx.stores(), ctx.publishers(), &[action]).await
    };
    discard("_versions/run-1").await.unwrap();
    discard("_versions/run-1").await.unwrap();
    for key in ["k=1", "_versions", ""] {
        assert_eq!(discard(key).await.unwrap_err().kind(), ErrorKind::Unexpected, "{key}");
    }
    let left: Vec<_> = store.objects.list(Some(&root.resolve().unwrap().path)).try_collect().await.unwrap();
    let mut left: Vec<String> = left.iter().map(|m| m.location.filename().unwrap().to_owned()).collect();
    left.sort();
    assert_eq!(left, ["c", "d"]);
}

#[tokio::test]
async fn what_would_fail_after_the_commit_is_found_before() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = crate::JobContext::builder("job").build().unwrap();
    let root = Location::from(folder.path());
    tokio::fs::create_dir(folder.path().join("taken.parquet")).await.unwrap();
    tokio::fs::write(folder.path().join("file"), "").await.unwrap();
    let long = format!("p={}/x.parquet", "v".repeat(300));
    for target in ["taken.parquet", long.as_str(), "file/x.parquet"] {
        let error = ctx.staging("out").stage_file(&root, &root.join(target)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{target}");
    }
}

#[rstest]
#[case::on_disk(true)]
#[case::in_memory(false)]
#[tokio::test]
async fn a_batch_of_unseen_files_names_the_one_that_fails(#[case] on_disk: bool) {
    let folder = tempfile::tempdir().unwrap();
    let root = if on_disk { Location::from(folder.path()) } else { Location::from("memory:/lake") };
    let ctx = crate::JobContext::builder("job").build().unwrap();
    let out = ctx.staging("out");
    let file = |name: &str| (root.join(name), bytes::Bytes::copy_from_slice(name.as_bytes()));
    let hashes = out.put_unseen(vec![file("k=1/a"), file("k=2/b")]).await.unwrap();
    let (store, path) = ctx.stores().open(&root).unwrap();
    for (name, hash) in ["k=1/a", "k=2/b"].iter().zip(hashes) {
        let path = root.join(name).resolve().unwrap().path;
        assert_eq!(store.objects.get(&path).await.unwrap().bytes().await.unwrap(), *name);
        assert_eq!(content_hash(store.objects.as_ref(), &path).await.unwrap(), hash);
    }
    assert_eq!(store.objects.list(Some(&path)).try_collect::<Vec<_>>().await.unwrap().len(), 2);
    assert_eq!(out.put_unseen(Vec::new()).await.unwrap(), [0_u64; 0]);
    if on_disk {
        let error = out.put_unseen(vec![file("k=3/c"), file("k=1/a/d")]).await.unwrap_err();
        let target = error.to_string();
        assert!(target.contains("k=1/a/d"), "{target}");
        assert_eq!(error.kind(), crate::ErrorKind::Usage);
    }
}

#[tokio::test]
async fn unseen_files_go_to_the_store_of_each() {
    let folder = tempfile::tempdir().unwrap();
    let ctx = crate::JobContext::builder("job").build().unwrap();
    let targets = [Location::from(folder.path()).join("a"), Location::from("memory:/lake/b")];
    let files = targets.iter().map(|target| (target.clone(), target.to_string().into())).collect();
    ctx.staging("out").put_unseen(files).await.unwrap();
    for target in targets {
        let (store, path) = ctx.stores().open(&target).unwrap();
        let found = store.objects.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(found, target.to_string());
    }
}

/// A store that refuses one object at once, and takes a while for the others.
#[derive(Debug, Default)]
struct Slow(InMemory);

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slow")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Slow {
    async fn put_opts(&self, path: &Path, put: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        if path.as_ref() == "refused" {
            return Err(object_store::Error::Generic { store: "Slow", source: "refused".into() });
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        self.0.put_opts(path, put, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

/// Or else it could appear after the folder has been discarded, and stay.
#[tokio::test]
async fn no_request_goes_on_when_another_one_has_failed() {
    let (objects, url) = (Arc::new(Slow::default()), Url::parse("memory:///").unwrap());
    let staging = MultipartStaging::new(url, objects.clone(), Arc::new(InMemory::new()));
    let files = ["refused", "taken"].map(|name| (Path::from(name), name.into())).into();
    let error = staging.put_unseen(files).await.unwrap_err().to_string();
    assert!(error.contains("target: memory:/refused"), "{error}");
    assert!(objects.head(&"taken".into()).await.is_ok(), "it was given up");
}
