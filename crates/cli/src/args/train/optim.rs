//! Schedule and optimizer, and what is frozen.

use clap::{ArgAction, Args};
use openclip_train::optim::Settings;

use crate::args::literal;
use crate::error::Result;
use crate::output::note;

/// Schedule and optimizer.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Schedule and optimizer")]
pub struct OptimArgs {
    /// Passes over the training data
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub epochs: u64,
    /// Batches of --batch-size that make up one step
    ///
    /// Gives exactly the gradient of one batch of accum-freq × batch-size for the memory of one batch, in about twice
    /// the time per picture. A contrastive loss gains from large batches: aim at a few thousand.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub accum_freq: usize,
    /// Compute the blocks again in the backward pass in place of keeping their activations: less memory, more time
    ///
    /// Gradients stay the same. OpenCLIP's ResNets keep everything; these do not.
    #[arg(long)]
    pub grad_checkpointing: bool,
    /// Let BatchNorm normalise by the statistics of all ranks' batches together
    #[arg(long)]
    pub use_bn_sync: bool,
    /// Peak learning rate; 5e-4 suits batches of a few thousand, 1e-3 small models
    #[arg(long, default_value_t = 5e-4)]
    pub lr: f64,
    /// Steps over which the learning rate rises; take 5-10% of all steps when there are fewer than 100,000
    #[arg(long, value_name = "STEPS", default_value_t = 10_000)]
    pub warmup: u64,
    /// How the learning rate falls: cosine, const or const-cooldown
    #[arg(long, value_name = "NAME", default_value = "cosine")]
    pub lr_scheduler: String,
    /// Epochs at the end over which const-cooldown lowers the learning rate
    #[arg(long, value_name = "N")]
    pub epochs_cooldown: Option<u64>,
    /// Learning rate at the end of the cooldown
    #[arg(long, value_name = "LR", default_value_t = 0.0)]
    pub lr_cooldown_end: f64,
    /// Power of the cooldown's polynomial; 1 is a straight line
    #[arg(long, value_name = "POWER", default_value_t = 1.0)]
    pub lr_cooldown_power: f64,
    /// Keep the learning rate at --lr throughout
    #[arg(long)]
    pub skip_scheduler: bool,
    /// Weight decay of matrices; biases, norms and the logit scale have none
    #[arg(long, default_value_t = 0.2)]
    pub wd: f32,
    /// Keys of further parameters without weight decay, with * and ?: --wd-exclude '*positional_embedding'
    #[arg(long, value_name = "GLOB", num_args = 0.., action = ArgAction::Set)]
    pub wd_exclude: Vec<String>,
    /// Optimizer: adamw, nadamw, lion, lamb, adafactor, sgd or momentum; timm/NAME is the same with timm's defaults
    ///
    /// lion wants about a tenth of AdamW's learning rate and ten times its weight decay, and keeps one moment where AdamW keeps
    /// two; adafactor keeps almost none. lamb is for batches of tens of thousands.
    #[arg(long, value_name = "NAME", default_value = "adamw")]
    pub opt: String,
    /// Settings of the optimizer as key=value, under PyTorch's and timm's names: betas=(0.9,0.95) amsgrad=True
    ///
    /// Values are read as Python reads them. A setting that the optimizer does not have is refused.
    #[arg(long, value_name = "KEY=VALUE", num_args = 0.., action = ArgAction::Set)]
    pub opt_kwargs: Vec<String>,
    /// Decay of the first moment [default: 0.9]
    #[arg(long)]
    pub beta1: Option<f32>,
    /// Decay of the second moment [default for adamw: 0.98 for ViT models, else 0.999]
    #[arg(long)]
    pub beta2: Option<f32>,
    /// What is added to the divisor [default for adamw: 1e-6 for ViT models, else 1e-8]
    #[arg(long)]
    pub eps: Option<f32>,
    /// Momentum of sgd and momentum [default: 0.9]
    #[arg(long)]
    pub momentum: Option<f64>,
    /// Learning rate of each layer of the image tower over that of the next one; 0.65-0.9 keeps a pretrained tower near its weights
    #[arg(long, value_name = "FACTOR", visible_alias = "visual-layer-decay")]
    pub image_layer_decay: Option<f64>,
    /// Learning rate of each layer of the text tower over that of the next one
    #[arg(long, value_name = "FACTOR")]
    pub text_layer_decay: Option<f64>,
    /// Largest L2 norm of the whole gradient; 1.0 calms a run whose loss jumps
    #[arg(long, value_name = "NORM")]
    pub grad_clip_norm: Option<f32>,
    /// Begin the image tower with the weights that timm publishes for it, in most cases trained on ImageNet
    ///
    /// For towers of timm's, such as convnext_base or swin_base_patch4_window7_224, where --pretrained gives no weights of the whole
    /// model. They come from the Hugging Face hub (timm/NAME.TAG) or from ~/.cache/openclip/timm-NAME.TAG/model.safetensors.
    #[arg(long, help_heading = "Model")]
    pub pretrained_image: bool,
    /// Share of patches that is dropped in training; 0.5 halves the image tower's work at little loss
    #[arg(long, value_name = "SHARE")]
    pub force_patch_dropout: Option<f64>,
    /// OpenCLIP's name of --int8-linear
    #[arg(long, value_name = "NAME", hide = true,
        value_parser = ["SwitchBackLinearGlobal", "SwitchBackLinearGlobalMemEfficient"])]
    pub use_bnb_linear: Option<String>,
    /// Train with SigLIP's pairwise sigmoid loss; the logit scale starts at 10 and a logit bias at -10
    #[arg(long)]
    pub siglip: bool,
    /// Learn from this model too: its logits' distribution is a second target; needs --distill-pretrained
    #[arg(long, value_name = "MODEL")]
    pub distill_model: Option<String>,
    /// Weights of --distill-model
    #[arg(long, value_name = "TAG|FILE")]
    pub distill_pretrained: Option<String>,
    /// Weight of the captions' loss of a coca_* model
    #[arg(long, value_name = "WEIGHT", default_value_t = 2.0)]
    pub coca_caption_loss_weight: f64,
    /// Weight of the contrastive loss of a coca_* model; 0 leaves it out
    #[arg(long, value_name = "WEIGHT", default_value_t = 1.0)]
    pub coca_contrastive_loss_weight: f64,
    /// Seed of initial weights, order and augmentation
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Settings of PyTorch's optimizers that say how they compute, and not what.
const PYTORCH: [&str; 4] = ["foreach", "fused", "capturable", "differentiable"];

