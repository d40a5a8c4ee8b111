//! AWS Glue's notation for mapping a frame's columns.

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::logical_expr::lit;
use datafusion::prelude::{DataFrame, Expr};
use hardtack_catalog::HiveType;
use hardtack_core::{Error, Result};

use crate::cast::{self, Fields};
use crate::columns::{Columns, Found, split_path, type_name};

/// Source path, source type, target path, target type.
pub type Mapping<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Picks, renames, nests and casts columns in one step. It takes the tuples of AWS Glue's `ApplyMapping` as they are.
/// Columns that no tuple names are dropped.
///
/// ```
/// # use datafusion::prelude::*;
/// # use hardtack_transforms::apply_mapping;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> hardtack_core::Result<()> {
/// let rows = dataframe!("provider id" => ["10001"], "charges.total" => ["32963.07"], "city" => ["Dothan"])?;
/// let rows = apply_mapping(rows, &[
///     ("provider id", "string", "provider.id", "long"),
///     ("city", "string", "provider.city", "string"),
///     ("`charges.total`", "string", "total", "decimal(10,2)"),
/// ])?;
/// assert_eq!(
///     rows.to_string().await?,
///     "\
/// +---------------------------+----------+
/// | provider                  | total    |
/// +---------------------------+----------+
/// | {id: 10001, city: Dothan} | 32963.07 |
/// +---------------------------+----------+"
/// );
/// # Ok(()) }
/// ```
///
/// * Paths lead into structs, on both sides; see [the crate](crate) for names with dots. Targets with a common prefix
///   are put into one struct, at the position of the first of them.
/// * Types are those of the catalog ([`HiveType`]), with Glue's `long`, `short` and `byte`. Without parameters
///   `struct`, `array`, `map` and `decimal` stand for any of their kind as a source, and for "as the source" as a
///   target.
/// * A source type that differs from the column's type is an error, not a cast: it means that the input has changed.
/// * Casts refuse to lose anything, as in [`coerce_to_schema`](crate::coerce_to_schema), where Glue returns null.
/// * Names are taken literally, where Glue ignores their case.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for types and paths that do not parse, a missing source, and targets that
/// collide; [`Refused`](hardtack_core::ErrorKind::Refused) for a source of another type, an impossible cast and, during
/// execution, a value that does not fit.
pub fn apply_mapping(df: DataFrame, mappings: &[Mapping<'_>]) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    let mut root = Vec::new();
    for (source, source_type, target, target_type) in mappings {
        let place = |e: Error| e.with("source", source).with("target", target);
        let column = columns.path(source).map_err(place)?;
        expect(&column, source_type).map_err(place)?;
        let path = split_path(target).map_err(place)?;
        let field = target_field(&column, target_type).map_err(place)?;
        let fields = Fields { fill_missing: false, drop_undeclared: true };
        let expr = cast::fit(&column, &field, source, fields)
            .map_err(|mut problems| problems.swap_remove(0).into_error())
            .map_err(place)?;
        insert(&mut root, &path, Node::Leaf(Box::new(expr))).map_err(place)?;
    }
    let exprs: Vec<Expr> = root.into_iter().map(|(name, node)| node.column(&name)).collect();
    Ok(df.select(exprs)?)
}

/// Refuses a column that does not have the stated type.
fn expect(column: &Found, said: &str) -> Result<()> {
    let actual = column.field.data_type();
    let is_it = match (said.trim().to_ascii_lowercase().as_str(), actual) {
        ("struct", t) => matches!(t, DataType::Struct(_)),
        ("map", t) => matches!(t, DataType::Map(..)),
        ("array", t) => matches!(
            t,
            DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) | DataType::ListView(_)
        ),
        ("decimal", t) => t.is_decimal(),
        // Glue has only one.
        ("timestamp", t) => matches!(t, DataType::Timestamp(..)),
        (said, t) => {
            let said: HiveType = said_type(said)?;
            HiveType::try_from(t).is_ok_and(|actual| actual == without_length(said))
        }
    };
    if is_it {
        return Ok(());
    }
    Err(Error::refused("a column's type differs from the mapping").with("said", said).with("type", type_name(actual)))
}

fn said_type(text: &str) -> Result<HiveType> {
    text.parse::<HiveType>()
}

