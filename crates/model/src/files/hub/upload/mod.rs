//! A folder's files into a repository of the hub, as one commit.
//!
//! The hub says of each file whether it lies in the repository itself or in its large storage ("LFS"); what the large storage has
//! already is not sent again, so that an upload that failed goes on where it was.
//!
//! * [`Upload`] – where to, and what the commit says
//! * `api` – one request, and what the hub's answer means
//! * `large` – files of the large storage, in one piece or several

#[cfg(feature = "hub")]
mod api;
#[cfg(feature = "hub")]
mod large;

use std::path::Path;

use super::cache::{is_offline, is_repository, is_revision};
use super::error::{Failure, HubError};

/// Where a folder goes, and what the commit says.
#[derive(Debug, Clone)]
pub struct Upload {
    /// `ORG/NAME`; it is made if it is not there.
    pub repository: String,
    /// A branch; it is made if it is not there.
    pub revision: String,
    /// What the commit says.
    pub message: String,
    /// Whether a repository that is made is seen by its owner alone.
    pub private: bool,
}

/// What became of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Where the commit can be looked at.
    pub url: String,
    /// Names of files that the repository keeps as it has them.
    pub kept: Vec<String>,
}

impl Upload {
    /// # Errors
    /// [`HubError::Name`] of a name that no repository can have, [`HubError::Upload`] of one that no branch can.
    pub fn check(&self) -> Result<(), HubError> {
        if !is_repository(&self.repository) || !self.repository.contains('/') {
            return Err(HubError::Name(self.repository.clone()));
        }
        match is_revision(&self.revision) {
            true => Ok(()),
            false => Err(self.failed(format!("`{}` is no name of a branch", self.revision))),
        }
    }

    fn failed(&self, reason: String) -> HubError {
        HubError::Upload {
            repository: self.repository.clone(),
            reason,
        }
    }

    /// Sends the files of `folder`, those of its folders left out. A `README.md` that the repository has stays.
    ///
    /// # Errors
    /// [`HubError::Upload`] says what the hub refused, after further attempts where they could help; [`HubError::Name`] of a name
    /// that no repository or branch can have. Nothing of the folder is changed.
    pub fn send(&self, folder: &Path) -> Result<Uploaded, HubError> {
        self.check()?;
        if is_offline() {
            return Err(self.failed("HF_HUB_OFFLINE is set".into()));
        }
        self.run(folder).map_err(|failure| match failure {
            Failure::Io(path, source) => HubError::Io { path, source },
            failure => self.failed(failure.to_string()),
        })
    }

    #[cfg(feature = "hub")]
    fn run(&self, folder: &Path) -> Result<Uploaded, Failure> {
        api::commit(self, folder)
    }

    #[cfg(not(feature = "hub"))]
    fn run(&self, _: &Path) -> Result<Uploaded, Failure> {
        Err(Failure::not_built())
    }
}
