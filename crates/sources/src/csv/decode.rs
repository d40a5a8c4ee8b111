//! CSV records to batches.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, SchemaRef};

use super::dialect::{Cell, Dialect, Record};
use crate::fault::{Fault, cut};
use crate::infer::{DecodeText, MAX_BATCH_BYTES};
use crate::input::{BOM, Step};
use crate::text::parse;

/// Which columns are wanted, and where to find them.
pub(super) struct Layout {
    pub(super) wanted: SchemaRef,
    pub(super) all: SchemaRef,
    pub(super) declared: bool,
}

/// Decodes the records of one file.
pub(super) struct CsvDecoder {
    dialect: Arc<Dialect>,
    layout: Layout,
    batch_size: usize,
    /// What each field of a record is, once the header is known.
    fields: Option<FieldMap>,
    /// The fields that are kept of the records so far: one after another, `fields.kept` for each record.
    cells: Vec<Cell>,
    rows: usize,
    /// Up to where the text has been taken apart.
    at: usize,
}

/// What the fields of a file are.
struct FieldMap {
    /// Where to keep each field; only the columns that are wanted are kept.
    slots: Vec<Option<usize>>,
    kept: usize,
    /// The slot of each wanted column; a column that the file lacks has none.
    columns: Vec<Option<usize>>,
}

impl CsvDecoder {
    pub(super) fn new(dialect: Arc<Dialect>, layout: Layout, batch_size: usize) -> Self {
        Self { dialect, layout, batch_size, fields: None, cells: Vec::new(), rows: 0, at: 0 }
    }

    /// Reads the header, if it is there as a whole, and maps its fields to the columns that are wanted.
    fn header(&mut self, text: &[u8], ended: bool) -> Result<Option<FieldMap>, Fault> {
        if !self.dialect.header {
            if !ended && text.len() < BOM.len() {
                return Ok(None);
            }
            self.at = if text.starts_with(BOM) { BOM.len() } else { 0 };
            let names: Vec<_> = self.layout.all.fields().iter().map(|f| f.name().clone()).collect();
            return self.layout.map(&names).map(Some);
        }
        match header_names(&self.dialect, text, ended)? {
            None => Ok(None),
            Some((names, end)) => {
                self.at = end;
                self.layout.map(&names).map(Some)
            }
        }
    }

    /// Takes apart records until there are enough for a batch or the text ends.
    fn take_apart(&mut self, text: &[u8], ended: bool) -> Result<(), Fault> {
        let Some(fields) = &self.fields else { return Ok(()) };
        while self.at < text.len() && self.rows < self.batch_size && self.at < MAX_BATCH_BYTES {
            let start = self.rows * fields.kept;
            self.cells.resize(start + fields.kept, Cell::default());
            let row = &mut self.cells[start..];
            let record = self.dialect.record(text, self.at, ended, |index, cell| {
                if let Some(Some(slot)) = fields.slots.get(index) {
                    row[*slot] = cell;
                }
            });
            match record {
                Ok(Record::Fields(found, end)) if found == fields.slots.len() => {
                    self.rows += 1;
                    self.at = end;
                }
                Ok(Record::Blank(end)) => self.at = end,
                Ok(Record::Fields(found, end)) => {
                    return Err(wrong_width(text, self.at, end, found, fields.slots.len()));
                }
                Ok(Record::Partial) => break,
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn batch(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        let text = std::str::from_utf8(&text[..self.at])
            .map_err(|e| Fault::new(e.valid_up_to(), "this is not UTF-8 text; convert the file"))?;
        let columns = (0..self.layout.wanted.fields().len()).map(|column| self.column(text, column));
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.layout.wanted), columns.collect::<Result<_, _>>()?, &options)
            .map_err(|e| Fault::new(0, e.to_string()))
    }

    fn column(&self, text: &str, column: usize) -> Result<ArrayRef, Fault> {
        let field = self.layout.wanted.field(column);
        let Some((fields, slot)) = self.fields.as_ref().and_then(|f| Some((f, f.columns[column]?))) else {
            return Ok(new_null_array(field.data_type(), self.rows));
        };
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let cell = |row: usize| self.cells[row * fields.kept + slot];
        let values = (0..self.rows).map(|row| cell(row).value(text, &self.dialect, is_text));
        let values = parse(values, field.data_type()).map_err(|row| {
            let value = cell(row).text(text, &self.dialect);
            Fault::bad_value(cell(row).offset(), field.name(), &value, field.data_type()).value(&format!("{value:?}"))
        })?;
        if !field.is_nullable()
            && let Some(row) = (0..self.rows).find(|row| values.is_null(*row))
        {
            return Err(Fault::required(cell(row).offset(), field.name()));
        }
        Ok(values)
    }
}

impl DecodeText for CsvDecoder {
    fn decode(&mut self, text: &[u8], ended: bool) -> Result<Step<RecordBatch>, Fault> {
        if self.fields.is_none() {
            self.fields = self.header(text, ended)?;
        }
        let fault = self.take_apart(text, ended).err();
        let full = self.rows >= self.batch_size || self.at >= MAX_BATCH_BYTES || ended || fault.is_some();
        if self.rows == 0 || !full {
            // What is wrong is told after the records before it.
            return fault.map_or(Ok(Step { used: 0, made: None }), Err);
        }
        let batch = self.batch(text)?;
        let used = std::mem::take(&mut self.at);
        self.rows = 0;
        self.cells.clear();
        Ok(Step { used, made: Some(batch) })
    }
}

impl Layout {
    fn map(&self, names: &[String]) -> Result<FieldMap, Fault> {
        let mut slots = vec![None; names.len()];
        let mut columns = Vec::new();
        for field in self.wanted.fields() {
            let Some(at) = self.find(field.name(), names)? else {
                columns.push(None);
                continue;
            };
            let next = slots.iter().flatten().count();
            columns.push(Some(*slots[at].get_or_insert(next)));
        }
        Ok(FieldMap { kept: slots.iter().flatten().count(), slots, columns })
    }

