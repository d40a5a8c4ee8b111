//! The whole data set per period.

mod period;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use chrono::NaiveDate;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{Column, ScalarValue};
use datafusion::functions_aggregate::expr_fn::{count, max, min};
use datafusion::logical_expr::{JoinType, LogicalPlanBuilder, lit};
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::columns::{Columns, type_name};
use crate::merge::{Merge, merge_and_retain_last};
use period::{Period, Periods};

/// The default limit on the periods that one run rebuilds: ten years of months.
const AT_MOST: usize = 120;

/// Snapshots: for each period the whole data set, as it was at the period's end.
///
/// The rows of a period are the last version of each key among all events up to and including the period, whether or not
/// something happened in it. A column holds the first day of the period: partition the sink by it, and overwrite
/// partitions.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::Snapshots;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// # use hardtack_transforms::{coerce_to_schema};
/// # use hardtack_catalog::schema;
/// # let today = "2026-03-15".parse().unwrap();
/// let events = dataframe!(
///     "policy" => [1, 2, 1],
///     "holder" => ["Ann", "Bob", "Anna"],
///     "since" => ["2026-01-10", "2026-01-20", "2026-02-01"],
///     "gone" => [false, false, false],
/// )?;
/// let columns = schema! { month: date, policy: int, holder: string, since: date, gone: boolean };
/// let current = dataframe!("policy" => [0])?.filter(lit(false))?;
/// let current = hardtack_transforms::coerce_to_schema_with(current, &columns, hardtack_transforms::Missing::FillWithNull)?;
/// let events = coerce_to_schema(events, &schema! { policy: int, holder: string, since: date, gone: boolean })?;
///
/// let months = Snapshots::monthly("month", &["policy"]).by_date("since").delete_marker("gone");
/// let rebuilt = months.rebuild(current, events, today).await?;
/// let march = months.as_of(rebuilt, "2026-03-31".parse().unwrap())?.sort_by(vec![col("policy")])?;
/// assert_eq!(
///     march.to_string().await?,
///     "\
/// +------------+--------+--------+------------+
/// | month      | policy | holder | since      |
/// +------------+--------+--------+------------+
/// | 2026-03-01 | 1      | Anna   | 2026-02-01 |
/// | 2026-03-01 | 2      | Bob    | 2026-01-20 |
/// +------------+--------+--------+------------+"
/// );
/// # Ok(()) }
/// ```
///
/// | | the period of an event is | what a late event changes |
/// | --- | --- | --- |
/// | by ingestion time (the default) | the current one | the current snapshot; earlier ones say what was known then |
/// | [`by_date`](Self::by_date) | the one of its date | the snapshot of its date and, **rolled forward**, all later ones |
///
/// # What is kept
/// A deleted key stays in the snapshots as a row with the [delete marker](Self::delete_marker), because the delete has to
/// win against an older version that arrives after it. [`as_of`](Self::as_of) hides such rows; other readers filter by the
/// marker. Nothing else has to be kept: a snapshot together with later arrivals is as good as all events. So any order
/// and any batches of the same events end in the same snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshots {
    column: String,
    period: Period,
    keys: Vec<String>,
    date: Option<String>,
    order_by: Vec<String>,
    delete_marker: Option<String>,
    at_most: usize,
}

impl Snapshots {
    /// A snapshot per month, whose first day is in the date column `column`, of things that these [paths](crate)
    /// identify.
    pub fn monthly(column: &str, keys: &[&str]) -> Self {
        Self::per(Period::Month, column, keys)
    }

    /// A snapshot per day, which is in the date column `column`, of things that these [paths](crate) identify.
    pub fn daily(column: &str, keys: &[&str]) -> Self {
        Self::per(Period::Day, column, keys)
    }

    fn per(period: Period, column: &str, keys: &[&str]) -> Self {
        let (column, keys) = (column.to_owned(), keys.iter().map(|key| (*key).to_owned()).collect());
        Self { column, period, keys, date: None, order_by: Vec::new(), delete_marker: None, at_most: AT_MOST }
    }

