//! CLIP's ResNet (`modified_resnet.py::ModifiedResNet`): a stem of three convolutions, average pools in place of strides, and
//! attention pooling at the end.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

mod arch;
mod attention_pool;

pub use arch::ResNetSizes;
pub use attention_pool::AttentionPool2d;

use crate::family::cost::{Cost, find, sides};
use crate::family::depth::Depth;
use crate::family::keys::Marks;
use crate::family::{ImageFamily, Init, ParamInfo};
use crate::files::ModelError;
use crate::files::config::{ModelConfig, VisionConfig};
use crate::files::weights::resize::{fitted, resize_image_pos_embed};
use crate::files::weights::{RawTensor, WeightsError};
use crate::layers::activation::rectified;
use crate::layers::batch_norm::PendingStatistics;
use crate::layers::folded::{Folded, Tail};
use crate::layers::pool::average_pool;
use crate::layers::{Activation, BatchNorm2d, Bits, Channels, Conv2d, Recompute, Then};

/// Channels that leave a bottleneck relative to those inside.
const EXPANSION: usize = 4;

/// Convolution of 1, 3 and 1 pixels around a residual connection.
#[derive(Module, Debug)]
pub struct Bottleneck {
    /// `input → planes`, one pixel.
    pub conv1: Conv2d,
    /// Behind `conv1`.
    pub bn1: BatchNorm2d,
    /// `planes → planes`, three pixels; an average pool follows where the block shrinks the map.
    pub conv2: Conv2d,
    /// Behind `conv2`.
    pub bn2: BatchNorm2d,
    /// `planes → 4·planes`, one pixel.
    pub conv3: Conv2d,
    /// Behind `conv3`.
    pub bn3: BatchNorm2d,
    /// Convolution and norm of the residual stream where its shape changes, behind an average pool.
    pub downsample: Option<(Conv2d, BatchNorm2d)>,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    folded: Option<FoldedBottleneck>,
}

/// How a convolution and the norm behind it are computed.
#[derive(Clone, Copy)]
struct Pass {
    layout: Channels,
    training: bool,
}

impl Pass {
    fn through(self, conv: &Conv2d, norm: &BatchNorm2d, x: Tensor<4>, then: Then<'_>) -> Tensor<4> {
        if self.layout == Channels::Last
            && self.training
            && let Some(found) = norm.behind(conv, &x, then)
        {
            return found;
        }
        let x = self.layout.first(x);
        let out = self.layout.of(norm.forward(conv.forward(x), self.training));
        match (then.rectified, then.add) {
            (true, add) => rectified(out, add.cloned()),
            (false, Some(add)) => out + add.clone(),
            (false, None) => out,
        }
    }
}

/// Convolutions of a bottleneck with the norms behind them.
#[derive(Debug, Clone)]
struct FoldedBottleneck {
    convs: [Folded; 3],
    downsample: Option<Folded>,
}

impl Bottleneck {
    fn new(
        [input, planes, stride]: [usize; 3],
        pending: &PendingStatistics,
        device: &Device,
    ) -> Self {
        let output = EXPANSION * planes;
        let norm = |channels| BatchNorm2d::new(channels, pending, device);
        Self {
            conv1: Conv2d::new(input, planes, 1, 1, device),
            bn1: norm(planes),
            conv2: Conv2d::new(planes, planes, 3, 1, device),
            bn2: norm(planes),
            conv3: Conv2d::new(planes, output, 1, 1, device),
            bn3: norm(output),
            downsample: (stride > 1 || input != output)
                .then(|| (Conv2d::new(input, output, 1, 1, device), norm(output))),
            stride,
            folded: None,
        }
    }

    /// `[batch, input, height, width]` → `[batch, 4·planes, ⌊height / stride⌋, ⌊width / stride⌋]`; or with channels last.
    fn forward(&self, layout: Channels, x: Tensor<4>, training: bool) -> Tensor<4> {
        let pass = Pass { layout, training };
        let pool = |x| average_pool(layout, x, self.stride);
        let out = pass.through(&self.conv1, &self.bn1, x.clone(), Then::RELU);
        let out = pool(pass.through(&self.conv2, &self.bn2, out, Then::RELU));
        let x = match &self.downsample {
            Some((conv, norm)) => pass.through(conv, norm, pool(x), Then::default()),
            None => x,
        };
        let then = Then {
            add: Some(&x),
            ..Then::RELU
        };
        pass.through(&self.conv3, &self.bn3, out, then)
    }

