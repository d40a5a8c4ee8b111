//! What the runtime promises, whatever the job: it is killed, stopped, overtaken and disturbed at every step.

use std::process::{Command, Stdio};

use hardtack_core::fault::POINTS;

use super::{JobContract, is_committed, names};
use crate::job::JobBinary;

impl JobContract {
    /// The job after the first delivery, and what a reader sees after another run.
    #[track_caller]
    pub(super) fn world(&self) -> (JobBinary<'static>, (String, usize)) {
        (self.job_after_the_earlier(), self.expected())
    }

    /// Readers see what they saw before the second delivery, and nothing is left.
    #[track_caller]
    fn assert_untouched(&self, job: &JobBinary<'_>, before: &str) {
        assert_eq!(self.seen(job.dir()), before);
        assert_eq!(job.dir().hidden_files("out"), [""; 0]);
    }

    /// A run id that was used gets a number.
    #[track_caller]
    pub fn a_run_id_that_was_used_gets_a_number(&self) {
        let job = self.job_with_delivery().args(["--run-id", "nightly"]);
        for _ in 0..2 {
            job.run().assert_code(0);
        }
        let files = job.dir().files("out");
        assert!(files.iter().all(|file| file.contains("-nightly.2-")), "{files:?}");
        let runs = format!(".hardtack/{}/runs", self.name());
        let records = ["nightly.2.json", "nightly.json"].map(|record| format!("{runs}/{record}"));
        assert_eq!(job.dir().hidden_files(&runs), records);
    }

    /// `job --log debug 2>&1 | head -1`: nobody reads the logs any more, and the run continues.
    #[track_caller]
    pub fn logs_that_nobody_reads_do_not_fail_a_run(&self) {
        let expected = self.expected();
        for format in ["json", "pretty"] {
            let job = self.job_with_delivery();
            let mut command = Command::new(self.binary);
            command.args(["--source", "in", "--target", "out", "--log", "debug", "--log-format", format]);
            command.current_dir(job.dir().path()).env_clear().stderr(Stdio::piped());
            let mut run = command.spawn().expect("the job starts");
            drop(run.stderr.take());
            assert_eq!(run.wait().expect("a child can be waited for").code(), Some(0), "{format}");
            self.assert_complete(job.dir(), &expected, format);
        }
    }

    // --- kills -------------------------------------------------------------------------------------------------------

    /// Killed at any fault point, at its first pass (`passes_before` is 0) or its second: before the commit nothing has
    /// changed, and the next run ends in the right state.
    #[track_caller]
    pub fn killed_at_any_step_the_next_run_ends_in_the_right_state(&self, passes_before: usize) {
        let expected = self.expected();
        let mut reached = Vec::new();
        for point in POINTS {
            let job = self.job_after_the_earlier();
            let before = self.seen(job.dir());
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
            if !is_committed(point) {
                assert_eq!(self.seen(job.dir()), before, "killed at {point}, something was visible");
            }
            job.run().assert_code(0);
            self.assert_complete(job.dir(), &expected, &format!("killed at {point}"));
            assert_all_swept(&job, point);
        }
        let is_per_file = |point: &str| ["stage.", "publish.", "discard."].iter().any(|step| point.starts_with(step));
        let wanted: Vec<_> = POINTS.iter().copied().filter(|point| passes_before == 0 || is_per_file(point)).collect();
        assert_eq!(reached, wanted, "a run with two tables passes these points twice");
    }

    /// Recovery itself is killed, and the next recovery completes it.
    #[track_caller]
    pub fn killed_again_while_rolling_forward(&self) {
        let expected = self.expected();
        for point in POINTS.iter().filter(|point| point.starts_with("publish.") || point.starts_with("state.done.")) {
            let job = self.job_after_the_earlier();
            assert_eq!(job.failing_at("state.commit.after", "return(kill)").run().signal(), Some(9));
            for _ in 0..2 {
                assert_eq!(job.failing_at(point, "return(kill)").run().signal(), Some(9), "{point}");
            }
            job.run().assert_code(0);
            self.assert_complete(job.dir(), &expected, point);
        }
    }

    // --- concurrent runs ---------------------------------------------------------------------------------------------

    /// The first run has staged everything and waits before its commit until the second has published.
    #[track_caller]
    pub fn of_two_runs_at_once_one_publishes_and_the_other_says_so(&self) {
        let (job, expected) = self.world();
        let mut first = job.failing_at("run.staged", "sleep(6000)").start();
        let staged = first.wait_until(|| job.dir().hidden_files("out").len() >= self.tables.len());
        assert!(staged, "the first run did not get to its commit");
        job.run().assert_code(0);
        names(first.wait().assert_code(4), &["another run of this job and scope has committed first"]);
        self.assert_complete(job.dir(), &expected, "after both");
    }

    /// Runs of different scopes do not exclude one another.
    #[track_caller]
    pub fn runs_of_different_scopes_do_not_exclude_one_another(&self) {
        let job = self.job_after_the_earlier();
        let mut first = job.failing_at("run.staged", "sleep(3000)").args(["--scope", "2026/11"]).start();
        assert!(first.wait_until(|| job.dir().hidden_files("out").len() >= self.tables.len()));
        job.again().args(["--scope", "2026/12"]).run().assert_code(0);
        first.wait().assert_code(0);
    }

    // --- signals and errors ------------------------------------------------------------------------------------------

