//! Applying changes to a table.

use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::lit;
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::cast;
use crate::columns::{Columns, Found, type_name};
use crate::encode;
use crate::rows::first_of_each;

/// How [`merge_and_retain_last`] tells rows apart and which it prefers.
///
/// ```
/// # use hardtack_transforms::Merge;
/// Merge::on(&["id"]).order_by("_as_of").delete_marker("_deleted");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merge {
    keys: Vec<String>,
    order_by: Vec<String>,
    delete_marker: Option<String>,
    drop_deleted: bool,
}

impl Merge {
    /// Rows that agree in these [paths](crate) are versions of one thing. Null is a value like any other.
    pub fn on(keys: &[&str]) -> Self {
        let keys = keys.iter().map(|k| (*k).to_owned()).collect();
        Self { keys, order_by: Vec::new(), delete_marker: None, drop_deleted: false }
    }

    /// The version with the greatest value of this [path](crate) is the last; one without a value loses against all that
    /// have one. Call it again for a second column that decides where the first is equal. Without any, incoming rows
    /// always win.
    #[must_use]
    pub fn order_by(mut self, column: &str) -> Self {
        self.order_by.push(column.to_owned());
        self
    }

    /// The boolean column that marks a version as "deleted". Null means that it is not, and so does a side without the
    /// column. In the result the column is there, and never null.
    ///
    /// Deleted rows stay in the result unless [`drop_deleted`](Self::drop_deleted) is asked for: whoever forgets a delete
    /// lets an older, late event bring the row back.
    #[must_use]
    pub fn delete_marker(mut self, column: &str) -> Self {
        self.delete_marker = Some(column.to_owned());
        self
    }

    /// Leaves out the rows whose last version is a delete, and the marker column with them.
    #[must_use]
    pub fn drop_deleted(mut self) -> Self {
        self.drop_deleted = true;
        self
    }
}

const SIDE: &str = "__hardtack_side";
const TIE: &str = "__hardtack_tie";

/// Applies changes to a table: of all rows with one key, from both sides, the last stays.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::{Merge, merge_and_retain_last};
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let customers = dataframe!("id" => [1, 2], "email" => ["ann@a.org", "bob@b.org"], "_as_of" => [10, 10])?;
/// let changes = dataframe!(
///     "id" => [1, 2, 3],
///     "email" => [Some("ann@new.org"), None, Some("cid@c.org")],
///     "_as_of" => [20, 30, 20],
///     "_deleted" => [None, Some(true), Some(false)],
/// )?;
/// let merge = Merge::on(&["id"]).order_by("_as_of").delete_marker("_deleted");
/// let customers = merge_and_retain_last(customers, changes, &merge)?.sort_by(vec![col("id")])?;
/// assert_eq!(
///     customers.to_string().await?,
///     "\
/// +----+-------------+--------+----------+
/// | id | email       | _as_of | _deleted |
/// +----+-------------+--------+----------+
/// | 1  | ann@new.org | 20     | false    |
/// | 2  |             | 30     | true     |
/// | 3  | cid@c.org   | 20     | false    |
/// +----+-------------+--------+----------+"
/// );
/// # Ok(()) }
/// ```
///
/// The last row of a key is the one with
/// 1. the greatest order value (null is the least);
/// 2. where that is equal, the incoming one;
/// 3. where both are from the same side, the one that a hash of all its values says: arbitrary, but always the same one.
///
/// So the result depends neither on the order of rows nor on how they are partitioned, applying the same changes again
/// changes nothing, and applying two batches one after another is the same as merging them first and applying the result
/// (as long as deleted rows are kept).
///
/// Columns are matched by name. The result has those of `current` in its order and with its types, then those that only
/// `incoming` has; a side that lacks a column has nulls in it. An incoming value that does not fit the type it has in
/// `current` is refused while the rows flow, as in [`coerce_to_schema`](crate::coerce_to_schema).
///
/// It sorts both sides by key and spills what does not fit into memory.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a key or order column that one side lacks, an order column that has no
/// order (structs, lists, maps), a delete marker that is not boolean; [`Refused`](hardtack_core::ErrorKind::Refused) for a
/// column that cannot become what it is in `current`.
pub fn merge_and_retain_last(current: DataFrame, incoming: DataFrame, merge: &Merge) -> Result<DataFrame> {
    if merge.keys.is_empty() {
        return Err(Error::usage("rows are merged by their key; name one column at least"));
    }
    let (ours, theirs) = (Columns::of(current.schema())?, Columns::of(incoming.schema())?);
    for (side, columns) in [("current", &ours), ("incoming", &theirs)] {
        check(columns, merge).map_err(|e| e.with("side", side))?;
    }
    let fields = all_fields(&ours, &theirs, merge);
    let rows = side(current, &ours, &fields, merge, false)?.union(side(incoming, &theirs, &fields, merge, true)?)?;

    let columns = Columns::of(rows.schema())?;
    let keys = merge.keys.iter().map(|k| encode::key(&columns.path(k)?)).collect::<Result<_>>()?;
    let mut order = Vec::new();
    for path in &merge.order_by {
        order.push(columns.path(path)?.expr.sort(false, false));
    }
    order.extend([named(SIDE).sort(false, false), named(TIE).sort(false, false)]);
    let kept = |f: &&FieldRef| !(merge.drop_deleted && Some(f.name()) == merge.delete_marker.as_ref());
    let output: Vec<Expr> = fields.iter().map(|f| named(f.name())).collect();
    let last = first_of_each(rows, keys, order, output)?;
    match &merge.delete_marker {
        Some(marker) if merge.drop_deleted => {
            let visible: Vec<Expr> = fields.iter().filter(kept).map(|f| named(f.name())).collect();
            Ok(last.filter(Expr::Not(Box::new(named(marker))))?.select(visible)?)
        }
        _ => Ok(last),
    }
}

