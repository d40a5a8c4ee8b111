//! Reads a file in pieces, one piece ahead of the consumer.

use std::fs::File;
use std::io::{ErrorKind, Read, Result};

use bytes::{Bytes, BytesMut};
use datafusion::common::runtime::SpawnedTask;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::listed::Reading;

/// The size of a piece. Rows are decoded in the buffer that they were read into; a piece of this size stays in the
/// cache in between.
const PIECE_BYTES: usize = 2 << 20;

/// Room in front of a piece for the remainder of the previous one.
pub(crate) const LEFT_OVER_BYTES: usize = 256 << 10;

/// The number of unused buffers kept for reuse.
const MAX_SPARE_BUFFERS: usize = 8;

/// The source of the bytes.
pub(crate) enum Input {
    /// A local file, read on the blocking pool.
    File(Reading<File>),
    /// A stream from the network or a decompressor.
    Stream(Box<dyn AsyncRead + Send + Unpin>),
}

/// Reads the next piece while the current one is in use. Buffers that nobody uses any more are reused: page faults of
/// fresh memory cost more than the read.
pub(crate) struct Ahead {
    reading: Option<SpawnedTask<Result<Piece>>>,
    input: Option<Input>,
    /// The size of the next piece, and of those after it.
    next_bytes: usize,
    then_bytes: usize,
    used: Vec<Bytes>,
}

/// A buffer that has been filled from [`LEFT_OVER_BYTES`] on up to `end`.
struct Piece {
    input: Input,
    buffer: BytesMut,
    end: usize,
}

impl Ahead {
    /// Reads an input of about this size, if known.
    pub(crate) fn new(input: Input, size: Option<usize>) -> Self {
        // One byte more, so that the first read finds the end.
        let next_bytes = size.map_or(PIECE_BYTES, |size| size.saturating_add(1).min(PIECE_BYTES));
        Self { reading: None, input: Some(input), next_bytes, then_bytes: PIECE_BYTES, used: Vec::new() }
    }

    /// Returns `left_over` followed by more of the file, and whether that is the end. After an error it returns nothing
    /// more.
    pub(crate) async fn next(&mut self, left_over: Bytes) -> Result<(Bytes, bool)> {
        self.read_on();
        let Some(reading) = self.reading.take() else { return Ok((left_over, true)) };
        let Piece { input, mut buffer, end } = reading.join_unwind().await.map_err(std::io::Error::other)??;
        let ended = end < buffer.len();
        if !ended {
            self.next_bytes = self.then_bytes;
            self.input = Some(input);
        }
        let start = match LEFT_OVER_BYTES.checked_sub(left_over.len()) {
            Some(start) => {
                buffer[start..LEFT_OVER_BYTES].copy_from_slice(&left_over);
                start
            }
            None => {
                let read = &buffer[LEFT_OVER_BYTES..end];
                let mut joined = BytesMut::with_capacity(left_over.len() + read.len());
                joined.extend_from_slice(&left_over);
                joined.extend_from_slice(read);
                self.keep(buffer.freeze());
                self.read_on();
                return Ok((joined.freeze(), ended));
            }
        };
        drop(left_over);
        let buffer = buffer.freeze();
        let window = buffer.slice(start..end);
        self.keep(buffer);
        self.read_on();
        Ok((window, ended))
    }

    /// Keeps a buffer for reuse, and drops excess ones. Buffers in use do not count: they occupy their memory anyway.
    fn keep(&mut self, buffer: Bytes) {
        self.used.push(buffer);
        let mut free = 0;
        self.used.retain(|buffer| {
            let in_use = !buffer.is_unique();
            free += usize::from(!in_use);
            in_use || free <= MAX_SPARE_BUFFERS
        });
    }

    /// Starts a read, if none is under way and there may be more.
    fn read_on(&mut self) {
        let Some(input) = self.input.take() else { return };
        let buffer = self.buffer();
        self.reading = Some(match input {
            Input::File(file) => SpawnedTask::spawn_blocking(move || from_file(file, buffer)),
            Input::Stream(stream) => SpawnedTask::spawn(from_stream(stream, buffer)),
        });
    }

