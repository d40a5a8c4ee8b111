//! Templates of CloudFormation.

use hardtack_core::ErrorKind;
use hardtack_deploy::{Changes, Template};
use insta::assert_snapshot;
use rstest::rstest;

use crate::{job, prod};

/// An environment with everything.
const EVERYTHING: &str = r#"
region = "eu-central-1"
catalog = "glue"
notify = "data@example.com"
kms-key = "arn:aws:kms:eu-central-1:123456789012:key/k"
timezone = "Europe/Berlin"
arguments = { target = "s3://lake" }
tags = { "cost-centre" = "4711" }

[env.prod.jobs.sales]
arguments = { source = "s3://landing", strict = true }
secrets = { API_KEY = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:api-a1b2c3:key::", TOKEN = "arn:aws:ssm:eu-central-1:123456789012:parameter/token" }
schedule = "cron(0 3 * * ? *)"
disk-gib = 100

[env.prod.jobs.stock]
version = "0.9.0"
on-arrival = "s3://landing/stock/"
vcpus = 0.25
memory-mib = 512
attempts = 1
late-after-hours = 12

[env.prod.pipelines.nightly]
jobs = ["sales", "stock"]
schedule = "cron(0 1 * * ? *)"
"#;

fn everything() -> Template {
    let mut sales = job("sales");
    sales.sinks[0].table = Some("lake.sales".to_owned());
    Template::of(&prod(EVERYTHING), &[job("stock"), sales]).unwrap()
}

#[test]
fn an_environment_is_a_template() {
    assert_snapshot!(everything().to_yaml().unwrap());
}

#[rstest]
#[case::fargate_spot("compute = \"fargate-spot\"")]
#[case::ec2_spot("compute = \"ec2-spot\"\narchitecture = \"arm64\"\nmulti-call = true")]
fn compute_is_chosen(#[case] more: &str) {
    let text =
        Template::of(&prod(&format!("{more}\n[env.prod.jobs.sales]")), &[job("sales")]).unwrap().to_yaml().unwrap();
    let name = more.split('"').nth(1).unwrap();
    assert_snapshot!(name, text);
}

#[test]
fn equal_input_is_equal_text() {
    let again = Template::of(
        &prod(EVERYTHING),
        &[
            {
                let mut sales = job("sales");
                sales.sinks[0].table = Some("lake.sales".to_owned());
                sales
            },
            job("stock"),
        ],
    );
    assert_eq!(again.unwrap().to_yaml().unwrap(), everything().to_yaml().unwrap());
}

#[rstest]
#[case::no_version("image = \"jobs:latest\"", "", "the image has no version, so what runs could change under its name")]
#[case::size("", "vcpus = 3.0", "Fargate has no containers with so many vCPUs (vcpus: 3, job: sales")]
#[case::memory("", "memory-mib = 1000", "Fargate has no containers with so much memory for these vCPUs")]
#[case::schedule("", "schedule = \"daily\"", "the schedule of the job is not valid")]
#[case::timeout("", "timeout-seconds = 5", "the time-out of the job is not valid")]
#[case::arrival("", "on-arrival = \"landing\"", "objects arrive on S3 (job: sales, on-arrival: landing")]
#[case::secret("", "secrets = { KEY = \"hidden\" }", "a secret is named by its ARN (variable: KEY")]
#[case::whole_vcpus("compute = \"ec2-spot\"", "vcpus = 0.5", "on EC2 a job has whole vCPUs")]
fn what_aws_would_refuse_is_refused(#[case] environment: &str, #[case] settings: &str, #[case] expected: &str) {
    let text = format!("{}{environment}\n[env.prod.jobs.sales]\n{settings}", crate::PROD);
    // A key stands once.
    let text = if environment.starts_with("image") {
        text.lines().filter(|line| !line.contains("dkr.ecr")).map(|line| format!("{line}\n")).collect()
    } else {
        text
    };
    let project = hardtack_deploy::Project::parse(&text).unwrap();
    let error = Template::of(project.environment("prod").unwrap(), &[job("sales")]).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(expected), "{error}");
    assert!(!error.to_string().contains("hidden"), "a secret is not printed");
}

#[test]
fn names_that_cannot_be_told_apart_are_refused() {
    let environment = prod("[env.prod.jobs.a_b]\n[env.prod.jobs.a-b]");
    let error = Template::of(&environment, &[job("a_b"), job("a-b")]).unwrap_err();
    assert!(error.to_string().contains("a_b, a-b"), "{error}");
}

/// What a job is called does not matter: no two resources have the same name.
#[test]
fn no_resource_takes_the_name_of_another() {
    let names = ["start", "role", "starter", "pipeline_x", "of_a", "a", "instance", "x", "failed", "alarms"];
    let tables: String =
        names.iter().map(|name| format!("[env.prod.jobs.{name}]\nschedule = \"rate(1 hour)\"\n")).collect();
    let pipelines = "[env.prod.pipelines.x]\njobs = [\"a\", \"x\", \"a\"]\nschedule = \"rate(1 day)\"\n";
    let environment = prod(&format!("notify = \"a@example.com\"\n{tables}{pipelines}"));
    let jobs: Vec<_> = names.iter().map(|name| job(name)).collect();
    let template = Template::of(&environment, &jobs).unwrap().to_json();
    // Each job has seven: logs, two roles, definition, schedule, two alarms.
    let shared = ["ComputeEnvironment", "JobQueue", "Alarms", "AlarmsPolicy", "FailedJobs", "StarterRole"].len();
    assert_eq!(template["Resources"].as_object().unwrap().len(), names.len() * 7 + shared + 4);
}

#[test]
fn what_changes_is_a_line_each() {
    let before = everything().to_yaml().unwrap();
    assert!(Changes::between(&before, &everything()).unwrap().is_empty());
    // As the AWS CLI prints it.
    let printed = serde_json::json!({"TemplateBody": before, "StagesAvailable": ["Original"]}).to_string();
    assert!(Changes::between(&printed, &everything()).unwrap().is_empty());
    let environment = prod(
        &EVERYTHING
            .replace("version = \"0.9.0\"", "version = \"1.0.0\"")
            .replace("schedule = \"cron(0 3", "schedule = \"cron(30 3"),
    );
    let mut sales = job("sales");
    sales.sinks[0].deletes = true;
    let after = Template::of(&environment, &[sales, job("stock")]).unwrap();
    assert_snapshot!(Changes::between(&before, &after).unwrap());
    let fewer = Template::of(&environment, &[job("stock")]).unwrap();
    assert_snapshot!(Changes::between(&before, &fewer).unwrap());
    assert!(Changes::between("a: [", &fewer).is_err());
}
