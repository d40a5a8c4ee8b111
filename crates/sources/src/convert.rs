//! Columns as a file stores them to columns as the schema wants them.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, GenericListArray, MapArray, OffsetSizeTrait, RecordBatch, StructArray, new_null_array,
};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use datafusion::common::Result as DFResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use hardtack_core::{Error, Result};

use crate::fault::{a, cut};
use crate::widen::is_readable;

/// Casts refuse what does not fit instead of making it null.
pub(crate) const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// Converts an array; the fields of structs are found by name, also inside of lists and maps, and are null where there is
/// none.
pub(crate) fn convert(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    convert_by(|rows, _, name| rows.column_by_name(name), array, to)
}

/// Gives the fields of structs other names.
pub(crate) fn rename(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    convert_by(|rows, place, _| rows.columns().get(place), array, to)
}

/// Which of the columns of a struct is the field at this place with this name.
type Pick = for<'a> fn(&'a StructArray, usize, &str) -> Option<&'a ArrayRef>;

fn convert_by(pick: Pick, array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(match (array.data_type(), to) {
        (DataType::Struct(_), DataType::Struct(fields)) => Arc::new(convert_struct(pick, array.as_struct(), fields)?),
        (DataType::List(_), DataType::List(item)) => Arc::new(convert_list(pick, array.as_list::<i32>(), item)?),
        (DataType::LargeList(_), DataType::LargeList(item)) => {
            Arc::new(convert_list(pick, array.as_list::<i64>(), item)?)
        }
        (DataType::Map(..), DataType::Map(entries, sorted)) => {
            let (map, DataType::Struct(fields)) = (array.as_map(), entries.data_type()) else {
                return cast_with_options(array, to, &STRICT);
            };
            // Files name key and value as they like; their places count.
            let pairs = map.entries().columns().iter().zip(fields).map(|(c, f)| convert_by(pick, c, f.data_type()));
            let pairs = StructArray::try_new(fields.clone(), pairs.collect::<Result<_, _>>()?, None)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?)
        }
        (DataType::Timestamp(from, _), DataType::Timestamp(unit, _)) if from > unit => coarser(array, to)?,
        _ => cast_with_options(array, to, &STRICT)?,
    })
}

fn convert_struct(pick: Pick, rows: &StructArray, fields: &Fields) -> Result<StructArray, ArrowError> {
    let column = |(place, field): (usize, &FieldRef)| match pick(rows, place, field.name()) {
        Some(column) => convert_by(pick, column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), rows.len())),
    };
    let columns = fields.iter().enumerate().map(column).collect::<Result<_, _>>()?;
    StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len())
}

fn convert_list<O: OffsetSizeTrait>(
    pick: Pick,
    list: &GenericListArray<O>,
    item: &FieldRef,
) -> Result<GenericListArray<O>, ArrowError> {
    let values = convert_by(pick, list.values(), item.data_type())?;
    GenericListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())
}

/// Timestamps in a coarser unit, of which arrow would cut off the rest.
fn coarser(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let cast = cast_with_options(array, to, &STRICT)?;
    let same = not_distinct(&cast_with_options(&cast, array.data_type(), &STRICT)?, array)?;
    match same.values().iter().position(|same| !same) {
        None => Ok(cast),
        Some(row) => {
            let value = array_value_to_string(array, row)?;
            Err(ArrowError::CastError(format!("`{value}` is finer than {}", a(to))))
        }
    }
}

/// [`convert`], with an error that names the column.
pub(crate) fn convert_column(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    convert(array, field.data_type()).map_err(|e| {
        let text = e.to_string();
        let text = text.split_once(" error: ").map_or(text.as_str(), |(_, text)| text);
        Error::refused(cut(text)).with("column", field.name())
    })
}

/// Refuses a column that a file stores in a way that cannot always be read as the schema wants it, or that it lacks.
pub(crate) fn check(column: &str, stored: &Schema, wanted: &Schema) -> Result<()> {
    let Ok(wanted) = wanted.field_with_name(column) else { return Ok(()) };
    let refuse = |why: String| Err(Error::refused(why).with("column", column));
    match stored.field_with_name(column) {
        Ok(stored) if is_readable(stored.data_type(), wanted.data_type()) => Ok(()),
        Ok(stored) => {
            let (is, wanted) = (a(stored.data_type()), a(wanted.data_type()));
            refuse(format!("the file stores {is}, which is not always {wanted}, as the schema wants"))
        }
        Err(_) if wanted.is_nullable() => Ok(()),
        Err(_) => refuse("the file lacks a column that the schema requires".to_owned()),
    }
}

// --- in plans ------------------------------------------------------------------------------------------------------

/// DataFusion's conversion of what a file stores to what a plan wants, but nothing may be lost, and structs inside of lists
/// and maps may gain fields.
#[derive(Debug)]
pub(crate) struct Lossless;

