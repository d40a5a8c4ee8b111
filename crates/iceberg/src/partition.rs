//! Partition fields: how rows are distributed to files, hidden from queries.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type};
use arrow::util::display::array_value_to_string;
use datafusion::common::{DataFusionError, Result as DFResult, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, ident,
};
use hardtack_catalog::NULL_PARTITION;
use hardtack_core::{Error, Result, nearest};
use iceberg::spec::{
    Datum, Literal, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Struct, Transform, Type,
    UnboundPartitionSpec,
};
use iceberg::transform::create_transform_function;

use crate::error::failed;

/// A partition field of a new table: a column and a transform. Queries need not know it: a filter on the column skips
/// files.
///
/// ```
/// use hardtack_iceberg::PartitionField;
///
/// assert_eq!(PartitionField::day("sold_at").to_string(), "day(sold_at)");
/// assert_eq!(PartitionField::bucket(16, "id").to_string(), "bucket[16](id)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionField {
    column: String,
    transform: Transform,
}

impl PartitionField {
    fn new(column: impl Into<String>, transform: Transform) -> Self {
        Self { column: column.into(), transform }
    }

    /// The value itself.
    pub fn identity(column: impl Into<String>) -> Self {
        Self::new(column, Transform::Identity)
    }

    /// The year of a date or timestamp, in UTC.
    pub fn year(column: impl Into<String>) -> Self {
        Self::new(column, Transform::Year)
    }

    /// The month of a date or timestamp, in UTC.
    pub fn month(column: impl Into<String>) -> Self {
        Self::new(column, Transform::Month)
    }

    /// The day of a date or timestamp, in UTC.
    pub fn day(column: impl Into<String>) -> Self {
        Self::new(column, Transform::Day)
    }

    /// The hour of a timestamp, in UTC.
    pub fn hour(column: impl Into<String>) -> Self {
        Self::new(column, Transform::Hour)
    }

    /// One of `buckets` by the hash of the value.
    pub fn bucket(buckets: u32, column: impl Into<String>) -> Self {
        Self::new(column, Transform::Bucket(buckets))
    }

    /// The first `width` characters of a text or bytes of a binary value, or a number rounded down to a multiple of
    /// `width`.
    pub fn truncate(width: u32, column: impl Into<String>) -> Self {
        Self::new(column, Transform::Truncate(width))
    }

    /// Nothing, so that rows are not told apart by it. Tables of format version 1 keep the places of fields that were dropped
    /// so.
    pub fn void(column: impl Into<String>) -> Self {
        Self::new(column, Transform::Void)
    }

    /// Parses a list of fields, as [`PARTITIONED_BY`](crate::PARTITIONED_BY) has them and as Spark writes them:
    /// `day(sold_at), bucket(16, id), region`. An empty text is no field.
    ///
    /// ```
    /// use hardtack_iceberg::PartitionField;
    ///
    /// let fields = PartitionField::parse_list("days(sold_at), bucket(16, id), region")?;
    /// let same = [PartitionField::day("sold_at"), PartitionField::bucket(16, "id"), PartitionField::identity("region")];
    /// assert_eq!(fields, same);
    /// assert_eq!(PartitionField::parse_list("day(sold_at), bucket[16](id), identity(region)")?, fields);
    /// # Ok::<(), hardtack_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for anything else.
    pub fn parse_list(text: &str) -> Result<Vec<Self>> {
        let (mut parts, mut depth) = (vec![String::new()], 0_i32);
        for c in text.chars() {
            depth += match c {
                '(' | '[' => 1,
                ')' | ']' => -1,
                _ => 0,
            };
            match (c, depth, parts.last_mut()) {
                (',', 0, _) => parts.push(String::new()),
                (_, _, Some(part)) => part.push(c),
                (_, _, None) => {}
            }
        }
        if parts.len() == 1 && parts[0].trim().is_empty() {
            return Ok(Vec::new());
        }
        parts.iter().map(|part| Self::parse(part.trim())).collect()
    }

    fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::usage(format!("expected a partition field such as `day(sold_at)`, and got `{text}`")).hint(
                "there are year, month, day and hour of a column, `bucket(16, id)`, `truncate(4, name)`, and columns",
            )
        };
        let Some((function, inner)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) else {
            let is_column = !text.is_empty() && !text.contains(['(', ')', '[', ']', ',']);
            return if is_column { Ok(Self::identity(text)) } else { Err(wrong()) };
        };
        // `bucket[16](id)`, or `bucket(16, id)`.
        let (function, number, column) = match (function.trim().split_once('['), inner.split_once(',')) {
            (Some((function, number)), None) => (function, Some(number.strip_suffix(']').ok_or_else(wrong)?), inner),
            (None, Some((number, column))) => (function.trim(), Some(number), column),
            (None, None) => (function.trim(), None, inner),
            (Some(_), Some(_)) => return Err(wrong()),
        };
        let number = number.map(|number| number.trim().parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(wrong));
        let column = Self::parse(column.trim()).ok().filter(|column| column.transform == Transform::Identity);
        let column = column.ok_or_else(wrong)?.column;
        Ok(match (function.to_ascii_lowercase().as_str(), number.transpose()?) {
            ("identity", None) => Self::identity(column),
            ("void", None) => Self::void(column),
            ("year" | "years", None) => Self::year(column),
            ("month" | "months", None) => Self::month(column),
            ("day" | "days" | "date", None) => Self::day(column),
            ("hour" | "hours" | "date_hour", None) => Self::hour(column),
            ("bucket", Some(buckets)) => Self::bucket(buckets, column),
            ("truncate", Some(width)) => Self::truncate(width, column),
            _ => return Err(wrong()),
        })
    }

    /// Its name in the partition spec, as Spark names it.
    fn name(&self) -> String {
        let column = &self.column;
        match self.transform {
            Transform::Bucket(_) => format!("{column}_bucket"),
            Transform::Truncate(_) => format!("{column}_trunc"),
            Transform::Identity => column.clone(),
            // As Iceberg's libraries name it.
            Transform::Void => format!("{column}_null"),
            transform => format!("{column}_{transform}"),
        }
    }
}

impl fmt::Display for PartitionField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.transform, self.column)
    }
}

/// The partition spec of a new table.
///
/// # Errors
/// Usage for a column that the table does not have, and a transform that its type does not have.
pub(crate) fn spec(fields: &[PartitionField], schema: &Schema) -> Result<UnboundPartitionSpec> {
    let mut spec = UnboundPartitionSpec::builder();
    for field in fields {
        let at = |e: Error| e.with("partition field", field);
        let columns = schema.as_struct().fields();
        let Some(column) = columns.iter().find(|column| column.name == field.column) else {
            let why = format!("the table has no column `{}` to be partitioned by", field.column);
            let near = nearest(&field.column, columns.iter().map(|column| column.name.as_str()));
            let error = at(Error::usage(why));
            return Err(match near {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            });
        };
        field.transform.result_type(&column.field_type).map_err(|e| {
            at(Error::usage("the column's type does not have this transform").because(e))
                .with("type", &column.field_type)
        })?;
        spec = spec.add_partition_field(column.id, field.name(), field.transform).map_err(|e| at(failed(e)))?;
    }
    Ok(spec.build())
}

// --- values --------------------------------------------------------------------------------------------------------

/// The partition fields of a spec as columns of rows, from whose values a writer names a partition.
#[derive(Debug)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Debug)]
struct Key {
    /// Unlike any column's.
    name: String,
    source: String,
    function: KeyOf,
    result: PrimitiveType,
}

