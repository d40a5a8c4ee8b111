//! Versions of tables as the SQL of Spark and Trino names them.

use std::borrow::Cow;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word};

/// Names versions of tables as [`register_names`](crate::register_names) knows them: `lake.people for version as of 3`
/// becomes `lake."people@3" as people`. DataFusion's parser has no such clause.
///
/// | clause | version |
/// | --- | --- |
/// | `[for] version as of 5781947118336215154` | a snapshot |
/// | `[for] version as of 'year-end'` | a branch or tag |
/// | `[for] timestamp as of '2026-11-29 12:00:00'` | what was published at a moment, in UTC unless the text has a zone |
///
/// `system_version` and `system_time` are other names of the two, and a moment may be `timestamp '...'` or `date '...'`.
/// All other text stays as it is.
///
/// ```
/// use hardtack_tables::with_versions_as_names;
///
/// let sql = with_versions_as_names("select name from lake.people for version as of 'year-end' where id = 1");
/// assert_eq!(sql, r#"select name from lake."people@year-end" as "people" where id = 1"#);
/// ```
pub fn with_versions_as_names(sql: &str) -> Cow<'_, str> {
    // A text that has no tokens is for the parser to refuse.
    let tokens = Tokenizer::new(&GenericDialect {}, sql).with_unescape(false).tokenize_with_location();
    let Ok(tokens) = tokens else { return Cow::Borrowed(sql) };
    let clauses: Vec<Clause> = (0..tokens.len()).filter_map(|at| Clause::at(&tokens, at)).collect();
    if clauses.is_empty() {
        return Cow::Borrowed(sql);
    }
    let (mut named, mut copied) = (String::new(), 0);
    for clause in clauses {
        named.push_str(&sql[copied..offset(sql, tokens[clause.table].span.start)]);
        named.push_str(&clause.name());
        copied = offset(sql, tokens[clause.last].span.end);
    }
    Cow::Owned(named + &sql[copied..])
}

/// The byte at which a line and a column are, both counted from one, columns in characters.
fn offset(sql: &str, location: Location) -> usize {
    let (line, column) = (location.line.saturating_sub(1) as usize, location.column.saturating_sub(1) as usize);
    let start: usize = sql.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &sql[start..];
    start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at)
}

/// A version of a table in a statement.
struct Clause {
    /// The token with the last part of the table's name.
    table: usize,
    /// That name, as the catalog has it.
    of: String,
    version: String,
    /// The last token of the clause.
    last: usize,
    /// Whether columns are named by an alias, which the statement has.
    has_alias: bool,
}

impl Clause {
    /// The clause about the table whose name ends with this token.
    fn at(tokens: &[TokenWithSpan], table: usize) -> Option<Self> {
        let name = match &tokens[table].token {
            // The first word of the clause, not the name before it.
            Token::Word(word) if !is(word, "for") => word,
            _ => return None,
        };
        let mut rest = Rest { tokens, at: table + 1 };
        rest.word("for");
        let is_moment = match rest.next()? {
            Token::Word(word) if is(word, "version") || is(word, "system_version") => false,
            Token::Word(word) if is(word, "timestamp") || is(word, "system_time") => true,
            _ => return None,
        };
        if !(rest.word("as") && rest.word("of")) {
            return None;
        }
        if is_moment && !rest.word("timestamp") {
            rest.word("date");
        }
        let version = match rest.next()? {
            Token::Number(digits, _) if !is_moment => digits.clone(),
            Token::SingleQuotedString(text) if is_moment => moment(text),
            Token::SingleQuotedString(text) => text.replace("''", "'"),
            _ => return None,
        };
        // Names without quotes are folded by the parser, which does not happen to the new one.
        let of = match name.quote_style {
            Some(_) => name.value.replace("\"\"", "\""),
            None => name.value.to_lowercase(),
        };
        let last = rest.at - 1;
        let has_alias = match rest.next() {
            Some(Token::Word(word)) => {
                is(word, "as") || word.quote_style.is_some() || word.keyword == Keyword::NoKeyword
            }
            _ => false,
        };
        Some(Self { table, of, version, last, has_alias })
    }

