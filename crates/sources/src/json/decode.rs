//! Decodes JSON rows to batches, and locates the fault in a row that does not fit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use serde_json::value::RawValue;

use super::columns::columns;
use super::keys;
use super::read::{Bad, Reader};
use super::rows::{Marks, RowScanner, syntax_fault};
use super::shape::hint;
use crate::blocks::{BLOCK_BYTES, Cut, Decode};
use crate::fault::Fault;
use crate::files::LINE_COLUMN;
use crate::input::{Lines, Step};

/// A block ends after this many bytes, even if it has fewer rows than a batch: its text and its marks should be in the
/// cache of a core when they are read.
const JSON_BLOCK_BYTES: usize = 512 << 10;

/// Cuts a text into blocks of objects.
pub(crate) struct JsonCutter {
    wanted: Wanted,
    /// The position of the line number among the columns.
    line_at: Option<usize>,
    scanner: RowScanner,
    batch_size: usize,
    /// The number of bytes after which a block ends.
    pub(crate) block_bytes: usize,
}

/// What to read of each object.
#[derive(Debug, Clone)]
struct Wanted {
    schema: SchemaRef,
    /// Whether keys match in any case.
    caseless: bool,
    /// The columns that take lists and objects as their JSON, without counting the line number.
    texts_at: Arc<[usize]>,
}

/// The objects of a block.
pub(crate) struct JsonRows {
    wanted: Wanted,
    line_at: Option<usize>,
    rows: Vec<Range<usize>>,
    marks: Marks,
}

impl JsonCutter {
    pub(crate) fn new(schema: SchemaRef, batch_size: usize) -> Self {
        let wanted = Wanted { schema, caseless: false, texts_at: Arc::new([]) };
        Self { wanted, line_at: None, scanner: RowScanner::with_marks(), batch_size, block_bytes: JSON_BLOCK_BYTES }
    }

    /// Sets whether [`LINE_COLUMN`] is the line of a row and not a field.
    pub(crate) fn lines(mut self, lines: bool) -> Self {
        let schema = &self.wanted.schema;
        self.line_at = schema.index_of(LINE_COLUMN).ok().filter(|_| lines);
        if let Some(at) = self.line_at {
            let fields = schema.fields().iter().enumerate().filter(|(i, _)| *i != at);
            self.wanted.schema = Arc::new(Schema::new(fields.map(|(_, field)| Arc::clone(field)).collect::<Fields>()));
        }
        self
    }

    /// Sets the columns that take lists and objects as their JSON. Must be called after the other options, because it
    /// depends on the positions of columns and on their case.
    pub(crate) fn json_text(mut self, columns: &[String]) -> Self {
        let caseless = self.wanted.caseless;
        let is_it =
            |column: &str, name: &str| column == name || (caseless && column.to_lowercase() == name.to_lowercase());
        let is_named = |name: &str| columns.iter().any(|column| is_it(column, name));
        let is_text = |field: &FieldRef| field.data_type().is_string() && is_named(field.name());
        let fields = self.wanted.schema.fields().iter().enumerate();
        self.wanted.texts_at = fields.filter(|(_, field)| is_text(field)).map(|(at, _)| at).collect();
        self
    }

    /// Sets whether keys match in any case.
    pub(crate) fn caseless(mut self, caseless: bool) -> Self {
        self.wanted.caseless = caseless;
        self
    }
}

impl Cut for JsonCutter {
    type Rows = JsonRows;

    fn cut(&mut self, text: &[u8], ended: bool) -> Result<Step<JsonRows>, Fault> {
        let scanned = self.scanner.scan_for(text, self.batch_size, self.block_bytes);
        let rows = self.scanner.rows();
        let full = rows.len() >= self.batch_size || text.len() >= BLOCK_BYTES;
        if rows.is_empty() || !(full || ended || scanned.is_err()) {
            // A fault is reported after the rows before it.
            if let Some(fault) = scanned.err().or_else(|| ended.then(|| self.scanner.end(text)).flatten()) {
                return Err(fault);
            }
            let used = if rows.is_empty() { self.scanner.done() } else { 0 };
            self.scanner.consume(used, 0);
            return Ok(Step { used, made: None });
        }
        let rows: Vec<_> = rows.iter().take(self.batch_size).cloned().collect();
        let used = rows.last().map_or(0, |row| row.end);
        let marks = self.scanner.consume(used, rows.len());
        let made = JsonRows { wanted: self.wanted.clone(), line_at: self.line_at, rows, marks };
        Ok(Step { used, made: Some(made) })
    }
}

