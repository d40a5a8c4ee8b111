//! Transforms that change columns and leave rows alone.

use std::collections::HashSet;

use datafusion::arrow::datatypes::DataType;
use datafusion::functions::datetime::expr_fn::date_part;
use datafusion::logical_expr::{Cast, lit};
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::columns::{Columns, Found, type_name};

/// Gives columns other names: pairs of (from, to). All happen at once, so two columns can swap names.
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
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a column that is not there or is renamed twice, or a name that two
/// columns would have.
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

/// Adds the columns `year`, `month` and `day` (32 bit integers) of a date or timestamp, behind all others; as partition
/// columns, say. A timestamp is split in UTC, whatever zone it is shown in. Null gives nulls.
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
/// [`Usage`](hardtack_core::ErrorKind::Usage) if the column is not there or is neither date nor timestamp, or if a
/// `year`, `month` or `day` is there already.
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
    use rstest::rstest;

    use super::*;
    use crate::testing::{frame, show};

    #[tokio::test]
    async fn names_swap_and_dots_are_fine() {
        let df = frame("a: int, b: int, `c.d`: int", &[r#"{"a":1,"b":2,"c.d":3}"#]);
        let df = rename(df, &[("a", "b"), ("b", "a"), ("c.d", r#"x."y""#)]).unwrap();
        insta::assert_snapshot!(show(df).await, @r#"
        b int | a int | x."y" int
        1     | 2     | 3
        "#);
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
}
