//! `hardtack.toml`.

use hardtack_core::ErrorKind;
use hardtack_deploy::Project;
use insta::assert_snapshot;
use rstest::rstest;

use crate::{PROD, job, prod};

#[rstest]
#[case::no_toml("[env.prod", "`hardtack.toml` does not parse: TOML parse error at line 1, column 10")]
#[case::unknown_table("[environment.prod]", "the file has a key that is not known (key: environment")]
#[case::unknown_key("[env.prod]\nimagee = \"a\"", "unknown field `imagee`")]
#[case::missing("[env.prod]\nimage = \"a\"", "missing field `subnets`")]
#[case::of_another_type("[env.prod]\nimage = 1", "invalid type: integer `1`, expected a string")]
#[case::no_table("env = 1", "`env` is not a table")]
#[case::a_name("[env.\"a b\"]", "this is not a name for an environment (name: a b")]
fn what_is_wrong_is_said(#[case] text: &str, #[case] expected: &str) {
    let error = Project::parse(text).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.chain().contains(expected), "{}", error.chain());
}

#[rstest]
#[case::retention("log-retention-days = 31", "CloudWatch Logs does not keep logs for so many days")]
#[case::local_state("state = \".hardtack\"", "`state` must be on S3 (environment: prod, value: .hardtack")]
#[case::no_network("subnets = []", "containers need a network")]
#[case::unknown_job_of_a_pipeline(
    "[env.prod.pipelines.nightly]\njobs = [\"sales\"]",
    "this job does not run in the environment (job: sales, environment: prod"
)]
#[case::empty_pipeline("[env.prod.pipelines.nightly]\njobs = []", "a pipeline has no jobs")]
fn what_aws_would_refuse_is_refused(#[case] more: &str, #[case] expected: &str) {
    // A key stands once.
    let key = more.split_once(" =").map_or("", |(key, _)| key);
    let is_other = |line: &&str| key.is_empty() || !line.starts_with(key);
    let rest: String = PROD.lines().filter(is_other).map(|line| format!("{line}\n")).collect();
    let error = Project::parse(&format!("{rest}{more}")).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(expected), "{error}");
}

#[test]
fn defaults_are_those_of_all_environments() {
    let project = Project::parse(&format!(
        "{PROD}
        log-retention-days = 7
        arguments = {{ target = \"s3://lake\" }}
        [env.prod.jobs.sales]
        arguments = {{ source = \"s3://landing\" }}
        [env.dev]
        state = \"s3://dev-state/hardtack\"
        [defaults]
        image = \"jobs:{{version}}\"
        subnets = [\"subnet-9\"]
        security-groups = [\"sg-9\"]
        log-retention-days = 1
        arguments = {{ target = \"s3://dev-lake\", strict = true }}"
    ))
    .unwrap();
    let (dev, prod) = (project.environment("dev").unwrap(), project.environment("prod").unwrap());
    assert_eq!((dev.log_retention_days, dev.subnets[0].as_str()), (1, "subnet-9"));
    assert_eq!((prod.log_retention_days, prod.subnets[0].as_str()), (7, "subnet-1"));
    let words = prod.command_line("sales", &job("sales").arguments).unwrap();
    assert_eq!(words, ["--source", "s3://landing", "--strict", "--target", "s3://lake"]);
    let error = project.environment("prd").unwrap_err();
    assert_snapshot!(error, @"`hardtack.toml` has no environment of this name (environment: prd, did you mean: prod)");
}

#[rstest]
#[case("source = \"a\"", Ok(vec!["--source", "a"]))]
#[case("strict = true", Ok(vec!["--strict"]))]
#[case("strict = false", Ok(vec![]))]
#[case("source = [\"a\", 1, 2026-01-31]", Ok(vec!["--source", "a", "--source", "1", "--source", "2026-01-31"]))]
#[case("sauce = \"a\"", Err("the job has no argument of this name (argument: sauce, did you mean: source"))]
#[case(
    "source = { a = 1 }",
    Err("the value of an argument is a text, a number, a boolean or a list of these (argument: source")
)]
fn arguments_are_words(#[case] arguments: &str, #[case] expected: Result<Vec<&str>, &str>) {
    // Jobs that lack a common argument do not get it.
    let environment =
        prod(&format!("arguments = {{ other = 1 }}\n[env.prod.jobs.sales]\narguments = {{ {arguments} }}"));
    match (environment.command_line("sales", &job("sales").arguments), expected) {
        (Ok(words), Ok(expected)) => assert_eq!(words, expected),
        (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
        (done, _) => panic!("{done:?}"),
    }
}

#[test]
fn an_argument_that_a_job_needs_is_asked_for() {
    let mut sales = job("sales");
    sales.arguments[0].required = true;
    let error = prod("[env.prod.jobs.sales]").command_line("sales", &sales.arguments).unwrap_err();
    assert_snapshot!(error, @"the job needs an argument (argument: source, job: sales, environment: prod, hint: give it in `[env.prod.jobs.sales]`, under `arguments`)");
}
