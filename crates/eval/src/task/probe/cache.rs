//! Features on the disk, so that another probe of the same model and set begins with them.

use std::collections::HashMap;
use std::path::Path;

use openclip_model::files::atomic;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use crate::error::EvalError;

/// What the features are of, in the file's metadata.
const OF: &str = "openclip.features_of";

/// Rows of features and their classes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rows {
    /// By rows.
    pub features: Vec<f32>,
    /// The class of each row.
    pub labels: Vec<usize>,
}

/// The rows of the file `path`, if they are those of `of`.
///
/// # Errors
/// When the file is there and cannot be read.
pub(super) fn read(path: &Path, of: &str) -> Result<Option<Rows>, EvalError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EvalError::io(path, error)),
    };
    let Some((known, rows)) = parse(&bytes) else {
        log::warn!("{}: no file of features; it is made anew", path.display());
        return Ok(None);
    };
    if known != of {
        log::info!(
            "{}: features of other weights or data; they are made anew",
            path.display()
        );
        return Ok(None);
    }
    Ok(Some(rows))
}

fn parse(bytes: &[u8]) -> Option<(String, Rows)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    let known = metadata.metadata().as_ref()?.get(OF)?.clone();
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let features = tensors.tensor("features").ok()?;
    let labels = tensors.tensor("targets").ok()?;
    let features = features.data().chunks_exact(4);
    let labels = labels.data().chunks_exact(8);
    let rows = Rows {
        features: features
            .map(|value| Some(f32::from_le_bytes(value.try_into().ok()?)))
            .collect::<Option<_>>()?,
        labels: labels
            .map(|value| usize::try_from(i64::from_le_bytes(value.try_into().ok()?)).ok())
            .collect::<Option<_>>()?,
    };
    Some((known, rows))
}

/// Writes the rows of `of`; the folder is made.
///
/// # Errors
/// When the folder takes no file.
pub(super) fn write(path: &Path, of: &str, rows: &Rows) -> Result<(), EvalError> {
    let io = |error| EvalError::io(path, error);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(io)?;
    }
    let features: Vec<u8> = rows
        .features
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let labels: Vec<u8> = rows
        .labels
        .iter()
        .flat_map(|label| (*label as i64).to_le_bytes())
        .collect();
    let count = rows.labels.len();
    let width = rows.features.len() / count.max(1);
    let view = |kind, shape, bytes| {
        TensorView::new(kind, shape, bytes).map_err(|error| io(std::io::Error::other(error)))
    };
    let tensors = [
        ("features", view(Dtype::F32, vec![count, width], &features)?),
        ("targets", view(Dtype::I64, vec![count], &labels)?),
    ];
    let metadata = HashMap::from([(OF.to_owned(), of.to_owned())]);
    let bytes = safetensors::serialize(tensors, Some(metadata))
        .map_err(|error| io(std::io::Error::other(error)))?;
    atomic::write(path, bytes).map_err(io)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn rows_of_other_weights_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/train.safetensors");
        let rows = Rows {
            features: vec![0.5, -1.0, 2.0, 0.0],
            labels: vec![3, 0],
        };
        assert_eq!(read(&path, "a").unwrap(), None);
        write(&path, "a", &rows).unwrap();
        assert_eq!(read(&path, "a").unwrap(), Some(rows));
        assert_eq!(read(&path, "b").unwrap(), None);
        std::fs::write(&path, "half").unwrap();
        assert_eq!(read(&path, "a").unwrap(), None);
    }
}
