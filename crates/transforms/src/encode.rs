//! Rows as bytes: any columns, nested ones too, as one value that can be compared, grouped and hashed.

use std::any::Any;
use std::hash::Hasher;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, FixedSizeListArray, LargeListArray, ListArray, StructArray, UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion::arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::prelude::Expr;
use hardtack_core::{Error, Result};
use twox_hash::XxHash3_64;

use crate::columns::{Found, type_name};

/// An expression by which rows are grouped and sorted: the column itself, or its bytes if it is nested. Two nested
/// values are the same if all they contain is; maps are compared as lists of their entries, in the order in which they
/// are kept.
pub(crate) fn key(column: &Found) -> Result<Expr> {
    if column.field.data_type().is_nested() {
        encode(What::Bytes, std::slice::from_ref(column))
    } else {
        Ok(column.expr.clone())
    }
}

/// A number by which rows are put into an order that depends on nothing but their values. Sorting by it costs eight
/// bytes a row where sorting by the values would hold all of them twice.
pub(crate) fn hash(columns: &[Found]) -> Result<Expr> {
    encode(What::Hash, columns)
}

fn encode(what: What, columns: &[Found]) -> Result<Expr> {
    for column in columns {
        let sortable = SortField::new(comparable_type(column.field.data_type()));
        if !RowConverter::supports_fields(&[sortable]) {
            return Err(Error::usage("values of this type cannot be compared")
                .with("column", column.field.name())
                .with("type", type_name(column.field.data_type())));
        }
    }
    let function = Encode { what, signature: Signature::variadic_any(Volatility::Immutable) };
    Ok(ScalarUDF::from(function).call(columns.iter().map(|c| c.expr.clone()).collect()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Bytes that are equal if the rows are.
    Bytes,
    /// XXH3 of these bytes: the same on every machine.
    Hash,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Encode {
    what: What,
    signature: Signature,
}

impl ScalarUDFImpl for Encode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        match self.what {
            What::Bytes => "row_bytes",
            What::Hash => "row_hash",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DfResult<DataType> {
        Ok(match self.what {
            What::Bytes => DataType::Binary,
            What::Hash => DataType::UInt64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let columns: Vec<ArrayRef> = columns.iter().map(comparable).collect();
        let rows = rows(&columns)?;
        let encoded: ArrayRef = match self.what {
            What::Bytes => Arc::new(BinaryArray::from_iter_values(rows.iter())),
            What::Hash => Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| {
                let mut hash = XxHash3_64::with_seed(0);
                hash.write(row.as_ref());
                hash.finish()
            }))),
        };
        Ok(ColumnarValue::Array(encoded))
    }
}

fn rows(columns: &[ArrayRef]) -> DfResult<Rows> {
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(columns)?)
}

/// The row format knows no maps; a map is kept as a list of its entries anyway.
fn comparable(array: &ArrayRef) -> ArrayRef {
    let target = comparable_type(array.data_type());
    if target == *array.data_type() {
        return Arc::clone(array);
    }
    match (array.data_type(), target) {
        (DataType::Map(..), DataType::List(field)) => {
            let map = array.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            Arc::new(ListArray::new(field, map.offsets().clone(), comparable(&entries), map.nulls().cloned()))
        }
        (DataType::List(_), DataType::List(field)) => {
            let list = array.as_list::<i32>();
            Arc::new(ListArray::new(field, list.offsets().clone(), comparable(list.values()), list.nulls().cloned()))
        }
        (DataType::LargeList(_), DataType::LargeList(field)) => {
            let list = array.as_list::<i64>();
            let values = comparable(list.values());
            Arc::new(LargeListArray::new(field, list.offsets().clone(), values, list.nulls().cloned()))
        }
        (DataType::FixedSizeList(..), DataType::FixedSizeList(field, size)) => {
            let list = array.as_fixed_size_list();
            Arc::new(FixedSizeListArray::new(field, size, comparable(list.values()), list.nulls().cloned()))
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let row = array.as_struct();
            let children = row.columns().iter().map(comparable).collect();
            Arc::new(StructArray::new(fields, children, row.nulls().cloned()))
        }
        _ => Arc::clone(array),
    }
}

/// The type of [`comparable`]. What it cannot help with (maps in views, in unions) stays and is refused.
fn comparable_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| -> FieldRef {
        Arc::new(Field::new(field.name(), comparable_type(field.data_type()), field.is_nullable()))
    };
    match data_type {
        DataType::Map(entries, _) => DataType::List(inner(entries)),
        _ if !contains_map(data_type) => data_type.clone(),
        DataType::List(element) => DataType::List(inner(element)),
        DataType::LargeList(element) => DataType::LargeList(inner(element)),
        DataType::FixedSizeList(element, size) => DataType::FixedSizeList(inner(element), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Fields>()),
        other => other.clone(),
    }
}

/// Whether a map is somewhere in values of this type.
pub(crate) fn contains_map(data_type: &DataType) -> bool {
    match data_type {
        DataType::Map(..) => true,
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::FixedSizeList(f, _)
        | DataType::ListView(f)
        | DataType::LargeListView(f) => contains_map(f.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| contains_map(f.data_type())),
        _ => false,
    }
}
