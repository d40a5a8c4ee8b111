use insta::assert_snapshot;

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

/// The commands of all cases of a suite, by all of its tools.
fn of_suite(suite: Suite) -> String {
    let programs = Programs { jobs: "bin".into(), python: "python3".into(), memory_limit: None, threads: None };
    let scripts = format!("{}/python", env!("CARGO_MANIFEST_DIR"));
    let all = suite.cases().iter().flat_map(|case| suite.tools().iter().map(move |tool| (case, tool)));
    let lines = all.map(|(case, tool)| {
        let engine = Engine { tool: *tool, mode: String::new() };
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
fn a_start_has_no_rows() {
    assert_snapshot!(of_suite(Suite::Start), @"
    bin/customer_events --source out/empty --target out --state out/state --show 0 --log warn
    bin/hardtack --version
    ");
}

/// Every tool of a suite has its script.
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
        Suite::Start,
    ] {
        let missing = suite.tools().iter().filter_map(|tool| script(*tool, suite)).find(|script| !script.is_file());
        assert_eq!(missing, None);
    }
}
