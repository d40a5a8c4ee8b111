//! Partitions in which something changes: a merge reads and replaces no others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema};
use datafusion::logical_expr::Expr;
use datafusion::prelude::DataFrame;
use hardtack_core::{Environment, Error, Meter, Result};
use hardtack_transforms::coerce_to_schema;
use iceberg::spec::{MAIN_BRANCH, SchemaRef, SnapshotRef, Struct};
use uuid::Uuid;

use crate::IcebergTable;
use crate::catalog::Loaded;
use crate::partition::Keys;
use crate::scan::IcebergScan;
use crate::schema::arrow_schema;
use crate::sink::{catalog_of, new_table};
use crate::snapshot::{Mode, live, partition_as};

/// The partitions of a table that some rows fall in, as of a snapshot; see [`IcebergTable::touched`].
#[derive(Debug, Clone, PartialEq)]
pub struct Touched {
    /// The table's id; none if it was not there.
    pub(crate) table: Option<Uuid>,
    /// What `main` had.
    pub(crate) base: Option<i64>,
    pub(crate) partitions: Replaced,
}

/// Partitions that a snapshot replaces.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Replaced {
    /// Each with the id of its spec.
    pub(crate) partitions: HashSet<(i32, Struct)>,
    /// Those of all specs but this one: which of its partitions their rows fall in is not known.
    pub(crate) all_but: Option<i32>,
}

impl Replaced {
    /// With values of the types that columns have in this schema: they may have become wider.
    pub(crate) fn typed(&self, table: &Loaded, schema: &SchemaRef) -> Result<Self> {
        let one = |(id, values): &(i32, Struct)| Ok((*id, partition_as(table, *id, values, schema)?));
        Ok(Self { partitions: self.partitions.iter().map(one).collect::<Result<_>>()?, all_but: self.all_but })
    }

    pub(crate) fn has(&self, spec: i32, partition: &Struct) -> bool {
        self.all_but.is_some_and(|known| known != spec) || self.partitions.contains(&(spec, partition.clone()))
    }
}

/// Merging.
impl IcebergTable {
    /// The partitions that these rows fall in. With [`only`](Self::only), a merge reads and replaces those, and leaves the
    /// others as they are (copy on write):
    ///
    /// ```no_run
    /// # use datafusion::prelude::DataFrame;
    /// # use hardtack_core::{Context, Result};
    /// # use hardtack_iceberg::IcebergTable;
    /// # fn merge(current: DataFrame, changes: DataFrame) -> Result<DataFrame> { Ok(changes) }
    /// # async fn job(ctx: &Context<()>, changes: DataFrame) -> Result<()> {
    /// let changes = ctx.persist(changes).await?;
    /// let ids = changes.clone().select_columns(&["id"])?;
    /// let customers = IcebergTable::named("shop", "customers");
    /// let customers = customers.clone().only(customers.touched(ctx.environment(), &ids).await?);
    /// let current = ctx.load(customers.clone()).await?;
    /// ctx.save(customers, merge(current, changes)?).await
    /// # }
    /// ```
    ///
    /// The rows are computed for it, so they should be [persisted](hardtack_core::Context::persist). They should have the
    /// key of the merge and no other column: a row of that key can then only be in the partitions that are found. If the
    /// table is partitioned by anything else, that is an error. Files that were written before the table was partitioned as
    /// it is now are touched in any case.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the rows lack such a column;
    /// [`NotFound`](hardtack_core::ErrorKind::NotFound) if the table is missing and not to be created.
    pub async fn touched(&self, env: &Environment, rows: &DataFrame) -> Result<Touched> {
        let catalog = catalog_of(env).await?;
        let there = catalog.find(self.database(), self.table()).await?;
        let metadata = match (&there, &self.create) {
            (Some(table), _) => table.metadata().clone(),
            (None, Some(new)) => new_table(self, new, rows.schema().as_arrow(), None)?.into(),
            (None, None) => catalog.load(self.database(), self.table()).await?.metadata().clone(),
        };
        let (spec, schema) = (metadata.default_partition_spec(), metadata.current_schema());
        let keys = Keys::of(spec, schema)?;
        let at = |e: Error| e.with("table", self.qualified_name());
        for source in keys.sources() {
            if rows.schema().field_with_unqualified_name(source).is_err() {
                return Err(at(Error::usage("the rows lack a column by which the table is partitioned")
                    .with("column", source)
                    .hint("partition the table by columns of the merge's key")));
            }
        }
        // As they are saved.
        let sources: HashSet<&str> = keys.sources().collect();
        let wanted = arrow_schema(schema)?;
        let wanted = wanted.fields().iter().filter(|field| sources.contains(field.name().as_str()));
        let wanted: Vec<_> = wanted.map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let rows = match wanted.is_empty() {
            true => rows.clone(),
            false => coerce_to_schema(rows.clone(), &Arc::new(Schema::new(wanted))).map_err(at)?,
        };
        let mut partitions = HashSet::new();
        if spec.is_unpartitioned() {
            if rows.limit(0, Some(1))?.count().await? > 0 {
                partitions.insert((spec.spec_id(), Struct::empty()));
            }
        } else {
            let found = rows.select(keys.columns().collect::<Vec<Expr>>())?.distinct()?.collect().await?;
            for batch in found {
                let columns = batch.columns().iter().map(|column| cast(column, &DataType::Utf8));
                let columns = columns.collect::<std::result::Result<Vec<_>, _>>()?;
                for row in 0..batch.num_rows() {
                    let values: Vec<Option<&str>> = columns.iter().map(|column| text(column, row)).collect();
                    partitions.insert((spec.spec_id(), keys.of_values(&values)?));
                }
            }
        }
        let table = there.as_ref().map(|table| table.metadata().uuid());
        let base = metadata.snapshot_for_ref(MAIN_BRANCH).map(|snapshot| snapshot.snapshot_id());
        Ok(Touched { table, base, partitions: Replaced { partitions, all_but: Some(spec.spec_id()) } })
    }

