//! Completion of words: names of databases, tables and columns, and SQL keywords.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use hardtack_catalog::{CatalogOf, TableDescription};
use hardtack_core::{JobContext, Result};
use tokio::runtime::Handle;

/// The names that can be completed. Lists are empty if there are none, or if they are unavailable.
pub(super) trait Names {
    fn databases(&self) -> Vec<String>;
    fn tables(&self, database: &str) -> Vec<String>;
    fn columns(&self, database: &str, table: &str) -> Vec<String>;
}

/// Completes the word before the cursor: returns its start and the sorted candidates.
pub(super) fn complete(names: &dyn Names, line: &str, cursor: usize) -> (usize, Vec<String>) {
    let before = &line[..cursor];
    let start =
        before.rfind(|c: char| !is_word(c)).map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
    let word = &before[start..];
    // There are no names within a string.
    let Some(tokens) = tokens(&before[..start]) else { return (start, Vec::new()) };
    let tables = match self::tokens(line) {
        Some(all) => tables(names, &all),
        None => tables(names, &tokens),
    };
    let command = before.trim_start().starts_with("\\d");
    let mut found = match word.rsplit_once('.') {
        Some((path, _)) => below(names, &tables, path),
        None if command || tokens.last().is_some_and(is_before_table) => all_tables(names),
        None => anything(names, &tables),
    };
    let word = plain(word);
    found.retain(|candidate| plain(candidate).starts_with(&word));
    found.sort();
    found.dedup();
    (start, found)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '"' | '\\')
}

/// A name in the form used for comparison.
fn plain(name: &str) -> String {
    name.replace('"', "").to_lowercase()
}

/// A name as written in SQL.
fn quoted(name: &str) -> String {
    let mut chars = name.chars();
    let starts = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_');
    let word = starts && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if word { name.to_owned() } else { format!("\"{name}\"") }
}

/// The tokens of a statement, unless it ends within a string.
fn tokens(sql: &str) -> Option<Vec<Token>> {
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize().ok()?;
    Some(tokens.into_iter().filter(|token| !matches!(token, Token::Whitespace(_))).collect())
}

/// Whether a statement is complete.
pub(super) fn is_complete(text: &str) -> bool {
    let command = text.trim();
    let ended = || tokens(text).is_some_and(|all| all.last() == Some(&Token::SemiColon));
    command.is_empty() || command.starts_with('\\') || is_farewell(command) || ended()
}

/// Whether a command leaves the shell.
pub(super) fn is_farewell(command: &str) -> bool {
    matches!(command.trim_end_matches(';').trim(), "quit" | "exit" | "\\q")
}

fn is_before_table(token: &Token) -> bool {
    matches!(token, Token::Word(w) if matches!(w.keyword, Keyword::FROM | Keyword::JOIN | Keyword::DESCRIBE | Keyword::TABLE))
}

/// A table that a statement names.
struct Named {
    alias: Option<String>,
    database: String,
    table: String,
}

/// The tables that a statement names: `a.b`, `a.b as c` or `a.b c` where `a` is a database.
fn tables(names: &dyn Names, tokens: &[Token]) -> Vec<Named> {
    let databases = names.databases();
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    };
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let (Some(database), Some(Token::Period), Some(table)) = (word(at), tokens.get(at + 1), word(at + 2)) else {
            continue;
        };
        let database = database.value.to_lowercase();
        if !databases.contains(&database) {
            continue;
        }
        let after = if word(at + 3).is_some_and(|w| w.keyword == Keyword::AS) { at + 4 } else { at + 3 };
        let alias = word(after).filter(|w| w.keyword == Keyword::NoKeyword).map(|w| w.value.to_lowercase());
        found.push(Named { alias, database, table: table.value.to_lowercase() });
    }
    found
}

/// The candidates after `path.`: the tables of a database, or the columns of a table or of an alias.
fn below(names: &dyn Names, tables: &[Named], path: &str) -> Vec<String> {
    let parts: Vec<String> = path.split('.').map(plain).collect();
    let found = match parts.as_slice() {
        [name] => {
            let is_meant = |t: &&Named| t.alias.as_ref() == Some(name) || t.table == *name;
            match tables.iter().find(is_meant) {
                Some(table) => names.columns(&table.database, &table.table),
                None => names.tables(name),
            }
        }
        [database, table] => names.columns(database, table),
        _ => Vec::new(),
    };
    found.iter().map(|name| format!("{path}.{}", quoted(name))).collect()
}

fn all_tables(names: &dyn Names) -> Vec<String> {
    let of = |database: String| {
        let tables = names.tables(&database);
        tables.into_iter().map(move |table| format!("{}.{}", quoted(&database), quoted(&table)))
    };
    names.databases().into_iter().flat_map(of).collect()
}

fn anything(names: &dyn Names, tables: &[Named]) -> Vec<String> {
    let mut all: Vec<String> = WORDS.iter().map(|word| (*word).to_owned()).collect();
    for table in tables {
        all.extend(names.columns(&table.database, &table.table).iter().map(|name| quoted(name)));
    }
    all.extend(all_tables(names));
    all
}

/// Frequently typed keywords.
const WORDS: [&str; 38] = [
    "all",
    "analyze",
    "and",
    "as",
    "asc",
    "between",
    "by",
    "case",
    "cast",
    "count(",
    "create view",
    "cross join",
    "desc",
    "distinct",
    "else",
    "end",
    "except",
    "explain",
    "explain analyze",
    "from",
    "group by",
    "having",
    "in",
    "is not null",
    "is null",
    "join",
    "left join",
    "like",
    "limit",
    "not",
    "on",
    "or",
    "order by",
    "select",
    "show tables",
    "then",
    "union all",
    "where",
];

