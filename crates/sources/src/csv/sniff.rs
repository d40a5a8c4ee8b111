//! Detects the dialect of a CSV text from its first records.

use hardtack_core::{Location, Result};
use memchr::memmem;

use super::dialect::{Cell, Dialect, Record, said_delimiter};
use crate::input::{BOM, SourceFile, Step};

/// The delimiters to try.
pub(super) const DELIMITERS: [u8; 5] = [b',', b'\t', b';', b'|', 1];

/// The number of records examined for the dialect, and the number of bytes read for them.
const RECORDS: usize = 50;
pub(super) const BYTES: usize = 64 << 10;

/// The known part of a dialect; the rest is detected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CsvHints {
    /// Separates two fields.
    pub delimiter: Option<u8>,
    /// Encloses fields that contain a delimiter or a line end; `Some(None)` if nothing is quoted.
    pub quote: Option<Option<u8>>,
    /// Makes the next byte in a quoted field literal.
    pub escape: Option<u8>,
    /// The number of lines to skip at the start of each file, before the header.
    pub skip_lines: Option<u32>,
    /// Begins a comment line.
    pub comment: Option<u8>,
    /// Whether there is a header.
    pub header: Option<bool>,
}

/// The detected dialect of a text.
#[derive(Debug, PartialEq)]
pub(super) struct Sniffed {
    pub(super) dialect: Dialect,
    /// Another plausible delimiter.
    pub(super) rival: Option<u8>,
    /// The number of lines before the records that look like comments; they are skipped.
    pub(super) comments: u32,
    /// Whether the first line declares the delimiter.
    pub(super) said: bool,
}

impl CsvHints {
    /// The known values, with defaults for the rest.
    pub(super) fn dialect(&self) -> Dialect {
        let usual = Dialect::default();
        Dialect {
            delimiter: self.delimiter.unwrap_or(usual.delimiter),
            quote: self.quote.unwrap_or(usual.quote),
            escape: self.escape,
            comment: self.comment,
            skipped: self.skip_lines.unwrap_or_default(),
            ..usual
        }
    }

    /// Detects the dialect of a text from its front, or from all of it if it has `ended`.
    pub(super) fn sniff(&self, text: &[u8], ended: bool) -> Sniffed {
        let known = self.dialect();
        let at = if text.starts_with(BOM) { BOM.len() } else { 0 };
        let said = said_delimiter(text, at, ended).flatten().map(|(said, _)| said).filter(|_| known.skipped == 0);
        if let (None, Some(said)) = (self.delimiter, said.filter(|said| DELIMITERS.contains(said))) {
            return Self { delimiter: Some(said), ..*self }.sniff(text, ended);
        }
        let said = said == self.delimiter && said.is_some();
        let comments = match (self.skip_lines, self.comment) {
            (None, None) if !said => comment_lines(text, &known, ended),
            _ => 0,
        };
        let known = Dialect { skipped: known.skipped + comments, ..known };
        let plain = self.delimiters(&known, text, ended);
        // If quotes are escaped by backslashes, the text cannot be read without escapes. Conversely, a text may end
        // with a backslash, so reading without escapes is tried first.
        let is_escaped = |quote: u8| memmem::find(text, &[b'\\', quote]).is_some();
        let may_escape = self.escape.is_none() && known.quote.is_some_and(is_escaped);
        let (found, escape) = match plain {
            Some(found) if found.2 => (Some(found), None),
            found if may_escape => {
                let escaped = Dialect { escape: Some(b'\\'), ..known.clone() };
                match self.delimiters(&escaped, text, ended).filter(|found| found.2) {
                    Some(found) => (Some(found), escaped.escape),
                    None => (found, None),
                }
            }
            found => (found, None),
        };
        let found = found.or_else(|| Some((self.behind_lines(&known, text, ended)?, None, false)));
        let (delimiter, rival, _) = found.unwrap_or((known.delimiter, None, false));
        Sniffed { dialect: Dialect { delimiter, escape: escape.or(known.escape), ..known }, rival, comments, said }
    }

    /// The delimiter of a text, if it is not that of `dialect`.
    pub(super) fn other_delimiter(&self, dialect: &Dialect, text: &[u8], ended: bool) -> Option<u8> {
        let (delimiter, _, even) = self.delimiters(dialect, text, ended)?;
        let is_other = even && delimiter != dialect.delimiter;
        let fits = || Fields::of(dialect, text, ended).is_some_and(|fields| fields.width > 1 && fields.even);
        (is_other && !fits()).then_some(delimiter)
    }

