//! JSON files, with the file in every error.

use std::path::Path;

use serde::de::DeserializeOwned;

use super::error::ModelError;

/// The bytes of a file.
///
/// # Errors
/// [`ModelError::ReadConfig`].
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, ModelError> {
    std::fs::read(path).map_err(|source| ModelError::ReadConfig {
        path: path.to_path_buf(),
        source,
    })
}

/// What a text says; `origin` names it in errors.
///
/// # Errors
/// [`ModelError::ParseConfig`].
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8], origin: &str) -> Result<T, ModelError> {
    serde_json::from_slice(json).map_err(|source| ModelError::ParseConfig {
        origin: origin.to_string(),
        source,
    })
}
