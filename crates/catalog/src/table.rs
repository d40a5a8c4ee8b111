//! The contents of a catalog: databases, tables, partitions, in Glue's and Hive's terms.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use hardtack_core::{Error, Location, Result};
use serde::{Deserialize, Serialize};

use crate::arrow_types::COMMENT_KEY;
use crate::conflict;
use crate::format::{self, TableFormat};
use crate::hive_type::HiveType;
use crate::name;
use crate::swap;
use crate::value::PartitionValue;

/// The parameter that says what a table is if not plain files, as Glue and Hive have it, and its value for Iceberg.
const TABLE_TYPE: &str = "table_type";
const ICEBERG: &str = "ICEBERG";

/// Represents null among a partition's values.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// A database: a namespace of tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Database {
    /// Its name. Catalogs fold it to lower case.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where its tables are by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

impl Database {
    /// A database with just a name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), description: None, location: None, parameters: BTreeMap::new() }
    }

    /// The database as a catalog stores it: name folded, empty texts left out.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for names, descriptions or parameters that Glue would not accept.
    pub fn checked(&self) -> Result<Self> {
        let mut checked = self.clone();
        checked.name = name::checked("database", &self.name)?;
        checked.description = name::description(self.description.as_deref())?;
        name::parameters(&self.parameters)?;
        Ok(checked)
    }
}

/// A column or partition key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Column {
    /// Its name. Catalogs fold it to lower case.
    pub name: String,
    /// Its type as the catalog writes it. It is kept as text, so that a table with an unknown type can still be listed,
    /// and updated without changing that column. [`Column::hive_type`] parses it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// What it means: one line of at most 255 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

impl Column {
    /// A column without a comment.
    pub fn new(name: impl Into<String>, data_type: &HiveType) -> Self {
        Self { name: name.into(), data_type: data_type.to_string(), comment: None }
    }

    /// A column as a foreign catalog describes it, whatever its type.
    pub fn foreign(name: impl Into<String>, data_type: impl Into<String>) -> Self {
        Self { name: name.into(), data_type: data_type.into(), comment: None }
    }

    /// Sets the comment.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = Some(comment.into());
        self
    }

    /// The column's type.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a type that neither Athena nor Spark reads. The error names the
    /// column.
    pub fn hive_type(&self) -> Result<HiveType> {
        self.data_type.parse::<HiveType>().map_err(|e| e.with("column", &self.name))
    }

    /// The Arrow field. It is nullable, because the catalog has no `not null`, and has the comment in its metadata
    /// under [`COMMENT_KEY`].
    ///
    /// # Errors
    /// As for [`Column::hive_type`].
    pub fn to_field(&self) -> Result<Field> {
        let field = self.hive_type()?.to_field(&self.name, true);
        let mut metadata: HashMap<String, String> = field.metadata().clone();
        metadata.extend(self.comment.clone().map(|text| (COMMENT_KEY.to_owned(), text)));
        Ok(field.with_metadata(metadata))
    }

    /// The column for an Arrow field.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for types that Hive does not have. The error names the field.
    pub fn of(field: &Field) -> Result<Self> {
        let comment = field.metadata().get(COMMENT_KEY).cloned();
        Ok(Self { comment, ..Self::new(field.name(), &HiveType::of(field)?) })
    }

    /// The column as a catalog stores it: name folded, an empty comment left out.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a name, a type or a comment that Glue would not accept.
    pub fn checked(&self) -> Result<Self> {
        let name = name::column(&self.name)?;
        if self.data_type.trim().is_empty() {
            return Err(Error::usage("a column needs a type, such as `string`").with("column", name));
        }
        let comment = name::comment(self.comment.as_deref()).map_err(|e| e.with("column", &name))?;
        Ok(Self { name, data_type: self.data_type.clone(), comment })
    }
}

/// Where and how rows are stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StorageDescriptor {
    /// The columns in the files, without the partition keys.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// The folder of the files. Views have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The Hive class that splits and reads files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_format: Option<String>,
    /// The Hive class that writes files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_format: Option<String>,
    /// The Hive class that reads and writes rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serde_library: Option<String>,
    /// The SerDe's parameters, for example delimiters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub serde_parameters: BTreeMap<String, String>,
    /// Anything else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

