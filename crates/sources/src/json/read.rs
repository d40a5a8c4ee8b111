//! Reads rows by their marks: each value once, into its column if there is one.
//!
//! The positions of quotes, brackets, colons and commas are [known](super::rows::Marks), so a value that no column takes
//! is stepped over. It must be well-formed nevertheless, and its objects must not have a key twice.

use std::borrow::Cow;

use super::columns::{Column, Kind, List, Map, Span, Struct};
use super::keys::{Key, OpenKeys};
use super::rows::Marks;

/// A row that cannot be read. Whoever explains the fault to a person reads the row again; this is for faults that are
/// found nowhere else.
#[derive(Debug, PartialEq)]
pub(super) struct Bad {
    pub(super) at: usize,
    pub(super) why: &'static str,
}

type Read<T> = Result<T, Bad>;

/// How many names of objects that no column takes have their keys remembered in a block, and to which depth.
const MAX_REMEMBERED_OBJECTS: usize = 256;
const MAX_REMEMBERED_DEPTH: usize = 8;

const NO_FIT: &str = "a value does not fit its column";

/// Reads values one after another.
pub(super) struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    structure: &'a [u32],
    /// The next mark.
    next: usize,
    /// The backslashes that have not been passed, and the first of them.
    backslashes: &'a [u32],
    backslash: usize,
    /// The keys of the open objects that are not remembered.
    keys: OpenKeys<'a>,
    /// The open lists and objects of a value that is stepped over: for an object, where its keys begin.
    open: Vec<Option<usize>>,
    /// The number of open objects that no column takes and whose keys are remembered.
    skipped_depth: usize,
    /// How many more names of such objects can be remembered.
    skipped_left: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, marks: &'a Marks) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            structure: &marks.structure,
            next: 0,
            backslashes: &marks.backslashes,
            backslash: 0,
            keys: OpenKeys::default(),
            open: Vec::new(),
            skipped_depth: 0,
            skipped_left: MAX_REMEMBERED_OBJECTS,
        }
    }

    /// Reads the next row.
    pub(super) fn row(&mut self, columns: &mut Struct) -> Read<()> {
        let (open, _) = self.mark()?;
        self.object(open, columns).map(drop)
    }

    /// The next mark: where it is, and which.
    #[inline]
    fn peek(&self) -> Read<(usize, u8)> {
        match self.structure.get(self.next) {
            Some(at) => Ok((*at as usize, self.bytes[*at as usize])),
            None => Err(Bad { at: self.text.len(), why: "the row is not complete" }),
        }
    }

    #[inline]
    fn mark(&mut self) -> Read<(usize, u8)> {
        let mark = self.peek()?;
        self.next += 1;
        Ok(mark)
    }

    /// Where something other than a blank is, from here on.
    #[inline]
    fn after_blanks(&self, mut from: usize) -> usize {
        while self.bytes.get(from).is_some_and(|byte| is_blank(*byte)) {
            from += 1;
        }
        from
    }

    /// Checks that there is nothing in between.
    #[inline]
    fn blank(&self, from: usize, to: usize) -> Read<()> {
        if from == to || self.bytes[from..to].iter().all(|byte| is_blank(*byte)) {
            return Ok(());
        }
        Err(Bad { at: from, why: "there is something between two values" })
    }

    /// The string that opens at this mark, which was taken: its content, and whether it has escapes.
    #[inline]
    fn string(&mut self, open: usize) -> Read<(usize, usize, bool)> {
        let (close, _) = self.mark()?;
        let escaped = self.backslash < close && self.is_escaped(open, close)?;
        Ok((open + 1, close, escaped))
    }

    /// Whether there is a backslash between these two quotes.
    fn is_escaped(&mut self, open: usize, close: usize) -> Read<bool> {
        let passed = self.backslashes.iter().take_while(|at| (**at as usize) < open).count();
        self.backslashes = &self.backslashes[passed..];
        self.backslash = self.backslashes.first().map_or(usize::MAX, |at| *at as usize);
        let escaped = self.backslash < close;
        if escaped && !has_characters(&self.text[open + 1..close]) {
            return Err(Bad { at: open, why: "an escape in this text is not a character" });
        }
        Ok(escaped)
    }

    /// The key after a brace or a comma, and where its value may begin; or, of an empty object, the end.
    #[inline]
    fn key(&mut self, from: usize, first: bool) -> Read<Result<(Key<'a>, usize), usize>> {
        let (at, byte) = self.mark()?;
        self.blank(from, at)?;
        if byte == b'}' && first {
            return Ok(Err(at + 1));
        }
        if byte != b'"' {
            return Err(Bad { at, why: "an object must have keys" });
        }
        let (start, end, escaped) = self.string(at)?;
        let (colon, byte) = self.mark()?;
        self.blank(end + 1, colon)?;
        if byte != b':' {
            return Err(Bad { at: colon, why: "a key must have a value" });
        }
        Ok(Ok((Key { start, text: &self.text[start..end], escaped }, colon + 1)))
    }

    /// What follows a value in an object or a list: where that is, and whether there is another value.
    #[inline]
    fn after(&mut self, end: usize, close: u8) -> Read<(usize, bool)> {
        let (at, byte) = self.mark()?;
        self.blank(end, at)?;
        match byte {
            b',' => Ok((at + 1, true)),
            byte if byte == close => Ok((at + 1, false)),
            _ => Err(Bad { at, why: "a comma or a bracket is missing" }),
        }
    }

    /// Reads the object that opens at this mark, which was taken; returns its end.
    fn object(&mut self, open: usize, columns: &mut Struct) -> Read<usize> {
        columns.begin();
        let outer = self.keys.open();
        let (mut from, mut first) = (open + 1, true);
        let end = loop {
            let start = self.after_blanks(from);
            let (name, value) = match columns.expected(self.bytes, start)? {
                Some((bytes, name)) => {
                    // Two quotes and a colon
                    self.next += 3;
                    (Some(name), start + bytes)
                }
                None => match self.key(from, first)? {
                    Ok((key, value)) => (columns.name(&key, &mut self.keys)?, value),
                    Err(end) => break end,
                },
            };
            first = false;
            let value = self.after_blanks(value);
            let end = match (columns.column(name), self.plain(value)) {
                (Some(Column::Leaf(leaves)), Some(text)) => {
                    if !leaves.push(text) {
                        return Err(Bad { at: value, why: NO_FIT });
                    }
                    text.end as usize + 1
                }
                (None, Some(text)) => text.end as usize + 1,
                (Some(_), Some(_)) => return Err(Bad { at: value, why: NO_FIT }),
                (Some(column), None) => self.value(value, column)?,
                (None, None) => match self.peek()? {
                    (at, b'{') => {
                        let remembered = columns.skipped(name, &mut self.skipped_left);
                        self.skip_object(value, at, remembered)?
                    }
                    (_, b'[') => self.skip(value)?,
                    _ => self.leaf(value)?.0,
                },
            };
            match self.after(end, b'}')? {
                (at, true) => from = at,
                (at, false) => break at,
            }
        };
        self.keys.close(outer)?;
        columns.end();
        Ok(end)
    }

    /// Steps over the object that opens at the next mark. Its keys are expected as those of a column are, but only to some
    /// depth: a value that no column takes may be nested deeper than the stack allows.
    fn skip_object(&mut self, from: usize, open: usize, remembered: Option<&mut Struct>) -> Read<usize> {
        let Some(remembered) = remembered.filter(|_| self.skipped_depth < MAX_REMEMBERED_DEPTH) else {
            return self.skip(from);
        };
        self.next += 1;
        self.blank(from, open)?;
        self.skipped_depth += 1;
        let end = self.object(open, remembered)?;
        self.skipped_depth -= 1;
        Ok(end)
    }

    /// Gives each key of the object that opens at this mark, and where its value may begin, to what reads the value and
    /// returns its end; returns the end of the object.
    #[inline]
    fn members(&mut self, open: usize, mut read: impl FnMut(&mut Self, Key<'a>, usize) -> Read<usize>) -> Read<usize> {
        let outer = self.keys.open();
        let (mut from, mut first) = (open + 1, true);
        let end = loop {
            let (key, value) = match self.key(from, first)? {
                Ok(key) => key,
                Err(end) => break end,
            };
            first = false;
            let end = read(self, key, value)?;
            match self.after(end, b'}')? {
                (at, true) => from = at,
                (at, false) => break at,
            }
        };
        self.keys.close(outer)?;
        Ok(end)
    }

    /// Takes a string without escapes, if one begins exactly here.
    #[inline]
    fn plain(&mut self, from: usize) -> Option<Span> {
        let [open, close, ..] = *self.structure.get(self.next..)? else { return None };
        if open as usize != from || self.bytes[from] != b'"' || self.backslash < close as usize {
            return None;
        }
        self.next += 2;
        Some(Span { start: open + 1, end: close, kind: Kind::Text })
    }

    /// Reads a value into its column, and returns its end.
    fn value(&mut self, from: usize, column: &mut Column) -> Read<usize> {
        let (at, byte) = self.peek()?;
        let nested = matches!(byte, b'{' | b'[');
        let wrong = Bad { at: from, why: NO_FIT };
        match column {
            Column::Leaf(leaves) => {
                if nested {
                    let end = self.skip(from)?;
                    let span = Span { start: at as u32, end: end as u32, kind: Kind::Nested };
                    return if leaves.push(span) { Ok(end) } else { Err(wrong) };
                }
                let (end, leaf) = self.leaf(from)?;
                if leaves.push(leaf) { Ok(end) } else { Err(wrong) }
            }
            _ if !nested => match self.leaf(from)? {
                (end, Span { kind: Kind::Null, .. }) => {
                    column.push_null();
                    Ok(end)
                }
                _ => Err(wrong),
            },
            column => {
                self.next += 1;
                self.blank(from, at)?;
                match (column, byte) {
                    (Column::Struct(columns), b'{') => self.object(at, columns),
                    (Column::Map(map), b'{') => self.map(at, map),
                    (Column::List(list), b'[') => self.list(at, list),
                    _ => Err(wrong),
                }
            }
        }
    }

    fn map(&mut self, open: usize, map: &mut Map) -> Read<usize> {
        let end = self.members(open, |reader, key, from| {
            reader.keys.add(&key, false)?;
            let kind = if key.escaped { Kind::Escaped } else { Kind::Text };
            let span = Span { start: key.start as u32, end: (key.start + key.text.len()) as u32, kind };
            if !map.keys.push(span) {
                return Err(Bad { at: key.start, why: "a key does not fit its column" });
            }
            reader.value(from, &mut map.values)
        })?;
        map.end();
        Ok(end)
    }

    fn list(&mut self, open: usize, list: &mut List) -> Read<usize> {
        let mut from = open + 1;
        let (at, byte) = self.peek()?;
        let end = if byte == b']' && self.blank(from, at).is_ok() {
            self.next += 1;
            at + 1
        } else {
            loop {
                let end = self.value(from, &mut list.items)?;
                match self.after(end, b']')? {
                    (at, true) => from = at,
                    (at, false) => break at,
                }
            }
        };
        if list.end() { Ok(end) } else { Err(Bad { at: open, why: "the list has another length" }) }
    }

    /// A value without parts, and its end.
    #[inline]
    fn leaf(&mut self, from: usize) -> Read<(usize, Span)> {
        let (at, byte) = self.peek()?;
        if byte == b'"' {
            self.next += 1;
            self.blank(from, at)?;
            let (start, end, escaped) = self.string(at)?;
            let kind = if escaped { Kind::Escaped } else { Kind::Text };
            return Ok((end + 1, Span { start: start as u32, end: end as u32, kind }));
        }
        let (mut start, mut end) = (from, at);
        while start < end && is_blank(self.bytes[start]) {
            start += 1;
        }
        while start < end && is_blank(self.bytes[end - 1]) {
            end -= 1;
        }
        let kind = match &self.bytes[start..end] {
            number if is_number(number) => Kind::Number,
            b"null" => Kind::Null,
            b"true" => Kind::True,
            b"false" => Kind::False,
            _ => return Err(Bad { at: start, why: "this is not a value" }),
        };
        Ok((end, Span { start: start as u32, end: end as u32, kind }))
    }

    /// Steps over a value, and returns its end.
    fn skip(&mut self, from: usize) -> Read<usize> {
        let outer = self.open.len();
        let mut from = from;
        loop {
            // A value begins here.
            let (at, byte) = self.peek()?;
            let mut end = match byte {
                b'{' => {
                    self.next += 1;
                    self.blank(from, at)?;
                    let keys = self.keys.open();
                    match self.skipped_key(at + 1, true)? {
                        Ok(colon) => {
                            self.open.push(Some(keys));
                            from = colon;
                            continue;
                        }
                        Err(end) => {
                            self.keys.close(keys)?;
                            end
                        }
                    }
                }
                b'[' => {
                    self.next += 1;
                    self.blank(from, at)?;
                    match self.peek()? {
                        (close, b']') if self.blank(at + 1, close).is_ok() => {
                            self.next += 1;
                            close + 1
                        }
                        _ => {
                            self.open.push(None);
                            from = at + 1;
                            continue;
                        }
                    }
                }
                _ => self.leaf(from)?.0,
            };
            // A value ended; so may have what it is in.
            loop {
                if self.open.len() == outer {
                    return Ok(end);
                }
                let keys = self.open.last().copied().flatten();
                match self.after(end, if keys.is_some() { b'}' } else { b']' })? {
                    (at, true) => {
                        from = match keys {
                            None => at,
                            Some(_) => match self.skipped_key(at, false)? {
                                Ok(colon) => colon,
                                Err(at) => return Err(Bad { at, why: "an object must have keys" }),
                            },
                        };
                        break;
                    }
                    (at, false) => {
                        if let Some(keys) = keys {
                            self.keys.close(keys)?;
                        }
                        self.open.pop();
                        end = at;
                    }
                }
            }
        }
    }

    fn skipped_key(&mut self, from: usize, first: bool) -> Read<Result<usize, usize>> {
        Ok(match self.key(from, first)? {
            Ok((key, colon)) => {
                self.keys.add(&key, false)?;
                Ok(colon)
            }
            Err(end) => Err(end),
        })
    }
}

