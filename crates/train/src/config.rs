//! Everything that describes a training run; written to `params.json`.

use std::path::PathBuf;

use openclip_data::image::Limits;
use openclip_data::loader::default_workers;
use openclip_data::source::keys::IMAGE_KEY;
use openclip_eval::validation::Due;
use openclip_model::config::{Interpolation, ResizeMode};
use serde::{Deserialize, Serialize};

use crate::Precision;
use crate::finetune::Finetune;
use crate::optim::Settings;

/// Flags of `openclip train`, with OpenCLIP's names and defaults: `batch_size` is `--batch-size`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrainConfig {
    /// Captioned pictures: a CSV file, or tar shards, several joined by `::`. `None` (default): nothing is trained, but for a synthetic set.
    pub train_data: Option<String>,
    /// How often each part of `train_data` is drawn, such as `1::3`, with `dataset_resampled`. `None` (default): all alike.
    pub train_data_upsampling_factors: Option<String>,
    /// Captioned pictures for retrieval and the validation loss, in the forms of `train_data`. `None` (default): neither is measured.
    pub val_data: Option<String>,
    /// Samples of an epoch, over all ranks. `None` (default): as many as the data has.
    pub train_num_samples: Option<u64>,
    /// Pairs of `val_data`, for the progress display and the length of a synthetic set. `None` (default): unknown.
    pub val_num_samples: Option<u64>,
    /// `webdataset`, `csv`, `parquet`, `arrow`, `coco`, `flickr`, `folder`, `synthetic` or `auto`, which goes by the name. Default: `auto`.
    pub dataset_type: String,
    /// Shards are drawn with replacement. Default: no, every shard once in a pass.
    pub dataset_resampled: bool,
    /// The character between the columns of a CSV file. Default: a tab.
    pub csv_separator: String,
    /// The column of pictures, or of their paths or addresses. `None` (default): the first there is of the usual names.
    pub csv_img_key: Option<String>,
    /// The column of captions. `None` (default): the first there is of the usual names.
    pub csv_caption_key: Option<String>,
    /// Suffixes of the members of shards that hold pictures, separated by `;`, of which the earliest wins. Default:
    /// `jpg;png;jpeg;webp`.
    pub image_key: String,
    /// The same of members that hold captions. `None` (default): `txt`, else the `caption` of a `.json`.
    pub text_key: Option<String>,
    /// Fields of the `.json` members of shards that hold captions, in place of `text_key`. `None` (default): they are not looked at.
    pub json_text_key: Option<String>,
    /// Weights by which these fields are drawn. Default: none, the earliest that has a text wins.
    pub json_text_key_probs: Vec<f64>,
    /// Share of the training samples, in 0..1, that may be bad; looked at after 1,000 of them. Default: 0.5.
    pub max_skip: f64,
    /// Labelled pictures, one folder for each class, for zero-shot accuracy. `None` (default): it is not measured.
    pub imagenet_val: Option<PathBuf>,
    /// ImageNet-V2, in folders named by the numbers of the classes. `None` (default): it is not measured.
    pub imagenet_v2: Option<PathBuf>,
    /// `{"classes": […], "templates": […]}` for `imagenet_val`. `None` (default): a folder of 1,000 classes gets ImageNet's, any other its
    /// folders' names.
    pub zeroshot_prompts: Option<PathBuf>,
    /// The folder of all runs; `none` keeps nothing of the run. Default: `./logs/`.
    pub logs: PathBuf,
    /// The run's folder within `logs`. `None` (default): made of date, model and main settings.
    pub name: Option<String>,
    /// Threads of each rank that decode. Default: as many as there are cores.
    pub workers: usize,
    /// Pictures of more pixels are refused; 0 sets no limit. Default: 178,956,970, as Pillow.
    pub max_image_pixels: usize,
    /// Pairs of each rank that go through the model together. Default: 64.
    pub batch_size: usize,
    /// Passes of `train_num_samples`. Default: 32.
    pub epochs: u64,
    /// Epochs at the end over which `const-cooldown` lowers the learning rate, which needs it. Default: `None`.
    pub epochs_cooldown: Option<u64>,
    /// Peak learning rate. Default: 5e-4.
    pub lr: f64,
    /// Decay of the first moment. `None` (default): the optimizer's own, 0.9 for AdamW.
    pub beta1: Option<f32>,
    /// Decay of the second moment. `None` (default): the optimizer's own; for AdamW 0.98 where the model's name has `vit`, else 0.999.
    pub beta2: Option<f32>,
    /// What is added to the divisor. `None` (default): the optimizer's own; for AdamW 1e-6 where the model's name has `vit`, else 1e-8.
    pub eps: Option<f32>,
    /// Weight decay, of matrices alone. Default: 0.2.
    pub wd: f32,
    /// Patterns, with `*` and `?`, of keys without weight decay beside those that never have it. Default: none.
    pub wd_exclude: Vec<String>,
    /// Name of the optimizer: `adamw`, `nadamw`, `lion`, `lamb`, `adafactor`, `sgd` or `momentum`, or one of these as `timm/NAME`.
    /// Default: `adamw`.
    pub opt: String,
    /// Settings of the optimizer under PyTorch's and timm's names. Default: none.
    pub opt_kwargs: Settings,
    /// Momentum of `sgd` and `momentum`. `None` (default): 0.9.
    pub momentum: Option<f64>,
    /// Learning rate of each layer of the image tower over that of the next one. `None` (default): all alike.
    pub image_layer_decay: Option<f64>,
    /// The same of the text tower. `None` (default): all alike.
    pub text_layer_decay: Option<f64>,
    /// Optimizer steps over which the learning rate rises. Default: 10,000.
    pub warmup: u64,
    /// The learning rate is `lr` throughout. Default: no.
    pub skip_scheduler: bool,
    /// How the learning rate falls: `cosine`, `const` or `const-cooldown`. Default: `cosine`.
    pub lr_scheduler: String,
    /// Learning rate at the end of the cooldown. Default: 0.
    pub lr_cooldown_end: f64,
    /// Power of the cooldown's polynomial; 1 is a straight line. Default: 1.
    pub lr_cooldown_power: f64,
    /// Epochs between checkpoints; 0 saves the last alone. Default: 1.
    pub save_frequency: u64,
    /// Optimizer steps between checkpoints within an epoch. `None` (default): none.
    pub save_every_n_steps: Option<u64>,
    /// Minutes between checkpoints within an epoch. `None` (default): none.
    pub save_every_minutes: Option<f64>,
    /// The end of every epoch is kept as `latest`. Default: no.
    pub save_most_recent: bool,
    /// Only the newest checkpoint of an epoch's end stays, and the newest within epochs. Default: all stay.
    pub delete_previous_checkpoint: bool,
    /// Checkpoints within epochs that stay. `None` (default): all.
    pub keep_last: Option<usize>,
    /// The metric whose best checkpoint is kept as `best`, under its name in `results.jsonl`. `None` (default): none is.
    pub keep_best: Option<String>,
    /// Address of the object store, or the folder, that the run folder is copied to. `None` (default): it is not copied.
    pub remote_sync: Option<String>,
    /// Seconds between copies. Default: 300.
    pub remote_sync_frequency: u64,
    /// Epochs between measurements of `imagenet_val` and `imagenet_v2`; 0 never. Default: 2.
    pub zeroshot_frequency: u64,
    /// Epochs between measurements of `val_data`; 0 never. Default: 1.
    pub val_frequency: u64,
    /// A checkpoint folder, a training checkpoint of OpenCLIP's, a weights file, an address of one of these in an object store, or
    /// `latest`. `None` (default): a new run.
    pub resume: Option<String>,
    /// Width of the numbers. `None` (default): what suits the device, [`Precision::of_device`].
    pub precision: Option<Precision>,
    /// A built-in name, a `.json` configuration, `local-dir:DIR` or `hf-hub:ORG/NAME`. Default: `RN50`.
    pub model: String,
    /// Weights to begin with: a file, a tag or an address. `None` (default): random ones, or those that the model's folder brings.
    pub pretrained: Option<String>,
    /// The image tower begins with timm's published weights where `pretrained` names none. Default: no.
    pub pretrained_image: bool,
    /// Mean of the channels, in 0..1. `None` (default): what belongs to the weights, else OpenAI's.
    pub image_mean: Option<[f32; 3]>,
    /// Standard deviation of the channels, in 0..1. `None` (default): as `image_mean`.
    pub image_std: Option<[f32; 3]>,
    /// Filter of evaluation. `None` (default): what belongs to the weights, else bicubic.
    pub image_interpolation: Option<Interpolation>,
    /// What evaluation does with pictures that are not square. `None` (default): what belongs to the weights, else the shorter side
    /// counts.
    pub image_resize_mode: Option<ResizeMode>,
    /// Least and greatest share of a picture's area that a random cut keeps. Default: 0.9 and 1.
    pub aug_scale: [f64; 2],
    /// JPEGs are decoded no further than a training picture needs, which changes pixels by less than 1/255 in the mean. Default: no.
    pub fast_decode: bool,
    /// Augment as timm's `create_transform` does, in the filter of `image_interpolation`. Default: no.
    pub aug_use_timm: bool,
    /// Least and greatest ratio of a cut's width to its height; timm's alone. `None` (default): 3/4 and 4/3.
    pub aug_ratio: Option<[f64; 2]>,
    /// Probability that rectangles of a picture become noise, in 0..1; timm's alone. `None` (default): 0.
    pub aug_re_prob: Option<f64>,
    /// Most rectangles that become noise; timm's alone. `None` (default): 1.
    pub aug_re_count: Option<usize>,
    /// Strength of changes of brightness, contrast, saturation and hue. `None` (default): colours stay.
    pub aug_color_jitter: Option<[f64; 4]>,
    /// Probability of such a change, in 0..1. `None` (default): 0; timm's augmentation changes every picture.
    pub aug_color_jitter_prob: Option<f64>,
    /// Probability that a picture loses its colours, in 0..1; not timm's. `None` (default): 0.
    pub aug_gray_scale_prob: Option<f64>,
    /// Another size of the pictures in pixels: one number, or height and width. `None` (default): the model's own.
    pub force_image_size: Option<Vec<usize>>,
    /// QuickGELU, or GELU, whatever configuration and weights say. `None` (default): what these say.
    pub force_quick_gelu: Option<bool>,
    /// MLPs of native towers multiply 8-bit operands. Default: no.
    pub int8_linear: bool,
    /// Another number of tokens of a caption. `None` (default): the model's own.
    pub force_context_length: Option<usize>,
    /// Share of the patches that training drops, in 0..1. `None` (default): the model's own.
    pub force_patch_dropout: Option<f64>,
    /// The text tower's keys lie under `text.`, whatever the configuration says. Default: no.
    pub force_custom_text: bool,
    /// The image tower is frozen. Default: no.
    pub lock_image: bool,
    /// Groups of layers, counted from the output, that a locked image tower leaves trainable. Default: 0.
    pub lock_image_unlocked_groups: usize,
    /// Frozen layers keep the running statistics of BatchNorm and normalise by them. Default: no.
    pub lock_image_freeze_bn_stats: bool,
    /// The text tower is frozen. Default: no.
    pub lock_text: bool,
    /// Layers, counted from the output, that a locked text tower leaves trainable. Default: 0.
    pub lock_text_unlocked_layers: usize,
    /// LayerNorms of RoBERTa's frozen layers are frozen as well. Default: no.
    pub lock_text_freeze_layer_norm: bool,
    /// Weight of the captions' loss, of a model that writes captions. Default: 2.
    pub coca_caption_loss_weight: f64,
    /// Weight of its contrastive loss; 0 leaves it out. Default: 1.
    pub coca_contrastive_loss_weight: f64,
    /// SigLIP's pairwise sigmoid loss in place of CLIP's. Default: no.
    pub siglip: bool,
    /// A model to learn from. `None` (default): there is no teacher.
    pub distill_model: Option<String>,
    /// The teacher's weights, as `pretrained`; goes with `distill_model`. Default: `None`.
    pub distill_pretrained: Option<String>,
    /// Batches of `batch_size` that make up one optimizer step. Default: 1.
    pub accum_freq: usize,
    /// Blocks are computed again in the backward pass. Default: no, their activations are kept.
    pub grad_checkpointing: bool,
    /// BatchNorm's statistics are those of all ranks' batches. Default: no, of each rank's own.
    pub use_bn_sync: bool,
    /// Where to compute; several devices are ranks of their own. Default: `auto`, the first accelerator there is, else the CPU.
    pub device: String,
    /// This process trains by itself, whatever a launcher's environment says. Default: no.
    pub single_process: bool,
    /// Reports beside the log files: a text that names `tensorboard` or `wandb`, or `all`; `none` leaves out TensorBoard, which is
    /// else always written. Default: empty.
    pub report_to: String,
    /// Project of Weights & Biases. Default: `open-clip`.
    pub wandb_project_name: String,
    /// Notes for Weights & Biases. Default: empty.
    pub wandb_notes: String,
    /// Seed of initial weights, order, augmentation and dropout. Default: 0.
    pub seed: u64,
    /// Largest L2 norm of the whole gradient. `None` (default): no limit but the optimizer's own.
    pub grad_clip_norm: Option<f32>,
    /// Optimizer steps between lines of progress. Default: 100.
    pub log_every_n_steps: u64,
    /// Steps in a row that are passed over before the run stops. Default: 20.
    pub max_bad_steps: u64,
    /// Standard deviations above the mean of the last steps from which a loss or gradient norm is passed over. `None` (default):
    /// none is.
    pub skip_spikes: Option<f64>,
    /// How many steps `skip_spikes` compares with. Default: 200.
    pub spike_window: usize,
    /// Share of the average of the weights that a step leaves, in 0..1. `None` (default): there is no average.
    pub ema_decay: Option<f64>,
    /// Optimizer steps of the run after which it stops as if interrupted, for tests and benchmarks. `None` (default): it does not.
    pub max_steps: Option<u64>,
    /// What a run learns that fine-tunes a classifier on the folders of `train_data`, in place of captions. `None` (default): captions.
    pub finetune: Option<Finetune>,
    /// Where downloads go and tags are looked for. `None` (default): Hugging Face's cache.
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
            csv_img_key: None,
            csv_caption_key: None,
            image_key: IMAGE_KEY.into(),
            text_key: None,
            json_text_key: None,
            json_text_key_probs: Vec::new(),
            max_skip: 0.5,
            imagenet_val: None,
            imagenet_v2: None,
            zeroshot_prompts: None,
            logs: "./logs/".into(),
            name: None,
            workers: default_workers(),
            max_image_pixels: Limits::default().max_pixels,
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
            precision: None,
            model: "RN50".into(),
            pretrained: None,
            pretrained_image: false,
            image_mean: None,
            image_std: None,
            image_interpolation: None,
            image_resize_mode: None,
            aug_scale: [0.9, 1.0],
            fast_decode: false,
            aug_use_timm: false,
            aug_ratio: None,
            aug_re_prob: None,
            aug_re_count: None,
            aug_color_jitter: None,
            aug_color_jitter_prob: None,
            aug_gray_scale_prob: None,
            force_image_size: None,
            force_quick_gelu: None,
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
            single_process: false,
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
            finetune: None,
            cache_dir: None,
        }
    }
}

