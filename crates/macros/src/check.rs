//! The grammar of `schema!` over tokens. It is the grammar of `hardtack-catalog`'s parser, which parses the text at run
//! time; tests there check that the two agree.

use std::collections::HashSet;

/// A token of Rust.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// An identifier or a number.
    Word(String),
    /// A string in double quotes.
    Quoted(String),
    Symbol(char),
}

/// An error and its token; no token if something is missing at the end.
#[derive(Debug, PartialEq)]
pub(crate) struct SyntaxError {
    pub(crate) at: usize,
    pub(crate) message: String,
}

type Result<T> = std::result::Result<T, SyntaxError>;

/// The maximum nesting of types.
const MAX_DEPTH: usize = 64;

/// Checks `name: type [not null], ...`.
pub(crate) fn check(tokens: &[Token]) -> Result<()> {
    let mut checker = Checker { tokens, at: 0, depth: 0 };
    let mut seen = HashSet::new();
    while checker.peek().is_some() {
        checker.name(&mut seen)?;
        checker.data_type()?;
        if checker.take_word("not") {
            checker.words(&["null"])?;
        }
        if checker.peek().is_some() {
            checker.symbol(',')?;
        }
    }
    Ok(())
}

struct Checker<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl<'a> Checker<'a> {
    fn data_type(&mut self) -> Result<()> {
        if self.depth == MAX_DEPTH {
            return self.wrong(self.at, format!("expected at most {MAX_DEPTH} levels of nesting"));
        }
        self.depth += 1;
        self.any_type()?;
        self.depth -= 1;
        Ok(())
    }

    fn any_type(&mut self) -> Result<()> {
        let start = self.at;
        let Some(Token::Word(word)) = self.peek() else { return self.expected("a type") };
        self.at += 1;
        match word.to_ascii_lowercase().as_str() {
            "void"
            | "boolean"
            | "bool"
            | "tinyint"
            | "byte"
            | "smallint"
            | "short"
            | "int"
            | "integer"
            | "bigint"
            | "long"
            | "float"
            | "real"
            | "string"
            | "binary"
            | "date"
            | "timestamp_ntz"
            | "timestamptz"
            | "timestamp_ltz"
            | "interval_year_month"
            | "interval_day_time" => Ok(()),
            "double" => {
                self.take_word("precision");
                Ok(())
            }
            "decimal" | "dec" | "numeric" => self.decimal(),
            "char" => self.length(255),
            "varchar" => self.length(65535),
            "timestamp" => {
                if self.take_word("without") {
                    return self.words(&["time", "zone"]);
                }
                if self.take_word("with") {
                    self.take_word("local");
                    return self.words(&["time", "zone"]);
                }
                Ok(())
            }
            "interval" if self.take_word("year") => self.words(&["to", "month"]),
            "interval" => self.words(&["day", "to", "second"]),
            "array" => {
                self.symbol('<')?;
                self.data_type()?;
                self.symbol('>')
            }
            "map" => {
                self.symbol('<')?;
                self.data_type()?;
                self.symbol(',')?;
                self.data_type()?;
                self.symbol('>')
            }
            "struct" => self.fields(),
            _ => self.wrong(start, unknown_type(word)),
        }
    }

    fn decimal(&mut self) -> Result<()> {
        if self.peek() != Some(&Token::Symbol('(')) {
            return Ok(());
        }
        self.symbol('(')?;
        let precision = self.number("a precision", 1, 38)?;
        if self.peek() == Some(&Token::Symbol(',')) {
            self.symbol(',')?;
            self.number("a scale", 0, precision)?;
        }
        self.symbol(')')
    }

    fn length(&mut self, max: u16) -> Result<()> {
        self.symbol('(')?;
        self.number("a length", 1, max)?;
        self.symbol(')')
    }

