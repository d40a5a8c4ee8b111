//! Iceberg tables of a server that swaps their metadata itself: a REST catalog.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hardtack_catalog::{Catalog, CatalogExt, Conflict, Database, IcebergServer, ServedTable, TableDescription};
use hardtack_core::{Error, ErrorKind, Location, Result, Stores, fault};
use iceberg::io::FileIO;
use iceberg::spec::{Schema, TableMetadata};
use iceberg::{TableRequirement, TableUpdate};
use serde_json::json;

use crate::catalog::{IcebergCatalog, Loaded, backoff, conflict, not_iceberg};
use crate::storage::file_io;
use crate::version::refs;

/// Iceberg tables of a catalog with an [`IcebergServer`].
#[derive(Debug)]
pub(crate) struct Served {
    catalog: Arc<dyn Catalog>,
    server: Arc<dyn IcebergServer>,
    file_io: FileIO,
}

/// The pauses before a commit is sent again whose answer was lost.
fn pauses() -> impl Iterator<Item = Duration> {
    backoff(Duration::from_millis(100), Duration::from_secs(2), 4)
}

impl Served {
    pub(crate) fn new(catalog: Arc<dyn Catalog>, server: Arc<dyn IcebergServer>, stores: Arc<Stores>) -> Self {
        Self { catalog, server, file_io: file_io(stores) }
    }

    fn loaded(&self, table: &ServedTable) -> Result<Loaded> {
        let metadata = metadata(table)?;
        let description = table.description()?;
        let location = description.metadata_location().unwrap_or_default().to_owned();
        Ok(Loaded::new(description, location, metadata.into(), self.file_io.clone()))
    }

    /// Sends a change. `happened` says whether a table is as the change makes it.
    ///
    /// The requirements of a change exclude that it happens twice, so it is sent again if the answer was lost and the
    /// table is not changed: the lost request may still be on its way, and then one of the two is refused.
    async fn send(
        &self,
        database: &str,
        name: &str,
        change: &serde_json::Value,
        happened: impl Fn(&Loaded) -> bool,
    ) -> Result<Loaded> {
        let mut pauses = pauses();
        loop {
            let answer = self.server.commit(database, name, change).await;
            fault::hit("iceberg.swap.after")?;
            let error = match answer.and_then(|table| self.loaded(&table)) {
                Ok(table) => return Ok(table),
                Err(error) => error,
            };
            // Neither an error nor a conflict proves that nothing happened: a request whose answer was lost may have
            // been repeated, here or on the way, and then met its own change.
            match self.find(database, name).await {
                Ok(Some(now)) if happened(&now) => return Ok(now),
                Ok(_) => {}
                // Of another kind than a conflict, after which the change would be repeated.
                Err(unknown) => {
                    return Err(Error::unavailable("whether the table was changed is unknown")
                        .with("table", format!("{database}.{name}"))
                        .with("cause", error.message())
                        .hint("the catalog cannot be read; try again")
                        .because(unknown));
                }
            }
            match (error.kind(), pauses.next()) {
                (ErrorKind::Unavailable, Some(pause)) => tokio::time::sleep(pause).await,
                _ => return Err(error),
            }
        }
    }

    /// Stages the creation of a table, or creates it if the server does not stage.
    async fn created(&self, database: &str, name: &str, wanted: &TableMetadata) -> Result<Loaded> {
        let format = (wanted.format_version() as u8).to_string();
        let properties = wanted.properties().iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let properties: serde_json::Map<String, serde_json::Value> =
            properties.chain([("format-version", format.as_str())]).map(|(k, v)| (k.to_owned(), v.into())).collect();
        let mut request = json!({
            "name": name,
            "location": wanted.location(),
            "schema": wanted.current_schema(),
            "partition-spec": wanted.default_partition_spec(),
            "write-order": wanted.default_sort_order(),
            "properties": properties,
            "stage-create": true,
        });
        let mut pauses = pauses();
        let staged = loop {
            match self.server.create(database, &request).await {
                Err(e) if e.kind() == ErrorKind::NotFound => {
                    // False if the server has it and does not find it, or has dropped it since.
                    if !self.catalog.ensure_database(&Database::new(database)).await? && pauses.next().is_none() {
                        break Err(e);
                    }
                }
                Err(e) if e.kind() == ErrorKind::Unavailable => match pauses.next() {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => break Err(e),
                },
                staged => break staged,
            }
        };
        match staged {
            Ok(staged) => {
                let uuid = metadata(&staged)?.uuid();
                let change =
                    json!({ "requirements": [TableRequirement::NotExist], "updates": beginning(wanted, uuid) });
                self.send(database, name, &change, |now| now.metadata().uuid() == uuid).await
            }
            // The server does not stage, for example.
            Err(refused) if refused.kind() == ErrorKind::Usage => {
                request["stage-create"] = false.into();
                self.loaded(&self.server.create(database, &request).await?)
            }
            Err(error) => Err(error),
        }
    }
}

