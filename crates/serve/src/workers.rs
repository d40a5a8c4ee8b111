//! A process per connection, as in PostgreSQL, and its supervision.
//!
//! Whatever a query does, only its own process is slow, hangs or dies. The server accepts connections, hands the
//! sockets over, and watches: it kills a worker that does not respond after a timeout, a cancellation or the client's
//! disconnect, and one that takes too much memory.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use datafusion_postgres::pgwire::error::ErrorInfo;
use datafusion_postgres::pgwire::messages::Message;
use datafusion_postgres::pgwire::messages::response::ErrorResponse;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::access::TlsPair;
use crate::control::{Assignment, Connections, Note, Order, Resources, Seat, Terms};
use crate::memory;
use crate::socket::{closed, twice};

/// How to start the processes that serve one connection each.
///
/// A worker has its client at its standard input and its server at its standard output, and only calls
/// [`work`](crate::work) with the server's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers {
    program: PathBuf,
    command: Vec<OsString>,
}

/// How long a worker may take to report that its statement has ended, once it should have.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The interval at which a server checks the memory of a worker.
const MEMORY_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The common parameters of a server's workers.
pub(crate) struct Employer {
    pub(crate) workers: Workers,
    pub(crate) connections: Arc<Connections>,
    pub(crate) tls: Option<TlsPair>,
    pub(crate) resources: Resources,
    pub(crate) grace: Duration,
}

impl Workers {
    /// Workers run this program with these arguments; the first one is the name of the process.
    pub fn new(program: impl Into<PathBuf>, command: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self { program: program.into(), command: command.into_iter().map(Into::into).collect() }
    }

    /// Starts a worker for a client. It is killed when the returned value is dropped.
    fn start(&self, client: TcpStream) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&self.program);
        if let Some(name) = self.command.first() {
            command.arg0(name);
        }
        #[expect(clippy::disallowed_methods, reason = "the allocator reads the environment, and so does this for it")]
        let is_chosen = std::env::var_os(PURGE_DELAY.0).is_some();
        if !is_chosen {
            command.env(PURGE_DELAY.0, PURGE_DELAY.1);
        }
        let child = command
            .args(self.command.iter().skip(1))
            .stdin(Stdio::from(OwnedFd::from(client.into_std()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .kill_on_drop(true)
            .spawn()?;
        Ok((child, UnixStream::from_std(ours)?))
    }
}

/// What mimalloc reads: how long a worker keeps memory that was freed, in milliseconds. Jobs keep it longer, for speed. But
/// a worker is ended for what it holds, and a statement must not be for what the one before it has freed.
const PURGE_DELAY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "10");

impl Employer {
    /// Serves a client until it disconnects, the server stops, or the worker ends.
    pub(crate) async fn serve(&self, client: TcpStream, terms: Terms, stopped: watch::Receiver<bool>) {
        let (client, watched) = match twice(client) {
            Ok(both) => both,
            Err(e) => return tracing::warn!(error = %e, "a connection could not be watched"),
        };
        let ended = match self.workers.start(client) {
            Ok((child, socket)) => {
                let id = child.id().map_or(0, |id| id as i32);
                let mut watch = Watch::new(child, socket, &watched, self.connections.seat(id), stopped, self);
                let ended = watch.until_it_ends(terms).await;
                if watch.is_answering && ended.is_some() { None } else { ended }
            }
            Err(e) => {
                tracing::warn!(error = %e, program = %self.workers.program.display(), "a process could not be started");
                Some(("53300", "the process of this connection could not be started"))
            }
        };
        // On an encrypted connection, only the worker could have sent it; and after the start of a response, it would
        // be taken for the rest of it.
        if let Some((code, message)) = ended.filter(|_| self.tls.is_none()) {
            tell(&watched, code, message);
        }
    }
}

/// Sends why the connection ends, if the socket accepts it.
fn tell(client: &TcpStream, code: &str, message: &str) {
    let info = ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message.to_owned());
    let mut bytes = BytesMut::new();
    if ErrorResponse::from(info).encode(&mut bytes).is_ok() {
        let _ = client.try_write(&bytes);
    }
}

/// Why a worker is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Timeout,
    Cancelled,
    Gone,
    Stopped,
    Memory,
}

/// A worker that is watched.
struct Watch<'a> {
    child: Child,
    notes: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
    client: &'a TcpStream,
    seat: Seat,
    stopped: watch::Receiver<bool>,
    employer: &'a Employer,
    is_busy: bool,
    is_answering: bool,
    is_gone: bool,
    is_stopping: bool,
    /// When it is killed, unless its statement ends before.
    statement_due: Option<(Instant, Cause)>,
    /// When it is killed, unless it ends before.
    worker_due: Option<(Instant, Cause)>,
    /// Why it was killed.
    cause: Option<Cause>,
}

impl<'a> Watch<'a> {
    fn new(
        child: Child,
        socket: UnixStream,
        client: &'a TcpStream,
        seat: Seat,
        stopped: watch::Receiver<bool>,
        employer: &'a Employer,
    ) -> Self {
        let (notes, orders) = socket.into_split();
        Self {
            child,
            notes: BufReader::new(notes).lines(),
            orders,
            client,
            seat,
            stopped,
            employer,
            is_busy: false,
            is_answering: false,
            is_gone: false,
            is_stopping: false,
            statement_due: None,
            worker_due: None,
            cause: None,
        }
    }

