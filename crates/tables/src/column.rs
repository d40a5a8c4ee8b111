//! Bookmarks of tables: by file, or by the value of a column.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::DataType;
use chrono::TimeDelta;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{LogicalPlanBuilder, lit};
use datafusion::prelude::{DataFrame, Expr};
use datafusion::sql::TableReference;
use hardtack_core::bookmarks::{Advance, Advanced, End};
use hardtack_core::format::Format;
use hardtack_core::watermark::HighWater;
use hardtack_core::{Error, LoadContext, Result};
use hardtack_sources::{Bookmark, ByModificationTime, ByPath};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a run tells what is new in a table: see [`Table::bookmarked`](crate::Table::bookmarked). By its files, as
/// [`Bookmark`] says; or by a column, as [`ByColumn`] says.
#[derive(Debug, Clone, PartialEq)]
pub struct TableBookmark(pub(crate) Kind);

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Files(Bookmark),
    Column(ByColumn),
}

impl From<Bookmark> for TableBookmark {
    fn from(bookmark: Bookmark) -> Self {
        Self(Kind::Files(bookmark))
    }
}

impl From<ByModificationTime> for TableBookmark {
    fn from(by: ByModificationTime) -> Self {
        Self(Kind::Files(by.into()))
    }
}

impl From<ByPath> for TableBookmark {
    fn from(by: ByPath) -> Self {
        Self(Kind::Files(by.into()))
    }
}

impl From<ByColumn> for TableBookmark {
    fn from(by: ByColumn) -> Self {
        Self(Kind::Column(by))
    }
}

impl fmt::Display for TableBookmark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Files(bookmark) => bookmark.fmt(f),
            Kind::Column(ByColumn { column, look_back: None }) => write!(f, "by column {column}"),
            Kind::Column(ByColumn { column, look_back: Some(back) }) => {
                write!(f, "by column {column}, looking back {back}")
            }
        }
    }
}

impl TableBookmark {
    /// Whether it is by files, and not by a column.
    #[cfg(feature = "iceberg")]
    pub(crate) fn is_by_files(&self) -> bool {
        matches!(self.0, Kind::Files(_))
    }
}

/// Reads the rows whose value in a column is above the highest that was read: of a column that grows with time, such as an
/// id or the moment of a change. A table whose files are rewritten (by a merge, or by compaction) can be read this way.
///
/// A row with a lower value that arrives later is not found, except within the [look-back](ByColumn::look_back).
///
/// ```
/// use chrono::TimeDelta;
/// use hardtack_tables::{ByColumn, Table};
///
/// let orders = Table::named("lake", "orders").bookmarked(ByColumn::new("updated_at").look_back(TimeDelta::hours(1)));
/// assert!(format!("{orders:?}").contains("bookmark: by column updated_at, looking back 3600 s"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ByColumn {
    column: String,
    look_back: Option<LookBack>,
}

/// How far below the highest value a run reads again: a time, or a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LookBack {
    /// For dates and timestamps.
    Time(TimeDelta),
    /// For integers.
    Number(i64),
}

impl fmt::Display for LookBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(time) => write!(f, "{} s", time.num_seconds()),
            Self::Number(number) => number.fmt(f),
        }
    }
}

impl From<TimeDelta> for LookBack {
    fn from(time: TimeDelta) -> Self {
        Self::Time(time)
    }
}

impl From<i64> for LookBack {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl ByColumn {
    /// By this column: an integer, decimal, date, timestamp or text. Nulls are refused.
    pub fn new(column: impl Into<String>) -> Self {
        Self { column: column.into(), look_back: None }
    }

    /// Reads rows again that are at most this far below the highest value, so that rows that come late are found. The job
    /// then gets rows more than once, which is for sinks that merge.
    #[must_use]
    pub fn look_back(self, by: impl Into<LookBack>) -> Self {
        Self { look_back: Some(by.into()), ..self }
    }

