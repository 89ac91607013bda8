//! A run from its configuration to its last checkpoint.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::tensor::{Device, FloatDType};
use burn::train::metric::LearningRateMetric;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use openclip_data::image::{Augmentation, Limits, TrainTransform, decode};
use openclip_data::loader::{LoaderOptions, Transform};
use openclip_data::source::Order;
use openclip_data::source::csv::CsvFormat;
use openclip_data::source::open::{OpenOptions, Opened, open};
use openclip_data::tokenizer::{self, Tokenizer};
use openclip_eval::Encoder;
use openclip_eval::validation::{Due, Validation, ZeroShot};
use openclip_eval::zero_shot::Prompts;
use openclip_model::config::ImageSize;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::hub::Places;
use openclip_model::lock::Lock;
use openclip_model::{device, params, registry};
use serde_json::Value;

use crate::checkpoint::{self, Checkpoint, Progress};
use crate::config::Precision;
use crate::data::{Position, Steps};
use crate::journal::{self, Journal};
use crate::loss::{CaptionObjective, Loss, Objective, SIGLIP_LOGITS, clip_loss, siglip_loss};
use crate::optim::AdamW;
use crate::renderer::{Forgetful, Gauge, Silent};
use crate::schedule::{Decay, Schedule, StepSchedule};
use crate::strategy::{Driver, ModelFacts, Run, due};
use crate::task::{Setup, Task};
use crate::{TrainConfig, TrainError};

const PARAMS: &str = "params.json";
const CHECKPOINTS: &str = "checkpoints";

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The run folder.
    pub run: PathBuf,
    /// The newest complete checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The run was stopped on request before its end, with a checkpoint.
    pub stopped: bool,
}

/// Trains as `config` says; without training data, evaluates only.
///
/// # Errors
/// When flags, model, data or device do not allow it, or the run folder cannot be written.
pub fn train(mut config: TrainConfig) -> Result<Outcome, TrainError> {
    validate(&config)?;
    let trains = config.train_data.is_some() || config.dataset_type == "synthetic";
    let dir = run_dir(&mut config);
    let resumed = find_checkpoint(&config, &dir)?;
    let start = resumed
        .as_ref()
        .map(|(_, progress)| progress.clone())
        .unwrap_or_default();
    let interactive = trains && is_interactive();

    // Everything that a flag can get wrong comes before the run folder, so that the next try finds its name free.
    let device = device::parse(&config.device)?;
    let mut loaded = load_model(&config, &device, resumed.as_ref())?;
    let objective = objective(&config, &loaded)?;
    loaded.model = lock(&config).apply(loaded.model)?;
    let places = Places::new(config.cache_dir.as_deref());
    let model_dir = registry::local_dir(&config.model);
    let tokenizer = tokenizer::for_model_in(&loaded.config, model_dir, &places)?;
    let (height, width) = loaded.config.vision_cfg.image_size.dims();
    let image_size = [height, width];
    let compute = config.precision.compute();
    let encoder = Encoder::of(&loaded, &device, compute);
    let validation = open_validation(&config, !interactive)?;
    let training = trains
        .then(|| open_training(&config, image_size, &tokenizer))
        .transpose()?;
    if let Some((steps, _)) = &training
        && start.step_in_epoch >= steps.steps_per_epoch
    {
        let (at, length) = (start.step_in_epoch, steps.steps_per_epoch);
        let reason = format!(
            "the checkpoint is at step {at} of an epoch that has {length} steps with these flags"
        );
        return Err(TrainError::flag("--resume", reason));
    }

    prepare_dir(&config, &dir)?;
    let mut journal = Journal::open(
        &dir,
        &dir.file_name().unwrap_or_default().to_string_lossy(),
        config.report_to != "none",
        !interactive,
        resumed.is_some().then_some(start.step),
    )?;
    for warning in std::mem::take(&mut loaded.warnings) {
        journal.warn(warning);
    }
    warn_of_changes(&config, &dir, resumed.is_some(), &mut journal);
    write_params(&config, &dir)?;
    let numel: usize = params::describe(&loaded.model)
        .iter()
        .filter(|param| param.is_parameter())
        .map(|param| param.numel())
        .sum();
    journal.info(format!(
        "{}: {:.1} M parameters on {}, {}",
        loaded.name,
        numel as f64 / 1e6,
        config.device,
        config.precision.name(),
    ));
    let Some((steps, schedule)) = training else {
        let metrics = validation.run(&encoder, &tokenizer, due(&config, 0), clip_loss)?;
        journal.evaluation(0, 0, &metrics)?;
        return Ok(Outcome {
            run: dir,
            checkpoint: None,
            stopped: false,
        });
    };
    journal.info(format!(
        "{}: {} epochs of {} steps of {} samples",
        steps.source.describe(),
        config.epochs,
        steps.steps_per_epoch,
        config.batch_size * config.accum_freq,
    ));
    if let Some((path, progress)) = &resumed {
        let (path, step) = (path.display(), progress.step);
        journal.info(format!(
            "Resumed from {path} at step {step} of {}",
            schedule.total
        ));
    }

    let facts = ModelFacts {
        name: loaded.name.clone(),
        config: loaded.config.clone(),
        preprocess: loaded.preprocess.clone(),
    };
    let setup = Setup {
        device: device.clone().autodiff(),
        compute,
        preprocess: loaded.preprocess.clone(),
        image_size,
        context_length: tokenizer.context_length(),
        grad_clip_norm: config.grad_clip_norm,
        seed: config.seed,
    };
    let optimizer = adamw(&config).optimizer(&loaded.model);
    let task = Task::new(loaded.model.train(), setup).with_objective(objective);
    let schedule = StepSchedule {
        schedule,
        step: start.step,
        skip: config.skip_scheduler,
    };
    let mut learner = Learner::new(task, optimizer, schedule);
    if let Some((path, _)) = &resumed
        && let Some(record) = checkpoint::optimizer(path)?
    {
        learner.load_optim(record);
    }

    let stop = Arc::new(AtomicBool::new(false));
    listen(&stop)?;
    let run = Run {
        facts,
        checkpoints: dir.join(CHECKPOINTS),
        steps_per_epoch: steps.steps_per_epoch,
        progress: start,
        position: Arc::clone(&steps.position),
        stats: Arc::clone(&steps.stats),
        stop,
        validation,
        tokenizer,
        encoder,
        journal,
        checkpoint: resumed.map(|(path, _)| path),
        stopped: false,
        config,
    };
    launch(run, learner, steps, &dir, interactive)
}

