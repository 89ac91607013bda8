//! `classify`.

use std::path::PathBuf;

use clap::Args;

use super::data::PictureArgs;
use super::json::JsonArgs;
use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `classify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints, for every picture, the softmax over 100 times the cosine between picture and captions.

Examples:
  openclip classify --model ViT-B-32 --pretrained ViT-B-32.safetensors \\
      --image cat.jpg dog.png --text 'a photo of a cat' 'a photo of a dog'
  openclip classify --model local-dir:./clip --image cat.jpg --text 'a cat' 'a dog' --json")]
pub struct ClassifyArgs {
    /// Pictures: JPEG, PNG, WebP, GIF, AVIF, TIFF, BMP, PPM, JPEG 2000, ICO, TGA and more
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub image: Vec<PathBuf>,
    /// Captions to choose from; whole phrases like 'a photo of a cat' work better than single words
    #[arg(long, value_name = "TEXT", num_args = 1.., required = true)]
    pub text: Vec<String>,
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
}
