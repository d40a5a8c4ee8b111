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
