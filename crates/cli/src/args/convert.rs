//! `convert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use openclip_model::onnx::Part;

use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `convert`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip convert --model ViT-B-32 --pretrained clip.pt --output clip.safetensors
  openclip convert --model ViT-B-32 --pretrained clip.pt --output clip/
      a folder for --model local-dir:clip here, open_clip's `local-dir:` in Python, or the Hugging Face hub
  openclip convert --model ViT-B-32 --pretrained clip.safetensors --output clip.pt
      a plain state dict, for torch.load(..., weights_only=True)
  openclip convert --model ViT-B-32 --pretrained clip.pt --output clip.onnx
      both towers for ONNX's runtimes, with batches of any size; --part image writes one alone
  openclip convert --model ViT-S-32 --seed 1 --output start.safetensors
      without weights: random ones, as training starts with")]
pub struct ConvertArgs {
    /// OUT.safetensors (OpenCLIP's keys), OUT.pt (PyTorch's state dict), OUT.onnx, OUT.bpk (Burn's record), or a folder for the hub's layout
    ///
    /// An .onnx file has the operators of opset 17. Its inputs are `image`, normalised pixels, and `text`, token ids; its outputs are
    /// features of unit length, image_features and text_features, and logits_per_image. Weights of more than 2 GB go to OUT.onnx.data.
    /// The weights are written as they are computed with: in 32 bits, or in 16 with --precision pure_bf16 or pure_fp16.
    #[arg(long, value_name = "OUT")]
    pub output: PathBuf,
    /// Which tower an .onnx file has [default: both]
    #[arg(
        long,
        value_enum,
        value_name = "image|text|both",
        hide_possible_values = true
    )]
    pub part: Option<PartFlag>,
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

/// A value of `--part`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartFlag {
    /// The image tower.
    Image,
    /// The text tower.
    Text,
    /// Both, and how alike their features are.
    Both,
}

impl From<PartFlag> for Part {
    fn from(flag: PartFlag) -> Self {
        match flag {
            PartFlag::Image => Self::Image,
            PartFlag::Text => Self::Text,
            PartFlag::Both => Self::Both,
        }
    }
}
