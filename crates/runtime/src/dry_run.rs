//! Shows what a job would do, without doing it; and what it is.

use std::fmt;
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::datasource::{empty::EmptyTable, provider_as_source};
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::prelude::DataFrame;
use futures::FutureExt;
use hardtack_catalog::{CatalogOf, TableDescription};
use hardtack_core::{Context, Error, ErrorKind, Io, JobContext, Location, NamedTable, Reads, Result, Sink, Source};
use hardtack_state::Ledger;
use hardtack_tables::base_of;

use crate::args::RuntimeArgs;
use crate::definition::JobDefinition;
use crate::describe::{ArgumentDescription, ColumnDescription, JobDescription, SinkDescription, SourceDescription};
use crate::environment::{open_context, open_state};
use crate::outcome::panicked;

/// Calls `main` with empty frames of the real schemas, and prints its sources, sinks, schemas and plans. A source with
/// a declared schema is only checked for something to read; any other is read as far as inferring its schema requires.
///
/// # Errors
/// Errors of `main`, and of sources that cannot be read: they are printed, and the dry run continues as far as
/// possible.
pub(crate) async fn dry_run<A>(
    job: &str,
    args: A,
    options: &RuntimeArgs,
    main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
) -> Result<()> {
    let Dry { base, seen, unreadable, stateless, done } = Dry::run(job, args, options, main).await?;
    if let Some(error) = stateless {
        return Err(error);
    }
    let mut text = format!("dry run of {job}: no rows are read, nothing is written or recorded\n");
    if let Some(window) = base.run().window {
        text.push_str(&format!("window {window} (in the scope {})\n", options.scope));
    }
    seen.iter().for_each(|seen| text.push_str(&seen.to_string()));
    let _ = std::io::stdout().write_all(text.as_bytes());
    done.and(unreadable.map_or(Ok(()), Err))
}

/// Describes a job, with what a dry run finds. What cannot be found out here is a problem in the description, and no error.
///
/// # Errors
/// Usage for options that no run could have.
pub(crate) async fn describe<A>(
    job: &JobDefinition,
    args: A,
    arguments: Vec<ArgumentDescription>,
    options: &RuntimeArgs,
    main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
) -> Result<JobDescription> {
    let Dry { base, seen, unreadable: _, stateless, done } = Dry::run(&job.name, args, options, main).await?;
    let (mut sources, mut sinks) = (Vec::new(), Vec::new());
    let mut problems: Vec<String> = stateless.into_iter().map(|e| format!("bookmarks: {}", e.chain())).collect();
    for Seen { kind, name, location, table, schema, problem, .. } in seen {
        let columns = ColumnDescription::of(&schema);
        let mut is_iceberg = false;
        let (location, table) = match table {
            Some(table) => {
                let (there, why) = found(&base, &table).await;
                problems.extend(why.map(|why| format!("{}.{}: {why}", table.database, table.table)));
                is_iceberg = there.as_ref().is_some_and(TableDescription::is_iceberg);
                let there = there.and_then(|there| base_of(&there).ok());
                let at = there.or_else(|| table.created_at.clone()).or(location);
                (at, Some(format!("{}.{}", table.database, table.table)))
            }
            None => (location, None),
        };
        // As it is for every working directory.
        let location = location.map(|location| location.absolute().unwrap_or(location));
        problems.extend(problem.map(|problem| format!("{name}: {problem}")));
        match kind {
            Kind::Source { bookmarked, files_beside } => {
                sources.push(SourceDescription { name, table, location, files_beside, bookmarked, columns });
            }
            Kind::Sink { replaces, deletes, audited } => {
                // Files of an Iceberg table are there before it is decided whether they belong to it.
                let deletes = deletes || is_iceberg;
                sinks.push(SinkDescription { name, table, location, replaces, deletes, audited, columns });
            }
            Kind::Persisted => {}
        }
    }
    problems.extend(done.err().map(|e| e.chain()));
    Ok(JobDescription { job: job.clone(), arguments, sources, sinks, problems })
}

