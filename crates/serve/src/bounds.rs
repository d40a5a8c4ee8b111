//! Functions whose result may be larger than their arguments reserve memory before they run.
//!
//! A query's memory pool counts what operators hold. Nothing counts the result of a function, and `repeat('x',
//! 2000000000)` is two gigabytes before any operator sees it, possibly already during planning. So an upper bound of
//! the result is computed from the arguments, which is cheap, and reserved in the pool while the function runs. If it
//! does not fit, the query fails as for any other memory.
//!
//! Every function is in one of the tables below; a test compares them with the registered functions.

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampSecondType,
};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ExprSchema};
use datafusion::error::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::context::SessionState;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool};
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature,
};

/// Smaller results are not reserved. (In tests all are, to be checked.)
const SMALL: u64 = if cfg!(test) { 0 } else { 1 << 20 };

/// Functions whose results have a small fixed size, or are uncopied parts of an argument.
#[cfg_attr(not(test), expect(dead_code, reason = "only a test checks that the tables are complete"))]
const FIXED: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "array_dims",
    "array_distance",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_length",
    "array_ndims",
    "array_position",
    "arrow_metadata",
    "arrow_typeof",
    "ascii",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bit_length",
    "cardinality",
    "cbrt",
    "ceil",
    "character_length",
    "chr",
    "contains",
    "cos",
    "cosh",
    "cot",
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "degrees",
    "digest",
    "empty",
    "ends_with",
    "exp",
    "factorial",
    "find_in_set",
    "floor",
    "from_unixtime",
    "gcd",
    "get_field",
    "isnan",
    "iszero",
    "lcm",
    "levenshtein",
    "ln",
    "log",
    "log10",
    "log2",
    "make_date",
    "make_time",
    "md5",
    "nanvl",
    "now",
    "octet_length",
    "pi",
    "power",
    "radians",
    "random",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "round",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "starts_with",
    "strpos",
    "tan",
    "tanh",
    "to_date",
    "to_hex",
    "to_local_time",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "trunc",
    "union_extract",
    "union_tag",
    "uuid",
    "version",
    // Functions of PostgreSQL's catalog, which is small here.
    "_pg_expandarray",
    "col_description",
    "current_catalog",
    "current_database",
    "current_schema",
    "current_schemas",
    "format_type",
    "has_any_column_privilege",
    "has_database_privilege",
    "has_schema_privilege",
    "has_table_privilege",
    "obj_description",
    "pg_backend_pid",
    "pg_encoding_to_char",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_indexdef",
    "pg_get_partkeydef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_userbyid",
    "pg_partition_ancestors",
    "pg_relation_is_publishable",
    "pg_relation_size",
    "pg_stat_get_numscans",
    "pg_table_is_visible",
    "pg_total_relation_size",
    "session_user",
    "shobj_description",
];

/// Functions whose results are at most this many times as large as their arguments. A constant argument counts for each
/// row: from one large text and a column of numbers, `left` makes many large texts.
const IN_PROPORTION: &[(&str, u64)] = &[
    ("array_any_value", 1),
    ("array_append", 2),
    ("array_concat", 2),
    ("array_distinct", 2),
    ("array_element", 1),
    ("array_except", 2),
    ("array_intersect", 2),
    ("array_max", 1),
    ("array_min", 1),
    ("array_pop_back", 1),
    ("array_pop_front", 1),
    ("array_prepend", 2),
    ("array_remove", 2),
    ("array_remove_all", 2),
    ("array_remove_n", 2),
    ("array_reverse", 2),
    ("array_slice", 2),
    ("array_sort", 2),
    ("array_union", 2),
    ("arrays_zip", 2),
    ("arrow_cast", 8),
    ("btrim", 1),
    ("coalesce", 1),
    ("concat", 1),
    ("decode", 1),
    ("encode", 2),
    ("flatten", 1),
    ("greatest", 1),
    ("initcap", 3),
    ("least", 1),
    ("left", 1),
    ("lower", 3),
    ("ltrim", 1),
    ("make_array", 2),
    ("map", 2),
    ("map_entries", 1),
    ("map_extract", 2),
    ("map_keys", 1),
    ("map_values", 1),
    ("named_struct", 1),
    ("nullif", 1),
    ("nvl", 1),
    ("nvl2", 1),
    ("overlay", 1),
    ("parse_ident", 6),
    ("quote_ident", 3),
    ("reverse", 1),
    ("right", 1),
    ("rtrim", 1),
    ("split_part", 1),
    ("string_to_array", 6),
    ("struct", 1),
    ("substr", 1),
    ("substr_index", 1),
    ("translate", 4),
    ("upper", 3),
];

