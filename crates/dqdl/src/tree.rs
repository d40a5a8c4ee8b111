//! The syntax tree.

use crate::condition::{
    DateCondition, DurationCondition, NumberCondition, Pattern, SizeCondition, StringCondition, StringValue,
    ValueCondition,
};
use crate::text::{Aggregation, ColumnList, ColumnPairs, ReferenceColumns, Text};

/// A set of rules: a DQDL document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// `Metadata = { … }`
    pub metadata: Metadata,
    /// `DataSources = { … }`
    pub data_sources: DataSources,
    /// `DefaultLabels = [ … ]`: the labels of all rules, unless a rule has one with the same key.
    pub default_labels: Vec<Label>,
    /// The constants that are declared. Those that rules use are resolved in the rules.
    pub variables: Vec<Variable>,
    /// `Rules = [ … ]`
    pub rules: Vec<Rule>,
    /// `Analyzers = [ … ]`: what is measured without being judged.
    pub analyzers: Vec<Analyzer>,
}

impl RuleSet {
    /// The labels that a rule of this set has: its own, and the default ones with other keys.
    pub fn labels_of<'a>(&'a self, rule: &'a Rule) -> impl Iterator<Item = &'a Label> {
        let is_replaced = |label: &&Label| rule.labels.iter().any(|own| own.key == label.key);
        self.default_labels.iter().filter(move |label| !is_replaced(label)).chain(&rule.labels)
    }

    /// Whether any rule depends on earlier runs.
    pub fn is_dynamic(&self) -> bool {
        self.rules.iter().any(Rule::is_dynamic)
    }
}

/// What a set says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The version of the set, as its author counts them.
    pub version: Option<String>,
}

/// The data sets that rules speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSources {
    /// The data set that rules check.
    pub primary: Option<String>,
    /// The aliases of others, which it is compared with.
    pub additional: Vec<String>,
}

/// A constant: `codes = ["a", "b"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name, without `$`.
    pub name: String,
    /// Its value.
    pub value: VariableValue,
}

/// The value of a [`Variable`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableValue {
    /// `"a"`
    One(StringValue),
    /// `["a", "b"]`; never empty.
    List(Vec<StringValue>),
}

/// A pair `"key" = "value"` that is passed on with the outcome of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// 1 to 128 characters, unique among the labels of a rule.
    pub key: String,
    /// 1 to 256 characters.
    pub value: String,
}

/// An option of a rule: `with timeZone = "Europe/Zurich"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its name, which is never `threshold`.
    pub name: String,
    /// Its value. A number is the text of its digits, as in Glue.
    pub value: String,
}

/// Where something begins in the text: line and column from 1, in characters; both 0 if it was not parsed.
///
/// **Any two are equal**, so that trees are equal wherever they were written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    /// The line, from 1.
    pub line: u32,
    /// The column, from 1.
    pub column: u32,
}

impl PartialEq for Position {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Position {}

/// A rule: what is checked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What is checked.
    pub check: Check,
    /// `where "…"`: the SQL condition of the rows that count.
    pub filter: Option<String>,
    /// `with threshold …`: the share of rows that must pass, from 0 to 1. All of them if it is missing.
    pub threshold: Option<NumberCondition>,
    /// `with name = "value"`: other options.
    pub tags: Vec<Tag>,
    /// `labels = [ … ]`: its own labels; see [`RuleSet::labels_of`].
    pub labels: Vec<Label>,
    /// Where it begins.
    pub position: Position,
}

impl Rule {
    /// A rule without options.
    pub fn new(check: Check) -> Self {
        let (filter, threshold, tags, labels) = (None, None, Vec::new(), Vec::new());
        Self { check, filter, threshold, tags, labels, position: Position::default() }
    }

