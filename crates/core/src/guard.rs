//! Guards against panics of decoders on damaged files. Such a file is refused like any other unreadable file, and
//! affects nothing else.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::{FutureExt, Stream, StreamExt};

use crate::{Error, Location, Result};

/// Reads a file; a panic refuses it.
///
/// ```
/// use hardtack_core::guard::guarded;
/// use hardtack_core::{ErrorKind, Result};
///
/// # futures::executor::block_on(async {
/// let read: Result<u64> = guarded(&"lake/a.parquet".into(), async { panic!("index out of bounds") }).await;
/// let error = read.unwrap_err();
/// assert_eq!((error.kind(), error.get("file")), (ErrorKind::Refused, Some("lake/a.parquet")));
/// # });
/// ```
///
/// # Errors
/// The future's errors; [`Refused`](crate::ErrorKind::Refused) with the file and a hint if it panics.
pub async fn guarded<T>(file: &Location, reading: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(reading).catch_unwind().await.unwrap_or_else(|panic| Err(refused(&*panic, file)))
}

/// The same for a stream, which ends after a panic.
pub fn guarded_stream<T>(file: Location, items: impl Stream<Item = Result<T>>) -> impl Stream<Item = Result<T>> {
    let caught = AssertUnwindSafe(items).catch_unwind();
    caught.map(move |item| item.unwrap_or_else(|panic| Err(refused(&*panic, &file))))
}

/// The message of a panic, if it has one.
pub fn panic_text(panic: &(dyn Any + Send)) -> Option<&str> {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

fn refused(panic: &(dyn Any + Send), file: &Location) -> Error {
    let why = format!("the file cannot be decoded: {}", panic_text(panic).unwrap_or("a decoder panicked"));
    Error::refused(why).with("file", file).hint("the file is probably damaged: write it again, or leave it out; if other programs can read it, report this as a bug",
    )
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::ErrorKind;

    #[tokio::test]
    async fn what_comes_before_a_panic_is_kept_and_nothing_comes_after_it() {
        let items = stream::iter(0..4).map(|i| if i == 2 { panic!("number {i}") } else { Ok(i) });
        let found: Vec<_> = guarded_stream("a".into(), items).collect().await;
        let [Ok(0), Ok(1), Err(error)] = &*found else { panic!("{found:?}") };
        assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, "the file cannot be decoded: number 2"));
    }
}