/// An upper bound of the bytes of a result.
type Bound = fn(&Arguments) -> u64;

/// Functions whose results may have any size.
const GROWING: &[(&str, Bound)] = &[
    ("array_positions", |a| a.sum(|row| row.elements(0) * 8)),
    ("array_repeat", |a| a.sum(|row| row.bytes(0).saturating_add(AROUND).saturating_mul(row.number(1)))),
    ("array_replace", replaced_elements),
    ("array_replace_all", replaced_elements),
    ("array_replace_n", replaced_elements),
    ("array_resize", |a| {
        a.sum(|row| row.bytes(0).saturating_add(row.number(1).saturating_mul(row.bytes(2).saturating_add(AROUND))))
    }),
    ("array_to_string", |a| {
        a.sum(|row| {
            let each = row.bytes(1).saturating_add(row.bytes(2)).saturating_add(row.digits(0));
            row.bytes(0).saturating_add(row.elements(0).saturating_mul(each))
        })
    }),
    ("concat_ws", |a| {
        a.sum(|row| {
            (0..a.count()).fold(row.bytes(0).saturating_mul(a.count() as u64), |n, i| n.saturating_add(row.bytes(i)))
        })
    }),
    ("generate_series", |a| a.sum(|row| row.steps().saturating_mul(8))),
    ("lpad", padded),
    ("range", |a| a.sum(|row| row.steps().saturating_mul(8))),
    // Each group may be the whole text.
    ("regexp_match", |a| a.sum(|row| row.bytes(0).saturating_add(AROUND).saturating_mul(1 + row.occurrences(1, b"(")))),
    // There may be a match before each byte and one at the end. Each group of a match occurs in its replacement as
    // often as the replacement refers to it; all matches together are at most the whole text.
    ("regexp_replace", |a| {
        a.sum(|row| {
            let text = row.bytes(0);
            let matches = if row.occurrences(3, b"g") > 0 { text.saturating_add(1) } else { 1 };
            let groups = text.saturating_mul(row.occurrences(2, b"\\$"));
            text.saturating_add(matches.saturating_mul(row.bytes(2))).saturating_add(groups)
        })
    }),
    ("repeat", |a| a.sum(|row| row.bytes(0).saturating_mul(row.number(1)))),
    // An empty text is found before each character and at the end.
    ("replace", |a| {
        a.sum(|row| {
            let found = row.bytes(0) / row.bytes(1).max(1) + 1;
            row.bytes(0).saturating_add(found.saturating_mul(row.bytes(2)))
        })
    }),
    ("rpad", padded),
    // The longest expansion of two characters of a format is a timestamp.
    ("to_char", |a| a.sum(|row| row.bytes(1).saturating_mul(20))),
];

/// Characters have at most four bytes.
fn padded(arguments: &Arguments) -> u64 {
    arguments.sum(|row| row.number(1).saturating_mul(4))
}

fn replaced_elements(arguments: &Arguments) -> u64 {
    arguments
        .sum(|row| row.bytes(0).saturating_add(row.elements(0).saturating_mul(row.bytes(2).saturating_add(AROUND))))
}

/// The arguments of one call.
struct Arguments {
    columns: Vec<Column>,
    rows: usize,
}

/// An argument.
struct Column {
    /// A single value, if it is constant.
    values: ArrayRef,
    is_same: bool,
    /// The values as numbers, if they are numeric.
    numbers: Option<ArrayRef>,
}

