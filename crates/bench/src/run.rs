//! Runs the cases of a suite: each engine in turn, round by round, so that other load on the machine affects all of
//! them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use hardtack_core::{Error, Result};
use parquet::arrow::ArrowWriter;

use crate::check::Digest;
use crate::engines::{EMPTY, Engine, Programs, Tool};
use crate::generate::{Found, Recipe, find, generate, warm};
use crate::report::{Measured, Report};
use crate::suites::{Case, Suite, package};
use crate::{cores, files, lake, measure, say};

/// What to run and where: the options of all suites.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// How much data, for example `0.01`; at 1 some hundred MB or 1.4 GB
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Seed of the data
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Rounds; each engine runs once in each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// Rounds in which Spark takes part [default: all]
    #[arg(long, value_name = "RUNS")]
    pub spark_runs: Option<u32>,
    /// Folder to write results to, for example on a tmpfs: `/dev/shm/bench`
    #[arg(long, value_name = "FOLDER", default_value = "target/bench/out")]
    pub out: PathBuf,
    /// Folder of the data, which is generated if it is missing [default: `target/bench/DATA-SCALE-SEED`]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Who takes part; with a mode, for example `duckdb:sorted`
    #[arg(long, value_delimiter = ',')]
    pub engines: Vec<Engine>,
    /// Which cases
    #[arg(long, value_parser = Suite::Elt.case_parser(), value_delimiter = ',')]
    pub cases: Vec<Case>,
    /// Memory limit of those who have one (hardtack, DuckDB), for example `1GiB`
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Threads of each engine [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Where the jobs' binaries are.
    #[command(flatten)]
    pub binaries: Binaries,
    /// Python that has the others installed [default: that of `.ci/bench-python`, or else `python3`]
    #[arg(long, env = "HARDTACK_BENCH_PYTHON", value_name = "FILE")]
    pub python: Option<PathBuf>,
    /// Do not compare the results
    #[arg(long)]
    pub no_check: bool,
    /// Leave the results of the last round where they are
    #[arg(long)]
    pub keep: bool,
    /// Print all that was measured as JSON, not as tables
    #[arg(long)]
    pub json: bool,
}

/// Where hardtack's binaries are.
#[derive(Debug, clap::Args)]
pub struct Binaries {
    /// Folder of the jobs' binaries [default: that of this command, after building them if cargo started it]
    #[arg(long, value_name = "FOLDER")]
    pub job_bin_dir: Option<PathBuf>,
    /// Build the jobs first, also when not started by cargo
    #[arg(long, conflicts_with = "job_bin_dir")]
    pub build: bool,
    /// Set by cargo for what it runs.
    #[arg(long, env = "CARGO", hide = true)]
    pub cargo: Option<PathBuf>,
}

impl Options {
    /// Runs everything; failures of engines are in the report.
    ///
    /// # Errors
    /// `Usage` for invalid arguments, `NotFound` if a binary is not built, `Unexpected` if files cannot be created or
    /// what all engines read cannot be prepared.
    pub fn run(&self, suite: Suite) -> Result<Report> {
        if let Some(other) = self.engines.iter().find(|engine| !suite.has(engine)) {
            return Err(Error::usage(format!("an engine does not take part in `{}`", suite.name()))
                .with("engine", other)
                .with("engines", suite.engines().join(", ")));
        }
        let programs = self.programs()?;
        let engines = self.engines.iter().map(|engine| (engine, programs.find(engine, suite)));
        let engines: Vec<(&Engine, Result<String, String>)> = engines.collect();
        let (described, mut data) = self.data(suite)?;
        let mut report = Report::new(described, &self.out, self.threads.unwrap_or_else(cores), &engines);
        report.milliseconds = suite == Suite::Start;
        let engines: Vec<&Engine> =
            engines.iter().filter(|(_, found)| found.is_ok()).map(|(engine, _)| *engine).collect();
        let lake = self.out.join("bench-lake");
        if suite.has_lake() {
            let recipe = Recipe { scale: self.scale, seed: self.seed };
            lake::prepare(suite, &programs, &data, recipe, &lake)?;
            data = lake.clone();
        }
        for case in &self.cases {
            let mut ready = engines.clone();
            ready.retain(|engine| self.rounds_of(engine) > 0);
            if let Some(before) = case.before.and_then(|name| suite.case(name)) {
                ready.retain(|engine| match self.prepare(before, *case, engine, &programs, &data) {
                    Ok(()) => true,
                    Err(error) => {
                        report.problem(*case, &[engine], error.chain());
                        false
                    }
                });
            }
            for round in 0..self.runs {
                self.run_round(*case, round, &ready, &programs, &data, &mut report)?;
            }
            files::remove_folder(&self.before(*case))?;
        }
        if !self.keep {
            files::remove_folder(&lake)?;
        }
        // Removed if nothing was kept and nothing else is in it.
        let _ = std::fs::remove_dir(&self.out);
        Ok(report)
    }

