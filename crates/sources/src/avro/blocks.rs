//! The blocks of an Avro object container file.
//!
//! They are split here, and the reader of arrow-avro (58) gets one at a time, because it trusts their headers: it takes
//! a truncated block for the end of the file, and loops for ever in a block with more data than the stated number of
//! rows.

use std::io::{BufRead, Error, ErrorKind, Read};

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::reader::ReaderBuilder;

/// The marker at the end of every block of a file.
pub(super) type Marker = [u8; 16];

/// Blocks are decoded together up to this size, because each call creates a reader, which parses the schema again.
const TOGETHER_BYTES: usize = 256 << 10;

/// The maximum number of rows in a block: Arrow's limit for an array.
const MAX_ROWS: i64 = i32::MAX as i64;

/// An error in a block.
#[derive(Debug)]
pub(super) enum BlockError {
    /// The block is malformed.
    Block(String),
    /// The block cannot be read.
    Io(Error),
    /// The rows of the block cannot be decoded.
    Rows(ArrowError),
}

/// Encoded rows.
#[derive(Debug, Default, PartialEq)]
struct Block {
    rows: usize,
    data: Vec<u8>,
}

/// The rows of a file, block by block.
pub(super) struct Blocks<R> {
    bytes: R,
    /// The marker at the end of every block of the file.
    marker: Marker,
    codec: Option<CompressionCodec>,
    /// The header of a file with uncompressed blocks that end with [`MARKER`].
    header: Vec<u8>,
    /// The columns that are decoded.
    columns: Vec<usize>,
    /// The maximum number of rows decoded together, unless a block has more.
    batch_size: usize,
    /// A block that was read, but does not fit into the current batch.
    next: Option<Block>,
}

impl<R: BufRead> Blocks<R> {
    /// The blocks of a file with this schema. `bytes` follow the file's header.
    pub(super) fn new(schema: &[u8], marker: Marker, codec: Option<CompressionCodec>, bytes: R) -> Self {
        Self { bytes, marker, codec, header: header(schema), columns: Vec::new(), batch_size: 8192, next: None }
    }

    /// The Arrow schema according to the reader.
    ///
    /// # Errors
    /// If it does not support a type.
    pub(super) fn schema(&self) -> Result<SchemaRef, ArrowError> {
        Ok(ReaderBuilder::new().build(self.header.as_slice())?.schema())
    }

    pub(super) fn with_columns(self, columns: Vec<usize>) -> Self {
        Self { columns, ..self }
    }

    pub(super) fn with_batch_size(self, batch_size: usize) -> Self {
        Self { batch_size, ..self }
    }

    /// Reads the next block, if there is one.
    fn read(&mut self) -> Result<Option<Block>, BlockError> {
        if self.bytes.fill_buf().map_err(BlockError::Io)?.is_empty() {
            return Ok(None);
        }
        let rows = self.long()?;
        let size = self.long()?;
        if !(0..=MAX_ROWS).contains(&rows) {
            return Err(BlockError::Block(format!("a block claims to have {rows} rows")));
        }
        let Ok(size) = u64::try_from(size) else {
            return Err(BlockError::Block(format!("a block claims to have {size} bytes")));
        };
        let mut data = Vec::new();
        // Allocates no more memory than there are bytes, whatever the block's header says.
        let read = (&mut self.bytes).take(size).read_to_end(&mut data).map_err(BlockError::Io)?;
        if (read as u64) < size {
            return Err(ends_early(ErrorKind::UnexpectedEof.into()));
        }
        let mut marker = Marker::default();
        self.bytes.read_exact(&mut marker).map_err(ends_early)?;
        if marker != self.marker {
            return Err(BlockError::Block("a block does not end with the marker of the file".to_owned()));
        }
        let data = match self.codec {
            None => data,
            Some(codec) => decompressed(codec, &data)
                .map_err(|e| BlockError::Block(format!("a block cannot be decompressed ({codec:?}): {e}")))?,
        };
        Ok(Some(Block { rows: rows as usize, data }))
    }

