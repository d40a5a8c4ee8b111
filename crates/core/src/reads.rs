//! Tracks which plans read which sources, to warn an author of a source that is read twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::prelude::DataFrame;

/// The sources of a run, and the plans that have read them. A source that several plans read is read several times, unless
/// the rows that they share are [persisted](crate::Context::persist).
#[derive(Debug, Default)]
pub struct Reads(Mutex<Vec<Read>>);

struct Read {
    scan: Arc<dyn TableSource>,
    source: String,
    readers: Vec<String>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").field("source", &self.source).field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl Reads {
    /// Records what the frame of a source scans.
    pub fn loaded(&self, source: &str, rows: &DataFrame) {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for scan in scans(rows.logical_plan()) {
            reads.push(Read { scan, source: source.to_owned(), readers: Vec::new() });
        }
    }

    /// Records that `reader` executes a plan. Returns the advice to persist, one sentence for each source that another
    /// reader has read.
    pub fn read(&self, reader: &str, rows: &DataFrame) -> Vec<String> {
        let mut reads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut again = BTreeMap::new();
        for scan in scans(rows.logical_plan()) {
            for read in reads.iter_mut().filter(|read| Arc::ptr_eq(&read.scan, &scan)) {
                if let Some(other) = read.readers.iter().find(|other| *other != reader) {
                    again.insert(read.source.clone(), other.clone());
                }
                read.readers.push(reader.to_owned());
            }
        }
        let advice = |(source, other)| {
            format!(
                "the source `{source}` is read by {other} and again by {reader}; `ctx.persist(rows)` computes shared \
                 rows once"
            )
        };
        again.into_iter().map(advice).collect()
    }

    /// [`Reads::read`], for the log.
    pub(crate) fn log(&self, reader: &str, rows: &DataFrame) {
        for advice in self.read(reader, rows) {
            tracing::debug!("{advice}");
        }
    }
}

/// The tables that a plan scans, including subqueries.
fn scans(plan: &LogicalPlan) -> Vec<Arc<dyn TableSource>> {
    let mut scans = Vec::new();
    // The closure never fails.
    let _ = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            scans.push(Arc::clone(&scan.source));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    scans
}
