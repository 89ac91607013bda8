//! Operations of timm's vision transformers.

use crate::family::ParamInfo;
use crate::family::cost::{Cost, blocks, find};

/// Blocks whose matrices see every token, and perhaps attention pooling by one query. `grid` is the number of patches and `stem` at how
/// many positions a parameter applies that makes them, of a key without `visual.trunk.`.
pub(crate) fn transformer_cost(
    params: &[&ParamInfo],
    grid: u64,
    stem: impl Fn(&str) -> Option<u64>,
) -> Option<Cost> {
    let prefix = ["visual.trunk.cls_token", "visual.trunk.reg_token"];
    let prefix = prefix.iter().filter_map(|key| find(params, key));
    let tokens = grid + prefix.map(|token| token.shape[1] as u64).sum::<u64>();
    let matrices = Cost::of_matrices(params, "visual.trunk.", |key| match key {
        "pos_embed" | "cls_token" | "reg_token" | "attn_pool.latent" => Some(0),
        "attn_pool.kv.weight" => Some(tokens),
        _ if key.starts_with("blocks.") => Some(tokens),
        _ if key.starts_with("attn_pool.") => Some(1),
        _ if key.starts_with("head.") || key.starts_with("visual.head.") => Some(1),
        _ => stem(key),
    })?;
    let layers = blocks(params, "visual.trunk.blocks.");
    let width = find(params, "visual.trunk.pos_embed")?.shape[2] as u64;
    let pool = find(params, "visual.trunk.attn_pool.latent").map_or(0, |_| tokens);
    let attention = Cost::attention(layers, [tokens; 2], width);
    Some(matrices + attention + Cost::attention(1, [1, pool], width))
}
