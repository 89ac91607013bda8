//! The layers of a tower in order, from its input to its output.
//!
//! Which layers belong together follows from the keys of the state dict, so one function serves all families of a kind. Freezing
//! ([`crate::network::lock`]) and learning rates that fall towards the input both go by this order.

use std::collections::BTreeMap;

use burn::module::ParamId;

use super::clip::Clip;
use crate::family::ParamInfo;
use crate::family::depth::{Depth, WITH_LAST};

/// A tower's parameters by layer.
#[derive(Debug, Default)]
pub struct Layers<'a> {
    /// One entry for each layer, the one at the input first.
    pub groups: Vec<Vec<&'a ParamInfo>>,
    /// What belongs to no layer.
    pub rest: Vec<&'a ParamInfo>,
    /// Whether a map into the shared space lies behind the last of `groups`, as one more layer that is never frozen.
    pub head: bool,
}

impl<'a> Layers<'a> {
    /// The layers of the image tower of `model`, whose parameters are `all`.
    pub fn of_image(model: &Clip, all: &'a [ParamInfo]) -> Self {
        let tower = model.visual.family();
        let mut keys = all.iter().map(|param| &param.key);
        let head = keys.any(|key| key.starts_with("visual.head."));
        let own = all.iter().filter_map(|param| {
            let key = param.key.strip_prefix(tower.root())?;
            Some((param, tower.depth(key)))
        });
        Self::sorted(own, head)
    }

    /// The layers of the text tower of `model`, whose parameters are `all`.
    pub fn of_text(model: &Clip, all: &'a [ParamInfo]) -> Self {
        const FOREIGN: [&str; 4] = ["visual.", "text_decoder.", "logit_scale", "logit_bias"];
        let tower = model.text.family();
        let prefix = if model.custom_text { "text." } else { "" };
        let own = all.iter().filter_map(|param| {
            let foreign = FOREIGN.iter().any(|other| param.key.starts_with(other));
            let key = param.key.strip_prefix(prefix).filter(|_| !foreign)?;
            Some((param, key))
        });
        let head = own.clone().any(|(_, key)| tower.is_head(key));
        let own = own.filter_map(|(param, key)| {
            let key = key.strip_prefix(tower.root())?;
            Some((param, tower.depth(key)))
        });
        Self::sorted(own, head)
    }

    /// All parameters, in a layer or in none. The map of `head` is not among them.
    pub fn params(&self) -> impl Iterator<Item = &'a ParamInfo> {
        let layers = self.groups.iter().flatten();
        layers.chain(&self.rest).copied()
    }

    fn sorted(params: impl Iterator<Item = (&'a ParamInfo, Option<Depth>)>, head: bool) -> Self {
        let mut depths: BTreeMap<Depth, Vec<&'a ParamInfo>> = BTreeMap::new();
        let mut layers = Self {
            head,
            ..Self::default()
        };
        for (param, depth) in params {
            match depth {
                Some(depth) => depths.entry(depth).or_default().push(param),
                None => layers.rest.push(param),
            }
        }
        for (depth, params) in depths {
            match layers.groups.last_mut() {
                Some(last) if depth.last() == Some(&WITH_LAST) => last.extend(params),
                _ => layers.groups.push(params),
            }
        }
        layers
    }

    /// `decay` to the power of a layer's distance from the output, for each parameter where that is not zero.
    pub fn scales(&self, decay: f64) -> impl Iterator<Item = (f64, Vec<ParamId>)> {
        let last = self.groups.len() + usize::from(self.head);
        let groups = self.groups.iter().enumerate().map(move |(depth, params)| {
            let scale = decay.powi((last - 1 - depth) as i32);
            (scale, params.iter().map(|param| param.id).collect())
        });
        groups.filter(|(scale, _)| *scale != 1.0)
    }
}
