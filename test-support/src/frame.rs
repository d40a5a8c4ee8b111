//! Frames: in-memory rows for tests.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StructArray, new_null_array};
use arrow::compute::{CastOptions, cast, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;
use arrow::json::reader::{infer_json_schema, infer_json_schema_from_iterator};
use arrow::util::display::array_value_to_string;
use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use datafusion::catalog::MemTable;
use datafusion::common::TableReference;
use datafusion::datasource::provider_as_source;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlanBuilder, UNNAMED_TABLE};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use hardtack_core::{Error, Result, sql};
use serde_json::{Value, json};

use crate::snapshot;

/// Rows with a schema: the input and output of a job in a test. Created with [`rows!`](crate::rows), from JSON lines,
/// from a `RecordBatch`, or by executing a `DataFrame`.
///
/// ```
/// use hardtack_test_support::{Frame, rows};
///
/// let books = rows! {
///     title: Utf8,         publish_date: Date32;
///     "Catch 22",          "1961-11-10";
///     "The Crystal Shard", null;
/// };
/// assert_eq!(books.num_rows(), 2);
///
/// let same = Frame::from_json_lines_as(
///     &books.schema(),
///     r#"{"title": "Catch 22", "publish_date": "1961-11-10"}
///        {"title": "The Crystal Shard"}"#,
/// );
/// assert_eq!(same.to_string(), books.to_string());
/// ```
#[derive(Debug, Clone)]
pub struct Frame {
    /// The qualifier of its columns as a `DataFrame`.
    name: String,
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
}

impl Frame {
    /// Creates a frame of these batches, all of this schema (except for nullability and metadata).
    ///
    /// # Errors
    /// If a batch does not fit the schema.
    pub fn try_new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Self> {
        let batches = batches.iter().map(|b| with_schema(&schema, b)).collect::<Result<_, _>>()?;
        Ok(Self::new(schema, batches))
    }

    fn new(schema: SchemaRef, batches: Vec<RecordBatch>) -> Self {
        Self { name: UNNAMED_TABLE.to_owned(), schema, batches }
    }

    /// Creates a frame without rows.
    pub fn empty(schema: impl Into<SchemaRef>) -> Self {
        Self::new(schema.into(), Vec::new())
    }

    /// Sets the qualifier of the frame's columns as a `DataFrame`. A frame that is given to a
    /// [`TestContext`](crate::TestContext) has the name of its source, like the rows of real sources.
    ///
    /// ```
    /// use datafusion::prelude::*;
    /// use hardtack_test_support::{assert_frame, rows};
    ///
    /// let books = rows! { title, author; "Dune", 7 }.named("books").df();
    /// let authors = rows! { name, author; "Frank Herbert", 7 }.named("authors").df();
    /// let joined = books.join_on(authors, JoinType::Left, [col("books.author").eq(col("authors.author"))])?;
    /// assert_frame(joined.select_columns(&["title", "name"])?, rows! { title, name; "Dune", "Frank Herbert" });
    /// # Ok::<(), datafusion::error::DataFusionError>(())
    /// ```
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Executes a plan and collects its rows.
    ///
    /// # Errors
    /// Errors of the plan.
    pub async fn collect(rows: DataFrame) -> Result<Self> {
        let schema = Arc::new(rows.schema().as_arrow().clone());
        Self::try_new(schema, rows.collect().await?)
    }

    /// Reads newline-delimited JSON; types are inferred, so dates and timestamps are text.
    ///
    /// # Panics
    /// If the text is not JSON.
    #[track_caller]
    pub fn from_json_lines(text: &str) -> Self {
        match infer_json_schema(text.as_bytes(), None) {
            Ok((schema, _)) => Self::from_json_lines_as(&Arc::new(schema), text),
            Err(e) => panic!("these are not JSON lines: {e}"),
        }
    }

