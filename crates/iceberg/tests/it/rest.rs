//! Tables behind a REST catalog: what holds for every catalog, and what only happens between a client and a server.
#![allow(clippy::duplicate_mod, reason = "the same tests with another catalog")]

use hardtack_catalog::SchemaEvolution;
use hardtack_core::ErrorKind;
use hardtack_iceberg::{IcebergMaintenance, IcebergTable, PartitionField};
use hardtack_test_support::iceberg_rest::Fault;
use hardtack_test_support::{Frame, json, rows};
use insta::assert_snapshot;
use rstest::rstest;

use crate::world::Rest;

type World = crate::world::World<Rest>;

#[path = "changes.rs"]
mod changes;
#[path = "evolving.rs"]
mod evolving;
#[path = "maintenance.rs"]
mod maintenance;
#[path = "merging.rs"]
mod merging;
#[path = "publishing.rs"]
mod publishing;
#[path = "saving.rs"]
mod saving;

/// The creation and the changes of a table, and its reading.
const CREATE: &str = "POST /v1/main/namespaces/lake/tables ";
const COMMIT: &str = "POST /v1/main/namespaces/lake/tables/t";
const LOAD: &str = "GET /v1/main/namespaces/lake/tables/t";

impl World {
    /// Lets the request of this kind go wrong that comes after so many others.
    fn fail(&self, request: &str, after: usize, fault: Fault) {
        for _ in 0..after {
            self.kind.0.fail(request, Fault::Pass);
        }
        self.kind.0.fail(request, fault);
    }
}

/// The creation, the branch, the publication.
#[rstest]
#[tokio::test]
async fn an_answer_that_is_lost_does_not_change_what_happens(
    #[values(0, 1, 2)] after: usize,
    #[values(
        Fault::LoseAnswer,
        Fault::FailAfter(500),
        Fault::FailAfter(503),
        Fault::FailAfter(409),
        Fault::Refuse(500),
        Fault::Refuse(503),
        Fault::Refuse(429)
    )]
    fault: Fault,
) {
    let world = World::new();
    world.fail(COMMIT, after, fault);
    world.save(&world.table(), &rows! { id; 1 }).await;
    assert_eq!(world.kind.0.faults_left(), 0);
    assert_eq!(world.rows().await, ["1"]);
    assert_eq!(world.refs().await, ["main"]);
    assert_eq!(world.metadata().await["snapshots"].as_array().unwrap().len(), 1);
    world.save(&world.table(), &rows! { id; 2 }).await;
    assert_eq!(world.rows().await, ["1", "2"]);
}

/// As when the run is killed there: another process rolls it forward.
#[rstest]
#[case::happened(Fault::LoseAnswer)]
#[case::did_not_happen(Fault::Refuse(500))]
#[tokio::test]
async fn what_is_unknown_is_found_out_by_the_next_run(
    #[case] fault: Fault,
    #[values(false, true)] others: bool,
    #[values(false, true)] grows: bool,
) {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    let growing = world.table().schema_evolution(SchemaEvolution::AddColumns);
    let more = if grows {
        rows! { id, extra; 2, "x" }
    } else {
        rows! { id; 2 }
    };
    let (run, staged) = world.stage(&growing, &more).await.unwrap();
    if others {
        world.save(&world.table(), &rows! { id; 3 }).await;
    }
    world.fail(COMMIT, 0, fault);
    // The table is loaded once before.
    for after in [1, 0, 0, 0, 0, 0, 0] {
        world.fail(LOAD, after, Fault::Refuse(503));
    }
    let error = run.ctx.publish(&staged.publish).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("whether the table was changed is unknown"), "{}", error.chain());
    assert_eq!(world.kind.0.faults_left(), 0);
    for _ in 0..2 {
        world.run().ctx.publish(&staged.publish).await.unwrap();
    }
    let mut expected = vec![if grows { "1 null" } else { "1" }, if grows { "2 x" } else { "2" }];
    if others {
        expected.push(if grows { "3 null" } else { "3" });
    }
    assert_eq!(world.rows().await, expected);
    assert_eq!(world.refs().await, ["main"]);
    assert_eq!(world.history().await.len(), expected.len());
}

#[tokio::test]
async fn a_server_that_stays_down_fails_the_run_and_nothing_else() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    for _ in 0..5 {
        world.fail(COMMIT, 0, Fault::Refuse(503));
    }
    let run = world.run();
    use hardtack_core::Sink;
    let frame = rows! { id; 2 };
    let staged = world.table().stage(&run.ctx.staging("out"), frame.to_df(run.ctx.session())).await;
    assert_eq!(staged.map(drop).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(world.kind.0.faults_left(), 0);
    run.discard().await.unwrap();
    assert_eq!(world.rows().await, ["1"]);
    assert_eq!(world.refs().await, ["main"]);
    assert_eq!(world.dir.files("lake/t/data").len(), 1);
}

