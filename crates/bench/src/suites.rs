//! The suites, each a subcommand, and their cases.

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};

use crate::engines::{Engine, Tool};
use crate::generate::Data;

/// What a subcommand measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suite {
    /// Cleansing CSV into Parquet
    Elt,
    /// Merging change events into a table
    Merge,
    /// Rebuilding monthly snapshots
    Snapshots,
    /// Reading JSON
    Json,
    /// Processing access records
    Access,
    /// Asking many small files in SQL
    Scan,
    /// Auditing what is written
    Quality,
    /// Writing an Iceberg table
    Iceberg,
    /// Merging change events into an Iceberg table
    IcebergMerge,
    /// Reading Iceberg tables of few and of many files
    IcebergRead,
    /// Reading what is new in an Iceberg table
    IcebergIncremental,
    /// Rewriting the small files of an Iceberg table
    IcebergCompact,
    /// Finding what differs between two data sets
    Compare,
    /// Starting and ending
    Start,
}

/// A piece of work that all engines of a suite do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The suite, whose scripts are named after it.
    pub suite: Suite,
    /// The name on the command line.
    pub name: &'static str,
    /// The binary of hardtack that runs.
    pub binary: &'static str,
    /// The folder with its result, within its output folder.
    pub result: &'static str,
    /// The compared columns; empty for all.
    pub columns: &'static [&'static str],
    /// Whether each partition of the result is one file.
    pub one_file: bool,
    /// Whether the folders of the result are its partitions; else only the rows as a whole are compared.
    pub by_folder: bool,
    /// By what the rows of each file are sorted; empty for any order.
    pub sorted_by: &'static [&'static str],
    /// The case whose result each engine begins with.
    pub before: Option<&'static str>,
}

const ELT: &[Case] = &[
    case(Suite::Elt, "encounters", "encounters_for_symptom", "encounters_for_symptom"),
    case(Suite::Elt, "observations", "observations", "observations"),
    case(Suite::Elt, "sinusitis", "sinusitis_study", "sinusitis_study"),
];
/// What all engines know of a customer. (`_known_since` is a matter of the job.)
const CUSTOMER: &[&str] = &["id", "first_name", "last_name", "email", "_as_of"];
const MERGE: &[Case] = &[
    Case { columns: CUSTOMER, ..case(Suite::Merge, "insert", "customer_events", "customers") },
    Case { columns: CUSTOMER, before: Some("insert"), ..case(Suite::Merge, "change", "customer_events", "customers") },
];
/// Engines write as many files as they like.
const SNAPSHOTS: &[Case] = &[
    Case { one_file: false, ..case(Suite::Snapshots, "year", "policy_snapshots", "policy_snapshots") },
    Case {
        one_file: false,
        before: Some("year"),
        ..case(Suite::Snapshots, "late", "policy_snapshots", "policy_snapshots")
    },
];
const JSON: &[Case] = &[
    Case { one_file: false, ..case(Suite::Json, "few", "bench_access_records", "access_records") },
    Case { one_file: false, ..case(Suite::Json, "all", "bench_access_records", "access_records") },
    Case { one_file: false, ..case(Suite::Json, "all_gzip", "bench_access_records", "access_records") },
];
/// A day is one file, or as many as an engine likes.
const ACCESS: &[Case] = &[
    Case { one_file: false, ..case(Suite::Access, "plain", "access_records", "processed_access_records") },
    Case { one_file: false, ..case(Suite::Access, "gzip", "access_records", "processed_access_records") },
];
const SCAN: &[Case] =
    &[case(Suite::Scan, "full", "hardtack", "result"), case(Suite::Scan, "year", "hardtack", "result")];
