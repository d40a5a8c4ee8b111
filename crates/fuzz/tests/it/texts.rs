//! Texts that are values, near misses, and neither.

use proptest::prelude::*;
use proptest::sample::select;

/// What the values of a column mostly are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Theme {
    Ints,
    LargeInts,
    Floats,
    Decimals,
    Bools,
    Dates,
    Times,
    Texts,
    Anything,
}

pub const THEMES: [Theme; 9] = [
    Theme::Ints,
    Theme::LargeInts,
    Theme::Floats,
    Theme::Decimals,
    Theme::Bools,
    Theme::Dates,
    Theme::Times,
    Theme::Texts,
    Theme::Anything,
];

/// A theme.
pub fn theme() -> impl Strategy<Value = Theme> {
    select(&THEMES[..])
}

const ODD_NUMBERS: &[&str] = &[
    "0",
    "-0",
    "+0",
    "00",
    "-00",
    "0.0",
    "-0.0",
    "007",
    "-007",
    "01.5",
    "+1",
    "+1.5",
    "--1",
    "1e5",
    "1E5",
    "1e+5",
    "-1e-3",
    "1e400",
    "-1e400",
    "1e-400",
    "1e308",
    "1.7976931348623157e308",
    "5e-324",
    "1.0",
    "1.50",
    "3.0",
    ".5",
    "-.5",
    "5.",
    "1158E590003",
    "9007199254740992",
    "9007199254740993",
    "-9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "123456789012345678901234567890",
    "0.1",
    "0.30000000000000004",
    "0.1234567890123456789",
    "1.0000000000000001",
    "16777217",
    "1.239",
    "1.239e0",
    "1.5e-3",
    "e5",
    "1e",
    "1e65538",
    "1.0e0",
    "1.000000000000000000000000000000000000000000e0",
    "1,5",
    "1 000",
    "1_000",
    "1'000",
    "0x10",
    "1d",
    "1f",
    "1L",
    "NaN",
    "nan",
    "NAN",
    "inf",
    "-inf",
    "Infinity",
    "-Infinity",
    "infinity",
    "-",
    "+",
    ".",
    "e",
    "$5",
    "5%",
    "\u{663}",
    "\u{ff11}",
    "1\u{a0}",
    " 1",
    "1 ",
    "\t1",
    "127",
    "128",
    "-129",
    "2147483648",
    "99999.99",
    "1234567.89",
    "12345678.90",
];

const ODD_WORDS: &[&str] = &[
    "true", "TRUE", "False", "t", "F", "yes", "No", "y", "on", "off", "0", "1", "null", "NULL", "None", "\\N", "nil",
    "NA",
];

const ODD_TIMES: &[&str] = &[
    "2024-02-29",
    "2023-02-29",
    "2024-13-01",
    "2024-00-10",
    "2024-01-32",
    "0000-01-01",
    "0001-01-01",
    "1582-10-10",
    "1677-09-20",
    "2262-04-12",
    "9999-12-31",
    "10000-01-01",
    "-0001-01-01",
    "2024-1-5",
    "24-01-05",
    "2024-01",
    "2024",
    "1987",
    "870314",
    "198703",
    "20240131",
    "2024/01/31",
    "31.01.2024",
    "01/02/2024",
    "1700000000",
    "1700000000000",
    "2024-01-31T10:00:00Z",
    "2024-01-31T10:00:00z",
    "2024-01-31 10:00:00",
    "2024-01-31 10:00",
    "2024-01-31T10:00Z",
    "2024-01-31T10:00:00+02:00",
    "2024-01-31T10:00:00-0530",
    "2024-01-31 10:00:00+02",
    "2024-01-31T10:00:00 +02:00",
    "2024-01-31T10:00:00.5Z",
    "2024-01-31T10:00:00.123456",
    "2024-01-31T10:00:00.123456789",
    "2024-01-31T10:00:00.1234567891",
    "2024-01-31T24:00:00",
    "2024-01-31T23:59:60",
    "2024-01-31T23:59:60Z",
    "2024-01-31T00:00:00",
    "2024-01-31 00:00:00",
    "2024-01-31T10",
    "2024-01-31T",
    "2024-01-31Z",
    "9999-12-31T23:59:59.999999",
    "9999-12-31T23:59:59.999999999Z",
    "0000-01-01T00:00:00Z",
    "1969-12-31T23:59:59.999999Z",
    "2024-01-31T10:00:00 UTC",
    "2024-01-31T10:00:00[Europe/Berlin]",
    "10:30:00",
    " 2024-01-31",
    "2024-01-31 ",
    "2024-01-31T10:00:00,5",
    "1677-09-21T00:12:43Z",
    "2262-04-11T23:47:16.854775807Z",
];

