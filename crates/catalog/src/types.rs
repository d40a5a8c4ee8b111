//! One set of rules for types: which type holds the values of two others, and which values of one type are values of
//! another.
//!
//! All code that combines files, tables or rows asks here, under one of the [policies](Policy). Whatever a stricter
//! policy accepts, the laxer ones accept with the same result.

use arrow::compute::can_cast_types;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use hardtack_core::{Error, Location, Result};

use crate::arrow_types::HIVE_TYPE_KEY;
use crate::hive_type::HiveType;

/// The rules under which types are united, read or saved, from the strictest to the laxest.
///
/// | | `Evolve` | `Rewrite` | `Infer` | `Read` | `Coerce` |
/// | --- | --- | --- | --- | --- | --- |
/// | used by | [tables that grow](crate::TableDescription) | compaction | sources without a schema, crawling | sources with a schema, tables | `coerce_to_schema`, sinks with a schema |
/// | must hold for | old files and all engines that read them | readers that have declared the type | all values of all files | the value that is read | the value that is saved |
///
/// The first three [unite](Policy::unite) types before any value is read. The last two have a target type and check
/// every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// A table's column gets a wider type while files stay as they are: only where Athena, Spark and this framework
    /// read older Parquet files in the wider type.
    Evolve,
    /// Files are rewritten with one type of the same kind: an integer stays an integer, a decimal stays a decimal.
    Rewrite,
    /// Files are read together, in the type that holds the values of all.
    Infer,
    /// A stored value is read as a declared type if it is a value of that type.
    Read,
    /// A computed value is saved as a declared type. Floats count as approximations and may be rounded to narrower
    /// ones.
    Coerce,
}

/// When a value of one type is also a value of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Always.
    Always,
    /// If it parses: a text may or may not be a number.
    Readable,
    /// If a cast there and back preserves it.
    RoundTrip,
    /// If it is not too large.
    InRange,
}

impl Policy {
    /// All policies, from the strictest to the laxest.
    pub const ALL: [Self; 5] = [Self::Evolve, Self::Rewrite, Self::Infer, Self::Read, Self::Coerce];

    /// The type that holds the values of both, with the name of the first field. Structs get the fields of both; a
    /// field is nullable if either is.
    ///
    /// ```
    /// use arrow::datatypes::{DataType, Field};
    /// use hardtack_catalog::types::Policy;
    ///
    /// let field = |of| Field::new("n", of, false);
    /// let (price, count) = (field(DataType::Decimal128(5, 2)), field(DataType::Int64));
    /// assert_eq!(Policy::Infer.unite(&price, &count).unwrap(), field(DataType::Decimal128(21, 2)));
    ///
    /// // Readers that have declared a bigint could not read a decimal.
    /// let clash = Policy::Rewrite.unite(&price, &count).unwrap_err();
    /// assert_eq!(clash.path, "n");
    /// ```
    ///
    /// # Errors
    /// The first place, at any depth, where this policy has no such type.
    pub fn unite(self, a: &Field, b: &Field) -> Result<Field, Clash> {
        Ok(unmarked(&unite(self, a, b, a.name())?))
    }

    /// When values of one scalar type are values of another, under this policy. `None` if there is no sensible
    /// conversion, or more than one: a number could be a timestamp in any unit.
    pub fn fit(self, from: &DataType, to: &DataType) -> Option<Fit> {
        match self {
            Self::Coerce => fit(from, to),
            Self::Read => fit(from, to).filter(|_| !loses(plain(from), plain(to))),
            Self::Evolve | Self::Rewrite | Self::Infer => {
                let (from, to) = (Field::new("", from.clone(), true), Field::new("", to.clone(), true));
                let united = self.unite(&from, &to).ok().filter(|united| united.data_type() == to.data_type());
                united.and_then(|_| Self::Read.fit(from.data_type(), to.data_type()))
            }
        }
    }
}

/// Two types without a common one, and where they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clash {
    /// The column, or the path within it: `orders[].price`.
    pub path: String,
    /// The type of the first.
    pub first: DataType,
    /// The type of the other.
    pub other: DataType,
}

// --- the lattice ---------------------------------------------------------------------------------------------------

/// In a field's metadata: the values are integers that a double represents exactly. Used only while types are united.
const EXACT: &str = "hardtack.exact";

/// Marks a field of 64-bit integers whose values all lie between -2^53 and 2^53, so a double holds them. A [`Union`]
/// then unites it with doubles.
#[must_use]
pub fn with_exact_doubles(field: Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(EXACT.to_owned(), String::new());
    field.with_metadata(metadata)
}

fn is_exact(field: &Field) -> bool {
    match plain(field.data_type()) {
        DataType::Int64 => field.metadata().contains_key(EXACT),
        DataType::UInt64 => false,
        // No values, so none that a double does not hold.
        DataType::Null => true,
        other => other.is_integer(),
    }
}

