//! The command as a whole, with doubles of the jobs and of Python: scripts that copy a prepared result.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test accesses files and may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use insta::assert_snapshot;
use parquet::arrow::ArrowWriter;
use rstest::rstest;
use tempfile::TempDir;

/// A folder with tables, results, and programs that copy them.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: TempDir::new().unwrap() };
        for table in ["patients", "encounters", "conditions", "observations"] {
            bench.write(&format!("data/{table}.csv"), "id\n1\n");
        }
        // The job's arguments are `--source DATA --target OUT ...`, the script's `CASE DATA OUT ...`.
        bench.program("jobs/sinusitis_study", r#"cp -r "$HERE/ours" "$4/sinusitis_study""#);
        let versions = r#"case "$1 $2" in
            *duckdb*--version) echo "DuckDB 0"; exit ;;
            *polars*--version) echo "Polars 0"; exit ;;
            *pyspark*--version) test -e "$HERE/java" && echo "PySpark 0" && exit
                echo "there is no Java" >&2; exit 1 ;;
        esac"#;
        bench.program("python", &format!("{versions}\ncp -r \"$HERE/theirs/.\" \"$4\""));
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        self.write(name, &format!("#!/bin/sh\nset -e\nHERE='{}'\n{script}\n", self.folder.path().display()));
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn result(&self, folder: &str, ids: &[i64]) {
        let ids: ArrayRef = Arc::new(Int64Array::from(ids.to_vec()));
        self.batch(folder, RecordBatch::try_from_iter([("id", ids)]).unwrap());
    }

    fn batch(&self, folder: &str, batch: RecordBatch) {
        fs::create_dir_all(self.path(folder)).unwrap();
        let file = fs::File::create(self.path(folder).join("a.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn run(&self, more: &[&str]) -> Output {
        self.run_suite(&["elt", "--cases", "sinusitis", "--runs", "2"], more)
    }

    fn run_suite(&self, suite: &[&str], more: &[&str]) -> Output {
        let mut command = command(suite);
        command.arg("--job-bin-dir").arg(self.path("jobs")).arg("--python").arg(self.path("python"));
        command.arg("--data").arg(self.path("data")).arg("--out").arg(self.path("out")).args(more).output().unwrap()
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hardtack-bench"));
    command.args(args).env_remove("CARGO").env_remove("HARDTACK_BENCH_PYTHON");
    command
}

/// The output, with variable parts replaced.
fn shown(printed: &[u8], folder: &Path) -> String {
    let text = String::from_utf8(printed.to_vec()).unwrap().replace(&folder.display().to_string(), "FOLDER");
    let numbers = text.split(' ').map(|word| match word.parse::<f64>() {
        Ok(_) if word.contains('.') => "0.0",
        _ => word,
    });
    numbers.collect::<Vec<_>>().join(" ")
}

#[test]
fn equal_results_are_a_success() {
    let bench = Bench::new();
    bench.result("ours", &[1, 2, 3]);
    bench.result("theirs", &[3, 1, 2]);

    let output = bench.run(&["--json"]);

    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // In turn, round by round.
    let runs: Vec<_> = report["measured"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| {
            assert!(run["wall"].as_f64() > Some(0.0) && run["peak"].as_u64() > Some(500_000), "{run}");
            format!(
                "{} {} {} {}",
                run["case"].as_str().unwrap(),
                run["engine"].as_str().unwrap(),
                run["round"],
                run["files"]
            )
        })
        .collect();
    assert_eq!(
        runs,
        ["hardtack 0", "duckdb 0", "polars 0", "hardtack 1", "duckdb 1", "polars 1"]
            .map(|run| format!("sinusitis {run} 1"))
    );
    assert_eq!(report["left_out"][0][0], "spark");
    assert!(String::from_utf8_lossy(&output.stderr).contains("!!! spark IS LEFT OUT: there is no Java"));
    assert!(!bench.path("out").exists());
}

#[test]
fn spark_may_run_less_often() {
    let bench = Bench::new();
    bench.write("java", "");
    bench.result("ours", &[1]);
    bench.result("theirs", &[1]);
    let output = bench.run(&["--engines", "hardtack,spark", "--spark-runs", "1"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let runs = |engine: &str| stdout.lines().find(|line| line.contains(engine) && line.contains("sinusitis")).unwrap();
    assert!(runs("hardtack ").ends_with("| 2    |") && runs("spark ").ends_with("| 1    |"), "{output:?}");
}

#[test]
fn different_results_are_a_failure_that_is_shown() {
    let bench = Bench::new();
    bench.result("ours", &[1, 2, 3]);
    bench.result("theirs", &[1, 2, 4]);

    let output = bench.run(&["--engines", "hardtack,duckdb"]);

    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_snapshot!(stdout[stdout.find("PROBLEM").unwrap()..].trim(), @"
    PROBLEM: sinusitis, hardtack and duckdb: different results
      the whole: 3 rows and 3 rows
          only hardtack: id=3
          only duckdb: id=4
    ");
    assert_eq!(bench.run(&["--engines", "hardtack,duckdb", "--no-check"]).status.code(), Some(0));
}

#[test]
fn a_second_file_is_a_failure() {
    let bench = Bench::new();
    bench.result("ours", &[1, 2]);
    fs::copy(bench.path("ours/a.parquet"), bench.path("ours/b.parquet")).unwrap();

    let output = bench.run(&["--engines", "hardtack"]);

    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("the whole: 2 files instead of one"));
}

#[test]
fn an_engine_that_fails_is_shown_and_the_others_go_on() {
    let bench = Bench::new();
    bench.result("theirs", &[1]);
    bench.program("jobs/sinusitis_study", "echo 'out of biscuits' >&2; exit 7");

    let output = bench.run(&["--engines", "hardtack,duckdb"]);

    assert_eq!(output.status.code(), Some(1));
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("the program failed: exit status: 7") && stdout.contains("out of biscuits"), "{stdout}");
    assert!(stdout.contains("| sinusitis | duckdb "), "{stdout}");
}

#[test]
fn a_result_may_be_kept() {
    let bench = Bench::new();
    bench.result("ours", &[1]);
    bench.result("theirs", &[1]);
    assert_eq!(bench.run(&["--keep", "--engines", "hardtack,duckdb"]).status.code(), Some(0));
    assert!(bench.path("out/bench-sinusitis/hardtack/sinusitis_study/a.parquet").is_file());
    assert!(bench.path("out/bench-sinusitis/duckdb/result/a.parquet").is_file());
}

#[test]
fn what_else_is_in_the_folder_stays() {
    let bench = Bench::new();
    bench.result("ours", &[1]);
    bench.write("out/thesis.txt", "years of work");
    assert_eq!(bench.run(&["--engines", "hardtack"]).status.code(), Some(0));
    let left: Vec<_> = fs::read_dir(bench.path("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["thesis.txt"]);
}

#[test]
fn no_result_is_a_difference() {
    let bench = Bench::new();
    bench.result("theirs", &[1]);
    bench.program("jobs/sinusitis_study", "");
    let output = bench.run(&["--engines", "hardtack,duckdb"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("different results\n  0 rows and 1 rows"), "{output:?}");
}

#[test]
fn a_job_that_is_not_built_is_named_with_the_remedy() {
    let bench = Bench::new();
    let output = bench.run(&["--cases", "observations"]);
    assert_eq!(output.status.code(), Some(1));
    let said = shown(&output.stderr, bench.folder.path()).replace("; ", ";\n").replace(" (", "\n(");
    assert_snapshot!(said, @"
    hardtack-bench: a job is not built;
    run `cargo build --release -p sinusitis_study -p observations`, or pass --build
    (binary: FOLDER/jobs/observations)
    ");
}

#[test]
fn what_a_process_took_is_its_own() {
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("log.txt");
    // Uses some memory, some processor time and some waiting, in a child of the program.
    let script = "sh -c 'x=$(head -c 40000000 /dev/zero | tr \"\\0\" x); sleep 0.3; echo ${#x}'";
    let output = command(&["measure", log.to_str().unwrap(), "--", "sh", "-c", script]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| report["usage"][name].as_f64().unwrap();
    assert_eq!(fs::read_to_string(log).unwrap(), "40000000\n");
    assert!(number("wall") >= 0.3 && number("cpu") > 0.0, "{report}");
    assert!(number("peak") >= 4e7, "{report}");

    let output = command(&["measure", folder.path().join("log").to_str().unwrap(), "--", "true"]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["usage"]["peak"].as_f64().unwrap() < 4e7, "{report}");
}

/// A change begins with the result of the inserts, in every round.
#[test]
fn a_merge_begins_with_what_was_inserted() {
    let bench = Bench::new();
    for (folder, files) in [("inserts", 8), ("changes", 4), ("few", 1)] {
        (0..files).for_each(|n| bench.write(&format!("data/{folder}/customer_events/part-{n:02}.jsonl"), "{}\n"));
    }
    bench.result("ours", &[1, 2]);
    bench.result("theirs", &[2, 1]);
    bench.program(
        "jobs/customer_events",
        r#"case "$2" in
            */changes) rm "$4/state/inserted" ;;
            */inserts) mkdir "$4/state"; touch "$4/state/inserted"; cp -r "$HERE/ours" "$4/customers" ;;
        esac"#,
    );
    let output = bench.run_suite(&["merge", "--runs", "2"], &["--engines", "hardtack,duckdb"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("| insert | hardtack |") && stdout.contains("| change | duckdb   |"), "{stdout}");
    assert!(!bench.path("out").exists());
}

/// Those of a difference are 3, which is no failure here, and what was printed is the result.
#[test]
fn counts_are_those_that_hardtack_prints() {
    let bench = Bench::new();
    bench.program(
        "jobs/hardtack",
        r#"case "$1" in
            compare) test -d "$7" && echo '{"added": 1, "removed": 2, "changed": 3, "columns": []}'; exit 3 ;;
        esac"#,
    );
    let columns = ["added", "removed", "changed"].into_iter().zip(1..);
    let columns = columns.map(|(name, count)| (name, Arc::new(Int64Array::from(vec![count])) as ArrayRef));
    bench.batch("theirs", RecordBatch::try_from_iter(columns).unwrap());
    let output = bench.run_suite(&["compare", "--runs", "1"], &["--engines", "hardtack,duckdb"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    bench.program("jobs/hardtack", r#"test "$1" = compare && echo '{"added": 1, "changed": 3}' && exit 3; exit 0"#);
    let output = bench.run_suite(&["compare", "--runs", "1"], &["--engines", "hardtack,duckdb"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    bench.program("jobs/hardtack", "exit 0");
    let output = bench.run_suite(&["compare", "--runs", "1"], &["--engines", "hardtack"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("the program failed: exit status: 0"), "{output:?}");
}

/// The files of a table are those that its metadata name, whatever else is in its folder.
#[test]
fn a_table_has_the_files_of_its_current_version() {
    let bench = Bench::new();
    bench.result("ours", &[1, 2, 3]);
    bench.result("superseded", &[1]);
    bench.result("theirs", &[3, 1, 2]);
    bench.program(
        "jobs/hardtack",
        r#"case "$1 $2" in
            "sql --format") printf '%s\n' "{\"content\":\"DATA\",\"file_path\":\"$HERE/ours/a.parquet\",\"partition\":\"{\\\"id_bucket\\\":3}\"}" ;;
        esac"#,
    );
    for (folder, files) in [("inserts", 8), ("changes", 4), ("few", 1)] {
        (0..files).for_each(|n| bench.write(&format!("data/{folder}/customer_events/part-{n:02}.jsonl"), "{}\n"));
    }
    bench.program("jobs/customer_events", r#"mkdir -p "$4/customers"; cp "$HERE/superseded/a.parquet" "$4/customers""#);
    let suite = ["iceberg-merge", "--cases", "insert", "--runs", "1", "--keep"];
    let output = bench.run_suite(&suite, &["--engines", "hardtack,duckdb"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(bench.path("out/bench-insert/hardtack/table/id_bucket=3/0.parquet").is_file());
    // Without a table, the folder is what counts.
    let output = bench.run_suite(&suite, &["--engines", "hardtack:files,duckdb"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn appends_are_counted() {
    let bench = Bench::new();
    let snapshot = r#"{"snapshot-id": 1, "manifest-list": "HERE/list.avro", "summary": {"total-data-files": "4"}}"#;
    let metadata = format!(r#"{{"current-snapshot-id": 1, "snapshots": [{snapshot}]}}"#);
    bench.write("list.avro", "1234567");
    bench.write("metadata.json", &metadata.replace("HERE", &bench.folder.path().display().to_string()));
    bench.program(
        "jobs/publish_people",
        r#"mkdir -p "$4/people/metadata"; cp "$HERE/metadata.json" "$4/people/metadata/00001-a.metadata.json""#,
    );
    bench.program(
        "jobs/hardtack",
        r#"case "$*" in
            *manifests*) printf 'count(*)\n2\n' ;;
            *count*) printf 'count(*)\n400\n' ;;
        esac"#,
    );
    let run = |runs: &str| {
        let mut command = command(&["appends", "--runs", runs, "--every", "3", "--queries", "1"]);
        command.arg("--job-bin-dir").arg(bench.path("jobs")).arg("--out").arg(bench.path("out")).output().unwrap()
    };
    let output = run("4");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = |runs: &str| stdout.lines().find(|line| line.starts_with(&format!("| {runs} "))).unwrap().to_owned();
    for runs in ["3", "4", "4, expired"] {
        assert!(line(runs).contains("| 7                   | 2         | 4          | 1         | 1 "), "{stdout}");
    }
    assert!(line("one row").contains("| all"), "{stdout}");
    assert!(!bench.path("out").exists());
    assert!(String::from_utf8_lossy(&run("5").stderr).contains("does not have the rows of all runs"));
}

#[test]
fn a_start_is_measured_in_milliseconds() {
    let bench = Bench::new();
    bench.program("jobs/customer_events", r#"test ! -s "$2/customer_events/none.jsonl""#);
    bench.program("jobs/hardtack", r#"test "$1" = --version"#);
    let output = bench.run_suite(&["start", "--runs", "2"], &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(stdout.contains("wall ms") && stdout.contains("| version | hardtack |"), "{stdout}");
}

#[rstest]
#[case::no_command(&[], 2)]
#[case::help(&["--help"], 0)]
#[case::no_folder(&["generate"], 2)]
#[case::an_engine(&["elt", "--engines", "pandas"], 2)]
#[case::a_mode(&["elt", "--engines", "hardtack:fast"], 2)]
#[case::a_case(&["elt", "--cases", "procedures"], 2)]
#[case::no_runs(&["elt", "--runs", "0"], 2)]
#[case::a_case_of_another_suite(&["merge", "--cases", "few"], 2)]
#[case::an_engine_without_a_script(&["scan", "--engines", "polars"], 2)]
#[case::no_scale(&["generate", "--scale", "0", "--out", "/nowhere"], 2)]
fn usage(#[case] args: &[&str], #[case] code: i32) {
    let output = command(args).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(output.stdout.is_empty(), code != 0, "{output:?}");
}

#[test]
fn an_unknown_engine_is_answered_with_the_known_ones() {
    let output = command(&["elt", "--engines", "pandas"]).output().unwrap();
    assert_snapshot!(String::from_utf8_lossy(&output.stderr), @"
    error: invalid value 'pandas' for '--engines <ENGINES>': wanted is hardtack, duckdb, polars or spark, or with a mode like `duckdb:sorted`

    For more information, try '--help'.
    ");
}
