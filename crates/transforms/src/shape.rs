//! Transforms that change columns and keep all rows.

use std::collections::HashSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::functions::datetime::expr_fn::date_part;
use datafusion::logical_expr::{Cast, lit};
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::cast;
use crate::columns::{Columns, Found, type_name};

/// Renames columns, by pairs of (from, to). All renames happen at once, so two columns can swap names.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::rename;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let books = dataframe!("Title" => ["Emma"], "Author.Name" => ["Jane Austen"])?;
/// let books = rename(books, &[("Title", "title"), ("Author.Name", "author_name")])?;
/// assert_eq!(books.schema().field_names(), ["title", "author_name"]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a column that is missing or renamed twice, or a name that two columns
/// would have.
pub fn rename(df: DataFrame, names: &[(&str, &str)]) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    for (i, (from, _)) in names.iter().enumerate() {
        columns.get(from)?;
        if names[..i].iter().any(|(other, _)| other == from) {
            return Err(Error::usage(format!("`{from}` is renamed twice")));
        }
    }
    let mut seen = HashSet::new();
    let renamed = |column: &Found| {
        let old = column.field.name();
        let new = names.iter().find(|(from, _)| from == old).map(|(_, to)| *to);
        if !seen.insert(new.unwrap_or(old).to_owned()) {
            return Err(Error::usage(format!("two columns would be named `{}`", new.unwrap_or(old))));
        }
        Ok(new.map_or_else(|| column.expr.clone(), |new| column.expr.clone().alias(new)))
    };
    let exprs: Vec<Expr> = columns.iter().map(renamed).collect::<Result<_>>()?;
    Ok(df.select(exprs)?)
}

/// Drops columns. DataFusion's `DataFrame::drop_columns` ignores a name that no column has, so a column that must not
/// leave the job stays if its name is misspelt.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::drop_columns;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let orders = dataframe!("id" => [1], "status" => ["new"], "card" => ["4111"])?;
/// let error = drop_columns(orders.clone(), &["statuss"]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "there is no column `statuss`; did you mean `status`? (columns: id, status, card)"
/// );
/// let left = drop_columns(orders, &["status", "card"])?;
/// assert_eq!(left.schema().field(0).name(), "id");
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a missing column, or if none would be left.
pub fn drop_columns(df: DataFrame, names: &[&str]) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    for name in names {
        columns.get(name)?;
    }
    let kept = |column: &&Found| !names.contains(&column.field.name().as_str());
    let kept: Vec<Expr> = columns.iter().filter(kept).map(|column| column.expr.clone()).collect();
    if kept.is_empty() {
        return Err(Error::usage("no column would be left").with("columns", columns.names().join(", ")));
    }
    Ok(df.select(kept)?)
}

/// Replaces nulls by a value, in the named columns or, if none is named, in all. DataFusion's `DataFrame::fill_null`
/// skips a column if the value has another type; here that is an error.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::fill_nulls;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let orders = dataframe!("id" => [1, 2], "pieces" => [Some(3), None])?;
/// let orders = fill_nulls(orders, &["pieces"], 0)?;
/// assert_eq!(orders.filter(col("pieces").eq(lit(0)))?.count().await?, 1);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a missing column; [`Refused`](hardtack_core::ErrorKind::Refused) for
/// one whose type the value does not fit without loss.
pub fn fill_nulls(df: DataFrame, columns: &[&str], value: impl Into<ScalarValue>) -> Result<DataFrame> {
    let (all, value) = (Columns::of(df.schema())?, value.into());
    let named: Vec<&str> = all.all_or(columns)?.into_iter().map(|column| column.field.name().as_str()).collect();
    let filled = |column: &Found| {
        let name = column.field.name();
        if !named.contains(&name.as_str()) {
            return Ok(column.expr.clone());
        }
        let of = column.field.data_type();
        cast::can_fit(&value.data_type(), of, name)?;
        let fitted = cast::fit_value(&value, of, name)?;
        Ok(coalesce(vec![column.expr.clone(), lit(fitted)]).alias(name))
    };
    let exprs: Vec<Expr> = all.iter().map(filled).collect::<Result<_>>()?;
    Ok(df.select(exprs)?)
}

