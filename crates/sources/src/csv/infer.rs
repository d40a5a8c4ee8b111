//! Infers the types of CSV columns from every value.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema};
use hardtack_core::{Error, Result};

use super::decode::{Header, column_name, header, skipped, wrong_width};
use super::dialect::{Cell, Dialect, Record, hint};
use super::header::{First, first};
use super::sniff::{self, CsvHints};
use crate::fault::Fault;
use crate::input::{Lines, SourceFile, Step};
use crate::kind::Kind;

/// The columns found so far.
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: BTreeMap<String, usize>,
    /// The same in lower case.
    folded: BTreeMap<String, Vec<usize>>,
    kinds: Vec<(String, Kind)>,
    /// The columns without a value in some row. Text columns are not checked.
    empty: Vec<bool>,
    /// Whether a field is in quotes.
    pub(super) quoted: bool,
    /// The first record, if it is undecided whether it is a header, and some of the following ones.
    pub(super) first: Vec<String>,
    next: Vec<Vec<String>>,
    /// The line in which that record is repeated.
    pub(super) repeated: Option<u64>,
    /// A note on the file's compression.
    pub(super) note: Option<String>,
    /// The delimiter that the file seems to use instead.
    pub(super) other_delimiter: Option<u8>,
    /// The fields of the skipped lines.
    pub(super) skipped: Vec<Vec<String>>,
}

/// The number of records kept for comparison with the first one.
const RECORDS_TO_COMPARE: usize = 50;

impl Columns {
    /// Adds the columns of another file. Names that differ only in case are one column, unless a file has both.
    pub(super) fn merge(&mut self, other: Self) {
        self.quoted |= other.quoted;
        for ((name, kind), empty) in other.kinds.into_iter().zip(other.empty) {
            let folded = name.to_lowercase();
            let alone = other.folded.get(&folded).is_none_or(|names| names.len() == 1);
            let at = match self.folded.get(&folded).map(Vec::as_slice) {
                Some([one]) if alone => *one,
                _ => self.column(&name),
            };
            self.kinds[at].1 = self.kinds[at].1.widen(kind);
            self.empty[at] |= empty;
        }
    }

    /// [`Columns::schema`], with only those columns nullable that have a null.
    pub(super) fn strict_schema(&self) -> Schema {
        let fields = self
            .schema()
            .fields()
            .iter()
            .zip(&self.empty)
            .map(|(f, e)| f.as_ref().clone().with_nullable(*e))
            .collect::<Fields>();
        Schema::new(fields)
    }

    pub(super) fn width(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().map(|(name, _)| name.as_str())
    }

    /// What the first record, which was kept, appears to be, and whether that is doubtful.
    pub(super) fn first_record(&self) -> (First, bool) {
        let kinds: Vec<Kind> = self.kinds.iter().map(|(_, kind)| *kind).collect();
        first(&self.first, &self.next, &kinds)
    }

    /// Whether the first record, which was kept, is a single text followed by a record of names.
    pub(super) fn seems_title(&self) -> bool {
        let texts = |record: &[String]| record.iter().filter(|text| !text.trim().is_empty()).count();
        texts(&self.first) == 1 && self.next.first().is_some_and(|next| texts(next) == next.len() && next.len() > 1)
    }

    /// Decides that the first record, which was kept, is a header or a row.
    ///
    /// # Errors
    /// The duplicate name.
    pub(super) fn decided(self, header: bool) -> Result<Self, String> {
        let first = &self.first;
        if first.is_empty() {
            return Ok(self);
        }
        let mut decided = Self { quoted: self.quoted, ..Self::default() };
        for (i, ((_, kind), empty)) in self.kinds.iter().zip(&self.empty).enumerate() {
            let text = first[i].trim();
            let name = if header && !text.is_empty() { text.to_owned() } else { column_name(i) };
            if decided.column(&name) < i {
                return Err(name);
            }
            let (kind, empty) = match (header, text.is_empty()) {
                (true, _) => (*kind, *empty),
                (false, true) => (*kind, true),
                (false, false) => (kind.widen(Kind::of(&first[i])), *empty),
            };
            (decided.kinds[i].1, decided.empty[i]) = (kind, empty);
        }
        Ok(decided)
    }

    pub(super) fn schema(&self) -> Schema {
        let fields = self.kinds.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true));
        Schema::new(fields.collect::<Fields>())
    }

    fn column(&mut self, name: &str) -> usize {
        if let Some(at) = self.names.get(name) {
            return *at;
        }
        self.names.insert(name.to_owned(), self.kinds.len());
        self.folded.entry(name.to_lowercase()).or_default().push(self.kinds.len());
        self.kinds.push((name.to_owned(), Kind::Null));
        self.empty.push(false);
        self.kinds.len() - 1
    }

    fn named(names: Vec<String>) -> Result<Self, Fault> {
        let mut columns = Self::default();
        for (i, name) in names.iter().enumerate() {
            if columns.column(name) < i {
                let fault = Fault::new(0, format!("the header names `{name}` more than once")).column(name);
                return Err(fault.hint(hint::NAMES));
            }
        }
        Ok(columns)
    }
}

/// How a file is examined.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InferOptions {
    /// Whether the first record is a header is decided later: the dialect says that there is none.
    pub(super) undecided: bool,
    /// The number of bytes to examine, or all.
    pub(super) sample: Option<u64>,
    /// The known part of the dialect, if the rest was detected or is the default: a file may use another dialect.
    pub(super) hints: Option<CsvHints>,
    /// Whether the delimiter was stated or is known from other files, so that a deviating file is only noted.
    pub(super) told: bool,
}

