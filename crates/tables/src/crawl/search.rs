//! Decides which folders, and which of their files, are tables.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use hardtack_catalog::NULL_PARTITION;
use hardtack_core::Location;
use hardtack_sources::{FileFilter, FileKind, Globs, folder_partition};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::alike::{self, Families, Signature, family, is_value, stem, strands, together};
use super::report::CrawlProblem;
use super::tree::{DataSet, Found, Listed, Node, Owner, Part};

/// A table that the catalog has.
#[derive(Debug, Default)]
pub(super) struct KnownTable {
    pub(super) name: String,
    pub(super) kind: Option<FileKind>,
    pub(super) keys: Vec<String>,
    /// For each key, whether folders may be named by the bare value.
    pub(super) plain: Vec<bool>,
    /// For each key, whether all registered folders are named by the bare value.
    pub(super) valued: Vec<bool>,
    /// The registered values of the first key.
    pub(super) first: BTreeSet<String>,
    pub(super) columns: Signature,
    pub(super) only: Vec<String>,
    pub(super) except: Vec<String>,
    pub(super) wanted: FileFilter,
}

/// The tables of a folder.
#[derive(Debug, Default)]
pub(super) struct KnownFolder {
    /// The table of all files that the others do not have.
    pub(super) whole: Option<KnownTable>,
    /// The tables of some files.
    pub(super) some: Vec<KnownTable>,
}

pub(super) type KnownFolders = BTreeMap<Path, KnownFolder>;

/// The user's options about new tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayoutOptions<'a> {
    /// The names of keys whose folders are bare values.
    pub(super) partition_names: &'a [String],
    /// The level of tables: 1 is the crawled folder.
    pub(super) table_level: Option<usize>,
    pub(super) exclude: &'a Globs,
}

/// The signatures of the files that were sampled.
pub(super) type Samples = HashMap<Path, Signature>;

/// The number of files sampled per folder whose names differ only in numbers.
const SAMPLED_PER_FOLDER: usize = 16;
/// The number of files sampled from all folders `key=value` of a table.
const SAMPLED_PER_TABLE: usize = 4;

/// A level of folders between a table and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    /// `key=value`.
    Key(String),
    /// The bare value.
    Plain,
    /// A single folder of this name in every parent folder; not a value.
    Fixed(String),
}

/// The common levels of two folders.
fn unite(a: &[Level], b: &[Level], evidently: bool) -> Option<Vec<Level>> {
    use Level::{Fixed, Key, Plain};
    let level = |(a, b): (&Level, &Level)| match (a, b) {
        (a, b) if a == b => Some(a.clone()),
        (Key(_), _) | (_, Key(_)) => None,
        (Fixed(_), _) | (_, Fixed(_)) if !evidently => None,
        _ => Some(Plain),
    };
    let united: Vec<Level> = a.iter().zip(b).map(level).collect::<Option<_>>()?;
    let mut rest = a[united.len()..].iter().chain(&b[united.len()..]);
    (!rest.any(|level| matches!(level, Key(_)))).then_some(united)
}

/// A folder whose files belong to one table, or to several with the same partitions.
#[derive(Debug, Clone)]
struct Shape<'n> {
    kind: FileKind,
    levels: Vec<Level>,
    families: Families,
    /// Whether there are files in folders below the partitions' folders.
    deep: bool,
    /// Inner folders that do not belong to it.
    apart: Vec<&'n Node>,
}

impl Shape<'_> {
    fn signature(&self) -> Signature {
        together(&self.families)
    }
}

enum Verdict<'n> {
    Nothing,
    One(Shape<'n>),
    /// There are several tables below.
    Many,
    /// There is a problem.
    Bad,
}

pub(super) struct Search<'a> {
    listed: &'a Listed<'a>,
    known: &'a KnownFolders,
    layout: LayoutOptions<'a>,
    looks: Samples,
    pub(super) found: Vec<DataSet>,
    pub(super) problems: Vec<CrawlProblem>,
}

impl<'a> Search<'a> {
    pub(super) fn new(listed: &'a Listed<'a>, known: &'a KnownFolders, layout: LayoutOptions<'a>) -> Self {
        Self { listed, known, layout, looks: Samples::new(), found: Vec::new(), problems: Vec::new() }
    }

    // --- what to sample --------------------------------------------------------------------------------------------

    /// The files whose columns have to be known to decide.
    pub(super) fn undecided(&self) -> Vec<(&'a ObjectMeta, FileKind)> {
        let mut files = Vec::new();
        if self.layout.table_level.is_none() {
            self.undecided_in(&self.listed.tree, false, &mut files);
        }
        files
    }

