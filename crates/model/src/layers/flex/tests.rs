//! Values and gradients beside those of Burn's own operations.
#![allow(clippy::unwrap_used)]

use burn::tensor::ops::{AvgPoolOptions, ConvOptions};
use burn::tensor::{DType, Device, Tensor, TensorData, activation, module};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::activation::{Curve, rectified};
use super::dense::dense;
use super::depthwise::{Channels, depthwise};
use super::exp;
use super::norm::{affine, batch_norm, layer_norm};
use super::normed::{Then, normed};
use super::packed::Packed;
use super::pool::{average_first, average_last};
use super::product::turned;
use crate::layers::Activation;

type Inputs = (Tensor<4>, Tensor<4>, Tensor<1>);

pub(super) fn random<const D: usize>(rng: &mut StdRng, shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

pub(super) fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.inner().try_into_vec_as().unwrap()
}

/// The value of a function, and its gradients where they are asked for.
fn run(
    (x, weight, bias): Inputs,
    wanted: [bool; 3],
    function: &dyn Fn(Inputs) -> Tensor<4>,
) -> Vec<Option<Vec<f32>>> {
    let x = x.autodiff().set_require_grad(wanted[0]);
    let weight = weight.autodiff().set_require_grad(wanted[1]);
    let bias = bias.autodiff().set_require_grad(wanted[2]);
    let y = function((x.clone(), weight.clone(), bias.clone()));
    let slopes = random(&mut StdRng::seed_from_u64(1), y.dims());
    let gradients = (y.clone() * Tensor::from_inner(slopes)).sum().backward();
    vec![
        Some(numbers(y)),
        x.grad(&gradients).map(numbers),
        weight.grad(&gradients).map(numbers),
        bias.grad(&gradients).map(numbers),
    ]
}

fn compare(
    name: &str,
    inputs: Inputs,
    here: impl Fn(Inputs) -> Tensor<4>,
    burn: impl Fn(Inputs) -> Tensor<4>,
) {
    let some = [[true; 3], [true, false, false], [false, true, false]];
    for wanted in some.into_iter().chain([[false, false, true]]) {
        let [found, expected] =
            [&here as &dyn Fn(_) -> _, &burn].map(|function| run(inputs.clone(), wanted, function));
        for (which, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let case = format!("{name}, wanted {wanted:?}, result {which}");
            let (Some(found), Some(expected)) = (found, expected) else {
                assert_eq!(found.is_some(), expected.is_some(), "{case}");
                continue;
            };
            assert_eq!(found.len(), expected.len(), "{case}");
            let largest = expected.iter().fold(1e-3, |max: f32, x| max.max(x.abs()));
            for (x, y) in found.iter().zip(expected) {
                let apart = (x - y).abs();
                assert!(apart <= 1e-5 * largest, "{case}: {apart:e} of {largest}");
            }
        }
    }
}

fn burn_convolution((x, weight, bias): Inputs, stride: usize, groups: usize) -> Tensor<4> {
    let padding = weight.dims()[2] / 2;
    let options = ConvOptions::new([stride; 2], [padding; 2], [1, 1], groups);
    module::conv2d(x, weight, Some(bias), options)
}

#[test]
fn depthwise_convolutions() {
    let rng = &mut StdRng::seed_from_u64(2);
    for case in 0..24 {
        let kernel = [1, 3, 5, 7][case % 4];
        let stride = rng.random_range(1..=2);
        let channels = rng.random_range(32..=72);
        let [batch, height, width] = [3, 11, 11].map(|most| rng.random_range(1..=most));
        let inputs = (
            random(rng, [batch, channels, height, width]),
            random(rng, [channels, 1, kernel, kernel]),
            random(rng, [channels]),
        );
        let name = format!("{:?}, {kernel}, {stride}", inputs.0.dims());
        let burn = |inputs| burn_convolution(inputs, stride, channels);
        let first = |(x, weight, bias): Inputs| {
            depthwise(Channels::First, &x, &weight, Some(&bias), stride).unwrap()
        };
        compare(&name, inputs.clone(), first, burn);
        let last = |(x, weight, bias): Inputs| {
            let x = x.permute([0, 2, 3, 1]);
            let y = depthwise(Channels::Last, &x, &weight, Some(&bias), stride).unwrap();
            y.permute([0, 3, 1, 2])
        };
        compare(&name, inputs, last, burn);
    }
}

