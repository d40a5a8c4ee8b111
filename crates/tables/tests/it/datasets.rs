//! Which folders and files become tables.

use std::collections::BTreeSet;
use std::path::Path;

use datafusion::prelude::DataFrame;
use hardtack_catalog::{Catalog, CatalogExt, Predicate, TableDescription, TableFormat, schema};
use hardtack_core::{ErrorKind, JobContext, Location, Sink};
use hardtack_tables::{CrawlOptions, CrawlReport, Table, crawl, purge, register_names};
use hardtack_test_support::rows;
use insta::assert_snapshot;
use rstest::rstest;

use crate::crawling::said;
use crate::files;
use crate::lake;
use crate::world::{World, cells};

const AT: &str = "memory:/lake";

async fn with(world: &World, options: &CrawlOptions) -> CrawlReport {
    crawl(&world.ctx, &Location::from(AT), "lake", options).await.unwrap()
}

async fn put(world: &World, files: &[(&str, &str)]) {
    for (name, text) in files {
        let bytes = if name.ends_with(".gz") { files::gzip(text) } else { text.as_bytes().to_vec() };
        world.put(format!("{AT}/{name}"), bytes).await;
    }
}

/// The tables of the catalog, each with its folder, keys, partitions and file patterns.
async fn tables(catalog: &dyn Catalog) -> String {
    let mut lines = Vec::new();
    for table in catalog.list_tables("lake").await.unwrap_or_default() {
        let keys: Vec<&str> = table.partition_keys.iter().map(|key| key.name.as_str()).collect();
        let partitions = catalog.all_partitions(&table, &Predicate::all()).await.unwrap();
        let mut values: Vec<String> = partitions.iter().map(|p| p.values.join("/")).collect();
        values.sort();
        let at = table.location().unwrap().as_str().trim_start_matches(AT).to_owned();
        let by =
            if keys.is_empty() { String::new() } else { format!(" by {}: {}", keys.join(", "), values.join(", ")) };
        let only = table.parameters.get("hardtack.files").map(|files| format!(" only {files}")).unwrap_or_default();
        let except = table.parameters.get("hardtack.exclude").map(|f| format!(" without {f}")).unwrap_or_default();
        lines.push(format!("{} at {at}{by}{only}{except}", table.name));
    }
    lines.join("; ")
}

/// Checks that a second crawl finds nothing to do and reports the same problems.
async fn settled(world: &World, options: &CrawlOptions, problems: &CrawlReport) {
    let before = tables(world.catalog.as_ref()).await;
    let again = with(world, options).await;
    assert!(again.is_unchanged(), "{}", said(&again));
    let messages = |report: &CrawlReport| report.problems.iter().map(|p| p.message.clone()).collect::<Vec<_>>();
    assert_eq!(messages(&again), messages(problems));
    assert_eq!(tables(world.catalog.as_ref()).await, before);
}

async fn sql(ctx: &JobContext, query: &str) -> DataFrame {
    register_names(ctx).unwrap();
    ctx.session().sql(query).await.unwrap()
}

const P: &str = r#"{"id": 1, "name": "x", "city": "y"}"#;
const E: &str = r#"{"at": 1, "kind": "x", "who": "y"}"#;
const PC: &str = "id,name,city\n1,x,y\n";
const EC: &str = "at,kind,who\n1,x,y\n";
const WIDE: &str = r#"{"id": 1, "name": "x", "city": "y", "zip": "z"}"#;

