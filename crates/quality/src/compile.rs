//! From rules to what has to be measured, and how it is judged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::common::{Column, DFSchema};
use datafusion::functions::expr_fn::character_length;
use datafusion::functions_aggregate::correlation::corr_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::stddev::stddev_pop_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_aggregate::variance::var_pop_udaf;
use datafusion::logical_expr::{Expr, cast, lit};
use datafusion::prelude::DataFrame;
use hardtack_core::audit::{Severity, is_sensitive};
use hardtack_core::{JobContext, Result, nearest};
use hardtack_dqdl::{
    AggregationFunction, Analysis, Check, CompositeEvaluation, Condition, Metric, NumberCondition, Rule, RuleSet, Text,
    ValueCondition,
};
use regex::Regex;

use crate::condition::{self, Value, is_text, resolved};
use crate::example::Wanted;
use crate::keys::is_key;
use crate::measure::{Groups, Measures, Quantity};
use crate::quarantine::Quarantine;
use crate::query::{self, Query};
use crate::rules::severity;

/// What an audit needs in addition to the rows.
pub(crate) struct Settings {
    pub(crate) rules: Arc<RuleSet>,
    pub(crate) evaluation: CompositeEvaluation,
    /// The job, for its session and for rows that are needed more than once.
    pub(crate) job: JobContext,
    pub(crate) references: BTreeMap<String, DataFrame>,
    /// The values of metrics in earlier runs, the newest first.
    pub(crate) earlier: BTreeMap<String, Vec<f64>>,
    /// The columns whose values are shown nowhere.
    pub(crate) sensitive: BTreeSet<String>,
    /// Where rows go that are not published.
    pub(crate) quarantine: Option<Quarantine>,
    /// Where copies of refused rows go.
    pub(crate) kept: Option<Quarantine>,
}

impl Settings {
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.job.now()
    }
}

/// What is measured, and how it is judged.
#[derive(Debug)]
pub(crate) struct Program {
    /// The columns of the rows, without dictionaries.
    pub(crate) schema: SchemaRef,
    pub(crate) measures: Measures,
    pub(crate) examples: Vec<Wanted>,
    /// The rules by which rows are set aside.
    pub(crate) set_aside: Vec<SetAside>,
    pub(crate) judgements: Vec<Judgement>,
    /// What is reported although no rule needs it.
    pub(crate) analyzed: Vec<(String, Quantity)>,
}

/// A rule whose failing rows can be set aside.
#[derive(Debug)]
pub(crate) struct SetAside {
    pub(crate) rule: String,
    /// The number of the count of the rows that fail.
    pub(crate) fails: usize,
}

/// How a rule is judged.
#[derive(Debug)]
pub(crate) enum Judgement {
    /// It cannot be evaluated.
    Error(String),
    /// By the schema alone.
    Known { passed: bool, actual: String },
    /// By a number.
    Number(Number),
    /// By the rows that fail: all rows in view, and the failing ones among them.
    Rows {
        metric: String,
        rows: Quantity,
        failed: Quantity,
        threshold: Option<Condition<f64>>,
        examples: Option<Shown>,
    },
    /// By whether a number is in line with earlier ones.
    Anomaly { metric: String, quantity: Quantity, earlier: Vec<f64> },
    /// All parts pass.
    All(Vec<Judgement>),
    /// One part passes.
    Any(Vec<Judgement>),
}

/// A number that is judged.
#[derive(Debug)]
pub(crate) struct Number {
    pub(crate) metric: String,
    pub(crate) quantity: Quantity,
    pub(crate) condition: Condition<f64>,
    /// Whether it is a share of rows, which is 1 if there are none.
    pub(crate) is_share: bool,
    /// The rows in view, if a `where` clause restricts them.
    pub(crate) in_view: Option<Quantity>,
    pub(crate) examples: Option<Shown>,
}

/// Where the values that fail come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    /// The number in [`Program::examples`].
    Rows(usize),
    /// The number of the grouping.
    Groups(usize),
    /// The number of the query.
    Query(usize),
    /// They are sensitive.
    Redacted,
    /// There is nothing to see.
    Nothing,
}

