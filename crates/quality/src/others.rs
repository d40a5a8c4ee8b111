//! Rules that compare the rows with other data sets, and those in SQL.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::filter;
use datafusion::arrow::datatypes::{DataType, Int64Type, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider as _, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, TableProvider,
};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SQLOptions;
use datafusion::functions_aggregate::expr_fn::{avg, count, max, sum};
use datafusion::logical_expr::{Expr, LogicalPlan, cast, lit, when};
use datafusion::prelude::{DataFrame, SessionContext, col, ident};
use datafusion::sql::TableReference;
use futures::TryStreamExt;
use hardtack_core::{Error, JobContext, Result, nearest};
use hardtack_dqdl::{Aggregation, AggregationFunction, Check, ColumnPairs, Condition, NumberCondition, Rule};

use crate::compile::{Compiler, Judgement, Number, Shown};
use crate::condition::resolved;
use crate::example::Examples;
use crate::flow::flow;
use crate::measure::{Quantity, Row};
use crate::query::{Query, Tap, columns_of, frame};

/// The name of the rows in SQL.
const PRIMARY: &str = "primary";

impl Compiler<'_> {
    /// A rule that needs another data set, or a query over all rows.
    pub(crate) fn other_data(&mut self, rule: &Rule) -> Result<Judgement, String> {
        match &rule.check {
            Check::RowCountMatch { reference, condition } => {
                let theirs = self.reference(reference)?;
                let theirs = self.single(theirs.aggregate(vec![], vec![count(lit(1_i64)).alias("n")]))?;
                let name = format!("Dataset.{}.RowCountMatch", &**reference);
                self.judged(name, Quantity::Rows.over(theirs), condition, false, None)
            }
            Check::SchemaMatch { reference, condition } => {
                let theirs = self.reference(reference)?;
                let share = same_columns(&self.schema, theirs.schema().as_arrow());
                let name = format!("Dataset.{}.SchemaMatch", &**reference);
                // As in Deequ, data sets with different numbers of columns never match.
                match self.schema.fields().len() == theirs.schema().fields().len() {
                    true => self.judged(name, Quantity::Known(share), condition, false, None),
                    false => {
                        let actual = format!(
                            "{} columns, and {} in `{}`",
                            self.schema.fields().len(),
                            theirs.schema().fields().len(),
                            &**reference
                        );
                        Ok(Judgement::Known { passed: false, actual })
                    }
                }
            }
            Check::AggregateMatch { first, second, condition } => {
                let (a, b) = (self.aggregation(first)?, self.aggregation(second)?);
                let (x, y) = (first.column(), second.column());
                let columns = if x == y { x.to_owned() } else { format!("{x},{y}") };
                let ratio = Quantity::AggregateRatio(Box::new(a), Box::new(b));
                self.judged(format!("Column.{columns}.AggregateMatch"), ratio, condition, false, None)
            }
            Check::ReferentialIntegrity { columns, reference, condition } => {
                let ours = columns.columns().map(|column| self.index(column)).collect::<Result<Vec<_>, _>>()?;
                let other = self.reference(reference.alias())?;
                let theirs =
                    reference.columns().map(|column| their_column(&other, column)).collect::<Result<Vec<_>, _>>()?;
                if ours.len() != theirs.len() {
                    return Err(format!("{} columns are compared with {}", ours.len(), theirs.len()));
                }
                let query = self.found_among(&ours, other.select(theirs).map_err(explain)?)?;
                let examples = if self.is_sensitive(&ours) { Shown::Redacted } else { Shown::Query(query) };
                let name = format!("Column.{}.ReferentialIntegrity", reference.alias());
                self.judged(name, Quantity::Query(query, 0).over(Quantity::Rows), condition, true, Some(examples))
            }
            Check::DatasetMatch { reference, keys, columns, condition } => {
                let other = self.reference(reference)?;
                let query = self.dataset_match(&other, keys, columns.as_ref())?;
                let name = format!("Dataset.{}.DatasetMatch", &**reference);
                self.judged(name, Quantity::Query(query, 0).over(Quantity::Rows), condition, true, None)
            }
            Check::CustomSql { statement, condition } => self.custom_sql(rule, statement, condition.as_ref()),
            _ => Err("it has no other data".to_owned()),
        }
    }

    pub(crate) fn judged(
        &mut self,
        metric: String,
        quantity: Quantity,
        condition: &NumberCondition,
        is_share: bool,
        examples: Option<Shown>,
    ) -> Result<Judgement, String> {
        let condition = resolved(condition, self.earlier(&metric))?;
        Ok(Judgement::Number(Number { metric, quantity, condition, is_share, in_view: None, examples }))
    }

    fn reference(&self, alias: &str) -> Result<DataFrame, String> {
        let references = &self.settings.references;
        references.get(alias).cloned().ok_or_else(|| match nearest(alias, references.keys().map(String::as_str)) {
            Some(other) => format!("there is no data set `{alias}`; did you mean `{other}`?"),
            None => format!("there is no data set `{alias}`; give it with `Rules::reference(\"{alias}\", rows)`"),
        })
    }

    /// A query that reads nothing of the rows, with one row as its result.
    fn single(&mut self, rows: datafusion::error::Result<DataFrame>) -> Result<Quantity, String> {
        let rows = rows.map_err(explain)?;
        let answer = async move { Ok(Row { values: single_row(rows).await, examples: Vec::new() }) };
        Ok(Quantity::Query(self.add(Query { tap: None, answer: Box::pin(answer) }), 0))
    }

    fn aggregation(&mut self, aggregation: &Aggregation) -> Result<Quantity, String> {
        let Some(alias) = aggregation.alias().filter(|alias| *alias != PRIMARY) else {
            return self.own_aggregate(aggregation.function(), aggregation.column());
        };
        let other = self.reference(alias)?;
        let column = cast(their_column(&other, aggregation.column())?, DataType::Float64);
        let value = match aggregation.function() {
            AggregationFunction::Sum => sum(column),
            AggregationFunction::Avg => avg(column),
        };
        self.single(other.aggregate(vec![], vec![value.alias("value")]))
    }

    /// Counts the rows whose values are among others; rows without a value are not.
    fn found_among(&mut self, ours: &[usize], theirs: DataFrame) -> Result<usize, String> {
        let schema = columns_of(&self.schema, ours);
        let (feed, table) = flow(Arc::clone(&schema)).map_err(|e| e.chain())?;
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let there = names.iter().map(|name| ident(name).is_not_null()).reduce(Expr::and).ok_or("expected a column")?;
        let state = self.settings.job.session().state();
        let ours_frame = frame(&state, table).map_err(|e| e.chain())?;
        let counted = with_both(ours_frame, theirs, &names, Some(there)).map_err(explain)?;
        let answer = async move { found(counted).await };
        let tap = Some(Tap { columns: ours.to_vec(), schema, filter: None, feed });
        Ok(self.add(Query { tap, answer: Box::pin(answer) }))
    }

    fn dataset_match(
        &mut self,
        other: &DataFrame,
        keys: &ColumnPairs,
        columns: Option<&ColumnPairs>,
    ) -> Result<usize, String> {
        let mut ours = Vec::new();
        let mut theirs = Vec::new();
        for (mine, yours) in keys.pairs() {
            ours.push(self.index(mine)?);
            theirs.push(their_column(other, yours)?);
        }
        let key_count = ours.len();
        let pairs: Vec<(String, String)> = match columns {
            Some(columns) => columns.pairs().map(|(mine, yours)| (mine.to_owned(), yours.to_owned())).collect(),
            None => {
                let others = self.schema.fields().iter().enumerate().filter(|(i, _)| !ours.contains(i));
                others.map(|(_, field)| (field.name().clone(), field.name().clone())).collect()
            }
        };
        if pairs.is_empty() {
            return Err("no column is left that could be compared".to_owned());
        }
        for (mine, yours) in &pairs {
            ours.push(self.index(mine)?);
            theirs.push(their_column(other, yours)?);
        }
        let schema = columns_of(&self.schema, &ours);
        let names: Vec<String> = (0..ours.len()).map(|i| format!("k{i}")).collect();
        let (feed, table) = flow(Arc::clone(&schema)).map_err(|e| e.chain())?;
        let state = self.settings.job.session().state();
        let mine = frame(&state, table).map_err(|e| e.chain())?;
        // A column may be compared under two names.
        let renamed = schema.fields().iter().zip(&names).map(|(field, name)| ident(field.name()).alias(name));
        let mine = mine.select(renamed.collect::<Vec<_>>()).map_err(explain)?;
        let keys: Vec<Expr> = names[..key_count].iter().map(ident).collect();
        let there = keys.iter().cloned().map(Expr::is_not_null).reduce(Expr::and).ok_or("expected a key")?;
        let compared = || {
            // Rows without a key match nothing.
            let pairs = with_both(mine, other.clone().select(theirs)?, &names, Some(there))?;
            let matched = when(col("theirs").gt(lit(0_i64)), col("ours")).otherwise(lit(0_i64))?;
            let by_key = pairs.aggregate(
                keys,
                vec![sum(matched).alias("matched"), sum(col("ours")).alias("ours"), sum(col("theirs")).alias("theirs")],
            )?;
            by_key.aggregate(
                vec![],
                vec![
                    sum(col("matched")).alias("matched"),
                    max(col("ours")).alias("ours"),
                    max(col("theirs")).alias("theirs"),
                ],
            )
        };
        let compared = compared().map_err(explain)?;
        let answer = async move {
            let values = single_row(compared).await.and_then(|row| {
                let at = |i: usize| row.get(i).and_then(crate::measure::number).unwrap_or(0.0);
                match at(1) > 1.0 || at(2) > 1.0 {
                    true => Err("its keys are not unique in both data sets".to_owned()),
                    false => Ok(vec![ScalarValue::Float64(Some(at(0)))]),
                }
            });
            Ok(Row { values, examples: Vec::new() })
        };
        let tap = Some(Tap { columns: ours, schema, filter: None, feed });
        Ok(self.add(Query { tap, answer: Box::pin(answer) }))
    }

    fn custom_sql(
        &mut self,
        rule: &Rule,
        statement: &str,
        condition: Option<&NumberCondition>,
    ) -> Result<Judgement, String> {
        let used = mentioned(&self.schema, statement);
        let schema: SchemaRef = Arc::new(self.schema.project(&used).map_err(|e| e.to_string())?);
        let (feed, table) = flow(Arc::clone(&schema)).map_err(|e| e.chain())?;
        let primary = frame(&self.settings.job.session().state(), table).map_err(|e| e.chain())?;
        let sql = Sql {
            job: self.settings.job.clone(),
            statement: statement.to_owned(),
            primary,
            references: self.settings.references.clone(),
            by_row: condition.is_none(),
        };
        // An error of execution may contain a value.
        let hides = self.is_sensitive(&used);
        let answer = async move {
            let values = sql.answer().await.map_err(|e| match hides {
                true => "the statement failed; why is not shown, because it speaks of sensitive columns".to_owned(),
                false => e.chain(),
            });
            Ok(Row { values, examples: Vec::new() })
        };
        let tap = Some(Tap { columns: used, schema, filter: None, feed });
        let query = Quantity::Query(self.add(Query { tap, answer: Box::pin(answer) }), 0);
        match condition {
            Some(_) if rule.threshold.is_some() => Err("a condition and a threshold exclude each other".to_owned()),
            Some(condition) => {
                self.judged(format!("Dataset.*.CustomSQL of {statement}"), query, condition, false, None)
            }
            None => {
                let metric = format!("Dataset.*.CustomSQL.Compliance of {statement}");
                let threshold =
                    rule.threshold.as_ref().map(|threshold| resolved(threshold, self.earlier(&metric))).transpose()?;
                if threshold.iter().flat_map(Condition::operands).any(|share| *share > 1.0) {
                    return Err("a threshold is the share of rows that pass, from 0 to 1".to_owned());
                }
                let failed = Quantity::Rows.minus(query);
                Ok(Judgement::Rows { metric, rows: Quantity::Rows, failed, threshold, examples: None })
            }
        }
    }
}

