//! Compares the session with DataFusion where both must agree, and with models where DataFusion is wrong.

use std::sync::Arc;

use chrono::NaiveDateTime;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, TimestampNanosecondArray,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Field, Fields, Int64Type, TimestampMicrosecondType};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::dataframe::DataFrameWriteOptions;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::functions::core::expr_ext::FieldAccessor;
use datafusion::logical_expr::{ScalarUDF, lit};
use datafusion::prelude::{DataFrame, ParquetReadOptions, SessionConfig, SessionContext, col};
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::{Error, ErrorKind};

mod functions;

fn new_session() -> SessionContext {
    session(
        SessionConfig::new().with_target_partitions(2).with_collect_statistics(false),
        Arc::new(RuntimeEnv::default()),
    )
}

async fn rows(session: &SessionContext, sql: &str) -> RecordBatch {
    let frame = session.sql(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
    collected(frame).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
}

async fn collected(frame: DataFrame) -> crate::Result<RecordBatch> {
    let schema = Arc::clone(frame.schema().inner());
    Ok(concat_batches(&schema, &frame.collect().await?)?)
}

/// The values of all rows in their order, columns separated by a bar.
fn shown(batch: &RecordBatch) -> Vec<String> {
    let cell = |column: &ArrayRef, row| match column.is_null(row) {
        true => "null".to_owned(),
        false => array_value_to_string(column, row).unwrap(),
    };
    let row = |row| batch.columns().iter().map(|c| cell(c, row)).collect::<Vec<_>>().join(" | ");
    (0..batch.num_rows()).map(row).collect()
}

fn micros(text: &str) -> i64 {
    let format = if text.contains('T') { "%Y-%m-%dT%H:%M:%S%.f" } else { "%Y-%m-%d %H:%M:%S%.f" };
    let text = if text.contains([' ', 'T']) { text.to_owned() } else { format!("{text} 00:00:00") };
    NaiveDateTime::parse_from_str(&text, format).unwrap().and_utc().timestamp_micros()
}

const MOMENTS: [&str; 6] = [
    "0001-01-01",
    "1500-02-28T12:30:00",
    "1969-12-31T23:59:59.5",
    "2024-02-29T10:11:12",
    "2262-04-12",
    "9999-12-31T23:59:59.999999",
];

/// The table `t` with timestamps in every form.
fn moments() -> SessionContext {
    let session = new_session();
    let us: Vec<i64> = MOMENTS.iter().map(|m| micros(m)).collect();
    let us = TimestampMicrosecondArray::from(us);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("v", Arc::new(us.clone())),
        ("z", Arc::new(us.clone().with_timezone("+00:00"))),
        ("berlin", Arc::new(us.clone().with_timezone("Europe/Berlin"))),
        (
            "ms",
            Arc::new(us.unary::<_, datafusion::arrow::datatypes::TimestampMillisecondType>(|v| v.div_euclid(1_000))),
        ),
        ("s", Arc::new(us.unary::<_, datafusion::arrow::datatypes::TimestampSecondType>(|v| v.div_euclid(1_000_000)))),
        (
            "d",
            Arc::new(us.unary::<_, datafusion::arrow::datatypes::Date32Type>(|v| {
                v.div_euclid(86_400_000_000).try_into().unwrap()
            })),
        ),
        ("text", Arc::new(StringArray::from(MOMENTS.to_vec()))),
    ];
    session.register_batch("t", RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    session
}

// --- date_trunc and date_bin ---------------------------------------------------------------------------------------

#[rstest]
#[case("date_trunc('year', v)", &["0001-01-01T00:00:00", "1500-01-01T00:00:00", "1969-01-01T00:00:00", "2024-01-01T00:00:00", "2262-01-01T00:00:00", "9999-01-01T00:00:00"])]
#[case("date_trunc('quarter', v)", &["0001-01-01T00:00:00", "1500-01-01T00:00:00", "1969-10-01T00:00:00", "2024-01-01T00:00:00", "2262-04-01T00:00:00", "9999-10-01T00:00:00"])]
#[case("date_trunc('week', v)", &["0001-01-01T00:00:00", "1500-02-26T00:00:00", "1969-12-29T00:00:00", "2024-02-26T00:00:00", "2262-04-07T00:00:00", "9999-12-27T00:00:00"])]
#[case("date_trunc('month', d)", &["0001-01-01T00:00:00", "1500-02-01T00:00:00", "1969-12-01T00:00:00", "2024-02-01T00:00:00", "2262-04-01T00:00:00", "9999-12-01T00:00:00"])]
#[case("date_trunc('day', text)", &["0001-01-01T00:00:00", "1500-02-28T00:00:00", "1969-12-31T00:00:00", "2024-02-29T00:00:00", "2262-04-12T00:00:00", "9999-12-31T00:00:00"])]
#[case("datetrunc('hour', ms)", &["0001-01-01T00:00:00", "1500-02-28T12:00:00", "1969-12-31T23:00:00", "2024-02-29T10:00:00", "2262-04-12T00:00:00", "9999-12-31T23:00:00"])]
#[case("date_trunc('minute', s)", &["0001-01-01T00:00:00", "1500-02-28T12:30:00", "1969-12-31T23:59:00", "2024-02-29T10:11:00", "2262-04-12T00:00:00", "9999-12-31T23:59:00"])]
#[case("date_trunc('second', v)", &["0001-01-01T00:00:00", "1500-02-28T12:30:00", "1969-12-31T23:59:59", "2024-02-29T10:11:12", "2262-04-12T00:00:00", "9999-12-31T23:59:59"])]
#[case("date_trunc('year', z)", &["0001-01-01T00:00:00Z", "1500-01-01T00:00:00Z", "1969-01-01T00:00:00Z", "2024-01-01T00:00:00Z", "2262-01-01T00:00:00Z", "9999-01-01T00:00:00Z"])]
#[case("date_bin(interval '1 day', v)", &["0001-01-01T00:00:00", "1500-02-28T00:00:00", "1969-12-31T00:00:00", "2024-02-29T00:00:00", "2262-04-12T00:00:00", "9999-12-31T00:00:00"])]
#[case("date_bin(interval '1 day', v, timestamp '2001-01-01 06:00:00')", &["0000-12-31T06:00:00", "1500-02-28T06:00:00", "1969-12-31T06:00:00", "2024-02-29T06:00:00", "2262-04-11T06:00:00", "9999-12-31T06:00:00"])]
#[case("date_bin(interval '1 month', v)", &["0001-01-01T00:00:00", "1500-02-01T00:00:00", "1969-12-01T00:00:00", "2024-02-01T00:00:00", "2262-04-01T00:00:00", "9999-12-01T00:00:00"])]
#[case("date_bin(interval '2 years', ms, timestamp '2001-03-01')", &["-0001-03-01T00:00:00", "1499-03-01T00:00:00", "1969-03-01T00:00:00", "2023-03-01T00:00:00", "2261-03-01T00:00:00", "9999-03-01T00:00:00"])]
#[case("date_bin(interval '15 minutes', z)", &["0001-01-01T00:00:00Z", "1500-02-28T12:30:00Z", "1969-12-31T23:45:00Z", "2024-02-29T10:00:00Z", "2262-04-12T00:00:00Z", "9999-12-31T23:45:00Z"])]
#[tokio::test]
async fn moments_of_all_years_are_truncated(#[case] expr: &str, #[case] expected: &[&str]) {
    let session = moments();
    // On columns, and on each constant.
    assert_eq!(shown(&rows(&session, &format!("select {expr} from t")).await), expected);
    for (moment, expected) in MOMENTS.iter().zip(expected) {
        let one = format!("select {expr} from (select * from t where text = '{moment}')");
        assert_eq!(shown(&rows(&session, &one).await), [*expected]);
    }
}

#[tokio::test]
async fn constants_are_truncated_while_planning() {
    let session = new_session();
    let text = rows(&session, "select date_trunc('year', timestamp '9999-12-31'), date_trunc('month', null)").await;
    assert_eq!(shown(&text), ["9999-01-01T00:00:00 | null"]);
    let time =
        rows(&session, "select date_trunc('hour', time '10:11:12'), date_bin(interval '5 minutes', time '10:11:12')")
            .await;
    assert_eq!(shown(&time), ["10:00:00 | 10:10:00"]);
}

/// Local midnights that occur twice or never.
#[rstest]
#[case("America/Sao_Paulo", "day", "2018-11-04 12:00:00", "2018-11-04T01:00:00-02:00")]
#[case("Europe/Berlin", "hour", "2024-10-27 00:30:00", "2024-10-27T02:00:00+02:00")]
#[case("Europe/Berlin", "hour", "2024-10-27 01:30:00", "2024-10-27T02:00:00+01:00")]
#[case("Atlantic/Azores", "day", "2024-10-27 12:00:00", "2024-10-27T00:00:00Z")]
#[case("Asia/Kolkata", "hour", "2024-01-01 10:10:10", "2024-01-01T15:00:00+05:30")]
#[case("Europe/Berlin", "year", "9999-12-31 23:30:00", "+10000-01-01T00:00:00+01:00")]
#[tokio::test]
async fn days_begin_with_their_first_moment(
    #[case] zone: &str,
    #[case] precision: &str,
    #[case] utc: &str,
    #[case] expected: &str,
) {
    let session = new_session();
    let moment: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![micros(utc)]).with_timezone(zone));
    session.register_batch("t", RecordBatch::try_from_iter([("v", moment)]).unwrap()).unwrap();
    assert_eq!(shown(&rows(&session, &format!("select date_trunc('{precision}', v) from t")).await), [expected]);
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused() {
    let session = new_session();
    let first: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![i64::MIN + 1]));
    session.register_batch("t", RecordBatch::try_from_iter([("v", first)]).unwrap()).unwrap();
    for call in ["date_trunc('year', v)", "date_bin(interval '1 month', v)", "date_bin(interval '1 day', v)"] {
        let error = session.sql(&format!("select {call} from t")).await.unwrap().collect().await.unwrap_err();
        let error = Error::from(error);
        assert_eq!((error.kind(), error.get("value")), (ErrorKind::Refused, Some("1677-09-21 00:12:43")), "{call}");
    }
}

