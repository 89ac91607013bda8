//! `convert`.

use std::path::PathBuf;

use clap::Args;

use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `convert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip convert --model ViT-B-32 --pretrained clip.pt --output clip.safetensors
  openclip convert --model ViT-B-32 --pretrained clip.pt --output clip/
      a folder for --model local-dir:clip here, open_clip's `local-dir:` in Python, or the Hugging Face hub
  openclip convert --model ViT-S-32 --seed 1 --output start.safetensors
      without weights: random ones, as training starts with")]
pub struct ConvertArgs {
    /// OUT.safetensors (OpenCLIP's keys), OUT.bpk (Burn's record), or a folder for the hub's layout
    #[arg(long, value_name = "OUT")]
    pub output: PathBuf,
    /// Seed of random weights, where none are given
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Its preprocessing.
    #[command(flatten)]
    pub preprocess: PreprocessArgs,
}
