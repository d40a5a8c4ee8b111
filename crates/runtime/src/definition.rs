//! What a scheduler must know of a job.

use std::collections::BTreeMap;

use hardtack_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// What a scheduler must know of a job, which a job says next to its `main`. See [`Job`](crate::Job) for how.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobDefinition {
    /// The job's name: its commits and run records are kept under it.
    pub name: String,
    /// The version of its package.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The revision of the sources that it was built of, if `hardtack package` has built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What it does, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whom to ask, and to tell of failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Tags of what is created for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// When it runs: an expression of [EventBridge](https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html),
    /// `cron(0 3 * * ? *)` or `rate(1 hour)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// After how many seconds a run is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// How often a run that failed for a reason that may pass is started in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// How many processors it gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<f64>,
    /// How much memory it gets, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
}

/// What AWS Batch takes.
const MIN_TIMEOUT: u64 = 60;
const ATTEMPTS: std::ops::RangeInclusive<u32> = 1..=10;
const MIN_MEMORY: u32 = 128;

impl JobDefinition {
    /// Checks what a scheduler would refuse later.
    ///
    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage) for a schedule that does not parse, and numbers out of range.
    pub fn check(&self) -> Result<()> {
        let schedule = self.schedule.as_ref().and_then(|text| Some((check_schedule(text).err()?, text)));
        let problems = [
            ("schedule", schedule.map(|(why, text)| format!("{why} in `{text}`"))),
            ("time-out", self.timeout_seconds.filter(|n| *n < MIN_TIMEOUT).map(|n| format!("{n} s is below 60 s"))),
            (
                "number of attempts",
                self.attempts.filter(|n| !ATTEMPTS.contains(n)).map(|n| format!("{n} is not 1 to 10")),
            ),
            (
                "number of vCPUs",
                self.vcpus.filter(|n| !(n.is_finite() && *n > 0.0)).map(|n| format!("{n} is not above 0")),
            ),
            ("memory", self.memory_mib.filter(|n| *n < MIN_MEMORY).map(|n| format!("{n} MiB is below 128 MiB"))),
        ];
        match problems.into_iter().find_map(|(what, why)| Some((what, why?))) {
            None => Ok(()),
            Some((what, why)) => {
                let why = format!("the {what} of the job is not valid: {why}");
                Err(Error::usage(why).with("job", &self.name).hint("correct it in the job's function `job()`"))
            }
        }
    }

    /// What `--version` prints after the name, if the version is known: also of what it was built with.
    pub(crate) fn long_version(&self) -> Option<String> {
        let version = self.version.as_ref()?;
        let hardtack = env!("CARGO_PKG_VERSION");
        let revision = self.revision.as_ref().map(|revision| format!("{revision}, ")).unwrap_or_default();
        Some(format!("{version} ({revision}hardtack {hardtack}, DataFusion {})", datafusion::DATAFUSION_VERSION))
    }
}

/// Checks an expression as EventBridge does, or says what it does not take.
fn check_schedule(text: &str) -> Result<(), String> {
    let inside = |name: &str| text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(rate) = inside("rate") {
        let (n, unit) = rate.split_once(' ').ok_or("expected `rate(5 minutes)`")?;
        let n: u32 = n.parse().ok().filter(|n| *n > 0).ok_or("expected a number from 1")?;
        let one = ["minute", "hour", "day"].contains(&unit);
        let many = ["minutes", "hours", "days"].contains(&unit);
        return match (n, one, many) {
            (1, true, _) | (2.., _, true) => Ok(()),
            (1, _, true) => Err("1 needs `minute`, `hour` or `day`".to_owned()),
            (_, true, _) => Err(format!("{n} needs `minutes`, `hours` or `days`")),
            _ => Err(format!("`{unit}` is no unit")),
        };
    }
    let cron = inside("cron")
        .ok_or("expected `cron(minutes hours day-of-month month day-of-week year)` or `rate(5 minutes)`")?;
    let fields: Vec<&str> = cron.split_whitespace().collect();
    let [minutes, hours, day, month, weekday, year] = fields.as_slice() else {
        return Err(format!("expected 6 fields, and there are {}", fields.len()));
    };
    const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    Field { name: "minutes", from: 0, to: 59, names: &[] }.check(minutes)?;
    Field { name: "hours", from: 0, to: 23, names: &[] }.check(hours)?;
    Field { name: "month", from: 1, to: 12, names: &MONTHS }.check(month)?;
    Field { name: "year", from: 1970, to: 2199, names: &[] }.check(year)?;
    match (*day, *weekday) {
        ("?", "?") => return Err("one of the two days must not be `?`".to_owned()),
        ("?", _) | (_, "?") => {}
        _ => return Err("one of the two days must be `?`".to_owned()),
    }
    let of_month = Field { name: "day-of-month", from: 1, to: 31, names: &[] };
    match *day {
        "?" | "L" | "LW" => {}
        // The weekday that is nearest.
        day => of_month.check(day.strip_suffix('W').unwrap_or(day))?,
    }
    let of_week = Field { name: "day-of-week", from: 1, to: 7, names: &DAYS };
    match *weekday {
        "?" | "L" => Ok(()),
        day => match day.split_once('#') {
            // The third Tuesday of a month: `3#3`.
            Some((day, nth)) => {
                of_week.check(day)?;
                Field { name: "week of day-of-week", from: 1, to: 5, names: &[] }.check(nth)
            }
            None => of_week.check(day.strip_suffix('L').unwrap_or(day)),
        },
    }
}

