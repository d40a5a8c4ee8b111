//! Frames for tests.

use std::io::Cursor;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::json::ReaderBuilder;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use hardtack_core::sql;
use proptest::test_runner::TestCaseError;

use crate::columns::type_name_of;

/// A frame of these columns (`id: int not null, ...`) from lines of JSON.
pub(crate) fn frame(columns: &str, rows: &[&str]) -> DataFrame {
    frame_in(&sql::session(SessionConfig::new(), Arc::new(RuntimeEnv::default())), columns, rows)
}

pub(crate) fn frame_in(session: &SessionContext, columns: &str, rows: &[&str]) -> DataFrame {
    session.read_batch(batch(columns, rows)).unwrap()
}

pub(crate) fn batch(columns: &str, rows: &[&str]) -> RecordBatch {
    let schema = hardtack_catalog::schema_literal(columns);
    let text = rows.join("\n");
    let mut reader = ReaderBuilder::new(Arc::clone(&schema)).with_strict_mode(true).build(Cursor::new(text)).unwrap();
    reader.next().unwrap_or_else(|| Ok(RecordBatch::new_empty(schema))).unwrap()
}

/// A session with this many partitions, small batches, and sorts that merge batches instead of concatenating them.
pub(crate) fn session(partitions: usize) -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(partitions).with_batch_size(4);
    sql::session(config.with_sort_in_place_threshold_bytes(0), Arc::new(RuntimeEnv::default()))
}

/// The rows of a frame, sorted, below names and types.
pub(crate) async fn show(df: DataFrame) -> String {
    let schema = Arc::clone(df.schema().inner());
    let batches = df.collect().await.unwrap();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let cell = |column: &Arc<dyn datafusion::arrow::array::Array>| match column.is_null(row) {
                true => "null".to_owned(),
                false => array_value_to_string(column, row).unwrap(),
            };
            rows.push(batch.columns().iter().map(cell).collect());
        }
    }
    rows.sort();
    let header = |f: &Arc<datafusion::arrow::datatypes::Field>| {
        format!("{} {}{}", f.name(), type_name_of(f), if f.is_nullable() { "" } else { " not null" })
    };
    rows.insert(0, schema.fields().iter().map(header).collect());
    let widths: Vec<usize> =
        (0..schema.fields().len()).map(|i| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join(" | ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The error with which a frame's execution fails.
pub(crate) async fn failure(df: DataFrame) -> String {
    hardtack_core::Error::from(df.collect().await.unwrap_err()).to_string()
}

/// Runs the body of a property.
pub(crate) fn run(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}
