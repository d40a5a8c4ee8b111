//! Decoders that panic: a damaged file can bring out what is wrong with one. It is refused like any other file that cannot be
//! read, and holds up nothing but itself.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::{FutureExt, Stream, StreamExt};
use hardtack_core::{Error, Location, Result};

/// What comes of reading a file; a panic on the way refuses it.
pub(crate) async fn guarded<T>(file: &Location, reading: impl Future<Output = Result<T>>) -> Result<T> {
    AssertUnwindSafe(reading).catch_unwind().await.unwrap_or_else(|panic| Err(refused(panic.as_ref(), file)))
}

/// The same for what comes bit by bit. Nothing comes after a panic.
pub(crate) fn guarded_stream<T>(file: Location, items: impl Stream<Item = Result<T>>) -> impl Stream<Item = Result<T>> {
    let caught = AssertUnwindSafe(items).catch_unwind();
    caught.map(move |item| item.unwrap_or_else(|panic| Err(refused(panic.as_ref(), &file))))
}

fn refused(panic: &(dyn Any + Send), file: &Location) -> Error {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let why = format!("the file cannot be decoded: {}", text.unwrap_or("a decoder panicked"));
    Error::refused(why).with("file", file).with(
        "way out",
        "the file is likely to be damaged: write it once more, or leave it out; if other programs read it, report this as a bug",
    )
}
