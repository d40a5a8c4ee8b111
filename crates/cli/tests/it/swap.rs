//! `hardtack swap`: a new version of a table is written beside the old one, compared, and takes its place.

use hardtack_catalog::{Catalog, Column, EmbeddedCatalog, TableDescription, TableFormat, columns_of};
use hardtack_core::{Location, Run, Sink};
use hardtack_runtime::{RuntimeArgs, open_context, open_state};
use hardtack_state::{Begun, Ledger};
use hardtack_tables::Table;
use insta::assert_snapshot;
use rstest::rstest;

/// A folder with tables in the catalog at its state location.
struct Lake(tempfile::TempDir);

/// What a table is.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Files,
    Partitioned,
    Iceberg,
}

const BLUE: &str = "(1, 'Ann', 'DE'), (2, 'Bob', 'US')";
const GREEN: &str = "(1, 'Anne', 'DE'), (3, 'Cy', 'FR')";

impl Lake {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, path: &str) -> Location {
        Location::from(self.0.path()).join(path)
    }

    fn options(&self) -> RuntimeArgs {
        RuntimeArgs::with_state(self.at("state"))
    }

    /// Saves rows to the table `customers` of a database, which is created below a folder of this name.
    async fn save(&self, database: &str, kind: Kind, rows: &str) {
        let ctx = open_context("job", &self.options()).unwrap();
        let query = format!("select id, name, country from (values {rows}) as v(id, name, country)");
        let rows = ctx.session().sql(&query).await.unwrap();
        let mut columns = columns_of(rows.schema().as_arrow()).unwrap();
        let keys = columns.split_off(if matches!(kind, Kind::Partitioned) { 2 } else { 3 });
        let place = self.at(&format!("{database}/customers"));
        let description = TableDescription::new(database, "customers", &TableFormat::Parquet, place)
            .with_columns(columns)
            .with_partition_keys(keys);
        let table = Table::named(database, "customers").create_if_missing(description);
        let table = if matches!(kind, Kind::Iceberg) { table.iceberg() } else { table };
        let staged = table.stage(&ctx.staging("customers"), rows).await.unwrap();
        ctx.publish(&staged.publish).await.unwrap();
    }

    async fn blue_and_green(blue: Kind, green: Kind) -> Self {
        let lake = Self::new();
        lake.save("lake", blue, BLUE).await;
        lake.save("green", green, GREEN).await;
        lake
    }

    /// What the command prints on success.
    fn run(&self, args: &[&str]) -> String {
        self.exits(0, args)
    }

    fn exits(&self, with: i32, args: &[&str]) -> String {
        let (code, text) = crate::hardtack(self.0.path(), args);
        assert_eq!(code, Some(with), "{args:?}\n{text}");
        text.replace(self.0.path().to_str().unwrap(), "FOLDER")
    }

    fn rows(&self, table: &str) -> String {
        let query = format!("select id, name, country from {table} order by id");
        self.run(&["sql", "--format", "csv", "-c", &query])
    }

    /// The rows of both names.
    fn both(&self) -> [String; 2] {
        ["lake.customers", "green.customers"].map(|table| self.rows(table))
    }
}

const SWAP: [&str; 3] = ["swap", "lake.customers", "green.customers"];
const OLD: &str = "id,name,country\n1,Ann,DE\n2,Bob,US\n";
const NEW: &str = "id,name,country\n1,Anne,DE\n3,Cy,FR\n";

#[rstest]
#[case(Kind::Files, Kind::Files)]
#[case(Kind::Partitioned, Kind::Partitioned)]
#[case(Kind::Iceberg, Kind::Iceberg)]
#[case(Kind::Partitioned, Kind::Iceberg)]
#[case(Kind::Files, Kind::Partitioned)]
#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_the_place_of_the_old_one_and_goes_back(#[case] blue: Kind, #[case] green: Kind) {
    let lake = Lake::blue_and_green(blue, green).await;
    let compare = ["compare", "lake.customers", "green.customers", "--key", "id"];
    assert!(lake.exits(3, &compare).contains("1 added, 1 removed, 1 changed"));

    let dry: Vec<&str> = SWAP.into_iter().chain(["--dry-run"]).collect();
    let would = lake.run(&dry);
    assert!(would.starts_with("would swap lake.customers and green.customers\n"), "{would}");
    assert_eq!(lake.both(), [OLD, NEW]);

    let swapped = lake.run(&SWAP);
    assert_eq!(swapped, would.replace("would swap", "swapped"));
    let format = |kind: Kind| if matches!(kind, Kind::Iceberg) { "iceberg" } else { "parquet" };
    for part in [
        format!("lake.customers: {} in FOLDER/green/customers\n", format(green)),
        format!("green.customers: {} in FOLDER/lake/customers\n", format(blue)),
    ] {
        assert!(swapped.contains(&part), "{part}\n{swapped}");
    }
    assert_eq!(lake.both(), [NEW, OLD]);
    assert!(lake.exits(3, &compare).contains("1 added, 1 removed, 1 changed"));

    // The job's new version goes on with the table under its new name, where that is.
    let ctx = open_context("job", &lake.options()).unwrap();
    let rows = ctx.session().sql("select 4 as id, 'Dan' as name, 'DE' as country").await.unwrap();
    let staged = Table::named("lake", "customers").stage(&ctx.staging("customers"), rows).await.unwrap();
    ctx.publish(&staged.publish).await.unwrap();
    let newer = format!("{NEW}4,Dan,DE\n");
    assert_eq!(lake.both(), [newer.as_str(), OLD]);

    lake.run(&SWAP);
    assert_eq!(lake.both(), [OLD, newer.as_str()]);
}

