//! What the flags say, checked before anything is built.

use crate::{TrainConfig, TrainError, finetune};

pub(super) fn validate(config: &TrainConfig) -> Result<(), TrainError> {
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
    positive("--keep-last", config.keep_last.unwrap_or(1) as u64)?;
    positive("--remote-sync-frequency", config.remote_sync_frequency)?;
    finetune::check(config)?;
    saving(config)?;
    unkept(config)?;
    positive("--max-steps", config.max_steps.unwrap_or(1))?;
    positive("--spike-window", config.spike_window as u64)?;
    at_most(config)?;
    if let Some(deviations) = config.skip_spikes
        && !(deviations.is_finite() && deviations > 0.0)
    {
        let reason = format!("{deviations} is not above 0");
        return Err(TrainError::flag("--skip-spikes", reason));
    }
    if let Some(decay) = config.ema_decay
        && !(0.0..1.0).contains(&decay)
    {
        let reason = format!("{decay} is not at least 0 and below 1");
        return Err(TrainError::flag("--ema-decay", reason));
    }
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
    if config.distill_model.is_some() != config.distill_pretrained.is_some() {
        let reason = "--distill-model and --distill-pretrained go together";
        return Err(TrainError::flag("--distill-model", reason));
    }
    if config.distill_model.is_some() && config.siglip {
        let reason = "a teacher is asked beside CLIP's loss";
        return Err(TrainError::flag("--siglip", reason));
    }
    if !(0.0..=1.0).contains(&config.max_skip) {
        let reason = format!("{} is no share from 0 to 1", config.max_skip);
        return Err(TrainError::flag("--max-skip", reason));
    }
    let measures = [
        config.val_data.is_some(),
        config.imagenet_val.is_some(),
        config.imagenet_v2.is_some(),
    ];
    let has_data = config.train_data.is_some() || config.dataset_type == "synthetic";
    if !has_data && !measures.contains(&true) {
        return Err(TrainError::flag(
            "--train-data",
            "nothing to do: give --train-data to train, or --val-data, --imagenet-val or --imagenet-v2 to evaluate",
        ));
    }
    Ok(())
}

/// Counts whose products could not be counted any more.
fn at_most(config: &TrainConfig) -> Result<(), TrainError> {
    const BATCH: u64 = 1 << 24;
    const SAMPLES: u64 = 1 << 40;
    for (flag, value, most) in [
        ("--batch-size", config.batch_size as u64, BATCH),
        (
            "--accum-freq",
            config.accum_freq as u64,
            (1 << 32) / config.batch_size as u64,
        ),
        ("--workers", config.workers as u64, 1 << 12),
        ("--epochs", config.epochs, BATCH),
        (
            "--epochs-cooldown",
            config.epochs_cooldown.unwrap_or(0),
            BATCH,
        ),
        ("--warmup", config.warmup, SAMPLES),
        (
            "--train-num-samples",
            config.train_num_samples.unwrap_or(0),
            SAMPLES,
        ),
        (
            "--val-num-samples",
            config.val_num_samples.unwrap_or(0),
            SAMPLES,
        ),
        ("--spike-window", config.spike_window as u64, BATCH),
        (
            "--remote-sync-frequency",
            config.remote_sync_frequency,
            1 << 32,
        ),
    ] {
        if value > most {
            let reason = format!("{value}, expected at most {most}");
            return Err(TrainError::flag(flag, reason));
        }
    }
    Ok(())
}

/// What needs a run folder where `--logs none` makes none.
fn unkept(config: &TrainConfig) -> Result<(), TrainError> {
    if config.run_dir().is_some() {
        return Ok(());
    }
    let asks = [
        ("--resume", config.resume.as_deref() == Some("latest")),
        ("--remote-sync", config.remote_sync.is_some()),
        ("--keep-best", config.keep_best.is_some()),
        ("--report-to", config.reports_to("wandb")),
    ];
    match asks.into_iter().find(|(_, asks)| *asks) {
        Some((flag, _)) => Err(TrainError::flag(
            flag,
            "needs the run's folder, which --logs none does not make",
        )),
        None => Ok(()),
    }
}

fn saving(config: &TrainConfig) -> Result<(), TrainError> {
    if config
        .save_every_minutes
        .is_some_and(|minutes| minutes.is_nan() || !(0.0..1e9).contains(&minutes))
    {
        return Err(TrainError::flag(
            "--save-every-minutes",
            "must be 0 or more",
        ));
    }
    let Some(metric) = &config.keep_best else {
        return Ok(());
    };
    let sources = [
        (
            "--imagenet-val",
            config.imagenet_val.is_some() && config.zeroshot_frequency > 0,
            match config.finetune {
                Some(_) => metric.starts_with("val-top"),
                None => metric.starts_with("imagenet-zeroshot-val-top"),
            },
        ),
        (
            "--imagenet-v2",
            config.imagenet_v2.is_some() && config.zeroshot_frequency > 0,
            metric.starts_with("imagenetv2-zeroshot-val-top"),
        ),
        (
            "--val-data",
            config.val_data.is_some() && config.val_frequency > 0,
            metric.starts_with("clip_val_loss")
                || metric.starts_with("image_to_text_")
                || metric.starts_with("text_to_image_")
                || metric.starts_with("image_retrieval_recall@")
                || metric.starts_with("text_retrieval_recall@"),
        ),
    ];
    match sources.into_iter().find(|(.., measures)| *measures) {
        Some((_, true, _)) => Ok(()),
        Some((flag, false, _)) => Err(TrainError::flag(
            "--keep-best",
            format!("{metric} is measured with {flag}, which is not given"),
        )),
        None => Err(TrainError::flag(
            "--keep-best",
            format!(
                "{metric:?} is not measured; expected a name of results.jsonl such as image_to_text_R@1, \
                 clip_val_loss or imagenet-zeroshot-val-top1"
            ),
        )),
    }
}
