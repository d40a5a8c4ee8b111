//! The policy that `hardtack deploy` derives for a job allows each request that its runs make, and not the neighbours'.

use std::path::Path;

use hardtack_deploy::{Policy, Project, Request};
use hardtack_test_support::Finished;
use hardtack_test_support::containers::{Bucket, Fault, Proxy, Recorded, glue, s3};
use percent_encoding::percent_decode_str;
use regex::Regex;
use rstest::rstest;
use serde_json::Value;

use crate::jobs;

/// The requests to AWS that a recorded one is, as IAM judges them.
fn requests(recorded: &Recorded) -> Vec<Request> {
    let Recorded { line, body } = recorded;
    let (method, rest) = line.split_once(' ').unwrap();
    match rest.split_once(" AWSGlue.") {
        Some((_, operation)) => of_glue(operation, &serde_json::from_str(body).unwrap()),
        None => of_s3(method, rest, body),
    }
}

fn of_s3(method: &str, path_and_query: &str, body: &str) -> Vec<Request> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let parameter = |name: &str| {
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| decoded(&value.replace('+', " "))).next()
    };
    let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
    let object = |action: &str, key: &str| {
        vec![Request::new(format!("s3:{action}"), format!("arn:${{AWS::Partition}}:s3:::{bucket}/{key}"))]
    };
    let (key, is_upload) = (decoded(key), parameter("uploadId").is_some());
    match (method, key.is_empty()) {
        ("GET", true) if parameter("uploads").is_some() => {
            vec![Request::new("s3:ListBucketMultipartUploads", format!("arn:${{AWS::Partition}}:s3:::{bucket}"))]
        }
        ("GET" | "HEAD", true) => vec![Request::list(bucket, parameter("prefix").unwrap_or_default())],
        ("GET", false) if is_upload => object("ListMultipartUploadParts", &key),
        ("GET" | "HEAD", false) => object("GetObject", &key),
        ("PUT", false) | ("POST", false) => object("PutObject", &key),
        ("DELETE", false) if is_upload => object("AbortMultipartUpload", &key),
        ("DELETE", false) => object("DeleteObject", &key),
        ("POST", true) if parameter("delete").is_some() => {
            let keys = Regex::new("<Key>([^<]*)</Key>").unwrap();
            keys.captures_iter(body).flat_map(|found| object("DeleteObject", &found[1])).collect()
        }
        _ => panic!("what is {method} {path_and_query}?"),
    }
}

/// Glue asks for the catalog, the database and the table.
fn of_glue(operation: &str, body: &Value) -> Vec<Request> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (database, table) = match operation {
        "GetDatabase" => (text(&body["Name"]), None),
        "GetTable" => (text(&body["DatabaseName"]), text(&body["Name"])),
        "CreateTable" | "UpdateTable" => (text(&body["DatabaseName"]), text(&body["TableInput"]["Name"])),
        _ => (text(&body["DatabaseName"]), text(&body["TableName"])),
    };
    let database = database.unwrap_or_else(|| panic!("{operation} {body}"));
    let table = table.map(|table| format!("table/{database}/{table}"));
    let resources = ["catalog".to_owned(), format!("database/{database}")].into_iter().chain(table);
    let arn = |what| format!("arn:${{AWS::Partition}}:glue:${{AWS::Region}}:${{AWS::AccountId}}:{what}");
    resources.map(|what| Request::new(format!("glue:{operation}"), arn(what))).collect()
}

