//! The engines, and the commands that they run.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::measure;
use crate::suites::{Case, Suite};

/// A tool that does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The jobs of this repository.
    Hardtack,
    /// `python/duckdb_SUITE.py`
    DuckDb,
    /// `python/polars_SUITE.py`
    Polars,
    /// `python/pyspark_SUITE.py`
    Spark,
}

const TOOLS: [(&str, Tool); 4] =
    [("hardtack", Tool::Hardtack), ("duckdb", Tool::DuckDb), ("polars", Tool::Polars), ("spark", Tool::Spark)];

impl Tool {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        TOOLS.iter().find(|(_, tool)| *tool == self).map_or("?", |(name, _)| name)
    }
}

/// A tool and its mode, for example `duckdb`, `duckdb:sorted` or `hardtack:files`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The tool.
    pub tool: Tool,
    /// One of the modes of its script, or of hardtack in this suite; empty for the fastest.
    pub mode: String,
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, mode) = text.split_once(':').unwrap_or((text, ""));
        match TOOLS.iter().find(|(known, _)| *known == name) {
            Some((_, tool)) => Ok(Self { tool: *tool, mode: mode.to_owned() }),
            None => Err("wanted is hardtack, duckdb, polars or spark, or with a mode like `duckdb:sorted`".to_owned()),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.tool.name();
        match self.mode.as_str() {
            "" => f.write_str(name),
            mode => write!(f, "{name}:{mode}"),
        }
    }
}

impl Engine {
    /// A name for its folder.
    pub(crate) fn folder(&self) -> String {
        self.to_string().replace(':', "-")
    }
}

/// The locations of programs, and their common options.
#[derive(Debug, Clone)]
pub struct Programs {
    /// The folder of our jobs' binaries.
    pub jobs: PathBuf,
    /// The interpreter with the other engines installed.
    pub python: PathBuf,
    /// The memory limit as on the command line, for the tools that have one.
    pub memory_limit: Option<String>,
    /// The number of threads for all; one per core if none is given.
    pub threads: Option<usize>,
}

impl Programs {
    /// The version of the tool, or why it cannot be run.
    pub fn find(&self, engine: &Engine, suite: Suite) -> Result<String, String> {
        match script(engine.tool, suite) {
            None => Ok(format!("hardtack {}", env!("CARGO_PKG_VERSION"))),
            Some(script) => {
                let mut words = vec![script.as_os_str(), OsStr::new("--version")];
                // What a mode needs may not be there. Behind the version, so that a wrong one fails when it runs.
                if !engine.mode.is_empty() {
                    words.extend(["--mode", &engine.mode].map(OsStr::new));
                }
                measure::ask(self.python.as_os_str(), &words)
            }
        }
    }

