//! A catalog in one SQLite file.

mod iceberg;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt, stream};
use hardtack_core::{Error, ErrorKind, Location, Result};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::catalog::{Catalog, PartitionPages};
use crate::conflict::{self, Conflict, Failures};
use crate::name::folded;
use crate::predicate::{BoundPredicate, Predicate};
use crate::swap;
use crate::table::{Database, Partition, TableDescription};

pub use iceberg::ICEBERG_CATALOG_NAME;
use iceberg::Pointer;

/// A catalog in one SQLite file, for laptops, tests and machines that share a disk.
///
/// Any number of processes may use it concurrently: one writes at a time, and the others wait for up to half a minute.
/// A process that is killed leaves the file in the state before or after its change, never in between.
///
/// The first write creates the file and its folder; a catalog that was never written is empty.
///
/// The file uses a rollback journal and not a write-ahead log, because the latter needs memory shared by all processes,
/// which network file systems (EFS, NFS) do not provide. Writes are flushed: a catalog is small, and a lost one is hard
/// to rebuild.
///
/// # Iceberg
/// Apache Iceberg tables are kept as PyIceberg's SQL catalog keeps them, in the same file. It sees the tables and
/// databases of this catalog under the name [`ICEBERG_CATALOG_NAME`], this catalog sees what PyIceberg creates there, and
/// of two that commit to a table at the same time one loses, whichever they are:
///
/// ```python
/// load_catalog("hardtack", type="sql", uri="sqlite:////lake/catalog.sqlite")
/// ```
///
/// A file that PyIceberg has created becomes a catalog when it is opened here. Of an Iceberg table only the locations of
/// the metadata are stored ([`TableDescription::iceberg`]); columns and other parameters are in the metadata. PyIceberg
/// does not know our other tables. If it creates one of the same name, that is hidden until ours is dropped. Namespaces
/// inside others (`a.b`) are no databases, and of names that differ only in case, the one in lower case counts.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use hardtack_catalog::{Catalog, Database, EmbeddedCatalog};
///
/// let catalog = EmbeddedCatalog::in_memory();
/// catalog.create_database(&Database::new("Lake")).await?;
/// assert_eq!(catalog.get_database("lake").await?.name, "lake");
/// # Ok::<_, hardtack_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct EmbeddedCatalog(Arc<Shared>);

struct Shared {
    place: Place,
    /// None until the file exists.
    connection: Mutex<Option<Connection>>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Memory,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Memory => f.write_str("memory"),
        }
    }
}

/// How long to wait for another process, and between two attempts to lock. SQLite's own handler backs off to a tenth of
/// a second, so processes that write continuously starve the others.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Called while the file is locked; returns whether to try again.
fn wait_for_lock(looks: i32) -> bool {
    std::thread::sleep(LOOK_AGAIN);
    LOOK_AGAIN.saturating_mul(looks.unsigned_abs()) < LOCK_TIMEOUT
}

/// The number of partitions per page.
const PAGE: u32 = 1000;

/// "hdtk": distinguishes our files from other SQLite files.
const APPLICATION_ID: i32 = 0x6864_746b;

/// The version of [`SCHEMA`] and [`iceberg::SCHEMA`].
const VERSION: i32 = 2;

/// The version that had no Iceberg tables.
const WITHOUT_ICEBERG: i32 = 1;

/// A table's id is never reused, so a version of a table that was dropped and recreated is never taken for one of the
/// old table. It stays with the table when that gets another name. Values of a partition are a JSON array; descriptions
/// are JSON objects.
const SCHEMA: &str = "
    create table databases (
        name text primary key,
        description text not null
    ) strict, without rowid;
    create table tables (
        id integer primary key autoincrement,
        database text not null references databases (name),
        name text not null,
        version integer not null,
        description text not null,
        unique (database, name)
    ) strict;
    create table partitions (
        table_id integer not null references tables (id) on delete cascade,
        partition_values text not null,
        description text not null,
        primary key (table_id, partition_values)
    ) strict, without rowid;
