//! Records that cannot be read, as rows that say so.
//!
//! A block that can be read costs nothing more than a column of nulls. In one that cannot, the rows that are wrong are
//! found by halving it, and the others are read together.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use hardtack_core::Location;
use memchr::memmem;

use super::SetAside;
use super::decode::{JsonCutter, JsonRows};
use super::rows::{Marks, syntax_fault};
use crate::blocks::Cut;
use crate::fault::Fault;
use crate::input::Step;

/// How much of a text is looked at first after damage: so little that a text in which every line is damaged is not
/// scanned to its end for each of them.
pub(super) const FIRST_REACH: usize = 4 << 10;

/// The size of the parts in which a long text without an undamaged record is set aside.
const PART_BYTES: usize = 1 << 20;

/// How many lines of what looked like one object are tried by themselves. Only made-up texts need more.
const MAX_TRIED_LINES: usize = 256;

/// Why a part of a text is set aside that follows another.
const CONTINUED: &str = "this follows what cannot be read";

/// The type of the column that says what is wrong with a record.
pub(super) fn data_type() -> DataType {
    DataType::Struct(parts())
}

fn parts() -> Fields {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Fields::from(vec![text("file"), Field::new("offset", DataType::Int64, true), text("reason"), text("text")])
}

/// What is wrong, in a sentence.
pub(super) fn reason(fault: Fault) -> String {
    match fault.column {
        Some(column) => format!("{} (column: {column})", fault.message),
        None => fault.message,
    }
}

/// What is wrong with the beginning of an object, apart from its missing end.
pub(super) fn broken(open: &[u8]) -> Option<Fault> {
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(open).err()?;
    if error.is_eof() { None } else { syntax_fault(open, 0) }
}

/// Where the next record begins: on a line of its own, without blanks before it.
fn next_record(text: &[u8]) -> Option<usize> {
    memmem::find(text, b"\n{").map(|line_end| line_end + 1)
}

/// A part of a text that cannot be read.
pub(super) struct Damage {
    pub(super) start: usize,
    pub(super) why: String,
    /// Whether a record that begins there is not part of it.
    pub(super) spares_record: bool,
}

/// The columns of rows of which some cannot be read.
#[derive(Debug)]
pub(super) struct Output {
    schema: SchemaRef,
    /// The column that says what is wrong.
    at: usize,
    file: String,
}

impl Output {
    pub(super) fn new(schema: &SchemaRef, how: &SetAside, file: &Location) -> Self {
        let at = schema.index_of(&how.column).unwrap_or(schema.fields().len());
        Self { schema: Arc::clone(schema), at, file: file.to_string() }
    }

    /// The columns that records have, as they were declared.
    pub(super) fn wanted(&self, schema: &Schema, how: &SetAside) -> SchemaRef {
        let declared = |field: &FieldRef| {
            let required = how.required.iter().any(|name| name == field.name());
            Arc::new(field.as_ref().clone().with_nullable(!required))
        };
        let fields = schema.fields().iter().enumerate().filter(|(at, _)| *at != self.at);
        Arc::new(Schema::new(fields.map(|(_, field)| declared(field)).collect::<Fields>()))
    }

    fn batch(&self, mut columns: Vec<ArrayRef>, corrupt: ArrayRef) -> Result<RecordBatch, Fault> {
        columns.insert(self.at.min(columns.len()), corrupt);
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|e| Fault::new(0, e.to_string()))
    }
}

/// How a cutter goes on after a part of its text that cannot be read.
pub(super) struct Recovery {
    output: Arc<Output>,
    /// How much of the text came before.
    pub(super) offset: u64,
    /// Why the text that comes next cannot be read, if that is known.
    pub(super) damaged: Option<String>,
    /// How much of the text is looked at for the next rows.
    pub(super) reach: usize,
}

impl Recovery {
    pub(super) fn new(output: Output) -> Self {
        Self::of(Arc::new(output))
    }

    fn of(output: Arc<Output>) -> Self {
        Self { output, offset: 0, damaged: None, reach: usize::MAX }
    }

    /// Where the damaged text at the front ends; `None` if more of it is needed to say so.
    pub(super) fn damaged_part(&mut self, text: &[u8], ended: bool, why: &str) -> Option<usize> {
        let end = next_record(text).or(ended.then_some(text.len()));
        if end.is_some_and(|end| end <= PART_BYTES) {
            return end;
        }
        if text.len() < PART_BYTES {
            self.damaged = Some(why.to_owned());
            return None;
        }
        self.damaged = Some(CONTINUED.to_owned());
        // The end of a line belongs to the record after it, and a character to one part.
        let line_end = memchr::memrchr(b'\n', &text[1..PART_BYTES]).map(|at| at + 1);
        let begins_character = |at: &usize| text[*at] & 0xC0 != 0x80;
        let character = || (PART_BYTES - 4..PART_BYTES).rev().find(begins_character);
        Some(line_end.or_else(character).unwrap_or(PART_BYTES))
    }

