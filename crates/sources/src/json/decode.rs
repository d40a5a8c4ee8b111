//! Decodes JSON rows to batches, and locates the fault in a row that does not fit.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::json::reader::{Decoder, ReaderBuilder};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::fold::{fold_keys, fold_names};
use super::keys;
use super::pairs::written_out;
use super::rows::{RowScanner, syntax_fault};
use super::shape::hint;
use crate::blocks::{BLOCK_BYTES, Cut, Decode};
use crate::convert::rename;
use crate::fault::Fault;
use crate::files::LINE_COLUMN;
use crate::input::{Lines, Step};
use crate::text::{as_texts, from_texts};

/// Cuts a text into blocks of objects.
pub(crate) struct JsonCutter {
    schema: SchemaRef,
    /// The schema with all names in lower case, if keys match in any case.
    folded: Option<SchemaRef>,
    /// The position of the line number among the columns.
    line_at: Option<usize>,
    /// The columns that take lists and objects as their JSON, without counting the line number.
    texts_at: Arc<[usize]>,
    scanner: RowScanner,
    batch_size: usize,
}

/// The objects of a block.
pub(crate) struct JsonRows {
    schema: SchemaRef,
    folded: Option<SchemaRef>,
    line_at: Option<usize>,
    texts_at: Arc<[usize]>,
    rows: Vec<Range<usize>>,
}

impl JsonCutter {
    pub(crate) fn new(schema: SchemaRef, batch_size: usize) -> Self {
        let texts_at = Arc::new([]);
        Self { schema, folded: None, line_at: None, texts_at, scanner: RowScanner::default(), batch_size }
    }

    /// Sets whether [`LINE_COLUMN`] is the line of a row and not a field.
    pub(crate) fn lines(mut self, lines: bool) -> Self {
        self.line_at = self.schema.index_of(LINE_COLUMN).ok().filter(|_| lines);
        if let Some(at) = self.line_at {
            let fields = self.schema.fields().iter().enumerate().filter(|(i, _)| *i != at);
            self.schema = Arc::new(Schema::new(fields.map(|(_, field)| Arc::clone(field)).collect::<Fields>()));
        }
        self
    }

    /// Sets the columns that take lists and objects as their JSON. Must be called after the other options, because it
    /// depends on the positions of columns and on their case.
    pub(crate) fn json_text(self, columns: &[String]) -> Self {
        let caseless = self.folded.is_some();
        let is_it =
            |column: &str, name: &str| column == name || (caseless && column.to_lowercase() == name.to_lowercase());
        let is_named = |name: &str| columns.iter().any(|column| is_it(column, name));
        let is_text = |field: &FieldRef| field.data_type().is_string() && is_named(field.name());
        let fields = self.schema.fields().iter().enumerate();
        let texts_at = fields.filter(|(_, field)| is_text(field)).map(|(at, _)| at).collect();
        Self { texts_at, ..self }
    }

    /// Sets whether keys match in any case.
    pub(crate) fn caseless(self, caseless: bool) -> Self {
        let folded = caseless.then(|| Arc::new(Schema::new(fold_names(self.schema.fields()))));
        Self { folded, ..self }
    }
}

impl Cut for JsonCutter {
    type Rows = JsonRows;

    fn cut(&mut self, text: &[u8], ended: bool) -> Result<Step<JsonRows>, Fault> {
        let scanned = self.scanner.scan(text);
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
        self.scanner.consume(used, rows.len());
        let (schema, folded) = (Arc::clone(&self.schema), self.folded.clone());
        let made = JsonRows { schema, folded, line_at: self.line_at, texts_at: Arc::clone(&self.texts_at), rows };
        Ok(Step { used, made: Some(made) })
    }
}

