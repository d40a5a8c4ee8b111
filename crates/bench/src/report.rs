//! The report, as tables and as JSON.

use std::fmt;
use std::path::Path;

use hardtack_core::{Error, Result};
use serde::Serialize;

use crate::engines::Engine;
use crate::measure::Usage;
use crate::say;
use crate::suites::Case;

/// One run of one engine.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The case, for example `observations`.
    pub case: &'static str,
    /// The engine, for example `duckdb:sorted`.
    pub engine: String,
    /// From 0.
    pub round: u32,
    /// Its resources.
    #[serde(flatten)]
    pub usage: Usage,
    /// The number of files it wrote.
    pub files: u64,
}

/// All measurements and problems.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// A description of the data, for example `scale 1, seed 42`.
    pub data: String,
    /// The number of threads of each engine.
    pub threads: usize,
    /// The kind of file system for the results.
    pub written_to: String,
    /// Each engine and its version.
    pub versions: Vec<(String, String)>,
    /// Each engine that could not be run, and why.
    pub left_out: Vec<(String, String)>,
    /// The runs, in order.
    pub measured: Vec<Measured>,
    /// Failed runs and differing results.
    pub problems: Vec<String>,
    /// Whether the tables show milliseconds instead of seconds.
    #[serde(skip)]
    pub milliseconds: bool,
}

impl Report {
    /// A report without runs; `out` is the folder for results, `engines` are the available and the missing ones.
    pub(crate) fn new(data: String, out: &Path, threads: usize, engines: &[(&Engine, Result<String, String>)]) -> Self {
        let is_there = |(engine, found): &(&Engine, Result<_, _>)| Some((engine.to_string(), found.clone().ok()?));
        let is_not = |(engine, found): &(&Engine, Result<_, _>)| Some((engine.to_string(), found.clone().err()?));
        let left_out: Vec<(String, String)> = engines.iter().filter_map(is_not).collect();
        for (engine, reason) in &left_out {
            say(&format!("!!! {engine} IS LEFT OUT: {reason}"));
        }
        Self {
            data,
            threads,
            written_to: file_system(out),
            versions: engines.iter().filter_map(is_there).collect(),
            left_out,
            measured: Vec::new(),
            problems: Vec::new(),
            milliseconds: false,
        }
    }

    /// Records and prints a problem of these engines in a case, once for all rounds.
    pub(crate) fn problem(&mut self, case: Case, engines: &[&Engine], what: String) {
        let engines: Vec<_> = engines.iter().map(|engine| engine.to_string()).collect();
        let problem = format!("{}, {}: {what}", case.name, engines.join(" and "));
        if !self.problems.contains(&problem) {
            say(&format!("!!! {problem}"));
            self.problems.push(problem);
        }
    }

    /// The report as JSON, with times in seconds and memory in bytes.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|e| Error::unexpected("the report cannot be written").because(e))
    }

    /// The cases and, in each, the engines, in the order in which they ran.
    fn cases(&self) -> Vec<(&'static str, Vec<Summary>)> {
        let mut cases: Vec<(&str, Vec<Summary>)> = Vec::new();
        for run in &self.measured {
            if cases.last().is_none_or(|(case, _)| *case != run.case) {
                cases.push((run.case, Vec::new()));
            }
            if let Some((_, engines)) = cases.last_mut() {
                match engines.iter_mut().find(|known| known.engine == run.engine) {
                    Some(known) => known.runs.push(run.clone()),
                    None => engines.push(Summary { engine: run.engine.clone(), runs: vec![run.clone()] }),
                }
            }
        }
        cases
    }
}

/// The runs of one engine at one case.
struct Summary {
    engine: String,
    runs: Vec<Measured>,
}

impl Summary {
    fn is(&self, tool: &str) -> bool {
        self.engine.split(':').next() == Some(tool)
    }

