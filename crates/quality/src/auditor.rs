//! Measures rows on their way to a sink.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, UInt32Array,
};
use datafusion::arrow::compute::{cast, concat, filter, filter_record_batch, not, or, prep_null_mask_filter, take};
use datafusion::arrow::datatypes::{DataType, SchemaRef, UInt32Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Accumulator, Expr};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_plan::execute_stream_partitioned;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use hardtack_core::observe::{Observer, RowAccumulator};
use hardtack_core::{Error, Result};
use tokio::task::{JoinHandle, JoinSet};

use crate::compile::{Program, Settings};
use crate::example::Examples;
use crate::keys::{KeyCounter, Keys};
use crate::measure::{Aggregate, Groups, Measured, Row, plain};
use crate::query::{Tap, projected, selected};

/// An audit while the rows flow. Clones are the same audit.
#[derive(Clone)]
pub(crate) struct Auditor(Arc<Shared>);

struct Shared {
    settings: Settings,
    running: Mutex<Option<Running>>,
}

/// What has begun with the first stream.
struct Running {
    measuring: Measuring,
    answers: Answers,
    /// The streams that have begun and not ended.
    open: usize,
    total: Total,
}

/// What all streams share.
#[derive(Clone)]
struct Measuring {
    program: Arc<Program>,
    /// Where rows go that queries need; none any more once the rows have ended.
    taps: Arc<Vec<Tap>>,
    /// The counts of the groupings.
    keys: Vec<Keys>,
}

/// The sums over the streams that have ended.
#[derive(Default)]
struct Total {
    rows: u64,
    held_back: u64,
    counts: Vec<u64>,
    aggregates: Vec<Box<dyn Accumulator>>,
    examples: Vec<Examples>,
}

impl fmt::Debug for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auditor").field("rules", &self.0.settings.rules).finish_non_exhaustive()
    }
}

/// What an audit has measured.
pub(crate) struct Finding {
    pub(crate) program: Arc<Program>,
    pub(crate) measured: Measured,
    /// The rows that were not let through.
    pub(crate) held_back: u64,
}

