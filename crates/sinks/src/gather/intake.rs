//! The intake: holds rows in memory as they arrive, and spills them to disk in key order when memory runs out.
#![allow(clippy::disallowed_methods, reason = "what is spilled lies in files of the engine's own")]

use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::ipc::CompressionType;
use datafusion::arrow::ipc::writer::{FileWriter, IpcWriteOptions};
use datafusion::arrow::row::SortField;
use datafusion::common::Result;
use datafusion::execution::disk_manager::{DiskManager, RefCountedTempFile};
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::metrics::SpillMetrics;
use futures::StreamExt;

use super::held::{Held, RowHash, compact};
use super::keys::{Keys, Slice};
use super::pack::{Packer, with_texts};
use super::picked::{OutputColumns, Picked};

/// The rows of one input stream.
pub(super) struct Intake {
    pub(super) keys: Keys,
    pub(super) batches: Vec<Held>,
    /// In arrival order of the rows.
    pub(super) slices: Vec<Slice>,
    pub(super) runs: Vec<SpilledRun>,
    pub(super) memory: MemoryReservation,
    schema: SchemaRef,
    hash: Option<RowHash>,
    packers: Vec<Packer>,
    disk: Arc<DiskManager>,
    metrics: SpillMetrics,
    /// The approximate size of a spilled batch.
    spilled_batch_bytes: usize,
}

/// Rows on disk, sorted by key.
pub(super) struct SpilledRun {
    pub(super) file: RefCountedTempFile,
    /// The number of rows of every batch of the file but the last.
    pub(super) batch_rows: usize,
    /// The number of rows of each key, in key order. Keys are numbered as in the intake.
    pub(super) keys: Vec<(u32, u64)>,
}

impl Intake {
    #[expect(clippy::too_many_arguments, reason = "what an operator has at hand, passed on once")]
    pub(super) fn new(
        schema: SchemaRef,
        fields: Vec<SortField>,
        columns: Vec<usize>,
        hash: Option<RowHash>,
        memory: MemoryReservation,
        disk: Arc<DiskManager>,
        metrics: SpillMetrics,
        spilled_batch_bytes: usize,
    ) -> Result<Self> {
        let keys = Keys::new(fields, columns)?;
        let (batches, slices, runs) = (Vec::new(), Vec::new(), Vec::new());
        let packers = schema.fields().iter().map(|_| Packer::default()).collect();
        Ok(Self { keys, batches, slices, runs, memory, schema, hash, packers, disk, metrics, spilled_batch_bytes })
    }

    /// Consumes a stream.
    pub(super) async fn take_in(mut self, mut rows: SendableRecordBatchStream) -> Result<Self> {
        while let Some(batch) = rows.next().await.transpose()? {
            if batch.num_rows() > 0 {
                self.add(batch)?;
            }
        }
        // The next phase needs memory too: it reads files and writes files.
        if !self.runs.is_empty() {
            self.spill()?;
        }
        self.seal()?;
        Ok(self)
    }

    fn add(&mut self, rows: RecordBatch) -> Result<()> {
        let before = self.overhead();
        self.keys.slices(&rows, self.batches.len() as u32, &mut self.slices)?;
        let columns = rows.columns().iter().zip(&mut self.packers);
        let columns = columns.map(|(column, packer)| compact(&packer.pack(column))).collect::<Result<Vec<_>>>()?;
        let hash = |hash: &RowHash| hash.of(&self.schema, &columns, &self.packers, rows.num_rows());
        let hashes = self.hash.as_ref().map(hash).transpose()?.unwrap_or_default();
        let held = Held { columns, rows: rows.num_rows(), hashes, intake: 0 };
        let size = held.size();
        self.batches.push(held);
        let grown = size + self.overhead().saturating_sub(before);
        if self.memory.try_grow(grown).is_err() {
            self.spill()?;
        }
        Ok(())
    }

    /// The memory held in addition to the rows.
    fn overhead(&self) -> usize {
        let texts: usize = self.packers.iter().map(Packer::size).sum();
        self.keys.size() + texts + self.slices.capacity() * size_of::<Slice>()
    }

    /// Attaches the texts to their numbers, in all batches.
    fn seal(&mut self) -> Result<()> {
        for (i, (field, packer)) in self.schema.fields().iter().zip(&mut self.packers).enumerate() {
            if field.data_type() != &DataType::Utf8 {
                continue;
            }
            let texts = packer.take()?;
            for held in &mut self.batches {
                if let Some(numbers) = held.columns[i].as_primitive_opt() {
                    held.columns[i] = with_texts(numbers, &texts)?;
                }
            }
        }
        Ok(())
    }

    /// Writes all rows in memory to a file, in key order.
    pub(super) fn spill(&mut self) -> Result<()> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let texts: usize = self.packers.iter().map(Packer::size).sum();
        let bytes = texts + self.batches.iter().map(Held::size).sum::<usize>();
        self.seal()?;
        let mut order: Vec<u32> = (0..self.keys.len() as u32).collect();
        order.sort_unstable_by(|a, b| self.keys.get(*a).cmp(self.keys.get(*b)));
        let mut rank = vec![0_u32; order.len()];
        order.iter().zip(0..).for_each(|(key, at)| rank[*key as usize] = at);
        // The sort is stable: rows of a key keep their arrival order.
        self.slices.sort_by_key(|slice| rank[slice.key as usize]);

        let rows: usize = self.batches.iter().map(|held| held.rows).sum();
        let batch_rows = (self.spilled_batch_bytes / (bytes / rows).max(1)).clamp(16, 8192);
        let mut file = self.disk.create_tmp_file("gathering the rows of a partition")?;
        let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME))?;
        let out = BufWriter::with_capacity(1 << 20, File::create(file.path())?);
        let mut writer = FileWriter::try_new_with_options(out, &self.schema, options)?;
        let all = OutputColumns::all(&self.schema);
        let mut picked = Picked::default();
        let mut keys: Vec<(u32, u64)> = Vec::new();
        for slice in &self.slices {
            match keys.last_mut() {
                Some((key, rows)) if *key == slice.key => *rows += u64::from(slice.rows),
                _ => keys.push((slice.key, slice.rows.into())),
            }
            let mut rows = slice.start..slice.start + slice.rows;
            while !rows.is_empty() {
                let end = rows.end.min(rows.start.saturating_add((batch_rows - picked.len()) as u32));
                picked.push(slice.batch, rows.start..end);
                rows.start = end;
                if picked.len() == batch_rows {
                    writer.write(&picked.take(&all, |batch| &self.batches[batch as usize])?)?;
                }
            }
        }
        if picked.len() > 0 {
            writer.write(&picked.take(&all, |batch| &self.batches[batch as usize])?)?;
        }
        writer.finish()?;
        drop(writer);
        // Counts towards the limit on spilled bytes.
        file.update_disk_usage()?;
        self.metrics.spill_file_count.add(1);
        self.metrics.spilled_rows.add(rows);
        self.metrics.spilled_bytes.add(usize::try_from(file.current_disk_usage()).unwrap_or(usize::MAX));
        self.runs.push(SpilledRun { file, batch_rows, keys });
        self.batches.clear();
        self.slices.clear();
        let overhead = self.overhead();
        self.memory.resize(overhead);
        Ok(())
    }
}
