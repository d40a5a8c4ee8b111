//! The parameters of prepared statements: their types in order, and their values.
//!
//! What the libraries below do is put right in two respects: they take `$10` for the second parameter (names are sorted as
//! texts), and drop the digits behind the point of a number.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::LogicalPlan;
use datafusion_postgres::Parser;
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::results::FieldInfo;
use datafusion_postgres::pgwire::api::stmt::{QueryParser, StoredStatement};
use datafusion_postgres::pgwire::api::{ClientInfo, Type};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use rust_decimal::Decimal;

type Statement = <Parser as QueryParser>::Statement;

/// Parses statements and says what is known of their parameters.
pub(crate) struct OrderedParser(pub(crate) Arc<Parser>);

#[async_trait]
impl QueryParser for OrderedParser {
    type Statement = Statement;

    async fn parse_sql<C>(&self, client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Statement>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        self.0.parse_sql(client, sql, types).await
    }

    fn get_parameter_types(&self, statement: &Statement) -> PgWireResult<Vec<Type>> {
        let types = self.0.get_parameter_types(statement)?;
        let (_, Some((_, plan))) = statement else { return Ok(types) };
        let mut ids: Vec<String> = plan.get_parameter_names().map_err(failed)?.into_iter().collect();
        ids.sort();
        let number = |id: &String| id.trim_start_matches('$').parse::<usize>().unwrap_or(usize::MAX);
        let mut numbered: Vec<_> = ids.iter().map(number).zip(types).collect();
        numbered.sort_by_key(|(number, _)| *number);
        Ok(numbered.into_iter().map(|(_, of)| of).collect())
    }

    fn get_result_schema(&self, statement: &Statement, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        self.0.get_result_schema(statement, format)
    }
}

impl OrderedParser {
    /// The same statement with its parameters' values in their places.
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
        // What could be anything is a text, as in PostgreSQL.
        let of = |i: usize| told(i).or_else(|| known.get(i).cloned()).filter(|of| *of != Type::UNKNOWN);
        let types = (0..portal.parameters.len()).map(|i| Some(of(i).unwrap_or(Type::TEXT))).collect();
        let stored = |statement, types| Arc::new(StoredStatement::new(portal.statement.id.clone(), statement, types));

        let mut typed = Portal::<Statement>::default();
        typed.statement = stored(portal.statement.statement.clone(), types);
        typed.parameter_format.clone_from(&portal.parameter_format);
        typed.parameters.clone_from(&portal.parameters);
        let plan: LogicalPlan = plan.clone().replace_params_with_values(&values(&typed)?).map_err(failed)?;
        bound.statement = stored((text.clone(), Some((statement.clone(), plan))), vec![]);
        Ok(bound)
    }
}

fn values(portal: &Portal<Statement>) -> PgWireResult<ParamValues> {
    // Types of PostgreSQL are enough but for times, which have a unit.
    let time = DataType::Time64(TimeUnit::Microsecond);
    let types = &portal.statement.parameter_types;
    let units: Vec<_> = types.iter().map(|of| (*of == Some(Type::TIME)).then_some(&time)).collect();
    let mut values = deserialize_parameters(portal, &units)?;
    if let ParamValues::List(values) = &mut values {
        for (i, (value, of)) in values.iter_mut().zip(types).enumerate() {
            if let Some(of) = of
                && *of == Type::NUMERIC
                && let Some(number) = portal.parameter::<Decimal>(i, of)?
            {
                value.value = decimal(number);
            }
        }
    }
    Ok(values)
}

/// As many digits as it has, also where some of those behind the point are zeros that nobody wrote.
fn decimal(number: Decimal) -> ScalarValue {
    let digits = number.mantissa().unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
    // There are 29 digits at most.
    let (digits, scale) = (digits.max(number.scale()) as u8, number.scale() as i8);
    ScalarValue::Decimal128(Some(number.mantissa()), digits, scale)
}

fn failed(e: datafusion::error::DataFusionError) -> PgWireError {
    PgWireError::ApiError(Box::new(e))
}
