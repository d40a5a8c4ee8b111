//! hardtack: author many small ETL jobs in Rust.
//!
//! A job is a `main` over DataFrames that touches the world only through its [`Context`](prelude::Context): it loads
//! [sources], transforms, and saves to [sinks]. Every run is a transaction: what sinks stage becomes visible together, after
//! everything has succeeded, or not at all.
//!
//! ```
//! # mod job {
//! use hardtack::prelude::*;
//!
//! #[derive(Debug, clap::Args)]
//! pub struct Args {
//!     /// Lake root, for example `s3://my-bucket`
//!     #[arg(long, env = "TARGET", default_value = "target/lake")]
//!     pub target: Location,
//! }
//!
//! pub fn numbers(args: &Args) -> ParquetDataset {
//!     ParquetDataset::new("numbers", args.target.join("numbers")).overwrite()
//! }
//!
//! pub async fn main(ctx: &Context<Args>) -> Result<()> {
//!     let rows = ctx.session().sql("select * from (values (1), (2)) as t(n)").await?;
//!     ctx.save(numbers(ctx.args()), rows).await
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! and `main.rs` hands it over:
//!
//! ```no_run
//! # use hardtack::prelude::*;
//! # #[derive(Debug, clap::Args)] pub struct Args {}
//! # pub async fn numbers(_: &Context<Args>) -> Result<()> { Ok(()) }
//! fn main() -> std::process::ExitCode {
//!     hardtack::run(env!("CARGO_PKG_NAME"), numbers)
//! }
//! ```
//!
//! Everything that an author needs is in [`prelude`]; the crates below are re-exported as modules.

pub use hardtack_catalog as catalog;
pub use hardtack_core as core;
pub use hardtack_runtime as runtime;
pub use hardtack_sinks as sinks;
pub use hardtack_sources as sources;
pub use hardtack_state as state;
pub use hardtack_tables as tables;
pub use hardtack_transforms as transforms;

pub use chrono;
pub use clap;
pub use datafusion;
pub use datafusion::arrow;

pub use hardtack_runtime::{Job, run};

/// What a job's `lib.rs` imports.
pub mod prelude {
    pub use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
    pub use clap;
    pub use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
    pub use datafusion::common::{JoinType, ScalarValue};
    pub use datafusion::functions::core::expr_ext::FieldAccessor;
    pub use datafusion::functions::expr_fn::*;
    pub use datafusion::functions_aggregate::expr_fn::{avg, count, max, min, sum};
    pub use datafusion::logical_expr::{Expr, ExprSchemable, cast, col, ident, lit, when};
    pub use datafusion::prelude::DataFrame;
    pub use hardtack_catalog::{
        COMMENT_KEY, CatalogOf, DatabaseName, HIVE_TYPE_KEY, HiveField, HiveType, schema, schema_from_catalog,
        schema_from_cloudformation, schema_of,
    };
    pub use hardtack_core::sql::{date_bin, date_trunc};
    pub use hardtack_core::{
        Context, Error, ErrorKind, LoadContext, Location, Result, Run, Sink, Source, StageContext,
    };
    pub use hardtack_sinks::{Compression, CsvFile, JsonLines, ParquetDataset};
    pub use hardtack_sources::{AvroFiles, CsvFiles, JsonFiles, ParquetFiles};
    pub use hardtack_tables::{InDatabase, OrTable, SchemaEvolution, Table, register_names};
    pub use hardtack_transforms::*;
}
