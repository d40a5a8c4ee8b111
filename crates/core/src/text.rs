//! How a text becomes a value: one set of rules for CSV, JSON, folder names and casts of texts.
//!
//! A text becomes a value of a type only if it means exactly that value. Nothing is rounded, truncated or wrapped:
//!
//! * **Integers** are whole numbers in any notation: `12`, `+12`, `007`, `3.0`, `1e3`; but not `1.5`, and not
//!   overflows.
//! * **Decimals** keep all significant digits: `1.50` and `15e-1` fit a `Decimal(2, 1)`, `1.25` and `1.25e0` do not.
//! * **Floats** take the nearest value, since floats are approximations. But a number that is too large is not
//!   infinity, one that is too small is not zero, and a whole number written with all its digits (`9007199254740993`,
//!   `9007199254740993e0`) has to keep them. Infinity and NaN are `inf`, `Infinity` and `NaN`, in any case, with or
//!   without a sign.
//! * **Dates** are `2024-01-31`, or a midnight in UTC; years beyond four digits have a sign (`+10999-12-31`).
//! * **Timestamps** are written as in RFC 3339 with a `T` or a blank, with or without an offset; without one they are
//!   in the column's zone, or UTC. Seconds are optional. A fraction finer than the unit is refused, and so is a leap
//!   second.
//! * **Times of day** are `10:30`, `10:30:00`, `10:30:00.5`.
//! * **Booleans** are `true`, `t`, `yes`, `y`, `1` and `false`, `f`, `no`, `n`, `0`, in any case.
//!
//! A number is never a date, a time or a timestamp, because its unit is unknown.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowNativeTypeOp, BooleanArray, GenericStringBuilder, NullBufferBuilder, OffsetSizeTrait,
    PrimitiveArray, StringArray, StringViewBuilder, timezone::Tz,
};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime, string_to_time_nanoseconds};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type,
    DecimalType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeZone, Utc};

/// The index of the first text that is not a value of the requested type.
pub type BadIndex = usize;

/// Parses texts into an array of type `to`. Blanks around a text are part of it.
///
/// ```
/// use arrow::datatypes::DataType;
/// use hardtack_core::text::parse;
///
/// let prices = [Some("9.50".into()), None, Some("9.999".into())];
/// assert_eq!(parse(prices.into_iter(), &DataType::Decimal128(5, 2)).unwrap_err(), 2);
/// ```
///
/// # Errors
/// The index of the first text that is not a value of the type.
pub fn parse<'a>(texts: impl Iterator<Item = Option<Cow<'a, str>>>, to: &DataType) -> Result<ArrayRef, BadIndex> {
    build(texts, to, &Err).map_err(|bad| match bad {
        Bad::Text(i) => i,
        Bad::Type(_) => 0,
    })
}

/// Like [`parse`], but a text that is not a value of the type becomes null.
///
/// # Errors
/// If texts are never values of the type.
pub fn parse_or_null<'a>(
    texts: impl Iterator<Item = Option<Cow<'a, str>>>,
    to: &DataType,
) -> Result<ArrayRef, ArrowError> {
    build(texts, to, &|_| Ok(())).map_err(|bad| match bad {
        Bad::Text(_) => ArrowError::CastError(format!("a text is not {to}")),
        Bad::Type(e) => e,
    })
}

/// Why there is no array.
enum Bad {
    Text(BadIndex),
    Type(ArrowError),
}

/// The treatment of a bad text: an error, or null.
type OnBad<'f> = &'f dyn Fn(BadIndex) -> Result<(), BadIndex>;

