//! The verdict of a rule is the one that a naive evaluation comes to, whatever the batches, the threads and the memory.

use std::collections::{BTreeMap, HashMap};

use datafusion::arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use hardtack_core::JobContext;
use hardtack_quality::dqdl::build::*;
use hardtack_quality::dqdl::{Condition, Metric, Number, Rule, RuleSet};
use hardtack_quality::{Outcome, Rules};
use hardtack_test_support::{Frame, block_on};
use proptest::prelude::*;

/// A row: an integer, a text, and a number.
type Row = (Option<i64>, Option<String>, Option<f64>);

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let integer = prop::option::weighted(0.8, -2_i64..4);
    let text = prop::option::weighted(0.8, prop::sample::select(vec!["", " ", "a", "b", "ä", "long text"]));
    let number = prop::option::weighted(0.8, (-4_i32..8).prop_map(|n| f64::from(n) / 2.0));
    prop::collection::vec((integer, text.prop_map(|text| text.map(str::to_owned)), number), 0..24)
}

/// A rule, and what it says.
#[derive(Debug, Clone)]
enum Says {
    RowCount(Holds),
    Complete(Column),
    Completeness(Column, Holds),
    Unique(Vec<Column>),
    PrimaryKey(Vec<Column>),
    Uniqueness(Vec<Column>, Holds),
    UniqueValueRatio(Column, Holds),
    Distinct(Column, Holds),
    Repeated(Vec<Column>, Holds),
    Values(Holds, Option<Holds>),
    Numbers(Holds),
    Texts { list: Vec<&'static str>, null: bool, negated: bool, threshold: Option<Holds> },
    Length(Holds),
    Mean(Holds),
    Sum(Holds),
    Zeros(Holds),
    Range(Holds),
    All(Vec<Judged>),
    Any(Vec<Judged>),
}

/// A rule with or without `where "i > 0"`.
#[derive(Debug, Clone)]
struct Judged {
    says: Says,
    positive: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Column {
    I,
    T,
    N,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::I => "i",
            Self::T => "t",
            Self::N => "n",
        }
    }

    /// The value, as a text that is different for different values.
    fn of(self, row: &Row) -> Option<String> {
        match self {
            Self::I => row.0.map(|i| i.to_string()),
            Self::T => row.1.clone(),
            Self::N => row.2.map(|n| n.to_string()),
        }
    }
}

/// A condition on numbers: an operator, and one or two operands in quarters.
#[derive(Debug, Clone, Copy)]
struct Holds {
    operator: u8,
    a: i32,
    b: i32,
}

impl Holds {
    fn operands(self) -> [f64; 2] {
        [f64::from(self.a) / 4.0, f64::from(self.b) / 4.0]
    }

    fn condition(self) -> Condition<Number> {
        let [a, b] = self.operands();
        match self.operator {
            0 => Condition::equal(a),
            1 => Condition::not_equal(a),
            2 => Condition::greater_than(a),
            3 => Condition::at_least(a),
            4 => Condition::less_than(a),
            5 => Condition::at_most(a),
            6 => Condition::between(a, b),
            7 => Condition::not_between(a, b),
            8 => Condition::is_in([a, b]),
            _ => Condition::is_not_in([a, b]),
        }
    }

    fn holds(self, x: f64) -> bool {
        let [a, b] = self.operands();
        match self.operator {
            0 => x == a,
            1 => x != a,
            2 => x > a,
            3 => x >= a,
            4 => x < a,
            5 => x <= a,
            6 => x > a && x < b,
            7 => x <= a || x >= b,
            8 => x == a || x == b,
            _ => x != a && x != b,
        }
    }

    /// `!=` and `not in`
    fn null_passes(self) -> bool {
        matches!(self.operator, 1 | 9)
    }
}

fn holds(operands: std::ops::Range<i32>) -> impl Strategy<Value = Holds> {
    (0_u8..10, operands.clone(), operands).prop_map(|(operator, a, b)| Holds { operator, a, b })
}

fn column() -> impl Strategy<Value = Column> {
    prop::sample::select(vec![Column::I, Column::T, Column::N])
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    prop::sample::subsequence(vec![Column::I, Column::T, Column::N], 1..=3)
}

