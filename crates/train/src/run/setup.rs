//! From flags to model, optimizer, schedule and data.

use std::path::Path;
use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use glob::Pattern;
use openclip_data::image::{Augmentation, Decoding, Limits, train_transform};
use openclip_data::loader::LoaderOptions;
use openclip_data::source::Order;
use openclip_data::source::columns::Columns;
use openclip_data::source::csv::CsvFormat;
use openclip_data::source::keys::KeyOptions;
use openclip_data::source::open::{OpenOptions, Opened, open};
use openclip_data::source::shard_index::{SHARD_INDEX, ShardIndex};
use openclip_data::tokenizer::Tokenizer;
use openclip_eval::validation::{Validation, ZeroShot};
use openclip_eval::zero_shot::Prompts;
use openclip_eval::{Encoder, EvalError};
use openclip_model::config::{ImageSize, Interpolation};
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::load::load_state_dict;
use openclip_model::params;
use openclip_model::weights::StateDict;

use super::resume::Resumed;
use crate::checkpoint;
use crate::comm::Communicator;
use crate::data::{Position, Steps};
use crate::ema::Ema;
use crate::finetune;
use crate::guard::{Rules, SpikeRule};
use crate::loss::SIGLIP_LOGITS;
use crate::optim::{Algorithm, Given, LayerDecay, Optim};
use crate::report::wandb::{Facts, Offline};
use crate::schedule::{Decay, Schedule};
use crate::{TrainConfig, TrainError};

/// What the flags change about the model's configuration.
pub(crate) fn create_options(config: &TrainConfig) -> Result<CreateOptions, TrainError> {
    let force_image_size = match config.force_image_size.as_deref() {
        None => None,
        Some([side]) => Some(ImageSize::Square(*side)),
        Some([height, width]) => Some(ImageSize::Rect([*height, *width])),
        Some(sizes) => {
            let reason = format!("takes one or two numbers, not {}", sizes.len());
            return Err(TrainError::flag("--force-image-size", reason));
        }
    };
    Ok(CreateOptions {
        int8_linear: config.int8_linear,
        force_quick_gelu: config.force_quick_gelu,
        force_image_size,
        force_context_length: config.force_context_length,
        force_patch_dropout: config.force_patch_dropout,
        force_custom_text: config.force_custom_text,
        init_logits: config.siglip.then_some(SIGLIP_LOGITS),
        pretrained_image: config.pretrained_image,
        seed: config.seed,
        cache_dir: config.cache_dir.clone(),
    })
}

/// Builds the model and puts the weights of the checkpoint into it.
pub(super) fn load_model(
    config: &TrainConfig,
    device: &Device,
    resumed: Option<&Resumed>,
) -> Result<Loaded, TrainError> {
    let mut options = create_options(config)?;
    options.pretrained_image &= resumed.is_none();
    // Adapters belong to the weights that the run began with.
    let is_adapted = config.finetune.as_ref().is_some_and(|f| f.lora.is_some());
    let resumed = resumed.filter(|_| !is_adapted);
    let weights = resumed.map(|resumed| resumed.weights().to_string_lossy().into_owned());
    let pretrained = weights.as_deref().or(config.pretrained.as_deref());
    let mut loaded = factory::create(&config.model, pretrained, device, &options)?;
    if let Some(dtype) = config.precision().parameters() {
        loaded.model = params::cast(loaded.model, dtype);
    }
    let preprocess = &mut loaded.preprocess;
    preprocess.mean = config.image_mean.unwrap_or(preprocess.mean);
    preprocess.std = config.image_std.unwrap_or(preprocess.std);
    preprocess.interpolation = config
        .image_interpolation
        .unwrap_or(preprocess.interpolation);
    preprocess.resize_mode = config.image_resize_mode.unwrap_or(preprocess.resize_mode);
    Ok(loaded)
}

/// Name of the metrics of `--imagenet-val`.
const IMAGENET: &str = "imagenet-zeroshot-val";
const IMAGENET_V2: &str = "--imagenet-v2";

fn data_options(config: &TrainConfig) -> OpenOptions {
    OpenOptions {
        dataset_type: config.dataset_type.clone(),
        csv: CsvFormat {
            separator: config.csv_separator.clone(),
            columns: Columns {
                image: config.csv_img_key.clone(),
                caption: config.csv_caption_key.clone(),
                needs_captions: true,
                carried: false,
            },
        },
        keys: KeyOptions {
            image_key: Some(config.image_key.clone()),
            text_key: config.text_key.clone(),
            json_text_key: config.json_text_key.clone(),
            json_text_key_probs: config.json_text_key_probs.clone(),
            needs_caption: true,
            carried: false,
        },
        ..OpenOptions::default()
    }
}