    /// An event belongs to the period of its value in this column: a date, or a timestamp without a time zone or in UTC.
    /// A version with a later date is later; [`order_by`](Self::order_by) decides between those of the same date.
    #[must_use]
    pub fn by_date(mut self, column: &str) -> Self {
        self.date = Some(column.to_owned());
        self
    }

    /// The version with the greatest value at this [path](crate) is the last; null is less than any value. Call it again
    /// for a second column that breaks ties. Where all are equal, the values of the row decide: arbitrarily, but always
    /// the same way.
    #[must_use]
    pub fn order_by(mut self, column: &str) -> Self {
        self.order_by.push(column.to_owned());
        self
    }

    /// The boolean column that marks a version as deleted; null means not deleted.
    #[must_use]
    pub fn delete_marker(mut self, column: &str) -> Self {
        self.delete_marker = Some(column.to_owned());
        self
    }

    /// Sets how many periods a run may rebuild (120 by default). One event with a mistyped year would otherwise rebuild
    /// hundreds of copies of the data set.
    #[must_use]
    pub fn at_most(mut self, periods: usize) -> Self {
        self.at_most = periods;
        self
    }

    /// The snapshots that these events change, as whole partitions: from the earliest period of an event through the
    /// one of `today` (`ctx.now().date_naive()`), and through later ones if there are any. Save them with
    /// [`overwrite_partitions`](https://docs.rs/hardtack-sinks/latest/hardtack_sinks/struct.ParquetDataset.html#method.overwrite_partitions),
    /// in one `ctx.save`.
    ///
    /// Periods since the last snapshot are added even if there are no events. Events of the future make snapshots of the
    /// future. If there is nothing to change, there are no rows.
    ///
    /// The result is lazy, but which periods are affected is found at once: the dates of `incoming` are read (persist it
    /// if it is expensive), and the values of the snapshot column of `current`, which a partitioned source takes from the
    /// names of folders. Only the partitions concerned are read of `current`, and types are handled as in
    /// [`merge_and_retain_last`].
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for columns that are missing or have types that do not fit, and if
    /// nothing says which version is the last; [`Refused`](hardtack_core::ErrorKind::Refused) for events without a date,
    /// for more periods than [`at_most`](Self::at_most), and for a snapshot that does not begin with a period; errors of
    /// the rows.
    pub async fn rebuild(&self, current: DataFrame, incoming: DataFrame, today: NaiveDate) -> Result<DataFrame> {
        self.check(&current, &incoming)?;
        let today = self.period.of(today);
        let existing = self.existing(&current).await?;
        let arrived = self.arrived(&incoming, today).await?;
        let Some(affected) = self.affected(&existing, arrived.as_ref(), today)? else {
            return self.merged(current.filter(lit(false))?, self.within(incoming, today, &[])?);
        };
        let known = self.known(current, &existing, &affected)?;
        self.merged(known, self.within(incoming, today, &affected)?)
    }

    /// The rows of the snapshot of a date, without those that are deleted and without the delete marker. There are none
    /// if the snapshot does not exist.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the snapshot column or the delete marker is missing.
    pub fn as_of(&self, snapshots: DataFrame, date: NaiveDate) -> Result<DataFrame> {
        let columns = Columns::of(snapshots.schema())?;
        let at = columns.get(&self.column)?.expr.clone().eq(day(self.period.of(date)));
        let Some(marker) = &self.delete_marker else { return Ok(snapshots.filter(at)?) };
        let deleted = columns.get(marker)?.expr.clone();
        let visible: Vec<Expr> =
            columns.iter().filter(|column| column.field.name() != marker).map(|column| column.expr.clone()).collect();
        Ok(snapshots.filter(at.and(deleted.is_not_true()))?.select(visible)?)
    }

