//! What the job does with events, what it refuses, and what a run says of it.

use hardtack_test_support::{JobBinary, TempLake, table};
use rstest::rstest;

use crate::{EVENING, MORNING, contract, job};

#[test]
fn runs_follow_one_another() {
    let job = job();
    job.dir().write("in/customer_events/morning.jsonl", MORNING);
    job.run().assert_code(0);
    insta::assert_snapshot!(contract().seen(job.dir()), @"
    id: Int64 | first_name: Utf8 | last_name: Utf8 | email: Utf8 | _as_of: Timestamp(µs)
    1         | Ada              | Byron           | null        | 2026-11-20T00:00:00
    2         | Bob              | Ray             | null        | 2026-11-20T00:00:00.001
    id: Int64 | _as_of: Timestamp(µs)
    3         | 2026-11-20T00:00:00.002
    ");
    job.dir().write("in/customer_events/evening.jsonl", EVENING);
    job.run().assert_code(0);
    insta::assert_snapshot!(contract().seen(job.dir()), @"
    id: Int64 | first_name: Utf8 | last_name: Utf8 | email: Utf8 | _as_of: Timestamp(µs)
    1         | Ada              | Lovelace        | null        | 2026-11-20T00:01:40.001
    id: Int64 | _as_of: Timestamp(µs)
    2         | 2026-11-20T00:01:40
    3         | 2026-11-20T00:00:00.002
    ");
    let tables = || ["out/customers", "out/customers_deleted"].map(|name| table(job.dir().read_parquet(name)));
    let before = tables();
    job.run().assert_code(0);
    assert_eq!(tables(), before, "running again on the same events changed something");
    assert_eq!(job.dir().files("out").len(), 2, "superseded files are gone");
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}

#[test]
fn the_fixtures_are_the_default() {
    let job = JobBinary::new(env!("CARGO_BIN_EXE_customer_events"));
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/lake");
    job.dir().write("fixtures/.keep", "");
    std::os::unix::fs::symlink(fixtures, job.dir().path().join("fixtures/lake")).unwrap();
    job.run().assert_code(0);
    assert_eq!(job.dir().read_parquet("target/lake/customers").num_rows(), 3);
}

/// Errors name the file and the line; nothing is published.
#[rstest]
#[case::truncate(r#"{"op":"t","before":null,"after":null}"#, "the source's table was truncated")]
#[case::unknown(r#"{"op":"D","before":{"id":1},"after":null,"ts_ms":1795132900000}"#, "`op` is none of c, r, u and d")]
#[case::transaction(r#"{"status":"END","id":"571","event_count":2,"ts_ms":1795132900000}"#, "this is no change event")]
#[case::schema_change(
    r#"{"source":{"db":"shop"},"databaseName":"shop","ddl":"alter table customers","tableChanges":[],"ts_ms":1}"#,
    "this is no change event"
)]
#[case::message(r#"{"op":"m","ts_ms":1,"message":{"prefix":"p","content":"aGk="}}"#, "a message of the database's log")]
#[case::tombstone("null", "a row of JSON must be an object")]
#[case::left_out(
    r#"{"op":"u","before":{"id":9},"after":{"id":9,"first_name":"Eve","last_name":"X","email":"__debezium_unavailable_value"},"ts_ms":1795132900000}"#,
    "an update leaves out `email`"
)]
fn what_is_no_change_of_a_customer_is_refused_with_its_line(#[case] event: &str, #[case] message: &str) {
    let odd = format!("{EVENING}\n{event}\n");
    contract().refuses("customer_events/odd.jsonl", odd, 3, &[message, "odd.jsonl", "line: 4"]);
}

#[test]
fn a_malformed_line_is_named() {
    let bad = "{\"op\": \"c\", \"ts_ms\": 1}\n{\"op\": \"c\", \"ts_ms\": \"noon\"}\n";
    contract().refuses("customer_events/bad.jsonl", bad, 3, &["bad.jsonl", "line: 2", "column: ts_ms", "noon"]);
}

