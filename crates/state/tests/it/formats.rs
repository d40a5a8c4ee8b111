//! Formats of records: records of earlier versions stay readable forever, and those of newer versions are refused.
//!
//! `tests/golden/format-0` is a state location written by a version without format numbers: a run that was paused and
//! lost, one that was published, and one that was killed during publication. `tests/golden/changes` was written when
//! runs got windows and people could change bookmarks, `tests/golden/pipelines` when runs said how they were started.
//! These files are never edited.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use hardtack_core::format::NewerFormat;
use hardtack_core::{DiscardAction, ErrorKind, Journal, PublishAction, RunId, Window};
use hardtack_state::{
    Backfill, Begun, BookmarkEntry, End, JobStatus, Ledger, ObjectKind, PipelineRecord, Pipelines, RunStatus,
    Settlement, WindowStatus, broken_objects,
};
use rstest::rstest;

use crate::{World, begin, commit, run, upload, world};

const SCOPE: &str = "customer_events/scopes/default";

/// The golden state of this format, in memory.
async fn golden(format: u32) -> World {
    golden_in(&format!("format-{format}")).await
}

async fn golden_in(folder: &str) -> World {
    let world = world("memory");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(folder);
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(&root).unwrap().to_str().unwrap();
                world.state.put(key, std::fs::read(&path).unwrap().into()).await.unwrap();
            }
        }
    }
    world
}

fn id(id: &str) -> RunId {
    id.parse().unwrap()
}

/// Every object of the golden state, with its content.
#[rstest]
#[tokio::test]
async fn what_earlier_versions_wrote_is_read(#[values(0, 1)] format: u32) {
    let world = golden(format).await;
    let ledger = Ledger::new(world.state.clone(), "customer_events", "default");
    assert!(broken_objects(&world.state).await.unwrap().is_empty());

    let [first, second] = ledger.commits().await.unwrap().try_into().unwrap();
    assert_eq!((first.sequence, first.run.id.as_str(), first.actions().len()), (1, "first", 2));
    assert_eq!((second.sequence, second.run.token.len()), (2, 8));
    let bookmarks = if format == 0 { BTreeMap::new() } else { [("events".to_owned(), 7.into())].into() };
    assert_eq!(second.bookmarks, bookmarks);
    assert_eq!(second.places.as_ref().unwrap().len(), 2);
    let [rename, delete] = &second.publish["customers"][..] else { panic!("{second:?}") };
    assert!(matches!(rename, PublishAction::RenameFile { xxh3: 10_743_065_172_234_108_664, bytes: 2140, .. }));
    assert!(matches!(delete, PublishAction::Delete { location } if location.as_str().ends_with("-61acd209.parquet")));

    assert_eq!(ledger.settlement(1).await.unwrap(), Some(Settlement::Published { by: id("first") }));
    assert_eq!((ledger.settlement(2).await.unwrap(), ledger.newest().await.unwrap()), (None, 2));
    assert_eq!(ledger.pending().await.unwrap(), [second]);
    assert!(matches!(ledger.begin(&run("next")).await.unwrap(), Begun::Unpublished));

    let [paused] = ledger.finished().await.unwrap().try_into().unwrap();
    assert_eq!((paused.run.as_str(), &paused.end), ("paused", &End::Lost));
    assert!(paused.attempt.as_ref().is_some_and(|attempt| attempt.claims == 1 && attempt.swept.is_some()));
    let folders: Vec<&str> = paused.leftovers.iter().map(folder).collect();
    assert_eq!(folders, ["/tmp/golden/out/customers", "/tmp/golden/out/customers_deleted"]);

    let records = Ledger::runs(&world.state, "customer_events").await.unwrap();
    let said: Vec<_> = records.iter().map(|r| (r.run.id.as_str(), r.status, r.commit)).collect();
    let wanted = [
        ("paused", RunStatus::Killed, None),
        ("first", RunStatus::Succeeded, Some(1)),
        ("second", RunStatus::Running, None),
    ];
    assert_eq!(said, wanted);
    assert_eq!((records[1].sources["events"].rows, records[1].sinks["customers"].bytes), (14, 2139));
}

