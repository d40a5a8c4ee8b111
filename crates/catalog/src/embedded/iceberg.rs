//! Apache Iceberg tables, in the two tables that PyIceberg's SQL catalog reads and writes. Iceberg's libraries for Java
//! and Rust use the same layout.
//!
//! PyIceberg tells names apart that differ in case, and we do not. Every name is therefore compared here and not in SQL,
//! whose `lower()` folds ASCII only. Of two names that are the same to us, the one in lower case counts, otherwise the
//! first.

use std::collections::BTreeMap;

use hardtack_core::Location;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::name::folded;
use crate::table::{Database, TableDescription};

use super::Failure;

/// The name under which Iceberg tables of an [`EmbeddedCatalog`](crate::EmbeddedCatalog) are in its file. PyIceberg's
/// SQL catalog keeps any number of catalogs in one file and finds these tables as the catalog of this name; those of
/// other catalogs are ignored.
pub const ICEBERG_CATALOG_NAME: &str = "hardtack";

/// As PyIceberg 0.12 creates them. Files of earlier versions lack `iceberg_type`.
pub(super) const SCHEMA: &str = "
    create table if not exists iceberg_tables (
        catalog_name varchar(255) not null,
        table_namespace varchar(255) not null,
        table_name varchar(255) not null,
        metadata_location varchar(1000),
        previous_metadata_location varchar(1000),
        iceberg_type varchar(5),
        primary key (catalog_name, table_namespace, table_name)
    );
    create table if not exists iceberg_namespace_properties (
        catalog_name varchar(255) not null,
        namespace varchar(255) not null,
        property_key varchar(255) not null,
        property_value varchar(1000) not null,
        primary key (catalog_name, namespace, property_key)
    );
";

/// Whether the file has no tables but these: it is empty, or PyIceberg has created it.
pub(super) fn is_alone(transaction: &Transaction<'_>) -> Result<bool, Failure> {
    let query = "select not exists (select 1 from sqlite_schema \
                 where tbl_name not in ('iceberg_tables', 'iceberg_namespace_properties'))";
    Ok(transaction.query_row(query, [], |row| row.get(0))?)
}

/// Creates the tables unless PyIceberg has done it. Earlier versions of it continue to work on what is changed here:
/// they name the columns that they read and write.
pub(super) fn create_tables(transaction: &Transaction<'_>) -> Result<(), Failure> {
    transaction.execute_batch(SCHEMA)?;
    let query = "select exists (select 1 from pragma_table_info('iceberg_tables') where name = 'iceberg_type')";
    if !transaction.query_row(query, [], |row| row.get(0))? {
        transaction.execute_batch("alter table iceberg_tables add column iceberg_type varchar(5)")?;
    }
    Ok(())
}

// --- namespaces ----------------------------------------------------------------------------------------------------

/// PyIceberg takes a namespace to exist if it has a table or a property. One without either has this property.
const EXISTS: (&str, &str) = ("exists", "true");

/// The properties of a namespace that are not just parameters of a database, as Iceberg's catalogs name them.
const LOCATION: &str = "location";
const COMMENT: &str = "comment";

/// A namespace of Iceberg tables.
pub(super) struct Namespace {
    /// Its name, as PyIceberg has it.
    pub(super) spelling: String,
    properties: BTreeMap<String, String>,
}

impl Namespace {
    /// The database that it is to us.
    pub(super) fn describe(self) -> Database {
        let mut database = Database::new(folded(&self.spelling));
        database.parameters = self.properties;
        database.parameters.remove(EXISTS.0);
        let mut take = |key| database.parameters.remove(key).filter(|text: &String| !text.is_empty());
        let (location, comment) = (take(LOCATION), take(COMMENT));
        database.location = location.map(Location::from);
        database.description = comment;
        database
    }
}