    /// A number in Avro's encoding: seven bits per byte, lowest first, with the sign in the lowest bit.
    fn long(&mut self) -> Result<i64, BlockError> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.bytes.read_exact(&mut byte).map_err(ends_early)?;
            number |= u64::from(byte[0] & 0x7F) << shift;
            if byte[0] & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(BlockError::Block("a block begins with a number of more than 64 bits".to_owned()))
    }

    /// The next input of the decoder: a block, or several small ones.
    fn together(&mut self) -> Result<Option<Block>, BlockError> {
        let first = match self.next.take() {
            Some(block) => Some(block),
            None => self.read()?,
        };
        let Some(mut block) = first else { return Ok(None) };
        while block.data.len() < TOGETHER_BYTES && block.rows < self.batch_size {
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
    /// The reader's batch size is the number of rows that the block states, so it stops there. Data left over in the
    /// block would be a further row, and is detected by asking the reader for one more.
    fn decode(&self, block: &Block) -> Result<RecordBatch, BlockError> {
        let mut frame = ENDLESS.to_vec();
        put_long(block.data.len() as i64, &mut frame);
        let bytes = self.header.chain(frame.as_slice()).chain(block.data.as_slice()).chain(MARKER.as_slice());
        let builder = ReaderBuilder::new().with_projection(self.columns.clone()).with_batch_size(block.rows.max(1));
        let mut reader = builder.build(bytes).map_err(BlockError::Rows)?;
        let schema = reader.schema();
        let batch = match (reader.next().transpose().map_err(BlockError::Rows)?, block.rows) {
            // Rows that consist of nulls take no bytes.
            (None, rows) => {
                let columns = schema.fields().iter().map(|field| new_null_array(field.data_type(), rows)).collect();
                let options = RecordBatchOptions::new().with_row_count(Some(rows));
                return RecordBatch::try_new_with_options(schema, columns, &options).map_err(BlockError::Rows);
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
    type Item = Result<RecordBatch, BlockError>;

    fn next(&mut self) -> Option<Self::Item> {
        let block = self.together().transpose()?;
        Some(block.and_then(|block| self.decode(&block)))
    }
}

/// The end marker of the blocks passed to the reader.
const MARKER: Marker = [0; 16];

/// A header with this schema: a map with one entry, because there is no codec.
fn header(schema: &[u8]) -> Vec<u8> {
    let mut header = b"Obj\x01".to_vec();
    put_long(1, &mut header);
    for bytes in [b"avro.schema".as_slice(), schema] {
        put_long(bytes.len() as i64, &mut header);
        header.extend_from_slice(bytes);
    }
    put_long(0, &mut header);
    header.extend_from_slice(&MARKER);
    header
}

/// Decompresses the bytes of a block.
fn decompressed(codec: CompressionCodec, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    fn all(mut from: impl Read) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        from.read_to_end(&mut all)?;
        Ok(all)
    }
    match codec {
        CompressionCodec::Deflate => all(flate2::bufread::DeflateDecoder::new(bytes)),
        CompressionCodec::Snappy => {
            let (bytes, sum) = bytes.split_last_chunk::<4>().ok_or(ErrorKind::UnexpectedEof)?;
            let all = snap::raw::Decoder::new().decompress_vec(bytes).map_err(Error::other)?;
            if crc32fast::hash(&all) != u32::from_be_bytes(*sum) {
                return Err(Error::other("its checksum does not match"));
            }
            Ok(all)
        }
        CompressionCodec::ZStandard => all(zstd::Decoder::with_buffer(bytes)?),
        CompressionCodec::Bzip2 => all(bzip2::bufread::BzDecoder::new(bytes)),
        CompressionCodec::Xz => all(liblzma::bufread::XzDecoder::new(bytes)),
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

fn surplus(rows: usize) -> BlockError {
    BlockError::Block(format!("a block holds more than the {rows} rows that it claims"))
}

fn ends_early(error: Error) -> BlockError {
    match error.kind() {
        ErrorKind::UnexpectedEof => BlockError::Block("it ends within a block".to_owned()),
        _ => BlockError::Io(error),
    }
}
