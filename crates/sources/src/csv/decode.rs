//! Decodes CSV records to batches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, NullBufferBuilder, RecordBatch, RecordBatchOptions, StringArray, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};

use hardtack_core::nearest;

use super::dialect::{Cell, Dialect, Record, hint};
use super::sniff::DELIMITERS;
use crate::blocks::{BLOCK_BYTES, Cut, Decode};
use crate::fault::{Fault, cut};
use crate::input::{BOM, Step};
use crate::scan::RowFilter;
use crate::text::parse;

/// The requested columns, and where to find them.
pub(crate) struct Layout {
    pub(crate) wanted: SchemaRef,
    pub(crate) filter: Option<RowFilter>,
    /// The columns of the files.
    pub(crate) all: SchemaRef,
    pub(crate) places: Places,
    /// Whether a file without a header has no rows, rather than having lost it.
    pub(crate) or_empty: bool,
}

/// How the columns of a schema are found in a file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Places {
    /// By name in the header, in any case; a column that the header lacks is null.
    Named,
    /// By name in the header, in any case. The header must have all of them.
    Required,
    /// By position, as in Hive, unless the header has one of them in another position: then by name, in any case.
    /// Columns that a file lacks are null, and fields after the last column are ignored.
    Ordered,
}

/// Cuts a text into blocks of records.
pub(crate) struct CsvCutter {
    dialect: Arc<Dialect>,
    layout: Layout,
    batch_size: usize,
    /// The fields, once the header is known.
    records: Option<Arc<Records>>,
    /// The number of records in the text so far, and where they start and end.
    found: usize,
    start: usize,
    at: usize,
}

/// The decoder of a block of records.
pub(crate) struct Records {
    dialect: Arc<Dialect>,
    header: Header,
    wanted: SchemaRef,
    /// The slot of each field; only requested columns have one.
    slots: Vec<Option<usize>>,
    kept: usize,
    /// The slot of each requested column; a column that the file lacks has none.
    columns: Vec<Option<usize>>,
    /// The filter, with the slots of its columns.
    filter: Option<(RowFilter, Vec<Option<usize>>)>,
}

impl CsvCutter {
    pub(crate) fn new(dialect: Arc<Dialect>, layout: Layout, batch_size: usize) -> Self {
        Self { dialect, layout, batch_size, records: None, found: 0, start: 0, at: 0 }
    }

    /// Reads the header, if it is complete.
    fn header(&mut self, text: &[u8], ended: bool) -> Result<(), Fault> {
        let Some(start) = self.dialect.start(text, ended) else { return Ok(()) };
        let header = if self.dialect.header {
            let Some(header) = header(&self.dialect, text, start, ended)? else {
                let may_lack = self.layout.or_empty || self.layout.places == Places::Ordered;
                return if ended && !may_lack { Err(no_header()) } else { Ok(()) };
            };
            self.at = header.end;
            self.layout.check_header(&header)?;
            self.layout.check_skipped(&self.dialect, text, ended, &header)?;
            header
        } else {
            let mut names: Vec<_> = self.layout.all.fields().iter().map(|f| f.name().clone()).collect();
            if self.layout.places == Places::Ordered {
                // The file may be older than the last columns, or newer than the schema.
                let Some(width) = width(&self.dialect, text, start, ended)? else { return Ok(()) };
                (names.len()..width).for_each(|i| names.push(column_name(i)));
                names.truncate(width);
            }
            self.at = start;
            Header { names, ..Header::default() }
        };
        self.records = Some(Arc::new(self.layout.records(&self.dialect, header)?));
        Ok(())
    }
}

impl Cut for CsvCutter {
    type Rows = CsvBlock;

    fn cut(&mut self, text: &[u8], ended: bool) -> Result<Step<Self::Rows>, Fault> {
        if self.records.is_none() {
            self.header(text, ended)?;
            // The header stays in front of its block, because errors count lines from there.
            self.start = self.at;
        }
        let Some(records) = &self.records else { return Ok(Step { used: 0, made: None }) };
        while self.found < self.batch_size
            && let Some(end) = self.dialect.record_end(text, self.at, ended)
        {
            self.at = end;
            self.found += 1;
        }
        let full = self.found >= self.batch_size || text.len() >= BLOCK_BYTES || ended;
        if self.found == 0 || !full {
            return Ok(Step { used: 0, made: None });
        }
        let (found, start) = (std::mem::take(&mut self.found), std::mem::take(&mut self.start));
        let block = CsvBlock { records: Arc::clone(records), found, start };
        Ok(Step { used: std::mem::take(&mut self.at), made: Some(block) })
    }
}

