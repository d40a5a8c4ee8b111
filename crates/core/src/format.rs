//! Versions of durable formats: a record that outlives its process says how it is written.
//!
//! A record is a JSON object, and its field `format` is a small integer. A record without the field is of format 0: it was
//! written before formats had numbers. The rules for whoever changes a format:
//!
//! * A reader reads every older format. The golden files of each format stay in the tests.
//! * A reader refuses a newer format by name and number. It does not guess, and it repairs nothing.
//! * A format gets a new number when an older reader would misread it. A field that an older reader may ignore is no new
//!   format.
//! * The field `format` keeps its name and its place at the top level, whatever else changes.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A kind of durable record, and the newest format of it that this version reads and writes.
///
/// ```
/// use hardtack_core::format::{Format, NewerFormat};
///
/// const NOTE: Format = Format::new("note", 1);
///
/// let json = serde_json::to_string(&NOTE.versioned(&serde_json::json!({"text": "hello"}))).unwrap();
/// assert_eq!(json, r#"{"format":1,"text":"hello"}"#);
/// assert_eq!(NOTE.check(json.as_bytes()).unwrap(), 1);
/// assert_eq!(NOTE.check(br#"{"text":"hello"}"#).unwrap(), 0);
///
/// let newer = NOTE.check(br#"{"format":7}"#).unwrap_err();
/// assert_eq!(newer.detail::<NewerFormat>(), Some(&NewerFormat(7)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    record: &'static str,
    newest: u32,
}

/// The [detail](Error::with_detail) of an error that refuses a record of a newer format: the number that it has. Whoever
/// repairs records leaves such a record alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewerFormat(pub u32);

/// A record with its format, as it is written.
#[derive(Debug, Serialize)]
pub struct Versioned<'a, T> {
    format: u32,
    #[serde(flatten)]
    record: &'a T,
}

#[derive(Deserialize)]
struct Number {
    #[serde(default)]
    format: u32,
}

impl Format {
    /// The format of records that are called `record` in errors.
    pub const fn new(record: &'static str, newest: u32) -> Self {
        Self { record, newest }
    }

    /// What records of this format are called.
    pub fn record(self) -> &'static str {
        self.record
    }

    /// A record with the number of its format, to be serialised. The record must serialise as an object.
    pub fn versioned<T>(self, record: &T) -> Versioned<'_, T> {
        Versioned { format: self.newest, record }
    }

    /// The number of the format that this JSON object is written in.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) with the detail [`NewerFormat`] if this version does not know the format;
    /// [`Unexpected`](crate::ErrorKind::Unexpected) if this is no JSON object.
    pub fn check(self, json: &[u8]) -> Result<u32> {
        self.known(serde_json::from_slice(json))
    }

    /// As [`Format::check`], of a value that is parsed already.
    ///
    /// # Errors
    /// Those of [`Format::check`].
    pub fn check_value(self, json: &serde_json::Value) -> Result<u32> {
        self.known(Number::deserialize(json))
    }

    fn known(self, found: serde_json::Result<Number>) -> Result<u32> {
        let Self { record, newest } = self;
        match found {
            Ok(Number { format }) if format <= newest => Ok(format),
            Ok(Number { format }) => {
                let message = format!("a {record} has format {format}, and this version reads formats up to {newest}");
                Err(Error::usage(message)
                    .with_detail(NewerFormat(format))
                    .hint("upgrade hardtack: a newer version has written the record"))
            }
            Err(e) => Err(Error::unexpected(format!("a {record} does not parse")).because(e)),
        }
    }
}
