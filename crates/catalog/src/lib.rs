//! The data catalog: tables by name, and the schemas that are contracts between jobs.
//!
//! A [`Catalog`] knows databases, their tables and the tables' partitions, in the terms of Hive and AWS Glue: a
//! [`TableDescription`] has columns with Hive types, partition keys, a location, a [format](TableFormat) and a version. A job
//! names a table (`lake.books`) and does not know which catalog it is in:
//!
//! | | `EmbeddedCatalog` | `GlueCatalog` |
//! | --- | --- | --- |
//! | chosen by | `embedded[:PATH]` | `glue[:CATALOG_ID]` |
//! | feature | `embedded` (default) | `aws` |
//! | is | one SQLite file | the AWS Glue Data Catalog: Athena, Spark, Redshift see the same tables |
//! | for | laptops, tests, one machine or a shared disk with locks | jobs in AWS |
//! | concurrent processes | one writes at a time, others wait | AWS serialises |
//! | a lost update of a table | is a [`Conflict`], always | is a [`Conflict`], always |
//! | a batch of partitions | is one transaction | is split by the limits of Glue's API |
//! | Iceberg tables | are also tables of PyIceberg's SQL catalog in the same file | are tables of every engine that finds Iceberg through Glue |
//! | a swap of two tables | is one transaction, of tables of any kind | is three updates, of Iceberg tables or unpartitioned tables of files |
//! | predicates on partitions | are evaluated while reading | are pushed down where Glue supports them, and evaluated again |
//!
//! Both pass the suite in `conformance` (the feature of the same name), and any other implementation has to. A third
//! one, `RestCatalog` (`rest:URL`, feature `rest`), is the client of an Iceberg REST catalog: it has Iceberg tables
//! only, whose server changes their metadata itself, and passes the part of the suite that is about them.
//!
//! Schemas are Arrow [`Schema`](arrow::datatypes::Schema)s. There are four ways to get one:
//!
//! * [`schema!`] declares it in the job, in the notation of the Glue catalog;
//! * [`schema_of`] builds it from names and types that are only known at run time;
//! * [`schema_from_cloudformation`] takes it from the template that creates the table, so that the two cannot drift
//!   apart;
//! * [`schema_from_catalog`] takes it from the table itself; [`columns_of`] is the reverse.
//!
//! All four are based on [`HiveType`], which parses and prints the types of the catalog and converts them to and from
//! Arrow.

// Without an implementation, the code that implementations share is unused.
#![cfg_attr(not(any(feature = "embedded", feature = "aws", feature = "rest")), allow(dead_code))]

mod address;
mod arrow_types;
mod catalog;
mod choice;
mod cloudformation;
mod conflict;
#[cfg(feature = "conformance")]
pub mod conformance;
mod context;
mod counting;
#[cfg(feature = "embedded")]
mod embedded;
mod evolution;
mod format;
#[cfg(feature = "aws")]
mod glue;
mod hive_type;
#[cfg(any(feature = "aws", feature = "rest"))]
mod http;
mod name;
mod parser;
mod predicate;
#[cfg(feature = "rest")]
mod rest;
mod schema;
#[cfg(any(feature = "aws", feature = "rest"))]
mod signing;
mod swap;
mod table;
pub mod types;
mod value;

pub use address::RestAddress;
pub use arrow_types::{COMMENT_KEY, HIVE_TYPE_KEY};
#[cfg(any(test, feature = "mock"))]
pub use catalog::MockCatalog;
pub use catalog::{Catalog, CatalogExt, IcebergServer, PartitionPages, ServedTable};
pub use choice::CatalogChoice;
pub use cloudformation::schema_from_cloudformation;
pub use conflict::Conflict;
pub use context::{CatalogHandle, CatalogOf};
pub use counting::{CountingCatalog, Requests};
#[cfg(feature = "embedded")]
pub use embedded::{EmbeddedCatalog, ICEBERG_CATALOG_NAME};
pub use evolution::SchemaEvolution;
pub use format::{CsvFormat, TableFormat};
#[cfg(feature = "aws")]
pub use glue::GlueCatalog;
#[doc(hidden)]
pub use hardtack_macros::check_schema;
pub use hive_type::{HiveField, HiveType};
pub use name::{DatabaseName, partition_name};
pub use predicate::{BoundPredicate, Comparison, Predicate};
#[cfg(feature = "rest")]
pub use rest::{RestCatalog, RestCredentials};
pub use schema::{schema_literal, schema_of};
pub use table::{
    Column, Database, NULL_PARTITION, Partition, StorageDescriptor, TableDescription, columns_of, schema_from_catalog,
};
