//! Freezing of towers: LiT and its relatives (`--lock-image`, `--lock-text`; arXiv 2111.07991).
//!
//! Which layers belong together follows from the keys of the state dict, so one function serves all families of a kind. A frozen
//! parameter has no gradient, so an optimizer keeps no state of it and leaves it as it is.

use std::collections::{BTreeSet, HashSet};

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;

use crate::Clip;
use crate::error::ModelError;
use crate::layers::batch_norm::is_running_statistic;
use crate::params::{self, ParamInfo};
use crate::text::TextTower;
use crate::vision::VisionTower;

/// What of a model is not to be trained.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// Freezes the image tower but for the last so many groups of layers.
    pub image: Option<usize>,
    /// The frozen BatchNorms of the image tower normalise by their running statistics, which stay as they are.
    pub freeze_bn_stats: bool,
    /// Freezes the text tower but for the last so many layers.
    pub text: Option<usize>,
    /// Also freezes the norms called `LayerNorm` of a frozen Hugging Face tower.
    pub freeze_layer_norm: bool,
}

/// Place of a layer in the order of its tower; equal ones belong to one group.
type Place = Vec<usize>;

const STEM: [&str; 6] = [
    "cls_token",
    "reg_token",
    "pos_embed",
    "patch_embed",
    "norm_pre",
    "stem",
];

/// After every block, in the group of the last.
const WITH_LAST: usize = usize::MAX;

impl Lock {
    /// `model` with these parameters frozen; clones of it share what becomes of BatchNorm's statistics.
    ///
    /// # Errors
    /// As [`Self::frozen`].
    pub fn apply(&self, model: Clip) -> Result<Clip, ModelError> {
        let frozen = self.frozen(&model)?;
        if self.freeze_bn_stats
            && let Some(statistics) = model.visual.pending_statistics()
        {
            let all = params::describe(&model).into_iter();
            let running = all.filter(|p| is_running_statistic(&p.key) && frozen.contains(&p.id));
            statistics.freeze(running.map(|param| param.id));
        }
        Ok(model.map(&mut Freeze(frozen)))
    }

    /// The parameters that are frozen, without allocating any.
    ///
    /// # Errors
    /// [`ModelError::Invalid`] for a part of CLIP's ResNet, which has no groups.
    pub fn frozen(&self, model: &Clip) -> Result<HashSet<ParamId>, ModelError> {
        let all = params::describe(model);
        let mut frozen = HashSet::new();
        if let Some(unlocked) = self.image {
            let own = self.image_parameters(model, &all, unlocked)?;
            frozen.extend(own.into_iter().map(|param| param.id));
        }
        if let Some(unlocked) = self.text {
            let own = self.text_parameters(model, &all, unlocked);
            frozen.extend(own.into_iter().map(|param| param.id));
        }
        Ok(frozen)
    }

    fn image_parameters<'a>(
        &self,
        model: &Clip,
        all: &'a [ParamInfo],
        unlocked: usize,
    ) -> Result<Vec<&'a ParamInfo>, ModelError> {
        let tower = all.iter().filter(|param| param.key.starts_with("visual."));
        match &model.visual {
            VisionTower::ResNet(_) if unlocked > 0 => Err(ModelError::invalid(
                "--lock-image-unlocked-groups",
                "CLIP's ResNet is frozen as a whole; leave the flag away",
            )),
            VisionTower::ResNet(_) => Ok(tower.collect()),
            VisionTower::Vit(_) => Ok(locked(tower, "visual.", unlocked, native_image, true)),
            // The map behind a timm trunk stays trainable.
            _ => {
                let trunk = tower.filter(|param| param.key.starts_with("visual.trunk."));
                let place = |key: &str| Some(timm(key));
                Ok(locked(trunk, "visual.trunk.", unlocked, place, false))
            }
        }
    }

    fn text_parameters<'a>(
        &self,
        model: &Clip,
        all: &'a [ParamInfo],
        unlocked: usize,
    ) -> Vec<&'a ParamInfo> {
        let prefix = if model.custom_text { "text." } else { "" };
        let tower = all.iter().filter(|param| {
            let foreign = ["visual.", "text_decoder.", "logit_scale", "logit_bias"];
            let own = !foreign.iter().any(|other| param.key.starts_with(other));
            own && param.key.starts_with(prefix)
        });
        match &model.text {
            TextTower::Native(_) => locked(tower, prefix, unlocked, native_text, true),
            // The projection stays trainable, and so does what is in no layer unless all of them are frozen.
            _ => {
                let inner = tower.filter(|param| param.key.starts_with("text.transformer."));
                let mut own = locked(
                    inner,
                    "text.transformer.",
                    unlocked,
                    hugging_face,
                    unlocked == 0,
                );
                if !self.freeze_layer_norm {
                    own.retain(|param| !param.key.split('.').any(|part| part == "LayerNorm"));
                }
                own
            }
        }
    }
}