    /// The value of a tag.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.iter().find(|tag| tag.name == name).map(|tag| tag.value.as_str())
    }

    /// Whether it depends on earlier runs.
    pub fn is_dynamic(&self) -> bool {
        self.threshold.iter().chain(self.check.number_condition()).any(NumberCondition::is_dynamic)
            || self.check.parts().iter().any(Self::is_dynamic)
    }

    /// Whether each row passes or fails by itself: of composite rules, whether all their parts are so.
    pub fn is_row_level(&self) -> bool {
        self.check.is_row_level()
    }

    /// Whether the rule, or each part of a composite one, can be evaluated so. By Glue's guide, what is judged by a share
    /// of rows cannot be evaluated row by row: thresholds, and four types of rules.
    pub fn allows(&self, evaluation: CompositeEvaluation) -> bool {
        match evaluation {
            CompositeEvaluation::Dataset => true,
            CompositeEvaluation::Row => {
                self.threshold.is_none()
                    && !self.check.is_judged_by_a_share()
                    && self.check.parts().iter().all(|part| part.allows(evaluation))
            }
        }
    }
}

/// How composite rules are evaluated: Glue's option `compositeRuleEvaluation.method`, which is not a part of DQDL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompositeEvaluation {
    /// `DATASET`: each part is judged over all rows, then the outcomes are combined.
    #[default]
    Dataset,
    /// `ROW`: the parts are combined in each row, and the rule passes if all rows do.
    Row,
}

/// What a rule checks: a variant for each type of rule, those on a single number being in [`Metric`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `(…) and (…)`: all of them pass. At least two.
    And(Vec<Rule>),
    /// `(…) or (…)`: one of them passes. At least two.
    Or(Vec<Rule>),
    /// `RowCount > 0`: a number that is measured, and its condition.
    Metric {
        /// What is measured.
        metric: Metric,
        /// What the number must be.
        condition: NumberCondition,
    },
    /// `IsComplete "column"`: no null.
    IsComplete {
        /// The column.
        column: Text,
    },
    /// `IsUnique "a" "b"`: no row has the same values as another.
    IsUnique {
        /// At least one column.
        columns: Vec<Text>,
    },
    /// `IsPrimaryKey "a" "b"`: unique, and no null.
    IsPrimaryKey {
        /// At least one column.
        columns: Vec<Text>,
    },
    /// `ColumnExists "column"`
    ColumnExists {
        /// The column.
        column: Text,
    },
    /// `ColumnNamesMatchPattern "[a-z_]+"`
    ColumnNamesMatchPattern {
        /// What a part of each name must match.
        pattern: Pattern,
    },
    /// `ColumnDataType "column" = "Date"`: values can be read as a type, or are of it.
    ColumnDataType {
        /// The column.
        column: Text,
        /// The names of types.
        condition: StringCondition,
    },
    /// `ColumnLength "column" between 3 and 5`: the number of characters of each value.
    ColumnLength {
        /// The column.
        column: Text,
        /// What each length must be.
        condition: NumberCondition,
    },
    /// `ColumnValues "column" in ["a", "b"]`
    ColumnValues {
        /// The column.
        column: Text,
        /// What each value must be.
        condition: ValueCondition,
    },
    /// `DataFreshness "column" <= 24 hours`: the age of each value.
    DataFreshness {
        /// The column, of dates or times.
        column: Text,
        /// What each age must be.
        condition: DurationCondition,
    },
    /// `RowCountMatch "reference" >= 0.9`: our number of rows divided by the other data set's.
    RowCountMatch {
        /// The alias of the other data set.
        reference: Text,
        /// What the ratio must be.
        condition: NumberCondition,
    },
    /// `ReferentialIntegrity "city,state" "reference.{city,state}" >= 0.9`: the share of values that the other data set
    /// has.
    ReferentialIntegrity {
        /// Our columns.
        columns: ColumnList,
        /// The other data set's.
        reference: ReferenceColumns,
        /// What the share must be.
        condition: NumberCondition,
    },
    /// `DatasetMatch "reference" "id" "name->full_name" >= 0.9`: the share of rows that the other data set has, too.
    DatasetMatch {
        /// The alias of the other data set.
        reference: Text,
        /// The columns by which rows are joined.
        keys: ColumnPairs,
        /// The columns that are compared; all others if it is missing.
        columns: Option<ColumnPairs>,
        /// What the share must be.
        condition: NumberCondition,
    },
    /// `SchemaMatch "reference" = 1.0`: the share of columns that the other data set has with the same type.
    SchemaMatch {
        /// The alias of the other data set.
        reference: Text,
        /// What the share must be.
        condition: NumberCondition,
    },
    /// `AggregateMatch "sum(amount)" "sum(reference.amount)" >= 0.95`: the first divided by the second.
    AggregateMatch {
        /// The dividend.
        first: Aggregation,
        /// The divisor.
        second: Aggregation,
        /// What the ratio must be.
        condition: NumberCondition,
    },
    /// `CustomSql "select count(*) from primary" > 0`, or without a condition: the statement returns the rows that pass.
    CustomSql {
        /// The statement. The data set is named `primary`.
        statement: Text,
        /// What its single number must be.
        condition: Option<NumberCondition>,
    },
    /// `DetectAnomalies "RowCount"`: a number is in line with those of earlier runs.
    DetectAnomalies {
        /// What is measured; never [`Analysis::AllStatistics`].
        of: Analysis,
    },
    /// `FileFreshness "s3://…" > (now() - 24 hours)`: when files were changed.
    FileFreshness {
        /// A file or folder; if it is missing, the files that the data was read from.
        path: Option<Text>,
        /// What each time must be.
        condition: DateCondition,
    },
    /// `FileMatch "s3://…" in ["3ee0d8…"]` or `FileMatch "s3://a" "s3://b"`
    FileMatch(FileMatch),
    /// `FileUniqueness "s3://…" > 0.9`: the share of files with contents that no other has.
    FileUniqueness {
        /// A folder; if it is missing, the files that the data was read from.
        path: Option<Text>,
        /// What the share must be.
        condition: NumberCondition,
    },
    /// `FileSize "s3://…" < 2 GB`
    FileSize {
        /// A file or folder; if it is missing, the files that the data was read from.
        path: Option<Text>,
        /// What each size must be.
        condition: SizeCondition,
    },
}

