//! S3 and compatible stores.

use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backon::{ExponentialBuilder, Retryable};
use futures::TryStreamExt;
use hardtack_core::location::without_credentials;
use hardtack_core::staging::{MultipartStaging, UploadList};
use hardtack_core::store::StoreFactory;
use hardtack_core::{Error, Result, Store};
use object_store::MultipartId;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpRequest, HttpRequestBody, ReqwestConnector,
};
use object_store::path::Path;
use object_store::signer::Signer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

/// Opens buckets with the credentials and the region from the AWS environment variables, the container or the instance;
/// honours `AWS_ENDPOINT_URL`.
pub(crate) struct S3Stores {
    /// Includes secret keys.
    settings: Vec<(AmazonS3ConfigKey, String)>,
}

impl Debug for S3Stores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Stores")
    }
}

impl S3Stores {
    #[expect(clippy::disallowed_methods, reason = "the credentials of AWS come this way everywhere")]
    pub(crate) fn from_env() -> Result<Self> {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self::new(std::env::vars_os().filter_map(text))
    }

    /// Reads environment variables, and ignores those unrelated to S3.
    ///
    /// An endpoint with a password is refused immediately, whether or not it is used: failed requests are logged with
    /// their URLs.
    fn new<N: AsRef<str>>(variables: impl IntoIterator<Item = (N, String)>) -> Result<Self> {
        let mut settings = Vec::new();
        for (name, value) in variables {
            let name = name.as_ref();
            if !name.starts_with("AWS_") {
                continue;
            }
            if name.starts_with("AWS_ENDPOINT") && matches!(without_credentials(&value), Cow::Owned(_)) {
                return Err(Error::usage(format!(
                    "`{name}` contains a password, which would appear in logs; keys come from `AWS_ACCESS_KEY_ID` and \
                     `AWS_SECRET_ACCESS_KEY`, and an endpoint is a URL such as `https://s3.example.org`"
                )));
            }
            settings.extend(name.to_ascii_lowercase().parse().ok().map(|key| (key, value)));
        }
        Ok(Self { settings })
    }
}

impl StoreFactory for S3Stores {
    fn open(&self, url: &Url) -> Result<Store> {
        let mut builder = AmazonS3Builder::new().with_bucket_name(url.host_str().unwrap_or_default());
        let mut options = ClientOptions::new();
        for (key, value) in &self.settings {
            builder = builder.with_config(*key, value);
            if let AmazonS3ConfigKey::Client(key) = key {
                options = options.with_config(*key, value);
            }
        }
        // An endpoint without TLS is a deliberate choice (LocalStack, MinIO, moto).
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        if endpoint.is_some_and(|e| e.starts_with("http://")) {
            builder = builder.with_allow_http(true);
            options = options.with_allow_http(true);
        }
        // The store's own default.
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| "us-east-1".to_owned());
        let not_configured =
            |e| Error::usage("S3 is not configured; set AWS_REGION and credentials as for the AWS CLI").because(e);
        let s3 = Arc::new(builder.build().map_err(not_configured)?);
        let client = ReqwestConnector::default().connect(&options).map_err(not_configured)?;
        let list = OpenUploads { s3: s3.clone(), client, region };
        let staging = MultipartStaging::new(url.clone(), s3.clone(), s3.clone()).with_upload_list(Arc::new(list));
        Ok(Store { url: url.clone(), objects: s3, staging: Arc::new(staging) })
    }
}

/// `ListMultipartUploads` and `ListParts`, which the store does not provide:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>.
#[derive(Debug)]
struct OpenUploads {
    s3: Arc<AmazonS3>,
    client: HttpClient,
    region: String,
}

/// One page of the response.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    is_truncated: bool,
    #[serde(default)]
    next_key_marker: String,
    #[serde(default)]
    next_upload_id_marker: String,
    #[serde(default, rename = "Upload")]
    uploads: Vec<Upload>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    #[serde(rename = "UploadId")]
    id: MultipartId,
}

/// The response to `ListParts`: <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>.
#[derive(Debug, Deserialize)]
struct Parts {
    #[serde(default, rename = "Part")]
    parts: Vec<serde::de::IgnoredAny>,
}

#[async_trait]
impl UploadList for OpenUploads {
    async fn open_uploads(&self, prefix: &str) -> Result<Vec<(Path, MultipartId)>> {
        let mut open = Vec::new();
        let mut after = (String::new(), String::new());
        loop {
            let Some(page) = self.page(prefix, &after).await? else { return Ok(open) };
            // A key that is not a path is not ours.
            let found = page.uploads.into_iter().filter_map(|upload| Some((Path::parse(&upload.key).ok()?, upload.id)));
            open.extend(found);
            if !page.is_truncated {
                return Ok(open);
            }
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if next.0.is_empty() || next == after {
                return Err(failed().with("answer", "there are more, but not after which"));
            }
            after = next;
        }
    }

