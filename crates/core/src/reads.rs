//! Tracks which plans read which sources: to warn an author of a source that is read twice, and to refuse rows since a
//! bookmark in place of all rows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{LogicalPlan, TableSource};
use datafusion::prelude::DataFrame;

use crate::context::JobContext;
use crate::io::{Sink, Source};
use crate::{Error, Result};

/// The sources of a run, and the plans that have read them. A source that several plans read is read several times, unless
/// the rows that they share are [persisted](crate::Context::persist).
#[derive(Debug, Default)]
pub struct Reads(Mutex<Vec<Read>>);

struct Read {
    scan: Arc<dyn TableSource>,
    source: String,
    /// Whether its rows are only those since a bookmark.
    bookmarked: bool,
    /// Whether its rows are shared, so that it may be read any number of times.
    persisted: bool,
    readers: Vec<String>,
}

impl std::fmt::Debug for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Read").field("source", &self.source).field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl Reads {
    /// Records what the frame of a source scans.
    pub fn loaded(&self, source: &dyn Source, rows: &DataFrame) {
        let (bookmarked, mut reads) = (source.is_bookmarked(), self.reads());
        for scan in scans(rows.logical_plan()) {
            let source = source.name().to_owned();
            reads.push(Read { scan, source, bookmarked, persisted: false, readers: Vec::new() });
        }
    }

    /// Records that a frame shares these rows.
    pub fn persisted(&self, rows: &DataFrame, shared: &DataFrame) {
        let Some(source) = self.bookmarked(rows) else { return };
        let mut reads = self.reads();
        for scan in scans(shared.logical_plan()) {
            let source = source.clone();
            reads.push(Read { scan, source, bookmarked: true, persisted: true, readers: Vec::new() });
        }
    }

    /// Checks that a sink does not replace all rows by those that came since a bookmark.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) if it does.
    pub fn check(&self, ctx: &JobContext, sink: &dyn Sink, rows: &DataFrame) -> Result<()> {
        if !sink.replaces() || !ctx.bookmarks().limits() {
            return Ok(());
        }
        let Some(source) = self.bookmarked(rows) else { return Ok(()) };
        let why = "the sink replaces all rows by those of this run, but the run reads only what is new, so all others \
                   would be lost";
        Err(Error::usage(why).with("sink", sink.name()).with("bookmarked source", source).hint(
            "append to a data set instead; if the rows that are saved include the earlier ones, say so with `merges()`",
        ))
    }

    /// A source with a bookmark that a plan reads.
    fn bookmarked(&self, rows: &DataFrame) -> Option<String> {
        let (scans, reads) = (scans(rows.logical_plan()), self.reads());
        let read = |scan: &Arc<dyn TableSource>| reads.iter().find(|r| r.bookmarked && Arc::ptr_eq(&r.scan, scan));
        scans.iter().find_map(read).map(|read| read.source.clone())
    }

    fn reads(&self) -> MutexGuard<'_, Vec<Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that `reader` executes a plan. Returns the advice to persist, one sentence for each source that another
    /// reader has read.
    pub fn read(&self, reader: &str, rows: &DataFrame) -> Vec<String> {
        let mut reads = self.reads();
        let mut again = BTreeMap::new();
        for scan in scans(rows.logical_plan()) {
            for read in reads.iter_mut().filter(|read| !read.persisted && Arc::ptr_eq(&read.scan, &scan)) {
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
