use std::collections::{BTreeMap, BTreeSet};

use chrono::Datelike;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Date32Type;
use datafusion::prelude::{SessionContext, col};
use hardtack_core::ErrorKind;
use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::testing::{frame, frame_in, run, session, show};

const SNAPSHOT: &str = "month: date, id: int, v: string, since: date, seq: int, gone: boolean not null";
const EVENT: &str = "id: int, v: string, since: date, seq: int, gone: boolean";

fn by_date() -> Snapshots {
    Snapshots::monthly("month", &["id"]).by_date("since").order_by("seq").delete_marker("gone")
}

fn by_arrival() -> Snapshots {
    Snapshots::monthly("month", &["id"]).order_by("since").order_by("seq").delete_marker("gone")
}

fn date(day: &str) -> NaiveDate {
    day.parse().unwrap()
}

/// An event in short form: `1:a@2026-01-10` is a version of 1, `-1@2026-02-03` deletes it, and `#2` breaks ties.
fn event(text: &str) -> String {
    let (what, at) = text.split_once('@').unwrap();
    let (since, seq) = at.split_once('#').unwrap_or((at, "0"));
    match what.split_once(':') {
        Some((id, v)) => format!(r#"{{"id":{id},"v":"{v}","since":"{since}","seq":{seq}}}"#),
        None => format!(r#"{{"id":{},"since":"{since}","seq":{seq},"gone":true}}"#, &what[1..]),
    }
}

fn events(text: &str) -> DataFrame {
    let lines: Vec<String> = text.split_whitespace().map(event).collect();
    frame(EVENT, &lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Snapshots as a dataset that is written by overwriting partitions, and how many partitions were written.
struct Lake {
    session: SessionContext,
    rows: Vec<RecordBatch>,
    written: usize,
}

impl Lake {
    fn new(partitions: usize) -> Self {
        Self { session: session(partitions), rows: Vec::new(), written: 0 }
    }

    fn read(&self) -> DataFrame {
        let empty = crate::testing::batch(SNAPSHOT, &[]);
        self.session.read_batches(self.rows.iter().cloned().chain([empty])).unwrap()
    }

    /// A run, which overwrites the partitions that it has rows for.
    async fn run(&mut self, snapshots: &Snapshots, incoming: DataFrame, now: &str) -> Result<BTreeSet<NaiveDate>> {
        let rebuilt = snapshots.rebuild(self.read(), incoming, date(now)).await?;
        let rebuilt = rebuilt.collect().await?;
        let mut written = BTreeSet::new();
        for batch in &rebuilt {
            let months = batch.column(0).as_primitive::<Date32Type>();
            written.extend(months.values().iter().map(|days| period::date(*days).unwrap()));
        }
        let stays = written.iter().fold(lit(true), |stays, month| stays.and(col("month").not_eq(day(*month))));
        self.rows = self.read().filter(stays).unwrap().collect().await?;
        self.rows.extend(rebuilt);
        self.written += written.len();
        Ok(written)
    }

    async fn shown(&self) -> String {
        show(self.read()).await
    }

    /// What is not deleted, by month: `2026-01: 1:a 2:b`.
    async fn visible(&self, snapshots: &Snapshots) -> String {
        let mut lines = Vec::new();
        for month in snapshots.existing(&self.read()).await.unwrap() {
            let rows = snapshots.as_of(self.read(), month).unwrap().select([col("id"), col("v")]).unwrap();
            let shown = show(rows).await;
            let rows = shown.lines().skip(1).map(|line| line.replace(" | ", ":").replace(' ', ""));
            lines.push(format!("{}: {}", month.format("%Y-%m"), rows.collect::<Vec<_>>().join(" ")));
        }
        lines.join("\n")
    }
}

/// Each run has its events and its day, and says how many partitions it writes.
#[rstest]
#[case::a_month_without_events(
    &[("1:a@2026-01-10 2:b@2026-01-11", "2026-01-31", 1), ("", "2026-03-01", 2), ("", "2026-03-31", 0)],
    "2026-01: 1:a 2:b | 2026-02: 1:a 2:b | 2026-03: 1:a 2:b"
)]
#[case::late(
    &[("1:a@2026-01-10 2:b@2026-03-11", "2026-03-31", 3), ("3:c@2026-02-10", "2026-03-31", 2)],
    "2026-01: 1:a | 2026-02: 1:a 3:c | 2026-03: 1:a 2:b 3:c"
)]
#[case::late_and_overtaken(
    &[("1:a@2026-01-10 1:c@2026-03-01", "2026-03-31", 3), ("1:b@2026-02-10", "2026-03-31", 2)],
    "2026-01: 1:a | 2026-02: 1:b | 2026-03: 1:c"
)]
#[case::deleted(
    &[("1:a@2026-01-10 2:b@2026-01-10", "2026-03-31", 3), ("-1@2026-02-28", "2026-03-31", 2)],
    "2026-01: 1:a 2:b | 2026-02: 2:b | 2026-03: 2:b"
)]
#[case::older_than_its_delete(
    &[("2:b@2026-01-01 -1@2026-02-28", "2026-03-31", 3), ("1:late@2026-01-10", "2026-03-31", 3)],
    "2026-01: 1:late 2:b | 2026-02: 2:b | 2026-03: 2:b"
)]
#[case::created_again(
    &[("1:a@2026-01-10 -1@2026-02-10", "2026-04-30", 4), ("1:again@2026-04-01", "2026-04-30", 1)],
    "2026-01: 1:a | 2026-02:  | 2026-03:  | 2026-04: 1:again"
)]
#[case::before_everything(
    &[("1:a@2026-03-10", "2026-03-31", 1), ("2:b@2026-01-31", "2026-03-31", 3)],
    "2026-01: 2:b | 2026-02: 2:b | 2026-03: 1:a 2:b"
)]
#[case::in_the_future(
    &[("1:a@2026-01-10 1:b@2026-03-01", "2026-01-31", 3), ("2:c@2026-02-01", "2026-02-01", 2)],
    "2026-01: 1:a | 2026-02: 1:a 2:c | 2026-03: 1:b 2:c"
)]
#[case::after_years_of_nothing(
    &[("1:a@2020-01-10", "2020-01-10", 1), ("2:b@2020-02-01", "2020-02-10", 1)],
    "2020-01: 1:a | 2020-02: 1:a 2:b"
)]
#[case::tied(
    &[("1:b@2026-01-10#2", "2026-01-31", 1), ("1:a@2026-01-10#1", "2026-01-31", 1)],
    "2026-01: 1:b"
)]
#[tokio::test]
async fn events_roll_forward(#[case] runs: &[(&str, &str, usize)], #[case] expected: &str) {
    let mut lake = Lake::new(2);
    for (arrived, now, partitions) in runs {
        assert_eq!(lake.run(&by_date(), events(arrived), now).await.unwrap().len(), *partitions, "{arrived}");
    }
    assert_eq!(lake.visible(&by_date()).await, expected.replace(" | ", "\n"));
    let all: Vec<&str> = runs.iter().map(|(arrived, ..)| *arrived).collect();
    let mut full = Lake::new(1);
    full.run(&by_date(), events(&all.join(" ")), runs.last().unwrap().1).await.unwrap();
    assert_eq!(lake.shown().await, full.shown().await);
}

