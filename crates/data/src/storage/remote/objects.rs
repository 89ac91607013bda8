//! Object stores: S3, Google's and Azure's.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error, GetOptions, GetRange, ObjectStore, RetryConfig,
};
use url::Url;

use super::{Answer, Failure, profile};

/// A bucket of an object store. What it needs to know comes from the environment: `AWS_*` with `AWS_ENDPOINT_URL` and `AWS_PROFILE`,
/// the roles of instances and containers, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_*`. Requests that fail are repeated by
/// `retry`.
///
/// # Errors
/// In words, when something is missing.
pub(in crate::storage) fn bucket(
    url: &Url,
    retry: RetryConfig,
) -> Result<Arc<dyn ObjectStore>, String> {
    let address = url.as_str();
    let store: Result<Arc<dyn ObjectStore>, Error> = match url.scheme() {
        "gs" => GoogleCloudStorageBuilder::from_env()
            .with_url(address)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        "az" | "abfs" | "abfss" => MicrosoftAzureBuilder::from_env()
            .with_url(address)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        _ => amazon(address, retry).map(|store| Arc::new(store) as _),
    };
    store.map_err(|error| error.to_string())
}

fn amazon(address: &str, retry: RetryConfig) -> Result<object_store::aws::AmazonS3, Error> {
    let mut builder = profile::apply(AmazonS3Builder::from_env())
        .with_url(address)
        .with_retry(retry);
    // An endpoint that the user names without TLS is meant so.
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let endpoint = endpoint.iter().find_map(|name| std::env::var(name).ok());
    if let Some(endpoint) = endpoint {
        if endpoint.starts_with("http://") {
            builder = builder.with_client_options(ClientOptions::new().with_allow_http(true));
        }
        builder = builder.with_endpoint(endpoint);
    }
    builder.build()
}

/// Buckets that were opened already, by scheme and host.
static BUCKETS: Mutex<Option<HashMap<String, Arc<dyn ObjectStore>>>> = Mutex::new(None);

fn known_bucket(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    let name = format!("{}://{}", url.scheme(), url.authority());
    let mut buckets = BUCKETS.lock().unwrap_or_else(PoisonError::into_inner);
    let buckets = buckets.get_or_insert_default();
    if let Some(bucket) = buckets.get(&name) {
        return Ok(Arc::clone(bucket));
    }
    // Who reads repeats what fails.
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: 0,
        retry_timeout: Duration::from_secs(60),
    };
    let bucket = bucket(url, retry)?;
    buckets.insert(name, Arc::clone(&bucket));
    Ok(bucket)
}

pub(super) async fn ask(url: &Url, from: u64, until: Option<u64>) -> Result<Answer, Failure> {
    let invalid = |reason: String| Failure::last(io::ErrorKind::InvalidInput, reason);
    let bucket = known_bucket(url).map_err(invalid)?;
    let key = Path::from_url_path(url.path()).map_err(|error| invalid(error.to_string()))?;
    let range = match (from, until) {
        (0, None) => None,
        (_, None) => Some(GetRange::Offset(from)),
        (_, Some(until)) => Some(GetRange::Bounded(from..until)),
    };
    let options = GetOptions {
        range,
        ..GetOptions::default()
    };
    let answer = bucket.get_opts(&key, options).await.map_err(failed)?;
    let meta = &answer.meta;
    Ok(Answer {
        start: answer.range.start,
        total: Some(meta.size),
        tag: Some(match &meta.e_tag {
            Some(tag) => tag.clone(),
            None => meta.last_modified.to_rfc3339(),
        }),
        has_ranges: true,
        pieces: answer
            .into_stream()
            .map(|piece| piece.map_err(failed))
            .boxed(),
    })
}

fn failed(error: Error) -> Failure {
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            io::ErrorKind::InvalidInput
        }
        _ => return Failure::transient(error),
    };
    Failure::last(kind, error)
}
