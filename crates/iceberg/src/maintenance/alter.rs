//! Changes of a table's columns, partition fields and properties. Files stay as they are.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit};
use hardtack_catalog::schema_of;
use hardtack_core::{Error, Result, nearest};
use iceberg::spec::{
    ListType, ManifestContentType, MapType, NestedField, NestedFieldRef, Schema, StructType, TableMetadata, Transform,
    Type,
};
use iceberg::{TableRequirement, TableUpdate};

use super::IcebergMaintenance;
use crate::catalog::{Change, Loaded};
use crate::error::failed;
use crate::evolution::{with_new_ids, with_type};
use crate::snapshot::{has_live, manifests_of};
use crate::version::refs;
use crate::{PartitionField, partition, schema};

/// A change of a table. Columns within structs are named with dots (`place.city`), and so are the elements of lists
/// (`tags.element`) and the values of maps (`prices.value`).
#[derive(Debug, Clone, PartialEq)]
pub enum TableChange {
    /// Gives a column another name. Its rows stay.
    RenameColumn {
        /// The column.
        column: String,
        /// Its new name, without that of the struct that it is in.
        to: String,
    },
    /// Drops a column. Earlier snapshots have it still.
    DropColumn {
        /// The column.
        column: String,
    },
    /// Adds a column, which is null in the rows that are there, as the last one of the table or struct.
    AddColumn {
        /// The column.
        column: String,
        /// Its type; of those that Iceberg lacks, the narrowest that it has is taken.
        data_type: DataType,
    },
    /// Moves a column within the table or struct that it is in.
    MoveColumn {
        /// The column.
        column: String,
        /// Behind this column of the same table or struct; `None` is to the front.
        after: Option<String>,
    },
    /// Gives a column a type that holds all its values: `bigint` for `int`, `double` for `float`, or a decimal of more digits.
    WidenColumn {
        /// The column.
        column: String,
        /// Its new type.
        data_type: DataType,
    },
    /// Lets a column be null.
    MakeOptional {
        /// The column.
        column: String,
    },
    /// Partitions what is written from now on by these fields, or not at all. Files that are there keep theirs until they
    /// are [compacted](IcebergMaintenance::compact).
    PartitionBy(Vec<PartitionField>),
    /// Sets a property.
    Set {
        /// The property.
        property: String,
        /// Its value.
        value: String,
    },
    /// Removes a property.
    Unset {
        /// The property.
        property: String,
    },
}

impl TableChange {
    /// The type of this name: one of the catalog (`bigint`, `decimal(9,2)`, `array<string>`, `struct<city:string>`), or one
    /// of Iceberg that the catalog lacks (`timestamptz`, `time`).
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if there is none.
    pub fn parse_type(text: &str) -> Result<DataType> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "long" => DataType::Int64,
            "time" => DataType::Time64(TimeUnit::Microsecond),
            "timestamptz" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            _ => schema_of(&[("column", text)])?.field(0).data_type().clone(),
        })
    }
}

impl fmt::Display for TableChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RenameColumn { column, to } => write!(f, "rename the column `{column}` to `{to}`"),
            Self::DropColumn { column } => write!(f, "drop the column `{column}`"),
            Self::AddColumn { column, data_type } => write!(f, "add the column `{column}` of type {data_type}"),
            Self::MoveColumn { column, after: Some(after) } => write!(f, "move the column `{column}` behind `{after}`"),
            Self::MoveColumn { column, after: None } => write!(f, "move the column `{column}` to the front"),
            Self::WidenColumn { column, data_type } => write!(f, "widen the column `{column}` to {data_type}"),
            Self::MakeOptional { column } => write!(f, "let the column `{column}` be null"),
            Self::PartitionBy(fields) if fields.is_empty() => f.write_str("partition by nothing"),
            Self::PartitionBy(fields) => {
                let fields: Vec<String> = fields.iter().map(ToString::to_string).collect();
                write!(f, "partition by {}", fields.join(", "))
            }
            Self::Set { property, value } => write!(f, "set the property `{property}` to `{value}`"),
            Self::Unset { property } => write!(f, "remove the property `{property}`"),
        }
    }
}

