//! Tables by name, over real files and catalogs.
#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]
