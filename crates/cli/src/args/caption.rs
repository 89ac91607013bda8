//! `caption`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::data::PictureArgs;
use super::json::JsonArgs;
use super::model::{ModelArgs, PreprocessArgs};

/// Flags of `caption`.
#[derive(Debug, Args)]
#[command(after_help = "\
Only a CoCa model has a decoder that writes captions: coca_ViT-B-32, coca_ViT-L-14 or coca_base.
A picture that cannot be read is an error on stderr, the others get their captions, and the exit status is 1.

Examples:
  openclip caption --model coca_ViT-L-14 --pretrained coca.safetensors --image cat.jpg dog.png
  openclip caption --model coca_ViT-B-32 --pretrained coca.pt --image cat.jpg --beams 12 --beam-groups 1 --log-softmax
  openclip caption --model local-dir:./coca --image cat.jpg --generation top_p --top-p 0.9 --seed 7 --json")]
pub struct CaptionArgs {
    /// Pictures (JPEG, PNG, WebP, GIF, AVIF, TIFF, BMP, PPM, JPEG 2000, ICO, TGA and more), folders of pictures with all below
    /// them, or - for standard input
    #[arg(long, value_name = "FILE|DIR", num_args = 1.., required = true)]
    pub image: Vec<PathBuf>,
    /// How the next word is chosen: beam search keeps the best few captions, the others draw from the likeliest words
    #[arg(long, value_enum, default_value = "beam_search", value_name = "KIND")]
    pub generation: Generation,
    /// Captions that beam search keeps; more are slower and not always better
    #[arg(
        long,
        default_value_t = 6,
        value_name = "N",
        visible_alias = "num-beams"
    )]
    pub beams: usize,
    /// Groups of beams that search apart; must divide the beams
    #[arg(
        long,
        default_value_t = 3,
        value_name = "N",
        visible_alias = "num-beam-groups"
    )]
    pub beam_groups: usize,
    /// Beam search by log-probabilities, as it is meant; without it by raw logits, as OpenCLIP 2.29 does
    #[arg(long)]
    pub log_softmax: bool,
    /// Words that --generation top_k draws from
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub top_k: usize,
    /// Probability that the words --generation top_p draws from have together
    #[arg(long, default_value_t = 0.1, value_name = "SHARE")]
    pub top_p: f32,
    /// Divides the logits before a draw: below 1 safer, above 1 wilder
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER")]
    pub temperature: f32,
    /// Above 1 makes words that the caption already has less likely
    #[arg(long, default_value_t = 1.0, value_name = "NUMBER")]
    pub repetition_penalty: f32,
    /// Most tokens of a caption, start and end included [default: 30, or the model's context if that is shorter]
    #[arg(long, value_name = "N")]
    pub seq_len: Option<usize>,
    /// Fewest tokens before the end
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub min_seq_len: usize,
    /// Beginning of every caption
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Makes draws repeatable
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
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

/// How the next word is chosen; OpenCLIP's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Generation {
    /// The best captions of a search.
    BeamSearch,
    /// Drawn from the likeliest words.
    TopK,
    /// Drawn from the words that have a share of the probability.
    TopP,
}
