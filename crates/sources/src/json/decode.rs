//! Decodes JSON rows to batches, and locates the fault in a row that does not fit.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use hardtack_core::Location;
use serde_json::value::RawValue;

use super::SetAside;
use super::columns::{Struct, columns};
use super::corrupt::{Corrupt, Damage, FIRST_REACH, Output, Recovery, broken, reason};
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

/// What is larger is not kept for later blocks: very long rows, or very many columns.
const MAX_SPARE_BYTES: usize = 8 << 20;

/// Cuts a text into blocks of objects.
pub(crate) struct JsonCutter {
    wanted: Wanted,
    /// The position of the line number among the columns.
    line_at: Option<usize>,
    scanner: RowScanner,
    batch_size: usize,
    /// The number of bytes after which a block ends.
    pub(crate) block_bytes: usize,
    /// How it goes on after a record that cannot be read; otherwise that is an error.
    pub(super) recovery: Option<Recovery>,
}

/// What to read of each object.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) schema: SchemaRef,
    /// Whether keys match in any case.
    caseless: bool,
    /// The columns that take lists and objects as their JSON, without counting the line number.
    texts_at: Arc<[usize]>,
    spare: Spare,
}

/// Memory that blocks hand on to later ones: fresh memory is slow, because the system clears it first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spare(Arc<Mutex<SpareParts>>);

#[derive(Debug, Default)]
struct SpareParts {
    marks: Vec<Marks>,
    /// Columns to be filled, with what they remember of keys.
    columns: Vec<Struct>,
}

impl Spare {
    fn parts(&self) -> MutexGuard<'_, SpareParts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks(&self) -> Marks {
        self.parts().marks.pop().unwrap_or_default()
    }

    fn keep_marks(&self, marks: Marks) {
        if marks.kept_bytes() <= MAX_SPARE_BYTES {
            self.parts().marks.push(marks);
        }
    }

    /// Columns for these fields. They are of others if a source is read with two projections.
    fn columns(&self, fields: &Fields) -> Option<Struct> {
        self.parts().columns.pop().filter(|columns| columns.has_fields(fields))
    }

    fn keep_columns(&self, columns: Struct) {
        if columns.kept_bytes() <= MAX_SPARE_BYTES {
            self.parts().columns.push(columns);
        }
    }
}

/// The objects of a block.
pub(crate) struct JsonRows {
    pub(super) wanted: Wanted,
    line_at: Option<usize>,
    pub(super) rows: Vec<Range<usize>>,
    pub(super) marks: Marks,
    /// What becomes of records that cannot be read; otherwise they are errors.
    pub(super) corrupt: Option<Corrupt>,
}

impl Drop for JsonRows {
    fn drop(&mut self) {
        self.wanted.spare.keep_marks(std::mem::take(&mut self.marks));
    }
}

impl JsonCutter {
    pub(crate) fn new(schema: SchemaRef, batch_size: usize) -> Self {
        Self {
            wanted: Wanted { schema, caseless: false, texts_at: Arc::new([]), spare: Spare::default() },
            line_at: None,
            scanner: RowScanner::with_marks(),
            batch_size,
            block_bytes: JSON_BLOCK_BYTES,
            recovery: None,
        }
    }

    /// Sets aside what cannot be read, instead of refusing it.
    pub(super) fn setting_aside(mut self, how: &SetAside, file: &Location) -> Self {
        let output = Output::new(&self.wanted.schema, how, file);
        self.wanted.schema = output.wanted(&self.wanted.schema, how);
        self.recovery = Some(Recovery::new(output));
        self
    }