#[tokio::test]
async fn functions_of_datafusion_are_ours_in_frames() {
    let session = moments();
    let frame = session.table("t").await.unwrap();
    let year = datafusion::functions::expr_fn::date_trunc(lit("year"), col("v"));
    let bin = datafusion::functions::expr_fn::date_bin(
        lit(datafusion::common::ScalarValue::new_interval_dt(1, 0)),
        col("v"),
        lit(datafusion::common::ScalarValue::TimestampNanosecond(Some(0), None)),
    );
    let text = to_char(col("v"), lit("yyyy/MM"));
    let frame = frame.select(vec![year.alias("year"), bin.alias("bin"), text.alias("text")]).unwrap();
    assert_eq!(
        frame.schema().field(0).data_type(),
        &DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Microsecond, None)
    );
    let last = shown(&collected(frame).await.unwrap()).pop().unwrap();
    assert_eq!(last, "9999-01-01T00:00:00 | 9999-12-31T00:00:00 | 9999/12");
}

/// The Gregorian calendar repeats after 400 years, weeks included.
const CYCLE: i64 = 146_097 * 86_400_000_000;

fn call(
    function: &Arc<ScalarUDF>,
    first: datafusion::common::ScalarValue,
    moments: &[i64],
    zone: Option<&str>,
) -> Vec<i64> {
    use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};
    let array = TimestampMicrosecondArray::from(moments.to_vec()).with_timezone_opt(zone);
    let fields: Vec<Arc<Field>> = vec![
        Arc::new(Field::new("first", first.data_type(), false)),
        Arc::new(Field::new("v", array.data_type().clone(), false)),
    ];
    let return_field = function
        .return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &[Some(&first), None] })
        .unwrap();
    let args = ScalarFunctionArgs {
        args: vec![ColumnarValue::Scalar(first), ColumnarValue::Array(Arc::new(array))],
        arg_fields: fields,
        number_rows: moments.len(),
        return_field,
        config_options: Arc::default(),
    };
    let ColumnarValue::Array(result) = function.invoke_with_args(args).unwrap() else { panic!("no array") };
    result.as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

