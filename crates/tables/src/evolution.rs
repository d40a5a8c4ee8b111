//! Schema evolution: how a table's columns follow the rows that are saved to it.

use std::collections::HashMap;

use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::Column as Reference;
use datafusion::logical_expr::Expr;
use datafusion::prelude::DataFrame;
use hardtack_catalog::types::Policy;
use hardtack_catalog::{Column, HiveField, HiveType, SchemaEvolution, TableDescription};
use hardtack_core::{Error, Result};
use hardtack_transforms::coerce_to_schema;

/// Makes the table's columns hold these rows, as far as `how` allows, and returns the new and changed columns.
///
/// # Errors
/// Refused, with all columns that the table does not have and must not get.
pub(crate) fn evolve(table: &mut TableDescription, rows: &Schema, how: SchemaEvolution) -> Result<Vec<Column>> {
    let (mut changes, mut unknown) = (Vec::new(), Vec::new());
    for field in rows.fields() {
        let is_key = table.partition_keys.iter().any(|key| same_name(&key.name, field.name()));
        match table.storage.columns.iter_mut().find(|column| same_name(&column.name, field.name())) {
            // Values of a type that Hive does not have may still fit the column's type.
            Some(column) => {
                let (Ok(old), Ok(new)) = (column.hive_type(), HiveType::of(field)) else { continue };
                let merged = merged(&old, &new, how, &column.name, &mut unknown);
                if merged != old {
                    column.data_type = merged.to_string();
                    changes.push(column.clone());
                }
            }
            None if is_key => {}
            None if how == SchemaEvolution::Fail => unknown.push(field.name().clone()),
            None => {
                let mut column = Column::of(field).map_err(|e| e.with("table", table.qualified_name()))?;
                column.name = column.name.to_lowercase();
                table.storage.columns.push(column.clone());
                changes.push(column);
            }
        }
    }
    if !unknown.is_empty() {
        return Err(Error::refused("the table does not have these columns")
            .with("table", table.qualified_name())
            .with("columns", unknown.join(", "))
            .hint("drop them before saving, or let the table grow: .schema_evolution(AddColumns)"));
    }
    Ok(changes)
}

/// Applies these changes to a table that may have changed meanwhile; returns whether there was anything to do.
///
/// # Errors
/// Conflict if a column has changed incompatibly.
pub(crate) fn apply(table: &mut TableDescription, changes: &[Column]) -> Result<bool> {
    let mut changed = false;
    for wanted in changes {
        match table.storage.columns.iter_mut().find(|column| same_name(&column.name, &wanted.name)) {
            None => {
                table.storage.columns.push(wanted.clone());
                changed = true;
            }
            Some(column) => {
                let (old, new) = (column.hive_type()?, wanted.hive_type()?);
                let all = merged(&old, &new, SchemaEvolution::WidenTypes, &column.name, &mut Vec::new());
                if !covers(&all, &new) {
                    return Err(Error::conflict("a column was given another type while this run wrote to it")
                        .with("column", &column.name)
                        .with("type", old)
                        .with("written", new)
                        .hint("give the column the type that was written, and run `hardtack recover`"));
                }
                if all != old {
                    column.data_type = all.to_string();
                    changed = true;
                }
            }
        }
    }
    Ok(changed)
}

/// The type that holds the values of both, or else the old one, to which values are then coerced. Struct fields that
/// must not be added are collected in `unknown`.
fn merged(old: &HiveType, new: &HiveType, how: SchemaEvolution, path: &str, unknown: &mut Vec<String>) -> HiveType {
    match (old, new) {
        (HiveType::Struct(old), HiveType::Struct(new)) => {
            let mut fields = old.clone();
            for field in new {
                let path = format!("{path}.{}", field.name);
                match fields.iter_mut().find(|f| f.name == field.name) {
                    Some(found) => {
                        found.data_type = merged(&found.data_type, &field.data_type, how, &path, unknown);
                    }
                    None if how == SchemaEvolution::Fail => unknown.push(path),
                    None => fields.push(HiveField { name: field.name.clone(), data_type: field.data_type.clone() }),
                }
            }
            HiveType::Struct(fields)
        }
        (HiveType::Array(old), HiveType::Array(new)) => {
            HiveType::Array(merged(old, new, how, &format!("{path}[]"), unknown).into())
        }
        (HiveType::Map(old_key, old), HiveType::Map(new_key, new)) => HiveType::Map(
            merged(old_key, new_key, how, &format!("{path}.key"), unknown).into(),
            merged(old, new, how, &format!("{path}.value"), unknown).into(),
        ),
        (old, new) if how == SchemaEvolution::WidenTypes => united(old, new).unwrap_or_else(|| old.clone()),
        (old, _) => old.clone(),
    }
}

/// The type that holds the values of both, if older files can be read in it.
fn united(a: &HiveType, b: &HiveType) -> Option<HiveType> {
    let field = |hive: &HiveType| hive.to_field("", true);
    HiveType::of(&Policy::Evolve.unite(&field(a), &field(b)).ok()?).ok()
}

/// Whether files with the type `part` can be read as `whole`.
fn covers(whole: &HiveType, part: &HiveType) -> bool {
    united(whole, part).is_some_and(|united| united == *whole)
}

pub(crate) fn same_name(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

/// The rows under the names of the table's columns: catalogs are case-insensitive.
///
/// # Errors
/// Refused if two columns of the rows differ only in case.
pub(crate) fn fold_names(rows: DataFrame, schema: &Schema) -> Result<DataFrame> {
    let (mut columns, mut seen) = (Vec::new(), HashMap::new());
    let mut folded = false;
    for (qualifier, field) in rows.schema().iter() {
        if let Some(other) = seen.insert(field.name().to_lowercase(), field.name()) {
            return Err(Error::refused("two columns differ only in case, which a table ignores; drop or rename one")
                .with("columns", format!("{other}, {}", field.name())));
        }
        let column = Expr::Column(Reference::from((qualifier, field)));
        columns.push(match schema.fields().iter().find(|f| same_name(f.name(), field.name())) {
            Some(declared) if declared.name() != field.name() => {
                folded = true;
                column.alias(declared.name())
            }
            _ => column,
        });
    }
    if folded { Ok(rows.select(columns)?) } else { Ok(rows) }
}

/// The rows as the table declares them.
///
/// # Errors
/// Refused, with all columns that are missing or can never have the declared type.
pub(crate) fn coerce(rows: DataFrame, schema: &Schema) -> Result<DataFrame> {
    let error = match coerce_to_schema(rows.clone(), schema) {
        Ok(rows) => return Ok(rows),
        Err(error) => error,
    };
    // Names the first column whose type does not fit; the others are tried one by one.
    let problem = |field: &Field| {
        let error = coerce_to_schema(rows.clone(), &Schema::new(vec![field.clone()])).err()?;
        Some(format!("{} ({}, declared {})", error.get("column")?, error.get("type")?, error.get("declared")?))
    };
    let problems: Vec<String> = schema.fields().iter().filter_map(|field| problem(field)).collect();
    match problems.len() {
        0 | 1 => Err(error),
        _ => Err(Error::refused("columns cannot become the declared types").with("columns", problems.join(", "))),
    }
}