    /// One that cuts a part of the same text.
    pub(super) fn of(wanted: &Wanted, recovery: Recovery) -> Self {
        let mut cutter = Self::new(Arc::clone(&wanted.schema), usize::MAX);
        cutter.wanted = wanted.clone();
        cutter.recovery = Some(recovery);
        cutter
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

    /// Shares memory with other cutters that have the same options.
    pub(crate) fn spare(mut self, spare: &Spare) -> Self {
        self.wanted.spare = spare.clone();
        self.scanner.use_marks(spare.marks());
        self
    }

    /// Sets whether keys match in any case.
    pub(crate) fn caseless(mut self, caseless: bool) -> Self {
        self.wanted.caseless = caseless;
        self
    }
}

impl Drop for JsonCutter {
    fn drop(&mut self) {
        self.wanted.spare.keep_marks(self.scanner.take_marks());
    }
}

impl Cut for JsonCutter {
    type Rows = JsonRows;

    fn cut(&mut self, text: &[u8], ended: bool) -> Result<Step<JsonRows>, Fault> {
        match self.recovery.take() {
            None => self.cut_rows(text, ended),
            Some(mut recovery) => {
                let step = self.cut_or_recover(&mut recovery, text, ended);
                self.recovery = Some(recovery);
                Ok(step)
            }
        }
    }
}

impl JsonCutter {
    fn cut_rows(&mut self, text: &[u8], ended: bool) -> Result<Step<JsonRows>, Fault> {
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
        let marks = self.scanner.consume_into(used, rows.len(), self.wanted.spare.marks());
        Ok(Step { used, made: Some(self.block(rows, marks)) })
    }

    fn block(&self, rows: Vec<Range<usize>>, marks: Marks) -> JsonRows {
        JsonRows { wanted: self.wanted.clone(), line_at: self.line_at, rows, marks, corrupt: None }
    }

    /// The damage of a text with this fault. A comma that is missing before a record does not damage that.
    fn damage(&self, fault: Fault) -> Damage {
        let (start, spares_record) = (self.scanner.broken_from(&fault), self.scanner.is_between_rows());
        Damage { start, why: reason(fault), spares_record }
    }

    /// Cuts rows, or a part of the text that cannot be read.
    fn cut_or_recover(&mut self, recovery: &mut Recovery, text: &[u8], ended: bool) -> Step<JsonRows> {
        // Blanks that were passed.
        let mut passed = 0;
        let damage = loop {
            let text = &text[passed..];
            let is_over = ended && text.trim_ascii().is_empty();
            if let Some(why) = recovery.damaged.take().filter(|_| !is_over) {
                break Damage { start: 0, why, spares_record: false };
            }
            let reach = recovery.reach.min(text.len());
            let step = match self.cut_rows(&text[..reach], ended && reach == text.len()) {
                Ok(step) => step,
                Err(fault) => break self.damage(fault),
            };
            if let Some(rows) = step.made {
                recovery.reach = usize::MAX;
                return recovery.step(passed, step.used, rows, None);
            }
            passed += step.used;
            // An object that is never closed would take in all that follows it.
            let open = &text[step.used..reach];
            if let Some(fault) = self.scanner.is_within_first_row().then(|| broken(open)).flatten() {
                break Damage { start: 0, why: reason(fault), spares_record: false };
            }
            if reach == text.len() {
                recovery.offset += passed as u64;
                return Step { used: passed, made: None };
            }
            recovery.reach = recovery.reach.saturating_mul(2);
        };
        let Damage { start, why, spares_record } = damage;
        passed += start;
        let text = &text[passed..];
        recovery.reach = FIRST_REACH;
        self.scanner.restart();
        let end =
            if spares_record && text.starts_with(b"{") { Some(0) } else { recovery.damaged_part(text, ended, &why) };
        let Some(end) = end else {
            recovery.offset += passed as u64;
            return Step { used: passed, made: None };
        };
        let record = 0..text[..end].trim_ascii_end().len();
        let rows = self.block(std::iter::once(record).collect(), Marks::default());
        recovery.step(passed, end, rows, Some(why))
    }
}

impl Decode for JsonRows {
    fn decode(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        Ok(self.batch(text)?.0)
    }

