//! Catalogs of Iceberg tables: the port, and its implementation over pointers.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use hardtack_catalog::{Catalog, CatalogExt, Column, Conflict, Database, TableDescription};
use hardtack_core::{Error, ErrorKind, Location, Result, Stores, fault};
use iceberg::io::FileIO;
use iceberg::spec::{FormatVersion, TableMetadata, TableMetadataRef};
use iceberg::table::Table;
use iceberg::{TableIdent, TableRequirement, TableUpdate};
use uuid::Uuid;

use crate::error::failed;
use crate::served::Served;
use crate::storage::file_io;

/// A catalog of Iceberg tables: it loads a table and commits changes to its metadata.
///
/// A commit is a list of updates under requirements, as in the [Iceberg REST protocol], because a REST server swaps the
/// metadata itself ([`Served`]). Where a catalog only keeps the location of the metadata (SQLite, AWS Glue),
/// [`Pointers`] does.
///
/// [Iceberg REST protocol]: https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml
#[async_trait]
pub(crate) trait IcebergCatalog: Debug + Send + Sync {
    /// The table that the catalog describes so. Usage if it is not an Iceberg table.
    async fn open(&self, description: TableDescription) -> Result<Loaded>;

    /// The table of this name. Not found if there is none, Usage if it is not an Iceberg table.
    async fn load(&self, database: &str, table: &str) -> Result<Loaded>;

