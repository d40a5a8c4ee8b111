//! Many small appends: how the metadata of an Iceberg table grow, and what planning a query takes in the end.

use std::fmt;
use std::path::{Path, PathBuf};

use hardtack_core::{Error, Result};
use serde::Serialize;
use serde_json::Value;

use crate::engines::Programs;
use crate::measure::Usage;
use crate::report::{file_system, write_table};
use crate::run::Binaries;
use crate::{files, measure, say};

/// The rows of a run.
const PEOPLE: u32 = 100;
/// What is planned, and what is planned and run.
const QUERIES: [(&str, &str); 2] = [
    ("explain", "explain select * from lake.people where id = 7"),
    ("one row", "select * from lake.people where id = 7 limit 1"),
];

/// How often to append, and where.
#[derive(Debug, clap::Args)]
pub struct Appends {
    /// How many runs append to the table
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// After how many of them its metadata are looked at
    #[arg(long, value_name = "RUNS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub every: u32,
    /// How often each query is measured in the end
    #[arg(long, value_name = "TIMES", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub queries: u32,
    /// Folder to write to, for example on a tmpfs: `/dev/shm/bench`
    #[arg(long, value_name = "FOLDER", default_value = "target/bench/out")]
    pub out: PathBuf,
    /// Where the binaries are.
    #[command(flatten)]
    pub binaries: Binaries,
    /// Leave the table where it is
    #[arg(long)]
    pub keep: bool,
    /// Print all that was measured as JSON, not as tables
    #[arg(long)]
    pub json: bool,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Appended {
    /// The kind of file system that was written to.
    written_to: String,
    /// The table after some of the runs, and at last after snapshots have expired.
    tables: Vec<State>,
    /// What removing the snapshots took.
    expire: Usage,
    /// Each query, before and after that.
    queries: Vec<Query>,
}

/// A table at a time.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct State {
    /// The runs until then.
    runs: u32,
    /// Whether snapshots have expired.
    expired: bool,
    /// Those since the last time.
    last: Vec<Usage>,
    /// The bytes of the current `metadata.json`.
    metadata_bytes: u64,
    /// The bytes of the current snapshot's list of manifests.
    manifest_list_bytes: u64,
    /// Its manifests.
    manifests: u64,
    /// Its data files.
    data_files: u64,
    /// All snapshots.
    snapshots: u64,
    /// All files of metadata.
    metadata_files: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Query {
    name: &'static str,
    expired: bool,
    measured: Vec<Usage>,
}

impl Appends {
    /// Runs everything.
    ///
    /// # Errors
    /// `NotFound` if a binary is not built, `Unexpected` if one fails or the table does not have all rows.
    pub fn run(&self) -> Result<Appended> {
        let programs =
            Programs { jobs: self.binaries.folder()?, python: PathBuf::new(), memory_limit: None, threads: None };
        self.binaries.find(&programs, &["publish_people", "hardtack"])?;
        let folder = std::path::absolute(self.out.join("bench-appends"))
            .map_err(files::failed("there is no such folder", &self.out))?;
        files::remove_folder(&folder)?;
        let table = Table { programs, state: folder.join("state"), folder };
        let report = self.measure(&table)?;
        if !self.keep {
            files::remove_folder(&table.folder)?;
            let _ = std::fs::remove_dir(&self.out);
        }
        Ok(report)
    }

    fn measure(&self, table: &Table) -> Result<Appended> {
        table.deliver()?;
        let (mut tables, mut last) = (Vec::new(), Vec::new());
        for run in 1..=self.runs {
            last.push(table.append()?);
            if run % self.every == 0 || run == self.runs {
                say(&format!("{run} runs"));
                tables.push(table.look(run, false, std::mem::take(&mut last))?);
            }
        }
        let mut queries = self.queries(table, false)?;
        let expire = table.hardtack(&["iceberg", "expire", "lake.people", "--older-than", "0s"])?;
        tables.push(table.look(self.runs, true, Vec::new())?);
        queries.extend(self.queries(table, true)?);
        let (rows, wanted) = (table.count("lake.people")?, u64::from(self.runs) * u64::from(PEOPLE));
        if rows != wanted {
            return Err(Error::unexpected("the table does not have the rows of all runs")
                .with("rows", rows)
                .with("wanted", wanted));
        }
        Ok(Appended { written_to: file_system(&self.out), tables, expire, queries })
    }

