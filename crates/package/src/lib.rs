//! Packages jobs: builds their binaries, and writes archives with checksums, an SBOM and a build record, and container
//! images. Two calls for the same commit with the same toolchain write the same bytes, in whatever folder they build.
//!
//! * [`package`] builds and writes; [`Options`] says what.
//! * [`verify`] checks what was written, wherever it is by now.
//!
//! Everything here blocks: cargo compiles for minutes.

#![expect(clippy::disallowed_methods, reason = "not a job: it builds and packs files of this machine")]

mod archive;
mod cargo;
mod checksum;
mod command;
mod elf;
mod graph;
mod image;
mod record;
mod revision;
mod sbom;
mod verify;
mod workspace;

use std::fs;
use std::path::{Path, PathBuf};

use hardtack_core::{Error, Result};
use tempfile::TempDir;

pub use self::checksum::Artefact;
pub use self::record::BuildRecord;
pub use self::verify::{Verified, verify};

use self::archive::Contents;
use self::cargo::{Compiler, remaps};
use self::checksum::hash_file;
use self::command::io_error;
use self::graph::Graph;
use self::revision::Revision;
use self::workspace::{Job, Workspace};

/// What to package, and how.
///
/// ```
/// use hardtack_package::{Jobs, Options};
///
/// let options = Options { jobs: Jobs::Named(vec!["raw_books".to_owned()]), image: true, ..Options::default() };
/// assert_eq!(options.profile, "release");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A folder of the cargo workspace.
    pub folder: PathBuf,
    /// The jobs.
    pub jobs: Jobs,
    /// The folder for the artefacts; `package` in cargo's target folder if none is given.
    pub output: Option<PathBuf>,
    /// The profile to build with.
    pub profile: String,
    /// The target triple to build for; that of this machine if none is given.
    pub target: Option<String>,
    /// The folder that cargo builds in; `packaging` in cargo's target folder if none is given. It is not the target
    /// folder itself: other flags are used here, and each of the two builds would invalidate the other.
    pub build_folder: Option<PathBuf>,
    /// Binaries that exist already, which are packaged as they are.
    pub binaries: Vec<Binary>,
    /// Whether to write a container image, too.
    pub image: bool,
    /// What the image is based on: a tar of an OCI image layout, or a folder with a root file system. Without a base,
    /// the image has the libraries of this machine that the binary needs, and nothing else.
    pub base: Option<PathBuf>,
    /// The time of all files, in seconds since 1970; that of the commit if none is given.
    pub time: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("."),
            jobs: Jobs::All,
            output: None,
            profile: "release".to_owned(),
            target: None,
            build_folder: None,
            binaries: Vec::new(),
            image: false,
            base: None,
            time: None,
        }
    }
}

/// Which jobs of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Jobs {
    /// All of them.
    All,
    /// Those with these names.
    Named(Vec<String>),
}

/// A binary that exists already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binary {
    /// The name of its job; none if there is only one.
    pub job: Option<String>,
    /// Where it is.
    pub path: PathBuf,
}

/// What a call of [`package`] has written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packaged {
    /// The artefacts, by name: archives, and images.
    pub artefacts: Vec<Artefact>,
    /// The folder that they are in.
    pub output: PathBuf,
    /// The git revision; none if the workspace is not in a git repository.
    pub revision: Option<String>,
    /// Whether the work tree has changes that are not committed.
    pub dirty: bool,
    /// What may keep another machine from producing the same bytes, one sentence each.
    pub warnings: Vec<String>,
}