/// Removes the marks of [`with_exact_doubles`] at every depth.
fn unmarked(field: &Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove(EXACT);
    let inner = |field: &FieldRef| FieldRef::new(unmarked(field));
    let data_type = match field.data_type() {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inner).collect()),
        DataType::List(item) => DataType::List(inner(item)),
        DataType::LargeList(item) => DataType::LargeList(inner(item)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(inner(item), *size),
        DataType::ListView(item) => DataType::ListView(inner(item)),
        DataType::LargeListView(item) => DataType::LargeListView(inner(item)),
        DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
        other => other.clone(),
    };
    field.clone().with_data_type(data_type).with_metadata(metadata)
}

fn unite(policy: Policy, a: &Field, b: &Field, path: &str) -> Result<Field, Clash> {
    use DataType::*;
    let clash = || Clash { path: path.to_owned(), first: a.data_type().clone(), other: b.data_type().clone() };
    let item = |a: &FieldRef, b: &FieldRef| {
        let name = if a.name() == b.name() { a.name() } else { Field::LIST_FIELD_DEFAULT_NAME };
        let item = unite(policy, a, b, &format!("{path}[]"))?;
        Ok::<_, Clash>(FieldRef::new(item.with_name(name)))
    };
    let united = match (a.data_type(), b.data_type()) {
        (Struct(mine), Struct(theirs)) => Struct(unite_structs(policy, mine, theirs, path)?),
        (Map(mine, sorted), Map(theirs, also)) => {
            let entries = unite_entries(policy, mine, theirs, path).ok_or_else(clash)??;
            Map(FieldRef::new(entries), *sorted && *also)
        }
        (FixedSizeList(mine, n), FixedSizeList(theirs, m)) if n == m => FixedSizeList(item(mine, theirs)?, *n),
        (
            List(mine) | LargeList(mine) | FixedSizeList(mine, _) | ListView(mine) | LargeListView(mine),
            List(theirs) | LargeList(theirs) | FixedSizeList(theirs, _) | ListView(theirs) | LargeListView(theirs),
        ) => {
            let item = item(mine, theirs)?;
            match (a.data_type(), b.data_type()) {
                (a, b) if a == b => unite_same(a, item),
                (LargeList(_) | LargeListView(_), _) | (_, LargeList(_) | LargeListView(_)) => LargeList(item),
                _ => List(item),
            }
        }
        (Null, other) | (other, Null) if other.is_nested() && policy >= Policy::Rewrite => other.clone(),
        _ => return unite_scalars(policy, a, b).ok_or_else(clash),
    };
    let nullable = a.is_nullable() || b.is_nullable();
    Ok(a.clone().with_data_type(united).with_nullable(nullable))
}

/// Lists of the same kind keep it.
fn unite_same(kind: &DataType, item: FieldRef) -> DataType {
    match kind {
        DataType::ListView(_) => DataType::ListView(item),
        DataType::LargeListView(_) => DataType::LargeListView(item),
        DataType::LargeList(_) => DataType::LargeList(item),
        _ => DataType::List(item),
    }
}

fn unite_structs(policy: Policy, a: &Fields, b: &Fields, path: &str) -> Result<Fields, Clash> {
    let find = |fields: &Fields, name: &str| fields.iter().find(|f| f.name() == name).cloned();
    let nullable = |field: &FieldRef| FieldRef::new(field.as_ref().clone().with_nullable(true));
    let both = a.iter().map(|mine| match find(b, mine.name()) {
        Some(theirs) => unite(policy, mine, &theirs, &format!("{path}.{}", mine.name())).map(FieldRef::new),
        None => Ok(nullable(mine)),
    });
    let new = b.iter().filter(|theirs| find(a, theirs.name()).is_none()).map(|theirs| Ok(nullable(theirs)));
    both.chain(new).collect()
}

/// Unites the entries of maps by position: writers give them different names.
fn unite_entries(policy: Policy, a: &Field, b: &Field, path: &str) -> Option<Result<Field, Clash>> {
    let (mine, theirs) = (entry(a)?, entry(b)?);
    let unite = |i: usize, name: &str| {
        let name = if mine[i].name() == theirs[i].name() { mine[i].name() } else { name };
        Ok(FieldRef::new(unite(policy, &mine[i], &theirs[i], &format!("{path}[{name}]"))?.with_name(name)))
    };
    let fields = [unite(0, "key"), unite(1, "value")].into_iter().collect::<Result<Fields, Clash>>();
    let name = if a.name() == b.name() { a.name() } else { "entries" };
    Some(fields.map(|fields| Field::new(name, DataType::Struct(fields), false)))
}

/// The key and value fields of a map's entries.
pub fn entry(entries: &Field) -> Option<&Fields> {
    match entries.data_type() {
        DataType::Struct(fields) if fields.len() == 2 => Some(fields),
        _ => None,
    }
}

