//! Translates DataFusion's errors to hardtack's: what is wrong and where, alternatives, a hint, and the kind that
//! becomes an exit code.
//!
//! Structured errors are read from their structure. Errors that exist as text only are in one table, [`KNOWN`]; a test
//! provokes every row of it, so that an upgrade that changes a text is noticed.

use std::error::Error as StdError;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{Column, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

use std::io::ErrorKind as Io;

use crate::{Error, ErrorKind};

/// The message of the error when the spill disk is full.
const SPILL_FULL: &str = "the spill disk is full";

/// The [detail](Error::with_detail) of that error, so that a caller that knows the folder can add it.
#[derive(Debug)]
pub(crate) struct SpillFull;

/// The name of a [hint](Error::hint) in [`KNOWN`].
const HINT: &str = "hint";

/// Translates an error of planning or execution.
pub(crate) fn translate(error: DataFusionError) -> Error {
    let Some(told) = explained(&error) else { return Error::unexpected("the query failed").because(error) };
    told
}

fn explained(error: &DataFusionError) -> Option<Error> {
    let mut constant = false;
    let root = root(error, &mut constant);
    let told = match root {
        Root::DataFusion(DataFusionError::SchemaError(schema, _)) => of_schema(schema, &candidates(error)),
        Root::DataFusion(DataFusionError::SQL(error, _)) => of_syntax(error),
        Root::DataFusion(DataFusionError::IoError(error)) | Root::Arrow(ArrowError::IoError(_, error))
            if matches!(error.kind(), Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge) =>
        {
            spill_full().because(error.to_string())
        }
        Root::DataFusion(DataFusionError::ResourcesExhausted(text)) => of_text(text, false).unwrap_or_else(|| {
            let message = "memory ran out; raise --memory-limit or use a spill directory with more space";
            Error::unexpected(message).sqlstate("53200").because(text.clone())
        }),
        Root::DataFusion(DataFusionError::Plan(text)) => {
            of_text(text, true).unwrap_or_else(|| Error::usage(sentence(text)).sqlstate("42000"))
        }
        Root::DataFusion(DataFusionError::NotImplemented(text)) => {
            of_text(text, true).unwrap_or_else(|| Error::usage(sentence(text)).sqlstate("0A000"))
        }
        Root::DataFusion(DataFusionError::Configuration(text)) => {
            of_text(text, true).unwrap_or_else(|| Error::usage(sentence(text)).sqlstate("22023"))
        }
        Root::DataFusion(DataFusionError::Execution(text)) => of_text(text, constant)?,
        Root::Arrow(ArrowError::DivideByZero) => Error::refused("a number was divided by zero")
            .sqlstate("22012")
            .hint("`x / nullif(y, 0)` is null where `y` is zero"),
        Root::Arrow(
            ArrowError::CastError(text)
            | ArrowError::ParseError(text)
            | ArrowError::ComputeError(text)
            | ArrowError::InvalidArgumentError(text)
            | ArrowError::ArithmeticOverflow(text),
        ) => of_text(text, constant)?,
        Root::Pattern(text) => Error::usage("invalid regular expression").sqlstate("2201B").because(text),
        _ => return None,
    };
    Some(told)
}

// --- where the cause is --------------------------------------------------------------------------------------------

enum Root<'a> {
    DataFusion(&'a DataFusionError),
    Arrow(&'a ArrowError),
    Pattern(String),
}

/// The root cause. A failure while the optimiser folds constants is the query's fault and not the data's.
fn root<'a>(error: &'a DataFusionError, constant: &mut bool) -> Root<'a> {
    match error {
        DataFusionError::Context(text, inner) => {
            *constant |= text.starts_with("Optimizer rule");
            match inner.as_ref() {
                DataFusionError::External(cause) if text == "Invalid regex" => Root::Pattern(cause.to_string()),
                inner => root(inner, constant),
            }
        }
        DataFusionError::Diagnostic(_, inner) => root(inner, constant),
        DataFusionError::Shared(inner) => root(inner, constant),
        DataFusionError::Collection(all) => match all.first() {
            Some(first) => root(first, constant),
            None => Root::DataFusion(error),
        },
        DataFusionError::ArrowError(inner, _) => of_arrow(inner, constant),
        DataFusionError::External(inner) => of_cause(inner.as_ref(), constant).unwrap_or(Root::DataFusion(error)),
        error => Root::DataFusion(error),
    }
}