#[rstest]
#[case::late_events_change_the_present(
    &[("1:a@2026-01-10 2:x@2026-01-01", "2026-01-31", 1), ("1:b@2026-01-20", "2026-02-01", 1), ("", "2026-04-01", 2), ("1:late@2026-01-15", "2026-04-02", 1)],
    "2026-01: 1:a 2:x | 2026-02: 1:b 2:x | 2026-03: 1:b 2:x | 2026-04: 1:b 2:x"
)]
#[case::deletes_are_remembered(
    &[("1:a@2026-01-10", "2026-01-31", 1), ("-1@2026-02-20", "2026-02-20", 1), ("1:late@2026-02-15", "2026-03-01", 1), ("1:again@2026-03-01", "2026-03-05", 1)],
    "2026-01: 1:a | 2026-02:  | 2026-03: 1:again"
)]
#[tokio::test]
async fn by_arrival_the_past_stays(#[case] runs: &[(&str, &str, usize)], #[case] expected: &str) {
    let mut lake = Lake::new(2);
    for (arrived, now, partitions) in runs {
        assert_eq!(lake.run(&by_arrival(), events(arrived), now).await.unwrap().len(), *partitions, "{arrived}");
    }
    assert_eq!(lake.visible(&by_arrival()).await, expected.replace(" | ", "\n"));
}

