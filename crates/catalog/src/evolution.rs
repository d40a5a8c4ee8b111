//! How a table's columns follow the rows that are saved to it.

/// What a table does when the rows that are saved to it have columns that it does not have, or wider types.
///
/// The types of partition keys stay as they are, and no column is ever dropped, renamed or made narrower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchemaEvolution {
    /// Refuses columns and struct fields that the table does not have. A value of another type is accepted if it fits
    /// the table's type without loss.
    #[default]
    Fail,
    /// Appends columns that the table does not have, and adds fields to its structs. Older files read as null there.
    AddColumns,
    /// Adds columns, and widens types where Athena, Spark and this framework read older Parquet files in the wider
    /// type: integers up to `bigint`, `float` to `double`, a `decimal` to one with more digits but as many after the
    /// point, `varchar(n)` to a greater length. The rules are those of [`Policy::Evolve`](crate::types::Policy::Evolve).
    ///
    /// Other types are not united: a date and a timestamp, an integer and a decimal, a number and a text are stored
    /// differently, so older files could not be read.
    WidenTypes,
}
