//! Transforms that drop rows and leave columns unchanged.

use datafusion::common::Column;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{BinaryExpr, ExprFunctionExt, JoinType, Operator, SortExpr, lit};
use datafusion::prelude::{DataFrame, Expr};
use hardtack_core::{Error, Result};

use crate::columns::{Columns, Found, type_name};
use crate::encode;
use hardtack_catalog::types;

const RANK: &str = "__hardtack_rank";

/// Keeps one row per key, or per distinct row if `keys` is empty. Keys are [paths](crate); null is a value like any
/// other.
///
/// Which of several rows with one key is kept depends on their values only, not on their order; do not rely on it. To
/// keep the latest, use [`merge_and_retain_last`](crate::merge_and_retain_last) or a window in SQL.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::drop_duplicates;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let visits = dataframe!("user" => ["ann", "ann", "ann"], "page" => ["/", "/", "/buy"])?;
/// assert_eq!(drop_duplicates(visits.clone(), &[])?.count().await?, 2);
/// assert_eq!(drop_duplicates(visits, &["user"])?.count().await?, 1);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a missing key.
pub fn drop_duplicates(df: DataFrame, keys: &[&str]) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    let all: Vec<Found> = columns.iter().cloned().collect();
    if keys.is_empty() && !all.iter().any(|c| encode::contains_map(c.field.data_type())) {
        return Ok(df.distinct()?);
    }
    let keys = match keys {
        [] => all.iter().map(encode::key).collect::<Result<_>>()?,
        keys => keys.iter().map(|k| encode::key(&columns.path(k)?)).collect::<Result<_>>()?,
    };
    let order = vec![encode::hash(&all)?.sort(true, true)];
    let exprs: Vec<Expr> = all.iter().map(|c| c.expr.clone()).collect();
    first_of_each(df, keys, order, exprs)
}

/// Of the rows with equal `keys`, the first by `order`, with the columns `output`. It sorts, so it spills what does not
/// fit into memory, however large a group is.
fn first_of_each(df: DataFrame, keys: Vec<Expr>, order: Vec<SortExpr>, output: Vec<Expr>) -> Result<DataFrame> {
    let rank = row_number().partition_by(keys).order_by(order).build()?.alias(RANK);
    let is_first = Expr::Column(Column::from_name(RANK)).eq(lit(1u64));
    Ok(df.window(vec![rank])?.filter(is_first)?.select(output)?)
}

/// Keeps the rows without a null in any of these columns, or in any column if `columns` is empty.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::drop_nulls;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let books = dataframe!("title" => [Some("Emma"), None, Some("Ulysses")], "year" => [Some(1815), Some(1), None])?;
/// assert_eq!(drop_nulls(books.clone(), &["title"])?.count().await?, 2);
/// assert_eq!(drop_nulls(books, &[])?.count().await?, 1);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a missing column.
pub fn drop_nulls(df: DataFrame, columns: &[&str]) -> Result<DataFrame> {
    let all = Columns::of(df.schema())?;
    let present = all.all_or(columns)?.into_iter().map(|c| c.expr.clone().is_not_null()).reduce(Expr::and);
    match present {
        Some(present) => Ok(df.filter(present)?),
        None => Ok(df),
    }
}