/// All namespaces of one level, by their names in lower case. A namespace inside another one has dots in its name.
pub(super) fn namespaces(transaction: &Transaction<'_>) -> Result<BTreeMap<String, Namespace>, Failure> {
    let mut query = transaction.prepare_cached(
        "select namespace, property_key, property_value from iceberg_namespace_properties where catalog_name = ?1 \
         union all select distinct table_namespace, null, null from iceberg_tables where catalog_name = ?1",
    )?;
    let mut rows = query.query([ICEBERG_CATALOG_NAME])?;
    let mut spelled: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let properties = spelled.entry(row.get(0)?).or_default();
        if let Some(key) = row.get::<_, Option<String>>(1)? {
            properties.insert(key, row.get(2)?);
        }
    }
    let mut found = BTreeMap::new();
    for (spelling, properties) in spelled {
        let name = folded(&spelling);
        let counts = spelling == name || !found.contains_key(&name);
        if counts && !spelling.is_empty() && !spelling.contains('.') {
            found.insert(name, Namespace { spelling, properties });
        }
    }
    Ok(found)
}

/// Lets PyIceberg know a database, so that it creates tables in it, and at its location.
pub(super) fn add_namespace(transaction: &Transaction<'_>, database: &Database) -> Result<(), Failure> {
    let mut properties = database.parameters.clone();
    properties.extend(database.location.as_ref().map(|location| (LOCATION.to_owned(), location.to_string())));
    properties.extend(database.description.clone().map(|text| (COMMENT.to_owned(), text)));
    if properties.is_empty() {
        properties.insert(EXISTS.0.to_owned(), EXISTS.1.to_owned());
    }
    let insert = "insert into iceberg_namespace_properties (catalog_name, namespace, property_key, property_value) \
                  values (?1, ?2, ?3, ?4)";
    let mut insert = transaction.prepare_cached(insert)?;
    for (key, value) in &properties {
        insert.execute([ICEBERG_CATALOG_NAME, &database.name, key, value])?;
    }
    Ok(())
}

/// Removes the properties of a database's namespace, however it is spelled.
pub(super) fn remove_namespace(transaction: &Transaction<'_>, database: &str) -> Result<(), Failure> {
    let query = "select distinct namespace from iceberg_namespace_properties where catalog_name = ?1";
    let mut query = transaction.prepare(query)?;
    let spellings: Vec<String> =
        query.query_map([ICEBERG_CATALOG_NAME], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for spelling in spellings.iter().filter(|spelling| folded(spelling) == database) {
        let delete = "delete from iceberg_namespace_properties where catalog_name = ?1 and namespace = ?2";
        transaction.execute(delete, [ICEBERG_CATALOG_NAME, spelling])?;
    }
    Ok(())
}

// --- tables --------------------------------------------------------------------------------------------------------

/// The rows that are tables: others are views, or tables without metadata, which PyIceberg does not find either.
const POINTERS: &str = "
    select table_namespace, table_name, metadata_location, previous_metadata_location from iceberg_tables
    where catalog_name = ?1 and metadata_location <> '' and coalesce(iceberg_type, 'TABLE') = 'TABLE'";

/// Where an Iceberg table's metadata is: all that the catalog knows about it.
pub(super) struct Pointer {
    namespace: String,
    name: String,
    location: String,
    previous: Option<String>,
}

impl Pointer {
    fn of(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self { namespace: row.get(0)?, name: row.get(1)?, location: row.get(2)?, previous: row.get(3)? })
    }

    /// Sorts the one that counts first among those whose names are the same to us.
    fn rank(&self, database: &str) -> (bool, bool, &str, &str) {
        (self.namespace != database, self.name != folded(&self.name), &self.namespace, &self.name)
    }

    /// The table as the catalog describes it.
    pub(super) fn describe(&self) -> TableDescription {
        let table = TableDescription::iceberg(folded(&self.namespace), folded(&self.name), &self.location);
        let mut table = TableDescription { version: Some(self.location.clone()), ..table };
        let key = TableDescription::PREVIOUS_METADATA_LOCATION.to_owned();
        table.parameters.extend(self.previous.clone().map(|previous| (key, previous)));
        table
    }

    /// Points to other metadata. The caller holds the write lock and has compared the version.
    pub(super) fn swap(&self, transaction: &Transaction<'_>, location: &str) -> Result<(), Failure> {
        let update = "update iceberg_tables set metadata_location = ?4, previous_metadata_location = metadata_location \
                      where catalog_name = ?1 and table_namespace = ?2 and table_name = ?3";
        transaction.execute(update, [ICEBERG_CATALOG_NAME, &self.namespace, &self.name, location])?;
        Ok(())
    }

    /// Points to where another table does. The caller holds the write lock and has compared the versions.
    pub(super) fn become_other(&self, transaction: &Transaction<'_>, other: &Self) -> Result<(), Failure> {
        let update = "update iceberg_tables set metadata_location = ?4, previous_metadata_location = ?5 \
                      where catalog_name = ?1 and table_namespace = ?2 and table_name = ?3";
        let place = params![ICEBERG_CATALOG_NAME, self.namespace, self.name, other.location, other.previous];
        transaction.execute(update, place)?;
        Ok(())
    }

    pub(super) fn delete(&self, transaction: &Transaction<'_>) -> Result<(), Failure> {
        let delete = "delete from iceberg_tables where catalog_name = ?1 and table_namespace = ?2 and table_name = ?3";
        transaction.execute(delete, [ICEBERG_CATALOG_NAME, &self.namespace, &self.name])?;
        Ok(())
    }
}

