//! Conditions of rules, on numbers that were measured and as expressions on values.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::{btrim, character_length, lower, regexp_replace, split_part};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast, lit, try_cast, when};
use hardtack_dqdl::{
    Aggregate, Condition, DateCondition, DateValue, Decimal, Duration, DurationCondition, Dynamic, Number,
    NumberCondition, Operator as Arithmetic, StringCondition, StringValue,
};

/// Whether a number meets a condition. `between` excludes its bounds, as Glue documents it.
pub(crate) fn holds(condition: &Condition<f64>, x: f64) -> bool {
    match condition {
        Condition::Equal(a) => x == *a,
        Condition::NotEqual(a) => x != *a,
        Condition::GreaterThan(a) => x > *a,
        Condition::AtLeast(a) => x >= *a,
        Condition::LessThan(a) => x < *a,
        Condition::AtMost(a) => x <= *a,
        Condition::Between(a, b) => *a < x && x < *b,
        Condition::NotBetween(a, b) => x <= *a || *b <= x,
        Condition::In(list) => list.contains(&x),
        Condition::NotIn(list) => !list.contains(&x),
    }
}

/// The condition with the numbers that its operands have in view of the values of earlier runs, the newest first.
pub(crate) fn resolved(condition: &NumberCondition, earlier: &[f64]) -> Result<Condition<f64>, String> {
    let resolved = condition.clone().try_map(|number| resolve(&number, earlier))?;
    if let Some(number) = resolved.operands().find(|number| !number.is_finite()) {
        return Err(format!("an operand of its condition is {number}"));
    }
    Ok(resolved)
}

fn resolve(number: &Number, earlier: &[f64]) -> Result<f64, String> {
    Ok(match number {
        Number::Literal(decimal) => decimal.to_f64(),
        Number::Abs(number) => resolve(number, earlier)?.abs(),
        Number::Dynamic(dynamic) => of_earlier(dynamic, earlier)?,
        Number::Arithmetic { first, rest } => {
            rest.iter().try_fold(resolve(first, earlier)?, |left, (operator, right)| {
                let right = resolve(right, earlier)?;
                Ok::<_, String>(match operator {
                    Arithmetic::Add => left + right,
                    Arithmetic::Subtract => left - right,
                    Arithmetic::Multiply => left * right,
                    Arithmetic::Divide => left / right,
                })
            })?
        }
    })
}

/// A function of the values of earlier runs, the newest first. As in Glue, there is a single value of 0 before the first
/// run, and fewer than asked for are all there are.
fn of_earlier(dynamic: &Dynamic, earlier: &[f64]) -> Result<f64, String> {
    const NONE: &[f64] = &[0.0];
    let last = |runs: u32| match earlier {
        [] => NONE,
        earlier => &earlier[..earlier.len().min(runs as usize)],
    };
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    Ok(match dynamic {
        Dynamic::Last => last(1)[0],
        Dynamic::Index { runs, at } => {
            let values = last(*runs);
            let none = || format!("index(last({runs}), {at}) asks for more than the {} earlier runs", earlier.len());
            *values.get(*at as usize).ok_or_else(none)?
        }
        Dynamic::Percentile { runs, fraction } => percentile(last(*runs), fraction.to_f64()),
        Dynamic::Aggregate { function, runs } => {
            let values = last(*runs);
            match function {
                Aggregate::Avg => mean(values),
                Aggregate::Sum => values.iter().sum(),
                Aggregate::Max => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Aggregate::Min => values.iter().copied().fold(f64::INFINITY, f64::min),
                Aggregate::Median => percentile(values, 0.5),
                Aggregate::Std => {
                    let mean = mean(values);
                    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
                }
            }
        }
    })
}

/// The value at a fraction of the sorted values, interpolated between its neighbours.
pub(crate) fn percentile(values: &[f64], fraction: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() - 1) as f64 * fraction.clamp(0.0, 1.0);
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// A value that rules compare, and its type.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) expr: Expr,
    pub(crate) data_type: DataType,
}