/// The arguments of one row.
#[derive(Clone, Copy)]
struct Row<'a> {
    columns: &'a [Column],
    row: usize,
}

impl Arguments {
    fn of(call: &ScalarFunctionArgs) -> Result<Self> {
        let column = |argument: &ColumnarValue| {
            let (values, is_same) = match argument {
                ColumnarValue::Array(array) => (Arc::clone(array), false),
                ColumnarValue::Scalar(value) => (value.to_array()?, true),
            };
            let numbers = match values.data_type().is_integer() {
                true => Some(cast(&values, &DataType::Int64)?),
                false => None,
            };
            Ok(Column { values, is_same, numbers })
        };
        let columns = call.args.iter().map(column).collect::<Result<Vec<_>>>()?;
        // If all arguments are constant, there is one result.
        let rows = if columns.iter().all(|column| column.is_same) { 1 } else { call.number_rows };
        Ok(Self { columns, rows })
    }

    fn count(&self) -> usize {
        self.columns.len()
    }

    fn sum(&self, of: impl Fn(Row<'_>) -> u64) -> u64 {
        let rows = (0..self.rows).map(|row| Row { columns: &self.columns, row });
        rows.map(of).fold(0, u64::saturating_add)
    }

    /// The bytes of all arguments, over all rows.
    fn bytes(&self) -> u64 {
        let each = self.columns.iter().map(|column| {
            let (bytes, rows) = (size(&column.values, 0, column.values.len()), self.rows as u64);
            if column.is_same { bytes.saturating_mul(rows) } else { bytes }
        });
        each.fold(0, u64::saturating_add)
    }
}

impl<'a> Row<'a> {
    /// The argument at this position and its row, if there is a non-null value.
    fn at(self, i: usize) -> Option<(&'a Column, usize)> {
        let column = self.columns.get(i)?;
        let row = if column.is_same { 0 } else { self.row };
        column.values.is_valid(row).then_some((column, row))
    }

    fn bytes(self, i: usize) -> u64 {
        self.at(i).map_or(0, |(column, row)| size(&column.values, row, 1))
    }

    /// The number of values in lists, including nested ones.
    fn elements(self, i: usize) -> u64 {
        self.at(i).map_or(0, |(column, row)| leaves(&column.values, row, 1))
    }

    /// The maximum length of a list's value as text, if it is not a text: decimals and floats are written with all
    /// their zeros.
    fn digits(self, i: usize) -> u64 {
        self.at(i).map_or(0, |(column, _)| match leaf(column.values.data_type()) {
            DataType::Float16 | DataType::Float32 => 60,
            DataType::Float64 => 350,
            _ => 80,
        })
    }

    /// A number of things; a negative one counts as zero.
    fn number(self, i: usize) -> u64 {
        self.integer(i).map_or(0, |number| number.max(0) as u64)
    }

    fn integer(self, i: usize) -> Option<i64> {
        let (column, row) = self.at(i)?;
        Some(column.numbers.as_ref()?.as_primitive::<Int64Type>().value(row))
    }

    /// How often any of these bytes occurs in a text.
    fn occurrences(self, i: usize, of: &[u8]) -> u64 {
        let count = |text: &str| text.bytes().filter(|byte| of.contains(byte)).count() as u64;
        self.at(i).map_or(0, |(column, row)| match column.values.data_type() {
            DataType::Utf8 => count(column.values.as_string::<i32>().value(row)),
            DataType::LargeUtf8 => count(column.values.as_string::<i64>().value(row)),
            DataType::Utf8View => count(column.values.as_string_view().value(row)),
            _ => size(&column.values, row, 1),
        })
    }

    /// The number of values from the first argument to the second, in steps of the third.
    fn steps(self) -> u64 {
        let (start, stop) =
            if self.columns.len() == 1 { (Some(0), self.moment(0)) } else { (self.moment(0), self.moment(1)) };
        let step = if self.columns.len() < 3 { Some(1) } else { self.step() };
        let (Some(start), Some(stop), Some(step)) = (start, stop, step) else { return 0 };
        let span = stop - start;
        // A step in the other direction gives no values.
        if span.signum() * step.signum() < 0 {
            return 1;
        }
        u64::try_from(span.unsigned_abs() / step.unsigned_abs().max(1))
            .map_or(u64::MAX, |steps| steps.saturating_add(1))
    }