fn judged() -> impl Strategy<Value = Judged> {
    let share = || holds(0..5);
    let threshold = || prop::option::of(share());
    let counts = || holds(0..60);
    let values = || holds(-10..16);
    let texts = prop::collection::vec(prop::sample::select(vec!["", " ", "a", "b", "ä", "c"]), 1..5);
    let says =
        prop_oneof![
            counts().prop_map(Says::RowCount),
            column().prop_map(Says::Complete),
            (column(), share()).prop_map(|(column, holds)| Says::Completeness(column, holds)),
            columns().prop_map(Says::Unique),
            columns().prop_map(Says::PrimaryKey),
            (columns(), share()).prop_map(|(columns, holds)| Says::Uniqueness(columns, holds)),
            (column(), share()).prop_map(|(column, holds)| Says::UniqueValueRatio(column, holds)),
            (column(), counts()).prop_map(|(column, holds)| Says::Distinct(column, holds)),
            (columns(), counts()).prop_map(|(columns, holds)| Says::Repeated(columns, holds)),
            (values(), threshold()).prop_map(|(holds, threshold)| Says::Values(holds, threshold)),
            values().prop_map(Says::Numbers),
            (texts, any::<bool>(), any::<bool>(), threshold())
                .prop_map(|(list, null, negated, threshold)| Says::Texts { list, null, negated, threshold }),
            values().prop_map(Says::Length),
            values().prop_map(Says::Mean),
            values().prop_map(Says::Sum),
            counts().prop_map(Says::Zeros),
            values().prop_map(Says::Range),
        ];
    let leaf = (says, any::<bool>()).prop_map(|(says, positive)| Judged { says, positive });
    leaf.prop_recursive(2, 8, 3, |inner| {
        let parts = || prop::collection::vec(inner.clone(), 2..4);
        let says = prop_oneof![parts().prop_map(Says::All), parts().prop_map(Says::Any)];
        says.prop_map(|says| Judged { says, positive: false })
    })
}

impl Judged {
    fn rule(&self) -> Rule {
        let metric =
            |metric: Metric, holds: &Holds| hardtack_quality::dqdl::build::metric(metric).is(holds.condition());
        let names = |columns: &[Column]| columns.iter().map(|column| column.name()).collect::<Vec<_>>();
        let with = |rule: Rule, threshold: &Option<Holds>| match threshold {
            Some(threshold) => rule.with_threshold(threshold.condition()),
            None => rule,
        };
        let number = || "i".into();
        let rule = match &self.says {
            Says::RowCount(holds) => row_count().is(holds.condition()),
            Says::Complete(column) => is_complete(column.name()),
            Says::Completeness(column, holds) => completeness(column.name()).is(holds.condition()),
            Says::Unique(columns) => is_unique(names(columns)),
            Says::PrimaryKey(columns) => is_primary_key(names(columns)),
            Says::Uniqueness(columns, holds) => uniqueness(names(columns)).is(holds.condition()),
            Says::UniqueValueRatio(column, holds) => {
                metric(Metric::UniqueValueRatio { column: column.name().into() }, holds)
            }
            Says::Distinct(column, holds) => {
                metric(Metric::DistinctValuesCount { column: column.name().into() }, holds)
            }
            Says::Repeated(columns, holds) => duplicate_row_count(names(columns)).is(holds.condition()),
            Says::Values(holds, threshold) => with(values_of("i", holds), threshold),
            Says::Numbers(holds) => values_of("n", holds),
            Says::Texts { list, null, negated, threshold } => {
                let mut texts: Vec<String> = list.iter().map(|text| format!("\"{text}\"")).collect();
                if *null {
                    texts.push("NULL".to_owned());
                }
                let not = if *negated { "not " } else { "" };
                with(parsed(&format!("ColumnValues \"t\" {not}in [{}]", texts.join(", "))), threshold)
            }
            Says::Length(holds) => column_length("t").is(holds.condition()),
            Says::Mean(holds) => metric(Metric::Mean { column: number() }, holds),
            Says::Sum(holds) => metric(Metric::Sum { column: number() }, holds),
            Says::Zeros(holds) => metric(Metric::ZerosCount { column: number() }, holds),
            Says::Range(holds) => metric(Metric::Range { column: number() }, holds),
            Says::All(parts) => return all_of(parts.iter().map(Self::rule)),
            Says::Any(parts) => return any_of(parts.iter().map(Self::rule)),
        };
        if self.positive { rule.filter("i > 0") } else { rule }
    }