#[test]
fn dense_convolutions() {
    let rng = &mut StdRng::seed_from_u64(3);
    // The last has more columns than exist at a time.
    for case in 0..27 {
        let kernel = [3, 5, 7, 1][case % 4];
        let stride = rng.random_range(1..=2);
        let [batch, inputs, outputs, height, width] = match case {
            26 => [3, 24, 4, 75, 66],
            _ => [3, 7, 7, 11, 11].map(|most| rng.random_range(1..=most)),
        };
        let parameters = (
            random(rng, [batch, inputs, height, width]),
            random(rng, [outputs, inputs, kernel, kernel]),
            random(rng, [outputs]),
        );
        let name = format!("{:?}, {outputs}, {kernel}, {stride}", parameters.0.dims());
        let here = |(x, weight, bias): Inputs| dense(&x, &weight, Some(&bias), stride).unwrap();
        let burn = |inputs| burn_convolution(inputs, stride, 1);
        compare(&name, parameters.clone(), here, burn);
        let turned = |(x, weight, bias): Inputs| {
            let x = x.permute([0, 2, 3, 1]).permute([0, 3, 1, 2]);
            dense(&x, &weight, None, stride).unwrap() + bias.reshape([1, outputs, 1, 1])
        };
        compare(&name, parameters, turned, burn);
    }
}

#[test]
fn packed_convolutions() {
    let rng = &mut StdRng::seed_from_u64(6);
    for case in 0..30 {
        let kernel = [3, 5, 7, 1, 3][case % 5];
        let stride = match case % 5 {
            4 => 1,
            _ => rng.random_range(1..=2),
        };
        // Every fifth has tiles enough for Winograd's way.
        let [batch, inputs, outputs, height, width] = match case % 5 {
            4 => [2, 48, 16 * rng.random_range(3..5), 15, 17].map(|most| most + case / 10),
            _ => [3, 7, 7, 11, 11].map(|most| rng.random_range(1..=most)),
        };
        let [inputs, outputs] = match case % 5 {
            4 => [inputs, outputs].map(|channels| channels / 16 * 16),
            _ => [inputs, outputs],
        };
        let x = random(rng, [batch, inputs, height, width]);
        let weight = random(rng, [outputs, inputs, kernel, kernel]);
        let bias = random(rng, [outputs]);
        let name = format!("{:?}, {outputs}, {kernel}, {stride}", x.dims());
        let expected = burn_convolution((x.clone(), weight.clone(), bias.clone()), stride, 1);
        let expected = expected.permute([0, 2, 3, 1]);
        let packed = Packed::new(&weight, &bias, stride).unwrap();
        let x = x.permute([0, 2, 3, 1]);
        let add = random(rng, expected.dims());
        let check = |found: Tensor<4>, expected: Tensor<4>| {
            assert_eq!(found.dims(), expected.dims(), "{name}");
            let (found, expected) = (numbers(found), numbers(expected));
            let largest = expected.iter().fold(1e-3, |max: f32, x| max.max(x.abs()));
            for (x, y) in found.iter().zip(&expected) {
                assert!((x - y).abs() <= 1e-5 * largest, "{name}: {x}, not {y}");
            }
        };
        check(packed.forward(&x, None, None).unwrap(), expected.clone());
        for activation in [Activation::Relu, Activation::Gelu] {
            let found = packed.forward(&x, Some(&add), Some(activation.curve()));
            let expected = activation.forward(expected.clone() + add.clone());
            check(found.unwrap(), expected);
        }
        let lost = x.clone().mask_fill(x.clone().greater_elem(0.99), f32::NAN);
        let lost = packed.forward(&lost, None, Some(Curve::Relu)).unwrap();
        let any = |x: Tensor<4>| numbers(x).iter().any(|x| x.is_nan());
        assert!(any(lost) || !numbers(x).iter().any(|x| *x > 0.99), "{name}");
    }
}

