//! Arithmetic and reductions.

use burn_ir::{NumericOperationIr, PadModeIr, ReduceDimOpIr, ScalarIr, TensorIr};

use super::super::builder::{Builder, Set};
use super::base;
use super::common::{axis, unknown};

pub(super) fn convert(b: &mut Builder, operation: &NumericOperationIr) -> Result<(), String> {
    use NumericOperationIr as Op;
    let (op, left, right, out) = match operation {
        Op::Add(op) => ("Add", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::AddScalar(op) => ("Add", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::Sub(op) => ("Sub", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::SubScalar(op) => ("Sub", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::Mul(op) => ("Mul", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::MulScalar(op) => ("Mul", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::Div(op) => ("Div", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::DivScalar(op) => ("Div", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::Powi(op) => ("Pow", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::PowiScalar(op) => ("Pow", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::Greater(op) => ("Greater", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::GreaterElem(op) => ("Greater", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::GreaterEqual(op) => ("GreaterOrEqual", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::GreaterEqualElem(op) => ("GreaterOrEqual", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::Lower(op) => ("Less", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::LowerElem(op) => ("Less", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::LowerEqual(op) => ("LessOrEqual", &op.lhs, Right::Tensor(&op.rhs), &op.out),
        Op::LowerEqualElem(op) => ("LessOrEqual", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::ClampMin(op) => ("Max", &op.lhs, Right::Number(op.rhs), &op.out),
        Op::ClampMax(op) => ("Min", &op.lhs, Right::Number(op.rhs), &op.out),
        other => return alone(b, other),
    };
    let right = match right {
        Right::Tensor(right) => b.name(right),
        Right::Number(right) => b.scalar(right, left.dtype)?,
    };
    let inputs = [b.name(left), right];
    b.made(op, &inputs, &[], out);
    Ok(())
}

enum Right<'a> {
    Tensor(&'a TensorIr),
    Number(ScalarIr),
}

/// What has one operand.
fn alone(b: &mut Builder, operation: &NumericOperationIr) -> Result<(), String> {
    use NumericOperationIr as Op;
    match operation {
        Op::Abs(op) => one(b, "Abs", &op.input, &op.out),
        Op::Neg(op) => one(b, "Neg", &op.input, &op.out),
        Op::Sign(op) => one(b, "Sign", &op.input, &op.out),
        Op::Full(op) => base::full(b, op.value, &op.out)?,
        Op::Clamp(op) => {
            let [least, most] = [op.min, op.max].map(|limit| b.scalar(limit, op.tensor.dtype));
            let inputs = [b.name(&op.tensor), least?, most?];
            b.made("Clip", &inputs, &[], &op.out);
        }
        Op::SumDim(op) => sum(b, &op.input, &[op.axis as i64], &op.out),
        Op::SumDims(op) => {
            let axes: Vec<i64> = op.axes.iter().map(|axis| *axis as i64).collect();
            sum(b, &op.input, &axes, &op.out);
        }
        Op::MeanDim(op) => reduce(b, "ReduceMean", op),
        Op::MaxDim(op) => reduce(b, "ReduceMax", op),
        Op::MinDim(op) => reduce(b, "ReduceMin", op),
        Op::ProdDim(op) => reduce(b, "ReduceProd", op),
        Op::ArgMax(op) => choose(b, "ArgMax", op),
        Op::ArgMin(op) => choose(b, "ArgMin", op),
        Op::CumSum(op) => {
            let along = b.scalar(ScalarIr::Int(op.axis as i64), burn::tensor::DType::I64)?;
            let inputs = [b.name(&op.input), along];
            b.made("CumSum", &inputs, &[], &op.out);
        }
        Op::Pad(op) => {
            let PadModeIr::Constant(value) = &op.mode else {
                return Err(unknown(&operation));
            };
            let value = b.scalar(*value, op.input.dtype)?;
            let befores = op.padding.iter().map(|(before, _)| *before as i64);
            let afters = op.padding.iter().map(|(_, after)| *after as i64);
            let missing = op.input.shape.rank() - op.padding.len();
            let none = std::iter::repeat_n(0, missing);
            // The padding is of the last axes.
            let pads: Vec<i64> = none
                .clone()
                .chain(befores)
                .chain(none)
                .chain(afters)
                .collect();
            let inputs = [b.name(&op.input), b.ints(&pads), value];
            b.made("Pad", &inputs, &[], &op.out);
        }
        other => return Err(unknown(other)),
    }
    Ok(())
}

fn one(b: &mut Builder, op: &str, input: &TensorIr, out: &TensorIr) {
    let input = b.name(input);
    b.made(op, &[input], &[], out);
}

/// A sum over axes that stay, which are an operand here alone.
fn sum(b: &mut Builder, input: &TensorIr, axes: &[i64], out: &TensorIr) {
    let inputs = [b.name(input), b.ints(axes)];
    b.made("ReduceSum", &inputs, &[("keepdims", Set::Int(1))], out);
}

fn reduce(b: &mut Builder, op: &str, of: &ReduceDimOpIr) {
    let axes = [of.axis as i64];
    let settings = [("axes", Set::Ints(&axes)), ("keepdims", Set::Int(1))];
    let input = b.name(&of.input);
    b.made(op, &[input], &settings, &of.out);
}

/// The place of an extreme value, the first of several.
fn choose(b: &mut Builder, op: &str, of: &ReduceDimOpIr) {
    let [axis] = axis(of.axis);
    let input = b.name(&of.input);
    b.made(op, &[input], &[axis, ("keepdims", Set::Int(1))], &of.out);
}
