use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{SessionConfig, SessionContext, col, ident};
use rstest::rstest;

use super::*;
use crate::sql;

fn session(env: Arc<RuntimeEnv>) -> SessionContext {
    let session = sql::session(SessionConfig::new().with_target_partitions(1), env);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 0]))),
        ("name", Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]))),
        ("Day", Arc::new(StringArray::from(vec!["2024-01-01", "nope", "2024-13-01"]))),
        ("moment", Arc::new(StringArray::from(vec!["9999-12-31", "9999-12-31", "9999-12-31"]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    session.register_batch("t", rows.clone()).unwrap();
    session.register_batch("u", rows).unwrap();
    session
}

async fn failure(session: &SessionContext, statement: &str) -> DataFusionError {
    let ran = async { session.sql(statement).await?.collect().await };
    match ran.await {
        Ok(rows) => panic!("`{statement}` gives {rows:?}"),
        Err(error) => error,
    }
}

/// Wrong statements, one for every text of the table.
const WRONG: &[&str] = &[
    "select nam from t",
    "select x.name from t",
    "select day from t",
    "select zzz from t",
    "select name from t, u",
    "select k from (select id as k from t) as a join (select id as k from u) as b on a.k = b.k",
    "select t.id, name as id from t",
    "select * from t join u using (nam)",
    "select t.id as a, t.name as a from t",
    "select * from tt",
    "select * from lake.books",
    "select lenght(name) from t",
    "select substr(1, 2, 3, 4)",
    "select upper(name, 2) from t",
    "select median(name) from t",
    "select name[1] from t",
    "select name + 1 from t",
    "select id and true from t",
    "select name like 1 from t",
    "select id from t where id",
    "select id, count(*) from t",
    "select id from t having id > 1",
    "select sum(id) from t where sum(id) > 1",
    "select id from t union select id, name from t",
    "select id from t where id in (select id, name from t)",
    "select name['x'] from t",
    "select named_struct('a', 1)['b']",
    "select cast(1 as foo)",
    "select id from t order by 5",
    "select date_part('foo', timestamp '2024-01-01')",
    "select date_trunc('years', timestamp '2024-01-01')",
    "select date_bin(interval '0 day', timestamp '2024-01-01')",
    "select interval '1 foo'",
    "set foo = 1",
    "select regexp_like(name, '(') from t",
    "selec 1",
    "select 1 from t where",
    "select 1,, 2",
    "select 'abc",
    "select id / 0 from t",
    "select 10 % id from t",
    "select cast(name as int) from t",
    "select cast('abc' as int)",
    "select cast(\"Day\" as date) from t",
    "select cast(\"Day\" as timestamp) from t",
    "select cast(name as decimal(5, 2)) from t",
    "select cast(id * 9999 as decimal(5, 2)) from t",
    "select cast(id * -9999 as decimal(5, 2)) from t",
    "select cast(id * 300 as tinyint) from t",
    "select to_date(\"Day\") from t",
    "select to_date(\"Day\", 'yyyy-MM-dd') from t",
    "select to_timestamp(\"Day\") from t",
    "select to_timestamp(moment) from t",
    "select cast(moment as timestamp(9)) from t",
    "select cast(cast(moment as date) as timestamp(9)) from t",
    "select cast(cast(moment as timestamp) as timestamp(9)) from t",
    "select cast(moment as timestamp) + interval '300000 years' from t",
    "select to_char(cast(moment as timestamp), 'YYYY') from t",
    "select id from t limit -1",
];

#[tokio::test]
async fn every_text_of_the_table_is_one_that_datafusion_has() {
    let session = session(Arc::new(RuntimeEnv::default()));
    let (mut shown, mut met) = (String::new(), BTreeSet::new());
    for statement in WRONG {
        let error = failure(&session, statement).await;
        met.extend(row(&error));
        let told = Error::from(error);
        let state = told.get_sqlstate().unwrap_or("-----");
        writeln!(shown, "{statement}\n  {} {state}: {}\n", told.kind().exit_code(), told.chain()).unwrap();
    }
    let error = too_little_disk().await;
    met.extend(row(&error));
    writeln!(shown, "(spilling)\n  {}", Error::from(error)).unwrap();
    insta::assert_snapshot!("wrong_statements", shown);

    let missing: Vec<&str> = (0..KNOWN.len()).filter(|i| !met.contains(i)).map(|i| KNOWN[i].text).collect();
    assert!(missing.is_empty(), "no statement gives {missing:#?}");
}

/// The row of the table that matches an error.
fn row(error: &DataFusionError) -> Option<usize> {
    let text = match root(error, &mut false) {
        Root::DataFusion(
            DataFusionError::Plan(text)
            | DataFusionError::NotImplemented(text)
            | DataFusionError::Configuration(text)
            | DataFusionError::Execution(text)
            | DataFusionError::ResourcesExhausted(text),
        ) => text,
        Root::Arrow(
            ArrowError::CastError(text)
            | ArrowError::ParseError(text)
            | ArrowError::ComputeError(text)
            | ArrowError::InvalidArgumentError(text)
            | ArrowError::ArithmeticOverflow(text),
        ) => text,
        _ => return None,
    };
    let text = text.strip_prefix("Execution error: ").unwrap_or(text);
    KNOWN.iter().position(|known| holes(known.text, text).is_some())
}

const BIG: &str =
    "select value, repeat('x', 100) || cast(value as string) as x from generate_series(1, 400000) order by x";

async fn too_little_disk() -> DataFusionError {
    let env = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(24 << 20)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_max_temp_directory_size(1 << 10));
    failure(&session(env.build_arc().unwrap()), BIG).await
}

#[tokio::test]
async fn memory_that_runs_out_is_told() {
    let env = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(1 << 10)));
    let error = Error::from(failure(&session(env.build_arc().unwrap()), BIG).await);
    assert_eq!(error.message(), "memory ran out; raise --memory-limit or use a spill directory with more space");
    assert_eq!((error.kind(), error.get_sqlstate()), (ErrorKind::Unexpected, Some("53200")));
}

