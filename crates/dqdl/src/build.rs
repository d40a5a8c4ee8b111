//! Rules in Rust.

use chrono::NaiveDate;

use crate::condition::{
    Condition, DateValue, Duration, Pattern, Size, StringCondition, StringList, StringValue, Value, ValueCondition,
    of_values,
};
use crate::number::Number;
use crate::text::{Aggregation, ColumnList, ColumnPairs, ReferenceColumns, Text};
use crate::tree::{Analysis, Analyzer, Check, DataSources, FileMatch, Label, Metric, Rule, RuleSet, Tag};

impl RuleSet {
    /// A set of rules. [`check`](Self::check) says whether it is one that DQDL can express.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: rules.into_iter().collect(), ..Self::default() }
    }

    /// Adds analyzers, such as [`Metric::RowCount`].
    pub fn with_analyzers<A: Into<Analyzer>>(mut self, analyzers: impl IntoIterator<Item = A>) -> Self {
        self.analyzers.extend(analyzers.into_iter().map(Into::into));
        self
    }

    /// Names the data sets: the one that is checked, and others that it is compared with.
    pub fn with_data_sources<S: Into<String>>(
        mut self,
        primary: &str,
        additional: impl IntoIterator<Item = S>,
    ) -> Self {
        let additional = additional.into_iter().map(Into::into).collect();
        self.data_sources = DataSources { primary: Some(primary.to_owned()), additional };
        self
    }

    /// Adds a label of all rules.
    pub fn with_default_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.default_labels.push(Label { key: key.into(), value: value.into() });
        self
    }
}

impl Rule {
    /// Counts only the rows that meet an SQL condition: `where "…"`.
    pub fn filter(mut self, condition: impl Into<String>) -> Self {
        self.filter = Some(condition.into());
        self
    }

    /// Says which share of rows must pass, from 0 to 1: `with threshold …`.
    pub fn with_threshold(mut self, condition: Condition<Number>) -> Self {
        self.threshold = Some(condition);
        self
    }

    /// Sets an option: `with name = "value"`.
    pub fn with_tag(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.tags.push(Tag { name: name.into(), value: value.to_string() });
        self
    }

    /// Adds a label.
    pub fn with_label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push(Label { key: key.into(), value: value.into() });
        self
    }

    /// A rule that passes if this one and the other do.
    pub fn and(self, other: Self) -> Self {
        all_of([self, other])
    }

    /// A rule that passes if this one or the other does.
    pub fn or(self, other: Self) -> Self {
        any_of([self, other])
    }
}

/// A rule that passes if all of these do. At least two.
pub fn all_of(rules: impl IntoIterator<Item = Rule>) -> Rule {
    Rule::new(Check::And(rules.into_iter().collect()))
}

/// A rule that passes if one of these does. At least two.
pub fn any_of(rules: impl IntoIterator<Item = Rule>) -> Rule {
    Rule::new(Check::Or(rules.into_iter().collect()))
}

/// The beginning of a rule that needs a condition: `row_count().greater_than(0)`.
#[must_use = "a condition makes it a rule"]
pub struct Subject<T>(Box<dyn FnOnce(Condition<T>) -> Check>);

impl<T> Subject<T> {
    fn new(check: impl FnOnce(Condition<T>) -> Check + 'static) -> Self {
        Self(Box::new(check))
    }

    /// The rule with a condition.
    pub fn is(self, condition: Condition<T>) -> Rule {
        Rule::new(self.0(condition))
    }
}

