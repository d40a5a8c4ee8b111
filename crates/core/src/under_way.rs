//! Tracks staging in progress: a run that ends waits for it before it discards.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::RwLock;

use crate::{Error, ErrorKind, Result};

/// Tracks work in progress: each piece holds the lock shared, and taking it exclusively waits for all.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    lock: Arc<RwLock<()>>,
    ended: AtomicBool,
}

impl UnderWay {
    /// Runs a piece of work to completion, even if its caller is cancelled, because a request to a store may have been
    /// answered but not noted yet.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let held = Arc::clone(&self.lock).read_owned().await;
        if self.ended.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Stopped, "nothing more can be staged: the run is ending"));
        }
        let work = tokio::spawn(async move {
            let _held = held;
            work.await
        });
        work.await.map_err(|e| Error::unexpected("staging was abandoned").because(e))?
    }

    /// Admits no more work, and waits for the work in progress.
    pub(crate) async fn end(&self, within: Duration) -> Result<()> {
        self.ended.store(true, Ordering::SeqCst);
        match tokio::time::timeout(within, self.lock.write()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::unavailable("files that were being staged did not finish in time")
                .with("seconds", within.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    #[tokio::test]
    async fn the_end_waits_for_what_has_begun_though_nobody_else_does_and_lets_nothing_more_begin() {
        let (under_way, (done, is_done)) = (UnderWay::default(), tokio::sync::oneshot::channel());
        let slow = under_way.work(async {
            tokio::time::sleep(SOON).await;
            done.send(()).map_err(|()| Error::unexpected("nobody waits"))
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), slow).await.is_err(), "it was dropped");
        under_way.end(SOON * 100).await.unwrap();
        assert!({ is_done }.try_recv().is_ok(), "the end did not wait");
        assert_eq!(under_way.work(async { Ok(()) }).await.unwrap_err().kind(), ErrorKind::Stopped);
    }

    #[tokio::test]
    async fn the_end_does_not_wait_for_ever() {
        let under_way = Arc::new(UnderWay::default());
        let never = under_way.work(std::future::pending::<Result<()>>());
        assert!(tokio::time::timeout(Duration::from_millis(1), never).await.is_err());
        assert_eq!(under_way.end(SOON).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
