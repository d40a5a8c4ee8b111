//! Decides whether files have a header.

use hardtack_core::{Error, Location, Result};

use super::dialect::hint;
use super::infer::Columns;
use crate::kind::Kind;

/// The source of the knowledge whether there is a header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) header: bool,
    /// It was stated when the table was created; otherwise for these files.
    pub(super) by_table: bool,
}

/// What the first record of a file appears to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    Header,
    Row,
    /// It could be either.
    Unclear,
}

/// What the first record appears to be, given the kinds of the columns and some of the following records; and whether
/// that is doubtful.
///
/// Names are texts, so a record with a number or a date is a row, unless those are consecutive years or the like. Names
/// are distinguished from values by columns whose values are not texts. If everything is text, a name is neither
/// missing nor duplicate, nor a value of its column.
pub(super) fn first(first: &[String], next: &[Vec<String>], kinds: &[Kind]) -> (First, bool) {
    let is_text = |text: &String| text.trim().is_empty() || Kind::of(text) == Kind::Text;
    if !first.iter().all(is_text) {
        // Two years or dates may be the start and end of something, as in the following rows.
        let is_run = is_run(first);
        if is_run && next.is_empty() {
            return (First::Unclear, false);
        }
        let alike = |(at, cell): (usize, &String)| !is_text(cell) && is_alike(cell, at, next, kinds);
        let is_row = next.iter().any(|row| self::is_run(row)) || first.iter().enumerate().any(alike);
        return if is_run && !is_row { (First::Header, true) } else { (First::Row, is_run) };
    }
    let named = |at: usize| first.get(at).is_some_and(|name| !name.trim().is_empty());
    let has_values = |kind: &Kind| !matches!(kind, Kind::Text | Kind::Null);
    if kinds.iter().enumerate().any(|(at, kind)| has_values(kind) && named(at)) {
        return (First::Header, false);
    }
    // Row numbers often have no name, and there may be nothing after the last delimiter.
    let is_missing = |at: usize| at > 0 && !named(at) && kinds.get(at).is_some_and(|kind| *kind != Kind::Null);
    let is_value = |at: usize| named(at) && next.iter().any(|row| row.get(at) == first.get(at) && row != first);
    let is_twice = |at: usize| named(at) && first[..at].contains(&first[at]);
    if (0..first.len()).any(|at| is_missing(at) || is_value(at) || is_twice(at)) {
        return (First::Row, true);
    }
    (First::Unclear, false)
}

/// Whether the values of a column are dates like this one, or mostly years like this one.
fn is_alike(cell: &str, at: usize, next: &[Vec<String>], kinds: &[Kind]) -> bool {
    let is_year = |text: &str| text.trim().parse().is_ok_and(|number: i64| YEARS.contains(&number));
    let values = || next.iter().filter_map(|row| row.get(at)).filter(|text| !text.trim().is_empty());
    let years = values().filter(|text| is_year(text)).count();
    kinds.get(at).is_some_and(|kind| *kind == Kind::Date)
        || (is_year(cell) && years > 0 && years * 2 >= values().count())
}

/// Plausible years.
const YEARS: std::ops::RangeInclusive<i64> = 1800..=2200;

/// Whether all cells that are not texts are consecutive years, whole numbers or dates, as in the header of a pivoted
/// table.
fn is_run(cells: &[String]) -> bool {
    let kinds: Vec<Kind> = cells.iter().map(|cell| Kind::of(cell)).collect();
    let runs: Vec<&str> =
        cells.iter().zip(&kinds).filter(|(_, kind)| **kind != Kind::Text).map(|(cell, _)| cell.trim()).collect();
    let has_name = kinds.first() == Some(&Kind::Text) && cells.first().is_some_and(|cell| !cell.trim().is_empty());
    if !has_name || runs.len() < 2 {
        return false;
    }
    let is_plain = |text: &&str| text.bytes().all(|b| b.is_ascii_digit());
    if runs.iter().all(is_plain) {
        let numbers: Vec<i64> = runs.iter().filter_map(|text| text.parse().ok()).collect();
        let steps: Vec<i64> = numbers.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let even = numbers.len() == runs.len() && steps[0] != 0 && steps.iter().all(|step| *step == steps[0]);
        let years = numbers.iter().all(|number| YEARS.contains(number));
        return even && (years || (numbers.len() > 3 && steps[0].abs() == 1));
    }
    // Dates sort correctly as texts.
    kinds.iter().all(|kind| matches!(kind, Kind::Text | Kind::Date)) && runs.is_sorted_by(|a, b| a < b)
}