fn build<'a>(
    texts: impl Iterator<Item = Option<Cow<'a, str>>>,
    to: &DataType,
    on_bad: OnBad<'_>,
) -> Result<ArrayRef, Bad> {
    use DataType as D;
    match to {
        D::Utf8 => Ok(strings::<i32>(texts)),
        D::LargeUtf8 => Ok(strings::<i64>(texts)),
        D::Utf8View => {
            let mut builder = StringViewBuilder::with_capacity(texts.size_hint().0);
            texts.for_each(|text| builder.append_option(text));
            Ok(Arc::new(builder.finish()))
        }
        D::Boolean => {
            let value = |(i, text): (usize, Option<Cow<'a, str>>)| match text.map(|text| boolean(&text)) {
                Some(None) => on_bad(i).map(|()| None),
                found => Ok(found.flatten()),
            };
            let values: Result<BooleanArray, BadIndex> = texts.enumerate().map(value).collect();
            Ok(Arc::new(values.map_err(Bad::Text)?))
        }
        D::Int8 => primitive::<Int8Type>(texts, to, on_bad, integer::<Int8Type>),
        D::Int16 => primitive::<Int16Type>(texts, to, on_bad, integer::<Int16Type>),
        D::Int32 => primitive::<Int32Type>(texts, to, on_bad, integer::<Int32Type>),
        D::Int64 => primitive::<Int64Type>(texts, to, on_bad, integer::<Int64Type>),
        D::UInt8 => primitive::<UInt8Type>(texts, to, on_bad, integer::<UInt8Type>),
        D::UInt16 => primitive::<UInt16Type>(texts, to, on_bad, integer::<UInt16Type>),
        D::UInt32 => primitive::<UInt32Type>(texts, to, on_bad, integer::<UInt32Type>),
        D::UInt64 => primitive::<UInt64Type>(texts, to, on_bad, integer::<UInt64Type>),
        D::Float16 => primitive::<Float16Type>(texts, to, on_bad, float::<Float16Type>),
        D::Float32 => primitive::<Float32Type>(texts, to, on_bad, float::<Float32Type>),
        D::Float64 => primitive::<Float64Type>(texts, to, on_bad, float::<Float64Type>),
        D::Decimal32(p, s) => primitive::<Decimal32Type>(texts, to, on_bad, |t| decimal::<Decimal32Type>(t, *p, *s)),
        D::Decimal64(p, s) => primitive::<Decimal64Type>(texts, to, on_bad, |t| decimal::<Decimal64Type>(t, *p, *s)),
        D::Decimal128(p, s) => primitive::<Decimal128Type>(texts, to, on_bad, |t| decimal::<Decimal128Type>(t, *p, *s)),
        D::Decimal256(p, s) => primitive::<Decimal256Type>(texts, to, on_bad, |t| decimal::<Decimal256Type>(t, *p, *s)),
        D::Date32 => primitive::<Date32Type>(texts, to, on_bad, date),
        D::Date64 => primitive::<Date64Type>(texts, to, on_bad, |t| date(t).map(|days| i64::from(days) * 86_400_000)),
        D::Time32(TimeUnit::Second) => primitive::<Time32SecondType>(texts, to, on_bad, |t| time32(t, SECOND)),
        D::Time32(_) => primitive::<Time32MillisecondType>(texts, to, on_bad, |t| time32(t, MILLISECOND)),
        D::Time64(TimeUnit::Nanosecond) => primitive::<Time64NanosecondType>(texts, to, on_bad, |t| time(t, 1)),
        D::Time64(_) => primitive::<Time64MicrosecondType>(texts, to, on_bad, |t| time(t, MICROSECOND)),
        D::Timestamp(unit, zone) => {
            let zone: Tz = zone.as_deref().unwrap_or("+00:00").parse().map_err(Bad::Type)?;
            match unit {
                TimeUnit::Second => {
                    primitive::<TimestampSecondType>(texts, to, on_bad, |t| timestamp(t, &zone, SECOND))
                }
                TimeUnit::Millisecond => {
                    primitive::<TimestampMillisecondType>(texts, to, on_bad, |t| timestamp(t, &zone, MILLISECOND))
                }
                TimeUnit::Microsecond => {
                    primitive::<TimestampMicrosecondType>(texts, to, on_bad, |t| timestamp(t, &zone, MICROSECOND))
                }
                TimeUnit::Nanosecond => {
                    primitive::<TimestampNanosecondType>(texts, to, on_bad, |t| timestamp(t, &zone, 1))
                }
            }
        }
        D::Dictionary(_, values) => {
            let values = build(texts, values, on_bad)?;
            cast(&values, to).map_err(Bad::Type)
        }
        _ => by_cast(&texts.collect::<StringArray>(), to, on_bad),
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(
    texts: impl Iterator<Item = Option<Cow<'a, str>>>,
    to: &DataType,
    on_bad: OnBad<'_>,
    parse: impl Fn(&str) -> Option<T::Native>,
) -> Result<ArrayRef, Bad> {
    let room = texts.size_hint().0;
    let (mut values, mut valid) = (Vec::with_capacity(room), NullBufferBuilder::new(room));
    for (i, text) in texts.enumerate() {
        let value = match text {
            None => None,
            Some(text) => match parse(&text) {
                None => on_bad(i).map(|()| None).map_err(Bad::Text)?,
                value => value,
            },
        };
        match value {
            Some(value) => {
                values.push(value);
                valid.append_non_null();
            }
            None => {
                values.push(T::default_value());
                valid.append_null();
            }
        }
    }
    Ok(Arc::new(PrimitiveArray::<T>::new(values.into(), valid.finish()).with_data_type(to.clone())))
}

fn strings<'a, O: OffsetSizeTrait>(texts: impl Iterator<Item = Option<Cow<'a, str>>>) -> ArrayRef {
    let room = texts.size_hint().0;
    let mut builder = GenericStringBuilder::<O>::with_capacity(room, room * 16);
    texts.for_each(|text| builder.append_option(text));
    Arc::new(builder.finish())
}

/// Types without rules here: binary, intervals.
fn by_cast(texts: &StringArray, to: &DataType, on_bad: OnBad<'_>) -> Result<ArrayRef, Bad> {
    let cast =
        |texts: &StringArray, safe: bool| cast_with_options(texts, to, &CastOptions { safe, ..CastOptions::default() });
    cast(texts, false).or_else(|_| {
        // Only after a failure is it worth checking each text by itself.
        let mut bad = (0..texts.len()).filter(|&i| cast(&texts.slice(i, 1), false).is_err());
        bad.try_for_each(on_bad).map_err(Bad::Text)?;
        cast(texts, true).map_err(Bad::Type)
    })
}

// --- numbers -------------------------------------------------------------------------------------------------------

/// A number in its written form.
#[derive(Debug, Clone, Copy)]
pub struct Number<'a> {
    /// `+` or `-`.
    pub sign: Option<u8>,
    /// The digits before the point.
    pub whole: &'a [u8],
    /// The digits after the point, if there is one.
    pub fraction: Option<&'a [u8]>,
    /// What follows an `e` or `E`.
    pub exponent: Option<Exponent>,
}

/// An exponent in its written form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exponent {
    /// Whether it has a `+` or `-`.
    pub signed: bool,
    /// Its value, or ten to the power of 17 if it is larger.
    pub value: i64,
}

