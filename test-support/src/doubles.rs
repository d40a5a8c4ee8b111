//! `mockall` doubles of the ports of `hardtack-core`, for strict expectations of call counts, order and arguments.
//!
//! Tests of jobs use [`TestContext`](crate::TestContext); these doubles are for tests of the code around jobs. They are
//! here instead of behind a feature of `core`, so that only tests compile them.
//!
//! ```
//! use std::sync::Arc;
//!
//! use hardtack_core::JobContext;
//! use hardtack_test_support::{MockIo, MockSink, MockSource, frame_that, rows};
//! use mockall::{Sequence, predicate::eq};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! let mut sequence = Sequence::new();
//! let mut io = MockIo::new();
//! io.expect_load().with(eq("books")).once().in_sequence(&mut sequence).returning(|_| Ok(rows! { title; "Dune" }.df()));
//! io.expect_save()
//!     .with(eq("titles"), frame_that(rows! { title; "Dune" }))
//!     .once()
//!     .in_sequence(&mut sequence)
//!     .returning(|_, _| Ok(()));
//! let ctx = JobContext::builder("test").io(Arc::new(io)).build()?;
//!
//! let mut books = MockSource::new();
//! books.expect_name().return_const("books".to_owned());
//! let mut titles = MockSink::new();
//! titles.expect_name().return_const("titles".to_owned());
//! let rows = ctx.load(books).await?;
//! ctx.save(titles, rows).await?;
//! # Ok::<(), hardtack_core::Error>(())
//! # }).unwrap();
//! ```
#![allow(missing_docs, reason = "what mockall generates is documented by mockall")]

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::prelude::DataFrame;
use hardtack_core::actions::{DiscardAction, Journal, PublishAction};
use hardtack_core::publish::Publisher;
use hardtack_core::staging::{StagedFile, Staging};
use hardtack_core::store::{Store, StoreFactory};
use hardtack_core::{Clock, Io, JobContext, LoadContext, Result, Run, Sink, Source, StageContext, Staged};
use mockall::mock;
use object_store::path::Path;
use url::Url;

mock! {
    #[derive(Debug)]
    pub Source {}
    #[async_trait]
    impl Source for Source {
        fn name(&self) -> &str;
        async fn load(&self, ctx: &LoadContext) -> Result<DataFrame>;
        async fn schema(&self, ctx: &LoadContext) -> Result<SchemaRef>;
    }
}

mock! {
    #[derive(Debug)]
    pub Sink {}
    #[async_trait]
    impl Sink for Sink {
        fn name(&self) -> &str;
        async fn stage(&self, ctx: &StageContext, rows: DataFrame) -> Result<Staged>;
    }
}

mock! {
    /// Identifies sources and sinks by name.
    #[derive(Debug)]
    pub Io {
        pub fn load(&self, source: &str) -> Result<DataFrame>;
        pub fn save(&self, sink: &str, rows: DataFrame) -> Result<()>;
    }
}

#[async_trait]
impl Io for MockIo {
    async fn load(&self, _ctx: &JobContext, source: &dyn Source) -> Result<DataFrame> {
        Self::load(self, source.name())
    }

    async fn save(&self, _ctx: &JobContext, sink: &dyn Sink, rows: DataFrame) -> Result<()> {
        Self::save(self, sink.name(), rows)
    }
}

mock! {
    #[derive(Debug)]
    pub Clock {}
    impl Clock for Clock {
        fn now(&self) -> DateTime<Utc>;
    }
}

mock! {
    #[derive(Debug)]
    pub Journal {}
    #[async_trait]
    impl Journal for Journal {
        async fn note(&self, action: DiscardAction) -> Result<()>;
    }
}

mock! {
    #[derive(Debug)]
    pub Publisher {}
    #[async_trait]
    impl Publisher for Publisher {
        async fn publish(&self, payload: &serde_json::Value) -> Result<()>;
        async fn discard(&self, payload: &str) -> Result<()>;
    }
}

mock! {
    /// Does not touch the journal.
    #[derive(Debug)]
    pub Staging {
        pub fn create(&self, run: &Run, root: &Path, target: &Path) -> Result<Box<dyn StagedFile>>;
        pub fn put_unseen(&self, files: Vec<(Path, Bytes)>) -> Result<()>;
        pub fn publish(&self, action: &PublishAction) -> Result<()>;
        pub fn discard(&self, action: &DiscardAction) -> Result<()>;
    }
}

#[async_trait]
impl Staging for MockStaging {
    async fn create(&self, _: &dyn Journal, run: &Run, root: &Path, target: &Path) -> Result<Box<dyn StagedFile>> {
        Self::create(self, run, root, target)
    }

    async fn put_unseen(&self, files: Vec<(Path, Bytes)>) -> Result<()> {
        Self::put_unseen(self, files)
    }

    async fn publish(&self, action: &PublishAction) -> Result<()> {
        Self::publish(self, action)
    }

    async fn discard(&self, action: &DiscardAction) -> Result<()> {
        Self::discard(self, action)
    }
}

mock! {
    #[derive(Debug)]
    pub StagedFile {}
    #[async_trait]
    impl StagedFile for StagedFile {
        async fn write(&mut self, bytes: Bytes) -> Result<()>;
        async fn finish(self: Box<Self>) -> Result<PublishAction>;
    }
}

mock! {
    #[derive(Debug)]
    pub StoreFactory {}
    impl StoreFactory for StoreFactory {
        fn open(&self, url: &Url) -> Result<Store>;
    }
}