const QUALITY: &[Case] = &[
    case(Suite::Quality, "alone", "bench_quality", "observations"),
    case(Suite::Quality, "audited", "bench_quality", "observations"),
];
/// Days are folders of plain files, and in an Iceberg table known to the manifests only: there, folders mean nothing.
const OBSERVATION: &[&str] = &["patient", "encounter", "category", "code", "description", "value", "units", "type"];
const ICEBERG: &[Case] = &[
    Case { columns: OBSERVATION, one_file: false, ..case(Suite::Iceberg, "plain", "bench_iceberg", "observations") },
    Case {
        columns: OBSERVATION,
        one_file: false,
        by_folder: false,
        ..case(Suite::Iceberg, "table", "bench_iceberg", "observations/data")
    },
];
const ICEBERG_MERGE: &[Case] = &[
    Case {
        columns: CUSTOMER,
        by_folder: false,
        ..many_files(Suite::IcebergMerge, "insert", "customer_events", "customers")
    },
    Case {
        columns: CUSTOMER,
        by_folder: false,
        before: Some("insert"),
        ..many_files(Suite::IcebergMerge, "change", "customer_events", "customers")
    },
    Case {
        columns: CUSTOMER,
        by_folder: false,
        before: Some("insert"),
        ..many_files(Suite::IcebergMerge, "few", "customer_events", "customers")
    },
];
const ICEBERG_READ: &[Case] = &[
    case(Suite::IcebergRead, "days", "hardtack", "result"),
    case(Suite::IcebergRead, "days_2020", "hardtack", "result"),
    case(Suite::IcebergRead, "years", "hardtack", "result"),
    case(Suite::IcebergRead, "years_2020", "hardtack", "result"),
];
const ICEBERG_INCREMENTAL: &[Case] =
    &[many_files(Suite::IcebergIncremental, "batch", "bench_iceberg", "new_observations")];
const ICEBERG_COMPACT: &[Case] = &[
    case(Suite::IcebergCompact, "unsorted", "hardtack", "result"),
    Case { sorted_by: &["patient", "date"], ..case(Suite::IcebergCompact, "sorted", "hardtack", "result") },
];
const COMPARE: &[Case] = &[case(Suite::Compare, "customers", "hardtack", "result")];
const START: &[Case] =
    &[case(Suite::Start, "job", "customer_events", "customers"), case(Suite::Start, "version", "hardtack", "result")];

const fn case(suite: Suite, name: &'static str, binary: &'static str, result: &'static str) -> Case {
    Case { suite, name, binary, result, columns: &[], one_file: true, by_folder: true, sorted_by: &[], before: None }
}

/// A partition is as many files as an engine likes.
const fn many_files(suite: Suite, name: &'static str, binary: &'static str, result: &'static str) -> Case {
    Case { one_file: false, ..case(suite, name, binary, result) }
}