/// The old version of a job has the old location, and does not write into the new table by mistake.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_names_the_old_location_is_refused() {
    let lake = Lake::blue_and_green(Kind::Files, Kind::Files).await;
    lake.run(&SWAP);
    let ctx = open_context("job", &lake.options()).unwrap();
    let rows = ctx.session().sql("select 4 as id, 'Dan' as name, 'DE' as country").await.unwrap();
    let columns = columns_of(rows.schema().as_arrow()).unwrap();
    let place = lake.at("lake/customers");
    let old = TableDescription::new("lake", "customers", &TableFormat::Parquet, place).with_columns(columns);
    let table = Table::named("lake", "customers").create_if_missing(old);
    let error = table.stage(&ctx.staging("customers"), rows).await.unwrap_err();
    assert!(error.message().contains("the table's location differs from the job's"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_that_readers_will_miss_are_named() {
    let lake = Lake::new();
    lake.save("lake", Kind::Partitioned, BLUE).await;
    let catalog = EmbeddedCatalog::open(&lake.at("state/catalog.sqlite")).unwrap();
    catalog.create_database(&hardtack_catalog::Database::new("green")).await.unwrap();
    let green = TableDescription::new("green", "customers", &TableFormat::Parquet, lake.at("green/customers"))
        .with_columns([Column::foreign("id", "string"), Column::foreign("email", "string")])
        .with_partition_keys([Column::foreign("country", "string")]);
    catalog.create_table(&green).await.unwrap();
    let dry = ["swap", "lake.customers", "green.customers", "--dry-run"];
    assert_snapshot!(lake.run(&dry), @"
    warning: `id` is bigint in lake.customers and string in green.customers
    warning: `name` of lake.customers is missing in green.customers
    would swap lake.customers and green.customers
    lake.customers: parquet in FOLDER/green/customers
    green.customers: parquet in FOLDER/lake/customers
    ");
    // Columns that are new break nothing.
    let read = catalog.get_table("green", "customers").await.unwrap();
    let columns = ["id: bigint", "name: string", "email: string"].map(|column| column.split_once(": ").unwrap());
    let more = read.with_columns(columns.map(|(name, data_type)| Column::foreign(name, data_type)));
    catalog.update_table(&more).await.unwrap();
    assert_snapshot!(lake.run(&dry), @"
    would swap lake.customers and green.customers
    lake.customers: parquet in FOLDER/green/customers
    green.customers: parquet in FOLDER/lake/customers
    ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_swapped_is_refused() {
    let lake = Lake::blue_and_green(Kind::Files, Kind::Files).await;
    assert_snapshot!(lake.exits(2, &["swap", "lake.customers", "LAKE.Customers"]), @"hardtack: a table cannot be swapped with itself (table: lake.customers)");
    assert_snapshot!(lake.exits(1, &["swap", "lake.customers", "lake.people"]), @"hardtack: there is no table `lake.people` in the catalog; create it, or check the name");
    assert!(lake.exits(2, &["swap", "lake.customers", "customers"]).contains("expected a database and a table"));
    let catalog = EmbeddedCatalog::open(&lake.at("state/catalog.sqlite")).unwrap();
    let mut view = TableDescription::new("lake", "view", &TableFormat::Parquet, lake.at("x"));
    (view.storage.location, view.table_type) = (None, Some("VIRTUAL_VIEW".to_owned()));
    catalog.create_table(&view).await.unwrap();
    for dry_run in [&[][..], &["--dry-run"]] {
        let refused = lake.exits(2, &[&["swap", "lake.customers", "lake.view"], dry_run].concat());
        assert!(
            refused.contains("only tables with rows of their own can be swapped (table: lake.view, kind: "),
            "{refused}"
        );
    }
    assert_eq!(lake.both(), [OLD, NEW]);
}

/// It could not be published afterwards. A branch of a run that has ended goes with its table.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_to_which_a_run_is_writing_is_not_swapped() {
    let lake = Lake::blue_and_green(Kind::Iceberg, Kind::Iceberg).await;
    let base = open_context("job", &lake.options()).unwrap();
    let ledger = Ledger::new(open_state(base.stores(), &lake.at("state")).unwrap(), "job", Run::WHOLE_JOB);
    let Begun::Attempt(attempt) = ledger.begin(base.run()).await.unwrap() else { panic!("it does not begin") };
    let run = attempt.record.run.version();
    lake.run(&["iceberg", "branch", "green.customers", &format!("hardtack_{run}_2")]);
    let refused = lake.exits(2, &SWAP);
    assert_eq!(
        refused.replace(&run, "RUN"),
        "hardtack: a run that has not ended writes to the table (table: green.customers, run: RUN, hint: wait for it; if \
         it was killed, the next run of its job or `hardtack recover` removes its branch)\n"
    );
    lake.run(&["iceberg", "drop-branch", "green.customers", &format!("hardtack_{run}_2")]);
    lake.run(&["iceberg", "branch", "green.customers", "hardtack_20261101T000000Z-00000000-00000000"]);
    lake.run(&SWAP);
    assert_eq!(lake.both(), [NEW, OLD]);
    let refs = lake.run(&["iceberg", "refs", "lake.customers"]);
    assert!(refs.contains("hardtack_20261101T000000Z-00000000-00000000"), "{refs}");
}
