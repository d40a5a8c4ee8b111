//! Tables of files that become Iceberg tables, with the files that they have.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use datafusion::error::DataFusionError;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::{TableDescription, schema_from_catalog};
use hardtack_core::guard::guarded;
use hardtack_core::{Environment, Error, ErrorKind, Location, Result};
use hardtack_sinks::{ColumnMetrics, WrittenFile};
use hardtack_sources::FolderFile;
use iceberg::arrow::arrow_type_to_type;
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, DataFile, MAIN_BRANCH, MappedField, NameMapping, NestedField, NestedFieldRef,
    PrimitiveType, Struct, TableMetadata, Type,
};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetObjectReader};
use parquet::arrow::{PARQUET_FIELD_ID_META_KEY, parquet_to_arrow_schema};
use parquet::basic::{LogicalType, TimeUnit as ParquetUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescriptor;

use crate::catalog::{Loaded, METADATA_PATH};
use crate::error::failed;
use crate::evolution::wider;
use crate::maintenance::CONCURRENCY;
use crate::partition::Keys;
use crate::schema::storable;
use crate::sink::{catalog_of, engine, new_table};
use crate::snapshot::{Draft, Mode};
use crate::storage::file_io;
use crate::{IcebergTable, NewIcebergTable, PartitionField, file};

/// A table of Parquet files that can become an Iceberg table: all of its files fit.
///
/// The files stay as they are and where they are. Their columns have no field ids, so the table gets a
/// [name mapping](https://iceberg.apache.org/spec/#name-mapping-serialization), which has each column under the names
/// that it has in files, whatever their case. Partition keys become identity partitions.
///
/// `hardtack_tables::migrate` finds the files and does both steps.
#[derive(Debug)]
pub struct Migration {
    table: TableDescription,
    metadata: TableMetadata,
    files: Vec<DataFile>,
}

impl Migration {
    /// Reads the footers of all `files` of a table, as the catalog describes it. Writes nothing. `base` is the folder of
    /// the Iceberg table. With `in_files`, readers of the table of files read everything in that folder whose name does not
    /// begin with `_` or `.`, so that metadata gets such a name.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for columns of a type that Iceberg lacks, and
    /// [`Refused`](hardtack_core::ErrorKind::Refused) for a file that readers of Iceberg would not read as it is read
    /// now, with the file and the column.
    pub async fn prepare(
        env: &Environment,
        table: &TableDescription,
        base: &Location,
        in_files: bool,
        files: &[FolderFile],
    ) -> Result<Self> {
        let columns = schema_from_catalog(table)?;
        let keys = table.partition_keys.iter().map(|key| PartitionField::identity(&key.name));
        let mut new = NewIcebergTable::at(base.clone()).with_schema(Arc::clone(&columns)).partition_by(keys);
        if in_files {
            new = new.with_property(METADATA_PATH, base.absolute()?.join("_iceberg/metadata").as_str());
        }
        let named = IcebergTable::named(&table.database, &table.name);
        let metadata = new_table(&named, &new, &columns, None)?;
        let fitting = Fitting::new(env, &metadata)?;
        let loading = files.iter().map(|file| fitting.read(file));
        let read: Vec<(DataFile, Names)> = stream::iter(loading).buffered(CONCURRENCY).try_collect().await?;
        let mut names = Names::of(metadata.current_schema().as_struct().fields());
        let (mut taken, mut files) = (HashMap::new(), Vec::new());
        for (file, found) in read {
            if let Some(twice) = taken.insert(file.file_path().to_owned(), file.partition().clone()) {
                let of = |partition: &Struct| {
                    let schema = Arc::clone(metadata.current_schema());
                    metadata.default_partition_spec().partition_to_path(partition, schema)
                };
                return Err(Error::usage("a file is in two partitions, and in an Iceberg table in one")
                    .with("table", table.qualified_name())
                    .with("file", file.file_path())
                    .with("partitions", format!("{}, {}", of(&twice), of(file.partition()))));
            }
            names.add(found);
            // Some readers do not expect files without rows.
            if file.record_count() > 0 {
                files.push(file);
            }
        }
        let mapping = serde_json::to_string(&NameMapping::new(names.mapped(metadata.current_schema())));
        let mapping = mapping.map_err(|e| Error::unexpected("a name mapping cannot be written as JSON").because(e))?;
        let properties = HashMap::from([(DEFAULT_SCHEMA_NAME_MAPPING.to_owned(), mapping)]);
        let builder = metadata.into_builder(None).set_properties(properties).map_err(failed)?;
        let metadata = builder.build().map_err(failed)?.metadata;
        Ok(Self { table: table.clone(), metadata, files })
    }

    /// How many files it has.
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.files.iter().map(DataFile::record_count).sum()
    }

    /// The size of its files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(DataFile::file_size_in_bytes).sum()
    }

    /// Makes it an Iceberg table, in one step. Returns its snapshot, if it has files.
    ///
    /// # Errors
    /// [`Conflict`](hardtack_core::ErrorKind::Conflict) if the table has changed in the catalog since; it stays a table of
    /// files.
    pub async fn commit(self, env: &Environment, now: DateTime<Utc>) -> Result<Option<i64>> {
        let catalog = catalog_of(env).await?;
        let description = TableDescription::iceberg(&self.table.database, &self.table.name, "");
        let loaded = Loaded::new(description, String::new(), self.metadata.into(), file_io(env.shared_stores()));
        if self.files.is_empty() {
            catalog.convert(&self.table, loaded.metadata()).await?;
            return Ok(None);
        }
        let spec = loaded.metadata().default_partition_spec_id();
        let mut draft = Draft::new(&loaded, Mode::Append, spec, self.files, engine().into());
        let snapshot = draft.produce(&loaded, None, now.timestamp_millis()).await?;
        let id = snapshot.snapshot_id();
        let builder = loaded.metadata().as_ref().clone().into_builder(None);
        let builder = builder.set_branch_snapshot(snapshot, MAIN_BRANCH).map_err(failed)?;
        let metadata = builder.build().map_err(failed)?.metadata;
        match catalog.convert(&self.table, &metadata).await {
            Ok(_) => Ok(Some(id)),
            Err(e) => {
                // Of another kind it may have happened.
                if e.kind() == ErrorKind::Conflict {
                    draft.discard(&loaded).await?;
                }
                Err(e)
            }
        }
    }
}

