//! The messages between a server and its connections.
//!
//! A connection may be a task of this process or a process of its own; the messages are the same. Between processes
//! they are lines of JSON over a private socket, because they contain the password's hash and the TLS key.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::access::{Credentials, TlsPair};

/// A message from the server to a worker.
#[derive(Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first message: the client and how to serve it.
    Serve(Box<Assignment>),
    /// Cancels the current statement.
    Cancel,
    /// Lets the current statement finish, and starts no other.
    Stop,
}

/// The parameters of a worker's connection.
#[derive(Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) key: Key,
    pub(crate) terms: Terms,
    pub(crate) tls: Option<TlsPair>,
    pub(crate) resources: Resources,
    /// How long a statement may continue after the server was told to stop.
    pub(crate) grace: Duration,
}

/// The terms of a client's connection.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) credentials: Option<Credentials>,
    pub(crate) needs_tls: bool,
    pub(crate) statement_timeout: Option<Duration>,
    /// Whether there are too many clients already, so that this one is turned away.
    pub(crate) full: bool,
}

/// The resources of a connection's queries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Resources {
    pub(crate) memory_limit: usize,
    pub(crate) spill_dir: Option<PathBuf>,
}

/// A message from a connection to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Note {
    /// A statement with this limit is being executed.
    Busy { limit: Option<Duration> },
    /// Rows of its response are being sent.
    Answering,
    /// The statement is done.
    Idle,
    /// The client requests to cancel the statement of another connection.
    Cancel(Key),
}

/// The secret with which a client can cancel a connection's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: i32,
    pub(crate) secret: i32,
}

/// The open connections, so that a statement can be cancelled from another connection.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    next: AtomicI32,
    open: Mutex<HashMap<i32, (i32, Arc<Notify>)>>,
}

impl Connections {
    /// An unused connection id.
    pub(crate) fn next_id(&self) -> i32 {
        self.next.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// Registers a connection for as long as its seat is kept.
    pub(crate) fn seat(self: &Arc<Self>, id: i32) -> Seat {
        let key = Key { id, secret: Uuid::new_v4().as_u64_pair().1 as i32 };
        let cancel = Arc::new(Notify::new());
        self.open().insert(id, (key.secret, Arc::clone(&cancel)));
        Seat { connections: Arc::clone(self), key, cancel }
    }

    /// Notifies the connection with this key, if there is one.
    pub(crate) fn cancel(&self, key: Key) {
        if let Some((_, cancel)) = self.open().get(&key.id).filter(|(secret, _)| *secret == key.secret) {
            cancel.notify_one();
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<i32, (i32, Arc<Notify>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's registration.
#[derive(Debug)]
pub(crate) struct Seat {
    connections: Arc<Connections>,
    pub(crate) key: Key,
    /// Notified to cancel its statement, even if there is none at the moment.
    pub(crate) cancel: Arc<Notify>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.connections.open();
        // The system may have reused the id of a process that has ended.
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
