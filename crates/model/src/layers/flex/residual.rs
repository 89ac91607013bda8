//! The halves of a transformer's block as one node of the graph each: `x + out(attention(norm(x)))` and `x + proj(curve(fc(norm(x))))`.
//!
//! A node keeps its input and the products behind the norm. The norm and the curve are computed again for the derivative, which takes
//! a pass over numbers where the products around it take a thousand.

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use super::activation::Curve;
use super::attention::SelfAttention;
use super::linear::{Layer, Parameters, ROWS, add_rows, sum_rows, total, values};
use super::norm::Norm;
use super::{Values, take, takes, tensor, vectorized};
use crate::layers::LayerNorm;
use crate::layers::derivative::{Value, differentiable};

/// What a half begins with, and the layers of its branch.
struct Half {
    x: Values,
    norm: Norm,
    /// The first one on the normalised rows, the last one back to the residual stream.
    layers: [Parameters; 2],
    inputs: Vec<Value>,
}

impl Half {
    fn of(x: &Tensor<3>, norm: &LayerNorm, layers: impl FnOnce() -> [Layer; 2]) -> Option<Self> {
        if !takes(x) || x.dims().contains(&0) {
            return None;
        }
        let [scale, shift] = [&norm.weight, &norm.bias].map(|x| x.val().cast(DType::F32));
        let mut inputs = vec![x.clone().into(), scale.clone().into(), shift.clone().into()];
        let layers = layers();
        for (weight, bias) in &layers {
            inputs.extend(values(weight, bias.as_ref()));
        }
        let [first, last] = layers.map(|(weight, bias)| Parameters::of(&weight, bias.as_ref()));
        Some(Self {
            x: Values::of(x)?,
            norm: Norm::of(&scale, &shift, norm.eps())?,
            layers: [first?, last?],
            inputs,
        })
    }

    /// `x` plus what the last layer makes of `rows`.
    fn output(&self, rows: &[f32]) -> Vec<f32> {
        let mut out = self.x.get().to_vec();
        self.layers[1].add(rows, &mut out);
        out
    }

    /// The node, whose value is `output`. `backward` gets the gradient of what the last layer multiplied.
    fn close(
        self,
        x: &Tensor<3>,
        output: Vec<f32>,
        backward: impl FnOnce(Vec<f32>) -> Branch + Send + 'static,
    ) -> Tensor<3> {
        let Self {
            x: values,
            norm,
            layers: [first, last],
            inputs,
        } = self;
        let (shape, device) = (x.dims(), x.device());
        let output = tensor(output, shape, &device);
        differentiable(inputs, output, move |gradient: Tensor<3>| {
            let stream = take(gradient);
            let Branch { rows, slopes, sums } = backward(last.of_rows(&stream));
            let of_bias = || sum_rows(&stream, last.output);
            let of_last = last.of_parameters(&rows, &stream, of_bias, &device);
            drop(rows);
            let normal = norm.forward(values.get());
            let of_first = first.of_parameters(&normal, &slopes, || sums, &device);
            drop(normal);
            let mut of_x = first.of_rows(&slopes);
            drop(slopes);
            let of_norm = norm.backward(values.get(), &mut of_x, Some(&stream), &device);
            let mut gradients = vec![Some(tensor(of_x, shape, &device).into())];
            gradients.extend(of_norm.map(Some));
            gradients.extend(of_first);
            gradients.extend(of_last);
            gradients
        })
    }
}

/// What lies between both layers, for their derivatives.
struct Branch {
    /// What the last layer multiplies.
    rows: Vec<f32>,
    /// The gradient of the first layer's output.
    slopes: Vec<f32>,
    /// The sum of its rows.
    sums: Vec<f32>,
}

/// `x + last(attention(first(norm(x))))`, `first` being query, key and value side by side. `layers` are asked for where `x` is f32 on
/// `flex`.
pub(in crate::layers) fn attention(
    x: &Tensor<3>,
    norm: &LayerNorm,
    layers: impl FnOnce() -> [Layer; 2],
    heads: usize,
    causal: bool,
) -> Option<Tensor<3>> {
    let half = Half::of(x, norm, layers)?;
    let [batch, tokens, _] = x.dims();
    let [first, _] = &half.layers;
    let features = first.output;
    let packed = first.forward(&half.norm.forward(half.x.get()));
    let attention = SelfAttention::new([batch, tokens, features], heads, causal);
    let mixed = attention.forward(&packed);
    let output = half.output(&mixed);
    Some(half.close(x, output, move |slopes| {
        let slopes = attention.backward(&packed, &slopes);
        Branch {
            rows: mixed,
            sums: sum_rows(&slopes, features),
            slopes,
        }
    }))
}

/// `x + last(curve(first(norm(x))))`.
pub(in crate::layers) fn mlp(
    x: &Tensor<3>,
    norm: &LayerNorm,
    layers: impl FnOnce() -> [Layer; 2],
    curve: Curve,
) -> Option<Tensor<3>> {
    let half = Half::of(x, norm, layers)?;
    let [first, _] = &half.layers;
    let width = first.output;
    let mut hidden = first.forward(&half.norm.forward(half.x.get()));
    let output = half.output(&curve.applied(&hidden));
    Some(half.close(x, output, move |mut slopes| {
        let sums = differentiate(curve, &mut hidden, &mut slopes, width);
        Branch {
            rows: hidden,
            slopes,
            sums,
        }
    }))
}

/// Turns numbers before a curve into those behind it and the gradient behind it into the one before; gives the sum of the latter's rows.
fn differentiate(curve: Curve, values: &mut [f32], slopes: &mut [f32], width: usize) -> Vec<f32> {
    let parts = values.par_chunks_mut(ROWS * width);
    let parts = parts.zip(slopes.par_chunks_mut(ROWS * width));
    let parts = parts.map(|(values, slopes)| {
        vectorized(
            #[inline(always)]
            || {
                let mut sums = vec![0.0; width];
                let rows = values.chunks_exact_mut(width);
                for (values, slopes) in rows.zip(slopes.chunks_exact_mut(width)) {
                    curve.differentiate(values, slopes);
                    add_rows(slopes, &mut sums);
                }
                sums
            },
        )
    });
    let parts: Vec<Vec<f32>> = parts.collect();
    total(&parts, width)
}