    fn decode_from(&self, text: &[u8], lines: Lines) -> Result<RecordBatch, Fault> {
        let (batch, starts) = self.batch(text)?;
        let Some(at) = self.line_at else { return Ok(batch) };
        let starts = starts.unwrap_or_else(|| self.rows.iter().map(|row| row.start).collect());
        let (mut lines, mut seen) = (lines, 0);
        let starts = starts.into_iter().map(|start| {
            lines = lines.and(&text[seen..start]);
            seen = start;
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
    /// The rows, and where each starts if that differs from where the block says.
    fn batch(&self, text: &[u8]) -> Result<(RecordBatch, Option<Vec<usize>>), Fault> {
        match &self.corrupt {
            None => Ok((self.decode_all(text)?, None)),
            Some(corrupt) => corrupt.batch(self, text),
        }
    }

    fn decode_all(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        self.read(text).map_err(|bad| {
            // What is wrong, and where exactly, is found by reading the rows again, one by one.
            let found = self.rows.iter().find_map(|row| self.wanted.fault(&text[row.clone()], row.start));
            found.unwrap_or_else(|| match bad {
                Some(Bad { at, why }) => Fault::new(at, why),
                None => Fault::new(self.rows.first().map_or(0, |row| row.start), "a row does not fit the schema"),
            })
        })
    }
}

impl JsonRows {
    /// Reads the rows, or says at most where one is broken.
    pub(super) fn read(&self, text: &[u8]) -> Result<RecordBatch, Option<Bad>> {
        let text = std::str::from_utf8(text).map_err(|_| None)?;
        self.wanted.read(text, &self.marks, self.rows.len())
    }
}

impl Wanted {
    pub(super) fn read(&self, text: &str, marks: &Marks, rows: usize) -> Result<RecordBatch, Option<Bad>> {
        let fields = self.schema.fields();
        let mut columns = match self.spare.columns(fields) {
            Some(columns) => columns,
            None => columns(fields, self.caseless, &self.texts_at, rows).map_err(|_| None)?,
        };
        let mut reader = Reader::new(text, marks);
        for _ in 0..rows {
            reader.row(&mut columns)?;
        }
        let arrays = columns.columns(text).ok_or(None)?;
        self.spare.keep_columns(columns);
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        // A null in a required column
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options).map_err(|_| None)
    }

    /// The fault in the row that starts at `offset`, if it has one.
    pub(super) fn fault(&self, row: &[u8], offset: usize) -> Option<Fault> {
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
        let wanted = Wanted { schema, caseless: self.caseless, texts_at: Arc::new([]), spare: Spare::default() };
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
            of("text", DataType::Utf8),
            of("is it so, or not", DataType::Boolean),
        ];
        fields.into()
    }

    /// The rows of a text, or the fault and where it is.
    fn read(text: &str, fields: &Fields, caseless: bool) -> Result<String, String> {
        Ok(pretty_format_batches(&[batch(text, fields, caseless)?]).unwrap().to_string())
    }

    fn batch(text: &str, fields: &Fields, caseless: bool) -> Result<RecordBatch, String> {
        let mut cutter = JsonCutter::new(Arc::new(Schema::new(fields.clone())), 8192).caseless(caseless);
        let told = |fault: Fault| format!("{} at {}", fault.message, fault.offset);
        let Step { used, made } = cutter.cut(text.as_bytes(), true).map_err(told)?;
        made.unwrap().decode(&text.as_bytes()[..used]).map_err(told)
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
        // Its keys are remembered to some depth only.
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
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

    /// A row that fits the fields, with others that nobody reads, in some order.
    fn any_row() -> impl Strategy<Value = String> {
        let inner =
            || prop::option::of(any::<i32>()).prop_map(|n| n.map_or(Value::Null, |n| serde_json::json!({ "In": n })));
        let inners = |size| prop::collection::vec(inner(), size).prop_map(Value::from);
        let map = prop::collection::btree_map("[ab]{1,2}", inner(), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().collect()));
        let maybe = |key: &'static str, value: BoxedStrategy<Value>| {
            prop::option::of(value.prop_map(move |value| (key, value)))
        };
        let fields = (
            maybe("id", any::<i32>().prop_map(Value::from).boxed()),
            maybe("A", inner().boxed()),
            maybe("l", inners(0..3).boxed()),
            maybe("LL", inners(0..3).boxed()),
            maybe("F", inners(2..3).boxed()),
            maybe("m", map.boxed()),
            maybe("x", any_json().boxed()),
            // The same in their first 16 bytes.
            maybe("is it so, or not, or what", any_json().boxed()),
            maybe("is it so, or not", any::<bool>().prop_map(Value::from).boxed()),
            maybe("text", "[a\\\\\"ü]{0,3}".prop_map(Value::from).boxed()),
        );
        let fields = fields.prop_map(|(a, b, c, d, e, f, g, h, i, j)| vec![a, b, c, d, e, f, g, h, i, j]);
        let shuffled = fields.prop_shuffle();
        (shuffled, prop::sample::select(vec!["", " ", "\n\t "])).prop_map(|(fields, blank)| {
            let fields = fields.into_iter().flatten().map(|(key, value)| format!("{blank}\"{key}\":{blank}{value}"));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        })
    }

