//! A folder in the hub's layout, which `local-dir:` reads here and in Python.

use std::fs;
use std::path::Path;

use openclip_model::config::ModelConfig;
use openclip_model::factory::{self, Loaded};
use openclip_model::files::atomic;
use openclip_model::pretrained::{SAFE_WEIGHTS, WEIGHTS};
use openclip_model::registry::HUB_CONFIG;

use crate::error::{CliError, Result};

/// What a folder gets.
pub struct HubFolder<'a> {
    /// The model.
    pub loaded: &'a Loaded,
    /// Its configuration as the folder has it.
    pub config: &'a ModelConfig,
    /// The page that the hub shows.
    pub card: String,
    /// The tokenizer's files by name.
    pub tokenizer: Vec<(String, Vec<u8>)>,
    /// Whether the weights are written as PyTorch's pickle as well.
    pub pickle: bool,
}

/// Writes a folder; the weights last, so that one with weights is whole.
pub fn write(dir: &Path, folder: &HubFolder<'_>) -> Result<()> {
    fs::create_dir_all(dir).map_err(CliError::file(dir))?;
    let write = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        atomic::write(&path, content).map_err(CliError::file(&path))
    };
    let hub = factory::hub_config(folder.config, &folder.loaded.preprocess);
    write(HUB_CONFIG, format!("{hub:#}\n").as_bytes())?;
    write("README.md", folder.card.as_bytes())?;
    for (name, content) in &folder.tokenizer {
        write(name, content)?;
    }
    if folder.pickle {
        folder.loaded.save_torch(&dir.join(WEIGHTS))?;
    }
    Ok(folder.loaded.save(&dir.join(SAFE_WEIGHTS))?)
}
