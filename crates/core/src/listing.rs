//! Lists everything in a folder, continuing past what cannot be listed.
//!
//! The local file system has obstacles that object stores do not have: circular links, names that are not UTF-8,
//! unreadable folders. [`object_store`]'s listing ends at the first of them, so it would hide everything else.

use std::fmt;
use std::io;
use std::path::{Path as FsPath, PathBuf};

use datafusion::common::runtime::SpawnedTask;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use url::Url;
use walkdir::{DirEntry, WalkDir};

use crate::{Error, Location, Result};

/// The contents of a folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Listing {
    /// The files, sorted by their paths.
    pub files: Vec<ObjectMeta>,
    /// Entries that could not be listed, sorted. Only the local file system has them.
    pub unlisted: Vec<Unlisted>,
}

/// An entry of a folder that no path of a store can denote, with everything below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unlisted {
    /// The folder around it.
    pub folder: Path,
    /// Its name, as far as it is UTF-8. Empty for the folder itself.
    pub name: String,
    /// The obstacle.
    pub why: Obstacle,
}

/// Whether a file in a folder `metadata` is the metadata of an Iceberg table, by its name: `00003-<uuid>.metadata.json`,
/// compressed or not.
pub fn is_iceberg_metadata(name: &str) -> bool {
    name.ends_with(".metadata.json") || name.ends_with(".metadata.json.gz")
}

/// Why something cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// A link to a folder around it. Nothing is lost: the target is listed anyway.
    Circle(String),
    /// A link without a target.
    Dangling,
    /// The name is not UTF-8.
    NotUtf8,
    /// The name is not valid in a store.
    Name(&'static str),
    /// There is no permission to read it.
    Denied,
    /// Anything else, in the system's words.
    Other(String),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Circle(to) => write!(f, "this link points back to {to}, which contains it; it is not followed"),
            Self::Dangling => f.write_str("this link is broken"),
            Self::NotUtf8 => f.write_str("the name is not UTF-8, so the file cannot be addressed"),
            Self::Name(why) => f.write_str(why),
            Self::Denied => f.write_str("access denied"),
            Self::Other(why) => write!(f, "this cannot be listed: {why}"),
        }
    }
}

impl Obstacle {
    /// A hint.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Circle(_) | Self::Dangling => "remove the link",
            Self::NotUtf8 | Self::Name(_) => "rename it",
            Self::Denied => "grant read permission to the user who runs this",
            Self::Other(_) => "move it elsewhere",
        }
    }
}

impl Unlisted {
    /// Its location, as far as it is UTF-8.
    pub fn location(&self, store: &Url) -> Location {
        let folder = Location::of(store, &self.folder);
        if self.name.is_empty() {
            folder
        } else {
            format!("{}/{}", folder.as_str().trim_end_matches('/'), self.name).into()
        }
    }

    /// The error for a caller that needs all files of the folder.
    fn refused(&self, store: &Url) -> Error {
        Error::refused(self.why.to_string()).with("file", self.location(store)).hint(self.why.hint())
    }
}

/// Lists everything below a folder, continuing past what cannot be listed. A missing folder has no files.
///
/// # Errors
/// Those of the store.
pub async fn list_all(store: &Url, objects: &dyn ObjectStore, folder: &Path) -> Result<Listing> {
    if store.scheme() == "file" {
        return walk(store, folder, None).await;
    }
    let mut files = collect(objects, folder, None).await.map_err(|e| failed(e, store, folder))?;
    files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
    Ok(Listing { files, unlisted: Vec::new() })
}

/// The files below a folder, sorted by path, as readers of the folder see them. Circular links hide nothing and are
/// skipped, and so is everything that `spared` excludes.
///
/// # Errors
/// [`Refused`](crate::ErrorKind::Refused) for something that cannot be listed; also the store's errors.
pub async fn list_files(
    store: &Url,
    objects: &dyn ObjectStore,
    folder: &Path,
    spared: impl Fn(&Unlisted) -> bool,
) -> Result<Vec<ObjectMeta>> {
    list_files_after(store, objects, folder, None, spared).await
}

