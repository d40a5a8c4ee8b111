//! The tables of a run's catalog over the PostgreSQL wire protocol, read-only: for psql, DBeaver, Redash, Tableau, and
//! every driver.
//!
//! [`Server::bind`] checks that nobody is let in by accident: beyond loopback a password and TLS are required.
//! [`Server::run`] answers until it is told to stop. A query names tables as `database.table`; names are looked up one
//! by one, as [`register_names`](hardtack_tables::register_names) does it.
//!
//! Each connection has a session and a memory pool of its own, and runs one statement at a time. With [`Workers`] it has a
//! process of its own, too: whatever a query does, it does to nobody else, and [`work`] is all that such a process calls.
//! What a client may not do is refused with an SQLSTATE that drivers understand: `25006` for what would change
//! something, `57014` for what takes too long or is cancelled, `53200` for what needs too much memory, `53300` for too many
//! connections.

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
mod worker;
mod workers;

pub use access::TlsFiles;
pub use server::{ServeOptions, Server};
pub use worker::work;
pub use workers::Workers;