    fn fields(&mut self) -> Result<()> {
        self.symbol('<')?;
        let mut seen = HashSet::new();
        if self.peek() == Some(&Token::Symbol('>')) {
            return self.symbol('>');
        }
        loop {
            self.name(&mut seen)?;
            self.data_type()?;
            if self.peek() != Some(&Token::Symbol(',')) {
                return self.symbol('>');
            }
            self.symbol(',')?;
        }
    }

    /// A name and the colon after it.
    fn name(&mut self, seen: &mut HashSet<String>) -> Result<()> {
        let start = self.at;
        let name = match self.peek() {
            Some(Token::Quoted(name)) => {
                self.at += 1;
                name.clone()
            }
            _ => self.unquoted()?,
        };
        if !seen.insert(name.to_lowercase()) {
            return self.wrong(start, format!("expected a new name, `{name}` is already used"));
        }
        if self.peek() != Some(&Token::Symbol(':')) {
            return self.expected(&format!("`:` after the name `{name}`"));
        }
        self.symbol(':')
    }

    /// A name may contain other characters, as in `first-name`.
    fn unquoted(&mut self) -> Result<String> {
        let mut parts: Vec<String> = Vec::new();
        while let Some(token) = self.peek() {
            match token {
                Token::Symbol(',' | ':' | '<' | '>' | '(' | ')') | Token::Quoted(_) => break,
                Token::Symbol(symbol) => parts.push(symbol.to_string()),
                Token::Word(word) => parts.push(word.clone()),
            }
            self.at += 1;
        }
        if parts.is_empty() { self.expected("a name") } else { Ok(parts.join(" ")) }
    }

    fn number(&mut self, what: &str, min: u16, max: u16) -> Result<u16> {
        let number = match self.peek() {
            Some(Token::Word(word)) => word.parse().ok().filter(|number| (min..=max).contains(number)),
            _ => None,
        };
        let Some(number) = number else { return self.expected(&format!("{what} of {min} to {max}")) };
        self.at += 1;
        Ok(number)
    }

    fn words(&mut self, words: &[&str]) -> Result<()> {
        for (i, word) in words.iter().enumerate() {
            if !self.take_word(word) {
                return self.expected(&format!("`{}`", words[i..].join(" ")));
            }
        }
        Ok(())
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(found)) if found.eq_ignore_ascii_case(word));
        self.at += usize::from(found);
        found
    }

    fn symbol(&mut self, symbol: char) -> Result<()> {
        if self.peek() != Some(&Token::Symbol(symbol)) {
            return self.expected(&format!("`{symbol}`"));
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    /// Fails because the next token is not `what`.
    fn expected<T>(&self, what: &str) -> Result<T> {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(Token::Word(word)) => format!("`{word}`"),
            Some(Token::Quoted(text)) => format!("\"{text}\""),
            Some(Token::Symbol(symbol)) => format!("`{symbol}`"),
        };
        self.wrong(self.at, format!("expected {what}, found {found}"))
    }

    fn wrong<T>(&self, at: usize, message: String) -> Result<T> {
        Err(SyntaxError { at, message })
    }
}

/// The first words of types.
const TYPES: &[&str] = &[
    "void",
    "boolean",
    "tinyint",
    "smallint",
    "int",
    "bigint",
    "float",
    "double",
    "decimal",
    "string",
    "char",
    "varchar",
    "binary",
    "date",
    "timestamp",
    "array",
    "map",
    "struct",
];

