//! Columns under construction: where the values are in the text, then arrays.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, FixedSizeListArray, GenericListArray,
    GenericStringArray, LargeBinaryArray, MapArray, NullArray, NullBufferBuilder, OffsetSizeTrait, StructArray,
};
use arrow::buffer::{Buffer, MutableBuffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields};

use super::keys::{Key, Keys, OpenKeys};
use super::read::{Bad, unescaped};
use crate::text::parse;

/// A value without parts, or the JSON of one that has parts: where it is in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    /// A string without escapes, without its quotes.
    Text,
    /// A string with escapes.
    Escaped,
    /// A list or an object.
    Nested,
}

/// A column under construction.
#[derive(Debug)]
pub(super) enum Column {
    Leaf(Leaves),
    Struct(Box<Struct>),
    List(Box<List>),
    Map(Box<Map>),
}

/// A column of values without parts.
#[derive(Debug)]
pub(super) struct Leaves {
    to: DataType,
    takes: Takes,
    spans: Vec<Span>,
}

/// Which values a column takes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    Nulls,
    Booleans,
    Texts,
    /// Texts, numbers and booleans, by their text.
    Leaves,
    /// Lists and objects as well, by their JSON.
    All,
}

/// A column of objects.
#[derive(Debug)]
pub(super) struct Struct {
    fields: Fields,
    keys: Keys,
    columns: Vec<Column>,
    /// Objects that no column takes, by their names.
    skipped: HashMap<usize, Box<Struct>>,
    valid: NullBufferBuilder,
}

/// A column of lists.
#[derive(Debug)]
pub(super) struct List {
    to: DataType,
    pub(super) items: Column,
    ends: Vec<usize>,
    valid: NullBufferBuilder,
}

/// A column of objects whose keys are data.
#[derive(Debug)]
pub(super) struct Map {
    entries: FieldRef,
    sorted: bool,
    pub(super) keys: Leaves,
    pub(super) values: Column,
    ends: Vec<usize>,
    valid: NullBufferBuilder,
}

/// Builds columns; `as_json` are the fields of the row that take lists and objects as their JSON.
///
/// # Errors
/// A type that JSON cannot be read into.
pub(super) fn columns(fields: &Fields, caseless: bool, as_json: &[usize], rows: usize) -> Result<Struct, String> {
    let mut columns = Struct::new(fields, caseless, rows)?;
    for at in as_json {
        if let Column::Leaf(leaves) = &mut columns.columns[*at] {
            leaves.takes = Takes::All;
        }
    }
    Ok(columns)
}

impl Column {
    fn new(to: &DataType, caseless: bool, rows: usize) -> Result<Self, String> {
        let list = |item: &FieldRef| {
            let (ends, valid) = (Vec::with_capacity(rows), NullBufferBuilder::new(rows));
            let items = Self::new(item.data_type(), caseless, rows)?;
            Ok(Self::List(Box::new(List { to: to.clone(), items, ends, valid })))
        };
        match to {
            DataType::Struct(fields) => Ok(Self::Struct(Box::new(Struct::new(fields, caseless, rows)?))),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => list(item),
            DataType::Map(entries, sorted) => {
                let DataType::Struct(pair) = entries.data_type() else {
                    return Err(format!("the entries of a map must be a Struct, not {}", entries.data_type()));
                };
                let [key, value] = &pair[..] else {
                    return Err(format!("a map must have a key and a value, not {}", entries.data_type()));
                };
                let keys = Leaves::new(key.data_type(), rows);
                if key.data_type().is_nested() {
                    return Err(format!("the keys of a map cannot be {}", key.data_type()));
                }
                if *sorted {
                    return Err("the keys of a map are not sorted".to_owned());
                }
                let values = Self::new(value.data_type(), caseless, rows)?;
                let (entries, sorted) = (Arc::clone(entries), *sorted);
                let (ends, valid) = (Vec::with_capacity(rows), NullBufferBuilder::new(rows));
                Ok(Self::Map(Box::new(Map { entries, sorted, keys, values, ends, valid })))
            }
            to => Ok(Self::Leaf(Leaves::new(to, rows))),
        }
    }

