//! Schemas as contracts: Hive type strings, and the tables that a CloudFormation template declares, as Arrow schemas.
//!
//! A contract is an Arrow [`Schema`](arrow::datatypes::Schema). There are three ways to come by one:
//!
//! * [`schema!`] writes it down in the job, in the words of the Glue catalog;
//! * [`schema_of`] builds it from names and types that are known at run time only;
//! * [`schema_from_cloudformation`] takes it from the template that also creates the table, so that both cannot drift.
//!
//! [`HiveType`] is the vocabulary of all three: it parses and prints what the catalog holds and converts to Arrow and
//! back.

mod arrow_types;
mod cloudformation;
mod hive_type;
mod parser;
mod schema;

pub use arrow_types::{COMMENT_KEY, HIVE_TYPE_KEY};
pub use cloudformation::schema_from_cloudformation;
pub use hive_type::{HiveField, HiveType};
pub use schema::{schema_literal, schema_of};
