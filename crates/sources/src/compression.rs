//! Compressed files.

use std::io::Result;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder};
use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};

use crate::input::Bytes;

/// The compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
}

/// The number of bytes that identify the compression.
pub(crate) const HEAD_BYTES: usize = 10;

/// The size of a read request.
const READ_BYTES: usize = 512 << 10;

impl Compression {
    const ALL: [(Self, &'static str, &'static str); 4] = [
        (Self::Gzip, ".gz", "gzip"),
        (Self::Zstd, ".zst", "zstd"),
        (Self::Bzip2, ".bz2", "bzip2"),
        (Self::Xz, ".xz", "xz"),
    ];

    /// Determines the compression by the suffix of the file's name, in any case.
    pub(crate) fn of(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL.into_iter().find(|(_, suffix, _)| name.ends_with(suffix)).map(|(kind, ..)| kind)
    }

    /// Determines the compression by the first bytes of the file. No text begins with these.
    pub(crate) fn told_by(head: &[u8]) -> Option<Self> {
        match head {
            [0x1F, 0x8B, 8, ..] => Some(Self::Gzip),
            [0x28, 0xB5, 0x2F, 0xFD, ..] => Some(Self::Zstd),
            [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            // A block, or the end of an empty file.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Self::Bzip2),
            _ => None,
        }
    }

    /// The suffixes of compressed files.
    pub(crate) fn suffixes() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(|(_, suffix, _)| suffix)
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, ..)| *kind == self).map_or("", |(.., name)| name)
    }

    pub(crate) fn suffix(self) -> &'static str {
        Self::ALL.into_iter().find(|(kind, ..)| *kind == self).map_or("", |(_, suffix, _)| suffix)
    }

    pub(crate) fn decoder(self, bytes: Bytes) -> Bytes {
        match self {
            Self::Gzip => Members::<GzipDecoder<Buffered>>::decoder(bytes),
            Self::Zstd => Members::<ZstdDecoder<Buffered>>::decoder(bytes),
            Self::Bzip2 => Members::<BzDecoder<Buffered>>::decoder(bytes),
            Self::Xz => Members::<XzDecoder<Buffered>>::decoder(bytes),
        }
    }
}

type Buffered = BufReader<Bytes>;

/// The decoder of one compressed file.
trait Member: AsyncRead + Send + Unpin + 'static {
    fn begin(bytes: Buffered) -> Self;
    fn end(self) -> Buffered;
}

macro_rules! members {
    ($($decoder:ident),+) => {$(
        impl Member for $decoder<Buffered> {
            fn begin(bytes: Buffered) -> Self {
                Self::new(bytes)
            }

            fn end(self) -> Buffered {
                self.into_inner()
            }
        }
    )+};
}

members!(GzipDecoder, ZstdDecoder, BzDecoder, XzDecoder);

/// Reads concatenated compressed files (`cat a.gz b.gz`) to the end of the last. Zeros after each are skipped: tapes
/// and block devices pad with them, and `gunzip` does the same.
struct Members<M> {
    inside: Option<M>,
    between: Option<Buffered>,
}

impl<M: Member> Members<M> {
    fn decoder(bytes: Bytes) -> Bytes {
        Box::new(Self { inside: Some(M::begin(BufReader::with_capacity(READ_BYTES, bytes))), between: None })
    }
}

impl<M: Member> AsyncRead for Members<M> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if let Some(inside) = &mut self.inside {
                let before = buffer.filled().len();
                ready!(Pin::new(inside).poll_read(cx, buffer))?;
                if buffer.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                self.between = self.inside.take().map(M::end);
            }
            let Some(between) = &mut self.between else { return Poll::Ready(Ok(())) };
            let next = ready!(Pin::new(&mut *between).poll_fill_buf(cx))?;
            if next.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let zeros = next.iter().take_while(|byte| **byte == 0).count();
            let begins = zeros < next.len();
            Pin::new(between).consume(zeros);
            if begins {
                self.inside = self.between.take().map(M::begin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_compression::tokio::bufread::{BzEncoder, GzipEncoder, XzEncoder, ZstdEncoder};
    use rstest::rstest;
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn compressed(how: Compression, text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match how {
            Compression::Gzip => GzipEncoder::new(text).read_to_end(&mut bytes).await.unwrap(),
            Compression::Zstd => ZstdEncoder::new(text).read_to_end(&mut bytes).await.unwrap(),
            Compression::Bzip2 => BzEncoder::new(text).read_to_end(&mut bytes).await.unwrap(),
            Compression::Xz => XzEncoder::new(text).read_to_end(&mut bytes).await.unwrap(),
        };
        bytes
    }

    async fn read(how: Compression, bytes: Vec<u8>) -> Result<String> {
        let mut text = String::new();
        how.decoder(Box::new(std::io::Cursor::new(bytes))).read_to_string(&mut text).await?;
        Ok(text)
    }

    #[rstest]
    #[tokio::test]
    async fn joined_and_padded_files_are_read_to_their_end(
        #[values(Compression::Gzip, Compression::Zstd, Compression::Bzip2, Compression::Xz)] how: Compression,
    ) {
        let (one, other, empty) =
            (compressed(how, b"one,").await, compressed(how, b"other").await, compressed(how, b"").await);
        for bytes in [&one, &empty] {
            assert_eq!(Compression::told_by(&bytes[..HEAD_BYTES.min(bytes.len())]), Some(how));
        }
        let zeros = |n: usize| vec![0; n];
        for (parts, text) in [
            (vec![one.clone()], "one,"),
            (vec![empty.clone()], ""),
            (vec![one.clone(), other.clone()], "one,other"),
            (vec![one.clone(), empty.clone(), other.clone(), zeros(1)], "one,other"),
            (vec![one.clone(), zeros(3 * READ_BYTES)], "one,"),
            (vec![one.clone(), zeros(512), other.clone(), zeros(7)], "one,other"),
        ] {
            assert_eq!(read(how, parts.concat()).await.unwrap(), text);
        }
        // Neither a truncated file nor trailing data is ignored.
        assert!(read(how, one[..one.len() - 3].to_vec()).await.is_err());
        assert!(read(how, [&one[..], b"and more text"].concat()).await.is_err());
        assert!(read(how, [&one[..], &[0, 0], b"and more text"].concat()).await.is_err());
        assert!(read(how, [&one[..], &other[..other.len() - 3]].concat()).await.is_err());
    }

    #[rstest]
    #[case(b"id,name\n")]
    #[case(b"BZh9,x\n1,2\n")]
    #[case(b"{\"a\": 1}")]
    #[case(b"")]
    fn texts_are_not_taken_for_compressed(#[case] text: &[u8]) {
        assert_eq!(Compression::told_by(&text[..text.len().min(HEAD_BYTES)]), None);
    }
}
