//! The Glue catalog: the suite on moto, and its requests, against a scripted server.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use hardtack_catalog::conformance::Check;
use hardtack_catalog::{
    Catalog, CatalogExt, Column, Comparison, Conflict, Database, GlueCatalog, Partition, Predicate, TableDescription,
    TableFormat, conformance_tests,
};
use hardtack_core::ErrorKind;
use hardtack_test_support::containers;
use rstest::rstest;
use serde_json::{Value, json};

use crate::server::{Answer, Request, Server, error, raw};

fn open(endpoint: &str) -> GlueCatalog {
    GlueCatalog::at(endpoint, "us-east-1", ("test", "test")).with_retries(4, Duration::from_millis(1))
}

// --- the suite -----------------------------------------------------------------------------------------------------

/// No check is exempt: [`Server::strict_moto`] adds what AWS does and moto leaves out.
async fn on_moto(check: Check) {
    static RUN: AtomicUsize = AtomicUsize::new(0);
    let server = Server::strict_moto(containers::glue().endpoint());
    let prefix = format!("hardtack-test-{}-{}", std::process::id(), RUN.fetch_add(1, Ordering::Relaxed));
    check.run(&open(server.endpoint()), &prefix).await;
}

conformance_tests!(on_moto, ignore = "needs Docker: cargo test --workspace --tests -- --ignored");

// --- what is asked -------------------------------------------------------------------------------------------------

fn sales() -> TableDescription {
    TableDescription::new("lake", "sales", &TableFormat::Parquet, "s3://lake/sales")
        .with_columns([Column::foreign("id", "bigint")])
        .with_partition_keys([Column::foreign("year", "int")])
}

fn years(count: usize) -> Vec<Partition> {
    (0..count).map(|year| sales().partition([year.to_string()], format!("s3://lake/sales/{year}"))).collect()
}

fn values(partitions: &[Partition]) -> Vec<Vec<String>> {
    partitions.iter().map(|p| p.values.clone()).collect()
}

/// JSON with sorted keys: Glue's maps are unordered.
fn sorted(value: &Value) -> String {
    fn sort(value: &mut Value) {
        match value {
            Value::Object(entries) => {
                entries.sort_keys();
                entries.values_mut().for_each(sort);
            }
            Value::Array(items) => items.iter_mut().for_each(sort),
            _ => {}
        }
    }
    let mut value = value.clone();
    sort(&mut value);
    serde_json::to_string_pretty(&value).unwrap()
}

/// The lengths of a list in the requests of an operation.
fn sizes(requests: &[Request], operation: &str, list: &str) -> Vec<usize> {
    let mut sizes: Vec<usize> = requests
        .iter()
        .filter(|request| request.operation == operation)
        .map(|request| request.body[list].as_array().map_or(0, Vec::len))
        .collect();
    sizes.sort_unstable();
    sizes
}

#[tokio::test]
async fn batches_are_split_by_the_limits_of_the_api() {
    let server = with_foreign_table(|_| (200, json!({})));
    let catalog = open(server.endpoint()).with_catalog_id("123456789012");
    let partitions = years(1050);
    catalog.add_partitions(&sales(), &partitions[..250]).await.unwrap();
    catalog.update_partitions(&sales(), &partitions[..201]).await.unwrap();
    catalog.drop_partitions(&sales(), &values(&partitions[..60])).await.unwrap();
    assert_eq!(catalog.get_partitions(&sales(), &values(&partitions)).await.unwrap(), []);
    let mut requests = server.take();
    // Whether it is still a table with partitions is asked once for each call.
    assert_eq!(requests.extract_if(.., |request| request.operation == "GetTable").count(), 2);
    assert_eq!(sizes(&requests, "BatchCreatePartition", "PartitionInputList"), [50, 100, 100]);
    assert_eq!(sizes(&requests, "BatchUpdatePartition", "Entries"), [1, 100, 100]);
    assert_eq!(sizes(&requests, "BatchDeletePartition", "PartitionsToDelete"), [10, 25, 25]);
    assert_eq!(sizes(&requests, "BatchGetPartition", "PartitionsToGet"), [50, 1000]);
    assert_eq!(requests.len(), 11);
    for request in &requests {
        assert_eq!(request.body["CatalogId"], "123456789012", "{}", request.operation);
        assert_eq!((&request.body["DatabaseName"], &request.body["TableName"]), (&json!("lake"), &json!("sales")));
    }
    // An empty batch sends no request.
    catalog.add_partitions(&sales(), &[]).await.unwrap();
    assert!(server.take().is_empty());
}