fn named(column: &str) -> Expr {
    Expr::Column(Column::from_name(column))
}

/// What a side must have.
fn check(columns: &Columns, merge: &Merge) -> Result<()> {
    for key in &merge.keys {
        columns.path(key)?;
    }
    for path in &merge.order_by {
        let order = columns.path(path)?;
        if order.field.data_type().is_nested() {
            return Err(Error::usage("values of this type have no order")
                .with("column", path)
                .with("type", type_name(order.field.data_type())));
        }
    }
    let marker = merge.delete_marker.as_ref().and_then(|m| columns.find(m));
    match marker {
        Some(m) if !matches!(m.field.data_type(), DataType::Boolean | DataType::Null) => {
            Err(Error::usage("a delete marker is boolean")
                .with("column", m.field.name())
                .with("type", type_name(m.field.data_type())))
        }
        _ => Ok(()),
    }
}

/// The fields of the result.
fn all_fields(ours: &Columns, theirs: &Columns, merge: &Merge) -> Vec<FieldRef> {
    let added = theirs.iter().filter(|their| ours.find(their.field.name()).is_none());
    let mut fields: Vec<FieldRef> = ours.iter().chain(added).map(|c| c.field.clone()).collect();
    if let Some(marker) = &merge.delete_marker {
        let marker = FieldRef::new(datafusion::arrow::datatypes::Field::new(marker, DataType::Boolean, false));
        match fields.iter_mut().find(|f| f.name() == marker.name()) {
            Some(field) => *field = marker,
            None => fields.push(marker),
        }
    }
    fields
}

/// A side with all columns, the side's rank, and the number that breaks ties.
fn side(df: DataFrame, columns: &Columns, fields: &[FieldRef], merge: &Merge, incoming: bool) -> Result<DataFrame> {
    let mut exprs = Vec::new();
    for field in fields {
        let is_marker = Some(field.name()) == merge.delete_marker.as_ref();
        let expr = match columns.find(field.name()) {
            Some(column) if is_marker && column.field.data_type() == &DataType::Boolean => {
                coalesce(vec![column.expr.clone(), lit(false)])
            }
            _ if is_marker => lit(false),
            Some(column) if column.field.data_type() == field.data_type() => column.expr.clone(),
            Some(column) => cast::fit_type(column, field)?,
            None => lit(ScalarValue::try_new_null(field.data_type())?),
        };
        exprs.push(expr.alias(field.name()));
    }
    let rows = df.select(exprs)?;
    let all: Vec<Found> = Columns::of(rows.schema())?.iter().cloned().collect();
    let mut exprs: Vec<Expr> = all.iter().map(|c| c.expr.clone()).collect();
    exprs.extend([lit(incoming).alias(SIDE), encode::hash(&all)?.alias(TIE)]);
    Ok(rows.select(exprs)?)
}
