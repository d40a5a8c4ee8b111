//! hardtack: author many small ETL jobs in Rust.
//!
//! A job is a `main` over DataFrames that performs all I/O through its [`Context`](prelude::Context): it loads
//! [sources], transforms, and saves to [sinks]. Every run is a transaction: everything that sinks stage becomes visible
//! together, after all of it has succeeded, or not at all.
//!
//! ```
//! # mod job {
//! use hardtack::prelude::*;
//!
//! #[derive(Debug, clap::Args)]
//! #[command(mut_args(TargetArgs::describe("Lake root that gets `numbers`", "target/lake", ["numbers"])))]
//! pub struct Args {
//!     #[command(flatten)]
//!     pub target: TargetArgs,
//! }
//!
//! pub fn numbers(args: &Args) -> Dataset<ParquetDataset> {
//!     args.target.parquet("numbers", "numbers").overwrite()
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
//! `main.rs` runs it:
//!
//! ```no_run
//! # use hardtack::prelude::*;
//! # #[derive(Debug, clap::Args)] pub struct Args {}
//! # pub async fn numbers(_: &Context<Args>) -> Result<()> { Ok(()) }
//! fn main() -> std::process::ExitCode {
//!     hardtack::job!().run(numbers)
//! }
//! ```
//!
//! What a scheduler must know is said next to `main`, in a function `pub fn job() -> Job`: owner, schedule, time-out,
//! attempts, vCPUs and memory. See [`Job`].
//!
//! # Features
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `aws` (default) | locations on S3, the Glue Data Catalog, webhooks |
//! | `mimalloc` (default) | mimalloc as the allocator of the job |
//! | `iceberg` | Apache Iceberg tables, and REST catalogs |
//! | `otel` | a trace and metrics of each run for OpenTelemetry, if the environment has an endpoint |
//! | `failpoints` | fault points for crash tests; among dev-dependencies only |
//!
//! # Modules
//!
//! The [`prelude`] has everything that most jobs need; [`functions`] has all expression functions, and the underlying
//! crates are re-exported as modules.

mod endpoints;
pub mod functions;
pub mod prelude;

pub use hardtack_catalog as catalog;
pub use hardtack_core as core;
#[cfg(feature = "iceberg")]
pub use hardtack_iceberg as iceberg;
pub use hardtack_quality as quality;
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

pub use endpoints::{SourceArgs, TargetArgs, TargetFormat};
pub use hardtack_runtime::{Job, Jobs, run};

/// The [`Job`] of this package: its name, version and description are those in `Cargo.toml`.
///
/// ```
/// let job = hardtack::job!().owner("sales-data@example.com");
/// assert_eq!(job.definition().name, env!("CARGO_PKG_NAME"));
/// ```
#[macro_export]
macro_rules! job {
    () => {
        $crate::Job::new(env!("CARGO_PKG_NAME"))
            .version(env!("CARGO_PKG_VERSION"))
            // Set by `hardtack package`.
            .revision(option_env!("HARDTACK_REVISION"))
            .description(env!("CARGO_PKG_DESCRIPTION"))
    };
}
