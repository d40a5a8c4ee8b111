//! Trees as canonical DQDL.

use std::fmt::{self, Display, Formatter, Write};

use crate::condition::{
    Condition, DateValue, Duration, DurationUnit, Pattern, Size, SizeUnit, StringCondition, StringList, StringValue,
    ValueCondition,
};
use crate::number::{Aggregate, Dynamic, Number, Operator};
use crate::text::Text;
use crate::tree::{Analysis, Analyzer, Check, DataSources, FileMatch, Label, Metric, Rule, RuleSet, VariableValue};

/// The document, with every text in quotes, every part of a composite rule in parentheses, variables as they were used.
impl Display for RuleSet {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut sections = Sections { f, is_first: true };
        if let Some(version) = &self.metadata.version {
            sections.next("Metadata = ")?;
            block(sections.f, '{', '}', [Pair("Version", Quoted(version))])?;
        }
        let DataSources { primary, additional } = &self.data_sources;
        if primary.is_some() || !additional.is_empty() {
            let primary = primary.iter().map(|name| Pair("Primary", Quoted(name)).to_string());
            let list = List(additional.iter().map(|name| Quoted(name)).collect());
            let additional = (!additional.is_empty()).then(|| Pair("AdditionalDataSources", list).to_string());
            sections.next("DataSources = ")?;
            block(sections.f, '{', '}', primary.chain(additional))?;
        }
        for (i, variable) in self.variables.iter().enumerate() {
            if i == 0 {
                sections.next("")?
            } else {
                sections.f.write_char('\n')?
            }
            write!(sections.f, "{} = ", variable.name)?;
            match &variable.value {
                VariableValue::One(value) => Display::fmt(value, sections.f)?,
                VariableValue::List(values) => Display::fmt(&List(values.iter().collect()), sections.f)?,
            }
        }
        if !self.default_labels.is_empty() {
            sections.next("DefaultLabels = ")?;
            Display::fmt(&List(self.default_labels.iter().collect()), sections.f)?;
        }
        if !self.rules.is_empty() {
            sections.next("Rules = ")?;
            block(sections.f, '[', ']', &self.rules)?;
        }
        if !self.analyzers.is_empty() {
            sections.next("Analyzers = ")?;
            block(sections.f, '[', ']', &self.analyzers)?;
        }
        Ok(())
    }
}

struct Sections<'a, 'b> {
    f: &'a mut Formatter<'b>,
    is_first: bool,
}

impl Sections<'_, '_> {
    /// Begins a section, with an empty line before it.
    fn next(&mut self, heading: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.f.write_str("\n\n")?;
        }
        self.f.write_str(heading)
    }
}

/// Items in brackets, each on a line of its own.
fn block<T: Display>(
    f: &mut Formatter<'_>,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
) -> fmt::Result {
    f.write_char(open)?;
    for (i, item) in items.into_iter().enumerate() {
        write!(f, "{}\n    {item}", if i == 0 { "" } else { "," })?;
    }
    write!(f, "\n{close}")
}

/// Items between commas.
fn separated<T: Display>(f: &mut Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
    }
    Ok(())
}

/// `[a, b]`
struct List<T>(Vec<T>);

impl<T: Display> Display for List<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        separated(f, &self.0)?;
        f.write_char(']')
    }
}

/// `"key": value`
struct Pair<'a, T>(&'a str, T);

impl<T: Display> Display for Pair<'_, T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Quoted(self.0), self.1)
    }
}

/// A text between quotes.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for piece in self.0.split_inclusive(['"', '\\']) {
            match piece.char_indices().next_back() {
                Some((at, special @ ('"' | '\\'))) => write!(f, "{}\\{special}", &piece[..at])?,
                _ => f.write_str(piece)?,
            }
        }
        f.write_char('"')
    }
}

/// The text itself, without quotes.
impl Display for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// The expression itself, without quotes.
impl Display for Pattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// In quotes, or the name of its variable.
struct Written<'a, T>(&'a T);

impl Display for Written<'_, Text> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0.variable() {
            Some(variable) => write!(f, "${variable}"),
            None => Display::fmt(&Quoted(self.0), f),
        }
    }
}

/// With its backslashes as they are: these are the expression's own.
impl Display for Written<'_, Pattern> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for piece in self.0.as_str().split_inclusive('"') {
            match piece.strip_suffix('"') {
                Some(piece) => write!(f, "{piece}\\\"")?,
                None => f.write_str(piece)?,
            }
        }
        f.write_char('"')
    }
}

impl Display for StringValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => Display::fmt(&Written(text), f),
            Self::Null => f.write_str("NULL"),
            Self::Empty => f.write_str("EMPTY"),
            Self::WhitespacesOnly => f.write_str("WHITESPACES_ONLY"),
        }
    }
}