/// A block of records.
pub(crate) struct CsvBlock {
    records: Arc<Records>,
    /// The number of records; some may be blank.
    found: usize,
    /// Where the first one starts.
    start: usize,
}

impl Decode for CsvBlock {
    fn decode(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        self.rows(text).map_err(|fault| self.first_fault(text).unwrap_or(fault))
    }
}

impl CsvBlock {
    fn rows(&self, text: &[u8]) -> Result<RecordBatch, Fault> {
        let records = &self.records;
        let (cells, rows) = records.take_apart(text, self.start, self.found)?;
        let text = match std::str::from_utf8(text) {
            Ok(text) => text,
            Err(e) => return Err(Fault::new(e.valid_up_to(), "this is not UTF-8 text; convert the file")),
        };
        let block = BlockOf { records, text, cells, found: self.found, rows };
        match &records.filter {
            None => block.columns(&records.wanted, &records.columns),
            Some((filter, slots)) => block.filtered(filter, slots),
        }
    }

    /// The fault of the first wrong record. A block is decoded column by column, but the reported fault must not depend
    /// on how the text was cut into blocks. So if there is a fault, each record is checked by itself.
    fn first_fault(&self, text: &[u8]) -> Option<Fault> {
        let dialect = &self.records.dialect;
        let (mut at, mut ends) = (self.start, dialect.ends(text, self.start));
        while at < text.len() {
            let record = dialect.next_record(&mut ends, text, at, true, |_, _| {}).ok()?;
            let (Record::Fields(_, end) | Record::Blank(end)) = record else { return None };
            let alone = Self { records: Arc::clone(&self.records), found: 1, start: 0 };
            if let Err(fault) = alone.rows(&text[at..end]) {
                return Some(Fault { offset: at + fault.offset, ..fault });
            }
            at = end;
        }
        None
    }
}

/// The fields of a block.
struct BlockOf<'a> {
    records: &'a Records,
    text: &'a str,
    /// The cells column by column, each column with room for all records.
    cells: Vec<Cell>,
    found: usize,
    rows: usize,
}

impl BlockOf<'_> {
    /// The fields of a column.
    fn cells(&self, slot: usize) -> &[Cell] {
        &self.cells[slot * self.found..][..self.rows]
    }

    fn columns(&self, schema: &SchemaRef, slots: &[Option<usize>]) -> Result<RecordBatch, Fault> {
        let columns = slots.iter().zip(schema.fields()).map(|(slot, field)| self.column(field, *slot));
        batch(schema, columns.collect::<Result<_, _>>()?, self.rows)
    }

    fn column(&self, field: &Field, slot: Option<usize>) -> Result<ArrayRef, Fault> {
        match slot {
            None => Ok(new_null_array(field.data_type(), self.rows)),
            Some(slot) => self.records.column(self.text, field, self.cells(slot)),
        }
    }

    /// Decodes only the selected rows. All rows are checked against the schema, as without a filter. But a nullable
    /// text cannot be wrong, so it is built for selected rows only.
    fn filtered(&self, filter: &RowFilter, slots: &[Option<usize>]) -> Result<RecordBatch, Fault> {
        let looked_at = self.columns(&filter.columns, slots)?;
        let keep = filter.apply(&looked_at).map_err(|e| Fault::new(0, format!("the filter cannot be applied: {e}")))?;
        let kept: Vec<usize> = keep.values().set_indices().collect();
        let column = |field: &Field, slot: Option<usize>| match (looked_at.column_by_name(field.name()), slot) {
            (Some(column), _) => take_kept(column, &keep),
            (None, Some(slot)) if field.is_nullable() && field.data_type() == &DataType::Utf8 => {
                let cells = self.cells(slot);
                let kept: Vec<Cell> = kept.iter().map(|row| cells[*row]).collect();
                self.records.column(self.text, field, &kept)
            }
            (None, slot) => take_kept(&self.column(field, slot)?, &keep),
        };
        let records = self.records;
        let columns = records.columns.iter().zip(records.wanted.fields()).map(|(slot, field)| column(field, *slot));
        batch(&records.wanted, columns.collect::<Result<_, _>>()?, kept.len())
    }
}

fn take_kept(column: &ArrayRef, keep: &BooleanArray) -> Result<ArrayRef, Fault> {
    arrow::compute::filter(column, keep).map_err(|e| Fault::new(0, e.to_string()))
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Fault> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).map_err(|e| Fault::new(0, e.to_string()))
}