/// The rows that fail a rule, each by itself.
struct Failing {
    fails: Expr,
    columns: Vec<usize>,
}

impl Program {
    /// Finds out what has to be measured for the rules of a data set with these columns. Rules that cannot be evaluated
    /// fail by themselves.
    pub(crate) fn compile(settings: &Settings, schema: SchemaRef) -> Result<(Self, Vec<Query>)> {
        let columns = DFSchema::try_from(Arc::clone(&schema))?;
        let measures = Measures::default();
        let (examples, queries, set_aside) = (Vec::new(), Vec::new(), Vec::new());
        let mut compiler = Compiler { settings, schema, columns, measures, examples, queries, set_aside };
        let mut judgements = Vec::new();
        for rule in &settings.rules.rules {
            let judgement = compiler.rule(rule).unwrap_or_else(Judgement::Error);
            compiler.sets_aside(rule, &judgement);
            judgements.push(judgement);
        }
        let mut analyzed = Vec::new();
        for analyzer in &settings.rules.analyzers {
            match compiler.analysis(&analyzer.analysis) {
                Ok(quantities) => analyzed.extend(quantities),
                Err(why) => tracing::warn!("the analyzer `{analyzer}` measures nothing: {why}"),
            }
        }
        let Compiler { schema, measures, examples, queries, set_aside, .. } = compiler;
        Ok((Self { schema, measures, examples, set_aside, judgements, analyzed }, queries))
    }

    /// The number of the first rule that blocks and cannot be evaluated, and why.
    pub(crate) fn first_error(&self, settings: &Settings) -> Option<(usize, &str)> {
        let rules = settings.rules.rules.iter().zip(&self.judgements).enumerate();
        rules.into_iter().find_map(|(i, (rule, judgement))| match judgement {
            // What depends on earlier runs is not known here.
            Judgement::Error(why) if !rule.is_dynamic() && severity(&settings.rules, rule) == Severity::Block => {
                Some((i + 1, why.as_str()))
            }
            _ => None,
        })
    }
}

pub(crate) struct Compiler<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) schema: SchemaRef,
    columns: DFSchema,
    measures: Measures,
    examples: Vec<Wanted>,
    queries: Vec<Query>,
    set_aside: Vec<SetAside>,
}

/// The condition of the rows in view; all rows if there is none.
type Filter = Option<Expr>;

