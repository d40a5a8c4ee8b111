//! Typed files: Parquet and Avro.

use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, FixedSizeListArray, Float64Array,
    Int64Array, LargeListArray, ListArray, MapArray, NullArray, RecordBatch, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, Schema, TimeUnit};
use hardtack_fuzz::meaning::Written;
use hardtack_fuzz::targets::rows;
use hardtack_sources::{AvroFiles, ParquetFiles};
use parquet::arrow::ArrowWriter;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::files::{FOLDER, File, put};
use crate::texts::{distinct, name};
use crate::trial::{Outcome, WrittenRow, context, is_refusal, read, same_rows, try_cases, within_time};

/// A file format with types.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Parquet,
    Avro,
}

fn utc() -> Option<Arc<str>> {
    Some("UTC".into())
}

/// Types that may occur together in two files.
fn families(kind: Kind) -> Vec<Vec<DataType>> {
    use DataType as D;
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let mut families = vec![
        vec![
            D::Int32,
            D::Int64,
            D::Float32,
            D::Float64,
            D::Decimal128(9, 2),
            D::Decimal128(20, 0),
            D::Decimal128(38, 10),
        ],
        vec![D::Boolean],
        vec![D::Utf8, D::Binary],
        vec![
            D::Date32,
            D::Timestamp(Millisecond, None),
            D::Timestamp(Microsecond, None),
            D::Timestamp(Microsecond, utc()),
        ],
    ];
    if kind == Kind::Parquet {
        families[0].extend([
            D::Int8,
            D::Int16,
            D::UInt8,
            D::UInt16,
            D::UInt32,
            D::UInt64,
            D::Float16,
            D::Null,
            D::Decimal256(50, 5),
        ]);
        families[2].extend([D::LargeUtf8, D::Utf8View, D::LargeBinary, D::FixedSizeBinary(4)]);
        families[2].push(D::Dictionary(Box::new(D::Int32), Box::new(D::Utf8)));
        families[3].extend([
            D::Date64,
            D::Timestamp(Second, None),
            D::Timestamp(Nanosecond, None),
            D::Timestamp(Microsecond, Some("+00:00".into())),
            D::Timestamp(Millisecond, Some("+02:00".into())),
        ]);
        families.push(vec![D::Time64(Microsecond), D::Time32(Millisecond)]);
    }
    families
}

/// A type, and another one that a later file may use instead.
fn types(kind: Kind) -> impl Strategy<Value = (DataType, DataType)> {
    let scalar = select(families(kind)).prop_flat_map(|family| (select(family.clone()), select(family)));
    scalar.prop_recursive(2, 6, 2, move |inner| {
        let list = |of| DataType::List(item(of));
        let lists = inner.clone().prop_map(move |(a, b)| (list(a), list(b)));
        let structs = vec((names(kind), inner.clone()), 1..3).prop_map(|fields| {
            let fields = distinct(fields);
            let of = |which: fn(&(DataType, DataType)) -> &DataType| {
                let field = |(name, types): &(String, _)| Field::new(name, which(types).clone(), true);
                DataType::Struct(fields.iter().map(field).collect())
            };
            (of(|types| &types.0), of(|types| &types.1))
        });
        let maps = inner.clone().prop_map(|(a, b)| (map(a), map(b)));
        let other_lists = (inner, 0..3_u8).prop_map(|((a, b), which)| match which {
            0 => (DataType::List(item(a)), DataType::LargeList(item(b))),
            1 => (DataType::FixedSizeList(item(a), 2), DataType::List(item(b))),
            _ => (DataType::FixedSizeList(item(a), 2), DataType::FixedSizeList(item(b), 2)),
        });
        let only_parquet = u32::from(kind == Kind::Parquet);
        prop_oneof![2 => lists, 2 => structs, 1 => maps, only_parquet => other_lists]
    })
}

/// Names that are valid in the format.
fn names(kind: Kind) -> BoxedStrategy<String> {
    match kind {
        Kind::Parquet => name().boxed(),
        Kind::Avro => select(&["a", "b", "c", "id", "order_id"][..]).prop_map(str::to_owned).boxed(),
    }
}

fn item(of: DataType) -> FieldRef {
    Arc::new(Field::new("item", of, true))
}

