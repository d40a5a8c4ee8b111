//! Coercing rows to a contract.

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::lit;
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::cast::{self, Fields, Problem};
use crate::columns::{Columns, nearest};

/// What [`coerce_to_schema_with`] does about declared columns and struct fields that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// Refuses, even where null is allowed: a missing column is more often misspelt than meant to be null.
    #[default]
    Refuse,
    /// Fills them with null where null is allowed. For formats that leave out unknown values, such as JSON.
    FillWithNull,
}

/// Makes rows fit a schema: its columns, in its order, with its types and no others. A value that does not fit is
/// refused, never rounded, truncated or replaced by null.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_catalog::schema;
/// # use hardtack_transforms::coerce_to_schema;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let schema = schema! { title: string not null, price: decimal(5, 2), printed: date };
/// let books = dataframe!("printed" => ["1815-12-23"], "price" => [9.5], "title" => ["Emma"], "isbn" => [1])?;
/// let books = coerce_to_schema(books, &schema)?;
/// assert_eq!(books.schema().as_arrow(), schema.as_ref());
///
/// let books = dataframe!("title" => ["Emma"], "price" => [9.999], "printed" => ["1815-12-23"])?;
/// let error = hardtack_core::Error::from(coerce_to_schema(books, &schema)?.collect().await.unwrap_err());
/// assert_eq!(
///     error.to_string(),
///     "a value does not fit the declared type without loss \
///      (column: price, value: 9.999, type: double, declared: decimal(5,2))"
/// );
/// # Ok(()) }
/// ```
///
/// | from | to | refused |
/// | --- | --- | --- |
/// | integer | integer, decimal, float | overflow; integers beyond the exact range of a float (2^53 for `double`) |
/// | integer | boolean | all but 0 and 1 |
/// | float | integer, decimal | a fraction or digits that would be lost, overflow, NaN, infinity |
/// | `double` | `float` | overflow (floats are approximations: rounding is no loss) |
/// | decimal | integer, decimal, float | digits that would be lost, overflow |
/// | text | number, boolean, date, time, timestamp | texts that do not [mean exactly such a value](hardtack_core::text) (also "", " 1"), and as below |
/// | text | integer | a fraction, overflow; `3.0` and `1e3` are integers |
/// | text | decimal | more digits than declared; `1.50` is a `decimal(2,1)` |
/// | text | float | overflow, also to zero; whole numbers with more digits than the float keeps |
/// | text | `date` | numbers; a time of day other than midnight UTC |
/// | text | `timestamp` | numbers; fractions finer than microseconds; leap seconds |
/// | text, anything | `char(n)`, `varchar(n)` | more than n characters |
/// | number, boolean, date, time, timestamp | text | nothing |
/// | binary | text | invalid UTF-8 |
/// | date | timestamp | nothing (midnight UTC) |
/// | timestamp | date | a time of day other than midnight UTC |
/// | timestamp | timestamp | fractions that the unit does not hold, overflow; without zone means UTC |
/// | number | date, timestamp, and back | always: the unit is not known |
/// | struct, list, map | the same | as for their fields (by name), elements, keys and values |
/// | nested | scalar, and back | always |
/// | null | `not null` | always; in fields of structs, elements and values too |
///
/// Spark's ANSI mode is laxer: it truncates fractions, rounds decimals and drops the time of day.
///
/// Columns whose type fits already, or whose every value must fit, cost nothing: they are taken unchanged or by a plain
/// cast. The others go through a function that checks a batch at a time. Like all expressions it is evaluated on
/// demand: a column that is dropped later, or a row that a later filter drops, is not checked.
///
/// The result has exactly the declared names and types. A column that is known to contain no nulls stays `not null`
/// even if the schema allows them. Of the metadata, only the lengths of texts are guaranteed to survive; comments are
/// in the schema.
///
/// # Errors
/// [`Refused`](hardtack_core::ErrorKind::Refused): at once with all missing columns, or with a column that can never
/// have the declared type; during execution with the column and the value that does not fit.
/// [`Usage`](hardtack_core::ErrorKind::Usage) if two columns of the frame have one name.
pub fn coerce_to_schema(df: DataFrame, schema: &Schema) -> Result<DataFrame> {
    coerce_to_schema_with(df, schema, Missing::Refuse)
}