impl Decode for JsonRows {
    fn decode(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        self.read(text).map_err(|bad| {
            // What is wrong, and where exactly, is found by reading the rows again, one by one.
            let found = self.rows.iter().find_map(|row| self.wanted.fault(&text[row.clone()], row.start));
            found.unwrap_or_else(|| match bad {
                Some(Bad { at, why }) => Fault::new(at, why),
                None => Fault::new(self.rows.first().map_or(0, |row| row.start), "a row does not fit the schema"),
            })
        })
    }

    fn decode_from(&self, text: &[u8], lines: Lines) -> Result<RecordBatch, Fault> {
        let batch = self.decode(text)?;
        let Some(at) = self.line_at else { return Ok(batch) };
        let (mut lines, mut seen) = (lines, 0);
        let starts = self.rows.iter().map(|row| {
            lines = lines.and(&text[seen..row.start]);
            seen = row.start;
            lines.next() as i64
        });
        let starts: ArrayRef = Arc::new(Int64Array::from_iter_values(starts));
        let (schema, mut columns, _) = batch.into_parts();
        let mut fields: Vec<FieldRef> = schema.fields().to_vec();
        fields.insert(at, Arc::new(Field::new(LINE_COLUMN, DataType::Int64, true)));
        columns.insert(at, starts);
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| Fault::new(0, e.to_string()))
    }
}

impl JsonRows {
    /// Reads the rows, or says at most where one is broken.
    fn read(&self, text: &[u8]) -> Result<RecordBatch, Option<Bad>> {
        let text = std::str::from_utf8(text).map_err(|_| None)?;
        self.wanted.read(text, &self.marks, self.rows.len())
    }
}

impl Wanted {
    fn read(&self, text: &str, marks: &Marks, rows: usize) -> Result<RecordBatch, Option<Bad>> {
        let fields = self.schema.fields();
        let mut columns = columns(fields, self.caseless, &self.texts_at, rows).map_err(|_| None)?;
        let mut reader = Reader::new(text, marks);
        for _ in 0..rows {
            reader.row(&mut columns)?;
        }
        let columns = columns.columns(text).ok_or(None)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // A null in a required column
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|_| None)
    }

    /// The fault in the row that starts at `offset`, if it has one.
    fn fault(&self, row: &[u8], offset: usize) -> Option<Fault> {
        let fields = self.schema.fields();
        if let Some(fault) = keys::fault(row, offset, self.caseless.then_some(fields)) {
            return Some(fault);
        }
        let text = match std::str::from_utf8(row) {
            Ok(text) => text,
            Err(e) => return Some(Fault::new(offset + e.valid_up_to(), "this is not UTF-8 text")),
        };
        let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return syntax_fault(row, offset) };
        let texts: Vec<&str> = self.texts_at.iter().map(|at| fields[*at].name().as_str()).collect();
        let place = Place { base: text.as_ptr() as usize, offset, texts: &texts, caseless: self.caseless };
        place.object(raw, fields, "")
    }
}

/// Refuses types that JSON cannot be read into.
pub(crate) fn can_decode(fields: &Fields) -> Result<(), String> {
    columns(fields, false, &[], 0).map(drop)
}

fn is_nested(json: &str) -> bool {
    json.starts_with(['{', '['])
}

/// Finds the value that does not fit, descending into objects and lists.
struct Place<'a> {
    base: usize,
    offset: usize,
    /// The fields of the row that may be lists and objects.
    texts: &'a [&'a str],
    caseless: bool,
}