// --- files ---------------------------------------------------------------------------------------------------------

/// Finds out whether files fit a table.
struct Fitting<'a> {
    env: &'a Environment,
    metadata: &'a TableMetadata,
    keys: Keys,
}

impl<'a> Fitting<'a> {
    fn new(env: &'a Environment, metadata: &'a TableMetadata) -> Result<Self> {
        let keys = Keys::of(metadata.default_partition_spec(), metadata.current_schema())?;
        Ok(Self { env, metadata, keys })
    }

    /// A file as one of the table, and the names of its columns.
    async fn read(&self, file: &FolderFile) -> Result<(DataFile, Names)> {
        let (store, path) = self.env.stores().open(&file.location)?;
        let mut reader = ParquetObjectReader::new(store.objects, path).with_file_size(file.bytes);
        let reading = async {
            let footer = reader.get_metadata(None).await.map_err(|e| match e {
                ParquetError::External(_) => Error::from(DataFusionError::from(e)),
                e => Error::refused("this is not a Parquet file, or a damaged one").because(e),
            })?;
            self.fit(file, &footer)
        };
        guarded(&file.location, reading).await.map_err(|e| match e.get("file") {
            None => e.with("file", &file.location),
            Some(_) => e,
        })
    }

    fn fit(&self, file: &FolderFile, footer: &ParquetMetaData) -> Result<(DataFile, Names)> {
        let (descr, told) = (footer.file_metadata().schema_descr(), footer.file_metadata().key_value_metadata());
        let stored = Arc::new(parquet_to_arrow_schema(descr, None).map_err(DataFusionError::from)?);
        let told = parquet_to_arrow_schema(descr, told).map_err(DataFusionError::from)?;
        let schema = self.metadata.current_schema();
        let wanted = schema.as_struct().fields();
        if let Some(field) = stored.fields().iter().find(|field| has_ids(field)) {
            return Err(misfit("its columns have field ids, which may be those of another table", field.name()));
        }
        let keys: Vec<String> = self.keys.sources().map(str::to_lowercase).collect();
        if let Some(field) = stored.fields().iter().find(|field| keys.contains(&field.name().to_lowercase())) {
            let why = "the file has a column of the name of a partition key, which may have other values than its folder says";
            return Err(misfit(why, field.name()));
        }
        told.fields().iter().try_for_each(|field| common(field, field.name()))?;
        for column in descr.columns() {
            let unit = match (column.physical_type(), column.logical_type_ref()) {
                (Physical::INT96, _) => Some("INT96"),
                (_, Some(LogicalType::Timestamp { unit: ParquetUnit::MILLIS, .. })) => Some("milliseconds"),
                (_, Some(LogicalType::Timestamp { unit: ParquetUnit::NANOS, .. })) => Some("nanoseconds"),
                _ => None,
            };
            if let Some(unit) = unit {
                let why =
                    "a column has timestamps in another unit than microseconds, which some readers take for those";
                return Err(misfit(why, &column.path().parts().join(".")).with("unit", unit));
            }
        }
        let mut names = Names::of(wanted);
        names.find(stored.fields().iter().map(AsRef::as_ref), wanted, "")?;
        let columns = metrics(footer, &stored, &names, wanted);
        let rows = u64::try_from(footer.file_metadata().num_rows()).unwrap_or_default();
        let written = WrittenFile {
            values: Vec::new(),
            location: file.location.clone(),
            rows,
            bytes: file.bytes,
            xxh3: None,
            publish: None,
            columns,
        };
        let partition = self.keys.of_scalars(&file.values)?;
        let spec = self.metadata.default_partition_spec_id();
        Ok((file::data_file(&written, schema, spec, partition, None)?, names))
    }
}

