//! The global norm of a gradient, and its scaling.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Tensor};
use openclip_model::layers::flex;

/// Euclidean norm over all gradients together; zero when there are none.
pub fn gradient_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f32 {
    struct Squares<'a> {
        gradients: &'a GradientsParams,
        /// Of what lies in this process's memory.
        known: f64,
        sums: Vec<Tensor<1>>,
    }
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let Some(gradient) = self.gradients.get::<D>(param.id) else {
                return;
            };
            match flex::sum_of_squares(&gradient) {
                Some(sum) => self.known += sum,
                None => self.sums.push(gradient.cast(DType::F32).square().sum()),
            }
        }
    }
    let mut squares = Squares {
        gradients,
        known: 0.0,
        sums: Vec::new(),
    };
    model.visit(&mut squares);
    let rest = match squares.sums.is_empty() {
        true => Some(0.0),
        // A device that cannot answer has no finite norm.
        false => {
            let total = Tensor::cat(squares.sums, 0).sum().try_into_vec_as::<f32>();
            total.ok().and_then(|sum| sum.first().copied())
        }
    };
    rest.map_or(f32::NAN, |rest| {
        (squares.known + f64::from(rest)).sqrt() as f32
    })
}

/// What brings a gradient of norm `norm` down to `limit`.
pub fn clip_factor(norm: f32, limit: Option<f32>) -> f32 {
    match limit {
        // PyTorch's clip_grad_norm_ divides by the norm plus 1e-6.
        Some(limit) if norm > limit => limit / (norm + 1e-6),
        _ => 1.0,
    }
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
