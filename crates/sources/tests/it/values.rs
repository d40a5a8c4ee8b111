//! Inference never changes a value, and a declared type takes exactly the value that is written.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::util::display::array_value_to_string;
use chrono::DateTime;
use hardtack_core::audit::sensitive;
use hardtack_core::{Error, ErrorKind, JobContext, Source};
use hardtack_sources::{CsvFiles, JsonFiles, ParquetFiles};
use proptest::prelude::*;
use rstest::rstest;

use crate::{rows, schema, show, with_files};

/// Nobody reads the values of a sensitive column in an error, nor a row that has one, whatever is read of it; those of
/// other columns are named.
#[rstest]
#[case::json("data/a.jsonl", r#"{"salary": "hidden", "age": 1}"#, &["salary", "age"], "(redacted) is not a Float64")]
#[case::json_of_another("data/a.jsonl", r#"{"salary": 1.5, "age": "old"}"#, &["salary", "age"], "`old` is not an Int64")]
#[case::csv("data/a.csv", "salary,age\n\"x` is not `hidden\",1\n", &["salary", "age"], "(redacted) is not a Float64")]
#[case::csv_of_another("data/a.csv", "salary,age\n1.5,old\n", &["age"], "`old` is not an Int64")]
#[case::row("data/a.csv", "salary,age\n1.5,2,hidden\n", &["salary", "age"], "the record has 3 fields where 2 are expected")]
#[case::row_of_others("data/a.csv", "salary,age\n1.5,2,hidden\n", &["age"], "the record has 3 fields where 2 are expected")]
#[case::not_closed("data/a.csv", "salary,age\n1.5,\"hidden\n", &["age"], "a quote is not closed")]
#[tokio::test]
async fn values_of_sensitive_columns_are_in_no_error(
    #[case] file: &'static str,
    #[case] text: &'static str,
    #[case] columns: &[&str],
    #[case] said: &str,
) {
    let ctx = with_files([(file, text)]).await;
    let declared = sensitive(schema(&[("salary", DataType::Float64), ("age", DataType::Int64)]), ["salary"]);
    let rows = match file.ends_with(".csv") {
        true => ctx.load(CsvFiles::new("people", "memory:/data").with_schema(declared)).await,
        false => ctx.load(JsonFiles::new("people", "memory:/data").with_schema(declared)).await,
    };
    let read = rows.unwrap().select_columns(columns).unwrap().collect().await;
    let error = Error::from(read.unwrap_err());
    assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, said));
    assert!(!error.chain().contains("hidden"), "{error}");
}

const AT: &str = "memory:/data";

/// The type of the column `v` and its values as texts, or the error in one line.
async fn column(ctx: &JobContext, source: impl Source) -> Result<(DataType, Vec<Option<String>>), String> {
    let (schema, batches) = rows(ctx, source).await.map_err(|e| e.chain())?;
    let all = concat_batches(&schema, &batches).unwrap();
    let mut column: ArrayRef = Arc::clone(all.column_by_name("v").unwrap());
    if let DataType::List(_) = column.data_type() {
        column = Arc::clone(column.as_list::<i32>().values());
    }
    let value = |row| column.is_valid(row).then(|| array_value_to_string(&column, row).unwrap());
    let values = (0..column.len()).map(value).collect();
    Ok((column.data_type().clone(), values))
}

fn named(files: &[String], suffix: &str) -> Vec<(String, String)> {
    files.iter().enumerate().map(|(i, text)| (format!("data/{i}.{suffix}"), text.clone())).collect()
}

async fn context(files: &[(String, String)]) -> JobContext {
    with_files(files.iter().map(|(path, text)| (path.as_str(), text.clone()))).await
}

// --- inference -------------------------------------------------------------------------------------------------------

