//! Text into tokens. What is no token is one, too, so that the first error in the text is the one that is reported.

/// A token and the bytes that it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Letters, digits, `_` and points: a name, a keyword or a number. Which one depends on the place.
    Word,
    /// With its quotes.
    String,
    /// One of `=<>!()[]{},:$+-*/`, or `<=` or `>=`, by their first characters and whether `=` follows.
    Symbol(char),
    /// `<=` and `>=`
    OrEqual(char),
    /// A quote that is never closed.
    Unclosed,
    /// A character that no token begins with.
    Strange(char),
    /// The end of the text.
    End,
}

/// All tokens, with [`Kind::End`] as the last one. Takes time in proportion to the text.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    // Some editors write it in front of a file.
    if text.starts_with('\u{feff}') {
        at = '\u{feff}'.len_utf8();
    }
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (kind, length) = match first {
            ' ' | '\t' | '\n' | '\r' => {
                at += 1;
                continue;
            }
            '#' => {
                at += rest.find('\n').unwrap_or(rest.len());
                continue;
            }
            '"' => match string_length(rest) {
                Some(length) => (Kind::String, length),
                None => {
                    let line = rest.find('\n').unwrap_or(rest.len());
                    tokens.push(Token { kind: Kind::Unclosed, start: at, end: at + line });
                    at = text.len();
                    continue;
                }
            },
            '<' | '>' if rest[1..].starts_with('=') => (Kind::OrEqual(first), 2),
            '=' | '<' | '>' | '!' | '(' | ')' | '[' | ']' | '{' | '}' | ',' | ':' | '$' | '+' | '-' | '*' | '/' => {
                (Kind::Symbol(first), 1)
            }
            _ => match rest.bytes().take_while(|&byte| is_of_word(byte)).count() {
                0 => (Kind::Strange(first), first.len_utf8()),
                length => (Kind::Word, length),
            },
        };
        tokens.push(Token { kind, start: at, end: at + length });
        at += length;
    }
    tokens.push(Token { kind: Kind::End, start: text.len(), end: text.len() });
    tokens
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.'
}

/// The length of a text in quotes, at whose opening quote `rest` begins. It may have several lines.
fn string_length(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let mut at = 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' if matches!(bytes.get(at + 1), Some(b'"' | b'\\')) => at += 2,
            _ => at += 1,
        }
    }
}

/// A text without its quotes and the backslashes before quotes and backslashes. Any other backslash stays.
pub(super) fn unquoted(quoted: &str) -> String {
    let mut rest = raw(quoted);
    let mut text = String::with_capacity(rest.len());
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escaped = rest[at + 1..].chars().next().filter(|c| matches!(c, '"' | '\\'));
        text.push(escaped.unwrap_or('\\'));
        rest = &rest[at + 1 + escaped.map_or(0, char::len_utf8)..];
    }
    text.push_str(rest);
    text
}

/// A text without its quotes.
pub(super) fn raw(quoted: &str) -> &str {
    &quoted[1..quoted.len() - 1]
}
