//! Conditions, and what they compare with.

use std::ops::Deref;
use std::sync::Arc;

use chrono::{NaiveDate, NaiveTime};

use crate::number::Number;
use crate::text::Text;

/// A comparison with operands of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition<T> {
    /// `= x`
    Equal(T),
    /// `!= x`
    NotEqual(T),
    /// `> x`
    GreaterThan(T),
    /// `>= x`
    AtLeast(T),
    /// `< x`
    LessThan(T),
    /// `<= x`
    AtMost(T),
    /// `between x and y`: Glue documents the bounds as excluded.
    Between(T, T),
    /// `not between x and y`: the opposite, so that it holds at the bounds.
    NotBetween(T, T),
    /// `in [x, y]`; never empty.
    In(Vec<T>),
    /// `not in [x, y]`; never empty.
    NotIn(Vec<T>),
}

/// A condition on a number, such as `> 0.9`.
pub type NumberCondition = Condition<Number>;
/// A condition on a date or time, such as `> (now() - 3 days)`.
pub type DateCondition = Condition<DateValue>;
/// A condition on an age, such as `<= 24 hours`.
pub type DurationCondition = Condition<Duration>;
/// A condition on the size of a file, such as `< 2 GB`.
pub type SizeCondition = Condition<Size>;

impl<T> Condition<T> {
    /// `= x`
    pub fn equal(x: impl Into<T>) -> Self {
        Self::Equal(x.into())
    }

    /// `!= x`
    pub fn not_equal(x: impl Into<T>) -> Self {
        Self::NotEqual(x.into())
    }

    /// `> x`
    pub fn greater_than(x: impl Into<T>) -> Self {
        Self::GreaterThan(x.into())
    }

    /// `>= x`
    pub fn at_least(x: impl Into<T>) -> Self {
        Self::AtLeast(x.into())
    }

    /// `< x`
    pub fn less_than(x: impl Into<T>) -> Self {
        Self::LessThan(x.into())
    }

    /// `<= x`
    pub fn at_most(x: impl Into<T>) -> Self {
        Self::AtMost(x.into())
    }

    /// `between x and y`
    pub fn between(x: impl Into<T>, y: impl Into<T>) -> Self {
        Self::Between(x.into(), y.into())
    }

    /// `not between x and y`
    pub fn not_between(x: impl Into<T>, y: impl Into<T>) -> Self {
        Self::NotBetween(x.into(), y.into())
    }

    /// `in [x, y, …]`
    pub fn is_in<X: Into<T>>(list: impl IntoIterator<Item = X>) -> Self {
        Self::In(list.into_iter().map(Into::into).collect())
    }

    /// `not in [x, y, …]`
    pub fn is_not_in<X: Into<T>>(list: impl IntoIterator<Item = X>) -> Self {
        Self::NotIn(list.into_iter().map(Into::into).collect())
    }

    /// The operands, in order.
    pub fn operands(&self) -> impl Iterator<Item = &T> {
        let (one, two, list) = match self {
            Self::Equal(x)
            | Self::NotEqual(x)
            | Self::GreaterThan(x)
            | Self::AtLeast(x)
            | Self::LessThan(x)
            | Self::AtMost(x) => (Some(x), None, [].as_slice()),
            Self::Between(x, y) | Self::NotBetween(x, y) => (Some(x), Some(y), [].as_slice()),
            Self::In(list) | Self::NotIn(list) => (None, None, list.as_slice()),
        };
        one.into_iter().chain(two).chain(list)
    }

    /// The same comparison with other operands.
    ///
    /// # Errors
    /// The first of `f`.
    pub fn try_map<U, E>(self, mut f: impl FnMut(T) -> Result<U, E>) -> Result<Condition<U>, E> {
        Ok(match self {
            Self::Equal(x) => Condition::Equal(f(x)?),
            Self::NotEqual(x) => Condition::NotEqual(f(x)?),
            Self::GreaterThan(x) => Condition::GreaterThan(f(x)?),
            Self::AtLeast(x) => Condition::AtLeast(f(x)?),
            Self::LessThan(x) => Condition::LessThan(f(x)?),
            Self::AtMost(x) => Condition::AtMost(f(x)?),
            Self::Between(x, y) => Condition::Between(f(x)?, f(y)?),
            Self::NotBetween(x, y) => Condition::NotBetween(f(x)?, f(y)?),
            Self::In(list) => Condition::In(list.into_iter().map(f).collect::<Result<_, _>>()?),
            Self::NotIn(list) => Condition::NotIn(list.into_iter().map(f).collect::<Result<_, _>>()?),
        })
    }
}

impl Condition<Number> {
    /// Whether it depends on earlier runs.
    pub fn is_dynamic(&self) -> bool {
        self.operands().any(Number::is_dynamic)
    }
}

/// A condition on texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StringCondition {
    /// `= "a"`
    Equal(StringValue),
    /// `!= "a"`
    NotEqual(StringValue),
    /// `in ["a", "b"]` or `in $list`
    In(StringList),
    /// `not in ["a", "b"]` or `not in $list`
    NotIn(StringList),
    /// `matches "[a-z]+"`
    Matches(Pattern),
    /// `not matches "[a-z]+"`
    NotMatches(Pattern),
}

