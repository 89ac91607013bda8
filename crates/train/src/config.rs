//! Everything that describes a training run; written to `params.json`.

use std::path::PathBuf;

use openclip_model::config::{Interpolation, ResizeMode};
use serde::{Deserialize, Serialize};

use crate::Precision;
use crate::optim::Settings;

/// Flags of `openclip train`, with OpenCLIP's names and defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct TrainConfig {
    pub train_data: Option<String>,
    pub train_data_upsampling_factors: Option<String>,
    pub val_data: Option<String>,
    pub train_num_samples: Option<u64>,
    pub val_num_samples: Option<u64>,
    pub dataset_type: String,
    pub dataset_resampled: bool,
    pub csv_separator: String,
    pub csv_img_key: String,
    pub csv_caption_key: String,
    pub imagenet_val: Option<PathBuf>,
    /// `{"classes": […], "templates": […]}` for `imagenet_val`; without it a folder of 1,000 classes gets ImageNet's.
    pub zeroshot_prompts: Option<PathBuf>,
    pub logs: PathBuf,
    pub name: Option<String>,
    pub workers: usize,
    pub batch_size: usize,
    pub epochs: u64,
    pub epochs_cooldown: Option<u64>,
    pub lr: f64,
    pub beta1: Option<f32>,
    pub beta2: Option<f32>,
    pub eps: Option<f32>,
    pub wd: f32,
    /// Patterns of keys without weight decay, beside those that never have it.
    pub wd_exclude: Vec<String>,
    pub opt: String,
    /// Settings of the optimizer under PyTorch's and timm's names.
    pub opt_kwargs: Settings,
    pub momentum: Option<f64>,
    pub image_layer_decay: Option<f64>,
    pub text_layer_decay: Option<f64>,
    pub warmup: u64,
    pub skip_scheduler: bool,
    pub lr_scheduler: String,
    pub lr_cooldown_end: f64,
    pub lr_cooldown_power: f64,
    pub save_frequency: u64,
    pub save_every_n_steps: Option<u64>,
    pub save_every_minutes: Option<f64>,
    pub save_most_recent: bool,
    pub delete_previous_checkpoint: bool,
    /// Checkpoints within epochs that stay.
    pub keep_last: Option<usize>,
    /// The metric whose best checkpoint is kept.
    pub keep_best: Option<String>,
    /// Object store that the run folder is copied to.
    pub remote_sync: Option<String>,
    /// Seconds between copies.
    pub remote_sync_frequency: u64,
    pub zeroshot_frequency: u64,
    pub val_frequency: u64,
    pub resume: Option<String>,
    pub precision: Precision,
    pub model: String,
    pub pretrained: Option<String>,
    pub image_mean: Option<[f32; 3]>,
    pub image_std: Option<[f32; 3]>,
    pub image_interpolation: Option<Interpolation>,
    pub image_resize_mode: Option<ResizeMode>,
    pub aug_scale: [f64; 2],
    pub aug_color_jitter: Option<[f64; 4]>,
    pub aug_color_jitter_prob: Option<f64>,
    pub aug_gray_scale_prob: Option<f64>,
    pub force_image_size: Option<Vec<usize>>,
    pub force_quick_gelu: bool,
    /// MLPs of native towers multiply 8-bit operands.
    pub int8_linear: bool,
    pub force_context_length: Option<usize>,
    pub force_patch_dropout: Option<f64>,
    pub force_custom_text: bool,
    pub lock_image: bool,
    pub lock_image_unlocked_groups: usize,
    pub lock_image_freeze_bn_stats: bool,
    pub lock_text: bool,
    pub lock_text_unlocked_layers: usize,
    pub lock_text_freeze_layer_norm: bool,
    pub coca_caption_loss_weight: f64,
    pub coca_contrastive_loss_weight: f64,
    /// SigLIP's pairwise sigmoid loss in place of CLIP's.
    pub siglip: bool,
    /// A model to learn from, and its weights.
    pub distill_model: Option<String>,
    pub distill_pretrained: Option<String>,
    pub accum_freq: usize,
    /// Blocks are computed again in the backward pass.
    pub grad_checkpointing: bool,
    /// BatchNorm's statistics are those of all ranks' batches.
    pub use_bn_sync: bool,
    pub device: String,
    pub report_to: String,
    pub wandb_project_name: String,
    pub wandb_notes: String,
    pub seed: u64,
    pub grad_clip_norm: Option<f32>,
    pub log_every_n_steps: u64,
    /// Steps in a row that are passed over before the run stops.
    pub max_bad_steps: u64,
    /// Standard deviations above the mean of the last steps from which a loss or gradient norm is passed over.
    pub skip_spikes: Option<f64>,
    /// How many steps those are.
    pub spike_window: usize,
    /// Decay of the average of the weights, where there is one.
    pub ema_decay: Option<f64>,
    /// Stop after this many optimizer steps, as if interrupted; for tests and benchmarks.
    pub max_steps: Option<u64>,
    pub cache_dir: Option<PathBuf>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            train_data: None,
            train_data_upsampling_factors: None,
            val_data: None,
            train_num_samples: None,
            val_num_samples: None,
            dataset_type: "auto".into(),
            dataset_resampled: false,
            csv_separator: "\t".into(),
            csv_img_key: "filepath".into(),
            csv_caption_key: "title".into(),
            imagenet_val: None,
            zeroshot_prompts: None,
            logs: "./logs/".into(),
            name: None,
            workers: 4,
            batch_size: 64,
            epochs: 32,
            epochs_cooldown: None,
            lr: 5e-4,
            beta1: None,
            beta2: None,
            eps: None,
            wd: 0.2,
            wd_exclude: Vec::new(),
            opt: "adamw".into(),
            opt_kwargs: Settings::new(),
            momentum: None,
            image_layer_decay: None,
            text_layer_decay: None,
            warmup: 10_000,
            skip_scheduler: false,
            lr_scheduler: "cosine".into(),
            lr_cooldown_end: 0.0,
            lr_cooldown_power: 1.0,
            save_frequency: 1,
            save_every_n_steps: None,
            save_every_minutes: None,
            save_most_recent: false,
            delete_previous_checkpoint: false,
            keep_last: None,
            keep_best: None,
            remote_sync: None,
            remote_sync_frequency: 300,
            zeroshot_frequency: 2,
            val_frequency: 1,
            resume: None,
            precision: Precision::Fp32,
            model: "RN50".into(),
            pretrained: None,
            image_mean: None,
            image_std: None,
            image_interpolation: None,
            image_resize_mode: None,
            aug_scale: [0.9, 1.0],
            aug_color_jitter: None,
            aug_color_jitter_prob: None,
            aug_gray_scale_prob: None,
            force_image_size: None,
            force_quick_gelu: false,
            int8_linear: false,
            force_context_length: None,
            force_patch_dropout: None,
            force_custom_text: false,
            lock_image: false,
            lock_image_unlocked_groups: 0,
            lock_image_freeze_bn_stats: false,
            lock_text: false,
            lock_text_unlocked_layers: 0,
            lock_text_freeze_layer_norm: false,
            coca_caption_loss_weight: 2.0,
            coca_contrastive_loss_weight: 1.0,
            siglip: false,
            distill_model: None,
            distill_pretrained: None,
            grad_checkpointing: false,
            use_bn_sync: false,
            accum_freq: 1,
            device: "auto".into(),
            report_to: String::new(),
            wandb_project_name: "open-clip".into(),
            wandb_notes: String::new(),
            seed: 0,
            grad_clip_norm: None,
            log_every_n_steps: 100,
            max_bad_steps: 20,
            skip_spikes: None,
            spike_window: 200,
            ema_decay: None,
            max_steps: None,
            cache_dir: None,
        }
    }
}

impl TrainConfig {
    /// Whether `--report-to` names `tool`: anywhere in its value, as in OpenCLIP, or by `all`.
    pub fn reports_to(&self, tool: &str) -> bool {
        self.report_to == "all" || self.report_to.contains(tool)
    }
}
