//! Converts stored columns to the columns of the schema.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, GenericListViewArray, MapArray,
    OffsetSizeTrait, PrimitiveArray, RecordBatch, StructArray, make_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, TimestampNanosecondType};
use arrow::error::ArrowError;
use datafusion::common::Result as DFResult;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_expr_adapter::{
    DefaultPhysicalExprAdapterFactory, PhysicalExprAdapter, PhysicalExprAdapterFactory,
};
use hardtack_catalog::types::{Clash, Fit, Policy};
use hardtack_core::{Error, ErrorKind, Result};
use hardtack_transforms::{conversion_problem, convert_array};

use crate::fault::a;

/// Casts refuse what does not fit instead of making it null.
pub(crate) const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// Converts a column to a field of the schema. Fields of structs are matched by name, within lists and maps as well,
/// and missing ones are null. Refuses the first value that does not fit the type.
pub(crate) fn convert_column(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    // The caller detects and reports nulls in required columns.
    let wanted = Field::new(field.name(), field.data_type().clone(), true);
    convert_array(Policy::Read, array, &wanted).map_err(|error| {
        let finer = error.kind() == ErrorKind::Refused && has_nanoseconds(array.data_type());
        if finer && !has_nanoseconds(field.data_type()) { error.hint(NANOSECONDS) } else { error }
    })
}

/// The hint for timestamps that are finer than those of tables.
const NANOSECONDS: &str = "if a timestamp is too fine: `crawl --nanoseconds truncate` rounds it down, and `crawl \
                           --nanoseconds text` turns it into text, which a schema may also declare (`string`)";

fn has_nanoseconds(data_type: &DataType) -> bool {
    let inner = |fields: &Fields| fields.iter().any(|field| has_nanoseconds(field.data_type()));
    match data_type {
        DataType::Timestamp(unit, _) => *unit == TimeUnit::Nanosecond,
        DataType::Struct(fields) => inner(fields),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::Map(item, _) => has_nanoseconds(item.data_type()),
        DataType::Dictionary(_, values) => has_nanoseconds(values),
        _ => false,
    }
}

/// Rounds timestamps in nanoseconds down to whole microseconds, at any depth.
pub(crate) fn whole_microseconds(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    fn whole(data: ArrayData) -> Result<ArrayData, ArrowError> {
        if let DataType::Timestamp(TimeUnit::Nanosecond, _) = data.data_type() {
            let of = data.data_type().clone();
            let array = PrimitiveArray::<TimestampNanosecondType>::from(data);
            let whole = array.unary::<_, TimestampNanosecondType>(|t| t.checked_sub(t.rem_euclid(1000)).unwrap_or(t));
            return Ok(whole.with_data_type(of).into_data());
        }
        if data.child_data().is_empty() {
            return Ok(data);
        }
        let children = data.child_data().iter().cloned().map(whole).collect::<Result<_, _>>()?;
        data.into_builder().child_data(children).build()
    }
    Ok(make_array(whole(array.to_data())?))
}

/// Renames the fields of structs.
pub(crate) fn rename(array: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    use DataType as D;
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    Ok(match (array.data_type(), to) {
        (D::Struct(_), D::Struct(fields)) => Arc::new(rename_fields(array.as_struct(), fields)?),
        (D::List(_), D::List(item)) => Arc::new(rename_items(array.as_list::<i32>(), item)?),
        (D::LargeList(_), D::LargeList(item)) => Arc::new(rename_items(array.as_list::<i64>(), item)?),
        (D::ListView(_), D::ListView(item)) => Arc::new(rename_viewed(array.as_list_view::<i32>(), item)?),
        (D::LargeListView(_), D::LargeListView(item)) => Arc::new(rename_viewed(array.as_list_view::<i64>(), item)?),
        (D::FixedSizeList(_, size), D::FixedSizeList(item, _)) => {
            let list = array.as_fixed_size_list();
            let values = rename(list.values(), item.data_type())?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *size, values, list.nulls().cloned())?)
        }
        (D::Map(..), D::Map(entries, sorted)) => {
            let (map, D::Struct(fields)) = (array.as_map(), entries.data_type()) else {
                return cast_with_options(array, to, &STRICT);
            };
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            let pairs = rename_fields(map.entries(), fields)?;
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted)?)
        }
        _ => cast_with_options(array, to, &STRICT)?,
    })
}