/// Like [`list_files`], but only the files whose paths come after this one, in the order of their bytes. Object stores are
/// asked for just these, and local folders before it are not entered.
///
/// # Errors
/// Those of [`list_files`].
pub async fn list_files_after(
    store: &Url,
    objects: &dyn ObjectStore,
    folder: &Path,
    after: Option<&Path>,
    spared: impl Fn(&Unlisted) -> bool,
) -> Result<Vec<ObjectMeta>> {
    let found = match after {
        // The store would walk through all folders.
        Some(_) if store.scheme() == "file" => None,
        _ => Some(collect(objects, folder, after).await),
    };
    let mut files = match found {
        Some(Ok(files)) => files,
        Some(Err(e)) if !is_obstacle(&e) => return Err(failed(e, store, folder)),
        _ => {
            let listing = walk(store, folder, after).await?;
            let harmless = |u: &&Unlisted| {
                matches!(u.why, Obstacle::Circle(_) | Obstacle::Dangling) || is_upload(&u.name) || spared(u)
            };
            if let Some(unlisted) = listing.unlisted.iter().find(|u| !harmless(u)) {
                return Err(unlisted.refused(store));
            }
            listing.files
        }
    };
    files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
    Ok(files)
}

async fn collect(
    objects: &dyn ObjectStore,
    folder: &Path,
    after: Option<&Path>,
) -> object_store::Result<Vec<ObjectMeta>> {
    let found = match after {
        Some(after) => objects.list_with_offset(Some(folder), after),
        None => objects.list(Some(folder)),
    };
    match found.try_collect().await {
        Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
        found => found,
    }
}

fn failed(error: object_store::Error, store: &Url, folder: &Path) -> Error {
    Error::from(error).with("location", Location::of(store, folder))
}

/// Whether a listing of the local file system failed at something that cannot be listed.
fn is_obstacle(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(e) = cause {
        if e.is::<walkdir::Error>() || e.is::<object_store::path::Error>() {
            return true;
        }
        cause = e.source();
    }
    false
}

// --- the local file system -----------------------------------------------------------------------------------------

async fn walk(store: &Url, folder: &Path, after: Option<&Path>) -> Result<Listing> {
    let (root, after) = (PathBuf::from(format!("/{folder}")), after.map(|path| format!("/{path}")));
    let done = SpawnedTask::spawn_blocking(move || Walk::default().all(&root, after.as_deref())).join_unwind().await;
    done.map_err(|e| {
        Error::unexpected("a listing task panicked").with("location", Location::of(store, folder)).because(e)
    })
}

#[derive(Default)]
struct Walk(Listing);

impl Walk {
    /// Everything whose path comes after the given one, if any.
    fn all(mut self, root: &FsPath, after: Option<&str>) -> Listing {
        let mut entries = WalkDir::new(root).min_depth(1).follow_links(true).into_iter();
        while let Some(entry) = entries.next() {
            match entry {
                Ok(entry) if after.is_some_and(|after| comes_before(&entry, after)) => {
                    if entry.file_type().is_dir() {
                        entries.skip_current_dir();
                    }
                }
                Ok(entry) => {
                    let is_folder = entry.file_type().is_dir();
                    let circle = if is_folder && entry.path_is_symlink() { leads_back(entry.path()) } else { None };
                    let is_circle = circle.is_some();
                    if let Some(to) = circle {
                        self.unlisted(entry.path(), Obstacle::Circle(to.to_string_lossy().into_owned()));
                    }
                    if is_circle || (self.take(&entry).is_none() && is_folder) {
                        entries.skip_current_dir();
                    }
                }
                Err(error) => self.stumble(&error),
            }
        }
        let Self(mut listing) = self;
        listing.files.sort_unstable_by(|a, b| a.location.cmp(&b.location));
        listing.unlisted.sort();
        listing
    }

    /// Adds a file; none if the name of a file or folder is not valid.
    fn take(&mut self, entry: &DirEntry) -> Option<()> {
        let Some(location) = path_of(entry.path()) else {
            let why = match entry.file_name().to_str() {
                None => Obstacle::NotUtf8,
                Some(_) => Obstacle::Name("the name contains a control character, such as a line break"),
            };
            self.unlisted(entry.path(), why);
            return None;
        };
        if !entry.file_type().is_file() {
            return Some(());
        }
        if is_upload(entry.file_name().to_str().unwrap_or_default()) {
            let why = "a name that ends in `#` and digits denotes a file in progress, so readers ignore the file";
            self.unlisted(entry.path(), Obstacle::Name(why));
            return Some(());
        }
        match entry.metadata() {
            Ok(meta) => {
                let last_modified = meta.modified().map(Into::into).unwrap_or_default();
                self.0.files.push(ObjectMeta { location, last_modified, size: meta.len(), e_tag: None, version: None });
            }
            Err(error) => self.stumble(&error),
        }
        Some(())
    }

