//! Writing files that no reader sees until they are published.
//!
//! On a file system a staged file is a hidden file in the sink's root folder, moved to its place by a rename. On S3 and
//! other stores with multipart uploads it is an upload that has not been completed. Both are named by a
//! [`PublishAction`] that another process can execute, or undone through a [`DiscardAction`].
#![allow(clippy::disallowed_methods, reason = "this is where staged files are made and moved")]

use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use object_store::local::LocalFileSystem;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use twox_hash::XxHash3_64;
use url::Url;

use crate::publish::{Check, DiscardAction, Journal, PublishAction};
use crate::{Error, ErrorKind, Location, Result, Run, fault};

/// How one store stages files: a small port with an implementation for file systems and one for multipart uploads.
#[async_trait]
pub trait Staging: Debug + Send + Sync {
    /// Begins a file that will be at `target` once it is published. `root` is the sink's own folder, at or above `target`.
    /// What must be undone if the run dies is written to `journal` first.
    async fn create(&self, journal: &dyn Journal, run: &Run, root: &Path, target: &Path)
    -> Result<Box<dyn StagedFile>>;

    /// Stages files whose content is at hand, and says in their order what makes them visible.
    async fn put(
        &self,
        journal: &dyn Journal,
        run: &Run,
        root: &Path,
        files: Vec<(Location, Bytes)>,
    ) -> Result<Vec<PublishAction>> {
        let put = files.into_iter().map(async |(target, bytes)| {
            let put = async {
                let mut file = self.create(journal, run, root, &target.resolve()?.path).await?;
                file.write(bytes).await?;
                file.finish().await
            };
            put.await.map_err(|e| e.with("target", &target))
        });
        // After an error, too, all come to their ends: a request may have been answered that nobody has noted yet.
        futures::future::join_all(put).await.into_iter().collect()
    }

    /// Writes a file whose content is at hand to its place at once, without staging it: for a folder that nothing points
    /// to yet, which the caller has noted as [`DiscardAction::Folder`].
    async fn put_unseen(&self, target: &Path, bytes: Bytes) -> Result<()>;

    /// Removes folders without files, `folder` and those in it, where a store has folders.
    async fn prune(&self, _folder: &Path) -> Result<()> {
        Ok(())
    }

    /// Checks that files which are to be published are staged as they were written, or at their targets already. A store
    /// that completes an upload by the ETags of its parts does so itself.
    ///
    /// # Errors
    /// [`ErrorKind::Lost`] for the first that is gone or damaged.
    async fn verify_all(&self, _actions: &[&PublishAction], _check: Check) -> Result<()> {
        Ok(())
    }

    /// What killed processes have left below a folder of what they were about to write at once, where a store has such
    /// things: [`object_store`] writes a local file `name` under the name `name#1` first, and hides it from its listings.
    /// Those are found that were touched last before a moment, and removed unless it is a dry run.
    ///
    /// # Errors
    /// Those of the store. A folder that is not there has none.
    async fn sweep_half_written(
        &self,
        _folder: &Path,
        _before: DateTime<Utc>,
        _dry_run: bool,
    ) -> Result<Vec<Location>> {
        Ok(Vec::new())
    }

    /// The staged files below a folder that are hidden there, and of which run and token they are.
    ///
    /// # Errors
    /// Those of the store. A store whose staged files have no names has none.
    async fn staged_below(&self, _folder: &Path) -> Result<Vec<StagedBy>> {
        Ok(Vec::new())
    }

    /// Makes a staged file visible. Doing it again changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Lost`] if what was staged is gone and what is at the target is not it.
    async fn publish(&self, action: &PublishAction) -> Result<()>;

    /// [`Staging::publish`] for several files, one after the other.
    ///
    /// # Errors
    /// The first that fails; those behind it are not published then.
    async fn publish_all(&self, actions: &[&PublishAction]) -> Result<()> {
        for action in actions {
            fault::hit("publish.file.before")?;
            self.publish(action).await?;
            fault::hit("publish.file.after")?;
        }
        Ok(())
    }

