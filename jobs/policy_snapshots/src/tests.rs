use hardtack_test_support::{Frame, TestContext, assert_frame_snapshot, block_on, json};
use rstest::rstest;

use super::*;

fn args(until: &str) -> Args {
    Args { source: "s3://in".into(), target: "s3://out".into(), until: until.parse().ok() }
}

#[test]
fn events_come_from_the_source() {
    let expected = JsonFiles::new("events", "s3://in/policy_events").with_origin().with_schema(schema! {
        policy_id: string not null,
        holder: string,
        premium: decimal(12, 2),
        status: string,
        effective_date: date not null,
        recorded_at: timestamp not null,
    });
    assert_eq!(events(&args("")), Dataset::new(expected, None));
}

#[rstest]
#[case::files("s3://out".into())]
#[case::tables(TargetArgs::from("s3://out").in_database("glue_reference".parse().unwrap()))]
fn months_are_replaced_one_by_one_and_empty_before_the_first_run(#[case] target: TargetArgs) {
    let expected = target.parquet("policy_snapshots", "policy_snapshots").or_empty().with_schema(schema! {
        policy_id: string not null,
        holder: string,
        premium: decimal(12, 2),
        status: string,
        effective_date: date not null,
        recorded_at: timestamp not null,
        deleted: boolean not null,
        month: date not null,
    });
    let args = Args { target, ..args("") };
    assert_eq!(snapshots(&args), expected.partition_by(["month"]).overwrite_partitions());
}

/// Events in short form: `P1:10@2026-01-10` is a premium of 10 from that day on, `-P1@2026-02-01` deletes the policy.
/// They are recorded in this order.
fn frame(events: &str) -> Frame {
    let line = |(second, event): (usize, &str)| {
        let (what, date) = event.split_once('@').unwrap();
        let (id, premium) = what.split_once(':').unwrap_or((what.trim_start_matches('-'), "0"));
        let status = if what.starts_with('-') { "deleted" } else { "active" };
        json!({
            "policy_id": id, "holder": "Ann", "premium": premium.parse::<i64>().unwrap(), "status": status,
            "effective_date": date, "recorded_at": format!("2026-06-01T00:00:{second:02}Z"),
        })
        .to_string()
    };
    let lines: Vec<String> = events.split_whitespace().enumerate().map(line).collect();
    let schema = self::events(&args("")).files().declared_schema().unwrap();
    Frame::from_json_lines_as(&schema, &lines.join("\n"))
}

/// What the job saves if these events arrive after those.
fn saved(before: &str, events: &str) -> Frame {
    let schema = snapshots(&args("")).files().declared_schema().unwrap().clone();
    let run = |current: Frame, events: &str| {
        let test =
            TestContext::new(args("2026-03-31")).given("policy_snapshots", current).given("events", frame(events));
        block_on(main(test.ctx())).unwrap();
        test.saved("policy_snapshots")
    };
    let empty = Frame::empty(schema);
    run(if before.is_empty() { empty } else { run(empty, before) }, events)
}

#[test]
fn a_late_change_rolls_forward() {
    let before = "P1:10@2026-01-01 P2:20@2026-01-01 P1:30@2026-03-01";
    assert_frame_snapshot!(saved(before, "P1:15@2026-02-10 -P2@2026-02-01"), @"
    policy_id: Utf8 | holder: Utf8 | premium: Decimal128(12, 2) | status: Utf8 | effective_date: Date32 | recorded_at: Timestamp(µs) | deleted: Boolean | month: Date32
    P1              | Ann          | 15.00                      | active       | 2026-02-10             | 2026-06-01T00:00:00        | false            | 2026-02-01
    P1              | Ann          | 30.00                      | active       | 2026-03-01             | 2026-06-01T00:00:02        | false            | 2026-03-01
    P2              | Ann          | 0.00                       | deleted      | 2026-02-01             | 2026-06-01T00:00:01        | true             | 2026-02-01
    P2              | Ann          | 0.00                       | deleted      | 2026-02-01             | 2026-06-01T00:00:01        | true             | 2026-03-01
    ");
}

#[test]
fn until_that_month_there_are_snapshots() {
    let test = TestContext::new(args("")).at("2026-02-15T00:00:00Z");
    let empty = Frame::empty(snapshots(&args("")).files().declared_schema().unwrap().clone());
    let test = test.given("policy_snapshots", empty).given("events", frame("P1:10@2026-01-01"));
    block_on(main(test.ctx())).unwrap();
    assert_eq!(test.calls(), ["load events", "load policy_snapshots", "save policy_snapshots"]);
    assert_frame_snapshot!(test.saved("policy_snapshots"), @"
    policy_id: Utf8 | holder: Utf8 | premium: Decimal128(12, 2) | status: Utf8 | effective_date: Date32 | recorded_at: Timestamp(µs) | deleted: Boolean | month: Date32
    P1              | Ann          | 10.00                      | active       | 2026-01-01             | 2026-06-01T00:00:00        | false            | 2026-01-01
    P1              | Ann          | 10.00                      | active       | 2026-01-01             | 2026-06-01T00:00:00        | false            | 2026-02-01
    ");
}

#[test]
fn an_unknown_status_is_refused() {
    let line =
        r#"{"policy_id":"P1","status":"asleep","effective_date":"2026-01-01","recorded_at":"2026-01-01T00:00:00Z"}"#;
    let schema = events(&args("")).files().declared_schema().unwrap();
    let empty = Frame::empty(snapshots(&args("")).files().declared_schema().unwrap().clone());
    let test = TestContext::new(args("2026-01-31"))
        .given("policy_snapshots", empty)
        .given("events", Frame::from_json_lines_as(&schema, line));
    let error = block_on(main(test.ctx())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.chain().contains("none of active, lapsed, cancelled and deleted"), "{}", error.chain());
}
