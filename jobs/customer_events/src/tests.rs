use hardtack_test_support::{Frame, TestContext, assert_frame, assert_frame_snapshot, block_on, json, rows};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn args() -> Args {
    Args {
        source: "s3://in".into(),
        target: "s3://out".into(),
        keep_deletes_days: 30,
        unavailable_value: "__debezium_unavailable_value".to_owned(),
    }
}

#[test]
fn events_come_from_the_source() {
    let expected = JsonFiles::new("events", "s3://in/customer_events").with_schema(schema! {
        before: struct<id: bigint, first_name: string, last_name: string, email: string>,
        after: struct<id: bigint, first_name: string, last_name: string, email: string>,
        op: string,
        ts_ms: bigint,
    });
    let expected = expected.with_origin();
    assert_eq!(events(&args()), Dataset::new(expected, None));
}

#[rstest]
#[case::files("s3://out".into())]
#[case::tables(TargetArgs::from("s3://out").in_database("glue_reference".parse().unwrap()))]
fn both_tables_are_replaced_and_empty_before_the_first_run(#[case] target: TargetArgs) {
    let expected = |name| target.parquet(name, name).or_empty().overwrite();
    let args = Args { target: target.clone(), ..args() };
    assert_eq!(
        customers(&args),
        expected("customers")
            .with_schema(schema! {
                id: bigint not null, first_name: string, last_name: string, email: string, _as_of: timestamp not null,
                _known_since: struct<first_name: timestamp, last_name: timestamp, email: timestamp>,
            })
            .when_table(|table| table.schema_evolution(SchemaEvolution::AddColumns))
            .when_table(|table| table.with_iceberg_partitions(by_id()))
    );
    let schema = schema! { id: bigint not null, _as_of: timestamp not null, _applied_at: timestamp not null };
    let markers = expected("customers_deleted").with_schema(schema);
    assert_eq!(delete_markers(&args), markers.when_table(|table| table.with_iceberg_partitions(by_id())));
}

/// A table without rows.
fn empty(table: fn(&Args) -> Dataset<ParquetDataset>) -> Frame {
    Frame::empty(table(&args()).files().declared_schema().unwrap().clone())
}

/// The current time in the tests; events happen in the seconds before.
const NOW: &str = "2026-03-01T00:01:00Z";

/// The time `second` seconds after midnight, as Debezium writes it.
fn at(second: i64) -> i64 {
    DateTime::parse_from_rfc3339("2026-03-01T00:00:00Z").unwrap().timestamp_millis() + second * 1000
}

/// Events in short form: `c1:Ada@5` is an insert of customer 1 with the first name Ada, five seconds after midnight.
fn frame(events: &str) -> Frame {
    let lines = events.split_whitespace().map(|event| {
        let (what, second) = event.split_once('@').unwrap();
        let (op, who) = what.split_at(1);
        let (id, name) = who.split_once(':').unwrap();
        let id: i64 = id.parse().unwrap();
        let customer = json!({"id": id, "first_name": name, "last_name": "X", "email": null});
        let (before, after) = match op {
            "d" => (customer, json!(null)),
            "u" => (json!({"id": id}), customer),
            _ => (json!(null), customer),
        };
        json!({"before": before, "after": after, "op": op, "ts_ms": at(second.parse().unwrap())}).to_string()
    });
    lines_of(&lines.collect::<Vec<_>>().join("\n"))
}

fn lines_of(events: &str) -> Frame {
    Frame::from_json_lines_as(&events_schema(), events)
}

fn events_schema() -> SchemaRef {
    schema! {
        before: struct<id: bigint, first_name: string, last_name: string, email: string>,
        after: struct<id: bigint, first_name: string, last_name: string, email: string>,
        op: string,
        ts_ms: bigint,
        _file: string,
        _line: bigint,
    }
}

/// The state of the two tables.
#[derive(Debug, Clone)]
struct State {
    customers: Frame,
    deleted: Frame,
}

impl State {
    fn empty() -> Self {
        Self { customers: empty(customers), deleted: empty(delete_markers) }
    }

    /// Runs the job on these events, as Debezium writes them.
    async fn after_lines(&self, events: &str) -> Result<Self> {
        let test = TestContext::new(args())
            .at(NOW)
            .given("events", lines_of(events))
            .given("customers", &self.customers)
            .given("customers_deleted", &self.deleted);
        main(test.ctx()).await?;
        Ok(Self { customers: test.saved("customers"), deleted: test.saved("customers_deleted") })
    }

