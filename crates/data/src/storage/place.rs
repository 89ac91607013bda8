//! One file anywhere, by the name that a user gives it.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use url::Url;

#[cfg(feature = "cloud")]
use super::remote;
#[cfg(not(feature = "cloud"))]
use super::stream::not_built;
use super::stream::{Patience, Stream, Watch, cannot_seek, too_large};
use super::{file, mask::mask, pipe};
use crate::error::DataError;

/// Schemes of addresses that are read over the network.
const REMOTE: [&str; 9] = [
    "http", "https", "s3", "s3a", "gs", "az", "abfs", "abfss", "hf",
];

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
                let behind_host = rest.strip_prefix("//localhost");
                let behind_host = behind_host.filter(|path| path.starts_with('/'));
                Ok(Self::File(behind_host.unwrap_or(path).into()))
            }
            "pipe" => Ok(Self::Pipe(rest.trim().to_owned())),
            known if REMOTE.contains(&known) => {
                // What parts the address of a web page are letters of a key like others.
                let url = match known {
                    "http" | "https" => Url::parse(name),
                    _ => Url::parse(&name.replace('#', "%23").replace('?', "%3F")),
                };
                match url {
                    Ok(url) if url.has_host() => Ok(Self::Remote(url)),
                    _ => Err(DataError::Address { name: mask(name) }),
                }
            }
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
            Self::Remote(url) => {
                let name = url.path().rsplit('/').next().unwrap_or_default();
                percent_decode_str(name).decode_utf8_lossy().into_owned()
            }
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

    /// Some of its bytes; `version` is what it has to be, if given. The wait for them ends when `watch` says that they are not wanted.
    ///
    /// # Errors
    /// As for [`Self::open`]; also where a place cannot be read from the middle, or is of another version.
    pub fn read_range(
        &self,
        start: u64,
        length: u64,
        version: Option<&str>,
        patience: Patience,
        watch: Watch,
    ) -> io::Result<Vec<u8>> {
        match self {
            Self::File(path) => file::read_range(path, start, length, version),
            Self::Pipe(_) => Err(cannot_seek("a command's output")),
            #[cfg(feature = "cloud")]
            Self::Remote(url) => remote::read_range(url, start, length, version, patience, watch),
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

    /// The whole of a file of at most `limit` bytes; the wait for them ends when `watch` says that they are not wanted. Pipes and
    /// devices among files are refused, since reading them may never end.
    ///
    /// # Errors
    /// As for [`Self::open`]; also for a larger file.
    pub fn read(&self, limit: u64, patience: Patience, watch: Watch) -> io::Result<Vec<u8>> {
        if let Self::File(path) = self {
            return file::read(path, limit);
        }
        let mut bytes = Vec::new();
        let stream = self.open(patience, watch)?;
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
            Self::Pipe(running) => Ok(Stream::new(running?.into_reader(watch), None)),
            #[cfg(feature = "cloud")]
            Self::Remote(request) => request.wait(watch),
            #[cfg(not(feature = "cloud"))]
            Self::NotBuilt => Err(not_built()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn names_of_places() {
        let file = |path: &str| Some(Place::File(path.into()));
        for (name, expected) in [
            ("a.tar", file("a.tar")),
            ("file:/x/a.tar", file("/x/a.tar")),
            ("file:///x/a.tar", file("/x/a.tar")),
            ("file://localhost/x/a.tar", file("/x/a.tar")),
            ("file:localhost.tar", file("localhost.tar")),
            ("file:localhost/a.tar", file("localhost/a.tar")),
            ("file://localhost.tar", file("localhost.tar")),
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
    fn keys_hold_any_letter() {
        for (name, path, file) in [
            ("s3://b/d/a#1?.tar", "/d/a%231%3F.tar", "a#1?.tar"),
            ("gs://b/my shard.tar", "/my%20shard.tar", "my shard.tar"),
            ("hf://datasets/o/n/a#b.tar", "/o/n/a%23b.tar", "a#b.tar"),
            ("https://h/d/a%20b.tar?x=1#y", "/d/a%20b.tar", "a b.tar"),
            ("https://h/%C3%A4.tar", "/%C3%A4.tar", "ä.tar"),
        ] {
            let place = Place::parse(name).unwrap();
            let Place::Remote(url) = &place else {
                panic!("{name}")
            };
            assert_eq!((url.path(), &*place.file_name()), (path, file));
        }
    }

    /// Runs until `read` gives up, which it does not by itself for a minute.
    fn is_let_go(read: impl FnOnce(Patience, Watch) -> io::Result<Vec<u8>>) {
        let patience = Patience {
            timeout: Duration::from_secs(60),
            attempts: 7,
        };
        let start = Instant::now();
        let watch = Watch::new(move || start.elapsed() > Duration::from_millis(150));
        let error = read(patience, watch).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_read_ends_when_nothing_is_wanted() {
        let silent = Place::Pipe("sleep 90".into());
        is_let_go(|patience, watch| silent.read(10, patience, watch));
    }

    #[cfg(feature = "cloud")]
    #[test]
    fn a_server_that_is_silent_holds_nobody() {
        // It takes connections and does not answer.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("http://{}/a.tar", server.local_addr().unwrap());
        let silent = Place::parse(&name).unwrap();
        is_let_go(|patience, watch| silent.read(10, patience, watch));
        is_let_go(|patience, watch| silent.read_range(0, 10, None, patience, watch));
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