    fn fold(&mut self) {
        let folded = |conv: &Conv2d, norm: &BatchNorm2d| Folded::conv(conv).norm(norm);
        let downsample = self.downsample.as_ref();
        self.folded = Some(FoldedBottleneck {
            convs: [
                folded(&self.conv1, &self.bn1),
                folded(&self.conv2, &self.bn2),
                folded(&self.conv3, &self.bn3),
            ],
            downsample: downsample.map(|(conv, norm)| folded(conv, norm)),
        });
    }

    /// The same in evaluation, in either layout.
    fn evaluate(&self, layout: Channels, x: Tensor<4>) -> Option<Tensor<4>> {
        let FoldedBottleneck { convs, downsample } = self.folded.as_ref()?;
        let [first, second, third] = convs;
        let pool = |x| average_pool(layout, x, self.stride);
        let out = first.with(layout, x.clone(), Activation::Relu.into());
        let out = pool(second.with(layout, out, Activation::Relu.into()));
        let x = match downsample {
            Some(conv) => conv.with(layout, pool(x), Tail::default()),
            None => x,
        };
        let tail = Tail {
            add: Some(x),
            activation: Some(Activation::Relu),
        };
        Some(third.with(layout, out, tail))
    }
}

/// CLIP's ResNet.
#[derive(Module, Debug)]
pub struct ModifiedResNet {
    /// `3 → width/2`, stride 2.
    pub conv1: Conv2d,
    /// Behind `conv1`.
    pub bn1: BatchNorm2d,
    /// `width/2 → width/2`.
    pub conv2: Conv2d,
    /// Behind `conv2`.
    pub bn2: BatchNorm2d,
    /// `width/2 → width`; an average pool follows.
    pub conv3: Conv2d,
    /// Behind `conv3`.
    pub bn3: BatchNorm2d,
    /// `width → 4·width`.
    pub layer1: Vec<Bottleneck>,
    /// `4·width → 8·width`, half the size.
    pub layer2: Vec<Bottleneck>,
    /// `8·width → 16·width`, half the size.
    pub layer3: Vec<Bottleneck>,
    /// `16·width → 32·width`, half the size.
    pub layer4: Vec<Bottleneck>,
    /// `32·width → embed_dim`.
    pub attnpool: AttentionPool2d,
    #[module(skip)]
    pending: PendingStatistics,
    /// What becomes of the bottlenecks' activations.
    #[module(skip)]
    pub recompute: Recompute,
    /// The stem's convolutions.
    #[module(skip)]
    folded: Option<[Folded; 3]>,
}

impl ModifiedResNet {
    /// The features in evaluation, once it is folded.
    fn evaluate(&self, image: &Tensor<4>) -> Option<Tensor<2>> {
        let layout = Channels::fastest(image);
        let x = layout.of(image.clone());
        let stem = self.folded.as_ref()?.iter();
        let x = stem.fold(x, |x, conv| conv.with(layout, x, Activation::Relu.into()));
        let x = average_pool(layout, x, 2);
        let mut blocks = self.blocks();
        let x = blocks.try_fold(x, |x, block| block.evaluate(layout, x))?;
        Some(self.attnpool.forward(layout, x))
    }

    fn blocks(&self) -> impl Iterator<Item = &Bottleneck> {
        let stages = [&self.layer1, &self.layer2, &self.layer3, &self.layer4];
        stages.into_iter().flatten()
    }
}

impl ImageFamily for ModifiedResNet {
    /// `layers` is a list.
    fn configures(vision: &VisionConfig) -> bool {
        vision.layers.is_array() && vision.timm_model_name().is_none()
    }