/// Each file is given as its values, with blanks between them.
#[rstest]
#[case::leading_zero_in_another_file(&["007", "12"], DataType::Utf8)]
#[case::sign(&["+1", "12"], DataType::Utf8)]
#[case::minus_zero(&["-0 12"], DataType::Utf8)]
#[case::exponent(&["1158E590003 12345"], DataType::Utf8)]
#[case::short_exponent(&["1E5", "2"], DataType::Utf8)]
#[case::too_large(&["1.0e400 2"], DataType::Utf8)]
#[case::integer_beside_fraction(&["9007199254740993 0.5"], DataType::Utf8)]
#[case::in_two_files(&["9007199254740993", "0.5"], DataType::Utf8)]
#[case::in_two_other_files(&["0.5", "1 9007199254740993"], DataType::Utf8)]
#[case::small_integers_beside_fractions(&["9007199254740992 0.5"], DataType::Float64)]
#[case::long_integers_alone(&["9007199254740993", "-1"], DataType::Int64)]
#[case::beyond_64_bits(&["123456789012345678901234567890 1"], DataType::Utf8)]
#[case::digits_of_a_fraction(&["0.1000000000000000055", "1"], DataType::Utf8)]
#[case::fractions(&["1.50 .5 5. -0.0 1.5E3 1e-7"], DataType::Float64)]
#[case::no_numbers(&["NaN inf -inf 1"], DataType::Float64)]
#[case::booleans(&["true", "FALSE"], DataType::Boolean)]
#[case::booleans_and_numbers(&["true 1"], DataType::Utf8)]
#[case::dates(&["2024-01-31", "1999-12-31"], DataType::Date32)]
#[case::numbers_like_dates(&["20240131 20231231"], DataType::Int64)]
#[case::too_fine(&["2024-01-31T10:00:00.1234567"], DataType::Utf8)]
#[case::leap_second(&["2016-12-31T23:59:60"], DataType::Utf8)]
#[tokio::test]
async fn no_sign_zero_exponent_or_digit_is_lost(#[case] files: &[&str], #[case] wanted: DataType) {
    let text = |values: &&str| format!("v\n{}\n", values.replace(' ', "\n"));
    let files: Vec<String> = files.iter().map(text).collect();
    let (found, values) = column(&context(&named(&files, "csv")).await, CsvFiles::new("a", AT)).await.unwrap();
    assert_eq!(found, wanted);
    let written: Vec<&str> = files.iter().flat_map(|text| text.lines().skip(1)).collect();
    for (value, written) in values.iter().zip(written) {
        assert!(is_same(&found, written, value.as_deref().unwrap()), "{written} became {value:?}");
    }
}

#[rstest]
#[case::beyond_64_bits("123456789012345678901234567890", DataType::Utf8, "123456789012345678901234567890")]
#[case::overflow("1e400", DataType::Utf8, "1e400")]
#[case::underflow("1e-400", DataType::Utf8, "1e-400")]
#[case::digits("0.1000000000000000055", DataType::Utf8, "0.1000000000000000055")]
#[case::fraction("1.0", DataType::Float64, "1.0")]
#[case::exponent("1E5", DataType::Float64, "100000.0")]
#[case::minus_zero("-0", DataType::Float64, "-0.0")]
#[case::long("9007199254740993", DataType::Int64, "9007199254740993")]
#[case::long_beside_float("9007199254740993,0.5", DataType::Utf8, "9007199254740993")]
#[case::int_beside_float("12,0.5", DataType::Float64, "12.0")]
#[case::exponent_beside_text("1E5,\"x\"", DataType::Utf8, "1E5")]
#[case::text("\"007\",12", DataType::Utf8, "007")]
#[tokio::test]
async fn numbers_of_json_keep_their_digits(#[case] values: &str, #[case] wanted: DataType, #[case] first: &str) {
    let rows: Vec<String> = values.split(',').map(|value| format!("{{\"v\":{value}}}\n")).collect();
    let lists = format!("{{\"v\":[{values}]}}");
    let deep =
        format!("[{}]", values.split(',').map(|v| format!("{{\"o\":[{{\"v\":{v}}}]}}")).collect::<Vec<_>>().join(","));
    let expected = Ok((wanted.clone(), Some(first.to_owned())));
    for files in [vec![rows.concat()], rows.clone(), vec![lists]] {
        let found = column(&context(&named(&files, "json")).await, JsonFiles::new("a", AT)).await;
        assert_eq!(found.map(|(found, values)| (found, values[0].clone())), expected, "{files:?}");
    }
    let shown = show(&context(&named(&[deep], "json")).await, JsonFiles::new("a", AT)).await;
    assert!(shown.contains(&format!("[{{v: {first}}}]")), "{shown}");
}

