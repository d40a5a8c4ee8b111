//! The environment of a job under test.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::error::DataFusionError;
use datafusion::prelude::DataFrame;
use hardtack_core::{Clock, Context, Error, Io, JobContext, Location, Reads, Result, Sink, Source, Window};

use crate::files::GivenFiles;
use crate::frame::Frame;

/// The environment of a job under test: sources yield the frames given for their names, saved rows are captured, calls
/// are recorded in order, and time is frozen. Plans are executed by the real DataFusion.
///
/// Contracts hold as in a real run. Given rows are coerced to the columns and types that their source declares, and
/// saved rows to those of their sink. Everything that a real run would refuse is refused: a value that does not fit, a
/// null in a required column, a missing column that the sink partitions or sorts by. A table of the catalog has the
/// columns that the job declares or creates it with. A column that a source does not have cannot be given.
///
/// Loading a source that was not given is an error for the job and fails the test; so does a given source that the job
/// never loads. [`TestContext::finish`] checks both, as does dropping the context.
///
/// ```
/// mod job {
///     # use async_trait::async_trait;
///     # use datafusion::prelude::*;
///     # use hardtack_core::{LoadContext, Source, Sink, StageContext, Staged};
///     use hardtack_core::{Context, Result};
///
///     pub async fn main(ctx: &Context<()>) -> Result<()> {
///         let books = ctx.load(Books).await?;
///         ctx.save(Titles, books.select_columns(&["title"])?).await
///     }
///     # #[derive(Debug)] struct Books;
///     # #[async_trait] impl Source for Books {
///     #     fn name(&self) -> &str { "books" }
///     #     async fn load(&self, _: &LoadContext) -> Result<DataFrame> { unreachable!() }
///     # }
///     # #[derive(Debug)] struct Titles;
///     # #[async_trait] impl Sink for Titles {
///     #     fn name(&self) -> &str { "titles" }
///     #     async fn stage(&self, _: &StageContext, _: DataFrame) -> Result<Staged> { unreachable!() }
///     # }
/// }
///
/// use hardtack_test_support::{TestContext, assert_frame, rows};
///
/// # #[tokio::main(flavor = "current_thread")]
/// async fn saves_the_titles() {
///     let test = TestContext::new(()).given("books", rows! {
///         title,      author;
///         "Catch 22", "Joseph Heller";
///         "Dune",     "Frank Herbert";
///     });
///
///     job::main(test.ctx()).await.unwrap();
///
///     assert_frame(test.saved("titles"), rows! { title; "Catch 22"; "Dune" });
///     assert_eq!(test.calls(), ["load books", "save titles"]);
/// }
/// # fn main() { saves_the_titles() }
/// ```
pub struct TestContext<A> {
    context: OnceLock<(Context<A>, JobContext)>,
    args: Mutex<Option<A>>,
    world: Arc<World>,
    bookmarks: BTreeMap<String, serde_json::Value>,
    files: GivenFiles,
    window: Option<Window>,
    finished: bool,
}

impl<A> TestContext<A> {
    /// The frozen time, unless [`TestContext::at`] sets another: `2026-01-02T03:04:05Z`.
    pub const NOW: &'static str = "2026-01-02T03:04:05Z";

    /// The id of the run.
    pub const RUN_ID: &'static str = "test-run";

    /// Creates an environment in which the job has these arguments.
    pub fn new(args: A) -> Self {
        let world = World { now: Mutex::new(moment(Self::NOW)), ..World::default() };
        Self {
            context: OnceLock::new(),
            args: Mutex::new(Some(args)),
            world: Arc::new(world),
            bookmarks: BTreeMap::new(),
            files: GivenFiles::default(),
            window: None,
            finished: false,
        }
    }

    /// Sets what the source of this name yields: a [`Frame`] or an [`Error`].
    ///
    /// # Panics
    /// If the source was given before.
    #[must_use]
    #[track_caller]
    pub fn given(self, source: &str, rows: impl Into<Given>) -> Self {
        if self.world.state().given.insert(source.to_owned(), rows.into()).is_some() {
            panic!("the source `{source}` was given twice");
        }
        self
    }