#[tokio::test]
async fn a_list_is_asked_for_page_by_page_with_what_glue_can_evaluate() {
    let server = Server::start(|request| {
        let start: u64 = request.body["NextToken"].as_str().map_or(0, |token| token.parse().unwrap());
        let partition = |year: u64| json!({ "Values": [year.to_string()] });
        let mut answer = json!({ "Partitions": [partition(start), partition(start + 1)] });
        if start < 4 {
            answer["NextToken"] = (start + 2).to_string().into();
        }
        (200, answer)
    });
    let catalog = open(server.endpoint());
    let wanted = Predicate::all().and("year", Comparison::GtEq, 1).and("year", Comparison::NotEq, 3);
    let mut pages = catalog.list_partitions(&sales(), &wanted);
    assert!(server.take().is_empty(), "nothing is asked before the first page is");
    // The response is filtered again.
    let first = pages.try_next().await.unwrap().unwrap();
    assert_eq!(values(&first), [["1"]]);
    assert_eq!(server.take().len(), 1, "one page, one request");
    let rest: Vec<Vec<Partition>> = pages.try_collect().await.unwrap();
    assert_eq!(rest.iter().map(|page| values(page)).collect::<Vec<_>>(), [vec![["2"]], vec![["4"], ["5"]]]);
    let requests = server.take();
    assert_eq!(requests.iter().map(|r| r.body["NextToken"].as_str().unwrap()).collect::<Vec<_>>(), ["2", "4"]);
    for request in requests {
        assert_eq!((&request.body["Expression"], &request.body["MaxResults"]), (&json!("(year >= 1)"), &json!(1000)));
    }
}

#[tokio::test]
async fn what_glue_cannot_evaluate_is_evaluated_here() {
    let server = Server::start(|request| match (&request.body["Expression"], &request.body["NextToken"]) {
        (Value::String(_), _) => error("InvalidInputException", "Unsupported expression"),
        (_, Value::String(_)) => (200, json!({ "Partitions": [{ "Values": ["2"] }] })),
        _ => (200, json!({ "Partitions": [{ "Values": ["1"] }], "NextToken": "x" })),
    });
    let catalog = open(server.endpoint());
    let found = catalog.all_partitions(&sales(), &Predicate::all().and("year", Comparison::Gt, 1)).await.unwrap();
    assert_eq!(values(&found), [["2"]]);
    let asked: Vec<bool> = server.take().iter().map(|r| r.body["Expression"].is_string()).collect();
    assert_eq!(asked, [true, false, false]);
}

#[tokio::test]
async fn what_was_not_looked_up_is_asked_for_again() {
    let server = Server::start(|request| {
        let wanted = request.body["PartitionsToGet"].as_array().unwrap();
        (200, json!({ "Partitions": wanted[..1], "UnprocessedKeys": wanted[1..] }))
    });
    let catalog = open(server.endpoint());
    let found = catalog.get_partitions(&sales(), &values(&years(3))).await.unwrap();
    assert_eq!(values(&found), [["0"], ["1"], ["2"]]);
    assert_eq!(sizes(&server.take(), "BatchGetPartition", "PartitionsToGet"), [1, 2, 3]);
}

