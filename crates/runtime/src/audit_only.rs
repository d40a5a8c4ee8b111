//! Audits what a job would save, without saving it.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::prelude::DataFrame;
use futures::FutureExt;
use hardtack_core::{Context, Error, Io, JobContext, Reads, Result, Sink, Source, StagingIo};
use hardtack_state::Ledger;

use crate::args::RuntimeArgs;
use crate::environment::{open_context, open_state};
use crate::lifecycle::{Job, check_window};
use crate::outcome::panicked;
use crate::summary;

/// Calls `main` with real sources; sinks audit their rows and write nothing. The run is not recorded, and the bookmarks
/// stay where they are.
///
/// # Errors
/// Errors of `main`, and rules that block.
pub(crate) async fn audit_only<A>(
    job: &Job,
    args: A,
    options: &RuntimeArgs,
    main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
) -> Result<()> {
    let base = open_context(job.name(), options)?;
    let ledger = Ledger::new(open_state(base.stores(), &options.records.state)?, job.name(), &options.scope);
    let last = ledger.newest_position().await?;
    let again = options.bookmarks.reprocess(&ledger).await?;
    let ctx = JobContext::builder(job.name())
        .share(&base)
        .run(base.run().clone())
        .bookmarks(options.bookmarks.bookmarks(last.bookmarks, again))
        .history(last.metrics)
        .io(Arc::new(AuditIo::default()))
        .build()?;
    let done = AssertUnwindSafe(main(&Context::new(args, ctx.clone()))).catch_unwind().await;
    done.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
    check_window(&ctx)?;
    let verdict = ctx.audit().await;
    let audits = ctx.audits();
    if audits.is_empty() {
        return Err(Error::usage(format!("no source or sink of the job `{}` has rules", job.name()))
            .hint("add them with `.audited(rules)`; `--dry-run` shows what the job would do"));
    }
    // The error shows them itself.
    verdict?;
    let mut text: String = audits.iter().map(summary::audit).collect();
    text.push_str("nothing was written\n");
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

#[derive(Debug, Default)]
struct AuditIo {
    staging: StagingIo,
    reads: Reads,
}

#[async_trait]
impl Io for AuditIo {
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        let rows = self.staging.load(ctx, source).await?;
        self.reads.loaded(source, &rows);
        Ok(rows)
    }

    async fn persist(&self, ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
        self.staging.persist(ctx, rows).await
    }

    async fn save(&self, ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        let name = sink.name();
        self.reads.check(ctx, sink, &rows)?;
        sink.audit(&ctx.staging(name), rows).await.map_err(|e| ctx.explain(e).with("sink", name))
    }
}
