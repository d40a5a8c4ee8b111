//! The bare decoders for `hardtack-fuzz`, without file system and plan.

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};

use crate::blocks::{Cut, Decode};
use crate::csv::Places;
use crate::csv::decode::{CsvCutter, Layout};
use crate::fault::Fault;
use crate::folders::FolderCsv;
use crate::json;
use crate::json::decode::JsonCutter;

/// Decodes a CSV text that is read in pieces of this many bytes.
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

/// Decodes a JSON text that is read in pieces of this many bytes.
///
/// # Errors
/// What is wrong with the text.
pub fn json(text: &[u8], piece: usize, schema: &SchemaRef, caseless: bool) -> Result<Vec<RecordBatch>, String> {
    batches(text, piece, JsonCutter::new(SchemaRef::clone(schema), 3).caseless(caseless))
}

/// Decodes the fields of a JSON text as texts, lists and objects as their JSON. The schema has text columns only.
///
/// # Errors
/// What is wrong with the text.
pub fn json_as_text(text: &[u8], piece: usize, schema: &SchemaRef) -> Result<Vec<RecordBatch>, String> {
    let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    batches(text, piece, JsonCutter::new(SchemaRef::clone(schema), 3).json_text(&columns))
}

/// Infers the schema of a JSON text.
///
/// # Errors
/// What is wrong with the text.
pub fn json_schema(text: &[u8]) -> Result<SchemaRef, String> {
    json::fields(text).map(|fields| Schema::new(fields).into()).map_err(|fault| fault.message)
}

/// Parses a text as a value of this type, if it is one.
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