    /// Removes what a run staged. Doing it again changes nothing.
    async fn discard(&self, action: &DiscardAction) -> Result<()>;

    /// What there is to discard for [`DiscardAction::Uploads`], one by one. Without a mark those only of which nothing has
    /// been uploaded: nobody knows their ids, or somebody has just begun.
    ///
    /// # Errors
    /// Those of the store, and none where it cannot list uploads or does not let them be listed: then nothing is found.
    async fn find_uploads(&self, _location: &Location, _mark: Option<&str>) -> Result<Vec<DiscardAction>> {
        Ok(Vec::new())
    }
}

/// A hidden file, and the run that has staged it, by its [`Run::version`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedBy {
    /// Where it is.
    pub location: Location,
    /// The run's id and token.
    pub version: String,
    /// What discards it, and others of the run in the same folder.
    pub discard: DiscardAction,
}

/// A file being staged.
#[async_trait]
pub trait StagedFile: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the file durable and returns what makes it visible.
    async fn finish(self: Box<Self>) -> Result<PublishAction>;
}

impl Debug for dyn StagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StagedFile")
    }
}

/// The name of the folder in which folders that only one run writes to are.
pub const VERSIONS: &str = "_versions";

/// The path of a folder that only one run writes to.
///
/// # Errors
/// Unexpected if its name does not say that it is one: then somebody else's files may be in it.
fn versions_path(location: &Location) -> Result<Path> {
    let path = location.resolve()?.path;
    let parts: Vec<_> = path.parts().collect();
    match parts.as_slice() {
        [.., versions, _] if versions.as_ref() == VERSIONS => Ok(path),
        _ => Err(Error::unexpected("this is not the folder of a run, so it is not removed").with("folder", location)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Streams an object through the hash that staged files are recognised by: XXH3 of 64 bits.
///
/// # Errors
/// Those of the store.
pub async fn content_hash(objects: &dyn ObjectStore, path: &Path) -> Result<u64> {
    let mut stream = objects.get(path).await?.into_stream();
    let mut hash = XxHash3_64::with_seed(0);
    while let Some(bytes) = stream.next().await {
        hash.write(&bytes?);
    }
    Ok(hash.finish())
}

trait Write64 {
    fn write(&mut self, bytes: &[u8]);
    fn finish(&self) -> u64;
}

impl Write64 for XxHash3_64 {
    fn write(&mut self, bytes: &[u8]) {
        std::hash::Hasher::write(self, bytes);
    }
    fn finish(&self) -> u64 {
        std::hash::Hasher::finish(self)
    }
}

fn gone(what: &str, target: &Location) -> Error {
    Error::new(
        ErrorKind::Lost,
        format!(
            "{what}, and what is at its target is not what the run wrote; the commit cannot be completed as recorded"
        ),
    )
    .with("target", target)
    .hint("restore the staged file, or put the wanted object at the target and run `hardtack recover --skip-missing`")
}

/// Damage to a file that waits to be published.
fn damaged(what: &str, from: &Location, to: &Location) -> Error {
    let error = Error::new(ErrorKind::Lost, format!("a staged file is not what the run wrote: {what}"))
        .with("staged", from)
        .with("target", to)
        .hint(
            "restore the staged file; or give it up with `hardtack recover --skip-missing`, which deletes nothing for \
             its sake, and run the job again",
        );
    match partition_of(to) {
        Some(partition) => error.with("partition", partition),
        None => error,
    }
}

/// The partition that a file is in, as its folders name it: `year=2026/month=11`.
fn partition_of(file: &Location) -> Option<String> {
    let path = file.resolve().ok()?.path;
    let parts: Vec<_> = path.parts().collect();
    let (_, folders) = parts.split_last()?;
    let keys: Vec<&str> = folders.iter().map(AsRef::as_ref).filter(|name| name.contains('=')).collect();
    (!keys.is_empty()).then(|| keys.join("/"))
}

// --- file systems --------------------------------------------------------------------------------------------------

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

    /// Those of these files that are not staged any more. Of the others it is checked that they are what was written.
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
                return Err(damaged(&format!("it has {} bytes, and {bytes} were staged", found.bytes), from, to));
            }
            if found.xxh3.is_some_and(|found| found != *xxh3) {
                return Err(damaged("it has as many bytes as were staged, but others", from, to));
            }
        }
        Ok(missing)
    }

    /// That a file which is not staged any more is what lies at its place.
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