impl Decode for JsonRows {
    fn decode(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        let Some((row, fault)) = keys::twice(text, &self.rows) else { return self.decode_unique(text) };
        // A fault in an earlier row is reported first.
        let before = Self {
            rows: self.rows[..row].to_vec(),
            schema: Arc::clone(&self.schema),
            folded: self.folded.clone(),
            line_at: None,
            texts_at: Arc::clone(&self.texts_at),
        };
        if row > 0 {
            before.decode_unique(text)?;
        }
        Err(fault)
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
    /// Decodes rows without duplicate keys.
    fn decode_unique(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        let Some(folded) = &self.folded else { return self.decode_as(&self.schema, text) };
        let mut text = text.to_vec();
        self.rows.iter().try_for_each(|row| fold_keys(&mut text, row.clone(), folded.fields()))?;
        let batch = self.decode_as(folded, &text)?;
        let renamed = batch.columns().iter().zip(self.schema.fields()).map(|(c, f)| rename(c, f.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let renamed = renamed
            .collect::<Result<_, _>>()
            .and_then(|columns| RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options));
        renamed.map_err(|e| Fault::new(0, e.to_string()))
    }

    fn decode_as(&self, schema: &SchemaRef, text: &[u8]) -> Result<RecordBatch, Fault> {
        let rows = &self.rows;
        if schema.fields().is_empty() {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            return RecordBatch::try_new_with_options(Arc::clone(schema), vec![], &options)
                .map_err(|e| Fault::new(0, e.to_string()));
        }
        let texts: Vec<&str> = self.texts_at.iter().map(|at| schema.field(*at).name().as_str()).collect();
        let decoded = arrow_decoder(schema.fields(), rows.len()).and_then(|mut decoder| {
            decode(&mut decoder, schema, rows.iter().map(|row| with_json_text(&text[row.clone()], &texts)))
        });
        decoded.map_err(|why| {
            // The decoder reports an error without a position, so the rows are decoded again, one by one.
            let found = rows.iter().find_map(|row| explain(&text[row.clone()], row.start, schema.fields(), &texts));
            found.unwrap_or_else(|| Fault::new(rows.first().map_or(0, |r| r.start), why))
        })
    }
}

fn arrow_decoder(fields: &Fields, batch_size: usize) -> Result<Decoder, String> {
    let texts = fields.iter().map(|f| Field::new(f.name(), as_texts(f.data_type()), f.is_nullable()));
    let schema = Arc::new(Schema::new(texts.collect::<Fields>()));
    let builder = ReaderBuilder::new(schema).with_batch_size(batch_size).with_coerce_primitive(true);
    builder.build_decoder().map_err(|e| e.to_string())
}

/// Refuses types that the decoder does not support.
pub(crate) fn can_decode(fields: &Fields) -> Result<(), String> {
    arrow_decoder(fields, 1).map(drop)
}

/// Decodes rows, or returns the decoder's error.
fn decode<'a>(
    decoder: &mut Decoder,
    schema: &SchemaRef,
    rows: impl Iterator<Item = Cow<'a, [u8]>>,
) -> Result<RecordBatch, String> {
    for row in rows {
        let row = written_out(&row);
        let read = decoder.decode(&row).map_err(|e| e.to_string())?;
        if read < row.len() {
            return Err("this is not one JSON object".to_owned());
        }
    }
    let texts = decoder.flush().map_err(|e| e.to_string())?.ok_or("there is no row")?;
    let columns = texts.columns().iter().zip(schema.fields()).map(|(column, field)| {
        from_texts(column, field.data_type()).ok_or_else(|| format!("`{}` does not fit the schema", field.name()))
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|e| e.to_string())
}

/// Replaces lists and objects in these fields of a row by texts: their JSON, verbatim.
fn with_json_text<'a>(row: &'a [u8], fields: &[&str]) -> Cow<'a, [u8]> {
    if fields.is_empty() {
        return Cow::Borrowed(row);
    }
    // The decoder reports malformed rows.
    let nested = NestedValues(fields).deserialize(&mut serde_json::Deserializer::from_slice(row)).unwrap_or_default();
    let (mut written, mut at) = (Vec::new(), 0);
    for text in nested {
        let start = text.as_ptr() as usize - row.as_ptr() as usize;
        written.extend_from_slice(&row[at..start]);
        serde_json::to_writer(&mut written, text).expect("a text is written to memory");
        at = start + text.len();
    }
    if at == 0 {
        return Cow::Borrowed(row);
    }
    written.extend_from_slice(&row[at..]);
    Cow::Owned(written)
}

fn is_nested(json: &str) -> bool {
    json.starts_with(['{', '['])
}

/// The raw lists and objects of these fields of an object, in their order.
struct NestedValues<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for NestedValues<'_> {
    type Value = Vec<&'de str>;

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for NestedValues<'_> {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut nested = Vec::new();
        while let Some(wanted) = object.next_key_seed(IsOneOf(self.0))? {
            if !wanted {
                object.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = object.next_value::<&RawValue>()?.get();
            if is_nested(value) {
                nested.push(value);
            }
        }
        Ok(nested)
    }
}

/// Whether a key is one of these.
struct IsOneOf<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for IsOneOf<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for IsOneOf<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(self.0.contains(&key))
    }
}

/// The fault in the row that starts at `offset`, if it has one.
fn explain(row: &[u8], offset: usize, fields: &Fields, texts: &[&str]) -> Option<Fault> {
    let text = match std::str::from_utf8(row) {
        Ok(text) => text,
        Err(e) => return Some(Fault::new(offset + e.valid_up_to(), "this is not UTF-8 text")),
    };
    let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return syntax_fault(row, offset) };
    let place = Place { base: text.as_ptr() as usize, offset, texts };
    place.object(raw, fields, "")
}

/// Finds the value that does not fit, descending into objects and lists.
struct Place<'a> {
    base: usize,
    offset: usize,
    /// The fields of the row that may be lists and objects.
    texts: &'a [&'a str],
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
        fields.iter().find_map(|field| {
            let is_text = path.is_empty() && self.texts.contains(&field.name().as_str());
            let path = if path.is_empty() { field.name().clone() } else { format!("{path}.{}", field.name()) };
            match values.get(field.name()) {
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

    /// Decodes a value by itself: only the decoder decides what fits.
    fn alone(&self, raw: &RawValue, field: &FieldRef) -> Result<(), String> {
        let alone = Fields::from(vec![Field::new("value", field.data_type().clone(), true)]);
        let schema = Arc::new(Schema::new(alone.clone()));
        let mut decoder = arrow_decoder(&alone, 1)?;
        let row = format!("{{\"value\":{}}}", raw.get());
        decode(&mut decoder, &schema, std::iter::once(row.as_bytes().into())).map(|_| ())
    }

    fn not_a(&self, wanted: &str, raw: &RawValue, path: &str) -> Fault {
        let fault = Fault::not_a(self.of(raw), raw.get(), wanted);
        if path.is_empty() { fault } else { fault.column(path) }
    }
}