    /// Which field a column is.
    fn find(&self, column: &str, names: &[String]) -> Result<Option<usize>, Fault> {
        let all = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
            names.iter().enumerate().filter(|(_, name)| same(name)).map(|(i, _)| i).collect()
        };
        let exact = all(&|name| name == column);
        let found =
            if exact.is_empty() && self.declared { all(&|name| name.eq_ignore_ascii_case(column)) } else { exact };
        match found.as_slice() {
            [one] => Ok(Some(*one)),
            [] if !self.declared => Ok(None),
            [] => {
                let header = names.join(", ");
                Err(Fault::new(0, format!("the file has no column `{column}`; its header is `{}`", cut(&header)))
                    .column(column))
            }
            _ => Err(Fault::new(0, format!("the header names `{column}` more than once")).column(column)),
        }
    }
}

/// The names in the header and where it ends; nothing if the header does not end in the text, or there is none because
/// the file is empty.
pub(super) fn header_names(dialect: &Dialect, text: &[u8], ended: bool) -> Result<Option<(Vec<String>, usize)>, Fault> {
    if !ended && text.len() < BOM.len() {
        return Ok(None);
    }
    let mut at = if text.starts_with(BOM) { BOM.len() } else { 0 };
    while at < text.len() {
        let mut cells = Vec::new();
        match dialect.record(text, at, ended, |_, cell| cells.push(cell))? {
            Record::Partial => return Ok(None),
            Record::Blank(end) => at = end,
            Record::Fields(_, end) => {
                let text = std::str::from_utf8(&text[..end])
                    .map_err(|e| Fault::new(e.valid_up_to(), "this is not UTF-8 text; convert the file"))?;
                let names = cells.iter().enumerate().map(|(i, cell)| match cell.text(text, dialect).trim() {
                    "" => column_name(i),
                    name => name.to_owned(),
                });
                return Ok(Some((names.collect(), end)));
            }
        }
    }
    Ok(None)
}

/// The name of a field that has none.
pub(super) fn column_name(index: usize) -> String {
    format!("column_{}", index + 1)
}

/// A record that has not as many fields as it should.
pub(super) fn wrong_width(text: &[u8], start: usize, end: usize, found: usize, wanted: usize) -> Fault {
    let record = String::from_utf8_lossy(&text[start..end]);
    let fields = if found == 1 { "field" } else { "fields" };
    Fault::new(start, format!("the record has {found} {fields} where {wanted} are wanted")).value(record.trim_end())
}