    fn check(&self, current: &DataFrame, incoming: &DataFrame) -> Result<()> {
        if self.date.is_none() && self.order_by.is_empty() {
            return Err(Error::usage("nothing says which version of a row is the last")
                .hint("name a column with `.order_by(...)`, or `.by_date(...)`"));
        }
        let snapshot = Columns::of(current.schema())?;
        let snapshot = snapshot.get(&self.column).map_err(|e| e.with("side", "current"))?.field.data_type();
        if snapshot != &DataType::Date32 {
            return Err(Error::usage("the column of a snapshot must be a date: the first day of the period")
                .with("column", &self.column)
                .with("type", type_name(snapshot)));
        }
        let events = Columns::of(incoming.schema())?;
        if events.find(&self.column).is_some() {
            return Err(Error::usage("incoming rows have the column of the snapshot, whose values are computed")
                .with("column", &self.column)
                .hint("rename or drop it first"));
        }
        let Some(date) = &self.date else { return Ok(()) };
        let date = events.get(date).map_err(|e| e.with("side", "incoming"))?;
        Period::check(date.field.name(), date.field.data_type())
    }

    /// The periods that have a snapshot.
    async fn existing(&self, current: &DataFrame) -> Result<BTreeSet<NaiveDate>> {
        let column = named(&self.column);
        let periods = current.clone().select([column.clone()])?.filter(column.is_not_null())?.distinct()?;
        let mut existing = BTreeSet::new();
        for batch in periods.collect().await? {
            for row in 0..batch.num_rows() {
                existing.extend(date_in(&batch, 0, row)?);
            }
        }
        match existing.iter().find(|date| self.period.of(**date) != **date) {
            Some(date) => Err(Error::refused("a snapshot has a date that is not the first day of a period")
                .with("column", &self.column)
                .with("value", date)
                .hint("keep snapshots per day and per month in different data sets")),
            None => Ok(existing),
        }
    }

    /// The first and the last period of incoming rows, if there are any.
    async fn arrived(&self, incoming: &DataFrame, today: NaiveDate) -> Result<Option<RangeInclusive<NaiveDate>>> {
        let since = self.since(incoming, today)?;
        let bounds = incoming.clone().aggregate(
            vec![],
            vec![
                min(since.clone()).alias("first"),
                max(since.clone()).alias("last"),
                count(lit(1)).alias("rows"),
                count(since).alias("dated"),
            ],
        )?;
        let bounds = bounds.collect().await?;
        let bounds = bounds.first().ok_or_else(|| Error::unexpected("an aggregate has no row"))?;
        let counted = |column: usize| Ok::<_, Error>(ScalarValue::try_from_array(bounds.column(column), 0)?);
        if let (Some(date), true) = (&self.date, counted(2)? != counted(3)?) {
            return Err(Error::refused("events without a date belong to no period")
                .with("column", date)
                .with("events", counted(2)?)
                .with("with a date", counted(3)?)
                .hint("fill in the date, or keep such events out with a filter or `refuse_rows`"));
        }
        Ok(date_in(bounds, 0, 0)?.zip(date_in(bounds, 1, 0)?).map(|(first, last)| first..=last))
    }

    /// The periods to rebuild, in order: those that incoming rows change, and those that lack a snapshot.
    fn affected(
        &self,
        existing: &BTreeSet<NaiveDate>,
        arrived: Option<&RangeInclusive<NaiveDate>>,
        today: NaiveDate,
    ) -> Result<Option<Vec<NaiveDate>>> {
        let next = existing.last().and_then(|last| self.period.after(*last));
        let last = [Some(today), existing.last().copied(), arrived.map(|a| *a.end())].into_iter().flatten().max();
        let first = arrived.map(|a| *a.start()).into_iter().chain(next).min();
        let (Some(first), Some(last)) = (first, last.filter(|last| first.is_some_and(|first| first <= *last))) else {
            return Ok(None);
        };
        let affected: Vec<NaiveDate> =
            Periods::new(self.period, first, last).take(self.at_most.saturating_add(1)).collect();
        if affected.len() > self.at_most {
            return Err(Error::refused(format!("more than {} snapshots would be rebuilt", self.at_most))
                .with("first", first)
                .with("last", last)
                .hint("look for an event with a wrong date, or permit more with `.at_most(...)`"));
        }
        Ok(Some(affected))
    }

