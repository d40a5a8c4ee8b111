//! Finds the rows of a JSON text.

use std::ops::Range;

use crate::fault::Fault;
use crate::input::BOM;

/// Finds the objects of a JSON text in any layout: one per line, several per line, pretty-printed over several lines,
/// in a top-level array, or all of that in one file. The text may come in pieces, and every byte is examined once.
#[derive(Debug, Default)]
pub(crate) struct RowScanner {
    /// The next byte to examine.
    at: usize,
    /// The number of open brackets.
    depth: u32,
    in_string: bool,
    escaped: bool,
    array: Array,
    /// The start of the open row.
    start: usize,
    rows: Vec<Range<usize>>,
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
}

impl RowScanner {
    /// The complete rows that have not been consumed yet.
    pub(crate) fn rows(&self) -> &[Range<usize>] {
        &self.rows
    }

    /// Drops `bytes` at the front of the text and the `rows` in it.
    pub(crate) fn consume(&mut self, bytes: usize, rows: usize) {
        self.rows.drain(..rows);
        self.rows.iter_mut().for_each(|row| *row = row.start - bytes..row.end - bytes);
        self.at -= bytes;
        self.start = self.start.saturating_sub(bytes);
    }

    /// How much of the text can be dropped once all complete rows are consumed.
    pub(crate) fn done(&self) -> usize {
        if self.depth > 0 { self.start } else { self.at }
    }

    /// Scans the text that was added.
    pub(crate) fn scan(&mut self, text: &[u8]) -> Result<(), Fault> {
        while self.at < text.len() {
            if self.in_string {
                self.string(text)?;
            } else if self.depth > 0 {
                self.row(text);
            } else if is_cut_mark(&text[self.at..]) {
                break;
            } else {
                self.top_level(text)?;
            }
        }
        Ok(())
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
            Array::Outside if self.at < text.len() => Some(no_row(&text[self.at..], self.at)),
            Array::Outside => None,
            _ => Some(Fault::new(text.len(), "the file ends within an array")),
        }
    }

    fn top_level(&mut self, text: &[u8]) -> Result<(), Fault> {
        let byte = text[self.at];
        match (byte, self.array) {
            (b' ' | b'\n' | b'\r' | b'\t', _) => {}
            (b'{', Array::Outside | Array::Opened | Array::Separated) => {
                self.start = self.at;
                self.depth = 1;
            }
            (b'[', Array::Outside) => self.array = Array::Opened,
            (b']', Array::Opened | Array::Element) => self.array = Array::Outside,
            (b',', Array::Element) => self.array = Array::Separated,
            // Files that begin with a byte order mark may have been concatenated.
            (_, Array::Outside) if text[self.at..].starts_with(BOM) => self.at += BOM.len() - 1,
            (_, Array::Element) => {
                return Err(Fault {
                    message: "a comma or the end of the array is missing".to_owned(),
                    ..no_row(&text[self.at..], self.at)
                });
            }
            _ => return Err(no_row(&text[self.at..], self.at)),
        }
        self.at += 1;
        Ok(())
    }

    fn row(&mut self, text: &[u8]) {
        while let Some(byte) = text.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => {
                    self.in_string = true;
                    return;
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.rows.push(self.start..self.at);
                        if self.array != Array::Outside {
                            self.array = Array::Element;
                        }
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    fn string(&mut self, text: &[u8]) -> Result<(), Fault> {
        while let Some(byte) = text.get(self.at) {
            if self.escaped {
                self.escaped = false;
            } else {
                match byte {
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        self.at += 1;
                        return Ok(());
                    }
                    // Detected here, an unclosed quote is reported on its own line and does not swallow the file.
                    b'\n' => {
                        let line = text[..self.at].rsplit(|b| *b == b'\n').next().unwrap_or_default();
                        let line = String::from_utf8_lossy(line);
                        return Err(Fault::new(self.at - 1, "a line ends within a string").value(&line));
                    }
                    _ => {}
                }
            }
            self.at += 1;
        }
        Ok(())
    }
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
