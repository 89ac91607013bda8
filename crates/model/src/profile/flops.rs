//! Operations of a forward pass, counted from the shapes of the parameters.
//!
//! The rules are those of PyTorch's `FlopCounterMode`, which made OpenCLIP's table: matrix products, convolutions and attention
//! count, a multiplication and an addition as two; norms, activations and sums do not. A matrix of `n` values that is applied at
//! `p` positions (tokens, pixels of a feature map, or 1 behind a pool) costs `2·n·p`, a convolution's kernel likewise, and
//! attention of `q` queries on `k` keys in a width of `d` costs `4·q·k·d`. What a family has to say is therefore at how many
//! positions the parameter behind a key is applied, and which attention it has.

use serde::Serialize;

use super::cost::Cost;
use super::{is_decoder, is_image, is_text, windows};
use crate::config::ModelConfig;
use crate::params::ParamInfo;
use crate::text::hf::{self, HfArch};
use crate::vision::relpos_arch::RelPosConfig;
use crate::vision::swin_arch::SwinConfig;
use crate::vision::vitamin_arch::VitaminConfig;

/// Operations for one picture and one caption of full length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// Of everything, a caption decoder included.
    #[serde(rename = "flops")]
    pub total: u64,
    /// Of the image tower.
    #[serde(rename = "image_flops")]
    pub image: u64,
    /// Of the text tower.
    #[serde(rename = "text_flops")]
    pub text: u64,
}

impl Flops {
    /// Counts those of a model with these parameters; `None` for a family that has no rule here.
    pub fn of(config: &ModelConfig, params: &[ParamInfo]) -> Option<Self> {
        let [image, text, decoder] = parts(config, params)?.map(|cost| cost.flops);
        Some(Self {
            total: image + text + decoder,
            image,
            text,
        })
    }
}

/// Values of one sample that training keeps for its backward pass, an estimate from the shapes of the parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Activations {
    /// In the image tower, without the picture.
    pub image: u64,
    /// In the text tower and the caption decoder.
    pub text: u64,
}

impl Activations {
    /// Those of a model with these parameters, whose blocks may be computed again in the backward pass; `None` for a family that
    /// has no rule here.
    pub fn of(config: &ModelConfig, params: &[ParamInfo], recomputed: bool) -> Option<Self> {
        let [image, text, decoder] = parts(config, params)?.map(|cost| match recomputed {
            true => cost.recomputed(config.quick_gelu),
            false => cost.kept(config.quick_gelu),
        });
        Some(Self {
            image,
            text: text + decoder,
        })
    }
}

/// Of image tower, text tower and caption decoder.
fn parts(config: &ModelConfig, params: &[ParamInfo]) -> Option<[Cost; 3]> {
    let select = |part: fn(&str) -> bool| -> Vec<&ParamInfo> {
        params.iter().filter(|param| part(&param.key)).collect()
    };
    Some([
        image(config, &select(is_image))?,
        text(config, &select(is_text))?,
        decoder(config, &select(is_decoder))?,
    ])
}

/// What the parameters with at least two axes cost. `positions` gets a key without `prefix`; `None` ends the count.
pub(super) fn sum(
    params: &[&ParamInfo],
    prefix: &str,
    positions: impl Fn(&str) -> Option<u64>,
) -> Option<Cost> {
    let matrices = params.iter().filter(|param| param.shape.len() > 1);
    let costs = matrices.map(|param| {
        let key = param.key.strip_prefix(prefix).unwrap_or(&param.key);
        Some(Cost::matrix(param, positions(key)?))
    });
    costs.sum()
}

/// Number of blocks: distinct indices behind `prefix`.
pub(super) fn blocks(params: &[&ParamInfo], prefix: &str) -> u64 {
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

pub(super) fn find<'a>(params: &[&'a ParamInfo], key: &str) -> Option<&'a ParamInfo> {
    params.iter().find(|param| param.key == key).copied()
}

fn image(config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
    let vision = &config.vision_cfg;
    let (height, width) = vision.image_size.dims();
    let size = [height as u64, width as u64];
    if let Some(name) = vision.timm_model_name() {
        if VitaminConfig::named(name).is_some() {
            return windows::vitamin(params, size);
        }
        if RelPosConfig::named(name).is_some() {
            return windows::relpos(config, params);
        }
        if SwinConfig::named(name).is_some() {
            return windows::swin(config, params);
        }
        if find(params, "visual.trunk.stem.0.weight").is_some() {
            return convnext(params, size);
        }
        if find(params, "visual.trunk.stem.0.conv_kxk.0.conv.weight").is_some() {
            return fastvit(params, size);
        }
        return timm_vit(params, size);
    }
    if vision.is_resnet() {
        return resnet(params, size);
    }
    vit(config, params)
}

/// Query, key and value of CoCa's pool where picture and pool have one width.
const POOL_PACKED: &str = "attn_pool.attn.in_proj_weight";