    /// The delimiter of the records after lines of another kind. The reader refuses those lines and reports their
    /// number; taken as records, everything would be a single column.
    fn behind_lines(&self, known: &Dialect, text: &[u8], ended: bool) -> Option<u8> {
        let is_behind = |delimiter: &u8| {
            let dialect = Dialect { delimiter: *delimiter, ..known.clone() };
            let skipped = lines_before(&dialect, text, ended)?;
            Fields::of(&Dialect { skipped, ..dialect }, text, ended).filter(|behind| behind.records > 1)
        };
        let mut usable = DELIMITERS.into_iter().filter(|delimiter| Self::is_usable(known, *delimiter));
        usable.find(|delimiter| self.delimiter.is_none() && is_behind(delimiter).is_some())
    }

    /// Whether this delimiter is compatible with the known dialect.
    fn is_usable(known: &Dialect, delimiter: u8) -> bool {
        ![known.quote, known.escape, known.comment].contains(&Some(delimiter))
    }

    /// The delimiter, another plausible one, and whether all examined records have the same number of fields.
    fn delimiters(&self, known: &Dialect, text: &[u8], ended: bool) -> Option<(u8, Option<u8>, bool)> {
        if self.delimiter.is_some() {
            let fields = Fields::of(known, text, ended)?;
            return Some((known.delimiter, None, fields.even));
        }
        let usable = DELIMITERS.into_iter().filter(|delimiter| Self::is_usable(known, *delimiter));
        let candidates = usable.enumerate();
        let mut found: Vec<_> = candidates
            .filter_map(|(place, delimiter)| {
                let fields = Fields::of(&Dialect { delimiter, ..known.clone() }, text, ended)?;
                // A comma between digits may be part of a number.
                let is_sure = delimiter != b',' || !fields.between_digits;
                let rank = (fields.even, fields.numbers, is_sure, fields.width, std::cmp::Reverse(place));
                (fields.width > 1).then_some((rank, delimiter))
            })
            .collect();
        found.sort_unstable();
        let ((even, numbers, is_sure, ..), delimiter) = found.pop()?;
        let rival = found.pop().filter(|((other, n, sure, ..), _)| even && *other && (*n, *sure) == (numbers, is_sure));
        Some((delimiter, rival.map(|(_, delimiter)| delimiter), even))
    }
}

/// Detects the dialect of a file.
pub(super) async fn sniff(file: &SourceFile, hints: CsvHints) -> Result<Sniffed> {
    let mut found = None;
    let look = |text: &[u8], ended: bool| {
        if !ended && text.len() < BYTES {
            return Ok(Step { used: 0, made: None });
        }
        found = Some(hints.sniff(text, ended));
        Ok(Step { used: text.len(), made: Some(()) })
    };
    file.open_text().await?.next(look).await?;
    Ok(found.unwrap_or_else(|| hints.sniff(b"", true)))
}

impl Sniffed {
    /// Notes on the detected dialect of a file.
    pub(super) fn notes(&self, file: &Location) -> Vec<String> {
        let show = |byte: u8| char::from(byte).escape_default().to_string();
        let rival = self.rival.map(|rival| {
            let (this, rival) = (show(self.dialect.delimiter), show(rival));
            format!("the delimiter is taken to be `{this}`, but may be `{rival}`; use --csv-delimiter")
        });
        let said = self.said.then(|| {
            let delimiter = show(self.dialect.delimiter);
            format!(
                "the first line of {file}, `sep={delimiter}`, is skipped here, but Hive and Athena take it for the header or a row"
            )
        });
        let comments = (self.comments > 0).then(|| {
            let lines = if self.comments == 1 { "line" } else { "lines" };
            format!("{} comment {lines} at the start of {file}, and as many of every file, are skipped", self.comments)
        });
        rival.into_iter().chain(said).chain(comments).collect()
    }
}

/// Statistics of the first records of a text under one dialect.
struct Fields {
    /// The most frequent number of fields, whether all records have it, and the number of records.
    width: usize,
    even: bool,
    records: usize,
    /// The number of fields that look like numbers, dates or booleans, without the first record, which may be a header.
    numbers: usize,
    /// Whether every delimiter is between two digits.
    between_digits: bool,
}

