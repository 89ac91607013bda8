//! Fine-tuning as a classifier: WiSE-FT (arXiv 2109.01903).
//!
//! The run is that of every other training; what differs is here.
//!
//! * [`Finetune`] – what a run does that fine-tunes
//! * [`head`] – the classifier as a parameter
//! * [`step`] – cross-entropy in micro-batches and over ranks
//! * [`lora`] – adapters in place of the image tower's matrices
//! * [`interpolate`] – weights between two models, and how they measure

pub mod head;
pub mod interpolate;
pub mod lora;
mod options;
pub mod step;

use std::path::Path;
use std::sync::Arc;

use openclip_data::tokenizer::Tokenizer;
use openclip_eval::Encoder;
use openclip_eval::head::{HEAD, Head};
use openclip_eval::progress::Progress;
use openclip_eval::validation::ZeroShot;
use openclip_eval::zero_shot::Prompts;
use openclip_model::factory::Loaded;
use openclip_model::params;

use crate::{TrainConfig, TrainError};
use head::TrainedHead;
pub use lora::Lora;
pub use options::Finetune;

/// Prefix of the metrics of the pictures that a run is measured on.
pub const VAL: &str = "val";

/// Whether the flags of a run that fine-tunes go together.
///
/// # Errors
/// [`TrainError::Flag`], naming the one at fault.
pub fn check(config: &TrainConfig) -> Result<(), TrainError> {
    let Some(finetune) = &config.finetune else {
        return Ok(());
    };
    finetune.check()?;
    let (lora, head_only) = (finetune.lora.is_some(), finetune.head_only);
    let halves = config.precision().parameters().is_some();
    for (flag, given, reason) in [
        (
            "--lora",
            lora && head_only,
            "means nothing with --head-only",
        ),
        ("--siglip", config.siglip, "is a loss of captions"),
        (
            "--distill-model",
            config.distill_model.is_some(),
            "teaches captions",
        ),
        (
            "--ema-decay",
            config.ema_decay.is_some(),
            "averages no classifier; see `openclip interpolate`",
        ),
        (
            "--lock-image",
            config.lock_image && (lora || head_only),
            "says nothing beside --head-only and --lora",
        ),
        (
            "--grad-checkpointing",
            config.grad_checkpointing && lora,
            "knows no adapters",
        ),
        (
            "--precision",
            halves && lora,
            "adapters are trained in 32 bits",
        ),
        (
            "--train-data",
            config.train_data.is_none(),
            "expected a folder with a folder of pictures for each class",
        ),
    ] {
        if given {
            return Err(TrainError::flag(flag, reason));
        }
    }
    Ok(())
}

/// The labelled pictures that a run trains on.
///
/// # Errors
/// When the folder cannot be read, or its classes are not those of `--zeroshot-prompts`.
pub fn classes(config: &TrainConfig) -> Result<ZeroShot, TrainError> {
    let prompts = config.zeroshot_prompts.as_deref();
    let prompts = prompts.map(Prompts::read).transpose()?;
    let root = config.train_data.as_deref().unwrap_or_default();
    let set = ZeroShot::open("train", Path::new(root), prompts);
    set.map_err(|error| TrainError::flag("--train-data", error.to_string()))
}

/// What a run that fine-tunes begins with, beside the model.
pub struct Start {
    /// The classifier.
    pub head: TrainedHead,
    /// Share of a label that is spread over all classes.
    pub smoothing: f64,
    /// How the model's adapters were made, and the checksum of the weights that they belong to.
    pub adapters: Option<(Lora, Arc<str>)>,
    /// What to tell of it.
    pub said: String,
}

/// Gives the model its adapters, if it is to have some, and the run its classifier: those of the checkpoint `resumed`, if it goes on
/// from one, else new ones, and what the class names say.
///
/// # Errors
/// When a file of the checkpoint is not whole, or has other classes than the training data.
pub fn start(
    config: &TrainConfig,
    set: &ZeroShot,
    loaded: &mut Loaded,
    (encoder, tokenizer): (&Encoder, &dyn Tokenizer),
    resumed: Option<&Path>,
) -> Result<Start, TrainError> {
    let finetune = config.finetune.clone().unwrap_or_default();
    let mut adapters = None;
    if let Some(lora) = finetune.lora {
        let base = lora::checksum(&loaded.model)?;
        let model = lora.apply(loaded.model.clone(), config.seed)?;
        loaded.model = match resumed {
            None => model,
            Some(checkpoint) => lora.restore(model, checkpoint)?,
        };
        adapters = Some((lora, base.into()));
    }
    let head = match resumed {
        None => Head::zero_shot(encoder, tokenizer, &set.prompts, &Progress::hidden())?,
        Some(checkpoint) => {
            let path = checkpoint.join(HEAD);
            let head = Head::read(&path, &encoder.device)?;
            head.check(&set.prompts.classes, &path)?;
            head
        }
    };
    let said = learns(&finetune, loaded, &head);
    Ok(Start {
        head: TrainedHead::new(head),
        smoothing: finetune.label_smoothing,
        adapters,
        said,
    })
}

/// How much of a model learns.
fn learns(finetune: &Finetune, loaded: &Loaded, head: &Head) -> String {
    let [width, classes] = head.weight.dims();
    let all = params::describe(&loaded.model);
    let all = all.iter().filter(|param| param.is_parameter());
    let (mut count, mut learns) = (width * classes, width * classes);
    for param in all {
        count += param.numel();
        let is_trained = match (&finetune.lora, finetune.head_only) {
            (Some(_), _) => lora::is_factor(&param.key),
            (None, head_only) => !head_only && param.key.starts_with("visual."),
        };
        learns += if is_trained { param.numel() } else { 0 };
    }
    format!(
        "fine-tunes a classifier of {classes} classes: {:.2} M of {:.1} M parameters learn ({:.1}%)",
        learns as f64 / 1e6,
        count as f64 / 1e6,
        100.0 * learns as f64 / count as f64
    )
}

/// Whether every set that is measured between epochs has the classes of the classifier.
///
/// # Errors
/// [`TrainError::Flag`], naming the set.
pub fn check_sets(set: &ZeroShot, others: &[ZeroShot]) -> Result<(), TrainError> {
    for other in others {
        let (own, found) = (&set.prompts.classes, &other.prompts.classes);
        if own != found {
            let differs = found.iter().find(|class| !own.contains(class));
            let what = differs.map_or_else(String::new, |class| format!(", such as `{class}`"));
            let reason = format!(
                "its {} classes are not the {} of --train-data{what}",
                found.len(),
                own.len()
            );
            return Err(TrainError::flag("--val-data", reason));
        }
    }
    Ok(())
}
