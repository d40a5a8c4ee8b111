//! Tables that consist of some of the files in their folders.

use std::collections::BTreeMap;

use hardtack_catalog::TableDescription;
use hardtack_core::{Error, Result};
use hardtack_sources::{FileFilter, Globs};

/// The parameter with the patterns of a table's files, as a JSON list; other files of the folder do not belong to it.
/// Patterns are relative to the table's folder, or to that of a partition.
pub(crate) const FILES: &str = "hardtack.files";
/// The parameter with the patterns of files that do not belong to the table.
pub(crate) const EXCLUDE: &str = "hardtack.exclude";
/// The parameter with the partition keys whose folders are named `value` and not `key=value`.
pub(crate) const PLAIN_KEYS: &str = "hardtack.plain_keys";
/// The parameter with the columns whose types were set and not inferred: crawls leave them alone.
pub(crate) const TYPES: &str = "hardtack.types";

/// The patterns or names listed in a parameter.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) if it is not a list.
pub(crate) fn listed(table: &TableDescription, parameter: &str) -> Result<Vec<String>> {
    let Some(text) = table.parameters.get(parameter) else { return Ok(Vec::new()) };
    serde_json::from_str(text).map_err(|e| {
        Error::usage(format!("`{parameter}` is not a list of texts such as `[\"*.csv\"]`"))
            .with("table", table.qualified_name())
            .because(e)
    })
}

/// Writes a list into a parameter, or removes the parameter if the list is empty; returns whether it changed.
pub(crate) fn write(parameters: &mut BTreeMap<String, String>, parameter: &str, list: &[String]) -> bool {
    let before = parameters.get(parameter).cloned();
    if list.is_empty() {
        parameters.remove(parameter);
    } else {
        parameters.insert(parameter.to_owned(), serde_json::json!(list).to_string());
    }
    before.as_ref() != parameters.get(parameter)
}

/// Which files of its folders belong to a table.
///
/// # Errors
/// [`Usage`](hardtack_core::ErrorKind::Usage) for invalid parameters.
pub(crate) fn file_filter(table: &TableDescription) -> Result<FileFilter> {
    let globs =
        |parameter| Globs::parse(listed(table, parameter)?).map_err(|e| e.with("table", table.qualified_name()));
    Ok(FileFilter { only: globs(FILES)?, except: globs(EXCLUDE)? })
}

/// Whether other files of its folders may belong to another table.
pub(crate) fn is_part(table: &TableDescription) -> bool {
    table.parameters.contains_key(FILES)
}
