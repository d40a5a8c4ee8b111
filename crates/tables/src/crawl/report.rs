//! The report of a crawl.

use hardtack_catalog::Column;
use hardtack_core::Location;

/// What a [`crawl`](crate::crawl) has found, and what it has changed or would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawlReport {
    /// The tables, with or without files, by their folders.
    pub tables: Vec<CrawledTable>,
    /// What could not be registered as it was found, and why.
    pub problems: Vec<CrawlProblem>,
}

impl CrawlReport {
    /// Whether the catalog is unchanged.
    pub fn is_unchanged(&self) -> bool {
        self.tables.iter().all(|table| table.outcome == CrawlOutcome::Unchanged)
    }
}

/// The outcome for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrawlOutcome {
    /// It is new.
    Created,
    /// It, or one of its partitions, has changed.
    Updated,
    /// Nothing has changed.
    Unchanged,
}

/// A table that a crawl has examined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawledTable {
    /// `database.table`.
    pub name: String,
    /// Its folder.
    pub location: Location,
    /// The format of its files: `parquet`, `json`, `csv`, `avro`.
    pub format: String,
    /// The outcome.
    pub outcome: CrawlOutcome,
    /// New columns. For a new table, all columns except the partition keys.
    pub columns_added: Vec<Column>,
    /// Columns whose type has changed.
    pub columns_retyped: Vec<RetypedColumn>,
    /// Whether `recordCount`, `totalSize` and the like have changed.
    pub statistics: bool,
    /// Its partition keys.
    pub partition_keys: Vec<Column>,
    /// The changes of its partitions.
    pub partitions: CrawledPartitions,
    /// Notes on decisions and possible surprises.
    pub notes: Vec<String>,
}

/// A column whose type has changed: to a wider one, or to the one that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetypedColumn {
    /// Its name.
    pub name: String,
    /// Its type before.
    pub from: String,
    /// Its type now.
    pub to: String,
}

/// The changes of a table's partitions, by name (`year=2026/month=7`), sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawledPartitions {
    /// New partitions.
    pub added: Vec<String>,
    /// Partitions with changed columns, statistics or location.
    pub updated: Vec<String>,
    /// Partitions without files that are still in the catalog.
    pub missing: Vec<String>,
    /// Partitions without files that were dropped from the catalog.
    pub dropped: Vec<String>,
    /// The number of unchanged partitions.
    pub unchanged: usize,
}

/// Something that could not be registered as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawlProblem {
    /// The folder.
    pub location: Location,
    /// The table, if known.
    pub table: Option<String>,
    /// What is wrong, with a hint.
    pub message: String,
}
