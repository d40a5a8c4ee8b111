//! Encodes records as JSON documents, and decodes them. Each declares its [`Format`]; records on which decisions depend
//! are sealed.

use bytes::Bytes;
use hardtack_core::format::Format;
use hardtack_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use twox_hash::XxHash3_64;

/// Encodes a record as stored.
pub(crate) fn encode<T: Serialize>(format: Format, record: &T) -> Result<Bytes> {
    to_json(&format.versioned(record))
}

/// Decodes a record of [`encode`] or of an earlier version.
pub(crate) fn decode<T: DeserializeOwned>(format: Format, key: &str, bytes: &[u8]) -> Result<T> {
    let decoded = format.check(bytes).and_then(|_| {
        serde_json::from_slice(bytes)
            .map_err(|e| Error::unexpected(format!("a {} does not parse", format.record())).because(e))
    });
    decoded.map_err(|e| e.with("object", key))
}

pub(crate) fn to_json<T: Serialize>(value: &T) -> Result<Bytes> {
    let text =
        serde_json::to_vec_pretty(value).map_err(|e| Error::unexpected("a record cannot be written").because(e))?;
    Ok(Bytes::from(text))
}

/// The text of a record before its hash, and after it.
const SEAL: (&str, &str) = (",\n  \"xxh3\": \"", "\"\n}");

/// Encodes a record as stored, with a hash of the preceding text as the last field. Executing a record moves and
/// deletes files, which cannot be undone, and a flipped bit may leave it well-formed.
pub(crate) fn seal<T: Serialize>(format: Format, record: &T) -> Result<Bytes> {
    let text = encode(format, record)?;
    let body = text.strip_suffix(b"\n}").unwrap_or(&text);
    let hash = format!("{:016x}", XxHash3_64::oneshot(&text));
    Ok(Bytes::from([body, SEAL.0.as_bytes(), hash.as_bytes(), SEAL.1.as_bytes()].concat()))
}

/// Decodes a record of [`seal`], or one of format 0, and returns whether it has a seal: the first versions wrote none.
/// The seal is not part of the format: it is checked first, so a flipped bit is damage and never a newer format.
pub(crate) fn unseal<T: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<(T, bool)> {
    let text = std::str::from_utf8(bytes).map_err(|e| damaged(format, "is damaged").because(e))?;
    let seal = text.strip_suffix(SEAL.1).and_then(|text| text.rsplit_once(SEAL.0));
    let is_sealed = seal.is_some();
    let text = match seal {
        None => text.to_owned(),
        Some((body, hash)) => {
            let text = format!("{body}\n}}");
            if format!("{:016x}", XxHash3_64::oneshot(text.as_bytes())) != hash {
                return Err(damaged(format, "has changed since it was written: its hash differs"));
            }
            text
        }
    };
    let does_not_parse = |e: serde_json::Error| damaged(format, "does not parse").because(e);
    // Text that is not JSON is damaged, whatever its format.
    serde_json::from_str::<serde::de::IgnoredAny>(&text).map_err(does_not_parse)?;
    if format.check(text.as_bytes())? > 0 && !is_sealed {
        return Err(without_seal(format));
    }
    Ok((serde_json::from_str(&text).map_err(does_not_parse)?, is_sealed))
}

/// The error for a record whose seal was removed.
pub(crate) fn without_seal(format: Format) -> Error {
    damaged(format, "has changed since it was written: its hash is missing")
}

/// The [detail](Error::with_detail) of an error for a damaged record.
#[derive(Debug)]
struct Damaged;

/// Whether an error means that a record is damaged: a retry does not help, and the record will never be executed.
pub(crate) fn is_damaged(error: &Error) -> bool {
    error.detail::<Damaged>().is_some()
}

fn damaged(format: Format, why: &str) -> Error {
    Error::unexpected(format!("a {} {why}; it is not executed", format.record()))
        .with_detail(Damaged)
        .hint("restore it as it was written, from a version or a copy of the state location")
}