/// The rows that fail a condition, as an expression that is never null.
fn fails(condition: Expr, null_passes: bool) -> Expr {
    match null_passes {
        // Null is not false.
        true => Expr::IsFalse(Box::new(condition)),
        false => Expr::IsNotTrue(Box::new(condition)),
    }
}

fn compare(left: &Expr, operator: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left.clone()), operator, Box::new(right)))
}

/// A condition on an expression.
fn expression(condition: &Condition<Expr>, x: &Expr) -> Expr {
    let is = |operator, right: &Expr| compare(x, operator, right.clone());
    match condition {
        Condition::Equal(a) => is(Operator::Eq, a),
        Condition::NotEqual(a) => is(Operator::NotEq, a),
        Condition::GreaterThan(a) => is(Operator::Gt, a),
        Condition::AtLeast(a) => is(Operator::GtEq, a),
        Condition::LessThan(a) => is(Operator::Lt, a),
        Condition::AtMost(a) => is(Operator::LtEq, a),
        Condition::Between(a, b) => is(Operator::Gt, a).and(is(Operator::Lt, b)),
        Condition::NotBetween(a, b) => is(Operator::LtEq, a).or(is(Operator::GtEq, b)),
        Condition::In(list) => x.clone().in_list(list.clone(), false),
        Condition::NotIn(list) => x.clone().in_list(list.clone(), true),
    }
}

fn is_negative<T>(condition: &Condition<T>) -> bool {
    matches!(condition, Condition::NotEqual(_) | Condition::NotIn(_))
}

/// Whether null passes: Glue documents that it fails, except for `!=` and `not in` that do not name it, and for `in` that
/// does.
fn null_passes<T>(condition: &Condition<T>, named: bool) -> bool {
    match condition {
        Condition::In(_) => named,
        condition => is_negative(condition) && !named,
    }
}

pub(crate) fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_text(values),
        data_type => data_type.is_string(),
    }
}

/// The rows whose number does not meet a condition.
pub(crate) fn number_fails(value: &Value, condition: &NumberCondition, null: bool) -> Result<Expr, String> {
    let fixed = resolved(condition, &[])?;
    if condition.is_dynamic() {
        return Err("the operands of a condition on each value cannot depend on earlier runs".to_owned());
    }
    if fixed.operands().next().is_none() {
        // `in [NULL]`
        let x = value.expr.clone();
        return Ok(if is_negative(condition) { x.is_null() } else { x.is_not_null() });
    }
    let data_type = &value.data_type;
    let exact = |decimal: &Decimal| literal(decimal, data_type);
    let literals: Option<Vec<ScalarValue>> = condition
        .operands()
        .map(|number| if let Number::Literal(decimal) = number { exact(decimal) } else { None })
        .collect();
    if let (Some(literals), true) = (literals, data_type.is_integer() || data_type.is_decimal()) {
        let mut literals = literals.into_iter();
        let condition = fixed.clone().try_map(|_| literals.next().map(lit).ok_or_else(String::new))?;
        return Ok(fails(expression(&condition, &value.expr), null_passes(&fixed, null)));
    }
    let doubles = fixed.clone().try_map(|number| Ok::<_, String>(lit(number)))?;
    let passes = null_passes(&fixed, null);
    if is_text(data_type) {
        // A text that is no number fails, whatever the condition; null is as always.
        let number = try_cast(value.expr.clone(), DataType::Float64) + lit(0.0);
        let bad = fails(expression(&doubles, &number).and(finite(&number)), false);
        return Ok(match passes {
            true => value.expr.clone().is_not_null().and(bad),
            false => bad,
        });
    }
    if data_type.is_integer() || data_type.is_decimal() {
        let number = cast(value.expr.clone(), DataType::Float64);
        return Ok(fails(expression(&doubles, &number), passes));
    }
    if data_type.is_floating() {
        // Arrow orders -0 before 0, and NaN at the ends; numbers are not like that.
        let number = cast(value.expr.clone(), DataType::Float64) + lit(0.0);
        let condition = expression(&doubles, &number);
        let condition = if is_negative(&fixed) { condition } else { condition.and(finite(&number)) };
        return Ok(fails(condition, passes));
    }
    Err(format!("its values are of the type {data_type}, and the condition compares numbers"))
}