";

impl EmbeddedCatalog {
    /// The catalog in the file at `path`. Does not touch the file yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Shared { place: Place::File(path.into()), connection: Mutex::default() }))
    }

    /// An empty catalog that lives as long as this value.
    pub fn in_memory() -> Self {
        Self(Arc::new(Shared { place: Place::Memory, connection: Mutex::default() }))
    }

    /// The catalog in the file at `location`, a path or `file:` URL; `memory:` is a catalog in memory.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) for a location that is not on a file system.
    pub fn open(location: &Location) -> Result<Self> {
        let resolved = location.resolve()?;
        match resolved.store.scheme() {
            "file" => Ok(Self::new(format!("/{}", resolved.path))),
            "memory" => Ok(Self::in_memory()),
            _ => Err(Error::usage(format!(
                "an embedded catalog is a file on a disk, but `{location}` is not; use `--catalog embedded:PATH` or \
                 `--catalog glue`"
            ))),
        }
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.run(TransactionBehavior::Deferred, work).await
    }

    /// Takes the write lock at the start: a transaction that reads first and writes later could not wait for another
    /// writer, because its reads would be outdated.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        self.run(TransactionBehavior::Immediate, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.0);
        let result = tokio::task::spawn_blocking(move || shared.run(behavior, work));
        result.await.map_err(|e| Error::unexpected("the catalog's thread panicked").because(e))?
    }
}

impl fmt::Debug for EmbeddedCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EmbeddedCatalog").field(&self.0.place).finish()
    }
}

// --- the file ------------------------------------------------------------------------------------------------------

/// Why a transaction failed.
enum Failure {
    /// The request is at fault.
    Own(Error),
    /// The file is at fault.
    File(Error),
    Sqlite(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::File(Error::unexpected("the catalog holds a description that does not parse").because(error))
    }
}

impl Shared {
    fn run<T>(
        &self,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let in_transaction = || {
            let mut guard = self.lock();
            let mut nothing;
            let connection = match guard.as_mut() {
                Some(connection) => connection,
                None if self.is_missing() && matches!(behavior, TransactionBehavior::Deferred) => {
                    (nothing, _) = prepared(Connection::open_in_memory()?, behavior)?;
                    &mut nothing
                }
                None => match self.connect(behavior)? {
                    (connection, State::Current) => guard.insert(connection),
                    (connection, State::Older) => {
                        nothing = connection;
                        &mut nothing
                    }
                },
            };
            let transaction = connection.transaction_with_behavior(behavior)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        in_transaction().map_err(|failure| match failure {
            Failure::Own(error) => error,
            Failure::File(error) => error.with("catalog", &self.place),
            Failure::Sqlite(error) => Self::explain(error).with("catalog", &self.place),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        // A panic rolls its transaction back, so the connection remains usable.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_missing(&self) -> bool {
        match &self.place {
            Place::File(path) => matches!(path.try_exists(), Ok(false)),
            Place::Memory => false,
        }
    }

    fn connect(&self, behavior: TransactionBehavior) -> Result<(Connection, State), Failure> {
        let connection = match &self.place {
            Place::Memory => Connection::open_in_memory()?,
            Place::File(path) => {
                if let Some(folder) = path.parent() {
                    #[expect(clippy::disallowed_methods, reason = "SQLite needs a file system")]
                    std::fs::create_dir_all(folder).map_err(|e| {
                        Error::usage("the folder for the catalog cannot be created")
                            .with("folder", folder.display())
                            .because(e)
                    })?;
                }
                Connection::open(path)?
            }
        };
        prepared(connection, behavior)
    }

    fn explain(error: rusqlite::Error) -> Error {
        let (kind, message) = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                (ErrorKind::Unavailable, "another process keeps the catalog locked; try again when it is done")
            }
            Some(ErrorCode::NotADatabase) => {
                (ErrorKind::Usage, "this file is not a catalog; name another one with `--catalog embedded:PATH`")
            }
            Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
                (ErrorKind::Usage, "the catalog cannot be opened for writing; check the path and its permissions")
            }
            Some(ErrorCode::DatabaseCorrupt) => {
                (ErrorKind::Unexpected, "the catalog's file is damaged; restore it, or crawl the data again")
            }
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
                (ErrorKind::Unavailable, "the catalog cannot be written to the disk")
            }
            _ => (ErrorKind::Unexpected, "the catalog failed"),
        };
        Error::new(kind, message).because(error)
    }
}

