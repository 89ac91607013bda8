//! Layers and non-linearities.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::{DType, TensorData};
use burn_ir::{
    ActivationOperationIr, AdaptiveAvgPool2dOpIr, AttentionOpIr, AvgPool2dOpIr, Conv2dOpIr,
    ModuleOperationIr, ScalarIr, TensorIr,
};

use super::super::builder::{Builder, Set};
use super::common::{axis, unknown};

pub(super) fn convert(b: &mut Builder, operation: &ModuleOperationIr) -> Result<(), String> {
    use ModuleOperationIr as Op;
    match operation {
        Op::Linear(op) => {
            let inputs = [b.name(&op.x), b.name(&op.weight)];
            match &op.bias {
                None => b.made("MatMul", &inputs, &[], &op.out),
                Some(bias) => {
                    let product = b.node("MatMul", &inputs, &[]);
                    let bias = b.name(bias);
                    b.made("Add", &[product, bias], &[], &op.out);
                }
            }
        }
        Op::Embedding(op) => {
            let inputs = [b.name(&op.weights), b.name(&op.indices)];
            b.made("Gather", &inputs, &axis(0), &op.out);
        }
        Op::LayerNorm(op) => {
            let mut inputs = vec![b.name(&op.input), b.name(&op.gamma)];
            inputs.extend(op.beta.as_ref().map(|beta| b.name(beta)));
            let settings = [
                ("axis", Set::Int(-1)),
                ("epsilon", Set::Float(op.epsilon.elem())),
            ];
            b.made("LayerNormalization", &inputs, &settings, &op.out);
        }
        Op::BatchNorm(op) => {
            let operands = [&op.x, &op.gamma, &op.beta, &op.mean, &op.variance];
            let inputs = operands.map(|operand| b.name(operand));
            let settings = [("epsilon", Set::Float(op.epsilon.elem()))];
            b.made("BatchNormalization", &inputs, &settings, &op.out);
        }
        Op::Conv2d(op) => conv2d(b, op),
        Op::AvgPool2d(op) => avg_pool2d(b, op),
        Op::AdaptiveAvgPool2d(op) => adaptive_avg_pool2d(b, op)?,
        Op::MaxPool2d(op) => {
            let kernel = op.kernel_size.map(|side| side as i64);
            let strides = op.stride.map(|step| step as i64);
            let dilations = op.dilation.map(|step| step as i64);
            let pads = around(op.padding);
            let settings = [
                ("kernel_shape", Set::Ints(&kernel)),
                ("strides", Set::Ints(&strides)),
                ("dilations", Set::Ints(&dilations)),
                ("pads", Set::Ints(&pads)),
                ("ceil_mode", Set::Int(op.ceil_mode.into())),
            ];
            let input = b.name(&op.x);
            b.made("MaxPool", &[input], &settings, &op.out);
        }
        Op::Attention(op) => attention(b, op)?,
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn conv2d(b: &mut Builder, op: &Conv2dOpIr) {
    let mut inputs = vec![b.name(&op.x), b.name(&op.weight)];
    inputs.extend(op.bias.as_ref().map(|bias| b.name(bias)));
    let strides = op.options.stride.map(|step| step as i64);
    let dilations = op.options.dilation.map(|step| step as i64);
    let [(top, bottom), (left, right)] = op.options.padding;
    let pads = [top, left, bottom, right].map(|side| side as i64);
    let settings = [
        ("strides", Set::Ints(&strides)),
        ("dilations", Set::Ints(&dilations)),
        ("pads", Set::Ints(&pads)),
        ("group", Set::Int(op.options.groups as i64)),
    ];
    b.made("Conv", &inputs, &settings, &op.out);
}

/// The same padding before and behind each of two axes.
fn around([height, width]: [usize; 2]) -> [i64; 4] {
    [height, width, height, width].map(|side| side as i64)
}

fn avg_pool2d(b: &mut Builder, op: &AvgPool2dOpIr) {
    let kernel = op.kernel_size.map(|side| side as i64);
    let strides = op.stride.map(|step| step as i64);
    let pads = around(op.padding);
    let settings = [
        ("kernel_shape", Set::Ints(&kernel)),
        ("strides", Set::Ints(&strides)),
        ("pads", Set::Ints(&pads)),
        ("ceil_mode", Set::Int(op.ceil_mode.into())),
        ("count_include_pad", Set::Int(op.count_include_pad.into())),
    ];
    let input = b.name(&op.x);
    b.made("AveragePool", &[input], &settings, &op.out);
}

/// One value of each channel, or of each of equal windows.
fn adaptive_avg_pool2d(b: &mut Builder, op: &AdaptiveAvgPool2dOpIr) -> Result<(), String> {
    let input = b.name(&op.x);
    if op.output_size == [1, 1] {
        b.made("GlobalAveragePool", &[input], &[], &op.out);
        return Ok(());
    }
    let [height, width] = [2, 3].map(|axis| op.x.shape[axis]);
    let [rows, columns] = op.output_size;
    if height % rows + width % columns > 0 {
        return Err(format!(
            "a pool of {height}x{width} to {rows}x{columns} has windows of different sizes"
        ));
    }
    let kernel = [height / rows, width / columns].map(|side| side as i64);
    let settings = [
        ("kernel_shape", Set::Ints(&kernel)),
        ("strides", Set::Ints(&kernel)),
    ];
    b.made("AveragePool", &[input], &settings, &op.out);
    Ok(())
}

/// `softmax(scale · q kᵀ + bias) v`, without the pairs that are masked; a query with nothing left gets zeros, as Burn's does.
fn attention(b: &mut Builder, op: &AttentionOpIr) -> Result<(), String> {
    let dtype = op.query.dtype;
    let rank = op.key.shape.rank();
    let mut order: Vec<i64> = (0..rank as i64).collect();
    order.swap(rank - 2, rank - 1);
    let key = b.name(&op.key);
    let key = b.node("Transpose", &[key], &[("perm", Set::Ints(&order))]);
    let width = op.query.shape[rank - 1] as f64;
    let scale = op
        .options
        .scale
        .unwrap_or(ScalarIr::Float(width.powf(-0.5)));
    let inputs = [b.name(&op.query), key];
    let products = b.node("MatMul", &inputs, &[]);
    let scale = b.scalar(scale, dtype)?;
    let mut scores = b.node("Mul", &[products, scale], &[]);
    if let Some(cap) = op.options.softcap {
        let cap = b.scalar(cap, dtype)?;
        let part = b.node("Div", &[scores, cap.clone()], &[]);
        let bent = b.node("Tanh", &[part], &[]);
        scores = b.node("Mul", &[bent, cap], &[]);
    }
    // The least number instead of an infinity: a row without pairs is no division of zero by zero, and is cleared below.
    let hidden = b.scalar(ScalarIr::Float(f64::from(f32::MIN)), DType::F32)?;
    if let Some(mask) = &op.mask {
        let mask = b.name(mask);
        scores = b.node("Where", &[mask, hidden.clone(), scores], &[]);
    }
    if op.options.is_causal {
        let mask = later(b, op.query.shape[rank - 2], op.key.shape[rank - 2])?;
        scores = b.node("Where", &[mask, hidden, scores], &[]);
    }
    if let Some(bias) = &op.attn_bias {
        let bias = b.name(bias);
        scores = b.node("Add", &[scores, bias], &[]);
    }
    let mut shares = b.node("Softmax", &[scores], &[("axis", Set::Int(-1))]);
    if let Some(mask) = &op.mask {
        let nothing = b.scalar(ScalarIr::Float(0.0), dtype)?;
        let mask = b.name(mask);
        shares = b.node("Where", &[mask, nothing, shares], &[]);
    }
    let value = b.name(&op.value);
    b.made("MatMul", &[shares, value], &[], &op.out);
    Ok(())
}

/// Which keys come later than which queries, `[queries, keys]`.
fn later(b: &mut Builder, queries: usize, keys: usize) -> Result<String, String> {
    let pairs = (0..queries).flat_map(|query| (0..keys).map(move |key| key > query));
    let name = format!("later_{queries}_{keys}");
    if !b
        .constants
        .iter()
        .any(|known| known.name.as_deref() == Some(&name))
    {
        let mask = TensorData::new(pairs.collect::<Vec<bool>>(), [queries, keys]);
        b.constant(name.clone(), mask)?;
    }
    Ok(name)
}

pub(super) fn activation(b: &mut Builder, operation: &ActivationOperationIr) -> Result<(), String> {
    use ActivationOperationIr as Op;
    match operation {
        Op::Relu(op) => {
            let input = b.name(&op.input);
            b.made("Relu", &[input], &[], &op.out);
        }
        Op::Sigmoid(op) => {
            let input = b.name(&op.input);
            b.made("Sigmoid", &[input], &[], &op.out);
        }
        Op::HardSigmoid(op) => {
            let settings = [
                ("alpha", Set::Float(op.alpha.elem())),
                ("beta", Set::Float(op.beta.elem())),
            ];
            let input = b.name(&op.tensor);
            b.made("HardSigmoid", &[input], &settings, &op.out);
        }
        Op::Softmax(op) => {
            let input = b.name(&op.input);
            b.made("Softmax", &[input], &axis(op.axis), &op.out);
        }
        Op::LogSoftmax(op) => {
            let input = b.name(&op.input);
            b.made("LogSoftmax", &[input], &axis(op.axis), &op.out);
        }
        Op::Gelu(op) => gelu(b, &op.input, &op.out)?,
        other => return Err(unknown(other)),
    }
    Ok(())
}

/// `½ x (1 + erf(x / √2))`
fn gelu(b: &mut Builder, input: &TensorIr, out: &TensorIr) -> Result<(), String> {
    let numbers =
        [FRAC_1_SQRT_2, 1.0, 0.5].map(|value| b.scalar(ScalarIr::Float(value), out.dtype));
    let [root, one, half] = numbers;
    let x = b.name(input);
    let part = b.node("Mul", &[x.clone(), root?], &[]);
    let erf = b.node("Erf", &[part], &[]);
    let gate = b.node("Add", &[erf, one?], &[]);
    let gated = b.node("Mul", &[x, gate], &[]);
    b.made("Mul", &[gated, half?], &[], out);
    Ok(())
}
