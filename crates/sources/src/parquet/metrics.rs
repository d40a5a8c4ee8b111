//! Metrics that many files share.
//!
//! DataFusion registers about twenty metrics for each Parquet file, with its name, and keeps them until the plan is dropped.
//! For ten thousand small files they take 60 MB. Here, groups of files share one set, and only its sums are kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use datafusion::common::Result as DFResult;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileOpenFuture, FileOpener};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, Metric};
use futures::stream::poll_fn;
use futures::{FutureExt, StreamExt};

/// The number of files that share a set of metrics. Scans of no more files keep the metrics of each.
pub(super) const MAX_GROUP_FILES: usize = 64;

/// Makes the opener of a group of files, and the metrics that it fills.
type MakeOpener = Box<dyn Fn() -> DFResult<(Arc<dyn FileOpener>, ExecutionPlanMetricsSet)> + Send + Sync>;

/// Opens the files of a partition in groups.
pub(super) struct GroupedOpener {
    make: MakeOpener,
    /// The metrics of the plan, and the partition.
    to: (ExecutionPlanMetricsSet, usize),
    current: Mutex<Current>,
}

struct Current {
    group: Option<Arc<Group>>,
    /// The number of files that the group can still take, and of those that the partition still has.
    room: usize,
    left: usize,
}

impl GroupedOpener {
    /// Opens this many files, whose metrics are added to those of the plan.
    pub(super) fn new(make: MakeOpener, files: usize, metrics: ExecutionPlanMetricsSet, partition: usize) -> Self {
        let current = Mutex::new(Current { group: None, room: 0, left: files });
        Self { make, to: (metrics, partition), current }
    }

    fn group(&self) -> DFResult<Arc<Group>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let group = match current.group.take() {
            Some(group) => group,
            None => {
                let (opener, metrics) = (self.make)()?;
                current.room = MAX_GROUP_FILES;
                Arc::new(Group { opener, metrics, to: self.to.clone() })
            }
        };
        (current.room, current.left) = (current.room - 1, current.left.saturating_sub(1));
        if current.room > 0 && current.left > 0 {
            current.group = Some(Arc::clone(&group));
        }
        Ok(group)
    }
}

impl FileOpener for GroupedOpener {
    fn open(&self, file: PartitionedFile) -> DFResult<FileOpenFuture> {
        let group = self.group()?;
        let opening = group.opener.open(file)?;
        Ok(async move {
            let (mut batches, mut group) = (opening.await?, Some(group));
            Ok(poll_fn(move |cx| {
                let next = batches.poll_next_unpin(cx);
                if matches!(next, Poll::Ready(None)) {
                    drop(group.take());
                }
                next
            })
            .boxed())
        }
        .boxed())
    }
}

/// Files that share metrics.
struct Group {
    opener: Arc<dyn FileOpener>,
    metrics: ExecutionPlanMetricsSet,
    to: (ExecutionPlanMetricsSet, usize),
}

impl Drop for Group {
    /// All its files have ended, or nobody reads them any more.
    fn drop(&mut self) {
        let (to, partition) = &self.to;
        for sum in self.metrics.clone_inner().aggregate_by_name().iter() {
            let sum = Metric::new(sum.value().clone(), Some(*partition)).with_type(sum.metric_type());
            to.register(Arc::new(sum));
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_plan::metrics::MetricBuilder;
    use rstest::rstest;

    use super::*;

    /// Counts the files that it opens; none has rows.
    struct Empty(ExecutionPlanMetricsSet);

    impl FileOpener for Empty {
        fn open(&self, file: PartitionedFile) -> DFResult<FileOpenFuture> {
            let name = file.object_meta.location.to_string();
            MetricBuilder::new(&self.0).with_new_label("filename", name).counter("opened", 0).add(1);
            Ok(async { Ok(futures::stream::empty().boxed()) }.boxed())
        }
    }

    /// Nothing is lost, and no more is kept than a sum for each group, even while the streams are still there.
    #[rstest]
    #[case(1, 1)]
    #[case(MAX_GROUP_FILES, 1)]
    #[case(MAX_GROUP_FILES + 1, 2)]
    #[case(2 * MAX_GROUP_FILES + 2, 3)]
    #[tokio::test]
    async fn sums_are_kept_once_files_have_ended(#[case] files: usize, #[case] groups: usize) {
        let metrics = ExecutionPlanMetricsSet::new();
        let make: MakeOpener = Box::new(|| {
            let metrics = ExecutionPlanMetricsSet::new();
            Ok((Arc::new(Empty(metrics.clone())), metrics))
        });
        let opener = GroupedOpener::new(make, files, metrics.clone(), 3);
        let mut streams = Vec::new();
        for file in 0..files {
            let mut stream = opener.open(PartitionedFile::new(file.to_string(), 1)).unwrap().await.unwrap();
            assert!(stream.next().await.is_none());
            streams.push(stream);
        }
        let kept = metrics.clone_inner();
        assert_eq!(kept.iter().count(), groups);
        assert!(kept.iter().all(|sum| sum.partition() == Some(3)));
        assert_eq!(kept.sum_by_name("opened").unwrap().as_usize(), files);
    }

    #[tokio::test]
    async fn files_that_nobody_reads_to_their_end_are_counted() {
        let metrics = ExecutionPlanMetricsSet::new();
        let make: MakeOpener = Box::new(|| {
            let metrics = ExecutionPlanMetricsSet::new();
            Ok((Arc::new(Empty(metrics.clone())), metrics))
        });
        let opener = GroupedOpener::new(make, 9, metrics.clone(), 0);
        drop(opener.open(PartitionedFile::new("a", 1)).unwrap());
        drop(opener);
        assert_eq!(metrics.clone_inner().sum_by_name("opened").unwrap().as_usize(), 1);
    }
}