/// The updates by which a table begins.
fn beginning(wanted: &TableMetadata, uuid: uuid::Uuid) -> Vec<TableUpdate> {
    vec![
        TableUpdate::AssignUuid { uuid },
        TableUpdate::UpgradeFormatVersion { format_version: wanted.format_version() },
        TableUpdate::AddSchema { schema: wanted.current_schema().as_ref().clone() },
        TableUpdate::SetCurrentSchema { schema_id: -1 },
        TableUpdate::AddSpec { spec: wanted.default_partition_spec().as_ref().clone().into_unbound() },
        TableUpdate::SetDefaultSpec { spec_id: -1 },
        TableUpdate::AddSortOrder { sort_order: wanted.default_sort_order().as_ref().clone() },
        TableUpdate::SetDefaultSortOrder { sort_order_id: -1 },
        TableUpdate::SetLocation { location: wanted.location().to_owned() },
        TableUpdate::SetProperties { updates: wanted.properties().clone() },
    ]
}

fn metadata(table: &ServedTable) -> Result<TableMetadata> {
    serde_json::from_str(table.metadata.get()).map_err(|e| {
        Error::unexpected("the metadata that the catalog's server has sent does not parse")
            .with("table", format!("{}.{}", table.database, table.name))
            .because(e)
    })
}

/// What a created table has that is not as wanted.
fn differences(wanted: &TableMetadata, created: &TableMetadata) -> Vec<&'static str> {
    let same_schema = |a: &Schema, b: &Schema| {
        a.as_struct() == b.as_struct() && a.identifier_field_ids().eq(b.identifier_field_ids())
    };
    let folder = |metadata: &TableMetadata| Location::from(metadata.location().trim_end_matches('/'));
    let has = |(key, value): (&String, &String)| created.properties().get(key) == Some(value);
    let checks = [
        ("location", folder(wanted) == folder(created)),
        ("format version", wanted.format_version() == created.format_version()),
        ("columns", same_schema(wanted.current_schema(), created.current_schema())),
        ("partition fields", wanted.default_partition_spec().fields() == created.default_partition_spec().fields()),
        ("sort order", wanted.default_sort_order().fields == created.default_sort_order().fields),
        ("properties", wanted.properties().iter().all(has)),
    ];
    checks.into_iter().filter(|(_, same)| !same).map(|(what, _)| what).collect()
}

