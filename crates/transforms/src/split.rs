//! Splitting rows by a contract.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayBuilder, ArrayRef, ListBuilder, StringBuilder, StructBuilder};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use datafusion::prelude::{DataFrame, Expr, ident};
use hardtack_core::{Error, Result};

use crate::cast;
use crate::coerce::coerce_to_schema;
use crate::columns::Columns;

/// The column with the reasons of [`split_by_schema`].
pub const REFUSED_COLUMN: &str = "_refused";

/// Splits rows into those that fit a schema and those that do not: `(good, refused)`. It refuses the rows for which
/// [`coerce_to_schema`] fails, and continues with the rest.
///
/// The good rows have exactly the columns of the schema. The refused ones keep all their columns unchanged and get one
/// more: `_refused`, an `array<struct<column:string,value:string,declared:string,reason:string>>` with an entry for
/// each column that does not fit. Every row is in exactly one of the two.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_catalog::schema;
/// # use hardtack_transforms::split_by_schema;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let books = dataframe!("title" => ["Emma", "Dune"], "price" => ["9.50", "9.999"])?;
/// let (good, refused) = split_by_schema(books, &schema! { title: string not null, price: decimal(5, 2) })?;
/// assert_eq!(good.count().await?, 1);
/// let why = refused.select([col("title"), col("price"), col("_refused")])?.collect().await?;
/// let why = datafusion::arrow::util::display::array_value_to_string(why[0].column(2), 0)?;
/// assert_eq!(
///     why,
///     "[{column: price, value: 9.999, declared: decimal(5,2), \
///      reason: a value does not fit the declared type without loss}]"
/// );
/// # Ok(()) }
/// ```
///
/// Each of the two is a plan of its own: if both are saved, the rows are read and checked twice.
///
/// # Errors
/// As for [`coerce_to_schema`], at once, for columns that are missing or can never have the declared type: those do not
/// concern single rows. [`Usage`](hardtack_core::ErrorKind::Usage) if there already is a column `_refused`.
pub fn split_by_schema(df: DataFrame, schema: &Schema) -> Result<(DataFrame, DataFrame)> {
    // Columns that can never fit are reported as by a coercion.
    coerce_to_schema(df.clone(), schema)?;
    let columns = Columns::of(df.schema())?;
    if columns.find(REFUSED_COLUMN).is_some() {
        return Err(Error::usage(
            "there is already a column with the name of the one with the reasons; rename it first",
        )
        .with("column", REFUSED_COLUMN));
    }
    let (mut looked_at, mut fields) = (Vec::new(), Vec::new());
    for field in schema.fields() {
        if let Some(column) = columns.find(field.name()).filter(|column| cast::may_refuse(column, field)) {
            looked_at.push(column.expr.clone());
            fields.push(Arc::clone(field));
        }
    }
    let refusals = match fields.is_empty() {
        true => lit(ScalarValue::try_new_null(&refusals_type())?),
        false => {
            let signature = Signature::any(looked_at.len(), Volatility::Immutable);
            ScalarUDF::from(Refusals { fields, signature }).call(looked_at)
        }
    };
    // A function that returns null instead of an error, although no row needs it: a later filter on a column is merged
    // with this one and is evaluated for refused rows, too.
    let good = schema.fields().iter().map(|field| {
        let column = columns.get(field.name())?;
        let expr = match cast::may_refuse(column, field) {
            true => or_null(column.expr.clone(), field),
            false => cast::fit_column(column, field)?,
        };
        Ok(cast::named(expr, field.name()))
    });
    let good: Vec<Expr> = good.collect::<Result<_>>()?;
    let good = df.clone().filter(refusals.clone().is_null())?.select(good)?;
    let mut exprs: Vec<Expr> = columns.iter().map(|column| column.expr.clone()).collect();
    exprs.push(refusals.alias(REFUSED_COLUMN));
    let refused = df.select(exprs)?.filter(ident(REFUSED_COLUMN).is_not_null())?;
    Ok((good, refused))
}

/// Casts a value, or returns null if it does not fit the type without loss, by the rules of [`coerce_to_schema`]: where
/// `try_cast` turns `-` into 0.00 and `9.999` into 10.00, this returns null.
///
/// The refused values are lost; [`split_by_schema`] keeps them.
///
/// ```
/// # use datafusion::arrow::datatypes::DataType;
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::coerce_or_null;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let books = dataframe!("price" => ["9.50", "9.999", "-"])?;
/// let books = books.with_column("price", coerce_or_null(col("price"), &DataType::Decimal128(5, 2)))?;
/// assert_eq!(books.filter(col("price").is_null())?.count().await?, 2);
/// # Ok(()) }
/// ```
///
/// An impossible conversion is an error when the plan is made.
pub fn coerce_or_null(value: Expr, to: &DataType) -> Expr {
    or_null(value, &Arc::new(Field::new("value", to.clone(), true)))
}

