//! The crates that a binary is built from.
//!
//! `cargo metadata` unites the features of all members and of their tests, so its graph has crates that no binary
//! contains. `cargo tree` resolves the features of the packages that are built, as `cargo build` does.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use crate::command::output;
use crate::workspace::{Job, Package, Workspace};
use crate::{Error, Result};

/// The packages that a job's binary is linked from, without those that only run while it is built.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    workspace: &'a Workspace,
    /// What each depends on, as numbers in the packages of the workspace.
    edges: BTreeMap<usize, BTreeSet<usize>>,
    root: usize,
}

impl<'a> Graph<'a> {
    /// Asks cargo for the graph of a job that is built together with others.
    pub(crate) fn of(workspace: &'a Workspace, job: &Job, together: &[&Job], target: &str) -> Result<Self> {
        let mut command = Command::new("cargo");
        command
            .args(["tree", "--locked", "--edges", "normal,no-proc-macro", "--prefix", "depth", "--format", "\t{p}"])
            .args(["--charset", "ascii", "--color", "never", "--target", target])
            .args(together.iter().flat_map(|job| ["--package".to_owned(), job.package.spec()]))
            .current_dir(&workspace.root);
        let text = output(&mut command, "cargo cannot list the crates of the jobs")?;
        let edges = parse(&text, |package| find(workspace, package))?;
        let root = workspace.packages.iter().position(|package| package.id == job.package.id);
        let root = root.ok_or_else(|| unknown(&job.package.spec()))?;
        Ok(Self { workspace, edges: reachable(&edges, root), root })
    }

    /// The version of a package in the binary.
    pub(crate) fn version(&self, name: &str) -> Option<String> {
        self.packages().find(|(package, _)| package.name == name).map(|(package, _)| package.version.clone())
    }

    /// The packages, each with what it depends on, except for the job's own.
    pub(crate) fn packages(&self) -> impl Iterator<Item = (&'a Package, Vec<&'a Package>)> {
        let others = self.edges.keys().copied().filter(|package| *package != self.root);
        others.map(|package| (self.package(package), self.needs(package)))
    }

    /// What the job itself depends on.
    pub(crate) fn of_root(&self) -> Vec<&'a Package> {
        self.needs(self.root)
    }

    /// The SHA-256 that Cargo.lock has for a package.
    pub(crate) fn checksum(&self, package: &Package) -> Option<&'a str> {
        self.workspace.checksum(package)
    }

    fn package(&self, number: usize) -> &'a Package {
        &self.workspace.packages[number]
    }

    fn needs(&self, number: usize) -> Vec<&'a Package> {
        self.edges.get(&number).into_iter().flatten().map(|package| self.package(*package)).collect()
    }
}

/// The part of a graph that a package needs.
fn reachable(edges: &BTreeMap<usize, BTreeSet<usize>>, root: usize) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut found = BTreeMap::new();
    let mut open = vec![root];
    while let Some(package) = open.pop() {
        found.entry(package).or_insert_with(|| {
            let needs = edges.get(&package).cloned().unwrap_or_default();
            open.extend(&needs);
            needs
        });
    }
    found
}

/// Reads the output of `cargo tree`: the depth, a tab, the package, and `(*)` if its dependencies were shown before.
fn parse(text: &str, find: impl Fn(&str) -> Result<usize>) -> Result<BTreeMap<usize, BTreeSet<usize>>> {
    let mut edges: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    let mut path: Vec<usize> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let (depth, package) = line.split_once('\t').ok_or_else(|| unknown(line))?;
        let depth: usize = depth.parse().map_err(|e| unknown(line).because(e))?;
        let package = find(package.trim_end().trim_end_matches(" (*)"))?;
        path.truncate(depth);
        if let Some(parent) = path.last() {
            edges.entry(*parent).or_default().insert(package);
        }
        edges.entry(package).or_default();
        path.push(package);
    }
    Ok(edges)
}

/// The package that `cargo tree` means by `NAME vVERSION (SOURCE)`; it shows no source for crates.io.
fn find(workspace: &Workspace, shown: &str) -> Result<usize> {
    let mut words = shown.splitn(3, ' ');
    let (name, version) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let source = words.next().unwrap_or_default().trim_matches(['(', ')']);
    let version = version.strip_prefix('v').ok_or_else(|| unknown(shown))?;
    let numbered = workspace.packages.iter().enumerate();
    let alike: Vec<_> = numbered.filter(|(_, p)| p.name == name && p.version == version).collect();
    let is_meant = |package: &Package| match &package.source {
        None => package.folder().to_str() == Some(source),
        // A hash of a commit is cut.
        Some(from) => {
            from.strip_prefix("git+").map_or(source.is_empty(), |url| !source.is_empty() && url.starts_with(source))
        }
    };
    match &*alike {
        [(number, _)] => Ok(*number),
        _ => alike.iter().find(|(_, p)| is_meant(p)).map(|(number, _)| *number).ok_or_else(|| unknown(shown)),
    }
}

fn unknown(package: &str) -> Error {
    Error::unexpected(format!("`cargo metadata` does not know the package `{package}` that `cargo tree` shows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_is_shown_again_keeps_its_dependencies() {
        let names = ["a", "b", "c", "d"];
        let find = |name: &str| names.iter().position(|other| *other == name).ok_or_else(|| unknown(name));
        let edges = parse("0\ta\n1\tb\n2\tc\n1\tc\n\n0\td\n1\tb (*)\n", find).unwrap();
        assert_eq!(edges, [(0, [1, 2].into()), (1, [2].into()), (2, [].into()), (3, [1].into())].into());
        assert_eq!(reachable(&edges, 3).into_keys().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(parse("0\tx\n", find).is_err());
        assert!(parse("nothing\n", find).is_err());
    }
}
