//! Tables as jobs name them.

use std::fmt;

use arrow::datatypes::SchemaRef;
use hardtack_core::ShowFields;

use crate::column::TableBookmark;
use crate::sink::Writing;

/// A table of the catalog by name. It is a source and a sink.
///
/// ```
/// use hardtack_tables::Table;
///
/// assert_eq!(Table::named("lake", "books"), Table::named("Lake", "Books"));
/// assert_eq!(format!("{:?}", Table::named("lake", "books")), r#"Table { name: "lake.books" }"#);
/// ```
#[derive(Clone, PartialEq)]
pub struct Table {
    /// `database.table`, which is also its identity within the job.
    name: String,
    /// In lower case, as in catalogs.
    database: String,
    table: String,
    /// The columns to assume if the table does not exist.
    pub(crate) or_empty: Option<SchemaRef>,
    pub(crate) bookmark: Option<TableBookmark>,
    pub(crate) writing: Writing,
    #[cfg(feature = "iceberg")]
    pub(crate) iceberg: crate::iceberg::Iceberg,
}

impl Table {
    /// The table of this name. Names are case-insensitive.
    pub fn named(database: impl AsRef<str>, table: impl AsRef<str>) -> Self {
        let (database, table) = (database.as_ref().to_lowercase(), table.as_ref().to_lowercase());
        let name = format!("{database}.{table}");
        Self {
            writing: Writing::of(&name),
            name,
            database,
            table,
            or_empty: None,
            bookmark: None,
            #[cfg(feature = "iceberg")]
            iceberg: crate::iceberg::Iceberg::default(),
        }
    }

    /// The same options for another table of its database.
    pub(crate) fn renamed(mut self, table: &str) -> Self {
        self.table = table.to_lowercase();
        self.name = format!("{}.{}", self.database, self.table);
        self
    }

    /// `database.table`.
    pub fn qualified_name(&self) -> &str {
        &self.name
    }

    /// The database's name, in lower case.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The table's name in its database, in lower case.
    pub fn table(&self) -> &str {
        &self.table
    }
}

impl fmt::Debug for Table {
    /// Shows what was chosen, without the defaults.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Table");
        f.field("name", &self.name);
        if let Some(schema) = &self.or_empty {
            f.field("or_empty", &ShowFields(schema.fields()));
        }
        if let Some(bookmark) = &self.bookmark {
            f.field("bookmark", &format_args!("{bookmark}"));
        }
        self.writing.show(&mut f, &self.name);
        #[cfg(feature = "iceberg")]
        if self.iceberg != crate::iceberg::Iceberg::default() {
            f.field("iceberg", &self.iceberg);
        }
        f.finish()
    }
}