#[inline]
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Whether this is a number by RFC 8259.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let [b'.', fraction @ ..] = rest {
        match digits(fraction) {
            0 => return false,
            n => rest = &fraction[n..],
        }
    }
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => {
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        _ => false,
    }
}

/// Whether each escape of a string is a character.
fn has_characters(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr(b'\\', rest) {
        match rest.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => rest = &rest[at + 2..],
            _ => return unescaped(text).is_some(),
        }
    }
    true
}

/// The characters of a string with escapes. `None` if one of them is not a character.
pub(super) fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        made.push_str(&rest[..at]);
        let escape = *rest.as_bytes().get(at + 1)?;
        rest = &rest[at..];
        let (character, bytes) = match escape {
            b'"' | b'\\' | b'/' => (char::from(escape), 2),
            b'b' => ('\u{8}', 2),
            b'f' => ('\u{c}', 2),
            b'n' => ('\n', 2),
            b'r' => ('\r', 2),
            b't' => ('\t', 2),
            b'u' => {
                let unit = unit(rest)?;
                // A character beyond U+FFFF is a pair.
                let low = rest.get(6..).filter(|_| (0xD800..0xDC00).contains(&unit)).and_then(self::unit);
                let character = char::decode_utf16([unit].into_iter().chain(low)).next()?.ok()?;
                (character, if low.is_some() { 12 } else { 6 })
            }
            _ => return None,
        };
        made.push(character);
        rest = &rest[bytes..];
    }
    if made.is_empty() {
        return Some(Cow::Borrowed(rest));
    }
    made.push_str(rest);
    Some(Cow::Owned(made))
}

