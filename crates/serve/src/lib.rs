//! The tables of a run's catalog over the PostgreSQL wire protocol, read-only: for psql, DBeaver, Redash, Tableau, and
//! every driver.
//!
//! [`Server::bind`] checks that nobody is admitted by accident: beyond loopback a password and TLS are required.
//! [`Server::run`] serves until it is told to stop. A query names tables as `database.table`; names are looked up one
//! by one, as with [`register_names`](hardtack_tables::register_names).
//!
//! Each connection has its own session and memory pool, and runs one statement at a time. With [`Workers`] it also has
//! its own process, so a query cannot harm any other; such a process calls [`work`]. Refusals have an SQLSTATE that
//! drivers understand: `25006` for statements that would change something, `57014` for a timeout or a cancellation,
//! `53200` for too much memory, `53300` for too many connections.

mod access;
mod bounds;
mod complexity;
mod compute;
mod connection;
mod control;
mod failure;
mod fields;
mod memory;
mod names;
mod parameters;
mod read_only;
mod server;
mod settings;
mod socket;
mod worker;
mod workers;

pub use access::TlsFiles;
pub use server::{ServeOptions, Server};
pub use worker::work;
pub use workers::Workers;
