//! Finds the rows of a JSON text, and the marks that structure them.

use std::ops::Range;

use wide::u8x16;

use crate::fault::Fault;
use crate::input::BOM;

/// This many bytes are examined at a time.
const STRETCH: usize = 64;

/// Finds the objects of a JSON text in any layout: one per line, several per line, pretty-printed over several lines,
/// in a top-level array, or all of that in one file. The text may come in pieces, and every byte is examined once, 64 at
/// a time: a bit mask for each kind of byte says where it occurs, and the parity of the quotes before a byte whether it
/// is in a string (as in simdjson).
#[derive(Debug, Default)]
pub(crate) struct RowScanner {
    /// The next byte to examine.
    at: usize,
    /// Outside of rows: the next byte whose meaning has not been checked, at most `at`.
    checked: usize,
    /// The number of open brackets.
    depth: u32,
    in_string: bool,
    escaped: bool,
    array: Array,
    /// The start of the open row.
    start: usize,
    rows: Vec<Range<usize>>,
    /// What structures the rows, if it is wanted.
    marks: Option<Marks>,
    /// The scan ended here.
    fault: Option<Fault>,
}

/// The bytes that structure the rows of a text.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// The offsets of brackets, colons and commas that are not in strings, and of the quotes around strings.
    pub(crate) structure: Vec<u32>,
    /// The offsets of backslashes.
    pub(crate) backslashes: Vec<u32>,
}

impl Marks {
    /// Its memory, in bytes.
    pub(super) fn kept_bytes(&self) -> usize {
        (self.structure.capacity() + self.backslashes.capacity()) * size_of::<u32>()
    }

    /// The same marks in a text without its first bytes.
    pub(super) fn before(mut self, bytes: usize) -> Self {
        let marks = self.structure.iter_mut().chain(&mut self.backslashes);
        marks.for_each(|mark| *mark -= bytes as u32);
        self
    }

    /// Takes the marks of the first bytes of the text; the others move to `spare`, which has room.
    fn take(&mut self, bytes: usize, spare: Self) -> Self {
        let take = |marks: &mut Vec<u32>, mut spare: Vec<u32>| {
            let rest = marks.partition_point(|mark| (*mark as usize) < bytes);
            spare.clear();
            // The next block will have as many.
            spare.reserve(marks.len());
            spare.extend(marks.drain(rest..).map(|mark| mark - bytes as u32));
            std::mem::replace(marks, spare)
        };
        Self {
            structure: take(&mut self.structure, spare.structure),
            backslashes: take(&mut self.backslashes, spare.backslashes),
        }
    }
}

/// What may follow at the top level.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Array {
    /// Not in a top-level array.
    #[default]
    Outside,
    /// After `[`: an element or `]`.
    Opened,
    /// After `,`: an element.
    Separated,
    /// After an element: `,` or `]`.
    Element,
    /// After damage in what may have been an array: anything.
    Recovered,
}

impl RowScanner {
    /// A scanner that keeps the marks of the rows.
    pub(crate) fn with_marks() -> Self {
        Self { marks: Some(Marks::default()), ..Self::default() }
    }

    /// Uses the memory of marks that nobody needs any more, before anything is scanned.
    pub(crate) fn use_marks(&mut self, mut marks: Marks) {
        marks.structure.clear();
        marks.backslashes.clear();
        self.marks = Some(marks);
    }

    /// The marks of what has not been consumed. Nothing must be scanned after this.
    pub(crate) fn take_marks(&mut self) -> Marks {
        self.marks.take().unwrap_or_default()
    }

    /// The complete rows that have not been consumed yet.
    pub(crate) fn rows(&self) -> &[Range<usize>] {
        &self.rows
    }

    /// Drops `bytes` at the front of the text and the `rows` in it. Returns their marks.
    pub(crate) fn consume(&mut self, bytes: usize, rows: usize) -> Marks {
        self.consume_into(bytes, rows, Marks::default())
    }

