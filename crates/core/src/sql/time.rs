//! `date_trunc` and `date_bin` for the full range of timestamps.
//!
//! DataFusion's functions compute in nanoseconds since 1970, whatever the unit of the column. Those range from 1677 to
//! 2262; anything beyond wraps around (`9999-12-31` becomes a day of 1816) or panics. These functions compute in the
//! unit of the column.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use chrono::{
    DateTime, Datelike, Days, FixedOffset, MappedLocalTime, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset,
    TimeZone, Timelike, Utc,
};
use datafusion::arrow::array::timezone::Tz;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{
    ArrowTimestampType, DataType, FieldRef, IntervalDayTime, IntervalMonthDayNano, IntervalUnit, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion::common::types::{NativeType, logical_date, logical_string};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    Coercion, ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TypeSignature, TypeSignatureClass, Volatility,
};

use crate::Error;

static DATE_TRUNC: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(DateTrunc::new().into()));
static DATE_BIN: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| Arc::new(DateBin::new().into()));

/// The functions that replace DataFusion's of the same name.
pub(super) fn functions() -> [&'static Arc<ScalarUDF>; 2] {
    [&DATE_TRUNC, &DATE_BIN]
}

/// SQL's `date_trunc`: the beginning of the year, quarter, month, week (Monday), day, hour ... of a moment. In a zone
/// with daylight saving time it is the local one; a day with two midnights begins with the first.
pub fn date_trunc(precision: Expr, moment: Expr) -> Expr {
    DATE_TRUNC.call(vec![precision, moment])
}

/// SQL's `date_bin`: the beginning of the interval of this length that contains a moment, counted from `origin`.
pub fn date_bin(length: Expr, moment: Expr, origin: Expr) -> Expr {
    DATE_BIN.call(vec![length, moment, origin])
}

