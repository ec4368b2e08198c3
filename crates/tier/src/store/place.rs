//! Where a store is: its URL and options become a client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};

use super::StoreError;
use super::directory::Directory;

/// What the client tries again by itself is a hiccup; an outage is for the breaker and the worker.
const RETRIES: usize = 2;
const RETRY_TIME: Duration = Duration::from_secs(20);
const CONNECT_TIME: &str = "5s";
/// A request that takes longer has failed.
const REQUEST_TIME: &str = "60s";

/// A client of a place for objects, and the prefix of all paths there.
pub struct Place {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) parts: Option<Arc<dyn MultipartStore>>,
    pub(super) prefix: Path,
    /// Where it is, if it is a directory.
    pub(super) directory: Option<Directory>,
}

impl Place {
    /// The place at `url`, for the store called `store`.
    ///
    /// - `s3://bucket/prefix`: S3, or what speaks like it at `options["endpoint"]`
    /// - `file:///directory`: a local directory, created if it is not there; every object is fsynced
    /// - `memory://`: this process's memory, for tests
    /// - `az://container/prefix` and `gs://bucket/prefix`: Azure and Google Cloud. Nobody has proven these yet.
    ///
    /// `options` are those of the object_store crate (`region`, `endpoint`, `allow_http`, …). What they do not name comes from the
    /// environment (`AWS_ACCESS_KEY_ID`, `AWS_REGION` and so on): credentials first of all.
    ///
    /// # Errors
    /// When the URL or an option is not understood, or the directory cannot be made.
    pub fn open(store: &str, url: &str, options: &BTreeMap<String, String>) -> Result<Self, StoreError> {
        let wrong = |reason: String| StoreError::Configuration { store: store.to_owned(), reason };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong(unknown_url(url)))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let failed = |error: object_store::Error| wrong(format!("{url}: {error}"));
        if matches!(scheme, "s3" | "az" | "gs") {
            if bucket.is_empty() {
                return Err(wrong(format!("{url} names no bucket: write {scheme}://bucket/prefix")));
            }
            // The HTTP client takes the process's provider; where there is one already, it is the same.
            drop(rustls::crypto::ring::default_provider().install_default());
        }
        match scheme {
            "s3" => {
                let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retry());
                for (key, value) in client_defaults() {
                    builder = builder.with_config(AmazonS3ConfigKey::Client(key), value);
                }
                for (key, value) in options {
                    builder = builder.with_config(parse_option(store, key)?, value);
                }
                Ok(Self::remote(builder.build().map_err(failed)?, prefix))
            }
            "az" => {
                let mut builder =
                    MicrosoftAzureBuilder::from_env().with_container_name(bucket).with_retry(retry());
                for (key, value) in client_defaults() {
                    builder = builder.with_config(AzureConfigKey::Client(key), value);
                }
                for (key, value) in options {
                    builder = builder.with_config(parse_option(store, key)?, value);
                }
                Ok(Self::remote(builder.build().map_err(failed)?, prefix))
            }
            "gs" => {
                let mut builder =
                    GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket).with_retry(retry());
                for (key, value) in client_defaults() {
                    builder = builder.with_config(GoogleConfigKey::Client(key), value);
                }
                for (key, value) in options {
                    builder = builder.with_config(parse_option(store, key)?, value);
                }
                Ok(Self::remote(builder.build().map_err(failed)?, prefix))
            }
            "file" if rest.starts_with('/') => {
                let directory = Directory::open(PathBuf::from(rest))
                    .map_err(|error| wrong(format!("cannot open or create {rest}: {error}")))?;
                let objects = LocalFileSystem::new_with_prefix(rest).map_err(failed)?.with_fsync(true);
                let (objects, prefix) = (Arc::new(objects), Path::default());
                Ok(Self { objects, parts: None, prefix, directory: Some(directory) })
            }
            "memory" => Ok(Self::remote(InMemory::new(), rest)),
            _ => Err(wrong(unknown_url(url))),
        }
    }

    /// A place with objects and uploads in parts.
    pub fn remote(client: impl ObjectStore + MultipartStore, prefix: &str) -> Self {
        let client = Arc::new(client);
        Self {
            objects: Arc::clone(&client) as Arc<dyn ObjectStore>,
            parts: Some(client),
            prefix: Path::from(prefix),
            directory: None,
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({}, {:?})", self.objects, self.prefix.as_ref())
    }
}

fn unknown_url(url: &str) -> String {
    format!("{url} is no place for objects: write s3://bucket/prefix or file:///directory")
}

fn parse_option<K: std::str::FromStr<Err = object_store::Error>>(
    store: &str,
    key: &str,
) -> Result<K, StoreError> {
    key.parse().map_err(|_| StoreError::Configuration {
        store: store.to_owned(),
        reason: format!("unknown option {key}: known are, for instance, endpoint, region and allow_http"),
    })
}

fn retry() -> RetryConfig {
    RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_TIME, ..RetryConfig::default() }
}

/// What the client does unless the options say otherwise.
fn client_defaults() -> [(ClientConfigKey, &'static str); 2] {
    [(ClientConfigKey::ConnectTimeout, CONNECT_TIME), (ClientConfigKey::Timeout, REQUEST_TIME)]
}
