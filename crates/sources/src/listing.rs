//! Finds the files of a source.

use std::collections::BTreeMap;
use std::fmt;

use glob::{MatchOptions, Pattern};
use hardtack_core::listing::{Unlisted, is_iceberg_metadata, list_files, list_files_after};
use hardtack_core::{Error, Location, Result, Store, Stores};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use percent_encoding::percent_decode_str;
use url::Url;

use crate::compression::Compression;
use crate::globs::FileFilter;

/// Which files below a location belong to a source.
#[derive(Debug, Clone)]
pub(crate) struct Search<'a> {
    pub(crate) location: &'a Location,
    /// Whether the location may also denote a file of that name with a suffix.
    pub(crate) file_or_folder: bool,
    pub(crate) recursive: bool,
    pub(crate) glob: Option<&'a str>,
    /// The suffixes of files if there is no glob.
    pub(crate) suffixes: &'static [&'static str],
    pub(crate) compressed: bool,
    /// Only files in a folder whose paths below the location come after this one; empty for all.
    pub(crate) after: &'a str,
}

/// The files of a source, sorted by name.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) store: Store,
    pub(crate) files: Vec<Found>,
    pub(crate) passed_over: PassedOver,
}

/// A file with the partition values of its folders.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) meta: ObjectMeta,
    /// The values of the folders `name=value` between the source's location and the file; none for Hive's null.
    pub(crate) partitions: BTreeMap<String, Option<String>>,
}

/// Files that were found but are not part of the source.
#[derive(Debug, Default)]
pub(crate) struct PassedOver {
    hidden: usize,
    others: usize,
    example: Option<String>,
}

/// For messages about sources without files.
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
    /// Finds the files. A location that names a file is that file, whatever its name. A folder is searched; files and
    /// folders whose names start with `.` or `_` are hidden, except folders of partitions (`_x=1`).
    pub(crate) async fn list(&self, stores: &Stores) -> Result<Listing> {
        let (store, path) = stores.open(self.location)?;
        if self.file_or_folder {
            let files = self.beside(&store, &path).await?;
            let folder = self.folder(store, &path).await?;
            return self.either(files, folder);
        }
        if let Some(meta) = self.single(&store, &path).await? {
            let files = vec![Found { meta, partitions: BTreeMap::new() }];
            return Ok(Listing { store, files, passed_over: PassedOver::default() });
        }
        self.folder(store, &path).await
    }

    async fn folder(&self, store: Store, path: &Path) -> Result<Listing> {
        let failed = |e: object_store::Error| Error::from(e).with("location", self.location);
        let pattern = self.pattern()?;
        let mut found = if self.recursive {
            let hidden = |unlisted: &Unlisted| is_hidden_below(unlisted, path);
            let after = (!self.after.is_empty()).then(|| Path::parse(format!("{path}/{}", self.after))).transpose();
            let after = after.map_err(|e| failed(e.into()))?;
            list_files_after(&store.url, store.objects.as_ref(), path, after.as_ref(), hidden).await?
        } else {
            store.objects.list_with_delimiter(Some(path)).await.map_err(failed)?.objects
        };
        found.sort_unstable_by(|a: &ObjectMeta, b| a.location.cmp(&b.location));
        let (mut files, mut passed_over) = (Vec::new(), PassedOver::default());
        for meta in found {
            let Some(parts) = meta.location.prefix_match(path) else { continue };
            let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
            let Some((name, folders)) = parts.split_last() else { continue };
            if folders == ["metadata"] && is_iceberg_metadata(name) {
                return Err(Error::usage("this is the folder of an Iceberg table, which is not read as plain files")
                    .with("location", self.location)
                    .with("metadata", Location::of(&store.url, &meta.location))
                    .hint("read the table by its name: `--source-database`, or `Table::named(database, table)`"));
            }
            if is_hidden(name, folders) {
                passed_over.hidden += 1;
            } else if !self.accepts(name, &parts.join("/"), pattern.as_ref()) {
                passed_over.others += 1;
                passed_over.example.get_or_insert_with(|| parts.join("/"));
            } else {
                let partitions = folders.iter().filter_map(|folder| folder_partition(folder)).collect();
                files.push(Found { meta, partitions });
            }
        }
        Ok(Listing { store, files, passed_over })
    }

    /// The files named like the location plus a suffix.
    async fn beside(&self, store: &Store, path: &Path) -> Result<Vec<ObjectMeta>> {
        let mut parts: Vec<_> = path.parts().collect();
        let Some(name) = parts.pop() else { return Ok(Vec::new()) };
        let parent = Path::from_iter(parts);
        let listed = match store.objects.list_with_delimiter(Some(&parent)).await {
            Ok(listed) => listed.objects,
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            Err(e) => return Err(Error::from(e).with("location", self.location)),
        };
        let is_ours = |meta: &ObjectMeta| {
            let rest = meta.location.filename().and_then(|file| file.strip_prefix(name.as_ref()));
            rest.is_some_and(|rest| self.bare(&rest.to_ascii_lowercase()).any(|rest| self.suffixes.contains(&rest)))
        };
        let mut files: Vec<_> = listed.into_iter().filter(is_ours).collect();
        files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        Ok(files)
    }

    /// The single file or the folder's files, whichever exists.
    fn either(&self, mut files: Vec<ObjectMeta>, folder: Listing) -> Result<Listing> {
        if files.len() + usize::from(!folder.files.is_empty()) > 1 {
            let found = files.iter().map(|file| &file.location).chain(folder.files.iter().map(|f| &f.meta.location));
            let names: Vec<_> = found.take(2).map(|at| format!("`{}`", Location::of(&folder.store.url, at))).collect();
            let message = format!("there are both {}, but expected one file or one folder", names.join(" and "));
            let hint = "; remove what is not meant, or name a file with its suffix";
            return Err(Error::usage(message + hint).with("location", self.location));
        }
        Ok(match files.pop() {
            Some(meta) => Listing { files: vec![Found { meta, partitions: BTreeMap::new() }], ..folder },
            None => folder,
        })
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
        self.bare(&name.to_ascii_lowercase()).any(|name| self.suffixes.iter().any(|s| name.ends_with(s)))
    }

    /// The name, with and without the suffix of a compression.
    fn bare<'n>(&self, name: &'n str) -> impl Iterator<Item = &'n str> {
        let bare = Compression::suffixes().find_map(|s| name.strip_suffix(s)).filter(|_| self.compressed);
        std::iter::once(name).chain(bare)
    }

    /// A description of the files to find, for messages.
    pub(crate) fn wanted(&self) -> String {
        let names = |stem: &str| {
            let names: Vec<_> = self.suffixes.iter().map(|s| format!("`{stem}{s}`")).collect();
            format!("{}{}", names.join(", "), if self.compressed { " (or compressed)" } else { "" })
        };
        let inside = self.glob.map_or_else(|| names("*"), |glob| format!("`{glob}`"));
        if !self.file_or_folder {
            return inside;
        }
        let stem = self.location.as_str().trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        format!("a file {}, and for {inside} in a folder `{stem}`", names(stem))
    }
}

