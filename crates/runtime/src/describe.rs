//! What a job is, reads and writes, for the tools that package, deploy and watch it.

use clap::{Args, Command};
use datafusion::arrow::datatypes::{FieldRef, Schema};
use hardtack_core::format::Format;
use hardtack_core::{Error, Location, Result};
use serde::{Deserialize, Serialize};

use crate::definition::JobDefinition;

/// What `JOB --describe` prints as JSON: what the job says of itself, and what a dry run with these arguments has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobDescription {
    /// What it says of itself.
    pub job: JobDefinition,
    /// Its own arguments, without those that every job has.
    pub arguments: Vec<ArgumentDescription>,
    /// What it reads.
    pub sources: Vec<SourceDescription>,
    /// What it writes.
    pub sinks: Vec<SinkDescription>,
    /// Why it is not all of that: sources that cannot be read here, or a failure of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// An argument of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArgumentDescription {
    /// Its name without dashes: `source`.
    pub name: String,
    /// The environment variable that gives it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Its value if it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether it must be given.
    pub required: bool,
    /// What it means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

/// A source of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceDescription {
    /// Its name within the job.
    pub name: String,
    /// The table of the catalog that it is: `lake.sales`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Where its files are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Whether files next to the location belong to it whose names begin as that: `encounters.csv.gz` to `encounters`.
    #[serde(default)]
    pub files_beside: bool,
    /// Whether a run reads only what is new.
    pub bookmarked: bool,
    /// Its columns.
    pub columns: Vec<ColumnDescription>,
}

/// A sink of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkDescription {
    /// Its name within the job.
    pub name: String,
    /// The table of the catalog that it is: `lake.sales`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Where its files are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// Whether rows of earlier runs go, unless they are saved again.
    pub replaces: bool,
    /// Whether a run deletes objects there: what it replaces, or what it has written and gives up. Staged uploads are not
    /// objects yet.
    #[serde(default)]
    pub deletes: bool,
    /// Whether rules decide whether it is published.
    pub audited: bool,
    /// Its columns.
    pub columns: Vec<ColumnDescription>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnDescription {
    /// Its name.
    pub name: String,
    /// Its type, as Arrow writes it.
    pub data_type: String,
    /// Whether it may be null.
    pub nullable: bool,
}

impl ColumnDescription {
    pub(crate) fn of(schema: &Schema) -> Vec<Self> {
        let column = |field: &FieldRef| Self {
            name: field.name().clone(),
            data_type: field.data_type().to_string(),
            nullable: field.is_nullable(),
        };
        schema.fields().iter().map(column).collect()
    }
}

const FORMAT: Format = Format::new("description of a job", 1);

impl JobDescription {
    /// The JSON that `JOB --describe` prints.
    ///
    /// # Errors
    /// [`Unexpected`](hardtack_core::ErrorKind::Unexpected) if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(&FORMAT.versioned(self))
            .map_err(|e| Error::unexpected("the description of a job cannot be written as JSON").because(e))
    }

    /// Parses what `JOB --describe` has printed.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if a newer hardtack has printed it,
    /// [`Unexpected`](hardtack_core::ErrorKind::Unexpected) for anything else.
    pub fn parse(json: &str) -> Result<Self> {
        FORMAT.check(json.as_bytes())?;
        serde_json::from_str(json).map_err(|e| Error::unexpected("the description of a job does not parse").because(e))
    }
}

/// As the only argument, prints as JSON which arguments a job has: who asks a job to describe itself must give it those that
/// it needs, and first know them. For `hardtack deploy`.
pub const DESCRIBE_ARGUMENTS: &str = "--describe-arguments";

/// The arguments of a job.
pub(crate) fn arguments<A: Args>() -> Vec<ArgumentDescription> {
    let command = A::augment_args(Command::new("job"));
    let text = |os: &std::ffi::OsStr| os.to_string_lossy().into_owned();
    let described = |arg: &clap::Arg| {
        let defaults: Vec<String> = arg.get_default_values().iter().map(|value| text(value)).collect();
        ArgumentDescription {
            name: arg.get_long().map_or_else(|| arg.get_id().to_string(), str::to_owned),
            env: arg.get_env().map(text),
            default: (!defaults.is_empty()).then(|| defaults.join(",")),
            required: arg.is_required_set(),
            help: arg.get_help().map(ToString::to_string),
        }
    };
    command.get_arguments().filter(|arg| !arg.is_hide_set()).map(described).collect()
}
