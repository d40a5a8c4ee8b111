//! Compaction: small files, and files of which rows were deleted, become files of the target size.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use hardtack_core::{Error, ErrorKind, JobContext, Location, Meter, Report, Result};
use hardtack_sinks::SortColumn;
use iceberg::spec::{
    DataContentType, DataFile, FormatVersion, MAIN_BRANCH, ManifestFile, SchemaRef, SnapshotRef, Struct,
};
use uuid::Uuid;

use super::IcebergMaintenance;
use super::refs::head;
use crate::IcebergTable;
use crate::catalog::{Attempts, Change, Loaded};
use crate::error::failed;
use crate::scan::IcebergScan;
use crate::sink::{MODE, Saving, engine, target_file_bytes};
use crate::snapshot::{Draft, Live, Mode, Rewritten, is_ancestor, live, manifests_of};
use crate::version::refs;

/// How compaction decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactOptions {
    /// The branch whose files are rewritten; `main` by default.
    pub branch: Option<String>,
    /// Rewrites the small files of a partition if there are at least so many (5 by default). Files of which rows were
    /// deleted, and those of earlier partition specs, are rewritten in any case.
    pub min_input_files: usize,
    /// Rewrites all files.
    pub all: bool,
    /// Sorts the rows within each file by these columns instead of by the table's sort order.
    pub sort_by: Option<Vec<SortColumn>>,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { branch: None, min_input_files: 5, all: false, sort_by: None }
    }
}

/// What a compaction has done, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Compacted {
    /// The snapshot that it has committed; `None` if there was nothing to do, or in a dry run.
    pub snapshot: Option<i64>,
    /// The data files that were rewritten.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// The files of deletes that were applied, or applied to nothing.
    pub delete_files: usize,
    /// The files that were written; none in a dry run.
    pub new_files: usize,
    /// Their size in bytes.
    pub new_bytes: u64,
}

impl IcebergMaintenance {
    /// Rewrites small data files of each partition, below 75 % of the table's target size
    /// (`write.target-file-size-bytes`), files of which rows were deleted, and files of earlier partition specs. Rows stay
    /// as they are. Readers see the old files or the new ones, and rows that others add meanwhile stay.
    ///
    /// Files of deletes go with the rows that they delete. Files of an earlier spec stay while a run that replaces its
    /// partitions waits to be published.
    ///
    /// # Errors
    /// [`Usage`](ErrorKind::Usage) if there is no such branch or column, and for tables of format version 3, whose rows have
    /// ids that would be lost. [`Conflict`](ErrorKind::Conflict) if others replace or delete rows of these files meanwhile;
    /// the table is then as they have left it, and what was written is removed. Those of reading and writing.
    pub async fn compact(&self, ctx: &JobContext, options: &CompactOptions) -> Result<Compacted> {
        let table = self.load().await?;
        let named = |e: Error| if e.get("table").is_none() { e.with("table", table.qualified_name()) } else { e };
        if table.metadata().format_version() == FormatVersion::V3 {
            return Err(named(Error::usage(
                "tables of format version 3 cannot be compacted: their rows have ids, which would be lost",
            ))
            .hint("`rewrite_data_files` of Spark keeps them"));
        }
        let branch = options.branch.as_deref().unwrap_or(MAIN_BRANCH);
        let Some(base) = head(&table, branch)? else { return Ok(Compacted::default()) };
        let rewrite = Rewrite::plan(table.clone(), branch, base, options).await.map_err(named)?;
        let mut done = rewrite.planned();
        if rewrite.files.is_empty() || self.dry_run {
            return Ok(done);
        }
        let folder = table.location().join("data").join(format!("compacted-{}", Uuid::new_v4().simple()));
        let written = match rewrite.write(ctx, options, folder.clone()).await {
            Ok(written) => written,
            Err(e) => {
                abandon(&table, &folder).await;
                return Err(named(e));
            }
        };
        done.new_files = usize::try_from(written.0.files).unwrap_or(usize::MAX);
        done.new_bytes = written.0.bytes;
        let properties = HashMap::from(engine());
        let mut draft = Draft::rewriting(&table, rewrite.rewritten(), written.1, properties);
        match self.commit_rewrite(&rewrite, &mut draft).await {
            Ok(()) => done.snapshot = Some(draft.id),
            Err(e) => {
                // After any other error the commit may have happened.
                if e.kind() == ErrorKind::Conflict {
                    abandon(&table, &folder).await;
                    if let Err(e) = draft.discard(&table).await {
                        tracing::warn!(error = %e, "manifests that are not needed stay");
                    }
                }
                return Err(named(e));
            }
        }
        Ok(done)
    }

