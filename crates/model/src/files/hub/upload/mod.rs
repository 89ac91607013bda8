//! A folder's files into a repository of the hub, as one commit.
//!
//! The hub says of each file whether it lies in the repository itself or in its large storage ("LFS"); what the large storage has
//! already is not sent again, so that an upload that failed goes on where it was.
//!
//! * [`Upload`] – where to, and what the commit says
//! * `commit` – the whole upload
//! * `api` – one request, and what the hub's answer means
//! * `large` – files of the large storage, in one piece or several

#[cfg(feature = "hub")]
mod api;
#[cfg(feature = "hub")]
mod commit;
#[cfg(feature = "hub")]
mod large;
mod target;

use std::path::Path;

pub use target::{Upload, Uploaded};

use super::cache::is_offline;
use super::error::{Failure, HubError};

impl Upload {
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
        commit::commit(self, folder)
    }

    #[cfg(not(feature = "hub"))]
    fn run(&self, _: &Path) -> Result<Uploaded, Failure> {
        Err(Failure::not_built())
    }
}
