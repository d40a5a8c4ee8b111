use insta::assert_snapshot;

use super::*;
use crate::suites::Suite;

fn run(case: &'static str, engine: &str, round: u32, wall: f64, megabytes: u64) -> Measured {
    let usage = Usage { wall, cpu: wall * 2.0, peak: megabytes * 1_000_000 };
    Measured { case, engine: engine.to_owned(), round, usage, files: 10_433 }
}

fn report(measured: Vec<Measured>) -> Report {
    Report {
        data: "scale 1, seed 42".to_owned(),
        threads: 2,
        written_to: "tmpfs".to_owned(),
        versions: [("hardtack", "hardtack 1"), ("polars", "Polars 2"), ("polars:sorted", "Polars 2")]
            .map(|(engine, version)| (engine.to_owned(), version.to_owned()))
            .to_vec(),
        left_out: vec![],
        measured,
        problems: vec![],
        milliseconds: false,
    }
}

#[test]
fn medians_and_ratios() {
    let measured = vec![
        run("observations", "hardtack", 0, 7.0, 1_000),
        run("observations", "duckdb", 0, 20.0, 3_000),
        run("observations", "polars:sorted", 0, 14.0, 4_000),
        run("observations", "spark", 0, 140.0, 5_000),
        run("observations", "hardtack", 1, 5.0, 1_200),
        run("observations", "duckdb", 1, 21.0, 3_000),
        run("observations", "hardtack", 2, 6.0, 9_000),
        run("sinusitis", "hardtack", 0, 0.25, 90),
    ];
    assert_snapshot!(report(measured).to_string(), @"
    Data: scale 1, seed 42; 2 threads each, results on tmpfs.
    Measured: hardtack 1, Polars 2.

    | case         | engine        | wall s (least - most)    | CPU s  | peak MB | files | runs |
    | ------------ | ------------- | ------------------------ | ------ | ------- | ----- | ---- |
    | observations | hardtack      | 6.00 (5.00 - 7.00)       | 12.00  | 1200    | 10433 | 3    |
    | observations | duckdb        | 20.50 (20.00 - 21.00)    | 41.00  | 3000    | 10433 | 2    |
    | observations | polars:sorted | 14.00 (14.00 - 14.00)    | 28.00  | 4000    | 10433 | 1    |
    | observations | spark         | 140.00 (140.00 - 140.00) | 280.00 | 5000    | 10433 | 1    |
    | sinusitis    | hardtack      | 0.25 (0.25 - 0.25)       | 0.50   | 90      | 10433 | 1    |

    | hardtack     | wall / faster of DuckDB, Polars | peak / leaner of the two | wall / Spark |
    | ------------ | ------------------------------- | ------------------------ | ------------ |
    | observations | 0.429                           | 0.400                    | 0.043        |
    | sinusitis    | -                               | -                        | -            |
    ");
}

#[test]
fn our_ways_are_compared_with_each_other() {
    let measured = vec![
        run("days", "hardtack", 0, 3.0, 200),
        run("days", "hardtack:files", 0, 2.5, 190),
        run("years", "hardtack", 0, 1.0, 100),
        run("years", "polars:iceberg", 0, 2.0, 50),
    ];
    let text = report(measured).to_string();
    assert_snapshot!(text[text.rfind("\n\n").unwrap()..].trim(), @"
    | hardtack | wall / faster of DuckDB, Polars | peak / leaner of the two | wall / Spark | wall / hardtack:files |
    | -------- | ------------------------------- | ------------------------ | ------------ | --------------------- |
    | days     | -                               | -                        | -            | 1.200                 |
    | years    | 0.500                           | 2.000                    | -            | -                     |
    ");
}

#[test]
fn what_is_missing_is_said() {
    let mut report = report(vec![run("sinusitis", "duckdb", 0, 0.25, 90)]);
    report.left_out.push(("spark".to_owned(), "there is no Java".to_owned()));
    report.problem(Suite::Elt.cases()[2], &[&"duckdb".parse().unwrap()], "different".to_owned());
    report.problem(Suite::Elt.cases()[2], &[&"duckdb".parse().unwrap()], "different".to_owned());
    assert_snapshot!(report.to_string(), @"
    Data: scale 1, seed 42; 2 threads each, results on tmpfs.
    Measured: hardtack 1, Polars 2.
    LEFT OUT: spark (there is no Java).

    | case      | engine | wall s (least - most) | CPU s | peak MB | files | runs |
    | --------- | ------ | --------------------- | ----- | ------- | ----- | ---- |
    | sinusitis | duckdb | 0.25 (0.25 - 0.25)    | 0.50  | 90      | 10433 | 1    |

    PROBLEM: sinusitis, duckdb: different
    ");
}

#[test]
fn json_has_every_run() {
    let report = report(vec![run("sinusitis", "duckdb", 0, 0.25, 90)]);
    assert_snapshot!(report.json().unwrap(), @r#"
    {
      "data": "scale 1, seed 42",
      "threads": 2,
      "written_to": "tmpfs",
      "versions": [
        [
          "hardtack",
          "hardtack 1"
        ],
        [
          "polars",
          "Polars 2"
        ],
        [
          "polars:sorted",
          "Polars 2"
        ]
      ],
      "left_out": [],
      "measured": [
        {
          "case": "sinusitis",
          "engine": "duckdb",
          "round": 0,
          "wall": 0.25,
          "cpu": 0.5,
          "peak": 90000000,
          "files": 10433
        }
      ],
      "problems": []
    }
    "#);
}

#[test]
fn starts_are_shown_in_milliseconds() {
    let mut report = report(vec![run("job", "hardtack", 0, 0.0123, 31), run("job", "hardtack", 1, 0.0125, 31)]);
    report.milliseconds = true;
    assert_snapshot!(report.to_string(), @"
    Data: scale 1, seed 42; 2 threads each, results on tmpfs.
    Measured: hardtack 1, Polars 2.

    | case | engine   | wall ms (least - most) | CPU ms | peak MB | files | runs |
    | ---- | -------- | ---------------------- | ------ | ------- | ----- | ---- |
    | job  | hardtack | 12.4 (12.3 - 12.5)     | 24.8   | 31.0    | 10433 | 2    |
    ");
}
