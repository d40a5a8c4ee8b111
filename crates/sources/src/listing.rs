//! Which files a source has.

use std::collections::BTreeMap;
use std::fmt;

use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use hardtack_core::{Error, Location, Result, Store, Stores};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use percent_encoding::percent_decode_str;

use crate::input::Compression;

/// Which files below a location belong to a source.
#[derive(Debug, Clone)]
pub(crate) struct Search<'a> {
    pub(crate) location: &'a Location,
    pub(crate) recursive: bool,
    pub(crate) glob: Option<&'a str>,
    /// What files are called when there is no glob.
    pub(crate) suffixes: &'static [&'static str],
    pub(crate) compressed: bool,
}

/// The files of a source, sorted by name.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) store: Store,
    pub(crate) files: Vec<Found>,
    pub(crate) passed_over: PassedOver,
}

/// A file and what its folders say about it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) meta: ObjectMeta,
    /// The values of the folders `name=value` between the source's location and the file; nothing for Hive's null.
    pub(crate) partitions: BTreeMap<String, Option<String>>,
}

/// Files that were seen and are not part of the source.
#[derive(Debug, Default)]
pub(crate) struct PassedOver {
    hidden: usize,
    others: usize,
    example: Option<String>,
}

/// Which a source looks like from outside, for messages.
impl fmt::Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files = |n: usize| if n == 1 { "1 file".to_owned() } else { format!("{n} files") };
        if let Some(example) = &self.example {
            write!(f, "{} of another name (`{example}`)", files(self.others))?;
        }
        if self.hidden > 0 {
            let and = if self.others > 0 { " and " } else { "" };
            write!(f, "{and}{} hidden by a leading `.` or `_`", files(self.hidden))?;
        }
        Ok(())
    }
}

impl PassedOver {
    pub(crate) fn is_empty(&self) -> bool {
        self.hidden + self.others == 0
    }
}

impl Search<'_> {
    /// Looks for the files. A location that names a file is that file, whatever its name. A folder is searched; files and
    /// folders whose names start with `.` or `_` are hidden, but for folders that are partitions (`_x=1`).
    pub(crate) async fn list(&self, stores: &Stores) -> Result<Listing> {
        let (store, path) = stores.open(self.location)?;
        let failed = |e: object_store::Error| Error::from(e).with("location", self.location);
        if let Some(meta) = self.single(&store, &path).await? {
            let files = vec![Found { meta, partitions: BTreeMap::new() }];
            return Ok(Listing { store, files, passed_over: PassedOver::default() });
        }
        let pattern = self.pattern()?;
        let mut found = if self.recursive {
            store.objects.list(Some(&path)).try_collect().await.map_err(failed)?
        } else {
            store.objects.list_with_delimiter(Some(&path)).await.map_err(failed)?.objects
        };
        found.sort_unstable_by(|a: &ObjectMeta, b| a.location.cmp(&b.location));
        let (mut files, mut passed_over) = (Vec::new(), PassedOver::default());
        for meta in found {
            let Some(parts) = meta.location.prefix_match(&path) else { continue };
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            let Some((name, folders)) = parts.split_last() else { continue };
            if is_hidden(name, folders) {
                passed_over.hidden += 1;
            } else if !self.accepts(name, &parts.join("/"), pattern.as_ref()) {
                passed_over.others += 1;
                passed_over.example.get_or_insert_with(|| parts.join("/"));
            } else {
                let partitions = folders.iter().filter_map(|folder| partition(folder)).collect();
                files.push(Found { meta, partitions });
            }
        }
        Ok(Listing { store, files, passed_over })
    }

    async fn single(&self, store: &Store, path: &Path) -> Result<Option<ObjectMeta>> {
        if self.location.resolve()?.folder || path.as_ref().is_empty() {
            return Ok(None);
        }
        match store.objects.head(path).await {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::from(e).with("location", self.location)),
        }
    }

    fn pattern(&self) -> Result<Option<Pattern>> {
        let parse = |glob: &str| {
            Pattern::new(glob).map_err(|e| {
                Error::usage(format!("`{glob}` is not a glob such as `**/*.json.gz`: {}", e.msg))
                    .with("location", self.location)
            })
        };
        self.glob.map(parse).transpose()
    }

    fn accepts(&self, name: &str, path: &str, pattern: Option<&Pattern>) -> bool {
        if let Some(pattern) = pattern {
            // `*` stays within a folder; `**` crosses folders.
            return pattern.matches_with(path, MatchOptions { require_literal_separator: true, ..MatchOptions::new() });
        }
        let name = name.to_ascii_lowercase();
        let bare = Compression::suffixes().find_map(|s| name.strip_suffix(s)).filter(|_| self.compressed);
        self.suffixes.iter().any(|s| name.ends_with(s) || bare.is_some_and(|bare| bare.ends_with(s)))
    }

    /// What is looked for, for messages.
    pub(crate) fn wanted(&self) -> String {
        match self.glob {
            Some(glob) => format!("`{glob}`"),
            None => {
                let names: Vec<_> = self.suffixes.iter().map(|s| format!("`*{s}`")).collect();
                format!("{}{}", names.join(", "), if self.compressed { " (or compressed)" } else { "" })
            }
        }
    }
}

fn is_hidden(name: &str, folders: &[String]) -> bool {
    let hidden = |part: &str| part.starts_with('.') || part.starts_with('_');
    hidden(name) || folders.iter().any(|f| hidden(f) && partition(f).is_none())
}

/// What Hive calls the folder of rows whose partition column is null.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What a folder `name=value` says. Hive escapes what a path cannot hold as `%3A`.
fn partition(folder: &str) -> Option<(String, Option<String>)> {
    let (name, value) = folder.split_once('=').filter(|(name, _)| !name.is_empty() && !name.starts_with('.'))?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8().map_or(text.to_owned(), String::from);
    let value = (!value.is_empty() && value != HIVE_NULL).then(|| decode(value));
    Some((decode(name), value))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("year=2020", Some(("year", Some("2020"))))]
    #[case("x%3Ay=a%2Fb%20=c", Some(("x:y", Some("a/b =c"))))]
    #[case("x=__HIVE_DEFAULT_PARTITION__", Some(("x", None)))]
    #[case("x=", Some(("x", None)))]
    #[case("x=%FF", Some(("x", Some("%FF"))))]
    #[case("_x=1", Some(("_x", Some("1"))))]
    #[case("=1", None)]
    #[case("plain", None)]
    fn folders_name_partitions(#[case] folder: &str, #[case] wanted: Option<(&str, Option<&str>)>) {
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(partition(folder), wanted);
    }
}
