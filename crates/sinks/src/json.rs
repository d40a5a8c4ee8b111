//! Encodes rows as JSON lines.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use datafusion::arrow::compute;
use datafusion::arrow::datatypes::{DataType, FieldRef, Float64Type, Int64Type, TimeUnit};
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, LineDelimited, NullableEncoder, WriterBuilder, make_encoder,
};
use hardtack_core::{Error, Result};

/// Encodes rows as objects, one per line, nulls included. NaN and the infinities, which are not JSON numbers, become
/// the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, as Spark writes them; a source whose schema declares `double`
/// reads them back.
///
/// ```
/// use std::sync::Arc;
///
/// use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch};
/// use hardtack_sinks::json_lines;
///
/// let x: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.5), None]));
/// let text = json_lines(&RecordBatch::try_from_iter([("x", x)])?)?;
/// assert_eq!(text, b"{\"x\":\"NaN\"}\n{\"x\":0.5}\n{\"x\":null}\n");
/// # Ok::<_, hardtack_core::Error>(())
/// ```
///
/// # Errors
/// [`Refused`](hardtack_core::ErrorKind::Refused) for dates and timestamps out of range,
/// [`Usage`](hardtack_core::ErrorKind::Usage) for types that JSON cannot express (maps whose keys are not texts).
pub fn json_lines(rows: &RecordBatch) -> Result<Vec<u8>> {
    check_moments(rows)?;
    let mut text = Vec::new();
    let builder = WriterBuilder::new().with_explicit_nulls(true).with_encoder_factory(Arc::new(Floats));
    let mut writer = builder.build::<_, LineDelimited>(&mut text);
    let written = writer.write(rows).and_then(|()| writer.finish());
    written.map_err(|e| {
        Error::usage("these rows cannot be written as JSON").hint("cast unsupported columns to strings").because(e)
    })?;
    drop(writer);
    Ok(text)
}

/// Refuses dates and timestamps beyond the range of Arrow's calendar (about 262,000 years either way), at any depth.
/// Arrow would write the text of an error in their place, so this is called before rows are formatted.
///
/// # Errors
/// [`Refused`](hardtack_core::ErrorKind::Refused), with the column, the value and a remedy.
pub fn check_moments(rows: &RecordBatch) -> Result<()> {
    let columns = rows.schema_ref().fields().iter().zip(rows.columns());
    for (field, values) in columns {
        check(field.name(), values)?;
    }
    Ok(())
}

/// Days since 1970. The calendar spans 262,143 years either way; the ends are excluded, because a zone may shift a
/// moment by a day.
const DAYS: Range<i64> = -96_000_000..95_000_000;

fn check(column: &str, values: &ArrayRef) -> Result<()> {
    let per_second = match values.data_type() {
        DataType::Date32 => None,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => Some(1_000),
        DataType::Timestamp(TimeUnit::Second, _) => Some(1),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Some(1_000_000),
        // Always within three centuries of 1970.
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return Ok(()),
        DataType::Struct(_) => return values.as_struct().columns().iter().try_for_each(|inner| check(column, inner)),
        DataType::List(_) => return check(column, values.as_list::<i32>().values()),
        DataType::LargeList(_) => return check(column, values.as_list::<i64>().values()),
        DataType::FixedSizeList(..) => return check(column, values.as_fixed_size_list().values()),
        DataType::Map(..) => return values.as_map().entries().columns().iter().try_for_each(|c| check(column, c)),
        _ => return Ok(()),
    };
    let counted = compute::cast(values, &DataType::Int64)?;
    let counted = counted.as_primitive::<Int64Type>();
    for end in [compute::min(counted), compute::max(counted)].into_iter().flatten() {
        let day = per_second.map_or(end, |per_second| end.div_euclid(per_second).div_euclid(86_400));
        if !DAYS.contains(&day) {
            return Err(Error::refused("a date or timestamp is out of the range that can be written as text")
                .with("column", column)
                .with("value", end)
                .with("type", values.data_type())
                .hint("write the stored number, as in `cast(x as bigint)`"));
        }
    }
    Ok(())
}

/// Writes NaN and infinities as strings.
#[derive(Debug)]
struct Floats;

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(EncoderOptions::default);
        let values = match array.data_type() {
            DataType::Float16 | DataType::Float32 => compute::cast(&array.slice(0, array.len()), &DataType::Float64)?,
            DataType::Float64 => array.slice(0, array.len()),
            _ => return Ok(None),
        };
        let values = values.as_primitive::<Float64Type>().clone();
        if values.iter().flatten().all(f64::is_finite) {
            return Ok(None);
        }
        let numbers = make_encoder(field, array, &PLAIN)?;
        Ok(Some(NullableEncoder::new(Box::new(FloatEncoder { values, numbers }), array.nulls().cloned())))
    }
}

struct FloatEncoder<'a> {
    values: Float64Array,
    numbers: NullableEncoder<'a>,
}

impl Encoder for FloatEncoder<'_> {
    fn encode(&mut self, idx: usize, out: &mut Vec<u8>) {
        let value = self.values.value(idx);
        let text: &[u8] = match value {
            f64::INFINITY => br#""Infinity""#,
            f64::NEG_INFINITY => br#""-Infinity""#,
            value if value.is_nan() => br#""NaN""#,
            _ => return self.numbers.encode(idx, out),
        };
        out.extend_from_slice(text);
    }
}
