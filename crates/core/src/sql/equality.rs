//! One equality of floating-point numbers.
//!
//! DataFusion compares them as bits: `-0.0` is less than `0.0`, and the NaN of `0.0 / 0.0` (whose sign is set on x86)
//! is neither the NaN of `cast('NaN' as double)` nor greater than other numbers. SQL, and with it Spark, PostgreSQL and
//! DuckDB, has one zero and one NaN, which is greater than every number. So wherever values are compared (filters,
//! joins, groups, duplicates, windows, orders, `in`, `min` and `max`) they are normalised first.
//!
//! Filters that no NaN can pass stay as they are, so that files are still skipped by their statistics. A filter that a
//! NaN passes (`f > 1`) must not skip files, because Parquet's statistics do not include NaN.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{ArrayRef, AsArray, PrimitiveArray, make_array};
use datafusion::arrow::datatypes::{ArrowPrimitiveType, DataType, FieldRef, Float16Type, Float32Type, Float64Type};
use datafusion::arrow::error::ArrowError;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{
    AggregateFunction, Between, InList, InSubquery, ScalarFunction, SetComparison, Sort, WindowFunction,
};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::Sort as SortPlan;
use datafusion::logical_expr::logical_plan::{Aggregate, Distinct, DistinctOn, Filter, Join, Projection};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Case, Cast, ColumnarValue, Expr, ExprSchemable, GroupingSet, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Subquery, Volatility, lit,
};
use datafusion::optimizer::AnalyzerRule;

// --- the one form --------------------------------------------------------------------------------------------------

/// Whether values of this type are or contain floating-point numbers.
pub fn holds_floats(data_type: &DataType) -> bool {
    match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => true,
        DataType::Dictionary(_, value) => holds_floats(value),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::ListView(field)
        | DataType::LargeListView(field)
        | DataType::Map(field, _)
        | DataType::RunEndEncoded(_, field) => holds_floats(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| holds_floats(field.data_type())),
        DataType::Union(fields, _) => fields.iter().any(|(_, field)| holds_floats(field.data_type())),
        _ => false,
    }
}

/// Normalises floating-point numbers so that they can be compared as bits: one zero, one NaN, in nested values as well.
/// Everything else stays unchanged.
///
/// # Errors
/// If the array contradicts its type.
pub fn canonical_array(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(match array.data_type() {
        data_type if !holds_floats(data_type) => Arc::clone(array),
        DataType::Float64 => floats::<Float64Type>(array, f64::NAN, |x| x.is_nan(), |x| x + 0.0),
        DataType::Float32 => floats::<Float32Type>(array, f32::NAN, |x| x.is_nan(), |x| x + 0.0),
        DataType::Float16 => {
            let (nan, zero) = (half(f32::NAN), half(0.0));
            floats::<Float16Type>(array, nan, |x| x.is_nan(), |x| if x == zero { zero } else { x })
        }
        _ => {
            let data = array.to_data();
            let children =
                data.child_data().iter().map(|child| Ok(canonical_array(&make_array(child.clone()))?.to_data()));
            let children = children.collect::<Result<Vec<_>, ArrowError>>()?;
            make_array(data.into_builder().child_data(children).build()?)
        }
    })
}

type Half = <Float16Type as ArrowPrimitiveType>::Native;

fn half(value: f32) -> Half {
    Half::from_f32(value)
}

fn floats<T: ArrowPrimitiveType>(
    array: &ArrayRef,
    nan: T::Native,
    is_nan: impl Fn(T::Native) -> bool,
    one_zero: impl Fn(T::Native) -> T::Native,
) -> ArrayRef {
    let values: PrimitiveArray<T> = array.as_primitive::<T>().unary(|x| if is_nan(x) { nan } else { one_zero(x) });
    Arc::new(values)
}

static CANONICAL: LazyLock<Arc<ScalarUDF>> =
    LazyLock::new(|| Arc::new(Canonical { signature: Signature::any(1, Volatility::Immutable) }.into()));

/// [`canonical_array`] as an expression, for keys of any type: values without floating-point numbers pass through.
pub fn canonical(expr: Expr) -> Expr {
    if is_canonical(&expr) { expr } else { CANONICAL.call(vec![expr]) }
}

fn is_canonical(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(function) if function.func == *CANONICAL)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Canonical {
    signature: Signature,
}

