//! What of a model learns, from what, and how that is computed.

use std::sync::Arc;

use burn::tensor::Device;
use openclip_model::Clip;
use openclip_model::factory::{self, CreateOptions, Loaded};
use openclip_model::lock::Lock;

use crate::comm::Communicator;
use crate::comm::batch_norm::BatchNormRanks;
use crate::loss::{self, CaptionObjective, Objective, PairLoss};
use crate::{TrainConfig, TrainError};

/// The model that this one learns from, without graph.
pub(super) fn teacher(
    config: &TrainConfig,
    loaded: &Loaded,
    device: &Device,
) -> Result<Option<Clip>, TrainError> {
    let Some(name) = &config.distill_model else {
        return Ok(None);
    };
    let options = CreateOptions {
        cache_dir: config.cache_dir.clone(),
        ..CreateOptions::default()
    };
    let teacher = factory::create(name, config.distill_pretrained.as_deref(), device, &options)?;
    let shape = |loaded: &Loaded| {
        let config = &loaded.config;
        (
            <[usize; 2]>::from(config.vision_cfg.image_size.dims()),
            config.text_cfg.context_length,
            config.text_cfg.vocab_size,
        )
    };
    let ((size, length, words), (own_size, own_length, own_words)) =
        (shape(&teacher), shape(loaded));
    if (size, length, words) != (own_size, own_length, own_words) {
        let reason = format!(
            "{name} takes pictures of {size:?} and {length} of {words} tokens, {} of {own_size:?} and {own_length} of {own_words}: \
             both see the same batch",
            loaded.name
        );
        return Err(TrainError::flag("--distill-model", reason));
    }
    Ok(Some(teacher.model.folded()))
}

/// What the model learns: a caption decoder learns to write.
pub(super) fn objective(config: &TrainConfig, loaded: &Loaded) -> Result<Objective, TrainError> {
    let contrastive: &'static dyn PairLoss = match config.siglip {
        true => &loss::SigLipLoss,
        false => &loss::ClipLoss,
    };
    let mut objective = Objective::of(contrastive);
    objective.distill = config.distill_model.is_some().then_some(1.0);
    if loaded.model.writes_captions() {
        if config.siglip {
            let reason = format!("{} has CLIP's loss beside its captions'", loaded.name);
            return Err(TrainError::flag("--siglip", reason));
        }
        if config.distill_model.is_some() {
            let reason = format!(
                "{} writes captions, which no teacher is asked for",
                loaded.name
            );
            return Err(TrainError::flag("--distill-model", reason));
        }
        objective.contrastive_weight = config.coca_contrastive_loss_weight;
        objective.caption = Some(CaptionObjective {
            weight: config.coca_caption_loss_weight,
            pad: loaded.model.text.pad_id() as i64,
        });
    }
    Ok(objective)
}

pub(crate) fn lock(config: &TrainConfig) -> Lock {
    if let Some(finetune) = &config.finetune {
        // What class names say is the classifier's start, and the text tower is done.
        let whole = finetune.head_only || finetune.lora.is_some();
        let groups = config.lock_image_unlocked_groups;
        return Lock {
            image: (whole || config.lock_image).then_some(if whole { 0 } else { groups }),
            freeze_bn_stats: whole || config.lock_image_freeze_bn_stats,
            text: Some(0),
            freeze_layer_norm: true,
        };
    }
    Lock {
        image: config
            .lock_image
            .then_some(config.lock_image_unlocked_groups),
        freeze_bn_stats: config.lock_image_freeze_bn_stats,
        text: config.lock_text.then_some(config.lock_text_unlocked_layers),
        freeze_layer_norm: config.lock_text_freeze_layer_norm,
    }
}

/// Gives the model what flags say about how training computes it.
pub(super) fn computation(
    config: &TrainConfig,
    loaded: &mut Loaded,
    ranks: &Arc<dyn Communicator>,
) -> Result<(), TrainError> {
    if config.use_bn_sync && ranks.world_size() > 1 {
        let ranks = BatchNormRanks(Arc::clone(ranks));
        loaded.model.synchronise_batch_norm(Arc::new(ranks));
    }
    if config.grad_checkpointing {
        loaded.model = loaded.model.clone().with_grad_checkpointing()?;
    }
    Ok(())
}