fn unite_scalars(policy: Policy, a: &Field, b: &Field) -> Option<Field> {
    let united = join(a, b)?;
    let wide = a.clone().with_nullable(a.is_nullable() || b.is_nullable()).with_data_type(united);
    let mut metadata = wide.metadata().clone();
    metadata.remove(EXACT);
    metadata.remove(HIVE_TYPE_KEY);
    if *wide.data_type() == DataType::Int64 && is_exact(a) && is_exact(b) {
        metadata.insert(EXACT.to_owned(), String::new());
    }
    if let Some(text) = longer(length(a), length(b)) {
        metadata.insert(HIVE_TYPE_KEY.to_owned(), text.to_string());
    }
    let wide = wide.with_metadata(metadata);
    (policy.widens(a, &wide) && policy.widens(b, &wide)).then_some(wide)
}

/// `char(n)` or `varchar(n)`.
fn length(field: &Field) -> Option<HiveType> {
    // Most fields have no metadata.
    if !field.metadata().contains_key(HIVE_TYPE_KEY) {
        return None;
    }
    HiveType::of(field).ok().filter(|hive| hive.max_characters().is_some())
}

fn longer(a: Option<HiveType>, b: Option<HiveType>) -> Option<HiveType> {
    match (a?, b?) {
        (a, b) if a == b => Some(a),
        (HiveType::VarChar(n), HiveType::VarChar(m)) => Some(HiveType::VarChar(n.max(m))),
        _ => None,
    }
}

impl Policy {
    /// Whether a type may become another one that holds all its values.
    fn widens(self, from: &Field, to: &Field) -> bool {
        use DataType::*;
        let (narrow, wide) = (plain(from.data_type()), plain(to.data_type()));
        match self {
            Self::Infer | Self::Read | Self::Coerce => true,
            Self::Rewrite => match (narrow, wide) {
                (a, b) if a == b => true,
                (Null, _) => true,
                (Timestamp(_, a), Timestamp(_, b)) => a.is_some() == b.is_some(),
                (Time32(_) | Time64(_), Time32(_) | Time64(_)) | (Duration(_), Duration(_)) => true,
                (a, b) => {
                    let kinds: [fn(&DataType) -> bool; 5] =
                        [DataType::is_string, DataType::is_binary, DataType::is_integer, DataType::is_floating, |t| {
                            decimal(t).is_some()
                        }];
                    kinds.iter().any(|is| is(a) && is(b))
                }
            },
            Self::Evolve => match (narrow, wide) {
                (a, b) if a.is_string() && b.is_string() => {
                    length(from).is_some() == length(to).is_some() && longer(length(from), length(to)) == length(to)
                }
                (a, b) if a == b => true,
                (a, b) if a.is_signed_integer() && b.is_signed_integer() => true,
                (Float32, Float64) => true,
                (a, b) => decimal(a).zip(decimal(b)).is_some_and(|((_, s), (_, t))| s == t),
            },
        }
    }
}

/// The least type that holds the values of both. Instants and timestamps without a zone meet in UTC, the framework's
/// zone.
fn join(a: &Field, b: &Field) -> Option<DataType> {
    use DataType::*;
    let (x, y) = (a.data_type(), b.data_type());
    if x == y {
        return Some(x.clone());
    }
    let (x, y) = (plain(x), plain(y));
    let both = |test: fn(&DataType) -> bool| test(x) && test(y);
    let either = |t: DataType| *x == t || *y == t;
    Some(match (x, y) {
        (x, y) if x == y => x.clone(),
        // For a column of nulls, however encoded, the other type counts.
        (Null, _) => b.data_type().clone(),
        (_, Null) => a.data_type().clone(),
        _ if both(DataType::is_string) => {
            if either(Utf8View) {
                Utf8View
            } else {
                LargeUtf8
            }
        }
        _ if both(DataType::is_binary) => {
            if either(BinaryView) {
                BinaryView
            } else if either(LargeBinary) {
                LargeBinary
            } else {
                Binary
            }
        }
        _ if both(DataType::is_integer) => join_integers(x, y),
        _ if both(DataType::is_floating) => float(float_bits(x)?.max(float_bits(y)?)),
        (x, y) if x.is_floating() || y.is_floating() => {
            let (float_, integer) = if x.is_floating() { (x, b) } else { (y, a) };
            float(float_bits(float_)?.max(float_bits_of_integer(integer)?))
        }
        (x, y) if as_decimal(x).is_some() && as_decimal(y).is_some() => {
            let ((p, s), (q, t)) = (as_decimal(x)?, as_decimal(y)?);
            let scale = s.max(t);
            let whole = (i16::from(p) - i16::from(s)).max(i16::from(q) - i16::from(t));
            let precision = u8::try_from(whole + i16::from(scale)).ok()?;
            match precision {
                ..=38 => Decimal128(precision, scale),
                39..=76 => Decimal256(precision, scale),
                _ => return None,
            }
        }
        (Date32 | Date64, Date32 | Date64) => Date64,
        (Date32, Timestamp(unit, zone)) | (Timestamp(unit, zone), Date32) => {
            Timestamp(*unit, zone.as_ref().map(|_| UTC.into()))
        }
        (Date64, Timestamp(unit, zone)) | (Timestamp(unit, zone), Date64) => {
            Timestamp((*unit).max(TimeUnit::Millisecond), zone.as_ref().map(|_| UTC.into()))
        }
        (Timestamp(u, y), Timestamp(v, z)) => Timestamp(*u.max(v), if y == z { y.clone() } else { Some(UTC.into()) }),
        (Time32(u) | Time64(u), Time32(v) | Time64(v)) => match u.max(v) {
            unit @ (TimeUnit::Second | TimeUnit::Millisecond) => Time32(*unit),
            unit => Time64(*unit),
        },
        (Duration(u), Duration(v)) => Duration(*u.max(v)),
        _ => return None,
    })
}

