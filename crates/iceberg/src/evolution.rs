//! Schema evolution by field ids: new columns, wider types.

use std::collections::HashMap;
use std::sync::Arc;

use hardtack_catalog::SchemaEvolution;
use hardtack_core::{Error, Result, nearest};
use iceberg::TableUpdate;
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, Schema, SchemaRef, StructType, TableMetadata, Type,
};

use crate::error::failed;

/// A schema that holds these rows as well, as far as `how` allows; `None` if the table's does. Fields of the rows have ids of
/// their own, which do not matter.
///
/// # Errors
/// Refused, with all columns that the table does not have and must not get.
pub(crate) fn evolved(metadata: &TableMetadata, rows: &Schema, how: SchemaEvolution) -> Result<Option<Schema>> {
    let current = metadata.current_schema();
    // Another run may have added the same columns, and not published yet: its fields are the same. A field that was published
    // and dropped is not: its values must not come back.
    let mut known = HashMap::new();
    for schema in pending(metadata).filter_map(|id| metadata.schema_by_id(id)) {
        paths(schema.as_struct(), "", &mut known);
    }
    known.retain(|_, field| current.field_by_id(field.id).is_none());
    let mut growing = Growing { how, last_id: metadata.last_column_id(), known, unknown: Vec::new(), changed: false };
    let fields = growing.fields(current.as_struct().fields(), rows.as_struct().fields(), "");
    if let Some(first) = growing.unknown.first() {
        let names = current.as_struct().fields().iter().map(|field| field.name.as_str());
        let near = nearest(first, names).filter(|_| !first.contains('.'));
        let error = Error::refused("the table does not have these columns").with("columns", growing.unknown.join(", "));
        return Err(match near {
            Some(near) => error.with("did you mean", near),
            None => error,
        }
        .hint("drop them before saving, or let the table grow: .schema_evolution(AddColumns)"));
    }
    if !growing.changed {
        return Ok(None);
    }
    let schema = Schema::builder().with_fields(fields).with_identifier_field_ids(current.identifier_field_ids());
    schema.build().map(Some).map_err(failed)
}

/// The property of a table with the ids of schemas that runs have added and not published.
const PENDING: &str = "hardtack.pending-schemas";

/// The schemas that runs have added and not published.
fn pending(metadata: &TableMetadata) -> impl Iterator<Item = i32> {
    let ids = metadata.properties().get(PENDING).map(String::as_str).unwrap_or_default();
    ids.split(' ').filter_map(|id| id.parse().ok())
}

/// The id of the next schema of a table.
fn next_id(metadata: &TableMetadata) -> i32 {
    metadata.schemas_iter().map(|schema| schema.schema_id()).max().unwrap_or_default() + 1
}

/// The update by which `schemas` are those that are pending.
fn set_pending(schemas: impl Iterator<Item = i32>) -> TableUpdate {
    let schemas: Vec<String> = schemas.map(|id| id.to_string()).collect();
    match schemas.is_empty() {
        true => TableUpdate::RemoveProperties { removals: vec![PENDING.to_owned()] },
        false => TableUpdate::SetProperties { updates: HashMap::from([(PENDING.to_owned(), schemas.join(" "))]) },
    }
}

/// The updates by which a run adds a schema, which is not current until the run is published.
pub(crate) fn added(metadata: &TableMetadata, schema: Schema) -> Vec<TableUpdate> {
    let pending = pending(metadata).chain([next_id(metadata)]);
    vec![TableUpdate::AddSchema { schema }, set_pending(pending)]
}

/// The schema that is current once something staged is published.
pub(crate) struct Published {
    pub(crate) schema: SchemaRef,
    pub(crate) schema_id: i32,
    /// The updates that make it current.
    pub(crate) updates: Vec<TableUpdate>,
}

/// The schema that is current once something is published that was staged with the schema `ours` when `base` was current;
/// `None` if one of the two is gone.
///
/// # Errors
/// As for [`united`].
pub(crate) fn published(metadata: &TableMetadata, base: i32, ours: i32) -> Result<Option<Published>> {
    let (current, current_id) = (metadata.current_schema(), metadata.current_schema_id());
    let stays = || Published { schema: Arc::clone(current), schema_id: current_id, updates: Vec::new() };
    if ours == base || ours == current_id {
        return Ok(Some(stays()));
    }
    let (Some(base), Some(of_run)) = (metadata.schema_by_id(base), metadata.schema_by_id(ours)) else {
        return Ok(None);
    };
    let Some(schema) = united(current, base, of_run)? else { return Ok(Some(stays())) };
    // As the metadata builder does, which does not add a schema twice.
    let same = |other: &&SchemaRef| {
        other.as_struct() == schema.as_struct() && other.identifier_field_ids().eq(schema.identifier_field_ids())
    };
    let there = metadata.schemas_iter().find(same).map(|other| other.schema_id());
    let mut updates = match there {
        Some(schema_id) => vec![TableUpdate::SetCurrentSchema { schema_id }],
        None => {
            vec![TableUpdate::AddSchema { schema: schema.clone() }, TableUpdate::SetCurrentSchema { schema_id: -1 }]
        }
    };
    updates.push(set_pending(pending(metadata).filter(|id| *id != ours)));
    let schema_id = there.unwrap_or_else(|| next_id(metadata));
    Ok(Some(Published { schema: Arc::new(schema), schema_id, updates }))
}