fn rename_fields(rows: &StructArray, fields: &Fields) -> Result<StructArray, ArrowError> {
    let columns = rows.columns().iter().zip(fields).map(|(column, field)| rename(column, field.data_type()));
    let columns = columns.collect::<Result<_, _>>()?;
    StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len())
}

fn rename_items<O: OffsetSizeTrait>(
    list: &GenericListArray<O>,
    item: &FieldRef,
) -> Result<GenericListArray<O>, ArrowError> {
    let values = rename(list.values(), item.data_type())?;
    GenericListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned())
}

fn rename_viewed<O: OffsetSizeTrait>(
    list: &GenericListViewArray<O>,
    item: &FieldRef,
) -> Result<GenericListViewArray<O>, ArrowError> {
    let values = rename(list.values(), item.data_type())?;
    let (offsets, sizes) = (list.offsets().clone(), list.sizes().clone());
    GenericListViewArray::try_new(Arc::clone(item), offsets, sizes, values, list.nulls().cloned())
}

/// Refuses a column that a file lacks, or stores with a type that can never be converted to the schema's.
pub(crate) fn check(column: &str, stored: &Schema, wanted: &Schema) -> Result<()> {
    let Ok(wanted) = wanted.field_with_name(column) else { return Ok(()) };
    let refuse = |why: String| Err(Error::refused(why).with("column", column));
    match stored.field_with_name(column) {
        Ok(stored) => match conversion_problem(Policy::Read, stored, wanted) {
            None => Ok(()),
            Some(Clash { path, first, other }) => {
                let (is, wanted) = (a(&first), a(&other));
                let why = format!("the file stores {is}, which is not always {wanted}, as the schema requires");
                Err(Error::refused(why).with("column", path))
            }
        },
        Err(_) if wanted.is_nullable() => Ok(()),
        Err(_) => refuse("the file lacks a column that the schema requires".to_owned()),
    }
}

// --- in plans ------------------------------------------------------------------------------------------------------

/// DataFusion's conversion of stored columns to a plan's schema, but lossless, and with new fields for structs within
/// lists and maps.
#[derive(Debug, Default)]
pub(crate) struct Lossless {
    /// Whether timestamps in nanoseconds are first rounded down to microseconds.
    pub(crate) truncates: bool,
}

impl PhysicalExprAdapterFactory for Lossless {
    fn create(&self, wanted: SchemaRef, stored: SchemaRef) -> DFResult<Arc<dyn PhysicalExprAdapter>> {
        // DataFusion must leave the columns that are converted here as they are stored.
        let left = |field: &FieldRef| match stored.field_with_name(field.name()) {
            Ok(stored) if is_ours(stored.data_type(), field.data_type()) => {
                Arc::new(field.as_ref().clone().with_data_type(stored.data_type().clone()))
            }
            _ => Arc::clone(field),
        };
        let as_left: Arc<Schema> = Arc::new(Schema::new(wanted.fields().iter().map(left).collect::<Fields>()));
        let inner = DefaultPhysicalExprAdapterFactory.create(as_left, Arc::clone(&stored))?;
        Ok(Arc::new(LosslessAdapter { inner, wanted, stored, truncates: self.truncates }))
    }
}

/// Whether DataFusion's conversion from one type to another would lose something, or fail: it rounds, truncates to the
/// unit, and takes times in a zone for times without one. And it supports fewer conversions of structs.
fn is_ours(stored: &DataType, wanted: &DataType) -> bool {
    match (stored, wanted) {
        // DataFusion refuses values that are too large.
        (stored, wanted) if stored.is_integer() && wanted.is_integer() => false,
        (DataType::Timestamp(unit, zone), DataType::Timestamp(finer, same)) => unit > finer || zone != same,
        (stored, wanted) => Policy::Read.fit(stored, wanted) != Some(Fit::Always),
    }
}

#[derive(Debug)]
struct LosslessAdapter {
    inner: Arc<dyn PhysicalExprAdapter>,
    wanted: SchemaRef,
    stored: SchemaRef,
    truncates: bool,
}

impl LosslessAdapter {
    /// The conversion of a column that is stored with another type, if it is ours to convert.
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
            let how = if self.truncates { Conversion::Truncating } else { Conversion::Exact };
            Ok(Arc::new(Convert::new(column, wanted.clone(), how)) as Arc<dyn PhysicalExpr>)
        })
    }
}