    fn stumble(&mut self, error: &walkdir::Error) {
        let Some(path) = error.path() else { return };
        let gone = error.io_error().is_some_and(|e| e.kind() == io::ErrorKind::NotFound);
        let why = match (error.loop_ancestor(), error.io_error()) {
            (Some(to), _) => Obstacle::Circle(to.to_string_lossy().into_owned()),
            (None, Some(e)) if e.raw_os_error() == Some(TOO_MANY_LINKS) => {
                Obstacle::Circle(path.to_string_lossy().into_owned())
            }
            // An entry may have been removed since the folder was read.
            (None, Some(_)) if gone && !is_link(path) => return,
            (None, Some(_)) if gone => Obstacle::Dangling,
            (None, Some(e)) if e.kind() == io::ErrorKind::PermissionDenied => Obstacle::Denied,
            (None, Some(e)) => Obstacle::Other(e.to_string()),
            (None, None) => Obstacle::Other(error.to_string()),
        };
        self.unlisted(path, why);
    }

    fn unlisted(&mut self, path: &FsPath, why: Obstacle) {
        let (mut folder, mut name) = (path, PathBuf::new());
        // The parent may have no valid path either.
        let folder = loop {
            if let Some(found) = path_of(folder).filter(|_| folder != path) {
                break found;
            }
            let last = PathBuf::from(folder.file_name().unwrap_or_default());
            name = if name.as_os_str().is_empty() { last } else { last.join(name) };
            match folder.parent() {
                Some(parent) => folder = parent,
                None => break Path::default(),
            }
        };
        self.0.unlisted.push(Unlisted { folder, name: name.to_string_lossy().into_owned(), why });
    }
}

/// Whether a file comes before this path, or is there, in the order of the bytes; whether everything in a folder does.
fn comes_before(entry: &DirEntry, path: &str) -> bool {
    let (own, path) = (entry.path().as_os_str().as_encoded_bytes(), path.as_bytes());
    if !entry.file_type().is_dir() {
        return own <= path;
    }
    // What is in `a` begins with `a/`, which comes after `a-b`.
    let own = [own, b"/"].concat();
    own.as_slice() < path && !path.starts_with(&own)
}

/// The target of a link, if it is a folder around the link, even above the listed one, so that a folder has the same
/// files whoever lists it.
fn leads_back(link: &FsPath) -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "symbolic links decide what a folder holds")]
    let real = |path: &FsPath| std::fs::canonicalize(path).ok();
    let (to, from) = (real(link)?, real(link.parent()?)?);
    from.starts_with(&to).then_some(to)
}

/// `ELOOP`: a link to itself, or links that lead to each other.
const TOO_MANY_LINKS: i32 = if cfg!(target_os = "linux") { 40 } else { 62 };

fn path_of(path: &FsPath) -> Option<Path> {
    Path::parse(path.to_str()?).ok()
}

fn is_link(path: &FsPath) -> bool {
    path.symlink_metadata().is_ok_and(|meta| meta.is_symlink())
}

