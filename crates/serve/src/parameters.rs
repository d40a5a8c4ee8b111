//! The parameters of prepared statements: their types, in order, and their values.
//!
//! Corrects three faults of the libraries: they take `$10` for the second parameter (names are sorted as texts), drop
//! the decimals of a number, and lose the declared types of parameters.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, IntervalUnit, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion_postgres::Parser;
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::results::FieldInfo;
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::{ClientInfo, Type};
use datafusion_postgres::pgwire::error::PgWireResult;
use rust_decimal::Decimal;

use crate::failure::unplanned;

type Statement = <Parser as QueryParser>::Statement;

/// Parses statements and determines the types of their parameters.
pub(crate) struct OrderedParser(pub(crate) Arc<Parser>);

#[async_trait]
impl QueryParser for OrderedParser {
    type Statement = Statement;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Statement>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let parsed = self.0.parse_sql(client, sql, types).await?;
        let known = self.named_types(&parsed)?;
        match parsed {
            (text, Some((statement, plan))) => {
                Ok((text, Some((statement, typed(plan, types, &known).map_err(unplanned)?))))
            }
            without_plan => Ok(without_plan),
        }
    }

    fn get_parameter_types(&self, statement: &Statement) -> PgWireResult<Vec<Type>> {
        let number = |id: &str| id.trim_start_matches('$').parse::<usize>().unwrap_or(usize::MAX);
        let mut numbered: Vec<_> = self.named_types(statement)?.into_iter().map(|(id, of)| (number(&id), of)).collect();
        numbered.sort_by_key(|(number, _)| *number);
        Ok(numbered.into_iter().map(|(_, of)| of).collect())
    }

    fn get_result_schema(&self, statement: &Statement, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        self.0.get_result_schema(statement, format)
    }
}

impl OrderedParser {
    /// The parameters' types by name; the library returns them sorted by name as texts.
    fn named_types(&self, statement: &Statement) -> PgWireResult<HashMap<String, Type>> {
        let (_, Some((_, plan))) = statement else { return Ok(HashMap::new()) };
        let mut ids: Vec<String> = plan.get_parameter_names().map_err(unplanned)?.into_iter().collect();
        ids.sort();
        Ok(ids.into_iter().zip(self.0.get_parameter_types(statement)?).collect())
    }

    /// Binds the values of a portal's parameters.
    pub(crate) fn bind(&self, portal: &Portal<Statement>) -> PgWireResult<Portal<Statement>> {
        let mut bound = Portal::<Statement>::default();
        bound.name.clone_from(&portal.name);
        bound.result_column_format.clone_from(&portal.result_column_format);
        let (text, Some((statement, plan))) = &portal.statement.statement else {
            bound.statement = Arc::clone(&portal.statement);
            return Ok(bound);
        };
        let known = self.get_parameter_types(&portal.statement.statement)?;
        let told = |i: usize| portal.statement.parameter_types.get(i).cloned().flatten();
        // A parameter of unknown type is a text, as in PostgreSQL.
        let of = |i: usize| told(i).or_else(|| known.get(i).cloned()).filter(|of| *of != Type::UNKNOWN);
        let of = |i: usize| of(i).map(|of| if portal.parameter_format.is_binary(i) { of } else { as_text(of) });
        let types = (0..portal.parameters.len()).map(|i| Some(of(i).unwrap_or(Type::TEXT))).collect();
        let stored = |statement, types| Arc::new(StoredStatement::new(portal.statement.id.clone(), statement, types));

        let mut typed = Portal::<Statement>::default();
        typed.statement = stored(portal.statement.statement.clone(), types);
        typed.parameter_format.clone_from(&portal.parameter_format);
        typed.parameters.clone_from(&portal.parameters);
        let plan: LogicalPlan = plan.clone().replace_params_with_values(&values(&typed)?).map_err(unplanned)?;
        bound.statement = stored((text.clone(), Some((statement.clone(), plan))), vec![]);
        Ok(bound)
    }
}

