//! What can be wrong with a piece of text, and how it is told.

use std::fmt::Display;

use arrow::datatypes::DataType;

/// What is said of a null in a column that allows none.
pub(crate) const MISSING_VALUE: &str = "a value is missing where the schema requires one";

/// What is wrong in a text and where in it. The reader of the file adds its name and turns the offset into a line.
#[derive(Debug, PartialEq)]
pub(crate) struct Fault {
    /// One sentence.
    pub(crate) message: String,
    /// Bytes from the start of the text that was handed over.
    pub(crate) offset: usize,
    pub(crate) column: Option<String>,
    /// As it stands in the file.
    pub(crate) value: Option<String>,
    /// What can be done about it.
    pub(crate) hint: Option<String>,
    /// Whether another reading of quotes may help, in which a backslash escapes.
    pub(crate) may_be_escaped: bool,
}

/// The [detail](hardtack_core::Error::with_detail) of an error in CSV that another reading of quotes may mend.
#[derive(Debug)]
pub(crate) struct MayBeEscaped;

impl Fault {
    pub(crate) fn new(offset: usize, message: impl Into<String>) -> Self {
        Self { message: message.into(), offset, column: None, value: None, hint: None, may_be_escaped: false }
    }

    /// A text that is not a value of the type that `column` has.
    pub(crate) fn bad_value(offset: usize, column: impl Into<String>, value: &str, wanted: &DataType) -> Self {
        let fault = Self::not_a(offset, value, wanted).column(column);
        let way_out = match value.trim_matches('"').trim_ascii().parse::<i128>() {
            Ok(_) if matches!(wanted, DataType::Timestamp(..)) => {
                "; a number does not say what it counts, so declare a bigint and convert it, with to_timestamp_millis say"
            }
            Ok(_) if wanted.is_temporal() => {
                "; a number does not say what it counts, so declare an int and convert it, with a cast to date say"
            }
            _ => return fault,
        };
        Self { message: fault.message + way_out, ..fault }
    }

    /// A text that is not what is wanted there.
    pub(crate) fn not_a(offset: usize, value: &str, wanted: impl Display) -> Self {
        Self::new(offset, format!("`{}` is not {}", cut(value.trim_matches('"')), a(wanted))).value(value)
    }

    /// A null where the schema allows none.
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

/// The type with its article.
pub(crate) fn a(what: impl Display) -> String {
    let what = what.to_string();
    let article = if what.starts_with(['A', 'I', 'O', 'a', 'i', 'o']) { "an" } else { "a" };
    format!("{article} {what}")
}

/// Values go to logs and run records; a whole document should not.
const SHOWN_CHARS: usize = 100;

/// The value, cut to what is worth showing.
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
        "`300` is not a Date32; a number does not say what it counts, so declare an int and convert it, with a cast to date say"
    )]
    #[case(
        "300",
        DataType::Timestamp(arrow::datatypes::TimeUnit::Second, None),
        "`300` is not a Timestamp(s); a number does not say what it counts, so declare a bigint and convert it, with \
         to_timestamp_millis say"
    )]
    fn a_number_that_is_no_time_has_a_way_out(#[case] value: &str, #[case] wanted: DataType, #[case] message: &str) {
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
