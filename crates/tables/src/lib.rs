//! Tables by name.
//!
//! A job says `Table::named("lake", "books")` and not where the files are or how they are written: the
//! [catalog](hardtack_catalog) of the run knows.

mod table;

pub use table::Table;
