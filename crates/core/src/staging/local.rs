//! Staging on the local file system: hidden files that are renamed to their final names.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use twox_hash::XxHash3_64;
use url::Url;

use super::{StagedBy, StagedFile, Staging, Write64, content_hash, damaged, gone, versions_path};
use crate::actions::{Check, DiscardAction, Journal, PublishAction};
use crate::{Error, Location, Result, Run, fault};

/// Stages on the local file system.
#[derive(Debug)]
pub struct LocalStaging {
    objects: Arc<LocalFileSystem>,
    fsync: bool,
    serial: AtomicU64,
}

impl LocalStaging {
    /// Staging on the whole file system of this machine. `fsync` flushes files and folders to the disk.
    pub fn new(objects: Arc<LocalFileSystem>, fsync: bool) -> Self {
        Self { objects, fsync, serial: AtomicU64::new(0) }
    }

    fn on_disk(&self, location: &Location) -> Result<PathBuf> {
        Ok(self.objects.path_to_filesystem(&location.resolve()?.path)?)
    }

    fn to_rename(&self, action: &PublishAction) -> Result<ToRename> {
        match action {
            PublishAction::RenameFile { from, to, .. } => {
                Ok(ToRename { action: action.clone(), source: self.on_disk(from)?, target: self.on_disk(to)? })
            }
            _ => Err(Error::unexpected(format!("{action} is not an action of the file system"))),
        }
    }

    /// Returns the files that are no longer staged, and checks that the others are as written.
    fn verify(files: Vec<ToRename>, check: Check) -> Result<Vec<ToRename>> {
        let mut missing = Vec::new();
        for file in files {
            let PublishAction::RenameFile { from, to, bytes, xxh3 } = &file.action else { continue };
            let found = match look(&file.source, check) {
                Ok(found) => found,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    missing.push(file);
                    continue;
                }
                Err(e) => return Err(io(e, &file.source)),
            };
            if found.bytes != *bytes {
                return Err(damaged(&format!("it has {} bytes, but {bytes} were staged", found.bytes), from, to));
            }
            if found.xxh3.is_some_and(|found| found != *xxh3) {
                return Err(damaged("it has the staged size, but different content", from, to));
            }
        }
        Ok(missing)
    }

    /// Checks that a file that is no longer staged is at its target.
    async fn must_be_ours(&self, file: &ToRename) -> Result<()> {
        let PublishAction::RenameFile { from, to, bytes, xxh3 } = &file.action else { return Ok(()) };
        let path = to.resolve()?.path;
        let ours = match self.objects.head(&path).await {
            Ok(meta) => meta.size == *bytes && content_hash(self.objects.as_ref(), &path).await? == *xxh3,
            Err(object_store::Error::NotFound { .. }) => false,
            Err(e) => return Err(e.into()),
        };
        if ours { Ok(()) } else { Err(gone("the staged file is gone", to).with("staged", from)) }
    }
}

/// The observed state of a file.
struct Looked {
    bytes: u64,
    /// The content hash, if requested.
    xxh3: Option<u64>,
}