    async fn commit_rewrite(&self, rewrite: &Rewrite, draft: &mut Draft) -> Result<()> {
        let mut attempts = Attempts::new(self.catalog.as_ref(), rewrite.table.clone());
        loop {
            let table = attempts.table();
            let head = head(table, &rewrite.branch)?;
            let head = head.ok_or_else(|| rewrite.conflict("the branch was dropped while it was compacted"))?;
            rewrite.check(table, &head).await?;
            let snapshot = draft.produce(table, Some(&head), self.now.timestamp_millis()).await?;
            let change = Change::on_branch(table, &rewrite.branch, &head, snapshot)?;
            if attempts.commit(change).await?.is_some() {
                return Ok(());
            }
        }
    }
}

/// Removes what was written for nothing. What stays is an orphan.
async fn abandon(table: &Loaded, folder: &Location) {
    if let Err(e) = table.file_io().delete_prefix(folder.as_str()).await.map_err(failed) {
        tracing::warn!(error = %e, folder = %folder, "files that are not needed stay; `hardtack iceberg remove-orphans` removes them");
    }
}

/// A rewrite of files of a snapshot.
struct Rewrite {
    table: Loaded,
    branch: String,
    base: SnapshotRef,
    schema: SchemaRef,
    /// The data files to be rewritten.
    files: Vec<Live>,
    /// Those of them that have deletes.
    with_deletes: HashSet<String>,
    /// All files of deletes.
    deletes: HashSet<String>,
    /// Whether each of them applies to files that are rewritten, or to none.
    all_applied: bool,
}

impl Rewrite {
    async fn plan(table: Loaded, branch: &str, base: SnapshotRef, options: &CompactOptions) -> Result<Self> {
        let schema = Arc::clone(table.metadata().current_schema());
        let spec_id = table.metadata().default_partition_spec_id();
        let target = target_file_bytes(table.metadata())?;
        let small = target - target / 4;
        let scan =
            IcebergScan::new(table.clone(), Some(Arc::clone(&base)), Arc::clone(&schema), Arc::<Meter>::default())?;
        let all = live(&table, &base, &schema).await?;
        let (data, deletes): (Vec<Live>, Vec<Live>) =
            all.into_iter().partition(|file| file.data.content_type() == DataContentType::Data);
        let with_deletes = if deletes.is_empty() { HashSet::new() } else { scan.with_deletes().await? };
        let deletes: HashSet<String> = deletes.iter().map(|file| file.data.file_path().to_owned()).collect();
        let held = held_specs(&table, branch).await?;
        let deleted = |file: &Live| with_deletes.contains(file.data.file_path());
        let (mut files, mut partitions) = (Vec::new(), HashMap::<Struct, Vec<Live>>::new());
        for file in data {
            // Only what moves to another spec is held; rows that were deleted stay deleted.
            let is_old = file.spec_id != spec_id;
            if is_old && held.contains(&file.spec_id) {
                continue;
            }
            if options.all || is_old {
                files.push(file);
            } else if deleted(&file) || file.data.file_size_in_bytes() < small {
                partitions.entry(file.data.partition().clone()).or_default().push(file);
            }
        }
        for found in partitions.into_values() {
            let bytes: u64 = found.iter().map(|file| file.data.file_size_in_bytes()).sum();
            let fewer = bytes.div_ceil(target.max(1)) < found.len() as u64;
            if (found.len() >= options.min_input_files && fewer) || found.iter().any(deleted) {
                files.extend(found);
            }
        }
        files.sort_by(|a, b| a.data.file_path().cmp(b.data.file_path()));
        let chosen: HashSet<&str> = files.iter().map(|file| file.data.file_path()).collect();
        let all_applied = with_deletes.iter().all(|file| chosen.contains(file.as_str()));
        Ok(Self { table, branch: branch.to_owned(), base, schema, files, with_deletes, deletes, all_applied })
    }

    fn planned(&self) -> Compacted {
        Compacted {
            files: self.files.len(),
            bytes: self.files.iter().map(|file| file.data.file_size_in_bytes()).sum(),
            delete_files: if self.files.is_empty() { 0 } else { self.dropped().count() },
            ..Compacted::default()
        }
    }