/// Hands the loop to Burn's `SupervisedTraining` and collects what came of it.
fn launch(
    run: Run,
    learner: Learner<Task>,
    steps: Steps,
    dir: &Path,
    interactive: bool,
) -> Result<Outcome, TrainError> {
    let epochs = run.config.epochs as usize;
    let driver = Arc::new(Driver::new(run));
    let steps = Arc::new(steps);
    let mut training = SupervisedTraining::new(dir, steps.clone(), steps)
        .num_epochs(epochs)
        .with_application_logger(None)
        .with_metric_logger(Forgetful)
        .with_training_strategy(TrainingStrategy::Custom(driver.clone()))
        .metric_train_numeric(Gauge::new("Loss", false, |figures| figures.loss))
        .metric_train_numeric(Gauge::new("Logit scale", true, |figures| {
            figures.logit_scale
        }))
        .metric_train_numeric(Gauge::new("Gradient norm", false, |figures| {
            figures.grad_norm
        }))
        .metric_train_numeric(Gauge::new("Samples per second", true, |figures| {
            figures.samples as f64 / figures.batch_time
        }))
        .metric_train_numeric(Gauge::new("Data wait (%)", false, |figures| {
            100.0 * figures.data_time / figures.batch_time
        }))
        .metric_train_numeric(LearningRateMetric::new());
    if !interactive {
        training = training.renderer(Box::new(Silent));
    }
    // A device that runs out of memory, or loses its driver, panics inside Burn.
    let result = catch_unwind(AssertUnwindSafe(|| training.launch(learner)));
    let (run, ended) = driver.finish();
    ended?;
    match result {
        Err(panic) => Err(TrainError::Learner(panic_text(panic.as_ref()))),
        Ok(result) => match (result.error, run) {
            (Some(error), _) => Err(TrainError::Learner(error.to_string())),
            (None, None) => Err(TrainError::Learner("training never began".into())),
            (None, Some(run)) => Ok(Outcome {
                run: dir.to_owned(),
                checkpoint: run.checkpoint,
                stopped: run.stopped,
            }),
        },
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic")
        .to_owned()
}

/// SIGINT and SIGTERM ask for a stop; the second one ends the process at once.
fn listen(stop: &Arc<AtomicBool>) -> Result<(), TrainError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(stop)))
            .map_err(|error| TrainError::Learner(format!("cannot listen for signals: {error}")))?;
    }
    Ok(())
}

