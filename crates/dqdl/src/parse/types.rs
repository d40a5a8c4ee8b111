//! The types of rules: their names, parameters and conditions.

use crate::condition::{
    DateCondition, DurationCondition, NumberCondition, Pattern, SizeCondition, StringCondition, ValueCondition,
};
use crate::text::{ColumnList, ReferenceColumns, Text};
use crate::tree::{Check, Metric};

/// A type of rule.
pub(super) struct RuleType {
    pub(super) name: &'static str,
    /// How it is written, for errors.
    pub(super) usage: &'static str,
    /// How many parameters it takes, at least and at most.
    pub(super) parameters: (usize, usize),
    pub(super) form: Form,
    /// Whether it takes `where`.
    pub(super) filter: bool,
    /// Whether it takes `with threshold`.
    pub(super) threshold: bool,
}

/// A check, or what is wrong with the parameter of that number.
type Checked = Result<Check, (usize, &'static str)>;

/// What is made of the parameters, and of which condition.
pub(super) enum Form {
    /// No condition.
    Plain(fn(Parameters) -> Check),
    /// A regular expression, and no condition.
    Pattern(fn(Pattern) -> Check),
    /// A number that analyzers can measure, too.
    Metric(fn(Parameters) -> Metric),
    Number(fn(Parameters, NumberCondition) -> Checked),
    OptionalNumber(fn(Parameters, Option<NumberCondition>) -> Check),
    Values(fn(Parameters, ValueCondition) -> Check),
    Strings(fn(Parameters, StringCondition) -> Check),
    Dates(fn(Parameters, DateCondition) -> Check),
    Durations(fn(Parameters, DurationCondition) -> Check),
    Sizes(fn(Parameters, SizeCondition) -> Check),
    /// Two paths, or a condition.
    FileMatch,
    /// The parameters are a metric.
    DetectAnomalies,
    /// It is an analyzer only.
    AllStatistics,
}

/// Parameters, whose number has been checked.
pub(super) struct Parameters(pub(super) std::vec::IntoIter<Text>);

impl Parameters {
    pub(super) fn next(&mut self) -> Text {
        self.optional().unwrap_or_default()
    }

    pub(super) fn optional(&mut self) -> Option<Text> {
        self.0.next()
    }

    fn all(self) -> Vec<Text> {
        self.0.collect()
    }
}

const MANY: usize = usize::MAX;

impl RuleType {
    const fn new(name: &'static str, usage: &'static str, parameters: (usize, usize), form: Form) -> Self {
        Self { name, usage, parameters, form, filter: false, threshold: false }
    }

    const fn with_filter(mut self) -> Self {
        self.filter = true;
        self
    }

    const fn with_threshold(mut self) -> Self {
        self.threshold = true;
        self
    }

    /// The type with this name.
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        TYPES.iter().find(|kind| kind.name == name)
    }

    /// The name that is most like another one, if any is like it.
    pub(super) fn nearest(name: &str) -> Option<&'static str> {
        // Nobody mistypes a name like this, and comparing takes time.
        if name.len() > 64 {
            return None;
        }
        let lower = name.to_ascii_lowercase();
        let distance = |kind: &Self| strsim::osa_distance(&lower, &kind.name.to_ascii_lowercase());
        let (distance, nearest) = TYPES.iter().map(|kind| (distance(kind), kind.name)).min()?;
        (distance <= 1 + nearest.len() / 4).then_some(nearest)
    }
}

