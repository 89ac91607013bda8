//! The numbers that tests compare, all of them finite: whether they come from a tensor, a model, a file or a fixture, they go
//! through [`finite`]. A NaN is unequal to everything and lost in a maximum, an infinity is equal to itself; neither may decide a
//! comparison.

use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use openclip_model::Clip;
use openclip_model::params::{self, ParamValues};
use openclip_model::weights::StateDict;
use openclip_train::relay::PickGradient;

/// The same values. Panics where one is not finite.
#[track_caller]
pub fn finite<V: AsRef<[f32]>>(values: V) -> V {
    let all = values.as_ref();
    if let Some(i) = all.iter().position(|value| !value.is_finite()) {
        panic!("value {i} of {} is {}", all.len(), all[i]);
    }
    values
}

/// Values on the host, row-major.
#[track_caller]
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    finite(tensor.try_into_vec_as().unwrap())
}

/// Names and values of the tensors, in the order of the names.
#[track_caller]
pub fn named_values(dict: &StateDict) -> Vec<(String, Vec<f32>)> {
    let mut named = Vec::with_capacity(dict.tensors.len());
    for (key, tensor) in &dict.tensors {
        named.push((key.clone(), finite(tensor.to_f32().unwrap())));
    }
    named
}

/// A model's parameters and buffers under OpenCLIP's keys.
#[track_caller]
pub fn parameters_of(model: &Clip) -> Vec<ParamValues> {
    all_finite(params::export(model).unwrap())
}

/// The gradients of a model's parameters under OpenCLIP's keys, of those that have one.
#[track_caller]
pub fn gradients_of(model: &Clip, gradients: &GradientsParams) -> Vec<ParamValues> {
    all_finite(params::export_with(model, &mut PickGradient(gradients)).unwrap())
}

#[track_caller]
fn all_finite(found: Vec<ParamValues>) -> Vec<ParamValues> {
    for param in &found {
        let odd = param.values.iter().find(|value| !value.is_finite());
        assert!(odd.is_none(), "{} has a value {odd:?}", param.key);
    }
    found
}

/// Largest magnitude.
#[track_caller]
pub fn largest(values: &[f32]) -> f32 {
    finite(values).iter().fold(0.0, |max, x| max.max(x.abs()))
}

/// Largest absolute difference.
#[track_caller]
pub fn max_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let pairs = finite(a).iter().zip(finite(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Difference relative to the largest magnitude of `expected`.
#[track_caller]
pub fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    max_difference(found, expected) / largest(expected).max(1e-12)
}
