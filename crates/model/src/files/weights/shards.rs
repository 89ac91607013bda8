//! Weights in several files: the shards of a set, with an index of what is where or without one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::dict::StateDict;
use super::error::WeightsError;

/// End of the name of an index, which is JSON.
pub(crate) const INDEX: &str = ".index.json";

/// Shards of a set, at most.
const MAX_SHARDS: usize = 1 << 12;

/// The files of a set.
#[derive(Debug)]
pub(crate) struct Shards {
    /// Their paths, in order.
    pub files: Vec<PathBuf>,
    /// Which file has a key, where there is an index.
    places: BTreeMap<String, PathBuf>,
}

/// What is where.
struct Index {
    places: BTreeMap<String, String>,
    names: BTreeSet<String>,
}

impl Index {
    fn read(path: &Path) -> Result<Self, WeightsError> {
        #[derive(Deserialize)]
        struct Json {
            weight_map: BTreeMap<String, String>,
        }
        let bad = |reason: String| WeightsError::container(path, "index of shards", reason);
        let text = std::fs::read(path).map_err(|source| WeightsError::Io {
            file: path.to_path_buf(),
            source,
        })?;
        let json: Json = serde_json::from_slice(&text).map_err(|error| bad(error.to_string()))?;
        let names: BTreeSet<_> = json.weight_map.values().cloned().collect();
        let outside = names
            .iter()
            .find(|name| name.contains(['/', '\\']) || name.starts_with('.') || name.is_empty());
        if let Some(name) = outside {
            return Err(bad(format!("`{name}` is no file of the folder")));
        }
        if names.is_empty() || names.len() > MAX_SHARDS {
            return Err(bad(format!("lists {} files", names.len())));
        }
        Ok(Self {
            places: json.weight_map,
            names,
        })
    }
}

/// The set that an index or a shard stands for; `None` for another file.
pub(crate) fn of(path: &Path) -> Result<Option<Shards>, WeightsError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(INDEX) {
        return Shards::listed(path).map(Some);
    }
    let Some((first, last)) = numbers(&name).filter(|_| path.is_file()) else {
        return Ok(None);
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let files: Vec<_> = (1..=last)
        .map(|number| {
            let of = format!("{number:05}-of-");
            folder.join(name.replacen(&format!("{first:05}-of-"), &of, 1))
        })
        .collect();
    Shards {
        files,
        places: BTreeMap::new(),
    }
    .present(path)
    .map(Some)
}

/// The files that an index lists; `None` for another file.
pub(crate) fn names(path: &Path) -> Result<Option<Vec<String>>, WeightsError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match name.ends_with(INDEX) {
        true => Ok(Some(Index::read(path)?.names.into_iter().collect())),
        false => Ok(None),
    }
}

/// The two numbers of a name `…-00001-of-00002.…`.
pub(crate) fn numbers(name: &str) -> Option<(usize, usize)> {
    let (before, after) = name.rsplit_once("-of-")?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (number, count) = (before.get(before.len().checked_sub(5)?..)?, after.get(..5)?);
    if !(digits(number) && digits(count) && after[5..].starts_with('.')) {
        return None;
    }
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    (1..=MAX_SHARDS).contains(&count).then_some((number, count))
}

impl Shards {
    /// Those that an index lists.
    fn listed(path: &Path) -> Result<Self, WeightsError> {
        let Index { places, names } = Index::read(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let places = places.into_iter();
        Self {
            files: names.iter().map(|name| folder.join(name)).collect(),
            places: places.map(|(key, name)| (key, folder.join(name))).collect(),
        }
        .present(path)
    }

    /// Checks that every file is there.
    fn present(self, named_by: &Path) -> Result<Self, WeightsError> {
        let missing = self.files.iter().filter(|file| !file.is_file());
        let missing: Vec<_> = missing
            .filter_map(|file| Some(file.file_name()?.to_string_lossy().into_owned()))
            .collect();
        match missing.is_empty() {
            true => Ok(self),
            false => Err(WeightsError::MissingShards {
                file: named_by.to_path_buf(),
                missing,
                of: self.files.len(),
            }),
        }
    }

    /// All tensors of all files, each of which `read` reads.
    pub fn join(
        self,
        read: impl Fn(&Path) -> Result<StateDict, WeightsError>,
    ) -> Result<StateDict, WeightsError> {
        let mut whole = StateDict::default();
        let mut places = BTreeMap::new();
        for file in &self.files {
            let part = read(file)?;
            whole.metadata.extend(part.metadata);
            for (key, tensor) in part.tensors {
                if let Some(other) = places.insert(key.clone(), file) {
                    return Err(WeightsError::Tensor {
                        file: file.clone(),
                        key,
                        reason: format!("is in {} as well", other.display()),
                    });
                }
                whole.tensors.insert(key, tensor);
            }
        }
        for (key, file) in &self.places {
            if places.get(key) != Some(&file) {
                return Err(WeightsError::Tensor {
                    file: file.clone(),
                    key: key.clone(),
                    reason: "is listed in the index, and not in the file".into(),
                });
            }
        }
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn shards_are_known_by_their_numbers() {
        assert_eq!(numbers("model-00001-of-00002.safetensors"), Some((1, 2)));
        assert_eq!(numbers("pytorch_model-00010-of-00012.bin"), Some((10, 12)));
        assert_eq!(numbers("best-of-five-00001-of-00002.bin"), Some((1, 2)));
        for name in [
            "model.safetensors",
            "best-of-five.pt",
            "model-1-of-2.bin",
            "model-00001-of-00000.bin",
            "-of-00002.bin",
            "00001-of-99999.bin",
        ] {
            assert_eq!(numbers(name), None, "{name}");
        }
    }
}