    fn undecided_in(&self, node: &'a Node, contested: bool, files: &mut Vec<(&'a ObjectMeta, FileKind)>) {
        let mut node_files: Vec<&Found> = node.files.iter().collect();
        if node.lake.is_some() {
            return;
        }
        if let Some(known) = self.known.get(&node.path) {
            if let Some(whole) = &known.whole {
                for (_, folder) in node.filled().filter(|(name, _)| self.is_odd(whole, name)) {
                    self.undecided_in(folder, true, files);
                }
                return;
            }
            node_files.retain(|(meta, _)| !known.some.iter().any(|table| table.wanted.takes(file_name(meta))));
        }
        let kids: Vec<(&String, &Node)> = node.filled().collect();
        if kids.iter().any(|(name, _)| folder_partition(name).is_some()) {
            node.gather(&|_| false, &mut node_files, &mut None);
            let by_family = by_family(&node_files);
            let each = if by_family.len() > 1 { SAMPLED_PER_TABLE } else { usize::from(contested) };
            files.extend(by_family.values().flat_map(|files| spread(files, each)));
            return;
        }
        let by_family = by_family(&node_files);
        if contested || node_files.len() > 1 || !kids.is_empty() {
            let is_partition = contested && node.path.filename().is_some_and(is_value);
            let each = if is_partition { 1 } else { SAMPLED_PER_FOLDER };
            files.extend(by_family.values().flat_map(|files| spread(files, each)));
        }
        let contested =
            contested || kids.len() > 1 || kids.iter().any(|(name, _)| is_value(name)) || !node_files.is_empty();
        for (_, folder) in kids {
            self.undecided_in(folder, contested, files);
        }
    }

    /// Whether a folder may be something other than a partition of the table that it is in.
    fn is_odd(&self, table: &KnownTable, name: &str) -> bool {
        let plain = folder_partition(name).is_none() && table.plain.first().is_some_and(|plain| *plain);
        plain && !table.first.contains(name) && !(table.valued[0] && is_value(name))
    }

    // --- shapes ----------------------------------------------------------------------------------------------------

    fn signature(&self, meta: &ObjectMeta) -> Option<&Signature> {
        self.looks.get(&meta.location)
    }

    /// The families of files, each with the columns of the sampled files. A family whose files have little in common is
    /// split into one per file.
    fn families(&self, files: &[&Found]) -> Families {
        let mut families = Families::new();
        for (name, files) in by_family(files) {
            let looked: Vec<&Signature> = files.iter().filter_map(|(meta, _)| self.signature(meta)).collect();
            if looked.len() == files.len() && components(&looked).len() > 1 {
                for (meta, _) in files {
                    let signature = self.signature(meta).cloned().unwrap_or_default();
                    families.insert(stem(file_name(meta)).to_lowercase(), signature);
                }
                continue;
            }
            let all = looked.into_iter().fold(Signature::default(), |mut all, signature| {
                all.add(signature);
                all
            });
            families.insert(name, all);
        }
        families
    }

    fn verdict<'n>(&self, node: &'n Node) -> Verdict<'n> {
        if node.lake.is_some() || self.known.contains_key(&node.path) {
            return Verdict::Many;
        }
        self.verdict_of(node)
    }

    fn verdict_of<'n>(&self, node: &'n Node) -> Verdict<'n> {
        let verdicts = node.folders.iter().map(|(name, folder)| (name, folder, self.verdict(folder)));
        let kids: Vec<(&String, &Node, Verdict)> =
            verdicts.filter(|(_, _, verdict)| !matches!(verdict, Verdict::Nothing)).collect();
        if node.files.iter().any(|(_, kind)| kind.is_some()) {
            return self.with_files(node, kids);
        }
        if kids.is_empty() {
            return Verdict::Nothing;
        }
        if kids.iter().any(|(name, ..)| folder_partition(name).is_some()) {
            return Self::with_keys(kids);
        }
        Self::with_folders(kids)
    }

    /// The verdict on a folder with files.
    fn with_files<'n>(&self, node: &'n Node, kids: Vec<(&String, &'n Node, Verdict<'n>)>) -> Verdict<'n> {
        let files: Vec<&Found> = node.files.iter().collect();
        let Some(kind) = kind_of(&files) else { return Verdict::Bad };
        let families = self.families(&files);
        let mut shape = Shape { kind, levels: Vec::new(), families, deep: false, apart: Vec::new() };
        if kids.is_empty() {
            return Verdict::One(shape);
        }
        if kids.iter().any(|(name, ..)| folder_partition(name).is_some()) {
            return Verdict::Bad;
        }
        let own = shape.signature();
        let one = strands(&shape.families).len() == 1;
        for (_, _, verdict) in kids {
            match verdict {
                Verdict::One(kid)
                    if kid.kind == kind && one && own.is_like(&kid.signature()) && kid.apart.is_empty() =>
                {
                    shape.families.insert(String::new(), kid.signature());
                }
                Verdict::One(kid) if kid.kind != kind => return Verdict::Bad,
                Verdict::Bad => return Verdict::Bad,
                _ => return Verdict::Many,
            }
        }
        shape.deep = true;
        Verdict::One(shape)
    }

    /// The verdict on a folder of folders `key=value`.
    fn with_keys<'n>(kids: Vec<(&String, &'n Node, Verdict<'n>)>) -> Verdict<'n> {
        let mut names = kids.iter().map(|(name, ..)| folder_partition(name).map(|(key, _)| key.to_lowercase()));
        let Some(Some(key)) = names.next() else { return Verdict::Bad };
        if names.any(|other| other.as_deref() != Some(key.as_str())) {
            return Verdict::Bad;
        }
        let whole = |kid: &'n Node| {
            let mut files = Vec::new();
            kid.gather(&|_| false, &mut files, &mut None);
            Some(Shape {
                kind: kind_of(&files)?,
                levels: Vec::new(),
                families: Families::new(),
                deep: true,
                apart: Vec::new(),
            })
        };
        let shapes = kids.into_iter().filter_map(|(_, kid, verdict)| match verdict {
            Verdict::One(shape) => Some(shape),
            // Partitions are not split.
            Verdict::Many if kid.lake.is_none() => whole(kid),
            _ => None,
        });
        let shapes: Vec<Shape> = shapes.collect();
        let mut kinds: BTreeMap<FileKind, usize> = BTreeMap::new();
        shapes.iter().for_each(|shape| *kinds.entry(shape.kind).or_default() += 1);
        let Some(kind) = kinds.iter().max_by_key(|(_, count)| **count).map(|(kind, _)| *kind) else {
            return Verdict::Bad;
        };
        let mut all: Option<Shape> = None;
        for shape in shapes.into_iter().filter(|shape| shape.kind == kind) {
            match &mut all {
                None => all = Some(shape),
                Some(all) => match unite(&all.levels, &shape.levels, true) {
                    Some(levels) => merge(all, shape, levels),
                    None => return Verdict::Bad,
                },
            }
        }
        all.map_or(Verdict::Bad, |mut shape| {
            shape.levels.insert(0, Level::Key(key));
            Verdict::One(shape)
        })
    }

    /// The verdict on a folder of folders whose names are not `key=value`.
    fn with_folders<'n>(mut kids: Vec<(&String, &'n Node, Verdict<'n>)>) -> Verdict<'n> {
        if kids.len() == 1 && !is_value(kids[0].0) {
            let (name, _, verdict) = kids.remove(0);
            return match verdict {
                Verdict::One(mut shape) => {
                    shape.levels.insert(0, Level::Fixed(name.clone()));
                    Verdict::One(shape)
                }
                other => other,
            };
        }
        let total = kids.len();
        let (mut ones, mut apart) = (Vec::new(), Vec::new());
        for (name, node, verdict) in kids {
            match verdict {
                Verdict::One(shape) => ones.push((name, node, shape)),
                _ => apart.push(node),
            }
        }
        if apart.is_empty()
            && ones.iter().any(|(name, ..)| !is_value(name))
            && let Some(shape) = Self::evidently_one(&ones)
        {
            return Verdict::One(shape);
        }
        let (values, words): (Vec<_>, Vec<_>) = ones.into_iter().partition(|(name, ..)| is_value(name));
        apart.extend(words.into_iter().map(|(_, node, _)| node));
        let signatures: Vec<Signature> = values.iter().map(|(_, _, shape)| shape.signature()).collect();
        let mut best: Vec<usize> = Vec::new();
        for kind in values.iter().map(|(_, _, shape)| shape.kind).collect::<BTreeSet<_>>() {
            let of_kind: Vec<usize> = (0..values.len()).filter(|i| values[*i].2.kind == kind).collect();
            for group in components(&of_kind.iter().map(|i| &signatures[*i]).collect::<Vec<_>>()) {
                if group.len() > best.len() {
                    best = group.into_iter().map(|i| of_kind[i]).collect();
                }
            }
        }
        // If few are alike, the folder more likely contains tables.
        if best.is_empty() || best.len() * 2 < total {
            return Verdict::Many;
        }
        let best: BTreeSet<usize> = best.into_iter().collect();
        let mut all: Option<Shape> = None;
        for (i, (_, node, shape)) in values.into_iter().enumerate() {
            if !best.contains(&i) {
                apart.push(node);
                continue;
            }
            match &mut all {
                None => all = Some(shape),
                Some(all) => match unite(&all.levels, &shape.levels, false) {
                    Some(levels) => merge(all, shape, levels),
                    None => return Verdict::Many,
                },
            }
        }
        match all {
            Some(mut shape) => {
                shape.levels.insert(0, Level::Plain);
                shape.apart.extend(apart);
                Verdict::One(shape)
            }
            None => Verdict::Many,
        }
    }

    /// Folders named by words whose files have so much in common that they are one table.
    fn evidently_one<'n>(kids: &[(&String, &'n Node, Shape<'n>)]) -> Option<Shape<'n>> {
        let ((_, _, first), rest) = kids.split_first()?;
        let distinct: BTreeSet<Signature> = kids.iter().map(|(_, _, shape)| shape.signature()).collect();
        let distinct: Vec<&Signature> = distinct.iter().collect();
        // Folders `key=value` are not sampled: they are partitions in any case.
        let unknown = distinct.iter().all(|signature| **signature == Signature::default());
        let alike =
            unknown || distinct.iter().enumerate().all(|(i, a)| distinct[i..].iter().all(|b| a.is_evidently(b)));
        let one = kids.iter().all(|(_, _, shape)| {
            let same = shape.kind == first.kind && shape.levels.len() == first.levels.len();
            same && shape.apart.is_empty() && (shape.deep || strands(&shape.families).len() == 1)
        });
        if !alike || !one {
            return None;
        }
        let mut all = first.clone();
        for (_, _, shape) in rest {
            let levels = unite(&all.levels, &shape.levels, true)?;
            merge(&mut all, shape.clone(), levels);
        }
        all.levels.insert(0, Level::Plain);
        Some(all)
    }

    // --- which are tables ------------------------------------------------------------------------------------------

    /// Decides, with the samples of the [undecided](Search::undecided) files.
    pub(super) fn decide(&mut self, looks: Samples) {
        self.looks = looks;
        let listed = self.listed;
        self.place(&listed.tree, 1);
    }

    fn place(&mut self, node: &'a Node, depth: usize) {
        let known = self.known;
        if let Some(known) = known.get(&node.path) {
            return self.known_folder(node, known, depth);
        }
        if let Some(lake) = node.lake {
            return self.problem(&node.path, format!("this is a table of {lake}, which is not read as plain files"));
        }
        match self.layout.table_level {
            None => self.place_by_content(node, depth),
            Some(level) if depth < level => {
                if let Some((meta, _)) = node.files.iter().find(|(_, kind)| kind.is_some()) {
                    let why =
                        format!("{} is above --table-level {level}, so it is in no table", self.at(&meta.location));
                    self.problem(&node.path, why);
                }
                self.below(node, depth);
            }
            Some(_) => self.place_by_level(node),
        }
    }

    fn below(&mut self, node: &'a Node, depth: usize) {
        for folder in node.folders.values() {
            self.place(folder, depth + 1);
        }
    }

    fn place_by_content(&mut self, node: &'a Node, depth: usize) {
        match self.verdict_of(node) {
            Verdict::Nothing => {}
            Verdict::One(shape) => {
                if let Some(Level::Fixed(name)) = shape.levels.first()
                    && let Some(folder) = node.folders.get(name)
                {
                    return self.place(folder, depth + 1);
                }
                self.take(node, &shape, false);
                for folder in shape.apart {
                    self.place(folder, depth + 1);
                }
            }
            Verdict::Many => {
                if node.files.iter().any(|(_, kind)| kind.is_some()) {
                    match self.inner_table(&node.path) {
                        Some(why) => self.problem(&node.path, why),
                        None => return self.place_apart(node, depth),
                    }
                }
                self.below(node, depth);
            }
            Verdict::Bad => match self.simple(node, &FileFilter::default()) {
                Ok(found) => self.found.extend(found),
                Err(why) => {
                    // A stray file beside folders that are tables must not hide them.
                    let goes_on = !node.folders.keys().any(|name| folder_partition(name).is_some());
                    // A problem of a folder is reported for that folder only.
                    let is_bad = |folder: &Node| matches!(self.verdict(folder), Verdict::Bad);
                    let has_files = node.files.iter().any(|(_, kind)| kind.is_some());
                    if has_files || !goes_on || !node.folders.values().any(is_bad) {
                        self.problem(&node.path, why);
                    }
                    if goes_on {
                        self.below(node, depth);
                    }
                }
            },
        }
    }

    /// Places a folder that has files of its own, and folders that do not belong to them.
    fn place_apart(&mut self, node: &'a Node, depth: usize) {
        self.take_files(node);
        let verdicts = node.folders.iter().map(|(name, folder)| (name, folder, self.verdict(folder)));
        let kids: Vec<(&String, &Node, Verdict)> =
            verdicts.filter(|(_, _, verdict)| !matches!(verdict, Verdict::Nothing)).collect();
        let verdict = if kids.is_empty() { Verdict::Nothing } else { Self::with_folders(kids) };
        match verdict {
            Verdict::One(shape) if shape.levels.first() == Some(&Level::Plain) => {
                self.take(node, &shape, true);
                for folder in shape.apart {
                    self.place(folder, depth + 1);
                }
            }
            _ => self.below(node, depth),
        }
    }

    /// Places a folder that is a table by the option `table_level`.
    fn place_by_level(&mut self, node: &'a Node) {
        if let Some(why) = self.inner_table(&node.path) {
            return self.problem(&node.path, why);
        }
        let mut files = Vec::new();
        node.gather(&|_| false, &mut files, &mut None);
        let read: Vec<Vec<String>> =
            files.iter().filter(|(_, kind)| kind.is_some()).map(|(meta, _)| self.between(meta, &node.path)).collect();
        let Some(depth) = read.iter().map(Vec::len).min() else { return };
        let Some(kind) = files.iter().find_map(|(_, kind)| *kind) else { return };
        let level = |i: usize| {
            let names: BTreeSet<&String> = read.iter().map(|folders| &folders[i]).collect();
            let keys: BTreeSet<Option<String>> =
                names.iter().map(|name| folder_partition(name).map(|(key, _)| key.to_lowercase())).collect();
            match (keys.into_iter().collect::<Vec<_>>().as_slice(), names.len()) {
                ([Some(key)], _) => Some(Level::Key(key.clone())),
                ([None], 1) if names.iter().all(|name| !is_value(name)) => {
                    Some(Level::Fixed(names.iter().map(|name| (*name).clone()).collect()))
                }
                ([None], _) => Some(Level::Plain),
                _ => None,
            }
        };
        let levels: Option<Vec<Level>> = (0..depth).map(level).collect();
        match levels {
            Some(levels) => {
                let shape = Shape { kind, levels, families: Families::new(), deep: true, apart: Vec::new() };
                self.take(node, &shape, false);
            }
            None => {
                let why = "some of its folders are `key=value`, and others beside them are not; move them, or leave them out with --exclude";
                self.problem(&node.path, why.to_owned());
            }
        }
    }

    /// Takes a folder as one or several tables: with its own files, or without if they do not belong to it.
    fn take(&mut self, node: &'a Node, shape: &Shape<'a>, apart_files: bool) {
        let strands = if shape.deep || shape.families.len() < 2 { Vec::new() } else { strands(&shape.families) };
        let mut levels = shape.levels.clone();
        // Everything below a partition belongs to it, but patterns apply to files directly in it.
        while strands.len() < 2 && matches!(levels.last(), Some(Level::Fixed(_))) {
            levels.pop();
        }
        for level in levels.iter_mut().filter(|level| matches!(level, Level::Fixed(_))) {
            *level = Level::Plain;
        }
        let name = |(i, level): (usize, &Level)| match level {
            Level::Key(key) => key.clone(),
            Level::Plain | Level::Fixed(_) => {
                let plain = levels[..i].iter().filter(|level| !matches!(level, Level::Key(_))).count();
                let said = self.layout.partition_names.get(plain);
                said.map_or(format!("partition_{i}"), |name| name.to_lowercase())
            }
        };
        let keys: Vec<String> = levels.iter().enumerate().map(name).collect();
        let table = KnownTable {
            keys,
            plain: levels.iter().map(|level| !matches!(level, Level::Key(_))).collect(),
            valued: vec![false; levels.len()],
            kind: levels.is_empty().then_some(shape.kind),
            ..KnownTable::default()
        };
        let apart: BTreeSet<&Path> = shape.apart.iter().map(|node| &node.path).collect();
        let mut files = Vec::new();
        let mut lake = None;
        node.gather(&|node| apart.contains(&node.path), &mut files, &mut lake);
        let inside = |path: &Path| *path != node.path && path.prefix_matches(&node.path);
        let inner =
            self.known.keys().find(|path| inside(path) && !apart.iter().any(|apart| path.prefix_matches(apart)));
        if let (Some(inner), false) = (inner, apart_files) {
            let why = format!(
                "there are files here, but a folder below, {}, is a table already; move one of them",
                self.at(inner)
            );
            return self.problem(&node.path, why);
        }
        if let Some(lake) = lake {
            return self.problem(&node.path, format!("there are files here, but a folder below is a table of {lake}"));
        }
        let is_own = |meta: &ObjectMeta| node.files.iter().any(|(own, _)| own.location == meta.location);
        if apart_files {
            files.retain(|(meta, _)| !is_own(meta));
        }
        let mut set = match self.partitioned(node, &files, &table) {
            Ok((set, misfits)) => {
                // No reader reads a file above all partitions.
                let misfit = misfits.iter().find(|(_, kind)| kind.is_some()).map(|(meta, _)| meta);
                if let Some(meta) = misfit {
                    let why = format!(
                        "{} is in no folder of a partition; move it, or leave it out with --exclude",
                        self.at(&meta.location)
                    );
                    self.problem(&node.path, why);
                }
                set
            }
            Err(why) => return self.problem(&node.path, why),
        };
        if let Some(twice) = set.keys.iter().enumerate().find(|(i, key)| set.keys[..*i].contains(key)) {
            let why = format!(
                "the partition key `{}` occurs twice on the path to a file; use other --partition-names",
                twice.1
            );
            return self.problem(&node.path, why);
        }
        set.notes = self.notes(shape, &levels, &set);
        if strands.len() < 2 {
            self.found.push(set);
            return;
        }
        let of = |meta: &ObjectMeta| {
            let own = stem(file_name(meta)).to_lowercase();
            if shape.families.contains_key(&own) { own } else { family(file_name(meta)) }
        };
        self.split(&set, &strands, &of, &BTreeSet::new());
    }

    /// Takes the files directly in a folder as one or several tables, and nothing below.
    fn take_files(&mut self, node: &'a Node) {
        let files: Vec<&Found> = node.files.iter().collect();
        if kind_of(&files).is_none() {
            let found = self.simple_files(&files);
            return self.problem(&node.path, found);
        }
        let families = self.families(&files);
        let part = Part { location: self.at(&node.path), files: files.iter().map(|(meta, _)| meta.clone()).collect() };
        let set = DataSet {
            path: node.path.clone(),
            location: self.at(&node.path),
            kind: kind_of(&files).unwrap_or(FileKind::Parquet),
            keys: Vec::new(),
            parts: BTreeMap::from([(Vec::new(), part)]),
            owner: Owner::New,
            name: None,
            only: Vec::new(),
            except: self.except(&node.path, 0),
            notes: Vec::new(),
        };
        let of = |meta: &ObjectMeta| {
            let own = stem(file_name(meta)).to_lowercase();
            if families.contains_key(&own) { own } else { family(file_name(meta)) }
        };
        let others: BTreeSet<&str> = node.folders.keys().map(String::as_str).collect();
        self.split(&set, &strands(&families), &of, &others);
    }

    /// Makes a table of each strand.
    fn split(
        &mut self,
        set: &DataSet,
        strands: &[Vec<String>],
        family_of: &dyn Fn(&ObjectMeta) -> String,
        others: &BTreeSet<&str>,
    ) {
        let all: BTreeSet<&str> = set.parts.values().flat_map(|part| &part.files).map(file_name).collect();
        for strand in strands {
            let mut own = set.clone();
            for part in own.parts.values_mut() {
                part.files.retain(|meta| strand.contains(&family_of(meta)));
            }
            own.parts.retain(|_, part| !part.files.is_empty());
            let files: Vec<ObjectMeta> = own.parts.values().flat_map(|part| part.files.clone()).collect();
            let names: BTreeSet<&str> = files.iter().map(file_name).collect();
            let rest: BTreeSet<&str> = all.difference(&names).chain(others).copied().collect();
            own.only = alike::patterns(&names, &rest);
            let mut name = alike::name_of(&names.iter().copied().collect::<Vec<_>>());
            // Future files will have other numbers.
            let words = name.trim_end_matches(|c: char| !c.is_alphabetic()).len();
            if words > 0 && own.only.iter().all(|pattern| pattern.contains('*')) {
                name.truncate(words);
            }
            own.name = Some(name);
            let what = own.only.join(", ");
            own.notes.insert(0, format!(
                "other files of its folder are another data set, with other columns, so this table reads {what} only; Athena and Spark read all files of a folder: for them, move each data set to a folder of its own"
            ));
            self.found.push(own);
        }
    }

    /// The reasons for the decision.
    fn notes(&self, shape: &Shape<'_>, levels: &[Level], set: &DataSet) -> Vec<String> {
        let mut notes = Vec::new();
        let plain: Vec<usize> = (0..levels.len()).filter(|i| levels[*i] == Level::Plain).collect();
        if let Some(first) = plain.first() {
            let values: BTreeSet<&String> = set.parts.keys().map(|values| &values[*first]).collect();
            let shown: Vec<String> = values.iter().take(3).map(|value| format!("`{value}`")).collect();
            let more = if values.len() > 3 { ", ..." } else { "" };
            let folders = if values.len() == 1 { "the folder" } else { "the folders" };
            let mut note = format!("{folders} {}{more}", shown.join(", "));
            note.push_str(match (self.layout.table_level, values.iter().all(|value| is_value(value))) {
                (Some(_), _) => ": partitions by --table-level",
                (None, true) if values.len() == 1 => ": a value, so it is a partition",
                (None, false) if values.len() == 1 => ": between folders of partitions, so it is a partition, too",
                (None, true) => ": values with files of similar columns, so they are partitions",
                (None, false) => {
                    ": files of similar columns, so they are partitions of one table; --table-level makes tables of them"
                }
            });
            if plain.len() > self.layout.partition_names.len() {
                note.push_str("; --partition-names names the keys of a new table");
            }
            notes.push(note);
            if let Some(first) = self.layout.partition_names.get(plain.len()) {
                notes.push(format!("there is no folder for `{first}` of --partition-names"));
            }
        }
        if !shape.apart.is_empty() {
            let names: Vec<String> =
                shape.apart.iter().filter_map(|node| node.path.filename()).map(|n| format!("`{n}`")).collect();
            let what = if names.len() == 1 { "is not a partition" } else { "are not partitions" };
            notes.push(format!("{} in it {what}: name, format or columns differ", names.join(", ")));
        }
        notes
    }

    // --- existing tables -------------------------------------------------------------------------------------------

    fn known_folder(&mut self, node: &'a Node, known: &'a KnownFolder, depth: usize) {
        if let Some(lake) = node.lake {
            return self.problem(&node.path, format!("this is a table of {lake}, which is not read as plain files"));
        }
        if known.some.is_empty() {
            let Some(whole) = &known.whole else { return };
            return self.known_table(node, whole, &|_| true, depth);
        }
        let mut files = Vec::new();
        node.gather(&|folder| self.known.contains_key(&folder.path), &mut files, &mut None);
        let mut taken: BTreeSet<Path> = BTreeSet::new();
        for table in &known.some {
            let own: Vec<&Found> =
                files.iter().copied().filter(|(meta, _)| self.is_file_of(table, meta, &node.path)).collect();
            taken.extend(own.iter().map(|(meta, _)| meta.location.clone()));
            match self.partitioned(node, &own, table) {
                Ok((mut set, _)) if !set.parts.is_empty() => {
                    set.owner = Owner::Table(table.name.clone());
                    self.found.push(set);
                }
                Ok(_) => {}
                Err(why) => self.problem_of(&node.path, &table.name, why),
            }
        }
        if let Some(whole) = &known.whole {
            return self.known_table(node, whole, &|meta| !taken.contains(&meta.location), depth);
        }
        self.rest(node, known, &taken, depth);
    }

    fn is_file_of(&self, table: &KnownTable, meta: &ObjectMeta, folder: &Path) -> bool {
        let inside = self.between(meta, folder);
        let Some(below) = inside.get(table.keys.len()..) else { return false };
        let path: Vec<&str> = below.iter().map(String::as_str).chain([file_name(meta)]).collect();
        table.wanted.takes(&path.join("/"))
    }

    /// Places the files of a folder that none of its tables has: they extend one of them, or are new.
    fn rest(&mut self, node: &'a Node, known: &'a KnownFolder, taken: &BTreeSet<Path>, depth: usize) {
        let files: Vec<&Found> = node.files.iter().filter(|(meta, _)| !taken.contains(&meta.location)).collect();
        let mut adopted = BTreeSet::new();
        let families = self.families(&files);
        let names: BTreeSet<&str> = node.files.iter().map(|(meta, _)| file_name(meta)).collect();
        for (name, signature) in &families {
            let own: Vec<&Found> = files
                .iter()
                .copied()
                .filter(|(meta, _)| {
                    let file = file_name(meta);
                    family(file) == *name || stem(file).to_lowercase() == *name
                })
                .collect();
            let Some(kind) = kind_of(&own) else { continue };
            let joins = |table: &&KnownTable| {
                table.keys.is_empty()
                    && table.kind == Some(kind)
                    && table.columns.is_same(signature)
                    && table.shares_word(name)
            };
            let Some(table) = known.some.iter().find(joins) else { continue };
            let own_names: BTreeSet<&str> = own.iter().map(|(meta, _)| file_name(meta)).collect();
            let has = |name: &&&str| table.wanted.takes(name);
            let others: BTreeSet<&str> = names.difference(&own_names).filter(|name| !has(name)).copied().collect();
            let patterns = alike::patterns(&own_names, &others);
            adopted.extend(own.iter().map(|(meta, _)| meta.location.clone()));
            let files: Vec<ObjectMeta> = own.iter().map(|(meta, _)| meta.clone()).collect();
            let note = format!("{} belongs to it: name and columns are similar", patterns.join(", "));
            let owner = Owner::Table(table.name.clone());
            let at = match self.found.iter().position(|set| set.owner == owner && set.path == node.path) {
                Some(at) => at,
                None => {
                    let part = Part { location: self.at(&node.path), files: Vec::new() };
                    let parts = BTreeMap::from([(Vec::new(), part)]);
                    self.found.push(DataSet { kind, parts, owner, ..self.empty(&node.path, table) });
                    self.found.len() - 1
                }
            };
            let set = &mut self.found[at];
            set.only.extend(patterns);
            set.notes.push(note);
            for part in set.parts.values_mut() {
                part.files.extend(files.iter().cloned());
                part.files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
            }
        }
        // The remaining files, as if nothing else were there.
        let files: Vec<&Found> = files.into_iter().filter(|(meta, _)| !adopted.contains(&meta.location)).collect();
        if !files.is_empty() {
            let others: BTreeSet<&str> =
                names.iter().filter(|name| !files.iter().any(|(meta, _)| file_name(meta) == **name)).copied().collect();
            match kind_of(&files) {
                None => {
                    let why = self.simple_files(&files);
                    self.problem(&node.path, why);
                }
                Some(kind) => {
                    let families = self.families(&files);
                    let part = Part {
                        location: self.at(&node.path),
                        files: files.iter().map(|(meta, _)| meta.clone()).collect(),
                    };
                    let set = DataSet {
                        kind,
                        parts: BTreeMap::from([(Vec::new(), part)]),
                        except: self.except(&node.path, 0),
                        ..self.empty(&node.path, &KnownTable::default())
                    };
                    let of = |meta: &ObjectMeta| {
                        let own = stem(file_name(meta)).to_lowercase();
                        if families.contains_key(&own) { own } else { family(file_name(meta)) }
                    };
                    self.split(&set, &strands(&families), &of, &others);
                }
            }
        }
        let has_keys = known.some.iter().any(|table| !table.keys.is_empty());
        if !has_keys {
            return self.below(node, depth);
        }
        // The folders are their partitions.
        let mut left = Vec::new();
        for folder in node.folders.values() {
            let mut inside = Vec::new();
            folder.gather(&|folder| self.known.contains_key(&folder.path), &mut inside, &mut None);
            if inside.iter().any(|(meta, _)| taken.contains(&meta.location)) {
                left.extend(inside.into_iter().filter(|(meta, _)| !taken.contains(&meta.location)));
            } else {
                self.place(folder, depth + 1);
            }
        }
        if let Some((meta, _)) = left.first() {
            let why = format!(
                "{} ({} in all) belongs to none of the tables of this folder; move it, or leave it out with --exclude",
                self.at(&meta.location),
                left.len()
            );
            self.problem(&node.path, why);
        }
    }

    /// Places the existing table of a folder, whatever the folder contains.
    fn known_table(&mut self, node: &'a Node, table: &KnownTable, is_free: &dyn Fn(&ObjectMeta) -> bool, depth: usize) {
        if table.keys.is_empty() {
            match self.simple(node, &table.wanted) {
                Ok(Some(mut set)) => {
                    let is_its = |meta: &ObjectMeta| is_free(meta) && self.is_file_of(table, meta, &node.path);
                    set.parts.values_mut().for_each(|part| part.files.retain(is_its));
                    set.parts.retain(|_, part| !part.files.is_empty());
                    set.owner = Owner::Folder;
                    set.only.clone_from(&table.only);
                    set.except = self.except_of(table, &node.path);
                    if !set.parts.is_empty() {
                        self.found.push(set);
                    }
                }
                Ok(None) => {}
                Err(why) => self.problem_of(&node.path, &table.name, why),
            }
            return;
        }
        let (mut files, mut lake) = (Vec::new(), None);
        let known = self.known;
        let is_other = |folder: &Node| known.contains_key(&folder.path);
        let odd = |name: &str| self.is_odd(table, name) && !self.joins(table, node, name);
        let apart = node.filled().filter(|(name, folder)| !is_other(folder) && odd(name));
        let apart: Vec<&Node> = apart.map(|(_, folder)| folder).collect();
        node.gather(&|folder| is_other(folder) || apart.iter().any(|a| a.path == folder.path), &mut files, &mut lake);
        if let Some(lake) = lake {
            return self.problem_of(
                &node.path,
                &table.name,
                format!("there are files here, but a folder below is a table of {lake}"),
            );
        }
        files.retain(|(meta, _)| is_free(meta));
        match self.partitioned(node, &files, table) {
            Ok((set, misfits)) if set.parts.is_empty() && !misfits.is_empty() => {
                // None of the folders is the table's.
                match self.simple(node, &FileFilter::default()) {
                    Ok(Some(set)) => self.found.push(DataSet { owner: Owner::Folder, ..set }),
                    Ok(None) => {}
                    Err(why) => self.problem_of(&node.path, &table.name, why),
                }
            }
            Ok((mut set, misfits)) => {
                if let Some((meta, _)) = misfits.first() {
                    let (count, example) = (misfits.len(), self.at(&meta.location));
                    let are = if count == 1 { "1 file is" } else { &format!("{count} files are") };
                    let by = table.keys.join(", ");
                    let why = format!(
                        "{are} in no folder of a partition by {by} ({example}); move what is not a partition, or leave it out with --exclude"
                    );
                    self.problem_of(&node.path, &table.name, why);
                }
                set.owner = Owner::Folder;
                if !set.parts.is_empty() {
                    self.found.push(set);
                }
            }
            Err(why) => self.problem_of(&node.path, &table.name, why),
        }
        for folder in apart {
            self.place(folder, depth + 1);
        }
        for folder in node.folders.values().filter(|folder| is_other(folder)) {
            self.place(folder, depth + 1);
        }
    }

    /// Whether a folder named by a word is another partition of a table with such folders.
    fn joins(&self, table: &KnownTable, node: &Node, name: &str) -> bool {
        let Some(folder) = node.folders.get(name).filter(|_| !table.valued[0]) else { return false };
        match self.verdict(folder) {
            Verdict::One(shape) => {
                Some(shape.kind) == table.kind
                    && shape.levels.len() + 1 >= table.keys.len()
                    && shape.signature().is_like(&table.columns)
            }
            _ => false,
        }
    }

    // --- files by their partitions ---------------------------------------------------------------------------------

    fn empty(&self, path: &Path, table: &KnownTable) -> DataSet {
        DataSet {
            path: path.clone(),
            location: self.at(path),
            kind: table.kind.unwrap_or(FileKind::Parquet),
            keys: table.keys.clone(),
            parts: BTreeMap::new(),
            owner: Owner::New,
            name: None,
            only: table.only.clone(),
            except: self.except_of(table, path),
            notes: Vec::new(),
        }
    }

    /// Assigns files to partitions, and returns the files that are in none. Partitions with files of another format are
    /// a problem, and left out.
    fn partitioned<'f>(
        &mut self,
        node: &Node,
        files: &[&'f Found],
        table: &KnownTable,
    ) -> Result<(DataSet, Vec<&'f Found>), String> {
        let mut set = self.empty(&node.path, table);
        let (mut misfits, mut kinds) = (Vec::new(), BTreeMap::<Vec<String>, BTreeSet<Option<FileKind>>>::new());
        let above = node.path.parts().count();
        for file in files {
            let (meta, kind) = file;
            let inside = self.between(meta, &node.path);
            let is_word = |name: &String| folder_partition(name).is_none() && !is_value(name);
            if kind.is_none() && table.plain.first() == Some(&true) && inside.first().is_none_or(is_word) {
                // A text about the data, outside its folders.
                continue;
            }
            let Some(values) = values(table, &inside) else {
                misfits.push(*file);
                continue;
            };
            if !self.is_file_of(table, meta, &node.path) {
                continue;
            }
            let folder: Path = meta.location.parts().take(above + table.keys.len()).collect();
            let location = self.at(&folder);
            let part = set
                .parts
                .entry(values.clone())
                .or_insert_with(|| Part { location: location.clone(), files: Vec::new() });
            if part.location != location {
                self.problem_of(&node.path, &table.name, same_partition(&part.location, &location));
                continue;
            }
            part.files.push(meta.clone());
            kinds.entry(values).or_default().insert(*kind);
        }
        if set.parts.is_empty() {
            return Ok((set, misfits));
        }
        let mut count: BTreeMap<FileKind, usize> = BTreeMap::new();
        for kinds in kinds.values().filter(|kinds| kinds.len() == 1) {
            kinds.iter().flatten().for_each(|kind| *count.entry(*kind).or_default() += 1);
        }
        let most = count.iter().max_by_key(|(_, count)| **count).map(|(kind, _)| *kind);
        let declared = table.kind.filter(|kind| count.contains_key(kind));
        let mixed = || {
            files
                .iter()
                .copied()
                .filter(|(meta, _)| set.parts.values().any(|part| part.files.contains(meta)))
                .collect::<Vec<_>>()
        };
        let Some(kind) = declared.or(most) else { return Err(self.simple_files(&mixed())) };
        if table.keys.is_empty() && kinds.values().any(|kinds| kinds.len() > 1) {
            return Err(self.simple_files(&mixed()));
        }
        set.kind = kind;
        let bad: Vec<Vec<String>> = kinds
            .into_iter()
            .filter(|(_, kinds)| kinds.iter().any(|k| *k != Some(kind)))
            .map(|(values, _)| values)
            .collect();
        if !bad.is_empty() {
            let parts: Vec<Part> = bad.iter().filter_map(|values| set.parts.remove(values)).collect();
            let other = |file: &&&Found| file.1 != Some(kind) && parts.iter().any(|part| part.files.contains(&file.0));
            let others: Vec<&Found> = files.iter().copied().filter(|file| other(&file)).collect();
            let (count, folders) = (others.len(), parts.len());
            let example = others.first().map(|(meta, _)| self.at(&meta.location).to_string()).unwrap_or_default();
            let why = format!(
                "{count} file{} of another format than {kind} in {folders} partition{} ({example}), which {} left alone; move them, or leave them out with --exclude",
                if count == 1 { "" } else { "s" },
                if folders == 1 { "" } else { "s" },
                if folders == 1 { "is" } else { "are" },
            );
            self.problem_of(&node.path, &table.name, why);
        }
        Ok((set, misfits))
    }

    /// The folder as a table whose partitions are folders `key=value`, or the reason why it is not one; none if it has
    /// no files that are read.
    fn simple(&mut self, node: &Node, wanted: &FileFilter) -> Result<Option<DataSet>, String> {
        if let Some(why) = self.inner_table(&node.path) {
            return Err(why);
        }
        let (mut files, mut lake) = (Vec::new(), None);
        node.gather(&|_| false, &mut files, &mut lake);
        if let Some(lake) = lake {
            return Err(format!("there are files here, but a folder below is a table of {lake}"));
        }
        files.retain(|(meta, _)| {
            let inside = self.between(meta, &node.path);
            wanted.takes(&inside.iter().map(String::as_str).chain([file_name(meta)]).collect::<Vec<_>>().join("/"))
        });
        if files.iter().all(|(_, kind)| kind.is_none()) {
            return Ok(None);
        }
        let Some(kind) = kind_of(&files) else { return Err(self.simple_files(&files)) };
        let mut keys: Option<(Vec<String>, &Path)> = None;
        let mut twice = BTreeSet::new();
        let mut set = DataSet { kind, ..self.empty(&node.path, &KnownTable::default()) };
        for (meta, _) in &files {
            let (found, values, folder) = self.partition(meta, &node.path)?;
            let (keys, first) = keys.get_or_insert_with(|| (found.clone(), &meta.location));
            if *keys != found {
                let show = |keys: &[String]| if keys.is_empty() { "no partition".to_owned() } else { keys.join("/") };
                let (one, other) = (self.at(first), self.at(&meta.location));
                return Err(format!(
                    "the partitions are not alike: {one} is in {}, {other} in {}; move one of them, or leave it out with --exclude",
                    show(keys),
                    show(&found)
                ));
            }
            let location = self.at(&folder);
            let part =
                set.parts.entry(values).or_insert_with(|| Part { location: location.clone(), files: Vec::new() });
            if part.location != location {
                twice.insert(same_partition(&part.location, &location));
                continue;
            }
            part.files.push(meta.clone());
        }
        set.keys = keys.map(|(keys, _)| keys).unwrap_or_default();
        if let Some(twice) = set.keys.iter().enumerate().find(|(i, key)| set.keys[..*i].contains(key)) {
            return Err(format!("the partition key `{}` occurs twice on the path to a file", twice.1));
        }
        for why in twice {
            self.problem(&node.path, why);
        }
        Ok(Some(set))
    }

    /// The reason why a folder with a table below it cannot itself be a table.
    fn inner_table(&self, path: &Path) -> Option<String> {
        let inner = self.known.keys().find(|table| *table != path && table.prefix_matches(path))?;
        let table = self.at(inner);
        Some(format!("there are files here, but a folder below, {table}, is a table already; move one of them"))
    }

    /// The reason why files cannot form a table: their formats.
    fn simple_files(&self, files: &[&Found]) -> String {
        let mut kinds: BTreeMap<Option<FileKind>, Vec<&ObjectMeta>> = BTreeMap::new();
        for (meta, kind) in files {
            kinds.entry(*kind).or_default().push(meta);
        }
        let show = |(kind, files): (&Option<FileKind>, &Vec<&ObjectMeta>)| {
            let kind = kind.map_or("no known format".to_owned(), |kind| kind.to_string());
            let example = files.first().map(|meta| self.at(&meta.location).to_string()).unwrap_or_default();
            let count = files.len();
            format!("{count} file{} of {kind} ({example})", if count == 1 { "" } else { "s" })
        };
        let all: Vec<String> = kinds.iter().rev().map(show).collect();
        format!(
            "the files have several formats: {}; move those of another format, hide them by a leading `_`, or leave them out with --exclude",
            all.join(", ")
        )
    }

    /// The keys and values from the folders on the path to a file, and the folder of the partition.
    fn partition(&self, meta: &ObjectMeta, table: &Path) -> Result<(Vec<String>, Vec<String>, Path), String> {
        let folders = self.between(meta, table);
        let run: Vec<_> = folders.iter().map_while(|folder| folder_partition(folder)).collect();
        if folders[run.len()..].iter().any(|folder| folder_partition(folder).is_some()) {
            let file = self.at(&meta.location);
            return Err(format!(
                "there are other folders between those `key=value` on the path to {file}; move it, or leave it out with --exclude"
            ));
        }
        let depth = table.parts().count() + run.len();
        let folder: Path = meta.location.parts().take(depth).collect();
        let (keys, values) =
            run.into_iter().map(|(k, v)| (k.to_lowercase(), v.unwrap_or(NULL_PARTITION.into()))).unzip();
        Ok((keys, values, folder))
    }

    // --- helpers ---------------------------------------------------------------------------------------------------

    /// The folders between a folder and a file below it.
    fn between(&self, meta: &ObjectMeta, folder: &Path) -> Vec<String> {
        let inside = meta.location.prefix_match(folder).into_iter().flatten();
        let mut inside: Vec<String> = inside.map(|part| part.as_ref().to_owned()).collect();
        inside.pop();
        inside
    }

    /// The exclude patterns of an existing table.
    fn except_of(&self, table: &KnownTable, path: &Path) -> Vec<String> {
        let mut except = table.except.clone();
        for pattern in self.except(path, table.keys.len()) {
            if !except.contains(&pattern) {
                except.push(pattern);
            }
        }
        except
    }

    /// The patterns that excluded files in the folders of a table, relative to these folders.
    fn except(&self, path: &Path, keys: usize) -> Vec<String> {
        let depth = self.listed.folders(path).len() + keys;
        let mut except = BTreeSet::new();
        for (_, file) in self.listed.excluded.iter().filter(|(file, _)| file.prefix_matches(path)) {
            except.extend(self.layout.exclude.below(file, depth));
        }
        except.into_iter().collect()
    }

    fn at(&self, path: &Path) -> Location {
        self.listed.location(path)
    }

    fn problem(&mut self, path: &Path, message: String) {
        self.problems.push(CrawlProblem { location: self.at(path), table: None, message });
    }

    /// Reports a problem of a table, which has no name if it is new.
    fn problem_of(&mut self, path: &Path, table: &str, message: String) {
        let table = (!table.is_empty()).then(|| table.to_owned());
        self.problems.push(CrawlProblem { location: self.at(path), table, message });
    }
}

