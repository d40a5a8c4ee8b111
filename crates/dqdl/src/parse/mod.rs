//! DQDL into trees, by recursive descent: each token is looked at a bounded number of times.

mod condition;
mod lexer;
mod rule;
mod types;

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;

use lexer::{Kind, Token, tokens, unquoted};

use crate::condition::{StringList, StringValue};
use crate::error::ParseError;
use crate::text::Text;
use crate::tree::{DataSources, Label, Metadata, Position, Rule, RuleSet, Variable, VariableValue};

type Result<T> = std::result::Result<T, ParseError>;

/// Parentheses and functions may be nested so deep: each level takes a part of the stack.
const MAX_DEPTH: usize = 64;
/// What Glue allows of labels.
const MAX_LABELS: usize = 10;
const MAX_LABEL_KEY: usize = 128;
const MAX_LABEL_VALUE: usize = 256;

/// Parses a document.
///
/// # Errors
/// At the first place that is not DQDL, or uses what is not supported.
pub fn parse(text: &str) -> Result<RuleSet> {
    let mut parser = Parser::new(text);
    let set = parser.document()?;
    if set.rules.is_empty() && set.analyzers.is_empty() {
        let hint = r#"write rules such as `Rules = [ IsComplete "id" ]`"#;
        return Err(parser.error(parser.token(), "there are neither rules nor analyzers".into()).with_hint(hint));
    }
    Ok(set)
}

impl FromStr for RuleSet {
    type Err = ParseError;

    /// As [`parse`] does.
    fn from_str(text: &str) -> Result<Self> {
        parse(text)
    }
}

impl FromStr for Rule {
    type Err = ParseError;

    /// Parses one rule, as it stands between the brackets of `Rules = [ … ]`. There are no variables.
    fn from_str(text: &str) -> Result<Self> {
        let mut parser = Parser::new(text);
        let rule = parser.rule()?;
        match parser.token().kind {
            Kind::End => Ok(rule),
            _ => Err(parser.expected("the end of the rule")),
        }
    }
}

impl RuleSet {
    /// Checks a set that was built in Rust: whether it prints as DQDL that means the same.
    ///
    /// # Errors
    /// If it does not, for instance because a list is empty, a threshold is of a rule that takes none, or a pattern is
    /// not a regular expression. Line and column are those of the printed set.
    pub fn check(&self) -> Result<()> {
        let text = self.to_string();
        let parsed = parse(&text)?;
        if parsed == *self {
            return Ok(());
        }
        let rules = parsed.rules.iter().zip(&self.rules).find(|(parsed, rule)| parsed != rule).map(|(rule, _)| rule);
        let line = rules.map_or(1, |rule| usize::try_from(rule.position.line).unwrap_or(1));
        let start = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
        let message = "what was built in Rust means something else when it is read as DQDL".into();
        let hint = "lists and composite rules have parts, times are to the minute, names contain no separators";
        Err(ParseError::new(&text, start, text.len(), message).with_hint(hint))
    }
}