/// What the contents of files are compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileMatch {
    /// `FileMatch "s3://a" "s3://b"`: those of other files.
    Paths {
        /// A file or folder.
        path: Text,
        /// Another one.
        other: Text,
    },
    /// `FileMatch "s3://a" in ["3ee0d8…"]`: checksums, by the tag `hashAlgorithm`.
    Checksums {
        /// A file or folder; if it is missing, the files that the data was read from.
        path: Option<Text>,
        /// The checksums.
        condition: StringCondition,
    },
}

/// A number that is measured of a data set: what rules judge by a [`NumberCondition`], and analyzers report.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// `RowCount`
    RowCount,
    /// `ColumnCount`
    ColumnCount,
    /// `Completeness "column"`: the share of rows that have a value.
    Completeness {
        /// The column.
        column: Text,
    },
    /// `Uniqueness "a" "b"`: the share of rows with values that no other row has.
    Uniqueness {
        /// At least one column.
        columns: Vec<Text>,
    },
    /// `UniqueValueRatio "column"`: the number of values that occur once, divided by that of distinct values.
    UniqueValueRatio {
        /// The column.
        column: Text,
    },
    /// `DistinctValuesCount "column"`
    DistinctValuesCount {
        /// The column.
        column: Text,
    },
    /// `Mean "column"`
    Mean {
        /// The column.
        column: Text,
    },
    /// `Sum "column"`
    Sum {
        /// The column.
        column: Text,
    },
    /// `StandardDeviation "column"`
    StandardDeviation {
        /// The column.
        column: Text,
    },
    /// `Variance "column"`
    Variance {
        /// The column.
        column: Text,
    },
    /// `Entropy "column"`: Shannon's, of the distribution of values.
    Entropy {
        /// The column.
        column: Text,
    },
    /// `ColumnCorrelation "a" "b"`: Pearson's coefficient.
    ColumnCorrelation {
        /// A column.
        first: Text,
        /// Another one.
        second: Text,
    },
    /// `ZerosCount "column"`: how many values are 0. In Deequ, not in Glue.
    ZerosCount {
        /// The column.
        column: Text,
    },
    /// `DuplicateRowCount "a" "b"`: how many rows another row equals. In Deequ, not in Glue.
    DuplicateRowCount {
        /// The columns that are compared; all of them if it is empty.
        columns: Vec<Text>,
    },
    /// `Range "column"`: the greatest value minus the least. In Deequ, not in Glue.
    Range {
        /// The column.
        column: Text,
    },
    /// `InterquartileRange "column"`: the third quartile minus the first. In Deequ, not in Glue.
    InterquartileRange {
        /// The column.
        column: Text,
    },
    /// `Skewness "column"`. In Deequ, not in Glue.
    Skewness {
        /// The column.
        column: Text,
    },
    /// `Kurtosis "column"`. In Deequ, not in Glue.
    Kurtosis {
        /// The column.
        column: Text,
    },
}

