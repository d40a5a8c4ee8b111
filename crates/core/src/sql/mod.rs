//! SQL with correct semantics: a DataFusion session that corrects what DataFusion silently gets wrong.
//!
//! | module | what it corrects |
//! | --- | --- |
//! | `time` | `date_trunc` and `date_bin` beyond the years 1677 and 2262 |
//! | `meaning` | comparisons of moments with dates, texts and other units, of numbers with texts; patterns of dates as Spark writes them |
//! | `equality` | `-0.0` and `0.0` are equal, and so is every NaN, wherever values are compared |
//! | `unnested` | fields of structs that came out of a list |
//! | `to_char` | `to_char` of one moment in many formats, and of a batch without rows |
//!
//! All corrections work on plans, so they apply to SQL and DataFrames alike.

mod equality;
mod meaning;
mod pattern;
mod time;
mod to_char;
mod unnested;

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::operator;
use crate::progress::Uncounted;

pub use equality::{canonical, canonical_array, canonical_columns, holds_floats};
pub use time::{date_bin, date_trunc};
pub use to_char::to_char;

/// A session with these corrections. Runs have one in their context; this is for tests of functions over DataFrames,
/// and for other users of DataFusion.
pub fn session(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionContext {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![Arc::new(meaning::Meaning)];
    rules.extend(Analyzer::new().rules);
    rules.push(Arc::new(equality::Equality));
    rules.push(Arc::new(unnested::Unnested));
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_default_features()
        .with_analyzer_rules(rules)
        .with_type_planner(Arc::new(meaning::Types))
        .with_physical_optimizer_rule(Arc::new(Uncounted))
        .build();
    let session = SessionContext::new_with_state(operator::equipped(state));
    for function in time::functions().into_iter().chain([to_char::function()]) {
        session.register_udf(function.as_ref().clone());
    }
    session
}

#[cfg(test)]
mod tests;
