//! `hardtack iceberg`, and Iceberg tables in `tables`, `describe` and `sql`.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use hardtack_core::{Location, Run, Sink};
use hardtack_iceberg::{IcebergTable, NewIcebergTable, PartitionField};
use hardtack_runtime::{RuntimeArgs, open_context, open_state};
use hardtack_state::{Begun, Ledger};
use hardtack_test_support::JobBinary;
use insta::assert_snapshot;
use parquet::arrow::ArrowWriter;
use rstest::rstest;

use crate::serving::{Serving, value};

/// A folder with the table `lake.people` in the catalog at its state location.
struct Lake(tempfile::TempDir);

impl Lake {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> Location {
        Location::from(self.0.path()).join(path)
    }

    /// Appends people, or leaves them on a branch; returns its name.
    async fn append(&self, people: &str, publish: bool) -> String {
        let ctx = open_context("job", &RuntimeArgs::with_state(self.at("state"))).unwrap();
        let rows = format!("select id, name, cast('2026-11-29' as date) as born from (values {people}) as v(id, name)");
        let rows = ctx.session().sql(&rows).await.unwrap();
        let new = NewIcebergTable::at(self.at("lake/people")).partition_by([PartitionField::year("born")]);
        let table = IcebergTable::named("lake", "people").create_if_missing(new);
        let staged = table.stage(&ctx.staging("people"), rows).await.unwrap();
        if publish {
            ctx.publish(&staged.publish).await.unwrap();
        }
        format!("hardtack_{}", ctx.run().version())
    }

    /// What the command prints on success.
    fn run(&self, args: &[&str]) -> String {
        let (code, text) = crate::hardtack(self.0.path(), args);
        assert_eq!(code, Some(0), "{args:?}\n{text}");
        self.without_changing(&text)
    }

    fn fail(&self, args: &[&str], with: i32) -> String {
        let (code, text) = crate::hardtack(self.0.path(), args);
        assert_eq!(code, Some(with), "{args:?}\n{text}");
        self.without_changing(&text)
    }

    /// The command is killed at a fault point.
    fn kill_at(&self, point: &str, args: &[&str]) {
        let killed = JobBinary::new(env!("CARGO_BIN_EXE_hardtack"))
            .env("HARDTACK_STATE", self.at("state"))
            .env("FAILPOINTS", format!("{point}=return(kill)"))
            .args(args)
            .run();
        assert_eq!(killed.signal(), Some(9), "{killed:?}");
    }

    /// Without what differs from run to run: folder, ids, times.
    fn without_changing(&self, text: &str) -> String {
        let text = text.replace(self.0.path().to_str().unwrap(), "FOLDER");
        let text = regex::Regex::new(r"\d{15,}").unwrap().replace_all(&text, "ID").into_owned();
        let text = regex::Regex::new(r"\d{4}-\d\d-\d\dT[\d:.]+Z").unwrap().replace_all(&text, "TIME").into_owned();
        regex::Regex::new(r"[0-9a-f-]{36}").unwrap().replace_all(&text, "UUID").into_owned()
    }
}