impl ScalarUDFImpl for Canonical {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        "canonical"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DfResult<DataType> {
        Ok(types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DfResult<FieldRef> {
        Ok(Arc::new(args.arg_fields[0].as_ref().clone().with_name(self.name())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        Ok(match &args.args[0] {
            ColumnarValue::Array(array) => ColumnarValue::Array(canonical_array(array)?),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&canonical_array(&value.to_array()?)?, 0)?)
            }
        })
    }
}

// --- plans ---------------------------------------------------------------------------------------------------------

/// Normalises compared values. It runs after the types are resolved, so that both sides have the same type.
#[derive(Debug)]
pub(super) struct Equality;

impl AnalyzerRule for Equality {
    fn name(&self) -> &str {
        "hardtack_equality"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(of_plan)?.data)
    }
}

fn of_plan(plan: LogicalPlan) -> DfResult<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    let plan = match plan {
        LogicalPlan::Filter(Filter { predicate, input, .. }) => {
            let predicate = of_predicate(predicate, &schema)?;
            return predicate.map_data(|predicate| Ok(LogicalPlan::Filter(Filter::try_new(predicate, input)?)));
        }
        plan => plan,
    };
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| of_expr(expr, &schema))?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    plan.transform_data(|plan| match plan {
        LogicalPlan::Aggregate(aggregate) => groups(aggregate),
        LogicalPlan::Distinct(Distinct::All(input)) => match canonical_columns(&input)? {
            Some(input) => Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::All(Arc::new(input))))),
            None => Ok(Transformed::no(LogicalPlan::Distinct(Distinct::All(input)))),
        },
        LogicalPlan::Distinct(Distinct::On(on)) => distinct_on(on),
        LogicalPlan::Join(join) => join_keys(join),
        LogicalPlan::Sort(SortPlan { expr, input, fetch }) => {
            let mut changed = false;
            let expr = sorts(expr, input.schema(), &mut changed)?;
            let plan = LogicalPlan::Sort(SortPlan { expr, input, fetch });
            Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
        }
        plan => Ok(Transformed::no(plan)),
    })
}

/// The rows of a plan with normalised columns, under their own names, for comparing whole rows. None if there is
/// nothing to do.
///
/// # Errors
/// Errors of DataFusion's plans; none are known.
pub fn canonical_columns(input: &Arc<LogicalPlan>) -> DfResult<Option<LogicalPlan>> {
    let schema = input.schema();
    if !schema.fields().iter().any(|field| holds_floats(field.data_type())) {
        return Ok(None);
    }
    let columns = schema.iter().map(|(qualifier, field)| {
        let column = Expr::Column(Column::from((qualifier, field)));
        match holds_floats(field.data_type()) {
            true => canonical(column).alias_qualified(qualifier.cloned(), field.name()),
            false => column,
        }
    });
    let columns = columns.collect();
    Ok(Some(LogicalPlan::Projection(Projection::try_new_with_schema(columns, Arc::clone(input), Arc::clone(schema))?)))
}

/// Groups by normalised values, which are computed below: expressions in grouping sets cannot have names.
fn groups(aggregate: Aggregate) -> DfResult<Transformed<LogicalPlan>> {
    let Aggregate { input, group_expr, aggr_expr, schema, .. } = aggregate;
    let mut computed: BTreeMap<Column, Expr> = BTreeMap::new();
    let group_expr: Vec<Expr> =
        group_expr.into_iter().map(|expr| of_group(expr, input.schema(), &mut computed)).collect::<DfResult<_>>()?;
    if computed.is_empty() {
        let aggregate = Aggregate::try_new_with_schema(input, group_expr, aggr_expr, schema)?;
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let mut columns: Vec<Expr> = input
        .schema()
        .columns()
        .into_iter()
        .map(|column| computed.remove(&column).unwrap_or(Expr::Column(column)))
        .collect();
    columns.extend(computed.into_values());
    let input = LogicalPlan::Projection(Projection::try_new(columns, input)?);
    let aggregate = Aggregate::try_new_with_schema(Arc::new(input), group_expr, aggr_expr, schema)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(aggregate)))
}

