use async_trait::async_trait;
use datafusion::prelude::*;
use hardtack_core::{Context, Error, ErrorKind, LoadContext, Result, Sink, Source, StageContext, Staged};
use hardtack_test_support::{TestContext, assert_frame, json, rows};
use insta::assert_snapshot;

use crate::panic_of;

#[derive(Debug, Clone, PartialEq)]
struct Table(&'static str, u8);

#[async_trait]
impl Source for Table {
    fn name(&self) -> &str {
        self.0
    }
    async fn load(&self, _: &LoadContext) -> Result<DataFrame> {
        unreachable!("a test touches no source")
    }
}

#[async_trait]
impl Sink for Table {
    fn name(&self) -> &str {
        self.0
    }
    async fn stage(&self, _: &StageContext, _: DataFrame) -> Result<Staged> {
        unreachable!("a test touches no sink")
    }
}

/// The job under test: unions two sources.
async fn main(ctx: &Context<u8>) -> Result<()> {
    let a = ctx.load(Table("a", *ctx.args())).await?;
    let b = ctx.load(Table("b", 0)).await?;
    ctx.save(Table("both", *ctx.args()), a.union(b)?).await
}

#[tokio::test]
async fn frames_in_frames_out() {
    let test = TestContext::new(7).given("a", rows! { id; 1; 2 }.in_batches(2)).given("b", rows! { id; 3 }.df());
    main(test.ctx()).await.unwrap();
    assert_frame(test.saved("both"), rows! { id; 1; 2; 3 });
    assert_eq!(test.calls(), ["load a", "load b", "save both"]);
    assert_eq!(test.source("a"), format!("{:?}", Table("a", 7)));
    assert_eq!(test.sink("both"), format!("{:?}", Table("both", *test.args())));
    assert_snapshot!(hardtack_test_support::logical_plan(&test.saved_plan("both")), @r"
    Union
      TableScan: a
      TableScan: b
    ");
    test.finish();
}

#[tokio::test]
async fn time_and_the_run_stand_still() {
    let test = TestContext::new(()).at("2026-11-21T04:00:00Z").given_bookmark("a", json!({"until": 7}));
    assert_eq!(test.ctx().now().to_rfc3339(), "2026-11-21T04:00:00+00:00");
    assert_eq!(test.ctx().now(), test.ctx().run().started_at);
    test.set_now("2026-11-22T04:00:00Z");
    assert_eq!(test.ctx().now().to_rfc3339(), "2026-11-22T04:00:00+00:00");
    assert_eq!(test.ctx().run().id.as_str(), TestContext::<()>::RUN_ID);
    assert_eq!(test.job().bookmarks().start("a"), Some(&json!({"until": 7})));
    assert_snapshot!(panic_of(|| test.set_now("noon")), @"`noon` is not a time such as `2026-11-21T04:00:00Z`: input contains invalid characters");
}

#[tokio::test]
async fn a_source_that_was_not_given_is_an_error_and_fails_the_test() {
    let test = TestContext::new(7).given("a", rows! { id; 1 });
    let error = main(test.ctx()).await.unwrap_err();
    assert_snapshot!(error, @"the job loaded the source `b`, which the test did not give; given: `a`");
    // Even if the job ignored the error.
    assert_snapshot!(panic_of(|| test.finish()), @"the job loaded the source `b`, which the test did not give; given: `a`");
}

#[tokio::test]
async fn a_source_that_was_never_loaded_fails_the_test() {
    let test = TestContext::new(7).given("a", rows! { id; 1 }).given("b", rows! { id; 1 }).given("c", rows! { id; 1 });
    main(test.ctx()).await.unwrap();
    assert_snapshot!(panic_of(|| drop(test)), @"the source `c` was given, but never loaded");
}

#[test]
fn a_test_that_fails_anyway_shows_why() {
    let text = panic_of(|| {
        let _test = TestContext::new(7).given("a", rows! { id; 1 });
        panic!("the real reason");
    });
    assert_eq!(text, "the real reason");
}

#[tokio::test]
async fn a_source_may_fail() {
    let test = TestContext::new(7).given("a", Error::not_found("no files").with("folder", "in/a").because("empty"));
    let error = main(test.ctx()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_snapshot!(error.chain(), @"no files (folder: in/a, source: a): empty");
    assert_eq!(test.calls(), ["load a"]);
}

#[tokio::test]
async fn an_error_of_the_plan_comes_out_of_save() {
    let test = TestContext::new(()).given("a", rows! { id; 0 });
    let rows = test.ctx().load(Table("a", 0)).await.unwrap();
    let rows = rows.select(vec![lit(1) / col("id")]).unwrap();
    let error = test.ctx().save(Table("out", 0), rows).await.unwrap_err();
    assert_eq!(error.get("sink"), Some("out"));
    assert!(error.chain().contains("divided by zero"), "{}", error.chain());
    assert_snapshot!(panic_of(|| drop(test.saved("out"))), @"nothing was saved to the sink `out`; sinks with rows: nothing");
}

#[tokio::test]
async fn names_are_identities() {
    let test = TestContext::new(()).given("a", rows! { id; 1 });
    let ctx = test.ctx();
    let rows = ctx.load(Table("a", 1)).await.unwrap();
    ctx.load(Table("a", 1)).await.unwrap();
    assert_eq!(ctx.load(Table("a", 2)).await.unwrap_err().kind(), ErrorKind::Usage);
    ctx.save(Table("a", 1), rows.clone()).await.unwrap();
    assert_eq!(ctx.save(Table("a", 1), rows).await.unwrap_err().kind(), ErrorKind::Usage);
    assert_snapshot!(panic_of(|| drop(test.sink("b"))), @"there was no call `save b`; calls: `load a`, `load a`, `load a`, `save a`, `save a`");
}

/// Reads and writes only small numbers, in the column `n`.
#[derive(Debug)]
struct Small;

impl Small {
    fn conform(rows: DataFrame) -> Result<DataFrame> {
        if rows.schema().field_with_unqualified_name("n").is_err() {
            return Err(Error::refused("there is no column `n`"));
        }
        // Values that do not fit fail during execution.
        Ok(rows.select(vec![cast(col("n"), arrow::datatypes::DataType::Int8).alias("n")])?)
    }
}

#[async_trait]
impl Source for Small {
    fn name(&self) -> &str {
        "small"
    }
    async fn load(&self, _: &LoadContext) -> Result<DataFrame> {
        unreachable!("a test touches no source")
    }
    async fn conform(&self, _: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        Self::conform(rows)
    }
}

#[async_trait]
impl Sink for Small {
    fn name(&self) -> &str {
        "small"
    }
    async fn stage(&self, _: &StageContext, _: DataFrame) -> Result<Staged> {
        unreachable!("a test touches no sink")
    }
    async fn conform(&self, _: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        Self::conform(rows)
    }
}

#[tokio::test]
async fn contracts_hold() {
    let load = async |given: hardtack_test_support::Frame| {
        let test = TestContext::new(()).given("small", given);
        let loaded = test.ctx().load(Small).await.map(hardtack_test_support::Frame::from);
        let complaint = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test.finish()));
        let complaint = complaint.err().map_or(String::new(), |text| *text.downcast::<String>().unwrap());
        (loaded.map(|frame| frame.to_string()).map_err(|e| e.chain()), complaint)
    };
    let (loaded, complaint) = load(rows! { n; 1; 2 }).await;
    assert_snapshot!(loaded.unwrap(), @"
    n: Int8
    1
    2
    ");
    assert_eq!(complaint, "");
    // Refused as the source would refuse it, so the job fails as in a real run.
    let (loaded, complaint) = load(rows! { n; 1; 2000 }).await;
    assert!(loaded.as_ref().unwrap_err().contains("2000"), "{loaded:?}");
    assert_eq!(complaint, "");
    assert_eq!(load(rows! { m; 1 }).await.0.unwrap_err(), "there is no column `n` (source: small)");
    // The test itself is wrong.
    let (loaded, complaint) = load(rows! { n, m; 1, 2 }).await;
    assert_snapshot!(loaded.unwrap_err(), @"the test gave the source `small` a column `m`, but it has only `n`");
    assert_snapshot!(complaint, @"the test gave the source `small` a column `m`, but it has only `n`");

    let test = TestContext::new(()).given("a", rows! { n, m; 1, 2; 2000, 2 });
    let all = test.ctx().load(Table("a", 0)).await.unwrap();
    let few = all.clone().filter(col("n").lt(lit(100))).unwrap();
    test.ctx().save(Small, few).await.unwrap();
    assert_snapshot!(test.saved("small"), @"
    n: Int8
    1
    ");
    let test = TestContext::new(());
    let refused = test.ctx().save(Small, all.clone()).await.unwrap_err();
    assert_eq!(refused.get("sink"), Some("small"));
    let test = TestContext::new(());
    let refused = test.ctx().save(Small, all.select_columns(&["m"]).unwrap()).await.unwrap_err();
    assert_eq!(refused.to_string(), "there is no column `n` (sink: small)");
}

#[test]
fn a_source_is_given_once() {
    assert_snapshot!(panic_of(|| drop(TestContext::new(()).given("a", rows! { id; 1 }).given("a", rows! { id; 1 }))), @"the source `a` was given twice");
}
