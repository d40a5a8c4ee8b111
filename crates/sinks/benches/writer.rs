//! The cost of staging a partitioned dataset. Rows come from memory and uploads go to memory, so neither disk nor
//! network counts.
#![allow(clippy::unwrap_used, reason = "a benchmark stops where it fails")]

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use datafusion::prelude::DataFrame;
use divan::Bencher;
use divan::counter::ItemsCount;
use hardtack_core::{JobContext, Sink};
use hardtack_sinks::ParquetDataset;
use hardtack_transforms::drop_duplicates;
use tokio::runtime::Runtime;

/// A debug build only shows that it works.
const ROWS: &[usize] = if cfg!(debug_assertions) { &[10_000] } else { &[100_000, 1_000_000] };
const PARTITIONS: [usize; 3] = [1, 100, 10_000];

fn main() {
    divan::main();
}

/// Rows in arrival order.
#[divan::bench(args = ROWS, consts = PARTITIONS, sample_count = 10)]
fn plain<const PARTITIONS: usize>(bencher: Bencher<'_, '_>, rows: usize) {
    stage(bencher, PARTITIONS, rows, Ok, |dataset| dataset);
}

/// One row in ten is a duplicate; duplicates are dropped within their partition.
#[divan::bench(args = ROWS, consts = PARTITIONS, sample_count = 10)]
fn without_duplicates<const PARTITIONS: usize>(bencher: Bencher<'_, '_>, rows: usize) {
    stage(bencher, PARTITIONS, rows, |rows| drop_duplicates(rows, &[]), |dataset| dataset);
}

/// Rows are sorted within their files.
#[divan::bench(args = ROWS, consts = PARTITIONS, sample_count = 10)]
fn sorted<const PARTITIONS: usize>(bencher: Bencher<'_, '_>, rows: usize) {
    stage(bencher, PARTITIONS, rows, Ok, |dataset| dataset.sorted_by(["patient", "value"]));
}

fn stage(
    bencher: Bencher<'_, '_>,
    partitions: usize,
    rows: usize,
    transform: fn(DataFrame) -> hardtack_core::Result<DataFrame>,
    layout: fn(ParquetDataset) -> ParquetDataset,
) {
    let runtime = Runtime::new().unwrap();
    let (batches, rows_apart) = (observations(partitions, rows), rows / 10 * 9);
    let dataset = layout(ParquetDataset::new("observations", "memory:/lake/observations").partition_by(["day"]));
    bencher
        .counter(ItemsCount::new(rows))
        // Each iteration writes to a store of its own.
        .with_inputs(|| {
            let ctx = JobContext::builder("bench").build().unwrap();
            let rows = transform(ctx.session().read_batches(batches.iter().cloned()).unwrap()).unwrap();
            (ctx, rows)
        })
        .bench_values(|(ctx, rows)| {
            let staged = runtime.block_on(dataset.stage(&ctx.staging("out"), rows)).unwrap();
            assert_eq!(staged.report.files, partitions.min(rows_apart) as u64);
            (ctx, staged)
        });
}

/// A feed in patient order, so its days are scattered: repeated texts, numbers, and one row in ten duplicated.
fn observations(days: usize, rows: usize) -> Vec<RecordBatch> {
    let column = |values: Vec<String>| Arc::new(StringArray::from(values)) as ArrayRef;
    let batch = |numbers: Vec<usize>| {
        let each = |text: fn(usize) -> String| column(numbers.iter().map(|n| text(*n)).collect());
        let number = |n: &usize| i64::try_from(*n).unwrap();
        // Rows that are not duplicates are numbered without gaps, so every day has rows.
        let day = |n: &usize| i32::try_from((n - n / 10) * 7919 % days).unwrap();
        RecordBatch::try_from_iter([
            ("patient", each(|n| format!("{:032x}", n / 400))),
            ("code", each(|n| format!("{}-{}", 8302 + n % 150, n % 7))),
            ("description", each(|n| format!("Something that was measured, of kind {}", n % 150))),
            ("value", Arc::new(Float64Array::from_iter_values(numbers.iter().map(|n| (n % 9973) as f64 / 10.0)))),
            ("at", Arc::new(Int64Array::from_iter_values(numbers.iter().map(number)))),
            ("day", Arc::new(Int32Array::from_iter_values(numbers.iter().map(day)))),
        ])
        .unwrap()
    };
    let numbers: Vec<usize> = (0..rows).map(|n| if n % 10 == 9 { n - 1 } else { n }).collect();
    numbers.chunks(8192).map(|chunk| batch(chunk.to_vec())).collect()
}