impl KnownTable {
    /// Whether files of this family begin with the same word as the table's files.
    fn shares_word(&self, name: &str) -> bool {
        let first = |text: &str| {
            text.split(['-', '#', '*', '_', '.', ' ', '[']).find(|word| !word.is_empty()).map(str::to_lowercase)
        };
        self.only.iter().any(|pattern| first(stem(pattern)).is_some_and(|word| Some(word) == first(name)))
    }
}

/// The values of the folders on the path to a file, if they are those of a partition.
fn values(table: &KnownTable, folders: &[String]) -> Option<Vec<String>> {
    if folders.len() < table.keys.len() {
        return None;
    }
    let value = |(i, folder): (usize, &String)| match folder_partition(folder) {
        Some((key, value)) => (key.to_lowercase() == table.keys[i]).then(|| value.unwrap_or(NULL_PARTITION.into())),
        None if !table.plain[i] => None,
        None => (!table.valued[i] || is_value(folder) || folder == NULL_PARTITION).then(|| folder.clone()),
    };
    folders[..table.keys.len()].iter().enumerate().map(value).collect()
}

fn merge<'n>(all: &mut Shape<'n>, shape: Shape<'n>, levels: Vec<Level>) {
    let cut = |longer: &[Level]| longer[levels.len()..].iter().any(|level| matches!(level, Level::Plain));
    all.deep |= shape.deep || cut(&all.levels) || cut(&shape.levels);
    all.levels = levels;
    for (family, signature) in shape.families {
        all.families.entry(family).or_default().add(&signature);
    }
    all.apart.extend(shape.apart);
}