    /// Whether rows meet it, by looking at one after the other.
    fn passes(&self, rows: &[Row]) -> bool {
        let seen: Vec<&Row> = rows.iter().filter(|row| !self.positive || row.0 > Some(0)).collect();
        let count = seen.len() as f64;
        let share = |passes: &dyn Fn(&Row) -> bool, threshold: &Option<Holds>| {
            let passing = seen.iter().filter(|row| passes(row)).count() as f64;
            let share = if count == 0.0 { 1.0 } else { passing / count };
            threshold.map_or(passing == count, |threshold| threshold.holds(share))
        };
        // How often keys occur, without those that have no value at all.
        let groups = |columns: &[Column]| {
            let mut groups: HashMap<Vec<Option<String>>, u64> = HashMap::new();
            for row in &seen {
                let key: Vec<_> = columns.iter().map(|column| column.of(row)).collect();
                if key.iter().any(Option::is_some) {
                    *groups.entry(key).or_default() += 1;
                }
            }
            groups
        };
        let unique = |columns: &[Column]| groups(columns).values().filter(|n| **n == 1).count() as f64;
        let keyed = |columns: &[Column]| groups(columns).values().sum::<u64>() as f64;
        // Without values there is no number, which fails unless it is a filter that lets nothing through.
        let or_nothing = |number: Option<f64>, holds: &Holds| {
            number.map_or(self.positive && seen.is_empty(), |number| holds.holds(number))
        };
        let numbers: Vec<i64> = seen.iter().filter_map(|row| row.0).collect();
        let n = numbers.len() as f64;
        let sum = numbers.iter().sum::<i64>() as f64;
        match &self.says {
            Says::RowCount(holds) => holds.holds(count),
            Says::Complete(column) => seen.iter().all(|row| column.of(row).is_some()),
            Says::Completeness(column, holds) => share(&|row| column.of(row).is_some(), &Some(*holds)),
            Says::Unique(columns) => unique(columns) == keyed(columns),
            Says::PrimaryKey(columns) => {
                unique(columns) == keyed(columns)
                    && seen.iter().all(|row| columns.iter().all(|column| column.of(row).is_some()))
            }
            Says::Uniqueness(columns, holds) => {
                let keyed = keyed(columns);
                holds.holds(if keyed == 0.0 { 1.0 } else { unique(columns) / keyed })
            }
            Says::UniqueValueRatio(column, holds) => {
                let groups = groups(&[*column]);
                let ratio = (!groups.is_empty()).then(|| unique(&[*column]) / groups.len() as f64);
                or_nothing(ratio, holds)
            }
            Says::Distinct(column, holds) => {
                let null = seen.iter().any(|row| column.of(row).is_none());
                holds.holds((groups(&[*column]).len() + usize::from(null)) as f64)
            }
            Says::Repeated(columns, holds) => holds.holds(keyed(columns) - unique(columns)),
            Says::Values(holds, threshold) => {
                share(&|row| row.0.map_or(holds.null_passes(), |i| holds.holds(i as f64)), threshold)
            }
            Says::Numbers(holds) => share(&|row| row.2.map_or(holds.null_passes(), |n| holds.holds(n)), &None),
            Says::Texts { list, null, negated, threshold } => {
                let passes = |row: &Row| match &row.1 {
                    Some(text) => list.contains(&text.as_str()) != *negated,
                    None => null != negated,
                };
                share(&passes, threshold)
            }
            Says::Length(holds) => {
                share(&|row| holds.holds(row.1.as_ref().map_or(0, |text| text.chars().count()) as f64), &None)
            }
            Says::Mean(holds) => or_nothing((n > 0.0).then(|| sum / n), holds),
            Says::Sum(holds) => or_nothing((n > 0.0).then_some(sum), holds),
            Says::Zeros(holds) => holds.holds(numbers.iter().filter(|i| **i == 0).count() as f64),
            Says::Range(holds) => {
                let range = numbers.iter().max().zip(numbers.iter().min()).map(|(max, min)| (max - min) as f64);
                or_nothing(range, holds)
            }
            Says::All(parts) => parts.iter().all(|part| part.passes(rows)),
            Says::Any(parts) => parts.iter().any(|part| part.passes(rows)),
        }
    }
}

