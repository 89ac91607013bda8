//! Object stores: S3, Google's and Azure's.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, Error, GetOptions, GetRange, ObjectStore, RetryConfig,
};
use url::Url;

use super::answer::{
    Answer, Failure, Known, has_answered, host, install_cryptography, with_causes,
};
use super::profile;

/// Settings of the environment and of profile files, as users of the stores' own tools have them, and what is needed at least.
const NEEDED: [(&str, &str); 3] = [
    (
        "gs",
        "GOOGLE_APPLICATION_CREDENTIALS, or GOOGLE_SKIP_SIGNATURE=true for a public bucket",
    ),
    (
        "az",
        "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or AZURE_SKIP_SIGNATURE=true for a \
         public container",
    ),
    (
        "s3",
        "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, AWS_PROFILE with keys in ~/.aws/credentials, or AWS_SKIP_SIGNATURE=true for \
         a public bucket",
    ),
];

/// Parts of addresses where machines of a cloud ask for their role.
const ROLES: [&str; 5] = [
    "169.254.169.254",
    "169.254.170.2",
    "metadata.google.internal",
    "/latest/api/token",
    "/computeMetadata/",
];

/// A bucket of an object store. What it needs to know comes from the environment: `AWS_*` with `AWS_ENDPOINT_URL` and `AWS_PROFILE`,
/// the roles of instances and containers, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_*`. Requests that fail are repeated by
/// `retry`; one takes at most `timeout`, such as `30s`.
///
/// # Errors
/// In words, when something is missing.
pub(in crate::storage) fn bucket(
    url: &Url,
    retry: RetryConfig,
    timeout: &str,
) -> Result<Arc<dyn ObjectStore>, String> {
    install_cryptography();
    let address = url.as_str();
    let key = ClientConfigKey::Timeout;
    let store: Result<Arc<dyn ObjectStore>, Error> = match scheme(url) {
        "gs" => GoogleCloudStorageBuilder::from_env()
            .with_url(address)
            .with_config(GoogleConfigKey::Client(key), timeout)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        "az" => MicrosoftAzureBuilder::from_env()
            .with_url(address)
            .with_config(AzureConfigKey::Client(key), timeout)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
        _ => amazon()?
            .with_url(address)
            .with_config(AmazonS3ConfigKey::Client(key), timeout)
            .with_retry(retry)
            .build()
            .map(|store| Arc::new(store) as _),
    };
    store.map_err(|error| format!("{error}; needed: {}", needed(url)))
}

/// The store's first name.
fn scheme(url: &Url) -> &'static str {
    match url.scheme() {
        "gs" => "gs",
        "az" | "abfs" | "abfss" => "az",
        _ => "s3",
    }
}

fn needed(url: &Url) -> &'static str {
    let needed = NEEDED.iter().find(|(name, _)| *name == scheme(url));
    needed.map_or("", |(_, needed)| needed)
}

fn amazon() -> Result<AmazonS3Builder, String> {
    let mut builder = profile::apply(AmazonS3Builder::from_env())?;
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
    let endpoint = endpoint.iter().find_map(|name| profile::variable(name));
    let endpoint = endpoint.or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    if let Some(endpoint) = endpoint {
        // An endpoint that the user names without TLS is meant so.
        if endpoint.starts_with("http://") {
            builder = builder.with_allow_http(true);
        }
        builder = builder.with_endpoint(endpoint);
    }
    Ok(builder)
}

/// Buckets that were opened already, by scheme and host.
static BUCKETS: Mutex<Option<HashMap<String, Arc<dyn ObjectStore>>>> = Mutex::new(None);

fn known_bucket(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    let name = host(url);
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
    // A shard takes as long as training takes to use it; silence is the reader's affair.
    let bucket = bucket(url, retry, "365days")?;
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
    let answer = bucket.get_opts(&key, options).await;
    let answer = answer.map_err(|error| failed(url, error))?;
    let meta = &answer.meta;
    Ok(Answer {
        start: answer.range.start,
        known: Known {
            total: Some(meta.size),
            tag: Some(match &meta.e_tag {
                Some(tag) => tag.clone(),
                None => meta.last_modified.to_rfc3339(),
            }),
            has_ranges: true,
        },
        pieces: answer
            .into_stream()
            .map(|piece| piece.map_err(|error| Failure::transient(with_causes(&error))))
            .boxed(),
    })
}

fn failed(url: &Url, error: Error) -> Failure {
    let text = with_causes(&error);
    // A machine without a role: others than this cloud's have none, and keys that are missing do not come by waiting.
    if !has_answered(url) && ROLES.iter().any(|part| text.contains(part)) {
        let reason = format!(
            "no credentials, and no role of this machine; needed: {}",
            needed(url)
        );
        return Failure::last(io::ErrorKind::PermissionDenied, reason);
    }
    let kind = match &error {
        Error::NotFound { .. } => io::ErrorKind::NotFound,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        Error::InvalidPath { .. } | Error::NotSupported { .. } | Error::NotImplemented { .. } => {
            io::ErrorKind::InvalidInput
        }
        _ if is_final(&text) => io::ErrorKind::InvalidInput,
        _ => return Failure::transient(text),
    };
    Failure::last(kind, text)
}

/// Whether the store would say the same again. Its client keeps the status to itself but for the words.
fn is_final(text: &str) -> bool {
    let status = text.split_once("status code: ");
    let status = status.and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    let asks_for_patience = matches!(status, Some(408 | 425 | 429));
    let is_clients = status.is_some_and(|status| (400..500).contains(&status));
    is_clients && !asks_for_patience || text.contains("redirect without LOCATION")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_would_say_again() {
        for (text, expected) in [
            (
                "Server returned non-2xx status code: 400 Bad Request: <Code>",
                true,
            ),
            ("status code: 403 Forbidden", true),
            ("status code: 429 Too Many Requests", false),
            (
                "status code: 503 Service Unavailable: <Code>SlowDown",
                false,
            ),
            ("status code: ", false),
            ("connection reset", false),
            ("Received redirect without LOCATION, this normally", true),
        ] {
            assert_eq!(is_final(text), expected, "{text}");
        }
    }
}
