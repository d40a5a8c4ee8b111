//! Reads one file: opening, decompression, and the window through which text formats see it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use futures::TryStreamExt;
use hardtack_core::{Error, Location, Meter, Result};
use object_store::{GetResultPayload, ObjectMeta, ObjectStore};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use crate::ahead::{Ahead, Input};
use crate::compression::{Compression, HEAD_BYTES};
use crate::fault::{Fault, MayBeEscaped};
use crate::listed::Reading;

/// A file to read.
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

/// The size of a read request.
const READ_BYTES: usize = 512 << 10;

impl SourceFile {
    /// Opens the file as it is stored.
    pub(crate) async fn open(&self) -> Result<Bytes> {
        Ok(match self.get(None).await?.payload {
            GetResultPayload::File(file, path) => Self::stream(Input::File(self.reading(file, Some(path)))),
            GetResultPayload::Stream(stream) => {
                Box::new(self.reading(StreamReader::new(stream.map_err(std::io::Error::other)), None))
            }
        })
    }

    fn reading<R>(&self, bytes: R, path: Option<PathBuf>) -> Reading<R> {
        Reading::new(bytes, self.meta.clone(), path, Arc::clone(&self.meter))
    }

    /// Opens the file and decompresses it if its first bytes show that it is compressed, whatever its name.
    pub(crate) async fn open_text(&self) -> Result<Text> {
        let named = Compression::of(self.meta.location.filename().unwrap_or_default());
        let (head, input) = self.open_input().await?;
        let told = Compression::told_by(&head);
        // A file that is named like a compressed one, but does not begin like one, is left to the decoder to refuse.
        let compression = told.or(named);
        let input = match compression {
            None => input,
            Some(compression) => Input::Stream(compression.decoder(Self::stream(input))),
        };
        let size = if compression.is_none() { usize::try_from(self.meta.size).ok() } else { None };
        Ok(Text { misnamed: told != named, ..Text::new(self.clone(), compression, Ahead::new(input, size)) })
    }

    /// Opens the file for direct reading, and peeks at its first bytes.
    async fn open_input(&self) -> Result<(Vec<u8>, Input)> {
        let opened = match self.get(None).await?.payload {
            GetResultPayload::File(file, path) => {
                let head = SpawnedTask::spawn_blocking(move || first_bytes(file));
                let opened = head.join_unwind().await.map_err(std::io::Error::other).flatten();
                opened.map(|(head, file)| (head, Input::File(self.reading(file, Some(path)))))
            }
            GetResultPayload::Stream(stream) => {
                let mut stream = StreamReader::new(stream.map_err(std::io::Error::other));
                let mut head = Vec::with_capacity(HEAD_BYTES);
                let read = (&mut stream).take(HEAD_BYTES as u64).read_to_end(&mut head).await;
                let again = std::io::Cursor::new(head.clone()).chain(stream);
                read.map(|_| (head, Input::Stream(Box::new(self.reading(again, None)))))
            }
        };
        opened.map_err(|e| self.error(e, None))
    }

    fn stream(input: Input) -> Bytes {
        match input {
            Input::File(file) => Box::new(file.map(|file| {
                let mut file = tokio::fs::File::from_std(file);
                file.set_max_buf_size(READ_BYTES);
                file
            })),
            Input::Stream(stream) => stream,
        }
    }

    /// Names the file in an error of reading it.
    pub(crate) fn error(&self, error: std::io::Error, compression: Option<Compression>) -> Error {
        if let Some(own) = Error::carried_by(&error) {
            return own.with("file", &self.location);
        }
        let error = match error.downcast::<object_store::Error>() {
            Ok(store) => Error::from(store),
            // An error that is not the store's is the decoder's: the bytes are not what the suffix says.
            Err(io) => match compression {
                Some(kind) => {
                    let name = self.meta.location.filename().unwrap_or_default().to_ascii_lowercase();
                    let named = format!("if it is not compressed, give it a name without `{}`", kind.suffix());
                    let error = Error::refused(format!("the file is not whole and valid {}", kind.name())).because(io);
                    if name.ends_with(kind.suffix()) { error.hint(named) } else { error }
                }
                None => Error::unavailable("reading failed").because(io),
            },
        };
        error.with("file", &self.location)
    }
}

/// Peeks at the first bytes of a file.
fn first_bytes(mut file: File) -> std::io::Result<(Vec<u8>, File)> {
    use std::io::{Read, Seek};
    let mut head = Vec::with_capacity(HEAD_BYTES);
    (&mut file).take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    file.rewind()?;
    Ok((head, file))
}