const UTC: &str = "UTC";

/// An unsigned type that meets a signed one counts as the next wider signed type, as in Hive.
fn join_integers(a: &DataType, b: &DataType) -> DataType {
    let signed = a.is_signed_integer() || b.is_signed_integer();
    let bits = |t: &DataType| bits(t) * if signed && t.is_unsigned_integer() { 2 } else { 1 };
    match (bits(a).max(bits(b)), signed) {
        (16, true) => DataType::Int16,
        (32, true) => DataType::Int32,
        (64, true) => DataType::Int64,
        (16, false) => DataType::UInt16,
        (32, false) => DataType::UInt32,
        (64, false) => DataType::UInt64,
        _ => DataType::Decimal128(20, 0),
    }
}

fn float(bits: usize) -> DataType {
    match bits {
        16 => DataType::Float16,
        32 => DataType::Float32,
        _ => DataType::Float64,
    }
}

fn float_bits(t: &DataType) -> Option<usize> {
    t.is_floating().then(|| bits(t))
}

/// The width of the float that holds these integers: floats of 16, 32 and 64 bits are exact up to 2^11, 2^24 and 2^53.
fn float_bits_of_integer(field: &Field) -> Option<usize> {
    Some(match plain(field.data_type()) {
        DataType::Int8 => 16,
        DataType::Int16 | DataType::UInt8 => 32,
        DataType::Int32 | DataType::UInt16 | DataType::UInt32 => 64,
        DataType::Int64 if is_exact(field) => 64,
        _ => return None,
    })
}

/// Precision and scale of integers and decimals.
fn as_decimal(t: &DataType) -> Option<(u8, i8)> {
    Some(match t {
        DataType::Int8 => (3, 0),
        DataType::Int16 | DataType::UInt8 => (5, 0),
        DataType::Int32 | DataType::UInt16 => (10, 0),
        DataType::Int64 | DataType::UInt32 => (19, 0),
        DataType::UInt64 => (20, 0),
        other => return decimal(other),
    })
}

fn bits(t: &DataType) -> usize {
    t.primitive_width().map_or(0, |bytes| bytes * 8)
}

// --- values --------------------------------------------------------------------------------------------------------

fn fit(from: &DataType, to: &DataType) -> Option<Fit> {
    use DataType::*;
    if from == to {
        return Some(Fit::Always);
    }
    // The encodings of the values do not matter.
    let (from, to) = (plain(from), plain(to));
    Some(match (from, to) {
        (from, to) if from == to => Fit::Always,
        (Null, _) => Fit::Always,
        (from, FixedSizeBinary(_)) if from.is_binary() => Fit::Readable,
        (from, to) if !can_cast_types(from, to) => return None,
        (from, to) if from.is_string() && (to.is_string() || to.is_binary()) => Fit::Always,
        (from, Boolean | Date32 | Date64 | Timestamp(..) | Time32(_) | Time64(_)) if from.is_string() => Fit::Readable,
        (from, to) if from.is_string() && to.is_numeric() => Fit::Readable,
        (from, to) if from.is_binary() && to.is_binary() => Fit::Always,
        (from, to) if from.is_binary() && to.is_string() => Fit::Readable,
        (Boolean | Date32 | Date64 | Timestamp(..) | Time32(_) | Time64(_), to) if to.is_string() => Fit::Always,
        (from, to) if from.is_numeric() && to.is_string() => Fit::Always,
        (Boolean, to) if to.is_integer() => Fit::Always,
        (from, Boolean) if from.is_integer() => Fit::RoundTrip,
        (from, to) if from.is_numeric() && to.is_numeric() => match (from, to) {
            _ if holds(from, to) => Fit::Always,
            _ if from.is_floating() && to.is_floating() => Fit::InRange,
            _ => Fit::RoundTrip,
        },
        (Date32, Date64) => Fit::Always,
        (Date64, Date32) => Fit::RoundTrip,
        (Date32 | Date64, Timestamp(..)) | (Timestamp(..), Date32 | Date64) => Fit::RoundTrip,
        // Arrow takes a timestamp without a zone as local time in the target's zone; here it is in UTC.
        (Timestamp(a, zone), Timestamp(b, to)) if a == b && (zone.is_some() || to.as_deref().is_none_or(is_utc)) => {
            Fit::Always
        }
        (Timestamp(..), Timestamp(..))
        | (Time32(_) | Time64(_), Time32(_) | Time64(_))
        | (Duration(_), Duration(_)) => Fit::RoundTrip,
        _ => return None,
    })
}