/// Of rows that nothing orders, every month has the same one, whether it was carried there or computed.
#[tokio::test]
async fn what_is_carried_is_what_a_full_rebuild_chooses() {
    let tied = "1:a@2026-01-10 1:b@2026-01-10 2:c@2026-01-10 2:d@2026-01-10 2:e@2026-01-10";
    let (mut carried, mut full) = (Lake::new(2), Lake::new(1));
    carried.run(&by_date(), events(tied), "2026-01-31").await.unwrap();
    carried.run(&by_date(), events(""), "2026-12-31").await.unwrap();
    full.run(&by_date(), events(tied), "2026-12-31").await.unwrap();
    assert_eq!(carried.shown().await, full.shown().await);
}

/// A partition that somebody has removed is made again from the one before it.
#[tokio::test]
async fn a_gap_is_filled() {
    let mut lake = Lake::new(2);
    lake.run(&by_date(), events("1:a@2026-01-10 2:b@2026-04-10"), "2026-04-10").await.unwrap();
    let gap = col("month").not_eq(day("2026-03-01".parse().unwrap()));
    lake.rows = lake.read().filter(gap).unwrap().collect().await.unwrap();
    lake.run(&by_date(), events("3:c@2026-02-10"), "2026-04-10").await.unwrap();
    assert_eq!(
        lake.visible(&by_date()).await,
        "2026-01: 1:a\n2026-02: 1:a 3:c\n2026-03: 1:a 3:c\n2026-04: 1:a 2:b 3:c"
    );
}

/// Days, and moments instead of dates: those before 1970 too.
#[rstest]
#[case(
    "timestamp",
    "1969-12-31T23:59:59.999999",
    "1970-01-02",
    "1969-12-31 1970-01-01 1970-01-02",
    "1969-12-01 1970-01-01"
)]
#[case("date", "2024-02-29", "2024-03-01", "2024-02-29 2024-03-01", "2024-02-01 2024-03-01")]
#[tokio::test]
async fn an_event_is_in_the_period_of_its_day(
    #[case] of: &str,
    #[case] since: &str,
    #[case] now: &str,
    #[case] days: &str,
    #[case] months: &str,
) {
    for (snapshots, expected) in
        [(Snapshots::daily("day", &["id"]), days), (Snapshots::monthly("day", &["id"]), months)]
    {
        let current = frame(&format!("day: date, id: int, since: {of}"), &[]);
        let event = format!(r#"{{"id":1,"since":"{since}"}}"#);
        let event = frame(&format!("id: int, since: {of}"), &[&event]);
        let rebuilt = snapshots.by_date("since").rebuild(current, event, date(now)).await.unwrap();
        let shown = show(rebuilt).await;
        let found: Vec<&str> = shown.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(found.join(" "), expected);
    }
}

#[rstest]
#[case::no_order(Snapshots::monthly("month", &["id"]), SNAPSHOT, EVENT, "nothing says which version of a row is the last (hint: name a column with `.order_by(...)`, or `.by_date(...)`)")]
#[case::no_column(
    by_date(),
    EVENT,
    EVENT,
    "there is no column `month` (columns: id, v, since, seq, gone, side: current)"
)]
#[case::not_a_date(
    by_date(),
    "month: string, id: int",
    EVENT,
    "the column of a snapshot must be a date: the first day of the period (column: month, type: string)"
)]
#[case::computed(
    by_date(),
    SNAPSHOT,
    "month: date, id: int",
    "incoming rows have the column of the snapshot, whose values are computed (column: month, hint: rename or drop it first)"
)]
#[case::no_date(by_date(), SNAPSHOT, "id: int", "there is no column `since` (columns: id, side: incoming)")]
#[case::text(
    by_date(),
    SNAPSHOT,
    "id: int, since: string, seq: int",
    "the date of an event must be a date, or a timestamp without a time zone or in UTC (column: since, type: string, hint: cast it to a date first)"
)]
#[case::no_key(
    by_date(),
    SNAPSHOT,
    "since: date, seq: int",
    "there is no column `id` (columns: since, seq, month, side: incoming)"
)]
#[tokio::test]
async fn what_cannot_be_is_refused(
    #[case] snapshots: Snapshots,
    #[case] current: &str,
    #[case] incoming: &str,
    #[case] message: &str,
) {
    let refused = snapshots.rebuild(frame(current, &[]), frame(incoming, &[]), date("2026-01-01")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::Usage, message));
}

