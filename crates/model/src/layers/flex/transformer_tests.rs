//! Linear layers, attention and blocks beside Burn's own operations.
#![allow(clippy::unwrap_used)]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Gradients, Tensor, TensorData, activation, module};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::attention::attention;
use super::linear::linear;
use super::residual;
use super::tests::{numbers, random};
use crate::layers::attention::{join_heads, split_heads};
use crate::layers::{
    Activation, Bits, LayerNorm, TimmBlock, TimmBlockConfig, Transformer, TransformerConfig,
};

pub(super) fn close(case: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{case}");
    let largest = expected.iter().fold(1.0_f32, |most, x| most.max(x.abs()));
    for (found, expected) in found.iter().zip(expected) {
        let apart = (found - expected).abs();
        assert!(apart <= 2e-5 * largest, "{case}: {found} for {expected}");
    }
}

type Slope<'a> = &'a dyn Fn(&Gradients) -> Option<Vec<f32>>;

/// A value and the gradients of those inputs that have one.
fn slopes<const D: usize>(y: Tensor<D>, inputs: &[Slope<'_>]) -> Vec<Option<Vec<f32>>> {
    let weights = random(&mut StdRng::seed_from_u64(1), y.dims());
    let gradients = (y.clone() * Tensor::from_inner(weights)).sum().backward();
    let mut all = vec![Some(numbers(y))];
    all.extend(inputs.iter().map(|input| input(&gradients)));
    all
}

#[test]
fn linear_layers_are_burns() {
    let mut rng = StdRng::seed_from_u64(3);
    for (case, (batch, tokens, input, output)) in [
        (1, 50, 48, 96),
        (2, 77, 33, 65),
        (3, 1, 7, 5),
        (1, 1, 40, 31),
        (5, 64, 300, 130),
    ]
    .into_iter()
    .enumerate()
    {
        for wanted in [
            [true; 3],
            [true, false, false],
            [false, true, false],
            [false, false, true],
        ] {
            let x = random(&mut rng, [batch, tokens, input]);
            // Every other case has its weights in the other order.
            let weight = match case % 2 {
                0 => random(&mut rng, [input, output]),
                _ => random(&mut rng, [output, input]).transpose(),
            };
            let bias = random(&mut rng, [output]);
            let [found, expected] = [true, false].map(|here| {
                let x = x.clone().autodiff().set_require_grad(wanted[0]);
                let weight = weight.clone().autodiff().set_require_grad(wanted[1]);
                let bias = bias.clone().autodiff().set_require_grad(wanted[2]);
                let y = match here {
                    true => linear(&x, &weight, Some(&bias)).unwrap(),
                    false => module::linear(x.clone(), weight.clone(), Some(bias.clone())),
                };
                slopes(
                    y,
                    &[
                        &|all| x.grad(all).map(numbers),
                        &|all| weight.grad(all).map(numbers),
                        &|all| bias.grad(all).map(numbers),
                    ],
                )
            });
            for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let case = format!("case {case}, wanted {wanted:?}, result {which}");
                match (found, expected) {
                    (Some(found), Some(expected)) => close(&case, found, expected),
                    _ => assert_eq!(found.is_some(), expected.is_some(), "{case}"),
                }
            }
            let cut = weight.clone().slice_dim(1, 1..output);
            let (found, expected) = (
                linear(&x, &cut, None).unwrap(),
                module::linear(x.clone(), cut.clone(), None),
            );
            close("columns of weights", &numbers(found), &numbers(expected));
        }
    }
}

fn by_burn(packed: Tensor<3>, heads: usize, causal: bool) -> Tensor<3> {
    let [_, _, features] = packed.dims();
    let width = features / 3;
    let [query, key, value] = [0, 1, 2].map(|part| {
        let columns = part * width..(part + 1) * width;
        split_heads(packed.clone().slice_dim(2, columns), heads)
    });
    let options = AttentionModuleOptions {
        is_causal: causal,
        ..Default::default()
    };
    join_heads(module::attention(query, key, value, None, None, options))
}

