//! Sinks whose rows are audited.

use std::sync::Arc;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use hardtack_core::{ErrorKind, JobContext, Sink as _};
use hardtack_quality::WithRules;
use hardtack_sinks::{CsvFile, InMemory, JsonLines, ParquetDataset};

use crate::{PEOPLE, frame, rules_of};

async fn saved(sink: impl hardtack_core::Sink) -> (JobContext, hardtack_core::Result<()>) {
    let ctx = JobContext::builder("job").threads(2).build().unwrap();
    let rows = frame(&ctx, PEOPLE).await;
    let saved = ctx.save(sink, rows).await;
    (ctx, saved)
}

/// What fails, fails at the audit: all sinks are staged by then.
#[tokio::test]
async fn a_rule_that_fails_stops_the_run() {
    let rules = || rules_of(r#"IsComplete "age", IsUnique "id""#);
    let sinks: Vec<Box<dyn hardtack_core::Sink>> = vec![
        Box::new(ParquetDataset::new("out", "memory:/parquet").audited(rules())),
        Box::new(ParquetDataset::new("out", "memory:/by").partition_by(["country"]).audited(rules())),
        Box::new(ParquetDataset::new("out", "memory:/sorted").sorted_by(["name"]).audited(rules())),
        Box::new(JsonLines::new("out", "memory:/rows.jsonl").audited(rules())),
        Box::new(CsvFile::new("out", "memory:/rows.csv").audited(rules())),
        Box::new(InMemory::new("out").audited(rules())),
    ];
    for sink in sinks {
        let ctx = JobContext::builder("job").threads(2).build().unwrap();
        let rows = frame(&ctx, PEOPLE).await;
        let staged = sink.stage(&ctx.staging("out"), rows).await.unwrap_or_else(|e| panic!("{sink:?}: {}", e.chain()));
        assert_eq!(staged.report.rows, 4);
        let error = ctx.audit().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        insta::allow_duplicates! {
            insta::assert_snapshot!(error.chain(), @r#"2 of 2 rules failed for `out` (failed: rule 1: IsComplete "age" (1 of 4 rows fail), failed: rule 2: IsUnique "id" (2 of 4 rows fail, such as 3))"#);
        }
    }
}

#[tokio::test]
async fn what_passes_is_saved() {
    let (ctx, saved) = saved(InMemory::new("out").audited(rules_of(r#"IsComplete "id", RowCount > 3"#))).await;
    saved.unwrap();
    ctx.audit().await.unwrap();
    assert!(ctx.audits()[0].passed());
}

/// Rows that fail a rule with a threshold go to the quarantine, with the rules that they fail.
#[tokio::test]
async fn bad_rows_are_set_aside() {
    let ctx = JobContext::builder("job").threads(2).build().unwrap();
    let rules = rules_of(r#"ColumnValues "age" > 20 with threshold >= 0.5, Completeness "age" > 0.5, RowCount = 4"#);
    let (good, bad) = (InMemory::new("good"), InMemory::new("bad"));
    let rows = frame(&ctx, PEOPLE).await;
    let sink = good.clone().audited(rules).quarantine(bad.clone());
    let staged = sink.stage(&ctx.staging("good"), rows).await.unwrap();
    ctx.audit().await.unwrap();
    assert_eq!((ctx.audits()[0].quarantined, staged.report.rows), (Some(2), 2));
    assert!(good.batches().is_empty() && bad.batches().is_empty(), "nothing is there before it is published");
    ctx.publish(&staged.publish).await.unwrap();
    let table =
        |sink: &InMemory| datafusion::arrow::util::pretty::pretty_format_batches(&sink.batches()).unwrap().to_string();
    insta::assert_snapshot!(table(&good), @"
    +----+------+-----+-------+------------+---------------------+---------+------+
    | id | name | age | score | day        | seen                | country | good |
    +----+------+-----+-------+------------+---------------------+---------+------+
    | 1  | Ada  | 36  | 1.5   | 2026-11-01 | 2026-11-28T10:00:00 | CH      | true |
    | 3  |      | 99  | 4.5   | 2026-10-01 | 2026-11-01T00:00:00 | CH      | true |
    +----+------+-----+-------+------------+---------------------+---------+------+
    ");
    insta::assert_snapshot!(table(&bad), @r#"
    +----+------+-----+-------+------------+---------------------+---------+-------+---------------------------------------------------------------------------+
    | id | name | age | score | day        | seen                | country | good  | _failed_rules                                                             |
    +----+------+-----+-------+------------+---------------------+---------+-------+---------------------------------------------------------------------------+
    | 2  | Bob  | 17  | -2.0  | 2026-11-20 | 2026-11-28T22:00:00 | DE      | false | [ColumnValues "age" > 20 with threshold >= 0.5]                           |
    | 3  |      |     | 0.0   |            |                     |         |       | [ColumnValues "age" > 20 with threshold >= 0.5, Completeness "age" > 0.5] |
    +----+------+-----+-------+------------+---------------------+---------+-------+---------------------------------------------------------------------------+
    "#);
}

/// The rows of a table that a foreign sink writes by another way are not audited, which must not go unnoticed.
#[derive(Debug)]
struct Bypassing;

#[async_trait::async_trait]
impl hardtack_core::Sink for Bypassing {
    fn name(&self) -> &str {
        "out"
    }

    async fn stage(
        &self,
        _: &hardtack_core::StageContext,
        rows: datafusion::prelude::DataFrame,
    ) -> hardtack_core::Result<hardtack_core::Staged> {
        let rows = rows.count().await? as u64;
        Ok(hardtack_core::Staged { report: hardtack_core::Report { rows, ..Default::default() }, ..Default::default() })
    }
}

#[tokio::test]
async fn a_sink_that_writes_other_rows_is_refused() {
    let (_, saved) = saved(Bypassing.audited(rules_of("RowCount > 0"))).await;
    let error = saved.unwrap_err();
    assert!(error.chain().contains("has not written the rows that were audited"), "{}", error.chain());
}

/// All rows that a source delivers are audited, whatever the plan needs of them; examples name file and line.
#[rstest::rstest]
#[case::read_in_part("select id from books where id > 1", true)]
#[case::read_twice("select a.id from books a join books b on a.id = b.id", true)]
#[case::not_read_to_its_end("select id from books limit 1", true)]
#[case::not_read("select 1 as id", false)]
#[tokio::test]
async fn what_comes_in_is_audited(#[case] query: &str, #[case] loads: bool) {
    let lake = hardtack_test_support::TempLake::new();
    lake.write("in/a.jsonl", "{\"id\": 1, \"title\": \"Dune\"}\n{\"id\": 2, \"title\": \"Emma\"}\n");
    lake.write("in/b.jsonl", "{\"id\": 3}\n{\"id\": 4, \"title\": \"\"}\n");
    let ctx = JobContext::builder("job").threads(2).build().unwrap();
    let source = hardtack_sources::JsonFiles::new("books", lake.at("in")).with_origin();
    let rules = rules_of(r#"IsComplete "title", ColumnLength "title" > 0, RowCount = 4"#);
    let rows = ctx.load(source.audited(rules)).await.unwrap();
    if loads {
        ctx.session().register_table("books", rows.into_view()).unwrap();
    }
    let rows = frame(&ctx, query).await;
    ctx.save(InMemory::new("out"), rows).await.unwrap();
    let error = ctx.audit().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let said = error.chain().replace(lake.path().to_str().unwrap(), "LAKE").replace("file://", "");
    insta::allow_duplicates! {
        insta::assert_snapshot!(said, @r#"2 of 3 rules failed for `source books` (failed: rule 1: IsComplete "title" (1 of 4 rows fail, such as ("LAKE/in/b.jsonl", 1)), failed: rule 2: ColumnLength "title" > 0 (2 of 4 rows fail, such as (null, "LAKE/in/b.jsonl", 1), ("", "LAKE/in/b.jsonl", 2)))"#);
    }
}

/// Numbers of earlier runs, the newest first.
#[rstest::rstest]
#[case::no_run(&[], "RowCount >= avg(last(3))", true)]
#[case::fewer(&[8.0], "RowCount >= avg(last(3))", false)]
#[case::all(&[1.0, 2.0, 9.0], "RowCount = avg(last(3))", true)]
#[case::newest(&[1.0, 9.0], "RowCount = last() * 4", true)]
#[case::not_beyond(&[4.0, 4.0, 900.0], "RowCount = max(last(2))", true)]
#[case::index(&[7.0, 4.0], "RowCount = index(last(2), 1)", true)]
#[case::index_beyond(&[7.0], "RowCount = index(last(2), 1)", false)]
#[case::deviation(&[2.0, 6.0], "RowCount = std(last(2)) * 2", true)]
#[case::median(&[1.0, 4.0, 9.0], "RowCount = median(last(3))", true)]
#[case::percentile(&[3.0, 5.0], "RowCount = percentile(last(2), 0.5)", true)]
#[case::distance(&[5.0], "RowCount > abs(last() - 8)", true)]
#[case::usual(&[4.0, 4.0, 4.0], r#"DetectAnomalies "RowCount""#, true)]
#[case::unusual(&[9.0, 9.0, 9.0], r#"DetectAnomalies "RowCount""#, false)]
#[case::too_few_to_say(&[9.0, 9.0], r#"DetectAnomalies "RowCount""#, true)]
#[tokio::test]
async fn rules_know_earlier_runs(#[case] earlier: &[f64], #[case] rule: &str, #[case] passes: bool) {
    let run = |value: &f64| hardtack_quality::Audit {
        subject: "out".to_owned(),
        metrics: [("Dataset.*.RowCount".to_owned(), *value)].into(),
        ..Default::default()
    };
    let history = earlier
        .iter()
        .rev()
        .fold(hardtack_core::audit::History::default(), |history, value| history.with(&[run(value)]));
    let ctx = JobContext::builder("job").history(history).build().unwrap();
    let rows = frame(&ctx, PEOPLE).await;
    ctx.save(InMemory::new("out").audited(rules_of(rule)), rows).await.unwrap();
    assert_eq!(ctx.audit().await.is_ok(), passes, "{:#?}", ctx.audits());
    if ctx.audits()[0].metrics.is_empty() {
        // A rule that cannot be evaluated measures nothing.
        return;
    }
    let after = ctx.history_after().of("out");
    assert_eq!(after["Dataset.*.RowCount"], [&[4.0], earlier].concat());
}

/// Values of sensitive columns are in no verdict.
#[rstest::rstest]
#[case::in_the_rules(None, &["name", "id"])]
#[case::in_the_schema(Some(&["name", "id"][..]), &[])]
#[tokio::test]
async fn sensitive_values_are_redacted(#[case] in_schema: Option<&[&str]>, #[case] in_rules: &[&str]) {
    let ctx = JobContext::builder("job").build().unwrap();
    let rows = frame(&ctx, PEOPLE).await;
    let rules = r#"ColumnLength "name" > 2, IsUnique "id", ReferentialIntegrity "name" "other.name" = 1.0, ColumnValues "age" > 20"#;
    let rules =
        rules_of(rules).sensitive(in_rules.to_vec()).reference("other", frame(&ctx, "select 'x' as name").await);
    let mut sink = InMemory::new("out");
    if let Some(columns) = in_schema {
        let schema = Arc::new(rows.schema().as_arrow().clone());
        sink = sink.with_schema(hardtack_core::audit::sensitive(schema, columns));
    }
    ctx.save(sink.audited(rules), rows).await.unwrap();
    let said = format!("{:?}", ctx.audits());
    assert!(!said.contains("Ada") && !said.contains("\"3\""), "{said}");
    let shown: Vec<_> = ctx.audits()[0].verdicts.iter().map(|verdict| verdict.examples.join(" ")).collect();
    assert_eq!(shown, ["(redacted)", "(redacted)", "(redacted)", "null 17"]);
}

/// Counts are exact when the groups do not fit into memory. `HARDTACK_QUALITY_KEYS=50000000` with
/// `HARDTACK_QUALITY_MEMORY=536870912` is the long test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uniqueness_is_exact_beyond_the_memory() {
    let from_env = |name: &str, default: usize| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let keys = from_env("HARDTACK_QUALITY_KEYS", 600_000);
    let memory = from_env("HARDTACK_QUALITY_MEMORY", 40 << 20);
    let ctx = JobContext::builder("job").threads(2).memory_limit(memory).build().unwrap();
    // The last three keys occur twice.
    let last = keys - 3;
    let rows = format!(
        "select 'key-' || (case when value > {keys} then value - 3 else value end) as id from generate_series(1, {keys} + 3)"
    );
    let rows = frame(&ctx, &rows).await;
    let audit = rules_of(r#"IsUnique "id", Uniqueness "id" < 1.0, ReferentialIntegrity "id" "all.id" = 1.0"#)
        .reference("all", rows.clone())
        .audit(&ctx, "keys", rows)
        .await
        .unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(audit.verdicts[0].actual, Some(format!("6 of {} rows fail", keys + 3)));
    assert_eq!(audit.verdicts[0].examples.len(), 3);
    assert!(audit.verdicts[0].examples[0].contains(&format!("key-{}", last + 1)), "{:?}", audit.verdicts[0].examples);
    assert!(audit.verdicts[1..].iter().all(crate::passes), "{:#?}", audit.verdicts);
}

/// Columns that the schema of a source marks, too.
#[tokio::test]
async fn sensitive_values_of_a_source_are_redacted() {
    let lake = hardtack_test_support::TempLake::new();
    lake.write("in/a.jsonl", "{\"title\": \"Dune\"}\n");
    let ctx = JobContext::builder("job").build().unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("title", DataType::Utf8, true)]));
    let schema = hardtack_core::audit::sensitive(schema, ["title"]);
    let source = hardtack_sources::JsonFiles::new("books", lake.at("in")).with_schema(schema);
    let rows = ctx.load(source.audited(rules_of(r#"ColumnLength "title" > 9"#))).await.unwrap();
    ctx.save(InMemory::new("out"), rows).await.unwrap();
    let said = ctx.audit().await.unwrap_err().chain();
    assert!(said.contains("(redacted)") && !said.contains("Dune"), "{said}");
}

/// Batches of one plan, such as a union, may differ in what is nullable.
#[derive(Debug)]
struct Differing(Vec<RecordBatch>);

impl PartitionStream for Differing {
    fn schema(&self) -> &SchemaRef {
        self.0[1].schema_ref()
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let rows = futures::stream::iter(self.0.clone().into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(self.schema()), rows))
    }
}

#[tokio::test]
async fn batches_that_do_not_fit_together_are_measured_one_by_one() {
    let batch = |values: Vec<Option<i64>>, nullable| {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, nullable)]));
        RecordBatch::try_new(schema, vec![Arc::new(Int64Array::from(values))]).unwrap()
    };
    let batches = vec![batch(vec![Some(1), Some(2)], false), batch(vec![None, Some(3)], true)];
    let schema = batches[1].schema();
    let table = StreamingTable::try_new(schema, vec![Arc::new(Differing(batches))]).unwrap();
    let ctx = JobContext::builder("job").threads(1).build().unwrap();
    let rows = ctx.session().read_table(Arc::new(table)).unwrap();
    let rules = rules_of(r#"RowCount = 4, Completeness "id" = 0.75, Sum "id" = 6"#);
    ctx.save(InMemory::new("out").audited(rules), rows).await.unwrap();
    ctx.audit().await.unwrap();
    assert!(ctx.audits()[0].passed(), "{:?}", ctx.audits());
}
