//! The report of a write: the written files, as rows.
//!
//! A writer reports its files only through the output of its plan. So it can run wherever its rows are, even in another
//! process, and the process that executes the plan decides what becomes visible.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Int32Array, ListArray, RecordBatch, StringArray, StructArray,
    UInt64Array,
};
use datafusion::arrow::buffer::OffsetBuffer;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, Schema, SchemaRef, UInt64Type};
use hardtack_core::{Error, Location, PublishAction, Report, Result};
use parquet::basic::{LogicalType, SortOrder, Type};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

/// A written file.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenFile {
    /// The values of its partition, in the order of the partition columns.
    pub values: Vec<String>,
    /// Its current or future location.
    pub location: Location,
    /// The number of its rows.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// The hash of its content ([`content_hash`](hardtack_core::staging::content_hash)).
    pub xxh3: Option<u64>,
    /// The action that makes it appear; `None` if it was written where no reader looks.
    pub publish: Option<PublishAction>,
    /// The metrics of each leaf column, from the footer.
    pub columns: Vec<ColumnMetrics>,
}

impl WrittenFile {
    /// How much these files are.
    pub fn report(files: &[Self]) -> Report {
        let sum = |of: fn(&Self) -> u64| files.iter().map(of).sum();
        Report { files: files.len() as u64, rows: sum(|f| f.rows), bytes: sum(|f| f.bytes) }
    }
}

/// The metrics of a leaf column, over all row groups of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnMetrics {
    /// The path of the leaf, with parts separated by dots: `id`, `address.city`, `tags.list.element`.
    pub path: String,
    /// Its [field id](crate::ParquetDataset::with_field_ids), if it has one.
    pub field_id: Option<i32>,
    /// Whether it is within a list or a map, so that a row may have any number of its values.
    pub repeated: bool,
    /// Its compressed size in bytes.
    pub bytes: u64,
    /// The number of its values, nulls included.
    pub values: u64,
    /// The number of nulls, if the file has statistics.
    pub nulls: Option<u64>,
    /// A lower bound of its values, encoded as in [Parquet's statistics]: plain, and truncated if long.
    ///
    /// [Parquet's statistics]: https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
    pub min: Option<Vec<u8>>,
    /// An upper bound of its values.
    pub max: Option<Vec<u8>>,
}

impl ColumnMetrics {
    /// The metrics of all leaf columns in a footer, in file order.
    pub fn of(footer: &ParquetMetaData) -> Vec<Self> {
        let leaves = footer.file_metadata().schema_descr().columns();
        leaves.iter().enumerate().map(|(leaf, column)| Self::of_leaf(footer, leaf, column)).collect()
    }

    fn of_leaf(footer: &ParquetMetaData, leaf: usize, column: &ColumnDescriptor) -> Self {
        let chunks = || footer.row_groups().iter().map(|group| group.column(leaf));
        let bytes = chunks().map(|chunk| u64::try_from(chunk.compressed_size()).unwrap_or_default()).sum();
        let values = chunks().map(|chunk| u64::try_from(chunk.num_values()).unwrap_or_default()).sum();
        let nulls_of = |chunk: &ColumnChunkMetaData| chunk.statistics().and_then(Statistics::null_count_opt);
        let nulls = chunks().map(nulls_of).sum();
        // Row groups with only nulls have no bounds; the bounds of the others still hold.
        let only_nulls = |chunk: &&ColumnChunkMetaData| nulls_of(chunk) == u64::try_from(chunk.num_values()).ok();
        let bounded = || chunks().filter(|chunk| !only_nulls(chunk)).map(ColumnChunkMetaData::statistics);
        let bound =
            |of: fn(&Statistics) -> Option<&[u8]>, wanted| fold(bounded().map(|s| s.and_then(of)), column, wanted);
        let min = bound(Statistics::min_bytes_opt, Ordering::Less);
        let max = bound(Statistics::max_bytes_opt, Ordering::Greater);
        let info = column.self_type().get_basic_info();
        let field_id = info.has_id().then(|| info.id());
        let (path, repeated) = (column.path().string(), column.max_rep_level() > 0);
        Self { path, field_id, repeated, bytes, values, nulls, min, max }
    }
}

/// The minimum or maximum of the bounds of row groups; `None` if one of them is missing, or they cannot be compared.
fn fold<'a>(
    mut bounds: impl Iterator<Item = Option<&'a [u8]>>,
    column: &ColumnDescriptor,
    wanted: Ordering,
) -> Option<Vec<u8>> {
    let first = bounds.next()??;
    let best = bounds.try_fold(first, |best, bound| {
        let bound = bound?;
        Some(if compare(column, bound, best)? == wanted { bound } else { best })
    });
    best.map(<[u8]>::to_vec)
}

