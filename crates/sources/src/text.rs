//! Parses texts of files by the rules of [`hardtack_core::text`], ignoring blanks around a value.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, GenericListArray, MapArray, OffsetSizeTrait, StructArray,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
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

/// The type to pass to the JSON decoder so that [`from_texts`] can apply the rules of this module: types for which
/// Arrow's decoder is lossy, or which it does not support, become texts, at any depth.
pub(crate) fn as_texts(to: &DataType) -> DataType {
    use DataType as D;
    let child = |f: &FieldRef| Arc::new(Field::new(f.name(), as_texts(f.data_type()), f.is_nullable()));
    match to {
        D::Struct(fields) => D::Struct(fields.iter().map(child).collect()),
        D::List(item) => D::List(child(item)),
        D::LargeList(item) => D::LargeList(child(item)),
        D::FixedSizeList(item, n) => D::FixedSizeList(child(item), *n),
        D::Map(entries, sorted) => D::Map(child(entries), *sorted),
        D::Null | D::Boolean | D::Utf8 | D::LargeUtf8 | D::Utf8View => to.clone(),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => to.clone(),
        _ => D::Utf8,
    }
}

/// Converts an array that was read as [`as_texts`] to its type. `None` if a text is not a value of its type.
pub(crate) fn from_texts(array: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    use DataType as D;
    if array.data_type() == to {
        return Some(Arc::clone(array));
    }
    Some(match to {
        D::Struct(fields) => {
            let rows = array.as_struct_opt()?;
            Arc::new(struct_from_texts(rows, fields)?)
        }
        D::List(item) => Arc::new(list_from_texts(array.as_list_opt::<i32>()?, item)?),
        D::LargeList(item) => Arc::new(list_from_texts(array.as_list_opt::<i64>()?, item)?),
        D::FixedSizeList(item, n) => {
            let list = array.as_fixed_size_list_opt()?;
            let values = from_texts(list.values(), item.data_type())?;
            Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *n, values, list.nulls().cloned()).ok()?)
        }
        D::Map(entries, sorted) => {
            let map = array.as_map_opt()?;
            let D::Struct(fields) = entries.data_type() else { return None };
            let pairs = struct_from_texts(map.entries(), fields)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            Arc::new(MapArray::try_new(Arc::clone(entries), offsets, pairs, nulls, *sorted).ok()?)
        }
        _ => {
            let texts = array.as_string_opt::<i32>()?;
            parse((0..texts.len()).map(|i| texts.is_valid(i).then(|| Cow::Borrowed(texts.value(i)))), to).ok()?
        }
    })
}

fn struct_from_texts(rows: &StructArray, fields: &Fields) -> Option<StructArray> {
    let columns =
        rows.columns().iter().zip(fields).map(|(c, f)| from_texts(c, f.data_type())).collect::<Option<_>>()?;
    StructArray::try_new_with_length(fields.clone(), columns, rows.nulls().cloned(), rows.len()).ok()
}

fn list_from_texts<O: OffsetSizeTrait>(list: &GenericListArray<O>, item: &FieldRef) -> Option<GenericListArray<O>> {
    let values = from_texts(list.values(), item.data_type())?;
    GenericListArray::try_new(Arc::clone(item), list.offsets().clone(), values, list.nulls().cloned()).ok()
}

#[cfg(test)]
mod tests {
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