    /// Runs the job on these events.
    async fn after(&self, events: &str) -> Self {
        self.after_on(NOW, events).await
    }

    /// Runs the job on these events, on another day.
    async fn after_on(&self, time: &str, events: &str) -> Self {
        let test = TestContext::new(args())
            .at(time)
            .given("events", frame(events))
            .given("customers", &self.customers)
            .given("customers_deleted", &self.deleted);
        main(test.ctx()).await.unwrap();
        let calls =
            ["load events", "load customers", "load customers_deleted", "save customers", "save customers_deleted"];
        assert_eq!(test.calls(), calls);
        Self { customers: test.saved("customers"), deleted: test.saved("customers_deleted") }
    }

    /// The customers and the delete markers, in short form: `1:Ada@5 2:Bob@1`, `3@2`.
    fn short(&self) -> (String, String) {
        let list = |frame: &Frame, with_name: bool| {
            let batch = frame.to_batch();
            let text = |column: &str, row: usize| {
                let column = batch.column_by_name(column).unwrap();
                hardtack::arrow::util::display::array_value_to_string(column, row).unwrap()
            };
            let mut found: Vec<String> = (0..batch.num_rows())
                .map(|row| {
                    let moment: hardtack::chrono::NaiveDateTime = text("_as_of", row).parse().unwrap();
                    let second = (moment.and_utc().timestamp_millis() - at(0)) / 1000;
                    let name = if with_name { format!(":{}", text("first_name", row)) } else { String::new() };
                    format!("{}{name}@{second}", text("id", row))
                })
                .collect();
            found.sort();
            found.join(" ")
        };
        (list(&self.customers, true), list(&self.deleted, false))
    }
}

/// A decision table: the events of runs (separated by `|`), the customers in the end, and the delete markers.
#[rstest]
#[case::insert("c1:Ada@1", "1:Ada@1", "")]
#[case::snapshot_read("r1:Ada@1", "1:Ada@1", "")]
#[case::update("c1:Ada@1 | u1:Eve@2", "1:Eve@2", "")]
#[case::update_of_somebody_unknown("u1:Ada@2", "1:Ada@2", "")]
#[case::delete("c1:Ada@1 | d1:Ada@2", "", "1@2")]
#[case::delete_of_somebody_unknown("d1:Ada@2", "", "1@2")]
#[case::several_in_one_run("d1:Ada@3 c1:Ada@1 u1:Eve@2", "", "1@3")]
#[case::several_the_last_wins("u1:Zoe@3 c1:Ada@1 u1:Eve@2", "1:Zoe@3", "")]
#[case::all_in_one_millisecond("u1:Eve@1 c1:Ada@1 r1:Old@1", "1:Eve@1", "")]
#[case::deleted_in_the_same_millisecond("d1:Ada@1 c1:Ada@1", "", "1@1")]
#[case::deleted_in_the_same_millisecond_in_two_runs("d1:Ada@1 | u1:Ada@1", "", "1@1")]
#[case::late("u1:Eve@5 | u1:Ada@2", "1:Eve@5", "")]
#[case::replayed("c1:Ada@1 u1:Eve@2 | c1:Ada@1", "1:Eve@2", "")]
#[case::late_after_a_delete("d1:Ada@5 | u1:Ada@4", "", "1@5")]
#[case::late_after_a_delete_two_runs_ago("d1:Ada@5 | c2:Bob@6 | u1:Ada@4", "2:Bob@6", "1@5")]
#[case::back_again("c1:Ada@1 d1:Ada@2 | c1:Eve@3", "1:Eve@3", "")]
#[case::without_events("c1:Ada@1 c2:Bob@1 | u2:Eve@2", "1:Ada@1 2:Eve@2", "")]
#[case::no_events("c1:Ada@1 | ", "1:Ada@1", "")]
// What counts is when a delete was applied, not when it happened.
#[case::deleted_long_ago("d1:Ada@-26784000 | u1:Ada@-27648000", "", "1@-26784000")]
#[tokio::test]
async fn the_last_event_of_a_customer_decides(#[case] runs: &str, #[case] customers: &str, #[case] deleted: &str) {
    let mut state = State::empty();
    for events in runs.split('|') {
        state = state.after(events).await;
    }
    assert_eq!(state.short(), (customers.to_owned(), deleted.to_owned()));

    // Running again on the same events gives the same state.
    let again = state.after(runs.rsplit('|').next().unwrap()).await;
    assert_frame(&again.customers, &state.customers);
    assert_frame(&again.deleted, &state.deleted);
}

