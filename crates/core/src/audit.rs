//! The results of audits: what rules have found out about rows before they are published.
//!
//! Whoever audits adds an [`Audit`] to the run ([`JobContext::add_audit`](crate::JobContext::add_audit)). When `main` has
//! ended and all rows are staged, [`JobContext::audit`](crate::JobContext::audit) decides: a failed verdict that
//! [blocks](Severity::Block) stops the whole run. All audits are in the run record, whatever the decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use crate::{Error, Location, Result};

/// What audits do with the rows that they refuse.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditOptions {
    /// The folder in which bad rows are set aside by rules that allow a share of them, in one folder for each sink. Without
    /// it they are published, too.
    pub quarantine: Option<Location>,
    /// The folder in which refused rows stay when an audit has failed, in one folder for each run and sink. Without it
    /// they are discarded with everything else that the run has staged.
    pub keep: Option<Location>,
}

/// The audit of the rows of one source or sink.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Audit {
    /// The name of the sink, or `source` and the name of the source.
    pub subject: String,
    /// The table, or the location, that the rows belong to, for the history of a table over jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The number of rows that were audited, those set aside included.
    pub rows: u64,
    /// One for each rule, in the order of the rules.
    pub verdicts: Vec<Verdict>,
    /// All numbers that were measured, by names such as `Column.id.Completeness`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
    /// The number of rows that were set aside, if the audit does that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<u64>,
    /// Where the refused rows can be read, if the audit has refused some and they are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Location>,
}

impl Audit {
    /// The verdicts that stop a run.
    pub fn blocking(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| verdict.blocks())
    }

    /// Whether no verdict stops the run.
    pub fn passed(&self) -> bool {
        self.blocking().next().is_none()
    }

    /// The error that stops the run, if a verdict does: of the kind [`Refused`](crate::ErrorKind::Refused), with the
    /// failed rules.
    pub fn refusal(&self) -> Option<Error> {
        let failed: Vec<_> = self.blocking().collect();
        if failed.is_empty() {
            return None;
        }
        let all = self.verdicts.len();
        let rules = if all == 1 { "rule" } else { "rules" };
        let mut error = Error::refused(format!("{} of {all} {rules} failed for `{}`", failed.len(), self.subject));
        for verdict in failed.iter().take(5) {
            error = error.with("failed", verdict);
        }
        if failed.len() > 5 {
            error = error.with("and", format!("{} more", failed.len() - 5));
        }
        if let Some(kept) = &self.kept {
            error = error.with("refused rows", kept);
        }
        Some(error)
    }
}

/// An audit that ends with the run, because its rows are read while the run executes its plans.
#[async_trait]
pub trait PendingAudit: fmt::Debug + Send + Sync {
    /// The audit, once `main` has ended; `None` if there is nothing to report.
    ///
    /// # Errors
    /// Those of reading the rows that the run has not read, and whatever stops the run before it is decided.
    async fn end(&self) -> Result<Option<Audit>>;
}

/// What a rule has found out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The number of the rule in its set, from 1.
    pub number: usize,
    /// The rule, as DQDL.
    pub rule: String,
    /// The outcome.
    pub outcome: Outcome,
    /// What a failure means.
    pub severity: Severity,
    /// What was measured, for people: `0.98`, `3 of 100 rows fail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
    /// What the rule wants, for people: `> 0.99`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// Why it failed, if the numbers do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The number of rows that fail, if each row passes or fails by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_rows: Option<u64>,
    /// Some of the values that fail, or of the rows. Values of sensitive columns are redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// The labels of the rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl Verdict {
    /// Whether it stops the run.
    pub fn blocks(&self) -> bool {
        self.outcome != Outcome::Passed && self.severity == Severity::Block
    }
}

impl fmt::Display for Verdict {
    /// `rule 2: IsUnique "id" (3 of 100 rows fail, such as 7, 9)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}", self.number, self.rule)?;
        let mut parts: Vec<String> = self.reason.iter().chain(&self.actual).cloned().collect();
        // That no row may fail goes without saying.
        parts.extend(
            self.expected.iter().filter(|_| self.failed_rows.is_none()).map(|wanted| format!("expected {wanted}")),
        );
        if !self.examples.is_empty() {
            parts.push(format!("such as {}", self.examples.join(", ")));
        }
        if parts.is_empty() { Ok(()) } else { write!(f, " ({})", parts.join(", ")) }
    }
}

/// The outcome of a rule, as in AWS Glue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The rows are as the rule says.
    Passed,
    /// They are not.
    Failed,
    /// The rule could not be evaluated, for example because its column does not exist. It counts as failed.
    Error,
}

impl Outcome {
    /// `passed`, `failed`, `error`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Error => "error",
        }
    }
}

/// What the failure of a rule means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The run stops before its commit.
    #[default]
    Block,
    /// It is reported, and the run goes on.
    Warn,
}

impl Severity {
    /// `block`, `warn`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Warn => "warn",
        }
    }
}

/// The key in the metadata of a field that says that its values are shown nowhere: `sensitive: true`.
pub const SENSITIVE_KEY: &str = "sensitive";

/// What stands in place of values that are shown nowhere.
pub const REDACTED: &str = "(redacted)";

/// The schema with these columns marked as sensitive: messages, reports and records show none of their values. Columns that
/// it does not have are left out.
///
/// ```
/// use std::sync::Arc;
///
/// use datafusion::arrow::datatypes::{DataType, Field, Schema};
/// use hardtack_core::audit::{is_sensitive, sensitive};
///
/// let schema = Arc::new(Schema::new(vec![Field::new("email", DataType::Utf8, true)]));
/// assert!(is_sensitive(sensitive(schema, ["email"]).field(0)));
/// ```
pub fn sensitive<S: AsRef<str>>(schema: SchemaRef, columns: impl IntoIterator<Item = S>) -> SchemaRef {
    let columns: Vec<S> = columns.into_iter().collect();
    let mark = |field: &FieldRef| match columns.iter().any(|column| column.as_ref() == field.name()) {
        true => {
            let mut metadata = field.metadata().clone();
            metadata.insert(SENSITIVE_KEY.to_owned(), "true".to_owned());
            Arc::new(field.as_ref().clone().with_metadata(metadata))
        }
        false => Arc::clone(field),
    };
    let fields: Vec<FieldRef> = schema.fields().iter().map(mark).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Whether the values of a column are shown nowhere.
pub fn is_sensitive(field: &Field) -> bool {
    field.metadata().get(SENSITIVE_KEY).is_some_and(|is| is == "true")
}

/// The numbers that audits have measured in earlier runs, by source or sink and metric, the newest first. Runs that
/// failed are not among them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(BTreeMap<String, BTreeMap<String, Vec<f64>>>);

impl History {
    /// The number of runs that are remembered for each metric.
    pub const RUNS: usize = 100;

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of a source or sink, by metric.
    pub fn of(&self, subject: &str) -> BTreeMap<String, Vec<f64>> {
        self.0.get(subject).cloned().unwrap_or_default()
    }

    /// The history after a run with these audits.
    #[must_use]
    pub fn with(&self, audits: &[Audit]) -> Self {
        let mut after = self.clone();
        let mut seen = BTreeSet::new();
        for audit in audits {
            let metrics = after.0.entry(audit.subject.clone()).or_default();
            for (metric, value) in &audit.metrics {
                // One value for each run.
                if !seen.insert((&audit.subject, metric)) {
                    continue;
                }
                let values = metrics.entry(metric.clone()).or_default();
                values.insert(0, *value);
                values.truncate(Self::RUNS);
            }
        }
        after
    }
}
