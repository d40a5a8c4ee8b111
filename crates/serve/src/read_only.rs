//! Refuses statements that would change something, and accepts statements without effect.

use async_trait::async_trait;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{Query, SetExpr, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};

use crate::failure::error;

/// Admits statements that read, and refuses everything else.
#[derive(Debug)]
pub(crate) struct ReadOnly;

/// The verdict on a statement.
enum Verdict {
    /// The statement reads.
    Read,
    /// The statement has no effect here; only its tag is returned.
    Done(&'static str),
    Refused(PgWireError),
}

fn verdict(statement: &Statement) -> Verdict {
    match statement {
        Statement::Query(query) => match changes(query) {
            Some(what) => refused(what),
            None => Verdict::Read,
        },
        Statement::Explain { statement, .. } if matches!(**statement, Statement::Set(_) | Statement::Reset(_)) => {
            refused("EXPLAIN SET")
        }
        Statement::Explain { statement, .. } => verdict(statement),
        // `settings` decides what may be set.
        Statement::Set(_)
        | Statement::Reset(_)
        | Statement::ExplainTable { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowStatus { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowFunctions { .. }
        | Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. } => Verdict::Read,
        Statement::Discard { .. } => Verdict::Done("DISCARD ALL"),
        Statement::Deallocate { .. } => Verdict::Done("DEALLOCATE"),
        other => {
            let text = other.to_string();
            let verb: Vec<&str> = text.split_whitespace().take(2).collect();
            match verb.as_slice() {
                [verb @ ("CREATE" | "DROP" | "ALTER"), what] => refused(&format!("{verb} {what}")),
                [verb, ..] => refused(verb),
                [] => refused("this"),
            }
        }
    }
}

/// The plan of a statement without effect.
pub(crate) fn no_rows() -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema: DFSchema::empty().into() })
}

fn refused(what: &str) -> Verdict {
    Verdict::Refused(error(
        "25006",
        format!("cannot execute {what} in a read-only transaction: tables are read-only here"),
    ))
}

/// What a query changes, if anything.
fn changes(query: &Query) -> Option<&'static str> {
    let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
    ctes.filter_map(|cte| changes(&cte.query)).next().or_else(|| changes_in(&query.body))
}

fn changes_in(body: &SetExpr) -> Option<&'static str> {
    match body {
        SetExpr::Select(select) => select.into.as_ref().map(|_| "SELECT INTO"),
        SetExpr::Query(query) => changes(query),
        SetExpr::SetOperation { left, right, .. } => changes_in(left).or_else(|| changes_in(right)),
        SetExpr::Values(_) | SetExpr::Table(_) => None,
        SetExpr::Insert(_) => Some("INSERT"),
        SetExpr::Update(_) => Some("UPDATE"),
        SetExpr::Delete(_) => Some("DELETE"),
        SetExpr::Merge(_) => Some("MERGE"),
    }
}

#[async_trait]
impl QueryHook for ReadOnly {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        match verdict(statement) {
            Verdict::Read => None,
            Verdict::Done(tag) => Some(Ok(Response::Execution(Tag::new(tag)))),
            Verdict::Refused(why) => Some(Err(why)),
        }
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        match verdict(statement) {
            Verdict::Read => None,
            Verdict::Done(_) => Some(Ok(no_rows())),
            Verdict::Refused(why) => Some(Err(why)),
        }
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _: &LogicalPlan,
        _: &ParamValues,
        session: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.handle_simple_query(statement, session, client).await
    }
}