/// What a connection is good for.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The file has all of our tables.
    Current,
    /// The file is of an earlier version and cannot be written. The connection is good for one reader: somebody else may
    /// migrate the file.
    Older,
}

/// Makes sure that the file is ours and has our tables. Several processes may be here at once.
fn prepared(mut connection: Connection, behavior: TransactionBehavior) -> Result<(Connection, State), Failure> {
    connection.busy_handler(Some(wait_for_lock))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    let found = header(&connection)?;
    if found == (APPLICATION_ID, VERSION) {
        return Ok((connection, State::Current));
    }
    match migrate(&mut connection) {
        Ok(()) => Ok((connection, State::Current)),
        Err(Failure::Sqlite(error))
            if found == (APPLICATION_ID, WITHOUT_ICEBERG)
                && matches!(behavior, TransactionBehavior::Deferred)
                && is_unwritable(&error) =>
        {
            // Temporary tables take the place of those that the file lacks.
            connection.execute_batch(&iceberg::SCHEMA.replace("create table", "create temporary table"))?;
            Ok((connection, State::Older))
        }
        Err(error) => Err(error),
    }
}

fn is_unwritable(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly))
}

/// Creates the tables that the file lacks.
fn migrate(connection: &mut Connection) -> Result<(), Failure> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match header(&transaction)? {
        // Another process was faster.
        (APPLICATION_ID, VERSION) => return Ok(()),
        (APPLICATION_ID, WITHOUT_ICEBERG) => {}
        (0, 0) if iceberg::is_alone(&transaction)? => {
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        (APPLICATION_ID, newer) => {
            return Err(Failure::File(
                Error::usage("a newer hardtack has written this catalog; update this one")
                    .with("version of the catalog", newer)
                    .with("version known", VERSION),
            ));
        }
        _ => {
            return Err(Failure::File(Error::usage(
                "this SQLite file is not a catalog; name another one with `--catalog embedded:PATH`",
            )));
        }
    }
    iceberg::create_tables(&transaction)?;
    let known = iceberg::namespaces(&transaction)?;
    for database in databases(&transaction)?.values().filter(|database| !known.contains_key(&database.name)) {
        iceberg::add_namespace(&transaction, database)?;
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()?;
    Ok(())
}

fn header(connection: &Connection) -> Result<(i32, i32), rusqlite::Error> {
    let get = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok((get("application_id")?, get("user_version")?))
}

// --- rows ----------------------------------------------------------------------------------------------------------

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    Ok(serde_json::from_str(text)?)
}

fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::unexpected("a description cannot be written as JSON").because(e))
}

/// A table's id is part of its version.
fn version(id: i64, version: i64) -> String {
    format!("{id}.{version}")
}

/// The id in a version of a table of files.
fn id_of(version: &str) -> Option<i64> {
    let (id, number) = version.split_once('.')?;
    number.parse::<i64>().ok().and(id.parse().ok())
}

/// A table that was found.
enum Found {
    /// A table of files: its id and version.
    Files(i64, i64),
    Iceberg(Pointer),
}