#[rstest]
#[tokio::test]
async fn objects_that_are_too_deep_are_refused(#[values(129, 200_000)] depth: usize) {
    let text = format!("{{\"v\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
    let ctx = with_files([("data/a.json", text)]).await;
    let error = show(&ctx, JsonFiles::new("a", AT)).await;
    assert_eq!(error, "refused: objects and lists are more than 128 deep (file: memory:/data/a.json, line: 1)");
}

#[rstest]
#[case(&["2024", "2025"], DataType::Int64)]
#[case(&["2024", "007"], DataType::Utf8)]
#[case(&["01", "02"], DataType::Utf8)]
#[case(&["-0", "1"], DataType::Utf8)]
#[case(&["+1", "1"], DataType::Utf8)]
#[case(&["1e5", "1"], DataType::Utf8)]
#[case(&["1.5", "2.5"], DataType::Utf8)]
#[case(&["true", "false"], DataType::Utf8)]
#[case(&["9223372036854775808", "1"], DataType::Utf8)]
#[case(&["9223372036854775807", "1"], DataType::Int64)]
#[case(&["2024-01-31", "2024-02-01"], DataType::Date32)]
#[case(&["2024-01-31", "2024-02-31"], DataType::Utf8)]
#[case(&["2024-01-31", "2024"], DataType::Utf8)]
#[case(&["%201", "2"], DataType::Utf8)]
#[tokio::test]
async fn names_of_folders_are_kept(#[case] folders: &[&str], #[case] wanted: DataType) {
    let files: Vec<(String, String)> =
        folders.iter().map(|v| (format!("data/v={v}/a.csv"), "x\n1\n".to_owned())).collect();
    let source = CsvFiles::new("a", AT).with_hive_partitions();
    let (found, mut values) = column(&context(&files).await, source).await.unwrap();
    assert_eq!(found, wanted);
    let mut written: Vec<Option<String>> = folders.iter().map(|v| Some(v.replace("%20", " "))).collect();
    values.sort();
    written.sort();
    assert_eq!(values, written);
}

/// A number without an exponent: its sign, the digits before the point without leading zeros, and those after it
/// without trailing zeros. Computed naively, by moving the point.
fn plain(text: &str) -> Option<(bool, String, String)> {
    let lower = text.to_ascii_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (negative, digits) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = whole.to_owned() + fraction;
    if all.is_empty() || !all.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
    for _ in 0..exponent.unsigned_abs() {
        if exponent < 0 {
            fraction.insert(0, whole.pop().unwrap_or('0'));
        } else {
            whole.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
        }
    }
    Some((negative, whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned()))
}

/// Whether `shown` is what was written in the file, up to the exceptions listed in the guide.
fn is_same(of: &DataType, written: &str, shown: &str) -> bool {
    let text = written.trim();
    match of {
        DataType::Utf8 => written == shown,
        DataType::Boolean => text.to_ascii_lowercase() == shown,
        DataType::Float64 => match plain(text) {
            Some(number) => plain(shown) == Some(number),
            None => text.replace("Infinity", "inf") == shown,
        },
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            moment(&format!("{}Z", at_midnight(text))) == moment(&format!("{shown}Z"))
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => moment(text) == moment(shown),
        _ => text == shown,
    }
}

fn at_midnight(text: &str) -> String {
    if text.len() == 10 { format!("{text}T00:00") } else { text.to_owned() }
}

/// As chrono parses it; the sources do not use chrono.
fn moment(text: &str) -> DateTime<chrono::FixedOffset> {
    let text = text.to_uppercase().replace(' ', "T").replace('Z', "+00:00");
    let at = text.rfind(['+', '-']).unwrap();
    let (time, offset) = text.split_at(at);
    let seconds = if time.len() == 16 { ":00" } else { "" };
    let minutes = if offset.len() == 3 { ":00" } else { "" };
    DateTime::parse_from_rfc3339(&format!("{time}{seconds}{offset}{minutes}")).unwrap()
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => any::<i8>().prop_map(|v| v.to_string()),
        2 => any::<i64>().prop_map(|v| v.to_string()),
        2 => any::<f64>().prop_map(|v| v.to_string()),
        2 => any::<f64>().prop_map(|v| format!("{v:e}")),
        2 => (any::<i32>(), 0..1000_u32).prop_map(|(v, f)| format!("{v}.{f:03}")),
        1 => "-?[0-9]{1,22}(\\.[0-9]{0,22})?([eE][+-]?[0-9]{1,3})?",
        1 => "[-+.eE0-9]{1,6}",
    ]
}