fn misfit(why: &str, column: &str) -> Error {
    Error::refused(why)
        .with("column", column)
        .hint("rewrite the files of this partition with a job, and migrate the table then")
}

/// Refuses types that some readers of Iceberg do not read, also if the file only says to readers of Arrow that it has them.
fn common(field: &Field, path: &str) -> Result<()> {
    let is_extension = field.metadata().contains_key("ARROW:extension:name");
    match field.data_type() {
        _ if is_extension => Err(misfit("a column has an extension type of Arrow", path)),
        DataType::Struct(fields) => {
            fields.iter().try_for_each(|inner| common(inner, &format!("{path}.{}", inner.name())))
        }
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            common(item, &format!("{path}.element"))
        }
        DataType::Map(entries, _) => common(entries, path),
        DataType::Dictionary(_, values) => common(&Field::new("x", values.as_ref().clone(), true), path),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time64(TimeUnit::Microsecond)
        | DataType::Timestamp(..) => Ok(()),
        other => Err(misfit("a column has a type that some readers of Iceberg do not read", path).with("type", other)),
    }
}

fn has_ids(field: &Field) -> bool {
    let within = match field.data_type() {
        DataType::Struct(fields) => fields.iter().any(|field| has_ids(field)),
        DataType::List(item) | DataType::LargeList(item) | DataType::Map(item, _) => has_ids(item),
        _ => false,
    };
    within || field.metadata().contains_key(PARQUET_FIELD_ID_META_KEY)
}

