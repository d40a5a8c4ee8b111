//! `hardtack package`: builds jobs, and writes their archives and images.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use hardtack_core::{Error, Result};
use hardtack_package::{Binary, Jobs, Options, Packaged, Verified};

use crate::draw::Drawing;

#[derive(Debug, Args)]
pub(crate) struct PackageArgs {
    /// The jobs, for example `books_data_product`
    #[arg(value_name = "JOB")]
    jobs: Vec<String>,
    /// Package all jobs of the workspace
    #[arg(long, conflicts_with = "jobs")]
    all: bool,
    /// Folder for the artefacts [default: `package` in cargo's target folder]
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    /// Cargo's profile to build with
    #[arg(long, value_name = "NAME", default_value = "release")]
    profile: String,
    /// Target triple to build for, for example `aarch64-unknown-linux-gnu` [default: that of this machine]
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Folder that cargo builds in [default: `packaging` in cargo's target folder]
    #[arg(long, value_name = "FOLDER")]
    build_folder: Option<PathBuf>,
    /// Package this binary instead of building one; once for each job
    #[arg(long, value_name = "[JOB=]PATH", value_parser = binary)]
    binary: Vec<Binary>,
    /// Write a container image, too
    #[arg(long)]
    image: bool,
    /// What the image is based on: a tar of an OCI image layout, or a folder with a root file system [default: the
    /// libraries of this machine that the binary needs]
    #[arg(long, value_name = "PATH", requires = "image")]
    base: Option<PathBuf>,
    /// Time of all files, in seconds since 1970 [default: that of the commit]
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    time: Option<u64>,
    /// Check artefacts instead: checksum, structure, build record, SBOM
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["jobs", "all", "binary", "image", "output"])]
    verify: Vec<PathBuf>,
}

pub(crate) async fn run(args: PackageArgs) -> Result<String> {
    let work = move || if args.verify.is_empty() { package(args) } else { verify(&args.verify) };
    // Cargo compiles for minutes.
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::unexpected("packaging has panicked").because(e))?
}

fn package(args: PackageArgs) -> Result<String> {
    let started = Instant::now();
    let options = Options {
        jobs: if args.all { Jobs::All } else { Jobs::Named(args.jobs) },
        output: args.output,
        profile: args.profile,
        target: args.target,
        build_folder: args.build_folder,
        binaries: args.binary,
        image: args.image,
        base: args.base,
        time: args.time,
        ..Options::default()
    };
    let packaged = hardtack_package::package(&options)?;
    Ok(render(&packaged, started.elapsed().as_secs_f64()))
}

fn verify(files: &[PathBuf]) -> Result<String> {
    let mut text = String::new();
    for file in files {
        let Verified { artefact, record, .. } = hardtack_package::verify(file)?;
        let of = record.map(|record| format!(", {} {}", record.name, record.version)).unwrap_or_default();
        let _ = writeln!(text, "{}: ok{of}", artefact.path.display());
    }
    Ok(text)
}

fn render(packaged: &Packaged, seconds: f64) -> String {
    let rows: Vec<Vec<String>> = packaged
        .artefacts
        .iter()
        .map(|artefact| vec![artefact.name(), artefact.bytes.to_string(), artefact.sha256.clone()])
        .collect();
    // A checksum that is cut to the width of a terminal would be of no use.
    let mut drawing = Drawing::new([("file", false), ("bytes", true), ("sha256", false)], None);
    let mut text = drawing.header(&rows) + &drawing.rows(&rows);
    for warning in &packaged.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    let changes = if packaged.dirty { " with changes that are not committed" } else { "" };
    let revision = packaged.revision.as_ref().map(|id| format!(" of revision {id}{changes}")).unwrap_or_default();
    let _ = writeln!(text, "packaged to {}{revision} in {seconds:.1} s", packaged.output.display());
    text
}

/// A name of a job has no slash, so `./a=b` is a path.
fn binary(text: &str) -> Result<Binary, String> {
    let (job, path) = match text.split_once('=') {
        Some((job, path)) if !job.contains('/') => (Some(job.to_owned()), path),
        _ => (None, text),
    };
    if path.is_empty() || job.as_ref().is_some_and(String::is_empty) {
        return Err("expected a path, or a job and a path, for example `raw_books=target/release/raw_books`".to_owned());
    }
    Ok(Binary { job, path: PathBuf::from(path) })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("target/release/raw_books", None, "target/release/raw_books")]
    #[case("raw_books=target/a=b", Some("raw_books"), "target/a=b")]
    #[case("./a=b", None, "./a=b")]
    fn a_binary_may_name_its_job(#[case] text: &str, #[case] job: Option<&str>, #[case] path: &str) {
        assert_eq!(binary(text).unwrap(), Binary { job: job.map(str::to_owned), path: PathBuf::from(path) });
        for text in ["", "=x", "raw_books="] {
            assert!(binary(text).is_err(), "{text}");
        }
    }
}
