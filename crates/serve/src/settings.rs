//! The parameters that clients may set: those that drivers set, and no others.
//!
//! `DataFusion` accepts settings of query execution (memory, threads, folders) in the same way as those of a session,
//! in any spelling. So it gets none but one, and there is an allow-list.

use async_trait::async_trait;
use datafusion::common::ParamValues;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, Reset, Set, SetSessionAuthorizationParamKind, Statement, Value,
};
use datafusion_postgres::QueryHook;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::error::PgWireResult;

use crate::failure::error;
use crate::read_only::no_rows;

/// The parameters that are kept per client.
const KEPT: [&str; 8] = [
    "application_name",
    "bytea_output",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "search_path",
    "statement_timeout",
    "timezone",
];

/// Parameters that clients of PostgreSQL set, without effect here: texts are UTF-8, nothing is locked, nothing is
/// written.
const WITHOUT_EFFECT: [&str; 44] = [
    "array_nulls",
    "backslash_quote",
    "check_function_bodies",
    "client_connection_check_interval",
    "client_encoding",
    "client_min_messages",
    "constraint_exclusion",
    "cursor_tuple_fraction",
    "default_table_access_method",
    "default_tablespace",
    "default_text_search_config",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_with_oids",
    "effective_cache_size",
    "enable_bitmapscan",
    "enable_hashjoin",
    "enable_indexscan",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_seqscan",
    "escape_string_warning",
    "geqo",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "jit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "quote_all_identifiers",
    "random_page_cost",
    "row_security",
    "ssl_renegotiation_limit",
    "standard_conforming_strings",
    "synchronous_commit",
    "transaction_isolation",
    "transaction_read_only",
    "transaction_timeout",
    "work_mem",
    "xmloption",
];

/// A change of a client's settings.
#[derive(Debug, PartialEq)]
enum Change {
    /// This setting is kept.
    Keep(Box<Statement>),
    /// These settings get their initial values.
    Reset(Vec<&'static str>),
    Nothing,
}

/// The change that a statement makes, if it is about settings.
fn change(statement: &Statement) -> Option<PgWireResult<Change>> {
    match statement {
        Statement::Set(set) => Some(of_set(set)),
        Statement::Reset(reset) => Some(match &reset.reset {
            Reset::ALL => Ok(Change::Reset(KEPT.to_vec())),
            Reset::ConfigurationParameter(name) => {
                known(name).map(|kept| kept.map_or(Change::Nothing, |kept| Change::Reset(vec![kept])))
            }
        }),
        _ => None,
    }
}

fn of_set(set: &Set) -> PgWireResult<Change> {
    match set {
        Set::SingleAssignment { variable, values, .. } => {
            let Some(name) = known(variable)? else { return Ok(Change::Nothing) };
            if let [Expr::Identifier(Ident { value, quote_style: None, .. })] = values.as_slice()
                && value.eq_ignore_ascii_case("default")
            {
                return Ok(Change::Reset(vec![name]));
            }
            let value = values.iter().map(text).collect::<Vec<_>>().join(", ");
            if name == "statement_timeout" && !is_time(&value) {
                let why = format!("invalid value for parameter \"statement_timeout\": \"{value}\"");
                return Err(error("22023", why));
            }
            // By its plain name and for the session: there are no other scopes, because there is nothing to roll back.
            Ok(Change::Keep(Box::new(Statement::Set(Set::SingleAssignment {
                scope: None,
                hivevar: false,
                variable: ObjectName(vec![ObjectNamePart::Identifier(Ident::new(name))]),
                values: vec![Expr::value(Value::SingleQuotedString(value))],
            }))))
        }
        Set::SetTimeZone { value, .. } => {
            Ok(Change::Keep(Box::new(Statement::Set(Set::SetTimeZone { local: false, value: value.clone() }))))
        }
        Set::SetTransaction { .. }
        | Set::SetNames { .. }
        | Set::SetNamesDefault {}
        | Set::SetRole { role_name: None, .. } => Ok(Change::Nothing),
        Set::SetSessionAuthorization(param) if matches!(param.kind, SetSessionAuthorizationParamKind::Default) => {
            Ok(Change::Nothing)
        }
        Set::SetRole { .. } | Set::SetSessionAuthorization(_) => Err(error("42501", "permission denied to set role")),
        Set::MultipleAssignments { .. } | Set::ParenthesizedAssignments { .. } | Set::SetSessionParam(_) => {
            Err(error("42601", "invalid way to set a parameter; expected SET name TO value"))
        }
    }
}

/// The name of a kept parameter, or none for one without effect. Other parameters must not be set.
fn known(name: &ObjectName) -> PgWireResult<Option<&'static str>> {
    let parts: Vec<_> =
        name.0.iter().map(|part| part.as_ident().map_or_else(|| part.to_string(), |i| i.value.clone())).collect();
    // Quoted or not, PostgreSQL's parameters are case-insensitive.
    let name = parts.join(".").to_lowercase();
    if let Some(kept) = KEPT.into_iter().find(|kept| *kept == name) {
        return Ok(Some(kept));
    }
    if WITHOUT_EFFECT.contains(&name.as_str()) {
        return Ok(None);
    }
    // Only the server sets how queries are executed.
    Err(match name.starts_with("datafusion.") {
        true => error("42501", format!("permission denied to set parameter \"{name}\"")),
        false => error("42704", format!("unrecognized configuration parameter \"{name}\"")),
    })
}

