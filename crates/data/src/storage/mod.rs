//! Where data lie, and how their bytes are read: files, commands, web servers, object stores, the Hugging Face hub.
//!
//! * [`Place`] – one file anywhere, by the name that a user gives it
//! * `file`, `pipe`, `remote` – how each is opened as a [`Stream`] of bytes
//! * [`store`] – a folder in an object store, which can also be written
//! * `mask` – addresses and commands without their secrets, for messages
//!
//! What is far away is read ahead by tasks of one small runtime. A read that fails is repeated from the byte that was reached,
//! after pauses that double, until nothing came for as long as [`Patience`] has it. What a server refuses (403, 404 …) is not asked
//! for again. Object stores and web servers are behind the feature `cloud`.
//!
//! | variable | what it does |
//! |---|---|
//! | `OPENCLIP_DATA_TIMEOUT` | seconds for which a command, server or store may give nothing (60); a request is repeated after half of it |
//! | `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` | keys for `s3://` |
//! | `AWS_PROFILE`, `AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE` | keys, `region` and `endpoint_url` of a profile, for what the environment does not say (`default` in `~/.aws/credentials` and `~/.aws/config`) |
//! | `AWS_REGION` | region (us-east-1) |
//! | `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_S3` | another server that speaks S3; `http://` means without TLS |
//! | `AWS_WEB_IDENTITY_TOKEN_FILE`, `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` … | roles of containers; without any keys the role of the instance |
//! | `AWS_SKIP_SIGNATURE`, `GOOGLE_SKIP_SIGNATURE`, `AZURE_SKIP_SIGNATURE` | `true` for public buckets, without keys |
//! | `GOOGLE_APPLICATION_CREDENTIALS`, `GOOGLE_SERVICE_ACCOUNT` | a file of keys for `gs://`; without it the role of the instance |
//! | `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN` | account and keys for `az://`, `abfs://` |
//! | `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` | token, another hub, and none at all, for `hf://datasets/ORG/NAME/…` |
//! | `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies for all of these |

mod file;
mod mask;
mod pipe;
#[cfg(feature = "cloud")]
mod remote;
pub mod store;

use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::error::DataError;

pub(crate) use mask::mask;
pub use store::{RemoteError, Store};

/// Schemes of addresses that are read over the network.
const REMOTE: [&str; 9] = [
    "http", "https", "s3", "s3a", "gs", "az", "abfs", "abfss", "hf",
];

/// How long a source may give nothing, and how often it is asked: whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest wait for the next bytes, all attempts together. A request is given up after half of it, so that there is a second.
    pub timeout: Duration,
    /// Attempts without a byte of progress before a source is given up.
    pub attempts: u32,
}

impl Default for Patience {
    /// `OPENCLIP_DATA_TIMEOUT` seconds, else a minute; seven attempts, which take a quarter of a minute where each fails at once.
    fn default() -> Self {
        let seconds = std::env::var("OPENCLIP_DATA_TIMEOUT");
        let seconds = seconds.ok().and_then(|value| value.trim().parse().ok());
        let seconds = seconds.filter(|&seconds: &f64| seconds > 0.0);
        let timeout = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self {
            timeout: timeout.unwrap_or(Duration::from_secs(60)),
            attempts: 7,
        }
    }
}

/// Tells who waits for bytes whether they are still wanted.
#[derive(Clone, Default)]
pub struct Watch(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Watch {
    /// One that asks `is_closed`; that by default is always wanting.
    pub fn new(is_closed: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(is_closed)))
    }

    /// Whether they are not.
    pub fn is_closed(&self) -> bool {
        self.0.as_ref().is_some_and(|is_closed| is_closed())
    }
}

/// One file, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// On this machine, as `PATH` or `file:PATH`.
    File(PathBuf),
    /// What `sh -c COMMAND` writes to its standard output, as `pipe:COMMAND`.
    Pipe(String),
    /// Behind an address that begins with one of `http`, `https`, `s3`, `gs`, `az`, `abfs` or `hf`.
    Remote(Url),
}

