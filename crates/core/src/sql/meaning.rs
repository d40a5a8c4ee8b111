//! Corrections of a statement's meaning, before DataFusion resolves types.

use std::fmt::Display;

use datafusion::arrow::datatypes::{DataType, Decimal128Type, TimeUnit};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result as DfResult, ScalarValue};
use datafusion::logical_expr::expr::{Between, Case, InList, InSubquery, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::Join;
use datafusion::logical_expr::planner::TypePlanner;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, lit};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::{DataType as SqlType, TimezoneInfo};

use super::equality::compares;
use super::{pattern, time};
use crate::{Error, text};

/// A `timestamp` without a precision counts microseconds, as it does in Hive, Spark and PostgreSQL and in the tables of a
/// catalog. DataFusion's counts nanoseconds, and has no 9999-12-31.
#[derive(Debug)]
pub(super) struct Types;

impl TypePlanner for Types {
    fn plan_type(&self, sql_type: &SqlType) -> DfResult<Option<DataType>> {
        Ok(match sql_type {
            SqlType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => {
                Some(DataType::Timestamp(TimeUnit::Microsecond, None))
            }
            _ => None,
        })
    }
}

/// Replaces DataFusion's functions by hardtack's, translates Java's date patterns, compares timestamps in a unit that
/// holds both sides, and numbers with numbers.
#[derive(Debug)]
pub(super) struct Meaning;

impl AnalyzerRule for Meaning {
    fn name(&self) -> &str {
        "hardtack_meaning"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> DfResult<LogicalPlan> {
        let system = is_of_system(&plan)?;
        Ok(plan.transform_up_with_subqueries(|plan| of_plan(plan, system))?.data)
    }
}

/// Whether the query is on PostgreSQL's own catalog. Clients compare its ids with names of tables (`classoid =
/// 'pg_class'::regclass`), which match none of them here.
fn is_of_system(plan: &LogicalPlan) -> DfResult<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|plan| {
        found = matches!(plan, LogicalPlan::TableScan(scan) if scan.table_name.schema() == Some("pg_catalog"));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    Ok(found)
}

fn of_plan(plan: LogicalPlan, system: bool) -> DfResult<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    let names = NamePreserver::new(&plan);
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| of_expr(expr, &schema, system))?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    plan.transform_data(|plan| match plan {
        LogicalPlan::Join(join) => join_keys(join, system),
        plan => Ok(Transformed::no(plan)),
    })
}

fn of_expr(expr: Expr, schema: &DFSchema, system: bool) -> DfResult<Transformed<Expr>> {
    match expr {
        Expr::ScalarFunction(function) => of_function(function, schema),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
            let (sides, changed) = alike(vec![*left, *right], schema, system)?;
            let [left, right] = <[Expr; 2]>::try_from(sides).map_err(|_| lost())?;
            Ok(yes_if(changed, Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))))
        }
        Expr::Between(Between { expr, negated, low, high }) => {
            let (sides, changed) = alike(vec![*expr, *low, *high], schema, system)?;
            let [expr, low, high] = <[Expr; 3]>::try_from(sides).map_err(|_| lost())?;
            let between = Between::new(Box::new(expr), negated, Box::new(low), Box::new(high));
            Ok(yes_if(changed, Expr::Between(between)))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let (mut sides, changed) = alike(std::iter::once(*expr).chain(list).collect(), schema, system)?;
            let expr = sides.remove(0);
            Ok(yes_if(changed, Expr::InList(InList::new(Box::new(expr), sides, negated))))
        }
        Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }) => {
            let (whens, thens): (Vec<_>, Vec<_>) = when_then_expr.into_iter().map(|(when, then)| (*when, then)).unzip();
            let (mut sides, changed) = alike(std::iter::once(*expr).chain(whens).collect(), schema, system)?;
            let expr = sides.remove(0);
            let when_then_expr = sides.into_iter().map(Box::new).zip(thens).collect();
            Ok(yes_if(changed, Expr::Case(Case { expr: Some(Box::new(expr)), when_then_expr, else_expr })))
        }
        Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
            let (name, found) = match subquery.subquery.schema().fields().first() {
                Some(field) => (field.name().clone(), field.data_type().clone()),
                None => return Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated }))),
            };
            match expr.get_type(schema) {
                Ok(given) if !system && given.is_numeric() && found.is_string() => {
                    Err(number_with_text(&expr.human_display(), &name))
                }
                Ok(given) if !system && given.is_string() && found.is_numeric() => {
                    Err(number_with_text(&name, &expr.human_display()))
                }
                _ => Ok(Transformed::no(Expr::InSubquery(InSubquery { expr, subquery, negated }))),
            }
        }
        other => Ok(Transformed::no(other)),
    }
}