pub(super) fn open_validation(
    config: &TrainConfig,
    show_progress: bool,
) -> Result<Validation, TrainError> {
    let options = OpenOptions {
        num_samples: config.val_num_samples,
        ..data_options(config)
    };
    let pairs = config
        .val_data
        .as_deref()
        .map(|data| open(data, &options))
        .transpose()
        .map_err(|error| TrainError::flag("--val-data", error.to_string()))?;
    let prompts = config
        .zeroshot_prompts
        .as_deref()
        .map(Prompts::read)
        .transpose()?;
    let mut zero_shot = Vec::new();
    if let Some(root) = &config.imagenet_v2 {
        let set = ZeroShot::imagenet_v2(root, prompts.as_ref());
        zero_shot.push(set.map_err(|error| TrainError::flag(IMAGENET_V2, error.to_string()))?);
    }
    if let Some(root) = &config.imagenet_val {
        let name = match config.finetune {
            Some(_) => finetune::VAL,
            None => IMAGENET,
        };
        let set = ZeroShot::open(name, root, prompts);
        let set = set.map_err(|error| TrainError::flag("--imagenet-val", error.to_string()))?;
        zero_shot.insert(0, set);
    }
    Ok(Validation {
        pairs,
        num_pairs: config.val_num_samples,
        zero_shot,
        batch_size: config.batch_size,
        workers: config.workers,
        limits: Limits::new(config.max_image_pixels),
        show_progress,
    })
}

/// Has the first usable picture of every set loaded that is measured, so that a set without any does not end a run after its first epoch.
pub(super) fn check_validation(
    config: &TrainConfig,
    validation: &Validation,
    encoder: &Encoder,
    tokenizer: &Arc<dyn Tokenizer>,
) -> Result<(), TrainError> {
    let due = config.asked();
    let named = |flag, checked: Result<(), EvalError>| {
        checked.map_err(|error| TrainError::flag(flag, error.to_string()))
    };
    if due.pairs {
        named("--val-data", validation.check_pairs(encoder, tokenizer))?;
    }
    if due.zero_shot {
        for set in &validation.zero_shot {
            let flag = match set.name.as_str() {
                finetune::VAL => "--val-data",
                IMAGENET => "--imagenet-val",
                _ => IMAGENET_V2,
            };
            named(flag, validation.check_zero_shot(encoder, set))?;
        }
    }
    Ok(())
}

pub(super) fn open_training(
    config: &TrainConfig,
    image_size: [usize; 2],
    interpolation: Interpolation,
    tokenizer: &Arc<dyn Tokenizer>,
    classes: Option<&ZeroShot>,
    ranks: &dyn Communicator,
    device: &Device,
) -> Result<(Steps, Schedule), TrainError> {
    let data = config.train_data.as_deref().unwrap_or_default();
    let options = OpenOptions {
        resampled: config.dataset_resampled,
        upsampling_factors: config.train_data_upsampling_factors.clone(),
        num_samples: config.train_num_samples,
        index: config
            .run_dir()
            .map(|dir| Arc::new(ShardIndex::open(&dir.join(SHARD_INDEX), ranks.rank()))),
        ..data_options(config)
    };
    let Opened {
        source, rgb_first, ..
    } = match classes {
        None => open(data, &options)?,
        Some(set) => Opened {
            source: Arc::clone(&set.folder) as _,
            rgb_first: false,
            named_by_picture: false,
            is_captioned: false,
        },
    };
    let samples = source.num_samples(config.train_num_samples)?;
    let batches = source.batches_per_epoch(Some(samples), ranks.world_size(), config.batch_size)?;
    let steps_per_epoch = batches / config.accum_freq as u64;
    if steps_per_epoch == 0 {
        return Err(TrainError::flag(
            "--accum-freq",
            format!(
                "{} micro-batches a step, but an epoch has only {batches}",
                config.accum_freq
            ),
        ));
    }
    let transform = train_transform(
        image_size,
        augmentation(config, interpolation),
        Decoding {
            rgb_first,
            fast: config.fast_decode,
            limits: Limits::new(config.max_image_pixels),
        },
    )?;
    let steps = Steps {
        source,
        transform,
        tokenizer: classes.is_none().then(|| Arc::clone(tokenizer)),
        options: LoaderOptions {
            workers: config.workers,
            max_bad_share: config.max_skip,
            ..LoaderOptions::new(
                config.batch_size,
                image_size,
                Order {
                    rank: ranks.rank(),
                    world: ranks.world_size(),
                    ..Order::training(config.seed, 0)
                },
            )
        },
        device: device.clone().autodiff(),
        accum_freq: config.accum_freq,
        samples_per_epoch: samples,
        steps_per_epoch,
        position: Arc::new(Mutex::new(Position::default())),
        stats: Arc::default(),
    };
    Ok((steps, schedule(config, steps_per_epoch)?))
}