/// Parameters outside of the last `unlocked` groups. Those that `place` puts nowhere are frozen if `rest` says so.
fn locked<'a>(
    params: impl Iterator<Item = &'a ParamInfo>,
    prefix: &str,
    unlocked: usize,
    place: impl Fn(&str) -> Option<Place>,
    rest: bool,
) -> Vec<&'a ParamInfo> {
    let placed: Vec<_> = params
        .map(|param| {
            (
                place(param.key.strip_prefix(prefix).unwrap_or(&param.key)),
                param,
            )
        })
        .collect();
    if unlocked == 0 {
        let frozen = placed
            .into_iter()
            .filter(|(place, _)| rest || place.is_some());
        return frozen.map(|(_, param)| param).collect();
    }
    let places: BTreeSet<&Place> = placed
        .iter()
        .filter_map(|(place, _)| place.as_ref())
        .collect();
    // The number of its group for each place: those that end in `WITH_LAST` share the one before.
    let mut groups = Vec::new();
    let mut count = 0_usize;
    for place in places {
        if count == 0 || place.last() != Some(&WITH_LAST) {
            count += 1;
        }
        groups.push((place.clone(), count));
    }
    let frozen = placed.into_iter().filter(|(place, _)| match place {
        None => rest,
        Some(place) => groups
            .iter()
            .any(|(other, group)| other == place && group + unlocked <= count),
    });
    frozen.map(|(_, param)| param).collect()
}

/// Numbers that follow `name.` in a key: `blocks.3.norm` has 3 under `blocks`.
fn number_under(key: &str, name: &str) -> Option<usize> {
    let rest = key.strip_prefix(name)?.strip_prefix('.')?;
    rest.split('.').next()?.parse().ok()
}

/// Stem, each block with the last one's norm, projection. An attention pooler is in no group.
fn native_image(key: &str) -> Option<Place> {
    const STEM: [&str; 4] = ["conv1", "class_embedding", "positional_embedding", "ln_pre"];
    match key.split('.').next().unwrap_or_default() {
        first if STEM.contains(&first) => Some(vec![0]),
        "ln_post" => Some(vec![1, WITH_LAST]),
        "proj" => Some(vec![2]),
        _ => Some(vec![1, number_under(key, "transformer.resblocks")?]),
    }
}

/// Embeddings, each block with the last one's norm, projection.
fn native_text(key: &str) -> Option<Place> {
    const EMBEDDINGS: [&str; 3] = ["token_embedding", "positional_embedding", "cls_emb"];
    match key.split('.').next().unwrap_or_default() {
        first if EMBEDDINGS.contains(&first) => Some(vec![0]),
        "ln_final" => Some(vec![1, WITH_LAST]),
        "text_projection" => Some(vec![2]),
        _ => Some(vec![1, number_under(key, "transformer.resblocks")?]),
    }
}

/// Embeddings, then each layer.
fn hugging_face(key: &str) -> Option<Place> {
    if key.starts_with("embeddings.") || key.starts_with("embed_tokens.") {
        return Some(vec![0]);
    }
    let layers = ["encoder.layer", "block", "layers"];
    let layer = layers.iter().find_map(|name| number_under(key, name))?;
    Some(vec![1, layer])
}

/// Groups of timm's `group_matcher`: stem, each block, what is behind them.
fn timm(key: &str) -> Place {
    let parts: Vec<&str> = key.split('.').collect();
    let number = |i: usize| parts.get(i).and_then(|part| part.parse::<usize>().ok());
    match (parts[0], number(1)) {
        ("blocks", Some(block)) => vec![1, block],
        ("stages" | "layers", Some(stage)) => match parts.get(2) {
            Some(&("downsample" | "pos_emb")) => vec![1, stage, 0],
            _ => vec![1, stage, number(3).unwrap_or(0)],
        },
        (first, _) if STEM.contains(&first) => vec![0],
        ("norm", _) => vec![1, WITH_LAST],
        _ => vec![2],
    }
}

struct Freeze(HashSet<ParamId>);

impl ModuleMapper for Freeze {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.contains(&param.id) {
            true => param.set_require_grad(false),
            false => param,
        }
    }
}