#[tokio::test]
async fn what_fails_of_a_batch_is_named() {
    let detail = |code: &str| json!({ "ErrorCode": code, "ErrorMessage": "why" });
    let server = Server::start(move |request| match request.operation.as_str() {
        "BatchUpdatePartition" => (
            200,
            json!({ "Errors": [
            { "PartitionValueList": ["7"], "ErrorDetail": detail("EntityNotFoundException") },
            { "PartitionValueList": ["8"], "ErrorDetail": detail("InternalServiceException") },
        ] }),
        ),
        "BatchDeletePartition" => (
            200,
            json!({ "Errors": [
            { "PartitionValues": ["0"], "ErrorDetail": detail("EntityNotFoundException") },
        ] }),
        ),
        "GetTable" => (200, json!({ "Table": foreign() })),
        _ => error("AccessDeniedException", "not you"),
    });
    let catalog = open(server.endpoint());
    let error = catalog.update_partitions(&sales(), &years(10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a retry may help some of them");
    insta::assert_snapshot!(error.chain(), @"2 of 10 partitions of `lake.sales` could not be updated; the others were (partitions: year=7, year=8): Glue failed, even after retries; try again later (partition: year=8): InternalServiceException: why");
    catalog.drop_partitions(&sales(), &values(&years(1))).await.unwrap();
    let error = catalog.add_partitions(&sales(), &years(150)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error.chain(), @"Glue denies access to this caller; check credentials and permissions (table: lake.sales, hint: some of the 150 partitions may be added; do it again): AccessDeniedException: not you");
}

#[tokio::test]
async fn throttled_requests_are_repeated_and_then_given_up() {
    let calls = AtomicUsize::new(0);
    let server = Server::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        3 => (200, json!({ "DatabaseList": [{ "Name": "lake" }] })),
        _ => error("ThrottlingException", "Rate exceeded"),
    });
    let catalog = open(server.endpoint());
    assert_eq!(catalog.list_databases().await.unwrap(), [Database::new("lake")]);
    assert_eq!(server.take().len(), 4);
    let error = catalog.get_table("lake", "sales").await.unwrap_err();
    assert_eq!((error.kind(), server.take().len()), (ErrorKind::Unavailable, 4));
    insta::assert_snapshot!(error.chain(), @"Glue failed, even after retries; try again later (table: lake.sales): ThrottlingException: Rate exceeded");

    let error = open("http://127.0.0.1:1").list_databases().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.chain().contains("Connection refused"), "{}", error.chain());
}

#[tokio::test]
async fn a_request_is_signed_for_glue_and_its_region() {
    let server = Server::start(|_| (200, json!({ "DatabaseList": [] })));
    let catalog = GlueCatalog::at(server.endpoint(), "eu-central-1", ("AKID", "hunter2"));
    assert_eq!(catalog.list_databases().await.unwrap(), []);
    let headers = &server.take()[0].headers;
    assert_eq!(headers["x-amz-target"], "AWSGlue.GetDatabases");
    assert_eq!(headers["content-type"], "application/x-amz-json-1.1");
    let (credential, rest) = headers["authorization"].split_once(", ").unwrap();
    let day = &headers["x-amz-date"][..8];
    assert_eq!(credential, format!("AWS4-HMAC-SHA256 Credential=AKID/{day}/eu-central-1/glue/aws4_request"));
    assert!(rest.starts_with("SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature="), "{rest}");
    assert!(!headers.contains_key("x-amz-security-token"));
    assert_eq!(format!("{:?}", catalog.with_catalog_id("42")), "GlueCatalog(eu-central-1, 42)");
}

/// A page of a proxy, for example.
#[rstest]
#[case(404, ErrorKind::Unexpected, 1, "Glue failed: the answer has the status 404 and no error code")]
#[case(
    503,
    ErrorKind::Unavailable,
    4,
    "after retries; try again later: the answer has the status 503 and no error code"
)]
#[case(200, ErrorKind::Unexpected, 1, "the answer of Glue does not parse (operation: GetDatabases)")]
#[tokio::test]
async fn an_answer_that_is_not_json_is_an_error(
    #[case] status: u16,
    #[case] kind: ErrorKind,
    #[case] attempts: usize,
    #[case] shown: &str,
) {
    let server = Server::start_raw(move |_| raw(status, "", "<html>"));
    let error = open(server.endpoint()).list_databases().await.unwrap_err();
    assert_eq!((error.kind(), server.take().len()), (kind, attempts), "{}", error.chain());
    assert!(error.chain().contains(shown), "{}", error.chain());
}

#[rstest]
#[case::in_its_body(10)]
#[case::in_its_head(120)]
#[case::before_it(10_000)]
#[tokio::test]
async fn an_answer_that_breaks_off_is_asked_for_again(#[case] missing: usize) {
    let calls = AtomicUsize::new(0);
    let server = Server::start_raw(move |_| {
        let mut answer = raw(200, "", &json!({ "DatabaseList": [{ "Name": "lake" }] }).to_string());
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            answer.truncate(answer.len().saturating_sub(missing));
        }
        answer
    });
    assert_eq!(open(server.endpoint()).list_databases().await.unwrap(), [Database::new("lake")]);
    assert_eq!(server.take().len(), 2);
}