impl<'a> Number<'a> {
    /// Parses `12`, `-1.5`, `.5`, `5.`, `1e3`; nothing else, and no blanks.
    pub fn read(text: &'a str) -> Option<Self> {
        let (sign, rest) = sign(text.as_bytes());
        let (whole, rest) = digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => {
                let (fraction, rest) = digits(rest);
                (Some(fraction), rest)
            }
            rest => (None, rest),
        };
        if whole.is_empty() && fraction.is_none_or(<[u8]>::is_empty) {
            return None;
        }
        let exponent = match rest {
            [] => None,
            [b'e' | b'E', rest @ ..] => Some(Exponent::read(rest)?),
            _ => return None,
        };
        Some(Self { sign, whole, fraction, exponent })
    }

    /// Whether two numbers are equal, in any notation. Zero and minus zero differ.
    pub fn means(&self, other: &Number<'_>) -> bool {
        let same_size = || self.is_zero() || self.magnitude() == other.magnitude();
        (self.sign == Some(b'-')) == (other.sign == Some(b'-'))
            && self.is_zero() == other.is_zero()
            && same_size()
            && self.significant().eq(other.significant())
    }

    /// Whether the nearest float prints with the same digits, by any algorithm: if two equally short numbers are
    /// equally near to the float, the standard library prints one and Ryū, which prints the floats of Arrow and JSON,
    /// the other (`1567637782662579.3` comes back as `.2`).
    pub fn is_kept_by(&self, float: f64) -> bool {
        if !float.is_finite() || self.is_zero() != (float == 0.0) {
            return false;
        }
        // This many digits always come back, except close to zero, where floats are sparser.
        self.significant().count() <= Float64Type::DIGITS && self.magnitude().abs() < 290
            || self.is_written(&format!("{float:e}")) && self.is_written(ryu::Buffer::new().format_finite(float))
    }

    fn is_written(&self, float: &str) -> bool {
        Number::read(float).is_some_and(|back| self.means(&back))
    }

    fn digits(&self) -> impl DoubleEndedIterator<Item = u8> + Clone + '_ {
        self.whole.iter().chain(self.fraction.unwrap_or_default()).map(|b| b - b'0')
    }

    fn is_zero(&self) -> bool {
        self.digits().all(|d| d == 0)
    }

    fn leading_zeros(&self) -> usize {
        self.digits().take_while(|d| *d == 0).count()
    }

    fn trailing_zeros(&self) -> usize {
        self.digits().rev().take_while(|d| *d == 0).count()
    }

    /// Whether this is a whole number with all digits before the point: `12`, `12.0`, `12e3`. Programs that write more
    /// digits than a float has (`%.18e`) put the point after the first digit.
    fn is_written_out(&self) -> bool {
        self.fraction.unwrap_or_default().iter().all(|b| *b == b'0')
            && self.power_of_ten() + self.whole.iter().rev().take_while(|b| **b == b'0').count() as i64 >= 0
    }

    /// The number of written digits.
    fn written(&self) -> usize {
        self.whole.len() + self.fraction.map_or(0, <[u8]>::len)
    }

    /// The digits without leading and trailing zeros.
    fn significant(&self) -> impl Iterator<Item = u8> + '_ {
        let leading = self.leading_zeros();
        let significant = self.written().saturating_sub(leading + self.trailing_zeros());
        self.digits().skip(leading).take(significant)
    }

    /// The power of ten of the first nonzero digit.
    fn magnitude(&self) -> i64 {
        self.whole.len() as i64 - self.leading_zeros() as i64 - 1 + self.power_of_ten()
    }

    fn power_of_ten(&self) -> i64 {
        self.exponent.map_or(0, |e| e.value)
    }

    /// The number in units of ten to the power of `-scale`, if that is exact and has at most `precision` digits, which
    /// have to fit `N`.
    fn scaled<N: ArrowNativeTypeOp>(&self, precision: u8, scale: i8) -> Option<N> {
        let leading = self.leading_zeros();
        if leading == self.written() {
            return Some(N::ZERO);
        }
        // The power of ten of the last digit, in units of the result.
        let power = self.power_of_ten() + i64::from(scale) - self.fraction.map_or(0, <[u8]>::len) as i64;
        let dropped = usize::try_from(-power).unwrap_or(0);
        if dropped > self.trailing_zeros() {
            return None;
        }
        let (kept, added) = (self.written() - leading - dropped, usize::try_from(power).unwrap_or(0));
        if kept.checked_add(added)? > usize::from(precision) {
            return None;
        }
        let ten = N::usize_as(10);
        let (mut value, mut part, mut length) = (N::ZERO, 0_usize, 0_u32);
        // Wide numbers are slow to multiply, so as many digits as a word holds are processed at a time.
        for digit in self.digits().skip(leading).take(kept).chain(std::iter::repeat_n(0, added)) {
            part = part * 10 + usize::from(digit);
            length += 1;
            if length == 18 {
                value = value.mul_wrapping(ten.pow_wrapping(length)).add_wrapping(N::usize_as(part));
                (part, length) = (0, 0);
            }
        }
        if length > 0 {
            value = value.mul_wrapping(ten.pow_wrapping(length)).add_wrapping(N::usize_as(part));
        }
        Some(if self.sign == Some(b'-') { value.neg_wrapping() } else { value })
    }
}

impl Exponent {
    fn read(text: &[u8]) -> Option<Self> {
        let (sign, rest) = sign(text);
        let (digits, rest) = digits(rest);
        if digits.is_empty() || !rest.is_empty() {
            return None;
        }
        // No text is long enough for its digits to offset the largest one.
        let value = digits.iter().fold(0_i64, |n, b| (n * 10 + i64::from(b - b'0')).min(LARGEST));
        Some(Self { signed: sign.is_some(), value: if sign == Some(b'-') { -value } else { value } })
    }
}

const LARGEST: i64 = 10_i64.pow(17);

fn sign(text: &[u8]) -> (Option<u8>, &[u8]) {
    match text {
        [sign @ (b'+' | b'-'), rest @ ..] => (Some(*sign), rest),
        text => (None, text),
    }
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|b| b.is_ascii_digit()).count())
}

fn integer<T: ArrowPrimitiveType + Parser>(text: &str) -> Option<T::Native>
where
    T::Native: TryFrom<i128>,
{
    // The common notation.
    T::parse(text).or_else(|| T::Native::try_from(Number::read(text)?.scaled::<i128>(38, 0)?).ok())
}

/// A decimal with `scale` digits after the point, in units of the last of them.
pub fn decimal<T: DecimalType>(text: &str, precision: u8, scale: i8) -> Option<T::Native> {
    Number::read(text)?.scaled(precision.min(T::MAX_PRECISION), scale)
}

/// The float nearest to the written number.
pub fn float<T: Float>(text: &str) -> Option<T::Native> {
    let value = T::parse(text)?;
    let wide = T::widened(value);
    if text.len() <= T::DIGITS && wide.is_finite() && wide != 0.0 {
        return Some(value);
    }
    let fits = match Number::read(text) {
        // A name of infinity or NaN.
        None => !wide.is_finite(),
        Some(_) if !wide.is_finite() => false,
        Some(number) if wide == 0.0 => number.is_zero(),
        Some(number) if number.is_written_out() => {
            let is = |back: String| Number::read(&back).is_some_and(|back| number.means(&back));
            number.significant().count() <= T::DIGITS || is(T::shortest(value)) || is(format!("{wide:.0}"))
        }
        Some(_) => true,
    };
    fits.then_some(value)
}

/// The types of floats.
pub trait Float: ArrowPrimitiveType + Parser {
    /// Numbers with this many digits survive parsing and printing.
    const DIGITS: usize;
    /// The same value.
    fn widened(value: Self::Native) -> f64;
    /// The shortest digits that identify the value.
    fn shortest(value: Self::Native) -> String;
}