    /// Gives the worker its client, and waits for its end. Returns the error to send to the client.
    async fn until_it_ends(&mut self, terms: Terms) -> Option<(&'static str, &'static str)> {
        let assignment = Assignment {
            key: self.seat.key,
            terms,
            tls: self.employer.tls.clone(),
            resources: self.employer.resources.clone(),
            grace: self.employer.grace,
        };
        self.order(&Order::Serve(Box::new(assignment))).await;
        let mut looks = interval(MEMORY_CHECK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut says_more = true;
        let status = loop {
            let due = [self.statement_due, self.worker_due].into_iter().flatten().min_by_key(|(at, _)| *at);
            tokio::select! {
                status = self.child.wait() => break status,
                note = self.notes.next_line(), if says_more => match note {
                    Ok(Some(note)) => self.noted(&note),
                    Ok(None) | Err(_) => says_more = false,
                },
                () = self.seat.cancel.notified() => {
                    self.order(&Order::Cancel).await;
                    if self.is_busy {
                        soon(&mut self.statement_due, RESPONSE_TIMEOUT, Cause::Cancelled);
                    }
                }
                () = closed(self.client), if self.is_busy && !self.is_gone => {
                    self.is_gone = true;
                    soon(&mut self.worker_due, RESPONSE_TIMEOUT, Cause::Gone);
                }
                () = told(&mut self.stopped), if !self.is_stopping => {
                    self.is_stopping = true;
                    self.order(&Order::Stop).await;
                    soon(&mut self.worker_due, self.employer.grace.saturating_add(RESPONSE_TIMEOUT), Cause::Stopped);
                }
                _ = looks.tick(), if self.is_busy => self.look(),
                cause = passed(due) => {
                    (self.statement_due, self.worker_due) = (None, None);
                    self.end(cause);
                }
            }
        };
        self.last_words(status)
    }

    async fn order(&mut self, order: &Order) {
        let Ok(mut line) = serde_json::to_vec(order) else { return };
        line.push(b'\n');
        // A worker that no longer listens has ended, which is detected elsewhere.
        let _ = self.orders.write_all(&line).await;
    }

    fn noted(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Note::Busy { limit }) => {
                (self.is_busy, self.is_answering) = (true, false);
                if let Some(limit) = limit {
                    soon(&mut self.statement_due, limit.saturating_add(RESPONSE_TIMEOUT), Cause::Timeout);
                }
            }
            Ok(Note::Answering) => self.is_answering = true,
            Ok(Note::Idle) => {
                (self.is_busy, self.is_answering) = (false, false);
                self.statement_due = None;
            }
            Ok(Note::Cancel(key)) => self.employer.connections.cancel(key),
            Err(e) => tracing::warn!(error = %e, line, "a worker sent a message that its server does not understand"),
        }
    }

    fn look(&mut self) {
        let held = self.child.id().and_then(memory::held_by);
        if held.is_some_and(|held| held > memory::most(self.employer.resources.memory_limit)) {
            self.end(Cause::Memory);
        }
    }

    fn end(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
        // It may have ended meanwhile.
        let _ = self.child.start_kill();
    }

    /// The error that a client receives at a worker's end, if there is one and it can be sent.
    fn last_words(&self, status: io::Result<ExitStatus>) -> Option<(&'static str, &'static str)> {
        let status = status.ok().filter(|status| !status.success() || self.cause.is_some())?;
        let (code, message) = match self.cause {
            Some(Cause::Gone) => return None,
            Some(Cause::Timeout) => {
                ("57014", "canceling statement due to statement timeout; it did not end, so the connection does")
            }
            Some(Cause::Cancelled) => {
                ("57014", "canceling statement due to user request; it did not end, so the connection does")
            }
            Some(Cause::Stopped) => ("57P01", "terminating connection: the server stops"),
            Some(Cause::Memory) => ("53200", TOO_MUCH_MEMORY),
            // A failed allocation aborts; a system that runs out of memory kills.
            None if was_out_of_memory(status) => ("53200", TOO_MUCH_MEMORY),
            None => ("XX000", "the process of this connection ended unexpectedly"),
        };
        tracing::warn!(connection = self.seat.key.id, %status, cause = ?self.cause, code, "a worker was ended");
        Some((code, message))
    }
}

/// Makes something due after this time, unless it is due earlier.
fn soon(due: &mut Option<(Instant, Cause)>, time: Duration, cause: Cause) {
    // A time beyond the clock's range never comes.
    let Some(at) = Instant::now().checked_add(time) else { return };
    if due.is_none_or(|(due, _)| at < due) {
        *due = Some((at, cause));
    }
}

/// Waits until something is due, if it ever is.
async fn passed(due: Option<(Instant, Cause)>) -> Cause {
    match due {
        Some((at, cause)) => {
            sleep_until(at).await;
            cause
        }
        None => std::future::pending().await,
    }
}

/// Waits until the server is told to stop.
pub(crate) async fn told(stopped: &mut watch::Receiver<bool>) {
    // The sender is never dropped before.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

const TOO_MUCH_MEMORY: &str =
    "the query needs more memory than its process may have; ask for less at once, or raise --memory-limit";

fn was_out_of_memory(status: ExitStatus) -> bool {
    use rustix::process::Signal;
    use std::os::unix::process::ExitStatusExt;
    [Signal::ABORT, Signal::KILL].into_iter().any(|signal| status.signal() == Some(signal.as_raw()))
}
