//! Versions of durable formats: a record that outlives its process declares its format.
//!
//! A record is a JSON object, and its field `format` is a small integer. A record without the field has format 0: it
//! was written before formats had numbers. The rules for changing a format:
//!
//! * A reader reads every older format. The golden files of each format stay in the tests.
//! * A reader refuses a newer format by name and number. It does not guess, and it repairs nothing.
//! * A format gets a new number if older readers would misread it. A field that older readers may ignore does not
//!   require a new format.
//! * The field `format` keeps its name and its place at the top level, whatever else changes.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A kind of durable record, and its newest format that this version supports.
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

/// The [detail](Error::with_detail) of an error that refuses a record of a newer format: its number. Repairs leave such
/// records alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewerFormat(pub u32);

/// A record together with its format, as written.
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
    /// Creates a format; errors call its records `record`.
    pub const fn new(record: &'static str, newest: u32) -> Self {
        Self { record, newest }
    }

    /// The name of these records in errors.
    pub fn record(self) -> &'static str {
        self.record
    }

    /// Adds the format's number to a record for serialisation. The record must serialise as an object.
    pub fn versioned<T>(self, record: &T) -> Versioned<'_, T> {
        Versioned { format: self.newest, record }
    }

    /// The number of the format in which this JSON object is written.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) with the detail [`NewerFormat`] if this version does not know the format;
    /// [`Unexpected`](crate::ErrorKind::Unexpected) if this is not a JSON object.
    pub fn check(self, json: &[u8]) -> Result<u32> {
        self.known(serde_json::from_slice(json))
    }

    /// Like [`Format::check`], for a parsed value.
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