/// Appends the columns `year`, `month` and `day` (32-bit integers) of a date or timestamp, for example as partition
/// columns. A timestamp is split in UTC, whatever its zone. Null gives nulls.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::split_date;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let sales = SessionContext::new().sql("select date '2024-02-29' as sold").await?;
/// let sales = split_date(sales, "sold")?;
/// assert_eq!(sales.schema().field_names(), ["sold", "year", "month", "day"]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if the column is missing or is neither date nor timestamp, or if there
/// already is a `year`, `month` or `day`.
pub fn split_date(df: DataFrame, column: &str) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    let Found { expr, field } = columns.get(column)?.clone();
    let date = match field.data_type() {
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, None) => expr,
        DataType::Timestamp(unit, Some(_)) => {
            Expr::Cast(Cast::new(Box::new(expr), DataType::Timestamp(*unit, Some("+00:00".into()))))
        }
        other => {
            return Err(Error::usage("only a date or a timestamp can be split; cast it first")
                .with("column", column)
                .with("type", type_name(other)));
        }
    };
    let mut exprs: Vec<Expr> = columns.iter().map(|c| c.expr.clone()).collect();
    for part in ["year", "month", "day"] {
        if columns.find(part).is_some() {
            return Err(Error::usage(format!("there is a column `{part}` already; rename it first")));
        }
        exprs.push(date_part(lit(part), date.clone()).alias(part));
    }
    Ok(df.select(exprs)?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, Datelike};
    use datafusion::arrow::array::{ArrayRef, AsArray, Date32Array, RecordBatch, TimestampMicrosecondArray};
    use datafusion::arrow::datatypes::Int32Type;
    use datafusion::prelude::SessionContext;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::{frame, run, show};

    #[tokio::test]
    async fn names_swap_and_dots_are_fine() {
        let df = frame("a: int, b: int, `c.d`: int", &[r#"{"a":1,"b":2,"c.d":3}"#]);
        let df = rename(df, &[("a", "b"), ("b", "a"), ("c.d", r#"x."y""#)]).unwrap();
        insta::assert_snapshot!(show(df).await, @r#"
        b int | a int | x."y" int
        1     | 2     | 3
        "#);
    }

    #[tokio::test]
    async fn columns_go_and_others_stay() {
        let df = frame("a: int, `b.c`: int, B: int", &[r#"{"a":1,"b.c":2,"B":3}"#]);
        insta::assert_snapshot!(show(drop_columns(df, &["b.c", "a"]).unwrap()).await, @r"
        B int
        3
        ");
    }

    #[rstest]
    #[case(&["b.d"], "there is no column `b.d`; did you mean `b.c`? (columns: a, b.c)")]
    #[case(&["A"], "there is no column `A`; did you mean `a`? (columns: a, b.c)")]
    #[case(&["a", "b.c"], "no column would be left (columns: a, b.c)")]
    fn columns_that_go_are_there(#[case] names: &[&str], #[case] message: &str) {
        assert_eq!(drop_columns(frame("a: int, `b.c`: int", &[]), names).unwrap_err().to_string(), message);
    }

    #[tokio::test]
    async fn nulls_are_filled_where_that_is_asked_for() {
        let df = frame("a: int, b: decimal(4,1), c: int", &["{}", r#"{"a":1,"b":2.5}"#]);
        insta::assert_snapshot!(show(fill_nulls(df, &["a", "b"], 7_i64).unwrap()).await, @r"
        a int not null | b decimal(4,1) not null | c int
        1              | 2.5                     | null
        7              | 7.0                     | null
        ");
    }

    #[rstest]
    #[case(&["x"], ScalarValue::from(1), "there is no column `x` (columns: a, b)")]
    #[case(&["a"], ScalarValue::from("one"), "a value does not fit the declared type without loss (column: a, value: one, type: string, declared: int)")]
    #[case(&["a"], ScalarValue::from(1.5), "a value does not fit the declared type without loss (column: a, value: 1.5, type: double, declared: int)")]
    #[case(&[], ScalarValue::from(1), "a column cannot become the declared type; state how it counts days (column: b, type: int, declared: date)")]
    fn what_is_filled_in_fits(#[case] columns: &[&str], #[case] value: ScalarValue, #[case] message: &str) {
        assert_eq!(fill_nulls(frame("a: int, b: date", &[]), columns, value).unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case(&[("x", "y")], "there is no column `x` (columns: a, b)")]
    #[case(&[("a", "b")], "two columns would be named `b`")]
    #[case(&[("a", "c"), ("b", "c")], "two columns would be named `c`")]
    #[case(&[("a", "c"), ("a", "d")], "`a` is renamed twice")]
    fn names_stay_unique(#[case] names: &[(&str, &str)], #[case] message: &str) {
        assert_eq!(rename(frame("a: int, b: int", &[]), names).unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case("timestamp", "2023-12-31T23:59:59.999999")]
    #[case("timestamp with local time zone", "2024-01-01T01:59:59.999+02:00")]
    #[case("date", "2023-12-31")]
    #[tokio::test]
    async fn dates_are_split_in_utc(#[case] data_type: &str, #[case] value: &str) {
        let df = frame(&format!("at: {data_type}"), &[&format!(r#"{{"at":"{value}"}}"#), r#"{"at":null}"#]);
        let df = split_date(df, "at").unwrap().select_columns(&["year", "month", "day"]).unwrap();
        let shown = show(df).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(shown, @r"
            year int | month int | day int
            2023     | 12        | 31
            null     | null      | null
            ");
        }
    }

    #[tokio::test]
    async fn a_zone_does_not_move_the_day() {
        let sql = "select arrow_cast('2023-12-31T23:30:00Z', 'Timestamp(Nanosecond, Some(\"Europe/Berlin\"))') as at,
            arrow_cast(date '1969-12-31', 'Date64') as d";
        let df = datafusion::prelude::SessionContext::new().sql(sql).await.unwrap();
        let day = split_date(df.clone(), "at").unwrap().select_columns(&["day"]).unwrap();
        assert_eq!(show(day).await.lines().last(), Some("31"));
        let year = split_date(df, "d").unwrap().select_columns(&["year"]).unwrap();
        assert_eq!(show(year).await.lines().last(), Some("1969"));
    }

    #[rstest]
    #[case("at: string", "only a date or a timestamp can be split; cast it first (column: at, type: string)")]
    #[case("at: date, month: int", "there is a column `month` already; rename it first")]
    #[case("on: date", "there is no column `at` (columns: on)")]
    fn only_dates_are_split(#[case] columns: &str, #[case] message: &str) {
        assert_eq!(split_date(frame(columns, &[]), "at").unwrap_err().to_string(), message);
    }

    /// Seconds from year -9999 to 9999, the years that have four digits.
    const SECONDS: std::ops::RangeInclusive<i64> = -377_705_116_800..=253_402_300_799;

    /// Year, month and day of the column `at`.
    async fn split(at: ArrayRef) -> Vec<[i32; 3]> {
        let batch = RecordBatch::try_from_iter([("at", at)]).unwrap();
        let df = split_date(SessionContext::new().read_batch(batch).unwrap(), "at").unwrap();
        let batch = df.collect().await.unwrap().remove(0);
        let parts: Vec<_> = ["year", "month", "day"]
            .map(|part| batch.column_by_name(part).unwrap().as_primitive::<Int32Type>().clone())
            .into();
        (0..batch.num_rows()).map(|row| [0, 1, 2].map(|i| parts[i].value(row))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Renaming and renaming back changes nothing.
        #[test]
        fn names_come_back(
            new in prop::sample::subsequence(vec!["b", "c.d", "e", "Ä \"x\"", "`y`", "a"], 3).prop_shuffle(),
        ) {
            let rows = [r#"{"a":1,"b":"x","c.d":0.5}"#, r#"{"b":"y"}"#];
            let df = frame("a: int, b: string not null, `c.d`: double", &rows);
            let there: Vec<_> = ["a", "b", "c.d"].into_iter().zip(new.iter().copied()).collect();
            let back: Vec<_> = there.iter().map(|(old, new)| (*new, *old)).collect();
            run(async {
                let renamed = rename(df.clone(), &there).unwrap();
                prop_assert_eq!(renamed.schema().field_names(), new);
                let again = rename(renamed, &back).unwrap();
                prop_assert_eq!(again.schema().as_arrow(), df.schema().as_arrow());
                prop_assert_eq!(show(again).await, show(df).await);
                Ok(())
            })?;
        }

        /// Dates and timestamps are split as chrono splits them in UTC, before 1970 and before the year 1 too.
        #[test]
        fn dates_are_split_as_in_the_calendar(
            times in prop::collection::vec((SECONDS, 0..1_000_000i64), 1..64),
            zone in prop::option::of(prop::sample::select(vec!["+00:00", "-11:30", "+14:00"])),
        ) {
            let calendar: Vec<_> = times.iter().map(|(seconds, _)| {
                let day = DateTime::from_timestamp(*seconds, 0).unwrap().date_naive();
                [day.year(), i32::try_from(day.month()).unwrap(), i32::try_from(day.day()).unwrap()]
            }).collect();
            let micros = times.iter().map(|(seconds, micros)| seconds * 1_000_000 + micros);
            let days = times.iter().map(|(seconds, _)| i32::try_from(seconds.div_euclid(86_400)).unwrap());
            run(async {
                let at = TimestampMicrosecondArray::from_iter_values(micros).with_timezone_opt(zone);
                prop_assert_eq!(&split(Arc::new(at)).await, &calendar);
                prop_assert_eq!(&split(Arc::new(Date32Array::from_iter_values(days))).await, &calendar);
                Ok(())
            })?;
        }
    }
}
