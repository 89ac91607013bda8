//! timm's `VisionTransformerRelPos` as OpenCLIP's timm adapter uses it: patches have no positions; a small MLP in every block makes
//! attention scores of the displacement between key and query.

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, TensorData, activation::relu};

mod arch;

pub use arch::RelPosConfig;

use crate::family::cost::Cost;
use crate::family::keys::Marks;
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, TimmProj, VisionConfig};
use crate::layers::drop_path::{DropPath, branch_seed, drop_path_shares};
use crate::layers::relative::{biased_attention, displacements, scores};
use crate::layers::{
    Activation, LayerNorm, LayerScale, Linear, Noise, PatchEmbed, Recompute, TimmMlp, parameter,
};
use crate::vision::timm::{TimmHead, TokenPool};

/// Added to the variance in every LayerNorm.
const NORM_EPS: f64 = 1e-6;
/// Share of the hidden values that training leaves out of the scores' MLP.
const SCORE_DROPOUT: f64 = 0.125;

/// Displacement → one score per head, `fc2(ReLU(fc1(·)))`.
#[derive(Module, Debug)]
pub struct ScoreMlp {
    /// `2 → hidden`.
    pub fc1: Linear,
    /// `hidden → heads`.
    pub fc2: Linear,
}

/// Key of the MLP under timm's name of what is around it.
#[derive(Module, Debug)]
pub struct RelPosMlp {
    /// Scores of displacements.
    pub mlp: ScoreMlp,
}

/// Self-attention with scores for displacements.
#[derive(Module, Debug)]
pub struct RelPosAttention {
    /// `width → 3·width`: query, key and value side by side.
    pub qkv: Linear,
    /// Scores of displacements.
    pub rel_pos: RelPosMlp,
    /// `width → width`.
    pub proj: Linear,
}

/// Displacements of the patches, the same for all blocks.
#[derive(Clone)]
struct Displacements {
    /// `[(2·rows − 1)·(2·columns − 1), 2]`: for each displacement down and right, `sign·ln(1 + |·|)` of both.
    coordinates: Tensor<2>,
    /// Which displacement lies between two patches, `[patches²]`.
    between: Tensor<1, Int>,
    /// Number of patches.
    count: usize,
    /// Tokens before the patches, whose scores are zero.
    prefix: usize,
}

impl Displacements {
    fn new([rows, columns]: [usize; 2], prefix: usize, device: &Device) -> Self {
        let logarithms = |side: usize| {
            let steps = 1 - side as i64..side as i64;
            steps.map(|step| (step.signum() as f64 * (step.abs() as f64).ln_1p()) as f32)
        };
        let coordinates: Vec<f32> = logarithms(rows)
            .flat_map(|down| logarithms(columns).flat_map(move |right| [down, right]))
            .collect();
        let count = coordinates.len() / 2;
        Self {
            coordinates: Tensor::from_data(TensorData::new(coordinates, [count, 2]), device),
            between: displacements(rows, columns, device),
            count: rows * columns,
            prefix,
        }
    }
}

impl RelPosAttention {
    /// `[batch, tokens, width]` → the same shape.
    fn forward(&self, x: Tensor<3>, displacements: &Displacements, noise: &mut Noise) -> Tensor<3> {
        let mlp = &self.rel_pos.mlp;
        let hidden = relu(
            mlp.fc1
                .forward(displacements.coordinates.clone().cast(x.dtype())),
        );
        let table = mlp.fc2.forward(noise.dropout(hidden, SCORE_DROPOUT));
        let patches = scores(table, displacements.between.clone(), displacements.count);
        let bias = match displacements.prefix {
            0 => patches,
            prefix => patches.pad((prefix, 0, prefix, 0), 0.0),
        };
        biased_attention(x, &self.qkv, &self.proj, bias)
    }
}

/// Attention and MLP, each on a normalised copy of the residual stream and behind a LayerScale.
#[derive(Module, Debug)]
pub struct RelPosBlock {
    /// Before the attention.
    pub norm1: LayerNorm,
    /// Self-attention.
    pub attn: RelPosAttention,
    /// On the attention's output.
    pub ls1: LayerScale,
    /// Before the MLP.
    pub norm2: LayerNorm,
    /// `width → hidden → width`.
    pub mlp: TimmMlp,
    /// On the MLP's output.
    pub ls2: LayerScale,
    /// Of attention and MLP.
    #[module(skip)]
    drop: [DropPath; 2],
    /// Number of the scores' dropout among the tower's random draws.
    #[module(skip)]
    draw: usize,
}