/// Like [`coerce_to_schema`], with a choice for missing columns.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_catalog::schema;
/// # use hardtack_transforms::{Missing, coerce_to_schema_with};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let schema = schema! { title: string not null, subtitle: string };
/// let books = dataframe!("title" => ["Emma"])?;
/// let books = coerce_to_schema_with(books, &schema, Missing::FillWithNull)?;
/// assert_eq!(books.schema().field_names(), ["title", "subtitle"]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As for [`coerce_to_schema`].
pub fn coerce_to_schema_with(df: DataFrame, schema: &Schema, missing: Missing) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    let fields = Fields { fill_missing: missing == Missing::FillWithNull, drop_undeclared: true };
    let (mut exprs, mut problems) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        match coerced(&columns, field, fields) {
            Ok(expr) => exprs.push(expr),
            Err(found) => problems.extend(found),
        }
    }
    if !problems.is_empty() {
        return Err(refusal(problems, &columns));
    }
    let unchanged = columns.iter().map(|c| &c.expr).eq(exprs.iter());
    if unchanged { Ok(df) } else { Ok(df.select(exprs)?) }
}

fn coerced(columns: &Columns, field: &Field, fields: Fields) -> Result<Expr, Vec<Problem>> {
    let missing = || vec![Problem::Missing(field.name().clone())];
    match columns.find(field.name()) {
        Some(column) => {
            let expr = cast::fit(column, field, field.name(), fields)?;
            Ok(cast::named(expr, field.name()))
        }
        None if fields.fill_missing && field.is_nullable() => {
            let null = ScalarValue::try_new_null(field.data_type()).map_err(|_| missing())?;
            Ok(cast::named(lit(null), field.name()))
        }
        None => Err(missing()),
    }
}