/// Inspects a file through a single handle: another process may move it at any moment.
fn look(path: &std::path::Path, check: Check) -> std::io::Result<Looked> {
    if check == Check::Size {
        return Ok(Looked { bytes: std::fs::metadata(path)?.len(), xxh3: None });
    }
    let mut file = std::fs::File::open(path)?;
    let (mut hash, mut bytes, mut buffer) = (XxHash3_64::with_seed(0), 0, vec![0; 1 << 20]);
    loop {
        match std::io::Read::read(&mut file, &mut buffer) {
            Ok(0) => return Ok(Looked { bytes, xxh3: Some(Write64::finish(&hash)) }),
            Ok(n) => {
                Write64::write(&mut hash, &buffer[..n]);
                bytes += n as u64;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// The matching regular files below a folder, with their names. Unreadable entries are skipped.
fn files_below(folder: &std::path::Path, is_meant: impl Fn(&str) -> bool) -> Vec<walkdir::DirEntry> {
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    entries.filter(|e| e.file_type().is_file() && e.file_name().to_str().is_some_and(&is_meant)).collect()
}

/// Whether `object_store` gives this name to a file that is being written.
fn is_half_written(name: &str) -> bool {
    let number = name.rsplit_once('#').map(|(_, number)| number);
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// The end of a staged file's name, and the run that it names.
pub(super) fn staged_by(name: &str) -> Option<(String, String)> {
    let (_, rest) = name.strip_prefix('.')?.split_once('.')?;
    let suffix = format!(".{rest}");
    let (run, token) = rest.strip_suffix(".staged")?.rsplit_once('.')?;
    is_staged(name, &suffix).then(|| (suffix, format!("{run}-{token}")))
}

/// Creates a file, and its folder if it does not exist. Another run that fails at the same time may remove the empty
/// folder in between.
fn with_folder(folder: &std::path::Path, create: impl Fn() -> std::io::Result<std::fs::File>) -> Result<std::fs::File> {
    let mut tries = 0;
    loop {
        match create() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && tries < 10 => tries += 1,
            opened => return opened.map_err(|e| io(e, folder)),
        }
        std::fs::create_dir_all(folder).map_err(|e| io(e, folder))?;
    }
}

/// Creates a file with this content, and its folder if it does not exist.
fn create_filled(path: &std::path::Path, bytes: &[u8], fsync: bool) -> Result<()> {
    fault::hit("stage.file.before")?;
    let mut file = with_folder(path.parent().unwrap_or(path), || std::fs::File::create(path))?;
    fault::hit("stage.file.created")?;
    std::io::Write::write_all(&mut file, bytes).map_err(|e| io(e, path))?;
    if fsync {
        file.sync_all().map_err(|e| io(e, path))?;
        sync_folder(path.parent())?;
    }
    fault::hit("stage.file.finished")
}

fn file_store() -> Result<Url> {
    Url::parse("file:///").map_err(|e| Error::unexpected(e.to_string()))
}

/// Removes a folder without files. The file system keeps one that is not empty, even if a file has just been added.
fn prune(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            prune(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(folder);
}

/// Flushes a folder to the disk, so that the names in it survive a power loss.
fn sync_folder(folder: Option<&std::path::Path>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io(e, folder))
}

/// Runs blocking I/O on the blocking pool: in batches, because a hand-over costs more than writing a small file.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::unexpected("a file task panicked").because(e))?
}

fn io(error: std::io::Error, path: &std::path::Path) -> Error {
    use std::io::ErrorKind as K;
    let hint = match error.kind() {
        K::StorageFull | K::QuotaExceeded => "the disk is full; free some space and run again",
        K::FileTooLarge => "a file exceeds the allowed size; raise `ulimit -f` or free some space, and run again",
        K::PermissionDenied | K::ReadOnlyFilesystem => "the folder cannot be written; check its permissions",
        _ => "a file could not be written",
    };
    Error::unavailable(hint).with("path", path.display()).because(error)
}

/// A staged file and its place.
struct ToRename {
    action: PublishAction,
    source: PathBuf,
    target: PathBuf,
}

/// Moves a staged file to its place. If it is missing, an earlier attempt may have moved it.
fn rename(file: &ToRename, fsync: bool) -> Result<bool> {
    if let Some(folder) = file.target.parent() {
        std::fs::create_dir_all(folder).map_err(|e| io(e, folder))?;
    }
    match std::fs::rename(&file.source, &file.target) {
        Ok(()) if fsync => sync_folder(file.target.parent()).map(|()| true),
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io(e, &file.target)),
    }
}

/// The suffix of a run's staged files. They are hidden and lack the data's suffix, so that no reader's glob finds them.
fn staged_suffix(run: &Run) -> String {
    format!(".{}.{}.staged", run.id, run.token)
}

/// Whether a file in a staging folder belongs to the run with this suffix: a dot, a number, the suffix. (Ids may
/// contain dots, so the end alone would not distinguish the runs `2` and `nightly.2`.)
pub(super) fn is_staged(name: &str, suffix: &str) -> bool {
    let number = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(suffix));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Anything that would make the rename fail permanently after the commit has to be detected before it.
fn check_target(target: &std::path::Path, location: &Location) -> Result<()> {
    for name in target.components() {
        if name.as_os_str().len() > 255 {
            return Err(Error::usage(
                "file systems do not support names of more than 255 bytes; shorten the partition value",
            )
            .with("target", location));
        }
    }
    match std::fs::metadata(target) {
        Ok(meta) if meta.is_dir() => {
            Err(Error::usage("there is a folder where the file should be; remove it or choose another name")
                .with("target", location))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => {
            let is_file = |path: &&std::path::Path| std::fs::metadata(path).is_ok_and(|m| !m.is_dir());
            let file = target.ancestors().skip(1).find(is_file).unwrap_or(target);
            Err(Error::usage("there is a file where a folder should be; remove it or choose another location")
                .with("target", location)
                .with("file", file.display()))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Staging for LocalStaging {
    async fn create(
        &self,
        journal: &dyn Journal,
        run: &Run,
        root: &Path,
        target: &Path,
    ) -> Result<Box<dyn StagedFile>> {
        let place = self.place(journal, run, root, target).await?;
        let (place, file) = blocking(move || place.create().map(|file| (place, file))).await?;
        Ok(Box::new(LocalFile {
            place,
            file: tokio::fs::File::from_std(file),
            hash: XxHash3_64::with_seed(0),
            bytes: 0,
            fsync: self.fsync,
        }))
    }

    async fn put(
        &self,
        journal: &dyn Journal,
        run: &Run,
        root: &Path,
        files: Vec<(Location, Bytes)>,
    ) -> Result<Vec<PublishAction>> {
        let mut places = Vec::with_capacity(files.len());
        for (target, bytes) in files {
            places.push((self.place(journal, run, root, &target.resolve()?.path).await?, bytes));
        }
        let fsync = self.fsync;
        let fill = move |(place, bytes): (LocalPlace, Bytes)| {
            let target = place.to.clone();
            place.fill(&bytes, fsync).map_err(|e| e.with("target", target))
        };
        blocking(move || places.into_iter().map(fill).collect()).await
    }

    async fn put_unseen(&self, files: Vec<(Path, Bytes)>) -> Result<()> {
        let store = file_store()?;
        let placed = |(target, bytes): (Path, Bytes)| {
            let location = Location::of(&store, &target);
            self.on_disk(&location).map(|path| (location, path, bytes))
        };
        let files = files.into_iter().map(placed).collect::<Result<Vec<_>>>()?;
        let fsync = self.fsync;
        let put = move |(location, path, bytes): (Location, PathBuf, Bytes)| {
            check_target(&path, &location)?;
            create_filled(&path, &bytes, fsync).map_err(|e| e.with("target", location))
        };
        blocking(move || files.into_iter().try_for_each(put)).await
    }

    async fn prune(&self, folder: &Path) -> Result<()> {
        let folder = self.on_disk(&Location::of(&file_store()?, folder))?;
        blocking(move || {
            prune(&folder);
            Ok(())
        })
        .await
    }

    async fn verify_all(&self, actions: &[&PublishAction], check: Check) -> Result<()> {
        let files = actions.iter().map(|action| self.to_rename(action)).collect::<Result<Vec<_>>>()?;
        for file in blocking(move || Self::verify(files, check)).await? {
            self.must_be_ours(&file).await?;
        }
        Ok(())
    }

    async fn sweep_half_written(&self, folder: &Path, before: DateTime<Utc>, dry_run: bool) -> Result<Vec<Location>> {
        let folder = self.on_disk(&Location::of(&file_store()?, folder))?;
        blocking(move || {
            let mut found = Vec::new();
            for entry in files_below(&folder, is_half_written) {
                let touched = entry.metadata().ok().and_then(|meta| meta.modified().ok());
                if touched.is_none_or(|at| DateTime::<Utc>::from(at) >= before) {
                    continue;
                }
                if !dry_run {
                    match std::fs::remove_file(entry.path()) {
                        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e, entry.path())),
                        _ => {}
                    }
                }
                found.push(Location::from(entry.path()));
            }
            found.sort();
            Ok(found)
        })
        .await
    }

    async fn staged_below(&self, folder: &Path) -> Result<Vec<StagedBy>> {
        let folder = self.on_disk(&Location::of(&file_store()?, folder))?;
        blocking(move || {
            let is_hidden = |name: &str| staged_by(name).is_some();
            let mut found: Vec<StagedBy> = files_below(&folder, is_hidden)
                .iter()
                .filter_map(|entry| {
                    let (suffix, version) = staged_by(entry.file_name().to_str()?)?;
                    let discard = DiscardAction::StagedFiles { folder: entry.path().parent()?.into(), suffix };
                    Some(StagedBy { location: entry.path().into(), version, discard })
                })
                .collect();
            found.sort_by(|a, b| a.location.cmp(&b.location));
            Ok(found)
        })
        .await
    }

    async fn publish(&self, action: &PublishAction) -> Result<()> {
        let (file, fsync) = (self.to_rename(action)?, self.fsync);
        let missing = blocking(move || if rename(&file, fsync)? { Ok(None) } else { Ok(Some(file)) }).await?;
        match missing {
            None => Ok(()),
            Some(file) => self.must_be_ours(&file).await,
        }
    }

    async fn publish_all(&self, actions: &[&PublishAction]) -> Result<()> {
        let files = actions.iter().map(|action| self.to_rename(action)).collect::<Result<Vec<_>>>()?;
        let fsync = self.fsync;
        let missing = blocking(move || {
            let mut missing = Vec::new();
            for file in files {
                fault::hit("publish.file.before")?;
                if !rename(&file, fsync)? {
                    missing.push(file);
                }
                fault::hit("publish.file.after")?;
            }
            Ok(missing)
        });
        for file in missing.await? {
            self.must_be_ours(&file).await?;
        }
        Ok(())
    }

    async fn discard(&self, action: &DiscardAction) -> Result<()> {
        if let DiscardAction::Folder { location } = action {
            versions_path(location)?;
            let folder = self.on_disk(location)?;
            return blocking(move || {
                match std::fs::remove_dir_all(&folder) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e, &folder)),
                    _ => {}
                }
                // Its parents may have been created for it alone; one that contains anything stays.
                for around in folder.ancestors().skip(1).take(2) {
                    let _ = std::fs::remove_dir(around);
                }
                Ok(())
            })
            .await;
        }
        let DiscardAction::StagedFiles { folder, suffix } = action else {
            return Err(Error::unexpected("not a discard action of the file system"));
        };
        let folder = self.on_disk(folder)?;
        let mut entries = match tokio::fs::read_dir(&folder).await {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(io(e, &folder)),
        };
        while let Some(entry) = entries.next_entry().await.map_err(|e| io(e, &folder))? {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if is_staged(&name, suffix) {
                match tokio::fs::remove_file(entry.path()).await {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e, &entry.path())),
                    _ => {}
                }
            }
        }
        // The folder may have been created for the staged files alone; one that contains anything stays.
        let _ = tokio::fs::remove_dir(&folder).await;
        Ok(())
    }
}

