//! What lies where in a run folder's checkpoints.

/// Folder of a run that holds its checkpoints.
pub const CHECKPOINTS: &str = "checkpoints";
/// File that holds the weights.
pub const MODEL: &str = "model.safetensors";
/// File that holds the average of the weights, where there is one.
pub const EMA: &str = "ema.safetensors";
/// File that makes a folder a checkpoint; written last.
pub const STATE: &str = "state.json";
/// Name under which `--save-most-recent` keeps the newest checkpoint.
pub const LATEST: &str = "latest";
/// Name under which `--keep-best` keeps the best one.
pub const BEST: &str = "best";
/// File that holds the state of the optimizer, where there is one.
pub(super) const OPTIMIZER: &str = "optimizer.bpk";
