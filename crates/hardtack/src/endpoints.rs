//! Where a job reads and writes: the arguments that most jobs have, and the datasets below them.

use clap::Arg;
#[cfg(feature = "iceberg")]
use datafusion::arrow::datatypes::SchemaRef;
use hardtack_catalog::DatabaseName;
use hardtack_core::Location;
#[cfg(feature = "iceberg")]
use hardtack_iceberg::{IcebergTable, NewIcebergTable};
use hardtack_sinks::ParquetDataset;
use hardtack_sources::{AvroFiles, CsvFiles, JsonFiles, ParquetFiles};
#[cfg(feature = "iceberg")]
use hardtack_tables::Table;
use hardtack_tables::{Dataset, DatasetFiles};

/// Where a job reads: `--source` (or `SOURCE`) is a folder of the lake, and `--source-database` (or `SOURCE_DATABASE`)
/// a database of the catalog whose tables are read instead of the files.
///
/// A job flattens it into its arguments, and describes the source and its default. Without the attribute, `--source` is
/// required.
///
/// ```
/// # mod job {
/// use hardtack::prelude::*;
///
/// #[derive(Debug, clap::Args)]
/// #[command(mut_args(SourceArgs::describe("Lake root that holds `books/`", "fixtures/lake", ["books"])))]
/// pub struct Args {
///     #[command(flatten)]
///     pub source: SourceArgs,
/// }
///
/// pub fn books(args: &Args) -> Dataset<JsonFiles> {
///     args.source.json("books", "books").with_schema(schema! { title: string not null, author: string })
/// }
/// # }
/// # use hardtack::prelude::*;
///
/// let files = JsonFiles::new("books", "s3://lake/books").with_schema(schema! { title: string not null, author: string });
/// let args = job::Args { source: "s3://lake".into() };
/// assert_eq!(job::books(&args), Dataset::new(files.clone(), None));
///
/// let shop = "shop".parse()?;
/// let args = job::Args { source: SourceArgs::from("s3://lake").in_database("shop".parse()?) };
/// assert_eq!(job::books(&args), Dataset::new(files, Some(&shop)));
/// # Ok::<_, Error>(())
/// ```
// The job's own arguments carry its description.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(about = None, long_about = None)]
pub struct SourceArgs {
    /// Folder of the lake that is read, for example `s3://my-bucket` or `target/lake`
    #[arg(id = "source", long = "source", env = "SOURCE", value_name = "LOCATION")]
    pub location: Location,

    /// Database of the catalog whose tables are read instead of the files, for example `raw`
    #[arg(id = "source_database", long = "source-database", env = "SOURCE_DATABASE", value_name = "DATABASE")]
    pub database: Option<DatabaseName>,
}

impl SourceArgs {
    /// For the attribute `#[command(mut_args(...))]` of a job's arguments: sets the default of `--source`, and what
    /// help says about it and about the tables of a database.
    pub fn describe<const N: usize>(
        what: &str,
        default: &'static str,
        tables: [&str; N],
    ) -> impl FnMut(Arg) -> Arg + use<N> {
        let database = format!("{} read in place of the files, for example `raw`", whose(&tables));
        described("source", place(what, default), default, "source_database", database)
    }

    /// A location below the source.
    pub fn join(&self, path: &str) -> Location {
        self.location.join(path)
    }

    /// These files, or a table instead of them.
    pub fn dataset<F: DatasetFiles>(&self, files: F) -> Dataset<F> {
        Dataset::new(files, self.database.as_ref())
    }

    /// The JSON files at `path` below the source. `name` identifies the dataset within the job, and names the table.
    pub fn json(&self, name: &str, path: &str) -> Dataset<JsonFiles> {
        self.dataset(JsonFiles::new(name, self.join(path)))
    }

    /// The CSV files at `path` below the source. `name` identifies the dataset within the job, and names the table.
    pub fn csv(&self, name: &str, path: &str) -> Dataset<CsvFiles> {
        self.dataset(CsvFiles::new(name, self.join(path)))
    }

    /// The Parquet files at `path` below the source. `name` identifies the dataset within the job, and names the table.
    pub fn parquet(&self, name: &str, path: &str) -> Dataset<ParquetFiles> {
        self.dataset(ParquetFiles::new(name, self.join(path)))
    }

    /// The Avro files at `path` below the source. `name` identifies the dataset within the job, and names the table.
    pub fn avro(&self, name: &str, path: &str) -> Dataset<AvroFiles> {
        self.dataset(AvroFiles::new(name, self.join(path)))
    }

    /// The same with tables of this database.
    #[must_use]
    pub fn in_database(self, database: DatabaseName) -> Self {
        Self { database: Some(database), ..self }
    }
}

/// Where a job writes: `--target` (or `TARGET`) is a folder of the lake, and `--target-database` (or `TARGET_DATABASE`) a
/// database of the catalog whose tables are written, over the files in the target. See [`SourceArgs`].
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(about = None, long_about = None)]
pub struct TargetArgs {
    /// Folder of the lake that is written, for example `s3://my-bucket` or `target/lake`
    #[arg(id = "target", long = "target", env = "TARGET", value_name = "LOCATION")]
    pub location: Location,

    /// Database of the catalog whose tables are written, over the files in the target, for example `glue_reference`
    #[arg(id = "target_database", long = "target-database", env = "TARGET_DATABASE", value_name = "DATABASE")]
    pub database: Option<DatabaseName>,