    async fn is_empty(&self, path: &Path, upload: &MultipartId) -> Result<bool> {
        // An upload that no longer exists, or cannot be inspected, is left alone.
        let parts: Option<Parts> = self.ask(path, &[("uploadId", upload), ("max-parts", "1")]).await?;
        Ok(parts.is_some_and(|parts| parts.parts.is_empty()))
    }
}

impl OpenUploads {
    /// The page that follows a key and an upload of it.
    async fn page(&self, prefix: &str, (key, upload): &(String, String)) -> Result<Option<Page>> {
        let mut query = vec![("uploads", ""), ("prefix", prefix)];
        if !key.is_empty() {
            query.extend([("key-marker", key.as_str()), ("upload-id-marker", upload)]);
        }
        self.ask(&Path::default(), &query).await
    }

    /// The response, after retries; `None` if the request is forbidden or not supported.
    async fn ask<T: DeserializeOwned>(&self, path: &Path, query: &[(&str, &str)]) -> Result<Option<T>> {
        let again = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_factor(4.0)
            .with_max_times(4)
            .with_jitter();
        let ask = || self.try_ask(path, query);
        ask.retry(again).notify(|e, pause| tracing::debug!("retrying in {pause:?}: {}", e.chain())).await
    }

    async fn try_ask<T: DeserializeOwned>(&self, path: &Path, query: &[(&str, &str)]) -> Result<Option<T>> {
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        // Only the signed URL has the bucket's address: its name may be part of the host name.
        let get = request.method().clone();
        let mut url = self.s3.signed_url(get, path, Duration::from_secs(1)).await?;
        url.query_pairs_mut().clear().extend_pairs(query);
        *request.uri_mut() = url.as_str().parse().map_err(|e| failed().because(e))?;
        let credential = self.s3.credentials().get_credential().await?;
        AwsAuthorizer::new(&credential, "s3", &self.region).authorize(&mut request, None);
        let (status, body) = self.send(request).await.map_err(|e| failed().because(e))?;
        match status {
            200..300 => quick_xml::de::from_str(&body).map(Some).map_err(|e| failed().because(e)),
            // Forbidden, not found, method not allowed, not implemented.
            403..=405 | 501 => {
                tracing::info!(
                    status,
                    "uploads cannot be listed (that needs s3:ListBucketMultipartUploads and s3:ListMultipartUploadParts), \
                     so an upload whose creation got no response stays until the bucket's lifecycle rule for incomplete uploads removes it"
                );
                Ok(None)
            }
            _ => Err(failed().with("status", status).with("answer", body)),
        }
    }

    /// The status and the body of the response.
    async fn send(&self, request: HttpRequest) -> Result<(u16, String), HttpError> {
        let answer = self.client.execute(request).await?;
        let status = answer.status().as_u16();
        let parts: Vec<_> = answer.into_body().bytes_stream().try_collect().await?;
        Ok((status, String::from_utf8_lossy(&parts.concat()).into_owned()))
    }
}

