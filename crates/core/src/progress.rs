//! How much of a source a run has read: which of its parts went through a plan to their end.
//!
//! A source divides itself into parts (files, for example) and puts a [`Part`] next to each in its scans: in
//! [`PartitionedFile::extensions`](datafusion::datasource::listing::PartitionedFile). The reader of a part says when it
//! has returned its last row. Rows that were returned may still not have been used: a plan with a limit reads ahead. So
//! an optimiser rule takes the parts out of plans that a limit may end early.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::common::Result as DFResult;
use datafusion::common::config::ConfigOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::sorts::sort::SortExec;

use crate::watermark::WatermarkExec;

/// What a run has read of a source that has a number of parts.
#[derive(Debug, Default)]
pub struct Progress(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    parts: Vec<Read>,
    /// For scans that did not need all parts: those that they read, and those whose rows they would have dropped.
    selections: Vec<Selection>,
}

/// What was read of a part.
#[derive(Debug, Clone)]
struct Read {
    size: u64,
    /// The ranges that were read, if not all of it.
    ranges: Vec<Range<u64>>,
    done: bool,
}

#[derive(Debug)]
struct Selection {
    read: Vec<usize>,
    needless: Vec<usize>,
}

impl Progress {
    /// Nothing is read so far of parts with these sizes in bytes.
    pub fn new(sizes: impl IntoIterator<Item = u64>) -> Arc<Self> {
        let parts = sizes.into_iter().map(|size| Read { size, ranges: Vec::new(), done: false }).collect();
        Arc::new(Self(Mutex::new(Inner { parts, selections: Vec::new() })))
    }

    /// The parts, in order.
    pub fn parts(self: &Arc<Self>) -> Vec<Part> {
        (0..self.inner().parts.len()).map(|index| Part { progress: Arc::clone(self), index }).collect()
    }

    /// How many parts were read to their ends, of how many.
    pub fn done(&self) -> (usize, usize) {
        let inner = self.inner();
        let mut done: Vec<bool> = inner.parts.iter().map(|part| part.done).collect();
        for Selection { read, needless } in &inner.selections {
            if read.iter().all(|index| inner.parts[*index].done) {
                needless.iter().for_each(|index| done[*index] = true);
            }
        }
        (done.iter().filter(|done| **done).count(), done.len())
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a source.
#[derive(Debug, Clone)]
pub struct Part {
    progress: Arc<Progress>,
    index: usize,
}

impl Part {
    /// Puts the part next to the file that it is.
    #[must_use]
    pub fn beside(self, file: PartitionedFile) -> PartitionedFile {
        file.with_extensions(Arc::new(self))
    }

    /// The part that a file is, if anybody wants to know.
    pub fn of(file: &PartitionedFile) -> Option<&Self> {
        file.extensions.as_ref()?.downcast_ref()
    }

    /// All rows of a range of bytes, or of the whole part, were returned and asked for more.
    pub fn read(&self, range: Option<Range<u64>>) {
        let mut inner = self.progress.inner();
        let Some(part) = inner.parts.get_mut(self.index).filter(|part| !part.done) else { return };
        match range {
            None => part.done = true,
            Some(range) => {
                part.ranges.push(range);
                part.ranges.sort_unstable_by_key(|range| range.start);
                let end =
                    part.ranges.iter().fold(0, |end, range| if range.start <= end { end.max(range.end) } else { end });
                part.done = end >= part.size;
            }
        }
        if part.done {
            part.ranges = Vec::new();
        }
    }

    /// A scan reads these parts. It needs no others, because it wants none of their rows.
    pub fn select<'a>(read: impl IntoIterator<Item = &'a Self>, needless: impl IntoIterator<Item = &'a Self>) {
        let needless: Vec<&Self> = needless.into_iter().collect();
        let Some(progress) = needless.first().map(|part| &part.progress) else { return };
        let selection = Selection {
            read: read.into_iter().map(|part| part.index).collect(),
            needless: needless.iter().map(|part| part.index).collect(),
        };
        progress.inner().selections.push(selection);
    }
}

/// Takes the [parts](Part) and [watermarks](crate::watermark) out of scans that a limit may end early: what such a plan has
/// read need not have been used.
#[derive(Debug)]
pub(crate) struct Uncounted;

impl PhysicalOptimizerRule for Uncounted {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> DFResult<Arc<dyn ExecutionPlan>> {
        Ok(below(&plan, false)?.unwrap_or(plan))
    }

