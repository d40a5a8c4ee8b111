//! The batches of one stream, in memory while there is room, on disk beyond that.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::RefCountedTempFile;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, SpillMetrics};
use datafusion::physical_plan::spill::get_record_batch_memory_size;
use datafusion::physical_plan::{SendableRecordBatchStream, SpillManager};
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::watch;

use crate::Error;
use crate::guard::panic_text;

/// The bytes that all persisted rows of a run may hold in memory: a quarter of the memory limit, because their readers
/// need memory, too, and cannot reclaim it from them.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    pub(crate) fn of(pool: &dyn MemoryPool) -> Self {
        Self(AtomicUsize::new(match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => bytes / 4,
            _ => usize::MAX,
        }))
    }

    fn take(&self, bytes: usize) -> bool {
        let less = |left: usize| left.checked_sub(bytes);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Rows that were spilled are written to files of at least this size.
const SPILLED_BYTES: usize = 1 << 20;

/// The batches of one stream. One task fills it, any number of readers follow.
pub(super) struct Buffer {
    spill: SpillManager,
    budget: Arc<Budget>,
    held: Mutex<Held>,
    /// Signals that there is more.
    changed: watch::Sender<()>,
}

struct Held {
    /// In the order of the rows.
    chunks: Vec<Chunk>,
    /// The number of batches.
    batches: usize,
    /// What the batches in memory take, as far as the pool had room for it.
    memory: MemoryReservation,
    /// The rest of it.
    unreserved: usize,
    end: Option<std::result::Result<(), Arc<DataFusionError>>>,
}

/// Consecutive batches, with the number of the first.
struct Chunk {
    first: usize,
    rows: Rows,
}

enum Rows {
    InMemory(RecordBatch),
    OnDisk(RefCountedTempFile),
}

/// What a reader gets next.
enum Found {
    Batch(RecordBatch),
    /// A file, the number of batches in it that the reader has had, and the number of the first batch after it.
    File(RefCountedTempFile, usize, usize),
    Nothing,
    End,
}

impl Buffer {
    pub(super) fn new(
        partition: usize,
        schema: SchemaRef,
        budget: Arc<Budget>,
        metrics: &ExecutionPlanMetricsSet,
        context: &TaskContext,
    ) -> Self {
        // Not registered as spillable: the pool would count on reclaiming the memory, which only we can do.
        let memory = MemoryConsumer::new(format!("Persist[{partition}]")).register(context.memory_pool());
        let spill = SpillManager::new(context.runtime_env(), SpillMetrics::new(metrics, partition), schema);
        let spill = spill.with_compression_type(context.session_config().spill_compression());
        let held = Held { chunks: Vec::new(), batches: 0, memory, unreserved: 0, end: None };
        Self { spill, budget, held: Mutex::new(held), changed: watch::Sender::new(()) }
    }

    /// Fills the buffer with all rows of a stream, and its end or error.
    pub(super) async fn fill(self: Arc<Self>, mut rows: SendableRecordBatchStream) {
        let fill = async {
            while let Some(batch) = rows.next().await.transpose()? {
                if batch.num_rows() > 0 {
                    self.add(batch)?;
                }
            }
            Ok(())
        };
        let end = AssertUnwindSafe(fill).catch_unwind().await.unwrap_or_else(|panic| {
            let why = panic_text(&*panic).unwrap_or("a panic without a message");
            Err(Error::unexpected(format!("the rows cannot be computed: {why}")).into())
        });
        self.held().end = Some(end.map_err(Arc::new));
        self.changed.send_replace(());
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, batch: RecordBatch) -> Result<()> {
        let bytes = get_record_batch_memory_size(&batch);
        let mut held = self.held();
        let first = held.batches;
        held.batches += 1;
        held.chunks.push(Chunk { first, rows: Rows::InMemory(batch) });
        let room = self.budget.take(bytes);
        if room && held.memory.try_grow(bytes).is_ok() {
            drop(held);
        } else {
            if room {
                self.budget.give_back(bytes);
            }
            // At most a small file is held beyond the limit.
            held.unreserved += bytes;
            if held.unreserved >= SPILLED_BYTES {
                self.spill(&mut held)?;
            }
        }
        self.changed.send_replace(());
        Ok(())
    }

    /// Moves all batches that are in memory to a file.
    fn spill(&self, held: &mut Held) -> Result<()> {
        let in_memory = held.chunks.iter().position(|chunk| matches!(chunk.rows, Rows::InMemory(_)));
        let Some(from) = in_memory else { return Ok(()) };
        let mut file = self.spill.create_in_progress_file("persisting rows")?;
        for chunk in &held.chunks[from..] {
            if let Rows::InMemory(batch) = &chunk.rows {
                file.append_batch(batch)?;
            }
        }
        if let Some(file) = file.finish()? {
            let first = held.chunks[from].first;
            held.chunks.truncate(from);
            held.chunks.push(Chunk { first, rows: Rows::OnDisk(file) });
            self.budget.give_back(held.memory.free());
            held.unreserved = 0;
        }
        Ok(())
    }

    /// All rows from the first on, as they come.
    pub(super) fn read(self: Arc<Self>) -> impl Stream<Item = Result<RecordBatch>> + Send + use<> {
        let reader = Reader { changed: self.changed.subscribe(), buffer: self, next: 0, file: None };
        futures::stream::try_unfold(reader, Reader::next)
    }

    fn find(&self, number: usize) -> Result<Found> {
        let held = self.held();
        if number < held.batches {
            let after = held.chunks.partition_point(|chunk| chunk.first <= number);
            let chunk = &held.chunks[after - 1];
            return Ok(match &chunk.rows {
                Rows::InMemory(batch) => Found::Batch(batch.clone()),
                Rows::OnDisk(file) => {
                    let end = held.chunks.get(after).map_or(held.batches, |next| next.first);
                    Found::File(file.clone(), number - chunk.first, end)
                }
            });
        }
        match &held.end {
            None => Ok(Found::Nothing),
            Some(Ok(())) => Ok(Found::End),
            Some(Err(error)) => Err(DataFusionError::Shared(Arc::clone(error))),
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.budget.give_back(self.held().memory.size());
    }
}

/// A reader of a buffer.
struct Reader {
    buffer: Arc<Buffer>,
    changed: watch::Receiver<()>,
    /// The number of the next batch.
    next: usize,
    file: Option<SendableRecordBatchStream>,
}

impl Reader {
    async fn next(mut self) -> Result<Option<(RecordBatch, Self)>> {
        loop {
            if let Some(file) = &mut self.file {
                match file.next().await.transpose()? {
                    Some(batch) => return Ok(Some((batch, self))),
                    None => self.file = None,
                }
            }
            // Before the check, so that no change is missed.
            self.changed.borrow_and_update();
            match self.buffer.find(self.next)? {
                Found::Batch(batch) => {
                    self.next += 1;
                    // A reader of batches in memory never waits, so it has to yield.
                    tokio::task::coop::consume_budget().await;
                    return Ok(Some((batch, self)));
                }
                Found::File(file, skipped, end) => {
                    let mut rows = self.buffer.spill.read_spill_as_stream(file, None)?;
                    for _ in 0..skipped {
                        rows.next().await.transpose()?;
                    }
                    (self.file, self.next) = (Some(rows), end);
                }
                Found::Nothing => {
                    if self.changed.changed().await.is_err() {
                        return Ok(None);
                    }
                }
                Found::End => return Ok(None),
            }
        }
    }
}
