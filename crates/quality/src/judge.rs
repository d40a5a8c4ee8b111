//! Verdicts on what was measured.

use std::collections::BTreeMap;

use hardtack_core::audit::{Audit, Outcome, REDACTED, Verdict};

use crate::auditor::Finding;
use crate::compile::{Judgement, Number, Settings, Shown};
use crate::condition::{holds, percentile, shown};
use crate::measure::{Measured, Quantity};
use crate::rules::{labels, severity};

/// The verdict of a rule, or of a part of one.
struct Judged {
    outcome: Outcome,
    actual: Option<String>,
    expected: Option<String>,
    reason: Option<String>,
    failed_rows: Option<u64>,
    examples: Vec<String>,
}

impl Judged {
    fn of(passed: bool) -> Self {
        let outcome = if passed { Outcome::Passed } else { Outcome::Failed };
        Self { outcome, actual: None, expected: None, reason: None, failed_rows: None, examples: Vec::new() }
    }

    fn error(reason: String) -> Self {
        Self { outcome: Outcome::Error, reason: Some(reason), ..Self::of(false) }
    }

    fn actual(self, actual: impl Into<String>) -> Self {
        Self { actual: Some(actual.into()), ..self }
    }

    fn expected(self, expected: impl Into<String>) -> Self {
        Self { expected: Some(expected.into()), ..self }
    }

    fn because(self, reason: impl Into<String>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }
}

/// The audit of the rows of a source or sink.
pub(crate) fn judge(subject: &str, settings: &Settings, finding: &Finding) -> Audit {
    let Finding { program, measured, held_back } = finding;
    let mut judge = Judge { measured, metrics: BTreeMap::new() };
    let rules = &settings.rules;
    let verdicts = rules.rules.iter().zip(&program.judgements).enumerate().map(|(i, (rule, judgement))| {
        let judged = judge.judged(judgement);
        Verdict {
            number: i + 1,
            // Labels are told apart.
            rule: hardtack_dqdl::Rule { labels: Vec::new(), ..rule.clone() }.to_string(),
            outcome: judged.outcome,
            severity: severity(rules, rule),
            actual: judged.actual,
            expected: judged.expected,
            reason: judged.reason,
            failed_rows: judged.failed_rows,
            examples: if judged.outcome == Outcome::Passed && judged.failed_rows == Some(0) {
                Vec::new()
            } else {
                judged.examples
            },
            labels: labels(rules, rule),
        }
    });
    let verdicts = verdicts.collect();
    for (metric, quantity) in &program.analyzed {
        judge.note(metric, quantity.of(measured).ok().flatten());
    }
    Audit {
        subject: subject.to_owned(),
        table: None,
        rows: measured.rows,
        verdicts,
        metrics: judge.metrics,
        quarantined: settings.quarantine.is_some().then_some(*held_back),
        kept: None,
    }
}

struct Judge<'a> {
    measured: &'a Measured,
    metrics: BTreeMap<String, f64>,
}

