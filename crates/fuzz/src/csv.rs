//! A naive CSV reader, character by character.

/// A CSV dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Separates fields.
    pub delimiter: char,
    /// Encloses fields.
    pub quote: Option<char>,
    /// Precedes a literal character: in quotes, or anywhere if there are no quotes.
    pub escape: Option<char>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its content.
    pub text: String,
    /// Whether it is quoted.
    pub quoted: bool,
}

/// The records of a text, without blank lines. Lines end with `\n`, `\r\n` or `\r`.
///
/// # Errors
/// If it is not well-formed.
pub fn records(text: &str, rules: Rules) -> Result<Vec<Vec<Cell>>, String> {
    let mut reader = Reader { rest: text, rules };
    let mut records = Vec::new();
    while !reader.rest.is_empty() {
        // Files that begin with a byte order mark may have been concatenated.
        reader.rest = reader.rest.trim_start_matches('\u{feff}');
        let record = reader.record()?;
        let blank = matches!(record.as_slice(), [Cell { text, quoted: false }] if text.is_empty());
        if !blank {
            records.push(record);
        }
    }
    Ok(records)
}

struct Reader<'a> {
    rest: &'a str,
    rules: Rules,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn record(&mut self) -> Result<Vec<Cell>, String> {
        let mut cells = Vec::new();
        loop {
            let quoted = self.rules.quote.is_some() && self.peek() == self.rules.quote;
            let text = if quoted { self.quoted()? } else { self.plain() };
            cells.push(Cell { text, quoted });
            match self.next() {
                None | Some('\n') => return Ok(cells),
                Some('\r') => {
                    if self.peek() == Some('\n') {
                        self.next();
                    }
                    return Ok(cells);
                }
                Some(c) if c == self.rules.delimiter => {}
                Some(c) => return Err(format!("`{c}` follows a closing quote")),
            }
        }
    }

    fn plain(&mut self) -> String {
        let escape = self.rules.escape.filter(|_| self.rules.quote.is_none());
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|c| *c != self.rules.delimiter && *c != '\n' && *c != '\r') {
            self.next();
            text.push(if Some(c) == escape { self.next().unwrap_or(c) } else { c });
        }
        text
    }

    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.next();
        let mut text = String::new();
        loop {
            let c = self.next().ok_or("a quote is not closed")?;
            if Some(c) == quote && self.peek() != quote {
                return Ok(text);
            }
            let escapes = Some(c) == quote || Some(c) == self.rules.escape;
            text.push(if escapes { self.next().ok_or("a quote is not closed")? } else { c });
        }
    }
}
