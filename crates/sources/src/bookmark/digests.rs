//! Which files were read, in sixteen bytes each.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use object_store::ObjectMeta;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use twox_hash::XxHash3_128;

/// The bytes of a digest. Among ten million files, the chance that a new one is taken for one that was read is below
/// 10⁻¹⁴. Twelve bytes are sixteen characters in base 64.
const BYTES: usize = 12;

/// The digest of a version of a file.
type Digest = [u8; BYTES];

/// A set of versions of files: of their paths, times, sizes and ETags. Stored as a text in base 64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Digests(Vec<Digest>);

impl Digests {
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a (String, ObjectMeta)>) -> Self {
        let mut all: Vec<Digest> = files.map(|(key, meta)| digest(key, meta)).collect();
        all.sort_unstable();
        Self(all)
    }

    pub(super) fn has(&self, key: &str, meta: &ObjectMeta) -> bool {
        !self.0.is_empty() && self.0.binary_search(&digest(key, meta)).is_ok()
    }
}

fn digest(key: &str, meta: &ObjectMeta) -> Digest {
    let time = meta.last_modified.timestamp_nanos_opt().unwrap_or_else(|| meta.last_modified.timestamp_micros());
    let mut text = Vec::with_capacity(key.len() + 64);
    text.extend_from_slice(key.as_bytes());
    // A path contains no zero byte.
    text.push(0);
    text.extend_from_slice(&time.to_le_bytes());
    text.extend_from_slice(&meta.size.to_le_bytes());
    text.extend_from_slice(meta.e_tag.as_deref().unwrap_or_default().as_bytes());
    let hash = XxHash3_128::oneshot(&text).to_le_bytes();
    let mut digest = [0; BYTES];
    digest.copy_from_slice(&hash[..BYTES]);
    digest
}

impl Serialize for Digests {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0.as_flattened()))
    }
}

impl<'de> Deserialize<'de> for Digests {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        let (digests, rest) = bytes.as_chunks::<BYTES>();
        if !rest.is_empty() {
            return Err(D::Error::custom("the files that were seen are cut off"));
        }
        let mut digests = digests.to_vec();
        digests.sort_unstable();
        Ok(Self(digests))
    }
}
