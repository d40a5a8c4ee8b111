//! Translates date patterns of Java and Spark (`yyyy-MM-dd`) to those of DataFusion (`%Y-%m-%d`).

use crate::{Error, Result};

/// Whether a pattern is Java's: it has letters and no `%`.
pub(super) fn is_java(pattern: &str) -> bool {
    !pattern.contains('%') && pattern.contains(|c: char| c.is_ascii_alphabetic())
}

/// The same pattern with `%`.
pub(super) fn from_java(pattern: &str) -> Result<String> {
    let mut out = String::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_some() => out.push('\''),
            '\'' => loop {
                match chars.next() {
                    Some('\'') if chars.next_if_eq(&'\'').is_some() => out.push('\''),
                    Some('\'') => break,
                    Some(c) => out.push(c),
                    None => return Err(Error::usage("unbalanced quote in this pattern").with("pattern", pattern)),
                }
            },
            c if c.is_ascii_alphabetic() => {
                let mut count = 1;
                while chars.next_if_eq(&c).is_some() {
                    count += 1;
                }
                let letters: String = std::iter::repeat_n(c, count).collect();
                out.push_str(sign(c, count).ok_or_else(|| unknown(pattern, c, &letters))?);
            }
            '[' | ']' | '{' | '}' | '#' => return Err(unknown(pattern, c, &c.to_string())),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn sign(letter: char, count: usize) -> Option<&'static str> {
    Some(match (letter, count) {
        ('y' | 'u', 1) => "%-Y",
        ('y' | 'u', 2) => "%y",
        ('y' | 'u', 4) => "%Y",
        ('M' | 'L', 1) => "%-m",
        ('M' | 'L', 2) => "%m",
        ('M' | 'L', 3) => "%b",
        ('M' | 'L', 4) => "%B",
        ('d', 1) => "%-d",
        ('d', 2) => "%d",
        ('D', 1) => "%-j",
        ('D', 3) => "%j",
        ('E', 1..=3) => "%a",
        ('E', 4) => "%A",
        ('a', 1) => "%p",
        ('H', 1) => "%-H",
        ('H', 2) => "%H",
        ('h', 1) => "%-I",
        ('h', 2) => "%I",
        ('m', 1) => "%-M",
        ('m', 2) => "%M",
        ('s', 1) => "%-S",
        ('s', 2) => "%S",
        ('S', 3) => "%3f",
        ('S', 6) => "%6f",
        ('S', 9) => "%9f",
        ('Q' | 'q', 1) => "%q",
        ('x', 3) => "%:z",
        ('Z', 1..=3) => "%z",
        _ => return None,
    })
}

fn unknown(pattern: &str, letter: char, letters: &str) -> Error {
    let instead = match letter {
        'Y' => "`yyyy` is the year",
        'D' => "`dd` is the day of the month, `DDD` the day of the year",
        'S' => "`SSS`, `SSSSSS` and `SSSSSSSSS` are fractions of a second",
        'X' | 'O' | 'V' | 'z' => "`xxx` is the zone as `+01:00`, `Z` as `+0100`",
        _ => "put text in single quotes, as in `yyyy-MM-dd'T'HH:mm:ss`; patterns with `%` are strftime patterns",
    };
    Error::usage(format!("`{letters}` has no meaning in a pattern of dates")).with("pattern", pattern).hint(instead)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("yyyy-MM", "%Y-%m")]
    #[case("yyyyMMddHHmmss", "%Y%m%d%H%M%S")]
    #[case("d. MMMM y", "%-d. %B %-Y")]
    #[case("yyyy-MM-dd'T'HH:mm:ss.SSSSSS", "%Y-%m-%dT%H:%M:%S.%6f")]
    #[case("h 'o''clock' a, ''yy", "%-I o'clock %p, '%y")]
    #[case("EEE, EEEE DDD/D Q", "%a, %A %j/%-j %q")]
    #[case("M/L/LL uuuu", "%-m/%-m/%m %Y")]
    fn signs(#[case] java: &str, #[case] ours: &str) {
        assert!(is_java(java));
        assert_eq!(from_java(java).unwrap(), ours);
    }

    #[rstest]
    #[case("%Y-%m", false)]
    #[case("'%Y'", false)]
    #[case("", false)]
    #[case("-/", false)]
    #[case("year", true)]
    fn kinds(#[case] pattern: &str, #[case] java: bool) {
        assert_eq!(is_java(pattern), java);
    }

    #[rstest]
    #[case("YYYY-MM-DD", "`YYYY` has no meaning in a pattern of dates (pattern: YYYY-MM-DD, hint: `yyyy` is the year)")]
    #[case(
        "MM/DD",
        "`DD` has no meaning in a pattern of dates (pattern: MM/DD, hint: `dd` is the day of the month, `DDD` the day \
         of the year)"
    )]
    #[case("yyyy'T", "unbalanced quote in this pattern (pattern: yyyy'T)")]
    #[case(
        "HH:mm:ss.SS",
        "`SS` has no meaning in a pattern of dates (pattern: HH:mm:ss.SS, hint: `SSS`, `SSSSSS` and `SSSSSSSSS` are fractions of a second)"
    )]
    fn what_has_no_meaning(#[case] pattern: &str, #[case] message: &str) {
        assert_eq!(from_java(pattern).unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case("yyyyMMMMM")]
    #[case("[yyyy]")]
    #[case("w")]
    #[case("yyy")]
    #[case("HH24:MI")]
    fn refused(#[case] pattern: &str) {
        assert!(from_java(pattern).is_err());
    }
}
