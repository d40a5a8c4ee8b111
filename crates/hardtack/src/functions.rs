//! All of DataFusion's expression functions. The [`prelude`](crate::prelude) has the common ones.
//!
//! ```
//! use hardtack::functions::aggregate::approx_distinct;
//! use hardtack::functions::levenshtein;
//! use hardtack::prelude::*;
//!
//! let distance = levenshtein(col("name"), lit("Ada"));
//! let names = approx_distinct(col("name"));
//! # let _ = (distance, names);
//! ```

pub use datafusion::functions::expr_fn::*;
// Replacements of DataFusion's functions, which are wrong for some values or batches.
pub use hardtack_core::sql::{date_bin, date_trunc, to_char};

pub use datafusion::functions_aggregate::expr_fn as aggregate;
pub use datafusion::functions_nested::expr_fn as nested;
pub use datafusion::functions_window::expr_fn as window;