fn of_arrow<'a>(error: &'a ArrowError, constant: &mut bool) -> Root<'a> {
    match error {
        ArrowError::ExternalError(inner) => of_cause(inner.as_ref(), constant).unwrap_or(Root::Arrow(error)),
        error => Root::Arrow(error),
    }
}

fn of_cause<'a>(error: &'a (dyn StdError + 'static), constant: &mut bool) -> Option<Root<'a>> {
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return Some(root(error, constant));
    }
    error.downcast_ref::<ArrowError>().map(|error| of_arrow(error, constant))
}

// --- what has a structure ------------------------------------------------------------------------------------------

/// DataFusion's qualifier for columns of unnamed inputs.
const UNNAMED: &str = "?table?";

fn shown(column: &Column) -> String {
    match &column.relation {
        Some(table) if table.table() != UNNAMED => format!("{table}.{}", column.name),
        _ => column.name.clone(),
    }
}

/// The candidates that DataFusion lists for an ambiguous unqualified name.
fn candidates(error: &DataFusionError) -> Vec<String> {
    let notes = error.diagnostic().map(|diagnostic| diagnostic.notes.as_slice()).unwrap_or_default();
    let columns = notes.iter().filter_map(|note| note.message.strip_prefix("possible column "));
    columns.map(sentence).collect()
}

fn of_schema(error: &SchemaError, candidates: &[String]) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let name = shown(field);
            let known: Vec<String> = valid_fields.iter().map(shown).collect();
            let told = |hint: String| Error::usage(format!("there is no column `{name}`{hint}")).sqlstate("42703");
            let other_case =
                valid_fields.iter().find(|c| c.name != field.name && c.name.eq_ignore_ascii_case(&field.name));
            let told = match (other_case, nearest(&field.name, valid_fields)) {
                (Some(column), _) => told(format!("; did you mean `{}`?", shown(column)))
                    .hint(format!("in SQL, names keep their case in quotes: \"{}\"", column.name)),
                (None, Some(column)) => told(format!("; did you mean `{}`?", shown(column))),
                (None, None) => told(String::new()),
            };
            if known.is_empty() { told } else { told.with("columns", known.join(", ")) }
        }
        SchemaError::AmbiguousReference { field } => {
            let name = &field.name;
            let told = Error::usage(format!("more than one column is called `{name}`")).sqlstate("42702");
            // The result of a selection would have both.
            if field.relation.is_some() {
                return told
                    .with("columns", format!("{}, {name}", shown(field)))
                    .hint("rename one of them: `as` in SQL, `alias` in a DataFrame");
            }
            // Columns of unnamed frames cannot be distinguished.
            let distinct = candidates.iter().enumerate().all(|(i, c)| c != name && !candidates[..i].contains(c));
            match candidates.first() {
                Some(column) if distinct => told
                    .with("columns", candidates.join(", "))
                    .hint(format!("qualify it with its table, as in `{column}`")),
                Some(_) => told.hint("rename one of them first, or name the frames with `alias`"),
                None => told.hint(format!("qualify it with its table, as in `t.{name}`, or rename one of them first")),
            }
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::usage(format!("two columns are called `{name}`"))
                .sqlstate("42701")
                .hint("rename one of them: `as` in SQL, `rename` or `with_column_renamed` of a DataFrame")
        }
    }
}

/// The column that was probably meant.
fn nearest<'a>(name: &str, columns: &'a [Column]) -> Option<&'a Column> {
    let likely = crate::nearest(name, columns.iter().map(|c| c.name.as_str()))?;
    columns.iter().find(|c| c.name == likely)
}

fn of_syntax(error: &ParserError) -> Error {
    let text = match error {
        ParserError::ParserError(text) | ParserError::TokenizerError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => "the statement is nested too deeply",
    };
    let (text, place) = match text.split_once(" at Line: ") {
        Some((text, place)) => (text, Some(format!("line {}", place.replace("Column: ", "column ")))),
        None => (text, None),
    };
    let said = match text.strip_prefix("Expected: ").and_then(|t| t.split_once(", found: ")) {
        Some((expected, "EOF")) => format!("the statement ends, but {expected} was expected"),
        Some((expected, found)) => format!("`{found}` was found, but {expected} was expected"),
        None => sentence(text),
    };
    let told = Error::usage(format!("invalid SQL: {said}")).sqlstate("42601");
    match place {
        Some(place) => told.with("at", place),
        None => told,
    }
}