    /// The same, with the memory of marks that nobody needs any more for those of the next rows.
    pub(crate) fn consume_into(&mut self, bytes: usize, rows: usize, spare: Marks) -> Marks {
        self.rows.drain(..rows);
        self.rows.iter_mut().for_each(|row| *row = row.start - bytes..row.end - bytes);
        // After a fault it does not matter any more.
        self.at = self.at.saturating_sub(bytes);
        self.checked = self.checked.saturating_sub(bytes);
        self.start = self.start.saturating_sub(bytes);
        if let Some(fault) = &mut self.fault {
            fault.offset -= bytes;
        }
        self.marks.as_mut().map(|marks| marks.take(bytes, spare)).unwrap_or_default()
    }

    /// Whether the text ends within its first row.
    pub(super) fn is_within_first_row(&self) -> bool {
        self.depth > 0 && self.rows.is_empty()
    }

    /// Where a text begins to be broken that has this fault: with the open row, if there is one.
    pub(super) fn broken_from(&self, fault: &Fault) -> usize {
        if self.depth > 0 { self.start } else { fault.offset }
    }

    /// Whether it is between rows.
    pub(super) fn is_between_rows(&self) -> bool {
        self.depth == 0
    }

    /// Begins again with a row. If there was an array, it may go on or not: its bracket may have been part of the damage.
    pub(super) fn restart(&mut self) {
        let array = if self.array == Array::Outside { Array::Outside } else { Array::Recovered };
        let mut scanner = Self { array, ..Self::default() };
        if let Some(marks) = self.marks.take() {
            scanner.use_marks(marks);
        }
        *self = scanner;
    }

    /// How much of the text can be dropped once all complete rows are consumed.
    pub(crate) fn done(&self) -> usize {
        if self.depth > 0 { self.start } else { self.checked }
    }

    /// Scans the text that was added. After a fault it finds nothing more.
    pub(crate) fn scan(&mut self, text: &[u8]) -> Result<(), Fault> {
        self.scan_for(text, usize::MAX, usize::MAX)
    }

