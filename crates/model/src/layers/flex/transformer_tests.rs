//! Linear layers, attention and blocks beside Burn's own operations.
#![allow(clippy::unwrap_used)]

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Gradients, Tensor, TensorData, module};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::attention::attention;
use super::linear::linear;
use crate::layers::attention::{join_heads, split_heads};
use crate::layers::{Activation, Bits, TimmBlock, TimmBlockConfig, Transformer, TransformerConfig};

fn random<const D: usize>(rng: &mut StdRng, shape: [usize; D]) -> Tensor<D> {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.inner().try_into_vec_as().unwrap()
}

fn close(case: &str, found: &[f32], expected: &[f32]) {
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

struct Fill(StdRng);

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