impl Compiler<'_> {
    /// Adds a query, and returns its number.
    pub(crate) fn add(&mut self, query: Query) -> usize {
        self.queries.push(query);
        self.queries.len() - 1
    }

    /// A sum or mean of a column of the rows.
    pub(crate) fn own_aggregate(&mut self, function: AggregationFunction, column: &str) -> Result<Quantity, String> {
        let column: Text = column.into();
        let sum = self.sum(&column, &None)?;
        Ok(match function {
            AggregationFunction::Sum => sum,
            AggregationFunction::Avg => {
                let there = self.value(&column)?.expr.is_not_null();
                sum.over(Quantity::Count(self.measures.count(there)))
            }
        })
    }

    fn rule(&mut self, rule: &Rule) -> Result<Judgement, String> {
        if matches!(rule.check, Check::And(_) | Check::Or(_))
            && self.settings.evaluation == CompositeEvaluation::Row
            && rule.is_row_level()
            && rule.allows(CompositeEvaluation::Row)
            && let Ok(failing) = self.row_wise(rule)
        {
            return self.rows("Dataset.*.Composite.Compliance".to_owned(), rule, failing, None);
        }
        match &rule.check {
            Check::And(parts) => Ok(Judgement::All(self.parts(parts))),
            Check::Or(parts) => Ok(Judgement::Any(self.parts(parts))),
            Check::Metric { metric, condition } => self.metric(rule, metric, condition),
            Check::IsComplete { column } => {
                let failing = self.failing(rule)?;
                self.rows(format!("Column.{}.Completeness", &**column), rule, failing, None)
            }
            Check::ColumnValues { column, .. } => {
                self.by_row(rule, format!("Column.{}.ColumnValues.Compliance", &**column))
            }
            Check::ColumnLength { column, .. } => self.by_row(rule, format!("Column.{}.LengthCompliance", &**column)),
            Check::ColumnDataType { column, .. } => {
                self.by_row(rule, format!("Column.{}.ColumnDataType.Compliance", &**column))
            }
            Check::DataFreshness { column, .. } => {
                self.by_row(rule, format!("Column.{}.DataFreshness.Compliance", &**column))
            }
            Check::IsUnique { columns } => self.unique(rule, columns),
            Check::IsPrimaryKey { columns } => {
                let mut parts = vec![self.unique(rule, columns)?];
                for column in columns {
                    let complete = Rule { check: Check::IsComplete { column: column.clone() }, ..rule.clone() };
                    parts.push(self.rule(&complete)?);
                }
                Ok(Judgement::All(parts))
            }
            Check::ColumnExists { column } => {
                let there = self.schema.field_with_name(column).is_ok();
                let actual = if there { "it is there".to_owned() } else { self.no_column(column) };
                Ok(Judgement::Known { passed: there, actual })
            }
            Check::ColumnNamesMatchPattern { pattern } => {
                let regex = Regex::new(pattern.as_str()).map_err(|e| e.to_string())?;
                let names = self.schema.fields().iter().map(|field| field.name().as_str());
                let others: Vec<_> =
                    names.filter(|name| !regex.is_match(name)).map(|name| format!("`{name}`")).collect();
                let passed = others.is_empty();
                let actual =
                    if passed { "all names match".to_owned() } else { format!("{} do not match", others.join(", ")) };
                Ok(Judgement::Known { passed, actual })
            }
            Check::DetectAnomalies { of } => {
                let parts = self.analysis(of)?.into_iter().map(|(metric, quantity)| {
                    let earlier = self.earlier(&metric).to_vec();
                    Judgement::Anomaly { metric, quantity, earlier }
                });
                let mut parts: Vec<_> = parts.collect();
                Ok(if parts.len() == 1 { parts.remove(0) } else { Judgement::All(parts) })
            }
            Check::RowCountMatch { .. }
            | Check::ReferentialIntegrity { .. }
            | Check::DatasetMatch { .. }
            | Check::SchemaMatch { .. }
            | Check::AggregateMatch { .. }
            | Check::CustomSql { .. } => self.other_data(rule),
            Check::FileFreshness { .. }
            | Check::FileMatch(_)
            | Check::FileUniqueness { .. }
            | Check::FileSize { .. } => self.files(rule),
        }
    }

    fn parts(&mut self, parts: &[Rule]) -> Vec<Judgement> {
        parts.iter().map(|part| self.rule(part).unwrap_or_else(Judgement::Error)).collect()
    }

    fn by_row(&mut self, rule: &Rule, metric: String) -> Result<Judgement, String> {
        let failing = self.failing(rule)?;
        let earlier = self.earlier(&within_view(metric.clone(), rule)).to_vec();
        let threshold = rule.threshold.as_ref().map(|threshold| resolved(threshold, &earlier)).transpose()?;
        self.rows(metric, rule, failing, threshold)
    }

    /// A rule that each row passes or fails by itself.
    fn rows(
        &mut self,
        metric: String,
        rule: &Rule,
        failing: Failing,
        threshold: Option<Condition<f64>>,
    ) -> Result<Judgement, String> {
        let filter = self.filter(rule)?;
        let rows = self.in_view(&filter);
        let metric = within_view(metric, rule);
        let fails = within(&filter, self.checked(failing.fails)?);
        let count = self.measures.count(fails);
        let examples = self.shown_rows(count, failing.columns);
        Ok(Judgement::Rows { metric, rows, failed: Quantity::Count(count), threshold, examples: Some(examples) })
    }

    fn shown_rows(&mut self, count: usize, mut columns: Vec<usize>) -> Shown {
        if self.is_sensitive(&columns) {
            return Shown::Redacted;
        }
        // Where a row comes from, if its source says so.
        let origin = ["_file", "_line"].iter().filter_map(|name| self.schema.index_of(name).ok());
        columns.extend(origin);
        if columns.is_empty() {
            return Shown::Nothing;
        }
        self.examples.push(Wanted { count, columns });
        Shown::Rows(self.examples.len() - 1)
    }

    pub(crate) fn is_sensitive(&self, columns: &[usize]) -> bool {
        columns.iter().any(|i| {
            let field = self.schema.field(*i);
            is_sensitive(field) || self.settings.sensitive.iter().any(|name| name.eq_ignore_ascii_case(field.name()))
        })
    }

    /// The rows that fail a rule, whatever its filter.
    fn failing(&self, rule: &Rule) -> Result<Failing, String> {
        let only = |fails, column: &Text| Ok(Failing { fails, columns: vec![self.index(column)?] });
        match &rule.check {
            // Nulls all look the same.
            Check::IsComplete { column } => {
                Ok(Failing { fails: self.value(column)?.expr.is_null(), columns: Vec::new() })
            }
            Check::ColumnLength { column, condition } => {
                only(condition::length_fails(&self.value(column)?, condition)?, column)
            }
            Check::ColumnDataType { column, condition } => {
                only(condition::type_fails(&self.value(column)?, condition, rule.tag("format"))?, column)
            }
            Check::DataFreshness { column, condition } => {
                only(condition::age_fails(&self.value(column)?, condition, self.settings.now())?, column)
            }
            Check::ColumnValues { column, condition } => {
                let (value, now) = (self.value(column)?, self.settings.now());
                let fails = match condition {
                    ValueCondition::Numbers { condition, null } => condition::number_fails(&value, condition, *null),
                    ValueCondition::Dates { condition, null } => condition::date_fails(&value, condition, *null, now),
                    ValueCondition::Strings(condition) => condition::text_fails(
                        &value,
                        condition,
                        rule.tag("ignoreCase").is_some_and(|tag| tag == "true"),
                    ),
                };
                only(fails?, column)
            }
            _ => Err("its rows are not judged one by one".to_owned()),
        }
    }

    /// The rows that fail a composite rule whose parts are combined in each row.
    fn row_wise(&self, rule: &Rule) -> Result<Failing, String> {
        let parts = |parts: &[Rule], either: bool| {
            let mut all: Option<Failing> = None;
            for part in parts {
                let Failing { fails, columns } = self.row_wise(part)?;
                all = Some(match all {
                    None => Failing { fails, columns },
                    // It fails if both do, or if one does.
                    Some(all) => Failing {
                        fails: if either { all.fails.and(fails) } else { all.fails.or(fails) },
                        columns: [all.columns, columns].concat(),
                    },
                });
            }
            let mut all = all.ok_or("a rule without parts")?;
            let mut seen = BTreeSet::new();
            all.columns.retain(|column| seen.insert(*column));
            Ok(all)
        };
        match &rule.check {
            Check::And(rules) => parts(rules, false),
            Check::Or(rules) => parts(rules, true),
            _ => {
                let Failing { fails, columns } = self.failing(rule)?;
                Ok(Failing { fails: within(&self.filter(rule)?, fails), columns })
            }
        }
    }

    fn unique(&mut self, rule: &Rule, columns: &[Text]) -> Result<Judgement, String> {
        let (grouping, metric) = self.grouping(rule, columns, "Uniqueness")?;
        let metric = within_view(metric, rule);
        let repeated = Quantity::Group(grouping, |groups| (groups.rows - groups.unique) as f64);
        let rows = Quantity::Group(grouping, |groups| groups.rows as f64);
        Ok(Judgement::Rows {
            metric,
            rows,
            failed: repeated,
            threshold: None,
            examples: Some(self.shown_groups(grouping)),
        })
    }

    fn shown_groups(&self, grouping: usize) -> Shown {
        match self.is_sensitive(&self.measures.groupings[grouping].columns) {
            true => Shown::Redacted,
            false => Shown::Groups(grouping),
        }
    }

    /// Counts how often the values of columns occur.
    fn grouping(&mut self, rule: &Rule, columns: &[Text], name: &str) -> Result<(usize, String), String> {
        let indices = columns.iter().map(|column| self.index(column)).collect::<Result<Vec<_>, _>>()?;
        if indices.is_empty() {
            return Err("expected a column".to_owned());
        }
        if let Some(field) = indices.iter().map(|i| self.schema.field(*i)).find(|field| !is_key(field.data_type())) {
            let (name, data_type) = (field.name(), field.data_type());
            return Err(format!("the values of `{name}` are of the type {data_type}, which cannot be compared"));
        }
        let filter = self.filter(rule)?.map(|filter| Expr::IsTrue(Box::new(filter)));
        Ok((self.measures.grouping(indices, filter), metric_of(columns, name)))
    }

    fn metric(&mut self, rule: &Rule, metric: &Metric, condition: &NumberCondition) -> Result<Judgement, String> {
        let (name, quantity, examples) = self.measured(rule, metric)?;
        let is_share = matches!(metric, Metric::Completeness { .. } | Metric::Uniqueness { .. });
        let name = within_view(name, rule);
        let condition = resolved(condition, self.earlier(&name))?;
        let filter = self.filter(rule)?;
        let in_view = filter.is_some().then(|| self.in_view(&filter));
        Ok(Judgement::Number(Number { metric: name, quantity, condition, is_share, in_view, examples }))
    }

    /// A metric: its name, how it is computed, and where its examples come from.
    fn measured(&mut self, rule: &Rule, metric: &Metric) -> Result<(String, Quantity, Option<Shown>), String> {
        let filter = self.filter(rule)?;
        let name = |column: &Text| format!("Column.{}.{}", &**column, metric.name());
        let plain = |name, quantity| Ok((name, quantity, None));
        match metric {
            Metric::RowCount => plain("Dataset.*.RowCount".to_owned(), self.in_view(&filter)),
            Metric::ColumnCount => {
                plain("Dataset.*.ColumnCount".to_owned(), Quantity::Known(self.schema.fields().len() as f64))
            }
            Metric::Completeness { column } => {
                let there = within(&filter, self.value(column)?.expr.is_not_null());
                let there = Quantity::Count(self.measures.count(there));
                plain(name(column), there.over(self.in_view(&filter)))
            }
            Metric::Uniqueness { columns } => {
                let (grouping, name) = self.grouping(rule, columns, metric.name())?;
                let share = Quantity::Group(grouping, |groups| groups.unique as f64 / groups.rows as f64);
                Ok((name, share, Some(self.shown_groups(grouping))))
            }
            Metric::UniqueValueRatio { column } => {
                let (grouping, name) = self.grouping(rule, std::slice::from_ref(column), metric.name())?;
                plain(name, Quantity::Group(grouping, |groups| groups.unique as f64 / groups.distinct as f64))
            }
            Metric::DistinctValuesCount { column } => {
                let (grouping, name) = self.grouping(rule, std::slice::from_ref(column), metric.name())?;
                let null = within(&filter, self.value(column)?.expr.is_null());
                let null = self.measures.count(null);
                plain(name, Quantity::Distinct { grouping, null })
            }
            Metric::Entropy { column } => {
                let (grouping, name) = self.grouping(rule, std::slice::from_ref(column), metric.name())?;
                plain(name, Quantity::Group(grouping, Groups::entropy))
            }
            Metric::DuplicateRowCount { columns } => {
                let all: Vec<Text> = match columns.is_empty() {
                    true => self.schema.fields().iter().map(|field| field.name().as_str().into()).collect(),
                    false => columns.clone(),
                };
                let (grouping, _) = self.grouping(rule, &all, metric.name())?;
                let name = match columns.is_empty() {
                    true => "Dataset.*.DuplicateRowCount".to_owned(),
                    false => metric_of(columns, metric.name()),
                };
                Ok((name, Quantity::Repeated(grouping), Some(self.shown_groups(grouping))))
            }
            Metric::Mean { column } => {
                let sum = self.sum(column, &filter)?;
                let there = within(&filter, self.value(column)?.expr.is_not_null());
                plain(name(column), sum.over(Quantity::Count(self.measures.count(there))))
            }
            Metric::Sum { column } => plain(name(column), self.sum(column, &filter)?),
            Metric::StandardDeviation { column } => {
                let double = self.double(column, metric.name())?;
                plain(
                    name(column),
                    Quantity::Aggregate(self.measures.aggregate(stddev_pop_udaf(), vec![double], filter)),
                )
            }
            Metric::Variance { column } => {
                let double = self.double(column, metric.name())?;
                plain(name(column), Quantity::Aggregate(self.measures.aggregate(var_pop_udaf(), vec![double], filter)))
            }
            Metric::ColumnCorrelation { first, second } => {
                let (a, b) = (self.double(first, metric.name())?, self.double(second, metric.name())?);
                let both = a.clone().is_not_null().and(b.clone().is_not_null());
                let both = within(&filter, both);
                let name = format!("Multicolumn.{},{}.{}", &**first, &**second, metric.name());
                plain(name, Quantity::Aggregate(self.measures.aggregate(corr_udaf(), vec![a, b], Some(both))))
            }
            Metric::ZerosCount { column } => {
                // With -0, which Arrow takes for another number.
                let zero = (self.double(column, metric.name())? + lit(0.0)).eq(lit(0.0));
                plain(name(column), Quantity::Count(self.measures.count(within(&filter, zero))))
            }
            Metric::Range { column } => {
                let double = self.double(column, metric.name())?;
                let max = self.measures.aggregate(max_udaf(), vec![double.clone()], filter.clone());
                let min = self.measures.aggregate(min_udaf(), vec![double], filter);
                plain(name(column), Quantity::Aggregate(max).minus(Quantity::Aggregate(min)))
            }
            Metric::InterquartileRange { column } => self.distribution(column, metric, filter, name(column), 0),
            Metric::Skewness { column } => self.distribution(column, metric, filter, name(column), 1),
            Metric::Kurtosis { column } => self.distribution(column, metric, filter, name(column), 2),
        }
    }

    fn distribution(
        &mut self,
        column: &Text,
        metric: &Metric,
        filter: Filter,
        name: String,
        result: usize,
    ) -> Result<(String, Quantity, Option<Shown>), String> {
        let double = self.double(column, metric.name())?;
        let index = self.index(column)?;
        let filter = within(&filter, double.is_not_null());
        let query = query::distribution(&self.settings.job, &self.schema, index, filter).map_err(|e| e.chain())?;
        Ok((name, Quantity::Query(self.add(query), result), None))
    }

    /// The sum of a column: exact for integers and decimals.
    fn sum(&mut self, column: &Text, filter: &Filter) -> Result<Quantity, String> {
        let number = self.number(column, "a sum")?;
        let data_type = self.value(column)?.data_type;
        let to = match &data_type {
            integer if integer.is_integer() => DataType::Decimal128(38, 0),
            DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) | DataType::Decimal128(_, scale) => {
                DataType::Decimal128(38, *scale)
            }
            _ => DataType::Float64,
        };
        Ok(Quantity::Aggregate(self.measures.aggregate(sum_udaf(), vec![cast(number, to)], filter.clone())))
    }

    /// What an analyzer measures, by the names of metrics.
    fn analysis(&mut self, analysis: &Analysis) -> Result<Vec<(String, Quantity)>, String> {
        let rule = Rule::new(Check::ColumnNamesMatchPattern { pattern: "".into() });
        match analysis {
            Analysis::Metric(metric) => {
                let (name, quantity, _) = self.measured(&rule, metric)?;
                Ok(vec![(name, quantity)])
            }
            Analysis::ColumnLength { column } => self.bounds(column, true),
            Analysis::ColumnValues { column } => self.bounds(column, false),
            Analysis::AllStatistics { column: Some(column) } => {
                let data_type = self.value(column)?.data_type;
                let mut all = Vec::new();
                let metrics = [
                    Metric::RowCount,
                    Metric::Completeness { column: column.clone() },
                    Metric::Uniqueness { columns: vec![column.clone()] },
                ];
                for metric in metrics {
                    let (name, quantity, _) = self.measured(&rule, &metric)?;
                    all.push((name, quantity));
                }
                if is_text(&data_type) || is_number(&data_type) {
                    all.extend(self.bounds(column, is_text(&data_type))?);
                }
                Ok(all)
            }
            Analysis::AllStatistics { column: None } => {
                let columns: Vec<Text> =
                    self.schema.fields().iter().map(|field| field.name().as_str().into()).collect();
                let mut all = Vec::new();
                for column in columns {
                    all.extend(self.analysis(&Analysis::AllStatistics { column: Some(column) })?);
                }
                Ok(all)
            }
        }
    }

    /// The least and the greatest value or length.
    fn bounds(&mut self, column: &Text, length: bool) -> Result<Vec<(String, Quantity)>, String> {
        if !length && self.is_sensitive(&[self.index(column)?]) {
            return Err(format!("the values of `{}` are sensitive", &**column));
        }
        let (number, suffix) = match length {
            true if !is_text(&self.value(column)?.data_type) => return Err(format!("`{}` has no texts", &**column)),
            true => (cast(character_length(self.value(column)?.expr), DataType::Int64), "Length"),
            false => (self.double(column, "ColumnValues")?, ""),
        };
        let min = self.measures.aggregate(min_udaf(), vec![number.clone()], None);
        let max = self.measures.aggregate(max_udaf(), vec![number], None);
        let name = |bound: &str| format!("Column.{}.{bound}{suffix}", &**column);
        Ok(vec![(name("Minimum"), Quantity::Aggregate(min)), (name("Maximum"), Quantity::Aggregate(max))])
    }

    /// The rows in view of a filter.
    fn in_view(&mut self, filter: &Filter) -> Quantity {
        match filter {
            None => Quantity::Rows,
            Some(filter) => Quantity::Count(self.measures.count(Expr::IsTrue(Box::new(filter.clone())))),
        }
    }

    /// The condition of `where`.
    fn filter(&self, rule: &Rule) -> Result<Filter, String> {
        rule.filter.as_ref().map(|sql| self.checked(self.sql(sql)?)).transpose()
    }

    /// A condition that can be evaluated on the rows.
    fn checked(&self, condition: Expr) -> Result<Expr, String> {
        let state = self.settings.job.session().state();
        let planned = state.create_physical_expr(condition.clone(), &self.columns);
        let planned = planned.map_err(|e| format!("it cannot be evaluated: {}", e.strip_backtrace()))?;
        match planned.data_type(&self.schema).map_err(|e| e.strip_backtrace())? {
            DataType::Boolean => Ok(condition),
            other => Err(format!("the condition of its `where` is of the type {other}, and must be true or false")),
        }
    }

    /// A condition in SQL. Columns are found by their names as they are written and, like in Spark, in any case.
    fn sql(&self, sql: &str) -> Result<Expr, String> {
        let state = self.settings.job.session().state();
        let first = match state.create_logical_expr(sql, &self.columns) {
            Ok(expr) => return Ok(expr),
            Err(first) => first,
        };
        let lower = |i: usize| self.schema.field(i).name().to_lowercase();
        let columns = 0..self.schema.fields().len();
        // Which of `ID` and `Id` is meant?
        let is_clear = |i: &usize| columns.clone().filter(|other| lower(*other) == lower(*i)).count() == 1;
        let names: BTreeMap<String, usize> = columns.clone().filter(is_clear).map(|i| (lower(i), i)).collect();
        let folded = names.iter().map(|(name, i)| self.schema.field(*i).clone().with_name(name)).collect::<Vec<_>>();
        let folded =
            DFSchema::try_from(datafusion::arrow::datatypes::Schema::new(folded)).map_err(|e| e.to_string())?;
        let invalid = || format!("the condition of its `where` cannot be read: {}", first.strip_backtrace());
        let expr = state.create_logical_expr(sql, &folded).map_err(|_| invalid())?;
        let original = |expr: Expr| {
            Ok(match &expr {
                Expr::Column(column) => match names.get(&column.name) {
                    Some(i) => Transformed::yes(self.at(*i).expr),
                    None => Transformed::no(expr),
                },
                _ => Transformed::no(expr),
            })
        };
        Ok(expr.transform(original).map_err(|e| e.to_string())?.data)
    }

    /// The number of a column.
    pub(crate) fn index(&self, name: &str) -> Result<usize, String> {
        if let Ok(i) = self.schema.index_of(name) {
            return Ok(i);
        }
        let same = |i: &usize| self.schema.field(*i).name().eq_ignore_ascii_case(name);
        let mut alike = (0..self.schema.fields().len()).filter(same);
        match (alike.next(), alike.next()) {
            (Some(i), None) => Ok(i),
            _ => Err(self.no_column(name)),
        }
    }

    fn no_column(&self, name: &str) -> String {
        let names = self.schema.fields().iter().map(|field| field.name().as_str());
        match nearest(name, names) {
            Some(other) => format!("there is no column `{name}`; did you mean `{other}`?"),
            None => format!("there is no column `{name}`"),
        }
    }

    fn at(&self, i: usize) -> Value {
        let field = self.schema.field(i);
        Value { expr: Expr::Column(Column::from_name(field.name())), data_type: field.data_type().clone() }
    }

    fn value(&self, name: &str) -> Result<Value, String> {
        Ok(self.at(self.index(name)?))
    }

    fn number(&self, name: &str, what: &str) -> Result<Expr, String> {
        let value = self.value(name)?;
        match is_number(&value.data_type) {
            true => Ok(value.expr),
            false => {
                Err(format!("the values of `{name}` are of the type {}, and {what} needs numbers", value.data_type))
            }
        }
    }

    fn double(&self, name: &str, what: &str) -> Result<Expr, String> {
        Ok(cast(self.number(name, what)?, DataType::Float64))
    }

    /// The values of a metric in earlier runs, the newest first.
    pub(crate) fn earlier(&self, metric: &str) -> &[f64] {
        self.settings.earlier.get(metric).map_or(&[], Vec::as_slice)
    }

    /// Notes that the rows that fail a rule are set aside, if each row fails it by itself and failing blocks.
    fn sets_aside(&mut self, rule: &Rule, judgement: &Judgement) {
        if severity(&self.settings.rules, rule) == Severity::Warn {
            return;
        }
        let fails = match (judgement, &rule.check) {
            (Judgement::Rows { failed: Quantity::Count(fails), .. }, _) => *fails,
            // The share of rows with a value: those without one are bad.
            (
                Judgement::Number(Number { condition: Condition::AtLeast(_) | Condition::GreaterThan(_), .. }),
                Check::Metric { metric: Metric::Completeness { column }, .. },
            ) => {
                let (Ok(value), Ok(filter)) = (self.value(column), self.filter(rule)) else { return };
                self.measures.count(within(&filter, value.expr.is_null()))
            }
            _ => return,
        };
        self.set_aside.push(SetAside { rule: rule.to_string(), fails });
    }
}

/// The name of a metric, which is another one of other rows.
fn within_view(metric: String, rule: &Rule) -> String {
    match &rule.filter {
        Some(filter) => format!("{metric} where {filter}"),
        None => metric,
    }
}

/// The condition, for the rows in view only.
fn within(filter: &Filter, condition: Expr) -> Expr {
    match filter {
        Some(filter) => Expr::IsTrue(Box::new(filter.clone())).and(condition),
        None => condition,
    }
}

fn metric_of(columns: &[Text], name: &str) -> String {
    let kind = if columns.len() == 1 { "Column" } else { "Multicolumn" };
    format!("{kind}.{}.{name}", columns.iter().map(|column| &**column).collect::<Vec<_>>().join(","))
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}