impl Display for StringList {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.variable() {
            Some(variable) => write!(f, "${variable}"),
            None => Display::fmt(&List(self.iter().collect()), f),
        }
    }
}

impl Display for Label {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", Quoted(&self.key), Quoted(&self.value))
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let is_labelled_composite = !self.check.parts().is_empty() && !self.labels.is_empty();
        if is_labelled_composite {
            write!(f, "({})", self.check)?
        } else {
            Display::fmt(&self.check, f)?
        }
        if let Some(filter) = &self.filter {
            write!(f, " where {}", Quoted(filter))?;
        }
        if !self.labels.is_empty() {
            write!(f, " labels = {}", List(self.labels.iter().collect()))?;
        }
        if let Some(threshold) = &self.threshold {
            write!(f, " with threshold {threshold}")?;
        }
        for tag in &self.tags {
            write!(f, " with {} = {}", tag.name, Quoted(&tag.value))?;
        }
        Ok(())
    }
}

impl Display for Check {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if let Self::Metric { metric, condition } = self {
            return write!(f, "{metric} {condition}");
        }
        let composite = |f: &mut Formatter<'_>, word: &str, rules: &[Rule]| {
            for (i, rule) in rules.iter().enumerate() {
                let before = if i == 0 { "" } else { word };
                // The labels of a composite rule stand behind parentheses already.
                let is_grouped = !rule.check.parts().is_empty() && !rule.labels.is_empty();
                if is_grouped { write!(f, "{before}{rule}")? } else { write!(f, "{before}({rule})")? }
            }
            Ok(())
        };
        let named = |f: &mut Formatter<'_>, parameters: &[&dyn Display]| {
            f.write_str(self.name())?;
            parameters.iter().try_for_each(|parameter| write!(f, " {parameter}"))
        };
        let all = |f: &mut Formatter<'_>, columns: &[Text]| {
            f.write_str(self.name())?;
            columns.iter().try_for_each(|column| write!(f, " {}", Written(column)))
        };
        let located = |f: &mut Formatter<'_>, path: &Option<Text>, condition: &dyn Display| match path {
            Some(path) => named(f, &[&Written(path), condition]),
            None => named(f, &[condition]),
        };
        match self {
            Self::And(rules) => composite(f, " and ", rules),
            Self::Or(rules) => composite(f, " or ", rules),
            Self::Metric { metric, condition } => write!(f, "{metric} {condition}"),
            Self::IsComplete { column } | Self::ColumnExists { column } => named(f, &[&Written(column)]),
            Self::IsUnique { columns } | Self::IsPrimaryKey { columns } => all(f, columns),
            Self::ColumnNamesMatchPattern { pattern } => named(f, &[&Written(pattern)]),
            Self::ColumnDataType { column, condition } => named(f, &[&Written(column), condition]),
            Self::ColumnLength { column, condition } => named(f, &[&Written(column), condition]),
            Self::ColumnValues { column, condition } => named(f, &[&Written(column), condition]),
            Self::DataFreshness { column, condition } => named(f, &[&Written(column), condition]),
            Self::RowCountMatch { reference, condition } | Self::SchemaMatch { reference, condition } => {
                named(f, &[&Written(reference), condition])
            }
            Self::ReferentialIntegrity { columns, reference, condition } => {
                named(f, &[&Written(&columns.0), &Written(&reference.0), condition])
            }
            Self::DatasetMatch { reference, keys, columns: None, condition } => {
                named(f, &[&Written(reference), &Written(&keys.0), condition])
            }
            Self::DatasetMatch { reference, keys, columns: Some(columns), condition } => {
                named(f, &[&Written(reference), &Written(&keys.0), &Written(&columns.0), condition])
            }
            Self::AggregateMatch { first, second, condition } => {
                named(f, &[&Written(&first.0), &Written(&second.0), condition])
            }
            Self::CustomSql { statement, condition: None } => named(f, &[&Written(statement)]),
            Self::CustomSql { statement, condition: Some(condition) } => named(f, &[&Written(statement), condition]),
            Self::DetectAnomalies { of } => write!(f, "DetectAnomalies of {of}"),
            Self::FileMatch(FileMatch::Paths { path, other }) => named(f, &[&Written(path), &Written(other)]),
            Self::FileMatch(FileMatch::Checksums { path, condition }) => located(f, path, condition),
            Self::FileFreshness { path, condition } => located(f, path, condition),
            Self::FileUniqueness { path, condition } => located(f, path, condition),
            Self::FileSize { path, condition } => located(f, path, condition),
        }
    }
}

