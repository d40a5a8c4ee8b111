//! Fields of structs that came out of a list.
//!
//! `DataFrame::unnest_columns` gives the elements of a list the list's name. DataFusion's optimiser pushes a field
//! access (`items['sku']`) down below the `Unnest`, finds a column of that name, and takes it for the same one. (SQL's
//! `unnest` uses another name.) So lists and elements get distinct names, and the original name is restored above.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, RecursionUnnestOption, Result as DfResult};
use datafusion::logical_expr::logical_plan::{Projection, Unnest};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::AnalyzerRule;

/// Gives elements and their lists distinct names.
#[derive(Debug)]
pub(super) struct Unnested;

const PLACE: &str = "__hardtack_unnested";

impl AnalyzerRule for Unnested {
    fn name(&self) -> &str {
        "hardtack_unnested"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        Ok(plan
            .transform_up_with_subqueries(|plan| match plan {
                LogicalPlan::Unnest(unnest) if keeps_a_name(&unnest) => Ok(Transformed::yes(renamed(unnest)?)),
                plan => Ok(Transformed::no(plan)),
            })?
            .data)
    }
}

/// A caller that specifies the depth (as SQL does) names the output.
fn keeps_a_name(unnest: &Unnest) -> bool {
    if !unnest.options.recursions.is_empty() {
        return false;
    }
    let input = unnest.input.schema();
    unnest.list_type_columns.iter().any(|(i, list)| list.output_column.name() == input.field(*i).name())
}

fn renamed(unnest: Unnest) -> DfResult<LogicalPlan> {
    let input = unnest.input.schema();
    let lists: Vec<usize> = unnest.list_type_columns.iter().map(|(i, _)| *i).collect();
    let below = |i: usize| format!("{PLACE}_{i}");
    let columns = input.columns();
    let inner = columns.iter().enumerate().map(|(i, column)| match lists.contains(&i) {
        true => Expr::Column(column.clone()).alias(below(i)),
        false => Expr::Column(column.clone()),
    });
    let inner = LogicalPlan::Projection(Projection::try_new(inner.collect(), Arc::clone(&unnest.input))?);

    let mut options = unnest.options.clone();
    options.recursions.extend(lists.iter().map(|i| RecursionUnnestOption {
        input_column: Column::from_name(below(*i)),
        output_column: Column::from_name(format!("{}_element", below(*i))),
        depth: 1,
    }));
    // These lack the qualifier that they have in the input.
    let exec = unnest.exec_columns.iter().map(|column| match input.index_of_column(column) {
        Ok(i) if lists.contains(&i) => Column::from_name(below(i)),
        _ => column.clone(),
    });
    let outer = LogicalPlanBuilder::from(inner).unnest_columns_with_options(exec.collect(), options)?.build()?;

    // Column by column, in the common order. A column that already has its name must not be aliased again: the
    // optimiser would take it for another column.
    let named = outer.schema().columns().into_iter().zip(unnest.schema.iter()).map(|(column, (qualifier, field))| {
        match column.relation.as_ref() == qualifier && column.name == *field.name() {
            true => Expr::Column(column),
            false => Expr::Column(column).alias_qualified(qualifier.cloned(), field.name()),
        }
    });
    let named = named.collect();
    Ok(LogicalPlan::Projection(Projection::try_new_with_schema(named, Arc::new(outer), unnest.schema)?))
}