/// On a server that stages the creation of tables, and on one that does not.
#[rstest]
#[tokio::test]
async fn a_table_is_created_as_it_is_wanted(#[values(true, false)] stages: bool, #[values(2, 3)] version: u8) {
    let world = World::new();
    if !stages {
        world.kind.0.refuse_staging();
    }
    let new = world
        .new_table()
        .partition_by([PartitionField::day("at"), PartitionField::bucket(4, "id")])
        .sorted_by(["id"])
        .with_property("write.target-file-size-bytes", "1000000")
        .with_format_version(version);
    let frame = rows! {
        id, at: Timestamp(Microsecond, None), place: Struct([("city", Utf8), ("zip", Int32)]), tags: List(Utf8);
        1, "2026-11-29T12:00:00", json!({"city": "Ghent", "zip": 9000}), ["new"];
    };
    let table = IcebergTable::named("Lake", "T").create_if_missing(new.clone());
    let embedded = crate::World::new();
    let run = embedded.run();
    use hardtack_core::Sink;
    table.stage(&run.ctx.staging("out"), frame.to_df(run.ctx.session())).await.unwrap();
    let wanted = embedded.metadata().await;
    run.discard().await.unwrap();

    world.save(&table, &frame).await;
    let found = world.metadata().await;
    for key in ["format-version", "location", "schemas", "partition-specs", "sort-orders", "last-column-id"] {
        assert_eq!(found[key], wanted[key], "{key}");
    }
    assert_eq!(found["properties"]["write.target-file-size-bytes"], "1000000");
    assert_eq!(world.rows().await.len(), 1);
}

#[tokio::test]
async fn a_server_that_creates_another_table_is_refused() {
    let world = World::new();
    world.kind.0.refuse_staging();
    world.kind.0.move_tables();
    let error = world.stage(&world.table(), &rows! { id; 1 }).await.map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.get("differs"), Some("location"));
    assert_snapshot!(error.message(), @"the catalog's server does not create the table as it is wanted");
    assert_eq!(world.catalog.get_table("lake", "t").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A creation that is not staged, and whose answer is lost.
#[rstest]
#[tokio::test]
async fn a_creation_whose_answer_is_lost_is_recognised(#[values(true, false)] stages: bool) {
    let world = World::new();
    if !stages {
        world.kind.0.refuse_staging();
    }
    for fault in [Fault::LoseAnswer, Fault::FailAfter(500)] {
        let request = CREATE.trim_end();
        // Without its database, without staging, and then.
        world.fail(request, if stages { 1 } else { 2 }, fault);
        world.save(&world.table(), &rows! { id; 1 }).await;
        assert_eq!(world.kind.0.faults_left(), 0);
        assert_eq!(world.rows().await, ["1"]);
        world.catalog.drop_table("lake", "t").await.unwrap();
        world.catalog.drop_database("lake").await.unwrap();
        world.dir.remove("lake/t");
    }
}

/// A catalog of pointers refuses any change of a table that has changed since; a server is told what must not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_changes_of_people_and_runs_do_not_undo_each_other() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 0 }).await;
    let care = async |days: i64| {
        let now = chrono::Utc::now() + chrono::TimeDelta::days(days);
        IcebergMaintenance::open(&world.run().ctx, "lake", "t", now).await.unwrap()
    };
    // Each adds a column of its own.
    let mut staged = Vec::new();
    for (name, id) in [("a", 1), ("b", 2), ("c", 3)] {
        let table = world.table().schema_evolution(SchemaEvolution::AddColumns);
        let rows = Frame::from_json_lines(&format!("{{\"id\": {id}, \"{name}\": {id}}}\n"));
        staged.push(world.stage(&table, &rows).await.unwrap());
    }
    let publications = staged.iter().map(|(run, staged)| run.ctx.publish(&staged.publish));
    let tags = async {
        for n in 0..5 {
            care(0).await.tag(&format!("tag{n}"), None).await.unwrap();
        }
    };
    let expiry = async {
        for _ in 0..5 {
            care(30).await.expire(hardtack_iceberg::ExpireOptions::default()).await.unwrap();
        }
    };
    let (published, (), ()) = futures::future::join3(futures::future::join_all(publications), tags, expiry).await;
    published.into_iter().for_each(|outcome| outcome.unwrap());
    let metadata = world.metadata().await;
    let fields = &metadata["schemas"]
        .as_array()
        .unwrap()
        .iter()
        .find(|schema| schema["schema-id"] == metadata["current-schema-id"])
        .unwrap()["fields"];
    let mut names: Vec<&str> = fields.as_array().unwrap().iter().map(|field| field["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c", "id"]);
    assert_eq!(world.rows().await.len(), 4);
    for n in 0..5 {
        let rows = world.read(IcebergTable::named("lake", "t").tag(format!("tag{n}"))).await.unwrap();
        assert!(!rows.is_empty(), "tag{n}");
    }
    assert!(metadata["properties"].get("hardtack.pending-schemas").is_none(), "{}", metadata["properties"]);
}

/// What is committed comes back with the answer: no other request is needed.
#[tokio::test]
async fn a_save_needs_few_requests() {
    let world = World::new();
    world.save(&world.table(), &rows! { id; 1 }).await;
    world.kind.0.take_requests();
    world.save(&world.table(), &rows! { id; 2 }).await;
    assert_snapshot!(world.kind.0.take_requests().join("\n"), @"
    GET /v1/main/namespaces/lake/tables/t?snapshots=all
    POST /v1/main/namespaces/lake/tables/t
    GET /v1/main/namespaces/lake/tables/t?snapshots=all
    POST /v1/main/namespaces/lake/tables/t
    ");
}
