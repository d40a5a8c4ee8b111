//! Conditions and their operands.

use super::lexer::{Kind, Token, raw};
use super::{Parser, Result};
use crate::condition::{
    Condition, DateValue, Duration, DurationUnit, Pattern, Size, SizeUnit, StringCondition, StringValue, Value,
    ValueCondition, of_values,
};
use crate::number::{Aggregate, Decimal, Dynamic, Number, Operator};

/// What `expected` says where a condition is missing.
pub(super) const CONDITION: &str = "a condition such as `> 0.9` or `between 1 and 5`";

/// A comparison before its operands.
#[derive(Clone, Copy)]
enum Comparison {
    Equal,
    NotEqual,
    GreaterThan,
    AtLeast,
    LessThan,
    AtMost,
    Between,
    NotBetween,
    In,
    NotIn,
    Matches,
    NotMatches,
}

impl Parser<'_> {
    /// Whether what is looked at begins a condition.
    pub(super) fn is_at_condition(&self) -> bool {
        match self.token().kind {
            Kind::Symbol('=' | '!' | '<' | '>') | Kind::OrEqual(_) => true,
            _ => self.word().is_some_and(|word| ["between", "in", "not", "matches"].contains(&word)),
        }
    }

    fn comparison(&mut self) -> Result<Comparison> {
        if !self.is_at_condition() {
            return Err(self.expected(CONDITION));
        }
        let token = self.advance();
        Ok(match (token.kind, self.slice(token)) {
            (Kind::Symbol('='), _) => Comparison::Equal,
            (Kind::Symbol('>'), _) => Comparison::GreaterThan,
            (Kind::Symbol('<'), _) => Comparison::LessThan,
            (Kind::OrEqual('>'), _) => Comparison::AtLeast,
            (Kind::OrEqual(_), _) => Comparison::AtMost,
            (_, "between") => Comparison::Between,
            (_, "in") => Comparison::In,
            (_, "matches") => Comparison::Matches,
            (_, "not") => match self.word() {
                Some("between") => self.after(Comparison::NotBetween),
                Some("in") => self.after(Comparison::NotIn),
                Some("matches") => self.after(Comparison::NotMatches),
                _ => return Err(self.expected("`between`, `in` or `matches` after `not`")),
            },
            _ => {
                self.symbol('=')?;
                Comparison::NotEqual
            }
        })
    }

    fn after<T>(&mut self, value: T) -> T {
        self.advance();
        value
    }

    fn operands<T>(
        &mut self,
        comparison: Comparison,
        what: &str,
        mut operand: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Condition<T>> {
        Ok(match comparison {
            Comparison::Equal => Condition::Equal(operand(self)?),
            Comparison::NotEqual => Condition::NotEqual(operand(self)?),
            Comparison::GreaterThan => Condition::GreaterThan(operand(self)?),
            Comparison::AtLeast => Condition::AtLeast(operand(self)?),
            Comparison::LessThan => Condition::LessThan(operand(self)?),
            Comparison::AtMost => Condition::AtMost(operand(self)?),
            Comparison::Between | Comparison::NotBetween => {
                let low = operand(self)?;
                if !self.takes_word(&["and", "AND"]) {
                    return Err(self.expected("`and` and the upper bound"));
                }
                let high = operand(self)?;
                match comparison {
                    Comparison::Between => Condition::Between(low, high),
                    _ => Condition::NotBetween(low, high),
                }
            }
            Comparison::In => Condition::In(self.items(['[', ']'], what, operand)?),
            Comparison::NotIn => Condition::NotIn(self.items(['[', ']'], what, operand)?),
            Comparison::Matches | Comparison::NotMatches => {
                return Err(self.error(self.previous(), "`matches` compares texts only".into()));
            }
        })
    }

    /// A comparison with operands of one type.
    fn condition<T>(&mut self, what: &str, operand: impl FnMut(&mut Self) -> Result<T>) -> Result<Condition<T>> {
        let comparison = self.comparison()?;
        self.operands(comparison, what, operand)
    }

    pub(super) fn number_condition(&mut self) -> Result<Condition<Number>> {
        self.condition("a number", Self::number)
    }

    pub(super) fn duration_condition(&mut self) -> Result<Condition<Duration>> {
        self.condition("a duration such as `24 hours`", Self::duration)
    }

    pub(super) fn size_condition(&mut self) -> Result<Condition<Size>> {
        self.condition("a size such as `2 GB`", Self::size)
    }

    pub(super) fn date_condition(&mut self) -> Result<Condition<DateValue>> {
        self.condition("a date such as `\"2024-06-30\"` or `(now() - 3 days)`", Self::date)
    }

    pub(super) fn string_condition(&mut self) -> Result<StringCondition> {
        let start = self.token();
        let comparison = self.comparison()?;
        self.strings(start, comparison)
    }

    /// The rest of a condition on texts.
    fn strings(&mut self, start: Token, comparison: Comparison) -> Result<StringCondition> {
        Ok(match comparison {
            Comparison::Equal => StringCondition::Equal(self.string_value()?),
            Comparison::NotEqual => StringCondition::NotEqual(self.string_value()?),
            Comparison::In | Comparison::NotIn => {
                let list = if self.is_symbol('$') {
                    self.list_of_variable()?
                } else {
                    self.items(['[', ']'], "a text in quotes", Self::string_value)?.into_iter().collect()
                };
                match comparison {
                    Comparison::In => StringCondition::In(list),
                    _ => StringCondition::NotIn(list),
                }
            }
            Comparison::Matches => StringCondition::Matches(self.pattern()?),
            Comparison::NotMatches => StringCondition::NotMatches(self.pattern()?),
            _ => {
                let error = self.error(start, "texts are compared by `=`, `!=`, `in` and `matches`".into());
                return Err(error.with_expected("a condition on texts such as `in [\"a\", \"b\"]`"));
            }
        })
    }

    fn string_value(&mut self) -> Result<StringValue> {
        if self.is_symbol('$') {
            return Ok(StringValue::Text(self.text_of_variable()?));
        }
        match self.keyword() {
            Some(keyword) => Ok(keyword),
            None => Ok(self.quoted("a text in quotes")?.into()),
        }
    }

    fn pattern(&mut self) -> Result<Pattern> {
        let token = self.token();
        if token.kind != Kind::String {
            return Err(self.expected("a regular expression in quotes"));
        }
        self.advance();
        self.pattern_at(token)
    }

    /// A token as a regular expression, whose backslashes are its own.
    pub(super) fn pattern_at(&self, token: Token) -> Result<Pattern> {
        if token.kind != Kind::String {
            let error = self.error(token, "a regular expression stands in quotes".into());
            return Err(error.with_expected("a regular expression in quotes"));
        }
        let pattern = Pattern::new(raw(self.slice(token)));
        match pattern.fault() {
            Some(fault) => Err(self.error(token, fault)),
            None => Ok(pattern),
        }
    }

    /// The condition of `ColumnValues`, whose operands decide its type.
    pub(super) fn value_condition(&mut self) -> Result<ValueCondition> {
        let start = self.token();
        let comparison = self.comparison()?;
        let is_list_of_variable = matches!(comparison, Comparison::In | Comparison::NotIn) && self.is_symbol('$');
        if is_list_of_variable || matches!(comparison, Comparison::Matches | Comparison::NotMatches) {
            return Ok(ValueCondition::Strings(self.strings(start, comparison)?));
        }
        let condition = self.operands(comparison, "a number, a date or a text", Self::value)?;
        of_values(condition).map_err(|reason| self.error(start, reason))
    }

    fn value(&mut self) -> Result<Value> {
        match self.token().kind {
            Kind::String | Kind::Symbol('$') => Ok(Value::String(self.string_value()?)),
            Kind::Symbol('-' | '(') | Kind::Word => {
                if self.word() == Some("now") || (self.is_symbol('(') && self.word_ahead(1) == Some("now")) {
                    return Ok(Value::Date(self.date()?));
                }
                match self.keyword() {
                    Some(keyword) => Ok(Value::String(keyword)),
                    None => Ok(Value::Number(self.number()?)),
                }
            }
            _ => Err(self.expected("a number, a date or a text")),
        }
    }

    // --- numbers ---

    /// Operands with operators between them, which are applied from left to right.
    fn number(&mut self) -> Result<Number> {
        let first = self.operand()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.token().kind {
                Kind::Symbol('+') => Operator::Add,
                Kind::Symbol('-') => Operator::Subtract,
                Kind::Symbol('*') => Operator::Multiply,
                Kind::Symbol('/') => Operator::Divide,
                _ if rest.is_empty() => return Ok(first),
                _ => return Ok(Number::Arithmetic { first: Box::new(first), rest }),
            };
            self.advance();
            rest.push((operator, self.operand()?));
        }
    }

    fn operand(&mut self) -> Result<Number> {
        let token = self.token();
        match token.kind {
            Kind::Symbol('(') => self.nested(token, |parser| {
                parser.advance();
                let number = parser.number()?;
                parser.close(token, ')', "an operator or `)`")?;
                Ok(number)
            }),
            Kind::Symbol('$') => Err(self
                .error(token, "variables are texts and cannot stand for numbers".into())
                .with_hint("write the number itself")),
            Kind::Word if self.ahead(1).kind == Kind::Symbol('(') => self.function(token),
            _ => Ok(Number::Literal(self.literal()?)),
        }
    }

    /// A number with or without a sign.
    pub(super) fn literal(&mut self) -> Result<Decimal> {
        if !self.takes_symbol('-') {
            return self.decimal();
        }
        let number = self.word().and_then(|word| format!("-{word}").parse().ok());
        number.map(|number| self.after(number)).ok_or_else(|| self.expected("digits after `-`"))
    }

    /// A number without a sign.
    fn decimal(&mut self) -> Result<Decimal> {
        match self.word().map(str::parse) {
            Some(Ok(number)) => Ok(self.after(number)),
            Some(Err(_)) if self.keyword_is_null() => Err(self
                .error(self.token(), "`NULL` is compared in `ColumnValues` only".into())
                .with_expected("a number")),
            _ => {
                let error = self.expected("a number");
                Err(if self.token().kind == Kind::String {
                    error.with_hint("numbers stand without quotes")
                } else {
                    error
                })
            }
        }
    }

    fn keyword_is_null(&self) -> bool {
        matches!(self.word(), Some("NULL" | "null"))
    }

    /// A count without a sign, fraction or unit.
    fn count(&mut self, what: &str) -> Result<u32> {
        let Some(word) = self.word().filter(|word| word.bytes().all(|byte| byte.is_ascii_digit())) else {
            return Err(self.expected(what));
        };
        let Ok(count) = word.parse() else {
            return Err(self.error(self.token(), format!("numbers here are at most {}", u32::MAX)));
        };
        Ok(self.after(count))
    }

    fn function(&mut self, token: Token) -> Result<Number> {
        const FUNCTIONS: &str = "`last`, `avg`, `median`, `max`, `min`, `sum`, `std`, `percentile`, `index` and `abs`";
        let name = self.slice(token);
        let aggregate = match name {
            // The grammar's own examples say so.
            "average" => Some(Aggregate::Avg),
            _ => Aggregate::NAMES.iter().find(|(known, _)| *known == name).map(|&(_, function)| function),
        };
        if aggregate.is_none() && !["last", "percentile", "index", "abs"].contains(&name) {
            let error = self.error(token, format!("the function `{}` is not supported", self.shown(token)));
            return Err(error.with_hint(format!("there are {FUNCTIONS}")));
        }
        if name == "last" {
            return match self.last()? {
                1 => Ok(Number::Dynamic(Dynamic::Last)),
                _ => Err(self
                    .error(token, "a number cannot be compared with those of several runs".into())
                    .with_hint("reduce them to one: `avg(last(10))`")),
            };
        }
        self.nested(token, |parser| {
            parser.advance();
            let open = parser.symbol('(')?;
            let number = match (name, aggregate) {
                ("abs", _) => Number::Abs(Box::new(parser.number()?)),
                (_, Some(function)) => Number::Dynamic(Dynamic::Aggregate { function, runs: parser.last()? }),
                ("index", _) => {
                    let runs = parser.last()?;
                    parser.symbol(',')?;
                    let place = parser.token();
                    let at = parser.count("the index of a run, 0 for the latest")?;
                    if at >= runs {
                        let message = format!("the index {at} is not one of {runs} runs, which begin with 0");
                        return Err(parser.error(place, message));
                    }
                    Number::Dynamic(Dynamic::Index { runs, at })
                }
                _ => {
                    let runs = parser.last()?;
                    parser.symbol(',')?;
                    let place = parser.token();
                    let fraction = parser.decimal()?;
                    if fraction.to_f64() > 1.0 {
                        return Err(parser.error(place, "a percentile is a fraction from 0 to 1".into()));
                    }
                    Number::Dynamic(Dynamic::Percentile { runs, fraction })
                }
            };
            parser.close(open, ')', "`)`")?;
            Ok(number)
        })
    }

    /// `last(10)`, or `last()` for 1.
    fn last(&mut self) -> Result<u32> {
        if self.word() != Some("last") {
            return Err(self.expected("earlier values such as `last(10)`"));
        }
        self.advance();
        let open = self.symbol('(')?;
        if self.takes_symbol(')') {
            return Ok(1);
        }
        let token = self.token();
        let runs = self.count("a number of runs")?;
        if runs == 0 {
            return Err(self.error(token, "`last` takes at least one run".into()));
        }
        self.close(open, ')', "`)`")?;
        Ok(runs)
    }

    // --- dates, durations, sizes ---

    fn date(&mut self) -> Result<DateValue> {
        const WHAT: &str = "a date such as `\"2024-06-30\"` or `(now() - 3 days)`";
        let token = self.token();
        match token.kind {
            Kind::String => match DateValue::of_text(raw(self.slice(token))) {
                Some(Ok(date)) => Ok(self.after(date)),
                Some(Err(reason)) => Err(self.error(token, format!("{} is {reason}", self.shown(token)))),
                None => Err(self.expected(WHAT)),
            },
            Kind::Word if self.word() == Some("now") => {
                self.now()?;
                match self.token().kind {
                    Kind::Symbol('+' | '-') => Err(self
                        .expected("the end of the date")
                        .with_hint("write what is added to `now()` in parentheses: `(now() - 3 days)`")),
                    _ => Ok(DateValue::Now),
                }
            }
            Kind::Symbol('(') if self.word_ahead(1) == Some("now") => {
                self.advance();
                self.now()?;
                let to_date = match self.token().kind {
                    Kind::Symbol('-') => DateValue::Before,
                    Kind::Symbol('+') => DateValue::After,
                    _ => return Err(self.expected("`+` or `-` after `now()`")),
                };
                self.advance();
                let duration = self.duration()?;
                self.close(token, ')', "`)`")?;
                Ok(to_date(duration))
            }
            _ if self.keyword_is_null() => Err(self.error(token, "`NULL` is compared in `ColumnValues` only".into())),
            _ => Err(self.expected(WHAT)),
        }
    }

    fn now(&mut self) -> Result<()> {
        self.advance();
        self.symbol('(')?;
        self.symbol(')')?;
        Ok(())
    }

    fn duration(&mut self) -> Result<Duration> {
        let amount = self.amount("a duration such as `24 hours`")?;
        let unit = match self.word() {
            Some("days") => DurationUnit::Days,
            Some("hours") => DurationUnit::Hours,
            Some("minutes") => DurationUnit::Minutes,
            _ => return Err(self.expected("`days`, `hours` or `minutes`")),
        };
        Ok(self.after(Duration { amount, unit }))
    }

    /// A size. Without a unit it is in bytes.
    fn size(&mut self) -> Result<Size> {
        let amount = self.amount("a size such as `2 GB`")?;
        let unit = match self.word() {
            Some("B") => SizeUnit::B,
            Some("KB") => SizeUnit::KB,
            Some("MB") => SizeUnit::MB,
            Some("GB") => SizeUnit::GB,
            Some("TB") => SizeUnit::TB,
            // What may follow a condition.
            None | Some("and" | "AND" | "or" | "OR" | "where" | "with" | "labels") => {
                return Ok(Size { amount, unit: SizeUnit::B });
            }
            _ => return Err(self.expected("`B`, `KB`, `MB`, `GB` or `TB`")),
        };
        Ok(self.after(Size { amount, unit }))
    }

    fn amount(&mut self, what: &str) -> Result<u32> {
        self.count(what).map_err(|error| {
            let unit = self.word().map(|word| word.trim_start_matches(|c: char| c.is_ascii_digit()));
            let is_joined = self.word().is_some_and(|word| word.as_bytes()[0].is_ascii_digit())
                && unit.is_some_and(|unit| unit.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic()));
            if is_joined { error.with_hint("write a space between number and unit") } else { error }
        })
    }
}
