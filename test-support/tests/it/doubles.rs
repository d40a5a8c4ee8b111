use std::sync::Arc;

use hardtack_core::{Context, Error, ErrorKind, JobContext};
use hardtack_test_support::{MockClock, MockIo, MockSink, MockSource, frame_that, rows};
use mockall::Sequence;
use mockall::predicate::{always, eq};

use crate::panic_of;

fn source(name: &str) -> MockSource {
    let mut source = MockSource::new();
    source.expect_name().return_const(name.to_owned());
    source
}

#[tokio::test]
async fn calls_come_as_often_and_in_the_sequence_that_is_expected() {
    let mut sequence = Sequence::new();
    let mut io = MockIo::new();
    io.expect_load().with(eq("a")).once().in_sequence(&mut sequence).returning(|_| Ok(rows! { id; 1 }.df()));
    io.expect_save()
        .with(eq("a"), frame_that(rows! { id; 1 }))
        .once()
        .in_sequence(&mut sequence)
        .returning(|_, _| Err(Error::conflict("no")));
    let mut clock = MockClock::new();
    clock.expect_now().once().return_const(chrono::DateTime::UNIX_EPOCH);
    let job = JobContext::builder("test").io(Arc::new(io)).clock(Arc::new(clock)).build().unwrap();
    let ctx = Context::new((), job);

    let rows = ctx.load(source("a")).await.unwrap();
    let mut sink = MockSink::new();
    sink.expect_name().return_const("a".to_owned());
    assert_eq!(ctx.save(sink, rows).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn rows_that_differ_are_refused() {
    let mut sink = MockSink::new();
    sink.expect_stage().with(always(), frame_that(rows! { id; 1 })).returning(|_, _| Ok(Default::default()));
    let ctx = JobContext::builder("test").build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let text = panic_of(|| {
        let _ = runtime.block_on(hardtack_core::Sink::stage(&sink, &ctx.staging("out"), rows! { id; 2 }.df()));
    });
    assert!(text.contains("MockSink::stage"), "{text}");
    std::mem::forget(sink);
}