impl LocalStaging {
    /// Notes that a file is about to be staged, and returns its place.
    async fn place(&self, journal: &dyn Journal, run: &Run, root: &Path, target: &Path) -> Result<LocalPlace> {
        let store = file_store()?;
        let (root, to) = (Location::of(&store, root), Location::of(&store, target));
        let suffix = staged_suffix(run);
        journal.note(DiscardAction::StagedFiles { folder: root.clone(), suffix: suffix.clone() }).await?;
        let (folder, target) = (self.on_disk(&root)?, self.on_disk(&to)?);
        let name = format!(".{:06}{suffix}", self.serial.fetch_add(1, Ordering::Relaxed));
        Ok(LocalPlace { path: folder.join(&name), folder, target, from: root.join(&name), to })
    }
}

/// The staging place and the target of a file.
struct LocalPlace {
    folder: PathBuf,
    path: PathBuf,
    target: PathBuf,
    from: Location,
    to: Location,
}

impl LocalPlace {
    /// Creates the staged file and its folder.
    fn create(&self) -> Result<std::fs::File> {
        check_target(&self.target, &self.to)?;
        fault::hit("stage.file.before")?;
        let create = || std::fs::OpenOptions::new().write(true).create_new(true).open(&self.path);
        let file = with_folder(&self.folder, create)?;
        fault::hit("stage.file.created")?;
        Ok(file)
    }

