//! Contracts written down in code.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use hardtack_core::{Error, Result};

use crate::parser::{Column, Parser};

/// A schema from column names and [Hive types](crate::HiveType). Columns may be null unless the type ends
/// in `not null`.
///
/// Use it where names or types come from outside; a schema that the job itself declares reads better as [`schema!`].
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
/// [`Usage`](hardtack_core::ErrorKind::Usage) for an unknown type or a name that is there twice (in whatever case).
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

/// A schema as a job declares it: `name: type`, optionally `not null`, in the words of the Glue catalog
/// (see [`HiveType`](crate::HiveType)). Names that are no words are put in double quotes.
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
/// It gives a [`SchemaRef`](arrow::datatypes::SchemaRef).
///
/// # Panics
/// If the text is no schema, with the position. It is a literal: the first test that touches the source or sink finds
/// it.
#[macro_export]
macro_rules! schema {
    ($($columns:tt)*) => {
        $crate::schema_literal(stringify!($($columns)*))
    };
}

/// What [`schema!`](crate::schema!) calls.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HiveType;

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
        schema! { title: string not null, body: text };
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