impl RelPosBlock {
    fn new(arch: &RelPosConfig, index: usize, share: f64, device: &Device) -> Self {
        let width = arch.embed_dim;
        let hidden = (width as f64 * arch.mlp_ratio) as usize;
        Self {
            norm1: LayerNorm::new(width, NORM_EPS, device),
            attn: RelPosAttention {
                qkv: Linear::new(width, 3 * width, arch.qkv_bias, device),
                rel_pos: RelPosMlp {
                    mlp: ScoreMlp {
                        fc1: Linear::new(2, arch.rel_pos_dim, true, device),
                        fc2: Linear::new(arch.rel_pos_dim, arch.num_heads, true, device),
                    },
                },
                proj: Linear::new(width, width, true, device),
            },
            ls1: LayerScale::new(width, device),
            norm2: LayerNorm::new(width, NORM_EPS, device),
            mlp: TimmMlp::new([width, hidden, width], true, Activation::Gelu, device),
            ls2: LayerScale::new(width, device),
            // Three draws to a block.
            drop: [0, 1].map(|branch| DropPath::new(share, 3 * index + branch)),
            draw: 3 * index + 2,
        }
    }

    /// `[batch, tokens, width]` → the same shape.
    fn forward(
        &self,
        x: Tensor<3>,
        displacements: &Displacements,
        training: Option<u64>,
    ) -> Tensor<3> {
        let [first, second] = &self.drop;
        let mut noise = Noise::new(training.map(|seed| branch_seed(seed, self.draw)));
        let normed = self.norm1.forward(x.clone());
        let attended = self
            .ls1
            .forward(self.attn.forward(normed, displacements, &mut noise));
        let x = x + first.forward(attended, training);
        let hidden = self.mlp.forward(self.norm2.forward(x.clone()));
        x + second.forward(self.ls2.forward(hidden), training)
    }
}

/// Key of a convolution under timm's name of the layer around it.
#[derive(Module, Debug)]
pub struct PatchProjection {
    /// Patches to tokens.
    pub proj: PatchEmbed,
}

/// timm's transformer up to the pooled vector, or to the embedding where its classifier is the map there.
#[derive(Module, Debug)]
pub struct RelPosVit {
    /// `[1, 1, width]`.
    pub cls_token: Option<Param<Tensor<3>>>,
    /// Pixels to tokens.
    pub patch_embed: PatchProjection,
    /// Residual blocks.
    pub blocks: Vec<RelPosBlock>,
    /// After the last block, on the tokens.
    pub norm: Option<LayerNorm>,
    /// On the pooled vector.
    pub fc_norm: Option<LayerNorm>,
    /// Classifier, whose classes are the features of the embedding.
    pub head: Option<Linear>,
    #[module(skip)]
    pool: TokenPool,
    /// What becomes of the blocks' activations.
    #[module(skip)]
    pub recompute: Recompute,
}

/// timm's vision transformer with relative positions and the map behind it.
#[derive(Module, Debug)]
pub struct RelPosTower {
    /// The transformer.
    pub trunk: RelPosVit,
    /// The map to the shared embedding.
    pub head: TimmHead,
}

impl ImageFamily for RelPosTower {
    fn configures(vision: &VisionConfig) -> bool {
        let named = vision.timm_model_name().and_then(RelPosConfig::named);
        named.is_some()
    }