/// The text without its full stop and without the part for developers of DataFusion.
fn sentence(text: &str) -> String {
    let text = text.split("\nThis issue was likely caused by").next().unwrap_or(text);
    let text = text.replace(&format!("{UNNAMED}."), "").replace("datafusion.public.", "");
    text.trim().trim_end_matches('.').to_owned()
}

fn spill_full() -> Error {
    Error::unexpected(SPILL_FULL)
        .with_detail(SpillFull)
        .sqlstate("53100")
        .hint("`--spill-dir` sets a folder with more space")
}

// --- what has a text only ------------------------------------------------------------------------------------------

/// Whose fault an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The query's.
    Query,
    /// The data's; the query's, if the value is a literal.
    Data,
    /// There is too little space for spilled rows.
    SpillDisk,
}

/// A text of DataFusion or Arrow with holes (`{}`), and its meaning; `{0}` is the content of the first hole.
struct Known {
    text: &'static str,
    fault: Fault,
    sqlstate: &'static str,
    says: &'static str,
    with: &'static [(&'static str, &'static str)],
}

const fn query(
    sqlstate: &'static str,
    text: &'static str,
    says: &'static str,
    with: &'static [(&'static str, &'static str)],
) -> Known {
    Known { text, fault: Fault::Query, sqlstate, says, with }
}

const fn data(
    sqlstate: &'static str,
    text: &'static str,
    says: &'static str,
    with: &'static [(&'static str, &'static str)],
) -> Known {
    Known { text, fault: Fault::Data, sqlstate, says, with }
}

const TRY_CAST: (&str, &str) = (HINT, "`try_cast` returns null if a value does not fit");
const MICROSECONDS: (&str, &str) = (HINT, "`cast(x as timestamp)` has microseconds and can hold 9999-12-31");

