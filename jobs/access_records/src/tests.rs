mod kernels;

use hardtack_test_support::{Frame, TestContext, assert_frame, assert_frame_snapshot, json, rows};
use rstest::rstest;

use super::*;

fn args() -> Args {
    Args { source: "s3://in".into(), target: "s3://out".into(), quarantine: None, dedupe_against_target: false }
}

/// Delivered records, as JSON lines of payloads.
fn delivered(payloads: &[serde_json::Value]) -> Frame {
    let lines: Vec<String> = payloads.iter().map(|payload| json!({ "payload": payload }).to_string()).collect();
    let args = Args { quarantine: Some("s3://quarantine".into()), ..args() };
    let schema = access_records(&args).files().declared_schema().unwrap();
    Frame::from_json_lines_as(&schema, &lines.join("\n"))
}

/// The columns of a source without those that only quarantine needs.
fn readable(frame: Frame) -> Frame {
    let rows = frame.df().select_columns(&["payload"]).unwrap();
    rows.into()
}

#[test]
fn records_come_from_files_of_any_name() {
    let records = access_records(&args());
    insta::assert_snapshot!(format!("{records:?}"), @r#"JsonFiles { name: "access_records", location: "s3://in/access_records", schema: [payload: Struct("sessionId": Utf8, "timestamp": Decimal128(14, 0), "userId": Int64, "method": Utf8, "requestURL": Utf8, "userAgent": Utf8, "host": Utf8, "origin": Utf8, "xforwardedFor": Utf8, "via": Utf8, "threadId": Int64, "elapseMS": Int64, "success": Boolean, "stack": Utf8, "instance": Utf8, "vmId": Utf8, "returnObjectId": Utf8, "queryString": Utf8, "responseStatus": Int64, "oauthClientId": Utf8, "basicAuthUsername": Utf8, "authenticationMethod": Utf8) not null], glob: "**", bookmark: by path }"#);
    let set_aside = Args { quarantine: Some("s3://quarantine".into()), ..args() };
    let expected = records.files().clone().with_corrupt_records("_corrupt");
    assert_eq!(access_records(&set_aside), Dataset::new(expected, None));
}

#[rstest]
#[case::files("s3://out".into())]
#[case::tables(TargetArgs::from("s3://out").in_database("lake".parse().unwrap()))]
fn processed_records_are_added_by_day(#[case] target: TargetArgs) {
    let sink = processed_access_records(&Args { target: target.clone(), ..args() });
    let name = "processed_access_records";
    let schema = sink.files().declared_schema().unwrap().clone();
    assert_eq!(sink, target.parquet(name, name).or_empty().partition_by(["record_date"]).with_schema(schema));
    assert!(!sink.files().is_overwrite());
}

/// A call, with the fields that matter here.
fn call(session: Option<&str>, timestamp: Option<i64>, more: serde_json::Value) -> serde_json::Value {
    let mut call =
        json!({ "sessionId": session, "timestamp": timestamp, "method": "GET", "requestURL": "/repo/v1/version" });
    call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    call
}

/// The first moment of 2026-11-28.
const MIDNIGHT: i64 = 1_795_824_000_000;

#[tokio::test]
async fn a_record_has_its_fields_and_what_they_say() {
    let whole = json!({
        "sessionId": "28a75682-f056-40f7-9a1e-416cb703bff5", "timestamp": MIDNIGHT - 1, "userId": 273950,
        "method": "GET", "requestURL": "/repo/v1/entity/syn12/bundle2", "userAgent": "synapseclient/2.7.0 python/3.11",
        "host": "api.example.org", "origin": "https://www.example.org", "xforwardedFor": "10.0.0.1", "via": "1.1 proxy",
        "threadId": 5, "elapseMS": 21, "success": true, "stack": "prod", "instance": "000123", "vmId": "vm-1",
        "returnObjectId": "syn12", "queryString": "mask=1", "responseStatus": 200, "oauthClientId": "17",
        "basicAuthUsername": "ann", "authenticationMethod": "SESSIONTOKEN"
    });
    let test = TestContext::new(args()).given("access_records", readable(delivered(&[whole, json!({})])));
    main(test.ctx()).await.unwrap();
    assert_frame_snapshot!(test.saved("processed_access_records"), @"
    session_id: Utf8                     | timestamp: Timestamp(µs) | user_id: Int64 | method: Utf8 | request_url: Utf8             | user_agent: Utf8                | host: Utf8      | origin: Utf8            | x_forwarded_for: Utf8 | via: Utf8 | thread_id: Int64 | elapse_ms: Int64 | success: Boolean | stack: Utf8 | instance: Utf8 | vm_id: Utf8 | return_object_id: Utf8 | query_string: Utf8 | response_status: Int64 | oauth_client_id: Utf8 | basic_auth_username: Utf8 | auth_method: Utf8 | normalized_method_signature: Utf8 | client: Utf8 | client_version: Utf8 | entity_id: Int64 | record_date: Utf8
    null                                 | null                     | null           | null         | null                          | null                            | null            | null                    | null                  | null      | null             | null             | null             | null        | null           | null        | null                   | null               | null                   | null                  | null                      | null              | null                              | UNKNOWN      | null                 | null             | null
    28a75682-f056-40f7-9a1e-416cb703bff5 | 2026-11-27T23:59:59.999  | 273950         | GET          | /repo/v1/entity/syn12/bundle2 | synapseclient/2.7.0 python/3.11 | api.example.org | https://www.example.org | 10.0.0.1              | 1.1 proxy | 5                | 21               | true             | prod        | 123            | vm-1        | syn12                  | mask=1             | 200                    | 17                    | ann                       | SESSIONTOKEN      | GET /entity/#/bundle2             | PYTHON       | 2.7.0                | 12               | 2026-11-27
    ");
    assert_eq!(test.calls(), ["load access_records", "save processed_access_records"]);
}

#[tokio::test]
async fn a_record_that_was_delivered_twice_is_kept_once() {
    let payloads = [
        call(Some("a"), Some(MIDNIGHT), json!({"host": "x"})),
        call(Some("a"), Some(MIDNIGHT), json!({"host": "x"})),
        call(Some("a"), Some(MIDNIGHT + 1), json!({"host": "x"})),
        call(Some("b"), Some(MIDNIGHT), json!({"host": "x"})),
        // Without a session or timestamp, all of the record counts.
        call(None, Some(MIDNIGHT), json!({"host": "one"})),
        call(None, Some(MIDNIGHT), json!({"host": "other"})),
        call(None, Some(MIDNIGHT), json!({"host": ""})),
        call(None, Some(MIDNIGHT), json!({"host": null})),
        call(None, Some(MIDNIGHT), json!({"host": null})),
        call(Some("c"), None, json!({"host": "one"})),
        call(Some("c"), None, json!({"host": "other"})),
        // Whatever separates texts may be in them.
        call(None, Some(MIDNIGHT), json!({"host": "a\u{1f}b", "origin": "c"})),
        call(None, Some(MIDNIGHT), json!({"host": "a", "origin": "b\u{1f}c"})),
        call(None, Some(MIDNIGHT), json!({"host": "\0"})),
        call(None, Some(MIDNIGHT), json!({"host": "-"})),
    ];
    let test = TestContext::new(args()).given("access_records", readable(delivered(&payloads)));
    main(test.ctx()).await.unwrap();
    let expected = rows! {
        session_id, host;
        "a", "x";
        "a", "x";
        "b", "x";
        null, "one";
        null, "other";
        null, "";
        null, null;
        "c", "one";
        "c", "other";
        null, "a\u{1f}b";
        null, "a";
        null, "\0";
        null, "-";
    };
    assert_frame(test.saved("processed_access_records"), expected.ignoring_other_columns());
}

#[tokio::test]
async fn what_the_target_has_is_not_added_again() {
    let payloads = [
        call(Some("a"), Some(MIDNIGHT), json!({})),
        call(Some("a"), Some(MIDNIGHT + 1), json!({})),
        call(None, Some(MIDNIGHT), json!({})),
        call(Some("c"), None, json!({})),
    ];
    let target = rows! {
        session_id, timestamp: Timestamp(Microsecond, None), record_date;
        "a",        "2026-11-28T00:00:00",                   "2026-11-28";
        null,       "2026-11-28T00:00:00",                   "2026-11-28";
        "c",        null,                                    null;
    };
    let args = Args { dedupe_against_target: true, ..args() };
    let test = TestContext::new(args)
        .given("access_records", readable(delivered(&payloads)))
        .given("processed_access_records", target);
    main(test.ctx()).await.unwrap();
    let expected = rows! {
        session_id, timestamp: Timestamp(Microsecond, None);
        "a",        "2026-11-28T00:00:00.001";
        null,       "2026-11-28T00:00:00";
        "c",        null;
    };
    assert_frame(test.saved("processed_access_records"), expected.ignoring_other_columns());
    assert_eq!(test.calls(), ["load access_records", "load processed_access_records", "save processed_access_records"]);
}

#[tokio::test]
async fn what_cannot_be_read_is_set_aside() {
    let given = r#"{"payload": {"sessionId": "a", "timestamp": 7}}
        {"_corrupt": {"file": "s3://in/access_records/f", "offset": 12, "reason": "no", "text": "{"}}"#;
    let args = Args { quarantine: Some("s3://quarantine".into()), ..args() };
    let schema = access_records(&args).files().declared_schema().unwrap();
    let test = TestContext::new(args).given("access_records", Frame::from_json_lines_as(&schema, given));
    main(test.ctx()).await.unwrap();
    let set_aside = rows! {
        file,                       offset, reason, text;
        "s3://in/access_records/f", 12,     "no",   "{";
    };
    assert_frame(test.saved("quarantine"), set_aside);
    assert_frame(test.saved("processed_access_records"), rows! { session_id; "a" }.ignoring_other_columns());
    assert_eq!(test.calls(), ["load access_records", "save quarantine", "save processed_access_records"]);
}

#[rstest]
#[case::own("s3://out/quarantine", None)]
#[case::in_what_is_read("s3://in/access_records/bad", Some("s3://in/access_records"))]
#[case::around_what_is_read("s3://in", Some("s3://in/access_records"))]
#[case::in_what_is_written("s3://out/processed_access_records", Some("s3://out/processed_access_records"))]
fn the_quarantine_is_a_folder_of_its_own(#[case] quarantine: &str, #[case] overlaps: Option<&str>) {
    let args = Args { quarantine: Some(quarantine.into()), ..args() };
    let error = check(&args).err();
    assert_eq!(error.as_ref().and_then(|error| error.get("overlaps")), overlaps);
    assert!(error.is_none_or(|error| error.kind() == ErrorKind::Usage));
}