fn of_group(expr: Expr, schema: &DFSchemaRef, computed: &mut BTreeMap<Column, Expr>) -> DfResult<Expr> {
    let all = |exprs: Vec<Expr>, computed: &mut _| -> DfResult<Vec<Expr>> {
        exprs.into_iter().map(|e| of_group(e, schema, computed)).collect()
    };
    Ok(match expr {
        Expr::GroupingSet(GroupingSet::Rollup(exprs)) => Expr::GroupingSet(GroupingSet::Rollup(all(exprs, computed)?)),
        Expr::GroupingSet(GroupingSet::Cube(exprs)) => Expr::GroupingSet(GroupingSet::Cube(all(exprs, computed)?)),
        Expr::GroupingSet(GroupingSet::GroupingSets(sets)) => {
            let sets = sets.into_iter().map(|set| all(set, computed)).collect::<DfResult<_>>()?;
            Expr::GroupingSet(GroupingSet::GroupingSets(sets))
        }
        expr if !varies(&expr, schema)? => expr,
        expr => {
            let (qualifier, name) = expr.qualified_name();
            let column = Column::new(qualifier.clone(), name.clone());
            computed.insert(column.clone(), canonical(expr.unalias()).alias_qualified(qualifier, name));
            Expr::Column(column)
        }
    })
}

fn distinct_on(on: DistinctOn) -> DfResult<Transformed<LogicalPlan>> {
    let DistinctOn { on_expr, select_expr, sort_expr, input, schema } = on;
    let mut changed = false;
    let on_expr = on_expr.into_iter().map(|e| one_form(e, input.schema(), &mut changed)).collect::<DfResult<_>>()?;
    let sort_expr = sort_expr.map(|sort| sorts(sort, input.schema(), &mut changed)).transpose()?;
    let plan = LogicalPlan::Distinct(Distinct::On(DistinctOn { on_expr, select_expr, sort_expr, input, schema }));
    Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
}

fn join_keys(join: Join) -> DfResult<Transformed<LogicalPlan>> {
    let Join { left, right, on, filter, .. } = join;
    let mut changed = false;
    let on = on
        .into_iter()
        .map(|(l, r)| Ok((one_form(l, left.schema(), &mut changed)?, one_form(r, right.schema(), &mut changed)?)))
        .collect::<DfResult<_>>()?;
    let plan = LogicalPlan::Join(Join { left, right, on, filter, ..join });
    Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
}

fn sorts(exprs: Vec<Sort>, schema: &DFSchema, changed: &mut bool) -> DfResult<Vec<Sort>> {
    let sort = |s: Sort| Ok(Sort::new(one_form(s.expr, schema, changed)?, s.asc, s.nulls_first));
    exprs.into_iter().map(sort).collect()
}

/// Whether an operator compares values.
pub(super) fn compares(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

// --- expressions ---------------------------------------------------------------------------------------------------

/// Whether two values of this expression may be equal but differ in their bits.
fn varies(expr: &Expr, schema: &DFSchema) -> DfResult<bool> {
    // An expression without a type (a placeholder) is refused elsewhere, or gets the type of the other side.
    let Ok(data_type) = expr.get_type(schema) else { return Ok(false) };
    if is_canonical(expr) || !holds_floats(&data_type) {
        return Ok(false);
    }
    Ok(match expr {
        Expr::Cast(Cast { expr, .. }) => {
            let from = expr.get_type(schema)?;
            !(from.is_integer() || from.is_decimal() || from == DataType::Boolean)
        }
        Expr::Literal(value, _) => match number(value) {
            Some(number) => number == 0.0 || number.is_nan(),
            None => !value.is_null(),
        },
        Expr::Alias(alias) => varies(&alias.expr, schema)?,
        _ => true,
    })
}

fn number(value: &ScalarValue) -> Option<f64> {
    match value {
        ScalarValue::Float64(number) => *number,
        ScalarValue::Float32(number) => number.map(f64::from),
        ScalarValue::Float16(number) => number.map(|n| n.to_f32().into()),
        _ => None,
    }
}

fn one_form(expr: Expr, schema: &DFSchema, changed: &mut bool) -> DfResult<Expr> {
    if !varies(&expr, schema)? {
        return Ok(expr);
    }
    *changed = true;
    Ok(match expr {
        Expr::Literal(value, metadata) => {
            let array = canonical_array(&value.to_array()?)?;
            Expr::Literal(ScalarValue::try_from_array(&array, 0)?, metadata)
        }
        expr => canonical(expr),
    })
}

/// Rewrites a predicate on rows: a conjunction, each part of which may skip files.
fn of_predicate(predicate: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    match predicate {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let (left, right) = (of_predicate(*left, schema)?, of_predicate(*right, schema)?);
            let changed = left.transformed || right.transformed;
            let both = Expr::BinaryExpr(BinaryExpr::new(Box::new(left.data), op, Box::new(right.data)));
            Ok(if changed { Transformed::yes(both) } else { Transformed::no(both) })
        }
        other => match that_no_nan_passes(&other, schema)? {
            Some(same) if same == other => Ok(Transformed::no(other)),
            Some(better) => Ok(Transformed::yes(better)),
            None => other.transform_up(|expr| of_expr(expr, schema)),
        },
    }
}

