//! timm's ViTamin as OpenCLIP's timm adapter uses it: convolution stages, then a transformer with gated MLPs ("ViTamin: Designing
//! Scalable Vision Models in the Vision-Language Era", <https://arxiv.org/abs/2404.02132>).
//!
//! Feature maps are `[batch, height, width, channels]`, so that LayerNorm and pointwise convolutions see channels last.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

mod arch;
mod stem;

pub use arch::{PosEmbed, StagesConfig, VitaminConfig};
pub use stem::ConvStages;

use crate::family::cost::{Cost, blocks, find, sides};
use crate::family::keys::Marks;
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmProj, VisionConfig};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::drop_path::{DropPath, drop_path_shares};
use crate::layers::flex::affine::Affine;
use crate::layers::flex::stack::{Block, Mlp, Stack};
use crate::layers::patch::{check_patch_dropout, patch_dropout};
use crate::layers::{Activation, Bits, LayerNorm, Linear, QkvAttention, Recompute, parameter};
use crate::vision::timm::{TimmHead, fit_pos_embed, initial_head};
use stem::NORM_EPS;

/// Gated MLP with a norm of its own: `w2(GELU(w0·x) ⊙ w1·x)` of the normalised input (timm's `GeGluMlp`).
#[derive(Module, Debug)]
pub struct GeGluMlp {
    /// On the input, which the block has normalised once already.
    pub norm: LayerNorm,
    /// `width → hidden`, the gate.
    pub w0: Linear,
    /// `width → hidden`, what is gated.
    pub w1: Linear,
    /// `hidden → width`.
    pub w2: Linear,
}

impl GeGluMlp {
    fn new(width: usize, hidden: usize, device: &Device) -> Self {
        Self {
            norm: LayerNorm::new(width, NORM_EPS, device),
            w0: Linear::new(width, hidden, true, device),
            w1: Linear::new(width, hidden, true, device),
            w2: Linear::new(hidden, width, true, device),
        }
    }

    /// `[batch, tokens, width]` → the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.norm.forward(x);
        let gate = Activation::Gelu.forward(self.w0.forward(x.clone()));
        self.w2.forward(gate * self.w1.forward(x))
    }

    /// The layers in evaluation mode, in f32 on the CPU.
    fn folded(&self) -> Option<Mlp> {
        Some(Mlp {
            norm: Some(self.norm.folded()?),
            fc: Affine::of(&self.w0, None, Bits::All)?,
            activation: Activation::Gelu,
            beside: Some(Affine::of(&self.w1, None, Bits::All)?),
            proj: Affine::of(&self.w2, None, Bits::All)?,
        })
    }
}

/// Attention and gated MLP, each on a normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct VitaminBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: QkvAttention,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// `width → hidden → width`.
    pub mlp: GeGluMlp,
    /// Of attention and MLP.
    #[module(skip)]
    drop: [DropPath; 2],
}

impl VitaminBlock {
    /// `[batch, tokens, width]` → the same shape.
    fn forward(&self, x: Tensor<3>, training: Option<u64>) -> Tensor<3> {
        let [first, second] = &self.drop;
        let attended = self.attn.forward(self.norm1.forward(x.clone()));
        let x = x + first.forward(attended, training);
        let hidden = self.mlp.forward(self.norm2.forward(x.clone()));
        x + second.forward(hidden, training)
    }

    /// The block in evaluation mode, in f32 on the CPU.
    fn folded(&self) -> Option<Block> {
        let norms = [&self.norm1, &self.norm2];
        self.attn.folded(norms, None, self.mlp.folded()?, Bits::All)
    }
}

/// Key of the convolutions under timm's name of what is around them.
#[derive(Module, Debug)]
pub struct HybridEmbed {
    /// Pixels to a feature map with a position per patch.
    pub backbone: ConvStages,
}

/// timm's ViTamin up to the pooled vector, or to the embedding where its classifier is the map there.
#[derive(Module, Debug)]
pub struct Vitamin {
    /// `[1, rows·columns, width]`; absent in the XL towers.
    pub pos_embed: Option<Param<Tensor<3>>>,
    /// Pixels to tokens.
    pub patch_embed: HybridEmbed,
    /// Residual blocks.
    pub blocks: Vec<VitaminBlock>,
    /// On the mean of the tokens.
    pub fc_norm: LayerNorm,
    /// Classifier, whose classes are the features of the embedding.
    pub head: Option<Linear>,
    #[module(skip)]
    grid: (usize, usize),
    #[module(skip)]
    patch_dropout: f64,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    /// The blocks in evaluation mode.
    #[module(skip)]
    folded: Option<Stack>,
}

/// timm's ViTamin and the map behind it.
#[derive(Module, Debug)]
pub struct VitaminTower {
    /// Convolutions and transformer.
    pub trunk: Vitamin,
    /// The map to the shared embedding.
    pub head: TimmHead,
}

impl ImageFamily for VitaminTower {
    fn configures(vision: &VisionConfig) -> bool {
        let named = vision.timm_model_name().and_then(VitaminConfig::named);
        named.is_some()
    }

