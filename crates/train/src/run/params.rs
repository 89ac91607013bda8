//! `params.json`: the flags of a run, and what a continuation changed.

use std::fs;
use std::path::Path;

use openclip_model::files::atomic;
use serde_json::Value;

use super::setup;
use crate::journal::Journal;
use crate::optim::Algorithm;
use crate::{TrainConfig, TrainError};

const PARAMS: &str = "params.json";

/// The configuration with the values that stand in for absent flags.
fn filled(config: &TrainConfig) -> TrainConfig {
    let algorithm = setup::optim(config).map(|optim| optim.algorithm).ok();
    let betas = algorithm.as_ref().and_then(Algorithm::betas);
    TrainConfig {
        beta1: betas.map(|betas| betas[0]),
        beta2: betas.map(|betas| betas[1]),
        eps: algorithm.as_ref().and_then(Algorithm::eps),
        ..config.clone()
    }
}

/// `params.json`: every flag, with the values that stand in for absent ones.
pub(super) fn write(config: &TrainConfig, dir: &Path) -> Result<(), TrainError> {
    let path = dir.join(PARAMS);
    let filled = filled(config);
    let write = || -> std::io::Result<()> {
        let mut json = serde_json::to_vec_pretty(&filled)?;
        json.push(b'\n');
        atomic::write(&path, json)
    };
    write().map_err(|source| TrainError::Write {
        path: path.clone(),
        source,
    })
}

/// Flags that may differ between a run and its continuation without changing what it computes.
const HARMLESS: &[&str] = &[
    "resume",
    "name",
    "logs",
    "workers",
    "max_skip",
    "log_every_n_steps",
    "save_frequency",
    "save_every_n_steps",
    "save_every_minutes",
    "save_most_recent",
    "delete_previous_checkpoint",
    "keep_last",
    "keep_best",
    "remote_sync",
    "remote_sync_frequency",
    "report_to",
    "max_steps",
    "device",
    "single_process",
    "pretrained_image",
];

/// A resumed run with other flags is no longer the run it was; the user should know.
pub(super) fn warn_of_changes(
    config: &TrainConfig,
    dir: &Path,
    resumed: bool,
    journal: &mut Journal,
) {
    let path = dir.join(PARAMS);
    let old = path.is_file().then(|| fs::read(path).ok()).flatten();
    let old: Option<TrainConfig> = old.and_then(|json| serde_json::from_slice(&json).ok());
    let (Some(old), true) = (old, resumed) else {
        return;
    };
    let [Ok(Value::Object(old)), Ok(Value::Object(new))] = [
        serde_json::to_value(old),
        serde_json::to_value(filled(config)),
    ] else {
        return;
    };
    for (flag, value) in new
        .iter()
        .filter(|(flag, _)| !HARMLESS.contains(&flag.as_str()))
    {
        if let Some(before) = old.get(flag).filter(|before| *before != value) {
            journal.warn(format!(
                "--{} was {before} and is now {value}",
                flag.replace('_', "-")
            ));
        }
    }
}
