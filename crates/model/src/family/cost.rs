//! What a forward pass of one sample costs: operations, and values that its backward pass needs.
//!
//! The rules are those of PyTorch's `FlopCounterMode`, which made OpenCLIP's table: matrix products, convolutions and attention
//! count, a multiplication and an addition as two; norms, activations and sums do not. A matrix of `n` values that is applied at
//! `p` positions (tokens, pixels of a feature map, or 1 behind a pool) costs `2·n·p`, a convolution's kernel likewise, and
//! attention of `q` queries on `k` keys in a width of `d` costs `4·q·k·d`. What a family has to say is therefore at how many
//! positions the parameter behind a key is applied, and which attention it has.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::Add;

use super::param::ParamInfo;
use crate::files::config::ImageSize;

/// Width of an attention head in nearly every model.
const HEAD_WIDTH: u64 = 64;

/// The cost of a part of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cost {
    /// Operations.
    pub flops: u64,
    /// Values that each matrix or kernel puts out, with its key.
    outputs: Vec<(String, u64)>,
    /// Attention's scores.
    scores: u64,
}

impl Cost {
    /// Of all parameters with at least two axes. `positions` gets a key without `prefix`; `None` ends the count.
    pub fn of_matrices(
        params: &[&ParamInfo],
        prefix: &str,
        positions: impl Fn(&str) -> Option<u64>,
    ) -> Option<Self> {
        let matrices = params.iter().filter(|param| param.shape.len() > 1);
        let costs = matrices.map(|param| {
            let key = param.key.strip_prefix(prefix).unwrap_or(&param.key);
            Some(Self::matrix(param, positions(key)?))
        });
        costs.sum()
    }

    /// Of a matrix or kernel that is applied at a number of positions.
    pub fn matrix(param: &ParamInfo, positions: u64) -> Self {
        let features = param.shape.first().copied().unwrap_or(0) as u64;
        Self {
            flops: 2 * param.numel() as u64 * positions,
            outputs: vec![(param.key.clone(), features * positions)],
            scores: 0,
        }
    }

    /// `4·q·k·d`, of `layers` layers.
    pub fn attention(layers: u64, [queries, keys]: [u64; 2], width: u64) -> Self {
        Self {
            flops: layers * 4 * queries * keys * width,
            outputs: Vec::new(),
            scores: layers * queries * keys * (width / HEAD_WIDTH).max(1),
        }
    }

    /// `layers` packed matrices of query, key and value, of which the first third sees `queries` and the rest `keys`.
    pub fn packed(layers: u64, [queries, keys]: [u64; 2], width: u64) -> Self {
        let outputs = layers * width * (queries + 2 * keys);
        Self {
            flops: 2 * width * outputs,
            outputs: vec![(String::new(), outputs)],
            scores: 0,
        }
    }

    /// Values that training keeps: what each matrix puts out and as much again for the norm, the non-linearity or the sum around it,
    /// twice that before a QuickGELU, which is a product; and attention's scores, scaled scores and weights.
    pub fn kept(&self, quick_gelu: bool) -> u64 {
        let outputs = self.outputs.iter();
        outputs
            .map(|output| around(output, quick_gelu))
            .sum::<u64>()
            + 3 * self.scores
    }

    /// The same where a block keeps its input alone and is computed again when its turn comes.
    pub fn recomputed(&self, quick_gelu: bool) -> u64 {
        let mut outside = 0;
        let mut blocks = BTreeMap::new();
        for output in &self.outputs {
            match block(&output.0) {
                None => outside += around(output, quick_gelu),
                Some(name) => {
                    let (inside, last) = blocks.entry(name).or_insert((0, 0));
                    *inside += around(output, quick_gelu);
                    *last = output.1;
                }
            }
        }
        let inputs: u64 = blocks.values().map(|(_, last)| last).sum();
        let largest = blocks.values().map(|(inside, _)| inside).max();
        let scores = 3 * self.scores / (blocks.len() as u64).max(1);
        outside + inputs + largest.copied().unwrap_or(0) + scores
    }
}

fn around((key, values): &(String, u64), quick_gelu: bool) -> u64 {
    match quick_gelu && key.ends_with("mlp.c_fc.weight") {
        true => 4 * values,
        false => 2 * values,
    }
}

/// The part of a key that names the block, such as `visual.trunk.stages.2.blocks.5`.
fn block(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    let is_number = |at: usize| {
        let part = parts.get(at);
        part.is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let at = |names: &[&str]| {
        let found = parts.iter().position(|part| names.contains(part));
        found.filter(|at| is_number(at + 1)).map(|at| at + 1)
    };
    let last = at(&["resblocks", "blocks", "block"])
        .or_else(|| at(&["stages"]).map(|at| at + 1).filter(|at| is_number(*at)))
        .or_else(|| at(&["layer", "layers", "cross_attn"]))
        .or_else(|| at(&["layer1", "layer2", "layer3", "layer4"]))?;
    Some(parts[..=last].join("."))
}

impl Add for Cost {
    type Output = Self;

    fn add(mut self, other: Self) -> Self {
        self.flops += other.flops;
        self.outputs.extend(other.outputs);
        self.scores += other.scores;
        self
    }
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}

/// Number of blocks: distinct indices behind `prefix`.
pub fn blocks(params: &[&ParamInfo], prefix: &str) -> u64 {
    let index = |param: &&ParamInfo| -> Option<u64> {
        let (index, _) = param.key.strip_prefix(prefix)?.split_once('.')?;
        index.parse().ok()
    };
    params
        .iter()
        .filter_map(index)
        .max()
        .map_or(0, |last| last + 1)
}

/// The parameter under a key.
pub fn find<'a>(params: &[&'a ParamInfo], key: &str) -> Option<&'a ParamInfo> {
    params.iter().find(|param| param.key == key).copied()
}

/// Height and width of a picture in pixels.
pub fn sides(size: ImageSize) -> [u64; 2] {
    let (height, width) = size.dims();
    [height as u64, width as u64]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_their_blocks() {
        for (key, wanted) in [
            (
                "visual.transformer.resblocks.3.mlp.c_fc.weight",
                "visual.transformer.resblocks.3",
            ),
            (
                "visual.trunk.stages.2.blocks.5.mlp.fc2.weight",
                "visual.trunk.stages.2.blocks.5",
            ),
            (
                "visual.trunk.patch_embed.backbone.stages.0.1.conv1_1x1.weight",
                "visual.trunk.patch_embed.backbone.stages.0.1",
            ),
            (
                "visual.trunk.layers.1.blocks.0.attn.qkv.weight",
                "visual.trunk.layers.1.blocks.0",
            ),
            ("visual.layer3.5.conv1.weight", "visual.layer3.5"),
            (
                "text.transformer.encoder.layer.7.output.dense.weight",
                "text.transformer.encoder.layer.7",
            ),
            (
                "text.transformer.block.2.layer.0.SelfAttention.q.weight",
                "text.transformer.block.2",
            ),
            (
                "text.transformer.layers.4.fc1.weight",
                "text.transformer.layers.4",
            ),
        ] {
            assert_eq!(block(key).as_deref(), Some(wanted));
        }
        for key in [
            "visual.conv1.weight",
            "visual.trunk.stem.0.weight",
            "visual.trunk.head.fc.weight",
            "",
        ] {
            assert_eq!(block(key), None, "{key}");
        }
    }
}
