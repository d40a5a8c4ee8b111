//! A job with tables in a process of its own, killed at every step.

use hardtack_catalog::EmbeddedCatalog;
use hardtack_core::fault::TABLE_POINTS;
use hardtack_core::{Context, Error, Result, Run};
use hardtack_runtime::{
    Job, LogFormat, QueryArgs, RecoverOptions, RuntimeArgs, execute, open_context, open_state, recover,
};
use hardtack_state::Ledger;
use hardtack_tables::{SchemaEvolution, Table};
use hardtack_test_support::{Frame, JobBinary, rows};

use crate::lake::read;

/// The job: `MODE` selects the rows and how they are saved.
async fn main(ctx: &Context<String>) -> Result<()> {
    let table = Table::named("lake", "sales").grace_period(chrono::TimeDelta::zero());
    let description =
        hardtack_catalog::TableDescription::new("lake", "sales", &hardtack_catalog::TableFormat::Parquet, "lake/sales")
            .with_columns(crate::lake::columns_of("id: bigint"))
            .with_partition_keys(crate::lake::columns_of("day: string"));
    let (table, rows) = match ctx.args().as_str() {
        "create" => (table.create_if_missing(description), rows! { id, day; 1, "mon"; 2, "tue" }),
        "partitions" => (table.overwrite_partitions(), rows! { id, day; 3, "mon" }),
        _ => {
            let rows = rows! { id, name, day; 4, "x", "mon"; 5, "y", "wed" };
            (table.overwrite().schema_evolution(SchemaEvolution::AddColumns), rows)
        }
    };
    ctx.save(table, Frame::to_df(&rows, ctx.session())).await
}

#[test]
#[ignore = "it is the process that the tests below start"]
fn job() {
    let Ok(mode) = std::env::var("MODE") else { return };
    hardtack_core::fault::arm_from_environment();
    let query = QueryArgs { threads: Some(2), memory_limit: Some(1 << 30), spill_dir: None };
    let options = RuntimeArgs { query, ..RuntimeArgs::default() };
    let bars = hardtack_runtime::init_logging(LogFormat::Json, "warn");
    let run = async {
        if mode == "recover" {
            let ctx = open_context("job", &options)?;
            let state = open_state(ctx.stores(), &options.records.state)?;
            recover(&ctx, &Ledger::new(state, "job", Run::WHOLE_JOB), RecoverOptions::default()).await?;
        } else {
            execute(&Job::new("job"), mode, &options, main, &bars).await?;
        }
        Ok::<_, Error>(())
    };
    tokio::runtime::Runtime::new().unwrap().block_on(run).unwrap();
}

fn process() -> JobBinary<'static> {
    let exe = std::env::current_exe().unwrap();
    JobBinary::new(exe).args(["--exact", "crashes::job", "--ignored", "--nocapture"])
}

fn rows_of(job: &JobBinary<'_>) -> Vec<String> {
    let catalog = EmbeddedCatalog::new(job.dir().path().join(".hardtack/catalog.sqlite"));
    let read = async { read(&catalog, "sales").await.unwrap_or_default() };
    tokio::runtime::Runtime::new().unwrap().block_on(read)
}

/// The job's three runs, one after another.
const RUNS: [&str; 3] = ["create", "partitions", "overwrite"];

#[test]
fn killed_at_any_step_readers_are_right_and_the_next_run_heals() {
    let reference = process();
    let states: Vec<Vec<String>> = RUNS
        .map(|mode| {
            reference.again().env("MODE", mode).run().assert_code(0);
            rows_of(&reference)
        })
        .into();
    insta::assert_debug_snapshot!(states, @r#"
    [
        [
            "day=mon id=1",
            "day=tue id=2",
        ],
        [
            "day=mon id=3",
            "day=tue id=2",
        ],
        [
            "day=mon id=4 name=x",
            "day=wed id=5 name=y",
        ],
    ]
    "#);
    for point in ["run.staged", "state.commit.after"].iter().chain(TABLE_POINTS) {
        let job = process();
        let mut reached = false;
        let mut before: Vec<String> = Vec::new();
        for (mode, after) in RUNS.iter().zip(&states) {
            let run = job.again().env("MODE", mode);
            let killed = run.failing_at(point, "return(kill)").run();
            reached |= killed.signal() == Some(9);
            if killed.signal() == Some(9) {
                check(point, &before, &rows_of(&job), after);
                job.again().env("MODE", "recover").run().assert_code(0);
                let recovered = rows_of(&job);
                if *point == "run.staged" {
                    assert_eq!(recovered, before, "killed before its commit");
                    run.run().assert_code(0);
                } else {
                    assert_eq!(recovered, *after, "killed at {point} of {mode}");
                }
            } else {
                killed.assert_code(0);
            }
            assert_eq!(rows_of(&job), *after, "killed at {point} of {mode}");
            before.clone_from(after);
        }
        assert!(reached, "{point} was not reached");
    }
}

/// Every partition has its old state or its new one.
fn check(point: &str, before: &[String], now: &[String], after: &[String]) {
    for day in ["day=mon", "day=tue", "day=wed"] {
        let of = |rows: &[String]| rows.iter().filter(|row| row.starts_with(day)).cloned().collect::<Vec<_>>();
        let now = of(now);
        assert!(now == of(before) || now == of(after), "killed at {point}, {day} is {now:?}");
    }
}