fn map(of: DataType) -> DataType {
    let pair = vec![Field::new("key", DataType::Utf8, false), Field::new("value", of, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
}

const TEXTS: [&str; 12] =
    ["", "a", "1", "007", "1.50", "2024-01-31", "true", "\u{fc}\u{1f600}", "a,b\"c\n", "null", "\u{0}", " x "];

/// Values of a type; seeds are often at the limits of the type.
fn array(to: &DataType, seeds: &[Option<u64>]) -> ArrayRef {
    let ints = |least: i64, most: i64| -> Int64Array {
        let one = |seed: u64| match seed % 8 {
            0 => least,
            1 => most,
            2 => 0,
            3 => (-1_i64).clamp(least, most),
            4 => 9_007_199_254_740_993_i64.clamp(least, most),
            _ => i64::try_from(seed % 1000).unwrap().clamp(least, most),
        };
        seeds.iter().map(|seed| seed.map(one)).collect()
    };
    let as_is = |array: ArrayRef| cast(&array, to).unwrap();
    let child = |seeds: Vec<Option<u64>>, field: &FieldRef| array(field.data_type(), &seeds);
    let spread = |salt: u64| -> Vec<Option<u64>> {
        let one = |seed: u64| seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(salt) >> 7;
        seeds.iter().map(|seed| seed.map(one).filter(|seed| seed % 5 > 0)).collect()
    };
    let nulls = || Some(NullBuffer::from(seeds.iter().map(Option::is_some).collect::<Vec<_>>()));
    let items = || -> (Vec<usize>, Vec<Option<u64>>) {
        let lengths: Vec<usize> =
            seeds.iter().map(|seed| seed.map_or(0, |seed| usize::try_from(seed % 3).unwrap())).collect();
        let items = seeds.iter().zip(&lengths).flat_map(|(seed, length)| {
            (0..*length as u64).map(move |i| seed.map(|s| s.rotate_left(9).wrapping_add(i)).filter(|s| s % 5 > 0))
        });
        (lengths.clone(), items.collect())
    };
    match to {
        DataType::Null => Arc::new(NullArray::new(seeds.len())),
        DataType::Boolean => {
            Arc::new(seeds.iter().map(|seed| seed.map(|seed| seed % 2 == 0)).collect::<BooleanArray>())
        }
        DataType::Int8 => as_is(Arc::new(ints(-128, 127))),
        DataType::Int16 => as_is(Arc::new(ints(-32768, 32767))),
        DataType::Int32 => as_is(Arc::new(ints(i32::MIN.into(), i32::MAX.into()))),
        DataType::Int64 => Arc::new(ints(i64::MIN, i64::MAX)),
        DataType::UInt8 => as_is(Arc::new(ints(0, 255))),
        DataType::UInt16 => as_is(Arc::new(ints(0, 65535))),
        DataType::UInt32 => as_is(Arc::new(ints(0, u32::MAX.into()))),
        DataType::UInt64 => {
            let one = |seed: u64| if seed.is_multiple_of(4) { u64::MAX - seed % 3 } else { seed % 1000 };
            Arc::new(seeds.iter().map(|seed| seed.map(one)).collect::<arrow::array::UInt64Array>())
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let edges = [
                0.0,
                -0.0,
                f64::NAN,
                f64::INFINITY,
                0.1,
                -1.5,
                16_777_217.0,
                9_007_199_254_740_992.0,
                1e300,
                5e-324,
                1e-7,
            ];
            let one = |seed: u64| edges[usize::try_from(seed % edges.len() as u64).unwrap()];
            as_is(Arc::new(seeds.iter().map(|seed| seed.map(one)).collect::<Float64Array>()))
        }
        DataType::Decimal128(precision, _) | DataType::Decimal256(precision, _) => {
            let nines = "9".repeat(usize::from(*precision));
            let one = |seed: u64| match seed % 5 {
                0 => nines.clone(),
                1 => format!("-{nines}"),
                2 => "1".to_owned(),
                _ => (seed % 100_000).to_string(),
            };
            // The digits without a point.
            let values = seeds.iter().map(|seed| seed.map(one));
            match to {
                DataType::Decimal128(p, s) => {
                    let values = values.map(|text| text.map(|text| text.parse::<i128>().unwrap()));
                    let array: arrow::array::Decimal128Array = values.collect();
                    Arc::new(array.with_precision_and_scale(*p, *s).unwrap())
                }
                DataType::Decimal256(p, s) => {
                    let values =
                        values.map(|text| text.map(|text| arrow::datatypes::i256::from_string(&text).unwrap()));
                    let array: arrow::array::Decimal256Array = values.collect();
                    Arc::new(array.with_precision_and_scale(*p, *s).unwrap())
                }
                _ => panic!("no decimal"),
            }
        }
        DataType::Date32 => {
            let days =
                ints(-719_162, 2_932_896).unary::<_, Int32Type>(|day| i32::try_from(day.min(2_932_896)).unwrap());
            as_is(Arc::new(days))
        }
        DataType::Date64 => as_is(array(&DataType::Date32, seeds)),
        DataType::Timestamp(unit, _) => {
            let (least, most, one) = match unit {
                TimeUnit::Second => (-62_135_596_800, 253_402_300_799, 86_400),
                TimeUnit::Millisecond => (-62_135_596_800_000, 253_402_300_799_999, 86_400_001),
                TimeUnit::Microsecond => (-62_135_596_800_000_000, 253_402_300_799_999_999, 86_400_000_001),
                TimeUnit::Nanosecond => (i64::MIN + 1, i64::MAX, 86_400_000_000_001),
            };
            let moments = ints(least / one, most / one).unary::<_, arrow::datatypes::Int64Type>(|n| n * one);
            as_is(Arc::new(moments))
        }
        DataType::Time32(_) => {
            as_is(Arc::new(ints(0, 86_399_999).unary::<_, Int32Type>(|n| i32::try_from(n).unwrap())))
        }
        DataType::Time64(_) => as_is(Arc::new(ints(0, 86_399_999_999))),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => {
            let one = |seed: u64| TEXTS[usize::try_from(seed % TEXTS.len() as u64).unwrap()];
            as_is(Arc::new(seeds.iter().map(|seed| seed.map(one)).collect::<StringArray>()))
        }
        DataType::Binary | DataType::LargeBinary => {
            let values: Vec<Option<[u8; 8]>> = seeds.iter().map(|seed| seed.map(u64::to_be_bytes)).collect();
            as_is(Arc::new(
                values.iter().map(|v| v.as_ref().map(|v| &v[usize::from(v[7] % 8)..])).collect::<BinaryArray>(),
            ))
        }
        DataType::FixedSizeBinary(n) => {
            let values = seeds.iter().map(|seed| seed.map(|seed| seed.to_be_bytes()[4..].to_vec()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *n).unwrap())
        }
        DataType::Dictionary(..) => {
            let one = |seed: u64| TEXTS[usize::try_from(seed % TEXTS.len() as u64).unwrap()];
            Arc::new(seeds.iter().map(|seed| seed.map(one)).collect::<DictionaryArray<Int32Type>>())
        }
        DataType::List(field) => {
            let (lengths, items) = items();
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(ListArray::new(Arc::clone(field), offsets, child(items, field), nulls()))
        }
        DataType::LargeList(field) => {
            let (lengths, items) = items();
            let offsets = OffsetBuffer::from_lengths(lengths);
            Arc::new(LargeListArray::new(Arc::clone(field), offsets, child(items, field), nulls()))
        }
        DataType::FixedSizeList(field, n) => {
            let items = seeds
                .iter()
                .flat_map(|seed| (0..*n as u64).map(move |i| seed.map(|s| s.rotate_left(9).wrapping_add(i))));
            Arc::new(FixedSizeListArray::new(Arc::clone(field), *n, child(items.collect(), field), nulls()))
        }
        DataType::Struct(fields) => {
            let columns = fields.iter().enumerate().map(|(i, field)| child(spread(i as u64 * 977), field)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, nulls()))
        }
        DataType::Map(entries, sorted) => {
            let (lengths, items) = items();
            let DataType::Struct(fields) = entries.data_type() else { panic!("entries are a struct") };
            // Keys differ within a map.
            let keys = lengths
                .iter()
                .flat_map(|length| (0..*length).map(|i| format!("k{i}")))
                .map(Some)
                .collect::<StringArray>();
            let values = child(items, &fields[1]);
            let pairs = StructArray::new(fields.clone(), vec![Arc::new(keys), values], None);
            Arc::new(MapArray::new(Arc::clone(entries), OffsetBuffer::from_lengths(lengths), pairs, nulls(), *sorted))
        }
        other => panic!("no values of {other}"),
    }
}

/// A file before it is written.
#[derive(Clone)]
pub struct Table(pub RecordBatch);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = |field: &FieldRef| format!("{}: {}", field.name(), field.data_type());
        let columns: Vec<String> = self.0.schema_ref().fields().iter().map(typed).collect();
        write!(f, "{{{}}} {:?}", columns.join(", "), rows(std::slice::from_ref(&self.0)))
    }
}