fn explain(error: datafusion::error::DataFusionError) -> String {
    Error::from(error).chain()
}

/// The share of our columns that the other data set has under the same name and with the same type.
fn same_columns(ours: &Schema, theirs: &Schema) -> f64 {
    let all = ours.fields().len();
    let plain = |schema: &Schema| crate::measure::plain(&Arc::new(schema.clone()));
    let theirs = plain(theirs);
    let same = ours
        .fields()
        .iter()
        .filter(|field| theirs.field_with_name(field.name()).is_ok_and(|other| other.data_type() == field.data_type()));
    if all == 0 { 0.0 } else { same.count() as f64 / all as f64 }
}

/// A column of another data set, by its name or, if that is clear, in another case.
fn their_column(other: &DataFrame, name: &str) -> Result<Expr, String> {
    let schema = other.schema();
    let find = |same: &dyn Fn(&str) -> bool| {
        let mut found = schema.iter().filter(|(_, field)| same(field.name()));
        match (found.next(), found.next()) {
            (Some(column), None) => Some(Expr::Column(column.into())),
            _ => None,
        }
    };
    find(&|other| other == name).or_else(|| find(&|other| other.eq_ignore_ascii_case(name))).ok_or_else(
        || match nearest(name, schema.fields().iter().map(|field| field.name().as_str())) {
            Some(other) => format!("the other data set has no column `{name}`; did you mean `{other}`?"),
            None => format!("the other data set has no column `{name}`"),
        },
    )
}

