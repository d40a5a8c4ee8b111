//! Appends values to a line of CSV without allocating a string for each.

/// The range of days: 1930-01-01 to 2029-12-31.
const FIRST_YEAR: i64 = 1930;
const LAST_YEAR: i64 = 2029;

/// Days since 1970-01-01, as dates.
#[derive(Debug)]
pub(super) struct Calendar {
    first: i64,
    dates: Vec<[u8; 10]>,
}

impl Calendar {
    pub(super) fn new() -> Self {
        let mut dates = Vec::new();
        for year in FIRST_YEAR..=LAST_YEAR {
            for month in 1..=12 {
                for day in 1..=days_of_month(year, month) {
                    let mut date = *b"0000-00-00";
                    date[..2].copy_from_slice(&two_digits(year / 100));
                    date[2..4].copy_from_slice(&two_digits(year % 100));
                    date[5..7].copy_from_slice(&two_digits(month));
                    date[8..].copy_from_slice(&two_digits(day));
                    dates.push(date);
                }
            }
        }
        let first = -(FIRST_YEAR..1970).map(|year| if is_leap(year) { 366 } else { 365 }).sum::<i64>();
        Self { first, dates }
    }

    /// `2023-12-31`
    pub(super) fn date(&self, out: &mut Vec<u8>, day: i64) {
        out.extend_from_slice(&self.dates[(day - self.first) as usize]);
    }

    /// `2023-12-31T23:59:59Z`
    pub(super) fn instant(&self, out: &mut Vec<u8>, second: i64) {
        let (day, second) = (second.div_euclid(86_400), second.rem_euclid(86_400));
        self.date(out, day);
        let mut time = *b"T00:00:00Z";
        time[1..3].copy_from_slice(&two_digits(second / 3600));
        time[4..6].copy_from_slice(&two_digits(second / 60 % 60));
        time[7..9].copy_from_slice(&two_digits(second % 60));
        out.extend_from_slice(&time);
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn two_digits(n: i64) -> [u8; 2] {
    [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8]
}

/// Decimal digits, at least `width` of them.
pub(super) fn number(out: &mut Vec<u8>, mut n: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    while n > 0 || digits.len() - at < width {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// `n` units of which `10^decimals` make one: 7, 2 is `0.07`.
pub(super) fn decimal(out: &mut Vec<u8>, n: u64, decimals: usize) {
    number(out, n, decimals + 1);
    let point = out.len() - decimals;
    out.insert(point, b'.');
}

/// 128 bits as `01234567-89ab-cdef-0123-456789abcdef`
pub(super) fn uuid(out: &mut Vec<u8>, high: u64, low: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bits = u128::from(high) << 64 | u128::from(low);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, c) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *c = HEX[(bits >> shift) as usize & 15];
        }
    }
    out.extend_from_slice(&text);
}