#[rstest]
#[case::hours(&[("e/2023/11/14/10/a.json", P), ("e/2023/11/14/11/a.json", P)], "e at /e by partition_0, partition_1, partition_2, partition_3: 2023/11/14/10, 2023/11/14/11")]
#[case::the_first_hour(&[("e/2023/11/14/00/s-1-00.json", P)], "e at /e by partition_0, partition_1, partition_2, partition_3: 2023/11/14/00")]
#[case::dates(&[("e/2023-11-14/a.json", P), ("e/2023-11-15/a.json", WIDE)], "e at /e by partition_0: 2023-11-14, 2023-11-15")]
#[case::half_named(&[("e/year=2023/11/a.json", P), ("e/year=2023/12/a.json", P)], "e at /e by year, partition_1: 2023/11, 2023/12")]
#[case::half_named_above(&[("e/eu/year=2023/a.json", P), ("e/us/year=2024/a.json", P)], "e at /e by partition_0, year: eu/2023, us/2024")]
#[case::half_named_between(&[("e/y=1/x/m=1/a.json", P), ("e/y=1/z/m=1/a.json", P)], "e at /e by y, partition_1, m: 1/x/1, 1/z/1")]
#[case::words(&[("e/eu/a.json", P), ("e/us/a.json", WIDE)], "e at /e by partition_0: eu, us")]
#[case::words_of_one_column(&[("e/eu/a.json", r#"{"id": 1}"#), ("e/us/a.json", r#"{"id": 1}"#)], "eu at /e/eu; us at /e/us")]
#[case::words_of_other_columns(&[("e/eu/a.json", P), ("e/us/a.json", E)], "eu at /e/eu; us at /e/us")]
#[case::one_word(&[("e/eu/a.json", P)], "eu at /e/eu")]
#[case::a_folder_in_each(&[("e/2023/data/a.json", P), ("e/2024/data/a.json", P)], "e at /e by partition_0: 2023, 2024")]
#[case::other_depths(&[("e/2023/a.json", P), ("e/2024/11/a.json", P), ("e/2024/12/a.json", P)], "e at /e by partition_0: 2023, 2024")]
#[case::another_format(&[("e/2023/a.json", P), ("e/2024/a.json", P), ("e/errors/a.csv", EC)], "e at /e by partition_0: 2023, 2024; errors at /e/errors")]
#[case::other_columns(&[("e/2023/a.json", P), ("e/2024/a.json", P), ("e/errors/2023/a.json", E)], "e at /e by partition_0: 2023, 2024; errors at /e/errors by partition_0: 2023")]
#[case::few_values(&[("2023/a.json", P), ("x/a.json", E), ("y/a.csv", PC)], "2023 at /2023; x at /x; y at /y")]
#[case::temporary(&[("e/2023/a.json", P), ("e/_temporary/0/a.json", E), ("e/.tmp/x.csv", EC)], "e at /e by partition_0: 2023")]
#[case::compressions(&[("e/2023/a.csv", PC), ("e/2024/a.csv.gz", PC)], "e at /e by partition_0: 2023, 2024")]
#[case::an_empty_one(&[("e/2023/a.json", P), ("e/2024/a.json", "")], "e at /e by partition_0: 2023")]
#[case::two_sets(&[("a/2023/x.json", P), ("a/2024/x.json", P), ("b/2023/x.json", E), ("b/2024/x.json", E)], "a at /a by partition_0: 2023, 2024; b at /b by partition_0: 2023, 2024")]
#[case::two_sets_alike(&[("e/a/2023/x.json", P), ("e/b/2023/x.json", P)], "e at /e by partition_0, partition_1: a/2023, b/2023")]
#[case::a_file_beside(&[("e/manifest.json", E), ("e/2023/a.json", P), ("e/2024/a.json", P)], r#"e at /e by partition_0: 2023, 2024; manifest at /e only ["manifest.json"]"#)]
#[case::a_file_beside_that_is_alike(&[("e/a.json", P), ("e/2023/a.json", P)], "e at /e")]
#[case::a_file_beside_words(&[("e/x.json", P), ("e/more/a.json", E)], r#"more at /e/more; x at /e only ["x.json"]"#)]
#[case::odd_names(&[("e/100%25 done/a.json", P), ("e/x. /a.json", P), ("e/ü東/a.json", P)], "e at /e by partition_0: 100%25 done, x. , ü東")]
#[case::files(&[("s/patients.csv", PC), ("s/encounters.csv", EC)], r#"encounters at /s only ["encounters.csv"]; patients at /s only ["patients.csv"]"#)]
#[case::numbered_files(&[("s/patients-1.csv", PC), ("s/patients-2.csv", PC), ("s/encounters-1.csv", EC)], r#"encounters at /s only ["encounters-*.csv"]; patients at /s only ["patients-*.csv"]"#)]
#[case::files_alike(&[("s/eu.csv", PC), ("s/us.csv", PC)], "s at /s")]
#[case::files_of_one_name(&[("s/a.json", r#"{"a": 1, "b": 1}"#), ("s/b.json", r#"{"a": 1, "c": 1}"#), ("s/c.json", r#"{"c": 1}"#)], "s at /s")]
#[case::files_of_one_name_but_others(&[("s/export-1.csv", PC), ("s/export-2.csv", EC)], r#"export_1 at /s only ["export-1.csv"]; export_2 at /s only ["export-2.csv"]"#)]
#[case::same_columns_other_words(&[("s/allergies.csv", EC), ("s/conditions.csv", EC), ("s/patients.csv", PC)], r#"allergies at /s only ["allergies.csv"]; conditions at /s only ["conditions.csv"]; patients at /s only ["patients.csv"]"#)]
#[case::same_word(&[("s/p_eu.csv", PC), ("s/items_eu.csv", EC), ("s/items_us.csv", EC)], r#"items at /s only ["items_eu.csv","items_us.csv"]; p_eu at /s only ["p_eu.csv"]"#)]
#[case::files_in_partitions(&[("s/dt=1/patients.csv", PC), ("s/dt=1/encounters.csv", EC), ("s/dt=2/patients.csv", PC)], r#"encounters at /s by dt: 1 only ["encounters.csv"]; patients at /s by dt: 1, 2 only ["patients.csv"]"#)]
#[case::files_in_values(&[("s/2023/patients.csv", PC), ("s/2023/encounters.csv", EC), ("s/2024/patients.csv", PC)], r#"encounters at /s by partition_0: 2023 only ["encounters.csv"]; patients at /s by partition_0: 2023, 2024 only ["patients.csv"]"#)]
#[case::without_a_header(&[("s/x.csv", "1,a\n2,b\n"), ("s/yy.csv", "2024-01-01,1.5,2,3\n2024-01-02,1.5,2,3\n")], r#"x at /s only ["x.csv"]; yy at /s only ["yy.csv"]"#)]
#[case::an_unreadable_one(&[("s/patients.json", P), ("s/nothing.json", "{{{")], "")]
#[tokio::test]
async fn folders_and_files_are_tables(#[case] files: &[(&str, &str)], #[case] expected: &str) {
    let world = World::new();
    put(&world, files).await;
    let report = with(&world, &CrawlOptions::default()).await;
    assert_eq!(tables(world.catalog.as_ref()).await, expected, "{}", said(&report));
    settled(&world, &CrawlOptions::default(), &report).await;
}