impl Float for Float64Type {
    const DIGITS: usize = f64::DIGITS as usize;
    fn widened(value: f64) -> f64 {
        value
    }
    fn shortest(value: f64) -> String {
        format!("{value:e}")
    }
}

impl Float for Float32Type {
    const DIGITS: usize = f32::DIGITS as usize;
    fn widened(value: f32) -> f64 {
        value.into()
    }
    fn shortest(value: f32) -> String {
        format!("{value:e}")
    }
}

impl Float for Float16Type {
    const DIGITS: usize = 3;
    fn widened(value: Self::Native) -> f64 {
        value.into()
    }
    fn shortest(value: Self::Native) -> String {
        format!("{:e}", f32::from(value))
    }
}

fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 5]| words.iter().any(|w| w.eq_ignore_ascii_case(text));
    if is(["true", "t", "yes", "y", "1"]) { Some(true) } else { is(["false", "f", "no", "n", "0"]).then_some(false) }
}

// --- dates and times -----------------------------------------------------------------------------------------------

// Units in nanoseconds.
const SECOND: i64 = 1_000_000_000;
const MILLISECOND: i64 = 1_000_000;
const MICROSECOND: i64 = 1_000;

/// Days since 1970.
fn date(text: &str) -> Option<i32> {
    let (sign, rest) = sign(text.as_bytes());
    if sign.is_none() && text.len() > 10 {
        let moment = moment(text, &Utc).filter(|m| m.time() == NaiveTime::MIN)?;
        return i32::try_from(moment.timestamp().div_euclid(86_400)).ok();
    }
    // Arrow accepts the number 20240131 as a date, and `+1` or `029` as a part of one whose year has a sign.
    let digits = |part: &[u8], max: usize| part.len() <= max && part.iter().all(u8::is_ascii_digit);
    let mut parts = rest.split(|b| *b == b'-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let plain = parts.next().is_none() && digits(year, 7) && digits(month, 2) && digits(day, 2);
    if plain { Date32Type::parse(text) } else { None }
}

/// In units of `nanos` nanoseconds since 1970.
fn timestamp<Z: TimeZone>(text: &str, zone: &Z, nanos: i64) -> Option<i64> {
    if let Some(second) = utc_second(text) {
        return second.checked_mul(SECOND / nanos);
    }
    // `2024-01-31 10:00`, as spreadsheets write it, with an offset or without.
    let text = match text.as_bytes().get(16) {
        None if text.len() == 16 => Cow::Owned(format!("{text}:00")),
        Some(b'Z' | b'z' | b'+' | b'-' | b' ') => Cow::Owned(format!("{}:00{}", &text[..16], &text[16..])),
        _ => Cow::Borrowed(text),
    };
    let moment = moment(&text, zone)?;
    let below = i64::from(moment.timestamp_subsec_nanos());
    if below % nanos != 0 {
        return None;
    }
    // Before 1970 the seconds may be out of range although the sum is not.
    let units = i128::from(moment.timestamp()) * i128::from(SECOND / nanos) + i128::from(below / nanos);
    i64::try_from(units).ok()
}

/// The fast path for `2024-01-31T10:00:00Z`, the notation of most feeds, in seconds.
fn utc_second(text: &str) -> Option<i64> {
    let bytes: &[u8; 20] = text.as_bytes().try_into().ok()?;
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + u32::from(b - b'0')))
    };
    let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':'), (19, b'Z')];
    if !marks.iter().all(|(at, mark)| bytes[*at] == *mark) || !matches!(bytes[10], b'T' | b' ') {
        return None;
    }
    let day = NaiveDate::from_ymd_opt(number(0, 4)? as i32, number(5, 7)?, number(8, 10)?)?;
    Some(day.and_hms_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?)?.and_utc().timestamp())
}

/// Parses like Arrow, except for leap seconds, which cannot be stored, and digits that Arrow would drop.
fn moment<Z: TimeZone>(text: &str, zone: &Z) -> Option<DateTime<Z>> {
    // Arrow also accepts `2024-01-31T104234`, a number after a day.
    let time = text.split_once(['T', 't', ' ']).map_or("", |(_, time)| time);
    if !time.is_empty() && (time.as_bytes().get(2) != Some(&b':') || !has_valid_offset(time)) {
        return None;
    }
    let moment = string_to_datetime(zone, text).ok()?;
    let is_leap_second = moment.timestamp_subsec_nanos() >= SECOND as u32;
    (!is_leap_second && !is_finer_than_nanos(text)).then_some(moment)
}

/// Arrow also accepts `+02:80`, and any white space in front of an offset.
fn has_valid_offset(time: &str) -> bool {
    let zone = time.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':' || c == '.').trim_start_matches(' ');
    match zone.as_bytes() {
        [b'+' | b'-', _, _, .., tens, _] => (b'0'..b'6').contains(tens),
        _ => !zone.starts_with(char::is_whitespace),
    }
}

/// Since midnight, in units of `nanos` nanoseconds.
fn time(text: &str, nanos: i64) -> Option<i64> {
    let of_day = string_to_time_nanoseconds(text).ok()?;
    let is_leap_second = text.split(':').nth(2).is_some_and(|seconds| seconds.starts_with("60"));
    (!is_leap_second && !is_finer_than_nanos(text) && of_day % nanos == 0).then(|| of_day / nanos)
}

fn time32(text: &str, nanos: i64) -> Option<i32> {
    time(text, nanos)?.try_into().ok()
}

