//! A table as jobs name it.

/// A table of the catalog, by name; a source and a sink.
///
/// ```
/// use hardtack_tables::Table;
///
/// assert_eq!(Table::named("lake", "books"), Table::named("Lake", "Books"));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// `database.table`, which is also its identity inside the job.
    name: String,
    /// In lower case, as catalogs keep it.
    database: String,
    table: String,
}

impl Table {
    /// The table of this name. Names are caseless.
    pub fn named(database: impl AsRef<str>, table: impl AsRef<str>) -> Self {
        let (database, table) = (database.as_ref().to_lowercase(), table.as_ref().to_lowercase());
        Self { name: format!("{database}.{table}"), database, table }
    }

    /// `database.table`.
    pub fn qualified_name(&self) -> &str {
        &self.name
    }
}
