//! Refusing rows.

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::columns::{Columns, Found, type_name};

/// The columns with a row's origin, as `with_origin` of file sources names them, and their keys in an error.
const ORIGIN: [(&str, &str); 2] = [("_file", "file"), ("_line", "line")];

/// Whether the column contains a row's origin.
pub(crate) fn is_origin(column: &str) -> bool {
    ORIGIN.iter().any(|(name, _)| *name == column)
}

/// Refuses rows: the run fails with the message of the first rule whose condition is true for a row. A row for which
/// the condition is null passes.
///
/// The error has the values that the condition refers to, and the row's file and line if the source provides them
/// (`with_origin`).
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::refuse_rows;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let orders = dataframe!("id" => [1, 2], "pieces" => [3, -1], "_file" => ["a.jsonl", "a.jsonl"], "_line" => [1, 2])?;
/// let orders = refuse_rows(orders, &[(col("pieces").lt(lit(0)), "an order of less than nothing")])?;
/// let error = hardtack_core::Error::from(orders.collect().await.unwrap_err());
/// assert_eq!(error.to_string(), "an order of less than nothing (file: a.jsonl, line: 2, values: pieces = -1)");
/// # Ok(()) }
/// ```
///
/// The rules are evaluated when rows flow and any of their columns is needed (counting alone needs none). A row that an
/// earlier filter drops is not checked; one that a later filter drops is. Do not put a filter on both sides, though:
/// DataFusion merges the later filter into the earlier one, and the rules then see rows that the earlier one drops. So
/// refuse before the first filter or after the last.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if a condition is not boolean or refers to a missing column; during
/// execution [`Refused`](hardtack_core::ErrorKind::Refused).
pub fn refuse_rows<M: AsRef<str>>(df: DataFrame, rules: &[(Expr, M)]) -> Result<DataFrame> {
    if rules.is_empty() {
        return Ok(df);
    }
    let columns = Columns::of(df.schema())?;
    let mut rule_columns = Vec::new();
    let mut args = Vec::new();
    for (condition, message) in rules {
        let mut used: Vec<Expr> = Vec::new();
        for column in condition.column_refs() {
            columns.get(&column.name)?;
        }
        let found = condition.get_type(df.schema())?;
        if !matches!(found, DataType::Boolean | DataType::Null) {
            return Err(Error::usage("a condition of `refuse_rows` must be boolean")
                .with("condition", condition.human_display())
                .with("type", type_name(&found))
                .with("message", message.as_ref()));
        }
        let _ = condition.apply(|expr| {
            Ok(match expr {
                Expr::Column(_) => {
                    push_new(&mut used, expr);
                    TreeNodeRecursion::Continue
                }
                // The field and not the whole struct.
                Expr::ScalarFunction(call) if is_field(call) => {
                    push_new(&mut used, expr);
                    TreeNodeRecursion::Jump
                }
                _ => TreeNodeRecursion::Continue,
            })
        });
        used.retain(|expr| expr.get_type(df.schema()).is_ok_and(|t| !t.is_nested()));
        args.push(condition.clone());
        rule_columns.push(used);
    }
    let origin = ORIGIN.iter().filter_map(|(name, told)| Some((columns.find(name)?, *told)));
    let mut shown: Vec<(String, Expr)> = origin.map(|(column, told)| (told.to_owned(), column.expr.clone())).collect();
    let mut refusals = Vec::new();
    for ((_, message), used) in rules.iter().zip(rule_columns) {
        let mut values = Vec::new();
        for expr in used {
            let name = path_of(&expr);
            let at = shown.iter().position(|(_, known)| *known == expr).unwrap_or_else(|| {
                shown.push((name.clone(), expr));
                shown.len() - 1
            });
            values.push((name, at));
        }
        refusals.push(Refusal { message: message.as_ref().to_owned(), values });
    }
    let origin = shown.iter().take_while(|(name, _)| ORIGIN.iter().any(|(_, told)| told == name)).count();
    let origin = shown[..origin].iter().map(|(name, _)| name.clone()).collect();
    args.extend(shown.into_iter().map(|(_, expr)| expr));
    // Not a filter: the optimiser would merge it with the filters below, and it would be evaluated for rows that those
    // drop. The check is a volatile function, which nothing is moved through, and all other columns depend on it. None
    // of them is a plain column, so none can be moved below a filter either.
    let guard = ScalarUDF::from(Guard { signature: Signature::variadic_any(Volatility::Immutable) });
    let guarded = |passes: Option<Expr>| {
        let column = |column: &Found| {
            let relation = match &column.expr {
                Expr::Column(column) => column.relation.clone(),
                _ => None,
            };
            let args = std::iter::once(column.expr.clone()).chain(passes.clone()).collect();
            guard.call(args).alias_qualified(relation, column.field.name())
        };
        columns.iter().map(column).collect::<Vec<Expr>>()
    };
    let signature = Signature::any(args.len(), Volatility::Volatile);
    let passes = ScalarUDF::from(Passes { refusals, origin, signature }).call(args);
    let mut checked = guarded(None);
    checked.push(passes.alias(PASSES));
    Ok(df.select(checked)?.select(guarded(Some(Expr::Column(Column::from_name(PASSES)))))?)
}

