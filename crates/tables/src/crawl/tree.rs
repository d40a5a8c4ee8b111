//! Builds the tree of folders from a list of files.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt, stream};
use hardtack_core::listing::{Obstacle, Unlisted, is_iceberg_metadata, list_all};
use hardtack_core::{ErrorKind, Location, Result, Store};
use hardtack_sources::{FileKind, Globs, folder_partition};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::report::CrawlProblem;
use crate::place::is_hidden;

/// A folder, or some of its files, that is a table.
#[derive(Debug, Clone)]
pub(super) struct DataSet {
    pub(super) path: Path,
    pub(super) location: Location,
    pub(super) kind: FileKind,
    /// The names of its partition keys, in lower case.
    pub(super) keys: Vec<String>,
    /// Its partitions by their values; a single one without values if it has no keys.
    pub(super) parts: BTreeMap<Vec<String>, Part>,
    /// The table of the catalog.
    pub(super) owner: Owner,
    /// Its name, if it differs from the folder's.
    pub(super) name: Option<String>,
    /// The patterns of its files, if its folders contain files of others.
    pub(super) only: Vec<String>,
    /// The patterns of files in its folders to leave out.
    pub(super) except: Vec<String>,
    /// The reasons why it is a table.
    pub(super) notes: Vec<String>,
}

impl DataSet {
    /// The keys whose folders are not named `key=value`.
    pub(super) fn plain_keys(&self) -> Vec<String> {
        let base = self.path.parts().count();
        let is_plain = |i: &usize| {
            let name =
                |part: &Part| Some(part.location.resolve().ok()?.path.parts().nth(base + i)?.as_ref().to_owned());
            self.parts.values().filter_map(name).any(|name| folder_partition(&name).is_none())
        };
        (0..self.keys.len()).filter(is_plain).map(|i| self.keys[i].clone()).collect()
    }
}

/// The table of the catalog that a data set belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Owner {
    /// None yet.
    New,
    /// The table with this folder.
    Folder,
    /// The table of this name, among several in the folder.
    Table(String),
}

/// A folder of a partition and the files below it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) location: Location,
    pub(super) files: Vec<ObjectMeta>,
}

/// A file and its kind; none if tables cannot consist of such files.
pub(super) type Found = (ObjectMeta, Option<FileKind>);

/// A folder.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) path: Path,
    pub(super) files: Vec<Found>,
    pub(super) folders: BTreeMap<String, Node>,
    /// The table format, if it does not consist of plain files.
    pub(super) lake: Option<&'static str>,
}

impl Node {
    fn child(&mut self, name: String) -> Option<&mut Self> {
        let path = Path::parse(format!("{}/{name}", self.path)).ok()?;
        Some(self.folders.entry(name).or_insert_with(|| Self { path, ..Self::default() }))
    }

    /// Collects all files below, except those in skipped folders, which are collected separately.
    pub(super) fn gather<'n>(
        &'n self,
        passed_over: &dyn Fn(&Node) -> bool,
        files: &mut Vec<&'n Found>,
        lake: &mut Option<&'static str>,
    ) {
        *lake = lake.or(self.lake);
        files.extend(&self.files);
        for folder in self.folders.values().filter(|folder| !passed_over(folder)) {
            folder.gather(passed_over, files, lake);
        }
    }

    /// The direct subfolders that contain files.
    pub(super) fn filled(&self) -> impl Iterator<Item = (&String, &Node)> {
        self.folders.iter().filter(|(_, folder)| folder.is_filled())
    }

    pub(super) fn is_filled(&self) -> bool {
        !self.files.is_empty() || self.lake.is_some() || self.folders.values().any(Self::is_filled)
    }
}

/// How many files are probed concurrently for their kind.
const CONCURRENCY: usize = 16;

/// The files below a folder that are neither hidden nor empty, each with its kind.
pub(super) struct Listed<'a> {
    pub(super) store: &'a Store,
    pub(super) root: Path,
    pub(super) tree: Node,
    /// Excluded files that readers of their folder would see, and their paths below the root.
    pub(super) excluded: Vec<(Path, String)>,
    /// What could not be listed.
    pub(super) problems: Vec<CrawlProblem>,
    /// Folders that could not be listed completely.
    pub(super) blind: Vec<Path>,
}

impl<'a> Listed<'a> {
    /// Lists a folder and everything below it, except what is excluded.
    pub(super) async fn list(store: &'a Store, root: &Path, exclude: &Globs) -> Result<Self> {
        let found = list_all(&store.url, store.objects.as_ref(), root).await?;
        let tree = Node { path: root.clone(), ..Node::default() };
        let mut listed =
            Self { store, root: root.clone(), tree, excluded: Vec::new(), problems: Vec::new(), blind: Vec::new() };
        for unlisted in found.unlisted {
            listed.stumble(unlisted, exclude);
        }
        let seen: Vec<ObjectMeta> = found.files.into_iter().filter(|meta| listed.is_seen(meta, exclude)).collect();
        let kinds = listed.unnamed_kinds(&seen).await?;
        for meta in seen {
            let (group, name) = listed.group(&meta);
            let kind = FileKind::of(&name).or_else(|| kinds.get(&group).copied().flatten());
            listed.insert(meta, kind);
        }
        Ok(listed)
    }