    /// Told to stop while it is slow to finish its first file, it discards what it has staged.
    #[track_caller]
    pub fn told_to_stop_it_discards_what_it_staged(&self) {
        for interrupt in [false, true] {
            let job = self.job_after_the_earlier();
            let before = self.seen(job.dir());
            let mut run = job.failing_at("stage.file.finished", "sleep(1500)").start();
            assert!(run.wait_until(|| !job.dir().hidden_files("out").is_empty()));
            if interrupt {
                run.interrupt()
            } else {
                run.terminate()
            }
            run.wait().assert_code(143);
            self.assert_untouched(&job, &before);
            job.run().assert_code(0);
        }
    }

    /// An error at the second file discards the first as well.
    #[track_caller]
    pub fn an_error_while_staging_leaves_nothing(&self) {
        let job = self.job_after_the_earlier();
        let before = self.seen(job.dir());
        job.failing_at("stage.file.finished", "1*off->return(error)").run().assert_code(1);
        self.assert_untouched(&job, &before);
    }

    /// An error between two files names the command that ends what was begun, and so does the next run.
    #[track_caller]
    pub fn an_error_while_publishing_is_mended_by_the_next_run(&self) {
        let (job, expected) = self.world();
        let failed = job.failing_at("publish.file.before", "1*off->return(error)").run();
        names(failed.assert_code(1), &["hardtack recover"]);
        job.run().assert_code(0);
        self.assert_complete(job.dir(), &expected, "after the next run");
    }

    /// An error right after the commit does not undo it.
    #[track_caller]
    pub fn an_error_right_after_the_commit_does_not_undo_it(&self) {
        let (job, expected) = self.world();
        job.failing_at("state.commit.after", "return(error)").run().assert_code(0);
        self.assert_complete(job.dir(), &expected, "after the error");
    }

    /// An error right before the commit discards nothing that may still count.
    #[track_caller]
    pub fn an_error_right_before_the_commit_discards_nothing_that_may_still_count(&self) {
        let (job, expected) = self.world();
        let before = self.seen(job.dir());
        let failed = job.failing_at("state.commit.before", "return(error)").run();
        names(failed.assert_code(1), &["did not confirm whether the run has committed"]);
        assert_eq!(self.seen(job.dir()), before);
        job.run().assert_code(0);
        self.assert_complete(job.dir(), &expected, "after the next run");
    }
}

/// The attempts of runs that have ended are forgotten; those of killed runs that can never commit stay for a day,
/// because it is only known that they have no leftovers now.
#[track_caller]
fn assert_all_swept(job: &JobBinary<'_>, point: &str) {
    let files = job.dir().hidden_files(".hardtack");
    let attempts = files.iter().filter(|f| f.contains("/attempts/") && f.matches('/').count() == 5);
    for attempt in attempts {
        assert!(job.dir().read(attempt).contains("\"swept\": \""), "killed at {point}, {attempt} is left");
    }
}

/// Tests that the runtime keeps its promises to a job that replaces two tables, a file each: they are in modules
/// `runtime_contract` and `torture`. The second argument is an [`Operator`](crate::Operator).
///
/// By default the torture has a few rounds, always the same. `HARDTACK_TORTURE_ROUNDS=200` runs more, and
/// `HARDTACK_TORTURE_SEED=7` different ones; a failure names its seed.
///
/// ```no_run
/// use hardtack_core::Location;
/// use hardtack_test_support::{JobContract, Operator, runtime_contract};
///
/// fn contract() -> JobContract {
///     // In tests of a job: env!("CARGO_BIN_EXE_titles")
///     JobContract::new("target/debug/titles", "titles")
///         .and_table("refused")
///         .earlier("books/a.jsonl", r#"{"title": "Emma"}"#)
///         .delivered("books/a.jsonl", r#"{"title": "Dune"}"#)
/// }
///
/// struct Hardtack;
///
/// impl Operator for Hardtack {
///     fn fsck(&self, state: &Location, repair: bool) -> Vec<String> {
///         todo!("hardtack::runtime::fsck")
///     }
///
///     fn recover(&self, state: &Location, job: &str) {
///         todo!("hardtack::runtime::recover")
///     }
/// }
///
/// runtime_contract!(contract(), Hardtack);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! runtime_contract {
    ($contract:expr, $operator:expr) => {
        $crate::contract_tests! { runtime_contract: $contract;
            killed_again_while_rolling_forward(),
            of_two_runs_at_once_one_publishes_and_the_other_says_so(),
            runs_of_different_scopes_do_not_exclude_one_another(),
            told_to_stop_it_discards_what_it_staged(),
            an_error_while_staging_leaves_nothing(),
            an_error_while_publishing_is_mended_by_the_next_run(),
            an_error_right_after_the_commit_does_not_undo_it(),
            an_error_right_before_the_commit_discards_nothing_that_may_still_count(),
        }
        $crate::contract_tests! { at_the_first_pass: $contract;
            killed_at_any_step_the_next_run_ends_in_the_right_state(0),
        }
        $crate::contract_tests! { at_the_second_pass: $contract;
            killed_at_any_step_the_next_run_ends_in_the_right_state(1),
        }
        $crate::contract_tests! { torture: $contract;
            killed_at_random_moments(&$operator),
            eight_runs_at_once_some_of_which_are_killed(&$operator),
            paused_and_overtaken(&$operator),
            without_room_for_any_file(&$operator),
            damaged_between_commit_and_recovery(&$operator),
            recovered_while_it_commits(&$operator),
        }
    };
}
