//! Sinks and sources whose rows are audited.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use hardtack_core::actions::MemoryJournal;
use hardtack_core::audit::is_sensitive;
use hardtack_core::publish::discard;
use hardtack_core::{
    DiscardAction, Error, JobContext, Journal, LoadContext, Location, NamedTable, Result, Sink, Source, StageContext,
    Staged,
};
use hardtack_sinks::ParquetDataset;

use crate::auditor::Auditor;
use crate::compile::Program;
use crate::incoming::Incoming;
use crate::judge::judge;
use crate::measure::plain;
use crate::quarantine::Quarantine;
use crate::rules::Rules;

/// Adds rules to sinks and sources.
pub trait WithRules: Sized {
    /// The same, with rules for its rows. Those of a sink are evaluated in the pass that writes, those of a source in the
    /// pass that reads; and a rule that fails stops the run before anything is published.
    ///
    /// ```
    /// # use datafusion::prelude::DataFrame;
    /// # use hardtack_core::{Context, Result, Sink};
    /// # use hardtack_quality::{Rules, WithRules};
    /// # async fn job(ctx: &Context<()>, people: impl Sink, rows: DataFrame) -> Result<()> {
    /// ctx.save(people.audited(Rules::dqdl(r#"Rules = [IsPrimaryKey "id"]"#)), rows).await
    /// # }
    /// ```
    fn audited(self, rules: impl Into<Rules>) -> Audited<Self> {
        Audited { inner: self, rules: rules.into(), quarantine: None }
    }
}

// All types, because there are sources, sinks and values that are both.
impl<T: fmt::Debug + Send + Sync> WithRules for T {}

/// A source or sink whose rows are audited; see [`WithRules::audited`].
#[derive(Clone)]
pub struct Audited<S> {
    inner: S,
    rules: Rules,
    quarantine: Option<Arc<dyn Sink>>,
}

impl<S: fmt::Debug> fmt::Debug for Audited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Audited");
        f.field("inner", &self.inner).field("rules", &self.rules);
        if let Some(quarantine) = &self.quarantine {
            f.field("quarantine", quarantine);
        }
        f.finish()
    }
}

impl<S> Audited<S> {
    /// Sets the rows aside that fail a blocking rule, if the rules pass as a whole: a rule `with threshold` allows a share
    /// of bad rows. They go to another sink in the same transaction, with the rules that they fail in the column
    /// [`FAILED_RULES`](crate::FAILED_RULES); the others are published.
    #[must_use]
    pub fn quarantine(mut self, sink: impl Sink + 'static) -> Self {
        self.quarantine = Some(Arc::new(sink));
        self
    }
}

impl<S: Sink> Audited<S> {
    fn auditor(&self, ctx: &StageContext, kept: Option<Quarantine>, writes: bool) -> Result<Auditor> {
        let job = ctx.job();
        let quarantine = self.quarantine.clone().or_else(|| {
            let folder = job.audit_options().quarantine.as_ref()?.join(self.name());
            Some(Arc::new(ParquetDataset::new(format!("{}_quarantine", self.name()), folder)))
        });
        let quarantine = quarantine.filter(|_| writes);
        if let (Some(aside), Some(place)) = (quarantine.as_ref().and_then(|sink| sink.location()), Sink::location(self))
            && (aside.contains(&place) || place.contains(&aside))
        {
            return Err(Error::usage("the quarantine must be a folder of its own")
                .with("quarantine", aside)
                .with("overlaps", place)
                .hint("rows that are set aside would be taken for published ones; name a folder beside it"));
        }
        let quarantine = quarantine.map(|sink| {
            let ctx = job.staging(sink.name());
            Quarantine::new(sink, ctx)
        });
        let mut settings = self.rules.settings(job, job.earlier_metrics(self.name()), quarantine, kept)?;
        let declared = self.inner.declared_schema();
        let sensitive = declared.iter().flat_map(|schema| schema.fields()).filter(|field| is_sensitive(field));
        settings.sensitive.extend(sensitive.map(|field| field.name().clone()));
        Ok(Auditor::new(settings))
    }
}

/// The refused rows of a sink, which stay if its audit fails. They are staged beside the transaction of the run.
struct Aside {
    job: JobContext,
    location: Location,
    journal: Arc<Twice>,
}

impl Aside {
    fn new(ctx: &StageContext, sink: &str) -> Result<Option<Self>> {
        let Some(folder) = &ctx.job().audit_options().keep else { return Ok(None) };
        let journal = Arc::new(Twice { run: ctx.job().clone(), own: MemoryJournal::default() });
        let job = JobContext::builder(&ctx.run().job).beside(ctx.job()).journal(journal.clone()).build()?;
        Ok(Some(Self { job, location: folder.join(sink), journal }))
    }