#[test]
fn convolutions_with_norms_in_training() {
    let rng = &mut StdRng::seed_from_u64(9);
    for case in 0..24 {
        let kernel = [3, 1, 3, 5][case % 4];
        // The last have tiles enough for Winograd's way, and the one before more columns than exist at a time.
        let [batch, inputs, outputs, height, width] = match case {
            22 => [3, 48, 64, 24, 26],
            20 => [2, 40, 8, 80, 82],
            _ => [3, 20, 20, 9, 9].map(|most| rng.random_range(2..=most)),
        };
        let last = |x: Tensor<4>| x.permute([0, 2, 3, 1]);
        let (rectified, adds) = (case % 3 > 0, case % 2 > 0);
        let scale = random(rng, [outputs]) + 1.5;
        let add = random(rng, [batch, outputs, height, width]);
        let parameters = (
            random(rng, [batch, inputs, height, width]) + 0.5,
            random(rng, [outputs, inputs, kernel, kernel]),
            random(rng, [outputs]),
        );
        let here = |(x, weight, bias): Inputs| {
            let (x, add) = (last(x), last(add.clone()));
            let then = Then {
                add: adds.then_some(&add),
                rectified,
            };
            let (y, _) = normed(&x, &weight, [&scale, &bias], 1, 1e-5, then).unwrap();
            y.permute([0, 3, 1, 2])
        };
        let burn = |(x, weight, bias): Inputs| {
            let padding = kernel / 2;
            let options = ConvOptions::new([1; 2], [padding; 2], [1, 1], 1);
            let y = module::conv2d(x, weight, None, options);
            let y = module::batch_norm_train(y, scale.clone().autodiff(), bias, 1e-5).output;
            let y = match adds {
                true => y + add.clone().autodiff(),
                false => y,
            };
            match rectified {
                true => activation::relu(y),
                false => y,
            }
        };
        let name = format!("{:?}, {outputs}, {kernel}", parameters.0.dims());
        compare(&name, parameters.clone(), here, burn);
        // By scale and sum, with a stride, and the statistics.
        let (x, weight, bias) = parameters;
        let stride = if kernel > 1 { 2 } else { 1 };
        let flat = scale.clone().reshape([outputs, 1, 1, 1]);
        let small = burn_convolution((x.clone(), weight.clone(), bias.clone()), stride, 1);
        let add = random(rng, small.dims());
        let here = |(add, scale, bias): Inputs| {
            let (x, add, scale) = (last(x.clone()), last(add), scale.reshape([outputs]));
            let then = Then {
                add: Some(&add),
                rectified,
            };
            let (y, _) = normed(&x, &weight, [&scale, &bias], stride, 1e-5, then).unwrap();
            y.permute([0, 3, 1, 2])
        };
        let burn = |(add, scale, bias): Inputs| {
            let options = ConvOptions::new([stride; 2], [kernel / 2; 2], [1, 1], 1);
            let y = module::conv2d(x.clone(), weight.clone(), None, options).autodiff();
            let scale = scale.reshape([outputs]);
            let y = module::batch_norm_train(y, scale, bias, 1e-5).output + add;
            match rectified {
                true => activation::relu(y),
                false => y,
            }
        };
        compare(&name, (add, flat, bias.clone()), here, burn);
        let options = ConvOptions::new([1; 2], [kernel / 2; 2], [1, 1], 1);
        let expected = module::conv2d(x.clone(), weight.clone(), None, options);
        let expected = module::batch_norm_train(expected, scale.clone(), bias.clone(), 1e-5);
        let affine = [&scale, &bias];
        let (_, found) = normed(&last(x), &weight, affine, 1, 1e-5, Then::RELU).unwrap();
        for (found, expected) in found.into_iter().zip([expected.mean, expected.variance]) {
            let largest = numbers(expected.clone()).into_iter().fold(1.0, f32::max);
            for (found, expected) in numbers(found).iter().zip(numbers(expected)) {
                let apart = (found - expected).abs();
                assert!(apart <= 1e-5 * largest, "{name}: {found} for {expected}");
            }
        }
    }
}

#[test]
fn average_pools() {
    let rng = &mut StdRng::seed_from_u64(7);
    for _ in 0..12 {
        let side = rng.random_range(1..=3);
        let shape = [3, 5, 11, 11].map(|most| rng.random_range(1..=most));
        let x = random(rng, [shape[0], shape[1], shape[2] + 2, shape[3] + 2]);
        let burn = |x| module::avg_pool2d(x, AvgPoolOptions::new([side, side]));
        let inputs = (x.clone(), random(rng, [1, 1, 1, 1]), random(rng, [1]));
        let name = format!("pool of {side} over {:?}", x.dims());
        let first = |(x, ..): Inputs| average_first(&x, side).unwrap();
        let last = |(x, ..): Inputs| {
            let last = average_last(&x.permute([0, 2, 3, 1]), side).unwrap();
            last.permute([0, 3, 1, 2])
        };
        let ways: [&dyn Fn(Inputs) -> Tensor<4>; 3] = [&|(x, ..)| burn(x), &first, &last];
        let wanted = [true, false, false];
        let [expected, found @ ..] = ways.map(|way| run(inputs.clone(), wanted, way));
        for (found, expected) in found.iter().flat_map(|found| found.iter().zip(&expected)) {
            let pair = found.as_ref().zip(expected.as_ref());
            assert!(pair.is_none_or(|(x, y)| close(x, y)), "{name}");
        }
    }
}

fn close(found: &[f32], expected: &[f32]) -> bool {
    let apart = |(x, y): (&f32, &f32)| (x - y).abs();
    found.len() == expected.len() && found.iter().zip(expected).all(|pair| apart(pair) <= 1e-5)
}

#[test]
fn rectified_sums() {
    let rng = &mut StdRng::seed_from_u64(8);
    let x = random(rng, [2, 5, 31, 33]);
    let inputs = (x, random(rng, [2, 5, 31, 33]), random(rng, [1]));
    let here = |(x, add, one): Inputs| {
        rectified(&x, Some(&add)).unwrap() + rectified(&x, None).unwrap() * one.unsqueeze()
    };
    let burn = |(x, add, one): Inputs| {
        activation::relu(x.clone() + add) + activation::relu(x) * one.unsqueeze()
    };
    compare("rectified", inputs, here, burn);
    let lost = Tensor::<1>::from_floats([f32::NAN, -1.0, 2.0], &Device::flex());
    let found: Vec<f32> = numbers(rectified(&lost, None).unwrap());
    assert!(found[0].is_nan() && found[1..] == [0.0, 2.0], "{found:?}");
}