/// Thirty days after a delete was applied, late events can no longer be recognised.
#[tokio::test]
async fn a_delete_is_remembered_for_thirty_days() {
    let deleted = State::empty().after("d1:Ada@5").await;
    let on = |time: &'static str| {
        let deleted = deleted.clone();
        async move { deleted.after_on(time, "u1:Ada@4").await.short() }
    };
    assert_eq!(on("2026-03-30T00:00:00Z").await, (String::new(), "1@5".to_owned()));
    assert_eq!(on("2026-04-01T00:00:00Z").await, (String::new(), String::new()), "forgotten after this run");
    let forgotten = deleted.after_on("2026-04-01T00:00:00Z", "").await;
    let later = forgotten.after_on("2026-04-02T00:00:00Z", "u1:Ada@4").await;
    assert_eq!(later.short(), ("1:Ada@4".to_owned(), String::new()));
}

#[tokio::test]
async fn an_update_to_null_is_an_update() {
    let event =
        json!({"before": {"id": 1, "email": "a@x"}, "after": {"id": 1, "email": null}, "op": "u", "ts_ms": at(2)});
    let test = TestContext::new(args())
        .at(NOW)
        .given("events", Frame::from_json_lines_as(&events_schema(), &event.to_string()))
        .given(
            "customers",
            rows! {
                id, first_name, last_name, email, _as_of: Timestamp(Microsecond, None), _known_since: Null;
                1, "Ada", "Byron", "a@x", "2026-03-01T00:00:01", null;
            },
        )
        .given("customers_deleted", empty(delete_markers));
    main(test.ctx()).await.unwrap();
    assert_frame_snapshot!(test.saved("customers"), @"
    id: Int64 | first_name: Utf8 | last_name: Utf8 | email: Utf8 | _as_of: Timestamp(µs) | _known_since: Struct(first_name: Timestamp(µs), last_name: Timestamp(µs), email: Timestamp(µs))
    1         | null             | null            | null        | 2026-03-01T00:00:02   | null
    ");
}

/// Events that are not changes of a customer are refused, not guessed.
#[rstest]
#[case::unknown_op(
    r#"{"op":"D","before":{"id":1},"after":null,"ts_ms":1}"#,
    "`op` is none of c, r, u and d (values: op = D)"
)]
#[case::lower_case_only(r#"{"op":"U","after":{"id":1},"ts_ms":1}"#, "`op` is none of c, r, u and d (values: op = U)")]
#[case::truncate(
    r#"{"op":"t","before":null,"after":null}"#,
    "the source's table was truncated, which this job does not apply; begin with an empty target (values: op = t)"
)]
#[case::message(
    r#"{"op":"m","ts_ms":1}"#,
    "a message of the database's log (`op` is m) changes no row; keep messages in another folder (values: op = m)"
)]
#[case::no_op(
    r#"{"after":{"id":1},"ts_ms":1}"#,
    "this is no change event: `op` is missing; keep events of other kinds in other folders (values: op = null)"
)]
#[case::op_null(
    r#"{"op":null,"after":{"id":1},"ts_ms":1}"#,
    "this is no change event: `op` is missing; keep events of other kinds in other folders (values: op = null)"
)]
#[case::heartbeat(
    r#"{"ts_ms":1}"#,
    "this is no change event: `op` is missing; keep events of other kinds in other folders (values: op = null)"
)]
#[case::no_time(
    r#"{"op":"c","after":{"id":1}}"#,
    "the event does not say when it happened: `ts_ms` is missing (values: ts_ms = null)"
)]
#[case::insert_of_nobody(
    r#"{"op":"c","after":null,"ts_ms":1}"#,
    "the event does not say whose it is: there is no `after.id` (values: op = c, after.id = null)"
)]
#[case::update_of_nobody(
    r#"{"op":"u","before":{"id":1},"after":null,"ts_ms":1}"#,
    "the event does not say whose it is: there is no `after.id` (values: op = u, after.id = null)"
)]
#[case::snapshot_without_id(
    r#"{"op":"r","after":{"first_name":"Ada"},"ts_ms":1}"#,
    "the event does not say whose it is: there is no `after.id` (values: op = r, after.id = null)"
)]
#[case::delete_of_nobody(
    r#"{"op":"d","before":null,"after":null,"ts_ms":1}"#,
    "the delete does not say whose it is: there is no `before.id`; let the database log it (REPLICA IDENTITY) (values: op = d, before.id = null)"
)]
#[case::delete_with_after(
    r#"{"op":"d","before":{"id":1},"after":{"id":1},"ts_ms":1}"#,
    "a delete has an `after` (values: op = d)"
)]
#[case::other_id(
    r#"{"op":"u","before":{"id":1},"after":{"id":2},"ts_ms":1}"#,
    "an update changes the id, which should be a delete and an insert (values: op = u, before.id = 1, after.id = 2)"
)]
#[tokio::test]
async fn what_is_no_change_of_a_customer_is_refused(#[case] event: &str, #[case] message: &str) {
    let good = r#"{"op":"c","after":{"id":9},"ts_ms":1}"#;
    let error = State::empty().after_lines(&format!("{good}\n{event}\n")).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().replace(", sink: customers", "")),
        (ErrorKind::Refused, message.to_owned())
    );
}

