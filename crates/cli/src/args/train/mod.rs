//! `train`: every flag of OpenCLIP's trainer, under its name and with its default.
//!
//! * [`run`] – data, run folder, checkpoints, logging
//! * [`optim`] – schedule and optimizer
//! * [`augment`] – augmentation
//! * [`foreign`] – flags that are accepted without effect, and flags of features that are not built yet

pub mod augment;
#[cfg(test)]
mod defaults;
pub mod foreign;
pub mod optim;
pub mod run;

use clap::Args;

use super::data::{DataFormatArgs, LoaderArgs, PictureArgs, ValidationArgs};
use super::model::{ModelArgs, PreprocessArgs};
use foreign::ForeignFlags;

/// OpenCLIP's default for `--model`.
pub const DEFAULT_MODEL: &str = "RN50";

/// Flags of `train`.
#[derive(Debug, Args)]
#[command(args_override_self = true, infer_long_args = true)]
#[command(after_help = "\
Flags and defaults are those of `python -m open_clip_train.main`, whose command lines work here as they are.

Examples:
  openclip train --model ViT-S-32 --train-data pairs.csv --csv-img-key path --csv-caption-key caption \\
      --batch-size 256 --lr 1e-3 --warmup 500 --epochs 10 --logs runs --name first
  openclip train --model ViT-B-32 --train-data 'shards/{00000..00331}.tar' --train-num-samples 3318333 \\
      --batch-size 128 --accum-freq 8 --precision amp_bf16
  openclip train --model ViT-S-32 --train-data pairs.csv --logs runs --name first --resume latest

Ctrl-C saves a checkpoint and ends with status 3; the same command line with --resume latest goes on exactly there.")]
pub struct TrainArgs {
    /// Training data.
    #[command(flatten)]
    pub data: run::TrainDataArgs,
    /// Columns and kinds.
    #[command(flatten)]
    pub format: DataFormatArgs,
    /// Batches and threads.
    #[command(flatten)]
    pub loader: LoaderArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Schedule and optimizer.
    #[command(flatten)]
    pub optim: optim::OptimArgs,
    /// Freezing.
    #[command(flatten)]
    pub lock: optim::LockArgs,
    /// Run folder and checkpoints.
    #[command(flatten)]
    pub run: run::RunArgs,
    /// Validation data.
    #[command(flatten)]
    pub validation: ValidationArgs,
    /// When to validate.
    #[command(flatten)]
    pub frequency: run::FrequencyArgs,
    /// Preprocessing.
    #[command(flatten)]
    pub preprocess: PreprocessArgs,
    /// The limit of pictures.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Augmentation.
    #[command(flatten)]
    pub augment: augment::AugmentArgs,
    /// Flags without a place of their own.
    #[command(flatten)]
    pub foreign: ForeignFlags,
}