#[test]
fn norms() {
    let rng = &mut StdRng::seed_from_u64(4);
    for _ in 0..20 {
        let [batch, channels, height, width] = [4, 70, 9, 9].map(|most| rng.random_range(1..=most));
        let x = random(rng, [batch, channels, height, width]).mul_scalar(3.0) + 2.0;
        let scale = random(rng, [channels, 1, 1, 1]);
        let inputs = (x, scale, random(rng, [channels]));
        let name = format!("{:?}", inputs.0.dims());
        let flat = |weight: Tensor<4>| weight.reshape([channels]);
        let here = |(x, weight, bias): Inputs| {
            layer_norm(&x.permute([0, 2, 3, 1]), &flat(weight), &bias, 1e-5).unwrap()
        };
        let burn = |(x, weight, bias): Inputs| {
            module::layer_norm(x.permute([0, 2, 3, 1]), flat(weight), Some(bias), 1e-5)
        };
        compare(&format!("LayerNorm {name}"), inputs.clone(), here, burn);
        // The variance of one number has no sensible slope.
        if batch * height * width < 4 {
            continue;
        }
        let here =
            |(x, weight, bias): Inputs| batch_norm(&x, &flat(weight), &bias, 1e-5).unwrap().0;
        let burn = |(x, weight, bias): Inputs| {
            module::batch_norm_train(x, flat(weight), bias, 1e-5).output
        };
        compare(&format!("BatchNorm {name}"), inputs.clone(), here, burn);
        let (x, weight, bias) = inputs;
        let scaled = affine(&x, &flat(weight.clone()), &bias).unwrap();
        let expected =
            x.clone() * weight.clone().swap_dims(0, 1) + bias.clone().reshape([1, channels, 1, 1]);
        for (found, expected) in numbers(scaled).iter().zip(numbers(expected)) {
            assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
        }
        let (_, found) = batch_norm(&x, &flat(weight.clone()), &bias, 1e-5).unwrap();
        let expected = module::batch_norm_train(x, flat(weight), bias, 1e-5);
        for (found, expected) in found.into_iter().zip([expected.mean, expected.variance]) {
            for (found, expected) in numbers(found).iter().zip(numbers(expected)) {
                assert!((found - expected).abs() < 1e-5, "{found} for {expected}");
            }
        }
    }
}

#[test]
fn other_dtypes_and_few_channels_are_left_to_burn() {
    let rng = &mut StdRng::seed_from_u64(5);
    let x = random(rng, [1, 40, 5, 5]);
    let weight = random(rng, [40, 1, 3, 3]);
    let few = (x.clone().narrow(1, 0, 31), weight.clone().narrow(0, 0, 31));
    let [first, last] = [Channels::First, Channels::Last];
    assert!(depthwise(first, &x, &weight, None, 1).is_some());
    assert!(depthwise(first, &few.0, &few.1, None, 1).is_none());
    assert!(depthwise(last, &few.0.permute([0, 2, 3, 1]), &few.1, None, 1).is_none());
    let half = |x: Tensor<4>| x.cast(DType::BF16);
    assert!(depthwise(first, &half(x.clone()), &half(weight.clone()), None, 1).is_none());
    assert!(dense(&half(x), &half(random(rng, [2, 40, 3, 3])), None, 1).is_none());
}

#[test]
fn exponentials_are_exact_to_two_roundings() {
    for i in 0..=870_000 {
        let x = -1e-4 * i as f32;
        let wanted = f64::from(x).exp();
        let apart = (f64::from(exp(x)) - wanted).abs() / wanted;
        assert!(apart <= 2.0 * f64::from(f32::EPSILON), "{x}: {apart:e}");
    }
    assert!(exp(f32::NAN).is_nan());
    assert_eq!(exp(f32::NEG_INFINITY), 0.0);
}

#[test]
fn rows_become_columns() {
    for (rows, columns) in [
        (0, 3),
        (1, 1),
        (1, 70),
        (16, 64),
        (17, 130),
        (100, 15),
        (33, 63),
    ] {
        let values: Vec<f32> = (0..rows * columns).map(|i| i as f32).collect();
        let expected: Vec<f32> = (0..columns)
            .flat_map(|x| values[x.min(values.len())..].iter().step_by(columns))
            .copied()
            .collect();
        assert_eq!(turned(&values, columns), expected, "{rows}×{columns}");
    }
}
