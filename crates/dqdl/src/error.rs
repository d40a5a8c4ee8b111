//! Errors with the place where they are.

use std::fmt::{self, Debug, Display, Formatter};

use crate::tree::Position;

/// A text is not DQDL, or uses what is not supported.
///
/// It displays as its sentence with line and column, the line of text with a mark below, and a hint.
#[derive(Clone)]
pub struct ParseError(Box<Parts>);

#[derive(Clone)]
struct Parts {
    position: Position,
    message: String,
    expected: Option<String>,
    hint: Option<String>,
    excerpt: String,
    /// Where the mark begins in the excerpt, and how long it is, in characters.
    mark: (usize, usize),
}

/// An excerpt shows so many characters on each side of the place, for a text may be one long line.
const EXCERPT_SIDE: usize = 80;

impl ParseError {
    /// An error at a place, from byte `start` to `end` of the text.
    pub(crate) fn new(text: &str, start: usize, end: usize, message: String) -> Self {
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let line = text[line_start..line_end].trim_end_matches('\r');
        let column = text[line_start..start].chars().count();
        let width = text[start..end.clamp(start, line_end)].chars().count();
        let skipped = column.saturating_sub(EXCERPT_SIDE);
        let shown = column - skipped + EXCERPT_SIDE;
        // A tabulator would shift the mark below.
        let excerpt: String =
            line.chars().skip(skipped).take(shown).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mark = (column - skipped, width.clamp(1, EXCERPT_SIDE));
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let line_number = 1 + before.bytes().filter(|&byte| byte == b'\n').count();
        let position = Position { line: number(line_number), column: number(column + 1) };
        Self(Box::new(Parts { position, message, expected: None, hint: None, excerpt, mark }))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_expected(mut self, expected: &str) -> Self {
        self.0.expected = Some(expected.to_owned());
        self
    }

    /// The line, from 1.
    pub fn line(&self) -> u32 {
        self.0.position.line
    }

    /// The column, from 1, in characters.
    pub fn column(&self) -> u32 {
        self.0.position.column
    }

    /// What is wrong, in one sentence without place and hint.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What would have been right in this place.
    pub fn expected(&self) -> Option<&str> {
        self.0.expected.as_deref()
    }

    /// What to do.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The line of text, or what of a long line is around the place.
    pub fn excerpt(&self) -> &str {
        &self.0.excerpt
    }
}

impl Display for ParseError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Parts { position: Position { line, column }, message, hint, excerpt, mark, .. } = &*self.0;
        let margin = " ".repeat(line.to_string().len());
        writeln!(f, "line {line}, column {column}: {message}")?;
        writeln!(f, "{line} | {excerpt}")?;
        write!(f, "{margin} | {}{}", " ".repeat(mark.0), "^".repeat(mark.1))?;
        hint.as_ref().map_or(Ok(()), |hint| write!(f, "\nhint: {hint}"))
    }
}

/// As it displays: this is what `unwrap` and a `main` that returns it show.
impl Debug for ParseError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl std::error::Error for ParseError {}
