//! Reading one file: opening, decompressing, and the window through which text formats look at it.

use std::sync::Arc;

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use futures::TryStreamExt;
use hardtack_core::{Error, Location, Meter, Result};
use object_store::{GetResultPayload, ObjectMeta, ObjectStore, ObjectStoreExt};
use tokio::io::{AsyncRead, BufReader};
use tokio_util::io::{InspectReader, StreamReader};

use crate::ahead::{Ahead, Input};
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
        Ok(match got.payload {
            GetResultPayload::File(file, _) => {
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(READ_BYTES);
                self.counted(file)
            }
            GetResultPayload::Stream(stream) => self.counted(StreamReader::new(stream.map_err(std::io::Error::other))),
        })
    }

    fn counted(&self, bytes: impl AsyncRead + Send + Unpin + 'static) -> Bytes {
        let meter = Arc::clone(&self.meter);
        Box::new(InspectReader::new(bytes, move |read| meter.add_bytes(read.len() as u64)))
    }

    /// Opens the file and decompresses it if its suffix says that it is compressed.
    pub(crate) async fn open_text(&self) -> Result<Text> {
        let compression = Compression::of(self.meta.location.filename().unwrap_or_default());
        let input = match compression {
            None => self.open_plain().await?,
            Some(compression) => Input::Stream(compression.decoder(self.open().await?)),
        };
        // A file that is written right now may be longer than it was when it was listed.
        let size = if compression.is_none() { usize::try_from(self.meta.size).ok() } else { None };
        Ok(Text::new(self.clone(), compression, Ahead::new(input, size)))
    }

    /// Opens the file to be read straight from where it is.
    async fn open_plain(&self) -> Result<Input> {
        let got = self.store.get(&self.meta.location).await.map_err(|e| Error::from(e).with("file", &self.location))?;
        Ok(match got.payload {
            GetResultPayload::File(file, _) => Input::File(file, Arc::clone(&self.meter)),
            GetResultPayload::Stream(stream) => {
                Input::Stream(self.counted(StreamReader::new(stream.map_err(std::io::Error::other))))
            }
        })
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

/// A row that is longer than this is taken for a bracket or quote that is never closed. It is more than a block has, so
/// that it is a row, and nothing before it, that has this length.
const MAX_ROW_BYTES: usize = 64 << 20;

/// The decompressed text of a file, through a window that moves forward over it. It keeps what is not done with yet and
/// knows on which line that starts.
pub(crate) struct Text {
    file: SourceFile,
    compression: Option<Compression>,
    ahead: Ahead,
    window: bytes::Bytes,
    line: u64,
    ended: bool,
}

/// What a look at the front of a text has come to.
pub(crate) struct Step<T> {
    /// Bytes that are done with.
    pub(crate) used: usize,
    /// What is in them, if that is enough for now.
    pub(crate) made: Option<T>,
}

/// A part of a text that has been taken off its front.
pub(crate) struct Block<T> {
    pub(crate) text: bytes::Bytes,
    /// What was found out about it.
    pub(crate) made: T,
    location: Location,
    /// On which it starts.
    pub(crate) line: u64,
}

impl Text {
    fn new(file: SourceFile, compression: Option<Compression>, ahead: Ahead) -> Self {
        Self { file, compression, ahead, window: bytes::Bytes::new(), line: 1, ended: false }
    }

    /// Lets `step` look at the front of the text until it has taken off enough of it. It is given the text so far and
    /// whether that is all. `None` at the end of the text.
    pub(crate) async fn next<T>(
        &mut self,
        mut step: impl FnMut(&[u8], bool) -> Result<Step<T>, Fault>,
    ) -> Result<Option<Block<T>>> {
        loop {
            let Step { used, made } = step(&self.window, self.ended)
                .map_err(|fault| refuse(fault, &self.window, self.line, &self.file.location))?;
            let text = self.window.split_to(used);
            let line = self.line;
            self.line += lines(&text);
            match made {
                Some(made) => return Ok(Some(Block { text, made, location: self.file.location.clone(), line })),
                None if self.ended => return Ok(None),
                None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<()> {
        if self.window.len() > MAX_ROW_BYTES {
            let why = format!("a row is longer than {} MiB; a bracket or quote may not be closed", MAX_ROW_BYTES >> 20);
            return Err(refuse(Fault::new(0, why), &self.window, self.line, &self.file.location));
        }
        // A long row is looked at again each time; that it grows by its own length keeps that from going on for long.
        let enough = (self.window.len() * 2).min(MAX_ROW_BYTES + 1);
        while !self.ended && (self.window.is_empty() || self.window.len() < enough) {
            let window = std::mem::take(&mut self.window);
            let longer = self.ahead.next(window).await.map_err(|e| self.file.error(e, self.compression))?;
            (self.window, self.ended) = longer;
        }
        Ok(())
    }
}

impl<T> Block<T> {
    /// What is wrong in the block, with the file and the line.
    pub(crate) fn refuse(&self, fault: Fault) -> Error {
        refuse(fault, &self.text, self.line, &self.location)
    }
}

/// A fault in a text that starts on `line` of a file.
fn refuse(fault: Fault, text: &[u8], line: u64, file: &Location) -> Error {
    let line = line + lines(&text[..fault.offset.min(text.len())]);
    let error = Error::refused(fault.message).with("file", file).with("line", line);
    let error = match fault.column {
        Some(column) => error.with("column", column),
        None => error,
    };
    match fault.value {
        Some(value) => error.with("value", value),
        None => error,
    }
}

pub(crate) fn lines(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

#[cfg(test)]
impl Text {
    /// A text that is read in pieces of this size.
    pub(crate) fn of(text: &[u8], piece: usize) -> Self {
        let meta = ObjectMeta {
            location: "test".into(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 0,
            e_tag: None,
            version: None,
        };
        let store = Arc::new(object_store::memory::InMemory::new());
        let file = SourceFile { store, meta, location: Location::from("test"), meter: Arc::default() };
        let input = Input::Stream(Box::new(std::io::Cursor::new(text.to_vec())));
        Self::new(file, None, Ahead::of_pieces(input, piece))
    }
}
