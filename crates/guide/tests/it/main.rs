//! Checks of the guide and the README that the compiler cannot do: chapters, links, excerpts, the table of jobs.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "these tests read the files of the repository")]

mod values;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, Field};
use hardtack::catalog::types::{Fit, Policy};
use hardtack_guide::TESTED;
use rstest::rstest;

const CHAPTERS: &str = "docs/guide/src";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[track_caller]
fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// Every document of the repository.
fn documents() -> Vec<String> {
    let folders = [".", "docs", "docs/decisions", CHAPTERS];
    let files =
        folders.iter().flat_map(|folder| names_in(folder).into_iter().map(move |name| format!("{folder}/{name}")));
    files.filter(|file| file.ends_with(".md")).collect()
}

/// The lines of a text outside code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        code ^= fence;
        !code && !fence
    })
}

/// The targets of the links in a text.
fn links(text: &str) -> Vec<String> {
    let prose: Vec<&str> = prose(text).collect();
    let prose = prose.join("\n");
    prose.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchor that mdBook and GitHub give to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn every_chapter_is_in_the_summary_and_in_this_crate() {
    let chapters: BTreeSet<_> = names_in(CHAPTERS).into_iter().filter(|name| name != "SUMMARY.md").collect();
    let listed: BTreeSet<_> = links(&read(&format!("{CHAPTERS}/SUMMARY.md"))).into_iter().collect();
    assert_eq!(listed, chapters, "chapters that SUMMARY.md lists (left), and that there are (right)");
    let tested: BTreeSet<_> = TESTED.iter().filter_map(|file| file.strip_prefix(&format!("{CHAPTERS}/"))).collect();
    assert_eq!(tested, chapters.iter().map(String::as_str).collect(), "chapters whose code crates/guide runs (left)");
    assert!(TESTED.contains(&"README.md"));
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (file, section) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(&document).parent().unwrap();
            let path = if file.is_empty() { PathBuf::from(&document) } else { folder.join(file) };
            let target = root().join(&path);
            let headings = || fs::read_to_string(&target).unwrap_or_default();
            let is_there = target.exists()
                && (section.is_empty()
                    || prose(&headings()).any(|l| l.starts_with('#') && anchor(l.trim_start_matches('#')) == section));
            if !is_there {
                broken.push(format!("{document}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The code blocks that are excerpts of files, with these files.
fn excerpts(text: &str) -> Vec<(String, String)> {
    let claims = text.split("\n<!-- from ").skip(1);
    claims
        .map(|rest| {
            let (file, rest) = rest.split_once(" -->\n").expect("a claim is closed by -->");
            let block = rest.strip_prefix("```").and_then(|b| b.split_once('\n')).expect("a block follows").1;
            (file.to_owned(), block.split_once("\n```").expect("a block is closed").0.to_owned())
        })
        .collect()
}

/// The parts of an excerpt, separated by blank lines; `// ...` marks an omission.
fn parts(excerpt: &str) -> impl Iterator<Item = &str> {
    excerpt.split("\n\n").filter(|part| !part.starts_with("// ..."))
}

#[rstest]
#[case("README.md", "jobs/books_data_product/src/lib.rs")]
#[case("README.md", "jobs/books_data_product/src/tests.rs")]
fn the_readme_shows_the_job_and_its_test(#[case] document: &str, #[case] file: &str) {
    assert!(excerpts(&read(document)).iter().any(|(from, _)| from == file), "{document} shows nothing of {file}");
}

#[test]
fn excerpts_are_as_in_their_files() {
    for document in documents() {
        for (file, excerpt) in excerpts(&read(&document)) {
            let source = read(&file);
            for part in parts(&excerpt) {
                assert!(source.contains(part), "{document}: this is not in {file}:\n{part}");
            }
        }
    }
}

/// Rust code that is not run must at least come from a file that is compiled.
#[test]
fn only_excerpts_are_ignored() {
    for document in documents() {
        let text = read(&document);
        let ignored = text.lines().filter(|line| line.starts_with("```") && line.contains("ignore")).count();
        assert_eq!(ignored, excerpts(&text).len(), "{document}: ignored blocks of code, and excerpts");
    }
}

#[test]
fn the_readme_lists_every_job() {
    let table: Vec<String> = read("README.md")
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| [`")?.split_once("`](jobs/")?.0.to_owned()))
        .collect();
    let mut listed = table.clone();
    listed.sort();
    assert_eq!(listed, names_in("jobs"));
}

/// `.ci/run` reads its commands from the README.
#[rstest]
#[case("cargo test --workspace")]
#[case("cargo run --bin books_data_product")]
fn the_readme_has_the_command(#[case] command: &str) {
    assert!(read("README.md").lines().any(|line| line == command), "{command}");
}

/// The cells of the table whose header begins with `header`, row by row.
fn table<'a>(text: &'a str, header: &str) -> Vec<Vec<&'a str>> {
    let rows = text.lines().skip_while(|line| !line.starts_with(header)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

#[track_caller]
fn data_type(cell: &str) -> DataType {
    cell.trim_matches('`').parse().unwrap_or_else(|e| panic!("{cell}: {e}"))
}

#[test]
fn the_tables_of_types_say_what_the_code_does() {
    let text = read(&format!("{CHAPTERS}/types.md"));
    let united = table(&text, "| one | other |");
    assert!(united.len() > 20, "{united:?}");
    for row in united {
        let field = |cell: &str| Field::new("x", data_type(cell), true);
        for (cell, policy) in row[2..].iter().zip([Policy::Evolve, Policy::Rewrite, Policy::Infer]) {
            let expected = (*cell != "no").then(|| data_type(cell));
            for (one, other) in [(row[0], row[1]), (row[1], row[0])] {
                let united = policy.unite(&field(one), &field(other)).ok().map(|field| field.data_type().clone());
                assert_eq!(united, expected, "{one} and {other}: {policy:?}");
            }
        }
    }
    let fitting = table(&text, "| stored | declared |");
    assert!(fitting.len() > 15, "{fitting:?}");
    for row in fitting {
        for (cell, policy) in row[2..].iter().zip([Policy::Read, Policy::Coerce]) {
            let expected = match *cell {
                "always" => Some(Fit::Always),
                "if it can be read" => Some(Fit::Readable),
                "if it is the same" => Some(Fit::RoundTrip),
                "if it is in range" => Some(Fit::InRange),
                "no" => None,
                other => panic!("{other}"),
            };
            assert_eq!(policy.fit(&data_type(row[0]), &data_type(row[1])), expected, "{row:?}: {policy:?}");
        }
    }
}