#[test]
fn a_value_that_an_update_leaves_out_is_kept() {
    let job = contract().job_after_the_earlier();
    let update = r#"{"before":null,"after":{"id":1,"first_name":"Ada","last_name":"__debezium_unavailable_value","email":"a@x"},"op":"u","ts_ms":1795132901000}"#;
    job.dir().write("in/customer_events/night.jsonl", update);
    job.run().assert_code(0);
    // Lovelace in the evening.
    insta::assert_snapshot!(table(job.dir().read_parquet("out/customers")), @"
    id: Int64 | first_name: Utf8 | last_name: Utf8 | email: Utf8 | _as_of: Timestamp(µs) | _known_since: Struct(first_name: Timestamp(µs), last_name: Timestamp(µs), email: Timestamp(µs))
    1         | Ada              | Lovelace        | a@x         | 2026-11-20T00:01:41   | {first_name: 2026-11-20T00:01:41, last_name: 2026-11-20T00:01:40.001, email: 2026-11-20T00:01:41}
    ");
    let placeholder = ["--unavailable-value", "(unchanged)"];
    job.dir().write(
        "in/customer_events/next.jsonl",
        update.replace("__debezium_unavailable_value", "(unchanged)").replace("01000", "02000"),
    );
    job.dir().remove("in/customer_events/night.jsonl");
    job.again().args(placeholder).run().assert_code(0);
    insta::assert_snapshot!(table(job.dir().read_parquet("out/customers")), @"
    id: Int64 | first_name: Utf8 | last_name: Utf8 | email: Utf8 | _as_of: Timestamp(µs) | _known_since: Struct(first_name: Timestamp(µs), last_name: Timestamp(µs), email: Timestamp(µs))
    1         | Ada              | Lovelace        | a@x         | 2026-11-20T00:01:42   | {first_name: 2026-11-20T00:01:42, last_name: 2026-11-20T00:01:40.001, email: 2026-11-20T00:01:42}
    ");
}

#[test]
fn a_dry_run_touches_nothing() {
    let job = job();
    job.dir().write("in/customer_events/evening.jsonl", EVENING);
    let run = job.again().arg("--dry-run").run();
    run.assert_code(0);
    assert_eq!(job.dir().files(""), ["in/customer_events/evening.jsonl"]);
    assert_eq!(job.dir().hidden_files(""), Vec::<String>::new());
    insta::with_settings!({filters => vec![(r"TimestampMicrosecond\(-?\d+, None\)", "[oldest]")]}, {
        insta::assert_snapshot!(run.stdout, @r#"
        dry run of customer_events: no rows are read, nothing is written or recorded

        source events (in/customer_events)
          JsonFiles { name: "events", location: "in/customer_events", schema: [before: Struct("id": Int64, "first_name": Utf8, "last_name": Utf8, "email": Utf8), after: Struct("id": Int64, "first_name": Utf8, "last_name": Utf8, "email": Utf8), op: Utf8, ts_ms: Int64], origin: true }
          columns
            before: Struct("id": Int64, "first_name": Utf8, "last_name": Utf8, "email": Utf8)
            after: Struct("id": Int64, "first_name": Utf8, "last_name": Utf8, "email": Utf8)
            op: Utf8
            ts_ms: Int64
            _file: Utf8
            _line: Int64

        source customers (out/customers)
          Dataset { files: ParquetDataset { name: "customers", location: "out/customers", mode: Overwrite, schema: [id: Int64 not null, first_name: Utf8, last_name: Utf8, email: Utf8, _as_of: Timestamp(µs) not null, _known_since: Struct("first_name": Timestamp(µs), "last_name": Timestamp(µs), "email": Timestamp(µs))], compression: Zstd(3) }, or_empty: true }
          columns
            id: Int64 not null
            first_name: Utf8
            last_name: Utf8
            email: Utf8
            _as_of: Timestamp(µs) not null
            _known_since: Struct("first_name": Timestamp(µs), "last_name": Timestamp(µs), "email": Timestamp(µs))

        source customers_deleted (out/customers_deleted)
          Dataset { files: ParquetDataset { name: "customers_deleted", location: "out/customers_deleted", mode: Overwrite, schema: [id: Int64 not null, _as_of: Timestamp(µs) not null, _applied_at: Timestamp(µs) not null], compression: Zstd(3) }, or_empty: true }
          columns
            id: Int64 not null
            _as_of: Timestamp(µs) not null
            _applied_at: Timestamp(µs) not null

        persisted rows
          computed once
          columns
            id: Int64
            first_name: Utf8
            last_name: Utf8
            email: Utf8
            _as_of: Timestamp(µs)
            _known_since: Struct("first_name": Timestamp(µs), "last_name": Timestamp(µs), "email": Timestamp(µs))
            _deleted: Boolean not null
            _step: Int32 not null
            _applied_at: Timestamp(µs)
            _file: Utf8
            _line: Int64
          plan
            LastRows: keys=[id@0], order=[_as_of@4, _step@7, __hardtack_side@11]
              Union
                Projection: id, first_name, last_name, email, _as_of, _known_since, coalesce(_deleted, Boolean(false)) AS _deleted, _step, _applied_at, Utf8(NULL) AS _file, Int64(NULL) AS _line, Boolean(false) AS __hardtack_side
                  Union
                    Projection: id, first_name, last_name, email, _as_of, _known_since, _deleted, _step, NULL AS _applied_at
                      Projection: customers.id, customers.first_name, customers.last_name, customers.email, customers._as_of, customers._known_since, _deleted, Int32(-1) AS _step
                        Projection: customers.id, customers.first_name, customers.last_name, customers.email, customers._as_of, customers._known_since, Boolean(false) AS _deleted
                          TableScan: customers
                    Projection: id, NULL AS first_name, NULL AS last_name, NULL AS email, _as_of, NULL AS _known_since, _deleted, _step, _applied_at
                      Projection: customers_deleted.id, customers_deleted._as_of, customers_deleted._applied_at, _deleted, Int32(4) AS _step
                        Projection: customers_deleted.id, customers_deleted._as_of, customers_deleted._applied_at, Boolean(true) AS _deleted
                          TableScan: customers_deleted
                Projection: id, first_name, last_name, email, _as_of, _known_since, coalesce(_deleted, Boolean(false)) AS _deleted, _step, TimestampMicrosecond(NULL, None) AS _applied_at, events._file, events._line, Boolean(true) AS __hardtack_side
                  Projection: coalesce(get_field(events.after, Utf8("id")), get_field(events.before, Utf8("id"))) AS id, CASE WHEN get_field(events.after, Utf8("first_name")) = Utf8("__debezium_unavailable_value") THEN nullif(get_field(events.before, Utf8("first_name")), Utf8("__debezium_unavailable_value")) ELSE nullif(get_field(events.after, Utf8("first_name")), Utf8("__debezium_unavailable_value")) END AS first_name, CASE WHEN get_field(events.after, Utf8("last_name")) = Utf8("__debezium_unavailable_value") THEN nullif(get_field(events.before, Utf8("last_name")), Utf8("__debezium_unavailable_value")) ELSE nullif(get_field(events.after, Utf8("last_name")), Utf8("__debezium_unavailable_value")) END AS last_name, CASE WHEN get_field(events.after, Utf8("email")) = Utf8("__debezium_unavailable_value") THEN nullif(get_field(events.before, Utf8("email")), Utf8("__debezium_unavailable_value")) ELSE nullif(get_field(events.after, Utf8("email")), Utf8("__debezium_unavailable_value")) END AS email, CAST(to_timestamp_millis(events.ts_ms) AS Timestamp(µs)) AS _as_of, named_struct(Utf8("first_name"), CASE WHEN get_field(events.after, Utf8("first_name")) = Utf8("__debezium_unavailable_value") AND nullif(get_field(events.before, Utf8("first_name")), Utf8("__debezium_unavailable_value")) IS NULL THEN TimestampMicrosecond(NULL, None) ELSE CAST(to_timestamp_millis(events.ts_ms) AS Timestamp(µs)) END, Utf8("last_name"), CASE WHEN get_field(events.after, Utf8("last_name")) = Utf8("__debezium_unavailable_value") AND nullif(get_field(events.before, Utf8("last_name")), Utf8("__debezium_unavailable_value")) IS NULL THEN TimestampMicrosecond(NULL, None) ELSE CAST(to_timestamp_millis(events.ts_ms) AS Timestamp(µs)) END, Utf8("email"), CASE WHEN get_field(events.after, Utf8("email")) = Utf8("__debezium_unavailable_value") AND nullif(get_field(events.before, Utf8("email")), Utf8("__debezium_unavailable_value")) IS NULL THEN TimestampMicrosecond(NULL, None) ELSE CAST(to_timestamp_millis(events.ts_ms) AS Timestamp(µs)) END) AS _known_since, events.op = Utf8("d") AS _deleted, CASE WHEN events.op = Utf8("d") THEN Int32(3) WHEN events.op = Utf8("u") THEN Int32(2) WHEN events.op = Utf8("c") THEN Int32(1) ELSE Int32(0) END AS _step, events._file, events._line
                    Projection: checked(events.before, __hardtack_passes) AS before, checked(events.after, __hardtack_passes) AS after, checked(events.op, __hardtack_passes) AS op, checked(events.ts_ms, __hardtack_passes) AS ts_ms, checked(events._file, __hardtack_passes) AS _file, checked(events._line, __hardtack_passes) AS _line
                      Projection: checked(events.before) AS before, checked(events.after) AS after, checked(events.op) AS op, checked(events.ts_ms) AS ts_ms, checked(events._file) AS _file, checked(events._line) AS _line, passes(events.op IS NULL, events.op IN ([Utf8("t")]), events.op IN ([Utf8("m")]), events.op NOT IN ([Utf8("c"), Utf8("r"), Utf8("u"), Utf8("d")]), events.ts_ms IS NULL, events.op IN ([Utf8("c"), Utf8("r"), Utf8("u")]) AND get_field(events.after, Utf8("id")) IS NULL, events.op IN ([Utf8("d")]) AND get_field(events.before, Utf8("id")) IS NULL, events.op IN ([Utf8("d")]) AND events.after IS NOT NULL, events.op IN ([Utf8("u")]) AND get_field(events.before, Utf8("id")) != get_field(events.after, Utf8("id")), events._file, events._line, events.op, events.ts_ms, get_field(events.after, Utf8("id")), get_field(events.before, Utf8("id"))) AS __hardtack_passes
                        TableScan: events

        sink customers (out/customers)
          Audited { inner: Dataset { files: ParquetDataset { name: "customers", location: "out/customers", mode: Overwrite, schema: [id: Int64 not null, first_name: Utf8, last_name: Utf8, email: Utf8, _as_of: Timestamp(µs) not null, _known_since: Struct("first_name": Timestamp(µs), "last_name": Timestamp(µs), "email": Timestamp(µs))], compression: Zstd(3) }, or_empty: true }, rules: Rules[IsComplete "id", IsComplete "_as_of", ColumnValues "_as_of" <= (now() + 1 days) labels = ["severity" = "warn"], ColumnValues "email" matches ".+@.+" where "email is not null" labels = ["severity" = "warn"] with threshold >= 0.95] }
          columns
            id: Int64
            first_name: Utf8
            last_name: Utf8
            email: Utf8
            _as_of: Timestamp(µs)
            _known_since: Struct("first_name": Timestamp(µs), "last_name": Timestamp(µs), "email": Timestamp(µs))
          plan
            Projection: id, first_name, last_name, email, _as_of, _known_since
              Projection: id, first_name, last_name, email, _as_of, CASE WHEN NOT get_field(_known_since, Utf8("first_name")) = _as_of AND get_field(_known_since, Utf8("last_name")) = _as_of AND get_field(_known_since, Utf8("email")) = _as_of THEN _known_since END AS _known_since, _deleted, _step, _applied_at, _file, _line
                Projection: checked(id, __hardtack_passes) AS id, checked(first_name, __hardtack_passes) AS first_name, checked(last_name, __hardtack_passes) AS last_name, checked(email, __hardtack_passes) AS email, checked(_as_of, __hardtack_passes) AS _as_of, checked(_known_since, __hardtack_passes) AS _known_since, checked(_deleted, __hardtack_passes) AS _deleted, checked(_step, __hardtack_passes) AS _step, checked(_applied_at, __hardtack_passes) AS _applied_at, checked(_file, __hardtack_passes) AS _file, checked(_line, __hardtack_passes) AS _line
                  Projection: checked(id) AS id, checked(first_name) AS first_name, checked(last_name) AS last_name, checked(email) AS email, checked(_as_of) AS _as_of, checked(_known_since) AS _known_since, checked(_deleted) AS _deleted, checked(_step) AS _step, checked(_applied_at) AS _applied_at, checked(_file) AS _file, checked(_line) AS _line, passes(get_field(_known_since, Utf8("first_name")) IS NULL, get_field(_known_since, Utf8("last_name")) IS NULL, get_field(_known_since, Utf8("email")) IS NULL, _file, _line, get_field(_known_since, Utf8("first_name")), get_field(_known_since, Utf8("last_name")), get_field(_known_since, Utf8("email"))) AS __hardtack_passes
                    Filter: NOT _deleted
                      Projection: persisted.id@0 AS id, persisted.first_name@1 AS first_name, persisted.last_name@2 AS last_name, persisted.email@3 AS email, persisted._as_of@4 AS _as_of, persisted._known_since@5 AS _known_since, persisted._deleted@6 AS _deleted, persisted._step@7 AS _step, persisted._applied_at@8 AS _applied_at, persisted._file@9 AS _file, persisted._line@10 AS _line
                        TableScan: persisted

        sink customers_deleted (out/customers_deleted)
          Dataset { files: ParquetDataset { name: "customers_deleted", location: "out/customers_deleted", mode: Overwrite, schema: [id: Int64 not null, _as_of: Timestamp(µs) not null, _applied_at: Timestamp(µs) not null], compression: Zstd(3) }, or_empty: true }
          columns
            id: Int64
            _as_of: Timestamp(µs)
            _applied_at: Timestamp(µs) not null
          plan
            Filter: _applied_at >= [oldest]
              Projection: id, _as_of, coalesce(_applied_at, [oldest]) AS _applied_at
                Filter: _deleted
                  Projection: persisted.id@0 AS id, persisted.first_name@1 AS first_name, persisted.last_name@2 AS last_name, persisted.email@3 AS email, persisted._as_of@4 AS _as_of, persisted._known_since@5 AS _known_since, persisted._deleted@6 AS _deleted, persisted._step@7 AS _step, persisted._applied_at@8 AS _applied_at, persisted._file@9 AS _file, persisted._line@10 AS _line
                    TableScan: persisted
        "#);
    });
}

#[test]
fn the_run_record_says_what_happened() {
    let job = job();
    job.dir().write("in/customer_events/morning.jsonl", MORNING);
    job.again().args(["--run-id", "r"]).run().assert_code(0);
    let record: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&job.dir().read(".hardtack/customer_events/runs/r.json")).unwrap();
    let lines = record.iter().map(|(key, value)| match value.as_object() {
        Some(parts) => {
            parts.iter().map(|(part, value)| format!("\n  {part}: {value}")).fold(format!("{key}:"), |a, b| a + &b)
        }
        None => format!("{key}: {value}"),
    });
    insta::with_settings!({filters => vec![
        (r#"token: "[0-9a-f]{8}""#, r#"token: "[token]""#),
        (r#"(started_at|finished_at): "[^"]*""#, r#"$1: "[time]""#),
        (r#""seconds":[0-9.e-]+"#, r#""seconds":"[seconds]""#),
        (r#""bytes":[1-9][0-9]*"#, r#""bytes":"[bytes]""#),
        (r#"(binary|directory|host): "[^"]*""#, r#"$1: "[$1]""#),
        (r"pid: [0-9]+", "pid: [pid]"),
    ]}, {
        insta::assert_snapshot!(lines.collect::<Vec<_>>().join("\n"), @r#"
        format: 1
        run:
          id: "r"
          job: "customer_events"
          scope: "default"
          started_at: "[time]"
          token: "[token]"
        status: "succeeded"
        finished_at: "[time]"
        commit: 1
        sources:
          customers: {"files":0,"rows":0,"bytes":0,"seconds":"[seconds]"}
          customers_deleted: {"files":0,"rows":0,"bytes":0,"seconds":"[seconds]"}
          events: {"files":1,"rows":3,"bytes":"[bytes]","seconds":"[seconds]"}
        sinks:
          customers: {"files":1,"rows":2,"bytes":"[bytes]","seconds":"[seconds]"}
          customers_deleted: {"files":1,"rows":1,"bytes":"[bytes]","seconds":"[seconds]"}
        audits: [{"subject":"customers","table":"out/customers","rows":2,"verdicts":[{"number":1,"rule":"IsComplete \"id\"","outcome":"passed","severity":"block","actual":"0 of 2 rows fail","expected":"no row fails","failed_rows":0},{"number":2,"rule":"IsComplete \"_as_of\"","outcome":"passed","severity":"block","actual":"0 of 2 rows fail","expected":"no row fails","failed_rows":0},{"number":3,"rule":"ColumnValues \"_as_of\" <= (now() + 1 days)","outcome":"passed","severity":"warn","actual":"0 of 2 rows fail","expected":"no row fails","failed_rows":0,"labels":{"severity":"warn"}},{"number":4,"rule":"ColumnValues \"email\" matches \".+@.+\" where \"email is not null\" with threshold >= 0.95","outcome":"passed","severity":"warn","actual":"0 of 0 rows fail","expected":"a share of passing rows >= 0.95","failed_rows":0,"labels":{"severity":"warn"}}],"metrics":{"Column._as_of.ColumnValues.Compliance":1.0,"Column._as_of.Completeness":1.0,"Column.email.ColumnValues.Compliance where email is not null":1.0,"Column.email.Completeness":0.0,"Column.id.Completeness":1.0,"Dataset.*.RowCount":2.0}}]
        bookmarks_from:
        bookmarks_to:
        error: null
        invocation:
          binary: "[binary]"
          directory: "[directory]"
          host: "[host]"
          pid: [pid]
          args: [["--source=in"],["--target=out"],["--log-format=pretty"]]
        "#);
    });
}

/// The job with one thread, so that few rows are more than a small memory limit holds.
fn single_threaded_job() -> JobBinary<'static> {
    job().args(["--threads", "1"])
}

/// Events of `events` customers in four files; every tenth is a delete.
fn write_events(lake: &TempLake, events: usize, name_length: usize) {
    let event = |id: usize| {
        let (op, row, other) = if id % 10 == 9 { ("d", "before", "after") } else { ("c", "after", "before") };
        let name = format!("{id:0name_length$}");
        format!(
            r#"{{"{other}": null, "{row}": {{"id": {id}, "first_name": "{name}", "last_name": "{name}", "email": "{name}"}}, "op": "{op}", "ts_ms": 1795132800000}}"#
        )
    };
    for file in 0..4 {
        let lines: Vec<String> = (file * events / 4..(file + 1) * events / 4).map(event).collect();
        lake.write(&format!("in/customer_events/{file}.jsonl"), lines.join("\n"));
    }
}

/// Two sinks are saved from one merge: it is computed once, in memory or (a quarter of 32 MiB is too little) on disk.
#[rstest]
#[case::in_memory("64MiB", 2_000, 100)]
#[case::spilled("32MiB", 14_000, 200)]
fn two_sinks_read_their_sources_once(#[case] memory_limit: &str, #[case] events: usize, #[case] name_length: usize) {
    let job = single_threaded_job();
    write_events(job.dir(), events, name_length);
    let run = job.again().args(["--run-id", "r", "--memory-limit", memory_limit, "--profile"]).run();
    run.assert_code(0);
    let record: serde_json::Value =
        serde_json::from_str(&job.dir().read(".hardtack/customer_events/runs/r.json")).unwrap();
    let counted = |of: &str, what: &str| record[of][what]["rows"].as_u64().unwrap() as usize;
    assert_eq!(record["sources"]["events"]["files"], 4);
    assert_eq!(counted("sources", "events"), events);
    assert_eq!((counted("sinks", "customers"), counted("sinks", "customers_deleted")), (events / 10 * 9, events / 10));

    // The profile covers the staged rows; the printed one equals the recorded one.
    let id = &record["profiles"]["customers"][0];
    assert_eq!((&id["name"], &id["nulls"], &id["min"]), (&"id".into(), &0.into(), &"0".into()));
    let first_name = &record["profiles"]["customers"][1];
    assert_eq!(first_name["longest"], name_length);
    let distinct = first_name["distinct"].as_u64().unwrap() as f64 / (events / 10 * 9) as f64;
    assert!((0.95..=1.0).contains(&distinct), "{first_name}");
    assert!(run.stderr.contains("profile customers_deleted"), "{}", run.stderr);
}

/// Without `--profile`, the record contains no values.
#[test]
fn without_a_profile_no_value_is_recorded() {
    let job = contract().job_with_delivery();
    job.again().args(["--run-id", "r"]).run().assert_code(0);
    let record = job.dir().read(".hardtack/customer_events/runs/r.json");
    assert!(!record.contains("profiles") && !record.contains("Lovelace"), "{record}");
}

/// There is space for all files except spill files, which are larger.
#[test]
fn without_room_for_what_is_spilled() {
    let job = single_threaded_job();
    write_events(job.dir(), 14_000, 200);
    let small = || job.again().args(["--memory-limit", "32MiB"]);
    let run = small().with_file_limit(2048).run();
    run.assert_code(1);
    assert!(run.stderr.contains("the spill disk is full"), "{run}");
    assert!(
        run.stderr.contains("free: ") && run.stderr.contains("`--spill-dir` sets a folder with more space"),
        "{run}"
    );
    assert_eq!((job.dir().files("out"), job.dir().hidden_files("out")), (Vec::new(), Vec::new()));
    small().run().assert_code(0);
    assert_eq!(job.dir().read_parquet("out/customers").num_rows(), 12_600);
    assert_eq!(job.dir().hidden_files("out"), [""; 0]);
}