/// Runs a job with these further arguments, several times, and returns its policy and the requests of the runs.
fn recorded(job: &str, bucket: &Bucket, more: &[String], env: &[(&'static str, String)]) -> (Policy, Vec<Request>) {
    let said = jobs().args(["run", job, "--describe-arguments"]).run();
    let arguments: Vec<Value> = serde_json::from_str(&said.stdout).unwrap();
    let default = |name: &str| {
        let found = arguments.iter().find(|argument| argument["name"] == name);
        found.and_then(|argument| argument["default"].as_str()).map(str::to_owned)
    };
    let source = default("source").expect("jobs of this repository have a source");
    bucket.copy("in", Path::new("../..").join(source));
    let (services, proxy) = (bucket.s3().env(), Proxy::to(bucket.s3().endpoint()));
    let command = |through: &[(&'static str, String)]| {
        let job = jobs().envs(through.iter().cloned()).envs(env.iter().cloned()).args(["run", job]);
        let job = job.arg("--source").arg(bucket.at("in")).arg("--target").arg(bucket.at("out"));
        job.arg("--state").arg(bucket.at("state")).args(more.iter().cloned())
    };
    let through = bucket.s3().through(&proxy).env();
    let succeeds = |run: Finished| {
        run.assert_code(0);
    };
    succeeds(command(&through).run());
    // A run that fails gives up what it has staged.
    proxy.inject(Fault::Answer(400, "<Error><Code>InvalidRequest</Code></Error>".into()), "^PUT .*/commits/", 100);
    command(&through).run().assert_code(1);
    let all: Vec<Request> = proxy.recorded("").iter().flat_map(requests).collect();
    // Another proxy, without the fault.
    let proxy = Proxy::to(bucket.s3().endpoint());
    let through = bucket.s3().through(&proxy).env();
    for _ in 0..2 {
        succeeds(command(&through).run());
    }
    let all = all.into_iter().chain(proxy.recorded("").iter().flat_map(requests)).collect();

    let described = command(&services).arg("--describe").run();
    let described = hardtack::runtime::JobDescription::parse(&described.stdout).unwrap();
    assert_eq!(described.problems, [""; 0], "{job}");
    let catalog = if more.iter().any(|word| word == "glue") { "catalog = \"glue\"" } else { "" };
    let project = format!(
        "[env.test]\nimage = \"a:{{version}}\"\nsubnets = [\"a\"]\nsecurity-groups = [\"a\"]\nstate = \"{}\"\n{catalog}\n",
        bucket.at("state")
    );
    let project = Project::parse(&project).unwrap();
    (Policy::of(&described, project.environment("test").unwrap()).unwrap(), all)
}

/// Requests that are near to what a job does, and none of its business.
fn neighbours(bucket: &Bucket, job: &str) -> Vec<Request> {
    let at = bucket.at("").to_string();
    let name = at.trim_start_matches("s3://").trim_end_matches('/');
    let object = |action: &str, key: &str| {
        Request::new(format!("s3:{action}"), format!("arn:${{AWS::Partition}}:s3:::{name}/{key}"))
    };
    vec![
        object("GetObject", "elsewhere/1.parquet"),
        object("GetObject", "inner/1.json"),
        object("PutObject", "in/1.json"),
        object("DeleteObject", "in/1.json"),
        object("PutObject", "out/another_table/1.parquet"),
        object("DeleteObject", "out/another_table/1.parquet"),
        object("GetObject", "state/another_job/scopes/default/commits/1.json"),
        object("PutObject", &format!("state/{job}s/scopes/default/commits/1.json")),
        Request::list(name, ""),
        Request::list(name, "out/another_table/"),
        Request::list(&format!("{name}-2"), "in/"),
        Request::new("s3:DeleteBucket", format!("arn:${{AWS::Partition}}:s3:::{name}")),
    ]
}

fn assert_least_privilege(job: &str, bucket: &Bucket, policy: &Policy, requests: &[Request]) {
    let mut refused: Vec<&Request> = requests.iter().filter(|request| !policy.allows(request)).collect();
    refused.dedup();
    assert!(refused.is_empty(), "{job} is refused {refused:#?}\nby {:#}", policy.to_json());
    let allowed: Vec<Request> = neighbours(bucket, job).into_iter().filter(|request| policy.allows(request)).collect();
    assert!(allowed.is_empty(), "{job} is allowed {allowed:#?}\nby {:#}", policy.to_json());
    // What it deletes at all, it deletes where it may.
    let deletes =
        requests.iter().filter(|request| request.action == "s3:DeleteObject" && request.resource.contains("/out/"));
    let may = policy.allows(&Request::new("s3:DeleteObject", deletes.clone().next().map_or("", |r| &r.resource)));
    assert_eq!(may, deletes.count() > 0, "{job} may delete what it never deletes, or the other way around");
}

#[rstest]
#[case("access_records")]
#[case("books_data_product")]
#[case("customer_events")]
#[case("encounters_for_symptom")]
#[case("observations")]
#[case("policy_snapshots")]
#[case("raw_books")]
#[case("sinusitis_study")]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn the_policy_of_a_job_allows_what_it_does_on_s3(#[case] job: &str) {
    let bucket = s3().bucket();
    let (policy, requests) = recorded(job, &bucket, &[], &[]);
    assert!(requests.len() > 20, "{job}: {}", requests.len());
    assert_least_privilege(job, &bucket, &policy, &requests);
}

/// Tables of Glue: of Parquet, and of Iceberg.
#[rstest]
#[case("books_data_product")]
#[case("observations")]
#[case("publish_people")]
#[test]
#[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
fn the_policy_of_a_job_allows_what_it_does_in_glue(#[case] job: &str) {
    let (bucket, database) = (s3().bucket(), glue().database());
    let proxy = Proxy::to(database.glue().endpoint());
    let env = database.glue().through(&proxy).env();
    let args = ["--catalog", "glue", "--target-database", database.name()].map(str::to_owned);
    let (policy, mut requests) = recorded(job, &bucket, &args, &env);
    let of_glue: Vec<Request> = proxy.recorded("").iter().flat_map(self::requests).collect();
    assert!(of_glue.iter().any(|request| request.action == "glue:UpdateTable" || request.action == "glue:CreateTable"));
    requests.extend(of_glue);
    assert_least_privilege(job, &bucket, &policy, &requests);
    let other = |what: &str| {
        let arn = format!("arn:${{AWS::Partition}}:glue:${{AWS::Region}}:${{AWS::AccountId}}:{what}");
        ["glue:GetTable", "glue:UpdateTable", "glue:DeleteTable"].map(|action| Request::new(action, arn.clone()))
    };
    for request in
        other(&format!("table/{}/another_table", database.name())).into_iter().chain(other("table/other/people"))
    {
        assert!(!policy.allows(&request), "{request:?}");
    }
}