/// Keeps the rows whose key `target` does not have: those to insert. Keys are [paths](crate) that both sides have; a
/// null key equals a null key.
///
/// The keys of the smaller side are held in memory.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::except_existing;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let authors = dataframe!("id" => [1, 2, 3], "name" => ["Austen", "Joyce", "Woolf"])?;
/// let known = dataframe!("id" => [2])?;
/// assert_eq!(except_existing(authors, known, &["id"])?.count().await?, 2);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for a key that one side lacks, or whose types cannot be compared.
pub fn except_existing(df: DataFrame, target: DataFrame, keys: &[&str]) -> Result<DataFrame> {
    if keys.is_empty() {
        return Err(Error::usage("rows are compared by their key; name at least one column"));
    }
    let (ours, theirs) = (Columns::of(df.schema())?, Columns::of(target.schema())?);
    let (mut same, mut known) = (Vec::new(), Vec::new());
    for (i, key) in keys.iter().enumerate() {
        let our = ours.path(key)?;
        let their = theirs.path(key).map_err(|e| e.with("side", "target"))?;
        let (our_type, their_type) = (our.field.data_type(), their.field.data_type());
        if !types::comparable(our_type, their_type) {
            return Err(Error::usage("the two sides have this key in different types; coerce one of them first")
                .with("key", key)
                .with("type", type_name(our_type))
                .with("type in the target", type_name(their_type)));
        }
        let name = format!("__hardtack_key_{i}");
        known.push(encode::key(&their)?.alias(&name));
        same.push(Expr::BinaryExpr(BinaryExpr::new(
            Box::new(encode::key(&our)?),
            Operator::IsNotDistinctFrom,
            Box::new(Expr::Column(Column::from_name(name))),
        )));
    }
    Ok(df.join_on(target.select(known)?, JoinType::LeftAnti, same)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StructArray};
    use datafusion::arrow::datatypes::{DataType, Field, Fields, Float32Type};
    use datafusion::prelude::{SessionContext, col};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::{frame, frame_in, run, session, show};
    use crate::{Merge, merge_and_retain_last};

    const NESTED: &str = "id: int, s: struct<x:int,l:array<int>>, m: map<string,int>";

    #[tokio::test]
    async fn whole_rows_are_compared_in_depth() {
        let row = r#"{"id":1,"s":{"x":null,"l":[1,null]},"m":{"a":1}}"#;
        let other = row.replace("\"a\"", "\"b\"");
        let rows = [row, "{}", row, &other, r#"{"s":{}}"#, "{}"];
        insta::assert_snapshot!(show(drop_duplicates(frame(NESTED, &rows), &[]).unwrap()).await, @r"
        id int | s struct<x:int,l:array<int>> | m map<string,int>
        1      | {x: , l: [1, ]}              | {a: 1}
        1      | {x: , l: [1, ]}              | {b: 1}
        null   | null                         | null
        null   | {x: , l: }                   | null
        ");
        let flat = frame("id: int, s: struct<x:int>", &["{}", r#"{"s":{}}"#, "{}"]);
        assert_eq!(drop_duplicates(flat, &[]).unwrap().count().await.unwrap(), 2);
    }

    #[rstest]
    #[case(&["id"], 3)]
    #[case(&["s"], 3)]
    #[case(&["s.x"], 2)]
    #[case(&["m"], 3)]
    #[case(&["s.x", "id"], 4)]
    #[tokio::test]
    async fn one_row_of_every_key(#[case] keys: &[&str], #[case] expected: usize) {
        let rows = [
            "{}",
            r#"{"id":1,"s":{"x":1}}"#,
            r#"{"id":1,"s":{"x":null},"m":{}}"#,
            r#"{"id":2,"s":{"x":1},"m":{"a":1}}"#,
        ];
        let df = drop_duplicates(frame(NESTED, &rows), keys).unwrap();
        assert_eq!(df.schema().as_arrow(), frame(NESTED, &[]).schema().as_arrow());
        assert_eq!(df.count().await.unwrap(), expected);
    }

    #[rstest]
    #[case(&["a"], 2)]
    #[case(&["a", "b"], 1)]
    #[case(&[], 1)]
    #[tokio::test]
    async fn rows_with_nulls_go(#[case] columns: &[&str], #[case] expected: usize) {
        let df = frame("a: int, b: int", &[r#"{"a":1,"b":1}"#, r#"{"a":1}"#, r#"{"b":1}"#, "{}"]);
        assert_eq!(drop_nulls(df, columns).unwrap().count().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn what_the_target_has_goes() {
        let rows = [r#"{"k":1}"#, r#"{"k":1}"#, r#"{"k":2}"#, r#"{"k":null}"#, r#"{"k":3}"#];
        let df = frame("k: int", &rows);
        let target = frame("v: int, k: bigint", &[r#"{"k":1}"#, r#"{"k":null}"#, r#"{"k":9}"#]);
        insta::assert_snapshot!(show(except_existing(df, target, &["k"]).unwrap()).await, @r"
        k int
        2
        3
        ");
    }

    /// Rows of `i` and `f`, the latter in one of several forms.
    fn numbers(session: &SessionContext, values: &[Option<f64>], form: &str) -> DataFrame {
        let doubles = Float64Array::from(values.to_vec());
        let f: ArrayRef = match form {
            "double" => Arc::new(doubles),
            "float" => Arc::new(doubles.unary::<_, Float32Type>(|v| v as f32)),
            _ => {
                let field = Arc::new(Field::new("x", DataType::Float64, true));
                let nulls = doubles.nulls().cloned();
                Arc::new(StructArray::new(Fields::from(vec![field]), vec![Arc::new(doubles)], nulls))
            }
        };
        let i: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
        let rows = RecordBatch::try_from_iter_with_nullable([("i", i, false), ("f", f, true)]).unwrap();
        session.read_batch(rows).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Numbers are one key where they are equal in SQL: there is one zero and one NaN. This holds in every
        /// transform, and in sessions without our rules, too.
        #[test]
        fn keys_are_equal_where_sql_says_so(
            values in prop::collection::vec(prop::option::weighted(0.9, prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.5])), 0..8),
            others in prop::collection::vec(prop::option::weighted(0.9, prop::sample::select(vec![0.0, -0.0, f64::NAN, -f64::NAN, 1.5])), 0..4),
            form in prop::sample::select(vec!["double", "float", "struct"]),
            plain in any::<bool>(),
        ) {
            run(async {
                let session = if plain { SessionContext::new() } else { session(2) };
                let class = |v: &Option<f64>| v.map(|v| if v.is_nan() { "NaN".to_owned() } else { (v + 0.0).to_string() });
                let classes: BTreeSet<_> = values.iter().map(class).collect();
                let known: BTreeSet<_> = others.iter().map(class).collect();
                let (rows, target) = (numbers(&session, &values, form), numbers(&session, &others, form));

                prop_assert_eq!(drop_duplicates(rows.clone(), &["f"]).unwrap().count().await.unwrap(), classes.len());
                let new = values.iter().filter(|v| !known.contains(&class(v))).count();
                prop_assert_eq!(except_existing(rows.clone(), target.clone(), &["f"]).unwrap().count().await.unwrap(), new);
                let merge = Merge::on(&["f"]).order_by("i");
                let merged = merge_and_retain_last(rows.clone(), target, &merge).unwrap().count().await.unwrap();
                prop_assert_eq!(merged, classes.union(&known).count());
                if form != "struct" {
                    // NaN is the greatest, and zeros are a tie, which the incoming row wins.
                    let constant = |rows: DataFrame| rows.with_column("k", lit(1)).unwrap();
                    let one = constant(numbers(&session, &[Some(0.0)], form));
                    let other = constant(numbers(&session, &[Some(-0.0)], form)).with_column("i", lit(7i64)).unwrap();
                    let last = merge_and_retain_last(one.clone(), other, &Merge::on(&["k"]).order_by("f")).unwrap();
                    prop_assert_eq!(last.filter(col("i").eq(lit(7))).unwrap().count().await.unwrap(), 1);
                    let none = constant(numbers(&session, &[Some(-f64::NAN)], form)).with_column("i", lit(7i64)).unwrap();
                    let last = merge_and_retain_last(none, one, &Merge::on(&["k"]).order_by("f")).unwrap();
                    prop_assert_eq!(last.filter(col("i").eq(lit(7))).unwrap().count().await.unwrap(), 1);
                }
                Ok(())
            })?;
        }
    }

    /// Other values that have several forms.
    #[rstest]
    #[case::decimals("arrow_cast(1.5, 'Decimal128(5, 2)')", "arrow_cast(1.5, 'Decimal128(9, 4)')")]
    #[case::zones(
        "arrow_cast('2024-01-01T00:00:00Z', 'Timestamp(Microsecond, Some(\"UTC\"))')",
        "arrow_cast('2024-01-01T01:00:00+01:00', 'Timestamp(Microsecond, Some(\"Europe/Berlin\"))')"
    )]
    #[case::texts("arrow_cast('x', 'Dictionary(Int32, Utf8)')", "arrow_cast('x', 'Utf8View')")]
    #[case::large_texts("arrow_cast('x', 'LargeUtf8')", "arrow_cast('x', 'Dictionary(Int8, Utf8)')")]
    #[case::integers("arrow_cast(1, 'Int8')", "arrow_cast(1, 'Int64')")]
    #[tokio::test]
    async fn keys_of_two_types_are_equal_where_sql_says_so(#[case] ours: &str, #[case] theirs: &str) {
        let session = session(2);
        let (ours, theirs) = (format!("select {ours} as k"), format!("select {theirs} as k"));
        let (ours, theirs) = (session.sql(&ours).await.unwrap(), session.sql(&theirs).await.unwrap());
        let join = ours.clone().join_on(
            theirs.clone().select(vec![col("k").alias("l")]).unwrap(),
            JoinType::Inner,
            [col("k").eq(col("l"))],
        );
        assert_eq!(join.unwrap().count().await.unwrap(), 1);
        assert_eq!(except_existing(ours.clone(), theirs.clone(), &["k"]).unwrap().count().await.unwrap(), 0);
        assert_eq!(
            merge_and_retain_last(ours.clone(), theirs.clone(), &Merge::on(&["k"])).unwrap().count().await.unwrap(),
            1
        );
        let both = ours.union(theirs).unwrap();
        assert_eq!(drop_duplicates(both, &["k"]).unwrap().count().await.unwrap(), 1);
    }

    #[rstest]
    #[case(&["s"], 2)]
    #[case(&["s.x", "m"], 2)]
    #[case(&["s.x"], 1)]
    #[tokio::test]
    async fn keys_of_any_type_are_compared(#[case] keys: &[&str], #[case] expected: usize) {
        let rows = ["{}", r#"{"s":{"x":1,"l":[1]},"m":{}}"#, r#"{"s":{"x":1},"m":{"a":1}}"#, r#"{"s":{"x":2}}"#];
        let target = frame(NESTED, &["{}", r#"{"s":{"x":1},"m":{}}"#]);
        let df = except_existing(frame(NESTED, &rows), target, keys).unwrap();
        assert_eq!(df.count().await.unwrap(), expected);
    }

    #[tokio::test]
    async fn the_join_is_by_hash() {
        let df = except_existing(frame(NESTED, &[]), frame(NESTED, &[]), &["id", "s"]).unwrap();
        let plan = format!("{:?}", df.create_physical_plan().await.unwrap());
        assert!(plan.contains("HashJoinExec") && plan.contains("NullEqualsNull"), "{plan}");
    }

    #[rstest]
    #[case("id: int", &["x"], "there is no column `x` (columns: id, s, m)")]
    #[case("x: int", &["id"], "there is no column `id` (columns: x, side: target)")]
    #[case("s: struct<x:int>", &["s"], "the two sides have this key in different types; coerce one of them first (key: s, type: struct<x:int,l:array<int>>, type in the target: struct<x:int>)")]
    #[case("id: date", &["id"], "the two sides have this key in different types; coerce one of them first (key: id, type: int, type in the target: date)")]
    #[case("id: int", &[], "rows are compared by their key; name at least one column")]
    fn keys_must_be_on_both_sides(#[case] target: &str, #[case] keys: &[&str], #[case] message: &str) {
        let error = except_existing(frame(NESTED, &[]), frame(target, &[]), keys).err().map(|e| e.to_string());
        assert_eq!(error.as_deref(), Some(message));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// The rows that are kept do not depend on order and partitioning.
        #[test]
        fn order_and_partitions_do_not_matter(
            (rows, shuffled) in prop::collection::vec((0u8..4, 0u8..4), 0..20)
                .prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
            partitions in 1usize..5,
        ) {
            let unique = async |rows: &[(u8, u8)], partitions: usize| {
                let json: Vec<String> = rows.iter().map(|(k, v)| format!(r#"{{"k":{k},"s":{{"v":{v}}}}}"#)).collect();
                let json: Vec<&str> = json.iter().map(String::as_str).collect();
                let df = frame_in(&session(partitions), "k: int, s: struct<v:int>", &json);
                show(drop_duplicates(df, &["k"]).unwrap()).await
            };
            run(async {
                prop_assert_eq!(unique(&rows, 1).await, unique(&shuffled, partitions).await);
                Ok(())
            })?;
        }

        /// A second time drops nothing, and no row is lost or added.
        #[test]
        fn nulls_are_dropped_once(rows in rows(), columns in prop::sample::subsequence(vec!["k", "s"], 0..=2)) {
            let complete = |(k, v): &&Row| match columns.as_slice() {
                ["k"] => k.is_some(),
                ["s"] => v.is_some(),
                _ => k.is_some() && v.is_some(),
            };
            run(async {
                let once = drop_nulls(keyed(&rows, 2), &columns).unwrap();
                let dropped = rows.iter().filter(|row| !complete(row)).count();
                prop_assert_eq!(once.clone().count().await.unwrap() + dropped, rows.len());
                let twice = drop_nulls(once.clone(), &columns).unwrap();
                prop_assert_eq!(show(twice).await, show(once).await);
                Ok(())
            })?;
        }

        /// The rows that are kept share no key with the target, those that are dropped do; a frame minus itself is
        /// empty; and neither order nor partitions matter.
        #[test]
        fn the_rest_is_disjoint_from_the_target(
            (ours, shuffled) in rows().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
            theirs in rows(),
            keys in prop::sample::select(vec![vec!["k"], vec!["s.v"], vec!["k", "s"]]),
            partitions in 1usize..5,
        ) {
            let key = |(k, v): &Row| match keys.as_slice() {
                ["k"] => (*k, None),
                ["s.v"] => (None, *v),
                _ => (*k, *v),
            };
            let rest: Vec<_> =
                ours.iter().filter(|our| theirs.iter().all(|their| key(their) != key(our))).copied().collect();
            let except = |ours: &[Row], theirs: &[Row], partitions| {
                except_existing(keyed(ours, partitions), keyed(theirs, partitions), &keys).unwrap()
            };
            run(async {
                let wanted = show(keyed(&rest, 1)).await;
                prop_assert_eq!(&show(except(&ours, &theirs, 1)).await, &wanted);
                prop_assert_eq!(&show(except(&shuffled, &theirs, partitions)).await, &wanted);
                prop_assert_eq!(except(&shuffled, &ours, partitions).count().await.unwrap(), 0);
                Ok(())
            })?;
        }
    }

    type Row = (Option<u8>, Option<u8>);

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let value = || prop::option::of(0u8..4);
        prop::collection::vec((value(), value()), 0..16)
    }

    /// Rows of a key and a struct, which is null as a whole where its value is.
    fn keyed(rows: &[Row], partitions: usize) -> DataFrame {
        let json: Vec<String> = rows
            .iter()
            .map(|(k, v)| {
                let fields = [k.map(|k| format!(r#""k":{k}"#)), v.map(|v| format!(r#""s":{{"v":{v}}}"#))];
                format!("{{{}}}", fields.into_iter().flatten().collect::<Vec<_>>().join(","))
            })
            .collect();
        let json: Vec<&str> = json.iter().map(String::as_str).collect();
        frame_in(&session(partitions), "k: int, s: struct<v:int>", &json)
    }
}