/// What a text is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StringValue {
    /// `"a"`
    Text(Text),
    /// `NULL`: there is no value.
    Null,
    /// `EMPTY`: the text without characters.
    Empty,
    /// `WHITESPACES_ONLY`: a text that has nothing but white space, and some of it.
    WhitespacesOnly,
}

impl<T: Into<Text>> From<T> for StringValue {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// The texts of `in [...]`, never empty. It dereferences to a slice, and remembers the variable that it came from as
/// [`Text`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringList {
    values: Arc<[StringValue]>,
    variable: Option<Arc<str>>,
}

impl StringList {
    pub(crate) fn of_variable(values: Arc<[StringValue]>, variable: Arc<str>) -> Self {
        Self { values, variable: Some(variable) }
    }

    /// The name of the variable that stands for the list, without `$`.
    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }
}

impl Deref for StringList {
    type Target = [StringValue];

    fn deref(&self) -> &[StringValue] {
        &self.values
    }
}

impl<V: Into<StringValue>> FromIterator<V> for StringList {
    fn from_iter<I: IntoIterator<Item = V>>(values: I) -> Self {
        Self { values: values.into_iter().map(Into::into).collect(), variable: None }
    }
}

/// A regular expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

/// Patterns that are longer are refused: checking one takes much more memory than its text.
const PATTERN_BYTES: usize = 10_000;

impl Pattern {
    /// As the crate `regex` reads it; `\"` and `"` are the same. [`RuleSet::check`](crate::RuleSet::check) refuses
    /// what is not a regular expression.
    pub fn new(pattern: &str) -> Self {
        let mut plain = String::with_capacity(pattern.len());
        let mut rest = pattern;
        // Pair by pair, for a `\` may itself be escaped.
        while let Some(at) = rest.find('\\') {
            let (before, escaped) = rest.split_at(at);
            let length = 1 + escaped.chars().nth(1).map_or(0, char::len_utf8);
            plain.push_str(before);
            plain.push_str(if &escaped[..length] == "\\\"" { "\"" } else { &escaped[..length] });
            rest = &escaped[length..];
        }
        plain.push_str(rest);
        Self(plain.into())
    }

    /// The expression, as the crate `regex` reads it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is wrong with it: of a pattern that can be read, nothing.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.0.len() > PATTERN_BYTES {
            return Some(format!("a pattern has at most {PATTERN_BYTES} bytes"));
        }
        let reason = match regex_syntax::parse(&self.0).err()? {
            regex_syntax::Error::Parse(e) => e.kind().to_string(),
            regex_syntax::Error::Translate(e) => e.kind().to_string(),
            _ => "it cannot be read".to_owned(),
        };
        Some(format!("not a regular expression that is supported: {reason}"))
    }
}

impl From<&str> for Pattern {
    fn from(pattern: &str) -> Self {
        Self::new(pattern)
    }
}

/// A condition on the values of a column. Its operands decide its type: all of them are numbers, or dates, or texts.
///
/// `= NULL` is a condition on texts, whatever the type of the column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueCondition {
    /// `between 1 and 9`, `in [1, 2, NULL]`
    Numbers {
        /// The comparison.
        condition: NumberCondition,
        /// Whether `NULL` is in the list, too. Only with [`In`](Condition::In) and [`NotIn`](Condition::NotIn).
        null: bool,
    },
    /// `> "2024-01-01"`, `in ["2024-01-01", NULL]`
    Dates {
        /// The comparison.
        condition: DateCondition,
        /// Whether `NULL` is in the list, too. Only with [`In`](Condition::In) and [`NotIn`](Condition::NotIn).
        null: bool,
    },
    /// `in ["a", EMPTY]`, `matches "[a-z]+"`
    Strings(StringCondition),
}

/// A date or a time in a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateValue {
    /// `"2024-06-30"`
    Date(NaiveDate),
    /// `"9:30 AM"`, `"21:45"`: today at this time, in the time zone of the tag `timeZone`, or in UTC. To the minute.
    Time(NaiveTime),
    /// `now()`
    Now,
    /// `(now() - 3 days)`
    Before(Duration),
    /// `(now() + 3 days)`
    After(Duration),
}

impl DateValue {
    /// The date or time that a text between quotes stands for: `None` if it looks like neither, an error if it looks
    /// like one and is none.
    pub(crate) fn of_text(text: &str) -> Option<Result<Self, &'static str>> {
        let shape: String = text.chars().take(11).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        let time = |format| {
            let time = NaiveTime::parse_from_str(text, format);
            Some(time.map(Self::Time).map_err(|_| "not a time of the day"))
        };
        match shape.as_str() {
            "0000-00-00" => {
                let date = NaiveDate::parse_from_str(text, "%Y-%m-%d");
                Some(date.map(Self::Date).map_err(|_| "not a date of the calendar"))
            }
            "00:00" => time("%H:%M"),
            "0:00 AM" | "0:00 PM" | "00:00 AM" | "00:00 PM" => time("%I:%M %p"),
            _ => None,
        }
    }
}

