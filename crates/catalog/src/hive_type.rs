//! The types of the Hive metastore, and so of the Glue catalog and Athena.

use std::fmt;
use std::str::FromStr;

use hardtack_core::Error;

use crate::parser::Parser;

/// A column type as the Glue catalog writes it.
///
/// Parses every spelling that Hive, Spark and Athena leave in the catalog, and prints the one that all of them read:
/// lower case, no blanks, and backquotes around names that are not plain words.
///
/// ```
/// use hardtack_catalog::HiveType;
///
/// let tags: HiveType = "ARRAY< STRUCT<`the name`: VarChar(20), amount: numeric(10, 2)> >".parse()?;
/// assert_eq!(tags.to_string(), "array<struct<`the name`:varchar(20),amount:decimal(10,2)>>");
///
/// let error = "map<string, strin>".parse::<HiveType>().unwrap_err();
/// assert_eq!(error.to_string(), "expected a type, found `strin` (type: map<string, strin>, position: 13)");
/// # Ok::<_, hardtack_core::Error>(())
/// ```
///
/// | Hive | also read as | Arrow |
/// | --- | --- | --- |
/// | `void` | | Null |
/// | `boolean` | `bool` | Boolean |
/// | `tinyint` | `byte` | Int8 |
/// | `smallint` | `short` | Int16 |
/// | `int` | `integer` | Int32 |
/// | `bigint` | `long` | Int64 |
/// | `float` | `real` | Float32 |
/// | `double` | `double precision` | Float64 |
/// | `decimal(p,s)` | `dec`, `numeric`; `(10,0)` if left out | Decimal128(p, s) |
/// | `string`, `char(n)`, `varchar(n)` | | Utf8; the length is kept in the [field's metadata](crate::HIVE_TYPE_KEY) |
/// | `binary` | | Binary |
/// | `date` | | Date32 |
/// | `timestamp` | `timestamp_ntz`, `timestamp without time zone` | Timestamp(µs) |
/// | `timestamp with local time zone` | `timestamptz`, `timestamp_ltz`, `timestamp with time zone` | Timestamp(µs, UTC) |
/// | `interval_year_month` | `interval year to month` | Interval(YearMonth) |
/// | `interval_day_time` | `interval day to second` | Interval(DayTime) |
/// | `array<t>`, `map<k,v>`, `struct<name:t,...>` | | List, Map, Struct |
///
/// A timestamp has microseconds: Parquet, Iceberg and Spark agree on that, and nanoseconds in 64 bits end in the year
/// 2262. Hive's `timestamp` has no zone; the framework interprets it as UTC where an instant is needed. `uniontype` is
/// refused: neither Athena nor Spark reads it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HiveType {
    /// `void`: the type of a column that is always null.
    Void,
    /// `boolean`
    Boolean,
    /// `tinyint`: 8 bits
    TinyInt,
    /// `smallint`: 16 bits
    SmallInt,
    /// `int`: 32 bits
    Int,
    /// `bigint`: 64 bits
    BigInt,
    /// `float`: 32 bits
    Float,
    /// `double`: 64 bits
    Double,
    /// `decimal(precision,scale)`: 1 to 38 digits, of which `scale` after the point
    Decimal(u8, u8),
    /// `string`
    String,
    /// `char(n)`: text of at most n (1 to 255) characters
    Char(u8),
    /// `varchar(n)`: text of at most n (1 to 65535) characters
    VarChar(u16),
    /// `binary`
    Binary,
    /// `date`
    Date,
    /// `timestamp`: date and time of day without a zone
    Timestamp,
    /// `timestamp with local time zone`: an instant
    TimestampLocalTz,
    /// `interval_year_month`
    IntervalYearMonth,
    /// `interval_day_time`
    IntervalDayTime,
    /// `array<element>`
    Array(Box<HiveType>),
    /// `map<key,value>`
    Map(Box<HiveType>, Box<HiveType>),
    /// `struct<name:type,...>`
    Struct(Vec<HiveField>),
}

/// A field of a [`HiveType::Struct`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HiveField {
    /// The field's name, without quotes.
    pub name: String,
    /// The field's type.
    pub data_type: HiveType,
}

impl FromStr for HiveType {
    type Err = Error;

    /// # Errors
    /// [`Usage`](hardtack_core::ErrorKind::Usage), with the position (in characters, from 1) and what was expected
    /// there.
    fn from_str(text: &str) -> Result<Self, Error> {
        let mut parser = Parser::new(text);
        parser.data_type().and_then(|t| parser.end().map(|()| t)).map_err(|e| e.of("type", text))
    }
}