    /// Reads these partitions only, and as they were when they were determined; as a sink, replaces them by the rows that
    /// are saved, and leaves all others as they are.
    ///
    /// If others have changed these partitions by the time the run is decided, it fails with exit code 4: their rows are
    /// not among those that would replace them. What others change there after the decision, in an instant or while a run
    /// that was killed waits to be recovered, is replaced. Rows of other partitions must not be saved.
    #[must_use]
    pub fn only(mut self, partitions: Touched) -> Self {
        self.mode = Mode::OverwriteTouched;
        self.only = Some(partitions);
        self
    }
}

impl Touched {
    /// The rows of these partitions.
    pub(crate) async fn scan(&self, table: Loaded, meter: Arc<Meter>) -> Result<IcebergScan> {
        let (snapshot, files) = match self.base.filter(|_| self.table == Some(table.metadata().uuid())) {
            None => (None, HashMap::new()),
            Some(id) => {
                let snapshot = table.metadata().snapshot_by_id(id).cloned().ok_or_else(|| {
                    Error::conflict("the snapshot of which partitions were found to be touched has expired")
                        .with("table", table.qualified_name())
                        .with("snapshot", id)
                        .hint("run the job again")
                })?;
                let files = self.partitions.files(&table, &snapshot).await?;
                (Some(snapshot), files.into_keys().map(|path| (path, None)).collect())
            }
        };
        let schema = Arc::clone(table.metadata().current_schema());
        Ok(IcebergScan::new(table, snapshot, schema, meter)?.only(files))
    }

    /// Fails if others have changed these partitions since.
    ///
    /// # Errors
    /// Conflict.
    pub(crate) async fn check(&self, table: &Loaded) -> Result<()> {
        let metadata = table.metadata();
        let now = metadata.snapshot_for_ref(MAIN_BRANCH);
        if self.table.is_none_or(|id| id == metadata.uuid()) && self.partitions.are_same(table, self.base, now).await? {
            return Ok(());
        }
        Err(Error::conflict("others have changed partitions of the table that this run has read and replaces")
            .with("table", table.qualified_name())
            .hint("run the job again"))
    }
}

impl Replaced {
    /// Whether these partitions have the same files in a snapshot as in an earlier one, which may have expired.
    pub(crate) async fn are_same(&self, table: &Loaded, base: Option<i64>, now: Option<&SnapshotRef>) -> Result<bool> {
        if now.map(|snapshot| snapshot.snapshot_id()) == base {
            return Ok(true);
        }
        let before = match base.map(|id| table.metadata().snapshot_by_id(id)) {
            None => HashMap::new(),
            Some(None) => return Ok(false),
            Some(Some(snapshot)) => self.files(table, snapshot).await?,
        };
        let now = match now {
            None => HashMap::new(),
            Some(snapshot) => self.files(table, snapshot).await?,
        };
        Ok(before == now)
    }

    /// The paths of the live files of these partitions in a snapshot, those with deletes too, and their sizes.
    pub(crate) async fn files(&self, table: &Loaded, snapshot: &SnapshotRef) -> Result<HashMap<String, u64>> {
        let schema = table.metadata().current_schema();
        let these = self.typed(table, schema)?;
        let live = live(table, snapshot, schema).await?.into_iter();
        let of_these = live.filter(|file| these.has(file.spec_id, file.data.partition()));
        Ok(of_these.map(|file| (file.data.file_path().to_owned(), file.data.file_size_in_bytes())).collect())
    }
}

fn text(column: &ArrayRef, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.as_string::<i32>().value(row))
}
