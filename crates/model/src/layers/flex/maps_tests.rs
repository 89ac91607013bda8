//! Blocks of convolutional networks beside the layers that they stand for, with Burn's own convolutions.
#![allow(clippy::unwrap_used)]

use burn::module::{Module, Param};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions};
use burn::tensor::{Device, Tensor, module};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::affine::Affine;
use super::lines::Depthwise;
use super::maps::{Block, Inverted, Maps, Next, Shortcut};
use super::tests::{numbers, random};
use super::transformer_tests::{Fill, close};
use crate::layers::{Activation, Bits, Conv2d, LayerNorm, TimmMlp};

/// A convolution without a kernel of the house.
fn convolved(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let [_, _, kernel, _] = conv.weight.dims();
    let options = ConvOptions::new([conv.stride(); 2], [kernel / 2; 2], [1, 1], conv.groups());
    let bias = conv.bias.as_ref().map(Param::val);
    let x = x.permute([0, 3, 1, 2]);
    module::conv2d(x, conv.weight.val(), bias, options).permute([0, 2, 3, 1])
}

fn depthwise(conv: &Conv2d) -> Depthwise {
    let bias = conv.bias.as_ref().unwrap().val();
    Depthwise::of(&conv.weight.val(), &bias, conv.stride()).unwrap()
}

fn pointwise(conv: &Conv2d) -> Affine {
    let bias = conv.bias.as_ref().unwrap().val();
    Affine::pointwise(conv.weight.val(), &bias, Bits::All).unwrap()
}

fn same(case: &str, found: Tensor<4>, expected: Tensor<4>) {
    assert_eq!(found.dims(), expected.dims(), "{case}");
    close(case, &numbers(found), &numbers(expected));
}

#[test]
fn blocks_are_the_layers_that_they_stand_for() {
    let device = Device::flex();
    let mut fill = Fill(StdRng::seed_from_u64(8));
    for (batch, height, width, channels) in [
        (1, 7, 7, 64),
        (5, 7, 7, 16),
        (2, 14, 23, 32),
        (1, 56, 9, 48),
        (3, 1, 2, 16),
    ] {
        let case = format!("{batch}×{height}×{width}×{channels}");
        let x = random(&mut fill.0, [batch, height, width, channels]);

        let conv = Conv2d::depthwise(channels, channels, 7, 1, &device).biased(&device);
        let conv = conv.map(&mut fill);
        let norm = LayerNorm::new(channels, 1e-6, &device).map(&mut fill);
        let widths = [channels, 4 * channels, channels];
        let mlp = TimmMlp::new(widths, true, Activation::Gelu, &device).map(&mut fill);
        let scale = random(&mut fill.0, [channels]);
        let branch = mlp.forward(norm.forward(convolved(&conv, x.clone())));
        let expected = x.clone() + branch * scale.clone().unsqueeze();
        let next = Block::Next(Next {
            depthwise: depthwise(&conv),
            norm: norm.folded().unwrap(),
            mlp: mlp.folded(Some(scale), Bits::All).unwrap(),
        });
        same(&case, Maps::new(vec![next]).forward(x.clone()), expected);

        for (output, halve) in [(channels, false), (channels, true), (2 * channels, true)] {
            let hidden = 4 * output;
            let stride = 1 + usize::from(halve);
            let first = Conv2d::new(channels, hidden, 1, 1, &device).biased(&device);
            let inner = Conv2d::depthwise(hidden, hidden, 3, stride, &device).biased(&device);
            let last = Conv2d::new(hidden, output, 1, 1, &device).biased(&device);
            let expand = Conv2d::new(channels, output, 1, 1, &device).biased(&device);
            let [first, inner, last, expand] =
                [first, inner, last, expand].map(|conv| conv.map(&mut fill));
            let activation = Activation::Gelu;
            let branch = activation.forward(convolved(&first, norm.forward(x.clone())));
            let branch = activation.forward(convolved(&inner, branch));
            let branch = convolved(&last, branch);
            let options = AvgPoolOptions::new([3; 2])
                .with_stride([2; 2])
                .with_padding([1; 2])
                .with_count_include_pad(false);
            let mean = |x: Tensor<4>| {
                module::avg_pool2d(x.permute([0, 3, 1, 2]), options).permute([0, 2, 3, 1])
            };
            let (kept, shortcut) = match (halve, output == channels) {
                (false, _) => (x.clone(), Shortcut::Same),
                (true, true) => (mean(x.clone()), Shortcut::Mean(None)),
                (true, false) => (
                    convolved(&expand, mean(x.clone())),
                    Shortcut::Mean(Some(pointwise(&expand))),
                ),
            };
            let block = Block::Inverted(Inverted {
                norm: norm.folded().unwrap(),
                fc: pointwise(&first),
                activation,
                depthwise: depthwise(&inner),
                proj: pointwise(&last),
                shortcut,
            });
            let case = format!("{case}, to {output} channels, halved: {halve}");
            let blocks = Maps::new(vec![block]);
            // The second time, the weights are packed.
            for _ in 0..2 {
                same(
                    &case,
                    blocks.forward(x.clone()),
                    branch.clone() + kept.clone(),
                );
            }
        }
    }
}