impl Judge<'_> {
    fn note(&mut self, metric: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|value| value.is_finite()) {
            self.metrics.insert(metric.to_owned(), value);
        }
    }

    fn judged(&mut self, judgement: &Judgement) -> Judged {
        match judgement {
            Judgement::Error(why) => Judged::error(why.clone()),
            Judgement::Known { passed, actual } => Judged::of(*passed).actual(actual),
            Judgement::Number(number) => self.number(number).unwrap_or_else(Judged::error),
            Judgement::Rows { metric, rows, failed, threshold, examples } => {
                self.rows(metric, rows, failed, threshold.as_ref(), *examples).unwrap_or_else(Judged::error)
            }
            Judgement::Anomaly { metric, quantity, earlier } => {
                self.anomaly(metric, quantity, earlier).unwrap_or_else(Judged::error)
            }
            Judgement::All(parts) => self.parts(parts, |parts| parts.iter().all(passes)),
            Judgement::Any(parts) => self.parts(parts, |parts| parts.iter().any(passes)),
        }
    }

    fn parts(&mut self, parts: &[Judgement], passes_as_a_whole: fn(&[Judged]) -> bool) -> Judged {
        let parts: Vec<_> = parts.iter().map(|part| self.judged(part)).collect();
        let passed = passes_as_a_whole(&parts);
        let join = |of: fn(&Judged) -> Option<&String>| {
            let texts: Vec<&str> =
                parts.iter().filter(|part| passed || !passes(part)).filter_map(of).map(String::as_str).collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        };
        let is_error = !passed && parts.iter().any(|part| part.outcome == Outcome::Error);
        Judged {
            outcome: if is_error { Outcome::Error } else { Judged::of(passed).outcome },
            actual: join(|part| part.actual.as_ref()),
            expected: join(|part| part.expected.as_ref()),
            reason: join(|part| part.reason.as_ref()),
            failed_rows: None,
            examples: if passed { Vec::new() } else { parts.into_iter().flat_map(|part| part.examples).collect() },
        }
    }

    fn number(&mut self, number: &Number) -> Result<Judged, String> {
        let Number { metric, quantity, condition, is_share, in_view, examples } = number;
        let value = match quantity.of(self.measured)? {
            // No row is bad if there is none.
            None if *is_share => Some(1.0),
            value => value,
        };
        self.note(metric, value);
        let expected = shown(condition);
        let Some(value) = value else {
            let sees_none = match in_view {
                Some(rows) => rows.of(self.measured)? == Some(0.0),
                None => false,
            };
            return Ok(match sees_none {
                true => Judged::of(true).expected(expected).because("no row meets its `where`"),
                false => Judged::of(false).expected(expected).because("there are no values to measure"),
            });
        };
        let passed = holds(condition, value);
        let mut judged = Judged::of(passed).actual(format!("{value}")).expected(expected);
        if !passed {
            judged.examples = self.examples(*examples);
        }
        Ok(judged)
    }

    fn rows(
        &mut self,
        metric: &str,
        rows: &Quantity,
        failed: &Quantity,
        threshold: Option<&hardtack_dqdl::Condition<f64>>,
        examples: Option<Shown>,
    ) -> Result<Judged, String> {
        let count = |quantity: &Quantity| Ok::<_, String>(quantity.of(self.measured)?.unwrap_or(0.0));
        let (rows, failed) = (count(rows)?, count(failed)?);
        let share = if rows == 0.0 { 1.0 } else { (rows - failed) / rows };
        self.note(metric, Some(share));
        let passed = threshold.map_or(failed == 0.0, |threshold| holds(threshold, share));
        let mut judged = Judged::of(passed).actual(format!("{failed} of {rows} rows fail"));
        judged = judged.expected(threshold.map_or_else(
            || "no row fails".to_owned(),
            |threshold| format!("a share of passing rows {}", shown(threshold)),
        ));
        judged.failed_rows = Some(failed as u64);
        judged.examples = self.examples(examples);
        Ok(judged)
    }

    fn anomaly(&mut self, metric: &str, quantity: &Quantity, earlier: &[f64]) -> Result<Judged, String> {
        let value = quantity.of(self.measured)?;
        self.note(metric, value);
        let Some(value) = value else { return Ok(Judged::of(false).because("there are no values to measure")) };
        let actual = format!("{value}");
        if earlier.len() < ENOUGH {
            let have = earlier.len();
            return Ok(Judged::of(true)
                .actual(actual)
                .because(format!("{have} earlier values, and {ENOUGH} are needed")));
        }
        let (low, high) = usual(earlier);
        Ok(Judged::of(low <= value && value <= high).actual(actual).expected(format!("between {low} and {high}")))
    }

    fn examples(&self, shown: Option<Shown>) -> Vec<String> {
        match shown {
            None | Some(Shown::Nothing) => Vec::new(),
            Some(Shown::Rows(i)) => self.measured.examples[i].clone(),
            Some(Shown::Groups(i)) => self.measured.groupings[i].repeated.clone(),
            Some(Shown::Query(i)) => self.measured.queries[i].examples.clone(),
            Some(Shown::Redacted) => vec![REDACTED.to_owned()],
        }
    }
}

fn passes(judged: &Judged) -> bool {
    judged.outcome == Outcome::Passed
}

/// The number of earlier values from which on anomalies are found, as in Glue.
const ENOUGH: usize = 3;

/// The range in which a value is usual: around the median of the earlier ones, as wide as three standard deviations of a
/// normal distribution with their median deviation, and at least 5 % of the median.
fn usual(earlier: &[f64]) -> (f64, f64) {
    let median = percentile(earlier, 0.5);
    let deviations: Vec<f64> = earlier.iter().map(|value| (value - median).abs()).collect();
    // 1.4826: the standard deviation of a normal distribution divided by its median absolute deviation.
    let width = (3.0 * 1.4826 * percentile(&deviations, 0.5)).max(0.05 * median.abs());
    (median - width, median + width)
}
