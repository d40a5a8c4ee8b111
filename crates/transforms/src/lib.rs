//! Pure functions from `DataFrame` to `DataFrame`, for the middle of a job: between `ctx.load` and `ctx.save`.
//!
//! | function | what it does |
//! | --- | --- |
//! | [`merge_and_retain_last`] | applies changes to a table: keeps the last row of each key |
//! | [`Snapshots`] | the whole data set per month or day: as it was known, or by business date with roll-forward |
//! | [`coerce_to_schema`] | makes rows fit a contract, or refuses them with column and value |
//! | [`split_by_schema`] | splits rows into those that fit a contract and those that do not, with reasons |
//! | [`coerce_or_null`] | a value in another type, or null where it would lose something |
//! | [`apply_mapping`] | picks, renames, nests and casts columns, in the tuples of AWS Glue |
//! | [`drop_duplicates`] | one row of every key |
//! | [`except_existing`] | the rows whose key a target does not have yet |
//! | [`refuse_rows`] | fails the run for rows that must not be there |
//! | [`drop_nulls`] | the rows without nulls |
//! | [`drop_columns`] | leaves out columns, which have to exist |
//! | [`fill_nulls`] | replaces nulls by a value |
//! | [`rename`] | gives columns other names |
//! | [`split_date`] | adds the year, month and day of a date |
//!
//! None of them executes anything: they extend the plan, which is executed when its rows are saved. Errors that the
//! plan reveals (a missing column, a type that cannot be converted) are returned at once; errors that only rows reveal
//! (a value that does not fit) occur when they flow, and only for rows and columns that are needed.
//!
//! Names of columns are taken literally: case counts, and `order.id` is a column called "order.id" if there is one.
//! Where a function takes a *path*, a name that is not a column leads into structs: `customer.id` is the field `id` of
//! the column `customer`; backquotes keep a dot out of it: `` `customer.address`.zip ``.
//!
//! ```
//! # use datafusion::prelude::*;
//! # use hardtack_transforms::*;
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
//! let events = dataframe!("id" => [1, 1, 2], "at" => [10, 20, 10], "e-mail" => ["a@x", "b@x", "c@x"])?;
//! let customers = rename(events, &[("e-mail", "email")])?;
//! let customers = drop_duplicates(drop_nulls(customers, &["id"])?, &["id", "email"])?;
//! assert_eq!(customers.count().await?, 3);
//! # Ok(()) }
//! ```

mod cast;
mod coerce;
mod columns;
mod compare;
mod encode;
mod mapping;
mod merge;
mod refuse;
mod rows;
mod shape;
mod snapshots;
mod split;

#[cfg(test)]
mod testing;

pub use cast::{conversion_problem, convert_array};
pub use coerce::{Missing, coerce_to_schema, coerce_to_schema_with};
pub use compare::differences;
pub use mapping::{Mapping, apply_mapping};
pub use merge::{Merge, merge_and_retain_last};
pub use refuse::refuse_rows;
pub use rows::{drop_duplicates, drop_nulls, except_existing};
pub use shape::{drop_columns, fill_nulls, rename, split_date};
pub use snapshots::Snapshots;
pub use split::{REFUSED_COLUMN, coerce_or_null, split_by_schema};
