//! Exact numbers.

/// An exact decimal number: `0.DIGITS` times ten to the power of `exponent`. The first and the last digit are not zero;
/// zero has no digits, but a sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exact {
    /// Whether it has a minus sign.
    pub negative: bool,
    /// The significant digits, as ASCII.
    pub digits: String,
    /// The power of ten.
    pub exponent: i128,
}

impl Exact {
    /// Parses a sign, digits with at most one point, and a power of ten. None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], power(&rest[at + 1..])?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let counting = digits.trim_start_matches('0');
        let leading = digits.len() - counting.len();
        let counting = counting.trim_end_matches('0').to_owned();
        let point = whole.len() as i128 - leading as i128 + exponent;
        let exponent = if counting.is_empty() { 0 } else { point };
        Some(Self { negative, digits: counting, exponent })
    }

    /// The shortest number to which this float is the nearest. None if it is not finite.
    pub fn of_float(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self::parse(&format!("{value:e}"))).flatten()
    }

    /// Like [`Exact::of_float`], for 32 bits.
    pub fn of_small_float(value: f32) -> Option<Self> {
        value.is_finite().then(|| Self::parse(&format!("{value:e}"))).flatten()
    }

    /// Whether it is zero, of whatever sign.
    pub fn is_zero(&self) -> bool {
        self.digits.is_empty()
    }

    /// The number of digits after the point.
    pub fn scale(&self) -> i128 {
        (self.digits.len() as i128 - self.exponent).max(0)
    }

    /// Its value as an integer, if it is one of 128 bits.
    pub fn integer(&self) -> Option<i128> {
        self.unscaled(0)?.parse().ok()
    }

    /// The unscaled integer for this scale, as digits with a sign. None if digits are lost, or if there are very many.
    pub fn unscaled(&self, scale: i8) -> Option<String> {
        if self.is_zero() {
            return Some("0".to_owned());
        }
        let length = self.exponent.checked_add(i128::from(scale))?;
        let zeros = usize::try_from(length.checked_sub(self.digits.len() as i128)?).ok()?;
        let sign = if self.negative { "-" } else { "" };
        (zeros <= 100).then(|| format!("{sign}{}{}", self.digits, "0".repeat(zeros)))
    }

    /// Whether both are the same number: the sign of a zero does not count.
    pub fn equals(&self, other: &Self) -> bool {
        self == other || (self.is_zero() && other.is_zero())
    }
}

/// Parses a power of ten, saturating.
fn power(text: &str) -> Option<i128> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let valid = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    valid.then(|| sign * digits.parse::<i64>().map_or(i128::from(i64::MAX), i128::from))
}