impl IcebergMaintenance {
    /// Changes the table's columns, partition fields or properties, in one commit. No file is rewritten: columns are known by
    /// their ids. Says whether there was anything to change.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for what is not there, for names that are taken, and for what Iceberg
    /// forbids: to narrow a type, and to drop a column by which rows are partitioned, sorted or identified.
    pub async fn alter(&self, change: &TableChange) -> Result<bool> {
        let mut attempts = self.attempts().await?;
        loop {
            let table = attempts.table();
            let named = |e: Error| e.with("table", table.qualified_name());
            let Some(Change { requirements, updates }) = change.of(table).await.map_err(named)? else {
                return Ok(false);
            };
            if self.commit(&mut attempts, requirements, updates).await? {
                return Ok(true);
            }
        }
    }
}

impl TableChange {
    /// The change of the table as it is; `None` if it is so already.
    async fn of(&self, table: &Loaded) -> Result<Option<Change>> {
        let metadata = table.metadata();
        let updates = match self {
            Self::PartitionBy(fields) => partitioned(metadata, fields)?,
            Self::Set { property, value } => {
                check_property(property)?;
                let is_so = metadata.properties().get(property) == Some(value);
                let updates = HashMap::from([(property.clone(), value.clone())]);
                (!is_so).then(|| vec![TableUpdate::SetProperties { updates }])
            }
            Self::Unset { property } => {
                check_property(property)?;
                let is_there = metadata.properties().contains_key(property);
                is_there.then(|| vec![TableUpdate::RemoveProperties { removals: vec![property.clone()] }])
            }
            _ => self.of_columns(table).await?,
        };
        let Some(updates) = updates else { return Ok(None) };
        let mut builder = metadata.as_ref().clone().into_builder(None);
        for update in &updates {
            // What else Iceberg forbids, such as a column that is named as a partition field.
            let refused = |e: iceberg::Error| Error::usage(e.message().to_owned()).because(e);
            builder = update.clone().apply(builder).map_err(refused)?;
        }
        let requirements = vec![
            TableRequirement::UuidMatch { uuid: metadata.uuid() },
            TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() },
            TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id: metadata.last_column_id() },
            TableRequirement::DefaultSpecIdMatch { default_spec_id: metadata.default_partition_spec_id() },
            TableRequirement::DefaultSortOrderIdMatch { default_sort_order_id: metadata.default_sort_order_id() },
        ];
        Ok(Some(Change { requirements, updates }))
    }

    async fn of_columns(&self, table: &Loaded) -> Result<Option<Vec<TableUpdate>>> {
        let metadata = table.metadata();
        let current = metadata.current_schema();
        let mut columns = Columns { used: Used::of(table).await?, metadata };
        let fields = columns.changed(current.as_struct().fields(), self)?;
        let schema = Schema::builder()
            .with_fields(fields)
            .with_identifier_field_ids(current.identifier_field_ids())
            .build()
            .map_err(failed)?;
        if schema.as_struct() == current.as_struct() {
            return Ok(None);
        }
        Ok(Some(vec![TableUpdate::AddSchema { schema }, TableUpdate::SetCurrentSchema { schema_id: -1 }]))
    }
}

fn partitioned(metadata: &TableMetadata, fields: &[PartitionField]) -> Result<Option<Vec<TableUpdate>>> {
    let spec = partition::spec(fields, metadata.current_schema())?;
    let current = metadata.default_partition_spec().fields();
    let same =
        spec.fields().len() == current.len()
            && spec.fields().iter().zip(current).all(|(new, old)| {
                (new.source_id, new.transform, &new.name) == (old.source_id, old.transform, &old.name)
            });
    Ok((!same).then(|| vec![TableUpdate::AddSpec { spec }, TableUpdate::SetDefaultSpec { spec_id: -1 }]))
}