proptest! {
    /// Where DataFusion is right, ours agrees; elsewhere it agrees with DataFusion some calendar cycles away.
    #[test]
    fn the_calendar_repeats(
        moments in prop::collection::vec(micros("1800-01-01")..micros("2100-01-01"), 1..20),
        cycles in -15..15i64,
        precision in prop::sample::select(vec!["microsecond", "millisecond", "second", "minute", "hour", "day", "week", "month", "quarter", "year"]),
        months in prop::sample::select(vec![1, 3, 12, 48, 1200]),
        days in prop::sample::select(vec![1, 7, 21]),
    ) {
        let away: Vec<i64> = moments.iter().map(|m| m + cycles * CYCLE).collect();
        let back = |v: Vec<i64>| v.into_iter().map(|m| m - cycles * CYCLE).collect::<Vec<_>>();
        let word = datafusion::common::ScalarValue::from(precision);
        let theirs = call(&datafusion::functions::datetime::date_trunc(), word.clone(), &moments, None);
        prop_assert_eq!(back(call(time::functions()[0], word, &away, None)), theirs);
        for length in [
            datafusion::common::ScalarValue::new_interval_mdn(months, 0, 0),
            datafusion::common::ScalarValue::new_interval_mdn(0, days, 0),
            datafusion::common::ScalarValue::new_interval_mdn(0, 0, 3_600_000_000_000),
        ] {
            // DataFusion refuses parts of seconds before 1970 where it counts in months.
            let whole = |moments: &[i64]| moments.iter().map(|m| m - m.rem_euclid(1_000_000)).collect::<Vec<_>>();
            let (moments, away) = (whole(&moments), whole(&away));
            let theirs = call(&datafusion::functions::datetime::date_bin(), length.clone(), &moments, None);
            prop_assert_eq!(back(call(time::functions()[1], length, &away, None)), theirs);
        }
    }

    /// In any zone, truncation is not after the moment, is idempotent, and is monotonic.
    #[test]
    fn truncation_is_a_floor(
        moments in prop::collection::vec(micros("0001-01-02")..micros("9999-12-30"), 2..20),
        precision in prop::sample::select(vec!["second", "minute", "hour", "day", "week", "month", "quarter", "year"]),
        zone in prop::sample::select(vec!["Europe/Berlin", "America/Sao_Paulo", "Atlantic/Azores", "Asia/Kathmandu", "Australia/Lord_Howe", "+05:30"]),
    ) {
        let mut moments = moments;
        moments.sort();
        let word = datafusion::common::ScalarValue::from(precision);
        let floors = call(time::functions()[0], word.clone(), &moments, Some(zone));
        prop_assert!(floors.iter().zip(&moments).all(|(f, m)| f <= m), "{floors:?}");
        prop_assert_eq!(&call(time::functions()[0], word, &floors, Some(zone)), &floors);
        prop_assert!(floors.windows(2).all(|w| w[0] <= w[1]), "{floors:?}");
    }
}

// --- comparisons of moments ----------------------------------------------------------------------------------------

