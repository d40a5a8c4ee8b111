//! Tables by name.
//!
//! A job says `Table::named("lake", "books")` and not where the files are or how they are written: the
//! [catalog](hardtack_catalog) of the run knows.

mod evolution;
mod place;
mod publisher;
mod purge;
mod sink;
mod steps;
mod table;
mod versions;

pub use evolution::SchemaEvolution;
pub use publisher::register;
pub use purge::{Purged, purge};
pub use table::Table;
pub use versions::{VacuumOptions, Vacuumed, vacuum};