fn table(columns: Vec<(String, DataType)>) -> impl Strategy<Value = Table> {
    let rows = vec(vec(prop::option::weighted(0.85, any::<u64>()), columns.len()), 0..5);
    rows.prop_map(move |rows| {
        let fields: Fields = columns.iter().map(|(name, of)| Field::new(name, of.clone(), true)).collect();
        let column = |i: usize| array(&columns[i].1, &rows.iter().map(|row| row[i]).collect::<Vec<_>>());
        let columns = (0..columns.len()).map(column).collect();
        Table(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap())
    })
}

/// Tables with common columns, of the same or of different types; returns whether all types are the same.
pub fn tables(kind: Kind) -> impl Strategy<Value = (bool, Vec<Table>)> {
    let columns = vec((names(kind), types(kind)), 1..4).prop_map(distinct);
    let same = prop_oneof![Just(true), Just(false)];
    (columns, same, 1..4_usize).prop_flat_map(|(columns, same, files)| {
        let file = |i: usize| {
            let of = |(name, (one, other)): &(String, (DataType, DataType))| {
                (name.clone(), if same || i == 0 { one.clone() } else { other.clone() })
            };
            table(columns.iter().map(of).collect())
        };
        (Just(same), (0..files).map(file).collect::<Vec<_>>())
    })
}