fn rows_of(lake: &Lake, table: &str) -> String {
    lake.run(&["sql", "--format", "csv", "-c", &format!("select id, name from {table} order by id")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_looked_at_and_looked_after() {
    let lake = Lake::new();
    lake.append("(1, 'Ann')", true).await;
    lake.append("(2, 'Bob')", true).await;
    let tables = lake.run(&["tables"]);
    assert!(tables.contains("lake.people | iceberg | year(born)     | FOLDER/lake/people"), "{tables}");
    let described = lake.run(&["describe", "lake.people"]);
    for part in ["born", "date", "partitioned-by", "year(born)", "format-version", "metadata.json"] {
        assert!(described.contains(part), "{part}\n{described}");
    }
    let snapshots = lake.run(&["iceberg", "snapshots", "lake.people"]);
    let snapshots = regex::Regex::new(r"\d{8}T\d{6}Z(-[0-9a-f]{8}){2}").unwrap().replace_all(&snapshots, "RUN");
    // Without the line below the names. Ids have 15 to 19 digits, so that the columns differ in width.
    let lines = snapshots.lines().filter(|line| !line.starts_with('-'));
    let lines: Vec<String> = lines.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join(",")).collect();
    assert_snapshot!(lines.join("\n"), @r"
    committed_at,snapshot_id,parent_id,operation,added,deleted,rows,run,refs
    TIME,ID,,append,1,,1,RUN,
    TIME,ID,ID,append,1,,2,RUN,main
    ");
    assert_snapshot!(lake.run(&["iceberg", "tag", "lake.people", "both"]), @"tagged `both` at snapshot ID");
    let branch = lake.append("(3, 'Cy')", false).await;
    let refs = lake.run(&["iceberg", "refs", "lake.people"]);
    for name in ["main", "both", &branch] {
        assert!(refs.contains(name), "{name}\n{refs}");
    }
    assert_eq!(rows_of(&lake, "lake.people"), "id,name\n1,Ann\n2,Bob\n");
    assert_eq!(rows_of(&lake, &format!("lake.\"people@{branch}\"")), "id,name\n1,Ann\n2,Bob\n3,Cy\n");
    assert_eq!(
        rows_of(&lake, &format!("lake.people for version as of '{branch}' as p")),
        "id,name\n1,Ann\n2,Bob\n3,Cy\n"
    );
    assert_eq!(rows_of(&lake, "lake.people timestamp as of '2999-01-01 00:00:00'"), "id,name\n1,Ann\n2,Bob\n");
    // A run that has not ended decides about its branch itself.
    let options = RuntimeArgs::with_state(lake.at("state"));
    let base = open_context("job", &options).unwrap();
    let ledger = Ledger::new(open_state(base.stores(), &options.records.state).unwrap(), "job", Run::WHOLE_JOB);
    let Begun::Attempt(attempt) = ledger.begin(base.run()).await.unwrap() else { panic!("it does not begin") };
    let live = format!("hardtack_{}", attempt.record.run.version());
    // It has further branches with numbers.
    for live in [&live, &format!("{live}_2")] {
        lake.run(&["iceberg", "branch", "lake.people", live]);
        let error = lake.fail(&["iceberg", "publish", "lake.people", "--branch", live, "--reason", "why not"], 2);
        assert!(error.contains("has not ended"), "{error}");
        lake.run(&["iceberg", "drop-branch", "lake.people", live]);
    }
    let publish = ["iceberg", "publish", "lake.people", "--branch", &branch, "--reason", "fine", "--by", "ann"];
    let dry: Vec<&str> = publish.iter().copied().chain(["--dry-run"]).collect();
    assert_eq!(lake.run(&dry), format!("would publish the branch `{branch}`\n"));
    assert_eq!(rows_of(&lake, "lake.people"), "id,name\n1,Ann\n2,Bob\n");
    assert_eq!(lake.run(&publish), format!("published the branch `{branch}` as snapshot ID\n"));
    assert_eq!(rows_of(&lake, "lake.people"), "id,name\n1,Ann\n2,Bob\n3,Cy\n");
    let who =
        "select count(*) as n from lake.\"people$snapshots\" where summary like '%\"hardtack.published-by\":\"ann\"%'";
    assert_eq!(lake.run(&["sql", "--format", "csv", "-c", who]), "n\n1\n");

    assert_snapshot!(lake.run(&["iceberg", "rollback", "lake.people", "--to", "both"]), @"moved `main` back to snapshot ID");
    assert_eq!(rows_of(&lake, "lake.people"), "id,name\n1,Ann\n2,Bob\n");
    assert_snapshot!(lake.run(&["iceberg", "branch", "lake.people", "try"]), @"began the branch `try` at snapshot ID");
    assert_snapshot!(lake.run(&["iceberg", "drop-branch", "lake.people", "try"]), @"dropped `try`, which was at snapshot ID");
    assert_snapshot!(lake.run(&["iceberg", "expire", "lake.people", "--older-than", "1d"]), @"expired 0 snapshots
removed 0 files");
    assert_snapshot!(lake.run(&["iceberg", "remove-orphans", "lake.people", "--dry-run"]), @"would remove 0 files");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_served() {
    let lake = Lake::new();
    lake.append("(1, 'Ann')", true).await;
    lake.run(&["iceberg", "tag", "lake.people", "one"]);
    lake.append("(2, 'Bob')", true).await;
    let serving = Serving::start(lake.0.path(), &[]);
    let client = serving.client().await;
    assert_eq!(value(&client, "select count(people.id) from lake.people").await, "2");
    assert_eq!(value(&client, "select count(people.id) from lake.people for version as of 'one'").await, "1");
    let of = "select count(*) from lake.people for version as of 'one' where id = $1";
    assert_eq!(client.query_one(of, &[&1_i64]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_with_its_rows() {
    let lake = Lake::new();
    lake.append("(1, 'Ann')", true).await;
    lake.append("(2, 'Bob')", true).await;
    let newest = "select file_path from lake.\"people$files\" order by file_path desc limit 1";
    let (_, listed) = crate::hardtack(lake.0.path(), &["sql", "--format", "csv", "-c", newest]);
    let file = listed.lines().nth(1).unwrap();
    assert_snapshot!(lake.run(&["iceberg", "delete-files", "lake.people", file, "--dry-run"]), @"would delete 1 file with 1 row");
    assert_eq!(rows_of(&lake, "lake.people"), "id,name\n1,Ann\n2,Bob\n");
    assert_snapshot!(lake.run(&["iceberg", "delete-files", "lake.people", file]), @"deleted 1 file with 1 row, as snapshot ID");
    assert_eq!(rows_of(&lake, "lake.people").lines().count(), 2);
    let error = lake.fail(&["iceberg", "delete-files", "lake.people", file], 2);
    assert!(error.contains("the branch has no such data file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn small_files_are_compacted() {
    let lake = Lake::new();
    for n in 1..=5 {
        lake.append(&format!("({n}, 'Ann')"), true).await;
    }
    let rows = rows_of(&lake, "lake.people");
    let without_sizes =
        |text: String| regex::Regex::new(r"\d+ bytes").unwrap().replace_all(&text, "N bytes").into_owned();
    let compact = |more: &[&str]| without_sizes(lake.run(&[&["iceberg", "compact", "lake.people"], more].concat()));
    assert_snapshot!(compact(&["--min-input-files", "6"]), @"nothing to do: no partition would have fewer files");
    assert_snapshot!(compact(&["--dry-run"]), @"would rewrite 5 files of N bytes");
    assert_eq!(lake.run(&["iceberg", "snapshots", "lake.people"]).matches("replace").count(), 0);
    assert_snapshot!(compact(&[]), @"rewrote 5 files of N bytes, as 1 file of N bytes");
    assert_eq!(lake.run(&["iceberg", "snapshots", "lake.people"]).matches("replace").count(), 1);
    assert_eq!(rows_of(&lake, "lake.people"), rows);
    assert_snapshot!(compact(&["--all", "--sort-by", "name nulls last, id desc"]), @"rewrote 1 file of N bytes, as 1 file of N bytes");
    assert_eq!(rows_of(&lake, "lake.people"), rows);
    let error = lake.fail(&["iceberg", "compact", "lake.people", "--branch", "mian"], 2);
    assert!(error.contains("did you mean: main"), "{error}");
    let error = lake.fail(&["iceberg", "compact", "lake.people", "--all", "--sort-by", "id desc, nope nulls last"], 2);
    assert!(error.contains("`nope`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_are_changed() {
    let lake = Lake::new();
    lake.append("(1, 'Ann')", true).await;
    let alter = |args: &[&str]| lake.run(&[&["iceberg", "alter", "lake.people"], args].concat());
    assert_snapshot!(alter(&["rename-column", "name", "called", "--dry-run"]), @"would: rename the column `name` to `called`");
    assert_snapshot!(alter(&["rename-column", "name", "called"]), @"done: rename the column `name` to `called`");
    assert_snapshot!(alter(&["add-column", "age", "int"]), @"done: add the column `age` of type Int32");
    assert_snapshot!(alter(&["move-column", "age", "--first"]), @"done: move the column `age` to the front");
    assert_snapshot!(alter(&["move-column", "age", "--after", "id"]), @"done: move the column `age` behind `id`");
    assert_snapshot!(alter(&["widen-column", "age", "bigint"]), @"done: widen the column `age` to Int64");
    assert_snapshot!(alter(&["make-optional", "age"]), @"nothing to do: it is so already");
    assert_snapshot!(alter(&["partition-by", "bucket(2, id), called"]), @"done: partition by bucket[2](id), identity(called)");
    assert_snapshot!(alter(&["set", "write.parquet.compression-codec=snappy"]), @"done: set the property `write.parquet.compression-codec` to `snappy`");
    assert_snapshot!(alter(&["unset", "write.parquet.compression-codec"]), @"done: remove the property `write.parquet.compression-codec`");
    let select = ["sql", "--format", "csv", "-c", "select * from lake.people"];
    assert_eq!(lake.run(&select), "id,age,called,born\n1,,Ann,2026-11-29\n");
    let described = lake.run(&["describe", "lake.people"]);
    assert!(described.contains("called") && described.contains("bucket[2](id), identity(called)"), "{described}");
    let error = lake.fail(&["iceberg", "alter", "lake.people", "drop-column", "called"], 2);
    assert!(error.contains("rows are partitioned by this column"), "{error}");
    let error = lake.fail(&["iceberg", "alter", "lake.people", "add-column", "x", "number"], 2);
    assert!(error.contains("number"), "{error}");
    let error = lake.fail(&["iceberg", "alter", "lake.people", "partition-by", "day("], 2);
    assert!(error.contains("expected a partition field"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_are_rewritten() {
    let lake = Lake::new();
    for n in 1..=3 {
        lake.append(&format!("({n}, 'Ann')"), true).await;
    }
    let rows = rows_of(&lake, "lake.people");
    let rewrite = |more: &[&str]| lake.run(&[&["iceberg", "rewrite-manifests", "lake.people"], more].concat());
    assert_snapshot!(rewrite(&["--dry-run"]), @"would rewrite 3 manifests of 3 files as 1 manifest");
    assert_snapshot!(rewrite(&[]), @"rewrote 3 manifests of 3 files as 1 manifest");
    assert_snapshot!(rewrite(&[]), @"nothing to do: the files of each partition are together");
    assert_eq!(rows_of(&lake, "lake.people"), rows);
}

/// Whenever a compaction is killed, the table is as it was, or compact; what else there is are orphans.
#[rstest]
#[case("iceberg.manifest.after", false)]
#[case("iceberg.list.after", false)]
#[case("iceberg.metadata.before", false)]
#[case("iceberg.metadata.after", false)]
#[case("iceberg.swap.after", true)]
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_compaction_loses_nothing(#[case] point: &str, #[case] is_done: bool) {
    let lake = Lake::new();
    for n in 1..=5 {
        lake.append(&format!("({n}, 'Ann')"), true).await;
    }
    let rows = rows_of(&lake, "lake.people");
    lake.kill_at(point, &["iceberg", "compact", "lake.people"]);
    let replaced = || lake.run(&["iceberg", "snapshots", "lake.people"]).matches("replace").count();
    assert_eq!(replaced(), usize::from(is_done));
    assert_eq!(rows_of(&lake, "lake.people"), rows);
    lake.append("(6, 'Bob')", true).await;
    lake.run(&["iceberg", "compact", "lake.people", "--all"]);
    assert_eq!(replaced(), 1 + usize::from(is_done));
    assert_eq!(rows_of(&lake, "lake.people"), rows + "6,Bob\n");
}

impl Lake {
    /// With a table of files, `lake.people`, as a crawl finds it.
    fn of_files() -> Self {
        let lake = Self::new();
        let at = |city: &str| lake.0.path().join(format!("lake/people/city={city}"));
        for (city, ids) in [("Ghent", vec![1, 2]), ("Bruges", vec![3])] {
            std::fs::create_dir_all(at(city)).unwrap();
            let ids: ArrayRef = Arc::new(Int64Array::from(ids));
            let rows = RecordBatch::try_from_iter([("id", ids)]).unwrap();
            let file = std::fs::File::create(at(city).join("a.parquet")).unwrap();
            let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
            writer.write(&rows).unwrap();
            writer.close().unwrap();
        }
        lake.run(&["crawl", "--database", "lake", lake.at("lake/people").as_str()]);
        lake
    }

    fn people(&self) -> String {
        self.run(&["sql", "--format", "csv", "-c", "select city, id from lake.people order by id"])
    }
}

const PEOPLE: &str = "city,id\nGhent,1\nGhent,2\nBruges,3\n";

#[test]
fn a_table_of_files_becomes_an_iceberg_table() {
    let lake = Lake::of_files();
    let migrate = |more: &[&str]| {
        let text = lake.run(&[&["iceberg", "migrate", "lake.people"], more].concat());
        regex::Regex::new(r"\d+ bytes").unwrap().replace_all(&text, "N bytes").into_owned()
    };
    assert_snapshot!(migrate(&["--dry-run"]), @"would migrate 2 files of N bytes with 3 rows");
    assert_eq!(lake.run(&["tables"]).matches("iceberg").count(), 0);
    assert_snapshot!(migrate(&[]), @"migrated 2 files of N bytes with 3 rows, as snapshot ID");
    assert_eq!(lake.people(), PEOPLE);
    assert_eq!(lake.run(&["tables"]).matches("iceberg").count(), 1);
    // Crawling again does not make it one of files.
    let (_, text) = crate::hardtack(lake.0.path(), &["crawl", "--database", "lake", lake.at("lake/people").as_str()]);
    assert_eq!(lake.people(), PEOPLE, "{text}");
    assert_eq!(lake.run(&["tables"]).matches("iceberg").count(), 1);
    assert_snapshot!(lake.fail(&["iceberg", "migrate", "lake.people"], 2), @"hardtack: this is an Iceberg table already (table: lake.people)");
    assert_snapshot!(lake.fail(&["iceberg", "migrate", "lake.peple"], 1), @"hardtack: there is no table `lake.peple` in the catalog; create it, or check the name (table: lake.peple)");
    assert_snapshot!(lake.fail(&["vacuum", "lake.people"], 2), @"hardtack: this is an Iceberg table (table: lake.people, hint: `hardtack iceberg expire` and `remove-orphans` remove files of Iceberg tables)");
    lake.run(&["iceberg", "alter", "lake.people", "rename-column", "id", "number"]);
    lake.run(&["iceberg", "compact", "lake.people", "--all"]);
    let rows = lake.run(&["sql", "--format", "csv", "-c", "select city, number from lake.people order by number"]);
    assert_eq!(rows, PEOPLE.replace("id", "number"));
}

/// Whenever a migration is killed, the table is the one or the other, with the same rows, and can be migrated.
#[rstest]
#[case("iceberg.manifest.after", false)]
#[case("iceberg.list.after", false)]
#[case("iceberg.metadata.before", false)]
#[case("iceberg.metadata.after", false)]
#[case("iceberg.swap.after", true)]
#[test]
fn a_killed_migration_loses_nothing(#[case] point: &str, #[case] is_done: bool) {
    let lake = Lake::of_files();
    lake.kill_at(point, &["iceberg", "migrate", "lake.people"]);
    assert_eq!(lake.run(&["tables"]).matches("iceberg").count(), usize::from(is_done));
    assert_eq!(lake.people(), PEOPLE);
    if !is_done {
        lake.run(&["iceberg", "migrate", "lake.people"]);
        assert_eq!(lake.people(), PEOPLE);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_named() {
    let lake = Lake::new();
    lake.append("(1, 'Ann')", true).await;
    assert_snapshot!(lake.fail(&["iceberg", "drop-branch", "lake.people", "mai"], 2), @"hardtack: the table has no branch or tag of this name (name: mai, did you mean: main, table: lake.people, hint: `hardtack iceberg snapshots` and `refs` list what there is)");
    assert_snapshot!(lake.fail(&["iceberg", "refs", "lake.peple"], 1), @"hardtack: there is no table `lake.peple` in the catalog; create it, or check the name");
    let error = lake.fail(&["sql", "-c", "select * from lake.\"people$snapshot\""], 2);
    assert!(error.contains("did you mean `snapshots`?"), "{error}");
    let error = lake.fail(&["iceberg", "remove-orphans", "lake.people", "--older-than", "1h"], 2);
    assert!(error.contains("at least a day"), "{error}");
}

/// What a branch would change, before a person decides.
#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_compared_with_what_is_published() {
    let lake = Lake::new();
    lake.append("(1, 'Ann')", true).await;
    let branch = lake.append("(2, 'Ben')", false).await;
    let version = format!("lake.people@{branch}");
    assert!(lake.run(&["compare", "lake.people", "lake.people@main", "--key", "id"]).contains("the rows are the same"));
    let text = lake.fail(&["compare", "lake.people", &version, "--key", "id"], 3);
    assert!(text.contains("rows     1 added, 0 removed, 0 changed"), "{text}");
    lake.fail(&["compare", "lake.people", "lake.people@nowhere", "--key", "id"], 2);
}
