//! `train`: OpenCLIP's flags to a training run.

use openclip_train::TrainConfig;

use crate::args::train::TrainArgs;
use crate::error::{CliError, Outcome, Result};
use crate::output::{Output, note};

/// Trains, or evaluates where there is no training data.
pub fn run(args: &TrainArgs) -> Result {
    heed(args)?;
    start(config(args)?, args)
}

/// Flags without a place of their own: what is accepted is told of, what is not is refused.
pub(super) fn heed(args: &TrainArgs) -> Result<()> {
    if args.foreign.debug {
        log::set_max_level(log::LevelFilter::Debug);
    }
    for text in args.foreign.check()? {
        note(text);
    }
    Ok(())
}

/// Starts the run that `config` describes; `args` says how it is watched.
pub(super) fn start(config: TrainConfig, args: &TrainArgs) -> Result {
    if args.run.dry_run {
        return super::plan::show(&config, args.run.world_size, args.run.device_memory);
    }
    let outcome = openclip_train::train(config)?;
    if outcome.rank > 0 {
        return Ok(ended(&outcome));
    }
    let mut out = Output::stdout();
    let is_kept = !outcome.run.as_os_str().is_empty();
    if is_kept {
        out.line(format_args!("run         {}", outcome.run.display()))?;
    }
    if let Some(checkpoint) = &outcome.checkpoint {
        out.line(format_args!("checkpoint  {}", checkpoint.display()))?;
    }
    out.finish()?;
    match (outcome.stopped, is_kept) {
        (true, true) => {
            note("stopped before the end; the same command with --resume latest goes on");
        }
        (true, false) => note("stopped before the end; with --logs none nothing of it is kept"),
        (false, _) => {}
    }
    Ok(ended(&outcome))
}

fn ended(outcome: &openclip_train::Outcome) -> Outcome {
    match outcome.stopped {
        true => Outcome::Stopped,
        false => Outcome::Done,
    }
}

/// The run that the flags describe.
pub(crate) fn config(args: &TrainArgs) -> Result<TrainConfig> {
    let default = TrainConfig::default();
    let augment = args.augment.parse()?;
    let TrainArgs {
        data,
        format,
        loader,
        model,
        optim,
        lock,
        run,
        validation,
        frequency,
        preprocess,
        pictures,
        ..
    } = args;
    Ok(TrainConfig {
        train_data: data.train_data.clone(),
        train_data_upsampling_factors: data.train_data_upsampling_factors.clone(),
        train_num_samples: data.train_num_samples,
        dataset_resampled: data.dataset_resampled,
        val_data: validation.val_data.clone(),
        val_num_samples: validation.val_num_samples,
        imagenet_val: validation.imagenet_val.clone(),
        imagenet_v2: validation.imagenet_v2.clone(),
        max_skip: data.max_skip,
        zeroshot_prompts: frequency.zeroshot_prompts.clone(),
        zeroshot_frequency: frequency.zeroshot_frequency,
        val_frequency: frequency.val_frequency,
        dataset_type: format.dataset_type.clone(),
        csv_separator: format.separator(),
        csv_img_key: format.csv_img_key.clone(),
        image_key: format.image_key.clone(),
        text_key: format.text_key.clone(),
        json_text_key: format.json_text_key.clone(),
        json_text_key_probs: format.json_text_key_probs.clone(),
        csv_caption_key: format.csv_caption_key.clone(),
        workers: loader.workers,
        max_image_pixels: pictures.max_image_pixels,
        batch_size: loader.batch_size,
        model: model.model.clone(),
        pretrained: model.pretrained.clone().filter(|tag| !tag.is_empty()),
        pretrained_image: optim.pretrained_image,
        single_process: run.single_process,
        cache_dir: model.cache_dir.clone(),
        device: model.device.clone(),
        precision: model.precision.map(|_| model.precision()),
        force_image_size: model.force_image_size.clone(),
        force_context_length: model.force_context_length,
        force_quick_gelu: model.quick_gelu(),
        int8_linear: model.int8_linear || optim.use_bnb_linear.is_some(),
        force_custom_text: model.force_custom_text,
        force_patch_dropout: optim.force_patch_dropout,
        siglip: optim.siglip,
        distill_model: optim.distill_model.clone(),
        distill_pretrained: optim.distill_pretrained.clone(),
        coca_caption_loss_weight: optim.coca_caption_loss_weight,
        coca_contrastive_loss_weight: optim.coca_contrastive_loss_weight,
        lock_image: lock.lock_image,
        lock_image_unlocked_groups: lock.lock_image_unlocked_groups,
        lock_image_freeze_bn_stats: lock.lock_image_freeze_bn_stats,
        lock_text: lock.lock_text,
        lock_text_unlocked_layers: lock.lock_text_unlocked_layers,
        lock_text_freeze_layer_norm: lock.lock_text_freeze_layer_norm,
        image_mean: preprocess.mean()?,
        image_std: preprocess.std()?,
        image_interpolation: preprocess.interpolation(),
        image_resize_mode: preprocess.resize_mode(),
        aug_scale: augment.scale.unwrap_or(default.aug_scale),
        fast_decode: args.augment.fast_decode,
        aug_use_timm: augment.use_timm,
        aug_ratio: augment.ratio,
        aug_re_prob: augment.re_prob,
        aug_re_count: augment.re_count,
        aug_color_jitter: augment.color_jitter,
        aug_color_jitter_prob: augment.color_jitter_prob,
        aug_gray_scale_prob: augment.gray_scale_prob,
        epochs: optim.epochs,
        accum_freq: optim.accum_freq,
        grad_checkpointing: optim.grad_checkpointing,
        use_bn_sync: optim.use_bn_sync,
        lr: optim.lr,
        warmup: optim.warmup,
        lr_scheduler: optim.lr_scheduler.clone(),
        epochs_cooldown: optim.epochs_cooldown,
        lr_cooldown_end: optim.lr_cooldown_end,
        lr_cooldown_power: optim.lr_cooldown_power,
        skip_scheduler: optim.skip_scheduler,
        wd: optim.wd,
        wd_exclude: optim.wd_exclude.clone(),
        opt: optim.opt.clone(),
        opt_kwargs: optim.opt_kwargs()?,
        momentum: optim.momentum,
        image_layer_decay: optim.image_layer_decay,
        text_layer_decay: optim.text_layer_decay,
        beta1: optim.beta1,
        beta2: optim.beta2,
        eps: optim.eps,
        grad_clip_norm: optim.grad_clip_norm,
        seed: optim.seed,
        logs: run.logs.clone(),
        name: run.name.clone(),
        resume: run.resume.clone(),
        save_frequency: run.save_frequency,
        save_every_n_steps: run.save_every_n_steps,
        save_every_minutes: run.save_every_minutes,
        save_most_recent: run.save_most_recent,
        delete_previous_checkpoint: run.delete_previous_checkpoint,
        keep_last: run.keep_last,
        keep_best: run.keep_best.clone(),
        remote_sync: run.remote_sync.clone(),
        remote_sync_frequency: run.remote_sync_frequency,
        log_every_n_steps: run.log_every_n_steps,
        report_to: report_to(&run.report_to)?,
        wandb_project_name: run.wandb_project_name.clone(),
        wandb_notes: run.wandb_notes.clone(),
        max_bad_steps: run.max_bad_steps,
        skip_spikes: run.skip_spikes,
        spike_window: run.spike_window,
        ema_decay: run.ema_decay,
        max_steps: run.max_steps,
        finetune: None,
    })
}