/// The unit of UTF-16 whose escape is at the start.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a", Some("a"))]
    #[case(r#"\"\\\/\b\f\n\r\t"#, Some("\"\\/\u{8}\u{c}\n\r\t"))]
    #[case(r"a\u00fcb\u4e2d", Some("aüb中"))]
    // U+20BB7 is in Japanese names, U+1F600 is a face.
    #[case(r"\ud842\udfb7\u91ce \ud83d\ude00", Some("\u{20bb7}\u{91ce} \u{1f600}"))]
    #[case(r"\udbff\udfff", Some("\u{10ffff}"))]
    #[case(r"\\ud842", Some("\\ud842"))]
    #[case(r"\ud842", None)]
    #[case(r"\ud842\u0041", None)]
    #[case(r"\udfb7\ud842", None)]
    #[case(r"\ud842 \udfb7", None)]
    #[case(r"\ud842\udfb", None)]
    #[case(r"\u00f", None)]
    #[case(r"\u+0fc", None)]
    #[case(r"\uüü", None)]
    #[case(r"\x", None)]
    #[case(r"\", None)]
    fn escapes_are_characters(#[case] text: &str, #[case] wanted: Option<&str>) {
        assert_eq!(unescaped(text).as_deref(), wanted);
    }

    proptest! {
        #[test]
        fn units_are_characters(text in any::<String>()) {
            let units: String = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            prop_assert_eq!(unescaped(&units).unwrap(), text);
        }

        #[test]
        fn a_text_with_escapes_is_what_serde_says(text in "(\\\\[u\"\\\\/bfnrtx]|[0-9a-fA-F]{4}|[dD][89a-fA-F]|ü){0,8}") {
            let wanted = serde_json::from_str::<String>(&format!("\"{text}\"")).ok();
            prop_assert_eq!(has_characters(&text), wanted.is_some());
            prop_assert_eq!(unescaped(&text).map(Cow::into_owned), wanted);
        }

        #[test]
        fn a_number_is_what_serde_says(text in "-?[0-9]{0,3}(\\.[0-9]{0,2})?([eE][+-]?[0-9]{0,2})?") {
            let wanted = serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok();
            prop_assert_eq!(is_number(text.as_bytes()), wanted);
        }
    }
}