/// One error for all missing columns, or else the first other problem.
fn refusal(mut problems: Vec<Problem>, columns: &Columns) -> Error {
    let names = columns.names();
    let missing: Vec<String> = problems
        .iter()
        .filter_map(|problem| match problem {
            Problem::Missing(path) => Some(match nearest(path, &names) {
                Some(name) if !path.contains('.') => format!("{path} (or is it `{name}`?)"),
                _ => path.clone(),
            }),
            _ => None,
        })
        .collect();
    if missing.is_empty() {
        return problems.swap_remove(0).into_error();
    }
    Error::refused("declared columns are missing").with("missing", missing.join(", ")).with("columns", names.join(", "))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::DataType;
    use hardtack_catalog::schema;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::{failure, frame, run, show};

    #[tokio::test]
    async fn columns_are_picked_ordered_and_cast() {
        let df = frame("extra: int, n: bigint, `d.t`: string", &[r#"{"extra":1,"n":2,"d.t":"2024-01-01"}"#, "{}"]);
        let df = coerce_to_schema(df, &schema! { "d.t": date, n: tinyint }).unwrap();
        insta::assert_snapshot!(show(df).await, @r"
        d.t date   | n tinyint
        2024-01-01 | 2
        null       | null
        ");
    }

    #[test]
    fn the_plan_says_what_is_checked() {
        let df = frame("a: int, b: int, c: string, d: string, e: int not null", &[]);
        let schema = schema! { a: int, b: bigint, c: varchar(3), d: string not null, e: int };
        let df = coerce_to_schema(df, &schema).unwrap();
        insta::assert_snapshot!(df.logical_plan(), @r"
        Projection: ?table?.a, CAST(?table?.b AS Int64) AS b, coerce(?table?.c) AS c, coerce(?table?.d) AS d, ?table?.e
          TableScan: ?table?
        ");
    }

    #[test]
    fn what_fits_costs_nothing() {
        let schema = schema! { a: int not null, s: struct<x:array<varchar(3)>>, c: char(3) };
        let df = coerce_to_schema(frame("c: string, s: struct<x:array<string>>, a: int", &[]), &schema).unwrap();
        let again = coerce_to_schema(df.clone(), &schema).unwrap();
        assert_eq!(again.logical_plan(), df.logical_plan());

        let wider = schema! { c: string, a: bigint };
        let plan = coerce_to_schema(df, &wider).unwrap().logical_plan().to_string();
        assert!(!plan.lines().next().unwrap().contains("coerce("), "{plan}");
    }

    #[tokio::test]
    async fn the_result_has_the_declared_schema() {
        let schema = schema! {
            a: int, b: bigint, c: string, d: timestamp not null, e: char(2), s: struct<x:tinyint,l:array<varchar(2)>>
        };
        let from = "a: int, b: int, c: int, d: string, e: string, s: struct<l:array<string>,x:int>";
        let df = frame(from, &[r#"{"a":1,"d":"2024-01-01","s":{"x":1,"l":["a"]}}"#]);
        let df = coerce_to_schema(df, &schema).unwrap();
        assert_eq!(df.schema().as_arrow(), schema.as_ref());
        assert_eq!(df.collect().await.unwrap()[0].schema(), schema);
    }

    #[rstest]
    #[case(
        "title: string",
        "declared columns are missing (missing: titel (or is it `title`?), price, s, columns: title)"
    )]
    #[case(
        "titel: string, price: int, s: struct<x:int,l:array<struct<y:int>>>",
        "declared columns are missing (missing: s.l[].z, columns: titel, price, s)"
    )]
    #[case(
        "titel: date, price: date, s: struct<x:int,l:array<struct<z:int>>>",
        "a column cannot become the declared type (column: price, type: date, declared: int)"
    )]
    fn what_can_never_fit_is_refused_at_once(#[case] columns: &str, #[case] message: &str) {
        let schema = schema! { titel: string, price: int, s: struct<x:int,l:array<struct<z:int>>> };
        let error = coerce_to_schema(frame(columns, &[]), &schema).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert_eq!(error.kind(), hardtack_core::ErrorKind::Refused);
    }

    /// A field is not a column, however similar their names.
    #[test]
    fn a_missing_field_is_not_taken_for_a_column() {
        let schema = schema! { titles: struct<x:int,title:string> };
        let error = coerce_to_schema(frame("titles: struct<x:int>", &[]), &schema).unwrap_err();
        assert_eq!(error.to_string(), "declared columns are missing (missing: titles.title, columns: titles)");
    }

    #[rstest]
    #[case(
        r#"{"id":1.5}"#,
        "a value does not fit the declared type without loss (column: id, value: 1.5, type: double, declared: int)"
    )]
    #[case(r#"{"name":"x"}"#, "a column that is declared not null is null (column: id)")]
    #[tokio::test]
    async fn a_row_that_does_not_fit_is_refused(#[case] row: &str, #[case] message: &str) {
        let df = frame("id: double, name: string", &[r#"{"id":1,"name":"a"}"#, row]);
        let df = coerce_to_schema(df, &schema! { id: int not null, name: string }).unwrap();
        assert_eq!(failure(df).await, message);
    }

    #[tokio::test]
    async fn what_is_missing_is_filled_if_asked_for() {
        let schema = schema! { a: int, n: decimal(5,2), s: struct<x:int,y:map<string,date>> };
        let df = frame("s: struct<x:int>", &[r#"{"s":{"x":1}}"#, r#"{"s":null}"#]);
        let df = coerce_to_schema_with(df, &schema, Missing::FillWithNull).unwrap();
        assert_eq!(df.schema().as_arrow(), schema.as_ref());
        insta::assert_snapshot!(show(df).await, @r"
        a int | n decimal(5,2) | s struct<x:int,y:map<string,date>>
        null  | null           | null
        null  | null           | {x: 1, y: }
        ");
        let error = coerce_to_schema_with(frame("b: int", &[]), &schema! { a: int not null }, Missing::FillWithNull);
        assert_eq!(error.unwrap_err().to_string(), "declared columns are missing (missing: a, columns: b)");
    }

    #[tokio::test]
    async fn two_columns_of_one_name_are_ambiguous() {
        let (left, right) = (frame("id: int", &[]).alias("l").unwrap(), frame("id: int", &[]).alias("r").unwrap());
        let both = left.join(right, datafusion::prelude::JoinType::Inner, &["id"], &["id"], None).unwrap();
        let error = coerce_to_schema(both, &schema! { id: int }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "two columns have the same name; select them under different ones first (columns: l.id, r.id)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Coercing again changes nothing, neither the plan's schema nor the rows.
        #[test]
        fn coercing_is_idempotent(rows in prop::collection::vec((any::<i16>(), prop::option::of(-99i32..99)), 0..8), to in 0usize..4) {
            let schema = [
                schema! { b: string, a: bigint not null },
                schema! { a: double, b: decimal(12,1) },
                schema! { a: int, b: varchar(3) },
                schema! { b: tinyint },
            ][to].clone();
            let json: Vec<String> = rows.iter().map(|(a, b)| format!(r#"{{"a":{a},"b":{}}}"#, serde_json_number(*b))).collect();
            let json: Vec<&str> = json.iter().map(String::as_str).collect();
            let df = frame("a: smallint, b: int", &json);
            run(async {
                let once = coerce_to_schema(df, &schema).unwrap();
                let twice = coerce_to_schema(once.clone(), &schema).unwrap();
                prop_assert_eq!(once.schema(), twice.schema());
                prop_assert_eq!(show(once).await, show(twice).await);
                Ok(())
            })?;
        }
    }

    fn serde_json_number(value: Option<i32>) -> String {
        value.map_or_else(|| "null".to_owned(), |v| v.to_string())
    }

    #[test]
    fn types_are_named_as_they_are_declared() {
        let error = coerce_to_schema(
            frame("a: date", &[]),
            &Schema::new(vec![Field::new(
                "a",
                DataType::Time64(datafusion::arrow::datatypes::TimeUnit::Nanosecond),
                true,
            )]),
        )
        .unwrap_err();
        assert_eq!(error.get("declared"), Some("Time64(ns)"));
    }
}