/// OpenCLIP looks for names anywhere in the value.
fn report_to(value: &str) -> Result<String> {
    match value.contains("trackio") {
        true => Err(CliError::Usage(
            "--report-to trackio is not built yet".into(),
        )),
        false => Ok(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use openclip_train::{Precision, TrainConfig};

    use crate::args::{self, Command};

    fn config(line: &str) -> TrainConfig {
        let words = ["openclip", "train"]
            .into_iter()
            .chain(line.split_whitespace());
        let cli = args::parse(words.map(Into::into)).unwrap();
        let Command::Train(args) = cli.command else {
            panic!("another command")
        };
        args.foreign.check().unwrap();
        super::config(&args).unwrap()
    }

    #[test]
    fn defaults_are_the_configurations_own() {
        assert_eq!(config(""), TrainConfig::default());
    }

    #[test]
    fn a_line_of_openclips_readme() {
        let config = config(
            "--save-frequency 1 --zeroshot-frequency 1 --report-to tensorboard --train-data=/data/train.csv \
             --val-data=/data/val.csv --csv-img-key filepath --csv-caption-key title --imagenet-val=/data/imagenet \
             --warmup 10000 --batch-size=128 --lr=1e-3 --wd=0.1 --epochs=30 --workers=8 --model ViT-B-32 \
             --precision amp --local-loss --gather-with-grad --aug-cfg scale=(0.4,1.0) gray_scale_prob=0.2 \
             --image-mean 0.5 0.5 0.5 --force-patch-dropout 0.5 --grad-clip-norm 1.0",
        );
        assert_eq!(config.train_data.as_deref(), Some("/data/train.csv"));
        assert_eq!(
            (config.batch_size, config.lr, config.wd, config.workers),
            (128, 1e-3, 0.1, 8)
        );
        assert_eq!(config.precision, Some(Precision::AmpBf16));
        assert_eq!(config.aug_scale, [0.4, 1.0]);
        assert_eq!(config.image_mean, Some([0.5; 3]));
        assert_eq!(config.force_patch_dropout, Some(0.5));
    }

    #[test]
    fn the_last_of_a_repeated_flag_counts_and_short_forms_work() {
        let config = config("--lr 1 --lr 0.25 --train-num 7 --image-mean 0.1 --image-mean 0.5");
        assert_eq!((config.lr, config.train_num_samples), (0.25, Some(7)));
        assert_eq!(config.image_mean, Some([0.5; 3]));
    }

    /// Every file of `configs/train/` can be run: its flags are known, its model exists and its schedule fits its data.
    #[test]
    fn recipes_are_sound() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/train");
        let mut count = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "toml") {
                continue;
            }
            count += 1;
            let name = path.display();
            let config = config(&format!("--config {name}"));
            openclip_model::registry::builtin(&config.model).unwrap();
            if let Some(teacher) = &config.distill_model {
                openclip_model::registry::builtin(teacher).unwrap();
            }
            for (model, tag) in [
                (Some(&config.model), &config.pretrained),
                (config.distill_model.as_ref(), &config.distill_pretrained),
            ] {
                if let (Some(model), Some(tag)) = (model, tag) {
                    assert!(
                        openclip_model::pretrained::find(model, tag).is_some(),
                        "{name}: {tag}"
                    );
                }
            }
            let samples = config.train_num_samples.unwrap();
            let steps = samples / (config.batch_size * config.accum_freq) as u64 * config.epochs;
            assert!(
                (1..steps / 2).contains(&config.warmup),
                "{name}: {steps} steps"
            );
            assert!((1e-6..=1e-2).contains(&config.lr), "{name}");
            openclip_train::run::check(&config).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# "), "{name} says what it is for");
        }
        assert_eq!(count, 9);
    }
}