impl From<NaiveDate> for DateValue {
    fn from(date: NaiveDate) -> Self {
        Self::Date(date)
    }
}

impl From<NaiveTime> for DateValue {
    fn from(time: NaiveTime) -> Self {
        Self::Time(time)
    }
}

/// A number of days, hours or minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration {
    /// How many.
    pub amount: u32,
    /// Of what.
    pub unit: DurationUnit,
}

/// The unit of a [`Duration`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationUnit {
    /// 24 hours.
    Days,
    /// 60 minutes.
    Hours,
    /// 60 seconds.
    Minutes,
}

impl Duration {
    /// That many days.
    pub fn days(amount: u32) -> Self {
        Self { amount, unit: DurationUnit::Days }
    }

    /// That many hours.
    pub fn hours(amount: u32) -> Self {
        Self { amount, unit: DurationUnit::Hours }
    }

    /// That many minutes.
    pub fn minutes(amount: u32) -> Self {
        Self { amount, unit: DurationUnit::Minutes }
    }

    /// Its length in seconds.
    pub fn seconds(self) -> i64 {
        let unit = match self.unit {
            DurationUnit::Days => 86_400,
            DurationUnit::Hours => 3_600,
            DurationUnit::Minutes => 60,
        };
        i64::from(self.amount) * unit
    }

    /// This long before now.
    pub fn ago(self) -> DateValue {
        DateValue::Before(self)
    }

    /// This long after now.
    pub fn from_now(self) -> DateValue {
        DateValue::After(self)
    }
}

/// The size of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// How many.
    pub amount: u32,
    /// Of what.
    pub unit: SizeUnit,
}

/// The unit of a [`Size`]. How many bytes it has is for those who evaluate it: neither the grammar nor Glue's guide says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeUnit {
    /// Bytes.
    B,
    /// Kilobytes.
    KB,
    /// Megabytes.
    MB,
    /// Gigabytes.
    GB,
    /// Terabytes.
    TB,
}

impl Size {
    /// That many of a unit.
    pub fn new(amount: u32, unit: SizeUnit) -> Self {
        Self { amount, unit }
    }
}

/// An operand of `ColumnValues` before its type is known.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Number(Number),
    /// A date that is written as an expression, such as `now()`.
    Date(DateValue),
    /// A text, which may look like a date, or a keyword. A variable is a text whatever it looks like.
    String(StringValue),
}

/// Finds the type of a condition on values; an error says why its operands have none in common.
pub(crate) fn of_values(condition: Condition<Value>) -> Result<ValueCondition, String> {
    let is_list = matches!(condition, Condition::In(_) | Condition::NotIn(_));
    let is_null = |value: &Value| matches!(value, Value::String(StringValue::Null));
    let null = is_list && condition.operands().any(is_null);
    let typed = || condition.operands().filter(|value| !(is_list && is_null(value)));
    let looks_like_date = |value: &Value| match value {
        Value::Date(_) => true,
        Value::String(StringValue::Text(text)) => text.variable().is_none() && DateValue::of_text(text).is_some(),
        _ => false,
    };
    let without_null = |condition| match condition {
        Condition::In(list) => Condition::In(list.into_iter().filter(|value| !is_null(value)).collect()),
        Condition::NotIn(list) => Condition::NotIn(list.into_iter().filter(|value| !is_null(value)).collect()),
        other => other,
    };
    let mixed = || "the operands of a condition are all numbers, all dates or all texts".to_owned();
    if typed().any(|value| matches!(value, Value::Number(_))) {
        let condition = without_null(condition).try_map(|value| match value {
            Value::Number(number) => Ok(number),
            _ => Err(mixed()),
        })?;
        return Ok(ValueCondition::Numbers { condition, null });
    }
    let expressions = typed().any(|value| matches!(value, Value::Date(_)));
    if expressions || (typed().next().is_some() && typed().all(looks_like_date)) {
        let condition = without_null(condition).try_map(|value| match value {
            Value::Date(date) => Ok(date),
            Value::String(StringValue::Text(text)) if text.variable().is_none() => match DateValue::of_text(&text) {
                Some(date) => date.map_err(|reason| format!("`{}` is {reason}", &*text)),
                None => Err(mixed()),
            },
            _ => Err(mixed()),
        })?;
        return Ok(ValueCondition::Dates { condition, null });
    }
    let string = |value| match value {
        Value::String(value) => Ok(value),
        _ => Err(mixed()),
    };
    let strings = |list: Vec<Value>| list.into_iter().map(string).collect::<Result<StringList, _>>();
    Ok(ValueCondition::Strings(match condition {
        Condition::Equal(value) => StringCondition::Equal(string(value)?),
        Condition::NotEqual(value) => StringCondition::NotEqual(string(value)?),
        Condition::In(list) => StringCondition::In(strings(list)?),
        Condition::NotIn(list) => StringCondition::NotIn(strings(list)?),
        _ => {
            return Err(
                "texts are compared by `=`, `!=`, `in` and `matches`; numbers are written without quotes".into()
            );
        }
    }))
}
