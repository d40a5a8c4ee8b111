//! From a list of files to the folders that are tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::{StreamExt, TryStreamExt, stream};
use hardtack_catalog::NULL_PARTITION;
use hardtack_core::{Error, Location, Result, Store};
use hardtack_sources::{FileKind, folder_partition};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};

use super::report::CrawlProblem;
use crate::place::is_hidden;

/// A folder that is a table.
#[derive(Debug, Clone)]
pub(super) struct DataSet {
    pub(super) path: Path,
    pub(super) location: Location,
    pub(super) kind: FileKind,
    /// The names of its partition keys, in lower case.
    pub(super) keys: Vec<String>,
    /// Its partitions by their values: one without values if it has no keys.
    pub(super) parts: BTreeMap<Vec<String>, Part>,
}

/// A folder of a partition and the files below it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) location: Location,
    pub(super) files: Vec<ObjectMeta>,
}

/// A file whose kind is known, or is none of those that tables are made of.
type Found = (ObjectMeta, Option<FileKind>);

/// A folder.
#[derive(Debug, Default)]
struct Node {
    files: Vec<Found>,
    folders: BTreeMap<String, Node>,
    /// What it is a table of, if not of plain files.
    lake: Option<&'static str>,
}

/// How many files are looked into at once for what they are.
const AT_ONCE: usize = 16;

/// The files below a folder that are not hidden and not empty, each with its kind.
pub(super) struct Listed<'a> {
    store: &'a Store,
    root: Path,
    tree: Node,
}

impl<'a> Listed<'a> {
    /// Lists a folder and everything below it.
    pub(super) async fn list(store: &'a Store, root: &Path) -> Result<Self> {
        let found: Vec<ObjectMeta> = match store.objects.list(Some(root)).try_collect().await {
            Err(object_store::Error::NotFound { .. }) => Vec::new(),
            found => found.map_err(|e| Error::from(e).with("location", Location::of(&store.url, root)))?,
        };
        let mut listed = Self { store, root: root.clone(), tree: Node::default() };
        let mut seen: Vec<ObjectMeta> = found.into_iter().filter(|meta| listed.is_seen(meta)).collect();
        seen.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        let kinds = listed.unnamed_kinds(&seen).await?;
        for meta in seen {
            let (group, name) = listed.group(&meta);
            let kind = FileKind::of(&name).or_else(|| kinds.get(&group).copied().flatten());
            listed.insert(meta, kind);
        }
        Ok(listed)
    }

    /// The folders on the way to a file, and its name.
    fn parts(&self, meta: &ObjectMeta) -> Option<(Vec<String>, String)> {
        let mut parts: Vec<String> = meta.location.prefix_match(&self.root)?.map(|p| p.as_ref().to_owned()).collect();
        let name = parts.pop()?;
        Some((parts, name))
    }

    /// Whether a reader of its folder sees a file. What tells the formats of others is hidden, and noted.
    fn is_seen(&mut self, meta: &ObjectMeta) -> bool {
        let Some((folders, name)) = self.parts(meta) else { return false };
        let mut node = &mut self.tree;
        for folder in folders {
            match folder.as_str() {
                "_delta_log" => node.lake = Some("Delta Lake"),
                ".hoodie" => node.lake = Some("Hudi"),
                "metadata" if name.ends_with(".metadata.json") => node.lake = Some("Iceberg"),
                _ => {}
            }
            if is_hidden(&folder) && folder_partition(&folder).is_none() {
                return false;
            }
            node = node.folders.entry(folder).or_default();
        }
        meta.size > 0 && !is_hidden(&name)
    }

    /// Files that are taken to be of one kind if their names do not tell it: those of one folder, or of the partitions
    /// below it, with the same suffix.
    fn group(&self, meta: &ObjectMeta) -> ((String, String), String) {
        let (folders, name) = self.parts(meta).unwrap_or_default();
        let plain: Vec<String> = folders.into_iter().take_while(|f| folder_partition(f).is_none()).collect();
        let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix).to_ascii_lowercase();
        ((plain.join("/"), suffix), name)
    }

    /// The kinds of files whose names do not tell it, by looking into one of each group.
    async fn unnamed_kinds(&self, files: &[ObjectMeta]) -> Result<HashMap<(String, String), Option<FileKind>>> {
        let mut first: HashMap<(String, String), &ObjectMeta> = HashMap::new();
        for meta in files {
            let (group, name) = self.group(meta);
            if FileKind::of(&name).is_none() {
                first.entry(group).or_insert(meta);
            }
        }
        let look = |(group, meta)| async move { Ok((group, FileKind::sniff(self.store, meta).await?)) };
        stream::iter(first).map(look).buffer_unordered(AT_ONCE).try_collect().await
    }

    fn insert(&mut self, meta: ObjectMeta, kind: Option<FileKind>) {
        let Some((folders, _)) = self.parts(&meta) else { return };
        let mut node = &mut self.tree;
        for folder in folders {
            node = node.folders.entry(folder).or_default();
        }
        node.files.push((meta, kind));
    }

    /// The folders that are tables. `known` are those of tables that the catalog has.
    pub(super) fn data_sets(&self, known: &BTreeSet<Path>) -> (Vec<DataSet>, Vec<CrawlProblem>) {
        let mut search = Search { listed: self, known, found: Vec::new(), problems: Vec::new() };
        search.folder(&self.tree, &self.root);
        (search.found, search.problems)
    }
}

struct Search<'a> {
    listed: &'a Listed<'a>,
    known: &'a BTreeSet<Path>,
    found: Vec<DataSet>,
    problems: Vec<CrawlProblem>,
}

