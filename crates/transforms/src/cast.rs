//! Casts that refuse what they would lose.

mod rules;
mod values;

use std::any::Any;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::compute::concat;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{
    Cast, ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::Expr;
use datafusion::scalar::ScalarValue;
use hardtack_catalog::HiveType;
use hardtack_core::{Error, ErrorKind, Result};

pub(crate) use self::rules::{Policy, Problem, comparable, plain};
use self::rules::{Rule, check, rule};
use self::values::fit_array;
use crate::columns::Found;

/// A column as it is declared, in the cheapest way that is safe: as it is, by a plain cast where every value fits, or
/// by a function that looks at the values. `name` is what errors call it.
pub(crate) fn fit(column: &Found, to: &Field, name: &str, policy: Policy) -> Result<Expr, Vec<Problem>> {
    let from = column.field.as_ref();
    let mut problems = Vec::new();
    check(from.data_type(), to.data_type(), name, policy, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let limit = max_characters(to);
    let may_be_null = to.is_nullable() || !from.is_nullable();
    let short_enough = limit.is_none() || max_characters(from).is_some_and(|n| Some(n) <= limit);
    let expr = column.expr.clone();
    if !may_be_null || !short_enough {
        return Ok(checked(expr, to, name));
    }
    if from.data_type() == to.data_type() {
        return Ok(expr);
    }
    match rule(from.data_type(), to.data_type()) {
        Some(Rule::Always) if !to.data_type().is_nested() => {
            Ok(Expr::Cast(Cast::new(Box::new(expr), to.data_type().clone())))
        }
        _ => Ok(checked(expr, to, name)),
    }
}

/// A column in another type, null or not.
pub(crate) fn fit_type(column: &Found, to: &Field) -> Result<Expr> {
    let policy = Policy { fill_missing: true, drop_undeclared: false };
    let nullable = to.clone().with_nullable(true);
    fit(column, &nullable, to.name(), policy).map_err(|mut problems| problems.swap_remove(0).into_error())
}

/// The expression under the declared name.
pub(crate) fn named(expr: Expr, name: &str) -> Expr {
    match expr {
        Expr::Column(ref column) if column.name == name => expr,
        expr => expr.alias(name),
    }
}

fn checked(expr: Expr, to: &Field, name: &str) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(Coerce { to: Arc::new(to.clone()), name: name.to_owned(), signature }).call(vec![expr])
}

/// A column as it is declared.
pub(crate) fn fit_column(column: &Found, to: &Field) -> Result<Expr> {
    let policy = Policy { fill_missing: false, drop_undeclared: true };
    fit(column, to, to.name(), policy).map_err(|mut problems| problems.swap_remove(0).into_error())
}

/// Whether there may be values of the column that do not fit, if there is a cast at all.
pub(crate) fn may_refuse(column: &Found, to: &Field) -> bool {
    let expr = fit_column(column, to);
    matches!(expr, Ok(Expr::ScalarFunction(call)) if call.func.inner().as_any().is::<Coerce>())
}

/// Refuses a type that can never become the other.
pub(crate) fn can_fit(from: &DataType, to: &DataType, name: &str) -> Result<()> {
    let mut problems = Vec::new();
    check(from, to, name, Policy { fill_missing: false, drop_undeclared: true }, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems.swap_remove(0).into_error()) }
}

/// One value in another type.
pub(crate) fn fit_value(value: &ScalarValue, to: &DataType, name: &str) -> Result<ScalarValue> {
    let fitted = fit_array(&value.to_array()?, &Field::new(name, to.clone(), true), name, None)?;
    Ok(ScalarValue::try_from_array(&fitted, 0)?)
}

/// The rows of an array that do not fit, and why.
pub(crate) fn refused(array: &ArrayRef, to: &Field) -> Result<Vec<(usize, Error)>> {
    let mut refused = Vec::new();
    fit_parts(array, to, 0, &mut Vec::new(), &mut refused)?;
    Ok(refused)
}

/// The array with null where a row does not fit.
pub(crate) fn fit_or_null(array: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    let mut parts = Vec::new();
    fit_parts(array, to, 0, &mut parts, &mut Vec::new())?;
    match parts.as_slice() {
        [whole] => Ok(Arc::clone(whole)),
        parts => Ok(concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())?),
    }
}

/// Fits an array as a whole if that works, and else its halves: what does not fit is rare.
fn fit_parts(
    array: &ArrayRef,
    to: &Field,
    first_row: usize,
    parts: &mut Vec<ArrayRef>,
    refused: &mut Vec<(usize, Error)>,
) -> Result<()> {
    match fit_array(array, to, to.name(), None) {
        Ok(fitted) => parts.push(fitted),
        Err(error) if error.kind() != ErrorKind::Refused => return Err(error),
        Err(error) if array.len() == 1 => {
            parts.push(new_null_array(to.data_type(), 1));
            refused.push((first_row, error));
        }
        Err(_) => {
            let half = array.len() / 2;
            fit_parts(&array.slice(0, half), to, first_row, parts, refused)?;
            fit_parts(&array.slice(half, array.len() - half), to, first_row + half, parts, refused)?;
        }
    }
    Ok(())
}

fn max_characters(field: &Field) -> Option<usize> {
    // Most fields say nothing; asking Hive for their types would be a detour.
    if field.metadata().is_empty() { None } else { HiveType::of(field).ok()?.max_characters() }
}

/// Casts one column to a field and refuses what does not fit.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Coerce {
    to: FieldRef,
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Coerce {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "coerce"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> DfResult<FieldRef> {
        Ok(Arc::clone(&self.to))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(array) => ColumnarValue::Array(fit_array(array, &self.to, &self.name, None)?),
            ColumnarValue::Scalar(value) => {
                let fitted = fit_array(&value.to_array()?, &self.to, &self.name, None)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&fitted, 0)?)
            }
        })
    }
}