/// A comparison of a column with a number, as a comparison of bits. None if it is something else, or a NaN passes it.
fn that_no_nan_passes(predicate: &Expr, schema: &DFSchema) -> DfResult<Option<Expr>> {
    let found = match predicate {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
            (column, Expr::Literal(value, _)) if is_column(column) => Some((column, *op, value)),
            (Expr::Literal(value, _), column) if is_column(column) => op.swap().map(|op| (column, op, value)),
            _ => None,
        },
        Expr::Between(Between { expr, negated: false, low, high }) if is_column(expr) => {
            let (Expr::Literal(low, _), Expr::Literal(high, _)) = (low.as_ref(), high.as_ref()) else {
                return Ok(None);
            };
            let (Some(low), Some(high)) = (zero(low, -0.0), zero(high, 0.0)) else { return Ok(None) };
            return Ok(Some(expr.as_ref().clone().between(lit(low), lit(high))));
        }
        Expr::InList(InList { expr, list, negated: false }) if is_column(expr) => {
            let mut values = Vec::new();
            for item in list {
                let Expr::Literal(value, _) = item else { return Ok(None) };
                let (Some(least), Some(greatest)) = (zero(value, -0.0), zero(value, 0.0)) else { return Ok(None) };
                if least != greatest {
                    values.push(lit(least));
                }
                values.push(lit(greatest));
            }
            return Ok(Some(expr.as_ref().clone().in_list(values, false)));
        }
        _ => None,
    };
    let Some((column, op, value)) = found else { return Ok(None) };
    if !varies(column, schema)? {
        return Ok(None);
    }
    let (Some(least), Some(greatest)) = (zero(value, -0.0), zero(value, 0.0)) else { return Ok(None) };
    let column = || column.clone();
    // Every NaN is below or above all numbers, so a predicate with two ends keeps both kinds out.
    let number = |value: Expr| Ok::<_, datafusion::error::DataFusionError>(column().gt_eq(lowest(&least)?).and(value));
    Ok(match op {
        Operator::Eq if least == greatest => Some(column().eq(lit(least))),
        Operator::Eq => Some(column().gt_eq(lit(least)).and(column().lt_eq(lit(greatest)))),
        Operator::Lt => Some(number(column().lt(lit(least.clone())))?),
        Operator::LtEq => Some(number(column().lt_eq(lit(greatest)))?),
        _ => None,
    })
}

fn is_column(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) => true,
        Expr::Cast(cast) => is_column(&cast.expr),
        _ => false,
    }
}

/// A literal number, with this sign if it is zero. None for NaN and anything that is not a number.
fn zero(value: &ScalarValue, zero: f32) -> Option<ScalarValue> {
    let number = number(value)?;
    Some(match value {
        _ if number.is_nan() => return None,
        _ if number != 0.0 => value.clone(),
        ScalarValue::Float64(_) => ScalarValue::Float64(Some(zero.into())),
        ScalarValue::Float32(_) => ScalarValue::Float32(Some(zero)),
        _ => ScalarValue::Float16(Some(half(zero))),
    })
}

fn lowest(like: &ScalarValue) -> DfResult<Expr> {
    Ok(lit(ScalarValue::Float64(Some(f64::NEG_INFINITY)).cast_to(&like.data_type())?))
}

/// Functions that compare their arguments, or elements of them.
const COMPARING: [&str; 14] = [
    "greatest",
    "least",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_position",
    "array_positions",
    "array_remove",
    "array_remove_n",
    "array_remove_all",
    "array_distinct",
    "array_union",
    "array_intersect",
    "array_except",
];