fn is_interactive() -> bool {
    use std::io::IsTerminal;
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal() && !dumb
}

fn validate(config: &TrainConfig) -> Result<(), TrainError> {
    let positive = |flag, value: u64| match value {
        0 => Err(TrainError::flag(flag, "must be at least 1")),
        _ => Ok(()),
    };
    positive("--batch-size", config.batch_size as u64)?;
    positive("--accum-freq", config.accum_freq as u64)?;
    positive("--epochs", config.epochs)?;
    positive("--log-every-n-steps", config.log_every_n_steps)?;
    positive(
        "--save-every-n-steps",
        config.save_every_n_steps.unwrap_or(1),
    )?;
    positive("--max-steps", config.max_steps.unwrap_or(1))?;
    for (flag, value) in [("--lr", config.lr), ("--wd", f64::from(config.wd))] {
        if !value.is_finite() || value < 0.0 {
            return Err(TrainError::flag(flag, format!("{value} is not a rate")));
        }
    }
    if config
        .grad_clip_norm
        .is_some_and(|norm| norm.is_nan() || norm <= 0.0)
    {
        return Err(TrainError::flag("--grad-clip-norm", "must be above 0"));
    }
    for (flag, value) in [
        (
            "--coca-caption-loss-weight",
            config.coca_caption_loss_weight,
        ),
        (
            "--coca-contrastive-loss-weight",
            config.coca_contrastive_loss_weight,
        ),
    ] {
        if !value.is_finite() || value < 0.0 {
            return Err(TrainError::flag(flag, format!("{value} is not a weight")));
        }
    }
    for (given, flag, needed) in [
        (
            config.lock_image_unlocked_groups > 0,
            "--lock-image-unlocked-groups",
            config.lock_image,
        ),
        (
            config.lock_text_unlocked_layers > 0,
            "--lock-text-unlocked-layers",
            config.lock_text,
        ),
    ] {
        if given && !needed {
            let needed = flag.split("-unlocked").next().unwrap_or(flag);
            return Err(TrainError::flag(
                flag,
                format!("means nothing without {needed}"),
            ));
        }
    }
    if config.report_to.contains("wandb") || config.report_to == "all" {
        return Err(TrainError::flag(
            "--report-to",
            "Weights & Biases is not built yet; tensorboard is",
        ));
    }
    let has_data = config.train_data.is_some() || config.dataset_type == "synthetic";
    if !has_data && config.val_data.is_none() && config.imagenet_val.is_none() {
        return Err(TrainError::flag(
            "--train-data",
            "nothing to do: give --train-data to train, or --val-data or --imagenet-val to evaluate",
        ));
    }
    Ok(())
}

/// `--logs/--name`, with OpenCLIP's name where none is given.
fn run_dir(config: &mut TrainConfig) -> PathBuf {
    let name = config.name.get_or_insert_with(|| {
        format!(
            "{}-model_{}-lr_{}-b_{}-j_{}-p_{}",
            jiff::Zoned::now().strftime("%Y_%m_%d-%H_%M_%S"),
            config.model.replace(['/', ':'], "-"),
            config.lr,
            config.batch_size,
            config.workers,
            config.precision.name(),
        )
    });
    config.logs.join(name)
}

fn prepare_dir(config: &TrainConfig, dir: &Path) -> Result<(), TrainError> {
    if dir.join(journal::LOG).exists() && config.resume.is_none() {
        return Err(TrainError::Exists(dir.to_owned()));
    }
    let path = dir.join(CHECKPOINTS);
    fs::create_dir_all(&path).map_err(|source| TrainError::Write { path, source })
}

/// Where to go on from: a complete checkpoint folder with its counters, or a bare weights file and none.
fn find_checkpoint(
    config: &TrainConfig,
    dir: &Path,
) -> Result<Option<(PathBuf, Progress)>, TrainError> {
    let found = |Checkpoint { path, progress }| (path, progress);
    match config.resume.as_deref() {
        None => Ok(None),
        Some("latest") => Ok(checkpoint::latest(&dir.join(CHECKPOINTS)).map(found)),
        Some(path) => {
            let path = Path::new(path);
            if path.is_file() {
                return Ok(Some((path.to_owned(), Progress::default())));
            }
            checkpoint::open(path).map(found).map(Some)
        }
    }
}