    /// Stages a file with this content.
    fn fill(self, bytes: &[u8], fsync: bool) -> Result<PublishAction> {
        let mut file = self.create()?;
        std::io::Write::write_all(&mut file, bytes).map_err(|e| io(e, &self.path))?;
        if fsync {
            file.sync_all().map_err(|e| io(e, &self.path))?;
        }
        fault::hit("stage.file.finished")?;
        Ok(self.rename(bytes.len() as u64, XxHash3_64::oneshot(bytes)))
    }

    fn rename(self, bytes: u64, xxh3: u64) -> PublishAction {
        PublishAction::RenameFile { from: self.from, to: self.to, bytes, xxh3 }
    }
}

struct LocalFile {
    place: LocalPlace,
    file: tokio::fs::File,
    hash: XxHash3_64,
    bytes: u64,
    fsync: bool,
}

#[async_trait]
impl StagedFile for LocalFile {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        Write64::write(&mut self.hash, &bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(&bytes).await.map_err(|e| io(e, &self.place.path))
    }

    async fn finish(mut self: Box<Self>) -> Result<PublishAction> {
        self.file.flush().await.map_err(|e| io(e, &self.place.path))?;
        if self.fsync {
            self.file.sync_all().await.map_err(|e| io(e, &self.place.path))?;
        }
        fault::hit("stage.file.finished")?;
        let xxh3 = Write64::finish(&self.hash);
        Ok(self.place.rename(self.bytes, xxh3))
    }
}