impl Search<'_> {
    fn folder(&mut self, node: &Node, path: &Path) {
        if let Some(lake) = node.lake {
            return self.problem(path, format!("this is a table of {lake}, which is not read as plain files"));
        }
        let partitioned = node.folders.keys().any(|name| folder_partition(name).is_some());
        let has_data = node.files.iter().any(|(_, kind)| kind.is_some());
        let known = self.known.contains(path);
        if !known && !has_data && !partitioned {
            return self.below(node, path);
        }
        match self.data_set(node, path) {
            Ok(Some(found)) => self.found.push(found),
            Ok(None) => {}
            Err(why) => {
                self.problem(path, why);
                // A stray file beside folders that are tables should not hide them.
                if !known && !partitioned {
                    self.below(node, path);
                }
            }
        }
    }

    fn below(&mut self, node: &Node, path: &Path) {
        for (name, folder) in &node.folders {
            if let Ok(path) = Path::parse(format!("{path}/{name}").trim_start_matches('/')) {
                self.folder(folder, &path);
            }
        }
    }

    fn problem(&mut self, path: &Path, message: String) {
        self.problems.push(CrawlProblem { location: self.location(path), table: None, message });
    }

    fn location(&self, path: &Path) -> Location {
        Location::of(&self.listed.store.url, path)
    }

    /// The folder as a table, unless nothing is in it, or why it is none.
    fn data_set(&self, node: &Node, path: &Path) -> Result<Option<DataSet>, String> {
        let inner = self.known.iter().find(|table| *table != path && table.prefix_matches(path));
        if let Some(table) = inner {
            let table = self.location(table);
            return Err(format!(
                "there are files here, but a folder below, {table}, is a table already; move one of them"
            ));
        }
        let (mut files, mut lake) = (Vec::new(), None);
        gather(node, &mut files, &mut lake);
        if let Some(lake) = lake {
            return Err(format!("there are files here, but a folder below is a table of {lake}"));
        }
        let mut kinds: BTreeMap<Option<FileKind>, Vec<&ObjectMeta>> = BTreeMap::new();
        for (meta, kind) in &files {
            kinds.entry(*kind).or_default().push(meta);
        }
        let kind = match kinds.keys().collect::<Vec<_>>().as_slice() {
            [] | [None] => return Ok(None),
            [Some(kind)] => *kind,
            _ => return Err(self.mixed(&kinds)),
        };
        let mut keys: Option<(Vec<String>, &Path)> = None;
        let mut parts: BTreeMap<Vec<String>, Part> = BTreeMap::new();
        for (meta, _) in &files {
            let (found, values, folder) = self.partition(meta, path)?;
            let (keys, first) = keys.get_or_insert_with(|| (found.clone(), &meta.location));
            if *keys != found {
                let show = |keys: &[String]| if keys.is_empty() { "no partition".to_owned() } else { keys.join("/") };
                let (one, other) = (self.location(first), self.location(&meta.location));
                return Err(format!(
                    "the partitions are not alike: {one} is in {}, {other} in {}",
                    show(keys),
                    show(&found)
                ));
            }
            let location = self.location(&folder);
            let part = parts.entry(values).or_insert_with(|| Part { location: location.clone(), files: Vec::new() });
            if part.location != location {
                return Err(format!("{} and {location} are folders of the same partition; unite them", part.location));
            }
            part.files.push((*meta).clone());
        }
        let keys = keys.map(|(keys, _)| keys).unwrap_or_default();
        if let Some(twice) = keys.iter().enumerate().find(|(i, key)| keys[..*i].contains(key)) {
            return Err(format!("the partition key `{}` is there twice on the way to a file", twice.1));
        }
        Ok(Some(DataSet { path: path.clone(), location: self.location(path), kind, keys, parts }))
    }

    fn mixed(&self, kinds: &BTreeMap<Option<FileKind>, Vec<&ObjectMeta>>) -> String {
        let show = |(kind, files): (&Option<FileKind>, &Vec<&ObjectMeta>)| {
            let kind = kind.map_or("no known format".to_owned(), |kind| kind.to_string());
            let example = files.first().map(|meta| self.location(&meta.location).to_string()).unwrap_or_default();
            let count = files.len();
            format!("{count} file{} of {kind} ({example})", if count == 1 { "" } else { "s" })
        };
        let all: Vec<String> = kinds.iter().rev().map(show).collect();
        format!(
            "the files are not of one format: {}; move those of another format, or hide them by a leading `_`",
            all.join(", ")
        )
    }

    /// The keys and values that the folders on the way to a file give, and the folder of the partition.
    fn partition(&self, meta: &ObjectMeta, table: &Path) -> Result<(Vec<String>, Vec<String>, Path), String> {
        let inside: Vec<_> = meta.location.prefix_match(table).into_iter().flatten().collect();
        let folders = &inside[..inside.len().saturating_sub(1)];
        let run: Vec<_> = folders.iter().map_while(|folder| folder_partition(folder.as_ref())).collect();
        if folders[run.len()..].iter().any(|folder| folder_partition(folder.as_ref()).is_some()) {
            let file = self.location(&meta.location);
            return Err(format!("the folders of a partition are not one below the other on the way to {file}"));
        }
        let depth = table.parts().count() + run.len();
        let folder: Path = meta.location.parts().take(depth).collect();
        let (keys, values) =
            run.into_iter().map(|(k, v)| (k.to_lowercase(), v.unwrap_or(NULL_PARTITION.into()))).unzip();
        Ok((keys, values, folder))
    }
}

/// All files below a folder, and what else is there.
fn gather<'n>(node: &'n Node, files: &mut Vec<&'n Found>, lake: &mut Option<&'static str>) {
    *lake = lake.or(node.lake);
    files.extend(&node.files);
    for folder in node.folders.values() {
        gather(folder, files, lake);
    }
}