impl PhysicalExprAdapter for LosslessAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> DFResult<Arc<dyn PhysicalExpr>> {
        for column in collect_columns(&expr) {
            check(column.name(), &self.stored, &self.wanted)?;
        }
        // A bare column is about to be read; converting it here lets errors name it. In filters, DataFusion's own cast
        // is needed, because pruning of row groups understands it.
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

/// [`convert_column`] or [`rename`] as an expression.
#[derive(Debug)]
pub(crate) struct Convert {
    column: Arc<dyn PhysicalExpr>,
    to: FieldRef,
    how: Conversion,
}

/// The ways to [`Convert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Conversion {
    /// Renames the fields of structs, and does nothing else.
    Renaming,
    Exact,
    /// Like `Exact`, after rounding nanoseconds down.
    Truncating,
}

impl Convert {
    pub(crate) fn new(column: Arc<dyn PhysicalExpr>, to: Field, how: Conversion) -> Self {
        Self { column, to: Arc::new(to), how }
    }
}

impl PartialEq for Convert {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.to == other.to && self.how == other.how
    }
}

impl Eq for Convert {}

impl Hash for Convert {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.to.hash(state);
        self.how.hash(state);
    }
}

impl fmt::Display for Convert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.how {
            Conversion::Renaming => "RENAME",
            Conversion::Exact => "CONVERT",
            Conversion::Truncating => "TRUNCATE",
        };
        write!(f, "{what}({} AS {})", self.column, self.to.data_type())
    }
}

