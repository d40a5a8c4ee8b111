//! Draws tables for people.

use std::io::IsTerminal;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Draws rows below a header. Columns become wider if later rows need it; rows that are already drawn stay as they are.
#[derive(Debug)]
pub(crate) struct Drawing {
    columns: Vec<Column>,
    /// The maximum number of characters in a line; longer lines are cut. `None` means no limit.
    limit: Option<usize>,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// Whether cells are aligned to the right, as numbers are.
    right: bool,
    width: usize,
}

/// Columns are not cut to less than this.
const MIN_WIDTH: usize = 8;

impl Drawing {
    /// Creates a table with these columns: each has a name and whether its cells are aligned to the right.
    pub(crate) fn new<N: AsRef<str>>(columns: impl IntoIterator<Item = (N, bool)>, limit: Option<usize>) -> Self {
        let column = |(name, right): (N, bool)| {
            let name = printable(name.as_ref()).replace('\n', " ");
            Column { width: name.width(), name, right }
        };
        Self { columns: columns.into_iter().map(column).collect(), limit }
    }

    /// Draws the header; column widths take these rows into account.
    pub(crate) fn header(&mut self, rows: &[Vec<String>]) -> String {
        self.widen(rows);
        let name = |c: &Column| centered(&c.name, c.width);
        let rule: Vec<_> = self.columns.iter().map(|c| "-".repeat(c.width + 2)).collect();
        line(self.columns.iter().map(name)) + &rule.join("+") + "\n"
    }

    /// Draws more rows.
    pub(crate) fn rows(&mut self, rows: &[Vec<String>]) -> String {
        self.widen(rows);
        rows.iter().map(|row| self.row(row)).collect()
    }

    /// Draws a row, which has as many lines as its tallest cell.
    fn row(&self, cells: &[String]) -> String {
        let cells: Vec<String> = cells.iter().map(|cell| printable(cell)).collect();
        let cells: Vec<Vec<&str>> = cells.iter().map(|cell| cell.lines().collect()).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let text = |i: usize| {
            let texts = cells.iter().map(|cell| cell.get(i).copied().unwrap_or_default());
            line(self.columns.iter().zip(texts).map(|(column, text)| column.aligned(text)))
        };
        (0..height).map(text).collect()
    }

    fn widen(&mut self, rows: &[Vec<String>]) {
        for row in rows {
            for (column, cell) in self.columns.iter_mut().zip(row) {
                let width = printable(cell).lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
                column.width = column.width.max(width);
            }
        }
        let Some(limit) = self.limit else { return };
        // A space on each side and a line in between; the widest columns shrink first.
        while self.columns.iter().map(|c| c.width + 3).sum::<usize>() > limit + 1 {
            let Some(widest) = self.columns.iter_mut().max_by_key(|c| c.width) else { return };
            if widest.width <= MIN_WIDTH {
                return;
            }
            widest.width -= 1;
        }
    }
}

impl Column {
    fn aligned(&self, text: &str) -> String {
        let text = cut(text, self.width);
        let space = " ".repeat(self.width - text.width());
        if self.right { space + &text } else { text + &space }
    }
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let cells: Vec<_> = cells.map(|cell| format!(" {cell} ")).collect();
    format!("{}\n", cells.join("|").trim_end())
}

fn centered(text: &str, width: usize) -> String {
    let text = cut(text, width);
    let space = width - text.width();
    format!("{}{text}{}", " ".repeat(space / 2), " ".repeat(space - space / 2))
}

/// Cuts a text to a width, and marks the cut.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let fits = |c: &char| {
        let left = room.checked_sub(c.width().unwrap_or(0));
        room = left.unwrap_or(0);
        left.is_some()
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// Escapes control characters: data may contain terminal commands.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() => out.extend(c.escape_debug()),
            c => out.push(c),
        }
    }
    out
}

/// Draws a whole table.
pub(crate) fn draw(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut drawing = Drawing::new(header.iter().map(|name| (name, false)), None);
    drawing.header(rows) + &drawing.rows(rows)
}

/// Draws a whole table, cut to the width of the terminal on standard output if there is one.
pub(crate) fn draw_to_terminal(columns: &[(&str, bool)], rows: &[Vec<String>]) -> String {
    let mut drawing = Drawing::new(columns.iter().copied(), terminal_width());
    drawing.header(rows) + &drawing.rows(rows)
}

/// The width of the terminal on standard output.
pub(crate) fn terminal_width() -> Option<usize> {
    let size = std::io::stdout().is_terminal().then(terminal_size::terminal_size).flatten();
    size.map(|(width, _)| usize::from(width.0))
}

/// `1 row`, `2 rows`.
pub(crate) fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect()
    }

    #[test]
    fn numbers_are_aligned_to_the_right_and_cells_may_have_lines() {
        let rows = rows(&[&["Emma", "474"], &["日本\nfolk\ttales", "7"], &["", "NULL"]]);
        let mut drawing = Drawing::new([("title", false), ("pages", true)], None);
        insta::assert_snapshot!(drawing.header(&rows) + &drawing.rows(&rows), @r"
            title    | pages
        -------------+-------
         Emma        |   474
         日本        |     7
         folk\ttales |
                     |  NULL
        ");
    }

    #[test]
    fn later_rows_may_be_wider() {
        let (first, later) = (rows(&[&["a", "b"]]), rows(&[&["wider", "b"]]));
        let mut drawing = Drawing::new([("x", false), ("y", false)], None);
        let text = drawing.header(&first) + &drawing.rows(&first) + &drawing.rows(&later) + &drawing.rows(&first);
        insta::assert_snapshot!(text, @"
         x | y
        ---+---
         a | b
         wider | b
         a     | b
        ");
    }

    #[test]
    fn what_is_too_wide_for_the_terminal_is_cut_where_it_is_widest() {
        let rows = rows(&[&["a long description of something", "short", "日本日本日本日本日本"]]);
        let mut drawing = Drawing::new([("text", false), ("id", false), ("wide", false)], Some(40));
        let text = drawing.header(&rows) + &drawing.rows(&rows);
        assert!(text.lines().all(|line| line.width() <= 40), "{text}");
        insta::assert_snapshot!(text, @"
              text      |  id   |     wide
        ----------------+-------+---------------
         a long descri… | short | 日本日本日本…
        ");
    }

    #[test]
    fn a_terminal_does_not_obey_data() {
        insta::assert_snapshot!(draw(&["x"], &rows(&[&["\u{1b}[31mred\u{7}"]])), @r"
                 x
        --------------------
         \u{1b}[31mred\u{7}
        ");
    }
}
