//! Laws for all tables and queries.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::prelude::{DataFrame, Expr, col, in_list, lit, not};
use hardtack_catalog::{Column, NULL_PARTITION, TableDescription, TableFormat, schema};
use proptest::prelude::*;

use crate::files::rows;
use crate::world::{World, show};

const TEXTS: [&str; 6] = ["", "a", "Z", "10", "9", NULL_PARTITION];

fn comparison() -> impl Strategy<Value = Expr> {
    let numbers = (prop_oneof![Just("a"), Just("n")], -2_i32..12, 0..6_usize);
    let numbers = numbers.prop_map(|(column, n, op)| compare(col(column), lit(n), op));
    let texts = (0..TEXTS.len(), 0..6_usize, any::<bool>());
    let texts = texts.prop_map(|(i, op, swapped)| match swapped {
        true => compare(lit(TEXTS[i]), col("b"), op),
        false => compare(col("b"), lit(TEXTS[i]), op),
    });
    let list = (prop::collection::vec(-2_i32..12, 1..4), any::<bool>());
    let list = list.prop_map(|(list, negated)| in_list(col("a"), list.into_iter().map(lit).collect(), negated));
    let flag =
        prop_oneof![Just(col("c")), Just(not(col("c"))), Just(col("c").eq(lit(false))), Just(col("c").is_null())];
    prop_oneof![numbers, texts, list, flag, Just(col("a").is_not_null()), Just((col("a") + col("n")).gt(lit(5)))]
}

fn compare(left: Expr, right: Expr, op: usize) -> Expr {
    match op {
        0 => left.eq(right),
        1 => left.not_eq(right),
        2 => left.lt(right),
        3 => left.lt_eq(right),
        4 => left.gt(right),
        _ => left.gt_eq(right),
    }
}

fn filter() -> impl Strategy<Value = Expr> {
    comparison().prop_recursive(3, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
            inner.prop_map(not),
        ]
    })
}

fn partition() -> impl Strategy<Value = [&'static str; 3]> {
    let pick = prop::sample::select::<&'static str>;
    let number = pick(vec!["0", "9", "10", "-1", "007", NULL_PARTITION]);
    (number, pick(TEXTS[1..].to_vec()), pick(vec!["true", "false", NULL_PARTITION])).prop_map(|(a, b, c)| [a, b, c])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However a filter is divided among the catalog, the partitions' values and the rows.
    #[test]
    fn pruning_does_not_change_the_answer(
        partitions in prop::collection::hash_set(partition(), 0..8),
        filters in prop::collection::vec(filter(), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::new();
            let table = TableDescription::new("lake", "t", &TableFormat::Json, "memory:/t")
                .with_columns([Column::foreign("n", "int")])
                .with_partition_keys([("a", "int"), ("b", "string"), ("c", "boolean")].map(|(k, t)| Column::foreign(k, t)));
            world.create(&table).await;
            let partitions: Vec<_> = partitions.into_iter().collect();
            world.partitions(&table, &partitions).await;
            let schema = schema! { n: int, a: int, b: string, c: boolean };
            let mut batches = vec![RecordBatch::new_empty(Arc::clone(&schema))];
            for values in &partitions {
                let location = table.location().unwrap().join(table.partition_name(&values.map(str::to_owned)));
                world.put(location.join("rows"), r#"{"n": 0} {"n": 9}"#).await;
                let [a, b, c] = values.map(|v| if v == NULL_PARTITION { serde_json::Value::Null } else { v.into() });
                let number = |v: serde_json::Value| v.as_str().map_or(serde_json::Value::Null, |v| v.parse::<i32>().unwrap().into());
                let flag = |v: serde_json::Value| v.as_str().map_or(serde_json::Value::Null, |v| (v == "true").into());
                let (a, c) = (number(a), flag(c));
                let text: String = [0, 9].map(|n| serde_json::json!({ "n": n, "a": a, "b": b, "c": c }).to_string()).concat();
                batches.push(rows(&schema, &text));
            }
            let all = concat_batches(&schema, &batches).unwrap();
            let filtered = |rows: DataFrame| filters.iter().fold(rows, |rows, f| rows.filter(f.clone()).unwrap());
            let expected = show(filtered(world.ctx.session().read_batch(all).unwrap())).await;
            let found = show(filtered(world.load("lake.t").await.unwrap())).await;
            assert_eq!(found, expected);
        });
    }
}