impl PhysicalExpr for Convert {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn evaluate(&self, batch: &RecordBatch) -> DFResult<ColumnarValue> {
        let column = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(match self.how {
            Conversion::Renaming => rename(&column, self.to.data_type())?,
            Conversion::Exact => convert_column(&column, &self.to)?,
            Conversion::Truncating => convert_column(&whole_microseconds(&column)?, &self.to)?,
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
        Ok(Arc::new(Self { column, to: Arc::clone(&self.to), how: self.how }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::hash::DefaultHasher;

    use arrow::datatypes::TimeUnit::{self, Microsecond, Nanosecond};
    use arrow::json::ReaderBuilder;
    use arrow::util::display::array_value_to_string;
    use datafusion::physical_expr::expressions::IsNotNullExpr;
    use datafusion::physical_expr_common::physical_expr::fmt_sql;
    use rstest::rstest;

    use super::*;

    fn structure(fields: &[(&str, DataType)]) -> DataType {
        DataType::Struct(fields.iter().map(|(name, of)| Field::new(*name, of.clone(), true)).collect())
    }

    fn int(name: &str, of: DataType) -> DataType {
        structure(&[(name, of)])
    }

    fn map(key: &str, of: DataType) -> DataType {
        let pair = vec![Field::new(key, DataType::Utf8, false), Field::new("value", of, true)];
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
    }

    fn item(of: DataType) -> FieldRef {
        Arc::new(Field::new("item", of, true))
    }

    fn at(unit: TimeUnit) -> DataType {
        DataType::Timestamp(unit, None)
    }

    fn column(of: &DataType, json: &str) -> ArrayRef {
        let schema = Arc::new(Schema::new(vec![Field::new("c", of.clone(), true)]));
        let text = format!(r#"{{"c":{json}}}"#);
        let batch = ReaderBuilder::new(schema).build(text.as_bytes()).unwrap().next().unwrap().unwrap();
        Arc::clone(batch.column(0))
    }

    /// Fields of structs are matched by name, at any depth.
    #[rstest]
    #[case(int("x", DataType::Int32), structure(&[("y", DataType::Int8), ("x", DataType::Int64)]), r#"{"x":1}"#, "{y: , x: 1}")]
    #[case(DataType::new_list(int("x", DataType::Int32), true), DataType::new_list(structure(&[("y", DataType::Int8), ("x", DataType::Int64)]), true), r#"[{"x":1},null]"#, "[{y: , x: 1}, ]")]
    #[case(DataType::new_large_list(int("x", DataType::Int32), true), DataType::new_large_list(structure(&[("y", DataType::Int8), ("x", DataType::Int64)]), true), r#"[{"x":1},null]"#, "[{y: , x: 1}, ]")]
    #[case(map("k", int("x", DataType::Int32)), map("key", structure(&[("y", DataType::Int8), ("x", DataType::Int64)])), r#"{"a":{"x":1}}"#, "{a: {y: , x: 1}}")]
    #[case(at(Nanosecond), at(Microsecond), r#""2024-01-01T00:00:00.000001000""#, "2024-01-01T00:00:00.000001")]
    #[case(at(Microsecond), at(Nanosecond), r#""2024-01-01T00:00:00.000001""#, "2024-01-01T00:00:00.000001")]
    fn values_are_converted_at_any_depth(
        #[case] from: DataType,
        #[case] to: DataType,
        #[case] json: &str,
        #[case] shown: &str,
    ) {
        let converted = convert_column(&column(&from, json), &Field::new("c", to.clone(), true)).unwrap();
        assert_eq!(converted.data_type(), &to);
        assert_eq!(array_value_to_string(&converted, 0).unwrap(), shown);
    }

    /// Fields keep their positions, even if the new name of one is the old name of another.
    #[rstest]
    #[case::structure(|of| of, "{\"x\":1,\"y\":2}", "{y: 1, x: 2}")]
    #[case::structure_in_structure(|of| structure(&[("s", of)]), "{\"s\":{\"x\":1,\"y\":2}}", "{s: {y: 1, x: 2}}")]
    #[case::list(|of| DataType::new_list(of, true), "[{\"x\":1,\"y\":2},null]", "[{y: 1, x: 2}, ]")]
    #[case::large_list(|of| DataType::new_large_list(of, true), "[{\"x\":1,\"y\":2},null]", "[{y: 1, x: 2}, ]")]
    #[case::list_view(|of| DataType::ListView(item(of)), "[{\"x\":1,\"y\":2},null]", "[{y: 1, x: 2}, ]")]
    #[case::large_list_view(|of| DataType::LargeListView(item(of)), "[{\"x\":1,\"y\":2},null]", "[{y: 1, x: 2}, ]")]
    #[case::fixed_list(|of| DataType::new_fixed_size_list(of, 2, true), "[{\"x\":1,\"y\":2},null]", "[{y: 1, x: 2}, ]")]
    #[case::map(|of| map("k", of), "{\"a\":{\"x\":1,\"y\":2}}", "{a: {y: 1, x: 2}}")]
    fn fields_get_other_names_at_any_depth(
        #[case] around: fn(DataType) -> DataType,
        #[case] json: &str,
        #[case] shown: &str,
    ) {
        let numbers = |names: [&str; 2]| around(structure(&names.map(|name| (name, DataType::Int32))));
        let to = numbers(["y", "x"]);
        let renamed = rename(&column(&numbers(["x", "y"]), json), &to).unwrap();
        assert_eq!(renamed.data_type(), &to);
        assert_eq!(array_value_to_string(&renamed, 0).unwrap(), shown);
    }

    #[test]
    fn what_a_unit_does_not_hold_is_refused() {
        let fine = column(&at(Nanosecond), r#""2024-01-01T00:00:00.000001001""#);
        let refused = convert_column(&fine, &Field::new("at", at(Microsecond), true)).unwrap_err();
        let named = ["column", "value", "declared"].map(|key| refused.get(key));
        let fine = "2024-01-01T00:00:00.000001001";
        assert_eq!(named, [Some("at"), Some(fine), Some("Timestamp(µs)")], "{refused}");
    }

    /// In filters, pruning of row groups understands DataFusion's own cast, but it must be lossless.
    #[rstest]
    #[case::wider(DataType::Int32, DataType::Int64, "1", false)]
    #[case::same(DataType::Int32, DataType::Int32, "1", false)]
    #[case::same_list(
        DataType::new_list(DataType::Int32, true),
        DataType::new_list(DataType::Int32, true),
        "[1]",
        false
    )]
    #[case::finer(at(Microsecond), at(Nanosecond), r#""2024-01-01T00:00:00""#, false)]
    #[case::coarser(at(Nanosecond), at(Microsecond), r#""2024-01-01T00:00:00""#, true)]
    #[case::zone(DataType::Timestamp(Microsecond, Some("UTC".into())), at(Microsecond), r#""2024-01-01T00:00:00Z""#, true)]
    #[case::narrower(DataType::Int64, DataType::Int32, "1", false)]
    #[case::double_of_integer(DataType::Int64, DataType::Float64, "1", true)]
    #[case::double_of_small_integer(DataType::Int32, DataType::Float64, "1", false)]
    #[case::wider_float(DataType::Float32, DataType::Float64, "1", false)]
    #[case::decimal(DataType::Decimal128(9, 2), DataType::Decimal128(9, 1), "1.5", true)]
    #[case::integer_of_text(DataType::Utf8, DataType::Int32, r#""1""#, true)]
    #[case::text_of_integer(DataType::Int32, DataType::Utf8, "1", false)]
    #[case::list_of_numbers(
        DataType::new_list(DataType::Int32, true),
        DataType::new_list(DataType::Int64, true),
        "[1]",
        true
    )]
    #[case::nothing_as_list(DataType::Null, DataType::new_list(DataType::Int64, true), "null", false)]
    #[case::nothing_as_structure(DataType::Null, int("x", DataType::Int64), "null", false)]
    #[case::list(DataType::new_list(int("x", DataType::Int32), true), DataType::new_list(structure(&[("x", DataType::Int32), ("y", DataType::Int32)]), true), r#"[{"x":1}]"#, true)]
    #[case::map(map("key", int("x", DataType::Int32)), map("key", int("x", DataType::Int64)), r#"{"a":{"x":1}}"#, true)]
    #[case::structure(int("x", DataType::Int32), int("x", DataType::Int64), r#"{"x":1}"#, true)]
    #[case::list_in_structure(
        int("x", DataType::new_list(DataType::Int32, true)),
        int("x", DataType::new_list(DataType::Int64, true)),
        r#"{"x":[1]}"#,
        true
    )]
    #[case::coarser_in_structure(
        int("x", at(Nanosecond)),
        int("x", at(Microsecond)),
        r#"{"x":"2024-01-01T00:00:00"}"#,
        true
    )]
    #[case::coarser_is_another_field(structure(&[("x", at(Nanosecond)), ("y", at(Microsecond))]), structure(&[("y", at(Microsecond))]), r#"{"x":"2024-01-01T00:00:00"}"#, true)]
    fn filters_convert_what_datafusion_could_lose(
        #[case] stored: DataType,
        #[case] wanted: DataType,
        #[case] json: &str,
        #[case] ours: bool,
    ) {
        let schema = |of: &DataType| Arc::new(Schema::new(vec![Field::new("c", of.clone(), true)]));
        let adapter = Lossless::default().create(schema(&wanted), schema(&stored)).unwrap();
        let filter: Arc<dyn PhysicalExpr> = Arc::new(IsNotNullExpr::new(Arc::new(Column::new("c", 0))));
        let filter = adapter.rewrite(filter).unwrap();
        assert_eq!(filter.to_string().contains("CONVERT("), ours, "{filter}");
        assert_eq!(filter.to_string() == "c@0 IS NOT NULL", stored == wanted, "{filter}");
        let batch = RecordBatch::try_new(schema(&stored), vec![column(&stored, json)]).unwrap();
        let found = filter.evaluate(&batch).unwrap().into_array(1).unwrap();
        assert_eq!(found.as_boolean().value(0), json != "null");
    }

    #[test]
    fn conversions_are_the_same_if_they_do_the_same() {
        let column = |name: &str| Arc::new(Column::new(name, 0)) as Arc<dyn PhysicalExpr>;
        let field = |of: DataType| Field::new("c", of, true);
        let all = || {
            [
                Convert::new(column("c"), field(DataType::Int64), Conversion::Exact),
                Convert::new(column("d"), field(DataType::Int64), Conversion::Exact),
                Convert::new(column("c"), field(DataType::Int32), Conversion::Exact),
                Convert::new(column("c"), field(DataType::Int64), Conversion::Renaming),
                Convert::new(column("c"), field(DataType::Int64), Conversion::Truncating),
            ]
        };
        let hash = |conversion: &Convert| {
            let mut hasher = DefaultHasher::new();
            conversion.hash(&mut hasher);
            hasher.finish()
        };
        for (i, one) in all().iter().enumerate() {
            for (j, other) in all().iter().enumerate() {
                assert_eq!((one == other, hash(one) == hash(other)), (i == j, i == j), "{one} and {other}");
            }
        }
        let shown = all().map(|conversion| conversion.to_string());
        assert_eq!(shown[2..], ["CONVERT(c@0 AS Int32)", "RENAME(c@0 AS Int64)", "TRUNCATE(c@0 AS Int64)"]);
        assert_eq!(fmt_sql(&all()[2]).to_string(), shown[2]);
    }
}