/// Casts compared expressions to types with the correct comparison.
fn alike(sides: Vec<Expr>, schema: &DFSchema, system: bool) -> DfResult<(Vec<Expr>, bool)> {
    let types = sides.iter().map(|side| side.get_type(schema)).collect::<DfResult<Vec<_>>>();
    // Expressions without a type (a subquery's outer columns, a placeholder) are left to DataFusion, and so are their
    // errors.
    let Ok(types) = types else { return Ok((sides, false)) };
    if types.iter().any(DataType::is_numeric) && types.iter().any(DataType::is_string) {
        return match numbers_and_texts(&sides, &types) {
            Ok(compared) => Ok((compared, true)),
            Err(_) if system => Ok((sides, false)),
            Err(e) => Err(e),
        };
    }
    in_one_unit(sides, types)
}

fn yes_if(changed: bool, expr: Expr) -> Transformed<Expr> {
    if changed { Transformed::yes(expr) } else { Transformed::no(expr) }
}

fn lost() -> datafusion::error::DataFusionError {
    crate::Error::unexpected("a comparison has lost a side").into()
}

/// The keys of a join are pairs and not comparisons.
fn join_keys(join: Join, system: bool) -> DfResult<Transformed<LogicalPlan>> {
    let schema = merge_schema(&[&join.left, &join.right]);
    let mut changed = false;
    let on = join.on.into_iter().map(|(left, right)| {
        let (sides, cast) = alike(vec![left, right], &schema, system)?;
        changed |= cast;
        let [left, right] = <[Expr; 2]>::try_from(sides).map_err(|_| lost())?;
        Ok((left, right))
    });
    let on = on.collect::<DfResult<Vec<_>>>()?;
    let plan = LogicalPlan::Join(Join { on, ..join });
    Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
}

// --- numbers and texts ----------------------------------------------------------------------------------------------

/// DataFusion compares a number with a text as texts: `id > '9'` drops 10, `id = '01'` drops 1. A literal text becomes
/// the number that it represents, as in PostgreSQL; comparing a column of numbers with a column of texts is refused.
fn numbers_and_texts(sides: &[Expr], types: &[DataType]) -> DfResult<Vec<Expr>> {
    let first = |is: &dyn Fn(&Expr, &DataType) -> bool| sides.iter().zip(types).find(|(e, t)| is(e, t)).map(|(e, _)| e);
    let Some(number) = first(&|_, t| t.is_numeric()) else { return Ok(sides.to_vec()) };
    if let Some(text) = first(&|e, t| t.is_string() && !is_text(e) && !is_null(e)) {
        return Err(number_with_text(&number.human_display(), &text.human_display()));
    }
    let as_number = |(side, data_type): (&Expr, &DataType)| match literal_text(side) {
        Some(written) if data_type.is_string() => match read_as_number(written, types) {
            Some(value) => Ok(Expr::Literal(value, None)),
            None => {
                let shown = number.human_display();
                let name = if matches!(number, Expr::Column(_)) { shown.to_string() } else { "x".to_owned() };
                Err(Error::usage(format!("'{written}' cannot be compared with a number"))
                    .with("number", shown)
                    .hint(format!("compare with a number, or compare texts: `cast({name} as string)`"))
                    .into())
            }
        },
        _ => Ok(side.clone()),
    };
    sides.iter().zip(types).map(as_number).collect()
}

fn number_with_text(number: &dyn Display, text: &dyn Display) -> DataFusionError {
    Error::usage("a number is compared with a text")
        .with("number", number)
        .with("text", text)
        .hint(format!("cast one of them: `cast({text} as bigint)`, or `cast({number} as string)`"))
        .into()
}