impl Place<'_> {
    /// The offset of a value; raw values are slices of the row's text.
    fn of(&self, raw: &RawValue) -> usize {
        self.offset + (raw.get().as_ptr() as usize - self.base)
    }

    fn object(&self, raw: &RawValue, fields: &Fields, path: &str) -> Option<Fault> {
        let Ok(values) = serde_json::from_str::<HashMap<String, &RawValue>>(raw.get()) else {
            return Some(self.not_a("object", raw, path));
        };
        let values: HashMap<String, &RawValue> =
            values.into_iter().map(|(key, value)| (self.folded(&key), value)).collect();
        fields.iter().find_map(|field| {
            let is_text = path.is_empty() && self.texts.contains(&field.name().as_str());
            let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
            match values.get(&self.folded(field.name())) {
                Some(value) if is_text && is_nested(value.get()) => None,
                Some(value) => self.value(value, field, &path),
                None if field.is_nullable() => None,
                None => Some(Fault::required(self.of(raw), path)),
            }
        })
    }

    fn value(&self, raw: &RawValue, field: &FieldRef, path: &str) -> Option<Fault> {
        if raw.get() == "null" {
            return (!field.is_nullable()).then(|| Fault::required(self.of(raw), path));
        }
        match field.data_type() {
            DataType::Struct(fields) => self.object(raw, fields, path),
            DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
                    return Some(self.not_a("list", raw, path));
                };
                let mut items = items.into_iter().enumerate();
                items.find_map(|(i, value)| self.value(value, item, &format!("{path}[{i}]"))).or_else(|| {
                    self.alone(raw, field).err().map(|why| Fault::new(self.of(raw), why).column(path).value(raw.get()))
                })
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else { return None };
                let Ok(values) = serde_json::from_str::<HashMap<String, &RawValue>>(raw.get()) else {
                    return Some(self.not_a("object", raw, path));
                };
                values.iter().find_map(|(key, value)| self.value(value, &pair[1], &format!("{path}.{key}")))
            }
            wanted => self.alone(raw, field).err().map(|_| {
                let fault = Fault::bad_value(self.of(raw), path, raw.get(), wanted);
                if wanted.is_string() && is_nested(raw.get()) { fault.hint(hint(path)) } else { fault }
            }),
        }
    }

    fn folded(&self, name: &str) -> String {
        if self.caseless { name.to_lowercase() } else { name.to_owned() }
    }

    /// Reads a value by itself: only the reader decides what fits.
    fn alone(&self, raw: &RawValue, field: &FieldRef) -> Result<(), String> {
        let alone = Field::new("value", field.data_type().clone(), true);
        let schema = Arc::new(Schema::new(vec![alone]));
        let wanted = Wanted { schema, caseless: self.caseless, texts_at: Arc::new([]) };
        let (row, mut scanner) = (format!("{{\"value\":{}}}", raw.get()), RowScanner::with_marks());
        scanner.scan(row.as_bytes()).map_err(|fault| fault.message)?;
        let marks = scanner.consume(row.len(), scanner.rows().len());
        let why = |bad: Option<Bad>| bad.map_or("it does not fit the schema", |bad| bad.why).to_owned();
        wanted.read(&row, &marks, 1).map(drop).map_err(why)
    }

    fn not_a(&self, wanted: &str, raw: &RawValue, path: &str) -> Fault {
        let fault = Fault::not_a(self.of(raw), raw.get(), wanted);
        if path.is_empty() { fault } else { fault.column(path) }
    }
}