    /// The description and the folder of the data, which are generated if they are missing.
    fn data(&self, suite: Suite) -> Result<(String, PathBuf)> {
        let recipe = Recipe { scale: self.scale, seed: self.seed };
        let Some(data) = suite.data() else {
            let described = if suite.has_lake() { format!("scale {}", self.scale) } else { "none".to_owned() };
            return Ok((described, PathBuf::new()));
        };
        let folder = self
            .data
            .clone()
            .unwrap_or_else(|| format!("target/bench/{}-{}-{}", data.name(), self.scale, self.seed).into());
        let described = match find(data, recipe, &folder)? {
            Found::Foreign => format!("the files found in {}", folder.display()),
            Found::Ours => recipe.to_string(),
            Found::Nothing => {
                say(&format!("generating {recipe} into {}", folder.display()));
                generate(data, recipe, &folder, cores())?;
                recipe.to_string()
            }
        };
        warm(data, &folder)?;
        Ok((described, folder))
    }

    /// Runs every engine once, and compares each result with the first one.
    fn run_round(
        &self,
        case: Case,
        round: u32,
        engines: &[&Engine],
        programs: &Programs,
        data: &Path,
        report: &mut Report,
    ) -> Result<()> {
        let mut first: Option<(&Engine, Digest)> = None;
        for engine in engines.iter().filter(|engine| round < self.rounds_of(engine)) {
            let out = self.folder(case).join(engine.folder());
            match self.run_engine(case, round, engine, programs, data) {
                Ok(measured) => report.measured.push(measured),
                Err(error) => {
                    report.problem(case, &[engine], error.chain());
                    continue;
                }
            }
            // What starts has no result worth comparing.
            if !self.no_check && case.suite != Suite::Start {
                first = compare(case, first, engine, &compared(programs, engine, case, data, &out), report);
            }
            let keep = self.keep && round + 1 == self.rounds_of(engine);
            // The first one is needed to show where others differ from it.
            if !keep && first.as_ref().is_none_or(|(first, _)| first != engine) {
                files::remove_folder(&out)?;
            }
        }
        if self.keep { Ok(()) } else { files::remove_folder(&self.folder(case)) }
    }

    fn run_engine(
        &self,
        case: Case,
        round: u32,
        engine: &Engine,
        programs: &Programs,
        data: &Path,
    ) -> Result<Measured> {
        let out = self.folder(case).join(engine.folder());
        files::remove_folder(&out)?;
        let result = programs.result(engine, case, &out);
        match case.before {
            Some(_) => files::copy_folder(&self.before(case).join(engine.folder()), &out)?,
            // A job creates its target itself.
            None if engine.tool == Tool::Hardtack && case.binary != "hardtack" => files::create_folder(&out)?,
            None => files::create_folder(&result)?,
        }
        if case.suite == Suite::Start {
            let source = out.join(EMPTY).join("customer_events");
            files::create_folder(&source)?;
            files::write(&source.join("none.jsonl"), String::new())?;
        }
        // Dirty pages of others must not be written back while this one is measured.
        nix::unistd::sync();
        let code = if engine.tool == Tool::Hardtack { case.exit_code() } else { 0 };
        let log = out.join("log.txt");
        let usage = measure::measure(&programs.command(engine, case, data, &out), &log, code)?;
        say(&format!("{} {engine}: {:.3} s, {:.0} MB", case.name, usage.wall, usage.peak as f64 / 1e6));
        let compared = compared(programs, engine, case, data, &out);
        if let Some((state, table)) = programs.table(engine, case, data, &out) {
            lake::link_table(programs, &state, table, &compared)?;
        }
        if engine.tool == Tool::Hardtack {
            match case.suite {
                Suite::Compare => write_counts(&files::read(&log)?, &compared.join("counts.parquet"))?,
                // The next round begins with the small files, too.
                Suite::IcebergCompact => lake::roll_back(programs, data)?,
                _ => {}
            }
        }
        let files = files::list(&compared)?.len() as u64;
        Ok(Measured { case: case.name, engine: engine.to_string(), round, usage, files })
    }