/// Neither NaN nor beyond all numbers; infinities are numbers here.
fn finite(number: &Expr) -> Expr {
    compare(number, Operator::GtEq, lit(f64::NEG_INFINITY)).and(compare(number, Operator::LtEq, lit(f64::INFINITY)))
}

/// A number for the comparison with integers or decimals, without loss; none if it has too many digits.
fn literal(decimal: &Decimal, data_type: &DataType) -> Option<ScalarValue> {
    let (digits, scale) = decimal.parts()?;
    if scale == 0 && data_type.is_integer() {
        return i64::try_from(digits).ok().map(|digits| ScalarValue::Int64(Some(digits)));
    }
    if !data_type.is_decimal() {
        return None;
    }
    let precision = digits.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
    let (precision, scale) = (u8::try_from(precision.max(scale)).ok()?, i8::try_from(scale).ok()?);
    (precision <= 18).then_some(ScalarValue::Decimal128(Some(digits), precision, scale))
}

/// The rows whose text does not meet a condition. The text of a condition is read as a value of the column's type.
pub(crate) fn text_fails(value: &Value, condition: &StringCondition, ignore_case: bool) -> Result<Expr, String> {
    let x = &value.expr;
    let folded = |text: Expr| if ignore_case { lower(text) } else { text };
    let equals = |operand: &StringValue| -> Result<Expr, String> {
        let text = || if is_text(&value.data_type) { x.clone() } else { cast(x.clone(), DataType::Utf8) };
        Ok(match operand {
            StringValue::Null => x.clone().is_null(),
            StringValue::Empty => text().eq(lit("")),
            StringValue::WhitespacesOnly => compare(&text(), Operator::RegexMatch, lit(r"^\s+$")),
            StringValue::Text(expected) if is_text(&value.data_type) => {
                let expected = if ignore_case { expected.to_lowercase() } else { expected.to_string() };
                folded(x.clone()).eq(lit(expected))
            }
            StringValue::Text(expected) => {
                let data_type = &value.data_type;
                let typed =
                    ScalarValue::from(expected.as_str()).cast_to(data_type).ok().filter(|typed| !typed.is_null());
                let none = || format!("`{}` is no value of the type {data_type}", expected.as_str());
                x.clone().eq(lit(typed.ok_or_else(none)?))
            }
        })
    };
    let any = |list: &[StringValue]| -> Result<Expr, String> {
        let mut texts = Vec::new();
        let mut alternatives = Vec::new();
        for operand in list {
            match operand {
                StringValue::Null => {}
                StringValue::Text(text) if is_text(&value.data_type) => {
                    texts.push(lit(if ignore_case { text.to_lowercase() } else { text.to_string() }));
                }
                other => alternatives.push(equals(other)?),
            }
        }
        if !texts.is_empty() {
            alternatives.insert(0, folded(x.clone()).in_list(texts, false));
        }
        // A null text makes this null, also if there is nothing but `NULL` in the list.
        Ok(alternatives.into_iter().reduce(Expr::or).unwrap_or_else(|| x.clone().is_null().is_true().and(lit(false))))
    };
    let names_null = |list: &[StringValue]| list.contains(&StringValue::Null);
    let matches = |pattern: &str| {
        let text = if is_text(&value.data_type) { x.clone() } else { cast(x.clone(), DataType::Utf8) };
        let flags = if ignore_case { "(?i)" } else { "" };
        compare(&text, Operator::RegexMatch, lit(format!("{flags}^(?:{pattern})$")))
    };
    Ok(match condition {
        StringCondition::Equal(StringValue::Null) => x.clone().is_not_null(),
        StringCondition::NotEqual(StringValue::Null) => x.clone().is_null(),
        StringCondition::Equal(operand) => fails(equals(operand)?, false),
        // Null passes, because the comparison with it is not true.
        StringCondition::NotEqual(operand) => Expr::IsTrue(Box::new(equals(operand)?)),
        StringCondition::In(list) => {
            let bad = fails(any(list)?, false);
            if names_null(list) { x.clone().is_not_null().and(bad) } else { bad }
        }
        StringCondition::NotIn(list) => {
            let bad = Expr::IsTrue(Box::new(any(list)?));
            if names_null(list) { x.clone().is_null().or(bad) } else { bad }
        }
        StringCondition::Matches(pattern) => fails(matches(pattern.as_str()), false),
        StringCondition::NotMatches(pattern) => fails(!matches(pattern.as_str()), false),
    })
}

