//! Proposes rules from what rows are like.

use std::collections::BTreeSet;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::expr_fn::character_length;
use datafusion::functions_aggregate::expr_fn::{count, count_distinct, max, min};
use datafusion::logical_expr::{Expr, cast, lit};
use datafusion::prelude::{DataFrame, ident};
use hardtack_core::audit::is_sensitive;
use hardtack_core::{Error, Result};
use hardtack_dqdl::build::{column_length, column_values, completeness, is_complete, is_unique, row_count};
use hardtack_dqdl::{Rule, RuleSet, StringCondition, StringList, ValueCondition};

use crate::condition::is_text;
use crate::measure::number;

/// A column with at most so many values has a list of them.
const FEW: i64 = 10;
/// Fewer rows say nothing about what is unique, or what all values are.
const ENOUGH: f64 = 20.0;

/// Proposes rules that the rows meet, for a person to read and to adapt: how many rows there are, which columns are
/// complete and unique, which values, lengths and ranges occur.
///
/// # Errors
/// Those of reading the rows; [`Usage`](hardtack_core::ErrorKind::Usage) if there are none.
pub async fn recommend(rows: DataFrame) -> Result<RuleSet> {
    let fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    let fields: Vec<_> = fields.into_iter().filter(|field| !field.data_type().is_nested()).collect();
    let mut aggregates = vec![count(lit(1_i64)).alias("rows")];
    for (i, field) in fields.iter().enumerate() {
        let column = ident(field.name());
        let measured: Expr = match is_text(field.data_type()) {
            true => cast(character_length(column.clone()), DataType::Int64),
            false => column.clone(),
        };
        aggregates.push(count(column.clone()).alias(format!("n{i}")));
        aggregates.push(count_distinct(column).alias(format!("d{i}")));
        aggregates.push(min(measured.clone()).alias(format!("l{i}")));
        aggregates.push(max(measured).alias(format!("h{i}")));
    }
    let profile = rows.clone().aggregate(vec![], aggregates)?.collect().await?;
    let Some(profile) = profile.first() else { return Err(Error::unexpected("an aggregate has no row")) };
    let value = |name: &str| -> Result<ScalarValue> {
        let column = profile.column_by_name(name).ok_or_else(|| Error::unexpected("an aggregate is missing"))?;
        Ok(ScalarValue::try_from_array(column, 0)?)
    };
    let all = number(&value("rows")?).unwrap_or_default();
    if all == 0.0 {
        return Err(Error::usage("there are no rows from which rules could be proposed"));
    }
    let mut rules: Vec<Rule> = vec![row_count().between((all * 0.5).floor() - 1.0, (all * 1.5).ceil() + 1.0)];
    for (i, field) in fields.iter().enumerate() {
        let name = field.name().as_str();
        let [there, distinct] = [format!("n{i}"), format!("d{i}")].map(|name| value(&name));
        let (there, distinct) = (number(&there?).unwrap_or_default(), number(&distinct?).unwrap_or_default());
        if there == all {
            rules.push(is_complete(name));
        } else if there > 0.0 {
            // A little less, because the next rows will not be the same.
            rules.push(completeness(name).at_least(((there / all) * 0.95 * 100.0).floor() / 100.0));
        }
        let nulls = |rule: Rule| if there == all { rule } else { rule.filter(format!("{} is not null", quoted(name))) };
        if all >= ENOUGH && there > 0.0 && distinct == there {
            rules.push(is_unique([name]));
        }
        if is_sensitive(field) {
            continue;
        }
        let (low, high) = (value(&format!("l{i}"))?, value(&format!("h{i}"))?);
        if is_text(field.data_type()) {
            if all >= ENOUGH && distinct > 0.0 && distinct <= FEW as f64 && distinct < there / 2.0 {
                let values = values(&rows, name).await?;
                let condition =
                    ValueCondition::Strings(StringCondition::In(values.into_iter().collect::<StringList>()));
                rules.push(nulls(Rule::new(hardtack_dqdl::Check::ColumnValues { column: name.into(), condition })));
            } else if let (Some(low), Some(high)) = (number(&low), number(&high)) {
                // The bounds of `between` are excluded.
                rules.push(nulls(column_length(name).between((low - 1.0) as i64, (high + 1.0) as i64)));
            }
        } else if field.data_type().is_numeric()
            && let (Some(low), Some(high)) = (number(&low), number(&high))
        {
            let margin = ((high - low) * 0.1).max(1.0).ceil();
            let low = if low >= 0.0 { (low - margin).max(-1.0) } else { low - margin };
            rules.push(nulls(column_values(name).between(low.floor(), (high + margin).ceil())));
        }
    }
    let set = RuleSet::new(rules);
    set.check().map_err(|e| Error::unexpected("the proposed rules cannot be written").because(e))?;
    Ok(set)
}

/// The different values of a text column, sorted.
async fn values(rows: &DataFrame, name: &str) -> Result<BTreeSet<String>> {
    let column = cast(ident(name), DataType::Utf8).alias("value");
    let distinct = rows.clone().filter(ident(name).is_not_null())?.select(vec![column])?.distinct()?;
    let mut values = BTreeSet::new();
    for batch in distinct.collect().await? {
        let texts = batch.column(0).as_string::<i32>();
        values.extend((0..texts.len()).map(|i| texts.value(i).to_owned()));
    }
    Ok(values)
}

fn quoted(name: &str) -> String {
    let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    let plain = plain && !name.starts_with(|c: char| c.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