fn time() -> impl Strategy<Value = String> {
    let fraction = prop_oneof![Just(String::new()), "\\.[0-9]{1,7}", "\\.[0-9]{3}0000000"];
    let zone = prop_oneof![Just(""), Just("Z"), Just("+02:00"), Just("-05"), Just("z")];
    (0..60_u8, "[T ]", prop_oneof![Just(None), (0..62_u8, fraction).prop_map(Some)], zone).prop_map(
        |(minute, t, seconds, zone)| {
            let seconds = seconds.map_or(String::new(), |(second, fraction)| format!(":{second:02}{fraction}"));
            let zone = if seconds.is_empty() { "" } else { zone };
            format!("{t}1{}:{minute:02}{seconds}{zone}", minute % 10)
        },
    )
}

fn date() -> impl Strategy<Value = String> {
    (1900..2100_u32, 1..14_u32, 1..33_u32).prop_map(|(y, m, d)| format!("{y}-{m:02}-{d:02}"))
}

/// Texts that are likely to occur in one column.
fn texts() -> impl Strategy<Value = Vec<String>> {
    let word = || {
        prop::sample::select(vec!["true", "False", "TRUE", "NaN", "inf", "-inf", "Infinity", "nan", "x", "007", "-0"])
    };
    let some = 1..8_usize;
    prop_oneof![
        prop::collection::vec(number().boxed(), some.clone()),
        prop::collection::vec(any::<i64>().prop_map(|v| v.to_string()), some.clone()),
        prop::collection::vec(
            prop_oneof![5 => number().boxed(), 1 => word().prop_map(str::to_owned).boxed()],
            some.clone()
        ),
        prop::collection::vec(
            prop::sample::select(vec!["true", "False", "TRUE"]).prop_map(str::to_owned),
            some.clone()
        ),
        prop::collection::vec(
            prop_oneof![date().boxed(), (date(), time()).prop_map(|(d, t)| d + &t).boxed()],
            some.clone()
        ),
        prop::collection::vec((date(), time()).prop_map(|(d, t)| d + &t), some.clone()),
        prop::collection::vec(date(), some),
    ]
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// The texts, divided into files.
fn cut(texts: &[String], files: usize) -> Vec<Vec<String>> {
    texts.chunks(texts.len().div_ceil(files)).map(<[String]>::to_vec).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// For all texts of a column: its type depends neither on their order nor on their division into files, and each of
    /// them comes back.
    #[test]
    fn every_text_of_csv_comes_back(
        (texts, shuffled) in texts().prop_flat_map(|texts| (Just(texts.clone()), Just(texts).prop_shuffle())),
        (quoted, blanks) in (any::<bool>(), any::<bool>()),
        files in 1..4_usize,
    ) {
        let cell = |text: &String| {
            let text = if blanks { format!(" {text}") } else { text.clone() };
            if quoted { format!("\"{text}\"\n") } else { format!("{text}\n") }
        };
        let read = async |texts: &[String], files: usize| {
            let files: Vec<String> = cut(texts, files).iter().map(|t| "v\n".to_owned() + &t.iter().map(cell).collect::<String>()).collect();
            column(&context(&named(&files, "csv")).await, CsvFiles::new("a", AT)).await.unwrap()
        };
        run(async {
            let (of, values) = read(&texts, files).await;
            prop_assert_eq!(&of, &read(&shuffled, 1).await.0);
            prop_assert_eq!(values.len(), texts.len());
            for (text, value) in texts.iter().zip(values) {
                let text = if blanks { format!(" {text}") } else { text.clone() };
                let value = value.unwrap_or_default();
                prop_assert!(is_same(&of, &text, &value), "{:?} of {:?} became {:?}, a {}", text, texts, value, of);
            }
            Ok(())
        })?;
    }

    #[test]
    fn every_number_of_json_comes_back(
        (texts, shuffled) in prop::collection::vec(number(), 1..8).prop_flat_map(|texts| (Just(texts.clone()), Just(texts).prop_shuffle())),
        files in 1..4_usize,
        in_lists in any::<bool>(),
    ) {
        // Anything that is not a JSON number is a text.
        let value = |text: &String| match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(_) => text.clone(),
            Err(_) => serde_json::to_string(text).unwrap(),
        };
        let read = async |texts: &[String], files: usize| {
            let rows = |texts: Vec<String>| match in_lists {
                true => format!("{{\"v\":[{}]}}", texts.iter().map(value).collect::<Vec<_>>().join(",")),
                false => texts.iter().map(|text| format!("{{\"v\":{}}}\n", value(text))).collect(),
            };
            let files: Vec<String> = cut(texts, files).into_iter().map(rows).collect();
            column(&context(&named(&files, "json")).await, JsonFiles::new("a", AT)).await.unwrap()
        };
        run(async {
            let (of, values) = read(&texts, files).await;
            prop_assert_eq!(&of, &read(&shuffled, 1).await.0);
            for (text, value) in texts.iter().zip(values) {
                let value = value.unwrap_or_default();
                prop_assert!(is_same(&of, text, &value), "{} of {:?} became {}, a {}", text, texts, value, of);
            }
            Ok(())
        })?;
    }
}