/// Whether `object_store` takes the name for that of a file being written, and so never lists it.
fn is_upload(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, end)| !end.is_empty() && end.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "what a file system can hold")]

    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use rstest::rstest;

    use super::*;
    use crate::{ErrorKind, Stores};

    /// A folder with a file and something that is made in it.
    fn folder(make: impl FnOnce(&FsPath)) -> (tempfile::TempDir, Location) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/good.csv"), "x").unwrap();
        make(&root);
        (dir, Location::from(&root))
    }

    async fn listed(root: &Location) -> (Vec<String>, Vec<String>) {
        let (store, path) = Stores::new(false).open(root).unwrap();
        let listing = list_all(&store.url, store.objects.as_ref(), &path).await.unwrap();
        let relative = |text: &str| text.replace(root.as_str(), "");
        let files = listing.files.iter().map(|meta| relative(&format!("/{}", meta.location))).collect();
        let unlisted = listing.unlisted.iter().map(|u| relative(&format!("{}: {}", u.location(&store.url), u.why)));
        (files, unlisted.collect())
    }

    async fn read(root: &Location) -> Result<usize> {
        let (store, path) = Stores::new(false).open(root).unwrap();
        Ok(list_files(&store.url, store.objects.as_ref(), &path, |u| u.name.starts_with('_')).await?.len())
    }

    #[rstest]
    #[case::circle(|root: &FsPath| symlink(".", root.join("a/self")).unwrap(), "/a/self: this link points back to /a, which contains it; it is not followed", 1)]
    #[case::circle_above(|root: &FsPath| symlink("..", root.join("a/up")).unwrap(), "/a/up: this link points back to , which contains it; it is not followed", 1)]
    #[case::itself(|root: &FsPath| symlink("me", root.join("a/me")).unwrap(), "/a/me: this link points back to /a/me, which contains it; it is not followed", 1)]
    #[case::dangling(|root: &FsPath| symlink("nowhere", root.join("a/gone.csv")).unwrap(), "/a/gone.csv: this link is broken", 1)]
    #[case::hidden(|root: &FsPath| fs::write(root.join(OsStr::from_bytes(b"_\xff.csv")), "x").unwrap(), "/_\u{fffd}.csv: the name is not UTF-8, so the file cannot be addressed", 1)]
    #[case::not_utf8(|root: &FsPath| fs::write(root.join(OsStr::from_bytes(b"\xff.csv")), "x").unwrap(), "/\u{fffd}.csv: the name is not UTF-8, so the file cannot be addressed", 0)]
    #[case::folder_not_utf8(|root: &FsPath| { fs::create_dir(root.join(OsStr::from_bytes(b"x\xff"))).unwrap(); fs::write(root.join(OsStr::from_bytes(b"x\xff/a.csv")), "x").unwrap(); }, "/x\u{fffd}: the name is not UTF-8, so the file cannot be addressed", 0)]
    #[case::line_end(|root: &FsPath| fs::write(root.join("x\ny.csv"), "x").unwrap(), "/x\ny.csv: the name contains a control character, such as a line break", 0)]
    #[case::not_a_folder(|root: &FsPath| symlink("b/good.csv/x", root.join("a/odd")).unwrap(), "/a/odd: this cannot be listed: Not a directory (os error 20)", 0)]
    #[tokio::test]
    async fn one_obstacle_hides_nothing_else(
        #[case] make: fn(&FsPath),
        #[case] unlisted: &str,
        #[case] readable: usize,
    ) {
        let (_dir, root) = folder(make);
        assert_eq!(listed(&root).await, (vec!["/a/b/good.csv".to_owned()], vec![unlisted.to_owned()]));
        match (read(&root).await, readable) {
            (Ok(files), expected) => assert_eq!(files, expected),
            (Err(error), expected) => {
                assert_eq!((error.kind(), expected), (ErrorKind::Refused, 0), "{error}");
                assert!(error.get("file").is_some() && error.get_hint().is_some(), "{error}");
            }
        }
    }

    #[rstest]
    #[case("100%25 done/x=1.csv")]
    #[case(" lead/trail ./x..csv")]
    #[case("a#b/ü東京 [1]{2}*?.csv")]
    #[case("a\\b/'\"&;.csv")]
    #[tokio::test]
    async fn odd_names_are_names(#[case] name: &str) {
        let (dir, root) = folder(|_| ());
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        let (mut wanted, none) = (vec!["/a/b/good.csv".to_owned(), format!("/{name}")], Vec::<String>::new());
        wanted.sort();
        assert_eq!(listed(&root).await, (wanted, none));
        assert_eq!(read(&root).await.unwrap(), 2);
        // And it leads back to the file.
        let (store, folder) = Stores::new(false).open(&root).unwrap();
        for meta in list_all(&store.url, store.objects.as_ref(), &folder).await.unwrap().files {
            let location = Location::of(&store.url, &meta.location);
            assert!(Stores::new(false).exists(&location).await.unwrap(), "{location}");
        }
    }

    /// A link to a folder above the one that is listed would show that folder's other files.
    #[tokio::test]
    async fn a_folder_has_the_same_files_whoever_lists_it() {
        let (_dir, root) = folder(|root| {
            symlink("../..", root.join("a/b/up")).unwrap();
            fs::write(root.join("other.csv"), "x").unwrap();
        });
        assert_eq!(read(&root.join("a/b")).await.unwrap(), 1);
        assert_eq!(listed(&root.join("a")).await.0.len(), 1);
    }

    #[tokio::test]
    async fn names_of_uploads_are_said() {
        let (_dir, root) = folder(|root| fs::write(root.join("part#1"), "x").unwrap());
        let (files, unlisted) = listed(&root).await;
        assert_eq!((files.len(), unlisted.len()), (1, 1), "{unlisted:?}");
    }

    #[tokio::test]
    async fn the_deepest_folder_is_reached() {
        let (_dir, root) = folder(|root| {
            let deep = root.join(vec!["d"; 1500].join("/"));
            fs::create_dir_all(&deep).unwrap();
            fs::write(deep.join("x.csv"), "x").unwrap();
        });
        assert_eq!(listed(&root).await.0.len(), 2);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_has_no_files() {
        let (_dir, root) = folder(|_| ());
        assert_eq!(listed(&root.join("nowhere")).await, (Vec::new(), Vec::new()));
        assert_eq!(listed(&Location::from("memory:/nowhere")).await, (Vec::new(), Vec::new()));
        assert_eq!(read(&root.join("nowhere")).await.unwrap(), 0);
    }
}