/// Two runs, a reset of their bookmark by a person, and a window of a backfill.
#[tokio::test]
async fn what_the_first_changes_and_backfills_wrote_is_read() {
    let world = golden_in("changes").await;
    assert!(broken_objects(&world.state).await.unwrap().is_empty());
    let history = Ledger::new(world.state.clone(), "windowed", "default").bookmark_history().await.unwrap();
    let counted = |at: &BookmarkEntry| at.bookmarks.get("counter").map(|position| position["runs"].as_u64().unwrap());
    assert_eq!(history.iter().map(counted).collect::<Vec<_>>(), [Some(1), Some(2), None]);
    let change = history[2].change.clone().unwrap();
    assert_eq!((change.command.as_str(), change.reason.as_deref()), ("reset", Some("start over")));
    assert!(history[..2].iter().all(|at| at.change.is_none()));

    let records = Ledger::runs(&world.state, "windowed").await.unwrap();
    let said: Vec<_> = records.iter().map(|r| (r.run.window.map(Window::scope), r.change.is_some())).collect();
    assert_eq!(said, [(Some("2024-01-07".to_owned()), false), (None, false), (None, false), (None, true)]);

    let day = records[0].run.window.unwrap();
    let record = Backfill::new(world.state.clone(), "windowed").get(day).await.unwrap().unwrap();
    assert_eq!((record.status, record.runs.len(), record.exit_code), (WindowStatus::Succeeded, 3, Some(0)));
    assert_eq!(record.runs[2], records[0].run.id);
}

/// An execution with a job that was refused, and its run, which had a secret argument.
#[tokio::test]
async fn what_the_first_pipelines_wrote_is_read() {
    let world = golden_in("pipelines").await;
    assert!(broken_objects(&world.state).await.unwrap().is_empty());
    let pipelines = Pipelines::new(world.state.clone(), "nightly", "default");
    let record = pipelines.get(pipelines.newest().await.unwrap()).await.unwrap().unwrap();
    let jobs: Vec<_> = record.jobs.iter().map(|job| (job.job.as_str(), job.status, job.exit_code, job.after)).collect();
    let wanted = [
        ("a", JobStatus::Succeeded, Some(0), Some(0)),
        ("b", JobStatus::Failed, Some(3), Some(0)),
        ("c", JobStatus::Skipped, None, None),
    ];
    assert_eq!((record.number, &jobs[..]), (1, &wanted[..]));
    assert!(!record.has_succeeded() && record.finished_at.is_some());

    let [run] = Ledger::runs(&world.state, "b").await.unwrap().try_into().unwrap();
    assert_eq!(record.jobs[1].runs, [run.run.id]);
    let invocation = run.invocation.unwrap();
    assert_eq!((invocation.binary.as_str(), invocation.directory.as_str()), ("/tmp/golden/bin/b", "/tmp/golden"));
    assert_eq!((invocation.args.concat(), invocation.withheld.len()), (vec!["--target=b".to_owned()], 1));
    assert_eq!(invocation.withheld[0].env.as_deref(), Some("WINDOWED_API_KEY"));

    // Of two that begin the next execution, one does.
    let next = PipelineRecord { number: 2, ..record };
    assert!(!pipelines.has_next(1).await.unwrap());
    assert!(pipelines.create(&next).await.unwrap() && pipelines.has_next(1).await.unwrap());
    let other = PipelineRecord { pid: next.pid + 1, ..next.clone() };
    assert!(!pipelines.create(&other).await.unwrap());
    assert!(pipelines.create(&next).await.unwrap(), "a request that was sent twice");
}

fn folder(action: &DiscardAction) -> &str {
    let DiscardAction::StagedFiles { folder, .. } = action else { panic!("{action:?}") };
    folder.as_str()
}