    /// A buffer for a piece.
    fn buffer(&mut self) -> BytesMut {
        let bytes = LEFT_OVER_BYTES + self.next_bytes;
        let free = self.used.iter().position(|buffer| buffer.len() == bytes && buffer.is_unique());
        let used = free.and_then(|at| self.used.swap_remove(at).try_into_mut().ok());
        used.unwrap_or_else(|| BytesMut::zeroed(bytes))
    }
}

fn from_file(mut file: Reading<File>, mut buffer: BytesMut) -> Result<Piece> {
    let read = fill(&mut file, &mut buffer[LEFT_OVER_BYTES..])?;
    Ok(Piece { input: Input::File(file), buffer, end: LEFT_OVER_BYTES + read })
}

/// Reads until the buffer is full or the input ends.
fn fill(mut from: impl Read, room: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match from.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

async fn from_stream(mut stream: Box<dyn AsyncRead + Send + Unpin>, mut buffer: BytesMut) -> Result<Piece> {
    let mut end = LEFT_OVER_BYTES;
    while end < buffer.len() {
        match stream.read(&mut buffer[end..]).await? {
            0 => break,
            read => end += read,
        }
    }
    Ok(Piece { input: Input::Stream(stream), buffer, end })
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use rstest::rstest;
    use tokio_util::io::StreamReader;

    use super::*;
    use crate::listed;

    /// Uses pieces of a few bytes, so that their boundaries fall into a test's rows.
    impl Ahead {
        pub(crate) fn of_pieces(input: Input, bytes: usize) -> Self {
            Self { next_bytes: bytes, then_bytes: bytes, ..Self::new(input, None) }
        }
    }

    /// Reads everything, leaving over this many bytes each time, and holding on to each buffer for `hold` pieces.
    async fn read(mut ahead: Ahead, leave: &[usize], hold: usize) -> Vec<u8> {
        let (mut all, mut left_over, mut held) = (Vec::new(), Bytes::new(), VecDeque::new());
        for leave in leave.iter().cycle() {
            let (mut window, ended) = ahead.next(left_over).await.unwrap();
            let used = if ended { window.len() } else { window.len().saturating_sub(*leave) };
            held.push_back(window.split_to(used));
            if held.len() > hold || ended {
                held.drain(..if ended { held.len() } else { 1 }).for_each(|bytes| all.extend_from_slice(&bytes));
            }
            if ended {
                break;
            }
            left_over = window;
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_read_is_what_is_there(
            sizes in prop::collection::vec(1_usize..70_000, 0..9),
            leave in prop::collection::vec(0_usize..300_000, 1..4),
            hold in 0_usize..5,
        ) {
            let content: Vec<u8> = (0..sizes.iter().sum::<usize>()).map(|i| (i % 251) as u8).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let folder = tempfile::tempdir().unwrap();
            let (file, meter) = listed::tests::file(folder.path(), &content);
            let from_file = Ahead::new(Input::File(file), Some(content.len() / 2));
            prop_assert_eq!(&runtime.block_on(read(from_file, &leave, hold)), &content);
            prop_assert_eq!(meter.counts().bytes, content.len() as u64);
            let mut rest = content.as_slice();
            let pieces = sizes.iter().map(|size| {
                let (piece, after) = rest.split_at(*size);
                rest = after;
                Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))
            });
            let stream = StreamReader::new(futures::stream::iter(pieces.collect::<Vec<_>>()));
            let from_stream = Ahead::new(Input::Stream(Box::new(stream)), None);
            prop_assert_eq!(&runtime.block_on(read(from_stream, &leave, hold)), &content);
        }
    }

    #[tokio::test]
    async fn memory_that_nobody_uses_is_filled_again() {
        let content = vec![7_u8; 3 * PIECE_BYTES];
        let stream = || Input::Stream(Box::new(std::io::Cursor::new(content.clone())));
        let mut ahead = Ahead::new(stream(), None);
        let (first, _) = ahead.next(Bytes::new()).await.unwrap();
        let place = first.as_ptr();
        drop(first);
        // The second piece was being read before the first one was released.
        let (second, _) = ahead.next(Bytes::new()).await.unwrap();
        assert_ne!(second.as_ptr(), place);
        let (third, _) = ahead.next(Bytes::new()).await.unwrap();
        assert_eq!(third.as_ptr(), place);
    }

    /// With many cores, many blocks are in flight.
    #[tokio::test]
    async fn pieces_that_were_in_use_for_long_are_filled_again_and_few_are_kept() {
        const HELD: usize = 2 * MAX_SPARE_BUFFERS;
        let content = vec![7_u8; 40 * 4096];
        let mut ahead = Ahead::of_pieces(Input::Stream(Box::new(std::io::Cursor::new(content))), 4096);
        let mut held = Vec::new();
        for _ in 0..HELD {
            held.push(ahead.next(Bytes::new()).await.unwrap().0);
        }
        assert_eq!(ahead.used.len(), HELD);
        let places: Vec<_> = held.drain(..).map(|piece| piece.as_ptr()).collect();
        for _ in 0..MAX_SPARE_BUFFERS {
            let (piece, _) = ahead.next(Bytes::new()).await.unwrap();
            held.push(piece);
        }
        // The read of the first had started before.
        assert!(held[1..].iter().all(|piece| places.contains(&piece.as_ptr())));
        drop(held);
        ahead.next(Bytes::new()).await.unwrap();
        assert!(ahead.used.len() <= MAX_SPARE_BUFFERS + 1, "{}", ahead.used.len());
    }

    #[tokio::test]
    async fn after_an_error_there_is_nothing_more() {
        let pieces = [Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("the line is cut"))];
        let input = Input::Stream(Box::new(StreamReader::new(futures::stream::iter(pieces))));
        let mut ahead = Ahead::new(input, None);
        assert_eq!(ahead.next(Bytes::new()).await.unwrap_err().to_string(), "the line is cut");
        assert_eq!(ahead.next(Bytes::new()).await.unwrap(), (Bytes::new(), true));
    }

    /// A reader with scripted results.
    struct Script(VecDeque<Result<&'static [u8]>>);

    impl Read for Script {
        fn read(&mut self, room: &mut [u8]) -> Result<usize> {
            let said = self.0.pop_front().expect("there is no need to ask again")?;
            room[..said.len()].copy_from_slice(said);
            Ok(said.len())
        }
    }

    #[rstest]
    #[case::full(vec![Ok("ab"), Ok("cd")], Ok("abcd"))]
    #[case::ended(vec![Ok("ab"), Ok("c"), Ok("")], Ok("abc"))]
    #[case::interrupted(vec![Ok("ab"), Err(ErrorKind::Interrupted), Ok("cd")], Ok("abcd"))]
    #[case::failed(vec![Ok("ab"), Err(ErrorKind::TimedOut)], Err(ErrorKind::TimedOut))]
    fn a_file_is_read_until_there_is_no_more_room(
        #[case] said: Vec<std::result::Result<&'static str, ErrorKind>>,
        #[case] expected: std::result::Result<&str, ErrorKind>,
    ) {
        let script = said.into_iter().map(|said| said.map(str::as_bytes).map_err(std::io::Error::from));
        let mut room = [0; 4];
        let filled = fill(Script(script.collect()), &mut room);
        assert_eq!(filled.map(|n| &room[..n]).map_err(|e| e.kind()), expected.map(str::as_bytes));
    }

    /// A piece does not wait for what follows it.
    #[tokio::test]
    async fn a_piece_that_is_full_is_there_before_what_is_wrong_behind_it() {
        let pieces = [Ok(Bytes::from_static(b"abcd")), Err(std::io::Error::other("the line is cut"))];
        let input = Input::Stream(Box::new(StreamReader::new(futures::stream::iter(pieces))));
        let mut ahead = Ahead::of_pieces(input, 4);
        assert_eq!(ahead.next(Bytes::new()).await.unwrap(), (Bytes::from_static(b"abcd"), false));
        assert_eq!(ahead.next(Bytes::new()).await.unwrap_err().to_string(), "the line is cut");
    }
}