/// The column that the others depend on.
const PASSES: &str = "__hardtack_passes";

/// Returns its first argument, once the others have been evaluated.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Guard {
    signature: Signature,
}

impl ScalarUDFImpl for Guard {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "checked"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::clone(&args.arg_fields[0]))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(args.args[0].clone())
    }
}

fn push_new(all: &mut Vec<Expr>, expr: &Expr) {
    if !all.contains(expr) {
        all.push(expr.clone());
    }
}

fn is_field(call: &ScalarFunction) -> bool {
    call.name() == "get_field"
}

/// A column or field as an author writes it.
fn path_of(expr: &Expr) -> String {
    match expr {
        Expr::Column(Column { name, .. }) => name.clone(),
        Expr::ScalarFunction(call) if is_field(call) => {
            let parts = call.args.iter().map(|arg| match arg {
                Expr::Literal(ScalarValue::Utf8(Some(name)), _) => name.clone(),
                other => path_of(other),
            });
            parts.collect::<Vec<_>>().join(".")
        }
        other => other.human_display().to_string(),
    }
}

/// A rule that has been broken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Refusal {
    message: String,
    /// The names of the reported values, and their positions among the arguments.
    values: Vec<(String, usize)>,
}

/// True for every row, or an error.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Passes {
    refusals: Vec<Refusal>,
    /// Which of [`ORIGIN`] the first values after the conditions are.
    origin: Vec<String>,
    signature: Signature,
}

impl Passes {
    fn error(&self, refusal: &Refusal, shown: &[ArrayRef], row: usize) -> Error {
        let value = |at: usize| match shown[at].is_null(row) {
            true => "null".to_owned(),
            false => cut(array_value_to_string(&shown[at], row).unwrap_or_default()),
        };
        let mut error = Error::refused(&refusal.message);
        for (at, name) in self.origin.iter().enumerate().filter(|(at, _)| shown[*at].is_valid(row)) {
            let told = ORIGIN.iter().find(|(_, told)| told == name).map_or("origin", |(_, told)| *told);
            error = error.with(told, array_value_to_string(&shown[at], row).unwrap_or_default());
        }
        let values: Vec<String> = refusal.values.iter().map(|(name, at)| format!("{name} = {}", value(*at))).collect();
        if values.is_empty() { error } else { error.with("values", values.join(", ")) }
    }
}

/// Values are logged, so long ones are truncated.
fn cut(value: String) -> String {
    if value.chars().count() > 100 { value.chars().take(100).collect::<String>() + "…" } else { value }
}