const ODD_TEXTS: &[&str] = &[
    "",
    " ",
    "  x  ",
    "a\"b",
    "\"",
    "\"\"",
    "a,b",
    "a;b",
    "a|b",
    "a\tb",
    "line\nbreak",
    "carriage\rreturn",
    "both\r\n",
    "\\",
    "\\\\",
    "\\\"",
    "'",
    "#comment",
    "# 1",
    "--",
    "\u{feff}",
    "\u{feff}x",
    "\u{0}",
    "\u{1}",
    "\u{1f600}",
    "\u{fc}",
    "u\u{308}",
    "\u{2028}",
    "\u{a0}",
    "{\"a\":1}",
    "[1,2]",
    "{}",
    "()",
    "a=b",
    "a/b",
    "%2F",
    "=1+1",
    "__HIVE_DEFAULT_PARTITION__",
];

/// Any text that is known to cause trouble.
pub fn odd() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(ODD_NUMBERS).prop_map(str::to_owned),
        1 => select(ODD_WORDS).prop_map(str::to_owned),
        3 => select(ODD_TIMES).prop_map(str::to_owned),
        2 => select(ODD_TEXTS).prop_map(str::to_owned),
        2 => "[+-]?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][+-]?[0-9]{1,3})?",
        1 => "[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{1,9})?)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?",
        2 => "[a-zA-Z0-9 \u{fc}\u{1f600}\"',;|\t\\\\#{}:.+-]{0,8}",
    ]
}

/// A text of a theme as people write it.
fn usual(theme: Theme) -> BoxedStrategy<String> {
    let day = || (0_i64..=9999, 1_u8..=12, 1_u8..=28).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"));
    match theme {
        Theme::Ints => (-1000_i32..1000).prop_map(|n| n.to_string()).boxed(),
        Theme::LargeInts => any::<i64>().prop_map(|n| n.to_string()).boxed(),
        Theme::Floats => prop_oneof![
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite() && (f.abs() < 1e15 && f.abs() > 1e-15))
                .prop_map(|f| f.to_string()),
            (-1000_i32..1000, 0_u32..1000).prop_map(|(w, f)| format!("{w}.{f}")),
        ]
        .boxed(),
        Theme::Decimals => (-1_000_000_i64..1_000_000, 0_u8..100).prop_map(|(w, f)| format!("{w}.{f:02}")).boxed(),
        Theme::Bools => select(&["true", "false"][..]).prop_map(str::to_owned).boxed(),
        Theme::Dates => day().boxed(),
        Theme::Times => (day(), 0_u8..24, 0_u8..60, 0_u8..60, select(&["", "Z", ".5", ".123456Z", "+01:00"][..]))
            .prop_map(|(day, h, m, s, rest)| format!("{day}T{h:02}:{m:02}:{s:02}{rest}"))
            .boxed(),
        Theme::Texts => "[a-z]{1,6}( [a-z]{1,4})?".boxed(),
        Theme::Anything => odd().boxed(),
    }
}

/// A text of a theme, or rarely another one.
pub fn text(theme: Theme) -> impl Strategy<Value = String> {
    prop_oneof![12 => usual(theme), 1 => odd()]
}

/// Names of columns: few, so that files share them, and some that are nearly the same.
pub fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => select(&["a", "b", "c", "d", "id", "order_id"][..]).prop_map(str::to_owned),
        1 => select(&["A", "Id", "orderId", "a b", "a.b", "\u{fc}ber", "\u{dc}ber", "x\"y", "1", "2019", "select", "column_1", "_x", "\u{1f600}", "a'b", "a,b"][..])
            .prop_map(str::to_owned),
    ]
}

/// Removes fields whose names repeat an earlier one, ignoring case.
pub fn distinct<T>(fields: Vec<(String, T)>) -> Vec<(String, T)> {
    let mut seen: Vec<String> = Vec::new();
    let mut fields = fields;
    fields.retain(|(name, _)| {
        let new = !seen.contains(&name.to_lowercase());
        seen.push(name.to_lowercase());
        new
    });
    fields
}
