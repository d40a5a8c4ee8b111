//! The server: listening, accepting and stopping.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::SessionContext;
use datafusion_postgres::pgwire::tokio::process_socket;
use hardtack_core::{Error, JobContext, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::access::{Credentials, TlsFiles, TlsPair};
use crate::compute::{Compute, on_a_large_stack};
use crate::connection::{Connection, Handlers};
use crate::control::{Connections, Note, Resources, Terms};
use crate::socket::{closed, twice};
use crate::workers::{Employer, Workers, told};
use crate::{bounds, names};

/// Options of a [`Server`].
#[derive(Clone)]
pub struct ServeOptions {
    /// The address to listen on, for example `127.0.0.1:5432`; port 0 takes a free one.
    pub address: String,
    /// The user that may connect, if there is a password.
    pub user: String,
    /// The password; without one everybody on this machine may connect.
    pub password: Option<String>,
    /// Certificate and key; with them only encrypted connections are accepted.
    pub tls: Option<TlsFiles>,
    /// How long a statement may take. Clients can ask for less.
    pub statement_timeout: Option<Duration>,
    /// The bytes that a query may hold in memory before it spills. Each connection has its own limit and executes one
    /// query at a time.
    pub memory_limit: usize,
    /// Where queries spill (the system's temporary folder by default).
    pub spill_dir: Option<PathBuf>,
    /// The maximum number of connected clients.
    pub max_connections: usize,
    /// How long statements may continue after the server was told to stop.
    pub grace: Duration,
    /// How to start a process per connection. Without it, this process serves all connections, and a query that cannot
    /// be stopped or takes too much memory affects all of them.
    pub workers: Option<Workers>,
}

impl std::fmt::Debug for ServeOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServeOptions").field("address", &self.address).field("user", &self.user).finish_non_exhaustive()
    }
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:5432".to_owned(),
            user: "hardtack".to_owned(),
            password: None,
            tls: None,
            statement_timeout: Some(Duration::from_secs(300)),
            memory_limit: 1 << 30,
            spill_dir: None,
            max_connections: 32,
            grace: Duration::from_secs(10),
            workers: None,
        }
    }
}

/// A listening server.
///
/// ```
/// use std::sync::Arc;
///
/// use hardtack_catalog::{CatalogHandle, EmbeddedCatalog};
/// use hardtack_core::JobContext;
/// use hardtack_serve::{ServeOptions, Server};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let catalog = CatalogHandle::new(Arc::new(EmbeddedCatalog::in_memory()));
/// let ctx = JobContext::builder("serve").extension(Arc::new(catalog)).build()?;
/// let server = Server::bind(&ctx, ServeOptions { address: "127.0.0.1:0".to_owned(), ..Default::default() }).await?;
/// let port = server.local_addr()?.port();
///
/// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
/// let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
/// // What `psql -h 127.0.0.1 -p PORT -U hardtack` does.
/// let address = format!("host=127.0.0.1 port={port} user=hardtack");
/// let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await?;
/// tokio::spawn(connection);
/// assert_eq!(client.query_one("select 6 * 7", &[]).await?.get::<_, i64>(0), 42);
///
/// drop(stop);
/// running.await??;
/// # Ok(())
/// # }
/// ```
pub struct Server {
    ctx: JobContext,
    options: ServeOptions,
    listener: TcpListener,
    tls: Option<TlsPair>,
    credentials: Option<Credentials>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Server").field(&self.listener).finish()
    }
}

/// How many connections can be turned away concurrently.
const MAX_TURNED_AWAY: usize = 16;

impl Server {
    /// Starts to listen. The tables are those of the context's catalog.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) if the address is invalid or taken, if it is reachable from other
    /// machines without a password and TLS, or if the TLS files are missing or malformed.
    pub async fn bind(ctx: &JobContext, options: ServeOptions) -> Result<Self> {
        let address = &options.address;
        let unusable = |e: std::io::Error| {
            Error::usage("cannot listen on this address; expected one such as `127.0.0.1:5432`")
                .with("address", address)
                .because(e)
        };
        let found: Vec<SocketAddr> = tokio::net::lookup_host(address).await.map_err(unusable)?.collect();
        if !found.iter().all(|address| address.ip().is_loopback()) {
            let missing = match (&options.password, &options.tls) {
                (Some(_), Some(_)) => None,
                (None, Some(_)) => Some("a password is"),
                (Some(_), None) => Some("TLS is"),
                (None, None) => Some("a password and TLS are"),
            };
            if let Some(missing) = missing {
                let why = format!("other machines can reach this address, so {missing} needed");
                return Err(Error::usage(why).with("address", address).hint(
                    "--password-file or HARDTACK_SERVE_PASSWORD, --tls-cert and --tls-key; or listen on 127.0.0.1",
                ));
            }
        }
        let tls = options.tls.as_ref().map(TlsFiles::read).transpose()?;
        let credentials = match options.password.as_deref() {
            Some("") => return Err(Error::usage("the password is empty")),
            password => password.map(|password| Credentials::new(&options.user, password)),
        };
        names::register(ctx)?;
        let listener = TcpListener::bind(found.as_slice()).await.map_err(unusable)?;
        Ok(Self { ctx: ctx.clone(), options, listener, tls, credentials })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// The operating system's errors.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| Error::unexpected("the address is not known").because(e))
    }