fn same_partition(one: &Location, other: &Location) -> String {
    format!(
        "{one} and {other} are folders of the same partition, and the second is left alone; merge them, or leave one out with --exclude"
    )
}

fn file_name(meta: &ObjectMeta) -> &str {
    meta.location.filename().unwrap_or_default()
}

/// The common kind of all files.
fn kind_of(files: &[&Found]) -> Option<FileKind> {
    let kinds: BTreeSet<Option<FileKind>> = files.iter().map(|(_, kind)| *kind).collect();
    match kinds.into_iter().collect::<Vec<_>>().as_slice() {
        [Some(kind)] => Some(*kind),
        _ => None,
    }
}

fn by_family<'n>(files: &[&'n Found]) -> BTreeMap<String, Vec<&'n Found>> {
    let mut by_family: BTreeMap<String, Vec<&Found>> = BTreeMap::new();
    for file in files.iter().filter(|(_, kind)| kind.is_some()) {
        by_family.entry(family(file_name(&file.0))).or_default().push(file);
    }
    by_family
}

/// Picks `count` files evenly, from the first to the last.
fn spread<'n>(files: &[&'n Found], count: usize) -> Vec<(&'n ObjectMeta, FileKind)> {
    let chosen: BTreeSet<usize> = match (count, files.len()) {
        (0, _) | (_, 0) => BTreeSet::new(),
        (1, _) => BTreeSet::from([0]),
        (count, all) => (0..count).map(|i| i * (all - 1) / (count - 1)).collect(),
    };
    chosen.into_iter().filter_map(|i| Some((&files[i].0, files[i].1?))).collect()
}

/// The connected components of signatures under similarity.
fn components(signatures: &[&Signature]) -> Vec<Vec<usize>> {
    let distinct: Vec<&Signature> = signatures.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
    let mut group: Vec<usize> = (0..distinct.len()).collect();
    for i in 0..distinct.len() {
        for j in i + 1..distinct.len() {
            if group[i] != group[j] && distinct[i].is_like(distinct[j]) {
                let (from, to) = (group[j], group[i]);
                group.iter_mut().filter(|g| **g == from).for_each(|g| *g = to);
            }
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (i, signature) in signatures.iter().enumerate() {
        if let Ok(at) = distinct.binary_search(signature) {
            groups.entry(group[at]).or_default().push(i);
        }
    }
    groups.into_values().collect()
}
