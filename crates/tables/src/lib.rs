//! Tables by name.
//!
//! A job uses `Table::named("lake", "books")`; the [catalog](hardtack_catalog) of the run knows where the files are and
//! how they are written.

mod check;
mod column;
mod crawl;
mod dataset;
mod evolution;
mod filters;
mod format;
#[cfg(feature = "iceberg")]
mod iceberg;
#[cfg(feature = "iceberg")]
mod migrate;
mod names;
mod opened;
mod place;
mod provider;
mod publisher;
mod purge;
mod selection;
mod sink;
mod source;
mod steps;
mod table;
mod time_travel;
mod versions;

pub use check::{TableProblem, TableProblemKind, check_tables};
pub use column::{ByColumn, LookBack, TableBookmark};
pub use crawl::{
    CrawlOptions, CrawlOutcome, CrawlProblem, CrawlReport, CrawledPartitions, CrawledTable, Nanoseconds, RetypedColumn,
    crawl,
};
pub use dataset::{Dataset, DatasetFiles};
pub use hardtack_catalog::SchemaEvolution;
pub use hardtack_sources::CsvHints;
#[cfg(feature = "iceberg")]
pub use migrate::{Migrated, migrate};
pub use names::register_names;
pub use place::base_of;
pub use provider::CatalogTable;
pub use publisher::register;
pub use purge::{Purged, purge};
pub use table::Table;
pub use time_travel::with_versions_as_names;
pub use versions::{VacuumOptions, Vacuumed, vacuum};
