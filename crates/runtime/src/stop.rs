//! Signals that tell a process to stop.

use hardtack_core::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM and Ctrl-C. Signals that arrive between two calls of [`Stop::wait`] are not lost.
#[derive(Debug)]
pub struct Stop {
    term: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Listens from now on, instead of ending the process.
    ///
    /// # Errors
    /// [`Unexpected`](hardtack_core::ErrorKind::Unexpected) if the system does not permit it.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|e| Error::unexpected("signals cannot be handled").because(e));
        Ok(Self { term: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