/// One method for each comparison, with the operands that a trait allows.
macro_rules! comparisons {
    ($(#[$doc:meta] $method:ident($($x:ident),+) $Comparison:ident;)*) => {
        impl<T> Subject<T> {
            $(
                #[$doc]
                pub fn $method(self, $($x: impl Into<T>),+) -> Rule {
                    self.is(Condition::$Comparison($($x.into()),+))
                }
            )*

            /// `in [x, y, …]`
            pub fn is_in<X: Into<T>>(self, list: impl IntoIterator<Item = X>) -> Rule {
                self.is(Condition::is_in(list))
            }

            /// `not in [x, y, …]`
            pub fn is_not_in<X: Into<T>>(self, list: impl IntoIterator<Item = X>) -> Rule {
                self.is(Condition::is_not_in(list))
            }
        }
    };
}
comparisons! {
    /// `= x`
    equal(x) Equal;
    /// `!= x`
    not_equal(x) NotEqual;
    /// `> x`
    greater_than(x) GreaterThan;
    /// `>= x`
    at_least(x) AtLeast;
    /// `< x`
    less_than(x) LessThan;
    /// `<= x`
    at_most(x) AtMost;
    /// `between x and y`
    between(x, y) Between;
    /// `not between x and y`
    not_between(x, y) NotBetween;
}

/// An operand of [`column_values`]: a number, a date, a text, or an `Option` of them, of which `None` is `NULL`.
pub trait ColumnValue {
    /// The operand.
    fn into_value(self) -> Value;
}

/// An operand of [`column_values`] that has an order: a number or a date.
pub trait OrderedValue: ColumnValue {}

macro_rules! column_values {
    ($($Type:ty as $Variant:ident),* $(,)?) => { $(
        impl ColumnValue for $Type {
            fn into_value(self) -> Value {
                Value::$Variant(self.into())
            }
        }
    )* };
}
column_values!(
    i32 as Number,
    i64 as Number,
    u32 as Number,
    u64 as Number,
    usize as Number,
    f64 as Number,
    Number as Number,
    NaiveDate as Date,
    DateValue as Date,
    &str as String,
    String as String,
    StringValue as String,
);

macro_rules! ordered { ($($Type:ty)*) => { $( impl OrderedValue for $Type {} )* } }
ordered!(i32 i64 u32 u64 usize f64 Number NaiveDate DateValue);

impl<V: ColumnValue> ColumnValue for Option<V> {
    fn into_value(self) -> Value {
        self.map_or(Value::String(StringValue::Null), V::into_value)
    }
}

/// The beginning of a rule on the values of a column.
///
/// All operands of a condition have one type. Texts that look like dates or times are taken for them, as in DQDL.
#[must_use = "a condition makes it a rule"]
pub struct ColumnValues(Text);

macro_rules! ordered_comparisons {
    ($(#[$doc:meta] $method:ident($($x:ident),+) $Comparison:ident;)*) => {
        impl ColumnValues {
            $(
                #[$doc]
                pub fn $method<V: OrderedValue>(self, $($x: V),+) -> Rule {
                    self.compared(Condition::$Comparison($($x.into_value()),+))
                }
            )*
        }
    };
}
ordered_comparisons! {
    /// `> x`
    greater_than(x) GreaterThan;
    /// `>= x`
    at_least(x) AtLeast;
    /// `< x`
    less_than(x) LessThan;
    /// `<= x`
    at_most(x) AtMost;
    /// `between x and y`
    between(x, y) Between;
    /// `not between x and y`
    not_between(x, y) NotBetween;
}

impl ColumnValues {
    /// `= x`
    pub fn equal(self, x: impl ColumnValue) -> Rule {
        self.compared(Condition::Equal(x.into_value()))
    }

    /// `!= x`
    pub fn not_equal(self, x: impl ColumnValue) -> Rule {
        self.compared(Condition::NotEqual(x.into_value()))
    }

    /// `in [x, y, …]`
    pub fn is_in<V: ColumnValue>(self, list: impl IntoIterator<Item = V>) -> Rule {
        self.compared(Condition::In(list.into_iter().map(V::into_value).collect()))
    }

    /// `not in [x, y, …]`
    pub fn is_not_in<V: ColumnValue>(self, list: impl IntoIterator<Item = V>) -> Rule {
        self.compared(Condition::NotIn(list.into_iter().map(V::into_value).collect()))
    }

    /// `matches "[a-z]+"`
    pub fn matches(self, pattern: impl Into<Pattern>) -> Rule {
        self.is(ValueCondition::Strings(StringCondition::Matches(pattern.into())))
    }

    /// `not matches "[a-z]+"`
    pub fn not_matches(self, pattern: impl Into<Pattern>) -> Rule {
        self.is(ValueCondition::Strings(StringCondition::NotMatches(pattern.into())))
    }

    /// The rule with a condition.
    pub fn is(self, condition: ValueCondition) -> Rule {
        Rule::new(Check::ColumnValues { column: self.0, condition })
    }

    fn compared(self, condition: Condition<Value>) -> Rule {
        // Types leave one fault: a text such as "25:00", which `RuleSet::check` refuses as it is written.
        let as_texts = || {
            let texts = condition.operands().filter_map(|value| match value {
                Value::String(value) => Some(value.clone()),
                _ => None,
            });
            ValueCondition::Strings(StringCondition::In(texts.collect()))
        };
        let condition = of_values(condition.clone()).unwrap_or_else(|_| as_texts());
        self.is(condition)
    }
}

/// The beginning of a rule that compares a text.
#[must_use = "a condition makes it a rule"]
pub struct TextSubject(Box<dyn FnOnce(StringCondition) -> Check>);

impl TextSubject {
    /// `= "a"`
    pub fn equal(self, x: impl Into<StringValue>) -> Rule {
        self.is(StringCondition::Equal(x.into()))
    }

    /// `!= "a"`
    pub fn not_equal(self, x: impl Into<StringValue>) -> Rule {
        self.is(StringCondition::NotEqual(x.into()))
    }

    /// `in ["a", "b"]`
    pub fn is_in<V: Into<StringValue>>(self, list: impl IntoIterator<Item = V>) -> Rule {
        self.is(StringCondition::In(list.into_iter().collect::<StringList>()))
    }

    /// `not in ["a", "b"]`
    pub fn is_not_in<V: Into<StringValue>>(self, list: impl IntoIterator<Item = V>) -> Rule {
        self.is(StringCondition::NotIn(list.into_iter().collect::<StringList>()))
    }

    /// The rule with a condition.
    pub fn is(self, condition: StringCondition) -> Rule {
        Rule::new(self.0(condition))
    }
}

/// Any metric as the beginning of a rule.
pub fn metric(metric: Metric) -> Subject<Number> {
    Subject::new(move |condition| Check::Metric { metric, condition })
}

/// `RowCount`
pub fn row_count() -> Subject<Number> {
    metric(Metric::RowCount)
}

/// `ColumnCount`
pub fn column_count() -> Subject<Number> {
    metric(Metric::ColumnCount)
}

macro_rules! metrics_of_a_column {
    ($($function:ident $Metric:ident $doc:literal),* $(,)?) => { $(
        #[doc = $doc]
        pub fn $function(column: impl Into<Text>) -> Subject<Number> {
            metric(Metric::$Metric { column: column.into() })
        }
    )* };
}
metrics_of_a_column!(
    completeness Completeness "`Completeness \"column\"`",
    unique_value_ratio UniqueValueRatio "`UniqueValueRatio \"column\"`",
    distinct_values_count DistinctValuesCount "`DistinctValuesCount \"column\"`",
    mean Mean "`Mean \"column\"`",
    sum Sum "`Sum \"column\"`",
    standard_deviation StandardDeviation "`StandardDeviation \"column\"`",
    variance Variance "`Variance \"column\"`",
    entropy Entropy "`Entropy \"column\"`",
    zeros_count ZerosCount "`ZerosCount \"column\"`",
    range Range "`Range \"column\"`",
    interquartile_range InterquartileRange "`InterquartileRange \"column\"`",
    skewness Skewness "`Skewness \"column\"`",
    kurtosis Kurtosis "`Kurtosis \"column\"`",
);

fn texts<C: Into<Text>>(columns: impl IntoIterator<Item = C>) -> Vec<Text> {
    columns.into_iter().map(Into::into).collect()
}

/// `Uniqueness "a" "b"`
pub fn uniqueness<C: Into<Text>>(columns: impl IntoIterator<Item = C>) -> Subject<Number> {
    metric(Metric::Uniqueness { columns: texts(columns) })
}

/// `DuplicateRowCount "a" "b"`; without columns, rows are compared as wholes.
pub fn duplicate_row_count<C: Into<Text>>(columns: impl IntoIterator<Item = C>) -> Subject<Number> {
    metric(Metric::DuplicateRowCount { columns: texts(columns) })
}

/// `ColumnCorrelation "a" "b"`
pub fn column_correlation(first: impl Into<Text>, second: impl Into<Text>) -> Subject<Number> {
    metric(Metric::ColumnCorrelation { first: first.into(), second: second.into() })
}

/// `IsComplete "column"`
pub fn is_complete(column: impl Into<Text>) -> Rule {
    Rule::new(Check::IsComplete { column: column.into() })
}

/// `IsUnique "a" "b"`
pub fn is_unique<C: Into<Text>>(columns: impl IntoIterator<Item = C>) -> Rule {
    Rule::new(Check::IsUnique { columns: texts(columns) })
}

/// `IsPrimaryKey "a" "b"`
pub fn is_primary_key<C: Into<Text>>(columns: impl IntoIterator<Item = C>) -> Rule {
    Rule::new(Check::IsPrimaryKey { columns: texts(columns) })
}

/// `ColumnExists "column"`
pub fn column_exists(column: impl Into<Text>) -> Rule {
    Rule::new(Check::ColumnExists { column: column.into() })
}

/// `ColumnNamesMatchPattern "[a-z_]+"`
pub fn column_names_match_pattern(pattern: impl Into<Pattern>) -> Rule {
    Rule::new(Check::ColumnNamesMatchPattern { pattern: pattern.into() })
}

/// `ColumnDataType "column"`
pub fn column_data_type(column: impl Into<Text>) -> TextSubject {
    let column = column.into();
    TextSubject(Box::new(move |condition| Check::ColumnDataType { column, condition }))
}

/// `ColumnLength "column"`
pub fn column_length(column: impl Into<Text>) -> Subject<Number> {
    let column = column.into();
    Subject::new(move |condition| Check::ColumnLength { column, condition })
}

/// `ColumnValues "column"`
pub fn column_values(column: impl Into<Text>) -> ColumnValues {
    ColumnValues(column.into())
}

/// `DataFreshness "column"`
pub fn data_freshness(column: impl Into<Text>) -> Subject<Duration> {
    let column = column.into();
    Subject::new(move |condition| Check::DataFreshness { column, condition })
}

/// `RowCountMatch "reference"`
pub fn row_count_match(reference: impl Into<Text>) -> Subject<Number> {
    let reference = reference.into();
    Subject::new(move |condition| Check::RowCountMatch { reference, condition })
}

/// `SchemaMatch "reference"`
pub fn schema_match(reference: impl Into<Text>) -> Subject<Number> {
    let reference = reference.into();
    Subject::new(move |condition| Check::SchemaMatch { reference, condition })
}

/// `ReferentialIntegrity "city,state" "reference.{city,state}"`
pub fn referential_integrity(columns: ColumnList, reference: ReferenceColumns) -> Subject<Number> {
    Subject::new(move |condition| Check::ReferentialIntegrity { columns, reference, condition })
}

/// `DatasetMatch "reference" "key" "column"`; without `columns`, all that are not keys are compared.
pub fn dataset_match(reference: impl Into<Text>, keys: ColumnPairs, columns: Option<ColumnPairs>) -> Subject<Number> {
    let reference = reference.into();
    Subject::new(move |condition| Check::DatasetMatch { reference, keys, columns, condition })
}

/// `AggregateMatch "sum(amount)" "sum(reference.amount)"`
pub fn aggregate_match(first: Aggregation, second: Aggregation) -> Subject<Number> {
    Subject::new(move |condition| Check::AggregateMatch { first, second, condition })
}

/// `CustomSql "select count(*) from primary"`
pub fn custom_sql(statement: impl Into<Text>) -> Subject<Number> {
    let statement = statement.into();
    Subject::new(move |condition| Check::CustomSql { statement, condition: Some(condition) })
}

/// `CustomSql "select id from primary where …"`: the statement returns the rows that pass.
pub fn custom_sql_rows(statement: impl Into<Text>) -> Rule {
    Rule::new(Check::CustomSql { statement: statement.into(), condition: None })
}

/// `DetectAnomalies "RowCount"`
pub fn detect_anomalies(of: impl Into<Analysis>) -> Rule {
    Rule::new(Check::DetectAnomalies { of: of.into() })
}

/// `FileFreshness "s3://…"`, or of the files that the data was read from.
pub fn file_freshness(path: Option<&str>) -> Subject<DateValue> {
    let path = path.map(Text::from);
    Subject::new(move |condition| Check::FileFreshness { path, condition })
}

/// `FileUniqueness "s3://…"`, or of the files that the data was read from.
pub fn file_uniqueness(path: Option<&str>) -> Subject<Number> {
    let path = path.map(Text::from);
    Subject::new(move |condition| Check::FileUniqueness { path, condition })
}

/// `FileSize "s3://…"`, or of the files that the data was read from.
pub fn file_size(path: Option<&str>) -> Subject<Size> {
    let path = path.map(Text::from);
    Subject::new(move |condition| Check::FileSize { path, condition })
}

/// `FileMatch "s3://…"`, or of the files that the data was read from, compared with checksums.
pub fn file_checksums(path: Option<&str>) -> TextSubject {
    let path = path.map(Text::from);
    TextSubject(Box::new(move |condition| Check::FileMatch(FileMatch::Checksums { path, condition })))
}

/// `FileMatch "s3://a" "s3://b"`: the files at two paths have the same contents.
pub fn file_match(path: impl Into<Text>, other: impl Into<Text>) -> Rule {
    Rule::new(Check::FileMatch(FileMatch::Paths { path: path.into(), other: other.into() }))
}