/// The bytes of a file; none if the writer does not support it.
fn write(kind: Kind, table: &Table) -> Option<Vec<u8>> {
    match kind {
        Kind::Parquet => {
            let mut writer = ArrowWriter::try_new(Vec::new(), table.0.schema(), None).ok()?;
            writer.write(&table.0).ok()?;
            writer.into_inner().ok()
        }
        Kind::Avro => {
            let builder = arrow_avro::writer::WriterBuilder::new(table.0.schema().as_ref().clone());
            let mut writer = builder.build::<_, arrow_avro::writer::format::AvroOcfFormat>(Vec::new()).ok()?;
            writer.write(&table.0).ok()?;
            writer.finish().ok()?;
            Some(writer.into_inner())
        }
    }
}

/// The files; none if the writer does not support them.
pub fn files(kind: Kind, tables: &[Table]) -> Option<Vec<File>> {
    let suffix = if kind == Kind::Parquet { "parquet" } else { "avro" };
    let file = |(i, table)| Some(File { path: format!("{i}.{suffix}"), bytes: write(kind, table)? });
    tables.iter().enumerate().map(file).collect()
}

/// The rows of tables before they are written.
pub fn written(tables: &[Table]) -> Vec<WrittenRow> {
    let typed = |row: Vec<(String, _)>| row.into_iter().map(|(name, value)| (name, Written::Typed(value))).collect();
    tables.iter().flat_map(|table| rows(std::slice::from_ref(&table.0))).map(typed).collect()
}

fn check(kind: Kind, same: bool, tables: &[Table]) -> Result<Outcome, String> {
    let Some(files) = files(kind, tables) else { return Ok(Outcome::Refused) };
    within_time(async {
        let ctx = context();
        put(&ctx, &files).await;
        let given = match kind {
            Kind::Parquet => read(&ctx, ParquetFiles::new("t", FOLDER)).await,
            Kind::Avro => read(&ctx, AvroFiles::new("t", FOLDER)).await,
        };
        match given {
            Ok(batches) => same_rows(&written(tables), &batches).map(|()| Outcome::Read),
            Err(e) if same => Err(format!("refused without need: {}", e.chain())),
            Err(e) => is_refusal(&e).map(|()| Outcome::Refused),
        }
    })?
}

#[test]
fn parquet_files_keep_every_value() {
    try_cases("Parquet", 256, 50, tables(Kind::Parquet), |(same, tables)| check(Kind::Parquet, *same, tables));
}

#[test]
fn avro_files_keep_every_value() {
    try_cases("Avro", 192, 50, tables(Kind::Avro), |(same, tables)| check(Kind::Avro, *same, tables));
}
