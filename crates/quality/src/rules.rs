//! Rules as jobs have them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::sync::Arc;

use datafusion::prelude::DataFrame;
use hardtack_core::audit::{Audit, Severity};
use hardtack_core::{Error, JobContext, Result};
use hardtack_dqdl::{CompositeEvaluation, Rule, RuleSet, parse};

use crate::auditor::Auditor;
use crate::compile::Settings;
use crate::judge::judge;
use crate::quarantine::Quarantine;

/// The label that says what the failure of a rule means: `labels = ["severity" = "warn"]`.
const SEVERITY: &str = "severity";

/// Rules for the rows of a source or sink, and the other data sets that they speak of.
///
/// Rules are written in DQDL, the language of AWS Glue Data Quality, or built with [`dqdl::build`](hardtack_dqdl::build).
/// They are a value: nothing is read or checked before rows are audited.
///
/// ```
/// # use hardtack_quality::Rules;
/// let rules = Rules::dqdl(r#"
///     Rules = [
///         IsPrimaryKey "id",
///         ColumnValues "age" between 0 and 130 with threshold >= 0.99,
///         RowCount > 100 labels = ["severity" = "warn"]
///     ]"#);
/// assert!(rules.check().is_ok());
/// ```
///
/// A rule blocks if it fails, unless it has the label `"severity" = "warn"`.
#[derive(Clone)]
pub struct Rules {
    set: Result<Arc<RuleSet>, String>,
    evaluation: CompositeEvaluation,
    references: BTreeMap<String, DataFrame>,
    sensitive: BTreeSet<String>,
}

impl Rules {
    /// Rules in DQDL. A text that cannot be read is an error where the rules are used, and of [`check`](Self::check).
    pub fn dqdl(text: &str) -> Self {
        Self::of(parse(text).map(Arc::new).map_err(|e| e.to_string()))
    }

    fn of(set: Result<Arc<RuleSet>, String>) -> Self {
        let (references, sensitive) = (BTreeMap::new(), BTreeSet::new());
        Self { set, evaluation: CompositeEvaluation::Dataset, references, sensitive }
    }

    /// Adds another data set, under the alias by which rules speak of it. It is read if a rule needs it, once for each; if
    /// the job reads it too, [persist](hardtack_core::Context::persist) it.
    #[must_use]
    pub fn reference(mut self, alias: impl Into<String>, rows: DataFrame) -> Self {
        self.references.insert(alias.into(), rows);
        self
    }

    /// How `and` and `or` combine rules whose rows pass one by one: over all rows by default, as in Glue, or in each row.
    #[must_use]
    pub fn composites_by(mut self, evaluation: CompositeEvaluation) -> Self {
        self.evaluation = evaluation;
        self
    }

    /// Marks columns whose values are shown nowhere: neither in messages nor in records. Columns with the metadata
    /// `sensitive: true` in their schema are marked, too.
    #[must_use]
    pub fn sensitive<S: Into<String>>(mut self, columns: impl IntoIterator<Item = S>) -> Self {
        self.sensitive.extend(columns.into_iter().map(Into::into));
        self
    }

    /// The rules, if they can be read.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) with line and column.
    pub fn check(&self) -> Result<&RuleSet> {
        let set = self.set.as_deref().map_err(|e| Error::usage(format!("the rules cannot be read: {e}")))?;
        set.check().map_err(|e| Error::usage(format!("the rules cannot be read: {e}")))?;
        for rule in &set.rules {
            if let Some(label) = set.labels_of(rule).find(|label| label.key == SEVERITY)
                && label.value != "block"
                && label.value != "warn"
            {
                return Err(Error::usage(format!("`{}` is no severity; those are `block` and `warn`", label.value))
                    .with("rule", rule));
            }
        }
        Ok(set)
    }

    /// Evaluates the rules on rows that are read for it: for tests, and for data that is published already. The audit of
    /// a sink happens while it writes, by [`Audited`](crate::Audited).
    ///
    /// # Errors
    /// Those of [`check`](Self::check) and of reading the rows. A rule that fails is not an error.
    pub async fn audit(&self, job: &JobContext, subject: &str, rows: DataFrame) -> Result<Audit> {
        let settings = self.settings(job, BTreeMap::new(), None, None)?;
        let auditor = Auditor::new(settings);
        let schema = Arc::new(rows.schema().as_arrow().clone());
        auditor.read(rows).await?;
        let finding = auditor.end(&schema).await?;
        Ok(judge(subject, auditor.settings(), &finding))
    }

    pub(crate) fn settings(
        &self,
        job: &JobContext,
        earlier: BTreeMap<String, Vec<f64>>,
        quarantine: Option<Quarantine>,
        kept: Option<Quarantine>,
    ) -> Result<Settings> {
        Ok(Settings {
            rules: Arc::new(self.check()?.clone()),
            evaluation: self.evaluation,
            job: job.clone(),
            references: self.references.clone(),
            earlier,
            sensitive: self.sensitive.clone(),
            quarantine,
            kept,
        })
    }
}

impl From<RuleSet> for Rules {
    fn from(set: RuleSet) -> Self {
        Self::of(Ok(Arc::new(set)))
    }
}

impl From<&str> for Rules {
    fn from(text: &str) -> Self {
        Self::dqdl(text)
    }
}

impl fmt::Debug for Rules {
    /// The rules in one line, for calls that tests compare.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.set {
            Ok(set) => {
                let rules: Vec<_> = set.rules.iter().map(ToString::to_string).collect();
                write!(f, "Rules[{}]", rules.join(", "))
            }
            Err(e) => write!(f, "Rules({e:?})"),
        }
    }
}

impl Display for Rules {
    /// As DQDL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.set {
            Ok(set) => set.fmt(f),
            Err(e) => f.write_str(e),
        }
    }
}

/// What the failure of a rule means.
pub(crate) fn severity(set: &RuleSet, rule: &Rule) -> Severity {
    match set.labels_of(rule).any(|label| label.key == SEVERITY && label.value == "warn") {
        true => Severity::Warn,
        false => Severity::Block,
    }
}

pub(crate) fn labels(set: &RuleSet, rule: &Rule) -> BTreeMap<String, String> {
    set.labels_of(rule).map(|label| (label.key.clone(), label.value.clone())).collect()
}
