//! CSV dialects, and splitting a text into records and fields.

use std::borrow::Cow;

use hardtack_core::{Error, Result as CoreResult};
use memchr::{memchr2, memchr3};

use super::ends::Ends;
use crate::fault::Fault;
use crate::input::BOM;

/// A CSV dialect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dialect {
    pub(crate) delimiter: u8,
    pub(crate) quote: Option<u8>,
    /// The escape character: makes the next byte literal, in quoted fields, or anywhere if nothing is quoted. A doubled
    /// quote in a quoted field is always a literal quote.
    pub(crate) escape: Option<u8>,
    pub(crate) null_text: Option<String>,
    /// The first byte of comment lines.
    pub(crate) comment: Option<u8>,
    /// The number of lines to skip before the header or first record.
    pub(crate) skipped: u32,
    pub(crate) header: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            delimiter: b',',
            quote: Some(b'"'),
            escape: None,
            null_text: None,
            comment: None,
            skipped: 0,
            header: true,
        }
    }
}

/// The position of a field in the text.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cell {
    /// The start of its content, without the quotes around it.
    start: u32,
    end: u32,
    quoted: bool,
    /// Whether it contains doubled quotes or escapes.
    escaped: bool,
}

impl Cell {
    /// The offset from which its line is determined.
    #[inline]
    pub(crate) fn offset(self) -> usize {
        self.start as usize
    }

    /// An upper bound of the length in bytes.
    #[inline]
    pub(crate) fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    /// The cell in a text that starts `by` bytes later.
    pub(crate) fn moved(self, by: usize) -> Self {
        let by = by as u32;
        Self { start: self.start - by, end: self.end - by, ..self }
    }

    /// Whether the field is quoted, so that an empty text is a value.
    #[inline]
    pub(crate) fn is_quoted(self) -> bool {
        self.quoted
    }

    /// The content.
    pub(crate) fn text<'a>(self, text: &'a str, dialect: &Dialect) -> Cow<'a, str> {
        let content = &text[self.start as usize..self.end as usize];
        if self.escaped { Cow::Owned(dialect.unescape(content)) } else { Cow::Borrowed(content) }
    }

    /// The content of a plain field: not empty, without escapes, and not the null text.
    #[inline]
    pub(crate) fn plain<'a>(self, text: &'a [u8], dialect: &Dialect) -> Option<&'a [u8]> {
        let plain = !self.escaped && self.start < self.end && dialect.null_text.is_none();
        plain.then(|| &text[self.start as usize..self.end as usize])
    }

    /// The raw content.
    pub(super) fn bytes(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }

    /// The content, or none if the field is null: an empty unquoted field, or the null text. If a null text is set, an
    /// empty field of a text column is an empty text. A quoted field is never null, except that an empty one is only a
    /// value in text columns.
    #[inline]
    pub(crate) fn value<'a>(self, text: &'a str, dialect: &Dialect, is_text: bool) -> Option<Cow<'a, str>> {
        // The common case.
        if !self.quoted && !self.escaped && dialect.null_text.is_none() {
            let content = &text[self.start as usize..self.end as usize];
            return (!content.is_empty()).then_some(Cow::Borrowed(content));
        }
        self.value_by_the_rules(text, dialect, is_text)
    }

    fn value_by_the_rules<'a>(self, text: &'a str, dialect: &Dialect, is_text: bool) -> Option<Cow<'a, str>> {
        let content = self.text(text, dialect);
        let null = match (&dialect.null_text, self.quoted) {
            // `\N` is null where `\` escapes, too.
            (Some(null), false) if text[self.start as usize..self.end as usize] == **null => true,
            (Some(_), _) | (None, true) => content.is_empty() && !is_text,
            (None, false) => content.is_empty(),
        };
        (!null).then_some(content)
    }
}