impl Auditor {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared { settings, running: Mutex::new(None) }))
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins with the first stream: what is measured depends on the columns that the sink writes.
    fn begin(&self, schema: &SchemaRef) -> Result<Measuring> {
        let mut running = self.running();
        if let Some(running) = &*running {
            if running.measuring.program.schema != plain(schema) {
                return Err(Error::unexpected("the sink writes rows of two kinds, and rules are for one"));
            }
            return Ok(running.measuring.clone());
        }
        let (program, queries) = Program::compile(&self.0.settings, plain(schema))?;
        let state = self.0.settings.job.session().state();
        let keys =
            program.measures.groupings.iter().map(|grouping| Keys::new(&state, &program.schema, &grouping.columns));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        let (mut taps, mut answers) = (Vec::new(), Vec::new());
        for query in queries {
            taps.extend(query.tap);
            answers.push(tokio::spawn(query.answer));
        }
        let measuring = Measuring { program: Arc::new(program), taps: Arc::new(taps), keys };
        let total = Total::default();
        *running = Some(Running { measuring: measuring.clone(), answers: Answers(answers), open: 0, total });
        Ok(measuring)
    }

    /// Audits a stream of rows of this schema.
    pub(crate) fn stream(&self, schema: &SchemaRef) -> Result<Box<dyn RowAccumulator>> {
        let measuring = self.begin(schema)?;
        if let Some(running) = &mut *self.running() {
            running.open += 1;
        }
        Ok(Box::new(Stream::new(self.clone(), measuring)?))
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Stops what has begun.
    pub(crate) fn abandon(&self) {
        self.running().take();
    }

    /// Whether there was any stream of rows.
    pub(crate) fn has_begun(&self) -> bool {
        self.running().is_some()
    }

    /// Audits the rows of a plan, which are not used for anything else.
    pub(crate) async fn read(&self, rows: DataFrame) -> Result<()> {
        let task = Arc::new(rows.task_ctx());
        let plan = rows.create_physical_plan().await?;
        let streams = execute_stream_partitioned(plan, task)?;
        let mut tasks = JoinSet::new();
        for mut rows in streams {
            let mut stream = self.stream(&rows.schema())?;
            tasks.spawn(async move {
                while let Some(batch) = rows.try_next().await? {
                    stream.update(batch).await?;
                }
                stream.finish().await
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.map_err(|e| Error::unexpected("the audit ended early").because(e))??;
        }
        Ok(())
    }

    /// What was measured, once all streams have ended. `schema` is that of the rows if there was no stream.
    pub(crate) async fn end(&self, schema: &SchemaRef) -> Result<Finding> {
        if self.running().is_none() {
            self.begin(schema)?;
        }
        let Some(Running { measuring, answers, open, total }) = self.running().take() else {
            return Err(Error::unexpected("the audit has ended twice"));
        };
        if open > 0 {
            return Err(Error::unexpected("not all rows were read, so the rules cannot be judged")
                .hint("a sink has to read its rows to their end"));
        }
        let Measuring { program, taps, keys } = measuring;
        // Queries end when nobody can send any more.
        drop(taps);
        let queries = answers.all().await?;
        let mut groupings = Vec::new();
        for keys in keys {
            groupings.push(keys.groups().await?);
        }
        let held_back = total.held_back;
        let measured = total.measured(&program, &self.0.settings.job.session().state(), groupings, queries)?;
        Ok(Finding { program, measured, held_back })
    }
}

impl Total {
    fn add(&mut self, stream: Stream, program: &Program) -> Result<()> {
        self.rows += stream.rows;
        self.held_back += stream.held_back;
        self.counts.resize(program.measures.counts.len(), 0);
        for (total, (_, count)) in self.counts.iter_mut().zip(&stream.counts) {
            *total += count;
        }
        if self.aggregates.is_empty() {
            self.aggregates = stream.aggregates.into_iter().map(|aggregate| aggregate.accumulator).collect();
        } else {
            for (total, mut aggregate) in self.aggregates.iter_mut().zip(stream.aggregates) {
                let state = aggregate.accumulator.state()?;
                let state = state.iter().map(ScalarValue::to_array).collect::<Result<Vec<_>, _>>()?;
                total.merge_batch(&state)?;
            }
        }
        self.examples.resize_with(program.examples.len(), Examples::default);
        for (total, examples) in self.examples.iter_mut().zip(stream.examples) {
            total.merge(examples).map_err(DataFusionError::from)?;
        }
        Ok(())
    }

    fn measured(
        mut self,
        program: &Program,
        state: &SessionState,
        groupings: Vec<Groups>,
        queries: Vec<Row>,
    ) -> Result<Measured> {
        self.counts.resize(program.measures.counts.len(), 0);
        self.examples.resize_with(program.examples.len(), Examples::default);
        if self.aggregates.is_empty() {
            let empty =
                program.measures.aggregates.iter().map(|aggregate| accumulator(aggregate, state, &program.schema));
            self.aggregates = empty.collect::<Result<_>>()?;
        }
        let aggregates = self.aggregates.iter_mut().map(|aggregate| aggregate.evaluate());
        let examples = self.examples.iter().map(|examples| examples.texts().map_err(DataFusionError::from));
        Ok(Measured {
            rows: self.rows,
            counts: self.counts,
            aggregates: aggregates.collect::<Result<_, _>>()?,
            groupings,
            queries,
            examples: examples.collect::<Result<_, _>>()?,
        })
    }
}

/// Queries that are stopped when nobody waits for them any more.
struct Answers(Vec<JoinHandle<Result<Row>>>);

impl Answers {
    async fn all(mut self) -> Result<Vec<Row>> {
        let mut all = Vec::new();
        for answer in &mut self.0 {
            all.push(answer.await.map_err(|e| Error::unexpected("a query of the audit ended early").because(e))??);
        }
        Ok(all)
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Observer for Auditor {
    fn accumulator(&self, _: &str, schema: &SchemaRef) -> Result<Option<Box<dyn RowAccumulator>>> {
        Ok(Some(self.stream(schema)?))
    }
}

/// The measures of one stream.
struct Stream {
    auditor: Auditor,
    program: Arc<Program>,
    taps: Arc<Vec<Tap>>,
    tap_filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    groupings: Vec<Counting>,
    /// The rows that are still to be measured, their number and size, and how many are measured at once.
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    rows_at_once: usize,
    rows: u64,
    held_back: u64,
    counts: Vec<(Arc<dyn PhysicalExpr>, u64)>,
    aggregates: Vec<Aggregating>,
    examples: Vec<Examples>,
}

/// An aggregate of one stream.
struct Aggregating {
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    accumulator: Box<dyn Accumulator>,
}

/// The keys of one stream.
struct Counting {
    columns: Vec<usize>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    counter: KeyCounter,
}

impl Stream {
    fn new(auditor: Auditor, measuring: Measuring) -> Result<Self> {
        let Measuring { program, taps, keys } = measuring;
        let state = &auditor.0.settings.job.session().state();
        // Without dictionaries
        let schema = &program.schema;
        let columns = DFSchema::try_from(Arc::clone(schema))?;
        let physical = |expr: &Expr| state.create_physical_expr(expr.clone(), &columns);
        let optional = |expr: &Option<Expr>| expr.as_ref().map(physical).transpose();
        let counts = program.measures.counts.iter().map(|count| Ok((physical(count)?, 0))).collect::<Result<_>>()?;
        let aggregates = program.measures.aggregates.iter().map(|aggregate| {
            Ok(Aggregating {
                arguments: aggregate.arguments.iter().map(physical).collect::<Result<_, _>>()?,
                filter: optional(&aggregate.filter)?,
                accumulator: accumulator(aggregate, state, schema)?,
            })
        });
        let aggregates = aggregates.collect::<Result<_>>()?;
        let tap_filters = taps.iter().map(|tap| optional(&tap.filter)).collect::<Result<_, _>>()?;
        let groupings = program.measures.groupings.iter().zip(&keys).map(|(grouping, keys)| {
            let (columns, filter) = (grouping.columns.clone(), optional(&grouping.filter)?);
            Ok(Counting { columns, filter, counter: keys.counter() })
        });
        let groupings = groupings.collect::<Result<_>>()?;
        let examples = program.examples.iter().map(|_| Examples::default()).collect();
        Ok(Self {
            auditor,
            program,
            taps,
            tap_filters,
            groupings,
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            rows_at_once: state.config().batch_size(),
            rows: 0,
            held_back: 0,
            counts,
            aggregates,
            examples,
        })
    }
}

/// An accumulator, for rows of this schema.
fn accumulator(aggregate: &Aggregate, state: &SessionState, schema: &SchemaRef) -> Result<Box<dyn Accumulator>> {
    let columns = DFSchema::try_from(Arc::clone(schema))?;
    let arguments = aggregate.arguments.iter().map(|argument| state.create_physical_expr(argument.clone(), &columns));
    let arguments = arguments.collect::<Result<Vec<_>, _>>()?;
    let builder = AggregateExprBuilder::new(Arc::clone(&aggregate.function), arguments);
    Ok(builder.schema(Arc::clone(schema)).alias("value").build()?.create_accumulator()?)
}

/// The rows for which a condition is true.
fn mask(condition: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<BooleanArray, DataFusionError> {
    let array = condition.evaluate(rows)?.into_array(rows.num_rows())?;
    let mask = array.as_any().downcast_ref::<BooleanArray>();
    let mask = mask.ok_or_else(|| DataFusionError::Internal(format!("`{condition}` is not a condition")))?;
    Ok(if mask.null_count() > 0 { prep_null_mask_filter(mask) } else { mask.clone() })
}

/// Batches wait to be measured together up to this size. A buffer that several of them share counts for each.
const WAITING_BYTES: usize = 16 << 20;

impl Stream {
    /// Measures the rows later, together with others: a sink of many partitions has many small batches, and each costs as
    /// much as hundreds of rows.
    async fn wait(&mut self, rows: RecordBatch) -> Result<()> {
        let bytes: usize = rows.columns().iter().map(unpacked_bytes).sum();
        if self.waiting_rows + rows.num_rows() > self.rows_at_once || self.waiting_bytes + bytes > WAITING_BYTES {
            self.measure_waiting().await?;
        }
        self.waiting_rows += rows.num_rows();
        self.waiting_bytes += bytes;
        self.waiting.push(rows);
        if self.waiting_rows >= self.rows_at_once || self.waiting_bytes >= WAITING_BYTES {
            self.measure_waiting().await?;
        }
        Ok(())
    }

    /// Measures the rows that wait.
    async fn measure_waiting(&mut self) -> Result<()> {
        (self.waiting_rows, self.waiting_bytes) = (0, 0);
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        // Batches of one plan may differ in what is nullable, and then do not fit together.
        if let Ok(rows) = together(&waiting) {
            self.measure(&rows).await?;
            return Ok(());
        }
        for rows in waiting {
            self.measure(&unpacked(&rows)?).await?;
        }
        Ok(())
    }

    /// Measures the rows, and keeps those that fail, if they are kept. Returns which are bad, if it matters.
    async fn measure(&mut self, rows: &RecordBatch) -> Result<Option<BooleanArray>> {
        let program = Arc::clone(&self.program);
        self.rows += rows.num_rows() as u64;
        let mut masks = Vec::with_capacity(self.counts.len());
        for (condition, count) in &mut self.counts {
            let mask = mask(condition, rows)?;
            *count += mask.true_count() as u64;
            masks.push(mask);
        }
        for (wanted, examples) in program.examples.iter().zip(&mut self.examples) {
            examples.add(wanted, &masks[wanted.count], rows)?;
        }
        for aggregate in &mut self.aggregates {
            let arguments =
                aggregate.arguments.iter().map(|argument| argument.evaluate(rows)?.into_array(rows.num_rows()));
            let mut arguments = arguments.collect::<Result<Vec<ArrayRef>, _>>()?;
            if let Some(condition) = &aggregate.filter {
                let mask = mask(condition, rows)?;
                arguments = arguments
                    .iter()
                    .map(|array| filter(array, &mask))
                    .collect::<Result<_, _>>()
                    .map_err(DataFusionError::from)?;
            }
            aggregate.accumulator.update_batch(&arguments)?;
        }
        for Counting { columns, filter, counter } in &mut self.groupings {
            let read = filter.as_ref().map(|filter| mask(filter, rows)).transpose()?;
            counter.add(&selected(rows, columns, read.as_ref())?).await?;
        }
        for (tap, condition) in self.taps.iter().zip(&self.tap_filters) {
            let read = condition.as_ref().map(|condition| mask(condition, rows)).transpose()?;
            let read = projected(rows, tap, read.as_ref())?;
            // A query that has ended, or that does not read these rows, is no reason to fail here.
            if read.num_rows() > 0 {
                let _ = tap.feed.send(read).await;
            }
        }
        let Settings { quarantine, kept, .. } = &self.auditor.0.settings;
        if quarantine.is_none() && kept.is_none() {
            return Ok(None);
        }
        let failing = program.set_aside.iter().map(|rule| (rule.rule.as_str(), &masks[rule.fails]));
        let failing: Vec<_> = failing.filter(|(_, mask)| mask.true_count() > 0).collect();
        if failing.is_empty() {
            return Ok(None);
        }
        let mut bad = BooleanArray::from(vec![false; rows.num_rows()]);
        for (_, mask) in &failing {
            bad = or(&bad, mask).map_err(DataFusionError::from)?;
        }
        if let Some(kept) = kept {
            kept.add(rows, &bad, &failing).await?;
        }
        if let Some(quarantine) = quarantine {
            quarantine.add(rows, &bad, &failing).await?;
        }
        Ok(Some(bad))
    }
}

/// The rows with values in place of dictionaries.
fn unpacked(rows: &RecordBatch) -> Result<RecordBatch> {
    Ok(together(std::slice::from_ref(rows)).map_err(DataFusionError::from)?)
}

/// Batches as one, with values in place of dictionaries, which are only how a sink encodes columns.
fn together(batches: &[RecordBatch]) -> Result<RecordBatch, ArrowError> {
    let schema = plain(&batches[0].schema());
    let columns = schema.fields().iter().enumerate().map(|(i, field)| {
        let parts: Vec<&dyn Array> = batches.iter().map(|rows| rows.column(i).as_ref()).collect();
        let packed: Option<Vec<_>> = parts.iter().map(|part| part.as_dictionary_opt::<UInt32Type>()).collect();
        match packed {
            // Texts are copied once if all have the same dictionary.
            Some(packed) if packed.windows(2).all(|pair| Arc::ptr_eq(pair[0].values(), pair[1].values())) => {
                let keys: Vec<&dyn Array> = packed.iter().map(|part| part.keys() as &dyn Array).collect();
                take(packed[0].values(), &concat(&keys)?, None)
            }
            _ if matches!(parts[0].data_type(), DataType::Dictionary(..)) => {
                let parts = parts.iter().map(|part| cast(*part, field.data_type())).collect::<Result<Vec<_>, _>>()?;
                concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>())
            }
            _ => concat(&parts),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let rows = batches.iter().map(RecordBatch::num_rows).sum();
    RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new().with_row_count(Some(rows)))
}

/// A column as sinks pack texts: their numbers, and the texts.
fn packed_texts(column: &ArrayRef) -> Option<(&UInt32Array, &StringArray)> {
    let packed = column.as_dictionary_opt::<UInt32Type>()?;
    Some((packed.keys(), packed.values().as_string_opt()?))
}

/// The size of a column with values in place of a dictionary, which may be shared by all rows or repeat a long text. Only that
/// of [`packed_texts`] is known.
fn unpacked_bytes(column: &ArrayRef) -> usize {
    let Some((keys, texts)) = packed_texts(column) else { return column.get_array_memory_size() };
    let length = |key: &u32| texts.offsets().get(*key as usize..*key as usize + 2).map_or(0, |ends| ends[1] - ends[0]);
    keys.values().iter().map(|key| length(key) as usize + size_of::<i32>()).sum()
}

#[async_trait]
impl RowAccumulator for Stream {
    async fn update(&mut self, rows: RecordBatch) -> Result<RecordBatch> {
        if rows.num_rows() == 0 {
            return Ok(rows);
        }
        if self.auditor.0.settings.quarantine.is_none() {
            // All rows are let through.
            let is_dictionary = |column: &ArrayRef| matches!(column.data_type(), DataType::Dictionary(..));
            let is_sized = |column: &ArrayRef| !is_dictionary(column) || packed_texts(column).is_some();
            let waits = if rows.columns().iter().all(is_sized) { rows.clone() } else { unpacked(&rows)? };
            self.wait(waits).await?;
            return Ok(rows);
        }
        let Some(bad) = self.measure(&unpacked(&rows)?).await? else { return Ok(rows) };
        self.held_back += bad.true_count() as u64;
        let good = not(&bad).map_err(DataFusionError::from)?;
        Ok(filter_record_batch(&rows, &good).map_err(DataFusionError::from)?)
    }

    async fn finish(mut self: Box<Self>) -> Result<()> {
        self.measure_waiting().await?;
        let auditor = self.auditor.clone();
        let mut running = auditor.running();
        let Some(running) = running.as_mut() else {
            return Err(Error::unexpected("a stream of rows ended after the audit"));
        };
        let Running { measuring, total, open, .. } = running;
        *open -= 1;
        total.add(*self, &measuring.program)
    }
}