    /// Reads newline-delimited JSON with the types of `schema`; a missing field is null.
    ///
    /// # Panics
    /// If a value does not fit its type without loss, or a field is not in the schema.
    #[track_caller]
    pub fn from_json_lines_as(schema: &SchemaRef, text: &str) -> Self {
        let reader = ReaderBuilder::new(Arc::clone(schema)).with_strict_mode(true).build(text.as_bytes());
        let frame = match reader.and_then(Iterator::collect::<Result<Vec<_>, _>>) {
            Ok(batches) => Self::new(Arc::clone(schema), batches),
            Err(e) => panic!("these JSON lines do not fit the schema: {e}"),
        };
        let rows = StructArray::from(frame.to_batch());
        for (row, line) in serde_json::Deserializer::from_str(text).into_iter::<Value>().flatten().enumerate() {
            if !is_kept(&rows, row, &line) {
                panic!("these JSON lines do not fit the schema without loss: {line}");
            }
        }
        frame
    }

    /// The schema.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// The number of rows.
    pub fn num_rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// The names of the columns.
    pub fn columns(&self) -> Vec<&str> {
        self.schema.fields().iter().map(|f| f.name().as_str()).collect()
    }

    /// The batches.
    pub fn batches(&self) -> &[RecordBatch] {
        &self.batches
    }

    /// All rows as one batch.
    pub fn to_batch(&self) -> RecordBatch {
        concat_batches(&self.schema, &self.batches).expect("all batches have the schema of the frame")
    }

    /// The same rows in `count` batches, distributed round-robin, so that a test can show that a result does not depend
    /// on batching. Every batch is a partition of [`Frame::df`].
    ///
    /// ```
    /// use hardtack_test_support::rows;
    ///
    /// let frame = rows! { id; 1; 2; 3; 4; 5 }.in_batches(2);
    /// assert_eq!(frame.batches().iter().map(|b| b.num_rows()).collect::<Vec<_>>(), [3, 2]);
    /// ```
    #[must_use]
    pub fn in_batches(&self, count: usize) -> Self {
        let (all, count) = (self.to_batch(), count.max(1));
        let deal = |batch: usize| {
            let parts: Vec<_> = (batch..all.num_rows()).step_by(count).map(|row| all.slice(row, 1)).collect();
            concat_batches(&self.schema, &parts).expect("slices of one batch have one schema")
        };
        Self { batches: (0..count).map(deal).collect(), ..self.clone() }
    }

    /// The same rows with the columns and types of `schema`, so that a test of a wide table need only name the relevant
    /// columns: the others are null.
    ///
    /// ```
    /// use hardtack_test_support::rows;
    ///
    /// let visits = rows! { id: Int64, start: Timestamp(Microsecond, None), cost: Float64; }.schema();
    /// let frame = rows! { start; "2024-02-29T10:00:00" }.in_schema(&visits);
    /// assert_eq!(frame.to_string(), "
    /// id: Int64 | start: Timestamp(µs) | cost: Float64
    /// null      | 2024-02-29T10:00:00  | null
    /// ".trim());
    /// ```
    ///
    /// # Panics
    /// If there is a column that is not in the schema, or a value that does not fit.
    #[must_use]
    #[track_caller]
    pub fn in_schema(&self, schema: &SchemaRef) -> Self {
        for column in self.columns() {
            assert!(schema.field_with_name(column).is_ok(), "the schema has no column `{column}`");
        }
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let widen = |batch: &RecordBatch| {
            let column = |field: &FieldRef| match batch.column_by_name(field.name()) {
                None => new_null_array(field.data_type(), batch.num_rows()),
                Some(array) => cast_with_options(array, field.data_type(), &strict)
                    .unwrap_or_else(|e| panic!("column `{}`: {e}", field.name())),
            };
            let columns = schema.fields().iter().map(column).collect();
            RecordBatch::try_new(Arc::clone(schema), columns).unwrap_or_else(|e| panic!("{e}"))
        };
        Self { schema: Arc::clone(schema), batches: self.batches.iter().map(widen).collect(), ..self.clone() }
    }

