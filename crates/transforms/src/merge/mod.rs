//! Applying changes to a table.

mod exec;
mod last;

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Column, ScalarValue};
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::lit;
use datafusion::prelude::{DataFrame, Expr};
use hardtack_catalog::types;
use hardtack_core::operator;
use hardtack_core::{Error, Result};

use crate::cast;
use crate::columns::{Columns, Found, type_name, unknown};
use crate::encode;
use crate::refuse::is_origin;
use exec::{Known, Layout};

/// How [`merge_and_retain_last`] identifies rows, and which version it prefers.
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
    known_since: Option<String>,
    /// Whether rows of both sides are equal but for their values.
    ties_by_values: bool,
}

impl Merge {
    /// Rows with equal values at these [paths](crate) are versions of one thing. Null is a value like any other.
    pub fn on(keys: &[&str]) -> Self {
        let keys = keys.iter().map(|k| (*k).to_owned()).collect();
        Self {
            keys,
            order_by: Vec::new(),
            delete_marker: None,
            drop_deleted: false,
            known_since: None,
            ties_by_values: false,
        }
    }

    /// The version with the greatest value at this [path](crate) is the last; null is less than any value. Call it
    /// again for a second column that breaks ties. Without any, incoming rows always win.
    #[must_use]
    pub fn order_by(mut self, column: &str) -> Self {
        self.order_by.push(column.to_owned());
        self
    }

    /// The boolean column that marks a version as deleted. Null, or a side without the column, means not deleted. The
    /// result has the column, and it is never null.
    ///
    /// Deleted rows stay in the result unless [`drop_deleted`](Self::drop_deleted) is set: if a delete is forgotten, an
    /// older, late event brings the row back.
    #[must_use]
    pub fn delete_marker(mut self, column: &str) -> Self {
        self.delete_marker = Some(column.to_owned());
        self
    }

