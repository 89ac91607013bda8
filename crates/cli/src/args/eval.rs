//! `eval`.

use std::path::PathBuf;

use clap::Args;

use super::data::{DataFormatArgs, LoaderArgs, PictureArgs, ValidationArgs};
use super::json::JsonArgs;
use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `eval`.
#[derive(Debug, Args)]
#[command(after_help = "\
Retrieval is measured by two rules, which differ where several rows of --val-data have one picture (the same path):
  image_to_text_*, text_to_image_*             OpenCLIP's: row i matches row i, every other row is wrong
  text_retrieval_recall@K                      CLIP_benchmark's: any caption of the picture is right
  image_retrieval_recall@K                     CLIP_benchmark's: the caption's picture is right
Exit status 1 also says that weights or scores are not finite.

Examples:
  openclip eval --model ViT-B-32 --pretrained clip.pt --val-data val.csv
  openclip eval --model ViT-B-32 --pretrained clip.pt --imagenet-val imagenet/val
  openclip eval --model ViT-B-32 --pretrained clip.pt --json \\
      --zeroshot pets/ --templates templates.txt")]
pub struct EvalArgs {
    /// Captioned pictures and ImageNet.
    #[command(flatten)]
    pub data: ValidationArgs,
    /// Zero-shot classification of other pictures.
    #[command(flatten)]
    pub zero_shot: ZeroShotArgs,
    /// Form of the output.
    #[command(flatten)]
    pub json: JsonArgs,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Its preprocessing.
    #[command(flatten)]
    pub preprocess: PreprocessArgs,
    /// The limit of pictures.
    #[command(flatten)]
    pub pictures: PictureArgs,
    /// Columns and kinds.
    #[command(flatten)]
    pub format: DataFormatArgs,
    /// Batches and threads.
    #[command(flatten)]
    pub loader: LoaderArgs,
}

/// Zero-shot classification of labelled pictures.
#[derive(Debug, Args)]
#[command(next_help_heading = "Zero-shot data")]
pub struct ZeroShotArgs {
    /// Labelled pictures, one folder per class
    #[arg(long, value_name = "DIR")]
    pub zeroshot: Option<PathBuf>,
    /// Class names in the order of the sorted folders: one a line, or JSON
    ///
    /// Without it the folders' names are the classes' names.
    #[arg(long, value_name = "FILE", requires = "zeroshot")]
    pub classes: Option<PathBuf>,
    /// Prompt templates with {} where the class name goes: one a line, or JSON [default: ImageNet's 80]
    #[arg(long, value_name = "FILE", requires = "zeroshot")]
    pub templates: Option<PathBuf>,
}