fn or_null(value: Expr, to: &FieldRef) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(CoerceOrNull { to: Arc::clone(to), signature }).call(vec![value])
}

/// Returns the values of each row that do not fit, or null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Refusals {
    /// The declared fields of the arguments.
    fields: Vec<FieldRef>,
    signature: Signature,
}

/// The fields of an entry for a value that does not fit; all are texts.
const PARTS: [&str; 4] = ["column", "value", "declared", "reason"];

fn parts() -> Fields {
    PARTS.iter().map(|part| Field::new(*part, DataType::Utf8, true)).collect()
}

fn refusals_type() -> DataType {
    DataType::new_list(DataType::Struct(parts()), true)
}

impl ScalarUDFImpl for Refusals {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "refusals"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(refusals_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let rows = arrays.first().map_or(args.number_rows, |array| array.len());
        let mut refused: Vec<(usize, Error)> = Vec::new();
        for (array, field) in arrays.iter().zip(&self.fields) {
            refused.extend(cast::refused(array, field)?);
        }
        // By row, then by column.
        refused.sort_by_key(|(row, _)| *row);
        let mut list = ListBuilder::new(StructBuilder::from_fields(parts(), refused.len()));
        let mut next = refused.into_iter().peekable();
        for row in 0..rows {
            let before = list.values().len();
            while let Some((_, error)) = next.next_if(|(refused, _)| *refused == row) {
                let entry = list.values();
                for (i, part) in PARTS.into_iter().enumerate() {
                    let text = if part == "reason" { Some(error.message()) } else { error.get(part) };
                    if let Some(texts) = entry.field_builder::<StringBuilder>(i) {
                        texts.append_option(text);
                    }
                }
                entry.append(true);
            }
            let any = list.values().len() > before;
            list.append(any);
        }
        let list: ArrayRef = Arc::new(list.finish());
        Ok(ColumnarValue::Array(list))
    }
}

/// Casts, with null where a value does not fit.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CoerceOrNull {
    to: FieldRef,
    signature: Signature,
}