impl PhysicalExprAdapterFactory for Lossless {
    fn create(&self, wanted: SchemaRef, stored: SchemaRef) -> DFResult<Arc<dyn PhysicalExprAdapter>> {
        // What is converted here, DataFusion is to leave as it is stored.
        let left = |field: &FieldRef| match stored.field_with_name(field.name()) {
            Ok(stored) if is_ours(stored.data_type(), field.data_type()) => {
                Arc::new(field.as_ref().clone().with_data_type(stored.data_type().clone()))
            }
            _ => Arc::clone(field),
        };
        let as_left: Arc<Schema> = Arc::new(Schema::new(wanted.fields().iter().map(left).collect::<Fields>()));
        let inner = DefaultPhysicalExprAdapterFactory.create(as_left, Arc::clone(&stored))?;
        Ok(Arc::new(LosslessAdapter { inner, wanted, stored }))
    }
}

/// Whether DataFusion cannot convert this, or would lose something.
fn is_ours(stored: &DataType, wanted: &DataType) -> bool {
    stored != wanted && (holds_list(stored) || is_finer(stored, wanted)) && is_readable(stored, wanted)
}

fn is_finer(stored: &DataType, wanted: &DataType) -> bool {
    match (stored, wanted) {
        (DataType::Timestamp(stored, _), DataType::Timestamp(wanted, _)) => stored > wanted,
        (DataType::Struct(stored), DataType::Struct(wanted)) => {
            stored.iter().any(|s| wanted.iter().any(|w| w.name() == s.name() && is_finer(s.data_type(), w.data_type())))
        }
        _ => false,
    }
}

fn holds_list(of: &DataType) -> bool {
    match of {
        DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) => true,
        DataType::Struct(fields) => fields.iter().any(|f| holds_list(f.data_type())),
        _ => false,
    }
}

#[derive(Debug)]
struct LosslessAdapter {
    inner: Arc<dyn PhysicalExprAdapter>,
    wanted: SchemaRef,
    stored: SchemaRef,
}

impl LosslessAdapter {
    /// What converts a column that is stored with another type than wanted, if it is for us to convert.
    fn conversion(
        &self,
        column: &Column,
        ours: impl Fn(&DataType, &DataType) -> bool,
    ) -> Option<DFResult<Arc<dyn PhysicalExpr>>> {
        let stored = self.stored.field_with_name(column.name()).ok()?;
        let wanted = self.wanted.field_with_name(column.name()).ok()?;
        let differ = stored.data_type() != wanted.data_type() && ours(stored.data_type(), wanted.data_type());
        differ.then(|| {
            let column = Arc::new(Column::new_with_schema(column.name(), &self.stored)?);
            Ok(Arc::new(Convert::converting(column, wanted.clone())) as Arc<dyn PhysicalExpr>)
        })
    }
}

impl PhysicalExprAdapter for LosslessAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> DFResult<Arc<dyn PhysicalExpr>> {
        for column in collect_columns(&expr) {
            check(column.name(), &self.stored, &self.wanted)?;
        }
        // A column by itself is about to be read; converting it here names it in errors. In filters DataFusion's own
        // conversion is understood when row groups are pruned.
        if let Some(conversion) = expr.as_any().downcast_ref::<Column>().and_then(|c| self.conversion(c, |_, _| true)) {
            return conversion;
        }
        let convert = |expr: Arc<dyn PhysicalExpr>| match expr
            .as_any()
            .downcast_ref::<Column>()
            .and_then(|c| self.conversion(c, is_ours))
        {
            Some(conversion) => conversion.map(Transformed::yes),
            None => Ok(Transformed::no(expr)),
        };
        self.inner.rewrite(expr.transform(convert).data()?)
    }
}

/// [`convert`] or [`rename`] as an expression.
#[derive(Debug)]
pub(crate) struct Convert {
    column: Arc<dyn PhysicalExpr>,
    to: FieldRef,
    renames: bool,
}

impl Convert {
    fn converting(column: Arc<dyn PhysicalExpr>, to: Field) -> Self {
        Self { column, to: Arc::new(to), renames: false }
    }

    /// Gives the fields of structs other names, and does nothing else.
    pub(crate) fn renaming(column: Arc<dyn PhysicalExpr>, to: Field) -> Self {
        Self { column, to: Arc::new(to), renames: true }
    }
}

impl PartialEq for Convert {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.to == other.to && self.renames == other.renames
    }
}

impl Eq for Convert {}

impl Hash for Convert {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.to.hash(state);
        self.renames.hash(state);
    }
}

impl fmt::Display for Convert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.renames { "RENAME" } else { "CONVERT" };
        write!(f, "{what}({} AS {})", self.column, self.to.data_type())
    }
}

impl PhysicalExpr for Convert {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn evaluate(&self, batch: &RecordBatch) -> DFResult<ColumnarValue> {
        let column = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(match self.renames {
            true => rename(&column, self.to.data_type())?,
            false => convert_column(&column, &self.to)?,
        }))
    }

    fn return_field(&self, _: &Schema) -> DFResult<FieldRef> {
        Ok(Arc::clone(&self.to))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> DFResult<Arc<dyn PhysicalExpr>> {
        let column = children.pop().unwrap_or_else(|| Arc::clone(&self.column));
        Ok(Arc::new(Self { column, to: Arc::clone(&self.to), renames: self.renames }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