    /// The rows as a `DataFrame` of a session, as a job gets them. Every batch is a partition.
    pub fn to_df(&self, session: &SessionContext) -> DataFrame {
        let partitions = match self.batches.as_slice() {
            [] => vec![Vec::new()],
            batches => batches.iter().map(|b| vec![b.clone()]).collect(),
        };
        let table = MemTable::try_new(self.schema(), partitions).expect("all batches have the schema of the frame");
        let name = TableReference::bare(self.name.as_str());
        let plan = LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None);
        let plan = plan.and_then(LogicalPlanBuilder::build).expect("a table in memory can be read");
        DataFrame::new(session.state(), plan)
    }

    /// The rows as a `DataFrame` of a session of its own, for tests of pure functions.
    ///
    /// ```
    /// use datafusion::prelude::*;
    /// use hardtack_test_support::{assert_frame, rows};
    ///
    /// let books = rows! {
    ///     title,      pages;
    ///     "Catch 22", 453;
    ///     "Pamphlet", 12;
    /// };
    /// let long = books.df().filter(col("pages").gt(lit(100)))?;
    /// assert_frame(long, rows! { title, pages; "Catch 22", 453 });
    /// # Ok::<(), datafusion::error::DataFusionError>(())
    /// ```
    pub fn df(&self) -> DataFrame {
        self.to_df(&sql::session(SessionConfig::new(), Arc::new(RuntimeEnv::default())))
    }
}

/// The batch with another schema of the same types.
fn with_schema(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)
        .map_err(|e| Error::unexpected("the rows do not have the schema that was announced for them").because(e))
}

/// The table as text with typed, aligned columns; rows in the order of the frame.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&snapshot::table_in_order(self))
    }
}

impl From<RecordBatch> for Frame {
    fn from(batch: RecordBatch) -> Self {
        Self::new(batch.schema(), vec![batch])
    }
}

impl From<&Frame> for Frame {
    fn from(frame: &Frame) -> Self {
        frame.clone()
    }
}

/// Executes the plan on a thread of its own, so that this works in synchronous and asynchronous tests and in the
/// predicates of doubles.
///
/// # Panics
/// If the plan fails; [`Frame::collect`] returns the error instead.
impl From<DataFrame> for Frame {
    #[track_caller]
    fn from(rows: DataFrame) -> Self {
        collect_blocking(rows).unwrap_or_else(|e| panic!("the plan failed: {}", e.chain()))
    }
}

/// Blocking form of [`Frame::collect`].
pub(crate) fn collect_blocking(rows: DataFrame) -> Result<Frame> {
    let run = || {
        // The rows may come from a service, so enable I/O.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(|e| Error::unexpected("no runtime").because(e))?.block_on(Frame::collect(rows))
    };
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A value in [`rows!`](crate::rows): anything that JSON can express, and the dates and times of `chrono`.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    value: Value,
    /// The column type implied by the Rust type, if the JSON value does not determine it.
    hint: Option<DataType>,
}

impl Cell {
    fn typed(value: impl Into<Value>, hint: DataType) -> Self {
        Self { value: value.into(), hint: Some(hint) }
    }
}

impl From<Value> for Cell {
    fn from(value: Value) -> Self {
        Self { value, hint: None }
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        // JSON has no infinities and no NaN; the decoder reads them from strings.
        let json = if value.is_finite() { json!(value) } else { json!(value.to_string()) };
        Self::typed(json, DataType::Float64)
    }
}

impl From<NaiveDate> for Cell {
    fn from(value: NaiveDate) -> Self {
        Self::typed(value.to_string(), DataType::Date32)
    }
}

impl From<NaiveDateTime> for Cell {
    fn from(value: NaiveDateTime) -> Self {
        Self::typed(value.to_string(), DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, None))
    }
}

impl From<DateTime<Utc>> for Cell {
    fn from(value: DateTime<Utc>) -> Self {
        let utc = DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("+00:00".into()));
        Self::typed(value.to_rfc3339(), utc)
    }
}