/// Refuses properties that are not a person's.
fn check_property(property: &str) -> Result<()> {
    match property.is_empty() || property.starts_with("hardtack.") {
        true => Err(Error::usage("this property is kept by hardtack").with("property", property)),
        false => Ok(()),
    }
}

/// The fields by which rows are found.
struct Used {
    /// Of the specs that files have, and of the current one.
    partitions: HashSet<i32>,
    /// Of those of them whose values are of the column's type.
    values: HashSet<i32>,
    sorted: HashSet<i32>,
    identifiers: HashSet<i32>,
    has_deletes: bool,
}

impl Used {
    async fn of(table: &Loaded) -> Result<Self> {
        let metadata = table.metadata();
        let (mut specs, mut has_deletes) = (HashSet::from([metadata.default_partition_spec_id()]), false);
        for branch in refs(table)?.iter().filter(|r| r.reference.is_branch()) {
            let Some(head) = metadata.snapshot_by_id(branch.reference.snapshot_id) else { continue };
            for manifest in manifests_of(table, head).await?.into_iter().filter(has_live) {
                specs.insert(manifest.partition_spec_id);
                has_deletes |= manifest.content == ManifestContentType::Deletes;
            }
        }
        let fields = || metadata.partition_specs_iter().filter(|spec| specs.contains(&spec.spec_id()));
        let fields = || fields().flat_map(|spec| spec.fields().to_vec()).filter(|f| f.transform != Transform::Void);
        let of_type = |transform: &Transform| matches!(transform, Transform::Identity | Transform::Truncate(_));
        Ok(Self {
            partitions: fields().map(|field| field.source_id).collect(),
            values: fields().filter(|field| of_type(&field.transform)).map(|field| field.source_id).collect(),
            sorted: metadata.default_sort_order().fields.iter().map(|field| field.source_id).collect(),
            identifiers: metadata.current_schema().identifier_field_ids().collect(),
            has_deletes,
        })
    }
}

/// The columns of a table while they are changed.
struct Columns<'a> {
    metadata: &'a TableMetadata,
    used: Used,
}

/// What a path names: fields, and the position of the named one.
type Place<'f> = (&'f mut Vec<NestedFieldRef>, usize);

