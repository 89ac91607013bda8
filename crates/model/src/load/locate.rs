//! Where weights are.

use std::path::{Path, PathBuf};

use crate::files::ModelError;
use crate::files::folder;
use crate::files::hub::{self, CacheDirs};
use crate::files::pretrained::{self, Pretrained};

/// A file of weights, and which part of it is meant.
#[derive(Debug)]
pub(super) struct Place {
    pub path: PathBuf,
    /// An entry of a training checkpoint, or a beginning of keys.
    pub entry: Option<String>,
}

impl Place {
    /// The whole of a file.
    pub fn of(path: PathBuf) -> Self {
        Self { path, entry: None }
    }

    /// A file, or the weights in a folder.
    fn at(path: &str) -> Result<Self, ModelError> {
        let path = Path::new(path);
        match path.is_dir() {
            true => folder::weights(path).map(Self::of),
            false => Ok(Self::of(path.to_path_buf())),
        }
    }
}

/// Finds the weights that `tag` means: a file, a folder's, a part of a file, what the user has put at
/// `CACHE/MODEL/TAG.{safetensors,pt,bin}`, a tag's published weights, or an address.
pub(super) fn locate(
    model: &str,
    tag: &str,
    known: Option<&Pretrained>,
    cache_dir: Option<&Path>,
) -> Result<Place, ModelError> {
    if known.is_none() {
        if Path::new(tag).exists() {
            return Place::at(tag);
        }
        // A part of a checkpoint stands behind the file's name.
        if let Some((file, entry)) = tag.rsplit_once(':')
            && Path::new(file).exists()
        {
            let place = Place::at(file)?;
            return Ok(Place {
                entry: Some(entry.to_string()),
                ..place
            });
        }
    }
    file(model, tag, known, cache_dir).map(Place::of)
}

/// The file that a tag or an address stands for.
fn file(
    model: &str,
    tag: &str,
    known: Option<&Pretrained>,
    cache_dir: Option<&Path>,
) -> Result<PathBuf, ModelError> {
    let looked = hub::by_hand(model, cache_dir);
    let name = known.map_or(tag, |known| &known.tag);
    let is_plain = !name.contains(['/', '\\']);
    let by_hand = ["safetensors", "pt", "bin"]
        .iter()
        .map(|extension| looked.join(format!("{name}.{extension}")))
        .find(|path| is_plain && path.is_file());
    if let Some(path) = by_hand {
        return Ok(path);
    }
    let put = |at: &Path| format!("put it at {} (or .bin, .pt)", at.display());
    let place = looked.join(format!("{name}.safetensors"));
    let caches = CacheDirs::new(cache_dir);
    if let Some(known) = known {
        let names = pretrained::alternatives(known.file());
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let found = hub::file(known.repository(), &names, &caches, &put(&place));
        let error = match found {
            Ok(path) => return Ok(path),
            Err(error) if known.url.is_empty() || !error.has_alternative() => {
                return Err(error.into());
            }
            Err(error) => error,
        };
        // An older OpenCLIP may have left the file of the plain address, which is used without a network as well.
        log::debug!("{error}; looking for {}", known.url);
        return hub::address(&known.url, &caches, &put(&place)).map_err(|_| error.into());
    }
    if hub::is_address(tag) {
        let by_hand = "pass its path as --pretrained FILE";
        return Ok(hub::address(tag, &caches, by_hand)?);
    }
    Err(ModelError::NoWeights {
        tag: tag.to_string(),
        model: model.to_string(),
        tags: pretrained::of(model)
            .map(|known| known.tag.as_str())
            .collect(),
        looked,
    })
}
