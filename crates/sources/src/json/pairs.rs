//! Characters beyond U+FFFF that are written as surrogate pairs of escapes.

use std::borrow::Cow;

use memchr::memmem;

/// The length of a pair of escapes.
const PAIR: usize = 12;

/// Replaces pairs of escapes for characters from U+20000 on by the characters themselves. Arrow's decoder (up to 58.4)
/// drops a bit of these pairs: `\ud842\udfb7` is U+20BB7, a character in Japanese names, and would be decoded as
/// U+10BB7.
pub(super) fn written_out(row: &[u8]) -> Cow<'_, [u8]> {
    let mut made = Vec::new();
    let mut copied = 0;
    for at in memmem::find_iter(row, br"\u") {
        let backslashes = row[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if at < copied || backslashes % 2 == 1 {
            continue;
        }
        if let Some(character) = pair(&row[at..]).filter(|character| *character >= '\u{20000}') {
            made.extend_from_slice(&row[copied..at]);
            made.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            copied = at + PAIR;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(row);
    }
    made.extend_from_slice(&row[copied..]);
    Cow::Owned(made)
}

/// The character of a pair of escapes at the start of a text.
fn pair(text: &[u8]) -> Option<char> {
    let (high, low) = text.get(..PAIR)?.split_at(PAIR / 2);
    let mut units = char::decode_utf16([unit(high)?, unit(low)?]);
    // Two characters are not a pair.
    units.next()?.ok().filter(|_| units.next().is_none())
}

fn unit(escape: &[u8]) -> Option<u16> {
    escape.strip_prefix(br"\u")?.iter().try_fold(0, |unit, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        Some(unit << 4 | digit as u16)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        r#"{"a":"\ud842\udfb7\u91ce\u5bb6","\uD840\uDC00":1}"#,
        "{\"a\":\"\u{20bb7}\\u91ce\\u5bb6\",\"\u{20000}\":1}"
    )]
    #[case(r#"["\udbff\udfff\ud87d\ude00"]"#, "[\"\u{10ffff}\u{2f600}\"]")]
    // Texts that Arrow's decoder reads correctly, or refuses.
    #[case(r#"["\ud83d\ude00","\ud83f\udfff","\u00fc"]"#, r#"["\ud83d\ude00","\ud83f\udfff","\u00fc"]"#)]
    #[case(
        r#"["\ud842","\ud842\u0041","\udfb7\ud842","\ud842 \udfb7","\ud842\udfb"]"#,
        r#"["\ud842","\ud842\u0041","\udfb7\ud842","\ud842 \udfb7","\ud842\udfb"]"#
    )]
    // An escaped backslash, followed by a word.
    #[case(r#"["\\ud842\udfb7","\\\ud842\udfb7"]"#, "[\"\\\\ud842\\udfb7\",\"\\\\\u{20bb7}\"]")]
    #[case(r#"["\ud842\\udfb7"]"#, r#"["\ud842\\udfb7"]"#)]
    #[case(r#"["\u"#, r#"["\u"#)]
    fn large_characters_are_written_out(#[case] row: &str, #[case] wanted: &str) {
        assert_eq!(String::from_utf8_lossy(&written_out(row.as_bytes())), wanted);
    }

    proptest! {
        #[test]
        fn a_text_means_what_it_did(text in any::<String>()) {
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            let row = format!("\"{units}\"");
            let written = written_out(row.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&written).unwrap(), text);
        }
    }
}