/// The id and the version of a table of files.
fn find_files(transaction: &Transaction<'_>, database: &str, name: &str) -> Result<Option<(i64, i64)>, Failure> {
    let mut query = transaction.prepare_cached("select id, version from tables where database = ?1 and name = ?2")?;
    Ok(query.query_row([database, name], |row| Ok((row.get(0)?, row.get(1)?))).optional()?)
}

fn find(transaction: &Transaction<'_>, database: &str, name: &str) -> Result<Found, Failure> {
    if let Some((id, version)) = find_files(transaction, database, name)? {
        return Ok(Found::Files(id, version));
    }
    let found = iceberg::pointer(transaction, database, name)?;
    found.map(Found::Iceberg).ok_or_else(|| Failure::Own(conflict::no_table(&format!("{database}.{name}"))))
}

/// The id of the table of files that was read; none for an Iceberg table. It may have another name by now, and another table
/// its name, with other partitions.
fn find_read(transaction: &Transaction<'_>, table: &TableDescription) -> Result<Option<i64>, Failure> {
    let named = find(transaction, &table.database, &table.name).map(|found| match found {
        Found::Files(id, _) => Some(id),
        Found::Iceberg(_) => None,
    });
    let Some(read) = table.version.as_deref().and_then(id_of) else { return named };
    if matches!(named, Ok(Some(id)) if id == read) {
        return named;
    }
    // A version may also be of another catalog, whose ids mean nothing here, or of a table of which this is a copy.
    let is_at_its_place = |id: i64| {
        let described = described(transaction, id)?;
        Ok::<_, Failure>(described.is_some_and(|described| described.storage.location == table.storage.location))
    };
    let is_copy = matches!(named, Ok(Some(id)) if is_at_its_place(id)?);
    if !is_copy && is_at_its_place(read)? { Ok(Some(read)) } else { named }
}

/// The id of a table that has partitions.
fn find_partitioned(transaction: &Transaction<'_>, table: &TableDescription) -> Result<i64, Failure> {
    let found = find_read(transaction, table)?;
    found.ok_or_else(|| Failure::Own(conflict::no_partitions(&table.qualified_name())))
}

/// The description of a table of files, without its version.
fn described(transaction: &Transaction<'_>, id: i64) -> Result<Option<TableDescription>, Failure> {
    let mut query = transaction.prepare_cached("select description from tables where id = ?1")?;
    let found = query.query_row([id], |row| row.get::<_, String>(0)).optional()?;
    found.map(|text| from_json(&text)).transpose()
}