/// The first match is used.
const KNOWN: &[Known] = &[
    query(
        "42883",
        "Invalid function '{}'.\nDid you mean '{}'?",
        "there is no function `{0}`; did you mean `{1}`?",
        &[],
    ),
    query(
        "42P01",
        "table '{}' not found",
        "there is no table `{0}`",
        &[(HINT, "a table of the catalog is named with its database, as in `lake.books`; `show tables` lists them")],
    ),
    query(
        "42883",
        "Internal error: Function '{}' failed to match any signature{}argument types '{}'. You might{}",
        "`{0}` does not accept these arguments",
        &[("call", "{2}"), (HINT, "`cast(x as type)` converts to the type that the function accepts")],
    ),
    query(
        "42883",
        "Function '{}' expects {} arguments but received {} No function matches{}",
        "`{0}` has a different number of arguments",
        &[("taken", "{1}"), ("given", "{2}")],
    ),
    query(
        "42883",
        "Function '{}' expects {} but received {} No function matches the given name and argument types '{}'. You might{}",
        "`{0}` does not accept these arguments",
        &[("call", "{3}"), (HINT, "`cast(x as type)` converts to the type that the function accepts")],
    ),
    query(
        "42883",
        "{} No function matches the given name and argument types '{}'. You might{}",
        "{0}",
        &[("call", "{1}"), (HINT, "`cast(x as type)` converts to the type that the function accepts")],
    ),
    query(
        "42804",
        "Cannot coerce arithmetic expression {} to valid types",
        "this operation is not defined for these types",
        &[("types", "{0}"), (HINT, "cast one side to the type of the other")],
    ),
    query(
        "42804",
        "Cannot infer common argument type for {} operation {}",
        "{0} needs compatible types",
        &[("types", "{1}"), (HINT, "cast one side to the type of the other")],
    ),
    query(
        "42804",
        "Cannot create filter with non-boolean predicate '{}' returning {}",
        "`{0}` is not a condition: it is neither true nor false",
        &[("type", "{1}")],
    ),
    query(
        "42804",
        "There isn't a common type to coerce {} and {} in {} expression",
        "{2} needs compatible types",
        &[("types", "{0}, {1}"), (HINT, "cast one side to the type of the other")],
    ),
    query(
        "42803",
        "Column in {} must be in GROUP BY or an aggregate function: While expanding wildcard, column \"{}\" must{}",
        "`{1}` is neither grouped by nor aggregated",
        &[(HINT, "add it to `group by`, or aggregate it, as in `min({1})`")],
    ),
    query(
        "42803",
        "HAVING clause references: {} must appear in the GROUP BY clause or be used in an aggregate function",
        "`having` applies to groups, and `{0}` is neither grouped by nor aggregated",
        &[],
    ),
    query(
        "42803",
        "Aggregate functions are not allowed in the WHERE clause. Consider using HAVING instead",
        "`where` is evaluated before grouping; put conditions on aggregates into `having`",
        &[],
    ),
    query(
        "42601",
        "UNION queries have different number of columns",
        "the queries of a `union` have different numbers of columns",
        &[],
    ),
    query(
        "42701",
        "Projections require unique expression names but the expression \"{}\" at position {} and \"{}\" at position {}",
        "two columns have the same name",
        &[("columns", "{0}, {2}"), (HINT, "give one of them another name with `as`")],
    ),
    query(
        "42601",
        "Too many columns! The subquery should only return one column: {}",
        "a scalar subquery must have one column",
        &[("columns", "{0}")],
    ),
    query(
        "42804",
        "Cannot access field at argument {}: type {} is not Struct, Map, or Null",
        "a field is accessed in a value that is not a struct",
        &[("type", "{1}")],
    ),
    query("42703", "Field {} not found in struct", "the struct has no field `{0}`", &[]),
    query("42704", "Unsupported SQL type {}", "there is no type `{0}` in SQL", &[]),
    query(
        "42P10",
        "Order by column out of bounds, specified: {}, max: {}",
        "there is no column {0} to order by; there are {1}",
        &[],
    ),
    query(
        "22023",
        "Date part '{}' not supported",
        "there is no date part `{0}`",
        &[(
            "known",
            "year, quarter, month, week, day, doy, dow, isodow, hour, minute, second, millisecond, microsecond, epoch",
        )],
    ),
    query(
        "22007",
        "Invalid input syntax for type interval: \"{}\"",
        "`{0}` is not an interval",
        &[(HINT, "a number and a unit, as in `interval '1 day'`")],
    ),
    query(
        "22023",
        "could not find config namespace for key \"{}\"",
        "there is no setting `{0}`",
        &[(HINT, "`show all` lists them")],
    ),
    data(
        "22P02",
        "Cannot cast string '{}' to value of {} type",
        "a text cannot be cast to the type",
        &[("value", "{0}"), ("type", "{1}"), TRY_CAST],
    ),
    data(
        "22003",
        "Can't cast value {} to type {}",
        "a value cannot be cast to the type",
        &[("value", "{0}"), ("type", "{1}"), TRY_CAST],
    ),
    data(
        "22003",
        "{} is too large to store in a {} of precision {}. Max is {}",
        "a number has too many digits for its type",
        &[("value", "{0}"), ("greatest", "{3}"), TRY_CAST],
    ),
    data(
        "22003",
        "{} is too small to store in a {} of precision {}. Min is {}",
        "a number has too many digits for its type",
        &[("value", "{0}"), ("least", "{3}"), TRY_CAST],
    ),
    data(
        "22007",
        "Error parsing timestamp from '{}' using format '{}': {}",
        "a text does not match the pattern",
        &[("value", "{0}"), ("pattern", "{1}")],
    ),
    data(
        "22007",
        "Error parsing timestamp from '{}': {}",
        "a text is not a date or timestamp",
        &[
            ("value", "{0}"),
            (
                HINT,
                "give its pattern, as in `to_timestamp(x, 'dd/MM/yyyy')`; `try_cast` returns null if it does not parse",
            ),
        ],
    ),
    data(
        "22007",
        "Unable to cast to Date32 for converting from i64 to i32 failed",
        "a text is not a date",
        &[(HINT, "give its pattern, as in `to_date(x, 'dd/MM/yyyy')`; `try_cast` returns null if it does not parse")],
    ),
    data(
        "22008",
        "Overflow converting {} to Nanosecond. The dates that can be represented as nanoseconds{}",
        "a timestamp is out of the range of nanoseconds, 1677 to 2262",
        &[("value", "{0}"), MICROSECONDS],
    ),
    data(
        "22008",
        "The dates that can be represented as nanoseconds have to be between {} and {}",
        "a timestamp is out of the range of nanoseconds, 1677 to 2262",
        &[MICROSECONDS],
    ),
    data(
        "22008",
        "Cannot cast Date32 value {} to Timestamp({}): converted value exceeds the representable i64 range",
        "a date is out of the range of nanoseconds, 1677 to 2262",
        &[("days since 1970", "{0}"), MICROSECONDS],
    ),
    data("22008", "Timestamp out of range", "the result is out of the range of timestamps", &[]),
    data(
        "22003",
        "Overflow happened on: {}",
        "the result is too large for its type",
        &[
            ("computed", "{0}"),
            (
                HINT,
                "cast to a wider type first, as in `cast(x as decimal(38, 0))`; keep timestamps in microseconds, with `cast(x as timestamp)`, or with `arrow_cast(x, 'Timestamp(Microsecond, Some(\"UTC\"))')` instead of `at time zone`",
            ),
        ],
    ),
    Known {
        text: "The used disk space during the spilling process has exceeded the allowable limit of {}. Try increasing {}",
        fault: Fault::SpillDisk,
        sqlstate: "53100",
        says: SPILL_FULL,
        with: &[("limit", "{0}"), (HINT, "`set datafusion.runtime.max_temp_directory_size = '500G'`")],
    },
];

