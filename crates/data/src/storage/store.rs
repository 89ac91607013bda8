//! A folder in an object store, or any folder as one, by its path or as `file:///PATH`, in plain calls that wait.
//!
//! Object stores need the feature `cloud`; keys, region and endpoint come from the environment, as for reading.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::StreamExt;
use object_store::local::LocalFileSystem;
use object_store::path::{Path as Key, PathPart};
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use openclip_model::files::atomic::AtomicFile;
use tokio::runtime::Runtime;
use url::Url;

/// Pieces of a large file, several of which are under way at a time.
const PIECE: usize = 8 << 20;
const PIECES_UNDER_WAY: usize = 4;

/// What an object store did not do.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {url}: {reason}")]
pub struct RemoteError {
    /// Such as `write`.
    pub action: &'static str,
    /// The object or folder.
    pub url: String,
    /// Errors of one kind have one reason, wherever they occur.
    pub kind: &'static str,
    /// The store's answer, on one line.
    pub reason: String,
}

/// A folder in an object store.
pub struct Store {
    runtime: Runtime,
    objects: Arc<dyn ObjectStore>,
    root: Key,
    url: String,
}

impl Store {
    /// The folder at `url`, which may also be a plain path. Nothing is asked of the store yet.
    ///
    /// # Errors
    /// When the address cannot be one, its kind of store was not compiled in, or the environment lacks what it needs.
    pub fn open(url: &str) -> Result<Self, RemoteError> {
        let failed = |kind, reason: String| RemoteError {
            action: "use",
            url: url.to_owned(),
            kind,
            reason,
        };
        let invalid = |reason: String| failed("address", reason);
        let parsed = address(url).map_err(invalid)?;
        let objects: Arc<dyn ObjectStore> = match parsed.scheme() {
            "file" => Arc::new(LocalFileSystem::new()),
            "s3" | "s3a" | "gs" | "az" | "abfs" | "abfss" => cloud(&parsed).map_err(invalid)?,
            _ => return Err(invalid(EXPECTED.into())),
        };
        let root = Key::from_url_path(parsed.path()).map_err(|error| invalid(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        Ok(Self {
            runtime: runtime.map_err(|error| failed("runtime", error.to_string()))?,
            objects,
            root,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// The address that it was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder `name` in this one.
    pub fn folder(mut self, name: &str) -> Self {
        self.root = self.key(name);
        self.url = format!("{}/{name}", self.url);
        self
    }

    /// The folder's path, where it is one of this machine.
    pub fn local_path(&self) -> Option<PathBuf> {
        let is_local = address(&self.url).is_ok_and(|url| url.scheme() == "file");
        is_local.then(|| Path::new("/").join(self.root.as_ref()))
    }

    fn key(&self, name: &str) -> Key {
        let parts = name.split('/').filter(|part| !part.is_empty());
        parts.fold(self.root.clone(), |key, part| {
            key.join(PathPart::parse(part).unwrap_or_else(|_| part.into()))
        })
    }

    fn error(
        &self,
        action: &'static str,
        name: &str,
    ) -> impl Fn(object_store::Error) -> RemoteError {
        let url = format!("{}/{name}", self.url);
        move |error| {
            let mut reason = error
                .to_string()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            if let Some((end, _)) = reason.char_indices().nth(400) {
                reason.truncate(end);
            }
            RemoteError {
                action,
                url: url.clone(),
                kind: kind(&error),
                reason,
            }
        }
    }

    fn local_error(
        &self,
        action: &'static str,
        name: &str,
    ) -> impl Fn(std::io::Error) -> RemoteError {
        let url = format!("{}/{name}", self.url);
        move |error| RemoteError {
            action,
            url: url.clone(),
            kind: match error.kind() {
                std::io::ErrorKind::NotFound => "gone",
                _ => "local",
            },
            reason: error.to_string(),
        }
    }

    /// Names of all objects below `folder`, relative to this store.
    pub fn list(&self, folder: &str) -> Result<Vec<String>, RemoteError> {
        let prefix = self.key(folder);
        let found = self.runtime.block_on(async {
            let mut found = Vec::new();
            let mut objects = self.objects.list(Some(&prefix));
            while let Some(object) = objects.next().await {
                found.push(object?.location);
            }
            Ok(found)
        });
        let found: Vec<Key> = found.map_err(self.error("list", folder))?;
        let root = format!("{}/", self.root);
        let names = found.iter().filter_map(|key| {
            let key = key.as_ref();
            key.strip_prefix(&root)
                .or(Some(key).filter(|_| root == "/"))
        });
        Ok(names.map(str::to_owned).collect())
    }

    /// The bytes of a small object; nothing where there is none.
    pub fn get(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let key = self.key(name);
        let bytes = self
            .runtime
            .block_on(async { self.objects.get(&key).await?.bytes().await });
        match bytes {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.error("read", name)(error)),
        }
    }

    /// Copies an object to a file.
    pub fn download(&self, name: &str, to: &Path) -> Result<(), RemoteError> {
        let local = self.local_error("copy", name);
        let mut file = AtomicFile::create(to).map_err(&local)?;
        let remote = self.error("read", name);
        self.runtime.block_on(async {
            let mut pieces = self
                .objects
                .get(&self.key(name))
                .await
                .map_err(&remote)?
                .into_stream();
            while let Some(piece) = pieces.next().await {
                file.write_all(&piece.map_err(&remote)?).map_err(&local)?;
            }
            file.finish().map_err(&local)
        })
    }

    /// Writes a small object.
    pub fn put(&self, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let key = self.key(name);
        let put = self.objects.put(&key, bytes.into());
        self.runtime
            .block_on(put)
            .map(|_| ())
            .map_err(self.error("write", name))
    }

    /// Copies a file to an object.
    pub fn upload(&self, from: &Path, name: &str) -> Result<(), RemoteError> {
        let local = self.local_error("copy", name);
        let mut file = File::open(from).map_err(&local)?;
        let mut piece = vec![0; PIECE];
        let first = fill(&mut file, &mut piece).map_err(&local)?;
        if first < PIECE {
            piece.truncate(first);
            return self.put(name, piece);
        }
        let remote = self.error("write", name);
        self.runtime.block_on(async {
            let upload = self
                .objects
                .put_multipart(&self.key(name))
                .await
                .map_err(&remote)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PIECE);
            let mut length = first;
            while length > 0 {
                upload.write(&piece[..length]);
                let sent = upload
                    .wait_for_capacity(PIECES_UNDER_WAY)
                    .await
                    .map_err(&remote);
                let read = sent.and_then(|()| fill(&mut file, &mut piece).map_err(&local));
                length = match read {
                    Ok(length) => length,
                    Err(error) => {
                        // What was sent is of no use; that it stays is no reason to say more.
                        let _ = upload.abort().await;
                        return Err(error);
                    }
                };
            }
            upload.finish().await.map(|_| ()).map_err(&remote)
        })
    }

    /// Removes an object that may not be there.
    pub fn delete(&self, name: &str) -> Result<(), RemoteError> {
        match self.runtime.block_on(self.objects.delete(&self.key(name))) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("remove", name)(error)),
        }
    }
}

/// What else than an address of a store names a place. `bucket/path` may have lost its `s3://`.
const EXPECTED: &str = "expected a folder that begins with / or ./, or an address that begins with s3://, gs://, az:// or file:///";

/// `text` as an address: of a store, or of a path of this machine.
fn address(text: &str) -> Result<Url, String> {
    if !text.contains("://") {
        let first = text.split('/').next().unwrap_or_default();
        if !matches!(first, "" | "." | "..") || text.is_empty() {
            return Err(EXPECTED.into());
        }
        let path = std::path::absolute(text).map_err(|error| error.to_string())?;
        return Url::from_file_path(path).map_err(|()| "not a path".to_owned());
    }
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.host_str() {
        Some(host) if url.scheme() == "file" => Err(format!(
            "{host} would be another machine; expected file:///PATH or a plain path"
        )),
        _ => Ok(url),
    }
}

/// Reads until `buffer` is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..])? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}

fn kind(error: &object_store::Error) -> &'static str {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => "not found",
        Error::PermissionDenied { .. } => "permission",
        Error::Unauthenticated { .. } => "identity",
        Error::NotSupported { .. } | Error::NotImplemented { .. } => "not supported",
        _ => "answer",
    }
}

#[cfg(feature = "cloud")]
fn cloud(url: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    use std::time::Duration;

    use object_store::{BackoffConfig, RetryConfig};

    // Long pauses are what the interval between two copies is for.
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(60),
    };
    super::remote::objects::bucket(url, retry, "30s")
}

#[cfg(not(feature = "cloud"))]
fn cloud(_: &Url) -> Result<Arc<dyn ObjectStore>, String> {
    Err("this program was built without object stores; build it with `--features cloud`".into())
}
