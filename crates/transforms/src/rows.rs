//! Transforms that leave out rows and do not change columns.

use datafusion::common::Column;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{BinaryExpr, ExprFunctionExt, JoinType, Operator, SortExpr, lit};
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::columns::{Columns, Found, type_name};
use crate::encode;

const RANK: &str = "__hardtack_rank";

/// One row of every key; of every different row if `keys` is empty. Keys are [paths](crate); null is a value like any
/// other.
///
/// Which of several rows with one key stays depends on their values only, not on their order; it is not meant to be
/// foreseen. To keep the latest, use [`merge_and_retain_last`](crate::merge_and_retain_last) or a window in SQL.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::drop_duplicates;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let visits = dataframe!("user" => ["ann", "ann", "ann"], "page" => ["/", "/", "/buy"])?;
/// assert_eq!(drop_duplicates(visits.clone(), &[])?.count().await?, 2);
/// assert_eq!(drop_duplicates(visits, &["user"])?.count().await?, 1);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a key that is not there.
pub fn drop_duplicates(df: DataFrame, keys: &[&str]) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    let all: Vec<Found> = columns.iter().cloned().collect();
    if keys.is_empty() && !all.iter().any(|c| encode::contains_map(c.field.data_type())) {
        return Ok(df.distinct()?);
    }
    let keys = match keys {
        [] => all.iter().map(encode::key).collect::<Result<_>>()?,
        keys => keys.iter().map(|k| encode::key(&columns.path(k)?)).collect::<Result<_>>()?,
    };
    let order = vec![encode::hash(&all)?.sort(true, true)];
    let exprs: Vec<Expr> = all.iter().map(|c| c.expr.clone()).collect();
    first_of_each(df, keys, order, exprs)
}

/// Of the rows that agree in `keys`, the first by `order`, with the columns `output`. It sorts, and so spills what does
/// not fit into memory, however large a group is.
pub(crate) fn first_of_each(
    df: DataFrame,
    keys: Vec<Expr>,
    order: Vec<SortExpr>,
    output: Vec<Expr>,
) -> Result<DataFrame> {
    let rank = row_number().partition_by(keys).order_by(order).build()?.alias(RANK);
    let first = Expr::Column(Column::from_name(RANK)).eq(lit(1u64));
    Ok(df.window(vec![rank])?.filter(first)?.select(output)?)
}

/// The rows without a null in any of these columns; in any column at all if none is named.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::drop_nulls;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let books = dataframe!("title" => [Some("Emma"), None, Some("Ulysses")], "year" => [Some(1815), Some(1), None])?;
/// assert_eq!(drop_nulls(books.clone(), &["title"])?.count().await?, 2);
/// assert_eq!(drop_nulls(books, &[])?.count().await?, 1);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a column that is not there.
pub fn drop_nulls(df: DataFrame, columns: &[&str]) -> Result<DataFrame> {
    let all = Columns::of(df.schema())?;
    let present = all.all_or(columns)?.into_iter().map(|c| c.expr.clone().is_not_null()).reduce(Expr::and);
    match present {
        Some(present) => Ok(df.filter(present)?),
        None => Ok(df),
    }
}

/// The rows whose key `target` does not have: what is left to insert. Keys are [paths](crate) that both sides have; a null
/// key equals a null key.
///
/// The keys of the smaller side are held in memory.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::except_existing;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let authors = dataframe!("id" => [1, 2, 3], "name" => ["Austen", "Joyce", "Woolf"])?;
/// let known = dataframe!("id" => [2])?;
/// assert_eq!(except_existing(authors, known, &["id"])?.count().await?, 2);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a key that one side lacks, or whose types cannot be compared.
pub fn except_existing(df: DataFrame, target: DataFrame, keys: &[&str]) -> Result<DataFrame> {
    if keys.is_empty() {
        return Err(Error::usage("rows are compared by their key; name one column at least"));
    }
    let (ours, theirs) = (Columns::of(df.schema())?, Columns::of(target.schema())?);
    let (mut same, mut known) = (Vec::new(), Vec::new());
    for (i, key) in keys.iter().enumerate() {
        let our = ours.path(key)?;
        let their = theirs.path(key).map_err(|e| e.with("side", "target"))?;
        let (our_type, their_type) = (our.field.data_type(), their.field.data_type());
        if (our_type.is_nested() || their_type.is_nested()) && our_type != their_type {
            return Err(Error::usage("the two sides have this key in different types; coerce one of them first")
                .with("key", key)
                .with("type", type_name(our_type))
                .with("type in the target", type_name(their_type)));
        }
        let name = format!("__hardtack_key_{i}");
        known.push(encode::key(&their)?.alias(&name));
        same.push(Expr::BinaryExpr(BinaryExpr::new(
            Box::new(encode::key(&our)?),
            Operator::IsNotDistinctFrom,
            Box::new(Expr::Column(Column::from_name(name))),
        )));
    }
    Ok(df.join_on(target.select(known)?, JoinType::LeftAnti, same)?)
}