#[test]
fn attention_is_burns() {
    let mut rng = StdRng::seed_from_u64(4);
    for (batch, tokens, heads, width) in [
        (2, 50, 3, 64),
        (1, 77, 2, 32),
        (3, 1, 2, 8),
        (1, 45, 2, 72),
        (1, 300, 1, 7),
        (2, 33, 1, 5),
    ] {
        for causal in [false, true] {
            let packed = random(&mut rng, [batch, tokens, 3 * heads * width]) * 3.0;
            let [found, expected] = [true, false].map(|here| {
                let packed = packed.clone().autodiff().require_grad();
                let y = match here {
                    true => attention(&packed, heads, causal).unwrap(),
                    false => by_burn(packed.clone(), heads, causal),
                };
                slopes(y, &[&|all| packed.grad(all).map(numbers)])
            });
            for (found, expected) in found.iter().zip(&expected) {
                let case = format!("{tokens} tokens, causal {causal}");
                close(&case, found.as_ref().unwrap(), expected.as_ref().unwrap());
            }
        }
    }
}

#[test]
fn attention_hides_no_broken_number() {
    let (tokens, width) = (40, 8);
    for broken in [f32::NAN, f32::INFINITY] {
        let mut values = vec![0.5; tokens * 3 * width];
        // A feature of the query of token 5.
        values[5 * 3 * width] = broken;
        let data = TensorData::new(values, [1, tokens, 3 * width]);
        let packed = Tensor::from_data(data, &Device::flex());
        let mixed = numbers(attention(&packed, 1, false).unwrap());
        for (row, mixed) in mixed.chunks_exact(width).enumerate() {
            assert!(
                mixed.iter().all(|x| x.is_nan() == (row == 5)),
                "{broken}, row {row}"
            );
        }
    }
}