/// The Iceberg tables of a database, by their names in lower case.
pub(super) fn pointers(transaction: &Transaction<'_>, database: &str) -> Result<BTreeMap<String, Pointer>, Failure> {
    let mut query = transaction.prepare_cached(POINTERS)?;
    let all = query.query_map([ICEBERG_CATALOG_NAME], Pointer::of)?.collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<Pointer> = all.into_iter().filter(|pointer| folded(&pointer.namespace) == database).collect();
    all.sort_by(|a, b| a.rank(database).cmp(&b.rank(database)));
    let mut found = BTreeMap::new();
    for pointer in all {
        found.entry(folded(&pointer.name)).or_insert(pointer);
    }
    Ok(found)
}

/// The Iceberg table of this name.
pub(super) fn pointer(transaction: &Transaction<'_>, database: &str, name: &str) -> Result<Option<Pointer>, Failure> {
    // Most names are in lower case, and the key finds them.
    let mut query = transaction.prepare_cached(&format!("{POINTERS} and table_namespace = ?2 and table_name = ?3"))?;
    match query.query_row([ICEBERG_CATALOG_NAME, database, name], Pointer::of).optional()? {
        None => Ok(pointers(transaction, database)?.remove(name)),
        found => Ok(found),
    }
}

/// Whether there is anything in a database, or anything of this name, be it a table or not.
pub(super) fn has(transaction: &Transaction<'_>, database: &str, name: Option<&str>) -> Result<bool, Failure> {
    let query = "select table_namespace, table_name from iceberg_tables where catalog_name = ?1";
    let mut query = transaction.prepare_cached(query)?;
    let mut rows = query.query([ICEBERG_CATALOG_NAME])?;
    while let Some(row) = rows.next()? {
        let (namespace, found): (String, String) = (row.get(0)?, row.get(1)?);
        if folded(&namespace) == database && name.is_none_or(|name| folded(&found) == name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds a table to the namespace that its database is, however that is spelled.
pub(super) fn add(transaction: &Transaction<'_>, table: &TableDescription) -> Result<(), Failure> {
    let namespace = namespaces(transaction)?.remove(&table.database);
    let namespace = namespace.map_or_else(|| table.database.clone(), |namespace| namespace.spelling);
    let insert = "insert into iceberg_tables (catalog_name, table_namespace, table_name, metadata_location, \
                  previous_metadata_location, iceberg_type) values (?1, ?2, ?3, ?4, ?5, 'TABLE')";
    let (location, previous) = (table.metadata_location(), table.previous_metadata_location());
    transaction.execute(insert, params![ICEBERG_CATALOG_NAME, namespace, table.name, location, previous])?;
    Ok(())
}