/// The description of a table.
fn describe(transaction: &Transaction<'_>, found: &Found) -> Result<TableDescription, Failure> {
    match found {
        Found::Files(id, number) => {
            let described = described(transaction, *id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
            Ok(TableDescription { version: Some(version(*id, *number)), ..described })
        }
        Found::Iceberg(pointer) => Ok(pointer.describe()),
    }
}

/// The database that was created here, as opposed to a namespace that PyIceberg has created.
fn own_database(transaction: &Transaction<'_>, name: &str) -> Result<Option<Database>, Failure> {
    let query = "select description from databases where name = ?1";
    let found = transaction.query_row(query, [name], |row| row.get::<_, String>(0)).optional()?;
    found.map(|text| from_json(&text)).transpose()
}

/// The databases that were created here, by name.
fn databases(transaction: &Transaction<'_>) -> Result<BTreeMap<String, Database>, Failure> {
    let mut query = transaction.prepare("select name, description from databases")?;
    let databases = query.query_and_then([], |row| {
        let described: Database = from_json(&row.get::<_, String>(1)?)?;
        Ok::<_, Failure>((row.get(0)?, described))
    })?;
    databases.collect()
}

fn database(transaction: &Transaction<'_>, name: &str) -> Result<Option<Database>, Failure> {
    match own_database(transaction, name)? {
        None => Ok(iceberg::namespaces(transaction)?.remove(name).map(iceberg::Namespace::describe)),
        found => Ok(found),
    }
}

fn check_database(transaction: &Transaction<'_>, name: &str) -> Result<Database, Failure> {
    database(transaction, name)?.ok_or_else(|| Failure::Own(conflict::no_database(name)))
}

fn insert_database(transaction: &Transaction<'_>, database: &Database) -> Result<(), Failure> {
    transaction.execute("insert into databases values (?1, ?2)", params![database.name, to_json(database)?])?;
    Ok(())
}

/// Makes a database one of ours, which has tables of files, if PyIceberg has created it.
fn own(transaction: &Transaction<'_>, name: &str) -> Result<(), Failure> {
    match own_database(transaction, name)? {
        Some(_) => Ok(()),
        None => insert_database(transaction, &check_database(transaction, name)?),
    }
}

/// Gives a table of files the names of another one, which it does not have any more.
fn rename(transaction: &Transaction<'_>, id: i64, names: &TableDescription) -> Result<(), Failure> {
    own(transaction, &names.database)?;
    let described = described(transaction, id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    let (database, name) = (names.database.clone(), names.name.clone());
    let described = TableDescription { database, name, ..described };
    let update = "update tables set database = ?2, name = ?3, version = version + 1, description = ?4 where id = ?1";
    transaction.execute(update, params![id, names.database, names.name, to_json(&described)?])?;
    Ok(())
}

/// Exchanges the names of two tables of files.
fn exchange_files(
    transaction: &Transaction<'_>,
    (a, a_id): (&TableDescription, i64),
    (b, b_id): (&TableDescription, i64),
) -> Result<(), Failure> {
    // Its own name must be free before the other one gets it. No table has an empty one.
    transaction.execute("update tables set name = '' where id = ?1", [a_id])?;
    rename(transaction, b_id, a)?;
    rename(transaction, a_id, b)
}

/// Exchanges the names of a table of files and an Iceberg table.
fn exchange_kinds(
    transaction: &Transaction<'_>,
    (files, id): (&TableDescription, i64),
    (other, pointer): (&TableDescription, &Pointer),
) -> Result<(), Failure> {
    // PyIceberg has one of this name, which is hidden so far.
    if iceberg::has(transaction, &files.database, Some(&files.name))? {
        return Err(Failure::Own(conflict::table_exists(&files.qualified_name())));
    }
    // A namespace of PyIceberg may exist by this one table.
    rename(transaction, id, other)?;
    pointer.delete(transaction)?;
    let (database, name) = (files.database.clone(), files.name.clone());
    iceberg::add(transaction, &TableDescription { database, name, ..pointer.describe() })
}

fn partition(transaction: &Transaction<'_>, id: i64, values: &str) -> Result<Option<Partition>, Failure> {
    let mut query = transaction
        .prepare_cached("select description from partitions where table_id = ?1 and partition_values = ?2")?;
    let found = query.query_row(params![id, values], |row| row.get::<_, String>(0)).optional()?;
    found.map(|text| from_json(&text)).transpose()
}

/// The selected partitions among the [`PAGE`] that follow `after`, and where to continue, if there are more.
fn page(
    transaction: &Transaction<'_>,
    table: &TableDescription,
    wanted: &BoundPredicate,
    after: &str,
) -> Result<(Vec<Partition>, Option<String>), Failure> {
    let Some(id) = find_read(transaction, table)? else { return Ok((Vec::new(), None)) };
    let mut query = transaction.prepare_cached(
        "select partition_values, description from partitions where table_id = ?1 and partition_values > ?2 \
         order by partition_values limit ?3",
    )?;
    let mut rows = query.query(params![id, after, PAGE])?;
    let (mut found, mut seen, mut last) = (Vec::new(), 0, String::new());
    while let Some(row) = rows.next()? {
        seen += 1;
        last = row.get(0)?;
        // Only the values are parsed of partitions that are not selected.
        if wanted.matches(&from_json::<Vec<String>>(&last)?)? {
            found.push(from_json(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?)?);
        }
    }
    Ok((found, (seen == PAGE).then_some(last)))
}

#[async_trait]
impl Catalog for EmbeddedCatalog {
    async fn create_database(&self, database: &Database) -> Result<()> {
        let database = database.checked()?;
        self.write(move |transaction| {
            if self::database(transaction, &database.name)?.is_some() {
                return Err(Failure::Own(conflict::database_exists(&database.name)));
            }
            insert_database(transaction, &database)?;
            iceberg::add_namespace(transaction, &database)
        })
        .await
    }

    async fn get_database(&self, name: &str) -> Result<Database> {
        let name = folded(name);
        self.read(move |transaction| check_database(transaction, &name)).await
    }

    async fn list_databases(&self) -> Result<Vec<Database>> {
        self.read(|transaction| {
            let mut found = databases(transaction)?;
            for (name, namespace) in iceberg::namespaces(transaction)? {
                found.entry(name).or_insert_with(|| namespace.describe());
            }
            Ok(found.into_values().collect())
        })
        .await
    }

    async fn drop_database(&self, name: &str) -> Result<()> {
        let name = folded(name);
        self.write(move |transaction| {
            check_database(transaction, &name)?;
            let query = "select exists (select 1 from tables where database = ?1)";
            if transaction.query_row(query, [&name], |row| row.get(0))? || iceberg::has(transaction, &name, None)? {
                return Err(Failure::Own(conflict::database_in_use(&name)));
            }
            transaction.execute("delete from databases where name = ?1", [&name])?;
            iceberg::remove_namespace(transaction, &name)
        })
        .await
    }

    async fn create_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked()?;
        self.write(move |transaction| {
            check_database(transaction, &table.database)?;
            if find_files(transaction, &table.database, &table.name)?.is_some()
                || iceberg::has(transaction, &table.database, Some(&table.name))?
            {
                return Err(Failure::Own(conflict::table_exists(&table.qualified_name())));
            }
            if table.is_iceberg() {
                return iceberg::add(transaction, &table);
            }
            own(transaction, &table.database)?;
            let insert = "insert into tables (database, name, version, description) values (?1, ?2, 1, ?3)";
            transaction.execute(insert, params![table.database, table.name, to_json(&table)?])?;
            Ok(())
        })
        .await
    }

    async fn get_table(&self, database: &str, name: &str) -> Result<TableDescription> {
        let (database, name) = (folded(database), folded(name));
        self.read(move |transaction| describe(transaction, &find(transaction, &database, &name)?)).await
    }

    async fn list_tables(&self, database: &str) -> Result<Vec<TableDescription>> {
        let database = folded(database);
        self.read(move |transaction| {
            check_database(transaction, &database)?;
            let mut query = transaction.prepare("select id, version, description from tables where database = ?1")?;
            let tables = query.query_and_then([&database], |row| {
                let table: TableDescription = from_json(&row.get::<_, String>(2)?)?;
                let table = TableDescription { version: Some(version(row.get(0)?, row.get(1)?)), ..table };
                Ok::<_, Failure>((table.name.clone(), table))
            })?;
            let mut found: BTreeMap<String, TableDescription> = tables.collect::<Result<_, _>>()?;
            for (name, pointer) in iceberg::pointers(transaction, &database)? {
                found.entry(name).or_insert_with(|| pointer.describe());
            }
            Ok(found.into_values().collect())
        })
        .await
    }

    async fn update_table(&self, table: &TableDescription) -> Result<()> {
        let table = table.checked_content()?;
        self.write(move |transaction| {
            let found = find(transaction, &table.database, &table.name)?;
            table.check_update(&describe(transaction, &found)?)?;
            match found {
                Found::Files(id, _) if table.is_iceberg() => {
                    // PyIceberg has one of this name, which is hidden so far.
                    if iceberg::has(transaction, &table.database, Some(&table.name))? {
                        return Err(Failure::Own(conflict::table_exists(&table.qualified_name())));
                    }
                    transaction.execute("delete from tables where id = ?1", [id])?;
                    iceberg::add(transaction, &table)
                }
                Found::Files(id, _) => {
                    let update = "update tables set version = version + 1, description = ?2 where id = ?1";
                    let described = TableDescription { version: None, ..table };
                    transaction.execute(update, params![id, to_json(&described)?])?;
                    Ok(())
                }
                Found::Iceberg(pointer) => match table.metadata_location() {
                    // The same metadata is not its own predecessor.
                    Some(location) if table.version.as_deref() != Some(location) => pointer.swap(transaction, location),
                    _ => Ok(()),
                },
            }
        })
        .await
    }

    async fn drop_table(&self, database: &str, name: &str) -> Result<()> {
        let (database, name) = (folded(database), folded(name));
        self.write(move |transaction| match find(transaction, &database, &name)? {
            Found::Files(id, _) => {
                transaction.execute("delete from tables where id = ?1", [id])?;
                Ok(())
            }
            Found::Iceberg(pointer) => pointer.delete(transaction),
        })
        .await
    }

    /// One transaction exchanges tables of any kind, each with its partitions.
    async fn swap_tables(&self, a: &TableDescription, b: &TableDescription) -> Result<()> {
        self.check_swap(a, b)?;
        let (a, b) = (a.addressed(), b.addressed());
        self.write(move |transaction| {
            let unchanged = |table: &TableDescription| {
                let found = find(transaction, &table.database, &table.name)?;
                table.check_version(&describe(transaction, &found)?)?;
                Ok::<_, Failure>(found)
            };
            match (unchanged(&a)?, unchanged(&b)?) {
                (Found::Files(a_id, _), Found::Files(b_id, _)) => exchange_files(transaction, (&a, a_id), (&b, b_id)),
                (Found::Files(id, _), Found::Iceberg(pointer)) => exchange_kinds(transaction, (&a, id), (&b, &pointer)),
                (Found::Iceberg(pointer), Found::Files(id, _)) => exchange_kinds(transaction, (&b, id), (&a, &pointer)),
                (Found::Iceberg(a), Found::Iceberg(b)) => {
                    a.become_other(transaction, &b)?;
                    b.become_other(transaction, &a)
                }
            }
        })
        .await
    }

    fn check_swap(&self, a: &TableDescription, b: &TableDescription) -> Result<()> {
        swap::check(a, b)
    }

    async fn get_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<Vec<Partition>> {
        let table = table.addressed();
        let values: Vec<String> = values.iter().map(to_json).collect::<Result<_>>()?;
        self.read(move |transaction| {
            let Some(id) = find_read(transaction, &table)? else { return Ok(Vec::new()) };
            values.iter().filter_map(|values| partition(transaction, id, values).transpose()).collect()
        })
        .await
    }

    fn list_partitions(&self, table: &TableDescription, predicate: &Predicate) -> PartitionPages {
        let table = Arc::new(table.addressed());
        let wanted = match predicate.bind(&table) {
            Ok(wanted) => Arc::new(wanted),
            Err(error) => return stream::iter([Err(error)]).boxed(),
        };
        let catalog = self.clone();
        stream::try_unfold(Some(String::new()), move |after| {
            let (catalog, table, wanted) = (catalog.clone(), Arc::clone(&table), Arc::clone(&wanted));
            async move {
                let Some(after) = after else { return Ok(None) };
                catalog.read(move |transaction| Ok(Some(page(transaction, &table, &wanted, &after)?))).await
            }
        })
        .boxed()
    }

    async fn add_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.change_partitions("added", table, partitions, |transaction, id, values, partition| {
            let insert = "insert or ignore into partitions values (?1, ?2, ?3)";
            let added = transaction.prepare_cached(insert)?.execute(params![id, values, to_json(partition)?])?;
            if added == 1 || self::partition(transaction, id, values)?.as_ref() == Some(partition) {
                return Ok(Ok(()));
            }
            Ok(Err(Conflict::AlreadyExists.error("it already exists with different content; update it instead")))
        })
        .await
    }

    async fn update_partitions(&self, table: &TableDescription, partitions: &[Partition]) -> Result<()> {
        self.change_partitions("updated", table, partitions, |transaction, id, values, partition| {
            let update = "update partitions set description = ?3 where table_id = ?1 and partition_values = ?2";
            match transaction.prepare_cached(update)?.execute(params![id, values, to_json(partition)?])? {
                0 => Ok(Err(Error::not_found("there is no such partition; add it instead"))),
                _ => Ok(Ok(())),
            }
        })
        .await
    }

    async fn drop_partitions(&self, table: &TableDescription, values: &[Vec<String>]) -> Result<()> {
        let table = table.addressed();
        let values: Vec<String> = values.iter().map(to_json).collect::<Result<_>>()?;
        self.write(move |transaction| {
            let id = find_partitioned(transaction, &table)?;
            let delete = "delete from partitions where table_id = ?1 and partition_values = ?2";
            let mut delete = transaction.prepare_cached(delete)?;
            values.iter().try_for_each(|values| delete.execute(params![id, values]).map(drop).map_err(Failure::from))
        })
        .await
    }
}