/// Frames do not have maximum lengths of texts.
fn without_length(hive: HiveType) -> HiveType {
    match hive {
        HiveType::Char(_) | HiveType::VarChar(_) => HiveType::String,
        other => other,
    }
}

fn target_field(column: &Found, text: &str) -> Result<Field> {
    let (name, source) = (column.field.name(), column.field.data_type());
    let as_source = match (text.trim().to_ascii_lowercase().as_str(), source) {
        ("struct", DataType::Struct(_)) | ("map", DataType::Map(..)) => true,
        ("array", DataType::List(_) | DataType::LargeList(_)) => true,
        ("decimal", source) => source.is_decimal(),
        _ => false,
    };
    if as_source {
        return Ok(column.field.as_ref().clone().with_nullable(true));
    }
    Ok(said_type(text)?.to_field(name, true))
}

/// The target columns: expressions, nested by their names.
enum Node {
    Leaf(Box<Expr>),
    Struct(Vec<(String, Node)>),
}

impl Node {
    fn column(self, name: &str) -> Expr {
        match self {
            Node::Leaf(expr) => cast::named(*expr, name),
            nested => nested.value().alias(name),
        }
    }

    fn value(self) -> Expr {
        match self {
            Node::Leaf(expr) => *expr,
            Node::Struct(fields) => {
                named_struct(fields.into_iter().flat_map(|(name, node)| [lit(name), node.value()]).collect())
            }
        }
    }
}

