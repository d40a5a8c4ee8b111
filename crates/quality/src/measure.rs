//! What is measured of the rows, and the numbers that come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{AggregateUDF, Expr};

/// What is measured of the rows. Equal measures are measured once.
#[derive(Debug, Default)]
pub(crate) struct Measures {
    /// The rows for which a condition is true.
    pub(crate) counts: Vec<Expr>,
    /// DataFusion's aggregates.
    pub(crate) aggregates: Vec<Aggregate>,
    /// How often the values of columns occur.
    pub(crate) groupings: Vec<Grouping>,
}

/// An aggregate of expressions over the rows for which a condition is true.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Aggregate {
    pub(crate) function: Arc<AggregateUDF>,
    pub(crate) arguments: Vec<Expr>,
    pub(crate) filter: Option<Expr>,
}

/// How often the values of columns occur among the rows for which a condition is true. Rows that have a value in none of
/// the columns do not count.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Grouping {
    /// The numbers of the columns in the schema.
    pub(crate) columns: Vec<usize>,
    pub(crate) filter: Option<Expr>,
}

impl Measures {
    pub(crate) fn count(&mut self, condition: Expr) -> usize {
        place(&mut self.counts, condition)
    }

    pub(crate) fn aggregate(
        &mut self,
        function: Arc<AggregateUDF>,
        arguments: Vec<Expr>,
        filter: Option<Expr>,
    ) -> usize {
        place(&mut self.aggregates, Aggregate { function, arguments, filter })
    }

    pub(crate) fn grouping(&mut self, columns: Vec<usize>, filter: Option<Expr>) -> usize {
        place(&mut self.groupings, Grouping { columns, filter })
    }
}

fn place<T: PartialEq>(all: &mut Vec<T>, one: T) -> usize {
    all.iter().position(|other| *other == one).unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    })
}

/// The results of [`Measures`].
#[derive(Debug)]
pub(crate) struct Measured {
    /// The number of rows.
    pub(crate) rows: u64,
    pub(crate) counts: Vec<u64>,
    pub(crate) aggregates: Vec<ScalarValue>,
    pub(crate) groupings: Vec<Groups>,
    pub(crate) queries: Vec<Row>,
    /// Values of the rows that fail, in the order of what was wanted.
    pub(crate) examples: Vec<Vec<String>>,
}

/// The only row of a query.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its values, or why there are none.
    pub(crate) values: Result<Vec<ScalarValue>, String>,
    /// Some of the values that fail.
    pub(crate) examples: Vec<String>,
}

/// How often values occur.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Groups {
    /// The number of different values.
    pub(crate) distinct: u64,
    /// The number of values that occur once.
    pub(crate) unique: u64,
    /// The number of rows that have one of the values.
    pub(crate) rows: u64,
    /// For each number of rows above one that values have, the number of these values.
    pub(crate) sizes: BTreeMap<u64, u64>,
    /// Some of the values that occur more than once.
    pub(crate) repeated: Vec<String>,
}

impl Groups {
    /// Adds a value that so many rows have.
    pub(crate) fn add(&mut self, rows: u64) {
        self.distinct += 1;
        self.rows += rows;
        match rows {
            1 => self.unique += 1,
            _ => *self.sizes.entry(rows).or_default() += 1,
        }
    }

    /// Shannon's entropy in nats.
    pub(crate) fn entropy(&self) -> f64 {
        let n = self.rows as f64;
        // Always in the same order, so that the sum is always the same.
        let sizes = std::iter::once((&1, &self.unique)).chain(&self.sizes);
        let sizes = sizes.map(|(size, values)| (*size as f64, *values as f64));
        sizes.map(|(size, values)| -values * (size / n) * (size / n).ln()).sum::<f64>().max(0.0)
    }
}

/// A number that is computed of what was measured.
#[derive(Debug, Clone)]
pub(crate) enum Quantity {
    /// Of the schema.
    Known(f64),
    /// All rows.
    Rows,
    /// Of [`Measures::counts`].
    Count(usize),
    /// Of [`Measures::aggregates`].
    Aggregate(usize),
    /// Of [`Measures::groupings`].
    Group(usize, fn(&Groups) -> f64),
    /// The number of different values, with null as one.
    Distinct { grouping: usize, null: usize },
    /// The number of rows with values that other rows have, too.
    Repeated(usize),
    /// A column of a query's row.
    Query(usize, usize),
    /// The ratio of two aggregates, as Deequ defines it: 1 if both are 0, and 0 if only the second is.
    AggregateRatio(Box<Quantity>, Box<Quantity>),
    /// The first divided by the second.
    Ratio(Box<Quantity>, Box<Quantity>),
    /// The first minus the second.
    Difference(Box<Quantity>, Box<Quantity>),
}

impl Quantity {
    pub(crate) fn over(self, other: Self) -> Self {
        Self::Ratio(Box::new(self), Box::new(other))
    }

    pub(crate) fn minus(self, other: Self) -> Self {
        Self::Difference(Box::new(self), Box::new(other))
    }

    /// The number; `None` if there is nothing that it could be computed of. An error if a query has failed.
    pub(crate) fn of(&self, measured: &Measured) -> Result<Option<f64>, String> {
        Ok(match self {
            Self::Known(number) => Some(*number),
            Self::Rows => Some(measured.rows as f64),
            Self::Count(i) => Some(measured.counts[*i] as f64),
            Self::Aggregate(i) => number(&measured.aggregates[*i]),
            Self::Group(i, of) => Some(&measured.groupings[*i]).filter(|groups| groups.rows > 0).map(of),
            Self::Distinct { grouping, null } => {
                Some((measured.groupings[*grouping].distinct + u64::from(measured.counts[*null] > 0)) as f64)
            }
            Self::Repeated(i) => Some((measured.groupings[*i].rows - measured.groupings[*i].unique) as f64),
            Self::Query(i, column) => number(
                measured.queries[*i].values.as_ref().map_err(Clone::clone)?.get(*column).unwrap_or(&ScalarValue::Null),
            ),
            Self::AggregateRatio(a, b) => match (a.of(measured)?, b.of(measured)?) {
                (Some(0.0), Some(0.0)) => Some(1.0),
                (Some(_), Some(0.0)) => Some(0.0),
                (Some(a), Some(b)) => Some(a / b),
                _ => None,
            },
            Self::Ratio(a, b) => match (a.of(measured)?, b.of(measured)?) {
                (Some(a), Some(b)) if b != 0.0 => Some(a / b),
                _ => None,
            },
            Self::Difference(a, b) => match (a.of(measured)?, b.of(measured)?) {
                (Some(a), Some(b)) => Some(a - b),
                _ => None,
            },
        })
    }
}

/// A value as a number.
pub(crate) fn number(value: &ScalarValue) -> Option<f64> {
    match value.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(number) => number.filter(|number| !number.is_nan()),
        _ => None,
    }
}

/// The schema with texts and the like in place of dictionaries, which only say how columns are encoded.
pub(crate) fn plain(schema: &SchemaRef) -> SchemaRef {
    let plain = |field: &FieldRef| match field.data_type() {
        DataType::Dictionary(_, values) => Arc::new(field.as_ref().clone().with_data_type(values.as_ref().clone())),
        _ => Arc::clone(field),
    };
    Arc::new(Schema::new_with_metadata(
        schema.fields().iter().map(plain).collect::<Vec<_>>(),
        schema.metadata().clone(),
    ))
}