macro_rules! cells_from {
    ($($type:ty),+) => {
        $(impl From<$type> for Cell {
            fn from(value: $type) -> Self {
                Self { value: Value::from(value), hint: None }
            }
        })+
    };
}

cells_from!(&str, String, bool, i8, i16, i32, i64, u8, u16, u32, u64, usize);

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(null, Into::into)
    }
}

impl<T: Into<Cell>> From<Vec<T>> for Cell {
    fn from(values: Vec<T>) -> Self {
        Value::from(values.into_iter().map(|v| v.into().value).collect::<Vec<_>>()).into()
    }
}

impl<T: Into<Cell>, const N: usize> From<[T; N]> for Cell {
    fn from(values: [T; N]) -> Self {
        Vec::from(values).into()
    }
}

/// A null in [`rows!`](crate::rows).
#[expect(non_upper_case_globals, reason = "it is to read as in SQL and JSON")]
pub const null: Cell = Cell { value: Value::Null, hint: None };

/// The types in the header of [`rows!`](crate::rows): all variants of Arrow's `DataType` and `TimeUnit`, except that
/// [`List`](types::List()), [`Struct`](types::Struct()) and [`Map`](types::Map()) take types instead of fields.
#[expect(non_snake_case, reason = "these functions stand for types")]
pub mod types {
    use std::sync::Arc;

    pub use arrow::datatypes::DataType::*;
    pub use arrow::datatypes::TimeUnit::*;
    use arrow::datatypes::{DataType, Field, Fields};

    /// A list of nullable items: `List(Utf8)`.
    pub fn List(item: DataType) -> DataType {
        DataType::new_list(item, true)
    }

    /// A struct of nullable fields: `Struct([("street", Utf8), ("zip", Int32)])`.
    pub fn Struct<const N: usize>(fields: [(&str, DataType); N]) -> DataType {
        DataType::Struct(Fields::from_iter(fields.map(|(name, of)| Field::new(name, of, true))))
    }

    /// A map with nullable values: `Map(Utf8, Int64)`.
    pub fn Map(key: DataType, value: DataType) -> DataType {
        let entry = Fields::from(vec![Field::new("keys", key, false), Field::new("values", value, true)]);
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry), false)), false)
    }
}

/// Creates a [`Frame`] from a table: a header line with the columns, then the rows, each line terminated by `;`.
///
/// * A column has a name and, after a colon, its type: any variant of Arrow's `DataType`, with the short forms in
///   [`types`]. Cells are parsed *as* that type, so dates, timestamps and decimals are written as strings:
///   `"1961-11-10"`, `"2026-11-21T04:00:00Z"`, `"9.99"`.
/// * A column without a type has that of its values: text, whole numbers (`Int64`), `Float64`, `Boolean`, lists and
///   structs of these, or the type of a `chrono` value. If all its cells are null it has the type `Null`, which matches
///   any other when frames are compared.
/// * A cell is any Rust expression: a literal, `null`, an `Option`, a `Vec` or array for a list, and
///   [`json!`](crate::json) for a struct or a list with nulls.
/// * A name that is not a Rust identifier is quoted.
///
/// ```
/// use hardtack_test_support::{json, rows};
///
/// let orders = rows! {
///     id, customer, total: Decimal128(10, 2), tags: List(Utf8),  address: Struct([("city", Utf8), ("zip", Int32)]), "paid on": Date32;
///     1,  "Ann",    "9.99",                   ["new", "gift"],   json!({"city": "Ghent", "zip": 9000}),             "2026-11-20";
///     2,  null,     -1,                       json!(["a", null]), null,                                             null;
/// };
/// assert_eq!(orders.to_string(), r#"
/// id: Int64 | customer: Utf8 | total: Decimal128(10, 2) | tags: List(Utf8) | address: Struct(city: Utf8, zip: Int32) | paid on: Date32
/// 1         | Ann            | 9.99                     | ["new", "gift"]  | {city: "Ghent", zip: 9000}              | 2026-11-20
/// 2         | null           | -1.00                    | ["a", null]      | null                                    | null
/// "#.trim());
///
/// // No rows, but a schema:
/// let none = rows! { id: Int64, at: Timestamp(Microsecond, None); };
/// assert_eq!(none.num_rows(), 0);
/// ```
///
/// # Panics
/// If a row has more or fewer cells than there are columns, or a cell does not fit the type of its column without loss
/// (too many digits for a decimal, a day that does not exist, a number for a date, a field that the struct does not
/// have); the message names the row, the column and the value.
#[macro_export]
macro_rules! rows {
    ($($name:tt $(: $type:expr)?),+ $(,)? ; $($($cell:expr),+ $(,)?);* $(;)?) => {{
        let columns = {
            #[allow(unused_imports)]
            use $crate::types::*;
            ::std::vec![$($crate::rows!(@column $name $(: $type)?)),+]
        };
        let cells: ::std::vec::Vec<::std::vec::Vec<$crate::Cell>> = {
            #[allow(unused_imports)]
            use $crate::null;
            ::std::vec![$(::std::vec![$($crate::Cell::from($cell)),+]),*]
        };
        $crate::frame_of(columns, cells)
    }};
    (@column $name:literal $(: $type:expr)?) => { ($name, $crate::rows!(@type $($type)?)) };
    (@column $name:tt $(: $type:expr)?) => { (::std::stringify!($name), $crate::rows!(@type $($type)?)) };
    (@type) => { ::std::option::Option::None::<$crate::DataType> };
    (@type $type:expr) => { ::std::option::Option::Some::<$crate::DataType>($type) };
}

