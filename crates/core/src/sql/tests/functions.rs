//! Laws of all functions of a session, with up to three arguments: what they return depends neither on how many rows a batch
//! has nor on whether a value is a constant or in a column.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use datafusion::arrow::array::{BinaryArray, BooleanArray, Date32Array, Decimal128Array, IntervalMonthDayNanoArray};
use datafusion::arrow::compute::{cast, concat};
use datafusion::arrow::datatypes::{FieldRef, IntervalMonthDayNano};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, Volatility};

use super::*;

const ROWS: usize = 3;

/// A column of each kind of type that arguments have.
fn columns() -> Vec<ArrayRef> {
    let moments = TimestampMicrosecondArray::from(vec![Some(0), None, Some(1_700_000_000_000_000)]);
    let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), Some(2), Some(1)]),
        None,
        Some(vec![]),
    ]));
    vec![
        Arc::new(StringArray::from(vec![Some("a"), None, Some("2")])),
        Arc::new(StringArray::from(vec![Some("%Y"), Some("%m-%d"), Some("%d")])),
        Arc::new(Int64Array::from(vec![Some(1), None, Some(2)])),
        Arc::new(Float64Array::from(vec![Some(0.5), None, Some(2.0)])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
        Arc::new(Date32Array::from(vec![Some(0), None, Some(20_000)])),
        Arc::new(moments),
        Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(0, 1, 0); ROWS])),
        Arc::new(BinaryArray::from(vec![Some(&b"ab"[..]), None, Some(&b""[..])])),
        Arc::new(Decimal128Array::from(vec![Some(15), None, Some(20)]).with_precision_and_scale(10, 1).unwrap()),
        lists,
    ]
}

/// The columns as a function takes them, or nothing if it does not.
fn taken(function: &ScalarUDF, given: &[ArrayRef]) -> Option<Vec<ArrayRef>> {
    let fields: Vec<FieldRef> = given.iter().map(|c| Arc::new(Field::new("c", c.data_type().clone(), true))).collect();
    let fields = catch_unwind(AssertUnwindSafe(|| fields_with_udf(&fields, function))).ok()?.ok()?;
    given.iter().zip(fields).map(|(column, field)| cast(column, field.data_type()).ok()).collect()
}

enum Failed {
    Error,
    Panic,
}

/// What a function returns for each row. Columns of which `constant` has the bit are given as the value of their first row.
fn returned(function: &ScalarUDF, columns: &[ArrayRef], rows: usize, constant: u32) -> Result<ArrayRef, Failed> {
    let call = || {
        let is_constant = |i: usize| constant & (1 << i) != 0;
        let mut args = Vec::new();
        for (i, column) in columns.iter().enumerate() {
            args.push(match is_constant(i) {
                true => ColumnarValue::Scalar(ScalarValue::try_from_array(column, 0)?),
                false => ColumnarValue::Array(column.slice(0, rows)),
            });
        }
        let fields: Vec<FieldRef> =
            columns.iter().map(|c| Arc::new(Field::new("c", c.data_type().clone(), true))).collect();
        let scalars: Vec<Option<&ScalarValue>> = args
            .iter()
            .map(|a| match a {
                ColumnarValue::Scalar(value) => Some(value),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let return_field =
            function.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &scalars })?;
        let config_options = Arc::new(ConfigOptions::new());
        let args = ScalarFunctionArgs { args, arg_fields: fields, number_rows: rows, return_field, config_options };
        match function.invoke_with_args(args)? {
            // As DataFusion takes it: one row out of constants is a constant.
            ColumnarValue::Array(array) if array.len() == 1 && constant.count_ones() as usize == columns.len() => {
                ScalarValue::try_from_array(&array, 0)?.to_array_of_size(rows)
            }
            value => value.into_array(rows),
        }
    };
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(returned) => returned.map_err(|_| Failed::Error),
        Err(_) => Err(Failed::Panic),
    }
}

/// The first value in all rows.
fn first(column: &ArrayRef) -> ArrayRef {
    let first = column.slice(0, 1);
    concat(&[&*first; ROWS]).unwrap()
}