/// Which of the moments (0 to 5) a predicate keeps.
#[rstest]
#[case("v = timestamp '9999-12-31 23:59:59.999999'", &[5])]
#[case("v > timestamp '9999-12-31'", &[5])]
#[case("v < timestamp '9999-12-31'", &[0, 1, 2, 3, 4])]
#[case("v >= '9999-12-31'", &[5])]
#[case("v = '9999-12-31'", &[])]
#[case("'9999-12-31' > v", &[0, 1, 2, 3, 4])]
#[case("v < date '9999-12-31'", &[0, 1, 2, 3, 4])]
#[case("v = d", &[0, 4])]
#[case("d = v", &[0, 4])]
#[case("v > d", &[1, 2, 3, 5])]
#[case("z = d", &[0, 4])]
#[case("z >= '9999-12-31'", &[5])]
#[case("z >= timestamptz '9999-12-31T00:00:00Z'", &[5])]
#[case("z >= timestamp '9999-12-31'", &[5])]
#[case("z = v", &[0, 1, 2, 3, 4, 5])]
#[case("berlin = z", &[0, 1, 2, 3, 4, 5])]
#[case("berlin is not distinct from z", &[0, 1, 2, 3, 4, 5])]
#[case("v = s", &[0, 1, 3, 4])]
#[case("s = v", &[0, 1, 3, 4])]
#[case("v = ms", &[0, 1, 2, 3, 4])]
#[case("v > ms", &[5])]
#[case("v is distinct from s", &[2, 5])]
#[case("v between '2000-01-01' and '9999-12-31'", &[3, 4])]
#[case("v between date '0001-01-01' and timestamp '1500-03-01'", &[0, 1])]
#[case("v not between '2000-01-01' and '9999-12-31'", &[0, 1, 2, 5])]
#[case("v in ('0001-01-01', '2262-04-12')", &[0, 4])]
#[case("v in (date '0001-01-01', date '9999-12-31')", &[0])]
#[case("v not in (timestamp '0001-01-01')", &[1, 2, 3, 4, 5])]
#[case("s < '1970-01-01'", &[0, 1, 2])]
#[case("s = '1969-12-31T23:59:59.5'", &[])]
#[case("v = '1969-12-31T23:59:59.500'", &[2])]
#[case("v > now()", &[4, 5])]
#[case("extract(year from v) = 9999", &[5])]
#[case("extract(year from v) > 2000", &[3, 4, 5])]
#[case("date_trunc('year', v) = '9999-01-01'", &[5])]
#[case("date_trunc('day', v) = d", &[0, 1, 2, 3, 4, 5])]
#[case("cast(v as date) = d", &[0, 1, 2, 3, 4, 5])]
#[case("cast(d as timestamp) <= v", &[0, 1, 2, 3, 4, 5])]
#[case("cast(text as timestamp) = v", &[0, 1, 2, 3, 4, 5])]
#[case("v + interval '1 day' > '9999-12-31'", &[5])]
#[case("v - timestamp '0001-01-01' >= arrow_cast(0, 'Duration(Microsecond)')", &[0, 1, 2, 3, 4, 5])]
#[tokio::test]
async fn moments_of_all_years_are_compared(#[case] predicate: &str, #[case] kept: &[usize]) {
    let session = moments();
    let kept: Vec<&str> = kept.iter().map(|i| MOMENTS[*i]).collect();
    let query = |table: &str| format!("select text from {table} where {predicate} order by text");
    assert_eq!(shown(&rows(&session, &query("t")).await), kept);
    // The same in an expression, and from a file whose parts are skipped by their statistics.
    let expression = format!("select text from (select text, {predicate} as p from t) where p order by text");
    assert_eq!(shown(&rows(&session, &expression).await), kept);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.parquet");
    let options = DataFrameWriteOptions::new().with_single_file_output(true);
    let frame = session.sql("select * from t order by v").await.unwrap();
    let mut properties = datafusion::config::TableParquetOptions::default();
    properties.global.max_row_group_size = 1;
    frame.write_parquet(file.to_str().unwrap(), options, Some(properties)).await.unwrap();
    session.register_parquet("p", file.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    assert_eq!(shown(&rows(&session, &query("p")).await), kept);
}

#[tokio::test]
async fn moments_are_joined_in_the_finer_unit() {
    let session = moments();
    for (condition, count) in
        [("a.v = b.d", 2), ("a.v = b.s", 4), ("a.s = b.v", 4), ("a.z = b.berlin", 6), ("a.v = b.z", 6)]
    {
        let join = rows(&session, &format!("select count(*) from t a join t b on {condition}")).await;
        assert_eq!(join.column(0).as_primitive::<Int64Type>().value(0), count, "{condition}");
    }
    let table = session.table("t").await.unwrap();
    let left = table.clone().select(vec![col("v")]).unwrap();
    let right = table.select(vec![col("s").alias("w")]).unwrap();
    let join = left.join(right, datafusion::common::JoinType::Inner, &["v"], &["w"], None).unwrap();
    assert_eq!(join.count().await.unwrap(), 4);
}

#[tokio::test]
async fn a_timestamp_counts_microseconds() {
    let session = new_session();
    let types = rows(&session, "select arrow_typeof(cast('2024-01-01' as timestamp)), arrow_typeof(cast(date '9999-12-31' as timestamp)), arrow_typeof(cast('2024-01-02' as timestamp(9)))").await;
    assert_eq!(shown(&types), ["Timestamp(µs) | Timestamp(µs) | Timestamp(ns)"]);
}

// --- numbers and texts ----------------------------------------------------------------------------------------------

/// The table `ids`: numbers, and texts that look like numbers.
fn ids() -> SessionContext {
    let session = new_session();
    let ids = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![1, 10, 100, i64::MAX])) as ArrayRef),
        ("code", Arc::new(StringArray::from(vec!["01", "10", "x", ""]))),
    ])
    .unwrap();
    session.register_batch("ids", ids).unwrap();
    session
}

/// Which of the ids (1, 10, 100 and the largest) a predicate keeps.
#[rstest]
#[case("id > '9'", &[1, 2, 3])]
#[case("'9' < id", &[1, 2, 3])]
#[case("id = '01'", &[0])]
#[case("id = '1.0'", &[0])]
#[case("id = '1e2'", &[2])]
#[case("id = ' 10 '", &[1])]
#[case("id > '9.5'", &[1, 2, 3])]
#[case("id < '9.99999'", &[0])]
#[case("id = '9223372036854775807'", &[3])]
#[case("id < '9223372036854775808'", &[0, 1, 2, 3])]
#[case("id between '9' and '50'", &[1])]
#[case("id in ('01', '10')", &[0, 1])]
#[case("id not in ('01', '10')", &[2, 3])]
#[case("id is distinct from '010'", &[0, 2, 3])]
#[case("id in ('01', null)", &[0])]
#[case("case id when '01' then true when '100' then true end", &[0, 2])]
#[case("case when id > '9' then true end", &[1, 2, 3])]
#[case("cast(id as decimal(30, 2)) = '10'", &[1])]
#[case("cast(id as decimal(30, 2)) < '10.005'", &[0, 1])]
#[case("cast(id as double) / 10 = '0.1'", &[0])]
#[case("cast(cast(id as double) / 10 as float) = '0.1'", &[0])]
#[case("cast(id as double) < 'Infinity'", &[0, 1, 2, 3])]
#[case("cast(id as string) > '9'", &[3])]
#[case("cast(id as string) = code", &[1])]
#[case("id = null", &[])]
#[case("id in (select cast('10' as int))", &[1])]
#[tokio::test]
async fn a_text_beside_a_number_is_the_number_that_it_writes(#[case] predicate: &str, #[case] kept: &[usize]) {
    let written = ["1", "10", "100", "9223372036854775807"];
    let kept: Vec<&str> = kept.iter().map(|i| written[*i]).collect();
    let query = format!("select id from ids where {predicate} order by id");
    assert_eq!(shown(&rows(&ids(), &query).await), kept);
}

