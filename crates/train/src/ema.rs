//! The exponential moving average of a model's weights, which often measures better than the weights themselves.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, FloatDType, Tensor};
use openclip_model::{Clip, params};

/// Averaged weights, in f32 and without graph. Running statistics of BatchNorm are averaged as well.
#[derive(Debug)]
pub struct Ema {
    /// What an update keeps of the average.
    pub decay: f64,
    /// The average.
    pub model: Clip,
}

impl Ema {
    /// Begins at the weights of `model`.
    pub fn new(model: &Clip, decay: f64) -> Self {
        Self {
            decay,
            model: params::cast(model.valid(), FloatDType::F32),
        }
    }

    /// Moves the average towards the weights of `model`, a later state of the one that it began with.
    pub fn update(&mut self, model: &Clip) {
        let mut values = Values(GradientsParams::new());
        model.visit(&mut values);
        self.model = self.model.clone().map(&mut Approach {
            values: values.0,
            share: 1.0 - self.decay,
        });
    }
}

/// Values by parameter, in the container that Burn has for gradients by parameter.
struct Values(GradientsParams);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val().inner();
        self.0.register(param.id, value.cast(DType::F32));
    }
}

struct Approach {
    values: GradientsParams,
    share: f64,
}

impl ModuleMapper for Approach {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(value) = self.values.remove::<D>(param.id) else {
            return param;
        };
        // A weight that does not move, such as a frozen one, stays the same to the last bit.
        param.map(|average| average.clone() + (value - average) * self.share)
    }
}
