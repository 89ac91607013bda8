//! Sizes of the FastViTs that MobileCLIP is made of, by timm's names.

use serde::{Deserialize, Serialize};

use crate::files::ModelError;
use crate::files::config::{TimmOptions, check_extent, check_hidden, check_layers};

/// How the positions of a stage's blocks see each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenMixer {
    /// A depthwise convolution.
    RepMixer,
    /// Self-attention.
    Attention,
}

/// Norm before the attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormLayer {
    /// BatchNorm.
    BatchNorm2d,
    /// LayerNorm over channels.
    LayerNorm2d,
}

/// Arguments of timm's `FastVit`, under timm's names; a list has an entry per stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FastVitConfig {
    /// Blocks.
    pub layers: Vec<usize>,
    /// Channels.
    pub embed_dims: Vec<usize>,
    /// Hidden width of the MLPs relative to the channels; the product is truncated.
    pub mlp_ratios: Vec<f64>,
    /// How positions see each other.
    pub token_mixers: Vec<TokenMixer>,
    /// The stage begins with half the resolution, which a change of channels asks for as well.
    pub downsamples: Vec<bool>,
    /// That beginning has a squeeze-and-excite gate.
    pub se_downsamples: Vec<bool>,
    /// A convolution that tells positions apart comes before the blocks.
    pub pos_embs: Vec<bool>,
    /// A non-linearity behind the large kernels of the stages' beginnings.
    pub lkc_use_act: bool,
    /// One-pixel branches in the stem.
    pub stem_use_scale_branch: bool,
    /// Start value of the factors on the blocks' branches.
    pub layer_scale_init_value: f64,
    /// Norm before the attention.
    pub norm_layer: NormLayer,
}

/// Width of an attention head.
pub const HEAD_WIDTH: usize = 32;

impl FastVitConfig {
    /// The architecture that timm knows under this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "fastvit_mci0" => Some(Self::four([2, 6, 10, 2], 64)),
            "fastvit_mci1" => Some(Self::four([4, 12, 20, 4], 64)),
            "fastvit_mci2" => Some(Self::four([4, 12, 24, 4], 80)),
            "fastvit_mci3" => Some(Self::five([2, 12, 24, 4, 2], 96)),
            "fastvit_mci4" => Some(Self::five([2, 12, 24, 4, 4], 128)),
            _ => None,
        }
    }

    /// MobileCLIP's shape: gates in the last two stages, attention in the last one.
    fn four(layers: [usize; 4], first: usize) -> Self {
        use TokenMixer::{Attention, RepMixer};
        Self {
            layers: layers.into(),
            embed_dims: doubled(first, 4),
            mlp_ratios: vec![3.0; 4],
            token_mixers: vec![RepMixer, RepMixer, RepMixer, Attention],
            downsamples: vec![false, true, true, true],
            se_downsamples: vec![false, false, true, true],
            pos_embs: vec![false, false, false, true],
            lkc_use_act: true,
            stem_use_scale_branch: true,
            layer_scale_init_value: 1e-5,
            norm_layer: NormLayer::BatchNorm2d,
        }
    }

    /// The shape of MobileCLIP2's larger models: attention in the last two stages.
    fn five(layers: [usize; 5], first: usize) -> Self {
        use TokenMixer::{Attention, RepMixer};
        Self {
            layers: layers.into(),
            embed_dims: doubled(first, 5),
            mlp_ratios: vec![4.0; 5],
            token_mixers: vec![RepMixer, RepMixer, RepMixer, Attention, Attention],
            downsamples: vec![false, true, true, true, true],
            se_downsamples: vec![false; 5],
            pos_embs: vec![false, false, false, true, true],
            lkc_use_act: true,
            stem_use_scale_branch: false,
            layer_scale_init_value: 1e-5,
            norm_layer: NormLayer::LayerNorm2d,
        }
    }

    /// The named architecture with the configuration's changes.
    ///
    /// # Errors
    /// The name is another family's, or a size or switch is one that no FastViT has.
    pub fn of(options: &TimmOptions) -> Result<Self, ModelError> {
        let config: Self = options.merged(Self::named(&options.model_name))?;
        config.check()?;
        options.check_mean_pool()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ModelError> {
        let stages = self.layers.len();
        let lengths = [
            ("embed_dims", self.embed_dims.len()),
            ("mlp_ratios", self.mlp_ratios.len()),
            ("token_mixers", self.token_mixers.len()),
            ("downsamples", self.downsamples.len()),
            ("se_downsamples", self.se_downsamples.len()),
            ("pos_embs", self.pos_embs.len()),
        ];
        let unfit = lengths.iter().find(|(_, length)| *length != stages);
        if let Some((name, length)) = unfit {
            return Err(ModelError::invalid(
                "vision_cfg.timm_kwargs",
                format!("{length} `{name}` for {stages} stages of `layers`"),
            ));
        }
        if stages == 0 {
            return Err(ModelError::invalid(
                "vision_cfg.timm_kwargs.layers",
                "no stage",
            ));
        }
        for stage in 0..stages {
            let width = self.embed_dims[stage];
            check_layers("vision_cfg.timm_kwargs.layers", self.layers[stage])?;
            check_extent("vision_cfg.timm_kwargs.embed_dims", width)?;
            check_hidden(
                "vision_cfg.timm_kwargs.mlp_ratios",
                width,
                self.mlp_ratios[stage],
            )?;
            let attends = self.token_mixers[stage] == TokenMixer::Attention;
            if attends && !width.is_multiple_of(HEAD_WIDTH) {
                return Err(ModelError::invalid(
                    "vision_cfg.timm_kwargs.embed_dims",
                    format!("{width} channels are no multiple of {HEAD_WIDTH}, a head's width"),
                ));
            }
            let before = self.embed_dims[stage.saturating_sub(1)];
            if !width.is_multiple_of(before) {
                return Err(ModelError::invalid(
                    "vision_cfg.timm_kwargs.embed_dims",
                    format!("{width} channels are no multiple of the {before} before them"),
                ));
            }
        }
        Ok(())
    }

    /// Whether a stage begins with half the resolution.
    pub fn shrinks(&self, stage: usize) -> bool {
        let before = self.embed_dims[stage.saturating_sub(1)];
        self.downsamples[stage] || self.embed_dims[stage] != before
    }
}

/// Channels of `stages`, twice as many in each as in the one before.
fn doubled(first: usize, stages: usize) -> Vec<usize> {
    (0..stages).map(|stage| first << stage).collect()
}