impl Keys {
    /// # Errors
    /// Usage for fields of a column within a struct, and of a column that was dropped.
    pub(crate) fn of(spec: &PartitionSpec, schema: &Schema) -> Result<Self> {
        let key = |(n, field): (usize, &iceberg::spec::PartitionField)| {
            let columns = schema.as_struct().fields();
            let source = columns.iter().find(|column| column.id == field.source_id).ok_or_else(|| {
                Error::usage("the table is partitioned by something else than its columns, which cannot be written")
                    .with("partition field", &field.name)
            })?;
            let result = field.transform.result_type(&source.field_type).map_err(failed)?;
            let Type::Primitive(result) = result else {
                return Err(Error::unexpected("a partition value is nested").with("partition field", &field.name));
            };
            let input = iceberg::arrow::type_to_arrow_type(&source.field_type).map_err(failed)?;
            let function =
                KeyOf { transform: field.transform, input, signature: Signature::any(1, Volatility::Immutable) };
            Ok(Key { name: format!("__hardtack_key_{n}"), source: source.name.clone(), function, result })
        };
        Ok(Self(spec.fields().iter().enumerate().map(key).collect::<Result<_>>()?))
    }

    /// The names of the columns.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.name.as_str())
    }

    /// The columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Expr> {
        self.0
            .iter()
            .map(|key| ScalarUDF::new_from_impl(key.function.clone()).call(vec![ident(&key.source)]).alias(&key.name))
    }

    /// The columns that they are of.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.source.as_str())
    }

    /// The partition of these values of the columns, as a writer writes them.
    pub(crate) fn parse(&self, values: &[String]) -> Result<Struct> {
        let values: Vec<Option<&str>> =
            values.iter().map(|text| (text != NULL_PARTITION).then_some(text.as_str())).collect();
        self.of_values(&values)
    }

    /// The partition of rows with these values in the columns that they are of.
    pub(crate) fn of_scalars(&self, values: &[ScalarValue]) -> Result<Struct> {
        let text = |(key, value): (&Key, &ScalarValue)| {
            let keys = key.function.keys(&value.to_array()?)?;
            Ok(keys.is_valid(0).then(|| array_value_to_string(&keys, 0)).transpose()?)
        };
        let texts = self.0.iter().zip(values).map(text).collect::<Result<Vec<Option<String>>>>()?;
        self.of_values(&texts.iter().map(Option::as_deref).collect::<Vec<_>>())
    }

    /// The partition of these values of the columns, as texts.
    pub(crate) fn of_values(&self, values: &[Option<&str>]) -> Result<Struct> {
        let value = |(key, text): (&Key, &Option<&str>)| {
            let Some(text) = text else { return Ok(None) };
            let literal = literal(&key.result, text).ok_or_else(|| {
                Error::unexpected("a partition value does not parse").with("value", text).with("type", &key.result)
            })?;
            Ok(Some(Literal::Primitive(literal)))
        };
        self.0.iter().zip(values).map(value).collect()
    }
}

/// Precedes texts, so that none of them is taken for null.
const TEXT: &str = "=";