// --- date_trunc ----------------------------------------------------------------------------------------------------

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateTrunc {
    /// DataFusion's, for times of day.
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl DateTrunc {
    fn new() -> Self {
        let text = || Coercion::new_exact(TypeSignatureClass::Native(logical_string()));
        let moment = Coercion::new_implicit(
            TypeSignatureClass::Timestamp,
            vec![TypeSignatureClass::Native(logical_string()), TypeSignatureClass::Native(logical_date())],
            NativeType::Timestamp(TimeUnit::Microsecond, None),
        );
        let of_time = vec![text(), Coercion::new_exact(TypeSignatureClass::Time)];
        let signatures = vec![TypeSignature::Coercible(vec![text(), moment]), TypeSignature::Coercible(of_time)];
        Self {
            inner: datafusion::functions::datetime::date_trunc(),
            signature: Signature::one_of(signatures, Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for DateTrunc {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "date_trunc"
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(match &types[1] {
            DataType::Null => DataType::Timestamp(TimeUnit::Microsecond, None),
            moment => moment.clone(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        let moment = &args.arg_fields[1];
        let data_type = self.return_type(&[args.arg_fields[0].data_type().clone(), moment.data_type().clone()])?;
        Ok(Arc::new(datafusion::arrow::datatypes::Field::new(self.name(), data_type, moment.is_nullable())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let unit = match args.args[1].data_type() {
            DataType::Timestamp(unit, _) => unit,
            DataType::Null => return Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(None, None))),
            _ => return self.inner.invoke_with_args(args),
        };
        let precision = match &args.args[0] {
            ColumnarValue::Scalar(text) => text.try_as_str().flatten(),
            ColumnarValue::Array(_) => None,
        };
        let precision = Precision::parse(precision)?;
        match unit {
            TimeUnit::Second => each::<TimestampSecondType>(&args.args[1], |v, tz| precision.truncate(v, 1, tz)),
            TimeUnit::Millisecond => {
                each::<TimestampMillisecondType>(&args.args[1], |v, tz| precision.truncate(v, 1_000, tz))
            }
            TimeUnit::Microsecond => {
                each::<TimestampMicrosecondType>(&args.args[1], |v, tz| precision.truncate(v, 1_000_000, tz))
            }
            TimeUnit::Nanosecond => {
                each::<TimestampNanosecondType>(&args.args[1], |v, tz| precision.truncate(v, 1_000_000_000, tz))
            }
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Applies a function of timestamps to a column or a value.
fn each<T: ArrowTimestampType>(
    moments: &ColumnarValue,
    f: impl Fn(i64, Option<Tz>) -> DfResult<i64>,
) -> DfResult<ColumnarValue> {
    let array: ArrayRef = match moments {
        ColumnarValue::Array(array) => Arc::clone(array),
        ColumnarValue::Scalar(value) => value.to_array()?,
    };
    let DataType::Timestamp(_, name) = array.data_type() else {
        return Err(Error::unexpected("this is not a timestamp").with("type", array.data_type()).into());
    };
    let zone = match name.as_deref() {
        None | Some("UTC" | "Z" | "+00:00" | "Etc/UTC") => None,
        Some(zone) => Some(zone.parse::<Tz>()?),
    };
    let values = array.as_primitive::<T>().try_unary::<_, T, _>(|v| f(v, zone))?;
    let values: PrimitiveArray<T> = values.with_timezone_opt(name.clone());
    Ok(match moments {
        ColumnarValue::Array(_) => ColumnarValue::Array(Arc::new(values)),
        ColumnarValue::Scalar(_) => ColumnarValue::Scalar(ScalarValue::try_from_array(&values, 0)?),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precision {
    /// The number of steps per second.
    PartOfSecond(i64),
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
}

impl Precision {
    fn parse(text: Option<&str>) -> DfResult<Self> {
        let known = "year, quarter, month, week, day, hour, minute, second, millisecond, microsecond";
        let Some(text) = text else {
            return Err(Error::usage("the precision of `date_trunc` must be a literal, such as 'month'")
                .with("known", known)
                .into());
        };
        Ok(match text.to_ascii_lowercase().as_str() {
            "microsecond" => Self::PartOfSecond(1_000_000),
            "millisecond" => Self::PartOfSecond(1_000),
            "second" => Self::Second,
            "minute" => Self::Minute,
            "hour" => Self::Hour,
            "day" => Self::Day,
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            _ => {
                return Err(Error::usage(format!("`date_trunc` does not support the precision '{text}'"))
                    .with("known", known)
                    .into());
            }
        })
    }

    /// The length of a step in units of the column, if all steps have the same length.
    fn step(self, per_second: i64, zone: Option<Tz>) -> Option<i64> {
        match self {
            Self::PartOfSecond(parts) => Some((per_second / parts).max(1)),
            Self::Second => Some(per_second),
            Self::Minute if zone.is_none() => Some(60 * per_second),
            Self::Hour if zone.is_none() => Some(3_600 * per_second),
            Self::Day if zone.is_none() => Some(86_400 * per_second),
            _ => None,
        }
    }

    fn truncate(self, value: i64, per_second: i64, zone: Option<Tz>) -> DfResult<i64> {
        let truncated = match self.step(per_second, zone) {
            Some(step) => value.checked_sub(value.rem_euclid(step)),
            None => {
                self.truncate_in_calendar(value.div_euclid(per_second), zone).and_then(|s| s.checked_mul(per_second))
            }
        };
        truncated.ok_or_else(|| out_of_range("date_trunc", value, per_second))
    }

    /// Seconds since 1970 to seconds since 1970.
    fn truncate_in_calendar(self, seconds: i64, zone: Option<Tz>) -> Option<i64> {
        let moment = DateTime::from_timestamp(seconds, 0)?.naive_utc();
        let Some(zone) = zone else { return Some(self.floor(moment)?.and_utc().timestamp()) };
        let offset = |moment: &NaiveDateTime| zone.offset_from_utc_datetime(moment).fix();
        let local = moment.checked_add_offset(offset(&moment))?;
        let floor = self.floor(local)?;
        if matches!(self, Self::Minute | Self::Hour) {
            // If an hour occurs twice, it is the one that contains the moment.
            let same = moment.checked_sub_signed(local - floor)?;
            if same.checked_add_offset(offset(&same))? == floor {
                return Some(same.and_utc().timestamp());
            }
        }
        Some(first_moment(zone, floor)?.timestamp())
    }

    fn floor(self, moment: NaiveDateTime) -> Option<NaiveDateTime> {
        let (date, time) = (moment.date(), moment.time());
        let time = match self {
            Self::Minute => NaiveTime::from_hms_opt(time.hour(), time.minute(), 0)?,
            Self::Hour => NaiveTime::from_hms_opt(time.hour(), 0, 0)?,
            _ => NaiveTime::MIN,
        };
        let date = match self {
            Self::Week => date.checked_sub_days(Days::new(date.weekday().num_days_from_monday().into()))?,
            Self::Month => date.with_day(1)?,
            Self::Quarter => NaiveDate::from_ymd_opt(date.year(), date.month0() / 3 * 3 + 1, 1)?,
            Self::Year => NaiveDate::from_ymd_opt(date.year(), 1, 1)?,
            _ => date,
        };
        Some(date.and_time(time))
    }
}

/// The first moment at which clocks of this zone show this time, or have passed it if they skip it.
fn first_moment(zone: Tz, local: NaiveDateTime) -> Option<DateTime<Tz>> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(moment) | MappedLocalTime::Ambiguous(moment, _) => Some(moment),
        MappedLocalTime::None => {
            // No zone skips more than a day.
            let before = zone.from_local_datetime(&local.checked_sub_days(Days::new(1))?).earliest()?;
            let offset: FixedOffset = before.offset().fix();
            Some(offset.from_local_datetime(&local).single()?.with_timezone(&zone))
        }
    }
}

fn out_of_range(function: &str, value: i64, per_second: i64) -> datafusion::error::DataFusionError {
    let seconds = value.div_euclid(per_second);
    let moment = DateTime::from_timestamp(seconds, 0);
    let moment = moment.map_or_else(|| format!("{seconds} seconds since 1970"), |m| m.naive_utc().to_string());
    let unit = if per_second == 1_000_000_000 { "nanoseconds" } else { "its unit" };
    Error::refused(format!("the result of `{function}` is out of the range of timestamps in {unit}"))
        .with("value", moment)
        .hint("cast to a coarser unit first, for example `cast(x as timestamp(3))`")
        .into()
}

// --- date_bin ------------------------------------------------------------------------------------------------------

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateBin {
    /// DataFusion's, for times of day.
    inner: Arc<ScalarUDF>,
    signature: Signature,
}

impl DateBin {
    fn new() -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Self { inner: datafusion::functions::datetime::date_bin(), signature }
    }
}

impl ScalarUDFImpl for DateBin {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "date_bin"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// DataFusion's function casts all timestamps with a zone to nanoseconds.
    fn coerce_types(&self, types: &[DataType]) -> DfResult<Vec<DataType>> {
        let wrong =
            |what: &str| Error::usage(format!("`date_bin` expects an interval, a timestamp and an origin; {what}"));
        let (length, moment, origin) = match types {
            [length, moment] => (length, moment, None),
            [length, moment, origin] => (length, moment, Some(origin)),
            _ => return Err(wrong(&format!("it was given {} arguments", types.len())).into()),
        };
        let length = match length {
            DataType::Interval(IntervalUnit::DayTime) => length.clone(),
            DataType::Interval(_) | DataType::Null => DataType::Interval(IntervalUnit::MonthDayNano),
            text if text.is_string() => DataType::Interval(IntervalUnit::MonthDayNano),
            other => return Err(wrong("the first argument is not an interval").with("type", other).into()),
        };
        let of_moment = |given: &DataType| match given {
            DataType::Timestamp(..) | DataType::Time32(_) | DataType::Time64(_) => Some(given.clone()),
            DataType::Date32 | DataType::Date64 | DataType::Null => {
                Some(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            text if text.is_string() => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
            _ => None,
        };
        let taken =
            of_moment(moment).ok_or_else(|| wrong("the second argument is not a timestamp").with("type", moment))?;
        let mut all = vec![length, taken.clone()];
        if let Some(origin) = origin {
            let known =
                of_moment(origin).ok_or_else(|| wrong("the third argument is not a timestamp").with("type", origin))?;
            all.push(if matches!(taken, DataType::Timestamp(..)) { known } else { taken });
        }
        Ok(all)
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        self.inner.return_type(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let DataType::Timestamp(unit, _) = args.args[1].data_type() else {
            return self.inner.invoke_with_args(args);
        };
        let values = &args.args;
        let origin = match values.get(2) {
            None => Some(0),
            Some(ColumnarValue::Scalar(origin)) => in_nanoseconds(origin),
            Some(_) => return Err(Error::usage("the origin of `date_bin` must be a literal timestamp").into()),
        };
        let null = || Ok(ColumnarValue::Scalar(ScalarValue::try_from(values[1].data_type())?));
        let (Some(bins), Some(origin)) = (Bins::of(&values[0])?, origin) else { return null() };
        let bin = |value: i64, per_second: i64| {
            bins.of_moment(value, per_second, origin).ok_or_else(|| out_of_range("date_bin", value, per_second))
        };
        match unit {
            TimeUnit::Second => each::<TimestampSecondType>(&values[1], |v, _| bin(v, 1)),
            TimeUnit::Millisecond => each::<TimestampMillisecondType>(&values[1], |v, _| bin(v, 1_000)),
            TimeUnit::Microsecond => each::<TimestampMicrosecondType>(&values[1], |v, _| bin(v, 1_000_000)),
            TimeUnit::Nanosecond => each::<TimestampNanosecondType>(&values[1], |v, _| bin(v, 1_000_000_000)),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> DfResult<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// The length of intervals.
#[derive(Debug, Clone, Copy)]
enum Bins {
    Nanoseconds(i128),
    Months(i64),
}

const NANOS_PER_DAY: i128 = 86_400_000_000_000;

impl Bins {
    /// None for null.
    fn of(length: &ColumnarValue) -> DfResult<Option<Self>> {
        let bins = match length {
            ColumnarValue::Scalar(value) if value.is_null() => return Ok(None),
            ColumnarValue::Scalar(ScalarValue::IntervalDayTime(Some(IntervalDayTime { days, milliseconds }))) => {
                Self::Nanoseconds(i128::from(*days) * NANOS_PER_DAY + i128::from(*milliseconds) * 1_000_000)
            }
            ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(interval))) => {
                let IntervalMonthDayNano { months, days, nanoseconds } = *interval;
                let nanoseconds = i128::from(days) * NANOS_PER_DAY + i128::from(nanoseconds);
                match (months, nanoseconds) {
                    (0, nanoseconds) => Self::Nanoseconds(nanoseconds),
                    (months, 0) => Self::Months(months.into()),
                    _ => {
                        return Err(Error::usage(
                            "`date_bin` supports intervals of months or of days and times, but not of both",
                        )
                        .into());
                    }
                }
            }
            _ => return Err(Error::usage("the length of `date_bin` must be a literal interval").into()),
        };
        match bins {
            Self::Nanoseconds(..=0) | Self::Months(..=0) => {
                Err(Error::usage("the interval of `date_bin` must be positive").into())
            }
            bins => Ok(Some(bins)),
        }
    }

    /// `origin` is in nanoseconds.
    fn of_moment(self, value: i64, per_second: i64, origin: i128) -> Option<i64> {
        let scale = i128::from(1_000_000_000 / per_second);
        match self {
            Self::Nanoseconds(length) => {
                let since = i128::from(value) * scale - origin;
                let bin = origin + since.div_euclid(length) * length;
                bin.div_euclid(scale).try_into().ok()
            }
            Self::Months(length) => {
                let moment = moment(i128::from(value) * scale)?;
                let origin = self::moment(origin)?;
                let months = |m: DateTime<Utc>| i64::from(m.year()) * 12 + i64::from(m.month0());
                let bin = |n: i64| add_months(origin, n.checked_mul(length)?);
                let n = (months(moment) - months(origin)).div_euclid(length);
                let bin = bin(n).filter(|start| *start <= moment).or_else(|| bin(n - 1))?;
                let seconds = bin.timestamp().checked_mul(per_second)?;
                seconds.checked_add(i64::from(bin.timestamp_subsec_nanos()) / i64::try_from(scale).ok()?)
            }
        }
    }
}

fn moment(nanoseconds: i128) -> Option<DateTime<Utc>> {
    let seconds = nanoseconds.div_euclid(1_000_000_000).try_into().ok()?;
    DateTime::from_timestamp(seconds, nanoseconds.rem_euclid(1_000_000_000).try_into().ok()?)
}

/// A timestamp of any unit. None for null.
fn in_nanoseconds(moment: &ScalarValue) -> Option<i128> {
    let (value, scale) = match moment {
        ScalarValue::TimestampSecond(value, _) => (value, 1_000_000_000),
        ScalarValue::TimestampMillisecond(value, _) => (value, 1_000_000),
        ScalarValue::TimestampMicrosecond(value, _) => (value, 1_000),
        ScalarValue::TimestampNanosecond(value, _) => (value, 1),
        _ => return None,
    };
    value.map(|value| i128::from(value) * scale)
}

fn add_months(moment: DateTime<Utc>, months: i64) -> Option<DateTime<Utc>> {
    let by = Months::new(months.unsigned_abs().try_into().ok()?);
    if months < 0 { moment.checked_sub_months(by) } else { moment.checked_add_months(by) }
}