/// The byte order mark that some programs write before UTF-8 text.
pub(crate) const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A longer row is taken for a bracket or quote that is never closed. It is larger than a block, so the row itself has
/// this length, without anything before it.
const MAX_ROW_BYTES: usize = 64 << 20;

/// The decompressed text of a file, seen through a window that moves forward. It keeps the text that has not been
/// consumed yet, and the number of the line on which that starts.
pub(crate) struct Text {
    file: SourceFile,
    pub(crate) compression: Option<Compression>,
    /// Whether the name of the file indicates another compression.
    misnamed: bool,
    ahead: Ahead,
    window: bytes::Bytes,
    lines: Lines,
    ended: bool,
    /// Whether its first bytes were checked.
    begun: bool,
}

/// The result of a step over the front of a text.
pub(crate) struct Step<T> {
    /// The number of consumed bytes.
    pub(crate) used: usize,
    /// The result, if they suffice for one.
    pub(crate) made: Option<T>,
}

/// A part of a text that has been taken off its front.
pub(crate) struct Block<T> {
    pub(crate) text: bytes::Bytes,
    /// The result for it.
    pub(crate) made: T,
    location: Location,
    /// The lines before it.
    pub(crate) lines: Lines,
}

/// The number of completed lines of a text. They end with `\r` in a text without `\n`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lines {
    ended: u64,
    returns: u64,
}

impl Lines {
    /// Adds the lines that end in this following text.
    pub(crate) fn and(self, text: &[u8]) -> Self {
        let count = |byte: u8| memchr::memchr_iter(byte, text).count() as u64;
        let ended = self.ended + count(b'\n');
        Self { ended, returns: if ended > 0 { 0 } else { self.returns + count(b'\r') } }
    }

    /// The number of the next line.
    pub(crate) fn next(self) -> u64 {
        1 + if self.ended > 0 { self.ended } else { self.returns }
    }
}

impl Text {
    fn new(file: SourceFile, compression: Option<Compression>, ahead: Ahead) -> Self {
        Self {
            file,
            compression,
            misnamed: false,
            ahead,
            window: bytes::Bytes::new(),
            lines: Lines::default(),
            ended: false,
            begun: false,
        }
    }

    /// A note on a file that is compressed but not named so, or vice versa.
    pub(crate) fn misnamed(&self) -> Option<String> {
        let kind = self.compression.filter(|_| self.misnamed)?;
        let why = "which its name does not say: it is read here, but Hive and Athena go by the name";
        Some(format!("{} is {}, {why}", self.file.location, kind.name()))
    }

    /// Calls `step` with the text so far, and whether that is all, until it has consumed enough for a result. `None` at
    /// the end of the text.
    pub(crate) async fn next<T>(
        &mut self,
        mut step: impl FnMut(&[u8], bool) -> Result<Step<T>, Fault>,
    ) -> Result<Option<Block<T>>> {
        loop {
            self.begin()?;
            let Step { used, made } = step(&self.window, self.ended)
                .map_err(|fault| refuse(fault, &self.window, self.lines, &self.file.location))?;
            let text = self.window.split_to(used);
            let lines = self.lines;
            self.lines = lines.and(&text);
            match made {
                Some(made) => return Ok(Some(Block { text, made, location: self.file.location.clone(), lines })),
                None if self.ended => return Ok(None),
                None => self.fill().await?,
            }
        }
    }

    /// Refuses texts in another encoding.
    fn begin(&mut self) -> Result<()> {
        if self.begun || !(self.ended || self.window.len() >= 4) {
            return Ok(());
        }
        self.begun = true;
        match *self.window {
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => {}
            [0, a, 0, b, ..] | [a, 0, b, 0, ..] if a != 0 && b != 0 => {}
            _ => return Ok(()),
        }
        let fault = Fault::new(0, "this is UTF-16, and texts are read as UTF-8")
            .hint("convert the file: `iconv -f UTF-16 -t UTF-8`");
        Err(refuse(fault, &self.window, self.lines, &self.file.location))
    }