    /// Scans the text that was added, but not beyond this many rows, nor beyond this many bytes once there is a row.
    pub(crate) fn scan_for(&mut self, text: &[u8], rows: usize, bytes: usize) -> Result<(), Fault> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let scanned = self.scan_on(text, rows, bytes);
        self.fault = scanned.as_ref().err().cloned();
        scanned
    }

    fn scan_on(&mut self, text: &[u8], rows: usize, bytes: usize) -> Result<(), Fault> {
        if text.len() > u32::MAX as usize {
            return Err(Fault::new(self.start, "a row is longer than 4 GiB"));
        }
        while self.at < text.len() && self.rows.len() < rows && (self.at < bytes || self.rows.is_empty()) {
            self.stretch(text)?;
        }
        if self.depth == 0 && self.at == text.len() { self.between(text, text.len()) } else { Ok(()) }
    }

    /// The fault if the text ends here, if any.
    pub(crate) fn end(&self, text: &[u8]) -> Option<Fault> {
        if self.depth > 0 {
            let row = &text[self.start..];
            return Some(
                syntax_fault(row, self.start).unwrap_or_else(|| Fault::new(self.start, "an object is not closed")),
            );
        }
        match self.array {
            Array::Outside | Array::Recovered if self.checked < text.len() => {
                Some(no_row(&text[self.checked..], self.checked))
            }
            Array::Outside | Array::Recovered => None,
            _ => Some(Fault::new(text.len(), "the file ends within an array")),
        }
    }

    /// Examines the next 64 bytes.
    fn stretch(&mut self, text: &[u8]) -> Result<(), Fault> {
        let base = self.at;
        let rest = &text[base..];
        let bytes = rest.len().min(STRETCH);
        let found = match rest.first_chunk() {
            Some(stretch) => Found::in_bytes(stretch),
            None => {
                let mut stretch = [b' '; STRETCH];
                stretch[..bytes].copy_from_slice(rest);
                Found::in_bytes(&stretch)
            }
        };
        let mut quotes = found.quotes;
        if found.backslashes != 0 || self.escaped {
            quotes &= !escapes(found.backslashes, bytes, &mut self.escaped);
            if let Some(marks) = &mut self.marks {
                push(&mut marks.backslashes, base, found.backslashes);
            }
        }
        let inside = fill(quotes) ^ if self.in_string { u64::MAX } else { 0 };
        self.in_string = inside >> 63 == 1;
        let mut structure = quotes | (found.structure & !inside);
        let broken = found.line_ends & inside;
        if broken != 0 {
            // Only what comes before it counts.
            structure &= (broken & broken.wrapping_neg()) - 1;
        }
        let brackets = found.brackets & structure & !quotes;
        if self.depth > 0 && brackets == 0 {
            self.mark(base, structure);
        } else {
            self.rows_of(text, structure, brackets)?;
        }
        if broken != 0 {
            // Detected here, an unclosed quote is reported on its own line and does not swallow the file.
            let at = base + broken.trailing_zeros() as usize;
            let line = String::from_utf8_lossy(text[..at].rsplit(|b| *b == b'\n').next().unwrap_or_default());
            return Err(Fault::new(at - 1, "a line ends within a string").value(&line));
        }
        self.at = base + bytes;
        Ok(())
    }

    /// Keeps marks, if they are wanted.
    #[inline]
    fn mark(&mut self, base: usize, structure: u64) {
        if let Some(marks) = &mut self.marks {
            push(&mut marks.structure, base, structure);
        }
    }

    /// Follows the marks of a stretch in which a row may end or begin.
    fn rows_of(&mut self, text: &[u8], mut structure: u64, mut brackets: u64) -> Result<(), Fault> {
        let base = self.at;
        while structure != 0 {
            let mut last = structure.trailing_zeros();
            if self.depth == 0 {
                self.between(text, base + last as usize)?;
                self.top_level(text)?;
                if self.depth > 0 {
                    self.mark(base, 1 << last);
                }
            } else {
                // All marks of the row
                last = 63;
                while brackets != 0 {
                    let at = brackets.trailing_zeros();
                    brackets &= brackets - 1;
                    match text[base + at as usize] {
                        b'{' | b'[' => self.depth += 1,
                        _ => self.depth -= 1,
                    }
                    if self.depth == 0 {
                        last = at;
                        break;
                    }
                }
                self.mark(base, structure & (u64::MAX >> (63 - last)));
                if self.depth == 0 {
                    let end = base + last as usize + 1;
                    self.rows.push(self.start..end);
                    self.checked = end;
                    if !matches!(self.array, Array::Outside | Array::Recovered) {
                        self.array = Array::Element;
                    }
                }
            }
            let rest = !(u64::MAX >> (63 - last));
            structure &= rest;
            brackets &= rest;
        }
        Ok(())
    }

    /// Checks the bytes between rows up to a mark.
    fn between(&mut self, text: &[u8], end: usize) -> Result<(), Fault> {
        while self.checked < end && !is_cut_mark(&text[self.checked..]) {
            self.top_level(text)?;
        }
        Ok(())
    }

    fn top_level(&mut self, text: &[u8]) -> Result<(), Fault> {
        let at = self.checked;
        match (text[at], self.array) {
            (b' ' | b'\n' | b'\r' | b'\t', _) => {}
            (b'{', Array::Outside | Array::Opened | Array::Separated | Array::Recovered) => {
                self.start = at;
                self.depth = 1;
            }
            (b'[', Array::Outside) => self.array = Array::Opened,
            (b']', Array::Opened | Array::Element | Array::Recovered) => self.array = Array::Outside,
            (b',', Array::Recovered) => {}
            (b',', Array::Element) => self.array = Array::Separated,
            // Files that begin with a byte order mark may have been concatenated.
            (_, Array::Outside | Array::Recovered) if text[at..].starts_with(BOM) => self.checked += BOM.len() - 1,
            (_, Array::Element) => {
                return Err(Fault {
                    message: "a comma or the end of the array is missing".to_owned(),
                    ..no_row(&text[at..], at)
                });
            }
            _ => return Err(no_row(&text[at..], at)),
        }
        self.checked += 1;
        Ok(())
    }
}

/// Where bytes of a kind are among 64, as bits.
#[derive(Default)]
struct Found {
    quotes: u64,
    brackets: u64,
    /// Brackets, colons and commas.
    structure: u64,
    backslashes: u64,
    line_ends: u64,
}

