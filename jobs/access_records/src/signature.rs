//! What was called: a method and a URL, made comparable.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use percent_encoding::percent_decode_str;
use regex::Regex;

/// What stands for a URL that is not one of the API.
const INVALID_URL: &str = "INVALID URL";

/// Paths that are one call each, by how they begin and by what they contain. The first that applies counts.
const BEGINNINGS: [(&str, &str); 3] = [
    ("/entity/md5", "/entity/md5/#"),
    ("/evaluation/name", "/evaluation/name/#"),
    ("/entity/alias", "/entity/alias/#"),
];
static PARTS: LazyLock<[(Finder<'static>, &str); 2]> = LazyLock::new(|| {
    let of = |part, call| (Finder::new(part), call);
    [of("/access/", "/objects/#/access/#"), of("/schema/type/registered/", "/schema/type/registered/#")]
});

/// What paths of the API follow.
static VERSION: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("/v1/"));

/// Appends the URL made comparable: its path below `/v1`, with `#` in place of ids.
pub(crate) fn normalize_url(url: &str, to: &mut String) {
    let url = plain(url);
    let Some(at) = VERSION.find(url.as_bytes()) else { return to.push_str(INVALID_URL) };
    let path = &url[at + "/v1".len()..];
    if let Some((_, call)) = BEGINNINGS.iter().find(|(beginning, _)| path.starts_with(beginning)) {
        to.push_str(call);
    } else if path.starts_with("/2fa") {
        to.push_str(path);
    } else if path.starts_with("/user/bundle") {
        to.push_str("/user/bundle");
    } else if let Some((_, call)) = PARTS.iter().find(|(part, _)| part.find(path.as_bytes()).is_some()) {
        to.push_str(call);
    } else {
        for segment in path[1..].split('/') {
            to.push('/');
            normalize_segment(segment, to);
        }
    }
}

/// The URL in lower case, then decoded, without white space. What is decoded may be upper case: it came as a code.
fn plain(url: &str) -> Cow<'_, str> {
    let upper = url.bytes().any(|byte| byte.is_ascii_uppercase());
    let lower = match url.is_ascii() {
        true if !upper => Cow::Borrowed(url),
        true => Cow::Owned(url.to_ascii_lowercase()),
        false => Cow::Owned(url.to_lowercase()),
    };
    let decoded = match memchr::memchr(b'%', lower.as_bytes()) {
        None => lower,
        Some(_) => Cow::Owned(percent_decode_str(&lower).decode_utf8_lossy().into_owned()),
    };
    // Only these bytes are in white space: spaces and controls, and characters beyond ASCII.
    match decoded.bytes().any(|byte| byte <= b' ' || !byte.is_ascii()) {
        false => decoded,
        true => Cow::Owned(decoded.split_whitespace().collect()),
    }
}

/// Appends a segment of a path, or `#` if it is an id. What follows a `;` are parameters.
fn normalize_segment(segment: &str, to: &mut String) {
    let segment = &segment[..memchr::memchr(b';', segment.as_bytes()).unwrap_or(segment.len())];
    let start = to.len();
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    if segment.as_bytes().iter().all(is_word) {
        to.push_str(segment);
    } else if segment.is_ascii() {
        to.extend(segment.bytes().filter(is_word).map(char::from));
    } else {
        to.push_str(&NO_WORD.replace_all(segment, ""));
    }
    if is_id(&to[start..]) {
        to.truncate(start);
        to.push('#');
    }
}

/// Characters that are not part of words.
static NO_WORD: LazyLock<Regex> = LazyLock::new(|| pattern(r"[^\p{L}\p{N}_]+"));
/// Ids with digits of any script.
static ID: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(?:(?:syn|fh)\p{Nd}+$|\p{Nd})"));

/// A regular expression that is a constant of this job.
#[expect(clippy::unwrap_used, reason = "the patterns are constants, and tests use them")]
pub(crate) fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

/// Whether a segment without special characters is an id: `syn12`, `fh12`, or anything that begins with a digit.
fn is_id(segment: &str) -> bool {
    if !segment.is_ascii() {
        return ID.is_match(segment);
    }
    let digits = segment.strip_prefix("syn").or_else(|| segment.strip_prefix("fh"));
    segment.starts_with(|c: char| c.is_ascii_digit())
        || digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}