impl Records {
    /// Splits the text into the kept fields, column by column with room for `found` records each; returns them and the
    /// number of records.
    fn take_apart(&self, text: &[u8], start: usize, found: usize) -> Result<(Vec<Cell>, usize), Fault> {
        let mut cells = vec![Cell::default(); self.kept * found];
        // The start of each field's column.
        let columns: Vec<Option<usize>> = self.slots.iter().map(|slot| slot.map(|slot| slot * found)).collect();
        let (mut rows, mut at) = (0, start);
        let mut ends = self.dialect.ends(text, start);
        while at < text.len() {
            if rows == found {
                return Err(Fault::new(at, "records were found in this line that were not counted"));
            }
            let record = self.dialect.next_record(&mut ends, text, at, true, |index, cell| {
                if let Some(Some(column)) = columns.get(index) {
                    cells[column + rows] = cell;
                }
            })?;
            at = match record {
                Record::Fields(fields, end) if fields == self.slots.len() => {
                    if self.header.is_repeated(&text[at..end]) {
                        self.header.refuse_repeated(text, at, end)?;
                    } else {
                        rows += 1;
                    }
                    end
                }
                Record::Fields(fields, end) => return Err(wrong_width(text, at, end, fields, self.slots.len())),
                Record::Blank(end) => end,
                Record::Partial => break,
            };
        }
        Ok((cells, rows))
    }

    fn column(&self, text: &str, field: &Field, cells: &[Cell]) -> Result<ArrayRef, Fault> {
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let values = cells.iter().map(|cell| cell.value(text, &self.dialect, is_text));
        let values = match field.data_type() {
            DataType::Utf8 => return self.texts(text, field, cells),
            data_type => parse(values, data_type),
        };
        let values = values.map_err(|row| {
            let value = cells[row].text(text, &self.dialect);
            Fault::bad_value(cells[row].offset(), field.name(), &value, field.data_type()).value(&format!("{value:?}"))
        })?;
        let missing = || (0..cells.len()).find(|row| values.is_null(*row));
        match if field.is_nullable() { None } else { missing() } {
            Some(row) => Err(Fault::required(cells[row].offset(), field.name())),
            None => Ok(values),
        }
    }

    /// Most columns are texts, and most texts are copied verbatim. The array is allocated with its exact size, since it
    /// may be held for long.
    fn texts(&self, text: &str, field: &Field, cells: &[Cell]) -> Result<ArrayRef, Fault> {
        let mut values: Vec<u8> = Vec::with_capacity(cells.iter().map(|cell| cell.len()).sum());
        let mut ends: Vec<i32> = Vec::with_capacity(cells.len() + 1);
        let mut valid = NullBufferBuilder::new(cells.len());
        ends.push(0);
        for cell in cells {
            if let Some(content) = cell.plain(text.as_bytes(), &self.dialect) {
                values.extend_from_slice(content);
                valid.append_non_null();
            } else if let Some(content) = cell.value(text, &self.dialect, true) {
                values.extend_from_slice(content.as_bytes());
                valid.append_non_null();
            } else if field.is_nullable() {
                valid.append_null();
            } else {
                return Err(Fault::required(cell.offset(), field.name()));
            }
            // A block has a few MiB.
            ends.push(values.len() as i32);
        }
        StringArray::try_new(OffsetBuffer::new(ends.into()), values.into(), valid.finish())
            .map(|array| Arc::new(array) as ArrayRef)
            .map_err(|e| Fault::new(0, e.to_string()))
    }
}

impl Layout {
    /// Refuses a record that cannot be a header, if columns are found by position: it names none of them and has values
    /// of their types.
    fn check_header(&self, header: &Header) -> Result<(), Fault> {
        let fields = self.all.fields();
        if self.places != Places::Ordered || header.names.iter().any(|name| fields.iter().any(|f| same(name, f.name())))
        {
            return Ok(());
        }
        let is_text = |of: &DataType| matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let fits = |(field, name): (&FieldRef, &String)| {
            parse([Some(name.as_str().into())].into_iter(), field.data_type()).is_ok()
        };
        let typed: Vec<_> = fields.iter().zip(&header.names).filter(|(field, _)| !is_text(field.data_type())).collect();
        if typed.is_empty() || !typed.into_iter().all(fits) {
            return Ok(());
        }
        let names = cut(&header.names.join(","));
        let fault =
            Fault::new(0, format!("the first record, `{names}`, is not a header, as the table says, but a row"));
        Err(fault.hint(
            "give the file the header that the others have; if no file has one, set `skip.header.line.count` of the table to 0",
        ))
    }

