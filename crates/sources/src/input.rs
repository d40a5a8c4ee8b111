//! Reading one file: opening, decompressing, and the window through which text formats look at it.

use std::sync::Arc;

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use futures::TryStreamExt;
use hardtack_core::{Error, Location, Meter, Result};
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio_util::io::{InspectReader, StreamReader};

use crate::fault::Fault;

/// A file that is to be read.
#[derive(Debug, Clone)]
pub struct SourceFile {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) meta: ObjectMeta,
    pub(crate) location: Location,
    /// Counts what is read of it.
    pub(crate) meter: Arc<Meter>,
}

/// The bytes of a file, in order.
pub(crate) type Bytes = Box<dyn AsyncRead + Send + Unpin>;

/// How much of a file is asked for at once.
const READ_BYTES: usize = 512 << 10;

impl SourceFile {
    /// Opens the file as it is stored.
    pub(crate) async fn open(&self) -> Result<Bytes> {
        let got = self.store.get(&self.meta.location).await.map_err(|e| Error::from(e).with("file", &self.location))?;
        let bytes: Bytes = match got.payload {
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(READ_BYTES);
                Box::new(file)
            }
            GetResultPayload::Stream(stream) => Box::new(StreamReader::new(stream.map_err(std::io::Error::other))),
        };
        let meter = Arc::clone(&self.meter);
        Ok(Box::new(InspectReader::new(bytes, move |read| meter.add_bytes(read.len() as u64))))
    }

    /// Opens the file and decompresses it if its suffix says that it is compressed.
    pub(crate) async fn open_text(&self) -> Result<Text> {
        let compression = Compression::of(self.meta.location.filename().unwrap_or_default());
        let bytes = self.open().await?;
        let bytes = match compression {
            None => bytes,
            Some(compression) => compression.decoder(bytes),
        };
        Ok(Text { file: self.clone(), compression, bytes, buffer: Vec::new(), start: 0, line: 1, ended: false })
    }

    /// Names the file in an error of reading it.
    pub(crate) fn error(&self, error: std::io::Error, compression: Option<Compression>) -> Error {
        let error = match error.downcast::<object_store::Error>() {
            Ok(store) => Error::from(store),
            // What is not the store's fault is the decoder's: the bytes are not what the suffix says.
            Err(io) => match compression {
                Some(kind) => Error::refused(format!("the file is not whole and valid {}", kind.name())).because(io),
                None => Error::unavailable("reading failed").because(io),
            },
        };
        error.with("file", &self.location)
    }
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

impl Compression {
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Gzip, ".gz", "gzip"),
        (Self::Zstd, ".zst", "zstd"),
        (Self::Bzip2, ".bz2", "bzip2"),
        (Self::Xz, ".xz", "xz"),
    ];

    /// By the suffix of the file's name, in any case.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL.into_iter().find(|(_, suffix, _)| name.ends_with(suffix)).map(|(kind, ..)| kind)
    }

    /// The suffixes that say that a file is compressed.
    pub(crate) fn suffixes() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(|(_, suffix, _)| suffix)
    }

    fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, ..)| *kind == self).map_or("", |(.., name)| name)
    }

    fn decoder(self, bytes: Bytes) -> Bytes {
        // Files that were made by joining compressed files (`cat a.gz b.gz`) are read to their end.
        macro_rules! all_members {
            ($decoder:ident) => {{
                let mut decoder = $decoder::new(BufReader::with_capacity(READ_BYTES, bytes));
                decoder.multiple_members(true);
                Box::new(decoder)
            }};
        }
        match self {
            Self::Gzip => all_members!(GzipDecoder),
            Self::Zstd => all_members!(ZstdDecoder),
            Self::Bzip2 => all_members!(BzDecoder),
            Self::Xz => all_members!(XzDecoder),
        }
    }
}

/// What some programs put before UTF-8 text.
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A row that is longer than this is taken for a bracket or quote that is never closed.
const MAX_ROW_BYTES: usize = 64 << 20;

/// The decompressed text of a file, through a window that moves forward over it. It keeps what was not consumed yet and
/// knows on which line that starts.
pub(crate) struct Text {
    file: SourceFile,
    compression: Option<Compression>,
    bytes: Bytes,
    buffer: Vec<u8>,
    start: usize,
    line: u64,
    ended: bool,
}

impl Text {
    /// Lets `step` take whole rows from the front of the text until it has something to return. It is given the text so
    /// far and whether that is all, and says how many bytes it is done with, and what it has made of them if that was
    /// enough. `None` after the last.
    pub(crate) async fn next<T>(
        &mut self,
        mut step: impl FnMut(&[u8], bool) -> Result<Step<T>, Fault>,
    ) -> Result<Option<T>> {
        loop {
            match step(&self.buffer[self.start..], self.ended) {
                Err(fault) => return Err(self.refuse(fault)),
                Ok(Step { used, made }) => {
                    self.consume(used);
                    match made {
                        Some(made) => return Ok(Some(made)),
                        None if self.ended => return Ok(None),
                        None => self.fill().await?,
                    }
                }
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() > MAX_ROW_BYTES {
            let why = format!("a row is longer than {} MiB; a bracket or quote may not be closed", MAX_ROW_BYTES >> 20);
            return Err(self.refuse(Fault::new(0, why)));
        }
        self.buffer.reserve(READ_BYTES);
        let read = self.bytes.read_buf(&mut self.buffer).await.map_err(|e| self.file.error(e, self.compression))?;
        self.ended = read == 0;
        Ok(())
    }

    fn consume(&mut self, bytes: usize) {
        self.line += lines(&self.buffer[self.start..self.start + bytes]);
        self.start += bytes;
    }

    /// The fault as an error that says where it is.
    fn refuse(&self, fault: Fault) -> Error {
        let before = &self.buffer[self.start..];
        let line = self.line + lines(&before[..fault.offset.min(before.len())]);
        let mut error = Error::refused(fault.message).with("file", &self.file.location).with("line", line);
        if let Some(column) = fault.column {
            error = error.with("column", column);
        }
        if let Some(value) = fault.value {
            error = error.with("value", value);
        }
        error
    }
}

/// What a reader has done with the front of a text.
pub(crate) struct Step<T> {
    /// Bytes that are not needed any more.
    pub(crate) used: usize,
    /// What came of them, if it was enough.
    pub(crate) made: Option<T>,
}

fn lines(text: &[u8]) -> u64 {
    text.iter().filter(|b| **b == b'\n').count() as u64
}
