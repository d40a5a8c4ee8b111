//! The cases, and the engines that run them.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::measure;

/// A piece of work that all engines do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Case {
    /// Encounters for a symptom with a known reason, by day
    Encounters,
    /// All observations, by day
    Observations,
    /// Who has a sinusitis, in one file
    Sinusitis,
}

impl Case {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Encounters => "encounters",
            Self::Observations => "observations",
            Self::Sinusitis => "sinusitis",
        }
    }

    /// The package and binary of hardtack's job, which writes to a folder of the same name.
    pub fn job(self) -> &'static str {
        match self {
            Self::Encounters => "encounters_for_symptom",
            Self::Observations => "observations",
            Self::Sinusitis => "sinusitis_study",
        }
    }
}

/// A tool that does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// The jobs of this repository.
    Hardtack,
    /// `python/duckdb_elt.py`
    DuckDb,
    /// `python/polars_elt.py`
    Polars,
    /// `python/pyspark_elt.py`
    Spark,
}

const TOOLS: [(&str, Tool); 4] =
    [("hardtack", Tool::Hardtack), ("duckdb", Tool::DuckDb), ("polars", Tool::Polars), ("spark", Tool::Spark)];

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
        let name = TOOLS.iter().find(|(_, tool)| *tool == self.tool).map_or("?", |(name, _)| name);
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
    pub fn find(&self, engine: &Engine) -> Result<String, String> {
        match script(engine.tool) {
            None => Ok(format!("hardtack {}", env!("CARGO_PKG_VERSION"))),
            Some(script) => measure::ask(self.python.as_os_str(), &[script.as_os_str(), OsStr::new("--version")]),
        }
    }

    /// The binary of the job.
    pub fn job(&self, case: Case) -> PathBuf {
        self.jobs.join(case.job()).with_extension(std::env::consts::EXE_EXTENSION)
    }

    /// The command for a case; `out` is an existing, empty folder for all output.
    pub fn command(&self, engine: &Engine, case: Case, data: &Path, out: &Path) -> Vec<OsString> {
        let mut words: Vec<OsString> = match script(engine.tool) {
            None => {
                let state = out.join("state");
                let options = [("--source", data), ("--target", out), ("--state", &state)];
                let options = options.into_iter().flat_map(|(name, value)| [name.into(), value.into()]);
                // Output for a person at the terminal is not part of the work.
                let quiet = ["--show", "0", "--log", "warn"].map(OsString::from);
                [self.job(case).into()].into_iter().chain(options).chain(quiet).collect()
            }
            Some(script) => vec![
                self.python.clone().into(),
                script.into(),
                case.name().into(),
                data.into(),
                self.result(engine, case, out).into(),
            ],
        };
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

    /// The folder with the result, within the command's output folder.
    pub fn result(&self, engine: &Engine, case: Case, out: &Path) -> PathBuf {
        match engine.tool {
            Tool::Hardtack => out.join(case.job()),
            _ => out.join("result"),
        }
    }
}

fn script(tool: Tool) -> Option<PathBuf> {
    let file = match tool {
        Tool::Hardtack => return None,
        Tool::DuckDb => "duckdb_elt.py",
        Tool::Polars => "polars_elt.py",
        Tool::Spark => "pyspark_elt.py",
    };
    Some([env!("CARGO_MANIFEST_DIR"), "python", file].iter().collect())
}

#[cfg(test)]
mod tests;