/// Whether most values would lose what is typical of their type, so that such a file cannot be meant: a float its
/// fraction or digits, a timestamp its time of day. And a boolean is not a number.
fn loses(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (from, to) if from.is_floating() && to.is_floating() => bits(to) < bits(from),
        (from, to) if from.is_floating() => to.is_numeric(),
        (Timestamp(..), Date32 | Date64) => true,
        (Boolean, to) => to.is_numeric(),
        (from, Boolean) => from.is_numeric(),
        _ => false,
    }
}

/// Whether values of two types can be compared without changing them.
pub fn comparable(a: &DataType, b: &DataType) -> bool {
    let (a, b) = (plain(a), plain(b));
    let both = |test: fn(&DataType) -> bool| test(a) && test(b);
    a == b
        || both(DataType::is_string)
        || both(DataType::is_binary)
        || both(|t| matches!(t, DataType::Timestamp(..)))
        || both(DataType::is_numeric) && (holds(a, b) || holds(b, a))
}

/// The type of the values, without their encoding.
pub fn plain(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        other => other,
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "-00:00" | "Z" | "Etc/UTC" | "GMT")
}

/// Whether every number of one type is a number of the other.
fn holds(from: &DataType, to: &DataType) -> bool {
    let (from_bits, to_bits) = (bits(from), bits(to));
    match (from, to, decimal(from), decimal(to)) {
        (_, _, Some((p, s)), Some((precision, scale))) => {
            scale >= s && i16::from(precision) - i16::from(scale) >= i16::from(p) - i16::from(s)
        }
        (_, _, None, Some((precision, scale))) if from.is_integer() => {
            let digits = match from_bits {
                8 => 3,
                16 => 5,
                32 => 10,
                _ if from.is_signed_integer() => 19,
                _ => 20,
            };
            scale >= 0 && digits + i16::from(scale) <= i16::from(precision)
        }
        (_, _, None, None) if from.is_integer() && to.is_integer() => {
            match (from.is_signed_integer(), to.is_signed_integer()) {
                (true, false) => false,
                (false, true) => from_bits < to_bits,
                _ => from_bits <= to_bits,
            }
        }
        // Floats of 16, 32 and 64 bits are exact up to 2^11, 2^24 and 2^53.
        (_, _, None, None) if from.is_integer() => from_bits < to_bits,
        (_, _, None, None) => to.is_floating() && from_bits <= to_bits,
        _ => false,
    }
}

/// Precision and scale.
pub fn decimal(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Decimal32(p, s)
        | DataType::Decimal64(p, s)
        | DataType::Decimal128(p, s)
        | DataType::Decimal256(p, s) => Some((*p, *s)),
        _ => None,
    }
}

// --- files ---------------------------------------------------------------------------------------------------------

/// The united columns of several files: by name, in the order of their first occurrence. A column that some files lack
/// is nullable. Types are [united](Policy::unite).
#[derive(Debug, Clone)]
pub struct Union {
    policy: Policy,
    hint: &'static str,
    hint_if_nested: &'static str,
    columns: Vec<(Field, Location)>,
    files: usize,
}

impl Union {
    /// The union of no files. `hint` is the hint for files without a common type.
    pub fn new(policy: Policy, hint: &'static str) -> Self {
        Self { policy, hint, hint_if_nested: hint, columns: Vec::new(), files: 0 }
    }

    /// Sets another hint for lists, structs and maps.
    #[must_use]
    pub fn with_hint_if_nested(self, hint: &'static str) -> Self {
        Self { hint_if_nested: hint, ..self }
    }

    /// Adds the columns of another file, all or none.
    ///
    /// # Errors
    /// [`Refused`](hardtack_core::ErrorKind::Refused) for the first column whose types have none in common. The error
    /// names both files.
    pub fn add(&mut self, schema: &Schema, file: &Location) -> Result<()> {
        // Most files of a data set have the same columns.
        if self.columns.iter().map(|(column, _)| column).eq(schema.fields().iter().map(FieldRef::as_ref)) {
            self.files += 1;
            return Ok(());
        }
        let mut columns = self.columns.clone();
        for (column, _) in &mut columns {
            if schema.field_with_name(column.name()).is_err() {
                *column = column.clone().with_nullable(true);
            }
        }
        for new in schema.fields() {
            match columns.iter_mut().find(|(column, _)| column.name() == new.name()) {
                None => {
                    let nullable = new.is_nullable() || self.files > 0;
                    columns.push((new.as_ref().clone().with_nullable(nullable), file.clone()));
                }
                Some((column, first)) => {
                    let path = column.name().clone();
                    let united =
                        unite(self.policy, column, new, &path).map_err(|clash| self.refusal(&clash, first, file))?;
                    if united.data_type() != column.data_type() {
                        first.clone_from(file);
                    }
                    *column = united;
                }
            }
        }
        self.columns = columns;
        self.files += 1;
        Ok(())
    }