    fn rows(&self) -> Quarantine {
        let sink = ParquetDataset::new("refused", self.location.clone());
        Quarantine::new(Arc::new(sink), self.job.staging("refused"))
    }

    /// Makes the rows appear, or removes them. The location of those that appear.
    async fn settle(self, staged: Staged, keeps: bool) -> Result<Option<Location>> {
        if keeps && !staged.publish.is_empty() {
            self.job.publish(&staged.publish).await?;
            return Ok(Some(self.location));
        }
        discard(self.job.stores(), self.job.publishers(), &self.journal.own.noted()).await?;
        Ok(None)
    }
}

/// Notes what is to be discarded for the run, should it die, and for itself.
struct Twice {
    run: JobContext,
    own: MemoryJournal,
}

#[async_trait]
impl Journal for Twice {
    async fn note(&self, action: DiscardAction) -> Result<()> {
        self.own.note(action.clone()).await?;
        self.run.journal().note(action).await
    }
}

impl fmt::Debug for Twice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Twice")
    }
}

#[async_trait]
impl<S: Sink> Sink for Audited<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn location(&self) -> Option<Location> {
        self.inner.location()
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        self.inner.catalog_table()
    }

    fn is_audited(&self) -> bool {
        true
    }

    fn declared_schema(&self) -> Option<SchemaRef> {
        self.inner.declared_schema()
    }

    fn replaces(&self) -> bool {
        self.inner.replaces()
    }

    fn deletes(&self) -> bool {
        self.inner.deletes()
    }

    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged> {
        let aside = Aside::new(ctx, self.name())?;
        let auditor = self.auditor(ctx, aside.as_ref().map(Aside::rows), true)?;
        let schema: SchemaRef = Arc::new(rows.schema().as_arrow().clone());
        let observed = ctx.clone().with_observer(Arc::new(auditor.clone()));
        let mut staged = self.inner.stage(&observed, rows).await?;
        let saw_rows = auditor.has_begun();
        let finding = auditor.end(&schema).await?;
        if !saw_rows && (staged.report.rows > 0 || !staged.publish.is_empty()) {
            return Err(Error::unexpected("the sink has not written the rows that were audited")
                .with("written", staged.report.rows)
                .hint("a sink has to read its rows by `StageContext::execute` or `observe`"));
        }
        if let Some(quarantine) = &auditor.settings().quarantine {
            staged.publish.extend(quarantine.end().await?.publish);
        }
        let mut audit = judge(self.name(), auditor.settings(), &finding);
        audit.table = self.location().or_else(|| staged.location.clone()).map(|location| location.to_string());
        if let (Some(aside), Some(kept)) = (aside, &auditor.settings().kept) {
            audit.kept = aside.settle(kept.end().await?, !audit.passed()).await?;
        }
        ctx.job().add_audit(audit);
        Ok(staged)
    }

    async fn audit(&self, ctx: &StageContext, rows: DataFrame) -> Result<()> {
        let auditor = self.auditor(ctx, None, false)?;
        let schema: SchemaRef = Arc::new(rows.schema().as_arrow().clone());
        self.inner.audit(&ctx.clone().with_observer(Arc::new(auditor.clone())), rows).await?;
        let finding = auditor.end(&schema).await?;
        let mut audit = judge(self.name(), auditor.settings(), &finding);
        audit.table = self.location().map(|location| location.to_string());
        ctx.job().add_audit(audit);
        Ok(())
    }

    async fn conform(&self, ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        let rows = self.inner.conform(ctx, rows).await?;
        let settings = self.rules.settings(ctx.job(), BTreeMap::new(), None, None)?;
        let schema: SchemaRef = Arc::new(rows.schema().as_arrow().clone());
        match Program::compile(&settings, plain(&schema))?.0.first_error(&settings) {
            Some((number, why)) => {
                let rule = &settings.rules.rules[number - 1];
                Err(Error::usage(format!("rule {number} cannot be evaluated: {why}")).with("rule", rule))
            }
            None => Ok(rows),
        }
    }
}

#[async_trait]
impl<S: Source> Source for Audited<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn location(&self) -> Option<Location> {
        self.inner.location()
    }

    fn catalog_table(&self) -> Option<NamedTable> {
        self.inner.catalog_table()
    }

    fn has_files_beside(&self) -> bool {
        self.inner.has_files_beside()
    }

    fn is_bookmarked(&self) -> bool {
        self.inner.is_bookmarked()
    }

    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame> {
        let rows = self.inner.load(ctx).await?;
        let job = ctx.job();
        let incoming = Incoming::new(Source::name(self), Source::location(self), &self.rules, job, rows)?;
        job.add_pending_audit(incoming.clone());
        incoming.frame()
    }

    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        self.inner.schema(ctx).await
    }

    async fn conform(&self, ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        self.rules.check()?;
        self.inner.conform(ctx, rows).await
    }
}
