//! Rewrites PostgreSQL's SQL that `DataFusion` cannot plan.
//!
//! Fields of composite values (`(address).city`): `DataFusion` supports fields of columns, and of other values only by
//! a literal. And queries of drivers on the catalog: several unnamed columns, and subqueries that have one row because
//! of what they look up.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    AccessExpr, Expr, Ident, ObjectName, Query, Select, SelectItem, SetExpr, Statement, TableFactor, Value, VisitMut,
    VisitorMut, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::df::encode_dataframe;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::Response;
use datafusion_postgres::pgwire::error::PgWireResult;
use datafusion_postgres::pgwire::types::format::FormatOptions;

use crate::failure::unplanned;

/// Plans statements with fields of composite values.
#[derive(Debug)]
pub(crate) struct Fields;

/// A statement that can be planned, if this one cannot.
fn plannable(statement: &Statement) -> Option<Statement> {
    let mut plannable = statement.clone();
    let mut changed = false;
    let _ = visit_expressions_mut(&mut plannable, |expr| {
        if let Expr::CompoundFieldAccess { root, access_chain } = expr {
            // Dots after a name are part of it.
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
    let mut queries = Queries { changed };
    let _ = VisitMut::visit(&mut plannable, &mut queries);
    queries.changed.then_some(plannable)
}

/// Rewrites whole queries.
struct Queries {
    changed: bool,
}

impl VisitorMut for Queries {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = &mut *query.body {
            self.changed |= names_apart(select);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Subquery(query) = expr
            && let SetExpr::Select(select) = &mut *query.body
        {
            self.changed |= has_one_row(select);
        }
        ControlFlow::Continue(())
    }
}

/// Gives distinct names to constants that would have the same name.
fn names_apart(select: &mut Select) -> bool {
    let (mut seen, mut changed) = (HashSet::new(), false);
    for (i, item) in select.projection.iter_mut().enumerate() {
        if let SelectItem::UnnamedExpr(expr @ Expr::Value(_)) = item
            && !seen.insert(expr.to_string())
        {
            let alias = Ident::with_quote('"', format!("?column?{}", i + 1));
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias };
            changed = true;
        }
    }
    changed
}

/// Takes the first row of a look-up in PostgreSQL's catalog, where ids are unique.
fn has_one_row(select: &mut Select) -> bool {
    let is_catalog = |name: &ObjectName| name.to_string().to_lowercase().starts_with("pg_catalog.");
    let looks_up = select.from.iter().all(|from| {
        from.joins.is_empty() && matches!(&from.relation, TableFactor::Table { name, .. } if is_catalog(name))
    });
    let [SelectItem::UnnamedExpr(expr)] = select.projection.as_mut_slice() else { return false };
    if !looks_up || select.from.is_empty() || select.selection.is_none() || matches!(expr, Expr::Function(_)) {
        return false;
    }
    let first = Parser::new(&PostgreSqlDialect {}).try_with_sql(&format!("first_value({expr})"));
    let Ok(first) = first.and_then(|mut parser| parser.parse_expr()) else { return false };
    *expr = first;
    true
}

async fn plan(statement: Statement, session: &SessionContext) -> PgWireResult<LogicalPlan> {
    session.state().statement_to_plan(DfStatement::Statement(Box::new(statement))).await.map_err(unplanned)
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
            let rows = session.execute_logical_plan(plan).await.map_err(unplanned)?;
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