    async fn fill(&mut self) -> Result<()> {
        if self.window.len() > MAX_ROW_BYTES {
            let why = format!("a row is longer than {} MiB; a bracket or quote may not be closed", MAX_ROW_BYTES >> 20);
            return Err(refuse(Fault::new(0, why), &self.window, self.lines, &self.file.location));
        }
        // A long row is scanned again each time; doubling the window bounds the total work.
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
    /// The error for a fault in the block, with file and line.
    pub(crate) fn refuse(&self, fault: Fault) -> Error {
        refuse(fault, &self.text, self.lines, &self.location)
    }
}

/// The error for a fault in a text that follows these lines of a file.
fn refuse(fault: Fault, text: &[u8], lines: Lines, file: &Location) -> Error {
    let line = lines.and(&text[..fault.offset.min(text.len())]).next();
    let error = Error::refused(fault.message).with("file", file).with("line", line);
    let with = |error: Error, key, value: Option<String>| match value {
        Some(value) => error.with(key, value),
        None => error,
    };
    let error = with(with(error, "column", fault.column), "value", fault.value);
    let error = match fault.hint {
        Some(hint) => error.hint(hint),
        None => error,
    };
    if fault.may_be_escaped { error.with_detail(MayBeEscaped) } else { error }
}

#[cfg(test)]
impl Text {
    /// A text read in pieces of this size.
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

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Lines end with `\r` in a text without `\n`.
    #[rstest]
    #[case::none(&["a"], 1)]
    #[case::newlines(&["a\nb\n", "c\n"], 4)]
    #[case::both(&["a\r\nb\r", "\nc\r\n"], 4)]
    #[case::returns(&["a\rb\r", "c\r", "d"], 4)]
    #[case::a_return_inside_of_a_line(&["a\n\r\r", "b\r\n"], 3)]
    #[case::newlines_after_returns(&["a\rb\r", "c\n"], 2)]
    fn lines_are_counted_over_pieces(#[case] pieces: &[&str], #[case] next: u64) {
        let lines = pieces.iter().fold(Lines::default(), |lines, piece| lines.and(piece.as_bytes()));
        assert_eq!(lines.next(), next);
    }

    /// Consumes everything each time, or returns the error.
    async fn taken(text: &[u8], piece: usize) -> Result<usize, String> {
        let (mut text, mut bytes) = (Text::of(text, piece), 0);
        let all = |text: &[u8], _: bool| {
            bytes += text.len();
            Ok(Step { used: text.len(), made: None::<()> })
        };
        text.next(all).await.map_err(|e| e.to_string())?;
        Ok(bytes)
    }

    #[rstest]
    #[case::little_endian_with_a_mark(b"\xFF\xFEa\0", true)]
    #[case::big_endian_with_a_mark(b"\xFE\xFF\0a", true)]
    #[case::little_endian(b"a\0b\0c\0d\0", true)]
    #[case::big_endian(b"\0a\0b\0c\0d", true)]
    #[case::zeros(b"\0\0\0\0", false)]
    #[case::zeros_after_a_character(b"\0a\0\0", false)]
    #[case::zeros_around_a_character(b"\0\0a\0", false)]
    #[case::character_and_zeros(b"a\0\0\0", false)]
    #[case::further_on(b"abcda\0b\0", false)]
    #[case::short(b"\0a", false)]
    #[tokio::test]
    async fn utf_16_is_told_by_the_first_bytes(
        #[case] text: &[u8],
        #[case] utf_16: bool,
        #[values(4, 8)] piece: usize,
    ) {
        let wrong = "this is UTF-16, and texts are read as UTF-8 (file: test, line: 1, hint: convert the file: \
                     `iconv -f UTF-16 -t UTF-8`)";
        assert_eq!(taken(text, piece).await, if utf_16 { Err(wrong.to_owned()) } else { Ok(text.len()) });
    }

    #[tokio::test]
    async fn a_long_row_is_looked_at_when_there_is_twice_as_much_of_it() {
        let (mut text, mut seen) = (Text::of(&[b'x'; 1000], 100), Vec::new());
        let row = |text: &[u8], ended: bool| {
            seen.push(text.len());
            Ok(if ended { Step { used: text.len(), made: Some(()) } } else { Step { used: 0, made: None } })
        };
        assert_eq!(text.next(row).await.unwrap().unwrap().text.len(), 1000);
        assert_eq!(seen, [0, 100, 200, 400, 800, 1000]);
    }

    /// The longest row, and a longer one, in pieces of any size.
    #[rstest]
    #[case(MAX_ROW_BYTES, true)]
    #[case(2 * MAX_ROW_BYTES, false)]
    #[tokio::test]
    async fn a_row_is_as_long_as_it_may_be(#[case] bytes: usize, #[case] fine: bool) {
        let mut text = Text::of(&vec![b'x'; bytes], MAX_ROW_BYTES / 2);
        let row = |text: &[u8], ended: bool| {
            Ok(if ended { Step { used: text.len(), made: Some(()) } } else { Step { used: 0, made: None } })
        };
        assert_eq!(text.next(row).await.is_ok(), fine);
    }
}
