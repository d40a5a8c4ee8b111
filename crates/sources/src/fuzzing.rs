//! The decoders by themselves, for `hardtack-fuzz`: no file system, no plan.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use crate::blocks::{Cut, Decode};
use crate::csv::Places;
use crate::csv::decode::{CsvCutter, Layout};
use crate::fault::Fault;
use crate::folders::FolderCsv;
use crate::json;
use crate::json::decode::JsonCutter;

/// The rows of a CSV text that comes in pieces of so many bytes, or why there are none.
///
/// # Errors
/// What is wrong with the text.
pub fn csv(text: &[u8], piece: usize, how: &FolderCsv, schema: &SchemaRef) -> Result<Vec<RecordBatch>, String> {
    let layout = Layout {
        wanted: SchemaRef::clone(schema),
        filter: None,
        all: SchemaRef::clone(schema),
        places: Places::Required,
        or_empty: false,
    };
    batches(text, piece, CsvCutter::new(how.dialect().into(), layout, 3))
}

/// The rows of a JSON text that comes in pieces of so many bytes, or why there are none.
///
/// # Errors
/// What is wrong with the text.
pub fn json(text: &[u8], piece: usize, schema: &SchemaRef, caseless: bool) -> Result<Vec<RecordBatch>, String> {
    batches(text, piece, JsonCutter::new(SchemaRef::clone(schema), 3).caseless(caseless))
}

/// The fields of a JSON text as texts, those that are lists or objects as their JSON; the schema has texts only.
///
/// # Errors
/// What is wrong with the text.
pub fn json_as_text(text: &[u8], piece: usize, schema: &SchemaRef) -> Result<Vec<RecordBatch>, String> {
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    batches(text, piece, JsonCutter::new(SchemaRef::clone(schema), 3).json_text(&columns))
}

/// What the rows of a JSON text look like.
///
/// # Errors
/// What is wrong with the text.
pub fn json_schema(text: &[u8]) -> Result<SchemaRef, String> {
    json::fields(text).map(|fields| Schema::new(fields).into()).map_err(|fault| fault.message)
}

/// The value of a text, if it is one of this type.
pub fn parse(text: &str, to: &DataType) -> Option<ArrayRef> {
    crate::text::parse([Some(text.into())].into_iter(), to).ok()
}

fn batches(text: &[u8], piece: usize, mut cutter: impl Cut) -> Result<Vec<RecordBatch>, String> {
    let message = |fault: Fault| fault.message;
    let (mut from, mut to, mut batches) = (0, 0, Vec::new());
    loop {
        let ended = to == text.len();
        let step = cutter.cut(&text[from..to], ended).map_err(message)?;
        let block = &text[from..from + step.used];
        from += step.used;
        match step.made {
            Some(made) => batches.push(made.decode(block).map_err(message)?),
            None if ended => return Ok(batches),
            None => to = text.len().min(to + piece),
        }
    }
}