impl OptimArgs {
    /// `--opt-kwargs` as values.
    pub fn opt_kwargs(&self) -> Result<Settings> {
        let given = self.opt_kwargs.iter().filter(|given| !given.is_empty());
        let settings = given.map(|given| literal::setting("--opt-kwargs", given));
        let mut kept = Settings::new();
        for setting in settings {
            let (key, value) = setting?;
            match PYTORCH.contains(&key) {
                true => note(format!(
                    "--opt-kwargs {key} changes nothing: it concerns PyTorch alone"
                )),
                false => drop(kept.insert(key.to_owned(), value)),
            }
        }
        Ok(kept)
    }
}

/// What is not trained.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Freezing")]
pub struct LockArgs {
    /// Freeze the image tower; with --pretrained this is LiT, which trains captions to match a finished tower
    #[arg(long)]
    pub lock_image: bool,
    /// Leave the last N groups of the image tower's layers trainable: the projection, then block by block
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lock_image_unlocked_groups: usize,
    /// Keep the running statistics of BatchNorm in the frozen layers, and normalise by them
    #[arg(long)]
    pub lock_image_freeze_bn_stats: bool,
    /// Freeze the text tower
    #[arg(long)]
    pub lock_text: bool,
    /// Leave the last N layers of the text tower trainable
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub lock_text_unlocked_layers: usize,
    /// Freeze the LayerNorms of RoBERTa's frozen layers as well; other towers' always are
    #[arg(long)]
    pub lock_text_freeze_layer_norm: bool,
}
