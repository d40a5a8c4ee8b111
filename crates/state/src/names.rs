//! Names of jobs and scopes as segments of keys.

use hardtack_core::{Error, Location, Result};

/// Encodes a name as one segment of a key. Names come from users: a slash must not create a folder, nor `..` leave one.
pub(crate) fn name(text: &str) -> String {
    if text.is_empty() {
        return "%;".to_owned();
    }
    text.chars().fold(String::new(), |mut encoded, c| {
        if c.is_alphanumeric() || matches!(c, '-' | '_') || (c == '.' && !encoded.is_empty()) {
            encoded.push(c);
        } else {
            encoded.push_str(&format!("%{:02X}", u32::from(c)));
            encoded.push(';');
        }
        encoded
    })
}

/// The inverse of [`name`].
pub(crate) fn decode_name(segment: &str) -> String {
    let mut text = String::new();
    let mut rest = segment;
    while let Some((plain, encoded)) = rest.split_once('%') {
        text.push_str(plain);
        let (hex, after) = encoded.split_once(';').unwrap_or((encoded, ""));
        text.extend(u32::from_str_radix(hex, 16).ok().and_then(char::from_u32));
        rest = after;
    }
    text + rest
}

/// The folder in the state location that keeps the refused rows of a job, or of a scope of it: a folder for each run, and
/// in it one for each sink.
pub fn refused_folder(state: &Location, job: &str, scope: Option<&str>) -> Location {
    let folder = state.join(name(job)).join("refused");
    scope.map_or(folder.clone(), |scope| folder.join(name(scope)))
}

/// The longest name of a file or folder that file systems support, in bytes.
const LONGEST_NAME: usize = 255;

/// Checks that a scope can be stored: it becomes the name of a folder.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it is empty, or too long for a file system.
///
/// ```
/// use hardtack_state::check_scope;
///
/// assert!(check_scope("2026-11-21").is_ok());
/// assert!(check_scope(&"x".repeat(260)).is_err());
/// ```
pub fn check_scope(scope: &str) -> Result<()> {
    let bytes = name(scope).len();
    match scope {
        "" => Err(Error::usage("a scope needs a name, for example `2026-11-21`")),
        _ if bytes > LONGEST_NAME => Err(Error::usage(format!(
            "a scope becomes the name of a folder, which can have at most {LONGEST_NAME} bytes, but this one has {bytes}; choose a shorter one, for example `2026-11-21`"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Names stay readable where possible.
    #[rstest]
    #[case("default", "default")]
    #[case("2026-11_v1.2", "2026-11_v1.2")]
    #[case("Größe", "Größe")]
    #[case("a b/c", "a%20;b%2F;c")]
    #[case("..", "%2E;.")]
    #[case("", "%;")]
    fn names_are_kept_where_they_can_be(#[case] text: &str, #[case] segment: &str) {
        assert_eq!(name(text), segment);
    }

    proptest! {
        #[test]
        fn any_name_is_one_segment_and_comes_back(text in any::<String>()) {
            let segment = name(&text);
            prop_assert!(!segment.contains('/') && segment != "." && segment != "..");
            prop_assert_eq!(decode_name(&segment), text);
        }
    }
}