impl Place {
    /// The place that a user's `name` stands for.
    ///
    /// # Errors
    /// When the name begins with a scheme that is none of those known, or the address is malformed.
    pub fn parse(name: &str) -> Result<Self, DataError> {
        let Some((scheme, rest)) = name.split_once(':') else {
            return Ok(Self::File(name.into()));
        };
        let is_scheme = scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match scheme.to_ascii_lowercase().as_str() {
            "file" => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                Ok(Self::File(
                    path.strip_prefix("localhost").unwrap_or(path).into(),
                ))
            }
            "pipe" => Ok(Self::Pipe(rest.trim().to_owned())),
            known if REMOTE.contains(&known) => match Url::parse(name) {
                Ok(url) if url.has_host() => Ok(Self::Remote(url)),
                _ => Err(DataError::Address { name: mask(name) }),
            },
            // A single letter is a drive, and a file name may well hold a colon further on.
            _ if is_scheme && !Path::new(name).exists() => Err(DataError::UnsupportedScheme {
                scheme: scheme.to_owned(),
                name: mask(name),
            }),
            _ => Ok(Self::File(name.into())),
        }
    }

    /// The last part of the path: what tells a file from others beside it. For a command, all of it.
    pub fn file_name(&self) -> String {
        match self {
            Self::File(path) => {
                let name = path.file_name().unwrap_or_default();
                name.to_string_lossy().into_owned()
            }
            Self::Pipe(command) => command.clone(),
            Self::Remote(url) => url.path().rsplit('/').next().unwrap_or_default().to_owned(),
        }
    }

    /// A file of another name beside this one; none beside what a command writes.
    pub fn sibling(&self, name: &str) -> Option<Self> {
        match self {
            Self::File(path) => Some(Self::File(path.with_file_name(name))),
            Self::Pipe(_) => None,
            Self::Remote(url) => {
                let mut url = url.clone();
                url.path_segments_mut().ok()?.pop().push(name);
                Some(Self::Remote(url))
            }
        }
    }

    /// The path, for a file of this machine.
    pub fn as_file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// Begins to read before anybody waits for the bytes, where that takes a while: commands, and what is far away.
    pub fn start(&self, patience: Patience) -> Started {
        match self {
            Self::File(path) => Started::File(path.clone()),
            Self::Pipe(command) => Started::Pipe(pipe::start(command, patience)),
            #[cfg(feature = "cloud")]
            Self::Remote(url) => Started::Remote(remote::start(url, 0, None, patience)),
            #[cfg(not(feature = "cloud"))]
            Self::Remote(_) => Started::NotBuilt,
        }
    }

    /// Opens it as a stream, from its first byte.
    ///
    /// # Errors
    /// When there is nothing to read, or nobody to answer within `patience`.
    pub fn open(&self, patience: Patience, watch: Watch) -> io::Result<Stream> {
        self.start(patience).wait(watch)
    }

    /// What tells its content from that of another day: for files of this machine, of which it can be asked at no cost.
    pub fn version(&self) -> Option<String> {
        file::version(&std::fs::metadata(self.as_file()?).ok()?)
    }

    /// Some of its bytes; `version` is what it has to be, if given.
    ///
    /// # Errors
    /// As for [`Self::open`]; also where a place cannot be read from the middle, or is of another version.
    pub fn read_range(
        &self,
        start: u64,
        length: u64,
        version: Option<&str>,
        patience: Patience,
    ) -> io::Result<Vec<u8>> {
        match self {
            Self::File(path) => file::read_range(path, start, length, version),
            Self::Pipe(_) => Err(cannot_seek("a command's output")),
            #[cfg(feature = "cloud")]
            Self::Remote(url) => remote::read_range(url, start, length, version, patience),
            #[cfg(not(feature = "cloud"))]
            Self::Remote(_) => Err(not_built()),
        }
    }

    /// How many bytes it has.
    ///
    /// # Errors
    /// As for [`Self::open`]; also where nobody says.
    pub fn len(&self, patience: Patience) -> io::Result<u64> {
        match self {
            Self::File(path) => Ok(std::fs::metadata(path)?.len()),
            Self::Pipe(_) => Err(cannot_seek("a command's output")),
            #[cfg(feature = "cloud")]
            Self::Remote(url) => remote::length(url, patience),
            #[cfg(not(feature = "cloud"))]
            Self::Remote(_) => Err(not_built()),
        }
    }

    /// The whole of a file of at most `limit` bytes. Pipes and devices among files are refused, since reading them may never end.
    ///
    /// # Errors
    /// As for [`Self::open`]; also for a larger file.
    pub fn read(&self, limit: u64, patience: Patience) -> io::Result<Vec<u8>> {
        if let Self::File(path) = self {
            return file::read(path, limit);
        }
        let mut bytes = Vec::new();
        let stream = self.open(patience, Watch::default())?;
        stream.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(too_large(limit));
        }
        Ok(bytes)
    }
}

