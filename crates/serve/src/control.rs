//! What a server and its connections tell each other, and where they do.
//!
//! A connection may be a task of this process or a process of its own; to both it is the same messages. Between processes
//! they are lines of JSON over a socket that nobody else knows, for they hold what the password and the key of TLS are.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::access::{Credentials, TlsPair};

/// What a server tells a worker.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first: whom to answer, and how.
    Serve(Box<Assignment>),
    /// The statement that is being executed is not wanted any more.
    Cancel,
    /// A statement may be ended, and no other begun.
    Stop,
}

/// What a worker has to know of its connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) key: Key,
    pub(crate) terms: Terms,
    pub(crate) tls: Option<TlsPair>,
    pub(crate) resources: Resources,
    /// How long a statement may go on when the server is told to stop.
    pub(crate) grace: Duration,
}

/// What a client is held to.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) needs_tls: bool,
    pub(crate) statement_timeout: Option<Duration>,
    /// Whether there are too many clients already, so that this one is only told.
    pub(crate) full: bool,
}

/// What a connection's queries may take.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Resources {
    pub(crate) memory_limit: usize,
    pub(crate) spill_dir: Option<PathBuf>,
}

/// What a connection tells its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Note {
    /// A statement is being executed, which may take so long.
    Busy { limit: Option<Duration> },
    /// Rows of its answer are on their way.
    Answering,
    /// It is done.
    Idle,
    /// The client wants the statement of another connection cancelled.
    Cancel(Key),
}

/// What a client has to know of a connection to cancel its statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: i32,
    pub(crate) secret: i32,
}

/// Who is connected, so that a statement can be cancelled from another connection.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: AtomicI32,
    open: Mutex<HashMap<i32, (i32, Arc<Notify>)>>,
}

impl Connections {
    /// An id that no connection of this process has.
    pub(crate) fn next_id(&self) -> i32 {
        self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Makes a connection known for as long as its seat is kept.
    pub(crate) fn seat(self: &Arc<Self>, id: i32) -> Seat {
        let key = Key { id, secret: Uuid::new_v4().as_u64_pair().1 as i32 };
        let cancel = Arc::new(Notify::new());
        self.open().insert(id, (key.secret, Arc::clone(&cancel)));
        Seat { connections: Arc::clone(self), key, cancel }
    }

    /// Tells the connection with this key, if there is one.
    pub(crate) fn cancel(&self, key: Key) {
        if let Some((_, cancel)) = self.open().get(&key.id).filter(|(secret, _)| *secret == key.secret) {
            cancel.notify_one();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<i32, (i32, Arc<Notify>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among the others.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    pub(crate) key: Key,
    /// Told when its statement is to be cancelled, also if there is none at the moment.
    pub(crate) cancel: Arc<Notify>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        // The system may have given the id of a process that has ended to another.
        if open.get(&self.key.id).is_some_and(|(secret, _)| *secret == self.key.secret) {
            open.remove(&self.key.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn who_knows_the_secret_can_cancel_while_the_connection_is_there() {
        let connections = Arc::new(Connections::default());
        let (one, other) = (connections.seat(1), connections.seat(2));
        connections.cancel(Key { secret: one.key.secret.wrapping_add(1), ..one.key });
        connections.cancel(Key { secret: one.key.secret, ..other.key });
        assert!(one.cancel.notified().now_or_never().is_none() && other.cancel.notified().now_or_never().is_none());
        connections.cancel(one.key);
        assert!(one.cancel.notified().now_or_never().is_some() && other.cancel.notified().now_or_never().is_none());
        let (key, cancel) = (other.key, Arc::clone(&other.cancel));
        drop(other);
        connections.cancel(key);
        assert!(cancel.notified().now_or_never().is_none());
    }
}