    fn refusal(&self, clash: &Clash, first: &Location, file: &Location) -> Error {
        let Clash { path, first: a, other: b } = clash;
        let nested = a.is_nested() || b.is_nested();
        let hint = if nested { self.hint_if_nested } else { self.hint };
        Error::refused(format!("`{path}` is {a} in {first} and {b} in {file}, which have no type in common"))
            .with("column", path)
            .hint(hint)
    }

    /// The schema of all files together.
    pub fn schema(self) -> Schema {
        Schema::new(self.columns.iter().map(|(column, _)| unmarked(column)).collect::<Fields>())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const UNITS: [TimeUnit; 4] = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];

    /// One of every kind, and decimals and zones that differ.
    fn scalars() -> Vec<DataType> {
        use DataType::*;
        let mut scalars = vec![
            Null,
            Boolean,
            Int8,
            Int16,
            Int32,
            Int64,
            UInt8,
            UInt16,
            UInt32,
            UInt64,
            Float16,
            Float32,
            Float64,
            Utf8,
            LargeUtf8,
            Utf8View,
            Binary,
            LargeBinary,
            BinaryView,
            FixedSizeBinary(2),
            FixedSizeBinary(3),
            Date32,
            Date64,
            Time32(TimeUnit::Second),
            Time32(TimeUnit::Millisecond),
            Time64(TimeUnit::Microsecond),
            Time64(TimeUnit::Nanosecond),
            Dictionary(Box::new(Int8), Box::new(Null)),
            Dictionary(Box::new(Int8), Box::new(Utf8)),
            Dictionary(Box::new(Int32), Box::new(Int64)),
            Decimal128(5, 2),
            Decimal128(19, 0),
            Decimal128(38, 0),
            Decimal128(38, 10),
            Decimal256(5, 2),
            Decimal256(9, -3),
            Decimal256(76, 0),
        ];
        for unit in UNITS {
            let zones = [None, Some("UTC"), Some("+00:00"), Some("Europe/Berlin")];
            scalars.extend(zones.map(|zone| Timestamp(unit, zone.map(Into::into))));
            scalars.push(Duration(unit));
        }
        scalars
    }

    /// The same as columns, with and without marks about their values.
    fn scalar_fields() -> Vec<Field> {
        let marked = |of: &DataType| (*of == DataType::Int64).then(|| with_exact_doubles(field(of.clone())));
        scalars().iter().flat_map(|of| [Some(field(of.clone())), marked(of)]).flatten().collect()
    }

    fn scalar() -> impl Strategy<Value = DataType> {
        use DataType::*;
        prop_oneof![
            6 => prop::sample::select(scalars()),
            1 => (1u8..=38, 0i8..=10).prop_map(|(p, s)| Decimal128(p.max(s as u8), s)),
            1 => (1u8..=76, -3i8..=10).prop_map(|(p, s)| Decimal256(p.max(s.max(0) as u8), s)),
        ]
    }