    /// The struct column that says since when values are known, for versions that leave some out: database logs omit
    /// large values that an update did not change.
    ///
    /// The struct has a field for each column that may be left out, of the type of the first order column: the order value
    /// of the version that the value is from, or null if the row does not know the value. A row without the struct (it is
    /// null, or the side does not have the column) knows all its values.
    ///
    /// In the result a value is that of the version that knew it last, and the struct says which that was. A value that
    /// no version has known since the row was deleted, or ever, is null, and so is its field in the struct: check it,
    /// for example with [`refuse_rows`](crate::refuse_rows). Keep the struct with the table; without it a later merge
    /// may prefer an older version of a value.
    ///
    /// ```
    /// # use datafusion::prelude::*;
    /// # use datafusion::functions::core::expr_fn::{get_field, named_struct};
    /// # use hardtack_transforms::{Merge, merge_and_retain_last};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
    /// let customers = dataframe!("id" => [1], "name" => ["Ann"], "photo" => ["(a large one)"], "at" => [10_i64])?;
    /// let changes = dataframe!("id" => [1], "name" => ["Anna"], "photo" => ["(left out)"], "at" => [20_i64])?;
    /// let left_out = col("photo").eq(lit("(left out)"));
    /// let unknown = lit(datafusion::scalar::ScalarValue::Int64(None));
    /// let known = named_struct(vec![lit("photo"), when(left_out, unknown).otherwise(col("at"))?]);
    /// let changes = changes.with_column("known_since", known)?;
    ///
    /// let merge = Merge::on(&["id"]).order_by("at").known_since("known_since");
    /// let customers = merge_and_retain_last(customers, changes, &merge)?;
    /// let kept = col("photo").eq(lit("(a large one)")).and(get_field(col("known_since"), "photo").eq(lit(10_i64)));
    /// assert_eq!(customers.filter(col("name").eq(lit("Anna")).and(kept))?.count().await?, 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn known_since(mut self, column: &str) -> Self {
        self.known_since = Some(column.to_owned());
        self
    }

    /// Where order values are equal, the values of the row decide, whichever side it is on: so that it does not matter
    /// which of two rows arrives first. Those of the key do not count, so that the choice is the same under other keys.
    pub(crate) fn ties_by_values(mut self) -> Self {
        self.ties_by_values = true;
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

/// Applies changes to a table: of all rows with one key, from both sides, it keeps the last.
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
/// 3. where both are from the same side, the one that a hash of all its values selects: arbitrary, but always the same
///    one.
///
/// So the result depends neither on the order of rows nor on how they are partitioned, applying the same changes again
/// changes nothing, and applying two batches one after another is the same as merging them first and applying the
/// result (as long as deleted rows are kept).
///
/// Columns are matched by name. The result has those of `current` in its order and with its types, then those that only
/// `incoming` has; a side that lacks a column has nulls there. An incoming value that does not fit the column's type in
/// `current`, or is longer than its `varchar(n)`, is refused during execution, as in
/// [`coerce_to_schema`](crate::coerce_to_schema).
///
/// The rows that may be the last of their keys are held in memory; what does not fit is spilled.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a key or order column that one side lacks, an order column without an
/// order (structs, lists, maps), a delete marker that is not boolean, or a [`known_since`](Merge::known_since) that is
/// not a struct, or has a field that is no column or has another type than the first order column;
/// [`Refused`](hardtack_core::ErrorKind::Refused) for a column that cannot get its type in `current`.
pub fn merge_and_retain_last(current: DataFrame, incoming: DataFrame, merge: &Merge) -> Result<DataFrame> {
    if merge.keys.is_empty() {
        return Err(Error::usage("rows are merged by their key; name at least one column"));
    }
    let (ours, theirs) = (Columns::of(current.schema())?, Columns::of(incoming.schema())?);
    for (side, columns) in [("current", &ours), ("incoming", &theirs)] {
        check(columns, merge).map_err(|e| e.with("side", side))?;
    }
    let fields = all_fields(&ours, &theirs, merge);
    let rows = side(current, &ours, &fields, merge, false)?.union(side(incoming, &theirs, &fields, merge, true)?)?;

    let layout = lay_out(&rows, &fields, merge)?;
    let last = operator::apply(rows, Arc::new(layout))?;
    match &merge.delete_marker {
        Some(marker) if merge.drop_deleted => {
            let kept = |f: &&FieldRef| f.name() != marker;
            let visible: Vec<Expr> = fields.iter().filter(kept).map(|f| named(f.name())).collect();
            Ok(last.filter(Expr::Not(Box::new(named(marker))))?.select(visible)?)
        }
        _ => Ok(last),
    }
}

/// By what the rows of both sides are compared.
fn lay_out(rows: &DataFrame, fields: &[FieldRef], merge: &Merge) -> Result<Layout> {
    let (state, plan) = rows.clone().into_parts();
    let columns = Columns::of(rows.schema())?;
    let planned = |expr: Expr| Ok::<_, Error>(state.create_physical_expr(expr, plan.schema())?);
    let compared = |path: &String| planned(encode::key(&columns.path(path)?)?);
    let keys = merge.keys.iter().map(compared).collect::<Result<_>>()?;
    let mut order = merge.order_by.iter().map(compared).collect::<Result<Vec<_>>>()?;
    if !merge.ties_by_values {
        order.push(planned(named(SIDE))?);
    }
    let known = match &merge.known_since {
        None => None,
        Some(known) => {
            let (column, of_fields, marker) = known_since(known, fields, merge)?;
            let since = columns.path(&merge.order_by[0])?;
            if let Some(field) = of_fields.iter().find(|field| field.data_type() != since.field.data_type()) {
                return Err(Error::usage("a field of `known_since` must have the type of the first order column")
                    .with("column", format!("{}.{}", fields[column].name(), field.name()))
                    .with("type", type_name(field.data_type()))
                    .with("order column", &merge.order_by[0])
                    .with("its type", type_name(since.field.data_type()))
                    .hint("cast one of them before the merge"));
            }
            let of = |field: &FieldRef| fields.iter().position(|other| other.name() == field.name());
            let fields = of_fields.iter().filter_map(of).collect();
            Some(Known { column, fields, since: planned(since.expr)?, marker })
        }
    };
    // A row that is delivered again in another file is the same row.
    let counts_not = |name: &String| is_origin(name) || (merge.ties_by_values && merge.keys.contains(name));
    let tied: Vec<usize> = (0..fields.len()).filter(|at| !counts_not(fields[*at].name())).collect();
    let compared: Vec<Found> = columns.iter().filter(|column| !is_origin(column.field.name())).cloned().collect();
    encode::check(&compared)?;
    let input = Arc::clone(rows.schema().inner());
    Ok(Layout { input, values: fields.len(), keys, order, tied, known })
}

/// The column that says since when values are known, its fields, and the delete marker.
fn known_since(column: &str, all: &[FieldRef], merge: &Merge) -> Result<(usize, Vec<FieldRef>, Option<usize>)> {
    let names = || all.iter().map(|f| f.name().as_str()).collect::<Vec<_>>();
    let at = |name: &str| all.iter().position(|f| f.name() == name);
    let found = at(column).ok_or_else(|| unknown("column", column, &names()))?;
    let DataType::Struct(fields) = all[found].data_type() else {
        return Err(Error::usage("the column of `known_since` must be a struct")
            .with("column", column)
            .with("type", type_name(all[found].data_type())));
    };
    if merge.order_by.is_empty() {
        return Err(Error::usage("`known_since` refers to the order column; name one"));
    }
    if let Some(field) = fields.iter().find(|field| at(field.name()).is_none()) {
        return Err(unknown("column", field.name(), &names()).with("known since", column));
    }
    let marker = merge.delete_marker.as_deref().and_then(at);
    Ok((found, fields.iter().cloned().collect(), marker))
}

fn named(column: &str) -> Expr {
    Expr::Column(Column::from_name(column))
}

/// Checks that a side has the required columns.
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
            Err(Error::usage("a delete marker must be boolean")
                .with("column", m.field.name())
                .with("type", type_name(m.field.data_type())))
        }
        _ => Ok(()),
    }
}