    pub(super) fn push_null(&mut self) {
        match self {
            Self::Leaf(leaves) => leaves.spans.push(Span { start: 0, end: 0, kind: Kind::Null }),
            Self::Struct(columns) => {
                columns.columns.iter_mut().for_each(Self::push_null);
                columns.valid.append_null();
            }
            Self::List(list) => {
                if let DataType::FixedSizeList(_, size) = &list.to {
                    (0..*size).for_each(|_| list.items.push_null());
                }
                list.ends.push(list.items.len());
                list.valid.append_null();
            }
            Self::Map(map) => {
                map.ends.push(map.keys.spans.len());
                map.valid.append_null();
            }
        }
    }

    /// The memory that it keeps when its values have been taken, in bytes.
    fn kept_bytes(&self) -> usize {
        match self {
            Self::Leaf(leaves) => leaves.kept_bytes(),
            Self::Struct(columns) => columns.kept_bytes(),
            Self::List(list) => list.items.kept_bytes() + list.ends.capacity() * size_of::<usize>(),
            Self::Map(map) => {
                map.keys.kept_bytes() + map.values.kept_bytes() + map.ends.capacity() * size_of::<usize>()
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaves) => leaves.spans.len(),
            Self::Struct(columns) => columns.valid.len(),
            Self::List(list) => list.ends.len(),
            Self::Map(map) => map.ends.len(),
        }
    }

    /// The array of the values so far, after which there are none. `None` if a value does not fit.
    fn finish(&mut self, text: &str) -> Option<ArrayRef> {
        match self {
            Self::Leaf(leaves) => leaves.finish(text),
            Self::Struct(columns) => Some(Arc::new(columns.finish(text)?)),
            Self::List(list) => list.finish(text),
            Self::Map(map) => map.finish(text),
        }
    }
}

impl Leaves {
    fn new(to: &DataType, rows: usize) -> Self {
        let takes = match to {
            DataType::Null => Takes::Nulls,
            DataType::Boolean => Takes::Booleans,
            to if to.is_binary() => Takes::Texts,
            _ => Takes::Leaves,
        };
        Self { to: to.clone(), takes, spans: Vec::with_capacity(rows) }
    }

    /// Whether the column takes the value.
    #[inline]
    pub(super) fn push(&mut self, span: Span) -> bool {
        self.spans.push(span);
        match (span.kind, self.takes) {
            (Kind::Null, _) | (_, Takes::All) => true,
            (Kind::Nested, _) | (_, Takes::Nulls) => false,
            (_, Takes::Leaves) => true,
            (kind, Takes::Booleans) => matches!(kind, Kind::True | Kind::False),
            (kind, Takes::Texts) => matches!(kind, Kind::Text | Kind::Escaped),
        }
    }

    fn kept_bytes(&self) -> usize {
        self.spans.capacity() * size_of::<Span>()
    }

    fn finish(&mut self, text: &str) -> Option<ArrayRef> {
        let array = self.array(text);
        self.spans.clear();
        array
    }

    fn array(&self, text: &str) -> Option<ArrayRef> {
        let spans = self.spans.iter().map(|span| span.of(text));
        Some(match &self.to {
            DataType::Null => Arc::new(NullArray::new(self.spans.len())),
            DataType::Boolean => {
                let value = |span: &Span| (span.kind != Kind::Null).then_some(span.kind == Kind::True);
                Arc::new(self.spans.iter().map(value).collect::<BooleanArray>())
            }
            DataType::Utf8 => Arc::new(strings::<i32>(&self.spans, text)?),
            DataType::LargeUtf8 => Arc::new(strings::<i64>(&self.spans, text)?),
            to if to.is_binary() => {
                let values = spans.map(|text| text.map(|text| bytes(&text)));
                // A text that is not hexadecimal.
                let values: Vec<Option<Vec<u8>>> =
                    values.map(|value| value.map_or(Some(None), |bytes| bytes.map(Some))).collect::<Option<_>>()?;
                match to {
                    DataType::Binary => Arc::new(values.into_iter().collect::<BinaryArray>()),
                    DataType::LargeBinary => Arc::new(values.into_iter().collect::<LargeBinaryArray>()),
                    DataType::FixedSizeBinary(size) => {
                        let values = values.into_iter();
                        Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(values, *size).ok()?)
                    }
                    _ => Arc::new(values.into_iter().collect::<BinaryViewArray>()),
                }
            }
            to => parse(spans, to).ok()?,
        })
    }
}

