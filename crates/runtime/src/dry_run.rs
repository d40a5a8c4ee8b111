//! What a job would do, without doing it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::{empty::EmptyTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use futures::FutureExt;
use hardtack_core::{Context, Io, JobContext, Location, Result, Sink, Source};

use crate::args::RuntimeArgs;
use crate::environment::open_context;
use crate::lifecycle::panicked;

/// Calls `main` with empty frames of the real schemas, and prints its sources, sinks, schemas and plans. A source with a
/// declared schema is not touched; one without is read as far as its schema needs.
pub(crate) async fn dry_run<A>(
    job: &str,
    args: A,
    options: &RuntimeArgs,
    main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
) -> Result<()> {
    let io = Arc::new(DryRunIo::default());
    let base = open_context(job, options)?;
    let ctx = JobContext::builder(job).share(&base).scope(&options.scope).io(io.clone()).build()?;
    let done = AssertUnwindSafe(main(&Context::new(args, ctx))).catch_unwind().await;
    let done = done.unwrap_or_else(|panic| Err(panicked(&*panic)));
    let mut text = format!("dry run of {job}: no rows are read, nothing is written or recorded\n");
    text.push_str(&io.text.lock().unwrap_or_else(PoisonError::into_inner));
    let _ = std::io::stdout().write_all(text.as_bytes());
    done
}

#[derive(Debug, Default)]
struct DryRunIo {
    text: Mutex<String>,
}

impl DryRunIo {
    fn say(
        &self,
        what: &str,
        name: &str,
        location: Option<Location>,
        value: &str,
        schema: &Schema,
        plan: Option<&str>,
    ) {
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let place = location.map(|l| format!(" ({l})")).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(text, "\n{what} {name}{place}\n  {value}\n  columns");
        for field in schema.fields() {
            let null = if field.is_nullable() { "" } else { " not null" };
            let _ = writeln!(text, "    {}: {}{null}", field.name(), field.data_type());
        }
        if let Some(plan) = plan {
            let _ = writeln!(text, "  plan");
            plan.lines().for_each(|line| {
                let _ = writeln!(text, "    {line}");
            });
        }
    }
}

#[async_trait]
impl Io for DryRunIo {
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        let name = source.name();
        let schema: SchemaRef = source.schema(ctx).await.map_err(|e| e.with("source", name))?;
        self.say("source", name, source.location(), &format!("{source:?}"), &schema, None);
        let table = provider_as_source(Arc::new(EmptyTable::new(schema)));
        let plan = LogicalPlanBuilder::scan(name, table, None)?.build()?;
        Ok(DataFrame::new(ctx.session().state(), plan))
    }

    async fn save(&self, _: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        let schema = rows.schema().as_arrow().clone();
        let plan = rows.logical_plan().display_indent().to_string();
        self.say("sink", sink.name(), sink.location(), &format!("{sink:?}"), &schema, Some(&plan));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hardtack_core::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_as_in_a_real_run() {
        let options = RuntimeArgs::default();
        let error = dry_run("job", (), &options, async |_: &Context<()>| panic!("oh no")).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unexpected, "the job panicked: oh no"));
    }
}
