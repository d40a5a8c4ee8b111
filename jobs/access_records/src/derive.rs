//! The derived columns, as functions over whole columns.

use std::sync::Arc;

use hashbrown::HashMap;

use hardtack::arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringBuilder};
use hardtack::arrow::datatypes::Int64Type;
use hardtack::datafusion::common::Result;
use hardtack::datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use hardtack::prelude::{DataType, DateTime, Expr};

use crate::client::Client;
use crate::entity::entity_id;
use crate::signature::normalize_url;

/// What was called: the method and the [normalized URL](normalize_url); null if either is null.
pub(crate) fn normalized_method_signature(method: Expr, url: Expr) -> Expr {
    let texts = [DataType::Utf8, DataType::Utf8];
    call("normalized_method_signature", [method, url], texts, DataType::Utf8, signatures)
}

/// The client of a user agent; `UNKNOWN` for null.
pub(crate) fn client(user_agent: Expr) -> Expr {
    call("client", [user_agent], [DataType::Utf8], DataType::Utf8, clients)
}

/// The client's version that a user agent states, or null.
pub(crate) fn client_version(user_agent: Expr) -> Expr {
    call("client_version", [user_agent], [DataType::Utf8], DataType::Utf8, client_versions)
}

/// The [entity](entity_id) of a URL, or null.
pub(crate) fn entity(url: Expr) -> Expr {
    call("entity_id", [url], [DataType::Utf8], DataType::Int64, entities)
}

/// The UTC date of a time in milliseconds, as `YYYY-MM-DD`; null for null.
pub(crate) fn date_of_millis(millis: Expr) -> Expr {
    call("date_of_millis", [millis], [DataType::Int64], DataType::Utf8, dates)
}

/// Calls a function from columns of these types to a column.
fn call<const N: usize>(
    name: &str,
    args: [Expr; N],
    types: [DataType; N],
    returns: DataType,
    function: fn(&[ArrayRef]) -> ArrayRef,
) -> Expr {
    let invoke = move |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(function(&ColumnarValue::values_to_arrays(args)?)))
    };
    create_udf(name, types.to_vec(), returns, Volatility::Immutable, Arc::new(invoke)).call(args.to_vec())
}

pub(crate) fn signatures(columns: &[ArrayRef]) -> ArrayRef {
    let (methods, urls) = (columns[0].as_string::<i32>(), columns[1].as_string::<i32>());
    let (mut signatures, mut signature) = (StringBuilder::with_capacity(urls.len(), 32 * urls.len()), String::new());
    for (method, url) in methods.iter().zip(urls) {
        let (Some(method), Some(url)) = (method, url) else {
            signatures.append_null();
            continue;
        };
        signature.clear();
        signature.push_str(method);
        signature.push(' ');
        normalize_url(url, &mut signature);
        signatures.append_value(&signature);
    }
    Arc::new(signatures.finish())
}

pub(crate) fn clients(columns: &[ArrayRef]) -> ArrayRef {
    let user_agents = columns[0].as_string::<i32>();
    let mut known = HashMap::new();
    let mut client = |user_agent| known_or(&mut known, user_agent, Client::of);
    let names = user_agents.iter().map(|user_agent| user_agent.map_or(Client::Unknown, &mut client).name());
    Arc::new(StringArray::from_iter_values(names))
}

pub(crate) fn client_versions(columns: &[ArrayRef]) -> ArrayRef {
    let user_agents = columns[0].as_string::<i32>();
    let mut known = HashMap::new();
    let mut version = |user_agent| known_or(&mut known, user_agent, |agent| Client::of(agent).version(agent));
    Arc::new(user_agents.iter().map(|user_agent| user_agent.and_then(&mut version)).collect::<StringArray>())
}

pub(crate) fn entities(columns: &[ArrayRef]) -> ArrayRef {
    let urls = columns[0].as_string::<i32>();
    Arc::new(urls.iter().map(|url| url.and_then(entity_id)).collect::<Int64Array>())
}

pub(crate) fn dates(columns: &[ArrayRef]) -> ArrayRef {
    const DAY: i64 = 86_400_000;
    let times = columns[0].as_primitive::<Int64Type>();
    let mut dates = StringBuilder::with_capacity(times.len(), 10 * times.len());
    // The times of a delivery are close to each other.
    let mut last: Option<(i64, String)> = None;
    for time in times {
        let Some(day) = time.map(|time| time.div_euclid(DAY)) else {
            dates.append_null();
            continue;
        };
        if last.as_ref().is_none_or(|(known, _)| *known != day) {
            let date = day.checked_mul(DAY).and_then(DateTime::from_timestamp_millis);
            last = date.map(|date| (day, date.format("%Y-%m-%d").to_string()));
        }
        dates.append_option(last.as_ref().map(|(_, date)| date));
    }
    Arc::new(dates.finish())
}

/// The value for a text. Few user agents make most calls, so values are remembered.
fn known_or<'a, V: Copy>(known: &mut HashMap<&'a str, V>, text: &'a str, compute: impl FnOnce(&'a str) -> V) -> V {
    *known.entry(text).or_insert_with(|| compute(text))
}
