//! Finding columns by name and path.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, DFSchema};
use datafusion::functions::core::expr_fn::get_field;
use datafusion::prelude::{Expr, when};
use hardtack_core::{Error, Result};

/// A column or a field within it: its expression and its type.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) expr: Expr,
    pub(crate) field: FieldRef,
}

/// The columns of a frame. Their names are unique, so no function has to distinguish two `id`s.
pub(crate) struct Columns(Vec<Found>);

impl Columns {
    pub(crate) fn of(schema: &DFSchema) -> Result<Self> {
        let columns: Vec<Found> = schema
            .iter()
            .map(|(table, field)| {
                let column = Column::new(table.cloned(), field.name());
                Found { expr: Expr::Column(column), field: Arc::clone(field) }
            })
            .collect();
        for (i, column) in columns.iter().enumerate() {
            if let Some(other) = columns[..i].iter().find(|c| c.field.name() == column.field.name()) {
                return Err(Error::usage("two columns have the same name; select them under different ones first")
                    .with("columns", format!("{}, {}", other.expr, column.expr)));
            }
        }
        Ok(Self(columns))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Found> {
        self.0.iter()
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|c| c.field.name().as_str()).collect()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Found> {
        self.0.iter().find(|c| c.field.name() == name)
    }

    /// The column of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Found> {
        self.find(name).ok_or_else(|| unknown("column", name, &self.names()))
    }

    /// The column of this name or, if there is none, the field at this path.
    pub(crate) fn path(&self, path: &str) -> Result<Found> {
        if let Some(column) = self.find(path) {
            return Ok(column.clone());
        }
        let parts = split_path(path)?;
        let (first, rest) = parts.split_first().ok_or_else(|| Error::usage("a column's name is empty"))?;
        let column = self.get(first).map_err(|e| if rest.is_empty() { e } else { e.with("path", path) })?;
        rest.iter().try_fold(column.clone(), |parent, name| field_of(&parent, name)).map_err(|e| e.with("path", path))
    }

    /// Columns by name; all of them if `names` is empty.
    pub(crate) fn all_or(&self, names: &[&str]) -> Result<Vec<&Found>> {
        if names.is_empty() { Ok(self.0.iter().collect()) } else { names.iter().map(|n| self.get(n)).collect() }
    }
}

/// A field of a struct. It is null where the struct is: below a null, Arrow may keep anything.
fn field_of(parent: &Found, name: &str) -> Result<Found> {
    let DataType::Struct(fields) = parent.field.data_type() else {
        return Err(Error::usage(format!("`{}` is not a struct", parent.field.name()))
            .with("type", type_name(parent.field.data_type())));
    };
    let field = fields
        .iter()
        .find(|f| f.name() == name)
        .ok_or_else(|| unknown("field", name, &fields.iter().map(|f| f.name().as_str()).collect::<Vec<_>>()))?;
    let value = get_field(parent.expr.clone(), name);
    if !parent.field.is_nullable() {
        return Ok(Found { expr: value, field: Arc::clone(field) });
    }
    let expr = when(parent.expr.clone().is_not_null(), value).end()?;
    Ok(Found { expr, field: Arc::new(field.as_ref().clone().with_nullable(true)) })
}

/// Splits a path at its dots, except within backquotes or after a backslash.
pub(crate) fn split_path(path: &str) -> Result<Vec<String>> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '`' if quoted && chars.next_if_eq(&'`').is_some() => part.push('`'),
            '`' => quoted = !quoted,
            '\\' if chars.next_if_eq(&'.').is_some() => part.push('.'),
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            c => part.push(c),
        }
    }
    parts.push(part);
    if quoted {
        return Err(Error::usage("this path has an unmatched backquote").with("path", path));
    }
    if parts.iter().any(String::is_empty) {
        return Err(Error::usage("this path has an empty part; put names with dots in backquotes").with("path", path));
    }
    Ok(parts)
}

/// The error for a name that is not among `known`.
pub(crate) fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let hint = nearest(name, known).map_or_else(String::new, |n| format!("; did you mean `{n}`?"));
    Error::usage(format!("there is no {what} `{name}`{hint}")).with("columns", known.join(", "))
}

/// The name that was probably meant.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    hardtack_core::nearest(name, known.iter().copied())
}

/// A type in the catalog's notation where it has one, because contracts are written in it.
pub(crate) fn type_name(data_type: &DataType) -> String {
    let hive = hardtack_catalog::HiveType::try_from(data_type);
    hive.map_or_else(|_| data_type.to_string(), |t| t.to_string())
}

/// Like [`type_name`], with the length of a `varchar(n)`.
pub(crate) fn type_name_of(field: &Field) -> String {
    hardtack_catalog::HiveType::of(field).map_or_else(|_| field.data_type().to_string(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::frame;

    #[rstest]
    #[case("a", &["a"])]
    #[case("a.b.c", &["a", "b", "c"])]
    #[case("`a.b`.c", &["a.b", "c"])]
    #[case("a.`b``.c`", &["a", "b`.c"])]
    #[case(r"a\.b.c", &["a.b", "c"])]
    #[case(r"a\b", &[r"a\b"])]
    #[case("a`.`b.c", &["a.b", "c"])]
    #[case("a``.b", &["a", "b"])]
    fn paths_split_at_dots(#[case] path: &str, #[case] parts: &[&str]) {
        assert_eq!(split_path(path).unwrap(), parts);
    }

    /// Anything below a null is null, whatever is stored there. A field is `not null` only if nothing around it can be
    /// null.
    #[test]
    fn a_field_may_be_null_if_anything_around_it_may() {
        let number = Field::new("n", DataType::Int32, false);
        let of = |nullable| {
            let inner = Field::new("inner", DataType::Struct(vec![number.clone()].into()), nullable);
            Field::new("s", DataType::Struct(vec![inner].into()), false)
        };
        for nullable in [false, true] {
            let schema = DFSchema::try_from(datafusion::arrow::datatypes::Schema::new(vec![of(nullable)])).unwrap();
            let columns = Columns::of(&schema).unwrap();
            let found = columns.path("s.inner.n").unwrap();
            assert_eq!(found.field.is_nullable(), nullable);
            assert_eq!(found.expr.to_string().contains("CASE"), nullable, "{}", found.expr);
        }
    }

    #[rstest]
    #[case("nam", "there is no column `nam`; did you mean `Name`? (columns: id, Name, a.b, s)")]
    #[case("zip", "there is no column `zip` (columns: id, Name, a.b, s)")]
    #[case("s.y", "there is no field `y` (columns: x, deep, path: s.y)")]
    #[case("s.x.y", "`x` is not a struct (type: bigint, path: s.x.y)")]
    #[case("", "this path has an empty part; put names with dots in backquotes (path: )")]
    #[case("s..x", "this path has an empty part; put names with dots in backquotes (path: s..x)")]
    #[case("`s.x", "this path has an unmatched backquote (path: `s.x)")]
    fn what_is_not_there_is_named_with_what_is(#[case] path: &str, #[case] message: &str) {
        let frame = frame("id: bigint, Name: string, `a.b`: int, s: struct<x:bigint,deep:struct<y:int>>", &[]);
        let columns = Columns::of(frame.schema()).unwrap();
        assert_eq!(columns.path(path).unwrap_err().to_string(), message);
    }
}