    /// Keeps an engine's result of another case, with which it begins this one in each round.
    fn prepare(&self, before: Case, case: Case, engine: &Engine, programs: &Programs, data: &Path) -> Result<()> {
        // Commits name the folder that they were made in, so it is that of the rounds.
        let out = self.folder(case).join(engine.folder());
        files::remove_folder(&out)?;
        files::create_folder(&if engine.tool == Tool::Hardtack {
            out.clone()
        } else {
            programs.result(engine, before, &out)
        })?;
        say(&format!("{} {engine}: preparing", case.name));
        measure::measure(&programs.command(engine, before, data, &out), &out.join("log.txt"), 0)?;
        let kept = self.before(case).join(engine.folder());
        files::remove_folder(&kept)?;
        files::create_folder(&self.before(case))?;
        files::rename(&out, &kept)
    }

    /// The folder of a case's results while they are needed.
    fn folder(&self, case: Case) -> PathBuf {
        self.out.join(format!("bench-{}", case.name))
    }

    /// The folder of what engines begin a case with.
    fn before(&self, case: Case) -> PathBuf {
        self.out.join(format!("bench-{}-before", case.name))
    }

    fn rounds_of(&self, engine: &Engine) -> u32 {
        match engine.tool {
            Tool::Spark => self.spark_runs.unwrap_or(self.runs).min(self.runs),
            _ => self.runs,
        }
    }

    fn programs(&self) -> Result<Programs> {
        let venv = std::env::home_dir().map(|home| home.join(".cache/hardtack/bench-venv/bin/python"));
        let programs = Programs {
            jobs: self.binaries.folder()?,
            python: match (&self.python, venv) {
                (Some(python), _) => python.clone(),
                (None, Some(python)) if python.is_file() => python,
                (None, _) => "python3".into(),
            },
            memory_limit: self.memory_limit.clone(),
            threads: self.threads,
        };
        self.binaries.find(&programs, &self.needed())?;
        Ok(programs)
    }

    /// The binaries of hardtack that are needed, each once.
    fn needed(&self) -> Vec<&'static str> {
        let ours = self.engines.iter().any(|engine| engine.tool == Tool::Hardtack);
        let mut binaries = Vec::new();
        for case in &self.cases {
            for binary in case.others().iter().copied().chain(ours.then_some(case.binary)) {
                if !binaries.contains(&binary) {
                    binaries.push(binary);
                }
            }
        }
        binaries
    }
}

