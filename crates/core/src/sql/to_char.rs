//! `to_char` of one moment in many formats, and of no rows.
//!
//! DataFusion's function formats a constant moment by the first row's format for all rows, and panics in a batch without
//! rows, such as joins and filters emit now and then. `tests/functions.rs` looks for other functions of this kind.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::new_empty_array;
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

static TO_CHAR: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(ToChar(datafusion::functions::datetime::to_char()).into()));

/// The function that replaces DataFusion's of the same name.
pub(super) fn function() -> &'static Arc<ScalarUDF> {
    &TO_CHAR
}

/// SQL's `to_char`: a moment, date, time of day or duration as text. The format is that of the crate `chrono`, such as
/// `%Y-%m-%d`; a query with another one fails. Null if one of the two is null.
///
/// ```
/// use datafusion::prelude::{col, lit};
/// use hardtack_core::sql::to_char;
///
/// let day = to_char(col("born"), lit("%Y-%m-%d")).alias("day");
/// # let _ = day;
/// ```
pub fn to_char(moment: Expr, format: Expr) -> Expr {
    TO_CHAR.call(vec![moment, format])
}

/// DataFusion's function, which is asked neither about batches without rows nor about one moment and a column of formats.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToChar(Arc<ScalarUDF>);

impl ScalarUDFImpl for ToChar {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn aliases(&self) -> &[String] {
        self.0.aliases()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        self.0.return_field_from_args(args)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(args.return_type())));
        }
        if let [moment @ ColumnarValue::Scalar(_), ColumnarValue::Array(_)] = &mut args.args[..] {
            *moment = ColumnarValue::Array(moment.to_array(args.number_rows)?);
        }
        self.0.invoke_with_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        self.0.coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}