    /// Adds a file with its time of modification. Sources for which no rows are given then read for real, from such files
    /// only; they can be anywhere (`s3://lake/...`). This is how the sources of an incremental job are tested:
    ///
    /// ```
    /// # use hardtack_test_support::TestContext;
    /// let test = TestContext::new(())
    ///     .given_file("s3://lake/clicks/1.json", r#"{"id": 1}"#, "2026-11-28T17:00:00Z")
    ///     .given_file("s3://lake/clicks/2.json", r#"{"id": 2}"#, "2026-11-28T17:05:00Z");
    /// // main(test.ctx()).await, and then another run, which finds one more file:
    /// let test = test.next_run(()).given_file("s3://lake/clicks/3.json", r#"{"id": 3}"#, "2026-11-28T18:00:00Z");
    /// # drop(test);
    /// ```
    ///
    /// # Panics
    /// If `time` is not in RFC 3339 format, or the location is not a URL.
    #[must_use]
    #[track_caller]
    pub fn given_file(self, location: impl Into<Location>, content: impl Into<Bytes>, time: &str) -> Self {
        let location = location.into();
        assert!(location.scheme().is_some(), "`{location}` is not a URL such as `s3://lake/clicks/1.json`");
        self.files.add(&location, content.into(), moment(time));
        self
    }

    /// The next run of the job: it finds the same files and the bookmarks that this run leaves. No rows are given.
    ///
    /// # Panics
    /// As [`TestContext::finish`].
    #[must_use]
    #[track_caller]
    pub fn next_run(mut self, args: A) -> Self {
        self.check();
        let mut next = Self::new(args);
        *next.world.now.lock().unwrap_or_else(PoisonError::into_inner) = self.world.now();
        (next.bookmarks, next.files) = (self.job().bookmarks_after(), self.files.clone());
        next
    }

    /// The bookmark that the job leaves for the source of this name, if any.
    ///
    /// # Panics
    /// If no session can be created.
    pub fn bookmark(&self, source: &str) -> Option<serde_json::Value> {
        self.job().bookmarks_after().remove(source)
    }

    /// Sets the bookmark that the last run left for the source of this name.
    #[must_use]
    pub fn given_bookmark(mut self, source: &str, position: serde_json::Value) -> Self {
        self.bookmarks.insert(source.to_owned(), position);
        self
    }

    /// Sets the window that the run processes: from `start` up to, but not including, `end`.
    ///
    /// ```
    /// use hardtack_test_support::TestContext;
    ///
    /// let test = TestContext::new(()).window("2024-01-31", "2024-02-01");
    /// assert_eq!(test.ctx().window().unwrap().to_string(), "2024-01-31 to 2024-02-01");
    /// ```
    ///
    /// # Panics
    /// If one is neither a date nor a time in RFC 3339 format, or if the window does not start before it ends.
    #[must_use]
    #[track_caller]
    pub fn window(mut self, start: &str, end: &str) -> Self {
        let bounds = hardtack_core::moment(start).and_then(|start| Ok((start, hardtack_core::moment(end)?)));
        match bounds.and_then(|(start, end)| Window::new(start, end)) {
            Ok(window) => self.window = Some(window),
            Err(e) => panic!("{e}"),
        }
        self
    }

    /// Sets the frozen time.
    ///
    /// # Panics
    /// If `time` is not in RFC 3339 format, such as `2026-11-21T04:00:00Z`.
    #[must_use]
    #[track_caller]
    pub fn at(self, time: &str) -> Self {
        self.set_now(time);
        self
    }

    /// Like [`TestContext::at`], to let time pass in the middle of a test.
    ///
    /// # Panics
    /// If `time` is not in RFC 3339 format, such as `2026-11-21T04:00:00Z`.
    #[track_caller]
    pub fn set_now(&self, time: &str) {
        *self.world.now.lock().unwrap_or_else(PoisonError::into_inner) = moment(time);
    }

    /// The context to call the job's `main` with.
    ///
    /// # Panics
    /// If no session can be created.
    pub fn ctx(&self) -> &Context<A> {
        &self.contexts().0
    }

    /// The context that the job's sources and sinks get, with the bookmarks that they leave.
    ///
    /// # Panics
    /// If no session can be created.
    pub fn job(&self) -> &JobContext {
        &self.contexts().1
    }

    fn contexts(&self) -> &(Context<A>, JobContext) {
        self.context.get_or_init(|| {
            let args = self.args.lock().unwrap_or_else(PoisonError::into_inner).take();
            let mut job = JobContext::builder("test")
                .run_id(Self::RUN_ID.parse().expect("a valid id"))
                // Two on any machine, so that plans are the same everywhere and rows come in more than one stream.
                .threads(2)
                .io(Arc::clone(&self.world) as Arc<dyn Io>)
                .clock(Arc::clone(&self.world) as Arc<dyn Clock>)
                .bookmarks(self.bookmarks.clone())
                .window(self.window);
            for scheme in self.files.schemes() {
                job = job.store_factory(scheme, Arc::new(self.files.clone()));
            }
            self.world.state().reads_files = !self.files.is_empty();
            let job = job.build().expect("a session of defaults");
            (Context::new(args.expect("taken once, here"), job.clone()), job)
        })
    }