impl StorageDescriptor {
    fn checked(&self) -> Result<Self> {
        let mut checked = self.clone();
        checked.columns = self.columns.iter().map(Column::checked).collect::<Result<_>>()?;
        if let Some(location) = &self.location {
            name::location(location)?;
        }
        name::parameters(&self.serde_parameters)?;
        name::parameters(&self.parameters)?;
        Ok(checked)
    }
}

/// A table.
///
/// ```
/// use hardtack_catalog::{Column, HiveType, TableDescription, TableFormat};
///
/// let books = TableDescription::new("lake", "books", &TableFormat::Parquet, "s3://lake/books")
///     .with_columns([Column::new("title", &HiveType::String).with_comment("of the first edition")])
///     .with_partition_keys([Column::new("year", &HiveType::Int)]);
/// assert_eq!(books.qualified_name(), "lake.books");
/// assert_eq!(books.parameters["classification"], "parquet");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableDescription {
    /// The database that it is in.
    pub database: String,
    /// Its name. Catalogs fold it to lower case.
    pub name: String,
    /// What it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where and how rows are stored, and the columns.
    pub storage: StorageDescriptor,
    /// The columns whose values are in the partitions and not in the files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_keys: Vec<Column>,
    /// Properties of the table: `classification`, `EXTERNAL`, `recordCount` ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// [`TableDescription::EXTERNAL`], or a type that other tools create, such as `VIRTUAL_VIEW`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_type: Option<String>,
    /// The version that was read, opaque to everybody but its catalog. None for a table that has not been created yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl TableDescription {
    /// The type of a table whose files the catalog must not delete.
    pub const EXTERNAL: &str = "EXTERNAL_TABLE";

    /// The parameter of an Iceberg table that locates its current metadata file.
    pub const METADATA_LOCATION: &str = "metadata_location";

    /// The parameter of an Iceberg table that locates the metadata file before the last commit.
    pub const PREVIOUS_METADATA_LOCATION: &str = "previous_metadata_location";

    /// An external table as Athena and Spark read it, without columns so far.
    pub fn new(
        database: impl Into<String>,
        name: impl Into<String>,
        format: &TableFormat,
        location: impl Into<Location>,
    ) -> Self {
        let mut table = Self {
            database: database.into(),
            name: name.into(),
            description: None,
            storage: StorageDescriptor { location: Some(location.into()), ..StorageDescriptor::default() },
            partition_keys: Vec::new(),
            parameters: BTreeMap::from([("EXTERNAL".to_owned(), "TRUE".to_owned())]),
            table_type: Some(Self::EXTERNAL.to_owned()),
            version: None,
        };
        format.describe(&mut table.storage, &mut table.parameters);
        table
    }

    /// An Apache Iceberg table whose current metadata file is at `metadata_location`. It has no columns here: they are
    /// in the metadata.
    ///
    /// ```
    /// use hardtack_catalog::TableDescription;
    ///
    /// let books = TableDescription::iceberg("lake", "books", "s3://lake/books/metadata/00000-a.metadata.json");
    /// assert!(books.is_iceberg());
    /// assert_eq!(books.parameters["table_type"], "ICEBERG");
    ///
    /// let committed = books.with_metadata_location("s3://lake/books/metadata/00001-b.metadata.json");
    /// assert_eq!(committed.metadata_location(), Some("s3://lake/books/metadata/00001-b.metadata.json"));
    /// assert_eq!(committed.previous_metadata_location(), Some("s3://lake/books/metadata/00000-a.metadata.json"));
    /// ```
    pub fn iceberg(database: impl Into<String>, name: impl Into<String>, metadata_location: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            name: name.into(),
            description: None,
            storage: StorageDescriptor::default(),
            partition_keys: Vec::new(),
            parameters: BTreeMap::from([
                (TABLE_TYPE.to_owned(), ICEBERG.to_owned()),
                (Self::METADATA_LOCATION.to_owned(), metadata_location.into()),
            ]),
            table_type: Some(Self::EXTERNAL.to_owned()),
            version: None,
        }
    }

    /// Whether this is an Apache Iceberg table, which says so in the parameter `table_type`.
    pub fn is_iceberg(&self) -> bool {
        self.parameters.get(TABLE_TYPE).is_some_and(|kind| kind.eq_ignore_ascii_case(ICEBERG))
    }

    /// The location of an Iceberg table's current metadata file. None for other tables.
    pub fn metadata_location(&self) -> Option<&str> {
        self.iceberg_parameter(Self::METADATA_LOCATION)
    }

    /// The location of an Iceberg table's metadata file before the last commit. None before the first commit, and for
    /// other tables.
    pub fn previous_metadata_location(&self) -> Option<&str> {
        self.iceberg_parameter(Self::PREVIOUS_METADATA_LOCATION)
    }

    fn iceberg_parameter(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(String::as_str).filter(|text| !text.is_empty() && self.is_iceberg())
    }

    /// An Iceberg table after a commit: its current metadata file is at `location`, and the one that was current is the
    /// previous one. [`Catalog::update_table`](crate::Catalog::update_table) publishes it.
    #[must_use]
    pub fn with_metadata_location(mut self, location: impl Into<String>) -> Self {
        if let Some(previous) = self.parameters.insert(Self::METADATA_LOCATION.to_owned(), location.into()) {
            self.parameters.insert(Self::PREVIOUS_METADATA_LOCATION.to_owned(), previous);
        }
        self
    }

    /// The other table (`database.name`) of a [swap](crate::Catalog::swap_tables) that has begun and not ended, if this one
    /// was updated first.
    pub fn unfinished_swap(&self) -> Option<String> {
        swap::other(self)
    }

    /// Checks that no swap of this table has begun and not ended.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) with the other table, and how the swap is finished.
    pub fn check_no_unfinished_swap(&self) -> Result<()> {
        swap::check_none(self, |_| true)
    }

    /// The columns in the files.
    #[must_use]
    pub fn with_columns(mut self, columns: impl IntoIterator<Item = Column>) -> Self {
        self.storage.columns = columns.into_iter().collect();
        self
    }

    /// Sets the columns whose values are in the partitions.
    #[must_use]
    pub fn with_partition_keys(mut self, keys: impl IntoIterator<Item = Column>) -> Self {
        self.partition_keys = keys.into_iter().collect();
        self
    }

    /// Sets the description.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// Sets a property.
    #[must_use]
    pub fn with_parameter(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(key.into(), value.into());
        self
    }

    /// `database.name`, for messages.
    pub fn qualified_name(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    /// The folder of the files.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if it has none, like a view or an Iceberg table.
    pub fn location(&self) -> Result<&Location> {
        self.storage.location.as_ref().ok_or_else(|| {
            if self.is_iceberg() {
                return format::not_plain_files(ICEBERG).with("table", self.qualified_name());
            }
            let kind = self.table_type.as_deref().unwrap_or("table");
            Error::usage(format!("`{}` is a {kind} without a location, so there are no files", self.qualified_name()))
        })
    }

    /// The format of its files.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a format that this framework does not know.
    pub fn format(&self) -> Result<TableFormat> {
        TableFormat::of(&self.storage, &self.parameters).map_err(|e| e.with("table", self.qualified_name()))
    }

    /// A partition of this table: its columns and format, at `location`.
    pub fn partition<V: Into<String>>(
        &self,
        values: impl IntoIterator<Item = V>,
        location: impl Into<Location>,
    ) -> Partition {
        Partition {
            values: values.into_iter().map(Into::into).collect(),
            storage: StorageDescriptor { location: Some(location.into()), ..self.storage.clone() },
            parameters: BTreeMap::new(),
        }
    }

    /// The format of a partition's files, which may be older than the table's.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a format that this framework does not know.
    pub fn format_of(&self, partition: &Partition) -> Result<TableFormat> {
        // Parameters that Hive stores with the table (such as the number of header lines) apply to its partitions, too.
        let mut parameters = self.parameters.clone();
        parameters.extend(partition.parameters.clone());
        TableFormat::of(&partition.storage, &parameters).map_err(|e| {
            e.with("table", self.qualified_name()).with("partition", self.partition_name(&partition.values))
        })
    }

    /// A partition's name as Hive writes it, which is also its folder: `year=2026/title=a%2Fb`.
    pub fn partition_name(&self, values: &[String]) -> String {
        // The message about missing keys or values shows all of them.
        let keys = self.partition_keys.iter().map(|k| k.name.as_str()).chain(std::iter::repeat("?"));
        name::partition_name(keys, values)
    }

    /// Checks that these are valid values of a partition.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if their number differs from that of the keys, or one does not have
    /// its key's type. The error names the partition.
    pub fn check_values(&self, values: &[String]) -> Result<()> {
        let at = |e: Error| e.with("table", self.qualified_name()).with("partition", self.partition_name(values));
        if values.len() != self.partition_keys.len() {
            let keys: Vec<&str> = self.partition_keys.iter().map(|k| k.name.as_str()).collect();
            let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            return Err(at(Error::usage(format!(
                "a partition has one value for each partition key, but there are {} values; the keys are: {keys}",
                values.len(),
            ))));
        }
        for (key, value) in self.partition_keys.iter().zip(values) {
            PartitionValue::parse(key, value).map_err(at)?;
        }
        Ok(())
    }

    /// Checks that this is a table whose partitions are in the catalog.
    pub(crate) fn check_partitioned(&self) -> Result<()> {
        if self.is_iceberg() { Err(conflict::no_partitions(&self.qualified_name())) } else { Ok(()) }
    }

    /// Partitions as a catalog stores them, without duplicates.
    pub(crate) fn check_partitions(&self, partitions: &[Partition]) -> Result<Vec<Partition>> {
        self.check_partitioned()?;
        let mut seen = HashSet::new();
        let check = |partition: &Partition| {
            self.check_values(&partition.values)?;
            let checked = partition.storage.checked().and_then(|storage| {
                name::parameters(&partition.parameters)?;
                if !seen.insert(partition.values.clone()) {
                    return Err(Error::usage("this partition occurs twice"));
                }
                Ok(Partition { storage, ..partition.clone() })
            });
            checked.map_err(|e| {
                e.with("table", self.qualified_name()).with("partition", self.partition_name(&partition.values))
            })
        };
        partitions.iter().map(check).collect()
    }

    /// The table as a catalog stores it: names folded, empty texts left out.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for anything that Glue would not accept, duplicate columns, partition
    /// keys of a nested type, and an Iceberg table without [`metadata_location`](TableDescription::metadata_location).
    pub fn checked(&self) -> Result<Self> {
        name::checked("database", &self.database)?;
        name::checked("table", &self.name)?;
        self.checked_content()
    }

    /// [`TableDescription::checked`] for a table that exists, whatever name another tool has given it.
    pub(crate) fn checked_content(&self) -> Result<Self> {
        let mut checked = self.addressed();
        let name = checked.qualified_name();
        let at = |e: Error| e.with("table", &name);
        checked.description = name::description(self.description.as_deref()).map_err(at)?;
        checked.storage = self.storage.checked().map_err(at)?;
        checked.partition_keys = self.partition_keys.iter().map(Column::checked).collect::<Result<_>>().map_err(at)?;
        name::parameters(&self.parameters).map_err(at)?;
        if self.is_iceberg() && self.metadata_location().is_none() {
            return Err(at(Error::usage(
                "an Iceberg table needs the location of its metadata file; set the parameter `metadata_location`",
            )));
        }
        let mut seen = HashSet::new();
        if let Some(twice) = checked.all_columns().find(|c| !seen.insert(&c.name)) {
            return Err(at(Error::usage("this column is declared twice").with("column", &twice.name)));
        }
        checked.partition_keys.iter().try_for_each(check_key).map_err(at)?;
        Ok(checked)
    }

    /// This table with its names folded as in a catalog.
    pub(crate) fn addressed(&self) -> Self {
        Self { database: name::folded(&self.database), name: name::folded(&self.name), ..self.clone() }
    }

    /// The version that was read.
    pub(crate) fn read_version(&self) -> Result<&str> {
        self.version.as_deref().ok_or_else(|| {
            let name = self.qualified_name();
            Error::usage(format!("`{name}` has no version; read the table and change what was read"))
        })
    }

    /// Checks that this was read from the table that is `current`.
    pub(crate) fn check_version(&self, current: &Self) -> Result<()> {
        let expected = self.read_version()?;
        match current.version.as_deref() == Some(expected) {
            true => Ok(()),
            false => Err(conflict::table_changed(&self.qualified_name(), expected, current.version.as_deref())),
        }
    }

    /// Checks that this may replace `current`.
    pub(crate) fn check_update(&self, current: &Self) -> Result<()> {
        let name = self.qualified_name();
        self.check_version(current)?;
        swap::check_update(self, current)?;
        match (current.is_iceberg(), self.is_iceberg()) {
            (true, false) => {
                return Err(Error::usage(format!(
                    "`{name}` is an Iceberg table, and an update cannot change that; create another table, or drop this \
                     one first"
                )));
            }
            // Its metadata says by what it is partitioned.
            (false, true) if self.partition_keys.is_empty() => return Ok(()),
            (false, true) => {
                return Err(Error::usage(format!(
                    "`{name}` becomes an Iceberg table, whose partition fields are in its metadata; leave out the \
                     partition keys"
                )));
            }
            (true, true) | (false, false) => {}
        }
        let keys = |table: &Self| table.partition_keys.iter().map(|k| name::folded(&k.name)).collect::<Vec<_>>();
        let (old, new) = (keys(current), keys(self));
        if old != new {
            return Err(Error::usage(format!(
                "the partition keys of `{name}` cannot be changed; create another table"
            ))
            .with("keys", old.join(", "))
            .with("wanted", new.join(", ")));
        }
        Ok(())
    }

    /// The columns in the files, then the partition keys.
    pub fn all_columns(&self) -> impl Iterator<Item = &Column> {
        self.storage.columns.iter().chain(&self.partition_keys)
    }
}

