//! `models` and `info`.

use clap::Args;

use super::json::JsonArgs;
use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `models`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip models
  openclip models --pretrained          what --pretrained TAG may be, and where the weights come from
  openclip models --json")]
pub struct ModelsArgs {
    /// List the published weights by model and tag instead
    #[arg(long)]
    pub pretrained: bool,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
}

/// Flags of `info`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip info --model ViT-L-14
  openclip info --model ViT-B-32 --pretrained clip.pt   reads the weights and checks that they fit")]
pub struct InfoArgs {
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Its preprocessing.
    #[command(flatten)]
    pub preprocess: PreprocessArgs,
}
