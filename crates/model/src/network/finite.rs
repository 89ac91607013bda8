//! Whether a model's parameters are numbers.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::clip::Clip;
use super::params::Path;

/// Parameters with a value that is NaN or infinite.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotFinite {
    /// Their keys in OpenCLIP's state dict.
    pub keys: Vec<String>,
    /// How many parameters the model has.
    pub total: usize,
}

/// Looks at every parameter of `model` where it is; one number of each comes to the host.
///
/// A tensor that the device does not hand back counts as not finite.
pub fn not_finite(model: &Clip) -> NotFinite {
    struct Look {
        path: Path,
        custom_text: bool,
        found: NotFinite,
    }
    impl ModuleVisitor for Look {
        fn enter_module(&mut self, name: &str, container: &str) {
            self.path.enter(name, container);
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.exit();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.total += 1;
            if !is_finite(param.val()) {
                self.found.keys.push(self.path.key(self.custom_text));
            }
        }
    }
    let mut look = Look {
        path: Path::default(),
        custom_text: model.custom_text,
        found: NotFinite::default(),
    };
    model.visit(&mut look);
    look.found
}

/// The sum is one pass over the values and not finite when one of them is not. A sum that overflows by itself is told from that by
/// a second pass.
fn is_finite<const D: usize>(tensor: Tensor<D>) -> bool {
    let sum = tensor.clone().sum().try_into_vec_as::<f32>();
    let finite = |sum: Vec<f32>| sum.iter().all(|value| value.is_finite());
    if sum.is_ok_and(finite) {
        return true;
    }
    let all = tensor.is_finite().all().try_into_data();
    all.is_ok_and(|all| all.iter::<bool>().all(|finite| finite))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_sum_that_overflows_is_no_fault_of_the_values() {
        let device = Default::default();
        let of = |values: &[f32]| is_finite(Tensor::<1>::from_floats(values, &device));
        assert!(of(&[1.0, -2.0, 0.0]));
        assert!(of(&[f32::MAX, f32::MAX]));
        assert!(!of(&[1.0, f32::NAN]));
        assert!(!of(&[f32::INFINITY, f32::NEG_INFINITY]));
        assert!(!of(&[f32::INFINITY, 1.0]));
    }
}
