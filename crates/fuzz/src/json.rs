//! A naive JSON reader by RFC 8259, character by character.

use std::fmt;

/// A value in its written form.
#[derive(Clone, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, verbatim.
    Number(String),
    /// A string, without escapes.
    Text(String),
    /// A list.
    List(Vec<Json>),
    /// An object with all its keys, including duplicates.
    Object(Vec<(String, Json)>),
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(token) => f.write_str(token),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => f.debug_list().entries(items).finish(),
            Self::Object(fields) => f.debug_map().entries(fields.iter().map(|(k, v)| (k, v))).finish(),
        }
    }
}

impl Json {
    /// Whether it contains nothing from which a reader could infer a type: only nulls, and objects and lists of such. A
    /// column of nothing else may be left out.
    pub fn is_hollow(&self) -> bool {
        match self {
            Self::Null => true,
            Self::List(items) => items.iter().all(Self::is_hollow),
            Self::Object(fields) => fields.iter().all(|(_, value)| value.is_hollow()),
            _ => false,
        }
    }

    /// Whether an object has a duplicate key, at any depth and ignoring case.
    pub fn has_key_twice(&self) -> bool {
        match self {
            Self::List(items) => items.iter().any(Self::has_key_twice),
            Self::Object(fields) => {
                let twice = |(i, (key, value)): (usize, &(String, Json))| {
                    let before = fields[..i].iter().any(|(other, _)| other.to_lowercase() == key.to_lowercase());
                    before || value.has_key_twice()
                };
                fields.iter().enumerate().any(twice)
            }
            _ => false,
        }
    }

    /// The nesting of lists and objects.
    pub fn depth(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(fields) => 1 + fields.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// The objects of a text: one after another, or in lists at the top.
///
/// # Errors
/// If it is not well-formed, or has other values at the top.
pub fn rows(text: &str) -> Result<Vec<Json>, String> {
    let mut reader = Reader { rest: text, depth: 0 };
    let mut rows = Vec::new();
    let object = |value: Json| match value {
        Json::Object(_) => Ok(value),
        other => Err(format!("{other:?} is no object")),
    };
    loop {
        reader.blanks();
        // Files that begin with a byte order mark may have been concatenated.
        while reader.take("\u{feff}") {
            reader.blanks();
        }
        if reader.rest.is_empty() {
            return Ok(rows);
        }
        match reader.value()? {
            Json::List(items) => {
                for item in items {
                    rows.push(object(item)?);
                }
            }
            value => rows.push(object(value)?),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: usize,
}

/// This reader does not support deeper texts.
const DEPTH: usize = 500;

impl Reader<'_> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\r', '\t']);
    }

    fn take(&mut self, what: &str) -> bool {
        let rest = self.rest.strip_prefix(what);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn want(&mut self, what: &str) -> Result<(), String> {
        if self.take(what) { Ok(()) } else { Err(format!("`{what}` is missing before {:?}", self.rest.chars().next())) }
    }

    fn value(&mut self) -> Result<Json, String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("this is too deep".to_owned());
        }
        self.blanks();
        let value = match self.rest.as_bytes().first() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.list()?,
            Some(b'"') => Json::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Json::Number(self.number()?),
            _ if self.take("null") => Json::Null,
            _ if self.take("true") => Json::Bool(true),
            _ if self.take("false") => Json::Bool(false),
            _ => return Err(format!("no value begins with {:?}", self.rest.chars().next())),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<Json, String> {
        self.want("{")?;
        self.blanks();
        let mut fields = Vec::new();
        if self.take("}") {
            return Ok(Json::Object(fields));
        }
        loop {
            self.blanks();
            let key = self.string()?;
            self.blanks();
            self.want(":")?;
            fields.push((key, self.value()?));
            self.blanks();
            if self.take("}") {
                return Ok(Json::Object(fields));
            }
            self.want(",")?;
        }
    }

    fn list(&mut self) -> Result<Json, String> {
        self.want("[")?;
        self.blanks();
        let mut items = Vec::new();
        if self.take("]") {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            self.blanks();
            if self.take("]") {
                return Ok(Json::List(items));
            }
            self.want(",")?;
        }
    }

    fn digits(&mut self) -> Result<&str, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if digits.is_empty() { Err("a digit is missing".to_owned()) } else { Ok(digits) }
    }

    fn number(&mut self) -> Result<String, String> {
        let start = self.rest;
        self.take("-");
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err("a number begins with a zero".to_owned());
        }
        if self.take(".") {
            self.digits()?;
        }
        if self.take("e") || self.take("E") {
            if !self.take("+") {
                self.take("-");
            }
            self.digits()?;
        }
        Ok(start[..start.len() - self.rest.len()].to_owned())
    }

    fn string(&mut self) -> Result<String, String> {
        self.want("\"")?;
        let mut text = String::new();
        loop {
            let c = self.rest.chars().next().ok_or("a string is not closed")?;
            self.rest = &self.rest[c.len_utf8()..];
            match c {
                '"' => return Ok(text),
                '\\' => text.push(self.escaped()?),
                c if c < ' ' => return Err(format!("{c:?} is in a string")),
                c => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let c = self.rest.chars().next().ok_or("a string is not closed")?;
        self.rest = &self.rest[c.len_utf8()..];
        Ok(match c {
            '"' | '\\' | '/' => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let high = self.unit()?;
                if !(0xd800..0xdc00).contains(&high) {
                    return char::from_u32(high).ok_or_else(|| "half of a surrogate pair".to_owned());
                }
                self.want("\\u")?;
                let low = self.unit()?;
                if !(0xdc00..0xe000).contains(&low) {
                    return Err("half of a surrogate pair".to_owned());
                }
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)).ok_or("no character")?
            }
            other => return Err(format!("`\\{other}` is no escape")),
        })
    }

    fn unit(&mut self) -> Result<u32, String> {
        let digits = self.rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let unit = u32::from_str_radix(digits.ok_or("four digits are missing")?, 16).map_err(|e| e.to_string())?;
        self.rest = &self.rest[4..];
        Ok(unit)
    }
}
