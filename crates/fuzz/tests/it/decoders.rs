//! The targets of `cargo fuzz`, with the corpus, and with the corpus cut up and joined.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use hardtack_fuzz::targets;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rstest::rstest;

use crate::trial::{Outcome, try_cases};

/// The files of a target's corpus, in order.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(format!("fuzz_{target}"));
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// A mutation of an input.
#[derive(Debug, Clone)]
enum Change {
    Put(Index, Vec<u8>),
    Remove(Index, usize),
    Join(Vec<u8>, Index),
}

fn change(corpus: &[Vec<u8>]) -> impl Strategy<Value = Change> + use<> {
    let piece = prop_oneof![
        3 => "[0-9]{1,3}|[-+.eE,;:\"\\\\\n\r{}\\[\\] TZ=%]|[a-z]",
        1 => vec(any::<u8>(), 1..3).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ];
    prop_oneof![
        3 => (any::<Index>(), piece).prop_map(|(at, piece)| Change::Put(at, piece.into_bytes())),
        2 => (any::<Index>(), 1..4_usize).prop_map(|(at, length)| Change::Remove(at, length)),
        1 => (select(corpus.to_vec()), any::<Index>()).prop_map(|(other, at)| Change::Join(other, at)),
    ]
}

fn changed(mut input: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Put(at, piece) => {
                let at = at.index(input.len() + 1);
                input.splice(at..at, piece);
            }
            Change::Remove(at, length) => {
                let at = at.index(input.len() + 1);
                input.drain(at..input.len().min(at + length));
            }
            Change::Join(other, at) => {
                let at = at.index(input.len() + 1);
                input.splice(at.., other.into_iter().skip(1));
            }
        }
    }
    input
}

#[rstest]
#[case::csv("csv", targets::csv)]
#[case::hive("hive", targets::hive)]
#[case::dqdl("dqdl", targets::dqdl)]
fn decoders_do_what_naive_readers_do(#[case] target: &str, #[case] run: fn(&[u8])) {
    check(target, run);
}

#[rstest]
#[case::json("json", targets::json)]
#[case::text("text", targets::text)]
#[case::folder("folder", targets::folder)]
fn decoders_keep_every_value(#[case] target: &str, #[case] run: fn(&[u8])) {
    check(target, run);
}

fn check(target: &str, run: fn(&[u8])) {
    let corpus = corpus(target);
    corpus.iter().for_each(|input| run(input));
    let inputs =
        (select(corpus.clone()), vec(change(&corpus), 0..6)).prop_map(|(input, changes)| changed(input, changes));
    try_cases(&format!("bytes for {target}"), 20_000, 100, inputs.prop_map(Shown), |input| {
        catch_unwind(AssertUnwindSafe(|| run(&input.0))).map(|()| Outcome::Read).map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
        })
    });
}

/// Bytes that print as a Rust literal.
#[derive(Clone)]
struct Shown(Vec<u8>);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}