/// Compares values that are encoded as in statistics.
fn compare(column: &ColumnDescriptor, a: &[u8], b: &[u8]) -> Option<Ordering> {
    let unsigned = column.sort_order() == SortOrder::UNSIGNED;
    match column.physical_type() {
        Type::BOOLEAN => Some(a.cmp(b)),
        Type::INT32 if unsigned => Some(u32::from_le_bytes(four(a)?).cmp(&u32::from_le_bytes(four(b)?))),
        Type::INT32 => Some(i32::from_le_bytes(four(a)?).cmp(&i32::from_le_bytes(four(b)?))),
        Type::INT64 if unsigned => Some(u64::from_le_bytes(eight(a)?).cmp(&u64::from_le_bytes(eight(b)?))),
        Type::INT64 => Some(i64::from_le_bytes(eight(a)?).cmp(&i64::from_le_bytes(eight(b)?))),
        Type::FLOAT => f32::from_le_bytes(four(a)?).partial_cmp(&f32::from_le_bytes(four(b)?)),
        Type::DOUBLE => f64::from_le_bytes(eight(a)?).partial_cmp(&f64::from_le_bytes(eight(b)?)),
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY if unsigned => Some(a.cmp(b)),
        Type::BYTE_ARRAY | Type::FIXED_LEN_BYTE_ARRAY => match column.logical_type_ref() {
            Some(LogicalType::Decimal { .. }) => Some(compare_decimals(a, b)),
            _ => None,
        },
        Type::INT96 => None,
    }
}

fn four(bytes: &[u8]) -> Option<[u8; 4]> {
    bytes.try_into().ok()
}

fn eight(bytes: &[u8]) -> Option<[u8; 8]> {
    bytes.try_into().ok()
}

/// Compares big-endian numbers in two's complement, of any length.
fn compare_decimals(a: &[u8], b: &[u8]) -> Ordering {
    let sign = |number: &[u8]| if number.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff_u8 } else { 0 };
    let width = a.len().max(b.len());
    let wide = |number: &[u8]| [vec![sign(number); width - number.len()], number.to_vec()].concat();
    // With equal signs the bytes decide; otherwise the negative number is less.
    sign(b).cmp(&sign(a)).then_with(|| wide(a).cmp(&wide(b)))
}

static COLUMN_FIELDS: LazyLock<Fields> = LazyLock::new(|| {
    Fields::from(vec![
        Field::new("path", DataType::Utf8, false),
        Field::new("field_id", DataType::Int32, true),
        Field::new("repeated", DataType::Boolean, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("values", DataType::UInt64, false),
        Field::new("nulls", DataType::UInt64, true),
        Field::new("min", DataType::Binary, true),
        Field::new("max", DataType::Binary, true),
    ])
});

/// The columns of the report.
pub(crate) static REPORT: LazyLock<SchemaRef> = LazyLock::new(|| {
    Arc::new(Schema::new(vec![
        Field::new("location", DataType::Utf8, false),
        Field::new("values", DataType::List(item(DataType::Utf8)), false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("xxh3", DataType::UInt64, true),
        Field::new("publish", DataType::Utf8, true),
        Field::new("columns", DataType::List(item(DataType::Struct(COLUMN_FIELDS.clone()))), false),
    ]))
});

fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, false))
}

/// Encodes files as rows.
pub(crate) fn encode(files: &[WrittenFile]) -> Result<RecordBatch> {
    let publish = |file: &WrittenFile| file.publish.as_ref().map(serde_json::to_string).transpose();
    let publish: Vec<Option<String>> = files
        .iter()
        .map(publish)
        .collect::<Result<_, _>>()
        .map_err(|e| Error::unexpected("a publish action cannot be written").because(e))?;
    let values: Vec<&String> = files.iter().flat_map(|file| &file.values).collect();
    let values = list(files, Arc::new(StringArray::from_iter_values(values)), |file| file.values.len())?;
    let columns = list(files, Arc::new(encode_columns(files)?), |file| file.columns.len())?;
    let number =
        |of: fn(&WrittenFile) -> u64| Arc::new(UInt64Array::from_iter_values(files.iter().map(of))) as ArrayRef;
    let locations = StringArray::from_iter_values(files.iter().map(|file| file.location.as_str()));
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(locations),
        values,
        number(|file| file.rows),
        number(|file| file.bytes),
        Arc::new(files.iter().map(|file| file.xxh3).collect::<UInt64Array>()),
        Arc::new(StringArray::from(publish)),
        columns,
    ];
    Ok(RecordBatch::try_new(Arc::clone(&REPORT), arrays)?)
}

