//! AWS Glue's way to say what becomes of a frame's columns.

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::functions::core::expr_fn::named_struct;
use datafusion::logical_expr::lit;
use datafusion::prelude::{DataFrame, Expr};
use hardtack_catalog::HiveType;
use hardtack_core::{Error, Result};

use crate::cast::{self, Policy};
use crate::columns::{Columns, Found, split_path, type_name};

/// Source path, source type, target path, target type.
pub type Mapping<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Picks, renames, nests and casts columns in one go: the tuples of AWS Glue's `ApplyMapping`, which can be taken over as
/// they are. Columns that no tuple names are dropped.
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
/// +-----------------------------+----------+
/// | provider                    | total    |
/// +-----------------------------+----------+
/// | {id: 10001, city: Dothan}   | 32963.07 |
/// +-----------------------------+----------+"
/// );
/// # Ok(()) }
/// ```
///
/// * Paths lead into structs, on both sides; see [the crate](crate) for names with dots. Targets with a common beginning
///   are put into one struct, at the place of the first of them.
/// * Types are those of the catalog ([`HiveType`]), with Glue's `long`, `short` and `byte`. Without parameters `struct`,
///   `array`, `map` and `decimal` stand for any of their kind as a source, and for "as the source" as a target.
/// * A source type that is not the column's is an error, not a wish: it says that the input is not what it was.
/// * Casts refuse what they would lose, as in [`coerce_to_schema`](crate::coerce_to_schema), where Glue gives null.
/// * Names are taken literally, where Glue ignores their case.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for types and paths that do not parse, and targets that collide;
/// [`Refused`](hardtack_core::ErrorKind::Refused) for a source that is missing or of another type, a cast that cannot be,
/// and, later, for a value that does not fit.
pub fn apply_mapping(df: DataFrame, mappings: &[Mapping<'_>]) -> Result<DataFrame> {
    let columns = Columns::of(df.schema())?;
    let mut root = Vec::new();
    for (source, source_type, target, target_type) in mappings {
        let place = |e: Error| e.with("source", source).with("target", target);
        let column = columns
            .path(source)
            .map_err(|e| Error::refused(e.message()).with("columns", columns.names().join(", ")))
            .map_err(place)?;
        expect(&column, source_type).map_err(place)?;
        let path = split_path(target).map_err(place)?;
        let field = target_field(&column, target_type).map_err(place)?;
        let policy = Policy { fill_missing: false, drop_undeclared: true };
        let expr = cast::fit(&column, &field, source, policy)
            .map_err(|mut problems| problems.swap_remove(0).into_error())
            .map_err(place)?;
        let leaf = Node::Leaf(Box::new(expr), Box::new(column.field.as_ref().clone()), Box::new(field));
        insert(&mut root, &path, leaf).map_err(place)?;
    }
    let exprs: Vec<Expr> = root.into_iter().map(|(name, node)| node.column(&name)).collect();
    Ok(df.select(exprs)?)
}

/// Refuses a column that is not of the type that is said.
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
        // Glue knows but one.
        ("timestamp", t) => matches!(t, DataType::Timestamp(..)),
        (said, t) => {
            let said: HiveType = said_type(said)?;
            HiveType::try_from(t).is_ok_and(|actual| actual == without_length(said))
        }
    };
    if is_it {
        return Ok(());
    }
    Err(Error::refused("a column is of another type than the mapping says")
        .with("said", said)
        .with("type", type_name(actual)))
}

fn said_type(text: &str) -> Result<HiveType> {
    text.parse::<HiveType>()
}

/// Frames do not know how long a text may be.
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

/// The columns to be: expressions, nested by their names.
enum Node {
    /// An expression, what it comes from, and what it is.
    Leaf(Box<Expr>, Box<Field>, Box<Field>),
    Struct(Vec<(String, Node)>),
}

impl Node {
    fn column(self, name: &str) -> Expr {
        match self {
            Node::Leaf(expr, from, to) => cast::declared_as(*expr, Some(&from), &to.with_name(name)),
            nested => nested.value().alias(name),
        }
    }

    fn value(self) -> Expr {
        match self {
            Node::Leaf(expr, ..) => *expr,
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
            Node::Leaf(..) => return Err(Error::usage(format!("the target `{name}` cannot be a column and a struct"))),
        },
        (Some(_), true) => return Err(Error::usage(format!("there is a target `{name}` already"))),
    }
    Ok(())
}
