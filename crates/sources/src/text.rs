//! Parses texts of files by the rules of [`hardtack_core::text`], ignoring blanks around a value.

use std::borrow::Cow;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use hardtack_core::text::{self, BadIndex};

/// Parses texts into an array of type `to`.
pub(crate) fn parse<'a>(
    texts: impl Iterator<Item = Option<Cow<'a, str>>>,
    to: &DataType,
) -> Result<ArrayRef, BadIndex> {
    if to.is_string() || to.is_binary() {
        return text::parse(texts, to);
    }
    text::parse(texts.map(|text| text.map(trimmed)), to)
}

fn trimmed(text: Cow<'_, str>) -> Cow<'_, str> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.trim_ascii()),
        Cow::Owned(text) => Cow::Owned(text.trim_ascii().to_owned()),
    }
}

/// Whether [`parse`] supports the type.
pub(crate) fn can_parse(to: &DataType) -> bool {
    arrow::compute::can_cast_types(&DataType::Utf8, to) && !to.is_nested()
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use rstest::rstest;

    use super::*;

    /// A text with escapes differs from its form in the file.
    #[rstest]
    #[case(DataType::Int64, &["1", " 2", "3 ", " 4\t"], "1|2|3|4")]
    #[case(DataType::Boolean, &[" true "], "true")]
    #[case(DataType::Utf8, &["a", " b "], "a| b ")]
    fn blanks_around_a_value_do_not_matter_wherever_it_is_from(
        #[case] to: DataType,
        #[case] texts: &[&'static str],
        #[case] expected: &str,
        #[values(false, true)] owned: bool,
    ) {
        let cow = |text: &'static str| if owned { Cow::Owned(text.to_owned()) } else { Cow::Borrowed(text) };
        let values = parse(texts.iter().map(|text| Some(cow(text))), &to).unwrap();
        let shown = |row| arrow::util::display::array_value_to_string(&values, row).unwrap();
        assert_eq!((0..values.len()).map(shown).collect::<Vec<_>>().join("|"), expected);
    }
}