fn is_finer_than_nanos(text: &str) -> bool {
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    fraction.bytes().take_while(u8::is_ascii_digit).skip(9).any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::util::display::array_value_to_string;
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn check(text: &str, to: &DataType) -> Option<String> {
        let strict = parse([Some(Cow::Borrowed(text))].into_iter(), to).ok();
        let lenient = parse_or_null([None, Some(Cow::Borrowed(text))].into_iter(), to).unwrap();
        assert_eq!(strict.is_some(), lenient.is_valid(1), "{text} as {to}");
        let array = strict?;
        assert_eq!((array.data_type(), lenient.data_type()), (to, to));
        assert_eq!(array_value_to_string(&lenient, 1).unwrap(), array_value_to_string(&array, 0).unwrap());
        Some(array_value_to_string(&array, 0).unwrap())
    }

    const TIMESTAMP_S: DataType = DataType::Timestamp(TimeUnit::Second, None);
    const TIMESTAMP_US: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
    const TIMESTAMP_NS: DataType = DataType::Timestamp(TimeUnit::Nanosecond, None);
    const TIME_US: DataType = DataType::Time64(TimeUnit::Microsecond);

    #[rstest]
    #[case("12", DataType::Int64, Some("12"))]
    #[case("-3", DataType::Int8, Some("-3"))]
    #[case(" 3", DataType::Int8, None)]
    #[case("+3", DataType::UInt8, Some("3"))]
    #[case("-0", DataType::UInt8, Some("0"))]
    #[case("007", DataType::Int64, Some("7"))]
    #[case("3.0", DataType::Int32, Some("3"))]
    #[case("3.", DataType::Int32, Some("3"))]
    #[case(".0", DataType::Int32, Some("0"))]
    #[case("1e3", DataType::UInt16, Some("1000"))]
    #[case("1e3", DataType::Int16, Some("1000"))]
    #[case("1e2", DataType::UInt8, Some("100"))]
    #[case("1e9", DataType::UInt32, Some("1000000000"))]
    #[case("1.5e1", DataType::UInt16, Some("15"))]
    #[case("1500e-2", DataType::UInt16, Some("15"))]
    #[case("150e-2", DataType::UInt16, None)]
    #[case("1e400", DataType::Int64, None)]
    #[case("0e400", DataType::Int64, Some("0"))]
    #[case("1e99999999999999999999", DataType::Int64, None)]
    #[case("1e-99999999999999999999", DataType::Int64, None)]
    #[case("1.5", DataType::Int64, None)]
    #[case("300", DataType::Int8, None)]
    #[case("-1", DataType::UInt64, None)]
    #[case("9223372036854775807", DataType::Int64, Some("9223372036854775807"))]
    #[case("9223372036854775808", DataType::Int64, None)]
    #[case("9007199254740993.0", DataType::Int64, Some("9007199254740993"))]
    #[case("9.007199254740993e15", DataType::Int64, Some("9007199254740993"))]
    #[case("18446744073709551615.00", DataType::UInt64, Some("18446744073709551615"))]
    #[case("12abc", DataType::Int64, None)]
    #[case("", DataType::Int64, None)]
    #[case("-", DataType::Int64, None)]
    #[case("--1", DataType::Int64, None)]
    #[case("e5", DataType::Int64, None)]
    #[case("1e", DataType::Int64, None)]
    #[case("1e+", DataType::Int64, None)]
    #[case("2.5e-1", DataType::Float64, Some("0.25"))]
    #[case("0.1000000000000000055", DataType::Float64, Some("0.1"))]
    #[case("1,5", DataType::Float64, None)]
    #[case("1e400", DataType::Float64, None)]
    #[case("-1e400", DataType::Float64, None)]
    #[case("1e-400", DataType::Float64, None)]
    #[case("0e-400", DataType::Float64, Some("0.0"))]
    #[case("-0", DataType::Float64, Some("-0.0"))]
    #[case("1e39", DataType::Float32, None)]
    #[case("1e-50", DataType::Float32, None)]
    #[case("3.4028235e38", DataType::Float32, Some("3.4028235e38"))]
    #[case("70000", DataType::Float16, None)]
    #[case("1.5", DataType::Float16, Some("1.5"))]
    #[case("9007199254740993", DataType::Float64, None)]
    #[case("9007199254740993.000", DataType::Float64, None)]
    #[case("9007199254740993e0", DataType::Float64, None)]
    #[case("90071992547409930e-1", DataType::Float64, None)]
    #[case("90071992547409935e-1", DataType::Float64, Some("9007199254740994.0"))]
    #[case("9007199254740992e0", DataType::Float64, Some("9007199254740992.0"))]
    #[case("17976931348623157e292", DataType::Float64, Some("1.7976931348623157e308"))]
    #[case("3.300000000000000141e+25", DataType::Float64, Some("3.3e25"))]
    #[case("16777217e0", DataType::Float32, None)]
    #[case("340282350000000000000000000000000000000", DataType::Float32, Some("3.4028235e38"))]
    #[case("2048", DataType::Float16, Some("2048"))]
    #[case("2049", DataType::Float16, None)]
    #[case("9007199254740994", DataType::Float64, Some("9007199254740994.0"))]
    #[case("12345678901234567168.00", DataType::Float64, Some("1.2345678901234567e19"))]
    #[case("100000000000000000000000", DataType::Float64, Some("1e23"))]
    #[case("123456789012345678901234567890", DataType::Float64, None)]
    #[case("16777217", DataType::Float32, None)]
    #[case("16777217.5", DataType::Float32, Some("16777218.0"))]
    #[case("inf", DataType::Float64, Some("inf"))]
    #[case("-Infinity", DataType::Float32, Some("-inf"))]
    #[case("NaN", DataType::Float64, Some("NaN"))]
    #[case("nano", DataType::Float64, None)]
    #[case("TRUE", DataType::Boolean, Some("true"))]
    #[case("n", DataType::Boolean, Some("false"))]
    #[case("on", DataType::Boolean, None)]
    #[case("2", DataType::Boolean, None)]
    #[case("2024-02-29", DataType::Date32, Some("2024-02-29"))]
    #[case("2024-2-9", DataType::Date32, Some("2024-02-09"))]
    #[case("2023-02-29", DataType::Date32, None)]
    #[case("2024-02-29T00:00:00Z", DataType::Date32, Some("2024-02-29"))]
    #[case("2024-02-29T10:30:00Z", DataType::Date32, None)]
    #[case("2024-02-29T00:00:00.0000000001Z", DataType::Date32, None)]
    #[case("1905-01-01 00:00:00", DataType::Date32, Some("1905-01-01"))]
    #[case("+10999-12-31", DataType::Date32, Some("+10999-12-31"))]
    #[case("+10999-+1-31", DataType::Date32, None)]
    #[case("-0044-03-15", DataType::Date64, Some("-0044-03-15T00:00:00"))]
    #[case("+999999-01-01", DataType::Date32, None)]
    #[case("1987", DataType::Date32, None)]
    #[case("870314", DataType::Date32, None)]
    #[case("198703", DataType::Date32, None)]
    #[case("19000", DataType::Date32, None)]
    #[case("-1", DataType::Date32, None)]
    #[case("20240131", DataType::Date32, None)]
    #[case("20240131", DataType::Date64, None)]
    #[case("20240131", TIMESTAMP_S, None)]
    #[case("1700000000", TIMESTAMP_US, None)]
    #[case("1700000000000", TIMESTAMP_US, None)]
    #[case("1.20", DataType::Decimal128(9, 2), Some("1.20"))]
    #[case("1.200", DataType::Decimal128(9, 2), Some("1.20"))]
    #[case("1.239", DataType::Decimal128(9, 2), None)]
    #[case("1.239e0", DataType::Decimal128(9, 2), None)]
    #[case("1.23e0", DataType::Decimal128(9, 2), Some("1.23"))]
    #[case("1.5e-3", DataType::Decimal128(9, 2), None)]
    #[case("1.5e-1", DataType::Decimal128(9, 2), Some("0.15"))]
    #[case("e5", DataType::Decimal128(9, 2), None)]
    #[case("1e65538", DataType::Decimal128(9, 2), None)]
    #[case("1.000000000000000000000000000000000000000000e0", DataType::Decimal128(9, 2), Some("1.00"))]
    #[case("12345678.00", DataType::Decimal128(9, 2), None)]
    #[case("1.239", DataType::Decimal32(9, 2), None)]
    #[case("1234567.89", DataType::Decimal32(9, 2), Some("1234567.89"))]
    #[case("1.239", DataType::Decimal64(18, 2), None)]
    #[case("123456789012345678", DataType::Decimal64(18, 0), Some("123456789012345678"))]
    #[case(
        "99999999999999999999999999999999999999",
        DataType::Decimal128(38, 0),
        Some("99999999999999999999999999999999999999")
    )]
    #[case("-0.000000000000000000000000000000000000012e-1", DataType::Decimal128(38, 38), None)]
    #[case("-7", DataType::Decimal256(50, 3), Some("-7.000"))]
    #[case("1200", DataType::Decimal128(3, -2), Some("1200"))]
    #[case("1250", DataType::Decimal128(3, -2), None)]
    #[case(".", DataType::Decimal128(9, 2), None)]
    #[case("2024-01-31 10:00:00", TIMESTAMP_US, Some("2024-01-31T10:00:00"))]
    #[case("2024-01-31T10:00:00+02:00", TIMESTAMP_S, Some("2024-01-31T08:00:00"))]
    #[case("2024-01-31T10:00:00 +0200", TIMESTAMP_S, Some("2024-01-31T08:00:00"))]
    #[case("2024-01-31T10:00+02", TIMESTAMP_S, Some("2024-01-31T08:00:00"))]
    #[case("2024-01-31T10:00:00-02:59", TIMESTAMP_S, Some("2024-01-31T12:59:00"))]
    #[case("2024-01-31T10:00:00+02:60", TIMESTAMP_S, None)]
    #[case("2024-01-31T10:00:00.5-0360", TIMESTAMP_US, None)]
    #[case("2024-01-31T10:00:00+24:00", TIMESTAMP_S, None)]
    #[case("2024-01-31T10:00:00\t+02:00", TIMESTAMP_S, None)]
    #[case("2024-01-31T10:00:00\u{b}+02:00", TIMESTAMP_S, None)]
    #[case("2024-01-31T10:00:00\u{a0}+02:00", TIMESTAMP_S, None)]
    #[case("2024-01-31T10:00:00+:0200", TIMESTAMP_S, None)]
    #[case("-0220-04-29", DataType::Date32, Some("-0220-04-29"))]
    #[case("-0220-4-029", DataType::Date32, None)]
    #[case("-0220-004-29", DataType::Date32, None)]
    #[case("+00002024-01-31", DataType::Date32, None)]
    #[case("2024-01-31T10:00:00Z", TIMESTAMP_US, Some("2024-01-31T10:00:00"))]
    #[case("2024-01-31 10:00", TIMESTAMP_S, Some("2024-01-31T10:00:00"))]
    #[case("2024-01-31T10:00Z", TIMESTAMP_S, Some("2024-01-31T10:00:00"))]
    #[case("2024-01-31T10:00-01:30", TIMESTAMP_US, Some("2024-01-31T11:30:00"))]
    #[case("2024-01-31T10:\u{fc}0", TIMESTAMP_US, None)]
    #[case("2024-01-31T10:0\u{fc}Z", TIMESTAMP_US, None)]
    #[case("2024-01-31", TIMESTAMP_S, Some("2024-01-31T00:00:00"))]
    #[case("2024-01-31T104234", TIMESTAMP_S, None)]
    #[case("2024-01-31 104234Z", TIMESTAMP_US, None)]
    #[case("2024-01-31T000000", DataType::Date32, None)]
    #[case("2024-01-31T10:00:00.5Z", TIMESTAMP_S, None)]
    #[case("2024-01-31T10:00:00.1234567Z", TIMESTAMP_US, None)]
    #[case("2024-01-31T10:00:00.1234560000001Z", TIMESTAMP_US, None)]
    #[case("2024-01-31T10:00:00.123456000000Z", TIMESTAMP_US, Some("2024-01-31T10:00:00.123456"))]
    #[case("2024-01-31T10:00:00.1234567891", TIMESTAMP_NS, None)]
    #[case("1677-09-21T00:12:43.145224192", TIMESTAMP_NS, Some("1677-09-21T00:12:43.145224192"))]
    #[case("1677-09-21T00:12:43.145224191", TIMESTAMP_NS, None)]
    #[case("2262-04-11T23:47:16.854775808", TIMESTAMP_NS, None)]
    #[case("9999-12-31", TIMESTAMP_US, Some("9999-12-31T00:00:00"))]
    #[case("9999-12-31", TIMESTAMP_NS, None)]
    #[case("2016-12-31T23:59:60Z", TIMESTAMP_S, None)]
    #[case("2016-12-31T23:59:60.5Z", TIMESTAMP_NS, None)]
    #[case("2024-01-31T24:00:00Z", TIMESTAMP_S, None)]
    #[case("1969-12-31T23:59:59.5Z", DataType::Timestamp(TimeUnit::Millisecond, None), Some("1969-12-31T23:59:59.500"))]
    #[case("2024-07-01 12:00:00", DataType::Timestamp(TimeUnit::Second, Some("+02:00".into())), Some("2024-07-01T12:00:00+02:00"))]
    #[case("10:30:00", TIME_US, Some("10:30:00"))]
    #[case("10:30", TIME_US, Some("10:30:00"))]
    #[case("10:30:00.1234567", TIME_US, None)]
    #[case("10:30:00.1234560001", TIME_US, None)]
    #[case("23:59:60", TIME_US, None)]
    #[case("10:30:60", DataType::Time32(TimeUnit::Second), None)]
    #[case("10:30:00.0005", DataType::Time32(TimeUnit::Millisecond), None)]
    #[case("23:59:60", DataType::Time64(TimeUnit::Nanosecond), None)]
    #[case("10:30:00.000000001", DataType::Time64(TimeUnit::Nanosecond), Some("10:30:00.000000001"))]
    #[case("10:30:00.5", DataType::Time32(TimeUnit::Second), None)]
    #[case("10:30:00.5", DataType::Time32(TimeUnit::Millisecond), Some("10:30:00.500"))]
    #[case("37800", DataType::Time32(TimeUnit::Second), None)]
    #[case("-1", TIME_US, None)]
    #[case("ab", DataType::Binary, Some("6162"))]
    #[case("ab", DataType::LargeUtf8, Some("ab"))]
    #[case("1.239", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Decimal128(9, 2))), None)]
    #[case("12", DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int64)), Some("12"))]
    fn texts_become_values_or_are_refused(#[case] text: &str, #[case] to: DataType, #[case] value: Option<&str>) {
        assert_eq!(check(text, &to).as_deref(), value);
    }

    #[rstest]
    #[case("1.50", "15e-1", true)]
    #[case("0.00", "0e9", true)]
    #[case("0", "-0.0", false)]
    #[case("0", "1", false)]
    #[case("1", "0", false)]
    #[case("12", "-12", false)]
    #[case("12", "1.2", false)]
    #[case("0.012", "12e-3", true)]
    #[case("12", "13", false)]
    #[case("12", "120e-1", true)]
    fn numbers_are_the_same_however_they_are_written(#[case] a: &str, #[case] b: &str, #[case] same: bool) {
        assert_eq!(Number::read(a).unwrap().means(&Number::read(b).unwrap()), same);
    }

    #[rstest]
    #[case("0.1", 0.1, true)]
    #[case("1e999", f64::INFINITY, false)]
    #[case("0", 0.0, true)]
    #[case("1e-999", 0.0, false)]
    #[case("9007199254740993", 9007199254740992.0, false)]
    #[case("1.7976931348623157e308", f64::MAX, true)]
    #[case("123456789012345e-330", 1.23456789012345e-316, false)]
    #[case("0.0123456789012345e-300", 1.23456789012345e-302, true)]
    #[case("5e-324", 5e-324, true)]
    #[case("4e-324", 5e-324, false)]
    #[case("1567637782662579.3", 1567637782662579.3, false)]
    #[case("1567637782662579.2", 1567637782662579.2, false)]
    #[case("1567637782662579.25", 1567637782662579.2, false)]
    fn floats_keep_the_numbers_that_come_back(#[case] text: &str, #[case] float: f64, #[case] kept: bool) {
        assert_eq!(Number::read(text).unwrap().is_kept_by(float), kept);
    }

    #[test]
    fn digits_far_behind_the_point_count() {
        let small = format!("0.{}1e201", "0".repeat(200));
        assert_eq!(check(&small, &DataType::Decimal128(9, 2)).as_deref(), Some("1.00"));
        assert_eq!(check(&small, &DataType::Int8).as_deref(), Some("1"));
        assert_eq!(check(&format!("0.{}1e2", "0".repeat(200)), &DataType::Decimal128(9, 2)), None);
        assert_eq!(check(&format!("0.{}e2", "0".repeat(200)), &DataType::Decimal128(9, 2)).as_deref(), Some("0.00"));
        assert_eq!(check(&format!("0.{}", "0".repeat(500)), &DataType::Float64).as_deref(), Some("0.0"));
    }

    #[test]
    fn the_first_bad_text_is_named() {
        for to in [DataType::Int64, TIME_US, DataType::Boolean] {
            let texts = [None, Some("x"), Some("z")].map(|t| t.map(Cow::Borrowed));
            assert_eq!(parse(texts.clone().into_iter(), &to).unwrap_err(), 1, "{to}");
            assert_eq!(parse_or_null(texts.into_iter(), &to).unwrap().null_count(), 3, "{to}");
        }
    }

    /// A number without an exponent, by moving the point in the text: its sign, the digits before the point without
    /// leading zeros, and those after it without trailing zeros.
    fn plain(text: &str) -> Option<(bool, String, String)> {
        let lower = text.to_ascii_lowercase();
        let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |t: &str| t.chars().all(|c| c.is_ascii_digit());
        if unsigned.is_empty() || !all_digits(unsigned) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        if whole.len() + fraction.len() == 0 {
            return None;
        }
        let (mut whole, mut fraction) = (whole.to_owned(), fraction.to_owned());
        for _ in 0..unsigned.parse::<usize>().unwrap() {
            if exponent.starts_with('-') {
                fraction.insert(0, whole.pop().unwrap_or('0'));
            } else {
                whole.push(if fraction.is_empty() { '0' } else { fraction.remove(0) });
            }
        }
        Some((negative, whole.trim_start_matches('0').to_owned(), fraction.trim_end_matches('0').to_owned()))
    }

    fn numbers() -> impl Strategy<Value = String> {
        prop_oneof![
            "[+-]?[0-9]{0,6}(\\.[0-9]{0,6})?([eE][+-]?[0-9]{1,2})?",
            "[+-]?0{0,3}[0-9]{0,45}(\\.[0-9]{0,45}0{0,5})?([eE][+-]?[0-9]{1,3})?",
            "[-+.eE0-9 ]{0,6}",
            any::<f64>().prop_map(|v| v.to_string()),
            any::<f64>().prop_map(|v| format!("{v:e}")),
            any::<i64>().prop_map(|v| v.to_string()),
            (any::<u64>(), 0..30_usize).prop_map(|(v, zeros)| format!("{v}.{}", "0".repeat(zeros))),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_decimal_is_exactly_what_is_written(text in numbers(), precision in 1_u8..=38, scale in 0_u8..=38, wide in any::<bool>()) {
            let scale = scale.min(precision);
            let expected = plain(&text).and_then(|(negative, whole, fraction)| {
                let (kept, room) = (usize::from(scale), usize::from(precision - scale));
                let zero = whole.is_empty() && fraction.is_empty();
                let sign = if negative && !zero { "-" } else { "" };
                let whole = if whole.len() <= room { if whole.is_empty() { "0" } else { &whole } } else { return None };
                match fraction.len() <= kept {
                    true if kept == 0 => Some(format!("{sign}{whole}")),
                    true => Some(format!("{sign}{whole}.{fraction:0<kept$}")),
                    false => None,
                }
            });
            let to = match wide {
                true => DataType::Decimal256(precision, scale as i8),
                false => DataType::Decimal128(precision, scale as i8),
            };
            prop_assert_eq!(check(&text, &to), expected);
        }

        #[test]
        fn an_integer_is_exactly_what_is_written(text in numbers()) {
            let expected = plain(&text).filter(|(_, _, fraction)| fraction.is_empty()).map(|(negative, whole, _)| {
                format!("{}{}", if negative && !whole.is_empty() { "-" } else { "" }, if whole.is_empty() { "0" } else { &whole })
            });
            let of = |fits: fn(&str) -> bool| expected.clone().filter(|e| fits(e));
            prop_assert_eq!(check(&text, &DataType::Int64), of(|e| e.parse::<i64>().is_ok()));
            prop_assert_eq!(check(&text, &DataType::UInt64), of(|e| e.parse::<u64>().is_ok()));
            prop_assert_eq!(check(&text, &DataType::Int8), of(|e| e.parse::<i8>().is_ok()));
        }

        /// The nearest float by the standard library; otherwise it is too large, too small, or loses digits of a whole
        /// number.
        #[test]
        fn a_float_is_the_nearest_or_refused(text in numbers()) {
            let found = parse([Some(Cow::Borrowed(text.as_str()))].into_iter(), &DataType::Float64).ok();
            let found = found.map(|array| array.as_primitive::<Float64Type>().value(0));
            let Some((negative, whole, fraction)) = plain(&text) else {
                prop_assert!(found.is_none());
                return Ok(());
            };
            let nearest: f64 = text.parse().unwrap();
            let back = plain(&format!("{nearest:e}"));
            let exact = plain(&format!("{nearest:.0}"));
            let is_zero = whole.is_empty() && fraction.is_empty();
            let mantissa = text.split(['e', 'E']).next().unwrap();
            let behind_point = mantissa.split_once('.').map_or("", |(_, digits)| digits);
            let written_out = fraction.is_empty() && behind_point.bytes().all(|b| b == b'0');
            let number = Some((negative, whole, fraction));
            let fits = nearest.is_finite()
                && (nearest == 0.0) == is_zero
                && (!written_out || back == number || exact == number);
            prop_assert_eq!(found.map(f64::to_bits), fits.then_some(nearest.to_bits()));
        }

        #[test]
        fn a_float_keeps_a_number_if_it_comes_back_with_its_digits(text in numbers()) {
            if let Some(number) = Number::read(&text) {
                let nearest: f64 = text.parse().unwrap();
                let comes_back = |written: &str| plain(written) == plain(&text);
                let kept = nearest.is_finite() && comes_back(&format!("{nearest:e}")) && comes_back(ryu::Buffer::new().format_finite(nearest));
                prop_assert_eq!(number.is_kept_by(nearest), kept, "{} {:e}", text, nearest);
            }
            prop_assert_eq!(Number::read(&text).is_some(), plain(&text).is_some());
        }

        /// No text makes the parser panic, and a date or time keeps the digits that were written.
        #[test]
        fn dates_and_times_have_the_digits_that_were_written(
            text in prop_oneof!["[-+0-9:.TZ ]{0,32}", "[0-9]{4}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-6][0-9](\\.[0-9]{1,12})?)?)?", "[0-2][0-9]:[0-5][0-9](:[0-6][0-9](\\.[0-9]{1,12})?)?", "\\PC{0,12}"],
        ) {
            let digits = |t: &str| t.chars().filter(char::is_ascii_digit).collect::<String>().trim_end_matches('0').to_owned();
            for to in [DataType::Date32, TIMESTAMP_S, TIMESTAMP_US, TIMESTAMP_NS, TIME_US, DataType::Time32(TimeUnit::Second)] {
                let Some(shown) = check(&text, &to) else { continue };
                prop_assert!(text.contains(['-', ':']), "{text} is a number and no {to}");
                // An offset or another notation of the year changes digits; both have a sign or are short.
                if !text[10.min(text.len())..].contains(['+', '-', ' ']) && !text.starts_with(['+', '-']) && text.len() != 8 && text.len() != 9 {
                    prop_assert_eq!(digits(&shown), digits(&text), "{} as {}", text, to);
                }
            }
        }

        #[test]
        fn the_short_way_to_a_second_ends_where_the_long_one_does(
            parts in (0_u32..=9999, 0_u32..14, 0_u32..33, 0_u32..26, 0_u32..62, 0_u32..62),
            damage in prop::option::weighted(0.3, (0_usize..20, "[0-9:TZ +-]")),
        ) {
            let (y, m, d, h, min, s) = parts;
            let mut text = format!("{y:04}-{m:02}-{d:02}T{h:02}:{min:02}:{s:02}Z");
            if let Some((at, with)) = damage {
                text.replace_range(at..=at, &with);
            }
            if let Some(second) = utc_second(&text) {
                prop_assert_eq!(string_to_datetime(&Utc, &text).unwrap().timestamp(), second);
            } else if let Ok(moment) = string_to_datetime(&Utc, &text) {
                let is_leap_second = moment.timestamp_subsec_nanos() >= 1_000_000_000;
                let usual = moment.format("%Y-%m-%dT%H:%M:%SZ").to_string();
                prop_assert!(text != usual || is_leap_second, "{} is usual", text);
            }
        }
    }
}