/// The result of splitting the front of a text.
#[derive(Debug, PartialEq)]
pub(crate) enum Record {
    /// A record with this many fields, which ends here.
    Fields(usize, usize),
    /// A blank line, which ends here.
    Blank(usize),
    /// The text ends before the record does.
    Partial,
}

impl Dialect {
    fn unescape(&self, content: &str) -> String {
        let (mut out, mut chars) = (String::with_capacity(content.len()), content.chars());
        let escapes = |c: char| [self.escape, self.quote].into_iter().flatten().any(|byte| char::from(byte) == c);
        while let Some(c) = chars.next() {
            out.push(if escapes(c) { chars.next().unwrap_or(c) } else { c });
        }
        out
    }

    /// Refuses delimiters, quotes and escapes that are not distinct.
    pub(crate) fn check(&self) -> CoreResult<()> {
        let escape = self.escape.filter(|escape| self.quote != Some(*escape));
        let all =
            [("delimiter", Some(self.delimiter)), ("quote", self.quote), ("escape", escape), ("comment", self.comment)];
        let used: Vec<(&str, u8)> = all.into_iter().filter_map(|(what, byte)| Some((what, byte?))).collect();
        for (i, (what, byte)) in used.iter().enumerate() {
            let shown = char::from(*byte).escape_debug();
            if !byte.is_ascii() || matches!(byte, b'\n' | b'\r') {
                return Err(Error::usage(format!("`{shown}` cannot be the {what} of a CSV file")));
            }
            if let Some((other, _)) = used[..i].iter().find(|(_, other)| other == byte) {
                return Err(Error::usage(format!("`{shown}` cannot be both the {other} and the {what} of a CSV file")));
            }
        }
        Ok(())
    }

    /// Where the header or first record starts: after a byte order mark, a line that declares the delimiter, and the
    /// skipped lines. None if that is not known yet.
    pub(crate) fn start(&self, text: &[u8], last: bool) -> Option<usize> {
        if !last && text.len() < BOM.len() {
            return None;
        }
        let mut at = if text.starts_with(BOM) { BOM.len() } else { 0 };
        // If the number of skipped lines is given, it is one of them.
        if self.skipped == 0
            && let Some((delimiter, end)) = said_delimiter(text, at, last)?
            && delimiter == self.delimiter
        {
            at = end;
        }
        for _ in 0..self.skipped {
            at = line_end(text, at, last)?;
        }
        Some(at)
    }

    /// The start of the record at `at` after byte order marks: several files that begin with one may have been
    /// concatenated, some of them otherwise empty.
    #[inline]
    fn behind_mark(&self, text: &[u8], mut at: usize) -> usize {
        while text.get(at) == Some(&BOM[0]) && text[at..].starts_with(BOM) {
            at += BOM.len();
        }
        at
    }

    #[inline]
    fn is_comment(&self, text: &[u8], at: usize) -> bool {
        self.comment.is_some() && text.get(at) == self.comment.as_ref()
    }

    /// The escape character outside quotes.
    fn plain_escape(&self) -> Option<u8> {
        self.escape.filter(|_| self.quote.is_none())
    }

    /// The unquoted field at `at`.
    #[inline]
    fn plain(&self, ends: &mut Ends<'_>, text: &[u8], at: usize) -> Cell {
        let is_end = |b: &u8| *b == self.delimiter || *b == b'\n' || *b == b'\r';
        // A text is read in windows of a few MiB.
        let cell = |end: usize, escaped| Cell { start: at as u32, end: end as u32, quoted: false, escaped };
        let Some(escape) = self.plain_escape() else {
            return cell(ends.next(at), false);
        };
        let (mut pos, mut escaped) = (at, false);
        while let Some(byte) = text.get(pos).filter(|b| !is_end(b)) {
            let escapes = *byte == escape && pos + 1 < text.len();
            escaped |= escapes;
            pos += 1 + usize::from(escapes);
        }
        cell(pos, escaped)
    }

