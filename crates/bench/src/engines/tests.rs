use insta::assert_snapshot;
use rstest::rstest;

use super::*;

fn commands(programs: &Programs) -> String {
    let scripts = format!("{}/python", env!("CARGO_MANIFEST_DIR"));
    let engines = ["hardtack", "duckdb:sorted", "polars", "spark"].map(|engine| engine.parse::<Engine>().unwrap());
    let lines = engines.iter().map(|engine| {
        let words = programs.command(engine, Suite::Elt.cases()[2], Path::new("data"), Path::new("out"));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ").replace(&scripts, "SCRIPTS")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_engine_is_told_the_same() {
    let programs = Programs { jobs: "bin".into(), python: "python3".into(), memory_limit: None, threads: None };
    assert_snapshot!(commands(&programs), @"
    bin/sinusitis_study --source data --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_elt.py sinusitis data out/result --mode sorted
    python3 SCRIPTS/polars_elt.py sinusitis data out/result
    python3 SCRIPTS/pyspark_elt.py sinusitis data out/result
    ");
}

/// Tools without a memory limit are not given one.
#[test]
fn limits_are_passed_on() {
    let memory_limit = Some("1GiB".to_owned());
    let programs = Programs { jobs: "bin".into(), python: "python3".into(), memory_limit, threads: Some(4) };
    assert_snapshot!(commands(&programs), @"
    bin/sinusitis_study --source data --target out --state out/state --show 0 --log warn --threads 4 --memory-limit 1GiB
    python3 SCRIPTS/duckdb_elt.py sinusitis data out/result --threads 4 --memory-limit 1GiB --mode sorted
    python3 SCRIPTS/polars_elt.py sinusitis data out/result --threads 4
    python3 SCRIPTS/pyspark_elt.py sinusitis data out/result --threads 4
    ");
}

/// The commands of all cases of a suite, by all who take part.
fn of_suite(suite: Suite) -> String {
    let programs = Programs { jobs: "bin".into(), python: "python3".into(), memory_limit: None, threads: None };
    let scripts = format!("{}/python", env!("CARGO_MANIFEST_DIR"));
    let all = suite.cases().iter().flat_map(|case| suite.engines().iter().map(move |engine| (case, engine)));
    let lines = all.map(|(case, engine)| {
        let engine = engine.parse::<Engine>().unwrap();
        assert!(suite.has(&engine));
        let words = programs.command(&engine, *case, Path::new("data"), Path::new("out"));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ").replace(&scripts, "SCRIPTS")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_merge_reads_a_batch() {
    assert_snapshot!(of_suite(Suite::Merge), @"
    bin/customer_events --source data/inserts --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_merge.py insert data out/result
    python3 SCRIPTS/polars_merge.py insert data out/result
    python3 SCRIPTS/pyspark_merge.py insert data out/result
    bin/customer_events --source data/changes --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_merge.py change data out/result
    python3 SCRIPTS/polars_merge.py change data out/result
    python3 SCRIPTS/pyspark_merge.py change data out/result
    ");
}

#[test]
fn snapshots_are_of_the_year() {
    assert_snapshot!(of_suite(Suite::Snapshots), @"
    bin/policy_snapshots --source data/year --target out --state out/state --show 0 --log warn --until 2025-12-31
    python3 SCRIPTS/duckdb_snapshots.py year data out/result
    python3 SCRIPTS/polars_snapshots.py year data out/result
    bin/policy_snapshots --source data/late --target out --state out/state --show 0 --log warn --until 2025-12-31
    python3 SCRIPTS/duckdb_snapshots.py late data out/result
    python3 SCRIPTS/polars_snapshots.py late data out/result
    ");
}

#[test]
fn the_job_for_json_is_given_the_case() {
    assert_snapshot!(of_suite(Suite::Json).lines().step_by(3).collect::<Vec<_>>().join("\n"), @"
    bin/bench_access_records --source data --target out --state out/state --show 0 --log warn --case few
    bin/bench_access_records --source data --target out --state out/state --show 0 --log warn --case all
    bin/bench_access_records --source data --target out --state out/state --show 0 --log warn --case all_gzip
    ");
}

#[test]
fn access_records_are_plain_or_compressed() {
    assert_snapshot!(of_suite(Suite::Access), @"
    bin/access_records --source data/plain --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_access.py plain data out/result
    python3 SCRIPTS/polars_access.py plain data out/result
    bin/access_records --source data/gzip --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_access.py gzip data out/result
    python3 SCRIPTS/polars_access.py gzip data out/result
    ");
}

#[test]
fn a_lake_is_asked_in_sql() {
    assert_snapshot!(of_suite(Suite::Scan), @"
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients from lake.observations group by category
    python3 SCRIPTS/duckdb_scan.py full data out/result
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients from lake.observations where year = 2020 group by category
    python3 SCRIPTS/duckdb_scan.py year data out/result
    ");
}

#[test]
fn a_merge_is_into_a_table_or_into_files() {
    assert_snapshot!(of_suite(Suite::IcebergMerge), @"
    bin/customer_events --source data/inserts --target out --state out/state --show 0 --log warn --target-format iceberg --target-database crm
    bin/customer_events --source data/inserts --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_iceberg_merge.py insert data out/result
    python3 SCRIPTS/polars_iceberg_merge.py insert data out/result
    python3 SCRIPTS/polars_iceberg_merge.py insert data out/result --mode pyiceberg
    bin/customer_events --source data/changes --target out --state out/state --show 0 --log warn --target-format iceberg --target-database crm
    bin/customer_events --source data/changes --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_iceberg_merge.py change data out/result
    python3 SCRIPTS/polars_iceberg_merge.py change data out/result
    python3 SCRIPTS/polars_iceberg_merge.py change data out/result --mode pyiceberg
    bin/customer_events --source data/few --target out --state out/state --show 0 --log warn --target-format iceberg --target-database crm
    bin/customer_events --source data/few --target out --state out/state --show 0 --log warn
    python3 SCRIPTS/duckdb_iceberg_merge.py few data out/result
    python3 SCRIPTS/polars_iceberg_merge.py few data out/result
    python3 SCRIPTS/polars_iceberg_merge.py few data out/result --mode pyiceberg
    ");
}

/// By its partition keys, if these are folders, and by the rows' moments, if only the metadata know the partitions.
#[test]
fn tables_and_their_files_are_asked_the_same() {
    let ours = |line: &&str| line.starts_with("bin/");
    assert_snapshot!(of_suite(Suite::IcebergRead).lines().filter(ours).collect::<Vec<_>>().join("\n"), @"
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from lake.observations group by category
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from files.observations group by category
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from lake.observations where date >= timestamp '2020-01-01' and date < timestamp '2021-01-01' group by category
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from files.observations where date_day >= '2020-01-01' and date_day < '2021-01-01' group by category
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from lake.by_year group by category
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from files.by_year group by category
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from lake.by_year where date >= timestamp '2020-01-01' and date < timestamp '2021-01-01' group by category
    bin/hardtack sql --state data/state --output out/result/rows.parquet -c select category, count(*) as observations, count(distinct patient) as patients, sum(character_length(description)) as characters from files.by_year where date_year = 2020 group by category
    ");
}

#[test]
fn what_is_new_is_read_by_a_bookmark_or_by_a_filter() {
    assert_snapshot!(of_suite(Suite::IcebergIncremental), @"
    bin/bench_iceberg --source data --target out --state data/state --show 0 --log warn --case new --job-bookmark-option job-bookmark-pause
    bin/bench_iceberg --source data --target out --state data/state --show 0 --log warn --case filter --job-bookmark-option job-bookmark-pause
    bin/bench_iceberg --source data --target out --state data/state --show 0 --log warn --case full --job-bookmark-option job-bookmark-pause
    python3 SCRIPTS/duckdb_iceberg_incremental.py batch data out/result
    python3 SCRIPTS/polars_iceberg_incremental.py batch data out/result
    python3 SCRIPTS/polars_iceberg_incremental.py batch data out/result --mode pyiceberg
    ");
}

#[test]
fn a_table_is_compacted_in_two_ways() {
    assert_snapshot!(of_suite(Suite::IcebergCompact), @"
    bin/hardtack iceberg compact lake.observations --state data/state
    python3 SCRIPTS/duckdb_iceberg_compact.py unsorted data out/result
    python3 SCRIPTS/polars_iceberg_compact.py unsorted data out/result
    bin/hardtack iceberg compact lake.observations --state data/state --sort-by patient,date
    python3 SCRIPTS/duckdb_iceberg_compact.py sorted data out/result
    python3 SCRIPTS/polars_iceberg_compact.py sorted data out/result
    ");
}

#[test]
fn two_versions_are_compared() {
    assert_snapshot!(of_suite(Suite::Compare), @"
    bin/hardtack compare --key id --json --state data/state data/before data/after
    python3 SCRIPTS/duckdb_compare.py customers data out/result
    python3 SCRIPTS/polars_compare.py customers data out/result
    ");
}

#[rstest]
#[case(Suite::IcebergMerge, "hardtack:files", true)]
#[case(Suite::IcebergMerge, "hardtack:filter", false)]
#[case(Suite::Merge, "hardtack:files", false)]
#[case(Suite::Merge, "duckdb:sorted", true)]
#[case(Suite::Scan, "polars", false)]
fn who_takes_part(#[case] suite: Suite, #[case] engine: &str, #[case] expected: bool) {
    assert_eq!(suite.has(&engine.parse().unwrap()), expected);
}

#[test]
fn a_start_has_no_rows() {
    assert_snapshot!(of_suite(Suite::Start), @"
    bin/customer_events --source out/empty --target out --state out/state --show 0 --log warn
    bin/hardtack --version
    ");
}

/// Everybody who takes part in a suite has a script.
#[test]
fn scripts_exist() {
    for suite in [
        Suite::Elt,
        Suite::Merge,
        Suite::Snapshots,
        Suite::Json,
        Suite::Access,
        Suite::Scan,
        Suite::Quality,
        Suite::Iceberg,
        Suite::IcebergMerge,
        Suite::IcebergRead,
        Suite::IcebergIncremental,
        Suite::IcebergCompact,
        Suite::Compare,
        Suite::Start,
    ] {
        let engines = suite.engines().iter().map(|engine| engine.parse::<Engine>().unwrap());
        let missing = engines.filter_map(|engine| script(engine.tool, suite)).find(|script| !script.is_file());
        assert_eq!(missing, None);
    }
}