/// The table of the catalog, if it is there; and why that is not known.
async fn found(ctx: &JobContext, table: &NamedTable) -> (Option<TableDescription>, Option<String>) {
    let found = async { ctx.catalog().await?.get_table(&table.database, &table.table).await };
    match found.await {
        Ok(there) => (Some(there), None),
        Err(e) if e.kind() == ErrorKind::NotFound => (None, None),
        Err(e) => (None, Some(e.chain())),
    }
}

/// What a dry run has found.
struct Dry {
    base: JobContext,
    seen: Vec<Seen>,
    /// The error of the first source that cannot be read.
    unreadable: Option<Error>,
    /// Why the bookmarks are not known.
    stateless: Option<Error>,
    done: Result<()>,
}

impl Dry {
    async fn run<A>(
        job: &str,
        args: A,
        options: &RuntimeArgs,
        main: impl AsyncFnOnce(&Context<A>) -> Result<()>,
    ) -> Result<Self> {
        let io = Arc::new(DryRunIo::default());
        let base = open_context(job, options)?;
        let ledger = Ledger::new(open_state(base.stores(), &options.records.state)?, job, &options.scope);
        let (last, stateless) = match ledger.newest_bookmarks().await {
            Ok(newest) => (newest.map(|entry| entry.bookmarks).unwrap_or_default(), None),
            Err(error) => (Default::default(), Some(error)),
        };
        let again = options.bookmarks.reprocess(&ledger).await?;
        let ctx = JobContext::builder(job)
            .share(&base)
            .run(base.run().clone())
            .bookmarks(options.bookmarks.bookmarks(last, again))
            .io(io.clone())
            .build()?;
        let done = AssertUnwindSafe(main(&Context::new(args, ctx))).catch_unwind().await;
        let done = done.unwrap_or_else(|panic| Err(panicked(&*panic)));
        let seen = std::mem::take(&mut *io.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let unreadable = io.unreadable.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Self { base, seen, unreadable, stateless, done })
    }
}

#[derive(Debug, Default)]
struct DryRunIo {
    seen: Mutex<Vec<Seen>>,
    reads: Reads,
    /// The error of the first source that cannot be read.
    unreadable: Mutex<Option<Error>>,
}

/// What `main` has loaded, saved or persisted.
#[derive(Debug)]
struct Seen {
    kind: Kind,
    name: String,
    location: Option<Location>,
    table: Option<NamedTable>,
    /// How it debugs.
    value: String,
    problem: Option<String>,
    schema: SchemaRef,
    plan: Option<String>,
    notes: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Source { bookmarked: bool, files_beside: bool },
    Sink { replaces: bool, deletes: bool, audited: bool },
    Persisted,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            Kind::Source { .. } => "source",
            Kind::Sink { .. } => "sink",
            Kind::Persisted => "persisted",
        };
        let place = self.location.as_ref().map(|l| format!(" ({l})")).unwrap_or_default();
        writeln!(f, "\n{what} {}{place}\n  {}", self.name, self.value)?;
        if let Some(problem) = &self.problem {
            writeln!(f, "  problem: {problem}")?;
        }
        writeln!(f, "  columns")?;
        for field in self.schema.fields() {
            let null = if field.is_nullable() { "" } else { " not null" };
            writeln!(f, "    {}: {}{null}", field.name(), field.data_type())?;
        }
        if let Some(plan) = &self.plan {
            writeln!(f, "  plan")?;
            plan.lines().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  note: {note}"))
    }
}

impl DryRunIo {
    fn say(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    fn source(&self, source: &dyn Source, schema: &SchemaRef, problem: Option<String>) {
        self.say(Seen {
            kind: Kind::Source { bookmarked: source.is_bookmarked(), files_beside: source.has_files_beside() },
            name: source.name().to_owned(),
            location: source.location(),
            table: source.catalog_table(),
            value: format!("{source:?}"),
            problem,
            schema: Arc::clone(schema),
            plan: None,
            notes: Vec::new(),
        });
    }

    /// Warns if the run would read a source twice.
    fn note_reads(&self, reader: &str, rows: &DataFrame) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = seen.last_mut() {
            last.notes.extend(self.reads.read(reader, rows).into_iter().map(|advice| advice.to_string()));
        }
    }
}