    /// Serves until `stop` completes. Then it accepts no more connections, gives statements some time to end, and
    /// closes all connections.
    ///
    /// # Errors
    /// If threads for queries or a session cannot be created.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<()> {
        let host = Arc::new(self.host()?);
        let (places, told) =
            (Arc::new(Semaphore::new(self.options.max_connections)), Arc::new(Semaphore::new(MAX_TURNED_AWAY)));
        let (stopping, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        tokio::pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => accepted,
                Some(_) = clients.join_next() => continue,
            };
            let socket = match accepted {
                Ok((socket, from)) => {
                    tracing::debug!(%from, "connected");
                    socket
                }
                Err(e) => {
                    // Too many open files, for example: others may close theirs.
                    tracing::warn!(error = %e, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let place = Arc::clone(&places).try_acquire_owned().ok();
            let full = place.is_none();
            let Some(place) = place.or_else(|| Arc::clone(&told).try_acquire_owned().ok()) else { continue };
            let terms = Terms {
                credentials: self.credentials.clone(),
                needs_tls: self.tls.is_some(),
                statement_timeout: self.options.statement_timeout,
                full,
            };
            let (host, stopped) = (Arc::clone(&host), stopped.clone());
            clients.spawn(async move {
                match &*host {
                    Host::Workers(employer) => employer.serve(socket, terms, stopped).await,
                    Host::Here(here) => here.serve(socket, terms, stopped).await,
                }
                drop(place);
            });
        }
        drop(self.listener);
        stopping.send_replace(true);
        while clients.join_next().await.is_some() {}
        Ok(())
    }

    /// What serves the connections.
    fn host(&self) -> Result<Host> {
        let resources =
            Resources { memory_limit: self.options.memory_limit, spill_dir: self.options.spill_dir.clone() };
        let (tls, grace, connections) = (self.tls.clone(), self.options.grace, Arc::new(Connections::default()));
        if let Some(workers) = self.options.workers.clone() {
            return Ok(Host::Workers(Employer { workers, connections, tls, resources, grace }));
        }
        let tls = tls.map(|tls| tls.acceptor()).transpose();
        let tls = tls.map_err(|e| Error::unexpected("TLS cannot be used here").because(e))?;
        let compute = Compute::shared(self.ctx.session().state().config().target_partitions())?;
        let (notes, mut noted) = mpsc::unbounded_channel();
        let others = Arc::clone(&connections);
        let router = SpawnedTask::spawn(async move {
            while let Some(note) = noted.recv().await {
                if let Note::Cancel(key) = note {
                    others.cancel(key);
                }
            }
        });
        Ok(Host::Here(Here {
            ctx: self.ctx.clone(),
            compute,
            connections,
            notes,
            tls,
            resources,
            grace,
            _router: router,
        }))
    }
}

/// What serves the connections of a server.
enum Host {
    /// A process per connection.
    Workers(Employer),
    /// This process serves all of them.
    Here(Here),
}

struct Here {
    ctx: JobContext,
    compute: Compute,
    connections: Arc<Connections>,
    notes: mpsc::UnboundedSender<Note>,
    tls: Option<TlsAcceptor>,
    resources: Resources,
    grace: Duration,
    _router: SpawnedTask<()>,
}

impl Here {
    async fn serve(&self, socket: TcpStream, terms: Terms, stopped: watch::Receiver<bool>) {
        let session = match session(&self.ctx, &self.resources) {
            Ok(session) => session,
            Err(e) => return tracing::warn!(error = %e.chain(), "a session could not be created"),
        };
        let seat = self.connections.seat(self.connections.next_id());
        let (cancel, notes) = (Arc::clone(&seat.cancel), self.notes.clone());
        let connection = Connection::new(seat.key, cancel, session, terms, self.compute.threads(), notes);
        on_a_large_stack(serve(socket, self.tls.clone(), connection, stopped, self.grace)).await;
    }
}

/// A session for one client: with its own settings and memory, and shared tables and stores.
pub(crate) fn session(ctx: &JobContext, resources: &Resources) -> Result<SessionContext> {
    let pool = FairSpillPool::new(resources.memory_limit);
    let largest = std::num::NonZeroUsize::MIN.saturating_add(4);
    let mode = match &resources.spill_dir {
        Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
        None => DiskManagerMode::OsTmpDirectory,
    };
    let runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(ctx.shared_stores())
        .with_memory_pool(Arc::new(TrackConsumersPool::new(pool, largest)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(mode))
        .build_arc()?;
    let mut state = SessionStateBuilder::new_from_existing(ctx.session().state()).with_runtime_env(runtime).build();
    bounds::apply(&mut state)?;
    Ok(SessionContext::new_with_state(state))
}

/// Serves one client until it disconnects or the server stops. Its statement is then stopped.
pub(crate) async fn serve(
    socket: TcpStream,
    tls: Option<TlsAcceptor>,
    connection: Arc<Connection>,
    mut stopped: watch::Receiver<bool>,
    grace: Duration,
) {
    let (socket, watched) = match twice(socket) {
        Ok(both) => both,
        Err(e) => return tracing::warn!(error = %e, "a connection could not be watched"),
    };
    let stop = async {
        told(&mut stopped).await;
        let idle = async {
            connection.idle().await;
            // Lets pending responses be sent.
            tokio::time::sleep(Duration::from_millis(100)).await;
            connection.idle().await;
        };
        let _ = tokio::time::timeout(grace, idle).await;
    };
    tokio::select! {
        done = process_socket(socket, tls, Handlers(Arc::clone(&connection))) => if let Err(e) = done {
            tracing::debug!(error = %e, "a connection broke");
        },
        () = gone(&watched, &connection) => tracing::debug!("a client has gone"),
        () = stop => {}
    }
}

/// Waits until a client disconnects while its statement is being executed. Otherwise its messages are read first: a
/// client that requests a cancellation has often disconnected by then.
async fn gone(socket: &TcpStream, connection: &Connection) {
    loop {
        connection.busy().await;
        tokio::select! {
            () = closed(socket) => return,
            () = connection.idle() => {}
        }
    }
}