/// Changes one partition; the inner error is about it alone.
type Change = fn(&Transaction<'_>, i64, &str, &Partition) -> Result<Result<()>, Failure>;

impl EmbeddedCatalog {
    async fn change_partitions(
        &self,
        verb: &'static str,
        table: &TableDescription,
        partitions: &[Partition],
        change: Change,
    ) -> Result<()> {
        let table = table.addressed();
        let partitions = table.check_partitions(partitions)?;
        self.write(move |transaction| {
            let id = find_partitioned(transaction, &table)?;
            let mut failures = Failures::default();
            for partition in &partitions {
                if let Err(error) = change(transaction, id, &to_json(&partition.values)?, partition)? {
                    failures.add(table.partition_name(&partition.values), error);
                }
            }
            // Not an error of the transaction, which keeps the changes that succeeded.
            Ok(failures.into_result(verb, &table.qualified_name(), partitions.len()))
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::OpenFlags;

    use super::*;

    #[test]
    fn a_file_of_version_1_that_cannot_be_written_is_read_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalog.sqlite");
        let file = Connection::open(&path).unwrap();
        file.execute_batch(SCHEMA).unwrap();
        file.execute_batch(r#"insert into databases values ('lake', '{"name":"lake"}')"#).unwrap();
        file.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
        file.pragma_update(None, "user_version", WITHOUT_ICEBERG).unwrap();

        let open = |behavior| {
            prepared(Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap(), behavior)
        };
        let Ok((mut reader, State::Older)) = open(TransactionBehavior::Deferred) else { panic!("it is not read") };
        let transaction = reader.transaction().unwrap();
        assert!(matches!(database(&transaction, "lake"), Ok(Some(found)) if found == Database::new("lake")));
        assert!(matches!(iceberg::pointers(&transaction, "lake"), Ok(found) if found.is_empty()));
        assert_eq!(header(&file).unwrap(), (APPLICATION_ID, WITHOUT_ICEBERG));

        // A writer is told why it fails.
        let Err(Failure::Sqlite(error)) = open(TransactionBehavior::Immediate) else { panic!("it is not refused") };
        insta::assert_snapshot!(Shared::explain(error), @"the catalog cannot be opened for writing; check the path and its permissions");

        // As soon as somebody else has migrated it, readers see all of it.
        drop(transaction);
        assert!(matches!(prepared(file, TransactionBehavior::Deferred), Ok((_, State::Current))));
        assert!(matches!(open(TransactionBehavior::Deferred), Ok((_, State::Current))));
    }
}
