//! AdamW with OpenCLIP's parameter groups, and the global gradient norm.

use burn::module::{Module, ModuleVisitor, Param, ParamGroup};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{DType, Tensor};
use openclip_model::{Clip, params};
use serde::{Deserialize, Serialize};

/// Hyper-parameters of AdamW.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay.
    pub weight_decay: f32,
}

impl AdamW {
    /// OpenCLIP's defaults for a model of this name: transformers differ from convolutional networks.
    pub fn for_model(name: &str) -> Self {
        let vit = name.to_lowercase().contains("vit");
        Self {
            beta1: 0.9,
            beta2: if vit { 0.98 } else { 0.999 },
            eps: if vit { 1e-6 } else { 1e-8 },
            weight_decay: 0.2,
        }
    }

    /// The optimizer of `model`, whose parameters fall into a group with weight decay and one without.
    pub fn optimizer(&self, model: &Clip) -> ModuleOptimizer {
        let config = AdamWConfig::new()
            .with_beta_1(self.beta1)
            .with_beta_2(self.beta2)
            .with_epsilon(self.eps);
        let plain = config.clone().with_weight_decay(0.0).build();
        let decaying = config.with_weight_decay(self.weight_decay).build();
        let decayed = params::describe(model)
            .into_iter()
            .filter(|param| decays(&param.key, &param.shape))
            .map(|param| param.id)
            .collect();
        ModuleOptimizer::from(plain).with_group(ParamGroup::from_ids(decayed), decaying, None)
    }
}

/// OpenCLIP 2's rule: matrices and larger decay, unless they belong to a norm, are a bias or the logit scale.
pub fn decays(key: &str, shape: &[usize]) -> bool {
    shape.len() >= 2
        && !["bn", "ln", "bias", "logit_scale"]
            .iter()
            .any(|part| key.contains(part))
}

/// Euclidean norm over all gradients together, in f32; zero when there are none.
pub fn gradient_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f32 {
    struct Squares<'a> {
        gradients: &'a GradientsParams,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.gradients.get::<D>(param.id) {
                self.sums.push(gradient.cast(DType::F32).square().sum());
            }
        }
    }
    let mut squares = Squares {
        gradients,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    if squares.sums.is_empty() {
        return 0.0;
    }
    let total = Tensor::cat(squares.sums, 0).sum().try_into_vec_as::<f32>();
    // A device that cannot answer has no finite norm.
    total
        .ok()
        .and_then(|sum| sum.first().copied())
        .map_or(f32::NAN, f32::sqrt)
}

/// Multiplies every gradient by `factor`.
pub fn scale_gradients<M: Module>(
    model: &M,
    gradients: GradientsParams,
    factor: f32,
) -> GradientsParams {
    struct Scale {
        from: GradientsParams,
        to: GradientsParams,
        factor: f32,
    }
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.from.remove::<D>(param.id) {
                self.to.register(param.id, gradient.mul_scalar(self.factor));
            }
        }
    }
    let mut scale = Scale {
        from: gradients,
        to: GradientsParams::new(),
        factor,
    };
    model.visit(&mut scale);
    scale.to
}