/// The metrics of columns that are a single value in each row. Bounds are left out where the file encodes them in
/// another way than Iceberg.
fn metrics(
    footer: &ParquetMetaData,
    stored: &SchemaRef,
    names: &Names,
    wanted: &[NestedFieldRef],
) -> Vec<ColumnMetrics> {
    let leaves = footer.file_metadata().schema_descr().columns();
    let metrics = ColumnMetrics::of(footer).into_iter().zip(leaves).enumerate();
    metrics
        .filter_map(|(leaf, (metrics, column))| {
            if metrics.repeated {
                return None;
            }
            let (field, of) = names.leaf(column.path().parts(), wanted)?;
            let mut chunks = footer.row_groups().iter().filter_map(|group| group.column(leaf).statistics());
            let ordered = chunks.all(|chunk| is_ordered(chunk, column));
            let exact = ordered && is_exact(stored_type(stored, column.path().parts())?, column, of);
            let (min, max) = if exact { (metrics.min, metrics.max) } else { (None, None) };
            Some(ColumnMetrics { field_id: Some(field), min, max, ..metrics })
        })
        .collect()
}

fn stored_type<'s>(stored: &'s SchemaRef, path: &[String]) -> Option<&'s DataType> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(stored.field_with_name(first).ok()?.data_type(), |of, name| match of {
        DataType::Struct(fields) => Some(fields.find(name)?.1.data_type()),
        _ => None,
    })
}

/// Whether bounds follow the order of the type: those in the old fields of statistics compare bytes with signs.
fn is_ordered(statistics: &Statistics, column: &ColumnDescriptor) -> bool {
    let bytes = matches!(column.physical_type(), Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY);
    !(bytes && statistics.is_min_max_deprecated())
}

/// Whether a file has values of a column as Iceberg writes them.
fn is_exact(stored: &DataType, column: &ColumnDescriptor, wanted: &PrimitiveType) -> bool {
    if primitive(stored).as_ref() != Some(wanted) {
        return false;
    }
    match (wanted, stored) {
        // Other writers may keep small decimals as bytes.
        (PrimitiveType::Decimal { precision, .. }, _) => {
            let usual = match precision {
                0..=9 => Physical::INT32,
                10..=18 => Physical::INT64,
                _ => Physical::FIXED_LEN_BYTE_ARRAY,
            };
            column.physical_type() == usual
        }
        (PrimitiveType::Timestamp | PrimitiveType::Timestamptz, stored) => {
            matches!(stored, DataType::Timestamp(TimeUnit::Microsecond, _))
        }
        _ => true,
    }
}

/// The type of Iceberg that stores values of a type, if it is a primitive one.
fn primitive(of: &DataType) -> Option<PrimitiveType> {
    let schema = arrow::datatypes::Schema::new(vec![Field::new("x", of.clone(), true)]);
    match arrow_type_to_type(storable(&schema).ok()?.field(0).data_type()).ok()? {
        Type::Primitive(of) => Some(of),
        _ => None,
    }
}

// --- names ---------------------------------------------------------------------------------------------------------

/// The names that columns have in files, and the fields within, in the order of the schema.
#[derive(Debug, Default)]
struct Names(Vec<(BTreeSet<String>, Names)>);

impl Names {
    fn of(fields: &[NestedFieldRef]) -> Self {
        Self(
            fields
                .iter()
                .map(|field| (BTreeSet::from([field.name.clone()]), Self::within(&field.field_type)))
                .collect(),
        )
    }

    fn within(of: &Type) -> Self {
        match of {
            Type::Primitive(_) => Self::default(),
            Type::Struct(fields) => Self::of(fields.fields()),
            Type::List(list) => Self::of(&[Arc::clone(&list.element_field)]),
            Type::Map(map) => Self::of(&[Arc::clone(&map.key_field), Arc::clone(&map.value_field)]),
        }
    }