impl Found {
    #[inline]
    fn in_bytes(stretch: &[u8; STRETCH]) -> Self {
        let (parts, _) = stretch.as_chunks::<16>();
        let mut found = Self::default();
        // Most stretches have none of these.
        let (mut backslashes, mut line_ends) = (u8x16::ZERO, u8x16::ZERO);
        for (i, part) in parts.iter().enumerate() {
            let bytes = u8x16::new(*part);
            let of = |found: u8x16| u64::from(found.to_bitmask()) << (16 * i);
            let is = |byte: u8| bytes.simd_eq(u8x16::splat(byte));
            // Square brackets and braces differ in this bit.
            let braces = bytes | u8x16::splat(0x20);
            let brackets = braces.simd_eq(u8x16::splat(b'{')) | braces.simd_eq(u8x16::splat(b'}'));
            found.quotes |= of(is(b'"'));
            found.brackets |= of(brackets);
            found.structure |= of(brackets | is(b':') | is(b','));
            backslashes |= is(b'\\');
            line_ends |= is(b'\n');
        }
        let bits = |of: u8x16, byte: u8| {
            let is = |found, (i, part): (usize, &[u8; 16])| {
                found | u64::from(u8x16::new(*part).simd_eq(u8x16::splat(byte)).to_bitmask()) << (16 * i)
            };
            if of.to_bitmask() == 0 { 0 } else { parts.iter().enumerate().fold(0, is) }
        };
        found.backslashes = bits(backslashes, b'\\');
        found.line_ends = bits(line_ends, b'\n');
        found
    }
}

/// Adds the positions of the bits.
#[inline]
fn push(to: &mut Vec<u32>, base: usize, mut bits: u64) {
    let end = to.len() + bits.count_ones() as usize;
    // Eight at a time, whether there are as many or not (those too many are dropped): the end of a loop over each bit is
    // mispredicted.
    while bits != 0 {
        let eight: [u32; 8] = std::array::from_fn(|_| {
            let at = (base as u32).wrapping_add(bits.trailing_zeros());
            bits &= bits.wrapping_sub(1);
            at
        });
        to.extend_from_slice(&eight);
    }
    to.truncate(end);
}

/// The bits after backslashes that are not escaped themselves. `escaped` says whether the bit before the first one is
/// such a backslash; it is updated for the last of the `bytes` bits.
fn escapes(backslashes: u64, bytes: usize, escaped: &mut bool) -> u64 {
    let mut found = u64::from(*escaped);
    let mut rest = backslashes & !found;
    *escaped = false;
    while rest != 0 {
        let bit = rest.trailing_zeros();
        rest &= rest - 1;
        if bit as usize + 1 == bytes {
            *escaped = true;
        } else {
            found |= 1 << (bit + 1);
            rest &= !found;
        }
    }
    found
}

/// Fills the bits from each odd set bit up to the next.
#[inline]
fn fill(mut bits: u64) -> u64 {
    for by in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << by;
    }
    bits
}

/// Whether the rest is the beginning of a byte order mark.
fn is_cut_mark(rest: &[u8]) -> bool {
    rest.len() < BOM.len() && BOM.starts_with(rest)
}

/// The fault of a text at `offset` that is not a row.
fn no_row(rest: &[u8], offset: usize) -> Fault {
    let end = rest.iter().position(|b| b",]\r\n".contains(b)).unwrap_or(rest.len()).max(1);
    Fault::new(offset, "a row of JSON must be an object").value(&String::from_utf8_lossy(&rest[..end]))
}