/// A field of a cron expression.
struct Field {
    name: &'static str,
    from: u32,
    to: u32,
    /// Names of the values, from `from` on.
    names: &'static [&'static str],
}

impl Field {
    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + self.from);
        let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if is_number { text.parse().ok() } else { None };
        named.or(number).filter(|value| (self.from..=self.to).contains(value))
    }

    /// A list of values, ranges and steps.
    fn check(&self, text: &str) -> Result<(), String> {
        for item in text.split(',') {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (item, None),
            };
            let in_order = |(from, to): (&str, &str)| Some(self.value(from)? <= self.value(to)?).filter(|fine| *fine);
            let known = match range.split_once('-') {
                _ if range == "*" => true,
                Some(bounds) => in_order(bounds).is_some(),
                None => self.value(range).is_some(),
            };
            let steps = step.is_none_or(|step| step.parse::<u32>().is_ok_and(|n| n > 0));
            if !known || !steps {
                return Err(format!("`{item}` is no value of {} ({} to {})", self.name, self.from, self.to));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("cron(0 3 * * ? *)")]
    #[case("cron(*/15 8-18 ? JAN-mar MON-FRI 2026-2030)")]
    #[case("cron(0,30 0 L * ? *)")]
    #[case("cron(0 0 15W * ? *)")]
    #[case("cron(0 0 LW 1/3 ? *)")]
    #[case("cron(0 0 ? * 6#3 *)")]
    #[case("cron(0 0 ? * FRIL *)")]
    #[case("rate(1 hour)")]
    #[case("rate(5 minutes)")]
    fn schedules_are_known(#[case] text: &str) {
        assert_eq!(check_schedule(text), Ok(()));
    }

    #[rstest]
    #[case("0 3 * * ? *", "expected `cron(minutes hours day-of-month month day-of-week year)` or `rate(5 minutes)`")]
    #[case("cron(0 3 * * *)", "expected 6 fields, and there are 5")]
    #[case("cron(0 3 * * * *)", "one of the two days must be `?`")]
    #[case("cron(0 3 ? * ? *)", "one of the two days must not be `?`")]
    #[case("cron(60 3 * * ? *)", "`60` is no value of minutes (0 to 59)")]
    #[case("cron(0 18-8 * * ? *)", "`18-8` is no value of hours (0 to 23)")]
    #[case("cron(0 3 32 * ? *)", "`32` is no value of day-of-month (1 to 31)")]
    #[case("cron(0 3 ? * 0 *)", "`0` is no value of day-of-week (1 to 7)")]
    #[case("cron(0 3 ? * 2#6 *)", "`6` is no value of week of day-of-week (1 to 5)")]
    #[case("cron(*/0 3 * * ? *)", "`*/0` is no value of minutes (0 to 59)")]
    #[case("cron(+5 3 * * ? *)", "`+5` is no value of minutes (0 to 59)")]
    #[case("rate(1 hours)", "1 needs `minute`, `hour` or `day`")]
    #[case("rate(2 hour)", "2 needs `minutes`, `hours` or `days`")]
    #[case("rate(0 hours)", "expected a number from 1")]
    #[case("rate(5 weeks)", "`weeks` is no unit")]
    fn what_would_never_run_is_named(#[case] text: &str, #[case] why: &str) {
        assert_eq!(check_schedule(text), Err(why.to_owned()));
    }

    #[rstest]
    #[case(JobDefinition { schedule: Some("daily".into()), ..JobDefinition::default() }, "schedule")]
    #[case(JobDefinition { timeout_seconds: Some(59), ..JobDefinition::default() }, "time-out")]
    #[case(JobDefinition { attempts: Some(0), ..JobDefinition::default() }, "attempts")]
    #[case(JobDefinition { attempts: Some(11), ..JobDefinition::default() }, "attempts")]
    #[case(JobDefinition { vcpus: Some(0.0), ..JobDefinition::default() }, "vCPUs")]
    #[case(JobDefinition { vcpus: Some(f64::NAN), ..JobDefinition::default() }, "vCPUs")]
    #[case(JobDefinition { memory_mib: Some(64), ..JobDefinition::default() }, "memory")]
    fn what_a_scheduler_refuses_is_refused_here(#[case] job: JobDefinition, #[case] what: &str) {
        let error = job.check().unwrap_err();
        assert!(error.kind() == hardtack_core::ErrorKind::Usage && error.message().contains(what), "{error}");
    }
}