impl ScalarUDFImpl for CoerceOrNull {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "coerce_or_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        cast::can_fit(args.arg_fields[0].data_type(), self.to.data_type(), args.arg_fields[0].name())?;
        Ok(Arc::clone(&self.to))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(array) => ColumnarValue::Array(cast::fit_or_null(array, &self.to)?),
            ColumnarValue::Scalar(value) => {
                let fitted = cast::fit_or_null(&value.to_array()?, &self.to)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&fitted, 0)?)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::col;
    use hardtack_catalog::schema;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::{frame, run, show};

    #[test]
    fn the_plan_says_what_is_looked_at() {
        let (good, refused) = split_by_schema(frame("a: int, b: string", &[]), &schema! { a: bigint, b: int }).unwrap();
        let (good, refused) = (good.logical_plan().to_string(), refused.logical_plan().to_string());
        assert!(good.contains("coerce_or_null(?table?.b)") && !good.contains("coerce_or_null(?table?.a)"), "{good}");
        assert!(refused.contains("refusals(?table?.b)"), "{refused}");
    }

    const COLUMNS: &str = "id: string, price: string, tags: array<string>, more: int";

    fn rows() -> DataFrame {
        frame(
            COLUMNS,
            &[
                r#"{"id":"1","price":"9.50","tags":["1","2"],"more":1}"#,
                r#"{"id":null,"price":"9.999","more":2}"#,
                r#"{"id":"3","price":"","tags":["1","x"],"more":3}"#,
                r#"{"id":"4","price":null}"#,
                r#"{"id":"5","price":"-","more":5}"#,
            ],
        )
    }

    #[tokio::test]
    async fn every_row_is_good_or_refused_with_its_reasons() {
        let schema = schema! { price: decimal(5, 2), id: int not null, tags: array<tinyint> };
        let (good, refused) = split_by_schema(rows(), &schema).unwrap();
        assert_eq!(good.schema().as_arrow(), schema.as_ref());
        insta::assert_snapshot!(show(good).await, @r"
        price decimal(5,2) | id int not null | tags array<tinyint>
        9.50               | 1               | [1, 2]
        null               | 4               | null
        ");
        let refused = refused.unnest_columns(&[REFUSED_COLUMN]).unwrap();
        insta::assert_snapshot!(show(refused.select_columns(&["id", "more", REFUSED_COLUMN]).unwrap()).await, @r"
        id string | more int | _refused struct<column:string,value:string,declared:string,reason:string>
        3         | 3        | {column: price, value: , declared: decimal(5,2), reason: a value does not fit the declared type without loss}
        3         | 3        | {column: tags[], value: x, declared: tinyint, reason: a value does not fit the declared type without loss}
        5         | 5        | {column: price, value: -, declared: decimal(5,2), reason: a value does not fit the declared type without loss}
        null      | 2        | {column: id, value: , declared: , reason: a column that is declared not null is null}
        null      | 2        | {column: price, value: 9.999, declared: decimal(5,2), reason: a value does not fit the declared type without loss}
        ");
    }

    /// A later filter is evaluated for refused rows, too, and must not fail for them.
    #[tokio::test]
    async fn good_rows_can_be_filtered() {
        let (good, _) = split_by_schema(rows(), &schema! { id: int not null, price: decimal(5, 2) }).unwrap();
        let dear = good.filter(col("price").gt(lit(9)).and(col("id").lt(lit(9)))).unwrap();
        insta::assert_snapshot!(show(dear).await, @r"
        id int not null | price decimal(5,2)
        1               | 9.50
        ");
    }

    #[tokio::test]
    async fn where_nothing_can_fail_nothing_is_refused() {
        let (good, refused) = split_by_schema(rows(), &schema! { more: bigint, id: string }).unwrap();
        assert_eq!((good.count().await.unwrap(), refused.count().await.unwrap()), (5, 0));
    }

    #[rstest]
    #[case(schema! { isbn: string }, "declared columns are missing (missing: isbn, columns: id, price, tags, more)")]
    #[case(
        schema! { tags: string },
        "a column cannot become the declared type (column: tags, type: array<string>, declared: string)"
    )]
    fn what_can_never_fit_is_an_error(#[case] schema: datafusion::arrow::datatypes::SchemaRef, #[case] message: &str) {
        assert_eq!(split_by_schema(rows(), &schema).unwrap_err().to_string(), message);
    }

    #[test]
    fn the_column_with_the_reasons_must_be_free() {
        let error = split_by_schema(frame("_refused: int", &[]), &schema! { _refused: int }).unwrap_err();
        assert_eq!(
            error.to_string(),
            "there is already a column with the name of the one with the reasons; rename it first (column: _refused)"
        );
    }

    /// Texts for which `try_cast` returns a value.
    #[rstest]
    #[case::empty("", "null")]
    #[case::minus("-", "null")]
    #[case::plus("+", "null")]
    #[case::point(".", "null")]
    #[case::digit("9.999", "null")]
    #[case::too_large("1000", "null")]
    #[case::word("nine", "null")]
    #[case::fits("9.990", "9.99")]
    #[case::negative("-9.5", "-9.50")]
    #[tokio::test]
    async fn null_is_what_does_not_fit(#[case] text: &str, #[case] expected: &str) {
        let rows = [r#"{"price":"1"}"#.to_owned(), format!(r#"{{"price":"{text}"}}"#), "{}".to_owned()];
        let rows = frame("price: string", &rows.each_ref().map(String::as_str));
        let rows = rows.select([coerce_or_null(col("price"), &DataType::Decimal128(5, 2)).alias("price")]).unwrap();
        let batches = rows.collect().await.unwrap();
        let found = datafusion::arrow::util::display::array_value_to_string(batches[0].column(0), 1).unwrap();
        assert_eq!(if found.is_empty() { "null" } else { &found }, expected);
    }

    #[test]
    fn null_is_no_hint_for_types() {
        let error = rows().select([coerce_or_null(col("more"), &DataType::Date32)]).unwrap_err();
        assert_eq!(
            Error::from(error).to_string(),
            "a column cannot become the declared type; state how it counts days (column: more, type: int, declared: date)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// No row is lost or in both; the good rows are exactly those that a coercion accepts one by one.
        #[test]
        fn the_split_is_exact(texts in prop::collection::vec("[-+.0-9e]{0,5}", 0..20)) {
            let schema = schema! { v: decimal(4, 1) };
            let json: Vec<String> = texts.iter().map(|text| format!(r#"{{"v":"{text}"}}"#)).collect();
            let json: Vec<&str> = json.iter().map(String::as_str).collect();
            run(async {
                let (good, refused) = split_by_schema(frame("v: string", &json), &schema).unwrap();
                let (good, refused) = (good.count().await.unwrap(), refused.count().await.unwrap());
                let mut fit = 0;
                for row in &json {
                    let alone = coerce_to_schema(frame("v: string", &[row]), &schema).unwrap();
                    fit += usize::from(alone.collect().await.is_ok());
                }
                prop_assert_eq!((good, refused), (fit, texts.len() - fit));
                Ok(())
            })?;
        }
    }
}