    fn paths(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|file| file.data.file_path())
    }

    /// The files of deletes that are not needed any more. (Which those are is only known if all are applied.)
    fn dropped(&self) -> impl Iterator<Item = &str> {
        self.deletes.iter().filter(|_| self.all_applied).map(String::as_str)
    }

    fn rewritten(&self) -> Rewritten {
        let files = self.paths().chain(self.dropped()).map(str::to_owned).collect();
        Rewritten { files, sequence: self.base.sequence_number(), same_rows: true }
    }

    /// Writes the rows of the files to new ones.
    async fn write(
        &self,
        ctx: &JobContext,
        options: &CompactOptions,
        folder: Location,
    ) -> Result<(Report, Vec<DataFile>)> {
        let files = self.paths().map(|path| (path.to_owned(), None)).collect();
        let (base, schema) = (Some(Arc::clone(&self.base)), Arc::clone(&self.schema));
        let scan = IcebergScan::new(self.table.clone(), base, schema, Arc::<Meter>::default())?.only(files);
        let rows = ctx.session().read_table(Arc::new(scan))?;
        let mut table = IcebergTable::named(self.table.database(), self.table.name());
        if let Some(columns) = &options.sort_by {
            table = table.sorted_by(columns.clone());
        }
        let staging = ctx.staging(table.qualified_name());
        let (loaded, schema) = (self.table.clone(), Arc::clone(&self.schema));
        let saving = Saving { table: &table, loaded, schema, ctx: &staging };
        let (report, added) = saving.write(folder, rows).await?;
        let before: u64 = self.files.iter().map(|file| file.data.record_count()).sum();
        let after = report.rows;
        let any_deleted = self.paths().any(|file| self.with_deletes.contains(file));
        if after > before || (after < before && !any_deleted) {
            return Err(Error::unexpected("the files have not as many rows as the table's metadata says")
                .with("rows", after)
                .with("rows by the metadata", before));
        }
        Ok((report, added))
    }

    fn conflict(&self, why: &str) -> Error {
        Error::conflict(why)
            .with("table", self.table.qualified_name())
            .with("branch", &self.branch)
            .hint("nothing was changed; compact it again")
    }

    /// Fails if the rewrite would not leave the rows of this head as they are.
    async fn check(&self, table: &Loaded, head: &SnapshotRef) -> Result<()> {
        if table.metadata().current_schema_id() != self.table.metadata().current_schema_id() {
            return Err(self.conflict("others have changed the table's columns while it was compacted"));
        }
        // A run may have staged what replaces partitions, since this was planned.
        let held = held_specs(table, &self.branch).await?;
        let spec = self.table.metadata().default_partition_spec_id();
        if self.files.iter().any(|file| file.spec_id != spec && held.contains(&file.spec_id)) {
            return Err(
                self.conflict("a run has staged rows for partitions of an earlier spec while they were compacted")
            );
        }
        if head.snapshot_id() == self.base.snapshot_id() {
            return Ok(());
        }
        if !is_ancestor(table, self.base.snapshot_id(), head.snapshot_id()) {
            return Err(self.conflict("the branch was moved back while it was compacted"));
        }
        let (mut there, mut deletes) = (HashSet::new(), Vec::new());
        for file in live(table, head, &self.schema).await? {
            match file.data.content_type() {
                DataContentType::Data => _ = there.insert(file.data.file_path().to_owned()),
                _ => deletes.push(file),
            }
        }
        if let Some(gone) = self.paths().find(|file| !there.contains(*file)) {
            return Err(self
                .conflict("others have replaced a file while it was compacted")
                .with("file", Location::from(gone)));
        }
        match deletes.iter().find(|file| self.is_affected(file)) {
            Some(file) => Err(self
                .conflict("others have deleted rows of files while they were compacted")
                .with("deletes", Location::from(file.data.file_path()))),
            None => Ok(()),
        }
    }

    /// Whether a file of deletes may not apply to the new files as it does to the old ones.
    fn is_affected(&self, deletes: &Live) -> bool {
        if self.deletes.contains(deletes.data.file_path()) {
            return false;
        }
        let is_old = |file: &Live| file.spec_id != self.table.metadata().default_partition_spec_id();
        match deletes.data.content_type() {
            // They compare values. The new files are of the sequence number that was read, so later deletes apply to them;
            // but those of a partition only if the rows have stayed in it.
            DataContentType::EqualityDeletes => {
                !deletes.data.partition().fields().is_empty() && self.files.iter().any(is_old)
            }
            // They name files.
            _ => match deletes.data.referenced_data_file() {
                Some(named) => self.paths().any(|file| file == named),
                None => {
                    let same = |file: &Live| {
                        file.spec_id == deletes.spec_id && file.data.partition() == deletes.data.partition()
                    };
                    self.files.iter().any(same)
                }
            },
        }
    }
}

/// The specs of files that runs have staged to replace partitions: what is in the same partitions must be found there when
/// they are published.
async fn held_specs(table: &Loaded, branch: &str) -> Result<HashSet<i32>> {
    let metadata = table.metadata();
    let mut held = HashSet::new();
    for other in refs(table)?.into_iter().filter(|r| r.name != branch && r.reference.is_branch()) {
        let Some(head) = metadata.snapshot_by_id(other.reference.snapshot_id) else { continue };
        let mode = head.summary().additional_properties.get(MODE).and_then(|mode| Mode::parse(mode));
        if matches!(mode, Some(Mode::OverwritePartitions | Mode::OverwriteTouched)) {
            let list = manifests_of(table, head).await?.into_iter();
            let is_existing =
                |file: &ManifestFile| file.added_files_count == Some(0) && file.deleted_files_count == Some(0);
            let added = list.filter(|file| file.added_snapshot_id == head.snapshot_id() && !is_existing(file));
            held.extend(added.map(|file| file.partition_spec_id));
        }
    }
    Ok(held)
}