fn failed() -> Error {
    Error::unavailable("open uploads could not be listed")
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use hardtack_core::actions::{DiscardAction, Journal, MemoryJournal};
    use hardtack_core::{JobContext, Location, Run, Sink};
    use hardtack_sinks::{CsvFile, ParquetDataset};
    use hardtack_state::{Begun, CommitRecord, Ledger, ObjectState};
    use hardtack_test_support::containers::{Bucket, Fault, Proxy, S3, s3, s3_of_moto};
    use object_store::multipart::MultipartStore;
    use rstest::rstest;

    use super::*;
    use crate::recover::{discard_attempt, sweep};

    /// A run that accesses S3 as jobs do.
    fn context(s3: &S3, run: &str, journal: Arc<dyn Journal>) -> JobContext {
        let builder = JobContext::builder("job").run_id(run.parse().unwrap()).journal(journal);
        builder.store_factory("s3", Arc::new(S3Stores::new(s3.env()).unwrap())).build().unwrap()
    }

    /// Begins uploads like a run that is killed before it has recorded them.
    async fn begin(bucket: &Bucket, keys: impl IntoIterator<Item = &str>) {
        futures::stream::iter(keys)
            .map(async |key| bucket.store().create_multipart(&Path::parse(key).unwrap()).await.unwrap())
            .buffer_unordered(16)
            .collect::<Vec<_>>()
            .await;
    }

    #[rstest]
    #[case("AWS_ENDPOINT_URL")]
    #[case("AWS_ENDPOINT_URL_S3")]
    #[case("AWS_ENDPOINT")]
    fn an_endpoint_with_a_password_is_refused_and_not_printed(#[case] name: &str) {
        let error = S3Stores::new([(name, "https://user:secret@s3.example.org".to_owned())]).unwrap_err();
        assert_eq!(error.kind(), hardtack_core::ErrorKind::Usage);
        let chain = error.chain();
        assert!(chain.contains(name) && !chain.contains("secret") && !chain.contains("user"), "{chain}");
        S3Stores::new([(name, "https://s3.example.org".to_owned())]).unwrap();
    }

    #[rstest]
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
    async fn uploads_are_found_whatever_their_names(#[values(s3, s3_of_moto)] service: fn() -> S3) {
        let bucket = service().bucket();
        let ctx = context(bucket.s3(), "run", Arc::new(MemoryJournal::default()));
        let folder = "a b/ü=%2F+&?";
        let beside = format!("{folder}2/x-mark.parquet");
        let other = format!("{folder}/other.parquet");
        let found = [format!("{folder}/k=ö +%20/x-mark.parquet"), format!("{folder}/x-mark.parquet")];
        begin(&bucket, [&beside, &other, "x-mark.parquet", &found[0], &found[1]]).await;
        let root = Location::of(&bucket.location().resolve().unwrap().store, &Path::parse(folder).unwrap());
        let discard = async |location: Location, mark: Option<&str>| {
            let action = DiscardAction::Uploads { location, mark: mark.map(ToOwned::to_owned) };
            hardtack_core::publish::discard(ctx.stores(), ctx.publishers(), &[action]).await.unwrap();
            let mut left = bucket.open_uploads();
            left.sort();
            left
        };
        assert_eq!(discard(root.clone(), Some("mark")).await, [&other, &beside, "x-mark.parquet"]);
        assert_eq!(discard(root.join("other.parquet"), None).await, [&beside, "x-mark.parquet"]);
        assert_eq!(discard(bucket.location(), Some("mark")).await, [""; 0]);
    }

    /// A foreign upload under a name that a job also uses is not mistaken for the job's.
    #[rstest]
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
    async fn an_upload_with_content_stays(#[values(s3, s3_of_moto)] service: fn() -> S3) {
        let bucket = service().bucket();
        let (ctx, s3) = (context(bucket.s3(), "run", Arc::new(MemoryJournal::default())), bucket.store());
        let key = Path::parse("ü b/rows.csv").unwrap();
        let id = s3.create_multipart(&key).await.unwrap();
        let part = s3.put_part(&key, &id, 0, "a".into()).await.unwrap();
        begin(&bucket, [key.as_ref()]).await;
        let action = DiscardAction::Uploads { location: bucket.at(key.as_ref()), mark: None };
        hardtack_core::publish::discard(ctx.stores(), ctx.publishers(), &[action]).await.unwrap();
        assert_eq!(bucket.open_uploads(), [key.as_ref()]);
        s3.complete_multipart(&key, &id, vec![part]).await.unwrap();
        assert_eq!(bucket.files(""), [key.as_ref()]);
    }

    /// A response has at most a thousand entries.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
    async fn all_pages_are_read() {
        let bucket = s3().bucket();
        let ctx = context(bucket.s3(), "run", Arc::new(MemoryJournal::default()));
        let keys: Vec<_> = (0..1002).map(|i| format!("out/x{i}-mark")).collect();
        begin(&bucket, keys.iter().map(String::as_str)).await;
        let (store, _) = ctx.stores().open(&bucket.location()).unwrap();
        let found = store.staging.find_uploads(&bucket.at("out"), Some("mark")).await.unwrap();
        assert_eq!(found.len(), 1002);
    }

    /// The response to the request that begins an upload is lost, the store retries, and there are two uploads.
    #[rstest]
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
    async fn an_upload_that_nobody_knows_is_discarded(
        #[values(s3, s3_of_moto)] service: fn() -> S3,
        #[values("rows.csv", "table")] target: &str,
    ) {
        let bucket = service().bucket();
        let proxy = Proxy::to(bucket.s3().endpoint());
        let journal = Arc::new(MemoryJournal::default());
        let ctx = context(&bucket.s3().through(&proxy), "run", journal.clone());
        let sink: Box<dyn Sink> = match target {
            "table" => Box::new(ParquetDataset::new("out", bucket.at(target))),
            file => Box::new(CsvFile::new("out", bucket.at(file))),
        };
        proxy.inject(Fault::CutAnswer, r"^POST .*\?uploads", 1);
        let staged = sink.stage(&ctx.staging("out"), ctx.session().sql("select 1 as a").await.unwrap()).await.unwrap();
        assert_eq!((staged.publish.len(), bucket.open_uploads().len()), (1, 2));
        ctx.publish(&staged.publish).await.unwrap();
        hardtack_core::publish::discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
        assert_eq!((bucket.files("").len(), bucket.open_uploads()), (1, vec![]));
    }

    /// Temporary refusals are retried. A role that may not list uploads only leaves uploads with unknown ids behind.
    #[rstest]
    #[case::slow_down(Fault::slow_down(), 3, 0)]
    #[case::forbidden(Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>".to_owned()), 1, 1)]
    #[case::unknown(Fault::Answer(501, "<Error><Code>NotImplemented</Code></Error>".to_owned()), 1, 1)]
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
    async fn a_list_that_is_refused(#[case] fault: Fault, #[case] times: usize, #[case] left: usize) {
        let bucket = s3().bucket();
        let proxy = Proxy::to(bucket.s3().endpoint());
        let journal = Arc::new(MemoryJournal::default());
        let ctx = context(&bucket.s3().through(&proxy), "run", journal.clone());
        let rows = ctx.session().sql("select 1 as a").await.unwrap();
        CsvFile::new("out", bucket.at("rows.csv")).stage(&ctx.staging("out"), rows).await.unwrap();
        begin(&bucket, ["rows.csv"]).await;
        proxy.inject(fault, r"^GET .*\?uploads", times);
        hardtack_core::publish::discard(ctx.stores(), ctx.publishers(), &journal.noted()).await.unwrap();
        assert_eq!((proxy.injected(), bucket.open_uploads().len()), (times, left));
    }

    /// Two runs write the same file. An upload that the aborted run may have begun may be the other's.
    #[tokio::test(flavor = "multi_thread")]
    #[ignore = "needs Docker: cargo test --workspace --tests -- --ignored"]
    async fn an_upload_that_may_be_another_runs_stays() {
        let bucket = s3().bucket();
        let stores = JobContext::builder("job").build().unwrap();
        let state = Arc::new(ObjectState::open(stores.stores(), &"memory:/state".into()).unwrap());
        let ledger = Ledger::new(state, "job", Run::WHOLE_JOB);
        let attempt = async |id: &str| {
            let run = context(bucket.s3(), id, Arc::new(MemoryJournal::default())).run().clone();
            let Begun::Attempt(attempt) = ledger.begin(&run).await.unwrap() else { panic!("it does not begin") };
            (context(bucket.s3(), id, attempt.journal.clone()), attempt)
        };
        let file = bucket.at("rows.csv");
        let stage = async |ctx: &JobContext| {
            let rows = ctx.session().sql("select 1 as a").await.unwrap();
            CsvFile::new("out", file.clone()).stage(&ctx.staging("out"), rows).await.unwrap().publish
        };
        let (gives_up, first) = attempt("first").await;
        stage(&gives_up).await;
        begin(&bucket, ["rows.csv"]).await;
        let (commits, _second) = attempt("second").await;
        let publish = stage(&commits).await;
        assert_eq!(bucket.open_uploads().len(), 3);

        discard_attempt(&gives_up, &ledger, &first.journal, &[]).await;
        assert_eq!(bucket.open_uploads().len(), 2, "its own goes, what may be the other's stays");

        let run = commits.run().clone();
        let (id, committed_at) = (run.id.clone(), run.started_at);
        let publish = [("out".to_owned(), publish)].into();
        let commit = CommitRecord { publish, ..CommitRecord::new(1, run, committed_at) };
        ledger.commit(&commit).await.unwrap();
        sweep(&context(bucket.s3(), "third", Arc::new(MemoryJournal::default())), &ledger).await.unwrap();
        assert_eq!(bucket.open_uploads().len(), 2, "nor while what was committed is not published");
        commits.publish(&commit.actions()).await.unwrap();
        ledger.mark_published(1, &id).await.unwrap();
        sweep(&commits, &ledger).await.unwrap();
        assert_eq!((bucket.files(""), bucket.open_uploads()), (vec!["rows.csv".to_owned()], vec![]));
        // A run that has lost may be alive, and stays on record for a while.
        let [lost] = &*ledger.attempts().await.unwrap() else { panic!("only who has committed is forgotten") };
        assert!(lost.run == first.record.run && lost.swept.is_some(), "{lost:?}");
    }
}