    /// A binary of hardtack.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.jobs.join(name).with_extension(std::env::consts::EXE_EXTENSION)
    }

    /// The command for a case; `out` is an existing folder for all output, which holds what the engine begins with.
    pub fn command(&self, engine: &Engine, case: Case, data: &Path, out: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = match script(engine.tool, case.suite) {
            None => self.ours(engine, case, data, out),
            Some(script) => {
                let result = self.result(engine, case, out);
                vec![self.python.clone().into(), script.into(), case.name.into(), data.into(), result.into()]
            }
        };
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.into(), value.into()]);
            }
        };
        // What tends to tables, and what shows its version, has no such options.
        let is_limited = engine.tool != Tool::Hardtack
            || !(case.suite == Suite::IcebergCompact || (case.suite, case.name) == (Suite::Start, "version"));
        if is_limited {
            option("--threads", self.threads.map(|n| n.to_string()));
            option(
                "--memory-limit",
                self.memory_limit.clone().filter(|_| matches!(engine.tool, Tool::Hardtack | Tool::DuckDb)),
            );
        }
        option("--mode", Some(engine.mode.clone()).filter(|mode| !mode.is_empty() && engine.tool != Tool::Hardtack));
        words
    }

    /// The command of hardtack.
    fn ours(&self, engine: &Engine, case: Case, data: &Path, out: &Path) -> Vec<OsString> {
        let job = |source: &Path, more: &[&str]| {
            let words = self.job(case.binary, source, out, &out.join("state")).into_iter();
            words.chain(more.iter().map(OsString::from)).collect()
        };
        let source = data.join(case.source());
        match case.suite {
            Suite::Start if case.name == "version" => vec![self.binary(case.binary).into(), "--version".into()],
            Suite::Start => job(&out.join(EMPTY), &[]),
            Suite::Scan | Suite::IcebergRead => {
                let query = query(case, engine);
                let rows = self.result(engine, case, out).join("rows.parquet");
                let options = ["--output".into(), rows.into(), "-c".into(), query.into()];
                self.hardtack(&["sql"], &data.join("state")).into_iter().chain(options).collect()
            }
            Suite::Json | Suite::Quality | Suite::Iceberg => job(&source, &["--case", case.name]),
            Suite::Snapshots => job(&source, &["--until", "2025-12-31"]),
            Suite::IcebergMerge if engine.mode.is_empty() => {
                job(&source, &["--target-format", "iceberg", "--target-database", "crm"])
            }
            Suite::IcebergIncremental => {
                let case = if engine.mode.is_empty() { "new" } else { &engine.mode };
                // Its bookmark stays where it is, so that every round reads the same rows.
                let options = ["--case", case, "--job-bookmark-option", "job-bookmark-pause"].map(OsString::from);
                self.job("bench_iceberg", data, out, &data.join("state")).into_iter().chain(options).collect()
            }
            Suite::IcebergCompact => {
                let mut words = self.hardtack(&["iceberg", "compact", SMALL_FILES], &data.join("state"));
                if !case.sorted_by.is_empty() {
                    words.extend(["--sort-by".into(), case.sorted_by.join(",").into()]);
                }
                words
            }
            Suite::Compare => {
                let sides = ["before", "after"].map(|side| data.join(side).into_os_string());
                let words = self.hardtack(&["compare", "--key", "id", "--json"], &data.join("state"));
                words.into_iter().chain(sides).collect()
            }
            Suite::Elt | Suite::Merge | Suite::Access | Suite::IcebergMerge => job(&source, &[]),
        }
    }

    /// The command `hardtack` with this state.
    pub(crate) fn hardtack(&self, words: &[&str], state: &Path) -> Vec<OsString> {
        let words = words.iter().map(OsString::from);
        [self.binary("hardtack").into()].into_iter().chain(words).chain(["--state".into(), state.into()]).collect()
    }

    /// The command of a job.
    pub(crate) fn job(&self, binary: &str, source: &Path, target: &Path, state: &Path) -> Vec<OsString> {
        // Joining nothing would append a separator.
        let source: PathBuf = source.components().collect();
        let options = [("--source", source.as_path()), ("--target", target), ("--state", state)];
        let options = options.into_iter().flat_map(|(name, value)| [name.into(), value.into()]);
        // Output for a person at the terminal is not part of the work.
        let quiet = ["--show", "0", "--log", "warn"].map(OsString::from);
        [self.binary(binary).into()].into_iter().chain(options).chain(quiet).collect()
    }

    /// The folder in which the engine writes its result, within the command's output folder.
    pub fn result(&self, engine: &Engine, case: Case, out: &Path) -> PathBuf {
        match engine.tool {
            Tool::Hardtack => out.join(case.result),
            _ => out.join("result"),
        }
    }

    /// If the result is an Iceberg table: the state whose catalog has it, and its name.
    pub(crate) fn table(
        &self,
        engine: &Engine,
        case: Case,
        data: &Path,
        out: &Path,
    ) -> Option<(PathBuf, &'static str)> {
        match (case.suite, engine.tool, engine.mode.as_str()) {
            (Suite::IcebergMerge, Tool::Hardtack, "") => Some((out.join("state"), "crm.customers")),
            (Suite::IcebergMerge, _, "pyiceberg") => {
                Some((self.result(engine, case, out).join("state"), "crm.customers"))
            }
            (Suite::IcebergCompact, Tool::Hardtack, _) => Some((data.join("state"), SMALL_FILES)),
            _ => None,
        }
    }
}

/// The table whose files are compacted.
const SMALL_FILES: &str = "lake.observations";
/// The folder of a source without rows, within the output folder.
pub(crate) const EMPTY: &str = "empty";

/// What is asked of the observations.
fn query(case: Case, engine: &Engine) -> String {
    let days = "date_day >= '2020-01-01' and date_day < '2021-01-01'";
    let dates = "date >= timestamp '2020-01-01' and date < timestamp '2021-01-01'";
    let characters = ", sum(character_length(description)) as characters";
    let is_files = engine.mode == "files";
    let (more, from, rows) = match (case.suite, case.name) {
        (Suite::Scan, "year") => ("", "lake.observations", "year = 2020"),
        (Suite::Scan, _) => ("", "lake.observations", ""),
        (_, "days") if is_files => (characters, "files.observations", ""),
        (_, "days_2020") if is_files => (characters, "files.observations", days),
        (_, "years") if is_files => (characters, "files.by_year", ""),
        (_, "years_2020") if is_files => (characters, "files.by_year", "date_year = 2020"),
        (_, "days") => (characters, "lake.observations", ""),
        (_, "days_2020") => (characters, "lake.observations", dates),
        (_, "years") => (characters, "lake.by_year", ""),
        _ => (characters, "lake.by_year", dates),
    };
    let rows = if rows.is_empty() { String::new() } else { format!("where {rows} ") };
    format!(
        "select category, count(*) as observations, count(distinct patient) as patients{more} from {from} {rows}group by category"
    )
}

fn script(tool: Tool, suite: Suite) -> Option<PathBuf> {
    let name = match tool {
        Tool::Hardtack => return None,
        Tool::DuckDb => "duckdb",
        Tool::Polars => "polars",
        Tool::Spark => "pyspark",
    };
    // `polars_iceberg` is a package, which Polars would then find among the scripts.
    let suite = if suite == Suite::Iceberg { "iceberg_table" } else { suite.name() };
    let file = format!("{name}_{}.py", suite.replace('-', "_"));
    Some([env!("CARGO_MANIFEST_DIR"), "python", &file].iter().collect())
}

#[cfg(test)]
mod tests;
