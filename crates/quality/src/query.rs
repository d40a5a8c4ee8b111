//! Queries that run beside the writer, on the rows as they come.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use datafusion::arrow::compute::{cast, filter};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, cast as cast_expr};
use datafusion::prelude::{DataFrame, col, ident};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use hardtack_core::{JobContext, Result};

use crate::flow::{Feed, flow};
use crate::measure::Row;

/// Where rows go that a query reads.
#[derive(Debug)]
pub(crate) struct Tap {
    /// The numbers of the columns in the schema.
    pub(crate) columns: Vec<usize>,
    /// The columns as the query sees them.
    pub(crate) schema: SchemaRef,
    /// The rows that it reads; all of them if there is none.
    pub(crate) filter: Option<Expr>,
    pub(crate) feed: Feed,
}

/// A query, and where its rows come from.
pub(crate) struct Query {
    /// None if it reads nothing of the rows.
    pub(crate) tap: Option<Tap>,
    pub(crate) answer: BoxFuture<'static, Result<Row>>,
}

/// The rows and columns of a batch that are read.
pub(crate) fn selected(rows: &RecordBatch, columns: &[usize], read: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
    // Most conditions let all rows through, which then need not be copied.
    let read = read.filter(|read| read.true_count() < rows.num_rows());
    let columns = columns.iter().map(|i| match read {
        Some(read) => filter(rows.column(*i), read),
        None => Ok(Arc::clone(rows.column(*i))),
    });
    Ok(columns.collect::<std::result::Result<_, _>>().map_err(DataFusionError::from)?)
}

/// The rows and columns of a batch that a query reads, as it sees them.
pub(crate) fn projected(rows: &RecordBatch, tap: &Tap, read: Option<&BooleanArray>) -> Result<RecordBatch> {
    let count = read.map_or(rows.num_rows(), BooleanArray::true_count);
    let columns = selected(rows, &tap.columns, read)?.into_iter().zip(tap.schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() { Ok(column) } else { cast(&column, field.data_type()) }
    });
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>().map_err(DataFusionError::from)?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    Ok(RecordBatch::try_new_with_options(Arc::clone(&tap.schema), columns, &options).map_err(DataFusionError::from)?)
}

/// Columns by their place, under names that nothing else has.
pub(crate) fn columns_of(schema: &Schema, columns: &[usize]) -> SchemaRef {
    let field = |i: &usize| Field::new(format!("c{i}"), schema.field(*i).data_type().clone(), true);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// A table as a frame.
pub(crate) fn frame(state: &SessionState, table: Arc<dyn TableProvider>) -> Result<DataFrame> {
    let plan = LogicalPlanBuilder::scan("rows", provider_as_source(table), None)?.build()?;
    Ok(DataFrame::new(state.clone(), plan))
}

/// The interquartile range, the skewness and the kurtosis of a column, which has no nulls where the filter is true. As
/// Deequ defines them: quartiles are interpolated, and the others are those of a population, the kurtosis in excess of
/// the normal distribution's.
pub(crate) fn distribution(job: &JobContext, schema: &Schema, column: usize, filter: Expr) -> Result<Query> {
    let columns = columns_of(schema, &[column]);
    let (feed, table) = flow(Arc::clone(&columns))?;
    let value = cast_expr(ident(columns.field(0).name()), DataType::Float64).alias("x");
    let values = frame(&job.session().state(), table)?.select(vec![value])?;
    // Sorted, so that sums do not depend on the order in which rows come. Read twice.
    let values = job.persisted(values.sort(vec![col("x").sort(true, false)])?)?;
    let tap = Some(Tap { columns: vec![column], schema: columns, filter: Some(filter), feed });
    let answer = async move {
        let moments = moments(values).await?;
        let values = Ok(moments.map(ScalarValue::Float64).to_vec());
        Ok(Row { values, examples: Vec::new() })
    };
    Ok(Query { tap, answer: Box::pin(answer) })
}

async fn moments(sorted: DataFrame) -> Result<[Option<f64>; 3]> {
    let (mut n, mut sum) = (0_u64, 0.0);
    let mut batches = sorted.clone().execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        let values = batch.column(0).as_primitive::<Float64Type>().values();
        n += values.len() as u64;
        sum += values.iter().sum::<f64>();
    }
    if n == 0 {
        return Ok([None; 3]);
    }
    let (count, mean) = (n as f64, sum / n as f64);
    let [mut m2, mut m3, mut m4] = [0.0; 3];
    let mut quartiles = [Between::new(n, 0.25), Between::new(n, 0.75)];
    let mut at = 0;
    let mut batches = sorted.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        for value in batch.column(0).as_primitive::<Float64Type>().values() {
            let d = value - mean;
            m2 += d * d;
            m3 += d * d * d;
            m4 += d * d * d * d;
            quartiles.iter_mut().for_each(|quartile| quartile.see(at, *value));
            at += 1;
        }
    }
    let (skewness, kurtosis) = match m2 == 0.0 {
        true => (0.0, 0.0),
        false => (count.sqrt() * m3 / m2.powf(1.5), count * m4 / (m2 * m2) - 3.0),
    };
    let [first, third] = quartiles.map(|quartile| quartile.value());
    Ok([Some(third - first), Some(skewness), Some(kurtosis)])
}

/// A value between two neighbours of sorted values.
struct Between {
    at: f64,
    low: f64,
    high: f64,
}

impl Between {
    fn new(values: u64, fraction: f64) -> Self {
        Self { at: (values - 1) as f64 * fraction, low: 0.0, high: 0.0 }
    }

    fn see(&mut self, number: u64, value: f64) {
        if number == self.at.floor() as u64 {
            self.low = value;
        }
        if number == self.at.ceil() as u64 {
            self.high = value;
        }
    }

    fn value(&self) -> f64 {
        self.low + (self.high - self.low) * self.at.fract()
    }
}