impl Columns<'_> {
    fn changed(&mut self, fields: &[NestedFieldRef], change: &TableChange) -> Result<Vec<NestedFieldRef>> {
        match change {
            TableChange::RenameColumn { column, to } => self.at(fields, column, &mut |_, (fields, at)| {
                check_name(fields, to, Some(at))?;
                fields[at] = Arc::new(NestedField { name: to.clone(), ..fields[at].as_ref().clone() });
                Ok(())
            }),
            TableChange::DropColumn { column } => self.at(fields, column, &mut |columns, (fields, at)| {
                columns.check_unused(&fields[at])?;
                fields.remove(at);
                Ok(())
            }),
            TableChange::AddColumn { column, data_type } => self.added(fields, column, data_type),
            TableChange::MoveColumn { column, after } => self.at(fields, column, &mut |_, (fields, at)| {
                let moved = fields.remove(at);
                let to = match after {
                    None => 0,
                    Some(after) => 1 + position(fields, after)?,
                };
                fields.insert(to, moved);
                Ok(())
            }),
            TableChange::WidenColumn { column, data_type } => self.at(fields, column, &mut |columns, (fields, at)| {
                let wide = columns.widened(&fields[at], data_type)?;
                fields[at] = with_type(&fields[at], wide);
                Ok(())
            }),
            TableChange::MakeOptional { column } => self.at(fields, column, &mut |columns, (fields, at)| {
                if columns.used.identifiers.contains(&fields[at].id) {
                    return Err(Error::usage("rows are identified by this column, so it is never null"));
                }
                fields[at] = Arc::new(NestedField { required: false, ..fields[at].as_ref().clone() });
                Ok(())
            }),
            TableChange::PartitionBy(_) | TableChange::Set { .. } | TableChange::Unset { .. } => Ok(fields.to_vec()),
        }
    }

    /// The fields after a change of the one at a path.
    fn at(
        &mut self,
        fields: &[NestedFieldRef],
        path: &str,
        change: &mut dyn FnMut(&mut Self, Place<'_>) -> Result<()>,
    ) -> Result<Vec<NestedFieldRef>> {
        let changed = self.within(fields, path, change).and_then(|changed| changed.map(not_empty).transpose());
        changed.map_err(|e| e.with("column", path))?.ok_or_else(|| no_column(fields, path))
    }

    fn within(
        &mut self,
        fields: &[NestedFieldRef],
        path: &str,
        change: &mut dyn FnMut(&mut Self, Place<'_>) -> Result<()>,
    ) -> Result<Option<Vec<NestedFieldRef>>> {
        if let Some(at) = fields.iter().position(|field| field.name == path) {
            let mut fields = fields.to_vec();
            change(self, (&mut fields, at))?;
            return Ok(Some(fields));
        }
        for (at, field) in fields.iter().enumerate() {
            let Some(rest) = path.strip_prefix(&field.name).and_then(|rest| rest.strip_prefix('.')) else { continue };
            if let Some(of) = self.within_type(&field.field_type, rest, change)? {
                let mut fields = fields.to_vec();
                fields[at] = with_type(field, of);
                return Ok(Some(fields));
            }
        }
        Ok(None)
    }

    fn within_type(
        &mut self,
        of: &Type,
        path: &str,
        change: &mut dyn FnMut(&mut Self, Place<'_>) -> Result<()>,
    ) -> Result<Option<Type>> {
        // They have one field each, whose name is fixed.
        let mut only = |columns: &mut Self, field: &NestedFieldRef| {
            let changed = columns.within(std::slice::from_ref(field), path, change)?;
            match changed.as_deref() {
                None => Ok(None),
                Some([one]) if one.name == field.name => Ok(Some(Arc::clone(one))),
                Some(_) => Err(Error::usage("the elements of a list and the values of a map are not columns")
                    .hint("only their type can be widened, and they can be made optional")),
            }
        };
        Ok(match of {
            Type::Primitive(_) => None,
            Type::Struct(fields) => {
                let changed = self.within(fields.fields(), path, change)?.map(not_empty).transpose()?;
                changed.map(|fields| Type::Struct(StructType::new(fields)))
            }
            Type::List(list) => only(self, &list.element_field)?.map(|element| Type::List(ListType::new(element))),
            Type::Map(map) => {
                if path == "key" || path.starts_with("key.") {
                    return Err(Error::usage("the keys of a map cannot be changed"));
                }
                let key = Arc::clone(&map.key_field);
                only(self, &map.value_field)?.map(|value| Type::Map(MapType::new(key, value)))
            }
        })
    }

    fn added(&mut self, fields: &[NestedFieldRef], path: &str, data_type: &DataType) -> Result<Vec<NestedFieldRef>> {
        let rows = ArrowSchema::new(vec![Field::new("column", data_type.clone(), true)]);
        let of = schema::iceberg_schema(&rows).map_err(|e| e.with("column", path))?;
        let new = |name: &str| -> Result<NestedFieldRef> {
            let column = of.as_struct().fields().first();
            let column = column.ok_or_else(|| Error::unexpected("a schema has no column").with("column", name))?;
            let column = with_new_ids(column, self.metadata.last_column_id());
            Ok(Arc::new(NestedField { name: name.to_owned(), required: false, ..column }))
        };
        let Some((parent, name)) = path.rsplit_once('.') else {
            check_name(fields, path, None).map_err(|e| e.with("column", path))?;
            let mut fields = fields.to_vec();
            fields.push(new(path)?);
            return Ok(fields);
        };
        let new = new(name)?;
        self.at(fields, parent, &mut |_, (fields, at)| {
            let Type::Struct(inner) = fields[at].field_type.as_ref() else {
                return Err(Error::usage("this column is not a struct, so it has no columns"));
            };
            let mut inner = inner.fields().to_vec();
            check_name(&inner, name, None)?;
            inner.push(Arc::clone(&new));
            fields[at] = with_type(&fields[at], Type::Struct(StructType::new(inner)));
            Ok(())
        })
    }

    /// Refuses to drop what rows are found by.
    fn check_unused(&self, field: &NestedField) -> Result<()> {
        let mut ids = HashSet::from([field.id]);
        collect_ids(&field.field_type, &mut ids);
        let uses = [
            (&self.used.identifiers, "identified", "name other identifier fields first, with Spark for example"),
            (&self.used.partitions, "partitioned", "partition by other columns first, and compact all files"),
            (&self.used.sorted, "sorted", "choose another sort order first, with Spark for example"),
        ];
        match uses.into_iter().find(|(used, ..)| !used.is_disjoint(&ids)) {
            Some((_, how, hint)) => Err(Error::usage(format!("rows are {how} by this column")).hint(hint)),
            None => Ok(()),
        }
    }

    fn widened(&self, field: &NestedField, data_type: &DataType) -> Result<Type> {
        let rows = ArrowSchema::new(vec![Field::new("column", data_type.clone(), true)]);
        let wanted = schema::iceberg_schema(&rows)?.as_struct().fields().first().map(|field| field.field_type.clone());
        let (old, Some(Type::Primitive(new))) = (field.field_type.as_ref(), wanted.as_deref()) else {
            return Err(Error::usage("only the types of numbers can be widened"));
        };
        let fits = matches!(old, Type::Primitive(old) if crate::evolution::wider(old, new) == *new);
        if !fits {
            return Err(Error::usage(format!("{old} cannot become {new}"))
                .hint("int becomes bigint, float becomes double, and decimals get more digits before the point"));
        }
        if *old != Type::Primitive(new.clone()) && self.used.has_deletes && self.used.values.contains(&field.id) {
            return Err(Error::usage("rows are partitioned by this column, and some were deleted where they are")
                .hint("compact the table first: `hardtack iceberg compact`"));
        }
        Ok(Type::Primitive(new.clone()))
    }
}

fn not_empty(fields: Vec<NestedFieldRef>) -> Result<Vec<NestedFieldRef>> {
    match fields.is_empty() {
        true => Err(Error::usage("a table or struct has at least one column")),
        false => Ok(fields),
    }
}

fn collect_ids(of: &Type, ids: &mut HashSet<i32>) {
    let mut all = |field: &NestedFieldRef| {
        ids.insert(field.id);
        collect_ids(&field.field_type, ids);
    };
    match of {
        Type::Primitive(_) => {}
        Type::Struct(fields) => fields.fields().iter().for_each(all),
        Type::List(list) => all(&list.element_field),
        Type::Map(map) => [&map.key_field, &map.value_field].into_iter().for_each(all),
    }
}

/// Refuses a name that a field beside the one at `except` has, also in another case: catalogs and engines that ignore case
/// could not tell them apart.
fn check_name(fields: &[NestedFieldRef], name: &str, except: Option<usize>) -> Result<()> {
    if name.is_empty() || name.contains('.') {
        return Err(Error::usage("a name of a column is not empty, and has no dots").with("name", name));
    }
    let same = |field: &NestedFieldRef| field.name.to_lowercase() == name.to_lowercase();
    match fields.iter().enumerate().find(|(at, field)| Some(*at) != except && same(field)) {
        Some((_, field)) => Err(Error::usage("there is a column of this name").with("name", &field.name)),
        None => Ok(()),
    }
}

fn position(fields: &[NestedFieldRef], name: &str) -> Result<usize> {
    let name = name.rsplit('.').next().unwrap_or(name);
    fields.iter().position(|field| field.name == name).ok_or_else(|| {
        let error = Error::usage("there is no other column of this name beside it").with("after", name);
        match nearest(name, fields.iter().map(|field| field.name.as_str())) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error,
        }
    })
}

fn no_column(fields: &[NestedFieldRef], path: &str) -> Error {
    let error = Error::usage(format!("the table has no column `{path}`"));
    match nearest(path, fields.iter().map(|field| field.name.as_str())) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error,
    }
}