/// An analyzer: what is measured and reported, and kept for the rules of later runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analyzer {
    /// What is measured.
    pub analysis: Analysis,
    /// Where it begins.
    pub position: Position,
}

/// What an [`Analyzer`] measures.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Analysis {
    /// `RowCount`, `Completeness "column"`, …
    Metric(Metric),
    /// `ColumnLength "column"`: the shortest and the longest.
    ColumnLength {
        /// The column.
        column: Text,
    },
    /// `ColumnValues "column"`: the least and the greatest.
    ColumnValues {
        /// The column.
        column: Text,
    },
    /// `AllStatistics "column"`, `AllStatistics of AllColumns`: everything that its type allows.
    AllStatistics {
        /// The column; all of them if it is missing.
        column: Option<Text>,
    },
}

impl From<Analysis> for Analyzer {
    fn from(analysis: Analysis) -> Self {
        Self { analysis, position: Position::default() }
    }
}

impl From<Metric> for Analysis {
    fn from(metric: Metric) -> Self {
        Self::Metric(metric)
    }
}

impl From<Metric> for Analyzer {
    fn from(metric: Metric) -> Self {
        Analysis::Metric(metric).into()
    }
}

impl Check {
    /// The name of the type of rule, as in DQDL; `Composite`, as in Glue's results, for [`And`](Self::And) and
    /// [`Or`](Self::Or).
    pub fn name(&self) -> &'static str {
        match self {
            Self::And(_) | Self::Or(_) => "Composite",
            Self::Metric { metric, .. } => metric.name(),
            Self::IsComplete { .. } => "IsComplete",
            Self::IsUnique { .. } => "IsUnique",
            Self::IsPrimaryKey { .. } => "IsPrimaryKey",
            Self::ColumnExists { .. } => "ColumnExists",
            Self::ColumnNamesMatchPattern { .. } => "ColumnNamesMatchPattern",
            Self::ColumnDataType { .. } => "ColumnDataType",
            Self::ColumnLength { .. } => "ColumnLength",
            Self::ColumnValues { .. } => "ColumnValues",
            Self::DataFreshness { .. } => "DataFreshness",
            Self::RowCountMatch { .. } => "RowCountMatch",
            Self::ReferentialIntegrity { .. } => "ReferentialIntegrity",
            Self::DatasetMatch { .. } => "DatasetMatch",
            Self::SchemaMatch { .. } => "SchemaMatch",
            Self::AggregateMatch { .. } => "AggregateMatch",
            Self::CustomSql { .. } => "CustomSql",
            Self::DetectAnomalies { .. } => "DetectAnomalies",
            Self::FileFreshness { .. } => "FileFreshness",
            Self::FileMatch(_) => "FileMatch",
            Self::FileUniqueness { .. } => "FileUniqueness",
            Self::FileSize { .. } => "FileSize",
        }
    }

    /// The parts of a composite rule; of any other, none.
    pub fn parts(&self) -> &[Rule] {
        match self {
            Self::And(rules) | Self::Or(rules) => rules,
            _ => &[],
        }
    }

    /// The condition, if it is one on numbers.
    pub fn number_condition(&self) -> Option<&NumberCondition> {
        match self {
            Self::Metric { condition, .. }
            | Self::ColumnLength { condition, .. }
            | Self::ColumnValues { condition: ValueCondition::Numbers { condition, .. }, .. }
            | Self::RowCountMatch { condition, .. }
            | Self::ReferentialIntegrity { condition, .. }
            | Self::DatasetMatch { condition, .. }
            | Self::SchemaMatch { condition, .. }
            | Self::AggregateMatch { condition, .. }
            | Self::FileUniqueness { condition, .. } => Some(condition),
            Self::CustomSql { condition, .. } => condition.as_ref(),
            _ => None,
        }
    }

    /// Those that Glue excludes from the evaluation row by row.
    fn is_judged_by_a_share(&self) -> bool {
        matches!(
            self,
            Self::Metric { metric: Metric::Completeness { .. } | Metric::Uniqueness { .. }, .. }
                | Self::DatasetMatch { .. }
                | Self::ReferentialIntegrity { .. }
        )
    }

    /// Whether each row passes or fails by itself.
    fn is_row_level(&self) -> bool {
        match self {
            Self::And(rules) | Self::Or(rules) => rules.iter().all(Rule::is_row_level),
            Self::IsComplete { .. }
            | Self::IsUnique { .. }
            | Self::IsPrimaryKey { .. }
            | Self::ColumnDataType { .. }
            | Self::ColumnLength { .. }
            | Self::ColumnValues { .. }
            | Self::DataFreshness { .. }
            | Self::CustomSql { condition: None, .. } => true,
            _ => false,
        }
    }
}