/// Builds jobs and writes their artefacts. They appear in the output folder once all of them are complete.
///
/// # Errors
/// Usage if there is no workspace, no job of that name, or no such binary, or if the output folder cannot be written
/// to; not found if a library that a binary needs is missing; unexpected if cargo cannot build. (The compiler's
/// messages go to standard error.)
pub fn package(options: &Options) -> Result<Packaged> {
    let compiler = Compiler::find(&options.folder)?;
    let target = options.target.clone().unwrap_or_else(|| compiler.host.clone());
    let workspace = Workspace::find(&options.folder, &target)?;
    let jobs = workspace.choose(&options.jobs)?;
    let prebuilt = prebuilt(&jobs, &options.binaries)?;
    let output = options.output.clone().unwrap_or_else(|| workspace.target_folder.join("package"));
    // A folder that cannot be written to should not cost the time of a build.
    drop(stage(&output)?);
    let output = fs::canonicalize(&output).map_err(|e| io_error(e, "the folder cannot be found", &output))?;
    let mut warnings = Vec::new();
    let generated = [&output, &workspace.target_folder];
    let revision = Revision::find(&workspace.root, &generated, &mut warnings)?;
    let time = options.time.or(revision.time).unwrap_or(0);

    let to_build: Vec<&Job> = jobs.iter().copied().filter(|job| !prebuilt.iter().any(|(of, _)| of == job)).collect();
    let build_folder = options.build_folder.clone().unwrap_or_else(|| workspace.target_folder.join("packaging"));
    // Cargo runs in another folder.
    let build_folder =
        std::path::absolute(&build_folder).map_err(|e| io_error(e, "the folder cannot be found", &build_folder))?;
    let mut binaries = prebuilt;
    if !to_build.is_empty() {
        let build = cargo::Build {
            workspace: &workspace,
            jobs: &to_build,
            profile: &options.profile,
            target: options.target.as_deref(),
            folder: &build_folder,
            revision: revision.name(),
            time,
            remaps: remaps(&workspace, &compiler, &build_folder),
        };
        binaries.extend(build.run()?);
    }
    binaries.sort_by_key(|(job, _)| &job.name);

    let staging = stage(&output)?;
    let licences = archive::licences(&workspace.root)?;
    let base = options
        .base
        .as_deref()
        .map(|base| image::Base::open(base, staging.path(), image::architecture(&target), time))
        .transpose()?;
    let mut artefacts = Vec::new();
    for (job, binary) in &binaries {
        let is_built = to_build.contains(job);
        // Cargo unites the features of the packages that it builds together.
        let together = if is_built { &*to_build } else { std::slice::from_ref(job) };
        let graph = Graph::of(&workspace, job, together, &target)?;
        let bytes = read_binary(binary)?;
        let elf = elf::Elf::parse(&bytes, binary)?;
        elf.check_target(&target)?;
        if let Some(folder) = named_folder(&bytes, [&workspace.root, &build_folder]) {
            warnings.push(format!(
                "the binary of `{}` names the folder `{}`, so a build in another folder is not the same",
                job.name,
                folder.display()
            ));
        }
        let record = BuildRecord {
            name: job.name.clone(),
            version: job.package.version.clone(),
            target: target.clone(),
            profile: is_built.then(|| options.profile.clone()),
            revision: revision.id.clone(),
            dirty: revision.dirty,
            time: revision::rfc3339(time),
            rustc: if is_built { Some(compiler.version.clone()) } else { elf.rustc.clone() },
            hardtack: graph.version("hardtack"),
            datafusion: graph.version("datafusion"),
            built_with: together.iter().map(|job| job.name.clone()).collect(),
        };
        let sbom = sbom::render(&record, job, &graph)?;
        let contents = Contents { record: &record, binary: &bytes, sbom: &sbom, licences: &licences };
        artefacts.push(contents.write(staging.path(), time)?);
        if options.image {
            let image = image::Image { record: &record, job, binary: &bytes, elf: &elf, base: base.as_ref(), time };
            artefacts.push(image.write(staging.path())?);
        }
    }
    artefacts.sort_by(|a, b| a.path.cmp(&b.path));
    publish(&staging, &output, &mut artefacts)?;
    Ok(Packaged { artefacts, output, revision: revision.id, dirty: revision.dirty, warnings })
}

/// The jobs of the binaries that exist already.
fn prebuilt<'a>(jobs: &[&'a Job], binaries: &[Binary]) -> Result<Vec<(&'a Job, PathBuf)>> {
    let mut found: Vec<(&Job, PathBuf)> = Vec::new();
    for Binary { job: name, path } in binaries {
        let job = match (name, jobs) {
            (None, [job]) => *job,
            (None, _) => {
                return Err(Error::usage("a binary without a job's name is for a call with one job")
                    .with("binary", path.display())
                    .hint("name its job: `--binary JOB=PATH`"));
            }
            (Some(name), _) => jobs.iter().copied().find(|job| job.name == *name).ok_or_else(|| {
                Error::usage(format!("there is a binary for `{name}`, which is not among the jobs of this call"))
                    .with("binary", path.display())
                    .hint(format!("name the job as well: `hardtack package {name} --binary {name}=PATH`"))
            })?,
        };
        if found.iter().any(|(other, _)| other.name == job.name) {
            return Err(Error::usage(format!("there are two binaries for `{}`", job.name))
                .with("binary", path.display())
                .hint("name one binary for each job"));
        }
        found.push((job, path.clone()));
    }
    Ok(found)
}

fn read_binary(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| io_error(e, "the binary cannot be read", path).hint("name a file with `--binary`"))
}

/// The first of these folders whose path is in a binary.
fn named_folder<'a>(binary: &[u8], folders: [&'a PathBuf; 2]) -> Option<&'a Path> {
    let is_named = |folder: &&PathBuf| {
        let path = folder.as_os_str().as_encoded_bytes();
        // The root of a file system is in everything.
        path.len() > 1 && memchr::memmem::find(binary, path).is_some()
    };
    folders.into_iter().find(is_named).map(PathBuf::as_path)
}

/// Creates the output folder, and a folder in it for what is not complete yet.
fn stage(output: &Path) -> Result<TempDir> {
    let unwritable = |e| io_error(e, "the output folder cannot be written to", output);
    fs::create_dir_all(output).map_err(unwritable)?;
    tempfile::Builder::new().prefix(".incomplete-").tempdir_in(output).map_err(unwritable)
}

/// Moves complete artefacts to the output folder, each with its checksum, and the list of all checksums last.
fn publish(staging: &TempDir, output: &Path, artefacts: &mut [Artefact]) -> Result<()> {
    let mut sums = String::new();
    for artefact in artefacts {
        let sum = artefact.sum();
        let name = artefact.name();
        put(staging, output, &format!("{name}.sha256"), Some(&sum))?;
        artefact.path = put(staging, output, &name, None)?;
        sums.push_str(&sum);
    }
    put(staging, output, "SHA256SUMS", Some(&sums)).map(drop)
}

/// Moves a file from the staging folder, after writing it there if a text is given.
fn put(staging: &TempDir, output: &Path, name: &str, text: Option<&str>) -> Result<PathBuf> {
    let (from, to) = (staging.path().join(name), output.join(name));
    text.map_or(Ok(()), |text| fs::write(&from, text))
        .and_then(|()| fs::rename(&from, &to))
        .map_err(|e| io_error(e, "the file cannot be written", &to))?;
    Ok(to)
}

/// The artefact at a path in the staging folder.
fn finished(path: PathBuf) -> Result<Artefact> {
    let (bytes, sha256) = hash_file(&path)?;
    Ok(Artefact { path, bytes, sha256 })
}
