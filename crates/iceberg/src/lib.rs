//! Apache Iceberg tables: written on a branch, audited there, published in one step; read as they are or were.
//!
//! [`IcebergTable`] is a source and a sink. Tables are found in the [catalog](hardtack_catalog) of the run: in the embedded
//! one in the layout of PyIceberg's SQL catalog, in AWS Glue as Athena and Spark have them, behind an Iceberg REST
//! catalog as its server has them. The formats are those of the crate [`iceberg`]; files are written by the writer of
//! [`hardtack_sinks`] and read by DataFusion's Parquet scan, as those of every other table.

mod catalog;
mod changes;
mod error;
mod evolution;
mod file;
mod filter;
mod inspect;
mod maintenance;
mod migrate;
mod partition;
mod publisher;
mod scan;
mod schema;
mod served;
mod sink;
mod snapshot;
mod sorting;
mod source;
mod storage;
mod table;
mod touched;
mod version;

pub use changes::CHANGE_TYPE;
pub use maintenance::{
    CompactOptions, Compacted, DeletedFiles, ExpireOptions, Expired, IcebergMaintenance, RewrittenManifests,
    TableChange,
};
pub use migrate::Migration;
pub use partition::PartitionField;
pub use publisher::register;
pub use source::{PARTITIONED_BY, described, opened};
pub use table::{IcebergTable, NewIcebergTable};
pub use touched::Touched;