#[rstest]
#[case::dateless(
    r#"{"id":1,"seq":1}"#,
    "events without a date belong to no period (column: since, events: 2, with a date: 1, hint: fill in the date, or keep such events out with a filter or `refuse_rows`)"
)]
#[case::mistyped(
    r#"{"id":1,"since":"0206-01-01"}"#,
    "more than 120 snapshots would be rebuilt (first: 0206-01-01, last: 2026-02-01, hint: look for an event with a wrong date, or permit more with `.at_most(...)`)"
)]
#[case::for_ever(
    r#"{"id":1,"since":"9999-12-31"}"#,
    "more than 120 snapshots would be rebuilt (first: 2026-01-01, last: 9999-12-01, hint: look for an event with a wrong date, or permit more with `.at_most(...)`)"
)]
#[tokio::test]
async fn an_event_of_no_period_is_refused(#[case] event: &str, #[case] message: &str) {
    let rows = frame(EVENT, &[event, r#"{"id":1,"since":"2026-01-01"}"#]);
    let refused = by_date().rebuild(frame(SNAPSHOT, &[]), rows, date("2026-02-01")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().as_str()), (ErrorKind::Refused, message));
}

#[tokio::test]
async fn days_and_months_are_not_mixed() {
    let current = frame(SNAPSHOT, &[r#"{"month":"2026-01-02","id":1,"gone":false}"#]);
    let refused = by_date().rebuild(current, events(""), date("2026-02-01")).await.unwrap_err();
    insta::assert_snapshot!(refused, @"a snapshot has a date that is not the first day of a period (column: month, value: 2026-01-02, hint: keep snapshots per day and per month in different data sets)");
}

// --- laws ----------------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: u8,
    /// In months after December 2025, and days.
    since: (u32, u32),
    seq: u8,
    v: u8,
    gone: bool,
}

impl Event {
    fn date(&self) -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, self.since.0, self.since.1).unwrap()
    }

    fn json(&self) -> String {
        let Self { id, seq, v, gone, .. } = self;
        format!(r#"{{"id":{id},"v":"{v}","since":"{}","seq":{seq},"gone":{gone}}}"#, self.date())
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    // Few values, so that events tie, overtake one another, and are late.
    let parts = (0u8..3, (1u32..6, 1u32..2), 0u8..2, 0u8..3, prop::bool::weighted(0.3));
    parts.prop_map(|(id, since, seq, v, gone)| Event { id, since, seq, v, gone })
}

/// Events with their batch, and the same in another order with other batches.
fn arrivals() -> impl Strategy<Value = (Vec<Event>, Vec<Vec<Event>>)> {
    prop::collection::vec(any_event(), 0..14).prop_flat_map(|events| {
        let shuffled = Just(events.clone()).prop_shuffle();
        (Just(events), shuffled, prop::collection::vec(1usize..6, 1..5)).prop_map(|(events, shuffled, sizes)| {
            let mut rest = shuffled.as_slice();
            let mut batches = Vec::new();
            for size in sizes {
                let (batch, others) = rest.split_at(size.min(rest.len()));
                batches.push(batch.to_vec());
                rest = others;
            }
            batches.push(rest.to_vec());
            (events, batches)
        })
    })
}

fn table(session: &SessionContext, events: &[Event]) -> DataFrame {
    let rows: Vec<String> = events.iter().map(Event::json).collect();
    frame_in(session, EVENT, &rows.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Per month and key the values that may be the last version's, without DataFusion.
fn model(events: &[Event], last: u32) -> BTreeMap<(u32, u8), BTreeSet<(u8, bool)>> {
    let mut model = BTreeMap::new();
    for month in 1..=last {
        for id in 0..3 {
            let of_id = || events.iter().filter(|e| e.id == id && e.since.0 <= month);
            let Some(order) = of_id().map(|e| (e.since, e.seq)).max() else { continue };
            let winners = of_id().filter(|e| (e.since, e.seq) == order).map(|e| (e.v, e.gone));
            model.insert((month, id), winners.collect());
        }
    }
    model
}

fn month_end(month: u32) -> String {
    format!("2026-{month:02}-28")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any order and any batches of the same events, over time or at once, end in the partitions of a full rebuild,
    /// which are those of the model; and each run writes the partitions from its earliest event on and no others.
    #[test]
    fn any_batches_in_any_order_are_a_full_rebuild(
        (all, batches) in arrivals(),
        start in 1u32..6,
        partitions in 1usize..4,
    ) {
        run(async {
            let mut lake = Lake::new(partitions);
            let mut existing: BTreeSet<u32> = BTreeSet::new();
            for (number, batch) in batches.iter().enumerate() {
                let today = (start + number as u32).min(7);
                let last = batch.iter().map(|e| e.since.0).chain(existing.last().copied()).max();
                let new = existing.last().map(|last| last + 1);
                let first = batch.iter().map(|e| e.since.0).chain(new).min();
                let expected: BTreeSet<u32> = match (first, last) {
                    (Some(first), Some(last)) => (first..=last.max(today)).collect(),
                    _ => BTreeSet::new(),
                };
                let written = lake.run(&by_date(), table(&lake.session, batch), &month_end(today)).await.unwrap();
                let written: BTreeSet<u32> = written.iter().map(Datelike::month).collect();
                prop_assert_eq!(&written, &expected);
                existing.extend(expected);
            }
            let today = (start + batches.len() as u32 - 1).min(7);
            let mut full = Lake::new(1);
            full.run(&by_date(), table(&full.session, &all), &month_end(today)).await.unwrap();
            prop_assert_eq!(lake.shown().await, full.shown().await);

            let model = model(&all, existing.last().copied().unwrap_or(0));
            let shown = full.shown().await;
            prop_assert_eq!(shown.lines().count() - 1, model.len());
            for line in shown.lines().skip(1) {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let key = (cells[0][5..7].parse().unwrap(), cells[1].parse().unwrap());
                prop_assert!(model[&key].contains(&(cells[2].parse().unwrap(), cells[5].parse().unwrap())), "{}", line);
            }
            Ok(())
        })?;
    }

    /// Running again on the same events changes nothing.
    #[test]
    fn rebuilding_again_changes_nothing((all, batches) in arrivals()) {
        run(async {
            let mut lake = Lake::new(2);
            lake.run(&by_date(), table(&lake.session, &all), "2026-06-30").await.unwrap();
            let before = lake.shown().await;
            for batch in &batches {
                lake.run(&by_date(), table(&lake.session, batch), "2026-06-30").await.unwrap();
                prop_assert_eq!(&lake.shown().await, &before);
            }
            Ok(())
        })?;
    }

    /// By arrival, each month holds what was known at its end, and one run writes one partition per month begun.
    #[test]
    fn by_arrival_a_month_holds_what_was_known_then((_, batches) in arrivals(), twice in any::<bool>()) {
        run(async {
            let mut lake = Lake::new(2);
            let mut known: Vec<Event> = Vec::new();
            for (number, batch) in batches.iter().enumerate() {
                let now = month_end(1 + number as u32);
                // In one batch or in several, in any order.
                let parts = if twice { vec![&batch[batch.len() / 2..], &batch[..batch.len() / 2]] } else { vec![&batch[..]] };
                for part in parts {
                    let written = lake.run(&by_arrival(), table(&lake.session, part), &now).await.unwrap();
                    prop_assert!(written.len() <= 1);
                }
                known.extend_from_slice(batch);
                let mut full = Lake::new(1);
                full.run(&by_arrival(), table(&full.session, &known), &now).await.unwrap();
                let month = col("month").eq(day(date(&now).with_day(1).unwrap()));
                prop_assert_eq!(show(lake.read().filter(month).unwrap()).await, full.shown().await);
            }
            Ok(())
        })?;
    }
}
