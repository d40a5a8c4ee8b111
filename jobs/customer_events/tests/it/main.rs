//! The job's binary, end to end: the guarantees of a run, for a job that overwrites what it reads and has two sinks.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::print_stdout,
    reason = "a test looks at files and stops where it fails"
)]

mod catalog;
mod iceberg;
mod runs;

use hardtack::core::{JobContext, Location};
use hardtack::runtime::{RecoverOptions, RuntimeArgs, fsck, open_context, open_state, recover};
use hardtack::state::Ledger;
use hardtack_test_support::{JobBinary, JobContract, Operator, job_contract, runtime_contract, s3_contract};
use tokio::runtime::Runtime;

const MORNING: &str = r#"{"before": null, "after": {"id": 1, "first_name": "Ada", "last_name": "Byron", "email": null}, "op": "c", "ts_ms": 1795132800000}
{"before": null, "after": {"id": 2, "first_name": "Bob", "last_name": "Ray", "email": null}, "op": "c", "ts_ms": 1795132800001}
{"before": {"id": 3, "first_name": "Cid", "last_name": "X", "email": null}, "after": null, "op": "d", "ts_ms": 1795132800002}
"#;
const EVENING: &str = r#"{"before": {"id": 2, "first_name": "Bob", "last_name": "Ray", "email": null}, "after": null, "op": "d", "ts_ms": 1795132900000}
{"before": {"id": 1, "first_name": "Ada", "last_name": "Byron", "email": null}, "after": {"id": 1, "first_name": "Ada", "last_name": "Lovelace", "email": null}, "op": "u", "ts_ms": 1795132900001}
"#;

/// The morning's events, then also the evening's.
fn contract() -> JobContract {
    JobContract::new(env!("CARGO_BIN_EXE_customer_events"), "customers")
        .and_table("customers_deleted")
        .ignoring_columns(["_applied_at", "_known_since"])
        .earlier("customer_events/morning.jsonl", MORNING)
        .delivered("customer_events/morning.jsonl", MORNING)
        .delivered("customer_events/evening.jsonl", EVENING)
}

job_contract!(contract());
runtime_contract!(contract(), Hardtack);
s3_contract!(contract());

/// `hardtack fsck` and `hardtack recover`.
struct Hardtack;

impl Operator for Hardtack {
    fn fsck(&self, state: &Location, repair: bool) -> Vec<String> {
        let ctx = reader(state);
        let state = open_state(ctx.stores(), state).unwrap();
        let findings = Runtime::new().unwrap().block_on(fsck(&ctx, &state, repair)).unwrap();
        findings.iter().map(|finding| format!("{finding:?}")).collect()
    }

    fn recover(&self, state: &Location, job: &str) {
        let ctx = reader(state);
        let ledger = Ledger::new(open_state(ctx.stores(), state).unwrap(), job, "default");
        Runtime::new().unwrap().block_on(recover(&ctx, &ledger, RecoverOptions::default())).unwrap();
    }
}

/// A context that sees what jobs with this state location do.
fn reader(state: &Location) -> JobContext {
    open_context("reader", &RuntimeArgs::with_state(state.clone())).unwrap()
}

/// The job in a lake of its own, to which nothing was delivered.
fn job() -> JobBinary<'static> {
    contract().job().args(["--log-format", "pretty"])
}
