//! The real binary, killed at every step of a run.

use hardtack::runtime::FAULT_POINTS;
use hardtack_test_support::JobBinary;
use rstest::rstest;

use crate::runs::reference;
use crate::{after_the_morning, leftovers, state};

/// Whether a kill at this point is after the commit, when the run can only be rolled forward.
pub(crate) fn committed(point: &str) -> bool {
    let commit = FAULT_POINTS.iter().position(|p| *p == "state.commit.after").unwrap();
    FAULT_POINTS.iter().position(|p| *p == point).is_some_and(|point| point >= commit)
}

/// Every fault point: killed at its first pass and, if a run passes it more than once, at its second.
#[rstest]
#[test]
fn killed_at_any_step_the_next_run_ends_in_the_right_state(#[values(0, 1)] passes_before: usize) {
    let reference = reference();
    let (after, before) = (state(reference.dir()), {
        let job = after_the_morning();
        state(job.dir())
    });
    let mut reached = Vec::new();
    for point in FAULT_POINTS {
        let job = after_the_morning();
        // A run that was killed before its commit has left something to discard.
        assert_eq!(job.failing_at("run.staged", "return(kill)").run().signal(), Some(9));
        let action = match passes_before {
            0 => "return(kill)".to_owned(),
            n => format!("{n}*off->return(kill)"),
        };
        let killed = job.failing_at(point, &action).run();
        if passes_before > 0 && killed.code() == Some(0) {
            continue;
        }
        assert_eq!(killed.signal(), Some(9), "{point} was not reached\n{killed}");
        reached.push(*point);
        if !committed(point) {
            assert_eq!(state(job.dir()), before, "killed at {point}, something was visible");
        }
        job.run().assert_code(0);
        assert_eq!(state(job.dir()), after, "killed at {point}, the next run did not end in the right state");
        assert_eq!(leftovers(job.dir()), Vec::<String>::new(), "killed at {point}, something was left");
        assert_eq!(job.dir().files("out").len(), 2, "killed at {point}");
        assert_all_swept(&job, point);
    }
    match passes_before {
        0 => assert_eq!(reached, FAULT_POINTS),
        _ => assert_eq!(
            reached,
            [
                "stage.file.before",
                "stage.file.created",
                "stage.file.finished",
                "publish.file.before",
                "publish.file.after",
                "publish.delete.before",
                "publish.delete.after",
                "discard.before",
                "discard.after",
            ],
            "a run with two sinks passes these points twice"
        ),
    }
}

/// The attempts of runs that have ended are forgotten; those of killed runs that can never commit stay for a day,
/// because it is only known that they have no leftovers now.
fn assert_all_swept(job: &JobBinary<'_>, point: &str) {
    let files = job.dir().hidden_files(".hardtack");
    let attempts = files.iter().filter(|f| f.contains("/attempts/") && f.matches('/').count() == 5);
    for attempt in attempts {
        assert!(job.dir().read(attempt).contains("\"swept\": \""), "killed at {point}, {attempt} is left");
    }
}

/// Recovery itself is killed, and the next recovery completes it.
#[rstest]
#[case("publish.file.before")]
#[case("publish.file.after")]
#[case("publish.delete.before")]
#[case("publish.delete.after")]
#[case("state.done.before")]
#[case("state.done.after")]
#[test]
fn killed_again_while_rolling_forward(#[case] point: &str) {
    let job = after_the_morning();
    assert_eq!(job.failing_at("state.commit.after", "return(kill)").run().signal(), Some(9));
    for _ in 0..2 {
        assert_eq!(job.failing_at(point, "return(kill)").run().signal(), Some(9), "{point}");
    }
    job.run().assert_code(0);
    assert_eq!(state(job.dir()), state(reference().dir()));
    assert_eq!(leftovers(job.dir()), Vec::<String>::new());
}