/// Aggregates that compare their arguments even without `distinct`.
const COMPARING_AGGREGATES: [&str; 5] = ["min", "max", "median", "approx_distinct", "mode"];

fn of_expr(expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let mut changed = false;
    let all = |exprs: Vec<Expr>, changed: &mut bool| -> DfResult<Vec<Expr>> {
        exprs.into_iter().map(|e| one_form(e, schema, changed)).collect()
    };
    let expr = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            let left = Box::new(one_form(*left, schema, &mut changed)?);
            let right = Box::new(one_form(*right, schema, &mut changed)?);
            Expr::BinaryExpr(BinaryExpr::new(left, op, right))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let expr = Box::new(one_form(*expr, schema, &mut changed)?);
            let low = Box::new(one_form(*low, schema, &mut changed)?);
            let high = Box::new(one_form(*high, schema, &mut changed)?);
            Expr::Between(Between::new(expr, negated, low, high))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let expr = Box::new(one_form(*expr, schema, &mut changed)?);
            Expr::InList(InList::new(expr, all(list, &mut changed)?, negated))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let expr = Box::new(one_form(*expr, schema, &mut changed)?);
            Expr::InSubquery(InSubquery::new(expr, of_subquery(subquery, &mut changed)?, negated))
        }
        Expr::SetComparison(SetComparison { expr, subquery, op, quantifier }) => {
            let expr = Box::new(one_form(*expr, schema, &mut changed)?);
            let subquery = of_subquery(subquery, &mut changed)?;
            Expr::SetComparison(SetComparison::new(expr, subquery, op, quantifier))
        }
        Expr::Case(Case { expr: Some(base), when_then_expr, else_expr }) => {
            let base = Some(Box::new(one_form(*base, schema, &mut changed)?));
            let when_then_expr = when_then_expr
                .into_iter()
                .map(|(when, then)| Ok((Box::new(one_form(*when, schema, &mut changed)?), then)))
                .collect::<DfResult<_>>()?;
            Expr::Case(Case::new(base, when_then_expr, else_expr))
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == "nullif" && args.len() == 2 => {
            let (value, other) =
                (one_form(args[0].clone(), schema, &mut changed)?, one_form(args[1].clone(), schema, &mut changed)?);
            if changed {
                // Returns the original value, not the normalised one.
                let [kept, _] =
                    <[Expr; 2]>::try_from(args).map_err(|_| crate::Error::unexpected("`nullif` has two arguments"))?;
                let null = lit(ScalarValue::try_new_null(&kept.get_type(schema)?)?);
                let when_then = vec![(Box::new(value.eq(other)), Box::new(null))];
                Expr::Case(Case::new(None, when_then, Some(Box::new(kept))))
            } else {
                Expr::ScalarFunction(ScalarFunction { func, args })
            }
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) if COMPARING.contains(&func.name()) => {
            Expr::ScalarFunction(ScalarFunction { func, args: all(args, &mut changed)? })
        }
        Expr::AggregateFunction(AggregateFunction { func, mut params }) => {
            if params.distinct || COMPARING_AGGREGATES.contains(&func.name()) {
                params.args = all(params.args, &mut changed)?;
            }
            params.order_by = sorts(params.order_by, schema, &mut changed)?;
            Expr::AggregateFunction(AggregateFunction { func, params })
        }
        Expr::WindowFunction(mut window) => {
            let WindowFunction { fun, params } = window.as_mut();
            let args = std::mem::take(&mut params.args);
            let compares = params.distinct || COMPARING_AGGREGATES.contains(&fun.name());
            params.args = if compares { all(args, &mut changed)? } else { args };
            params.partition_by = all(std::mem::take(&mut params.partition_by), &mut changed)?;
            params.order_by = sorts(std::mem::take(&mut params.order_by), schema, &mut changed)?;
            Expr::WindowFunction(window)
        }
        other => other,
    };
    Ok(if changed { Transformed::yes(expr) } else { Transformed::no(expr) })
}

fn of_subquery(subquery: Subquery, changed: &mut bool) -> DfResult<Subquery> {
    let Some(plan) = canonical_columns(&subquery.subquery)? else { return Ok(subquery) };
    *changed = true;
    Ok(subquery.with_plan(Arc::new(plan)))
}
