//! The port to a catalog.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use hardtack_core::{Error, ErrorKind, Result};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::conflict::Conflict;
use crate::predicate::Predicate;
use crate::swap;
use crate::table::{Database, Partition, TableDescription};

/// Partitions in pages, each fetched on demand. An empty page need not be the last.
pub type PartitionPages = BoxStream<'static, Result<Vec<Partition>>>;

/// Databases, tables and partitions by name.
///
/// Names are case-insensitive and stored in lower case. Descriptions are checked before they are written (see
/// [`TableDescription::checked`]): an implementation accepts exactly what Glue accepts.
///
/// Errors name `database.table` and the partition. Their kinds are [`NotFound`](hardtack_core::ErrorKind::NotFound) if
/// something does not exist, [`Conflict`](hardtack_core::ErrorKind::Conflict) if it exists already or was changed
/// meanwhile ([`Conflict`] distinguishes the two), [`Usage`](hardtack_core::ErrorKind::Usage) if no catalog would
/// accept it or the caller is not permitted to do it, and [`Unavailable`](hardtack_core::ErrorKind::Unavailable) if the
/// catalog does not answer, even after retries.
///
/// The operations on partitions take any number of them, and the table as it was read, because its keys determine the
/// types of the values, and because another table may have got its name since ([`swap_tables`](Catalog::swap_tables)):
/// partitions are those of the table that was read. They are not atomic: the error names the partitions that failed, and
/// all others are done. Each operation may be repeated after a crash.
///
/// An Apache Iceberg table ([`TableDescription::iceberg`]) is a pointer: its parameter `table_type` is `ICEBERG`, and
/// `metadata_location` names the file that describes everything else, columns and partitions included. A commit writes
/// another such file and updates the table to it ([`TableDescription::with_metadata_location`]); of two that start from
/// the same version, one is a Conflict. A catalog need not keep what else such a description says. The table has no
/// partitions in the catalog: none are found, and adding, updating or dropping them is a Usage error, as is an update
/// that turns it into a table of another kind, or the reverse.
///
/// A catalog whose server changes the metadata of Iceberg tables itself, such as a REST catalog, says so by
/// [`iceberg_server`](Catalog::iceberg_server). It has Iceberg tables only: creating another one is a Usage error, as
/// is an update.
///
/// Every implementation runs the suite in the module `conformance` (feature of the same name).
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait Catalog: Debug + Send + Sync {
    /// Creates a database. Conflict if it exists.
    async fn create_database(&self, database: &Database) -> Result<()>;

    /// The database of this name.
    async fn get_database(&self, name: &str) -> Result<Database>;

    /// All databases, by name.
    async fn list_databases(&self) -> Result<Vec<Database>>;

    /// Drops a database without tables. Usage if it has tables.
    async fn drop_database(&self, name: &str) -> Result<()>;

    /// Creates a table and ignores its version. Conflict if it exists.
    async fn create_table(&self, table: &TableDescription) -> Result<()>;

    /// The table of this name, with its version.
    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription>;

    /// All tables of a database, by name.
    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>>;

    /// Replaces a table's description if its version is still the one that was read; Conflict otherwise. The names of
    /// the partition keys cannot be changed. Partitions stay as they are.
    ///
    /// A table of files may become an [Iceberg table](TableDescription::iceberg), which has no partition keys: in the same
    /// step its partitions are dropped. An Iceberg table stays one.
    async fn update_table(&self, table: &TableDescription) -> Result<()>;

    /// Drops a table and its partitions from the catalog. Files stay.
    async fn drop_table(&self, database: &str, name: &str) -> Result<()>;

    /// The existing partitions among those with these values, in any order.
    async fn get_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<Vec<Partition>>;

    /// The partitions that a predicate selects, in any order. No request is sent before the first page is polled.
    fn list_partitions(&self, table: &TableDescription, predicate: &Predicate) -> PartitionPages;

    /// Adds partitions. One that exists with the same content is left alone; with different content it is a Conflict.
    async fn add_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()>;

    /// Replaces partitions, each in one step: a reader sees the old or the new one. Not found if one is missing.
    async fn update_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()>;

    /// Drops the partitions with these values from the catalog, and ignores those that do not exist. Files stay.
    async fn drop_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<()>;

    /// Exchanges two tables, as they were read: each of the names means what the other one has meant, with location,
    /// columns, format, description, parameters, partitions, and the metadata of an Iceberg table. Files are not touched,
    /// and swapping again is the way back. Conflict if one of the tables has changed since it was read; what
    /// [`check_swap`](Catalog::check_swap) refuses is refused.
    ///
    /// Readers of a name see the one table or the other as a whole, also if they have read its description before and
    /// list its partitions after. A writer that has read one of the tables before loses, as to any other change: its
    /// [`update_table`](Catalog::update_table) is a Conflict. One that reads the table again must look whether it is still
    /// the same: an Iceberg table by its UUID, a table of files by its location.
    ///
    /// What a table has goes with it: its runs' branches and their leftovers, the mark `_append_only` in its folder, the
    /// counts of its rows, the tokens of the runs that have changed it. What others note under a name stays with the name:
    /// the bookmarks of jobs that read it, permissions, and whatever a catalog has that descriptions do not.
    ///
    /// # Without transactions
    /// A catalog that updates one table at a time, such as Glue, uses this implementation. It takes three updates, each
    /// on the condition that the table is as it was read:
    ///
    /// 1. `b` becomes what `a` is, and its parameter `hardtack.swap` says what it was.
    /// 2. `a` becomes what `b` was.
    /// 3. `b` loses the parameter.
    ///
    /// So readers of `a`, the table that others depend on, see a single change, which is the last that matters. Between
    /// the first update and the second both names mean the table `a`, and what `b` was is on record in the parameter: a
    /// crash loses nothing. The same swap again finishes what has begun, also if `a` was changed meanwhile. Until then
    /// [`update_table`](Catalog::update_table) refuses to change `b`, because a table that is changed under two names has
    /// two histories; if somebody else's client has done so under both, the swap is a Conflict. If another writer has
    /// changed `a` before the second update, the first one is undone, and the swap is a Conflict.
    ///
    /// An update moves no partitions, and makes no table of files of one of Iceberg and the reverse, so that
    /// [`check_swap`](Catalog::check_swap) refuses these. The catalog must keep the parameters of Iceberg tables.
    async fn swap_tables(&self, a: &TableDescription, b: &TableDescription) -> Result<()> {
        self.check_swap(a, b)?;
        swap::in_steps(self, a, b).await
    }

    /// Checks, without any request, that [`swap_tables`](Catalog::swap_tables) can exchange two tables.
    ///
    /// Usage for a table and itself, for views, and for what this catalog cannot exchange such that readers see the one
    /// table or the other; the error says what can be done instead.
    fn check_swap(&self, a: &TableDescription, b: &TableDescription) -> Result<()> {
        swap::check_in_steps(a, b)
    }

    /// The server of this catalog's Iceberg tables, if it changes their metadata itself. None for a catalog of
    /// pointers.
    fn iceberg_server(&self) -> Option<Arc<dyn IcebergServer>> {
        None
    }
}