impl Display for Metric {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.columns().into_iter().try_for_each(|column| write!(f, " {}", Written(column)))
    }
}

impl Display for Analysis {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metric(metric) => Display::fmt(metric, f),
            Self::ColumnLength { column } => write!(f, "ColumnLength {}", Written(column)),
            Self::ColumnValues { column } => write!(f, "ColumnValues {}", Written(column)),
            Self::AllStatistics { column: Some(column) } => write!(f, "AllStatistics {}", Written(column)),
            Self::AllStatistics { column: None } => f.write_str("AllStatistics of AllColumns"),
        }
    }
}

impl Display for Analyzer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(&self.analysis, f)
    }
}

impl<T: Display> Display for Condition<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(x) => write!(f, "= {x}"),
            Self::NotEqual(x) => write!(f, "!= {x}"),
            Self::GreaterThan(x) => write!(f, "> {x}"),
            Self::AtLeast(x) => write!(f, ">= {x}"),
            Self::LessThan(x) => write!(f, "< {x}"),
            Self::AtMost(x) => write!(f, "<= {x}"),
            Self::Between(x, y) => write!(f, "between {x} and {y}"),
            Self::NotBetween(x, y) => write!(f, "not between {x} and {y}"),
            Self::In(list) => write!(f, "in {}", List(list.iter().collect())),
            Self::NotIn(list) => write!(f, "not in {}", List(list.iter().collect())),
        }
    }
}

impl Display for StringCondition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Equal(value) => write!(f, "= {value}"),
            Self::NotEqual(value) => write!(f, "!= {value}"),
            Self::In(list) => write!(f, "in {list}"),
            Self::NotIn(list) => write!(f, "not in {list}"),
            Self::Matches(pattern) => write!(f, "matches {}", Written(pattern)),
            Self::NotMatches(pattern) => write!(f, "not matches {}", Written(pattern)),
        }
    }
}

impl Display for ValueCondition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        fn with_null<T: Display>(f: &mut Formatter<'_>, condition: &Condition<T>, null: bool) -> fmt::Result {
            let (word, list) = match condition {
                Condition::In(list) if null => ("in", list),
                Condition::NotIn(list) if null => ("not in", list),
                condition => return Display::fmt(condition, f),
            };
            write!(f, "{word} [")?;
            separated(f, list)?;
            f.write_str(", NULL]")
        }
        match self {
            Self::Numbers { condition, null } => with_null(f, condition, *null),
            Self::Dates { condition, null } => with_null(f, condition, *null),
            Self::Strings(condition) => Display::fmt(condition, f),
        }
    }
}

impl Display for Number {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let operand = |f: &mut Formatter<'_>, number: &Self| match number {
            Self::Arithmetic { .. } => write!(f, "({number})"),
            _ => Display::fmt(number, f),
        };
        match self {
            Self::Literal(decimal) => Display::fmt(decimal, f),
            Self::Dynamic(dynamic) => Display::fmt(dynamic, f),
            Self::Abs(number) => write!(f, "abs({number})"),
            Self::Arithmetic { first, rest } => {
                operand(f, first)?;
                rest.iter().try_for_each(|(operator, number)| {
                    write!(f, " {operator} ")?;
                    operand(f, number)
                })
            }
        }
    }
}

impl Display for Operator {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char(match self {
            Self::Add => '+',
            Self::Subtract => '-',
            Self::Multiply => '*',
            Self::Divide => '/',
        })
    }
}

impl Display for Dynamic {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Last => f.write_str("last()"),
            Self::Aggregate { function, runs } => write!(f, "{function}(last({runs}))"),
            Self::Percentile { runs, fraction } => write!(f, "percentile(last({runs}), {fraction})"),
            Self::Index { runs, at } => write!(f, "index(last({runs}), {at})"),
        }
    }
}

impl Display for Aggregate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, function)| function == self).map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Display for DateValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date) => write!(f, "\"{}\"", date.format("%Y-%m-%d")),
            Self::Time(time) => write!(f, "\"{}\"", time.format("%H:%M")),
            Self::Now => f.write_str("now()"),
            Self::Before(duration) => write!(f, "(now() - {duration})"),
            Self::After(duration) => write!(f, "(now() + {duration})"),
        }
    }
}

impl Display for Duration {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            DurationUnit::Days => "days",
            DurationUnit::Hours => "hours",
            DurationUnit::Minutes => "minutes",
        };
        write!(f, "{} {unit}", self.amount)
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let unit = match self.unit {
            SizeUnit::B => "B",
            SizeUnit::KB => "KB",
            SizeUnit::MB => "MB",
            SizeUnit::GB => "GB",
            SizeUnit::TB => "TB",
        };
        write!(f, "{} {unit}", self.amount)
    }
}