    /// What the snapshots to rebuild are based on: what they were or, if they are new, the one before.
    fn known(&self, current: DataFrame, existing: &BTreeSet<NaiveDate>, affected: &[NaiveDate]) -> Result<DataFrame> {
        let (first, last) = (affected[0], affected[affected.len() - 1]);
        let column = named(&self.column);
        let mut known = current.clone().filter(column.clone().between(day(first), day(last)))?;
        for new in affected.iter().filter(|period| !existing.contains(period)) {
            let Some(before) = existing.range(..new).next_back() else { continue };
            let carried = current.clone().filter(column.clone().eq(day(*before)))?;
            known = known.union(self.dated(carried, day(*new))?)?;
        }
        Ok(known)
    }

    /// The rows with another value in the snapshot column.
    fn dated(&self, rows: DataFrame, date: Expr) -> Result<DataFrame> {
        let columns = Columns::of(rows.schema())?;
        let column = |name: &str, expr: &Expr| match name == self.column {
            true => date.clone().alias(name),
            false => expr.clone().alias(name),
        };
        let columns: Vec<Expr> = columns.iter().map(|c| column(c.field.name(), &c.expr)).collect();
        Ok(rows.select(columns)?)
    }

    /// The incoming rows in each of these periods that they have an effect on: their own and all later ones.
    fn within(&self, incoming: DataFrame, today: NaiveDate, periods: &[NaiveDate]) -> Result<DataFrame> {
        let columns = Columns::of(incoming.schema())?;
        let mut columns: Vec<Expr> = columns.iter().map(|c| c.expr.clone().alias(c.field.name())).collect();
        if periods.len() < 2 {
            let only = day(periods.first().copied().unwrap_or(today));
            columns.push(only.alias(&self.column));
            return Ok(incoming.select(columns)?);
        }
        let (state, _) = incoming.clone().into_parts();
        let rows = periods.iter().map(|period| vec![day(*period)]).collect();
        let periods = DataFrame::new(state, LogicalPlanBuilder::values(rows)?.build()?);
        let periods = periods.select([named("column1").alias(&self.column)])?;
        columns.push(self.since(&incoming, today)?.alias(SINCE));
        let effect = named(SINCE).lt_eq(named(&self.column));
        let within = periods.join_on(incoming.select(columns)?, JoinType::Inner, [effect])?;
        let kept = |name: &str| name != SINCE;
        let columns = Columns::of(within.schema())?;
        let columns: Vec<Expr> = columns.iter().filter(|c| kept(c.field.name())).map(|c| c.expr.clone()).collect();
        Ok(within.select(columns)?)
    }

    /// The period of an event.
    fn since(&self, events: &DataFrame, today: NaiveDate) -> Result<Expr> {
        let Some(date) = &self.date else { return Ok(day(today)) };
        let columns = Columns::of(events.schema())?;
        let date = columns.get(date)?;
        Ok(self.period.beginning(date.expr.clone(), date.field.data_type()))
    }

    fn merged(&self, known: DataFrame, incoming: DataFrame) -> Result<DataFrame> {
        let keys: Vec<&str> = [&self.column].into_iter().chain(&self.keys).map(String::as_str).collect();
        let mut last = Merge::on(&keys).ties_by_values();
        for column in self.date.iter().chain(&self.order_by) {
            last = last.order_by(column);
        }
        if let Some(marker) = &self.delete_marker {
            last = last.delete_marker(marker);
        }
        merge_and_retain_last(known, incoming, &last)
    }
}

const SINCE: &str = "__hardtack_since";

fn named(column: &str) -> Expr {
    Expr::Column(Column::from_name(column))
}

fn day(date: NaiveDate) -> Expr {
    lit(period::scalar(date))
}

fn date_in(batch: &RecordBatch, column: usize, row: usize) -> Result<Option<NaiveDate>> {
    match ScalarValue::try_from_array(batch.column(column), row)? {
        ScalarValue::Date32(Some(days)) => period::date(days).map(Some),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests;