    fn stumble(&mut self, unlisted: Unlisted, exclude: &Globs) {
        let mut parts = self.folders(&unlisted.folder);
        parts.extend((!unlisted.name.is_empty()).then(|| unlisted.name.clone()));
        let hidden = parts.iter().any(|part| is_hidden(part) && folder_partition(part).is_none());
        if hidden {
            return;
        }
        let path = Path::parse(format!("{}/{}", unlisted.folder, unlisted.name));
        let path = path.unwrap_or_else(|_| unlisted.folder.clone());
        let relative = parts.join("/");
        let hides = !matches!(unlisted.why, Obstacle::Circle(_) | Obstacle::Dangling);
        if exclude.matches(&relative) {
            self.excluded.extend(hides.then_some((path, relative)));
            return;
        }
        self.blind.extend(hides.then_some(path));
        let message = format!("{}; {}, or leave it out with --exclude", unlisted.why, unlisted.why.hint());
        let location = unlisted.location(&self.store.url);
        self.problems.push(CrawlProblem { location, table: None, message });
    }

    /// Whether there may be files in a folder that were not seen.
    pub(super) fn is_blind_to(&self, folder: &Path) -> bool {
        let paths = self.excluded.iter().map(|(path, _)| path).chain(&self.blind);
        paths.into_iter().any(|path| path.prefix_matches(folder) || folder.prefix_matches(path))
    }

    /// The names on the path from the root.
    pub(super) fn folders(&self, path: &Path) -> Vec<String> {
        path.prefix_match(&self.root).into_iter().flatten().map(|part| part.as_ref().to_owned()).collect()
    }

    /// The folders on the path to a file, and its name.
    fn parts(&self, meta: &ObjectMeta) -> Option<(Vec<String>, String)> {
        let mut parts = self.folders(&meta.location);
        let name = parts.pop()?;
        Some((parts, name))
    }

    /// Whether a reader of its folder sees a file. Notes hidden files that indicate other table formats.
    fn is_seen(&mut self, meta: &ObjectMeta, exclude: &Globs) -> bool {
        let Some((folders, name)) = self.parts(meta) else { return false };
        let relative = folders.iter().chain([&name]).cloned().collect::<Vec<_>>().join("/");
        let is_excluded = exclude.matches(&relative);
        let mut node = &mut self.tree;
        for folder in folders {
            match folder.as_str() {
                _ if is_excluded => {}
                "_delta_log" => node.lake = Some("Delta Lake"),
                ".hoodie" => node.lake = Some("Hudi"),
                // The latter in the folder of a table that was one of files.
                "metadata" | "_iceberg" if is_iceberg_metadata(&name) => node.lake = Some("Iceberg"),
                _ => {}
            }
            if is_hidden(&folder) && folder_partition(&folder).is_none() {
                return false;
            }
            let Some(child) = node.child(folder) else { return false };
            node = child;
        }
        if meta.size == 0 || is_hidden(&name) {
            return false;
        }
        if let Some(suffix) = unfinished(&name).filter(|_| !is_excluded) {
            let location = Location::of(&self.store.url, &meta.location);
            let message = format!(
                "`{suffix}` is a suffix of copies and unfinished files; a query reads all files of a table's folder, so move \
                 it away, rename it, or leave it out with --exclude"
            );
            self.problems.push(CrawlProblem { location, table: None, message });
            return false;
        }
        if is_excluded {
            self.excluded.push((meta.location.clone(), relative));
        }
        !is_excluded
    }

    /// The group of a file whose name does not indicate its kind. Files of one folder, or of the partitions below it,
    /// with the same suffix are assumed to be of one kind.
    fn group(&self, meta: &ObjectMeta) -> ((String, String), String) {
        let (folders, name) = self.parts(meta).unwrap_or_default();
        let plain: Vec<String> = folders.into_iter().take_while(|f| folder_partition(f).is_none()).collect();
        let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase();
        ((plain.join("/"), suffix), name)
    }

    /// The kinds of files whose names do not indicate it, by probing one of each group.
    async fn unnamed_kinds(&self, files: &[ObjectMeta]) -> Result<HashMap<(String, String), Option<FileKind>>> {
        let mut first: HashMap<(String, String), &ObjectMeta> = HashMap::new();
        for meta in files {
            let (group, name) = self.group(meta);
            if FileKind::of(&name).is_none() {
                first.entry(group).or_insert(meta);
            }
        }
        let look = |(group, meta)| async move {
            match FileKind::sniff(self.store, meta).await {
                Ok(kind) => Ok((group, kind)),
                // The kind of an unreadable file is unknown.
                Err(e) if matches!(e.kind(), ErrorKind::Usage | ErrorKind::NotFound) => Ok((group, None)),
                Err(e) => Err(e),
            }
        };
        stream::iter(first).map(look).buffer_unordered(CONCURRENCY).try_collect().await
    }

    fn insert(&mut self, meta: ObjectMeta, kind: Option<FileKind>) {
        let Some((folders, _)) = self.parts(&meta) else { return };
        let mut node = &mut self.tree;
        for folder in folders {
            let Some(child) = node.child(folder) else { return };
            node = child;
        }
        node.files.push((meta, kind));
    }

    pub(super) fn location(&self, path: &Path) -> Location {
        Location::of(&self.store.url, path)
    }
}

/// The suffix that marks a file as a copy or unfinished.
fn unfinished(name: &str) -> Option<&'static str> {
    const SUFFIXES: [&str; 14] = [
        ".tmp",
        ".temp",
        ".bak",
        ".old",
        ".orig",
        ".save",
        ".swp",
        ".crc",
        ".part",
        ".partial",
        ".inprogress",
        ".crdownload",
        "._copying_",
        "~",
    ];
    let name = name.to_ascii_lowercase();
    SUFFIXES.into_iter().find(|suffix| name.ends_with(suffix))
}