/// Whether the files have a header, and the notes about that.
pub(super) fn header(
    found: &[(Location, Columns)],
    known: Option<Known>,
    delimiter: u8,
) -> Result<(bool, Vec<String>)> {
    let delimiter = char::from(delimiter).to_string();
    let told: Vec<(&Location, &Columns, First, bool)> = found
        .iter()
        .filter(|(_, columns)| !columns.first.is_empty())
        .map(|(file, columns)| {
            let (first, doubtful) = columns.first_record();
            (file, columns, first, doubtful)
        })
        .collect();
    let shown = |columns: &Columns| crate::fault::cut(&columns.first.join(&delimiter));
    let that = |wanted: First| told.iter().find(|(_, _, first, _)| *first == wanted);
    if let Some(Known { header, by_table }) = known {
        let other = if header { First::Row } else { First::Header };
        let says = if by_table { "as the table says" } else { "as stated" };
        // Doubtful cases were settled by the stated knowledge, and so is what holds for all files.
        let differs = told.iter().any(|(_, _, first, doubtful)| *first != other || *doubtful);
        let seems = told.iter().find(|(_, _, first, doubtful)| *first == other && !doubtful && (by_table || differs));
        if let Some((file, columns, ..)) = seems.filter(|_| header) {
            // Its values would be taken for names of further columns.
            let why = format!("the first record, `{}`, is not a header, {says}, but a row", shown(columns));
            let hint = match by_table {
                true => hint::NO_HEADER_OF_TABLE,
                false => hint::HEADER,
            };
            return Err(Error::refused(why).with("file", file).hint(hint));
        }
        let note = seems.map(|(file, columns, ..)| {
            let line = shown(columns);
            format!("{file} seems to have a header; its first line, `{line}`, is taken for a row, {says}")
        });
        return Ok((header, note.into_iter().collect()));
    }
    let same = |a: &Columns, b: &Columns| a.first == b.first;
    let shares = |a: &Columns, b: &Columns| {
        let folded: Vec<String> = a.first.iter().map(|name| name.trim().to_lowercase()).collect();
        b.first.iter().any(|name| folded.contains(&name.trim().to_lowercase()))
    };
    let count = |wanted: First| told.iter().filter(|(_, _, first, _)| *first == wanted).count();
    let mostly_without = count(First::Row) > count(First::Header);
    let conflict = |with: &Location, without: &Location| match mostly_without {
        true => Error::refused(format!("this file seems to have a header, and {without} none"))
            .with("file", with)
            .hint(hint::NO_HEADER),
        false => Error::refused(format!("{with} seems to have a header, and this file none"))
            .with("file", without)
            .hint(hint::HEADER),
    };
    match (that(First::Header), that(First::Row)) {
        (Some((with, ..)), Some((without, ..))) => Err(conflict(with, without)),
        (Some((with, header, _, doubtful)), None) => {
            // A row that could also be a header would give the columns other names.
            let stranger = told.iter().find(|(_, columns, first, _)| {
                *first == First::Unclear && columns.first.len() == header.first.len() && !shares(columns, header)
            });
            match stranger {
                Some((without, ..)) => Err(conflict(with, without)),
                None if *doubtful => {
                    let note = format!(
                        "the first line, `{}`, is taken for a header although it has numbers; use --csv-header absent if it \
                         is a row",
                        shown(header)
                    );
                    Ok((true, vec![note]))
                }
                None => Ok((true, Vec::new())),
            }
        }
        (None, Some((_, row, _, doubtful))) => {
            let line = shown(row);
            let note = match row.seems_title() {
                true => format!(
                    "the first line, `{line}`, is taken for a row; use --csv-skip-lines 1 if it is neither header nor row, \
                     --csv-header present if it is a header"
                ),
                false => {
                    format!("the first line, `{line}`, is taken for a row; use --csv-header present if it is a header")
                }
            };
            Ok((false, if *doubtful { vec![note] } else { Vec::new() }))
        }
        (None, None) => {
            let Some((_, columns, ..)) = told.first() else { return Ok((true, Vec::new())) };
            let others = &told[1..];
            if !others.is_empty() && others.iter().all(|(_, other, ..)| same(columns, other)) {
                // Files that begin with the same line begin with a header.
                return Ok((true, Vec::new()));
            }
            let is_row = !others.is_empty() && !others.iter().any(|(_, other, ..)| shares(columns, other));
            let note = match is_row {
                false => {
                    "all values are texts, so the first line is taken for a header; use --csv-header absent if it is a row"
                }
                true => {
                    "all values are texts, and files begin with different lines, so those are taken for rows; use --csv-header present if they are headers"
                }
            };
            Ok((!is_row, vec![note.to_owned()]))
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::names(&["id,name", "1,x"], First::Header, false)]
    #[case::years(&["country,2019,2020", "DE,10,20"], First::Header, true)]
    #[case::years_back(&["country,name,2020,2015,2010", "DE,Berlin,10,20,30"], First::Header, true)]
    #[case::months(&["country,1,2,3,4", "DE,10,20,5,6"], First::Header, true)]
    #[case::days(&["country,2024-01-01,2024-02-01", "DE,10,20"], First::Header, true)]
    #[case::years_without_values(&["country,2019,2020", "DE,,"], First::Header, true)]
    #[case::years_and_one_value_like_them(&["country,2019,2020", "DE,10,20", "FR,1900,5", "IT,7,8"], First::Header, true)]
    #[case::years_alone(&["2018,2019,2020", "1,2,3"], First::Row, false)]
    #[case::three_numbers(&["country,1,2,3", "DE,10,20,5"], First::Row, false)]
    #[case::equal_days(&["Ann,2024-01-01,2024-01-01", "Bob,5,7"], First::Row, false)]
    #[case::lives(&["Ann,1950,2010", "Bob,1960,2000"], First::Row, true)]
    #[case::lives_that_go_on(&["Ann,1950,2010", "Bob,1960,"], First::Row, true)]
    #[case::stays(&["Ann,2024-01-01,2024-01-05", "Bob,2024-02-01,"], First::Row, true)]
    #[case::no_other_row(&["country,2019,2020"], First::Unclear, false)]
    #[case::few_numbers(&["Ann,1,2", "Bob,5,7"], First::Row, false)]
    #[case::equal_numbers(&["Ann,2000,2000", "Bob,5,7"], First::Row, false)]
    #[case::floats(&["Ann,1.5,2.5", "Bob,5,7"], First::Row, false)]
    #[case::row(&["1,x", "2,y"], First::Row, false)]
    #[case::gap(&["Ann,,Berlin", "Bob,5,Paris"], First::Row, true)]
    #[case::row_numbers(&[",name", "1,x"], First::Unclear, false)]
    #[case::row_numbers_and_more(&[",name,n", "1,x,2"], First::Header, false)]
    #[case::last_delimiter(&["name,of,", "x,y,"], First::Unclear, false)]
    #[case::values(&["red,small", "blue,large", "red,large"], First::Row, true)]
    #[case::twice(&["yes,yes", "no,yes"], First::Row, true)]
    #[case::texts(&["first,last", "Ann,Lee"], First::Unclear, false)]
    #[case::only_one(&["first,last"], First::Unclear, false)]
    fn a_first_record_is_a_header_or_a_row(#[case] text: &[&str], #[case] wanted: First, #[case] doubtful: bool) {
        let rows: Vec<Vec<String>> = text.iter().map(|line| line.split(',').map(str::to_owned).collect()).collect();
        let kind = |at: usize| {
            let values = rows[1..].iter().map(|row| row[at].as_str()).filter(|text| !text.is_empty());
            values.map(Kind::of).fold(Kind::Null, Kind::widen)
        };
        let kinds: Vec<Kind> = (0..rows[0].len()).map(kind).collect();
        assert_eq!(first(&rows[0], &rows[1..], &kinds), (wanted, doubtful));
    }
}
