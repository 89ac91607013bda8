//! `finetune`: a run of `train` that learns to classify.

use openclip_train::TrainConfig;
use openclip_train::finetune::{Finetune, Lora};

use super::train;
use crate::args::finetune::{FinetuneArgs, HeadArgs};
use crate::error::Result;

/// Fine-tunes.
pub fn run(args: &FinetuneArgs) -> Result {
    train::heed(&args.train)?;
    train::start(config(args)?, &args.train)
}

fn config(args: &FinetuneArgs) -> Result<TrainConfig> {
    let HeadArgs {
        head_only,
        lora,
        lora_alpha,
        label_smoothing,
    } = args.head;
    let lora = lora.map(|rank| Lora {
        rank,
        alpha: lora_alpha.unwrap_or(2.0 * rank as f64),
    });
    let config = train::config(&args.train)?;
    Ok(TrainConfig {
        // Folders of classes, as for zero-shot accuracy.
        imagenet_val: config.val_data.as_ref().map(Into::into),
        zeroshot_frequency: config.val_frequency,
        val_data: None,
        imagenet_v2: None,
        finetune: Some(Finetune {
            head_only,
            label_smoothing,
            lora,
        }),
        ..config
    })
}
