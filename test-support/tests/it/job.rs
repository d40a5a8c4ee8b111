use std::time::Duration;

use hardtack_test_support::JobBinary;
use insta::assert_snapshot;

use crate::panic_of;

/// A shell stands in for a job.
fn shell(script: &str) -> JobBinary<'static> {
    JobBinary::new("/bin/sh").args(["-c", script])
}

#[test]
fn a_job_has_its_own_folder_and_a_clean_environment() {
    let job = shell("cat in; echo \"$X,$HOME,$FAILPOINTS\"; echo note >&2; echo done > out; exit 3").env("X", 1);
    job.dir().write("in", "given ");
    let finished = job.run();
    assert_eq!(finished.code(), Some(3));
    assert_eq!(finished.signal(), None);
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("given 1,,\n", "note\n"));
    assert_eq!(job.dir().read("out"), "done\n");
    assert_snapshot!(panic_of(|| drop(finished.assert_code(0).clone())), @r"
    expected exit code 0
    exit status: 3
    --- stdout
    given 1,,
    --- stderr
    note
    ");
    assert_eq!(job.failing_at("run.staged", "return(kill)").run().stdout, "given 1,,run.staged=return(kill)\n");
}

#[test]
fn a_job_can_be_told_to_stop_and_killed() {
    let script = "trap 'echo stopped; exit 143' TERM; : > ready; while :; do sleep 0.01; done";
    let job = shell(script);
    let mut running = job.start();
    assert!(running.wait_until(|| job.dir().path().join("ready").exists()));
    running.terminate();
    let finished = running.wait();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(143), "stopped\n"));

    let running = job.start();
    running.kill();
    assert_eq!(running.wait().signal(), Some(9));
}

#[test]
fn a_job_that_hangs_fails_the_test() {
    let job = shell("echo working; exec sleep 60").time_limit(Duration::from_millis(300));
    let text = panic_of(|| drop(job.run()));
    assert!(text.starts_with("the job did not end within 300ms and was killed\n"), "{text}");
    assert!(text.contains("working"), "{text}");
}

#[test]
fn fault_points_are_checked() {
    let text = panic_of(|| drop(shell("").failing_at("nowhere", "return(kill)").run()));
    assert!(text.starts_with("`nowhere` is not a fault point; expected one of run.started, "), "{text}");
}
