//! Encodes rows as bytes: any columns, including nested ones, become one value that can be compared, grouped and
//! hashed.

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
use hardtack_core::sql::{canonical, canonical_array, holds_floats};
use hardtack_core::{Error, Result};
use twox_hash::XxHash3_64;

use crate::columns::{Found, type_name};

/// An expression by which rows are grouped and sorted: the column itself, or its bytes if it is nested. Two nested
/// values are equal if all their parts are; maps are compared as lists of entries, in their stored order. Numbers are
/// equal where SQL says so: there is one zero and one NaN.
pub(crate) fn key(column: &Found) -> Result<Expr> {
    match column.field.data_type() {
        data_type if data_type.is_nested() => encode(What::Bytes, std::slice::from_ref(column)),
        data_type if holds_floats(data_type) => Ok(canonical(column.expr.clone())),
        _ => Ok(column.expr.clone()),
    }
}

/// A number that orders rows by nothing but their values. Sorting by it costs eight bytes per row, where sorting by the
/// values would hold all of them twice.
pub(crate) fn hash(columns: &[Found]) -> Result<Expr> {
    encode(What::Hash, columns)
}

fn encode(what: What, columns: &[Found]) -> Result<Expr> {
    check(columns)?;
    let function = Encode { what, signature: Signature::variadic_any(Volatility::Immutable) };
    Ok(ScalarUDF::from(function).call(columns.iter().map(|c| c.expr.clone()).collect()))
}

/// Refuses columns whose values cannot be compared.
pub(crate) fn check(columns: &[Found]) -> Result<()> {
    for column in columns {
        let sortable = SortField::new(comparable_type(column.field.data_type()));
        if !RowConverter::supports_fields(&[sortable]) {
            return Err(Error::usage("values of this type cannot be compared")
                .with("column", column.field.name())
                .with("type", type_name(column.field.data_type())));
        }
    }
    Ok(())
}

/// The [`hash`] of each row.
pub(crate) fn hashes(columns: &[ArrayRef]) -> DfResult<Vec<u64>> {
    let columns: Vec<ArrayRef> = columns.iter().map(comparable).collect();
    let hash = |row: datafusion::arrow::row::Row<'_>| {
        let mut hash = XxHash3_64::with_seed(0);
        hash.write(row.as_ref());
        hash.finish()
    };
    Ok(rows(&columns)?.iter().map(hash).collect())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    /// Bytes that are equal if and only if the rows are.
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
        let encoded: ArrayRef = match self.what {
            What::Bytes => {
                let columns = columns.iter().map(canonical_array).collect::<Result<Vec<_>, _>>()?;
                let columns: Vec<ArrayRef> = columns.iter().map(comparable).collect();
                Arc::new(BinaryArray::from_iter_values(rows(&columns)?.iter()))
            }
            // A hash has to distinguish rows that are equal in SQL as well, so it is taken from their bits.
            What::Hash => Arc::new(UInt64Array::from(hashes(&columns)?)),
        };
        Ok(ColumnarValue::Array(encoded))
    }
}

fn rows(columns: &[ArrayRef]) -> DfResult<Rows> {
    let fields = columns.iter().map(|c| SortField::new(c.data_type().clone())).collect();
    Ok(RowConverter::new(fields)?.convert_columns(columns)?)
}

/// The row format does not support maps; a map is stored as a list of its entries anyway.
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

/// The type of [`comparable`]. Types that it cannot convert (maps in views, in unions) stay and are refused.
fn comparable_type(data_type: &DataType) -> DataType {
    let inner = |field: &FieldRef| -> FieldRef {
        Arc::new(Field::new(field.name(), comparable_type(field.data_type()), field.is_nullable()))
    };
    match data_type {
        DataType::Map(entries, _) => DataType::List(inner(entries)),
        DataType::List(element) => DataType::List(inner(element)),
        DataType::LargeList(element) => DataType::LargeList(inner(element)),
        DataType::FixedSizeList(element, size) => DataType::FixedSizeList(inner(element), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect::<Fields>()),
        other => other.clone(),
    }
}