fn encode_columns(files: &[WrittenFile]) -> Result<StructArray> {
    let all: Vec<&ColumnMetrics> = files.iter().flat_map(|file| &file.columns).collect();
    let bounds = |of: fn(&ColumnMetrics) -> Option<&[u8]>| -> ArrayRef {
        Arc::new(all.iter().map(|column| of(column)).collect::<BinaryArray>())
    };
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(all.iter().map(|column| &column.path))),
        Arc::new(all.iter().map(|column| column.field_id).collect::<Int32Array>()),
        Arc::new(all.iter().map(|column| Some(column.repeated)).collect::<BooleanArray>()),
        Arc::new(UInt64Array::from_iter_values(all.iter().map(|column| column.bytes))),
        Arc::new(UInt64Array::from_iter_values(all.iter().map(|column| column.values))),
        Arc::new(all.iter().map(|column| column.nulls).collect::<UInt64Array>()),
        bounds(|column| column.min.as_deref()),
        bounds(|column| column.max.as_deref()),
    ];
    Ok(StructArray::try_new(COLUMN_FIELDS.clone(), arrays, None)?)
}

fn list(files: &[WrittenFile], items: ArrayRef, length: impl Fn(&WrittenFile) -> usize) -> Result<ArrayRef> {
    let offsets = OffsetBuffer::from_lengths(files.iter().map(length));
    Ok(Arc::new(ListArray::try_new(item(items.data_type().clone()), offsets, items, None)?))
}

/// The inverse of [`encode`].
pub(crate) fn decode(batches: &[RecordBatch]) -> Result<Vec<WrittenFile>> {
    let mut files = Vec::new();
    for batch in batches {
        if batch.schema().fields() != REPORT.fields() {
            return Err(
                Error::unexpected("a write has reported something else than files").with("columns", batch.schema())
            );
        }
        for row in 0..batch.num_rows() {
            files.push(decode_file(batch, row)?);
        }
    }
    Ok(files)
}

fn decode_file(batch: &RecordBatch, row: usize) -> Result<WrittenFile> {
    let number = |column: usize| batch.column(column).as_primitive::<UInt64Type>();
    let text = |column: usize| batch.column(column).as_string::<i32>();
    let values = batch.column(1).as_list::<i32>().value(row);
    let publish = text(5).is_valid(row).then(|| serde_json::from_str(text(5).value(row))).transpose();
    let columns = batch.column(6).as_list::<i32>().value(row);
    Ok(WrittenFile {
        location: Location::from(text(0).value(row)),
        values: values.as_string::<i32>().iter().flatten().map(str::to_owned).collect(),
        rows: number(2).value(row),
        bytes: number(3).value(row),
        xxh3: number(4).is_valid(row).then(|| number(4).value(row)),
        publish: publish.map_err(|e| Error::unexpected("a write has reported no publish action").because(e))?,
        columns: decode_columns(columns.as_struct()),
    })
}

fn decode_columns(columns: &StructArray) -> Vec<ColumnMetrics> {
    let numbers = |column: usize| columns.column(column).as_primitive::<UInt64Type>();
    let bound = |column: usize, row: usize| {
        let bounds = columns.column(column).as_binary::<i32>();
        bounds.is_valid(row).then(|| bounds.value(row).to_vec())
    };
    let ids = columns.column(1).as_primitive::<Int32Type>();
    let column = |row: usize| ColumnMetrics {
        path: columns.column(0).as_string::<i32>().value(row).to_owned(),
        field_id: ids.is_valid(row).then(|| ids.value(row)),
        repeated: columns.column(2).as_boolean().value(row),
        bytes: numbers(3).value(row),
        values: numbers(4).value(row),
        nulls: numbers(5).is_valid(row).then(|| numbers(5).value(row)),
        min: bound(6, row),
        max: bound(7, row),
    };
    (0..columns.len()).map(column).collect()
}

#[cfg(test)]
mod tests {
    use hardtack_core::JobContext;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::{ParquetDataset, Statistics as Kept};

