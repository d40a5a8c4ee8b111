//! What a crawl has found and done.

use hardtack_catalog::Column;
use hardtack_core::Location;

/// What a [`crawl`](crate::crawl) has found, and what it has changed, or would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawlReport {
    /// The tables whose files were found, and those of which none were, by their folders.
    pub tables: Vec<CrawledTable>,
    /// What is not in the catalog as it was found, and why.
    pub problems: Vec<CrawlProblem>,
}

impl CrawlReport {
    /// Whether the catalog is as it was.
    pub fn is_unchanged(&self) -> bool {
        self.tables.iter().all(|table| table.outcome == CrawlOutcome::Unchanged)
    }
}

/// What has become of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrawlOutcome {
    /// It is new.
    Created,
    /// It, or one of its partitions, has changed.
    Updated,
    /// All was as it is.
    Unchanged,
}

/// A table that a crawl has looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawledTable {
    /// `database.table`.
    pub name: String,
    /// Its folder.
    pub location: Location,
    /// How its files are written: `parquet`, `json`, `csv`, `avro`.
    pub format: String,
    /// What has become of it.
    pub outcome: CrawlOutcome,
    /// Columns that it did not have before. A new table has all of its columns here, but for the partition keys.
    pub columns_added: Vec<Column>,
    /// Columns that have another type now.
    pub columns_retyped: Vec<RetypedColumn>,
    /// Whether `recordCount`, `totalSize` and the like are others now.
    pub statistics: bool,
    /// Its partition keys.
    pub partition_keys: Vec<Column>,
    /// What has become of its partitions.
    pub partitions: CrawledPartitions,
    /// What others may stumble over.
    pub notes: Vec<String>,
}

/// A column with another type than before: a wider one, or the one that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetypedColumn {
    /// Its name.
    pub name: String,
    /// Its type before.
    pub from: String,
    /// Its type now.
    pub to: String,
}

/// What has become of the partitions of a table: their names (`year=2026/month=7`), sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrawledPartitions {
    /// They are new.
    pub added: Vec<String>,
    /// They have other columns, statistics, or another location.
    pub updated: Vec<String>,
    /// Of their files none is left; they are still in the catalog.
    pub missing: Vec<String>,
    /// Of their files none was left, so they are in the catalog no more.
    pub dropped: Vec<String>,
    /// How many are as they were.
    pub unchanged: usize,
}

/// Something that is not in the catalog as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrawlProblem {
    /// The folder.
    pub location: Location,
    /// The table, if it is known which one.
    pub table: Option<String>,
    /// What is wrong, and the way out.
    pub message: String,
}