#[tokio::test]
async fn glue_can_ask_for_a_pause() {
    let calls = AtomicUsize::new(0);
    let server = Server::start_raw(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => raw(400, "x-amz-retry-after: 1\r\nx-amzn-errortype: ThrottlingException\r\n", ""),
        _ => raw(200, "", "{}"),
    });
    let catalog = open(server.endpoint()).with_retries(2, Duration::from_secs(3600));
    assert_eq!(catalog.list_databases().await.unwrap(), []);
    assert_eq!(server.take().len(), 2);
}

#[tokio::test]
async fn a_list_may_have_pages() {
    let server = Server::start(|request| match request.body["NextToken"].as_str() {
        None => (200, json!({ "TableList": [foreign()], "NextToken": "x" })),
        // An empty token is none.
        Some(_) => (200, json!({ "TableList": [{ "Name": "people" }], "NextToken": "" })),
    });
    let tables = open(server.endpoint()).list_tables("Lake").await.unwrap();
    assert_eq!(tables.iter().map(TableDescription::qualified_name).collect::<Vec<_>>(), ["lake.people", "lake.sales"]);
    assert!(server.take().iter().all(|request| request.body["DatabaseName"] == "lake"));
}

/// A table as other tools leave it in Glue, with many properties that [`TableDescription`] does not have.
fn foreign() -> Value {
    json!({
        "Name": "sales", "DatabaseName": "lake", "Owner": "hadoop", "Retention": 7, "CreateTime": 1_700_000_000.5,
        "VersionId": "3", "TableType": "EXTERNAL_TABLE", "CreatedBy": "arn:aws:iam::1:user/x", "CatalogId": "1",
        "Parameters": { "classification": "parquet" },
        "PartitionKeys": [{ "Name": "year", "Type": "int", "Parameters": { "k": "v" } }],
        "StorageDescriptor": {
            "Columns": [{ "Name": "id", "Type": "bigint", "Parameters": { "iceberg.field.id": "1" } }],
            "Location": "s3://lake/sales", "NumberOfBuckets": -1, "BucketColumns": ["id"], "Compressed": true,
            "SortColumns": [{ "Column": "id", "SortOrder": 1 }],
            "SerdeInfo": { "Name": "serde", "SerializationLibrary": "x", "Parameters": {} },
        },
    })
}

