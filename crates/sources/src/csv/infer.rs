//! The types of CSV columns, found by looking at every value.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Fields, Schema};
use hardtack_core::Result;

use super::decode::{column_name, header_names, wrong_width};
use super::dialect::{Cell, Dialect, Record};
use crate::fault::Fault;
use crate::input::{SourceFile, Step};
use crate::kind::Kind;

/// The columns seen so far.
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: BTreeMap<String, usize>,
    kinds: Vec<(String, Kind)>,
    /// Which have no value in some row, as far as their values were looked at: those of texts are not.
    empty: Vec<bool>,
    /// Whether a field is in quotes.
    pub(super) quoted: bool,
    /// The first record, if it may be a header or not.
    first: Vec<String>,
}

impl Columns {
    pub(super) fn merge(&mut self, other: Self) {
        self.quoted |= other.quoted;
        for ((name, kind), empty) in other.kinds.into_iter().zip(other.empty) {
            let at = self.column(&name);
            self.kinds[at].1 = self.kinds[at].1.widen(kind);
            self.empty[at] |= empty;
        }
    }

    /// [`Columns::schema`], in which only those columns may be null that are somewhere.
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

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.kinds.iter().map(|(name, _)| name.as_str())
    }

    /// Whether the first record, which was kept, is a header; nothing if that cannot be told. Names are texts, so a number
    /// or a date is none; and they are told from values where a column has values that are not texts.
    pub(super) fn has_header(&self) -> Option<bool> {
        let is_text = |text: &String| text.is_empty() || Kind::of(text) == Kind::Text;
        match self.first.iter().all(is_text) {
            false => Some(false),
            true => self.kinds.iter().any(|(_, kind)| !matches!(kind, Kind::Text | Kind::Null)).then_some(true),
        }
    }

    /// The first record, which was kept, names the columns, or is a row like the others.
    ///
    /// # Errors
    /// The name that is there twice.
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
        self.kinds.push((name.to_owned(), Kind::Null));
        self.empty.push(false);
        self.kinds.len() - 1
    }

    fn named(names: Vec<String>) -> Result<Self, Fault> {
        let mut columns = Self::default();
        for (i, name) in names.iter().enumerate() {
            if columns.column(name) < i {
                return Err(Fault::new(0, format!("the header names `{name}` more than once")).column(name));
            }
        }
        Ok(columns)
    }
}

/// How a file is looked at.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Look {
    /// The first record may be a header or not, which is decided later: the dialect says that there is none.
    pub(super) undecided: bool,
    /// Not further than so many bytes, or to the end.
    pub(super) sample: Option<u64>,
}

/// The columns of one file.
pub(super) async fn infer_file(file: SourceFile, dialect: Arc<Dialect>, look: Look) -> Result<Columns> {
    let mut columns: Option<Columns> = None;
    let mut text = file.open_text().await?;
    let (mut cells, mut looked_at) = (Vec::new(), 0);
    text.next(|text, ended| {
        let mut at = 0;
        if columns.is_none() {
            let nothing_yet = Ok(Step::<()> { used: 0, made: None });
            let Some(start) = dialect.start(text, ended) else { return nothing_yet };
            at = start;
            if dialect.header {
                let Some((names, end)) = header_names(&dialect, text, start, ended)? else { return nothing_yet };
                columns = Some(Columns::named(names)?);
                at = end;
            }
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
                                continue;
                            }
                            columns
                        }
                    };
                    if found != columns.kinds.len() {
                        return Err(wrong_width(text, start, end, found, columns.kinds.len()));
                    }
                    observe(columns, &text[..end], &cells, &dialect)?;
                }
            }
        }
        looked_at += at as u64;
        Ok(Step { used: at, made: look.sample.filter(|sample| looked_at >= *sample).map(|_| ()) })
    })
    .await?;
    Ok(columns.unwrap_or_default())
}

/// The fields of a record as texts.
fn texts(text: &[u8], cells: &[Cell], dialect: &Dialect) -> Result<Vec<String>, Fault> {
    let (start, text) = utf8(text, cells)?;
    Ok(cells.iter().map(|cell| cell.moved(start).text(text, dialect).into_owned()).collect())
}

/// What a record is in the text, and where it starts: only that is looked at, for the text before it has been.
fn utf8<'a>(text: &'a [u8], cells: &[Cell]) -> Result<(usize, &'a str), Fault> {
    let start = cells.first().map_or(0, |c| c.offset());
    let text = std::str::from_utf8(&text[start..])
        .map_err(|e| Fault::new(start + e.valid_up_to(), "this is not UTF-8 text; convert the file"))?;
    Ok((start, text))
}

/// What files separate their fields by.
const DELIMITERS: [u8; 5] = [b',', b'\t', b';', b'|', 1];

/// So many records and bytes tell the delimiter.
const RECORDS: usize = 50;
const BYTES: usize = 64 << 10;

/// What separates the fields of a file: what makes the most of them, as many in each of the first records. A comma if
/// nothing does.
pub(super) async fn delimiter(file: &SourceFile) -> Result<u8> {
    let mut found = b',';
    let sniff = |text: &[u8], ended: bool| {
        if !ended && text.len() < BYTES {
            return Ok(Step { used: 0, made: None });
        }
        let fields = |delimiter: &u8| {
            (fields(text, *delimiter, ended), std::cmp::Reverse(DELIMITERS.iter().position(|d| d == delimiter)))
        };
        found = DELIMITERS.into_iter().max_by_key(fields).filter(|d| fields(d).0 > 1).unwrap_or(b',');
        Ok(Step { used: text.len(), made: Some(()) })
    };
    file.open_text().await?.next(sniff).await?;
    Ok(found)
}

/// How many fields each of the first records has, if all have as many.
fn fields(text: &[u8], delimiter: u8, ended: bool) -> usize {
    let dialect = Dialect { delimiter, ..Dialect::default() };
    let (mut at, mut records, mut width) = (dialect.start(text, ended).unwrap_or(0), 0, 0);
    while at < text.len() && records < RECORDS {
        match dialect.record(text, at, ended, |_, _| ()) {
            Ok(Record::Fields(found, end)) if records == 0 || found == width => (at, width) = (end, found),
            Ok(Record::Blank(end)) => at = end,
            Ok(Record::Partial) => break,
            _ => return 0,
        }
        records += 1;
    }
    width
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