    /// A number, or a timestamp in nanoseconds.
    fn moment(self, i: usize) -> Option<i128> {
        if let Some(number) = self.integer(i) {
            return Some(number.into());
        }
        let (column, row) = self.at(i)?;
        let units = match column.values.data_type() {
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) => {
                cast(&column.values.slice(row, 1), &DataType::Timestamp(TimeUnit::Second, None)).ok()?
            }
            _ => return None,
        };
        Some(i128::from(units.as_primitive::<TimestampSecondType>().value(0)) * SECOND)
    }

    /// The smallest possible step.
    fn step(self) -> Option<i128> {
        if let Some(number) = self.integer(2) {
            return Some(number.into());
        }
        let (column, row) = self.at(2)?;
        let of = DataType::Interval(IntervalUnit::MonthDayNano);
        let steps = cast(&column.values.slice(row, 1), &of).ok()?;
        let step = steps.as_primitive::<IntervalMonthDayNanoType>().value(0);
        let days = i128::from(step.months) * 28 + i128::from(step.days);
        Some(days * 86_400 * SECOND + i128::from(step.nanoseconds))
    }
}

const SECOND: i128 = 1_000_000_000;

/// The overhead of each text in a list.
const AROUND: u64 = 16;

/// The bytes of some rows: of texts their content, of lists their values.
fn size(array: &dyn Array, from: usize, rows: usize) -> u64 {
    let nested = |values: &ArrayRef, from: usize, rows: usize| {
        let around = if values.data_type().primitive_width().is_some() { 0 } else { AROUND };
        size(values, from, rows).saturating_add(around * rows as u64)
    };
    let ends = |from: i64, to: i64| (from as usize, (to - from) as usize);
    let end = from + rows;
    match array.data_type() {
        DataType::Utf8 => {
            let offsets = array.as_string::<i32>().value_offsets();
            (offsets[end] - offsets[from]) as u64
        }
        DataType::LargeUtf8 => {
            let offsets = array.as_string::<i64>().value_offsets();
            (offsets[end] - offsets[from]) as u64
        }
        DataType::Binary => {
            let offsets = array.as_binary::<i32>().value_offsets();
            (offsets[end] - offsets[from]) as u64
        }
        DataType::LargeBinary => {
            let offsets = array.as_binary::<i64>().value_offsets();
            (offsets[end] - offsets[from]) as u64
        }
        // A view begins with the length.
        DataType::Utf8View => {
            array.as_string_view().views()[from..end].iter().map(|view| u64::from(*view as u32)).sum()
        }
        DataType::BinaryView => {
            array.as_binary_view().views()[from..end].iter().map(|view| u64::from(*view as u32)).sum()
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, rows) = ends(list.value_offsets()[from].into(), list.value_offsets()[end].into());
            nested(list.values(), from, rows)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (from, rows) = ends(list.value_offsets()[from], list.value_offsets()[end]);
            nested(list.values(), from, rows)
        }
        DataType::FixedSizeList(..) => {
            let list = array.as_fixed_size_list();
            let length = list.value_length() as usize;
            nested(list.values(), from * length, rows * length)
        }
        DataType::Map(..) => {
            let map = array.as_map();
            let (from, rows) = ends(map.value_offsets()[from].into(), map.value_offsets()[end].into());
            map.entries().columns().iter().map(|column| nested(column, from, rows)).sum()
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| nested(column, from, rows)).sum(),
        DataType::FixedSizeBinary(width) => *width as u64 * rows as u64,
        of => match of.primitive_width() {
            Some(width) => width as u64 * rows as u64,
            None => (array.get_array_memory_size() as u64).saturating_mul(rows as u64) / array.len().max(1) as u64 + 1,
        },
    }
}

/// The innermost type of nested lists.
fn leaf(of: &DataType) -> &DataType {
    match of {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            leaf(field.data_type())
        }
        other => other,
    }
}

