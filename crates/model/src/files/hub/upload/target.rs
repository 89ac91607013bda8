//! Where an upload goes.

use super::super::cache::{is_repository, is_revision};
use super::super::error::HubError;

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

    pub(super) fn failed(&self, reason: String) -> HubError {
        HubError::Upload {
            repository: self.repository.clone(),
            reason,
        }
    }
}
