//! `regexp_count` of no rows.
//!
//! DataFusion's function takes the pattern of the first row if it is the same for all, and panics in a batch without rows,
//! such as a join emits now and then.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::new_empty_array;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

static REGEXP_COUNT: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(RegexpCount(datafusion::functions::regex::regexp_count()).into()));

/// The function that replaces DataFusion's of the same name.
pub(super) fn function() -> &'static Arc<ScalarUDF> {
    &REGEXP_COUNT
}

/// SQL's `regexp_count`: how often a pattern occurs in a text, from a position on (the first is 1), with flags such as `i`.
pub fn regexp_count(text: Expr, pattern: Expr, start: Option<Expr>, flags: Option<Expr>) -> Expr {
    REGEXP_COUNT.call([text, pattern].into_iter().chain(start).chain(flags).collect())
}

/// DataFusion's function, which is not asked about batches without rows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct RegexpCount(Arc<ScalarUDF>);

impl ScalarUDFImpl for RegexpCount {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.0.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        match args.number_rows {
            0 => Ok(ColumnarValue::Array(new_empty_array(args.return_type()))),
            _ => self.0.invoke_with_args(args),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}