fn of_text(text: &str, in_query: bool) -> Option<Error> {
    // DataFusion puts the name of the variant in front of some causes.
    let text = text.strip_prefix("Execution error: ").unwrap_or(text);
    KNOWN.iter().find_map(|known| known.translate(text, in_query))
}

impl Known {
    fn translate(&self, text: &str, in_query: bool) -> Option<Error> {
        let holes = holes(self.text, text)?;
        let kind = match self.fault {
            Fault::Query => ErrorKind::Usage,
            Fault::Data if in_query => ErrorKind::Usage,
            Fault::Data => ErrorKind::Refused,
            Fault::SpillDisk => ErrorKind::Unexpected,
        };
        let told = Error::new(kind, fill(self.says, &holes)).sqlstate(self.sqlstate);
        let told = if self.fault == Fault::SpillDisk { told.with_detail(SpillFull) } else { told };
        let value = |name: &str, value| match name {
            "type" | "types" | "call" => in_words(&fill(value, &holes)),
            _ => fill(value, &holes),
        };
        Some(self.with.iter().fold(told, |told, (name, text)| match *name {
            HINT => told.hint(value(name, text)),
            name => told.with(name, value(name, text)),
        }))
    }
}

/// The contents of a template's holes, if the text matches.
fn holes<'a>(template: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut parts = template.split("{}");
    let mut rest = text.strip_prefix(parts.next()?)?;
    let (mut holes, mut open) = (Vec::new(), false);
    for part in parts {
        open = true;
        if part.is_empty() {
            continue;
        }
        let at = rest.find(part)?;
        holes.push(&rest[..at]);
        rest = &rest[at + part.len()..];
        open = false;
    }
    if open {
        holes.push(rest);
        rest = "";
    }
    rest.is_empty().then_some(holes)
}

fn fill(says: &str, holes: &[&str]) -> String {
    let clean = |hole: &str| {
        sentence(hole.strip_prefix("datafusion.public.").or(hole.strip_prefix("datafusion.")).unwrap_or(hole))
    };
    holes.iter().enumerate().fold(says.to_owned(), |text, (i, hole)| text.replace(&format!("{{{i}}}"), &clean(hole)))
}

/// Replaces Arrow's types in a text by SQL's.
fn in_words(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        out.push_str(match word {
            "Int8" => "tinyint",
            "Int16" => "smallint",
            "Int32" => "int",
            "Int64" => "bigint",
            "Float32" => "float",
            "Float64" => "double",
            "Date32" => "date",
            "Boolean" => "boolean",
            "Decimal128" => "decimal",
            "Utf8" | "Utf8View" | "LargeUtf8" => "string",
            other => other,
        });
        let sign = after.chars().next().map_or(0, char::len_utf8);
        out.push_str(&after[..sign]);
        rest = &after[sign..];
    }
    let out = out.replace("Interval(MonthDayNano)", "interval");
    out.replace("Timestamp(\u{b5}s)", "timestamp").replace("Timestamp(\u{3bc}s)", "timestamp")
}

#[cfg(test)]
mod tests;
