//! Texts in rules, and those that have a syntax of their own.

use std::fmt::{self, Debug, Formatter};
use std::ops::Deref;
use std::sync::Arc;

/// A text in a rule: the name of a column, a statement, a value. It dereferences to `str`.
///
/// It remembers the variable that it came from, which is printed in its place. Texts of one variable share their memory.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text {
    value: Arc<str>,
    variable: Option<Arc<str>>,
}

impl Text {
    pub(crate) fn of_variable(value: Arc<str>, variable: Arc<str>) -> Self {
        Self { value, variable: Some(variable) }
    }

    pub(crate) fn shared(&self) -> Arc<str> {
        Arc::clone(&self.value)
    }

    /// The text, with any variable resolved.
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// The name of the variable that stands for it, without `$`.
    pub fn variable(&self) -> Option<&str> {
        self.variable.as_deref()
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.value
    }
}

impl Debug for Text {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.variable {
            Some(variable) => write!(f, "${variable}={:?}", &*self.value),
            None => Debug::fmt(&*self.value, f),
        }
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl From<&str> for Text {
    fn from(value: &str) -> Self {
        Self { value: value.into(), variable: None }
    }
}

impl From<String> for Text {
    fn from(value: String) -> Self {
        Self { value: value.into(), variable: None }
    }
}

/// Names of columns in one parameter: `"city,state"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnList(pub(crate) Text);

impl ColumnList {
    /// Names that contain no comma.
    pub fn new<S: AsRef<str>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self(joined(columns).into())
    }

    /// The names, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.as_str().split(',').map(str::trim)
    }

    /// As it is written.
    pub fn text(&self) -> &Text {
        &self.0
    }
}

impl TryFrom<Text> for ColumnList {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Self, &'static str> {
        let list = Self(text);
        if list.columns().any(str::is_empty) { Err("expected names of columns such as `city,state`") } else { Ok(list) }
    }
}

/// Columns of the primary data set and those of the reference that they are compared with: `"id->customer_id,name"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPairs(pub(crate) Text);

impl ColumnPairs {
    /// Names that contain neither a comma nor `->`.
    pub fn new<P: AsRef<str>, R: AsRef<str>>(pairs: impl IntoIterator<Item = (P, R)>) -> Self {
        Self(joined(pairs.into_iter().map(|(primary, reference)| pair(primary.as_ref(), reference.as_ref()))).into())
    }

    /// The pairs `(primary, reference)`; one name alone stands for both.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.as_str().split(',').map(|pair| {
            let (primary, reference) = pair.split_once("->").unwrap_or((pair, pair));
            (primary.trim(), reference.trim())
        })
    }

    /// As it is written.
    pub fn text(&self) -> &Text {
        &self.0
    }
}

impl TryFrom<Text> for ColumnPairs {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Self, &'static str> {
        let pairs = Self(text);
        let is_bad = |name: &str| name.is_empty() || name.contains("->");
        if pairs.pairs().any(|(primary, reference)| is_bad(primary) || is_bad(reference)) {
            return Err("expected columns such as `id,name` or `id->customer_id,name`");
        }
        Ok(pairs)
    }
}

/// Columns of a reference data set: `"reference.city"` or `"reference.{city,state}"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceColumns(pub(crate) Text);

impl ReferenceColumns {
    /// Names that contain no comma, of the data set with this alias.
    pub fn new<S: AsRef<str>>(alias: &str, columns: impl IntoIterator<Item = S>) -> Self {
        let columns = joined(columns);
        Self(if columns.contains(',') { format!("{alias}.{{{columns}}}") } else { format!("{alias}.{columns}") }.into())
    }

    fn parts(&self) -> Option<(&str, &str)> {
        let text = self.0.as_str().trim();
        match text.strip_suffix('}') {
            Some(list) => list.split_once(".{"),
            // An alias may have a point, as in `database.table`; the name of a column that has one is in braces.
            None => text.rsplit_once('.'),
        }
    }

    /// The alias of the data set.
    pub fn alias(&self) -> &str {
        self.parts().map_or("", |(alias, _)| alias.trim())
    }

    /// The names of its columns, in order.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts().map_or("", |(_, columns)| columns).split(',').map(str::trim)
    }

    /// As it is written.
    pub fn text(&self) -> &Text {
        &self.0
    }
}

impl TryFrom<Text> for ReferenceColumns {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Self, &'static str> {
        let reference = Self(text);
        if reference.alias().is_empty() || reference.columns().any(str::is_empty) {
            return Err("expected columns of a reference such as `reference.city` or `reference.{city,state}`");
        }
        Ok(reference)
    }
}

/// A sum or mean of a column of the primary data set or of another one: `"sum(reference.amount)"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aggregation(pub(crate) Text);

/// What an [`Aggregation`] computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregationFunction {
    /// `sum(…)`
    Sum,
    /// `avg(…)`
    Avg,
}

impl Aggregation {
    /// The sum of a column; `alias` names another data set than the primary one.
    pub fn sum(alias: Option<&str>, column: &str) -> Self {
        Self::of("sum", alias, column)
    }

    /// The mean of a column; `alias` names another data set than the primary one.
    pub fn avg(alias: Option<&str>, column: &str) -> Self {
        Self::of("avg", alias, column)
    }

    fn of(function: &str, alias: Option<&str>, column: &str) -> Self {
        Self(
            alias
                .map_or_else(|| format!("{function}({column})"), |alias| format!("{function}({alias}.{column})"))
                .into(),
        )
    }

    fn parts(&self) -> Option<(AggregationFunction, &str)> {
        let (function, operand) = self.0.as_str().trim().strip_suffix(')')?.split_once('(')?;
        let function = match function.trim() {
            "sum" | "SUM" => AggregationFunction::Sum,
            "avg" | "AVG" => AggregationFunction::Avg,
            _ => return None,
        };
        Some((function, operand.trim()))
    }

    /// What is computed.
    pub fn function(&self) -> AggregationFunction {
        self.parts().map_or(AggregationFunction::Sum, |(function, _)| function)
    }

    /// The alias of the data set, if it is not the primary one.
    pub fn alias(&self) -> Option<&str> {
        Some(self.parts()?.1.rsplit_once('.')?.0)
    }

    /// The name of the column.
    pub fn column(&self) -> &str {
        self.parts().map_or("", |(_, operand)| operand.rsplit_once('.').map_or(operand, |(_, column)| column))
    }

    /// As it is written.
    pub fn text(&self) -> &Text {
        &self.0
    }
}

impl TryFrom<Text> for Aggregation {
    type Error = &'static str;

    fn try_from(text: Text) -> Result<Self, &'static str> {
        let aggregation = Self(text);
        if aggregation.column().is_empty() || aggregation.alias().is_some_and(str::is_empty) {
            return Err("expected an aggregation such as `sum(amount)` or `avg(reference.amount)`");
        }
        Ok(aggregation)
    }
}

fn pair(primary: &str, reference: &str) -> String {
    if primary == reference { primary.to_owned() } else { format!("{primary}->{reference}") }
}

fn joined<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> String {
    names.into_iter().map(|name| name.as_ref().to_owned()).collect::<Vec<_>>().join(",")
}