/// The files in and below a folder, sorted by name, whatever their suffixes; without hidden, empty (some stores have
/// empty objects in place of folders) and excluded ones.
pub(crate) async fn folder_files(
    url: &Url,
    store: &dyn ObjectStore,
    path: &Path,
    wanted: &FileFilter,
) -> Result<Vec<ObjectMeta>> {
    let relative = |u: &Unlisted| below(&u.folder, path).into_iter().chain([u.name.clone()]).collect::<Vec<_>>();
    let spared = |u: &Unlisted| is_hidden_below(u, path) || !wanted.takes(&relative(u).join("/"));
    let mut found = list_files(url, store, path, spared).await?;
    found.retain(|meta| {
        let parts = below(&meta.location, path);
        let seen = parts.split_last().is_some_and(|(name, folders)| !is_hidden(name, folders));
        meta.size > 0 && seen && wanted.takes(&parts.join("/"))
    });
    Ok(found)
}

/// The folders between a path and another below it, and the latter's name.
fn below(path: &Path, above: &Path) -> Vec<String> {
    path.prefix_match(above).into_iter().flatten().map(|part| part.as_ref().to_owned()).collect()
}

fn is_hidden_below(unlisted: &Unlisted, above: &Path) -> bool {
    is_hidden(&unlisted.name, &below(&unlisted.folder, above))
}

fn is_hidden(name: &str, folders: &[String]) -> bool {
    let hidden = |part: &str| part.starts_with('.') || part.starts_with('_');
    hidden(name) || folders.iter().any(|f| hidden(f) && folder_partition(f).is_none())
}

/// Hive's folder name for a null partition value.
const HIVE_NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// Parses a folder name `name=value`, if it is one: the name of a partition column and its value, or none for Hive's
/// null. Hive escapes characters that a path cannot contain as `%3A`.
pub fn folder_partition(folder: &str) -> Option<(String, Option<String>)> {
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
        assert_eq!(folder_partition(folder), wanted);
    }
}