#[rstest]
#[case("id = code", "cast one of them: `cast(ids.code as bigint)`, or `cast(ids.id as string)`")]
#[case("code > 9", "cast one of them: `cast(ids.code as bigint)`, or `cast(9 as string)`")]
#[case("code in (1, 2)", "cast one of them: `cast(ids.code as bigint)`, or `cast(1 as string)`")]
#[case("id in (select code from ids)", "cast one of them: `cast(code as bigint)`, or `cast(ids.id as string)`")]
#[case("code in (select id from ids)", "cast one of them: `cast(ids.code as bigint)`, or `cast(id as string)`")]
#[case("id > 'abc'", "compare with a number, or compare texts: `cast(ids.id as string)`")]
#[case("cast(id as double) < '1e400'", "compare with a number, or compare texts: `cast(x as string)`")]
#[case("id = ''", "compare with a number, or compare texts: `cast(ids.id as string)`")]
#[case("id < '1e400'", "compare with a number, or compare texts: `cast(ids.id as string)`")]
#[case("case id when 'x' then true end", "compare with a number, or compare texts: `cast(ids.id as string)`")]
#[tokio::test]
async fn numbers_and_texts_that_cannot_be_compared_are_refused(#[case] predicate: &str, #[case] hint: &str) {
    let frame = ids().sql(&format!("select * from ids where {predicate}")).await.unwrap();
    let error = collected(frame).await.unwrap_err();
    assert_eq!((error.kind(), error.get_hint()), (ErrorKind::Usage, Some(hint)), "{error}");
}

#[tokio::test]
async fn keys_of_joins_are_of_one_kind() {
    let session = ids();
    for condition in ["a.id = b.code", "a.code = b.id and a.id = b.id"] {
        let frame = session.sql(&format!("select * from ids a join ids b on {condition}")).await.unwrap();
        assert_eq!(collected(frame).await.unwrap_err().kind(), ErrorKind::Usage, "{condition}");
    }
    let table = session.table("ids").await.unwrap();
    let left = table.clone().select(vec![col("id")]).unwrap();
    let join = left.join(
        table.select(vec![col("code")]).unwrap(),
        datafusion::common::JoinType::Inner,
        &["id"],
        &["code"],
        None,
    );
    assert_eq!(collected(join.unwrap()).await.unwrap_err().kind(), ErrorKind::Usage);
}

proptest! {
    /// Quoted or not, a number is the same number.
    #[test]
    fn quotes_around_a_number_change_nothing(ids in proptest::collection::vec(any::<i64>(), 1..8), with in any::<i64>(), op in 0..6_usize) {
        let op = ["=", "<>", "<", "<=", ">", ">="][op];
        let session = new_session();
        let batch = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as ArrayRef)]).unwrap();
        session.register_batch("t", batch).unwrap();
        let kept = |with: String| {
            let session = session.clone();
            let query = format!("select id from t where id {op} {with} order by id");
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async move { shown(&rows(&session, &query).await) })
        };
        prop_assert_eq!(kept(format!("'{with}'")), kept(format!("cast({with} as bigint)")));
    }
}

// --- patterns ------------------------------------------------------------------------------------------------------

#[rstest]
#[case("date_format(v, 'yyyy-MM')", "2024-02")]
#[case("date_format(d, 'dd.MM.yyyy')", "29.02.2024")]
#[case("date_format(d, 'yyyy-MM-dd HH:mm')", "2024-02-29 00:00")]
#[case("date_format(v, 'EEEE, d MMM yy, h:mm a')", "Thursday, 29 Feb 24, 10:11 AM")]
#[case("date_format(v, 'yyyy''Q''Q')", "2024Q1")]
#[case("date_format(v, '%Y-%m')", "2024-02")]
#[case("to_char(v, 'yyyy-MM-dd')", "2024-02-29")]
#[case("to_char(v, '%Y')", "2024")]
#[case("to_date('31/12/9999', 'dd/MM/yyyy')", "9999-12-31")]
#[case("to_date('20240229', 'yyyyMMdd')", "2024-02-29")]
#[case("to_timestamp('29.02.2024 10:11:12', 'dd.MM.yyyy HH:mm:ss')", "2024-02-29T10:11:12")]
#[case("to_timestamp_millis('29.02.2024', '%d/%m/%Y', 'dd.MM.yyyy')", "2024-02-29T00:00:00")]
#[case("to_unixtime('01.01.1970 00:01:00', 'dd.MM.yyyy HH:mm:ss')", "60")]
#[tokio::test]
async fn patterns_of_java_mean_what_they_mean_in_spark(#[case] expr: &str, #[case] expected: &str) {
    let session = moments();
    let query = format!("select {expr} from t where text like '2024%'");
    assert_eq!(shown(&rows(&session, &query).await), [expected]);
}

#[tokio::test]
async fn a_pattern_without_a_meaning_is_refused() {
    let session = moments();
    let error = session.sql("select to_char(v, 'YYYY-MM-DD') from t").await.unwrap().collect().await.unwrap_err();
    let error = Error::from(error);
    assert_eq!((error.kind(), error.get_hint()), (ErrorKind::Usage, Some("`yyyy` is the year")));
}

// --- elements of lists ---------------------------------------------------------------------------------------------