    /// The job's arguments.
    pub fn args(&self) -> &A {
        self.ctx().args()
    }

    /// The rows saved to the sink of this name.
    ///
    /// # Panics
    /// If nothing was saved to it; the message names the sinks that were saved to.
    #[track_caller]
    pub fn saved(&self, sink: &str) -> Frame {
        self.saved_as(sink).0
    }

    /// The plan of the rows saved to the sink of this name, for snapshots by [`logical_plan`](crate::logical_plan) and
    /// the like.
    ///
    /// # Panics
    /// If nothing was saved to it.
    #[track_caller]
    pub fn saved_plan(&self, sink: &str) -> DataFrame {
        self.saved_as(sink).1
    }

    #[track_caller]
    fn saved_as(&self, sink: &str) -> (Frame, DataFrame) {
        let saved = self.world.state().saved.get(sink).cloned();
        saved.unwrap_or_else(|| {
            let names = list(self.world.state().saved.keys());
            panic!("nothing was saved to the sink `{sink}`; sinks with rows: {names}")
        })
    }

    /// All loads and saves, in call order.
    pub fn calls(&self) -> Vec<Call> {
        self.world.state().calls.clone()
    }

    /// The `Debug` output of the source of this name, as the job used it; compare it with `format!("{source:?}")`.
    ///
    /// # Panics
    /// If the job did not load it.
    #[track_caller]
    pub fn source(&self, name: &str) -> String {
        self.value("load", name)
    }

    /// The `Debug` output of the sink of this name, as the job used it; compare it with `format!("{sink:?}")`.
    ///
    /// # Panics
    /// If the job did not save to it.
    #[track_caller]
    pub fn sink(&self, name: &str) -> String {
        self.value("save", name)
    }

    #[track_caller]
    fn value(&self, action: &'static str, name: &str) -> String {
        let calls = self.calls();
        let call = calls.iter().find(|call| call.action == action && call.name == name);
        call.map(|call| call.value.clone()).unwrap_or_else(|| {
            panic!("there was no call `{action} {name}`; calls: {}", list(calls.iter().map(ToString::to_string)))
        })
    }

    /// Ends the test: fails it if the job loaded a source that was not given, or did not load one that was. Dropping
    /// the context does the same.
    ///
    /// # Panics
    /// If so.
    #[track_caller]
    pub fn finish(mut self) {
        self.check();
    }

    #[track_caller]
    fn check(&mut self) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        let state = self.world.state();
        let loaded = |name: &String| state.calls.iter().any(|call| call.action == "load" && call.name == *name);
        let mut complaints = state.complaints.clone();
        for name in state.given.keys().filter(|name| !loaded(name)) {
            complaints.push(format!("the source `{name}` was given, but never loaded"));
        }
        drop(state);
        if !complaints.is_empty() {
            panic!("{}", complaints.join("\n"));
        }
    }
}

impl<A> Drop for TestContext<A> {
    fn drop(&mut self) {
        // A failing test should show its own failure, and a second panic would abort the process.
        if !std::thread::panicking() {
            self.check();
        }
    }
}

impl<A: fmt::Debug> fmt::Debug for TestContext<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestContext").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

/// The result of loading a source in a test: rows or an error.
#[derive(Debug)]
pub struct Given(Result<Frame, Arc<DataFusionError>>);

impl<T: Into<Frame>> From<T> for Given {
    fn from(rows: T) -> Self {
        Self(Ok(rows.into()))
    }
}

impl From<Error> for Given {
    fn from(error: Error) -> Self {
        Self(Err(Arc::new(error.into())))
    }
}

/// A recorded `ctx.load` or `ctx.save`. It prints as `load books` or `save books`, and equals that text.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// `load` or `save`.
    pub action: &'static str,
    /// The name of the source or sink.
    pub name: String,
    /// The `Debug` output of the source or sink.
    pub value: String,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.name)
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl PartialEq<&str> for Call {
    fn eq(&self, other: &&str) -> bool {
        other.split_once(' ') == Some((self.action, self.name.as_str()))
    }
}