    /// What tables are that the database does not have yet: `parquet` files, or `iceberg`
    #[arg(id = "target_format", long = "target-format", env = "TARGET_FORMAT", value_name = "FORMAT", default_value = "parquet", value_parser = target_format)]
    pub format: TargetFormat,
}

/// What the tables of a target are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TargetFormat {
    /// Tables of Parquet files.
    #[default]
    Parquet,
    /// Apache Iceberg tables, in a binary with the feature `iceberg`. Without a database, they are in `default`.
    Iceberg,
}

/// The database of Iceberg tables if none is named, as Hive and AWS Glue have it.
#[cfg(feature = "iceberg")]
const DEFAULT_DATABASE: &str = "default";

fn target_format(text: &str) -> std::result::Result<TargetFormat, String> {
    match text {
        "parquet" => Ok(TargetFormat::Parquet),
        "iceberg" if cfg!(feature = "iceberg") => Ok(TargetFormat::Iceberg),
        "iceberg" => Err("this binary was built without the feature `iceberg`".to_owned()),
        _ => Err("expected `parquet` or `iceberg`".to_owned()),
    }
}

impl TargetArgs {
    /// For the attribute `#[command(mut_args(...))]` of a job's arguments: sets the default of `--target`, and what
    /// help says about it and about the tables of a database.
    pub fn describe<const N: usize>(
        what: &str,
        default: &'static str,
        tables: [&str; N],
    ) -> impl FnMut(Arg) -> Arg + use<N> {
        let database =
            format!("{} written, over the files in the target, for example `glue_reference`", whose(&tables));
        described("target", place(what, default), default, "target_database", database)
    }

    /// A location below the target.
    pub fn join(&self, path: &str) -> Location {
        self.location.join(path)
    }

    /// These files, or a table over them, which `--target-format iceberg` creates as an Iceberg table.
    pub fn dataset<F: DatasetFiles>(&self, files: F) -> Dataset<F> {
        #[cfg(feature = "iceberg")]
        if self.format == TargetFormat::Iceberg {
            let database = self.database.clone().or_else(|| DEFAULT_DATABASE.parse().ok());
            return Dataset::new(files, database.as_ref()).when_table(Table::iceberg);
        }
        Dataset::new(files, self.database.as_ref())
    }

    /// The Parquet dataset at `path` below the target: a sink, and a source of the rows that earlier runs have saved.
    /// `name` identifies the dataset within the job, and names the table.
    pub fn parquet(&self, name: &str, path: &str) -> Dataset<ParquetDataset> {
        self.dataset(ParquetDataset::new(name, self.join(path)))
    }

    /// For the attribute `#[command(mut_args(...))]` of a job's arguments: sets the default of `--target-database`, for jobs
    /// that only write tables.
    pub fn in_database_by_default(database: &'static str) -> impl FnMut(Arg) -> Arg {
        move |arg| match arg.get_id().as_str() {
            "target_database" => arg.default_value(database),
            _ => arg,
        }
    }

    /// The Iceberg table of this name, with these columns, in the folder `path` below the target: a sink, and a source of
    /// what earlier runs have published. Its database is the given one, or `default`.
    #[cfg(feature = "iceberg")]
    pub fn iceberg(&self, table: &str, path: &str, schema: impl Into<SchemaRef>) -> IcebergTable {
        let database = self.database.as_ref().map_or(DEFAULT_DATABASE, DatabaseName::as_str);
        let new = NewIcebergTable::at(self.join(path)).with_schema(schema);
        IcebergTable::named(database, table).create_if_missing(new)
    }

    /// The same with tables of this database.
    #[must_use]
    pub fn in_database(self, database: DatabaseName) -> Self {
        Self { database: Some(database), ..self }
    }
}

/// The help of the argument for a location.
fn place(what: &str, default: &str) -> String {
    format!("{what}, for example `s3://my-bucket` or `{default}`")
}

/// The beginning of the help of the argument for a database.
fn whose(tables: &[&str]) -> String {
    let names: Vec<_> = tables.iter().map(|table| format!("`{table}`")).collect();
    let tables = match names.split_last() {
        None => "tables are".to_owned(),
        Some((table, [])) => format!("table {table} is"),
        Some((last, others)) => format!("tables {} and {last} are", others.join(", ")),
    };
    format!("Database of the catalog whose {tables}")
}

fn described(
    place: &'static str,
    place_help: String,
    default: &'static str,
    database: &'static str,
    database_help: String,
) -> impl FnMut(Arg) -> Arg {
    move |arg| match arg.get_id().as_str() {
        id if id == place => arg.help(place_help.clone()).default_value(default).required(false),
        id if id == database => arg.help(database_help.clone()),
        _ => arg,
    }
}

macro_rules! from_location {
    ($args:ident $(, $field:ident)?) => {
        impl From<Location> for $args {
            /// This location, without a catalog.
            fn from(location: Location) -> Self {
                Self { location, database: None, $($field: Default::default())? }
            }
        }

        impl From<&str> for $args {
            /// This location, without a catalog.
            fn from(location: &str) -> Self {
                Location::from(location).into()
            }
        }
    };
}

from_location!(SourceArgs);
from_location!(TargetArgs, format);
