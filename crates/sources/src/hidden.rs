//! Columns of files that are named like a partition column, whose value replaces theirs.

use std::fmt;

use arrow::array::Array;
use arrow::datatypes::Field;
use arrow::util::display::array_value_to_string;
use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::guard::guarded;
use hardtack_core::{Error, Location, Result};

use crate::files::Format;
use crate::input::SourceFile;

/// A value that is hidden by a folder's value.
#[derive(Debug, PartialEq)]
pub(crate) struct Hidden {
    pub(crate) file: Location,
    pub(crate) column: String,
    value: String,
    folder: String,
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, column, value, folder } = self;
        write!(f, "`{column}` is `{}` in {file} and `{folder}` in the name of its folder", crate::fault::cut(value))
    }
}

/// The first value of a column that contradicts its file's folder. Only files that have the column are read.
pub(crate) async fn hidden<F: Format>(
    format: &F,
    files: Vec<(SourceFile, Option<String>)>,
    column: &Field,
    concurrency: usize,
) -> Result<Option<Hidden>> {
    let mut found = stream::iter(files)
        .map(|(file, folder)| async move {
            let looking = first_other(format, file.clone(), column, folder.as_deref());
            let value = guarded(&file.location, looking).await?;
            Ok::<_, Error>(value.map(|value| Hidden {
                file: file.location,
                column: column.name().clone(),
                value,
                folder: folder.unwrap_or("null".to_owned()),
            }))
        })
        .buffered(concurrency.max(1));
    while let Some(hidden) = found.try_next().await? {
        if hidden.is_some() {
            return Ok(hidden);
        }
    }
    Ok(None)
}

/// The first value of a file's column that contradicts its folder.
async fn first_other<F: Format>(
    format: &F,
    file: SourceFile,
    column: &Field,
    folder: Option<&str>,
) -> Result<Option<String>> {
    let mut batches = format.column(file, column).await?;
    while let Some(batch) = batches.try_next().await? {
        let values = batch.column(0);
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let value = array_value_to_string(values, row)?;
            if !folder.is_some_and(|folder| says_the_same(&value, folder)) {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}

/// Whether a value and a folder name denote the same number, day or text.
fn says_the_same(value: &str, folder: &str) -> bool {
    let (value, folder) = (value.trim(), folder.trim());
    if value == folder {
        return true;
    }
    let whole = |text: &str| text.strip_suffix(".0").unwrap_or(text).parse::<i128>().ok();
    if let (Some(a), Some(b)) = (whole(value), whole(folder)) {
        return a == b;
    }
    // As a timestamp, a day is its midnight.
    let is_day = folder.len() == 10 && folder.as_bytes()[4] == b'-';
    let time = value.strip_prefix(folder).filter(|_| is_day);
    time.is_some_and(|time| time.starts_with(['T', ' ']) && time[1..].bytes().all(|b| b"0:.Z".contains(&b)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("eu", "eu", true)]
    #[case("eu-west-1", "eu", false)]
    #[case("EU", "eu", false)]
    #[case("1", "01", true)]
    #[case("1.0", "1", true)]
    #[case("1.5", "1", false)]
    #[case("9007199254740993", "9007199254740992", false)]
    #[case("2023-08-28", "2023-08-28", true)]
    #[case("2023-08-28T00:00:00", "2023-08-28", true)]
    #[case("2023-08-28T00:00:00.000Z", "2023-08-28", true)]
    #[case("2023-08-28T10:00:00", "2023-08-28", false)]
    #[case("eu 000", "eu", false)]
    fn folders_say_what_values_say(#[case] value: &str, #[case] folder: &str, #[case] same: bool) {
        assert_eq!(says_the_same(value, folder), same);
    }
}