/// A variable's value, shared by all that use it.
#[derive(Clone)]
enum Constant {
    One(StringValue),
    List(Arc<[StringValue]>),
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    /// The token that is looked at; the last one, `End`, is never passed.
    at: usize,
    depth: usize,
    /// The byte up to which lines and columns are counted, and what they are there.
    counted: (usize, Position),
    variables: HashMap<&'a str, (Arc<str>, Constant)>,
    default_labels: Vec<Label>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let (variables, default_labels) = (HashMap::new(), Vec::new());
        let counted = (0, Position { line: 1, column: 1 });
        Self { text, tokens: tokens(text), at: 0, depth: 0, counted, variables, default_labels }
    }

    // --- tokens ---

    fn token(&self) -> Token {
        self.ahead(0)
    }

    fn ahead(&self, count: usize) -> Token {
        let end = Token { kind: Kind::End, start: self.text.len(), end: self.text.len() };
        self.tokens.get(self.at + count).copied().unwrap_or(end)
    }

    fn advance(&mut self) -> Token {
        let token = self.token();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    /// The token before the one that is looked at.
    fn previous(&self) -> Token {
        self.tokens.get(self.at.saturating_sub(1)).copied().unwrap_or(self.token())
    }

    fn slice(&self, token: Token) -> &'a str {
        &self.text[token.start..token.end]
    }

    /// The word that is looked at.
    fn word(&self) -> Option<&'a str> {
        self.word_ahead(0)
    }

    fn word_ahead(&self, count: usize) -> Option<&'a str> {
        let token = self.ahead(count);
        (token.kind == Kind::Word).then(|| self.slice(token))
    }

    fn is_symbol(&self, symbol: char) -> bool {
        self.token().kind == Kind::Symbol(symbol)
    }

    fn takes_symbol(&mut self, symbol: char) -> bool {
        let is_there = self.is_symbol(symbol);
        if is_there {
            self.advance();
        }
        is_there
    }

    fn takes_word(&mut self, words: &[&str]) -> bool {
        let is_there = self.word().is_some_and(|word| words.contains(&word));
        if is_there {
            self.advance();
        }
        is_there
    }

    fn symbol(&mut self, symbol: char) -> Result<Token> {
        if self.is_symbol(symbol) { Ok(self.advance()) } else { Err(self.expected(&format!("`{symbol}`"))) }
    }

    /// A text in quotes.
    fn quoted(&mut self, what: &str) -> Result<String> {
        match self.token().kind {
            Kind::String => {
                let token = self.advance();
                Ok(unquoted(self.slice(token)))
            }
            _ => Err(self.expected(what)),
        }
    }

    // --- errors and positions ---

    fn error(&self, token: Token, message: String) -> ParseError {
        ParseError::new(self.text, token.start, token.end, message)
    }

    /// What is looked at is not what should be there.
    fn expected(&self, what: &str) -> ParseError {
        const NAMES: &str = "write names with other characters than letters, digits, `_` and `.` in quotes";
        let token = self.token();
        match token.kind {
            Kind::Unclosed => return self.error(token, "this quote is never closed".into()),
            Kind::Strange(c @ ('\'' | '“' | '”' | '„' | '«' | '»' | '‘' | '’' | '`')) => {
                let error = self.error(token, format!("`{c}` is not a quote of DQDL"));
                return error.with_hint("write texts between straight double quotes");
            }
            Kind::Strange(c) if c.is_whitespace() || c.is_control() => {
                return self.error(token, format!("the character U+{:04X} has no meaning here", u32::from(c)));
            }
            Kind::Strange(c) => return self.error(token, format!("`{c}` has no meaning here")).with_hint(NAMES),
            _ => {}
        }
        let found = match token.kind {
            Kind::End => "the end of the text".to_owned(),
            _ => format!("`{}`", self.shown(token)),
        };
        let error = self.error(token, format!("expected {what}, found {found}")).with_expected(what);
        let is_in_a_name = |previous: Token| previous.kind == Kind::Word && previous.end == token.start;
        match (token.kind, self.word().and_then(misspelt_keyword)) {
            (_, Some(keyword)) => error.with_hint(format!("keywords are case-sensitive: write `{keyword}`")),
            (Kind::Symbol('-' | '/' | ':' | '*'), _) if is_in_a_name(self.previous()) => error.with_hint(NAMES),
            _ => error,
        }
    }

    /// A token for a message: not all of a long one.
    fn shown(&self, token: Token) -> String {
        const CHARACTERS: usize = 40;
        let text = self.slice(token);
        let mut shown: String = text.chars().take(CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect();
        if shown.len() < text.len() {
            shown.push('…');
        }
        shown
    }

    /// The position of the token that is looked at. Counts on from the last one that was asked for, so that all of them
    /// together take time in proportion to the text.
    fn position(&mut self) -> Position {
        let start = self.token().start;
        let (counted, position) = &mut self.counted;
        for c in self.text.get(*counted..start).unwrap_or_default().chars() {
            match c {
                '\n' => *position = Position { line: position.line.saturating_add(1), column: 1 },
                _ => position.column = position.column.saturating_add(1),
            }
        }
        *counted = start.max(*counted);
        *position
    }

    /// Runs a part of the parser one level deeper.
    fn nested<T>(&mut self, open: Token, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(self.error(open, format!("parentheses are nested more than {MAX_DEPTH} levels deep")));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }

    /// What closes `open`, if it is there. If the text ends or another bracket is closed, the error is where it was opened.
    fn close(&mut self, open: Token, symbol: char, what: &str) -> Result<()> {
        match self.token().kind {
            Kind::Symbol(found) if found == symbol => {
                self.advance();
                Ok(())
            }
            Kind::End | Kind::Symbol(')' | ']' | '}') => Err(self.never_closed(open)),
            _ => Err(self.expected(what)),
        }
    }

    fn never_closed(&self, open: Token) -> ParseError {
        self.error(open, format!("`{}` is never closed", self.shown(open)))
    }

    /// Items between brackets, with commas.
    fn items<T>(
        &mut self,
        [open, close]: [char; 2],
        what: &str,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let opened = self.symbol(open)?;
        let mut items = Vec::new();
        loop {
            match self.token().kind {
                Kind::End => return Err(self.never_closed(opened)),
                Kind::Symbol(',') | Kind::Symbol(']' | '}' | ')') => return Err(self.expected(what)),
                _ => items.push(item(self)?),
            }
            if !self.takes_symbol(',') {
                self.close(opened, close, &format!("`,` or `{close}`"))?;
                return Ok(items);
            }
        }
    }

    // --- the document ---

    fn document(&mut self) -> Result<RuleSet> {
        const SECTIONS: [&str; 5] = ["Metadata", "DataSources", "DefaultLabels", "Rules", "Analyzers"];
        let mut set = RuleSet::default();
        let mut seen = Vec::new();
        loop {
            let token = self.token();
            let Some(name) = self.word() else {
                if token.kind == Kind::End {
                    return Ok(set);
                }
                return Err(self.expected("a section such as `Rules = [ … ]`"));
            };
            self.advance();
            if !self.is_symbol('=') {
                return Err(self.expected(&format!("`=` after `{}`", self.shown(token))));
            }
            self.advance();
            if SECTIONS.contains(&name) {
                if seen.contains(&name) {
                    return Err(self.error(token, format!("`{name}` is there twice")));
                }
                seen.push(name);
            }
            match name {
                "Metadata" => set.metadata = self.metadata()?,
                "DataSources" => set.data_sources = self.data_sources()?,
                "DefaultLabels" => {
                    set.default_labels = self.labels()?;
                    self.default_labels.clone_from(&set.default_labels);
                }
                "Rules" => set.rules = self.maybe_empty("a rule", Self::rule)?,
                "Analyzers" => set.analyzers = self.maybe_empty("an analyzer", Self::analyzer)?,
                _ => {
                    let alike = SECTIONS.iter().find(|section| section.eq_ignore_ascii_case(name));
                    if let Some(section) = alike {
                        let error = self.error(token, format!("there is no section `{name}`"));
                        return Err(error.with_hint(format!("names of sections are case-sensitive: write `{section}`")));
                    }
                    set.variables.push(self.variable(token, name)?);
                }
            }
        }
    }

    /// `[ … ]`, or `[]`.
    fn maybe_empty<T>(&mut self, what: &str, item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        if self.is_symbol('[') && self.ahead(1).kind == Kind::Symbol(']') {
            self.advance();
            self.advance();
            return Ok(Vec::new());
        }
        self.items(['[', ']'], what, item)
    }

    /// `{ "key": value, … }`, with a function that reads the value of a key.
    fn dictionary(&mut self, keys: &[&str], mut value: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        let mut seen: Vec<String> = Vec::new();
        let what = format!("`{}`", keys.iter().map(|key| format!("\"{key}\"")).collect::<Vec<_>>().join("` or `"));
        self.items(['{', '}'], &what, |parser| {
            let token = parser.token();
            let key = parser.quoted(&what)?;
            if !keys.contains(&key.as_str()) {
                return Err(parser.error(token, format!("the key `{}` is not supported", parser.shown(token))));
            }
            if seen.contains(&key) {
                return Err(parser.error(token, format!("the key `{key}` is there twice")));
            }
            parser.symbol(':')?;
            value(parser, &key)?;
            seen.push(key);
            Ok(())
        })?;
        Ok(())
    }

    fn metadata(&mut self) -> Result<Metadata> {
        let mut metadata = Metadata::default();
        self.dictionary(&["Version"], |parser, _| {
            metadata.version = Some(parser.quoted("a version in quotes")?);
            Ok(())
        })?;
        Ok(metadata)
    }

    fn data_sources(&mut self) -> Result<DataSources> {
        let mut sources = DataSources::default();
        self.dictionary(&["Primary", "AdditionalDataSources"], |parser, key| {
            if key == "Primary" {
                sources.primary = Some(parser.quoted("the name of a data set in quotes")?);
            } else {
                let what = "the alias of a data set in quotes";
                sources.additional = parser.items(['[', ']'], what, |parser| parser.quoted(what))?;
            }
            Ok(())
        })?;
        Ok(sources)
    }

    /// `[ "key" = "value", … ]`
    fn labels(&mut self) -> Result<Vec<Label>> {
        let open = self.token();
        let mut labels: Vec<Label> = Vec::new();
        self.items(['[', ']'], r#"a label such as `"key" = "value"`"#, |parser| {
            let token = parser.token();
            let key = parser.text_of_label(MAX_LABEL_KEY)?;
            if labels.iter().any(|label| label.key == key) {
                return Err(parser.error(token, format!("the label `{key}` is there twice")));
            }
            parser.symbol('=')?;
            let value = parser.text_of_label(MAX_LABEL_VALUE)?;
            labels.push(Label { key, value });
            let others = parser.default_labels.iter().filter(|other| labels.iter().all(|label| label.key != other.key));
            if labels.len() + others.count() > MAX_LABELS {
                return Err(parser.error(open, format!("a rule has at most {MAX_LABELS} labels")));
            }
            Ok(())
        })?;
        Ok(labels)
    }

    fn text_of_label(&mut self, limit: usize) -> Result<String> {
        let token = self.token();
        let text = self.quoted(r#"a label such as `"key" = "value"`"#)?;
        if text.is_empty() || text.chars().nth(limit).is_some() {
            return Err(self.error(token, format!("expected a text of 1 to {limit} characters")));
        }
        Ok(text)
    }

    // --- variables ---

    fn variable(&mut self, token: Token, name: &'a str) -> Result<Variable> {
        if name.starts_with(['.', '_']) || name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err(self.error(token, format!("`{}` is not a name of a variable", self.shown(token))));
        }
        if self.variables.contains_key(name) {
            return Err(self.error(token, format!("the variable `{}` is declared twice", self.shown(token))));
        }
        let value = if self.is_symbol('[') {
            let what = "a text in quotes";
            VariableValue::List(self.items(['[', ']'], what, |parser| parser.constant(what))?)
        } else {
            VariableValue::One(self.constant("a text in quotes or a list of them")?)
        };
        let constant = match &value {
            VariableValue::One(value) => Constant::One(value.clone()),
            VariableValue::List(values) => Constant::List(values.clone().into()),
        };
        self.variables.insert(name, (name.into(), constant));
        Ok(Variable { name: name.to_owned(), value })
    }

    fn constant(&mut self, what: &str) -> Result<StringValue> {
        if self.is_symbol('$') {
            return Err(self.error(self.token(), "variables within variables are not supported".into()));
        }
        match self.token().kind {
            Kind::String => Ok(self.quoted(what)?.into()),
            _ => self.keyword().ok_or_else(|| match self.word() {
                Some(word) if word.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) => {
                    self.expected(what).with_hint("variables are texts: numbers stand in the rules themselves")
                }
                _ => self.expected(what),
            }),
        }
    }

    /// `NULL` and its siblings.
    fn keyword(&mut self) -> Option<StringValue> {
        let value = match self.word()? {
            "NULL" | "null" => StringValue::Null,
            "EMPTY" | "empty" => StringValue::Empty,
            "WHITESPACES_ONLY" | "whitespaces_only" => StringValue::WhitespacesOnly,
            _ => return None,
        };
        self.advance();
        Some(value)
    }

    /// `$name`: the token of the name, the name and its value.
    fn dereference(&mut self) -> Result<(Token, Arc<str>, Constant)> {
        self.symbol('$')?;
        let token = self.token();
        let Some(name) = self.word() else { return Err(self.expected("the name of a variable")) };
        self.advance();
        if let Some((name, constant)) = self.variables.get(name) {
            return Ok((token, Arc::clone(name), constant.clone()));
        }
        let names = self.variables.keys().filter(|_| name.len() <= 64);
        let nearest = names.map(|other| (strsim::osa_distance(name, other), *other)).min();
        let error = self.error(token, format!("there is no variable `{}`", self.shown(token)));
        Err(match nearest {
            Some((distance, nearest)) if distance <= 1 + nearest.len() / 4 => {
                error.with_hint(format!("did you mean `${nearest}`?"))
            }
            _ => error.with_hint("declare it before the rules: `name = \"text\"`"),
        })
    }

    /// A variable that is one text.
    fn text_of_variable(&mut self) -> Result<Text> {
        match self.dereference()? {
            (_, name, Constant::One(StringValue::Text(text))) => Ok(Text::of_variable(text.shared(), name)),
            (token, _, Constant::One(_)) => Err(self
                .error(token, format!("the variable `{}` is a keyword and not a text", self.shown(token)))
                .with_hint("write `NULL`, `EMPTY` or `WHITESPACES_ONLY` itself")),
            (token, _, Constant::List(_)) => Err(self
                .error(token, format!("the variable `{}` is a list and not a text", self.shown(token)))
                .with_hint("lists are used as in `in $name`")),
        }
    }

    /// A variable that is a list, or one value as a list.
    fn list_of_variable(&mut self) -> Result<StringList> {
        let (_, name, constant) = self.dereference()?;
        let values = match constant {
            Constant::One(value) => Arc::new([value]),
            Constant::List(values) => values,
        };
        Ok(StringList::of_variable(values, name))
    }
}

/// The keyword that a word is but for the case of its letters.
fn misspelt_keyword(word: &str) -> Option<&'static str> {
    const KEYWORDS: [&str; 7] = ["between", "in", "not", "matches", "where", "with", "labels"];
    const BOTH: [(&str, &str); 6] = [
        ("and", "AND"),
        ("or", "OR"),
        ("of", "OF"),
        ("null", "NULL"),
        ("empty", "EMPTY"),
        ("whitespaces_only", "WHITESPACES_ONLY"),
    ];
    let is_it = |keyword: &str| word.eq_ignore_ascii_case(keyword) && word != keyword;
    KEYWORDS
        .into_iter()
        .find(|keyword| is_it(keyword))
        .or_else(|| BOTH.into_iter().find(|(lower, upper)| is_it(lower) && word != *upper).map(|(lower, _)| lower))
}