/// The fields of a schema by path and type, so that a field that is added twice has one id.
fn paths(of: &StructType, above: &str, known: &mut HashMap<(String, String), NestedFieldRef>) {
    for field in of.fields() {
        let path = format!("{above}.{}", field.name);
        within(&field.field_type, &path, known);
        known.insert((path, shape(&field.field_type)), Arc::clone(field));
    }
}

fn within(of: &Type, path: &str, known: &mut HashMap<(String, String), NestedFieldRef>) {
    match of {
        Type::Primitive(_) => {}
        Type::Struct(fields) => paths(fields, path, known),
        Type::List(list) => within(&list.element_field.field_type, &format!("{path}.element"), known),
        Type::Map(map) => within(&map.value_field.field_type, &format!("{path}.value"), known),
    }
}

/// A type without ids.
fn shape(of: &Type) -> String {
    match of {
        Type::Primitive(of) => of.to_string(),
        Type::List(list) => format!("[{}]", shape(&list.element_field.field_type)),
        Type::Map(map) => {
            format!("<{},{}>", shape(&map.key_field.field_type), shape(&map.value_field.field_type))
        }
        Type::Struct(fields) => {
            let fields: Vec<String> =
                fields.fields().iter().map(|f| format!("{:?}:{}", f.name, shape(&f.field_type))).collect();
            format!("{{{}}}", fields.join(","))
        }
    }
}

struct Growing {
    how: SchemaEvolution,
    last_id: i32,
    known: HashMap<(String, String), NestedFieldRef>,
    unknown: Vec<String>,
    changed: bool,
}

impl Growing {
    fn fields(&mut self, old: &[NestedFieldRef], new: &[NestedFieldRef], above: &str) -> Vec<NestedFieldRef> {
        let mut fields: Vec<NestedFieldRef> = old.to_vec();
        for wanted in new {
            let path = format!("{above}.{}", wanted.name);
            match fields.iter_mut().find(|field| field.name == wanted.name) {
                Some(field) => {
                    let merged = self.merged(&field.field_type, &wanted.field_type, &path);
                    if merged != *field.field_type {
                        *field = Arc::new(NestedField { field_type: Box::new(merged), ..field.as_ref().clone() });
                    }
                }
                None if self.how == SchemaEvolution::Fail => self.unknown.push(path[1..].to_owned()),
                None => {
                    self.changed = true;
                    let known = self.known.get(&(path, shape(&wanted.field_type)));
                    let added = match known {
                        Some(known) => Arc::clone(known),
                        None => Arc::new(self.added(wanted)),
                    };
                    // Rows that are there do not have it.
                    fields.push(Arc::new(NestedField { required: false, ..added.as_ref().clone() }));
                }
            }
        }
        fields
    }

    fn merged(&mut self, old: &Type, new: &Type, path: &str) -> Type {
        match (old, new) {
            (Type::Struct(old), Type::Struct(new)) => {
                Type::Struct(StructType::new(self.fields(old.fields(), new.fields(), path)))
            }
            (Type::List(old), Type::List(new)) => {
                let (field, new) = (&old.element_field, &new.element_field.field_type);
                let element = self.merged(&field.field_type, new, &format!("{path}.element"));
                Type::List(ListType::new(with_type(field, element)))
            }
            (Type::Map(old), Type::Map(new)) => {
                let (key, value) = (&old.key_field, &old.value_field);
                let of_value = self.merged(&value.field_type, &new.value_field.field_type, &format!("{path}.value"));
                Type::Map(MapType::new(Arc::clone(key), with_type(value, of_value)))
            }
            (Type::Primitive(old), Type::Primitive(new)) if self.how == SchemaEvolution::WidenTypes => {
                let wide = wider(old, new);
                self.changed |= wide != *old;
                Type::Primitive(wide)
            }
            // Values are coerced to the type that is there.
            (old, _) => old.clone(),
        }
    }

