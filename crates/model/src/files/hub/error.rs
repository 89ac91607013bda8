//! What can go wrong with a file from elsewhere.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A name that no repository can have.
    #[error("`{0}` is not a repository of the hub, expected ORG/NAME or ORG/NAME@REVISION")]
    Name(String),
    /// The repository has none of the files.
    #[error("the hub's repository {repository} has no {names}")]
    Missing {
        /// The repository.
        repository: String,
        /// The files that would do.
        names: String,
    },
    /// The file is not in the cache and cannot be downloaded.
    #[error("{what} is not in the cache, and {reason}; download {address} and {by_hand}")]
    Unavailable {
        /// Files and repository, or the address.
        what: String,
        /// Why there is no download.
        reason: String,
        /// Where a browser gets it.
        address: String,
        /// Where to put it.
        by_hand: String,
    },
    /// The server gives the file only to some.
    #[error(
        "{what}: the server refuses access (HTTP {status}): the repository does not exist, or needs a token in HF_TOKEN"
    )]
    Refused {
        /// The file.
        what: String,
        /// The status of the answer.
        status: u16,
    },
    /// What was downloaded is not what the server announced.
    #[error(
        "{what}: the download's sha256 is {found}, expected {expected}; it has been deleted, try again"
    )]
    Checksum {
        /// The file.
        what: String,
        /// As announced.
        expected: String,
        /// As downloaded.
        found: String,
    },
    /// A repository does not take what was sent.
    #[error("{repository}: {reason}")]
    Upload {
        /// The repository.
        repository: String,
        /// What was refused, and why.
        reason: String,
    },
    /// A file of the cache or of an upload cannot be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

impl HubError {
    /// Whether the same file may be had from elsewhere.
    pub fn has_alternative(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. } | Self::Unavailable { .. } | Self::Refused { .. }
        )
    }
}

/// Why a download did not come about.
#[derive(Debug)]
#[cfg_attr(not(feature = "hub"), allow(dead_code))]
pub(super) enum Failure {
    /// The server has no such file.
    Missing,
    /// The server does not give it.
    Refused(u16),
    /// Another attempt may help.
    Transient(String),
    /// Another attempt may help, after so long.
    Later(String, Duration),
    /// Another attempt would not help.
    Final(String),
    /// A wrong checksum.
    Checksum {
        /// As announced.
        expected: String,
        /// As downloaded.
        found: String,
    },
    /// A file of the cache.
    Io(PathBuf, std::io::Error),
}

impl Failure {
    #[cfg(not(feature = "hub"))]
    pub(super) fn not_built() -> Self {
        Self::Final("this program is built without the feature `hub`, which downloads".into())
    }

    /// The error for `what`; `unavailable` tells the user how to do without a download.
    pub(super) fn name(
        self,
        what: String,
        unavailable: impl FnOnce(String) -> HubError,
    ) -> HubError {
        match self {
            Self::Refused(status) => HubError::Refused { what, status },
            Self::Checksum { expected, found } => HubError::Checksum {
                what,
                expected,
                found,
            },
            Self::Io(path, source) => HubError::Io { path, source },
            failure => unavailable(failure.to_string()),
        }
    }

    /// The same with a word on what it is about.
    #[cfg(feature = "hub")]
    pub(super) fn of(self, what: &str) -> Self {
        match self {
            Self::Io(..) => self,
            failure => Self::Final(format!("{what}: {failure}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the server has no such file"),
            Self::Refused(status) => write!(f, "the server refuses it (HTTP {status})"),
            Self::Transient(reason) | Self::Later(reason, _) | Self::Final(reason) => {
                f.write_str(reason)
            }
            Self::Checksum { expected, found } => write!(f, "sha256 {found}, expected {expected}"),
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}
