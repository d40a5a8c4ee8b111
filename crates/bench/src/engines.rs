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

/// A tool and its mode, for example `duckdb` or `duckdb:sorted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The tool.
    pub tool: Tool,
    /// One of the modes of its script; empty for the fastest.
    pub mode: String,
}

impl FromStr for Engine {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, mode) = text.split_once(':').unwrap_or((text, ""));
        match TOOLS.iter().find(|(known, _)| *known == name) {
            Some((_, Tool::Hardtack)) if !mode.is_empty() => Err("hardtack has no modes".to_owned()),
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
            Some(script) => measure::ask(self.python.as_os_str(), &[script.as_os_str(), OsStr::new("--version")]),
        }
    }

    /// A binary of hardtack.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.jobs.join(name).with_extension(std::env::consts::EXE_EXTENSION)
    }

    /// The command for a case; `out` is an existing folder for all output, which holds what the engine begins with.
    pub fn command(&self, engine: &Engine, case: Case, data: &Path, out: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = match (script(engine.tool, case.suite), case.suite) {
            (Some(script), _) => vec![
                self.python.clone().into(),
                script.into(),
                case.name.into(),
                data.into(),
                self.result(engine, case, out).into(),
            ],
            (None, Suite::Start) if case.name == "version" => {
                return vec![self.binary(case.binary).into(), "--version".into()];
            }
            (None, Suite::Start) => self.job(case.binary, &out.join(EMPTY), out, &out.join("state")),
            (None, Suite::Scan) => {
                let rows = self.result(engine, case, out).join("rows.parquet");
                let mut words: Vec<OsString> = vec![self.binary(case.binary).into(), "sql".into()];
                words.extend(["--state".into(), data.join("state").into(), "--output".into(), rows.into()]);
                words.extend(["-c", query(case)].map(OsString::from));
                words
            }
            (None, _) => self.job(case.binary, &data.join(case.source()), out, &out.join("state")),
        };
        if engine.tool == Tool::Hardtack && matches!(case.suite, Suite::Json | Suite::Quality | Suite::Iceberg) {
            words.extend(["--case".into(), case.name.into()]);
        }
        if (engine.tool, case.suite) == (Tool::Hardtack, Suite::Snapshots) {
            words.extend(["--until", "2025-12-31"].map(OsString::from));
        }
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.into(), value.into()]);
            }
        };
        option("--threads", self.threads.map(|n| n.to_string()));
        option(
            "--memory-limit",
            self.memory_limit.clone().filter(|_| matches!(engine.tool, Tool::Hardtack | Tool::DuckDb)),
        );
        option("--mode", Some(engine.mode.clone()).filter(|mode| !mode.is_empty()));
        words
    }

    /// The command of a job.
    fn job(&self, binary: &str, source: &Path, target: &Path, state: &Path) -> Vec<OsString> {
        // Joining nothing would append a separator.
        let source: PathBuf = source.components().collect();
        let options = [("--source", source.as_path()), ("--target", target), ("--state", state)];
        let options = options.into_iter().flat_map(|(name, value)| [name.into(), value.into()]);
        // Output for a person at the terminal is not part of the work.
        let quiet = ["--show", "0", "--log", "warn"].map(OsString::from);
        [self.binary(binary).into()].into_iter().chain(options).chain(quiet).collect()
    }

    /// The commands that prepare a lake of observations by day, which is a table of the catalog, in a folder.
    pub(crate) fn lake(&self, data: &Path, folder: &Path) -> [Vec<OsString>; 2] {
        let (lake, state) = (folder.join(LAKE), folder.join("state"));
        let crawl = [self.binary("hardtack").into(), "crawl".into(), lake.clone().into()];
        let options = ["--database".into(), "lake".into(), "--state".into(), state.clone().into()];
        [self.job("observations", data, &lake, &state), crawl.into_iter().chain(options).collect()]
    }

    /// The folder with the result, within the command's output folder.
    pub fn result(&self, engine: &Engine, case: Case, out: &Path) -> PathBuf {
        match engine.tool {
            Tool::Hardtack => out.join(case.result),
            _ => out.join("result"),
        }
    }
}

/// The folder of the lake, within the folder that is asked.
const LAKE: &str = "lake";
/// The folder of a source without rows, within the output folder.
pub(crate) const EMPTY: &str = "empty";

/// What is asked of the observations by day.
fn query(case: Case) -> &'static str {
    match case.name {
        "year" => {
            "select category, count(*) as observations, count(distinct patient) as patients from lake.observations \
             where year = 2020 group by category"
        }
        _ => {
            "select category, count(*) as observations, count(distinct patient) as patients from lake.observations \
             group by category"
        }
    }
}

fn script(tool: Tool, suite: Suite) -> Option<PathBuf> {
    let name = match tool {
        Tool::Hardtack => return None,
        Tool::DuckDb => "duckdb",
        Tool::Polars => "polars",
        Tool::Spark => "pyspark",
    };
    let file = format!("{name}_{}.py", suite.name());
    Some([env!("CARGO_MANIFEST_DIR"), "python", &file].iter().collect())
}

#[cfg(test)]
mod tests;
