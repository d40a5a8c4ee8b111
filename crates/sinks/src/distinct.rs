//! Drops duplicates within partitions.
//!
//! Rows that are equal in all columns are also equal in every function of these columns. If the partition columns of a
//! write are functions of the rows that a `distinct` below produces, equal rows end up in the same partition anyway and
//! can be found there, among the few rows of one partition once these have been gathered for the write. This saves an
//! aggregation over all rows and all columns, which for wide rows costs more than everything else and holds one copy of
//! each distinct row in memory.
//!
//! The rule inspects the plan of the rows that are saved. Projections and filters are allowed between the write and the
//! `distinct`; jobs have nothing else there.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, Result};
use datafusion::logical_expr::logical_plan::{Distinct, Filter, Projection};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore, ident};
use hardtack_core::sql::canonical_columns;

use crate::gather::GatherExec;

/// Drops duplicate rows and gathers rows with equal keys.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DistinctInPartition {
    pub(crate) input: LogicalPlan,
    /// The number of leading columns by which rows are compared; the keys follow them.
    pub(crate) columns: usize,
}

impl PartialOrd for DistinctInPartition {
    fn partial_cmp(&self, _: &Self) -> Option<std::cmp::Ordering> {
        None
    }
}

impl UserDefinedLogicalNodeCore for DistinctInPartition {
    fn name(&self) -> &'static str {
        "DistinctInPartition"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// A filter treats equal rows alike, so it may be applied first.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.input.schema().fields()[self.columns..].iter().map(|k| k.name().as_str());
        write!(f, "DistinctInPartition: by=[{}]", keys.collect::<Vec<_>>().join(", "))
    }

    /// All columns are compared.
    fn necessary_children_exprs(&self, _: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![(0..self.input.schema().fields().len()).collect()])
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        Ok(Self { input: inputs.swap_remove(0), columns: self.columns })
    }
}

/// The plan with its `distinct` moved into the partitions, if it has one that can be moved.
pub(crate) fn distinct_in_partition(plan: &LogicalPlan, partition_by: &[String]) -> Result<Option<LogicalPlan>> {
    if partition_by.is_empty() {
        return Ok(None);
    }
    let keys = partition_by.iter().map(ident).collect();
    let Some(moved) = rewrite(plan, keys)? else { return Ok(None) };
    // The keys come from below: if they were computed again, the optimiser could not tell that they are the same.
    let columns = plan.schema().iter().map(|(qualifier, field)| {
        match partition_by.iter().position(|name| name == field.name()) {
            Some(i) => ident(key_name(i)).alias_qualified(qualifier.cloned(), field.name()),
            None => Expr::Column(Column::from((qualifier, field))),
        }
    });
    let columns = columns.collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(moved))?)))
}

fn key_name(i: usize) -> String {
    format!("__hardtack_partition_{i}")
}

/// The plan with the keys appended as columns.
fn rewrite(plan: &LogicalPlan, keys: Vec<Expr>) -> Result<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let below = keys.into_iter().map(|key| below(key, projection)).collect::<Result<Vec<_>>>()?;
            let count = below.len();
            let Some(input) = rewrite(&projection.input, below)? else { return Ok(None) };
            let columns = projection.expr.iter().cloned().chain((0..count).map(|i| ident(key_name(i)))).collect();
            Ok(Some(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(input))?)))
        }
        LogicalPlan::Filter(filter) if !filter.predicate.is_volatile() => {
            let Some(input) = rewrite(&filter.input, keys)? else { return Ok(None) };
            Ok(Some(LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?)))
        }
        LogicalPlan::Distinct(Distinct::All(input)) => {
            let schema = input.schema();
            let comparable = schema.fields().iter().all(|f| GatherExec::can_compare(f.data_type()));
            if !comparable || !keys.iter().all(is_function_of_the_row) {
                return Ok(None);
            }
            let columns = schema.fields().len();
            let all = schema.columns().into_iter().map(Expr::Column);
            let keys = keys.into_iter().enumerate().map(|(i, key)| key.alias(key_name(i)));
            // Keys are functions of the compared columns, so equal rows have equal keys.
            let compared = canonical_columns(input)?.map_or_else(|| Arc::clone(input), Arc::new);
            let input = Projection::try_new(all.chain(keys).collect(), compared)?;
            let node = DistinctInPartition { input: LogicalPlan::Projection(input), columns };
            Ok(Some(LogicalPlan::Extension(Extension { node: Arc::new(node) })))
        }
        _ => Ok(None),
    }
}

/// Rewrites an expression over the columns of a projection to one over the columns of its input.
fn below(expr: Expr, projection: &Projection) -> Result<Expr> {
    let expr = expr.transform(|e| match &e {
        Expr::Column(column) => {
            let at = projection.schema.index_of_column(column)?;
            Ok(Transformed::yes(projection.expr[at].clone().unalias()))
        }
        _ => Ok(Transformed::no(e)),
    })?;
    Ok(expr.data)
}

/// Whether the value depends on the row alone.
fn is_function_of_the_row(expr: &Expr) -> bool {
    let mut only_the_row = !expr.is_volatile();
    let walked = expr.apply(|e| {
        only_the_row &= !matches!(
            e,
            Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Unnest(_)
                | Expr::GroupingSet(_)
        );
        Ok(if only_the_row { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    only_the_row && walked.is_ok()
}