/// A server that has this table, and answers any other request so.
fn with_foreign_table(other: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Server {
    Server::start(move |request| match request.operation.as_str() {
        "GetTable" => (200, json!({ "Table": foreign() })),
        operation => other(operation),
    })
}

#[tokio::test]
async fn an_update_keeps_what_is_not_ours() {
    let server = with_foreign_table(|_| (200, json!({})));
    let catalog = open(server.endpoint());
    let mut table = catalog.get_table("lake", "sales").await.unwrap();
    table.storage.columns.push(Column::foreign("amount", "double"));
    catalog.update_table(&table.with_parameter("recordCount", "5")).await.unwrap();
    let requests = server.take();
    let update = &requests.last().unwrap().body;
    insta::assert_snapshot!(sorted(update), @r#"
    {
      "DatabaseName": "lake",
      "SkipArchive": true,
      "TableInput": {
        "Name": "sales",
        "Owner": "hadoop",
        "Parameters": {
          "classification": "parquet",
          "recordCount": "5"
        },
        "PartitionKeys": [
          {
            "Name": "year",
            "Parameters": {
              "k": "v"
            },
            "Type": "int"
          }
        ],
        "Retention": 7,
        "StorageDescriptor": {
          "BucketColumns": [
            "id"
          ],
          "Columns": [
            {
              "Name": "id",
              "Parameters": {
                "iceberg.field.id": "1"
              },
              "Type": "bigint"
            },
            {
              "Name": "amount",
              "Type": "double"
            }
          ],
          "Compressed": true,
          "Location": "s3://lake/sales",
          "NumberOfBuckets": -1,
          "Parameters": {},
          "SerdeInfo": {
            "Name": "serde",
            "Parameters": {},
            "SerializationLibrary": "x"
          },
          "SortColumns": [
            {
              "Column": "id",
              "SortOrder": 1
            }
          ]
        },
        "TableType": "EXTERNAL_TABLE"
      },
      "VersionId": "3"
    }
    "#);
}

/// What Glue has for its views and its own tables, and what it may have one day.
#[tokio::test]
async fn an_update_repeats_what_only_glue_knows() {
    let more = json!({
        "LastAccessTime": 1_700_000_001, "LastAnalyzedTime": 1_700_000_002.25, "ViewOriginalText": "select 1",
        "ViewExpandedText": "select 1 one", "TargetTable": { "CatalogId": "2", "Name": "other" }, "Retention": 0,
    });
    let mut table = foreign();
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    table["StorageDescriptor"]["SchemaReference"] = json!({ "SchemaVersionNumber": 3 });
    table["StorageDescriptor"]["SerdeInfo"]["New"] = json!([{ "a": null }]);
    let (kept, answer) = (table.clone(), json!({ "Table": table }));
    let server = Server::start(move |_| (200, answer.clone()));
    let catalog = open(server.endpoint());
    catalog.update_table(&catalog.get_table("lake", "sales").await.unwrap()).await.unwrap();
    let requests = server.take();
    let input = &requests.last().unwrap().body["TableInput"];
    for member in more.as_object().unwrap().keys().map(String::as_str).chain(["Owner"]) {
        assert_eq!(input[member], kept[member], "{member}");
    }
    for member in ["SchemaReference", "SerdeInfo"] {
        assert_eq!(input["StorageDescriptor"][member], kept["StorageDescriptor"][member], "{member}");
    }
}

#[tokio::test]
async fn a_view_in_several_dialects_is_not_changed() {
    let mut view = foreign();
    view["ViewDefinition"] = json!({ "IsProtected": true, "Representations": [] });
    let server = Server::start(move |_| (200, json!({ "Table": view })));
    let catalog = open(server.endpoint());
    let view = catalog.get_table("lake", "sales").await.unwrap();
    let error = catalog.update_table(&view).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    insta::assert_snapshot!(error.chain(), @"a view in several dialects can only be changed where it was created (table: lake.sales)");
    assert!(server.take().iter().all(|request| request.operation == "GetTable"));
}

#[tokio::test]
async fn an_update_that_comes_too_late_is_a_conflict() {
    let server = with_foreign_table(|_| error("ConcurrentModificationException", "Update table failed"));
    let catalog = open(server.endpoint());
    let table = catalog.get_table("lake", "sales").await.unwrap();
    // Glue detects it,
    let late = catalog.update_table(&table).await.unwrap_err();
    assert_eq!(Conflict::of(&late), Some(Conflict::ConcurrentModification));
    insta::assert_snapshot!(late.chain(), @"the table `lake.sales` was changed since it was read; read it again and repeat the change (conflict: concurrent modification, version read: 3@1700000000.5): another writer changed it at the same time; read it again and repeat the change (conflict: concurrent modification): ConcurrentModificationException: Update table failed");
    assert_eq!(server.take().len(), 3);
    // or the second read of the table already shows it.
    let mut outdated = table;
    outdated.version = Some("2@1700000000.5".to_owned());
    let late = catalog.update_table(&outdated).await.unwrap_err();
    assert_eq!(Conflict::of(&late), Some(Conflict::ConcurrentModification));
    insta::assert_snapshot!(late.chain(), @"the table `lake.sales` was changed since it was read; read it again and repeat the change (conflict: concurrent modification, version read: 2@1700000000.5, version now: 3@1700000000.5)");
    assert_eq!(server.take().len(), 1);
}

/// What Athena and Spark see.
#[tokio::test]
async fn a_table_is_described_for_athena_and_spark() {
    let server = with_foreign_table(|_| (200, json!({})));
    let catalog = open(server.endpoint());
    let table = sales().with_description("What was sold");
    catalog.create_table(&table).await.unwrap();
    catalog.add_partitions(&table, &years(1)).await.unwrap();
    let requests = server.take();
    insta::assert_snapshot!(sorted(&requests[0].body), @r#"
    {
      "DatabaseName": "lake",
      "TableInput": {
        "Description": "What was sold",
        "Name": "sales",
        "Parameters": {
          "EXTERNAL": "TRUE",
          "classification": "parquet"
        },
        "PartitionKeys": [
          {
            "Name": "year",
            "Type": "int"
          }
        ],
        "StorageDescriptor": {
          "Columns": [
            {
              "Name": "id",
              "Type": "bigint"
            }
          ],
          "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
          "Location": "s3://lake/sales",
          "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
          "Parameters": {},
          "SerdeInfo": {
            "Parameters": {
              "serialization.format": "1"
            },
            "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
          }
        },
        "TableType": "EXTERNAL_TABLE"
      }
    }
    "#);
    assert_eq!(requests[1].operation, "GetTable");
    insta::assert_snapshot!(sorted(&requests[2].body["PartitionInputList"]), @r#"
    [
      {
        "Parameters": {},
        "StorageDescriptor": {
          "Columns": [
            {
              "Name": "id",
              "Type": "bigint"
            }
          ],
          "InputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
          "Location": "s3://lake/sales/0",
          "OutputFormat": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
          "Parameters": {},
          "SerdeInfo": {
            "Parameters": {
              "serialization.format": "1"
            },
            "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"
          }
        },
        "Values": [
          "0"
        ]
      }
    ]
    "#);
}

// --- the environment -----------------------------------------------------------------------------------------------

const CHILD: &str = "HARDTACK_TEST_GLUE_CHILD";

/// Not a test: lists databases with the configuration of its environment.
#[tokio::test]
#[ignore = "started by a test that sets its environment"]
async fn child_that_lists() {
    if std::env::var(CHILD).is_err() {
        return;
    }
    match GlueCatalog::open(Some("42")).await {
        Ok(catalog) => match catalog.list_databases().await {
            Ok(databases) => println!("\nfound {}", databases[0].name),
            Err(error) => println!("\nerror {}: {}", error.kind().name(), error.chain()),
        },
        Err(error) => println!("\nno catalog {}: {}", error.kind().name(), error.chain()),
    }
}

fn listed_with(environment: &[(&str, &str)]) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "glue::child_that_lists", "--ignored", "--nocapture"])
        .env_clear()
        .envs([(CHILD, "1"), ("HOME", "/nonexistent"), ("AWS_EC2_METADATA_DISABLED", "true")])
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let starts = ["found ", "error ", "no catalog "];
    text.lines().find(|line| starts.iter().any(|s| line.starts_with(s))).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[test]
fn the_environment_is_that_of_the_aws_cli() {
    let server = |name: &'static str| Server::start(move |_| (200, json!({ "DatabaseList": [{ "Name": name }] })));
    let (general, special) = (server("general"), server("special"));
    let base = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_REGION", "eu-central-1")];
    let mut environment = base.to_vec();
    environment.push(("AWS_ENDPOINT_URL", general.endpoint()));
    assert_eq!(listed_with(&environment), "found general");
    assert_eq!(general.take()[0].body["CatalogId"], "42");
    environment.push(("AWS_ENDPOINT_URL_GLUE", special.endpoint()));
    assert_eq!(listed_with(&environment), "found special");

    environment.push(("AWS_USE_FIPS_ENDPOINT", "true"));
    insta::assert_snapshot!(listed_with(&environment), @"no catalog usage: an endpoint of Glue cannot be given together with FIPS or dual-stack endpoints (hint: unset `AWS_USE_FIPS_ENDPOINT` and `AWS_USE_DUALSTACK_ENDPOINT`, or the endpoint)");

    insta::assert_snapshot!(listed_with(&base[..2]), @"no catalog usage: AWS is not configured; set AWS_REGION and credentials as for the AWS CLI");
    let no_keys = listed_with(&[base[2], ("AWS_ENDPOINT_URL", general.endpoint())]);
    assert!(no_keys.starts_with("error usage: AWS is not configured"), "{no_keys}");
}

fn listed_in_a_container(container: &Server, glue: &Server) -> String {
    listed_with(&[
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.endpoint()),
        ("AWS_ENDPOINT_URL", glue.endpoint()),
        ("AWS_REGION", "eu-central-1"),
    ])
}

#[test]
fn expired_credentials_are_fetched_anew_once() {
    let refused = |request: &Request| {
        error("ExpiredTokenException", &format!("{} has expired", request.headers["x-amz-security-token"]))
    };
    let glue = Server::start(move |request| match request.headers["x-amz-security-token"].as_str() {
        "token-0" => refused(request),
        token => (200, json!({ "DatabaseList": [{ "Name": token }] })),
    });
    let issuer = Server::of_credentials();
    assert_eq!(listed_in_a_container(&issuer, &glue), "found token-1");
    assert_eq!((issuer.take().len(), glue.take().len()), (2, 2));

    // New credentials that have expired, too, are not Glue's fault. Nor are they shown.
    let strict = Server::start(refused);
    let shown = listed_in_a_container(&Server::of_credentials(), &strict);
    insta::assert_snapshot!(shown, @"error usage: Glue denies access to this caller; check credentials and permissions: ExpiredTokenException: (redacted) has expired");
    assert_eq!(strict.take().len(), 2);
}