/// The name that [`Place::parse`] takes, without secrets.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Pipe(command) => write!(f, "pipe:{}", mask(command)),
            Self::Remote(url) => f.write_str(&mask(url.as_str())),
        }
    }
}

/// A place whose bytes may be on their way already. Dropping it stops that.
pub enum Started {
    /// A file, which is opened when it is wanted.
    File(PathBuf),
    /// A command that runs.
    Pipe(io::Result<pipe::Running>),
    /// A request under way.
    #[cfg(feature = "cloud")]
    Remote(remote::Request),
    /// An address in a program without network.
    #[cfg(not(feature = "cloud"))]
    NotBuilt,
}

impl Started {
    /// Waits for the first answer. The wait, and that for bytes later on, ends when `watch` says that nothing is wanted any more.
    ///
    /// # Errors
    /// When there is nothing to read, or nobody to answer.
    pub fn wait(self, watch: Watch) -> io::Result<Stream> {
        match self {
            Self::File(path) => file::open(&path, &watch),
            Self::Pipe(running) => Ok(Stream {
                input: Box::new(running?.into_reader(watch)),
                version: None,
            }),
            #[cfg(feature = "cloud")]
            Self::Remote(request) => request.wait(watch),
            #[cfg(not(feature = "cloud"))]
            Self::NotBuilt => Err(not_built()),
        }
    }
}

/// The bytes of a place, one after another.
pub struct Stream {
    input: Box<dyn BufRead + Send>,
    version: Option<String>,
}

impl Stream {
    /// What tells the bytes from those of another time, where [`Place::read_range`] can read them again; `None` where it cannot.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.input.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.input.consume(amount);
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file was changed")
}

fn cannot_seek(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::NotSeekable,
        format!("{what} cannot be read from the middle"),
    )
}

fn too_large(limit: u64) -> io::Error {
    let reason = format!("more than {limit} bytes, which is the limit");
    io::Error::new(io::ErrorKind::FileTooLarge, reason)
}

/// Nothing is wanted any more. (`Interrupted` would be tried again by the standard library.)
fn closed() -> io::Error {
    io::ErrorKind::ConnectionAborted.into()
}

#[cfg(not(feature = "cloud"))]
fn not_built() -> io::Error {
    let reason = "this program was built without the network; build it with `--features cloud`";
    io::Error::new(io::ErrorKind::Unsupported, reason)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_of_places() {
        let file = |path: &str| Some(Place::File(path.into()));
        for (name, expected) in [
            ("a.tar", file("a.tar")),
            ("file:/x/a.tar", file("/x/a.tar")),
            ("file:///x/a.tar", file("/x/a.tar")),
            ("file://localhost/x/a.tar", file("/x/a.tar")),
            ("dir/a:b.tar", file("dir/a:b.tar")),
            ("C:/a.tar", file("C:/a.tar")),
            ("pipe: cat a.tar", Some(Place::Pipe("cat a.tar".into()))),
            ("gopher://host/a.tar", None),
            ("s3:bucket", None),
            ("https://", None),
        ] {
            assert_eq!(Place::parse(name).ok(), expected, "{name}");
        }
        for name in ["s3://b/a.tar", "hf://datasets/o/n/a.tar", "HTTPS://h/a"] {
            assert!(matches!(Place::parse(name), Ok(Place::Remote(_))), "{name}");
        }
    }

    #[test]
    fn a_place_beside_another() {
        for (name, expected) in [
            ("d/a.tar", Some("d/sizes.json")),
            ("https://h/d/a.tar?x=1", Some("https://h/d/sizes.json?x=1")),
            ("pipe:cat a.tar", None),
        ] {
            let sibling = Place::parse(name).unwrap().sibling("sizes.json");
            assert_eq!(sibling.map(|place| place.to_string()).as_deref(), expected);
        }
    }
}