#[test]
fn a_full_disk_is_told_from_other_failures_of_a_disk() {
    let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
    for error in [
        DataFusionError::IoError(full()),
        DataFusionError::ArrowError(Box::new(ArrowError::IoError("writing".to_owned(), full())), None),
    ] {
        let error = Error::from(error.context("spilling"));
        assert_eq!((error.message(), error.get_sqlstate()), (SPILL_FULL, Some("53100")));
        assert!(error.detail::<SpillFull>().is_some());
    }
    let other = DataFusionError::IoError(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
    assert_eq!(Error::from(other).message(), "the query failed");
}

#[tokio::test]
async fn frames_are_told_of_like_sql() {
    let session = session(Arc::new(RuntimeEnv::default()));
    let rows = |name: &str| {
        session
            .read_batch(RecordBatch::try_from_iter([(name, Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap())
            .unwrap()
    };
    let unknown = Error::from(rows("amount").select(vec![col("amuont")]).unwrap_err());
    assert_eq!(unknown.to_string(), "there is no column `amuont`; did you mean `amount`? (columns: amount)");
    // Of what has no name.
    let two = rows("a").join_on(rows("a"), datafusion::common::JoinType::Inner, [ident("a").eq(ident("a"))]);
    insta::assert_snapshot!(Error::from(two.unwrap_err()), @"more than one column is called `a` (hint: rename one of them first, or name the frames with `alias`)");
    let (orders, customers) = (rows("id").alias("orders").unwrap(), rows("id").alias("customers").unwrap());
    let on = [col("orders.id").eq(col("customers.id"))];
    let both = orders.join_on(customers, datafusion::common::JoinType::Inner, on).unwrap();
    let message = "more than one column is called `id` (columns: orders.id, customers.id, hint: qualify it with its table, as in `orders.id`)";
    for wrong in [
        both.clone().select(vec![col("id")]),
        both.clone().filter(col("id").gt(datafusion::prelude::lit(1))),
        both.clone().sort(vec![col("id").sort(true, false)]),
        both.clone().with_column("more", col("id")),
        both.clone().aggregate(vec![col("id")], vec![]),
    ] {
        assert_eq!(Error::from(wrong.unwrap_err()).to_string(), message);
    }
    // The hint.
    both.select(vec![col("orders.id")]).unwrap();
}

#[rstest]
#[case("a '{}' b", "a 'x' b", Some(&["x"][..]))]
#[case("a '{}' b", "a 'x' bc", None)]
#[case("a '{}' b", "b 'x' b", None)]
#[case("{} of {}", "one of two of three", Some(&["one", "two of three"][..]))]
#[case("{}, {}.", "a, b.", Some(&["a", "b"][..]))]
#[case("plain", "plain", Some(&[][..]))]
#[case("plain", "plain and more", None)]
fn templates(#[case] template: &str, #[case] text: &str, #[case] found: Option<&[&str]>) {
    assert_eq!(holes(template, text).as_deref(), found);
}

#[rstest]
#[case("substr(Int64, Utf8View)", "substr(bigint, string)")]
#[case("Decimal128(5, 2) + Interval(MonthDayNano)", "decimal(5, 2) + interval")]
#[case("Timestamp(\u{b5}s)", "timestamp")]
#[case("Int64y", "Int64y")]
#[case("", "")]
fn types_are_told_in_words(#[case] arrow: &str, #[case] words: &str) {
    assert_eq!(in_words(arrow), words);
}
