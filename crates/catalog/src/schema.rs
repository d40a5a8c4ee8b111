//! Contracts declared in code.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use hardtack_core::{Error, Result};

use crate::parser::{Column, Parser};

/// A schema from column names and [Hive types](crate::HiveType). Columns are nullable unless the type ends in `not
/// null`.
///
/// Use it if names or types come from outside; a schema that the job itself declares reads better as [`schema!`].
///
/// ```
/// use hardtack_catalog::schema_of;
///
/// let books = schema_of(&[("title", "string not null"), ("publish_date", "date")])?;
/// assert!(!books.field_with_name("title")?.is_nullable());
///
/// let error = schema_of(&[("title", "text")]).unwrap_err();
/// assert_eq!(error.to_string(), "expected a type, found `text` (type: text, position: 1, column: title)");
/// # Ok::<_, hardtack_core::Error>(())
/// ```
///
/// [`schema!`]: crate::schema!
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for an unknown type or a duplicate name (ignoring case).
pub fn schema_of(columns: &[(&str, &str)]) -> Result<SchemaRef> {
    let columns = columns.iter().map(|(name, text)| {
        let mut parser = Parser::new(text);
        let column = parser.column_type().and_then(|column| parser.end().map(|()| column));
        let (data_type, nullable) = column.map_err(|e| e.of("type", text).with("column", name))?;
        Ok(Column { name: (*name).to_owned(), data_type, nullable })
    });
    let columns: Vec<Column> = columns.collect::<Result<_>>()?;
    for (i, column) in columns.iter().enumerate() {
        if columns[..i].iter().any(|c| c.name.to_lowercase() == column.name.to_lowercase()) {
            return Err(Error::usage("this column is declared twice").with("column", &column.name));
        }
    }
    Ok(to_schema(&columns))
}

/// A schema as a job declares it: `name: type`, optionally `not null`, in the notation of the Glue catalog (see
/// [`HiveType`](crate::HiveType)). Names that are not words are put in double quotes.
///
/// ```
/// use hardtack_catalog::schema;
///
/// let books = schema! {
///     title: string not null,
///     publish_date: date,
///     price: decimal(10, 2),
///     author: struct<name: string, country: char(2)>,
///     tags: array<string>,
///     "shelf mark": string,
/// };
/// assert_eq!(books.fields().len(), 6);
/// ```
///
/// Returns a [`SchemaRef`](arrow::datatypes::SchemaRef). An invalid schema does not compile, and the error points at
/// the fault:
///
/// ```compile_fail
/// let books = hardtack_catalog::schema! { title: strng };
/// //                                             ^^^^^ expected a type, found `strng`; did you mean `string`?
/// ```
///
/// For types of Arrow, Spark and SQL that have another name here, the error gives it: "found `Int64`; that is `bigint`
/// here".
#[macro_export]
macro_rules! schema {
    ($($columns:tt)*) => {
        $crate::schema_literal($crate::check_schema!($($columns)*))
    };
}

/// Called by [`schema!`](crate::schema!).
#[doc(hidden)]
#[track_caller]
pub fn schema_literal(text: &str) -> SchemaRef {
    match Parser::new(text).columns() {
        Ok(columns) => to_schema(&columns),
        Err(expected) => panic!("schema!: {}", expected.of("schema", text)),
    }
}

fn to_schema(columns: &[Column]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|c| c.data_type.to_field(&c.name, c.nullable)).collect::<Vec<_>>()))
}

/// The compile-time check of `schema!`.
#[cfg(test)]
#[path = "../../macros/src/check.rs"]
mod check;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::check::{Token, check};
    use super::*;
    use crate::HiveType;
    use crate::hive_type::tests::any_hive_type;

    fn show(schema: &Schema) -> String {
        let columns = schema.fields().iter().map(|f| {
            let null = if f.is_nullable() { "" } else { " not null" };
            format!("{}: {}{null}", f.name(), HiveType::of(f).unwrap())
        });
        columns.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_schema_reads_like_a_table() {
        let schema = schema! {
            id: bigint not null,
            price: decimal(10, 2),
            type: varchar(20),
            attributes: map<string, array<struct<a: int, b: array<double precision>>>> NOT NULL,
            "first name": string,
        };
        insta::assert_snapshot!(show(&schema), @r"
        id: bigint not null
        price: decimal(10,2)
        type: varchar(20)
        attributes: map<string,array<struct<a:int,b:array<double>>>> not null
        first name: string
        ");
    }

    #[test]
    #[should_panic(
        expected = "schema!: expected a type, found `text` (schema: title: string not null, body: text, position: 31)"
    )]
    fn a_wrong_literal_panics_with_the_position() {
        schema_literal("title: string not null, body: text");
    }

    /// A text as Rust tokens.
    fn tokens(text: &str) -> Vec<Token> {
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let end = match first {
                '"' => rest[1..].find('"').map_or(rest.len(), |end| end + 2),
                c if c == '_' || c.is_alphanumeric() => {
                    rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len())
                }
                c => c.len_utf8(),
            };
            let (token, after) = rest.split_at(end);
            tokens.push(match first {
                '"' => Token::Quoted(token.trim_matches('"').to_owned()),
                c if c == '_' || c.is_alphanumeric() => Token::Word(token.to_owned()),
                c => Token::Symbol(c),
            });
            rest = after.trim_start();
        }
        tokens
    }

    proptest! {
        /// A schema that compiles does not panic, and one that would panic does not compile.
        #[test]
        fn the_check_and_the_parser_agree(
            columns in prop::collection::vec(("[a-c]{1,2}", any_hive_type(), any::<bool>()), 0..4),
            changes in prop::collection::vec((any::<prop::sample::Index>(), "[<>(),:]|not|null|int|decimal|7|99|\"q\"|"), 0..3),
        ) {
            let column = |(name, of, not_null): &(String, HiveType, bool)| {
                format!("{name}: {of}{}", if *not_null { " not null" } else { "" })
            };
            let text = columns.iter().map(column).collect::<Vec<_>>().join(", ");
            prop_assume!(!text.contains('`'));
            let mut words: Vec<String> = tokens(&text).into_iter().map(|token| match token {
                Token::Word(word) => word,
                Token::Quoted(text) => format!("\"{text}\""),
                Token::Symbol(symbol) => symbol.to_string(),
            }).collect();
            for (at, change) in &changes {
                let at = at.index(words.len() + 1);
                match change.as_str() {
                    "" if at < words.len() => _ = words.remove(at),
                    "" => {}
                    change => words.insert(at, change.to_owned()),
                }
            }
            let text = words.join(" ");
            let parsed = Parser::new(&text).columns().map(drop).map_err(|e| e.of("schema", &text).to_string());
            let checked = check(&tokens(&text)).map_err(|wrong| wrong.message);
            prop_assert_eq!(parsed.is_ok(), checked.is_ok(), "{}: {:?}, {:?}", text, parsed, checked);
        }
    }

    #[test]
    fn names_are_unique_whatever_their_case() {
        let error = schema_of(&[("id", "int"), ("ID", "int")]).unwrap_err();
        assert_eq!(error.to_string(), "this column is declared twice (column: ID)");
    }

    #[test]
    fn not_must_be_followed_by_null() {
        let error = schema_of(&[("id", "int not nul")]).unwrap_err();
        assert_eq!(error.to_string(), "expected `null`, found `nul` (type: int not nul, position: 9, column: id)");
    }
}