    /// The table of this name, if there is one.
    async fn find(&self, database: &str, table: &str) -> Result<Option<Loaded>> {
        match self.load(database, table).await {
            Ok(table) => Ok(Some(table)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Creates a table with this metadata. Conflict ([`Conflict::AlreadyExists`]) if the name is taken.
    async fn create(&self, database: &str, table: &str, metadata: TableMetadata) -> Result<Loaded>;

    /// Makes the table of files that was described so an Iceberg table with this metadata. Conflict
    /// ([`Conflict::ConcurrentModification`]) if it has changed since.
    async fn convert(&self, files: &TableDescription, _: &TableMetadata) -> Result<Loaded> {
        Err(Error::usage("the catalog has no tables of files").with("table", files.qualified_name()))
    }

    /// Applies updates to a table as it was loaded, and returns it as it is then. Conflict
    /// ([`Conflict::ConcurrentModification`]) if it has changed since, or a requirement does not hold.
    ///
    /// An answer that was lost is not mistaken for a conflict: if the commit turns out to have happened, it is a success.
    async fn commit(
        &self,
        loaded: &Loaded,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> Result<Loaded>;

    /// Drops a table from the catalog unless it has changed since it was loaded. Files stay. Says whether it did.
    async fn drop_unchanged(&self, loaded: &Loaded) -> Result<bool>;
}

/// The Iceberg tables of a catalog.
pub(crate) fn tables_of(catalog: Arc<dyn Catalog>, stores: Arc<Stores>) -> Arc<dyn IcebergCatalog> {
    match catalog.iceberg_server() {
        Some(server) => Arc::new(Served::new(catalog, server, stores)),
        None => Arc::new(Pointers::new(catalog, stores)),
    }
}

/// A table as it was loaded.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// As the catalog describes it, with the version of that description.
    description: TableDescription,
    metadata_location: String,
    metadata: TableMetadataRef,
    file_io: FileIO,
}

impl Loaded {
    pub(crate) fn new(
        description: TableDescription,
        metadata_location: String,
        metadata: TableMetadataRef,
        file_io: FileIO,
    ) -> Self {
        Self { description, metadata_location, metadata, file_io }
    }

    pub(crate) fn metadata(&self) -> &TableMetadataRef {
        &self.metadata
    }

    pub(crate) fn metadata_location(&self) -> &str {
        &self.metadata_location
    }

    pub(crate) fn file_io(&self) -> &FileIO {
        &self.file_io
    }

    pub(crate) fn database(&self) -> &str {
        &self.description.database
    }

    pub(crate) fn name(&self) -> &str {
        &self.description.name
    }

    pub(crate) fn qualified_name(&self) -> String {
        self.description.qualified_name()
    }

    pub(crate) fn description(&self) -> &TableDescription {
        &self.description
    }

    /// The folder of the table.
    pub(crate) fn location(&self) -> Location {
        Location::from(self.metadata.location())
    }

    /// The table as the crate `iceberg` has it.
    pub(crate) fn as_table(&self) -> Result<Table> {
        let name = TableIdent::from_strs([&self.description.database, &self.description.name]).map_err(failed)?;
        let runtime = iceberg::Runtime::try_current().map_err(failed)?;
        Table::builder()
            .file_io(self.file_io.clone())
            .metadata_location(&self.metadata_location)
            .metadata(Arc::clone(&self.metadata))
            .identifier(name)
            .runtime(runtime)
            .build()
            .map_err(failed)
    }
}

/// Iceberg tables of a catalog that keeps the location of their metadata: `table_type` and `metadata_location` are
/// parameters of the table, as in AWS Glue, and an update that names the version that was read is a compare-and-swap.
#[derive(Debug)]
pub(crate) struct Pointers {
    catalog: Arc<dyn Catalog>,
    file_io: FileIO,
}

impl Pointers {
    pub(crate) fn new(catalog: Arc<dyn Catalog>, stores: Arc<Stores>) -> Self {
        Self { catalog, file_io: file_io(stores) }
    }

    /// Writes metadata to a new file.
    async fn write(&self, metadata: &TableMetadata, version: u32) -> Result<String> {
        let codec = metadata.metadata_compression_codec().map_err(failed)?;
        let suffix = match codec {
            iceberg::compression::CompressionCodec::None => "",
            _ => ".gz",
        };
        let name = format!("{version:05}-{}{suffix}.metadata.json", Uuid::new_v4());
        let location = format!("{}/{name}", metadata_folder(metadata));
        let file = location.parse().map_err(failed)?;
        fault::hit("iceberg.metadata.before")?;
        metadata.write_to(&self.file_io, &file).await.map_err(failed)?;
        fault::hit("iceberg.metadata.after")?;
        Ok(location)
    }

    /// Removes metadata to which nothing refers, and no later answer can change that.
    async fn discard(&self, location: &str) {
        if let Err(e) = self.file_io.delete(location).await {
            tracing::debug!(error = %e, location, "metadata that was not used stays");
        }
    }

    /// The table as it is after a swap of its pointer that was not answered with success, and whether the metadata at
    /// `written` is, or was, its metadata.
    async fn became(&self, loaded: &Loaded, written: &str) -> Result<(Loaded, bool)> {
        let now = self.load(loaded.database(), loaded.name()).await?;
        let is_current = now.metadata_location == written;
        let was = || now.metadata.metadata_log().iter().any(|entry| entry.metadata_file == written);
        let became = is_current || was();
        Ok((now, became))
    }
}

/// The property of a table with the folder of its metadata, unless that is `metadata` below its location.
pub(crate) const METADATA_PATH: &str = "write.metadata.path";

/// The folder of a table's metadata files. The crate `iceberg` writes only to folders of the name `metadata`, so that the
/// property counts if it names one.
pub(crate) fn metadata_folder(metadata: &TableMetadata) -> String {
    let said = metadata.properties().get(METADATA_PATH).map(|folder| folder.trim_end_matches('/'));
    match said.filter(|folder| folder.ends_with("/metadata")) {
        Some(folder) => folder.to_owned(),
        None => format!("{}/metadata", metadata.location()),
    }
}

/// The number at the start of the name of a metadata file.
fn version_of(metadata_location: &str) -> u32 {
    let name = metadata_location.rsplit('/').next().unwrap_or_default();
    // `00003-<uuid>.metadata.json`, or `v3.metadata.json` of tables without a catalog.
    let digits = name.trim_start_matches('v');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().unwrap_or_default()
}

#[async_trait]
impl IcebergCatalog for Pointers {
    async fn open(&self, description: TableDescription) -> Result<Loaded> {
        let name = description.qualified_name();
        if !description.is_iceberg() {
            return Err(not_iceberg(&description));
        }
        let location = description.metadata_location().map(str::to_owned).ok_or_else(|| {
            Error::usage("the catalog does not say where the metadata of this Iceberg table is").with("table", &name)
        })?;
        let metadata = TableMetadata::read_from(&self.file_io, &location).await;
        let metadata = metadata.map_err(|e| {
            let error = match failed(e) {
                // Not the table is missing, which some read as one without rows.
                e if e.kind() == ErrorKind::NotFound => Error::new(ErrorKind::Lost, "the table's metadata is gone")
                    .hint("restore the file, or drop the table from the catalog: `hardtack drop`")
                    .because(e),
                e => e,
            };
            error.with("table", &name).with("metadata", Location::from(location.as_str()))
        })?;
        Ok(Loaded::new(description, location, metadata.into(), self.file_io.clone()))
    }

    async fn load(&self, database: &str, table: &str) -> Result<Loaded> {
        self.open(self.catalog.get_table(database, table).await?).await
    }

    async fn create(&self, database: &str, table: &str, metadata: TableMetadata) -> Result<Loaded> {
        self.catalog.ensure_database(&Database::new(database)).await?;
        let location = self.write(&metadata, 0).await?;
        let mut description = TableDescription::iceberg(database, table, &location);
        describe(&mut description, &metadata);
        match self.catalog.create_table(&description).await {
            Ok(()) => self.load(database, table).await,
            Err(e) => {
                // An answer may have been lost, so that the repeated request met our own table.
                match self.load(database, table).await {
                    Ok(there) if there.metadata.uuid() == metadata.uuid() => Ok(there),
                    _ => Err(e),
                }
            }
        }
    }

    async fn convert(&self, files: &TableDescription, metadata: &TableMetadata) -> Result<Loaded> {
        let location = self.write(metadata, 0).await?;
        let mut description = TableDescription::iceberg(&files.database, &files.name, &location);
        description.version.clone_from(&files.version);
        description.description.clone_from(&files.description);
        describe(&mut description, metadata);
        let swapped = self.catalog.update_table(&description).await;
        fault::hit("iceberg.swap.after")?;
        match (swapped, self.load(&files.database, &files.name).await) {
            (Ok(()), now) => now,
            // An answer may have been lost, so that the repeated request met our own table.
            (Err(_), Ok(now)) if now.metadata.uuid() == metadata.uuid() => Ok(now),
            (Err(e), _) => {
                if Conflict::of(&e).is_some() {
                    self.discard(&location).await;
                }
                Err(e)
            }
        }
    }

    async fn commit(
        &self,
        loaded: &Loaded,
        requirements: &[TableRequirement],
        updates: Vec<TableUpdate>,
    ) -> Result<Loaded> {
        let name = loaded.qualified_name();
        for requirement in requirements {
            requirement.check(Some(&loaded.metadata)).map_err(|e| conflict(&name).because(e))?;
        }
        for update in &updates {
            // The builder has another error for it, and none for a snapshot without a parent.
            if let TableUpdate::AddSnapshot { snapshot } = update
                && loaded.metadata.format_version() != FormatVersion::V1
                && snapshot.sequence_number() <= loaded.metadata.last_sequence_number()
            {
                return Err(conflict(&name));
            }
        }
        let mut builder = loaded.metadata.as_ref().clone().into_builder(Some(loaded.metadata_location.clone()));
        for update in updates {
            builder = update.apply(builder).map_err(|e| failed(e).with("table", &name))?;
        }
        let metadata = builder.build().map_err(|e| failed(e).with("table", &name))?.metadata;
        let location = self.write(&metadata, version_of(&loaded.metadata_location) + 1).await?;
        let mut description = loaded.description.clone().with_metadata_location(&location);
        describe(&mut description, &metadata);
        let swapped = self.catalog.update_table(&description).await;
        fault::hit("iceberg.swap.after")?;
        let error = match swapped {
            Ok(()) => return self.load(loaded.database(), loaded.name()).await,
            Err(error) => error,
        };
        // Neither an error nor a conflict proves that nothing happened: a client may have repeated a request whose
        // answer was lost, and then met its own change.
        match (self.became(loaded, &location).await, Conflict::of(&error)) {
            (Ok((now, true)), _) => Ok(now),
            (Ok((now, false)), Some(_)) => {
                // If another table has the name by now, this one may have got the metadata before.
                if now.metadata.uuid() == loaded.metadata.uuid() {
                    self.discard(&location).await;
                }
                Err(error)
            }
            (Ok(_), None) => Err(error),
            // Of another kind than a conflict, after which the change would be repeated.
            (Err(unknown), _) => Err(Error::unavailable("whether the table was changed is unknown")
                .with("table", &name)
                .with("metadata", location)
                .with("cause", error.message())
                .hint("the catalog or the metadata cannot be read; try again")
                .because(unknown)),
        }
    }

    async fn drop_unchanged(&self, loaded: &Loaded) -> Result<bool> {
        let now = match self.catalog.get_table(loaded.database(), loaded.name()).await {
            Ok(now) => now,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
            Err(e) => return Err(e),
        };
        if now.metadata_location() != Some(loaded.metadata_location()) {
            return Ok(false);
        }
        self.catalog.drop_table(loaded.database(), loaded.name()).await?;
        Ok(true)
    }
}

pub(crate) fn not_iceberg(description: &TableDescription) -> Error {
    Error::usage("this is not an Iceberg table").with("table", description.qualified_name())
}

pub(crate) fn conflict(name: &str) -> Error {
    Conflict::ConcurrentModification.error("the table was changed since it was read").with("table", name)
}

/// Keeps the columns and the location of a description as they are in the metadata: for readers of the catalog who do
/// not read that, such as Athena's console.
pub(crate) fn describe(description: &mut TableDescription, metadata: &TableMetadata) {
    description.storage.location = Some(Location::from(metadata.location()));
    let Ok(schema) = iceberg::arrow::schema_to_arrow_schema(metadata.current_schema()) else { return };
    // Hive has no type for some of Iceberg's, such as `time` and `uuid`, which Iceberg describes as texts there.
    let column = |field: &Arc<arrow::datatypes::Field>| {
        Column::of(field).unwrap_or_else(|_| Column::foreign(field.name(), "string"))
    };
    description.storage.columns = schema.fields().iter().map(column).collect();
}

/// So many delays, which grow from the first one to the longest.
pub(crate) fn backoff(first: Duration, longest: Duration, times: usize) -> impl Iterator<Item = Duration> {
    let growing = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).with_max_times(times);
    growing.with_jitter().build()
}

/// Attempts to change a table, until no other change comes between:
///
/// ```ignore
/// let mut attempts = Attempts::new(catalog, table);
/// loop {
///     let change = ...; // of attempts.table()
///     if let Some(table) = attempts.commit(change).await? {
///         return Ok(table);
///     }
/// }
/// ```
pub(crate) struct Attempts<'a> {
    catalog: &'a dyn IcebergCatalog,
    table: Loaded,
    delays: Box<dyn Iterator<Item = Duration> + Send + Sync>,
}

impl<'a> Attempts<'a> {
    pub(crate) fn new(catalog: &'a dyn IcebergCatalog, table: Loaded) -> Self {
        let delays = backoff(Duration::from_millis(5), Duration::from_millis(500), 60);
        Self { catalog, table, delays: Box::new(delays) }
    }