/// Whether values of this type contain a map at any depth.
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::RecordBatch;
    use datafusion::arrow::compute::cast;
    use datafusion::arrow::datatypes::UInt64Type;
    use datafusion::prelude::SessionContext;
    use rstest::rstest;

    use super::*;
    use crate::columns::Columns;
    use crate::testing::batch;

    /// The values of this type (in JSON) as a column.
    fn column(data_type: &str, values: &[&str]) -> ArrayRef {
        let rows: Vec<String> = values.iter().map(|value| format!(r#"{{"v":{value}}}"#)).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        Arc::clone(batch(&format!("v: {data_type}"), &rows).column(0))
    }

    /// Evaluates the expression on a column.
    async fn encoded(column: &ArrayRef, expr: impl Fn(&Found) -> Result<Expr>) -> ArrayRef {
        let rows = RecordBatch::try_from_iter([("v", Arc::clone(column))]).unwrap();
        let df = SessionContext::new().read_batch(rows).unwrap();
        let expr = expr(Columns::of(df.schema()).unwrap().get("v").unwrap()).unwrap();
        Arc::clone(df.select(vec![expr]).unwrap().collect().await.unwrap()[0].column(0))
    }

    async fn bytes(column: &ArrayRef) -> Vec<Vec<u8>> {
        encoded(column, key).await.as_binary::<i32>().iter().map(|value| value.unwrap().to_vec()).collect()
    }

    async fn hashes(column: &ArrayRef) -> Vec<u64> {
        let hashes = encoded(column, |found| hash(std::slice::from_ref(found))).await;
        hashes.as_primitive::<UInt64Type>().values().to_vec()
    }

    fn field(of: &DataType) -> FieldRef {
        Arc::new(Field::new("item", of.clone(), true))
    }

    /// The lists in another layout.
    fn relaid(list: &ArrayRef, layout: fn(FieldRef) -> DataType) -> ArrayRef {
        let DataType::List(element) = list.data_type() else { unreachable!() };
        cast(list, &layout(field(element.data_type()))).unwrap()
    }

    const LISTS_OF_MAPS: &[&str] =
        &["null", r#"[{"a":1},null]"#, r#"[null,{"a":1}]"#, r#"[{"a":1},{}]"#, r#"[{"a":2},{}]"#, r#"[{"b":1},{}]"#];

    /// All of `values` are distinct; the column has two of each.
    #[rstest]
    #[case::list(column("array<int>", &["null", "[]", "[null]", "[1]", "[1,null]", "[null,1]", "[1,1]"]))]
    #[case::structure(column("struct<x:int,y:int>", &["null", "{}", r#"{"x":1}"#, r#"{"y":1}"#, r#"{"x":1,"y":1}"#]))]
    #[case::map(column("map<string,int>", &["null", "{}", r#"{"a":null}"#, r#"{"a":1}"#, r#"{"b":1}"#, r#"{"a":1,"b":1}"#]))]
    #[case::map_of_maps(column("map<string,map<string,int>>", &["{}", r#"{"a":{}}"#, r#"{"a":null}"#, r#"{"a":{"b":1}}"#]))]
    #[case::map_in_struct(column("struct<m:map<string,int>>", &["null", "{}", r#"{"m":{}}"#, r#"{"m":{"a":1}}"#]))]
    #[case::map_in_list(column("array<map<string,int>>", LISTS_OF_MAPS))]
    #[case::map_in_large_list(relaid(&column("array<map<string,int>>", LISTS_OF_MAPS), DataType::LargeList))]
    #[case::map_in_list_of_two(relaid(&column("array<map<string,int>>", LISTS_OF_MAPS), |f| DataType::FixedSizeList(f, 2)))]
    #[case::map_in_structs_in_lists(column("array<struct<m:map<string,int>>>", &["[]", "[{}]", r#"[{"m":{"a":1}}]"#]))]
    #[tokio::test]
    async fn nested_values_are_the_same_if_all_they_contain_is(#[case] values: ArrayRef) {
        let once = bytes(&values).await;
        for (i, value) in once.iter().enumerate() {
            assert!(!once[..i].contains(value), "{values:?}: {i} is like one before");
        }
        assert_eq!(bytes(&values).await, once);
        // A slice of a column keeps the rest behind its offsets.
        assert_eq!(bytes(&values.slice(1, 2)).await, once[1..3]);
        let hashes_once = hashes(&values).await;
        assert_eq!(hashes_once, once.iter().map(|value| XxHash3_64::oneshot(value)).collect::<Vec<_>>());
    }

    /// Which rows stay must not depend on the machine, nor on the release.
    #[tokio::test]
    async fn hashes_are_the_same_for_ever() {
        let numbers = hashes(&column("int", &["1", "null"])).await;
        assert_eq!(numbers, [17952794488726909771, 16745761692019274306]);
    }

    #[tokio::test]
    async fn a_column_that_is_not_nested_is_its_own_key() {
        let values = column("string", &[r#""a""#, "null"]);
        assert_eq!(&encoded(&values, key).await, &values);
    }

    #[rstest]
    #[case(DataType::Map(field(&DataType::Int8), false), true)]
    #[case(DataType::Utf8, false)]
    #[case(DataType::Struct(vec![field(&DataType::Int8)].into()), false)]
    fn maps_are_found_at_any_depth(
        #[case] of: DataType,
        #[case] found: bool,
        #[values(DataType::List, DataType::LargeList, DataType::ListView, DataType::LargeListView)]
        list: fn(FieldRef) -> DataType,
    ) {
        assert_eq!(contains_map(&of), found);
        let fields = vec![field(&DataType::Int8), Arc::new(Field::new("m", of.clone(), true))];
        for around in [list(field(&of)), DataType::FixedSizeList(field(&of), 2), DataType::Struct(fields.into())] {
            assert_eq!(contains_map(&around), found, "{around}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_refused_with_its_type() {
        let entries = vec![Field::new("k", DataType::Int8, false), Field::new("v", DataType::Int8, true)];
        let entries = Arc::new(Field::new("entries", DataType::Struct(entries.into()), false));
        let views = DataType::ListView(field(&DataType::Map(entries, false)));
        let found = Found { expr: datafusion::prelude::col("v"), field: Arc::new(Field::new("v", views, true)) };
        for refused in [key(&found), hash(std::slice::from_ref(&found))] {
            let wanted = "values of this type cannot be compared (column: v, type: array<map<tinyint,tinyint>>)";
            assert_eq!(refused.unwrap_err().to_string(), wanted);
        }
    }

    #[test]
    fn plans_say_what_is_compared() {
        let v = |data_type: &str| Found {
            expr: datafusion::prelude::col("v"),
            field: Arc::clone(batch(&format!("v: {data_type}"), &[]).schema().fields().first().unwrap()),
        };
        assert_eq!(key(&v("array<int>")).unwrap().to_string(), "row_bytes(v)");
        assert_eq!(hash(&[v("int")]).unwrap().to_string(), "row_hash(v)");
        assert_eq!(key(&v("int")).unwrap().to_string(), "v");
    }
}