/// id, items: array<struct<sku, tags: array<string>, price: double>>: two items, none, null, and a null item.
fn orders(session: &SessionContext) -> DataFrame {
    let tags = ListArray::new(
        Arc::new(Field::new("element", DataType::Utf8, true)),
        OffsetBuffer::from_lengths([2, 0, 0, 1]),
        Arc::new(StringArray::from(vec!["x", "y", "z"])),
        Some(NullBuffer::from(vec![true, true, false, true])),
    );
    let fields = Fields::from(vec![
        Field::new("sku", DataType::Utf8, true),
        Field::new("tags", tags.data_type().clone(), true),
        Field::new("price", DataType::Float64, true),
    ]);
    let items = StructArray::new(
        fields,
        vec![
            Arc::new(StringArray::from(vec![Some("a"), Some("b"), None, Some("d")])),
            Arc::new(tags),
            Arc::new(Float64Array::from(vec![Some(1.0), Some(2.0), None, Some(4.0)])),
        ],
        Some(NullBuffer::from(vec![true, true, false, true])),
    );
    let items = ListArray::new(
        Arc::new(Field::new("element", items.data_type().clone(), true)),
        OffsetBuffer::from_lengths([2, 0, 0, 2]),
        Arc::new(items),
        Some(NullBuffer::from(vec![true, true, false, true])),
    );
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4]))), ("items", Arc::new(items))];
    session.read_batch(RecordBatch::try_from_iter(columns).unwrap()).unwrap()
}

#[tokio::test]
async fn fields_of_unnested_structs_can_be_taken() {
    let session = new_session();
    let items = orders(&session).unnest_columns(&["items"]).unwrap();
    let flat =
        items.clone().select(vec![col("id"), col("items").field("sku"), col("items").field("price").alias("price")]);
    let flat = flat.unwrap().sort_by(vec![col("id")]).unwrap();
    assert_eq!(
        shown(&collected(flat).await.unwrap()),
        ["1 | a | 1.0", "1 | b | 2.0", "3 | null | null", "4 | null | null", "4 | d | 4.0"]
    );
    let dear = items.clone().filter(col("items").field("price").gt(lit(1.5))).unwrap();
    assert_eq!(dear.count().await.unwrap(), 2);
    // Lists in structs in lists, and structs that become columns.
    let tags = items.clone().select(vec![col("id"), col("items").field("tags").alias("tags")]).unwrap();
    let tags = tags.unnest_columns(&["tags"]).unwrap().filter(col("tags").is_not_null()).unwrap();
    let tags = tags.sort_by(vec![col("id"), col("tags")]).unwrap();
    assert_eq!(shown(&collected(tags).await.unwrap()), ["1 | x", "1 | y", "4 | z"]);
    let columns = items.unnest_columns(&["items"]).unwrap();
    assert_eq!(columns.schema().field_names(), ["?table?.id", "items.sku", "items.tags", "items.price"]);
    assert_eq!(columns.filter(col("\"items.sku\"").eq(lit("d"))).unwrap().count().await.unwrap(), 1);
}

#[tokio::test]
async fn lists_of_named_tables_are_unnested_under_their_names() {
    let session = new_session();
    session.register_table("orders", orders(&session).into_view()).unwrap();
    let items = session.table("orders").await.unwrap().unnest_columns(&["items"]).unwrap();
    assert_eq!(items.schema().field_names(), ["orders.id", "items"]);
    let sku = items.aggregate(vec![col("items").field("sku")], vec![]).unwrap();
    assert_eq!(sku.count().await.unwrap(), 4);
}

// --- one equality --------------------------------------------------------------------------------------------------

/// Numbers, some of which are equal in SQL but differ in their bits.
const NUMBERS: [u64; 9] = [
    0x0000_0000_0000_0000, // 0.0
    0x8000_0000_0000_0000, // -0.0
    0x7ff8_0000_0000_0000, // NaN
    0xfff8_0000_0000_0000, // the NaN of 0.0 / 0.0 on x86
    0x7ff8_0000_0000_0001, // another
    0x3ff0_0000_0000_0000, // 1.0
    0xbff8_0000_0000_0000, // -1.5
    0x7ff0_0000_0000_0000, // inf
    0xfff0_0000_0000_0000, // -inf
];

/// SQL's order: one zero, and one NaN above everything.
fn compare(a: f64, b: f64) -> std::cmp::Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The form of a column of numbers.
#[derive(Debug, Clone, Copy)]
enum Form {
    Double,
    Float,
    Struct,
    List,
}

fn column(values: &[Option<f64>], form: Form) -> ArrayRef {
    let doubles = Float64Array::from(values.to_vec());
    match form {
        Form::Double => Arc::new(doubles),
        // The bits of a NaN are lost in a cast on some processors, but not its sign.
        Form::Float => Arc::new(doubles.unary::<_, datafusion::arrow::datatypes::Float32Type>(|v| v as f32)),
        Form::Struct => {
            let nulls = doubles.nulls().cloned();
            let fields = Fields::from(vec![Field::new("x", DataType::Float64, true)]);
            Arc::new(StructArray::new(fields, vec![Arc::new(doubles)], nulls))
        }
        Form::List => {
            let nulls = doubles.nulls().cloned();
            let field = Arc::new(Field::new("element", DataType::Float64, true));
            let lengths = OffsetBuffer::from_lengths(vec![1; values.len()]);
            Arc::new(ListArray::new(field, lengths, Arc::new(doubles), nulls))
        }
    }
}

