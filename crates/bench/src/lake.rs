//! The lake that the engines of some suites read: written by our jobs before the first round.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use hardtack_core::{Error, Result};
use serde_json::Value;

use crate::engines::Programs;
use crate::generate::Recipe;
use crate::suites::Suite;
use crate::{files, measure, say};

/// The rows of each side of a comparison at scale 1.
const CUSTOMERS: u32 = 2_000_000;
/// The files of each side.
const FILES: u64 = 4;

/// Prepares the lake of a suite in a folder: `lake` has tables, `files` the files of these in folders of their partitions,
/// `state` the catalog with the tables of both.
pub(crate) fn prepare(suite: Suite, programs: &Programs, data: &Path, recipe: Recipe, folder: &Path) -> Result<()> {
    files::remove_folder(folder)?;
    files::create_folder(folder)?;
    say("preparing the lake");
    let lake = Lake { programs, data, folder, state: folder.join("state") };
    match suite {
        Suite::Scan => {
            lake.run(programs.job("observations", data, &folder.join("lake"), &lake.state))?;
            lake.crawl("lake", "lake")
        }
        Suite::IcebergRead => {
            lake.observations(&["table", "years"])?;
            lake.link("observations")?;
            lake.link("by_year")?;
            lake.crawl("files", "files")
        }
        Suite::IcebergIncremental => {
            // The first run reads all that is there, and the bookmark is behind it.
            lake.observations(&["base", "new", "batch"])?;
            files::remove_folder(&folder.join("lake/new_observations"))
        }
        Suite::IcebergCompact => {
            lake.observations(&["table"])?;
            lake.link("observations")?;
            lake.iceberg(&["alter", "lake.observations", "partition-by", "year(date)"])?;
            lake.iceberg(&["tag", "lake.observations", SMALL])
        }
        Suite::Compare => lake.customers(recipe.rows(CUSTOMERS)?),
        _ => Ok(()),
    }
}

/// The tag of the version that has not been compacted.
const SMALL: &str = "small";

/// Moves the table that was compacted back to its small files.
pub(crate) fn roll_back(programs: &Programs, folder: &Path) -> Result<()> {
    let state = folder.join("state");
    Lake { programs, data: folder, folder, state }.iceberg(&["rollback", "lake.observations", "--to", SMALL])
}

struct Lake<'a> {
    programs: &'a Programs,
    data: &'a Path,
    folder: &'a Path,
    state: PathBuf,
}

impl Lake<'_> {
    fn run(&self, command: Vec<OsString>) -> Result<()> {
        measure::measure(&command, &self.folder.join("log.txt"), 0).map(|_| ())
    }

    /// Runs the job with these cases.
    fn observations(&self, cases: &[&str]) -> Result<()> {
        for case in cases {
            let mut command = self.programs.job("bench_iceberg", self.data, &self.folder.join("lake"), &self.state);
            command.extend(["--case", case].map(Into::into));
            self.run(command)?;
        }
        Ok(())
    }

    /// Records the data sets of a folder in a database of the catalog.
    fn crawl(&self, folder: &str, database: &str) -> Result<()> {
        let mut command = self.programs.hardtack(&["crawl", "--database", database], &self.state);
        command.push(self.folder.join(folder).into());
        self.run(command)
    }

    /// Looks after a table.
    fn iceberg(&self, words: &[&str]) -> Result<()> {
        let words: Vec<&str> = ["iceberg"].iter().chain(words).copied().collect();
        self.run(self.programs.hardtack(&words, &self.state))
    }

    /// Links the files of a table.
    fn link(&self, table: &str) -> Result<()> {
        link_table(self.programs, &self.state, &format!("lake.{table}"), &self.folder.join("files").join(table))
    }

    /// Writes two versions of customers: one in a hundred has changed, one in a thousand was added, and one removed.
    fn customers(&self, rows: u64) -> Result<()> {
        let columns = "value as id, substr(md5(cast(value as string)), 1, 12) as name, \
            case when value % 50 <> 0 then concat(substr(md5(cast(value * 3 as string)), 1, 10), '@sea.example') end as email, \
            date '2020-01-01' + cast(value % 2000 as int) as since";
        let [before, after] = [
            ("value * 7919 % 1000000 / 100.0", "value % 5 as visits", "value % 1000 <> 1"),
            (
                "case when value % 125 = 7 then -1 else value * 7919 % 1000000 / 100.0 end",
                "case when value % 500 = 9 then null else value % 5 end as visits",
                "value % 1000 <> 2",
            ),
        ];
        for (side, (balance, visits, kept)) in [("before", before), ("after", after)] {
            files::create_folder(&self.folder.join(side))?;
            for file in 0..FILES {
                let (from, to) = (rows * file / FILES + 1, rows * (file + 1) / FILES);
                let query = format!(
                    "select {columns}, {balance} as balance, {visits} from generate_series({from}, {to}) where {kept}"
                );
                let output = self.folder.join(side).join(format!("part-{file}.parquet"));
                let mut command = self.programs.hardtack(&["sql", "-c", &query], &self.state);
                command.extend(["--output".into(), output.into()]);
                self.run(command)?;
            }
        }
        Ok(())
    }
}

