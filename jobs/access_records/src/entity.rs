//! What a call was about: the entity in its URL.

use memchr::memchr_iter;

/// The number after the first `/entity/` or `/entity/syn` that has one, in any case; `None` if it is larger than 63
/// bits.
pub(crate) fn entity_id(url: &str) -> Option<i64> {
    let url = url.as_bytes();
    // A slash is the same in any case, so only slashes are looked for.
    let digits = memchr_iter(b'/', url).find_map(|at| digits(strip(&url[at..], b"/entity/")?))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The digits with which a text begins, or follow `syn`; `None` without any.
fn digits(text: &[u8]) -> Option<&[u8]> {
    let text = strip(text, b"syn").unwrap_or(text);
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (count > 0).then(|| &text[..count])
}

/// What follows this beginning, in any case.
fn strip<'a>(text: &'a [u8], beginning: &[u8]) -> Option<&'a [u8]> {
    let (first, rest) = text.split_at_checked(beginning.len())?;
    first.eq_ignore_ascii_case(beginning).then_some(rest)
}