fn no_rows(ctx: &JobContext, name: &str, schema: SchemaRef) -> Result<DataFrame> {
    let table = provider_as_source(Arc::new(EmptyTable::new(schema)));
    let plan = LogicalPlanBuilder::scan(name, table, None)?.build()?;
    Ok(DataFrame::new(ctx.session().state(), plan))
}

#[async_trait]
impl Io for DryRunIo {
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        let name = source.name();
        // Loading does not execute anything: files are listed, not read.
        let schema: SchemaRef = match source.load(&ctx.loading(name)).await {
            Ok(rows) => Arc::new(rows.schema().as_arrow().clone()),
            Err(e) => {
                let e = e.with("source", name);
                let Ok(schema) = source.schema(&ctx.loading(name)).await else {
                    // Its schema is not known, but what it is.
                    self.source(source, &Arc::new(Schema::empty()), None);
                    return Err(e);
                };
                self.source(source, &schema, Some(e.chain()));
                self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                return no_rows(ctx, name, schema);
            }
        };
        self.source(source, &schema, None);
        let rows = no_rows(ctx, name, schema)?;
        self.reads.loaded(source, &rows);
        Ok(rows)
    }

    async fn persist(&self, ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
        let plan = rows.logical_plan().display_indent().to_string();
        self.say(Seen {
            kind: Kind::Persisted,
            name: "rows".to_owned(),
            location: None,
            table: None,
            value: "computed once".to_owned(),
            problem: None,
            schema: Arc::new(rows.schema().as_arrow().clone()),
            plan: Some(plan),
            notes: Vec::new(),
        });
        self.note_reads("persisted rows", &rows);
        let shared = ctx.persisted(rows.clone())?;
        self.reads.persisted(&rows, &shared);
        Ok(shared)
    }

    async fn save(&self, ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        self.say(Seen {
            kind: Kind::Sink { replaces: sink.replaces(), deletes: sink.deletes(), audited: sink.is_audited() },
            name: sink.name().to_owned(),
            location: sink.location(),
            table: sink.catalog_table(),
            value: format!("{sink:?}"),
            problem: None,
            schema: Arc::new(rows.schema().as_arrow().clone()),
            plan: Some(rows.logical_plan().display_indent().to_string()),
            notes: Vec::new(),
        });
        self.reads.check(ctx, sink, &rows)?;
        self.note_reads(&format!("the sink `{}`", sink.name()), &rows);
        sink.conform(&ctx.staging(sink.name()), rows).await.map_err(|e| e.with("sink", sink.name()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hardtack_catalog::{Column, Database, TableFormat};
    use hardtack_sinks::ParquetDataset;
    use hardtack_sources::JsonFiles;
    use hardtack_tables::Table;

    use super::*;

    fn schema() -> SchemaRef {
        use datafusion::arrow::datatypes::{DataType, Field};
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
    }

    /// A missing source is reported, and the rest of the job is still checked.
    #[tokio::test]
    async fn what_is_not_there_is_the_error_in_the_end() {
        let options = RuntimeArgs::default();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Location::from(folder.path()).join(name);
        let mut saved = false;
        let error = dry_run("job", (), &options, async |ctx: &Context<()>| {
            let rows = ctx.load(JsonFiles::new("a", at("nowhere")).with_schema(schema())).await?;
            let fine = ctx.load(JsonFiles::new("b", at("nowhere")).with_schema(schema()).or_empty()).await?;
            ctx.save(ParquetDataset::new("out", at("out")), rows.union(fine)?).await?;
            saved = true;
            Ok(())
        });
        let error = error.await.unwrap_err();
        assert_eq!((error.kind(), error.get("source")), (ErrorKind::NotFound, Some("a")));
        assert!(error.message().starts_with("no file to read"), "{error}");
        assert!(saved && !folder.path().join("out").exists());
    }

    /// A sink requires columns that the rows do not have.
    #[tokio::test]
    async fn what_a_sink_would_refuse_is_the_error() {
        let options = RuntimeArgs::default();
        let error = dry_run("job", (), &options, async |ctx: &Context<()>| {
            let rows = ctx.load(JsonFiles::new("a", "memory:/none").with_schema(schema()).or_empty()).await?;
            ctx.save(ParquetDataset::new("out", "memory:/out").partition_by(["m"]), rows).await
        });
        let error = error.await.unwrap_err();
        assert_eq!((error.kind(), error.get("sink")), (ErrorKind::Usage, Some("out")));
    }

    /// So that its author persists what the sinks share; then there is nothing to note.
    #[tokio::test]
    async fn a_source_that_two_sinks_read_is_noted() {
        for persists in [false, true] {
            let io = Arc::new(DryRunIo::default());
            let ctx = JobContext::builder("job").io(io.clone()).build().unwrap();
            let mut rows =
                ctx.load(JsonFiles::new("a", "memory:/none").with_schema(schema()).or_empty()).await.unwrap();
            if persists {
                rows = ctx.persist(rows).await.unwrap();
            }
            for sink in ["one", "two"] {
                ctx.save(ParquetDataset::new(sink, format!("memory:/{sink}")), rows.clone()).await.unwrap();
            }
            let note =
                "note: the source `a` is read by the sink `one` and again by the sink `two`; `ctx.persist(rows)`";
            let text: String = io.seen.lock().unwrap().iter().map(ToString::to_string).collect();
            assert_eq!(text.contains(note), !persists);
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_as_in_a_real_run() {
        let options = RuntimeArgs::default();
        let error = dry_run("job", (), &options, async |_: &Context<()>| panic!("oh no")).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unexpected, "the job panicked: oh no"));
    }

    /// What it reads and writes, and where tables are: as the catalog has them, or where they will be created.
    #[tokio::test]
    async fn a_job_is_described() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| Location::from(folder.path()).join(name);
        let options = RuntimeArgs::with_state(at("state"));
        let job = JobDefinition { name: "job".to_owned(), ..JobDefinition::default() };
        let new = TableDescription::new("lake", "out", &TableFormat::Parquet, at("lake/out"))
            .with_columns([Column::foreign("n", "bigint")]);
        let describe = async || {
            let sink = Table::named("lake", "out").overwrite().create_if_missing(new.clone());
            let described = describe(&job, (), Vec::new(), &options, async |ctx: &Context<()>| {
                let rows = ctx.load(JsonFiles::new("a", at("nowhere")).with_schema(schema())).await?;
                ctx.save(sink, ctx.persist(rows).await?).await?;
                Err(Error::refused("it ends so"))
            });
            described.await.unwrap()
        };
        let found = describe().await;
        let ([source], [sink]) = (&found.sources[..], &found.sinks[..]) else { panic!("{found:?}") };
        assert_eq!(
            (source.name.as_str(), source.location.clone(), source.bookmarked),
            ("a", Some(at("nowhere")), false)
        );
        assert_eq!(source.columns, [ColumnDescription { name: "n".into(), data_type: "Int64".into(), nullable: true }]);
        assert_eq!((sink.table.as_deref(), sink.location.clone()), (Some("lake.out"), Some(at("lake/out"))));
        assert!(sink.replaces && !sink.audited);
        assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
        assert!(found.problems[0].contains("no file to read") && found.problems[1].contains("it ends so"));
        assert!(!folder.path().join("lake").exists() && !folder.path().join("state").exists());

        // It comes back as it was printed.
        assert_eq!(JobDescription::parse(&found.to_json().unwrap()).unwrap(), found);
        let newer = JobDescription::parse(&found.to_json().unwrap().replace("\"format\": 1", "\"format\": 2"));
        assert_eq!(newer.unwrap_err().kind(), ErrorKind::Usage);
        assert!(JobDescription::parse("{}").is_err());

        // The catalog knows better.
        let catalog = open_context("job", &options).unwrap().catalog().await.unwrap();
        catalog.create_database(&Database::new("lake")).await.unwrap();
        let mut moved = new.clone();
        moved.storage.location = Some(at("moved"));
        catalog.create_table(&moved).await.unwrap();
        assert_eq!(describe().await.sinks[0].location, Some(at("moved")));
    }
}
