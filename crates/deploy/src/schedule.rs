//! How often a schedule runs a job.

/// The most hours between two runs of a schedule, as far as its fields tell without a calendar; `None` for schedules of
/// which they do not, and for those with more than a week between two runs: CloudWatch's alarms look back a week.
pub(crate) fn hours_between_runs(schedule: &str) -> Option<u32> {
    let hours = match schedule.strip_prefix("rate(") {
        Some(rate) => {
            let (n, unit) = rate.strip_suffix(')')?.split_once(' ')?;
            let n: u32 = n.parse().ok()?;
            match unit.trim_end_matches('s') {
                "minute" => n.div_ceil(60),
                "hour" => n,
                _ => n.checked_mul(24)?,
            }
        }
        None => {
            let fields: Vec<&str> = schedule.strip_prefix("cron(")?.strip_suffix(')')?.split_whitespace().collect();
            let [_, hours, day, month, weekday, _] = fields.as_slice() else { return None };
            let is_any = |field: &str| matches!(field, "*" | "?");
            if !is_any(month) {
                return None;
            }
            match (is_any(day), is_any(weekday)) {
                // Every hour, every so many hours, or at given hours of each day.
                (true, true) => match hours.split_once('/') {
                    None if *hours == "*" => 1,
                    Some(("*" | "0", step)) => step.parse().ok()?,
                    _ => 24,
                },
                // A weekend is two days without a run, and a single day of the week comes back after seven.
                (true, false) if *weekday == "MON-FRI" || *weekday == "2-6" => 72,
                (true, false) => 168,
                _ => return None,
            }
        }
    };
    (hours <= 168).then_some(hours)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("rate(5 minutes)", Some(1))]
    #[case("rate(90 minutes)", Some(2))]
    #[case("rate(1 hour)", Some(1))]
    #[case("rate(2 days)", Some(48))]
    #[case("rate(30 days)", None)]
    #[case("cron(0 3 * * ? *)", Some(24))]
    #[case("cron(0 8-18 * * ? *)", Some(24))]
    #[case("cron(15 * * * ? *)", Some(1))]
    #[case("cron(0 0/6 * * ? *)", Some(6))]
    #[case("cron(0 8-18/2 * * ? *)", Some(24))]
    #[case("cron(0 3 ? * MON-FRI *)", Some(72))]
    #[case("cron(0 3 ? * SUN *)", Some(168))]
    #[case("cron(0 3 1 * ? *)", None)]
    #[case("cron(0 3 ? JAN SUN *)", None)]
    fn the_longest_gap_is_known(#[case] schedule: &str, #[case] hours: Option<u32>) {
        assert_eq!(hours_between_runs(schedule), hours);
    }
}