/// The number of values in the lists of some rows.
fn leaves(array: &dyn Array, from: usize, rows: usize) -> u64 {
    let end = from + rows;
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (from, end) = (list.value_offsets()[from] as usize, list.value_offsets()[end] as usize);
            leaves(list.values(), from, end - from)
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (from, end) = (list.value_offsets()[from] as usize, list.value_offsets()[end] as usize);
            leaves(list.values(), from, end - from)
        }
        DataType::FixedSizeList(..) => {
            let list = array.as_fixed_size_list();
            let length = list.value_length() as usize;
            leaves(list.values(), from * length, rows * length)
        }
        _ => rows as u64,
    }
}

/// The limit of a function's result.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Proportion(u64),
    Bound(Bound),
}

impl Limit {
    /// The limit of the function with this name, if it needs one.
    fn of(function: &str) -> Option<Self> {
        let bound = GROWING.iter().find(|(name, _)| *name == function).map(|(_, bound)| Self::Bound(*bound));
        bound.or_else(|| {
            let found = IN_PROPORTION.iter().find(|(name, _)| *name == function);
            found.map(|(_, times)| Self::Proportion(*times))
        })
    }

    fn bytes(self, arguments: &Arguments) -> u64 {
        let values = match self {
            Self::Proportion(times) => arguments.bytes().saturating_mul(times),
            Self::Bound(bound) => bound(arguments),
        };
        values.saturating_add(AROUND * arguments.rows as u64)
    }
}

/// A function that reserves the memory of its result.
#[derive(Debug)]
struct Bounded {
    function: Arc<ScalarUDF>,
    limit: Limit,
    pool: Arc<dyn MemoryPool>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

/// Wraps a function, if it needs a limit and has none yet.
fn bounded(function: &Arc<ScalarUDF>, pool: &Arc<dyn MemoryPool>) -> Option<ScalarUDF> {
    if function.inner().as_any().is::<Bounded>() {
        return None;
    }
    let limit = Limit::of(function.name())?;
    Some(ScalarUDF::new_from_impl(Bounded { function: Arc::clone(function), limit, pool: Arc::clone(pool) }))
}

/// Wraps the function of an expression, if it is a call.
fn call_bounded(expr: Expr, pool: &Arc<dyn MemoryPool>) -> Transformed<Expr> {
    match expr {
        Expr::ScalarFunction(mut call) => match bounded(&call.func, pool) {
            Some(function) => {
                call.func = Arc::new(function);
                Transformed::yes(Expr::ScalarFunction(call))
            }
            None => Transformed::no(Expr::ScalarFunction(call)),
        },
        other => Transformed::no(other),
    }
}

/// Wraps the functions of a session, whether they are called by name or created from operators.
pub(crate) fn apply(state: &mut SessionState) -> Result<()> {
    let pool = Arc::clone(&state.runtime_env().memory_pool);
    let functions: Vec<Arc<ScalarUDF>> = state.scalar_functions().values().cloned().collect();
    for function in functions {
        if let Some(function) = bounded(&function, &pool) {
            state.register_udf(Arc::new(function))?;
        }
    }
    state.register_function_rewrite(Arc::new(Calls(pool)))
}

/// Calls that the planner does not create by name: `a || b` of lists, `[a, b]`, `x[1:2]`.
#[derive(Debug)]
struct Calls(Arc<dyn MemoryPool>);

impl FunctionRewrite for Calls {
    fn name(&self) -> &'static str {
        "hardtack_bounds"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(call_bounded(expr, &self.0))
    }
}