impl Span {
    /// The text of the value; `None` for null.
    fn of<'a>(&self, text: &'a str) -> Option<Cow<'a, str>> {
        let value = || &text[self.start as usize..self.end as usize];
        match self.kind {
            Kind::Null => None,
            Kind::Escaped => unescaped(value()),
            Kind::True | Kind::False | Kind::Number | Kind::Text | Kind::Nested => Some(Cow::Borrowed(value())),
        }
    }
}

/// An array of texts. Its size is known beforehand, but for escapes.
fn strings<O: OffsetSizeTrait>(spans: &[Span], text: &str) -> Option<GenericStringArray<O>> {
    let bytes = spans.iter().map(|span| (span.end - span.start) as usize).sum();
    O::from_usize(bytes)?;
    let (mut values, mut offsets) = (MutableBuffer::new(bytes), Vec::with_capacity(spans.len() + 1));
    let mut valid = NullBufferBuilder::new(spans.len());
    offsets.push(O::zero());
    for span in spans {
        match span.kind {
            Kind::Null => valid.append_null(),
            Kind::Escaped => {
                values.extend_from_slice(unescaped(&text[span.start as usize..span.end as usize])?.as_bytes());
                valid.append_non_null();
            }
            _ => {
                values.extend_from_slice(&text.as_bytes()[span.start as usize..span.end as usize]);
                valid.append_non_null();
            }
        }
        offsets.push(O::usize_as(values.len()));
    }
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    GenericStringArray::try_new(offsets, Buffer::from(values), valid.finish()).ok()
}

/// The bytes of a hexadecimal text.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    text.as_bytes().chunks(2).map(|pair| pair.iter().try_fold(0, |byte, d| Some(byte << 4 | digit(d)? as u8))).collect()
}

impl Struct {
    fn new(fields: &Fields, caseless: bool, rows: usize) -> Result<Self, String> {
        let columns = fields.iter().map(|field| Column::new(field.data_type(), caseless, rows));
        Ok(Self::with_columns(fields.clone(), caseless, columns.collect::<Result<_, _>>()?, rows))
    }

    fn with_columns(fields: Fields, caseless: bool, columns: Vec<Column>, rows: usize) -> Self {
        let keys = Keys::new(&fields, caseless);
        Self { fields, keys, columns, skipped: HashMap::new(), valid: NullBufferBuilder::new(rows) }
    }