    /// Refuses a file whose header is among the skipped lines, because it has fewer lines before the header than
    /// others.
    fn check_skipped(&self, dialect: &Dialect, text: &[u8], ended: bool, header: &Header) -> Result<(), Fault> {
        let is_column = |name: &String| self.all.fields().iter().any(|field| same(name, field.name()));
        let is_header = |names: &Vec<String>| names.iter().all(is_column);
        if header.names.iter().any(is_column) || !skipped(dialect, text, ended).iter().any(is_header) {
            return Ok(());
        }
        Err(Fault::new(0, HEADER_SKIPPED).hint(hint::SKIPPED))
    }

    fn records(&self, dialect: &Arc<Dialect>, header: Header) -> Result<Records, Fault> {
        let names = &header.names;
        let mut slots = vec![None; names.len()];
        let by_name = self.is_by_name(names);
        let mut slots_of = |schema: &SchemaRef| -> Result<Vec<Option<usize>>, Fault> {
            let mut columns = Vec::new();
            for field in schema.fields() {
                let found = match by_name {
                    true => self.find(field.name(), names)?,
                    false => self.all.index_of(field.name()).ok().filter(|at| *at < names.len()),
                };
                let next = slots.iter().flatten().count();
                columns.push(found.map(|at| *slots[at].get_or_insert(next)));
            }
            Ok(columns)
        };
        let columns = slots_of(&self.wanted)?;
        let filter = match &self.filter {
            None => None,
            Some(filter) => Some((filter.clone(), slots_of(&filter.columns)?)),
        };
        let kept = slots.iter().flatten().count();
        let (dialect, wanted) = (Arc::clone(dialect), Arc::clone(&self.wanted));
        Ok(Records { dialect, header, wanted, slots, kept, columns, filter })
    }

    /// Whether fields are found by their names.
    fn is_by_name(&self, names: &[String]) -> bool {
        let elsewhere = |(place, field): (usize, &FieldRef)| {
            let named = |name: &String| same(name, field.name());
            !names.get(place).is_some_and(named) && names.iter().any(named)
        };
        self.places != Places::Ordered || self.all.fields().iter().enumerate().any(elsewhere)
    }

    /// The index of a column's field.
    fn find(&self, column: &str, names: &[String]) -> Result<Option<usize>, Fault> {
        let all = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
            names.iter().enumerate().filter(|(_, name)| same(name)).map(|(i, _)| i).collect()
        };
        let exact = all(&|name| name == column);
        // A name of another column does not count.
        let is_free = |name: &str| self.places != Places::Named || self.all.field_with_name(name).is_err();
        let found = if exact.is_empty() { all(&|name| same(name, column) && is_free(name)) } else { exact };
        match found.as_slice() {
            [one] => Ok(Some(*one)),
            [] if self.places != Places::Required => Ok(None),
            [] => {
                let why = format!("the file has no column `{column}`; its header is `{}`", cut(&names.join(", ")));
                let fault = Fault::new(0, why).column(column);
                // A single name that looks like several.
                let other = match names {
                    [name] => DELIMITERS.into_iter().find(|delimiter| name.contains(char::from(*delimiter))),
                    _ => None,
                };
                let near = || nearest(column, names.iter().map(String::as_str));
                Err(match other {
                    Some(other) => fault.hint(hint::delimiter(other)),
                    None => match near() {
                        Some(near) => fault.hint(format!("did you mean `{near}`?")),
                        None => fault,
                    },
                })
            }
            _ => {
                let fault = Fault::new(0, format!("the header names `{column}` more than once")).column(column);
                Err(fault.hint(hint::NAMES))
            }
        }
    }
}

/// The fault of a file without even a header: more likely truncated than written without rows.
fn no_header() -> Fault {
    Fault::new(0, "the file is empty: it does not even have a header").hint(hint::EMPTY)
}