// Everything except the evaluation is delegated.
#[warn(clippy::missing_trait_methods)]
impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let bytes = self.limit.bytes(&Arguments::of(&args)?);
        let reserved = MemoryConsumer::new(self.name()).register(&self.pool);
        if bytes > SMALL {
            reserved.try_grow(usize::try_from(bytes).unwrap_or(usize::MAX))?;
        }
        self.function.inner().invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        Ok(match self.function.inner().simplify(args, info)? {
            // It may have become another call of the same function, as with `concat`.
            ExprSimplifyResult::Simplified(expr) => {
                let expr = expr.transform_up(|expr| Ok(call_bounded(expr, &self.pool)))?;
                ExprSimplifyResult::Simplified(expr.data)
            }
            original @ ExprSimplifyResult::Original(_) => original,
        })
    }

    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        let function = Arc::new(self.function.inner().with_updated_config(config)?);
        Some(bounded(&function, &self.pool).unwrap_or_else(|| function.as_ref().clone()))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        #[expect(deprecated, reason = "a deprecated method is delegated as well")]
        self.function.inner().display_name(args)
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.function.inner().schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.function.inner().return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.function.inner().return_field_from_args(args)
    }

    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        #[expect(deprecated, reason = "a deprecated method is delegated as well")]
        self.function.inner().is_nullable(args, schema)
    }

    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.function.inner().preimage(args, literal, info)
    }

    fn short_circuits(&self) -> bool {
        self.function.inner().short_circuits()
    }

    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.function.inner().conditional_arguments(args)
    }

    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.function.inner().evaluate_bounds(input)
    }

    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.function.inner().propagate_constraints(interval, inputs)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.function.inner().output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.function.inner().preserves_lex_ordering(inputs)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.inner().coerce_types(types)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.function.inner().placement(args)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Mutex;

    use datafusion::common::ScalarValue;
    use datafusion::execution::SessionStateBuilder;
    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryReservation};
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;
    use datafusion::prelude::SessionContext;
    use hardtack_catalog::{CatalogHandle, EmbeddedCatalog};
    use hardtack_core::JobContext;
    use rstest::rstest;

    use super::*;

    fn session(limit: usize) -> SessionContext {
        session_with(Arc::new(GreedyMemoryPool::new(limit)))
    }

    /// A client's session with a different memory pool.
    fn session_with(pool: Arc<dyn MemoryPool>) -> SessionContext {
        let catalog = CatalogHandle::new(Arc::new(EmbeddedCatalog::in_memory()));
        let ctx = JobContext::builder("serve").extension(Arc::new(catalog)).build().unwrap();
        crate::names::register(&ctx).unwrap();
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
        let builder = SessionStateBuilder::new_from_existing(ctx.session().state()).with_runtime_env(runtime);
        let mut state = builder.build();
        apply(&mut state).unwrap();
        let session = SessionContext::new_with_state(state);
        crate::names::enter(&session, "public");
        session
    }

    /// A new function has to be classified before it is served: can its result be much larger than its arguments?
    #[test]
    fn every_function_is_in_one_of_the_tables() {
        let session = session(1 << 30);
        let state = session.state();
        let registered: BTreeSet<&str> = state.scalar_functions().values().map(|function| function.name()).collect();
        let names =
            FIXED.iter().chain(IN_PROPORTION.iter().map(|(name, _)| name)).chain(GROWING.iter().map(|(name, _)| name));
        let mut tables = BTreeSet::new();
        for name in names.copied() {
            assert!(tables.insert(name), "{name} is there twice");
        }
        let (missing, unknown): (Vec<_>, Vec<_>) =
            (registered.difference(&tables).collect(), tables.difference(&registered).collect());
        assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}, unknown: {unknown:?}");
        for (alias, function) in state.scalar_functions() {
            let is_known = function.name() == alias || function.aliases().contains(alias);
            assert!(is_known, "`{alias}` is `{}`", function.name());
            let is_fixed = FIXED.contains(&function.name());
            assert_eq!(function.inner().as_any().is::<Bounded>(), !is_fixed, "{alias}");
        }
    }

    /// An unlimited pool that records the reservations.
    #[derive(Debug, Default)]
    struct Ledger(Mutex<BTreeMap<String, u64>>);

    impl MemoryPool for Ledger {
        fn grow(&self, _: &MemoryReservation, _: usize) {}

        fn shrink(&self, _: &MemoryReservation, _: usize) {}

        fn try_grow(&self, reservation: &MemoryReservation, bytes: usize) -> Result<()> {
            *self.0.lock().unwrap().entry(reservation.consumer().name().to_owned()).or_default() += bytes as u64;
            Ok(())
        }

        fn reserved(&self) -> usize {
            0
        }
    }

    async fn value(session: &SessionContext, sql: &str) -> Result<String> {
        let batches = session.sql(sql).await?.collect().await?;
        let column = batches[0].column(0);
        Ok(ScalarValue::try_from_array(column, 0)?.to_string())
    }

    /// All of these would need gigabytes.
    #[rstest]
    #[case("select length(repeat('x', 2000000000))")]
    #[case("select sum(length(repeat('x', 100000000 + value))) from generate_series(1, 100)")]
    #[case("select length(lpad('x', 2000000000, 'y'))")]
    #[case("select length(rpad('x', 2000000000))")]
    #[case("select max(length(rpad('x', 2000000000 - value))) from generate_series(1, 2)")]
    #[case("select cardinality(range(1, 1000000000))")]
    #[case("select cardinality(generate_series(1, 1000000000 + value)) from generate_series(1, 2)")]
    #[case(
        "select cardinality(generate_series(timestamp '2000-01-01', timestamp '2020-01-01', interval '1 millisecond'))"
    )]
    #[case("select cardinality(range(date '0001-01-01', date '9999-01-01', interval '1 second'))")]
    #[case("select cardinality(array_repeat('x', 1000000000))")]
    #[case("select cardinality(array_repeat([1, 2, 3], 1000000000))")]
    #[case("select cardinality(array_resize([1], 1000000000, 2))")]
    #[case("select length(replace(repeat('x', 100000), 'x', repeat('y', 100000)))")]
    #[case("select length(regexp_replace(repeat('x', 100000), 'x', repeat('y', 100000), 'g'))")]
    #[case("select length(regexp_replace(repeat('x', 100000), '.*', repeat('\\0', 50000)))")]
    #[case("select cardinality(regexp_match(repeat('x', 1000000), repeat('(', 5000) || '.*' || repeat(')', 5000)))")]
    #[case("select length(array_to_string(range(1, 1000000), repeat('x', 10000)))")]
    #[case("select length(concat_ws(repeat('x', 10000000), 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12))")]
    #[case("select sum(length(concat(repeat('x', 10000000), value))) from generate_series(1, 100)")]
    #[case("select sum(length(left(repeat('x', 10000000), value::int))) from generate_series(9000000, 9000100)")]
    #[case("select max(cardinality([repeat('x', 10000000), value::text])) from generate_series(1, 100)")]
    #[case("select max(cardinality([value::text] || [repeat('x', 10000000)])) from generate_series(1, 100)")]
    #[case(
        "select max(length(to_char(date '2000-01-01' + value::int, repeat('%c', 1000000)))) from generate_series(1, 100)"
    )]
    #[case("select length(array_to_string(array_replace_all(array_repeat(5, 1000000), 5, 6), repeat('x', 10000)))")]
    #[tokio::test]
    async fn what_does_not_fit_is_refused_before_it_is_made(#[case] sql: &str) {
        let refused = value(&session(100 << 20), sql).await.unwrap_err();
        let code = hardtack_core::Error::from(refused);
        assert_eq!(code.get_sqlstate(), Some("53200"), "{sql}: {}", code.chain());
    }

    #[rstest]
    #[case("select length(repeat('x', 90000000))", "90000000")]
    #[case("select repeat('ab', 3) || lpad('x', 3, 'yz') || rpad('x', 3)", "abababyzxx  ")]
    #[case("select range(1, 10, 3)::text", "[1, 4, 7]")]
    #[case("select cardinality(generate_series(10, 1, -1))", "10")]
    #[case("select cardinality(range(10, 1))", "0")]
    #[case("select cardinality(generate_series(date '2024-01-01', date '2024-12-31', interval '1 month'))", "12")]
    #[case("select replace('a-b-c', '-', '--')", "a--b--c")]
    #[case("select regexp_replace('a1b22', '([0-9]+)', '<\\1>', 'g')", "a<1>b<22>")]
    #[case("select concat(concat('a', 'b'), 'c', value::text) from generate_series(1, 1)", "abc1")]
    #[case("select coalesce(null, 'x')", "x")]
    #[case("select array_to_string([1, null, 3] || [4], ',', '-')", "1,-,3,4")]
    #[case("select (case when true then [1, 2, 3] end)[2]", "2")]
    #[case("select count(*) from generate_series(1, length(repeat('x', 1000))::bigint)", "1000")]
    #[case(
        "select sum(length(upper(value::text) || reverse('ab') || left('abc', 2))) from generate_series(1, 9)",
        "45"
    )]
    #[case("select to_char(date '2024-02-29', '%Y')", "2024")]
    #[tokio::test]
    async fn what_fits_is_what_it_was(#[case] sql: &str, #[case] wanted: &str) {
        let found = value(&session(100 << 20), sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"));
        assert_eq!(found, wanted, "{sql}");
    }

    /// Too low a bound would admit the results that it has to refuse.
    #[rstest]
    #[case("repeat(t, n)")]
    #[case("lpad(t, n * 7, u)")]
    #[case("rpad(t, n * 7, u)")]
    #[case("replace(t, u, 'xyz')")]
    #[case("replace(t, '', u)")]
    #[case("regexp_replace(t, 'a*', '<$0$0>', 'g')")]
    #[case("regexp_replace(t, '(.*)', '<$1$1$1>')")]
    #[case("regexp_match(t, '((.*))')")]
    #[case("concat(t, u, t, n)")]
    #[case("concat_ws(u, t, n, t)")]
    #[case("upper(t)")]
    #[case("lower(t)")]
    #[case("initcap(t)")]
    #[case("translate(t, 'abc', 'äöü')")]
    #[case("encode(t, 'hex')")]
    #[case("string_to_array(t, null)")]
    #[case("range(n)")]
    #[case("range(-n, n, 2)")]
    #[case("generate_series(timestamp '2024-01-01', to_timestamp(1704067200 + n * 3600), interval '7 minutes')")]
    #[case("array_repeat(t, n)")]
    #[case("array_repeat([t, u], n)")]
    #[case("array_resize([t], n, u)")]
    #[case("array_to_string([t, u, null], u, t)")]
    #[case("array_to_string([n / 7.0, -n / 3e100], u)")]
    #[case("array_replace_all([t, u, 'x'], 'x', t)")]
    #[case("array_positions([1, n, 1], 1)")]
    #[case("array_concat([t], [u, t])")]
    #[case("make_array(t, u, t)")]
    #[case("arrays_zip([t, u], [n])")]
    #[case("named_struct('a', t, 'b', u)")]
    #[case("to_char(date '2024-09-29' + n::int, '%A %B %c')")]
    #[case("quote_ident(t)")]
    #[tokio::test]
    async fn bounds_hold(#[case] call: &str) {
        let ledger = Arc::new(Ledger::default());
        let session = session_with(Arc::clone(&ledger) as Arc<dyn MemoryPool>);
        let rows = "select case value % 4 when 0 then '' when 1 then 'aaab' when 2 then 'ßİẞaſ' else 'a\"b.a\"b.a\"b.' end as t,
            case value % 3 when 0 then '' when 1 then '-' else 'äö' end as u, value % 50 as n from generate_series(1, 500)";
        let sql = format!("select {call} as made from ({rows})");
        let made = session.sql(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e}")).collect().await;
        let made = made.unwrap_or_else(|e| panic!("{sql}: {e}"));
        let held = |column: &ArrayRef| match column.data_type() {
            DataType::Utf8View => size(column, 0, column.len()),
            _ => column.to_data().get_slice_memory_size().unwrap() as u64,
        };
        let bytes: u64 = made.iter().map(|batch| held(batch.column(0))).sum();
        let (name, _) = call.split_once('(').unwrap();
        let asked = ledger.0.lock().unwrap();
        let asked = asked.get(name).copied().unwrap_or_else(|| panic!("{name}: {asked:?}"));
        assert!(asked >= bytes, "{call}: {asked} bytes were asked for, and {bytes} were made");
    }
}
