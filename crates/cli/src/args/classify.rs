//! `classify`.

use std::path::PathBuf;

use clap::Args;

use super::data::PictureArgs;
use super::json::JsonArgs;
use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `classify`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints, for every picture, how the captions compare: the softmax over 100 times the cosine between picture and caption.
One caption alone gets its cosine. A SigLIP model says of each caption as well how likely it is by itself (sigmoid).
--json has for every caption its cosine, the model's own logit (scale x cosine + bias), prob (the softmax) and, of a
SigLIP model, sigmoid. A picture that cannot be read is an error on stderr, the others are answered, and the exit
status is 1.

Examples:
  openclip classify --model ViT-B-32 --pretrained ViT-B-32.safetensors \\
      --image cat.jpg dog.png --text 'a photo of a cat' 'a photo of a dog'
  openclip classify --model local-dir:./clip --image photos/ --texts labels.txt --json")]
pub struct ClassifyArgs {
    /// Pictures (JPEG, PNG, WebP, GIF, AVIF, TIFF, BMP, PPM, JPEG 2000, ICO, TGA and more), folders of pictures with all below
    /// them, or - for standard input
    #[arg(long, value_name = "FILE|DIR", num_args = 1.., required = true)]
    pub image: Vec<PathBuf>,
    /// Captions to choose from; whole phrases like 'a photo of a cat' work better than single words
    ///
    /// A caption that looks like a flag is written --text=-caption.
    #[arg(long, value_name = "TEXT", num_args = 1.., required_unless_present = "texts")]
    pub text: Vec<String>,
    /// A text file with one caption a line, behind those of --text; blank lines are passed over
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
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
