//! Tables that are, or are created as, Apache Iceberg tables.

use arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use hardtack_catalog::{CatalogOf, TableDescription, schema_from_catalog};
use hardtack_core::{Environment, Error, ErrorKind, LoadContext, Result, Source};
use hardtack_iceberg::{IcebergTable, NewIcebergTable, PartitionField, Touched, described};

use crate::Table;
use crate::column::TableBookmark;
use crate::evolution::fold_names;
use crate::sink::is_there;

/// What a table is if it is an Iceberg table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Iceberg {
    /// Whether it is created as one.
    create: bool,
    /// By what it is partitioned then; if by nothing, by the partition keys.
    partition_by: Vec<PartitionField>,
    /// The partitions that are read and replaced, if not all.
    pub(crate) only: Option<Touched>,
}

/// A table that is an Iceberg table.
pub(crate) struct AsIceberg {
    pub(crate) table: IcebergTable,
    /// Those that it has or is created with, if they are known.
    columns: Option<SchemaRef>,
}

impl AsIceberg {
    /// The rows under the names of the table's columns.
    pub(crate) fn folded(&self, rows: DataFrame) -> Result<DataFrame> {
        match &self.columns {
            Some(columns) => fold_names(rows, columns),
            None => Ok(rows),
        }
    }
}

/// As an Apache Iceberg table. One that is there is read and saved to as what it is: see [`IcebergTable`].
impl Table {
    /// Creates the table as an Iceberg table, if it is not in the catalog. Its partition keys are identity partitions.
    #[must_use]
    pub fn iceberg(mut self) -> Self {
        self.iceberg.create = true;
        self
    }

    /// If it is created as an Iceberg table, partitions it by these fields, and not by its partition keys.
    ///
    /// ```
    /// use hardtack_iceberg::PartitionField;
    /// use hardtack_tables::Table;
    ///
    /// let customers = Table::named("shop", "customers").iceberg().with_iceberg_partitions([PartitionField::bucket(16, "id")]);
    /// assert_ne!(customers, Table::named("shop", "customers"));
    /// ```
    #[must_use]
    pub fn with_iceberg_partitions(mut self, fields: impl IntoIterator<Item = PartitionField>) -> Self {
        self.iceberg.partition_by = fields.into_iter().collect();
        self
    }

    /// Reads and replaces only the partitions that these rows fall in, if this is an Iceberg table; see
    /// [`IcebergTable::touched`]. A table of files is read and replaced as a whole, and so is any in a context without a
    /// catalog.
    ///
    /// # Errors
    /// Those of [`IcebergTable::touched`], and of the catalog.
    pub async fn touched_by(mut self, env: &Environment, rows: &DataFrame) -> Result<Self> {
        if env.catalog_handle().is_err() {
            return Ok(self);
        }
        if let Some(there) = self.as_iceberg(env).await? {
            let rows = there.folded(rows.clone())?;
            self.iceberg.only = Some(there.table.touched(env, &rows).await?);
        }
        Ok(self)
    }

    /// Fails if the partitions of an Iceberg table were found to be touched, and it is a table of files now.
    pub(crate) fn check_kind(&self) -> Result<()> {
        match self.iceberg.only {
            None => Ok(()),
            Some(_) => Err(Error::conflict("the table was an Iceberg table when the run began, and is none any more")
                .with("table", self.qualified_name())
                .hint("run the job again")),
        }
    }

    /// The Iceberg table that this is, or that is created; none if it is a table of files.
    pub(crate) async fn as_iceberg(&self, env: &Environment) -> Result<Option<AsIceberg>> {
        let catalog = env.catalog().await?;
        match catalog.get_table(self.database(), self.table()).await {
            Ok(there) if there.is_iceberg() => {
                // Not every catalog has its columns and its location.
                let there = described(env, catalog, there).await?;
                let said = self.writing.create.as_ref().and_then(|new| new.location().ok());
                if let (Some(base), Some(said)) = (&there.storage.location, said) {
                    is_there(&there, base, &said.absolute()?)?;
                }
                let columns = Some(schema_from_catalog(&there)?);
                Ok(Some(AsIceberg { table: self.named_iceberg()?, columns }))
            }
            Ok(_) if self.iceberg.create => {
                Err(Error::usage("the catalog has this table as one of files, and not of Iceberg")
                    .with("table", self.qualified_name())
                    .hint("save to another table, or leave out `--target-format iceberg` to save to this one as it is"))
            }
            Err(e) if e.kind() == ErrorKind::NotFound && self.iceberg.create => {
                let table = self.named_iceberg()?;
                Ok(Some(match &self.writing.create {
                    Some(new) => AsIceberg {
                        table: table.create_if_missing(self.new_iceberg(new)?),
                        columns: Some(schema_from_catalog(new)?),
                    },
                    None => AsIceberg { table, columns: None },
                }))
            }
            Ok(_) => Ok(None),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The rows of an Iceberg table, if they are not all, or by a bookmark of files: these are rows of new snapshots then.
    pub(crate) async fn iceberg_rows(&self, ctx: &LoadContext) -> Result<Option<DataFrame>> {
        let by_files = self.bookmark.as_ref().is_some_and(TableBookmark::is_by_files);
        if !by_files && self.iceberg.only.is_none() {
            return Ok(None);
        }
        if self.bookmark.is_some() && self.iceberg.only.is_some() {
            return Err(Error::usage("what is touched is read as it is, without a bookmark")
                .with("table", self.qualified_name())
                .hint("leave out `.touched_by(...)` or the bookmark"));
        }
        let catalog = ctx.catalog().await?;
        match catalog.get_table(self.database(), self.table()).await {
            Ok(table) if table.is_iceberg() => {}
            // The usual way has the error.
            _ => return Ok(None),
        }
        let table = IcebergTable::named(self.database(), self.table());
        let table = match &self.iceberg.only {
            Some(touched) => table.only(touched.clone()),
            None => table.bookmarked(),
        };
        table.load(ctx).await.map(Some)
    }

    fn named_iceberg(&self) -> Result<IcebergTable> {
        let refuse = |what: &str| Err(Error::usage(what).with("table", self.qualified_name()));
        let files = &self.writing.files;
        if files.is_append_only() {
            return refuse("an Iceberg table cannot be protected (`append_only`): append to it");
        }
        if files.names_partitions() {
            return refuse(
                "partitions of an Iceberg table cannot be named to be replaced: `touched_by` finds those of rows",
            );
        }
        let table = IcebergTable::named(self.database(), self.table())
            .schema_evolution(self.writing.evolution)
            .written_as(files);
        let table = if files.is_merge() { table.merges() } else { table };
        Ok(match &self.iceberg.only {
            Some(touched) => table.only(touched.clone()),
            None => self.writing.mode.of_iceberg(table),
        })
    }

    fn new_iceberg(&self, description: &TableDescription) -> Result<NewIcebergTable> {
        let schema = match self.writing.files.declared_schema() {
            Some(schema) => schema.clone(),
            None => schema_from_catalog(description)?,
        };
        let keys = description.partition_keys.iter().map(|key| PartitionField::identity(&key.name));
        let fields: Vec<PartitionField> = match self.iceberg.partition_by.is_empty() {
            true => keys.collect(),
            false => self.iceberg.partition_by.clone(),
        };
        Ok(NewIcebergTable::at(description.location()?).with_schema(schema).partition_by(fields))
    }
}
