//! S3 and what speaks its protocol.

use std::sync::Arc;

use hardtack_core::staging::MultipartStaging;
use hardtack_core::store::StoreFactory;
use hardtack_core::{Error, Result, Store};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use url::Url;

/// Opens buckets with the credentials and the region that the AWS environment variables, the container or the instance give;
/// `AWS_ENDPOINT_URL` is honoured.
#[derive(Debug)]
pub(crate) struct S3Stores;

impl StoreFactory for S3Stores {
    fn open(&self, url: &Url) -> Result<Store> {
        let bucket = url.host_str().unwrap_or_default();
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        // An endpoint without TLS was chosen by whoever set it (LocalStack, MinIO, moto).
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        if endpoint.is_some_and(|e| e.starts_with("http://")) {
            builder = builder.with_allow_http(true);
        }
        let s3 = builder.build().map_err(|e| {
            Error::usage("S3 is not configured; set AWS_REGION and credentials as for the AWS CLI").because(e)
        })?;
        let s3 = Arc::new(s3);
        let staging = MultipartStaging::new(url.clone(), s3.clone(), s3.clone());
        Ok(Store { url: url.clone(), objects: s3, staging: Arc::new(staging) })
    }
}