    /// The name of the version, and an alias by which columns can be named as before.
    fn name(&self) -> String {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let name = quoted(&format!("{}@{}", self.of, self.version));
        if self.has_alias { name } else { format!("{name} as {}", quoted(&self.of)) }
    }
}

/// Tokens from one on, without white space and comments.
struct Rest<'a> {
    tokens: &'a [TokenWithSpan],
    at: usize,
}

impl<'a> Rest<'a> {
    fn next(&mut self) -> Option<&'a Token> {
        loop {
            let token = &self.tokens.get(self.at)?.token;
            self.at += 1;
            if !matches!(token, Token::Whitespace(_)) {
                return Some(token);
            }
        }
    }

    /// Skips this word, if it comes next.
    fn word(&mut self, wanted: &str) -> bool {
        let before = self.at;
        let there = matches!(self.next(), Some(Token::Word(word)) if is(word, wanted));
        if !there {
            self.at = before;
        }
        there
    }
}

fn is(word: &Word, wanted: &str) -> bool {
    word.quote_style.is_none() && word.value.eq_ignore_ascii_case(wanted)
}

/// A moment as Spark and Trino write it, with the `T` and the zone that names of versions have.
fn moment(text: &str) -> String {
    let text = text.trim();
    let Some((date, time)) = text.split_once([' ', 'T']) else { return text.to_owned() };
    let time = time.trim();
    let utc = ["UTC", "Z", "z"].iter().find_map(|zone| time.strip_suffix(zone));
    match utc {
        Some(time) => format!("{date}T{}Z", time.trim_end()),
        None if time.contains(['+', '-']) => format!("{date}T{}", time.replace(' ', "")),
        None => format!("{date}T{time}Z"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("select * from lake.people version as of 3", r#"select * from lake."people@3" as "people""#)]
    #[case("select * from lake.People FOR VERSION AS OF 3;", r#"select * from lake."people@3" as "people";"#)]
    #[case("from t for system_version as of 'year-end' where a", r#"from "t@year-end" as "t" where a"#)]
    #[case("from t version as of 'it''s' p", r#"from "t@it's" p"#)]
    #[case("from t version as of 3 as p", r#"from "t@3" as p"#)]
    #[case("from t timestamp as of '2026-11-29'", r#"from "t@2026-11-29" as "t""#)]
    #[case("from t for timestamp as of '2026-11-29 12:00:00'", r#"from "t@2026-11-29T12:00:00Z" as "t""#)]
    #[case("from t for timestamp as of timestamp '2026-11-29 12:00:00 UTC'", r#"from "t@2026-11-29T12:00:00Z" as "t""#)]
    #[case("from t for system_time as of '2026-11-29T12:00:00+01:00'", r#"from "t@2026-11-29T12:00:00+01:00" as "t""#)]
    #[case("from t timestamp as of date '2026-11-29'", r#"from "t@2026-11-29" as "t""#)]
    #[case(r#"from "Odd ""name" version as of 3"#, r#"from "Odd ""name@3" as "Odd ""name""#)]
    #[case("from a version as of 1 join a version as of 2 b on x", r#"from "a@1" as "a" join "a@2" b on x"#)]
    #[case("from t /* old */ version\n as -- of\n of 3", r#"from "t@3" as "t""#)]
    #[case(
        "select 'ä', $$b$$, e'\\n'\n-- ö\nfrom t version as of 3 where é = 'ü'",
        "select 'ä', $$b$$, e'\\n'\n-- ö\nfrom \"t@3\" as \"t\" where é = 'ü'"
    )]
    fn versions_become_names(#[case] sql: &str, #[case] expected: &str) {
        assert_eq!(with_versions_as_names(sql), expected);
        assert_eq!(with_versions_as_names(expected), expected);
    }

    #[rstest]
    #[case("select version as of from t")]
    #[case("select 'from t version as of 3', e'it\\'s' -- t version as of 3")]
    #[case("select version as \"of\" from t")]
    #[case("select 'never closed from t version as of 3")]
    #[case("select * from t version as of now()")]
    #[case("select t.version, timestamp '2026-11-29 12:00:00' from t")]
    fn other_text_stays(#[case] sql: &str) {
        assert!(matches!(with_versions_as_names(sql), Cow::Borrowed(same) if same == sql));
    }
}