impl fmt::Display for HiveType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Void => f.write_str("void"),
            Self::Boolean => f.write_str("boolean"),
            Self::TinyInt => f.write_str("tinyint"),
            Self::SmallInt => f.write_str("smallint"),
            Self::Int => f.write_str("int"),
            Self::BigInt => f.write_str("bigint"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::String => f.write_str("string"),
            Self::Char(length) => write!(f, "char({length})"),
            Self::VarChar(length) => write!(f, "varchar({length})"),
            Self::Binary => f.write_str("binary"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::TimestampLocalTz => f.write_str("timestamp with local time zone"),
            Self::IntervalYearMonth => f.write_str("interval_year_month"),
            Self::IntervalDayTime => f.write_str("interval_day_time"),
            Self::Array(element) => write!(f, "array<{element}>"),
            Self::Map(key, value) => write!(f, "map<{key},{value}>"),
            Self::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, field) in fields.iter().enumerate() {
                    write!(f, "{}{field}", if i == 0 { "" } else { "," })?;
                }
                f.write_str(">")
            }
        }
    }
}

impl fmt::Display for HiveField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !self.name.is_empty() && self.name.chars().all(|c| c == '_' || c.is_alphanumeric());
        if plain {
            write!(f, "{}:{}", self.name, self.data_type)
        } else {
            write!(f, "`{}`:{}", self.name.replace('`', "``"), self.data_type)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    pub(crate) fn any_hive_type() -> impl Strategy<Value = HiveType> {
        use HiveType::*;
        let leaf = prop_oneof![
            Just(Void),
            Just(Boolean),
            Just(TinyInt),
            Just(SmallInt),
            Just(Int),
            Just(BigInt),
            Just(Float),
            Just(Double),
            (1u8..=38).prop_flat_map(|p| (Just(p), 0..=p)).prop_map(|(p, s)| Decimal(p, s)),
            Just(String),
            (1u8..).prop_map(Char),
            (1u16..).prop_map(VarChar),
            Just(Binary),
            Just(Date),
            Just(Timestamp),
            Just(TimestampLocalTz),
            Just(IntervalYearMonth),
            Just(IntervalDayTime),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let name = prop_oneof!["[a-z_]{1,6}", "\\PC{0,6}"];
            let field = (name, inner.clone()).prop_map(|(name, data_type)| HiveField { name, data_type });
            prop_oneof![
                inner.clone().prop_map(|t| Array(Box::new(t))),
                (inner.clone(), inner).prop_map(|(k, v)| Map(Box::new(k), Box::new(v))),
                prop::collection::vec(field, 0..4).prop_map(|mut fields| {
                    let mut seen = std::collections::HashSet::new();
                    fields.retain(|f| seen.insert(f.name.to_lowercase()));
                    Struct(fields)
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same_type(t in any_hive_type()) {
            let printed = t.to_string();
            prop_assert_eq!(printed.parse::<HiveType>().map_err(|e| TestCaseError::fail(format!("{printed}: {e}")))?, t);
        }

        #[test]
        fn blanks_and_case_do_not_matter(t in any_hive_type()) {
            prop_assume!(!t.to_string().contains('`') && t.to_string().is_ascii());
            let spread = t.to_string().replace('<', " < ").replace('>', " >").replace(',', " ,\t").replace(':', " :\n");
            prop_assert_eq!(&spread.parse::<HiveType>().unwrap(), &t);
            let upper = t.to_string().to_uppercase().parse::<HiveType>().unwrap().to_string();
            prop_assert_eq!(upper.to_lowercase(), t.to_string().to_lowercase());
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<HiveType>();
        }
    }

    #[rstest]
    #[case("bool", "boolean")]
    #[case("BYTE", "tinyint")]
    #[case("short", "smallint")]
    #[case("Integer", "int")]
    #[case("long", "bigint")]
    #[case("real", "float")]
    #[case("double precision", "double")]
    #[case("double", "double")]
    #[case("decimal", "decimal(10,0)")]
    #[case("DEC(5)", "decimal(5,0)")]
    #[case("numeric( 38 , 38 )", "decimal(38,38)")]
    #[case("char(255)", "char(255)")]
    #[case("varchar(65535)", "varchar(65535)")]
    #[case("timestamp_ntz", "timestamp")]
    #[case("timestamp without time zone", "timestamp")]
    #[case("timestamptz", "timestamp with local time zone")]
    #[case("timestamp with time zone", "timestamp with local time zone")]
    #[case("TIMESTAMP  WITH LOCAL TIME ZONE", "timestamp with local time zone")]
    #[case("timestamp_ltz", "timestamp with local time zone")]
    #[case("interval year to month", "interval_year_month")]
    #[case("interval day to second", "interval_day_time")]
    #[case("struct<>", "struct<>")]
    #[case("struct<a:int,B:array<map<string,struct<c:date>>>>", "struct<a:int,B:array<map<string,struct<c:date>>>>")]
    #[case("struct<type:string,array:int>", "struct<type:string,array:int>")]
    #[case(
        "struct<$oid:string, first-name:int, two words : int>",
        "struct<`$oid`:string,`first-name`:int,`two words`:int>"
    )]
    #[case("struct<`a``b,<:>`:int>", "struct<`a``b,<:>`:int>")]
    #[case("struct<Straße:int>", "struct<Straße:int>")]
    fn reads_every_spelling(#[case] text: &str, #[case] printed: &str) {
        assert_eq!(text.parse::<HiveType>().unwrap().to_string(), printed);
    }

    #[rstest]
    #[case("", "expected a type, found the end (type: , position: 1)")]
    #[case("strin", "expected a type, found `strin` (type: strin, position: 1)")]
    #[case("string string", "expected the end, found `string` (type: string string, position: 8)")]
    #[case("decimal(39,2)", "expected a precision of 1 to 38, found `39` (type: decimal(39,2), position: 9)")]
    #[case("decimal(4,5)", "expected a scale of 0 to 4, found `5` (type: decimal(4,5), position: 11)")]
    #[case("decimal(4,2", "expected `)`, found the end (type: decimal(4,2, position: 12)")]
    #[case("char", "expected `(`, found the end (type: char, position: 5)")]
    #[case("char(256)", "expected a length of 1 to 255, found `256` (type: char(256), position: 6)")]
    #[case("varchar(0)", "expected a length of 1 to 65535, found `0` (type: varchar(0), position: 9)")]
    #[case("varchar(x)", "expected a length of 1 to 65535, found `x` (type: varchar(x), position: 9)")]
    #[case("array<int", "expected `>`, found the end (type: array<int, position: 10)")]
    #[case("array[int]", "expected `<`, found `[` (type: array[int], position: 6)")]
    #[case("map<string>", "expected `,`, found `>` (type: map<string>, position: 11)")]
    #[case("struct<a int>", "expected `:` after the name `a int`, found `>` (type: struct<a int>, position: 13)")]
    #[case("struct<:int>", "expected a name, found `:` (type: struct<:int>, position: 8)")]
    #[case("struct<a:int,>", "expected a name, found `>` (type: struct<a:int,>, position: 14)")]
    #[case("struct<`a:int>", "expected a closing '`' (type: struct<`a:int>, position: 8)")]
    #[case("struct<ä:int,x:unknown>", "expected a type, found `unknown` (type: struct<ä:int,x:unknown>, position: 16)")]
    #[case("struct<a:int,A:int>", "expected a new name, `A` is already used (type: struct<a:int,A:int>, position: 14)")]
    #[case("timestamp with zone", "expected `time zone`, found `zone` (type: timestamp with zone, position: 16)")]
    #[case(
        "array<uniontype<int,string>>",
        "expected a type, found `uniontype`, which neither Athena nor Spark reads; declare a struct with one field for \
         each type (type: array<uniontype<int,string>>, position: 7)"
    )]
    fn errors_say_where_and_what_was_expected(#[case] text: &str, #[case] message: &str) {
        let error = text.parse::<HiveType>().unwrap_err();
        assert_eq!(error.kind(), hardtack_core::ErrorKind::Usage);
        assert_eq!(error.to_string(), message);
    }

    /// Depth is the level of nesting, not the number of types.
    #[test]
    fn types_may_be_deep_and_wide() {
        let arrays = |levels| format!("{}int{}", "array<".repeat(levels), ">".repeat(levels));
        let fields: Vec<String> =
            (0..100).map(|i| format!("f{i}:{}", arrays(if i % 10 == 0 { 62 } else { 0 }))).collect();
        for text in [arrays(63), format!("struct<{}>", fields.join(","))] {
            assert_eq!(text.parse::<HiveType>().unwrap().to_string(), text);
        }
        assert!(arrays(64).parse::<HiveType>().is_err());
    }

    #[test]
    fn of_a_long_type_an_error_shows_the_beginning() {
        let text = format!("struct<{}:int,x:>", "ö".repeat(500));
        let error = text.parse::<HiveType>().unwrap_err();
        let shown: String = text.chars().take(200).collect();
        assert_eq!(error.get("type"), Some(shown.as_str()));
        assert_eq!(error.get("position"), Some("515"));
    }

    #[test]
    fn nesting_without_end_is_an_error_and_not_a_crash() {
        let error = "array<".repeat(100_000).parse::<HiveType>().unwrap_err();
        assert_eq!(error.message(), "expected at most 64 levels of nesting");
    }
}
