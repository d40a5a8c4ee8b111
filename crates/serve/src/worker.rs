//! The inside of a worker: one process, one client.

use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hardtack_core::{Error, JobContext, Result};
use rustix::process::{Signal, getpid, kill_process};
use rustix::stdio::dup2_stdout;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};

use crate::compute::{Compute, on_a_large_stack};
use crate::connection::Connection;
use crate::control::{Assignment, Note, Order};
use crate::server::{serve, session};
use crate::{memory, names};

/// Serves one client, as one of a server's [`Workers`](crate::Workers): the client's socket is this process's standard
/// input, and the server's is the standard output. The tables are those of the context's catalog.
///
/// Signals that ask processes to terminate are left to the server, which lets statements end. If the server ends, this
/// process ends at once.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if no server has started this process. Also if threads or a session
/// cannot be created.
pub async fn work(ctx: &JobContext) -> Result<()> {
    let alone = |e| Error::usage("only a server can start a worker").because(e);
    // They are sent to all processes of a terminal or a service; a process that handles them is not ended by them.
    let _left_to_the_server = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
    let (client, server) = ends().map_err(alone)?;
    let mut orders = BufReader::new(server.try_clone().map_err(alone)?);
    let Some(Order::Serve(assignment)) = next(&mut orders) else {
        return Err(Error::usage("a worker received no client"));
    };
    let Assignment { key, terms, tls, resources, grace } = *assignment;
    memory::confine(resources.memory_limit)?;
    names::register(ctx)?;
    let compute = Compute::of_one(ctx.session().state().config().target_partitions())?;
    let tls = tls.map(|tls| tls.acceptor()).transpose();
    let tls = tls.map_err(|e| Error::unexpected("TLS cannot be used here").because(e))?;

    let cancel = Arc::new(Notify::new());
    let (stopping, stopped) = watch::channel(false);
    let (notes, noted) = mpsc::unbounded_channel();
    let cancelled = Arc::clone(&cancel);
    std::thread::spawn(move || obey(orders, &cancelled, &stopping));
    let told = std::thread::spawn(move || tell(server, noted));
    let connection = Connection::new(key, cancel, session(ctx, &resources)?, terms, compute.threads(), notes);
    on_a_large_stack(serve(client, tls, connection, stopped, grace)).await;
    // Pending messages to the server are sent before this ends.
    let _ = tokio::task::spawn_blocking(move || told.join()).await;
    Ok(())
}

/// The sockets of client and server. From now on, nothing that is printed can be taken for a message.
fn ends() -> std::io::Result<(TcpStream, UnixStream)> {
    let client = std::net::TcpStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let server = UnixStream::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    // Fails if it is not a socket.
    server.peer_addr()?;
    client.set_nonblocking(true)?;
    dup2_stdout(std::io::stderr())?;
    Ok((TcpStream::from_std(client)?, server))
}

fn next(orders: &mut impl BufRead) -> Option<Order> {
    let mut line = String::new();
    orders.read_line(&mut line).ok()?;
    serde_json::from_str(&line).ok()
}

/// Executes the server's orders, on a thread of its own that no query can keep busy.
fn obey(mut orders: impl BufRead, cancel: &Notify, stopping: &watch::Sender<bool>) {
    loop {
        match next(&mut orders) {
            Some(Order::Cancel) => cancel.notify_one(),
            Some(Order::Stop) => _ = stopping.send_replace(true),
            // The server has died: nobody else would end this process.
            None | Some(Order::Serve(_)) => _ = kill_process(getpid(), Signal::KILL),
        }
    }
}

/// Forwards the connection's notes to the server, until the connection is gone.
fn tell(mut server: UnixStream, mut noted: mpsc::UnboundedReceiver<Note>) {
    while let Some(note) = noted.blocking_recv() {
        let Ok(mut line) = serde_json::to_vec(&note) else { return };
        line.push(b'\n');
        if server.write_all(&line).is_err() {
            return;
        }
    }
}