/// The requirements under which updates that were made for a table may be applied to it. A catalog of pointers refuses
/// any change of a table that was changed since; a server only knows these.
fn guards(table: &Loaded, updates: &[TableUpdate]) -> Result<Vec<TableRequirement>> {
    let metadata = table.metadata();
    let (mut names, mut all_refs, mut schema) = (HashSet::new(), false, false);
    for update in updates {
        match update {
            TableUpdate::SetSnapshotRef { ref_name, .. } | TableUpdate::RemoveSnapshotRef { ref_name } => {
                names.insert(ref_name.as_str());
            }
            // Nothing may refer to them.
            TableUpdate::RemoveSnapshots { .. } => all_refs = true,
            // Properties have the schemas that are to come.
            TableUpdate::AddSchema { .. }
            | TableUpdate::SetCurrentSchema { .. }
            | TableUpdate::SetProperties { .. }
            | TableUpdate::RemoveProperties { .. } => schema = true,
            _ => {}
        }
    }
    let there = refs(table)?;
    if all_refs {
        names.extend(there.iter().map(|r| r.name.as_str()));
    }
    let mut guards = vec![TableRequirement::UuidMatch { uuid: metadata.uuid() }];
    let mut names: Vec<&str> = names.into_iter().collect();
    names.sort_unstable();
    guards.extend(names.into_iter().map(|name| {
        let snapshot_id = there.iter().find(|r| r.name == name).map(|r| r.reference.snapshot_id);
        TableRequirement::RefSnapshotIdMatch { r#ref: name.to_owned(), snapshot_id }
    }));
    if schema {
        guards.push(TableRequirement::CurrentSchemaIdMatch { current_schema_id: metadata.current_schema_id() });
        let last_assigned_field_id = metadata.last_column_id();
        guards.push(TableRequirement::LastAssignedFieldIdMatch { last_assigned_field_id });
    }
    Ok(guards)
}

/// Whether a table is as these updates make it. Snapshots have ids that no other change has, and decide alone.
fn has_happened(updates: &[TableUpdate], now: &Loaded) -> bool {
    let metadata = now.metadata();
    let is_there = |id: i64| metadata.snapshot_by_id(id).is_some();
    let mut added = updates.iter().filter_map(|update| match update {
        TableUpdate::AddSnapshot { snapshot } => Some(snapshot.snapshot_id()),
        _ => None,
    });
    if let Some(first) = added.next() {
        return is_there(first) && added.all(is_there);
    }
    let Ok(refs) = refs(now) else { return false };
    let reference = |name: &str| refs.iter().find(|r| r.name == name).map(|r| &r.reference);
    let last_schema = updates.iter().rev().find_map(|update| match update {
        TableUpdate::AddSchema { schema } => Some(schema),
        _ => None,
    });
    let current = metadata.current_schema();
    let property = |key: &String| metadata.properties().get(key);
    updates.iter().all(|update| match update {
        TableUpdate::SetSnapshotRef { ref_name, reference: wanted } => reference(ref_name) == Some(wanted),
        TableUpdate::RemoveSnapshotRef { ref_name } => reference(ref_name).is_none(),
        TableUpdate::RemoveSnapshots { snapshot_ids } => !snapshot_ids.iter().any(|id| is_there(*id)),
        TableUpdate::AddSchema { schema } => {
            metadata.schemas_iter().any(|there| there.as_struct() == schema.as_struct())
        }
        TableUpdate::SetCurrentSchema { schema_id: -1 } => {
            last_schema.is_some_and(|schema| schema.as_struct() == current.as_struct())
        }
        TableUpdate::SetCurrentSchema { schema_id } => metadata.current_schema_id() == *schema_id,
        TableUpdate::SetProperties { updates } => updates.iter().all(|(key, value)| property(key) == Some(value)),
        TableUpdate::RemoveProperties { removals } => removals.iter().all(|key| property(key).is_none()),
        _ => false,
    })
}

#[async_trait]
impl IcebergCatalog for Served {
    async fn open(&self, description: TableDescription) -> Result<Loaded> {
        if !description.is_iceberg() {
            return Err(not_iceberg(&description));
        }
        // The server has a newer one than its description says, or the same.
        self.load(&description.database, &description.name).await
    }

    async fn load(&self, database: &str, table: &str) -> Result<Loaded> {
        self.loaded(&self.server.load(database, table).await?)
    }

    async fn create(&self, database: &str, table: &str, metadata: TableMetadata) -> Result<Loaded> {
        // The names as the catalog has them.
        let names = TableDescription::iceberg(database, table, metadata.location()).checked()?;
        let created = match self.created(&names.database, &names.name, &metadata).await {
            Ok(created) => created,
            // What was not staged may have been created all the same: by the run that its properties name.
            Err(e) if e.kind() == ErrorKind::Unavailable || Conflict::of(&e).is_some() => {
                match self.load(&names.database, &names.name).await {
                    Ok(there) if differences(&metadata, there.metadata()).is_empty() => there,
                    Err(_) if e.kind() == ErrorKind::Unavailable => return Err(e),
                    _ => return Err(Conflict::AlreadyExists.error("there is a table of this name").because(e)),
                }
            }
            Err(e) => return Err(e),
        };
        let differences = differences(&metadata, created.metadata());
        if differences.is_empty() {
            return Ok(created);
        }
        self.drop_unchanged(&created).await?;
        Err(Error::usage("the catalog's server does not create the table as it is wanted")
            .with("table", created.qualified_name())
            .with("differs", differences.join(", "))
            .with("location there", created.location())
            .hint("create it with another tool, and save to it as it is"))
    }

    async fn commit(
        &self,
        loaded: &Loaded,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> Result<Loaded> {
        let mut all = requirements.to_vec();
        for guard in guards(loaded, &updates)? {
            if !all.contains(&guard) {
                all.push(guard);
            }
        }
        let (database, name) = (loaded.database(), loaded.name());
        let change = json!({ "requirements": all, "updates": updates });
        let sent = self.send(database, name, &change, |now| has_happened(&updates, now)).await;
        match sent {
            // Some servers refuse a snapshot whose sequence number another one has, as if it were wrong in itself.
            Err(e) if e.kind() == ErrorKind::Usage => {
                let now = self.load(database, name).await?;
                match now.metadata_location() == loaded.metadata_location() {
                    true => Err(e),
                    false => Err(conflict(&loaded.qualified_name()).because(e)),
                }
            }
            sent => sent,
        }
    }

    async fn drop_unchanged(&self, loaded: &Loaded) -> Result<bool> {
        let now = match self.find(loaded.database(), loaded.name()).await? {
            None => return Ok(true),
            Some(now) => now,
        };
        if now.metadata_location() != loaded.metadata_location() {
            return Ok(false);
        }
        match self.catalog.drop_table(loaded.database(), loaded.name()).await {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(true),
            dropped => dropped.map(|()| true),
        }
    }
}
