//! Freezing of towers: LiT and its relatives (`--lock-image`, `--lock-text`; arXiv 2111.07991).
//!
//! A frozen parameter has no gradient, so an optimizer keeps no state of it and leaves it as it is.

use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;

use crate::layers::batch_norm::is_running_statistic;
use crate::network::clip::Clip;
use crate::network::depth::Layers;
use crate::network::params::{self, ParamInfo};

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

impl Lock {
    /// `model` with these parameters frozen; clones of it share what becomes of BatchNorm's statistics.
    pub fn apply(&self, model: Clip) -> Clip {
        let frozen = self.frozen(&model);
        if self.freeze_bn_stats
            && let Some(statistics) = model.visual.pending_statistics()
        {
            let all = params::describe(&model).into_iter();
            let running = all.filter(|p| is_running_statistic(&p.key) && frozen.contains(&p.id));
            statistics.freeze(running.map(|param| param.id));
        }
        model.map(&mut Freeze(frozen))
    }

    /// The parameters that are frozen, without allocating any.
    pub fn frozen(&self, model: &Clip) -> HashSet<ParamId> {
        let all = params::describe(model);
        let mut frozen = HashSet::new();
        if let Some(unlocked) = self.image {
            let own = lower(Layers::of_image(model, &all), unlocked, true);
            frozen.extend(own.map(|param| param.id));
        }
        if let Some(unlocked) = self.text {
            let own = self.text_parameters(model, &all, unlocked);
            frozen.extend(own.map(|param| param.id));
        }
        frozen
    }

    /// How many groups of layers a locked tower has, where no fewer are left trainable: nothing of it is frozen then.
    pub fn idle(&self, model: &Clip) -> impl Iterator<Item = (&'static str, usize)> {
        let all = params::describe(model);
        let image = Layers::of_image(model, &all).groups.len();
        let text = Layers::of_text(model, &all).groups.len();
        [("image", self.image, image), ("text", self.text, text)]
            .into_iter()
            .filter(|(_, unlocked, groups)| unlocked.is_some_and(|unlocked| unlocked >= *groups))
            .map(|(tower, _, groups)| (tower, groups))
    }

    fn text_parameters<'a>(
        &self,
        model: &Clip,
        all: &'a [ParamInfo],
        unlocked: usize,
    ) -> impl Iterator<Item = &'a ParamInfo> {
        let layers = Layers::of_text(model, all);
        let tower = model.text.family();
        let rest = tower.freezes_rest(unlocked);
        let keeps_norms = tower.keeps_norms() && !self.freeze_layer_norm;
        lower(layers, unlocked, rest).filter(move |param| {
            !(keeps_norms && param.key.split('.').any(|part| part == "LayerNorm"))
        })
    }
}

/// Parameters below the last `unlocked` layers, with those of no layer if `rest` says so.
fn lower(layers: Layers<'_>, unlocked: usize, rest: bool) -> impl Iterator<Item = &ParamInfo> {
    let frozen = layers.groups.len().saturating_sub(unlocked);
    let rest = layers.rest.into_iter().filter(move |_| rest);
    layers.groups.into_iter().take(frozen).flatten().chain(rest)
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
