//! The types of CSV columns, found by looking at every value.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use hardtack_core::Result;

use super::decode::{column_name, header_names, wrong_width};
use super::dialect::{Cell, Dialect, Record};
use crate::fault::Fault;
use crate::input::{SourceFile, Step};
use crate::text::parse;

/// What the values of a column have in common.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Null,
    Bool,
    Int,
    Float,
    Date,
    Timestamp,
    /// With an offset from UTC.
    Moment,
    Text,
}

impl Kind {
    fn widen(self, other: Self) -> Self {
        use Kind::{Date, Float, Int, Null, Text, Timestamp};
        match (self, other) {
            (a, b) if a == b => a,
            (Null, kind) | (kind, Null) => kind,
            (Int | Float, Int | Float) => Float,
            (Date | Timestamp, Date | Timestamp) => Timestamp,
            _ => Text,
        }
    }

    /// What a text is by itself.
    fn of(text: &str) -> Self {
        let text = text.trim_ascii();
        let bytes = text.as_bytes();
        match bytes.first() {
            None => Self::Text,
            Some(b't' | b'T' | b'f' | b'F') => {
                let boolean = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
                if boolean { Self::Bool } else { Self::Text }
            }
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') if is_date_like(bytes) => Self::of_time(text),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.') => Self::of_number(text),
            Some(_) if NOT_FINITE.contains(&text) => Self::Float,
            Some(_) => Self::Text,
        }
    }

    fn of_number(text: &str) -> Self {
        if NOT_FINITE.contains(&text) {
            return Self::Float;
        }
        let digits = text.trim_start_matches(['-', '+']);
        let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        if leading_zero || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'-' | b'+')) {
            return Self::Text;
        }
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            return if text.parse::<i64>().is_ok() { Self::Int } else { Self::Text };
        }
        if text.parse::<f64>().is_ok() { Self::Float } else { Self::Text }
    }

    fn of_time(text: &str) -> Self {
        let is = |to: &DataType| parse([Some(text.into())].into_iter(), to).is_ok();
        if text.len() == 10 {
            return if is(&DataType::Date32) { Self::Date } else { Self::Text };
        }
        if !is(&DataType::Timestamp(TimeUnit::Microsecond, None)) {
            return Self::Text;
        }
        let offset = text.ends_with(['Z', 'z']) || text[10..].contains(['+', '-']);
        if offset { Self::Moment } else { Self::Timestamp }
    }

    fn data_type(self) -> DataType {
        match self {
            Self::Null | Self::Text => DataType::Utf8,
            Self::Bool => DataType::Boolean,
            Self::Int => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Moment => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// What programs write for numbers that are none. Other spellings are rather names.
const NOT_FINITE: [&str; 5] = ["NaN", "inf", "-inf", "Infinity", "-Infinity"];

/// `2024-01-31`, with or without a time.
fn is_date_like(text: &[u8]) -> bool {
    let time = || matches!(text.get(10), None | Some(b'T' | b't' | b' ')) && (text.len() == 10 || text.len() >= 16);
    text.len() >= 10 && text[4] == b'-' && text[7] == b'-' && text.is_ascii() && time()
}

/// The columns seen so far.
#[derive(Debug, Default)]
pub(super) struct Columns {
    names: BTreeMap<String, usize>,
    kinds: Vec<(String, Kind)>,
}

impl Columns {
    pub(super) fn merge(&mut self, other: Self) {
        for (name, kind) in other.kinds {
            let at = self.column(&name);
            self.kinds[at].1 = self.kinds[at].1.widen(kind);
        }
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

/// The columns of one file.
pub(super) async fn infer_file(file: SourceFile, dialect: Arc<Dialect>) -> Result<Columns> {
    let mut columns: Option<Columns> = None;
    let mut text = file.open_text().await?;
    let mut cells = Vec::new();
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
                        None => columns.insert(Columns::named((0..found).map(column_name).collect())?),
                    };
                    if found != columns.kinds.len() {
                        return Err(wrong_width(text, start, end, found, columns.kinds.len()));
                    }
                    observe(columns, &text[..end], &cells, &dialect)?;
                }
            }
        }
        Ok(Step { used: at, made: None })
    })
    .await?;
    Ok(columns.unwrap_or_default())
}

fn observe(columns: &mut Columns, text: &[u8], cells: &[Cell], dialect: &Dialect) -> Result<(), Fault> {
    let start = cells.first().map_or(0, |c| c.offset());
    // Only the record is looked at, for the text before it has been.
    let text = std::str::from_utf8(&text[start..])
        .map_err(|e| Fault::new(start + e.valid_up_to(), "this is not UTF-8 text; convert the file"))?;
    for ((_, kind), cell) in columns.kinds.iter_mut().zip(cells) {
        if *kind != Kind::Text
            && let Some(value) = cell.moved(start).value(text, dialect, false)
        {
            *kind = kind.widen(Kind::of(&value));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1", Kind::Int)]
    #[case("-0", Kind::Int)]
    #[case("007", Kind::Text)]
    #[case("9223372036854775808", Kind::Text)]
    #[case("1.5", Kind::Float)]
    #[case("0.5", Kind::Float)]
    #[case(".5e-3", Kind::Float)]
    #[case("1.2.3", Kind::Text)]
    #[case("-", Kind::Text)]
    #[case("NaN", Kind::Float)]
    #[case("-inf", Kind::Float)]
    #[case("Nan", Kind::Text)]
    #[case("True", Kind::Bool)]
    #[case("yes", Kind::Text)]
    #[case("2024-01-31", Kind::Date)]
    #[case("2024-02-31", Kind::Text)]
    #[case("2024-01-31 10:00", Kind::Timestamp)]
    #[case("2024-01-31T10:00:00.123", Kind::Timestamp)]
    #[case("2024-01-31T10:00:00Z", Kind::Moment)]
    #[case("2024-01-31 10:00:00-05:00", Kind::Moment)]
    #[case("2024-01-31 10:00:00.5+02", Kind::Moment)]
    #[case("2024-01-31Z", Kind::Text)]
    #[case("2024-01-31\u{fc}", Kind::Text)]
    fn values_have_a_kind(#[case] text: &str, #[case] kind: Kind) {
        assert_eq!(Kind::of(text), kind);
    }

    #[rstest]
    #[case(&["", "1"], Kind::Int)]
    #[case(&["1", "1.5"], Kind::Float)]
    #[case(&["true", "1"], Kind::Text)]
    #[case(&["2024-01-31", "2024-01-31 10:00"], Kind::Timestamp)]
    #[case(&["2024-01-31T10:00:00", "2024-01-31T10:00:00Z"], Kind::Text)]
    #[case(&["2024-01-31", "7"], Kind::Text)]
    fn kinds_widen_in_any_order(#[case] texts: &[&str], #[case] kind: Kind) {
        let of = |t: &&str| if t.is_empty() { Kind::Null } else { Kind::of(t) };
        assert_eq!(texts.iter().map(of).fold(Kind::Null, Kind::widen), kind);
        assert_eq!(texts.iter().rev().map(of).fold(Kind::Null, Kind::widen), kind);
    }
}
