//! The layers of a tower in order, from its input to its output.
//!
//! Which layers belong together follows from the keys of the state dict, so one function serves all families of a kind. Freezing
//! ([`crate::lock`]) and learning rates that fall towards the input both go by this order.

use std::collections::BTreeMap;

use burn::module::ParamId;

use crate::Clip;
use crate::params::ParamInfo;
use crate::text::TextTower;
use crate::vision::VisionTower;

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

/// Place of a layer in the order of its tower; equal ones belong to one group.
type Place = Vec<usize>;

/// After every block, in the group of the last.
const WITH_LAST: usize = usize::MAX;

impl<'a> Layers<'a> {
    /// The layers of the image tower of `model`, whose parameters are `all`.
    pub fn of_image(model: &Clip, all: &'a [ParamInfo]) -> Self {
        let (prefix, place): (_, fn(&str) -> Option<Place>) = match &model.visual {
            VisionTower::ResNet(_) => ("visual.", resnet),
            VisionTower::Vit(_) => ("visual.", native_image),
            _ => ("visual.trunk.", timm),
        };
        let head = all
            .iter()
            .any(|param| param.key.starts_with("visual.head."));
        Self::sorted(all.iter(), prefix, place, head)
    }

    /// The layers of the text tower of `model`, whose parameters are `all`.
    pub fn of_text(model: &Clip, all: &'a [ParamInfo]) -> Self {
        const FOREIGN: [&str; 4] = ["visual.", "text_decoder.", "logit_scale", "logit_bias"];
        const HEAD: [&str; 2] = ["text.proj.", "text.transformer.pooler."];
        let own = all
            .iter()
            .filter(|param| !FOREIGN.iter().any(|other| param.key.starts_with(other)));
        match &model.text {
            TextTower::Native(_) => {
                let prefix = if model.custom_text { "text." } else { "" };
                Self::sorted(own, prefix, native_text, false)
            }
            _ => {
                let is_head =
                    |param: &ParamInfo| HEAD.iter().any(|part| param.key.starts_with(part));
                let head = all.iter().any(is_head);
                Self::sorted(own, "text.transformer.", hugging_face, head)
            }
        }
    }

    /// All parameters, in a layer or in none. The map of `head` is not among them.
    pub fn params(&self) -> impl Iterator<Item = &'a ParamInfo> {
        let layers = self.groups.iter().flatten();
        layers.chain(&self.rest).copied()
    }

    fn sorted(
        params: impl Iterator<Item = &'a ParamInfo>,
        prefix: &str,
        place: fn(&str) -> Option<Place>,
        head: bool,
    ) -> Self {
        let mut places: BTreeMap<Place, Vec<&'a ParamInfo>> = BTreeMap::new();
        let mut layers = Self {
            head,
            ..Self::default()
        };
        for param in params {
            let Some(key) = param.key.strip_prefix(prefix) else {
                continue;
            };
            match place(key) {
                Some(place) => places.entry(place).or_default().push(param),
                None => layers.rest.push(param),
            }
        }
        for (place, params) in places {
            match layers.groups.last_mut() {
                Some(last) if place.last() == Some(&WITH_LAST) => last.extend(params),
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

/// Numbers that follow `name.` in a key: `blocks.3.norm` has 3 under `blocks`.
fn number_under(key: &str, name: &str) -> Option<usize> {
    let rest = key.strip_prefix(name)?.strip_prefix('.')?;
    rest.split('.').next()?.parse().ok()
}

/// The three convolutions at the input, four stages, attention pool.
fn resnet(key: &str) -> Option<Place> {
    let first = key.split('.').next()?;
    match first.strip_prefix("layer").map(str::parse) {
        Some(Ok(stage)) => Some(vec![1, stage]),
        _ if first == "attnpool" => Some(vec![2]),
        _ => Some(vec![0]),
    }
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
fn timm(key: &str) -> Option<Place> {
    const STEM: [&str; 6] = [
        "cls_token",
        "reg_token",
        "pos_embed",
        "patch_embed",
        "norm_pre",
        "stem",
    ];
    let parts: Vec<&str> = key.split('.').collect();
    let number = |i: usize| parts.get(i).and_then(|part| part.parse::<usize>().ok());
    Some(match (parts[0], number(1)) {
        ("blocks", Some(block)) => vec![1, block],
        ("stages" | "layers", Some(stage)) => match parts.get(2) {
            Some(&("downsample" | "pos_emb")) => vec![1, stage, 0],
            _ => vec![1, stage, number(3).unwrap_or(0)],
        },
        (first, _) if STEM.contains(&first) => vec![0],
        ("norm", _) => vec![1, WITH_LAST],
        _ => vec![2],
    })
}