/// A server of Iceberg tables that changes their metadata itself, with the requests of the [Iceberg REST protocol] as
/// JSON.
///
/// Errors have the kinds of those of [`Catalog`]. [`Unavailable`](hardtack_core::ErrorKind::Unavailable) after a
/// creation or a commit says nothing about whether it has happened.
///
/// [Iceberg REST protocol]: https://github.com/apache/iceberg/blob/main/open-api/rest-catalog-open-api.yaml
#[async_trait]
pub trait IcebergServer: Debug + Send + Sync {
    /// The table of this name, with all snapshots.
    async fn load(&self, database: &str, name: &str) -> Result<ServedTable>;

    /// Creates a table by a `CreateTableRequest`, or stages its creation if that says so. Conflict
    /// ([`Conflict::AlreadyExists`]) if the name is taken.
    async fn create(&self, database: &str, request: &Value) -> Result<ServedTable>;

    /// Commits a `CommitTableRequest`: `requirements` and `updates`. Conflict ([`Conflict::ConcurrentModification`]) if
    /// a requirement does not hold.
    async fn commit(&self, database: &str, name: &str, change: &Value) -> Result<ServedTable>;
}

/// An Iceberg table as a server has it.
#[derive(Debug)]
pub struct ServedTable {
    /// The name of its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// Where the metadata is. None for a table whose creation is staged.
    pub metadata_location: Option<String>,
    /// The metadata, as its file has it.
    pub metadata: Box<RawValue>,
}