    /// The memory that the columns keep when their values have been taken, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        self.columns.iter().map(Column::kept_bytes).sum()
    }

    /// Whether these are the columns of these fields.
    pub(super) fn has_fields(&self, fields: &Fields) -> bool {
        self.fields == *fields
    }

    /// An object begins.
    pub(super) fn begin(&mut self) {
        self.keys.begin();
        self.valid.append_non_null();
    }

    /// The key with which the text at `at` begins, if it was expected: its bytes, and its name.
    #[inline]
    pub(super) fn expected(&mut self, text: &[u8], at: usize) -> Result<Option<(usize, usize)>, Bad> {
        let Some((name, bytes)) = self.keys.expected(&text[at..]) else { return Ok(None) };
        self.keys.note(name, at)?;
        Ok(Some((bytes, name)))
    }

    /// The name of a key of the open object that was not expected; `None` if it is not remembered.
    pub(super) fn name<'a>(&mut self, key: &Key<'a>, others: &mut OpenKeys<'a>) -> Result<Option<usize>, Bad> {
        self.keys.name(key, others)
    }

    /// The column of a name, if it has one.
    #[inline]
    pub(super) fn column(&mut self, name: Option<usize>) -> Option<&mut Column> {
        self.columns.get_mut(name?)
    }

    /// What is remembered of the keys of objects of this name, which no column takes. `left` is how many more names may be
    /// remembered; `None` if there are none left for a new one.
    pub(super) fn skipped(&mut self, name: Option<usize>, left: &mut usize) -> Option<&mut Self> {
        match self.skipped.entry(name?) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(new) => {
                *left = left.checked_sub(1)?;
                Some(new.insert(Box::new(Self::with_columns(Fields::empty(), false, Vec::new(), 0))))
            }
        }
    }

    /// The open object ends. The fields that it did not have are null.
    pub(super) fn end(&mut self) {
        for (at, column) in self.columns.iter_mut().enumerate() {
            if !self.keys.has(at) {
                column.push_null();
            }
        }
    }

    /// The columns of the objects so far, after which there are none. `None` if a value does not fit; then this must not be
    /// used any more.
    pub(super) fn columns(&mut self, text: &str) -> Option<Vec<ArrayRef>> {
        // Over many blocks, these could grow without limit.
        self.skipped.clear();
        self.keys.forget_if_full();
        self.valid.finish();
        self.columns.iter_mut().map(|column| column.finish(text)).collect()
    }

    fn finish(&mut self, text: &str) -> Option<StructArray> {
        let (fields, rows, valid) = (self.fields.clone(), self.valid.len(), self.valid.finish());
        StructArray::try_new_with_length(fields, self.columns(text)?, valid, rows).ok()
    }
}

impl List {
    /// A list ends. Returns whether it has the right length.
    pub(super) fn end(&mut self) -> bool {
        let (end, before) = (self.items.len(), self.ends.last().copied().unwrap_or(0));
        self.ends.push(end);
        self.valid.append_non_null();
        match &self.to {
            DataType::FixedSizeList(_, size) => usize::try_from(*size) == Ok(end - before),
            _ => true,
        }
    }

    fn finish(&mut self, text: &str) -> Option<ArrayRef> {
        let (items, rows, valid) = (self.items.finish(text)?, self.ends.len(), self.valid.finish());
        let ends = &mut self.ends;
        Some(match &self.to {
            DataType::List(item) => Arc::new(list::<i32>(item, ends, items, valid)?),
            DataType::LargeList(item) => Arc::new(list::<i64>(item, ends, items, valid)?),
            DataType::FixedSizeList(item, size) => {
                let item = Arc::clone(item);
                ends.clear();
                Arc::new(FixedSizeListArray::try_new_with_length(item, *size, items, valid, rows).ok()?)
            }
            _ => return None,
        })
    }
}

fn list<O: OffsetSizeTrait>(
    item: &FieldRef,
    ends: &mut Vec<usize>,
    items: ArrayRef,
    valid: Option<NullBuffer>,
) -> Option<GenericListArray<O>> {
    GenericListArray::try_new(Arc::clone(item), offsets(ends)?, items, valid).ok()
}

/// Takes the ends.
fn offsets<O: OffsetSizeTrait>(ends: &mut Vec<usize>) -> Option<OffsetBuffer<O>> {
    let offsets = std::iter::once(0).chain(ends.drain(..)).map(O::from_usize).collect::<Option<Vec<_>>>()?;
    Some(OffsetBuffer::new(ScalarBuffer::from(offsets)))
}

impl Map {
    /// An object ends.
    pub(super) fn end(&mut self) {
        self.ends.push(self.keys.spans.len());
        self.valid.append_non_null();
    }

    fn finish(&mut self, text: &str) -> Option<ArrayRef> {
        let DataType::Struct(pair) = self.entries.data_type() else { return None };
        let pair = pair.clone();
        let pairs = StructArray::try_new(pair, vec![self.keys.finish(text)?, self.values.finish(text)?], None).ok()?;
        let (offsets, valid) = (offsets::<i32>(&mut self.ends)?, self.valid.finish());
        Some(Arc::new(MapArray::try_new(Arc::clone(&self.entries), offsets, pairs, valid, self.sorted).ok()?))
    }
}
