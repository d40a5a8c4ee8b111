//! `hardtack iceberg`, and Iceberg tables in `tables`, `describe` and `sql`.

use hardtack_core::{Location, Sink};
use hardtack_iceberg::{IcebergTable, NewIcebergTable, PartitionField};
use hardtack_runtime::{RuntimeArgs, open_context};
use insta::assert_snapshot;

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
    assert_eq!(lake.run(&["iceberg", "snapshots", "lake.people"]).matches("append").count(), 2);
    assert_snapshot!(lake.run(&["iceberg", "tag", "lake.people", "both"]), @"tagged `both` at snapshot ID");
    let branch = lake.append("(3, 'Cy')", false).await;
    let refs = lake.run(&["iceberg", "refs", "lake.people"]);
    for name in ["main", "both", &branch] {
        assert!(refs.contains(name), "{name}\n{refs}");
    }
    assert_eq!(rows_of(&lake, "lake.people"), "id,name\n1,Ann\n2,Bob\n");
    assert_eq!(rows_of(&lake, &format!("lake.\"people@{branch}\"")), "id,name\n1,Ann\n2,Bob\n3,Cy\n");
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