    fn any_file() -> impl Strategy<Value = WrittenFile> {
        let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5));
        let numbers = any::<(u64, u64, Option<u64>)>();
        let column = ("[a-z.]{1,5}", any::<(Option<i32>, bool)>(), numbers, bytes(), bytes());
        let column = column.prop_map(|(path, (field_id, repeated), (bytes, values, nulls), min, max)| ColumnMetrics {
            path,
            field_id,
            repeated,
            bytes,
            values,
            nulls,
            min,
            max,
        });
        let columns = proptest::collection::vec(column, 0..4);
        let values = proptest::collection::vec(".{0,4}", 0..3);
        let publish =
            proptest::option::of("[a-z]{1,4}".prop_map(|name| PublishAction::Delete { location: name.into() }));
        (".{1,9}", values, any::<(u64, u64, Option<u64>)>(), publish, columns).prop_map(
            |(location, values, (rows, bytes, xxh3), publish, columns)| WrittenFile {
                values,
                location: location.into(),
                rows,
                bytes,
                xxh3,
                publish,
                columns,
            },
        )
    }

    proptest! {
        #[test]
        fn files_come_back_from_rows(files in proptest::collection::vec(any_file(), 0..5)) {
            let rows = encode(&files).unwrap();
            prop_assert_eq!(rows.num_rows(), files.len());
            prop_assert_eq!(decode(&[rows]).unwrap(), files);
        }

        #[test]
        fn decimals_of_any_width_compare_as_numbers(a in any::<i64>(), b in -300_i64..300) {
            let narrow = |n: i64| {
                let bytes = n.to_be_bytes();
                let sign = if n < 0 { 0xff } else { 0 };
                let skip = (0..7).take_while(|i| bytes[*i] == sign && (bytes[i + 1] ^ sign) & 0x80 == 0).count();
                bytes[skip..].to_vec()
            };
            for (x, y) in [(a, b), (b, a), (a, a), (b, b)] {
                prop_assert_eq!(compare_decimals(&narrow(x), &narrow(y)), x.cmp(&y));
                prop_assert_eq!(compare_decimals(&narrow(x), &y.to_be_bytes()), x.cmp(&y));
            }
        }
    }

    async fn metrics(dataset: &ParquetDataset, rows: &str) -> Vec<ColumnMetrics> {
        let ctx = JobContext::builder("job").threads(1).build().unwrap();
        let rows = ctx.session().sql(rows).await.unwrap();
        let mut files = dataset.write_files(&ctx.staging("out"), rows, dataset.below("")).await.unwrap();
        assert_eq!(files.len(), 1);
        files.remove(0).columns
    }

    /// In one row group or several, including ones with only nulls.
    #[rstest]
    #[tokio::test]
    async fn the_footer_tells_nulls_and_bounds_of_all_row_groups(#[values(1, 2, 100)] row_group_rows: usize) {
        let dataset = ParquetDataset::new("out", "memory:/out").with_row_group_rows(row_group_rows);
        let columns = metrics(
            &dataset,
            "select i, i / 4.0 as f, cast(i as decimal(38, 2)) as d, 'text ' || i as t, i > 0 as b, named_struct('x', i) as s
             from (values (-3), (null), (null), (7), (-300), (2)) as v(i)",
        );
        let columns = columns.await;
        let of = |path: &str| columns.iter().find(|column| column.path == path).unwrap();
        let bounds = |path: &str| (of(path).nulls, of(path).min.clone(), of(path).max.clone());
        let int = |n: i64| Some(n.to_le_bytes().to_vec());
        assert_eq!(bounds("i"), (Some(2), int(-300), int(7)));
        assert_eq!(bounds("s.x"), (Some(2), int(-300), int(7)));
        let float = |n: f64| Some(n.to_le_bytes().to_vec());
        assert_eq!(bounds("f"), (Some(2), float(-75.0), float(1.75)));
        assert_eq!(bounds("t"), (Some(2), Some(b"text -3".to_vec()), Some(b"text 7".to_vec())));
        assert_eq!(bounds("b"), (Some(2), Some(vec![0]), Some(vec![1])));
        let (nulls, min, max) = bounds("d");
        let decimal = |bytes: Option<Vec<u8>>| i128::from_be_bytes(bytes.unwrap().try_into().unwrap());
        assert_eq!((nulls, decimal(min), decimal(max)), (Some(2), -30000, 700));
        assert!(columns.iter().all(|column| column.bytes > 0));
    }

    #[tokio::test]
    async fn without_statistics_nothing_is_made_up() {
        let dataset = ParquetDataset::new("out", "memory:/out").with_statistics(Kept::None);
        let columns = metrics(&dataset, "select 1 as n").await;
        assert_eq!((columns[0].nulls, &columns[0].min, &columns[0].max), (None, &None, &None));
    }
}
