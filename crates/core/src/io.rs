//! The contracts: sources, sinks, and the one place where both meet the world.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};

use crate::actions::PublishAction;
use crate::context::{JobContext, LoadContext, StageContext};
use crate::reads::Reads;
use crate::{Error, Location, Result};

/// A source of rows. It is a value: it says where and how to read, can be compared and printed, and touches nothing
/// until it is loaded. It does not process rows.
#[async_trait]
pub trait Source: Debug + Send + Sync {
    /// The source's identity within the job: test doubles, bookmarks, metrics and lineage use it.
    fn name(&self) -> &str;

    /// The location of the rows, if there is a single one; for summaries, dry runs and lineage.
    fn location(&self) -> Option<Location> {
        None
    }

    /// Whether files next to its location belong to it whose names begin as that: `encounters.csv.gz` to `encounters`.
    fn has_files_beside(&self) -> bool {
        false
    }

    /// The table of the catalog that it is, if it is one; for tools that ask a job what it reads.
    fn catalog_table(&self) -> Option<NamedTable> {
        None
    }

    /// Whether a run reads only what came after the [bookmark](crate::bookmarks) of the run before it.
    fn is_bookmarked(&self) -> bool {
        false
    }

    /// The rows, as a plan that reads when it is executed.
    ///
    /// # Errors
    /// [`NotFound`](crate::ErrorKind::NotFound) if there is nothing to read, [`Refused`](crate::ErrorKind::Refused) if
    /// it does not fit the declared schema; either may also occur during execution.
    async fn load(&self, ctx: &LoadContext) -> Result<DataFrame>;

    /// The schema of the rows. Sources with a declared schema answer without touching data; a dry run relies on it.
    ///
    /// # Errors
    /// Those of [`Source::load`].
    async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef> {
        Ok(Arc::new(self.load(ctx).await?.schema().as_arrow().clone()))
    }

    /// Applies this source's contract to rows in its place, for example in a unit test: they get the declared columns
    /// and types. Nothing is read.
    ///
    /// # Errors
    /// [`Refused`](crate::ErrorKind::Refused) as for rows that are read, at once or during execution.
    async fn conform(&self, _ctx: &LoadContext, rows: DataFrame) -> Result<DataFrame> {
        Ok(rows)
    }
}

/// A table of the catalog that a source or sink is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTable {
    /// The name of its database.
    pub database: String,
    /// Its name.
    pub table: String,
    /// Where it is created if it is missing.
    pub created_at: Option<Location>,
}

/// A sink of rows. It is a value like a source; it stores rows and does not process them.
#[async_trait]
pub trait Sink: Debug + Send + Sync {
    /// The sink's identity within the job.
    fn name(&self) -> &str;

    /// The location of the rows once they are published, if there is a single one; for summaries, dry runs and lineage.
    fn location(&self) -> Option<Location> {
        None
    }

    /// The table of the catalog that it is, if it is one; for tools that ask a job what it writes.
    fn catalog_table(&self) -> Option<NamedTable> {
        None
    }

    /// Whether saving leaves only the rows that are saved, so that those of earlier runs are lost unless they are among
    /// them. Rows of a [bookmarked](Source::is_bookmarked) source cannot be saved to such a sink.
    fn replaces(&self) -> bool {
        false
    }

    /// Whether a run may delete objects at its location: files that it replaces, or files that it has written and gives up.
    /// Staged uploads are not objects yet. For tools that derive what a job must be allowed to do.
    fn deletes(&self) -> bool {
        true
    }

    /// The schema that it was declared with, if it was.
    fn declared_schema(&self) -> Option<SchemaRef> {
        None
    }

    /// Whether rules gate what it saves.
    fn is_audited(&self) -> bool {
        false
    }

    /// Makes `rows` durable but invisible, and returns the actions that make them visible.
    ///
    /// Everything that remains if the process dies here must have been noted in [`StageContext::journal`] before.
    ///
    /// # Errors
    /// [`Refused`](crate::ErrorKind::Refused) if the rows do not fit the declared schema, or any error of the plan.
    async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged>;

    /// Audits rows in place of [`stage`](Sink::stage), for runs that write nothing: adds to the run what rules say about
    /// the rows as they would be stored. A sink without rules computes the rows.
    ///
    /// # Errors
    /// Those of `stage`. Rules that fail are not an error here; see [`JobContext::audit`].
    async fn audit(&self, ctx: &StageContext, rows: DataFrame) -> Result<()> {
        let rows = self.conform(ctx, rows).await?;
        let mut rows = ctx.execute(rows).await?;
        while rows.try_next().await.map_err(Error::from)?.is_some() {}
        Ok(())
    }