#[derive(Debug, Default)]
struct World {
    now: Mutex<DateTime<Utc>>,
    state: Mutex<State>,
    reads: Reads,
}

#[derive(Debug, Default)]
struct State {
    given: BTreeMap<String, Given>,
    saved: BTreeMap<String, (Frame, DataFrame)>,
    calls: Vec<Call>,
    complaints: Vec<String>,
    /// Whether sources without given rows read.
    reads_files: bool,
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for World {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Io for World {
    async fn load(&self, ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        let (name, value) = (source.name().to_owned(), format!("{source:?}"));
        let frame = self.state().given(&name, value)?;
        let Some(frame) = frame else {
            let rows = source.load(&ctx.loading(&name)).await.map_err(|e| e.with("source", &name))?;
            self.reads.loaded(source, &rows);
            return Ok(rows);
        };
        let rows = frame.clone().named(&name).to_df(ctx.session());
        let conformed = source.conform(&ctx.loading(&name), rows).await.map_err(|e| e.with("source", &name))?;
        let schema = conformed.schema().as_arrow();
        if let Some(extra) = frame.schema().fields().iter().find(|f| schema.field_with_name(f.name()).is_err()) {
            let (extra, columns) = (extra.name(), list(schema.fields().iter().map(|f| f.name())));
            let complaint = format!("the test gave the source `{name}` a column `{extra}`, but it has only {columns}");
            return Err(self.state().complain(complaint));
        }
        // Collected now, so that a value that does not fit is reported for the source, and not for the job's result.
        let frame = Frame::collect(conformed).await.map_err(|e| e.with("source", &name))?;
        let rows = frame.named(&name).to_df(ctx.session());
        self.reads.loaded(source, &rows);
        Ok(rows)
    }

    async fn persist(&self, ctx: &JobContext, rows: DataFrame) -> Result<DataFrame> {
        let shared = ctx.persisted(rows.clone())?;
        self.reads.persisted(&rows, &shared);
        Ok(shared)
    }

    async fn save(&self, ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        let (name, value) = (sink.name().to_owned(), format!("{sink:?}"));
        self.state().record("save", &name, value)?;
        self.reads.check(ctx, sink, &rows)?;
        let stored = sink.conform(&ctx.staging(&name), rows.clone()).await.map_err(|e| e.with("sink", &name))?;
        let frame = Frame::collect(stored).await.map_err(|e| e.with("sink", &name))?;
        if sink.is_audited() {
            let rows = frame.to_df(ctx.session());
            sink.audit(&ctx.staging(&name), rows).await.map_err(|e| e.with("sink", &name))?;
        }
        self.state().saved.insert(name, (frame, rows));
        Ok(())
    }
}

impl State {
    /// The frame that the test gave for the source that the job loads; none if it reads files.
    fn given(&mut self, name: &str, value: String) -> Result<Option<Frame>> {
        self.record("load", name, value)?;
        match self.given.get(name) {
            Some(Given(Ok(frame))) => Ok(Some(frame.clone())),
            // An error cannot be cloned, but one shared by DataFusion can be recovered from it.
            Some(Given(Err(error))) => {
                Err(Error::from(DataFusionError::Shared(Arc::clone(error))).with("source", name))
            }
            None if self.reads_files => Ok(None),
            None => {
                let given = list(self.given.keys());
                Err(self.complain(format!(
                    "the job loaded the source `{name}`, which the test did not give; given: {given}"
                )))
            }
        }
    }

    /// Fails the test, and the job as well.
    fn complain(&mut self, complaint: String) -> Error {
        self.complaints.push(complaint.clone());
        Error::unexpected(complaint)
    }

    /// Records a call. Like a real run, refuses two sources or sinks of one name.
    fn record(&mut self, action: &'static str, name: &str, value: String) -> Result<()> {
        let twin =
            self.calls.iter().any(|c| c.action == action && c.name == name && (action == "save" || c.value != value));
        self.calls.push(Call { action, name: name.to_owned(), value });
        if twin {
            let what = if action == "load" { "sources" } else { "sinks" };
            return Err(Error::usage(format!(
                "two {what} of this job are named `{name}`; a name is an identity, give each its own"
            )));
        }
        Ok(())
    }
}

#[track_caller]
fn moment(time: &str) -> DateTime<Utc> {
    match time.parse() {
        Ok(time) => time,
        Err(e) => panic!("`{time}` is not a time such as `2026-11-21T04:00:00Z`: {e}"),
    }
}

fn list(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