impl Fields {
    /// None if the text cannot be read with this dialect.
    fn of(dialect: &Dialect, text: &[u8], ended: bool) -> Option<Self> {
        let mut at = dialect.start(text, ended)?;
        let (mut widths, mut plain, mut between_digits) = (Vec::new(), Vec::new(), true);
        let mut cells: Vec<Cell> = Vec::new();
        while at < text.len() && widths.len() < RECORDS {
            cells.clear();
            let start = at;
            match dialect.record(text, at, ended, |_, cell| cells.push(cell)).ok()? {
                Record::Fields(_, end) => at = end,
                Record::Blank(end) => {
                    at = end;
                    continue;
                }
                Record::Partial => break,
            }
            between_digits &= is_between_digits(&text[start..at], dialect.delimiter);
            // The first record may be a header, so it does not count if there are others.
            if widths.len() < 2 {
                plain = vec![true; cells.len()];
            }
            for (plain, cell) in plain.iter_mut().zip(&cells) {
                *plain &= cell.bytes(text).is_empty() || is_plain(cell.bytes(text));
            }
            widths.push(cells.len());
        }
        let of = |width: usize| widths.iter().filter(|w| **w == width).count();
        // Of two equally frequent widths the later one: lines before the records differ.
        let width = widths.iter().copied().rev().max_by_key(|width| of(*width))?;
        let even = of(width) == widths.len();
        // A few records may be broken, which the reader will report.
        (even || of(width) * 10 >= widths.len() * 7).then(|| {
            let numbers = plain.into_iter().filter(|plain| *plain).count();
            Self { width, even, records: widths.len(), numbers, between_digits }
        })
    }
}

/// Whether a field looks like a number, a date or a boolean in any country's notation.
fn is_plain(field: &[u8]) -> bool {
    let field = field.trim_ascii();
    let is_part = |b: &u8| b.is_ascii_digit() || b"+-.,:/ TtZz%eE".contains(b);
    (field.iter().all(is_part) && field.iter().any(u8::is_ascii_digit))
        || field.eq_ignore_ascii_case(b"true")
        || field.eq_ignore_ascii_case(b"false")
}

fn is_between_digits(record: &[u8], byte: u8) -> bool {
    let is_digit = |at: Option<usize>| at.and_then(|at| record.get(at)).is_some_and(u8::is_ascii_digit);
    memchr::memchr_iter(byte, record).all(|at| is_digit(at.checked_sub(1)) && is_digit(Some(at + 1)))
}

/// The number of lines at the start that begin with `#` and differ from the following records; otherwise they may be a
/// header that begins with `#`, or rows. Only if no number of lines to skip is given.
fn comment_lines(text: &[u8], known: &Dialect, ended: bool) -> u32 {
    let starts = |skipped: u32| Dialect { skipped, ..known.clone() }.start(text, ended);
    let is_comment = |at: usize| text.get(at) == Some(&b'#');
    let lines = (0..RECORDS as u32).take_while(|line| starts(*line).is_some_and(is_comment)).count() as u32;
    let (Some(last), Some(rest)) = (lines.checked_sub(1).and_then(starts), starts(lines)) else { return 0 };
    let like_records = |delimiter: u8| {
        let dialect = Dialect { delimiter, ..known.clone() };
        let behind = Fields::of(&dialect, &text[rest..], ended);
        // The last line is the possible header.
        behind.is_some_and(|behind| {
            Fields::of(&dialect, &text[last..rest], true).is_none_or(|line| line.width == behind.width)
        })
    };
    let is_table = |delimiter: u8| {
        let dialect = Dialect { delimiter, ..known.clone() };
        Fields::of(&dialect, &text[rest..], ended).is_some_and(|fields| fields.width > 1 && fields.even)
    };
    let tables: Vec<u8> = DELIMITERS.into_iter().filter(|d| is_table(*d)).collect();
    match tables.iter().any(|delimiter| like_records(*delimiter)) {
        _ if tables.is_empty() => 0,
        true => lines - 1,
        false => lines,
    }
}