/// The syntax error in the JSON text `row` that starts at `offset`.
pub(crate) fn syntax_fault(row: &[u8], offset: usize) -> Option<Fault> {
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(row).err()?;
    let line_start = match error.line() {
        0 | 1 => 0,
        n => row.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(n - 2).map_or(0, |(i, _)| i + 1),
    };
    let at = (line_start + error.column().saturating_sub(1)).min(row.len());
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let line = String::from_utf8_lossy(row[line_start..].split(|b| *b == b'\n').next().unwrap_or_default());
    Some(Fault::new(offset + at, format!("this is not JSON: {text}")).value(&line))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The rows of a text read in pieces of `piece` bytes, consumed as they are found.
    fn scan(text: &str, piece: usize) -> Result<Vec<String>, Fault> {
        let (mut scanner, mut window, mut found) = (RowScanner::default(), Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(piece) {
            window.extend_from_slice(piece);
            scanner.scan(&window)?;
            let rows = scanner.rows().to_vec();
            found.extend(rows.iter().map(|r| String::from_utf8(window[r.clone()].to_vec()).unwrap()));
            let done = scanner.done();
            scanner.consume(done, rows.len());
            window.drain(..done);
        }
        match scanner.end(&window) {
            Some(fault) => Err(fault),
            // Consumed text is not kept.
            None if window.is_empty() => Ok(found),
            None => Err(Fault::new(0, "something is left over")),
        }
    }

    #[rstest]
    #[case("", &[])]
    #[case("{}", &["{}"])]
    #[case("\u{feff}{}\n{\"a\":1}\n", &["{}", "{\"a\":1}"])]
    #[case("{} {}{}", &["{}", "{}", "{}"])]
    #[case("[]", &[])]
    #[case("\u{feff}{}\u{feff}\u{feff}{\"a\":1}\n\u{feff}[{}]\u{feff}", &["{}", "{\"a\":1}", "{}"])]
    #[case("[{}, {\"a\":[1,{}]}]\n{}\n[{}]", &["{}", "{\"a\":[1,{}]}", "{}", "{}"])]
    #[case(r#"{"a":"}]\"\\"}{"b":"[{"}"#, &[r#"{"a":"}]\"\\"}"#, r#"{"b":"[{"}"#])]
    fn rows_are_found_in_every_layout(#[case] text: &str, #[case] rows: &[&str]) {
        for piece in 1..9 {
            assert_eq!(scan(text, piece).unwrap(), rows, "in pieces of {piece}");
        }
    }

    #[rstest]
    #[case("1", "a row of JSON must be an object")]
    #[case("[[{}]]", "a row of JSON must be an object")]
    #[case("[{} {}]", "a comma or the end of the array is missing")]
    #[case("[{},]", "a row of JSON must be an object")]
    #[case("[{}", "the file ends within an array")]
    #[case("[\u{feff}{}]", "a row of JSON must be an object")]
    #[case("{}\u{fefe}", "a row of JSON must be an object")]
    #[case("{}]", "a row of JSON must be an object")]
    #[case("{\"a\":\"x\n\"}", "a line ends within a string")]
    #[case("{\"a\":1", "this is not JSON: EOF while parsing an object")]
    #[case("{\"a\":1\n{\"a\":2}", "this is not JSON: expected `,` or `}`")]
    fn what_is_no_row_is_refused(#[case] text: &str, #[case] message: &str) {
        for piece in 1..9 {
            assert_eq!(scan(text, piece).unwrap_err().message, message, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_mark_that_is_cut_off_is_no_row() {
        let (text, mut scanner) = (b"{}\xef\xbb", RowScanner::default());
        scanner.scan(text).unwrap();
        let fault = scanner.end(text).unwrap();
        assert_eq!((fault.offset, fault.message.as_str()), (2, "a row of JSON must be an object"));
    }

    #[rstest]
    #[case("1", 0, Some("1"))]
    #[case("[{}, 2]", 5, Some("2"))]
    #[case("{} x, y", 3, Some("x"))]
    #[case("{}\nx\ny", 3, Some("x"))]
    #[case("[{} {}]", 4, Some("{}"))]
    #[case("{}]", 2, Some("]"))]
    #[case("[{}", 3, None)]
    #[case("{\"a\":\"x\n\"}", 6, Some("{\"a\":\"x"))]
    #[case("{}\n{\"a\":\"x\n\"}", 9, Some("{\"a\":\"x"))]
    #[case("{\"a\":1", 5, Some("{\"a\":1"))]
    #[case("{}\n{\"a\":1\n{\"a\":2}", 10, Some("{\"a\":2}"))]
    #[case("{\"a\":1,\n\"b\":2\n\"c\":{}", 14, Some("\"c\":{}"))]
    fn what_is_wrong_is_told_where_it_is(#[case] text: &str, #[case] offset: usize, #[case] value: Option<&str>) {
        let mut scanner = RowScanner::default();
        let fault = scanner.scan(text.as_bytes()).err().or_else(|| scanner.end(text.as_bytes())).unwrap();
        assert_eq!((fault.offset, fault.value.as_deref()), (offset, value), "{}", fault.message);
    }
}