/// Gives the plan's parameters their declared types. A parameter of unknown type is a text, as in PostgreSQL.
fn typed(
    plan: LogicalPlan,
    declared: &[Option<Type>],
    known: &HashMap<String, Type>,
) -> Result<LogicalPlan, DataFusionError> {
    let of = |placeholder: &Placeholder| {
        let number = placeholder.id.strip_prefix('$').and_then(|number| number.parse::<usize>().ok());
        let declared = number.and_then(|number| declared.get(number.checked_sub(1)?)?.as_ref());
        let is_unknown = known.get(&placeholder.id).is_none_or(|of| *of == Type::UNKNOWN);
        declared.and_then(arrow_type).or_else(|| is_unknown.then_some(DataType::Utf8))
    };
    let with_types = |expr: Expr| {
        expr.transform_up(|expr| match expr {
            Expr::Placeholder(mut placeholder) => match of(&placeholder) {
                Some(of) => {
                    placeholder.field = Some(Arc::new(Field::new(&placeholder.id, of, true)));
                    Ok(Transformed::yes(Expr::Placeholder(placeholder)))
                }
                None => Ok(Transformed::no(Expr::Placeholder(placeholder))),
            },
            other => Ok(Transformed::no(other)),
        })
    };
    let typed = plan
        .transform_up_with_subqueries(|plan| plan.map_expressions(with_types)?.map_data(LogicalPlan::recompute_schema));
    Ok(typed?.data)
}

/// The Arrow type that [`deserialize_parameters`] returns for a parameter's type.
fn arrow_type(of: &Type) -> Option<DataType> {
    let list = |of| Some(DataType::List(Arc::new(Field::new_list_field(of, true))));
    match *of {
        Type::BOOL => Some(DataType::Boolean),
        Type::CHAR => Some(DataType::Int8),
        Type::INT2 => Some(DataType::Int16),
        Type::INT4 => Some(DataType::Int32),
        Type::INT8 | Type::OID | Type::MONEY => Some(DataType::Int64),
        Type::FLOAT4 => Some(DataType::Float32),
        Type::FLOAT8 => Some(DataType::Float64),
        // The maximum number of digits; a value has its own.
        Type::NUMERIC => Some(DataType::Decimal128(38, 10)),
        Type::TEXT | Type::VARCHAR | Type::UUID | Type::JSON | Type::JSONB | Type::INET | Type::MACADDR => {
            Some(DataType::Utf8)
        }
        Type::BYTEA => Some(DataType::Binary),
        Type::DATE => Some(DataType::Date32),
        Type::TIME => Some(DataType::Time64(TimeUnit::Microsecond)),
        Type::TIMESTAMP => Some(DataType::Timestamp(TimeUnit::Microsecond, None)),
        Type::TIMESTAMPTZ => Some(DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into()))),
        Type::INTERVAL => Some(DataType::Interval(IntervalUnit::MonthDayNano)),
        Type::BOOL_ARRAY => list(DataType::Boolean),
        Type::INT2_ARRAY => list(DataType::Int16),
        Type::INT4_ARRAY => list(DataType::Int32),
        Type::INT8_ARRAY => list(DataType::Int64),
        Type::FLOAT4_ARRAY => list(DataType::Float32),
        Type::FLOAT8_ARRAY => list(DataType::Float64),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => list(DataType::Utf8),
        _ => None,
    }
}

/// The type as which a text parameter is parsed. For unsupported types, it stays text.
fn as_text(of: Type) -> Type {
    match of {
        Type::UUID | Type::JSON | Type::JSONB | Type::INET | Type::MACADDR | Type::NAME | Type::BPCHAR | Type::XML => {
            Type::TEXT
        }
        Type::OID => Type::INT8,
        other => other,
    }
}

fn values(portal: &Portal<Statement>) -> PgWireResult<ParamValues> {
    // PostgreSQL's types suffice, except for times, which have a unit.
    let time = DataType::Time64(TimeUnit::Microsecond);
    let types = &portal.statement.parameter_types;
    let units: Vec<_> = types.iter().map(|of| (*of == Some(Type::TIME)).then_some(&time)).collect();
    let mut values = deserialize_parameters(portal, &units)?;
    if let ParamValues::List(values) = &mut values {
        for (i, (value, of)) in values.iter_mut().zip(types).enumerate() {
            // The library turns a null list into an empty one.
            if portal.parameters.get(i).is_some_and(Option::is_none)
                && let Some(of) = of.as_ref().and_then(arrow_type)
            {
                value.value = ScalarValue::try_from(&of).map_err(unplanned)?;
            } else if let Some(of) = of
                && *of == Type::NUMERIC
                && let Some(number) = portal.parameter::<Decimal>(i, of)?
            {
                value.value = decimal(number);
            }
        }
    }
    Ok(values)
}

/// With all digits that the type has, including trailing zeros that were not written.
fn decimal(number: Decimal) -> ScalarValue {
    let digits = number.mantissa().unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
    // There are at most 29 digits.
    let (digits, scale) = (digits.max(number.scale()) as u8, number.scale() as i8);
    ScalarValue::Decimal128(Some(number.mantissa()), digits, scale)
}
