//! Staging on stores with multipart uploads: uploads are completed when they are published.

use std::fmt::{self, Debug};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use md5::{Digest, Md5};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::task::JoinSet;
use twox_hash::XxHash3_64;
use url::Url;

use super::{StagedFile, Staging, Write64, content_hash, gone, versions_path};
use crate::actions::{DiscardAction, Journal, PublishAction};
use crate::{Error, Location, Result, Run, fault};

/// A store that can list open uploads: those that were created, but neither completed nor aborted.
#[async_trait]
pub trait UploadList: Debug + Send + Sync {
    /// The open uploads of objects whose paths start like this, with their ids. None if listing is not permitted.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable) if there is no conclusive answer.
    async fn open_uploads(&self, prefix: &str) -> Result<Vec<(Path, MultipartId)>>;

    /// Whether an open upload has no content yet. `false` if it is no longer open or may not be inspected.
    ///
    /// # Errors
    /// Those of [`UploadList::open_uploads`].
    async fn is_empty(&self, path: &Path, upload: &MultipartId) -> Result<bool>;
}

/// Stages files as uncompleted multipart uploads: for S3 and the in-memory store.
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

/// S3 refuses parts below 5 MiB (except the last); larger ones need fewer requests and more memory.
const PART_BYTES: usize = 8 << 20;
/// S3 accepts 10,000 parts; doubling their size every thousand reaches its largest object (5 TiB) before that.
const PARTS_PER_SIZE: usize = 1000;
/// There are few: those whose ids are unknown.
const ABORT_CONCURRENCY: usize = 16;

impl MultipartStaging {
    /// Staging in the store at `url`; `objects` and `uploads` are two views of it.
    pub fn new(url: Url, objects: Arc<dyn ObjectStore>, uploads: Arc<dyn MultipartStore>) -> Self {
        Self { url, objects, uploads, list: None, concurrency: 4, part_bytes: PART_BYTES }
    }

    /// Sets how to find uploads with unknown ids, whose creation was not answered. Without it they stay until the store
    /// removes them.
    #[must_use]
    pub fn with_upload_list(self, list: Arc<dyn UploadList>) -> Self {
        Self { list: Some(list), ..self }
    }

    /// Sets how many parts of a file are in flight (4 by default).
    #[must_use]
    pub fn with_concurrency(mut self, parts: usize) -> Self {
        self.concurrency = parts.max(1);
        self
    }

    /// Sets the size of a part in bytes (8 MiB by default; S3 requires at least 5 MiB).
    #[must_use]
    pub fn with_part_bytes(mut self, bytes: usize) -> Self {
        self.part_bytes = bytes.max(1);
        self
    }
}

/// The ETag of an S3 object completed from parts with these ETags: the MD5 of their MD5s, and their number. `None` if
/// the parts' ETags are not MD5s.
pub(super) fn multipart_etag(parts: &[String]) -> Option<String> {
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

    async fn put_unseen(&self, files: Vec<(Path, Bytes)>) -> Result<()> {
        let put = files.into_iter().map(async |(target, bytes)| {
            fault::hit("stage.file.before")?;
            let put = self.objects.put(&target, PutPayload::from(bytes)).await;
            put.map_err(|e| Error::from(e).with("target", Location::of(&self.url, &target)))?;
            fault::hit("stage.file.finished")
        });
        // All are awaited even after an error: a request that goes on may end after its folder was discarded.
        futures::future::join_all(put).await.into_iter().collect()
    }

    async fn publish(&self, action: &PublishAction) -> Result<()> {
        let PublishAction::CompleteUpload { location, upload_id, parts, etag, bytes, xxh3 } = action else {
            return Err(Error::unexpected(format!("{action} is not an action of a store with multipart uploads")));
        };
        let path = location.resolve()?.path;
        let ids = parts.iter().map(|p| PartId { content_id: p.clone() }).collect();
        let Err(error) = self.uploads.complete_multipart(&path, upload_id, ids).await else { return Ok(()) };
        // "No such upload": it was completed before, or it was aborted or has expired. (The in-memory store has no code
        // for it.) Only the object at the target decides.
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
        // Encrypted buckets return ETags that are not MD5s; then the content decides.
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
                futures::stream::iter(found).map(abort).buffer_unordered(ABORT_CONCURRENCY).try_collect().await
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
            // A process that uploads content knows the id.
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
            let (index, part) = done.map_err(|e| Error::unexpected("an upload task panicked").because(e))?;
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
        // An upload needs at least one part, even if it is empty.
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

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
