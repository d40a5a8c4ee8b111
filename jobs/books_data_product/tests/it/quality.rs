//! Rules gate what is published.

use hardtack_test_support::{JobBinary, assert_frame, rows};
use rstest::rstest;

use super::{AUTHOR, AUTHORS, BOOK, BOOKS, contract};

/// A book whose title is too long, among good ones.
fn with_a_bad_book() -> String {
    format!("{BOOK}\n{{\"title\": \"{}\", \"author\": \"Frank Herbert\"}}\n", "x".repeat(1001))
}

/// A job that has published [`BOOK`], and then finds a bad one.
fn job_with_a_bad_book() -> JobBinary<'static> {
    let job = contract().job_with_delivery().args(["--log-format", "pretty", "--state", "state"]);
    job.run().assert_code(0);
    job.dir().write(&format!("in/{BOOKS}"), with_a_bad_book());
    job
}

#[test]
fn a_bad_row_stops_the_run_and_stays_for_inspection() {
    let job = job_with_a_bad_book();
    let before = contract().seen(job.dir());
    let files = job.dir().files("out");

    let run = job.run();
    run.assert_code(3);
    assert!(run.stderr.contains("1 of 5 rules failed for `books`"), "{run}");
    assert!(run.stderr.contains("FAILED"), "{run}");
    assert_eq!((contract().seen(job.dir()), job.dir().files("out")), (before, files));

    // The refused row can be read at the place that was printed.
    let place = run.stderr.lines().find_map(|line| line.strip_prefix("refused rows: ")).unwrap().to_owned();
    let refused = job.dir().read_parquet(&place);
    assert_eq!(refused.num_rows(), 1);
    assert!(refused.to_string().contains("between 0 and 1000"), "{refused}");

    // The next run that succeeds removes it.
    job.dir().write(&format!("in/{BOOKS}"), BOOK);
    job.run().assert_code(0);
    assert_eq!(job.dir().files(&place), Vec::<String>::new());
}

#[test]
fn refused_rows_are_dropped_if_told_so() {
    let job = job_with_a_bad_book().arg("--on-audit-failure").arg("drop");
    let run = job.run();
    run.assert_code(3);
    assert!(!run.stderr.contains("refused rows:"), "{run}");
    assert_eq!(job.dir().files("state/books_data_product/refused"), Vec::<String>::new());
}

#[rstest]
#[case::good(BOOK.to_owned(), 0, "5 of 5 rules passed")]
#[case::bad(with_a_bad_book(), 3, "4 of 5 rules passed")]
fn an_audit_alone_writes_nothing(#[case] books: String, #[case] code: i32, #[case] said: &str) {
    let job = contract().job().args(["--log-format", "pretty"]);
    job.dir().write(&format!("in/{BOOKS}"), books);
    job.dir().write(&format!("in/{AUTHORS}"), AUTHOR);
    let job = job.arg("--audit-only");
    let run = job.run();
    run.assert_code(code);
    assert!(run.to_string().contains(said), "{run}");
    assert_eq!((job.dir().files("out"), job.dir().hidden_files("")), (Vec::<String>::new(), Vec::new()));
}

/// A warning is reported, and the rows are published.
#[test]
fn a_warning_does_not_stop_the_run() {
    let job = contract().job_with_delivery().args(["--log-format", "pretty"]);
    job.dir().write(&format!("in/{BOOKS}"), r#"{"title": "Dune", "author": "nobody"}"#);
    let run = job.run();
    run.assert_code(0);
    assert!(run.stderr.contains("warning"), "{run}");
    assert_frame(
        job.dir().read_parquet("out/books"),
        rows! {
            title,  publish_date: Date32, author_name, author_birth_date: Date32, author_id: Int64;
            "Dune", null,                 "nobody",    null,                      null;
        },
    );
}

/// Killed at any step of a run whose audit fails, nothing of it is ever visible, and a good delivery heals everything.
#[rstest]
fn killed_while_an_audit_fails(
    #[values(
        "run.started",
        "stage.file.created",
        "stage.file.finished",
        "run.staged",
        "discard.before",
        "discard.after"
    )]
    point: &str,
    #[values("return(kill)", "1*off->return(kill)")] action: &str,
) {
    let job = job_with_a_bad_book();
    let before = contract().seen(job.dir());
    let killed = job.failing_at(point, action).run();
    let is_passed_once = action != "return(kill)" && killed.code() == Some(3);
    assert!(killed.signal() == Some(9) || is_passed_once, "{point} was not reached\n{killed}");
    assert_eq!(contract().seen(job.dir()), before);
    job.run().assert_code(3);
    assert_eq!(contract().seen(job.dir()), before);

    job.dir().write(&format!("in/{BOOKS}"), BOOK);
    job.run().assert_code(0);
    assert_eq!(contract().seen(job.dir()), before);
    assert_eq!(job.dir().files("state/books_data_product/refused"), Vec::<String>::new());
    assert_eq!(job.dir().hidden_files("out"), Vec::<String>::new());
}