// --- the names of a catalog ----------------------------------------------------------------------------------------

/// The names in the run's catalog, refreshed from time to time.
#[derive(Debug)]
pub(super) struct CatalogNames {
    ctx: JobContext,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    since: Instant,
    databases: Option<Vec<String>>,
    tables: HashMap<String, Vec<TableDescription>>,
}

/// How long a cached response is valid.
const CACHE_VALIDITY: Duration = Duration::from_secs(30);

impl CatalogNames {
    pub(super) fn new(ctx: &JobContext) -> Self {
        Self { ctx: ctx.clone(), known: Mutex::new(Known::nothing()) }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.since.elapsed() > CACHE_VALIDITY {
            *known = Known::nothing();
        }
        known
    }

    fn tables_of<T>(&self, database: &str, take: impl FnOnce(&[TableDescription]) -> T) -> T {
        let mut known = self.known();
        let tables = known
            .tables
            .entry(database.to_owned())
            .or_insert_with(|| wait(async { self.ctx.catalog().await?.list_tables(database).await }));
        take(tables)
    }
}

impl Known {
    fn nothing() -> Self {
        Self { since: Instant::now(), databases: None, tables: HashMap::new() }
    }
}

impl Names for CatalogNames {
    fn databases(&self) -> Vec<String> {
        let mut known = self.known();
        let databases = known.databases.get_or_insert_with(|| {
            let found = wait(async { self.ctx.catalog().await?.list_databases().await });
            found.into_iter().map(|database| database.name).collect()
        });
        databases.clone()
    }

    fn tables(&self, database: &str) -> Vec<String> {
        self.tables_of(database, |tables| tables.iter().map(|table| table.name.clone()).collect())
    }

    fn columns(&self, database: &str, table: &str) -> Vec<String> {
        self.tables_of(database, |tables| {
            let table = tables.iter().find(|t| t.name == table).into_iter();
            table.flat_map(|t| t.all_columns().map(|c| c.name.clone()).collect::<Vec<_>>()).collect()
        })
    }
}

/// Waits for the catalog; must be called on a thread that may block. On an error nothing is completed; it will appear
/// when the statement runs.
fn wait<T>(asked: impl Future<Output = Result<Vec<T>>>) -> Vec<T> {
    tokio::task::block_in_place(|| Handle::current().block_on(asked)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    struct Lake;

    impl Names for Lake {
        fn databases(&self) -> Vec<String> {
            vec!["lake".to_owned(), "raw".to_owned()]
        }

        fn tables(&self, database: &str) -> Vec<String> {
            let tables: &[&str] = match database {
                "lake" => &["authors", "books"],
                "raw" => &["books-2026"],
                _ => &[],
            };
            tables.iter().map(|t| (*t).to_owned()).collect()
        }

        fn columns(&self, database: &str, table: &str) -> Vec<String> {
            let columns: &[&str] = match (database, table) {
                ("lake", "authors") => &["id", "name"],
                ("lake", "books") => &["pages", "published at", "title"],
                _ => &[],
            };
            columns.iter().map(|c| (*c).to_owned()).collect()
        }
    }

    /// Completes the word before `|`.
    #[rstest]
    #[case::tables_after_from("select * from |", "lake.authors lake.books raw.\"books-2026\"")]
    #[case::tables_by_prefix("select * from LAKE.b|", "LAKE.books")]
    #[case::tables_of_a_database("select * from raw.|", "raw.\"books-2026\"")]
    #[case::tables_after_join("select * from lake.books join lake.a|", "lake.authors")]
    #[case::columns("select ti| from lake.books", "title")]
    #[case::columns_of_all_tables("select na| from lake.books, lake.authors", "name")]
    #[case::columns_of_an_alias("select b.p| from lake.books b", "b.\"published at\" b.pages")]
    #[case::columns_of_an_alias_with_as("select b.t| from lake.books as b where", "b.title")]
    #[case::columns_of_a_table("select books.t| from lake.books where", "books.title")]
    #[case::columns_of_a_qualified_table("select lake.books.t| from lake.books", "lake.books.title")]
    #[case::words("sel|", "select")]
    #[case::words_in_a_second_line("select 1\nfr|", "from")]
    #[case::nothing_in_texts("select * from lake.books where title = 'fro|", "")]
    #[case::nothing_unknown("select x.y|", "")]
    #[case::describe("\\d la|", "lake.authors lake.books")]
    #[case::umlauts("select 'ä', ti| from lake.books", "title")]
    fn names_are_completed(#[case] line: &str, #[case] expected: &str) {
        let cursor = line.find('|').unwrap();
        let (_, found) = complete(&Lake, &line.replace('|', ""), cursor);
        // A name may contain a space.
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn a_word_is_replaced_from_its_start() {
        assert_eq!(complete(&Lake, "select * from lake.b", 20).0, 14);
        assert_eq!(complete(&Lake, "select (ti", 10).0, 8);
    }

    #[rstest]
    #[case("select 1", false)]
    #[case("select 1;", true)]
    #[case("select 1; -- done", true)]
    #[case("select ';", false)]
    #[case("select 1 -- ;", false)]
    #[case("\\d", true)]
    #[case("exit", true)]
    #[case("  ", true)]
    fn a_statement_ends_with_a_semicolon(#[case] text: &str, #[case] complete: bool) {
        assert_eq!(is_complete(text), complete);
    }
}
