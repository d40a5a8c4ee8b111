//! Runs queries on a runtime separate from the network's.
//!
//! A query that computes without yielding keeps the threads of its runtime busy, and connections, cancellations and
//! timeouts would wait for it. So queries have a runtime of their own.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use datafusion_postgres::pgwire::api::results::{Response, SendableRowStream};
use futures::{StreamExt, stream};
use hardtack_core::{Error, Result};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::failure::error;

/// The maximum number of rows handed over at a time.
const ROWS: usize = 1024;

/// The stack for parsers and planners, which recurse for each level of a query. (Only pages that are touched take
/// memory.)
const STACK_BYTES: usize = 64 << 20;

/// The runtime of queries. When it is dropped, running queries are abandoned at their next yield.
pub(crate) struct Compute {
    threads: Threads,
    runtime: Option<Runtime>,
}

/// The threads that queries run on.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    pub(crate) handle: Handle,
    /// Whether only one client's queries run on them.
    of_one: bool,
}

impl Compute {
    /// Threads shared by the queries of many clients.
    pub(crate) fn shared(threads: usize) -> Result<Self> {
        Self::new(threads, false)
    }

    /// Threads for the queries of one client.
    pub(crate) fn of_one(threads: usize) -> Result<Self> {
        Self::new(threads, true)
    }

    fn new(threads: usize, of_one: bool) -> Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build();
        let runtime =
            runtime.map_err(|e| Error::unexpected("the threads for queries could not be started").because(e))?;
        Ok(Self { threads: Threads { handle: runtime.handle().clone(), of_one }, runtime: Some(runtime) })
    }

    pub(crate) fn threads(&self) -> Threads {
        self.threads.clone()
    }
}

impl Threads {
    /// Waits until no thread is working on a dropped query any more: an operator that loops without yielding keeps
    /// running. With shared threads it is unknown whose query a thread works on, so this does not wait.
    pub(crate) async fn settled(&self) {
        if !self.of_one {
            return;
        }
        let metrics = self.handle.metrics();
        let counts = || (0..metrics.num_workers()).map(|thread| metrics.worker_park_unpark_count(thread));
        let before: Vec<u64> = counts().collect();
        // The count is odd while a thread is parked.
        while !counts().zip(&before).all(|(now, before)| now % 2 == 1 || now != *before) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Compute {
    fn drop(&mut self) {
        // Blocking on threads is not allowed in a runtime that serves others.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs `work` on a stack that is large enough to parse, plan and drop queries.
pub(crate) async fn on_a_large_stack<T>(work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| stacker::grow(STACK_BYTES, || work.as_mut().poll(cx))).await
}

/// Runs `work` here, but the tasks that it spawns on `there`.
pub(crate) async fn spawning_on<T>(there: &Handle, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        let _entered = there.enter();
        work.as_mut().poll(cx)
    })
    .await
}

/// The same response, with rows computed on `there`.
pub(crate) fn computed_on(there: &Handle, mut answer: Response) -> Response {
    if let Response::Query(query) = &mut answer {
        let rows = std::mem::replace(query.data_rows(), Box::pin(stream::empty()));
        *query.data_rows() = rows_from(there, rows);
    }
    answer
}

fn rows_from(there: &Handle, rows: SendableRowStream) -> SendableRowStream {
    let (sender, receiver) = mpsc::channel(2);
    let send = async move {
        let mut chunks = rows.ready_chunks(ROWS);
        while let Some(chunk) = chunks.next().await {
            if sender.send(chunk).await.is_err() {
                return;
            }
        }
    };
    // Dropping it with the stream stops the query.
    let mut task = JoinSet::new();
    task.spawn_on(send, there);
    let chunks = stream::unfold((receiver, task), |(mut receiver, mut task)| async move {
        if let Some(chunk) = receiver.recv().await {
            return Some((chunk, (receiver, task)));
        }
        // If the task has ended, the rows are incomplete.
        match task.join_next().await {
            Some(Err(e)) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            Some(Err(_)) => Some((vec![Err(error("57P01", "the server stops"))], (receiver, task))),
            Some(Ok(())) | None => None,
        }
    });
    Box::pin(chunks.flat_map(stream::iter))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion_postgres::pgwire::api::results::QueryResponse;
    use datafusion_postgres::pgwire::messages::data::DataRow;
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_not_the_end_of_the_rows() {
        let compute = Compute::shared(1).unwrap();
        let rows = stream::iter(0..3).map(|i| if i < 2 { Ok(DataRow::default()) } else { panic!("a bug") });
        let answer = Response::Query(QueryResponse::new(Arc::default(), rows));
        let Response::Query(mut query) = computed_on(&compute.threads().handle, answer) else { unreachable!() };
        let read = tokio::spawn(async move { query.data_rows().map(|row| row.unwrap()).count().await });
        assert!(read.await.unwrap_err().is_panic());
    }

    #[tokio::test]
    async fn a_thread_that_does_not_come_back_is_noticed() {
        let compute = Compute::of_one(2).unwrap();
        let threads = compute.threads();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        // It keeps running after it is dropped.
        let looping = threads.handle.spawn(async move {
            begin.send(()).unwrap();
            let _ = ended.recv();
        });
        begun.recv().unwrap();
        looping.abort();
        let settled = async |limit| tokio::time::timeout(Duration::from_millis(limit), threads.settled()).await.is_ok();
        assert!(!settled(200).await);
        drop(end);
        assert!(settled(5000).await);
        assert!(Compute::shared(1).unwrap().threads().settled().now_or_never().is_some());
    }

    #[tokio::test]
    async fn rows_come_in_order() {
        let compute = Compute::shared(2).unwrap();
        let rows: Vec<_> = (0..3000).map(|i| DataRow::new(Default::default(), i)).collect();
        let sent = stream::iter(rows.clone()).map(Ok);
        let answer = Response::Query(QueryResponse::new(Arc::default(), sent));
        let Response::Query(mut query) = computed_on(&compute.threads().handle, answer) else { unreachable!() };
        let read: Vec<_> = query.data_rows().map(|row| row.unwrap()).collect().await;
        assert_eq!(read, rows);
    }

    #[tokio::test]
    async fn rows_that_stop_with_the_server_are_an_error() {
        let compute = Compute::shared(1).unwrap();
        let rows = stream::iter([Ok(DataRow::default())]).chain(stream::pending());
        let answer = Response::Query(QueryResponse::new(Arc::default(), rows));
        let Response::Query(mut query) = computed_on(&compute.threads().handle, answer) else { unreachable!() };
        assert!(query.data_rows().next().await.unwrap().is_ok());
        drop(compute);
        let stopped = query.data_rows().next().await.unwrap().unwrap_err();
        assert!(stopped.to_string().contains("the server stops"), "{stopped}");
        assert!(query.data_rows().next().await.is_none());
    }
}