// --- declared types --------------------------------------------------------------------------------------------------

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// The value of a text as a declared type, in every format with texts, and at every depth.
#[rstest]
#[case("1987", DataType::Date32, None)]
#[case("870314", DataType::Date32, None)]
#[case("198703", DataType::Date32, None)]
#[case("20240131", DataType::Date32, None)]
#[case("1987-03-14", DataType::Date32, Some("1987-03-14"))]
#[case("1700000000", TIMESTAMP, None)]
#[case("1700000000000", TIMESTAMP, None)]
#[case("20240131", TIMESTAMP, None)]
#[case("2024-01-31T10:00:00.1234567", TIMESTAMP, None)]
#[case("2016-12-31T23:59:60Z", TIMESTAMP, None)]
#[case("1.239", DataType::Decimal128(9, 2), None)]
#[case("1.239e0", DataType::Decimal128(9, 2), None)]
#[case("1.5e-3", DataType::Decimal128(9, 2), None)]
#[case("1.5e-1", DataType::Decimal128(9, 2), Some("0.15"))]
#[case("e5", DataType::Decimal128(9, 2), None)]
#[case("1e65538", DataType::Decimal128(9, 2), None)]
#[case("1.000000000000000000000000000000000000000000e0", DataType::Decimal128(9, 2), Some("1.00"))]
#[case("1e400", DataType::Float64, None)]
#[case("1e-400", DataType::Float64, None)]
#[case("1e39", DataType::Float32, None)]
#[case("9007199254740993", DataType::Float64, None)]
#[case("-0", DataType::Float64, Some("-0.0"))]
#[case("0.1000000000000000055", DataType::Float64, Some("0.1"))]
#[case("9007199254740993.0", DataType::Int64, Some("9007199254740993"))]
#[case("1e3", DataType::Int64, Some("1000"))]
#[case("10:30:00.5", DataType::Time64(TimeUnit::Microsecond), Some("10:30:00.500"))]
#[case("37800", DataType::Time64(TimeUnit::Microsecond), None)]
#[tokio::test]
async fn a_declared_type_takes_exactly_what_is_written(
    #[case] text: &str,
    #[case] of: DataType,
    #[case] value: Option<&str>,
) {
    let quoted = format!("\"{text}\"");
    let csv = [format!("v\n{text}\n"), format!("v\n{quoted}\n")];
    let number = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
    let json: Vec<String> =
        [text, &quoted].into_iter().skip(usize::from(!number)).map(|v| format!("{{\"v\":{v}}}")).collect();
    let list: Vec<String> =
        [text, &quoted].into_iter().skip(usize::from(!number)).map(|v| format!("{{\"v\":[{v}]}}")).collect();
    let (one, many) = (schema(&[("v", of.clone())]), schema(&[("v", DataType::new_list(of.clone(), true))]));
    let mut found = Vec::new();
    for text in csv {
        found.push(
            column(&context(&named(&[text], "csv")).await, CsvFiles::new("a", AT).with_schema(one.clone())).await,
        );
    }
    for (texts, schema) in [(json, &one), (list, &many)] {
        for text in texts {
            found.push(
                column(&context(&named(&[text], "json")).await, JsonFiles::new("a", AT).with_schema(schema.clone()))
                    .await,
            );
        }
    }
    let stored = RecordBatch::try_from_iter([("v", Arc::new(StringArray::from(vec![text])) as ArrayRef)]).unwrap();
    let ctx = with_files([("data/a.parquet", parquet(&stored))]).await;
    found.push(column(&ctx, ParquetFiles::new("a", AT).with_schema(one.clone())).await);
    let folder = [(format!("data/v={}/a.csv", text.replace(':', "%3A")), "x\n1\n".to_owned())];
    let partitioned =
        CsvFiles::new("a", AT).with_schema(schema(&[("x", DataType::Int64), ("v", of.clone())])).with_hive_partitions();
    found.push(column(&context(&folder).await, partitioned).await);
    for found in found {
        match (found, value) {
            (Ok((_, values)), Some(value)) => assert_eq!(values, [Some(value.to_owned())]),
            (Err(error), None) => {
                assert!(error.contains(text) && error.contains("column: v") && error.contains("data/"), "{error}")
            }
            (found, value) => panic!("{text} as {of} is {found:?} and not {value:?}"),
        }
    }
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn a_number_in_a_date_column_has_a_hint() {
    let dates = schema(&[("v", DataType::Date32), ("t", TIMESTAMP)]);
    let json = with_files([("data/a.json", "{\"v\":\"2024-01-31\"}\n{\"v\":19000}\n")]).await;
    insta::assert_snapshot!(show(&json, JsonFiles::new("a", AT).with_schema(dates.clone())).await, @"refused: `19000` is not a Date32; the unit of a number is unknown, so declare an int and convert it, for example with a cast to date (file: memory:/data/a.json, line: 2, column: v, value: 19000)");
    let csv = with_files([("data/a.csv", "t,v\n1700000000,\n")]).await;
    insta::assert_snapshot!(show(&csv, CsvFiles::new("a", AT).with_schema(dates)).await, @r#"refused: `1700000000` is not a Timestamp(µs); the unit of a number is unknown, so declare a bigint and convert it, for example with to_timestamp_millis (file: memory:/data/a.csv, line: 2, column: t, value: "1700000000")"#);
}
