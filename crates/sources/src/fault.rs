//! Faults in texts, and their messages.

use std::fmt::Display;

use arrow::datatypes::DataType;

/// The message for a null in a required column.
pub(crate) const MISSING_VALUE: &str = "a value is missing where the schema requires one";

/// A fault in a text, with its offset. The reader of the file adds the file's name and converts the offset to a line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// One sentence.
    pub(crate) message: String,
    /// The offset in bytes from the start of the given text.
    pub(crate) offset: usize,
    pub(crate) column: Option<String>,
    /// The value as written in the file.
    pub(crate) value: Option<String>,
    /// A hint.
    pub(crate) hint: Option<String>,
    /// Whether another dialect, in which a backslash escapes quotes, might help.
    pub(crate) may_be_escaped: bool,
}

/// The [detail](hardtack_core::Error::with_detail) of a CSV error that another interpretation of quotes might avoid.
#[derive(Debug)]
pub(crate) struct MayBeEscaped;

impl Fault {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { message: message.into(), offset, column: None, value: None, hint: None, may_be_escaped: false }
    }

    /// A text that is not a value of the column's type.
    pub(crate) fn bad_value(offset: usize, column: impl Into<String>, value: &str, wanted: &DataType) -> Self {
        let fault = Self::not_a(offset, value, wanted).column(column);
        let hint = match value.trim_matches('"').trim_ascii().parse::<i128>() {
            Ok(_) if matches!(wanted, DataType::Timestamp(..)) => {
                "; the unit of a number is unknown, so declare a bigint and convert it, for example with to_timestamp_millis"
            }
            Ok(_) if wanted.is_temporal() => {
                "; the unit of a number is unknown, so declare an int and convert it, for example with a cast to date"
            }
            _ => return fault,
        };
        Self { message: fault.message + hint, ..fault }
    }

    /// A text that is not of the expected kind.
    pub(crate) fn not_a(offset: usize, value: &str, wanted: impl Display) -> Self {
        Self::new(offset, format!("`{}` is not {}", cut(value.trim_matches('"')), a(wanted))).value(value)
    }

    /// A null in a required column.
    pub(crate) fn required(offset: usize, column: impl Into<String>) -> Self {
        Self::new(offset, MISSING_VALUE).column(column)
    }

    pub(crate) fn column(mut self, column: impl Into<String>) -> Self {
        self.column = Some(column.into());
        self
    }

    pub(crate) fn value(mut self, value: &str) -> Self {
        self.value = Some(cut(value));
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn may_be_escaped(mut self) -> Self {
        self.may_be_escaped = true;
        self
    }
}

/// The type with an indefinite article.
pub(crate) fn a(what: impl Display) -> String {
    let what = what.to_string();
    let article = if what.starts_with(['A', 'I', 'O', 'a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {what}")
}

/// Values go to logs and run records, so long ones are truncated.
const SHOWN_CHARS: usize = 100;

/// The value, truncated for display.
pub(crate) fn cut(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Int64", "an Int64")]
    #[case("object", "an object")]
    #[case("Utf8", "a Utf8")]
    #[case("Decimal128(4, 2)", "a Decimal128(4, 2)")]
    fn types_have_an_article(#[case] what: &str, #[case] expected: &str) {
        assert_eq!(a(what), expected);
    }

    #[rstest]
    #[case("300", DataType::Int8, "`300` is not an Int8")]
    #[case("300", DataType::Boolean, "`300` is not a Boolean")]
    #[case("x", DataType::Date32, "`x` is not a Date32")]
    #[case(
        "\"300\"",
        DataType::Date32,
        "`300` is not a Date32; the unit of a number is unknown, so declare an int and convert it, for example with a cast to date"
    )]
    #[case(
        "300",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Second, None),
        "`300` is not a Timestamp(s); the unit of a number is unknown, so declare a bigint and convert it, for example with to_timestamp_millis"
    )]
    fn a_number_that_is_no_time_has_a_hint(#[case] value: &str, #[case] wanted: DataType, #[case] message: &str) {
        assert_eq!(Fault::bad_value(0, "c", value, &wanted).message, message);
    }

    #[test]
    fn of_a_long_value_the_beginning_is_shown() {
        let long = "ü".repeat(101);
        let shown = format!("{}...", "ü".repeat(100));
        assert_eq!(cut(&long), shown);
        assert_eq!(cut(&long[..200]), long[..200]);
        let fault = Fault::bad_value(7, "c", &format!("\"{long}\""), &DataType::Int8);
        assert_eq!((fault.offset, fault.column.as_deref()), (7, Some("c")));
        assert_eq!(fault.message, format!("`{shown}` is not an Int8"));
        assert_eq!(fault.value.unwrap(), format!("\"{}...", "ü".repeat(99)));
    }
}