fn text(value: &Expr) -> String {
    match value {
        Expr::Value(value) => value.clone().into_string().unwrap_or_else(|| value.to_string()),
        Expr::Identifier(name) => name.value.clone(),
        other => other.to_string(),
    }
}

/// Whether it is a time span that can be counted in milliseconds.
fn is_time(value: &str) -> bool {
    let value = value.trim();
    let number = ["ms", "min", "s", "h", "d"].into_iter().find_map(|unit| value.strip_suffix(unit)).unwrap_or(value);
    number.len() <= 12 && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

/// Executes permitted `set` and `show` statements.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The initial time zone of a session.
    pub(crate) time_zone: Option<String>,
}

impl Settings {
    async fn answer(
        &self,
        statement: &Statement,
        session: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        let tag = if matches!(statement, Statement::Reset(_)) { "RESET" } else { "SET" };
        match change(statement) {
            Some(Ok(Change::Keep(statement))) => SetShowHook.handle_simple_query(&statement, session, client).await,
            Some(Ok(Change::Reset(names))) => {
                names.iter().for_each(|name| self.reset(name, session, client));
                Some(Ok(Response::Execution(Tag::new(tag))))
            }
            Some(Ok(Change::Nothing)) => Some(Ok(Response::Execution(Tag::new(tag)))),
            Some(Err(why)) => Some(Err(why)),
            None => SetShowHook.handle_simple_query(statement, session, client).await,
        }
    }

    fn reset(&self, name: &str, session: &SessionContext, client: &mut dyn HookClient) {
        client.metadata_mut().remove(if name == "statement_timeout" { "statement_timeout_ms" } else { name });
        if name == "timezone" {
            session.state_ref().write().config_mut().options_mut().execution.time_zone.clone_from(&self.time_zone);
        }
    }
}