    fn sorted(&self, value: impl Fn(&Usage) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.runs.iter().map(|run| value(&run.usage)).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self, value: impl Fn(&Usage) -> f64) -> f64 {
        let values = self.sorted(value);
        (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
    }

    fn wall(&self) -> f64 {
        self.median(|usage| usage.wall)
    }

    fn peak(&self) -> f64 {
        self.median(|usage| usage.peak as f64)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, threads, written_to, versions, left_out, .. } = self;
        writeln!(f, "Data: {data}; {threads} threads each, results on {written_to}.")?;
        let mut versions: Vec<_> = versions.iter().map(|(_, version)| version.as_str()).collect();
        versions.dedup();
        writeln!(f, "Measured: {}.", versions.join(", "))?;
        for (engine, reason) in left_out {
            writeln!(f, "LEFT OUT: {engine} ({reason}).")?;
        }
        let cases = self.cases();
        let (unit, times, digits) = if self.milliseconds { ("ms", 1e3, 1) } else { ("s", 1.0, 2) };
        let mut rows =
            vec![format!("case | engine | wall {unit} (least - most) | CPU {unit} | peak MB | files | runs")];
        for (case, engines) in &cases {
            for engine in engines {
                let walls = engine.sorted(|usage| usage.wall * times);
                rows.push(format!(
                    "{case} | {} | {:.digits$} ({:.digits$} - {:.digits$}) | {:.digits$} | {:.*} | {} | {}",
                    engine.engine,
                    engine.wall() * times,
                    walls[0],
                    walls[walls.len() - 1],
                    engine.median(|usage| usage.cpu) * times,
                    // Megabytes, with a digit if they are few.
                    usize::from(self.milliseconds),
                    engine.peak() / 1e6,
                    engine.runs[0].files,
                    walls.len(),
                ));
            }
        }
        write_table(f, &rows)?;
        let mut rows =
            vec!["hardtack | wall / faster of DuckDB, Polars | peak / leaner of the two | wall / Spark".to_owned()];
        // How the way that is measured compares with our other ways.
        let mut modes: Vec<&str> = Vec::new();
        for engine in cases.iter().flat_map(|(_, engines)| engines) {
            if engine.engine.starts_with("hardtack:") && !modes.contains(&engine.engine.as_str()) {
                modes.push(&engine.engine);
            }
        }
        modes.iter().for_each(|mode| rows[0].push_str(&format!(" | wall / {mode}")));
        for (case, engines) in &cases {
            if let Some(ours) = engines.iter().find(|engine| engine.engine == "hardtack") {
                let least = |tools: &[&str], value: fn(&Summary) -> f64| {
                    let others = engines.iter().filter(|engine| tools.iter().any(|tool| engine.is(tool)));
                    let least = others.map(value).min_by(f64::total_cmp);
                    least.map_or("-".to_owned(), |least| format!("{:.3}", value(ours) / least))
                };
                let both = ["duckdb", "polars"];
                let (wall, peak) = (least(&both, Summary::wall), least(&both, Summary::peak));
                let mut row = format!("{case} | {wall} | {peak} | {}", least(&["spark"], Summary::wall));
                for mode in &modes {
                    let other = engines.iter().find(|engine| engine.engine == *mode);
                    let ratio = other.map_or("-".to_owned(), |other| format!("{:.3}", ours.wall() / other.wall()));
                    row.push_str(&format!(" | {ratio}"));
                }
                rows.push(row);
            }
        }
        let compared = self.measured.iter().any(|run| run.engine != "hardtack");
        if compared && rows.len() > 1 {
            write_table(f, &rows)?;
        }
        for problem in &self.problems {
            writeln!(f, "\nPROBLEM: {problem}")?;
        }
        Ok(())
    }
}

/// Writes a Markdown table with aligned columns; the first row is the header.
pub(crate) fn write_table(f: &mut fmt::Formatter<'_>, rows: &[String]) -> fmt::Result {
    let cells: Vec<Vec<&str>> = rows.iter().map(|row| row.split(" | ").collect()).collect();
    let widths: Vec<usize> =
        (0..cells[0].len()).map(|at| cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    writeln!(f)?;
    for (line, row) in cells.iter().enumerate() {
        let padded: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(f, "| {} |", padded.join(" | "))?;
        if line == 0 {
            let rule: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
            writeln!(f, "| {} |", rule.join(" | "))?;
        }
    }
    Ok(())
}

/// The kind of file system that a folder is on, or will be on.
pub(crate) fn file_system(folder: &Path) -> String {
    let unknown = "an unknown file system".to_owned();
    let folder = std::path::absolute(folder).unwrap_or_default();
    let Some(existing) = folder.ancestors().find(|folder| folder.is_dir()) else { return unknown };
    #[cfg(target_os = "linux")]
    if let Ok(found) = nix::sys::statfs::statfs(existing) {
        use nix::sys::statfs::{
            BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC,
        };
        let known = [
            (TMPFS_MAGIC, "tmpfs"),
            (EXT4_SUPER_MAGIC, "ext4"),
            (XFS_SUPER_MAGIC, "xfs"),
            (BTRFS_SUPER_MAGIC, "btrfs"),
            (OVERLAYFS_SUPER_MAGIC, "overlayfs"),
        ];
        let name = known.iter().find(|(magic, _)| *magic == found.filesystem_type());
        return name.map_or(unknown, |(_, name)| (*name).to_owned());
    }
    let _ = existing;
    unknown
}

#[cfg(test)]
mod tests;