/// Names of types elsewhere (Arrow, Spark's classes, SQL, Rust), in lower case, and our names for them.
const FOREIGN: &[(&str, &str)] = &[
    ("arraytype", "array<type>"),
    ("binarytype", "binary"),
    ("binaryview", "binary"),
    ("blob", "binary"),
    ("booleantype", "boolean"),
    ("bytea", "binary"),
    ("bytes", "binary"),
    ("bytetype", "tinyint"),
    ("date32", "date"),
    ("date64", "date"),
    ("datetime", "timestamp"),
    ("datetype", "date"),
    ("decimal128", "decimal(precision, scale)"),
    ("decimal256", "decimal(precision, scale)"),
    ("decimaltype", "decimal(precision, scale)"),
    ("doubletype", "double"),
    ("f32", "float"),
    ("f64", "double"),
    ("fixedsizebinary", "binary"),
    ("fixedsizelist", "array<type>"),
    ("float32", "float"),
    ("float4", "float"),
    ("float64", "double"),
    ("float8", "double"),
    ("floattype", "float"),
    ("i16", "smallint"),
    ("i32", "int"),
    ("i64", "bigint"),
    ("i8", "tinyint"),
    ("int16", "smallint"),
    ("int32", "int"),
    ("int64", "bigint"),
    ("int8", "tinyint"),
    ("integertype", "int"),
    ("json", "string"),
    ("largebinary", "binary"),
    ("largelist", "array<type>"),
    ("largeutf8", "string"),
    ("list", "array<type>"),
    ("longtype", "bigint"),
    ("maptype", "map<key, value>"),
    ("null", "void"),
    ("nulltype", "void"),
    ("number", "decimal(precision, scale)"),
    ("nvarchar", "varchar(length)"),
    ("object", "struct<name: type>"),
    ("row", "struct<name: type>"),
    ("shorttype", "smallint"),
    ("str", "string"),
    ("stringtype", "string"),
    ("structtype", "struct<name: type>"),
    ("text", "string"),
    ("time", "string"),
    ("timestamp_s", "timestamp"),
    ("timestamp_us", "timestamp"),
    ("timestampntztype", "timestamp"),
    ("timestamptype", "timestamp with local time zone"),
    ("u16", "int"),
    ("u32", "bigint"),
    ("u64", "decimal(20, 0)"),
    ("u8", "smallint"),
    ("uint16", "int"),
    ("uint32", "bigint"),
    ("uint64", "decimal(20, 0)"),
    ("uint8", "smallint"),
    ("utf8", "string"),
    ("utf8view", "string"),
    ("uuid", "string"),
    ("varbinary", "binary"),
];

fn unknown_type(word: &str) -> String {
    let lower = word.to_ascii_lowercase();
    if lower == "uniontype" {
        return "expected a type, found `uniontype`, which neither Athena nor Spark reads; declare a struct with one field \
                for each type"
            .to_owned();
    }
    if let Some((_, here)) = FOREIGN.iter().find(|(foreign, _)| *foreign == lower) {
        return format!("expected a type, found `{word}`; that is `{here}` here");
    }
    let nearest = TYPES.iter().map(|known| (distance(&lower, known), *known)).min();
    match nearest {
        Some((edits, known)) if edits <= 2 && edits < known.len() => {
            format!("expected a type, found `{word}`; did you mean `{known}`?")
        }
        _ => format!("expected a type, found `{word}`; known are {}", TYPES.join(", ")),
    }
}

/// The edit distance of two words: insertions, deletions and replacements.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn foreign_names_are_sorted_and_not_our_own() {
        assert!(FOREIGN.is_sorted());
        for (foreign, here) in FOREIGN {
            assert!(!TYPES.contains(foreign), "{foreign}");
            assert!(TYPES.iter().any(|known| here.starts_with(known)), "{here}");
        }
    }

    #[rstest]
    #[case("bigin", "did you mean `bigint`?")]
    #[case("strng", "did you mean `string`?")]
    #[case("Int64", "that is `bigint` here")]
    #[case("text", "that is `string` here")]
    #[case("LongType", "that is `bigint` here")]
    #[case("geometry", "known are void, boolean")]
    fn what_was_meant_is_said(#[case] word: &str, #[case] said: &str) {
        assert!(unknown_type(word).contains(said), "{}", unknown_type(word));
    }

    #[rstest]
    #[case("", "", 0)]
    #[case("abc", "abc", 0)]
    #[case("bigin", "bigint", 1)]
    #[case("acb", "abc", 2)]
    #[case("", "abc", 3)]
    fn distances_count_edits(#[case] a: &str, #[case] b: &str, #[case] edits: usize) {
        assert_eq!((distance(a, b), distance(b, a)), (edits, edits));
    }
}
