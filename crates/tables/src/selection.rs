//! Tables that have only some of the files in their folders.

use std::collections::BTreeMap;

use hardtack_catalog::Table as Description;
use hardtack_core::{Error, Result};
use hardtack_sources::{Globs, Wanted};

/// The parameter with the patterns of a table's files, as a list in JSON: others of the same folder are not its. They are
/// paths below the table's folder, or below that of a partition.
pub(crate) const FILES: &str = "hardtack.files";
/// The parameter with the patterns of files that are none of the table's.
pub(crate) const EXCLUDE: &str = "hardtack.exclude";
/// The parameter with the partition keys whose folders are called `value` and not `key=value`.
pub(crate) const PLAIN_KEYS: &str = "hardtack.plain_keys";
/// The parameter with the columns whose types were said and not found out: crawls leave them alone.
pub(crate) const TYPES: &str = "hardtack.types";

/// The patterns, or names, that a parameter lists.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it is no list.
pub(crate) fn listed(table: &Description, parameter: &str) -> Result<Vec<String>> {
    let Some(text) = table.parameters.get(parameter) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|e| {
        Error::usage(format!("`{parameter}` is no list of texts such as `[\"*.csv\"]`"))
            .with("table", table.qualified_name())
            .because(e)
    })
}

/// Writes a list into a parameter, or removes it if the list is empty; says whether anything was otherwise before.
pub(crate) fn write(parameters: &mut BTreeMap<String, String>, parameter: &str, list: &[String]) -> bool {
    let before = parameters.get(parameter).cloned();
    if list.is_empty() {
        parameters.remove(parameter);
    } else {
        parameters.insert(parameter.to_owned(), serde_json::json!(list).to_string());
    }
    before.as_ref() != parameters.get(parameter)
}

/// Which files of its folders a table has.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for parameters that are none.
pub(crate) fn wanted(table: &Description) -> Result<Wanted> {
    let globs =
        |parameter| Globs::parse(listed(table, parameter)?).map_err(|e| e.with("table", table.qualified_name()));
    Ok(Wanted { only: globs(FILES)?, except: globs(EXCLUDE)? })
}

/// Whether other files of its folders are another table's.
pub(crate) fn is_part(table: &Description) -> bool {
    table.parameters.contains_key(FILES)
}