/// The number of lines before the records, if all records have the same number of fields and the first line has not.
/// Lines that may be records themselves do not count.
pub(super) fn lines_before(dialect: &Dialect, text: &[u8], ended: bool) -> Option<u32> {
    let start = dialect.start(text, ended)?;
    let first = dialect.record(text, start, ended, |_, _| ()).ok()?;
    let behind = |skipped: &u32| {
        let dialect = Dialect { skipped: dialect.skipped + skipped, ..dialect.clone() };
        Fields::of(&dialect, text, ended).filter(|fields| fields.even && fields.width > 1)
    };
    let skipped = (1..RECORDS as u32).find(|skipped| behind(skipped).is_some())?;
    let is_other = behind(&skipped).is_some_and(|fields| {
        fields.records > 1 && !matches!(first, Record::Fields(width, _) if width == fields.width)
    });
    let width = |line: u32| {
        let dialect = Dialect { skipped: dialect.skipped + line, ..dialect.clone() };
        let start = dialect.start(text, ended)?;
        match dialect.record(text, start, ended, |_, _| ()).ok()? {
            Record::Fields(width, _) => Some(width),
            _ => None,
        }
    };
    // A title may contain a comma.
    let like_records = (0..skipped).filter(|line| width(*line).is_some_and(|width| width > 1)).count();
    (is_other && like_records <= 1).then_some(dialect.skipped + skipped)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn told(hints: CsvHints, text: &str) -> String {
        let Sniffed { dialect, rival, comments, said } = hints.sniff(text.as_bytes(), true);
        assert_eq!(dialect.skipped, hints.skip_lines.unwrap_or_default() + comments);
        let show = |byte: u8| char::from(byte).escape_debug().to_string();
        let mut told = show(dialect.delimiter);
        for (what, byte) in [("or", rival), ("escape", dialect.escape)] {
            if let Some(byte) = byte {
                told += &format!(" {what} {}", show(byte));
            }
        }
        if said {
            told += " as said";
        }
        if comments > 0 { format!("{told} after {comments}") } else { told }
    }

    #[rstest]
    #[case("a,b\n1,2\n", ",")]
    #[case("", ",")]
    #[case("word\nx\n", ",")]
    #[case("a;b\n1;1,5\n2;2,5\n", ";")]
    #[case::no_header("2024-01-01;1,50;2,75\n2024-01-02;3,50;4,75\n", ";")]
    #[case::one_row("2024-01-01;1,50;2,75\n", ";")]
    #[case::thousands("x;1,234\ny;5,678\n", ";")]
    #[case::thousands_and_more("a|1,234|5,678\nb|1,000|2,000\n", "|")]
    #[case::sentences("1\tHello, world\t2\n2\tHi, you\t3\n", "\\t")]
    #[case::lists("1,a|b,2\n2,c|d,3\n", ",")]
    #[case::numbers("1,2,3\n4,5,6\n", ",")]
    #[case::texts("a;b,c;d\ne;f,g;h\n", "; or ,")]
    #[case::texts_and_one_without_a_comma("a,x;b\nc,y;d\ne,z;f\ng;h\n", ";")]
    #[case::behind_lines("Report of May\n% by hand\nid\tsay\n1\tx\n2\ty\n", "\\t")]
    #[case::words_and_one_pair("a\nb\nc\nd;e\n", ",")]
    #[case::quoted("\"a;b\",1\n\"c;d\",2\n", ",")]
    #[case::one_broken_row("a;b;c\n1;2;3\n4;5;6\n7;8;9\n1;2\n4;5;6\n", ";")]
    #[case::escaped("1,\"say \\\"hi\\\"\"\n2,\"x, y\"\n", ", escape \\\\")]
    #[case::escaped_in_some_rows("1,\"a\\\",b\\\"c\"\n2,\"x\"\n3,\"x\"\n4,\"x\"\n5,\"x\"\n", ", escape \\\\")]
    #[case::escaped_or_not("1,\"a\\\",b\\\"c\"\n2,\"d\\\",e\\\"f\"\n", ",")]
    #[case::backslash_at_the_end("1,\"C:\\\"\n2,\"x\"\n", ",")]
    #[case::doubled("1,\"say \"\"hi\"\"\"\n2,\"x\"\n", ",")]
    #[case::comments("# made by x\n# today\nid,n\n1,2\n", ", after 2")]
    #[case::comment_with_commas("# made by x, today, again\nid,n\n1,2\n", ", after 1")]
    #[case::header_with_a_hash("#id,n\n1,2\n", ",")]
    #[case::header_with_a_hash_and_semicolons("#id;n\n1;2\n", ";")]
    #[case::comments_over_one_column("# made by x\n# today\nword\nx\n", ",")]
    #[case::booleans("a;1,true\nb;2,FALSE\n", ",")]
    #[case::header_behind_a_comment("# made by x\n#id,n\n1,2\n", ", after 1")]
    #[case::rows_with_a_hash("#1,x\n#2,y\n", ",")]
    #[case::only_comments("# a\n# b\n", ",")]
    #[case::said("sep=;\na;b\n1,5;2,5\n", "; as said")]
    #[case::said_in_quotes("\"SEP=|\"\na,b|c,d\n", "| as said")]
    #[case::said_behind_a_mark("\u{feff}sep=\t\na,b\n1,2\n", "\\t as said")]
    #[case::nothing_else("sep=;", "; as said")]
    #[case::a_header("sep=x,n\n1,2\n", ",")]
    #[case::a_word("step=;,n\n1,2\n", ",")]
    #[case::mark("\u{feff}# x\nid;n\n1;2\n", "; after 1")]
    fn texts_tell_how_they_are_written(#[case] text: &str, #[case] wanted: &str) {
        assert_eq!(told(CsvHints::default(), text), wanted);
        assert_eq!(told(CsvHints::default(), &text.replace('\n', "\r\n")), wanted);
        assert_eq!(told(CsvHints::default(), &text.replace('\n', "\r")), wanted);
    }

    #[test]
    fn what_is_known_is_not_guessed() {
        let known = CsvHints { delimiter: Some(b','), ..CsvHints::default() };
        assert_eq!(told(known, "a;b\n1;2\n"), ",");
        let known = CsvHints { skip_lines: Some(0), ..CsvHints::default() };
        assert_eq!(told(known, "# x\na;b\n1;2\n"), ";");
        let known = CsvHints { quote: Some(None), ..CsvHints::default() };
        assert_eq!(told(known, "\"a;b\n\\\";c\n"), ";");
    }

    #[test]
    fn what_is_known_is_part_of_what_is_found() {
        let hints = CsvHints {
            delimiter: Some(b'|'),
            quote: Some(Some(b'\'')),
            escape: Some(b'^'),
            skip_lines: Some(1),
            comment: Some(b'%'),
            header: Some(true),
        };
        let known = Dialect {
            delimiter: b'|',
            quote: Some(b'\''),
            escape: Some(b'^'),
            comment: Some(b'%'),
            skipped: 1,
            ..Dialect::default()
        };
        assert_eq!(hints.dialect(), known);
        let found = hints.sniff(b"a title\nid|n\n1|'a|b'\n% a remark\n2|'x^'y'\n", true);
        assert_eq!(found, Sniffed { dialect: known, rival: None, comments: 0, said: false });
        assert_eq!(CsvHints::default().dialect(), Dialect::default());
    }

    #[rstest]
    #[case::quote_that_is_known(b'\'', None, "1,'it\\'s, so'\n2,'x, y'\n", ", escape \\\\")]
    #[case::escape_that_is_known(b'"', Some(b'^'), "1,\"say \\\"hi\\\"\"\n2,\"x, y\"\n", ", escape ^")]
    #[case::quote_that_may_separate(b';', None, "x;1\ny;2\n", ",")]
    fn what_is_known_helps_to_find_the_rest(
        #[case] quote: u8,
        #[case] escape: Option<u8>,
        #[case] text: &str,
        #[case] wanted: &str,
    ) {
        let hints = CsvHints { quote: Some(Some(quote)), escape, ..CsvHints::default() };
        assert_eq!(told(hints, text), wanted);
    }

    #[rstest]
    #[case::same(b',', None, "a,b\n1,2\n", None)]
    #[case::other(b',', None, "a;b\n1;2\n", Some(b';'))]
    #[case::other_that_is_broken(b',', None, "a;b;c\n1;2;3\n4;5;6\n7;8;9\n1;2\n4;5;6\n", None)]
    #[case::both_fit(b',', None, "a;1,5\nb;2,5\n", None)]
    #[case::said_and_one_column(b';', Some(b';'), "a\nb\n", None)]
    fn a_text_may_be_separated_by_something_else(
        #[case] by: u8,
        #[case] said: Option<u8>,
        #[case] text: &str,
        #[case] wanted: Option<u8>,
    ) {
        let hints = CsvHints { delimiter: said, ..CsvHints::default() };
        let dialect = Dialect { delimiter: by, ..Dialect::default() };
        assert_eq!(hints.other_delimiter(&dialect, text.as_bytes(), true), wanted);
    }

    #[rstest]
    #[case(None, 0, &[])]
    #[case(Some(b'\t'), 0, &["the delimiter is taken to be `;`, but may be `\\t`; use --csv-delimiter"])]
    #[case(None, 1, &["1 comment line at the start of memory:/a, and as many of every file, are skipped"])]
    #[case(None, 2, &["2 comment lines at the start of memory:/a, and as many of every file, are skipped"])]
    fn what_is_guessed_is_said(#[case] rival: Option<u8>, #[case] comments: u32, #[case] wanted: &[&str]) {
        let dialect = Dialect { delimiter: b';', skipped: comments, ..Dialect::default() };
        assert_eq!(Sniffed { dialect, rival, comments, said: false }.notes(&"memory:/a".into()), wanted);
    }

    #[test]
    fn most_records_have_as_many_fields_and_all_but_the_header_are_values() {
        let of = |text: &str| Fields::of(&Dialect::default(), text.as_bytes(), true);
        let like = |pairs: usize, others: usize| of(&("1,2\n".repeat(pairs) + &"1,2,3\n".repeat(others)));
        let told = |fields: Option<Fields>| fields.map(|f| (f.width, f.even, f.records));
        assert_eq!(told(like(7, 3)), Some((2, false, 10)));
        assert_eq!(told(like(6, 4)), None);
        assert_eq!(told(like(3, 2)), None);
        // Fifty records are enough.
        assert_eq!(told(like(50, 1)), Some((2, true, 50)));
        let numbers = |text: &str| of(text).unwrap().numbers;
        assert_eq!(numbers("id,n\nx,1\n2,2\n"), 1);
        assert_eq!(numbers("id,n\n1,1\n2,2\n"), 2);
        assert_eq!(numbers("1,x\n"), 1);
    }

    #[rstest]
    #[case("12", true)]
    #[case(" 1.234,50 ", true)]
    #[case("2024-01-31T10:00:00Z", true)]
    #[case("5%", true)]
    #[case("true", true)]
    #[case("FALSE", true)]
    #[case("-", false)]
    #[case("yes", false)]
    #[case("1 piece", false)]
    fn numbers_dates_and_booleans_are_told_from_texts(#[case] field: &str, #[case] plain: bool) {
        assert_eq!(is_plain(field.as_bytes()), plain);
    }

    #[rstest]
    #[case("1,5", true)]
    #[case("1,5 and 2,5", true)]
    #[case("a,5", false)]
    #[case("1,x", false)]
    #[case("1,", false)]
    #[case(",5", false)]
    #[case("1,5,x", false)]
    fn a_comma_between_digits_may_be_part_of_a_number(#[case] record: &str, #[case] between: bool) {
        assert_eq!(is_between_digits(record.as_bytes(), b','), between);
    }

    #[rstest]
    #[case("Sales report\n\nid,n\n1,2\n", Some(1))]
    #[case("a\nb\nc\nid,n\n1,2\n", Some(3))]
    #[case("id,n\n1,2\n", None)]
    #[case("id,n\n1,2\n1,2,3\n4,5\n", None)]
    #[case("a\nb\n", None)]
    #[case("a,b\nc\nd\n", None)]
    #[case("Sales report\nid,n\n1,2\n3,4\n5\n", None)]
    #[case("Sales, by Ann\nid,n,m\n1,2,3\n", Some(1))]
    #[case("id,n,m\n1,2,3\n4,5\n6,7,8,9\n", None)]
    #[case("id,n,m\n1,2,3\n4,5\n6,7,8,9\n1,2,3,4\n", None)]
    #[case("# c\nid,n\n1,x\n# c\n2,y\n", None)]
    fn lines_before_the_records_are_counted(#[case] text: &str, #[case] lines: Option<u32>) {
        assert_eq!(lines_before(&Dialect::default(), text.as_bytes(), true), lines);
    }
}
