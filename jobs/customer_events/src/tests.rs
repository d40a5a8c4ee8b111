use hardtack_test_support::{Frame, TestContext, assert_frame, assert_frame_snapshot, json, rows};
use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn args() -> Args {
    Args {
        source: "s3://in".into(),
        target: "s3://out".into(),
        keep_deletes_days: 30,
        source_database: None,
        target_database: None,
    }
}

#[test]
fn events_come_from_the_source() {
    let expected = JsonFiles::new("events", "s3://in/customer_events").with_schema(events_schema());
    assert_eq!(events(&args()), expected.in_database(None, "customer_events"));
}

#[rstest]
#[case::files(None)]
#[case::tables(Some("glue_reference"))]
fn what_is_written_is_what_is_read_next_time(#[case] database: Option<&str>) {
    let database: Option<DatabaseName> = database.map(|name| name.parse().unwrap());
    let args = Args { target_database: database.clone(), ..args() };
    for (read, written, name, schema) in [
        (current(&args), customers(&args), "customers", customers_schema()),
        (deleted(&args), delete_markers(&args), "customers_deleted", deleted_schema()),
    ] {
        let place = format!("s3://out/{name}");
        let expected = ParquetFiles::new(name, place.as_str()).with_schema(schema.clone()).or_empty();
        assert_eq!(read, expected.in_database(database.as_ref(), name));
        let expected = ParquetDataset::new(name, place.as_str()).with_schema(schema).overwrite();
        assert_eq!(written, expected.in_database(database.as_ref(), name));
    }
}

/// Now, in the tests: the first of March; events happen in the seconds before.
const NOW: &str = "2026-03-01T00:01:00Z";

/// The moment `second` seconds after midnight, as Debezium gives it.
fn at(second: i64) -> i64 {
    DateTime::parse_from_rfc3339("2026-03-01T00:00:00Z").unwrap().timestamp_millis() + second * 1000
}

/// Events in short: `c1:Ada@5` is an insert of customer 1 with the first name Ada, five seconds after midnight.
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
    Frame::from_json_lines_as(&events_schema(), &lines.collect::<Vec<_>>().join("\n"))
}

fn events_schema() -> SchemaRef {
    schema! {
        before: struct<id: bigint, first_name: string, last_name: string, email: string>,
        after: struct<id: bigint, first_name: string, last_name: string, email: string>,
        op: string not null,
        ts_ms: bigint not null,
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
        Self { customers: Frame::empty(customers_schema()), deleted: Frame::empty(deleted_schema()) }
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

    /// Who there is, and who is remembered as deleted, in short: `1:Ada@5 2:Bob@1`, `3@2`.
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

/// A decision table: the events that runs see (runs are divided by `|`), who is there in the end, and who is remembered as
/// deleted.
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

/// From 30 days after a delete was applied on, nobody can tell any more that an event is late.
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
                id, first_name, last_name, email, _as_of: Timestamp(Microsecond, None);
                1, "Ada", "Byron", "a@x", "2026-03-01T00:00:01";
            },
        )
        .given("customers_deleted", Frame::empty(deleted_schema()));
    main(test.ctx()).await.unwrap();
    assert_frame_snapshot!(test.saved("customers"), @"
    id: Int64 | first_name: Utf8 | last_name: Utf8 | email: Utf8 | _as_of: Timestamp(µs)
    1         | null             | null            | null        | 2026-03-01T00:00:02
    ");
}

#[tokio::test]
async fn an_event_about_nobody_is_refused() {
    let event = json!({"before": null, "after": null, "op": "t", "ts_ms": at(2)});
    let test = TestContext::new(args())
        .at(NOW)
        .given("events", Frame::from_json_lines_as(&events_schema(), &event.to_string()))
        .given("customers", Frame::empty(customers_schema()))
        .given("customers_deleted", Frame::empty(deleted_schema()));
    // The contract of the sink is enforced where rows are stored, which the end-to-end test shows; here it is that the row
    // arrives without an id, instead of being dropped.
    main(test.ctx()).await.unwrap();
    assert_eq!(test.saved("customers").num_rows(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However events are distributed over runs and in whatever order they arrive, the state is the same, as long as no
    /// delete is forgotten in between. (Events of one customer have different times here: where two happen in the same
    /// millisecond, the run that sees only one of them cannot know.)
    #[test]
    fn neither_batches_nor_order_matter(
        events in prop::collection::vec((prop::sample::select(vec!["c", "u", "d"]), 1_i64..4, prop::sample::select(vec!["Ada", "Bob"])), 0..12),
        order in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut events: Vec<String> =
            (1..).zip(events).map(|(second, (op, id, name))| format!("{op}{id}:{name}@{second}")).collect();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio.block_on(async {
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
}
