//! Numbers as they are written, and values of earlier runs.

use std::fmt::{self, Display, Formatter};
use std::ops::{Add, Div, Mul, Sub};
use std::str::FromStr;

/// A decimal number with the digits that were written, so that nothing is rounded: `0.90` stays `0.90`.
///
/// Two are equal if they are written alike; [`parts`](Self::parts) is for comparing values. A float becomes the shortest
/// decimal that is nearest to it; one that is not finite makes a rule that [`RuleSet::check`](crate::RuleSet::check)
/// refuses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal(Box<str>);

impl Decimal {
    /// The digits, with a sign if it is negative and a point if it has a fraction.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The exact value: `(mantissa, scale)` stands for `mantissa / 10^scale`. `None` if the mantissa has no room in 128
    /// bits.
    pub fn parts(&self) -> Option<(i128, u32)> {
        let (whole, fraction) = self.0.split_once('.').unwrap_or((&self.0, ""));
        let digits: String = [whole, fraction].concat();
        Some((digits.parse().ok()?, u32::try_from(fraction.len()).ok()?))
    }

    /// The nearest double.
    pub fn to_f64(&self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// Whether a text is a number of DQDL: digits, perhaps a point between them, perhaps a minus before them.
    fn is_written_well(text: &str) -> bool {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let unsigned = text.strip_prefix('-').unwrap_or(text);
        match unsigned.split_once('.') {
            Some((whole, fraction)) => digits(whole) && digits(fraction),
            None => digits(unsigned),
        }
    }
}

impl FromStr for Decimal {
    type Err = NotADecimal;

    fn from_str(text: &str) -> Result<Self, NotADecimal> {
        if Self::is_written_well(text) { Ok(Self(text.into())) } else { Err(NotADecimal) }
    }
}

/// A text is not a number such as `-12` or `0.95`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADecimal;

impl Display for NotADecimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("expected a number such as `-12` or `0.95`")
    }
}

impl std::error::Error for NotADecimal {}

impl Display for Decimal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! from_numbers {
    ($($number:ty)*) => { $(
        impl From<$number> for Decimal {
            fn from(number: $number) -> Self {
                Self(number.to_string().into())
            }
        }

        impl From<$number> for Number {
            fn from(number: $number) -> Self {
                Self::Literal(number.into())
            }
        }
    )* };
}
from_numbers!(i32 i64 u32 u64 usize f64);

/// A number in a condition: a literal, a value of earlier runs, or arithmetic with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// `0.9`
    Literal(Decimal),
    /// `avg(last(10))`
    Dynamic(Dynamic),
    /// `abs(…)`: without its sign.
    Abs(Box<Number>),
    /// `first + a * b …`, evaluated **from left to right**: DQDL has no precedence, so `1 + 2 * 3` is 9. What was
    /// written in parentheses is an operand of this kind.
    Arithmetic {
        /// The leftmost operand.
        first: Box<Number>,
        /// What is done to it, in order; never empty.
        rest: Vec<(Operator, Number)>,
    },
}

/// An operator between numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

/// The values that the rule's own metric had in earlier runs, reduced to one number.
///
/// Without any earlier run each of them is 0. Where there are fewer runs than asked for, all of them count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dynamic {
    /// `last()`: the value of the previous run.
    Last,
    /// `avg(last(10))`
    Aggregate {
        /// What reduces the values to one.
        function: Aggregate,
        /// How many of the latest runs count; at least 1.
        runs: u32,
    },
    /// `percentile(last(10), 0.95)`
    Percentile {
        /// How many of the latest runs count; at least 1.
        runs: u32,
        /// Which one: from 0 (the least) to 1 (the greatest).
        fraction: Decimal,
    },
    /// `index(last(3), 0)`
    Index {
        /// How many of the latest runs count; at least 1.
        runs: u32,
        /// Which of them: 0 is the latest. Less than `runs`.
        at: u32,
    },
}

/// A function of the values of several runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// `avg`, also written `average`: the mean.
    Avg,
    /// `median`
    Median,
    /// `max`
    Max,
    /// `min`
    Min,
    /// `sum`
    Sum,
    /// `std`: the standard deviation.
    Std,
}

impl Aggregate {
    /// All of them, by the names that are printed.
    pub(crate) const NAMES: [(&'static str, Self); 6] = [
        ("avg", Self::Avg),
        ("median", Self::Median),
        ("max", Self::Max),
        ("min", Self::Min),
        ("sum", Self::Sum),
        ("std", Self::Std),
    ];
}

impl Number {
    /// Whether it depends on earlier runs.
    pub fn is_dynamic(&self) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Dynamic(_) => true,
            Self::Abs(number) => number.is_dynamic(),
            Self::Arithmetic { first, rest } => {
                first.is_dynamic() || rest.iter().any(|(_, number)| number.is_dynamic())
            }
        }
    }

    /// Applies an operator as Rust would: where reading from left to right would mean something else, in parentheses.
    fn with(self, operator: Operator, right: Self) -> Self {
        let adds = |operator| matches!(operator, Operator::Add | Operator::Subtract);
        match self {
            Self::Arithmetic { first, mut rest } if rest.iter().all(|&(other, _)| adds(other) == adds(operator)) => {
                rest.push((operator, right));
                Self::Arithmetic { first, rest }
            }
            left => Self::Arithmetic { first: Box::new(left), rest: vec![(operator, right)] },
        }
    }
}

impl From<Decimal> for Number {
    fn from(decimal: Decimal) -> Self {
        Self::Literal(decimal)
    }
}

macro_rules! operators {
    ($($Trait:ident $method:ident $Operator:ident),*) => { $(
        impl<N: Into<Number>> $Trait<N> for Number {
            type Output = Number;

            fn $method(self, right: N) -> Number {
                self.with(Operator::$Operator, right.into())
            }
        }
    )* };
}
operators!(Add add Add, Sub sub Subtract, Mul mul Multiply, Div div Divide);

/// The values of the latest runs, as [`last`] makes them for [`avg`] and its siblings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last(u32);

/// The values of the latest `runs` runs: `avg(last(10))`.
pub fn last(runs: u32) -> Last {
    Last(runs)
}

/// The value of the previous run, `last()`.
pub fn previous() -> Number {
    Number::Dynamic(Dynamic::Last)
}

macro_rules! aggregates {
    ($($(#[$doc:meta])* $function:ident $Aggregate:ident),*) => { $(
        $(#[$doc])*
        pub fn $function(Last(runs): Last) -> Number {
            Number::Dynamic(Dynamic::Aggregate { function: Aggregate::$Aggregate, runs })
        }
    )* };
}
aggregates!(
    /// The mean of earlier values.
    avg Avg,
    /// The median of earlier values.
    median Median,
    /// The greatest of earlier values.
    max Max,
    /// The least of earlier values.
    min Min,
    /// The sum of earlier values.
    sum_of Sum,
    /// The standard deviation of earlier values.
    std_dev Std
);

/// One of the earlier values by its rank, from 0 (the least) to 1 (the greatest).
pub fn percentile(Last(runs): Last, fraction: f64) -> Number {
    Number::Dynamic(Dynamic::Percentile { runs, fraction: fraction.into() })
}

/// One of the earlier values by its age: 0 is the latest.
pub fn index(Last(runs): Last, at: u32) -> Number {
    Number::Dynamic(Dynamic::Index { runs, at })
}

/// A number without its sign.
pub fn abs(number: impl Into<Number>) -> Number {
    Number::Abs(Box::new(number.into()))
}