    fn queries(&self, table: &Table, expired: bool) -> Result<Vec<Query>> {
        let measured = |query: &str| -> Result<Vec<Usage>> {
            (0..self.queries).map(|_| table.hardtack(&["sql", "-c", query])).collect()
        };
        QUERIES.iter().map(|(name, query)| Ok(Query { name, expired, measured: measured(query)? })).collect()
    }
}

/// The table, and the programs that know it.
struct Table {
    programs: Programs,
    folder: PathBuf,
    state: PathBuf,
}

impl Table {
    /// Writes the people that every run reads.
    fn deliver(&self) -> Result<()> {
        let people =
            (1..=PEOPLE).map(|id| format!("{{\"id\": {id}, \"name\": \"Person {id}\", \"age\": {}}}\n", 26 + id % 60));
        let folder = self.folder.join("source/people");
        files::create_folder(&folder)?;
        files::write(&folder.join("people.jsonl"), people.collect())
    }

    fn append(&self) -> Result<Usage> {
        let (source, target) = (self.folder.join("source"), self.folder.join("lake"));
        let command = self.programs.job("publish_people", &source, &target, &self.state);
        measure::measure(&command, &self.folder.join("log.txt"), 0)
    }

    fn hardtack(&self, words: &[&str]) -> Result<Usage> {
        measure::measure(&self.programs.hardtack(words, &self.state), &self.folder.join("log.txt"), 0)
    }

    /// The number of rows of a table.
    fn count(&self, table: &str) -> Result<u64> {
        let query = format!("select count(*) from {table}");
        let command = self.programs.hardtack(&["sql", "--format", "csv", "-c", &query], &self.state);
        let words: Vec<_> = command[1..].iter().map(|word| word.as_os_str()).collect();
        let printed = measure::ask(&command[0], &words).unwrap_or_else(|error| error);
        let last = printed.lines().last().and_then(|line| line.parse().ok());
        last.ok_or_else(|| Error::unexpected("rows could not be counted").with("table", table).with("said", printed))
    }

    fn look(&self, runs: u32, expired: bool, last: Vec<Usage>) -> Result<State> {
        let metadata = files::list(&self.folder.join("lake/people/metadata"))?;
        // They are numbered.
        let current = metadata.iter().rfind(|file| file.to_string_lossy().ends_with(".metadata.json"));
        let current = current.ok_or_else(|| Error::not_found("the table has no metadata"))?;
        let Summary { manifest_list, data_files, snapshots } = summary(&files::read(current)?)
            .ok_or_else(|| Error::unexpected("the metadata are not understood").with("file", current.display()))?;
        Ok(State {
            runs,
            expired,
            last,
            metadata_bytes: size(current)?,
            manifest_list_bytes: size(Path::new(&manifest_list))?,
            manifests: self.count("lake.\"people$manifests\"")?,
            data_files,
            snapshots,
            metadata_files: metadata.len() as u64,
        })
    }
}

fn size(file: &Path) -> Result<u64> {
    std::fs::metadata(file).map(|found| found.len()).map_err(files::failed("cannot read a file", file))
}

struct Summary {
    manifest_list: String,
    data_files: u64,
    snapshots: u64,
}

/// What a `metadata.json` says of the current snapshot.
fn summary(metadata: &str) -> Option<Summary> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let snapshots = metadata["snapshots"].as_array()?;
    let current = snapshots.iter().find(|one| one["snapshot-id"] == metadata["current-snapshot-id"])?;
    let list = current["manifest-list"].as_str()?;
    Some(Summary {
        manifest_list: list.strip_prefix("file://").unwrap_or(list).to_owned(),
        data_files: current["summary"]["total-data-files"].as_str()?.parse().ok()?,
        snapshots: snapshots.len() as u64,
    })
}

impl Appended {
    /// The report as JSON, with times in seconds and memory in bytes.
    ///
    /// # Errors
    /// None that is known.
    pub fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|e| Error::unexpected("the report cannot be written").because(e))
    }
}