    /// The table as it is to be changed.
    pub(crate) fn table(&self) -> &Loaded {
        &self.table
    }

    /// Commits a change of [`table`](Self::table) and returns it; `None` if another one was faster, which `table` then
    /// has.
    ///
    /// # Errors
    /// Those of the catalog; Conflict after many attempts.
    pub(crate) async fn commit(&mut self, change: Change) -> Result<Option<Loaded>> {
        match self.catalog.commit(&self.table, &change.requirements, change.updates).await {
            Ok(table) => return Ok(Some(table)),
            Err(e) if Conflict::of(&e) == Some(Conflict::ConcurrentModification) => match self.delays.next() {
                Some(delay) => tokio::time::sleep(delay).await,
                None => return Err(e.hint("others change the table all the time; try again later")),
            },
            Err(e) => return Err(e),
        }
        let table = self.catalog.load(self.table.database(), self.table.name()).await?;
        if table.metadata.uuid() != self.table.metadata.uuid() {
            return Err(Error::conflict("the table was dropped or swapped meanwhile, and another one has its name")
                .with("table", self.table.qualified_name())
                .hint("run the job again"));
        }
        self.table = table;
        Ok(None)
    }
}

/// A change of a table's metadata.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) requirements: Vec<TableRequirement>,
    pub(crate) updates: Vec<TableUpdate>,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("s3://lake/t/metadata/00012-2f6e.metadata.json", 12)]
    #[case("/lake/t/metadata/v3.metadata.json", 3)]
    #[case("/lake/t/metadata/v3.gz.metadata.json", 3)]
    #[case("/lake/t/metadata/current.metadata.json", 0)]
    fn versions_are_in_names(#[case] location: &str, #[case] version: u32) {
        assert_eq!(version_of(location), version);
    }
}
