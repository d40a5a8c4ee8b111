//! DQDL, the language in which AWS Glue Data Quality has its rules: a typed tree, a parser with errors that help, a
//! printer, and functions that build the same trees in Rust.
//!
//! ```
//! use hardtack_dqdl::build::*;
//! use hardtack_dqdl::{Condition, RuleSet, avg, last, parse};
//!
//! let written = parse(
//!     r#"
//!     Rules = [
//!         IsComplete "id",   # no order without one
//!         ColumnValues "age" between 0 and 120 where "country = 'CH'" with threshold >= 0.9,
//!         RowCount > avg(last(10)) * 0.8
//!     ]"#,
//! )?;
//!
//! let built = RuleSet::new([
//!     is_complete("id"),
//!     column_values("age").between(0, 120).filter("country = 'CH'").with_threshold(Condition::at_least(0.9)),
//!     row_count().greater_than(avg(last(10)) * 0.8),
//! ]);
//! assert_eq!(built, written);
//! built.check()?;
//!
//! println!("{built}");
//! # Ok::<(), hardtack_dqdl::ParseError>(())
//! ```
//!
//! Nothing is evaluated here, and nothing is read or written.
//!
//! # The tree
//!
//! A [`RuleSet`] has [`Rule`]s and [`Analyzer`]s. A rule is a [`Check`] with options that all rules may have: a filter, a
//! threshold, tags, labels, and its position. `Check` has a variant for each type of rule; those that compare one number
//! of the data set are [`Check::Metric`] with a [`Metric`], because analyzers and `DetectAnomalies` measure the same.
//! [`Check::And`] and [`Check::Or`] have rules as their parts.
//!
//! Conditions are [`Condition`]s of a [`Number`], [`Duration`], [`Size`] or [`DateValue`], and [`StringCondition`]s.
//! `ColumnValues` has a [`ValueCondition`], whose type the operands decide. Numbers keep the digits that were written
//! ([`Decimal`]), and arithmetic is a list of steps **from left to right**, for DQDL has no precedence.
//!
//! Variables are resolved: a [`Text`] or [`StringList`] *is* its value, and remembers the variable for printing.
//!
//! # Printing
//!
//! Everything displays as canonical DQDL. For each tree that was parsed, and for each built one that
//! [`RuleSet::check`] accepts, `parse(&tree.to_string())` is an equal tree. Positions do not count.
//!
//! # Differences from Glue
//!
//! The authority is the grammar of `awslabs/dqdl` and, where its users' guide says something else, the guide.
//!
//! * **More is accepted**: the rule types that Deequ has and Glue has not ([`Metric`] names them), thresholds of
//!   `ColumnLength`, sections and options in any order, columns named like `"2024-01-01"`, lists that mix texts with
//!   texts that look like dates, comments at the end of the text, and `RowCount > 0 and IsUnique "id"`: after a complete
//!   list of parameters, or before the name of a rule type, `and` joins rules.
//! * **Less is accepted**: functions other than those of the guide and `percentile` ([`Dynamic`]), functions of anything
//!   but `last(…)` save `abs`, and `last(5)` where one number is needed; `NULL` in conditions of rules other than
//!   `ColumnValues`; `matches` with look-around or back-references; nesting of more than 64 levels; a key, tag or option
//!   that is there twice; tags that are arithmetic; variables as patterns; parameters of `ReferentialIntegrity`,
//!   `DatasetMatch` and `AggregateMatch` that nothing can be made of; text behind the last section.
//! * **Escapes**: `\"` and `\\` stand for `"` and `\` in all texts but patterns, which are as they are written.

pub mod build;
mod condition;
mod error;
mod number;
mod parse;
mod print;
mod text;
mod tree;

pub use condition::{
    Condition, DateCondition, DateValue, Duration, DurationCondition, DurationUnit, NumberCondition, Pattern, Size,
    SizeCondition, SizeUnit, StringCondition, StringList, StringValue, Value, ValueCondition,
};
pub use error::ParseError;
pub use number::{
    Aggregate, Decimal, Dynamic, Last, NotADecimal, Number, Operator, abs, avg, index, last, max, median, min,
    percentile, previous, std_dev, sum_of,
};
pub use parse::parse;
pub use text::{Aggregation, AggregationFunction, ColumnList, ColumnPairs, ReferenceColumns, Text};
pub use tree::{
    Analysis, Analyzer, Check, CompositeEvaluation, DataSources, FileMatch, Label, Metadata, Metric, Position, Rule,
    RuleSet, Tag, Variable, VariableValue,
};