/// The number that a text represents, in a lossless type, unless it is compared with floats.
fn read_as_number(text: &str, types: &[DataType]) -> Option<ScalarValue> {
    let text = text.trim();
    let mut numbers = types.iter().filter(|t| t.is_numeric());
    // Infinity has a name; a number that is merely too large is not infinite.
    let written = text::Number::read(text);
    if numbers.clone().all(|t| *t == DataType::Float32) {
        let value: f32 = text.parse().ok()?;
        return (written.is_none() || value.is_finite()).then_some(ScalarValue::Float32(Some(value)));
    }
    if numbers.any(DataType::is_floating) {
        let value: f64 = text.parse().ok()?;
        return (written.is_none() || value.is_finite()).then_some(ScalarValue::Float64(Some(value)));
    }
    if let Some(whole) = text::decimal::<Decimal128Type>(text, 38, 0) {
        return Some(match i64::try_from(whole) {
            Ok(whole) => ScalarValue::Int64(Some(whole)),
            Err(_) => ScalarValue::Decimal128(Some(whole), 38, 0),
        });
    }
    let number = written?;
    let digits = number.fraction.map_or(0, <[u8]>::len) as i64 - number.exponent.map_or(0, |e| e.value);
    let scale = i8::try_from(digits).ok().filter(|scale| (1..=38).contains(scale))?;
    let value = text::decimal::<Decimal128Type>(text, 38, scale)?;
    let precision = (value.unsigned_abs().checked_ilog10().unwrap_or(0) as u8 + 1).max(scale.unsigned_abs());
    Some(ScalarValue::Decimal128(Some(value), precision, scale))
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

// --- moments -------------------------------------------------------------------------------------------------------

/// Casts compared timestamps, dates and texts to the finest unit among them, at least to microseconds if there is a
/// date or a text. DataFusion takes the coarsest unit of timestamps, which makes 23:59:59.9 equal to 23:59:59, and
/// nanoseconds for dates and texts, which cannot represent 9999-12-31. Comparisons that are already in nanoseconds are
/// left to DataFusion.
fn in_one_unit(sides: Vec<Expr>, types: Vec<DataType>) -> DfResult<(Vec<Expr>, bool)> {
    let (mut unit, mut zone, mut mixed) = (None, None, false);
    for (side, data_type) in sides.iter().zip(&types) {
        match data_type {
            DataType::Timestamp(_, tz) if is_text_of_moment(side) => {
                unit = unit.max(Some(TimeUnit::Microsecond));
                zone = zone.or(tz.clone());
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => return Ok((sides, false)),
            DataType::Timestamp(this, tz) => {
                unit = unit.max(Some(*this));
                zone = zone.or(tz.clone());
            }
            DataType::Date32 | DataType::Date64 => mixed = true,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if is_coarse_text(side) => mixed = true,
            DataType::Null => {}
            _ => return Ok((sides, false)),
        }
    }
    let Some(mut unit) = unit else { return Ok((sides, false)) };
    if mixed {
        unit = unit.max(TimeUnit::Microsecond);
    }
    let common = DataType::Timestamp(unit, zone);
    if types.iter().all(|t| *t == common || t.is_null()) {
        return Ok((sides, false));
    }
    let cast = |(side, data_type): (Expr, DataType)| match side {
        side if data_type == common || data_type.is_null() => side,
        Expr::Cast(Cast { expr, .. }) if is_text(&expr) => Expr::Cast(Cast::new(expr, common.clone())),
        side => Expr::Cast(Cast::new(Box::new(side), common.clone())),
    };
    Ok((sides.into_iter().zip(types).map(cast).collect(), true))
}

fn is_text(expr: &Expr) -> bool {
    literal_text(expr).is_some()
}

fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

/// `timestamptz '...'`, which has nanoseconds in DataFusion.
fn is_text_of_moment(expr: &Expr) -> bool {
    match expr {
        Expr::Cast(Cast { expr, data_type: DataType::Timestamp(..) }) => is_coarse_text(expr),
        _ => false,
    }
}

/// A literal text with at most six digits after a point, so that microseconds lose nothing.
fn is_coarse_text(expr: &Expr) -> bool {
    let fine = |text: &str| {
        let digits = text.rsplit_once('.').map_or("", |(_, fraction)| fraction);
        digits.bytes().take_while(u8::is_ascii_digit).skip(6).any(|digit| digit != b'0')
    };
    literal_text(expr).is_some_and(|text| !fine(text))
}

// --- functions -----------------------------------------------------------------------------------------------------

/// Functions with patterns, and the number of arguments before the pattern.
const WITH_PATTERNS: [(&str, usize); 8] = [
    ("to_char", 1),
    ("to_date", 1),
    ("to_timestamp", 1),
    ("to_timestamp_seconds", 1),
    ("to_timestamp_millis", 1),
    ("to_timestamp_micros", 1),
    ("to_timestamp_nanos", 1),
    ("to_unixtime", 1),
];

fn of_function(mut function: ScalarFunction, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let mut changed = false;
    if let Some((_, first)) = WITH_PATTERNS.iter().find(|(name, _)| *name == function.name()) {
        for argument in function.args.iter_mut().skip(*first) {
            if let Some(text) = literal_text(argument)
                && pattern::is_java(text)
            {
                *argument = lit(pattern::from_java(text)?);
                changed = true;
            }
        }
    }
    let ours = time::functions().into_iter().find(|ours| ours.name() == function.name() && **ours != function.func);
    let Some(ours) = ours else {
        return Ok(yes_if(changed, Expr::ScalarFunction(function)));
    };
    // The type must stay that of DataFusion's function.
    let before = Expr::ScalarFunction(function.clone()).get_type(schema)?;
    let call = ours.call(function.args);
    let after = call.get_type(schema)?;
    Ok(Transformed::yes(if before == after { call } else { Expr::Cast(Cast::new(Box::new(call), before)) }))
}