    /// Splits the record at `at`; `field` is called with the index of each field and the field. Lines end with `\n`,
    /// `\r\n` or `\r`; line ends within quotes belong to the field. `last` means that no text follows.
    pub(crate) fn record(
        &self,
        text: &[u8],
        at: usize,
        last: bool,
        field: impl FnMut(usize, Cell),
    ) -> Result<Record, Fault> {
        self.next_record(&mut self.ends(text, at), text, at, last, field)
    }

    /// The bytes that may end an unquoted field, from `at` on.
    pub(crate) fn ends<'a>(&self, text: &'a [u8], at: usize) -> Ends<'a> {
        Ends::new(text, at, [self.delimiter, b'\n', b'\r'])
    }

    /// [`Dialect::record`] for consecutive records, with the precomputed `ends` of fields in the text.
    #[inline]
    pub(crate) fn next_record(
        &self,
        ends: &mut Ends<'_>,
        text: &[u8],
        at: usize,
        last: bool,
        mut field: impl FnMut(usize, Cell),
    ) -> Result<Record, Fault> {
        let (mut pos, mut index) = (self.behind_mark(text, at), 0);
        if self.is_comment(text, pos) {
            return Ok(line_end(text, pos, last).map_or(Record::Partial, Record::Blank));
        }
        loop {
            let cell = if self.quote.is_some() && text.get(pos) == self.quote.as_ref() {
                match self.quoted(text, pos, last)? {
                    None => return Ok(Record::Partial),
                    Some(cell) => cell,
                }
            } else {
                self.plain(ends, text, pos)
            };
            pos = cell.end as usize + usize::from(cell.is_quoted());
            let next = match (text.get(pos), text.get(pos + 1)) {
                (Some(b), _) if *b == self.delimiter => {
                    field(index, cell);
                    index += 1;
                    pos += 1;
                    continue;
                }
                (Some(b'\n'), _) => pos + 1,
                (Some(b'\r'), Some(b'\n')) => pos + 2,
                (Some(b'\r'), None) if !last => return Ok(Record::Partial),
                (Some(b'\r'), _) => pos + 1,
                (None, _) if !last => return Ok(Record::Partial),
                _ => pos,
            };
            if index == 0 && !cell.is_quoted() && cell.start == cell.end {
                return Ok(Record::Blank(next));
            }
            field(index, cell);
            return Ok(Record::Fields(index + 1, next));
        }
    }

    /// The quoted field at `at`, or none if it does not end within the text.
    fn quoted(&self, text: &[u8], at: usize, last: bool) -> Result<Option<Cell>, Fault> {
        let line =
            || String::from_utf8_lossy(text[at..].split(|b| *b == b'\n').next().unwrap_or_default()).into_owned();
        match self.closing(text, at) {
            None if last => Err(Fault::new(at, "a quote is not closed").value(&line()).hint(hint::QUOTE)),
            None => Ok(None),
            Some((end, escaped)) => match text.get(end + 1) {
                Some(b) if *b != self.delimiter && *b != b'\n' && *b != b'\r' => {
                    let why = "text follows a closing quote; a quote within a quoted field must be doubled";
                    let fault = Fault::new(end, why).value(&line());
                    let is_escaped = self.escape.is_none() && text[end - 1] == b'\\';
                    Err(match is_escaped {
                        true => fault.hint(hint::ESCAPE).may_be_escaped(),
                        false => fault.hint(hint::QUOTE),
                    })
                }
                _ => Ok(Some(Cell { start: (at + 1) as u32, end: end as u32, quoted: true, escaped })),
            },
        }
    }

    /// The quote that closes the one at `at`, and whether there are escapes before it. If it is the last byte of the
    /// text, the next byte may show that it is a doubled quote.
    fn closing(&self, text: &[u8], at: usize) -> Option<(usize, bool)> {
        let quote = self.quote?;
        let escape = self.escape.unwrap_or(quote);
        let (mut pos, mut escaped) = (at + 1, false);
        while let Some(found) = memchr2(quote, escape, text.get(pos..)?) {
            pos += found;
            if text[pos] == quote && text.get(pos + 1) != Some(&quote) {
                return Some((pos, escaped));
            }
            escaped = true;
            pos += 2;
        }
        None
    }

    /// The end of the record at `at`, if the text determines it. This is much less work than splitting it, with the
    /// same result for well-formed records.
    pub(crate) fn record_end(&self, text: &[u8], at: usize, last: bool) -> Option<usize> {
        let start = self.behind_mark(text, at);
        if self.is_comment(text, start) {
            return line_end(text, start, last);
        }
        let mut pos = start;
        let plain_escape = self.plain_escape();
        // If there are neither quotes nor escapes, it searches for a line end twice.
        let special = self.quote.or(plain_escape).unwrap_or(b'\n');
        while let Some(found) = memchr3(special, b'\n', b'\r', text.get(pos..)?) {
            pos += found;
            match (text[pos], text.get(pos + 1)) {
                (byte, next) if Some(byte) == plain_escape => pos += 1 + usize::from(next.is_some()),
                (b'\r', None) if !last => return None,
                (b'\r', Some(b'\n')) => return Some(pos + 2),
                (b'\n' | b'\r', _) => return Some(pos + 1),
                _ if pos == start || text[pos - 1] == self.delimiter => match self.closing(text, pos) {
                    Some((end, _)) => pos = end + 1,
                    None => break,
                },
                _ => pos += 1,
            }
        }
        (last && at < text.len()).then_some(text.len())
    }
}