/// Builds the model and puts the weights of the checkpoint into it.
fn load_model(
    config: &TrainConfig,
    device: &Device,
    resumed: Option<&(PathBuf, Progress)>,
) -> Result<Loaded, TrainError> {
    let force_image_size = match config.force_image_size.as_deref() {
        None => None,
        Some([side]) => Some(ImageSize::Square(*side)),
        Some([height, width]) => Some(ImageSize::Rect([*height, *width])),
        Some(sizes) => {
            let reason = format!("takes one or two numbers, not {}", sizes.len());
            return Err(TrainError::flag("--force-image-size", reason));
        }
    };
    let options = CreateOptions {
        force_quick_gelu: config.force_quick_gelu,
        force_image_size,
        force_context_length: config.force_context_length,
        force_patch_dropout: config.force_patch_dropout,
        force_custom_text: config.force_custom_text,
        init_logits: config.siglip.then_some(SIGLIP_LOGITS),
        seed: config.seed,
        cache_dir: config.cache_dir.clone(),
    };
    let weights = resumed.map(|(path, _)| match path.is_dir() {
        true => path.join(checkpoint::MODEL),
        false => path.clone(),
    });
    let weights = weights.map(|path| path.to_string_lossy().into_owned());
    let pretrained = weights.as_deref().or(config.pretrained.as_deref());
    let mut loaded = factory::create(&config.model, pretrained, device, &options)?;
    if let Some((path, _)) = resumed
        && path.is_file()
    {
        loaded.warnings.push(format!(
            "{} holds weights alone: training begins at epoch 0 with a fresh optimizer",
            path.display()
        ));
    }
    if config.precision == Precision::PureBf16 {
        loaded.model = params::cast(loaded.model, FloatDType::BF16);
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

/// What the model learns: a caption decoder learns to write.
fn objective(config: &TrainConfig, loaded: &Loaded) -> Result<Objective, TrainError> {
    let contrastive: Loss = match config.siglip {
        true => siglip_loss,
        false => clip_loss,
    };
    let mut objective = Objective::from(contrastive);
    if loaded.model.writes_captions() {
        if config.siglip {
            let reason = format!("{} has CLIP's loss beside its captions'", loaded.name);
            return Err(TrainError::flag("--siglip", reason));
        }
        objective.contrastive_weight = config.coca_contrastive_loss_weight;
        objective.caption = Some(CaptionObjective {
            weight: config.coca_caption_loss_weight,
            pad: loaded.model.text.pad_id() as i64,
        });
    }
    Ok(objective)
}

fn lock(config: &TrainConfig) -> Lock {
    Lock {
        image: config
            .lock_image
            .then_some(config.lock_image_unlocked_groups),
        freeze_bn_stats: config.lock_image_freeze_bn_stats,
        text: config.lock_text.then_some(config.lock_text_unlocked_layers),
        freeze_layer_norm: config.lock_text_freeze_layer_norm,
    }
}

fn data_options(config: &TrainConfig) -> OpenOptions {
    OpenOptions {
        dataset_type: config.dataset_type.clone(),
        csv: CsvFormat {
            separator: config.csv_separator.clone(),
            image_column: config.csv_img_key.clone(),
            caption_column: Some(config.csv_caption_key.clone()),
        },
        resampled: false,
        upsampling_factors: None,
        num_samples: None,
    }
}

fn open_validation(config: &TrainConfig, show_progress: bool) -> Result<Validation, TrainError> {
    let options = OpenOptions {
        num_samples: config.val_num_samples,
        ..data_options(config)
    };
    let pairs = config
        .val_data
        .as_deref()
        .map(|data| open(data, &options))
        .transpose()?;
    let prompts = config
        .zeroshot_prompts
        .as_deref()
        .map(Prompts::read)
        .transpose()?;
    let zero_shot = config
        .imagenet_val
        .as_deref()
        .map(|root| ZeroShot::open("imagenet-zeroshot-val", root, prompts))
        .transpose()?;
    Ok(Validation {
        pairs,
        num_pairs: config.val_num_samples,
        zero_shot,
        batch_size: config.batch_size,
        workers: config.workers,
        show_progress,
    })
}

fn open_training(
    config: &TrainConfig,
    image_size: [usize; 2],
    tokenizer: &Arc<dyn Tokenizer>,
) -> Result<(Steps, Schedule), TrainError> {
    let data = config.train_data.as_deref().unwrap_or_default();
    let options = OpenOptions {
        resampled: config.dataset_resampled,
        upsampling_factors: config.train_data_upsampling_factors.clone(),
        num_samples: config.train_num_samples,
        ..data_options(config)
    };
    let Opened { source, rgb_first } = open(data, &options)?;
    let batches = source.batches_per_epoch(config.train_num_samples, 1, config.batch_size)?;
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
    let augmentation = Augmentation {
        scale: (config.aug_scale[0], config.aug_scale[1]),
        color_jitter: config.aug_color_jitter,
        color_jitter_prob: config.aug_color_jitter_prob.unwrap_or(0.0),
        gray_scale_prob: config.aug_gray_scale_prob.unwrap_or(0.0),
    };
    let [height, width] = image_size;
    let transform = TrainTransform::new(height, width, augmentation)?;
    let transform: Arc<Transform> = Arc::new(move |bytes: &[u8], rng: &mut _, out: &mut [u8]| {
        let picture = decode(bytes, Limits::default())?;
        let picture = if rgb_first {
            picture.into_rgb()
        } else {
            picture
        };
        transform.apply(&picture, rng, out)
    });
    let steps = Steps {
        source,
        transform,
        tokenizer: Arc::clone(tokenizer),
        options: LoaderOptions {
            workers: config.workers,
            ..LoaderOptions::new(
                config.batch_size,
                image_size,
                Order::training(config.seed, 0),
            )
        },
        accum_freq: config.accum_freq,
        steps_per_epoch,
        position: Arc::new(Mutex::new(Position::default())),
        stats: Arc::default(),
    };
    Ok((steps, schedule(config, steps_per_epoch)?))
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
                steps: epochs * steps_per_epoch,
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
    let total = steps_per_epoch * config.epochs;
    Ok(Schedule {
        lr: config.lr,
        warmup: config.warmup,
        total,
        decay,
    })
}

fn adamw(config: &TrainConfig) -> AdamW {
    let default = AdamW::for_model(&config.model);
    AdamW {
        beta1: config.beta1.unwrap_or(default.beta1),
        beta2: config.beta2.unwrap_or(default.beta2),
        eps: config.eps.unwrap_or(default.eps),
        weight_decay: config.wd,
    }
}

/// The configuration with the values that stand in for absent flags.
fn filled(config: &TrainConfig) -> TrainConfig {
    let AdamW {
        beta1, beta2, eps, ..
    } = adamw(config);
    let (beta1, beta2, eps) = (Some(beta1), Some(beta2), Some(eps));
    TrainConfig {
        beta1,
        beta2,
        eps,
        ..config.clone()
    }
}

/// `params.json`: every flag, with the values that stand in for absent ones.
fn write_params(config: &TrainConfig, dir: &Path) -> Result<(), TrainError> {
    let path = dir.join(PARAMS);
    let filled = filled(config);
    let write = || -> std::io::Result<()> {
        let mut json = serde_json::to_vec_pretty(&filled)?;
        json.push(b'\n');
        fs::write(&path, json)
    };
    write().map_err(|source| TrainError::Write {
        path: path.clone(),
        source,
    })
}

/// Flags that may differ between a run and its continuation without changing what it computes.
const HARMLESS: [&str; 10] = [
    "resume",
    "name",
    "logs",
    "workers",
    "log_every_n_steps",
    "save_frequency",
    "save_every_n_steps",
    "report_to",
    "max_steps",
    "device",
];

/// A resumed run with other flags is no longer the run it was; the user should know.
fn warn_of_changes(config: &TrainConfig, dir: &Path, resumed: bool, journal: &mut Journal) {
    let old = fs::read(dir.join(PARAMS)).ok();
    let old: Option<TrainConfig> = old.and_then(|json| serde_json::from_slice(&json).ok());
    let (Some(old), true) = (old, resumed) else {
        return;
    };
    let [Ok(Value::Object(old)), Ok(Value::Object(new))] = [
        serde_json::to_value(old),
        serde_json::to_value(filled(config)),
    ] else {
        return;
    };
    for (flag, value) in new
        .iter()
        .filter(|(flag, _)| !HARMLESS.contains(&flag.as_str()))
    {
        if let Some(before) = old.get(flag).filter(|before| *before != value) {
            journal.warn(format!(
                "--{} was {before} and is now {value}",
                flag.replace('_', "-")
            ));
        }
    }
}

/// Everything that [`Due::ALL`] asks for, on a model that is not trained.
///
/// # Errors
/// When data cannot be read or the device fails.
pub fn evaluate(
    validation: &Validation,
    encoder: &Encoder,
    tokenizer: &Arc<dyn Tokenizer>,
) -> Result<Vec<(String, f64)>, TrainError> {
    Ok(validation.run(encoder, tokenizer, Due::ALL, clip_loss)?)
}