/// The first of the rows for which a condition is true.
fn first_true(condition: &ColumnarValue, rows: usize) -> DfResult<Option<usize>> {
    Ok(match condition {
        ColumnarValue::Array(array) if array.data_type() == &DataType::Null => None,
        ColumnarValue::Array(array) => {
            // Usually none is true, and checking that is faster than searching.
            let conditions = Some(as_boolean_array(array)?).filter(|conditions| conditions.has_true());
            conditions.and_then(|conditions| conditions.iter().position(|is| is == Some(true)))
        }
        ColumnarValue::Scalar(ScalarValue::Boolean(Some(true))) if rows > 0 => Some(0),
        ColumnarValue::Scalar(_) => None,
    })
}

impl ScalarUDFImpl for Passes {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "passes"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let (conditions, shown) = args.args.split_at(self.refusals.len());
        // The first refused row, and the first of its broken rules.
        let mut first: Option<(usize, &Refusal)> = None;
        for (condition, refusal) in conditions.iter().zip(&self.refusals) {
            let row = first_true(condition, args.number_rows)?;
            if let Some(row) = row.filter(|row| first.is_none_or(|(earlier, _)| *row < earlier)) {
                first = Some((row, refusal));
            }
        }
        match first {
            // Only now: constants such as the name of the file would be repeated for each row.
            Some((row, refusal)) => {
                let shown: Vec<ArrayRef> =
                    shown.iter().map(|value| value.to_array(args.number_rows)).collect::<DfResult<_>>()?;
                Err(self.error(refusal, &shown, row).into())
            }
            None => Ok(ColumnarValue::Scalar(ScalarValue::Boolean(Some(true)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::BooleanArray;
    use datafusion::functions::core::expr_ext::FieldAccessor;
    use datafusion::logical_expr::{col, lit};
    use rstest::rstest;

    use super::*;
    use crate::testing::{failure, frame, show};

    #[rstest]
    #[case(vec![Some(false), None, Some(true), Some(true)], Some(2))]
    #[case(vec![Some(false), None], None)]
    #[case(vec![], None)]
    fn a_condition_that_is_true_is_found(#[case] condition: Vec<Option<bool>>, #[case] expected: Option<usize>) {
        let rows = condition.len();
        let condition = ColumnarValue::Array(Arc::new(BooleanArray::from(condition)));
        assert_eq!(first_true(&condition, rows).unwrap(), expected);
    }

    #[rstest]
    #[case(Some(true), 2, Some(0))]
    #[case(Some(true), 0, None)]
    #[case(Some(false), 2, None)]
    #[case(None, 2, None)]
    fn so_is_a_constant(#[case] value: Option<bool>, #[case] rows: usize, #[case] expected: Option<usize>) {
        assert_eq!(first_true(&ColumnarValue::Scalar(ScalarValue::Boolean(value)), rows).unwrap(), expected);
    }

    const EVENTS: &str = "op: string, s: struct<id: int, name: string>, _file: string, _line: bigint";

    fn rules() -> Vec<(Expr, &'static str)> {
        vec![
            (col("op").is_null(), "no operation"),
            (col("op").eq(lit("u")).and(col("s").field("id").is_null()), "an update of nobody"),
            (col("op").eq(lit("x")), "an unknown operation"),
        ]
    }

    #[rstest]
    #[case::null(r#"{"_file":"f","_line":7}"#, "no operation (file: f, line: 7, values: op = null)")]
    #[case::field(
        r#"{"op":"u","_file":"f","_line":7}"#,
        "an update of nobody (file: f, line: 7, values: op = u, s.id = null)"
    )]
    #[case::without_origin(r#"{"op":"x"}"#, "an unknown operation (values: op = x)")]
    #[tokio::test]
    async fn the_first_broken_rule_is_told(#[case] row: &str, #[case] message: &str) {
        let rows = [r#"{"op":"u","s":{"id":1}}"#, row, r#"{"op":"x","_file":"later"}"#];
        let df = refuse_rows(frame(EVENTS, &rows), &rules()).unwrap();
        assert_eq!(failure(df).await, message);
    }

    #[tokio::test]
    async fn the_others_pass_as_they_are() {
        let rows = [r#"{"op":"c"}"#, r#"{"op":"u","s":{"id":1}}"#];
        let df = refuse_rows(frame(EVENTS, &rows), &rules()).unwrap();
        assert_eq!(show(df).await, show(frame(EVENTS, &rows)).await);
    }

    /// Reports the first row that breaks a rule, and the first rule that it breaks.
    #[rstest]
    #[case::row(&[r#"{"op":"x"}"#, "{}"], "an unknown operation (values: op = x)")]
    #[case::rule(&[r#"{"op":"u","s":{"name":"n"}}"#], "an update of nobody (values: op = u, s.id = null)")]
    #[case::function(&[r#"{"op":"q"}"#], "upper (values: op = q)")]
    #[tokio::test]
    async fn the_first_row_is_told_with_what_its_rule_looks_at(#[case] rows: &[&str], #[case] message: &str) {
        let mut rules = rules();
        rules.push((datafusion::functions::expr_fn::upper(col("op")).eq(lit("Q")), "upper"));
        rules.push((col("op").eq(lit("u")), "another rule"));
        assert_eq!(
            failure(refuse_rows(frame("op: string, s: struct<id: int, name: string>", rows), &rules).unwrap()).await,
            message
        );
    }

    #[rstest]
    #[case::as_it_is(100, "")]
    #[case::cut(101, "…")]
    #[tokio::test]
    async fn long_values_are_cut(#[case] length: usize, #[case] end: &str) {
        let df = frame("op: string", &[format!(r#"{{"op":"{}"}}"#, "ä".repeat(length)).as_str()]);
        let df = refuse_rows(df, &[(col("op").is_not_null(), "no")]).unwrap();
        assert_eq!(failure(df).await, format!("no (values: op = {}{end})", "ä".repeat(100)));
    }

    #[test]
    fn the_plan_says_that_rows_are_checked() {
        let plan =
            refuse_rows(frame("op: string", &[]), &[(col("op").is_null(), "no")]).unwrap().logical_plan().to_string();
        assert!(plan.contains("checked(?table?.op") && plan.contains("passes(?table?.op IS NULL"), "{plan}");
    }

    /// Even if the checked columns are not selected, and for rows that are dropped afterwards.
    #[tokio::test]
    async fn rules_hold_whatever_is_selected() {
        let df = refuse_rows(frame(EVENTS, &[r#"{"op":"x"}"#]), &rules()).unwrap();
        let message = "an unknown operation (values: op = x)";
        assert_eq!(failure(df.clone().select_columns(&["_line"]).unwrap()).await, message);
        assert_eq!(failure(df.clone().filter(col("op").eq(lit("c"))).unwrap()).await, message);
        assert_eq!(failure(df.filter(col("_line").is_not_null()).unwrap()).await, message);
    }

    /// Rules are not moved below a filter.
    #[tokio::test]
    async fn what_was_dropped_before_is_not_looked_at() {
        let rows = [r#"{"op":"x","_line":1}"#, r#"{"op":"c","_line":2}"#, r#"{"_line":3}"#];
        let df = frame(EVENTS, &rows).filter(col("_line").eq(lit(2_i64))).unwrap();
        assert_eq!(show(refuse_rows(df.clone(), &rules()).unwrap()).await.lines().count(), 2);
        let few = refuse_rows(df, &rules()).unwrap().select_columns(&["_line"]).unwrap();
        assert_eq!(few.collect().await.unwrap()[0].num_rows(), 1);
    }

    #[rstest]
    #[case(col("oq").is_null(), "there is no column `oq` (columns: op, s, _file, _line)")]
    #[case(col("op"), "a condition of `refuse_rows` must be boolean (condition: op, type: string, message: m)")]
    fn conditions_are_checked(#[case] condition: Expr, #[case] message: &str) {
        assert_eq!(refuse_rows(frame(EVENTS, &[]), &[(condition, "m")]).unwrap_err().to_string(), message);
    }
}
