//! Iceberg tables as a job names them.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::SchemaRef;
use hardtack_catalog::SchemaEvolution;
use hardtack_core::{Location, NamedTable, ShowFields};
use hardtack_sinks::{Compression, ParquetDataset, SortColumn};

use crate::changes::Since;
use crate::snapshot::Mode;
use crate::version::Version;
use crate::{PartitionField, Touched};

/// An Iceberg table of the catalog, by name: a source and a sink.
///
/// ```
/// use hardtack_catalog::schema;
/// use hardtack_iceberg::{IcebergTable, NewIcebergTable, PartitionField};
///
/// let sales = IcebergTable::named("lake", "sales").overwrite_partitions().create_if_missing(
///     NewIcebergTable::at("s3://lake/sales")
///         .with_schema(schema! { id: bigint not null, sold_at: timestamp, amount: decimal(10, 2) })
///         .partition_by([PartitionField::day("sold_at")]),
/// );
/// assert_eq!(sales.qualified_name(), "lake.sales");
/// ```
///
/// # As a sink
/// A run writes data files and a snapshot that is the head of a branch of its own, `hardtack_<run>`, which no reader of
/// `main` sees. Once all audits have passed and the run is committed, `main` moves to that snapshot in one step, and the
/// branch is dropped. If others have committed meanwhile, the run's files are added to what is there then: the rows are not
/// written again, and not audited again.
///
/// | | what it does to earlier rows | and to those that others add meanwhile |
/// | --- | --- | --- |
/// | [`append`](Self::append) (the default) | nothing | nothing |
/// | [`overwrite_partitions`](Self::overwrite_partitions) | replaces those of partitions with new rows | the same: the last one wins |
/// | [`overwrite`](Self::overwrite) | replaces all | the same |
/// | [`only`](Self::only) | replaces those of given partitions, which a merge has read | fails if they are in these |
///
/// With [`strict`](Self::strict) a run fails instead, before anything is decided, if others have committed
/// (other than to compact the table).
///
/// # As a source
/// It reads the current snapshot, or [another version](Self::as_of); or [what is new](Self::bookmarked), or [has
/// changed](Self::with_changes), since a snapshot. Files that a filter excludes by their partition or the bounds of their
/// columns are not opened.
#[derive(Clone, PartialEq)]
pub struct IcebergTable {
    database: String,
    table: String,
    qualified: String,
    pub(crate) mode: Mode,
    pub(crate) merges: bool,
    pub(crate) strict: bool,
    pub(crate) evolution: SchemaEvolution,
    pub(crate) create: Option<NewIcebergTable>,
    /// What the author says about files; the rest is up to the table's properties.
    pub(crate) target_file_bytes: Option<u64>,
    pub(crate) compression: Option<Compression>,
    pub(crate) sorted_by: Option<Vec<SortColumn>>,
    pub(crate) version: Version,
    pub(crate) since: Since,
    pub(crate) changes: bool,
    pub(crate) only: Option<Touched>,
    pub(crate) layout: Option<ParquetDataset>,
}

impl IcebergTable {
    /// The table of this name.
    pub fn named(database: impl Into<String>, table: impl Into<String>) -> Self {
        let (database, table) = (database.into(), table.into());
        Self {
            qualified: format!("{database}.{table}"),
            database,
            table,
            mode: Mode::default(),
            merges: false,
            strict: false,
            evolution: SchemaEvolution::default(),
            create: None,
            target_file_bytes: None,
            compression: None,
            sorted_by: None,
            version: Version::default(),
            since: Since::default(),
            changes: false,
            only: None,
            layout: None,
        }
    }

    /// The name of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Its name.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// `database.table`, its name inside the job.
    pub fn qualified_name(&self) -> &str {
        &self.qualified
    }

    /// Adds the rows to the existing ones (the default).
    #[must_use]
    pub fn append(mut self) -> Self {
        self.mode = Mode::Append;
        self.only = None;
        self
    }

    /// Replaces all rows.
    #[must_use]
    pub fn overwrite(mut self) -> Self {
        self.mode = Mode::Overwrite;
        self.only = None;
        self
    }

    /// Replaces the partitions that have new rows, and leaves the others alone. A table without partition fields is
    /// replaced as a whole.
    #[must_use]
    pub fn overwrite_partitions(mut self) -> Self {
        self.mode = Mode::OverwritePartitions;
        self.only = None;
        self
    }

    /// Says that the rows that are saved include the earlier ones that are to stay, for example because they are merged
    /// with them. Only then may rows of a [bookmarked](hardtack_core::bookmarks) source replace what is there.
    #[must_use]
    pub fn merges(mut self) -> Self {
        self.merges = true;
        self
    }

    /// Fails the run with exit code 4, before it is decided, if the table has changed since the run began to write to it: for
    /// a merge, because rows that others have added meanwhile are not among those that replace them.
    ///
    /// A run that is decided is published in any case. What others commit after the decision, in an instant, or while a run
    /// that was killed there waits to be recovered, is treated as without this option.
    #[must_use]
    pub fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Chooses what happens when rows have columns that the table does not have ([`SchemaEvolution::Fail`] by default). The
    /// table changes when the run is published. Columns keep their ids, so older files are read right.
    #[must_use]
    pub fn schema_evolution(mut self, evolution: SchemaEvolution) -> Self {
        self.evolution = evolution;
        self
    }

