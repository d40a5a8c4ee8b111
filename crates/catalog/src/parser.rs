//! A recursive-descent parser of Hive type strings and column lists.

use std::collections::HashSet;

use hardtack_core::Error;

use crate::hive_type::{HiveField, HiveType};

/// A column of a contract: name, type and nullability.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) data_type: HiveType,
    pub(crate) nullable: bool,
}

/// What was expected, and where (in characters, from 1).
pub(crate) struct Expected {
    what: String,
    position: usize,
}

impl Expected {
    /// The error for `text`, under the context key `what`.
    pub(crate) fn of(self, what: &'static str, text: &str) -> Error {
        let end = text.char_indices().nth(200).map_or(text.len(), |(i, _)| i);
        Error::usage(format!("expected {}", self.what)).with(what, &text[..end]).with("position", self.position)
    }
}

type Result<T> = std::result::Result<T, Expected>;

/// No catalog contains deeper types; parsing one must not exhaust the stack.
const MAX_DEPTH: usize = 64;

pub(crate) struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// A type.
    pub(crate) fn data_type(&mut self) -> Result<HiveType> {
        if self.depth >= MAX_DEPTH {
            return self.fail_at(self.at, format!("at most {MAX_DEPTH} levels of nesting"));
        }
        self.depth += 1;
        let data_type = self.any_type();
        self.depth -= 1;
        data_type
    }

    /// A type, and whether it is followed by `not null`.
    pub(crate) fn column_type(&mut self) -> Result<(HiveType, bool)> {
        let data_type = self.data_type()?;
        let not_null = self.take_word("not");
        if not_null {
            self.words(&["null"])?;
        }
        Ok((data_type, !not_null))
    }

    /// `name: type [not null], ...`, with or without a comma at the end.
    pub(crate) fn columns(&mut self) -> Result<Vec<Column>> {
        let (mut columns, mut seen) = (Vec::new(), HashSet::new());
        while self.peek().is_some() {
            let name = self.name(&mut seen)?;
            let (data_type, nullable) = self.column_type()?;
            columns.push(Column { name, data_type, nullable });
            if self.peek().is_some() {
                self.symbol(',')?;
            }
        }
        Ok(columns)
    }

    /// Nothing but blanks.
    pub(crate) fn end(&mut self) -> Result<()> {
        if self.peek().is_some() { self.fail("the end") } else { Ok(()) }
    }

    fn any_type(&mut self) -> Result<HiveType> {
        self.skip_blanks();
        let start = self.at;
        let data_type = match self.word().to_ascii_lowercase().as_str() {
            "void" => HiveType::Void,
            "boolean" | "bool" => HiveType::Boolean,
            "tinyint" | "byte" => HiveType::TinyInt,
            "smallint" | "short" => HiveType::SmallInt,
            "int" | "integer" => HiveType::Int,
            "bigint" | "long" => HiveType::BigInt,
            "float" | "real" => HiveType::Float,
            "double" => {
                self.take_word("precision");
                HiveType::Double
            }
            "decimal" | "dec" | "numeric" => self.decimal()?,
            "string" => HiveType::String,
            "char" => HiveType::Char(self.in_parentheses("a length", 1, 255)? as u8),
            "varchar" => HiveType::VarChar(self.in_parentheses("a length", 1, 65535)?),
            "binary" => HiveType::Binary,
            "date" => HiveType::Date,
            "timestamp" => self.timestamp()?,
            "timestamp_ntz" => HiveType::Timestamp,
            "timestamptz" | "timestamp_ltz" => HiveType::TimestampLocalTz,
            "interval_year_month" => HiveType::IntervalYearMonth,
            "interval_day_time" => HiveType::IntervalDayTime,
            "interval" => self.interval()?,
            "array" => {
                self.symbol('<')?;
                let element = self.data_type()?;
                self.symbol('>')?;
                HiveType::Array(Box::new(element))
            }
            "map" => {
                self.symbol('<')?;
                let key = self.data_type()?;
                self.symbol(',')?;
                let value = self.data_type()?;
                self.symbol('>')?;
                HiveType::Map(Box::new(key), Box::new(value))
            }
            "struct" => self.fields()?,
            "uniontype" => {
                return self.fail_at(
                    start,
                    "a type, found `uniontype`, which neither Athena nor Spark reads; declare a struct with one field \
                     for each type",
                );
            }
            _ => {
                self.at = start;
                return self.fail("a type");
            }
        };
        Ok(data_type)
    }

    fn decimal(&mut self) -> Result<HiveType> {
        if self.peek() != Some('(') {
            return Ok(HiveType::Decimal(10, 0));
        }
        self.symbol('(')?;
        let precision = self.number("a precision", 1, 38)?;
        let scale = if self.peek() == Some(',') {
            self.symbol(',')?;
            self.number("a scale", 0, precision)?
        } else {
            0
        };
        self.symbol(')')?;
        Ok(HiveType::Decimal(precision as u8, scale as u8))
    }

    fn timestamp(&mut self) -> Result<HiveType> {
        if self.take_word("without") {
            self.words(&["time", "zone"])?;
            Ok(HiveType::Timestamp)
        } else if self.take_word("with") {
            self.take_word("local");
            self.words(&["time", "zone"])?;
            Ok(HiveType::TimestampLocalTz)
        } else {
            Ok(HiveType::Timestamp)
        }
    }

    fn interval(&mut self) -> Result<HiveType> {
        if self.take_word("year") {
            self.words(&["to", "month"])?;
            return Ok(HiveType::IntervalYearMonth);
        }
        self.words(&["day", "to", "second"])?;
        Ok(HiveType::IntervalDayTime)
    }

    fn fields(&mut self) -> Result<HiveType> {
        self.symbol('<')?;
        let (mut fields, mut seen) = (Vec::new(), HashSet::new());
        if self.peek() == Some('>') {
            self.symbol('>')?;
            return Ok(HiveType::Struct(fields));
        }
        loop {
            let name = self.name(&mut seen)?;
            fields.push(HiveField { name, data_type: self.data_type()? });
            if self.peek() != Some(',') {
                self.symbol('>')?;
                return Ok(HiveType::Struct(fields));
            }
            self.symbol(',')?;
        }
    }

    /// A name and the colon after it. Hive's names are case-insensitive, so two that differ only in case are the same.
    fn name(&mut self, seen: &mut HashSet<String>) -> Result<String> {
        let quote = self.peek().filter(|c| matches!(c, '`' | '"'));
        let start = self.at;
        let name = match quote {
            Some(quote) => self.quoted(quote)?,
            None => self.unquoted()?,
        };
        if !seen.insert(name.to_lowercase()) {
            return self.fail_at(start, format!("a new name, `{name}` is already used"));
        }
        if self.peek() != Some(':') {
            return self.fail(&format!("`:` after the name `{name}`"));
        }
        self.symbol(':')?;
        Ok(name)
    }

    /// Crawlers write names as they find them (`$oid`, `first-name`, `two words`), without quotes.
    fn unquoted(&mut self) -> Result<String> {
        let rest = &self.text[self.at..];
        let length = rest.find([',', ':', '<', '>', '(', ')', '`', '"']).unwrap_or(rest.len());
        let name = rest[..length].trim_end();
        if name.is_empty() {
            return self.fail("a name");
        }
        self.at += length;
        Ok(name.to_owned())
    }

    /// A name in quotes; a quote within it is doubled.
    fn quoted(&mut self, quote: char) -> Result<String> {
        let start = self.at;
        let mut name = String::new();
        let mut chars = self.text[start + 1..].char_indices().peekable();
        while let Some((i, c)) = chars.next() {
            if c != quote {
                name.push(c);
            } else if chars.next_if(|(_, next)| *next == quote).is_some() {
                name.push(quote);
            } else {
                self.at = start + 1 + i + 1;
                return Ok(name);
            }
        }
        self.fail_at(start, format!("a closing '{quote}'"))
    }

    fn in_parentheses(&mut self, what: &str, min: u16, max: u16) -> Result<u16> {
        self.symbol('(')?;
        let number = self.number(what, min, max)?;
        self.symbol(')')?;
        Ok(number)
    }

    fn number(&mut self, what: &str, min: u16, max: u16) -> Result<u16> {
        self.skip_blanks();
        let start = self.at;
        match self.word().parse() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => {
                self.at = start;
                self.fail(&format!("{what} of {min} to {max}"))
            }
        }
    }

    fn words(&mut self, words: &[&str]) -> Result<()> {
        for (i, word) in words.iter().enumerate() {
            if !self.take_word(word) {
                return self.fail(&format!("`{}`", words[i..].join(" ")));
            }
        }
        Ok(())
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.skip_blanks();
        let start = self.at;
        let found = self.word().eq_ignore_ascii_case(word);
        if !found {
            self.at = start;
        }
        found
    }

    fn word(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn symbol(&mut self, symbol: char) -> Result<()> {
        if self.peek() != Some(symbol) {
            return self.fail(&format!("`{symbol}`"));
        }
        self.at += symbol.len_utf8();
        Ok(())
    }

    /// The next character that is not a blank.
    fn peek(&mut self) -> Option<char> {
        self.skip_blanks();
        self.text[self.at..].chars().next()
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Fails because the next token is not `what`.
    fn fail<T>(&mut self, what: &str) -> Result<T> {
        let start = self.at;
        let found = match (self.peek(), self.word()) {
            (None, _) => "the end".to_owned(),
            (Some(symbol), "") => format!("`{symbol}`"),
            (Some(_), word) => format!("`{word}`"),
        };
        let at = start + self.text[start..].len() - self.text[start..].trim_start().len();
        self.fail_at(at, format!("{what}, found {found}"))
    }

    fn fail_at<T>(&self, at: usize, what: impl Into<String>) -> Result<T> {
        Err(Expected { what: what.into(), position: self.text[..at].chars().count() + 1 })
    }
}