fn check_key(key: &Column) -> Result<()> {
    match key.hive_type()? {
        t @ (HiveType::Array(_) | HiveType::Map(..) | HiveType::Struct(_) | HiveType::Binary | HiveType::Void) => {
            Err(Error::usage(format!("a partition key cannot be of the type {t}; use a string, an integer or a date"))
                .with("column", &key.name))
        }
        _ => Ok(()),
    }
}

/// A partition: the rows that share one value of each partition key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Partition {
    /// One value for each key, in the order of the keys, as Hive writes them: `2026-07-01`, `true`, [`NULL_PARTITION`].
    pub values: Vec<String>,
    /// Where and how its rows are stored. Its files may be older than the table's columns.
    pub storage: StorageDescriptor,
    /// Properties: `recordCount`, `totalSize` ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

impl Partition {
    /// Sets a property.
    #[must_use]
    pub fn with_parameter(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(key.into(), value.into());
        self
    }
}

/// The schema of a table: its columns, then its partition keys, as in Athena. Every column is nullable, because the
/// catalog has no `not null`. A column's comment is stored in the field's metadata under [`COMMENT_KEY`].
///
/// ```
/// use hardtack_catalog::{HiveType, TableDescription, TableFormat, columns_of, schema, schema_from_catalog};
///
/// let schema = schema! { title: string, price: decimal(10, 2) };
/// let table =
///     TableDescription::new("lake", "books", &TableFormat::Parquet, "s3://lake/books").with_columns(columns_of(&schema)?);
/// assert_eq!(schema_from_catalog(&table)?, schema);
/// # Ok::<_, hardtack_core::Error>(())
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if a type is unknown or a name is duplicate. The error names table and
/// column.
pub fn schema_from_catalog(table: &TableDescription) -> Result<SchemaRef> {
    schema_of_columns(table.all_columns()).map_err(|e| e.with("table", table.qualified_name()))
}

pub(crate) fn schema_of_columns<'a>(columns: impl IntoIterator<Item = &'a Column>) -> Result<SchemaRef> {
    let (mut fields, mut seen) = (Vec::new(), HashSet::new());
    for column in columns {
        if !seen.insert(column.name.to_lowercase()) {
            return Err(Error::usage("this column is declared twice").with("column", &column.name));
        }
        fields.push(column.to_field()?);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The columns of a table for rows of this schema. `not null` is lost: the catalog does not have it.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for types that Hive does not have. The error names the field.
pub fn columns_of(schema: &Schema) -> Result<Vec<Column>> {
    schema.fields().iter().map(|field| Column::of(field)).collect()
}