impl TrainConfig {
    /// Width of the numbers, [`Precision::Fp32`] where it was left to a device that is not known yet.
    pub fn precision(&self) -> Precision {
        self.precision.unwrap_or_default()
    }

    /// The run's folder; `None` with `--logs none`, as in OpenCLIP in any case of letters, and the empty text as well.
    pub fn run_dir(&self) -> Option<PathBuf> {
        let logs = self.logs.to_string_lossy();
        let kept = !logs.is_empty() && !logs.eq_ignore_ascii_case("none");
        kept.then(|| self.logs.join(self.name.as_deref().unwrap_or_default()))
    }

    /// Whether `--report-to` names `tool`: anywhere in its value, as in OpenCLIP, or by `all`.
    pub fn reports_to(&self, tool: &str) -> bool {
        self.report_to == "all" || self.report_to.contains(tool)
    }

    /// What a run without training measures: everything that was asked for, whatever epoch its model is of.
    pub fn asked(&self) -> Due {
        self.due(self.epochs)
    }

    /// Which measurements are due after `epoch` epochs.
    pub fn due(&self, epoch: u64) -> Due {
        let is_due = |frequency: u64| {
            frequency > 0 && (epoch.is_multiple_of(frequency) || epoch == self.epochs)
        };
        Due {
            pairs: is_due(self.val_frequency),
            zero_shot: is_due(self.zeroshot_frequency),
        }
    }
}