    fn marks() -> &'static [Marks] {
        &[("a ViT with relative positions", &[".rel_pos."])]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let vision = &config.vision_cfg;
        let options = vision.timm()?;
        let arch = RelPosConfig::of(&options)?;
        arch.grid(vision.image_size)?;
        if vision.patch_dropout != 0.0 {
            let reason = format!("{}: this tower keeps its patches", vision.patch_dropout);
            return Err(ModelError::invalid("vision_cfg.patch_dropout", reason));
        }
        let width = arch.embed_dim;
        let shares = drop_path_shares(options.stochastic_depth(0.0)?, arch.depth);
        let norm = || LayerNorm::new(width, NORM_EPS, device);
        let block = |(index, share)| RelPosBlock::new(&arch, index, share, device);
        let classifier = options.projection()? == TimmProj::Classifier;
        Ok(Self {
            trunk: RelPosVit {
                cls_token: arch.class_token.then(|| parameter([1, 1, width], device)),
                patch_embed: PatchProjection {
                    proj: PatchEmbed::biased(width, arch.patch_size, device),
                },
                blocks: shares.into_iter().enumerate().map(block).collect(),
                norm: (!arch.fc_norm).then(norm),
                fc_norm: arch.fc_norm.then(norm),
                head: classifier.then(|| Linear::new(width, config.embed_dim, true, device)),
                pool: arch.pool(&options)?,
                recompute: Recompute::default(),
            },
            head: TimmHead::new(&options, width, config.embed_dim, device)?,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        self.head.forward(self.trunk.forward(image, training))
    }

    /// How a parameter of the tower starts: PyTorch's defaults, for timm's `init_weights` leaves all layers of this model alone.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let arch = RelPosConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let name = key.strip_prefix("visual.")?;
        let (layer, leaf) = name.rsplit_once('.')?;
        let fan_in = |layer: &str| match layer {
            "trunk.patch_embed.proj" => 3 * arch.patch_size * arch.patch_size,
            "head.mlp.fc2" => 2 * config.embed_dim,
            _ if layer.ends_with(".rel_pos.mlp.fc1") => 2,
            _ if layer.ends_with(".rel_pos.mlp.fc2") => arch.rel_pos_dim,
            _ if layer.ends_with(".mlp.fc2") => (arch.embed_dim as f64 * arch.mlp_ratio) as usize,
            _ => arch.embed_dim,
        };
        let norm = layer.rsplit('.').next()?.contains("norm");
        Some(match leaf {
            "cls_token" => Init::Normal(1e-6),
            "gamma" => Init::Constant(arch.init_values),
            "bias" if norm => Init::Constant(0.0),
            _ if norm => Init::Constant(1.0),
            "bias" => Init::of_inputs(fan_in(layer)),
            _ => Init::of_matrix(shape),
        })
    }

    /// Every block makes scores of all displacements once for a batch.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let arch = RelPosConfig::of(&config.vision_cfg.timm().ok()?).ok()?;
        let grid = arch.grid(config.vision_cfg.image_size).ok()?;
        let patches: u64 = grid.map(|side| side as u64).iter().product();
        let displacements: u64 = grid.map(|side| 2 * side as u64 - 1).iter().product();
        let tokens = patches + u64::from(arch.class_token);
        let matrices = Cost::of_matrices(params, "visual.trunk.", |key| match key {
            "cls_token" => Some(0),
            "patch_embed.proj.weight" => Some(patches),
            _ if key.contains(".rel_pos.") => Some(displacements),
            _ if key.starts_with("blocks.") => Some(tokens),
            _ if key.starts_with("head.") || key.starts_with("visual.head.") => Some(1),
            _ => None,
        })?;
        let (layers, width) = (arch.depth as u64, arch.embed_dim as u64);
        Some(matrices + Cost::attention(layers, [tokens; 2], width))
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        self.trunk.recompute = Recompute::of(&self.trunk.blocks, 1)?;
        Ok(())
    }
}

impl RelPosVit {
    /// Normalised pixels `[batch, 3, height, width]` → `[batch, width]`, or `[batch, embed_dim]` with a classifier.
    pub fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let [batch, _, height, width] = image.dims();
        let [features, _, side, _] = self.patch_embed.proj.weight.dims();
        let prefix = usize::from(self.cls_token.is_some());
        let displacements =
            Displacements::new([height / side, width / side], prefix, &image.device());
        let mut tokens = self.patch_embed.proj.forward(image);
        if let Some(class) = &self.cls_token {
            let class = class.val().cast(tokens.dtype());
            tokens = Tensor::cat(vec![class.expand([batch, 1, features]), tokens], 1);
        }
        let blocks = self.blocks.iter();
        let tokens = blocks.fold(tokens, |x, block| {
            let displacements = displacements.clone();
            self.recompute.block(block, [x], move |block, [x]| {
                block.forward(x, &displacements, training)
            })
        });
        let tokens = match self.pool {
            TokenPool::Token => tokens.slice_dim(1, 0..1),
            _ => tokens.slice_dim(1, prefix..prefix + displacements.count),
        };
        let tokens = match &self.norm {
            Some(norm) => norm.forward(tokens),
            None => tokens,
        };
        let pooled = tokens.mean_dim(1).reshape([batch, features]);
        let pooled = match &self.fc_norm {
            Some(norm) => norm.forward(pooled),
            None => pooled,
        };
        match &self.head {
            Some(head) => head.forward(pooled),
            None => pooled,
        }
    }
}
