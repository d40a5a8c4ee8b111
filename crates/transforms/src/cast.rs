//! Casts that refuse to lose anything.

#[cfg(test)]
mod laws;
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
use hardtack_catalog::types::{Clash, Fit, Policy};
use hardtack_core::{Error, ErrorKind, Result};

use self::rules::check;
pub(crate) use self::rules::{Fields, Problem};
use self::values::fit_array;
use crate::columns::Found;

/// A column as declared, by the cheapest safe means: unchanged, by a plain cast if every value fits, or by a function
/// that checks the values. Errors refer to it as `name`.
pub(crate) fn fit(column: &Found, to: &Field, name: &str, fields: Fields) -> Result<Expr, Vec<Problem>> {
    let from = column.field.as_ref();
    let mut problems = Vec::new();
    check(Policy::Coerce, from.data_type(), to.data_type(), name, fields, &mut problems);
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
    match Policy::Coerce.fit(from.data_type(), to.data_type()) {
        Some(Fit::Always) if !to.data_type().is_nested() => {
            Ok(Expr::Cast(Cast::new(Box::new(expr), to.data_type().clone())))
        }
        _ => Ok(checked(expr, to, name)),
    }
}

/// The type-level reason why a column cannot become another type under this policy. Values that do not fit only show
/// when they are [converted](convert_array). Fields of structs are matched by name; missing ones become null,
/// undeclared ones are dropped.
pub fn conversion_problem(policy: Policy, from: &Field, to: &Field) -> Option<Clash> {
    let mut problems = Vec::new();
    check(policy, from.data_type(), to.data_type(), to.name(), Fields::DECLARED, &mut problems);
    problems.into_iter().next().map(|problem| match problem {
        Problem::Cast { column, from, to } => Clash { path: column, first: from, other: to },
        Problem::Missing(column) | Problem::Undeclared(column) => {
            Clash { path: column, first: from.data_type().clone(), other: to.data_type().clone() }
        }
    })
}

/// Converts the values of a column to another type, if the [types allow it](conversion_problem) and every value is a
/// value of that type.
///
/// # Errors
/// [`Refused`](hardtack_core::ErrorKind::Refused) for the first value that is not, with the column (or the path within
/// it), the value unless the column is [sensitive](hardtack_core::audit::sensitive), its type and the declared type.
pub fn convert_array(policy: Policy, array: &ArrayRef, to: &Field) -> Result<ArrayRef> {
    fit_array(policy, array, to, to.name(), None).map_err(|e| e.redacted(&[to]))
}

/// A column in another type, whether nullable or not.
pub(crate) fn fit_type(column: &Found, to: &Field) -> Result<Expr> {
    let fields = Fields { fill_missing: true, drop_undeclared: false };
    let nullable = to.clone().with_nullable(true);
    fit(column, &nullable, to.name(), fields).map_err(|mut problems| problems.swap_remove(0).into_error())
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
    let fields = Fields { fill_missing: false, drop_undeclared: true };
    fit(column, to, to.name(), fields).map_err(|mut problems| problems.swap_remove(0).into_error())
}

/// Whether the column may contain values that do not fit, given that there is a cast.
pub(crate) fn may_refuse(column: &Found, to: &Field) -> bool {
    let expr = fit_column(column, to);
    matches!(expr, Ok(Expr::ScalarFunction(call)) if call.func.inner().as_any().is::<Coerce>())
}

/// Refuses a type that can never become the other.
pub(crate) fn can_fit(from: &DataType, to: &DataType, name: &str) -> Result<()> {
    let mut problems = Vec::new();
    let fields = Fields { fill_missing: false, drop_undeclared: true };
    check(Policy::Coerce, from, to, name, fields, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems.swap_remove(0).into_error()) }
}

/// One value in another type.
pub(crate) fn fit_value(value: &ScalarValue, to: &DataType, name: &str) -> Result<ScalarValue> {
    let fitted = fit_array(Policy::Coerce, &value.to_array()?, &Field::new(name, to.clone(), true), name, None)?;
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

/// Converts an array as a whole if that works, otherwise its halves: values that do not fit are rare.
fn fit_parts(
    array: &ArrayRef,
    to: &Field,
    first_row: usize,
    parts: &mut Vec<ArrayRef>,
    refused: &mut Vec<(usize, Error)>,
) -> Result<()> {
    match fit_array(Policy::Coerce, array, to, to.name(), None) {
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

pub(crate) fn max_characters(field: &Field) -> Option<usize> {
    // Most fields have no metadata; converting them to Hive types would be wasted work.
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
            ColumnarValue::Array(array) => {
                ColumnarValue::Array(fit_array(Policy::Coerce, array, &self.to, &self.name, None)?)
            }
            ColumnarValue::Scalar(value) => {
                let fitted = fit_array(Policy::Coerce, &value.to_array()?, &self.to, &self.name, None)?;
                ColumnarValue::Scalar(ScalarValue::try_from_array(&fitted, 0)?)
            }
        })
    }
}