    fn marks() -> &'static [Marks] {
        &[("a ViTamin", &[".patch_embed.backbone.stages."])]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let vision = &config.vision_cfg;
        let options = vision.timm()?;
        let arch = VitaminConfig::of(&options)?;
        let grid = VitaminConfig::grid(vision.image_size)?;
        check_patch_dropout(vision.patch_dropout)?;
        let width = arch.embed_dim;
        let hidden = (width as f64 * arch.mlp_ratio) as usize;
        let shares = drop_path_shares(options.stochastic_depth(0.0)?, arch.depth);
        let norm = || LayerNorm::new(width, NORM_EPS, device);
        let block = |(index, share)| VitaminBlock {
            norm1: norm(),
            attn: QkvAttention::new(width, arch.num_heads, true, device),
            norm2: norm(),
            mlp: GeGluMlp::new(width, hidden, device),
            drop: [0, 1].map(|branch| DropPath::new(share, 2 * index + branch)),
        };
        let placed = arch.pos_embed == PosEmbed::Learn;
        let classifier = options.projection()? == TimmProj::Classifier;
        Ok(Self {
            trunk: Vitamin {
                pos_embed: placed.then(|| parameter([1, grid.0 * grid.1, width], device)),
                patch_embed: HybridEmbed {
                    backbone: ConvStages::new(&arch.embed_cfg, device),
                },
                blocks: shares.into_iter().enumerate().map(block).collect(),
                fc_norm: norm(),
                head: classifier.then(|| Linear::new(width, config.embed_dim, true, device)),
                grid,
                patch_dropout: vision.patch_dropout,
                recompute: Recompute::default(),
                folded: None,
            },
            head: TimmHead::new(&options, width, config.embed_dim, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.head.forward(self.trunk.forward(image, training))
    }

    /// How a parameter of the tower starts: timm's `init_weights_vit_timm` and `_init_conv`, and PyTorch's defaults where neither
    /// reaches, which are the last convolution and the map behind the trunk.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = VitaminConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let Some(name) = key.strip_prefix("visual.trunk.") else {
            return Some(initial_head(key, shape, arch.embed_dim, config));
        };
        let leaf = name.rsplit('.').next()?;
        Some(match (leaf, shape) {
            // Cut at ±2, a hundred standard deviations away.
            ("pos_embed", _) => Init::Normal(0.02),
            _ if name.starts_with("patch_embed.backbone.pool.proj.") => {
                Init::of_inputs(9 * arch.embed_cfg.embed_dim[1])
            }
            ("bias", _) => Init::Constant(0.0),
            (_, [_]) => Init::Constant(1.0),
            // Depthwise kernels have a group per output channel.
            (_, [_, 1, height, width]) => Init::Normal((2.0 / (height * width) as f64).sqrt()),
            (_, [output, _, height, width]) => {
                Init::Normal((2.0 / (output * height * width) as f64).sqrt())
            }
            _ => Init::Normal(0.02),
        })
    }

    /// Each of four groups of convolutions halves the map and works at half the resolution, apart from what comes before the stride
    /// in it; the transformer sees the last map.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let [height, width] = sides(config.vision_cfg.image_size);
        let map = |halvings: u32| height.div_ceil(1 << halvings) * width.div_ceil(1 << halvings);
        let tokens = map(4);
        let matrices = Cost::of_matrices(params, "visual.trunk.", |key| {
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

    fn resized(
        &self,
        key: &str,
        table: &RawTensor,
        shape: &[usize],
    ) -> Result<Option<RawTensor>, WeightsError> {
        fit_pos_embed(key, table, shape, self.trunk.grid)
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        let backbone = &mut self.trunk.patch_embed.backbone;
        backbone.recompute = Recompute::of(backbone.stages.iter().flatten(), 1)?;
        self.trunk.recompute = Recompute::of(&self.trunk.blocks, 1)?;
        Ok(())
    }

    /// Blocks whose weights are packed.
    fn fold(&mut self, _: Bits) -> bool {
        self.trunk.patch_embed.backbone.fold();
        let blocks = self.trunk.blocks.iter().map(VitaminBlock::folded);
        self.trunk.folded = blocks.collect::<Option<_>>().and_then(Stack::new);
        false
    }
}

impl Vitamin {
    /// Normalised pixels `[batch, 3, height, width]` → `[batch, width]`, or `[batch, embed_dim]` with a classifier.
    ///
    /// Without `pos_embed` the picture may have any size.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let map = self.patch_embed.backbone.forward(image, training.is_some());
        let [batch, rows, columns, width] = map.dims();
        let mut tokens = map.reshape([batch, rows * columns, width]);
        if let Some(positions) = &self.pos_embed {
            tokens = tokens.clone() + positions.val().cast(tokens.dtype());
        }
        if let (Some(seed), true) = (training, self.patch_dropout > 0.0) {
            tokens = patch_dropout(tokens, self.patch_dropout, seed);
        }
        let folded = self.folded.as_ref().filter(|_| training.is_none());
        let tokens = match folded.and_then(|folded| folded.takes(&tokens)) {
            Some(folded) => folded.forward(tokens, false),
            None => self.blocks.iter().fold(tokens, |x, block| {
                self.recompute
                    .block(block, [x], move |block, [x]| block.forward(x, training))
            }),
        };
        let pooled = self
            .fc_norm
            .forward(tokens.mean_dim(1).reshape([batch, width]));
        match &self.head {
            Some(head) => head.forward(pooled),
            None => pooled,
        }
    }
}