/// The implementation of [`rows!`](crate::rows).
#[doc(hidden)]
#[track_caller]
pub fn frame_of(columns: Vec<(&str, Option<DataType>)>, rows: Vec<Vec<Cell>>) -> Frame {
    for (i, row) in rows.iter().enumerate() {
        if row.len() != columns.len() {
            panic!("rows!: row {} has {} cells, but there are {} columns", i + 1, row.len(), columns.len());
        }
    }
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for (i, (name, declared)) in columns.into_iter().enumerate() {
        let name = name.trim_start_matches("r#");
        let hint = || rows.iter().find_map(|row| row[i].hint.clone());
        let values: Vec<&Value> = rows.iter().map(|row| &row[i].value).collect();
        let data_type = declared.or_else(hint).unwrap_or_else(|| inferred(name, &values));
        let array = decode(&data_type, &values).unwrap_or_else(|e| panic!("{}", blame(name, &data_type, &values, &e)));
        fields.push(Field::new(name, data_type, true));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .expect("all columns have the length and type of the schema made from them")
        .into()
}

#[track_caller]
fn inferred(name: &str, values: &[&Value]) -> DataType {
    let rows = values.iter().map(|value| Ok(json!({ name: value })));
    match infer_json_schema_from_iterator(rows) {
        Ok(schema) => schema.fields().first().map_or(DataType::Null, |f| f.data_type().clone()),
        Err(e) => panic!("rows!: the cells of column `{name}` have no common type; declare one in the header: {e}"),
    }
}

fn decode(data_type: &DataType, values: &[&Value]) -> Result<ArrayRef, ArrowError> {
    if let DataType::Dictionary(_, value_type) = data_type {
        return cast(&decode(value_type, values)?, data_type);
    }
    let field = Field::new("cell", data_type.clone(), true);
    let mut decoder = ReaderBuilder::new_with_field(field).with_batch_size(values.len().max(1)).build_decoder()?;
    decoder.serialize(values)?;
    let array = match decoder.flush()? {
        Some(batch) => Arc::clone(batch.column(0)),
        None => new_null_array(data_type, 0),
    };
    match values.iter().enumerate().all(|(row, value)| is_kept(&array, row, value)) {
        true => Ok(array),
        false => Err(ArrowError::CastError(LOSSY.to_owned())),
    }
}

const LOSSY: &str = "a value does not fit without loss";

/// Whether the value of the array preserves the cell. The decoder silently rounds, truncates and omits.
fn is_kept(array: &dyn Array, row: usize, cell: &Value) -> bool {
    use DataType::*;
    if array.is_null(row) || cell.is_null() {
        return array.is_null(row) == cell.is_null() || matches!(array.data_type(), Null);
    }
    let elements_are_kept = |elements: ArrayRef, cells: &Vec<Value>| {
        elements.len() == cells.len() && cells.iter().enumerate().all(|(i, cell)| is_kept(&elements, i, cell))
    };
    match (array.data_type(), cell) {
        (Struct(_), Value::Object(cells)) => {
            let field = |name: &str| array.as_struct().column_by_name(name);
            cells.iter().all(|(name, cell)| field(name).is_some_and(|field| is_kept(field, row, cell)))
        }
        (Map(..), Value::Object(cells)) => {
            let entries = array.as_map().value(row);
            let key = |i: usize| array_value_to_string(entries.column(0), i).unwrap_or_default();
            let kept = |i: usize| cells.get(&key(i)).is_some_and(|cell| is_kept(entries.column(1), i, cell));
            entries.len() == cells.len() && (0..entries.len()).all(kept)
        }
        (List(_), Value::Array(cells)) => elements_are_kept(array.as_list::<i32>().value(row), cells),
        (LargeList(_), Value::Array(cells)) => elements_are_kept(array.as_list::<i64>().value(row), cells),
        (FixedSizeList(..), Value::Array(cells)) => elements_are_kept(array.as_fixed_size_list().value(row), cells),
        (Date32 | Date64, Value::String(text)) => text.parse::<NaiveDate>().is_ok(),
        (Timestamp(unit, _) | Time32(unit) | Time64(unit), Value::String(text)) => {
            let digits = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 3,
                TimeUnit::Microsecond => 6,
                TimeUnit::Nanosecond => 9,
            };
            let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
            fraction.bytes().take_while(u8::is_ascii_digit).skip(digits).all(|digit| digit == b'0')
        }
        // Its unit would be ambiguous.
        (Date32 | Date64 | Timestamp(..) | Time32(_) | Time64(_), Value::Number(_)) => false,
        (data_type, cell) if data_type.is_numeric() => {
            let text = cell.as_str().map_or_else(|| cell.to_string(), str::to_owned);
            let kept = array_value_to_string(array, row).unwrap_or_default();
            match (number(&text), number(&kept)) {
                // A float approximates a fraction, but a whole number that it cannot represent becomes a different
                // number.
                (Some(said), Some(kept)) if data_type.is_floating() => {
                    !(cell.is_i64() || cell.is_u64()) || said == kept
                }
                (said, kept) => said == kept,
            }
        }
        _ => true,
    }
}

/// A decimal number: its sign, its digits without leading and trailing zeros, and the power of ten of the last digit.
/// `None` if there are no digits, as for infinity.
fn number(text: &str) -> Option<(bool, String, i64)> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let (negative, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => (true, mantissa),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let significant = digits.trim_end_matches('0');
    let zeros = (digits.len() - significant.len()) as i64;
    Some(match significant.trim_start_matches('0') {
        "" => (false, String::new(), 0),
        digits => (negative, digits.to_owned(), exponent - fraction.len() as i64 + zeros),
    })
}

/// Finds the cell that caused an error.
fn blame(name: &str, data_type: &DataType, values: &[&Value], error: &ArrowError) -> String {
    let row = values.iter().position(|value| decode(data_type, &[value]).is_err());
    match row {
        Some(row) => {
            let lossy = matches!(decode(data_type, &[values[row]]), Err(ArrowError::CastError(e)) if e == LOSSY);
            let what = if lossy { "does not fit without loss into the type" } else { "is not of type" };
            format!("rows!: row {}, column `{name}`: {} {what} {data_type}", row + 1, values[row])
        }
        None => format!("rows!: column `{name}` is not of type {data_type}: {error}"),
    }
}
