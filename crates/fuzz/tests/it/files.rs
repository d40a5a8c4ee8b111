//! Generated files.

use std::fmt;

use hardtack_core::{JobContext, Location};
use object_store::ObjectStoreExt;

/// A file below `memory:/t`.
#[derive(Clone, PartialEq)]
pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.path)?;
        match std::str::from_utf8(&self.bytes) {
            Ok(text) => write!(f, "{text:?}"),
            Err(_) => write!(f, "{}", self.bytes.escape_ascii()),
        }
    }
}

/// The folder that [`put`] writes to.
pub const FOLDER: &str = "memory:/t";

/// Puts files into the memory store of a run.
pub async fn put(ctx: &JobContext, files: &[File]) {
    let (store, _) = ctx.stores().open(&Location::from(FOLDER)).unwrap();
    for file in files {
        // The folder's name verbatim, including escapes.
        let path = object_store::path::Path::parse(format!("t/{}", file.path)).unwrap();
        store.objects.put(&path, file.bytes.clone().into()).await.unwrap();
    }
}