/// Infers the columns of one file; none if it has neither header nor rows.
pub(super) async fn infer_file(file: SourceFile, dialect: Arc<Dialect>, look: InferOptions) -> Result<Option<Columns>> {
    let mut columns: Option<Columns> = None;
    let mut names = Header::default();
    let mut text = file.open_text().await?;
    let note = text.misnamed();
    let (mut cells, mut looked_at, mut lines, mut begun) = (Vec::new(), 0, Lines::default(), false);
    let (mut other_delimiter, mut passed_over) = (None, Vec::new());
    text.next(|text, ended| {
        let mut at = 0;
        let nothing_yet = Ok(Step::<()> { used: 0, made: None });
        if !begun {
            if let Some(hints) = look.hints {
                if !ended && text.len() < sniff::BYTES {
                    return nothing_yet;
                }
                let (front, ended) =
                    if text.len() > sniff::BYTES { (&text[..sniff::BYTES], false) } else { (text, ended) };
                other_delimiter = hints.other_delimiter(&dialect, front, ended);
                if let Some(other) = other_delimiter.filter(|_| !look.told) {
                    return Err(separated(other, dialect.delimiter));
                }
            }
            let Some(start) = dialect.start(text, ended) else { return nothing_yet };
            at = start;
            passed_over = skipped(&dialect, text, ended);
            if dialect.header {
                let Some(found) = header(&dialect, text, start, ended)? else { return nothing_yet };
                at = found.end;
                columns = Some(Columns::named(found.names.clone())?);
                names = found;
            }
            begun = true;
        }
        while at < text.len() {
            cells.clear();
            let start = at;
            match dialect.record(text, at, ended, |_, cell| cells.push(cell))? {
                Record::Partial => break,
                Record::Blank(end) => at = end,
                Record::Fields(found, end) => {
                    at = end;
                    let columns = match &mut columns {
                        Some(columns) => columns,
                        None => {
                            let columns = columns.insert(Columns::named((0..found).map(column_name).collect())?);
                            if look.undecided {
                                columns.quoted = cells.iter().any(|c| c.is_quoted());
                                columns.first = texts(&text[..end], &cells, &dialect)?;
                                names = Header::of(text, start, end, found);
                                continue;
                            }
                            columns
                        }
                    };
                    if found != columns.kinds.len() {
                        let fault = wrong_width(text, start, end, found, columns.kinds.len());
                        // Only before the records may lines be something else.
                        let before = if lines.next() == 1 { sniff::lines_before(&dialect, text, ended) } else { None };
                        return Err(match before {
                            Some(before) => fault.hint(hint::lines(before)),
                            None => fault,
                        });
                    }
                    if names.is_repeated(&text[start..end]) {
                        match names.refuse_repeated(text, start, end) {
                            Err(_) if look.undecided => {
                                columns.repeated.get_or_insert(lines.and(&text[..start]).next());
                            }
                            refused => refused?,
                        }
                        continue;
                    }
                    if look.undecided && columns.next.len() < RECORDS_TO_COMPARE {
                        columns.next.push(texts(&text[..end], &cells, &dialect)?);
                    }
                    observe(columns, &text[..end], &cells, &dialect)?;
                }
            }
        }
        looked_at += at as u64;
        lines = lines.and(&text[..at]);
        Ok(Step { used: at, made: look.sample.filter(|sample| looked_at >= *sample).map(|_| ()) })
    })
    .await?;
    Ok(columns.map(|columns| Columns { note, other_delimiter, skipped: passed_over, ..columns }))
}

/// The error for a file without even a header: more likely truncated than written without rows.
pub(super) fn no_header(file: &SourceFile) -> Error {
    Error::refused("the file is empty: it does not even have a header").with("file", &file.location).hint(hint::EMPTY)
}

/// The fault of fields with another delimiter.
pub(super) fn separated(other: u8, this: u8) -> Fault {
    let show = |byte: u8| char::from(byte).escape_default().to_string();
    let why = format!("the fields of this file seem to be separated by `{}`, not by `{}`", show(other), show(this));
    Fault::new(0, why).hint(hint::delimiter(other))
}

/// The fields of a record as texts.
fn texts(text: &[u8], cells: &[Cell], dialect: &Dialect) -> Result<Vec<String>, Fault> {
    let (start, text) = utf8(text, cells)?;
    Ok(cells.iter().map(|cell| cell.moved(start).text(text, dialect).into_owned()).collect())
}

/// The text of a record as UTF-8, and where it starts. The text before it has been checked already.
fn utf8<'a>(text: &'a [u8], cells: &[Cell]) -> Result<(usize, &'a str), Fault> {
    let start = cells.first().map_or(0, |c| c.offset());
    let text = std::str::from_utf8(&text[start..])
        .map_err(|e| Fault::new(start + e.valid_up_to(), "this is not UTF-8 text; convert the file"))?;
    Ok((start, text))
}

fn observe(columns: &mut Columns, text: &[u8], cells: &[Cell], dialect: &Dialect) -> Result<(), Fault> {
    let (start, text) = utf8(text, cells)?;
    for (((_, kind), empty), cell) in columns.kinds.iter_mut().zip(&mut columns.empty).zip(cells) {
        columns.quoted |= cell.is_quoted();
        if *kind == Kind::Text {
            continue;
        }
        match cell.moved(start).value(text, dialect, false) {
            Some(value) => *kind = kind.widen(Kind::of(&value)),
            None => *empty = true,
        }
    }
    Ok(())
}