/// The calls for which a function does not keep the laws, and how many were made.
fn wrong(function: &ScalarUDF) -> (Vec<String>, usize) {
    let columns = columns();
    let mut given: Vec<Vec<ArrayRef>> = vec![vec![]];
    let mut longest = 0..1;
    for _ in 0..3 {
        for i in longest.clone() {
            given.extend(columns.iter().map(|c| [given[i].as_slice(), &[Arc::clone(c)]].concat()).collect::<Vec<_>>());
        }
        longest = longest.end..given.len();
    }
    let (text, number) = (&columns[0], &columns[2]);
    given.push([text, text, number, text].map(Arc::clone).to_vec());
    given.push([text, text, text, text].map(Arc::clone).to_vec());

    let mut wrong = Vec::new();
    let mut calls = 0;
    let mut seen = HashSet::new();
    for given in &given {
        let Some(taken) = taken(function, given) else { continue };
        let types: Vec<String> = taken.iter().map(|c| c.data_type().to_string()).collect();
        let formats: Vec<bool> = given.iter().map(|c| Arc::ptr_eq(c, &columns[1])).collect();
        if !seen.insert((types.clone(), formats)) {
            continue;
        }
        for constant in 0..1 << taken.len() {
            calls += 1;
            let mut is_wrong = |what: &str| {
                let place = |i: usize| if constant & (1 << i) != 0 { "constant " } else { "" };
                let types = types.iter().enumerate().map(|(i, t)| format!("{}{t}", place(i))).collect::<Vec<_>>();
                wrong.push(format!("{}({}): {what}", function.name(), types.join(", ")));
            };
            let only_constants = constant + 1 == 1 << taken.len();
            // Those are computed when a statement is planned, in a row.
            if !only_constants {
                match returned(function, &taken, 0, constant) {
                    Ok(array) if !array.is_empty() => is_wrong("rows out of none"),
                    Err(Failed::Panic) => is_wrong("a panic without rows"),
                    Ok(_) | Err(Failed::Error) => {}
                }
            }
            let repeated =
                taken.iter().enumerate().map(|(i, c)| if constant & (1 << i) != 0 { first(c) } else { Arc::clone(c) });
            let as_columns = returned(function, &repeated.collect::<Vec<_>>(), ROWS, 0);
            match (returned(function, &taken, ROWS, constant), as_columns) {
                // What constants say can decide the type, as in `arrow_cast`.
                (Ok(some), Ok(expected)) if some.data_type() != expected.data_type() => {}
                (Ok(some), Ok(expected)) if format!("{some:?}") != format!("{expected:?}") => {
                    is_wrong("something else than for a column");
                }
                (Err(Failed::Panic), _) | (_, Err(Failed::Panic)) => is_wrong("a panic"),
                // Some functions take an argument as a constant only.
                _ => {}
            }
        }
    }
    (wrong, calls)
}

fn functions(session: &SessionContext) -> Vec<Arc<ScalarUDF>> {
    let mut functions: Vec<Arc<ScalarUDF>> = session.state_ref().read().scalar_functions().values().cloned().collect();
    functions.sort_by(|a, b| a.name().cmp(b.name()));
    functions.dedup_by(|a, b| a.name() == b.name());
    functions.retain(|f| f.signature().volatility == Volatility::Immutable);
    functions
}

#[test]
fn functions_return_the_same_for_constants_and_without_rows() {
    let (wrong, calls): (Vec<_>, Vec<_>) = functions(&new_session()).iter().map(|f| wrong(f)).unzip();
    assert_eq!(wrong.concat(), [""; 0]);
    let calls: usize = calls.iter().sum();
    assert!(calls > 100_000, "{calls} calls");
}

/// Once DataFusion keeps the laws, the replacement can go.
#[rstest]
#[case("to_char(constant Timestamp(µs), Utf8): something else than for a column")]
#[case("to_char(constant Timestamp(µs), Utf8): a panic without rows")]
fn to_char_of_datafusion_does_not(#[case] expected: &str) {
    let function = SessionContext::new().udf("to_char").unwrap();
    let (wrong, _) = wrong(&function);
    assert!(wrong.iter().any(|w| w == expected), "{wrong:#?}");
}

#[tokio::test]
async fn one_moment_is_formatted_by_the_format_of_each_row() {
    let sql = "select to_char(date '2024-02-29', f) as a from (values ('%Y'), ('%m'), ('%d')) as t(f) order by 1";
    assert_eq!(shown(&rows(&new_session(), sql).await), ["02", "2024", "29"]);
}