impl Metric {
    /// Its name in DQDL.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RowCount => "RowCount",
            Self::ColumnCount => "ColumnCount",
            Self::Completeness { .. } => "Completeness",
            Self::Uniqueness { .. } => "Uniqueness",
            Self::UniqueValueRatio { .. } => "UniqueValueRatio",
            Self::DistinctValuesCount { .. } => "DistinctValuesCount",
            Self::Mean { .. } => "Mean",
            Self::Sum { .. } => "Sum",
            Self::StandardDeviation { .. } => "StandardDeviation",
            Self::Variance { .. } => "Variance",
            Self::Entropy { .. } => "Entropy",
            Self::ColumnCorrelation { .. } => "ColumnCorrelation",
            Self::ZerosCount { .. } => "ZerosCount",
            Self::DuplicateRowCount { .. } => "DuplicateRowCount",
            Self::Range { .. } => "Range",
            Self::InterquartileRange { .. } => "InterquartileRange",
            Self::Skewness { .. } => "Skewness",
            Self::Kurtosis { .. } => "Kurtosis",
        }
    }

    /// The columns that it is measured of, in order.
    pub fn columns(&self) -> Vec<&Text> {
        match self {
            Self::RowCount | Self::ColumnCount => Vec::new(),
            Self::Completeness { column }
            | Self::UniqueValueRatio { column }
            | Self::DistinctValuesCount { column }
            | Self::Mean { column }
            | Self::Sum { column }
            | Self::StandardDeviation { column }
            | Self::Variance { column }
            | Self::Entropy { column }
            | Self::ZerosCount { column }
            | Self::Range { column }
            | Self::InterquartileRange { column }
            | Self::Skewness { column }
            | Self::Kurtosis { column } => vec![column],
            Self::Uniqueness { columns } | Self::DuplicateRowCount { columns } => columns.iter().collect(),
            Self::ColumnCorrelation { first, second } => vec![first, second],
        }
    }
}