#[async_trait]
impl QueryHook for Settings {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        session: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        self.answer(statement, session, client).await
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        session: &SessionContext,
        client: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        match change(statement) {
            Some(Ok(_)) => Some(Ok(no_rows())),
            Some(Err(why)) => Some(Err(why)),
            None => SetShowHook.handle_extended_parse_query(statement, session, client).await,
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
        self.answer(statement, session, client).await
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;
    use datafusion_postgres::pgwire::error::PgWireError;
    use rstest::rstest;

    use super::*;

    fn of(sql: &str) -> Result<Change, String> {
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        change(&statement).unwrap().map_err(|why| match why {
            PgWireError::UserError(info) => format!("{} {}", info.code, info.message),
            other => other.to_string(),
        })
    }

    #[rstest]
    #[case("set application_name = 'x'", "SET application_name = 'x'")]
    #[case("SET Application_Name TO x", "SET application_name = 'x'")]
    #[case("set \"Application_Name\" = 'it''s'", "SET application_name = 'it''s'")]
    #[case("set local statement_timeout = 500", "SET statement_timeout = '500'")]
    #[case("set session statement_timeout to '5min'", "SET statement_timeout = '5min'")]
    #[case("set datestyle to iso, mdy", "SET datestyle = 'iso, mdy'")]
    #[case("set search_path = lake, \"Public\"", "SET search_path = 'lake, Public'")]
    #[case("set extra_float_digits = 3", "SET extra_float_digits = '3'")]
    #[case("set timezone to 'UTC'", "SET timezone = 'UTC'")]
    #[case("set local time zone 'UTC'", "SET TIME ZONE 'UTC'")]
    fn what_drivers_set_is_kept(#[case] sql: &str, #[case] kept: &str) {
        match of(sql) {
            Ok(Change::Keep(statement)) => assert_eq!(statement.to_string(), kept),
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[rstest]
    #[case("set client_encoding = 'UTF8'", Change::Nothing)]
    #[case("set \"CLIENT_ENCODING\" to 'UTF8'", Change::Nothing)]
    #[case("set names 'utf8'", Change::Nothing)]
    #[case("set transaction read only", Change::Nothing)]
    #[case("set session characteristics as transaction isolation level read committed", Change::Nothing)]
    #[case("set role none", Change::Nothing)]
    #[case("set session authorization default", Change::Nothing)]
    #[case("set statement_timeout to default", Change::Reset(vec!["statement_timeout"]))]
    #[case("reset \"TimeZone\"", Change::Reset(vec!["timezone"]))]
    #[case("reset client_encoding", Change::Nothing)]
    #[case("reset all", Change::Reset(KEPT.to_vec()))]
    fn what_means_nothing_is_done_by_saying_so(#[case] sql: &str, #[case] wanted: Change) {
        assert_eq!(of(sql).unwrap(), wanted, "{sql}");
    }

    #[rstest]
    #[case(
        "set datafusion.runtime.memory_limit = '8G'",
        "42501 permission denied to set parameter \"datafusion.runtime.memory_limit\""
    )]
    #[case(
        "set \"datafusion.runtime.memory_limit\" = '8G'",
        "42501 permission denied to set parameter \"datafusion.runtime.memory_limit\""
    )]
    #[case(
        "set \"DataFusion\".\"runtime\".temp_directory to '/tmp/x'",
        "42501 permission denied to set parameter \"datafusion.runtime.temp_directory\""
    )]
    #[case(
        "set local \"datafusion.execution.target_partitions\" = 20000",
        "42501 permission denied to set parameter \"datafusion.execution.target_partitions\""
    )]
    #[case(
        "reset \"datafusion.runtime.memory_limit\"",
        "42501 permission denied to set parameter \"datafusion.runtime.memory_limit\""
    )]
    #[case("set target_partitions = 20000", "42704 unrecognized configuration parameter \"target_partitions\"")]
    #[case(
        "set \" datafusion.runtime.memory_limit\" = '8G'",
        "42704 unrecognized configuration parameter \" datafusion.runtime.memory_limit\""
    )]
    #[case(
        "set statement_timeout = '99999999999999999999min'",
        "22023 invalid value for parameter \"statement_timeout\": \"99999999999999999999min\""
    )]
    #[case("set statement_timeout = 'soon'", "22023 invalid value for parameter \"statement_timeout\": \"soon\"")]
    #[case("set role postgres", "42501 permission denied to set role")]
    #[case("set session authorization 'postgres'", "42501 permission denied to set role")]
    fn everything_else_is_refused(#[case] sql: &str, #[case] why: &str) {
        assert_eq!(of(sql).unwrap_err(), why, "{sql}");
    }
}