/// A partition value from its text.
fn literal(of: &PrimitiveType, text: &str) -> Option<PrimitiveLiteral> {
    Some(match of {
        PrimitiveType::Boolean => PrimitiveLiteral::Boolean(text.parse().ok()?),
        PrimitiveType::Int | PrimitiveType::Date => PrimitiveLiteral::Int(text.parse().ok()?),
        PrimitiveType::Long
        | PrimitiveType::Time
        | PrimitiveType::Timestamp
        | PrimitiveType::Timestamptz
        | PrimitiveType::TimestampNs
        | PrimitiveType::TimestamptzNs => PrimitiveLiteral::Long(text.parse().ok()?),
        PrimitiveType::Float => {
            PrimitiveLiteral::Float(f32::from_bits(text.parse::<i32>().ok()?.cast_unsigned()).into())
        }
        PrimitiveType::Double => {
            PrimitiveLiteral::Double(f64::from_bits(text.parse::<i64>().ok()?.cast_unsigned()).into())
        }
        PrimitiveType::String => PrimitiveLiteral::String(text.strip_prefix(TEXT)?.to_owned()),
        PrimitiveType::Decimal { .. } => PrimitiveLiteral::Int128(text.strip_prefix(TEXT)?.parse().ok()?),
        PrimitiveType::Uuid | PrimitiveType::Fixed(_) | PrimitiveType::Binary => {
            let bytes = bytes(text.strip_prefix(TEXT)?)?;
            Datum::try_from_bytes(&bytes, of.clone()).ok()?.literal().clone()
        }
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(TEXT.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(hex.get(i..i + 2)?, 16).ok()).collect()
}

/// The function from a column to its partition value: an integer where there is one for it, or else a text that names it
/// exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct KeyOf {
    transform: Transform,
    /// The type that the transform takes.
    input: DataType,
    signature: Signature,
}

impl ScalarUDFImpl for KeyOf {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "iceberg_partition"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DFResult<DataType> {
        Ok(match self.transform {
            Transform::Identity | Transform::Truncate(_) | Transform::Void => match &self.input {
                DataType::Boolean => DataType::Boolean,
                DataType::Int32 | DataType::Date32 | DataType::Float32 => DataType::Int32,
                DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Float64 => DataType::Int64,
                _ => DataType::Utf8,
            },
            _ => DataType::Int32,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DFResult<ColumnarValue> {
        let values =
            args.args.into_iter().next().ok_or_else(|| DataFusionError::from(Error::unexpected("one column")))?;
        Ok(ColumnarValue::Array(self.keys(&values.into_array(args.number_rows)?)?))
    }
}

impl KeyOf {
    /// The keys of values of the column.
    fn keys(&self, values: &ArrayRef) -> DFResult<ArrayRef> {
        plain(&transformed(self.transform, values, &self.input)?)
    }
}

/// What a transform makes of values, after they have been cast to the type that it takes.
pub(crate) fn transformed(transform: Transform, values: &ArrayRef, input: &DataType) -> DFResult<ArrayRef> {
    let values = cast(values, input)?;
    let function = create_transform_function(&transform).map_err(|e| DataFusionError::from(failed(e)))?;
    function.transform(values).map_err(|e| DataFusionError::from(failed(e)))
}

fn plain(keys: &ArrayRef) -> DFResult<ArrayRef> {
    let texts = |text: &dyn Fn(usize) -> String| -> ArrayRef {
        Arc::new((0..keys.len()).map(|i| keys.is_valid(i).then(|| text(i))).collect::<StringArray>())
    };
    Ok(match keys.data_type() {
        DataType::Boolean | DataType::Int32 | DataType::Int64 => Arc::clone(keys),
        DataType::Date32 => cast(keys, &DataType::Int32)?,
        DataType::Time64(_) | DataType::Timestamp(..) => cast(keys, &DataType::Int64)?,
        // A key is one value, so that all NaNs are one partition, and both zeros.
        DataType::Float32 => {
            let bits = |x: f32| if x.is_nan() { f32::NAN } else { x + 0.0 }.to_bits().cast_signed();
            Arc::new(keys.as_primitive::<Float32Type>().unary::<_, Int32Type>(bits))
        }
        DataType::Float64 => {
            let bits = |x: f64| if x.is_nan() { f64::NAN } else { x + 0.0 }.to_bits().cast_signed();
            Arc::new(keys.as_primitive::<Float64Type>().unary::<_, Int64Type>(bits))
        }
        DataType::Utf8 => texts(&|i| format!("{TEXT}{}", keys.as_string::<i32>().value(i))),
        DataType::LargeUtf8 => texts(&|i| format!("{TEXT}{}", keys.as_string::<i64>().value(i))),
        DataType::Decimal128(..) => {
            texts(&|i| format!("{TEXT}{}", keys.as_primitive::<arrow::datatypes::Decimal128Type>().value(i)))
        }
        DataType::Binary => texts(&|i| hex(keys.as_binary::<i32>().value(i))),
        DataType::LargeBinary => texts(&|i| hex(keys.as_binary::<i64>().value(i))),
        DataType::FixedSizeBinary(_) => texts(&|i| hex(keys.as_fixed_size_binary().value(i))),
        other => return Err(Error::unexpected(format!("a partition value of type {other}")).into()),
    })
}