/// Hints for files whose dialect differs from the declared one.
pub(crate) mod hint {
    /// The hint if this many lines before the records seem not to be rows.
    pub(crate) fn lines(lines: u32) -> String {
        let what = if lines == 1 { "the first line is" } else { "the first lines are" };
        format!("if {what} neither header nor row: `with_skip_lines({lines})`, `crawl --csv-skip-lines {lines}`")
    }

    /// The hint if fields seem to be separated by this byte.
    pub(crate) fn delimiter(other: u8) -> String {
        let other = char::from(other).escape_default();
        format!(
            "if this applies to all files: `with_delimiter(b'{other}')`, `crawl --csv-delimiter '{other}'`; otherwise rewrite \
             the file, or move it to a folder of its own"
        )
    }

    pub(crate) const COMMENT: &str =
        "if lines that begin with `#` are comments: `with_comment(b'#')`, `crawl --csv-comment '#'`";
    pub(crate) const ESCAPE: &str = r"if `\` escapes: `with_escape(b'\\')`, `crawl --csv-escape '\'`";
    pub(crate) const HEADER: &str =
        "give the file the header of the others, or read every first line as a row: `crawl --csv-header absent`";
    pub(crate) const NO_HEADER: &str =
        "remove the header of the file, or read every first line as a row: `crawl --csv-header absent`";
    pub(crate) const NO_HEADER_OF_TABLE: &str = "give the file the header that the others have; if no file has one, set \
         `skip.header.line.count` of the table to 0";
    pub(crate) const NAMES: &str = "rename one; if the line is a row: `without_header()`, `crawl --csv-header absent`; if it is neither: \
         `with_skip_lines(1)`, `crawl --csv-skip-lines 1`";
    pub(crate) const REPEATED: &str =
        "remove the line, or read every header as a row: `without_header()`, `crawl --csv-header absent`";
    pub(crate) const SKIPPED: &str =
        "give all files the same number of lines before the header, or leave out those with fewer: `crawl --exclude`";
    pub(crate) const EMPTY: &str = "declare a schema and use `or_empty()` if such a file has no rows";
    pub(crate) const QUOTE: &str = "if quotes are just characters: `with_quote(None)`, `crawl --csv-quote none`";
}