    /// The step to a block that follows `passed` bytes of blanks and takes `used` more.
    pub(super) fn step(
        &mut self,
        passed: usize,
        used: usize,
        mut rows: JsonRows,
        why: Option<String>,
    ) -> Step<JsonRows> {
        rows.rows.iter_mut().for_each(|row| *row = row.start + passed..row.end + passed);
        rows.corrupt = Some(Corrupt { output: Arc::clone(&self.output), offset: self.offset, base: passed, why });
        self.offset += (passed + used) as u64;
        Step { used: passed + used, made: Some(rows) }
    }
}

/// What becomes of the records of a block that cannot be read.
pub(super) struct Corrupt {
    output: Arc<Output>,
    /// How much of the file comes before the block.
    offset: u64,
    /// How much of the block comes before the text of its marks.
    base: usize,
    /// Why the block is one record that cannot be read, if it is.
    why: Option<String>,
}

/// A record of a block: its text, and how to read it or why that is impossible.
struct Piece {
    text: Range<usize>,
    read: Result<Marks, String>,
}

impl Corrupt {
    /// The rows of a block, and where each starts if some cannot be read.
    pub(super) fn batch(&self, rows: &JsonRows, text: &[u8]) -> Result<(RecordBatch, Option<Vec<usize>>), Fault> {
        if let (None, Ok(batch)) = (&self.why, rows.read(&text[self.base..])) {
            let nulls = new_null_array(&data_type(), batch.num_rows());
            return Ok((self.output.batch(batch.columns().to_vec(), nulls)?, None));
        }
        let pieces = self.pieces(rows, text);
        let starts = pieces.iter().map(|piece| piece.text.start).collect();
        Ok((self.batch_of(rows, text, &pieces)?, Some(starts)))
    }

    fn batch_of(&self, rows: &JsonRows, text: &[u8], pieces: &[Piece]) -> Result<RecordBatch, Fault> {
        let mut good = 0_u32;
        let places: UInt32Array = pieces
            .iter()
            .map(|piece| {
                let place = piece.read.is_ok().then_some(good);
                good += u32::from(place.is_some());
                place
            })
            .collect();
        let columns = if good == 0 {
            rows.wanted.schema.fields().iter().map(|field| new_null_array(field.data_type(), pieces.len())).collect()
        } else {
            let read = read(rows, text, pieces)?;
            read.columns()
                .iter()
                .map(|column| take(column, &places, None))
                .collect::<Result<_, _>>()
                .map_err(|e| Fault::new(0, e.to_string()))?
        };
        self.output.batch(columns, self.told(text, pieces)?)
    }

    /// What is wrong with each record; null for those that can be read.
    fn told(&self, text: &[u8], pieces: &[Piece]) -> Result<ArrayRef, Fault> {
        let whys = || pieces.iter().map(|piece| piece.read.as_ref().err());
        let files = whys().map(|why| why.map(|_| self.output.file.as_str()));
        let bad = || pieces.iter().map(|piece| piece.read.is_err().then_some(&piece.text));
        let offsets = bad().map(|range| Some((self.offset + range?.start as u64) as i64));
        let texts = bad().map(|range| Some(String::from_utf8_lossy(&text[range?.clone()])));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(files.collect::<StringArray>()),
            Arc::new(offsets.collect::<Int64Array>()),
            Arc::new(whys().collect::<StringArray>()),
            Arc::new(texts.collect::<StringArray>()),
        ];
        let valid = NullBuffer::from_iter(whys().map(|why| why.is_some()));
        let told = StructArray::try_new(parts(), columns, Some(valid));
        Ok(Arc::new(told.map_err(|e| Fault::new(0, e.to_string()))?))
    }

    /// The records of a block of which some cannot be read.
    fn pieces(&self, rows: &JsonRows, text: &[u8]) -> Vec<Piece> {
        if let Some(why) = &self.why {
            return rows.rows.iter().map(|row| Piece { text: row.clone(), read: Err(why.clone()) }).collect();
        }
        let block = Block { rows, text, base: self.base };
        let mut bad = Vec::new();
        block.find_bad(0..rows.rows.len(), &mut bad);
        let mut pieces = Vec::with_capacity(rows.rows.len());
        let mut bad = bad.into_iter().peekable();
        for (at, row) in rows.rows.iter().enumerate() {
            match bad.next_if_eq(&at) {
                None => pieces.push(Piece { text: row.clone(), read: Ok(block.marks(at..at + 1, 0)) }),
                Some(_) => self.split(rows, text, row, &mut pieces),
            }
        }
        pieces
    }

    /// The records of what looked like one but cannot be read. A bracket that is missing in one line and too many in a
    /// later one makes an object of all lines between them.
    fn split(&self, rows: &JsonRows, text: &[u8], row: &Range<usize>, pieces: &mut Vec<Piece>) {
        let (mut from, mut tries) = (row.start, MAX_TRIED_LINES);
        while let Some(used) = self.cut_again(rows, &text[from..row.end], from, &mut tries, pieces) {
            from += used;
        }
        if !text[from..row.end].trim_ascii().is_empty() {
            pieces.push(Piece { text: from..row.end, read: Err(CONTINUED.to_owned()) });
        }
    }

    /// Cuts the next records of a text that begins at `from`, up to the first line that is broken. Returns how much of the
    /// text they are.
    fn cut_again(
        &self,
        rows: &JsonRows,
        text: &[u8],
        from: usize,
        tries: &mut usize,
        pieces: &mut Vec<Piece>,
    ) -> Option<usize> {
        let mut cutter = JsonCutter::of(&rows.wanted, Recovery::of(Arc::clone(&self.output)));
        let Step { used, made } = cutter.cut(text, true).ok()?;
        let block = made?;
        let corrupt = block.corrupt.as_ref()?;
        let within = Block { rows: &block, text, base: corrupt.base };
        for (at, part) in block.rows.iter().enumerate() {
            let read = match &corrupt.why {
                Some(why) => Err(why.clone()),
                None if within.reads(at..at + 1) => Ok(within.marks(at..at + 1, from)),
                None => Err(within.why(at)),
            };
            let lines = broken_lines(&text[part.clone()]).filter(|_| read.is_err() && *tries > 0);
            let end = lines
                .map_or(part.end, |first| part.start + text[part.start..part.start + first].trim_ascii_end().len());
            pieces.push(Piece { text: from + part.start..from + end, read });
            if let Some(first) = lines {
                *tries -= 1;
                return Some(part.start + first);
            }
        }
        (used > 0).then_some(used)
    }
}