    /// A field with new ids.
    fn added(&mut self, field: &NestedField) -> NestedField {
        self.last_id += 1;
        let id = self.last_id;
        let of = match field.field_type.as_ref() {
            Type::Primitive(of) => Type::Primitive(of.clone()),
            Type::Struct(fields) => {
                Type::Struct(StructType::new(fields.fields().iter().map(|f| Arc::new(self.added(f))).collect()))
            }
            Type::List(list) => Type::List(ListType::new(Arc::new(self.added(&list.element_field)))),
            Type::Map(map) => {
                let key = Arc::new(self.added(&map.key_field));
                Type::Map(MapType::new(key, Arc::new(self.added(&map.value_field))))
            }
        };
        NestedField { id, field_type: Box::new(of), ..field.clone() }
    }
}

/// A field with new ids, at every depth, that follow `last_id`.
pub(crate) fn with_new_ids(field: &NestedField, last_id: i32) -> NestedField {
    let how = SchemaEvolution::AddColumns;
    let mut growing = Growing { how, last_id, known: HashMap::new(), unknown: Vec::new(), changed: false };
    growing.added(field)
}

/// The field with another type.
pub(crate) fn with_type(field: &NestedFieldRef, of: Type) -> NestedFieldRef {
    Arc::new(NestedField { field_type: Box::new(of), ..field.as_ref().clone() })
}

/// The type that holds the values of both, if Iceberg promotes the old one to it.
pub(crate) fn wider(old: &PrimitiveType, new: &PrimitiveType) -> PrimitiveType {
    match (old, new) {
        (PrimitiveType::Int, PrimitiveType::Long) => PrimitiveType::Long,
        (PrimitiveType::Float, PrimitiveType::Double) => PrimitiveType::Double,
        (PrimitiveType::Decimal { precision: old, scale }, PrimitiveType::Decimal { precision: new, scale: same })
            if scale == same =>
        {
            PrimitiveType::Decimal { precision: *old.max(new), scale: *scale }
        }
        (old, _) => old.clone(),
    }
}

/// The current schema with what a run has added to `base`; `None` if it has that.
///
/// # Errors
/// Conflict if a column of the same name has come meanwhile, with another id or type.
fn united(current: &Schema, base: &Schema, ours: &Schema) -> Result<Option<Schema>> {
    let mut uniting = Uniting { base, changed: false };
    let fields = uniting.fields(current.as_struct().fields(), ours.as_struct().fields())?;
    if !uniting.changed {
        return Ok(None);
    }
    let schema = Schema::builder().with_fields(fields).with_identifier_field_ids(current.identifier_field_ids());
    schema.build().map(Some).map_err(failed)
}

struct Uniting<'a> {
    base: &'a Schema,
    changed: bool,
}

impl Uniting<'_> {
    fn fields(&mut self, current: &[NestedFieldRef], ours: &[NestedFieldRef]) -> Result<Vec<NestedFieldRef>> {
        let mut fields = current.to_vec();
        for wanted in ours {
            if let Some(field) = fields.iter_mut().find(|field| field.id == wanted.id) {
                *field = with_type(field, self.of(&field.field_type, &wanted.field_type)?);
                continue;
            }
            // Others have dropped it.
            if self.base.field_by_id(wanted.id).is_some() {
                continue;
            }
            if fields.iter().any(|field| field.name == wanted.name) {
                return Err(Error::conflict(
                    "another column of this name was added to the table while this run wrote to it",
                )
                .with("column", &wanted.name)
                .hint("rename that one, and run `hardtack recover`"));
            }
            self.changed = true;
            fields.push(Arc::clone(wanted));
        }
        Ok(fields)
    }

    fn of(&mut self, current: &Type, ours: &Type) -> Result<Type> {
        Ok(match (current, ours) {
            (Type::Struct(current), Type::Struct(ours)) => {
                Type::Struct(StructType::new(self.fields(current.fields(), ours.fields())?))
            }
            (Type::List(current), Type::List(ours)) => {
                let element = self.of(&current.element_field.field_type, &ours.element_field.field_type)?;
                Type::List(ListType::new(with_type(&current.element_field, element)))
            }
            (Type::Map(current), Type::Map(ours)) => {
                let value = self.of(&current.value_field.field_type, &ours.value_field.field_type)?;
                Type::Map(MapType::new(Arc::clone(&current.key_field), with_type(&current.value_field, value)))
            }
            (Type::Primitive(current), Type::Primitive(ours)) => {
                let wide = wider(current, ours);
                self.changed |= wide != *current;
                Type::Primitive(wide)
            }
            (current, _) => current.clone(),
        })
    }
}