/// The rows whose date or time does not meet a condition.
pub(crate) fn date_fails(
    value: &Value,
    condition: &DateCondition,
    null: bool,
    now: DateTime<Utc>,
) -> Result<Expr, String> {
    let passes = null_passes(condition, null);
    if condition.operands().next().is_none() {
        let x = value.expr.clone();
        return Ok(if is_negative(condition) { x.is_null() } else { x.is_not_null() });
    }
    // Days are compared as days; the time of day counts if the condition has one.
    let by_day = condition.operands().all(|operand| matches!(operand, DateValue::Date(_)));
    if is_text(&value.data_type) {
        let time = try_cast(value.expr.clone(), DataType::Timestamp(TimeUnit::Microsecond, None));
        let inner = Value { expr: time, data_type: DataType::Timestamp(TimeUnit::Microsecond, None) };
        let bad = date_fails(&inner, condition, false, now)?;
        let bad = inner.expr.is_null().or(bad);
        return Ok(if passes { value.expr.clone().is_not_null().and(bad) } else { bad });
    }
    let x = match (&value.data_type, by_day) {
        (DataType::Date32, _) => value.expr.clone(),
        (DataType::Date64 | DataType::Timestamp(..), true) => cast(value.expr.clone(), DataType::Date32),
        (DataType::Date64, false) => cast(value.expr.clone(), DataType::Date32),
        (DataType::Timestamp(..), false) => value.expr.clone(),
        (other, _) => return Err(format!("its values are of the type {other}, and the condition compares dates")),
    };
    let zone = match &value.data_type {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    let days = by_day || !matches!(value.data_type, DataType::Timestamp(..));
    let literals = condition.clone().try_map(|operand| {
        let moment = moment(operand, now)?;
        Ok::<_, String>(match days {
            true => lit(day(moment.date_naive())),
            false => lit(ScalarValue::TimestampMicrosecond(Some(moment.timestamp_micros()), zone.clone())),
        })
    })?;
    Ok(fails(expression(&literals, &x), passes))
}

fn day(date: NaiveDate) -> ScalarValue {
    ScalarValue::Date32(Some((date - NaiveDate::default()).num_days() as i32))
}

/// The moment that a date or time stands for.
pub(crate) fn moment(value: DateValue, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let shifted = |by: Duration, sign: i64| {
        let by = TimeDelta::try_seconds(sign * by.seconds());
        by.and_then(|by| now.checked_add_signed(by)).ok_or_else(|| "a time in its condition is out of range".to_owned())
    };
    Ok(match value {
        DateValue::Date(date) => date.and_time(NaiveTime::MIN).and_utc(),
        DateValue::Time(time) => now.date_naive().and_time(time).and_utc(),
        DateValue::Now => now,
        DateValue::Before(by) => shifted(by, -1)?,
        DateValue::After(by) => shifted(by, 1)?,
    })
}

/// The rows whose age does not meet a condition. Null has no age, and fails.
pub(crate) fn age_fails(value: &Value, condition: &DurationCondition, now: DateTime<Utc>) -> Result<Expr, String> {
    // The greater the age, the earlier the time.
    let at = |age: &Duration| age.ago();
    let times = match condition {
        Condition::Equal(a) => Condition::Equal(at(a)),
        Condition::NotEqual(a) => Condition::NotEqual(at(a)),
        Condition::GreaterThan(a) => Condition::LessThan(at(a)),
        Condition::AtLeast(a) => Condition::AtMost(at(a)),
        Condition::LessThan(a) => Condition::GreaterThan(at(a)),
        Condition::AtMost(a) => Condition::AtLeast(at(a)),
        Condition::Between(a, b) => Condition::Between(at(b), at(a)),
        Condition::NotBetween(a, b) => Condition::NotBetween(at(b), at(a)),
        Condition::In(list) => Condition::In(list.iter().map(at).collect()),
        Condition::NotIn(list) => Condition::NotIn(list.iter().map(at).collect()),
    };
    // A date is its midnight.
    let value = match value.data_type {
        DataType::Date32 | DataType::Date64 => {
            let time = DataType::Timestamp(TimeUnit::Microsecond, None);
            Value { expr: cast(value.expr.clone(), time.clone()), data_type: time }
        }
        _ => value.clone(),
    };
    Ok(value.expr.clone().is_null().or(date_fails(&value, &times, false, now)?))
}

/// The rows whose length does not meet a condition. The length of null is 0, as Glue documents it.
pub(crate) fn length_fails(value: &Value, condition: &NumberCondition) -> Result<Expr, String> {
    if !is_text(&value.data_type) {
        return Err(format!("its values are of the type {}, and only texts have a length", value.data_type));
    }
    let there = cast(character_length(value.expr.clone()), DataType::Int64);
    let length = when(value.expr.clone().is_null(), lit(0_i64)).otherwise(there).map_err(|e| e.to_string())?;
    number_fails(&Value { expr: length, data_type: DataType::Int64 }, condition, false)
}

/// The rows whose value cannot be read as one of the types of a condition.
pub(crate) fn type_fails(value: &Value, condition: &StringCondition, format: Option<&str>) -> Result<Expr, String> {
    let (names, negated): (Vec<&StringValue>, _) = match condition {
        StringCondition::Equal(name) => (vec![name], false),
        StringCondition::NotEqual(name) => (vec![name], true),
        StringCondition::In(list) => (list.iter().collect(), false),
        StringCondition::NotIn(list) => (list.iter().collect(), true),
        StringCondition::Matches(_) | StringCondition::NotMatches(_) => {
            return Err("a type is compared by `=`, `!=`, `in` and `not in`".to_owned());
        }
    };
    let mut is_of = Vec::new();
    for name in names {
        let StringValue::Text(name) = name else {
            return Err("expected the name of a type, such as `Integer`".to_owned());
        };
        is_of.push(is_of_type(value, name, format)?);
    }
    let any = is_of.into_iter().reduce(Expr::or).ok_or("expected the name of a type")?;
    Ok(match negated {
        true => Expr::IsTrue(Box::new(any)),
        false => Expr::IsNotTrue(Box::new(any)),
    })
}

const TYPES: &str = "`Boolean`, `Date`, `Timestamp`, `Integer`, `Long`, `Float`, `Double` and `Decimal(p, s)`";

/// Whether a value can be read as a type, as Spark casts texts.
fn is_of_type(value: &Value, name: &str, format: Option<&str>) -> Result<Expr, String> {
    let text = btrim(vec![cast(value.expr.clone(), DataType::Utf8)]);
    let castable = |expr: Expr, to: DataType| try_cast(expr, to).is_not_null();
    let like = |pattern: &str| compare(&text, Operator::RegexMatch, lit(pattern));
    let lower_name = name.trim().to_lowercase();
    if !is_text(&value.data_type) {
        let to = match lower_name.as_str() {
            "boolean" => DataType::Boolean,
            "date" => DataType::Date32,
            "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "integer" | "int" => DataType::Int32,
            "long" => DataType::Int64,
            "float" => DataType::Float32,
            "double" => DataType::Float64,
            other => decimal(other).ok_or_else(|| unknown_type(name))?,
        };
        return Ok(castable(value.expr.clone(), to));
    }
    if format.is_some() && lower_name != "date" {
        return Err("the tag `format` is for `Date`".to_owned());
    }
    Ok(match lower_name.as_str() {
        "boolean" => {
            lower(text).in_list(["t", "true", "y", "yes", "1", "f", "false", "n", "no", "0"].map(lit).to_vec(), false)
        }
        // A fraction is cut off.
        "integer" | "int" | "long" => {
            let to = if lower_name == "long" { DataType::Int64 } else { DataType::Int32 };
            let whole = split_part(text.clone(), lit("."), lit(1_i64));
            like(r"^[+-]?\d+(\.\d*)?$").and(castable(regexp_replace(whole, lit(r"^\+"), lit(""), None), to))
        }
        "float" | "double" => castable(text, DataType::Float64),
        "date" => match format {
            Some(format) => formatted(&text, format)?,
            None => is_date(&text),
        },
        "timestamp" => {
            is_date(&text).and(like("^[^T ]+$")).or(castable(text, DataType::Timestamp(TimeUnit::Microsecond, None)))
        }
        other => castable(text, decimal(other).ok_or_else(|| unknown_type(name))?),
    })
}

fn unknown_type(name: &str) -> String {
    format!("`{name}` is no type that values can be read as; those are {TYPES}")
}

fn decimal(name: &str) -> Option<DataType> {
    let (precision, scale) =
        name.strip_prefix("decimal")?.trim().strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
    (1..=38).contains(&precision).then_some(DataType::Decimal128(precision, scale))
}

fn is_date(text: &Expr) -> Expr {
    let like = |pattern: &str| compare(text, Operator::RegexMatch, lit(pattern));
    let first = regexp_replace(text.clone(), lit(r"^(\d{4})-(\d)-"), lit("${1}-0${2}-"), None);
    let day = regexp_replace(first, lit(r"^(\d{4}-\d{2})-(\d)([ T].*)?$"), lit("${1}-0${2}"), None);
    let day = regexp_replace(day, lit(r"[ T].*$"), lit(""), None);
    like(r"^\d{4}$")
        .or(like(r"^\d{4}-(0?[1-9]|1[0-2])$"))
        .or(like(r"^\d{4}-\d{1,2}-\d{1,2}([ T].*)?$").and(try_cast(day, DataType::Date32).is_not_null()))
}

/// Whether a text is a date in one of the formats that Deequ knows. Parts that a format lacks are the first day, or the
/// year 2000.
fn formatted(text: &Expr, format: &str) -> Result<Expr, String> {
    let unknown =
        || format!("`{format}` is no format of dates that is known; write `dd`, `MM` and `yyyy` between `-` or `/`");
    let separator = if format.contains('/') { '/' } else { '-' };
    let (mut pattern, mut parts) = (Vec::new(), [None; 3]);
    for (i, part) in format.split(separator).enumerate() {
        let (digits, place) = match part {
            "yyyy" => (4, 0),
            "MM" => (2, 1),
            "dd" => (2, 2),
            _ => return Err(unknown()),
        };
        if parts[place].replace(i + 1).is_some() {
            return Err(unknown());
        }
        pattern.push(format!(r"(\d{{{digits}}})"));
    }
    // A month, and a day or a year
    if pattern.len() < 2 || parts[1].is_none() {
        return Err(unknown());
    }
    let pattern = format!("^{}$", pattern.join(&separator.to_string()));
    let part = |place: usize, missing: &str| parts[place].map_or_else(|| missing.to_owned(), |i| format!("${{{i}}}"));
    let iso = format!("{}-{}-{}", part(0, "2000"), part(1, "01"), part(2, "01"));
    let date = try_cast(regexp_replace(text.clone(), lit(pattern.clone()), lit(iso), None), DataType::Date32);
    Ok(compare(text, Operator::RegexMatch, lit(pattern)).and(date.is_not_null()))
}

/// A condition as it is shown, with the numbers that it had.
pub(crate) fn shown(condition: &Condition<f64>) -> String {
    match condition {
        Condition::Equal(a) => format!("= {a}"),
        Condition::NotEqual(a) => format!("!= {a}"),
        Condition::GreaterThan(a) => format!("> {a}"),
        Condition::AtLeast(a) => format!(">= {a}"),
        Condition::LessThan(a) => format!("< {a}"),
        Condition::AtMost(a) => format!("<= {a}"),
        Condition::Between(a, b) => format!("between {a} and {b}"),
        Condition::NotBetween(a, b) => format!("not between {a} and {b}"),
        Condition::In(list) => format!("in [{}]", joined(list)),
        Condition::NotIn(list) => format!("not in [{}]", joined(list)),
    }
}

fn joined(numbers: &[f64]) -> String {
    numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(", ")
}
