//! The blocks of an Avro object container file.
//!
//! They are cut here and decoded one by one, because the reader of arrow-avro (58) trusts what they say of themselves: it
//! takes a block that is cut off for the end of the file, and goes round for ever in one that holds more than the rows that
//! it says it has.

use std::io::{BufRead, Read};

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::error::ArrowError;
use arrow_avro::reader::ReaderBuilder;

/// What every block of a file ends with.
pub(super) type Marker = [u8; 16];

/// Blocks that are not compressed are decoded together up to this size, because a reader is made for each that is decoded.
const TOGETHER_BYTES: usize = 256 << 10;

/// More rows than that are in no block: arrow counts no more in an array.
const MAX_ROWS: i64 = i32::MAX as i64;

/// What is wrong with a block.
#[derive(Debug)]
pub(super) enum Wrong {
    /// It is not what a block should be.
    Block(String),
    /// It cannot be read, from where it is.
    Io(std::io::Error),
    /// Its rows cannot be decoded.
    Rows(ArrowError),
}

/// Rows, as they are stored.
#[derive(Debug, Default, PartialEq)]
struct Block {
    rows: usize,
    data: Vec<u8>,
}

/// The rows of a file, block by block.
pub(super) struct Blocks<R> {
    bytes: R,
    /// What decodes a block needs to know: the file up to its first block.
    header: Vec<u8>,
    marker: Marker,
    compressed: bool,
    /// The columns that are decoded.
    columns: Vec<usize>,
    /// Rows that are decoded together, at most, unless a block has more.
    batch_size: usize,
    /// What was read, and has no room in the present batch.
    next: Option<Block>,
}

impl<R: BufRead> Blocks<R> {
    /// `bytes` are those that follow the header.
    pub(super) fn new(header: Vec<u8>, marker: Marker, compressed: bool, bytes: R) -> Self {
        Self { bytes, header, marker, compressed, columns: Vec::new(), batch_size: 8192, next: None }
    }

    pub(super) fn with_columns(self, columns: Vec<usize>) -> Self {
        Self { columns, ..self }
    }

    pub(super) fn with_batch_size(self, batch_size: usize) -> Self {
        Self { batch_size, ..self }
    }

    /// Reads a block, if there is one more.
    fn read(&mut self) -> Result<Option<Block>, Wrong> {
        if self.bytes.fill_buf().map_err(Wrong::Io)?.is_empty() {
            return Ok(None);
        }
        let rows = self.long()?;
        let size = self.long()?;
        if !(0..=MAX_ROWS).contains(&rows) {
            return Err(Wrong::Block(format!("a block says that it has {rows} rows")));
        }
        let Ok(size) = u64::try_from(size) else {
            return Err(Wrong::Block(format!("a block says that it has {size} bytes")));
        };
        let mut data = Vec::new();
        // No more memory than there are bytes, whatever the block says.
        let read = (&mut self.bytes).take(size).read_to_end(&mut data).map_err(Wrong::Io)?;
        let mut marker = Marker::default();
        if read as u64 == size {
            self.bytes.read_exact(&mut marker).map_err(ends_early)?;
        } else {
            return Err(ends_early(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if marker != self.marker {
            return Err(Wrong::Block("a block does not end with the marker of the file".to_owned()));
        }
        Ok(Some(Block { rows: rows as usize, data }))
    }

    /// A number in Avro's encoding: seven bits in a byte, the lowest first, and the sign in the lowest of all.
    fn long(&mut self) -> Result<i64, Wrong> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.bytes.read_exact(&mut byte).map_err(ends_early)?;
            number |= u64::from(byte[0] & 0x7F) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(Wrong::Block("a block begins with a number of more than 64 bits".to_owned()))
    }

    /// What is decoded next: a block, or several that are small and not compressed.
    fn together(&mut self) -> Result<Option<Block>, Wrong> {
        let first = match self.next.take() {
            Some(block) => Some(block),
            None => self.read()?,
        };
        let Some(mut block) = first else { return Ok(None) };
        while !self.compressed && block.data.len() < TOGETHER_BYTES && block.rows < self.batch_size {
            match self.read()? {
                None => break,
                Some(next) if block.rows + next.rows > self.batch_size => {
                    self.next = Some(next);
                    break;
                }
                Some(next) => {
                    block.rows += next.rows;
                    block.data.extend_from_slice(&next.data);
                }
            }
        }
        Ok(Some(block))
    }

    /// The rows of a block.
    ///
    /// The reader is told of as many rows as it wants and stops when a batch is full, which it is with the rows that the block
    /// says it has. What is left over in the block then would be a row more, and is found when the reader is asked for one.
    fn decode(&self, block: &Block) -> Result<RecordBatch, Wrong> {
        let mut frame = ENDLESS.to_vec();
        put_long(block.data.len() as i64, &mut frame);
        let bytes = self.header.chain(frame.as_slice()).chain(block.data.as_slice()).chain(self.marker.as_slice());
        let builder = ReaderBuilder::new().with_projection(self.columns.clone()).with_batch_size(block.rows.max(1));
        let mut reader = builder.build(bytes).map_err(Wrong::Rows)?;
        let schema = reader.schema();
        let batch = match (reader.next().transpose().map_err(Wrong::Rows)?, block.rows) {
            // Rows of nothing but nulls take no bytes.
            (None, rows) => {
                let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                return RecordBatch::try_new_with_options(schema, columns, &options).map_err(Wrong::Rows);
            }
            (Some(batch), rows) if batch.num_rows() == rows && rows > 0 => batch,
            (Some(_), rows) => return Err(surplus(rows)),
        };
        match reader.next() {
            None => Ok(batch),
            Some(_) => Err(surplus(block.rows)),
        }
    }
}

impl<R: BufRead> Iterator for Blocks<R> {
    type Item = Result<RecordBatch, Wrong>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.together().transpose()?;
        Some(block.and_then(|block| self.decode(&block)))
    }
}

/// The largest number of rows, in Avro's encoding.
const ENDLESS: [u8; 10] = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];

fn put_long(number: i64, to: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest >= 0x80 {
        to.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.push(rest as u8);
}

fn surplus(rows: usize) -> Wrong {
    Wrong::Block(format!("a block holds more than the {rows} rows that it says it has"))
}

fn ends_early(error: std::io::Error) -> Wrong {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Wrong::Block("it ends inside of a block".to_owned()),
        _ => Wrong::Io(error),
    }
}