/// For all different values of both data sets, how often they occur in each. One aggregation, because it spills.
fn with_both(
    ours: DataFrame,
    theirs: DataFrame,
    names: &[String],
    condition: Option<Expr>,
) -> datafusion::error::Result<DataFrame> {
    let columns = theirs.schema().columns();
    let renamed = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(name));
    let theirs = theirs.select(renamed.collect::<Vec<_>>())?;
    let names = || names.iter().map(ident);
    let with = |rows: DataFrame, ours: i64, theirs: i64| {
        let rows = condition.clone().map_or(Ok(rows.clone()), |condition| rows.filter(condition))?;
        rows.select(names().chain([lit(ours).alias("ours"), lit(theirs).alias("theirs")]).collect::<Vec<_>>())
    };
    let both = with(ours, 1, 0)?.union(with(theirs, 0, 1)?)?;
    both.aggregate(names().collect(), vec![sum(col("ours")).alias("ours"), sum(col("theirs")).alias("theirs")])
}

/// The number of our rows that the others have, and some that they have not.
async fn found(counted: DataFrame) -> Result<Row> {
    let (mut found, mut missing) = (0_i64, Examples::default());
    let mut batches = counted.execute_stream().await?;
    while let Some(batch) = batches.try_next().await? {
        let last = batch.num_columns() - 1;
        let (ours, theirs) =
            (batch.column(last - 1).as_primitive::<Int64Type>(), batch.column(last).as_primitive::<Int64Type>());
        let absent = ours.iter().zip(theirs).map(|(ours, theirs)| Some(ours > Some(0) && theirs == Some(0))).collect();
        found +=
            ours.iter().zip(theirs).filter(|(_, theirs)| *theirs > Some(0)).filter_map(|(ours, _)| ours).sum::<i64>();
        let columns = batch.columns()[..last - 1].iter().map(|column| filter(column, &absent));
        let columns =
            columns.collect::<std::result::Result<Vec<_>, _>>().map_err(datafusion::error::DataFusionError::from)?;
        if columns.first().is_some_and(|column| !column.is_empty()) {
            missing.add_all(columns).map_err(datafusion::error::DataFusionError::from)?;
        }
    }
    let examples = missing.texts().map_err(datafusion::error::DataFusionError::from)?;
    Ok(Row { values: Ok(vec![ScalarValue::Int64(Some(found))]), examples })
}