fn insert(fields: &mut Vec<(String, Node)>, path: &[String], leaf: Node) -> Result<()> {
    let Some((name, rest)) = path.split_first() else { return Ok(()) };
    let place = fields.iter().position(|(n, _)| n == name);
    match (place, rest.is_empty()) {
        (None, true) => fields.push((name.clone(), leaf)),
        (None, false) => {
            let mut nested = Vec::new();
            insert(&mut nested, rest, leaf)?;
            fields.push((name.clone(), Node::Struct(nested)));
        }
        (Some(i), false) => match &mut fields[i].1 {
            Node::Struct(nested) => insert(nested, rest, leaf)?,
            Node::Leaf(_) => return Err(Error::usage(format!("the target `{name}` cannot be a column and a struct"))),
        },
        (Some(_), true) => return Err(Error::usage(format!("there is a target `{name}` already"))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::testing::{failure, frame, run, show};

    const COLUMNS: &str = "id: bigint, `a.b`: string, at: timestamp, price: decimal(8,2), tags: array<string>, \
                           s: struct<x:int,`y.z`:string,deep:struct<d:date>>";
    const ROW: &str = r#"{"id":1,"a.b":"7","at":"2024-01-01T10:00:00","price":"1.50","tags":["t"],"s":{"x":5,"y.z":"z","deep":{"d":"2024-02-29"}}}"#;

    async fn mapped(mappings: &[Mapping<'_>]) -> String {
        show(apply_mapping(frame(COLUMNS, &[ROW]), mappings).unwrap()).await
    }

    #[tokio::test]
    async fn paths_lead_in_and_out_of_structs() {
        let shown = mapped(&[
            ("s.deep.d", "date", "out.day", "string"),
            ("id", "long", "id", "int"),
            ("s.`y.z`", "string", "out.in.z", "string"),
            ("a.b", "string", "`x.y`", "decimal(3,1)"),
            ("`a.b`", "string", "out.in.b", "bigint"),
        ]);
        insta::assert_snapshot!(shown.await, @r"
        out struct<day:string,in:struct<z:string,b:bigint>> | id int | x.y decimal(3,1)
        {day: 2024-02-29, in: {z: z, b: 7}}                 | 1      | 7.0
        ");
    }

    #[tokio::test]
    async fn columns_and_fields_get_other_names() {
        let shown = mapped(&[
            ("at", "timestamp", "when", "timestamp"),
            ("s.x", "int", "x", "int"),
            ("id", "bigint", "s.id", "bigint"),
            ("id", "bigint", "id", "bigint"),
        ]);
        insta::assert_snapshot!(shown.await, @r"
        when timestamp      | x int | s struct<id:bigint> | id bigint
        2024-01-01T10:00:00 | 5     | {id: 1}             | 1
        ");
    }

    #[tokio::test]
    async fn bare_types_stand_for_any_of_their_kind() {
        let shown = mapped(&[
            ("s", "struct", "s", "struct"),
            ("tags", "array", "tags", "array"),
            ("price", "decimal", "price", "decimal"),
            ("at", "timestamp", "at", "timestamp"),
            ("s", "struct<x:int,`y.z`:string,deep:struct<d:date>>", "x", "struct<x:bigint>"),
        ]);
        insta::assert_snapshot!(shown.await, @r"
        s struct<x:int,`y.z`:string,deep:struct<d:date>> | tags array<string> | price decimal(8,2) | at timestamp        | x struct<x:bigint>
        {x: 5, y.z: z, deep: {d: 2024-02-29}}            | [t]                | 1.50               | 2024-01-01T10:00:00 | {x: 5}
        ");
    }

    #[rstest]
    #[case(("idd", "long", "id", "long"), "there is no column `idd`; did you mean `id`? (columns: id, a.b, at, price, tags, s, source: idd, target: id)")]
    #[case(("s.q", "long", "id", "long"), "there is no field `q` (columns: x, y.z, deep, path: s.q, source: s.q, target: id)")]
    #[case(("id", "int", "id", "int"), "a column's type differs from the mapping (said: int, type: bigint, source: id, target: id)")]
    #[case(("id", "array", "id", "array"), "a column's type differs from the mapping (said: array, type: bigint, source: id, target: id)")]
    #[case(("id", "choice", "id", "int"), "expected a type, found `choice` (type: choice, position: 1, source: id, target: id)")]
    #[case(("id", "long", "id", "timestamp"), "a column cannot become the declared type; choose its unit, for example with to_timestamp_millis (column: id, type: bigint, declared: timestamp, source: id, target: id)")]
    #[case(("id", "long", "t", "long"), "there is a target `t` already (source: id, target: t)")]
    #[case(("id", "long", "t.x", "long"), "the target `t` cannot be a column and a struct (source: id, target: t.x)")]
    #[case(("id", "long", "t..x", "long"), "this path has an empty part; put names with dots in backquotes (path: t..x, source: id, target: t..x)")]
    fn what_cannot_be_is_refused_at_once(#[case] mapping: Mapping<'_>, #[case] message: &str) {
        let error = apply_mapping(frame(COLUMNS, &[]), &[("at", "timestamp", "t", "timestamp"), mapping]).unwrap_err();
        assert_eq!(error.to_string(), message);
    }

    #[tokio::test]
    async fn a_value_that_does_not_fit_is_refused() {
        let df = frame("s: struct<x:string>", &[r#"{"s":{"x":"12"}}"#, r#"{"s":{"x":"twelve"}}"#]);
        let df = apply_mapping(df, &[("s.x", "string", "n", "int")]).unwrap();
        assert_eq!(
            failure(df).await,
            "a value does not fit the declared type without loss (column: s.x, value: twelve, type: string, declared: int)"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Columns of any type that are mapped to themselves stay unchanged, in the order of the mapping.
        #[test]
        fn the_identity_changes_nothing(
            picked in prop::sample::subsequence(vec![
                ("id", "bigint"), ("`a.b`", "string"), ("at", "timestamp"), ("price", "decimal(8,2)"),
                ("tags", "array<string>"), ("s", "struct<x:int,`y.z`:string,deep:struct<d:date>>"),
            ], 1..=6).prop_shuffle(),
            bare in any::<bool>(),
        ) {
            let type_of = |said: &'static str| if bare { said.split(['<', '(']).next().unwrap() } else { said };
            let identity: Vec<Mapping<'_>> = picked.iter().map(|(c, t)| (*c, type_of(t), *c, type_of(t))).collect();
            let names: Vec<_> = picked.iter().map(|(column, _)| column.trim_matches('`')).collect();
            let df = frame(COLUMNS, &[ROW, "{}", r#"{"id":-1,"tags":[null],"s":{"deep":{}}}"#]);
            let exprs: Vec<_> = names.iter().map(|name| datafusion::prelude::ident(*name)).collect();
            let wanted = df.clone().select(exprs).unwrap();
            run(async {
                let once = apply_mapping(df, &identity).unwrap();
                prop_assert_eq!(once.schema().as_arrow(), wanted.schema().as_arrow());
                let twice = apply_mapping(once.clone(), &identity).unwrap();
                let wanted = show(wanted).await;
                prop_assert_eq!(&show(once).await, &wanted);
                prop_assert_eq!(&show(twice).await, &wanted);
                Ok(())
            })?;
        }
    }
}