#[cfg(test)]
mod tests {
    use arrow::util::pretty::pretty_format_batches;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Map, Value};

    use super::*;

    fn fields() -> Fields {
        let of = |name: &str, of| Field::new(name, of, true);
        let inner = DataType::Struct(vec![of("In", DataType::Int32)].into());
        let entry = DataType::Struct(vec![Field::new("key", DataType::Utf8, false), of("value", inner.clone())].into());
        let map = DataType::Map(Arc::new(Field::new("entries", entry, false)), false);
        let fields = vec![
            of("id", DataType::Int32),
            of("A", inner.clone()),
            of("l", DataType::new_list(inner.clone(), true)),
            of("LL", DataType::new_large_list(inner.clone(), true)),
            of("F", DataType::new_fixed_size_list(inner.clone(), 2, true)),
            of("Größe", inner),
            of("m", map),
            of("\u{2c65}", DataType::Int32),
        ];
        fields.into()
    }

    /// The rows of a text, or the fault and where it is.
    fn read(text: &str, fields: &Fields, caseless: bool) -> Result<String, String> {
        let mut cutter = JsonCutter::new(Arc::new(Schema::new(fields.clone())), 8192).caseless(caseless);
        let told = |fault: Fault| format!("{} at {}", fault.message, fault.offset);
        let Step { used, made } = cutter.cut(text.as_bytes(), true).map_err(told)?;
        let batch = made.unwrap().decode(&text.as_bytes()[..used]).map_err(told)?;
        Ok(pretty_format_batches(&[batch]).unwrap().to_string())
    }

    #[rstest]
    #[case(r#"{"ID": 1, "Other": {"In": 1}}"#, r#"{"id": 1}"#)]
    #[case(r#"{"a":{"IN":1,"X":[{"IN":2}]},"ID":1}"#, r#"{"A":{"In":1},"id":1}"#)]
    #[case(r#"{"L": [{"IN": 1}, null, {"In": 3}], "ID" : 1}"#, r#"{"l": [{"In": 1}, null, {"In": 3}], "id" : 1}"#)]
    #[case(r#"{"M": {"Key": {"IN": 1}, "KEY": {"In": 2}}}"#, r#"{"m": {"Key": {"In": 1}, "KEY": {"In": 2}}}"#)]
    // As Python's `json.dumps` writes them.
    #[case(r#"{"I\u0044": 3, "GR\u00d6\u00dfE": {"\u0049N": 7}}"#, r#"{"id": 3, "Größe": {"In": 7}}"#)]
    // The lower case is longer.
    #[case("{\"\u{23a}\":1}", "{\"\u{2c65}\":1}")]
    fn keys_match_in_any_case(#[case] text: &str, #[case] same: &str) {
        assert_eq!(read(text, &fields(), true).unwrap(), read(same, &fields(), false).unwrap());
    }

    #[rstest]
    #[case(r#"{"id": 1, "n": {"id": 2}, "ID": 3}"#, Some("an object has `id` twice, where case does not count at 27"))]
    #[case(r#"{"id": 1, "a": {"ID": 2}}"#, None)]
    #[case(r#"{"id": 1, "\u0069d": 2}"#, Some("an object has `id` twice at 10"))]
    #[case(r#"{"a": {"In": 1, "in": 2}}"#, Some("an object has `in` twice, where case does not count at 17"))]
    #[case(r#"{"l": [{"In": 1}, {"x": 1, "X": 2}]}"#, Some("an object has `x` twice, where case does not count at 28"))]
    #[case(r#"{"m": {"k": {"In": 1, "IN": 2}}}"#, Some("an object has `in` twice, where case does not count at 23"))]
    #[case(r#"{"m": {"k": null, "K": null}, "o": {"x": 1, "X": 2}}"#, None)]
    fn a_key_that_is_there_in_two_spellings_is_refused(#[case] text: &str, #[case] expected: Option<&str>) {
        assert_eq!(read(text, &fields(), true).err().as_deref(), expected);
    }

    /// What no column takes must be JSON nevertheless.
    #[rstest]
    #[case(r#"{"x": tru}"#, "this is not JSON: expected ident at 9")]
    #[case(r#"{"x": 1.2.3}"#, "this is not JSON: expected `,` or `}` at 9")]
    #[case(r#"{"x": 01}"#, "this is not JSON: invalid number at 7")]
    #[case(r#"{"x": {"y": [1, }]}"#, "this is not JSON: expected value at 16")]
    #[case(r#"{"x": [1 2]}"#, "this is not JSON: expected `,` or `]` at 9")]
    #[case(r#"{"x": ["a" "b"]}"#, "this is not JSON: expected `,` or `]` at 11")]
    #[case(r#"{"x": "a" 1}"#, "this is not JSON: expected `,` or `}` at 10")]
    #[case(r#"{"x" 1 : 1}"#, "this is not JSON: expected `:` at 5")]
    #[case(r#"{"x": 1,}"#, "this is not JSON: key must be a string at 8")]
    #[case(r#"{"x": [{}], "y": [,]}"#, "this is not JSON: expected value at 18")]
    #[case(r#"{"x": }"#, "this is not JSON: expected value at 6")]
    #[case(r#"{x: 1}"#, "this is not JSON: key must be a string at 1")]
    #[case(r#"{"x": [1}]"#, "this is not JSON: expected `,` or `]` at 8")]
    #[case(r#"{"x": "\x"}"#, "this is not JSON: invalid escape at 8")]
    #[case(r#"{"x": "\ud842"}"#, "an escape in this text is not a character at 6")]
    #[case(r#"{"x": {"a": {"b": 1, "b": 2}}}"#, "an object has `b` twice at 21")]
    fn what_nobody_reads_is_json(#[case] text: &str, #[case] message: &str) {
        for fields in [Fields::empty(), fields()] {
            assert_eq!(read(text, &fields, false).unwrap_err(), message);
        }
    }

    #[test]
    fn values_that_nobody_reads_may_be_deep() {
        let deep = format!("{{\"x\":{}{}}}", "[{\"a\":".repeat(300) + "1", "}]".repeat(300));
        assert!(read(&deep, &Fields::empty(), false).is_ok());
    }

    /// The same value with the keys of structs in lower case; none if two of them are then equal.
    fn folded(value: Value, of: Option<&DataType>) -> Option<Value> {
        Some(match (value, of) {
            (Value::Object(object), Some(DataType::Struct(fields))) => {
                let mut folded_object = Map::new();
                for (key, value) in object {
                    let key = key.to_lowercase();
                    let field = fields.iter().find(|f| f.name().to_lowercase() == key);
                    // As it is declared
                    let name = field.map_or(key, |field| field.name().clone());
                    if folded_object.insert(name, folded(value, field.map(|f| f.data_type()))?).is_some() {
                        return None;
                    }
                }
                folded_object.into()
            }
            (Value::Object(object), Some(DataType::Map(entries, _))) => {
                let DataType::Struct(pair) = entries.data_type() else { unreachable!() };
                let values = object.into_iter().map(|(k, v)| Some((k, folded(v, Some(pair[1].data_type()))?)));
                Value::Object(values.collect::<Option<_>>()?)
            }
            (
                Value::Array(items),
                Some(DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)),
            ) => items.into_iter().map(|i| folded(i, Some(item.data_type()))).collect::<Option<Vec<_>>>()?.into(),
            (other, _) => other,
        })
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let key =
            || prop::sample::select(vec!["id", "ID", "A", "l", "L", "LL", "F", "M", "In", "IN", "in", "Über", "Key"]);
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            "[Aa{}\\[\\],:\"\\\\ ]{0,5}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((key(), inner), 0..4)
                    .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
            ]
        });
        prop::collection::vec((key(), value), 0..5)
            .prop_map(|fields| fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
    }

    proptest! {
        #[test]
        fn case_does_not_count_as_far_as_types_go(value in any_json(), pretty in any::<bool>()) {
            let same = folded(value.clone(), Some(&DataType::Struct(fields())));
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            let found = read(&text, &fields(), true);
            match same {
                None => prop_assert!(found.is_err()),
                Some(same) => {
                    let wanted = read(&same.to_string(), &fields(), false);
                    prop_assert_eq!(found.is_ok(), wanted.is_ok());
                    if let (Ok(found), Ok(wanted)) = (found, wanted) {
                        prop_assert_eq!(found, wanted);
                    }
                }
            }
        }

        /// Arrow's own reader is another one.
        #[test]
        fn values_are_those_of_arrow(values in prop::collection::vec(any_json(), 1..4)) {
            let text: String = values.iter().map(|value| value.to_string() + "\n").collect();
            let schema = Arc::new(Schema::new(fields()));
            let arrow = arrow::json::ReaderBuilder::new(schema).build(text.as_bytes()).unwrap().collect::<Result<Vec<_>, _>>();
            let found = read(&text, &fields(), false);
            // It takes texts and numbers for each other in fewer places.
            if let Ok(arrow) = arrow {
                prop_assert_eq!(found.unwrap(), pretty_format_batches(&arrow).unwrap().to_string());
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\{[{}\\[\\],:\"\\\\ AaIidLlMm1ü]{0,40}\\}", caseless in any::<bool>()) {
            let cutter = JsonCutter::new(Arc::new(Schema::new(fields())), 8192).caseless(caseless);
            let (mut cutter, text) = (cutter, text.as_bytes());
            if let Ok(Step { used, made: Some(rows) }) = cutter.cut(text, true) {
                let _ = rows.decode(&text[..used]);
            }
        }
    }
}
