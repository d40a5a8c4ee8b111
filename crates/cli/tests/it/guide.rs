//! The commands that the guide shows.

use std::path::Path;

use rstest::rstest;

use crate::hardtack;

/// Asks for help at the end of each command, which is only given if everything before it is understood.
#[rstest]
#[case("backfill.md", 3)]
#[case("operating-bookmarks.md", 9)]
#[case("production.md", 9)]
#[case("packaging.md", 6)]
fn the_commands_of_the_guide_are_understood(#[case] chapter: &str, #[case] at_least: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide/src").join(chapter);
    let text = std::fs::read_to_string(path).unwrap().replace("\\\n", " ");
    let commands: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("hardtack ")).collect();
    assert!(commands.len() >= at_least, "{commands:?}");
    for command in commands {
        let command = command.split(" #").next().unwrap().split(" -- ").next().unwrap();
        let args: Vec<&str> = command.split_whitespace().chain(["--help"]).collect();
        let (code, said) = hardtack(folder.path(), &args);
        assert_eq!(code, Some(0), "{command}\n{said}");
    }
}
