//! `finetune` and `interpolate`.

use std::path::PathBuf;

use clap::{Arg, Args};

use super::data::PictureArgs;
use super::model::ModelArgs;
use super::train::TrainArgs;

/// Flags of `finetune`: those of `train`, of which some have other defaults and some say nothing here.
#[derive(Debug, Args)]
#[command(args_override_self = true, infer_long_args = true)]
#[command(after_help = "\
The classifier starts as what the class names say (zero-shot), and learns with the image tower, or alone. Checkpoints load as \
--pretrained of every command; the classifier lies beside the weights as head.safetensors. Flags are those of `openclip train`.

Examples:
  openclip finetune --model ViT-B-32 --pretrained laion2b_s34b_b79k --train-data birds/train --val-data birds/val \\
      --batch-size 128 --epochs 10 --name birds
  openclip finetune --model ViT-B-32 --pretrained clip.pt --train-data birds/train --head-only --lr 1e-3
  openclip finetune --model ViT-L-14 --pretrained clip.pt --train-data birds/train --lora 8 --lr 1e-4
  openclip interpolate clip.pt logs/birds/checkpoints/epoch_10 --model ViT-B-32 --eval birds/val --output between
      models between the two are often better than either, above all on other pictures (WiSE-FT)")]
pub struct FinetuneArgs {
    /// The classifier.
    #[command(flatten)]
    pub head: HeadArgs,
    /// Everything else.
    #[command(flatten)]
    pub train: TrainArgs,
}

/// What learns.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Classifier")]
pub struct HeadArgs {
    /// Let the classifier learn alone, on features as they are
    #[arg(long)]
    pub head_only: bool,
    /// Let the image tower learn through adapters of this rank alone, in its attention and MLPs (LoRA)
    ///
    /// 4 to 16 do for most. A checkpoint has the adapters by themselves and merged into the weights.
    #[arg(long, value_name = "RANK")]
    pub lora: Option<usize>,
    /// What adapters count, over their rank [default: twice the rank]
    #[arg(long, value_name = "ALPHA", requires = "lora")]
    pub lora_alpha: Option<f64>,
    /// Share of a label that is spread over all classes, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    pub label_smoothing: f64,
}

/// Defaults of fine-tuning where they are not those of training: the paper's, but for the batch.
const DEFAULTS: [(&str, &str); 5] = [
    ("lr", "3e-5"),
    ("wd", "0.1"),
    ("epochs", "10"),
    ("warmup", "500"),
    ("batch_size", "128"),
];

/// Flags of training that say nothing about pictures in folders of classes.
const HIDDEN: [&str; 32] = [
    "train_num_samples",
    "dataset_resampled",
    "train_data_upsampling_factors",
    "val_num_samples",
    "dataset_type",
    "csv_separator",
    "csv_img_key",
    "csv_caption_key",
    "image_key",
    "text_key",
    "json_text_key",
    "json_text_key_probs",
    "imagenet_val",
    "imagenet_v2",
    "zeroshot_frequency",
    "siglip",
    "distill_model",
    "distill_pretrained",
    "coca_caption_loss_weight",
    "coca_contrastive_loss_weight",
    "lock_text",
    "lock_text_unlocked_layers",
    "lock_text_freeze_layer_norm",
    "text_layer_decay",
    "pretrained_image",
    "ema_decay",
    "dry_run",
    "device_memory",
    "world_size",
    "config",
    "use_bnb_linear",
    "int8_linear",
];

/// The command with what is its own.
pub fn settled(command: clap::Command) -> clap::Command {
    let command = DEFAULTS.into_iter().fold(command, |command, (id, value)| {
        command.mut_arg(id, |arg| arg.default_value(value))
    });
    let hide = |arg: Arg| arg.hide(true);
    let command = HIDDEN
        .into_iter()
        .fold(command, |command, id| command.mut_arg(id, hide));
    command
        .mut_arg("model", |arg| arg.required(true))
        .mut_arg("train_data", |arg| {
            arg.help("Labelled pictures: a folder with a folder for each class")
                .value_name("FOLDER")
                .required(true)
        })
        .mut_arg("val_data", |arg| {
            arg.help("The same to be measured on, between epochs")
                .value_name("FOLDER")
        })
        .mut_arg("val_frequency", |arg| {
            arg.help("Epochs between measurements of --val-data; 0 never")
        })
        .mut_arg("zeroshot_prompts", |arg| {
            arg.help("Class names and templates, as {\"classes\": […], \"templates\": […]} [default: the folders' names, ImageNet's templates]")
        })
        .mut_arg("keep_best", |arg| {
            arg.help("Keep the checkpoint with the best METRIC as `best`, such as val-top1")
        })
}

/// Flags of `interpolate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  openclip interpolate clip.pt logs/birds/checkpoints/epoch_10 --model ViT-B-32 --eval birds/val sketches/val --output between
      writes between/alpha-0.5/ and its like, between/curve.csv and between/curve.svg
  openclip interpolate clip.pt tuned.pt --model ViT-B-32 --alpha 0.5 --output middle")]
pub struct InterpolateArgs {
    /// Weights of alpha 0, such as those before fine-tuning: a file, a folder or a tag
    #[arg(value_name = "A")]
    pub first: String,
    /// Weights of alpha 1; a folder with head.safetensors brings its classifier
    #[arg(value_name = "B")]
    pub second: String,
    /// Shares of B, separated by commas
    #[arg(long, value_name = "SHARES", value_delimiter = ',', num_args = 1.., default_value = "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1")]
    pub alpha: Vec<f64>,
    /// Labelled pictures to measure each on, folders with a folder for each class
    #[arg(long, value_name = "FOLDER", num_args = 1..)]
    pub eval: Vec<PathBuf>,
    /// Class names and templates, where B has no classifier
    #[arg(long, value_name = "FILE.json")]
    pub zeroshot_prompts: Option<PathBuf>,
    /// Where the weights go, a folder for each alpha, and what was measured
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Write what was measured alone, and no weights
    #[arg(long, requires = "output", requires = "eval")]
    pub no_weights: bool,
    /// Pictures that go through the model together
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch_size: usize,
    /// Threads that decode [default: number of cores]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The limit of pictures.
    #[command(flatten)]
    pub pictures: PictureArgs,
}