/// The options for a lake, and the outcome.
#[rstest]
#[case::names(&[("e/2023/11/a.json", P)], &["year", "Month"], None, &[], "e at /e by year, month: 2023/11")]
#[case::fewer_names(&[("e/2023/11/a.json", P)], &["year"], None, &[], "e at /e by year, partition_1: 2023/11")]
#[case::names_of_plain_ones(&[("e/year=2023/11/14/a.json", P)], &["month", "day"], None, &[], "e at /e by year, month, day: 2023/11/14")]
#[case::names_that_nobody_needs(&[("e/y=1/a.json", P)], &["month"], None, &[], "e at /e by y: 1")]
#[case::level_1(&[("eu/a.json", P), ("us/a.json", E)], &["region"], Some(1), &[], "lake at  by region: eu, us")]
#[case::level_2(&[("e/eu/a.json", P), ("e/us/a.json", E), ("f/2023/a.json", P)], &[], Some(2), &[], "e at /e by partition_0: eu, us; f at /f by partition_0: 2023")]
#[case::level_3(&[("e/eu/2023/a.json", P), ("e/us/2023/a.json", P)], &["year"], Some(3), &[], "eu at /e/eu by year: 2023; us at /e/us by year: 2023")]
#[case::level_of_files(&[("s/patients.csv", PC), ("s/encounters.csv", EC)], &[], Some(2), &[], "s at /s")]
#[case::level_of_keys(&[("e/y=1/m=1/a.json", P)], &[], Some(2), &[], "e at /e by y, m: 1/1")]
#[case::level_above(&[("a.json", P), ("e/x/a.json", P)], &[], Some(2), &[], "e at /e")]
#[case::without_files(&[("t/a.csv", PC), ("t/notes.txt", "see wiki"), ("t/x/b.txt", "x")], &[], None, &["**/*.txt"], r#"t at /t without ["**/*.txt"]"#)]
#[case::without_a_file(&[("t/a.csv", PC), ("t/notes.txt", "see wiki")], &[], None, &["t/notes.*"], r#"t at /t without ["notes.*"]"#)]
#[case::without_a_folder(&[("t/a.json", P), ("old/a.json", E)], &[], None, &["old/**"], "t at /t")]
#[case::without_a_partition(&[("t/y=1/a.json", P), ("t/y=2/a.json", P)], &[], None, &["t/y=2"], "t at /t by y: 1")]
#[case::without_files_of_partitions(&[("t/y=1/a.json", P), ("t/y=1/b.csv", PC), ("t/y=2/a.json", P)], &[], None, &["t/*/*.csv"], r#"t at /t by y: 1, 2 without ["*.csv"]"#)]
#[case::more_names_than_folders(&[("e/2023/a.json", P)], &["year", "month"], None, &[], "e at /e by year: 2023")]
#[tokio::test]
async fn options_decide(
    #[case] files: &[(&str, &str)],
    #[case] names: &[&str],
    #[case] table_level: Option<usize>,
    #[case] exclude: &[&str],
    #[case] expected: &str,
) {
    let world = World::new();
    put(&world, files).await;
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let options =
        CrawlOptions { partition_names: texts(names), table_level, exclude: texts(exclude), ..CrawlOptions::default() };
    let report = with(&world, &options).await;
    assert_eq!(tables(world.catalog.as_ref()).await, expected, "{}", said(&report));
    let too_many = said(&report).contains("there is no folder for `month` of --partition-names");
    assert_eq!(too_many, names == ["year", "month"], "{}", said(&report));
    settled(&world, &options, &report).await;
    // Readers follow the decision, and it stays without repeating the option.
    for table in world.catalog.list_tables("lake").await.unwrap() {
        assert!(!cells(sql(&world.ctx, &format!("select * from lake.{}", table.name)).await).await.is_empty());
    }
    if exclude.is_empty() && report.problems.is_empty() {
        settled(&world, &CrawlOptions::default(), &CrawlReport::default()).await;
    }
}