/// The fields of the result.
fn all_fields(ours: &Columns, theirs: &Columns, merge: &Merge) -> Vec<FieldRef> {
    let added = theirs.iter().filter(|their| ours.find(their.field.name()).is_none());
    // A dictionary encodes the values of one file and cannot hold others.
    let common = |c: &Found| match theirs.find(c.field.name()) {
        Some(their) if their.field.data_type() != c.field.data_type() => {
            Arc::new(c.field.as_ref().clone().with_data_type(types::plain(c.field.data_type()).clone()))
        }
        _ => Arc::clone(&c.field),
    };
    let mut fields: Vec<FieldRef> = ours.iter().chain(added).map(common).collect();
    if let Some(marker) = &merge.delete_marker {
        let marker = Arc::new(Field::new(marker, DataType::Boolean, false));
        match fields.iter_mut().find(|f| f.name() == marker.name()) {
            Some(field) => *field = marker,
            None => fields.push(marker),
        }
    }
    fields
}

/// A side with all columns, and which side it is.
fn side(df: DataFrame, columns: &Columns, fields: &[FieldRef], merge: &Merge, incoming: bool) -> Result<DataFrame> {
    let mut exprs = Vec::new();
    for field in fields {
        let is_marker = Some(field.name()) == merge.delete_marker.as_ref();
        let expr = match columns.find(field.name()) {
            Some(column) if is_marker && column.field.data_type() == &DataType::Boolean => {
                coalesce(vec![column.expr.clone(), lit(false)])
            }
            _ if is_marker => lit(false),
            // A length is not part of the type.
            Some(column) if column.field.data_type() == field.data_type() && cast::max_characters(field).is_none() => {
                column.expr.clone()
            }
            Some(column) => cast::fit_type(column, field)?,
            None => lit(ScalarValue::try_new_null(field.data_type())?),
        };
        exprs.push(cast::named(expr, field.name()));
    }
    exprs.push(lit(incoming).alias(SIDE));
    Ok(df.select(exprs)?)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::collections::BTreeMap;

    use datafusion::arrow::array::{ArrayRef, Int32Array, StructArray};
    use datafusion::arrow::buffer::NullBuffer;
    use datafusion::arrow::datatypes::Fields;
    use datafusion::execution::memory_pool::FairSpillPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::functions::core::expr_ext::FieldAccessor;
    use datafusion::physical_plan::{self, ExecutionPlan};
    use datafusion::prelude::{SessionConfig, SessionContext, col};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::{batch, failure, frame, frame_in, run, session, show};

    fn by_id() -> Merge {
        Merge::on(&["id"]).order_by("at").delete_marker("gone")
    }

    const COLUMNS: &str = "id: int, v: string, at: int, gone: boolean";

    #[rstest]
    #[case::update(&[r#"{"id":1,"v":"old","at":1}"#], &[r#"{"id":1,"v":"new","at":2}"#], "1 | new | 2 | false")]
    #[case::late(&[r#"{"id":1,"v":"old","at":2}"#], &[r#"{"id":1,"v":"new","at":1}"#], "1 | old | 2 | false")]
    #[case::tie(&[r#"{"id":1,"v":"old","at":1}"#], &[r#"{"id":1,"v":"new","at":1}"#], "1 | new | 1 | false")]
    #[case::null_loses(&[r#"{"id":1,"v":"old","at":-5}"#], &[r#"{"id":1,"v":"new"}"#], "1 | old | -5 | false")]
    #[case::nulls_tie(&[r#"{"id":1,"v":"old"}"#], &[r#"{"id":1,"v":"new"}"#], "1 | new | null | false")]
    #[case::null_keys(&[r#"{"v":"old","at":1}"#], &[r#"{"v":"new","at":2}"#], "null | new | 2 | false")]
    #[case::insert(&[], &[r#"{"id":1,"v":"new","at":1}"#], "1 | new | 1 | false")]
    #[case::untouched(&[r#"{"id":1,"v":"old","at":1}"#], &[], "1 | old | 1 | false")]
    #[case::delete(&[r#"{"id":1,"v":"old","at":1}"#], &[r#"{"id":1,"at":2,"gone":true}"#], "1 | null | 2 | true")]
    #[case::after_delete(&[r#"{"id":1,"at":2,"gone":true}"#], &[r#"{"id":1,"v":"x","at":1}"#], "1 | null | 2 | true")]
    #[case::back_again(&[r#"{"id":1,"at":2,"gone":true}"#], &[r#"{"id":1,"v":"new","at":3}"#], "1 | new | 3 | false")]
    #[case::several(
        &[],
        &[r#"{"id":1,"v":"a","at":1}"#, r#"{"id":1,"v":"c","at":3}"#, r#"{"id":1,"v":"b","at":2}"#],
        "1 | c | 3 | false"
    )]
    #[tokio::test]
    async fn the_last_row_stays(#[case] current: &[&str], #[case] incoming: &[&str], #[case] row: &str) {
        let merged = merge_and_retain_last(frame(COLUMNS, current), frame(COLUMNS, incoming), &by_id()).unwrap();
        let shown = show(merged).await;
        let shown: Vec<String> = shown.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(shown, ["id int | v string | at int | gone boolean not null", row]);
    }

    #[rstest]
    #[case::left_out(r#"{"note":20}"#, "P | new | 20 | {photo: 10, note: 20}")]
    #[case::both(r#"{"photo":20,"note":20}"#, "new | new | 20 | {photo: 20, note: 20}")]
    #[case::older(r#"{"photo":5,"note":20}"#, "P | new | 20 | {photo: 10, note: 20}")]
    #[case::none("{}", "P | N | 20 | {photo: 10, note: 10}")]
    #[case::all("null", "new | new | 20 | {photo: 20, note: 20}")]
    #[tokio::test]
    async fn a_value_is_that_of_the_version_that_knew_it_last(#[case] known: &str, #[case] row: &str) {
        const COLUMNS: &str =
            "id: int, photo: string, note: string, at: bigint, known: struct<photo:bigint,note:bigint>";
        let current = frame(COLUMNS, &[r#"{"id":1,"photo":"P","note":"N","at":10}"#]);
        let change = format!(r#"{{"id":1,"photo":"new","note":"new","at":20,"known":{known}}}"#);
        let merge = Merge::on(&["id"]).order_by("at").known_since("known");
        let merged = show(merge_and_retain_last(current, frame(COLUMNS, &[&change]), &merge).unwrap()).await;
        let last = merged.lines().last().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(last, format!("1 | {row}"));
    }

    /// The optimizer moves the access to a field towards the scan, which must not make a column ambiguous.
    #[tokio::test]
    async fn a_merged_struct_may_be_asked_for_a_field() {
        const COLUMNS: &str = "id: int, v: string, at: bigint, known: struct<v:bigint>";
        let side = |at: u8| frame(COLUMNS, &[&format!(r#"{{"id":1,"v":"v","at":{at},"known":{{"v":{at}}}}}"#)]);
        let merge = Merge::on(&["id"]).order_by("at").known_since("known");
        let merged = merge_and_retain_last(side(1), side(2), &merge).unwrap();
        let wanted = col("known").field("v").eq(col("at")).and(col("v").eq(lit("v")));
        let field = merged.filter(wanted).unwrap().select([col("known").field("v").alias("since"), col("at")]).unwrap();
        assert_eq!(show(field).await, "since bigint | at bigint\n2            | 2");
    }

    #[rstest]
    #[case("known: bigint", "the column of `known_since` must be a struct (column: known, type: bigint)")]
    #[case("other: bigint", "there is no column `known` (columns: id, v, at, other)")]
    #[case("known: struct<w:bigint>", "there is no column `w` (columns: id, v, at, known, known since: known)")]
    #[case(
        "known: struct<v:int>",
        "a field of `known_since` must have the type of the first order column (column: known.v, type: int, \
         order column: at, its type: bigint, hint: cast one of them before the merge)"
    )]
    fn since_when_values_are_known_is_said_in_terms_of_columns(#[case] column: &str, #[case] message: &str) {
        let side = frame(&format!("id: int, v: string, at: bigint, {column}"), &[]);
        let merge = Merge::on(&["id"]).order_by("at").known_since("known");
        assert_eq!(merge_and_retain_last(side.clone(), side, &merge).unwrap_err().to_string(), message);
    }

    #[tokio::test]
    async fn columns_are_matched_by_name_and_sides_completed() {
        let columns = "id: int, v: string, only_here: int, at: timestamp, s: struct<a:int,b:int>";
        let current = frame(
            columns,
            &[
                r#"{"id":1,"v":"a","only_here":7,"at":"2024-01-01"}"#,
                r#"{"id":2,"v":"b","only_here":8,"at":"2024-01-01"}"#,
            ],
        );
        let columns =
            "s: struct<b:int>, at: string, v: int, `only there`: array<int>, id: bigint not null, gone: boolean";
        let incoming = frame(
            columns,
            &[
                r#"{"id":2,"v":22,"only there":[1],"at":"2024-01-02","s":{"b":1}}"#,
                r#"{"id":3,"v":33,"only there":[],"at":"2024-01-02","gone":true}"#,
            ],
        );
        let merged = merge_and_retain_last(current.clone(), incoming.clone(), &by_id()).unwrap();
        insta::assert_snapshot!(show(merged).await, @r"
        id int | v string | only_here int | at timestamp        | s struct<a:int,b:int> | only there array<int> | gone boolean not null
        1      | a        | 7             | 2024-01-01T00:00:00 | null                  | null                  | false
        2      | 22       | null          | 2024-01-02T00:00:00 | {a: , b: 1}           | [1]                   | false
        3      | 33       | null          | 2024-01-02T00:00:00 | null                  | []                    | true
        ");
        let merged = merge_and_retain_last(current, incoming, &by_id().drop_deleted()).unwrap();
        insta::assert_snapshot!(show(merged).await, @r"
        id int | v string | only_here int | at timestamp        | s struct<a:int,b:int> | only there array<int>
        1      | a        | 7             | 2024-01-01T00:00:00 | null                  | null
        2      | 22       | null          | 2024-01-02T00:00:00 | {a: , b: 1}           | [1]
        ");
    }

    #[tokio::test]
    async fn without_an_order_what_comes_in_wins() {
        let df = |v: u8| frame("id: int, v: int", &[&format!(r#"{{"id":1,"v":{v}}}"#)]);
        let merged = merge_and_retain_last(df(9), df(1), &Merge::on(&["id"])).unwrap();
        assert_eq!(show(merged).await, "id int | v int\n1      | 1");
    }

    #[rstest]
    #[case(&["c.id"], "order.ts")]
    #[case(&["c"], "order.ts")]
    #[case(&["c.id", "c.tags"], "`order`.ts")]
    #[case(&["m"], "`order`.ts")]
    #[tokio::test]
    async fn keys_and_order_may_be_nested(#[case] keys: &[&str], #[case] order: &str) {
        let columns = "c: struct<id:int,tags:array<string>>, m: map<string,int>, order: struct<ts:int,lsn:int>, v: int";
        let row = |id: u8, ts: u8, v: u8| {
            format!(r#"{{"c":{{"id":{id},"tags":["t{id}"]}},"m":{{"id":{id}}},"order":{{"ts":{ts}}},"v":{v}}}"#)
        };
        let (current, incoming) = ([row(1, 1, 1), row(2, 5, 2)], [row(1, 2, 11), row(2, 4, 22)]);
        let df = |rows: &[String; 2]| frame(columns, &[&rows[0], &rows[1], r#"{"v":0}"#]);
        let merge = Merge::on(keys).order_by(order).order_by("order.lsn");
        let merged = merge_and_retain_last(df(&current), df(&incoming), &merge).unwrap();
        assert_eq!(show(merged.select_columns(&["v"]).unwrap()).await, "v int\n0\n11\n2");
    }

    /// Batches are merged with a different comparison than rows within a batch.
    #[tokio::test]
    async fn nested_keys_are_compared_across_batches() {
        let session = session(3);
        let columns = "m: map<string,int>, s: struct<l:array<int>>, at: int";
        let row = |i: u8| format!(r#"{{"m":{{"k":{}}},"s":{{"l":[{}]}},"at":{i}}}"#, i % 5, i % 2);
        let rows: Vec<String> = (0..60).map(row).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let df = |rows: &[&str]| session.read_batches(rows.chunks(5).map(|r| batch(columns, r))).unwrap();
        let merge = Merge::on(&["m", "s"]).order_by("at");
        let merged = merge_and_retain_last(df(&rows[..30]), df(&rows[30..]), &merge).unwrap();
        let expected: Vec<String> = (50..60).map(|i| i.to_string()).collect();
        assert_eq!(show(merged.select_columns(&["at"]).unwrap()).await, format!("at int\n{}", expected.join("\n")));
    }

    /// The key is null, not what Arrow stores below it.
    #[tokio::test]
    async fn a_null_struct_has_null_fields() {
        let fields = Fields::from(vec![Field::new("id", DataType::Int32, true)]);
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3]));
        let nulls = NullBuffer::from(vec![true, false, false]);
        let rows: ArrayRef = Arc::new(StructArray::new(fields, vec![ids], Some(nulls)));
        let df = DataFrame::from_columns(vec![("s", rows)]).unwrap();
        let merged = merge_and_retain_last(df.clone(), df, &Merge::on(&["s.id"])).unwrap();
        assert_eq!(merged.count().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn encodings_may_differ() {
        let sql = "select 1 as id, arrow_cast('a', 'Dictionary(Int8, Utf8)') as v, arrow_cast('a', 'Utf8View') as w";
        let current = SessionContext::new().sql(sql).await.unwrap();
        let incoming = frame("id: int, v: string, w: string", &[r#"{"id":2,"v":"b","w":"b"}"#]);
        let merged = merge_and_retain_last(current, incoming, &Merge::on(&["id"])).unwrap();
        insta::assert_snapshot!(show(merged).await, @r"
        id bigint | v string | w string
        1         | a        | a
        2         | b        | b
        ");
    }

    #[rstest]
    #[case(Merge::on(&["ID"]), "there is no column `ID`; did you mean `id`? (columns: id, v, at, gone, side: current)")]
    #[case(Merge::on(&["id"]).order_by("ts"), "there is no column `ts` (columns: id, v, at, gone, side: current)")]
    #[case(Merge::on(&["v"]), "there is no column `v` (columns: x, id, s, side: incoming)")]
    #[case(Merge::on(&[]), "rows are merged by their key; name at least one column")]
    #[case(Merge::on(&["id"]).delete_marker("v"), "a delete marker must be boolean (column: v, type: string, side: current)")]
    fn what_is_not_there_is_named(#[case] merge: Merge, #[case] message: &str) {
        let incoming = frame("x: int, id: int, s: struct<a:int>", &[]);
        assert_eq!(merge_and_retain_last(frame(COLUMNS, &[]), incoming, &merge).unwrap_err().to_string(), message);
    }

    #[rstest]
    #[case("varchar(3)", "string", "long", true)]
    #[case("char(3)", "string", "long", true)]
    #[case("varchar(3)", "varchar(4)", "long", true)]
    #[case("varchar(3)", "int", "1234", true)]
    #[case("array<varchar(3)>", "array<string>", r#"["long"]"#, true)]
    #[case("varchar(3)", "string", "äöü", false)]
    #[case("varchar(4)", "varchar(3)", "abc", false)]
    #[case("string", "varchar(3)", "abc", false)]
    #[tokio::test]
    async fn an_incoming_text_is_as_short_as_the_current_ones(
        #[case] ours: &str,
        #[case] theirs: &str,
        #[case] value: &str,
        #[case] too_long: bool,
    ) {
        let value = if value.starts_with('[') { value.to_owned() } else { format!("\"{value}\"") };
        let current = frame(&format!("id: int, v: {ours}"), &[r#"{"id":1}"#]);
        let incoming = frame(&format!("id: int, v: {theirs}"), &[&format!(r#"{{"id":1,"v":{value}}}"#)]);
        let merged = merge_and_retain_last(current.clone(), incoming, &Merge::on(&["id"])).unwrap();
        if too_long {
            let error = failure(merged).await;
            assert!(error.starts_with("a text is longer than declared (column: v"), "{error}");
            assert!(error.contains("(3)"), "{error}");
        } else {
            assert!(show(merged).await.contains(value.trim_matches('"')));
        }
        // Values of the table are not checked again.
        let plan = merge_and_retain_last(current.clone(), current, &Merge::on(&["id"])).unwrap();
        assert!(!plan.logical_plan().display_indent().to_string().contains("coerce"));
    }

    #[tokio::test]
    async fn an_incoming_column_must_fit_the_current_one() {
        let merge = Merge::on(&["id"]);
        let merged = merge_and_retain_last(frame("id: tinyint", &[]), frame("id: int", &[r#"{"id":128}"#]), &merge);
        assert_eq!(
            failure(merged.unwrap()).await,
            "a value does not fit the declared type without loss (column: id, value: 128, type: int, declared: tinyint)"
        );
        let df = |s: &str| frame(&format!("id: int, s: {s}"), &[]);
        let error = merge_and_retain_last(df("struct<a:int>"), df("struct<a:int,b:int>"), &merge).unwrap_err();
        assert_eq!(error.to_string(), "a field is not declared and would be lost (column: s.b)");
        let merge = merge.order_by("s");
        let error = merge_and_retain_last(df("struct<a:int>"), df("struct<a:int>"), &merge).unwrap_err();
        assert_eq!(
            error.to_string(),
            "values of this type have no order (column: s, type: struct<a:int>, side: current)"
        );
    }

    /// More rows than memory: the sort spills, and the result is the same.
    #[tokio::test]
    async fn what_does_not_fit_into_memory_is_spilled() {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_batch_size(512)
            .with_sort_spill_reservation_bytes(256 << 10)
            .with_sort_in_place_threshold_bytes(64 << 10);
        let env = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(2 << 20))).build_arc().unwrap();
        let session = SessionContext::new_with_config_rt(config, env);
        let text = "x".repeat(200);
        let rows: Vec<String> =
            (0..20_000).map(|i| format!(r#"{{"id":{},"v":"{text}","at":{i}}}"#, i % 7_000)).collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let current = session.read_batches(rows.chunks(1000).map(|rows| batch(COLUMNS, rows))).unwrap();
        let merged = merge_and_retain_last(current, frame_in(&session, COLUMNS, &[]), &by_id()).unwrap();
        let plan = merged.create_physical_plan().await.unwrap();
        let batches = physical_plan::collect(Arc::clone(&plan), session.task_ctx()).await.unwrap();
        assert_eq!(batches.iter().map(|b| b.num_rows()).sum::<usize>(), 7_000);
        let last = session.read_batches(batches).unwrap().filter(named("at").lt(lit(13_000))).unwrap();
        assert_eq!(last.count().await.unwrap(), 0);
        assert!(spills(&plan) > 0, "the test gives the sort too much memory");
    }

    /// The same with values that are left out, and with parts that are split again.
    #[tokio::test]
    async fn what_is_spilled_knows_what_it_left_out() {
        let rows: Vec<String> = (0..30_000)
            .map(|at| {
                let known = if at % 7 == 0 { r#","known":{"note":null}"# } else { "" };
                format!(r#"{{"id":{},"note":"{at:0>99}","at":{at},"gone":{}{known}}}"#, at * 31 % 9_000, at % 11 == 0)
            })
            .collect();
        let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
        let columns = "id: int, note: string, at: int, gone: boolean, known: struct<note:int>";
        let mut results = Vec::new();
        for memory in [400 << 10, 4 << 20, 1 << 30] {
            let config = SessionConfig::new().with_target_partitions(2).with_batch_size(256);
            let pool = Arc::new(FairSpillPool::new(memory));
            let env = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
            let session = SessionContext::new_with_config_rt(config, env);
            let frame = |rows: &[&str]| session.read_batches(rows.chunks(500).map(|r| batch(columns, r))).unwrap();
            let merge = by_id().known_since("known");
            let merged = merge_and_retain_last(frame(&rows[..15_000]), frame(&rows[15_000..]), &merge).unwrap();
            let plan = merged.create_physical_plan().await.unwrap();
            let batches = physical_plan::collect(Arc::clone(&plan), session.task_ctx()).await.unwrap();
            let shown = show(SessionContext::new().read_batches(batches).unwrap()).await;
            results.push((spills(&plan) > 0, shown));
        }
        assert_eq!(results.iter().map(|(spilled, _)| *spilled).collect::<Vec<_>>(), [true, true, false]);
        assert!(results[2].1.lines().count() > 9_000);
        assert!(results[0].1 == results[2].1 && results[1].1 == results[2].1);
    }

    fn spills(plan: &Arc<dyn ExecutionPlan>) -> usize {
        let own = plan.metrics().and_then(|m| m.spill_count()).unwrap_or(0);
        own + plan.children().into_iter().map(spills).sum::<usize>()
    }

    type Row = (Option<u8>, Option<u8>, u8, Option<bool>);
    type Values = Vec<(u8, bool)>;

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let row = (prop::option::of(0u8..3), prop::option::of(0u8..3), 0u8..3, prop::option::of(any::<bool>()));
        prop::collection::vec(row, 0..12)
    }

    fn table(session: &SessionContext, rows: &[Row]) -> DataFrame {
        let show = |value: Option<String>| value.unwrap_or_else(|| "null".to_owned());
        let json = |(id, at, v, gone): &Row| {
            let (id, at, gone) = (id.map(|n| n.to_string()), at.map(|n| n.to_string()), gone.map(|g| g.to_string()));
            format!(r#"{{"id":{},"at":{},"v":"{v}","gone":{}}}"#, show(id), show(at), show(gone))
        };
        let json: Vec<String> = rows.iter().map(json).collect();
        frame_in(session, COLUMNS, &json.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The documented behaviour without DataFusion: per key, the winning order value and all rows that may win.
    fn expected(current: &[Row], incoming: &[Row]) -> BTreeMap<Option<u8>, (Option<u8>, Values)> {
        let sided = current.iter().map(|r| (0, r)).chain(incoming.iter().map(|r| (1, r)));
        let mut best: BTreeMap<Option<u8>, (Option<u8>, u8, Values)> = BTreeMap::new();
        for (side, (id, at, v, gone)) in sided {
            let value = (*v, gone.unwrap_or(false));
            let entry = best.entry(*id).or_insert_with(|| (*at, side, Vec::new()));
            match (*at, side).cmp(&(entry.0, entry.1)) {
                Ordering::Less => {}
                Ordering::Equal => entry.2.push(value),
                Ordering::Greater => *entry = (*at, side, vec![value]),
            }
        }
        best.into_iter().map(|(id, (at, _, values))| (id, (at, values))).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_right_row_wins(current in rows(), incoming in rows()) {
            run(async {
                let session = session(2);
                let (ours, theirs) = (table(&session, &current), table(&session, &incoming));
                let shown = show(merge_and_retain_last(ours, theirs, &by_id()).unwrap()).await;
                let expected = expected(&current, &incoming);
                prop_assert_eq!(shown.lines().count() - 1, expected.len());
                for line in shown.lines().skip(1) {
                    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                    let (at, values) = &expected[&cells[0].parse().ok()];
                    prop_assert_eq!(cells[2].parse().ok(), *at);
                    prop_assert!(values.contains(&(cells[1].parse().unwrap(), cells[3].parse().unwrap())), "{}", line);
                }
                Ok(())
            })?;
        }

        #[test]
        fn order_and_partitions_do_not_matter(
            (current, shuffled) in rows().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
            (incoming, reordered) in rows().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
            partitions in 1usize..5,
        ) {
            run(async {
                let merge = async |current: &[Row], incoming: &[Row], partitions: usize| {
                    let session = session(partitions);
                    // Rows arrive in several batches and partitions.
                    let parts = current.chunks(2).map(|rows| table(&session, rows));
                    let current = parts.reduce(|a, b| a.union(b).unwrap()).unwrap_or_else(|| table(&session, &[]));
                    show(merge_and_retain_last(current, table(&session, incoming), &by_id()).unwrap()).await
                };
                prop_assert_eq!(merge(&current, &incoming, 1).await, merge(&shuffled, &reordered, partitions).await);
                Ok(())
            })?;
        }

        #[test]
        fn merging_again_changes_nothing(current in rows(), incoming in rows()) {
            run(async {
                let session = session(2);
                let incoming = table(&session, &incoming);
                let once = merge_and_retain_last(table(&session, &current), incoming.clone(), &by_id()).unwrap();
                let twice = merge_and_retain_last(once.clone(), incoming, &by_id()).unwrap();
                prop_assert_eq!(show(once).await, show(twice).await);
                Ok(())
            })?;
        }

        #[test]
        fn batches_may_be_merged_first(a in rows(), b in rows(), c in rows()) {
            run(async {
                let session = session(2);
                let merge = |a: DataFrame, b: DataFrame| merge_and_retain_last(a, b, &by_id()).unwrap();
                let (a, b, c) = (table(&session, &a), table(&session, &b), table(&session, &c));
                let left = merge(merge(a.clone(), b.clone()), c.clone());
                prop_assert_eq!(show(left).await, show(merge(a, merge(b, c))).await);
                Ok(())
            })?;
        }

        /// Values that versions leave out are those that a naive reader finds.
        #[test]
        fn what_is_left_out_is_found(
            versions in prop::collection::vec((0u8..3, 0u8..4, any::<bool>(), any::<bool>()), 1..24)
                .prop_map(|versions| versions.into_iter().enumerate().collect::<Vec<_>>()).prop_shuffle(),
            partitions in 1usize..4,
        ) {
            let versions: Vec<Version> = versions.iter().map(|(i, version)| Version::new(*i, *version)).collect();
            run(async {
                let session = session(partitions);
                let side = |incoming: bool| {
                    let rows: Vec<String> =
                        versions.iter().filter(|v| v.incoming == incoming).map(Version::json).collect();
                    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
                    session.read_batches(rows.chunks(2).map(|r| batch(Version::COLUMNS, r)).chain([batch(Version::COLUMNS, &[])])).unwrap()
                };
                let merge = Merge::on(&["id"]).order_by("at").delete_marker("gone").known_since("known");
                let shown = show(merge_and_retain_last(side(false), side(true), &merge).unwrap()).await;
                let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
                let found: Vec<Vec<String>> = shown.lines().skip(1).map(cells).collect();
                prop_assert_eq!(found, Version::expected(&versions));
                Ok(())
            })?;
        }
    }

    /// A version of a row whose column `v` may be left out.
    struct Version {
        id: u8,
        at: usize,
        /// Since when it knows the value; none if it was left out.
        since: Option<usize>,
        gone: bool,
        incoming: bool,
    }

    impl Version {
        const COLUMNS: &'static str = "id: int, v: string, at: int, gone: boolean, known: struct<v:int>";

        /// Versions are at even times. What they know since earlier is of an odd one.
        fn new(number: usize, (id, knows, gone, incoming): (u8, u8, bool, bool)) -> Self {
            let at = 2 * (number + 1);
            let since = match knows {
                _ if gone => Some(at),
                0 => None,
                1 => Some(at / 4 * 2 + 1).filter(|since| *since < at),
                _ => Some(at),
            };
            Self { id, at, since, gone, incoming }
        }

        fn value(&self) -> String {
            self.since.map_or("(left out)".to_owned(), |since| format!("{} since {since}", self.id))
        }

        fn json(&self) -> String {
            let known = match self.since {
                Some(since) if since == self.at => "null".to_owned(),
                since => format!(r#"{{"v":{}}}"#, since.map_or("null".to_owned(), |since| since.to_string())),
            };
            let (id, at, value, gone) = (self.id, self.at, self.value(), self.gone);
            format!(r#"{{"id":{id},"v":"{value}","at":{at},"gone":{gone},"known":{known}}}"#)
        }

        fn expected(versions: &[Self]) -> Vec<Vec<String>> {
            let mut ids: Vec<u8> = versions.iter().map(|version| version.id).collect();
            ids.sort_unstable();
            ids.dedup();
            let row = |id: u8| {
                let of_id = || versions.iter().filter(|version| version.id == id);
                let last = of_id().max_by_key(|version| version.at).unwrap();
                let knows = of_id().filter(|version| version.since.is_some()).max_by_key(|version| version.since);
                let knows = knows.filter(|version| !version.gone);
                let value = if last.gone { Some(last.value()) } else { knows.map(Self::value) };
                let since = knows.and_then(|version| version.since).map_or(String::new(), |since| since.to_string());
                let known = format!("{{v: {since}}}");
                let value = value.unwrap_or("null".to_owned());
                vec![id.to_string(), value, last.at.to_string(), last.gone.to_string(), known]
            };
            ids.into_iter().map(row).collect()
        }
    }
}