    /// What a file leaves to the next one is not what it was refused for, nor very large.
    #[test]
    fn files_do_not_depend_on_those_before_them() {
        let schema = Arc::new(Schema::new(fields()));
        let read = |text: &str, spare: &Spare| {
            let mut cutter = JsonCutter::new(Arc::clone(&schema), 1).spare(spare);
            let (mut from, mut batches) = (0, Vec::new());
            while let Step { used, made: Some(block) } = cutter.cut(&text.as_bytes()[from..], true).unwrap() {
                batches.push(block.decode(&text.as_bytes()[from..from + used]).map_err(|fault| fault.message)?);
                from += used;
            }
            Ok::<_, String>(batches)
        };
        let spare = Spare::default();
        let good = "{\"id\":1,\"l\":[{\"In\":1}]}\n{\"text\":\"a\",\"id\":2}";
        let bad = "{\"id\":3,\"l\":[{\"In\":1}]}\n{\"id\":4,\"l\":[{\"In\":1},{\"In\":\"x\"}]}";
        let long = format!("{{\"id\":5,\"l\":[{}null]}}", "null,".repeat(1_000_000));
        let expected = read(good, &Spare::default()).unwrap();
        assert!(read(bad, &spare).is_err());
        assert_eq!(read(good, &spare).unwrap(), expected);
        read(&long, &spare).unwrap();
        assert_eq!(read(good, &spare).unwrap(), expected);
        let SpareParts { marks, columns } = &*spare.parts();
        assert!(!marks.is_empty() && marks.iter().all(|marks| marks.kept_bytes() <= MAX_SPARE_BYTES));
        assert!(!columns.is_empty() && columns.iter().all(|columns| columns.kept_bytes() <= MAX_SPARE_BYTES));
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

        /// What blocks leave to those after them is memory, and which keys to expect.
        #[test]
        fn rows_do_not_depend_on_those_before_them(
            rows in prop::collection::vec(any_row(), 1..16),
            batch_size in 1_usize..5,
        ) {
            let fields = fields();
            let schema = Arc::new(Schema::new(fields.clone()));
            let mut cutter = JsonCutter::new(schema, batch_size);
            let (text, mut from, mut batches) = (rows.join("\n"), 0, Vec::new());
            while let Step { used, made: Some(block) } = cutter.cut(&text.as_bytes()[from..], true).unwrap() {
                batches.push(block.decode(&text.as_bytes()[from..from + used]).unwrap());
                from += used;
            }
            prop_assert_eq!(batches.len(), rows.len().div_ceil(batch_size));
            let alone: Vec<RecordBatch> = rows.iter().map(|row| batch(row, &fields, false).unwrap()).collect();
            let shown = |batches: &[RecordBatch]| pretty_format_batches(batches).unwrap().to_string();
            prop_assert_eq!(shown(&batches), shown(&alone));
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