/// The values of the only row.
async fn single_row(rows: DataFrame) -> Result<Vec<ScalarValue>, String> {
    let columns = rows.schema().fields().len();
    let batches = rows.limit(0, Some(2)).map_err(explain)?.collect().await.map_err(explain)?;
    let batches: Vec<_> = batches.into_iter().filter(|batch| batch.num_rows() > 0).collect();
    match &batches[..] {
        [batch] if batch.num_rows() == 1 => {
            (0..columns).map(|i| ScalarValue::try_from_array(batch.column(i), 0).map_err(explain)).collect()
        }
        [] => Err("the query returned no row, and one is expected".to_owned()),
        _ => Err("the query returned several rows, and one is expected".to_owned()),
    }
}

/// The columns that a statement can mean: all that it names, or all if it has a star.
fn mentioned(schema: &Schema, statement: &str) -> Vec<usize> {
    let text = statement.to_lowercase();
    let counts: String = text.split_whitespace().collect();
    let stars = counts.matches('*').count() > counts.matches("count(*)").count();
    let all = stars || text.contains("natural");
    let named = |i: &usize| all || text.contains(&schema.field(*i).name().to_lowercase());
    (0..schema.fields().len()).filter(named).collect()
}

/// A statement over the rows.
struct Sql {
    job: JobContext,
    statement: String,
    primary: DataFrame,
    references: BTreeMap<String, DataFrame>,
    /// Whether it returns the rows that pass.
    by_row: bool,
}

impl Sql {
    async fn answer(self) -> Result<Vec<ScalarValue>> {
        // Planned first over no rows, to find out how columns are spelt and how often the rows are read.
        let (spelling, plan) = match self.plan_without_rows(Spelling::AsWritten).await {
            Ok(plan) => (Spelling::AsWritten, plan),
            // Spark does not care about case.
            Err(error) => {
                let plan = self.plan_without_rows(Spelling::LowerCase).await.map_err(|_| error)?;
                (Spelling::LowerCase, plan)
            }
        };
        let scans = scans_of_the_rows(&plan)?;
        let mut primary = spelling.of(self.primary.clone())?;
        if scans > 1 || self.by_row {
            // Rows flow once.
            primary = self.job.persisted(primary)?;
        }
        // Rows that are not read would never flow.
        let table = if scans == 0 { no_rows(&primary) } else { primary.clone().into_view() };
        let session = self.session(table, spelling)?;
        if self.by_row { self.matching(&session, primary).await } else { self.single(&session).await }
    }