    /// The rows as they would be stored, with the checks of [`stage`](Sink::stage), for unit tests and dry runs.
    /// Nothing is written.
    ///
    /// # Errors
    /// [`Refused`](crate::ErrorKind::Refused) and [`Usage`](crate::ErrorKind::Usage) as for `stage`, at once or during
    /// execution.
    async fn conform(&self, _ctx: &StageContext, rows: DataFrame) -> Result<DataFrame> {
        Ok(rows)
    }
}

/// The result of staging.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Files, rows and bytes.
    pub report: Report,
    /// The actions that make it visible, in any order; see [`Phase`](crate::actions::Phase).
    pub publish: Vec<PublishAction>,
    /// The location of the rows, for a sink that only knows it after a look-up (a table of the catalog).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// The amount that a sink has written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Files.
    pub files: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes as stored.
    pub bytes: u64,
}

/// The single place through which a job touches the world: the implementation of `ctx.load` and `ctx.save`. A test, a
/// dry run or a recorder provides its own.
#[async_trait]
pub trait Io: Debug + Send + Sync {
    /// Implements `ctx.load(source)`.
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame>;

    /// Implements `ctx.save(sink, rows)`.
    async fn save(&self, ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()>;

    /// Implements `ctx.persist(rows)`.
    async fn persist(&self, ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
        ctx.persisted(rows)
    }

    /// A final check after `main` has ended and all rows are staged, before the commit.
    ///
    /// # Errors
    /// An error stops the run; nothing of it becomes visible.
    async fn audit(&self, _ctx: &JobContext) -> Result<()> {
        Ok(())
    }
}

/// The `Io` of a real run: sources load, sinks stage, and the results are kept for the commit.
#[derive(Debug, Default)]
pub struct StagingIo {
    loaded: Mutex<Vec<(String, String)>>,
    staged: Mutex<Vec<StagedSink>>,
    saving: Mutex<Vec<String>>,
    reads: Reads,
}

/// A sink that has staged its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct StagedSink {
    /// The sink's name.
    pub name: String,
    /// The location of its rows.
    pub location: Option<Location>,
    /// Its result.
    pub staged: Staged,
}

impl StagingIo {
    /// The results of the sinks so far, in the order of completion.
    pub fn staged(&self) -> Vec<StagedSink> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Io for StagingIo {
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        let (name, value) = (source.name().to_owned(), format!("{source:?}"));
        {
            let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            match loaded.iter().find(|(n, _)| *n == name) {
                Some((_, other)) if *other != value => return Err(duplicate("sources", &name)),
                Some(_) => {}
                None => loaded.push((name.clone(), value)),
            }
        }
        let start = Instant::now();
        let rows = source.load(&ctx.loading(&name)).await.map_err(|e| e.with("source", &name))?;
        self.reads.loaded(source, &rows);
        ctx.meters().source(&name).add_time(start.elapsed());
        Ok(rows)
    }

    async fn save(&self, ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        let name = sink.name().to_owned();
        {
            let mut saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
            if saving.contains(&name) {
                return Err(duplicate("sinks", &name));
            }
            saving.push(name.clone());
        }
        self.reads.check(ctx, sink, &rows)?;
        self.reads.log(&format!("the sink `{name}`"), &rows);
        let start = Instant::now();
        let staged = sink.stage(&ctx.staging(&name), rows).await.map_err(|e| ctx.explain(e).with("sink", &name))?;
        ctx.meters().sink(&name).add_time(start.elapsed());
        tracing::debug!(sink = name, files = staged.report.files, rows = staged.report.rows, "staged");
        self.staged.lock().unwrap_or_else(PoisonError::into_inner).push(StagedSink {
            location: sink.location().or_else(|| staged.location.clone()),
            name,
            staged,
        });
        Ok(())
    }

    async fn persist(&self, ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
        self.reads.log("persisted rows", &rows);
        let shared = ctx.persisted(rows.clone())?;
        self.reads.persisted(&rows, &shared);
        Ok(shared)
    }
}

fn duplicate(what: &str, name: &str) -> Error {
    Error::usage(format!("two {what} of this job are named `{name}`; a name is an identity, give each its own"))
}
