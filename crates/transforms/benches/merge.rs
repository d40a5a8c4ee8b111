//! The cost of applying changes to a table, by its size, the share that changes, and the number of threads.
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use datafusion::prelude::{SessionConfig, SessionContext};
use divan::Bencher;
use divan::counter::ItemsCount;
use hardtack_transforms::{Merge, merge_and_retain_last};
use tokio::runtime::Builder;

/// A debug build only checks that it works.
const ROWS: [usize; 2] = if cfg!(debug_assertions) { [1_000, 2_000] } else { [100_000, 1_000_000] };
const THREADS: [usize; 3] = [1, 2, 8];

fn main() {
    divan::main();
}

#[divan::bench(args = THREADS, consts = ROWS, sample_count = 10)]
fn one_row_in_a_hundred_changes<const ROWS: usize>(bencher: Bencher<'_, '_>, threads: usize) {
    merge(bencher, ROWS, 100, threads);
}

#[divan::bench(args = THREADS, consts = ROWS, sample_count = 10)]
fn one_row_in_ten_changes<const ROWS: usize>(bencher: Bencher<'_, '_>, threads: usize) {
    merge(bencher, ROWS, 10, threads);
}

#[divan::bench(args = THREADS, consts = ROWS, sample_count = 10)]
fn every_row_changes<const ROWS: usize>(bencher: Bencher<'_, '_>, threads: usize) {
    merge(bencher, ROWS, 1, threads);
}

fn merge(bencher: Bencher<'_, '_>, rows: usize, every: usize, threads: usize) {
    let runtime = Builder::new_multi_thread().worker_threads(threads).build().unwrap();
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
    let (current, incoming) = (customers(rows, 1, 1), customers(rows, every, 2));
    let by = Merge::on(&["id"]).order_by("as_of").delete_marker("deleted").drop_deleted();
    bencher
        .counter(ItemsCount::new(rows + rows / every))
        .with_inputs(|| {
            let [current, incoming] = [&current, &incoming].map(|side| session.read_batches(side.clone()).unwrap());
            merge_and_retain_last(current, incoming, &by).unwrap()
        })
        .bench_values(|merged| {
            let merged = runtime.block_on(merged.collect()).unwrap();
            assert!(merged.iter().map(RecordBatch::num_rows).sum::<usize>() >= rows * 9 / 10);
            merged
        });
}

/// Every `every`-th customer of `rows`, with this `as_of`. An update deletes one in two thousand.
fn customers(rows: usize, every: usize, as_of: i64) -> Vec<RecordBatch> {
    let batch = |ids: &[i64]| {
        let text = |to: fn(&i64) -> String| Arc::new(StringArray::from_iter_values(ids.iter().map(to))) as ArrayRef;
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
            ("name", text(|id| format!("Customer {id}"))),
            ("email", text(|id| format!("{id:032x}@example.org"))),
            ("city", text(|id| format!("City {}", id % 500))),
            ("as_of", Arc::new(Int64Array::from(vec![as_of; ids.len()]))),
            ("deleted", Arc::new(BooleanArray::from_iter(ids.iter().map(|id| Some(as_of > 1 && id % 2000 == 0))))),
        ])
        .unwrap()
    };
    // In no order of the key.
    let ids = (0..rows).step_by(every).map(|n| i64::try_from(n * 7919 % rows).unwrap());
    ids.collect::<Vec<_>>().chunks(8192).map(batch).collect()
}