/// What `image_transform(is_train=True)` makes of the flags: timm's transform takes some of them and OpenCLIP's own the others.
fn augmentation(config: &TrainConfig, interpolation: Interpolation) -> Augmentation {
    let own = Augmentation {
        scale: config.aug_scale.into(),
        color_jitter: config.aug_color_jitter,
        ..Augmentation::default()
    };
    match config.aug_use_timm {
        false => Augmentation {
            color_jitter_prob: config.aug_color_jitter_prob.unwrap_or(0.0),
            gray_scale_prob: config.aug_gray_scale_prob.unwrap_or(0.0),
            ..own
        },
        true => Augmentation {
            ratio: config.aug_ratio.map_or(own.ratio, Into::into),
            interpolation,
            color_jitter_prob: config.aug_color_jitter.map_or(0.0, |_| 1.0),
            erase_prob: config.aug_re_prob.unwrap_or(0.0),
            erase_count: config.aug_re_count.unwrap_or(1),
            ..own
        },
    }
}

fn schedule(config: &TrainConfig, steps_per_epoch: u64) -> Result<Schedule, TrainError> {
    let decay = match config.lr_scheduler.as_str() {
        "cosine" => Decay::Cosine,
        "const" => Decay::Const,
        "const-cooldown" => {
            let epochs = config.epochs_cooldown.ok_or_else(|| {
                TrainError::flag("--lr-scheduler", "const-cooldown needs --epochs-cooldown")
            })?;
            Decay::ConstCooldown {
                steps: epochs.saturating_mul(steps_per_epoch),
                power: config.lr_cooldown_power,
                end: config.lr_cooldown_end,
            }
        }
        other => {
            return Err(TrainError::flag(
                "--lr-scheduler",
                format!("{other:?} is unknown; expected cosine, const or const-cooldown"),
            ));
        }
    };
    // As far as f64 counts, in which rates are computed.
    let total = steps_per_epoch.checked_mul(config.epochs);
    let total = total.filter(|total| *total < 1 << 53).ok_or_else(|| {
        let reason = format!("{steps_per_epoch} steps each are more than can be counted");
        TrainError::flag("--epochs", reason)
    })?;
    Ok(Schedule {
        lr: config.lr,
        warmup: config.warmup,
        total,
        decay,
    })
}

/// The offline run of Weights & Biases.
pub(super) fn wandb(config: &TrainConfig, dir: &Path, resumed_at: Option<u64>) -> Offline {
    // By way of text, in which 0.2 as an f32 is 0.2.
    let json = serde_json::to_string(config).unwrap_or_default();
    let flags = serde_json::from_str(&json).unwrap_or_default();
    let facts = Facts {
        project: &config.wandb_project_name,
        notes: &config.wandb_notes,
        name: config.name.as_deref().unwrap_or_default(),
        config: flags,
        resumed_at,
    };
    Offline::create(dir, &facts)
}

/// What is asked of every step.
pub(super) fn rules(config: &TrainConfig) -> Rules {
    Rules {
        scale: config.precision().loss_scale(),
        spikes: config.skip_spikes.map(|deviations| SpikeRule {
            deviations,
            window: config.spike_window,
        }),
    }
}

/// The average of the weights that `--ema-decay` asks for, from the checkpoint where it has one; and what to tell if it has none.
pub(super) fn average(
    config: &TrainConfig,
    loaded: &Loaded,
    resumed: Option<&Resumed>,
) -> Result<(Option<Ema>, Option<String>), TrainError> {
    let Some(decay) = config.ema_decay else {
        return Ok((None, None));
    };
    let mut average = Ema::new(&loaded.model, decay);
    let Some(resumed) = resumed else {
        return Ok((Some(average), None));
    };
    let path = resumed.path.join(checkpoint::EMA);
    if !path.is_file() {
        let path = resumed.path.display();
        let warning = format!("{path} has no average of the weights: it begins at the weights");
        return Ok((Some(average), Some(warning)));
    }
    let weights = StateDict::read(&path)?;
    average.model = load_state_dict(average.model, &loaded.config, weights, &path)?;
    Ok((Some(average), None))
}

/// What `--opt` and the flags beside it ask for.
pub(crate) fn optim(config: &TrainConfig) -> Result<Optim, TrainError> {
    let given = Given {
        beta1: config.beta1,
        beta2: config.beta2,
        eps: config.eps,
        momentum: config.momentum,
        settings: Some(&config.opt_kwargs),
    };
    let patterns = config.wd_exclude.iter().map(|text| {
        Pattern::new(text)
            .map_err(|error| TrainError::flag("--wd-exclude", format!("{text}: {error}")))
    });
    Ok(Optim {
        algorithm: Algorithm::named(&config.opt, &config.model, &given)?,
        weight_decay: config.wd,
        wd_exclude: patterns.collect::<Result<_, _>>()?,
    })
}

pub(super) fn layer_decay(config: &TrainConfig) -> Result<LayerDecay, TrainError> {
    let decay = LayerDecay {
        image: config.image_layer_decay,
        text: config.text_layer_decay,
    };
    decay.checked()
}

/// The smallest of the limits that flags and optimizer set to the norm of the gradient.
pub(super) fn grad_clip_norm(config: &TrainConfig, optim: &Optim) -> Option<f32> {
    let limits = [config.grad_clip_norm, optim.algorithm.max_grad_norm()];
    limits.into_iter().flatten().reduce(f32::min)
}