    async fn plan_without_rows(&self, spelling: Spelling) -> Result<LogicalPlan> {
        let primary = spelling.of(self.primary.clone())?;
        self.plan(&self.session(no_rows(&primary), spelling)?).await
    }

    /// A session that knows only the data sets of the rules.
    fn session(&self, primary: Arc<dyn TableProvider>, spelling: Spelling) -> Result<SessionContext> {
        let state = SessionStateBuilder::new_from_existing(self.job.session().state())
            .with_catalog_list(Arc::new(MemoryCatalogProviderList::new()))
            .build();
        let config = state.config().options();
        let (catalog, schema) = (config.catalog.default_catalog.clone(), config.catalog.default_schema.clone());
        let provider = Arc::new(MemoryCatalogProvider::new());
        provider.register_schema(&schema, Arc::new(MemorySchemaProvider::new()))?;
        let session = SessionContext::new_with_state(state);
        session.register_catalog(catalog, provider);
        session.register_table(TableReference::bare(PRIMARY), primary)?;
        for (alias, rows) in &self.references {
            session.register_table(TableReference::bare(alias.as_str()), spelling.of(rows.clone())?.into_view())?;
        }
        Ok(session)
    }

    async fn plan(&self, session: &SessionContext) -> Result<LogicalPlan> {
        let plan = session.state().create_logical_plan(&self.statement).await?;
        SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false)
            .verify_plan(&plan)?;
        Ok(plan)
    }

    async fn single(&self, session: &SessionContext) -> Result<Vec<ScalarValue>> {
        let plan = self.plan(session).await?;
        let columns = plan.schema().fields().len();
        if columns != 1 {
            return Err(Error::refused(format!("the statement returned {columns} columns, and one is expected")));
        }
        single_row(DataFrame::new(session.state(), plan)).await.map_err(Error::refused)
    }

    /// The number of rows that look like one of those that the statement returns.
    async fn matching(&self, session: &SessionContext, primary: DataFrame) -> Result<Vec<ScalarValue>> {
        let plan = self.plan(session).await?;
        let returned = DataFrame::new(session.state(), plan);
        let mut seen = BTreeSet::new();
        let names: Vec<String> = returned.schema().fields().iter().map(|field| field.name().clone()).collect();
        for name in &names {
            if primary.schema().field_with_unqualified_name(name).is_err() || !seen.insert(name) {
                return Err(Error::refused(format!(
                    "the statement returned a column `{name}`, and without a condition it returns columns of the rows that pass"
                )));
            }
        }
        let ours = primary.select(names.iter().map(ident).collect::<Vec<_>>())?;
        let both = with_both(ours, returned, &names, None)?;
        let matched =
            both.filter(col("theirs").gt(lit(0_i64)))?.aggregate(vec![], vec![sum(col("ours")).alias("matched")])?;
        let mut row = single_row(matched).await.map_err(Error::refused)?;
        if let Some(ScalarValue::Int64(None)) = row.first() {
            row = vec![ScalarValue::Int64(Some(0))];
        }
        Ok(row)
    }
}

/// How a statement spells the names of columns.
#[derive(Clone, Copy)]
enum Spelling {
    AsWritten,
    LowerCase,
}

impl Spelling {
    /// The rows with their columns spelt so. Names that would be equal stay as they are.
    fn of(self, rows: DataFrame) -> Result<DataFrame> {
        let columns = rows.schema().columns();
        let lower: Vec<String> = columns.iter().map(|column| column.name.to_lowercase()).collect();
        let is_clear = lower.iter().collect::<BTreeSet<_>>().len() == lower.len();
        match self {
            Self::LowerCase if is_clear => {
                let renamed = columns.into_iter().zip(lower).map(|(column, name)| Expr::Column(column).alias(name));
                Ok(rows.select(renamed.collect::<Vec<_>>())?)
            }
            _ => Ok(rows),
        }
    }
}

/// A table with the columns of rows.
fn no_rows(rows: &DataFrame) -> Arc<dyn TableProvider> {
    Arc::new(EmptyTable::new(Arc::clone(rows.schema().inner())))
}

/// How often a plan reads the rows that are audited.
fn scans_of_the_rows(plan: &LogicalPlan) -> Result<usize> {
    let mut scans = 0;
    plan.apply_with_subqueries(|plan| {
        if let LogicalPlan::TableScan(scan) = plan
            && scan.table_name.table() == PRIMARY
        {
            scans += 1;
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(scans)
}