impl Binaries {
    /// The folder that they are in, and are built into.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        if let Some(folder) = &self.job_bin_dir {
            return Ok(folder.clone());
        }
        let this =
            std::env::current_exe().map_err(files::failed("this command does not find itself", Path::new("?")))?;
        Ok(this.parent().unwrap_or(Path::new(".")).to_owned())
    }

    /// Sees to it that these binaries are there.
    pub(crate) fn find(&self, programs: &Programs, needed: &[&'static str]) -> Result<()> {
        let packages: Vec<&str> = needed.iter().map(|binary| package(binary)).collect();
        if !needed.is_empty() && self.job_bin_dir.is_none() && (self.build || self.cargo.is_some()) {
            self.build(&programs.jobs, &packages)?;
        }
        match needed.iter().map(|binary| programs.binary(binary)).find(|binary| !binary.is_file()) {
            None => Ok(()),
            Some(missing) => {
                let packages: Vec<_> = packages.iter().map(|package| format!("-p {package}")).collect();
                let remedy = format!("run `cargo build --release {}`, or pass --build", packages.join(" "));
                Err(Error::not_found(format!("a job is not built; {remedy}")).with("binary", missing.display()))
            }
        }
    }

    /// Builds packages with the profile of this command, into its folder.
    fn build(&self, folder: &Path, packages: &[&str]) -> Result<()> {
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            None | Some("debug") => "dev",
            Some(profile) => profile,
        };
        let mut cargo = Command::new(self.cargo.as_deref().unwrap_or(Path::new("cargo")));
        cargo.args(["build", "--quiet", "--profile", profile, "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        cargo.arg("--target-dir").arg(folder.parent().unwrap_or(folder));
        for package in packages {
            cargo.args(["--package", package]);
        }
        match cargo.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::unexpected("the jobs cannot be built").with("cargo", status)),
            Err(e) => Err(Error::unexpected("cargo cannot be started").because(e)),
        }
    }
}

/// The folder of a result that is compared: what the engine has written, or the files of its Iceberg table, which are linked.
fn compared(programs: &Programs, engine: &Engine, case: Case, data: &Path, out: &Path) -> PathBuf {
    match programs.table(engine, case, data, out) {
        Some(_) => out.join("table"),
        None => programs.result(engine, case, out),
    }
}

/// Writes the counts that `hardtack compare --json` has printed as the others do.
fn write_counts(printed: &str, to: &Path) -> Result<()> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::unexpected("counts cannot be written").because(e);
    let line = printed.lines().last().unwrap_or_default();
    let counts: serde_json::Value = serde_json::from_str(line).map_err(|e| failed(e.into()))?;
    let column = |name| (name, Arc::new(Int64Array::from(vec![counts[name].as_i64()])) as ArrayRef);
    let counts = RecordBatch::try_from_iter_with_nullable(
        ["added", "removed", "changed"].map(column).map(|(name, count)| (name, count, true)),
    );
    let counts = counts.map_err(|e| failed(e.into()))?;
    let file = File::create(to).map_err(files::failed("cannot create a file", to))?;
    let written = ArrowWriter::try_new(file, counts.schema(), None).and_then(|mut writer| {
        writer.write(&counts)?;
        writer.close()
    });
    written.map(|_| ()).map_err(|e| failed(e.into()))
}

/// Compares a result with the first one of the round, which it returns.
fn compare<'a>(
    case: Case,
    first: Option<(&'a Engine, Digest)>,
    engine: &'a Engine,
    result: &Path,
    report: &mut Report,
) -> Option<(&'a Engine, Digest)> {
    let digest = match Digest::of(result, case.columns, cores()) {
        Ok(digest) if case.by_folder => digest,
        Ok(digest) => digest.whole(),
        Err(error) => {
            report.problem(case, &[engine], error.chain());
            return first;
        }
    };
    let flaws = digest.flaws();
    if case.one_file && !flaws.is_empty() {
        report.problem(case, &[engine], flaws.join("\n  "));
    }
    if !case.sorted_by.is_empty() {
        match digest.unsorted(case.sorted_by) {
            Ok(unsorted) if unsorted.is_empty() => {}
            Ok(unsorted) => report.problem(case, &[engine], unsorted.join("\n  ")),
            Err(error) => report.problem(case, &[engine], error.chain()),
        }
    }
    let Some((other, expected)) = first else { return Some((engine, digest)) };
    let names = [other.to_string(), engine.to_string()];
    match expected.differences(&digest, [&names[0], &names[1]]) {
        Ok(differences) if differences.is_empty() => {}
        Ok(differences) => {
            report.problem(case, &[other, engine], format!("different results\n  {}", differences.join("\n  ")))
        }
        Err(error) => report.problem(case, &[other, engine], error.chain()),
    }
    Some((other, expected))
}