/// The delimiter that the line at `at` declares, and the end of that line, if it is a line like `sep=;`, as Excel reads
/// and writes it. None if the text does not determine that.
pub(super) fn said_delimiter(text: &[u8], at: usize, last: bool) -> Option<Option<(u8, usize)>> {
    let unknown = if last { Some(None) } else { None };
    let quotes = usize::from(text.get(at) == Some(&b'"'));
    let Some(said) = text.get(at + quotes..at + quotes + 5) else { return unknown };
    let (name, delimiter) = (&said[..4], said[4]);
    if !name.eq_ignore_ascii_case(b"sep=") || delimiter.is_ascii_alphanumeric() || b"\r\n\"".contains(&delimiter) {
        return Some(None);
    }
    let end = at + 2 * quotes + 5;
    if quotes == 1 && text.get(end - 1).is_some_and(|byte| *byte != b'"') {
        return Some(None);
    }
    match text.get(end) {
        Some(b'\r' | b'\n') => line_end(text, end, last).map(|end| Some((delimiter, end))),
        Some(_) => Some(None),
        None if last && text.len() == end => Some(Some((delimiter, end))),
        None => unknown,
    }
}

/// The end of the line at `at`, if the text determines it.
fn line_end(text: &[u8], at: usize, last: bool) -> Option<usize> {
    let found = memchr2(b'\n', b'\r', &text[at..]).map(|found| at + found);
    match (found, found.and_then(|found| text.get(found + 1))) {
        (Some(end), Some(b'\n')) if text[end] == b'\r' => Some(end + 2),
        (Some(end), None) if text[end] == b'\r' && !last => None,
        (Some(end), _) => Some(end + 1),
        (None, _) => last.then_some(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn split(dialect: &Dialect, text: &str) -> Result<Vec<Vec<Option<String>>>, Fault> {
        let (mut at, mut rows) = (0, Vec::new());
        while at < text.len() {
            let mut row = Vec::new();
            let record = dialect.record(text.as_bytes(), at, true, |_, cell| {
                row.push(cell.value(text, dialect, true).map(Cow::into_owned));
            })?;
            // The result is the same, however little of the following text is known.
            at = match record {
                Record::Fields(n, end) => {
                    assert_eq!(n, row.len());
                    rows.push(row);
                    end
                }
                Record::Blank(end) => end,
                Record::Partial => unreachable!("the text is whole"),
            };
        }
        Ok(rows)
    }

    #[rstest]
    #[case("a,b\n1,2", "a b|1 2")]
    #[case("a,b\r\n1,2\r\n", "a b|1 2")]
    #[case("a,b\r1,2\r", "a b|1 2")]
    #[case("a,\n,b\n\n,\n", "a ~|~ b|~ ~")]
    #[case("\"a,1\",\"\"\n", "a,1 ")]
    #[case("\"x\n\r\ny\"\n", "x\n\r\ny")]
    #[case("\"say \"\"hi\"\"\",5\" pipe\n", "say \"hi\" 5\" pipe")]
    #[case("ü,\u{1f600}\n", "ü \u{1f600}")]
    fn records_are_taken_apart(#[case] text: &str, #[case] rows: &str) {
        let found = split(&Dialect::default(), text).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|row| row.iter().map(|v| v.as_deref().unwrap_or("~")).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(shown.join("|"), rows);
    }

    #[test]
    fn escapes_and_null_texts() {
        let dialect = Dialect { escape: Some(b'\\'), null_text: Some("NULL".to_owned()), ..Dialect::default() };
        let row = split(&dialect, r#""a\"b\\c",NULL,"NULL","#).unwrap().remove(0);
        assert_eq!(row, [Some("a\"b\\c".to_owned()), None, Some("NULL".to_owned()), Some(String::new())]);
        let twice = Dialect { escape: Some(b'\\'), ..Dialect::default() };
        assert_eq!(split(&twice, r#""a""b\"""#).unwrap(), [[Some("a\"b\"".to_owned())]]);
        let unquoted = Dialect { quote: None, ..Dialect::default() };
        assert_eq!(split(&unquoted, "\"a,b\"").unwrap(), [[Some("\"a".to_owned()), Some("b\"".to_owned())]]);
    }

    #[test]
    fn where_nothing_is_quoted_escapes_are_for_all() {
        let hive =
            Dialect { quote: None, escape: Some(b'\\'), null_text: Some("\\N".to_owned()), ..Dialect::default() };
        let row = split(&hive, "a\\,b,\\\\N,\\N,,line\\\nend,c\\").unwrap().remove(0);
        let texts = ["a,b", "\\N", "~", "", "line\nend", "c\\"].map(|t| (t != "~").then(|| t.to_owned()));
        assert_eq!(row, texts);
        let without_null_text = Dialect { null_text: None, ..hive };
        let row = split(&without_null_text, "a\\,b,\\N,,c").unwrap().remove(0);
        assert_eq!(row, [Some("a,b"), Some("N"), None, Some("c")].map(|t| t.map(str::to_owned)));
    }

    #[rstest]
    #[case::comments("#a,\"b\n1,2\n #3,4\n\"#5\",6\n#\r\n7,#8\r#", "1 2| #3 4|#5 6|7 #8")]
    #[case::marks("\u{feff}1,2\n\u{feff}\"3\",4\n\u{feff}\n\u{feff}#5\n6,\u{feff}7\n", "1 2|3 4|6 \u{feff}7")]
    fn what_says_nothing_is_passed_over(#[case] text: &str, #[case] rows: &str) {
        let dialect = Dialect { comment: Some(b'#'), ..Dialect::default() };
        let found: Vec<String> = split(&dialect, text)
            .unwrap()
            .into_iter()
            .map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(found.join("|"), rows);
    }

    #[rstest]
    #[case(0, "a\nb", Some(0))]
    #[case(1, "\u{feff}a\nb", Some(5))]
    #[case(1, "a\rb", Some(2))]
    #[case(2, "a\r\nb\nc", Some(5))]
    #[case(3, "a\nb", Some(3))]
    #[case(0, "\u{feff}a", Some(3))]
    #[case(1, "a\n\nb", Some(2))]
    #[case(1, "a\r\nb", Some(3))]
    #[case(1, "a\n", Some(2))]
    #[case(1, "a\r", Some(2))]
    #[case(0, "sep=,\na", Some(6))]
    #[case(0, "\u{feff}\"SEP=,\"\r\na", Some(12))]
    #[case(0, "sep=,", Some(5))]
    #[case(0, "\"sep=,", Some(0))]
    #[case(0, "sep=,a", Some(0))]
    #[case(0, "\"sep=,a\"\n", Some(0))]
    #[case(0, "sep=;\na", Some(0))]
    #[case(0, "sep=", Some(0))]
    #[case(0, "step=,\n", Some(0))]
    #[case(1, "sep=,\na", Some(6))]
    fn lines_are_skipped_however_they_end(#[case] skipped: u32, #[case] text: &str, #[case] start: Option<usize>) {
        let dialect = Dialect { skipped, ..Dialect::default() };
        assert_eq!(dialect.start(text.as_bytes(), true), start);
        // The result does not depend on how much is known.
        for cut in 0..text.len() {
            let part = dialect.start(&text.as_bytes()[..cut], false);
            assert!(part.is_none() || part == start, "{cut}");
        }
    }

    #[test]
    fn bytes_must_be_told_apart() {
        let told = |dialect: Dialect| dialect.check().map_err(|e| e.to_string()).err().unwrap_or_default();
        let usual = Dialect::default();
        assert_eq!(told(usual.clone()), "");
        assert_eq!(told(Dialect { escape: Some(b'"'), ..usual.clone() }), "");
        assert_eq!(
            told(Dialect { quote: Some(b','), ..usual.clone() }),
            "`,` cannot be both the delimiter and the quote of a CSV file"
        );
        assert_eq!(
            told(Dialect { comment: Some(b'"'), ..usual.clone() }),
            "`\\\"` cannot be both the quote and the comment of a CSV file"
        );
        assert_eq!(told(Dialect { delimiter: b'\n', ..usual.clone() }), "`\\n` cannot be the delimiter of a CSV file");
        assert_eq!(told(Dialect { delimiter: 0xE9, ..usual }), "`\u{e9}` cannot be the delimiter of a CSV file");
    }

    #[rstest]
    #[case("\"a\"b,c\n", "text follows a closing quote; a quote within a quoted field must be doubled")]
    #[case("1,\"a\n2\n", "a quote is not closed")]
    fn bad_quotes_are_refused(#[case] text: &str, #[case] message: &str) {
        assert_eq!(split(&Dialect::default(), text).unwrap_err().message, message);
    }

    fn write(dialect: &Dialect, rows: &[Vec<String>]) -> String {
        let quote = |field: &String| {
            let quote = char::from(dialect.quote.unwrap());
            let escape = char::from(dialect.escape.unwrap_or(dialect.quote.unwrap()));
            let inside: String = field
                .chars()
                .flat_map(|c| (c == quote || c == escape).then_some(escape).into_iter().chain([c]))
                .collect();
            format!("{quote}{inside}{quote}")
        };
        let line = |row: &Vec<String>| row.iter().map(quote).collect::<Vec<_>>().join(",") + "\n";
        rows.iter().map(line).collect()
    }

    proptest! {
        #[test]
        fn quoted_fields_come_back(
            rows in prop::collection::vec(prop::collection::vec("[a\"\\\\,\r\nü']{0,6}", 1..4), 0..5),
            escape in prop::option::of(Just(b'\\')),
        ) {
            let dialect = Dialect { escape, ..Dialect::default() };
            let back = split(&dialect, &write(&dialect, &rows)).unwrap();
            let back: Vec<Vec<String>> = back.into_iter().map(|r| r.into_iter().flatten().collect()).collect();
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn a_record_does_not_depend_on_where_the_window_ends(
            text in "\u{feff}?[a\",\r\n#]{0,12}",
            cut in 0_usize..15,
            comment in prop::option::of(Just(b'#')),
        ) {
            let dialect = Dialect { comment, ..Dialect::default() };
            let whole = dialect.record(text.as_bytes(), 0, true, |_, _| {});
            let part = &text.as_bytes()[..cut.min(text.len())];
            match dialect.record(part, 0, false, |_, _| {}) {
                Ok(Record::Partial) => {}
                // A fault shows more of its line if more of it is available.
                Err(fault) => prop_assert_eq!(Some(fault.offset), whole.err().map(|f| f.offset)),
                found => prop_assert_eq!(found, whole),
            }
        }

        #[test]
        fn the_end_of_a_record_can_be_told_without_taking_it_apart(
            text in "\u{feff}?[a\"\\\\,\r\n#]{0,12}",
            escape in prop::option::of(Just(b'\\')),
            quote in prop::option::of(Just(b'"')),
            comment in prop::option::of(Just(b'#')),
            last in any::<bool>(),
        ) {
            let dialect = Dialect { escape, quote, comment, ..Dialect::default() };
            match dialect.record(text.as_bytes(), 0, last, |_, _| {}) {
                Ok(Record::Fields(_, end) | Record::Blank(end)) => {
                    prop_assert_eq!(dialect.record_end(text.as_bytes(), 0, last), (!text.is_empty()).then_some(end));
                }
                Ok(Record::Partial) => prop_assert_eq!(dialect.record_end(text.as_bytes(), 0, last), None),
                Err(_) => {}
            }
        }
    }
}