    fn marks() -> &'static [Marks] {
        &[("a ModifiedResNet", &[".attnpool."])]
    }

    fn new(config: &ModelConfig, device: &Device) -> Result<Self, ModelError> {
        let sizes = ResNetSizes::of(&config.vision_cfg)?;
        let pending = PendingStatistics::default();
        let norm = |channels| BatchNorm2d::new(channels, &pending, device);
        let width = sizes.width;
        let stage = |index: usize| {
            let planes = width << index;
            let before = if index == 0 {
                width
            } else {
                EXPANSION * planes / 2
            };
            let stride = if index == 0 { 1 } else { 2 };
            let first = std::iter::once([before, planes, stride]);
            let rest =
                std::iter::repeat_n([EXPANSION * planes, planes, 1], sizes.layers[index] - 1);
            first
                .chain(rest)
                .map(|shape| Bottleneck::new(shape, &pending, device))
                .collect()
        };
        Ok(Self {
            conv1: Conv2d::new(3, width / 2, 3, 2, device),
            bn1: norm(width / 2),
            conv2: Conv2d::new(width / 2, width / 2, 3, 1, device),
            bn2: norm(width / 2),
            conv3: Conv2d::new(width / 2, width, 3, 1, device),
            bn3: norm(width),
            layer1: stage(0),
            layer2: stage(1),
            layer3: stage(2),
            layer4: stage(3),
            attnpool: AttentionPool2d::new(
                sizes.side,
                sizes.channels(),
                sizes.heads,
                config.embed_dim,
                device,
            ),
            pending,
            recompute: Recompute::default(),
            folded: None,
        })
    }

    fn forward(&self, image: Tensor<4>, training: Option<u64>) -> Tensor<2> {
        let training = training.is_some();
        if !training && let Some(features) = self.evaluate(&image) {
            return features;
        }
        let layout = match training && self.pending.are_local() {
            true => Channels::fastest(&image),
            false => Channels::First,
        };
        let pass = Pass { layout, training };
        let x = layout.of(image);
        let x = pass.through(&self.conv1, &self.bn1, x, Then::RELU);
        let x = pass.through(&self.conv2, &self.bn2, x, Then::RELU);
        let x = pass.through(&self.conv3, &self.bn3, x, Then::RELU);
        let x = average_pool(layout, x, 2);
        let x = self.blocks().fold(x, |x, block| {
            self.recompute.block(block, [x], move |block, [x]| {
                block.forward(layout, x, training)
            })
        });
        self.attnpool.forward(layout, x)
    }

    fn fold(&mut self, _: Bits) -> bool {
        self.folded = Some([
            Folded::conv(&self.conv1).norm(&self.bn1),
            Folded::conv(&self.conv2).norm(&self.bn2),
            Folded::conv(&self.conv3).norm(&self.bn3),
        ]);
        let stages = [
            &mut self.layer1,
            &mut self.layer2,
            &mut self.layer3,
            &mut self.layer4,
        ];
        stages.into_iter().flatten().for_each(Bottleneck::fold);
        false
    }

    /// How a parameter of the tower starts: OpenCLIP's `init_parameters` over PyTorch's defaults.
    fn initial(&self, key: &str, shape: &[usize], config: &ModelConfig) -> Option<Init> {
        let name = key.strip_prefix("visual.")?;
        let (module, leaf) = name.rsplit_once('.')?;
        let std = ((config.vision_cfg.width * 32) as f64).powf(-0.5);
        if let Some(layer) = module.strip_prefix("attnpool") {
            return Some(match leaf {
                "bias" if !layer.is_empty() => Init::Uniform(std),
                _ => Init::Normal(std),
            });
        }
        let in_stage = module.starts_with("layer");
        Some(match (leaf, shape) {
            ("running_mean" | "bias", _) => Init::Constant(0.0),
            ("running_var", _) => Init::Constant(1.0),
            ("weight", [_]) if in_stage && module.ends_with(".bn3") => Init::Constant(0.0),
            ("weight", [_]) => Init::Constant(1.0),
            _ => Init::of_matrix(shape),
        })
    }

    fn root(&self) -> &'static str {
        "visual."
    }

    /// The three convolutions at the input, four stages, attention pool.
    fn depth(&self, key: &str) -> Option<Depth> {
        let first = key.split('.').next()?;
        match first.strip_prefix("layer").map(str::parse) {
            Some(Ok(stage)) => Some(vec![1, stage]),
            _ if first == "attnpool" => Some(vec![2]),
            _ => Some(vec![0]),
        }
    }

    /// The strides of a stage come between the second and the third convolution of its first block.
    fn cost(&self, config: &ModelConfig, params: &[&ParamInfo]) -> Option<Cost> {
        let [height, width] = sides(config.vision_cfg.image_size);
        let stem = height.div_ceil(2) * width.div_ceil(2);
        let side = |side: u64, halvings: u32| side.div_ceil(2) >> halvings;
        let map = |stage: u32| side(height, stage) * side(width, stage);
        let tokens = map(4) + 1;
        let matrices = Cost::of_matrices(params, "visual.", |key| {
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

    /// OpenCLIP counts the channels behind the stem.
    fn patch_and_width(&self, vision: &VisionConfig, _: &[ParamInfo]) -> (Option<usize>, usize) {
        (None, vision.width)
    }

    /// Positions of the attention pool.
    fn resized(
        &self,
        key: &str,
        table: &RawTensor,
        shape: &[usize],
    ) -> Result<Option<RawTensor>, WeightsError> {
        if key != "visual.attnpool.positional_embedding" {
            return Ok(None);
        }
        let side = shape[0].saturating_sub(1).isqrt();
        fitted(table, shape, |values, old| {
            resize_image_pos_embed(values, old, (side, side))
        })
    }

    fn recompute_blocks(&mut self) -> Result<(), ModelError> {
        self.recompute = Recompute::of(self.blocks(), 1)?;
        Ok(())
    }

    fn pending_statistics(&self) -> Option<&PendingStatistics> {
        Some(&self.pending)
    }
}