impl Suite {
    /// The name of the subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Self::Elt => "elt",
            Self::Merge => "merge",
            Self::Snapshots => "snapshots",
            Self::Json => "json",
            Self::Access => "access",
            Self::Scan => "scan",
            Self::Quality => "quality",
            Self::Iceberg => "iceberg",
            Self::IcebergMerge => "iceberg-merge",
            Self::IcebergRead => "iceberg-read",
            Self::IcebergIncremental => "iceberg-incremental",
            Self::IcebergCompact => "iceberg-compact",
            Self::Compare => "compare",
            Self::Start => "start",
        }
    }

    /// All cases, in the order in which they run by default.
    pub fn cases(self) -> &'static [Case] {
        match self {
            Self::Elt => ELT,
            Self::Merge => MERGE,
            Self::Snapshots => SNAPSHOTS,
            Self::Json => JSON,
            Self::Access => ACCESS,
            Self::Scan => SCAN,
            Self::Quality => QUALITY,
            Self::Iceberg => ICEBERG,
            Self::IcebergMerge => ICEBERG_MERGE,
            Self::IcebergRead => ICEBERG_READ,
            Self::IcebergIncremental => ICEBERG_INCREMENTAL,
            Self::IcebergCompact => ICEBERG_COMPACT,
            Self::Compare => COMPARE,
            Self::Start => START,
        }
    }

    /// The case of this name.
    pub fn case(self, name: &str) -> Option<Case> {
        self.cases().iter().copied().find(|case| case.name == name)
    }

    /// The data that are generated for it.
    pub fn data(self) -> Option<Data> {
        match self {
            Self::Elt
            | Self::Scan
            | Self::Quality
            | Self::Iceberg
            | Self::IcebergRead
            | Self::IcebergIncremental
            | Self::IcebergCompact => Some(Data::Tables),
            Self::Merge | Self::IcebergMerge => Some(Data::Events),
            Self::Snapshots => Some(Data::Policies),
            Self::Json => Some(Data::Access),
            Self::Access => Some(Data::Calls),
            // The data sets are written by `hardtack sql`.
            Self::Compare | Self::Start => None,
        }
    }

    /// Whether the engines read a lake that is prepared from the data.
    pub(crate) fn has_lake(self) -> bool {
        matches!(self, Self::Scan | Self::IcebergRead | Self::IcebergIncremental | Self::IcebergCompact | Self::Compare)
    }

    /// Who takes part by default: the tools that have a script for it, and all modes of hardtack.
    pub fn engines(self) -> &'static [&'static str] {
        match self {
            Self::Elt | Self::Merge => &["hardtack", "duckdb", "polars", "spark"],
            Self::Iceberg => &["hardtack", "polars", "spark"],
            Self::Json | Self::Access | Self::Snapshots | Self::Quality | Self::IcebergCompact | Self::Compare => {
                &["hardtack", "duckdb", "polars"]
            }
            Self::Scan => &["hardtack", "duckdb"],
            Self::IcebergMerge => &["hardtack", "hardtack:files", "duckdb", "polars", "polars:pyiceberg"],
            Self::IcebergRead => &[
                "hardtack",
                "hardtack:files",
                "duckdb",
                "duckdb:iceberg",
                "polars",
                "polars:iceberg",
                "polars:pyiceberg",
            ],
            Self::IcebergIncremental => {
                &["hardtack", "hardtack:filter", "hardtack:full", "duckdb", "polars", "polars:pyiceberg"]
            }
            Self::Start => &["hardtack"],
        }
    }

    /// Whether an engine can take part. The modes of others than hardtack are known to their scripts.
    pub(crate) fn has(self, engine: &Engine) -> bool {
        match engine.tool {
            Tool::Hardtack => self.engines().contains(&engine.to_string().as_str()),
            tool => self.engines().contains(&tool.name()),
        }
    }

    /// Adapts an argument of [`Options`](crate::Options): its defaults, and what may be chosen.
    pub(crate) fn argument(self, arg: clap::Arg) -> clap::Arg {
        let names = || self.cases().iter().map(|case| case.name);
        match arg.get_id().as_str() {
            "cases" => arg.value_parser(self.case_parser()).default_values(names()),
            "engines" => arg.default_values(self.engines()),
            "runs" if self == Self::Start => arg.default_value("20"),
            _ => arg,
        }
    }

    /// Parses the name of a case.
    pub(crate) fn case_parser(self) -> ValueParser {
        let names = PossibleValuesParser::new(self.cases().iter().map(|case| case.name));
        names.try_map(move |name| self.case(&name).ok_or("no case has this name")).into()
    }
}

impl Case {
    /// The binaries that prepare what all engines read, or that say which files a table has.
    pub(crate) fn others(self) -> &'static [&'static str] {
        match self.suite {
            Suite::Scan => &["observations", "hardtack"],
            Suite::IcebergMerge | Suite::Compare => &["hardtack"],
            Suite::IcebergRead | Suite::IcebergIncremental | Suite::IcebergCompact => &["bench_iceberg", "hardtack"],
            _ => &[],
        }
    }

    /// The exit code of hardtack.
    pub(crate) fn exit_code(self) -> i32 {
        // That of a difference.
        if self.suite == Suite::Compare { 3 } else { 0 }
    }

    /// The folder of the data that the job reads as its source.
    pub(crate) fn source(self) -> &'static str {
        match (self.suite, self.name) {
            (Suite::Merge | Suite::IcebergMerge, "insert") => "inserts",
            (Suite::Merge | Suite::IcebergMerge, "change") => "changes",
            (Suite::IcebergMerge, case) => case,
            (Suite::Snapshots, _) => self.name,
            (Suite::Access, case) => case,
            _ => "",
        }
    }
}

/// The package of a binary.
pub(crate) fn package(binary: &'static str) -> &'static str {
    match binary {
        "hardtack" => "hardtack-cli",
        "bench_access_records" | "bench_iceberg" | "bench_quality" => "hardtack-bench",
        job => job,
    }
}