/// What a file is seen to be.
struct Looked {
    bytes: u64,
    /// The hash that staged files are recognised by, if it was asked for.
    xxh3: Option<u64>,
}

/// Looks at a file, through one handle: another process may move it at any moment.
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

/// The regular files below a folder that are meant, each with its name. What cannot be looked at is passed over.
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
fn staged_by(name: &str) -> Option<(String, String)> {
    let (_, rest) = name.strip_prefix('.')?.split_once('.')?;
    let suffix = format!(".{rest}");
    let (run, token) = rest.strip_suffix(".staged")?.rsplit_once('.')?;
    is_staged(name, &suffix).then(|| (suffix, format!("{run}-{token}")))
}

/// Creates a file, and its folder if it is not there. Another run that fails just now may take the empty folder away in
/// between.
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

fn file_store() -> Result<Url> {
    Url::parse("file:///").map_err(|e| Error::unexpected(e.to_string()))
}

/// Removes a folder if there is no file in it or below. One that is not empty, also because something has just come, is
/// kept by the file system.
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

/// Does what blocks where it may: several calls in one go, because each go costs more than a small file does.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::unexpected("a file task died").because(e))?
}

fn io(error: std::io::Error, path: &std::path::Path) -> Error {
    use std::io::ErrorKind as K;
    let hint = match error.kind() {
        K::StorageFull | K::QuotaExceeded => "the disk is full; free room and run again",
        K::FileTooLarge => "a file is larger than allowed here; free room or raise `ulimit -f`, and run again",
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

/// Moves a staged file to its place. If it is not there, an earlier attempt may have moved it.
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

/// The name under which a run stages its files: hidden, and not ending as data does, so that no reader's glob finds it.
fn staged_suffix(run: &Run) -> String {
    format!(".{}.{}.staged", run.id, run.token)
}

/// Whether a file in a staging folder is one of the run with this suffix: a dot, a number, the suffix. (Ids may hold dots,
/// so the end alone would not tell the runs `2` and `nightly.2` apart.)
fn is_staged(name: &str, suffix: &str) -> bool {
    let number = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(suffix));
    number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// What would make the rename fail after the commit, for good, has to be found before it.
fn check_target(target: &std::path::Path, location: &Location) -> Result<()> {
    for name in target.components() {
        if name.as_os_str().len() > 255 {
            return Err(Error::usage(
                "a file system holds no name of more than 255 bytes; shorten the partition value",
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
            Err(Error::usage("there is a file where a folder should be; remove it or choose another place")
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

    async fn put_unseen(&self, target: &Path, bytes: Bytes) -> Result<()> {
        let location = Location::of(&file_store()?, target);
        let (path, fsync) = (self.on_disk(&location)?, self.fsync);
        blocking(move || {
            check_target(&path, &location)?;
            fault::hit("stage.file.before")?;
            let mut file = with_folder(path.parent().unwrap_or(&path), || std::fs::File::create(&path))?;
            fault::hit("stage.file.created")?;
            std::io::Write::write_all(&mut file, &bytes).map_err(|e| io(e, &path))?;
            if fsync {
                file.sync_all().map_err(|e| io(e, &path))?;
                sync_folder(path.parent())?;
            }
            fault::hit("stage.file.finished")
        })
        .await
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
                // Those around it may have been made for it alone; one that holds anything stays.
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
        // The folder may have been made for the staged files alone; one that holds anything stays.
        let _ = tokio::fs::remove_dir(&folder).await;
        Ok(())
    }
}

impl LocalStaging {
    /// Notes that a file is about to be staged, and says where.
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

/// Where a file is staged and where it will be.
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

// --- multipart uploads ---------------------------------------------------------------------------------------------

/// A store that can list the uploads that were begun and neither completed nor aborted.
#[async_trait]
pub trait UploadList: Debug + Send + Sync {
    /// The uploads of objects whose paths start like this, with their ids. None where listing is not allowed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if there is no answer that says one or the other.
    async fn open_uploads(&self, prefix: &str) -> Result<Vec<(Path, MultipartId)>>;

    /// Whether nothing has been uploaded yet of an upload that is open. Of one that is not open any more, or may not be
    /// looked at, it is not known, so `false`.
    ///
    /// # Errors
    /// Those of [`UploadList::open_uploads`].
    async fn is_empty(&self, path: &Path, upload: &MultipartId) -> Result<bool>;
}

/// Stages as multipart uploads that are not completed: S3, and the in-memory store.
pub struct MultipartStaging {
    url: Url,
    objects: Arc<dyn ObjectStore>,
    uploads: Arc<dyn MultipartStore>,
    list: Option<Arc<dyn UploadList>>,
    concurrency: usize,
    part_bytes: usize,
}

impl Debug for MultipartStaging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MultipartStaging({})", self.url)
    }
}

/// S3 refuses parts below 5 MiB (but the last); larger ones need fewer requests and more memory.
const PART_BYTES: usize = 8 << 20;
/// S3 takes 10,000 parts; doubling their size every thousand reaches its largest object (5 TiB) before that.
const PARTS_PER_SIZE: usize = 1000;
/// There are few: those that nobody knows.
const ABORTS_AT_ONCE: usize = 16;

impl MultipartStaging {
    /// Staging in the store at `url`; `objects` and `uploads` are two views of it.
    pub fn new(url: Url, objects: Arc<dyn ObjectStore>, uploads: Arc<dyn MultipartStore>) -> Self {
        Self { url, objects, uploads, list: None, concurrency: 4, part_bytes: PART_BYTES }
    }

    /// How to find uploads of which nobody knows the id, because the answer that told it was lost. Without it they stay
    /// until the store removes them by itself.
    #[must_use]
    pub fn with_upload_list(self, list: Arc<dyn UploadList>) -> Self {
        Self { list: Some(list), ..self }
    }

    /// How many parts of one file are on their way at once (4 by default).
    #[must_use]
    pub fn with_concurrency(mut self, parts: usize) -> Self {
        self.concurrency = parts.max(1);
        self
    }

    /// The size of a part in bytes (8 MiB by default; S3 wants 5 MiB at least).
    #[must_use]
    pub fn with_part_bytes(mut self, bytes: usize) -> Self {
        self.part_bytes = bytes.max(1);
        self
    }
}

/// The ETag that S3 gives to an object completed from parts with these ETags: the MD5 of their MD5s, and their number.
/// `None` where the parts' ETags are not MD5s.
fn multipart_etag(parts: &[String]) -> Option<String> {
    let mut md5 = Md5::new();
    for part in parts {
        let part = part.trim_matches('"');
        if part.len() != 32 {
            return None;
        }
        for i in (0..32).step_by(2) {
            md5.update([u8::from_str_radix(part.get(i..i + 2)?, 16).ok()?]);
        }
    }
    Some(format!("{}-{}", hex(&md5.finalize()), parts.len()))
}

#[async_trait]
impl Staging for MultipartStaging {
    async fn create(
        &self,
        journal: &dyn Journal,
        run: &Run,
        root: &Path,
        target: &Path,
    ) -> Result<Box<dyn StagedFile>> {
        let location = Location::of(&self.url, target);
        if self.list.is_some() {
            let mark = run.version();
            journal
                .note(match target.filename() {
                    Some(name) if name.contains(&mark) => {
                        DiscardAction::Uploads { location: Location::of(&self.url, root), mark: Some(mark) }
                    }
                    _ => DiscardAction::Uploads { location: location.clone(), mark: None },
                })
                .await?;
        }
        fault::hit("stage.file.before")?;
        let upload_id = self.uploads.create_multipart(target).await?;
        fault::hit("stage.upload.begun")?;
        journal.note(DiscardAction::Upload { location: location.clone(), upload_id: upload_id.clone() }).await?;
        fault::hit("stage.file.created")?;
        Ok(Box::new(Upload {
            uploads: Arc::clone(&self.uploads),
            path: target.clone(),
            location,
            upload_id,
            concurrency: self.concurrency,
            part_bytes: self.part_bytes,
            buffer: BytesMut::new(),
            sent: 0,
            parts: Vec::new(),
            pending: JoinSet::new(),
            hash: XxHash3_64::with_seed(0),
            bytes: 0,
        }))
    }

    async fn put_unseen(&self, target: &Path, bytes: Bytes) -> Result<()> {
        fault::hit("stage.file.before")?;
        let put = self.objects.put(target, PutPayload::from(bytes)).await;
        put.map_err(|e| Error::from(e).with("location", Location::of(&self.url, target)))?;
        fault::hit("stage.file.finished")
    }

    async fn publish(&self, action: &PublishAction) -> Result<()> {
        let PublishAction::CompleteUpload { location, upload_id, parts, etag, bytes, xxh3 } = action else {
            return Err(Error::unexpected(format!("{action} is not an action of a store with multipart uploads")));
        };
        let path = location.resolve()?.path;
        let ids = parts.iter().map(|p| PartId { content_id: p.clone() }).collect();
        let Err(error) = self.uploads.complete_multipart(&path, upload_id, ids).await else { return Ok(()) };
        // "No such upload": it was completed before, or it was aborted or has expired. (The in-memory store has no code
        // for it.) Only the object at the target can tell.
        let unknown = matches!(error, object_store::Error::NotFound { .. }) || self.url.scheme() == "memory";
        if !unknown {
            return Err(Error::from(error).with("location", location));
        }
        let meta = match self.objects.head(&path).await {
            Ok(meta) => meta,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(gone("the upload was aborted or has expired", location)
                    .with("upload", upload_id)
                    .because(error));
            }
            Err(e) => return Err(Error::from(e).with("location", location)),
        };
        let found = meta.e_tag.as_deref().map(|e| e.trim_matches('"').to_owned());
        // Encrypted buckets give ETags that are no MD5s; then the content has to tell.
        let ours = (etag.is_some() && found == *etag)
            || (meta.size == *bytes && content_hash(self.objects.as_ref(), &path).await? == *xxh3);
        if ours {
            return Ok(());
        }
        Err(gone("the upload was aborted or has expired", location)
            .with("upload", upload_id)
            .with("found ETag", found.unwrap_or_default())
            .with("expected ETag", etag.clone().unwrap_or_default())
            .because(error))
    }

    async fn discard(&self, action: &DiscardAction) -> Result<()> {
        if let DiscardAction::Folder { location } = action {
            let path = versions_path(location)?;
            let found = self.objects.list(Some(&path)).map_ok(|meta| meta.location).boxed();
            let deleted = self.objects.delete_stream(found).filter(|deleted| {
                futures::future::ready(!matches!(deleted, Err(object_store::Error::NotFound { .. })))
            });
            let done: object_store::Result<Vec<_>> = deleted.try_collect().await;
            return done.map(|_| ()).map_err(|e| Error::from(e).with("folder", location));
        }
        match action {
            DiscardAction::Upload { location, upload_id } => self.abort(location, upload_id).await,
            DiscardAction::Uploads { location, mark } => {
                let found = self.find_uploads(location, mark.as_deref()).await?;
                let abort = async |upload: DiscardAction| self.discard(&upload).await;
                futures::stream::iter(found).map(abort).buffer_unordered(ABORTS_AT_ONCE).try_collect().await
            }
            _ => Err(Error::unexpected("not a discard action of a store with multipart uploads")),
        }
    }

    async fn find_uploads(&self, location: &Location, mark: Option<&str>) -> Result<Vec<DiscardAction>> {
        let Some(list) = &self.list else { return Ok(Vec::new()) };
        let path = location.resolve()?.path;
        let is_meant = |found: &Path| match mark {
            Some(mark) => found.prefix_matches(&path) && found.filename().is_some_and(|name| name.contains(mark)),
            None => *found == path,
        };
        let open = list.open_uploads(path.as_ref()).await.map_err(|e| e.with("location", location))?;
        let mut found = Vec::new();
        for (path, upload_id) in open.into_iter().filter(|(found, _)| is_meant(found)) {
            // Whoever uploads something knows the id.
            let location = Location::of(&self.url, &path);
            if mark.is_some() || list.is_empty(&path, &upload_id).await.map_err(|e| e.with("location", &location))? {
                found.push(DiscardAction::Upload { location, upload_id });
            }
        }
        Ok(found)
    }
}

impl MultipartStaging {
    async fn abort(&self, location: &Location, upload_id: &MultipartId) -> Result<()> {
        match self.uploads.abort_multipart(&location.resolve()?.path, upload_id).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(_) if self.url.scheme() == "memory" => Ok(()),
            Err(e) => Err(Error::from(e).with("location", location).with("upload", upload_id)),
        }
    }
}

struct Upload {
    uploads: Arc<dyn MultipartStore>,
    path: Path,
    location: Location,
    upload_id: String,
    concurrency: usize,
    part_bytes: usize,
    buffer: BytesMut,
    sent: usize,
    parts: Vec<Option<String>>,
    pending: JoinSet<(usize, object_store::Result<PartId>)>,
    hash: XxHash3_64,
    bytes: u64,
}

impl Upload {
    fn part_size(&self) -> usize {
        self.part_bytes << (self.sent / PARTS_PER_SIZE).min(10)
    }

    async fn wait_for_one(&mut self) -> Result<()> {
        if let Some(done) = self.pending.join_next().await {
            let (index, part) = done.map_err(|e| Error::unexpected("an upload task died").because(e))?;
            let part = part.map_err(|e| Error::from(e).with("location", &self.location))?;
            self.parts[index] = Some(part.content_id);
        }
        Ok(())
    }

    async fn send(&mut self, part: Bytes) -> Result<()> {
        while self.pending.len() >= self.concurrency {
            self.wait_for_one().await?;
        }
        let (uploads, path, id, index) =
            (Arc::clone(&self.uploads), self.path.clone(), self.upload_id.clone(), self.sent);
        self.sent += 1;
        self.parts.push(None);
        self.pending.spawn(async move { (index, uploads.put_part(&path, &id, index, PutPayload::from(part)).await) });
        Ok(())
    }
}

#[async_trait]
impl StagedFile for Upload {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        Write64::write(&mut self.hash, &bytes);
        self.bytes += bytes.len() as u64;
        self.buffer.extend_from_slice(&bytes);
        while self.buffer.len() >= self.part_size() {
            let part = self.buffer.split_to(self.part_size()).freeze();
            self.send(part).await?;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<PublishAction> {
        // An upload needs one part at least, if only an empty one.
        if !self.buffer.is_empty() || self.sent == 0 {
            let rest = self.buffer.split().freeze();
            self.send(rest).await?;
        }
        while !self.pending.is_empty() {
            self.wait_for_one().await?;
        }
        fault::hit("stage.file.finished")?;
        let parts: Vec<String> = self.parts.iter().flatten().cloned().collect();
        Ok(PublishAction::CompleteUpload {
            location: self.location.clone(),
            upload_id: self.upload_id.clone(),
            etag: multipart_etag(&parts),
            parts,
            bytes: self.bytes,
            xxh3: Write64::finish(&self.hash),
        })
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use rstest::rstest;

    use super::*;
    use crate::publish::MemoryJournal;

    #[test]
    fn the_etag_of_a_multipart_object_is_the_md5_of_its_parts_md5s() {
        let (hello, world) = ("\"5d41402abc4b2a76b9719d911017c592\"", "7d793037a0760186574b0282f2f435e7");
        let etag = |parts: &[&str]| multipart_etag(&parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>());
        assert_eq!(etag(&[hello]).as_deref(), Some("62109206880d38a4010a98e11243924a-1"));
        assert_eq!(etag(&[hello, world]).as_deref(), Some("065947336a2f2a95ba8899f3675c3be6-2"));
        assert_eq!(etag(&["not an md5"]), None);
    }

    #[rstest]
    #[case(".000001.2.ab.staged", true)]
    #[case(".000001.nightly.2.ab.staged", false)]
    #[case(".2.ab.staged", false)]
    #[case("000001.2.ab.staged", false)]
    #[case(".000001.2.cd.staged", false)]
    fn staged_files_are_told_apart(#[case] name: &str, #[case] ours: bool) {
        assert_eq!(is_staged(name, ".2.ab.staged"), ours);
    }

    #[rstest]
    #[case(".000001.2.ab.staged", Some("2-ab"))]
    #[case(".000001.nightly.2.ab.staged", Some("nightly.2-ab"))]
    #[case(".x.2.ab.staged", None)]
    #[case(".000001.ab.staged", None)]
    #[case("000001.2.ab.staged", None)]
    #[case(".000001.2.ab.parquet", None)]
    fn staged_files_say_whose_they_are(#[case] name: &str, #[case] version: Option<&str>) {
        assert_eq!(staged_by(name).map(|(_, version)| version).as_deref(), version);
    }

    #[rstest]
    #[case::whole(None, None, None)]
    #[case::cut(Some(""), Some("it has 0 bytes, and 4 were staged"), None)]
    #[case::longer(Some("rows!"), Some("it has 5 bytes, and 4 were staged"), None)]
    #[case::flipped(Some("rowz"), None, Some("it has as many bytes as were staged, but others"))]
    #[tokio::test]
    async fn a_file_that_was_damaged_is_told_before_it_is_published(
        #[case] damage: Option<&str>,
        #[case] by_size: Option<&str>,
        #[case] by_content: Option<&str>,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let ctx = crate::JobContext::builder("job").build().unwrap();
        let root = Location::from(folder.path());
        let files = vec![(root.join("day=1/a"), "rows".into()), (root.join("day=2/b"), "rows".into())];
        let actions = ctx.stage_files(&root, files).await.unwrap();
        let PublishAction::RenameFile { from, .. } = &actions[1] else { panic!("{}", actions[1]) };
        if let Some(content) = damage {
            std::fs::write(from.as_str(), content).unwrap();
        }
        for (check, said) in [(Check::Size, by_size), (Check::Content, by_size.or(by_content))] {
            let verified = crate::publish::verify(ctx.stores(), ctx.publishers(), &actions, check).await;
            match said {
                None => verified.unwrap(),
                Some(said) => {
                    let error = verified.unwrap_err();
                    assert_eq!((error.kind(), error.get("partition")), (ErrorKind::Lost, Some("day=2")));
                    assert!(error.message().ends_with(said), "{error}");
                }
            }
        }
        // What is at its target is as good.
        if damage.is_none() {
            for _ in 0..2 {
                ctx.publish(&actions[1..]).await.unwrap();
                crate::publish::verify(ctx.stores(), ctx.publishers(), &actions, Check::Content).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_was_half_written_goes_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let ctx = crate::JobContext::builder("job").build().unwrap();
        let root = Location::from(folder.path());
        let (store, path) = ctx.stores().open(&root).unwrap();
        tokio::fs::create_dir(folder.path().join("a")).await.unwrap();
        for name in ["a/head.json#1", "x#12", "x#y", "#", "x"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let sweep = async |before: DateTime<Utc>, dry_run: bool| {
            store.staging.sweep_half_written(&path, before, dry_run).await.unwrap()
        };
        let (now, soon) = (Utc::now(), Utc::now() + chrono::TimeDelta::hours(1));
        let both = [root.join("a/head.json#1"), root.join("x#12")];
        assert_eq!(sweep(now - chrono::TimeDelta::hours(1), false).await, []);
        assert_eq!((sweep(soon, true).await, sweep(soon, false).await), (both.to_vec(), both.to_vec()));
        assert_eq!(sweep(soon, false).await, []);
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 4, "what others have named so stays");
        assert_eq!(store.staging.sweep_half_written(&path.clone().join("no"), soon, false).await.unwrap(), []);
    }

    #[rstest]
    #[tokio::test]
    async fn many_parts_become_one_object(
        #[values(0, 1, 999, 1000, 1001, 25_000)] size: usize,
        #[values(7, 1000, 4096)] chunk: usize,
    ) {
        let store = Arc::new(InMemory::new());
        let url = Url::parse("memory:///").unwrap();
        let staging =
            MultipartStaging::new(url, store.clone(), store.clone()).with_part_bytes(1000).with_concurrency(1);
        let (journal, path) = (MemoryJournal::default(), Path::from("out/x"));
        let run = crate::JobContext::builder("job").build().unwrap().run().clone();
        let content: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();

        let mut file = staging.create(&journal, &run, &Path::from("out"), &path).await.unwrap();
        for part in content.chunks(chunk) {
            file.write(Bytes::copy_from_slice(part)).await.unwrap();
        }
        let action = file.finish().await.unwrap();
        assert!(store.head(&path).await.is_err(), "visible before it was published");
        let PublishAction::CompleteUpload { parts, bytes, .. } = &action else { panic!("{action}") };
        assert_eq!((parts.len(), *bytes), (size.div_ceil(1000).max(1), size as u64));
        for _ in 0..2 {
            staging.publish(&action).await.unwrap();
            assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), content);
        }
        for action in journal.noted() {
            staging.discard(&action).await.unwrap();
        }
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap(), content);
        store.put(&path, PutPayload::from_static(b"other")).await.unwrap();
        assert_eq!(staging.publish(&action).await.unwrap_err().kind(), ErrorKind::Lost);
    }

    #[rstest]
    #[case::on_disk(true)]
    #[case::in_memory(false)]
    #[tokio::test]
    async fn only_the_folder_of_a_run_is_removed_as_a_whole(#[case] on_disk: bool) {
        let folder = tempfile::tempdir().unwrap();
        let root = if on_disk { Location::from(folder.path()) } else { Location::from("memory:/lake") };
        let ctx = crate::JobContext::builder("job").build().unwrap();
        let (store, _) = ctx.stores().open(&root).unwrap();
        let put = async |key: &str| {
            store.staging.put_unseen(&root.join(key).resolve().unwrap().path, "x".into()).await.unwrap();
        };
        for key in ["_versions/run-1/k=1/a", "_versions/run-1/b", "_versions/run-12/c", "k=1/d"] {
            put(key).await;
        }
        let discard = async |key: &str| {
            let action = DiscardAction::Folder { location: root.join(key) };
            crate::publish::discard(ctx.stores(), ctx.publishers(), &[action]).await
        };
        discard("_versions/run-1").await.unwrap();
        discard("_versions/run-1").await.unwrap();
        for key in ["k=1", "_versions", ""] {
            assert_eq!(discard(key).await.unwrap_err().kind(), ErrorKind::Unexpected, "{key}");
        }
        let left: Vec<_> = store.objects.list(Some(&root.resolve().unwrap().path)).try_collect().await.unwrap();
        let mut left: Vec<String> = left.iter().map(|m| m.location.filename().unwrap().to_owned()).collect();
        left.sort();
        assert_eq!(left, ["c", "d"]);
    }

    #[tokio::test]
    async fn what_would_fail_after_the_commit_is_found_before() {
        let folder = tempfile::tempdir().unwrap();
        let ctx = crate::JobContext::builder("job").build().unwrap();
        let root = Location::from(folder.path());
        tokio::fs::create_dir(folder.path().join("taken.parquet")).await.unwrap();
        tokio::fs::write(folder.path().join("file"), "").await.unwrap();
        let long = format!("p={}/x.parquet", "v".repeat(300));
        for target in ["taken.parquet", long.as_str(), "file/x.parquet"] {
            let error = ctx.stage_file(&root, &root.join(target)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{target}");
        }
    }
}