/// Whether two names are equal ignoring case.
fn same(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

/// The number of fields of the first record at or after `start`; none if it is not known yet. A file without records
/// has no fields.
fn width(dialect: &Dialect, text: &[u8], start: usize, ended: bool) -> Result<Option<usize>, Fault> {
    let mut at = start;
    while at < text.len() {
        match dialect.record(text, at, ended, |_, _| {})? {
            Record::Partial => return Ok(None),
            Record::Blank(end) => at = end,
            Record::Fields(width, _) => return Ok(Some(width)),
        }
    }
    Ok(ended.then_some(0))
}

/// The header record.
#[derive(Debug, Default, Clone)]
pub(crate) struct Header {
    pub(crate) names: Vec<String>,
    /// Where it ends.
    pub(crate) end: usize,
    /// Its text, without the line end.
    written: Vec<u8>,
    fields: usize,
}

impl Header {
    /// A record with this many fields that may be a header.
    pub(crate) fn of(text: &[u8], start: usize, end: usize, fields: usize) -> Self {
        Self { names: Vec::new(), end, written: as_written(&text[start..end]).to_vec(), fields }
    }

    /// Whether a record repeats the header, as in concatenated files. A single field may happen to equal its column's
    /// name, unless a byte order mark shows that a file begins there.
    #[inline]
    pub(crate) fn is_repeated(&self, record: &[u8]) -> bool {
        // Nearly all records begin differently.
        let may_be = record.first().is_some_and(|byte| *byte == BOM[0] || self.written.first() == Some(byte));
        may_be && as_written(record) == self.written && (self.fields > 1 || record.starts_with(BOM))
    }

    /// Skips a repeated header where a byte order mark shows that another file begins, and refuses it elsewhere: it
    /// could be a row, but most likely is not.
    pub(crate) fn refuse_repeated(&self, text: &[u8], start: usize, end: usize) -> Result<(), Fault> {
        let record = &text[start..end];
        if record.starts_with(BOM) {
            return Ok(());
        }
        let fault = Fault::new(start, "the record repeats the header, as in concatenated files");
        Err(fault.value(&String::from_utf8_lossy(as_written(record))).hint(hint::REPEATED))
    }
}

/// A record without a byte order mark and without its line end.
fn as_written(record: &[u8]) -> &[u8] {
    let record = record.strip_prefix(BOM).unwrap_or(record);
    record.strip_suffix(b"\r\n").or(record.strip_suffix(b"\n")).or(record.strip_suffix(b"\r")).unwrap_or(record)
}

/// The header at or after `start`; none if it does not end within the text, or the file is empty.
pub(crate) fn header(dialect: &Dialect, text: &[u8], start: usize, ended: bool) -> Result<Option<Header>, Fault> {
    let mut at = start;
    while at < text.len() {
        let mut cells = Vec::new();
        match dialect.record(text, at, ended, |_, cell| cells.push(cell))? {
            Record::Partial => return Ok(None),
            Record::Blank(end) => at = end,
            Record::Fields(fields, end) => {
                let names = std::str::from_utf8(&text[..end])
                    .map_err(|e| Fault::new(e.valid_up_to(), "this is not UTF-8 text; convert the file"))?;
                let names = cells.iter().enumerate().map(|(i, cell)| match cell.text(names, dialect).trim() {
                    "" => column_name(i),
                    name => name.to_owned(),
                });
                return Ok(Some(Header { names: names.collect(), ..Header::of(text, at, end, fields) }));
            }
        }
    }
    Ok(None)
}

/// The message for a file with fewer lines before its header than others.
pub(super) const HEADER_SKIPPED: &str = "the header is one of the lines that are skipped";

/// The fields of the skipped lines, one of which may be a header.
pub(super) fn skipped(dialect: &Dialect, text: &[u8], ended: bool) -> Vec<Vec<String>> {
    let names = |lines: u32| {
        let before = Dialect { skipped: lines, ..dialect.clone() };
        let start = before.start(text, ended)?;
        header(&before, text, start, ended).ok().flatten().map(|found| found.names)
    };
    (0..dialect.skipped).filter_map(names).collect()
}

/// The name of an unnamed field.
pub(crate) fn column_name(index: usize) -> String {
    format!("column_{}", index + 1)
}

/// The fault of a record with the wrong number of fields.
pub(crate) fn wrong_width(text: &[u8], start: usize, end: usize, found: usize, wanted: usize) -> Fault {
    let record = String::from_utf8_lossy(&text[start..end]);
    let fields = if found == 1 { "field" } else { "fields" };
    let fault = Fault::new(start, format!("the record has {found} {fields} where {wanted} are expected"));
    let fault = fault.value(record.trim_end());
    // A field may begin with `#`, but a line that differs from the others is more likely a comment.
    if record.starts_with('#') { fault.hint(hint::COMMENT) } else { fault }
}