    /// Creates the table (and its database) if it is not in the catalog. A run that fails drops it again, unless others use
    /// it by then.
    #[must_use]
    pub fn create_if_missing(mut self, table: NewIcebergTable) -> Self {
        self.create = Some(table);
        self
    }

    /// The size in bytes at which a file is closed and another begun: the table's property
    /// `write.target-file-size-bytes`, or 512 MiB, by default.
    #[must_use]
    pub fn with_target_file_bytes(mut self, bytes: u64) -> Self {
        self.target_file_bytes = Some(bytes);
        self
    }

    /// Chooses the compression: that of the table's property `write.parquet.compression-codec`, or zstd of level 3, by
    /// default.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Sorts the rows within each file by these columns instead of by the table's sort order: names, for ascending and
    /// nulls first, or [`SortColumn`]s.
    #[must_use]
    pub fn sorted_by<C: Into<SortColumn>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.sorted_by = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Lays files out as this dataset does. What the dataset leaves at its defaults is up to the table.
    #[must_use]
    pub fn written_as(mut self, files: &ParquetDataset) -> Self {
        self.layout = (!files.has_default_layout()).then(|| files.clone());
        self
    }

    pub(crate) fn named_table(&self) -> NamedTable {
        let created_at = self.create.as_ref().map(|table| table.location.clone());
        NamedTable { database: self.database.clone(), table: self.table.clone(), created_at }
    }

    /// The layout of its files.
    pub(crate) fn files(&self) -> ParquetDataset {
        ParquetDataset::new(&self.qualified, "")
    }
}

impl fmt::Debug for IcebergTable {
    /// Shows the options that differ from the defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Self::named(&self.database, &self.table);
        let mut shown = f.debug_struct("IcebergTable");
        shown.field("name", &self.qualified);
        if self.version != usual.version {
            shown.field("version", &self.version);
        }
        if self.since != usual.since {
            shown.field("since", &self.since);
        }
        if self.changes {
            shown.field("with_changes", &true);
        }
        if let Some(touched) = &self.only {
            shown.field("only", &format_args!("{} partitions", touched.partitions.partitions.len()));
        }
        if self.mode != usual.mode {
            shown.field("mode", &self.mode);
        }
        if self.merges {
            shown.field("merges", &true);
        }
        if self.strict {
            shown.field("strict", &true);
        }
        if self.evolution != usual.evolution {
            shown.field("schema_evolution", &self.evolution);
        }
        if let Some(table) = &self.create {
            shown.field("create_if_missing", table);
        }
        if let Some(bytes) = self.target_file_bytes {
            shown.field("target_file_bytes", &bytes);
        }
        if let Some(compression) = self.compression {
            shown.field("compression", &compression);
        }
        if let Some(columns) = &self.sorted_by {
            shown.field("sorted_by", columns);
        }
        shown.finish()
    }
}

/// An Iceberg table that a run creates if it is missing.
#[derive(Clone, PartialEq)]
pub struct NewIcebergTable {
    pub(crate) location: Location,
    pub(crate) schema: Option<SchemaRef>,
    pub(crate) partition_by: Vec<PartitionField>,
    pub(crate) sorted_by: Vec<SortColumn>,
    pub(crate) properties: BTreeMap<String, String>,
    pub(crate) format_version: u8,
}

impl NewIcebergTable {
    /// A table in this folder, of format version 2, with the columns of the rows that are saved first.
    pub fn at(location: impl Into<Location>) -> Self {
        Self {
            location: location.into(),
            schema: None,
            partition_by: Vec::new(),
            sorted_by: Vec::new(),
            properties: BTreeMap::new(),
            format_version: 2,
        }
    }

    /// Declares its columns.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<SchemaRef>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Partitions it by these fields.
    #[must_use]
    pub fn partition_by(mut self, fields: impl IntoIterator<Item = PartitionField>) -> Self {
        self.partition_by = fields.into_iter().collect();
        self
    }

    /// Gives it a sort order, by which rows are sorted within each file: names, for ascending and nulls first, or
    /// [`SortColumn`]s.
    #[must_use]
    pub fn sorted_by<C: Into<SortColumn>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.sorted_by = columns.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a [property](https://iceberg.apache.org/docs/latest/configuration/), for example
    /// `write.target-file-size-bytes`.
    #[must_use]
    pub fn with_property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Chooses the version of the table format: 2 (the default) or 3.
    #[must_use]
    pub fn with_format_version(mut self, version: u8) -> Self {
        self.format_version = version;
        self
    }
}

impl fmt::Debug for NewIcebergTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("NewIcebergTable");
        shown.field("location", &self.location.as_str());
        if let Some(schema) = &self.schema {
            shown.field("schema", &ShowFields(schema.fields()));
        }
        if !self.partition_by.is_empty() {
            let fields: Vec<String> = self.partition_by.iter().map(ToString::to_string).collect();
            shown.field("partition_by", &fields);
        }
        if !self.sorted_by.is_empty() {
            shown.field("sorted_by", &self.sorted_by);
        }
        if !self.properties.is_empty() {
            shown.field("properties", &self.properties);
        }
        if self.format_version != 2 {
            shown.field("format_version", &self.format_version);
        }
        shown.finish()
    }
}
