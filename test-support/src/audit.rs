//! Rules, tested like code.

use hardtack_core::audit::{Audit, Outcome};
use hardtack_core::{JobContext, Result};

use crate::{Frame, TestContext};

/// Checks that rows meet all rules, warnings included. The rows are a [`Frame`], a batch or a `DataFrame`. Ages are seen
/// from the time after `at`, or from the frozen time of a [`TestContext`].
///
/// ```
/// use hardtack_quality::Rules;
/// use hardtack_test_support::{assert_passes, rows};
///
/// let rules = Rules::dqdl(r#"Rules = [IsComplete "title"]"#);
/// assert_passes!(rules, rows! { title, pages; "Catch 22", 453 });
/// assert_passes!(rules, rows! { title, pages; "Catch 22", 453 }, at "2026-11-29T00:00:00Z");
/// ```
#[macro_export]
macro_rules! assert_passes {
    ($rules:expr, $rows:expr $(, at $time:expr)? $(,)?) => {
        $crate::assert_fails!($rules, $rows, [] $(, at $time)?)
    };
}

/// Checks that rows fail exactly these rules, by their numbers as in `"rule 2"` or by a part of their text.
///
/// ```
/// use hardtack_quality::Rules;
/// use hardtack_test_support::{assert_fails, rows};
///
/// let rules = Rules::dqdl(r#"Rules = [RowCount > 0, IsComplete "title"]"#);
/// let rows = rows! { title: Utf8; null };
/// assert_fails!(rules, rows.clone(), ["rule 2"]);
/// assert_fails!(rules, rows, ["IsComplete"]);
/// ```
#[macro_export]
macro_rules! assert_fails {
    ($rules:expr, $rows:expr, [$($failing:expr),* $(,)?] $(, at $time:expr)? $(,)?) => {{
        #[allow(unused_mut, unused_assignments)]
        let mut time = ::std::option::Option::<&str>::None;
        $(time = ::std::option::Option::Some($time);)?
        let rules = ::std::clone::Clone::clone(&$rules);
        $crate::check_audit($rows, time, &[$($failing),*], move |job, rows| async move {
            rules.audit(&job, "rows", rows).await
        })
    }};
}

/// The implementation of [`assert_fails!`](crate::assert_fails). On a thread of its own, so that it works in any test.
#[doc(hidden)]
#[track_caller]
pub fn check_audit<A, F>(rows: impl Into<Frame>, time: Option<&str>, failing: &[&str], audit: A)
where
    A: FnOnce(JobContext, datafusion::prelude::DataFrame) -> F + Send + 'static,
    F: Future<Output = Result<Audit>>,
{
    let rows = rows.into();
    let test = TestContext::new(());
    if let Some(time) = time {
        test.set_now(time);
    }
    let job = test.job().clone();
    let audited = std::thread::spawn(move || {
        let rows = rows.to_df(job.session());
        crate::block_on(audit(job, rows))
    });
    let audit = match audited.join() {
        Ok(Ok(audit)) => audit,
        Ok(Err(e)) => panic!("{}", e.chain()),
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let mut wrong = Vec::new();
    let is_meant = |text: &str, name: &str| match name.strip_prefix("rule ") {
        Some(number) => text.starts_with(&format!("rule {number}:")),
        None => text.contains(name),
    };
    for verdict in audit.verdicts.iter().filter(|verdict| verdict.outcome != Outcome::Passed) {
        let text = verdict.to_string();
        if !failing.iter().any(|name| is_meant(&text, name)) {
            wrong.push(format!("it fails: {text}"));
        }
    }
    for name in failing {
        let meant: Vec<_> = audit.verdicts.iter().filter(|verdict| is_meant(&verdict.to_string(), name)).collect();
        if meant.is_empty() {
            wrong.push(format!("there is no `{name}`"));
        }
        for verdict in meant.iter().filter(|verdict| verdict.outcome == Outcome::Passed) {
            wrong.push(format!("it passes: {verdict}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