/// Native ViT, with CoCa's attention pool where there is one.
fn vit(config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
    let vision = &config.vision_cfg;
    let (rows, columns) = vision.grid().ok()?;
    let grid = (rows * columns) as u64;
    let tokens = grid + 1;
    let queries = vision
        .attention_pool()
        .ok()?
        .map(|pool| pool.queries as u64);
    let matrices = sum(params, "visual.", |key| match key {
        "conv1.weight" => Some(grid),
        "proj" => Some(1),
        "positional_embedding" | "attn_pool.query" | POOL_PACKED => Some(0),
        "attn_pool.attn.q_proj_weight" | "attn_pool.attn.out_proj.weight" => queries,
        "attn_pool.attn.k_proj_weight" | "attn_pool.attn.v_proj_weight" => Some(tokens),
        key => key.starts_with("transformer.resblocks.").then_some(tokens),
    })?;
    let layers = blocks(params, "visual.transformer.resblocks.");
    let embed_dim = config.embed_dim as u64;
    let pool = queries.map_or_else(Cost::default, |queries| {
        let in_proj = find(params, &format!("visual.{POOL_PACKED}"));
        let in_proj = in_proj.map_or_else(Cost::default, |_| {
            Cost::packed(1, [queries, tokens], embed_dim)
        });
        in_proj + Cost::attention(1, [queries, tokens], embed_dim)
    });
    Some(matrices + Cost::attention(layers, [tokens; 2], vision.width as u64) + pool)
}

/// timm's vision transformers: patches, blocks whose matrices see every token, perhaps attention pooling by one query.
fn timm_vit(params: &[&ParamInfo], [height, width]: [u64; 2]) -> Option<Cost> {
    // MobileCLIP's makes a patch of 16 pixels in three layers.
    const STEM: &str = "trunk.patch_embed.backbone.";
    let stem = find(params, &format!("visual.{STEM}2.conv.weight"));
    let patches = find(params, "visual.trunk.patch_embed.proj.weight").or(stem)?;
    let &[features, _, _, patch] = patches.shape.as_slice() else {
        return None;
    };
    let squares = |side: u64| (height / side) * (width / side);
    let grid = squares(stem.map_or(patch as u64, |_| 16));
    let prefix = ["visual.trunk.cls_token", "visual.trunk.reg_token"];
    let prefix = prefix.iter().filter_map(|key| find(params, key));
    let tokens = grid + prefix.map(|token| token.shape[1] as u64).sum::<u64>();
    let matrices = sum(params, "visual.", |key| match key {
        "trunk.patch_embed.proj.weight" => Some(grid),
        "trunk.pos_embed" | "trunk.cls_token" | "trunk.reg_token" | "trunk.attn_pool.latent" => {
            Some(0)
        }
        "trunk.attn_pool.kv.weight" => Some(tokens),
        _ if key.starts_with("trunk.blocks.") => Some(tokens),
        _ if key.starts_with(STEM) => match key.strip_prefix(STEM)?.split('.').next()? {
            "0" => Some(squares(4)),
            "1" => Some(squares(8)),
            _ => Some(grid),
        },
        _ if key.starts_with("trunk.attn_pool.") => Some(1),
        _ if key.starts_with("trunk.head.") || key.starts_with("head.") => Some(1),
        _ => None,
    })?;
    let layers = blocks(params, "visual.trunk.blocks.");
    let pool = find(params, "visual.trunk.attn_pool.latent").map_or(0, |_| tokens);
    let features = features as u64;
    Some(
        matrices
            + Cost::attention(layers, [tokens; 2], features)
            + Cost::attention(1, [1, pool], features),
    )
}

/// timm's ConvNeXt: a stem of squares of four pixels, then stages of half the resolution each.
fn convnext(params: &[&ParamInfo], [height, width]: [u64; 2]) -> Option<Cost> {
    let map = |stage: u32| ((height / 4) >> stage) * ((width / 4) >> stage);
    sum(params, "visual.", |key| {
        if let Some(rest) = key.strip_prefix("trunk.stages.") {
            let (stage, _) = rest.split_once('.')?;
            return Some(map(stage.parse().ok()?));
        }
        match key {
            "trunk.stem.0.weight" => Some(map(0)),
            _ if key.starts_with("trunk.head.") || key.starts_with("head.") => Some(1),
            _ => None,
        }
    })
}

