//! Naive arithmetic of days and points in time.

use std::fmt;

/// Nanoseconds since 1970, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The number of nanoseconds.
    pub nanos: i128,
    /// Whether there is a zone; if not, UTC is assumed.
    pub zoned: bool,
}

const DAY: i128 = 86_400 * 1_000_000_000;

impl Moment {
    /// `count` units of `nanos` nanoseconds since 1970.
    pub fn new(count: i128, nanos: i128, zoned: bool) -> Self {
        Self { nanos: count * nanos, zoned }
    }

    /// Midnight of a day.
    pub fn of_day(day: i64) -> Self {
        Self { nanos: i128::from(day) * DAY, zoned: false }
    }

    /// The day, if it is midnight.
    pub fn day(self) -> Option<i64> {
        (self.nanos.rem_euclid(DAY) == 0).then(|| i64::try_from(self.nanos.div_euclid(DAY)).ok()).flatten()
    }

    /// Parses a day, optionally followed by `T` or a blank and a time of day, with or without seconds, fraction and
    /// offset.
    pub fn parse(text: &str) -> Option<Self> {
        let (day, rest) = (text.get(..10)?, text.get(10..)?);
        let midnight = Self::of_day(parse_day(day)?);
        if rest.is_empty() {
            return Some(midnight);
        }
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(rest.len());
        let (time, offset) = rest.split_at(end);
        let offset = parse_offset(offset.trim_start_matches(' '))?;
        let nanos = midnight.nanos + parse_time(time)? - i128::from(offset.unwrap_or(0)) * 1_000_000_000;
        Some(Self { nanos, zoned: offset.is_some() })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (day, time) = (self.nanos.div_euclid(DAY), self.nanos.rem_euclid(DAY));
        let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
        let day = show_day(i64::try_from(day).unwrap_or(i64::MAX));
        write!(f, "{day}T{:02}:{:02}:{:02}.{nanos:09}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        f.write_str(if self.zoned { "Z" } else { "" })
    }
}

/// Parses `2024-01-31` to days since 1970. Years have four digits.
pub fn parse_day(text: &str) -> Option<i64> {
    let bytes: &[u8; 10] = text.as_bytes().try_into().ok()?;
    if bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0_i64, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    ((1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day)).then(|| days_before(year, month) + day - 1)
}

/// Like [`parse_day`], but also accepts one-digit months and days, and longer years with a sign.
pub fn parse_any_day(text: &str) -> Option<i64> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let mut parts = rest.split('-');
    let mut number = |lengths: std::ops::RangeInclusive<usize>| {
        let part = parts.next()?;
        let valid = lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| part.parse::<i64>().ok()).flatten()
    };
    let (year, month, day) = (number(4..=7)? * sign, number(1..=2)?, number(1..=2)?);
    let valid = parts.next().is_none() && (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day);
    valid.then(|| days_before(year, month) + day - 1)
}

/// The day in the notation of [`parse_day`].
pub fn show_day(day: i64) -> String {
    // Finds the year by trying, from one that is not later.
    let mut year = 1970 + day.div_euclid(if day < 0 { 365 } else { 366 });
    while days_before(year + 1, 1) <= day {
        year += 1;
    }
    let month = (1..=12).rev().find(|month| days_before(year, *month) <= day).unwrap_or(1);
    let sign = if year < 0 { "-" } else { "" };
    format!("{sign}{:04}-{month:02}-{:02}", year.abs(), day - days_before(year, month) + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The days from 1970 to the first day of a month.
fn days_before(year: i64, month: i64) -> i64 {
    let leap_years = |year: i64| (year - 1).div_euclid(4) - (year - 1).div_euclid(100) + (year - 1).div_euclid(400);
    (year - 1970) * 365 + leap_years(year) - leap_years(1970)
        + (1..month).map(|month| days_of(year, month)).sum::<i64>()
}

/// Nanoseconds since midnight.
fn parse_time(text: &str) -> Option<i128> {
    let number = |text: &str, below: i128| {
        let valid = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        valid.then(|| text.parse::<i128>().ok()).flatten().filter(|n| *n < below)
    };
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if text.contains('.') && clock.len() != 8 {
        return None;
    }
    let mut parts = clock.split(':');
    let (hours, minutes) = (number(parts.next()?, 24)?, number(parts.next()?, 60)?);
    let seconds = parts.next().map_or(Some(0), |seconds| number(seconds, 60))?;
    let valid = parts.next().is_none() && !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
    let significant = fraction.trim_end_matches('0');
    let nanos: i128 =
        if valid && significant.len() <= 9 { format!("{significant:0<9}").parse().ok()? } else { return None };
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + nanos)
}

/// The offset in seconds; an inner `None` if there is none, an outer one if it is invalid.
fn parse_offset(text: &str) -> Option<Option<i64>> {
    let sign = match text.as_bytes().first() {
        None => return Some(None),
        Some(b'Z' | b'z') if text.len() == 1 => return Some(Some(0)),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let colon = text.len() == 6 && text.as_bytes()[3] == b':';
    let digits = if colon { format!("{}{}", &text[1..3], &text[4..]) } else { text[1..].to_owned() };
    if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes): (i64, i64) =
        (digits[..2].parse().ok()?, digits.get(2..).unwrap_or_default().parse().unwrap_or(0));
    (hours < 24 && minutes < 60).then_some(Some(sign * (hours * 60 + minutes) * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted() {
        for (day, text) in
            [(0, "1970-01-01"), (-719_528, "0000-01-01"), (2_932_896, "9999-12-31"), (19_782, "2024-02-29")]
        {
            assert_eq!((parse_day(text), show_day(day).as_str()), (Some(day), text));
        }
        for day in (-719_528..2_932_896).step_by(97) {
            assert_eq!(parse_day(&show_day(day)), Some(day));
        }
        assert_eq!(parse_day("2023-02-29"), None);
    }

    #[test]
    fn moments_are_read() {
        let show = |text: &str| Moment::parse(text).map(|moment| moment.to_string());
        assert_eq!(show("2024-01-31T10:00:00.5+02:00").unwrap(), "2024-01-31T08:00:00.500000000Z");
        assert_eq!(show("1969-12-31 23:59").unwrap(), "1969-12-31T23:59:00.000000000");
        assert_eq!(show("2024-01-31 24:00:00"), None);
        assert_eq!(show("2024-01-31T10:00:00.0000000001"), None);
    }
}
