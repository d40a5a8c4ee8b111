//! Sort orders of tables: how rows are sorted within a file.

use std::any::Any;

use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, Result as DFResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, ident,
};
use hardtack_core::{Error, Result, nearest};
use hardtack_sinks::SortColumn;
use iceberg::arrow::type_to_arrow_type;
use iceberg::spec::{NestedFieldRef, NullOrder, Schema, SortDirection, SortField, SortOrder, Transform};

use crate::error::failed;
use crate::partition::transformed;

/// The sort order of a new table.
///
/// # Errors
/// Usage for a column that the table does not have.
pub(crate) fn order(sorted_by: &[SortColumn], schema: &Schema) -> Result<SortOrder> {
    if sorted_by.is_empty() {
        return Ok(SortOrder::unsorted_order());
    }
    let field = |by: &SortColumn| {
        let name = by.name();
        let columns = schema.as_struct().fields();
        let column = columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let near = nearest(name, columns.iter().map(|column| column.name.as_str()));
            let error = Error::usage(format!("the table has no column `{name}` to be sorted by"));
            match near {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            }
        })?;
        let direction = if by.is_descending() { SortDirection::Descending } else { SortDirection::Ascending };
        let null_order = if by.has_nulls_first() { NullOrder::First } else { NullOrder::Last };
        Ok(SortField { source_id: column.id, transform: Transform::Identity, direction, null_order })
    };
    let fields = sorted_by.iter().map(field).collect::<Result<_>>()?;
    SortOrder::builder().with_order_id(1).with_fields(fields).build_unbound().map_err(failed)
}

/// How rows are sorted: by columns of a table, and by others that are computed from these and not written.
#[derive(Debug, Default)]
pub(crate) struct Sorting {
    pub(crate) by: Vec<SortColumn>,
    computed: Vec<(String, Expr)>,
}

impl Sorting {
    /// By columns of the table.
    pub(crate) fn by(columns: Vec<SortColumn>) -> Self {
        Self { by: columns, computed: Vec::new() }
    }

    /// By the sort order of a table whose rows have this schema.
    ///
    /// # Errors
    /// Usage for an order by a field within a struct, by a column that was dropped, and by a transform that only a later
    /// version of Iceberg has.
    pub(crate) fn of(order: &SortOrder, schema: &Schema) -> Result<Self> {
        let mut sorting = Self::default();
        for field in order.fields.iter().filter(|field| field.transform != Transform::Void) {
            let column = schema.as_struct().fields().iter().find(|column| column.id == field.source_id);
            let name = match column {
                Some(column) if field.transform == Transform::Identity => column.name.clone(),
                Some(column) if field.transform.result_type(&column.field_type).is_ok() => {
                    let name = format!("__hardtack_sort_{}", sorting.by.len());
                    sorting.computed.push((name.clone(), transform(field.transform, column)?));
                    name
                }
                _ => {
                    let name = schema.name_by_field_id(field.source_id).unwrap_or("?");
                    return Err(Error::usage("rows cannot be sorted by the table's sort order")
                        .with("field", format!("{}({name})", field.transform))
                        .hint(
                            "choose columns, or none, by `.sorted_by([...])` of the sink, or `--sort-by` of `iceberg \
                             compact`",
                        ));
                }
            };
            let by = match field.direction {
                SortDirection::Ascending => SortColumn::asc(name),
                SortDirection::Descending => SortColumn::desc(name),
            };
            sorting.by.push(match field.null_order {
                NullOrder::First => by.nulls_first(),
                NullOrder::Last => by.nulls_last(),
            });
        }
        Ok(sorting)
    }

    /// The columns that are computed.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Expr> {
        self.computed.iter().map(|(name, value)| value.clone().alias(name))
    }

    /// Their names, unlike any column's.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.computed.iter().map(|(name, _)| name.as_str())
    }
}

/// What a transform makes of a column.
fn transform(transform: Transform, column: &NestedFieldRef) -> Result<Expr> {
    let result = transform.result_type(&column.field_type).map_err(failed)?;
    let function = Transformed {
        transform,
        input: type_to_arrow_type(&column.field_type).map_err(failed)?,
        result: type_to_arrow_type(&result).map_err(failed)?,
        signature: Signature::any(1, Volatility::Immutable),
    };
    Ok(ScalarUDF::new_from_impl(function).call(vec![ident(&column.name)]))
}

/// The function of a transform.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Transformed {
    transform: Transform,
    input: DataType,
    result: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for Transformed {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "iceberg_transform"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DFResult<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DFResult<ColumnarValue> {
        let values =
            args.args.into_iter().next().ok_or_else(|| DataFusionError::from(Error::unexpected("one column")))?;
        let values = transformed(self.transform, &values.into_array(args.number_rows)?, &self.input)?;
        Ok(ColumnarValue::Array(cast(&values, &self.result)?))
    }
}
