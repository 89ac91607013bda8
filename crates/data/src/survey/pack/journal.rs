//! How far a pack has come: `pack.json` in its folder.

use std::fs;
use std::path::{Path, PathBuf};

use openclip_model::files::atomic;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::options::PackOptions;
use crate::error::DataError;
use crate::source::Source;
use crate::storage::mask;
use crate::survey::problems::Problems;

const JOURNAL: &str = "pack.json";

/// What has to be the same for a pack to be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    /// [`Source::fingerprint`].
    source: u32,
    /// [`Source::describe`], without secrets. The fingerprint of shards knows the names of their files alone, which other folders
    /// have as well.
    data: String,
    samples_per_shard: u64,
    resize: Option<usize>,
    /// Of pictures that are made smaller.
    quality: Option<u8>,
    /// Likewise.
    max_image_pixels: Option<usize>,
    dedup: bool,
}

/// What the finished shards are made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Items of the source used up.
    pub items: u64,
    /// Samples of the source dealt with.
    pub seen: u64,
    pub samples: u64,
    pub bytes: u64,
    pub resized: u64,
    pub without_caption: u64,
    pub repeated: u64,
    pub problems: Problems,
    /// Samples of every finished shard.
    pub shards: Vec<u64>,
    pub is_complete: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Journal {
    settings: Settings,
    #[serde(flatten)]
    pub state: State,
    #[serde(skip)]
    path: PathBuf,
}

impl Settings {
    pub fn of(source: &dyn Source, options: &PackOptions) -> Self {
        let of_resized = options.resize.is_some();
        Self {
            source: source.fingerprint(),
            data: mask(&source.describe()),
            samples_per_shard: options.samples_per_shard,
            resize: options.resize,
            quality: of_resized.then_some(options.quality),
            max_image_pixels: of_resized.then_some(options.survey.limits.max_pixels),
            dedup: options.dedup,
        }
    }

    /// Names and values of what is not as in `self`.
    fn differences(&self, other: &Self) -> String {
        let (before, now) = (json!(self), json!(other));
        let fields = before.as_object().into_iter().flatten();
        let different = fields.filter(|(name, value)| now[name] != **value);
        let different = different.map(|(name, value)| match name.as_str() {
            "source" => "other samples".to_owned(),
            "data" => format!("the data {value}"),
            name => format!("--{} {value}", name.replace('_', "-")),
        });
        different.collect::<Vec<_>>().join(", ")
    }
}

impl Journal {
    /// Opens the pack in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// When the folder has something else in it, or a pack with other settings.
    pub fn open(folder: &Path, settings: Settings) -> Result<Self, DataError> {
        let refuse = |reason| DataError::Pack {
            path: folder.to_owned(),
            reason,
        };
        let failed = |source| DataError::Io {
            path: folder.to_owned(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(JOURNAL);
        let mut stranger = None;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What a kill left of files that were never finished.
            if name.starts_with('.') && name.ends_with(".partial") {
                fs::remove_file(entry.path()).map_err(failed)?;
            } else {
                stranger = Some(name);
            }
        }
        let mut journal = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| refuse(format!("{JOURNAL} is damaged: {error}")))?,
            Err(_) => match stranger {
                Some(name) => {
                    return Err(refuse(format!(
                        "there is {name} in it, and no {JOURNAL} of a pack to go on with; name an empty folder or a new one"
                    )));
                }
                None => Self {
                    settings: settings.clone(),
                    state: State::default(),
                    path: path.clone(),
                },
            },
        };
        if journal.settings != settings {
            return Err(refuse(format!(
                "it has another pack in it, made with {}; name another folder, or the settings of that pack",
                journal.settings.differences(&settings)
            )));
        }
        journal.path = path;
        journal.write()?;
        Ok(journal)
    }

    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<(), DataError> {
        let text = format!("{:#}\n", json!(self));
        atomic::write(&self.path, text).map_err(|source| DataError::Io {
            path: self.path.clone(),
            source,
        })
    }
}