/// The first of several lines that are not one object; `None` if they are, or if it is one line.
fn broken_lines(text: &[u8]) -> Option<usize> {
    next_record(text).filter(|_| syntax_fault(text, 0).is_some())
}

/// Reads the records that can be read.
fn read(rows: &JsonRows, text: &[u8], pieces: &[Piece]) -> Result<RecordBatch, Fault> {
    let mut marks = Marks::default();
    for piece in pieces {
        if let Ok(of) = &piece.read {
            marks.structure.extend(&of.structure);
            marks.backslashes.extend(&of.backslashes);
        }
    }
    // What cannot be read may not even be text.
    let mut readable = text.to_vec();
    for piece in pieces.iter().filter(|piece| piece.read.is_err()) {
        readable[piece.text.clone()].fill(b' ');
    }
    let good = pieces.iter().filter(|piece| piece.read.is_ok()).count();
    let unexpected = || Fault::new(0, "records that can be read one by one cannot be read together");
    let readable = String::from_utf8(readable).map_err(|_| unexpected())?;
    rows.wanted.read(&readable, &marks, good).map_err(|_| unexpected())
}

/// A block with its text.
struct Block<'a> {
    rows: &'a JsonRows,
    text: &'a [u8],
    base: usize,
}

impl Block<'_> {
    /// Finds the rows that cannot be read.
    fn find_bad(&self, rows: Range<usize>, bad: &mut Vec<usize>) {
        if rows.is_empty() || self.reads(rows.clone()) {
            return;
        }
        if rows.len() == 1 {
            return bad.push(rows.start);
        }
        let middle = rows.start + rows.len() / 2;
        self.find_bad(rows.start..middle, bad);
        self.find_bad(middle..rows.end, bad);
    }

    /// Whether these rows can be read.
    fn reads(&self, rows: Range<usize>) -> bool {
        let text = self.range(&rows);
        let marks = self.marks(rows.clone(), 0).before(text.start);
        let text = std::str::from_utf8(&self.text[text]);
        text.is_ok_and(|text| self.rows.wanted.read(text, &marks, rows.len()).is_ok())
    }

    /// The text of these rows.
    fn range(&self, rows: &Range<usize>) -> Range<usize> {
        self.rows.rows[rows.start].start..self.rows.rows[rows.end - 1].end
    }

    /// The marks of these rows in a text of which `before` bytes come before this one.
    fn marks(&self, rows: Range<usize>, before: usize) -> Marks {
        let text = self.range(&rows);
        let of = |marks: &[u32]| {
            let at = |offset: usize| marks.partition_point(|mark| *mark as usize + self.base < offset);
            marks[at(text.start)..at(text.end)].iter().map(|mark| mark + (self.base + before) as u32).collect()
        };
        Marks { structure: of(&self.rows.marks.structure), backslashes: of(&self.rows.marks.backslashes) }
    }

    /// What is wrong with a row.
    fn why(&self, row: usize) -> String {
        let range = self.rows.rows[row].clone();
        let fault = self.rows.wanted.fault(&self.text[range.clone()], range.start);
        fault.map_or_else(|| "the record does not fit the schema".to_owned(), reason)
    }
}