/// An update omits values that it did not change: `_` here, `__debezium_unavailable_value` in the events. `c:a@1` is an
/// insert of customer 1 with the e-mail `a` one second after midnight, `u:_<b@2` an update whose `before` has the
/// e-mail `b`. Runs see only their own events.
#[rstest]
#[case::from_the_table("c:a@1 | u:_@2", "a as of 2, known since 1")]
#[case::from_the_batch("c:a@1 u:_@2", "a as of 2, known since 1")]
#[case::in_any_order("u:_@2 c:a@1", "a as of 2, known since 1")]
#[case::over_several("c:a@1 u:_@2 u:_@3 | u:_@4", "a as of 4, known since 1")]
#[case::the_latest("c:a@1 u:b@2 u:_@3", "b as of 3, known since 2")]
#[case::then_told_again("c:a@1 u:_@2 u:c@3", "c as of 3")]
#[case::known_to_be_null("c:-@1 u:_@2", "- as of 2, known since 1")]
#[case::set_to_null("c:a@1 u:-@2 u:_@3", "- as of 3, known since 2")]
#[case::in_before("u:_<b@2", "b as of 2")]
#[case::in_before_against_the_table("c:a@1 | u:_<b@2", "b as of 2")]
#[case::left_out_of_before_too("c:a@1 u:_<_@2", "a as of 2, known since 1")]
#[case::late_between("c:a@1 u:_@5 | u:b@3", "b as of 5, known since 3")]
#[case::late_before("c:a@2 u:_@5 | u:b@1", "a as of 5, known since 2")]
#[case::late_and_left_out("c:a@5 | u:_@3", "a as of 5")]
#[case::snapshot("r:a@1 | u:_@2", "a as of 2, known since 1")]
#[case::deleted_and_back("c:a@1 d@2 c:b@3 u:_@4", "b as of 4, known since 3")]
#[case::in_one_millisecond("c:a@1 u:_@1", "a as of 1")]
#[case::never_told("u:_@2", "refused")]
#[case::not_since_the_delete("c:a@1 d@2 u:_@3", "refused")]
#[case::not_since_a_delete_of_another_run("c:a@1 d@2 | u:_@3", "refused")]
#[case::told_later("c:a@1 d@2 u:_@4 c:b@3", "b as of 4, known since 3")]
#[case::deleted_in_the_end("u:_@2 d@3", "")]
#[tokio::test]
async fn a_value_that_an_update_leaves_out_is_kept(
    #[case] runs: &str,
    #[case] expected: &str,
    #[values("first_name", "email")] field: &str,
) {
    let value = |short: &str| match short {
        "_" => json!("__debezium_unavailable_value"),
        "-" => json!(null),
        text => json!(text),
    };
    let row = |short: &str| {
        let mut row = json!({"id": 1, "first_name": "F", "last_name": "L", "email": "E"});
        row[field] = value(short);
        row
    };
    let event = |short: &str| {
        let (what, second) = short.split_once('@').unwrap();
        let (op, values) = what.split_once(':').unwrap_or((what, ""));
        let (after, before) = values.split_once('<').map_or((values, None), |(after, before)| (after, Some(before)));
        let (before, after) = match op {
            "d" => (json!({"id": 1}), json!(null)),
            _ => (before.map_or(json!(null), row), row(after)),
        };
        json!({"op": op, "before": before, "after": after, "ts_ms": at(second.parse().unwrap())}).to_string()
    };
    let mut state = Ok(State::empty());
    for events in runs.split('|') {
        let events: Vec<String> = events.split_whitespace().map(event).collect();
        state = state.unwrap().after_lines(&events.join("\n")).await;
    }
    let state = match state {
        Ok(state) => state,
        Err(error) => {
            assert_eq!(expected, "refused", "{error}");
            let why = format!(
                "an update leaves out `{field}`, and no event before says what it is; deliver those events, or take a snapshot of the row"
            );
            assert_eq!((error.kind(), error.message()), (ErrorKind::Refused, why.as_str()));
            return;
        }
    };
    let batch = state.customers.to_batch();
    let text = |column: &dyn hardtack::arrow::array::Array| {
        hardtack::arrow::util::display::array_value_to_string(column, 0).unwrap()
    };
    let second = |time: String| {
        let moment: hardtack::chrono::NaiveDateTime = time.parse().unwrap();
        (moment.and_utc().timestamp_millis() - at(0)) / 1000
    };
    let found = match batch.num_rows() {
        0 => String::new(),
        _ => {
            let value = Some(text(batch.column_by_name(field).unwrap())).filter(|v| !v.is_empty());
            let as_of = second(text(batch.column_by_name("_as_of").unwrap()));
            let known = hardtack::arrow::array::AsArray::as_struct(batch.column_by_name(KNOWN_SINCE).unwrap().as_ref());
            let known = match hardtack::arrow::array::Array::is_null(known, 0) {
                true => String::new(),
                false => format!(", known since {}", second(text(known.column_by_name(field).unwrap()))),
            };
            format!("{} as of {as_of}{known}", value.unwrap_or_else(|| "-".to_owned()))
        }
    };
    assert_eq!(found, expected);
    for other in FIELDS.iter().filter(|other| **other != field && batch.num_rows() > 0) {
        let told = other.chars().next().unwrap().to_uppercase().to_string();
        assert_eq!(text(batch.column_by_name(other).unwrap()), told, "{other}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// The state does not depend on how events are distributed over runs, nor on their order of arrival, as long as no
    /// delete is forgotten in between. (Events of one customer have different times here: if two happen in the same
    /// millisecond, a run that sees only one of them cannot know.)
    #[test]
    fn neither_batches_nor_order_matter(
        events in prop::collection::vec((prop::sample::select(vec!["c", "u", "d"]), 1_i64..4, prop::sample::select(vec!["Ada", "Bob"])), 0..12),
        order in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut events: Vec<String> =
            (1..).zip(events).map(|(second, (op, id, name))| format!("{op}{id}:{name}@{second}")).collect();
        block_on(async {
            let all = State::empty().after(&events.join(" ")).await;
            let len = events.len().max(1);
            let by = order.index(len).min(events.len());
            events.rotate_left(by);
            let (first, second) = events.split_at(cut.index(len).min(events.len()));
            let in_two = State::empty().after(&second.join(" ")).await.after(&first.join(" ")).await;
            assert_frame(&in_two.customers, &all.customers);
            assert_frame(&in_two.deleted, &all.deleted);
        });
    }

    /// The same with updates that omit a value, as long as every customer begins with an insert.
    #[test]
    fn neither_batches_nor_order_matter_where_values_are_left_out(
        updates in prop::collection::vec((1_i64..3, prop::option::of("[ab]")), 0..8),
        order in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let event = |op: &str, id: i64, email: &str, second: i64| {
            let after = json!({"id": id, "first_name": "F", "last_name": "L", "email": email});
            json!({"op": op, "before": null, "after": after, "ts_ms": at(second)}).to_string()
        };
        let inserts = [event("c", 1, "x", 0), event("c", 2, "y", 0)];
        let mut updates: Vec<String> = (1..).zip(&updates).map(|(second, (id, email))| {
            event("u", *id, email.as_deref().unwrap_or("__debezium_unavailable_value"), second)
        }).collect();
        block_on(async {
            let begun = State::empty().after_lines(&inserts.join("\n")).await.unwrap();
            let all = begun.after_lines(&updates.join("\n")).await.unwrap();
            let len = updates.len().max(1);
            let by = order.index(len).min(updates.len());
            updates.rotate_left(by);
            let (first, second) = updates.split_at(cut.index(len).min(updates.len()));
            let in_two = begun.after_lines(&second.join("\n")).await.unwrap();
            let in_two = in_two.after_lines(&first.join("\n")).await.unwrap();
            assert_frame(&in_two.customers, &all.customers);
        });
    }
}