    fn name(&self) -> &str {
        "uncounted"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan without parts below a limit, if that changes it.
fn below(plan: &Arc<dyn ExecutionPlan>, limited: bool) -> DFResult<Option<Arc<dyn ExecutionPlan>>> {
    let limited = match plan.as_any() {
        // These take all of their input before they return anything.
        any if any.is::<SortExec>() => false,
        any if any.downcast_ref::<AggregateExec>().is_some_and(|aggregate| aggregate.limit_options().is_none()) => {
            false
        }
        _ => limited || plan.fetch().is_some(),
    };
    if let Some(observed) = plan.as_any().downcast_ref::<WatermarkExec>().filter(|_| limited) {
        let input = below(&observed.input, limited)?;
        return Ok(Some(input.unwrap_or_else(|| Arc::clone(&observed.input))));
    }
    if let Some(scan) = plan.as_any().downcast_ref::<DataSourceExec>() {
        return Ok(if limited { without_parts(scan) } else { None });
    }
    let mut changed = false;
    let mut children = Vec::new();
    for child in plan.children() {
        let below = below(child, limited)?;
        changed |= below.is_some();
        children.push(below.unwrap_or_else(|| Arc::clone(child)));
    }
    if changed { Arc::clone(plan).with_new_children(children).map(Some) } else { Ok(None) }
}

fn without_parts(scan: &DataSourceExec) -> Option<Arc<dyn ExecutionPlan>> {
    let config = scan.data_source().as_any().downcast_ref::<FileScanConfig>()?;
    config.file_groups.iter().flat_map(FileGroup::iter).find_map(Part::of)?;
    let without = |file: &PartitionedFile| PartitionedFile { extensions: None, ..file.clone() };
    let groups = config.file_groups.iter().map(|group| FileGroup::new(group.iter().map(without).collect()));
    let config = FileScanConfigBuilder::from(config.clone()).with_file_groups(groups.collect()).build();
    Some(DataSourceExec::from_data_source(config))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::nothing(&[], 0)]
    #[case::whole(&[(0, None)], 1)]
    #[case::both(&[(0, None), (1, None)], 2)]
    #[case::twice(&[(0, None), (0, None)], 1)]
    #[case::half(&[(0, Some(0..5))], 0)]
    #[case::halves(&[(0, Some(5..10)), (0, Some(0..5))], 1)]
    #[case::a_gap(&[(0, Some(6..10)), (0, Some(0..5))], 0)]
    #[case::another_scan_with_other_ranges(&[(0, Some(0..3)), (0, Some(2..10))], 1)]
    fn a_part_is_read_when_all_of_it_is(#[case] reads: &[(usize, Option<Range<u64>>)], #[case] done: usize) {
        let progress = Progress::new([10, 20]);
        let parts = progress.parts();
        reads.iter().for_each(|(part, range)| parts[*part].read(range.clone()));
        assert_eq!(progress.done(), (done, 2));
    }

    /// Their rows went through the plan in effect: it would have dropped them.
    #[test]
    fn parts_that_a_scan_does_not_need_are_read_with_those_that_it_needs() {
        let progress = Progress::new([1, 1, 1]);
        let parts = progress.parts();
        Part::select(&parts[..1], &parts[1..]);
        assert_eq!(progress.done(), (0, 3));
        parts[0].read(None);
        assert_eq!(progress.done(), (3, 3));
    }

    #[test]
    fn nothing_is_all_of_nothing() {
        assert_eq!(Progress::new([]).done(), (0, 0));
    }
}