impl fmt::Display for Appended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Runs of `publish_people`, {PEOPLE} rows each, on {}.", self.written_to)?;
        let mut rows = vec![
            "runs | wall ms of the last | CPU ms | peak MB | metadata.json bytes | manifest list bytes | manifests | \
             data files | snapshots | metadata files"
                .to_owned(),
        ];
        rows.extend(self.tables.iter().map(|table| {
            let runs = if table.expired { format!("{}, expired", table.runs) } else { table.runs.to_string() };
            let State { metadata_bytes, manifest_list_bytes, manifests, data_files, snapshots, metadata_files, .. } = table;
            format!(
                "{runs} | {} | {metadata_bytes} | {manifest_list_bytes} | {manifests} | {data_files} | {snapshots} | {metadata_files}",
                shown(&table.last)
            )
        }));
        write_table(f, &rows)?;
        let mut rows = vec!["query | snapshots | wall ms (least - most) | CPU ms | peak MB | times".to_owned()];
        for Query { name, expired, measured } in &self.queries {
            let kept = if *expired { "expired" } else { "all" };
            rows.push(format!("{name} | {kept} | {} | {}", shown(measured), measured.len()));
        }
        rows.push(format!("expire | all | {} | 1", shown(&[self.expire])));
        write_table(f, &rows)
    }
}

/// Medians as cells: wall milliseconds with their range, processor milliseconds, megabytes.
fn shown(all: &[Usage]) -> String {
    let sorted = |value: fn(&Usage) -> f64| {
        let mut values: Vec<f64> = all.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let walls = sorted(|usage| usage.wall * 1e3);
    let (Some(least), Some(most)) = (walls.first(), walls.last()) else { return "- | - | -".to_owned() };
    let median = |values: &[f64]| (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    let (cpu, peak) = (sorted(|usage| usage.cpu * 1e3), sorted(|usage| usage.peak as f64 / 1e6));
    format!("{:.0} ({least:.0} - {most:.0}) | {:.0} | {:.0}", median(&walls), median(&cpu), median(&peak))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn usage(wall: f64) -> Usage {
        Usage { wall, cpu: wall / 2.0, peak: 50_000_000 }
    }

    #[test]
    fn a_report_has_the_table_over_time() {
        let state = State {
            runs: 100,
            expired: false,
            last: vec![usage(0.3), usage(0.1), usage(0.25)],
            metadata_bytes: 12_345,
            manifest_list_bytes: 6_789,
            manifests: 100,
            data_files: 100,
            snapshots: 100,
            metadata_files: 301,
        };
        let expired = State { expired: true, last: Vec::new(), metadata_bytes: 2_345, snapshots: 1, ..state.clone() };
        let query = |expired| Query { name: "explain", expired, measured: vec![usage(0.05), usage(0.06)] };
        let report = Appended {
            written_to: "tmpfs".to_owned(),
            tables: vec![state, expired],
            expire: usage(1.0),
            queries: vec![query(false), query(true)],
        };
        assert_snapshot!(report.to_string(), @"
        Runs of `publish_people`, 100 rows each, on tmpfs.

        | runs         | wall ms of the last | CPU ms | peak MB | metadata.json bytes | manifest list bytes | manifests | data files | snapshots | metadata files |
        | ------------ | ------------------- | ------ | ------- | ------------------- | ------------------- | --------- | ---------- | --------- | -------------- |
        | 100          | 250 (100 - 300)     | 125    | 50      | 12345               | 6789                | 100       | 100        | 100       | 301            |
        | 100, expired | -                   | -      | -       | 2345                | 6789                | 100       | 100        | 1         | 301            |

        | query   | snapshots | wall ms (least - most) | CPU ms | peak MB | times |
        | ------- | --------- | ---------------------- | ------ | ------- | ----- |
        | explain | all       | 55 (50 - 60)           | 28     | 50      | 2     |
        | explain | expired   | 55 (50 - 60)           | 28     | 50      | 2     |
        | expire  | all       | 1000 (1000 - 1000)     | 500    | 50      | 1     |
        ");
        assert!(report.json().unwrap().contains("\"manifest_list_bytes\": 6789"));
    }

    #[test]
    fn metadata_name_the_current_snapshot() {
        let metadata = r#"{"current-snapshot-id": 2, "snapshots": [
            {"snapshot-id": 1, "manifest-list": "a.avro", "summary": {"total-data-files": "1"}},
            {"snapshot-id": 2, "manifest-list": "file:///b.avro", "summary": {"total-data-files": "2"}}
        ]}"#;
        let found = summary(metadata).unwrap();
        assert_eq!((found.manifest_list.as_str(), found.data_files, found.snapshots), ("/b.avro", 2, 2));
        assert!(summary("{}").is_none());
    }
}
