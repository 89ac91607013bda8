//! Operations of the timm towers whose positions are not those of one grid of patches: ViTamin, Swin, relative positions.

use super::cost::Cost;
use super::flops::{blocks, find, sum};
use crate::config::ModelConfig;
use crate::params::ParamInfo;
use crate::vision::relpos_arch::RelPosConfig;
use crate::vision::swin_arch::SwinConfig;

/// ViTamin: each of four groups of convolutions halves the map and works at half the resolution, apart from what comes before the
/// stride in it; the transformer sees the last map.
pub(super) fn vitamin(params: &[&ParamInfo], [height, width]: [u64; 2]) -> Option<Cost> {
    let map = |halvings: u32| height.div_ceil(1 << halvings) * width.div_ceil(1 << halvings);
    let tokens = map(4);
    let matrices = sum(params, "visual.trunk.", |key| {
        if let Some(rest) = key.strip_prefix("patch_embed.backbone.stages.") {
            let (stage, rest) = rest.split_once('.')?;
            let stage: u32 = stage.parse().ok()?;
            let before = rest.starts_with("0.conv1_1x1.");
            return Some(map(stage + 2 - u32::from(before)));
        }
        match key {
            "pos_embed" => Some(0),
            "patch_embed.backbone.pool.proj.weight" => Some(tokens),
            _ if key.starts_with("patch_embed.backbone.stem.") => Some(map(1)),
            _ if key.starts_with("blocks.") => Some(tokens),
            _ if key.starts_with("head.") || key.starts_with("visual.head.") => Some(1),
            _ => None,
        }
    })?;
    let layers = blocks(params, "visual.trunk.blocks.");
    let features = find(params, "visual.trunk.fc_norm.weight")?.shape[0] as u64;
    Some(matrices + Cost::attention(layers, [tokens; 2], features))
}

/// Vision transformer with relative positions: every block makes scores of all displacements once for a batch.
pub(super) fn relpos(config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
    let arch = RelPosConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
    let grid = arch.grid(config.vision_cfg.image_size).ok()?;
    let patches: u64 = grid.map(|side| side as u64).iter().product();
    let displacements: u64 = grid.map(|side| 2 * side as u64 - 1).iter().product();
    let tokens = patches + u64::from(arch.class_token);
    let matrices = sum(params, "visual.trunk.", |key| match key {
        "cls_token" => Some(0),
        "patch_embed.proj.weight" => Some(patches),
        _ if key.contains(".rel_pos.") => Some(displacements),
        _ if key.starts_with("blocks.") => Some(tokens),
        _ if key.starts_with("head.") || key.starts_with("visual.head.") => Some(1),
        _ => None,
    })?;
    Some(matrices + Cost::attention(arch.depth as u64, [tokens; 2], arch.embed_dim as u64))
}

/// Swin: attention and its matrices see whole windows, the zeros that fill up the last ones included; the rest sees the map.
pub(super) fn swin(config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
    let arch = SwinConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
    let image_size = config.vision_cfg.image_size;
    let sizes = arch.stages(image_size).ok()?;
    let grid = arch.grid("vision_cfg.image_size", image_size).ok()?;
    let sides = |stage: usize| grid.map(|side| side.div_ceil(1 << stage) as u64);
    let map = |stage: usize| sides(stage).iter().product::<u64>();
    let area = |stage: usize| sizes[stage].window.iter().product::<usize>() as u64;
    let windows = |stage: usize| -> u64 {
        let sides = sides(stage).into_iter().zip(sizes[stage].window);
        sides
            .map(|(side, window)| side.div_ceil(window as u64))
            .product()
    };
    let matrices = sum(params, "visual.trunk.", |key| {
        if let Some(rest) = key.strip_prefix("layers.") {
            let (stage, rest) = rest.split_once('.')?;
            let stage: usize = stage.parse().ok()?;
            return match rest {
                _ if rest.ends_with(".relative_position_bias_table") => Some(0),
                _ if rest.contains(".attn.") => Some(windows(stage) * area(stage)),
                _ => Some(map(stage)),
            };
        }
        match key {
            "patch_embed.proj.weight" => Some(map(0)),
            _ if key.starts_with("head.") || key.starts_with("visual.head.") => Some(1),
            _ => None,
        }
    })?;
    let scores = (0..sizes.len()).map(|stage| {
        let window = [area(stage); 2];
        let layers = windows(stage) * arch.depths[stage] as u64;
        Cost::attention(layers, window, sizes[stage].width as u64)
    });
    Some(matrices + scores.sum())
}