fn values_of(column: &str, holds: &Holds) -> Rule {
    let condition = holds.condition();
    column_values(column).is(hardtack_quality::dqdl::ValueCondition::Numbers { condition, null: false })
}

fn parsed(rule: &str) -> Rule {
    hardtack_quality::dqdl::parse(&format!("Rules = [{rule}]")).unwrap().rules.remove(0)
}

fn frame(rows: &[Row]) -> Frame {
    let integers: Int64Array = rows.iter().map(|row| row.0).collect();
    let texts: StringArray = rows.iter().map(|row| row.1.clone()).collect();
    let numbers: Float64Array = rows.iter().map(|row| row.2).collect();
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("i", std::sync::Arc::new(integers), true),
        ("t", std::sync::Arc::new(texts), true),
        ("n", std::sync::Arc::new(numbers), true),
    ];
    Frame::from(RecordBatch::try_from_iter_with_nullable(columns).unwrap())
}

#[derive(Debug, Clone, Copy)]
enum Packing {
    /// All batches have the same dictionary.
    Shared,
    /// Each batch has its own.
    PerBatch,
}

/// The rows in batches, with texts as dictionaries.
fn packed(frame: &Frame, batches: usize, packing: Packing) -> Vec<RecordBatch> {
    let rows = frame.to_batch();
    let pack = |rows: &RecordBatch| {
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
            let data_type = match field.data_type() {
                DataType::Utf8 => DataType::Dictionary(Box::new(DataType::UInt32), Box::new(DataType::Utf8)),
                other => other.clone(),
            };
            (field.name().clone(), cast(column, &data_type).unwrap(), true)
        });
        RecordBatch::try_from_iter_with_nullable(columns.collect::<Vec<_>>()).unwrap()
    };
    let size = rows.num_rows().div_ceil(batches).max(1);
    let slices = |rows: &RecordBatch| -> Vec<RecordBatch> {
        (0..rows.num_rows().max(1)).step_by(size).map(|at| rows.slice(at, size.min(rows.num_rows() - at))).collect()
    };
    match packing {
        Packing::Shared => slices(&pack(&rows)),
        Packing::PerBatch => slices(&rows).iter().map(pack).collect(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_verdict_is_what_a_naive_evaluation_says(
        rows in rows(),
        judged in prop::collection::vec(judged(), 1..12),
        batches in 1_usize..5,
        threads in 1_usize..4,
        at_once in 1_usize..20,
        packing in prop_oneof![Just(Packing::Shared), Just(Packing::PerBatch)],
    ) {
        let rules = Rules::from(RuleSet::new(judged.iter().map(Judged::rule)));
        prop_assert!(rules.check().is_ok(), "{rules}");
        let job = JobContext::builder("job").threads(threads).memory_limit(64 << 20).build().unwrap();
        job.session().state_ref().write().config_mut().options_mut().execution.batch_size = at_once;
        let audit = block_on(async {
            let frame = frame(&rows).in_batches(batches).to_df(job.session());
            rules.audit(&job, "rows", frame).await.unwrap()
        });
        let found: BTreeMap<_, _> = audit.verdicts.iter().map(|v| (v.number, v.outcome == Outcome::Passed)).collect();
        // Texts as dictionaries, as sinks have them, are the same texts.
        let packed = packed(&frame(&rows), batches, packing);
        let packed = block_on(async {
            rules.audit(&job, "rows", job.session().read_batches(packed).unwrap()).await.unwrap()
        });
        for (plain, packed) in audit.verdicts.iter().zip(&packed.verdicts) {
            prop_assert_eq!(plain.outcome, packed.outcome, "{:?}", plain);
            prop_assert_eq!((plain.failed_rows, &plain.examples), (packed.failed_rows, &packed.examples));
        }
        for (i, judged) in judged.iter().enumerate() {
            prop_assert_eq!(found[&(i + 1)], judged.passes(&rows), "{:?}\n{:#?}", judged.rule().to_string(), audit.verdicts[i]);
        }
    }
}
