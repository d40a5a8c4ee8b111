//! Runs the cases: each engine in turn, round by round, so that other load on the machine affects all of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use hardtack_core::{Error, Result};

use crate::check::Digest;
use crate::engines::{Case, Engine, Programs, Tool};
use crate::generate::{Found, Recipe, Table, find, generate};
use crate::report::{Measured, Report};
use crate::{cores, files, measure, say};

/// What to run and where.
#[derive(Debug, clap::Args)]
pub struct Elt {
    /// How much data, for example `0.01`; 1 is 1.4 GB
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
    /// Folder of the data, which is generated if it is missing [default: `target/bench/data-SCALE-SEED`]
    #[arg(long, value_name = "FOLDER")]
    pub data: Option<PathBuf>,
    /// Who takes part: hardtack, duckdb, polars, spark; with a mode, for example `duckdb:sorted`
    #[arg(long, value_delimiter = ',', default_value = "hardtack,duckdb,polars,spark")]
    pub engines: Vec<Engine>,
    /// Which cases
    #[arg(long, value_enum, value_delimiter = ',', default_value = "encounters,observations,sinusitis")]
    pub cases: Vec<Case>,
    /// Memory limit of those who have one (hardtack, DuckDB), for example `1GiB`
    #[arg(long, value_name = "SIZE")]
    pub memory_limit: Option<String>,
    /// Threads of each engine [default: one per core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Folder of the jobs' binaries [default: that of this command, after building them if cargo started it]
    #[arg(long, value_name = "FOLDER")]
    pub job_bin_dir: Option<PathBuf>,
    /// Build the jobs first, also when not started by cargo
    #[arg(long, conflicts_with = "job_bin_dir")]
    pub build: bool,
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
    /// Set by cargo for what it runs.
    #[arg(long, env = "CARGO", hide = true)]
    pub cargo: Option<PathBuf>,
}

impl Elt {
    /// Runs everything; failures of engines are in the report.
    ///
    /// # Errors
    /// `Usage` for invalid arguments, `NotFound` if a job is not built, `Unexpected` if files cannot be created.
    pub fn run(&self) -> Result<Report> {
        let recipe = Recipe { scale: self.scale, seed: self.seed };
        let data =
            self.data.clone().unwrap_or_else(|| format!("target/bench/data-{}-{}", self.scale, self.seed).into());
        let programs = self.programs()?;
        let engines = self.engines.iter().map(|engine| (engine, programs.find(engine)));
        let engines: Vec<(&Engine, Result<String, String>)> = engines.collect();
        let described = match find(recipe, &data)? {
            Found::Foreign => format!("the tables found in {}", data.display()),
            Found::Ours => recipe.to_string(),
            Found::Nothing => {
                say(&format!("generating {recipe} into {}", data.display()));
                generate(recipe, &data, cores())?;
                recipe.to_string()
            }
        };
        let mut report = Report::new(described, &self.out, self.threads.unwrap_or_else(cores), &engines);
        warm(&data)?;
        let engines: Vec<&Engine> =
            engines.iter().filter(|(_, found)| found.is_ok()).map(|(engine, _)| *engine).collect();
        for case in &self.cases {
            for round in 0..self.runs {
                self.run_round(*case, round, &engines, &programs, &data, &mut report)?;
            }
        }
        // Removed if nothing was kept and nothing else is in it.
        let _ = std::fs::remove_dir(&self.out);
        Ok(report)
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
            if !self.no_check {
                first = compare(case, first, engine, &programs.result(engine, case, &out), report);
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
        files::create_folder(if engine.tool == Tool::Hardtack { &out } else { &result })?;
        // Dirty pages of others must not be written back while this one is measured.
        nix::unistd::sync();
        let usage = measure::measure(&programs.command(engine, case, data, &out), &out.join("log.txt"))?;
        say(&format!("{} {engine}: {:.2} s, {:.0} MB", case.name(), usage.wall, usage.peak as f64 / 1e6));
        let files = files::list(&result)?.len() as u64;
        Ok(Measured { case: case.name(), engine: engine.to_string(), round, usage, files })
    }

    /// The folder of a case's results while they are needed.
    fn folder(&self, case: Case) -> PathBuf {
        self.out.join(format!("bench-{}", case.name()))
    }

    fn rounds_of(&self, engine: &Engine) -> u32 {
        match engine.tool {
            Tool::Spark => self.spark_runs.unwrap_or(self.runs).min(self.runs),
            _ => self.runs,
        }
    }

    fn programs(&self) -> Result<Programs> {
        let this =
            std::env::current_exe().map_err(files::failed("this command does not find itself", Path::new("?")))?;
        let beside = this.parent().unwrap_or(Path::new("."));
        let venv = std::env::home_dir().map(|home| home.join(".cache/hardtack/bench-venv/bin/python"));
        let programs = Programs {
            jobs: self.job_bin_dir.clone().unwrap_or_else(|| beside.to_owned()),
            python: match (&self.python, venv) {
                (Some(python), _) => python.clone(),
                (None, Some(python)) if python.is_file() => python,
                (None, _) => "python3".into(),
            },
            memory_limit: self.memory_limit.clone(),
            threads: self.threads,
        };
        if self.engines.iter().all(|engine| engine.tool != Tool::Hardtack) {
            return Ok(programs);
        }
        if self.job_bin_dir.is_none() && (self.build || self.cargo.is_some()) {
            self.build_jobs(beside)?;
        }
        match self.cases.iter().map(|case| programs.job(*case)).find(|job| !job.is_file()) {
            None => Ok(programs),
            Some(missing) => {
                let packages: Vec<_> = self.cases.iter().map(|case| format!("-p {}", case.job())).collect();
                let remedy = format!("run `cargo build --release {}`, or pass --build", packages.join(" "));
                Err(Error::not_found(format!("a job is not built; {remedy}")).with("binary", missing.display()))
            }
        }
    }

    /// Builds the jobs with the profile of this command, into its folder.
    fn build_jobs(&self, folder: &Path) -> Result<()> {
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            None | Some("debug") => "dev",
            Some(profile) => profile,
        };
        let mut cargo = Command::new(self.cargo.as_deref().unwrap_or(Path::new("cargo")));
        cargo.args(["build", "--quiet", "--profile", profile, "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
        cargo.arg("--target-dir").arg(folder.parent().unwrap_or(folder));
        for case in &self.cases {
            cargo.args(["--package", case.job()]);
        }
        match cargo.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Error::unexpected("the jobs cannot be built").with("cargo", status)),
            Err(e) => Err(Error::unexpected("cargo cannot be started").because(e)),
        }
    }
}

/// Compares a result with the first one of the round, which it returns.
fn compare<'a>(
    case: Case,
    first: Option<(&'a Engine, Digest)>,
    engine: &'a Engine,
    result: &Path,
    report: &mut Report,
) -> Option<(&'a Engine, Digest)> {
    let digest = match Digest::of(result, cores()) {
        Ok(digest) => digest,
        Err(error) => {
            report.problem(case, &[engine], error.chain());
            return first;
        }
    };
    let flaws = digest.flaws();
    if !flaws.is_empty() {
        report.problem(case, &[engine], flaws.join("\n  "));
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

/// Reads the data once, so that the first engine does not pay for the disk reads of all.
fn warm(data: &Path) -> Result<()> {
    for table in Table::ALL {
        let path = data.join(table.file());
        let read = std::fs::File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut std::io::sink()));
        read.map_err(files::failed("cannot read", &path))?;
    }
    Ok(())
}