/// Links the data files of a table's current version into folders of their partitions.
pub(crate) fn link_table(programs: &Programs, state: &Path, table: &str, to: &Path) -> Result<()> {
    let (database, name) = table.split_once('.').unwrap_or_default();
    let query = format!("select content, file_path, partition from {database}.\"{name}$files\"");
    let command = programs.hardtack(&["sql", "--format", "json", "-c", &query], state);
    let words: Vec<_> = command[1..].iter().map(|word| word.as_os_str()).collect();
    let failed =
        |why: String| Error::unexpected(format!("the files of a table are not known: {why}")).with("table", table);
    for (n, line) in measure::ask(&command[0], &words).map_err(failed)?.lines().enumerate() {
        let file: Value = serde_json::from_str(line).map_err(|e| failed(e.to_string()))?;
        let text = |name: &str| file[name].as_str().unwrap_or_default();
        if text("content") != "DATA" {
            return Err(failed(format!("it has files of deletes, such as {}", text("file_path"))));
        }
        let folder = to.join(partition_folders(text("partition")).ok_or_else(|| failed(line.to_owned()))?);
        files::create_folder(&folder)?;
        let path = text("file_path");
        files::link(Path::new(path.strip_prefix("file://").unwrap_or(path)), &folder.join(format!("{n}.parquet")))?;
    }
    Ok(())
}

/// The folders of a partition: `{"date_day":"2020-02-29"}` is `date_day=2020-02-29`. Years count from 1970.
fn partition_folders(partition: &str) -> Option<PathBuf> {
    let values: serde_json::Map<String, Value> = match partition {
        "" => Default::default(),
        partition => serde_json::from_str(partition).ok()?,
    };
    let folder = |(name, value): (&String, &Value)| match (value, value.as_i64()) {
        (Value::String(value), _) => format!("{name}={value}"),
        (_, Some(years)) if name.ends_with("_year") => format!("{name}={}", 1970 + years),
        (value, _) => format!("{name}={value}"),
    };
    Some(values.iter().map(folder).collect())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("", Some(""))]
    #[case("{}", Some(""))]
    #[case(r#"{"date_day":"2020-02-29"}"#, Some("date_day=2020-02-29"))]
    #[case(r#"{"date_year":50,"id_bucket":3}"#, Some("date_year=2020/id_bucket=3"))]
    #[case("a", None)]
    fn partitions_are_folders(#[case] partition: &str, #[case] expected: Option<&str>) {
        assert_eq!(partition_folders(partition), expected.map(PathBuf::from));
    }
}
