//! What a job may do.

use hardtack_core::ErrorKind;
use hardtack_deploy::{Policy, Request, RetryAction, RetryStrategy};
use insta::assert_snapshot;
use rstest::rstest;

use crate::{job, prod};

fn glue(what: &str) -> String {
    format!("arn:${{AWS::Partition}}:glue:${{AWS::Region}}:${{AWS::AccountId}}:{what}")
}

fn object(action: &str, object: &str) -> Request {
    Request::new(format!("s3:{action}"), format!("arn:${{AWS::Partition}}:s3:::{object}"))
}

/// A job that appends to `s3://lake/sales`, and to the table `lake.sales` if it has one.
fn policy(deletes: bool, is_table: bool) -> Policy {
    let mut sales = job("sales");
    sales.sinks[0].deletes = deletes;
    sales.sinks[0].table = is_table.then(|| "lake.sales".to_owned());
    Policy::of(&sales, &prod("catalog = \"glue\"\nkms-key = \"arn:aws:kms:eu:1:key/k\"\n[env.prod.jobs.sales]"))
        .unwrap()
}

#[rstest]
#[case::source(object("GetObject", "landing/sales/2026/1.json"), true)]
#[case::source_that_is_a_file(object("GetObject", "landing/sales"), true)]
#[case::a_neighbour_of_the_source(object("GetObject", "landing/salesmen/1.json"), false)]
#[case::writing_to_the_source(object("PutObject", "landing/sales/1.json"), false)]
#[case::sink(object("PutObject", "lake/sales/1.parquet"), true)]
#[case::giving_up_an_upload(object("AbortMultipartUpload", "lake/sales/1.parquet"), true)]
#[case::deleting_where_it_only_appends(object("DeleteObject", "lake/sales/1.parquet"), false)]
#[case::a_neighbour_of_the_sink(object("PutObject", "lake/stock/1.parquet"), false)]
#[case::another_bucket(object("GetObject", "lakes/sales/1.parquet"), false)]
#[case::state(object("DeleteObject", "acme-state/hardtack/sales/scopes/default/attempts/1.json"), true)]
#[case::the_state_of_another_job(object("GetObject", "acme-state/hardtack/stock/runs/1.json"), false)]
#[case::the_mark_above(object("GetObject", "lake/_append_only"), false)]
#[case::listing_the_sink(Request::list("lake", "sales/"), true)]
#[case::listing_a_neighbour(Request::list("lake", "stock/"), false)]
#[case::listing_what_begins_alike(Request::list("lake", "sales-of-others/"), false)]
#[case::listing_all(Request::list("lake", ""), false)]
#[case::reading_the_table(Request::new("glue:GetTable", glue("table/lake/sales")), true)]
#[case::adding_partitions(Request::new("glue:BatchCreatePartition", glue("table/lake/sales")), true)]
#[case::another_table(Request::new("glue:UpdateTable", glue("table/lake/stock")), false)]
#[case::dropping_the_table(Request::new("glue:DeleteTable", glue("table/lake/sales")), false)]
#[case::dropping_the_database(Request::new("glue:DeleteDatabase", glue("database/lake")), false)]
#[case::the_key(Request::new("kms:Decrypt", "arn:aws:kms:eu:1:key/k"), true)]
#[case::another_key(Request::new("kms:Decrypt", "arn:aws:kms:eu:1:key/l"), false)]
fn a_job_may_do_what_it_needs_and_nothing_else(#[case] request: Request, #[case] expected: bool) {
    assert_eq!(policy(false, true).allows(&request), expected, "{request:?}");
}

#[test]
fn a_job_that_replaces_may_delete() {
    assert!(policy(true, false).allows(&object("DeleteObject", "lake/sales/1.parquet")));
    assert!(policy(true, false).allows(&object("GetObject", "lake/_append_only")));
    assert!(!policy(true, false).allows(&object("PutObject", "lake/_append_only")));
    assert!(!policy(true, false).allows(&object("DeleteObject", "landing/sales/1.json")));
    assert!(!policy(true, false).allows(&Request::new("glue:GetTable", glue("table/lake/sales"))));
}

/// Of a table of CSV that is `sales.csv.gz`, or a folder.
#[test]
fn files_beside_a_location_are_found_and_read() {
    let mut sales = job("sales");
    sales.sources[0].files_beside = true;
    let policy = Policy::of(&sales, &prod("[env.prod.jobs.sales]")).unwrap();
    for allowed in [
        object("GetObject", "landing/sales.csv.gz"),
        object("GetObject", "landing/sales/1.csv"),
        Request::list("landing", ""),
    ] {
        assert!(policy.allows(&allowed), "{allowed:?}");
    }
    for refused in [object("GetObject", "landing/salesmen.csv"), Request::list("landing", "stock/")] {
        assert!(!policy.allows(&refused), "{refused:?}");
    }
}

#[test]
fn a_policy_is_one_of_iam() {
    assert_snapshot!(serde_json::to_string_pretty(&policy(true, true).to_json()).unwrap());
}

#[test]
fn what_no_container_keeps_is_refused() {
    let environment = prod("[env.prod.jobs.sales]");
    let mut sales = job("sales");
    sales.sinks[0].location = Some("target/lake".into());
    let error = Policy::of(&sales, &environment).unwrap_err();
    assert_snapshot!(error, @"a container cannot keep or find anything there (location: target/lake, sink: out, job: sales, environment: prod, hint: use a location on S3)");
    let mut sales = job("sales");
    sales.sources[0].table = Some("lake.sales".to_owned());
    let error = Policy::of(&sales, &environment).unwrap_err();
    assert_snapshot!(error, @r#"the job has tables, but the catalog is a file, which a container does not keep (job: sales, environment: prod, hint: set `catalog = "glue"` in `hardtack.toml`)"#);
    let mut sales = job("sales");
    sales.sources[0].location = Some("s3://landing/${aws:username}".into());
    assert_eq!(Policy::of(&sales, &environment).unwrap_err().kind(), ErrorKind::Usage);
}

/// For every kind of error that a run can end with.
#[rstest]
#[case(ErrorKind::Usage, RetryAction::Exit)]
#[case(ErrorKind::Refused, RetryAction::Exit)]
#[case(ErrorKind::Conflict, RetryAction::Retry)]
#[case(ErrorKind::Unavailable, RetryAction::Retry)]
#[case(ErrorKind::NotFound, RetryAction::Retry)]
#[case(ErrorKind::Changed, RetryAction::Retry)]
#[case(ErrorKind::Lost, RetryAction::Retry)]
#[case(ErrorKind::Unexpected, RetryAction::Retry)]
#[case(ErrorKind::Stopped, RetryAction::Retry)]
fn what_may_pass_is_tried_again(#[case] kind: ErrorKind, #[case] expected: RetryAction) {
    assert_eq!(RetryStrategy::new(3).action(Some(kind.exit_code()), "Essential container in task exited"), expected);
}

#[rstest]
#[case("Host EC2 (instance i-0a) terminated.")]
#[case("Your Spot Task was interrupted.")]
fn a_machine_that_is_taken_back_is_not_the_end(#[case] reason: &str) {
    assert_eq!(RetryStrategy::new(3).action(None, reason), RetryAction::Retry);
}