/// timm's FastViT: strides of two in the stem and where a stage begins, a pixel more where a side is odd; gates see the mean.
fn fastvit(params: &[&ParamInfo], size: [u64; 2]) -> Option<Cost> {
    let map = |halvings: u64| -> u64 {
        let [height, width] = size.map(|side| (0..halvings).fold(side, |side, _| side.div_ceil(2)));
        height * width
    };
    let shrinks = |stage: &u64| {
        let first = format!("visual.trunk.stages.{stage}.downsample.proj.0.large_conv.conv.weight");
        find(params, &first).is_some()
    };
    let halvings = |stage: u64| 2 + (0..=stage).filter(shrinks).count() as u64;
    let stages = blocks(params, "visual.trunk.stages.");
    let matrices = sum(params, "visual.", |key| {
        if key.contains(".se.") || key.starts_with("trunk.head.") || key.starts_with("head.") {
            return Some(1);
        }
        if key.ends_with(".gamma") {
            return Some(0);
        }
        let stage = key.strip_prefix("trunk.stages.");
        if let Some((stage, _)) = stage.and_then(|rest| rest.split_once('.')) {
            return Some(map(halvings(stage.parse().ok()?)));
        }
        match key.strip_prefix("trunk.stem.") {
            Some(layer) => Some(map(if layer.starts_with("0.") { 1 } else { 2 })),
            None => {
                let last = map(halvings(stages.saturating_sub(1)));
                key.starts_with("trunk.final_conv.").then_some(last)
            }
        }
    })?;
    let attention = (0..stages).map(|stage| {
        let prefix = format!("visual.trunk.stages.{stage}.blocks.");
        let qkv = find(params, &format!("{prefix}0.token_mixer.qkv.weight"));
        let layers = blocks(params, &prefix);
        qkv.map_or_else(Cost::default, |qkv| {
            Cost::attention(layers, [map(halvings(stage)); 2], qkv.shape[1] as u64)
        })
    });
    Some(matrices + attention.sum())
}

/// CLIP's ResNet: the strides of a stage come between the second and the third convolution of its first block.
fn resnet(params: &[&ParamInfo], [height, width]: [u64; 2]) -> Option<Cost> {
    let stem = height.div_ceil(2) * width.div_ceil(2);
    let side = |side: u64, halvings: u32| side.div_ceil(2) >> halvings;
    let map = |stage: u32| side(height, stage) * side(width, stage);
    let tokens = map(4) + 1;
    let matrices = sum(params, "visual.", |key| {
        if let Some(rest) = key.strip_prefix("layer") {
            let mut parts = rest.split('.');
            let stage: u32 = parts.next()?.parse().ok()?;
            let first = parts.next()? == "0";
            let before = match parts.next()? {
                "conv1" | "conv2" => first && stage > 1,
                _ => false,
            };
            return Some(map(stage - u32::from(before)));
        }
        match key {
            "conv1.weight" | "conv2.weight" | "conv3.weight" => Some(stem),
            "attnpool.positional_embedding" => Some(0),
            // Upstream asks for every position and takes the first.
            key => key.starts_with("attnpool.").then_some(tokens),
        }
    })?;
    let features = find(params, "visual.attnpool.q_proj.weight")?.shape[0];
    Some(matrices + Cost::attention(1, [tokens; 2], features as u64))
}

/// OpenCLIP's own text tower.
fn text(config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
    if let Some(arch) = hf::arch(config).ok()? {
        return hugging_face(config, &arch, params);
    }
    let text = &config.text_cfg;
    let tokens = (text.context_length + usize::from(text.embed_cls())) as u64;
    let matrices = sum(params, "text.", |key| match key {
        "token_embedding.weight" | "positional_embedding" => Some(0),
        "text_projection" | "text_projection.weight" => Some(1),
        key => key.starts_with("transformer.resblocks.").then_some(tokens),
    })?;
    let prefix = match find(params, "token_embedding.weight") {
        Some(_) => "transformer.resblocks.",
        None => "text.transformer.resblocks.",
    };
    let layers = blocks(params, prefix);
    Some(matrices + Cost::attention(layers, [tokens; 2], text.width as u64))
}

/// A text tower of Hugging Face.
fn hugging_face(config: &ModelConfig, arch: &HfArch, params: &[&ParamInfo]) -> Option<Cost> {
    let tokens = config.text_cfg.context_length as u64;
    let matrices = sum(params, "text.", |key| {
        let table = key.contains("embed") || key.contains("relative_attention_bias");
        let pooled = key.starts_with("proj.") || key.starts_with("transformer.pooler.");
        Some(match (table, pooled) {
            (true, _) => 0,
            (_, true) => 1,
            _ => tokens,
        })
    })?;
    let width = (arch.heads * arch.head_width) as u64;
    Some(matrices + Cost::attention(arch.layers as u64, [tokens; 2], width))
}

/// CoCa's caption decoder, on the tokens of the text without the last, after which nothing is predicted, and on the picture's
/// without the first. OpenCLIP's published table is older: there the last token was decoded as well.
fn decoder(config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
    let Some(decoder) = config.multimodal().ok()? else {
        return Some(Cost::default());
    };
    let vision = &config.vision_cfg;
    let picture = match vision.attention_pool().ok()? {
        Some(pool) => pool.queries as u64 - 1,
        None => {
            let (rows, columns) = vision.grid().ok()?;
            (rows * columns) as u64
        }
    };
    let tokens = config.text_cfg.context_length.saturating_sub(1) as u64;
    let (layers, width) = (decoder.layers as u64, decoder.width as u64);
    let matrices = sum(params, "text_decoder.", |key| {
        let on_picture = key.starts_with("cross_attn.") && key.ends_with("in_proj_weight");
        Some(if on_picture { 0 } else { tokens })
    })?;
    let own = Cost::attention(layers, [tokens; 2], width);
    let cross = Cost::attention(layers, [tokens, picture], width);
    Some(matrices + Cost::packed(layers, [tokens, picture], width) + own + cross)
}
