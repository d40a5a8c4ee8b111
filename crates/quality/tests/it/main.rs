//! What rules mean, and what they are evaluated on.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "a test stops where it fails"
)]

mod deequ;
mod meaning;
mod naive;
mod others;
mod sinks;

use datafusion::prelude::DataFrame;
use hardtack_core::JobContext;
use hardtack_quality::{Audit, Outcome, Rules, Verdict};

/// People, with all that is odd: nulls, empty texts, blanks, twins.
const PEOPLE: &str = "select * from (values
    (1,    'Ada',   36,   1.5,  date '2026-11-01', timestamp '2026-11-28T10:00:00', 'CH', true),
    (2,    'Bob',   17,   -2.0, date '2026-11-20', timestamp '2026-11-28T22:00:00', 'DE', false),
    (3,    '',      null, 0.0,  null,              null,                            null, null),
    (3,    '  ',    99,   4.5,  date '2026-10-01', timestamp '2026-11-01T00:00:00', 'CH', true)
) as t(id, name, age, score, day, seen, country, good)";

/// A context whose clock says `2026-11-29T00:00:00Z`, with two streams.
fn job() -> JobContext {
    hardtack_test_support::TestContext::new(()).at("2026-11-29T00:00:00Z").job().clone()
}

async fn frame(job: &JobContext, sql: &str) -> DataFrame {
    job.session().sql(sql).await.unwrap()
}

/// The audit of the rows of a query, by rules in the list of a set.
async fn audit(rules: &str, sql: &str) -> Audit {
    let job = job();
    let rows = frame(&job, sql).await;
    rules_of(rules).audit(&job, "people", rows).await.unwrap_or_else(|e| panic!("{}", e.chain()))
}

fn rules_of(rules: &str) -> Rules {
    Rules::dqdl(&format!("Rules = [{rules}]"))
}

async fn verdict(rule: &str, sql: &str) -> Verdict {
    audit(rule, sql).await.verdicts.remove(0)
}

fn passes(verdict: &Verdict) -> bool {
    verdict.outcome == Outcome::Passed
}