#[test]
fn halves_of_blocks_are_burns() {
    let mut rng = StdRng::seed_from_u64(6);
    let (width, heads) = (24, 3);
    for (case, (batch, tokens)) in [(2, 50), (1, 3), (5, 33)].into_iter().enumerate() {
        for kind in [
            Half::Attention { causal: false },
            Half::Attention { causal: true },
            Half::Mlp(Activation::Gelu),
            Half::Mlp(Activation::QuickGelu),
            Half::Mlp(Activation::Relu),
        ] {
            let [between, back] = match kind {
                Half::Attention { .. } => [3 * width, width],
                Half::Mlp(_) => [96, 96],
            };
            let x = random(&mut rng, [batch, tokens, width]) * 2.0 + 1.0;
            let matrices = [[width, between], [back, width]].map(|shape| random(&mut rng, shape));
            let rows = [width, width, between, width].map(|length| random(&mut rng, [length]));
            let [found, expected] = [true, false].map(|here| {
                // In the last case some have no gradient.
                let wanted = |which: usize| case < 2 || which.is_multiple_of(2);
                let x = x.clone().autodiff().set_require_grad(wanted(0));
                let track = |which: usize, x: &Tensor<2>| {
                    x.clone().autodiff().set_require_grad(wanted(which))
                };
                let [first, last] = [track(1, &matrices[0]), track(2, &matrices[1])];
                let track = |which: usize| {
                    let row = rows[which].clone().autodiff();
                    row.set_require_grad(wanted(which + 3))
                };
                let [scale, shift, inner, outer] = [track(0), track(1), track(2), track(3)];
                let mut norm = LayerNorm::new(width, 1e-5, &Device::flex().autodiff());
                norm.weight = Param::from_tensor(scale.clone()).set_require_grad(wanted(3));
                norm.bias = Param::from_tensor(shift.clone()).set_require_grad(wanted(4));
                let [scale, shift] = [norm.weight.val(), norm.bias.val()];
                let layers = || {
                    [
                        (first.clone(), Some(inner.clone())),
                        (last.clone(), Some(outer.clone())),
                    ]
                };
                let y = match (here, kind) {
                    (true, Half::Attention { causal }) => {
                        residual::attention(&x, &norm, layers, heads, causal).unwrap()
                    }
                    (true, Half::Mlp(activation)) => {
                        residual::mlp(&x, &norm, layers, activation.curve()).unwrap()
                    }
                    (false, _) => {
                        let (scale, shift) = (scale.clone(), Some(shift.clone()));
                        let normal = module::layer_norm(x.clone(), scale, shift, 1e-5);
                        let inner = Some(inner.clone());
                        let rows = module::linear(normal, first.clone(), inner);
                        let rows = match kind {
                            Half::Attention { causal } => by_burn(rows, heads, causal),
                            Half::Mlp(Activation::Gelu) => activation::gelu(rows),
                            Half::Mlp(Activation::Relu) => activation::relu(rows),
                            Half::Mlp(_) => {
                                rows.clone() * activation::sigmoid(rows.mul_scalar(1.702))
                            }
                        };
                        x.clone() + module::linear(rows, last.clone(), Some(outer.clone()))
                    }
                };
                slopes(
                    y,
                    &[
                        &|all| x.grad(all).map(numbers),
                        &|all| first.grad(all).map(numbers),
                        &|all| last.grad(all).map(numbers),
                        &|all| scale.grad(all).map(numbers),
                        &|all| shift.grad(all).map(numbers),
                        &|all| inner.grad(all).map(numbers),
                        &|all| outer.grad(all).map(numbers),
                    ],
                )
            });
            for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let case = format!("{kind:?}, {tokens} tokens, result {which}");
                match (found, expected) {
                    (Some(found), Some(expected)) => close(&case, found, expected),
                    _ => assert_eq!(found.is_some(), expected.is_some(), "{case}"),
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Half {
    Attention { causal: bool },
    Mlp(Activation),
}

/// Gives parameters random values.
pub(super) struct Fill(pub StdRng);

impl ModuleMapper for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.val().dims();
        let value = random(&mut self.0, shape) * 0.2;
        param.map(|_| value)
    }
}

#[test]
fn folded_blocks_are_the_blocks() {
    let device = Device::flex();
    let mut fill = Fill(StdRng::seed_from_u64(5));
    for (activation, layer_scale) in [
        (Activation::Gelu, true),
        (Activation::QuickGelu, false),
        (Activation::Relu, true),
    ] {
        let (width, heads) = (48, 4);
        let config = TransformerConfig {
            width,
            layers: 3,
            heads,
            mlp_ratio: 2.0,
            activation,
            norm_eps: 1e-5,
            layer_scale,
        };
        let plain = Transformer::new(&config, &device).map(&mut fill);
        let mut folded = plain.clone();
        assert!(folded.fold(Bits::All));
        for (batch, tokens) in [(1, 50), (13, 77), (700, 1)] {
            let x = random(&mut fill.0, [batch, tokens, width]);
            let stack = folded.folded(&x).unwrap();
            for causal in [false, true] {
                let expected = numbers(plain.forward(x.clone(), causal));
                close(
                    "all tokens",
                    &numbers(folded.forward(x.clone(), causal)),
                    &expected,
                );
                if !causal {
                    let first: Vec<f32> = expected
                        .chunks_exact(tokens * width)
                        .flat_map(|rows| &rows[..width])
                        .copied()
                        .collect();
                    close("first token", &numbers(folded.first(x.clone())), &first);
                    continue;
                }
                // Sequences that end early.
                let lengths: Vec<usize> = (0..batch)
                    .map(|_| fill.0.random_range(1..=tokens))
                    .collect();
                let ends: Vec<usize> = lengths.iter().map(|length| length - 1).collect();
                let values = numbers(x.clone());
                let sequences = values.chunks_exact(tokens * width).zip(&lengths);
                let seen: Vec<f32> = sequences
                    .flat_map(|(rows, length)| &rows[..length * width])
                    .copied()
                    .collect();
                let rows = seen.len() / width;
                let seen = Tensor::<2>::from_data(TensorData::new(seen, [rows, width]), &device);
                let pooled = stack.pool(seen, &lengths, &ends);
                let expected: Vec<f32> = expected
                    .chunks_exact(tokens * width)
                    .zip(&ends)
                    .flat_map(|(rows, end)| &rows[end * width..][..width])
                    .copied()
                    .collect();
                close("last token", &numbers(pooled), &expected);
            }
        }
        let config = TimmBlockConfig {
            width,
            heads,
            mlp_ratio: 2.0,
            qkv_bias: layer_scale,
            activation,
            norm_eps: 1e-6,
            layer_scale,
        };
        let block = TimmBlock::new(&config, &device).map(&mut fill);
        let stack = super::stack::Stack::new(vec![block.folded(Bits::All).unwrap()]).unwrap();
        let x = random(&mut fill.0, [3, 20, width]);
        let expected = numbers(block.forward(x.clone(), None));
        close(
            "a block of timm's",
            &numbers(stack.forward(x, false)),
            &expected,
        );
    }
}