/// Each kind of object, as a newer version might write it.
#[rstest]
#[case::commit("commits/000000000002.json", "commit record")]
#[case::attempt("attempts/second.json", "record of an attempt")]
#[case::journal("attempts/second/000000.json", "journal entry")]
#[case::settlement("published/000000000001.json", "record of a settled commit")]
#[case::run("../../runs/first.json", "run record")]
#[case::backfill("../../backfills/2024-01-07.json", "record of a backfill")]
#[case::pipeline("../../pipelines/default/000000000001.json", "record of a pipeline")]
#[tokio::test]
async fn what_a_newer_version_has_written_is_refused(#[case] object: &str, #[case] name: &str) {
    let world = golden(1).await;
    let key = match object.strip_prefix("../../") {
        Some(of_job) => format!("customer_events/{of_job}"),
        None => format!("{SCOPE}/{object}"),
    };
    world.state.put(&key, Bytes::from(r#"{"format": 7, "what": "nobody knows"}"#)).await.unwrap();
    let [broken] = broken_objects(&world.state).await.unwrap().try_into().unwrap();
    assert_eq!(broken.key, key);
    assert_eq!((broken.error.kind(), broken.error.detail()), (ErrorKind::Usage, Some(&NewerFormat(7))));
    let said = broken.error.to_string();
    let wanted = format!("a {name} has format 7, and this version reads formats up to 1");
    assert!(said.starts_with(&wanted) && said.contains("hint: upgrade hardtack"), "{said}");
}

/// A record that cannot be read is neither executed nor taken for damaged.
#[tokio::test]
async fn a_newer_commit_stops_the_scope_and_is_not_abandoned() {
    let world = world("memory");
    let ledger = world.ledger("default");
    let key = "job/scopes/default/commits/000000000001.json";
    world.state.put(key, Bytes::from(r#"{"format": 2}"#)).await.unwrap();
    for error in [ledger.pending().await.unwrap_err(), ledger.abandonable(1).await.unwrap_err()] {
        assert_eq!((error.kind(), error.get("object")), (ErrorKind::Usage, Some(key)));
    }
    // A newer journal entry keeps its run on record.
    let paused = begin(&world.ledger("other"), &run("paused")).await;
    paused.journal.note(upload("u1")).await.unwrap();
    let entry = "job/scopes/other/attempts/paused/000000.json";
    world.state.put(entry, Bytes::from(r#"{"format": 2, "discard": []}"#)).await.unwrap();
    world.ledger("other").commit(&commit(1, "r")).await.unwrap();
    let [finished] = world.ledger("other").finished().await.unwrap().try_into().unwrap();
    assert_eq!(finished.damaged, [entry]);
}

/// The seal is checked before the format, so damage is never mistaken for a newer version.
#[tokio::test]
async fn a_flipped_number_is_damage() {
    let world = world("memory");
    let ledger = world.ledger("default");
    ledger.commit(&commit(1, "r")).await.unwrap();
    ledger.mark_published(1, &id("r")).await.unwrap();
    for folder in ["commits", "published"] {
        let key = format!("job/scopes/default/{folder}/000000000001.json");
        let written = world.state.get(&key).await.unwrap().unwrap();
        let text = std::str::from_utf8(&written).unwrap();
        assert!(text.starts_with("{\n  \"format\": 1,\n"), "{text}");
        world.state.put(&key, Bytes::from(text.replace("\"format\": 1", "\"format\": 3"))).await.unwrap();
        let [broken] = broken_objects(&world.state).await.unwrap().try_into().unwrap();
        assert_eq!((broken.error.kind(), broken.error.detail::<NewerFormat>()), (ErrorKind::Unexpected, None));
        // Without its seal it is not a record of the first version either.
        let bare = text.split(",\n  \"xxh3\"").next().unwrap().to_owned() + "\n}";
        world.state.put(&key, Bytes::from(bare)).await.unwrap();
        let [broken] = broken_objects(&world.state).await.unwrap().try_into().unwrap();
        assert!(broken.error.message().contains("its hash is missing"), "{}", broken.error);
        assert!(matches!(broken.kind, ObjectKind::Commit(1) | ObjectKind::Settled(1)));
        world.state.put(&key, written).await.unwrap();
    }
}