    /// Notes the names of a file's fields, each of which fits the table's.
    fn find<'f>(
        &mut self,
        stored: impl Iterator<Item = &'f Field>,
        wanted: &[NestedFieldRef],
        above: &str,
    ) -> Result<()> {
        let mut seen = BTreeSet::new();
        for field in stored {
            let same = |wanted: &NestedFieldRef| wanted.name.to_lowercase() == field.name().to_lowercase();
            let Some(place) = wanted.iter().position(same) else {
                // PyIceberg wants to know all columns.
                return Err(misfit(
                    "the file has a column that the table does not have",
                    &format!("{above}{}", field.name()),
                )
                .hint("add it to the table, by crawling it for example, or rewrite the file without it"));
            };
            let path = format!("{above}{}", wanted[place].name);
            if !seen.insert(place) {
                return Err(misfit("it has two columns whose names differ in case only", &path));
            }
            let (names, within) = &mut self.0[place];
            names.insert(field.name().clone());
            within.fit(field.data_type(), &wanted[place].field_type, &path)?;
        }
        Ok(())
    }

    /// Checks that a stored type is read as the wanted one.
    fn fit(&mut self, stored: &DataType, wanted: &Type, path: &str) -> Result<()> {
        let below = format!("{path}.");
        match (stored, wanted) {
            (DataType::Struct(fields), Type::Struct(wanted)) => {
                self.find(fields.iter().map(AsRef::as_ref), wanted.fields(), &below)
            }
            (DataType::List(item) | DataType::LargeList(item), Type::List(list)) => {
                self.0[0].1.fit(item.data_type(), &list.element_field.field_type, &format!("{path}.element"))
            }
            (DataType::Map(entries, _), Type::Map(map)) => {
                let DataType::Struct(pair) = entries.data_type() else { return Err(misfit("it is no map", path)) };
                for (n, (stored, wanted)) in pair.iter().zip([&map.key_field, &map.value_field]).enumerate() {
                    self.0[n].1.fit(stored.data_type(), &wanted.field_type, &format!("{path}.{}", wanted.name))?;
                }
                Ok(())
            }
            (stored, Type::Primitive(of)) => match primitive(stored) {
                Some(found) if wider(&found, of) == *of => Ok(()),
                _ => Err(unlike(stored, wanted, path)),
            },
            _ => Err(unlike(stored, wanted, path)),
        }
    }

    /// The id and the type of a leaf column of a file.
    fn leaf<'w>(&self, path: &[String], wanted: &'w [NestedFieldRef]) -> Option<(i32, &'w PrimitiveType)> {
        let (first, rest) = path.split_first()?;
        let place = self.0.iter().position(|(names, _)| names.contains(first))?;
        match wanted[place].field_type.as_ref() {
            Type::Primitive(of) if rest.is_empty() => Some((wanted[place].id, of)),
            Type::Struct(fields) => self.0[place].1.leaf(rest, fields.fields()),
            _ => None,
        }
    }

    /// Adds the names of another file.
    fn add(&mut self, other: Self) {
        for ((names, within), (more, deeper)) in self.0.iter_mut().zip(other.0) {
            names.extend(more);
            within.add(deeper);
        }
    }

    fn mapped(self, schema: &iceberg::spec::Schema) -> Vec<MappedField> {
        self.mapped_fields(schema.as_struct().fields())
    }

    fn mapped_fields(self, fields: &[NestedFieldRef]) -> Vec<MappedField> {
        let mapped = |((names, within), field): ((BTreeSet<String>, Self), &NestedFieldRef)| {
            MappedField::new(Some(field.id), names.into_iter().collect(), within.mapped_within(field))
        };
        self.0.into_iter().zip(fields).map(mapped).collect()
    }

    fn mapped_within(self, field: &NestedField) -> Vec<MappedField> {
        match field.field_type.as_ref() {
            Type::Primitive(_) => Vec::new(),
            Type::Struct(fields) => self.mapped_fields(fields.fields()),
            Type::List(list) => self.mapped_fields(&[Arc::clone(&list.element_field)]),
            Type::Map(map) => self.mapped_fields(&[Arc::clone(&map.key_field), Arc::clone(&map.value_field)]),
        }
    }
}

fn unlike(stored: &DataType, wanted: &Type, path: &str) -> Error {
    misfit("a column is stored in a type that readers of Iceberg do not take for the table's", path)
        .with("stored as", stored)
        .with("type", wanted)
}
