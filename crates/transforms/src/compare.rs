//! What differs between two versions of the same data.

use datafusion::common::{Column, JoinType};
use datafusion::functions::expr_fn::{coalesce, named_struct};
use datafusion::functions_nested::expr_fn::{array_remove_all, make_array};
use datafusion::logical_expr::{BinaryExpr, Operator, lit, when};
use datafusion::prelude::{DataFrame, Expr};
use hardtack_catalog::types;
use hardtack_core::{Error, Result};

use crate::columns::{Columns, Found, type_name};
use crate::encode;

const BEFORE: &str = "__hardtack_before";
const AFTER: &str = "__hardtack_after";

/// The rows in which two versions of the same data differ, by their key.
///
/// A row for each key that only one of them has, or whose other columns differ:
///
/// | column | |
/// | --- | --- |
/// | `change` | `added`, `removed` or `changed` |
/// | `columns` | which columns differ, of a row that has changed |
/// | the keys | |
/// | `before`, `after` | structs of the other columns that both have; null where there is no row |
///
/// Null equals null, a NaN equals a NaN, and zero has no sign. Nested values are compared by all their parts, numbers of
/// different widths by their value. Columns that only one version has are left out, and so are those whose types cannot be
/// compared. A key must be unique in each version: rows of the same key are each compared with all of the other version.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::differences;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let before = dataframe!("id" => [1, 2, 3], "name" => ["Austen", "Joyce", "Woolf"])?;
/// let after = dataframe!("id" => [2, 3, 4], "name" => ["Joyce", "V. Woolf", "Proust"])?;
/// let rows = differences(before, after, &["id"])?.sort_by(vec![col("id")])?;
/// assert_eq!(rows.count().await?, 3); // 1 was removed, 3 has changed, 4 was added
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) without a key, for a key that one version lacks, and for one whose types cannot
/// be compared.
pub fn differences(before: DataFrame, after: DataFrame, keys: &[&str]) -> Result<DataFrame> {
    if keys.is_empty() {
        return Err(Error::usage("rows are compared by their key; name at least one column"));
    }
    let (old, new) = (Columns::of(before.schema())?, Columns::of(after.schema())?);
    let same_type = |old: &Found, new: &Found| types::comparable(old.field.data_type(), new.field.data_type());
    let named = |name: String| Expr::Column(Column::from_name(name));
    // The columns of each side under names of their own, those that are compared also as what they are compared by.
    let (mut left, mut right) = (vec![lit(true).alias(BEFORE)], vec![lit(true).alias(AFTER)]);
    let mut pair = |at: usize, old: &Found, new: &Found| -> Result<[(Expr, Expr); 2]> {
        let names = ["before", "after"].map(|side| format!("__hardtack_{side}_{at}"));
        let keys = ["before", "after"].map(|side| format!("__hardtack_{side}_key_{at}"));
        left.extend([old.expr.clone().alias(&names[0]), encode::key(old)?.alias(&keys[0])]);
        right.extend([new.expr.clone().alias(&names[1]), encode::key(new)?.alias(&keys[1])]);
        let ([old_name, new_name], [old_key, new_key]) = (names.map(named), keys.map(named));
        Ok([(old_name, new_name), (old_key, new_key)])
    };
    let compared = |operator: Operator, (left, right): (Expr, Expr)| {
        Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
    };
    let (mut same_key, mut output) = (Vec::new(), Vec::new());
    for (at, key) in keys.iter().enumerate() {
        let old = old.get(key).map_err(|e| e.with("version", "before"))?;
        let new = new.get(key).map_err(|e| e.with("version", "after"))?;
        if !same_type(old, new) {
            return Err(Error::usage("the two versions have this key in different types")
                .with("key", key)
                .with("type before", type_name(old.field.data_type()))
                .with("type after", type_name(new.field.data_type())));
        }
        let [(old, new), encoded] = pair(at, old, new)?;
        same_key.push(compared(Operator::IsNotDistinctFrom, encoded));
        output.push(coalesce(vec![old, new]).alias(*key));
    }
    let others = old.iter().filter_map(|old| {
        let name = old.field.name();
        let new = new.find(name).filter(|new| same_type(old, new))?;
        (!keys.contains(&name.as_str())).then_some((name.clone(), old, new))
    });
    let (mut changed, mut fields_before, mut fields_after) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (name, old, new)) in others.enumerate() {
        let [(old, new), encoded] = pair(keys.len() + at, old, new)?;
        fields_before.extend([lit(name.clone()), old]);
        fields_after.extend([lit(name.clone()), new]);
        changed.push((name, compared(Operator::IsDistinctFrom, encoded)));
    }
    let joined = before.select(left)?.join_on(after.select(right)?, JoinType::Full, same_key)?;
    let is = |side: &str| named(side.to_owned()).is_not_null();
    // No column has an empty name, so it stands for one that is the same.
    let same = lit("");
    let names =
        changed.iter().map(|(name, differs)| Ok(when(differs.clone(), lit(name.clone())).otherwise(same.clone())?));
    let names: Vec<Expr> = names.chain([Ok(same.clone())]).collect::<Result<_>>()?;
    let names = array_remove_all(make_array(names), same.clone());
    let no_names = array_remove_all(make_array(vec![same.clone()]), same);
    let change = when(is(BEFORE).is_false(), lit("added"))
        .when(is(AFTER).is_false(), lit("removed"))
        .otherwise(lit("changed"))?;
    let differs = changed.iter().map(|(_, differs)| differs.clone()).reduce(Expr::or).unwrap_or(lit(false));
    let keep = is(BEFORE).is_false().or(is(AFTER).is_false()).or(differs);
    let mut columns =
        vec![change.alias("change"), when(is(BEFORE).and(is(AFTER)), names).otherwise(no_names)?.alias("columns")];
    columns.extend(output);
    for (side, name, fields) in [(BEFORE, "before", fields_before), (AFTER, "after", fields_after)] {
        if !fields.is_empty() {
            columns.push(when(is(side), named_struct(fields)).end()?.alias(name));
        }
    }
    Ok(joined.filter(keep)?.select(columns)?)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use datafusion::prelude::ident;
    use insta::assert_snapshot;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{frame_in, run, session, show};

    const SCHEMA: &str = "id: int, name: string, at: struct<city:string,zips:array<int>>, x: double";

    #[tokio::test]
    async fn what_is_added_removed_and_changed_is_there() {
        let session = session(2);
        let before = [
            r#"{"id": 1, "name": "a", "at": {"city": "Bath", "zips": [1]}, "x": 0.0}"#,
            r#"{"id": 2, "name": "b", "at": {"city": "Bath", "zips": [1]}, "x": 1.0}"#,
            r#"{"id": 3, "name": null, "at": null, "x": null}"#,
            r#"{"id": null, "name": "d", "at": null, "x": 2.0}"#,
        ];
        let after = [
            r#"{"id": 1, "name": "a", "at": {"city": "Bath", "zips": [1, 2]}, "x": -0.0}"#,
            r#"{"id": 3, "name": null, "at": null, "x": null}"#,
            r#"{"id": 4, "name": "e", "at": null, "x": null}"#,
            r#"{"id": null, "name": "D", "at": null, "x": 3.0}"#,
        ];
        let (before, after) = (frame_in(&session, SCHEMA, &before), frame_in(&session, SCHEMA, &after));
        assert_snapshot!(show(differences(before, after, &["id"]).unwrap()).await);
    }

    #[tokio::test]
    async fn columns_of_one_version_only_are_left_out_and_wider_numbers_are_the_same() {
        let session = session(1);
        let before =
            frame_in(&session, "id: int, n: int, gone: string, t: string", &[r#"{"id": 1, "n": 1, "t": "1"}"#]);
        let after = frame_in(
            &session,
            "id: bigint, n: bigint, new: string, t: array<int>",
            &[r#"{"id": 1, "n": 1, "t": [1]}"#],
        );
        assert_eq!(differences(before.clone(), after.clone(), &["id"]).unwrap().count().await.unwrap(), 0);
        for (keys, why) in [(&["gone"][..], "gone"), (&["t"], "in different types"), (&[], "name at least one column")]
        {
            let error = differences(before.clone(), after.clone(), keys).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        // Keys alone.
        let (one, other) =
            (frame_in(&session, "id: int", &[r#"{"id": 1}"#]), frame_in(&session, "id: int", &[r#"{"id": 2}"#]));
        assert_eq!(differences(one, other, &["id"]).unwrap().count().await.unwrap(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// As maps differ.
        #[test]
        fn differences_are_those_of_maps(
            before in proptest::collection::btree_map(0..20_i64, proptest::option::of(0..3_i64), 0..20),
            after in proptest::collection::btree_map(0..20_i64, proptest::option::of(0..3_i64), 0..20),
            partitions in 1..4_usize,
        ) {
            run(async {
                let session = session(partitions);
                let frame = |rows: &BTreeMap<i64, Option<i64>>| {
                    let lines: Vec<String> =
                        rows.iter().map(|(id, n)| format!(r#"{{"id":{id},"n":{}}}"#, n.map_or("null".to_owned(), |n| n.to_string()))).collect();
                    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
                    frame_in(&session, "id: bigint, n: bigint", &lines)
                };
                let found = differences(frame(&before), frame(&after), &["id"]).unwrap();
                let columns = found.clone().filter(ident("change").eq(lit("changed"))).unwrap();
                let columns = show(columns.select_columns(&["columns"]).unwrap()).await;
                prop_assert!(columns.lines().skip(1).all(|names| names == "[n]"), "{columns}");
                let found = found.select_columns(&["change", "id"]).unwrap();
                let found: BTreeSet<String> = show(found).await.lines().skip(1).map(str::to_owned).collect();
                let mut expected = BTreeSet::new();
                for id in before.keys().chain(after.keys()) {
                    let change = match (before.get(id), after.get(id)) {
                        (None, _) => "added  ",
                        (_, None) => "removed",
                        (old, new) if old != new => "changed",
                        _ => continue,
                    };
                    expected.insert(format!("{change} | {id}"));
                }
                let plain = |lines: &BTreeSet<String>| lines.iter().map(|line| line.split_whitespace().collect::<String>()).collect::<BTreeSet<_>>();
                prop_assert_eq!(plain(&found), plain(&expected));
                Ok(())
            })?;
        }
    }
}