#[rstest]
#[case(CrawlOptions { partition_names: vec!["a b".into()], ..CrawlOptions::default() }, "`a b` is not a valid name for a partition key; expected names of letters, digits and `_`, such as `year,month,day` (argument: --partition-names)")]
#[case(CrawlOptions { partition_names: vec!["a".into(), "A".into()], ..CrawlOptions::default() }, "`A` occurs twice; expected names of letters, digits and `_`, such as `year,month,day` (argument: --partition-names)")]
#[case(CrawlOptions { table_level: Some(0), ..CrawlOptions::default() }, "there is no --table-level 0; 1 is the folder that is crawled, 2 are the folders in it")]
#[case(CrawlOptions { exclude: vec!["a[".into()], ..CrawlOptions::default() }, "`a[` is not a pattern such as `**/*.tmp`: invalid range pattern")]
#[tokio::test]
async fn invalid_options_are_refused(#[case] options: CrawlOptions, #[case] why: &str) {
    let error = crawl(&World::new().ctx, &Location::from(AT), "lake", &options).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Usage, why));
}

#[tokio::test]
async fn a_landing_zone_is_one_table() {
    let world = World::new();
    for hour in 10..20 {
        let file = format!("{AT}/events/2023/11/14/{hour:02}/s-1-{hour:02}.json");
        world.put(file, format!("{{\"id\": {hour}, \"kind\": \"click\"}}\n")).await;
    }
    world.asked();
    let named = CrawlOptions {
        partition_names: ["year", "month", "day", "hour"].map(str::to_owned).to_vec(),
        ..CrawlOptions::default()
    };
    let report = with(&world, &named).await;
    assert_eq!((report.tables.len(), report.problems.len()), (1, 0), "{}", said(&report));
    assert_snapshot!(report.tables[0].notes.join("\n"), @"the folder `2023`: a value, so it is a partition");
    assert_eq!(report.tables[0].partitions.added.len(), 10);
    assert_snapshot!(world.asked(), @"
    add_partitions 1 (10)
    create_database 1 (1)
    create_table 1 (1)
    get_database 1 (1)
    list_tables 1 (0)
    GET 20
    HEAD 1
    LIST 1
    ");
    // Filters leave the folders of an hour.
    let one = "select id, year, day, hour from lake.events where year = 2023 and hour = 17";
    assert_snapshot!(cells(sql(&world.ctx, one).await).await, @"17|2023|14|17");
    assert_snapshot!(world.asked(), @"
    get_table 1 (1)
    list_partitions 1 (1)
    GET 1
    LIST 1
    ");
    // The next hours arrive; the table keeps its keys, whatever the options say now.
    world.put(format!("{AT}/events/2023/11/15/10/s-1-10.json"), r#"{"id": 20, "kind": "x", "more": 1}"#).await;
    world.asked();
    assert_snapshot!(said(&with(&world, &CrawlOptions::default()).await).lines().filter(|line| !line.contains("~")).collect::<Vec<_>>().join("\n"), @"
    Updated lake.events json memory:/lake/events
      + more bigint
      statistics
      + year=2023/month=11/day=15/hour=10
    ");
    // Files of an existing table are not examined twice.
    assert!(world.asked().contains("GET 11"));
    settled(&world, &CrawlOptions::default(), &CrawlReport::default()).await;
    let rows = world.load("lake.events").await.unwrap();
    assert_eq!(rows.count().await.unwrap(), 11);
}

#[tokio::test]
async fn partitions_of_others_without_names_are_understood() {
    // As in Athena's manual for Firehose: partitions are added by hand, with their locations.
    let world = World::new();
    let table = TableDescription::new("lake", "events", &TableFormat::Json, format!("{AT}/events"))
        .with_columns([hardtack_catalog::Column::foreign("id", "bigint")])
        .with_partition_keys(["year", "month"].map(|key| hardtack_catalog::Column::foreign(key, "string")));
    world.create(&table).await;
    let partition = table.partition(["2023", "11"], format!("{AT}/events/2023/11"));
    world.catalog.add_partitions(&table, &[partition]).await.unwrap();
    for folder in ["2023/11", "2023/12", "2024/01", "year=2025/month=02", "errors/x", "deep"] {
        world.put(format!("{AT}/events/{folder}/a.json"), r#"{"id": 1}"#).await;
    }
    world.put(format!("{AT}/events/2024/02/a.csv"), "id\n1\n").await;
    let report = with(&world, &CrawlOptions::default()).await;
    assert_eq!(
        tables(world.catalog.as_ref()).await,
        "deep at /events/deep; events at /events by year, month: 2023/11, 2023/12, 2024/01, 2025/02; x at /events/errors/x"
    );
    let problems: Vec<&str> = report.problems.iter().map(|p| p.message.as_str()).collect();
    assert_snapshot!(problems.join("\n"), @"1 file of another format than JSON in 1 partition (memory:/lake/events/2024/02/a.csv), which is left alone; move them, or leave them out with --exclude");
    settled(&world, &CrawlOptions::default(), &report).await;
}

#[tokio::test]
async fn a_folder_of_another_set_is_no_partition_later() {
    let world = World::new();
    put(&world, &[("e/eu/a.json", P), ("e/us/a.json", P)]).await;
    with(&world, &CrawlOptions::default()).await;
    put(&world, &[("e/apac/a.json", WIDE), ("e/errors/a.json", E)]).await;
    let report = with(&world, &CrawlOptions::default()).await;
    let expected = "e at /e by partition_0: apac, eu, us; errors at /e/errors";
    assert_eq!(tables(world.catalog.as_ref()).await, expected, "{}", said(&report));
    settled(&world, &CrawlOptions::default(), &report).await;
}

#[tokio::test]
async fn files_of_one_folder_are_tables_of_their_own_and_stay_so() {
    let world = World::new();
    put(&world, &[("s/patients.csv", PC), ("s/encounters.csv", EC), ("s/notes/2023.csv", "day,text\n2023-01-01,x\n")])
        .await;
    let report = with(&world, &CrawlOptions::default()).await;
    assert_snapshot!(said(&report), @"
    Created lake.encounters csv memory:/lake/s
      + at bigint
      + kind string
      + who string
      note: other files of its folder are another data set, with other columns, so this table reads encounters.csv only; Athena and Spark read all files of a folder: for them, move each data set to a folder of its own
    Created lake.patients csv memory:/lake/s
      + id bigint
      + name string
      + city string
      note: other files of its folder are another data set, with other columns, so this table reads patients.csv only; Athena and Spark read all files of a folder: for them, move each data set to a folder of its own
    Created lake.notes csv memory:/lake/s/notes
      + day date
      + text string
    ");
    settled(&world, &CrawlOptions::default(), &report).await;
    // Another file of one of them, and a new one.
    put(&world, &[("s/patients_2.csv", "id,name,city\n2,z,y\n"), ("s/payers.csv", "payer,amount\nx,1\n")]).await;
    let report = with(&world, &CrawlOptions::default()).await;
    assert_eq!(
        tables(world.catalog.as_ref()).await,
        r#"encounters at /s only ["encounters.csv"]; notes at /s/notes; patients at /s only ["patients.csv","patients_*.csv"]; payers at /s only ["payers.csv"]"#
    );
    assert_snapshot!(said(&report), @"
    Unchanged lake.encounters csv memory:/lake/s
    Updated lake.patients csv memory:/lake/s
      statistics
      note: patients_*.csv belongs to it: name and columns are similar
    Created lake.payers csv memory:/lake/s
      + payer string
      + amount bigint
      note: other files of its folder are another data set, with other columns, so this table reads payers.csv only; Athena and Spark read all files of a folder: for them, move each data set to a folder of its own
    Unchanged lake.notes csv memory:/lake/s/notes
    ");
    settled(&world, &CrawlOptions::default(), &report).await;
    assert_snapshot!(cells(sql(&world.ctx, "select id, name from lake.patients order by id").await).await, @"1|x;2|z");
    assert_snapshot!(cells(world.load("lake.encounters").await.unwrap()).await, @"1|x|y");
    // Removing rows of one of them leaves the others alone.
    let removed =
        purge(&world.ctx, &Table::named("lake", "patients"), chrono::TimeDelta::milliseconds(-1), true).await.unwrap();
    assert_eq!(
        removed.files.iter().map(Location::as_str).collect::<Vec<_>>(),
        ["memory:/lake/s/patients.csv", "memory:/lake/s/patients_2.csv"]
    );
    // One of them is deleted.
    let (store, path) = world.ctx.stores().open(&Location::from("memory:/lake/s/payers.csv")).unwrap();
    object_store::ObjectStoreExt::delete(&store.objects, &path).await.unwrap();
    let report = with(&world, &CrawlOptions::default()).await;
    assert!(
        said(&report).contains("Unchanged lake.payers csv memory:/lake/s\n  note: there is no file in its folder"),
        "{}",
        said(&report)
    );
}

#[tokio::test]
async fn nothing_is_saved_to_some_files_of_a_folder() {
    let world = World::new();
    let parquet = |schema, json: &str| files::parquet(&files::rows(&schema, json));
    world.put(format!("{AT}/s/patients.parquet"), parquet(schema! { id: bigint, name: string, city: string }, P)).await;
    world
        .put(format!("{AT}/s/encounters.parquet"), parquet(schema! { at: bigint, kind: string, who: string }, E))
        .await;
    with(&world, &CrawlOptions::default()).await;
    let rows = rows! { id, name, city; 2, "b", "c" };
    for table in [Table::named("lake", "patients"), Table::named("lake", "patients").overwrite()] {
        let error = table.stage(&world.ctx.staging("out"), rows.to_df(world.ctx.session())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let why = "`lake.patients` consists of some files of its folder, so nothing can be saved to it (hint: move its files to a folder of their own, drop the table (`hardtack drop`), and crawl)";
        assert_eq!(error.to_string(), why);
    }
    assert_snapshot!(cells(world.load("lake.patients").await.unwrap()).await, @"1|x|y");
}

/// A new partition goes to a folder `key=value`, as everywhere. The catalog knows the location of each.
#[tokio::test]
async fn jobs_save_to_partitions_without_names() {
    let world = lake::World::new().await;
    let file = |id: i64| files::parquet(&files::rows(&schema! { id: bigint }, &format!("{{\"id\": {id}}}")));
    for (day, id) in [("2026-01-01", 1), ("2026-01-02", 2)] {
        let folder = world.dir.path().join("lake/sales").join(day);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("a.parquet"), file(id)).unwrap();
    }
    let options = CrawlOptions { partition_names: vec!["day".to_owned()], ..CrawlOptions::default() };
    let crawled = async |options: &CrawlOptions| {
        let report = crawl(&world.run(), &world.dir.at("lake"), "lake", options).await.unwrap();
        assert!(report.problems.is_empty(), "{}", said(&report));
        report
    };
    crawled(&options).await;
    let sales = || Table::named("lake", "sales");
    world.save(sales(), rows! { id, day: Date32; 3, "2026-01-01"; 4, "2026-01-03" }).await;
    assert_eq!(
        world.rows("sales").await,
        ["day=2026-01-01 id=1", "day=2026-01-01 id=3", "day=2026-01-02 id=2", "day=2026-01-03 id=4"]
    );
    let folders = |world: &lake::World| -> BTreeSet<String> {
        let files = world.files("lake/sales");
        files.iter().map(|file| file.split('/').nth(2).unwrap().to_owned()).collect()
    };
    assert_eq!(folders(&world), ["2026-01-01", "2026-01-02", "day=2026-01-03"].map(str::to_owned).into());
    assert!(crawled(&CrawlOptions::default()).await.is_unchanged());
    world.save(sales().overwrite_partitions(), rows! { id, day: Date32; 5, "2026-01-02"; 6, "2026-01-04" }).await;
    assert!(crawled(&CrawlOptions::default()).await.is_unchanged());
    // And more files are delivered.
    let folder = world.dir.path().join("lake/sales/2026-01-05");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("a.parquet"), file(7)).unwrap();
    assert_eq!(crawled(&CrawlOptions::default()).await.tables[0].partitions.added, ["day=2026-01-05"]);
    let rows = world.rows("sales").await;
    assert_eq!(rows[2..], ["day=2026-01-02 id=5", "day=2026-01-03 id=4", "day=2026-01-04 id=6", "day=2026-01-05 id=7"]);
    assert_eq!(rows.len(), 6);
}

#[tokio::test]
async fn what_is_left_out_stays_out_and_is_not_missed() {
    let world = World::new();
    put(&world, &[("t/y=1/a.json", P), ("t/y=2/a.json", P), ("u/a.csv", PC)]).await;
    with(&world, &CrawlOptions::default()).await;
    put(&world, &[("u/notes.txt", "see wiki")]).await;
    let report = with(&world, &CrawlOptions::default()).await;
    assert_snapshot!(report.problems[0].message, @"the files have several formats: 1 file of CSV (memory:/lake/u/a.csv), 1 file of no known format (memory:/lake/u/notes.txt); move those of another format, hide them by a leading `_`, or leave them out with --exclude");
    // The hint works.
    let options = CrawlOptions {
        exclude: vec!["u/*.txt".into(), "t/y=2".into()],
        delete_missing: true,
        ..CrawlOptions::default()
    };
    let report = with(&world, &options).await;
    assert!(report.problems.is_empty());
    assert_eq!(tables(world.catalog.as_ref()).await, r#"t at /t by y: 1, 2; u at /u without ["*.txt"]"#);
    assert_snapshot!(cells(world.load("lake.u").await.unwrap()).await, @"1|x|y");
    settled(&world, &options, &report).await;
}

// --- the local file system -----------------------------------------------------------------------------------------

#[cfg(unix)]
#[rstest]
#[case::circle(|root: &Path| std::os::unix::fs::symlink(".", root.join("bad/self")).unwrap(), "bad/self: this link points back to /bad, which contains it; it is not followed; remove the link, or leave it out with --exclude", true)]
#[case::circle_in_a_table(|root: &Path| std::os::unix::fs::symlink("..", root.join("good/up")).unwrap(), "good/up: this link points back to , which contains it; it is not followed; remove the link, or leave it out with --exclude", true)]
#[case::dangling(|root: &Path| std::os::unix::fs::symlink("gone", root.join("good/b.csv")).unwrap(), "good/b.csv: this link is broken; remove the link, or leave it out with --exclude", true)]
#[case::not_utf8(|root: &Path| std::fs::write(root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"bad/x\xff.csv")), "a\n1\n").unwrap(), "bad/x\u{fffd}.csv: the name is not UTF-8, so the file cannot be addressed; rename it, or leave it out with --exclude", true)]
#[case::not_utf8_in_a_table(|root: &Path| std::fs::write(root.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"good/x\xff.csv")), "a\n1\n").unwrap(), "good/x\u{fffd}.csv: the name is not UTF-8, so the file cannot be addressed; rename it, or leave it out with --exclude", false)]
#[case::line_end(|root: &Path| std::fs::write(root.join("bad/x\ny.csv"), "a\n1\n").unwrap(), "bad/x\ny.csv: the name contains a control character, such as a line break; rename it, or leave it out with --exclude", true)]
#[tokio::test]
async fn one_bad_thing_does_not_hold_up_the_others(#[case] make: fn(&Path), #[case] problem: &str, #[case] read: bool) {
    let world = lake::World::new().await;
    let root = std::fs::canonicalize(world.dir.path()).unwrap().join("lake");
    for folder in ["bad", "good", "part/y=1", "part/y=2"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("good/a.csv"), PC).unwrap();
    for year in [1, 2] {
        std::fs::write(root.join(format!("part/y={year}/a.csv")), EC).unwrap();
    }
    make(&root);
    let at = Location::from(&root);
    let report = crawl(&world.run(), &at, "lake", &CrawlOptions::default()).await.unwrap();
    let names: Vec<&str> = report.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["lake.good", "lake.part"], "{}", said(&report));
    let root_text = root.to_string_lossy().into_owned();
    let problems = report.problems.iter().map(|p| format!("{}: {}", p.location, p.message).replace(&root_text, ""));
    assert_eq!(problems.collect::<Vec<_>>(), [format!("/{problem}")]);
    let again = crawl(&world.run(), &at, "lake", &CrawlOptions::default()).await.unwrap();
    assert!(again.is_unchanged() && again.problems == report.problems, "{}", said(&again));
    let ctx = world.run();
    let rows =
        ctx.load(Table::named("lake", "good")).await.unwrap().collect().await.map_err(hardtack_core::Error::from);
    match rows {
        Ok(rows) => assert_eq!((read, rows[0].num_rows()), (true, 1)),
        Err(error) => {
            assert_eq!((read, error.kind()), (false, ErrorKind::Refused), "{error}");
            assert!(error.get_hint().is_some(), "{error}");
        }
    }
    // Once excluded, it is not a problem any more, for readers neither.
    let (bad, _) = problem.split_once(':').unwrap();
    let options = CrawlOptions { exclude: vec![bad.replace(['\n', '\u{fffd}'], "?")], ..CrawlOptions::default() };
    let report = crawl(&world.run(), &at, "lake", &options).await.unwrap();
    assert!(report.problems.is_empty(), "{}", said(&report));
    let rows = world.run().load(Table::named("lake", "good")).await.unwrap().collect().await.unwrap();
    assert_eq!(rows[0].num_rows(), 1);
}