pub(super) static TYPES: &[RuleType] = &[
    RuleType::new("RowCount", "RowCount > 0", (0, 0), Form::Metric(|_| Metric::RowCount)).with_filter(),
    RuleType::new("ColumnCount", "ColumnCount = 5", (0, 0), Form::Metric(|_| Metric::ColumnCount)),
    RuleType::new(
        "Completeness",
        r#"Completeness "column" > 0.9"#,
        (1, 1),
        Form::Metric(|mut p| Metric::Completeness { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "Uniqueness",
        r#"Uniqueness "column" "column" > 0.9"#,
        (1, MANY),
        Form::Metric(|p| Metric::Uniqueness { columns: p.all() }),
    )
    .with_filter(),
    RuleType::new(
        "UniqueValueRatio",
        r#"UniqueValueRatio "column" > 0.9"#,
        (1, 1),
        Form::Metric(|mut p| Metric::UniqueValueRatio { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "DistinctValuesCount",
        r#"DistinctValuesCount "column" > 3"#,
        (1, 1),
        Form::Metric(|mut p| Metric::DistinctValuesCount { column: p.next() }),
    )
    .with_filter(),
    RuleType::new("Mean", r#"Mean "column" > 3"#, (1, 1), Form::Metric(|mut p| Metric::Mean { column: p.next() }))
        .with_filter(),
    RuleType::new("Sum", r#"Sum "column" > 3"#, (1, 1), Form::Metric(|mut p| Metric::Sum { column: p.next() }))
        .with_filter(),
    RuleType::new(
        "StandardDeviation",
        r#"StandardDeviation "column" < 3"#,
        (1, 1),
        Form::Metric(|mut p| Metric::StandardDeviation { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "Variance",
        r#"Variance "column" < 3"#,
        (1, 1),
        Form::Metric(|mut p| Metric::Variance { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "Entropy",
        r#"Entropy "column" > 1"#,
        (1, 1),
        Form::Metric(|mut p| Metric::Entropy { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "ColumnCorrelation",
        r#"ColumnCorrelation "column" "column" > 0.5"#,
        (2, 2),
        Form::Metric(|mut p| Metric::ColumnCorrelation { first: p.next(), second: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "ZerosCount",
        r#"ZerosCount "column" < 3"#,
        (1, 1),
        Form::Metric(|mut p| Metric::ZerosCount { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "DuplicateRowCount",
        r#"DuplicateRowCount "column" "column" = 0"#,
        (0, MANY),
        Form::Metric(|p| Metric::DuplicateRowCount { columns: p.all() }),
    )
    .with_filter(),
    RuleType::new("Range", r#"Range "column" < 100"#, (1, 1), Form::Metric(|mut p| Metric::Range { column: p.next() }))
        .with_filter(),
    RuleType::new(
        "InterquartileRange",
        r#"InterquartileRange "column" < 100"#,
        (1, 1),
        Form::Metric(|mut p| Metric::InterquartileRange { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "Skewness",
        r#"Skewness "column" between -1 and 1"#,
        (1, 1),
        Form::Metric(|mut p| Metric::Skewness { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "Kurtosis",
        r#"Kurtosis "column" < 3"#,
        (1, 1),
        Form::Metric(|mut p| Metric::Kurtosis { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "IsComplete",
        r#"IsComplete "column""#,
        (1, 1),
        Form::Plain(|mut p| Check::IsComplete { column: p.next() }),
    )
    .with_filter(),
    RuleType::new(
        "IsUnique",
        r#"IsUnique "column" "column""#,
        (1, MANY),
        Form::Plain(|p| Check::IsUnique { columns: p.all() }),
    )
    .with_filter(),
    RuleType::new(
        "IsPrimaryKey",
        r#"IsPrimaryKey "column" "column""#,
        (1, MANY),
        Form::Plain(|p| Check::IsPrimaryKey { columns: p.all() }),
    )
    .with_filter(),
    RuleType::new(
        "ColumnExists",
        r#"ColumnExists "column""#,
        (1, 1),
        Form::Plain(|mut p| Check::ColumnExists { column: p.next() }),
    ),
    RuleType::new(
        "ColumnNamesMatchPattern",
        r#"ColumnNamesMatchPattern "[a-z_]+""#,
        (1, 1),
        Form::Pattern(|pattern| Check::ColumnNamesMatchPattern { pattern }),
    ),
    RuleType::new(
        "ColumnDataType",
        r#"ColumnDataType "column" = "Date""#,
        (1, 1),
        Form::Strings(|mut p, condition| Check::ColumnDataType { column: p.next(), condition }),
    )
    .with_filter()
    .with_threshold(),
    RuleType::new(
        "ColumnLength",
        r#"ColumnLength "column" between 3 and 5"#,
        (1, 1),
        Form::Number(|mut p, condition| Ok(Check::ColumnLength { column: p.next(), condition })),
    )
    .with_filter()
    .with_threshold(),
    RuleType::new(
        "ColumnValues",
        r#"ColumnValues "column" in ["a", "b"]"#,
        (1, 1),
        Form::Values(|mut p, condition| Check::ColumnValues { column: p.next(), condition }),
    )
    .with_filter()
    .with_threshold(),
    RuleType::new(
        "DataFreshness",
        r#"DataFreshness "column" <= 24 hours"#,
        (1, 1),
        Form::Durations(|mut p, condition| Check::DataFreshness { column: p.next(), condition }),
    )
    .with_filter(),
    RuleType::new(
        "RowCountMatch",
        r#"RowCountMatch "reference" > 0.9"#,
        (1, 1),
        Form::Number(|mut p, condition| Ok(Check::RowCountMatch { reference: p.next(), condition })),
    ),
    RuleType::new(
        "ReferentialIntegrity",
        r#"ReferentialIntegrity "city,state" "reference.{city,state}" > 0.9"#,
        (2, 2),
        Form::Number(|mut p, condition| {
            let columns = ColumnList::try_from(p.next()).map_err(|reason| (0, reason))?;
            let reference = ReferenceColumns::try_from(p.next()).map_err(|reason| (1, reason))?;
            if columns.columns().count() != reference.columns().count() {
                return Err((1, "expected as many columns as are compared with them"));
            }
            Ok(Check::ReferentialIntegrity { columns, reference, condition })
        }),
    ),
    RuleType::new(
        "DatasetMatch",
        r#"DatasetMatch "reference" "key" > 0.9` or `DatasetMatch "reference" "key" "column->column" > 0.9"#,
        (2, 3),
        Form::Number(|mut p, condition| {
            let reference = p.next();
            let keys = p.next().try_into().map_err(|reason| (1, reason))?;
            let columns = p.optional().map(TryInto::try_into).transpose().map_err(|reason| (2, reason))?;
            Ok(Check::DatasetMatch { reference, keys, columns, condition })
        }),
    ),
    RuleType::new(
        "SchemaMatch",
        r#"SchemaMatch "reference" = 1.0"#,
        (1, 1),
        Form::Number(|mut p, condition| Ok(Check::SchemaMatch { reference: p.next(), condition })),
    ),
    RuleType::new(
        "AggregateMatch",
        r#"AggregateMatch "sum(column)" "sum(reference.column)" > 0.9"#,
        (2, 2),
        Form::Number(|mut p, condition| {
            let first = p.next().try_into().map_err(|reason| (0, reason))?;
            let second = p.next().try_into().map_err(|reason| (1, reason))?;
            Ok(Check::AggregateMatch { first, second, condition })
        }),
    ),
    RuleType::new(
        "CustomSql",
        r#"CustomSql "select count(*) from primary" > 0"#,
        (1, 1),
        Form::OptionalNumber(|mut p, condition| Check::CustomSql { statement: p.next(), condition }),
    )
    .with_threshold(),
    RuleType::new("DetectAnomalies", r#"DetectAnomalies "RowCount""#, (1, MANY), Form::DetectAnomalies),
    RuleType::new("AllStatistics", r#"AllStatistics "column""#, (1, 1), Form::AllStatistics),
    RuleType::new(
        "FileFreshness",
        r#"FileFreshness "path" > (now() - 24 hours)"#,
        (0, 1),
        Form::Dates(|mut p, condition| Check::FileFreshness { path: p.optional(), condition }),
    )
    .with_threshold(),
    RuleType::new(
        "FileMatch",
        r#"FileMatch "path" in ["checksum"]`, `FileMatch in ["checksum"]` or `FileMatch "path" "path""#,
        (0, 2),
        Form::FileMatch,
    ),
    RuleType::new(
        "FileUniqueness",
        r#"FileUniqueness "path" > 0.9"#,
        (0, 1),
        Form::Number(|mut p, condition| Ok(Check::FileUniqueness { path: p.optional(), condition })),
    ),
    RuleType::new(
        "FileSize",
        r#"FileSize "path" < 2 GB"#,
        (0, 1),
        Form::Sizes(|mut p, condition| Check::FileSize { path: p.optional(), condition }),
    )
    .with_threshold(),
];