impl ServedTable {
    /// The table as a [`Catalog`] describes it. Its version is the location of the metadata.
    ///
    /// # Errors
    /// Unexpected if it has none.
    pub fn description(&self) -> Result<TableDescription> {
        let location = self.metadata_location.as_deref().filter(|location| !location.is_empty());
        let location = location.ok_or_else(|| {
            Error::unexpected("the catalog's server does not say where the metadata of an Iceberg table is")
                .with("table", format!("{}.{}", self.database, self.name))
        })?;
        let mut description = TableDescription::iceberg(&self.database, &self.name, location);
        description.version = Some(location.to_owned());
        Ok(description)
    }
}

/// Operations on top of any [`Catalog`].
#[async_trait]
pub trait CatalogExt: Catalog {
    /// Creates a database unless it exists; says whether it was created.
    async fn ensure_database(&self, database: &Database) -> Result<bool> {
        // Who may not create databases need not, where it is.
        match self.get_database(&database.name).await {
            Err(e) if e.kind() == ErrorKind::NotFound => created(self.create_database(database).await),
            found => found.map(|_| false),
        }
    }

    /// Creates a table unless it exists; says whether it was created.
    async fn ensure_table(&self, table: &TableDescription) -> Result<bool> {
        created(self.create_table(table).await)
    }

    /// All partitions that a predicate selects, sorted by their values.
    async fn all_partitions(&self, table: &TableDescription, predicate: &Predicate) -> Result<Vec<Partition>> {
        let mut partitions: Vec<Partition> = self.list_partitions(table, predicate).try_concat().await?;
        partitions.sort_by(|a, b| a.values.cmp(&b.values));
        Ok(partitions)
    }

    /// Adds partitions, or replaces those that exist with different content. Returns the values of those that were
    /// added. Sinks publish with it: repeating it changes nothing.
    async fn put_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<Vec<Vec<String>>> {
        let partitions = table.addressed().check_partitions(partitions)?;
        let values: Vec<Vec<String>> = partitions.iter().map(|p| p.values.clone()).collect();
        let there = self.get_partitions(table, &values).await?;
        let there: HashMap<&[String], &Partition> = there.iter().map(|p| (p.values.as_slice(), p)).collect();
        let (mut new, mut changed) = (Vec::new(), Vec::new());
        for partition in partitions {
            match there.get(partition.values.as_slice()) {
                None => new.push(partition),
                Some(found) if **found != partition => changed.push(partition),
                Some(_) => {}
            }
        }
        if !new.is_empty() {
            self.add_partitions(table, &new).await?;
        }
        if !changed.is_empty() {
            self.update_partitions(table, &changed).await?;
        }
        Ok(new.into_iter().map(|p| p.values).collect())
    }
}

impl<C: Catalog + ?Sized> CatalogExt for C {}

fn created(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(e) if Conflict::of(&e) == Some(Conflict::AlreadyExists) => Ok(false),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, TableFormat};

    #[tokio::test]
    async fn nothing_is_put_that_is_there_however_the_job_spells_it() {
        let mut table = TableDescription::new("Lake", "Sales", &TableFormat::Parquet, "s3://lake/sales")
            .with_columns([Column::foreign("Id", "bigint")])
            .with_partition_keys([Column::foreign("Year", "int")]);
        table.storage.columns[0].comment = Some(String::new());
        let given = table.partition(["2020"], "s3://lake/sales/2020");
        let mut stored = given.clone();
        stored.storage.columns[0] = Column::foreign("id", "bigint");
        let mut catalog = MockCatalog::new();
        catalog.expect_get_partitions().times(1).return_once(|_, _| Ok(vec![stored]));
        assert!(catalog.put_partitions(&table, &[given]).await.unwrap().is_empty());
    }
}
