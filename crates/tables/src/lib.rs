//! Tables by name.
//!
//! A job says `Table::named("lake", "books")` and not where the files are or how they are written: the
//! [catalog](hardtack_catalog) of the run knows.

mod filters;
mod format;
mod names;
mod provider;
mod source;
mod table;

pub use names::register_names;
pub use provider::CatalogTable;
pub use table::Table;