    /// With names in alphabetical order, so that the order in which structs get their fields does not matter.
    fn any_type() -> impl Strategy<Value = DataType> {
        scalar().prop_recursive(3, 12, 3, |inner| {
            let item = || (inner.clone(), any::<bool>(), prop::sample::select(vec!["item", "element"]));
            let item = move || item().prop_map(|(of, null, name)| Arc::new(Field::new(name, of, null)));
            let field = |name: &'static str| {
                prop::option::of((inner.clone(), any::<bool>()))
                    .prop_map(move |of| of.map(|(of, null)| Arc::new(Field::new(name, of, null))))
            };
            let entry = |k, v| Fields::from(vec![Field::new("key", k, false), Field::new("value", v, true)]);
            let map =
                move |k, v| DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entry(k, v)), false)), false);
            prop_oneof![
                item().prop_map(DataType::List),
                item().prop_map(DataType::LargeList),
                item().prop_map(DataType::ListView),
                (item(), 1i32..3).prop_map(|(item, n)| DataType::FixedSizeList(item, n)),
                (field("a"), field("b"), field("c"))
                    .prop_map(|(a, b, c)| DataType::Struct([a, b, c].into_iter().flatten().collect())),
                (scalar(), inner.clone()).prop_map(move |(k, v)| map(k, v)),
            ]
        })
    }

    fn field(of: DataType) -> Field {
        Field::new("x", of, false)
    }

    fn any_field() -> impl Strategy<Value = Field> {
        (any_type(), any::<bool>(), any::<bool>()).prop_map(|(of, null, exact)| {
            let field = Field::new("x", of, null);
            if exact && *field.data_type() == DataType::Int64 { with_exact_doubles(field) } else { field }
        })
    }

    /// With the fields of structs in alphabetical order, and without anything that is not part of the type.
    fn sorted(field: &Field) -> Field {
        let inner = |field: &FieldRef| Arc::new(sorted(field));
        let data_type = match field.data_type() {
            DataType::Struct(fields) => {
                let mut fields: Vec<_> = fields.iter().map(inner).collect();
                fields.sort_by(|a, b| a.name().cmp(b.name()));
                DataType::Struct(fields.into())
            }
            DataType::List(item) => DataType::List(inner(item)),
            DataType::LargeList(item) => DataType::LargeList(inner(item)),
            DataType::ListView(item) => DataType::ListView(inner(item)),
            DataType::FixedSizeList(item, n) => DataType::FixedSizeList(inner(item), *n),
            DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
            other => other.clone(),
        };
        field.clone().with_data_type(data_type)
    }

    const UNITING: [Policy; 3] = [Policy::Evolve, Policy::Rewrite, Policy::Infer];

    fn is_commutative(a: &Field, b: &Field) -> Result<(), TestCaseError> {
        for policy in UNITING {
            let (one, other) = (unite(policy, a, b, "x"), unite(policy, b, a, "x"));
            prop_assert_eq!(one.ok().as_ref().map(sorted), other.ok().as_ref().map(sorted), "{:?} {} {}", policy, a, b);
        }
        Ok(())
    }

    /// So the order in which files are seen does not matter.
    fn is_associative(a: &Field, b: &Field, c: &Field) -> Result<(), TestCaseError> {
        for policy in [Policy::Rewrite, Policy::Infer] {
            let unite = |a: &Field, b: &Field| unite(policy, a, b, "x").ok();
            let left = unite(a, b).and_then(|ab| unite(&ab, c));
            let right = unite(b, c).and_then(|bc| unite(a, &bc));
            // A stricter policy may refuse a step that only one of the two orders needs.
            if policy == Policy::Infer || (left.is_some() && right.is_some()) {
                let (left, right) = (left.as_ref().map(sorted), right.as_ref().map(sorted));
                prop_assert_eq!(left, right, "{:?} {} {} {}", policy, a, b, c);
            }
        }
        Ok(())
    }

    /// What a stricter policy accepts, the laxer ones accept with the same result.
    fn is_ordered(a: &Field, b: &Field) -> Result<(), TestCaseError> {
        for pair in Policy::ALL.windows(2) {
            if let Ok(united) = pair[0].unite(a, b) {
                prop_assert_eq!(pair[1].unite(a, b), Ok(united), "{:?} {} {}", pair, a, b);
            }
            let (from, to) = (a.data_type(), b.data_type());
            if !from.is_nested() && !to.is_nested() && pair[0].fit(from, to).is_some() {
                prop_assert!(pair[1].fit(from, to).is_some(), "{:?} {} {}", pair, from, to);
            }
        }
        Ok(())
    }

    /// The values of both types can be cast to the united type.
    fn is_readable(a: &DataType, b: &DataType) -> Result<(), TestCaseError> {
        if let Ok(united) = Policy::Infer.unite(&field(a.clone()), &field(b.clone())) {
            for from in [a, b] {
                prop_assert!(Policy::Read.fit(from, united.data_type()).is_some(), "{from} to {united}");
            }
        }
        Ok(())
    }

    /// There are few enough to try all of them.
    #[test]
    fn the_laws_hold_for_all_scalars() -> Result<(), TestCaseError> {
        let fields = scalar_fields();
        for a in &fields {
            for b in &fields {
                is_commutative(a, b)?;
                is_ordered(a, b)?;
                is_readable(a.data_type(), b.data_type())?;
                for c in &fields {
                    is_associative(a, b, c)?;
                }
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn uniting_is_idempotent(a in any_field()) {
            for policy in UNITING {
                prop_assert_eq!(unite(policy, &a, &a, "x"), Ok(a.clone()));
            }
        }

        #[test]
        fn uniting_is_commutative(a in any_field(), b in any_field()) {
            is_commutative(&a, &b)?;
        }

        #[test]
        fn uniting_is_associative(a in any_field(), b in any_field(), c in any_field()) {
            is_associative(&a, &b, &c)?;
        }

        #[test]
        fn policies_are_ordered(a in any_field(), b in any_field()) {
            is_ordered(&a, &b)?;
        }

        #[test]
        fn a_united_type_can_be_read(a in scalar(), b in scalar()) {
            is_readable(&a, &b)?;
        }
    }

    #[rstest]
    #[case::integers(DataType::UInt32, DataType::Int8, Some(DataType::Int64))]
    #[case::unsigned(DataType::UInt64, DataType::Int8, Some(DataType::Decimal128(20, 0)))]
    #[case::digits_would_be_lost(DataType::Int64, DataType::Float64, None)]
    #[case::digits_would_be_lost_too(DataType::Int64, DataType::Float32, None)]
    #[case::short_enough(DataType::Int32, DataType::Float32, Some(DataType::Float64))]
    #[case::small(DataType::Int8, DataType::Float16, Some(DataType::Float16))]
    #[case::decimal_and_double(DataType::Decimal128(5, 2), DataType::Float64, None)]
    #[case::decimal_and_integer(DataType::Decimal128(5, 2), DataType::Int64, Some(DataType::Decimal128(21, 2)))]
    #[case::scales(DataType::Decimal128(5, 2), DataType::Decimal128(8, 0), Some(DataType::Decimal128(10, 2)))]
    #[case::digits(DataType::Decimal128(38, 0), DataType::Decimal128(38, 10), Some(DataType::Decimal256(48, 10)))]
    #[case::too_many(DataType::Decimal256(76, 0), DataType::Decimal256(76, 10), None)]
    #[case::number_and_text(DataType::Int64, DataType::Utf8, None)]
    #[case::truth(DataType::Int64, DataType::Boolean, None)]
    #[case::lengths(DataType::FixedSizeBinary(2), DataType::FixedSizeBinary(3), Some(DataType::Binary))]
    #[case::dictionary(
        DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Int16)),
        DataType::Int32,
        Some(DataType::Int32)
    )]
    fn values_of_both_are_held(#[case] a: DataType, #[case] b: DataType, #[case] wide: Option<DataType>) {
        let unite = |a: &DataType, b: &DataType| {
            Policy::Infer.unite(&field(a.clone()), &field(b.clone())).ok().map(|f| f.data_type().clone())
        };
        assert_eq!(unite(&a, &b), wide);
        assert_eq!(unite(&b, &a), wide);
    }

    #[test]
    fn integers_that_doubles_hold_meet_them_in_any_order() {
        let whole = with_exact_doubles(field(DataType::Int64));
        let files = [whole, field(DataType::Float64), field(DataType::Int8), field(DataType::UInt32)];
        for start in 0..files.len() {
            let mut union = Union::new(Policy::Infer, "");
            for i in 0..files.len() {
                let schema = Schema::new(vec![files[(start + i) % files.len()].clone()]);
                union.add(&schema, &Location::from("x")).unwrap();
            }
            assert_eq!(union.schema(), Schema::new(vec![field(DataType::Float64)]));
        }
    }

    #[test]
    fn a_clash_says_where_and_leaves_the_columns_as_they_were() {
        let schema = |of: DataType, also: &str| {
            let inner = Fields::from(vec![Field::new("n", of, true)]);
            let list = DataType::new_list(DataType::Struct(inner), true);
            Schema::new(vec![Field::new(also, DataType::Int8, false), Field::new("l", list, true)])
        };
        let mut union = Union::new(Policy::Infer, "say which");
        union.add(&schema(DataType::Int64, "a"), &Location::from("one")).unwrap();
        let error = union.add(&schema(DataType::Float64, "b"), &Location::from("two")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`l[].n` is Int64 in one and Float64 in two, which have no type in common (column: l[].n, hint: say which)"
        );
        assert_eq!(union.schema(), schema(DataType::Int64, "a"));
    }

    #[rstest]
    #[case(DataType::Int64, "a string takes both")]
    #[case(DataType::new_list(DataType::Int64, true), "nothing takes both")]
    fn lists_have_a_hint_of_their_own(#[case] of: DataType, #[case] hint: &str) {
        let file = |of: DataType| Schema::new(vec![Field::new("v", of, true)]);
        for (one, other) in [(DataType::Utf8, of.clone()), (of, DataType::Utf8)] {
            let mut union = Union::new(Policy::Infer, "a string takes both").with_hint_if_nested("nothing takes both");
            union.add(&file(one), &Location::from("one")).unwrap();
            assert_eq!(union.add(&file(other), &Location::from("two")).unwrap_err().get_hint(), Some(hint));
        }
    }

    #[test]
    fn a_column_that_a_file_lacks_may_be_null() {
        let file = |names: &[&str]| {
            Schema::new(names.iter().map(|n| Field::new(*n, DataType::Int8, false)).collect::<Fields>())
        };
        let mut union = Union::new(Policy::Rewrite, "");
        for names in [&["a", "b"][..], &["c", "a"]] {
            union.add(&file(names), &Location::from("x")).unwrap();
        }
        let shown: Vec<_> = union.schema().fields().iter().map(|f| (f.name().clone(), f.is_nullable())).collect();
        assert_eq!(shown, [("a".to_owned(), false), ("b".to_owned(), true), ("c".to_owned(), true)]);
    }
}
