//! Milliseconds of layers on the CPU, forward and with their derivatives, here and by Burn's own operation.
#![allow(clippy::print_stdout, reason = "the result goes to stdout")]

use std::time::Instant;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor, module};
use openclip_model::layers::batch_norm::PendingStatistics;
use openclip_model::layers::depthwise::DepthwiseConv;
use openclip_model::layers::{BatchNorm2d, Conv2d, LayerNorm};

type Function<'a> = &'a dyn Fn(Tensor<4>) -> Tensor<4>;

/// The fastest of some runs, in milliseconds.
fn time(mut run: impl FnMut()) -> f64 {
    let once = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..4).map(once).fold(f64::INFINITY, f64::min)
}

fn report(name: &str, shape: [usize; 4], here: Function<'_>, burn: Function<'_>) {
    let device = Device::flex().autodiff();
    let random = || Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let forward = |function: Function<'_>| {
        let x = random().require_grad();
        time(|| drop(function(x.clone())))
    };
    let both = |function: Function<'_>| {
        let x = random().require_grad();
        time(|| drop(function(x.clone()).sum().backward()))
    };
    let [a, b, c, d] = [forward(here), forward(burn), both(here), both(burn)];
    println!(
        "{name:28} {shape:?}: forward {a:.1} / {b:.1} = {:.2}, all {c:.1} / {d:.1} = {:.2}",
        a / b,
        c / d
    );
}

fn convolution(name: &str, layer: &Conv2d, shape: [usize; 4]) {
    let side = layer.weight.dims()[2];
    let options = ConvOptions::new([layer.stride(); 2], [side / 2; 2], [1, 1], layer.groups());
    let burn = |x| module::conv2d(x, layer.weight.val(), None, options.clone());
    report(name, shape, &|x| layer.forward(x), &burn);
}

fn main() {
    let device = Device::flex().autodiff();
    let batch = 4;
    for (channels, side) in [(128, 56), (256, 28), (512, 14), (1024, 7)] {
        let layer = DepthwiseConv::new(channels, 7, &device);
        let options = ConvOptions::new([1, 1], [3, 3], [1, 1], channels);
        let burn = |x: Tensor<4>| {
            let x = x.permute([0, 3, 1, 2]);
            let bias = Some(layer.bias.val());
            let y = module::conv2d(x, layer.weight.val(), bias, options.clone());
            y.permute([0, 2, 3, 1])
        };
        report(
            "depthwise 7x7, channels last",
            [batch, side, side, channels],
            &|x| layer.forward(x),
            &burn,
        );
    }
    for (channels, kernel, stride, side) in [
        (64, 3, 1, 64),
        (64, 3, 2, 128),
        (64, 7, 2, 64),
        (256, 3, 1, 16),
        (256, 7, 1, 16),
    ] {
        let layer = Conv2d::depthwise(channels, channels, kernel, stride, &device);
        let name = format!("depthwise {kernel}x{kernel}, stride {stride}");
        convolution(&name, &layer, [batch, channels, side, side]);
    }
    for (input, output, stride, side) in [
        (3, 32, 2, 224),
        (32, 32, 1, 112),
        (64, 64, 1, 56),
        (128, 128, 1, 28),
        (256, 256, 1, 14),
        (512, 512, 1, 7),
    ] {
        let layer = Conv2d::new(input, output, 3, stride, &device);
        convolution(
            &format!("3x3, stride {stride}"),
            &layer,
            [batch, input, side, side],
        );
    }
    for (width, tokens) in [(768, 50), (768, 197), (128, 3136)] {
        let norm = LayerNorm::new(width, 1e-5, &device);
        let burn = |x| module::layer_norm(x, norm.weight.val(), Some(norm.bias.val()), 1e-5);
        report(
            "LayerNorm",
            [1, batch, tokens, width],
            &|x| norm.forward(x),
            &burn,
        );
    }
    for (channels, side) in [(64, 112), (256, 56), (2048, 7)] {
        let pending = PendingStatistics::default();
        let norm = BatchNorm2d::new(channels, &pending, &device);
        let burn = |x| module::batch_norm_train(x, norm.weight.val(), norm.bias.val(), 1e-5).output;
        report(
            "BatchNorm",
            [batch, channels, side, side],
            &|x| norm.forward(x, true),
            &burn,
        );
    }
}