/// The table `t` (`i`, `f`) in memory, and the same rows as `p` in a file with a row group for every row.
async fn numbers(values: &[Option<f64>], form: Form) -> (SessionContext, tempfile::TempDir) {
    let session = new_session();
    let i: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let batch = RecordBatch::try_from_iter_with_nullable([("i", i, false), ("f", column(values, form), true)]).unwrap();
    session.register_batch("t", batch).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.parquet");
    let mut properties = datafusion::config::TableParquetOptions::default();
    properties.global.max_row_group_size = 2;
    let options = DataFrameWriteOptions::new().with_single_file_output(true);
    let frame = session.table("t").await.unwrap();
    frame.write_parquet(file.to_str().unwrap(), options, Some(properties)).await.unwrap();
    session.register_parquet("p", file.to_str().unwrap(), ParquetReadOptions::default()).await.unwrap();
    (session, folder)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn some_numbers() -> impl Strategy<Value = Vec<Option<f64>>> {
    let number = prop::sample::select(NUMBERS.to_vec()).prop_map(f64::from_bits);
    prop::collection::vec(prop::option::weighted(0.9, number), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Every place that compares values agrees: filters, all kinds of joins, groups, duplicates, windows, set
    /// operations, lists of values, aggregates.
    #[test]
    fn what_is_equal_is_equal_everywhere(
        values in some_numbers(),
        form in prop::sample::select(vec![Form::Double, Form::Float, Form::Struct, Form::List]),
    ) {
        block_on(async {
            let (session, _folder) = numbers(&values, form).await;
            let equal = |a: &Option<f64>, b: &Option<f64>| match (a, b) {
                (Some(a), Some(b)) => compare(*a, *b).is_eq(),
                _ => false,
            };
            let same = |a: &Option<f64>, b: &Option<f64>| equal(a, b) || (a.is_none() && b.is_none());
            let pairs = |holds: &dyn Fn(&Option<f64>, &Option<f64>) -> bool| {
                let mut pairs = Vec::new();
                for (i, a) in values.iter().enumerate() {
                    pairs.extend(values.iter().enumerate().filter(|(_, b)| holds(a, b)).map(|(j, _)| format!("{i} | {j}")));
                }
                pairs.sort();
                pairs
            };
            // In DataFusion, null structs and lists are equal in `=`, so they are left out of comparisons.
            let known = |a: &str| format!("{a}.f is not null");
            let (a, b) = (known("a"), known("b"));
            for (query, expected) in [
                (format!("select a.i, b.i as j from t a cross join t b where a.f = b.f and {a} and {b}"), pairs(&equal)),
                (format!("select a.i, b.i as j from t a join t b on a.f = b.f and {a} and {b}"), pairs(&equal)),
                (format!("select a.i, b.i as j from t a join p b on a.f = b.f and {a} and {b}"), pairs(&equal)),
                (format!("select a.i, b.i as j from t a join t b on a.f = b.f and {a} and {b} and a.i + b.i >= 0"), pairs(&equal)),
                ("select a.i, b.i as j from t a join t b on a.f is not distinct from b.f".to_owned(), pairs(&same)),
                (format!("select a.i, b.i as j from t a cross join t b where not (a.f <> b.f) and {a} and {b}"), pairs(&equal)),
                (format!("select a.i, b.i as j from t a cross join t b where a.f in (b.f) and {a} and {b}"), pairs(&equal)),
                (format!("select a.i, b.i as j from t a cross join t b where nullif(a.f, b.f) is null and {a} and {b}"), pairs(&equal)),
                (format!("select a.i, b.i as j from t a cross join t b where case a.f when b.f then true else false end and {a} and {b}"), pairs(&equal)),
                ("select a.i, b.i as j from t a cross join t b where array_has(array[a.f], b.f) and a.f is not null and b.f is not null".to_owned(), pairs(&equal)),
            ] {
                let mut found = shown(&rows(&session, &query).await);
                found.sort();
                prop_assert_eq!(found, expected, "{}", query);
            }

            // The same number of classes everywhere, with the same sizes.
            let mut sizes: Vec<usize> = Vec::new();
            for (i, value) in values.iter().enumerate() {
                if values[..i].iter().all(|earlier| !same(earlier, value)) {
                    sizes.push(values.iter().filter(|v| same(v, value)).count());
                }
            }
            sizes.sort();
            let classes = sizes.len();
            for query in ["select count(*) as n from t group by f", "select count(*) as n from p group by f", "select count(*) as n from t group by f, i - i", "select max(c) from (select f, count(*) over (partition by f) as c from t) group by f", "select count(*) from t group by rollup(f) having grouping(f) = 0"] {
                let mut found: Vec<usize> = shown(&rows(&session, query).await).iter().map(|n| n.parse().unwrap()).collect();
                found.sort();
                prop_assert_eq!(&found, &sizes, "{}", query);
            }
            for query in ["select distinct f from t", "select distinct f from p", "select f from t union select f from p", "select f from t intersect select f from p", "select distinct on (f) f from t"] {
                prop_assert_eq!(rows(&session, query).await.num_rows(), classes, "{}", query);
            }
            prop_assert_eq!(rows(&session, "select f from t except select f from p").await.num_rows(), 0);
            let known = classes - usize::from(values.contains(&None));
            let query = "select count(distinct f), (select count(*) from t where f in (select f from p)) from t";
            let found = values.iter().filter(|v| v.is_some()).count();
            prop_assert_eq!(shown(&rows(&session, query).await), [format!("{known} | {found}")]);
            Ok(())
        })?;
    }

    /// Filters and orders follow SQL, in memory and from files.
    #[test]
    fn numbers_are_compared_as_in_sql(values in some_numbers(), bits in prop::sample::select(NUMBERS.to_vec()), one in 0..6usize, form in prop::sample::select(vec![Form::Double, Form::Float])) {
        block_on(async {
            let (session, _folder) = numbers(&values, form).await;
            let number = f64::from_bits(bits);
            let literal = format!("cast('{number:?}' as double)");
            let all = [
                ("=", std::cmp::Ordering::is_eq as fn(std::cmp::Ordering) -> bool),
                ("<>", std::cmp::Ordering::is_ne),
                ("<", std::cmp::Ordering::is_lt),
                ("<=", std::cmp::Ordering::is_le),
                (">", std::cmp::Ordering::is_gt),
                (">=", std::cmp::Ordering::is_ge),
            ];
            for (op, holds) in [all[one]] {
                let kept = |holds: &dyn Fn(f64) -> bool| {
                    let kept = values.iter().enumerate().filter(|(_, v)| v.is_some_and(holds));
                    kept.map(|(i, _)| i.to_string()).collect::<Vec<_>>()
                };
                let right = kept(&|v| holds(compare(v, number)));
                let wrong = kept(&|v| !holds(compare(v, number)));
                for table in ["t", "p"] {
                    for (predicate, expected) in [
                        (format!("f {op} {literal}"), &right),
                        (format!("not (f {op} {literal})"), &wrong),
                        (format!("f {op} {literal} and i >= 0"), &right),
                        (format!("f {op} {literal} or i < 0"), &right),
                        (format!("(f {op} {literal}) = true"), &right),
                    ] {
                        let query = format!("select i from {table} where {predicate} order by i");
                        prop_assert_eq!(&shown(&rows(&session, &query).await), expected, "{}", query);
                    }
                }
            }
            // Of bounds and lists of values.
            let inside = values.iter().enumerate().filter(|(_, v)| v.is_some_and(|v| compare(-0.0, v).is_le() && compare(v, number).is_le()));
            let inside: Vec<String> = inside.map(|(i, _)| i.to_string()).collect();
            let among = values.iter().enumerate().filter(|(_, v)| v.is_some_and(|v| v == 0.0 || compare(v, number).is_eq()));
            let among: Vec<String> = among.map(|(i, _)| i.to_string()).collect();
            for table in ["t", "p"] {
                let query = format!("select i from {table} where f between 0.0 and {literal} order by i");
                prop_assert_eq!(&shown(&rows(&session, &query).await), &inside, "{}", query);
                let query = format!("select i from {table} where f in (0.0, {literal}) order by i");
                prop_assert_eq!(&shown(&rows(&session, &query).await), &among, "{}", query);
                let mut sorted: Vec<(usize, Option<f64>)> = values.iter().copied().enumerate().collect();
                sorted.sort_by(|(i, a), (j, b)| match (a, b) {
                    (Some(a), Some(b)) => compare(*a, *b).then(i.cmp(j)),
                    (a, b) => b.is_some().cmp(&a.is_some()).then(i.cmp(j)),
                });
                let sorted: Vec<String> = sorted.iter().map(|(i, _)| i.to_string()).collect();
                let query = format!("select i from {table} order by f, i");
                prop_assert_eq!(&shown(&rows(&session, &query).await), &sorted, "{}", query);
                let query = format!("select i from {table} where f is not null order by f desc, i desc limit 1");
                let greatest = values.iter().enumerate().filter_map(|(i, v)| Some((i, (*v)?))).max_by(|(i, a), (j, b)| compare(*a, *b).then(i.cmp(j)));
                let greatest: Vec<String> = greatest.iter().map(|(i, _)| i.to_string()).collect();
                prop_assert_eq!(&shown(&rows(&session, &query).await), &greatest, "{}", query);
                let query = format!("select count(*) from {table} where f = (select max(f) from {table})");
                let most = values.iter().flatten().copied().max_by(|a, b| compare(*a, *b));
                let count = values.iter().flatten().filter(|v| most.is_some_and(|m| compare(**v, m).is_eq())).count();
                prop_assert_eq!(&shown(&rows(&session, &query).await), &[count.to_string()], "{}", query);
            }
            Ok(())
        })?;
    }
}

/// Predicates that no NaN passes skip files; a predicate that a NaN passes must read them.
#[tokio::test]
async fn statistics_are_used_where_they_are_true() {
    let values: Vec<Option<f64>> = vec![Some(0.5), Some(f64::NAN), Some(1.5), Some(2.5)];
    let (session, _folder) = numbers(&values, Form::Double).await;
    let skipped = |predicate: &'static str| {
        let session = session.clone();
        async move {
            let plan = rows(&session, &format!("explain select i from p where {predicate}")).await;
            let plan = shown(&plan).join("\n");
            (plan.contains("pruning_predicate"), plan)
        }
    };
    for predicate in ["f = 1.5", "f < 1.0", "f <= 0.0", "f = 0.0", "f between 1.0 and 2.0", "f in (0.5, 1.0)"] {
        let (skipped, plan) = skipped(predicate).await;
        assert!(skipped, "{predicate}: {plan}");
    }
    for predicate in ["f > 1.0", "f <> 1.0", "not (f < 1.0)", "f = cast('NaN' as double)"] {
        let (skipped, plan) = skipped(predicate).await;
        assert!(!skipped, "{predicate}: {plan}");
    }
}

#[test]
fn the_one_form_keeps_everything_else() {
    let values = [Some(-0.0), Some(-f64::NAN), Some(-1.0), None, Some(5e-324), Some(f64::NEG_INFINITY)];
    let expected = [Some(0.0), Some(f64::NAN), Some(-1.0), None, Some(5e-324), Some(f64::NEG_INFINITY)];
    for form in [Form::Double, Form::Struct, Form::List] {
        // Slices, too: their children begin elsewhere.
        for (from, length) in [(0, 6), (1, 4)] {
            let array = canonical_array(&column(&values, form).slice(from, length)).unwrap();
            let wanted = column(&expected, form).slice(from, length);
            assert_eq!(format!("{array:?}"), format!("{wanted:?}"));
            assert_eq!(&array, &wanted);
        }
    }
}