    /// The rows that are new to a run.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a column that is not there or does not grow, and if the bookmark is
    /// of another table or column.
    pub(crate) fn new_rows(&self, rows: DataFrame, table: &str, ctx: &LoadContext) -> Result<DataFrame> {
        let name = TableReference::partial(
            table.split('.').next().unwrap_or_default(),
            table.split('.').nth(1).unwrap_or_default(),
        );
        let column = Expr::Column(datafusion::common::Column::new(Some(name.clone()), &self.column));
        let field = rows.schema().as_arrow().field_with_name(&self.column).ok().cloned();
        let field = field.ok_or_else(|| {
            Error::usage("the table does not have the column of the bookmark")
                .with("column", &self.column)
                .with("table", table)
        })?;
        let before = self.position(ctx.bookmark(), table, ctx)?;
        let mut new = rows;
        if let Some(position) = &before {
            // A null is refused when it is read.
            let lowest = self.lowest(position.value(field.data_type())?, field.data_type())?;
            new = new.filter(column.clone().gt(lowest).or(column.clone().is_null()))?;
        }
        match ctx.bookmark_end() {
            End::Open => {}
            End::Nothing => new = new.filter(lit(false))?,
            End::At(until) => {
                let until = self.position(Some(until), table, ctx)?;
                if let Some(until) = until {
                    new = new.filter(column.lt_eq(lit(until.value(field.data_type())?)))?;
                }
            }
        }
        let (state, plan) = new.into_parts();
        let (observed, water) = HighWater::observe(DataFrame::new(state, plan), &self.column)?;
        let reading = Reading { column: self.column.clone(), location: table.to_owned(), water };
        ctx.advance_bookmark_when_read(Arc::new(reading))?;
        let (state, plan) = observed.into_parts();
        Ok(DataFrame::new(state, LogicalPlanBuilder::from(plan).alias(name)?.build()?))
    }

    fn position(&self, found: Option<&Value>, table: &str, ctx: &LoadContext) -> Result<Option<Position>> {
        let Some(found) = found else { return Ok(None) };
        let position = Position::read(found)?;
        if position.location == table && position.column == self.column {
            return Ok(Some(position));
        }
        if ctx.resets_moved_bookmark() {
            return Ok(None);
        }
        Err(Error::usage("the bookmark of this source is of another table or column")
            .with("bookmark", format!("{} of {}", position.column, position.location))
            .with("source reads", format!("{} of {table}", self.column))
            .hint("start it from its beginning with `--job-bookmark-reset-moved`, or set its position with `hardtack bookmark set`"))
    }

    /// The value above which to read.
    fn lowest(&self, through: ScalarValue, of: &DataType) -> Result<Expr> {
        let back = match self.look_back {
            None => return Ok(lit(through)),
            Some(back) => back,
        };
        let mismatch = || {
            let error = Error::usage("the look-back of the bookmark does not fit the column");
            error.with("column", &self.column).with("type", of).with("look-back", back)
        };
        let less = match back {
            LookBack::Time(time) if of.is_temporal() => {
                let nanoseconds = time.num_nanoseconds().ok_or_else(mismatch)?;
                ScalarValue::new_interval_mdn(0, 0, nanoseconds)
            }
            LookBack::Number(number) if of.is_integer() => {
                // Wider than the column, so that nothing wraps around.
                return match through.cast_to(&DataType::Int64)? {
                    ScalarValue::Int64(Some(through)) => Ok(lit(through.saturating_sub(number))),
                    _ => Err(mismatch()),
                };
            }
            _ => return Err(mismatch()),
        };
        Ok(lit(through) - lit(less))
    }
}

const FORMAT: Format = Format::new("bookmark", 1);

/// How far a table was read.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    /// The table.
    location: String,
    by: By,
    column: String,
    /// The highest value that was read, as text.
    through: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum By {
    Column,
}

impl Position {
    fn read(value: &Value) -> Result<Self> {
        let hint = r#"expected a position such as `{"format": 1, "location": "lake.orders", "by": "column", "column": "id", "through": "7"}`"#;
        FORMAT.check_value(value)?;
        Self::deserialize(value)
            .map_err(|e| Error::refused("the bookmark is not that of a table's column").hint(hint).because(e))
    }

    fn value(&self, of: &DataType) -> Result<ScalarValue> {
        ScalarValue::try_from_string(self.through.clone(), of).map_err(|e| {
            let error = Error::refused("the bookmark is not a value of its column");
            error.with("column", &self.column).with("type", of).with("value", &self.through).because(e)
        })
    }
}

/// A table that is being read.
#[derive(Debug)]
struct Reading {
    column: String,
    location: String,
    water: Arc<HighWater>,
}

impl Reading {
    fn position(&self, through: &ScalarValue) -> Result<Value> {
        let text = through.cast_to(&DataType::Utf8)?.to_string();
        let (location, column) = (self.location.clone(), self.column.clone());
        let position = Position { location, by: By::Column, column, through: text };
        serde_json::to_value(FORMAT.versioned(&position))
            .map_err(|e| Error::unexpected("a bookmark cannot be written").because(e))
    }
}

impl Advance for Reading {
    fn advance(&self) -> Advanced {
        match self.water.value().map(|value| self.position(&value)) {
            Some(Ok(position)) => Advanced::To(position),
            Some(Err(error)) => Advanced::Held(error.chain()),
            None if self.water.is_read() => Advanced::Same,
            None => Advanced::Held("no plan has read it to its end".to_owned()),
        }
    }
}
