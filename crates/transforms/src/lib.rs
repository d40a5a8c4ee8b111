//! Pure functions from `DataFrame` to `DataFrame`, for the middle of a job: between `ctx.load` and `ctx.save`.
//!
//! | function | what it does |
//! | --- | --- |
//! | [`merge_and_retain_last`] | applies changes to a table: the last row of every key stays |
//! | [`coerce_to_schema`] | makes rows fit a contract, or refuses them with column and value |
//! | [`split_by_schema`] | splits rows into those that fit a contract and those that do not, with reasons |
//! | [`coerce_or_null`] | a value in another type, or null where it would lose something |
//! | [`apply_mapping`] | picks, renames, nests and casts columns, in the tuples of AWS Glue |
//! | [`drop_duplicates`] | one row of every key |
//! | [`except_existing`] | the rows whose key a target does not have yet |
//! | [`refuse_rows`] | fails the run for rows that must not be there |
//! | [`drop_nulls`] | the rows without nulls |
//! | [`drop_columns`] | leaves out columns, which have to be there |
//! | [`fill_nulls`] | puts a value in the place of nulls |
//! | [`rename`] | gives columns other names |
//! | [`split_date`] | adds the year, month and day of a date |
//!
//! None of them runs anything: they extend the plan, which runs when its rows are saved. What can be known from the
//! plan (a column that is not there, a type that cannot become another) is an error at once; what only the rows can
//! tell (a value that does not fit) is an error when they flow, and only for rows and columns that something asks for.
//!
//! Names of columns are taken literally: case counts, and `order.id` is a column called "order.id" if there is one.
//! Where a function takes a *path*, a name that is no column leads into structs: `customer.id` is the field `id` of the
//! column `customer`; backquotes keep a dot out of it: `` `customer.address`.zip ``.
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
mod encode;
mod mapping;
mod merge;
mod refuse;
mod rows;
mod shape;
mod split;

#[cfg(test)]
mod testing;

pub use cast::{conversion_problem, convert_array};
pub use coerce::{Missing, coerce_to_schema, coerce_to_schema_with};
pub use mapping::{Mapping, apply_mapping};
pub use merge::{Merge, merge_and_retain_last};
pub use refuse::refuse_rows;
pub use rows::{drop_duplicates, drop_nulls, except_existing};
pub use shape::{drop_columns, fill_nulls, rename, split_date};
pub use split::{REFUSED_COLUMN, coerce_or_null, split_by_schema};
