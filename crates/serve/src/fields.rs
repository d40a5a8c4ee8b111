//! Fields of composite values, as PostgreSQL writes them: `(address).city`.
//!
//! `DataFusion` knows fields of columns (`address.city`), and of other values only by a text.

use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Ident, Statement, Value, visit_expressions_mut};
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::df::encode_dataframe;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::Response;
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::types::format::FormatOptions;

/// Plans statements with fields of composite values.
#[derive(Debug)]
pub(crate) struct Fields;

/// The statement as it can be planned, if it cannot be as it is.
fn plannable(statement: &Statement) -> Option<Statement> {
    let mut plannable = statement.clone();
    let mut changed = false;
    let _ = visit_expressions_mut(&mut plannable, |expr| {
        if let Expr::CompoundFieldAccess { root, access_chain } = expr {
            // Dots behind a name are part of it.
            let is_name = matches!(**root, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
            let is_part = |access: &&mut AccessExpr| is_name && matches!(access, AccessExpr::Dot(_));
            for access in access_chain.iter_mut().skip_while(is_part) {
                if let AccessExpr::Dot(field) = access
                    && let Expr::Identifier(Ident { value, quote_style, .. }) = field
                {
                    let name = if quote_style.is_some() { value.clone() } else { value.to_lowercase() };
                    *field = Expr::value(Value::SingleQuotedString(name));
                    changed = true;
                }
            }
        }
        ControlFlow::<()>::Continue(())
    });
    changed.then_some(plannable)
}

async fn plan(statement: Statement, session: &SessionContext) -> PgWireResult<LogicalPlan> {
    session.state().statement_to_plan(DfStatement::Statement(Box::new(statement))).await.map_err(failed)
}

fn failed(e: DataFusionError) -> PgWireError {
    PgWireError::ApiError(Box::new(e))
}

#[async_trait]
impl QueryHook for Fields {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        session: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        let statement = plannable(statement)?;
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        let answer = async {
            let plan = plan(statement, session).await?;
            let rows = session.execute_logical_plan(plan).await.map_err(failed)?;
            Ok(Response::Query(encode_dataframe(rows, &Format::UnifiedText, Some(options)).await?))
        };
        Some(answer.await)
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        session: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        Some(plan(plannable(statement)?, session).await)
    }

    async fn handle_extended_query(
        &self,
        _: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        _: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        None
    }
}
